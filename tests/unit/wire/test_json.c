/* test_json.c: the JSON scanner, picker, numbers and writer; and jansson as a second opinion on
 * random and damaged texts. */
#include "wire_test.h"

#include <jansson.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>

#include "core/rand.h"
#include "wire/json.h"

enum { OK = 0, NO = LV_E_PAYLOAD, DEEP = LV_E_NESTING };

static int check(lv_slice s, uint8_t *ret_flags) {
  uint32_t at = 0;
  lv_slice copy = heap_copy(s);
  int err = lv_json_check(copy, ret_flags, &at);
  assert_true(at <= s.n);
  heap_free(copy);
  return err;
}

static const struct {
  lv_slice in;
  int want;
} rows[] = {
    /* values and white space */
    {B("null"), OK},
    {B("true"), OK},
    {B("false"), OK},
    {B("0"), OK},
    {B("\"\""), OK},
    {B("[]"), OK},
    {B("{}"), OK},
    {B(" \t\r\n1 \t\r\n"), OK},
    {B("[ ]"), OK},
    {B("{ }"), OK},
    {B(" [ 1 , 2 ] "), OK},
    {B(" { \"a\" : 1 , \"b\" : [ ] } "), OK},
    {B(""), NO},
    {B(" "), NO},
    {B("\xEF\xBB\xBF"
       "1"),
     NO},
    {B("1 2"), NO},
    {B("[] []"), NO},
    {B("1\f"), NO},
    {B("\v1"), NO},
    {B("1\0"), NO},
    {B("\xC2\xA0"
       "1"),
     NO},
    {B("nul"), NO},
    {B("nulll"), NO},
    {B("True"), NO},
    {B("tru"), NO},
    {B("NaN"), NO},
    {B("Infinity"), NO},
    {B("undefined"), NO},
    {B("'a'"), NO},
    {B("a"), NO},
    {B("// c\n1"), NO},
    {B("/* c */1"), NO},
    {B("truefalse"), NO},
    /* numbers */
    {B("-0"), OK},
    {B("-1"), OK},
    {B("1.5"), OK},
    {B("0.0"), OK},
    {B("1e5"), OK},
    {B("1E+05"), OK},
    {B("1e-0"), OK},
    {B("-0.0e-0"), OK},
    {B("1e400"), OK},
    {B("-1e-999999999999"), OK},
    {B("123456789012345678901234567890"), OK},
    {B("00"), NO},
    {B("01"), NO},
    {B("-01"), NO},
    {B("-"), NO},
    {B("+1"), NO},
    {B(".5"), NO},
    {B("1."), NO},
    {B("1.e1"), NO},
    {B("1e"), NO},
    {B("1e+"), NO},
    {B("1e1.5"), NO},
    {B("0x1"), NO},
    {B("--1"), NO},
    {B("1_0"), NO},
    {B("- 1"), NO},
    {B("1,5"), NO},
    {B("\xEF\xBC\x91"), NO},
    {B("[-]"), NO},
    {B("[1e]"), NO},
    {B("[0e]"), NO},
    /* arrays and objects */
    {B("[1,]"), NO},
    {B("[,1]"), NO},
    {B("[1 2]"), NO},
    {B("[,]"), NO},
    {B("["), NO},
    {B("]"), NO},
    {B("[1"), NO},
    {B("[1,"), NO},
    {B("[1}"), NO},
    {B("{1}"), NO},
    {B("{\"a\"}"), NO},
    {B("{\"a\":}"), NO},
    {B("{\"a\":1,}"), NO},
    {B("{,\"a\":1}"), NO},
    {B("{\"a\" 1}"), NO},
    {B("{\"a\"::1}"), NO},
    {B("{a:1}"), NO},
    {B("{'a':1}"), NO},
    {B("{\"a\":1"), NO},
    {B("{"), NO},
    {B("{\"a\":1]"), NO},
    {B("{\"a\":1}}"), NO},
    {B("[[]"), NO},
    {B("{\"a\":1,\"a\":2}"), OK},
    {B("{\"\":0}"), OK},
    {B("[[],{},[{}]]"), OK},
    {B("{\"a\":{\"b\":[{}]}}"), OK},
    {B("{\"a\":1 \"b\":2}"), NO},
    {B("{[]:1}"), NO},
    {B("[\"a\":1]"), NO},
    {B("{\"a\":1,2}"), NO},
    {B("{null:1}"), NO},
    {B("[1,[2,{\"a\":[]}]"), NO},
    {B("{\"a"), NO},
    {B("{\"a\":"), NO},
    /* strings */
    {B("\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\""), OK},
    {B("\"\\uD83D\\uDE00\""), OK},
    {B("\"\\u0000\""), OK},
    {B("\"\x7F\""), OK},
    {B("\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\""), OK},
    {B("\"\xEF\xBF\xBF\""), OK},
    {B("\""), NO},
    {B("\"a"), NO},
    {B("\"\\\""), NO},
    {B("\"\\"), NO},
    {B("\"\\a\""), NO},
    {B("\"\\x41\""), NO},
    {B("\"\\'\""), NO},
    {B("\"\\u12\""), NO},
    {B("\"\\u12g4\""), NO},
    {B("\"\\U0041\""), NO},
    {B("\"\\u\""), NO},
    {B("\"\\uD83D\\u12\""), NO},
    {B("\"\\uD83D\\\""), NO},
    {B("\"\\0\""), NO},
    {B("\"\n\""), NO},
    {B("\"\t\""), NO},
    {B("\"\0\""), NO},
    {B("\"\x1F\""), NO},
    {B("\"\x80\""), NO},
    {B("\"\xC3\""), NO},
    {B("\"\xC0\xAF\""), NO},
    {B("\"\xE0\x80\x80\""), NO},
    {B("\"\xED\xA0\x80\""), NO},
    {B("\"\xF4\x90\x80\x80\""), NO},
    {B("\"\xF5\x80\x80\x80\""), NO},
    {B("\"\xFF\""), NO},
    {B("{\"\xFF\":1}"), NO},
    {B("[\"a\",\"\xE9\"]"), NO},
    {B("\"0123456789abcdef0123456789abcde\n\""), NO},
    {B("\"0123456789abcdef\xC3\""), NO},
    {B("\"0123456789abcdef0123456789abcdef\\u00e9\xC3\xA9\""), OK},
    {B("\"0123456789abcd\xC3\xA9\""), OK},
};

