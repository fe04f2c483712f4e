/* hub_main.c: command line and report of lavva-hubload. */
#include "hub_int.h"
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

static const char usage[] =
    "usage: lavva-hubload HOST:PORT MODE [OPTIONS]\n"
    "\n"
    "Customers over WebSocket, publishers over HTTP: loads a server and keeps the books, to the\n"
    "message. Prints one JSON object.\n"
    "\n"
    "  load      --subs N customers, --pubs N publishers with one POST under way each: N is the\n"
    "            window (a message is over when it was answered and all customers have it), or\n"
    "            with --rate N messages a second by the clock. --subs 0: publishing alone\n"
    "  idle      --subs N customers that only sit there: server memory a connection\n"
    "  snapshot  publishes --messages N, then --subs customers connect and are sent them\n"
    "  resume    half of the --messages live; prints `kill`, and when the server was killed and\n"
    "            started again reads `go PID`; the other half is published, the customers come\n"
    "            back with `since`, and what they are missing must come, once\n"
    "\n"
    "  --sub PATH        of the customers (/ws?channels=c&snapshot=false)\n"
    "  --pub PATH        of the publishers (/v1/channels/c/messages)\n"
    "  --subs N, --pubs N, --messages N, --size BYTES (128), --rate N\n"
    "  --watch N         latency from N of the customers, which are read first (0: from all)\n"
    "  --warmup S (1), --duration S (5), --settle S (0.3), --drain S (3)\n"
    "  --connecting N    connects under way at once (128)\n"
    "  --tls             idle: through TLS\n"
    "  --once            an Idempotency-Key with every POST\n"
    "  --server-pid PID  whose CPU and memory are read (may be repeated)\n"
    "\n"
    "Exit codes: 0 pass; 1 lost, doubled or reordered; 3 connections broke; 4 the generator was\n"
    "late: void; 64 bad arguments; 69 the server could not be reached or refused.\n";

static _Noreturn void bad(const char *what) {
  (void)fprintf(stderr, "lavva-hubload: %s (see --help)\n", what);
  exit(64);
}

static double number(const char *v, double most) {
  char *end;
  double d = strtod(v, &end);
  if (end == v || *end || !(d >= 0 && d <= most)) bad(v);
  return d;
}

static void option(hu_opts *o, int c, const char *v) {
  switch (c) {
  case 'S': o->sub_path = v; break;
  case 'P': o->pub_path = v; break;
  case 's': o->subs = (uint32_t)number(v, 1e6); break;
  case 'p': o->pubs = (uint32_t)number(v, 1000); break;
  case 'm': o->messages = (uint32_t)number(v, 1e6); break;
  case 'z': o->size = (uint32_t)number(v, HU_SIZE_MAX); break;
  case 'r': o->rate_per_s = number(v, 1e6); break;
  case 'w': o->warmup_s = number(v, 1e5); break;
  case 'd': o->duration_s = number(v, 1e5); break;
  case 'e': o->settle_s = number(v, 1e5); break;
  case 'D': o->drain_s = number(v, 1e5); break;
  case 'c': o->connecting_max = (uint32_t)number(v, 1e5); break;
  case 'W': o->watch = (uint32_t)number(v, 1e6); break;
  case 't': o->tls = true; break;
  case 'o': o->once = true; break;
  case 'i':
    if (o->n_pids == HU_PIDS_MAX) bad("too many --server-pid");
    o->pids[o->n_pids++] = (pid_t)number(v, 1e8);
    break;
  case 'h': (void)fputs(usage, stdout); exit(0);
  default: exit(64);
  }
}

