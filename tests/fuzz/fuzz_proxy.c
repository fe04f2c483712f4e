/* fuzz_proxy.c: PROXY v2 headers. What is accepted needs all of its bytes and none behind them. The
 * first byte, when odd, has a checksum TLV at the end mended, so that the fuzzer gets past it. */
#include "core/rec.h"
#include "fuzz.h"
#include "wire/proxy.h"

static void crc_mend(uint8_t *p, size_t n) {
  if (n < LV_PROXY_HEAD + 7 || p[n - 7] != 3 || p[n - 6] != 0 || p[n - 5] != 4) return;
  memset(p + n - 4, 0, 4);
  uint32_t crc = lv_crc32c(0, p, n);
  for (size_t i = 0; i < 4; i++) p[n - 4 + i] = (uint8_t)(crc >> (24 - 8 * i));
}

static void accepted(const lv_proxy *r, lv_slice in) {
  CHECK(r->len >= LV_PROXY_HEAD && r->len <= in.n && r->len <= LV_PROXY_MAX);
  CHECK(r->family <= LV_PROXY_UNIX && (!r->local || r->family == LV_PROXY_UNSPEC));
  CHECK(r->ssl || !r->ssl_cert);
  const lv_slice all[] = {r->src_path,    r->dst_path,   r->authority,  r->alpn,
                          r->unique_id,   r->ssl_cn,     r->ssl_cipher, r->ssl_sig_alg,
                          r->ssl_key_alg, r->ssl_version};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
    fuzz_touch(all[i]);
    CHECK(!all[i].p || (all[i].p >= in.p && all[i].p + all[i].n <= in.p + r->len));
  }
  lv_proxy again;
  lv_slice exact = fuzz_copy(in.p, r->len);
  CHECK(lv_proxy_decode(exact.p, exact.n, &again) == 0 && again.len == r->len);
  CHECK(again.src_port == r->src_port && again.has_crc == r->has_crc);
  for (uint32_t n = 0; n < r->len; n += 1 + n / 8)
    CHECK(lv_proxy_decode(exact.p, n, &again) == LV_E_NEED_MORE);
  fuzz_free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  uint8_t mend = fuzz_byte(&data, &size);
  lv_slice in = fuzz_copy(data, size);
  if (mend & 1) crc_mend((uint8_t *)in.p, in.n);
  lv_proxy r;
  int err = lv_proxy_decode(in.p, in.n, &r);
  CHECK(err == 0 || err == LV_E_NEED_MORE || err == LV_E_MALFORMED || err == LV_E_TOO_BIG ||
        err == LV_E_CORRUPT);
  if (err == 0) accepted(&r, in);
  fuzz_free(in);
  return 0;
}
