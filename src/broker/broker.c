/* broker.c: what every cluster type shares: the results of reads.
 *
 * A result owns the blocks its records lie in (one reference each) and the array of pointers to
 * them; reads and fetches of any implementation hand it out as `priv`. One allocation per read plus
 * growth, none per message. @thread: one at a time; it travels with the read. */
#include "broker/broker.h"
#include "broker/broker_int.h"
#include <stdlib.h>

static void *grow(void *p, size_t size) {
  void *q = realloc(p, size);
  if (!q) abort();
  return q;
}

lv_result *lv__result_new(uint32_t room) {
  lv_result *res = calloc(1, sizeof *res);
  if (!res) abort();
  res->cap_recs = room ? room : 16;
  res->recs = grow(NULL, res->cap_recs * sizeof *res->recs);
  return res;
}

void lv__result_add(lv_result *res, const lv_rec *rec) {
  if (res->n_recs == res->cap_recs) {
    res->cap_recs *= 2;
    res->recs = grow(res->recs, res->cap_recs * sizeof *res->recs);
  }
  res->recs[res->n_recs++] = rec;
}

void lv__result_keep(lv_result *res, lv_block *block) {
  if (res->n_blocks && res->blocks[res->n_blocks - 1] == block) {
    lv_block_unref(block);
    return;
  }
  if (res->n_blocks == res->cap_blocks) {
    res->cap_blocks = res->cap_blocks ? res->cap_blocks * 2 : 4;
    res->blocks = grow(res->blocks, res->cap_blocks * sizeof *res->blocks);
  }
  res->blocks[res->n_blocks++] = block;
}

void lv__result_free(lv_result *res) {
  if (!res) return;
  for (uint32_t i = 0; i < res->n_blocks; i++) lv_block_unref(res->blocks[i]);
  free(res->blocks);
  free(res->recs);
  free(res);
}

void lv_broker_read_free(lv_read *read) {
  lv__result_free(read->priv);
  read->priv = NULL;
  read->recs = NULL;
  read->n = 0;
}

void lv_broker_fetch_free(lv_fetch *fetch) {
  lv__result_free(fetch->priv);
  fetch->priv = NULL;
  fetch->recs = NULL;
}

uint32_t lv__chan_kpi_new(lv_chan *chan) {
  if (chan->app_id == UINT32_MAX) return 0; /* no app yet: asked again */
  uint32_t slot = lv_metrics_chan_slot(chan->app_id, (const char *)chan->name.p, chan->name.n);
  atomic_store_explicit(&chan->kpi_slot, slot, memory_order_release);
  return slot;
}
