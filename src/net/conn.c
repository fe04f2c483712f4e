/* conn.c: the life of a connection: opening, the end-of-turn flush, pausing, deadlines, closing.
 *
 *   PREFACE ──▶ OPEN ──close(flush)──▶ FLUSHING ──sent──▶ LINGER ──peer's FIN, 2 s──▶ free
 *      └──────────┴──────close──────▶ CLOSE ─────────────────────────────────────────▶ free
 *
 * on_close runs between FLUSHING and LINGER, or out of CLOSE, always from the flush hook; so never
 * inside lv_conn_close, and a protocol holds nothing while the peer takes its time. LINGER exists
 * because close() with unread bytes in the socket sends a RST, and a RST makes the peer's kernel
 * throw away what it has not read: our DISCONNECT, our 413.
 *
 * The dirty list gathers connections that have something to send, to re-offer, or to end; the hook
 * takes the list once a round. After an EPOLLERR the socket is watched no more; what the peer had
 * sent before its RST is still readable and is read first (`broken`): a device that publishes and
 * vanishes has published.
 *
 * Connections are not libuv handles: a uv_poll_t is 160 bytes, plus 8 in each loop's table of
 * descriptors, as much as all the rest of an idle connection; and each change of interest costs two
 * system calls. Each loop has an epoll set of its own, which libuv watches as one descriptor: one
 * more epoll_wait a turn, with up to 256 events.
 *
 * Pausing is lazy: epoll is only told when bytes arrive while paused.
 *
 * @thread loop */
#include "conn_int.h"
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

static_assert(sizeof(lv_conn) <= 160, "an idle connection is 160 bytes");
enum { EVENTS_MAX = 256 };
static_assert(LV__READ_MAX + LV__IN_SMALL <= LV_SCRATCH_SIZE, "kept bytes go before a read");

static void on_ready(uv_poll_t *poll, int status, int events);
static void flush_hook(lv_loop *loop, void *arg);

static inline lv_conn *conn_check(lv_conn *c) {
  assert(c->magic == LV__CONN_MAGIC);
  return c;
}

static lv_conn *of_timer(lv_timer *t) {
  return conn_check((lv_conn *)((char *)t - offsetof(lv_conn, timer)));
}

/* ---- per-loop state ---- */

void lv__netloop_init(lv__netloop *nl, lv_loop *loop, struct lv_net *net, int epfd) {
  *nl = (lv__netloop){.magic = LV__NETLOOP_MAGIC, .loop = loop, .net = net, .reserve_fd = -1};
  nl->dirty_tail = &nl->dirty;
  nl->hook = (lv_hook){.run = flush_hook, .arg = nl};
  lv_loop_hook(loop, LV_PHASE_FLUSH, &nl->hook);
  nl->epfd = epfd;
  int rc = uv_poll_init(&loop->uv, &nl->poll, nl->epfd);
  if (!rc) rc = uv_poll_start(&nl->poll, UV_READABLE, on_ready);
  assert(rc == 0);
}

static void on_poll_closed(uv_handle_t *handle) {
  lv__netloop *nl = (lv__netloop *)((char *)handle - offsetof(lv__netloop, poll));
  assert(nl->magic == LV__NETLOOP_MAGIC);
  if (atomic_fetch_sub(&nl->closing, 1) == 1) lv__net_idle(nl->net);
}

void lv__netloop_close(lv__netloop *nl) {
  assert(lv_loop_here(nl->loop) && nl->live == 0 && nl->draining);
  atomic_fetch_add(&nl->closing, 1);
  uv_close((uv_handle_t *)&nl->poll, on_poll_closed);
  close(nl->epfd);
  nl->epfd = -1;
}

void lv__netloop_done(lv__netloop *nl) {
  assert(nl->magic == LV__NETLOOP_MAGIC && nl->live == 0);
  while (nl->slabs) {
    lv__slab *s = nl->slabs;
    nl->slabs = s->next;
    free(s);
  }
  if (nl->reserve_fd >= 0) close(nl->reserve_fd);
  nl->magic = 0;
}

