/* key.c: `lavva key`: keys of a running server over its REST API; `new`, which asks nobody; and
 * `create --admin --data DIR`, which writes an administrator's key into the store itself: the first
 * one has to come from somewhere. */
#include "cli/commands.h"
#include "cli/control.h"
#include "core/conf.h"
#include "core/err.h"
#include "master/store.h"
#include <stdlib.h>
#include <string.h>

typedef struct args {
  lv_cli_api_args api;
  const char *app, *id;
  lv_cli_texts publish, subscribe;
  bool sys, admin, json;
} args;
#define O(name, letter, arg, kind, field, help)                                                    \
  { name, letter, arg, LV_CLI_##kind, offsetof(args, field), 0, 0, help }
static const lv_cli_opt opts[] = {
    O("app", 'a', "APP", TEXT, app, "whose; default: LAVVA_APP, else the\ndevelopment instance's"),
    O("admin", 0, NULL, FLAG, admin, "administrators' keys, which belong to no app"),
    O("id", 0, "ID", TEXT, id, "letters and digits, at most 32 (default: random)"),
    O("publish", 'p', "FILTER", TEXTS, publish,
      "may publish to topics of this filter; may be\nrepeated"),
    O("subscribe", 0, "FILTER", TEXTS, subscribe,
      "may read topics of this filter; may be repeated"),
    O("sys", 0, NULL, FLAG, sys, "may read $SYS"),
    O("json", 'j', NULL, FLAG, json, "answer in JSON"),
    LV_CLI_API_OPTS(args),
};
#undef O

static void hash_text(const char *key, char dst[80]) {
  uint8_t hash[32];
  lv_conf_key_hash(lv_slice_str(key), hash);
  snprintf(dst, 80, "sha256:");
  for (int i = 0; i < 32; i++) snprintf(dst + 7 + 2 * i, 3, "%02x", hash[i]);
}

static void put_filters(const char *name, const lv_cli_texts *v) {
  printf("  %s: [", name);
  for (uint32_t i = 0; i < v->n; i++) printf("%s\"%s\"", i ? ", " : "", v->v[i]);
  printf("]\n");
}

/* `new`: a key, and the lines that the configuration needs for it. */
static int key_new(const lv_cli_cmd *cmd, const args *a) {
  static const lv_cli_texts all = {.v = {"#"}, .n = 1};
  char text[LV_CONF_KEY_MAX], hash[80];
  if (lv_conf_key_make(a->id, text))
    return lv_cli_usage(cmd, "--id %s: 1 to 32 letters and digits", a->id);
  hash_text(text, hash);
  bool rights = a->publish.n || a->subscribe.n || a->sys;
  printf("%s\n\n# for the configuration, under %s:\n", text, a->admin ? "keys" : "apps: keys");
  printf("- id: %.*s\n  hash: %s\n", (int)strcspn(text + 3, "_"), text + 3, hash);
  if (a->admin) return LV_EXIT_OK;
  if (a->publish.n || !rights) put_filters("publish", rights ? &a->publish : &all);
  if (a->subscribe.n || !rights) put_filters("subscribe", rights ? &a->subscribe : &all);
  if (a->sys) printf("  sys: true\n");
  return LV_EXIT_OK;
}

/* ---- the store itself ---- */
typedef struct taken {
  lv_slice id;
  bool yes;
} taken;

static int look(void *arg, enum lv_conf_kind kind, lv_slice app, lv_slice name, lv_slice body) {
  taken *t = arg;
  (void)app;
  (void)body;
  t->yes |= (kind == LV_CONF_KEY || kind == LV_CONF_ADMIN) && lv_slice_eq(name, t->id);
  return 0;
}

/* The development instance's own keys are in its document, not in the store. */
static bool in_dev_env(const char *dir, lv_slice id) {
  static const char *const files[] = {"dev.env", "dev.env.last"};
  bool yes = false;
  for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
    char path[LV_CLI_ENV_VALUE_MAX];
    lv_cli_env env;
    snprintf(path, sizeof path, "%s/%s", dir, files[f]);
    if (lv_cli_env_read(path, &env)) continue;
    const char *keys[] = {env.v[LV_ENV_KEY], env.v[LV_ENV_ADMIN_KEY]};
    for (int i = 0; i < 2; i++) {
      if (!keys[i] || strncmp(keys[i], "lv_", 3) != 0) continue;
      yes |= lv_slice_eq(id, lv_slice_of(keys[i] + 3, strcspn(keys[i] + 3, "_")));
    }
    lv_cli_env_done(&env);
  }
  return yes;
}

