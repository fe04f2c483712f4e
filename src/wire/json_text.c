/* json_text.c: strings of JSON, decoded and written; base64. @thread any */
#include "wire/json_int.h"

/* ---- decoding ---- */

uint32_t lv__json_escape_next(const uint8_t **io_p, const uint8_t *end) {
  const uint8_t *p = *io_p;
  *io_p = p + 2;
  switch (p[1]) {
  case 'b': return '\b';
  case 'f': return '\f';
  case 'n': return '\n';
  case 'r': return '\r';
  case 't': return '\t';
  case 'u': break;
  default: return p[1];
  }
  uint32_t v = (uint32_t)lv__json_hex4(p + 2);
  *io_p = p + 6;
  if (v < 0xD800 || v > 0xDBFF || end - p < 12 || p[6] != '\\' || p[7] != 'u') return v;
  uint32_t low = (uint32_t)lv__json_hex4(p + 8);
  if (low < 0xDC00 || low > 0xDFFF) return v;
  *io_p = p + 12;
  return 0x10000 + ((v - 0xD800) << 10) + (low - 0xDC00);
}

uint8_t *lv__utf8_put(uint8_t *dst, uint32_t c) {
  if (c < 0x80) {
    *dst++ = (uint8_t)c;
  } else if (c < 0x800) {
    *dst++ = (uint8_t)(0xC0 | c >> 6);
    *dst++ = (uint8_t)(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    *dst++ = (uint8_t)(0xE0 | c >> 12);
    *dst++ = (uint8_t)(0x80 | (c >> 6 & 0x3F));
    *dst++ = (uint8_t)(0x80 | (c & 0x3F));
  } else {
    *dst++ = (uint8_t)(0xF0 | c >> 18);
    *dst++ = (uint8_t)(0x80 | (c >> 12 & 0x3F));
    *dst++ = (uint8_t)(0x80 | (c >> 6 & 0x3F));
    *dst++ = (uint8_t)(0x80 | (c & 0x3F));
  }
  return dst;
}

int lv_json_unescape(const lv_json_tok *tok, uint8_t *dst, lv_slice *ret) {
  if (!(tok->flags & LV_JSON_ESCAPED)) {
    *ret = tok->s;
    return 0;
  }
  if (tok->flags & LV_JSON_SURROGATE) return LV_E_SURROGATE;
  const uint8_t *p = tok->s.p, *end = p + tok->s.n;
  uint8_t *to = dst;
  while (p < end) {
    const uint8_t *esc = memchr(p, '\\', (size_t)(end - p));
    size_t n = (size_t)((esc ? esc : end) - p);
    memmove(to, p, n); /* dst may be the text itself */
    to += n;
    p += n;
    if (esc) to = lv__utf8_put(to, lv__json_escape_next(&p, end));
  }
  *ret = lv_slice_of(dst, (size_t)(to - dst));
  return 0;
}

uint32_t lv_json_unescaped_size(const lv_json_tok *tok) {
  if (!(tok->flags & LV_JSON_ESCAPED)) return tok->s.n;
  const uint8_t *p = tok->s.p, *end = p + tok->s.n;
  uint32_t n = 0;
  uint8_t buf[4];
  while (p < end) {
    const uint8_t *esc = memchr(p, '\\', (size_t)(end - p));
    n += (uint32_t)((esc ? esc : end) - p);
    p = esc ? esc : end;
    if (esc) n += (uint32_t)(lv__utf8_put(buf, lv__json_escape_next(&p, end)) - buf);
  }
  return n;
}

/* ---- writing ---- */

/* Length of the well-formed sequence at p, 0 when there is none. */
static uint32_t sequence(const uint8_t *p, const uint8_t *end) {
  for (uint32_t n = 2; n <= 4 && (size_t)(end - p) >= n; n++)
    if (lv_utf8_valid((lv_slice){p, n}, false)) return n;
  return 0;
}

/* Which letter follows the backslash; 'u' for the controls that have none of their own. */
static uint8_t letter(uint8_t c) {
  switch (c) {
  case '\b': return 'b';
  case '\t': return 't';
  case '\n': return 'n';
  case '\f': return 'f';
  case '\r': return 'r';
  case '"':
  case '\\': return c;
  default: return 'u';
  }
}

/* What of s needs no change, with UTF-8 in it: returns its length. */
static uint32_t plain(lv_slice s) {
  uint64_t high = 0;
  uint32_t n = (uint32_t)(lv__json_plain_end(s.p, s.p + s.n, &high) - s.p);
  if (!high || lv_utf8_valid((lv_slice){s.p, n}, false)) return n;
  uint32_t i = 0; /* the run has a bad byte: up to there */
  while (i < n) {
    uint32_t len = s.p[i] < 0x80 ? 1 : sequence(s.p + i, s.p + n);
    if (len == 0) break;
    i += len;
  }
  return i;
}

uint32_t lv_json_string_size(lv_slice s) {
  uint32_t size = 2;
  while (s.n) {
    uint32_t n = plain(s);
    size += n;
    if (n == s.n) break;
    uint8_t c = s.p[n];
    size += c >= 0x80 ? 3 : letter(c) == 'u' ? 6 : 2;
    s = (lv_slice){s.p + n + 1, s.n - n - 1};
  }
  return size;
}

static uint8_t *put_odd(uint8_t *dst, uint8_t c) {
  static const char hex[] = "0123456789abcdef";
  if (c >= 0x80) return lv__utf8_put(dst, 0xFFFD);
  *dst++ = '\\';
  *dst++ = letter(c);
  if (dst[-1] != 'u') return dst;
  *dst++ = '0';
  *dst++ = '0';
  *dst++ = (uint8_t)hex[c >> 4];
  *dst++ = (uint8_t)hex[c & 15];
  return dst;
}

uint8_t *lv_json_put_escaped(uint8_t *dst, lv_slice s) {
  while (s.n) {
    uint32_t n = plain(s);
    memcpy(dst, s.p, n);
    dst += n;
    if (n == s.n) break;
    dst = put_odd(dst, s.p[n]);
    s = (lv_slice){s.p + n + 1, s.n - n - 1};
  }
  return dst;
}

uint8_t *lv_json_put_string(uint8_t *dst, lv_slice s) {
  *dst++ = '"';
  dst = lv_json_put_escaped(dst, s);
  *dst++ = '"';
  return dst;
}

/* ---- base64 ---- */

static const char set64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

uint8_t *lv_base64_put(uint8_t *dst, lv_slice s) {
  uint32_t i = 0;
  for (; s.n - i >= 3; i += 3) {
    uint32_t v = (uint32_t)s.p[i] << 16 | (uint32_t)s.p[i + 1] << 8 | s.p[i + 2];
    *dst++ = (uint8_t)set64[v >> 18];
    *dst++ = (uint8_t)set64[v >> 12 & 63];
    *dst++ = (uint8_t)set64[v >> 6 & 63];
    *dst++ = (uint8_t)set64[v & 63];
  }
  if (i == s.n) return dst;
  bool two = s.n - i == 2;
  uint32_t v = (uint32_t)s.p[i] << 16 | (two ? (uint32_t)s.p[i + 1] << 8 : 0);
  *dst++ = (uint8_t)set64[v >> 18];
  *dst++ = (uint8_t)set64[v >> 12 & 63];
  *dst++ = two ? (uint8_t)set64[v >> 6 & 63] : '=';
  *dst++ = '=';
  return dst;
}

static uint32_t value64(uint8_t c) {
  if (c >= 'A' && c <= 'Z') return c - 'A' + 0u;
  if (c >= 'a' && c <= 'z') return c - 'a' + 26u;
  if (c >= '0' && c <= '9') return c - '0' + 52u;
  return c == '+' ? 62 : c == '/' ? 63 : 64;
}

int lv_base64_decode(lv_slice text, uint8_t *dst, lv_slice *ret) {
  if (text.n % 4) return LV_E_PAYLOAD;
  uint8_t *to = dst;
  for (uint32_t i = 0; i < text.n; i += 4) {
    bool last = i + 4 == text.n;
    uint32_t pad = !last ? 0 : text.p[i + 3] != '=' ? 0 : text.p[i + 2] != '=' ? 1 : 2, v = 0;
    for (uint32_t k = 0; k < 4; k++) {
      uint32_t d = k >= 4 - pad ? 0 : value64(text.p[i + k]);
      if (d > 63) return LV_E_PAYLOAD;
      v = v << 6 | d;
    }
    if (v & ((1u << 8 * pad) - 1)) return LV_E_PAYLOAD; /* spare bits */
    *to++ = (uint8_t)(v >> 16);
    if (pad < 2) *to++ = (uint8_t)(v >> 8);
    if (pad < 1) *to++ = (uint8_t)v;
  }
  *ret = lv_slice_of(dst, (size_t)(to - dst));
  return 0;
}
