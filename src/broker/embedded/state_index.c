/* state_index.c: for each key of keyed state the lsn of its newest visible record, in one log.
 *
 * Compaction asks it whether a record still matters, and start-up hands out what does. Keys are not
 * kept: a slot is 16 bytes (79 bits of a seeded hash, 48 bits of lsn/8, a deleted
 * bit), open addressing with linear probing at a load of at most 3/4, so 22 to 43 bytes a key while
 * growing and never a string. Two keys that share 79 bits would hide each other: at ten million
 * keys the chance is 10^-10, and the seed is random, so nobody can make one.
 *
 *   key of STATE, CHAN: (kind, topic)      of a retained MSG: (kind, channel, topic)
 *   of a MSG with LV_REC_QOS2, as well: (STATE, lv_rec_qos2_key)
 *
 * In the memory log a record is visible before it is synced: until it is, its predecessor counts as
 * live too, and a deletion is remembered (the deleted bit). How long the deletion's record stays on
 * disk is elog's business.
 *
 * @thread any: own mutex. Rejected: the keys in LMDB (ten times the cost a write; the log's own
 * indexes already say where keyed records are). */
#include "broker/embedded/embedded_int.h"
#include <stdlib.h>
#include <sys/random.h>

enum { STATE_FIRST_CAP = 1024 };
static const uint64_t LSN_MASK = (1ull << 48) - 1, DEAD = 1ull << 63, HASH_MASK = 0x7FFFull << 48;

void lv__state_init(lv_state *s) {
  *s = (lv_state){.cap = STATE_FIRST_CAP};
  pthread_mutex_init(&s->mu, NULL);
  if (getrandom(s->seed, sizeof s->seed, 0) != (ssize_t)sizeof s->seed) abort();
  s->slot = calloc(s->cap, sizeof *s->slot);
  if (!s->slot) abort();
}

void lv__state_done(lv_state *s) {
  free(s->slot);
  s->slot = NULL;
  pthread_mutex_destroy(&s->mu);
}

/* SipHash-2-4 (Aumasson and Bernstein, 2012) with a 128-bit result. */
static inline uint64_t rotl(uint64_t x, int n) {
  return x << n | x >> (64 - n);
}
static inline void sip_round(uint64_t v[4]) {
  v[0] += v[1];
  v[1] = rotl(v[1], 13) ^ v[0];
  v[0] = rotl(v[0], 32);
  v[2] += v[3];
  v[3] = rotl(v[3], 16) ^ v[2];
  v[0] += v[3];
  v[3] = rotl(v[3], 21) ^ v[0];
  v[2] += v[1];
  v[1] = rotl(v[1], 17) ^ v[2];
  v[2] = rotl(v[2], 32);
}
static inline void sip_word(uint64_t v[4], uint64_t m) {
  v[3] ^= m;
  sip_round(v);
  sip_round(v);
  v[0] ^= m;
}

void lv__state_hash(const lv_state *s, uint64_t space, lv_slice t, uint64_t ret[2]) {
  uint64_t k0 = s->seed[0], k1 = s->seed[1];
  uint64_t v[4] = {k0 ^ 0x736f6d6570736575ull, k1 ^ 0x646f72616e646f6dull ^ 0xee,
                   k0 ^ 0x6c7967656e657261ull, k1 ^ 0x7465646279746573ull};
  sip_word(v, space);
  const uint8_t *p = t.p, *end = t.p + (t.n & ~7u);
  uint64_t m;
  for (; p < end; p += 8) {
    memcpy(&m, p, 8);
    sip_word(v, m);
  }
  m = (uint64_t)(t.n & 0xFF) << 56;
  for (uint32_t i = 0; i < (t.n & 7); i++) m |= (uint64_t)p[i] << (8 * i);
  sip_word(v, m);
  v[2] ^= 0xee;
  for (int i = 0; i < 4; i++) sip_round(v);
  ret[0] = v[0] ^ v[1] ^ v[2] ^ v[3];
  v[1] ^= 0xdd;
  for (int i = 0; i < 4; i++) sip_round(v);
  ret[1] = v[0] ^ v[1] ^ v[2] ^ v[3];
}

static uint64_t space_of(const lv_rec *r) {
  return (uint64_t)r->kind << 32 | (r->kind == LV_REC_MSG ? r->chan : 0);
}

static uint64_t slot_lsn(const lv_state_slot *e) {
  return (e->ref & LSN_MASK) * 8;
}

