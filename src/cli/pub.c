/* pub.c: `lavva pub`: messages from arguments, files or standard input to MQTT topics.
 *
 *   source (message × count | file | lines) ──▶ pace (--rate) ──▶ window (--inflight) ──▶ client
 *
 * One thread. The next message is taken only when the connection has nothing left to write and, at
 * QoS 1 and 2, fewer than --inflight are unacknowledged, so memory stays bounded whatever the
 * source. With --rate the schedule is fixed from the start: a stall is caught up, not forgotten. */
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/template.h"
#include "core/err.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 16 << 20, READ_SIZE = 64 * 1024, BURST = 64 };

typedef struct args {
  lv_cli_target_args target;
  const char *topic, *message, *file, *key_sep, *tag, *cat, *type, *reply, *correlation;
  lv_cli_texts props;
  const char *will_topic, *will_message;
  uint64_t qos, count, inflight, expiry_s, wait_ms, will_qos, will_delay_s;
  double rate;
  bool lines, whole, null, retain, literal, quiet, verbose, will_retain, retry;
} args;

#define O(name, letter, arg, kind, field, lo, hi, help)                                            \
  { name, letter, arg, LV_CLI_##kind, offsetof(args, field), lo, hi, help }
static const lv_cli_opt opts[] = {
    O("topic", 't', "TOPIC", TEXT, topic, 0, 0, "where to (or the first argument); see templates"),
    O("message", 'm', "TEXT", TEXT, message, 0, 0, "the value (or the second argument)"),
    O("file", 'f', "FILE", TEXT, file, 0, 0, "the value is a whole file"),
    O("stdin", 's', NULL, FLAG, whole, 0, 0, "the value is all of standard input"),
    O("lines", 'l', NULL, FLAG, lines, 0, 0,
      "each line of standard input is a message\n(the default when nothing else is said)"),
    O("null", 'n', NULL, FLAG, null, 0, 0, "an empty value"),
    O("key-sep", 'K', "SEP", TEXT, key_sep, 0, 0,
      "lines are KEY SEP VALUE; {key} is then what stands\nbefore the first SEP"),
    O("count", 'c', "N", U64, count, 1, 0,
      "so many messages (default 1; of lines: all); 0 is\nnot allowed, leave it out with --rate"),
    O("rate", 'r', "N", RATE, rate, 0, 0, "messages a second; without --count: until Ctrl-C"),
    O("literal", 0, NULL, FLAG, literal, 0, 0, "no templates"),
    {NULL, 0, NULL, 0, 0, 0, 0, "delivery"},
    O("qos", 'q', "N", U64, qos, 0, 2, "0 (default), 1 or 2"),
    O("retain", 'R', NULL, FLAG, retain, 0, 0, "the server keeps it for later subscribers"),
    O("inflight", 0, "N", U64, inflight, 1, 65535,
      "unacknowledged at once, at QoS 1 and 2 (default 100)"),
    O("timeout", 'W', "TIME", MS, wait_ms, 0, 0, "give up after this (5s, 500ms): exit code 2"),
    O("retry", 0, NULL, FLAG, retry, 0, 0, "reconnect and go on when the connection is lost"),
    {NULL, 0, NULL, 0, 0, 0, 0, "properties (MQTT 5)"},
    O("tag", 0, "TEXT", TEXT, tag, 0, 0, "user property `tag`"),
    O("cat", 0, "TEXT", TEXT, cat, 0, 0, "user property `cat`, the category"),
    O("property", 'P', "NAME=VALUE", TEXTS, props, 0, 0, "any user property; may be repeated"),
    O("expiry", 'x', "SECONDS", U64, expiry_s, 0, UINT32_MAX, "message expiry"),
    O("content-type", 0, "TYPE", TEXT, type, 0, 0, "such as application/json"),
    O("response-topic", 0, "TOPIC", TEXT, reply, 0, 0, "where an answer goes"),
    O("correlation", 0, "TEXT", TEXT, correlation, 0, 0, "what the answer repeats"),
    {NULL, 0, NULL, 0, 0, 0, 0, "will"},
    O("will-topic", 0, "TOPIC", TEXT, will_topic, 0, 0, "published if this client dies"),
    O("will-message", 0, "TEXT", TEXT, will_message, 0, 0, "its value"),
    O("will-qos", 0, "N", U64, will_qos, 0, 2, "0, 1 or 2"),
    O("will-retain", 0, NULL, FLAG, will_retain, 0, 0, "retained"),
    O("will-delay", 0, "SECONDS", U64, will_delay_s, 0, UINT32_MAX, "how long after (MQTT 5)"),
    {NULL, 0, NULL, 0, 0, 0, 0, "output"},
    O("quiet", 0, NULL, FLAG, quiet, 0, 0, "errors only"),
    O("verbose", 'v', NULL, FLAG, verbose, 0, 0, "how many, and how fast"),
    LV_CLI_TARGET_OPTS(args),
};
#undef O

enum source { SOURCE_MESSAGE, SOURCE_LINES };

typedef struct pub {
  const lv_cli_cmd *cmd;
  args a;
  lv_cli_target target;
  lv_client client;
  enum source source;
  lv_cli_text value; /* of -m (a template), a file or all of stdin */
  bool value_template;
  /* standard input: bytes not yet taken as lines */
  char *in;
  size_t in_n, in_at, in_cap;
  bool in_end;
  lv_slice key, line;                  /* of the current line */
  uint64_t sent, acked, refused, goal; /* goal 0: no end */
  int last_reason;
  uint64_t start_ms;
  lv_cli_text topic, body, name;
  mosquitto_property *props; /* those that do not change */
  bool props_template;
} pub;

/* ---- properties ---- */
static bool pub_name(void *arg, lv_slice name, lv_slice param, lv_cli_text *out) {
  pub *p = arg;
  char text[24];
  if (lv_slice_eq(name, LV_SLICE("i"))) {
    int n = snprintf(text, sizeof text, "%llu", (unsigned long long)p->sent);
    lv_cli_text_put(out, text, (size_t)n);
    return true;
  }
  if (p->source == SOURCE_LINES && lv_slice_eq(name, LV_SLICE("line"))) {
    lv_cli_text_put(out, p->line.p, p->line.n);
    return true;
  }
  if (p->a.key_sep && lv_slice_eq(name, LV_SLICE("key"))) {
    lv_cli_text_put(out, p->key.p, p->key.n);
    return true;
  }
  return lv_cli_template_common(name, param, out);
}

static const char *expand(pub *p, const char *fmt, lv_cli_text *out) {
  if (!p->a.literal) {
    lv_cli_template(fmt, pub_name, p, out);
  } else {
    out->n = 0;
    lv_cli_text_put(out, fmt, strlen(fmt));
  }
  return out->p;
}

static void user_property(pub *p, mosquitto_property **list, const char *name, const char *value) {
  (void)mosquitto_property_add_string_pair(list, MQTT_PROP_USER_PROPERTY, name,
                                           expand(p, value, &p->name));
}

static mosquitto_property *properties(pub *p) {
  mosquitto_property *l = NULL;
  const args *a = &p->a;
  if (p->target.version != 5) return NULL;
  if (a->tag) user_property(p, &l, "tag", a->tag);
  if (a->cat) user_property(p, &l, "cat", a->cat);
  for (uint32_t i = 0; i < a->props.n; i++) {
    const char *eq = strchr(a->props.v[i], '=');
    char name[256];
    snprintf(name, sizeof name, "%.*s", (int)(eq - a->props.v[i]), a->props.v[i]);
    user_property(p, &l, name, eq + 1);
  }
  if (a->expiry_s)
    (void)mosquitto_property_add_int32(&l, MQTT_PROP_MESSAGE_EXPIRY_INTERVAL,
                                       (uint32_t)a->expiry_s);
  if (a->type) (void)mosquitto_property_add_string(&l, MQTT_PROP_CONTENT_TYPE, a->type);
  if (a->reply) (void)mosquitto_property_add_string(&l, MQTT_PROP_RESPONSE_TOPIC, a->reply);
  if (a->correlation)
    (void)mosquitto_property_add_binary(&l, MQTT_PROP_CORRELATION_DATA, a->correlation,
                                        (uint16_t)strlen(a->correlation));
  return l;
}

/* ---- the source ---- */
/* Whole file (or stdin for "-") into the value. */
static int value_read(pub *p, const char *path) {
  bool in = strcmp(path, "-") == 0;
  int fd = in ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
  char buf[READ_SIZE];
  ssize_t n;
  if (fd < 0) return lv_cli_fail(p->cmd, "%s: %s", path, lv_strerror(errno));
  lv_cli_text_put(&p->value, "", 0);
  while ((n = read(fd, buf, sizeof buf)) != 0) {
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) break;
    lv_cli_text_put(&p->value, buf, (size_t)n);
    if (p->value.n > MQTT_MAX_PAYLOAD) break;
  }
  int eno = errno;
  if (!in) close(fd);
  if (n < 0) return lv_cli_fail(p->cmd, "%s: %s", path, lv_strerror(eno));
  if (p->value.n > MQTT_MAX_PAYLOAD) return lv_cli_fail(p->cmd, "%s: larger than 256 MiB", path);
  return 0;
}

