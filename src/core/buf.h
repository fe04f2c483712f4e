/* buf.h: a growable byte buffer with a limit. Owned by one thread at a time.
 *
 * Appending beyond the limit appends nothing and sets `err`; so a caller may append many times and
 * look once. The bytes are always followed by a NUL that does not count. */
#ifndef LV_CORE_BUF_H
#define LV_CORE_BUF_H
#include "core/slice.h"
#include <stdarg.h>
#include <stddef.h>

typedef struct lv_buf {
  uint8_t *p; /* NULL while nothing was appended */
  size_t n, cap, max;
  int err; /* 0, or LV_E_TOO_BIG since the first append that did not fit */
} lv_buf;

/* max: the most bytes it may hold (1 … 2^31). */
void lv_buf_init(lv_buf *b, size_t max);
void lv_buf_done(lv_buf *b);
/* Forgets the bytes and the error, keeps the memory. */
void lv_buf_reset(lv_buf *b);
/* Each returns 0 or LV_E_TOO_BIG. Memory that is out aborts (the limit is what bounds a user). */
int lv_buf_add(lv_buf *b, const void *p, size_t n);
int lv_buf_add_slice(lv_buf *b, lv_slice s);
int lv_buf_add_str(lv_buf *b, const char *s);
int lv_buf_add_byte(lv_buf *b, uint8_t c);
int lv_buf_printf(lv_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int lv_buf_vprintf(lv_buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
/* n bytes of space behind the end, counted as appended; NULL when they do not fit. */
uint8_t *lv_buf_space(lv_buf *b, size_t n);
/* Drops n bytes at the front (moves the rest). */
void lv_buf_cut(lv_buf *b, size_t n);
/* Hands the memory to the caller (free()), NUL-terminated even when empty; the buffer is empty
 * afterwards. ret_n may be NULL. */
char *lv_buf_take(lv_buf *b, size_t *ret_n);
static inline lv_slice lv_buf_slice(const lv_buf *b) {
  return lv_slice_of(b->p, b->n);
}

#endif
