/* test_hist.c: the histogram's error bound, quantiles against sorted values, merging, windows. */
#include "core/hist.h"
#include "core/rand.h"
#include "unit.h"
#include <stdlib.h>
#include <string.h>

static lv_hist h, h2, d;

static void buckets(void **state) {
  uint64_t lower = 0;
  for (uint32_t i = 0; i < LV_HIST_BUCKETS; i++) { /* they tile the range without holes */
    uint64_t edge = lv_hist_edge(i);
    assert_true(edge > lower);
    assert_int_equal(lv_hist_index(lower), i);
    assert_int_equal(lv_hist_index(edge - 1), i);
    assert_true((double)(edge - 1 - lower) <= 0.01 * (double)(lower ? lower : 1));
    lower = edge;
  }
  assert_true(lower > (uint64_t)1 << LV_HIST_MAX_BITS);
  assert_int_equal(lv_hist_index(UINT64_MAX), LV_HIST_BUCKETS - 1);
  assert_int_equal(lv_hist_index(lower), LV_HIST_BUCKETS - 1);
}

static int by_value(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

static void quantiles(void **state) {
  enum { N = 20000 };
  static int64_t v[N];
  static const double q[] = {0, 0.001, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 0.9999, 1};
  lv_rand r;
  lv_rand_init(&r, 1);
  memset(&h, 0, sizeof h);
  uint64_t sum = 0;
  for (int i = 0; i < N; i++) {
    v[i] = (int64_t)(lv_rand_u64(&r) >> (24 + lv_rand_below(&r, 40)));
    lv_hist_add(&h, v[i], 1);
    sum += (uint64_t)v[i];
  }
  qsort(v, N, sizeof *v, by_value);
  assert_int_equal(h.count, N);
  assert_true(h.sum == sum);
  assert_true(h.max == (uint64_t)v[N - 1]);
  for (size_t i = 0; i < COUNT_OF(q); i++) {
    double rank = q[i] * N;
    int64_t k = (int64_t)rank + ((double)(int64_t)rank < rank);
    int64_t want = v[k < 1 ? 0 : k - 1], got = lv_hist_quantile(&h, q[i]);
    assert_true(got >= want && (double)(got - want) <= 0.01 * (double)want);
  }
  for (int i = 0; i < N; i += 997) { /* counts below, to bucket precision */
    uint64_t exact_hi = 0, exact_lo = 0;
    for (int k = 0; k < N; k++) {
      exact_lo += v[k] <= v[i];
      exact_hi += (double)v[k] <= (double)v[i] * 1.01;
    }
    uint64_t got = lv_hist_below(&h, v[i]);
    assert_true(got >= exact_lo && got <= exact_hi);
  }
}

static void edges(void **state) {
  memset(&h, 0, sizeof h);
  assert_int_equal(lv_hist_quantile(&h, 0.5), 0);
  assert_int_equal(lv_hist_quantile(&h, 1), 0);
  lv_hist_add(&h, -5, 3);
  assert_int_equal(h.negative, 3);
  assert_int_equal(h.count, 0);
  assert_int_equal(lv_hist_below(&h, -1), 0);
  lv_hist_add(&h, 0, 1);
  assert_int_equal(lv_hist_quantile(&h, 0.5), 0);
  assert_int_equal(lv_hist_below(&h, 0), 1);
  lv_hist_add(&h, INT64_MAX, 1);
  assert_true(lv_hist_quantile(&h, 0.999) == INT64_MAX);
  assert_true(lv_hist_quantile(&h, 1) == INT64_MAX);
  memset(&h, 0, sizeof h);
  lv_hist_add(&h, 1000, 10); /* one value: every quantile is it, not its bucket's edge */
  assert_int_equal(lv_hist_quantile(&h, 0), 1000);
  assert_int_equal(lv_hist_quantile(&h, 0.5), 1000);
  assert_int_equal(h.sum, 10000);
}

static void merge_and_diff(void **state) {
  memset(&h, 0, sizeof h);
  memset(&h2, 0, sizeof h2);
  lv_hist_add(&h, 1000000, 5);
  lv_hist_add(&h, -1, 1);
  lv_hist_add(&h2, 50, 5);
  lv_hist_merge(&h2, &h);
  assert_int_equal(h2.count, 10);
  assert_int_equal(h2.negative, 1);
  assert_int_equal(h2.max, 1000000);
  assert_int_equal(h2.sum, 5000250);
  assert_int_equal(lv_hist_quantile(&h2, 0.5), 50);
  lv_hist_diff(&d, &h2, &h); /* the window after the large ones has its own maximum */
  assert_int_equal(d.count, 5);
  assert_int_equal(d.negative, 0);
  assert_int_equal(d.sum, 250);
  assert_int_equal(d.max, 50);
  lv_hist_diff(&d, &h2, &h2);
  assert_int_equal(d.count, 0);
  assert_int_equal(d.max, 0);
  lv_hist_diff(&h2, &h2, &h); /* in place */
  assert_int_equal(h2.count, 5);
  assert_int_equal(lv_hist_quantile(&h2, 1), 50);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(buckets),
      cmocka_unit_test(quantiles),
      cmocka_unit_test(edges),
      cmocka_unit_test(merge_and_diff),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
