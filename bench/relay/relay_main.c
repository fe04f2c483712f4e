/* relay_main.c: options and loop of the bare relay (see relay_int.h). Prints `ready PORT` once it
 * listens, and on SIGTERM one JSON line with what it carried, wrote and broke. */
#include "relay_int.h"
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
    "usage: lavva-relay [--port N] [--file PATH [--sync] [--file-size BYTES]] [FAULTS]\n"
    "\n"
    "The least that relays MQTT: one thread, exact topics, QoS 0 and 1, no sessions, no rights.\n"
    "The floor that bench/run puts beside every server. 127.0.0.1 only.\n"
    "\n"
    "  --port N          listen there (0: a free port, the default; `ready PORT` tells)\n"
    "  --file PATH       write each turn's messages there, in one write, before acks and "
    "deliveries\n"
    "  --sync            and fdatasync it\n"
    "  --file-size N     write the file once beforehand and go round in it, instead of growing it\n"
    "faults, to check the load generator's books (their counts are printed at the end):\n"
    "  --drop N          drop every Nth message        --dup N   send every Nth message twice\n"
    "  --swap N          swap every Nth message with the next one of its topic\n"
    "  --delay MS        deliver that much later\n";

static volatile sig_atomic_t stopping;

static void on_signal(int sig) {
  (void)sig;
  stopping = 1;
}

static uint64_t number(const char *name, const char *v) {
  char *end;
  errno = 0;
  unsigned long long n = strtoull(v, &end, 10);
  if (errno == 0 && end != v && *end == 0) return n;
  (void)fprintf(stderr, "lavva-relay: --%s %s: a number is wanted\n", name, v);
  exit(64);
}

typedef struct options {
  uint64_t port, file_size;
  const char *file;
  bool sync;
} options;

static void parse(int argc, char **argv, options *o, rl_faults *fa) {
  static const struct option longs[] = {{"port", 1, NULL, 'p'}, {"file", 1, NULL, 'f'},
                                        {"sync", 0, NULL, 's'}, {"file-size", 1, NULL, 'z'},
                                        {"drop", 1, NULL, 'd'}, {"dup", 1, NULL, 'u'},
                                        {"swap", 1, NULL, 'w'}, {"delay", 1, NULL, 'l'},
                                        {"help", 0, NULL, 'h'}, {NULL, 0, NULL, 0}};
  for (int c; (c = getopt_long(argc, argv, "h", longs, NULL)) != -1;) {
    switch (c) {
    case 'p': o->port = number("port", optarg); break;
    case 'f': o->file = optarg; break;
    case 's': o->sync = true; break;
    case 'z': o->file_size = number("file-size", optarg); break;
    case 'd': fa->drop = number("drop", optarg); break;
    case 'u': fa->dup = number("dup", optarg); break;
    case 'w': fa->swap = number("swap", optarg); break;
    case 'l': fa->delay_ns = (int64_t)number("delay", optarg) * 1000000; break;
    case 'h': (void)fputs(usage, stdout); exit(0);
    default: exit(64);
    }
  }
}

static int listen_on(rl_relay *rl, uint64_t port) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  int on = 1;
  rl->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  (void)setsockopt(rl->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (rl->listen_fd < 0 || bind(rl->listen_fd, (struct sockaddr *)&at, sizeof at) ||
      listen(rl->listen_fd, 4096) || getsockname(rl->listen_fd, (struct sockaddr *)&at, &size)) {
    char why[80];
    (void)fprintf(stderr, "lavva-relay: port %llu: %s\n", (unsigned long long)port,
                  strerror_r(errno, why, sizeof why));
    return -1;
  }
  struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
  if (epoll_ctl(rl->epfd, EPOLL_CTL_ADD, rl->listen_fd, &ev)) return -1;
  (void)printf("ready %u\n", ntohs(at.sin_port));
  return fflush(stdout);
}

static void loop(rl_relay *rl) {
  struct epoll_event ev[1024];
  int64_t due_ns = INT64_MAX;
  while (!stopping) {
    int64_t wait_ns = 100000000;
    if (due_ns != INT64_MAX && due_ns - rl_now_ns() < wait_ns) wait_ns = due_ns - rl_now_ns();
    if (wait_ns < 0) wait_ns = 0;
    struct timespec ts = {0, wait_ns};
    int n = epoll_pwait2(rl->epfd, ev, 1024, &ts, NULL);
    for (int i = 0; i < n; i++) {
      if (ev[i].data.ptr)
        rl_conn_event(rl, ev[i].data.ptr, ev[i].events);
      else
        rl_accept(rl);
    }
    if (n == 0 && due_ns == INT64_MAX) rl_held_flush(rl);
    rl_turn_end(rl);
    due_ns = rl->faults.delay_ns ? rl_delayed_run(rl, rl_now_ns()) : INT64_MAX;
    rl_conns_reap(rl);
  }
}

int main(int argc, char **argv) {
  static rl_relay rl;
  options o = {0};
  parse(argc, argv, &o, &rl.faults);
  struct rlimit lim;
  (void)getrlimit(RLIMIT_NOFILE, &lim);
  lim.rlim_cur = lim.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &lim);
  (void)prctl(PR_SET_TIMERSLACK, 1UL);
  struct sigaction sa = {.sa_handler = on_signal};
  (void)sigaction(SIGTERM, &sa, NULL);
  (void)sigaction(SIGINT, &sa, NULL);
  rl.store.fd = -1;
  rl.epfd = epoll_create1(EPOLL_CLOEXEC);
  if (o.file && rl_store_open(&rl.store, o.file, o.file_size, o.sync)) return 74;
  if (rl.epfd < 0 || listen_on(&rl, o.port)) return 69;
  loop(&rl);
  (void)printf("{\"in\":%llu,\"out\":%llu,\"dropped\":%llu,\"doubled\":%llu,\"swapped\":%llu,"
               "\"overflowed\":%llu,\"writes\":%llu,\"syncs\":%llu,\"bytes\":%llu}\n",
               (unsigned long long)rl.in, (unsigned long long)rl.out,
               (unsigned long long)rl.dropped, (unsigned long long)rl.doubled,
               (unsigned long long)rl.swapped, (unsigned long long)rl.overflowed,
               (unsigned long long)rl.store.writes, (unsigned long long)rl.store.syncs,
               (unsigned long long)rl.store.bytes);
  return 0;
}
