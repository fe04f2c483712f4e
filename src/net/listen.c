/* listen.c: listening sockets, and where a new connection goes to live.
 *
 * Each loop has a socket of its own per address (SO_REUSEPORT), so accepting scales and no loop
 * waits for another. But the kernel spreads by a hash, and a hash is fair only in the large: ten
 * connections on two loops are 7:3 or worse one time in three, and a benchmark or a small plant is
 * exactly ten connections. So the accepting loop looks at how many each loop has, and hands the new
 * descriptor over by mail when it is itself ahead of the emptiest loop by more than an eighth (by
 * one, where there are few). Nothing was read by then: a connection still never moves. Counts are
 * raised by the acceptor, so a burst is spread as well as a trickle. One acceptor for all was
 * rejected: it is one loop's burden, and the others' queue, in a reconnect storm.
 *
 * TCP_NODELAY, keep-alive and TCP_USER_TIMEOUT are set on the listening socket; Linux hands them
 * down to accepted ones, which saves four system calls a connection. The user timeout also ends a
 * peer that keeps its receive window shut for so long.
 *
 * When descriptors run out, the reserve one is given up to accept and close what waits: a client
 * that is refused at once is better off than one that hangs in the backlog. Then a short rest.
 *
 * @thread main for the sockets, loop for accepting */
#include "conn_int.h"
#include "core/log.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { WHY = 256, BACKLOG = 4096, ACCEPTS_MAX = 64, BACKOFF_MS = 50 };
enum { KEEP_IDLE_S = 60, KEEP_EVERY_S = 15, KEEP_COUNT = 4, USER_TIMEOUT_MS = 120000 };

/* ---- addresses ---- */

static lv__addr addr_v4(uint32_t ip, uint16_t port) {
  lv__addr a = {.len = sizeof(struct sockaddr_in)};
  struct sockaddr_in *sin = (struct sockaddr_in *)&a.sa;
  *sin = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
  sin->sin_addr.s_addr = htonl(ip);
  return a;
}

static lv__addr addr_v6(struct in6_addr ip, uint16_t port) {
  lv__addr a = {.len = sizeof(struct sockaddr_in6)};
  struct sockaddr_in6 *sin = (struct sockaddr_in6 *)&a.sa;
  *sin = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = ip};
  return a;
}

void lv__addr_port_set(lv__addr *a, uint16_t port) {
  if (a->sa.ss_family == AF_INET6)
    ((struct sockaddr_in6 *)&a->sa)->sin6_port = htons(port);
  else
    ((struct sockaddr_in *)&a->sa)->sin_port = htons(port);
}

uint16_t lv__addr_port(const lv__addr *a) {
  return ntohs(a->sa.ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)&a->sa)->sin6_port
                                           : ((const struct sockaddr_in *)&a->sa)->sin_port);
}

void lv__addr_text(const lv__addr *a, char *buf, size_t size) {
  char ip[INET6_ADDRSTRLEN] = "?";
  if (a->sa.ss_family == AF_INET) {
    inet_ntop(AF_INET, &((const struct sockaddr_in *)&a->sa)->sin_addr, ip, sizeof ip);
    snprintf(buf, size, "%s:%u", ip, lv__addr_port(a));
  } else if (a->sa.ss_family == AF_INET6) {
    const struct in6_addr *in6 = &((const struct sockaddr_in6 *)&a->sa)->sin6_addr;
    bool mapped = IN6_IS_ADDR_V4MAPPED(in6);
    if (mapped)
      inet_ntop(AF_INET, in6->s6_addr + 12, ip, sizeof ip);
    else
      inet_ntop(AF_INET6, in6, ip, sizeof ip);
    snprintf(buf, size, mapped ? "%s:%u" : "[%s]:%u", ip, lv__addr_port(a));
  } else {
    snprintf(buf, size, "local");
  }
}

/* Whether this machine has IPv6 at all (containers often have not). */
static bool have_v6(void) {
  lv__addr a = addr_v6(in6addr_loopback, 0);
  int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&a.sa, a.len) == 0;
  if (fd >= 0) close(fd);
  return ok;
}

