/* test_base.c: the error table, slices, UTF-8, clocks and RFC 3339. */
#include "core/err.h"
#include "core/slice.h"
#include "core/time.h"
#include "unit.h"
#include <errno.h>
#include <stdlib.h>

static void err_table(void **state) {
  assert_string_equal(lv_err_name(0), "OK");
  assert_string_equal(lv_err_name(LV_E_NOMEM), "NOMEM");
  assert_string_equal(lv_err_name(LV_E_UNSUPPORTED), "UNSUPPORTED");
  assert_string_equal(lv_err_text(LV_E_DISK_FULL), "no space left on the log's disk");
  const int unknown[] = {1, -1, -999, -1000 - LV_EI_COUNT, INT32_MIN, INT32_MAX};
  for (size_t i = 0; i < COUNT_OF(unknown); i++) {
    assert_string_equal(lv_err_name(unknown[i]), "UNKNOWN");
    assert_int_equal(lv_err_http(unknown[i]), 500);
    assert_int_equal(lv_err_mqtt(unknown[i]), 0x80);
  }
  assert_int_equal(lv_err_http(LV_E_FORBIDDEN), 403);
  assert_int_equal(lv_err_mqtt(LV_E_FORBIDDEN), 0x87);
  assert_int_equal(lv_err_close(LV_E_TOO_BIG), 1009);
  assert_true(lv_err_retriable(LV_E_BUSY));
  assert_false(lv_err_retriable(LV_E_BAD_AUTH));
  for (int i = 0; i < LV_EI_COUNT; i++) { /* the row is complete and plausible */
    int e = -1000 - i;
    assert_in_range(lv_err_http(e), 400, 599);
    assert_in_range(lv_err_mqtt(e), 0x80, 0xA2);
    assert_in_range(lv_err_close(e), 1000, 1015);
    assert_true(lv_err_text(e)[0] != 0);
  }
}

static void err_errno(void **state) {
  assert_int_equal(lv_err_from_errno(0), 0);
  assert_int_equal(lv_err_from_errno(ENOSPC), LV_E_DISK_FULL);
  assert_int_equal(lv_err_from_errno(-EDQUOT), LV_E_DISK_FULL);
  assert_int_equal(lv_err_from_errno(ENOMEM), LV_E_NOMEM);
  assert_int_equal(lv_err_from_errno(EIO), LV_E_IO);
  assert_int_equal(lv_err_from_errno(12345), LV_E_IO);
  assert_string_equal(lv_strerror(ENOENT), "No such file or directory");
  assert_string_equal(lv_strerror(-ENOENT), "No such file or directory");
}

static void slice_basics(void **state) {
  lv_slice a = LV_SLICE("abc"), empty = {NULL, 0};
  assert_true(lv_slice_cmp(a, LV_SLICE("abd")) < 0);
  assert_true(lv_slice_cmp(a, LV_SLICE("ab")) > 0);
  assert_true(lv_slice_cmp(empty, a) < 0);
  assert_int_equal(lv_slice_cmp(empty, empty), 0);
  assert_true(lv_slice_cmp(LV_SLICE("\xff"), LV_SLICE("a")) > 0);
  assert_true(lv_slice_caseeq(LV_SLICE("Keep-Alive@["), LV_SLICE("kEEP-aLIVE@[")));
  assert_false(lv_slice_caseeq(LV_SLICE("@"), LV_SLICE("`")));
  assert_false(lv_slice_caseeq(a, LV_SLICE("ab")));
  char *d = lv_slice_dup(a), *e = lv_slice_dup(empty);
  assert_string_equal(d, "abc");
  assert_string_equal(e, "");
  free(d);
  free(e);
}

static void slice_split(void **state) {
  lv_slice s = LV_SLICE("a//b"), head;
  assert_true(lv_slice_split(&s, '/', &head));
  assert_true(lv_slice_eq(head, LV_SLICE("a")));
  assert_true(lv_slice_split(&s, '/', &head));
  assert_int_equal(head.n, 0);
  assert_false(lv_slice_split(&s, '/', &head));
  assert_true(lv_slice_eq(head, LV_SLICE("b")));
  assert_int_equal(s.n, 0);
  s = (lv_slice){NULL, 0};
  assert_false(lv_slice_split(&s, '/', &head));
  assert_int_equal(head.n, 0);
}