static int store_key(const lv_cli_cmd *cmd, const args *a, const char *id) {
  char text[LV_CONF_KEY_MAX], hash[80], body[200], why[LV_STORE_WHY];
  lv_store *store;
  if (lv_conf_key_make(id, text)) return lv_cli_usage(cmd, "%s: 1 to 32 letters and digits", id);
  lv_slice name = lv_slice_of(text + 3, strcspn(text + 3, "_"));
  hash_text(text, hash);
  snprintf(body, sizeof body, "{\"id\":\"%.*s\",\"hash\":\"%s\"}", (int)name.n,
           (const char *)name.p, hash);
  if (lv_store_open(a->api.data, &store, why)) return lv_cli_fail(cmd, "%s", why);
  taken t = {name, in_dev_env(a->api.data, name)};
  int err = lv_store_each(store, look, &t);
  if (!err && t.yes) err = LV_E_EXISTS;
  if (!err)
    err = lv_store_insert(store, LV_CONF_ADMIN, (lv_slice){NULL, 0}, name, lv_slice_str(body));
  int r = 0;
  if (err == LV_E_EXISTS)
    r = lv_cli_fail(cmd, "key %.*s exists already", (int)name.n, (const char *)name.p);
  else if (err)
    r = lv_cli_fail(cmd, "%s/" LV_STORE_FILE ": %s", a->api.data, lv_store_text(store));
  lv_store_close(store);
  if (r) return r;
  if (a->json)
    printf("{\"id\": \"%.*s\", \"origin\": \"store\", \"key\": \"%s\"}\n", (int)name.n,
           (const char *)name.p, text);
  else
    printf("%s\n", text);
  fputs("a server that runs knows it within a second\n", stderr);
  return LV_EXIT_OK;
}

/* ---- over REST ---- */
static json_t *filters(const lv_cli_texts *v) {
  json_t *list = json_array();
  for (uint32_t i = 0; i < v->n; i++) json_array_append_new(list, json_string(v->v[i]));
  return list;
}

static json_t *body_of(const args *a) {
  json_t *body = json_object();
  if (a->id) json_object_set_new(body, "id", json_string(a->id));
  if (a->publish.n) json_object_set_new(body, "publish", filters(&a->publish));
  if (a->subscribe.n) json_object_set_new(body, "subscribe", filters(&a->subscribe));
  if (a->sys) json_object_set_new(body, "sys", json_true());
  return body;
}

static int run(const lv_cli_cmd *cmd, int argc, char **argv) {
  static const lv_cli_column app_columns[] = {{"KEY", "id"},          {"ORIGIN", "origin"},
                                              {"PUBLISH", "publish"}, {"SUBSCRIBE", "subscribe"},
                                              {"$SYS", "sys"},        {NULL, NULL}};
  static const lv_cli_column admin_columns[] = {{"KEY", "id"}, {"ORIGIN", "origin"}, {NULL, NULL}};
  args a = {0};
  int n, code;
  if (lv_cli_parse(cmd, argc, argv, &a, &n, &code)) return code;
  if (n && strcmp(argv[1], "new") == 0)
    return n == 1 ? key_new(cmd, &a) : lv_cli_usage(cmd, "new takes --id and nothing else");
  bool create = n && strcmp(argv[1], "create") == 0;
  if (create && n <= 2 && a.admin && a.api.data && !a.api.server)
    return store_key(cmd, &a, n == 2 ? argv[2] : a.id);
  lv_cli_control c = {.cmd = cmd,
                      .api = &a.api,
                      .json = a.json,
                      .path = "/keys",
                      .named = "id",
                      .columns = a.admin ? admin_columns : app_columns};
  int r = a.admin ? 0 : lv_cli_control_app(&c, a.app, "keys");
  return r ? r : lv_cli_control_run(&c, n, argv, create ? body_of(&a) : NULL);
}

const lv_cli_cmd lv_cli_key = {
    .name = "key",
    .usage = "list | show ID | create [ID] --publish FILTER … | delete ID  [--app APP | --admin]\n"
             "       lavva key new [--id ID]",
    .summary = "Lists, makes and revokes keys of a running server; or makes one for the file",
    .about =
        "`create` prints the whole key, once: the server keeps its hash only. Clients show it as\n"
        "the MQTT password, with the app's name as user. `delete` revokes it, and closes what it\n"
        "opened. `new` asks no server: it makes a key, and the lines that the configuration file\n"
        "needs for it.\n"
        "\n"
        "With --admin it is about administrators' keys, for this API. `create --admin --data DIR`\n"
        "writes one into the data folder itself, whether a server runs there or "
        "not.\n\n" LV_CLI_API_ABOUT
        "Exit codes: 0 done, 1 not, 3 the key was refused, 64 wrong arguments.\n",
    .examples = "  lavva key create --app plant --publish 'telemetry/#'\n"
                "  lavva key create dashboards --app plant --subscribe '#'\n"
                "  lavva key list --app plant\n"
                "  lavva key delete dashboards --app plant\n"
                "  lavva key create --admin --data /var/lib/lavva\n"
                "  lavva key new --id devices                   for the configuration file\n",
    LV_CLI_OPTS(opts),
    .run = run};