static int resolve_name(const char *name, uint16_t port, lv__addr *addrs, uint32_t *ret_n,
                        char *why) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list, *ai;
  int rc = getaddrinfo(name, NULL, &hints, &list);
  if (rc) {
    snprintf(why, WHY, "cannot listen on %.100s: %s; give an address of this machine, or * for all",
             name, rc == EAI_SYSTEM ? lv_strerror(errno) : gai_strerror(rc));
    return LV_E_CONFIG;
  }
  uint32_t n = 0;
  for (ai = list; ai && n < LV__ADDRS_MAX; ai = ai->ai_next) {
    if (ai->ai_family != AF_INET && ai->ai_family != AF_INET6) continue;
    addrs[n] = (lv__addr){.len = ai->ai_addrlen};
    memcpy(&addrs[n].sa, ai->ai_addr, ai->ai_addrlen);
    lv__addr_port_set(&addrs[n++], port);
  }
  freeaddrinfo(list);
  *ret_n = n;
  return n ? 0 : LV_E_CONFIG;
}

int lv__addr_resolve(lv_slice host, uint16_t port, lv__addr *addrs, uint32_t *ret_n, char *why) {
  if (host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
    host = lv_slice_of(host.p + 1, host.n - 2);
  if (host.n == 0 || lv_slice_eq(host, LV_SLICE("*")) || lv_slice_eq(host, LV_SLICE("::"))) {
    addrs[0] = have_v6() ? addr_v6(in6addr_any, port) : addr_v4(INADDR_ANY, port);
    *ret_n = 1;
    return 0;
  }
  if (lv_slice_caseeq(host, LV_SLICE("localhost"))) {
    addrs[0] = addr_v4(INADDR_LOOPBACK, port);
    addrs[1] = addr_v6(in6addr_loopback, port);
    *ret_n = have_v6() ? 2 : 1;
    return 0;
  }
  char *name = lv_slice_dup(host);
  int rc = resolve_name(name, port, addrs, ret_n, why);
  free(name);
  return rc;
}

/* ---- sockets ---- */

static int set_options(int fd, const lv__addr *a, bool shared) {
  int on = 1, off = 0, idle = KEEP_IDLE_S, every = KEEP_EVERY_S, count = KEEP_COUNT;
  unsigned user_ms = USER_TIMEOUT_MS;
  bool any6 = a->sa.ss_family == AF_INET6 &&
              IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)&a->sa)->sin6_addr);
  int rc = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (shared) rc |= setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  if (any6) rc |= setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  rc |= setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  rc |= setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  rc |= setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
  rc |= setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof every);
  rc |= setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
  rc |= setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_ms, sizeof user_ms);
  return rc;
}

static int bound(const lv__addr *a, bool shared, int *ret_fd) {
  int fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  if (set_options(fd, a, shared) || bind(fd, (const struct sockaddr *)&a->sa, a->len)) {
    int eno = errno;
    close(fd);
    return -eno;
  }
  *ret_fd = fd;
  return 0;
}

static void explain(const lv__addr *a, int eno, char *why) {
  char addr[64];
  lv__addr_text(a, addr, sizeof addr);
  int port = lv__addr_port(a);
  if (eno == EADDRINUSE)
    snprintf(why, WHY,
             "cannot listen on %s: another process does; stop it (`ss -ltnp sport = :%d` names "
             "it) or choose another port (0: any free one)",
             addr, port);
  else if (eno == EACCES)
    snprintf(why, WHY,
             "cannot listen on %s: permission denied; ports below 1024 need root or "
             "CAP_NET_BIND_SERVICE (`setcap cap_net_bind_service=+ep lavva`): choose a higher one",
             addr);
  else if (eno == EADDRNOTAVAIL)
    snprintf(why, WHY,
             "cannot listen on %s: this machine has no such address (`ip address` lists them; "
             "* stands for all)",
             addr);
  else
    snprintf(why, WHY, "cannot listen on %s: %s", addr, lv_strerror(eno));
}

/* SO_REUSEPORT would let two servers of one user share a port without a word. A bind without it
 * finds out first. */
static int probe(const lv__addr *a) {
  int fd, rc = bound(a, false, &fd);
  if (rc == 0) close(fd);
  return rc;
}

int lv__listen_sockets(lv__addr *addr, int *fds, int n_loops, char *why) {
  int n = 0, rc = lv__addr_port(addr) ? probe(addr) : 0;
  while (rc == 0 && n < n_loops) {
    rc = bound(addr, true, &fds[n]);
    if (rc) break;
    n++;
    if (listen(fds[n - 1], BACKLOG)) rc = -errno;
    if (lv__addr_port(addr) == 0) {
      lv__addr real = {.len = sizeof real.sa};
      if (getsockname(fds[0], (struct sockaddr *)&real.sa, &real.len)) rc = -errno;
      lv__addr_port_set(addr, lv__addr_port(&real));
    }
  }
  if (rc == 0) return 0;
  explain(addr, -rc, why);
  while (n > 0) close(fds[--n]);
  return rc == -EADDRINUSE ? LV_E_EXISTS : rc == -EACCES ? LV_E_FORBIDDEN : lv_err_from_errno(-rc);
}

