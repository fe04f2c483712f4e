/* since.c: `lavva sub --since`: a customer of the hub on the command line.
 *
 *   connect ─▶ /ws?channels=…&since=… ─▶ message: shown, its position kept ─▶ …
 *      ▲                                                                     │ the connection ends
 *      └──────────── since= the last position shown of each channel ◀────────┘
 *
 * So nothing is lost or shown twice, whatever becomes of the server, as far as its channels keep
 * it; what is gone is told on stderr. Output is flushed before each wait. One thread. */
#include "cli/since.h"
#include "cli/client.h"
#include "cli/msgjson.h"
#include "cli/wsclient.h"
#include "core/err.h"
#include "wire/hubmsg.h"
#include "wire/mqtt.h"
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum { RETRY_MIN_MS = 100, RETRY_MAX_MS = 5000, TARGET_MAX = 7000 };

typedef struct place {
  char name[68];
  char pos[LV_HUB_POS_MAX + 1]; /* the last one shown; empty: none yet */
  bool binary, gone;            /* gone: the server took it from us */
} place;

typedef struct message {
  lv_slice chn, key, tag, cat, pid, pos, val; /* val: its bytes */
  lv_slice json;                              /* the value as it came */
  int64_t tms;
} message;

typedef struct since {
  const lv_cli_cmd *cmd;
  const lv_since_args *a;
  lv_cli_target target;
  lv_wsc_to to;
  char address[300], path[TARGET_MAX];
  place at[LV_CLI_TEXTS_MAX];
  uint32_t n;
  lv_slice keys; /* empty: all */
  uint64_t seen;
  bool connected, done;
  int exit;
  uint8_t *scratch; /* what a message's strings are decoded into */
  size_t cap;
  lv_cli_text line, format;
  const message *m; /* being shown */
} since;

/* ---- one message ---- */

static void put_hex(lv_slice v, lv_cli_text *out) {
  static const char digits[] = "0123456789abcdef";
  for (uint32_t i = 0; i < v.n; i++)
    lv_cli_text_put(out, (char[2]){digits[v.p[i] >> 4], digits[v.p[i] & 15]}, 2);
}

static void put_topic(const message *m, lv_cli_text *out) {
  bool other = lv_slice_eq(m->chn, LV_SLICE("_"));
  if (!other) lv_cli_text_put(out, m->chn.p, m->chn.n);
  if (!other && m->key.n) lv_cli_text_put(out, "/", 1);
  if (m->key.n) lv_cli_text_put(out, m->key.p, m->key.n);
}

static bool name_of(void *arg, lv_slice name, lv_slice param, lv_cli_text *out) {
  since *s = arg;
  const message *m = s->m;
  char text[32] = "";
  const struct {
    const char *name;
    lv_slice v;
  } texts[] = {{"channel", m->chn}, {"key", m->key}, {"tag", m->tag},  {"cat", m->cat},
               {"pid", m->pid},     {"pos", m->pos}, {"value", m->val}};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    if (!lv_slice_eq(name, lv_slice_str(texts[i].name))) continue;
    if (texts[i].v.n) lv_cli_text_put(out, texts[i].v.p, texts[i].v.n);
    return true;
  }
  if (lv_slice_eq(name, LV_SLICE("topic")))
    put_topic(m, out);
  else if (lv_slice_eq(name, LV_SLICE("hex")))
    put_hex(m->val, out);
  else if (lv_slice_eq(name, LV_SLICE("b64")))
    lv_cli_base64(m->val, out);
  else if (lv_slice_eq(name, LV_SLICE("len")))
    snprintf(text, sizeof text, "%u", m->val.n);
  else if (lv_slice_eq(name, LV_SLICE("n")))
    snprintf(text, sizeof text, "%llu", (unsigned long long)s->seen);
  else if (lv_slice_eq(name, LV_SLICE("tms")))
    snprintf(text, sizeof text, "%lld", (long long)m->tms);
  else
    return lv_cli_template_common(name, param, out);
  lv_cli_text_put(out, text, strlen(text));
  return true;
}

