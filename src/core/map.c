/* map.c: linear probing with backward-shift deletion; at most 13/16 full, see map.h. */
#include "core/map.h"
#include "core/err.h"
#include "core/hash.h"
#include <assert.h>
#include <stdlib.h>

enum { CAP_MIN = 8 };

void lv_map_init(lv_map *m, lv_map_key_fn *key) {
  *m = (lv_map){.key = key};
}

void lv_map_done(lv_map *m) {
  free(m->hash);
  free(m->obj);
  *m = (lv_map){.key = m->key};
}

static uint32_t stored(uint64_t hash) {
  uint32_t h = (uint32_t)(hash >> 32);
  return h ? h : 1;
}

/* The slot of the key, or of the hole where it would go. The table has a hole. */
static uint32_t find(const lv_map *m, lv_slice key, uint32_t h) {
  uint32_t mask = m->cap - 1, i = h & mask;
  while (m->hash[i] && !(m->hash[i] == h && lv_slice_eq(m->key(m->obj[i]), key)))
    i = (i + 1) & mask;
  return i;
}

static void resize(lv_map *m, uint32_t cap) {
  uint32_t *hash = calloc(cap, sizeof *hash), mask = cap - 1;
  void **obj = malloc(cap * sizeof *obj);
  if (!hash || !obj) abort();
  for (uint32_t k = 0; k < m->cap; k++) {
    if (!m->hash[k]) continue;
    uint32_t i = m->hash[k] & mask;
    while (hash[i]) i = (i + 1) & mask;
    hash[i] = m->hash[k];
    obj[i] = m->obj[k];
  }
  free(m->hash);
  free(m->obj);
  m->hash = hash;
  m->obj = obj;
  m->cap = cap;
}

void *lv_map_get_hashed(const lv_map *m, lv_slice key, uint64_t hash) {
  if (m->n == 0) return NULL;
  uint32_t i = find(m, key, stored(hash));
  return m->hash[i] ? m->obj[i] : NULL;
}

void *lv_map_get(const lv_map *m, lv_slice key) {
  if (m->n == 0) return NULL;
  return lv_map_get_hashed(m, key, lv_hash_slice(key));
}

/* Room for one more. */
static void reserve(lv_map *m) {
  if (m->cap == 0) resize(m, CAP_MIN);
  if ((uint64_t)(m->n + 1) * 16 > (uint64_t)m->cap * 13) {
    assert(m->cap < 1u << 31);
    resize(m, m->cap * 2);
  }
}

int lv_map_add_hashed(lv_map *m, void *obj, uint64_t hash) {
  uint32_t h = stored(hash);
  assert(obj);
  reserve(m);
  uint32_t i = find(m, m->key(obj), h);
  if (m->hash[i]) return LV_E_EXISTS;
  m->hash[i] = h;
  m->obj[i] = obj;
  m->n++;
  return 0;
}

int lv_map_add(lv_map *m, void *obj) {
  return lv_map_add_hashed(m, obj, lv_hash_slice(m->key(obj)));
}

void *lv_map_put(lv_map *m, void *obj) {
  lv_slice key = m->key(obj);
  uint32_t h = stored(lv_hash_slice(key));
  reserve(m);
  uint32_t i = find(m, key, h);
  void *old = m->hash[i] ? m->obj[i] : NULL;
  if (!old) m->n++;
  m->hash[i] = h;
  m->obj[i] = obj;
  return old;
}

/* Empties slot i and moves back what had to pass over it. */
static void empty(lv_map *m, uint32_t i) {
  uint32_t mask = m->cap - 1;
  for (uint32_t k = (i + 1) & mask; m->hash[k]; k = (k + 1) & mask) {
    uint32_t home = m->hash[k] & mask;
    if (((k - home) & mask) < ((k - i) & mask)) continue; /* its home lies behind the hole */
    m->hash[i] = m->hash[k];
    m->obj[i] = m->obj[k];
    i = k;
  }
  m->hash[i] = 0;
  m->n--;
}

void *lv_map_del(lv_map *m, lv_slice key) {
  if (m->n == 0) return NULL;
  uint32_t i = find(m, key, stored(lv_hash_slice(key)));
  if (!m->hash[i]) return NULL;
  void *old = m->obj[i];
  empty(m, i);
  if (m->cap > CAP_MIN && m->n < m->cap / 8) resize(m, m->cap / 2);
  return old;
}

void *lv_map_next(const lv_map *m, uint32_t *pos) {
  for (uint32_t i = *pos; i < m->cap; i++)
    if (m->hash[i]) {
      *pos = i + 1;
      return m->obj[i];
    }
  *pos = m->cap;
  return NULL;
}

void lv_map_del_prev(lv_map *m, uint32_t *pos) {
  assert(*pos > 0 && *pos <= m->cap && m->hash[*pos - 1]);
  --*pos;
  empty(m, *pos);
}

size_t lv_map_bytes(const lv_map *m) {
  return m->cap * (sizeof *m->hash + sizeof *m->obj);
}