static lv_conn *slab_take(lv__netloop *nl) {
  if (!nl->unused) {
    lv__slab *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->next = nl->slabs;
    nl->slabs = s;
    for (int i = LV__SLAB_CONNS - 1; i >= 0; i--) {
      s->conns[i].magic = LV__CONN_FREE_MAGIC;
      s->conns[i].dirty_next = nl->unused;
      nl->unused = &s->conns[i];
    }
  }
  lv_conn *c = nl->unused;
  assert(c->magic == LV__CONN_FREE_MAGIC);
  nl->unused = c->dirty_next;
  nl->live++;
  return c;
}

/* One connection fewer; tells who waits for the last one. */
static void forget(lv__netloop *nl) {
  uint32_t before = atomic_fetch_sub(&nl->open, 1);
  assert(before > 0);
  if (nl->draining && before == 1 && nl->net) lv__net_idle(nl->net);
}

static void slab_put(lv__netloop *nl, lv_conn *c) {
  c->magic = LV__CONN_FREE_MAGIC;
  c->state = LV__FREE;
  c->dirty_next = nl->unused;
  nl->unused = c;
  assert(nl->live > 0);
  nl->live--;
  forget(nl);
}

/* ops NULL: its protocol has not begun. */
static void gauge_conn(lv_conn *c, const lv_conn_ops *ops, int by) {
  uint32_t tls = c->listener->ctx != NULL;
  lv_gauge(c->loop->metrics, ops ? (enum lv_gauge)(ops->gauge + tls) : LV_G_CONNS_NEW, by);
}

/* ---- opening ---- */

lv_conn *lv__conn_open(lv_listener *l, int fd) {
  lv__netloop *nl = l->nl;
  assert(lv_loop_here(nl->loop));
  lv_conn *c = nl->draining ? NULL : slab_take(nl);
  if (!c) {
    close(fd);
    forget(nl);
    return NULL;
  }
  uint32_t gen = c->gen + 1;
  memset(c, 0, sizeof *c);
  c->gen = gen;
  c->magic = LV__CONN_MAGIC;
  c->loop = nl->loop;
  c->listener = l;
  c->fd = fd;
  c->in_max = 64 * 1024;
  lv_outq_init(&c->outq);
  c->state = LV__PREFACE;
  lv_count(lv__listener_kpi(c->listener), LV_C_CONN_OPENED, 1);
  lv_gauge(c->loop->metrics, LV_G_CONNS_NEW, 1);
  if (l->proxy || l->ctx) {
    lv_conn_deadline(c, LV_MS(l->preface_ms));
    lv__conn_poll(c);
  } else {
    (void)lv__conn_accepted(c);
  }
  return c;
}

bool lv__conn_accepted(lv_conn *c) {
  lv_listener *l = c->listener;
  assert(c->state == LV__PREFACE);
  lv_conn_deadline(c, (lv_dur){-1});
  c->in_max = 0;
  c->state = LV__OPEN;
  int rc = l->accept.on_accept(c, l->accept.arg);
  if (rc < 0) {
    c->ops = NULL;
    lv_count(lv__listener_kpi(c->listener), LV_C_CONN_REFUSED, 1);
    lv_conn_close(c, rc, false);
    return false;
  }
  assert(c->ops && c->ops->on_bytes && c->ops->on_close && c->in_max > 0);
  lv_gauge(c->loop->metrics, LV_G_CONNS_NEW, -1);
  gauge_conn(c, c->ops, 1);
  lv__conn_poll(c);
  return true;
}

void lv_conn_switch(lv_conn *c, const lv_conn_ops *ops, void *data) {
  conn_check(c);
  assert(c->state == LV__OPEN && c->ops && ops);
  gauge_conn(c, c->ops, -1);
  gauge_conn(c, ops, 1);
  c->ops = ops;
  c->data = data;
  if (c->in && !c->paused) {
    c->reoffer = 1;
    if (!c->dirty) lv__conn_dirty(c);
  }
}

/* ---- watching ---- */

