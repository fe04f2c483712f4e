/* mqtt_int.h: what the MQTT codec's files share: a bounded reader over a packet body, big-endian
 * and variable byte integers, the fast string check, and the walk over a property block.
 *
 * Everything here is small and inline, because PUBLISH runs through it for each message. A reader
 * never passes `end`; the first failure is returned as LV_E_MALFORMED and nothing more is read.
 * Strings are checked sixteen bytes at a time for being ASCII; when they are not, the whole string
 * goes to lv_utf8_valid, so that there is one definition of what is well formed.
 * @thread any */
#ifndef LV_WIRE_MQTT_INT_H
#define LV_WIRE_MQTT_INT_H
#include "wire/mqtt.h"
#include <assert.h>

#define LV__ONES 0x0101010101010101ull
#define LV__HIGHS 0x8080808080808080ull
#define LV__RARE(x) __builtin_expect(!!(x), 0)

typedef struct lv__rd {
  const uint8_t *p, *end;
} lv__rd;

static inline lv__rd lv__rd_of(lv_slice s) {
  return (lv__rd){s.p, s.p ? s.p + s.n : s.p};
}
static inline size_t lv__rd_left(const lv__rd *r) {
  return (size_t)(r->end - r->p);
}
static inline lv_slice lv__rd_rest(const lv__rd *r) {
  return (lv_slice){r->p, (uint32_t)(r->end - r->p)};
}
static inline uint16_t lv__get16(const uint8_t *p) {
  return (uint16_t)((uint32_t)p[0] << 8 | p[1]);
}
static inline uint32_t lv__get32(const uint8_t *p) {
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static inline uint8_t *lv__put16(uint8_t *p, uint16_t v) {
  p[0] = (uint8_t)(v >> 8);
  p[1] = (uint8_t)v;
  return p + 2;
}
static inline uint8_t *lv__put32(uint8_t *p, uint32_t v) {
  p[0] = (uint8_t)(v >> 24);
  p[1] = (uint8_t)(v >> 16);
  p[2] = (uint8_t)(v >> 8);
  p[3] = (uint8_t)v;
  return p + 4;
}
static inline uint8_t *lv__put_bytes(uint8_t *p, lv_slice s) {
  if (s.n) memcpy(p, s.p, s.n);
  return p + s.n;
}
static inline uint8_t *lv__put_str(uint8_t *p, lv_slice s) {
  return lv__put_bytes(lv__put16(p, (uint16_t)s.n), s);
}

static inline int lv__rd_u8(lv__rd *r, uint8_t *ret) {
  if (r->p == r->end) return LV_E_MALFORMED;
  *ret = *r->p++;
  return 0;
}
static inline int lv__rd_u16(lv__rd *r, uint16_t *ret) {
  if (lv__rd_left(r) < 2) return LV_E_MALFORMED;
  *ret = lv__get16(r->p);
  r->p += 2;
  return 0;
}
static inline int lv__rd_u32(lv__rd *r, uint32_t *ret) {
  if (lv__rd_left(r) < 4) return LV_E_MALFORMED;
  *ret = lv__get32(r->p);
  r->p += 4;
  return 0;
}
/* Binary data (§1.5.6): a two-byte length and the bytes. */
static inline int lv__rd_bin(lv__rd *r, lv_slice *ret) {
  if (lv__rd_left(r) < 2) return LV_E_MALFORMED;
  uint32_t n = lv__get16(r->p);
  if (lv__rd_left(r) - 2 < n) return LV_E_MALFORMED;
  *ret = (lv_slice){r->p + 2, n};
  r->p += 2 + n;
  return 0;
}
/* Variable byte integer (§1.5.5) inside a 5.0 packet, where the shortest form is required. */
static inline int lv__rd_varint(lv__rd *r, uint32_t *ret) {
  uint32_t v = 0;
  for (int i = 0; i < 4 && r->p < r->end; i++) {
    uint8_t b = *r->p++;
    v |= (uint32_t)(b & 0x7F) << (7 * i);
    if (b & 0x80) continue;
    if (i > 0 && b == 0) return LV_E_MALFORMED;
    *ret = v;
    return 0;
  }
  return LV_E_MALFORMED;
}
static inline uint32_t lv__varint_len(uint32_t v) {
  return v < 128 ? 1 : v < 16384 ? 2 : v < 2097152 ? 3 : 4;
}
static inline uint8_t *lv__put_varint(uint8_t *p, uint32_t v) {
  while (v >= 0x80) {
    *p++ = (uint8_t)(v | 0x80);
    v >>= 7;
  }
  *p++ = (uint8_t)v;
  return p;
}

static inline uint64_t lv__load64(const uint8_t *p) {
  uint64_t v;
  memcpy(&v, p, 8);
  return v;
}
/* The n bytes at p, 0 < n < 8, as a word: some of them twice, the rest 'x', which every check below
 * lets pass. Loads of fixed size, since a copy of variable size would be a call. */
static inline uint64_t lv__load_short(const uint8_t *p, size_t n) {
  uint32_t lo, hi;
  uint16_t a, b;
  if (n >= 4) {
    memcpy(&lo, p, 4);
    memcpy(&hi, p + n - 4, 4);
    return lo | (uint64_t)hi << 32;
  }
  if (n == 1) return 0x7878787878787800ull | p[0];
  memcpy(&a, p, 2);
  memcpy(&b, p + n - 2, 2);
  return 0x7878787800000000ull | (uint64_t)b << 16 | a;
}
/* Non-zero when a byte of v is 0 or above 0x7F. Exact: without a high bit in v, the subtraction
 * borrows (and sets one) only at a zero byte. */
static inline uint64_t lv__odd_bytes(uint64_t v) {
  return ((v - LV__ONES) | v) & LV__HIGHS;
}
/* Non-zero when a byte of v equals c (v may hold anything). */
static inline uint64_t lv__has_byte(uint64_t v, uint8_t c) {
  uint64_t x = v ^ (LV__ONES * c);
  return (x - LV__ONES) & ~x & LV__HIGHS;
}
/* Sixteen bytes at once, in the compiler's own vectors (SSE2, NEON, or plain words). Comparing
 * gives -1 in each byte where it holds. As signed bytes, ASCII without NUL is what is greater than
 * 0. */
typedef int8_t lv__v16 __attribute__((vector_size(16)));
static inline lv__v16 lv__load128(const uint8_t *p) {
  lv__v16 v;
  memcpy(&v, p, 16);
  return v;
}
static inline bool lv__v16_all(lv__v16 v) {
  uint64_t w[2];
  memcpy(w, &v, 16);
  return (w[0] & w[1]) == UINT64_MAX;
}
/* ASCII without NUL: what most strings are. The last bytes are looked at twice rather than apart.
 */
static inline bool lv__ascii(lv_slice s) {
  if (s.n >= 16) {
    lv__v16 ok = lv__load128(s.p + s.n - 16) > 0;
    for (uint32_t i = 0; i + 16 < s.n; i += 16) ok &= lv__load128(s.p + i) > 0;
    return lv__v16_all(ok);
  }
  if (s.n >= 8) return !lv__odd_bytes(lv__load64(s.p)) && !lv__odd_bytes(lv__load64(s.p + s.n - 8));
  return s.n == 0 || !lv__odd_bytes(lv__load_short(s.p, s.n));
}
/* UTF-8 string contents (§1.5.4): well formed, no U+0000. */
static inline bool lv__str_ok(lv_slice s) {
  return !LV__RARE(!lv__ascii(s)) || lv_utf8_valid(s, true);
}
static inline int lv__rd_str(lv__rd *r, lv_slice *ret) {
  lv_slice s;
  if (lv__rd_bin(r, &s) || !lv__str_ok(s)) return LV_E_MALFORMED;
  *ret = s;
  return 0;
}
/* As lv__rd_str, and notes in *ret_wild whether it holds '+' or '#'. */
int lv__rd_topic(lv__rd *r, lv_slice *ret, bool *ret_wild);

/* Bit of a property id in a mask of ids. */
#define LV__P(id) (1ull << (id))
#define LV__P_FORWARD                                                                              \
  (LV__P(LV_MQTT_P_PAYLOAD_FORMAT) | LV__P(LV_MQTT_P_CONTENT_TYPE) |                               \
   LV__P(LV_MQTT_P_RESPONSE_TOPIC) | LV__P(LV_MQTT_P_CORRELATION) | LV__P(LV_MQTT_P_USER))

/* Reads a property block's length and cuts the block off `r`. */
int lv__rd_props(lv__rd *r, lv_slice *ret_block);
/* Takes the next property off *r (1, 0 at the end, LV_E_MALFORMED) and checks that it is in
 * `allowed` (else LV_E_MALFORMED, §2.2.2.2) and, unless its bit is in `many`, not in *seen (else
 * LV_E_PROTOCOL); its bit is added to *seen. */
int lv__props_take(lv__rd *r, uint64_t allowed, uint64_t many, uint64_t *seen,
                   lv_mqtt_property *ret);
/* Checks the value of a property that PUBLISH and wills share: payload format 0 or 1, response
 * topic without wildcards and not empty. */
int lv__prop_message_check(const lv_mqtt_property *p);
/* Copies the forwardable properties of a checked block to dst; returns the end. */
uint8_t *lv__props_forward(lv_slice block, uint8_t *dst);

#endif
