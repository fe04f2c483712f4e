/* wsrelay.c: the floor under the hub's figures (lavva-wsrelay): the least that carries a POST's
 * body to WebSocket customers. One thread, one channel, no rights, no history.
 *
 *   turn:  read what is readable ──▶ bodies become frames in one buffer ──▶ one write (one
 *          fdatasync) of all ──▶ one send of that buffer to each customer ──▶ the answers
 *
 * A GET with a Sec-WebSocket-Key is a customer, a POST with a Content-Length a message; all else is
 * cut off. It is a yardstick, not a server: what the kernel does not take of a send is waited for
 * (customers that do not read stop everything), and a request must come in one piece. --drop N and
 * --dup N make it faulty in amounts that it tells at the end: lavva-hubload's books are checked
 * against them. */
#include "relay_int.h"
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct peer {
  int fd;
  bool customer, answer_due;
  uint32_t place; /* in customers */
} peer;

typedef struct ws_relay {
  int epfd, listen_fd;
  peer **customers, **due;
  uint32_t n_customers, cap_customers, n_due, cap_due;
  rl_bytes frames;
  rl_store store;
  uint64_t drop, dup, taken, dropped, doubled; /* every Nth message; 0: never */
  uint8_t in[RL_IN_BYTES];
} ws_relay;

static volatile sig_atomic_t stopping;

static void on_signal(int sig) {
  (void)sig;
  stopping = 1;
}

static void peer_close(ws_relay *rl, peer *p) {
  (void)close(p->fd);
  if (p->customer) {
    rl->customers[p->place] = rl->customers[--rl->n_customers];
    rl->customers[p->place]->place = p->place;
  }
  for (uint32_t i = 0; i < rl->n_due; i++)
    if (rl->due[i] == p) rl->due[i] = rl->due[--rl->n_due];
  free(p);
}

static void send_all(int fd, const void *data, size_t n) {
  for (const uint8_t *p = data; n;) {
    ssize_t k = send(fd, p, n, MSG_NOSIGNAL);
    if (k < 0 && errno != EAGAIN && errno != EINTR) return; /* its hang-up is read next */
    if (k < 0) {
      struct pollfd pf = {fd, POLLOUT, 0};
      (void)poll(&pf, 1, 1000);
      continue;
    }
    p += k;
    n -= (size_t)k;
  }
}

static void accept_some(ws_relay *rl) {
  for (int i = 0; i < 64; i++) {
    int fd = accept4(rl->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1;
    if (fd < 0) return;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    peer *p = calloc(1, sizeof *p);
    if (!p) abort();
    p->fd = fd;
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = p};
    if (epoll_ctl(rl->epfd, EPOLL_CTL_ADD, fd, &ev)) abort();
  }
}

