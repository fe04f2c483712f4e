/* conn.c: sockets of the load generator: dialling, reading, writing. Level-triggered epoll, one
 * read and at most one send per connection and turn; a connection owns a buffer only for a cut
 * packet or for bytes that the kernel did not take, and gives it back when it grew large. */
#include "load_int.h"
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PORTS_PER_ADDRESS = 20000, KEEP_BYTES = 4096, RETRY_NS = 50000000 };

int64_t lg_now_ns(void) {
  struct timespec ts;
  (void)clock_gettime(CLOCK_MONOTONIC, &ts);
  return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static const struct addrinfo *server_addr(lg_run *run) {
  static struct addrinfo *found;
  if (found) return found;
  struct addrinfo want = {.ai_socktype = SOCK_STREAM};
  int err = getaddrinfo(run->opt.host, run->opt.port, &want, &found);
  if (!err) return found;
  (void)fprintf(stderr, "lavva-load: %s:%s: %s\n", run->opt.host, run->opt.port, gai_strerror(err));
  exit(69);
}

/* More connections than one source address has ports: on loopback there are more addresses. */
static void bind_source(const struct addrinfo *to, int fd, uint32_t index) {
  if (to->ai_family != AF_INET || index < PORTS_PER_ADDRESS) return;
  struct sockaddr_in from = *(const struct sockaddr_in *)(const void *)to->ai_addr;
  uint32_t host = ntohl(from.sin_addr.s_addr);
  if (host >> 24 != 127) return;
  from.sin_addr.s_addr = htonl((127u << 24) + 1 + index / PORTS_PER_ADDRESS);
  from.sin_port = 0;
  int on = 1;
  (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  (void)bind(fd, (const struct sockaddr *)&from, sizeof from);
}

static void note_error(lg_run *run, const lg_conn *conn, const char *why) {
  static const char *const roles[] = {"subscriber", "publisher", "idle connection"};
  if (run->first_error[0]) return;
  (void)snprintf(run->first_error, sizeof run->first_error, "%s %u: %s", roles[conn->role],
                 conn->index, why);
}

static void watch(lg_run *run, lg_conn *conn, int op, uint32_t events) {
  struct epoll_event ev = {.events = events, .data.ptr = conn};
  if (epoll_ctl(run->epfd, op, conn->fd, &ev)) abort();
}

static void want(lg_run *run, lg_conn *conn, bool out, bool deaf) {
  if (conn->epollout == out && conn->deaf == deaf) return;
  conn->epollout = out;
  conn->deaf = deaf;
  watch(run, conn, EPOLL_CTL_MOD, (deaf ? 0u : EPOLLIN) | (out ? EPOLLOUT : 0u));
}

static void want_out(lg_run *run, lg_conn *conn, bool on) {
  want(run, conn, on, conn->deaf);
}

/* --reconnect: the connection is to come back; what it owned of the old one is forgotten. */
static void soft_kill(lg_run *run, lg_conn *conn) {
  if (conn->state == LG_READY) {
    run->ready--;
    run->broke++;
  } else
    run->connecting--;
  if (conn->fd >= 0) (void)close(conn->fd);
  conn->fd = -1;
  conn->state = LG_NEW;
  conn->returning = 1;
  conn->in_n = conn->out_n = conn->out_off = conn->subacks_due = 0;
  conn->ping_ns = lg_now_ns();
  run->down++;
}

void lg_conns_tick(lg_run *run) {
  uint32_t refill = (uint32_t)(run->opt.slow_bytes_per_s / 10);
  for (uint64_t i = 0; i < run->opt.slow && i < run->opt.subs; i++) {
    lg_conn *conn = &run->conns[i];
    conn->budget = refill; /* what was not used is forfeit: no bursts */
    if (conn->fd >= 0 && conn->state == LG_READY) want(run, conn, conn->epollout, false);
  }
  if (run->phase != LG_MEASURE && run->phase != LG_WARMUP) return;
  run->churn_due += (double)run->opt.churn_per_s / 10;
  for (; run->churn_due >= 1; run->churn_due -= 1) {
    lg_conn *conn = &run->conns[(uint32_t)(lg_random(run) * (double)run->conn_n) % run->conn_n];
    if (conn->state == LG_READY) lg_conn_kill(run, conn, "cut off");
  }
}

void lg_conns_return(lg_run *run, int64_t now_ns) {
  for (uint32_t i = 0; run->down && i < run->conn_n; i++) {
    lg_conn *conn = &run->conns[i];
    if (conn->state != LG_NEW || !conn->returning) continue;
    if (now_ns - conn->ping_ns < RETRY_NS || run->connecting >= run->opt.connecting_max) continue;
    run->down--;
    (void)lg_conn_dial(run, conn);
  }
}

void lg_conn_kill(lg_run *run, lg_conn *conn, const char *why) {
  if (conn->state == LG_DEAD || conn->fd < 0) return;
  if (run->opt.reconnect && run->phase >= LG_SETTLING && run->phase < LG_OVER) {
    soft_kill(run, conn);
    return;
  }
  if (conn->state == LG_DIALING || conn->state == LG_GREETING || conn->state == LG_SUBSCRIBING) {
    run->connecting--;
    run->refused++;
  } else
    run->closed_early++;
  note_error(run, conn, why);
  if (conn->fd >= 0) (void)close(conn->fd);
  conn->fd = -1;
  conn->state = LG_DEAD;
  run->dead++;
}

void lg_conn_done(lg_conn *conn) {
  if (conn->fd >= 0) (void)close(conn->fd);
  conn->fd = -1;
  free(conn->in), free(conn->out);
  conn->in = conn->out = NULL;
}

int lg_conn_dial(lg_run *run, lg_conn *conn) {
  const struct addrinfo *to = server_addr(run);
  conn->state = LG_DIALING;
  run->connecting++;
  conn->fd = socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (conn->fd < 0) {
    (void)fprintf(stderr, "lavva-load: no more file descriptors: raise `ulimit -n`\n");
    exit(70);
  }
  int on = 1;
  (void)setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (conn->slow) {
    int bytes = 4096; /* what the kernel would take for it, it did not read */
    (void)setsockopt(conn->fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
  }
  bind_source(to, conn->fd, (uint32_t)(conn - run->conns));
  if (connect(conn->fd, to->ai_addr, to->ai_addrlen) && errno != EINPROGRESS) {
    char why[80];
    lg_conn_kill(run, conn, strerror_r(errno, why, sizeof why));
    return -1;
  }
  conn->epollout = 1;
  conn->deaf = 0;
  watch(run, conn, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
  return 0;
}

static void keep(uint8_t **buf, uint32_t *cap, uint32_t have, const uint8_t *p, size_t n) {
  if (have + n > *cap) {
    uint32_t grown = *cap ? *cap : 64;
    while (grown < have + n) grown *= 2;
    *buf = realloc(*buf, grown);
    if (!*buf) abort();
    *cap = grown;
  }
  memcpy(*buf + have, p, n);
}

void lg_conn_send(lg_run *run, lg_conn *conn, size_t n) {
  assert(n <= run->out_cap);
  if (conn->fd < 0 || n == 0) return;
  ssize_t sent = 0;
  if (conn->out_n == 0) {
    sent = send(conn->fd, run->out, n, MSG_NOSIGNAL);
    run->now.writes++;
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
      lg_conn_kill(run, conn, "the server closed the connection (send)");
      return;
    }
    if (sent < 0) sent = 0;
    run->now.bytes_out += (uint64_t)sent;
  }
  if ((size_t)sent == n) return;
  keep(&conn->out, &conn->out_cap, conn->out_off + conn->out_n, run->out + sent, n - (size_t)sent);
  conn->out_n += (uint32_t)(n - (size_t)sent);
  want_out(run, conn, true);
}

static void flush_kept(lg_run *run, lg_conn *conn) {
  if (conn->out_n) {
    ssize_t sent = send(conn->fd, conn->out + conn->out_off, conn->out_n, MSG_NOSIGNAL);
    run->now.writes++;
    if (sent < 0) {
      if (errno != EAGAIN && errno != EINTR) lg_conn_kill(run, conn, "the server closed (send)");
      return;
    }
    run->now.bytes_out += (uint64_t)sent;
    conn->out_off += (uint32_t)sent;
    conn->out_n -= (uint32_t)sent;
    if (conn->out_n) return;
  }
  conn->out_off = 0;
  if (conn->out_cap > KEEP_BYTES) {
    free(conn->out);
    conn->out = NULL;
    conn->out_cap = 0;
  }
  want_out(run, conn, false);
  if (conn->role == LG_PUB && conn->state == LG_READY) lg_dirty(run, conn);
}

static void greet(lg_run *run, lg_conn *conn) {
  static const char letters[] = {'s', 'p', 'i'};
  char id[128], why[80];
  int eno = 0;
  socklen_t size = sizeof eno;
  (void)getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &eno, &size);
  if (eno) {
    lg_conn_kill(run, conn, strerror_r(eno, why, sizeof why));
    return;
  }
  const lg_opts *o = &run->opt;
  if (o->id_prefix)
    (void)snprintf(id, sizeof id, "%.64s%c%u", o->id_prefix, letters[conn->role], conn->index);
  else
    (void)snprintf(id, sizeof id, "lg%08x%c%u", run->run_mark, letters[conn->role], conn->index);
  lg_connect c = {.client_id = id,
                  .user = o->user,
                  .password = o->password,
                  .v5 = o->v5,
                  .clean = !o->persistent,
                  .keep_alive_s = (uint16_t)o->keep_alive_s,
                  .expiry_s = o->v5 && o->persistent ? 3600 : 0,
                  .receive_max = o->v5 && conn->role == LG_SUB ? (uint16_t)o->receive_max : 0};
  conn->state = LG_GREETING;
  want_out(run, conn, false);
  lg_conn_send(run, conn, lg_connect_encode(run->out, &c));
}

/* Handles each whole packet in [p, p+n); returns the bytes used, -1 when the connection is over. */
static int64_t packets(lg_run *run, lg_conn *conn, const uint8_t *p, size_t n, size_t *ret_out) {
  size_t used = 0, out = 0;
  int64_t now_ns = lg_now_ns();
  for (;;) {
    lg_frame f;
    int64_t cut = lg_frame_cut(p + used, n - used, &f);
    if (cut == 0) break;
    int64_t answer = cut < 0 ? -1 : lg_handle(run, conn, &f, now_ns, run->out + out);
    if (answer < 0) {
      lg_conn_kill(run, conn, "the server sent a packet that is malformed or out of place");
      return -1;
    }
    if (conn->fd < 0) return -1;
    out += (size_t)answer;
    used += (size_t)cut;
  }
  *ret_out = out;
  return (int64_t)used;
}

static void receive(lg_run *run, lg_conn *conn) {
  size_t kept = conn->in_n, out = 0;
  if (kept) memcpy(run->in, conn->in, kept);
  if (kept >= run->in_cap) {
    lg_conn_kill(run, conn, "the server sent a packet larger than any expected");
    return;
  }
  size_t room = run->in_cap - kept;
  bool slow = conn->slow && conn->state == LG_READY && run->phase < LG_DRAIN;
  if (slow && conn->budget < room) room = conn->budget;
  if (room == 0) {
    want(run, conn, conn->epollout, true);
    return;
  }
  ssize_t got = recv(conn->fd, run->in + kept, room, 0);
  run->now.reads++;
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    lg_conn_kill(run, conn, got ? "connection reset" : "the server closed the connection");
    return;
  }
  run->now.bytes_in += (uint64_t)got;
  if (slow) conn->budget -= (uint32_t)got;
  size_t n = kept + (size_t)got;
  int64_t used = packets(run, conn, run->in, n, &out);
  if (used < 0) return;
  conn->in_n = 0;
  if ((size_t)used < n) {
    keep(&conn->in, &conn->in_cap, 0, run->in + used, n - (size_t)used);
    conn->in_n = (uint32_t)(n - (size_t)used);
  }
  lg_conn_send(run, conn, out);
}

void lg_conn_event(lg_run *run, lg_conn *conn, uint32_t events) {
  if (conn->fd < 0) return;
  if (conn->state == LG_DIALING) {
    if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) greet(run, conn);
    return;
  }
  if (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) receive(run, conn);
  if ((events & EPOLLOUT) && conn->fd >= 0) flush_kept(run, conn);
}
