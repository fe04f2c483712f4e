/* test_embedded_usage.c: what was published is metered exactly, whatever the crash: a book that is
 * stored now and then (sums and address together), plus what the log holds behind it, against the
 * log itself, over many kills and power losses in the middle of publishing. */
#include "broker/embedded/embedded_int.h"
#include "broker/pub.h"
#include "core/rand.h"
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { APPS = 2, CHANS = 4, TURN = 5, QUEUE = 1 << 20 };
static uint8_t value[12000];

/* Who publishes: an endless stream to all channels, in turns. */
typedef struct side {
  lv_broker *broker;
  lv_loop *loop;
  lv_feed feed;
  lv_pub *pub;
  lv_rand rand;
  lv_chan *chan[CHANS];
  uint32_t open; /* not answered yet */
  _Atomic uint32_t acked, failed;
  _Atomic uint64_t acked_steps[LV_DURABILITY_COUNT], offered_steps[LV_DURABILITY_COUNT];
  _Atomic bool stop;
} side;

static uint32_t size_of(lv_rand *r) {
  return lv_rand_chance(r, 0.2) ? (uint32_t)lv_rand_below(r, sizeof value)
                                : (uint32_t)lv_rand_below(r, 200);
}

static void send_some(side *s) {
  for (int i = 0; i < TURN && !atomic_load(&s->stop); i++) {
    const lv_chan *c = s->chan[lv_rand_below(&s->rand, CHANS)];
    uint32_t n = size_of(&s->rand), steps = lv_use_steps(2 + n);
    lv_rec_in in = {.kind = LV_REC_MSG,
                    .key_off = 2,
                    .chan = c->id,
                    .topic = LV_SLICE("t/k"),
                    .ingest_ns = 1,
                    .val = lv_slice_of(value, n)};
    if (lv_pub_add(s->pub, c->durability, &in, s->loop->now, NULL)) return;
    atomic_fetch_add(&s->offered_steps[c->durability], steps);
    s->open++;
    lv_pub_ack(s->pub, c->durability, (lv_ack){.gen = steps, .flags = c->durability});
  }
}

static void on_ack(void *arg, const lv_ack *ack, int err, const lv_rec *rec) {
  side *s = arg;
  (void)rec;
  s->open--;
  if (!err) {
    atomic_fetch_add(&s->acked_steps[ack->flags], ack->gen);
    atomic_fetch_add(&s->acked, 1);
  } else {
    atomic_fetch_add(&s->failed, 1);
  }
  if (s->open < TURN) send_some(s);
}

static void start(lv_loop *loop, void *arg) {
  side *s = arg;
  lv_pos pos;
  if (s->broker->ops->attach(s->broker, loop, &s->feed, &pos)) abort();
  if (lv_pub_new(loop, s->broker, QUEUE, on_ack, s, &s->pub)) abort();
}

static void go(lv_loop *loop, void *arg) {
  (void)loop;
  send_some(arg);
}

/* ---- the book ---- */

typedef struct book {                        /* as a store would hold it */
  lv_use_sum app[APPS][LV_DURABILITY_COUNT]; /* up to: */
  uint64_t lsn[LV_DURABILITY_COUNT];
} book;

static uint32_t app_of(lv_slice app) {
  assert_int_equal(app.n, 2);
  return app.p[1] - '0';
}

typedef struct reading {
  book *b;
  const book *opened; /* as it was when the logs were opened */
  uint8_t log;
} reading;

static void on_app(void *arg, lv_slice app, lv_use_sum sum) {
  reading *r = arg;
  lv_use_sum *dst = &r->b->app[app_of(app)][r->log];
  const lv_use_sum *from = &r->opened->app[app_of(app)][r->log];
  dst->steps = from->steps + sum.steps;
  dst->bytes = from->bytes + sum.bytes;
}

