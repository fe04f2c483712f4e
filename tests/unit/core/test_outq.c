/* test_outq.c: the send queue against a naive model, its merging rules, blocks and batches. */
#include "core/outq.h"
#include "core/rand.h"
#include "unit.h"
#include <pthread.h>
#include <stdlib.h>

/* Packets describe themselves, so that both sides can count: kind (1: message), length, filler. */
enum { HEAD = 3, ALL_MAX = 1 << 20, MSGS_MAX = 1 << 16 };

static uint32_t packets(lv_rand *r, uint8_t *p, uint32_t n) {
  uint32_t msgs = 0;
  while (n > 0) {
    uint32_t body = n < HEAD + 40 ? n - HEAD : (uint32_t)lv_rand_below(r, 30);
    p[0] = lv_rand_chance(r, 0.7);
    p[1] = (uint8_t)body;
    p[2] = (uint8_t)(body >> 8);
    lv_rand_fill(r, p + HEAD, body);
    msgs += p[0];
    p += HEAD + body;
    n -= HEAD + body;
  }
  return msgs;
}

static uint32_t whole(const uint8_t *p, uint32_t n) {
  uint32_t msgs = 0;
  while (n >= HEAD) {
    uint32_t len = HEAD + p[1] + ((uint32_t)p[2] << 8);
    if (len > n) break;
    msgs += p[0];
    p += len;
    n -= len;
  }
  return msgs;
}

typedef struct model {
  uint8_t *all; /* every byte ever queued */
  uint32_t n, consumed;
  int64_t *read_at; /* of each message ever queued */
  uint32_t msgs, reported;
  uint32_t edge, gone; /* last packet edge at or before `consumed`; messages up to it */
  bool bad;
} model;

static void on_sent(void *arg, uint32_t n, lv_mono read_at, lv_use use) {
  model *m = arg;
  if (n == 0) m->bad = true;
  for (uint32_t i = 0; i < n; i++) {
    use.steps -= m->reported;
    use.bytes -= 3 * m->reported;
    if (m->read_at[m->reported++] != read_at.ns) m->bad = true;
  }
  if (use.steps || use.bytes) m->bad = true;
}

static void queue_some(lv_rand *r, model *m, lv_outq *q, lv_block **blk, int64_t now) {
  uint32_t n =
      (uint32_t)(HEAD + lv_rand_below(r, lv_rand_chance(r, 0.05) ? 16 * 1024 - HEAD : 120));
  uint8_t *dst = m->all + m->n;
  uint32_t msgs = packets(r, dst, n);
  lv_mono at = {msgs ? now : 0};
  if (lv_rand_chance(r, 0.5)) {
    memcpy(lv_outq_put(q, n, msgs, at), dst, n);
  } else {
    if ((*blk)->used + n > (*blk)->cap) {
      lv_block_unref(*blk);
      *blk = lv_block_new(LV_BLOCK_SIZE);
    }
    uint8_t *p = (*blk)->data + (*blk)->used;
    memcpy(p, dst, n);
    (*blk)->used += n + (lv_rand_chance(r, 0.2) ? 8 : 0);
    if ((*blk)->used > (*blk)->cap) (*blk)->used = (*blk)->cap;
    lv_outq_ref(q, *blk, p, n, msgs, at);
  }
  for (uint32_t i = 0; i < msgs; i++) { /* the n-th message is n steps, of 3 bytes each */
    lv_outq_use(q, (lv_use){m->msgs, 3 * m->msgs});
    m->read_at[m->msgs++] = now;
  }
  m->n += n;
}

/* Messages that went whole, by the model. */
static uint32_t gone_whole(model *m) {
  while (m->edge + HEAD <= m->consumed) {
    const uint8_t *p = m->all + m->edge;
    uint32_t len = HEAD + p[1] + ((uint32_t)p[2] << 8);
    if (m->edge + len > m->consumed) break;
    m->gone += p[0];
    m->edge += len;
  }
  return m->gone;
}

static void check_queue(model *m, const lv_outq *q) {
  struct iovec iov[64];
  uint32_t at = m->consumed;
  assert_int_equal(q->bytes, m->n - m->consumed);
  int k = lv_outq_iov(q, iov, COUNT_OF(iov));
  for (int i = 0; i < k; i++) {
    assert_true(iov[i].iov_len > 0);
    assert_memory_equal(iov[i].iov_base, m->all + at, iov[i].iov_len);
    at += (uint32_t)iov[i].iov_len;
  }
  if (k < (int)COUNT_OF(iov)) assert_int_equal(at, m->n);
  assert_int_equal(q->msgs, m->msgs - m->reported);
  uint32_t gone = gone_whole(m);
  assert_true(m->reported <= gone);
  assert_int_equal(lv_outq_unsent(q, whole), m->msgs - gone);
  if (q->bytes == 0) {
    assert_null(q->head);
    assert_int_equal(m->reported, m->msgs);
  }
}

