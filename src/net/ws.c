/* ws.c: WebSocket connections (ws.h): events of the decoder to the protocol, messages to frames.
 *
 *   conn ──on_bytes──▶ lv_ws_next ──┬─ data ──▶ whole: on_message · pieces: kept · on_stream
 *                                   ├─ ping ──▶ pong            └─ deflated: lv_inflate
 *                                   └─ close ─▶ answered, FIN
 *
 * The state is in wire/ws.h's decoder (24 bytes) and in a few bits: `closing` is set with the close
 * frame that we send, first or second; from then on data is read and dropped until the peer's close
 * frame comes, or CLOSE_MS have passed. After an error of the peer's we send the close frame and do
 * not read on (RFC 6455 §7.1.7): lv_conn_close flushes, sends FIN, and discards what still comes.
 *
 * A stream's frames (ws.h) are made in on_flush: lv_outq_insert puts the head of a binary frame in
 * front of what was queued since the last flush. A frame per flush means that what many packets of
 * one turn cost is one head. Rejected: a queue of its own for the protocol, which would hide from
 * it how much waits for the kernel; and heads written by the protocol, which would know of frames.
 *
 * Memory: lv_ws_conn is 80 bytes from a pool; `kept` exists while a message is incomplete. */
#include "net/ws.h"
#include "core/pool.h"
#include <assert.h>
#include <stdlib.h>

enum {
  CLOSE_MS = 5000,         /* for the peer's close frame */
  DEFLATE_MIN = 256,       /* shorter ones save a few bytes of a packet and cost the same work */
  PUT_MAX = 16 * 1024,     /* lv_outq_put's */
  RAW_ROOM = 64 * 1024,    /* read beside a whole frame */
  ANSWERS_MAX = 64 * 1024, /* pongs, and what a stream's protocol answers, above out_max */
  PINGS_MAX = 2,
};
static_assert(sizeof(lv_ws_conn) <= 80, "paid by each idle connection");

static lv_pool pool = {.size = sizeof(lv_ws_conn),
                       .align = 16,
                       .batch = 64,
                       .shared_max = 64,
                       .lock = PTHREAD_MUTEX_INITIALIZER};
static _Thread_local lv_pool_local local;

static const lv_conn_ops message_ops, stream_ops;

static lv_ws_conn *of(lv_conn *c) {
  lv_ws_conn *w = c->data;
  assert(w->conn == c && (c->ops == &message_ops || c->ops == &stream_ops));
  return w;
}

static bool is_stream(const lv_ws_conn *w) {
  return w->kind->ops->on_stream != NULL;
}

/* ---- frames out ---- */

/* What a stream has queued becomes a frame. */
static void wrap(lv_ws_conn *w) {
  uint8_t head[LV_WS_HEAD_MAX];
  lv_outq *q = &w->conn->outq;
  uint32_t n = lv_outq_since(q, &w->mark);
  if (!n) return;
  lv_outq_insert(q, &w->mark, head, lv_ws_head_encode(LV_WS_BINARY | LV_WS_FIN, n, head));
}

static void on_flush(lv_conn *c, bool sent) {
  lv_ws_conn *w = of(c);
  if (sent)
    lv_outq_mark_end(&c->outq, &w->mark);
  else if (w->closing)
    lv_outq_cut(&c->outq, &w->mark); /* §5.5.1: no data behind a close frame */
  else
    wrap(w);
}

/* A control frame, in its place behind what was queued before. */
static void put_control(lv_ws_conn *w, const uint8_t *frame, uint32_t n) {
  lv_outq *q = &w->conn->outq;
  if (is_stream(w)) wrap(w);
  memcpy(lv_outq_put(q, n, 0, (lv_mono){0}), frame, n);
  if (is_stream(w)) lv_outq_mark_end(q, &w->mark);
  lv_conn_dirty(w->conn);
}

uint32_t lv_ws_frame(uint8_t *dst, uint8_t op, lv_slice data) {
  assert(op == LV_WS_TEXT || op == LV_WS_BINARY);
  uint32_t head = lv_ws_head_encode((uint8_t)(op | LV_WS_FIN), data.n, dst);
  if (data.n) memcpy(dst + head, data.p, data.n);
  return head + data.n;
}