/* One transaction for each log. */
static void note(lv_broker *b, book *stored, const book *opened) {
  for (uint8_t log = 0; log < LV_DURABILITY_COUNT; log++) {
    book next = *stored;
    reading r = {&next, opened, log};
    lv_embedded_usage(b, log, on_app, &r, &next.lsn[log]);
    *stored = next;
  }
}

static void on_rec(void *arg, lv_slice app, const lv_rec *rec) {
  reading *r = arg;
  lv_use_add(&r->b->app[app_of(app)][r->log], lv_use_of(rec));
}

static void read_on(lv_broker *b, book *stored) {
  lv_pos pos = b->ops->visible(b);
  for (uint8_t log = 0; log < LV_DURABILITY_COUNT; log++) {
    reading r = {stored, NULL, log};
    assert_int_equal(lv_embedded_usage_since(b, log, stored->lsn[log], on_rec, &r), 0);
    stored->lsn[log] = pos.lsn[log];
  }
}

/* ---- what the log says, read by itself ---- */

static lv_use_sum held(lv_broker *base, uint8_t log) {
  lv_elog *l = lv__embedded(base)->lane[log].elog;
  lv_use_sum sum = {0, 0};
  uint64_t at = lv_elog_oldest(l), end = lv_elog_end(l), next;
  while (at < end) {
    lv_block *block;
    uint32_t bytes;
    assert_int_equal(lv_elog_scan(l, at, end, 1 << 18, &block, &bytes, &next), 0);
    for (uint32_t i = 0; i < bytes;) {
      const lv_rec *rec = (const lv_rec *)(const void *)(block->data + i);
      if (rec->kind == LV_REC_MSG) {
        uint32_t n = 2 + lv_rec_val(rec).n; /* "t", "k" */
        sum.steps += n <= 5120 ? 1 : (n + 5119) / 5120;
        sum.bytes += n;
      }
      i += rec->size;
    }
    lv_block_unref(block);
    at = next;
  }
  return sum;
}

static lv_use_sum charged(const book *b, uint8_t log) {
  lv_use_sum sum = {0, 0};
  for (int i = 0; i < APPS; i++) {
    sum.steps += b->app[i][log].steps;
    sum.bytes += b->app[i][log].bytes;
  }
  return sum;
}

/* ---- rounds ---- */

static lv_broker *open_on(lv_disk *disk, side *s) {
  lv_broker *b;
  char why[256];
  lv_embedded_conf conf = {.dir = "", .disk = disk, .tail_bytes = 1 << 20};
  assert_int_equal(lv_embedded_open(&conf, &b, why), 0);
  for (uint32_t i = 0; i < CHANS; i++) {
    char name[2] = {(char)('a' + i), 0}, app[3] = {'a', (char)('0' + i % APPS), 0};
    lv_chan_conf cc = {.app = lv_slice_str(app),
                       .name = lv_slice_str(name),
                       .durability = i < CHANS / 2 ? LV_DURABILITY_DISK : LV_DURABILITY_MEMORY};
    assert_int_equal(b->ops->ensure(b, &cc, i % APPS, 0, &s->chan[i]), 0);
  }
  return b;
}

