/* hub_load.c: the measured load: fan-out with customers, or publishing alone; closed or open. */
#include "hub_int.h"
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

void hu_usage(hu_run *run, lg_usage *ret) {
  if (run->opt.n_pids && lg_usage_read(run->opt.pids, run->opt.n_pids, false, ret) &&
      !run->error[0])
    (void)snprintf(run->error, sizeof run->error, "a server process is gone");
}

void hu_send_message(hu_run *run, hu_conn *pub) {
  hu_stream *st = &run->streams[pub->index];
  size_t n;
  const char *post = hu_post_of(run, pub->index, &n);
  pub->busy = true;
  st->acked = false;
  if (send(pub->fd, post, n, MSG_NOSIGNAL) != (ssize_t)n) hu_drop(run, pub, "send");
}

static void new_message(hu_run *run, hu_conn *pub, int64_t intended_ns) {
  hu_stream *st = &run->streams[pub->index];
  st->sent++;
  st->seen = 0;
  st->intended_ns = intended_ns;
  run->now.sent++;
  hu_send_message(run, pub);
}

static bool is_free(const hu_run *run, const hu_conn *pub) {
  const hu_stream *st = &run->streams[pub->index];
  if (pub->state != HU_READY || pub->busy) return false;
  return run->opt.rate_per_s > 0 || st->sent == 0 || st->seen >= run->listeners;
}

void hu_publish_next(hu_run *run, hu_conn *pub) {
  const hu_opts *o = &run->opt;
  if (!run->publishing || run->finishing || o->rate_per_s > 0 || !is_free(run, pub)) return;
  if (o->mode != HU_LOAD && run->streams[pub->index].sent >= run->upto) return;
  new_message(run, pub, hu_now_ns());
}

/* Sends what is due; returns when the next message is. */
static int64_t open_pull(hu_run *run) {
  const hu_opts *o = &run->opt;
  static uint32_t turn;
  for (;;) {
    int64_t due_ns = run->open_ns + (int64_t)((double)run->due * 1e9 / o->rate_per_s);
    int64_t now_ns = hu_now_ns();
    if (due_ns > now_ns || run->finishing) return due_ns;
    uint32_t i = 0;
    while (i < o->pubs && !is_free(run, hu_pub(run, (turn + i) % o->pubs))) i++;
    if (i == o->pubs) { /* the server holds us up: shows as latency */
      run->held_up += !run->held;
      run->held = true;
      return now_ns + 50000;
    }
    turn = (turn + i) % o->pubs;
    if (run->measuring && !run->held) lg_hist_add(&run->lateness, now_ns - due_ns);
    run->held = false;
    run->due++;
    new_message(run, hu_pub(run, turn), due_ns);
    turn = (turn + 1) % o->pubs;
  }
}

/* Nothing moved for a second: what is missing is lost, go on without it. */
static void stalled(hu_run *run) {
  int64_t now_ns = hu_now_ns();
  if (!run->publishing || now_ns - run->progress_ns < 1000000000 || run->opt.rate_per_s > 0) return;
  run->progress_ns = now_ns;
  for (uint32_t i = 0; i < run->opt.pubs; i++) {
    hu_stream *st = &run->streams[i];
    if (st->seen < run->listeners) run->written_off++;
    st->seen = run->listeners;
    hu_publish_next(run, hu_pub(run, i));
  }
}

static void run_until(hu_run *run, int64_t end_ns) {
  for (int64_t now_ns; (now_ns = hu_now_ns()) < end_ns && !run->down;) {
    int64_t at = end_ns;
    if (run->publishing && run->opt.rate_per_s > 0) {
      int64_t due_ns = open_pull(run);
      if (due_ns < at) at = due_ns;
    }
    int64_t wait_ns = at - hu_now_ns();
    hu_poll(run, wait_ns < 100000000 ? wait_ns : 100000000);
    stalled(run);
  }
}

static bool all_seen(const hu_run *run) {
  return run->ledger.unique == run->now.sent * run->listeners &&
         run->now.acked + run->nacked == run->now.sent;
}

static void drain(hu_run *run) {
  run->finishing = true;
  uint64_t mark = 0;
  int64_t moved_ns = hu_now_ns();
  while (!all_seen(run) && hu_now_ns() - moved_ns < (int64_t)(run->opt.drain_s * 1e9)) {
    hu_poll(run, 50000000);
    if (run->now.received + run->now.acked == mark) continue;
    mark = run->now.received + run->now.acked;
    moved_ns = hu_now_ns();
  }
}

int hu_load_run(hu_run *run) {
  const hu_opts *o = &run->opt;
  if (!hu_connect_all(run, 0, o->subs + o->pubs)) return 69;
  run->listeners = o->subs;
  run->start_ns = INT64_MAX;
  run_until(run, hu_now_ns() + (int64_t)(o->settle_s * 1e9));
  run->publishing = true;
  run->open_ns = run->progress_ns = hu_now_ns();
  for (uint32_t i = 0; i < o->pubs; i++) hu_publish_next(run, hu_pub(run, i));
  run_until(run, hu_now_ns() + (int64_t)(o->warmup_s * 1e9));
  hu_usage(run, &run->use0);
  run->self0 = lg_self_cpu_s();
  run->at_start = run->now;
  run->measuring = true;
  run->start_ns = hu_now_ns();
  run_until(run, run->start_ns + (int64_t)(o->duration_s * 1e9));
  run->end_ns = hu_now_ns();
  run->measuring = false;
  run->at_end = run->now;
  run->self1 = lg_self_cpu_s();
  hu_usage(run, &run->use1);
  drain(run);
  return run->down ? 3 : 0;
}