static void slice_u64(void **state) {
  uint64_t v = 7;
  assert_int_equal(lv_slice_u64(LV_SLICE("18446744073709551615"), &v), 0);
  assert_true(v == UINT64_MAX);
  assert_int_equal(lv_slice_u64(LV_SLICE("000"), &v), 0);
  assert_true(v == 0);
  const char *bad[] = {
      "", "18446744073709551616", "99999999999999999999", "-1", "+1", " 1", "1 ", "0x1", "1.0"};
  v = 7;
  for (size_t i = 0; i < COUNT_OF(bad); i++)
    assert_int_equal(lv_slice_u64(lv_slice_str(bad[i]), &v), LV_E_INVALID);
  assert_true(v == 7); /* untouched on failure */
}

static uint32_t encode(uint32_t c, uint8_t *p) {
  if (c < 0x80) return p[0] = (uint8_t)c, 1;
  if (c < 0x800) return p[0] = (uint8_t)(0xC0 | c >> 6), p[1] = (uint8_t)(0x80 | (c & 63)), 2;
  if (c < 0x10000) {
    p[0] = (uint8_t)(0xE0 | c >> 12);
    p[1] = (uint8_t)(0x80 | (c >> 6 & 63));
    p[2] = (uint8_t)(0x80 | (c & 63));
    return 3;
  }
  p[0] = (uint8_t)(0xF0 | c >> 18);
  p[1] = (uint8_t)(0x80 | (c >> 12 & 63));
  p[2] = (uint8_t)(0x80 | (c >> 6 & 63));
  p[3] = (uint8_t)(0x80 | (c & 63));
  return 4;
}

static void utf8_code_points(void **state) {
  uint8_t b[4];
  for (uint32_t c = 0; c < 0x120000; c++) {
    uint32_t n = encode(c, b);
    bool good = c <= 0x10FFFF && !(c >= 0xD800 && c <= 0xDFFF);
    if (lv_utf8_valid(lv_slice_of(b, n), false) != good) fail_msg("U+%04X", c);
    if (n > 1 && lv_utf8_valid(lv_slice_of(b, n - 1), false)) fail_msg("cut U+%04X", c);
  }
}

static void utf8_edges(void **state) {
  static const char *bad[] = {"\x80",
                              "\xC0\x80",
                              "\xC1\xBF",
                              "\xE0\x9F\xBF",
                              "\xF0\x8F\xBF\xBF",
                              "\xED\xA0\x80",
                              "\xF4\x90\x80\x80",
                              "\xF5\x80\x80\x80",
                              "\xFF",
                              "abcdefgh\x80",
                              "\xC3\xC3",
                              "\xE2\x82",
                              "\xE2\x82\x28",
                              "12345678\xE2\x28\xA1"};
  for (size_t i = 0; i < COUNT_OF(bad); i++)
    assert_false(lv_utf8_valid(lv_slice_str(bad[i]), false));
  assert_true(lv_utf8_valid((lv_slice){NULL, 0}, true));
  char zero[24];
  for (uint32_t n = 1; n <= sizeof zero; n++) /* U+0000 anywhere, in the fast path too */
    for (uint32_t k = 0; k < n; k++) {
      memset(zero, 'x', sizeof zero);
      zero[k] = 0;
      assert_true(lv_utf8_valid(lv_slice_of(zero, n), false));
      assert_false(lv_utf8_valid(lv_slice_of(zero, n), true));
      zero[k] = 1;
      assert_true(lv_utf8_valid(lv_slice_of(zero, n), true));
    }
}

