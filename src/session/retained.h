/* retained.h: MQTT retained messages of the process: per app and topic the newest message that was
 * published with RETAIN (MQTT 5.0 §3.3.1.3).
 *
 * A trie of levels holds a copy of each record in a block of its own. One mutex guards it: writers
 * are the threads that make RETAIN publishes visible, readers are loops that handle a SUBSCRIBE; a
 * publish without RETAIN never comes here. Bounds: the app's limits on count and bytes. A publish
 * claims its place before it is accepted and gives the claim back when the broker has had its last
 * word, so that many at once, on any number of loops, pass no limit. @thread any */
#ifndef LV_SESSION_RETAINED_H
#define LV_SESSION_RETAINED_H
#include "core/block.h"
#include "core/slice.h"

typedef struct lv_retained lv_retained;
lv_retained *lv_retained_new(void);
void lv_retained_free(lv_retained *r);
/* Stores a copy of rec (empty value: removes the topic's), unless what is there is newer. */
void lv_retained_apply(lv_retained *r, uint32_t app_id, const lv_rec *rec, uint8_t log);
/* Claims room for one more record of `bytes` (with a value) on this topic. False, and nothing is
 * claimed: the app would not stay within its limits (0: none). A topic that is replaced, be it by
 * several on their way, counts once. */
bool lv_retained_claim(lv_retained *r, uint32_t app_id, lv_slice topic, uint32_t bytes,
                       uint64_t max_count, uint64_t max_bytes);
/* Gives one claim on this topic back: after lv_retained_apply, or when nothing comes of it. */
void lv_retained_unclaim(lv_retained *r, uint32_t app_id, lv_slice topic);
/* A walk over those that the filter matches (§4.7), in no particular order and in steps: the lock
 * is held for a step only, so that a filter that matches a hundred thousand stops no publisher.
 * What is retained or removed meanwhile may or may not be seen. */
typedef struct lv_retained_walk {
  lv_retained *r;
  lv_slice filter; /* borrowed until the end */
  uint32_t app_id, n_levels, depth;
  bool hash;           /* the last level is `#` */
  struct lv_rnode *at; /* the next one to be looked at, pinned; NULL: none */
} lv_retained_walk;
void lv_retained_walk_start(lv_retained_walk *w, lv_retained *r, uint32_t app_id, lv_slice filter);
/* Looks at up to `max` topic levels and calls fn, under the lock, for each message that matches: fn
 * takes a reference to `block` if it keeps rec. False: that was all. */
typedef void lv_retained_fn(void *arg, lv_block *block, const lv_rec *rec, uint8_t log);
bool lv_retained_walk_step(lv_retained_walk *w, uint32_t max, lv_retained_fn *fn, void *arg);
/* Ends a walk before that; harmless after it. */
/* A second one that stands where w does. */
void lv_retained_walk_copy(lv_retained_walk *ret_walk, const lv_retained_walk *w);
void lv_retained_walk_stop(lv_retained_walk *w);
/* Removes some of what has expired (it is not delivered anyway); called once a second. */
void lv_retained_expire(lv_retained *r, int64_t now_ns);
void lv_retained_count(lv_retained *r, uint64_t *ret_messages, uint64_t *ret_bytes);

#endif
