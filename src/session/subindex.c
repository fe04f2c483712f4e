/* subindex.c: see subindex.h.
 *
 * Rejected: per-node child arrays sorted by level (slow inserts on wide levels), and matching
 * without a cache (a trie walk per message costs more than everything else that a delivery does).
 */
#include "session/subindex.h"
#include "session/edge.h"
#include "wire/mqtt.h"
#include <assert.h>
#include <stdlib.h>

typedef struct lv_subnode {
  struct lv_subnode *hash_next, *parent;
  struct lv_subnode *plus; /* the `+` child */
  lv_sub *subs;            /* filters that end here */
  lv_sub *hash_subs;       /* filters that end with `/#` below here */
  uint64_t hash;
  uint32_t children; /* `plus` included */
  uint32_t len;
  uint8_t exact; /* an entry of the table of whole topics */
  uint8_t bytes[];
} lv_subnode;

typedef struct lv_nodetab {
  lv_subnode **slot;
  uint32_t mask, n;
} lv_nodetab;

struct lv_subindex {
  lv_nodetab exact, edges;
  lv_subnode *root;
  lv_match **cache;
  uint32_t gen, n_subs;
  uint32_t cached_targets;
  lv_match *uncached; /* the last result that was too large to keep */
  lv_sub **found;
  uint32_t n_found, cap_found;
};

static void *must(void *p) {
  if (!p) abort();
  return p;
}

static void tab_init(lv_nodetab *t) {
  t->mask = 15;
  t->n = 0;
  t->slot = must(calloc(t->mask + 1, sizeof *t->slot));
}

static void tab_grow(lv_nodetab *t) {
  uint32_t mask = t->mask * 2 + 1;
  lv_subnode **slot = must(calloc((size_t)mask + 1, sizeof *slot));
  for (uint32_t i = 0; i <= t->mask; i++) {
    for (lv_subnode *n = t->slot[i], *next; n; n = next) {
      next = n->hash_next;
      n->hash_next = slot[n->hash & mask];
      slot[n->hash & mask] = n;
    }
  }
  free(t->slot);
  t->slot = slot;
  t->mask = mask;
}

static lv_subnode *tab_find(const lv_nodetab *t, const lv_subnode *parent, uint64_t hash,
                            lv_slice key) {
  for (lv_subnode *n = t->slot[hash & t->mask]; n; n = n->hash_next) {
    if (n->hash == hash && n->parent == parent && n->len == key.n &&
        memcmp(n->bytes, key.p, key.n) == 0)
      return n;
  }
  return NULL;
}

static lv_subnode *node_new(lv_subnode *parent, uint64_t hash, lv_slice key) {
  lv_subnode *n = must(calloc(1, sizeof *n + key.n));
  n->parent = parent;
  n->hash = hash;
  n->len = key.n;
  if (key.n) memcpy(n->bytes, key.p, key.n);
  return n;
}

static lv_subnode *tab_add(lv_nodetab *t, lv_subnode *parent, uint64_t hash, lv_slice key) {
  if (t->n > t->mask) tab_grow(t);
  lv_subnode *n = node_new(parent, hash, key);
  n->hash_next = t->slot[hash & t->mask];
  t->slot[hash & t->mask] = n;
  t->n++;
  return n;
}

static void tab_remove(lv_nodetab *t, lv_subnode *n) {
  lv_subnode **p = &t->slot[n->hash & t->mask];
  while (*p != n) p = &(*p)->hash_next;
  *p = n->hash_next;
  t->n--;
  free(n);
}

static void tab_done(lv_nodetab *t) {
  for (uint32_t i = 0; i <= t->mask; i++) {
    for (lv_subnode *n = t->slot[i], *next; n; n = next) {
      next = n->hash_next;
      free(n);
    }
  }
  free(t->slot);
}

lv_subindex *lv_subindex_new(void) {
  lv_subindex *x = must(calloc(1, sizeof *x));
  tab_init(&x->exact);
  tab_init(&x->edges);
  x->root = node_new(NULL, 0, (lv_slice){NULL, 0});
  x->cache = must(calloc(LV_MATCH_SLOTS, sizeof *x->cache));
  x->gen = 1;
  return x;
}

