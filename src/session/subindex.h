/* subindex.h: which subscriptions match a topic: one index per (shard, app).
 *
 * Filters without wildcards are entries of a hash table keyed by topic; the others are a trie of
 * levels whose edges are one more hash table (parent, level), so that a node with ten thousand
 * children costs no more per lookup than one with two. Results are cached per topic: the
 * subscriptions grouped by session (overlaps merged as MQTT 5.0 §3.3.4 allows: one copy, the
 * highest QoS, all identifiers). A new or ended subscription without wildcards clears the cache of
 * its topic only, one with wildcards all of it.
 *
 * @thread loop. Bounds: cached targets in all (LV_MATCH_TARGETS_MAX), trie depth (filters' levels
 * are limited before they come here). */
#ifndef LV_SESSION_SUBINDEX_H
#define LV_SESSION_SUBINDEX_H
#include "broker/broker.h"
#include "core/slice.h"

enum { LV_MATCH_TARGETS_MAX = 1 << 20, LV_MATCH_SLOTS = 1 << 14 };

enum lv_sub_flag {
  LV_SUB_NO_LOCAL = 1,
  LV_SUB_AS_PUBLISHED = 2, /* keep RETAIN as published */
  LV_SUB_CHECK = 4,        /* the key may not read all that the filter matches: check each topic */
  LV_SUB_SHARED = 8,       /* target is a shared subscription */
};

/* One subscription. Owned by its session (or shared subscription). */
typedef struct lv_sub {
  struct lv_sub *next, **pprev;         /* subscriptions with the same filter */
  struct lv_sub *own_next, **own_pprev; /* subscriptions of the same session */
  struct lv_sub *hash_next;             /* of them, those in one slot of its table (sub.c) */
  void *due;                      /* what will give it its retained messages, or NULL (sub.c) */
  void *target;                   /* lv_sess, or lv_share with LV_SUB_SHARED */
  struct lv_share_member *member; /* of a shared subscription's session */
  struct lv_subnode *node;        /* NULL: not in an index */
  lv_pos from;                    /* messages with a smaller lsn came before the subscription */
  uint32_t sub_id, due_at;        /* due_at: its place there */
  uint32_t due_seq; /* its number among those that want retained messages; 0: it does not */
  uint8_t qos, flags, retain_handling;
  uint16_t shared_prefix; /* bytes of `$share/NAME/` in front */
  uint16_t len;
  char filter[]; /* as the client sent it */
} lv_sub;
static inline lv_slice lv_sub_filter(const lv_sub *s) {
  return lv_slice_of(s->filter + s->shared_prefix, (size_t)s->len - s->shared_prefix);
}

/* All subscriptions of one session that match a topic. */
typedef struct lv_target {
  void *target;
  lv_sub *const *subs;
  uint32_t n;
  uint8_t qos;   /* highest of them */
  uint8_t flags; /* union of theirs */
  bool ids;      /* one has an identifier */
} lv_target;
typedef struct lv_match {
  uint64_t hash;
  uint32_t gen, n;
  uint32_t topic_len;
  const uint8_t *topic;
  lv_target *targets;
} lv_match;

typedef struct lv_subindex lv_subindex;
lv_subindex *lv_subindex_new(void);
/* Subscriptions that are still in it are forgotten, not freed. */
void lv_subindex_free(lv_subindex *x);
void lv_subindex_add(lv_subindex *x, lv_sub *s);
void lv_subindex_remove(lv_subindex *x, lv_sub *s);
uint32_t lv_subindex_count(const lv_subindex *x);
/* Valid until the next add or remove, or the next match. Never NULL. */
const lv_match *lv_subindex_match(lv_subindex *x, lv_slice topic);

#endif
