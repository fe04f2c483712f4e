/* msgpack.h: MessagePack (github.com/msgpack/msgpack, spec.md), read in place, written, and turned
 * from and into JSON. Pure: no I/O, no allocation but that of an output buffer, no recursion.
 *
 * JSON to msgpack, so that both customers of a message mean the same by it:
 *   integers (no fraction, no exponent) of -2^63 … 2^64-1   exact, in the smallest form; -0 is 0
 *   all other numbers                                       the nearest double (float 64), ties to
 *       even; beyond its range ±infinity (IEEE 754 §4.3.1), as JavaScript and Python read the same
 *       text, since an encoding that refuses would have to drop the message for some customers
 *   strings   str, the characters; a lone surrogate has no UTF-8: LV_E_SURROGATE
 *   arrays, objects   in their order, duplicate names kept; deeper than 128: LV_E_NESTING
 *
 * msgpack to JSON: bin becomes a base64 string, float 32 the double of the same value. What JSON
 * has no form for is refused, nothing is guessed: NaN and infinities, map keys other than str, ext
 * of any type (timestamps too). @thread any */
#ifndef LV_WIRE_MSGPACK_H
#define LV_WIRE_MSGPACK_H
#include "core/buf.h"
#include "core/err.h"
#include "core/slice.h"

enum { LV_MSGPACK_DEPTH_MAX = 128 };

/* ---- reading ---- */

enum lv_msgpack_type {
  LV_MSGPACK_NIL,
  LV_MSGPACK_FALSE,
  LV_MSGPACK_TRUE,
  LV_MSGPACK_UINT,  /* u */
  LV_MSGPACK_INT,   /* i, below 0 */
  LV_MSGPACK_FLOAT, /* d */
  LV_MSGPACK_STR,   /* s */
  LV_MSGPACK_BIN,   /* s */
  LV_MSGPACK_EXT,   /* s, and its type in i */
  LV_MSGPACK_ARRAY, /* n elements follow */
  LV_MSGPACK_MAP    /* n pairs follow */
};
typedef struct lv_msgpack_tok {
  uint8_t type;
  uint8_t closes; /* how many arrays and maps this token was the last of */
  uint32_t n;
  union {
    uint64_t u;
    int64_t i;
    double d;
  };
  lv_slice s;
} lv_msgpack_tok;
typedef struct lv_msgpack {
  const uint8_t *p, *end;
  uint32_t depth;
  bool begun;
  uint64_t left[LV_MSGPACK_DEPTH_MAX]; /* tokens that each open array or map still wants */
} lv_msgpack;

void lv_msgpack_init(lv_msgpack *m, lv_slice bytes);
/* 1: *ret is the next token; 0: the value is whole and nothing followed it; LV_E_PAYLOAD: cut
 * short, more than one value, the unused byte 0xC1, a count that the bytes left cannot hold, or a
 * str that is not UTF-8; LV_E_NESTING. An empty array or map opens nothing, and closes nothing of
 * its own. */
int lv_msgpack_next(lv_msgpack *m, lv_msgpack_tok *ret);
/* Reads over what `tok`, just read, opens; does nothing for other tokens. */
int lv_msgpack_skip(lv_msgpack *m, const lv_msgpack_tok *tok);
/* Whether all of `bytes` is one value. */
int lv_msgpack_check(lv_slice bytes);

/* ---- writing ---- each takes the smallest form and returns the end of what it wrote; a head has
 * at most LV_MSGPACK_HEAD_MAX bytes */
enum { LV_MSGPACK_HEAD_MAX = 5, LV_MSGPACK_NUMBER_MAX = 9 };
uint8_t *lv_msgpack_put_u64(uint8_t *dst, uint64_t v);
uint8_t *lv_msgpack_put_i64(uint8_t *dst, int64_t v);
uint8_t *lv_msgpack_put_double(uint8_t *dst, double v); /* always float 64 */
uint8_t *lv_msgpack_put_str_head(uint8_t *dst, uint32_t n);
uint8_t *lv_msgpack_put_bin_head(uint8_t *dst, uint32_t n);
uint8_t *lv_msgpack_put_array_head(uint8_t *dst, uint32_t n);
uint8_t *lv_msgpack_put_map_head(uint8_t *dst, uint32_t n);
uint8_t *lv_msgpack_put_str(uint8_t *dst, lv_slice s); /* s is UTF-8 */

/* ---- to and from JSON ---- */

/* Bytes that n bytes of JSON take in msgpack at most: numbers like `1.0` grow most. What is
 * typical is less than n. */
#define LV_MSGPACK_BOUND(n) ((uint64_t)(n)*9 / 4 + 16)
/* Returns how many bytes were written to dst; LV_E_PAYLOAD: not JSON; LV_E_NESTING, LV_E_SURROGATE;
 * LV_E_TOO_BIG: cap was too small (never when it is LV_MSGPACK_BOUND), or the result above 2 GiB.
 * Work is linear, but for arrays and objects of 16 elements and more: their bytes are moved once a
 * level that holds them. */
int lv_msgpack_from_json(lv_slice json, uint8_t *dst, uint64_t cap);
/* Appends the JSON text. LV_E_PAYLOAD, LV_E_NESTING, LV_E_TOO_BIG (the limit of `out`); what was
 * appended before an error stays. */
int lv_msgpack_to_json(lv_slice bytes, lv_buf *out);

#endif