static void cache_clear(lv_subindex *x) {
  for (uint32_t i = 0; i < LV_MATCH_SLOTS; i++) {
    free(x->cache[i]);
    x->cache[i] = NULL;
  }
  free(x->uncached);
  x->uncached = NULL;
  x->cached_targets = 0;
}

static void free_plus(lv_subnode *n) {
  if (!n->plus) return;
  free_plus(n->plus);
  free(n->plus);
}

void lv_subindex_free(lv_subindex *x) {
  if (!x) return;
  cache_clear(x);
  for (uint32_t i = 0; i <= x->edges.mask; i++)
    for (lv_subnode *n = x->edges.slot[i]; n; n = n->hash_next) free_plus(n);
  free_plus(x->root);
  tab_done(&x->exact);
  tab_done(&x->edges);
  free(x->root);
  free(x->cache);
  free(x->found);
  free(x);
}

uint32_t lv_subindex_count(const lv_subindex *x) {
  return x->n_subs;
}

static bool has_wildcard(lv_slice f) {
  return memchr(f.p, '+', f.n) != NULL || memchr(f.p, '#', f.n) != NULL;
}

/* Finds or makes the trie node of a filter with wildcards; *ret_hash: it ends with `#`. */
static lv_subnode *trie_path(lv_subindex *x, lv_slice filter, bool *ret_hash) {
  lv_subnode *n = x->root;
  *ret_hash = false;
  for (bool more = true; more;) {
    lv_slice level;
    more = lv_slice_split(&filter, '/', &level);
    if (level.n == 1 && level.p[0] == '#') {
      *ret_hash = true;
      break;
    }
    if (level.n == 1 && level.p[0] == '+') {
      if (!n->plus) {
        n->plus = node_new(n, 0, level);
        n->children++;
      }
      n = n->plus;
      continue;
    }
    uint64_t h = lv__edge_hash(n, level);
    lv_subnode *child = tab_find(&x->edges, n, h, level);
    if (!child) {
      child = tab_add(&x->edges, n, h, level);
      n->children++;
    }
    n = child;
  }
  return n;
}

static void list_add(lv_sub **list, lv_sub *s) {
  s->next = *list;
  if (s->next) s->next->pprev = &s->next;
  s->pprev = list;
  *list = s;
}

static void cache_drop(lv_subindex *x, uint64_t hash) {
  lv_match **slot = &x->cache[hash & (LV_MATCH_SLOTS - 1)];
  if (*slot && (*slot)->hash == hash) (*slot)->gen = 0;
}

void lv_subindex_add(lv_subindex *x, lv_sub *s) {
  assert(!s->node);
  lv_slice f = lv_sub_filter(s);
  x->n_subs++;
  if (has_wildcard(f)) {
    bool hash;
    s->node = trie_path(x, f, &hash);
    list_add(hash ? &s->node->hash_subs : &s->node->subs, s);
    x->gen++;
    return;
  }
  uint64_t h = lv_hash(f.p, f.n);
  s->node = tab_find(&x->exact, NULL, h, f);
  if (!s->node) {
    s->node = tab_add(&x->exact, NULL, h, f);
    s->node->exact = 1;
  }
  list_add(&s->node->subs, s);
  cache_drop(x, h);
}

static void trie_prune(lv_subindex *x, lv_subnode *n) {
  while (n->parent && !n->subs && !n->hash_subs && n->children == 0) {
    lv_subnode *parent = n->parent;
    if (parent->plus == n) {
      parent->plus = NULL;
      free(n);
    } else {
      tab_remove(&x->edges, n);
    }
    parent->children--;
    n = parent;
  }
}

void lv_subindex_remove(lv_subindex *x, lv_sub *s) {
  if (!s->node) return;
  *s->pprev = s->next;
  if (s->next) s->next->pprev = s->pprev;
  lv_subnode *n = s->node;
  s->node = NULL;
  x->n_subs--;
  if (n->exact) {
    cache_drop(x, n->hash);
    if (!n->subs) tab_remove(&x->exact, n);
    return;
  }
  x->gen++;
  trie_prune(x, n);
}

