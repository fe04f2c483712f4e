/* hub_conn.c: sockets of lavva-hubload: dialling, reading, the idle connections' TLS. */
#include "hub_int.h"
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { REST_NS = 1000000 };

int64_t hu_now_ns(void) {
  struct timespec ts;
  (void)clock_gettime(CLOCK_MONOTONIC, &ts);
  return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static const struct addrinfo *server(const hu_run *run) {
  static struct addrinfo *found;
  struct addrinfo want = {.ai_socktype = SOCK_STREAM};
  if (!found && getaddrinfo(run->opt.host, run->opt.port, &want, &found)) exit(69);
  return found;
}

void hu_drop(hu_run *run, hu_conn *conn, const char *why) {
  if (conn->state == HU_DOWN) return;
  if (conn->state == HU_READY) {
    run->ready--;
    run->down++;
  } else {
    run->opening--;
    run->failed++;
  }
  if (!run->error[0])
    (void)snprintf(run->error, sizeof run->error, "%s %u: %s",
                   conn->pub ? "publisher" : "subscriber", conn->index, why);
  (void)close(conn->fd);
  conn->fd = -1;
  conn->state = HU_DOWN;
  conn->busy = false;
  conn->in_n = 0;
}

static int epoll_of(const hu_run *run, const hu_conn *conn) {
  return conn->pub || conn->watched ? run->epfd : run->epfd_rest;
}

bool hu_dial(hu_run *run, hu_conn *conn) {
  const struct addrinfo *to = server(run);
  int on = 1;
  conn->fd = socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (conn->fd < 0) abort();
  (void)setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  conn->state = HU_DIALING;
  run->opening++;
  struct epoll_event ev = {.events = EPOLLOUT, .data.ptr = conn};
  if ((connect(conn->fd, to->ai_addr, to->ai_addrlen) && errno != EINPROGRESS) ||
      epoll_ctl(epoll_of(run, conn), EPOLL_CTL_ADD, conn->fd, &ev)) {
    hu_drop(run, conn, "connect");
    return false;
  }
  return true;
}

static void connected(hu_run *run, hu_conn *conn) {
  int eno = 0;
  socklen_t size = sizeof eno;
  (void)getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &eno, &size);
  struct epoll_event ev = {.events = EPOLLIN, .data.ptr = conn};
  if (eno || epoll_ctl(epoll_of(run, conn), EPOLL_CTL_MOD, conn->fd, &ev)) {
    hu_drop(run, conn, eno == ECONNREFUSED ? "refused" : "connect");
    return;
  }
  conn->state = HU_OPENING;
  if (conn->pub) {
    conn->state = HU_READY;
    run->opening--;
    run->ready++;
    return;
  }
  size_t n = hu_request_put(run, conn, run->out);
  if (send(conn->fd, run->out, n, MSG_NOSIGNAL) != (ssize_t)n) hu_drop(run, conn, "send");
}

static void readable(hu_run *run, hu_conn *conn) {
  size_t kept = conn->in_n;
  if (kept) memcpy(run->in, conn->in, kept);
  ssize_t got = recv(conn->fd, run->in + kept, HU_IN_BYTES, 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    hu_drop(run, conn, got ? "connection reset" : "closed by the server");
    return;
  }
  size_t n = kept + (size_t)got;
  int64_t used = hu_take(run, conn, run->in, n);
  if (used < 0 || conn->state == HU_DOWN) {
    hu_drop(run, conn, "what the server sent is malformed, or a refusal");
    return;
  }
  conn->in_n = (uint32_t)(n - (size_t)used);
  if (conn->in_n == 0) return;
  if (conn->in_n > HU_IN_BYTES) {
    hu_drop(run, conn, "a message larger than any expected");
    return;
  }
  if (conn->in_n > conn->in_cap) {
    conn->in_cap = conn->in_n * 2;
    conn->in = realloc(conn->in, conn->in_cap);
    if (!conn->in) abort();
  }
  memcpy(conn->in, run->in + used, conn->in_n);
}

