/* fuzz_http_conn.c: the HTTP connection's state machine (net/http.c) without sockets or loops: this
 * file stands in for conn.c, with the contract of conn.h.
 *
 * The first byte seeds how the stream is cut and when things happen, the rest is what a client
 * sends. The stream is served twice, whole and in pieces, with handlers that answer at once or
 * later: every answer must be the same bytes, apart from `100 Continue`, which depends on what has
 * arrived. Then once more with deadlines, a drain and an end thrown in: nothing may break or leak.
 */
#include "fuzz.h"
#include "net/http.h"

enum { OPEN, FLUSHING, DEAD, BUF = 1 << 16, CALLS = 8 };

typedef struct peer {
  lv_conn c; /* first */
  lv_loop loop;
  uint8_t buf[BUF]; /* not consumed yet */
  uint32_t n;
  uint8_t *out; /* what it was sent */
  size_t out_n, out_cap;
  lv_http_call *later[CALLS];
  uint32_t n_later;
  bool deadline;
} peer;

static peer *of(lv_conn *c) {
  return (peer *)c;
}

/* ---- in place of conn.c and loop.c ---- */

bool lv_loop_here(const lv_loop *loop) {
  (void)loop;
  return true;
}
void lv__conn_dirty(lv_conn *c) {
  (void)c; /* the send queue is looked at after each call */
}
void lv_conn_pause(lv_conn *c, enum lv_pause why) {
  c->paused |= (uint8_t)why;
}
void lv_conn_resume(lv_conn *c, enum lv_pause why) {
  c->paused &= (uint8_t)~why;
}
void lv_conn_deadline(lv_conn *c, lv_dur delay) {
  of(c)->deadline = delay.ns >= 0;
}
bool lv_conn_closing(const lv_conn *c) {
  return c->state != OPEN;
}
void lv_conn_switch(lv_conn *c, const lv_conn_ops *ops, void *data) {
  c->ops = ops;
  c->data = data;
}
void lv_conn_close(lv_conn *c, int err, bool flush) {
  (void)err;
  CHECK(c->state != DEAD);
  if (c->state == OPEN || !flush) c->state = flush ? FLUSHING : DEAD;
}

/* ---- handlers ---- */

static void now(lv_http_call *call, void *arg) {
  char text[64];
  (void)arg;
  fuzz_touch(call->body);
  for (uint32_t i = 0; i < call->n_params; i++) fuzz_touch(call->params[i]);
  fuzz_touch(call->req.query);
  uint32_t sum = 0;
  for (uint32_t i = 0; i < call->body.n; i++) sum = sum * 31 + call->body.p[i];
  snprintf(text, sizeof text, "%u:%u", call->body.n, sum);
  lv_http_answer_text(call, 200, text);
}

static void later(lv_http_call *call, void *arg) {
  peer *p = of(call->conn);
  (void)arg;
  CHECK(p->n_later < CALLS);
  p->later[p->n_later++] = call;
}

static void large(lv_http_call *call, void *arg) {
  lv_block *b = lv_block_new(400 * 1024);
  (void)arg;
  memset(b->data, 'x', b->cap);
  lv_http_answer a = {.status = 200, .body = lv_slice_of(b->data, 400 * 1024), .block = b};
  lv_http_answer_send(call, &a);
}

static const lv_http_server *server(void) {
  static lv_http_server s;
  static lv_conf conf;
  if (s.router) return &s;
  lv_router *r = lv_router_new();
  lv_router_add(r, (lv_route){LV_HTTP_GET, "/", now, NULL, 0});
  lv_router_add(r, (lv_route){LV_HTTP_GET, "/g/{x}/{y}", now, NULL, 100});
  lv_router_add(r, (lv_route){LV_HTTP_POST, "/p", now, NULL, 300});
  lv_router_add(r, (lv_route){LV_HTTP_POST, "/l", later, NULL, 300});
  lv_router_add(r, (lv_route){LV_HTTP_GET, "/l", later, NULL, 0});
  lv_router_add(r, (lv_route){LV_HTTP_GET, "/big", large, NULL, 0});
  lv_http_server_init(&s, r, &conf);
  s.head_max = 1024;
  s.target_max = 200;
  return &s;
}

/* ---- the run ---- */

