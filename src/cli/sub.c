/* sub.c: `lavva sub`: messages of topics, one after the other, in a form to read or to pipe. Output
 * is buffered while messages keep coming and flushed before each wait. One thread. */
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/msgjson.h"
#include "cli/since.h"
#include "core/err.h"
#include "core/time.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct args {
  lv_cli_target_args target;
  lv_cli_texts topics, not_topics;
  const char *format, *since, *will_topic, *will_message;
  uint64_t qos, count, wait_ms, expiry_s;
  bool verbose, json, raw, hex, no_retained, retained_only, quiet, keep, no_local;
} args;

#define O(name, letter, arg, kind, field, lo, hi, help)                                            \
  { name, letter, arg, LV_CLI_##kind, offsetof(args, field), lo, hi, help }
static const lv_cli_opt opts[] = {
    O("topic", 't', "FILTER", TEXTS, topics, 0, 0,
      "what to read (or the arguments); may be repeated\n(default #)"),
    O("not", 'T', "FILTER", TEXTS, not_topics, 0, 0, "but not this; may be repeated"),
    O("count", 'C', "N", U64, count, 1, 0, "end after so many messages"),
    O("timeout", 'W', "TIME", MS, wait_ms, 0, 0,
      "end after this long (5s, 500ms): exit code 2 when\n--count was not reached, else 0"),
    O("since", 0, "WHERE", TEXT, since, 0, 0,
      "channels (CHANNEL or CHANNEL/FILTER) from there on, over the hub's\nWebSocket: a position, "
      "an RFC 3339 time or `start`"),
    O("no-retained", 'R', NULL, FLAG, no_retained, 0, 0, "leave out retained messages"),
    O("retained-only", 0, NULL, FLAG, retained_only, 0, 0,
      "show retained messages and end before the first live\none (with -W when there are none)"),
    {NULL, 0, NULL, 0, 0, 0, 0,
     "output (default: values; with a filter for several topics, topics too)"},
    O("verbose", 'v', NULL, FLAG, verbose, 0, 0, "topic and value"),
    O("json", 'j', NULL, FLAG, json, 0, 0, "one JSON object a line with everything known"),
    O("format", 'F', "TEXT", TEXT, format, 0, 0, "a template; see below"),
    O("raw", 0, NULL, FLAG, raw, 0, 0, "values as they are, without line ends"),
    O("hex", 'x', NULL, FLAG, hex, 0, 0, "values in hexadecimal"),
    O("quiet", 0, NULL, FLAG, quiet, 0, 0, "no messages about the connection"),
    {NULL, 0, NULL, 0, 0, 0, 0, "session"},
    O("qos", 'q', "N", U64, qos, 0, 2, "0 (default), 1 or 2"),
    O("keep-session", 'c', NULL, FLAG, keep, 0, 0, "go on where this client id (--id) left off"),
    O("session-expiry", 0, "SECONDS", U64, expiry_s, 0, UINT32_MAX,
      "how long the server keeps it (default: forever)"),
    O("no-local", 0, NULL, FLAG, no_local, 0, 0, "not what this client id publishes (MQTT 5)"),
    O("will-topic", 0, "TOPIC", TEXT, will_topic, 0, 0, "published if this client dies"),
    O("will-message", 0, "TEXT", TEXT, will_message, 0, 0, "its value"),
    LV_CLI_TARGET_OPTS(args),
};
#undef O

typedef struct sub {
  const lv_cli_cmd *cmd;
  args a;
  lv_cli_target target;
  lv_client client;
  uint64_t seen;
  bool done, with_topic;
  int exit;
  lv_cli_text line, format;
  const struct mosquitto_message *msg; /* being shown */
  const mosquitto_property *props;
} sub;

/* ---- one message ---- */
static lv_slice value_of(const sub *s) {
  return lv_slice_of(s->msg->payload, (size_t)s->msg->payloadlen);
}

/* Value of the first user property of that name; the caller frees. */
static char *user_find(const mosquitto_property *props, lv_slice want) {
  char *name = NULL, *value = NULL;
  bool skip = false;
  for (;;) {
    props =
        mosquitto_property_read_string_pair(props, MQTT_PROP_USER_PROPERTY, &name, &value, skip);
    if (!props) return NULL;
    bool hit = lv_slice_eq(want, lv_slice_str(name));
    free(name);
    if (hit) return value;
    free(value);
    skip = true;
  }
}

static bool put_property(const sub *s, lv_slice name, lv_slice param, lv_cli_text *out) {
  char *value = NULL;
  if (lv_slice_eq(name, LV_SLICE("prop")))
    value = user_find(s->props, param);
  else if (lv_slice_eq(name, LV_SLICE("tag")) || lv_slice_eq(name, LV_SLICE("cat")))
    value = user_find(s->props, name);
  else if (lv_slice_eq(name, LV_SLICE("type")))
    (void)mosquitto_property_read_string(s->props, MQTT_PROP_CONTENT_TYPE, &value, false);
  else if (lv_slice_eq(name, LV_SLICE("reply")))
    (void)mosquitto_property_read_string(s->props, MQTT_PROP_RESPONSE_TOPIC, &value, false);
  else
    return false;
  if (value) lv_cli_text_put(out, value, strlen(value));
  free(value);
  return true;
}

static void put_hex(lv_slice v, lv_cli_text *out) {
  static const char digits[] = "0123456789abcdef";
  for (uint32_t i = 0; i < v.n; i++)
    lv_cli_text_put(out, (char[2]){digits[v.p[i] >> 4], digits[v.p[i] & 15]}, 2);
}

static bool sub_name(void *arg, lv_slice name, lv_slice param, lv_cli_text *out) {
  sub *s = arg;
  char text[32];
  const char *topic = s->msg->topic, *slash = strchr(topic, '/');
#define IS(word) lv_slice_eq(name, LV_SLICE(word))
  if (IS("topic"))
    lv_cli_text_put(out, topic, strlen(topic));
  else if (IS("channel"))
    lv_cli_text_put(out, topic, strcspn(topic, "/"));
  else if (IS("key"))
    lv_cli_text_put(out, slash ? slash + 1 : "", slash ? strlen(slash + 1) : 0);
  else if (IS("value"))
    lv_cli_text_put(out, value_of(s).p, value_of(s).n);
  else if (IS("hex"))
    put_hex(value_of(s), out);
  else if (IS("b64"))
    lv_cli_base64(value_of(s), out);
  else if (IS("qos") || IS("retain") || IS("len") || IS("n")) {
    unsigned long long v = IS("qos")      ? (unsigned long long)s->msg->qos
                           : IS("retain") ? s->msg->retain
                           : IS("len")    ? (unsigned long long)s->msg->payloadlen
                                          : (unsigned long long)s->seen;
    lv_cli_text_put(out, text, (size_t)snprintf(text, sizeof text, "%llu", v));
  } else if (!put_property(s, name, param, out)) {
    return lv_cli_template_common(name, param, out);
  }
#undef IS
  return true;
}

static void json_properties(const sub *s, json_t *obj) {
  static const struct {
    int id;
    const char *name;
  } texts[] = {{MQTT_PROP_CONTENT_TYPE, "type"}, {MQTT_PROP_RESPONSE_TOPIC, "reply"}};
  char *name = NULL, *value = NULL;
  json_t *user = json_object();
  const mosquitto_property *at = s->props;
  bool skip = false;
  while ((
      at = mosquitto_property_read_string_pair(at, MQTT_PROP_USER_PROPERTY, &name, &value, skip))) {
    bool top = strcmp(name, "tag") == 0 || strcmp(name, "cat") == 0;
    lv_cli_json_text(top ? obj : user, name, lv_slice_str(value));
    free(name);
    free(value);
    skip = true;
  }
  if (json_object_size(user))
    json_object_set_new(obj, "props", user);
  else
    json_decref(user);
  for (size_t i = 0; i < 2; i++) {
    value = NULL;
    if (!mosquitto_property_read_string(s->props, texts[i].id, &value, false)) continue;
    lv_cli_json_text(obj, texts[i].name, lv_slice_str(value));
    free(value);
  }
  uint32_t expiry;
  if (mosquitto_property_read_int32(s->props, MQTT_PROP_MESSAGE_EXPIRY_INTERVAL, &expiry, false))
    json_object_set_new(obj, "expiry", json_integer(expiry));
  void *data = NULL;
  uint16_t n = 0;
  if (mosquitto_property_read_binary(s->props, MQTT_PROP_CORRELATION_DATA, &data, &n, false)) {
    lv_cli_text b64 = {0};
    lv_cli_base64(lv_slice_of(data, n), &b64);
    json_object_set_new(obj, "correlation", json_stringn(b64.p ? b64.p : "", b64.n));
    lv_cli_text_done(&b64);
    free(data);
  }
}

static void show_json(sub *s) {
  json_t *obj = json_object();
  lv_cli_json_text(obj, "topic", lv_slice_str(s->msg->topic));
  json_object_set_new(obj, "qos", json_integer(s->msg->qos));
  if (s->msg->retain) json_object_set_new(obj, "retain", json_true());
  json_object_set_new(obj, "at", json_integer(lv_wall_now().ns / 1000000));
  json_properties(s, obj);
  lv_cli_json_line(obj, value_of(s), stdout);
  json_decref(obj);
}

static void show(sub *s) {
  lv_slice v = value_of(s);
  if (s->a.json) {
    show_json(s);
    return;
  }
  if (s->a.format) {
    lv_cli_template(s->format.p, sub_name, s, &s->line);
    fwrite(s->line.p, 1, s->line.n, stdout);
    return;
  }
  if (s->with_topic && !s->a.raw) {
    fputs(s->msg->topic, stdout);
    fputc(' ', stdout);
  }
  if (s->a.hex) {
    s->line.n = 0;
    put_hex(v, &s->line);
    fwrite(s->line.p ? s->line.p : "", 1, s->line.n, stdout);
  } else if (v.n) {
    fwrite(v.p, 1, v.n, stdout);
  }
  if (!s->a.raw) fputc('\n', stdout);
}

static bool left_out(const sub *s) {
  if (s->a.no_retained && s->msg->retain) return true;
  for (uint32_t i = 0; i < s->a.not_topics.n; i++) {
    bool hit = false;
    if (mosquitto_topic_matches_sub(s->a.not_topics.v[i], s->msg->topic, &hit) == 0 && hit)
      return true;
  }
  return false;
}

static void on_message(lv_client *c, const struct mosquitto_message *msg,
                       const mosquitto_property *props) {
  sub *s = c->arg;
  s->msg = msg;
  s->props = props;
  if (s->done || left_out(s)) return;
  if (s->a.retained_only && !msg->retain) {
    s->done = true;
    return;
  }
  show(s);
  s->seen++;
  if (s->a.count && s->seen >= s->a.count) s->done = true;
}

/* ---- the subscription ---- */
static void on_connect(lv_client *c, bool session_present) {
  sub *s = c->arg;
  int options = s->a.no_local ? MQTT_SUB_OPT_NO_LOCAL : 0;
  if (s->a.no_retained) options |= MQTT_SUB_OPT_SEND_RETAIN_NEVER;
  for (uint32_t i = 0; i < s->a.topics.n; i++) {
    int r = mosquitto_subscribe_v5(c->mosq, NULL, s->a.topics.v[i], (int)s->a.qos,
                                   s->target.version == 5 ? options : 0, NULL);
    if (r == 0) continue;
    s->exit = lv_cli_usage(s->cmd, "%s: %s", s->a.topics.v[i], mosquitto_strerror(r));
    s->done = true;
  }
}

static void on_subscribed(lv_client *c, int mid, int n, const int *granted) {
  sub *s = c->arg;
  for (int i = 0; i < n; i++) {
    if (granted[i] < 0x80) continue;
    lv_cli_fail(s->cmd, "subscription refused: %s",
                s->target.version == 5 ? mosquitto_reason_string(granted[i]) : "not authorized");
    s->exit = LV_EXIT_REFUSED;
    s->done = true;
  }
}

static int loop(sub *s) {
  uint64_t until = s->a.wait_ms ? lv_cli_now_ms() + s->a.wait_ms : 0;
  while (!lv_cli_stopped() && !s->done) {
    uint64_t now = lv_cli_now_ms();
    if (until && now >= until) return s->a.count ? LV_EXIT_TIMEOUT : LV_EXIT_OK;
    int wait = until && until - now < 1000 ? (int)(until - now) : 1000;
    int r = lv_client_step(&s->client, wait, -1, NULL);
    if (r) return r;
    if (fflush(stdout) || ferror(stdout)) return LV_EXIT_OK; /* nobody reads any more */
  }
  return s->exit;
}

static int subscribe(sub *s) {
  lv_client *c = &s->client;
  int r = lv_client_init(c, s->cmd, &s->target, !s->a.keep);
  c->arg = s;
  c->on_connect = on_connect;
  c->on_message = on_message;
  c->on_subscribed = on_subscribed;
  c->retry = true;
  c->quiet = s->a.quiet;
  if (r == 0 && s->a.keep && s->target.version == 5)
    (void)mosquitto_property_add_int32(&c->connect_props, MQTT_PROP_SESSION_EXPIRY_INTERVAL,
                                       s->a.expiry_s ? (uint32_t)s->a.expiry_s : UINT32_MAX);
  if (r == 0 && s->a.will_topic) {
    const char *m = s->a.will_message ? s->a.will_message : "";
    r = mosquitto_will_set(c->mosq, s->a.will_topic, (int)strlen(m), m, 0, false);
    if (r) r = lv_cli_usage(s->cmd, "--will-topic %s: %s", s->a.will_topic, mosquitto_strerror(r));
  }
  lv_cli_signals();
  if (r == 0) r = lv_client_connect(c);
  if (r == 0) r = loop(s);
  lv_client_done(c);
  return r;
}

/* \n, \t, \\ and \0 in a format. */
static void unescape(const char *fmt, lv_cli_text *out) {
  for (const char *p = fmt; *p; p++) {
    char c = *p;
    if (c == '\\' && p[1]) {
      p++;
      c = *p == 'n' ? '\n' : *p == 't' ? '\t' : *p;
    }
    lv_cli_text_put(out, &c, 1);
  }
  lv_cli_text_put(out, "\n", 1);
}

static bool many_topics(const args *a) {
  if (a->topics.n > 1) return true;
  return strpbrk(a->topics.v[0], "+#") != NULL;
}

static int arguments(sub *s, int n, char **argv) {
  args *a = &s->a;
  for (int i = 1; i <= n; i++) {
    if (a->topics.n == LV_CLI_TEXTS_MAX)
      return lv_cli_usage(s->cmd, "at most %d filters", LV_CLI_TEXTS_MAX);
    a->topics.v[a->topics.n++] = argv[i];
  }
  if (a->topics.n == 0) a->topics.v[a->topics.n++] = "#";
  if (a->verbose + a->json + a->raw + a->hex + !!a->format > 1 &&
      !(a->verbose && a->hex && !a->json && !a->raw && !a->format))
    return lv_cli_usage(s->cmd, "one of --verbose, --json, --format, --raw, --hex");
  if (a->keep && !a->target.id) return lv_cli_usage(s->cmd, "--keep-session needs --id");
  if (a->no_retained && a->retained_only)
    return lv_cli_usage(s->cmd, "--no-retained or --retained-only");
  if (a->no_local && a->target.version != 5)
    return lv_cli_usage(s->cmd, "--no-local is of MQTT 5: leave it out, or --mqtt-version %u",
                        (unsigned)a->target.version);
  for (uint32_t i = 0; i < a->topics.n; i++)
    if (mosquitto_sub_topic_check(a->topics.v[i]))
      return lv_cli_usage(s->cmd, "%s is not a topic filter", a->topics.v[i]);
  s->with_topic = a->verbose || many_topics(a);
  if (a->format) unescape(a->format, &s->format);
  return 0;
}

/* The same channels, another way: what is only MQTT's has no place there. */
static int since(const lv_cli_cmd *cmd, args *a, int n, char **argv) {
  lv_since_args w = {.since = a->since,
                     .channels = a->topics,
                     .format = a->format,
                     .json = a->json,
                     .raw = a->raw,
                     .hex = a->hex,
                     .quiet = a->quiet,
                     .count = a->count,
                     .wait_ms = a->wait_ms};
  for (int i = 1; i <= n && w.channels.n < LV_CLI_TEXTS_MAX; i++)
    w.channels.v[w.channels.n++] = argv[i];
  if (!w.channels.n) return lv_cli_usage(cmd, "--since needs a CHANNEL");
  if (a->not_topics.n || a->no_retained || a->retained_only || a->qos || a->keep || a->expiry_s ||
      a->no_local || a->will_topic || a->will_message)
    return lv_cli_usage(cmd, "--since goes with --count, --timeout, the output's options and the "
                             "server's");
  if (a->json + a->raw + a->hex + !!a->format > 1)
    return lv_cli_usage(cmd, "one of --json, --format, --raw, --hex");
  return lv_cli_since(cmd, &a->target, &w);
}

static int run(const lv_cli_cmd *cmd, int argc, char **argv) {
  sub s = {.cmd = cmd, .a = {.target = LV_CLI_TARGET_DEFAULTS}};
  int n, r;
  if (lv_cli_parse(cmd, argc, argv, &s.a, &n, &r)) return r;
  if (s.a.since) return since(cmd, &s.a, n, argv);
  r = arguments(&s, n, argv);
  if (r == 0) r = lv_cli_target_resolve(cmd, &s.a.target, &s.target);
  if (r == 0) {
    r = subscribe(&s);
    lv_cli_target_done(&s.target);
  }
  lv_cli_text_done(&s.line);
  lv_cli_text_done(&s.format);
  return r;
}

const lv_cli_cmd lv_cli_sub = {
    .name = "sub",
    .usage = "[OPTIONS] [FILTER …]",
    .summary = "Shows the messages of topics as they arrive",
    .about = LV_CLI_TARGET_ABOUT
    "\n"
    "--format names: {topic} {channel} {key} {value} {hex} {b64} {qos} {retain} {len} {n} {tag}\n"
    "{cat} {type} {reply} {prop:NAME} {time} {iso}; \\n and \\t work, a line end is added.\n"
    "--json: `val` is the value (JSON or text), `b64` stands for one that is neither.\n"
    "With --since a line is POSITION TOPIC VALUE, and {pos} {pid} {tms} are names, too; --url is\n"
    "http(s)://HOST:PORT. What is gone is told on stderr. Text and JSON strings look the same.\n"
    "A lost connection is made again, and with --since goes on where it broke. Exit codes: 0, 1 "
    "failed, 2 timed out before --count,\n"
    "3 refused by the server, 64 wrong arguments.\n",
    .examples =
        "  lavva sub                                everything on the development instance\n"
        "  lavva sub 'demo/cpu/+' -C 10             ten messages, then end\n"
        "  lavva sub -j demo/# | jq .val            for tools\n"
        "  lavva sub -F '{iso} {key}={value}' demo/#\n"
        "  lavva sub --since start demo             all that is kept, then what comes\n"
        "  lavva sub --since 2026-01-01T00:00:00Z demo/cpu/#\n"
        "  lavva sub '$SYS/#' -W 5s                 what the server says about itself\n"
        "  lavva sub -q 1 -c -i logger demo/# >>log offline messages are kept meanwhile\n"
        "  lavva sub '$share/workers/jobs/#'        one of several that share the work\n",
    LV_CLI_OPTS(opts),
    .run = run};
