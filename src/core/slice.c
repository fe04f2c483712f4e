/* slice.c: comparing, cutting, parsing and checking borrowed ranges of bytes. Pure functions. */
#include "core/slice.h"
#include "core/err.h"
#include <stdlib.h>

int lv_slice_cmp(lv_slice a, lv_slice b) {
  uint32_t n = a.n < b.n ? a.n : b.n;
  int c = n ? memcmp(a.p, b.p, n) : 0;
  if (c) return c;
  return (a.n > b.n) - (a.n < b.n);
}

static uint8_t lower(uint8_t c) {
  return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

bool lv_slice_caseeq(lv_slice a, lv_slice b) {
  if (a.n != b.n) return false;
  for (uint32_t i = 0; i < a.n; i++)
    if (lower(a.p[i]) != lower(b.p[i])) return false;
  return true;
}

bool lv_slice_split(lv_slice *s, char sep, lv_slice *ret_head) {
  lv_slice all = *s;
  const uint8_t *at = all.n ? memchr(all.p, (uint8_t)sep, all.n) : NULL;
  if (!at) {
    *ret_head = all;
    *s = lv_slice_of(all.n ? all.p + all.n : all.p, 0);
    return false;
  }
  uint32_t n = (uint32_t)(at - all.p);
  *ret_head = lv_slice_of(all.p, n);
  *s = lv_slice_of(at + 1, all.n - n - 1);
  return true;
}

int lv_slice_u64(lv_slice s, uint64_t *ret_v) {
  uint64_t v = 0;
  if (s.n == 0) return LV_E_INVALID;
  for (uint32_t i = 0; i < s.n; i++) {
    if (s.p[i] < '0' || s.p[i] > '9') return LV_E_INVALID;
    uint64_t digit = (uint64_t)(s.p[i] - '0');
    if (v > (UINT64_MAX - digit) / 10) return LV_E_INVALID;
    v = v * 10 + digit;
  }
  *ret_v = v;
  return 0;
}

char *lv_slice_dup(lv_slice s) {
  char *d = malloc((size_t)s.n + 1);
  if (!d) abort();
  if (s.n) memcpy(d, s.p, s.n);
  d[s.n] = 0;
  return d;
}

/* Length of the well-formed sequence at p (n bytes left), 0 when there is none: RFC 3629 §4. */
static uint32_t utf8_seq(const uint8_t *p, uint32_t n) {
  uint8_t c = p[0], lo = 0x80, hi = 0xBF;
  uint32_t len;
  if (c < 0x80) return 1;
  if (c < 0xC2 || c > 0xF4) return 0;
  len = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
  if (c == 0xE0) lo = 0xA0; /* overlong */
  if (c == 0xED) hi = 0x9F; /* surrogates */
  if (c == 0xF0) lo = 0x90; /* overlong */
  if (c == 0xF4) hi = 0x8F; /* above U+10FFFF */
  if (n < len || p[1] < lo || p[1] > hi) return 0;
  for (uint32_t i = 2; i < len; i++)
    if ((p[i] & 0xC0) != 0x80) return 0;
  return len;
}

bool lv_utf8_valid(lv_slice s, bool mqtt) {
  const uint64_t high = 0x8080808080808080u, ones = 0x0101010101010101u;
  uint32_t i = 0;
  while (i < s.n) {
    while (s.n - i >= 8) { /* eight ASCII bytes at a time */
      uint64_t w;
      memcpy(&w, s.p + i, 8);
      if (w & high) break;
      if (mqtt && ((w - ones) & ~w & high)) return false;
      i += 8;
    }
    if (i >= s.n) break;
    if (mqtt && s.p[i] == 0) return false;
    uint32_t len = utf8_seq(s.p + i, s.n - i);
    if (len == 0) return false;
    i += len;
  }
  return true;
}