/* Nothing to wait for: out of the set, as EPOLLERR and EPOLLHUP cannot be masked. */
static void watch(lv_conn *c, unsigned want) {
  struct epoll_event ev = {
      .events = (want & LV__RD ? EPOLLIN : 0u) | (want & LV__WR ? EPOLLOUT : 0u), .data.ptr = c};
  if (want == c->interest) return;
  int op = !want ? EPOLL_CTL_DEL : c->interest ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
  int rc = epoll_ctl(c->listener->nl->epfd, op, c->fd, &ev);
  assert(rc == 0 || errno == ENOMEM || errno == ENOSPC);
  if (rc == 0)
    c->interest = want & 3;
  else
    lv_conn_close(c, lv_err_from_errno(errno), false); /* lingering: the timer ends it */
}

void lv__conn_poll(lv_conn *c) {
  bool rd = false, wr = false;
  switch (c->state) {
  case LV__PREFACE:
    wr = c->tls_want_write;
    rd = !wr;
    break;
  case LV__OPEN:
    rd = !c->eof && !c->paused;
    wr = c->writable_wait || c->tls_want_write;
    break;
  case LV__FLUSHING:
    rd = !c->eof && !c->no_more;
    wr = c->writable_wait;
    break;
  case LV__LINGER: rd = !c->no_more; break;
  default: break;
  }
  watch(c, c->broken ? 0 : (rd ? LV__RD : 0u) | (wr ? LV__WR : 0u));
}

static void teardown(lv_conn *c);

/* The socket reported an error. */
static void on_broken(lv_conn *c) {
  c->broken = 1;
  watch(c, 0);
  switch (c->state) {
  case LV__PREFACE: lv_conn_close(c, -ECONNRESET, false); break;
  case LV__OPEN:
    if (!c->reoffer) lv__conn_read_rest(c);
    break;
  case LV__FLUSHING: lv_conn_close(c, -ECONNRESET, false); break;
  case LV__LINGER: teardown(c); break;
  default: break;
  }
}

static void on_event(lv_conn *c, uint32_t events) {
  conn_check(c);
  if (events & EPOLLERR) {
    on_broken(c);
    return;
  }
  if (events & EPOLLHUP) events |= EPOLLIN | EPOLLOUT; /* whichever it waits for tells */
  events &= (c->interest & LV__RD ? EPOLLIN : 0u) | (c->interest & LV__WR ? EPOLLOUT : 0u);
  bool retry = c->tls_want_write && (events & EPOLLOUT);
  if (events & EPOLLOUT) {
    c->tls_want_write = 0;
    if (c->writable_wait) {
      c->writable_wait = 0;
      lv_conn_dirty(c);
    }
  }
  if (!(events & EPOLLIN) && !retry) return;
  switch (c->state) {
  case LV__PREFACE: lv__preface(c); break;
  case LV__OPEN:
    if (c->paused || c->eof)
      lv__conn_poll(c);
    else if (!c->reoffer)
      lv__conn_readable(c); /* else kept bytes come first; the event comes again */
    if (retry) lv__conn_poll(c);
    break;
  case LV__FLUSHING: lv__conn_discard(c); break;
  case LV__LINGER:
    lv__conn_discard(c);
    if (c->eof) teardown(c);
    break;
  default: break;
  }
}

static void on_ready(uv_poll_t *poll, int status, int events) {
  lv__netloop *nl = (lv__netloop *)((char *)poll - offsetof(lv__netloop, poll));
  struct epoll_event ev[EVENTS_MAX];
  assert(nl->magic == LV__NETLOOP_MAGIC && status == 0);
  (void)events;
  lv_loop_io(nl->loop);
  /* No connection is freed in here but the one whose event it is, and none is opened. */
  int n = epoll_wait(nl->epfd, ev, EVENTS_MAX, 0);
  for (int i = 0; i < n; i++) on_event(ev[i].data.ptr, ev[i].events);
}

void lv_conn_pause(lv_conn *c, enum lv_pause why) {
  conn_check(c);
  if (!c->paused && (why & (LV_PAUSE_BROKER | LV_PAUSE_RATE)))
    lv_count(c->loop->metrics, LV_C_READ_PAUSED, 1);
  c->paused |= (uint8_t)why;
}

