/* wire_test.h: what the codec's tests share: byte literals as slices, and a copy of exact size on
 * the heap, so that the sanitizers see a read of one byte too many. */
#ifndef LV_TEST_WIRE_H
#define LV_TEST_WIRE_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/err.h"
#include "core/slice.h"

/* A slice of a string literal, NULs included. */
#define B(lit)                                                                                     \
  { (const uint8_t *)(lit), sizeof(lit) - 1 }
#define S(lit) ((lv_slice)B(lit))
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static inline lv_slice heap_copy(lv_slice s) {
  uint8_t *p = malloc(s.n ? s.n : 1);
  assert_non_null(p);
  if (s.n) memcpy(p, s.p, s.n);
  return (lv_slice){p, s.n};
}
static inline void heap_free(lv_slice s) {
  free((void *)s.p);
}
#define assert_slice(got, want)                                                                    \
  do {                                                                                             \
    lv_slice got_ = (got), want_ = (want);                                                         \
    assert_int_equal(got_.n, want_.n);                                                             \
    if (want_.n) assert_memory_equal(got_.p, want_.p, want_.n);                                    \
  } while (0)
/* A table row's outcome, with the row in the message. */
#define assert_err(got, want, row)                                                                 \
  do {                                                                                             \
    int got_ = (got), want_ = (want);                                                              \
    if (got_ != want_)                                                                             \
      fail_msg("%s: got %d (%s), want %d (%s)", (row), got_, lv_err_name(got_), want_,             \
               lv_err_name(want_));                                                                \
  } while (0)

#endif
