/* edge.h: the hash of an edge of a trie of topic levels (subindex.h, retained.h): its upper node
 * and the level's text. All edges of a trie lie in one hash table, so that a node with a million
 * children is no slower than one with two. @thread any */
#ifndef LV_SESSION_EDGE_H
#define LV_SESSION_EDGE_H
#include "core/hash.h"

static inline uint64_t lv__edge_hash(const void *parent, lv_slice level) {
  return lv_hash(level.p, level.n) ^ ((uintptr_t)parent * UINT64_C(0x9E3779B97F4A7C15) >> 7);
}

#endif
