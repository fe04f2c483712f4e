/* rec.h: the record, which is a message everywhere: in memory, on disk, between threads.
 *
 * A publish is encoded once, from the connection's read buffer into a block (block.h), in the very
 * form that the embedded log writes. Everything downstream (matching, delivery, replay, `lavva
 * log`) reads that form in place. Other cluster types translate from it. Little-endian; a record is
 * a multiple of 8 bytes and 8-aligned.
 *
 *    0 u32 size      whole record, header and padding included
 *    4 u32 crc       CRC-32C of bytes 8 … size
 *    8 u64 lsn       logical byte address in its log; grows; assigned at commit
 *   16 u64 offset    offset in its channel; assigned at commit
 *   24 i64 ingest_ns wall time at the gateway
 *   32 u32 chan      channel id, local to the data folder
 *   36 u16 topic_len original MQTT topic: channel "/" key, or all key in channel `_`
 *   38 u16 key_off   where the key starts in the topic; LV_REC_NO_KEY when there is none
 *   40 u16 pid_len   publisher id
 *   42 u16 props_len MQTT 5 properties that are forwarded (3.3.2.3.{2,5,6,7,9}), encoded as on the
 *                    wire, without length prefix, message expiry and topic alias
 *   44 u8  kind      enum lv_rec_kind
 *   45 u8  flags     enum lv_rec_flag; bits 0-1 are the publish QoS
 *   46 u16 packet_id publisher's packet id when LV_REC_QOS2, else 0
 *   48 …             topic, pid, props, then the extensions in flag order, then the value, then
 *                    0-7 zero bytes; `pad` below says how many
 *
 * Extensions: LV_REC_EXPIRY u32 seconds; LV_REC_TMS i64 publisher's timestamp in ms; LV_REC_QOS2
 * u64 session id. The value's length is what remains; the last header bit field keeps the padding.
 *
 * A record is immutable once its batch is published. */
#ifndef LV_CORE_REC_H
#define LV_CORE_REC_H
#include "core/slice.h"
#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { LV_REC_HEAD = 48, LV_REC_NO_KEY = 0xFFFF, LV_REC_ALIGN = 8 };
/* The largest record: a maximum MQTT value (256 MiB is never allowed by limits) plus its topic and
 * properties. Readers refuse anything larger as corrupt. */
#define LV_REC_MAX ((uint32_t)(64u << 20))

enum lv_rec_kind {
  LV_REC_MSG = 1,   /* a message */
  LV_REC_STATE = 2, /* keyed state: topic = key, value = state, empty value = deleted */
  LV_REC_CHAN = 3,  /* declares a channel: topic = "app/name", value = its settings */
  LV_REC_NOTE = 4,  /* log bookkeeping (epoch, clean shutdown); see broker/embedded */
};
enum lv_rec_flag {
  LV_REC_QOS_MASK = 0x03,
  LV_REC_RETAIN = 0x04,
  LV_REC_EXPIRY = 0x08,
  LV_REC_TMS = 0x10,
  LV_REC_QOS2 = 0x20,     /* carries session id: publish and packet id in one commit */
  LV_REC_NO_STORE = 0x40, /* reserved for cluster types without replay */
  LV_REC_LAST = 0x80,     /* of a channel that keeps the last message of each key */
};

typedef struct lv_rec {
  uint32_t size;
  uint32_t crc;
  uint64_t lsn;
  uint64_t offset;
  int64_t ingest_ns;
  uint32_t chan;
  uint16_t topic_len;
  uint16_t key_off;
  uint16_t pid_len;
  uint16_t props_len;
  uint8_t kind : 5;
  uint8_t pad : 3; /* zero bytes at the end */
  uint8_t flags;
  uint16_t packet_id;
  uint8_t body[];
} lv_rec;
static_assert(sizeof(lv_rec) == LV_REC_HEAD, "the record header is a file format");

