/* relay_bytes.c: growing byte buffers and arrays of the relay. They keep their room between turns:
 * nothing is allocated per message once the sizes have settled. */
#include "relay_int.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

void rl_bytes_room(rl_bytes *b, size_t more) {
  if (b->n + more <= b->cap) return;
  size_t cap = b->cap ? b->cap : 256;
  while (cap < b->n + more) cap *= 2;
  b->p = realloc(b->p, cap);
  if (!b->p) abort();
  b->cap = cap;
}

void rl_bytes_add(rl_bytes *b, const void *p, size_t n) {
  rl_bytes_room(b, n);
  memcpy(b->p + b->n, p, n);
  b->n += n;
}

void *rl_grow(void *array, uint32_t *cap, uint32_t need, size_t size) {
  if (need <= *cap) return array;
  uint32_t grown = *cap ? *cap : 8;
  while (grown < need) grown *= 2;
  array = realloc(array, grown * size);
  if (!array) abort();
  *cap = grown;
  return array;
}

int64_t rl_now_ns(void) {
  struct timespec ts;
  (void)clock_gettime(CLOCK_MONOTONIC, &ts);
  return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}