static void time_text(void **state) {
  static const struct {
    int64_t ms;
    const char *text;
  } t[] = {{0, "1970-01-01T00:00:00.000Z"},
           {-1, "1969-12-31T23:59:59.999Z"},
           {951782400000, "2000-02-29T00:00:00.000Z"},
           {4107542399999, "2100-02-28T23:59:59.999Z"},
           {4107542400000, "2100-03-01T00:00:00.000Z"},
           {1795521600123, "2026-11-24T12:00:00.123Z"},
           {-9000000000000, "1684-10-19T08:00:00.000Z"}};
  char buf[25];
  for (size_t i = 0; i < COUNT_OF(t); i++) {
    lv_wall w = {0};
    assert_string_equal(lv_time_format((lv_wall){t[i].ms * 1000000}, buf, sizeof buf), t[i].text);
    assert_int_equal(lv_time_parse(t[i].text, strlen(t[i].text), &w), 0);
    assert_true(w.ns == t[i].ms * 1000000);
  }
  for (int64_t day = -100000; day < 106000; day += 7) { /* there and back over 560 years */
    lv_wall w = {day * 86400 * 1000000000 + 1000000}, back;
    lv_time_format(w, buf, sizeof buf);
    assert_int_equal(lv_time_parse(buf, 24, &back), 0);
    assert_true(back.ns == w.ns);
  }
}

static void time_parse(void **state) {
  static const struct {
    const char *text;
    int64_t ns;
  } good[] = {{"1970-01-01T00:00:01Z", 1000000000},
              {"1970-01-01t00:00:00.5z", 500000000},
              {"1970-01-01 01:00:00+01:00", 0},
              {"1969-12-31T23:30:00-00:30", 0},
              {"1970-01-01T00:00:00.123456789Z", 123456789},
              {"1970-01-01T00:00:00.1234567899Z", 123456789},
              {"2016-12-31T23:59:60Z", 1483228800000000000}};
  static const char *bad[] = {"",
                              "1970-01-01",
                              "1970-01-01T00:00:00",
                              "1970-13-01T00:00:00Z",
                              "1970-00-01T00:00:00Z",
                              "1970-02-29T00:00:00Z",
                              "2100-02-29T00:00:00Z",
                              "1970-01-01T24:00:00Z",
                              "1970-01-01T00:60:00Z",
                              "1970-01-01T00:00:61Z",
                              "1970-01-01T00:00:00.Z",
                              "1970-01-01T00:00:00Zx",
                              "1970-01-01T00:00:00+1:00",
                              "1970-01-01T00:00:00+24:00",
                              "1970-01-01T00:00:00+01:60",
                              "9999-12-31T00:00:00Z",
                              "1970-1-01T00:00:00Z",
                              "+970-01-01T00:00:00Z"};
  lv_wall w;
  for (size_t i = 0; i < COUNT_OF(good); i++) {
    assert_int_equal(lv_time_parse(good[i].text, strlen(good[i].text), &w), 0);
    assert_true(w.ns == good[i].ns);
  }
  w.ns = 42;
  for (size_t i = 0; i < COUNT_OF(bad); i++)
    if (lv_time_parse(bad[i], strlen(bad[i]), &w) != LV_E_INVALID) fail_msg("%s", bad[i]);
  assert_true(w.ns == 42);
}

static lv_mono fake_mono(void *arg) {
  return (lv_mono){*(int64_t *)arg};
}
static lv_wall fake_wall(void *arg) {
  return (lv_wall){*(int64_t *)arg + 5};
}

static void clock_set(void **state) {
  int64_t t = 1000;
  lv_clock c = {fake_mono, fake_wall, &t};
  lv_mono before = lv_mono_now();
  lv_clock_set(&c);
  assert_true(lv_mono_now().ns == 1000 && lv_wall_now().ns == 1005);
  t = 2000;
  assert_true(lv_mono_now().ns == 2000);
  lv_clock_set(NULL);
  assert_true(lv_mono_now().ns >= before.ns);
  assert_true(lv_wall_now().ns > (int64_t)1600000000 * 1000000000);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(err_table),    cmocka_unit_test(err_errno),
      cmocka_unit_test(slice_basics), cmocka_unit_test(slice_split),
      cmocka_unit_test(slice_u64),    cmocka_unit_test(utf8_code_points),
      cmocka_unit_test(utf8_edges),   cmocka_unit_test(time_text),
      cmocka_unit_test(time_parse),   cmocka_unit_test(clock_set),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
