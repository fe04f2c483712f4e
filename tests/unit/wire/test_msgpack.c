/* test_msgpack.c: MessagePack, by the specification's bytes; from JSON and back. (A program of
 * others reads what we write in test_msgpack_peer.py.) */
#include "wire_test.h"

#include <math.h>
#include <stdio.h>

#include "core/rand.h"
#include "wire/json.h"
#include "wire/msgpack.h"

static int from_json(lv_slice json, uint8_t *dst) {
  uint64_t cap = LV_MSGPACK_BOUND(json.n);
  lv_slice copy = heap_copy(json);
  uint8_t *p = malloc(cap);
  int n = lv_msgpack_from_json(copy, p, cap);
  assert_int_not_equal(n, LV_E_TOO_BIG); /* that is what the bound is for */
  if (n > 0) {
    memcpy(dst, p, (size_t)n);
    assert_int_equal(lv_msgpack_check(lv_slice_of(p, (size_t)n)), 0);
    uint8_t *tight = malloc((size_t)n + LV_MSGPACK_NUMBER_MAX);
    for (int cap2 = 0; cap2 < n; cap2++) /* any smaller room is noticed, nothing is overrun */
      if (n < 400) {
        uint8_t *small = malloc((size_t)cap2 + 1);
        assert_int_equal(lv_msgpack_from_json(copy, small, (uint64_t)cap2), LV_E_TOO_BIG);
        free(small);
      }
    assert_int_equal(lv_msgpack_from_json(copy, tight, (uint64_t)n + LV_MSGPACK_NUMBER_MAX), n);
    free(tight);
  }
  free(p);
  heap_free(copy);
  return n;
}

static const struct {
  lv_slice json, bytes;
} rows[] = {
    {B("null"), B("\xC0")},
    {B("false"), B("\xC2")},
    {B("true"), B("\xC3")},
    {B("0"), B("\x00")},
    {B("-0"), B("\x00")},
    {B("127"), B("\x7F")},
    {B("128"), B("\xCC\x80")},
    {B("255"), B("\xCC\xFF")},
    {B("256"), B("\xCD\x01\x00")},
    {B("65535"), B("\xCD\xFF\xFF")},
    {B("65536"), B("\xCE\x00\x01\x00\x00")},
    {B("4294967295"), B("\xCE\xFF\xFF\xFF\xFF")},
    {B("4294967296"), B("\xCF\x00\x00\x00\x01\x00\x00\x00\x00")},
    {B("9007199254740993"), B("\xCF\x00\x20\x00\x00\x00\x00\x00\x01")},
    {B("9223372036854775808"), B("\xCF\x80\x00\x00\x00\x00\x00\x00\x00")},
    {B("18446744073709551615"), B("\xCF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF")},
    {B("18446744073709551616"), B("\xCB\x43\xF0\x00\x00\x00\x00\x00\x00")},
    {B("-1"), B("\xFF")},
    {B("-32"), B("\xE0")},
    {B("-33"), B("\xD0\xDF")},
    {B("-128"), B("\xD0\x80")},
    {B("-129"), B("\xD1\xFF\x7F")},
    {B("-32768"), B("\xD1\x80\x00")},
    {B("-32769"), B("\xD2\xFF\xFF\x7F\xFF")},
    {B("-2147483648"), B("\xD2\x80\x00\x00\x00")},
    {B("-2147483649"), B("\xD3\xFF\xFF\xFF\xFF\x7F\xFF\xFF\xFF")},
    {B("-9223372036854775808"), B("\xD3\x80\x00\x00\x00\x00\x00\x00\x00")},
    {B("-9223372036854775809"), B("\xCB\xC3\xE0\x00\x00\x00\x00\x00\x00")},
    {B("1.0"), B("\xCB\x3F\xF0\x00\x00\x00\x00\x00\x00")},
    {B("1e0"), B("\xCB\x3F\xF0\x00\x00\x00\x00\x00\x00")},
    {B("-0.0"), B("\xCB\x80\x00\x00\x00\x00\x00\x00\x00")},
    {B("0.1"), B("\xCB\x3F\xB9\x99\x99\x99\x99\x99\x9A")},
    {B("1e400"), B("\xCB\x7F\xF0\x00\x00\x00\x00\x00\x00")},
    {B("-1e400"), B("\xCB\xFF\xF0\x00\x00\x00\x00\x00\x00")},
    {B("1e-400"), B("\xCB\x00\x00\x00\x00\x00\x00\x00\x00")},
    {B("\"\""), B("\xA0")},
    {B("\"a\""), B("\xA1"
                   "a")},
    {B("\"\\u00e9\\ud83d\\ude00\\u0000\""), B("\xA7\xC3\xA9\xF0\x9F\x98\x80\x00")},
    {B("\"0123456789012345678901234567890\""), B("\xBF"
                                                 "0123456789012345678901234567890")},
    {B("\"01234567890123456789012345678901\""), B("\xD9\x20"
                                                  "01234567890123456789012345678901")},
    {B("[]"), B("\x90")},
    {B("{}"), B("\x80")},
    {B(" [ 1 , [ ] , { } ] "), B("\x93\x01\x90\x80")},
    {B("{\"a\":1,\"a\":2}"), B("\x82\xA1"
                               "a\x01\xA1"
                               "a\x02")},
    {B("{\"b\":{\"c\":[null]}}"), B("\x81\xA1"
                                    "b\x81\xA1"
                                    "c\x91\xC0")},
    {B("[0,1,2,3,4,5,6,7,8,9,0,1,2,3,4]"), B("\x9F\0\1\2\3\4\5\6\7\x08\x09\0\1\2\3\4")},
    {B("[0,1,2,3,4,5,6,7,8,9,0,1,2,3,4,5]"), B("\xDC\x00\x10\0\1\2\3\4\5\6\7\x08\x09\0\1\2\3\4\5")},
    {B("[[0,1,2,3,4,5,6,7,8,9,0,1,2,3,4,5],7]"),
     B("\x92\xDC\x00\x10\0\1\2\3\4\5\6\7\x08\x09\0\1\2\3\4\5\x07")},
};

