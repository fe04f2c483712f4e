/* fuzz_msgpack.c: the first byte says what the rest is. 0: JSON; in msgpack and back it is the same
 * msgpack again. Else: msgpack; the check and the way to JSON agree, and so does what comes back.
 */
#include "fuzz.h"
#include "wire/json.h"
#include "wire/msgpack.h"

static uint8_t *room(uint64_t n) {
  uint8_t *p = malloc((size_t)n);
  CHECK(p != NULL);
  return p;
}

static void from_json(lv_slice in, lv_buf *out) {
  uint64_t cap = LV_MSGPACK_BOUND(in.n);
  uint8_t *p = room(cap);
  int n = lv_msgpack_from_json(in, p, cap), err = lv_json_check_value(in);
  CHECK(n != LV_E_TOO_BIG && (n > 0) == (err == 0));
  if (n > 0) {
    lv_slice bytes = lv_slice_of(p, (size_t)n);
    CHECK(lv_msgpack_check(bytes) == 0);
    err = lv_msgpack_to_json(bytes, out); /* infinity has no way back */
    CHECK(err == 0 || err == LV_E_PAYLOAD);
    if (err == 0) {
      uint8_t *q = room(LV_MSGPACK_BOUND(out->n));
      CHECK(lv_msgpack_from_json(lv_buf_slice(out), q, LV_MSGPACK_BOUND(out->n)) == n);
      CHECK(memcmp(p, q, (size_t)n) == 0);
      free(q);
    }
  }
  free(p);
}

static void from_msgpack(lv_slice in, lv_buf *out) {
  int check = lv_msgpack_check(in), err = lv_msgpack_to_json(in, out);
  CHECK(check == 0 || err != 0);
  if (err) return;
  CHECK(lv_json_check_value(lv_buf_slice(out)) == 0);
  uint8_t *p = room(LV_MSGPACK_BOUND(out->n));
  int n = lv_msgpack_from_json(lv_buf_slice(out), p, LV_MSGPACK_BOUND(out->n));
  CHECK(n > 0);
  lv_buf again;
  lv_buf_init(&again, out->max);
  CHECK(lv_msgpack_to_json(lv_slice_of(p, (size_t)n), &again) == 0);
  CHECK(lv_slice_eq(lv_buf_slice(out), lv_buf_slice(&again)));
  lv_buf_done(&again);
  free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  uint8_t what = fuzz_byte(&data, &size);
  lv_slice in = fuzz_copy(data, size);
  lv_buf out;
  lv_buf_init(&out, 1 << 24);
  if (what == 0)
    from_json(in, &out);
  else
    from_msgpack(in, &out);
  lv_buf_done(&out);
  fuzz_free(in);
  return 0;
}
