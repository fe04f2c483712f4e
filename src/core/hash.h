/* hash.h: a fast 64-bit hash of bytes for tables in memory, keyed with this process's secret.
 *
 * Never stored, never sent: it differs from run to run. Not a MAC: it keeps a client who chooses
 * the keys (topics, client ids) from choosing the collisions, as long as hash values stay inside.
 */
#ifndef LV_CORE_HASH_H
#define LV_CORE_HASH_H
#include "core/slice.h"
#include <stddef.h>
#include <stdint.h>

/* @thread any */
uint64_t lv_hash(const void *p, size_t n);
uint64_t lv_hash_u64(uint64_t v);
static inline uint64_t lv_hash_slice(lv_slice s) {
  return lv_hash(s.p, s.n);
}
/* Derives the secret from seed in place of the kernel's randomness, so that a simulation repeats
 * itself; before any table is filled. @thread main */
void lv_hash_seed(uint64_t seed);

#endif