static void test_from_json(void **state) {
  uint8_t buf[512];
  for (size_t i = 0; i < COUNT(rows); i++) {
    int n = from_json(rows[i].json, buf);
    assert_err(n < 0 ? n : 0, 0, (const char *)rows[i].json.p);
    assert_slice(lv_slice_of(buf, (size_t)n), rows[i].bytes);
  }
}

static void test_refused(void **state) {
  uint8_t buf[2048];
  static char deep[300];
  memset(deep, '[', 129);
  memset(deep + 129, ']', 129);
  assert_int_equal(from_json(lv_slice_str(deep), buf), LV_E_NESTING);
  assert_int_equal(from_json(lv_slice_of(deep + 1, 256), buf), 128);
  assert_int_equal(from_json(S("[\"\\ud800\"]"), buf), LV_E_SURROGATE);
  assert_int_equal(from_json(S("{\"\\udc00\":1}"), buf), LV_E_SURROGATE);
  assert_int_equal(from_json(S("[1"), buf), LV_E_PAYLOAD);
  assert_int_equal(from_json(S(""), buf), LV_E_PAYLOAD);
  assert_int_equal(from_json(S("[1,]"), buf), LV_E_PAYLOAD);
}

static void test_large(void **state) {
  enum { MANY = 70000 };
  char *text = malloc(MANY * 8 + 16);
  uint8_t *out = malloc(LV_MSGPACK_BOUND(MANY * 8 + 16));
  uint32_t n = 0;
  text[n++] = '[';
  for (uint32_t i = 0; i < MANY; i++, n += 2) memcpy(text + n, "7,", 2);
  text[n - 1] = ']';
  assert_int_equal(from_json(lv_slice_of(text, n), out), MANY + 5);
  assert_memory_equal(out, "\xDD\x00\x01\x11\x70\x07", 6);
  n = 0;
  text[n++] = '{';
  for (uint32_t i = 0; i < MANY; i++, n += 5) memcpy(text + n, "\"\":1,", 5);
  text[n - 1] = '}';
  assert_int_equal(from_json(lv_slice_of(text, n), out), MANY * 2 + 5);
  assert_memory_equal(out, "\xDF\x00\x01\x11\x70\xA0\x01", 7);
  text[0] = '"';
  memset(text + 1, 'x', MANY);
  text[MANY + 1] = '"';
  assert_int_equal(from_json(lv_slice_of(text, MANY + 2), out), MANY + 5);
  assert_memory_equal(out, "\xDB\x00\x01\x11\x70x", 6);
  free(text);
  free(out);
}

static int to_json(lv_slice in, lv_buf *out) {
  lv_slice copy = heap_copy(in);
  lv_buf_reset(out);
  int err = lv_msgpack_to_json(copy, out);
  heap_free(copy);
  return err;
}