static bool upgrade(ws_relay *rl, peer *p, const char *key) {
  char text[64], answer[256];
  uint8_t sum[SHA_DIGEST_LENGTH], accept[32];
  int n = snprintf(text, sizeof text, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
  (void)SHA1((uint8_t *)text, (size_t)n, sum);
  (void)EVP_EncodeBlock(accept, sum, sizeof sum);
  n = snprintf(answer, sizeof answer,
               "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Accept: %s\r\n\r\n",
               (char *)accept);
  send_all(p->fd, answer, (size_t)n);
  rl->customers = rl_grow(rl->customers, &rl->cap_customers, rl->n_customers + 1, sizeof(peer *));
  p->customer = true;
  p->place = rl->n_customers;
  rl->customers[rl->n_customers++] = p;
  return true;
}

static void frame(ws_relay *rl, const uint8_t *body, uint32_t n) {
  uint8_t head[4] = {0x81, n < 126 ? (uint8_t)n : 126, (uint8_t)(n >> 8), (uint8_t)n};
  rl_bytes_add(&rl->frames, head, n < 126 ? 2 : 4);
  rl_bytes_add(&rl->frames, body, n);
}

static void message(ws_relay *rl, peer *p, const uint8_t *body, uint32_t n) {
  rl->taken++;
  bool drop = rl->drop && rl->taken % rl->drop == 0, dup = rl->dup && rl->taken % rl->dup == 0;
  rl->dropped += drop;
  rl->doubled += dup && !drop;
  if (!drop) frame(rl, body, n);
  if (dup && !drop) frame(rl, body, n);
  lg_pub_in pub = {.topic = (const uint8_t *)"c", .topic_n = 1, .payload = body, .payload_n = n};
  rl_store_add(&rl->store, &pub);
  p->answer_due = true;
  rl->due = rl_grow(rl->due, &rl->cap_due, rl->n_due + 1, sizeof(peer *));
  rl->due[rl->n_due++] = p;
}

/* False: cut off. */
static bool request(ws_relay *rl, peer *p, char *text, size_t n) {
  if (p->customer) return true; /* a pong, or the close that will be followed by a hang-up */
  char *end = memmem(text, n, "\r\n\r\n", 4);
  if (!end) return false;
  *end = 0;
  const char *key = strcasestr(text, "\r\nSec-WebSocket-Key: ");
  const char *length = strcasestr(text, "\r\nContent-Length: ");
  size_t head = (size_t)(end - text) + 4;
  if (key && strlen(key) >= 45) return upgrade(rl, p, key + 21);
  unsigned long body = length ? strtoul(length + 18, NULL, 10) : 0;
  if (!body || body > 65535 || head + body > n) return false;
  message(rl, p, (uint8_t *)text + head, (uint32_t)body);
  return true;
}

static void readable(ws_relay *rl, peer *p) {
  ssize_t n = recv(p->fd, rl->in, sizeof rl->in - 1, 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n > 0) rl->in[n] = 0;
  if (n <= 0 || !request(rl, p, (char *)rl->in, (size_t)n)) peer_close(rl, p);
}

static void turn_end(ws_relay *rl) {
  static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                           "Content-Length: 2\r\n\r\n{}";
  if (!rl->n_due && !rl->frames.n) return;
  rl_store_commit(&rl->store);
  for (uint32_t i = 0; rl->frames.n && i < rl->n_customers; i++)
    send_all(rl->customers[i]->fd, rl->frames.p, rl->frames.n);
  for (uint32_t i = 0; i < rl->n_due; i++) send_all(rl->due[i]->fd, ok, sizeof ok - 1);
  rl->frames.n = rl->n_due = 0;
}

static int listen_on(ws_relay *rl, uint16_t port) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
  socklen_t size = sizeof at;
  int on = 1;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  rl->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  (void)setsockopt(rl->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
  if (rl->listen_fd < 0 || bind(rl->listen_fd, (struct sockaddr *)&at, sizeof at) ||
      listen(rl->listen_fd, 4096) || getsockname(rl->listen_fd, (struct sockaddr *)&at, &size) ||
      epoll_ctl(rl->epfd, EPOLL_CTL_ADD, rl->listen_fd, &ev))
    return -1;
  (void)printf("ready %u\n", ntohs(at.sin_port));
  return fflush(stdout);
}

int main(int argc, char **argv) {
  static ws_relay rl;
  static const struct option longs[] = {{"port", 1, NULL, 'p'}, {"file", 1, NULL, 'f'},
                                        {"sync", 0, NULL, 's'}, {"file-size", 1, NULL, 'z'},
                                        {"drop", 1, NULL, 'd'}, {"dup", 1, NULL, 'u'},
                                        {NULL, 0, NULL, 0}};
  const char *file = NULL;
  uint64_t size = 0, port = 0;
  bool sync = false;
  for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
    if (c == '?') return 64;
    if (c == 'p') port = strtoull(optarg, NULL, 10);
    if (c == 'f') file = optarg;
    if (c == 'z') size = strtoull(optarg, NULL, 10);
    if (c == 's') sync = true;
    if (c == 'd') rl.drop = strtoull(optarg, NULL, 10);
    if (c == 'u') rl.dup = strtoull(optarg, NULL, 10);
  }
  struct rlimit lim;
  (void)getrlimit(RLIMIT_NOFILE, &lim);
  lim.rlim_cur = lim.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &lim);
  struct sigaction sa = {.sa_handler = on_signal};
  (void)sigaction(SIGTERM, &sa, NULL);
  rl.store.fd = -1;
  rl.epfd = epoll_create1(EPOLL_CLOEXEC);
  if (file && rl_store_open(&rl.store, file, size, sync)) return 74;
  if (rl.epfd < 0 || listen_on(&rl, (uint16_t)port)) return 69;
  while (!stopping) {
    struct epoll_event ev[1024];
    int n = epoll_wait(rl.epfd, ev, 1024, 1000);
    for (int i = 0; i < n; i++) {
      if (ev[i].data.ptr)
        readable(&rl, ev[i].data.ptr);
      else
        accept_some(&rl);
    }
    turn_end(&rl);
  }
  (void)printf("{\"in\":%llu,\"dropped\":%llu,\"doubled\":%llu}\n", (unsigned long long)rl.taken,
               (unsigned long long)rl.dropped, (unsigned long long)rl.doubled);
  return 0;
}
