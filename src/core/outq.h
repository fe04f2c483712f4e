/* outq.h: what one connection still has to send, as ranges of bytes; no I/O.
 *
 * Bytes arrive in two ways: copied into private space (acks, small packets that differ per
 * subscriber), or by reference into a block that many connections share (a fanned-out message).
 * Neighbouring ranges of the same memory merge, so that sixteen messages encoded one behind the
 * other cost a subscriber one entry and one iovec.
 *
 *   entry: ptr, len, block ref or private chunk, n_msgs (messages that end in it), read_at, use
 *
 * An empty queue owns nothing but its own 32 bytes. The ledger's "delivered" for QoS 0 is a message
 * handed whole to the kernel: lv_outq_consume reports the messages of entries that went out whole,
 * and lv_outq_unsent what a closing connection still owed. */
#ifndef LV_CORE_OUTQ_H
#define LV_CORE_OUTQ_H
#include "core/block.h"
#include "core/usage.h"
#include <sys/uio.h>

typedef struct lv_outq {
  struct lv_outq_seg *head, *tail; /* segments of entries, from a thread-local pool */
  uint32_t bytes;                  /* not yet consumed */
  uint32_t head_sent;              /* bytes of the head entry already consumed */
  uint32_t msgs;                   /* counted messages not yet consumed */
} lv_outq;

/* Called for entries that leave: `n` messages whose last byte was read at `read_at`, and what was
 * said of them with lv_outq_use. n is never 0. */
typedef void lv_outq_sent_fn(void *arg, uint32_t n, lv_mono read_at, lv_use use);

void lv_outq_init(lv_outq *q);
/* Frees all entries. @thread loop */
void lv_outq_done(lv_outq *q);
/* Private space for n contiguous bytes (n <= 16 KiB), to be filled at once; counts `msgs` messages
 * stamped read_at (both 0 for control packets). Never NULL. @thread loop */
uint8_t *lv_outq_put(lv_outq *q, uint32_t n, uint32_t msgs, lv_mono read_at);
/* n bytes at p inside block `b`, by reference. @thread loop */
void lv_outq_ref(lv_outq *q, lv_block *b, const uint8_t *p, uint32_t n, uint32_t msgs,
                 lv_mono read_at);
/* What the messages that were queued last (put or ref, which must just have been called) come to
 * when they are delivered: it leaves with them. @thread loop */
void lv_outq_use(lv_outq *q, lv_use use);
/* Fills up to max iovecs with what is to be sent first; returns how many. @thread loop */
int lv_outq_iov(const lv_outq *q, struct iovec *iov, int max);
/* Removes n bytes that the kernel took. An entry's messages count as sent when its last byte went.
 * @thread loop */
void lv_outq_consume(lv_outq *q, uint32_t n, lv_outq_sent_fn *fn, void *arg);
/* Messages of the entry that is being sent which went out whole already, and their stamp. `whole`
 * as below. @thread loop */
uint32_t lv_outq_gone(const lv_outq *q, uint32_t (*whole)(const uint8_t *p, uint32_t n),
                      lv_mono *ret_read_at);
/* Messages that are still owed when the connection ends: those not handed whole to the kernel.
 * `whole` tells how many messages end within the first n bytes at p (an entry that was cut in the
 * middle needs it; for MQTT a walk over packet lengths). @thread loop */
uint32_t lv_outq_unsent(const lv_outq *q, uint32_t (*whole)(const uint8_t *p, uint32_t n));

/* ---- marks, for a protocol that puts something in front of what another one has queued ---- */

/* A place in a queue: its end at the time of lv_outq_mark. It holds until something is consumed. */
typedef struct lv_outq_mark {
  struct lv_outq_seg *seg; /* NULL: the queue was empty */
  uint32_t at, bytes;
} lv_outq_mark;
/* Marks the end of the queue; nothing merges across it. @thread loop */
void lv_outq_mark_end(lv_outq *q, lv_outq_mark *m);
/* Bytes that were queued since. @thread loop */
static inline uint32_t lv_outq_since(const lv_outq *q, const lv_outq_mark *m) {
  return q->bytes - m->bytes;
}
/* Puts a copy of n bytes (1 … 16) at the mark, in front of what was queued since, which must be
 * something. The mark does not hold any more. @thread loop */
void lv_outq_insert(lv_outq *q, const lv_outq_mark *m, const uint8_t *p, uint32_t n);
/* Drops what was queued since, uncounted. @thread loop */
void lv_outq_cut(lv_outq *q, const lv_outq_mark *m);

#endif
