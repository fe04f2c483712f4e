/* embedded.c: the embedded broker: opening, closing, and the small operations of its contract.
 *
 *   data folder:  mem-*.seg mem-*.idx    messages (and state) of `memory` channels
 *                 disk-*.seg disk-*.idx  of `disk` channels
 *
 * Open: lock the folder, recover both logs, sync what was recovered (it becomes visible), read the
 * keyed records (state index, channels), start the threads. See embedded_int.h for threads and
 * locks, writer.c for the data path.
 *
 * Limits: 1 Mi channels; tail_bytes a log in memory; two logs a folder. */
#include "broker/embedded/embedded_int.h"
#include "core/log.h"
#include <stdarg.h>
#include <stdlib.h>

enum { WHY_SIZE = LV_ELOG_WHY, WALK_PLACES = 256 };

static void why_set(char *why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void why_set(char *why, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  (void)vsnprintf(why, WHY_SIZE, fmt, ap);
  va_end(ap);
}

/* ---- keyed records on disk ---- */

typedef int keyed_fn(void *arg, lv_lane *l, const lv_rec *rec);

static int walk_places(lv_lane *l, const lv_elog_at *at, uint32_t n, keyed_fn *fn, void *arg) {
  const lv_rec *recs[WALK_PLACES];
  int err = 0;
  for (uint32_t i = 0; i < n && !err;) {
    lv_block *block = NULL;
    int k = lv_elog_pread_many(l->elog, at + i, n - i, 256 * 1024, &block, recs);
    if (k < 0) return k;
    for (int j = 0; j < k && !err; j++)
      if (recs[j]) err = fn(arg, l, recs[j]);
    lv_block_unref(block);
    i += (uint32_t)k;
  }
  return err;
}

/* Calls fn once for each keyed record that is on disk, by lsn. */
static int walk_keyed(lv_lane *l, keyed_fn *fn, void *arg) {
  static const uint32_t ids[] = {LV_ELOG_STATE, LV_ELOG_RETAINED};
  lv_elog_at at[WALK_PLACES];
  uint64_t from = 0, until = lv_elog_end(l->elog), upto;
  int err = 0;
  while (from < until && !err) {
    int n = lv__places_merge(l->elog, ids, 2, from, until, at, WALK_PLACES, &upto);
    if (n < 0) return n;
    lv_elog_at some[WALK_PLACES];
    uint32_t use = 0;
    for (int i = 0; i < n && at[i].lsn < upto; i++)
      if (i == 0 || at[i].lsn != at[i - 1].lsn) some[use++] = at[i];
    err = walk_places(l, some, use, fn, arg);
    lv_elog_release(at, (uint32_t)n);
    from = upto;
  }
  return err;
}

typedef struct chan_recs { /* copies of CHAN records, until it is known which is the newest */
  lv_rec **rec;
  uint32_t n, cap;
} chan_recs;

static int load_one(void *arg, lv_lane *l, const lv_rec *rec) {
  chan_recs *chans = arg;
  lv__state_put(&l->state, rec);
  if (rec->kind != LV_REC_CHAN) return 0;
  if (chans->n == chans->cap) {
    chans->cap = chans->cap ? chans->cap * 2 : 64;
    chans->rec = realloc(chans->rec, chans->cap * sizeof *chans->rec);
    if (!chans->rec) abort();
  }
  lv_rec *copy = malloc(rec->size);
  if (!copy) abort();
  memcpy(copy, rec, rec->size);
  chans->rec[chans->n++] = copy;
  return 0;
}

static int load_lane(lv_lane *l, char *why) {
  lv_embedded *b = l->b;
  chan_recs chans = {0};
  int err = walk_keyed(l, load_one, &chans);
  for (uint32_t i = 0; i < chans.n; i++) {
    const lv_rec *rec = chans.rec[i];
    lv_chan_conf conf;
    uint32_t id;
    if (!err) err = lv__chan_value_read(rec, &conf, &id);
    if (!err && id >= atomic_load(&b->registry.next_id)) atomic_store(&b->registry.next_id, id + 1);
    if (!err && lv__state_live_key(&l->state, rec, UINT64_MAX)) err = lv__registry_load(b, rec);
    free(chans.rec[i]);
  }
  free(chans.rec);
  if (err) {
    why_set(why, "log %s: its channels could not be read: %s", l->name, lv_err_text(err));
    return err;
  }
  (void)lv__state_sweep(&l->state, UINT64_MAX);
  lv__lane_mirror(l);
  return 0;
}

/* Only now that the channels are known. */
static int load_last(void *arg, lv_lane *l, const lv_rec *rec) {
  lv_chan_own *c = rec->kind == LV_REC_MSG && (rec->flags & LV_REC_LAST)
                       ? lv__registry_get(&l->b->registry, rec->chan)
                       : NULL;
  (void)arg;
  if (c && c->c.durability == l->log) lv__last_put(l, c, rec);
  return 0;
}

static int load_lasts(lv_lane *l, char *why) {
  const lv_registry *r = &l->b->registry;
  bool any = false;
  for (uint32_t id = 1; id < atomic_load(&r->next_id) && !any; id++) {
    const lv_chan_own *c = lv__registry_get((lv_registry *)r, id);
    any = c && c->c.durability == l->log && atomic_load(&c->c.last_keys);
  }
  int err = any ? walk_keyed(l, load_last, NULL) : 0;
  if (err)
    why_set(why, "log %s: the last messages of keys could not be read: %s", l->name,
            lv_err_text(err));
  return err;
}

typedef struct replay {
  lv_state_fn *fn;
  void *arg;
} replay;

static int replay_one(void *arg, lv_lane *l, const lv_rec *rec) {
  const replay *p = arg;
  char key[LV_REC_QOS2_KEY];
  if (rec->kind == LV_REC_CHAN) return 0;
  int err = 0;
  bool by_topic = rec->kind == LV_REC_STATE || (rec->flags & LV_REC_RETAIN);
  if (by_topic && lv__state_live_key(&l->state, rec, UINT64_MAX))
    err = p->fn(p->arg, lv_rec_topic(rec), lv_rec_val(rec), rec, l->log);
  if (!err && rec->kind == LV_REC_MSG && lv__state_live_qos2(&l->state, rec, UINT64_MAX)) {
    (void)lv_rec_qos2_key(rec, key);
    err = p->fn(p->arg, lv_slice_of(key, sizeof key), lv_rec_val(rec), rec, l->log);
  }
  return err;
}

static int embedded_replay(lv_broker *base, lv_state_fn *fn, void *arg) {
  lv_embedded *b = lv__embedded(base);
  replay p = {fn, arg};
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) {
    int err = walk_keyed(&b->lane[i], replay_one, &p);
    if (err) return err;
  }
  return 0;
}

