/* retained.c: see retained.h. Nodes know their children both as a list (for `+` and `#`) and
 * through one hash table of edges (for names), so that a level with a million names is no slower.
 */
#include "session/retained.h"
#include "session/edge.h"
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

typedef struct lv_rnode {
  struct lv_rnode *parent, *child, *next, **pprev; /* siblings */
  struct lv_rnode *hash_next;
  lv_block *block; /* holds the record; NULL: none retained here */
  uint64_t hash;
  uint32_t len;
  uint32_t pins;    /* walks that stand here */
  uint32_t claims;  /* records accepted for it, not yet done */
  uint32_t claimed; /* bytes of the largest of them */
  uint8_t log;
  uint8_t bytes[];
} lv_rnode;

enum { EXPIRE_SLOTS = 16384, EXPIRE_MAX = 1024 };

/* What the limits look at is taken, which is at least what is there: a topic counts once, with its
 * record or the largest one that is on its way to it. */
typedef struct lv_rapp {
  lv_rnode *root;
  uint64_t count, bytes;
  uint64_t taken, taken_bytes;
} lv_rapp;

struct lv_retained {
  pthread_mutex_t lock;
  lv_rnode **slot;
  uint32_t mask, n, expire_at;
  lv_rapp *apps;
  uint32_t n_apps;
};

static void *must(void *p) {
  if (!p) abort();
  return p;
}

static const lv_rec *rec_of(const lv_rnode *n) {
  return (const lv_rec *)n->block->data;
}

static lv_rnode *node_new(lv_rnode *parent, uint64_t hash, lv_slice level) {
  lv_rnode *n = must(calloc(1, sizeof *n + level.n));
  n->parent = parent;
  n->hash = hash;
  n->len = level.n;
  if (level.n) memcpy(n->bytes, level.p, level.n);
  if (parent) {
    n->next = parent->child;
    if (n->next) n->next->pprev = &n->next;
    n->pprev = &parent->child;
    parent->child = n;
  }
  return n;
}

lv_retained *lv_retained_new(void) {
  lv_retained *r = must(calloc(1, sizeof *r));
  pthread_mutex_init(&r->lock, NULL);
  r->mask = 63;
  r->slot = must(calloc((size_t)r->mask + 1, sizeof *r->slot));
  return r;
}

void lv_retained_free(lv_retained *r) {
  if (!r) return;
  for (uint32_t i = 0; i <= r->mask; i++) {
    for (lv_rnode *n = r->slot[i], *next; n; n = next) {
      next = n->hash_next;
      lv_block_unref(n->block);
      free(n);
    }
  }
  for (uint32_t i = 0; i < r->n_apps; i++) free(r->apps[i].root);
  free(r->apps);
  free(r->slot);
  pthread_mutex_destroy(&r->lock);
  free(r);
}

static lv_rapp *app_of(lv_retained *r, uint32_t app_id, bool make) {
  if (app_id >= r->n_apps) {
    if (!make) return NULL;
    r->apps = must(realloc(r->apps, (app_id + 1) * sizeof *r->apps));
    memset(r->apps + r->n_apps, 0, (app_id + 1 - r->n_apps) * sizeof *r->apps);
    r->n_apps = app_id + 1;
  }
  lv_rapp *a = &r->apps[app_id];
  if (!a->root) a->root = node_new(NULL, 0, (lv_slice){NULL, 0});
  return a;
}

static lv_rnode *child_find(const lv_retained *r, const lv_rnode *parent, uint64_t hash,
                            lv_slice level) {
  for (lv_rnode *n = r->slot[hash & r->mask]; n; n = n->hash_next) {
    if (n->hash == hash && n->parent == parent && n->len == level.n &&
        memcmp(n->bytes, level.p, level.n) == 0)
      return n;
  }
  return NULL;
}

static void grow(lv_retained *r) {
  uint32_t mask = r->mask * 2 + 1;
  lv_rnode **slot = must(calloc((size_t)mask + 1, sizeof *slot));
  for (uint32_t i = 0; i <= r->mask; i++) {
    for (lv_rnode *n = r->slot[i], *next; n; n = next) {
      next = n->hash_next;
      n->hash_next = slot[n->hash & mask];
      slot[n->hash & mask] = n;
    }
  }
  free(r->slot);
  r->slot = slot;
  r->mask = mask;
}

static lv_rnode *path(lv_retained *r, lv_rnode *root, lv_slice topic, bool make) {
  lv_rnode *n = root;
  for (bool more = true; more && n;) {
    lv_slice level;
    more = lv_slice_split(&topic, '/', &level);
    uint64_t h = lv__edge_hash(n, level);
    lv_rnode *child = child_find(r, n, h, level);
    if (!child && make) {
      if (r->n > r->mask) grow(r);
      child = node_new(n, h, level);
      child->hash_next = r->slot[h & r->mask];
      r->slot[h & r->mask] = child;
      r->n++;
    }
    n = child;
  }
  return n;
}

