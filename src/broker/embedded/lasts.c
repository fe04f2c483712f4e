/* lasts.c: for each key of a channel the address of its last message: what a customer's snapshot is
 * made of where the channel says `snapshot: keys`.
 *
 *   entries ──┬ table by hash (open addressing over their numbers)
 *             ├ list by lsn: oldest … newest           at most last_keys, last_bytes
 *             └ list of taken away keys, by lsn         until that is synced
 *
 * Keys are not kept: 128 bits of the log's seeded hash stand for one. 56 bytes a key, values stay
 * in the log: records with LV_REC_LAST are listed beside retained messages (elog.h), compaction
 * asks here which of them still matter, and start-up reads them back in the log's order, which
 * gives the same entries again. What the bounds push out is forgotten here and then by compaction.
 *
 * An empty value takes its key away. In the memory log a record is visible before it is synced:
 * until it is, its predecessor counts as live, too (as in state_index.c).
 *
 * @thread any: a mutex a channel, under the log's `vis` where both are taken. */
#include "broker/embedded/embedded_int.h"
#include <stdlib.h>

enum { NONE = UINT32_MAX, FIRST = 16, KEY_SPACE = 7 };

typedef struct entry {
  uint64_t h[2], lsn;
  uint32_t size, prev, next; /* in one of the lists; next: also of the free ones */
  bool dead;
} entry;

typedef struct list {
  uint32_t first, last, n;
} list;

typedef struct lv_last_index {
  pthread_mutex_t mu;
  entry *e;
  uint32_t cap, used, free;
  uint32_t *slot; /* entry + 1; 0: free */
  uint32_t mask;
  list live, dead;
  uint64_t bytes; /* of the live ones */
} lv_last_index;

/* ---- parts ---- */

static void *must(void *p) {
  if (!p) abort();
  return p;
}

static lv_last_index *index_new(void) {
  lv_last_index *x = must(calloc(1, sizeof *x));
  pthread_mutex_init(&x->mu, NULL);
  x->free = NONE;
  x->live = x->dead = (list){NONE, NONE, 0};
  x->mask = 2 * FIRST - 1;
  x->slot = must(calloc(x->mask + 1u, sizeof *x->slot));
  return x;
}

static void unlink_entry(lv_last_index *x, list *l, uint32_t i) {
  entry *e = &x->e[i];
  *(e->prev == NONE ? &l->first : &x->e[e->prev].next) = e->next;
  *(e->next == NONE ? &l->last : &x->e[e->next].prev) = e->prev;
  l->n--;
  if (l == &x->live) x->bytes -= e->size;
}

static void append_entry(lv_last_index *x, list *l, uint32_t i) {
  entry *e = &x->e[i];
  e->prev = l->last;
  e->next = NONE;
  *(l->last == NONE ? &l->first : &x->e[l->last].next) = i;
  l->last = i;
  l->n++;
  if (l == &x->live) x->bytes += e->size;
}

static uint32_t home(const lv_last_index *x, const uint64_t h[2]) {
  return (uint32_t)h[0] & x->mask;
}

/* The slot of a key, or the free one where it would go. */
static uint32_t probe(const lv_last_index *x, const uint64_t h[2]) {
  uint32_t s = home(x, h);
  while (x->slot[s] && memcmp(x->e[x->slot[s] - 1].h, h, 16) != 0) s = (s + 1) & x->mask;
  return s;
}

static void grow(lv_last_index *x) {
  uint32_t n = x->mask + 1, *old = x->slot;
  x->mask = 2 * n - 1;
  x->slot = must(calloc(2 * (size_t)n, sizeof *x->slot));
  for (uint32_t i = 0; i < n; i++)
    if (old[i]) x->slot[probe(x, x->e[old[i] - 1].h)] = old[i];
  free(old);
}

/* Frees a slot; those behind it that it kept from their places move up (Knuth, 6.4 R). */
static void slot_free(lv_last_index *x, uint32_t s) {
  for (uint32_t i = (s + 1) & x->mask; x->slot[i]; i = (i + 1) & x->mask) {
    uint32_t at = home(x, x->e[x->slot[i] - 1].h);
    if (((i - at) & x->mask) < ((i - s) & x->mask)) continue;
    x->slot[s] = x->slot[i];
    s = i;
  }
  x->slot[s] = 0;
}

