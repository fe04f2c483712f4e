/* rec.c: writes records and checks untrusted ones. The layout is in rec.h. Pure functions. */
#include "core/rec.h"
#include "core/err.h"

static uint8_t flags_of(const lv_rec_in *in) {
  const uint8_t ext = LV_REC_EXPIRY | LV_REC_TMS | LV_REC_QOS2;
  uint8_t f = (uint8_t)(in->flags & ~ext);
  if (in->has_expiry) f |= LV_REC_EXPIRY;
  if (in->has_tms) f |= LV_REC_TMS;
  if (in->has_session) f |= LV_REC_QOS2;
  return f;
}

static uint64_t bare_size(const lv_rec_in *in) {
  return (uint64_t)LV_REC_HEAD + in->topic.n + in->pid.n + in->props.n +
         lv_rec_ext_len(flags_of(in)) + in->val.n;
}

int lv_rec_size(const lv_rec_in *in, uint32_t *ret_size) {
  if (in->topic.n > UINT16_MAX || in->pid.n > UINT16_MAX || in->props.n > UINT16_MAX)
    return LV_E_TOO_BIG;
  uint64_t n = (bare_size(in) + LV_REC_ALIGN - 1) & ~(uint64_t)(LV_REC_ALIGN - 1);
  if (n > LV_REC_MAX) return LV_E_TOO_BIG;
  *ret_size = (uint32_t)n;
  return 0;
}

static uint8_t *put(uint8_t *p, const void *from, uint32_t n) {
  if (n) memcpy(p, from, n);
  return p + n;
}

lv_rec *lv_rec_write(const lv_rec_in *in, void *dst, uint32_t size) {
  lv_rec *r = dst;
  uint32_t pad = size - (uint32_t)bare_size(in);
  assert(((uintptr_t)dst & (LV_REC_ALIGN - 1)) == 0 && pad < LV_REC_ALIGN);
  assert(in->key_off == LV_REC_NO_KEY || in->key_off <= in->topic.n);
  assert(in->kind >= LV_REC_MSG && in->kind <= LV_REC_NOTE);
  *r = (lv_rec){.size = size,
                .ingest_ns = in->ingest_ns,
                .chan = in->chan,
                .topic_len = (uint16_t)in->topic.n,
                .key_off = in->key_off,
                .pid_len = (uint16_t)in->pid.n,
                .props_len = (uint16_t)in->props.n,
                .kind = in->kind & 0x1Fu,
                .pad = pad & 7,
                .flags = flags_of(in),
                .packet_id = in->has_session ? in->packet_id : 0};
  uint8_t *p = put(r->body, in->topic.p, in->topic.n);
  p = put(p, in->pid.p, in->pid.n);
  p = put(p, in->props.p, in->props.n);
  if (in->has_expiry) p = put(p, &in->expiry_s, 4);
  if (in->has_tms) p = put(p, &in->tms, 8);
  if (in->has_session) p = put(p, &in->session, 8);
  p = put(p, in->val.p, in->val.n);
  memset(p, 0, pad);
  return r;
}

void lv_rec_seal(lv_rec *r) {
  r->crc = lv_crc32c(0, (const uint8_t *)r + 8, r->size - 8);
}

/* Lengths in the header agree with its size. */
static bool head_sane(const lv_rec *r) {
  uint32_t need = (uint32_t)LV_REC_HEAD + r->topic_len + r->pid_len + r->props_len +
                  lv_rec_ext_len(r->flags) + r->pad;
  return need <= r->size && (r->key_off == LV_REC_NO_KEY || r->key_off <= r->topic_len) &&
         r->kind >= LV_REC_MSG && r->kind <= LV_REC_NOTE;
}

int lv_rec_check(const void *p, size_t n, const lv_rec **ret_rec) {
  const lv_rec *r = p;
  assert(((uintptr_t)p & (LV_REC_ALIGN - 1)) == 0);
  if (n < sizeof r->size) return LV_E_NEED_MORE;
  if (r->size < LV_REC_HEAD || r->size > LV_REC_MAX || r->size % LV_REC_ALIGN) return LV_E_CORRUPT;
  if (n < LV_REC_HEAD) return LV_E_NEED_MORE;
  if (!head_sane(r)) return LV_E_CORRUPT;
  if (n < r->size) return LV_E_NEED_MORE;
  const uint8_t *end = (const uint8_t *)p + r->size;
  for (uint32_t i = 1; i <= r->pad; i++)
    if (end[-(int)i] != 0) return LV_E_CORRUPT;
  if (lv_crc32c(0, (const uint8_t *)p + 8, r->size - 8) != r->crc) return LV_E_CORRUPT;
  *ret_rec = r;
  return 0;
}
