/* hub_modes.c: what is not a steady load: idle connections, snapshots, a server that is killed. */
#include "hub_int.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double seconds_since(int64_t ns) {
  return (double)(hu_now_ns() - ns) / 1e9;
}

static void rest(hu_run *run, double seconds) {
  int64_t end_ns = hu_now_ns() + (int64_t)(seconds * 1e9);
  for (int64_t now_ns; (now_ns = hu_now_ns()) < end_ns;) hu_poll(run, end_ns - now_ns);
}

static int64_t rss(const hu_run *run) {
  lg_usage u = {0};
  (void)lg_usage_read(run->opt.pids, run->opt.n_pids, true, &u);
  return u.rss_bytes;
}

int hu_idle_run(hu_run *run) {
  const hu_opts *o = &run->opt;
  int *fds = calloc(o->subs ? o->subs : 1, sizeof *fds);
  uint32_t n = 0;
  if (!fds) abort();
  run->rss0 = rss(run);
  while (n < o->subs && (fds[n] = hu_idle_open(run)) >= 0) n++;
  rest(run, o->settle_s);
  run->rss1 = rss(run);
  run->ready = n;
  if (n < o->subs) (void)snprintf(run->error, sizeof run->error, "connection %u failed", n);
  for (uint32_t i = 0; i < n; i++) (void)close(fds[i]);
  free(fds);
  return n < o->subs ? 69 : 0;
}

/* Publishes until `upto` messages are acknowledged; false: the server is gone, or stands still. */
static bool publish_upto(hu_run *run, uint32_t upto) {
  hu_conn *pub = hu_pub(run, 0);
  const hu_stream *st = &run->streams[0];
  int64_t end_ns = hu_now_ns() + 60000000000;
  run->publishing = true;
  run->upto = upto;
  hu_publish_next(run, pub);
  while ((st->sent < upto || !st->acked) && pub->state == HU_READY && hu_now_ns() < end_ns)
    hu_poll(run, 100000000);
  return st->sent >= upto && st->acked;
}

/* Until every subscriber has everything, or nothing comes any more. */
static bool catch_up(hu_run *run) {
  uint64_t mark = run->now.received;
  int64_t moved_ns = hu_now_ns();
  while (run->caught_up < run->opt.subs) {
    hu_poll(run, 50000000);
    if (run->now.received == mark && seconds_since(moved_ns) > run->opt.drain_s) return false;
    if (run->now.received == mark) continue;
    mark = run->now.received;
    moved_ns = hu_now_ns();
  }
  return true;
}

int hu_snapshot_run(hu_run *run) {
  const hu_opts *o = &run->opt;
  if (!hu_connect_all(run, o->subs, o->subs + 1)) return 69;
  if (!publish_upto(run, o->messages)) return 3;
  rest(run, o->settle_s);
  run->at_start = run->now;
  hu_usage(run, &run->use0);
  run->self0 = lg_self_cpu_s();
  run->start_ns = hu_now_ns();
  bool all = hu_connect_all(run, 0, o->subs) && catch_up(run);
  run->end_ns = hu_now_ns();
  run->self1 = lg_self_cpu_s();
  hu_usage(run, &run->use1);
  run->at_end = run->now;
  return all ? 0 : 3;
}

/* Tells the driver to kill the server, and reads on until all connections have broken. */
static bool be_killed(hu_run *run) {
  int64_t since_ns = hu_now_ns();
  char line[64];
  (void)printf("kill\n");
  (void)fflush(stdout);
  run->upto += run->opt.messages / 10; /* so that it dies at work */
  hu_publish_next(run, hu_pub(run, 0));
  while (run->ready && seconds_since(since_ns) < 20) hu_poll(run, 100000000);
  if (run->ready || !fgets(line, sizeof line, stdin) || strncmp(line, "go ", 3) != 0) return false;
  run->opt.pids[0] = (pid_t)strtol(line + 3, NULL, 10);
  run->opt.n_pids = 1;
  return true;
}

static bool publisher_back(hu_run *run) {
  hu_conn *pub = hu_pub(run, 0);
  int64_t since_ns = hu_now_ns();
  while (pub->state != HU_READY && seconds_since(since_ns) < 60) {
    if (pub->state == HU_DOWN && !hu_dial(run, pub)) rest(run, 0.002);
    hu_poll(run, 2000000);
  }
  if (pub->state != HU_READY) return false;
  if (run->streams[0].acked) return true;
  run->repeated++;
  hu_send_message(run, pub); /* nobody said that it is safe: the same once more */
  return pub->state == HU_READY;
}

int hu_resume_run(hu_run *run) {
  const hu_opts *o = &run->opt;
  if (!hu_connect_all(run, 0, o->subs + 1)) return 69;
  rest(run, o->settle_s);
  run->start_ns = INT64_MAX;
  run->listeners = o->subs;
  if (!publish_upto(run, o->messages / 2) || !be_killed(run)) return 3;
  uint64_t broke = run->down;
  int64_t go_ns = hu_now_ns(), t_ns;
  run->listeners = 0;
  run->error[0] = 0;
  if (!publisher_back(run)) return 69;
  run->times[0] = seconds_since(go_ns);
  t_ns = hu_now_ns();
  if (!publish_upto(run, o->messages)) return 3;
  run->times[1] = seconds_since(t_ns);
  run->at_start = run->now;
  hu_usage(run, &run->use0);
  run->self0 = lg_self_cpu_s();
  run->start_ns = t_ns = hu_now_ns();
  bool all = hu_connect_all(run, 0, o->subs) && catch_up(run);
  run->times[2] = seconds_since(t_ns);
  run->times[3] = seconds_since(go_ns);
  run->end_ns = hu_now_ns();
  run->self1 = lg_self_cpu_s();
  hu_usage(run, &run->use1);
  run->at_end = run->now;
  run->down -= (uint32_t)broke;
  return all ? 0 : 3;
}
