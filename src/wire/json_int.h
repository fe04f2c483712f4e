/* json_int.h: what the JSON and msgpack files share: sixteen bytes at once, and hex digits.
 * @thread any */
#ifndef LV_WIRE_JSON_INT_H
#define LV_WIRE_JSON_INT_H
#include "wire/json.h"

typedef uint8_t lv__u8x16 __attribute__((vector_size(16)));
typedef int8_t lv__s8x16 __attribute__((vector_size(16))); /* of a comparison: 0 or -1 */

/* The first of the bytes p … end that a string cannot hold as it is: a quote, a backslash or a
 * control; `end` when there is none. *io_high gets bit 7 set when a byte above 0x7F was among those
 * looked at (a few behind the result may have been, too). */
static inline const uint8_t *lv__json_plain_end(const uint8_t *p, const uint8_t *end,
                                                uint64_t *io_high) {
  for (; end - p >= 16; p += 16) {
    lv__u8x16 v;
    uint64_t odd[2], w[2];
    memcpy(&v, p, 16);
    memcpy(w, &v, 16);
    lv__s8x16 hit = (v == '"') | (v == '\\') | (v < 0x20);
    memcpy(odd, &hit, 16);
    *io_high |= (w[0] | w[1]) & 0x8080808080808080u;
    if (odd[0]) return p + (__builtin_ctzll(odd[0]) >> 3);
    if (odd[1]) return p + 8 + (__builtin_ctzll(odd[1]) >> 3);
  }
  for (; p < end; p++) {
    *io_high |= *p & 0x80u;
    if (*p == '"' || *p == '\\' || *p < 0x20) break;
  }
  return p;
}

/* Four hex digits at p, or -1. */
static inline int lv__json_hex4(const uint8_t *p) {
  int v = 0;
  for (int i = 0; i < 4; i++) {
    uint8_t c = p[i], low = c | 0x20;
    if (c >= '0' && c <= '9')
      v = v << 4 | (c - '0');
    else if (low >= 'a' && low <= 'f')
      v = v << 4 | (low - 'a' + 10);
    else
      return -1;
  }
  return v;
}

/* One escape sequence (p at its backslash) of a checked string: the code point, which is a
 * surrogate when it is a lone one; *io_p moves behind it. */
uint32_t lv__json_escape_next(const uint8_t **io_p, const uint8_t *end);
/* UTF-8 of a code point (a lone surrogate in the same three-byte pattern); returns the end. */
uint8_t *lv__utf8_put(uint8_t *dst, uint32_t c);

#endif
