/* writer.c: from published batches to visible ones.
 *
 * Flat combining. A loop pushes its batch on the lane's stack and tries for the role; whoever holds
 * it takes the whole stack, oldest first, and appends it with one write. Who does not get the role
 * goes on: the holder looks at the stack again after giving the role back. Both sides use
 * sequentially consistent operations on `queue`, `role` and `role_waiting`, so that for each push
 * either the pusher sees the role free or the holder sees the push. Threads that need the role for
 * something else wait for it (role_waiting keeps loops from overtaking them for ever) and serve
 * the stack when they give it back.
 *
 *   memory:  append → finish                            (all by the holder)
 *   disk:    append → pending … sync thread: fdatasync → finish; what comes during an fdatasync is
 *            appended by the sync thread, before the next one
 *
 * `finish` is the one place where records become visible. On the disk log only the sync thread
 * calls it (also for failed batches, so that completions keep their order), on the memory log only
 * the holder of the role. Failed batches are completed with their error and never visible. */
#include "broker/embedded/embedded_int.h"
#include "core/log.h"
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- the role ---- */

static bool role_try(lv_lane *l) {
  uint32_t free_role = 0;
  return atomic_load(&l->role_waiting) == 0 &&
         atomic_compare_exchange_strong(&l->role, &free_role, 1);
}

static void role_give(lv_lane *l) {
  atomic_store(&l->role, 0);
  if (atomic_load(&l->role_waiting) == 0) return;
  pthread_mutex_lock(&l->role_mu);
  pthread_cond_signal(&l->role_free);
  pthread_mutex_unlock(&l->role_mu);
}

void lv__role_take(lv_lane *l) {
  uint32_t free_role = 0;
  atomic_fetch_add(&l->role_waiting, 1);
  if (!atomic_compare_exchange_strong(&l->role, &free_role, 1)) {
    pthread_mutex_lock(&l->role_mu);
    while (free_role = 0, !atomic_compare_exchange_strong(&l->role, &free_role, 1))
      pthread_cond_wait(&l->role_free, &l->role_mu);
    pthread_mutex_unlock(&l->role_mu);
  }
  atomic_fetch_sub(&l->role_waiting, 1);
}

/* ---- appending, with the role ---- */

void lv__lane_trouble(lv_lane *l, int err) {
  int old = atomic_exchange(&l->trouble, err);
  if (err && err != old)
    lv_log(LV_ERROR, "the log takes no records, publishers are refused log=%s error=%s", l->name,
           lv_err_text(err));
  else if (!err && old)
    lv_log(LV_INFO, "the log takes records again log=%s", l->name);
}

static void wake_sync(lv_embedded *b) {
  pthread_mutex_lock(&b->sync_mu);
  b->sync_wanted = true;
  pthread_cond_signal(&b->sync_wake);
  pthread_mutex_unlock(&b->sync_mu);
}

static int append_some(lv_lane *l, lv_batch **list, uint32_t n) {
  lv_metrics *m = lv_metrics_mine();
  int first_err = 0;
  for (uint32_t at = 0; at < n;) {
    uint32_t done = 0;
    int err = lv_elog_append(l->elog, list + at, n - at, &done);
    if (!err) {
      lv_count(m, LV_C_BR_WRITES, 1);
      if (atomic_load_explicit(&l->trouble, memory_order_relaxed)) lv__lane_trouble(l, 0);
      break;
    }
    at += done;
    first_err = err;
    lv_count(m, LV_C_BR_ERRORS, 1);
    list[at++]->err = err;
    /* that one was the caller's fault; go on with the rest */
    if (err == LV_E_INVALID || err == LV_E_TOO_BIG) continue;
    lv__lane_trouble(l, err);
    while (at < n) list[at++]->err = err;
  }
  return first_err;
}

/* Before the first append after a failed sync: see lv__registry_redeclare. */
static int redeclare(lv_lane *l) {
  if (!l->redeclare) return 0;
  l->redeclare = false; /* its own appends come by here */
  int err = lv__registry_redeclare(l, l->redeclare_from);
  l->redeclare = err != 0;
  return err;
}

/* Appends a list (by next) in groups; batches without records only keep their place. */
static void append_list(lv_lane *l, lv_batch *list) {
  lv_batch *group[LV_APPEND_MAX];
  int err = redeclare(l);
  for (lv_batch *x = list; err && x; x = x->next)
    if (x->bytes) x->err = err;
  if (err) return;
  uint32_t n = 0;
  bool low = atomic_load_explicit(&l->b->space_low, memory_order_relaxed);
  for (lv_batch *x = list; x; x = x->next) {
    if (low && x->msgs) x->err = LV_E_DISK_FULL; /* state may use the reserve */
    if (x->bytes && !x->err) group[n++] = x;
    if (n == LV_APPEND_MAX || (!x->next && n)) {
      (void)append_some(l, group, n);
      n = 0;
    }
  }
  if (lv_elog_needs_next(l->elog)) lv__keeper_poke(l->b);
}

