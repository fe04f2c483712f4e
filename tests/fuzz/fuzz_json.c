/* fuzz_json.c: any bytes as JSON. The check, the pull scanner and picking agree; what was accepted
 * can be decoded and written again; numbers that were accepted have a value. */
#include "fuzz.h"
#include "wire/json.h"
#include <math.h>

static void string(const lv_json_tok *t) {
  uint8_t *p = malloc(t->s.n + 1u);
  lv_slice s, again;
  CHECK(p != NULL);
  int err = lv_json_unescape(t, p, &s);
  CHECK((err == LV_E_SURROGATE) == !!(t->flags & LV_JSON_SURROGATE));
  if (err == 0) {
    CHECK(s.n == lv_json_unescaped_size(t) && lv_utf8_valid(s, false));
    CHECK(lv_utf8_valid(s, true) == !(t->flags & LV_JSON_NUL) || !(t->flags & LV_JSON_ESCAPED));
    uint32_t size = lv_json_string_size(s);
    uint8_t *q = malloc(size), *r = malloc(size);
    CHECK(q && r && lv_json_put_string(q, s) == q + size);
    lv_json j;
    lv_json_tok back;
    lv_json_init(&j, lv_slice_of(q, size));
    CHECK(lv_json_next(&j, &back) == 1 && lv_json_unescape(&back, r, &again) == 0);
    CHECK(lv_slice_eq(s, again));
    free(q);
    free(r);
  }
  free(p);
}

static void number(const lv_json_tok *t) {
  uint64_t v;
  bool negative;
  double d = lv_json_double(t);
  CHECK(!isnan(d));
  if (!lv_json_integer(t, &v, &negative)) return;
  CHECK(d == (negative ? (double)(int64_t)v : (double)v));
}

static int scan(lv_slice in) {
  lv_json j;
  lv_json_tok t;
  int got;
  lv_json_init(&j, in);
  while ((got = lv_json_next(&j, &t)) == 1) {
    fuzz_touch(t.s);
    CHECK(j.depth <= LV_JSON_DEPTH_MAX);
    if (t.type == LV_JSON_STRING || t.type == LV_JSON_NAME) string(&t);
    if (t.type == LV_JSON_NUMBER) number(&t);
  }
  return got;
}

static void pick(lv_slice in, int whole) {
  static const lv_slice names[] = {{(const uint8_t *)"a", 1}, {(const uint8_t *)"val", 3}};
  lv_json_tok t[2];
  int err = lv_json_pick_from(in, names, 2, t);
  CHECK(err == whole || err == LV_E_PAYLOAD);
  for (int i = 0; err == 0 && i < 2; i++)
    if (t[i].type != LV_JSON_NONE && t[i].type != LV_JSON_STRING)
      CHECK(lv_json_check(t[i].s, NULL, NULL) == 0);
}

/* Bytes that are text and are not: written as a string, they are JSON. */
static void write(lv_slice in) {
  uint32_t size = lv_json_string_size(in);
  uint8_t *p = malloc(size), *q = malloc(LV_BASE64_SIZE(in.n) + 1);
  lv_slice back;
  CHECK(p && q && size <= LV_JSON_STRING_BOUND(in.n) && lv_json_put_string(p, in) == p + size);
  CHECK(lv_json_check_value(lv_slice_of(p, size)) == 0);
  uint8_t *end = lv_base64_put(q, in);
  CHECK(end == q + LV_BASE64_SIZE(in.n));
  CHECK(lv_base64_decode(lv_slice_of(q, (size_t)(end - q)), q, &back) == 0);
  CHECK(lv_slice_eq(back, in));
  free(p);
  free(q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  lv_slice in = fuzz_copy(data, size);
  uint8_t flags;
  uint32_t at = 0;
  int whole = lv_json_check(in, &flags, &at);
  CHECK(at <= in.n && scan(in) == whole);
  pick(in, whole);
  write(in);
  fuzz_free(in);
  return 0;
}