static void against_model(void **state) {
  for (uint64_t seed = 1; seed <= 12; seed++) {
    lv_rand r;
    model m = {.all = malloc(ALL_MAX), .read_at = malloc(MSGS_MAX * sizeof(int64_t))};
    lv_outq q;
    lv_block *blk = lv_block_new(LV_BLOCK_SIZE);
    int64_t now = 1;
    lv_rand_init(&r, seed);
    lv_outq_init(&q);
    while (m.n < ALL_MAX - 20000) {
      if (lv_rand_chance(&r, 0.3)) now++;
      if (lv_rand_chance(&r, 0.6)) {
        queue_some(&r, &m, &q, &blk, now);
      } else if (q.bytes) {
        uint32_t n = lv_rand_chance(&r, 0.2) ? q.bytes : (uint32_t)lv_rand_below(&r, 400);
        if (n > q.bytes) n = q.bytes;
        m.consumed += n;
        lv_outq_consume(&q, n, on_sent, &m);
      }
      check_queue(&m, &q);
    }
    assert_false(m.bad);
    lv_outq_done(&q);
    assert_int_equal(atomic_load(&blk->refs), 1);
    lv_block_unref(blk);
    free(m.all);
    free(m.read_at);
  }
}

static int entries(const lv_outq *q) {
  struct iovec iov[64];
  return lv_outq_iov(q, iov, COUNT_OF(iov));
}

static void merging(void **state) {
  lv_outq q;
  lv_block *b = lv_block_new(LV_BLOCK_SIZE), *b2 = lv_block_new(LV_BLOCK_SIZE);
  const lv_mono t1 = {1}, t2 = {2}, none = {0};
  lv_outq_init(&q);
  lv_outq_ref(&q, b, b->data, 10, 1, t1);
  lv_outq_ref(&q, b, b->data + 10, 10, 1, t1);
  assert_int_equal(entries(&q), 1);
  assert_int_equal(atomic_load(&b->refs), 2);
  lv_outq_ref(&q, b, b->data + 20, 10, 1, t2); /* another read time */
  assert_int_equal(entries(&q), 2);
  lv_outq_ref(&q, b, b->data + 40, 10, 1, t2); /* a gap */
  assert_int_equal(entries(&q), 3);
  lv_outq_ref(&q, b2, b2->data, 10, 1, t2); /* another block */
  assert_int_equal(entries(&q), 4);
  lv_outq_put(&q, 2, 0, none); /* private */
  lv_outq_put(&q, 2, 0, none);
  assert_int_equal(entries(&q), 5);
  lv_outq_put(&q, 9, 1, t1); /* control packets take the time of the message that follows */
  lv_outq_put(&q, 2, 0, none);
  assert_int_equal(entries(&q), 5);
  lv_outq_put(&q, 9, 1, t2);
  assert_int_equal(entries(&q), 6);
  assert_int_equal(q.msgs, 7);
  lv_outq_done(&q);
  assert_null(q.head);
  assert_int_equal(q.bytes, 0);
  lv_outq_done(&q); /* twice is fine */
  assert_int_equal(atomic_load(&b->refs), 1);
  lv_block_unref(b);
  lv_block_unref(b2);
}

/* A put between two refs does not lose the rest of its chunk. */
static void alternating(void **state) {
  lv_outq q;
  lv_block *b = lv_block_new(LV_BLOCK_SIZE);
  lv_outq_init(&q);
  uint8_t *first = lv_outq_put(&q, 100, 0, (lv_mono){0}), *last = first;
  for (uint32_t i = 1; i < 20; i++) {
    lv_outq_ref(&q, b, b->data + 16 * i, 8, 1, (lv_mono){1});
    last = lv_outq_put(&q, 100, 0, (lv_mono){0});
    if (i < 19) assert_ptr_equal(last, first + 100 * i);
  }
  assert_int_equal(entries(&q), 39);
  assert_int_equal(atomic_load(&b->refs), 20);
  lv_outq_consume(&q, q.bytes, NULL, NULL);
  assert_null(q.head);
  assert_int_equal(atomic_load(&b->refs), 1);
  lv_block_unref(b);
}

