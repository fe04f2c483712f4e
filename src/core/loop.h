/* loop.h: one event loop a core, and everything that belongs to that core.
 *
 * A loop wraps a libuv loop with a mailbox (typed messages from other threads, delivered in batches
 * with one wake-up), end-of-turn hooks (where work gathered during a turn is submitted, delivered
 * and flushed in order), a timer wheel, scratch memory, and this core's counters. Loops share
 * nothing else.
 *
 * One turn:  poll → I/O callbacks → [ hooks by phase: SUBMIT → mail → DELIVER → FLUSH ], repeated
 * while mail arrived in between (bounded), then poll again. */
#ifndef LV_CORE_LOOP_H
#define LV_CORE_LOOP_H
#include "core/block.h"
#include "core/metric.h"
#include "core/wheel.h"
#include <stdbool.h>
#include <uv.h>

enum lv_phase { LV_PHASE_SUBMIT, LV_PHASE_DELIVER, LV_PHASE_FLUSH, LV_PHASE_COUNT };
enum { LV_LOOPS_MAX = 64, LV_SCRATCH_SIZE = 256 * 1024 };

typedef struct lv_hook {
  struct lv_hook *next;
  void (*run)(struct lv_loop *loop, void *arg);
  void *arg;
} lv_hook;

typedef struct lv_loop {
  uint32_t magic;
  int index; /* 0 … count-1 */
  uv_loop_t uv;
  lv_wheel wheel;
  lv_metrics *metrics; /* this thread's counters */
  uint8_t *scratch;    /* LV_SCRATCH_SIZE bytes, valid within one callback */
  lv_mono now;         /* read by lv_loop_io and lv_loop_tick, and at the end of each poll */
  lv_wall wall;        /* wall time of the same moment */
  bool stale;          /* the loop has polled since the clocks were read */
  struct lv_loop_priv *priv;
} lv_loop;

/* Makes a loop (not running). @thread main */
int lv_loop_new(int index, lv_loop **ret_loop);
/* Starts the loop's thread and returns when it runs; `init` runs first on that thread.
 * @thread main */
int lv_loop_start(lv_loop *loop, void (*init)(lv_loop *loop, void *arg), void *arg);
/* Asks the loop to stop once its handles are closed, and joins. Undelivered mail is run first.
 * @thread main */
void lv_loop_stop(lv_loop *loop);
void lv_loop_free(lv_loop *loop);
/* Runs the loop on the calling thread until lv_loop_stop's request (for tests and for the main
 * thread). @thread that thread */
int lv_loop_run(lv_loop *loop);
/* One turn on the calling thread, without waiting: what is due runs. For simulators, which step
 * several loops on one thread under a clock of their own. @thread that thread */
void lv_loop_step(lv_loop *loop);

/* Sends mail; the node is the receiver's until `run` is called on it. FIFO per sender. Wakes the
 * loop at most once per turn. @thread any */
void lv_loop_post(lv_loop *loop, lv_mail *mail);
/* Calls fn(loop, arg) on the loop's thread. @thread any */
void lv_loop_call(lv_loop *loop, void (*fn)(lv_loop *loop, void *arg), void *arg);
/* Calls fn on the loop's thread and waits for it (not from a loop's thread). @thread not a loop */
void lv_loop_call_wait(lv_loop *loop, void (*fn)(lv_loop *loop, void *arg), void *arg);
/* Adds a hook to the end of a phase; it runs every turn. The hook is the caller's memory and lives
 * as long as the loop. @thread loop */
void lv_loop_hook(lv_loop *loop, enum lv_phase phase, lv_hook *hook);
/* Reads both clocks into loop->now and loop->wall. @thread loop */
void lv_loop_tick(lv_loop *loop);
/* To be called first in each libuv callback (poll, timer, close): reads the clocks when the loop
 * has slept since they were last read, so that a turn reads them once. @thread loop */
static inline void lv_loop_io(lv_loop *loop) {
  if (__builtin_expect(loop->stale, 0)) lv_loop_tick(loop);
}
/* Asks for another round of hooks before the loop sleeps: for a hook that made work for an earlier
 * phase. Mail has that effect by itself. @thread loop */
void lv_loop_again(lv_loop *loop);
/* True on the loop's own thread; for asserts. @thread any */
bool lv_loop_here(const lv_loop *loop);
/* Cores this process may use: affinity and cgroup CPU quota (v1 and v2), at least 1. @thread any */
int lv_cores(void);

#endif
