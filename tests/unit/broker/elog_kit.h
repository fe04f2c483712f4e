/* elog_kit.h: what the tests of the embedded log share: batches from short descriptions. */
#ifndef LV_TEST_ELOG_KIT_H
#define LV_TEST_ELOG_KIT_H
#include "broker/embedded/elog.h"
#include <stdio.h>
#include <stdlib.h>

typedef struct kit_rec {
  uint8_t kind, flags;
  uint32_t chan;
  const char *topic;
  const void *val;
  uint32_t val_n;
  int64_t ingest_ns;
} kit_rec;

/* A batch of n records; the caller unrefs it. */
static inline lv_batch *kit_batch(const kit_rec *recs, uint32_t n) {
  uint32_t total = 0, sizes[256];
  assert(n > 0 && n <= 256);
  lv_rec_in in[256];
  for (uint32_t i = 0; i < n; i++) {
    in[i] = (lv_rec_in){.kind = recs[i].kind ? recs[i].kind : LV_REC_MSG,
                        .flags = recs[i].flags,
                        .chan = recs[i].chan,
                        .key_off = LV_REC_NO_KEY,
                        .ingest_ns = recs[i].ingest_ns,
                        .topic = lv_slice_str(recs[i].topic ? recs[i].topic : "t"),
                        .val = lv_slice_of(recs[i].val, recs[i].val_n)};
    int rc = lv_rec_size(&in[i], &sizes[i]);
    assert(rc == 0);
    (void)rc;
    total += sizes[i];
  }
  lv_block *b = lv_block_new(total);
  assert(b);
  for (uint32_t i = 0; i < n; i++) {
    (void)lv_rec_write(&in[i], b->data + b->used, sizes[i]);
    b->used += sizes[i];
  }
  lv_batch *batch = lv_batch_new(b, b->data);
  batch->bytes = total;
  batch->count = n;
  return batch;
}

/* Appends one batch of n records; returns the error. */
static inline int kit_append(lv_elog *l, const kit_rec *recs, uint32_t n) {
  lv_batch *b = kit_batch(recs, n);
  uint32_t done = 0;
  int rc = lv_elog_append(l, &b, 1, &done);
  assert((rc == 0) == (done == 1));
  lv_batch_unref(b);
  return rc;
}

static inline int kit_sync(lv_elog *l) {
  lv_elog_sync s;
  while (lv_elog_sync_begin(l, &s)) {
    lv_elog_sync_run(l, &s);
    int rc = lv_elog_sync_finish(l, &s);
    if (rc < 0) return rc;
  }
  return lv_elog_broken(l) ? LV_E_IO : 0;
}

#endif