/* Reads more of stdin; it is known to be ready. */
static int input_read(pub *p) {
  if (p->in_at) {
    memmove(p->in, p->in + p->in_at, p->in_n - p->in_at);
    p->in_n -= p->in_at;
    p->in_at = 0;
  }
  if (p->in_cap - p->in_n < READ_SIZE) {
    if (p->in_n > LINE_MAX_BYTES) return lv_cli_fail(p->cmd, "a line is longer than 16 MiB");
    p->in_cap = p->in_cap * 2 + READ_SIZE;
    p->in = realloc(p->in, p->in_cap);
    if (!p->in) abort();
  }
  ssize_t n = read(STDIN_FILENO, p->in + p->in_n, READ_SIZE);
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return 0;
  if (n < 0) return lv_cli_fail(p->cmd, "standard input: %s", lv_strerror(errno));
  if (n == 0) p->in_end = true;
  p->in_n += (size_t)n;
  return 0;
}

/* Takes a line that is there. */
static bool line_take(pub *p) {
  if (!p->in) return false;
  char *s = p->in + p->in_at;
  size_t n = p->in_n - p->in_at;
  char *end = n ? memchr(s, '\n', n) : NULL;
  if (!end && !(p->in_end && n)) return false;
  size_t len = end ? (size_t)(end - s) : n;
  p->in_at += len + (end ? 1 : 0);
  if (len && s[len - 1] == '\r') len--;
  p->line = lv_slice_of(s, len);
  p->key = (lv_slice){p->line.p, 0};
  if (!p->a.key_sep) return true;
  char *sep = memmem(s, len, p->a.key_sep, strlen(p->a.key_sep));
  if (!sep) return true;
  size_t skip = (size_t)(sep - s) + strlen(p->a.key_sep);
  p->key = lv_slice_of(s, (size_t)(sep - s));
  p->line = lv_slice_of(s + skip, len - skip);
  return true;
}

