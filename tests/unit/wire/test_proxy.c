/* test_proxy.c: PROXY protocol v2 headers, built by hand, cut short, and with checksums. */
#include "wire_test.h"

#include "core/rec.h"
#include "wire/proxy.h"

#define SIG "\r\n\r\n\0\r\nQUIT\n"
#define ADDR4 "\1\2\3\4\5\6\7\x08\x1F\x90\7\x5B"
#define ADDR6 "0123456789abcdefFEDCBA9876543210\x1F\x90\7\x5B"

static const struct {
  const char *what;
  lv_slice in;
  int want;
} rows[] = {
    {"TCP over IPv4", B(SIG "\x21\x11\0\x0C" ADDR4), 0},
    {"nothing", B(""), LV_E_NEED_MORE},
    {"another protocol", B("\x10"), LV_E_MALFORMED},
    {"HTTP", B("GET / HTTP/1.1\r\n\r\n"), LV_E_MALFORMED},
    {"version 1", B("PROXY TCP4"), LV_E_MALFORMED},
    {"signature wrong at its end", B("\r\n\r\n\0\r\nQUIT\r"), LV_E_MALFORMED},
    {"version 3", B(SIG "\x31"), LV_E_MALFORMED},
    {"command 2", B(SIG "\x22"), LV_E_MALFORMED},
    {"family 4", B(SIG "\x21\x41"), LV_E_MALFORMED},
    {"transport 3", B(SIG "\x21\x13"), LV_E_MALFORMED},
    {"too long", B(SIG "\x21\x11\x0F\xF1"), LV_E_TOO_BIG},
    {"longest", B(SIG "\x21\x11\x0F\xF0"), LV_E_NEED_MORE},
    {"addresses do not fit", B(SIG "\x21\x11\0\x0B" ADDR4), LV_E_MALFORMED},
    {"IPv6 addresses do not fit", B(SIG "\x21\x21\0\x0C" ADDR4), LV_E_MALFORMED},
    {"TLV head cut", B(SIG "\x21\x11\0\x0E" ADDR4 "\4\0"), LV_E_MALFORMED},
    {"TLV value cut", B(SIG "\x21\x11\0\x10" ADDR4 "\4\0\2x"), LV_E_MALFORMED},
    {"unknown TLV", B(SIG "\x21\x11\0\x11" ADDR4 "\xEE\0\2xy"), 0},
    {"empty TLV", B(SIG "\x21\x11\0\x0F" ADDR4 "\4\0\0"), 0},
    {"authority twice", B(SIG "\x21\x11\0\x14" ADDR4 "\2\0\1x\2\0\1x"), LV_E_MALFORMED},
    {"checksum of 3 bytes", B(SIG "\x21\x11\0\x12" ADDR4 "\3\0\3xyz"), LV_E_MALFORMED},
    {"checksum wrong", B(SIG "\x21\x11\0\x13" ADDR4 "\3\0\4wxyz"), LV_E_CORRUPT},
    {"SSL too short", B(SIG "\x21\x11\0\x13" ADDR4 "\x20\0\4\1\0\0\0"), LV_E_MALFORMED},
    {"SSL part cut", B(SIG "\x21\x11\0\x16" ADDR4 "\x20\0\7\1\0\0\0\0\x22\0"), LV_E_MALFORMED},
    {"SSL part twice", B(SIG "\x21\x11\0\x1C" ADDR4 "\x20\0\x0D\1\0\0\0\0\x22\0\1a\x22\0\1b"),
     LV_E_MALFORMED},
    {"LOCAL", B(SIG "\x20\0\0\0"), 0},
    {"LOCAL with noise", B(SIG "\x20\x11\0\3xyz"), 0},
    {"unspecified with noise", B(SIG "\x21\0\0\3xyz"), 0},
};

static void table(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(rows); i++) {
    lv_slice in = heap_copy(rows[i].in);
    lv_proxy r = {.src_port = 4242};
    assert_err(lv_proxy_decode(in.p, in.n, &r), rows[i].want, rows[i].what);
    if (rows[i].want) assert_int_equal(r.src_port, 4242);
    if (rows[i].want == 0) assert_int_equal(r.len, in.n);
    heap_free(in);
  }
}