static void prune(lv_retained *r, lv_rnode *n) {
  while (n->parent && !n->block && !n->child && !n->pins && !n->claims) {
    lv_rnode *parent = n->parent, **p = &r->slot[n->hash & r->mask];
    while (*p != n) p = &(*p)->hash_next;
    *p = n->hash_next;
    *n->pprev = n->next;
    if (n->next) n->next->pprev = n->pprev;
    r->n--;
    free(n);
    n = parent;
  }
}

static uint64_t taken_by(const lv_rnode *n) {
  uint32_t there = n->block ? rec_of(n)->size : 0;
  return there > n->claimed ? there : n->claimed;
}

/* Before and after a node changes. */
static void untake(lv_rapp *a, const lv_rnode *n) {
  a->taken -= n->block || n->claims;
  a->taken_bytes -= taken_by(n);
}

static void take(lv_rapp *a, const lv_rnode *n) {
  a->taken += n->block || n->claims;
  a->taken_bytes += taken_by(n);
}

static void forget(lv_rapp *a, lv_rnode *n) {
  if (!n->block) return;
  a->count--;
  a->bytes -= rec_of(n)->size;
  lv_block_unref(n->block);
  n->block = NULL;
}

static void keep(lv_rapp *a, lv_rnode *n, const lv_rec *rec, uint8_t log) {
  n->block = lv_block_new(rec->size);
  if (!n->block) return;
  memcpy(n->block->data, rec, rec->size);
  n->block->used = rec->size;
  n->log = log;
  a->count++;
  a->bytes += rec->size;
}

void lv_retained_apply(lv_retained *r, uint32_t app_id, const lv_rec *rec, uint8_t log) {
  pthread_mutex_lock(&r->lock);
  lv_rapp *a = app_of(r, app_id, true);
  bool empty = lv_rec_val(rec).n == 0;
  lv_rnode *n = path(r, a->root, lv_rec_topic(rec), !empty);
  if (n && !(n->block && n->log == log && rec_of(n)->lsn > rec->lsn)) {
    untake(a, n);
    forget(a, n);
    if (!empty) keep(a, n, rec, log);
    take(a, n);
    prune(r, n);
  }
  pthread_mutex_unlock(&r->lock);
}

bool lv_retained_claim(lv_retained *r, uint32_t app_id, lv_slice topic, uint32_t bytes,
                       uint64_t max_count, uint64_t max_bytes) {
  pthread_mutex_lock(&r->lock);
  lv_rapp *a = app_of(r, app_id, true);
  lv_rnode *n = path(r, a->root, topic, false);
  uint64_t old = n ? taken_by(n) : 0;
  bool fits = (old || !max_count || a->taken < max_count) &&
              (bytes <= old || !max_bytes || a->taken_bytes - old + bytes <= max_bytes);
  if (fits) {
    if (!n) n = path(r, a->root, topic, true);
    untake(a, n);
    n->claims++;
    if (n->claimed < bytes) n->claimed = bytes;
    take(a, n);
  }
  pthread_mutex_unlock(&r->lock);
  return fits;
}

void lv_retained_unclaim(lv_retained *r, uint32_t app_id, lv_slice topic) {
  pthread_mutex_lock(&r->lock);
  lv_rapp *a = app_of(r, app_id, false);
  lv_rnode *n = a ? path(r, a->root, topic, false) : NULL;
  assert(n && n->claims > 0);
  untake(a, n);
  if (--n->claims == 0) n->claimed = 0;
  take(a, n);
  prune(r, n);
  pthread_mutex_unlock(&r->lock);
}

/* ---- the walk ----
 *
 * Depth first through the nodes that the filter's levels allow, the root at depth 0: a node at
 * depth d has matched levels 0 … d-1. */

static bool is(lv_slice level, char c) {
  return level.n == 1 && level.p[0] == c;
}

/* The filter's level i; past the end of one with `#`, that. False: the filter is shorter. */
static bool level_at(const lv_retained_walk *w, uint32_t i, lv_slice *ret_level) {
  lv_slice rest = w->filter;
  if (i >= w->n_levels && !w->hash) return false;
  for (uint32_t k = 0; lv_slice_split(&rest, '/', ret_level) && k < i; k++) {
  }
  return true;
}

/* `$…` at the top is matched by its name only. */
static lv_rnode *past_dollar(lv_rnode *n, uint32_t depth) {
  while (n && depth == 1 && n->len && n->bytes[0] == '$') n = n->next;
  return n;
}