static void test_grammar(void **state) {
  for (size_t i = 0; i < COUNT(rows); i++) {
    assert_err(check(rows[i].in, NULL), rows[i].want, (const char *)rows[i].in.p);
    /* the pull scanner comes to the same end */
    lv_json j;
    lv_json_tok t;
    int got;
    lv_json_init(&j, rows[i].in);
    while ((got = lv_json_next(&j, &t)) == 1) assert_true(t.s.p <= j.p && j.p <= j.end);
    assert_int_equal(got, rows[i].want);
  }
}

static lv_slice nested(char *buf, uint32_t n, const char *open, const char *close) {
  uint32_t size = 0;
  for (uint32_t i = 0; i < n; i++, size += (uint32_t)strlen(open))
    memcpy(buf + size, open, strlen(open));
  buf[size++] = '1';
  for (uint32_t i = 0; i < n; i++) buf[size++] = *close;
  return lv_slice_of(buf, size);
}

static void test_depth(void **state) {
  char buf[4096];
  assert_int_equal(check(nested(buf, 128, "[", "]"), NULL), 0);
  assert_int_equal(check(nested(buf, 129, "[", "]"), NULL), DEEP);
  assert_int_equal(check(nested(buf, 128, "{\"a\":", "}"), NULL), 0);
  assert_int_equal(check(nested(buf, 129, "{\"a\":", "}"), NULL), DEEP);
  assert_int_equal(check(nested(buf, 128, "[", "}"), NULL), NO);
  /* each level remembers which bracket it was */
  uint32_t n = 0;
  for (uint32_t i = 0; i < 64; i++, n += 6) memcpy(buf + n, "[{\"a\":", 6);
  buf[n++] = '1';
  for (uint32_t i = 0; i < 64; i++, n += 2) memcpy(buf + n, "}]", 2);
  assert_int_equal(check(lv_slice_of(buf, n), NULL), 0);
  for (uint32_t i = n - 128; i < n; i++) {
    char was = buf[i];
    buf[i] = was == '}' ? ']' : '}';
    assert_int_equal(check(lv_slice_of(buf, n), NULL), NO);
    buf[i] = was;
  }
}