static uint32_t entry_new(lv_last_index *x, const uint64_t h[2]) {
  uint32_t i = x->free;
  if (i != NONE) {
    x->free = x->e[i].next;
  } else {
    if (x->used == x->cap) {
      x->cap = x->cap ? 2 * x->cap : FIRST;
      x->e = must(realloc(x->e, x->cap * sizeof *x->e));
    }
    i = x->used++;
  }
  if (2 * (x->live.n + x->dead.n + 1) > x->mask) grow(x);
  x->e[i] = (entry){.h = {h[0], h[1]}};
  x->slot[probe(x, h)] = i + 1;
  return i;
}

static void entry_drop(lv_last_index *x, list *l, uint32_t i) {
  unlink_entry(x, l, i);
  slot_free(x, probe(x, x->e[i].h));
  x->e[i].next = x->free;
  x->free = i;
}

static void bound(lv_last_index *x, uint32_t keys, uint64_t bytes) {
  while (x->live.n > keys || (x->bytes > bytes && x->live.n > 1))
    entry_drop(x, &x->live, x->live.first);
}

/* ---- the index ---- */

void lv__last_put(lv_lane *l, lv_chan_own *c, const lv_rec *r) {
  uint32_t keys = atomic_load(&c->c.last_keys);
  lv_last_index *x = atomic_load(&c->last);
  uint64_t h[2], synced = lv_elog_synced(l->elog);
  if (!keys) return;
  if (!x) atomic_store(&c->last, x = index_new()); /* under vis, or while opening */
  lv__state_hash(&l->state, KEY_SPACE, lv_rec_topic(r), h);
  pthread_mutex_lock(&x->mu);
  while (x->dead.first != NONE && x->e[x->dead.first].lsn < synced)
    entry_drop(x, &x->dead, x->dead.first);
  uint32_t s = probe(x, h), i;
  if (x->slot[s] && x->e[x->slot[s] - 1].lsn > r->lsn) {
    pthread_mutex_unlock(&x->mu);
    return;
  }
  if (x->slot[s]) {
    i = x->slot[s] - 1;
    unlink_entry(x, x->e[i].dead ? &x->dead : &x->live, i);
  } else {
    i = entry_new(x, h);
  }
  entry *e = &x->e[i];
  e->lsn = r->lsn;
  e->size = r->size;
  e->dead = lv_rec_val(r).n == 0;
  append_entry(x, e->dead ? &x->dead : &x->live, i);
  bound(x, keys, c->c.last_bytes);
  pthread_mutex_unlock(&x->mu);
}

bool lv__last_live(lv_lane *l, const lv_rec *r, uint64_t synced) {
  if (!(r->flags & LV_REC_LAST)) return false;
  lv_chan_own *c = lv__registry_get(&l->b->registry, r->chan);
  lv_last_index *x = c ? atomic_load(&c->last) : NULL;
  uint64_t h[2];
  bool live = false;
  if (!x) return false;
  lv__state_hash(&l->state, KEY_SPACE, lv_rec_topic(r), h);
  pthread_mutex_lock(&x->mu);
  uint32_t i = x->slot[probe(x, h)];
  if (i) {
    const entry *e = &x->e[i - 1];
    live = e->lsn == r->lsn ? !e->dead : e->lsn >= synced;
  }
  pthread_mutex_unlock(&x->mu);
  return live;
}

void lv__last_bound(lv_chan_own *c) {
  lv_last_index *x = atomic_load(&c->last);
  if (!x) return;
  pthread_mutex_lock(&x->mu);
  bound(x, atomic_load(&c->c.last_keys), c->c.last_bytes);
  pthread_mutex_unlock(&x->mu);
}

void lv__last_done(lv_chan_own *c) {
  lv_last_index *x = atomic_load(&c->last);
  if (!x) return;
  pthread_mutex_destroy(&x->mu);
  free(x->slot);
  free(x->e);
  free(x);
}

int lv__lasts(lv_broker *base, lv_chan *chan, lv_lasts *ret) {
  lv_embedded *b = lv__embedded(base);
  lv_lane *l = &b->lane[chan->durability];
  lv_chan_own *c = lv__registry_get(&b->registry, chan->id);
  assert(c && &c->c == chan);
  *ret = (lv_lasts){0};
  pthread_mutex_lock(&l->vis);
  lv_last_index *x = atomic_load(&c->last);
  ret->until = atomic_load(&l->visible);
  ret->next_offset = atomic_load(&chan->next_offset);
  if (x) {
    pthread_mutex_lock(&x->mu);
    ret->at = must(malloc((x->live.n + 1) * sizeof *ret->at));
    for (uint32_t i = x->live.first; i != NONE; i = x->e[i].next)
      ret->at[ret->n++] = (lv_last_at){x->e[i].lsn, x->e[i].size};
    pthread_mutex_unlock(&x->mu);
  }
  pthread_mutex_unlock(&l->vis);
  return 0;
}