static const struct {
  lv_slice bytes;
  int want;
  lv_slice json;
} back[] = {
    {B("\xC0"), 0, B("null")},
    {B("\xD0\x05"), 0, B("5")},
    {B("\xD3\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"), 0, B("-1")},
    {B("\xCF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"), 0, B("18446744073709551615")},
    {B("\xCA\x3F\x00\x00\x00"), 0, B("0.5")},
    {B("\xCA\x3D\xCC\xCC\xCD"), 0, B("0.10000000149011612")},
    {B("\xCB\x3F\xF0\x00\x00\x00\x00\x00\x00"), 0, B("1.0")},
    {B("\xD9\x01\x0A"), 0, B("\"\\n\"")},
    {B("\xDA\x00\x01z"), 0, B("\"z\"")},
    {B("\xDB\x00\x00\x00\x01z"), 0, B("\"z\"")},
    {B("\xC4\x02\xFF\x00"), 0, B("\"/wA=\"")},
    {B("\xC5\x00\x00"), 0, B("\"\"")},
    {B("\xC6\x00\x00\x00\x01"
       "f"),
     0, B("\"Zg==\"")},
    {B("\xDC\x00\x02\x01\x80"), 0, B("[1,{}]")},
    {B("\xDD\x00\x00\x00\x00"), 0, B("[]")},
    {B("\xDE\x00\x01\xA1"
       "a\x92\x90\x91\xC3"),
     0, B("{\"a\":[[],[true]]}")},
    {B("\xDF\x00\x00\x00\x02\xA1"
       "a\x01\xA1"
       "b\x81\xA0\xC2"),
     0, B("{\"a\":1,\"b\":{\"\":false}}")},
    {B(""), LV_E_PAYLOAD, B("")},
    {B("\xC1"), LV_E_PAYLOAD, B("")},
    {B("\x01\x02"), LV_E_PAYLOAD, B("")},
    {B("\xCD\x01"), LV_E_PAYLOAD, B("")},
    {B("\xA2"
       "a"),
     LV_E_PAYLOAD, B("")},
    {B("\xDB\xFF\xFF\xFF\xFF"
       "a"),
     LV_E_PAYLOAD, B("")},
    {B("\xDD\xFF\xFF\xFF\xFF\x01"), LV_E_PAYLOAD, B("")},
    {B("\xDF\xFF\xFF\xFF\xFF\x01\x01"), LV_E_PAYLOAD, B("")},
    {B("\x92\x01"), LV_E_PAYLOAD, B("")},
    {B("\xA1\xFF"), LV_E_PAYLOAD, B("")},
    {B("\x81\x01\x02"), LV_E_PAYLOAD, B("")},
    {B("\x81\xC4\x01"
       "a\x02"),
     LV_E_PAYLOAD, B("")},
    {B("\x81\x90\x02"), LV_E_PAYLOAD, B("")},
    {B("\xCB\x7F\xF0\x00\x00\x00\x00\x00\x00"), LV_E_PAYLOAD, B("")},
    {B("\xCB\x7F\xF8\x00\x00\x00\x00\x00\x00"), LV_E_PAYLOAD, B("")},
    {B("\xCA\xFF\x80\x00\x00"), LV_E_PAYLOAD, B("")},
    {B("\xD6\xFF\x00\x00\x00\x00"), LV_E_PAYLOAD, B("")},
    {B("\xC7\x01\x05z"), LV_E_PAYLOAD, B("")},
};

static void test_to_json(void **state) {
  lv_buf out;
  lv_buf_init(&out, 1 << 16);
  for (size_t i = 0; i < COUNT(back); i++) {
    char row[16];
    snprintf(row, sizeof row, "row %zu", i);
    assert_err(to_json(back[i].bytes, &out), back[i].want, row);
    if (!back[i].want) assert_slice(lv_buf_slice(&out), back[i].json);
  }
  /* every kind of ext is read, and refused as JSON only */
  static const lv_slice ext[] = {B("\xD4\x01z"),
                                 B("\xD5\x01zz"),
                                 B("\xD6\x01zzzz"),
                                 B("\xD7\x01zzzzzzzz"),
                                 B("\xD8\x80zzzzzzzzzzzzzzzz"),
                                 B("\xC7\x00\x01"),
                                 B("\xC8\x00\x01\x01z"),
                                 B("\xC9\x00\x00\x00\x01\x01z")};
  for (size_t i = 0; i < COUNT(ext); i++) {
    assert_int_equal(lv_msgpack_check(ext[i]), 0);
    assert_int_equal(lv_msgpack_check((lv_slice){ext[i].p, ext[i].n - 1}), LV_E_PAYLOAD);
    assert_int_equal(to_json(ext[i], &out), LV_E_PAYLOAD);
  }
  lv_buf_done(&out);
  lv_buf_init(&out, 4);
  assert_int_equal(to_json(S("\xA3"
                             "abc"),
                           &out),
                   LV_E_TOO_BIG);
  assert_int_equal(to_json(S("\x93\x01\x02\x03"), &out), LV_E_TOO_BIG);
  lv_buf_done(&out);
}