static void test_flags(void **state) {
  uint8_t f;
  static const struct {
    lv_slice in;
    uint8_t want;
  } flags[] = {
      {B("\"a\""), 0},
      {B("\"\\n\""), LV_JSON_ESCAPED},
      {B("\"\\u0000\""), LV_JSON_ESCAPED | LV_JSON_NUL},
      {B("\"\\uD800\""), LV_JSON_ESCAPED | LV_JSON_SURROGATE},
      {B("\"\\uDC00\""), LV_JSON_ESCAPED | LV_JSON_SURROGATE},
      {B("\"\\uDBFF\\uDFFF\""), LV_JSON_ESCAPED},
      {B("\"\\uDC00\\uD800\""), LV_JSON_ESCAPED | LV_JSON_SURROGATE},
      {B("\"\\uD800\\uD800\\uDC00\""), LV_JSON_ESCAPED | LV_JSON_SURROGATE},
      {B("\"\\uD800x\""), LV_JSON_ESCAPED | LV_JSON_SURROGATE},
      {B("\"\\uD800\\n\""), LV_JSON_ESCAPED | LV_JSON_SURROGATE},
      {B("{\"\\ud800\":1}"), LV_JSON_ESCAPED | LV_JSON_SURROGATE | LV_JSON_INTEGER},
      {B("[1.0]"), 0},
      {B("[1]"), LV_JSON_INTEGER},
  };
  for (size_t i = 0; i < COUNT(flags); i++) {
    assert_int_equal(check(flags[i].in, &f), 0);
    assert_int_equal(f, flags[i].want);
    assert_int_equal(lv_json_check_value(flags[i].in),
                     flags[i].want & LV_JSON_SURROGATE ? LV_E_SURROGATE : 0);
  }
}

static void test_pick(void **state) {
  lv_slice names[] = {B("typ"), B("chn"), B("val"), B("no")};
  lv_json_tok t[4];
  lv_slice in = S(" {\"val\" : {\"typ\":9, \"x\":[1,{}]}, \"t\\u0079p\": 3, \"a\":[[]],"
                  "\"chn\":\"x\", \"chn\":\"\\u00e9\", \"typx\":1,\"ty\":2,\"\\u0074y\":5} ");
  assert_int_equal(lv_json_pick_from(in, names, 4, t), 0);
  assert_int_equal(t[0].type, LV_JSON_NUMBER);
  assert_slice(t[0].s, S("3"));
  assert_slice(t[2].s, S("{\"typ\":9, \"x\":[1,{}]}"));
  assert_int_equal(t[3].type, LV_JSON_NONE);
  uint8_t buf[16];
  lv_slice s;
  assert_int_equal(lv_json_unescape(&t[1], buf, &s), 0);
  assert_slice(s, S("\xC3\xA9")); /* the last of two */
  assert_int_equal(lv_json_pick_from(S("[1]"), names, 4, t), NO);
  assert_int_equal(lv_json_pick_from(S("{\"a\":1"), names, 4, t), NO);
  assert_int_equal(lv_json_pick_from(S("{} x"), names, 4, t), NO);
  assert_int_equal(lv_json_pick_from(S("{}"), names, 4, t), 0);
  /* items of a batch, and a flag from deep inside */
  lv_json j;
  lv_json_tok item;
  uint32_t n = 0;
  lv_json_init(&j, S("[{\"val\":[\"\\ud800\"]},5,{\"typ\":1}]"));
  assert_int_equal(lv_json_next(&j, &item), 1);
  while (lv_json_next(&j, &item) == 1 && item.type != LV_JSON_ARRAY_END) {
    assert_int_equal(lv_json_skip(&j, &item), 0);
    if (n == 0) assert_true(item.flags & LV_JSON_SURROGATE);
    assert_slice(item.s, n == 0   ? S("{\"val\":[\"\\ud800\"]}")
                         : n == 1 ? S("5")
                                  : S("{\"typ\":1}"));
    n++;
  }
  assert_int_equal(n, 3);
  assert_int_equal(lv_json_next(&j, &item), 0);
}

