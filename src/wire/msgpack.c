/* msgpack.c: tokens of MessagePack, read and written. Big-endian on the wire. @thread any */
#include "wire/msgpack.h"
#include <assert.h>

/* ---- writing ---- */

static uint8_t *put_be(uint8_t *dst, uint8_t head, uint64_t v, uint32_t bytes) {
  *dst++ = head;
  for (uint32_t i = bytes; i; i--) *dst++ = (uint8_t)(v >> (8 * (i - 1)));
  return dst;
}

uint8_t *lv_msgpack_put_u64(uint8_t *dst, uint64_t v) {
  if (v < 128) {
    *dst++ = (uint8_t)v;
    return dst;
  }
  if (v <= UINT8_MAX) return put_be(dst, 0xCC, v, 1);
  if (v <= UINT16_MAX) return put_be(dst, 0xCD, v, 2);
  if (v <= UINT32_MAX) return put_be(dst, 0xCE, v, 4);
  return put_be(dst, 0xCF, v, 8);
}

uint8_t *lv_msgpack_put_i64(uint8_t *dst, int64_t v) {
  if (v >= 0) return lv_msgpack_put_u64(dst, (uint64_t)v);
  if (v >= -32) {
    *dst++ = (uint8_t)v;
    return dst;
  }
  if (v >= INT8_MIN) return put_be(dst, 0xD0, (uint64_t)v, 1);
  if (v >= INT16_MIN) return put_be(dst, 0xD1, (uint64_t)v, 2);
  if (v >= INT32_MIN) return put_be(dst, 0xD2, (uint64_t)v, 4);
  return put_be(dst, 0xD3, (uint64_t)v, 8);
}

uint8_t *lv_msgpack_put_double(uint8_t *dst, double v) {
  uint64_t bits;
  memcpy(&bits, &v, 8);
  return put_be(dst, 0xCB, bits, 8);
}

/* `one` is the form with a byte of length, 0 where there is none; those of two and four follow the
 * code `two`. */
static uint8_t *put_head(uint8_t *dst, uint32_t n, uint8_t one, uint8_t two) {
  if (one && n <= UINT8_MAX) return put_be(dst, one, n, 1);
  if (n <= UINT16_MAX) return put_be(dst, two, n, 2);
  return put_be(dst, (uint8_t)(two + 1), n, 4);
}
static uint8_t *put_fix(uint8_t *dst, uint32_t v) {
  *dst++ = (uint8_t)v;
  return dst;
}
uint8_t *lv_msgpack_put_str_head(uint8_t *dst, uint32_t n) {
  return n < 32 ? put_fix(dst, 0xA0 | n) : put_head(dst, n, 0xD9, 0xDA);
}
uint8_t *lv_msgpack_put_bin_head(uint8_t *dst, uint32_t n) {
  return put_head(dst, n, 0xC4, 0xC5);
}
uint8_t *lv_msgpack_put_array_head(uint8_t *dst, uint32_t n) {
  return n < 16 ? put_fix(dst, 0x90 | n) : put_head(dst, n, 0, 0xDC);
}
uint8_t *lv_msgpack_put_map_head(uint8_t *dst, uint32_t n) {
  return n < 16 ? put_fix(dst, 0x80 | n) : put_head(dst, n, 0, 0xDE);
}
uint8_t *lv_msgpack_put_str(uint8_t *dst, lv_slice s) {
  dst = lv_msgpack_put_str_head(dst, s.n);
  if (s.n) memcpy(dst, s.p, s.n);
  return dst + s.n;
}

/* ---- reading ---- */

void lv_msgpack_init(lv_msgpack *m, lv_slice bytes) {
  m->p = bytes.n ? bytes.p : (const uint8_t *)"";
  m->end = m->p + bytes.n;
  m->depth = 0;
  m->begun = false;
}

static bool take_be(lv_msgpack *m, uint32_t bytes, uint64_t *ret) {
  uint64_t v = 0;
  if ((size_t)(m->end - m->p) < bytes) return false;
  for (uint32_t i = 0; i < bytes; i++) v = v << 8 | *m->p++;
  *ret = v;
  return true;
}

static bool take_bytes(lv_msgpack *m, uint64_t n, uint8_t type, lv_msgpack_tok *t) {
  if ((uint64_t)(m->end - m->p) < n) return false;
  t->type = type;
  t->s = lv_slice_of(m->p, (size_t)n);
  m->p += n;
  return true;
}

static bool take_counted(lv_msgpack *m, uint32_t bytes, uint8_t type, lv_msgpack_tok *t) {
  uint64_t n;
  return take_be(m, bytes, &n) && take_bytes(m, n, type, t);
}

static bool take_ext(lv_msgpack *m, uint64_t n, lv_msgpack_tok *t) {
  uint64_t kind;
  if (!take_be(m, 1, &kind) || !take_bytes(m, n, LV_MSGPACK_EXT, t)) return false;
  t->i = (int8_t)kind;
  return true;
}

static bool take_uint(lv_msgpack *m, uint32_t bytes, lv_msgpack_tok *t) {
  t->type = LV_MSGPACK_UINT;
  return take_be(m, bytes, &t->u);
}

static bool take_int(lv_msgpack *m, uint32_t bytes, lv_msgpack_tok *t) {
  uint64_t v;
  if (!take_be(m, bytes, &v)) return false;
  uint32_t unused = 64 - 8 * bytes;
  t->i = (int64_t)(v << unused) >> unused;
  t->type = t->i < 0 ? LV_MSGPACK_INT : LV_MSGPACK_UINT;
  return true;
}

