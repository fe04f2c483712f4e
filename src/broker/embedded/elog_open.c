/* elog_open.c: the life of a log: open, reopen after a failed sync, close, facts.
 *
 * @thread main; reopen: writer; the facts: any */
#include "broker/embedded/elog_int.h"
#include <stdio.h>
#include <stdlib.h>

static lv_elog *elog_new(const lv_elog_conf *conf) {
  lv_elog *l = calloc(1, sizeof *l);
  if (!l) abort();
  size_t n = strlen(conf->name);
  assert(n > 0 && n < sizeof l->name);
  l->magic = LV__ELOG_MAGIC;
  l->disk = conf->disk;
  memcpy(l->name, conf->name, n);
  l->segment_bytes = conf->segment_bytes ? conf->segment_bytes : (uint64_t)64 << 20;
  l->first_bytes = conf->first_bytes ? conf->first_bytes : (uint64_t)1 << 20;
  l->visible_unsynced = conf->epoch_on_unclean;
  l->epoch_fresh = conf->epoch_fresh;
  atomic_init(&l->rng, conf->seed);
  (void)pthread_mutex_init(&l->mu, NULL);
  (void)pthread_mutex_init(&l->sync_mu, NULL);
  l->pages = calloc(LV_ELOG_CHAN_MAX / LV__CHAN_PAGE, sizeof *l->pages);
  if (!l->pages) abort();
  return l;
}

static void elog_free(lv_elog *l) {
  for (uint32_t i = 0; i < l->n_segs; i++) lv__seg_unref(l->segs[i], 1);
  for (uint32_t i = 0; i < LV_ELOG_CHAN_MAX / LV__CHAN_PAGE; i++) free(atomic_load(&l->pages[i]));
  free((void *)l->pages);
  free(l->segs);
  (void)pthread_mutex_destroy(&l->mu);
  (void)pthread_mutex_destroy(&l->sync_mu);
  l->magic = 0;
  free(l);
}

/* Syncs what was appended; by the thread that closes. */
static int sync_all(lv_elog *l) {
  lv_elog_sync s;
  while (lv_elog_sync_begin(l, &s)) {
    lv_elog_sync_run(l, &s);
    int rc = lv_elog_sync_finish(l, &s);
    if (rc < 0) return rc;
  }
  return lv_elog_broken(l) ? LV_E_IO : 0;
}

int lv__note(lv_elog *l, const char *what) {
  lv_rec_in in = {.kind = LV_REC_NOTE,
                  .key_off = LV_REC_NO_KEY,
                  .ingest_ns = lv_wall_now().ns,
                  .topic = lv_slice_str(what)};
  uint32_t size, n;
  int rc = lv_rec_size(&in, &size);
  assert(rc == 0);
  lv_block *b = lv_block_new(LV_BLOCK_SIZE);
  lv_rec *r = lv_rec_write(&in, b->data, size);
  lv_batch *batch = lv_batch_new(b, (const uint8_t *)r);
  batch->bytes = size;
  batch->count = 1;
  rc = lv_elog_append(l, &batch, 1, &n);
  lv_batch_unref(batch);
  return rc;
}

/* The log is marked as open, durably, before the first append: else a power loss that takes the
 * first records appended would leave a log that looks cleanly closed. What survived behind the hole
 * would not be zeroed then, and under `memory` offsets would be given twice. */
int lv__note_open(lv_elog *l) {
  l->note_due = false;
  int rc = lv__note(l, "open");
  if (rc == 0) rc = sync_all(l);
  l->note_due = rc < 0;
  return rc;
}

int lv_elog_open(const lv_elog_conf *conf, lv_elog **ret_log, lv_elog_recovery *ret_rec,
                 char *why) {
  assert(conf && conf->disk && conf->name && ret_log && why);
  lv_elog_recovery rec;
  lv_elog *l = elog_new(conf);
  why[0] = 0;
  int rc = lv__recover(l, &rec, why);
  if (rc == 0) {
    rc = lv__note_open(l);
    if (rc == LV_E_DISK_FULL) rc = 0; /* appends will try again */
    if (rc < 0) (void)snprintf(why, LV_ELOG_WHY, "log %s: %s", l->name, lv_err_text(rc));
  }
  if (ret_rec) *ret_rec = rec;
  if (rc < 0) {
    elog_free(l);
    return rc;
  }
  *ret_log = l;
  return 0;
}

int lv_elog_reopen(lv_elog *l, uint64_t *ret_lost) {
  (void)lv__elog(l);
  lv_elog_recovery rec = {0};
  uint64_t end = lv_elog_end(l);
  uint64_t synced = lv__max(lv_elog_synced(l), atomic_load(&l->job_synced));
  assert(lv_elog_broken(l) && !l->job_out);
  l->top_lsn = lv__max(l->top_lsn, end);
  end = l->top_lsn; /* also what an attempt before this one cut */
  lv__tail tail = {.from = synced, .limit = l->visible_unsynced ? end : synced, .trusted = synced};
  int rc = lv__recover_tail(l, &tail, &rec);
  if (rc < 0) return rc;
  uint64_t lost = end - lv_elog_end(l);
  l->dirty_upto = 0;
  lv__chans_rewind(l);
  if ((rc = lv__settle_open(l, l->visible_unsynced && lost > 0)) < 0) return rc;
  atomic_store(&l->broken, false);
  if (ret_lost) *ret_lost = lost;
  return 0;
}

int lv_elog_close(lv_elog *l) {
  if (!l) return 0;
  (void)lv__elog(l);
  assert(!l->job_out);
  int rc = sync_all(l);
  if (rc == 0) rc = lv__chans_store(l);
  if (rc == 0) rc = lv__note(l, "clean");
  if (rc == 0) rc = sync_all(l);
  if (rc == 0 && l->n_segs) { /* all of it is on disk: what does not verify from now on is damage */
    lv_elog_seg *seg = lv__open_seg(l);
    lv__mark_write(seg, lv_elog_end(l));
    rc = l->disk->ops->sync(l->disk, seg->fd);
  }
  elog_free(l);
  return rc;
}

void lv_elog_abandon(lv_elog *l) {
  if (l) elog_free(lv__elog(l));
}

void lv_elog_chan_get(lv_elog *l, uint32_t chan, lv_elog_chan *ret) {
  (void)lv__elog(l);
  *ret = (lv_elog_chan){0};
  (void)pthread_mutex_lock(&l->mu);
  const lv__chan *c = lv__chan_at(l, chan, false);
  if (c)
    *ret = (lv_elog_chan){.first_offset = c->first,
                          .next_offset = c->next,
                          .gone_lsn = c->gone_lsn,
                          .bytes = c->bytes};
  (void)pthread_mutex_unlock(&l->mu);
}

void lv_elog_stats_get(lv_elog *l, lv_elog_stats *ret) {
  (void)lv__elog(l);
  lv_elog_stats s = {.damaged_reads = atomic_load(&l->damaged_reads)};
  (void)pthread_mutex_lock(&l->mu);
  s.segments = l->n_segs;
  s.spares = l->n_spares;
  for (uint32_t i = 0; i < l->n_segs; i++) {
    const lv__idx *idx = atomic_load(&l->segs[i]->idx);
    s.disk_bytes += l->segs[i]->cap;
    s.index_bytes += l->segs[i]->arena.bytes;
    if (idx) s.index_bytes += idx->n_dir * sizeof(lv__dir);
  }
  for (uint32_t i = 0; i < l->n_spares; i++) s.disk_bytes += l->spares[i].cap;
  (void)pthread_mutex_unlock(&l->mu);
  *ret = s;
}