static bool source_end(const pub *p) {
  if (p->goal && p->sent >= p->goal) return true;
  return p->source == SOURCE_LINES && p->in_end && p->in_at == p->in_n;
}

/* ---- sending ---- */
static uint64_t due_ms(const pub *p) {
  if (p->a.rate <= 0) return p->start_ms;
  return p->start_ms + (uint64_t)((double)p->sent * 1000.0 / p->a.rate);
}

static bool window_open(const pub *p) {
  if (!lv_client_writable(&p->client)) return false;
  return p->a.qos == 0 || p->sent - p->acked < p->a.inflight;
}

static int send_one(pub *p, lv_slice value) {
  const char *topic = expand(p, p->a.topic, &p->topic);
  mosquitto_property *own = p->props_template ? properties(p) : NULL;
  int r = mosquitto_publish_v5(p->client.mosq, NULL, topic, (int)value.n, value.p, (int)p->a.qos,
                               p->a.retain, p->props_template ? own : p->props);
  mosquitto_property_free_all(&own);
  if (r == MOSQ_ERR_NO_CONN || r == MOSQ_ERR_CONN_LOST) return 0; /* lv_client_step tells */
  if (r) return lv_cli_fail(p->cmd, "topic %s: %s", topic, mosquitto_strerror(r));
  p->sent++;
  return 0;
}

/* Sends what is due and possible now, at most a burst. */
static int pump(pub *p) {
  for (int i = 0; i < BURST && !source_end(p) && window_open(p); i++) {
    if (p->a.rate > 0 && due_ms(p) > lv_cli_now_ms()) return 0;
    lv_slice value = lv_slice_of(p->value.p, p->value.n);
    if (p->source == SOURCE_LINES) {
      if (!line_take(p)) return 0;
      value = p->line;
    } else if (p->value_template) {
      (void)expand(p, p->a.message, &p->body);
      value = lv_slice_of(p->body.p, p->body.n);
    }
    int r = send_one(p, value);
    if (r) return r;
  }
  return 0;
}

static void on_acked(lv_client *c, int mid, int reason) {
  pub *p = c->arg;
  p->acked++;
  if (reason < 0x80) return;
  p->refused++;
  if (reason != p->last_reason) lv_cli_fail(p->cmd, "refused: %s", mosquitto_reason_string(reason));
  p->last_reason = reason;
}