void lv_conn_resume(lv_conn *c, enum lv_pause why) {
  conn_check(c);
  if (!(c->paused & why)) return;
  c->paused &= (uint8_t)~why;
  if (c->paused || c->state != LV__OPEN) return;
  if (c->in || c->ssl || c->broken || c->held) {
    c->reoffer = 1;
    if (!c->dirty) lv__conn_dirty(c);
  }
  lv__conn_poll(c);
}

/* ---- deadlines ---- */

static void on_timer(lv_timer *t) {
  lv_conn *c = of_timer(t);
  switch (c->state) {
  case LV__OPEN:
    if (c->ops->on_deadline)
      c->ops->on_deadline(c);
    else
      lv_conn_close(c, LV_E_TIMEOUT, false);
    break;
  case LV__PREFACE: lv_conn_close(c, LV_E_TIMEOUT, false); break;
  case LV__FLUSHING: lv_conn_close(c, c->close_err, false); break;
  case LV__LINGER: teardown(c); break;
  default: break;
  }
}

static void arm(lv_conn *c, lv_dur delay) {
  lv_timer_arm(&c->loop->wheel, &c->timer, c->loop->now, delay, on_timer);
}

void lv_conn_deadline(lv_conn *c, lv_dur delay) {
  conn_check(c);
  if (c->state > LV__OPEN) return;
  if (delay.ns < 0)
    lv_timer_cancel(&c->loop->wheel, &c->timer);
  else
    arm(c, delay);
}

/* ---- closing ---- */

bool lv_conn_closing(const lv_conn *c) {
  return c->state > LV__OPEN;
}

void lv_conn_close(lv_conn *c, int err, bool flush) {
  conn_check(c);
  assert(lv_loop_here(c->loop) && err > INT16_MIN && err <= 0);
  if (c->state > LV__FLUSHING || (c->state == LV__FLUSHING && flush)) return;
  if (c->state != LV__FLUSHING) c->close_err = (int16_t)err;
  flush = flush && c->state == LV__OPEN && !c->broken;
  c->state = flush ? LV__FLUSHING : LV__CLOSE;
  if (flush) {
    c->want = 0; /* from now on: bytes discarded */
    arm(c, LV_MS(LV__FLUSH_MS));
  }
  if (!c->dirty) lv__conn_dirty(c);
}

static void count_end(lv_conn *c) {
  switch (c->close_err) {
  case LV_E_TIMEOUT:
  case LV_E_KEEP_ALIVE: lv_count(lv__listener_kpi(c->listener), LV_C_CONN_TIMEOUT, 1); break;
  case LV_E_MALFORMED:
  case LV_E_PROTOCOL:
  case LV_E_VERSION:
  case LV_E_TOO_BIG:
  case LV_E_TOPIC_ALIAS:
  case LV_E_RECEIVE_MAX: lv_count(lv__listener_kpi(c->listener), LV_C_CONN_PROTOCOL, 1); break;
  default: break;
  }
  lv_count(lv__listener_kpi(c->listener), LV_C_CONN_CLOSED, 1);
}

/* The gauge of waiting bytes counts connections whose kernel buffer is full, as they were when they
 * were last flushed, to an eighth: a byte of memory each, and it is zero again at rest. */
static uint32_t mark_bytes(uint8_t mark) {
  return mark < 8 ? mark : (8u + mark % 8) << (mark / 8 - 1);
}

static uint8_t mark_of(uint32_t bytes) {
  if (bytes < 8) return (uint8_t)bytes;
  uint32_t shift = 28 - (uint32_t)__builtin_clz(bytes); /* the leading bit becomes bit 3 */
  return (uint8_t)((shift + 1) * 8 + (bytes >> shift) - 8);
}

static void gauge_out(lv_conn *c, uint32_t bytes) {
  uint8_t mark = mark_of(bytes);
  if (mark == c->out_mark) return;
  lv_gauge(c->loop->metrics, LV_G_OUT_BYTES,
           (int64_t)mark_bytes(mark) - (int64_t)mark_bytes(c->out_mark));
  c->out_mark = mark;
}

/* The protocol's end: on_close, and everything it had queued. */
static void end_protocol(lv_conn *c) {
  c->state = LV__LINGER; /* nothing can mark it dirty any more */
  count_end(c);
  const lv_conn_ops *ops = c->ops;
  gauge_conn(c, ops, -1);
  if (ops) ops->on_close(c, c->close_err);
  c->ops = NULL;
  c->data = NULL;
  if (c->out_mark) gauge_out(c, 0);
  lv_outq_done(&c->outq);
  free(c->in);
  c->in = NULL;
}

