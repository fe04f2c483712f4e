/* fuzz.h: what the fuzz targets share: the entry point, exact copies, and a check that stays on.
 *
 * A target is one file with LLVMFuzzerTestOneInput. With `-Dfuzz=true` under clang it is linked
 * with libFuzzer; otherwise with replay.c, whose main feeds it the corpus and mutations of it, as a
 * unit test. */
#ifndef LV_TEST_FUZZ_H
#define LV_TEST_FUZZ_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/slice.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(cond)                                                                                \
  do {                                                                                             \
    if (!(cond)) {                                                                                 \
      fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #cond);                    \
      abort();                                                                                     \
    }                                                                                              \
  } while (0)

/* A heap copy of exact size, so that the sanitizers see a read past its end. */
static inline lv_slice fuzz_copy(const uint8_t *p, size_t n) {
  uint8_t *q = malloc(n ? n : 1);
  CHECK(q != NULL);
  if (n) memcpy(q, p, n);
  return (lv_slice){q, (uint32_t)n};
}
static inline void fuzz_free(lv_slice s) {
  free((void *)s.p);
}
/* Reads every byte: a slice that points anywhere else is found. */
static inline void fuzz_touch(lv_slice s) {
  uint8_t x = 0;
  for (uint32_t i = 0; i < s.n; i++) x ^= s.p[i];
  __asm__ volatile("" ::"r"(x)); /* the reads are needed */
}
/* Takes one byte off the front, 0 when there is none. */
static inline uint8_t fuzz_byte(const uint8_t **p, size_t *n) {
  if (*n == 0) return 0;
  (*n)--;
  return *(*p)++;
}

#endif
