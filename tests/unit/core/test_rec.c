/* test_rec.c: records written and read back, and what lv_rec_check says to damaged ones; CRC-32C.
 */
#include "core/crc_int.h"
#include "core/err.h"
#include "core/rand.h"
#include "core/rec.h"
#include "unit.h"
#include <stdlib.h>

static void crc_vectors(void **state) {
  uint8_t b[32]; /* RFC 3720 appendix B.4 */
  assert_int_equal(lv_crc32c(0, "123456789", 9), 0xE3069283);
  memset(b, 0, sizeof b);
  assert_int_equal(lv_crc32c(0, b, sizeof b), 0x8A9136AA);
  memset(b, 0xFF, sizeof b);
  assert_int_equal(lv_crc32c(0, b, sizeof b), 0x62A8AB43);
  for (uint8_t i = 0; i < 32; i++) b[i] = i;
  assert_int_equal(lv_crc32c(0, b, sizeof b), 0x46DD794E);
  for (uint8_t i = 0; i < 32; i++) b[i] = (uint8_t)(31 - i);
  assert_int_equal(lv_crc32c(0, b, sizeof b), 0x113FDB5C);
  assert_int_equal(lv_crc32c(0, NULL, 0), 0);
}

static void crc_hardware_is_table(void **state) {
  enum { N = 5000 };
  uint8_t *b = malloc(N);
  lv_rand r;
  lv_rand_init(&r, 1);
  lv_rand_fill(&r, b, N);
  for (uint32_t n = 0; n < N; n += n < 900 ? 1 : 61) {
    uint32_t at = (uint32_t)lv_rand_below(&r, N - n), seed = (uint32_t)lv_rand_u64(&r);
    uint32_t cut = (uint32_t)lv_rand_below(&r, n + 1);
    uint32_t whole = lv_crc32c(seed, b + at, n);
    assert_int_equal(whole, lv__crc32c_table(seed, b + at, n));
    assert_int_equal(whole, lv_crc32c(lv_crc32c(seed, b + at, cut), b + at + cut, n - cut));
  }
  free(b);
}

static uint8_t noise[4096];

static lv_slice some(lv_rand *r, uint32_t max) {
  return lv_slice_of(noise + lv_rand_below(r, 64), lv_rand_below(r, max + 1));
}

static lv_rec_in random_in(lv_rand *r) {
  lv_rec_in in = {.kind = (uint8_t)(1 + lv_rand_below(r, 4)),
                  .flags =
                      (uint8_t)lv_rand_below(r, 3) | (lv_rand_chance(r, 0.3) ? LV_REC_RETAIN : 0),
                  .packet_id = (uint16_t)(1 + lv_rand_below(r, 65535)),
                  .chan = (uint32_t)lv_rand_u64(r),
                  .ingest_ns = (int64_t)lv_rand_u64(r),
                  .topic = some(r, 40),
                  .pid = some(r, 30),
                  .props = some(r, 50),
                  .val = some(r, 300),
                  .expiry_s = (uint32_t)lv_rand_u64(r),
                  .tms = (int64_t)lv_rand_u64(r),
                  .session = lv_rand_u64(r),
                  .has_expiry = lv_rand_chance(r, 0.5),
                  .has_tms = lv_rand_chance(r, 0.5),
                  .has_session = lv_rand_chance(r, 0.5)};
  in.key_off = LV_REC_NO_KEY;
  if (lv_rand_chance(r, 0.7)) in.key_off = (uint16_t)lv_rand_below(r, in.topic.n + 1);
  return in;
}

static lv_rec *make(const lv_rec_in *in) {
  uint32_t size;
  assert_int_equal(lv_rec_size(in, &size), 0);
  assert_int_equal(size % 8, 0);
  lv_rec *rec = lv_rec_write(in, malloc(size), size);
  rec->lsn = 0x1122334455667788;
  rec->offset = 99;
  lv_rec_seal(rec);
  return rec;
}

static void check_same(const lv_rec_in *in, const lv_rec *rec) {
  uint32_t s = 0;
  int64_t ms = 0;
  uint64_t sid = 0;
  assert_int_equal(rec->kind, in->kind);
  assert_int_equal(rec->chan, in->chan);
  assert_true(rec->ingest_ns == in->ingest_ns);
  assert_true(lv_slice_eq(lv_rec_topic(rec), in->topic));
  assert_true(lv_slice_eq(lv_rec_pid(rec), in->pid));
  assert_true(lv_slice_eq(lv_rec_props(rec), in->props));
  assert_true(lv_slice_eq(lv_rec_val(rec), in->val));
  assert_int_equal(lv_rec_has_key(rec), in->key_off != LV_REC_NO_KEY);
  if (lv_rec_has_key(rec))
    assert_true(lv_slice_eq(lv_rec_key(rec),
                            lv_slice_of(in->topic.p + in->key_off, in->topic.n - in->key_off)));
  else
    assert_int_equal(lv_rec_key(rec).n, 0);
  assert_int_equal(lv_rec_qos(rec), in->flags & LV_REC_QOS_MASK);
  assert_int_equal(rec->flags & LV_REC_RETAIN, in->flags & LV_REC_RETAIN);
  assert_int_equal(lv_rec_expiry(rec, &s), in->has_expiry);
  assert_int_equal(lv_rec_tms(rec, &ms), in->has_tms);
  assert_int_equal(lv_rec_session(rec, &sid), in->has_session);
  if (in->has_expiry) assert_int_equal(s, in->expiry_s);
  if (in->has_tms) assert_true(ms == in->tms);
  if (in->has_session) assert_true(sid == in->session);
  assert_int_equal(rec->packet_id, in->has_session ? in->packet_id : 0);
}