uint32_t lv_ws_frame_deflated(uint8_t *dst, uint8_t op, lv_slice data, uint8_t bits) {
  uint8_t *to = dst + LV_WS_HEAD_MAX;
  uint32_t n;
  assert(op == LV_WS_TEXT || op == LV_WS_BINARY);
  if (data.n < DEFLATE_MIN) return 0;
  if (lv_deflate(data, bits, to, data.n + LV_DEFLATE_SLACK - 1, &n)) return 0;
  uint32_t head = lv_ws_head_encode((uint8_t)(op | LV_WS_FIN | LV_WS_RSV1), n, dst);
  memmove(dst + head, to, n);
  return head + n;
}

static bool send_deflated(lv_ws_conn *w, uint8_t op, lv_slice data, uint32_t msgs, lv_mono stamp) {
  lv_outq *q = &w->conn->outq;
  uint32_t cap = lv_ws_frame_max(data.n);
  if (data.n < DEFLATE_MIN) return false;
  lv_block *b = lv_block_new(cap < LV_BLOCK_SIZE ? LV_BLOCK_SIZE : cap);
  if (!b) return false;
  uint32_t n = lv_ws_frame_deflated(b->data, op, data, w->bits);
  if (n > PUT_MAX)
    lv_outq_ref(q, b, b->data, n, msgs, stamp);
  else if (n)
    memcpy(lv_outq_put(q, n, msgs, stamp), b->data, n);
  lv_block_unref(b);
  return n > 0;
}

void lv_ws_send(lv_ws_conn *w, uint8_t op, lv_slice data, uint32_t msgs, lv_mono stamp) {
  lv_outq *q = &w->conn->outq;
  assert(!is_stream(w));
  if (w->closing || lv_conn_closing(w->conn)) return;
  lv_conn_dirty(w->conn);
  if (w->deflate && send_deflated(w, op, data, msgs, stamp)) return;
  uint32_t n = lv_ws_head_size(data.n) + data.n;
  if (n <= PUT_MAX) {
    (void)lv_ws_frame(lv_outq_put(q, n, msgs, stamp), op, data);
    return;
  }
  lv_block *b = lv_block_new(n);
  if (!b) {
    lv_ws_fail(w, LV_E_NOMEM, "out of memory");
    return;
  }
  (void)lv_ws_frame(b->data, op, data);
  lv_outq_ref(q, b, b->data, n, msgs, stamp);
  lv_block_unref(b);
}

void lv_ws_send_frames(lv_ws_conn *w, lv_block *b, const uint8_t *p, uint32_t n, uint32_t msgs,
                       lv_mono stamp) {
  assert(!is_stream(w));
  if (w->closing || lv_conn_closing(w->conn)) return;
  lv_outq_ref(&w->conn->outq, b, p, n, msgs, stamp);
  lv_conn_dirty(w->conn);
}

/* ---- closing ---- */

/* Our close frame, with which sending ends. */
static void put_close(lv_ws_conn *w, uint16_t code, lv_slice reason, int err) {
  uint8_t frame[2 + LV_WS_CONTROL_MAX];
  assert(!w->closing && err > INT16_MIN && err <= 0);
  put_control(w, frame, lv_ws_close_encode(code, reason, NULL, frame));
  w->closing = true;
  w->err = (int16_t)err;
}

static void close_with(lv_ws_conn *w, uint16_t code, const char *reason, int err) {
  lv_conn *c = w->conn;
  if (w->closing || lv_conn_closing(c)) return;
  put_close(w, code, lv_slice_str(reason), err);
  if (is_stream(w)) {
    lv_conn_close(c, err, true);
    return;
  }
  lv_conn_deadline(c, LV_MS(CLOSE_MS));
  lv_conn_resume(c, (enum lv_pause)UINT8_MAX); /* whatever it waited for: to read the answer */
}

void lv_ws_close(lv_ws_conn *w, uint16_t code, const char *reason) {
  close_with(w, code, reason, 0);
}

void lv_ws_fail(lv_ws_conn *w, int err, const char *reason) {
  close_with(w, lv_ws_close_code(err), reason, err);
}

