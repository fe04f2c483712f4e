/* arena.h: memory that dies together (with a packet, a request, a configuration).
 *
 *   chunk → chunk → chunk      bump allocation; larger requests get a chunk of their own
 *
 * One thread at a time. Everything counts against `max`; beyond it allocation fails and says so. */
#ifndef LV_CORE_ARENA_H
#define LV_CORE_ARENA_H
#include "core/slice.h"
#include <stddef.h>

typedef struct lv_arena {
  struct lv_arena_chunk *chunk; /* the newest; NULL while nothing was allocated */
  size_t chunk_size;            /* of ordinary chunks */
  size_t bytes, max;            /* held, header included; limit */
} lv_arena;

/* chunk_size 0: 4 KiB. Allocates nothing yet. */
void lv_arena_init(lv_arena *a, size_t chunk_size, size_t max);
/* Frees everything. */
void lv_arena_done(lv_arena *a);
/* Forgets all allocations; keeps one ordinary chunk for the next use. */
void lv_arena_reset(lv_arena *a);
/* n bytes, 16-aligned, not zeroed; NULL beyond `max` or when memory is out. n = 0 is fine. */
void *lv_arena_alloc(lv_arena *a, size_t n);
/* The same, zeroed, for count × size bytes (overflow is NULL). */
void *lv_arena_calloc(lv_arena *a, size_t count, size_t size);
/* A NUL-terminated copy, or NULL. */
char *lv_arena_str(lv_arena *a, lv_slice s);
char *lv_arena_printf(lv_arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A copy as a slice; false when it does not fit. */
bool lv_arena_slice(lv_arena *a, lv_slice s, lv_slice *ret_copy);

#endif
