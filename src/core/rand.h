/* rand.h: randomness of two kinds, never to be confused.
 *
 * lv_rand is a seeded generator for simulation, jitter and load: fast, reproducible, predictable
 * (xoshiro256**, Blackman and Vigna 2018; seeded through splitmix64). lv_random_bytes is the
 * kernel's, for keys, seeds and ids that nobody may guess. */
#ifndef LV_CORE_RAND_H
#define LV_CORE_RAND_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct lv_rand {
  uint64_t s[4];
} lv_rand;

/* One step of splitmix64 (Steele, Lea and Flood 2014); also a good mixer of counters into seeds. */
static inline uint64_t lv_splitmix(uint64_t *state) {
  uint64_t z = (*state += 0x9E3779B97F4A7C15u);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

/* Any seed is fine, 0 too. The owner's thread only, as all below. */
static inline void lv_rand_init(lv_rand *r, uint64_t seed) {
  for (int i = 0; i < 4; i++) r->s[i] = lv_splitmix(&seed);
}

static inline uint64_t lv_rand_u64(lv_rand *r) {
  uint64_t *s = r->s, m = s[1] * 5, t = s[1] << 17;
  uint64_t result = ((m << 7) | (m >> 57)) * 9;
  s[2] ^= s[0];
  s[3] ^= s[1];
  s[1] ^= s[2];
  s[0] ^= s[3];
  s[2] ^= t;
  s[3] = (s[3] << 45) | (s[3] >> 19);
  return result;
}

/* Uniform in 0 … n-1 without bias (n > 0). */
uint64_t lv_rand_below(lv_rand *r, uint64_t n);

/* Uniform in [0, 1), 53 bits. */
static inline double lv_rand_unit(lv_rand *r) {
  return (double)(lv_rand_u64(r) >> 11) * 0x1p-53;
}

/* True with probability p. */
static inline bool lv_rand_chance(lv_rand *r, double p) {
  return lv_rand_unit(r) < p;
}

/* Exponentially distributed with the given mean: gaps of a Poisson process. */
double lv_rand_exp(lv_rand *r, double mean);
/* Fills n bytes. */
void lv_rand_fill(lv_rand *r, void *p, size_t n);
/* n bytes from getrandom(2); aborts when the kernel has none to give. @thread any */
void lv_random_bytes(void *p, size_t n);
uint64_t lv_random_u64(void);

#endif