static void show_json(since *s, const message *m, bool binary) {
  json_t *obj = json_object();
  s->line.n = 0;
  put_topic(m, &s->line);
  lv_cli_json_text(obj, "topic", lv_slice_of(s->line.p, s->line.n));
  lv_cli_json_text(obj, "pos", m->pos);
  json_object_set_new(obj, "at", json_integer(m->tms));
  if (m->pid.n) lv_cli_json_text(obj, "pid", m->pid);
  if (m->tag.n) lv_cli_json_text(obj, "tag", m->tag);
  if (m->cat.n) lv_cli_json_text(obj, "cat", m->cat);
  lv_cli_json_line(obj, binary ? m->val : m->json, stdout);
  json_decref(obj);
}

static void show(since *s, const message *m, bool binary) {
  const lv_since_args *a = s->a;
  s->m = m;
  if (a->json) {
    show_json(s, m, binary);
    return;
  }
  s->line.n = 0;
  if (s->format.n) {
    lv_cli_template(s->format.p, name_of, s, &s->line);
  } else if (!a->raw) {
    lv_cli_text_put(&s->line, m->pos.p, m->pos.n);
    lv_cli_text_put(&s->line, " ", 1);
    put_topic(m, &s->line);
    lv_cli_text_put(&s->line, " ", 1);
  }
  if (!s->format.n && a->hex) put_hex(m->val, &s->line);
  if (!s->format.n && !a->hex && m->val.n) lv_cli_text_put(&s->line, m->val.p, m->val.n);
  if (!s->format.n && !a->raw) lv_cli_text_put(&s->line, "\n", 1);
  fwrite(s->line.p, 1, s->line.n, stdout);
}

/* ---- what the hub says ---- */

static place *place_of(since *s, lv_slice chn) {
  for (uint32_t i = 0; i < s->n; i++)
    if (lv_slice_eq(chn, lv_slice_str(s->at[i].name))) return &s->at[i];
  return NULL;
}

/* A string member's characters, into scratch; others: empty. */
static lv_slice text_of(const lv_json_tok *t, uint8_t **at) {
  lv_slice s = {*at, 0};
  if (t->type != LV_JSON_STRING || lv_json_unescape(t, *at, &s)) return (lv_slice){*at, 0};
  *at += t->s.n;
  return s;
}

static void on_data(since *s, message *m, const lv_json_tok *val, uint8_t **at) {
  place *p = place_of(s, m->chn);
  bool string = val->type == LV_JSON_STRING;
  if (!p || !m->pos.n || m->pos.n > LV_HUB_POS_MAX) return;
  m->json = string ? (lv_slice){val->s.p - 1, val->s.n + 2} : val->s;
  m->val = string ? text_of(val, at) : val->s;
  bool binary = p->binary && string;
  if (binary && lv_base64_decode(m->val, *at, &m->val)) binary = false;
  show(s, m, binary);
  memcpy(p->pos, m->pos.p, m->pos.n);
  p->pos[m->pos.n] = 0;
  s->seen++;
  if (s->a->count && s->seen >= s->a->count) s->done = true;
}

static void on_gap(since *s, const message *m, lv_slice val, uint8_t **at) {
  static const lv_slice names[] = {LV_SLICE("from"), LV_SLICE("to"), LV_SLICE("reason")};
  lv_json_tok v[3];
  if (lv_json_pick_from(val, names, 3, v)) return;
  lv_slice from = text_of(&v[0], at), to = text_of(&v[1], at), reason = text_of(&v[2], at);
  fflush(stdout);
  fprintf(stderr, "lavva sub: gap in %.*s: %.*s to %.*s (%.*s)\n", (int)m->chn.n,
          (const char *)m->chn.p, (int)from.n, (const char *)from.p, (int)to.n, (const char *)to.p,
          (int)reason.n, (const char *)reason.p);
}

