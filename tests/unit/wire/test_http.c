/* test_http.c: request heads, found byte by byte and taken apart; targets; response heads. */
#include "wire_test.h"

#include "wire/http.h"
#include "wire/http_int.h"

#define H "Host: h\r\n"

/* Finds the head as a slow client would deliver it, then decodes it. */
static int parse(lv_slice in, lv_http_req *r) {
  uint32_t scanned = 0, len = 0;
  for (uint32_t n = 0; n <= in.n; n++) {
    int err = lv_http_head_find(in.p, n, 8192, &scanned, &len);
    if (err == 0) return n == len ? lv_http_head_decode((lv_slice){in.p, len}, r) : LV_E_INVALID;
    if (err != LV_E_NEED_MORE) return err;
    assert_int_equal(scanned, n);
  }
  return LV_E_NEED_MORE;
}

static const struct {
  const char *what;
  lv_slice in;
  int want;
} refused[] = {
    {"whole", B("GET / HTTP/1.1\r\n" H "\r\n"), 0},
    {"an empty line in front", B("\r\nGET / HTTP/1.1\r\n" H "\r\n"), 0},
    {"two empty lines in front", B("\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n"), LV_E_MALFORMED},
    {"not whole", B("GET / HTTP/1.1\r\n" H "\r"), LV_E_NEED_MORE},
    {"bare LF", B("GET / HTTP/1.1\n" H "\r\n"), LV_E_MALFORMED},
    {"bare LF at the end", B("GET / HTTP/1.1\r\n" H "\n"), LV_E_MALFORMED},
    {"bare CR in a value", B("GET / HTTP/1.1\r\n" H "a: b\rc\r\n\r\n"), LV_E_MALFORMED},
    {"CR CR LF", B("GET / HTTP/1.1\r\r\n" H "\r\n"), LV_E_MALFORMED},
    {"LF first", B("\nGET / HTTP/1.1\r\n\r\n"), LV_E_MALFORMED},
    {"NUL", B("GET / HTTP/1.1\r\n" H "a: \0\r\n\r\n"), LV_E_MALFORMED},
    {"a TLS client", B("\x16\3\1"), LV_E_MALFORMED},
    {"an MQTT client", B("\x10\x0C\0\4MQTT"), LV_E_MALFORMED},
    {"a control", B("GET / HTTP/1.1\r\n" H "a: \x1B[2J\r\n\r\n"), LV_E_MALFORMED},
    {"DEL", B("GET / HTTP/1.1\r\n" H "a: \x7F\r\n\r\n"), LV_E_MALFORMED},
    {"obs-text in a value", B("GET / HTTP/1.1\r\n" H "a: \xE9\r\n\r\n"), 0},
    {"fold", B("GET / HTTP/1.1\r\n" H "a: b\r\n c\r\n\r\n"), LV_E_MALFORMED},
    {"fold by tab", B("GET / HTTP/1.1\r\n" H "a: b\r\n\tc: d\r\n\r\n"), LV_E_MALFORMED},
    {"space first", B("GET / HTTP/1.1\r\n Host: h\r\n\r\n"), LV_E_MALFORMED},
    {"space before the colon", B("GET / HTTP/1.1\r\nHost : h\r\n\r\n"), LV_E_MALFORMED},
    {"tab before the colon", B("GET / HTTP/1.1\r\nHost\t: h\r\n\r\n"), LV_E_MALFORMED},
    {"no colon", B("GET / HTTP/1.1\r\n" H "abc\r\n\r\n"), LV_E_MALFORMED},
    {"no name", B("GET / HTTP/1.1\r\n" H ": x\r\n\r\n"), LV_E_MALFORMED},
    {"name that is no token", B("GET / HTTP/1.1\r\n" H "a@b: x\r\n\r\n"), LV_E_MALFORMED},
    {"name with obs-text", B("GET / HTTP/1.1\r\n" H "\xE9: x\r\n\r\n"), LV_E_MALFORMED},
    {"empty value", B("GET / HTTP/1.1\r\n" H "a:\r\n\r\n"), 0},
    {"two spaces", B("GET  / HTTP/1.1\r\n" H "\r\n"), LV_E_MALFORMED},
    {"space behind the version", B("GET / HTTP/1.1 \r\n" H "\r\n"), LV_E_MALFORMED},
    {"space in the target", B("GET /a b HTTP/1.1\r\n" H "\r\n"), LV_E_MALFORMED},
    {"tab for a space", B("GET\t/ HTTP/1.1\r\n" H "\r\n"), LV_E_MALFORMED},
    {"no version", B("GET /\r\n\r\n"), LV_E_MALFORMED},
    {"no target", B("GET HTTP/1.1\r\n" H "\r\n"), LV_E_MALFORMED},
    {"empty method", B(" / HTTP/1.1\r\n" H "\r\n"), LV_E_MALFORMED},
    {"method no token", B("G{T / HTTP/1.1\r\n" H "\r\n"), LV_E_MALFORMED},
    {"version 2", B("PRI * HTTP/2.0\r\n\r\n"), LV_E_VERSION},
    {"version 0.9", B("GET / HTTP/0.9\r\n" H "\r\n"), LV_E_VERSION},
    {"version 1.2", B("GET / HTTP/1.2\r\n" H "\r\n"), 0},
    {"version in lower case", B("GET / http/1.1\r\n" H "\r\n"), LV_E_MALFORMED},
    {"version of two digits", B("GET / HTTP/1.10\r\n" H "\r\n"), LV_E_MALFORMED},
    {"version of letters", B("GET / HTTP/x.1\r\n" H "\r\n"), LV_E_MALFORMED},
    {"target relative", B("GET a HTTP/1.1\r\n" H "\r\n"), LV_E_MALFORMED},
    {"target with fragment", B("GET /a#b HTTP/1.1\r\n" H "\r\n"), LV_E_MALFORMED},
    {"target not ASCII", B("GET /\xC3\xA9 HTTP/1.1\r\n" H "\r\n"), LV_E_MALFORMED},
    {"target of another scheme", B("GET ftp://h/ HTTP/1.1\r\n" H "\r\n"), LV_E_MALFORMED},
    {"absolute without host", B("GET http:///a HTTP/1.1\r\n" H "\r\n"), LV_E_MALFORMED},
    {"absolute with user info", B("GET http://u@h/ HTTP/1.1\r\n" H "\r\n"), LV_E_MALFORMED},
    {"absolute without Host", B("GET http://h/ HTTP/1.1\r\n\r\n"), LV_E_MALFORMED},
    {"CONNECT", B("CONNECT h:443 HTTP/1.1\r\n" H "\r\n"), LV_E_UNSUPPORTED},
    {"asterisk", B("OPTIONS * HTTP/1.1\r\n" H "\r\n"), 0},
    {"asterisk of GET", B("GET * HTTP/1.1\r\n" H "\r\n"), LV_E_MALFORMED},
    {"no Host", B("GET / HTTP/1.1\r\n\r\n"), LV_E_MALFORMED},
    {"no Host in 1.0", B("GET / HTTP/1.0\r\n\r\n"), 0},
    {"two Hosts", B("GET / HTTP/1.1\r\n" H H "\r\n"), LV_E_MALFORMED},
    {"two Hosts in 1.0", B("GET / HTTP/1.0\r\n" H H "\r\n"), LV_E_MALFORMED},
    {"empty Host", B("GET / HTTP/1.1\r\nHost:\r\n\r\n"), 0},
    {"Host with user info", B("GET / HTTP/1.1\r\nHost: u@h\r\n\r\n"), LV_E_MALFORMED},
    {"Host with a path", B("GET / HTTP/1.1\r\nHost: h/x\r\n\r\n"), LV_E_MALFORMED},
    {"Host list", B("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"), LV_E_MALFORMED},
    {"Host by address", B("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"), 0},
};