static bool take_float(lv_msgpack *m, uint32_t bytes, lv_msgpack_tok *t) {
  uint64_t v;
  if (!take_be(m, bytes, &v)) return false;
  t->type = LV_MSGPACK_FLOAT;
  if (bytes == 4) {
    uint32_t bits = (uint32_t)v;
    float f;
    memcpy(&f, &bits, 4);
    t->d = (double)f;
  } else {
    memcpy(&t->d, &v, 8);
  }
  return true;
}

static bool take_group(lv_msgpack *m, uint32_t bytes, uint8_t type, lv_msgpack_tok *t) {
  uint64_t n;
  if (!take_be(m, bytes, &n)) return false;
  t->type = type;
  t->n = (uint32_t)n;
  return true;
}

/* The token behind the head byte c, which is not one of the fixed forms. */
static bool take_long(lv_msgpack *m, uint8_t c, lv_msgpack_tok *t) {
  switch (c) {
  case 0xC0: t->type = LV_MSGPACK_NIL; return true;
  case 0xC2: t->type = LV_MSGPACK_FALSE; return true;
  case 0xC3: t->type = LV_MSGPACK_TRUE; return true;
  case 0xC4:
  case 0xC5:
  case 0xC6: return take_counted(m, 1u << (c - 0xC4), LV_MSGPACK_BIN, t);
  case 0xC7:
  case 0xC8:
  case 0xC9: {
    uint64_t n;
    return take_be(m, 1u << (c - 0xC7), &n) && take_ext(m, n, t);
  }
  case 0xCA:
  case 0xCB: return take_float(m, 4u << (c - 0xCA), t);
  case 0xCC:
  case 0xCD:
  case 0xCE:
  case 0xCF: return take_uint(m, 1u << (c - 0xCC), t);
  case 0xD0:
  case 0xD1:
  case 0xD2:
  case 0xD3: return take_int(m, 1u << (c - 0xD0), t);
  case 0xD4:
  case 0xD5:
  case 0xD6:
  case 0xD7:
  case 0xD8: return take_ext(m, 1u << (c - 0xD4), t);
  case 0xD9:
  case 0xDA:
  case 0xDB: return take_counted(m, 1u << (c - 0xD9), LV_MSGPACK_STR, t);
  case 0xDC:
  case 0xDD: return take_group(m, 2u << (c - 0xDC), LV_MSGPACK_ARRAY, t);
  case 0xDE:
  case 0xDF: return take_group(m, 2u << (c - 0xDE), LV_MSGPACK_MAP, t);
  default: return false; /* 0xC1 */
  }
}

static bool take(lv_msgpack *m, lv_msgpack_tok *t) {
  if (m->p == m->end) return false;
  uint8_t c = *m->p++;
  *t = (lv_msgpack_tok){0};
  if (c < 0x80 || c >= 0xE0) {
    t->type = c < 0x80 ? LV_MSGPACK_UINT : LV_MSGPACK_INT;
    t->i = (int8_t)c;
    return true;
  }
  if (c < 0xA0) {
    t->type = c < 0x90 ? LV_MSGPACK_MAP : LV_MSGPACK_ARRAY;
    t->n = c & 15;
    return true;
  }
  return c < 0xC0 ? take_bytes(m, c & 31, LV_MSGPACK_STR, t) : take_long(m, c, t);
}

int lv_msgpack_next(lv_msgpack *m, lv_msgpack_tok *ret) {
  lv_msgpack_tok t;
  if (m->begun && m->depth == 0) return m->p == m->end ? 0 : LV_E_PAYLOAD;
  if (!take(m, &t)) return LV_E_PAYLOAD;
  if (t.type == LV_MSGPACK_STR && !lv_utf8_valid(t.s, false)) return LV_E_PAYLOAD;
  m->begun = true;
  if (m->depth) m->left[m->depth - 1]--;
  if ((t.type == LV_MSGPACK_ARRAY || t.type == LV_MSGPACK_MAP) && t.n) {
    uint64_t want = t.type == LV_MSGPACK_MAP ? (uint64_t)t.n * 2 : t.n;
    if (want > (uint64_t)(m->end - m->p)) return LV_E_PAYLOAD;
    if (m->depth == LV_MSGPACK_DEPTH_MAX) return LV_E_NESTING;
    m->left[m->depth++] = want;
  }
  for (; m->depth && m->left[m->depth - 1] == 0; t.closes++) m->depth--;
  *ret = t;
  return 1;
}

int lv_msgpack_skip(lv_msgpack *m, const lv_msgpack_tok *tok) {
  if ((tok->type != LV_MSGPACK_ARRAY && tok->type != LV_MSGPACK_MAP) || tok->n == 0) return 0;
  lv_msgpack_tok t;
  uint32_t depth = m->depth;
  while (m->depth >= depth) {
    int got = lv_msgpack_next(m, &t);
    if (got < 0) return got;
    assert(got == 1);
  }
  return 0;
}

int lv_msgpack_check(lv_slice bytes) {
  lv_msgpack m;
  lv_msgpack_tok t;
  int got;
  lv_msgpack_init(&m, bytes);
  while ((got = lv_msgpack_next(&m, &t)) == 1) {
  }
  return got;
}
