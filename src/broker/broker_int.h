/* broker_int.h: private to broker/: results of reads, shared by the cluster types. */
#ifndef LV_BROKER_BROKER_INT_H
#define LV_BROKER_BROKER_INT_H
#include "broker/broker.h"

typedef struct lv_result {
  const lv_rec **recs;
  uint32_t n_recs, cap_recs;
  uint64_t bytes; /* of the records, for limits */
  lv_block **blocks;
  uint32_t n_blocks, cap_blocks;
} lv_result;

/* An empty result with room for that many records (it grows). */
lv_result *lv__result_new(uint32_t room);
/* Adds a record; its block must be kept as well. NULL is allowed (a fetch's hole). */
void lv__result_add(lv_result *res, const lv_rec *rec);
/* Takes over the caller's reference to a block. */
void lv__result_keep(lv_result *res, lv_block *block);
void lv__result_free(lv_result *res);

/* Messages of an app that this process takes from the cluster for its subscribers: once, however
 * many loops share them. */
static inline void lv__count_out(lv_metrics *base, uint32_t app_id, uint64_t msgs, uint64_t bytes) {
  lv_metrics *m = lv_metrics_row(base, app_id, LV_KPI_NONE);
  lv_count(m, LV_C_BR_OUT, msgs);
  lv_count(m, LV_C_BR_OUT_BYTES, bytes);
  lv_count(m, LV_C_HUB_IN, msgs);
  lv_count(m, LV_C_HUB_IN_BYTES, bytes);
}

#endif