static void there_and_back(void **state) {
  lv_rand r;
  lv_rand_init(&r, 2);
  lv_rand_fill(&r, noise, sizeof noise);
  for (int i = 0; i < 3000; i++) {
    lv_rec_in in = random_in(&r);
    lv_rec *rec = make(&in);
    const lv_rec *back = NULL;
    assert_int_equal(lv_rec_check(rec, rec->size, &back), 0);
    assert_ptr_equal(back, rec);
    check_same(&in, back);
    free(rec);
  }
}

static void empty_record(void **state) {
  lv_rec_in in = {.kind = LV_REC_STATE, .key_off = LV_REC_NO_KEY};
  lv_rec *rec = make(&in);
  const lv_rec *back;
  assert_int_equal(rec->size, LV_REC_HEAD);
  assert_int_equal(lv_rec_check(rec, rec->size, &back), 0);
  assert_int_equal(lv_rec_val(back).n, 0);
  free(rec);
}

static void size_limits(void **state) {
  uint32_t size = 5;
  lv_slice long_slice = lv_slice_of(noise, 65536);
  lv_rec_in in = {.kind = LV_REC_MSG, .key_off = LV_REC_NO_KEY, .topic = long_slice};
  assert_int_equal(lv_rec_size(&in, &size), LV_E_TOO_BIG);
  in.topic.n = 0;
  in.pid = long_slice;
  assert_int_equal(lv_rec_size(&in, &size), LV_E_TOO_BIG);
  in.pid.n = 0;
  in.props = long_slice;
  assert_int_equal(lv_rec_size(&in, &size), LV_E_TOO_BIG);
  in.props.n = 0;
  in.val = lv_slice_of(noise, LV_REC_MAX - LV_REC_HEAD + 1);
  assert_int_equal(lv_rec_size(&in, &size), LV_E_TOO_BIG);
  in.val.n = UINT32_MAX;
  assert_int_equal(lv_rec_size(&in, &size), LV_E_TOO_BIG);
  assert_int_equal(size, 5);
  in.val.n = LV_REC_MAX - LV_REC_HEAD;
  assert_int_equal(lv_rec_size(&in, &size), 0);
  assert_int_equal(size, LV_REC_MAX);
}

static void truncations(void **state) {
  lv_rand r;
  lv_rand_init(&r, 3);
  for (int i = 0; i < 20; i++) {
    lv_rec_in in = random_in(&r);
    lv_rec *rec = make(&in);
    const lv_rec *back = NULL;
    for (uint32_t n = 0; n < rec->size; n++) { /* exact heap blocks: ASan sees an overrun */
      void *cut = malloc(n ? n : 1);
      memcpy(cut, rec, n);
      assert_int_equal(lv_rec_check(cut, n, &back), LV_E_NEED_MORE);
      free(cut);
    }
    assert_null(back);
    free(rec);
  }
}

static void bit_flips(void **state) {
  lv_rand r;
  lv_rand_init(&r, 4);
  for (int i = 0; i < 8; i++) {
    lv_rec_in in = random_in(&r);
    lv_rec *rec = make(&in);
    uint8_t *b = (uint8_t *)rec;
    uint32_t n = rec->size;
    const lv_rec *back = NULL;
    for (uint32_t bit = 0; bit < n * 8; bit++) {
      b[bit / 8] ^= (uint8_t)(1u << (bit % 8));
      int rc = lv_rec_check(rec, n, &back);
      if (bit < 32) /* a size that grew may just want more bytes */
        assert_true(rc == LV_E_CORRUPT || rc == LV_E_NEED_MORE);
      else
        assert_int_equal(rc, LV_E_CORRUPT);
      b[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    assert_null(back);
    assert_int_equal(lv_rec_check(rec, n, &back), 0);
    free(rec);
  }
}

/* Forged records with a right checksum must still be consistent. */
static void forged(void **state) {
  lv_rec_in in = {
      .kind = LV_REC_MSG, .key_off = 2, .topic = LV_SLICE("c/kk"), .val = LV_SLICE("v")};
  lv_rec *rec = make(&in), copy = *rec;
  const lv_rec *back = NULL;
#define FORGE(change)                                                                              \
  do {                                                                                             \
    memcpy(rec, &copy, sizeof copy);                                                               \
    rec->change;                                                                                   \
    lv_rec_seal(rec);                                                                              \
    assert_int_equal(lv_rec_check(rec, copy.size, &back), LV_E_CORRUPT);                           \
  } while (0)
  FORGE(topic_len = 9);
  FORGE(pid_len = 5);
  FORGE(props_len = 65535);
  FORGE(key_off = 5);
  FORGE(kind = 0);
  FORGE(kind = 31);
  FORGE(flags = LV_REC_TMS);
  FORGE(pad = 4); /* the fourth byte from the end is the value */
  memcpy(rec, &copy, sizeof copy);
  rec->key_off = 4; /* an empty key behind the slash is legal */
  lv_rec_seal(rec);
  assert_int_equal(lv_rec_check(rec, copy.size, &back), 0);
  free(rec);
  uint64_t zeros[16] = {0};
  back = NULL;
  assert_int_equal(lv_rec_check(zeros, sizeof zeros, &back), LV_E_CORRUPT);
  memset(zeros, 0xFF, sizeof zeros);
  assert_int_equal(lv_rec_check(zeros, sizeof zeros, &back), LV_E_CORRUPT);
  assert_null(back);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(crc_vectors),    cmocka_unit_test(crc_hardware_is_table),
      cmocka_unit_test(there_and_back), cmocka_unit_test(empty_record),
      cmocka_unit_test(size_limits),    cmocka_unit_test(truncations),
      cmocka_unit_test(bit_flips),      cmocka_unit_test(forged),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