/* The peer did what it may not. */
static void broken(lv_ws_conn *w, int err) {
  if (!w->closing) put_close(w, lv_ws_close_code(err), lv_slice_str(lv_err_text(err)), err);
  lv_conn_close(w->conn, w->err, true);
}

/* The peer's close frame: the answer to ours, or to be answered. */
static void on_close_frame(lv_ws_conn *w, uint16_t code) {
  if (!w->closing) put_close(w, code, (lv_slice){NULL, 0}, 0);
  lv_conn_close(w->conn, w->err, true);
}

/* ---- messages in ---- */

static lv_buf *kept_new(size_t max) {
  lv_buf *b = malloc(sizeof *b);
  if (!b) abort();
  lv_buf_init(b, max);
  return b;
}

static void kept_free(lv_buf *b) {
  if (!b) return;
  lv_buf_done(b);
  free(b);
}

static void deliver(lv_ws_conn *w, const lv_ws_event *e, lv_slice data) {
  const lv_ws_ops *ops = w->kind->ops;
  if (!e->deflated) {
    ops->on_message(w, e->op, data);
    return;
  }
  lv_buf out;
  lv_buf_init(&out, w->kind->rules.message_max);
  int err = lv_inflate(data, &out);
  lv_slice plain = lv_buf_slice(&out);
  if (!err && e->op == LV_WS_TEXT && !lv_utf8_valid(plain, false)) err = LV_E_PAYLOAD;
  if (err)
    broken(w, err);
  else
    ops->on_message(w, e->op, plain);
  lv_buf_done(&out);
}

static void collect(lv_ws_conn *w, const lv_ws_event *e) {
  size_t max = w->kind->rules.message_max;
  if (!w->kept) w->kept = kept_new(max + max / 8 + 64); /* as wire/ws.h for compressed ones */
  if (lv_buf_add_slice(w->kept, e->data)) {
    broken(w, LV_E_TOO_BIG);
    return;
  }
  if (!e->last) return;
  lv_buf *b = w->kept;
  w->kept = NULL;
  deliver(w, e, lv_buf_slice(b));
  kept_free(b);
}

/* on_stream's wishes are about its own bytes, not about what the decoder waits for. */
static uint32_t stream_give(lv_ws_conn *w, const uint8_t *p, uint32_t n) {
  uint32_t want = w->conn->want;
  uint32_t used = w->kind->ops->on_stream(w, p, n);
  assert(used <= n);
  w->conn->want = want;
  return used;
}

/* What on_stream left, once more. */
static void offer_kept(lv_ws_conn *w) {
  lv_conn *c = w->conn;
  lv_buf *b = w->kept;
  lv_buf_cut(b, stream_give(w, b->p, (uint32_t)b->n));
  if (b->n == 0) {
    kept_free(b);
    w->kept = NULL;
  } else if (b->n >= c->in_max && !c->paused) {
    broken(w, LV_E_TOO_BIG);
  }
  c->held = w->kept != NULL;
}

static void stream(lv_ws_conn *w, lv_slice data) {
  if (w->kept) {
    (void)lv_buf_add_slice(w->kept, data);
    assert(!w->kept->err);
    offer_kept(w);
    return;
  }
  if (!data.n) return;
  uint32_t used = stream_give(w, data.p, data.n);
  if (used == data.n) return;
  w->kept = kept_new((size_t)1 << 31);
  (void)lv_buf_add(w->kept, data.p + used, data.n - used);
  w->conn->held = 1;
}

static void on_event(lv_ws_conn *w, const lv_ws_event *e) {
  uint8_t frame[2 + LV_WS_CONTROL_MAX];
  switch (e->op) {
  case LV_WS_PING:
    if (!w->closing) put_control(w, frame, lv_ws_control_encode(LV_WS_PONG, e->data, NULL, frame));
    break;
  case LV_WS_PONG: break;
  case LV_WS_CLOSE: on_close_frame(w, e->code); break;
  default:
    if (w->closing) break;
    if (is_stream(w))
      stream(w, e->data);
    else if (e->first && e->last)
      deliver(w, e, e->data);
    else
      collect(w, e);
  }
}

