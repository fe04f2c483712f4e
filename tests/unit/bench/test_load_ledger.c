/* The load generator's ledger against a plain model (a byte per message), on hand-made sequences
 * and on seeded random streams with known losses, duplicates and reordering. */
#include "ledger.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void feed(lg_ledger *led, lg_row *row, const uint32_t *seqs, size_t n) {
  uint32_t from;
  for (size_t i = 0; i < n; i++) (void)lg_ledger_see(led, row, seqs[i], &from);
}
#define FEED(led, row, ...)                                                                        \
  feed(led, row, (const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / 4)

static void test_in_order(void **state) {
  (void)state;
  lg_ledger led = {0};
  lg_row row = {0};
  lg_lost lost = {0};
  FEED(&led, &row, 0, 1, 2, 3);
  lg_ledger_lost(&row, 4, &lost);
  assert_int_equal(led.unique, 4);
  assert_int_equal(led.duplicated + led.reordered + led.jumps, 0);
  assert_int_equal(lost.prefix + lost.middle + lost.tail, 0);
  assert_null(row.holes);
}

static void test_prefix_middle_tail(void **state) {
  (void)state;
  lg_ledger led = {0};
  lg_row row = {0};
  lg_lost lost = {0};
  FEED(&led, &row, 2, 3, 7, 8); /* 0-1, 4-6 and 9 are lost */
  lg_ledger_lost(&row, 10, &lost);
  assert_int_equal(lost.prefix, 2);
  assert_int_equal(lost.middle, 3);
  assert_int_equal(lost.tail, 1);
  for (uint32_t seq = 0; seq < 12; seq++) {
    int seen = seq == 2 || seq == 3 || seq == 7 || seq == 8;
    assert_int_equal(lg_row_misses(&row, seq), !seen);
  }
  lg_row silent = {0};
  lg_ledger_lost(&silent, 5, &lost);
  assert_int_equal(lost.tail, 6);
  lg_row_done(&row);
}

static void test_late_is_not_duplicate(void **state) {
  (void)state;
  lg_ledger led = {0};
  lg_row row = {0};
  uint32_t from = 99;
  FEED(&led, &row, 0, 1);
  assert_int_equal(lg_ledger_see(&led, &row, 5, &from), LG_JUMP);
  assert_int_equal(from, 2);
  assert_int_equal(lg_ledger_see(&led, &row, 3, &from), LG_LATE); /* splits the hole */
  assert_int_equal(lg_ledger_see(&led, &row, 3, &from), LG_DUPLICATE);
  assert_int_equal(lg_ledger_see(&led, &row, 2, &from), LG_LATE);
  assert_int_equal(lg_ledger_see(&led, &row, 4, &from), LG_LATE);
  assert_int_equal(lg_ledger_see(&led, &row, 5, &from), LG_DUPLICATE);
  assert_int_equal(lg_ledger_see(&led, &row, 0, &from), LG_DUPLICATE);
  assert_int_equal(led.unique, 6);
  assert_int_equal(led.reordered, 3);
  assert_int_equal(led.duplicated, 3);
  assert_int_equal(row.missing, 0);
  lg_row_done(&row);
}

static void test_too_many_holes_are_given_up_oldest_first(void **state) {
  (void)state;
  lg_ledger led = {0};
  lg_row row = {0};
  uint32_t from;
  for (uint32_t i = 0; i < LG_HOLES_MAX + 10; i++) FEED(&led, &row, 2 * i + 1);
  assert_int_equal(led.abandoned, 10);
  assert_int_equal(row.missing, LG_HOLES_MAX + 10);
  assert_int_equal(lg_ledger_see(&led, &row, 0, &from), LG_DUPLICATE);
  assert_int_equal(lg_ledger_see(&led, &row, 20, &from), LG_LATE);
  lg_lost lost = {0};
  lg_ledger_lost(&row, row.next, &lost);
  assert_int_equal(lost.prefix + lost.middle, LG_HOLES_MAX + 9);
  lg_row_done(&row);
}

enum { MODEL = 3000 };

/* One random stream: what is expected of the ledger is computed message by message. */
static void random_stream(unsigned seed) {
  unsigned char seen[MODEL] = {0};
  uint32_t wire[MODEL * 2], n = 0, high = 0, unique = 0, dup = 0, late = 0;
  uint64_t rng = seed * 2654435761u + 1;
#define DRAW(k)                                                                                    \
  ((uint32_t)((rng = rng * 6364136223846793005ull + 1442695040888963407ull) >> 33) % (k))
  for (uint32_t s = 0; s < MODEL; s++) {
    if (DRAW(10) == 0) continue; /* lost */
    wire[n++] = s;
    if (DRAW(20) == 0) wire[n++] = s; /* doubled */
  }
  for (uint32_t i = 0; i + 20 < n; i++) { /* moved */
    if (DRAW(8)) continue;
    uint32_t j = i + DRAW(20), t = wire[i];
    wire[i] = wire[j], wire[j] = t;
  }
  lg_ledger led = {0};
  lg_row row = {0};
  for (uint32_t i = 0; i < n; i++) {
    uint32_t s = wire[i], from;
    lg_seen got = lg_ledger_see(&led, &row, s, &from);
    lg_seen want = seen[s] ? LG_DUPLICATE : s < high ? LG_LATE : s == high ? LG_IN_ORDER : LG_JUMP;
    assert_int_equal(got, want);
    dup += want == LG_DUPLICATE, late += want == LG_LATE, unique += want != LG_DUPLICATE;
    seen[s] = 1;
    if (s >= high) high = s + 1;
  }
  lg_lost lost = {0};
  lg_ledger_lost(&row, MODEL, &lost);
  assert_int_equal(led.unique, unique);
  assert_int_equal(led.duplicated, dup);
  assert_int_equal(led.reordered, late);
  assert_int_equal(lost.prefix + lost.middle + lost.tail, MODEL - unique);
  assert_int_equal(lost.tail, MODEL - high);
  lg_row_done(&row);
}

static void test_random_streams(void **state) {
  (void)state;
  for (unsigned seed = 1; seed <= 200; seed++) random_stream(seed);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_in_order), cmocka_unit_test(test_prefix_middle_tail),
      cmocka_unit_test(test_late_is_not_duplicate),
      cmocka_unit_test(test_too_many_holes_are_given_up_oldest_first),
      cmocka_unit_test(test_random_streams)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