static lv_json_tok only(lv_slice s) {
  lv_json j;
  lv_json_tok t;
  lv_json_init(&j, s);
  assert_int_equal(lv_json_next(&j, &t), 1);
  return t;
}

static void test_unescape(void **state) {
  lv_json_tok t = only(S("\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\u20AC\\uD83D\\uDE00z\""));
  uint8_t buf[128];
  lv_slice got;
  assert_int_equal(lv_json_unescape(&t, buf, &got), 0);
  assert_slice(got, S("a\"\\/\b\f\n\r\tA\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z"));
  assert_int_equal(lv_json_unescaped_size(&t), got.n);
  t = only(S("\"a\\ud800\""));
  assert_int_equal(lv_json_unescape(&t, buf, &got), LV_E_SURROGATE);
  t = only(S("\"plain\""));
  assert_int_equal(lv_json_unescape(&t, buf, &got), 0);
  assert_ptr_equal(got.p, t.s.p);
}

static void test_integers(void **state) {
  static const struct {
    lv_slice in;
    bool ok, negative;
    uint64_t v;
  } ints[] = {
      {B("0"), 1, 0, 0},
      {B("-0"), 1, 0, 0},
      {B("-1"), 1, 1, UINT64_MAX},
      {B("18446744073709551615"), 1, 0, UINT64_MAX},
      {B("18446744073709551616"), 0, 0, 0},
      {B("99999999999999999999"), 0, 0, 0},
      {B("-9223372036854775808"), 1, 1, 1ull << 63},
      {B("-9223372036854775809"), 0, 0, 0},
      {B("1.0"), 0, 0, 0},
      {B("1e2"), 0, 0, 0},
  };
  for (size_t i = 0; i < COUNT(ints); i++) {
    lv_json_tok t = only(ints[i].in);
    uint64_t v = 0;
    bool negative = false;
    assert_int_equal(lv_json_integer(&t, &v, &negative), ints[i].ok);
    assert_true(v == ints[i].v && negative == ints[i].negative);
  }
}

static double to_double(lv_slice s) {
  lv_json_tok t = only(s);
  return lv_json_double(&t);
}
static void same(double a, double b, const char *what) {
  if (memcmp(&a, &b, 8) != 0) fail_msg("%s: got %a, want %a", what, a, b);
}

