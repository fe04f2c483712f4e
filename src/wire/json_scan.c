/* json_scan.c: the pull scanner of json.h and what is made of it: check, skip, pick.
 *
 * `step` is the whole grammar as a machine of five states; which bracket is innermost is bit 0 of
 * a 128-bit shift register. It is inlined twice: into lv_json_next, and into lv_json_check, where
 * the token is never stored. UTF-8 is checked once a string, and only in strings that have a byte
 * above 0x7F; a quote or backslash is never a part of a longer sequence, so the string's end is
 * right before that is known. @thread any */
#include "wire/json_int.h"
#include <assert.h>

enum state {
  VALUE,      /* a value has to come */
  FIRST,      /* behind `[`: a value or `]` */
  FIRST_NAME, /* behind `{`: a name or `}` */
  NAME,       /* behind `,` in an object */
  AFTER,      /* behind a value */
};

#define INLINE static inline __attribute__((always_inline))

void lv_json_init(lv_json *j, lv_slice text) {
  const uint8_t *p = text.n ? text.p : (const uint8_t *)"";
  *j = (lv_json){.start = p, .p = p, .end = p + text.n, .state = VALUE};
}

INLINE const uint8_t *space(const uint8_t *p, const uint8_t *end) {
  while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) p++;
  return p;
}

/* The escape at p (a backslash): where it ends, NULL when it is none. */
static const uint8_t *escape(const uint8_t *p, const uint8_t *end, uint8_t *io_flags) {
  if (end - p < 2) return NULL;
  switch (p[1]) {
  case '"':
  case '\\':
  case '/':
  case 'b':
  case 'f':
  case 'n':
  case 'r':
  case 't': return p + 2;
  case 'u': break;
  default: return NULL;
  }
  int v = end - p >= 6 ? lv__json_hex4(p + 2) : -1;
  if (v < 0) return NULL;
  if (v == 0) *io_flags |= LV_JSON_NUL;
  if (v < 0xD800 || v > 0xDFFF) return p + 6;
  bool pair = v < 0xDC00 && end - p >= 12 && p[6] == '\\' && p[7] == 'u';
  int low = pair ? lv__json_hex4(p + 8) : -1;
  if (low >= 0xDC00 && low <= 0xDFFF) return p + 12;
  *io_flags |= LV_JSON_SURROGATE;
  return p + 6;
}

/* The string whose opening quote is at p: where it ends, NULL when it is none. */
INLINE const uint8_t *string(const uint8_t *p, const uint8_t *end, lv_json_tok *tok) {
  const uint8_t *start = ++p;
  uint64_t high = 0;
  uint8_t flags = 0;
  for (;;) {
    p = lv__json_plain_end(p, end, &high);
    if (p == end) return NULL;
    if (*p == '"') break;
    if (*p != '\\') return NULL;
    flags |= LV_JSON_ESCAPED;
    p = escape(p, end, &flags);
    if (!p) return NULL;
  }
  tok->s = lv_slice_of(start, (size_t)(p - start));
  tok->flags = flags;
  if (__builtin_expect(high != 0, 0) && !lv_utf8_valid(tok->s, false)) return NULL;
  return p + 1;
}

INLINE bool digit(const uint8_t *p, const uint8_t *end) {
  return p < end && *p >= '0' && *p <= '9';
}

INLINE const uint8_t *number(const uint8_t *p, const uint8_t *end, lv_json_tok *tok) {
  const uint8_t *start = p;
  uint8_t flags = LV_JSON_INTEGER;
  if (*p == '-') p++;
  if (!digit(p, end)) return NULL;
  if (*p++ != '0')
    while (digit(p, end)) p++;
  if (p < end && *p == '.') {
    flags = 0;
    if (!digit(++p, end)) return NULL;
    while (digit(p, end)) p++;
  }
  if (p < end && (*p | 0x20) == 'e') {
    flags = 0;
    p++;
    if (p < end && (*p == '+' || *p == '-')) p++;
    if (!digit(p, end)) return NULL;
    while (digit(p, end)) p++;
  }
  tok->type = LV_JSON_NUMBER;
  tok->flags = flags;
  tok->s = lv_slice_of(start, (size_t)(p - start));
  return p;
}