static lv_batch *take_queue(lv_lane *l) {
  lv_batch *x = atomic_exchange(&l->queue, NULL), *list = NULL;
  while (x) {
    lv_batch *next = x->next;
    x->next = list;
    list = x;
    x = next;
  }
  return list;
}

/* Whether queued batches must wait because some loop cannot keep up with its feed. */
static bool held_up(const lv_lane *l) {
  return atomic_load(&l->b->ports_over) > 0 && atomic_load(&l->b->must_commit) == 0;
}

/* What was appended (or failed) goes its way: visible at once, or to the sync thread. */
static void pass_on(lv_lane *l, lv_batch *list) {
  if (l->log == LV_DURABILITY_MEMORY) {
    lv__lane_finish(l, list);
    return;
  }
  *l->pending_tail = list;
  while (*l->pending_tail) l->pending_tail = &(*l->pending_tail)->next;
  wake_sync(l->b);
}

/* While the disk log syncs there is nothing to be gained by appending: the next sync begins when
 * this one is through, and takes the queue along then, with one write for all of it. With the role.
 */
static bool rides_along(const lv_lane *l) {
  return l->log == LV_DURABILITY_DISK && l->syncing;
}

static void drain(lv_lane *l) {
  lv_batch *list;
  while (!held_up(l) && !rides_along(l) && (list = take_queue(l))) {
    append_list(l, list);
    pass_on(l, list);
  }
}

void lv__lane_kick(lv_lane *l) {
  while (atomic_load(&l->queue) && !held_up(l) && role_try(l)) {
    bool later = rides_along(l);
    drain(l);
    role_give(l);
    if (later) return;
  }
}

void lv__role_drop(lv_lane *l) {
  drain(l);
  role_give(l);
  lv__lane_kick(l);
}

static void push(lv_lane *l, lv_batch *batch) {
  atomic_fetch_add_explicit(&l->b->queued_bytes, batch->bytes, memory_order_relaxed);
  lv_batch *head = atomic_load_explicit(&l->queue, memory_order_relaxed);
  do batch->next = head;
  while (!atomic_compare_exchange_weak(&l->queue, &head, batch));
}

int lv__lane_publish(lv_broker *base, lv_batch *batch) {
  lv_embedded *b = lv__embedded(base);
  assert(batch->log < LV_DURABILITY_COUNT && batch->done);
  if (atomic_load_explicit(&b->closing, memory_order_relaxed)) return LV_E_CLOSED;
  assert(batch->loop && lv_loop_here(batch->loop) && atomic_load(&b->port[batch->loop->index]));
  lv_lane *l = &b->lane[batch->log];
  push(l, lv_batch_ref(batch));
  lv__lane_kick(l);
  return 0;
}

/* ---- visibility ---- */

static void see_records(lv_lane *l, const lv_batch *x) {
  lv_registry *reg = &l->b->registry;
  lv_chan_own *chan = NULL;
  lv_use_sum use = {0, 0};
  lv_wall at = {0};
  for (const lv_rec *r = lv_batch_first(x); r; r = lv_batch_next(x, r)) {
    if (lv__state_keyed(r)) lv__state_put(&l->state, r);
    if (r->kind != LV_REC_MSG) continue;
    if (!chan || chan->c.id != r->chan) {
      if (chan) lv__use_seen(l, chan, use, at);
      use = (lv_use_sum){0, 0};
      chan = lv__registry_get(reg, r->chan);
    }
    if (!chan) continue;
    if (r->flags & LV_REC_LAST) lv__last_put(l, chan, r);
    lv_use_add(&use, lv_use_of(r));
    at.ns = r->ingest_ns;
    atomic_store_explicit(&chan->last_lsn, r->lsn, memory_order_relaxed);
    atomic_store_explicit(&chan->c.next_offset, r->offset + 1, memory_order_release);
  }
  if (chan) lv__use_seen(l, chan, use, at);
}

static void complete_inner(lv_batch *list) {
  for (lv_batch *x = list, *next; x; x = next) {
    next = x->next;
    if (!x->loop) x->done(x);
    lv_batch_unref(x);
  }
}

/* Before the hand-over, so that nobody counts more out than in. */
static void count_app(lv_metrics *m, uint32_t app_id, uint64_t msgs, uint64_t bytes, bool out) {
  lv_metrics *row = lv_metrics_row(m, app_id, LV_KPI_NONE);
  lv_count(row, LV_C_BR_IN, msgs);
  lv_count(row, LV_C_BR_IN_BYTES, bytes);
  if (out) lv__count_out(m, app_id, msgs, bytes);
}