static void test_doubles(void **state) {
  static const char *const texts[] = {
      "0.0",
      "-0.0",
      "-0",
      "0e99999999999",
      "1.5",
      "0.1",
      "1e22",
      "1e23",
      "123456789012345678",
      "9007199254740993",
      "9007199254740992.999",
      "1e-22",
      "1e-23",
      "2.2250738585072011e-308",
      "2.2250738585072014e-308",
      "4.9e-324",
      "2.4703282292062327e-324",
      "2.4703282292062328e-324",
      "1.7976931348623157e308",
      "1.7976931348623158e308",
      "1.7976931348623159e308",
      "0.000001e6",
      "100000000000000000000000e-23",
      "1e-400",
      "5e-324",
      "8.5e-5",
      "3.14159265358979",
      "17976931348623157081452742373170435679807056752584499659891747680315726078002853876058955863"
      "2"
      "76687817154045895351438246423432132688946418276846754670353751698604991057655128207624549009"
      "0"
      "389328944075868508455133942304583236903222948165808559332123347974797E0",
      "0.500000000000000166533453693773481063544750213623046875",
      "0.50000000000000016653345369377348106354475021362304687500000000001"};
  for (size_t i = 0; i < COUNT(texts); i++)
    same(to_double(lv_slice_str(texts[i])), strtod(texts[i], NULL), texts[i]);
  assert_true(isinf(to_double(S("1e400"))) && to_double(S("-1e400")) < 0);
  assert_true(isinf(to_double(S("1e99999999999999999999"))));
  same(to_double(S("-1e-99999999999999999999")), -0.0, "underflow");
  /* a tie that a digit far behind decides: 1 + 2^-53 and a 1 after 1000 zeros */
  static char far[1200] = "1.00000000000000011102230246251565404236316680908203125";
  size_t n = strlen(far);
  same(to_double(lv_slice_str(far)), 1.0, "tie to even");
  memset(far + n, '0', 1000);
  same(to_double(lv_slice_str(far)), 1.0, "tie to even, zeros");
  far[n + 1000] = '1';
  same(to_double(lv_slice_str(far)), 1.0000000000000002, "above the tie");
  /* zeros in front and behind do not count as digits */
  static char zeros[2100] = "0.";
  memset(zeros + 2, '0', 2000);
  memcpy(zeros + 2002, "15e2001", 8);
  same(to_double(lv_slice_str(zeros)), 1.5, "zeros in front");
  static char whole[2100] = "15";
  memset(whole + 2, '0', 2000);
  memcpy(whole + 2002, "e-2001", 7);
  same(to_double(lv_slice_str(whole)), 1.5, "zeros behind");
}

static void double_round(double v) {
  uint8_t buf[LV_JSON_DOUBLE_MAX];
  lv_slice s = lv_slice_of(buf, (size_t)(lv_json_put_double(buf, v) - buf));
  assert_int_equal(check(s, NULL), 0);
  lv_json_tok t = only(s);
  assert_false(t.flags & LV_JSON_INTEGER);
  same(lv_json_double(&t), v, "round trip");
}

static void test_double_text(void **state) {
  uint8_t buf[LV_JSON_DOUBLE_MAX];
  static const struct {
    double v;
    lv_slice want;
  } texts[] = {{1, B("1.0")},           {-0.0, B("-0.0")},
               {0.1, B("0.1")},         {1e300, B("1e+300")},
               {-2.5, B("-2.5")},       {1e15, B("1e+15")},
               {100000, B("100000.0")}, {5e-324, B("4.94065645841247e-324")}};
  for (size_t i = 0; i < COUNT(texts); i++)
    assert_slice(lv_slice_of(buf, (size_t)(lv_json_put_double(buf, texts[i].v) - buf)),
                 texts[i].want);
  lv_rand r;
  lv_rand_init(&r, 7);
  const char *locales[] = {"C", "de_DE.UTF-8", "C.UTF-8"};
  for (size_t l = 0; l < COUNT(locales); l++) {
    (void)setlocale(LC_ALL, locales[l]); /* where it exists */
    for (int i = 0; i < 20000; i++) {
      uint64_t bits = lv_rand_u64(&r);
      double v;
      memcpy(&v, &bits, 8);
      if (isfinite(v)) double_round(v);
      double_round((double)(int64_t)bits / 1000);
    }
  }
  (void)setlocale(LC_ALL, "C");
}