/* Publishes, notes now and then, and dies in the middle: by a kill, or by power loss. */
static void round_of(lv_disk *disk, lv_rand *r, book *stored, bool power, side *total) {
  side *s = calloc(1, sizeof *s);
  assert_non_null(s);
  lv_rand_init(&s->rand, lv_rand_below(r, 1 << 30));
  lv_broker *b = s->broker = open_on(disk, s);
  read_on(b, stored);
  book opened = *stored;
  assert_int_equal(lv_loop_new(0, &s->loop), 0);
  assert_int_equal(lv_loop_start(s->loop, start, s), 0);
  lv_loop_call(s->loop, go, s);
  for (uint32_t i = 0, notes = (uint32_t)lv_rand_below(r, 4); i < notes; i++) {
    uint32_t upto = atomic_load(&s->acked) + (uint32_t)lv_rand_below(r, 400);
    while (atomic_load(&s->acked) < upto) sched_yield();
    note(b, stored, &opened);
  }
  lv_disk_fault_halt(disk, 1 + (uint32_t)lv_rand_below(r, 60));
  while (!lv_disk_fault_halted(disk)) sched_yield();
  if (lv_rand_chance(r, 0.5)) note(b, stored, &opened); /* it was not dead yet */
  atomic_store(&s->stop, true);
  lv_loop_stop(s->loop);
  lv_pub_free(s->pub);
  lv__embedded_abandon(b);
  for (int log = 0; log < LV_DURABILITY_COUNT; log++) {
    total->acked_steps[log] += s->acked_steps[log];
    total->offered_steps[log] += s->offered_steps[log];
  }
  lv_loop_free(s->loop);
  free(s);
  lv_disk_fault_halt(disk, 0);
  if (power)
    lv_disk_fault_crash(disk);
  else
    lv_disk_fault_kill(disk);
}

static void crashes(bool power, uint64_t seed) {
  lv_disk_faults none = {.seed = seed};
  lv_disk *disk = lv_disk_fault_new(&none);
  lv_rand r;
  book stored = {0};
  side total = {0}, last = {0};
  lv_rand_init(&r, seed);
  for (int i = 0; i < 12; i++) round_of(disk, &r, &stored, power && i % 2, &total);
  lv_broker *b = open_on(disk, &last);
  read_on(b, &stored);
  for (uint8_t log = 0; log < LV_DURABILITY_COUNT; log++) {
    lv_use_sum have = held(b, log), book_says = charged(&stored, log);
    bool lossy = power && log == LV_DURABILITY_MEMORY; /* power loss takes what was visible */
    assert_true(book_says.steps >= total.acked_steps[log] || lossy);
    assert_true(book_says.steps <= total.offered_steps[log]);
    assert_true(book_says.steps > 100);
    if (lossy) {
      assert_true(book_says.steps >= have.steps);
    } else {
      assert_int_equal(book_says.steps, have.steps);
      assert_int_equal(book_says.bytes, have.bytes);
    }
  }
  b->ops->close(b);
  disk->ops->free(disk);
}

static void test_kill(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 4; seed++) crashes(false, seed);
}
static void test_power(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 4; seed++) crashes(true, seed);
}

static void count_stored(void *arg, const lv_chan *chan, uint64_t bytes) {
  uint64_t *by_chan = arg;
  by_chan[chan->name.p[0] - 'a'] = bytes;
}

/* Stored bytes are there once something is, and gone with the last message. */
static void test_stored(void **state) {
  lv_disk_faults none = {.seed = 9};
  lv_disk *disk = lv_disk_fault_new(&none);
  uint64_t bytes[CHANS] = {0};
  side s = {0};
  (void)state;
  lv_rand_init(&s.rand, 9);
  lv_broker *b = s.broker = open_on(disk, &s);
  lv_embedded_stored(b, count_stored, bytes);
  for (int i = 0; i < CHANS; i++) assert_int_equal(bytes[i], 0);
  assert_int_equal(lv_loop_new(0, &s.loop), 0);
  assert_int_equal(lv_loop_start(s.loop, start, &s), 0);
  lv_loop_call(s.loop, go, &s);
  while (atomic_load(&s.acked) < 500) sched_yield();
  atomic_store(&s.stop, true);
  lv_loop_stop(s.loop);
  lv_embedded_stored(b, count_stored, bytes);
  for (int i = 0; i < CHANS; i++) assert_true(bytes[i] > 50 * LV_REC_HEAD);
  lv_pub_free(s.pub);
  b->ops->close(b);
  lv_loop_free(s.loop);
  disk->ops->free(disk);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_kill),
      cmocka_unit_test(test_power),
      cmocka_unit_test(test_stored),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