static void blocks(void **state) {
  uint64_t before = lv_block_bytes();
  lv_block *b = lv_block_new(LV_BLOCK_SIZE), *odd = lv_block_new(13), *big = lv_block_new(1 << 20);
  assert_int_equal(odd->cap, 16);
  assert_int_equal((uintptr_t)b->data % 16, 0);
  assert_int_equal(lv_block_bytes() - before, LV_BLOCK_SIZE + 16 + (1 << 20) + 3 * sizeof *b);
  b->used = 100;
  assert_ptr_equal(lv_block_ref(b), b);
  lv_block_unref(b);
  lv_block_unref(b);
  lv_block *again = lv_block_new(LV_BLOCK_SIZE);
  assert_ptr_equal(again, b); /* recycled, and clean */
  assert_int_equal(again->used, 0);
  assert_int_equal(atomic_load(&again->refs), 1);
  lv_block_unref(again);
  lv_block_unref(odd);
  lv_block_unref(big);
  lv_block_unref(NULL);
  assert_true(lv_block_bytes() == before);
}

static void batches(void **state) {
  lv_block *b = lv_block_new(LV_BLOCK_SIZE);
  lv_batch *t = lv_batch_new(lv_block_ref(b), b->data);
  lv_rec_in in = {.kind = LV_REC_MSG, .key_off = LV_REC_NO_KEY, .val = LV_SLICE("0123456789")};
  uint32_t size;
  assert_int_equal(lv_rec_size(&in, &size), 0);
  for (uint32_t i = 0; i < 3; i++, t->count++, t->bytes += size, b->used += size)
    lv_rec_write(&in, b->data + b->used, size)->chan = i;
  uint32_t seen = 0;
  for (lv_rec *r = lv_batch_first(t); r; r = lv_batch_next(t, r)) assert_int_equal(r->chan, seen++);
  assert_int_equal(seen, 3);
  for (uint32_t i = 0; i < 5000; i++)
    lv_batch_ack(t, (lv_ack){.packet_id = (uint16_t)i, .index = i});
  assert_int_equal(t->n_acks, 5000);
  for (uint32_t i = 0; i < 5000; i++) assert_int_equal(t->acks[i].index, i);
  lv_batch_ref(t);
  lv_batch_unref(t);
  assert_int_equal(atomic_load(&b->refs), 2);
  lv_batch_unref(t);
  assert_int_equal(atomic_load(&b->refs), 1);
  lv_batch *next = lv_batch_new(b, b->data);
  assert_int_equal(next->n_acks, 0);
  assert_int_equal(next->count, 0);
  assert_null(next->done);
  lv_batch_unref(next);
  lv_batch_unref(NULL);
}

/* One thread makes blocks, another drops them: they come back through the shared magazines. */
enum { RING = 64, ROUNDS = 20000 };
static struct {
  pthread_mutex_t lock;
  pthread_cond_t cond;
  lv_block *ring[RING];
  uint32_t in, out;
} pipe_ = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

static void *consumer(void *arg) {
  for (uint32_t i = 0; i < ROUNDS; i++) {
    pthread_mutex_lock(&pipe_.lock);
    while (pipe_.in == pipe_.out) pthread_cond_wait(&pipe_.cond, &pipe_.lock);
    lv_block *b = pipe_.ring[pipe_.out++ % RING];
    pthread_cond_signal(&pipe_.cond);
    pthread_mutex_unlock(&pipe_.lock);
    if (b->data[7] != (uint8_t)i) abort();
    lv_block_unref(b);
  }
  return NULL;
}

static int by_address(const void *a, const void *b) {
  uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
  return (x > y) - (x < y);
}

static void across_threads(void **state) {
  pthread_t t;
  uintptr_t *seen = malloc(ROUNDS * sizeof *seen);
  uint64_t before = lv_block_bytes();
  assert_int_equal(pthread_create(&t, NULL, consumer, NULL), 0);
  for (uint32_t i = 0; i < ROUNDS; i++) {
    lv_block *b = lv_block_new(LV_BLOCK_SIZE);
    seen[i] = (uintptr_t)b;
    b->data[7] = (uint8_t)i;
    pthread_mutex_lock(&pipe_.lock);
    while (pipe_.in - pipe_.out == RING) pthread_cond_wait(&pipe_.cond, &pipe_.lock);
    pipe_.ring[pipe_.in++ % RING] = b;
    pthread_cond_signal(&pipe_.cond);
    pthread_mutex_unlock(&pipe_.lock);
  }
  pthread_join(t, NULL);
  assert_true(lv_block_bytes() == before);
  qsort(seen, ROUNDS, sizeof *seen, by_address);
  uint32_t distinct = 1;
  for (uint32_t i = 1; i < ROUNDS; i++) distinct += seen[i] != seen[i - 1];
  assert_true(distinct < 400); /* not one allocation a block */
  free(seen);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(against_model), cmocka_unit_test(merging), cmocka_unit_test(alternating),
      cmocka_unit_test(blocks),        cmocka_unit_test(batches), cmocka_unit_test(across_threads),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
