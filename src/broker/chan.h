/* chan.h: a channel at run time, shared read-only by all loops.
 *
 * Made by a cluster's `ensure`; lives until the cluster closes (channels are few and small; a
 * deleted one is marked dead and its id is never used again). The fields that change are atomics,
 * written by the cluster's writer. */
#ifndef LV_BROKER_CHAN_H
#define LV_BROKER_CHAN_H
#include "core/conf.h"
#include "core/usage.h"
#include <stdatomic.h>

typedef struct lv_chan {
  uint32_t magic;
  uint32_t id;        /* stable within the cluster's data folder; stored in records */
  uint32_t app_id;    /* small number of the app within the process, stable while it runs */
  uint8_t durability; /* which log its messages go to */
  uint8_t content;
  uint8_t slow;
  _Atomic uint8_t dead;
  lv_slice app, name;
  uint64_t keep_ms, keep_bytes, keep_count; /* changed only by ensure with a new conf */
  _Atomic uint32_t last_keys; /* as conf.h: its messages carry LV_REC_LAST; 0: they do not */
  uint64_t last_bytes;
  _Atomic uint64_t first_offset; /* oldest retained */
  _Atomic uint64_t next_offset;  /* of the next message that becomes visible */
  struct lv_broker *broker;
  _Atomic uint32_t kpi_slot;   /* 0: not asked for yet (lv_chan_kpi) */
  _Atomic uint32_t use_minute; /* the last that was counted as a channel-minute (lv_chan_in_use) */
} lv_chan;

/* Where the channel's KPIs are counted (metric.h). The first time takes a lock. @thread any */
uint32_t lv__chan_kpi_new(lv_chan *chan);
static inline uint32_t lv_chan_kpi(lv_chan *chan) {
  uint32_t slot = atomic_load_explicit(&chan->kpi_slot, memory_order_acquire);
  return __builtin_expect(slot != 0, 1) ? slot : lv__chan_kpi_new(chan);
}

/* Whether the last message of each key is kept. @thread any */
static inline bool lv_chan_lasts(const lv_chan *chan) {
  return atomic_load_explicit(&chan->last_keys, memory_order_relaxed) != 0;
}

/* The channel is in use in this minute since 1970: it counts as a channel-minute once. After a
 * start, channels that are there have their minute already, so that no restart counts one twice; so
 * has the past when the clock goes back. @thread any, with its own set */
static inline void lv_chan_in_use(lv_chan *chan, lv_metrics *base, lv_wall at) {
  uint32_t minute = (uint32_t)(at.ns / 60000000000);
  if (atomic_load_explicit(&chan->use_minute, memory_order_relaxed) >= minute) return;
  if (atomic_exchange(&chan->use_minute, minute) >= minute) return;
  lv_count(lv_metrics_row(base, chan->app_id, LV_KPI_NONE), LV_C_USE_CHAN_MINUTES, 1);
}

#endif