static void addresses(void **state) {
  (void)state;
  lv_proxy r;
  lv_slice in = S(SIG "\x21\x11\0\x0C" ADDR4 "\x10 the client's own");
  assert_int_equal(lv_proxy_decode(in.p, in.n, &r), 0);
  assert_int_equal(r.len, 28);
  assert_true(r.family == LV_PROXY_INET && !r.local && !r.datagram && !r.ssl);
  assert_memory_equal(r.src, "\1\2\3\4", 4);
  assert_memory_equal(r.dst, "\5\6\7\x08", 4);
  assert_int_equal(r.src_port, 8080);
  assert_int_equal(r.dst_port, 1883);
  in = S(SIG "\x21\x22\0\x24" ADDR6);
  assert_int_equal(lv_proxy_decode(in.p, in.n, &r), 0);
  assert_true(r.family == LV_PROXY_INET6 && r.datagram);
  assert_memory_equal(r.src, "0123456789abcdef", 16);
  assert_memory_equal(r.dst, "FEDCBA9876543210", 16);
  assert_int_equal(r.dst_port, 1883);
  uint8_t un[16 + 216];
  memcpy(un, SIG "\x21\x31\0\xD8", 16);
  memset(un + 16, 'p', 216); /* a path that fills its place has no NUL */
  memcpy(un + 16 + 108, "/run/x", 7);
  assert_int_equal(lv_proxy_decode(un, sizeof un, &r), 0);
  assert_int_equal(r.family, LV_PROXY_UNIX);
  assert_int_equal(r.src_path.n, 108);
  assert_slice(r.dst_path, S("/run/x"));
  in = S(SIG "\x20\x11\0\x0C" ADDR4);
  assert_int_equal(lv_proxy_decode(in.p, in.n, &r), 0);
  assert_true(r.local && r.family == LV_PROXY_UNSPEC && r.src_port == 0);
}

#define TLVS                                                                                       \
  "\1\0\2h2"                                                                                       \
  "\2\0\7e.x.org"                                                                                  \
  "\5\0\2id"                                                                                       \
  "\x20\0\x2B\7\0\0\0\1"                                                                           \
  "\x21\0\7TLSv1.3\x22\0\3dev\x23\0\3AES\x24\0\3sig\x25\0\3rsa\xE0\0\0"

static void tlvs(void **state) {
  (void)state;
  lv_proxy r;
  uint8_t b[200];
  lv_slice head = S(SIG "\x21\x11\0\0" ADDR4), t = S(TLVS);
  memcpy(b, head.p, head.n);
  memcpy(b + head.n, t.p, t.n);
  memcpy(b + head.n + t.n, "\3\0\4\0\0\0\0", 7);
  uint32_t n = head.n + t.n + 7;
  b[15] = (uint8_t)(n - 16);
  b[head.n + 5 + 10 + 5 + 2] = (uint8_t)(t.n - 5 - 10 - 5 - 3); /* length of the SSL TLV */
  uint32_t crc = lv_crc32c(0, b, n);
  for (int i = 0; i < 4; i++) b[n - 4 + i] = (uint8_t)(crc >> (24 - 8 * i));
  assert_err(lv_proxy_decode(b, n, &r), 0, "all TLVs");
  assert_slice(r.alpn, S("h2"));
  assert_slice(r.authority, S("e.x.org"));
  assert_slice(r.unique_id, S("id"));
  assert_true(r.has_crc && r.ssl && r.ssl_cert);
  assert_int_equal(r.ssl_verify, 1);
  assert_slice(r.ssl_version, S("TLSv1.3"));
  assert_slice(r.ssl_cn, S("dev"));
  assert_slice(r.ssl_cipher, S("AES"));
  assert_slice(r.ssl_sig_alg, S("sig"));
  assert_slice(r.ssl_key_alg, S("rsa"));
  for (uint32_t cut = 0; cut < n; cut++) {
    lv_slice part = heap_copy((lv_slice){b, cut});
    assert_int_equal(lv_proxy_decode(part.p, cut, &r), LV_E_NEED_MORE);
    heap_free(part);
  }
  /* the checksum sees a change of any address byte, and of itself */
  for (uint32_t at = 16; at < 28; at++) {
    b[at] ^= 1;
    assert_int_equal(lv_proxy_decode(b, n, &r), LV_E_CORRUPT);
    b[at] ^= 1;
  }
  b[n - 1] ^= 1;
  assert_int_equal(lv_proxy_decode(b, n, &r), LV_E_CORRUPT);
}

/* A certificate is only claimed together with TLS, and verification only with a certificate. */
static void ssl_flags(void **state) {
  (void)state;
  static const struct {
    uint8_t client;
    bool ssl, cert;
  } flags[] = {{0, 0, 0}, {1, 1, 0}, {3, 1, 1}, {5, 1, 1}, {2, 0, 0}, {6, 0, 0}};
  uint8_t b[36];
  memcpy(b, SIG "\x21\x11\0\x14" ADDR4 "\x20\0\5\0\0\0\0\0", 36);
  for (size_t i = 0; i < COUNT(flags); i++) {
    lv_proxy r;
    b[31] = flags[i].client;
    assert_int_equal(lv_proxy_decode(b, sizeof b, &r), 0);
    assert_true(r.ssl == flags[i].ssl && r.ssl_cert == flags[i].cert);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(table),
      cmocka_unit_test(addresses),
      cmocka_unit_test(tlvs),
      cmocka_unit_test(ssl_flags),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
