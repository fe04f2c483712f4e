/* run.c: the phases of a run and its loop:
 *
 *   connect (ramp) -> settle -> warm-up -> measure -> drain
 *
 * The measured window is closed at both ends by a snapshot of all counters and of the server's CPU
 * time; the ledger covers the whole run, warm-up and drain included, so that nothing hides there.
 */
#include "load_int.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 512, EVENTS_OPEN = 64 }; /* open loop: the schedule waits for no long turn */
static const int64_t SECOND_NS = 1000000000;

typedef struct pace {
  int64_t phase_ns, progress_ns, tick_ns, ping_ns; /* when the phase began, …, last ticks */
  uint64_t progress_mark, last_sent, last_unique, dialled;
} pace;

static volatile sig_atomic_t interrupted;

static void on_signal(int sig) {
  (void)sig;
  interrupted = 1;
}

static void usage_read(lg_run *run, bool memory, lg_usage *ret_usage) {
  if (run->opt.server_count == 0 || run->server_gone) return;
  if (lg_usage_read(run->opt.server_pids, run->opt.server_count, memory, ret_usage))
    run->server_gone = true;
}

static void phase_set(lg_run *run, pace *pc, lg_phase phase, int64_t now_ns) {
  run->phase = phase;
  pc->phase_ns = pc->progress_ns = now_ns;
}

static void dial_some(lg_run *run, pace *pc, int64_t now_ns) {
  double due = (double)(now_ns - run->connect_start_ns) / 1e9 * (double)run->opt.ramp_per_s + 1;
  while (run->opened < run->conn_n && (double)pc->dialled < due &&
         run->connecting < run->opt.connecting_max) {
    (void)lg_conn_dial(run, &run->conns[run->opened++]);
    pc->dialled++;
  }
}

static void start_load(lg_run *run, pace *pc, int64_t now_ns) {
  run->connect_end_ns = pc->phase_ns;
  usage_read(run, true, &run->use_connected);
  now_ns = lg_now_ns();
  phase_set(run, pc, LG_WARMUP, now_ns);
  if (run->opt.mode == LG_OPEN) lg_open_start(run, now_ns);
  for (uint64_t i = 0; i < run->opt.pubs; i++) {
    lg_conn *pub = &run->conns[run->opt.subs + i];
    pub->progress_ns = now_ns;
    lg_dirty(run, pub);
  }
}

static void start_measure(lg_run *run, pace *pc) {
  usage_read(run, false, &run->use_start);
  run->self_start_s = lg_self_cpu_s();
  run->at_start = run->now;
  run->unique_start = run->ledger.unique;
  run->start_ns = lg_now_ns();
  phase_set(run, pc, LG_MEASURE, run->start_ns);
}

static void end_measure(lg_run *run, pace *pc) {
  run->end_ns = lg_now_ns();
  run->at_end = run->now;
  run->unique_end = run->ledger.unique;
  run->self_end_s = lg_self_cpu_s();
  usage_read(run, false, &run->use_end);
  phase_set(run, pc, LG_DRAIN, run->end_ns);
}

static bool all_done(const lg_run *run) {
  return run->ledger.unique == run->expected && run->due_count == 0 &&
         (run->opt.qos == 0 || run->now.acked == run->now.sent);
}

static bool drained(lg_run *run, pace *pc, int64_t now_ns) {
  uint64_t mark = run->now.received + run->now.acked + run->now.sent + run->now.bytes_out;
  if (all_done(run) && run->opt.pubs) return true;
  if (mark != pc->progress_mark) {
    pc->progress_mark = mark;
    pc->progress_ns = now_ns;
  }
  return now_ns - pc->progress_ns > (int64_t)(run->opt.drain_s * 1e9);
}

static bool past(const pace *pc, int64_t now_ns, double seconds) {
  return now_ns - pc->phase_ns >= (int64_t)(seconds * 1e9);
}

