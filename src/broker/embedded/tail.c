/* tail.c: the recent visible records of one log, kept in the blocks in which they were published.
 *
 *   ring (by lsn, ascending):  [block, start, bytes, lsn … lsn_end] [ … ] [ … ]
 *
 * Nothing is copied: an entry is a range of a block with one reference. A batch that continues the
 * newest entry (same block, same address) extends it. Small batches of several loops share their
 * loops' blocks, so memory is charged when a loop's block first appears; an entry takes its charge
 * along when it is dropped, which may be up to a block a loop early. The bound is on the sum of
 * charges; the newest entry is always kept.
 *
 * @thread under the lane's vis. */
#include "broker/embedded/embedded_int.h"
#include <stdlib.h>

enum { TAIL_FIRST_CAP = 256 };

void lv__tail_init(lv_tail *t, uint64_t bytes_max, uint64_t first) {
  *t = (lv_tail){.bytes_max = bytes_max, .first = first, .cap = TAIL_FIRST_CAP};
  t->ring = calloc(t->cap, sizeof *t->ring);
  if (!t->ring) abort();
}

static lv_tail_ent *ent(const lv_tail *t, uint32_t i) {
  return &t->ring[(t->head + i) & (t->cap - 1)];
}

static void drop_oldest(lv_tail *t) {
  lv_tail_ent *e = ent(t, 0);
  t->bytes -= e->charge;
  t->first = e->lsn_end;
  lv_block_unref(e->block);
  t->head = (t->head + 1) & (t->cap - 1);
  t->n--;
}

void lv__tail_done(lv_tail *t) {
  while (t->n) drop_oldest(t);
  free(t->ring);
  t->ring = NULL;
}

void lv__tail_clear(lv_tail *t, uint64_t first) {
  while (t->n) drop_oldest(t);
  memset(t->last, 0, sizeof t->last);
  t->first = first;
}

static void grow(lv_tail *t) {
  lv_tail_ent *ring = calloc((size_t)t->cap * 2, sizeof *ring);
  if (!ring) abort();
  for (uint32_t i = 0; i < t->n; i++) ring[i] = *ent(t, i);
  free(t->ring);
  t->ring = ring;
  t->head = 0;
  t->cap *= 2;
}

void lv__tail_add(lv_tail *t, const lv_batch *b, int origin) {
  assert(b->bytes > 0 && origin <= LV_LOOPS_MAX);
  uint64_t lsn = lv_batch_first(b)->lsn;
  if (t->n) {
    lv_tail_ent *e = ent(t, t->n - 1);
    assert(lsn >= e->lsn_end);
    if (e->block == b->block && e->start + e->bytes == b->start && e->lsn_end == lsn) {
      e->bytes += b->bytes;
      e->lsn_end = b->lsn_end;
      return;
    }
  }
  if (t->n == t->cap) grow(t);
  uint32_t charge = sizeof(lv_tail_ent);
  if (t->last[origin] != b->block) charge += b->block->cap;
  t->last[origin] = b->block;
  t->bytes += charge;
  *ent(t, t->n++) = (lv_tail_ent){.block = lv_block_ref(b->block),
                                  .start = b->start,
                                  .bytes = b->bytes,
                                  .charge = charge,
                                  .lsn = lsn,
                                  .lsn_end = b->lsn_end};
  while (t->n > 1 && t->bytes > t->bytes_max) drop_oldest(t);
}

bool lv__tail_view(lv_tail *t, uint64_t from, uint64_t until, uint32_t max, lv_tail_ent *ret,
                   uint32_t *ret_n) {
  if (from < t->first) return false;
  uint32_t lo = 0, hi = t->n; /* first entry that ends behind `from` */
  while (lo < hi) {
    uint32_t mid = lo + (hi - lo) / 2;
    if (ent(t, mid)->lsn_end <= from)
      lo = mid + 1;
    else
      hi = mid;
  }
  uint32_t n = 0;
  for (; lo < t->n && n < max && ent(t, lo)->lsn < until; lo++) {
    ret[n] = *ent(t, lo);
    lv_block_ref(ret[n++].block);
  }
  *ret_n = n;
  return true;
}
