/* fuzz_rec.c: records as they may stand on a damaged disk. What passes the check can be read to its
 * last byte and written again to the same bytes. The first byte, when odd, has the record sealed
 * first, so that the fuzzer gets past the checksum. */
#include "core/rec.h"
#include "fuzz.h"

static void rewrite(const lv_rec *r) {
  lv_rec_in in = {.kind = r->kind,
                  .flags = r->flags,
                  .key_off = r->key_off,
                  .packet_id = r->packet_id,
                  .chan = r->chan,
                  .ingest_ns = r->ingest_ns,
                  .topic = lv_rec_topic(r),
                  .pid = lv_rec_pid(r),
                  .props = lv_rec_props(r),
                  .val = lv_rec_val(r)};
  in.has_expiry = lv_rec_expiry(r, &in.expiry_s);
  in.has_tms = lv_rec_tms(r, &in.tms);
  in.has_session = lv_rec_session(r, &in.session);
  uint32_t size;
  CHECK(lv_rec_size(&in, &size) == 0 && size == r->size);
  void *d = NULL;
  CHECK(posix_memalign(&d, LV_REC_ALIGN, size) == 0);
  lv_rec *w = lv_rec_write(&in, d, size);
  w->lsn = r->lsn;
  w->offset = r->offset;
  if (!in.has_session) w->packet_id = r->packet_id; /* means nothing without a session */
  lv_rec_seal(w);
  CHECK(memcmp(w, r, size) == 0);
  const lv_rec *again;
  CHECK(lv_rec_check(d, size, &again) == 0 && again == d);
  CHECK(lv_rec_check(d, size - 1, &again) == LV_E_NEED_MORE);
  free(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  uint8_t seal = fuzz_byte(&data, &size);
  void *p = NULL;
  CHECK(posix_memalign(&p, LV_REC_ALIGN, size ? size : 1) == 0);
  if (size) memcpy(p, data, size);
  uint32_t n = 0;
  if (size >= LV_REC_HEAD) memcpy(&n, p, 4);
  if ((seal & 1) && n >= LV_REC_HEAD && n <= size) lv_rec_seal(p);
  const lv_rec *r;
  int err = lv_rec_check(p, size, &r);
  CHECK(err == 0 || err == LV_E_NEED_MORE || err == LV_E_CORRUPT);
  if (err == 0) {
    CHECK(r->size <= size);
    fuzz_touch(lv_rec_topic(r));
    fuzz_touch(lv_rec_key(r));
    fuzz_touch(lv_rec_pid(r));
    fuzz_touch(lv_rec_props(r));
    fuzz_touch(lv_rec_val(r));
    rewrite(r);
  }
  free(p);
  return 0;
}
