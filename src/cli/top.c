/* top.c: `lavva top`: what a server does right now: rates, latency, drops, clients from /metrics,
 * and a few live values over MQTT. On a terminal a table that is drawn again each interval,
 * elsewhere a line each interval. Either source may be missing; the view says so and goes on.
 *
 * One thread. Values are counted as they arrive and drawn at most once an interval, so a fast
 * subscription costs no terminal. The table keeps the first TOPICS topics. */
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/scrape.h"
#include "cli/template.h"
#include "core/err.h"
#include <assert.h>
#include <langinfo.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { TOPICS = 48, PLOT = 24, VALUE = 96, SCRAPE_MS = 1000 };

typedef struct args {
  lv_cli_target_args target;
  lv_cli_texts topics;
  const char *http;
  uint64_t interval_ms, count, rows;
  bool plain;
} args;

#define O(name, letter, arg, kind, field, lo, hi, help)                                            \
  { name, letter, arg, LV_CLI_##kind, offsetof(args, field), lo, hi, help }
static const lv_cli_opt opts[] = {
    O("topic", 't', "FILTER", TEXTS, topics, 0, 0,
      "values to show (default: the channel of the\ndevelopment instance); may be repeated"),
    O("http", 0, "HOST:PORT", TEXT, http, 0, 0, "where /metrics is (default LAVVA_HTTP, or :8080)"),
    O("interval", 'n', "TIME", MS, interval_ms, 100, 0, "between two looks (default 1s; 2s plain)"),
    O("count", 'C', "N", U64, count, 1, 0, "end after so many looks"),
    O("rows", 0, "N", U64, rows, 0, TOPICS, "values shown at most (default: what fits)"),
    O("plain", 0, NULL, FLAG, plain, 0, 0, "lines, also on a terminal"),
    LV_CLI_TARGET_OPTS(args),
};
#undef O

typedef struct series {
  double v[PLOT];
  uint32_t n, at;
} series;

typedef struct row {
  char topic[128], value[VALUE];
  uint64_t seen, before;
  double rate, number;
  bool has_number;
  series plot;
} row;

typedef struct top {
  const lv_cli_cmd *cmd;
  args a;
  lv_cli_target target;
  lv_client client;
  char http[300];
  bool tty, utf8;
  row rows[TOPICS];
  uint32_t n_rows;
  uint64_t more_topics, values, looks;
  lv_scrape now, before;
  bool scraped, scraped_before, scraped_once;
  int scrape_err;
  double elapsed_s;
  uint64_t look_ms;
  series in, out;
  uint32_t drawn; /* lines of the last frame */
  lv_cli_text frame;
} top;

/* ---- numbers for people ---- */
static const char *count_text(double v, char *dst, size_t size) {
  if (v >= 1e7)
    snprintf(dst, size, "%.1f M", v / 1e6);
  else if (v >= 1e4)
    snprintf(dst, size, "%.1f k", v / 1e3);
  else if (v >= 100 || v == floor(v))
    snprintf(dst, size, "%.0f", v);
  else
    snprintf(dst, size, "%.1f", v);
  return dst;
}

static const char *bytes_text(double v, char *dst, size_t size) {
  static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
  int i = 0;
  for (; v >= 1000 && i < 4; i++) v /= 1000;
  snprintf(dst, size, i && v < 100 ? "%.1f %s" : "%.0f %s", v, units[i]);
  return dst;
}

static const char *time_text(double s, char *dst, size_t size) {
  if (s <= 0)
    snprintf(dst, size, "-");
  else if (s < 1e-3)
    snprintf(dst, size, "%.0f us", s * 1e6);
  else if (s < 1)
    snprintf(dst, size, s < 0.1 ? "%.1f ms" : "%.0f ms", s * 1e3);
  else
    snprintf(dst, size, "%.1f s", s);
  return dst;
}

/* ---- plots ---- */
static void series_add(series *s, double v) {
  s->v[s->at] = v;
  s->at = (s->at + 1) % PLOT;
  if (s->n < PLOT) s->n++;
}

/* Scaled from its own least to its own most; flat series lie low. */
static void series_draw(const top *t, const series *s, lv_cli_text *out) {
  static const char *const blocks[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  static const char ascii[] = "._-~=+*#";
  double lo = INFINITY, hi = -INFINITY;
  for (uint32_t i = 0; i < s->n; i++) {
    lo = fmin(lo, s->v[i]);
    hi = fmax(hi, s->v[i]);
  }
  for (uint32_t i = 0; i < s->n; i++) {
    double v = s->v[(s->at + PLOT - s->n + i) % PLOT];
    int level = hi > lo ? (int)((v - lo) / (hi - lo) * 7.999) : 0;
    if (t->utf8)
      lv_cli_text_put(out, blocks[level], strlen(blocks[level]));
    else
      lv_cli_text_put(out, &ascii[level], 1);
  }
}

/* ---- values ---- */
/* The first number in a value: of {"used":12.3} 12.3, not the 1 of {"load1":…}. */
static bool first_number(const char *s, double *ret) {
  for (bool quoted = false; *s; s++) {
    if (*s == '"') quoted = !quoted;
    if (quoted || !strchr("-0123456789", *s)) continue;
    char *end;
    double v = strtod(s, &end);
    if (end == s || !isfinite(v)) continue;
    *ret = v;
    return true;
  }
  return false;
}

static row *row_of(top *t, const char *topic) {
  for (uint32_t i = 0; i < t->n_rows; i++)
    if (strncmp(t->rows[i].topic, topic, sizeof t->rows[i].topic - 1) == 0) return &t->rows[i];
  if (t->n_rows == TOPICS) {
    t->more_topics++;
    return NULL;
  }
  row *r = &t->rows[t->n_rows++];
  snprintf(r->topic, sizeof r->topic, "%s", topic);
  for (char *p = r->topic; *p; p++)
    if ((unsigned char)*p < 0x20 || *p == 0x7f) *p = '?';
  return r;
}

static void on_message(lv_client *c, const struct mosquitto_message *msg,
                       const mosquitto_property *props) {
  top *t = c->arg;
  (void)props;
  t->values++;
  row *r = row_of(t, msg->topic);
  if (!r) return;
  r->seen++;
  size_t n = msg->payloadlen > 0 ? (size_t)msg->payloadlen : 0;
  if (n >= VALUE) n = VALUE - 1;
  if (n) memcpy(r->value, msg->payload, n);
  r->value[n] = 0;
  for (size_t i = 0; i < n; i++) /* what would move the cursor, or is not text */
    if ((unsigned char)r->value[i] < 0x20 || (unsigned char)r->value[i] >= 0x7f) r->value[i] = '?';
  r->has_number = first_number(r->value, &r->number);
}

static void on_connect(lv_client *c, bool session_present) {
  top *t = c->arg;
  (void)session_present;
  for (uint32_t i = 0; i < t->a.topics.n; i++)
    mosquitto_subscribe(c->mosq, NULL, t->a.topics.v[i], 0);
}

/* ---- a look ---- */
static double rate(const top *t, enum lv_scrape_sum i) {
  if (!t->scraped || !t->scraped_before || t->elapsed_s <= 0) return 0;
  double d = t->now.v[i] - t->before.v[i];
  return d > 0 ? d / t->elapsed_s : 0; /* below 0: the server started anew */
}

static void look(top *t) {
  uint64_t now = lv_cli_now_ms();
  t->before = t->now;
  t->scraped_before = t->scraped;
  t->scrape_err = lv_scrape_get(t->http, SCRAPE_MS, &t->now);
  t->scraped = t->scrape_err == 0;
  t->scraped_once |= t->scraped;
  t->elapsed_s = (double)(now - t->look_ms) / 1000;
  t->look_ms = now;
  t->looks++;
  series_add(&t->in, rate(t, LV_S_GW_IN));
  series_add(&t->out, rate(t, LV_S_HUB_OUT));
  for (uint32_t i = 0; i < t->n_rows; i++) {
    row *r = &t->rows[i];
    r->rate = t->elapsed_s > 0 ? (double)(r->seen - r->before) / t->elapsed_s : 0;
    r->before = r->seen;
    if (r->has_number) series_add(&r->plot, r->number);
  }
}

/* ---- drawing ---- */
static void put(top *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put(top *t, const char *fmt, ...) {
  char buf[512];
  va_list ap;
  va_start(ap, fmt);
  int n = vsnprintf(buf, sizeof buf, fmt, ap);
  va_end(ap);
  lv_cli_text_put(&t->frame, buf, n < (int)sizeof buf ? (size_t)n : sizeof buf - 1);
}

static void put_end(top *t) {
  put(t, t->tty && !t->a.plain ? "\033[K\n" : "\n");
  t->drawn++;
}

static void put_flow(top *t, const char *name, enum lv_scrape_sum count, enum lv_scrape_sum bytes,
                     const series *plot) {
  char a[32], b[32], c[32];
  put(t, "  %-9s %9s msg/s  %9s/s  %9s in all  ", name, count_text(rate(t, count), a, sizeof a),
      bytes_text(rate(t, bytes), b, sizeof b), count_text(t->now.v[count], c, sizeof c));
  series_draw(t, plot, &t->frame);
  put_end(t);
}

static void put_drops(top *t) {
  char a[32], b[32];
  put(t, "  %-9s %9s /s     %9s in all", "drops", count_text(rate(t, LV_S_DROPS), a, sizeof a),
      count_text(t->now.v[LV_S_DROPS], b, sizeof b));
  for (uint32_t i = 0; i < t->now.n_drops && i < 3; i++)
    put(t, "%s %s %s", i ? "," : ":", t->now.drops[i].label,
        count_text(t->now.drops[i].n, a, sizeof a));
  put(t, "  rejected %s  pending %s", count_text(t->now.v[LV_S_GW_REJECTED], a, sizeof a),
      count_text(t->now.v[LV_S_PENDING], b, sizeof b));
  put_end(t);
}

static void put_protocols(top *t) {
  char a[32];
  put(t, "  %-9s", "open");
  for (uint32_t i = 0; i < t->now.n_protos; i++)
    put(t, "%s %s %s", i ? "," : "", t->now.protos[i].name,
        count_text(t->now.protos[i].n, a, sizeof a));
  put_end(t);
}

/* One app's numbers are those above; more than one get a line each. */
static void put_apps(top *t) {
  char a[32], b[32], c[32], d[32], e[32], f[32];
  if (t->now.n_apps < 2) return;
  put(t, "  %-16s %9s %9s %9s %9s %9s %8s", "app", "in/s", "out/s", "drops/s", "pending", "most",
      "clients");
  put_end(t);
  for (uint32_t i = 0; i < t->now.n_apps; i++) {
    const lv_scrape_app *x = &t->now.apps[i];
    lv_scrape_app was = *x; /* new: no rates yet */
    for (uint32_t k = 0; k < t->before.n_apps && t->scraped_before; k++)
      if (strcmp(t->before.apps[k].name, x->name) == 0) was = t->before.apps[k];
    double s = t->elapsed_s > 0 ? t->elapsed_s : 1;
    put(t, "  %-16.16s %9s %9s %9s %9s %9s %8s", x->name,
        count_text(fmax(0, (x->in - was.in) / s), a, sizeof a),
        count_text(fmax(0, (x->out - was.out) / s), b, sizeof b),
        count_text(fmax(0, (x->drops - was.drops) / s), c, sizeof c),
        count_text(x->pending, d, sizeof d), count_text(x->lag_max, e, sizeof e),
        count_text(x->clients, f, sizeof f));
    put_end(t);
  }
  if (!t->now.more_apps) return;
  put(t, "  … and more apps");
  put_end(t);
}

static void put_server(top *t) {
  char a[32], b[32], c[32];
  if (!t->scraped) {
    put(t, "  http://%s/metrics: %s", t->http, lv_scrape_error(t->scrape_err));
    put_end(t);
    return;
  }
  put_flow(t, "in", LV_S_GW_IN, LV_S_GW_IN_BYTES, &t->in);
  put_flow(t, "out", LV_S_HUB_OUT, LV_S_HUB_OUT_BYTES, &t->out);
  put(t, "  %-9s p50 %s   p99 %s   max %s   (over 60 s)", "latency",
      time_text(t->now.p50_s, a, sizeof a), time_text(t->now.p99_s, b, sizeof b),
      time_text(t->now.v[LV_S_LATENCY_MAX], c, sizeof c));
  put_end(t);
  put_drops(t);
  put(t, "  %-9s %.0f connections   %.0f sessions   %.0f subscriptions   syncs %s/s", "clients",
      t->now.v[LV_S_CONNS], t->now.v[LV_S_SESSIONS], t->now.v[LV_S_SUBS],
      count_text(rate(t, LV_S_BR_SYNCS), a, sizeof a));
  put(t, "   cpu %.0f %%   memory %s", 100 * rate(t, LV_S_CPU),
      bytes_text(t->now.v[LV_S_RSS], b, sizeof b));
  put_end(t);
  put_protocols(t);
  put_apps(t);
}

static void put_values(top *t, uint32_t rows, int columns) {
  int width = columns - 32 - 9 - PLOT - 6;
  if (!t->client.connected) {
    put(t, "  mqtt://%s:%u: not connected", t->target.host, t->target.port);
    put_end(t);
  }
  for (uint32_t i = 0; i < t->n_rows && i < rows; i++) {
    const row *r = &t->rows[i];
    char a[32];
    put(t, "  %-30.30s %6s/s  ", r->topic, count_text(r->rate, a, sizeof a));
    if (width > 8) put(t, "%-*.*s  ", width, width, r->value);
    series_draw(t, &r->plot, &t->frame);
    put_end(t);
  }
  uint32_t hidden = t->n_rows > rows ? t->n_rows - rows : 0;
  if (!hidden && !t->more_topics) return;
  put(t, "  … and %u topics more%s", hidden, t->more_topics ? ", at least" : "");
  put_end(t);
}

static void draw_table(top *t) {
  struct winsize ws = {0};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) || ws.ws_row == 0) ws.ws_row = 24;
  int columns = ws.ws_col ? ws.ws_col : 100;
  uint32_t above = 12 + (t->now.n_apps > 1 ? t->now.n_apps + 1 + t->now.more_apps : 0);
  uint32_t fit = ws.ws_row > above ? ws.ws_row - above : 0;
  t->frame.n = 0;
  if (t->drawn) put(t, "\033[%uA\r", t->drawn);
  t->drawn = 0;
  put(t, "lavva  mqtt %s:%u  http %s  (Ctrl-C ends)", t->target.host, t->target.port, t->http);
  put_end(t);
  put_server(t);
  put_end(t);
  put_values(t, t->a.rows && t->a.rows < fit ? (uint32_t)t->a.rows : fit, columns);
  put(t, "\033[J");
  fwrite(t->frame.p, 1, t->frame.n, stdout);
}

static void draw_line(top *t) {
  char a[32], b[32], c[32], d[32], e[32];
  t->frame.n = 0;
  if (t->scraped) {
    put(t, "in %s/s  out %s/s  p50 %s  p99 %s  drops %s  connections %.0f",
        count_text(rate(t, LV_S_GW_IN), a, sizeof a),
        count_text(rate(t, LV_S_HUB_OUT), b, sizeof b), time_text(t->now.p50_s, c, sizeof c),
        time_text(t->now.p99_s, d, sizeof d), count_text(t->now.v[LV_S_DROPS], e, sizeof e),
        t->now.v[LV_S_CONNS]);
  } else {
    put(t, "http://%s/metrics: %s", t->http, lv_scrape_error(t->scrape_err));
  }
  uint32_t shown = t->a.rows ? (uint32_t)t->a.rows : 4;
  for (uint32_t i = 0; i < t->n_rows && i < shown; i++)
    put(t, "%s%s %.40s", i ? "  " : "  | ", t->rows[i].topic, t->rows[i].value);
  if (!t->client.connected)
    put(t, "  | mqtt://%s:%u: not connected", t->target.host, t->target.port);
  put(t, "\n");
  fwrite(t->frame.p, 1, t->frame.n, stdout);
}

/* ---- running ---- */
static int loop(top *t) {
  uint64_t next = lv_cli_now_ms() + t->a.interval_ms;
  t->look_ms = lv_cli_now_ms();
  t->scrape_err = lv_scrape_get(t->http, SCRAPE_MS, &t->now); /* where rates start from */
  t->scraped = t->scraped_once = t->scrape_err == 0;
  while (!lv_cli_stopped()) {
    uint64_t now = lv_cli_now_ms();
    int r = lv_client_step(&t->client, now < next ? (int)(next - now) : 0, -1, NULL);
    if (r) return r;
    if (lv_cli_now_ms() < next) continue;
    next = lv_cli_now_ms() + t->a.interval_ms;
    look(t);
    if (t->tty)
      draw_table(t);
    else
      draw_line(t);
    if (fflush(stdout) || (t->a.count && t->looks >= t->a.count)) return 0;
  }
  return 0;
}

static int arguments(top *t, int n, char **argv) {
  for (int i = 1; i <= n && t->a.topics.n < LV_CLI_TEXTS_MAX; i++)
    t->a.topics.v[t->a.topics.n++] = argv[i];
  for (uint32_t i = 0; i < t->a.topics.n; i++)
    if (mosquitto_sub_topic_check(t->a.topics.v[i]))
      return lv_cli_usage(t->cmd, "%s is not a topic filter", t->a.topics.v[i]);
  t->tty = isatty(STDOUT_FILENO) && !t->a.plain;
  setlocale(LC_CTYPE, "");
  t->utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
  if (!t->a.interval_ms) t->a.interval_ms = t->tty ? 1000 : 2000;
  return 0;
}

static int run(const lv_cli_cmd *cmd, int argc, char **argv) {
  static top t; /* rows and plots of some size */
  static char filter[160];
  t = (top){.cmd = cmd, .a = {.target = LV_CLI_TARGET_DEFAULTS}};
  int n, r;
  if (lv_cli_parse(cmd, argc, argv, &t.a, &n, &r)) return r;
  r = arguments(&t, n, argv);
  if (r == 0) r = lv_cli_target_resolve(cmd, &t.a.target, &t.target);
  if (r) return r;
  const char *channel = t.target.env.v[LV_ENV_CHANNEL], *http = t.target.env.v[LV_ENV_HTTP];
  snprintf(filter, sizeof filter, "%s/#", channel ? channel : "demo");
  if (t.a.topics.n == 0) t.a.topics.v[t.a.topics.n++] = filter;
  if (t.a.http || (http && !t.a.target.url))
    snprintf(t.http, sizeof t.http, "%s", t.a.http ? t.a.http : http);
  else
    snprintf(t.http, sizeof t.http, strchr(t.target.host, ':') ? "[%s]:8080" : "%s:8080",
             t.target.host);
  r = lv_client_init(&t.client, cmd, &t.target, true);
  t.client.arg = &t;
  t.client.on_message = on_message;
  t.client.on_connect = on_connect;
  t.client.retry = t.client.patient = t.client.quiet = true;
  lv_cli_signals();
  if (r == 0) r = lv_client_connect(&t.client);
  if (r == 0) r = loop(&t);
  if (r == 0 && !t.scraped_once)
    r = lv_cli_fail(cmd,
                    "http://%s/metrics: %s; is a server running there, and is that its HTTP "
                    "listener? (--http HOST:PORT)",
                    t.http, lv_scrape_error(t.scrape_err));
  lv_client_done(&t.client);
  lv_cli_target_done(&t.target);
  lv_cli_text_done(&t.frame);
  return r;
}

const lv_cli_cmd lv_cli_top = {
    .name = "top",
    .usage = "[OPTIONS] [FILTER …]",
    .summary = "Shows what a server does right now: rates, latency, drops, live values",
    .about = LV_CLI_TARGET_ABOUT
    "\n"
    "On a terminal a table that is drawn again each second, elsewhere a line every two. Numbers\n"
    "come from http://…/metrics, values from an MQTT subscription.\n",
    .examples = "  lavva top                        the development instance\n"
                "  lavva top 'demo/cpu/+' -n 500ms\n"
                "  lavva top --plain -C 1           one line, for scripts\n",
    LV_CLI_OPTS(opts),
    .run = run};
