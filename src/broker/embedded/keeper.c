/* keeper.c: the housekeeper thread: what must happen now and then, off the data path.
 *
 *   each round: next segments ahead of need → free space → retention jobs → forgotten deletions
 *               → the memory log's background sync → broken logs mended
 *
 * A round starts every second, earlier for the memory log's sync or when the writer pokes (a
 * segment is running out). Retention and the mirrors of it that readers use (first offsets, `gone`)
 * move together under the reader's `retain` lock. */
#include "broker/embedded/embedded_int.h"
#include "core/log.h"
#include <stdlib.h>
#include <time.h>

enum { ROUND_MS = 1000, JOBS_A_ROUND = 16, SYNCS_MAX = 16 };
/* Bytes of the memory log that may be unsynced for retention to go on. */
#define SYNC_AHEAD ((uint64_t)64 << 20)

static bool keep_policy(void *arg, uint32_t chan, uint64_t *keep_ms, uint64_t *keep_bytes,
                        uint64_t *keep_count) {
  lv_lane *l = arg;
  return lv__registry_policy(&l->b->registry, chan, keep_ms, keep_bytes, keep_count);
}

static bool keep_live(void *arg, const lv_rec *rec) {
  lv_lane *l = arg;
  if (rec->lsn >= atomic_load(&l->visible)) return true; /* not in the state index yet */
  uint64_t synced = lv_elog_synced(l->elog);
  bool by_topic = rec->kind != LV_REC_MSG || (rec->flags & LV_REC_RETAIN);
  return (by_topic && lv__state_live_key(&l->state, rec, synced)) ||
         (rec->kind == LV_REC_MSG && lv__last_live(l, rec, synced)) ||
         (rec->kind == LV_REC_MSG && lv__state_live_qos2(&l->state, rec, synced));
}

void lv__lane_mirror(lv_lane *l) {
  lv_registry *reg = &l->b->registry;
  uint32_t end = atomic_load(&reg->next_id);
  uint64_t gone = atomic_load(&l->gone);
  for (uint32_t id = 1; id < end; id++) {
    lv_chan_own *c = lv__registry_get(reg, id);
    lv_elog_chan facts;
    if (!c || c->c.durability != l->log) continue;
    lv_elog_chan_get(l->elog, id, &facts);
    atomic_store(&c->c.first_offset, facts.first_offset);
    if (facts.gone_lsn > atomic_load(&c->gone)) atomic_store(&c->gone, facts.gone_lsn);
    if (facts.gone_lsn > gone) gone = facts.gone_lsn;
  }
  atomic_store(&l->gone, gone);
}

static bool run_job(lv_lane *l, bool no_reuse) {
  const lv_elog_policy policy = {
      .policy = keep_policy, .live = keep_live, .arg = l, .no_reuse = no_reuse};
  uint64_t freed = 0;
  lv__role_take(l);
  lv_elog_job *job =
      lv_elog_broken(l->elog) ? NULL : lv_elog_job_plan(l->elog, &policy, lv_wall_now());
  l->jobbing = job != NULL;
  lv__role_drop(l);
  if (!job) return false;
  int err = lv_elog_job_run(l->elog, job);
  pthread_rwlock_wrlock(&l->b->reader.retain);
  lv__role_take(l);
  int err2 = lv_elog_job_apply(l->elog, job, &freed);
  l->jobbing = false;
  lv__role_drop(l);
  lv__lane_mirror(l);
  pthread_rwlock_unlock(&l->b->reader.retain);
  if (err == LV_E_BUSY && !err2) { /* too much is not synced yet for it to decide */
    if (l->log != LV_DURABILITY_MEMORY) return false; /* the sync thread is at it */
    for (int i = 0; i < SYNCS_MAX && lv_elog_synced(l->elog) + SYNC_AHEAD < lv_elog_end(l->elog);
         i++)
      (void)lv__lane_sync(l);
    return true;
  }
  if (err || err2) {
    lv_count(lv_metrics_mine(), LV_C_BR_ERRORS, 1);
    lv_log(LV_WARN, "retention of the log failed log=%s error=%s", l->name,
           lv_err_text(err ? err : err2));
    return false;
  }
  return true;
}

static bool retention_job(lv_lane *l) {
  lv_disk *d = l->b->disk;
  int err = d->ops->reuse_begin(d);
  bool again = run_job(l, err != 0);
  if (!err) d->ops->reuse_end(d);
  return again;
}

static void prepare(lv_lane *l) {
  if (l->no_room || !lv_elog_needs_next(l->elog)) return;
  int err = lv_elog_prepare_next(l->elog);
  l->no_room = err != 0; /* who appends pokes each time */
  if (err)
    lv_log(LV_WARN, "next segment could not be prepared log=%s error=%s", l->name,
           lv_err_text(err));
}

