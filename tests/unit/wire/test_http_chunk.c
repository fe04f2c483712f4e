/* test_http_chunk.c: chunked bodies, whole and in pieces of every size. */
#include "wire_test.h"

#include "wire/http.h"

enum { BODY_MAX = 100 };

/* Feeds `in` in pieces of `step` bytes. Returns how it ended; what was body goes to `out`, and how
 * many bytes were taken to *ret_used. */
static int feed(lv_slice in, uint32_t step, uint8_t *out, uint32_t *ret_n, uint32_t *ret_used) {
  lv_http_chunks c;
  lv_http_chunks_init(&c, BODY_MAX);
  uint32_t at = 0;
  *ret_n = 0;
  while (at < in.n) {
    uint32_t n = in.n - at < step ? in.n - at : step;
    lv_slice piece = heap_copy((lv_slice){in.p + at, n}), rest = piece, data;
    int got;
    while ((got = lv_http_chunk_next(&c, &rest, &data)) == 1) {
      assert_true(data.n > 0 && *ret_n + data.n <= BODY_MAX);
      memcpy(out + *ret_n, data.p, data.n);
      *ret_n += data.n;
    }
    if (got == LV_E_NEED_MORE) assert_int_equal(rest.n, 0);
    at += n - rest.n;
    heap_free(piece);
    if (got != LV_E_NEED_MORE) {
      *ret_used = at;
      return got;
    }
  }
  return LV_E_NEED_MORE;
}