/* ---- opening and closing ---- */

static int sync_all(lv_elog *elog) {
  lv_elog_sync s;
  while (lv_elog_sync_begin(elog, &s)) {
    lv_elog_sync_run(elog, &s);
    int err = lv_elog_sync_finish(elog, &s);
    if (err) return err;
  }
  return 0;
}

static void tell_recovery(const lv_lane *l) {
  const lv_elog_recovery *rec = &l->recovery;
  enum lv_log_level level = rec->damaged_bytes ? LV_ERROR : rec->torn_bytes ? LV_WARN : LV_DEBUG;
  lv_log(level,
         "log opened log=%s segments=%u clean=%d new_epoch=%d scanned=%llu torn_bytes=%llu "
         "damaged_bytes=%llu",
         l->name, rec->segments, rec->clean, rec->new_epoch, (unsigned long long)rec->records,
         (unsigned long long)rec->torn_bytes, (unsigned long long)rec->damaged_bytes);
}

static int open_lane(lv_embedded *b, uint8_t log, char *why) {
  static const char *const names[] = {"mem", "disk"};
  lv_lane *l = &b->lane[log];
  lv_elog_conf conf = {.disk = b->disk,
                       .name = names[log],
                       .segment_bytes = b->conf.segment_bytes,
                       .epoch_on_unclean = log == LV_DURABILITY_MEMORY};
  int err = lv_elog_open(&conf, &l->elog, &l->recovery, why);
  if (err) return err;
  err = sync_all(l->elog);
  if (err) {
    why_set(why, "log %s: what was recovered could not be synced: %s", l->name, lv_err_text(err));
    return err;
  }
  uint64_t end = lv_elog_end(l->elog);
  atomic_store(&l->visible, end);
  l->opened = end;
  lv__tail_init(&l->tail, b->conf.tail_bytes, end);
  lv__lane_epoch(l);
  return load_lane(l, why);
}

static void init_lane(lv_embedded *b, uint8_t log) {
  lv_lane *l = &b->lane[log];
  l->b = b;
  l->log = log;
  l->name = log == LV_DURABILITY_MEMORY ? "mem" : "disk";
  l->pending_tail = &l->pending;
  pthread_mutex_init(&l->role_mu, NULL);
  pthread_cond_init(&l->role_free, NULL);
  pthread_mutex_init(&l->vis, NULL);
  lv__state_init(&l->state);
}

