/* test_idem.c: the table of Idempotency-Keys by itself: what is a repeat, what comes back from
 * records, what is forgotten when. The loop's lv_pub is a real one over a broker that only counts.
 */
#include "gateway/idem.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* after the three above */
#include <cmocka.h>

enum { HOUR = 3600 };
#define NS(s) ((int64_t)(s)*1000000000)

static const char *begin(lv_idem *t, uint64_t sid, uint32_t n, uint64_t print, lv_idem_entry **e) {
  int err = lv_idem_begin(t, 0, sid, n, print, e);
  return err ? lv_err_name(err) : "";
}

static void store(lv_idem_entry *e, uint32_t i, uint64_t offset) {
  e->items[i] = (lv_idem_item){.print = 7, .offset = offset, .log = 1, .stored = true};
}

static void test_keys(void **state) {
  (void)state;
  uint64_t a = lv_idem_sid(LV_SLICE("app"), LV_SLICE("k"));
  assert_true(a && !(a & 1)); /* sessions have odd ones */
  assert_int_equal(a, lv_idem_sid(LV_SLICE("app"), LV_SLICE("k")));
  assert_int_not_equal(a, lv_idem_sid(LV_SLICE("ap"), LV_SLICE("pk")));
  assert_int_not_equal(a, lv_idem_sid(LV_SLICE("app"), LV_SLICE("l")));
  uint64_t p = lv_idem_print(LV_SLICE("ab"), LV_SLICE(""), LV_SLICE("c"));
  assert_int_not_equal(p, lv_idem_print(LV_SLICE("a"), LV_SLICE("b"), LV_SLICE("c")));
  assert_int_not_equal(p, lv_idem_print(LV_SLICE("a"), LV_SLICE(""), LV_SLICE("bc")));
}

static void test_repeats(void **state) {
  lv_idem *t = lv_idem_new();
  lv_idem_entry *e = NULL, *other = NULL;
  (void)state;
  assert_string_equal(begin(t, 2, 2, 100, &e), "");
  assert_string_equal(begin(t, 2, 2, 100, &other), "EXISTS"); /* in flight */
  assert_string_equal(begin(t, 4, 1, 100, &other), "");       /* another key */
  lv_idem_end(t, other, NS(1));                               /* nothing came of it */
  store(e, 0, 5);
  lv_idem_end(t, e, NS(1));
  assert_int_equal(lv_idem_count(t, 0), 1);
  assert_string_equal(begin(t, 2, 2, 101, &e), "PAYLOAD");
  assert_string_equal(begin(t, 2, 1, 100, &e), "PAYLOAD");
  assert_string_equal(begin(t, 2, 2, 100, &e), ""); /* completes what is missing */
  assert_true(e->items[0].stored && e->items[0].offset == 5 && !e->items[1].stored);
  store(e, 1, 6);
  lv_idem_end(t, e, NS(2));
  assert_int_equal(lv_idem_count(t, 0), 2);
  assert_string_equal(begin(t, 4, 1, 9, &e), ""); /* free again */
  lv_idem_end(t, e, NS(2));
  lv_idem_free(t);
}

static lv_block *record(uint64_t sid, uint16_t place, const char *val, int64_t at_ns,
                        const lv_rec **ret) {
  lv_rec_in in = {.kind = LV_REC_MSG,
                  .flags = 1,
                  .key_off = LV_REC_NO_KEY,
                  .packet_id = place,
                  .topic = LV_SLICE("c"),
                  .val = lv_slice_str(val),
                  .ingest_ns = at_ns,
                  .session = sid,
                  .has_session = true};
  uint32_t size;
  assert_int_equal(lv_rec_size(&in, &size), 0);
  lv_block *b = lv_block_new(size);
  lv_rec *r = lv_rec_write(&in, b->data, size);
  r->offset = 40u + place;
  *ret = r;
  return b;
}

