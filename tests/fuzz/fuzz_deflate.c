/* fuzz_deflate.c: permessage-deflate's payloads. As a compressed message, the input makes an error
 * or a bounded result that is the prefix of what a larger limit gives; as a plain one it survives
 * the way there and back with any window. The first byte picks window and limit. */
#include "fuzz.h"
#include "wire/deflate.h"

enum { LARGE = 1 << 17 };

static void there_and_back(lv_slice in, uint8_t bits) {
  uint32_t cap = lv_deflate_bound(in.n), n, m;
  uint8_t *d = malloc(cap);
  lv_buf out;
  CHECK(d != NULL);
  CHECK(lv_deflate(in, bits, d, cap, &n) == 0 && n + LV_DEFLATE_SLACK <= cap);
  lv_buf_init(&out, in.n + 1u);
  CHECK(lv_inflate(lv_slice_of(d, n), &out) == 0 && lv_slice_eq(lv_buf_slice(&out), in));
  lv_buf_done(&out);
  if (n > 1) { /* one byte less of room: no result, and none half */
    uint8_t *e = malloc(n + LV_DEFLATE_SLACK);
    CHECK(e != NULL);
    CHECK(lv_deflate(in, bits, e, n + LV_DEFLATE_SLACK - 1, &m) == LV_E_TOO_BIG);
    CHECK(lv_deflate(in, bits, e, n + LV_DEFLATE_SLACK, &m) == 0 && m == n);
    free(e);
  }
  free(d);
}

static void decompress(lv_slice in, uint32_t limit) {
  lv_buf a, b;
  lv_buf_init(&a, LARGE);
  lv_buf_init(&b, limit);
  int large = lv_inflate(in, &a), small = lv_inflate(in, &b);
  CHECK(a.n <= LARGE && b.n <= limit);
  if (large == 0 && a.n <= limit)
    CHECK(small == 0 && lv_slice_eq(lv_buf_slice(&a), lv_buf_slice(&b)));
  else if (large == 0)
    CHECK(small == LV_E_TOO_BIG && b.n == 0);
  else
    CHECK(small != 0 && a.n == 0 && b.n == 0);
  lv_buf_done(&a);
  lv_buf_done(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  uint8_t how = fuzz_byte(&data, &size);
  lv_slice in = fuzz_copy(data, size);
  decompress(in, 1u << (how & 15));
  there_and_back(in, (uint8_t)(8 + (how >> 4) % 8));
  fuzz_free(in);
  return 0;
}
