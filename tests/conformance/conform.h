/* conform.h: the conformance suite of broker.h: one program of checks for every cluster type.
 *
 * A type is given as a `conform_kind`: how to open a broker on a fresh or the same data, and what
 * it can do. The rig runs N loops, each with an lv_pub and a feed that is written down; checks
 * compare what publishers were told with what feeds and reads show. Checks that a type's declared
 * capabilities rule out are printed as left out. All waiting is for conditions, bounded by a
 * deadline that fails the check. */
#ifndef LV_TESTS_CONFORM_H
#define LV_TESTS_CONFORM_H
#include "broker/pub.h"
#include <pthread.h>

enum { RIG_LOOPS = 3, RIG_CHANS = 4, RIG_DEADLINE_S = 60 };

typedef struct conform_kind {
  const char *name;
  uint32_t caps;
  uint8_t durability; /* of the channels that the checks make; both: mixed */
  bool mixed;
  /* Opens on the data of `env`; what was acknowledged before must be there. */
  int (*open)(void *env, lv_broker **ret, char *why);
  /* Makes env forget everything: the next open is a fresh cluster. */
  void (*wipe)(void *env);
  /* The process dies (power: with the machine). NULL: cannot be done with this type. */
  void (*crash)(void *env, lv_broker *b, bool power);
  /* Faults of the storage on or off. NULL: none. */
  void (*faults)(void *env, bool on);
  /* Asks for a round of retention now. NULL: it comes by itself. */
  void (*tend)(void *env, lv_broker *b);
  void *env;
} conform_kind;

/* What a message says about itself: its value. */
typedef struct note {
  uint32_t pub, chan; /* loop index; channel number in the rig */
  uint64_t seq;       /* of this publisher in this channel, from 1 */
  uint8_t fill[112];
} note;

typedef struct seen { /* one message in a feed or a read */
  uint64_t lsn, offset, seq;
  uint32_t pub, chan, id;
} seen;
typedef struct seen_list {
  seen *v;
  uint32_t n, cap;
} seen_list;

typedef struct acked { /* what a publisher was told, in order */
  uint64_t seq, lsn;
  uint32_t chan;
  int err;
} acked;

struct rig;
typedef struct rig_loop {
  struct rig *rig;
  lv_loop *loop;
  lv_pub *pub;
  lv_feed taker, second;
  lv_pos start; /* of the feed */
  uint64_t seq[RIG_CHANS];
  uint64_t offered, told, refused; /* messages */
  uint64_t rng;
  /* under rig->mu */
  seen_list feed[LV_DURABILITY_COUNT], feed2[LV_DURABILITY_COUNT]; /* of the two takers */
  acked *acks;
  uint32_t n_acks, cap_acks;
  uint32_t todo; /* messages this loop still has to publish */
  bool in_submit, bad_order;
} rig_loop;

typedef struct rig {
  const conform_kind *kind;
  lv_broker *broker;
  lv_chan *chan[RIG_CHANS];
  rig_loop loops[RIG_LOOPS];
  pthread_mutex_t mu;
  pthread_cond_t progress;
} rig;

/* Every check is written as CHECK(condition, format, …): prints, and ends the program. */
#define CHECK(cond, ...)                                                                           \
  do {                                                                                             \
    if (!(cond)) conform_fail(__FILE__, __LINE__, #cond, __VA_ARGS__);                             \
  } while (0)
void conform_fail(const char *file, int line, const char *cond, const char *fmt, ...)
    __attribute__((noreturn, format(printf, 4, 5)));

/* Opens the broker, starts the loops, ensures the channels (keep_count 0: no limit). */
void rig_open(rig *r, const conform_kind *kind, uint64_t keep_count);
/* Stops the loops and closes the broker; what was written down stays until rig_clear. */
void rig_close(rig *r);
/* The same, but the broker is crashed. */
void rig_crash(rig *r, bool power);
void rig_clear(rig *r);
/* Publishes n messages from each loop over all channels, in turns of random size, closed loop by
 * lv_pub_full; waits until each was told an outcome. */
void rig_publish(rig *r, uint32_t n_each);
/* Switches a loop's feed; waits. Returns the point. */
lv_pos rig_interest(rig *r, int loop, bool on);
lv_pos rig_interest_second(rig *r, int loop, bool on); /* the loop's other taker */
/* Waits until every interested loop's feed of `log` has reached what is visible now. */
void rig_settle(rig *r);
/* Reads with these limits until what is visible now, on loop 0; missing: largest missing_before. */
void rig_read(rig *r, uint8_t log, uint64_t from, lv_chan *const *chans, uint32_t n_chans,
              uint32_t max_count, uint32_t max_bytes, seen_list *ret, uint64_t *ret_missing);
/* Waits until cond(arg) holds, looking again on progress and at least each 2 ms. */
void rig_wait(rig *r, bool (*cond)(rig *r, void *arg), void *arg, const char *what);
/* Starts a loop's publishing of its `todo` (for lv_loop_call); told: all told that many
 * (uint64_t[]).
 */
void conform_turn(lv_loop *loop, void *rig_loop);
bool conform_all_told(rig *r, void *want);
void seen_clear(seen_list *s);
uint64_t rig_random(uint64_t *state);

/* Runs all checks; prints a line each. */
void conform_run(const conform_kind *kind);
/* Parts of it, one file each. */
void conform_order(const conform_kind *kind);
void conform_read(const conform_kind *kind);
void conform_seek(const conform_kind *kind);
void conform_store(const conform_kind *kind);
void conform_faults(const conform_kind *kind);

#endif
