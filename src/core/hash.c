/* hash.c: hashing by folded multiplication: 64 × 64 → 128 bits, the halves xored.
 *
 * Each 16 input bytes are xored with secret words and with the state, multiplied, folded. All the
 * words are secret and random (published hashes of this kind fix most of them, and have known
 * collisions for it), so an attacker can neither zero a factor nor cancel two blocks. Long inputs
 * run two lanes. SipHash-1-3 was the alternative: better argued, about three times slower on the
 * 20-byte keys that we have. */
#include "core/hash.h"
#include "core/rand.h"

static uint64_t secret[6];

static void set_secret(uint64_t seed) {
  /* Odd words, so that none is zero. */
  for (size_t i = 0; i < sizeof secret / sizeof *secret; i++) secret[i] = lv_splitmix(&seed) | 1;
}

void lv_hash_seed(uint64_t seed) {
  set_secret(seed);
}

__attribute__((constructor)) static void init(void) {
  lv_random_bytes(secret, sizeof secret);
  for (size_t i = 0; i < sizeof secret / sizeof *secret; i++) secret[i] |= 1;
}

static inline uint64_t fold(uint64_t a, uint64_t b) {
  unsigned __int128 m = (unsigned __int128)a * b;
  return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static inline uint64_t load8(const uint8_t *p) {
  uint64_t v;
  memcpy(&v, p, 8);
  return v;
}

static inline uint64_t load4(const uint8_t *p) {
  uint32_t v;
  memcpy(&v, p, 4);
  return v;
}

/* The last 0 … 16 bytes as two words; which bytes they are is settled by the length, which is
 * mixed in as well. */
static inline void tail(const uint8_t *p, size_t n, uint64_t *a, uint64_t *b) {
  if (n >= 8) {
    *a = load8(p);
    *b = load8(p + n - 8);
  } else if (n >= 4) {
    *a = load4(p);
    *b = load4(p + n - 4);
  } else if (n > 0) {
    *a = ((uint64_t)p[0] << 16) | ((uint64_t)p[n >> 1] << 8) | p[n - 1];
    *b = 0;
  } else {
    *a = *b = 0;
  }
}

uint64_t lv_hash(const void *data, size_t n) {
  const uint8_t *p = data;
  const uint64_t *s = secret;
  uint64_t h = s[0] ^ (uint64_t)n, a, b;
  size_t left = n;
  if (left > 64) {
    uint64_t h2 = s[5] + n;
    for (; left > 32; left -= 32, p += 32) {
      h = fold(load8(p) ^ s[1], load8(p + 8) ^ h);
      h2 = fold(load8(p + 16) ^ s[2], load8(p + 24) ^ h2);
    }
    h += h2;
  }
  for (; left > 16; left -= 16, p += 16) h = fold(load8(p) ^ s[1], load8(p + 8) ^ h);
  tail(p, left, &a, &b);
  h = fold(a ^ s[2], b ^ h);
  return fold(h ^ s[3], s[4] ^ (uint64_t)n);
}

uint64_t lv_hash_u64(uint64_t v) {
  return fold(fold(v ^ secret[1], secret[2]) ^ v, secret[3]);
}