static void advance(lg_run *run, pace *pc, int64_t now_ns) {
  const lg_opts *o = &run->opt;
  switch (run->phase) {
  case LG_CONNECTING:
    dial_some(run, pc, now_ns);
    if (run->refused)
      phase_set(run, pc, LG_OVER, now_ns);
    else if (run->ready == run->conn_n)
      phase_set(run, pc, LG_SETTLING, now_ns);
    return;
  case LG_SETTLING:
    if (past(pc, now_ns, o->settle_s)) start_load(run, pc, now_ns);
    return;
  case LG_WARMUP:
    if (past(pc, now_ns, o->warmup_s)) start_measure(run, pc);
    return;
  case LG_MEASURE:
    if (interrupted || run->dead == run->conn_n)
      end_measure(run, pc);
    else if (o->count ? run->now.sent >= o->count && drained(run, pc, now_ns)
                      : past(pc, now_ns, o->duration_s))
      end_measure(run, pc);
    return;
  case LG_DRAIN:
    if (o->pubs == 0 || drained(run, pc, now_ns)) phase_set(run, pc, LG_OVER, now_ns);
    return;
  case LG_OVER: return;
  }
}

static void progress_line(lg_run *run, pace *pc, int64_t since_ns) {
  static const char *const names[] = {"connecting", "settling", "warm-up",
                                      "measuring",  "draining", "over"};
  double s = (double)since_ns / 1e9;
  (void)fprintf(
      stderr, "%-10s %7u connected %10.0f sent/s %10.0f delivered/s %10llu owed  p99 %.3f ms\n",
      names[run->phase], run->ready - run->dead, (double)(run->now.sent - pc->last_sent) / s,
      (double)(run->ledger.unique - pc->last_unique) / s,
      (unsigned long long)(run->expected - run->ledger.unique),
      (double)lg_hist_quantile(&run->latency, 0.99) / 1e6);
  pc->last_sent = run->now.sent;
  pc->last_unique = run->ledger.unique;
}

static void ping_some(lg_run *run, int64_t now_ns) {
  int64_t every_ns = (int64_t)run->opt.keep_alive_s * SECOND_NS / 2;
  for (uint32_t i = 0; every_ns && i < run->conn_n; i++) {
    lg_conn *conn = &run->conns[i];
    if (conn->state != LG_READY || now_ns - conn->ping_ns < every_ns) continue;
    if (conn->ping_ns) {
      run->out[0] = LG_PINGREQ << 4, run->out[1] = 0;
      lg_conn_send(run, conn, 2);
    }
    conn->ping_ns = now_ns - (conn->ping_ns ? 0 : (int64_t)(i % 1000) * every_ns / 1000);
  }
}

static void ticks(lg_run *run, pace *pc, int64_t now_ns) {
  if (now_ns - pc->tick_ns >= SECOND_NS) {
    if (run->opt.progress) progress_line(run, pc, now_ns - pc->tick_ns);
    pc->tick_ns = now_ns;
  }
  if (now_ns - pc->ping_ns >= SECOND_NS / 10) {
    ping_some(run, now_ns);
    lg_conns_tick(run);
    lg_conns_return(run, now_ns);
    if (run->phase == LG_WARMUP || run->phase == LG_MEASURE) lg_stalls(run, now_ns);
    pc->ping_ns = now_ns;
  }
}

/* Until when the loop may sleep, given the next open-loop message. */
static int64_t wake_at(const lg_run *run, const pace *pc, int64_t now_ns, int64_t due_ns) {
  if (run->dirty_n) return now_ns;
  double s = run->phase == LG_SETTLING                     ? run->opt.settle_s
             : run->phase == LG_WARMUP                     ? run->opt.warmup_s
             : run->phase == LG_MEASURE && !run->opt.count ? run->opt.duration_s
                                                           : 1e6;
  int64_t at = now_ns + (run->phase == LG_CONNECTING ? SECOND_NS / 1000 : SECOND_NS / 20);
  int64_t phase_end = pc->phase_ns + (int64_t)(s * 1e9);
  if (phase_end < at) at = phase_end;
  return due_ns < at ? due_ns : at;
}