static void count_visible(const lv_embedded *b, const lv_batch *x) {
  lv_metrics *m = lv_metrics_mine();
  bool out = atomic_load_explicit(&b->n_interested, memory_order_relaxed);
  for (uint32_t i = 0; i < x->n_tally; i++) {
    const lv_tally *t = &x->tally[i];
    count_app(m, lv_metrics_slot_app(t->slot), t->msgs, t->bytes, out);
  }
  if (x->msgs && !x->n_tally) count_app(m, LV_KPI_NO_APP, x->msgs, x->bytes_in, out);
}

void lv__lane_finish(lv_lane *l, lv_batch *list) {
  if (!list) return;
  lv_embedded *b = l->b;
  uint64_t bytes = 0;
  pthread_mutex_lock(&l->vis);
  for (lv_batch *x = list; x; x = x->next) {
    bytes += x->bytes;
    if (x->err || !x->bytes) continue;
    if (b->conf.visible) b->conf.visible(b->conf.visible_arg, x);
    see_records(l, x);
    lv__tail_add(&l->tail, x, x->loop ? x->loop->index : LV_LOOPS_MAX);
    count_visible(b, x);
    atomic_store(&l->visible, x->lsn_end);
  }
  atomic_fetch_sub_explicit(&b->queued_bytes, bytes, memory_order_relaxed);
  lv__port_hand(b, list);
  pthread_mutex_unlock(&l->vis);
  complete_inner(list);
}

/* ---- one record, waited for ---- */

typedef struct commit_wait {
  pthread_mutex_t mu;
  pthread_cond_t done;
  bool finished;
  int err;
} commit_wait;

static void commit_done(lv_batch *batch) {
  commit_wait *w = batch->arg;
  pthread_mutex_lock(&w->mu);
  w->finished = true;
  w->err = batch->err;
  pthread_cond_signal(&w->done);
  pthread_mutex_unlock(&w->mu);
}

static int batch_of(lv_lane *l, const lv_rec_in *in, lv_batch **ret_batch) {
  uint32_t size;
  int err = lv_rec_size(in, &size);
  if (err) return err;
  lv_block *block = lv_block_new(size);
  if (!block) return LV_E_NOMEM;
  (void)lv_rec_write(in, block->data, size);
  block->used = size;
  lv_batch *batch = lv_batch_new(block, block->data);
  batch->bytes = size;
  batch->count = 1;
  batch->log = l->log;
  *ret_batch = batch;
  return 0;
}

static void nobody_waits(lv_batch *batch) {
  (void)batch;
}

int lv__lane_append(lv_lane *l, const lv_rec_in *in, uint64_t *ret_end) {
  lv_batch *batch;
  int err = redeclare(l);
  if (!err) err = batch_of(l, in, &batch);
  if (err) return err;
  batch->done = nobody_waits;
  err = append_some(l, &batch, 1);
  if (err) {
    lv_batch_unref(batch);
    return err;
  }
  *ret_end = batch->lsn_end;
  atomic_fetch_add_explicit(&l->b->queued_bytes, batch->bytes, memory_order_relaxed);
  pass_on(l, batch);
  return 0;
}

int lv__lane_commit(lv_lane *l, const lv_rec_in *in) {
  lv_batch *batch;
  int err = batch_of(l, in, &batch);
  if (err) return err;
  commit_wait w = {.finished = false};
  pthread_mutex_init(&w.mu, NULL);
  pthread_cond_init(&w.done, NULL);
  batch->done = commit_done;
  batch->arg = &w;
  atomic_fetch_add(&l->b->must_commit, 1);
  push(l, lv_batch_ref(batch));
  lv__lane_kick(l);
  pthread_mutex_lock(&w.mu);
  while (!w.finished) pthread_cond_wait(&w.done, &w.mu);
  pthread_mutex_unlock(&w.mu);
  atomic_fetch_sub(&l->b->must_commit, 1);
  pthread_mutex_destroy(&w.mu);
  pthread_cond_destroy(&w.done);
  lv_batch_unref(batch);
  return w.err;
}

/* ---- syncing ---- */

/* What may be completed now: everything up to `synced`, and failed ones in between. */
static lv_batch *take_pending(lv_lane *l, uint64_t synced) {
  lv_batch *list = l->pending, **end = &l->pending;
  while (*end && ((*end)->err || !(*end)->bytes || (*end)->lsn_end <= synced)) end = &(*end)->next;
  if (end == &l->pending) return NULL;
  l->pending = *end;
  *end = NULL;
  if (!l->pending) l->pending_tail = &l->pending;
  return list;
}

static void fail_pending(lv_lane *l) {
  for (lv_batch *x = l->pending; x; x = x->next)
    if (!x->err && x->bytes) x->err = LV_E_IO;
}

