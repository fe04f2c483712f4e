/* json_num.c: numbers of JSON, read and written. @thread any
 *
 * Reading a double: a number of at most 2^53 in its digits and a power of ten of at most 22 is one
 * exact product or quotient, so rounded once (Clinger 1990). The rest goes to strtod, which rounds
 * correctly in glibc and musl, as digits and exponent without a point, so that no locale matters.
 * The midpoint between two doubles has at most 767 significant digits; beyond DIGITS_MAX a single
 * `1` stands for all that follows, which cannot change the side of it.
 *
 * Writing one: 15 digits, 16, then 17, until it reads back the same. printf's point is the
 * locale's: whatever it is, it is replaced. */
#include "wire/json_int.h"
#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static_assert(FLT_EVAL_METHOD == 0 && DBL_MANT_DIG == 53, "products are rounded once, to a double");

enum { DIGITS_MAX = 780, EXP_MAX = 100000 };

bool lv_json_integer(const lv_json_tok *tok, uint64_t *ret, bool *ret_negative) {
  if (!(tok->flags & LV_JSON_INTEGER)) return false;
  const uint8_t *p = tok->s.p, *end = p + tok->s.n;
  bool minus = *p == '-';
  uint64_t v = 0;
  for (p += minus; p < end; p++)
    if (__builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
      return false;
  if (minus && v > (uint64_t)1 << 63) return false;
  *ret = minus ? 0 - v : v;
  *ret_negative = minus && v;
  return true;
}

/* A number taken apart: the first digits (without leading zeros) and the power of ten that the last
 * of them counts. */
typedef struct parts {
  uint32_t n;
  bool more; /* digits other than 0 were left out */
  int64_t exp;
  char digits[DIGITS_MAX + 16]; /* and room for what strtod needs behind them */
} parts;

static void take_digit(parts *d, uint8_t c, bool fraction) {
  bool kept = d->n < DIGITS_MAX;
  if (d->n == 0 && c == '0') {
    if (fraction) d->exp--;
    return;
  }
  if (kept)
    d->digits[d->n++] = (char)c;
  else
    d->more |= c != '0';
  d->exp += (kept ? 0 : 1) - (fraction ? 1 : 0);
}

static void take_apart(lv_slice s, parts *d) {
  const uint8_t *p = s.p, *end = p + s.n;
  bool fraction = false, minus = false;
  int64_t e = 0;
  d->n = 0;
  d->exp = 0;
  d->more = false;
  for (p += *p == '-'; p < end && (*p | 0x20) != 'e'; p++) {
    if (*p == '.')
      fraction = true;
    else
      take_digit(d, *p, fraction);
  }
  if (p < end) {
    p++;
    minus = *p == '-';
    if (*p == '-' || *p == '+') p++;
  }
  for (; p < end; p++)
    if (e < 1 << 27) e = e * 10 + (*p - '0');
  d->exp += minus ? -e : e;
}

static double by_strtod(parts *d) {
  if (d->more) {
    d->digits[d->n++] = '1';
    d->exp--;
  }
  int64_t e = d->exp > EXP_MAX ? EXP_MAX : d->exp < -EXP_MAX ? -EXP_MAX : d->exp;
  snprintf(d->digits + d->n, sizeof d->digits - d->n, "e%d", (int)e);
  return strtod(d->digits, NULL);
}

/* digits × 10^exp where one operation on exact numbers gives it; false: it does not. */
static bool exact(uint64_t digits, int64_t exp, double *ret) {
  static const double tens[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
  if (digits > (uint64_t)1 << 53 || exp < -22 || exp > 22) return false;
  *ret = exp < 0 ? (double)digits / tens[-exp] : (double)digits * tens[exp];
  return true;
}

/* The common case: at most 19 characters of digits, no exponent. */
static bool short_double(const uint8_t *p, const uint8_t *end, double *ret) {
  uint64_t v = 0;
  int64_t exp = 0;
  bool fraction = false;
  if (end - p > 19) return false;
  for (; p < end; p++) {
    uint32_t c = *p - '0' + 0u;
    if (c <= 9) {
      v = v * 10 + c;
      exp -= fraction;
    } else if (*p == '.') {
      fraction = true;
    } else {
      return false;
    }
  }
  return exact(v, exp, ret);
}

double lv_json_double(const lv_json_tok *tok) {
  assert(tok->type == LV_JSON_NUMBER && tok->s.n);
  bool minus = tok->s.p[0] == '-';
  double v;
  if (!short_double(tok->s.p + minus, tok->s.p + tok->s.n, &v)) {
    parts d;
    uint64_t m = 0;
    take_apart(tok->s, &d);
    for (uint32_t i = 0; i < d.n && d.n <= 19; i++) m = m * 10 + (uint64_t)(d.digits[i] - '0');
    if (d.n == 0)
      v = 0;
    else if (d.n > 19 || !exact(m, d.exp, &v))
      v = by_strtod(&d);
  }
  return minus ? -v : v;
}

/* ---- writing ---- */

uint8_t *lv_json_put_u64(uint8_t *dst, uint64_t v) {
  uint8_t buf[LV_JSON_U64_MAX];
  uint32_t i = sizeof buf;
  do {
    buf[--i] = (uint8_t)('0' + v % 10);
    v /= 10;
  } while (v);
  memcpy(dst, buf + i, sizeof buf - i);
  return dst + (sizeof buf - i);
}

uint8_t *lv_json_put_i64(uint8_t *dst, int64_t v) {
  if (v >= 0) return lv_json_put_u64(dst, (uint64_t)v);
  *dst++ = '-';
  return lv_json_put_u64(dst, 0 - (uint64_t)v);
}

/* snprintf's text as JSON: any point as `.`; `.0` behind a whole number. */
static uint32_t as_json(const char *text, uint8_t *dst) {
  uint32_t n = 0;
  bool marked = false, point = false;
  for (const char *p = text; *p; p++) {
    bool plain = (*p >= '0' && *p <= '9') || *p == '-' || *p == '+' || *p == 'e';
    marked |= *p == 'e' || !plain;
    if (plain || !point) dst[n++] = plain ? (uint8_t)*p : '.'; /* a point may be many bytes */
    point = !plain;
  }
  if (!marked) {
    dst[n++] = '.';
    dst[n++] = '0';
  }
  return n;
}

uint8_t *lv_json_put_double(uint8_t *dst, double v) {
  assert(isfinite(v));
  uint32_t n = 0;
  for (int digits = 15; digits <= 17; digits++) {
    char text[64];
    snprintf(text, sizeof text, "%.*g", digits, v);
    n = as_json(text, dst);
    assert(n <= LV_JSON_DOUBLE_MAX);
    lv_json_tok tok = {.type = LV_JSON_NUMBER, .s = {dst, n}};
    if (lv_json_double(&tok) == v) break;
  }
  return dst + n;
}
