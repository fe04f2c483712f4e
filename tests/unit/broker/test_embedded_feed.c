/* A loop that does not take its feed: what waits for it is bounded, publishing waits with it, a
 * declaration still commits, and in the end nothing is missing. */
#include "broker/embedded/embedded_int.h"
#include "broker/pub.h"
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { VALUE = 60000, TURN = 8, MESSAGES = 1600 };
static uint8_t value[VALUE];

typedef struct side {
  lv_broker *broker;
  lv_loop *loop;
  lv_feed feed;
  lv_pub *pub;
  const lv_chan *chan;
  uint32_t sent; /* by its loop */
  uint64_t last_lsn;
  _Atomic uint32_t acked, fed;
  _Atomic bool disorder;
  sem_t stuck, release, finished;
} side;

static void send_some(side *s) {
  lv_rec_in in = {.kind = LV_REC_MSG,
                  .key_off = LV_REC_NO_KEY,
                  .chan = s->chan->id,
                  .topic = LV_SLICE("t"),
                  .val = lv_slice_of(value, VALUE)};
  for (int i = 0; i < TURN && s->sent < MESSAGES; i++) {
    if (lv_pub_add(s->pub, s->chan->durability, &in, s->loop->now, NULL)) return;
    lv_pub_ack(s->pub, s->chan->durability, (lv_ack){0});
    s->sent++;
  }
}

static void on_ack(void *arg, const lv_ack *ack, int err, const lv_rec *rec) {
  (void)ack;
  side *s = arg;
  if (err || !rec) atomic_store(&s->disorder, true);
  if (atomic_fetch_add(&s->acked, 1) + 1 == MESSAGES)
    sem_post(&s->finished);
  else
    send_some(s);
}

static void on_feed(lv_loop *loop, lv_batch *batch, void *arg) {
  (void)loop;
  side *s = arg;
  for (const lv_rec *r = lv_batch_first(batch); r; r = lv_batch_next(batch, r)) {
    if (r->kind != LV_REC_MSG) continue;
    if (r->lsn <= s->last_lsn) atomic_store(&s->disorder, true);
    s->last_lsn = r->lsn;
    if (atomic_fetch_add(&s->fed, 1) + 1 == MESSAGES) sem_post(&s->finished);
  }
}

static void start_writer(lv_loop *loop, void *arg) {
  side *s = arg;
  lv_pos pos;
  s->feed = (lv_feed){.fn = on_feed, .arg = s};
  if (s->broker->ops->attach(s->broker, loop, &s->feed, &pos)) abort();
  if (lv_pub_new(loop, s->broker, 4 << 20, on_ack, s, &s->pub)) abort();
}

static void start_taker(lv_loop *loop, void *arg) {
  side *s = arg;
  lv_pos pos;
  s->feed = (lv_feed){.fn = on_feed, .arg = s};
  if (s->broker->ops->attach(s->broker, loop, &s->feed, &pos)) abort();
  (void)s->broker->ops->interest(s->broker, loop, &s->feed, true);
}

static void be_stuck(lv_loop *loop, void *arg) {
  (void)loop;
  side *s = arg;
  sem_post(&s->stuck);
  sem_wait(&s->release);
}

static void go(lv_loop *loop, void *arg) {
  (void)loop;
  send_some(arg);
}

static side *side_new(lv_broker *b, int index, void (*init)(lv_loop *, void *),
                      const lv_chan *chan) {
  side *s = calloc(1, sizeof *s);
  assert_non_null(s);
  s->broker = b;
  s->chan = chan;
  sem_init(&s->stuck, 0, 0);
  sem_init(&s->release, 0, 0);
  sem_init(&s->finished, 0, 0);
  assert_int_equal(lv_loop_new(index, &s->loop), 0);
  assert_int_equal(lv_loop_start(s->loop, init, s), 0);
  return s;
}

static void side_stop(side *s) {
  lv_loop_stop(s->loop);
  lv_pub_free(s->pub);
}

static void side_free(side *s) {
  lv_loop_free(s->loop);
  sem_destroy(&s->stuck);
  sem_destroy(&s->release);
  sem_destroy(&s->finished);
  free(s);
}

static void stuck_taker(uint8_t durability) {
  lv_disk_faults none = {.seed = 1};
  lv_disk *twin = lv_disk_fault_new(&none);
  lv_broker *b;
  lv_chan *chan, *late;
  char why[256];
  lv_embedded_conf conf = {.dir = "", .disk = twin, .tail_bytes = 1 << 20};
  assert_int_equal(lv_embedded_open(&conf, &b, why), 0);
  lv_chan_conf cc = {.app = LV_SLICE("a"), .name = LV_SLICE("c"), .durability = durability};
  assert_int_equal(b->ops->ensure(b, &cc, 0, 0, &chan), 0);
  side *taker = side_new(b, 0, start_taker, chan), *writer = side_new(b, 1, start_writer, chan);

  lv_loop_call(taker->loop, be_stuck, taker);
  sem_wait(&taker->stuck);
  lv_loop_call(writer->loop, go, writer);
  /* Until publishing is held up: the mark of it is the broker's own. */
  while (atomic_load(&lv__embedded(b)->ports_over) == 0) sched_yield();
  uint32_t acked = atomic_load(&writer->acked);
  assert_true((uint64_t)acked * VALUE <= LV_PORT_BYTES_MAX + (8u << 20));
  assert_int_equal(atomic_load(&taker->fed), 0);
  cc.name = LV_SLICE("late"); /* a declaration does not wait for the taker */
  assert_int_equal(b->ops->ensure(b, &cc, 0, 0, &late), 0);
  assert_true(atomic_load(&writer->acked) < MESSAGES);

  sem_post(&taker->release);
  sem_wait(&taker->finished);
  sem_wait(&writer->finished);
  while (atomic_load(&lv__embedded(b)->ports_over)) sched_yield(); /* released behind the last */
  assert_false(atomic_load(&taker->disorder));
  assert_false(atomic_load(&writer->disorder));
  side_stop(taker);
  side_stop(writer);
  b->ops->close(b);
  side_free(taker);
  side_free(writer);
  twin->ops->free(twin);
}

static void test_memory(void **state) {
  (void)state;
  stuck_taker(LV_DURABILITY_MEMORY);
}
static void test_disk(void **state) {
  (void)state;
  stuck_taker(LV_DURABILITY_DISK);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_memory),
      cmocka_unit_test(test_disk),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
