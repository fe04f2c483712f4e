/* slice.h: a borrowed range of bytes, and the few things that are done with one.
 *
 * A slice never owns. It is passed by value. `p` may be NULL only when `n` is 0. */
#ifndef LV_CORE_SLICE_H
#define LV_CORE_SLICE_H
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef struct lv_slice {
  const uint8_t *p;
  uint32_t n;
} lv_slice;

#define LV_SLICE(lit) ((lv_slice){(const uint8_t *)("" lit), sizeof(lit) - 1})

static inline lv_slice lv_slice_of(const void *p, size_t n) {
  return (lv_slice){(const uint8_t *)p, (uint32_t)n};
}
static inline lv_slice lv_slice_str(const char *s) {
  return (lv_slice){(const uint8_t *)s, (uint32_t)strlen(s)};
}
static inline bool lv_slice_eq(lv_slice a, lv_slice b) {
  return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
static inline bool lv_slice_starts(lv_slice s, lv_slice prefix) {
  return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}
/* Lexicographic, as memcmp with the shorter first. @thread any */
int lv_slice_cmp(lv_slice a, lv_slice b);
/* ASCII case-insensitive equality. @thread any */
bool lv_slice_caseeq(lv_slice a, lv_slice b);
/* Cuts `s` at the first `sep`: the part before it goes to ret_head, `s` becomes what is behind it.
 * False (and ret_head = all of s, s empty) when there is no `sep`. @thread any */
bool lv_slice_split(lv_slice *s, char sep, lv_slice *ret_head);
/* Whole slice as unsigned decimal: LV_E_INVALID on garbage, sign, empty or overflow. @thread any */
int lv_slice_u64(lv_slice s, uint64_t *ret_v);
/* A NUL-terminated heap copy (the caller frees). Aborts when memory is out. @thread any */
char *lv_slice_dup(lv_slice s);
/* True when the bytes are well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms, at most
 * U+10FFFF). With `mqtt`, U+0000 is refused as well (MQTT 5.0 §1.5.4). @thread any */
bool lv_utf8_valid(lv_slice s, bool mqtt);

#endif