static void parse(int argc, char **argv, hu_opts *o) {
  static const struct option longs[] = {
      {"sub", 1, NULL, 'S'},    {"pub", 1, NULL, 'P'},      {"subs", 1, NULL, 's'},
      {"pubs", 1, NULL, 'p'},   {"messages", 1, NULL, 'm'}, {"size", 1, NULL, 'z'},
      {"rate", 1, NULL, 'r'},   {"warmup", 1, NULL, 'w'},   {"duration", 1, NULL, 'd'},
      {"settle", 1, NULL, 'e'}, {"drain", 1, NULL, 'D'},    {"connecting", 1, NULL, 'c'},
      {"tls", 0, NULL, 't'},    {"once", 0, NULL, 'o'},     {"server-pid", 1, NULL, 'i'},
      {"watch", 1, NULL, 'W'},  {"help", 0, NULL, 'h'},     {NULL, 0, NULL, 0}};
  static const char *const modes[] = {"load", "idle", "snapshot", "resume"};
  for (int c; (c = getopt_long(argc, argv, "h", longs, NULL)) != -1;) option(o, c, optarg);
  if (argc - optind != 2) bad("HOST:PORT and a mode are wanted");
  char *colon = strrchr(argv[optind], ':');
  if (!colon) bad("HOST:PORT is wanted");
  *colon = 0;
  o->host = argv[optind];
  o->port = colon + 1;
  uint32_t m = 0;
  while (m < 4 && strcmp(argv[optind + 1], modes[m]) != 0) m++;
  if (m == 4) bad("no such mode");
  o->mode = (hu_mode)m;
  if (o->mode != HU_LOAD) o->pubs = o->mode == HU_IDLE ? 0 : 1;
  if (o->watch > o->subs) bad("--watch is more than --subs");
  if (o->size < HU_SIZE_MIN) bad("--size is too small");
}

static void *zeroed(size_t n, size_t size) {
  void *p = calloc(n ? n : 1, size);
  if (!p) abort();
  return p;
}

static void setup(hu_run *run) {
  const hu_opts *o = &run->opt;
  struct rlimit lim;
  (void)getrlimit(RLIMIT_NOFILE, &lim);
  lim.rlim_cur = lim.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &lim);
  (void)prctl(PR_SET_TIMERSLACK, 1UL);
  run->epfd = epoll_create1(EPOLL_CLOEXEC);
  run->epfd_rest = epoll_create1(EPOLL_CLOEXEC);
  if (run->epfd < 0 || run->epfd_rest < 0 || getrandom(&run->run_mark, sizeof run->run_mark, 0) < 0)
    abort();
  (void)snprintf(run->head, sizeof run->head, "{\"r\":\"%08x\",\"p\":\"", run->run_mark);
  run->conns = zeroed(o->subs + o->pubs, sizeof *run->conns);
  run->streams = zeroed(o->pubs, sizeof *run->streams);
  run->rows = zeroed((size_t)o->subs * o->pubs, sizeof *run->rows);
  run->in = zeroed(2, HU_IN_BYTES);
  if (o->mode == HU_RESUME) run->pos = zeroed(o->subs, sizeof *run->pos);
  for (uint32_t i = 0; i < o->subs + o->pubs; i++) {
    hu_conn *conn = &run->conns[i];
    conn->fd = -1;
    conn->pub = i >= o->subs;
    conn->index = conn->pub ? i - o->subs : i;
    uint64_t watch = o->watch ? o->watch : o->subs;
    conn->watched = !conn->pub && (i + 1ull) * watch / o->subs > i * watch / o->subs;
    if (!conn->pub) conn->rows = run->rows + (size_t)i * o->pubs;
  }
}

typedef unsigned long long ull;

static void json_hist(const char *name, const lg_hist *h) {
  (void)printf("\"%s\":{\"count\":%llu,\"p50\":%lld,\"p90\":%lld,\"p99\":%lld,\"p999\":%lld,"
               "\"max\":%lld},",
               name, (ull)h->count, (long long)lg_hist_quantile(h, 0.5),
               (long long)lg_hist_quantile(h, 0.9), (long long)lg_hist_quantile(h, 0.99),
               (long long)lg_hist_quantile(h, 0.999), (long long)h->max_ns);
}

