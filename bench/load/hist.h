/* hist.h: the load generator's own latency histogram, log-linear with at most 0.8 % error.
 *
 * Kept apart from the product's on purpose: what measures shares no arithmetic with what is
 * measured. 128 linear buckets per power of two, 0 … 2^40 ns; larger values land in the last
 * bucket, negative ones (a clock that jumped, a forged payload) in a counter. One thread. */
#ifndef LG_HIST_H
#define LG_HIST_H
#include <stdint.h>

enum { LG_HIST_SUB = 7, LG_HIST_TOP = 40 };
enum { LG_HIST_BUCKETS = (LG_HIST_TOP - LG_HIST_SUB + 1) << LG_HIST_SUB };

typedef struct lg_hist {
  uint64_t count, negative;
  int64_t max_ns;
  double sum_ns;
  uint64_t bucket[LG_HIST_BUCKETS];
} lg_hist;

/* Bucket of a value, and the largest value that lies in a bucket. */
uint32_t lg_hist_index(uint64_t v_ns);
uint64_t lg_hist_edge(uint32_t index);
/* Counts one value. */
void lg_hist_add(lg_hist *h, int64_t v_ns);
/* The value that a share q (0 … 1) of the values do not exceed, to bucket precision and never
 * above the largest value seen; 0 when empty. */
int64_t lg_hist_quantile(const lg_hist *h, double q);
/* How many values are greater than v, to bucket precision (the bucket of v counts as not greater).
 */
uint64_t lg_hist_above(const lg_hist *h, int64_t v_ns);

#endif