#define POST "POST / HTTP/1.1\r\n" H
static const struct {
  const char *what;
  lv_slice in;
  int want;
} framing[] = {
    {"length", B(POST "Content-Length: 5\r\n\r\n"), 0},
    {"length and coding", B(POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
     LV_E_MALFORMED},
    {"coding and length", B(POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"),
     LV_E_MALFORMED},
    {"two lengths", B(POST "Content-Length: 5\r\nContent-Length: 6\r\n\r\n"), LV_E_MALFORMED},
    {"the same twice", B(POST "Content-Length: 5\r\ncontent-length: 5\r\n\r\n"), LV_E_MALFORMED},
    {"length list", B(POST "Content-Length: 5, 5\r\n\r\n"), LV_E_MALFORMED},
    {"length signed", B(POST "Content-Length: +5\r\n\r\n"), LV_E_MALFORMED},
    {"length negative", B(POST "Content-Length: -5\r\n\r\n"), LV_E_MALFORMED},
    {"length hex", B(POST "Content-Length: 0x5\r\n\r\n"), LV_E_MALFORMED},
    {"length empty", B(POST "Content-Length:\r\n\r\n"), LV_E_MALFORMED},
    {"length with space", B(POST "Content-Length: 5 5\r\n\r\n"), LV_E_MALFORMED},
    {"length of 2^64-1", B(POST "Content-Length: 18446744073709551615\r\n\r\n"), 0},
    {"length of 2^64", B(POST "Content-Length: 18446744073709551616\r\n\r\n"), LV_E_MALFORMED},
    {"chunked", B(POST "Transfer-Encoding: Chunked\r\n\r\n"), 0},
    {"chunked in 1.0", B("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), LV_E_MALFORMED},
    {"gzip, chunked", B(POST "Transfer-Encoding: gzip, chunked\r\n\r\n"), LV_E_UNSUPPORTED},
    {"chunked, gzip", B(POST "Transfer-Encoding: chunked, gzip\r\n\r\n"), LV_E_MALFORMED},
    {"chunked twice", B(POST "Transfer-Encoding: chunked, chunked\r\n\r\n"), LV_E_MALFORMED},
    {"two codings", B(POST "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"),
     LV_E_MALFORMED},
    {"identity", B(POST "Transfer-Encoding: identity\r\n\r\n"), LV_E_MALFORMED},
    {"xchunked", B(POST "Transfer-Encoding: xchunked\r\n\r\n"), LV_E_MALFORMED},
    {"chunked with a parameter", B(POST "Transfer-Encoding: chunked;q=1\r\n\r\n"), LV_E_MALFORMED},
    {"empty coding", B(POST "Transfer-Encoding:\r\n\r\n"), LV_E_MALFORMED},
    {"vertical tab before chunked",
     B(POST "Transfer-Encoding: \x0B"
            "chunked\r\n\r\n"),
     LV_E_MALFORMED},
};

static void heads(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(refused); i++) {
    lv_slice in = heap_copy(refused[i].in);
    lv_http_req r;
    assert_err(parse(in, &r), refused[i].want, refused[i].what);
    heap_free(in);
  }
  for (size_t i = 0; i < COUNT(framing); i++) {
    lv_slice in = heap_copy(framing[i].in);
    lv_http_req r;
    assert_err(parse(in, &r), framing[i].want, framing[i].what);
    heap_free(in);
  }
}

static void head_values(void **state) {
  (void)state;
  lv_http_req r;
  assert_int_equal(parse(S("PATCH /a/b%20c?x=1&y HTTP/1.1\r\nHOST: h:8080\r\n"
                           "X-One:  two words \t\r\nContent-Length: 42\r\n"
                           "Expect: 100-Continue\r\n\r\n"),
                         &r),
                   0);
  assert_int_equal(r.method, LV_HTTP_PATCH);
  assert_int_equal(r.minor, 1);
  assert_slice(r.method_name, S("PATCH"));
  assert_slice(r.path, S("/a/b%20c"));
  assert_slice(r.query, S("x=1&y"));
  assert_slice(r.host, S("h:8080"));
  assert_true(r.keep_alive && r.has_length && !r.chunked && r.expect_continue && !r.wants_upgrade);
  assert_int_equal(r.content_length, 42);
  assert_int_equal(r.n_headers, 4);
  const lv_http_header *h = lv_http_header_find(&r, S("x-one"));
  assert_non_null(h);
  assert_slice(h->value, S("two words"));
  assert_null(lv_http_header_find(&r, S("x-on")));
  assert_int_equal(parse(S("GET HTTP://other:1/p?q HTTP/1.1\r\n" H "\r\n"), &r), 0);
  assert_true(r.absolute);
  assert_slice(r.host, S("other:1"));
  assert_slice(r.path, S("/p"));
  assert_slice(r.query, S("q"));
  assert_int_equal(parse(S("GET https://other?q HTTP/1.1\r\n" H "\r\n"), &r), 0);
  assert_slice(r.path, S("/"));
  assert_slice(r.query, S("q"));
  assert_int_equal(parse(S("BREW / HTTP/1.1\r\n" H "\r\n"), &r), 0);
  assert_int_equal(r.method, LV_HTTP_OTHER);
  assert_int_equal(parse(S("get / HTTP/1.1\r\n" H "\r\n"), &r), 0);
  assert_int_equal(r.method, LV_HTTP_OTHER);
}

static void connection(void **state) {
  (void)state;
  static const struct {
    lv_slice in;
    bool keep, upgrade;
  } rows[] = {
      {B("GET / HTTP/1.1\r\n" H "\r\n"), 1, 0},
      {B("GET / HTTP/1.1\r\n" H "Connection: close\r\n\r\n"), 0, 0},
      {B("GET / HTTP/1.1\r\n" H "Connection: x ,Close\r\n\r\n"), 0, 0},
      {B("GET / HTTP/1.1\r\n" H "Connection: closed\r\n\r\n"), 1, 0},
      {B("GET / HTTP/1.1\r\n" H "Connection: keep-alive\r\nConnection: close\r\n\r\n"), 0, 0},
      {B("GET / HTTP/1.0\r\n\r\n"), 0, 0},
      {B("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), 1, 0},
      {B("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n"), 0, 0},
      {B("GET / HTTP/1.1\r\n" H "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"), 1, 1},
      {B("GET / HTTP/1.1\r\n" H "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n"), 1,
       1},
      {B("GET / HTTP/1.1\r\n" H "Upgrade: websocket\r\n\r\n"), 1, 0},
      {B("GET / HTTP/1.1\r\n" H "Connection: upgrade\r\n\r\n"), 1, 0},
      {B("GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"), 0, 0},
  };
  for (size_t i = 0; i < COUNT(rows); i++) {
    lv_http_req r;
    assert_int_equal(parse(rows[i].in, &r), 0);
    if (r.keep_alive != rows[i].keep || r.wants_upgrade != rows[i].upgrade)
      fail_msg("row %zu: keep %d, upgrade %d", i, r.keep_alive, r.wants_upgrade);
  }
  assert_true(lv_http_has_token(S(" a,, WebSocket ,b"), S("websocket")));
  assert_false(lv_http_has_token(S("websockets, web"), S("websocket")));
  assert_false(lv_http_has_token(S(""), S("a")));
}

static void limits(void **state) {
  (void)state;
  lv_slice in = S("GET / HTTP/1.1\r\n" H "\r\n");
  uint32_t scanned = 0, len = 0;
  assert_int_equal(lv_http_head_find(in.p, in.n, in.n, &scanned, &len), 0);
  assert_int_equal(len, in.n);
  scanned = 0;
  assert_int_equal(lv_http_head_find(in.p, in.n, in.n - 1, &scanned, &len), LV_E_TOO_BIG);
  scanned = 0;
  assert_int_equal(lv_http_head_find(in.p, 10, 10, &scanned, &len), LV_E_TOO_BIG);
  /* as many fields as there is room for, and one more */
  for (unsigned extra = 0; extra < 2; extra++) {
    char head[2048] = "GET / HTTP/1.1\r\n" H;
    size_t at = strlen(head);
    for (unsigned i = 0; i < LV_HTTP_HEADERS_MAX - 1 + extra; i++, at += 6)
      memcpy(head + at, "a: b\r\n", 6);
    memcpy(head + at, "\r\n", 3);
    lv_http_req r;
    assert_int_equal(parse(lv_slice_str(head), &r), extra ? LV_E_TOO_BIG : 0);
  }
  assert_int_equal(lv_http_head_status(LV_E_MALFORMED), 400);
  assert_int_equal(lv_http_head_status(LV_E_TOO_BIG), 431);
  assert_int_equal(lv_http_head_status(LV_E_NEED_MORE), 408);
  assert_int_equal(lv_http_head_status(LV_E_UNSUPPORTED), 501);
  assert_int_equal(lv_http_head_status(LV_E_VERSION), 505);
}

static void targets(void **state) {
  (void)state;
  static const char *want[] = {"a", "", "b%2Fc", ""};
  lv_slice path = S("/a//b%2Fc/"), seg, k, v;
  for (size_t i = 0; i < COUNT(want); i++) {
    assert_true(lv_http_path_next(&path, &seg));
    assert_slice(seg, lv_slice_str(want[i]));
  }
  assert_false(lv_http_path_next(&path, &seg));
  lv_slice q = S("a=1&&b&c=x=y&=z&");
  static const char *pairs[][2] = {{"a", "1"}, {"b", ""}, {"c", "x=y"}, {"", "z"}};
  for (size_t i = 0; i < COUNT(pairs); i++) {
    assert_true(lv_http_query_next(&q, &k, &v));
    assert_slice(k, lv_slice_str(pairs[i][0]));
    assert_slice(v, lv_slice_str(pairs[i][1]));
  }
  assert_false(lv_http_query_next(&q, &k, &v));
  assert_true(lv_http_query_find(S("ab=1&a=2&a=3"), S("a"), &v));
  assert_slice(v, S("2"));
  assert_false(lv_http_query_find(S("ab=1"), S("a"), &v));
}

static void decoding(void **state) {
  (void)state;
  static const struct {
    lv_slice in;
    bool plus;
    int want;
    lv_slice out;
  } rows[] = {
      {B(""), 0, 0, B("")},
      {B("a%20b+c"), 0, 0, B("a b+c")},
      {B("a%20b+c"), 1, 0, B("a b c")},
      {B("%2f%2F"), 0, 0, B("//")},
      {B("%C3%A9"), 0, 0, B("\xC3\xA9")},
      {B("%25"), 0, 0, B("%")},
      {B("%2525"), 0, 0, B("%25")},
      {B("%"), 0, LV_E_MALFORMED, B("")},
      {B("%2"), 0, LV_E_MALFORMED, B("")},
      {B("%2g"), 0, LV_E_MALFORMED, B("")},
      {B("%g2"), 0, LV_E_MALFORMED, B("")},
      {B("%-1"), 0, LV_E_MALFORMED, B("")},
      {B("%00"), 0, LV_E_MALFORMED, B("")},
      {B("%FF"), 0, LV_E_MALFORMED, B("")},
      {B("%ED%A0%80"), 0, LV_E_MALFORMED, B("")},
  };
  for (size_t i = 0; i < COUNT(rows); i++) {
    lv_slice in = heap_copy(rows[i].in), out = {0};
    uint8_t *dst = malloc(in.n ? in.n : 1);
    assert_int_equal(lv_http_decode(in, rows[i].plus, dst, &out), rows[i].want);
    assert_slice(out, rows[i].out);
    free(dst);
    heap_free(in);
  }
}

/* The table of character classes against the lists of the RFCs. */
static void classes(void **state) {
  (void)state;
  for (int c = 0; c < 256; c++) {
    bool digit = c >= '0' && c <= '9',
         hex = digit || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
    bool alnum = digit || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    bool tchar = alnum || (c && strchr("!#$%&'*+-.^_`|~", c));
    bool host = alnum || (c && strchr("-._~"
                                      "!$&'()*+,;="
                                      "%"
                                      ":[]",
                                      c));
    if (c == ',') host = false; /* legal in a name, but a list of hosts is what it would mean */
    assert_int_equal(lv__http_is((uint8_t)c, LV__HTTP_TOKEN), tchar);
    assert_int_equal(lv__http_is((uint8_t)c, LV__HTTP_HOST), host);
    assert_int_equal(lv__http_is((uint8_t)c, LV__HTTP_HEX), hex);
    assert_int_equal(lv__http_is((uint8_t)c, LV__HTTP_VALUE), c == '\t' || (c >= 32 && c != 127));
    assert_int_equal(lv__http_is((uint8_t)c, LV__HTTP_TARGET), c > 32 && c < 127 && c != '#');
  }
}

static void responses(void **state) {
  (void)state;
  uint8_t d[512];
  const lv_http_header extra[] = {{S("X-A"), S("b")}};
  lv_http_resp r = {.status = 200,
                    .minor = 1,
                    .keep_alive = true,
                    .has_length = true,
                    .length = 12,
                    .content_type = S("text/plain"),
                    .headers = extra,
                    .n_headers = 1};
  lv_slice want = S("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n"
                    "X-A: b\r\n\r\n");
  assert_int_equal(lv_http_resp_encode(&r, d, sizeof d), want.n);
  assert_memory_equal(d, want.p, want.n);
  for (uint32_t cap = 0; cap < want.n; cap++) {
    uint8_t *small = malloc(cap ? cap : 1);
    assert_int_equal(lv_http_resp_encode(&r, small, cap), LV_E_TOO_BIG);
    free(small);
  }
  assert_int_equal(lv_http_resp_encode(&r, d, want.n), want.n);
  r = (lv_http_resp){
      .status = 503, .minor = 1, .date = S("D"), .has_length = true, .length = UINT64_MAX};
  want = S("HTTP/1.1 503 Service Unavailable\r\nDate: D\r\n"
           "Content-Length: 18446744073709551615\r\nConnection: close\r\n\r\n");
  assert_int_equal(lv_http_resp_encode(&r, d, sizeof d), want.n);
  assert_memory_equal(d, want.p, want.n);
  r = (lv_http_resp){.status = 200, .minor = 0, .keep_alive = true, .has_length = true};
  want = S("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n");
  assert_int_equal(lv_http_resp_encode(&r, d, sizeof d), want.n);
  assert_memory_equal(d, want.p, want.n);
  r = (lv_http_resp){.status = 200, .minor = 1, .keep_alive = true, .chunked = true};
  want = S("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
  assert_int_equal(lv_http_resp_encode(&r, d, sizeof d), want.n);
  assert_memory_equal(d, want.p, want.n);
  r = (lv_http_resp){.status = 100, .minor = 1};
  want = S("HTTP/1.1 100 Continue\r\n\r\n");
  assert_int_equal(lv_http_resp_encode(&r, d, sizeof d), want.n);
  assert_memory_equal(d, want.p, want.n);
  /* nothing from outside can add a line */
  const lv_http_header bad[] = {
      {S("Location"), S("/\r\nSet-Cookie: x")}, {S("a b"), S("c")}, {S(""), S("c")}};
  for (size_t i = 0; i < COUNT(bad); i++) {
    r = (lv_http_resp){.status = 302, .minor = 1, .headers = &bad[i], .n_headers = 1};
    assert_int_equal(lv_http_resp_encode(&r, d, sizeof d), LV_E_INVALID);
  }
  r = (lv_http_resp){.status = 200, .minor = 1, .content_type = S("a\nb")};
  assert_int_equal(lv_http_resp_encode(&r, d, sizeof d), LV_E_INVALID);
  assert_string_equal(lv_http_status_text(404), "Not Found");
  assert_string_equal(lv_http_status_text(299), "Unknown");
}

static void dates(void **state) {
  (void)state;
  static const struct {
    int64_t s;
    const char *want;
  } rows[] = {
      {0, "Thu, 01 Jan 1970 00:00:00 GMT"},           {784111777, "Sun, 06 Nov 1994 08:49:37 GMT"},
      {951782400, "Tue, 29 Feb 2000 00:00:00 GMT"},   {951868799, "Tue, 29 Feb 2000 23:59:59 GMT"},
      {4107542400, "Mon, 01 Mar 2100 00:00:00 GMT"},  {1735689599, "Tue, 31 Dec 2024 23:59:59 GMT"},
      {253402300799, "Fri, 31 Dec 9999 23:59:59 GMT"}};
  uint8_t d[LV_HTTP_DATE_LEN];
  for (size_t i = 0; i < COUNT(rows); i++) {
    lv_http_date(rows[i].s, d);
    assert_slice(lv_slice_of(d, sizeof d), lv_slice_str(rows[i].want));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(heads),   cmocka_unit_test(head_values), cmocka_unit_test(connection),
      cmocka_unit_test(limits),  cmocka_unit_test(targets),     cmocka_unit_test(decoding),
      cmocka_unit_test(classes), cmocka_unit_test(responses),   cmocka_unit_test(dates),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
