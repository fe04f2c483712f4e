/* block.h: refcounted memory that records and frames live in, and batches of records.
 *
 * A loop fills a block from the front, across turns; each turn's records form a batch, a range of
 * the block that is handed to the broker and is immutable from then on. Nothing is copied after the
 * record is written: the log writes the range, the recent tail keeps it, subscribers' queues point
 * into it. A message costs no allocation and no refcount of its own.
 *
 *   block  [ batch 1 (turn 1) | batch 2 (turn 2) | free … ]   64 KiB, or one large record
 *
 * Refcounts are atomic: a block is released by whichever thread drops the last reference. */
#ifndef LV_CORE_BLOCK_H
#define LV_CORE_BLOCK_H
#include "core/rec.h"
#include "core/time.h"
#include <stdatomic.h>

enum { LV_BLOCK_SIZE = 64 * 1024 };

typedef struct lv_block {
  uint32_t magic;
  _Atomic uint32_t refs;
  uint32_t cap, used;
  _Alignas(16) uint8_t data[];
} lv_block;

/* A block with room for `cap` bytes (rounded up to a multiple of 8), one reference. Blocks of the
 * standard size are recycled through a thread-local list of bounded length. Aborts when memory is
 * out for a standard block; returns NULL for a larger one. @thread any */
lv_block *lv_block_new(uint32_t cap);
lv_block *lv_block_ref(lv_block *b);
void lv_block_unref(lv_block *b); /* NULL is fine */
/* Bytes held by live blocks in this process, for limits and metrics. @thread any */
uint64_t lv_block_bytes(void);

struct lv_loop;
struct lv_batch;
typedef struct lv_mail {
  struct lv_mail *next;
  void (*run)(struct lv_loop *loop, struct lv_mail *mail);
} lv_mail;

/* One acknowledgement that is due when a batch completes. `owner` and `gen` name the session or
 * connection (the callback checks that it is still the same); the rest is its own. */
typedef struct lv_ack {
  void *owner;
  uint32_t gen;
  uint16_t packet_id;
  uint8_t qos;
  uint8_t flags;
  uint32_t index; /* of its record in the batch, for the position; UINT32_MAX: none */
} lv_ack;

/* How many of a batch's messages count for one channel and protocol (metric.h). */
typedef struct lv_tally {
  uint32_t slot, proto;
  uint32_t msgs;
  uint64_t bytes;
} lv_tally;

enum lv_batch_flag {
  LV_BATCH_RETAIN = 1, /* a message in it has RETAIN */
  LV_BATCH_STATE = 2,  /* it has keyed state (STATE, QoS 2) */
};

/* Records of one loop turn for one log, contiguous in one block. */
typedef struct lv_batch {
  lv_mail mail; /* completion travels to `loop` as this */
  uint32_t magic;
  _Atomic uint32_t refs;
  struct lv_loop *loop; /* where it came from and where `done` runs; NULL in tests */
  lv_block *block;      /* one reference held */
  const uint8_t *start; /* first record */
  uint32_t bytes, count;
  int err;           /* set before `done`: 0 = as safe as the channel asks */
  uint8_t flags;     /* enum lv_batch_flag */
  uint32_t msgs;     /* how many of `count` are messages (kind MSG): what KPIs count */
  uint8_t log;       /* enum lv_durability of the channels in it */
  uint64_t bytes_in; /* value bytes, for KPIs */
  lv_mono read_at;   /* when the last byte of these messages was read */
  uint64_t lsn_end;  /* after commit: the log address behind the last record */
  uint64_t first_offset_hint;
  lv_ack *acks;
  uint32_t n_acks, cap_acks;
  lv_tally *tally; /* they add up to msgs and bytes_in, or there are none */
  uint32_t n_tally, cap_tally;
  void (*done)(struct lv_batch *batch); /* @thread loop: exactly once, never inside publish */
  void *arg;
  struct lv_batch *next; /* broker's queues */
} lv_batch;

static inline lv_rec *lv_batch_first(const lv_batch *b) {
  return (lv_rec *)b->start;
}
static inline lv_rec *lv_batch_next(const lv_batch *b, const lv_rec *r) {
  const uint8_t *p = (const uint8_t *)r + r->size;
  return p < b->start + b->bytes ? (lv_rec *)p : NULL;
}
/* An empty batch with one reference; takes over the caller's reference to `block`. Recycled through
 * thread-local lists together with its ack array. @thread any */
lv_batch *lv_batch_new(lv_block *block, const uint8_t *start);
lv_batch *lv_batch_ref(lv_batch *b);
void lv_batch_unref(lv_batch *b);
/* Appends an acknowledgement. @thread loop, before publish */
void lv_batch_ack(lv_batch *b, lv_ack ack);
/* Counts a message of `bytes` value bytes for slot and proto; *mark is a hint, kept with these two
 * by the caller, where in the batch their tally may be. @thread loop, before publish */
void lv_batch_tally(lv_batch *b, uint32_t slot, uint32_t proto, uint32_t bytes, uint16_t *mark);

#endif
