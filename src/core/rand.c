/* rand.c: the parts of rand.h that are too long for the header. */
#include "core/rand.h"
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* Multiply-and-reject (Lemire 2019): the product's high half is the value; the few low halves that
 * would favour some values are drawn again. */
uint64_t lv_rand_below(lv_rand *r, uint64_t n) {
  assert(n > 0);
  unsigned __int128 m = (unsigned __int128)lv_rand_u64(r) * n;
  if ((uint64_t)m < n) {
    uint64_t reject = (0 - n) % n;
    while ((uint64_t)m < reject) m = (unsigned __int128)lv_rand_u64(r) * n;
  }
  return (uint64_t)(m >> 64);
}

double lv_rand_exp(lv_rand *r, double mean) {
  return -mean * log(1.0 - lv_rand_unit(r));
}

void lv_rand_fill(lv_rand *r, void *p, size_t n) {
  uint8_t *d = p;
  while (n > 0) {
    uint64_t v = lv_rand_u64(r);
    size_t k = n < 8 ? n : 8;
    memcpy(d, &v, k);
    d += k;
    n -= k;
  }
}

void lv_random_bytes(void *p, size_t n) {
  uint8_t *d = p;
  while (n > 0) {
    ssize_t k = getrandom(d, n, 0);
    if (k < 0 && errno == EINTR) continue;
    if (k <= 0) abort();
    d += k;
    n -= (size_t)k;
  }
}

uint64_t lv_random_u64(void) {
  uint64_t v;
  lv_random_bytes(&v, sizeof v);
  return v;
}