/* Whether the peer takes too little of what it asks for. A stream's protocol has a say first. */
static bool takes_nothing(const lv_ws_conn *w) {
  const lv_conn *c = w->conn;
  uint32_t room = is_stream(w) ? c->in_max + ANSWERS_MAX : 0;
  return c->outq.bytes > c->out_max && c->outq.bytes - c->out_max > room;
}

static uint32_t on_bytes(lv_conn *c, const uint8_t *p, uint32_t n) {
  lv_ws_conn *w = of(c);
  lv_ws_rules rules = w->kind->rules;
  rules.deflate = w->deflate;
  /* conn.h lends them read-only, but they are nobody else's: the loop's scratch or this
   * connection's buffer. What is unmasked here and not consumed is kept as it is then. */
  lv_ws_in in = {.p = (uint8_t *)(uintptr_t)p, .n = n};
  if (n == 0) { /* after a pause (conn->held) */
    if (w->kept && is_stream(w) && !w->closing) offer_kept(w);
    return 0;
  }
  w->unanswered = 0;
  while (!c->paused && !lv_conn_closing(c)) {
    lv_ws_event e;
    int rc = lv_ws_next(&w->dec, &rules, &in, &e);
    if (rc == LV_E_NEED_MORE) {
      c->want = in.want;
      c->eager = in.look;
      break;
    }
    if (rc < 0)
      broken(w, rc);
    else
      on_event(w, &e);
    if (takes_nothing(w) && !w->closing) lv_conn_pause(c, LV_PAUSE_SEND);
  }
  return lv_conn_closing(c) ? n : n - in.n;
}

/* ---- the connection's events ---- */

static void on_drain(lv_conn *c) {
  lv_ws_conn *w = of(c);
  lv_conn_resume(c, LV_PAUSE_SEND);
  if (w->kind->ops->on_drain && !w->closing) w->kind->ops->on_drain(w);
}

static void on_sent(lv_conn *c, uint32_t n, lv_mono stamp, lv_use use) {
  lv_ws_conn *w = of(c);
  if (w->kind->ops->on_sent) w->kind->ops->on_sent(w, n, stamp, use);
}

/* Time for a ping. While it is we who do not read, or the kernel that cannot send (then TCP's own
 * time limit counts), silence proves nothing. */
static void ping(lv_ws_conn *w) {
  lv_conn *c = w->conn;
  uint8_t frame[2 + LV_WS_CONTROL_MAX];
  if (!c->paused && !c->outq.bytes) {
    if (w->unanswered >= PINGS_MAX) {
      lv_conn_close(c, LV_E_TIMEOUT, false);
      return;
    }
    w->unanswered++;
    put_control(w, frame, lv_ws_control_encode(LV_WS_PING, (lv_slice){NULL, 0}, NULL, frame));
  }
  lv_conn_deadline(c, LV_MS(w->kind->ping_ms));
}

static void on_deadline(lv_conn *c) {
  lv_ws_conn *w = of(c);
  if (w->closing)
    lv_conn_close(c, w->err, false);
  else if (w->kind->ping_ms)
    ping(w);
  else if (w->kind->ops->on_deadline)
    w->kind->ops->on_deadline(w);
}

static void on_shutdown(lv_conn *c) {
  lv_ws_conn *w = of(c);
  if (w->closing) return;
  if (w->kind->ops->on_shutdown)
    w->kind->ops->on_shutdown(w);
  else
    lv_ws_close(w, LV_WS_GOING_AWAY, "server shutting down");
}

static void on_close(lv_conn *c, int err) {
  lv_ws_conn *w = of(c);
  w->kind->ops->on_close(w, w->closing ? w->err : err);
  kept_free(w->kept);
  c->data = NULL;
  lv_pool_put(&pool, &local, w);
}

static const lv_conn_ops message_ops = {.name = "ws",
                                        .gauge = LV_G_CONNS_WS,
                                        .on_bytes = on_bytes,
                                        .on_drain = on_drain,
                                        .on_sent = on_sent,
                                        .on_deadline = on_deadline,
                                        .on_close = on_close,
                                        .on_shutdown = on_shutdown};
