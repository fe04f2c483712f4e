/* http_chunk.c: chunked bodies (RFC 9112 §7.1), decoded as the bytes come.
 *
 *   SIZE ──hex──▶ EXT ──CRLF──▶ DATA ──left = 0──▶ DATA_CR ─▶ DATA_LF ─▶ SIZE
 *     └──size 0──▶ … CRLF ──▶ TRAILER lines ──empty line──▶ DONE
 *
 * Pieces of the body are slices of the input; nothing is copied or kept, except the few counters
 * that bound what is not body: size digits, extension bytes over the whole message, trailer bytes.
 * White space after a size is refused unless an extension follows, and CR and LF come only as a
 * pair: both are ways to make two parsers disagree. @thread any */
#include "wire/http_int.h"
#include <assert.h>

enum state {
  SIZE,      /* hex digits */
  EXT_BLANK, /* white space behind the size: a `;` must come */
  EXT,       /* an extension, up to CR */
  SIZE_LF,   /* LF that ends the size line */
  DATA,      /* `left` bytes of body */
  DATA_CR,   /* CRLF behind them */
  DATA_LF,
  TRAILER,    /* start of a trailer line */
  FIELD_NAME, /* inside its name */
  FIELD,      /* inside its value */
  FIELD_LF,   /* LF that ends it */
  END_LF,     /* LF of the empty line */
  DONE
};
enum { DIGITS_MAX = 16 };

void lv_http_chunks_init(lv_http_chunks *c, uint64_t body_max) {
  *c = (lv_http_chunks){.body_left = body_max, .state = SIZE};
}

static int size_byte(lv_http_chunks *c, uint8_t b) {
  if (lv__http_is(b, LV__HTTP_HEX)) {
    if (c->digits == DIGITS_MAX) return LV_E_MALFORMED;
    c->digits++;
    c->left = c->left << 4 | lv__http_hex(b);
    return 0;
  }
  if (c->digits == 0) return LV_E_MALFORMED;
  if (c->left > c->body_left) return LV_E_TOO_BIG;
  if (b == '\r')
    c->state = SIZE_LF;
  else if (b == ';')
    c->state = EXT;
  else if (b == ' ' || b == '\t')
    c->state = EXT_BLANK;
  else
    return LV_E_MALFORMED;
  return 0;
}

static int ext_byte(lv_http_chunks *c, uint8_t b) {
  if (++c->extra > LV_HTTP_CHUNK_EXT_MAX) return LV_E_TOO_BIG;
  if (c->state == EXT_BLANK) {
    if (b == ';')
      c->state = EXT;
    else if (b != ' ' && b != '\t')
      return LV_E_MALFORMED;
    return 0;
  }
  if (b == '\r')
    c->state = SIZE_LF;
  else if (!lv__http_is(b, LV__HTTP_VALUE))
    return LV_E_MALFORMED;
  return 0;
}

static int size_end(lv_http_chunks *c, uint8_t b) {
  if (b != '\n') return LV_E_MALFORMED;
  c->body_left -= c->left;
  c->state = c->left ? DATA : TRAILER;
  c->digits = 0;
  if (c->left == 0) c->extra = 0;
  return 0;
}

static int trailer_byte(lv_http_chunks *c, uint8_t b) {
  if (++c->extra > LV_HTTP_TRAILER_MAX) return LV_E_TOO_BIG;
  switch (c->state) {
  case TRAILER:
    if (b == '\r') {
      c->state = END_LF;
      return 0;
    }
    c->state = FIELD_NAME;
    return lv__http_is(b, LV__HTTP_TOKEN) ? 0 : LV_E_MALFORMED;
  case FIELD_NAME:
    if (b == ':')
      c->state = FIELD;
    else if (!lv__http_is(b, LV__HTTP_TOKEN))
      return LV_E_MALFORMED;
    return 0;
  case FIELD:
    if (b == '\r')
      c->state = FIELD_LF;
    else if (!lv__http_is(b, LV__HTTP_VALUE))
      return LV_E_MALFORMED;
    return 0;
  default:
    if (b != '\n') return LV_E_MALFORMED;
    c->state = c->state == END_LF ? DONE : TRAILER;
    return 0;
  }
}

static int one_byte(lv_http_chunks *c, uint8_t b) {
  switch (c->state) {
  case SIZE: return size_byte(c, b);
  case EXT_BLANK:
  case EXT: return ext_byte(c, b);
  case SIZE_LF: return size_end(c, b);
  case DATA_CR: c->state = DATA_LF; return b == '\r' ? 0 : LV_E_MALFORMED;
  case DATA_LF: c->state = SIZE; return b == '\n' ? 0 : LV_E_MALFORMED;
  default: return trailer_byte(c, b);
  }
}

int lv_http_chunk_next(lv_http_chunks *c, lv_slice *io_in, lv_slice *ret_data) {
  assert(c->state != DONE);
  lv_slice in = *io_in;
  int err = 0;
  while (in.n && c->state != DATA && c->state != DONE && !err) {
    err = one_byte(c, in.p[0]);
    in = (lv_slice){in.p + 1, in.n - 1};
  }
  if (err) return err;
  if (c->state == DATA && in.n) {
    uint32_t n = c->left < in.n ? (uint32_t)c->left : in.n;
    *ret_data = (lv_slice){in.p, n};
    c->left -= n;
    if (c->left == 0) c->state = DATA_CR;
    *io_in = (lv_slice){in.p + n, in.n - n};
    return 1;
  }
  *io_in = in;
  return c->state == DONE ? 0 : LV_E_NEED_MORE;
}
