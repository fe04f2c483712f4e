/* hist.c: the log-linear histogram of hist.h.
 *
 * Row 0 holds 0 … 127 exactly; row r > 0 holds 2^(r+6) … 2^(r+7)-1 in 128 buckets of 2^(r-1).
 * `count` and `sum` leave negative values out. */
#include "core/hist.h"

enum { SUB = 1 << LV_HIST_SUB_BITS };

static void bump(_Atomic uint64_t *a, uint64_t n) {
  atomic_store_explicit(a, atomic_load_explicit(a, memory_order_relaxed) + n, memory_order_relaxed);
}

static uint64_t get(const _Atomic uint64_t *a) {
  return atomic_load_explicit(a, memory_order_relaxed);
}

static void set(_Atomic uint64_t *a, uint64_t v) {
  atomic_store_explicit(a, v, memory_order_relaxed);
}

uint32_t lv_hist_index(uint64_t v) {
  if (v < SUB) return (uint32_t)v;
  uint32_t e = 63u - (uint32_t)__builtin_clzll(v);
  if (e >= LV_HIST_MAX_BITS + 1) return LV_HIST_BUCKETS - 1;
  uint32_t row = e - LV_HIST_SUB_BITS + 1;
  return (row << LV_HIST_SUB_BITS) + ((uint32_t)(v >> (row - 1)) & (SUB - 1));
}

uint64_t lv_hist_edge(uint32_t index) {
  uint32_t row = index >> LV_HIST_SUB_BITS, sub = index & (SUB - 1);
  if (row == 0) return (uint64_t)index + 1;
  return ((uint64_t)SUB + sub + 1) << (row - 1);
}

void lv_hist_add(lv_hist *h, int64_t v, uint64_t n) {
  if (v < 0) {
    bump(&h->negative, n);
    return;
  }
  bump(&h->bucket[lv_hist_index((uint64_t)v)], n);
  bump(&h->count, n);
  bump(&h->sum, (uint64_t)v * n);
  if (n && (uint64_t)v > get(&h->max)) set(&h->max, (uint64_t)v);
}

void lv_hist_merge(lv_hist *dst, const lv_hist *src) {
  for (uint32_t i = 0; i < LV_HIST_BUCKETS; i++) {
    uint64_t n = get(&src->bucket[i]);
    if (n) bump(&dst->bucket[i], n);
  }
  bump(&dst->count, get(&src->count));
  bump(&dst->negative, get(&src->negative));
  bump(&dst->sum, get(&src->sum));
  uint64_t max = get(&src->max);
  if (max > get(&dst->max)) set(&dst->max, max);
}

void lv_hist_diff(lv_hist *dst, const lv_hist *a, const lv_hist *b) {
  uint64_t count = 0, max = 0;
  for (uint32_t i = 0; i < LV_HIST_BUCKETS; i++) {
    uint64_t n = get(&a->bucket[i]) - get(&b->bucket[i]);
    set(&dst->bucket[i], n);
    count += n;
    if (n) max = lv_hist_edge(i) - 1;
  }
  if (max > get(&a->max) || (count && max == lv_hist_edge(LV_HIST_BUCKETS - 1) - 1))
    max = get(&a->max);
  set(&dst->count, count);
  set(&dst->max, max);
  set(&dst->negative, get(&a->negative) - get(&b->negative));
  set(&dst->sum, get(&a->sum) - get(&b->sum));
}

int64_t lv_hist_quantile(const lv_hist *h, double q) {
  uint64_t count = get(&h->count), seen = 0, max = get(&h->max);
  if (count == 0) return 0;
  if (q >= 1) return (int64_t)max;
  double want = q <= 0 ? 1 : q * (double)count;
  uint64_t rank = (uint64_t)want;
  if ((double)rank < want || rank == 0) rank++;
  for (uint32_t i = 0; i < LV_HIST_BUCKETS - 1; i++) {
    seen += get(&h->bucket[i]);
    if (seen >= rank) {
      uint64_t v = lv_hist_edge(i) - 1;
      return (int64_t)(v < max ? v : max);
    }
  }
  return (int64_t)max;
}

uint64_t lv_hist_below(const lv_hist *h, int64_t v) {
  uint64_t n = 0;
  if (v < 0) return 0;
  uint32_t last = lv_hist_index((uint64_t)v);
  for (uint32_t i = 0; i <= last; i++) n += get(&h->bucket[i]);
  return n;
}