/* Visible records of the memory log may be gone from its files, so they are gone for readers as
 * well (also from the tail: a gap is told once, and holds), and offsets go on where the file ends.
 * Channels whose newest offset is still there lost nothing. */
static void forget_lost(lv_lane *l) {
  uint64_t visible = atomic_load(&l->visible);
  if (l->log != LV_DURABILITY_MEMORY) return; /* what was lost had not been visible */
  lv__tail_clear(&l->tail, visible);
  uint32_t end = atomic_load(&l->b->registry.next_id);
  for (uint32_t id = 1; id < end; id++) {
    lv_chan_own *c = lv__registry_get(&l->b->registry, id);
    lv_elog_chan facts;
    if (!c || c->c.durability != l->log) continue;
    lv_elog_chan_get(l->elog, id, &facts);
    if (facts.next_offset == atomic_load(&c->c.next_offset)) continue;
    atomic_store(&c->c.next_offset, facts.next_offset);
    atomic_store(&c->gone, visible);
    atomic_store(&l->gone, visible);
  }
}

void lv__lane_epoch(lv_lane *l) {
  uint64_t end;
  snprintf(l->epoch, sizeof l->epoch, "%s", lv_elog_epoch(l->elog));
  int err = lv_elog_epoch_range(l->elog, lv_slice_str(l->epoch), &l->epoch_from, &end);
  assert(!err && end == UINT64_MAX);
  (void)err;
  atomic_fetch_add(&l->b->base.epochs, 1);
}

bool lv__lane_mend(lv_lane *l) {
  uint64_t lost = 0;
  assert(!l->syncing && !l->jobbing);
  uint64_t synced = lv_elog_synced(l->elog);
  if (lv_elog_reopen(l->elog, &lost)) return false;
  l->redeclare_from = l->redeclare && l->redeclare_from < synced ? l->redeclare_from : synced;
  l->redeclare = true;
  pthread_mutex_lock(&l->vis);
  lv__lane_epoch(l);
  if (lost) forget_lost(l);
  pthread_mutex_unlock(&l->vis);
  lv_log(LV_WARN, "log reopened and verified log=%s epoch=%s lost_bytes=%llu", l->name, l->epoch,
         l->log == LV_DURABILITY_MEMORY ? (unsigned long long)lost : 0);
  return true;
}

bool lv__lane_sync(lv_lane *l) {
  lv_elog_sync s;
  lv_metrics *m = lv_metrics_mine();
  lv__role_take(l);
  drain(l); /* what waits in the queue rides along */
  bool any = !lv_elog_broken(l->elog) && lv_elog_sync_begin(l->elog, &s);
  l->syncing = any;
  lv__role_drop(l);
  if (any) lv_elog_sync_run(l->elog, &s);
  lv__role_take(l);
  l->syncing = false;
  if (any && lv_elog_sync_finish(l->elog, &s) == 0) {
    lv_count(m, LV_C_BR_SYNCS, 1);
  } else if (any) {
    lv_count(m, LV_C_BR_ERRORS, 1);
    lv__lane_trouble(l, s.err ? s.err : LV_E_IO);
  }
  if (lv_elog_broken(l->elog)) {
    fail_pending(l);
    /* At once when it has just failed; else the keeper tries, now and then: it costs as much as
     * writing a segment. */
    if (any && !l->jobbing) (void)lv__lane_mend(l);
  }
  lv_batch *list = l->log == LV_DURABILITY_DISK ? take_pending(l, lv_elog_synced(l->elog)) : NULL;
  bool more = l->pending != NULL;
  lv__role_drop(l);
  lv__lane_finish(l, list);
  return more;
}

/* Works for microseconds and waits for the disk, and what waits for it are all publishers. A short
 * slice lets it run at once when it is woken on a machine whose cores are all busy (Linux 6.12 and
 * later; sched(7) sched_attr, which glibc 2.36 does not have; else nothing happens). */
static void ask_for_short_slices(void) {
  struct {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
  } attr = {.size = sizeof attr};
  if (syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0) || attr.policy) return;
  attr.runtime_ns = 100 * 1000;
  (void)syscall(SYS_sched_setattr, 0, &attr, 0);
}

void *lv__sync_main(void *arg) {
  lv_embedded *b = arg;
  lv_lane *l = &b->lane[LV_DURABILITY_DISK];
  (void)pthread_setname_np(pthread_self(), "lv-sync");
  ask_for_short_slices();
  for (;;) {
    pthread_mutex_lock(&b->sync_mu);
    while (!b->sync_wanted && !b->sync_stop) pthread_cond_wait(&b->sync_wake, &b->sync_mu);
    bool stop = b->sync_stop && !b->sync_wanted;
    b->sync_wanted = false;
    pthread_mutex_unlock(&b->sync_mu);
    if (stop) return NULL;
    while (lv__lane_sync(l)) {
    }
  }
}