INLINE const uint8_t *word(const uint8_t *p, const uint8_t *end, lv_slice want, uint8_t type,
                           lv_json_tok *tok) {
  if ((size_t)(end - p) < want.n || memcmp(p, want.p, want.n) != 0) return NULL;
  *tok = (lv_json_tok){.type = type, .s = {p, want.n}};
  return p + want.n;
}

INLINE int push(lv_json *j, const uint8_t *p, bool object, lv_json_tok *tok) {
  if (j->depth == LV_JSON_DEPTH_MAX) return LV_E_NESTING;
  j->depth++;
  j->open_hi = j->open_hi << 1 | j->open_lo >> 63;
  j->open_lo = j->open_lo << 1 | object;
  j->state = object ? FIRST_NAME : FIRST;
  *tok = (lv_json_tok){.type = object ? LV_JSON_OBJECT : LV_JSON_ARRAY, .s = {p, 1}};
  j->p = p + 1;
  return 1;
}

INLINE int pop(lv_json *j, const uint8_t *p, lv_json_tok *tok) {
  bool object = j->open_lo & 1;
  j->open_lo = j->open_lo >> 1 | j->open_hi << 63;
  j->open_hi >>= 1;
  j->depth--;
  j->state = AFTER;
  *tok = (lv_json_tok){.type = object ? LV_JSON_OBJECT_END : LV_JSON_ARRAY_END, .s = {p, 1}};
  j->p = p + 1;
  return 1;
}

INLINE int fail(lv_json *j, const uint8_t *p) {
  j->p = p;
  return LV_E_PAYLOAD;
}

/* A value at p, which is not the end. */
INLINE int value(lv_json *j, const uint8_t *p, lv_json_tok *tok) {
  const uint8_t *next;
  switch (*p) {
  case '"':
    tok->type = LV_JSON_STRING;
    next = string(p, j->end, tok);
    break;
  case '{': return push(j, p, true, tok);
  case '[': return push(j, p, false, tok);
  case 't': next = word(p, j->end, LV_SLICE("true"), LV_JSON_TRUE, tok); break;
  case 'f': next = word(p, j->end, LV_SLICE("false"), LV_JSON_FALSE, tok); break;
  case 'n': next = word(p, j->end, LV_SLICE("null"), LV_JSON_NULL, tok); break;
  default: next = number(p, j->end, tok); break;
  }
  if (!next) return fail(j, p);
  j->state = AFTER;
  j->p = next;
  j->flags |= tok->flags;
  return 1;
}

/* A name at p, with its colon. */
INLINE int name(lv_json *j, const uint8_t *p, lv_json_tok *tok) {
  if (p == j->end || *p != '"') return fail(j, p);
  tok->type = LV_JSON_NAME;
  const uint8_t *next = string(p, j->end, tok);
  if (!next) return fail(j, p);
  next = space(next, j->end);
  if (next == j->end || *next != ':') return fail(j, next);
  j->state = VALUE;
  j->p = next + 1;
  j->flags |= tok->flags;
  return 1;
}

INLINE int step(lv_json *j, lv_json_tok *tok) {
  const uint8_t *p = space(j->p, j->end);
  uint8_t state = j->state;
  if (state == AFTER) {
    if (j->depth == 0) return p == j->end ? 0 : fail(j, p);
    if (p == j->end) return fail(j, p);
    bool object = j->open_lo & 1;
    if (*p == (object ? '}' : ']')) return pop(j, p, tok);
    if (*p != ',') return fail(j, p);
    p = space(p + 1, j->end);
    state = object ? NAME : VALUE;
  }
  if (p == j->end) return fail(j, p);
  switch (state) {
  case FIRST_NAME:
    if (*p == '}') return pop(j, p, tok);
    return name(j, p, tok);
  case NAME: return name(j, p, tok);
  case FIRST:
    if (*p == ']') return pop(j, p, tok);
    return value(j, p, tok);
  default: return value(j, p, tok);
  }
}

