/* hist.h: log-linear histogram with at most 1 % relative error, for latencies in nanoseconds.
 *
 * 128 linear buckets per power of two (0.78 % wide), from 0 to 2^40 ns (18 minutes); larger values
 * land in the last bucket, negative ones in a counter of their own. One writer; readers on other
 * threads see each bucket atomically (relaxed), which is enough for monotonic counts. */
#ifndef LV_CORE_HIST_H
#define LV_CORE_HIST_H
#include <stdatomic.h>
#include <stdint.h>

enum { LV_HIST_SUB_BITS = 7, LV_HIST_MAX_BITS = 40 };
enum { LV_HIST_BUCKETS = (LV_HIST_MAX_BITS - LV_HIST_SUB_BITS + 2) << LV_HIST_SUB_BITS };

typedef struct lv_hist {
  _Atomic uint64_t count, negative, max;
  _Atomic uint64_t sum;
  _Atomic uint64_t bucket[LV_HIST_BUCKETS];
} lv_hist;

/* Counts n values of v nanoseconds. @thread its writer */
void lv_hist_add(lv_hist *h, int64_t v, uint64_t n);
/* dst += src, bucket by bucket. @thread any (dst: its owner) */
void lv_hist_merge(lv_hist *dst, const lv_hist *src);
/* dst = a - b, for windows (counters only grow). */
void lv_hist_diff(lv_hist *dst, const lv_hist *a, const lv_hist *b);
/* The value below which q (0 … 1) of the values lie; 0 when empty. Upper edge of the bucket. */
int64_t lv_hist_quantile(const lv_hist *h, double q);
/* How many values are <= v (to bucket precision). */
uint64_t lv_hist_below(const lv_hist *h, int64_t v);
/* Bucket index of v, and its exclusive upper edge; for tests and exporters. */
uint32_t lv_hist_index(uint64_t v);
uint64_t lv_hist_edge(uint32_t index);

#endif
