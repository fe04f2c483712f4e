/* buf.c: the growable buffer of buf.h; doubles from 256 bytes up to its limit. */
#include "core/buf.h"
#include "core/err.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

void lv_buf_init(lv_buf *b, size_t max) {
  assert(max > 0 && max <= (size_t)1 << 31);
  *b = (lv_buf){.max = max};
}

void lv_buf_done(lv_buf *b) {
  free(b->p);
  *b = (lv_buf){.max = b->max};
}

void lv_buf_reset(lv_buf *b) {
  b->n = 0;
  b->err = 0;
  if (b->p) b->p[0] = 0;
}

/* Room for n more bytes and the NUL. */
static int grow(lv_buf *b, size_t n) {
  assert(b->max > 0);
  if (n > b->max - b->n) {
    b->err = LV_E_TOO_BIG;
    return LV_E_TOO_BIG;
  }
  size_t need = b->n + n + 1, cap = b->cap ? b->cap : 256;
  if (need <= b->cap) return 0;
  while (cap < need) cap *= 2;
  uint8_t *p = realloc(b->p, cap);
  if (!p) abort();
  b->p = p;
  b->cap = cap;
  return 0;
}

uint8_t *lv_buf_space(lv_buf *b, size_t n) {
  if (grow(b, n)) return NULL;
  uint8_t *p = b->p + b->n;
  b->n += n;
  b->p[b->n] = 0;
  return p;
}

int lv_buf_add(lv_buf *b, const void *p, size_t n) {
  uint8_t *to = lv_buf_space(b, n);
  if (!to) return LV_E_TOO_BIG;
  if (n) memcpy(to, p, n);
  return 0;
}

int lv_buf_add_slice(lv_buf *b, lv_slice s) {
  return lv_buf_add(b, s.p, s.n);
}

int lv_buf_add_str(lv_buf *b, const char *s) {
  return lv_buf_add(b, s, strlen(s));
}

int lv_buf_add_byte(lv_buf *b, uint8_t c) {
  return lv_buf_add(b, &c, 1);
}

int lv_buf_vprintf(lv_buf *b, const char *fmt, va_list ap) {
  va_list again;
  va_copy(again, ap);
  size_t room = b->cap > b->n ? b->cap - b->n : 0;
  int n = vsnprintf(room ? (char *)b->p + b->n : NULL, room, fmt, ap);
  assert(n >= 0);
  int rc = 0;
  if ((size_t)n < room && (size_t)n <= b->max - b->n) {
    b->n += (size_t)n;
  } else {
    rc = grow(b, (size_t)n);
    if (rc == 0) {
      (void)vsnprintf((char *)b->p + b->n, (size_t)n + 1, fmt, again);
      b->n += (size_t)n;
    } else if (room) {
      b->p[b->n] = 0;
    }
  }
  va_end(again);
  return rc;
}

int lv_buf_printf(lv_buf *b, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  int rc = lv_buf_vprintf(b, fmt, ap);
  va_end(ap);
  return rc;
}

void lv_buf_cut(lv_buf *b, size_t n) {
  assert(n <= b->n);
  if (n == 0) return;
  memmove(b->p, b->p + n, b->n - n + 1);
  b->n -= n;
}

char *lv_buf_take(lv_buf *b, size_t *ret_n) {
  (void)grow(b, 0);
  char *p = (char *)b->p;
  p[b->n] = 0;
  if (ret_n) *ret_n = b->n;
  *b = (lv_buf){.max = b->max};
  return p;
}