static int handle(hu_run *run, int epfd, int most, int64_t wait_ns) {
  struct epoll_event ev[HU_EVENTS];
  struct timespec ts = {wait_ns / 1000000000, wait_ns % 1000000000};
  int n = epoll_pwait2(epfd, ev, most, &ts, NULL);
  for (int i = 0; i < n; i++) {
    hu_conn *conn = ev[i].data.ptr;
    if (conn->state == HU_DIALING)
      connected(run, conn);
    else if (conn->state != HU_DOWN)
      readable(run, conn);
  }
  return n;
}

/* The two sets are polled in turn rather than one inside the other, which would add to what a send
 * of the server's costs: who is watched tells that there is something for the others, too, and now
 * and then they are looked at without. */
void hu_poll(hu_run *run, int64_t wait_ns) {
  bool open = run->opt.rate_per_s > 0;
  if (wait_ns < 0) wait_ns = 0;
  if (run->opt.watch && wait_ns > REST_NS) wait_ns = REST_NS;
  int n = handle(run, run->epfd, open ? 64 : HU_EVENTS, run->rest_due ? 0 : wait_ns);
  if (!run->opt.watch) return;
  if (n > 0 || !run->rest_due)
    run->rest_due = true;
  else
    run->rest_due = handle(run, run->epfd_rest, 16, 0) > 0;
}

bool hu_connect_all(hu_run *run, uint32_t from, uint32_t to) {
  uint32_t failed = run->failed, want = run->ready + to - from;
  int64_t end_ns = hu_now_ns() + 60000000000;
  while (run->ready < want && run->failed == failed && hu_now_ns() < end_ns) {
    while (from < to && run->opening < run->opt.connecting_max)
      (void)hu_dial(run, &run->conns[from++]);
    hu_poll(run, 100000000);
  }
  return run->ready == want;
}

/* ---- idle connections: one after the other, blocking; TLS state is thrown away afterwards ---- */

static int blocking_connect(const hu_run *run) {
  const struct addrinfo *to = server(run);
  int fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct timeval limit = {10, 0};
  if (fd < 0) return -1;
  (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (connect(fd, to->ai_addr, to->ai_addrlen) == 0) return fd;
  (void)close(fd);
  return -1;
}

static bool upgrade(hu_run *run, int fd, SSL *ssl) {
  static const hu_conn nobody;
  size_t n = hu_request_put(run, &nobody, run->out), have = 0;
  int sent = ssl ? SSL_write(ssl, run->out, (int)n) : (int)send(fd, run->out, n, MSG_NOSIGNAL);
  if (sent != (int)n) return false;
  while (have < HU_IN_BYTES && !memmem(run->in, have, "\r\n\r\n", 4)) {
    int got = ssl ? SSL_read(ssl, run->in + have, (int)(HU_IN_BYTES - have))
                  : (int)recv(fd, run->in + have, HU_IN_BYTES - have, 0);
    if (got <= 0) return false;
    have += (size_t)got;
  }
  return have > 12 && memcmp(run->in, "HTTP/1.1 101", 12) == 0;
}

int hu_idle_open(hu_run *run) {
  static SSL_CTX *ctx;
  int fd = blocking_connect(run);
  SSL *ssl = NULL;
  if (fd < 0) return -1;
  if (run->opt.tls) {
    if (!ctx) ctx = SSL_CTX_new(TLS_client_method());
    ssl = ctx ? SSL_new(ctx) : NULL;
    if (!ssl || SSL_set_fd(ssl, fd) != 1 || SSL_connect(ssl) != 1) {
      SSL_free(ssl);
      (void)close(fd);
      return -1;
    }
  }
  bool open = upgrade(run, fd, ssl);
  if (ssl) SSL_free(ssl);
  if (open) return fd;
  (void)close(fd);
  return -1;
}
