/* test_deflate.c: messages of permessage-deflate: the RFC's own, random ones through every window,
 * bombs, and what is broken. */
#include "wire_test.h"

#include "core/rand.h"
#include "wire/deflate.h"
#include <pthread.h>
#include <zlib.h>

enum { MAX = 1 << 20 };

static int inflated(lv_slice in, size_t max, lv_slice want) {
  lv_buf out;
  lv_slice exact = heap_copy(in);
  lv_buf_init(&out, max + 2);
  (void)lv_buf_add_str(&out, "ab"); /* what was there stays */
  int err = lv_inflate(exact, &out);
  heap_free(exact);
  assert_memory_equal(out.p, "ab", 2);
  if (!err)
    assert_slice(lv_slice_of(out.p + 2, out.n - 2), want);
  else
    assert_int_equal(out.n, 2);
  assert_int_equal(out.p[out.n], 0);
  lv_buf_done(&out);
  return err;
}

static void rfc_examples(void **state) { /* §7.2.3 */
  (void)state;
  static const lv_slice hello[] = {
      B("\xf2\x48\xcd\xc9\xc9\x07\x00"),
      B("\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"),         /* stored */
      B("\xf3\x48\xcd\xc9\xc9\x07\x00\x00"),                     /* BFINAL and its byte */
      B("\xf3\x48\xcd\xc9\xc9\x07\x00"),                         /* BFINAL without it */
      B("\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"), /* two blocks */
  };
  for (size_t i = 0; i < COUNT(hello); i++)
    assert_int_equal(inflated(hello[i], MAX, S("Hello")), 0);
  assert_int_equal(inflated(S("\0"), MAX, S("")), 0);
  assert_int_equal(inflated(S(""), MAX, S("")), LV_E_PAYLOAD); /* not even a byte (§7.2.3.6) */
  uint8_t d[64];
  uint32_t n;
  assert_int_equal(lv_deflate(S("Hello"), 15, d, sizeof d, &n), 0);
  assert_slice(lv_slice_of(d, n), S("\xf2\x48\xcd\xc9\xc9\x07\x00"));
  assert_int_equal(lv_deflate(S(""), 15, d, sizeof d, &n), 0);
  assert_slice(lv_slice_of(d, n), S("\0"));
}

static void broken(void **state) {
  static const lv_slice rows[] = {
      B("\xff"),
      B("\x06"),
      B("\xf2\x48\xcd"),
      B("\xf2\x48\xcd\xc9\xc9\x07"),                     /* cut short */
      B("\x00\x05\x00\xfb\xff\x48\x65\x6c\x6c\x6f\x00"), /* length and its complement */
      B("\x00\x06\x00\xf9\xff\x48\x65\x6c\x6c\x6f"),     /* the tail would be swallowed as data */
      B("\x02\x81\x00"),                                 /* points before the beginning */
  };
  (void)state;
  for (size_t i = 0; i < COUNT(rows); i++)
    if (inflated(rows[i], MAX, S("")) != LV_E_PAYLOAD) fail_msg("row %zu passes", i);
  assert_int_equal(inflated(S("\xf2\x48\xcd\xc9\xc9\x07\x00"), MAX, S("Hello")), 0); /* all well */
}

/* A message that refers back over a block that said it was the last (§7.2.3.4). */
static void history_behind_final(void **state) {
  uint8_t d[256];
  z_stream z = {0};
  (void)state;
  const lv_slice half = B("the quick brown fox jumps over the lazy dog");
  assert_int_equal(lv_deflate(half, 15, d, sizeof d, &(uint32_t){0}), 0);
  assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY), Z_OK);
  z.next_in = (Bytef *)half.p, z.avail_in = half.n, z.next_out = d, z.avail_out = sizeof d;
  assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
  assert_int_equal(deflateReset(&z), Z_OK);
  assert_int_equal(deflateSetDictionary(&z, half.p, half.n), Z_OK);
  z.next_in = (Bytef *)half.p, z.avail_in = half.n;
  uint32_t before = (uint32_t)(z.next_out - d);
  assert_int_equal(deflate(&z, Z_SYNC_FLUSH), Z_OK);
  uint32_t n = (uint32_t)(z.next_out - d) - 4;
  assert_true(n - before < 16); /* it does refer back */
  (void)deflateEnd(&z);
  uint8_t twice[128];
  memcpy(twice, half.p, half.n);
  memcpy(twice + half.n, half.p, half.n);
  assert_int_equal(inflated(lv_slice_of(d, n), MAX, lv_slice_of(twice, 2 * half.n)), 0);
}

/* Decompresses with a window of exactly 2^bits, one byte of output a call, so that a reference
 * further back than that is an error. */
static bool fits_window(lv_slice in, int bits, lv_slice want) {
  z_stream z = {0};
  uint32_t n = 0;
  int got = Z_OK;
  uint8_t c;
  assert_int_equal(inflateInit2(&z, -bits), Z_OK);
  z.next_in = (Bytef *)in.p;
  z.avail_in = in.n;
  for (;;) {
    z.next_out = &c;
    z.avail_out = 1;
    got = inflate(&z, Z_SYNC_FLUSH);
    if (z.avail_out) break;
    if (got != Z_OK || n >= want.n || c != want.p[n]) break;
    n++;
  }
  (void)inflateEnd(&z);
  return n == want.n && (got == Z_OK || got == Z_BUF_ERROR);
}