static void report(const hu_run *run, int code, double late) {
  const hu_opts *o = &run->opt;
  double s = (double)(run->end_ns - run->start_ns) / 1e9;
  uint64_t sent = run->at_end.sent - run->at_start.sent;
  uint64_t acked = run->at_end.acked - run->at_start.acked;
  uint64_t received = run->at_end.received - run->at_start.received;
  double m = (double)(o->subs ? received : acked) / 1e6;
  double cpu = run->use1.cpu_s - run->use0.cpu_s, self = run->self1 - run->self0;
  uint64_t lost = run->lost.prefix + run->lost.middle + run->lost.tail;
  (void)printf("{\"seconds\":%.6f,\"sent\":%llu,\"acked\":%llu,\"delivered\":%llu,", s, (ull)sent,
               (ull)acked, (ull)received);
  (void)printf("\"delivered_per_s\":%.1f,", s > 0 ? m * 1e6 / s : 0);
  json_hist("latency_ns", o->subs ? &run->latency : &run->ack_latency);
  json_hist("ack_latency_ns", &run->ack_latency);
  json_hist("lateness_ns", &run->lateness);
  (void)printf("\"lost\":%llu,\"duplicated\":%llu,\"reordered\":%llu,\"unexpected\":%llu,"
               "\"corrupt\":%llu,\"other\":%llu,\"gaps\":%llu,\"nacked\":%llu,\"held_up\":%llu,"
               "\"written_off\":%llu,\"connected\":%u,\"caught_up\":%u,\"repeated\":%u,",
               (ull)lost, (ull)run->ledger.duplicated, (ull)run->ledger.reordered, (ull)run->nacked,
               (ull)run->corrupt, (ull)run->other, (ull)run->gaps, (ull)run->nacked,
               (ull)run->held_up, (ull)run->written_off, run->ready, run->caught_up, run->repeated);
  if (o->mode == HU_RESUME)
    (void)printf("\"up_s\":%.4f,\"publish_s\":%.4f,\"catch_up_s\":%.4f,\"total_s\":%.4f,",
                 run->times[0], run->times[1], run->times[2], run->times[3]);
  (void)printf("\"server\":{\"cpu_s\":%.3f,\"user_s\":%.3f,\"sys_s\":%.3f,"
               "\"cpu_s_per_million\":%.5f,\"rss_before\":%lld,\"rss_end\":%lld,"
               "\"rss_per_conn\":%.1f},",
               cpu, run->use1.user_s - run->use0.user_s, run->use1.sys_s - run->use0.sys_s,
               m > 0 ? cpu / m : 0, (long long)run->rss0, (long long)run->rss1,
               o->subs ? (double)(run->rss1 - run->rss0) / o->subs : 0);
  (void)printf("\"generator\":{\"cpu_s\":%.4f,\"cpu_s_per_million\":%.5f},\"late_share\":%.6f,"
               "\"void\":%s,\"first_error\":\"%s\",\"verdict\":\"%s\",\"code\":%d}\n",
               self, m > 0 ? self / m : 0, late, code == 4 ? "true" : "false", run->error,
               code == 0   ? "pass"
               : code == 1 ? "lost, doubled or reordered"
               : code == 3 ? "connections broke"
               : code == 4 ? "the generator was late: void"
                           : "the server could not be reached",
               code);
}

int main(int argc, char **argv) {
  static hu_run run;
  run.opt = (hu_opts){.sub_path = "/ws?channels=c&snapshot=false",
                      .pub_path = "/v1/channels/c/messages",
                      .pubs = 1,
                      .size = 128,
                      .messages = 1000,
                      .connecting_max = 128,
                      .warmup_s = 1,
                      .duration_s = 5,
                      .drain_s = 3,
                      .settle_s = 0.3};
  parse(argc, argv, &run.opt);
  setup(&run);
  static int (*const modes[])(hu_run *) = {hu_load_run, hu_idle_run, hu_snapshot_run,
                                           hu_resume_run};
  int code = modes[run.opt.mode](&run);
  for (uint32_t i = 0; i < run.opt.subs; i++)
    for (uint32_t p = 0; p < run.opt.pubs; p++)
      lg_ledger_lost(&run.conns[i].rows[p], run.streams[p].sent, &run.lost);
  double late = run.lateness.count
                    ? (double)lg_hist_above(&run.lateness, 1000000) / (double)run.lateness.count
                    : 0;
  bool wrong = run.lost.prefix + run.lost.middle + run.lost.tail + run.ledger.duplicated +
                   run.ledger.reordered + run.corrupt + run.gaps >
               0;
  if (!code && wrong) code = 1;
  if (!code && late > 0.001) code = 4;
  report(&run, code, late);
  return code;
}