/* The kernel takes everything that is queued. */
static void drain(peer *p) {
  struct iovec iov[16];
  int n;
  bool had = p->c.outq.bytes > 0;
  if (p->c.state == DEAD) return;
  while ((n = lv_outq_iov(&p->c.outq, iov, 16)) > 0) {
    uint32_t total = 0;
    for (int i = 0; i < n; i++) {
      if (p->out_cap - p->out_n < iov[i].iov_len) {
        p->out_cap = 2 * (p->out_cap + iov[i].iov_len);
        p->out = realloc(p->out, p->out_cap);
        CHECK(p->out != NULL);
      }
      memcpy(p->out + p->out_n, iov[i].iov_base, iov[i].iov_len);
      p->out_n += iov[i].iov_len;
      total += (uint32_t)iov[i].iov_len;
    }
    lv_outq_consume(&p->c.outq, total, NULL, NULL);
  }
  if (had && p->c.want_drain && p->c.state == OPEN) {
    p->c.want_drain = 0;
    p->c.ops->on_drain(&p->c);
  }
}

static void answer(peer *p) {
  while (p->n_later) lv_http_answer_text(p->later[--p->n_later], 200, "later");
}

static void offer(peer *p) {
  lv_conn *c = &p->c;
  while (p->n && c->state == OPEN && !c->paused) {
    lv_slice exact = fuzz_copy(p->buf, p->n);
    uint32_t used = c->ops->on_bytes(c, exact.p, p->n);
    fuzz_free(exact);
    CHECK(used <= p->n && (used > 0 || p->n < c->in_max || c->state != OPEN));
    memmove(p->buf, p->buf + used, p->n - used);
    p->n -= used;
    drain(p);
    if (!used) break;
  }
  CHECK(c->state != OPEN || c->paused || p->deadline); /* never without a time limit */
}

static void feed(peer *p, const uint8_t *d, size_t n) {
  while (n && p->c.state == OPEN) {
    size_t k = n < BUF - p->n ? n : BUF - p->n;
    memcpy(p->buf + p->n, d, k);
    p->n += (uint32_t)k;
    d += k;
    n -= k;
    offer(p);
    while (p->n == BUF && p->c.state == OPEN && p->n_later) {
      answer(p);
      drain(p);
      offer(p);
    }
  }
}

static peer *begin(void) {
  peer *p = calloc(1, sizeof *p);
  CHECK(p != NULL);
  p->c.loop = &p->loop;
  p->loop.wall.ns = 1000000000;
  lv_outq_init(&p->c.outq);
  CHECK(lv_http_on_accept(&p->c, (void *)(uintptr_t)server()) == 0);
  return p;
}

static void settle(peer *p) {
  while (p->n_later && p->c.state == OPEN) {
    answer(p);
    drain(p);
    offer(p);
  }
  drain(p);
}

static void end(peer *p) {
  p->c.ops->on_close(&p->c, 0);
  answer(p); /* into the void */
  lv_outq_done(&p->c.outq);
  free(p->out);
  free(p);
}

static void drop_continues(peer *p) {
  static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
  size_t k = sizeof text - 1, to = 0;
  for (size_t i = 0; i < p->out_n;) {
    if (p->out_n - i >= k && memcmp(p->out + i, text, k) == 0)
      i += k;
    else
      p->out[to++] = p->out[i++];
  }
  p->out_n = to;
}

static void in_pieces(peer *p, uint8_t seed, const uint8_t *data, size_t n) {
  uint32_t rnd = seed * 2654435761u + 1;
  for (size_t at = 0; at < n && p->c.state == OPEN;) {
    rnd = rnd * 1664525u + 1013904223u;
    size_t k = seed ? 1 + (rnd >> 24) % (seed + 1u) : 1;
    if (k > n - at) k = n - at;
    feed(p, data + at, k);
    at += k;
    if (rnd & 0x10000) settle(p);
  }
  settle(p);
}

static void disturbed(uint8_t seed, const uint8_t *data, size_t n) {
  peer *p = begin();
  size_t cut = n * seed / 256;
  feed(p, data, cut);
  if (seed & 1 && p->c.state == OPEN) p->c.ops->on_shutdown(&p->c);
  if (seed & 2 && p->c.state == OPEN && p->deadline) p->c.ops->on_deadline(&p->c);
  if (seed & 4) settle(p);
  feed(p, data + cut, n - cut);
  if (seed & 8 && p->c.state == OPEN && !p->c.paused) (void)p->c.ops->on_eof(&p->c);
  if (seed & 16) settle(p);
  end(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  uint8_t seed = fuzz_byte(&data, &size);
  if (size > BUF / 2) return 0;
  peer *whole = begin(), *pieces = begin();
  feed(whole, data, size);
  settle(whole);
  in_pieces(pieces, seed, data, size);
  drop_continues(whole);
  drop_continues(pieces);
  CHECK(whole->c.state == pieces->c.state);
  CHECK(whole->out_n == pieces->out_n);
  CHECK(!whole->out_n || memcmp(whole->out, pieces->out, whole->out_n) == 0);
  end(whole);
  end(pieces);
  disturbed(seed, data, size);
  return 0;
}