static inline uint32_t lv_rec_ext_len(uint8_t flags) {
  return ((flags & LV_REC_EXPIRY) ? 4u : 0u) + ((flags & LV_REC_TMS) ? 8u : 0u) +
         ((flags & LV_REC_QOS2) ? 8u : 0u);
}
static inline lv_slice lv_rec_topic(const lv_rec *r) {
  return (lv_slice){r->body, r->topic_len};
}
static inline bool lv_rec_has_key(const lv_rec *r) {
  return r->key_off != LV_REC_NO_KEY;
}
static inline lv_slice lv_rec_key(const lv_rec *r) {
  if (r->key_off == LV_REC_NO_KEY) return (lv_slice){r->body, 0};
  return (lv_slice){r->body + r->key_off, (uint32_t)r->topic_len - r->key_off};
}
static inline lv_slice lv_rec_pid(const lv_rec *r) {
  return (lv_slice){r->body + r->topic_len, r->pid_len};
}
static inline lv_slice lv_rec_props(const lv_rec *r) {
  return (lv_slice){r->body + r->topic_len + r->pid_len, r->props_len};
}
static inline const uint8_t *lv_rec_ext(const lv_rec *r) {
  return r->body + r->topic_len + r->pid_len + r->props_len;
}
static inline lv_slice lv_rec_val(const lv_rec *r) {
  const uint8_t *p = lv_rec_ext(r) + lv_rec_ext_len(r->flags);
  return (lv_slice){p, (uint32_t)((const uint8_t *)r + r->size - r->pad - p)};
}
/* Message expiry interval in seconds as published; false when there is none. */
static inline bool lv_rec_expiry(const lv_rec *r, uint32_t *ret_seconds) {
  if (!(r->flags & LV_REC_EXPIRY)) return false;
  memcpy(ret_seconds, lv_rec_ext(r), 4);
  return true;
}
static inline bool lv_rec_tms(const lv_rec *r, int64_t *ret_ms) {
  if (!(r->flags & LV_REC_TMS)) return false;
  memcpy(ret_ms, lv_rec_ext(r) + ((r->flags & LV_REC_EXPIRY) ? 4 : 0), 8);
  return true;
}
static inline bool lv_rec_session(const lv_rec *r, uint64_t *ret_sid) {
  if (!(r->flags & LV_REC_QOS2)) return false;
  memcpy(ret_sid, lv_rec_ext(r) + lv_rec_ext_len(r->flags) - 8, 8);
  return true;
}
static inline uint8_t lv_rec_qos(const lv_rec *r) {
  return r->flags & LV_REC_QOS_MASK;
}

/* The key under which a QoS 2 publish is remembered: "i", session id, packet id, in lower-case hex.
 */
enum { LV_REC_QOS2_KEY = 21 };
static inline void lv_rec_qos2_key_of(uint64_t sid, uint16_t pid, char dst[LV_REC_QOS2_KEY]) {
  dst[0] = 'i';
  for (int i = 0; i < 16; i++) dst[1 + i] = "0123456789abcdef"[(sid >> (60 - 4 * i)) & 15];
  for (int i = 0; i < 4; i++) dst[17 + i] = "0123456789abcdef"[(pid >> (12 - 4 * i)) & 15];
}
static inline bool lv_rec_qos2_key(const lv_rec *r, char dst[LV_REC_QOS2_KEY]) {
  uint64_t sid;
  if (!lv_rec_session(r, &sid)) return false;
  lv_rec_qos2_key_of(sid, r->packet_id, dst);
  return true;
}

/* What a record is made from. Slices are borrowed for the call. */
typedef struct lv_rec_in {
  uint8_t kind, flags; /* flags: QoS and RETAIN; extension bits are set from the fields below */
  uint16_t key_off, packet_id;
  uint32_t chan;
  int64_t ingest_ns;
  lv_slice topic, pid, props, val;
  uint32_t expiry_s; /* used when has_expiry */
  int64_t tms;       /* used when has_tms */
  uint64_t session;  /* used when has_session */
  bool has_expiry, has_tms, has_session;
  uint32_t kpi_slot; /* whom it counts for (metric.h); not in the record */
  uint8_t kpi_proto;
} lv_rec_in;

/* Bytes that the record of `in` takes (a multiple of 8), or LV_E_TOO_BIG. @thread any */
int lv_rec_size(const lv_rec_in *in, uint32_t *ret_size);
/* Writes the record of `in` into dst (8-aligned, `size` from lv_rec_size). lsn, offset and crc are
 * zero: the log fills them in. @thread any */
lv_rec *lv_rec_write(const lv_rec_in *in, void *dst, uint32_t size);
/* Sets the CRC (after lsn and offset). @thread the one that owns the block's range */
void lv_rec_seal(lv_rec *r);
/* Checks untrusted bytes at p: whole record within n, sane lengths, zero padding, CRC.
 * LV_E_NEED_MORE: n ends inside the record. LV_E_CORRUPT: anything else. ret_rec points into p,
 * which must be 8-aligned. @thread any */
int lv_rec_check(const void *p, size_t n, const lv_rec **ret_rec);

/* CRC-32C (Castagnoli, RFC 3720 appendix B.4), hardware where there is some. Start with 0; feed the
 * result back to continue. @thread any */
uint32_t lv_crc32c(uint32_t crc, const void *p, size_t n);

#endif