static void test_depth(void **state) {
  uint8_t deep[160];
  memset(deep, 0x91, sizeof deep);
  deep[128] = 1;
  assert_int_equal(lv_msgpack_check((lv_slice){deep, 129}), 0);
  deep[128] = 0x90; /* one more level, an empty one: it opens nothing */
  assert_int_equal(lv_msgpack_check((lv_slice){deep, 129}), 0);
  deep[128] = 0x91;
  deep[129] = 1;
  assert_int_equal(lv_msgpack_check((lv_slice){deep, 130}), LV_E_NESTING);
}

static void test_skip(void **state) {
  lv_msgpack m;
  lv_msgpack_tok t;
  lv_msgpack_init(&m, S("\x94\x92\x91\x01\x80\xA1z\x80\x07"));
  assert_int_equal(lv_msgpack_next(&m, &t), 1);
  assert_int_equal(lv_msgpack_next(&m, &t), 1);
  assert_int_equal(lv_msgpack_skip(&m, &t), 0);
  assert_int_equal(lv_msgpack_next(&m, &t), 1);
  assert_slice(t.s, S("z"));
  assert_int_equal(lv_msgpack_next(&m, &t), 1);
  assert_int_equal(t.type, LV_MSGPACK_MAP);
  assert_int_equal(lv_msgpack_skip(&m, &t), 0);
  assert_int_equal(lv_msgpack_next(&m, &t), 1);
  assert_int_equal(t.u, 7);
  assert_int_equal(t.closes, 1);
  assert_int_equal(lv_msgpack_next(&m, &t), 0);
}

/* ---- random texts ---- */

static uint32_t add(char *p, const char *s) {
  memcpy(p, s, strlen(s));
  return (uint32_t)strlen(s);
}

static uint32_t random_number(lv_rand *r, char *p) {
  uint64_t bits = lv_rand_u64(r) >> lv_rand_below(r, 64);
  double v;
  switch (lv_rand_below(r, 4)) {
  case 0: return (uint32_t)(lv_json_put_u64((uint8_t *)p, bits) - (uint8_t *)p);
  case 1: return (uint32_t)(lv_json_put_i64((uint8_t *)p, -(int64_t)(bits >> 1)) - (uint8_t *)p);
  case 2: return (uint32_t)snprintf(p, 40, "%.*f", (int)lv_rand_below(r, 9), (double)bits / 1e6);
  default: bits = lv_rand_u64(r); memcpy(&v, &bits, 8);
  }
  if (!isfinite(v)) v = 0.5;
  return (uint32_t)(lv_json_put_double((uint8_t *)p, v) - (uint8_t *)p);
}

static uint32_t random_text(lv_rand *r, char *p, uint32_t depth) {
  static const char *const leaves[] = {"true",         "null",
                                       "\"\"",         "\"a\\n\\u00e9\"",
                                       "\"\xC3\xA9\"", "\"0123456789abcdef0123456789abcdef\\\\\""};
  uint64_t pick = lv_rand_below(r, depth > 4 ? 4 : 7);
  if (pick < 2) return add(p, leaves[lv_rand_below(r, COUNT(leaves))]);
  if (pick < 4) return random_number(r, p);
  bool object = pick & 1;
  uint32_t n = 0, items = (uint32_t)lv_rand_below(r, depth > 2 ? 4 : 20);
  p[n++] = object ? '{' : '[';
  for (uint32_t i = 0; i < items; i++) {
    if (i) p[n++] = ',';
    if (object) n += add(p + n, "\"k\":");
    n += random_text(r, p + n, depth + 1);
  }
  p[n++] = object ? '}' : ']';
  return n;
}

/* JSON → msgpack → JSON → msgpack ends in the same bytes; and in the meantime the JSON says the
 * same, token by token. */
static void test_round_trip(void **state) {
  static char text[1 << 20];
  static uint8_t one[4 << 20], two[4 << 20];
  lv_rand r;
  lv_buf out;
  lv_buf_init(&out, 4 << 20);
  lv_rand_init(&r, 5);
  for (int i = 0; i < 4000; i++) {
    lv_slice in = lv_slice_of(text, random_text(&r, text, 0));
    int n = from_json(in, one);
    assert_true(n > 0);
    lv_buf_reset(&out);
    assert_int_equal(lv_msgpack_to_json(lv_slice_of(one, (size_t)n), &out), 0);
    assert_int_equal(lv_json_check_value(lv_buf_slice(&out)), 0);
    int m = lv_msgpack_from_json(lv_buf_slice(&out), two, sizeof two);
    assert_int_equal(n, m);
    assert_memory_equal(one, two, (size_t)n);
  }
  lv_buf_done(&out);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_from_json),  cmocka_unit_test(test_refused),
      cmocka_unit_test(test_large),      cmocka_unit_test(test_to_json),
      cmocka_unit_test(test_depth),      cmocka_unit_test(test_skip),
      cmocka_unit_test(test_round_trip),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
