/* conflate.c: finds the waiting QoS 0 delivery of a topic, for `slow: conflate`.
 *
 * A queue may hold thousands of topics, and each message of a flood asks, so the queue gets a hash
 * table when it is first asked. A slot holds the number of a delivery, counted since the queue was
 * made; numbers below the queue's first are of deliveries that have left. Such slots are passed
 * over, and swept when the table is made again. Whoever removes a delivery from the middle drops
 * the table. Only queues of channels that conflate have one. @thread loop */
#include "core/hash.h"
#include "session/session_int.h"
#include <assert.h>
#include <stdlib.h>

static lv_pend *at(lv_pendq *q, uint32_t i) {
  return &q->e[(q->head + i) & q->mask];
}

static uint32_t hash_of(lv_slice topic) {
  uint64_t h = lv_hash(topic.p, topic.n);
  return (uint32_t)(h ^ h >> 32);
}

static void insert(lv_pend_index *x, uint32_t hash, uint32_t seq) {
  uint32_t i = hash & x->mask;
  while (x->slot[i].set) i = (i + 1) & x->mask;
  x->slot[i].hash = hash;
  x->slot[i].seq = seq;
  x->slot[i].set = 1;
  x->used++;
}

static void build(lv_pendq *q) {
  uint32_t cap = 32;
  while (cap < q->count * 4) cap *= 2;
  free(q->index);
  q->index = calloc(1, sizeof *q->index + cap * sizeof q->index->slot[0]);
  if (!q->index) abort();
  q->index->mask = cap - 1;
  for (uint32_t i = 0; i < q->count; i++) {
    const lv_delivery *d = &at(q, i)->d;
    if (d->qos == 0) insert(q->index, hash_of(lv_rec_topic(d->rec)), q->seq + i);
  }
}

bool lv__pend_find(lv_pendq *q, lv_slice topic, uint32_t *ret_i) {
  if (q->n_q0 == 0) return false;
  if (!q->index) build(q);
  const lv_pend_index *x = q->index;
  uint32_t hash = hash_of(topic);
  for (uint32_t i = hash & x->mask; x->slot[i].set; i = (i + 1) & x->mask) {
    uint32_t k = x->slot[i].seq - q->seq;
    if (x->slot[i].hash != hash || k >= q->count) continue;
    const lv_delivery *d = &at(q, k)->d;
    if (d->qos || !lv_slice_eq(lv_rec_topic(d->rec), topic)) continue;
    *ret_i = k;
    return true;
  }
  return false;
}

void lv__pend_index_add(lv_pendq *q, lv_slice topic) {
  assert(q->count > 0);
  if (!q->index) return;
  if ((q->index->used + 1) * 2 > q->index->mask) {
    build(q);
  } else {
    insert(q->index, hash_of(topic), q->seq + q->count - 1);
  }
}

void lv__pend_index_drop(lv_pendq *q) {
  free(q->index);
  q->index = NULL;
}