/* Text of words that repeat at all distances. */
static void fill(lv_rand *rnd, uint8_t *p, uint32_t n) {
  for (uint32_t i = 0; i < n;) {
    uint32_t k = 1 + (uint32_t)lv_rand_below(rnd, 40);
    if (k > n - i) k = n - i;
    if (i > 50 && lv_rand_chance(rnd, 0.7)) {
      uint32_t back = 1 + (uint32_t)lv_rand_below(rnd, i);
      for (uint32_t j = 0; j < k; j++) p[i + j] = p[i + j - back];
    } else {
      lv_rand_fill(rnd, p + i, k);
    }
    i += k;
  }
}

static void windows(void **state) {
  static uint8_t text[100000], d[200000];
  static const uint32_t sizes[] = {1, 60, 250, 256, 257, 500, 512, 4095, 4096, 4097, 40000, 100000};
  lv_rand rnd;
  (void)state;
  lv_rand_init(&rnd, 5);
  for (size_t i = 0; i < COUNT(sizes); i++) {
    for (uint8_t bits = 8; bits <= 15; bits++) {
      uint32_t n, shared;
      lv_slice s = {text, sizes[i]};
      fill(&rnd, text, s.n);
      assert_int_equal(lv_deflate(s, bits, d, lv_deflate_bound(s.n), &n), 0);
      assert_true(n + LV_DEFLATE_SLACK <= lv_deflate_bound(s.n));
      if (!fits_window(lv_slice_of(d, n), bits, s)) fail_msg("%u bytes, window 2^%u", s.n, bits);
      assert_int_equal(inflated(lv_slice_of(d, n), s.n, s), 0);
      if (!lv_deflate_shared(s.n, bits)) continue;
      assert_int_equal(lv_deflate(s, 15, d, sizeof d, &shared), 0);
      assert_true(fits_window(lv_slice_of(d, shared), bits, s));
    }
  }
}

static void room(void **state) {
  uint8_t text[3000], d[4000], again[4000];
  uint32_t n, m;
  (void)state;
  memset(text, 'x', sizeof text);
  const lv_slice s = {text, sizeof text};
  assert_int_equal(lv_deflate(s, 15, d, sizeof d, &n), 0);
  for (uint32_t cap = 0; cap < n + LV_DEFLATE_SLACK; cap++)
    assert_int_equal(lv_deflate(s, 15, again, cap, &m), LV_E_TOO_BIG);
  assert_int_equal(lv_deflate(s, 15, again, n + LV_DEFLATE_SLACK, &m), 0); /* exactly */
  assert_int_equal(m, n);
  assert_memory_equal(d, again, n);
  lv_rand rnd;
  lv_rand_init(&rnd, 1);
  lv_rand_fill(&rnd, text, sizeof text); /* no shorter than the message: not worth it */
  assert_int_equal(lv_deflate(s, 15, d, s.n + LV_DEFLATE_SLACK - 1, &m), LV_E_TOO_BIG);
}

static void bombs(void **state) {
  static uint8_t zeros[1 << 20], d[1 << 12];
  uint32_t n;
  lv_buf out;
  (void)state;
  const lv_slice s = {zeros, sizeof zeros};
  assert_int_equal(lv_deflate(s, 15, d, sizeof d, &n), 0);
  assert_true(n < 1100);
  assert_int_equal(inflated(lv_slice_of(d, n), sizeof zeros, s), 0);
  assert_int_equal(inflated(lv_slice_of(d, n), sizeof zeros - 1, s), LV_E_TOO_BIG);
  lv_buf_init(&out, 10000);
  assert_int_equal(lv_inflate(lv_slice_of(d, n), &out), LV_E_TOO_BIG);
  assert_true(out.cap <= 16384); /* nothing was made beyond the limit */
  lv_buf_done(&out);
  lv_buf_init(&out, 4);
  assert_int_equal(lv_inflate(S("\xf2\x48\xcd\xc9\xc9\x07\x00"), &out), LV_E_TOO_BIG);
  assert_int_equal(lv_inflate(S("\0"), &out), 0); /* the next message is well */
  lv_buf_done(&out);
}

static int done;
static void *in_thread(void *arg) {
  uint8_t d[64];
  uint32_t n;
  lv_buf out;
  (void)arg;
  lv_buf_init(&out, 100);
  bool ok = lv_deflate(S("Hello"), 15, d, sizeof d, &n) == 0 &&
            lv_inflate(lv_slice_of(d, n), &out) == 0 && out.n == 5;
  lv_buf_done(&out);
  return ok ? &done : NULL;
}

static void threads(void **state) { /* each has its own, and frees it (LeakSanitizer) */
  pthread_t t[4];
  void *ok;
  (void)state;
  for (size_t i = 0; i < COUNT(t); i++)
    assert_int_equal(pthread_create(&t[i], NULL, in_thread, NULL), 0);
  for (size_t i = 0; i < COUNT(t); i++) {
    assert_int_equal(pthread_join(t[i], &ok), 0);
    assert_non_null(ok);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rfc_examples),
      cmocka_unit_test(broken),
      cmocka_unit_test(history_behind_final),
      cmocka_unit_test(windows),
      cmocka_unit_test(room),
      cmocka_unit_test(bombs),
      cmocka_unit_test(threads),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