/* The key's slot, or the free one where it would go. */
static lv_state_slot *probe(const lv_state *s, const uint64_t h[2]) {
  uint64_t more = (h[1] << 48) & HASH_MASK;
  for (uint64_t i = h[0] & (s->cap - 1);; i = (i + 1) & (s->cap - 1)) {
    lv_state_slot *e = &s->slot[i];
    if (e->ref == 0 || (e->hash == h[0] && (e->ref & HASH_MASK) == more)) return e;
  }
}

/* Rebuilds the table at `cap` slots without the deletions below `synced`. */
static void rebuild(lv_state *s, uint64_t cap, uint64_t synced) {
  lv_state_slot *old = s->slot;
  uint64_t old_cap = s->cap;
  s->slot = calloc(cap, sizeof *s->slot);
  if (!s->slot) abort();
  s->cap = cap;
  s->n = s->n_dead = 0;
  for (uint64_t i = 0; i < old_cap; i++) {
    lv_state_slot e = old[i];
    if (e.ref == 0 || ((e.ref & DEAD) && slot_lsn(&e) < synced)) continue;
    uint64_t j = e.hash & (cap - 1);
    while (s->slot[j].ref) j = (j + 1) & (cap - 1);
    s->slot[j] = e;
    s->n++;
    if (e.ref & DEAD) s->n_dead++;
  }
  free(old);
}

static void put_key(lv_state *s, uint64_t space, lv_slice key, uint64_t lsn, bool deleted) {
  uint64_t h[2], dead = deleted ? DEAD : 0;
  lv__state_hash(s, space, key, h);
  assert(lsn > 0 && lsn / 8 <= LSN_MASK);
  pthread_mutex_lock(&s->mu);
  lv_state_slot *e = probe(s, h);
  if (e->ref && slot_lsn(e) > lsn) {
    pthread_mutex_unlock(&s->mu);
    return;
  }
  if (e->ref == 0) s->n++;
  if (e->ref & DEAD) s->n_dead--;
  if (dead) s->n_dead++;
  e->hash = h[0];
  e->ref = lsn / 8 | ((h[1] << 48) & HASH_MASK) | dead;
  if (s->n * 4 > s->cap * 3) rebuild(s, s->cap * 2, 0);
  pthread_mutex_unlock(&s->mu);
}

void lv__state_put(lv_state *s, const lv_rec *r) {
  char key[LV_REC_QOS2_KEY];
  if (r->kind != LV_REC_MSG || (r->flags & LV_REC_RETAIN))
    put_key(s, space_of(r), lv_rec_topic(r), r->lsn, lv_rec_val(r).n == 0);
  if (r->kind == LV_REC_MSG && lv_rec_qos2_key(r, key))
    put_key(s, (uint64_t)LV_REC_STATE << 32, lv_slice_of(key, sizeof key), r->lsn, false);
}

static bool key_live(lv_state *s, uint64_t space, lv_slice key, uint64_t lsn, uint64_t synced) {
  uint64_t h[2];
  lv__state_hash(s, space, key, h);
  pthread_mutex_lock(&s->mu);
  lv_state_slot e = *probe(s, h);
  pthread_mutex_unlock(&s->mu);
  if (e.ref == 0) return false;
  if (slot_lsn(&e) == lsn) return !(e.ref & DEAD);
  return slot_lsn(&e) >= synced;
}

bool lv__state_live_key(lv_state *s, const lv_rec *r, uint64_t synced) {
  return key_live(s, space_of(r), lv_rec_topic(r), r->lsn, synced);
}

bool lv__state_live_qos2(lv_state *s, const lv_rec *r, uint64_t synced) {
  char key[LV_REC_QOS2_KEY];
  return lv_rec_qos2_key(r, key) &&
         key_live(s, (uint64_t)LV_REC_STATE << 32, lv_slice_of(key, sizeof key), r->lsn, synced);
}

uint64_t lv__state_sweep(lv_state *s, uint64_t synced) {
  pthread_mutex_lock(&s->mu);
  uint64_t before = s->n;
  if (s->n_dead) {
    rebuild(s, s->cap, synced);
    uint64_t cap = s->cap;
    while (cap > STATE_FIRST_CAP && s->n * 4 < cap) cap /= 2;
    if (cap < s->cap) rebuild(s, cap, synced);
  }
  uint64_t gone = before - s->n;
  pthread_mutex_unlock(&s->mu);
  return gone;
}

void lv__state_count(lv_state *s, uint64_t *ret_live, uint64_t *ret_dead) {
  pthread_mutex_lock(&s->mu);
  *ret_live = s->n - s->n_dead;
  *ret_dead = s->n_dead;
  pthread_mutex_unlock(&s->mu);
}
