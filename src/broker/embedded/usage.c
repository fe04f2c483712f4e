/* usage.c: metering of what is published: exact, because the log itself is the book.
 *
 *   log   [ ………………… | ……………… ]         sums: under `vis`, with the address up to which they go
 *           in the sums    L    found by reading on from L after a crash
 *
 * Each app has sums for each log. They grow where records become visible, in that critical section,
 * so (sums, L) taken under it belong together: who stores both in one transaction and, after a
 * crash, adds what the log holds from L on, has counted each message once, whatever the crash was.
 * What a failed write or sync took back was never visible and is in neither.
 *
 * Limits: apps are as many as have channels; their sums stay until the broker closes. */
#include "broker/embedded/embedded_int.h"
#include <stdlib.h>

enum { SCAN_BYTES = 1 << 20 };

lv_app_use *lv__app_use(lv_registry *r, lv_slice app) {
  _Atomic(lv_app_use *) *p = &r->use;
  lv_app_use *u;
  while ((u = atomic_load_explicit(p, memory_order_acquire))) {
    if (lv_slice_eq(lv_slice_of(u->app, u->n_app), app)) return u;
    p = &u->next;
  }
  u = calloc(1, sizeof *u + app.n);
  if (!u) abort();
  u->n_app = app.n;
  memcpy(u->app, app.p, app.n);
  atomic_store_explicit(p, u, memory_order_release);
  return u;
}

void lv__app_use_done(lv_registry *r) {
  lv_app_use *u = atomic_load(&r->use);
  while (u) {
    lv_app_use *next = atomic_load(&u->next);
    free(u);
    u = next;
  }
}

void lv__use_seen(lv_lane *l, lv_chan_own *chan, lv_use_sum sum, lv_wall at) {
  lv_metrics *m = lv_metrics_mine(), *row = lv_metrics_row(m, chan->c.app_id, LV_KPI_NONE);
  chan->use->in[l->log].steps += sum.steps;
  chan->use->in[l->log].bytes += sum.bytes;
  lv_count(row, LV_C_USE_IN, sum.steps);
  lv_count(row, LV_C_USE_IN_BYTES, sum.bytes);
  lv_chan_in_use(&chan->c, m, at);
}

void lv_embedded_usage(lv_broker *base, uint8_t log, lv_usage_app_fn *fn, void *arg,
                       uint64_t *ret_lsn) {
  lv_embedded *b = lv__embedded(base);
  lv_lane *l = &b->lane[log];
  pthread_mutex_lock(&l->vis);
  *ret_lsn = atomic_load(&l->visible);
  lv_app_use *u = atomic_load_explicit(&b->registry.use, memory_order_acquire);
  for (; u; u = atomic_load_explicit(&u->next, memory_order_acquire))
    fn(arg, lv_slice_of(u->app, u->n_app), u->in[log]);
  pthread_mutex_unlock(&l->vis);
}

static void tell_block(lv_lane *l, const lv_block *block, uint32_t bytes, lv_usage_rec_fn *fn,
                       void *arg) {
  for (uint32_t at = 0; at < bytes;) {
    const lv_rec *r = (const lv_rec *)(const void *)(block->data + at);
    at += r->size;
    const lv_chan_own *c =
        r->kind == LV_REC_MSG ? lv__registry_get(&l->b->registry, r->chan) : NULL;
    if (c) fn(arg, c->c.app, r);
  }
}

int lv_embedded_usage_since(lv_broker *base, uint8_t log, uint64_t lsn, lv_usage_rec_fn *fn,
                            void *arg) {
  lv_lane *l = &lv__embedded(base)->lane[log];
  uint64_t until = l->opened, oldest = lv_elog_oldest(l->elog);
  if (lsn < oldest) lsn = oldest;
  while (lsn < until) {
    lv_block *block = NULL;
    uint32_t bytes = 0;
    uint64_t next = lsn;
    int err = lv_elog_scan(l->elog, lsn, until, SCAN_BYTES, &block, &bytes, &next);
    if (err && (err != LV_E_CORRUPT || next <= lsn)) return err;
    if (!err) {
      tell_block(l, block, bytes, fn, arg);
      lv_block_unref(block);
    }
    if (next <= lsn) break;
    lsn = next;
  }
  return 0;
}

void lv_embedded_stored(lv_broker *base, lv_usage_stored_fn *fn, void *arg) {
  lv_embedded *b = lv__embedded(base);
  uint32_t end = atomic_load(&b->registry.next_id);
  for (uint32_t id = 1; id < end; id++) {
    lv_chan_own *c = lv__registry_get(&b->registry, id);
    lv_elog_chan facts;
    if (!c) continue;
    lv_elog_chan_get(b->lane[c->c.durability].elog, id, &facts);
    uint64_t keep_ms, keep_bytes = 0, keep_count, bytes = facts.bytes;
    if (!lv__registry_policy(&b->registry, id, &keep_ms, &keep_bytes, &keep_count)) continue;
    if (keep_bytes && bytes > keep_bytes) bytes = keep_bytes;
    if (facts.first_offset >= facts.next_offset) bytes = 0;
    fn(arg, &c->c, bytes);
  }
}