/* After a restart the messages are known one by one; the request as a whole is not. */
static void test_replay(void **state) {
  lv_idem *t = lv_idem_new();
  lv_idem_entry *e = NULL;
  const lv_rec *r;
  (void)state;
  for (uint16_t place = 1; place <= 3; place += 2) {
    lv_block *b = record(2, place, "v", NS(10), &r);
    lv_idem_replay(t, 0, r, 1);
    lv_idem_replay(t, 0, r, 1); /* once is enough */
    lv_block_unref(b);
  }
  assert_int_equal(lv_idem_count(t, 0), 2);
  assert_string_equal(begin(t, 2, 2, 1, &e), "PAYLOAD"); /* the first one had three at least */
  assert_string_equal(begin(t, 2, 3, 1, &e), "");
  assert_true(e->items[0].stored && !e->items[1].stored && e->items[2].stored);
  assert_int_equal(e->items[2].offset, 43);
  assert_int_equal(e->items[0].print, lv_idem_print(LV_SLICE("c"), LV_SLICE(""), LV_SLICE("v")));
  lv_idem_end(t, e, NS(20));
  assert_int_equal(e->at_ns, NS(10)); /* its day began with the first message */
  lv_idem_free(t);
}

/* ---- forgetting ---- */

static uint32_t ended; /* STATE records with an empty value */

static int fake_publish(lv_broker *b, lv_batch *batch) {
  (void)b;
  for (const lv_rec *r = lv_batch_first(batch); r; r = lv_batch_next(batch, r))
    ended += r->kind == LV_REC_STATE && lv_rec_val(r).n == 0 &&
             lv_rec_topic(r).n == LV_REC_QOS2_KEY && batch->log == 1;
  return LV_E_SHUTDOWN; /* so that it comes back at once */
}

typedef struct rig {
  lv_loop *loop;
  lv_broker broker;
  lv_pub *pub;
  lv_idem *t;
} rig;

static void no_ack(void *arg, const lv_ack *ack, int err, const lv_rec *rec) {
  (void)arg, (void)ack, (void)err, (void)rec;
}

static void on_loop(lv_loop *loop, void *arg) {
  rig *r = arg;
  lv_idem_entry *e = NULL;
  assert_int_equal(lv_pub_new(loop, &r->broker, 1 << 20, no_ack, NULL, &r->pub), 0);
  for (uint32_t i = 0; i < 10; i++) {
    assert_string_equal(begin(r->t, 2 + 2 * i, 1, 1, &e), "");
    store(e, 0, i);
    lv_idem_end(r->t, e, NS(i * HOUR));
  }
  lv_idem_trim(r->t, r->pub, 0, 10, NS(23 * HOUR));
  assert_int_equal(lv_idem_count(r->t, 0), 10);
  lv_idem_trim(r->t, r->pub, 0, 7, NS(10 * HOUR)); /* above the limit: the oldest */
  assert_int_equal(lv_idem_count(r->t, 0), 7);
  assert_string_equal(begin(r->t, 8, 1, 1, &e), ""); /* the fourth is still known, and in use: */
  assert_true(e->items[0].stored);
  lv_idem_trim(r->t, r->pub, 0, 0, NS(10 * HOUR));
  assert_int_equal(lv_idem_count(r->t, 0), 7); /* it is left alone, and what is behind it waits */
  lv_idem_end(r->t, e, NS(11 * HOUR));
  lv_idem_trim(r->t, r->pub, 0, 7, NS(3 * HOUR + 24 * HOUR)); /* a day old */
  assert_int_equal(lv_idem_count(r->t, 0), 6);
  lv_idem_trim(r->t, r->pub, 5, 0, NS(0));           /* an app without any */
  assert_string_equal(begin(r->t, 8, 1, 2, &e), ""); /* forgotten: another request may have it */
  assert_false(e->items[0].stored);
  lv_idem_end(r->t, e, NS(0));
  lv_pub_submit(r->pub);
}

static void test_trim(void **state) {
  static const lv_broker_ops ops = {.type = "fake", .publish = fake_publish};
  rig r = {.broker = {.ops = &ops}, .t = lv_idem_new()};
  (void)state;
  assert_int_equal(lv_loop_new(0, &r.loop), 0);
  assert_int_equal(lv_loop_start(r.loop, NULL, NULL), 0);
  lv_loop_call_wait(r.loop, on_loop, &r);
  assert_int_equal(ended, 4);
  lv_loop_stop(r.loop);
  lv_pub_free(r.pub);
  lv_loop_free(r.loop);
  lv_idem_free(r.t);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_keys), cmocka_unit_test(test_repeats),
                                     cmocka_unit_test(test_replay), cmocka_unit_test(test_trim)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