/* What was on its way at QoS 0 when a connection was lost will not be reported any more. */
static void on_connect(lv_client *c, bool session_present) {
  pub *p = c->arg;
  (void)session_present;
  if (p->a.qos == 0) p->acked = p->sent;
}

/* How long to wait for something to happen. */
static int wait_ms(const pub *p) {
  bool has_line =
      p->in_n > p->in_at && (p->in_end || memchr(p->in + p->in_at, '\n', p->in_n - p->in_at));
  if (source_end(p) || !window_open(p)) return 1000;
  if (p->source == SOURCE_LINES && !has_line) return 1000;
  uint64_t now = lv_cli_now_ms(), due = due_ms(p);
  return due > now ? (int)(due - now > 1000 ? 1000 : due - now) : 0;
}

static int loop(pub *p) {
  uint64_t until = p->a.wait_ms ? lv_cli_now_ms() + p->a.wait_ms : 0;
  while (!lv_cli_stopped()) {
    if (source_end(p) && p->acked >= p->sent && p->client.connected) return 0;
    if (until && lv_cli_now_ms() >= until) {
      lv_cli_fail(p->cmd, "timed out: %llu of %llu sent were acknowledged",
                  (unsigned long long)p->acked, (unsigned long long)p->sent);
      return LV_EXIT_TIMEOUT;
    }
    bool want_in = p->source == SOURCE_LINES && !p->in_end && window_open(p) &&
                   !(p->in_n > p->in_at && memchr(p->in + p->in_at, '\n', p->in_n - p->in_at));
    bool ready = false;
    int r = lv_client_step(&p->client, wait_ms(p), want_in ? STDIN_FILENO : -1, &ready);
    if (r == 0 && ready) r = input_read(p);
    if (r == 0) r = pump(p);
    if (r) return r;
  }
  return 0;
}

/* ---- set-up ---- */
static int arguments(pub *p, int n, char **argv) {
  args *a = &p->a;
  if (!a->topic && n) {
    a->topic = *++argv;
    n--;
  }
  if (!a->message && n) {
    a->message = *++argv;
    n--;
  }
  if (n) return lv_cli_usage(p->cmd, "too many arguments: %s", argv[1]);
  if (!a->topic) return lv_cli_usage(p->cmd, "which TOPIC?");
  if (strpbrk(a->topic, "+#") || !a->topic[0])
    return lv_cli_usage(p->cmd, "%s is not a topic: + and # are for reading", a->topic);
  int sources = !!a->message + !!a->file + a->whole + a->null + a->lines;
  if (sources > 1)
    return lv_cli_usage(p->cmd, "one of --message, --file, --stdin, --lines, --null");
  if (a->key_sep && !a->key_sep[0]) return lv_cli_usage(p->cmd, "--key-sep may not be empty");
  for (uint32_t i = 0; i < a->props.n; i++) {
    const char *eq = strchr(a->props.v[i], '=');
    if (!eq || eq == a->props.v[i] || eq - a->props.v[i] > 255)
      return lv_cli_usage(p->cmd, "--property %s: NAME=VALUE expected", a->props.v[i]);
  }
  if (a->target.version != 5 && (a->tag || a->cat || a->props.n || a->expiry_s || a->type ||
                                 a->reply || a->correlation || a->will_delay_s))
    return lv_cli_usage(p->cmd,
                        "properties and --will-delay are of MQTT 5: leave them out, or "
                        "--mqtt-version %u",
                        (unsigned)a->target.version);
  p->source = a->lines || sources == 0 ? SOURCE_LINES : SOURCE_MESSAGE;
  if (p->source == SOURCE_MESSAGE)
    p->goal = a->count ? a->count : a->rate > 0 ? 0 : 1;
  else
    p->goal = a->count;
  p->value_template = a->message && !a->literal && strchr(a->message, '{');
  return 0;
}

static int will_set(pub *p) {
  const args *a = &p->a;
  mosquitto_property *l = NULL;
  if (!a->will_topic) {
    return a->will_message || a->will_qos || a->will_retain || a->will_delay_s
               ? lv_cli_usage(p->cmd, "a will needs --will-topic")
               : 0;
  }
  if (a->will_delay_s && p->target.version == 5)
    (void)mosquitto_property_add_int32(&l, MQTT_PROP_WILL_DELAY_INTERVAL,
                                       (uint32_t)a->will_delay_s);
  const char *m = a->will_message ? a->will_message : "";
  int r = mosquitto_will_set_v5(p->client.mosq, a->will_topic, (int)strlen(m), m, (int)a->will_qos,
                                a->will_retain, l);
  return r ? lv_cli_usage(p->cmd, "--will-topic %s: %s", a->will_topic, mosquitto_strerror(r)) : 0;
}

