/* key.c: `lavva key new`: makes a key and the lines that the configuration needs for it. */
#include "cli/cli.h"
#include "cli/commands.h"
#include "core/conf.h"
#include <string.h>

typedef struct args {
  const char *id;
} args;
static const lv_cli_opt opts[] = {
    {"id", 0, "ID", LV_CLI_TEXT, offsetof(args, id), 0, 0,
     "letters and digits, at most 32 (default: random)"},
};

static int run(const lv_cli_cmd *cmd, int argc, char **argv) {
  args a = {0};
  int n, code;
  char text[LV_CONF_KEY_MAX];
  uint8_t hash[32];
  if (lv_cli_parse(cmd, argc, argv, &a, &n, &code)) return code;
  if (n != 1 || strcmp(argv[1], "new") != 0) return lv_cli_usage(cmd, "say `new`");
  if (lv_conf_key_make(a.id, text))
    return lv_cli_usage(cmd, "--id %s: 1 to 32 letters and digits", a.id);
  lv_conf_key_hash(lv_slice_str(text), hash);
  const char *id = text + 3;
  printf("%s\n\n# for the configuration, under apps: keys:\n", text);
  printf("- id: %.*s\n  hash: sha256:", (int)strcspn(id, "_"), id);
  for (int i = 0; i < 32; i++) printf("%02x", hash[i]);
  printf("\n  publish: [\"#\"]\n  subscribe: [\"#\"]\n");
  return LV_EXIT_OK;
}

const lv_cli_cmd lv_cli_key = {
    .name = "key",
    .usage = "new [--id ID]",
    .summary = "Makes a key, and the lines that the configuration needs for it",
    .about =
        "The key is shown once; the configuration keeps its hash only. Clients show it as the\n"
        "MQTT password, with the app's name as user.\n",
    .examples = "  lavva key new --id devices\n",
    LV_CLI_OPTS(opts),
    .run = run};