static void on_event(since *s, const message *m, double typ, lv_slice val, uint8_t **at) {
  static const lv_slice names[] = {LV_SLICE("channel_encoding"), LV_SLICE("error")};
  lv_json_tok v[2];
  place *p = place_of(s, m->chn);
  if (!p || lv_json_pick_from(val, names, 2, v)) return;
  if (typ == LV_HUB_CLIENT_CONNECTED)
    p->binary = lv_slice_eq(text_of(&v[0], at), LV_SLICE("binary"));
  if (typ != LV_HUB_CLIENT_UNSUBSCRIBED) return;
  lv_slice why = text_of(&v[1], at);
  (void)lv_cli_fail(s->cmd, "%s: %.*s", p->name, (int)why.n, (const char *)why.p);
  p->gone = true;
  s->done = true;
  for (uint32_t i = 0; i < s->n; i++) s->done &= s->at[i].gone;
  s->exit = LV_EXIT_REFUSED;
}

static void on_message(since *s, lv_slice text) {
  enum { TYP, CHN, KEY, TAG, CAT, PID, POS, TMS, VAL, N };
  static const lv_slice names[N] = {LV_SLICE("typ"), LV_SLICE("chn"), LV_SLICE("key"),
                                    LV_SLICE("tag"), LV_SLICE("cat"), LV_SLICE("pid"),
                                    LV_SLICE("pos"), LV_SLICE("tms"), LV_SLICE("val")};
  lv_json_tok v[N];
  uint64_t tms = 0;
  bool negative;
  if (lv_json_pick_from(text, names, N, v) || v[TYP].type != LV_JSON_NUMBER) return;
  if (s->cap < 2 * (size_t)text.n) {
    free(s->scratch);
    s->cap = 2 * (size_t)text.n;
    s->scratch = malloc(s->cap);
    if (!s->scratch) abort();
  }
  uint8_t *at = s->scratch;
  message m = {.chn = text_of(&v[CHN], &at),
               .key = text_of(&v[KEY], &at),
               .tag = text_of(&v[TAG], &at),
               .cat = text_of(&v[CAT], &at),
               .pid = text_of(&v[PID], &at),
               .pos = text_of(&v[POS], &at)};
  if (v[TMS].type == LV_JSON_NUMBER && lv_json_integer(&v[TMS], &tms, &negative))
    m.tms = (int64_t)tms;
  double typ = lv_json_double(&v[TYP]);
  if (typ == LV_HUB_DATA)
    on_data(s, &m, &v[VAL], &at);
  else if (typ == LV_HUB_GAP)
    on_gap(s, &m, v[VAL].s, &at);
  else
    on_event(s, &m, typ, v[VAL].s, &at);
}

/* ---- the connection ---- */

static void put_encoded(lv_cli_text *out, lv_slice s) {
  static const char hex[] = "0123456789ABCDEF";
  for (uint32_t i = 0; i < s.n; i++) {
    uint8_t c = s.p[i];
    bool plain = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') ||
                 memchr("-._~:/", c, 6) != NULL;
    char enc[3] = {'%', hex[c >> 4], hex[c & 15]};
    lv_cli_text_put(out, plain ? (const char *)&c : enc, plain ? 1 : 3);
  }
}

/* What to ask for now: from behind what was shown. */
static void target_make(since *s) {
  lv_cli_text t = {0};
  static const char path[] = "/ws?format=text&encoding=json&snapshot=false&channels=";
  lv_cli_text_put(&t, path, sizeof path - 1);
  uint32_t n = 0;
  for (uint32_t i = 0; i < s->n; i++) {
    if (s->at[i].gone) continue;
    if (n++) lv_cli_text_put(&t, ",", 1);
    put_encoded(&t, lv_slice_str(s->at[i].name));
  }
  lv_cli_text_put(&t, "&since=", 7);
  bool first = true;
  for (uint32_t i = 0; i < s->n; i++) {
    const place *p = &s->at[i];
    if (p->gone) continue;
    if (!first) lv_cli_text_put(&t, ",", 1);
    first = false;
    if (n > 1) put_encoded(&t, lv_slice_str(p->name));
    if (n > 1) lv_cli_text_put(&t, ":", 1);
    put_encoded(&t, lv_slice_str(p->pos[0] ? p->pos : s->a->since));
  }
  if (s->keys.n) {
    lv_cli_text_put(&t, "&keys=", 6);
    put_encoded(&t, s->keys);
  }
  snprintf(s->path, sizeof s->path, "%.*s", (int)t.n, t.p);
  lv_cli_text_done(&t);
}