static void loop(lg_run *run, pace *pc) {
  struct epoll_event ev[EVENTS];
  int64_t now_ns = lg_now_ns(), due_ns = INT64_MAX;
  while (run->phase != LG_OVER) {
    int64_t wait_ns = wake_at(run, pc, now_ns, due_ns) - lg_now_ns();
    if (wait_ns < 0) wait_ns = 0;
    struct timespec ts = {wait_ns / SECOND_NS, wait_ns % SECOND_NS};
    int n = epoll_pwait2(run->epfd, ev, run->opt.mode == LG_OPEN ? EVENTS_OPEN : EVENTS, &ts, NULL);
    for (int i = 0; i < n; i++) lg_conn_event(run, ev[i].data.ptr, ev[i].events);
    now_ns = lg_now_ns();
    advance(run, pc, now_ns);
    bool sending = run->phase == LG_WARMUP || run->phase == LG_MEASURE;
    due_ns = run->opt.mode == LG_OPEN && sending ? lg_open_pull(run, now_ns) : INT64_MAX;
    lg_publish_dirty(run);
    ticks(run, pc, now_ns);
    if (run->opt.nap_us && run->opt.mode == LG_CLOSED && sending) {
      struct timespec nap = {0, (long)run->opt.nap_us * 1000};
      (void)nanosleep(&nap, NULL);
    }
  }
}

/* Of what is lost, that which was never acked: nobody promised it (--reconnect). */
static void count_unacked(lg_run *run) {
  for (uint64_t i = 0; i < run->opt.pubs; i++) {
    const lg_conn *pub = &run->conns[run->opt.subs + i];
    for (uint32_t at = pub->acked; pub->flight && at != pub->sent; at++) {
      const lg_flight *fl = &pub->flight[at & (run->window_slots - 1)];
      for (uint64_t k = 0; !fl->done && k < run->opt.subs; k++) {
        const lg_conn *sub = &run->conns[k];
        uint32_t row = fl->stream - sub->stream0;
        if (row < sub->stream_n && lg_row_misses(&sub->rows[row], fl->seq)) run->lost_unacked++;
      }
    }
  }
}

static void prepare_process(void) {
  struct rlimit rl;
  (void)getrlimit(RLIMIT_NOFILE, &rl);
  rl.rlim_cur = rl.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &rl);
  (void)prctl(PR_SET_TIMERSLACK, 1UL); /* the default rounds every sleep up by 50 us */
  struct sigaction sa = {.sa_handler = on_signal};
  (void)sigaction(SIGINT, &sa, NULL);
  (void)sigaction(SIGTERM, &sa, NULL);
}

int lg_run_all(lg_run *run) {
  prepare_process();
  lg_setup(run);
  run->epfd = epoll_create1(EPOLL_CLOEXEC);
  if (run->epfd < 0) return -errno;
  usage_read(run, true, &run->use_before);
  pace pc = {0};
  run->connect_start_ns = pc.tick_ns = lg_now_ns();
  phase_set(run, &pc, LG_CONNECTING, run->connect_start_ns);
  loop(run, &pc);
  lg_usage memory = {0};
  usage_read(run, true, &memory);
  run->use_end.rss_bytes = memory.rss_bytes;
  run->use_end.pss_bytes = memory.pss_bytes;
  count_unacked(run);
  for (uint64_t i = 0; i < run->opt.subs; i++)
    for (uint32_t s = 0; s < run->conns[i].stream_n; s++)
      lg_ledger_lost(&run->conns[i].rows[s], run->streams[run->conns[i].stream0 + s].sent,
                     &run->lost);
  int code = lg_report(run);
  (void)close(run->epfd);
  lg_teardown(run);
  return code;
}
