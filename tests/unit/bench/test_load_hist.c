/* The load generator's histogram: every value lies in a bucket at most 0.8 % wide, quantiles are
 * exact to that, and the odd values (0, negative, huge) have their places. */
#include "hist.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static void test_edges_hold_their_values(void **state) {
  (void)state;
  for (uint64_t v = 0; v < (1ull << 41); v = v + 1 + v / 97) {
    uint32_t i = lg_hist_index(v);
    assert_true(i < LG_HIST_BUCKETS);
    if (v >> LG_HIST_TOP) {
      assert_int_equal(i, LG_HIST_BUCKETS - 1);
      continue;
    }
    assert_true(lg_hist_edge(i) >= v);
    assert_true((double)(lg_hist_edge(i) - v) <= (double)v * 0.008);
    if (i) assert_true(lg_hist_edge(i - 1) < v);
  }
}

static void test_quantiles(void **state) {
  (void)state;
  lg_hist *h = calloc(1, sizeof *h);
  assert_int_equal(lg_hist_quantile(h, 0.5), 0);
  for (int64_t v = 1; v <= 100000; v++) lg_hist_add(h, v * 1000);
  const double qs[] = {0.01, 0.5, 0.9, 0.99, 0.999};
  for (size_t i = 0; i < sizeof qs / sizeof qs[0]; i++) {
    double want = qs[i] * 1e8, got = (double)lg_hist_quantile(h, qs[i]);
    assert_true(got >= want && got <= want * 1.008);
  }
  assert_int_equal(lg_hist_quantile(h, 1), 100000000);
  assert_int_equal(lg_hist_quantile(h, 0), lg_hist_edge(lg_hist_index(1000)));
  assert_int_equal(h->max_ns, 100000000);
  free(h);
}

static void test_quantile_counts_ranks_not_values(void **state) {
  (void)state;
  lg_hist *h = calloc(1, sizeof *h);
  for (int i = 0; i < 99; i++) lg_hist_add(h, 10);
  lg_hist_add(h, 1000000);
  assert_int_equal(lg_hist_quantile(h, 0.99), 10); /* 99 of 100 do not exceed 10 */
  assert_int_equal(lg_hist_quantile(h, 0.991), 1000000);
  assert_int_equal(lg_hist_above(h, 10), 1);
  assert_int_equal(lg_hist_above(h, 9), 100);
  assert_int_equal(lg_hist_above(h, 2000000), 0);
  free(h);
}

static void test_odd_values(void **state) {
  (void)state;
  lg_hist *h = calloc(1, sizeof *h);
  lg_hist_add(h, -1);
  assert_int_equal(h->count, 0);
  assert_int_equal(h->negative, 1);
  lg_hist_add(h, 0);
  lg_hist_add(h, INT64_MAX);
  assert_int_equal(h->count, 2);
  assert_int_equal(lg_hist_quantile(h, 0.5), 0);
  assert_true(lg_hist_quantile(h, 1) == INT64_MAX);
  free(h);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_edges_hold_their_values), cmocka_unit_test(test_quantiles),
      cmocka_unit_test(test_quantile_counts_ranks_not_values), cmocka_unit_test(test_odd_values)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