static lv_rnode *child_first(const lv_retained_walk *w, const lv_rnode *n, uint32_t depth) {
  lv_slice level;
  if (!level_at(w, depth, &level)) return NULL;
  if (is(level, '#') || is(level, '+')) return past_dollar(n->child, depth + 1);
  return child_find(w->r, n, lv__edge_hash(n, level), level);
}

static lv_rnode *sibling(const lv_retained_walk *w, const lv_rnode *n, uint32_t depth) {
  lv_slice level;
  if (!level_at(w, depth - 1, &level)) return NULL;
  return is(level, '#') || is(level, '+') ? past_dollar(n->next, depth) : NULL;
}

static lv_rnode *next_of(const lv_retained_walk *w, lv_rnode *n, uint32_t *depth) {
  lv_rnode *to = child_first(w, n, *depth);
  if (to) {
    ++*depth;
    return to;
  }
  for (; n->parent; n = n->parent, --*depth) {
    to = sibling(w, n, *depth);
    if (to) return to;
  }
  return NULL;
}

static void pin(lv_retained_walk *w, lv_rnode *n) {
  lv_rnode *was = w->at;
  w->at = n;
  if (n) n->pins++;
  if (was && --was->pins == 0) prune(w->r, was);
}

void lv_retained_walk_start(lv_retained_walk *w, lv_retained *r, uint32_t app_id, lv_slice filter) {
  lv_slice rest = filter, level;
  *w = (lv_retained_walk){.r = r, .filter = filter, .app_id = app_id, .n_levels = 1};
  while (lv_slice_split(&rest, '/', &level)) w->n_levels++;
  w->hash = is(level, '#');
  pthread_mutex_lock(&r->lock);
  const lv_rapp *a = app_of(r, app_id, false);
  if (a) pin(w, next_of(w, a->root, &w->depth));
  pthread_mutex_unlock(&r->lock);
}

bool lv_retained_walk_step(lv_retained_walk *w, uint32_t max, lv_retained_fn *fn, void *arg) {
  pthread_mutex_lock(&w->r->lock);
  lv_rnode *n = w->at;
  for (uint32_t i = 0; n && i < max; i++, n = next_of(w, n, &w->depth)) {
    bool whole = w->hash ? w->depth + 1 >= w->n_levels : w->depth == w->n_levels;
    if (whole && n->block) fn(arg, n->block, rec_of(n), n->log);
  }
  pin(w, n);
  pthread_mutex_unlock(&w->r->lock);
  return n != NULL;
}

void lv_retained_walk_copy(lv_retained_walk *ret_walk, const lv_retained_walk *w) {
  pthread_mutex_lock(&w->r->lock);
  *ret_walk = *w;
  if (w->at) w->at->pins++;
  pthread_mutex_unlock(&w->r->lock);
}

void lv_retained_walk_stop(lv_retained_walk *w) {
  if (!w->at) return;
  pthread_mutex_lock(&w->r->lock);
  pin(w, NULL);
  pthread_mutex_unlock(&w->r->lock);
}

/* ---- expiry, counts ---- */

static bool expired(const lv_rnode *n, int64_t now_ns) {
  uint32_t s;
  return n->block && lv_rec_expiry(rec_of(n), &s) &&
         rec_of(n)->ingest_ns + (int64_t)s * 1000000000 <= now_ns;
}

static void expire_one(lv_retained *r, lv_rnode *n) {
  const lv_rnode *root = n;
  while (root->parent) root = root->parent;
  for (uint32_t k = 0; k < r->n_apps; k++)
    if (r->apps[k].root == root) {
      untake(&r->apps[k], n);
      forget(&r->apps[k], n);
      take(&r->apps[k], n);
    }
  prune(r, n);
}

/* A part of the table each time: publishers wait for the lock. */
void lv_retained_expire(lv_retained *r, int64_t now_ns) {
  lv_rnode *found[EXPIRE_MAX];
  uint32_t n_found = 0;
  pthread_mutex_lock(&r->lock);
  for (uint32_t i = 0; i < EXPIRE_SLOTS && i <= r->mask; i++, r->expire_at++)
    for (lv_rnode *n = r->slot[r->expire_at & r->mask]; n && n_found < EXPIRE_MAX; n = n->hash_next)
      if (expired(n, now_ns)) found[n_found++] = n;
  /* Removing one leaves the others: a node with a record is never pruned. */
  for (uint32_t i = 0; i < n_found; i++) expire_one(r, found[i]);
  pthread_mutex_unlock(&r->lock);
}

void lv_retained_count(lv_retained *r, uint64_t *ret_messages, uint64_t *ret_bytes) {
  uint64_t n = 0, b = 0;
  pthread_mutex_lock(&r->lock);
  for (uint32_t i = 0; i < r->n_apps; i++) {
    n += r->apps[i].count;
    b += r->apps[i].bytes;
  }
  pthread_mutex_unlock(&r->lock);
  *ret_messages = n;
  *ret_bytes = b;
}
