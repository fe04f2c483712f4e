/* hist.c: log-linear histogram (see hist.h). Below 128 ns one bucket a nanosecond; above, the top
 * eight bits of the value choose the bucket. */
#include "hist.h"

uint32_t lg_hist_index(uint64_t v_ns) {
  if (v_ns < (1u << LG_HIST_SUB)) return (uint32_t)v_ns;
  if (v_ns >> LG_HIST_TOP) return LG_HIST_BUCKETS - 1;
  uint32_t shift = 63u - (uint32_t)__builtin_clzll(v_ns) - LG_HIST_SUB;
  return ((shift + 1) << LG_HIST_SUB) + (uint32_t)((v_ns >> shift) - (1u << LG_HIST_SUB));
}

uint64_t lg_hist_edge(uint32_t index) {
  uint32_t group = index >> LG_HIST_SUB, sub = index & ((1u << LG_HIST_SUB) - 1);
  if (group == 0) return sub;
  return (((uint64_t)sub + (1u << LG_HIST_SUB) + 1) << (group - 1)) - 1;
}

void lg_hist_add(lg_hist *h, int64_t v_ns) {
  if (v_ns < 0) {
    h->negative++;
    return;
  }
  h->count++;
  h->sum_ns += (double)v_ns;
  if (v_ns > h->max_ns) h->max_ns = v_ns;
  h->bucket[lg_hist_index((uint64_t)v_ns)]++;
}

int64_t lg_hist_quantile(const lg_hist *h, double q) {
  if (h->count == 0) return 0;
  double want = q * (double)h->count;
  uint64_t rank = (uint64_t)want, below = 0;
  if ((double)rank < want || rank == 0) rank++;
  for (uint32_t i = 0; i < LG_HIST_BUCKETS - 1; i++) {
    below += h->bucket[i];
    if (below < rank) continue;
    int64_t edge = (int64_t)lg_hist_edge(i);
    return edge < h->max_ns ? edge : h->max_ns;
  }
  return h->max_ns;
}

uint64_t lg_hist_above(const lg_hist *h, int64_t v_ns) {
  uint64_t n = 0;
  uint32_t first = v_ns < 0 ? 0 : lg_hist_index((uint64_t)v_ns) + 1;
  for (uint32_t i = first; i < LG_HIST_BUCKETS; i++) n += h->bucket[i];
  return n;
}
