/* relay_conn.c: the relay's connections: accept, read, take packets apart, send. Bytes that the
 * kernel does not take are kept up to RL_OUT_BYTES_MAX; a subscriber slower than that is cut off
 * (and counted). */
#include "relay_int.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static void watch(rl_relay *rl, rl_conn *conn, int op, uint32_t events) {
  struct epoll_event ev = {.events = events, .data.ptr = conn};
  if (epoll_ctl(rl->epfd, op, conn->fd, &ev)) abort();
}

void rl_accept(rl_relay *rl) {
  for (int i = 0; i < 64; i++) {
    int fd = accept4(rl->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    rl_conn *conn = calloc(1, sizeof *conn);
    if (!conn) abort();
    conn->fd = fd;
    watch(rl, conn, EPOLL_CTL_ADD, EPOLLIN);
  }
}

/* The object stays until the end of the turn: lists of the turn may still name it. */
void rl_conn_close(rl_relay *rl, rl_conn *conn) {
  if (conn->dead) return;
  conn->dead = true;
  (void)close(conn->fd);
  rl->closed = rl_grow(rl->closed, &rl->closed_cap, rl->closed_n + 1, sizeof(rl_conn *));
  rl->closed[rl->closed_n++] = conn;
}

void rl_conns_reap(rl_relay *rl) {
  for (uint32_t i = 0; i < rl->closed_n; i++) {
    rl_conn *conn = rl->closed[i];
    rl_unsubscribe_all(rl, conn);
    free(conn->in.p), free(conn->out.p), free(conn->ack.p);
    free(conn);
  }
  rl->closed_n = 0;
}

void rl_conn_send(rl_relay *rl, rl_conn *conn, const uint8_t *p, size_t n) {
  ssize_t sent = 0;
  if (n == 0) return;
  if (conn->out.n == conn->out_off) {
    sent = send(conn->fd, p, n, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
      rl_conn_close(rl, conn);
      return;
    }
    if (sent < 0) sent = 0;
    if ((size_t)sent == n) return;
  }
  if (conn->out.n - conn->out_off > RL_OUT_BYTES_MAX) {
    rl->overflowed++;
    rl_conn_close(rl, conn);
    return;
  }
  rl_bytes_add(&conn->out, p + sent, n - (size_t)sent);
  if (!conn->epollout) watch(rl, conn, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
  conn->epollout = true;
}

static void flush(rl_relay *rl, rl_conn *conn) {
  ssize_t sent =
      send(conn->fd, conn->out.p + conn->out_off, conn->out.n - conn->out_off, MSG_NOSIGNAL);
  if (sent < 0) {
    if (errno != EAGAIN && errno != EINTR) rl_conn_close(rl, conn);
    return;
  }
  conn->out_off += (size_t)sent;
  if (conn->out_off < conn->out.n) return;
  conn->out.n = conn->out_off = 0;
  watch(rl, conn, EPOLL_CTL_MOD, EPOLLIN);
  conn->epollout = false;
}

/* Acknowledgements wait for the end of the turn, when the messages are written. */
static void answer(rl_relay *rl, rl_conn *conn, const void *p, size_t n) {
  rl_bytes_add(&conn->ack, p, n);
  if (conn->dirty) return;
  conn->dirty = true;
  rl->dirty = rl_grow(rl->dirty, &rl->dirty_cap, rl->dirty_n + 1, sizeof(rl_conn *));
  rl->dirty[rl->dirty_n++] = conn;
}

static int on_connect(rl_relay *rl, rl_conn *conn, const lg_frame *f) {
  if (f->n < 10 || memcmp(f->body, "\0\4MQTT", 6) != 0) return -1;
  conn->v5 = f->body[6] == 5;
  if (conn->v5)
    answer(rl, conn, "\x20\3\0\0\0", 5);
  else
    answer(rl, conn, "\x20\2\0\0", 4);
  return 0;
}

static int on_subscribe(rl_relay *rl, rl_conn *conn, const lg_frame *f) {
  const uint8_t *p = f->body, *end = p + f->n;
  if (f->n < 3) return -1;
  uint8_t codes[4096], head[8] = {LG_SUBACK << 4};
  uint32_t n = 0;
  p += 2;
  if (conn->v5) p += 1u + *p; /* properties shorter than 128 bytes */
  while (p + 3 <= end && n < sizeof codes) {
    uint32_t name_n = (uint32_t)(p[0] << 8 | p[1]);
    if ((size_t)(end - p) < name_n + 3) return -1;
    uint8_t qos = p[2 + name_n] & 1;
    rl_subscribe(rl, rl_topic_get(rl, p + 2, name_n), conn, qos);
    codes[n++] = qos;
    p += name_n + 3;
  }
  uint32_t rest = 2 + (conn->v5 ? 1 : 0) + n, at = 1;
  if (rest > 127)
    head[at++] = (uint8_t)(rest | 0x80), head[at++] = (uint8_t)(rest >> 7);
  else
    head[at++] = (uint8_t)rest;
  head[at++] = f->body[0], head[at++] = f->body[1];
  if (conn->v5) head[at++] = 0;
  answer(rl, conn, head, at);
  answer(rl, conn, codes, n);
  return 0;
}

static int on_packet(rl_relay *rl, rl_conn *conn, const lg_frame *f) {
  lg_pub_in pub;
  uint8_t ack[4];
  switch (f->type) {
  case LG_PUBLISH:
    if (lg_publish_decode(f, conn->v5, &pub) || pub.qos > 1) return -1;
    rl_publish(rl, &pub);
    if (pub.qos) answer(rl, conn, ack, lg_ack_encode(ack, LG_PUBACK, pub.pid));
    return 0;
  case LG_PUBACK: return 0;
  case LG_CONNECT: return on_connect(rl, conn, f);
  case LG_SUBSCRIBE: return on_subscribe(rl, conn, f);
  case LG_PINGREQ: answer(rl, conn, "\xd0\0", 2); return 0;
  default: return -1;
  }
}

static void receive(rl_relay *rl, rl_conn *conn) {
  size_t kept = conn->in.n, used = 0;
  rl_bytes_room(&rl->scratch, kept + RL_IN_BYTES);
  if (kept) memcpy(rl->scratch.p, conn->in.p, kept);
  ssize_t got = recv(conn->fd, rl->scratch.p + kept, RL_IN_BYTES, 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    rl_conn_close(rl, conn);
    return;
  }
  size_t n = kept + (size_t)got;
  for (;;) {
    lg_frame f;
    int64_t cut = lg_frame_cut(rl->scratch.p + used, n - used, &f);
    if (cut == 0) break;
    if (cut < 0 || on_packet(rl, conn, &f)) {
      rl_conn_close(rl, conn);
      return;
    }
    used += (size_t)cut;
  }
  conn->in.n = 0;
  if (used < n) rl_bytes_add(&conn->in, rl->scratch.p + used, n - used);
}

void rl_conn_event(rl_relay *rl, rl_conn *conn, uint32_t events) {
  if (conn->dead) return;
  if (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) receive(rl, conn);
  if ((events & EPOLLOUT) && !conn->dead) flush(rl, conn);
}