static void found(lv_subindex *x, lv_sub *list) {
  for (; list; list = list->next) {
    if (x->n_found == x->cap_found) {
      x->cap_found = x->cap_found ? x->cap_found * 2 : 64;
      x->found = must(realloc(x->found, x->cap_found * sizeof(lv_sub *)));
    }
    x->found[x->n_found++] = list;
  }
}

/* Walks the trie. `rest` is what follows; `more`: there is a level in it (perhaps an empty one). */
static void walk(lv_subindex *x, lv_subnode *n, lv_slice rest, bool more, bool first) {
  bool dollar = first && rest.n && rest.p[0] == '$';
  if (!dollar) found(x, n->hash_subs); /* `a/#` matches `a` too (§4.7.1.2) */
  if (!more) {
    found(x, n->subs);
    return;
  }
  lv_slice level, tail = rest;
  bool again = lv_slice_split(&tail, '/', &level);
  lv_subnode *child = tab_find(&x->edges, n, lv__edge_hash(n, level), level);
  if (child) walk(x, child, tail, again, false);
  if (n->plus && !dollar) walk(x, n->plus, tail, again, false);
}

static int by_target(const void *a, const void *b) {
  const lv_sub *x = *(lv_sub *const *)a, *y = *(lv_sub *const *)b;
  uintptr_t p = (uintptr_t)x->target, q = (uintptr_t)y->target;
  return p < q ? -1 : p > q;
}

/* Groups x->found by target into one allocation: head, targets, subscription pointers, topic. */
static lv_match *build(lv_subindex *x, uint64_t hash, lv_slice topic) {
  uint32_t n = x->n_found;
  if (n > 1) qsort(x->found, n, sizeof(lv_sub *), by_target);
  size_t size = sizeof(lv_match) + n * (sizeof(lv_target) + sizeof(lv_sub *)) + topic.n;
  lv_match *m = must(malloc(size));
  *m = (lv_match){.hash = hash, .gen = x->gen, .topic_len = topic.n};
  m->targets = (lv_target *)(m + 1);
  lv_sub **subs = (lv_sub **)(m->targets + n);
  if (n) memcpy(subs, x->found, n * sizeof(lv_sub *));
  memcpy(subs + n, topic.p, topic.n);
  m->topic = (const uint8_t *)(subs + n);
  for (uint32_t i = 0; i < n; i++) {
    lv_target *t = m->n ? &m->targets[m->n - 1] : NULL;
    if (!t || t->target != subs[i]->target || (subs[i]->flags & LV_SUB_SHARED)) {
      t = &m->targets[m->n++];
      *t = (lv_target){.target = subs[i]->target, .subs = subs + i};
    }
    t->n++;
    if (subs[i]->qos > t->qos) t->qos = subs[i]->qos;
    t->flags |= subs[i]->flags;
    t->ids |= subs[i]->sub_id != 0;
  }
  return m;
}

const lv_match *lv_subindex_match(lv_subindex *x, lv_slice topic) {
  uint64_t hash = lv_hash(topic.p, topic.n);
  lv_match **slot = &x->cache[hash & (LV_MATCH_SLOTS - 1)];
  lv_match *m = *slot;
  if (m && m->hash == hash && m->gen == x->gen && m->topic_len == topic.n &&
      memcmp(m->topic, topic.p, topic.n) == 0)
    return m;
  x->n_found = 0;
  lv_subnode *exact = tab_find(&x->exact, NULL, hash, topic);
  if (exact) found(x, exact->subs);
  walk(x, x->root, topic, true, true);
  if (m) x->cached_targets -= m->n;
  free(m);
  *slot = NULL;
  if (x->cached_targets + x->n_found > LV_MATCH_TARGETS_MAX) cache_clear(x);
  m = build(x, hash, topic);
  if (m->n > LV_MATCH_TARGETS_MAX / 4) {
    free(x->uncached);
    return x->uncached = m;
  }
  x->cached_targets += m->n;
  return *slot = m;
}
