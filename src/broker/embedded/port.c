/* port.c: the way back to one attached loop: live feed and completions.
 *
 *   vis of a log ──▶ ring [feed b1 | done b1 | feed b2 | …] ──one mail──▶ loop runs the ring
 *
 * One ring keeps the order in which things became visible; one mail node a port is enough, because
 * it is posted only while none is on its way; the loop swaps the ring for its spare and runs it
 * without the lock. So a commit costs one lock a loop, no allocation, and at most one wake-up.
 *
 * Bounded: when the feed that waits for a loop exceeds LV_PORT_BYTES_MAX, publishing stops (batches
 * stay queued with their loops' own bounds) until it has fallen to half. */
#include "broker/embedded/embedded_int.h"
#include <stdlib.h>

enum { PORT_FIRST_CAP = 64 };

/* To every taker; what waited when an interest ended is older than where it began again. */
static void give(lv_port *p, lv_batch *b, bool more) {
  for (uint32_t i = 0; i < p->n_feeds; i++) {
    lv_feed *f = p->feed[i];
    f->more = more;
    if (f->on && b->lsn_end > f->from.lsn[b->log]) f->fn(p->loop, b, f->arg);
  }
}

static void port_run(lv_loop *loop, lv_mail *mail) {
  lv_port *p = (lv_port *)mail;
  (void)loop;
  pthread_mutex_lock(&p->mu);
  uintptr_t *ring = p->ring;
  uint32_t n = p->n, cap = p->cap;
  p->ring = p->spare;
  p->cap = p->spare_cap;
  p->spare = ring;
  p->spare_cap = cap;
  p->n = 0;
  p->posted = false;
  pthread_mutex_unlock(&p->mu);
  uint64_t fed = 0;
  uint32_t last = n;
  while (last > 0 && ring[last - 1] & 1) last--; /* behind the last of the feed */
  for (uint32_t i = 0; i < n; i++) {
    lv_batch *b = (lv_batch *)(ring[i] & ~(uintptr_t)1);
    if (ring[i] & 1) {
      b->done(b);
    } else {
      fed += b->bytes;
      give(p, b, i + 1 < last);
    }
    lv_batch_unref(b);
  }
  pthread_mutex_lock(&p->mu);
  p->feed_bytes -= fed;
  bool released = p->over && p->feed_bytes <= LV_PORT_BYTES_MAX / 2;
  if (released) p->over = false;
  pthread_mutex_unlock(&p->mu);
  if (released && atomic_fetch_sub(&p->b->ports_over, 1) == 1)
    for (int i = 0; i < LV_DURABILITY_COUNT; i++) lv__lane_kick(&p->b->lane[i]);
}

static int attach_more(lv_port *p, lv_feed *feed) {
  if (p->n_feeds == LV_FEEDS_MAX) return LV_E_QUOTA;
  p->feed[p->n_feeds++] = feed;
  return 0;
}

int lv__port_attach(lv_embedded *b, lv_loop *loop, lv_feed *feed) {
  assert(loop->index >= 0 && loop->index < LV_LOOPS_MAX);
  feed->on = false;
  lv_port *p = atomic_load(&b->port[loop->index]);
  if (p) return attach_more(p, feed);
  p = calloc(1, sizeof *p);
  if (!p) return LV_E_NOMEM;
  p->mail.run = port_run;
  p->b = b;
  p->loop = loop;
  p->feed[p->n_feeds++] = feed;
  pthread_mutex_init(&p->mu, NULL);
  p->cap = p->spare_cap = PORT_FIRST_CAP;
  p->ring = malloc(p->cap * sizeof *p->ring);
  p->spare = malloc(p->spare_cap * sizeof *p->spare);
  if (!p->ring || !p->spare) abort();
  atomic_store(&b->port[loop->index], p);
  int n = atomic_load(&b->n_ports);
  while (n <= loop->index && !atomic_compare_exchange_weak(&b->n_ports, &n, loop->index + 1)) {
  }
  return 0;
}

void lv__port_interest(lv_port *p, lv_feed *feed, bool on, lv_pos from) {
  if (feed->on == on) return;
  feed->on = on;
  if (on) feed->from = from;
  p->n_on += on ? 1 : UINT32_MAX;
  pthread_mutex_lock(&p->mu);
  if (on && p->n_on == 1) atomic_fetch_add(&p->b->n_interested, 1);
  if (p->n_on == 0) atomic_fetch_sub(&p->b->n_interested, 1);
  p->interested = p->n_on > 0;
  pthread_mutex_unlock(&p->mu);
}

static void push(lv_port *p, lv_batch *b, uintptr_t tag) {
  if (p->n == p->cap) {
    p->cap *= 2;
    p->ring = realloc(p->ring, p->cap * sizeof *p->ring);
    if (!p->ring) abort();
  }
  p->ring[p->n++] = (uintptr_t)lv_batch_ref(b) | tag;
}

/* True when its mail has to be posted. */
static bool hand_one(lv_embedded *b, lv_port *p, lv_batch *list) {
  pthread_mutex_lock(&p->mu);
  for (lv_batch *x = list; x; x = x->next) {
    if (p->interested && x->err == 0 && x->bytes) {
      push(p, x, 0);
      p->feed_bytes += x->bytes;
    }
    if (x->loop == p->loop) push(p, x, 1);
  }
  bool post = p->n > 0 && !p->posted;
  if (post) p->posted = true;
  if (!p->over && p->feed_bytes > LV_PORT_BYTES_MAX) {
    p->over = true;
    atomic_fetch_add(&b->ports_over, 1);
  }
  pthread_mutex_unlock(&p->mu);
  return post;
}

void lv__port_hand(lv_embedded *b, lv_batch *list) {
  bool closing = atomic_load_explicit(&b->closing, memory_order_relaxed);
  int n = atomic_load_explicit(&b->n_ports, memory_order_acquire);
  for (int i = 0; i < n; i++) {
    lv_port *p = atomic_load_explicit(&b->port[i], memory_order_acquire);
    if (p && hand_one(b, p, list) && !closing) lv_loop_post(p->loop, &p->mail);
  }
}

uint64_t lv__port_waiting(lv_embedded *b) {
  uint64_t bytes = 0;
  int n = atomic_load_explicit(&b->n_ports, memory_order_acquire);
  for (int i = 0; i < n; i++) {
    lv_port *p = atomic_load_explicit(&b->port[i], memory_order_acquire);
    if (!p) continue;
    pthread_mutex_lock(&p->mu);
    bytes += p->feed_bytes;
    pthread_mutex_unlock(&p->mu);
  }
  return bytes;
}

void lv__port_free(lv_port *p) {
  if (!p) return;
  for (uint32_t i = 0; i < p->n; i++) {
    lv_batch *b = (lv_batch *)(p->ring[i] & ~(uintptr_t)1);
    if (p->ring[i] & 1) b->done(b);
    lv_batch_unref(b);
  }
  free(p->ring);
  free(p->spare);
  pthread_mutex_destroy(&p->mu);
  free(p);
}