static bool refused(int status) {
  return status >= 400 && status < 500 && status != 408 && status != 429;
}

/* Until the connection ends: 0: try again; else the exit code. `until`: 0, or when to end. */
static int follow(since *s, lv_wsc *w, uint64_t until) {
  while (!lv_cli_stopped() && !s->done) {
    lv_slice text;
    int got = lv_wsc_next(w, 0, &text);
    if (got == 0) {
      if (fflush(stdout) || ferror(stdout)) s->done = true; /* nobody reads any more */
      uint64_t now = lv_cli_now_ms();
      if (until && now >= until) return s->a->count ? LV_EXIT_TIMEOUT : LV_EXIT_OK;
      int wait = until && until - now < 1000 ? (int)(until - now) : 1000;
      if (!s->done) got = lv_wsc_next(w, wait, &text);
    }
    if (got == 1) on_message(s, text);
    if (got < 0 && w->code == LV_WS_POLICY) {
      (void)lv_cli_fail(s->cmd, "closed by the server: %s", w->why);
      return LV_EXIT_REFUSED;
    }
    if (got < 0) return 0;
  }
  s->done = true;
  return s->exit;
}

static void pause_ms(uint64_t ms, uint64_t until) {
  uint64_t end = lv_cli_now_ms() + ms;
  if (until && until < end) end = until;
  while (!lv_cli_stopped() && lv_cli_now_ms() < end) {
    (void)poll(NULL, 0, 20);
  }
}

/* Once: 0 and perhaps s->done, or an exit code. */
static int session(since *s, uint64_t until, uint64_t *gap_ms) {
  lv_wsc w;
  target_make(s);
  int got = lv_wsc_open(&w, &s->to), r = 0;
  if (got == 101) {
    if (s->connected && !s->a->quiet) fprintf(stderr, "lavva sub: connected again\n");
    s->connected = true;
    *gap_ms = RETRY_MIN_MS;
    r = follow(s, &w, until);
  }
  fflush(stdout);
  if (refused(got)) {
    r = lv_cli_fail(s->cmd, "%s: refused with %d%s%s", s->address, got, w.why[0] ? ": " : "",
                    w.why);
    r = LV_EXIT_REFUSED;
  } else if (got != 101 && !s->connected) {
    r = lv_cli_fail(s->cmd, "%s: %s", s->address, w.why[0] ? w.why : "the server is busy");
  } else if (r == 0 && !s->done && got == 101 && !s->a->quiet) {
    fprintf(stderr, "lavva sub: connection lost (%s), trying again\n", w.why[0] ? w.why : "closed");
  }
  lv_wsc_close(&w);
  return r;
}

static int run(since *s) {
  uint64_t until = s->a->wait_ms ? lv_cli_now_ms() + s->a->wait_ms : 0, gap_ms = RETRY_MIN_MS;
  lv_cli_signals();
  for (;;) {
    int r = session(s, until, &gap_ms);
    if (r || s->done || lv_cli_stopped()) return r ? r : s->exit;
    if (until && lv_cli_now_ms() >= until) return s->a->count ? LV_EXIT_TIMEOUT : LV_EXIT_OK;
    pause_ms(gap_ms, until);
    gap_ms = gap_ms * 2 < RETRY_MAX_MS ? gap_ms * 2 : RETRY_MAX_MS;
  }
}

/* ---- arguments ---- */

