/* ledger.h: who has seen what. One row per (subscriber, stream), where a stream is one publisher's
 * messages on one topic, numbered 0, 1, 2, …
 *
 *   seen: 0 ───────────────────────────── next   holes: [4,6) [9,10)   (jumped over, not seen yet)
 *
 * A number below `next` is either in a hole (it came late: reordered) or a duplicate. Holes are
 * kept exactly, sorted, up to LG_HOLES_MAX ranges a row; when more are open, the oldest is given
 * up (`abandoned`: it counts as lost, and if it does come it counts as a duplicate). One thread. */
#ifndef LG_LEDGER_H
#define LG_LEDGER_H
#include <stdint.h>

enum { LG_HOLES_MAX = 4096 };

typedef struct lg_hole {
  uint32_t lo, hi; /* [lo, hi) */
} lg_hole;

typedef struct lg_holes {
  uint32_t count, cap;
  lg_hole at[];
} lg_holes;

typedef struct lg_row {
  uint32_t next;    /* highest number seen + 1 */
  uint32_t missing; /* numbers below next that were not seen (abandoned ones included) */
  lg_holes *holes;  /* NULL until the first jump */
} lg_row;

typedef enum lg_seen { LG_IN_ORDER, LG_JUMP, LG_LATE, LG_DUPLICATE } lg_seen;

typedef struct lg_ledger {
  uint64_t unique;     /* first receipts */
  uint64_t duplicated; /* further receipts of the same message */
  uint64_t reordered;  /* first receipts after a later number of the same stream */
  uint64_t jumps;      /* receipts that left a hole */
  uint64_t abandoned;  /* numbers whose hole was given up */
} lg_ledger;

typedef struct lg_lost {
  uint64_t prefix, middle, tail; /* before the first seen, between, after the last seen */
} lg_lost;

/* Notes that `seq` arrived in `row`. On LG_IN_ORDER and LG_JUMP, [old next, seq] is news to the
 * caller: *ret_from is set to the old next. */
lg_seen lg_ledger_see(lg_ledger *led, lg_row *row, uint32_t seq, uint32_t *ret_from);
/* Whether the row has not seen `seq`. */
int lg_row_misses(const lg_row *row, uint32_t seq);
/* Adds what the row is owed of `sent` messages and has not seen. */
void lg_ledger_lost(const lg_row *row, uint32_t sent, lg_lost *lost);
/* Frees the row's holes. */
void lg_row_done(lg_row *row);

#endif