/* ---- accepting ---- */

typedef struct handover {
  lv_mail mail;
  lv_listener *l;
  int fd;
} handover;

static void on_handover(lv_loop *loop, lv_mail *mail) {
  handover *h = (handover *)mail;
  assert(h->l->nl->loop == loop);
  (void)lv__conn_open(h->l, h->fd);
  free(h);
}

static void refuse(lv_listener *l, int fd) {
  lv_count(lv__listener_kpi(l), LV_C_CONN_REFUSED, 1);
  close(fd);
}

static void place(lv_listener *l, int fd) {
  lv__netloop *to = lv__net_place(l);
  if (!to) {
    lv_log(LV_WARN, "connection limit reached, refusing");
    refuse(l, fd);
    return;
  }
  atomic_fetch_add(&to->open, 1);
  if (to == l->nl) {
    (void)lv__conn_open(l, fd);
    return;
  }
  handover *h = malloc(sizeof *h);
  if (!h) abort();
  *h = (handover){.mail.run = on_handover, .l = to->listeners[l->slot], .fd = fd};
  lv_loop_post(to->loop, &h->mail);
}

static void on_listen(uv_poll_t *poll, int status, int events);

static void watch(lv_listener *l, bool on) {
  if (l->polling == on || l->closed) return;
  l->polling = on;
  int rc = on ? uv_poll_start(&l->poll, UV_READABLE, on_listen) : uv_poll_stop(&l->poll);
  assert(rc == 0);
}

static void on_backoff(lv_timer *t) {
  lv_listener *l = (lv_listener *)((char *)t - offsetof(lv_listener, backoff));
  assert(l->magic == LV__LISTENER_MAGIC);
  watch(l, true);
}

static void out_of_descriptors(lv_listener *l, int eno) {
  lv__netloop *nl = l->nl;
  lv_log(LV_ERROR, "cannot accept, refusing connections for a moment error=%s", lv_strerror(eno));
  for (int i = 0; i < ACCEPTS_MAX && nl->reserve_fd >= 0; i++) {
    close(nl->reserve_fd);
    int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) refuse(l, fd);
    nl->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd < 0) break;
  }
  if (nl->reserve_fd < 0) nl->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  watch(l, false);
  lv_timer_arm(&nl->loop->wheel, &l->backoff, nl->loop->now, LV_MS(BACKOFF_MS), on_backoff);
}

static void on_listen(uv_poll_t *poll, int status, int events) {
  lv_listener *l = (lv_listener *)poll;
  assert(l->magic == LV__LISTENER_MAGIC);
  lv_loop_io(l->nl->loop);
  if (status < 0) l->polling = false; /* libuv stopped it; start it again below */
  for (int i = 0; i < ACCEPTS_MAX; i++) {
    int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      place(l, fd);
    } else if (errno == EAGAIN) {
      break;
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      out_of_descriptors(l, errno);
      return;
    } /* else that one connection failed before it was accepted (accept(2), "Error handling") */
  }
  watch(l, true);
}

void lv__listener_start(lv_listener *l) {
  assert(l->magic == LV__LISTENER_MAGIC && lv_loop_here(l->nl->loop));
  int rc = uv_poll_init(&l->nl->loop->uv, &l->poll, l->fd);
  assert(rc == 0);
  watch(l, true);
}

static void on_closed(uv_handle_t *handle) {
  lv_listener *l = (lv_listener *)handle;
  assert(l->magic == LV__LISTENER_MAGIC);
  if (atomic_fetch_sub(&l->nl->closing, 1) == 1) lv__net_idle(l->nl->net);
}

void lv__listener_close(lv_listener *l) {
  if (l->closed) return;
  l->closed = true;
  lv_timer_cancel(&l->nl->loop->wheel, &l->backoff);
  atomic_fetch_add(&l->nl->closing, 1);
  uv_close((uv_handle_t *)&l->poll, on_closed);
  close(l->fd);
  l->fd = -1;
}
