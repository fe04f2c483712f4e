/* test_batch.c: bodies of batches taken apart. */
#include "gateway/batch.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* after the three above */
#include <cmocka.h>

/* The items joined with `|`, or the error's name. */
static const char *cut(bool array, const char *body, uint32_t max) {
  static char text[512];
  const char *why = NULL;
  lv_cut c;
  uint32_t n = 0;
  /* exactly as large as the body, for the sanitizer */
  size_t len = strlen(body);
  uint8_t *copy = malloc(len ? len : 1);
  memcpy(copy, body, len);
  int err = lv_cut_init(&c, array, lv_slice_of(copy, len), max, &n, &why);
  text[0] = 0;
  if (err) {
    assert_non_null(why);
    free(copy);
    return lv_err_name(err);
  }
  assert_true(n > 0 && n <= max);
  for (uint32_t i = 0; i < n; i++) {
    lv_slice item = lv_cut_next(&c);
    size_t at = strlen(text);
    snprintf(text + at, sizeof text - at, "%s%.*s", i ? "|" : "", (int)item.n,
             (const char *)item.p);
  }
  free(copy);
  return text;
}

static void test_lines(void **state) {
  (void)state;
  assert_string_equal(cut(false, "{\"val\":1}", 9), "{\"val\":1}");
  assert_string_equal(cut(false, "a\nb\n", 9), "a|b");
  assert_string_equal(cut(false, "\n \r\n\t\na\r\n\nb", 9), "a\r|b");
  assert_string_equal(cut(false, "", 9), "INVALID");
  assert_string_equal(cut(false, "\r\n \n", 9), "INVALID");
  assert_string_equal(cut(false, "1\n2\n3", 3), "1|2|3");
  assert_string_equal(cut(false, "1\n2\n3\n4", 3), "TOO_BIG");
}

static void test_array(void **state) {
  (void)state;
  assert_string_equal(cut(true, " [ {\"val\":[1,2]} , {} ] \n", 9), "{\"val\":[1,2]}|{}");
  assert_string_equal(cut(true, "[{},1,\"{}\",[{}],null,{}]", 9), "{}|||||{}");
  assert_string_equal(cut(true, "[]", 9), "INVALID");
  assert_string_equal(cut(true, "", 9), "PAYLOAD");
  assert_string_equal(cut(true, "{}", 9), "PAYLOAD");
  assert_string_equal(cut(true, "[{}", 9), "PAYLOAD");
  assert_string_equal(cut(true, "[{},]", 9), "PAYLOAD");
  assert_string_equal(cut(true, "[{}] []", 9), "PAYLOAD");
  assert_string_equal(cut(true, "[{},{},{}]", 3), "{}|{}|{}");
  assert_string_equal(cut(true, "[{},{},{},{}]", 3), "TOO_BIG");
  char deep[300];
  memset(deep, '[', 299);
  deep[299] = 0;
  assert_string_equal(cut(true, deep, 9), "NESTING");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_lines), cmocka_unit_test(test_array)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