static const struct {
  const char *what;
  lv_slice in;
  int want;
  lv_slice body;
} rows[] = {
    {"one chunk", B("3\r\nabc\r\n0\r\n\r\n"), 0, B("abc")},
    {"two chunks", B("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), 0, B("abcde")},
    {"no body", B("0\r\n\r\n"), 0, B("")},
    {"hex", B("1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n"), 0, B("abcdefghijklmnopqrstuvwxyz")},
    {"hex capitals", B("0A\r\n0123456789\r\n000\r\n\r\n"), 0, B("0123456789")},
    {"CRLF in the data", B("4\r\n\r\n\r\n\r\n0\r\n\r\n"), 0, B("\r\n\r\n")},
    {"extensions", B("3;a=b;c=\"d;e\"\r\nabc\r\n0;x\r\n\r\n"), 0, B("abc")},
    {"space before an extension", B("3 ;a\r\nabc\r\n0\r\n\r\n"), 0, B("abc")},
    {"trailers", B("1\r\na\r\n0\r\nX-Sum: 1\r\nEmpty:\r\n\r\n"), 0, B("a")},
    {"largest body",
     B("60\r\n"
       "0123456789abcdef0123456789abcdef0123456789abcdef"
       "0123456789abcdef0123456789abcdef0123456789abcdef"
       "\r\n4\r\n0123\r\n0\r\n\r\n"),
     0,
     B("0123456789abcdef0123456789abcdef0123456789abcdef"
       "0123456789abcdef0123456789abcdef0123456789abcdef"
       "0123")},
    {"not finished", B("3\r\nabc\r\n0\r\n"), LV_E_NEED_MORE, B("abc")},
    {"empty size", B("\r\nabc"), LV_E_MALFORMED, B("")},
    {"sign", B("+3\r\nabc\r\n"), LV_E_MALFORMED, B("")},
    {"0x", B("0x3\r\nabc\r\n"), LV_E_MALFORMED, B("")},
    {"space first", B(" 3\r\nabc\r\n"), LV_E_MALFORMED, B("")},
    {"space behind", B("3 \r\nabc\r\n"), LV_E_MALFORMED, B("")},
    {"junk behind the size", B("3x;a\r\nabc\r\n"), LV_E_MALFORMED, B("")},
    {"junk behind the blank", B("3 x;a\r\nabc\r\n"), LV_E_MALFORMED, B("")},
    {"bare LF", B("3\nabc\r\n"), LV_E_MALFORMED, B("")},
    {"bare CR", B("3\rabc\r\n"), LV_E_MALFORMED, B("")},
    {"LF in an extension", B("3;a\nabc\r\n"), LV_E_MALFORMED, B("")},
    {"CR in an extension", B("3;a\rb\r\nabc\r\n"), LV_E_MALFORMED, B("")},
    {"NUL in an extension", B("3;\0\r\nabc\r\n"), LV_E_MALFORMED, B("")},
    {"data too long", B("3\r\nabcd\r\n"), LV_E_MALFORMED, B("abc")},
    {"data then LF", B("3\r\nabc\n"), LV_E_MALFORMED, B("abc")},
    {"data then CR CR", B("3\r\nabc\r\r"), LV_E_MALFORMED, B("abc")},
    {"17 digits", B("00000000000000003\r\nabc"), LV_E_MALFORMED, B("")},
    {"above the limit", B("65\r\n"), LV_E_TOO_BIG, B("")},
    {"the sum above the limit", B("1\r\na\r\n64\r\n"), LV_E_TOO_BIG, B("a")},
    {"largest number", B("FFFFFFFFFFFFFFFF\r\n"), LV_E_TOO_BIG, B("")},
    {"trailer fold", B("0\r\nA: b\r\n c\r\n\r\n"), LV_E_MALFORMED, B("")},
    {"trailer without colon", B("0\r\nAb\r\n\r\n"), LV_E_MALFORMED, B("")},
    {"trailer space before colon", B("0\r\nA : b\r\n\r\n"), LV_E_MALFORMED, B("")},
    {"trailer bare LF", B("0\r\nA: b\n\r\n"), LV_E_MALFORMED, B("")},
    {"end by bare LF", B("0\r\n\n"), LV_E_MALFORMED, B("")},
    {"end by CR x", B("0\r\n\rx"), LV_E_MALFORMED, B("")},
};

static void bodies(void **state) {
  (void)state;
  uint8_t out[BODY_MAX];
  for (size_t i = 0; i < COUNT(rows); i++) {
    for (uint32_t step = 1; step <= rows[i].in.n; step++) {
      uint32_t n, used = 0;
      assert_err(feed(rows[i].in, step, out, &n, &used), rows[i].want, rows[i].what);
      assert_slice(lv_slice_of(out, n), rows[i].body);
      if (rows[i].want == 0) assert_int_equal(used, rows[i].in.n);
    }
  }
}

/* What follows the body is the next request, and is left alone. */
static void next_request(void **state) {
  (void)state;
  lv_http_chunks c;
  lv_http_chunks_init(&c, BODY_MAX);
  lv_slice in = S("1\r\na\r\n0\r\n\r\nGET /"), data;
  assert_int_equal(lv_http_chunk_next(&c, &in, &data), 1);
  assert_int_equal(lv_http_chunk_next(&c, &in, &data), 0);
  assert_slice(in, S("GET /"));
}

/* A body of tiny chunks with extensions, and a long trailer section, meet their limits. */
static void bounded(void **state) {
  (void)state;
  lv_http_chunks c;
  lv_http_chunks_init(&c, UINT64_MAX);
  int got = LV_E_NEED_MORE;
  uint32_t rounds = 0;
  for (; rounds < 10000 && (got == 1 || got == LV_E_NEED_MORE); rounds++) {
    lv_slice in = S("1;0123456789\r\na\r\n"), data;
    while ((got = lv_http_chunk_next(&c, &in, &data)) == 1) continue;
  }
  assert_int_equal(got, LV_E_TOO_BIG);
  assert_in_range(rounds, 80, 110);
  lv_http_chunks_init(&c, 0);
  lv_slice in = S("0\r\n"), data;
  assert_int_equal(lv_http_chunk_next(&c, &in, &data), LV_E_NEED_MORE);
  for (rounds = 0; rounds < 10000; rounds++) {
    in = S("n");
    if ((got = lv_http_chunk_next(&c, &in, &data)) != LV_E_NEED_MORE) break;
  }
  assert_int_equal(got, LV_E_TOO_BIG);
  assert_int_equal(rounds, LV_HTTP_TRAILER_MAX);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(bodies),
      cmocka_unit_test(next_request),
      cmocka_unit_test(bounded),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