static void init_all(lv_embedded *b) {
  pthread_condattr_t mono;
  for (uint8_t i = 0; i < LV_DURABILITY_COUNT; i++) init_lane(b, i);
  lv__registry_init(&b->registry);
  pthread_rwlock_init(&b->reader.retain, NULL);
  pthread_mutex_init(&b->reader.mu, NULL);
  pthread_cond_init(&b->reader.more, NULL);
  b->reader.tail = &b->reader.head;
  pthread_mutex_init(&b->sync_mu, NULL);
  pthread_cond_init(&b->sync_wake, NULL);
  pthread_mutex_init(&b->keeper.mu, NULL);
  pthread_condattr_init(&mono);
  pthread_condattr_setclock(&mono, CLOCK_MONOTONIC);
  pthread_cond_init(&b->keeper.wake, &mono);
  pthread_condattr_destroy(&mono);
}

static void done_lane(lv_lane *l, bool clean) {
  assert(!l->pending && !atomic_load(&l->queue));
  if (l->tail.ring) lv__tail_done(&l->tail);
  if (l->elog && clean) {
    int err = lv_elog_close(l->elog);
    if (err)
      lv_log(LV_WARN, "log was not closed cleanly log=%s error=%s", l->name, lv_err_text(err));
  } else if (l->elog) {
    lv_elog_abandon(l->elog);
  }
  lv__state_done(&l->state);
  pthread_mutex_destroy(&l->vis);
  pthread_mutex_destroy(&l->role_mu);
  pthread_cond_destroy(&l->role_free);
}

static void stop_sync(lv_embedded *b) {
  if (!b->sync_started) return;
  pthread_mutex_lock(&b->sync_mu);
  b->sync_stop = true;
  pthread_cond_signal(&b->sync_wake);
  pthread_mutex_unlock(&b->sync_mu);
  pthread_join(b->sync_thread, NULL);
}

/* Undoes whatever of opening was done. */
static void teardown(lv_embedded *b, bool clean) {
  atomic_store(&b->closing, true);
  lv__keeper_stop(b);
  lv__reader_stop(b);
  atomic_fetch_add(&b->must_commit, 1); /* nobody's slowness holds up the rest */
  for (int i = 0; i < LV_DURABILITY_COUNT; i++)
    if (b->lane[i].elog) {
      lv__role_take(&b->lane[i]);
      lv__role_drop(&b->lane[i]);
    }
  stop_sync(b);
  for (int i = 0; i < LV_LOOPS_MAX; i++) lv__port_free(atomic_load(&b->port[i]));
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) done_lane(&b->lane[i], clean);
  lv__registry_done(&b->registry);
  pthread_rwlock_destroy(&b->reader.retain);
  pthread_mutex_destroy(&b->reader.mu);
  pthread_cond_destroy(&b->reader.more);
  pthread_mutex_destroy(&b->sync_mu);
  pthread_cond_destroy(&b->sync_wake);
  pthread_mutex_destroy(&b->keeper.mu);
  pthread_cond_destroy(&b->keeper.wake);
  if (b->own_disk && b->disk) b->disk->ops->free(b->disk);
  b->base.magic = 0;
  free(b);
}

static void embedded_close(lv_broker *base) {
  teardown(lv__embedded(base), true);
}

void lv__embedded_abandon(lv_broker *base) {
  teardown(lv__embedded(base), false);
}

static const lv_broker_ops embedded_ops;

static int open_all(lv_embedded *b, char *why) {
  int err = 0;
  if (!b->disk) {
    err = lv_disk_file_new(b->conf.dir, &b->disk);
    if (err) {
      why_set(why, "data folder %s: %s", b->conf.dir, lv_err_text(err));
      return err;
    }
    b->own_disk = true;
  }
  err = b->disk->ops->lock(b->disk);
  if (err) {
    why_set(why, "data folder %s: %s", b->conf.dir ? b->conf.dir : "", lv_err_text(err));
    return err;
  }
  for (uint8_t i = 0; i < LV_DURABILITY_COUNT && !err; i++) err = open_lane(b, i, why);
  for (uint8_t i = 0; i < LV_DURABILITY_COUNT && !err; i++) err = load_lasts(&b->lane[i], why);
  return err;
}

static int start_threads(lv_embedded *b, char *why) {
  int rc = pthread_create(&b->sync_thread, NULL, lv__sync_main, b);
  b->sync_started = rc == 0;
  int err = rc ? lv_err_from_errno(rc) : lv__reader_start(b);
  if (!err) err = lv__keeper_start(b);
  if (err) why_set(why, "threads of the embedded broker: %s", lv_err_text(err));
  return err;
}

