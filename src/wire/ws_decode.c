/* ws_decode.c: frames out of a stream of bytes (RFC 6455 §5).
 *
 * Two places to be in: before a head, or inside a payload (IN_FRAME). A head is taken only when it
 * is there whole, so nothing of it is kept; but it is judged byte by byte, as far as it has come.
 * A payload that is kept back in the buffer has its first `held` bytes unmasked and checked.
 *
 *   in->p ─▶ | head (2…14) | payload: held … | new … |
 *                          └── left ──────────────────…
 *
 * Every judgement depends only on the bytes up to the one it is made at, and is made when that byte
 * comes: hence the outcome is the same however the stream is cut.
 * @thread any */
#include "wire/ws.h"
#include <assert.h>

static_assert(sizeof(lv_ws) <= 24, "paid by each idle connection");

enum { IN_FRAME = 1, STARTED = 2, DEFLATED = 4, CLOSED = 8, WHOLE = 16 }; /* lv_ws.flags */

typedef struct head {
  uint64_t n;   /* payload bytes */
  uint32_t len; /* of the head itself */
} head;

static bool is_control(uint8_t first) {
  return first & 8;
}

/* §5.2, §5.4: what the first byte may be, given what came before. */
static int first_check(const lv_ws *ws, const lv_ws_rules *r, uint8_t b) {
  uint8_t op = b & 15;
  bool data = op == LV_WS_TEXT || op == LV_WS_BINARY;
  if (b & 0x30) return LV_E_PROTOCOL;
  if (b & LV_WS_RSV1 && !(r->deflate && data)) return LV_E_PROTOCOL;
  if (op > LV_WS_PONG || (op > LV_WS_BINARY && op < LV_WS_CLOSE)) return LV_E_PROTOCOL;
  if (is_control(b)) return b & LV_WS_FIN ? 0 : LV_E_PROTOCOL;
  if (data == (ws->op != 0)) return LV_E_PROTOCOL; /* new inside another, or nothing to continue */
  if ((op == LV_WS_TEXT && r->no_text) || (op == LV_WS_BINARY && r->no_binary))
    return LV_E_UNSUPPORTED;
  return ws->op && ws->frames >= r->frames_max ? LV_E_TOO_BIG : 0;
}

/* The length behind the second byte: 2 or 8 bytes, in the shortest form, without the highest bit.
 */
static int length_read(const uint8_t *p, uint32_t n, uint32_t bytes, uint64_t *ret) {
  uint64_t v = 0;
  if (n > 2 && bytes == 8 && p[2] & 0x80) return LV_E_PROTOCOL;
  if (n < 2 + bytes) return LV_E_NEED_MORE;
  for (uint32_t i = 0; i < bytes; i++) v = v << 8 | p[2 + i];
  if (v < (bytes == 2 ? 126u : 65536u)) return LV_E_PROTOCOL;
  *ret = v;
  return 0;
}

/* A message's bytes on the wire with the current frame's n more. */
static int size_check(const lv_ws *ws, const lv_ws_rules *r, uint8_t first, uint64_t n) {
  bool deflated = ws->op ? ws->flags & DEFLATED : first & LV_WS_RSV1;
  uint64_t max = r->message_max, had = ws->op ? ws->bytes : 0;
  if (deflated) max += max / 8 + 64;
  return n > max || had + n > max ? LV_E_TOO_BIG : 0;
}

/* LV_E_NEED_MORE with *want set. */
static int head_read(const lv_ws *ws, const lv_ws_rules *r, lv_ws_in *in, head *ret) {
  const uint8_t *p = in->p;
  int err;
  in->want = r->client ? 2 : 6;
  in->look = true; /* each byte of it may be one too many */
  if (in->n < 1) return LV_E_NEED_MORE;
  if ((err = first_check(ws, r, p[0]))) return err;
  if (in->n < 2) return LV_E_NEED_MORE;
  if (!(p[1] & 0x80) != r->client) return LV_E_PROTOCOL;
  uint64_t n = p[1] & 127;
  uint32_t len = 2;
  if (is_control(p[0]) && n > LV_WS_CONTROL_MAX) return LV_E_PROTOCOL;
  if (n > 125) {
    uint32_t bytes = n == 126 ? 2 : 8;
    in->want += bytes;
    if ((err = length_read(p, in->n, bytes, &n))) return err;
    len += bytes;
  }
  if (!is_control(p[0]) && (err = size_check(ws, r, p[0], n))) return err;
  if (!r->client) len += 4;
  if (in->n < len) return LV_E_NEED_MORE;
  *ret = (head){n, len};
  return 0;
}

static void frame_begin(lv_ws *ws, const lv_ws_rules *r, lv_ws_in *in, const head *h) {
  ws->head = in->p[0];
  ws->left = (uint32_t)h->n;
  ws->held = 0;
  ws->key = 0;
  if (!r->client) memcpy(&ws->key, in->p + h->len - 4, 4);
  ws->flags = (uint8_t)((ws->flags & ~WHOLE) | IN_FRAME);
  in->p += h->len;
  in->n -= h->len;
  if (is_control(ws->head)) return;
  if (ws->op == 0) {
    ws->op = ws->head & 15;
    ws->utf8 = LV_WS_UTF8_START;
    ws->bytes = 0;
    ws->frames = 0;
    ws->flags &= (uint8_t) ~(STARTED | DEFLATED);
    if (ws->head & LV_WS_RSV1) ws->flags |= DEFLATED;
  }
  ws->bytes += ws->left;
  ws->frames++;
}

