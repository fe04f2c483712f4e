/* json.h: JSON text (RFC 8259), read in place and written. Pure: no I/O, no allocation, no tree.
 *
 * The reader is a pull scanner: one token a call, in order, slices into the text. It is strict:
 * exactly one value with white space around it, no byte order mark, UTF-8 (RFC 3629), numbers of
 * any size, duplicate names kept as they come, at most LV_JSON_DEPTH_MAX open brackets. What is
 * valid by the grammar but no Unicode text (a lone surrogate written as an escape, §8.2) passes
 * with a flag, since who passes the text on byte for byte need not care and who decodes it must.
 * Strings are looked at sixteen bytes at a time. @thread any */
#ifndef LV_WIRE_JSON_H
#define LV_WIRE_JSON_H
#include "core/err.h"
#include "core/slice.h"

enum { LV_JSON_DEPTH_MAX = 128 };

enum lv_json_type {
  LV_JSON_NONE, /* nothing there (lv_json_pick) */
  LV_JSON_NULL,
  LV_JSON_FALSE,
  LV_JSON_TRUE,
  LV_JSON_NUMBER,
  LV_JSON_STRING,
  LV_JSON_ARRAY, /* these two open; the matching end is a token of its own */
  LV_JSON_OBJECT,
  LV_JSON_NAME, /* of a member: as STRING; its value is the next token */
  LV_JSON_ARRAY_END,
  LV_JSON_OBJECT_END
};
enum lv_json_flag {
  LV_JSON_ESCAPED = 1,   /* a string with escapes: see lv_json_unescape */
  LV_JSON_SURROGATE = 2, /* one of them is a surrogate without its other half */
  LV_JSON_NUL = 4,       /* one of them is U+0000 */
  LV_JSON_INTEGER = 8    /* a number without fraction and exponent */
};
typedef struct lv_json_tok {
  uint8_t type;  /* enum lv_json_type */
  uint8_t flags; /* enum lv_json_flag */
  lv_slice s;    /* string, name: what is between the quotes; others: the token itself. From
                    lv_json_skip and lv_json_pick: a whole array or object */
} lv_json_tok;

/* A scanner's place. `flags` collects those of all tokens so far. */
typedef struct lv_json {
  const uint8_t *start, *p, *end;
  uint64_t open_lo, open_hi; /* a bit for each open bracket, the innermost lowest: 1 = object */
  uint32_t depth;
  uint8_t state, flags;
} lv_json;

void lv_json_init(lv_json *j, lv_slice text);
/* 1: *ret is the next token; 0: the value is whole and nothing but white space followed it;
 * LV_E_PAYLOAD: not JSON (j->p - j->start is about where); LV_E_NESTING. After an error it is not
 * called again. */
int lv_json_next(lv_json *j, lv_json_tok *ret);
/* Reads to the end of the value that `tok`, just read, opens (tok may be any value); tok->s becomes
 * its whole text. 0 or an error of lv_json_next. */
int lv_json_skip(lv_json *j, lv_json_tok *tok);
/* Whether all of `text` is one JSON value. ret_flags (may be NULL) gets the flags of its tokens,
 * ret_at (may be NULL), on an error, about how many bytes were fine. 0, LV_E_PAYLOAD, LV_E_NESTING.
 */
int lv_json_check(lv_slice text, uint8_t *ret_flags, uint32_t *ret_at);
/* The same for a value that has to have a meaning in every encoding: also LV_E_SURROGATE. This is
 * what decides that a message is JSON. */
int lv_json_check_value(lv_slice text);

/* Picks members of the object whose OBJECT token was just read, up to and with its end: out[i] gets
 * the value of names[i] (type LV_JSON_NONE: not there). Of members of the same name the last
 * counts, as with most parsers. Names are compared unescaped. Unknown members are skipped. */
int lv_json_pick(lv_json *j, const lv_slice *names, uint32_t n, lv_json_tok *out);
/* The same for a text that is one object; LV_E_PAYLOAD when it is something else. */
int lv_json_pick_from(lv_slice text, const lv_slice *names, uint32_t n, lv_json_tok *out);

/* The characters of a STRING or NAME token: the slice itself when it has no escapes, else decoded
 * into dst, which needs tok->s.n bytes. LV_E_SURROGATE. */
int lv_json_unescape(const lv_json_tok *tok, uint8_t *dst, lv_slice *ret);
/* How many bytes that gives; a lone surrogate counts as it would when encoded. */
uint32_t lv_json_unescaped_size(const lv_json_tok *tok);

/* The value of a NUMBER token. Integer: false when it has fraction or exponent, or is outside of
 * -2^63 … 2^64-1; *ret_negative tells which of the two types the bits in *ret are (-0 is 0). */
bool lv_json_integer(const lv_json_tok *tok, uint64_t *ret, bool *ret_negative);
/* The nearest double, ties to even, whatever the locale. Beyond the range that is ±infinity (IEEE
 * 754 §4.3.1), below it ±0. */
double lv_json_double(const lv_json_tok *tok);

/* ---- writing ---- each returns the end of what it wrote */

enum { LV_JSON_U64_MAX = 20, LV_JSON_DOUBLE_MAX = 28 };
/* Bytes that lv_json_put_string writes at most for n bytes of text, and an exact count. */
#define LV_JSON_STRING_BOUND(n) (6u * (uint32_t)(n) + 2u)
uint32_t lv_json_string_size(lv_slice s);
/* A string in quotes. Escaped are `"`, `\` and U+0000 … U+001F (\b \t \n \f \r, else \u00XX), no
 * others. Each byte that is not part of well-formed UTF-8 becomes U+FFFD: a customer's parser
 * would refuse the whole message for it. */
uint8_t *lv_json_put_string(uint8_t *dst, lv_slice s);
/* The same without the quotes. */
uint8_t *lv_json_put_escaped(uint8_t *dst, lv_slice s);
uint8_t *lv_json_put_u64(uint8_t *dst, uint64_t v);
uint8_t *lv_json_put_i64(uint8_t *dst, int64_t v); /* one byte more than u64 */
/* The shortest of 15, 16 or 17 digits that reads back as the same double, always with a point or an
 * exponent, so that it stays a double; whatever the locale. v is finite. At most LV_JSON_DOUBLE_MAX
 * bytes. */
uint8_t *lv_json_put_double(uint8_t *dst, double v);

/* Base64 with padding (RFC 4648 §4). Decoding is strict: whole groups, padding, no other
 * characters, spare bits zero; dst needs 3 bytes for each 4. */
#define LV_BASE64_SIZE(n) (((uint32_t)(n) + 2u) / 3u * 4u)
uint8_t *lv_base64_put(uint8_t *dst, lv_slice s);
int lv_base64_decode(lv_slice text, uint8_t *dst, lv_slice *ret); /* 0 or LV_E_PAYLOAD */

#endif