static const lv_conn_ops stream_ops = {.name = "ws stream",
                                       .gauge = LV_G_CONNS_WS,
                                       .on_bytes = on_bytes,
                                       .on_drain = on_drain,
                                       .on_sent = on_sent,
                                       .on_deadline = on_deadline,
                                       .on_close = on_close,
                                       .on_shutdown = on_shutdown,
                                       .on_flush = on_flush};

/* ---- opening ---- */

static void refuse(lv_http_call *call, int err) {
  static const lv_http_header fields[] = {{LV_SLICE("Upgrade"), LV_SLICE("websocket")},
                                          {LV_SLICE("Sec-WebSocket-Version"), LV_SLICE("13")},
                                          {LV_SLICE("Access-Control-Allow-Origin"), LV_SLICE("*")}};
  uint16_t status = lv_ws_open_status(err);
  const char *text = status == 426 ? "this is a WebSocket endpoint (RFC 6455, version 13)\n"
                     : err == LV_E_INVALID
                         ? "none of the subprotocols that this endpoint speaks was offered\n"
                         : "not a valid WebSocket handshake\n";
  lv_http_answer a = {.status = status,
                      .content_type = LV_SLICE("text/plain; charset=utf-8"),
                      .headers = status == 426 ? fields : fields + 2,
                      .n_headers = (status == 426 ? 2 : 0) + (call->route && call->route->open),
                      .body = lv_slice_str(text)};
  lv_http_answer_send(call, &a);
}

static bool switch_protocols(lv_http_call *call, const lv_ws_open *o, lv_ws_conn *w) {
  uint8_t accept[LV_WS_ACCEPT_LEN], ext[LV_WS_EXT_MAX];
  lv_http_header h[5];
  uint32_t n = 0;
  lv_ws_accept(o->key, accept);
  h[n++] = (lv_http_header){LV_SLICE("Upgrade"), LV_SLICE("websocket")};
  h[n++] = (lv_http_header){LV_SLICE("Connection"), LV_SLICE("Upgrade")};
  h[n++] = (lv_http_header){LV_SLICE("Sec-WebSocket-Accept"), lv_slice_of(accept, sizeof accept)};
  if (o->protocol.n) h[n++] = (lv_http_header){LV_SLICE("Sec-WebSocket-Protocol"), o->protocol};
  if (o->pmd.on)
    h[n++] = (lv_http_header){LV_SLICE("Sec-WebSocket-Extensions"),
                              lv_slice_of(ext, lv_ws_pmd_write(&o->pmd, false, ext))};
  return lv_http_upgrade(call, h, n, is_stream(w) ? &stream_ops : &message_ops, w);
}

lv_ws_conn *lv_ws_upgrade(lv_http_call *call, const lv_ws_kind *kind, void *data) {
  lv_conn *c = call->conn;
  lv_ws_open o;
  assert(kind->out_max && !kind->ops->on_message != !kind->ops->on_stream);
  assert(!kind->ops->on_stream || (!kind->rules.whole_max && !kind->able.pmd.on));
  /* We decompress each message for itself, and compress so. */
  assert(!kind->able.pmd.on ||
         (kind->able.pmd.server_no_takeover && kind->able.pmd.client_no_takeover));
  int err = lv_ws_open_check(&call->req, &kind->able, &o);
  if (err) {
    refuse(call, err);
    return NULL;
  }
  lv_ws_conn *w = lv_pool_get(&pool, &local);
  *w = (lv_ws_conn){.conn = c,
                    .kind = kind,
                    .data = data,
                    .deflate = o.pmd.on,
                    .bits = o.pmd.on ? o.pmd.server_bits : LV_WS_BITS_MAX};
  if (!switch_protocols(call, &o, w)) {
    lv_pool_put(&pool, &local, w);
    return NULL;
  }
  c->in_max = kind->rules.whole_max + RAW_ROOM;
  c->out_max = kind->out_max;
  if (is_stream(w)) lv_outq_mark_end(&c->outq, &w->mark);
  if (kind->ping_ms) lv_conn_deadline(c, LV_MS(kind->ping_ms));
  return w;
}
