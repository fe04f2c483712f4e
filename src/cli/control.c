/* control.c: see control.h; and the commands app and channel. The key command is in key.c, since it
 * also works without a server. */
#include "cli/control.h"
#include "cli/commands.h"
#include "core/suggest.h"
#include <stdlib.h>
#include <string.h>

/* ---- fields ---- */
static bool is_list(const char *name) {
  return strcmp(name, "origins") == 0 || strcmp(name, "publish") == 0 ||
         strcmp(name, "subscribe") == 0;
}

static json_t *list_of(const char *text) {
  json_t *list = json_array();
  while (*text) {
    size_t n = strcspn(text, ",");
    if (n) json_array_append_new(list, json_stringn(text, n));
    text += n + (text[n] == ',');
  }
  return list;
}

static json_t *value_of(const char *name, const char *text) {
  json_error_t at;
  if (!*text) return json_null();
  if (*text == '[' || *text == '{') return json_loads(text, 0, &at);
  return is_list(name) ? list_of(text) : json_string(text);
}

bool lv_cli_field(json_t *obj, const char *text) {
  char name[64];
  const char *eq = strchr(text, '=');
  if (!eq || eq == text) return false;
  for (;;) {
    size_t n = strcspn(text, ".=");
    if (n == 0 || n >= sizeof name) return false;
    memcpy(name, text, n);
    name[n] = 0;
    text += n;
    if (text == eq) break;
    json_t *sub = json_object_get(obj, name);
    if (!json_is_object(sub)) {
      sub = json_object();
      json_object_set_new(obj, name, sub);
    }
    obj = sub;
    text++;
  }
  json_t *value = value_of(name, eq + 1);
  return value && json_object_set_new(obj, name, value) == 0;
}

/* ---- showing ---- */
static void scalar_text(const json_t *v, char *dst, size_t size) {
  if (json_is_string(v))
    snprintf(dst, size, "%s", json_string_value(v));
  else if (json_is_integer(v))
    snprintf(dst, size, "%lld", (long long)json_integer_value(v));
  else if (json_is_boolean(v))
    snprintf(dst, size, "%s", json_is_true(v) ? "yes" : "no");
  else
    snprintf(dst, size, "-");
}

static void value_text(const json_t *v, char *dst, size_t size) {
  size_t at = 0, i;
  json_t *one;
  if (!json_is_array(v)) {
    scalar_text(v, dst, size);
    return;
  }
  snprintf(dst, size, "-");
  json_array_foreach(v, i, one) {
    char text[256];
    scalar_text(one, text, sizeof text);
    int n = snprintf(dst + at, size - at, "%s%s", i ? " " : "", text);
    at += (size_t)n;
    if (at >= size) return;
  }
}

static const json_t *field(const json_t *obj, const char *path) {
  char name[64];
  while (obj && *path) {
    size_t n = strcspn(path, ".");
    snprintf(name, sizeof name, "%.*s", (int)n, path);
    obj = json_object_get(obj, name);
    path += n + (path[n] == '.');
  }
  return obj;
}

static void table(const lv_cli_column *columns, const json_t *items) {
  char text[512];
  size_t width[16] = {0}, n = 0, i;
  json_t *item;
  for (; columns[n].head; n++) width[n] = strlen(columns[n].head);
  json_array_foreach(items, i, item) {
    for (size_t k = 0; k < n; k++) {
      value_text(field(item, columns[k].field), text, sizeof text);
      if (strlen(text) > width[k]) width[k] = strlen(text);
    }
  }
  for (size_t k = 0; k < n; k++)
    printf("%-*s%s", k + 1 < n ? (int)width[k] : 0, columns[k].head, k + 1 < n ? "  " : "\n");
  json_array_foreach(items, i, item) {
    for (size_t k = 0; k < n; k++) {
      value_text(field(item, columns[k].field), text, sizeof text);
      printf("%-*s%s", k + 1 < n ? (int)width[k] : 0, text, k + 1 < n ? "  " : "\n");
    }
  }
}

static void show(const json_t *obj, const char *prefix) {
  const char *name;
  json_t *v;
  json_object_foreach((json_t *)obj, name, v) {
    char path[128], text[1024];
    snprintf(path, sizeof path, "%s%s%s", prefix, *prefix ? "." : "", name);
    if (json_is_object(v)) {
      show(v, path);
      continue;
    }
    value_text(v, text, sizeof text);
    printf("%-36s %s\n", path, text);
  }
}

