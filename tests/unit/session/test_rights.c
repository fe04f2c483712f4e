/* Rights: publish, read, subscribe, $SYS and anonymous clients. */
#include "session/rights.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* after the above */
#include <cmocka.h>

#define S(x) LV_SLICE(x)

static const lv_right rights[] = {{LV_VERB_PUBLISH, S("in/+/v")},
                                  {LV_VERB_SUBSCRIBE, S("out/#")},
                                  {LV_VERB_SUBSCRIBE, S("in/a/+")}};
static const lv_key some = {.rights = rights, .n_rights = 3};
static const lv_right everything[] = {{LV_VERB_PUBLISH | LV_VERB_SUBSCRIBE, S("#")}};
static const lv_key all = {.rights = everything, .n_rights = 1};
static const lv_key sys = {.verbs = LV_VERB_SYS};

static void test_publish(void **state) {
  assert_true(lv_key_may_publish(&some, S("in/a/v")));
  assert_false(lv_key_may_publish(&some, S("in/a/w")));
  assert_false(lv_key_may_publish(&some, S("out/a"))); /* may be read only */
  assert_true(lv_key_may_publish(&all, S("anything")));
  assert_true(lv_key_may_publish(&all, S("$x")));
  assert_false(lv_key_may_publish(&all, S("$SYS/x")));
  assert_false(lv_key_may_publish(&sys, S("$SYS/x")));
  assert_true(lv_key_may_publish(NULL, S("anything")));
  assert_false(lv_key_may_publish(NULL, S("$SYS/x")));
}

static void test_read(void **state) {
  assert_true(lv_key_may_read(&some, S("out")));
  assert_true(lv_key_may_read(&some, S("in/a/v")));
  assert_false(lv_key_may_read(&some, S("in/b/v")));
  assert_true(lv_key_may_read(&sys, S("$SYS")));
  assert_true(lv_key_may_read(&sys, S("$SYS/a")));
  assert_false(lv_key_may_read(&sys, S("$SYSTEM")));
  assert_false(lv_key_may_read(&all, S("$SYS/a")));
  assert_true(lv_key_may_read(&all, S("$x/a")));
  assert_true(lv_key_may_read(NULL, S("a")));
  assert_false(lv_key_may_read(NULL, S("$SYS/a")));
}

static void filter(const lv_key *key, lv_slice f, bool may, bool whole) {
  bool got = !whole;
  assert_int_equal(lv_key_may_subscribe(key, f, &got), may);
  if (may) assert_int_equal(got, whole);
}

static void test_subscribe(void **state) {
  filter(&some, S("out/x"), true, true);
  filter(&some, S("out/#"), true, true);
  filter(&some, S("#"), true, false);
  filter(&some, S("+/a/v"), true, false);
  filter(&some, S("in/a/v"), true, true);
  filter(&some, S("in/b/v"), false, false);
  filter(&all, S("#"), true, true);
  filter(&all, S("$SYS/#"), false, false);
  filter(&all, S("$x/+"), true, true);
  filter(&sys, S("$SYS/#"), true, true);
  filter(&sys, S("#"), false, false);
  filter(NULL, S("#"), true, true);
  filter(NULL, S("$SYS/#"), false, false);
}

/* What both it and its bound allow; what overlaps both is granted and checked at delivery. */
static void test_within(void **state) {
  static const lv_right bound[] = {{LV_VERB_PUBLISH, LV_SLICE("a/#")},
                                   {LV_VERB_SUBSCRIBE, LV_SLICE("+/x")}};
  static const lv_right wide[] = {{LV_VERB_PUBLISH, LV_SLICE("#")},
                                  {LV_VERB_SUBSCRIBE, LV_SLICE("#")}};
  static const lv_right part[] = {{LV_VERB_PUBLISH, LV_SLICE("+/x")},
                                  {LV_VERB_SUBSCRIBE, LV_SLICE("a/+")}};
  static const lv_key within = {.rights = bound, .n_rights = 2};
  static const lv_key more = {.rights = wide, .n_rights = 2, .within = &within};
  static const lv_key less = {.rights = part, .n_rights = 2, .within = &within};
  static const lv_key none = {.within = &within};
  assert_true(lv_key_may_publish(&more, S("a/y")) && lv_key_may_publish(&less, S("a/x")));
  assert_false(lv_key_may_publish(&more, S("b/x")) || lv_key_may_publish(&less, S("b/x")) ||
               lv_key_may_publish(&less, S("a/y")) || lv_key_may_publish(&none, S("a/x")));
  assert_true(lv_key_may_read(&more, S("b/x")) && lv_key_may_read(&less, S("a/x")));
  assert_false(lv_key_may_read(&more, S("b/y")) || lv_key_may_read(&less, S("b/x")) ||
               lv_key_may_read(&less, S("a/y")) || lv_key_may_read(&none, S("a/x")));
  filter(&more, S("b/x"), true, true);
  filter(&more, S("#"), true, false);
  filter(&more, S("b/y"), false, false);
  filter(&less, S("a/x"), true, true);
  filter(&less, S("a/#"), true, false);
  filter(&less, S("b/x"), false, false);
  filter(&more, S("$SYS/#"), false, false);
  filter(&none, S("#"), false, false);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_publish), cmocka_unit_test(test_read),
                                     cmocka_unit_test(test_subscribe),
                                     cmocka_unit_test(test_within)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
