/* net_test.c: the rig of net_test.h. */
#include "net_test.h"
#include "core/log.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { WAIT_S = 20 };

void tp_init(tp *t) {
  pthread_condattr_t attr;
  memset(t, 0, sizeof *t);
  pthread_mutex_init(&t->lock, NULL);
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&t->changed, &attr);
  t->in_max = 1 << 20;
  t->out_max = 1 << 20;
}

void tp_wait(tp *t, const uint64_t *v, uint64_t n) {
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += WAIT_S;
  int rc = 0;
  pthread_mutex_lock(&t->lock);
  while (*v < n && rc == 0) rc = pthread_cond_timedwait(&t->changed, &t->lock, &until);
  uint64_t got = *v;
  pthread_mutex_unlock(&t->lock);
  if (got < n) fail_msg("waited for %lu, have %lu", (unsigned long)n, (unsigned long)got);
}

static void add(tp *t, uint64_t *v, uint64_t n) {
  pthread_mutex_lock(&t->lock);
  *v += n;
  pthread_cond_broadcast(&t->changed);
  pthread_mutex_unlock(&t->lock);
}

static uint32_t be32(const uint8_t *p) {
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void send_copy(lv_conn *c, const uint8_t *p, uint32_t n) {
  while (n) {
    uint32_t k = n < 16384 ? n : 16384;
    memcpy(lv_outq_put(&c->outq, k, k == n, c->loop->now), p, k);
    p += k;
    n -= k;
  }
  lv_conn_dirty(c);
}

static void send_many(lv_conn *c, uint32_t n) {
  lv_block *b = lv_block_new(LV_BLOCK_SIZE);
  for (uint32_t i = 0; i < b->cap; i++) b->data[i] = (uint8_t)(i * 7);
  while (n) {
    uint32_t k = n < b->cap ? n : b->cap;
    lv_outq_ref(&c->outq, b, b->data, k, 1, c->loop->now);
    n -= k;
  }
  lv_block_unref(b);
  lv_conn_dirty(c);
}

static void on_frame(lv_conn *c, const uint8_t *p, uint32_t n) {
  switch (p[0]) {
  case 'E': send_copy(c, p - 4, n + 4); break;
  case 'P': lv_conn_pause(c, LV_PAUSE_BROKER); break;
  case 'C':
    if (n > 1) send_copy(c, p + 1, n - 1);
    lv_conn_close(c, LV_E_PROTOCOL, true);
    break;
  case 'X': lv_conn_close(c, LV_E_FORBIDDEN, false); break;
  case 'W':
    c->want_drain = 1;
    send_many(c, be32(p + 1));
    break;
  case 'S': send_many(c, be32(p + 1)); break;
  case 'D': lv_conn_deadline(c, LV_MS(30)); break;
  default: break;
  }
}

static uint32_t on_bytes(lv_conn *c, const uint8_t *p, uint32_t n) {
  tp *t = c->data;
  uint32_t used = 0, frames = 0;
  while (n - used >= 4 && !c->paused && !lv_conn_closing(c)) {
    uint32_t len = be32(p + used);
    if (n - used - 4 < len) {
      c->want = len + 4;
      break;
    }
    on_frame(c, p + used + 4, len);
    used += 4 + len;
    frames++;
  }
  pthread_mutex_lock(&t->lock);
  t->calls++;
  t->frames += frames;
  t->bytes += used;
  pthread_cond_broadcast(&t->changed);
  pthread_mutex_unlock(&t->lock);
  return used;
}

static void on_drain(lv_conn *c) {
  send_copy(c, (const uint8_t *)"\0\0\0\1d", 5);
  tp *t = c->data;
  add(t, &t->drains, 1);
}

static void on_sent(lv_conn *c, uint32_t n, lv_mono read_at, lv_use use) {
  (void)use;
  tp *t = c->data;
  assert(n > 0 && read_at.ns > 0);
  add(t, &t->sent_msgs, n);
}

static void on_deadline(lv_conn *c) {
  tp *t = c->data;
  add(t, &t->deadlines, 1);
  lv_conn_close(c, LV_E_TIMEOUT, true);
}

static void on_close(lv_conn *c, int err) {
  tp *t = c->data;
  assert(lv_conn_closing(c));
  pthread_mutex_lock(&t->lock);
  t->closes++;
  t->close_err = err;
  t->unsent += lv_outq_unsent(&c->outq, NULL);
  t->per_loop[c->loop->index]--;
  pthread_cond_broadcast(&t->changed);
  pthread_mutex_unlock(&t->lock);
}

static bool on_eof(lv_conn *c) {
  tp *t = c->data;
  add(t, &t->eofs, 1);
  return t->keep_on_eof;
}

static void on_shutdown(lv_conn *c) {
  tp *t = c->data;
  if (!t->bye_on_shutdown) return;
  send_copy(c, (const uint8_t *)"bye", 3);
  lv_conn_close(c, LV_E_SHUTDOWN, true);
}

static const lv_conn_ops tp_ops = {.name = "test",
                                   .gauge = LV_G_CONNS_MQTT,
                                   .on_bytes = on_bytes,
                                   .on_drain = on_drain,
                                   .on_sent = on_sent,
                                   .on_deadline = on_deadline,
                                   .on_close = on_close,
                                   .on_shutdown = on_shutdown,
                                   .on_eof = on_eof};

static int tp_on_accept(lv_conn *c, void *arg) {
  tp *t = arg;
  socklen_t n = sizeof(int);
  if (t->refuse) return LV_E_BUSY;
  c->ops = &tp_ops;
  c->data = t;
  c->in_max = t->in_max;
  c->out_max = t->out_max;
  lv_slice cn = lv_conn_cert_cn(c), san = lv_conn_cert_san(c);
  pthread_mutex_lock(&t->lock);
  (void)getsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &t->nodelay, &n);
  (void)getsockopt(c->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &t->user_timeout, &n);
  snprintf(t->peer, sizeof t->peer, "%s", lv_conn_peer(c));
  snprintf(t->cn, sizeof t->cn, "%.*s", (int)cn.n, (const char *)cn.p);
  snprintf(t->san, sizeof t->san, "%.*s", (int)san.n, (const char *)san.p);
  t->accepted++;
  t->per_loop[c->loop->index]++;
  t->last = c;
  pthread_cond_broadcast(&t->changed);
  pthread_mutex_unlock(&t->lock);
  return 0;
}

