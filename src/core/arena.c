/* arena.c: the bump arena of arena.h. */
#include "core/arena.h"
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { ALIGN = 16, CHUNK_DEFAULT = 4096 };

typedef struct lv_arena_chunk {
  struct lv_arena_chunk *next; /* older */
  size_t cap, used;
  size_t unused;
  uint8_t data[];
} chunk;
static_assert(sizeof(chunk) % ALIGN == 0, "data starts aligned");

void lv_arena_init(lv_arena *a, size_t chunk_size, size_t max) {
  size_t size = chunk_size ? chunk_size : CHUNK_DEFAULT;
  assert(size > sizeof(chunk));
  *a = (lv_arena){.chunk_size = size, .max = max};
}

static void drop_all(lv_arena *a, chunk *keep) {
  for (chunk *c = a->chunk, *next; c; c = next) {
    next = c->next;
    if (c == keep) continue;
    a->bytes -= sizeof *c + c->cap;
    free(c);
  }
}

void lv_arena_done(lv_arena *a) {
  drop_all(a, NULL);
  assert(a->bytes == 0);
  a->chunk = NULL;
}

void lv_arena_reset(lv_arena *a) {
  chunk *keep = a->chunk;
  while (keep && keep->cap != a->chunk_size - sizeof *keep) keep = keep->next;
  drop_all(a, keep);
  a->chunk = keep;
  if (keep) {
    keep->next = NULL;
    keep->used = 0;
  }
}

/* A chunk for n bytes. One that is larger than ordinary goes behind the newest, whose rest stays in
 * use. */
static chunk *add_chunk(lv_arena *a, size_t n) {
  size_t ordinary = a->chunk_size - sizeof(chunk), cap = n > ordinary ? n : ordinary;
  if (cap > a->max || a->bytes > a->max - cap || sizeof(chunk) > a->max - cap - a->bytes)
    return NULL;
  chunk *c = malloc(sizeof *c + cap);
  if (!c) return NULL;
  c->cap = cap;
  c->used = 0;
  a->bytes += sizeof *c + cap;
  if (n > ordinary && a->chunk) {
    c->next = a->chunk->next;
    a->chunk->next = c;
  } else {
    c->next = a->chunk;
    a->chunk = c;
  }
  return c;
}

void *lv_arena_alloc(lv_arena *a, size_t n) {
  if (n > SIZE_MAX / 2) return NULL;
  n = (n + ALIGN - 1) & ~(size_t)(ALIGN - 1);
  chunk *c = a->chunk;
  if (!c || c->cap - c->used < n) c = add_chunk(a, n);
  if (!c) return NULL;
  void *p = c->data + c->used;
  c->used += n;
  return p;
}

void *lv_arena_calloc(lv_arena *a, size_t count, size_t size) {
  size_t n;
  if (__builtin_mul_overflow(count, size, &n)) return NULL;
  void *p = lv_arena_alloc(a, n);
  if (p) memset(p, 0, n);
  return p;
}

char *lv_arena_str(lv_arena *a, lv_slice s) {
  char *d = lv_arena_alloc(a, (size_t)s.n + 1);
  if (!d) return NULL;
  if (s.n) memcpy(d, s.p, s.n);
  d[s.n] = 0;
  return d;
}

char *lv_arena_printf(lv_arena *a, const char *fmt, ...) {
  va_list ap, again;
  va_start(ap, fmt);
  va_copy(again, ap);
  int n = vsnprintf(NULL, 0, fmt, ap);
  assert(n >= 0);
  char *d = lv_arena_alloc(a, (size_t)n + 1);
  if (d) (void)vsnprintf(d, (size_t)n + 1, fmt, again);
  va_end(again);
  va_end(ap);
  return d;
}

bool lv_arena_slice(lv_arena *a, lv_slice s, lv_slice *ret_copy) {
  char *d = lv_arena_str(a, s);
  if (!d) return false;
  *ret_copy = lv_slice_of(d, s.n);
  return true;
}