int lv_json_next(lv_json *j, lv_json_tok *ret) {
  lv_json_tok tok = {0};
  int got = step(j, &tok);
  if (got == 1) *ret = tok;
  return got;
}

int lv_json_skip(lv_json *j, lv_json_tok *tok) {
  if (tok->type != LV_JSON_ARRAY && tok->type != LV_JSON_OBJECT) return 0;
  const uint8_t *start = tok->s.p;
  uint32_t depth = j->depth - 1;
  lv_json_tok inner;
  uint8_t flags = 0;
  while (j->depth > depth) {
    int got = lv_json_next(j, &inner);
    if (got < 0) return got;
    assert(got == 1); /* within brackets there is no end */
    flags |= inner.flags;
  }
  tok->s = lv_slice_of(start, (size_t)(j->p - start));
  tok->flags = flags & (LV_JSON_SURROGATE | LV_JSON_NUL);
  return 0;
}

int lv_json_check(lv_slice text, uint8_t *ret_flags, uint32_t *ret_at) {
  lv_json j;
  lv_json_tok tok;
  lv_json_init(&j, text);
  int got;
  while ((got = step(&j, &tok)) == 1) {
  }
  if (got == 0 && ret_flags) *ret_flags = j.flags;
  if (got < 0 && ret_at) *ret_at = (uint32_t)(j.p - j.start);
  return got;
}

int lv_json_check_value(lv_slice text) {
  uint8_t flags;
  int err = lv_json_check(text, &flags, NULL);
  if (err) return err;
  return flags & LV_JSON_SURROGATE ? LV_E_SURROGATE : 0;
}

/* ---- picking ---- */

/* Whether the name token is `want`. With escapes it is decoded on the way. */
static bool is_name(const lv_json_tok *tok, lv_slice want) {
  uint8_t buf[4];
  if (!(tok->flags & LV_JSON_ESCAPED)) return lv_slice_eq(tok->s, want);
  const uint8_t *p = tok->s.p, *end = p + tok->s.n, *w = want.p, *w_end = w + want.n;
  while (p < end) {
    uint32_t n = 1;
    if (*p == '\\')
      n = (uint32_t)(lv__utf8_put(buf, lv__json_escape_next(&p, end)) - buf);
    else
      buf[0] = *p++;
    if ((size_t)(w_end - w) < n || memcmp(w, buf, n) != 0) return false;
    w += n;
  }
  return w == w_end;
}

int lv_json_pick(lv_json *j, const lv_slice *names, uint32_t n, lv_json_tok *out) {
  assert(j->depth > 0 && j->state == FIRST_NAME);
  lv_json_tok key, val;
  int got;
  for (uint32_t i = 0; i < n; i++) out[i] = (lv_json_tok){0};
  while ((got = lv_json_next(j, &key)) == 1 && key.type == LV_JSON_NAME) {
    got = lv_json_next(j, &val);
    if (got == 1) got = lv_json_skip(j, &val);
    if (got < 0) return got;
    for (uint32_t i = 0; i < n; i++)
      if (is_name(&key, names[i])) out[i] = val;
  }
  return got < 0 ? got : 0;
}

int lv_json_pick_from(lv_slice text, const lv_slice *names, uint32_t n, lv_json_tok *out) {
  lv_json j;
  lv_json_tok tok;
  lv_json_init(&j, text);
  int got = lv_json_next(&j, &tok);
  if (got < 0) return got;
  if (tok.type != LV_JSON_OBJECT) return LV_E_PAYLOAD;
  got = lv_json_pick(&j, names, n, out);
  return got < 0 ? got : lv_json_next(&j, &tok);
}