bool lv_ws_code_ok(uint16_t code) {
  if (code >= 3000) return code <= 4999;
  return code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006;
}

/* §5.5.1 */
static int close_read(lv_ws_event *e) {
  lv_slice s = e->data;
  e->code = LV_WS_NO_CODE;
  if (s.n == 0) return 0;
  if (s.n == 1) return LV_E_PROTOCOL;
  e->code = (uint16_t)(s.p[0] << 8 | s.p[1]);
  if (!lv_ws_code_ok(e->code)) return LV_E_PROTOCOL;
  e->data = (lv_slice){s.p + 2, s.n - 2};
  return lv_utf8_valid(e->data, false) ? 0 : LV_E_PAYLOAD;
}

static int control(lv_ws *ws, const lv_ws_rules *r, lv_ws_in *in, lv_ws_event *ret) {
  uint32_t n = ws->left;
  int err;
  in->want = n;
  in->look = false;
  if (in->n < n) return LV_E_NEED_MORE;
  if (!r->client) (void)lv_ws_mask(in->p, n, ws->key);
  lv_ws_event e = {.op = ws->head & 15, .first = true, .last = true, .data = {in->p, n}};
  if (e.op == LV_WS_CLOSE) {
    if ((err = close_read(&e))) return err;
    ws->flags |= CLOSED;
  }
  ws->flags &= (uint8_t)~IN_FRAME;
  ws->left = 0;
  in->p += n;
  in->n -= n;
  *ret = e;
  return 1;
}

/* Unmasks and checks the bytes of this frame that are new; they count as held. */
static int fresh(lv_ws *ws, const lv_ws_rules *r, lv_ws_in *in) {
  uint32_t n = (in->n < ws->left ? in->n : ws->left) - ws->held;
  uint8_t *p = in->p + ws->held;
  if (!r->client) ws->key = lv_ws_mask(p, n, ws->key);
  ws->held += n;
  if (ws->op != LV_WS_TEXT || ws->flags & DEFLATED) return 0;
  if (n && !lv_ws_utf8_add(&ws->utf8, (lv_slice){p, n})) return LV_E_PAYLOAD;
  bool end = ws->head & LV_WS_FIN && ws->held == ws->left;
  return end && !lv_ws_utf8_end(ws->utf8) ? LV_E_PAYLOAD : 0;
}

static int piece(lv_ws *ws, const lv_ws_rules *r, lv_ws_in *in, lv_ws_event *ret) {
  bool whole = ws->flags & WHOLE;
  assert(in->n >= ws->held && ws->left >= ws->held); /* what was left over came again */
  int err = fresh(ws, r, in);
  if (err) return err;
  /* Text is looked at as it comes: what cannot become UTF-8 need not be waited for. */
  bool look = ws->op == LV_WS_TEXT && !(ws->flags & DEFLATED);
  in->want = whole ? ws->left : 1;
  in->look = whole && look;
  if (ws->held < ws->left && (whole || ws->held == 0)) return LV_E_NEED_MORE;
  uint32_t n = ws->held;
  bool ends = n == ws->left, last = ends && ws->head & LV_WS_FIN;
  *ret = (lv_ws_event){.op = ws->op,
                       .first = !(ws->flags & STARTED),
                       .last = last,
                       .deflated = ws->flags & DEFLATED,
                       .data = {in->p, n}};
  in->p += n;
  in->n -= n;
  ws->left -= n;
  ws->held = 0;
  ws->flags |= STARTED;
  if (ends) ws->flags &= (uint8_t)~IN_FRAME;
  if (last) ws->op = 0;
  return 1;
}

int lv_ws_next(lv_ws *ws, const lv_ws_rules *rules, lv_ws_in *in, lv_ws_event *ret) {
  assert(rules->frames_max >= 1 && rules->message_max <= 1u << 31);
  if (ws->flags & CLOSED) {
    in->p += in->n;
    in->n = 0;
    in->want = 1;
    return LV_E_NEED_MORE;
  }
  if (!(ws->flags & IN_FRAME)) {
    head h;
    int err = head_read(ws, rules, in, &h);
    if (err) return err;
    frame_begin(ws, rules, in, &h);
    if (!is_control(ws->head) && h.n <= rules->whole_max) ws->flags |= WHOLE;
  }
  if (is_control(ws->head)) return control(ws, rules, in, ret);
  return piece(ws, rules, in, ret);
}

uint16_t lv_ws_close_code(int err) {
  return err == LV_E_UNSUPPORTED ? LV_WS_UNSUPPORTED : (uint16_t)lv_err_close(err);
}

uint32_t lv_ws_whole(const uint8_t *p, uint32_t n) {
  uint32_t count = 0;
  while (n >= 2) {
    uint8_t code = p[1] & 127;
    uint32_t len = code < 126 ? 2 : code == 126 ? 4 : 10;
    uint64_t size = code;
    assert(!(p[1] & 0x80));
    if (n < len) break;
    if (code > 125) size = 0;
    for (uint32_t i = 2; i < len; i++) size = size << 8 | p[i];
    if (size > n - len) break;
    if (p[0] & LV_WS_FIN && !is_control(p[0])) count++;
    p += len + size;
    n -= len + (uint32_t)size;
  }
  return count;
}