static void test_ints_text(void **state) {
  uint8_t buf[24];
  static const int64_t v[] = {0, 9, 10, -1, 1234567890123, INT64_MAX, INT64_MIN};
  for (size_t i = 0; i < COUNT(v); i++) {
    char want[32];
    snprintf(want, sizeof want, "%lld", (long long)v[i]);
    assert_slice(lv_slice_of(buf, (size_t)(lv_json_put_i64(buf, v[i]) - buf)), lv_slice_str(want));
  }
  assert_slice(lv_slice_of(buf, (size_t)(lv_json_put_u64(buf, UINT64_MAX) - buf)),
               S("18446744073709551615"));
}

static void written(lv_slice in, lv_slice want) {
  uint32_t size = lv_json_string_size(in);
  uint8_t *p = malloc(size);
  lv_slice copy = heap_copy(in);
  assert_int_equal(lv_json_put_string(p, copy) - p, size);
  assert_slice(lv_slice_of(p, size), want);
  assert_int_equal(check(lv_slice_of(p, size), NULL), 0);
  assert_true(size <= LV_JSON_STRING_BOUND(in.n));
  free(p);
  heap_free(copy);
}

static void test_write(void **state) {
  written(S(""), S("\"\""));
  written(S("plain /text'"), S("\"plain /text'\""));
  written(S("a\"b\\c"), S("\"a\\\"b\\\\c\""));
  written(S("\b\t\n\f\r\0\x1F\x7F"), S("\"\\b\\t\\n\\f\\r\\u0000\\u001f\x7F\""));
  written(S("\xC3\xA9\xF0\x9F\x98\x80"), S("\"\xC3\xA9\xF0\x9F\x98\x80\""));
  written(S("a\xFF"
            "b\xC3"),
          S("\"a\xEF\xBF\xBD"
            "b\xEF\xBF\xBD\""));
  written(S("\xED\xA0\x80"), S("\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""));
  written(S("0123456789abcdef0123\nabc\xC3\xA9\n\xE9"),
          S("\"0123456789abcdef0123\\nabc\xC3\xA9\\n\xEF\xBF\xBD\""));
}

/* Random bytes as a string come back as they were, where they are UTF-8. */
static void test_write_random(void **state) {
  lv_rand r;
  lv_rand_init(&r, 3);
  uint8_t in[64], out[LV_JSON_STRING_BOUND(64)], back[LV_JSON_STRING_BOUND(64)];
  for (int i = 0; i < 30000; i++) {
    uint32_t n = (uint32_t)lv_rand_below(&r, sizeof in);
    for (uint32_t k = 0; k < n; k++) {
      in[k] = (uint8_t)lv_rand_below(&r, 128);
      if (k && lv_rand_chance(&r, 0.1)) memcpy(in + k - 1, "\xC3\xA9", 2);
    }
    lv_slice s = {in, n}, got;
    bool valid = lv_utf8_valid(s, false);
    uint32_t size = (uint32_t)(lv_json_put_string(out, s) - out);
    assert_int_equal(size, lv_json_string_size(s));
    assert_int_equal(check((lv_slice){out, size}, NULL), 0);
    lv_json_tok t = only((lv_slice){out, size});
    assert_int_equal(lv_json_unescape(&t, back, &got), 0);
    if (valid) assert_slice(got, s);
  }
}

static void test_base64(void **state) {
  static const struct {
    lv_slice in, want;
  } ok[] = {{B(""), B("")},
            {B("f"), B("Zg==")},
            {B("fo"), B("Zm8=")},
            {B("foo"), B("Zm9v")},
            {B("foob"), B("Zm9vYg==")},
            {B("\xFF\xFE\xFD"), B("//79")},
            {B("\xFB\xEF"), B("++8=")}};
  uint8_t buf[64];
  lv_slice got;
  for (size_t i = 0; i < COUNT(ok); i++) {
    assert_slice(lv_slice_of(buf, (size_t)(lv_base64_put(buf, ok[i].in) - buf)), ok[i].want);
    assert_int_equal(LV_BASE64_SIZE(ok[i].in.n), ok[i].want.n);
    assert_int_equal(lv_base64_decode(ok[i].want, buf, &got), 0);
    assert_slice(got, ok[i].in);
  }
  static const char *const bad[] = {"Z",        "Zg",   "Zg=",  "Zh==",   "Zm9=", "=m8=",
                                    "Zg==Zg==", "Z===", "Zm-_", "Zm9v\n", "Zm 9", "===="};
  for (size_t i = 0; i < COUNT(bad); i++)
    assert_err(lv_base64_decode(lv_slice_str(bad[i]), buf, &got), NO, bad[i]);
}

/* ---- jansson's opinion ---- */

static uint32_t put_leaf(char *p, const char *leaf) {
  size_t n = strlen(leaf);
  memcpy(p, leaf, n);
  return (uint32_t)n;
}

static uint32_t random_text(lv_rand *r, char *p, uint32_t depth) {
  static const char *const leaves[] = {"0",
                                       "-1",
                                       "12.5e-3",
                                       "true",
                                       "false",
                                       "null",
                                       "\"\"",
                                       "\"a\\n\\u00e9\"",
                                       "\"\xC3\xA9\"",
                                       "18446744073709551615",
                                       "\"0123456789abcdef\\\\\"",
                                       "1E5",
                                       "-0.0"};
  uint64_t pick = lv_rand_below(r, depth > 5 ? COUNT(leaves) : COUNT(leaves) + 8);
  if (pick < COUNT(leaves)) return put_leaf(p, leaves[pick]);
  bool object = pick & 1;
  uint32_t n = 0, items = (uint32_t)lv_rand_below(r, 4);
  p[n++] = object ? '{' : '[';
  for (uint32_t i = 0; i < items; i++) {
    if (i) p[n++] = ',';
    if (lv_rand_chance(r, 0.2)) p[n++] = ' ';
    if (object) n += put_leaf(p + n, i & 1 ? "\"k\":" : "\"\\u006b\" :\t");
    n += random_text(r, p + n, depth + 1);
  }
  p[n++] = object ? '}' : ']';
  return n;
}

/* jansson refuses lone surrogates, numbers beyond a double and nothing else that the RFC allows. */
static void test_jansson(void **state) {
  static char text[1 << 20];
  static const char noise[] = "{}[]:,\"\\u0123eE.+- \n\xC3\xA9\x01tfn";
  lv_rand r;
  lv_rand_init(&r, 11);
  uint32_t valid = 0, rounds = 60000;
  for (uint32_t i = 0; i < rounds; i++) {
    uint32_t n = random_text(&r, text, 0);
    for (uint64_t k = lv_rand_below(&r, 3); k; k--)
      text[lv_rand_below(&r, n)] = noise[lv_rand_below(&r, sizeof noise - 1)];
    json_error_t e;
    json_t *v = json_loadb(text, n, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &e);
    int err = lv_json_check_value(lv_slice_of(text, n));
    bool range = !v && json_error_code(&e) == json_error_numeric_overflow;
    if ((v != NULL) != (err == 0) && !range)
      fail_msg("%.*s: jansson %s, we %s", (int)n, text, v ? "takes it" : e.text, lv_err_name(err));
    valid += err == 0;
    json_decref(v);
  }
  assert_true(valid > rounds / 4 && valid < rounds * 9 / 10);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_grammar),      cmocka_unit_test(test_depth),
      cmocka_unit_test(test_flags),        cmocka_unit_test(test_pick),
      cmocka_unit_test(test_unescape),     cmocka_unit_test(test_integers),
      cmocka_unit_test(test_doubles),      cmocka_unit_test(test_double_text),
      cmocka_unit_test(test_ints_text),    cmocka_unit_test(test_write),
      cmocka_unit_test(test_write_random), cmocka_unit_test(test_base64),
      cmocka_unit_test(test_jansson),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