void rig_init(rig *r, int n_loops) {
  memset(r, 0, sizeof *r);
  tp_init(&r->tp);
  r->n_loops = n_loops;
  r->listens[0] = (lv_listen){.proto = LV_PROTO_MQTT, .host = LV_SLICE("127.0.0.1")};
  r->conf.listens = r->listens;
  r->conf.n_listens = 1;
  r->conf.connect_timeout_ms = 5000;
  for (int i = 0; i < n_loops; i++) {
    assert_int_equal(lv_loop_new(i, &r->loops[i]), 0);
    assert_int_equal(lv_loop_start(r->loops[i], NULL, NULL), 0);
  }
}

int rig_try_open(rig *r) {
  lv_accept accept[LV_PROTO_COUNT];
  for (int i = 0; i < LV_PROTO_COUNT; i++) accept[i] = (lv_accept){tp_on_accept, &r->tp};
  return lv_net_open(r->loops, r->n_loops, &r->conf, accept, &r->net, r->why);
}

void rig_open(rig *r) {
  int rc = rig_try_open(r);
  if (rc) fail_msg("lv_net_open: %s: %s", lv_err_name(rc), r->why);
}

void rig_close(rig *r) {
  if (r->net) (void)lv_net_shutdown(r->net, 0);
  for (int i = 0; i < r->n_loops; i++) lv_loop_stop(r->loops[i]);
  lv_net_free(r->net);
  for (int i = 0; i < r->n_loops; i++) lv_loop_free(r->loops[i]);
}

static void do_resume(lv_loop *loop, void *arg) {
  (void)loop;
  lv_conn_resume(arg, LV_PAUSE_BROKER);
}

void rig_resume(rig *r) {
  lv_loop_call_wait(r->tp.last->loop, do_resume, r->tp.last);
}

static void do_nothing(lv_loop *loop, void *arg) {
  (void)loop;
  (void)arg;
}

void rig_sync(rig *r) {
  for (int i = 0; i < r->n_loops; i++) lv_loop_call_wait(r->loops[i], do_nothing, NULL);
}

int dial(uint16_t port) {
  struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(port)};
  struct timeval limit = {.tv_sec = WAIT_S};
  sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
  assert_true(fd >= 0);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (connect(fd, (struct sockaddr *)&sin, sizeof sin)) fail_msg("connect: %s", lv_strerror(errno));
  return fd;
}

int dial_rig(const rig *r) {
  return dial(lv_net_port(r->net, 0));
}

void put(int fd, const void *p, size_t n) {
  const char *s = p;
  while (n) {
    ssize_t k = send(fd, s, n, MSG_NOSIGNAL);
    if (k <= 0) fail_msg("send: %s", lv_strerror(errno));
    s += k;
    n -= (size_t)k;
  }
}

void get(int fd, void *p, size_t n) {
  char *s = p;
  while (n) {
    ssize_t k = recv(fd, s, n, 0);
    if (k <= 0) fail_msg("recv: %s", k ? lv_strerror(errno) : "end");
    s += k;
    n -= (size_t)k;
  }
}

long get_end(int fd, uint8_t *p, size_t max) {
  size_t have = 0;
  for (;;) {
    ssize_t k = recv(fd, p + have, max - have, 0);
    if (k < 0 && (errno == ECONNRESET || errno == EPIPE)) return -1;
    if (k < 0) fail_msg("recv: %s", lv_strerror(errno));
    if (k == 0) return (long)have;
    have += (size_t)k;
    assert_true(have < max);
  }
}

uint8_t *make_frame(char type, uint32_t n, size_t *ret_n) {
  uint8_t *f = malloc(n + 5);
  assert_non_null(f);
  uint32_t len = htonl(n + 1);
  memcpy(f, &len, 4);
  f[4] = (uint8_t)type;
  for (uint32_t i = 0; i < n; i++) f[5 + i] = (uint8_t)(i * 31 + i / 251);
  *ret_n = n + 5;
  return f;
}

void put_frame(int fd, char type, const void *p, uint32_t n) {
  size_t total;
  uint8_t *f = make_frame(type, n, &total);
  if (p && n) memcpy(f + 5, p, n);
  put(fd, f, total);
  free(f);
}