static int channels_take(since *s) {
  const lv_cli_texts *c = &s->a->channels;
  for (uint32_t i = 0; i < c->n; i++) {
    lv_slice rest = lv_slice_str(c->v[i]), name;
    bool has = lv_slice_split(&rest, '/', &name);
    lv_slice keys = has && !lv_slice_eq(rest, LV_SLICE("#")) ? rest : (lv_slice){NULL, 0};
    if (!lv_channel_name_ok(name) && !lv_slice_eq(name, LV_SLICE("_")))
      return lv_cli_usage(s->cmd, "%s: with --since: CHANNEL or CHANNEL/FILTER", c->v[i]);
    if ((keys.n && lv_mqtt_filter_check(keys)) || (i && !lv_slice_eq(keys, s->keys)))
      return lv_cli_usage(s->cmd, "%s: one filter on keys for all channels", c->v[i]);
    s->keys = keys;
    if (place_of(s, name)) continue;
    snprintf(s->at[s->n++].name, sizeof s->at[0].name, "%.*s", (int)name.n, (const char *)name.p);
  }
  lv_hub_since v;
  if (lv_hub_since_parse(lv_slice_str(s->a->since), &v))
    return lv_cli_usage(s->cmd, "--since %s: a position, an RFC 3339 time or `start`", s->a->since);
  if (v.kind == LV_HUB_SINCE_POS && s->n > 1)
    return lv_cli_usage(s->cmd, "a position belongs to one channel");
  return 0;
}

/* http(s)://HOST[:PORT] or ws(s)://…; else the environment's, the development instance's. */
static int where(since *s, lv_cli_target_args *a) {
  const char *url = a->url, *rest = url ? strstr(url, "://") : NULL;
  a->url = NULL;
  int r = lv_cli_target_resolve(s->cmd, a, &s->target);
  if (r) return r;
  const char *address = s->target.env.v[LV_ENV_HTTP];
  if (!url) {
    snprintf(s->address, sizeof s->address, "%s", address ? address : "localhost:8080");
  } else {
    size_t n = rest ? (size_t)(rest - url) : 0;
    bool tls = rest && (strncmp(url, "https", 5) == 0 || strncmp(url, "wss", 3) == 0);
    bool known = rest && ((n == 4 && strncmp(url, "http", 4) == 0) || (n == 5 && tls) ||
                          (n == 2 && strncmp(url, "ws", 2) == 0) || (n == 3 && tls));
    if (!known) return lv_cli_usage(s->cmd, "--url %s: with --since: http(s):// or ws(s)://", url);
    s->to.tls = tls;
    rest += 3;
    int len = (int)strcspn(rest, "/");
    const char *port = memchr(rest, ']', (size_t)len);
    port = memchr(port ? port : rest, ':', (size_t)(rest + len - (port ? port : rest)));
    snprintf(s->address, sizeof s->address, "%.*s%s", len, rest,
             port  ? ""
             : tls ? ":8443"
                   : ":8080");
  }
  s->to.address = s->address;
  s->to.target = s->path;
  s->to.bearer = s->target.password;
  s->to.insecure = s->target.insecure;
  s->to.ca = s->target.ca;
  s->to.cert = s->target.cert;
  s->to.cert_key = s->target.cert_key;
  return 0;
}

/* \n and \t in a format, and a line end behind it. */
static void unescape(const char *fmt, lv_cli_text *out) {
  for (const char *p = fmt; *p; p++) {
    char c = *p;
    if (c == '\\' && p[1]) {
      p++;
      c = *p == 'n' ? '\n' : *p == 't' ? '\t' : *p;
    }
    lv_cli_text_put(out, &c, 1);
  }
  lv_cli_text_put(out, "\n", 2); /* with its NUL */
  out->n--;
}

int lv_cli_since(const lv_cli_cmd *cmd, lv_cli_target_args *target, const lv_since_args *args) {
  since *s = calloc(1, sizeof *s);
  if (!s) abort();
  s->cmd = cmd;
  s->a = args;
  if (args->format) unescape(args->format, &s->format);
  int r = channels_take(s);
  if (r == 0) r = where(s, target);
  if (r == 0) r = run(s);
  lv_cli_target_done(&s->target);
  lv_cli_text_done(&s->line);
  lv_cli_text_done(&s->format);
  free(s->scratch);
  free(s);
  return r;
}
