/* block.c: blocks and batches, recycled through pools (pool.h): a loop that fills blocks and a log
 * that drops them exchange magazines of 8 blocks. Process-wide bounds: 64 × 8 blocks at rest,
 * plus 16 a thread; 64 × 32 batches. A batch at rest keeps its arrays of acks and tallies up to
 * ACKS_KEEP and TALLIES_KEEP. */
#include "core/block.h"
#include "core/pool.h"
#include <stdlib.h>

enum {
  BLOCK_MAGIC = 0x4C42B10C,
  BATCH_MAGIC = 0x4C42BA7C,
  ACKS_FIRST = 64,
  ACKS_KEEP = 2048,
  TALLIES_FIRST = 8,
  TALLIES_KEEP = 512
};

static lv_pool block_pool = {.size = sizeof(lv_block) + LV_BLOCK_SIZE,
                             .align = 16,
                             .batch = 8,
                             .shared_max = 64,
                             .lock = PTHREAD_MUTEX_INITIALIZER};
static _Thread_local lv_pool_local block_local;
static _Atomic uint64_t live_bytes;

lv_block *lv_block_new(uint32_t cap) {
  lv_block *b;
  assert(cap <= UINT32_MAX - 7);
  cap = (cap + 7) & ~7u;
  if (cap == LV_BLOCK_SIZE) {
    b = lv_pool_get(&block_pool, &block_local);
  } else {
    b = malloc(sizeof *b + cap);
    if (!b && cap < LV_BLOCK_SIZE) abort();
    if (!b) return NULL;
  }
  b->magic = BLOCK_MAGIC;
  atomic_init(&b->refs, 1);
  b->cap = cap;
  b->used = 0;
  atomic_fetch_add_explicit(&live_bytes, sizeof *b + cap, memory_order_relaxed);
  return b;
}

lv_block *lv_block_ref(lv_block *b) {
  assert(b->magic == BLOCK_MAGIC);
  uint32_t old = atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
  assert(old > 0 && old < UINT32_MAX / 2);
  return b;
}

void lv_block_unref(lv_block *b) {
  if (!b) return;
  assert(b->magic == BLOCK_MAGIC);
  uint32_t old = atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel);
  assert(old > 0);
  if (old > 1) return;
  atomic_fetch_sub_explicit(&live_bytes, sizeof *b + b->cap, memory_order_relaxed);
  b->magic = 0;
  if (b->cap == LV_BLOCK_SIZE)
    lv_pool_put(&block_pool, &block_local, b);
  else
    free(b);
}

uint64_t lv_block_bytes(void) {
  return atomic_load_explicit(&live_bytes, memory_order_relaxed);
}

static void batch_init(void *obj) {
  memset(obj, 0, sizeof(lv_batch));
}

static void batch_fini(void *obj) {
  free(((lv_batch *)obj)->acks);
  free(((lv_batch *)obj)->tally);
}

static lv_pool batch_pool = {.size = sizeof(lv_batch),
                             .align = 16,
                             .batch = 32,
                             .shared_max = 64,
                             .keep = true,
                             .init = batch_init,
                             .fini = batch_fini,
                             .lock = PTHREAD_MUTEX_INITIALIZER};
static _Thread_local lv_pool_local batch_local;

lv_batch *lv_batch_new(lv_block *block, const uint8_t *start) {
  assert(block->magic == BLOCK_MAGIC && start >= block->data && start <= block->data + block->cap);
  lv_batch *b = lv_pool_get(&batch_pool, &batch_local);
  *b = (lv_batch){.magic = BATCH_MAGIC,
                  .block = block,
                  .start = start,
                  .acks = b->acks,
                  .cap_acks = b->cap_acks,
                  .tally = b->tally,
                  .cap_tally = b->cap_tally};
  atomic_init(&b->refs, 1);
  return b;
}

lv_batch *lv_batch_ref(lv_batch *b) {
  assert(b->magic == BATCH_MAGIC);
  uint32_t old = atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
  assert(old > 0 && old < UINT32_MAX / 2);
  return b;
}

void lv_batch_unref(lv_batch *b) {
  if (!b) return;
  assert(b->magic == BATCH_MAGIC);
  uint32_t old = atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel);
  assert(old > 0);
  if (old > 1) return;
  b->magic = 0;
  lv_block_unref(b->block);
  b->block = NULL;
  if (b->cap_acks > ACKS_KEEP) {
    free(b->acks);
    b->acks = NULL;
    b->cap_acks = 0;
  }
  if (b->cap_tally > TALLIES_KEEP) {
    free(b->tally);
    b->tally = NULL;
    b->cap_tally = 0;
  }
  lv_pool_put(&batch_pool, &batch_local, b);
}

void lv_batch_ack(lv_batch *b, lv_ack ack) {
  assert(b->magic == BATCH_MAGIC);
  if (b->n_acks == b->cap_acks) {
    uint32_t cap = b->cap_acks ? b->cap_acks * 2 : ACKS_FIRST;
    lv_ack *acks = realloc(b->acks, cap * sizeof *acks);
    if (!acks) abort();
    b->acks = acks;
    b->cap_acks = cap;
  }
  b->acks[b->n_acks++] = ack;
}

static lv_tally *tally_new(lv_batch *b, uint32_t slot, uint32_t proto, uint16_t *mark) {
  if (b->n_tally == b->cap_tally) {
    uint32_t cap = b->cap_tally ? b->cap_tally * 2 : TALLIES_FIRST;
    lv_tally *t = realloc(b->tally, cap * sizeof *t);
    if (!t) abort();
    b->tally = t;
    b->cap_tally = cap;
  }
  *mark = (uint16_t)b->n_tally; /* one that does not fit is a wrong hint, no more */
  b->tally[b->n_tally] = (lv_tally){.slot = slot, .proto = proto};
  return &b->tally[b->n_tally++];
}

void lv_batch_tally(lv_batch *b, uint32_t slot, uint32_t proto, uint32_t bytes, uint16_t *mark) {
  assert(b->magic == BATCH_MAGIC);
  lv_tally *t = *mark < b->n_tally ? &b->tally[*mark] : NULL;
  if (!t || t->slot != slot || t->proto != proto) t = tally_new(b, slot, proto, mark);
  t->msgs++;
  t->bytes += bytes;
}
