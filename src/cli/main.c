/* main.c: finds the subcommand and runs it. */
#include "cli/commands.h"
#include "cli/man.h"
#include "core/suggest.h"
#include <string.h>
#include <sys/resource.h>

const lv_cli_cmd *const lv_cli_commands[] = {
    &lv_cli_serve,   &lv_cli_pub,    &lv_cli_sub,       &lv_cli_demo,    &lv_cli_top,
    &lv_cli_log,     &lv_cli_backup, &lv_cli_restore,   &lv_cli_check,   &lv_cli_app,
    &lv_cli_channel, &lv_cli_key,    &lv_cli_usage_cmd, &lv_cli_version, &lv_cli_help_cmd};
const uint32_t lv_cli_n_commands = sizeof lv_cli_commands / sizeof *lv_cli_commands;

static void overview(FILE *out) {
  fputs("lavva: live data from any device to any customer, with proof.\n\nusage: lavva COMMAND "
        "[OPTIONS]\n\ncommands\n",
        out);
  for (uint32_t i = 0; i < lv_cli_n_commands; i++)
    fprintf(out, "  %-9s %s\n", lv_cli_commands[i]->name, lv_cli_commands[i]->summary);
  fputs("\n`lavva help COMMAND` (or COMMAND --help) shows options and examples.\n", out);
}

/* The command of that name; NULL after a message. */
static const lv_cli_cmd *find(const char *name) {
  lv_suggest s;
  lv_suggest_init(&s, name, strlen(name));
  for (uint32_t i = 0; i < lv_cli_n_commands; i++) {
    if (strcmp(lv_cli_commands[i]->name, name) == 0) return lv_cli_commands[i];
    lv_suggest_offer(&s, lv_cli_commands[i]->name);
  }
  fprintf(stderr, "lavva: unknown command %s", name);
  if (s.best)
    fprintf(stderr, "; did you mean %s?\n", s.best);
  else
    fputs("\n`lavva help` lists the commands.\n", stderr);
  return NULL;
}

static int run_version(const lv_cli_cmd *cmd, int argc, char **argv) {
  int n, code;
  if (lv_cli_parse(cmd, argc, argv, NULL, &n, &code)) return code;
  if (n) return lv_cli_usage(cmd, "takes no arguments");
  puts("lavva " LV_VERSION);
  return LV_EXIT_OK;
}
const lv_cli_cmd lv_cli_version = {
    .name = "version", .usage = "", .summary = "Prints the version", .run = run_version};

typedef struct help_args {
  bool man;
  const char *completion;
} help_args;
static const lv_cli_opt help_opts[] = {
    {"man", 0, NULL, LV_CLI_FLAG, offsetof(help_args, man), 0, 0, "print the manual page lavva(1)"},
    {"completion", 0, "SHELL", LV_CLI_TEXT, offsetof(help_args, completion), 0, 0,
     "print what bash or zsh needs to complete commands"},
};

static int run_help(const lv_cli_cmd *cmd, int argc, char **argv) {
  help_args a = {0};
  int n, code;
  if (lv_cli_parse(cmd, argc, argv, &a, &n, &code)) return code;
  bool bash = a.completion && strcmp(a.completion, "bash") == 0;
  if (a.completion && !bash && strcmp(a.completion, "zsh") != 0)
    return lv_cli_usage(cmd, "--completion %s: bash or zsh", a.completion);
  if (a.man || a.completion) {
    a.man ? lv_man_commands(stdout) : bash ? lv_man_bash(stdout) : lv_man_zsh(stdout);
    return fflush(stdout) ? LV_EXIT_FAIL : LV_EXIT_OK;
  }
  if (n > 1) return lv_cli_usage(cmd, "one command at a time");
  if (n == 0) {
    overview(stdout);
    return LV_EXIT_OK;
  }
  const lv_cli_cmd *other = find(argv[1]);
  if (!other) return LV_EXIT_USAGE;
  lv_cli_help(other, stdout);
  return LV_EXIT_OK;
}
const lv_cli_cmd lv_cli_help_cmd = {.name = "help",
                                    .usage = "[COMMAND]",
                                    .summary = "Shows the commands, or one command's options and "
                                               "examples",
                                    LV_CLI_OPTS(help_opts),
                                    .run = run_help};

/* As many descriptors as we may have: connections are limited by the document, and a log of many
 * segments is read with all of them open. */
static void raise_nofile(void) {
  struct rlimit rl;
  if (getrlimit(RLIMIT_NOFILE, &rl) || rl.rlim_cur == rl.rlim_max) return;
  rl.rlim_cur = rl.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &rl);
}

int main(int argc, char **argv) {
  raise_nofile();
  if (argc < 2) {
    overview(stderr);
    return LV_EXIT_USAGE;
  }
  const char *name = argv[1];
  if (argv[0] && argv[0][0]) lv_cli_program = argv[0];
  if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) name = "help";
  if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) name = "version";
  const lv_cli_cmd *cmd = find(name);
  if (!cmd) return LV_EXIT_USAGE;
  return cmd->run(cmd, argc - 1, argv + 1);
}