static void teardown(lv_conn *c) {
  assert(c->state == LV__LINGER && !c->dirty);
  lv_timer_cancel(&c->loop->wheel, &c->timer);
  lv__tls_free(c);
  if (c->peer) {
    free(c->peer->cn);
    free(c->peer->san);
    free(c->peer);
    c->peer = NULL;
  }
  close(c->fd); /* and out of the epoll set */
  c->fd = -1;
  slab_put(c->listener->nl, c);
}

/* All is sent: say goodbye, then wait for the peer to read it. */
static void finish_flush(lv_conn *c) {
  uint32_t discarded = c->want;
  end_protocol(c);
  c->want = discarded;
  if (c->ssl) {
    lv__tls_bye(c);
    lv__tls_free(c);
  }
  (void)shutdown(c->fd, SHUT_WR);
  if (c->eof || c->broken || c->listener->nl->cut) {
    teardown(c);
    return;
  }
  arm(c, LV_MS(LV__LINGER_MS));
  lv__conn_poll(c);
}

/* ---- the end of the turn ---- */

void lv__conn_dirty(lv_conn *c) {
  lv__netloop *nl = c->listener->nl;
  conn_check(c);
  assert(!c->dirty && lv_loop_here(nl->loop));
  if (c->state >= LV__LINGER) return;
  c->dirty = 1;
  c->dirty_next = NULL;
  *nl->dirty_tail = c;
  nl->dirty_tail = &c->dirty_next;
}

bool lv_conn_may_send_now(const lv_conn *c) {
  return c->state == LV__OPEN && !c->ssl && !c->ops->on_flush && c->outq.bytes == 0 &&
         !(c->dirty | c->writable_wait | c->above | c->reoffer | c->broken | c->want_drain) &&
         !c->out_mark;
}

void lv_conn_send_now(lv_conn *c) {
  assert(!c->dirty && !c->writable_wait && lv_loop_here(c->loop));
  /* What is left, and an error, which the next attempt brings again, is the flush's. */
  if (lv__conn_send(c) || c->outq.bytes) lv__conn_dirty(c);
}

static void drained(lv_conn *c) {
  if (c->state != LV__OPEN) return;
  bool low = c->above && c->outq.bytes < c->out_max / 4;
  if (!low && !(c->want_drain && c->outq.bytes == 0)) return;
  c->above = 0;
  c->want_drain = 0;
  if (c->ops->on_drain) c->ops->on_drain(c);
}

static void send_queue(lv_conn *c) {
  void (*on_flush)(lv_conn *, bool) = c->ops->on_flush;
  if (on_flush) on_flush(c, false);
  if (c->outq.bytes > c->out_max && c->out_max) c->above = 1;
  int rc = c->ssl ? lv__tls_send(c) : lv__conn_send(c);
  if (on_flush) on_flush(c, true);
  if (rc < 0 && c->state == LV__OPEN && rc != LV_E_PROTOCOL) {
    /* The peer is gone; what it had sent before is read first. */
    c->broken = 1;
    c->reoffer = 1;
    lv__conn_poll(c);
    if (!c->dirty) lv__conn_dirty(c);
  } else if (rc < 0) {
    c->broken = 1;
    lv_conn_close(c, rc, false);
  } else {
    drained(c);
  }
}

static void flush_one(lv_conn *c) {
  conn_check(c);
  if (c->reoffer) {
    c->reoffer = 0;
    if (c->state == LV__OPEN) {
      lv__conn_reoffer(c);
      lv_loop_again(c->loop); /* what came of it has to be submitted */
    }
  }
  c->dirty = 0;
  if (c->reoffer && c->state == LV__OPEN) lv__conn_dirty(c); /* there is still more */
  bool sending = c->state == LV__OPEN || c->state == LV__FLUSHING;
  if (sending && c->outq.bytes && !c->writable_wait && !c->broken) send_queue(c);
  if (c->writable_wait || c->out_mark) gauge_out(c, c->writable_wait ? c->outq.bytes : 0);
  if (c->dirty && c->state != LV__OPEN) return; /* it is on the list again */
  if (c->state == LV__FLUSHING && c->outq.bytes == 0) {
    finish_flush(c);
  } else if (c->state == LV__CLOSE) {
    end_protocol(c);
    teardown(c);
  } else if (c->state == LV__FLUSHING || c->writable_wait != !!(c->interest & LV__WR)) {
    lv__conn_poll(c);
  }
}

