/* fuzz_ws.c: the WebSocket frame decoder. However a stream is cut and however much of a frame is
 * held back, the same messages come out and the same error ends it; text that comes out is UTF-8,
 * and every message keeps to the limits. The first four bytes pick the rules and the cuts. */
#include "fuzz.h"
#include "wire/ws.h"

enum { MESSAGE_MAX = 300, FRAMES_MAX = 5, LOG_MAX = 1 << 17 };

typedef struct run {
  int err;
  uint32_t n;      /* of log: whole messages and control frames */
  uint32_t n_open; /* of open */
  uint8_t log[LOG_MAX];
  uint8_t open[1024]; /* the message that is under way */
} run;

static void put(run *r, const uint8_t *p, uint32_t n) {
  CHECK(r->n + n <= LOG_MAX);
  if (n) memcpy(r->log + r->n, p, n);
  r->n += n;
}

static void data(run *r, const lv_ws_event *e, const lv_ws_rules *rules) {
  CHECK(e->first == (r->n_open == 0)); /* the first byte of `open` is the kind */
  if (e->first) r->open[r->n_open++] = (uint8_t)(e->op | e->deflated << 4);
  CHECK(r->open[0] == (e->op | e->deflated << 4));
  CHECK(r->n_open + e->data.n <= sizeof r->open);
  if (e->data.n) memcpy(r->open + r->n_open, e->data.p, e->data.n);
  r->n_open += e->data.n;
  uint32_t n = r->n_open - 1;
  CHECK(n <= rules->message_max + (e->deflated ? rules->message_max / 8 + 64 : 0));
  if (!e->last) return;
  if (e->op == LV_WS_TEXT && !e->deflated) CHECK(lv_utf8_valid((lv_slice){r->open + 1, n}, false));
  put(r, r->open, r->n_open);
  put(r, (const uint8_t *)"\xff", 1);
  r->n_open = 0;
}

static void note(run *r, const lv_ws_event *e, const lv_ws_rules *rules) {
  if (e->op <= LV_WS_BINARY) {
    data(r, e, rules);
    return;
  }
  CHECK(e->first && e->last && e->data.n <= LV_WS_CONTROL_MAX);
  if (e->op == LV_WS_CLOSE) CHECK(e->code == LV_WS_NO_CODE || lv_ws_code_ok(e->code));
  if (e->op == LV_WS_CLOSE) CHECK(lv_utf8_valid(e->data, false));
  uint8_t head[3] = {e->op, (uint8_t)(e->code >> 8), (uint8_t)e->code};
  put(r, head, 3);
  put(r, e->data.p, e->data.n);
}

/* Pieces of 1 … step bytes, drawn from `seed`; step 0: all at once. */
static void decode(lv_slice s, const lv_ws_rules *rules, uint32_t step, uint32_t seed, run *r) {
  lv_ws ws = {0};
  uint8_t *kept = NULL;
  uint32_t n_kept = 0;
  r->n = r->n_open = 0;
  r->err = LV_E_NEED_MORE;
  for (uint32_t at = 0; at < s.n && r->err == LV_E_NEED_MORE;) {
    seed = seed * 1664525 + 1013904223;
    uint32_t n = step ? 1 + (seed >> 16) % step : s.n;
    if (n > s.n - at) n = s.n - at;
    uint8_t *p = malloc(n_kept + n); /* exact, and elsewhere each time */
    CHECK(p != NULL);
    if (n_kept) memcpy(p, kept, n_kept);
    memcpy(p + n_kept, s.p + at, n);
    free(kept);
    at += n;
    lv_ws_in in = {p, n_kept + n, 0};
    lv_ws_event e;
    while ((r->err = lv_ws_next(&ws, rules, &in, &e)) == 1) {
      CHECK(e.data.n == 0 || (e.data.p >= p && e.data.p + e.data.n <= in.p));
      note(r, &e, rules);
    }
    if (r->err == LV_E_NEED_MORE) CHECK(in.want > in.n && in.n <= rules->whole_max + 140);
    n_kept = in.n;
    kept = malloc(n_kept ? n_kept : 1);
    CHECK(kept != NULL);
    if (n_kept) memcpy(kept, in.p, n_kept);
    free(p);
  }
  free(kept);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t size) {
  static run a, b;
  uint8_t how = fuzz_byte(&p, &size), hold = fuzz_byte(&p, &size);
  uint32_t step = 1u + fuzz_byte(&p, &size) % 16, seed = fuzz_byte(&p, &size);
  lv_ws_rules rules = {.message_max = MESSAGE_MAX,
                       .whole_max = 1 << 16,
                       .frames_max = FRAMES_MAX,
                       .client = how & 1,
                       .deflate = how & 2,
                       .no_text = how & 4,
                       .no_binary = how & 8};
  if (size > LOG_MAX / 4) return 0;
  lv_slice s = fuzz_copy(p, size);
  decode(s, &rules, 0, 0, &a);
  rules.whole_max = hold;
  decode(s, &rules, step, seed, &b);
  CHECK(a.err == b.err && a.n == b.n && memcmp(a.log, b.log, a.n) == 0);
  (void)lv_ws_utf8_cut(s, hold);
  fuzz_free(s);
  return 0;
}