static void print_json(const json_t *v) {
  json_dumpf(v, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
  putchar('\n');
}

/* ---- verbs ---- */
enum verb { LIST, SHOW, CREATE, SET, DELETE, VERBS };
static const char *const verbs[VERBS] = {"list", "show", "create", "set", "delete"};

static int verb_of(const lv_cli_control *c, const char *word) {
  lv_suggest s;
  lv_suggest_init(&s, word, strlen(word));
  for (int v = 0; v < VERBS; v++) {
    if (strcmp(word, verbs[v]) == 0) return v;
    lv_suggest_offer(&s, verbs[v]);
  }
  if (s.best)
    lv_cli_usage(c->cmd, "%s: did you mean %s?", word, s.best);
  else
    lv_cli_usage(c->cmd, "%s: list, show, create, set or delete", word);
  return -1;
}

static int answer_print(const lv_cli_control *c, enum verb verb, json_t *answer) {
  const char *key = json_string_value(json_object_get(answer, "key"));
  const char *name = json_string_value(json_object_get(answer, c->named));
  if (c->json && answer)
    print_json(answer);
  else if (verb == LIST)
    table(c->columns, answer);
  else if (verb == SHOW || verb == SET)
    show(answer, "");
  else if (key)
    printf("%s\n", key);
  else if (verb == CREATE)
    printf("%s\n", name ? name : "");
  json_decref(answer);
  return LV_EXIT_OK;
}

static int call(lv_cli_control *c, enum verb verb, const char *name, const json_t *body) {
  static const char *const methods[VERBS] = {"GET", "GET", "POST", "PATCH", "DELETE"};
  lv_cli_api api;
  char segment[400], path[1200];
  json_t *answer = NULL;
  int r = lv_cli_api_resolve(c->cmd, c->api, &api);
  if (r) return r;
  bool one = verb == SHOW || verb == SET || verb == DELETE;
  snprintf(path, sizeof path, "%s%s%s", c->path, one ? "/" : "",
           one ? lv_cli_api_segment(name, segment, sizeof segment) : "");
  r = verb == LIST ? lv_cli_api_list(&api, path, &answer)
                   : lv_cli_api_call(&api, methods[verb], path, body, &answer);
  lv_cli_api_done(&api);
  return r ? r : answer_print(c, verb, answer);
}

int lv_cli_control_run(lv_cli_control *c, int n, char **argv, json_t *body) {
  int verb = n ? verb_of(c, argv[1]) : LIST, fields = 3;
  int r = verb < 0 ? LV_EXIT_USAGE : 0;
  const char *name = n >= 2 ? argv[2] : NULL;
  bool key = strcmp(c->named, "id") == 0; /* create: the id may be left out */
  if (!body) body = json_object();
  if (key && verb == CREATE && name && strchr(name, '=')) {
    name = NULL;
    fields = 2;
  }
  if (!r && verb == LIST && n > 1) r = lv_cli_usage(c->cmd, "list takes no name");
  if (!r && verb != LIST && !name && !(key && verb == CREATE))
    r = lv_cli_usage(c->cmd, "%s: which one?", verbs[verb]);
  if (!r && (verb == SHOW || verb == DELETE) && n > 2)
    r = lv_cli_usage(c->cmd, "%s: one at a time", verbs[verb]);
  if (!r && verb == SET && (key || n < 3))
    r = lv_cli_usage(c->cmd, key ? "a key is not changed: make another, then delete this one"
                                 : "set: which FIELD=VALUE?");
  if (!r && verb == CREATE && name) json_object_set_new(body, c->named, json_string(name));
  for (int i = fields; !r && i <= n; i++)
    if (!lv_cli_field(body, argv[i]))
      r = lv_cli_usage(c->cmd, "%s: FIELD=VALUE is expected", argv[i]);
  if (!r) r = call(c, (enum verb)verb, name, verb == CREATE || verb == SET ? body : NULL);
  json_decref(body);
  return r;
}

int lv_cli_control_app(lv_cli_control *c, const char *app, const char *what) {
  lv_cli_env env;
  char path[LV_CLI_ENV_VALUE_MAX], segment[400];
  if (!app && !c->api->data) app = getenv("LAVVA_APP");
  snprintf(path, sizeof path, "%s/dev.env", c->api->data ? c->api->data : "lavva-data");
  bool dev = !app && !c->api->server && lv_cli_env_read(path, &env) == 0;
  if (dev) app = env.v[LV_ENV_APP];
  if (app)
    snprintf(c->path, sizeof c->path, "/apps/%s/%s",
             lv_cli_api_segment(app, segment, sizeof segment), what);
  if (dev) lv_cli_env_done(&env);
  return app ? 0 : lv_cli_usage(c->cmd, "--app APP: of which app?");
}

/* ---- lavva app ---- */
typedef struct app_args {
  lv_cli_api_args api;
  bool json;
} app_args;
static const lv_cli_opt app_opts[] = {
    {"json", 'j', NULL, LV_CLI_FLAG, offsetof(app_args, json), 0, 0, "answer in JSON"},
    LV_CLI_API_OPTS(app_args),
};

static int run_app(const lv_cli_cmd *cmd, int argc, char **argv) {
  static const lv_cli_column columns[] = {{"APP", "name"},
                                          {"ORIGIN", "origin"},
                                          {"CHANNELS", "channel_count"},
                                          {"KEYS", "key_count"},
                                          {"AUTO CHANNELS", "auto_channels"},
                                          {NULL, NULL}};
  app_args a = {0};
  int n, code;
  if (lv_cli_parse(cmd, argc, argv, &a, &n, &code)) return code;
  lv_cli_control c = {.cmd = cmd,
                      .api = &a.api,
                      .json = a.json,
                      .path = "/apps",
                      .named = "name",
                      .columns = columns};
  return lv_cli_control_run(&c, n, argv, NULL);
}

#define FIELDS_ABOUT                                                                               \
  "FIELD=VALUE names a field of the configuration document (docs/config.md), dots go down;\n"      \
  "FIELD= sets it back. Objects of the configuration file are shown and cannot be changed here.\n" \
  "\n"
const lv_cli_cmd lv_cli_app = {
    .name = "app",
    .usage = "list | show APP | create APP [FIELD=VALUE…] | set APP FIELD=VALUE… | delete APP",
    .summary = "Lists, makes, changes and deletes apps of a running server",
    .about = FIELDS_ABOUT LV_CLI_API_ABOUT
    "Exit codes: 0 done, 1 not, 3 the key was refused, 64 wrong arguments.\n",
    .examples = "  lavva app list\n"
                "  lavva app create plant auto_channels=true limits.connections=500\n"
                "  lavva app set plant channel_defaults.retention.age=30d\n"
                "  lavva app delete plant                with its channels and keys\n",
    LV_CLI_OPTS(app_opts),
    .run = run_app};

/* ---- lavva channel ---- */
typedef struct channel_args {
  lv_cli_api_args api;
  const char *app;
  bool json;
} channel_args;
static const lv_cli_opt channel_opts[] = {
    {"app", 'a', "APP", LV_CLI_TEXT, offsetof(channel_args, app), 0, 0,
     "whose; default: LAVVA_APP, else the\ndevelopment instance's"},
    {"json", 'j', NULL, LV_CLI_FLAG, offsetof(channel_args, json), 0, 0, "answer in JSON"},
    LV_CLI_API_OPTS(channel_args),
};

static int run_channel(const lv_cli_cmd *cmd, int argc, char **argv) {
  static const lv_cli_column columns[] = {{"CHANNEL", "name"},
                                          {"ORIGIN", "origin"},
                                          {"DURABILITY", "durability"},
                                          {"CONTENT", "content"},
                                          {"KEPT FOR", "retention.age"},
                                          {"BYTES", "retention.bytes"},
                                          {"MESSAGES", "retention.count"},
                                          {NULL, NULL}};
  channel_args a = {0};
  int n, code;
  if (lv_cli_parse(cmd, argc, argv, &a, &n, &code)) return code;
  lv_cli_control c = {
      .cmd = cmd, .api = &a.api, .json = a.json, .named = "name", .columns = columns};
  int r = lv_cli_control_app(&c, a.app, "channels");
  return r ? r : lv_cli_control_run(&c, n, argv, NULL);
}

const lv_cli_cmd lv_cli_channel = {
    .name = "channel",
    .usage = "list | show CHANNEL | create CHANNEL [FIELD=VALUE…] |\n"
             "                     set CHANNEL FIELD=VALUE… | delete CHANNEL  [--app APP]",
    .summary = "Lists, makes, changes and deletes channels of an app",
    .about = FIELDS_ABOUT
    "A channel that is deleted takes no declaration any more; its messages stay until retention\n"
    "takes them, and as long it is listed as `auto`.\n\n" LV_CLI_API_ABOUT
    "Exit codes: 0 done, 1 not, 3 the key was refused, 64 wrong arguments.\n",
    .examples = "  lavva channel list --app plant\n"
                "  lavva channel create alarms --app plant content=json retention.age=365d\n"
                "  lavva channel set alarms --app plant retention.count=1000 retention.age=\n",
    LV_CLI_OPTS(channel_opts),
    .run = run_channel};