static void check_space(lv_embedded *b) {
  uint64_t space = 0, bytes = 0;
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) {
    lv_elog_stats st;
    lv_elog_stats_get(b->lane[i].elog, &st);
    bytes += st.disk_bytes;
  }
  atomic_store(&b->disk_bytes, bytes);
  if (b->disk->ops->space(b->disk, &space)) return;
  bool low = space < b->conf.disk_reserve_bytes;
  atomic_store(&b->base.refusing, low ? LV_E_DISK_FULL : 0);
  if (low != atomic_exchange(&b->space_low, low))
    lv_log(low ? LV_ERROR : LV_INFO, "%s free_bytes=%llu reserve_bytes=%llu",
           low ? "publishing stopped: disk space is below the reserve" : "disk space is back",
           (unsigned long long)space, (unsigned long long)b->conf.disk_reserve_bytes);
}

static void mend(lv_lane *l) {
  if (!lv_elog_broken(l->elog)) return;
  lv__role_take(l);
  if (!l->syncing && !l->jobbing && lv_elog_broken(l->elog)) (void)lv__lane_mend(l);
  lv__role_drop(l);
}

/* Whether what failed works again: nobody may be left who would find out by publishing. */
static void probe(lv_lane *l) {
  if (atomic_load(&l->trouble) == 0 || lv_elog_broken(l->elog)) return;
  (void)lv__lane_commit(l, &(lv_rec_in){.kind = LV_REC_NOTE,
                                        .key_off = LV_REC_NO_KEY,
                                        .ingest_ns = lv_wall_now().ns,
                                        .topic = LV_SLICE("probe")});
}

static void one_round(lv_embedded *b) {
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) {
    b->lane[i].no_room = false;
    prepare(&b->lane[i]);
  }
  check_space(b);
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) {
    lv_lane *l = &b->lane[i];
    for (int j = 0; j < JOBS_A_ROUND && retention_job(l); j++) prepare(l);
    uint64_t live, dead;
    lv__state_count(&l->state, &live, &dead);
    if (dead > 1024 && dead > live / 4) (void)lv__state_sweep(&l->state, lv_elog_synced(l->elog));
    mend(l);
    probe(l);
  }
}

static struct timespec in_ms(uint64_t ms) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  uint64_t ns = (uint64_t)t.tv_nsec + ms * 1000000u;
  t.tv_sec += (time_t)(ns / 1000000000u);
  t.tv_nsec = (long)(ns % 1000000000u);
  return t;
}

/* Waits for the next thing that is due; true: stop. */
static bool wait_due(lv_embedded *b, uint64_t ms, bool *poked, bool *round) {
  lv_keeper *k = &b->keeper;
  struct timespec until = in_ms(ms);
  pthread_mutex_lock(&k->mu);
  while (!k->stop && !k->poked && pthread_cond_timedwait(&k->wake, &k->mu, &until) == 0) {
  }
  *poked = k->poked;
  *round = k->round;
  k->poked = k->round = false;
  bool stop = k->stop;
  pthread_mutex_unlock(&k->mu);
  return stop;
}

static void *keeper_main(void *arg) {
  lv_embedded *b = arg;
  lv_lane *mem = &b->lane[LV_DURABILITY_MEMORY];
  uint64_t sync_ms = b->conf.sync_interval_ms;
  lv_mono next_sync = lv_mono_add(lv_mono_now(), LV_MS(sync_ms)), next_round = lv_mono_now();
  (void)pthread_setname_np(pthread_self(), "lv-keeper");
  for (;;) {
    lv_mono now = lv_mono_now(), due = next_sync.ns < next_round.ns ? next_sync : next_round;
    uint64_t ms = due.ns > now.ns ? (uint64_t)(due.ns - now.ns) / 1000000u + 1 : 0;
    bool poked, round;
    if (wait_due(b, ms, &poked, &round)) return NULL;
    if (poked)
      for (int i = 0; i < LV_DURABILITY_COUNT; i++) prepare(&b->lane[i]);
    now = lv_mono_now();
    if (now.ns >= next_sync.ns) {
      (void)lv__lane_sync(mem);
      next_sync = lv_mono_add(now, LV_MS(sync_ms));
    }
    if (round || now.ns >= next_round.ns) {
      one_round(b);
      next_round = lv_mono_add(now, LV_MS(ROUND_MS));
    }
  }
}

static void poke(lv_keeper *k, bool round) {
  pthread_mutex_lock(&k->mu);
  k->poked = true;
  k->round |= round;
  pthread_cond_signal(&k->wake);
  pthread_mutex_unlock(&k->mu);
}

void lv__keeper_poke(lv_embedded *b) {
  poke(&b->keeper, false);
}

void lv__keeper_round_soon(lv_embedded *b) {
  poke(&b->keeper, true);
}

int lv__keeper_start(lv_embedded *b) {
  int rc = pthread_create(&b->keeper.thread, NULL, keeper_main, b);
  if (rc) return lv_err_from_errno(rc);
  b->keeper.started = true;
  return 0;
}

void lv__keeper_stop(lv_embedded *b) {
  lv_keeper *k = &b->keeper;
  if (!k->started) return;
  pthread_mutex_lock(&k->mu);
  k->stop = true;
  pthread_cond_signal(&k->wake);
  pthread_mutex_unlock(&k->mu);
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) lv_elog_hurry(b->lane[i].elog);
  pthread_join(k->thread, NULL);
  k->started = false;
}