int lv__embedded_open_quiet(const lv_embedded_conf *conf, lv_embedded **ret, char *ret_why) {
  lv_embedded *b = calloc(1, sizeof *b);
  if (!b) return LV_E_NOMEM;
  b->base.magic = LV_EMBEDDED_MAGIC;
  b->base.ops = &embedded_ops;
  b->conf = *conf;
  if (!b->conf.tail_bytes) b->conf.tail_bytes = 64u << 20;
  if (!b->conf.sync_interval_ms) b->conf.sync_interval_ms = 1000;
  b->disk = conf->disk;
  ret_why[0] = '\0';
  init_all(b);
  int err = open_all(b, ret_why);
  if (err) {
    teardown(b, false);
    return err;
  }
  *ret = b;
  return 0;
}

int lv_embedded_open(const lv_embedded_conf *conf, lv_broker **ret_broker, char *ret_why) {
  lv_embedded *b;
  int err = lv__embedded_open_quiet(conf, &b, ret_why);
  if (err) return err;
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) tell_recovery(&b->lane[i]);
  err = start_threads(b, ret_why);
  if (err) {
    teardown(b, false);
    return err;
  }
  *ret_broker = &b->base;
  return 0;
}

/* ---- the small operations ---- */

static lv_pos embedded_visible(lv_broker *base) {
  lv_embedded *b = lv__embedded(base);
  lv_pos pos;
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) pos.lsn[i] = atomic_load(&b->lane[i].visible);
  return pos;
}

static int embedded_attach(lv_broker *base, lv_loop *loop, lv_feed *feed, lv_pos *ret_pos) {
  assert(lv_loop_here(loop));
  int err = lv__port_attach(lv__embedded(base), loop, feed);
  if (err) return err;
  *ret_pos = embedded_visible(base);
  return 0;
}

static lv_pos embedded_interest(lv_broker *base, lv_loop *loop, lv_feed *feed, bool on) {
  lv_embedded *b = lv__embedded(base);
  lv_port *p = atomic_load(&b->port[loop->index]);
  assert(p && p->loop == loop && lv_loop_here(loop));
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) pthread_mutex_lock(&b->lane[i].vis);
  lv_pos pos = embedded_visible(base);
  lv__port_interest(p, feed, on, pos);
  for (int i = LV_DURABILITY_COUNT - 1; i >= 0; i--) pthread_mutex_unlock(&b->lane[i].vis);
  return pos;
}

static int embedded_describe(lv_broker *base, lv_broker_desc *ret) {
  lv_embedded *b = lv__embedded(base);
  lv_broker_desc d = {.type = embedded_ops.type, .caps = embedded_ops.caps, .healthy = true};
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) {
    lv_lane *l = &b->lane[i];
    lv_elog_stats st;
    lv_elog_stats_get(l->elog, &st);
    d.disk_bytes += st.disk_bytes;
    d.segments += st.segments;
    d.visible[i] = atomic_load(&l->visible);
    d.oldest[i] = lv_elog_oldest(l->elog);
    pthread_mutex_lock(&l->vis);
    d.tail_bytes += l->tail.bytes;
    memcpy(d.epoch[i], l->epoch, sizeof d.epoch[i]);
    d.epoch_from[i] = l->epoch_from;
    pthread_mutex_unlock(&l->vis);
    if (lv_elog_broken(l->elog)) {
      d.healthy = false;
      snprintf(d.detail, sizeof d.detail, "log %s refuses records after a failed sync", l->name);
    } else if (atomic_load(&l->trouble)) {
      d.healthy = false;
      snprintf(d.detail, sizeof d.detail, "log %s refuses records: %s", l->name,
               lv_err_text(atomic_load(&l->trouble)));
    }
  }
  if (atomic_load(&b->space_low)) {
    d.healthy = false;
    snprintf(d.detail, sizeof d.detail, "no space: less is free than the reserve of %llu bytes",
             (unsigned long long)b->conf.disk_reserve_bytes);
  }
  d.channels = atomic_load(&b->registry.count);
  d.queued_bytes = atomic_load(&b->queued_bytes);
  d.feed_bytes = lv__port_waiting(b);
  *ret = d;
  return 0;
}

static const lv_broker_ops embedded_ops = {
    .type = "embedded",
    .caps = LV_CAP_REPLAY | LV_CAP_POSITION | LV_CAP_POSITION_ON_ACK | LV_CAP_LAST_PER_KEY |
            LV_CAP_COUNT_RETENTION | LV_CAP_STATE,
    .ensure = lv__registry_ensure,
    .find = lv__registry_find,
    .chan = lv__registry_chan,
    .attach = embedded_attach,
    .interest = embedded_interest,
    .publish = lv__lane_publish,
    .read = lv__reader_read,
    .fetch = lv__reader_fetch,
    .seek = lv__seek,
    .lasts = lv__lasts,
    .visible = embedded_visible,
    .replay = embedded_replay,
    .describe = embedded_describe,
    .close = embedded_close,
};