static bool has_template(const args *a) {
  bool yes = (a->tag && strchr(a->tag, '{')) || (a->cat && strchr(a->cat, '{'));
  for (uint32_t i = 0; i < a->props.n; i++) yes |= strchr(a->props.v[i], '{') != NULL;
  return yes && !a->literal;
}

static int publish(pub *p) {
  lv_client *c = &p->client;
  int r = lv_client_init(c, p->cmd, &p->target, true);
  c->arg = p;
  c->on_acked = on_acked;
  c->on_connect = on_connect;
  c->retry = p->a.retry;
  mosquitto_int_option(c->mosq, MOSQ_OPT_SEND_MAXIMUM, (int)p->a.inflight);
  if (r == 0) r = will_set(p);
  p->props_template = has_template(&p->a);
  if (!p->props_template) p->props = properties(p);
  lv_cli_signals();
  if (r == 0) r = lv_client_connect(c);
  p->start_ms = lv_cli_now_ms();
  if (r == 0) r = loop(p);
  double s = (double)(lv_cli_now_ms() - p->start_ms) / 1000;
  lv_client_done(c);
  if (p->a.verbose)
    fprintf(stderr, "%llu sent, %llu acknowledged, %llu refused in %.3f s (%.0f/s)\n",
            (unsigned long long)p->sent, (unsigned long long)(p->acked - p->refused),
            (unsigned long long)p->refused, s, s > 0 ? (double)p->sent / s : 0.0);
  return r ? r : p->refused ? LV_EXIT_REFUSED : LV_EXIT_OK;
}

static int run(const lv_cli_cmd *cmd, int argc, char **argv) {
  pub p = {.cmd = cmd, .a = {.target = LV_CLI_TARGET_DEFAULTS, .inflight = 100}};
  int n, r;
  if (lv_cli_parse(cmd, argc, argv, &p.a, &n, &r)) return r;
  r = arguments(&p, n, argv);
  if (r == 0 && p.a.message && !p.value_template)
    lv_cli_text_put(&p.value, p.a.message, strlen(p.a.message));
  if (r == 0 && (p.a.file || p.a.whole)) r = value_read(&p, p.a.file ? p.a.file : "-");
  if (r == 0) r = lv_cli_target_resolve(cmd, &p.a.target, &p.target);
  if (r == 0) {
    r = publish(&p);
    lv_cli_target_done(&p.target);
  }
  mosquitto_property_free_all(&p.props);
  lv_cli_text_done(&p.value);
  lv_cli_text_done(&p.topic);
  lv_cli_text_done(&p.body);
  lv_cli_text_done(&p.name);
  free(p.in);
  return r;
}

const lv_cli_cmd lv_cli_pub = {
    .name = "pub",
    .usage = "[OPTIONS] TOPIC [MESSAGE]",
    .summary = "Publishes messages: arguments, files, or standard input line by line",
    .about = LV_CLI_TARGET_ABOUT
    "\n"
    "Templates in topic, message and properties: {i} number of the message from 0, {time}\n"
    "milliseconds, {iso} time as text, {rand} or {rand:N} a random number below N, {host},\n"
    "{pid}; with lines also {line} and, with --key-sep, {key}. Other braces stay: JSON works.\n"
    "\n"
    "Exit codes: 0 all sent (at QoS 1 and 2: acknowledged), 1 failed, 2 timed out, 3 refused by\n"
    "the server, 64 wrong arguments.\n",
    .examples =
        "  lavva pub demo/door open                 one message to the development instance\n"
        "  lavva pub -q 1 -R demo/limit 42          acknowledged and retained\n"
        "  lavva pub -t demo/t{i} -m '{\"v\":{rand:100}}' -r 10    ten a second until Ctrl-C\n"
        "  tail -F app.log | lavva pub demo/log     each line a message\n"
        "  lavva pub -K : demo/{key} < readings     lines `sensor1:20.5` to demo/sensor1\n"
        "  lavva pub demo/photo -f cam.jpg --content-type image/jpeg\n"
        "  lavva pub -u mqtts://broker.example -a plant -k $KEY telemetry/x 1\n",
    LV_CLI_OPTS(opts),
    .run = run};