/* A thousand connections of a fan-out are cold when their turn comes, since the kernel's work for
 * the others lies between: what the next one needs is fetched while this one sends. */
static void fetch_next(const lv_conn *c) {
  const lv_conn *after = c->dirty_next;
  __builtin_prefetch(c->outq.head);
  __builtin_prefetch(c->data);
  if (!after) return;
  __builtin_prefetch(after);
  __builtin_prefetch(&after->outq);
  __builtin_prefetch(&after->out_mark);
}

static void flush_hook(lv_loop *loop, void *arg) {
  lv__netloop *nl = arg;
  lv_conn *c = nl->dirty;
  assert(nl->magic == LV__NETLOOP_MAGIC);
  if (!c) return;
  nl->dirty = NULL;
  nl->dirty_tail = &nl->dirty;
  while (c) {
    lv_conn *next = c->dirty_next;
    if (next) fetch_next(next);
    flush_one(c);
    c = next;
  }
  if (nl->dirty) lv_loop_again(loop);
}

/* ---- shutdown ---- */

static void drain_one(lv_conn *c, bool cut) {
  if (c->state == LV__PREFACE || (c->state == LV__OPEN && cut))
    lv_conn_close(c, LV_E_SHUTDOWN, false);
  else if (c->state == LV__OPEN && c->ops->on_shutdown)
    c->ops->on_shutdown(c);
  else if (c->state == LV__OPEN)
    lv_conn_close(c, LV_E_SHUTDOWN, true);
  else if (cut && c->state == LV__FLUSHING)
    lv_conn_close(c, LV_E_SHUTDOWN, false);
  else if (cut && c->state == LV__LINGER)
    teardown(c);
}

uint32_t lv__netloop_drain(lv__netloop *nl, bool cut) {
  uint32_t n = 0;
  assert(lv_loop_here(nl->loop));
  nl->draining = true;
  nl->cut = cut;
  for (lv__slab *s = nl->slabs; s; s = s->next)
    for (int i = 0; i < LV__SLAB_CONNS; i++) {
      lv_conn *c = &s->conns[i];
      if (c->magic != LV__CONN_MAGIC) continue;
      n += c->state < LV__LINGER;
      drain_one(c, cut);
    }
  return n;
}

/* ---- the peer ---- */

static struct lv_conn_peer *peer_of(lv_conn *c) {
  conn_check(c);
  if (c->peer) return c->peer;
  lv__addr a = {.len = sizeof a.sa};
  struct lv_conn_peer *peer = calloc(1, sizeof *peer);
  if (!peer) abort();
  if (c->fd < 0 || getpeername(c->fd, (struct sockaddr *)&a.sa, &a.len))
    memcpy(peer->text, "gone", 5); /* reset by the peer before anybody asked */
  else
    lv__addr_text(&a, peer->text, sizeof peer->text);
  return c->peer = peer;
}

static struct lv_conn_peer *names_of(lv_conn *c) {
  struct lv_conn_peer *peer = peer_of(c);
  if (!peer->names && c->ssl) lv__tls_names(c, peer);
  peer->names = true;
  return peer;
}

const char *lv_conn_peer(lv_conn *c) {
  return peer_of(c)->text;
}

static lv_slice text_or_empty(const char *s) {
  return s ? lv_slice_str(s) : LV_SLICE("");
}

lv_slice lv_conn_cert_cn(lv_conn *c) {
  return c->ssl || c->peer ? text_or_empty(names_of(c)->cn) : LV_SLICE("");
}

lv_slice lv_conn_cert_san(lv_conn *c) {
  return c->ssl || c->peer ? text_or_empty(names_of(c)->san) : LV_SLICE("");
}
