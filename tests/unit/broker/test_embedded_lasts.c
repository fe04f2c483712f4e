/* Unit test of the last message of each key (lasts.c): a random run against a plain model, in both
 * logs, with bounds, keys that are taken away, retention that drops what it may, and reopening. */
#include "broker/embedded/embedded_int.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { KEYS = 40, MOST = 25, VALUE = 600, SEGMENT = 64 * 1024 };

static char dir[64];

static int make_dir(void **state) {
  snprintf(dir, sizeof dir, "/tmp/lavva-unit-XXXXXX");
  return mkdtemp(dir) ? 0 : -1;
}

static int remove_one(void *arg, const char *name) {
  lv_disk *d = arg;
  return d->ops->remove(d, name);
}

static int drop_dir(void **state) {
  lv_disk *d;
  if (lv_disk_file_new(dir, &d)) return -1;
  (void)d->ops->list(d, remove_one, d);
  d->ops->free(d);
  return rmdir(dir);
}

typedef struct model { /* of one channel: the keys' last messages, oldest first */
  uint32_t key[KEYS], seq[KEYS], n;
} model;

static void model_take_away(model *m, uint32_t key) {
  for (uint32_t i = 0; i < m->n; i++) {
    if (m->key[i] != key) continue;
    m->n--;
    memmove(m->key + i, m->key + i + 1, (m->n - i) * sizeof m->key[0]);
    memmove(m->seq + i, m->seq + i + 1, (m->n - i) * sizeof m->seq[0]);
    return;
  }
}

static void model_put(model *m, uint32_t key, uint32_t seq, uint32_t most) {
  model_take_away(m, key);
  if (seq) {
    m->key[m->n] = key;
    m->seq[m->n++] = seq;
  }
  while (m->n > most) model_take_away(m, m->key[0]);
}

typedef struct fix {
  lv_broker *b;
  lv_chan *chan[2];
  model m[2];
  uint32_t seq;
  uint64_t rng;
} fix;

static void ensure(fix *f, uint32_t most) {
  static const char *const names[] = {"mem", "disk"};
  for (uint8_t i = 0; i < 2; i++) {
    lv_chan_conf conf = {.app = LV_SLICE("app"),
                         .name = lv_slice_str(names[i]),
                         .durability = i,
                         .keep_count = 3,
                         .last_keys = most,
                         .last_bytes = 1 << 20};
    assert_int_equal(f->b->ops->ensure(f->b, &conf, 0, 0, &f->chan[i]), 0);
  }
}

static void reopen(fix *f) {
  lv_embedded_conf conf = {.dir = dir, .segment_bytes = SEGMENT};
  char why[256];
  if (f->b) f->b->ops->close(f->b);
  assert_int_equal(lv_embedded_open(&conf, &f->b, why), 0);
}

static uint32_t below(fix *f, uint32_t n) {
  f->rng = f->rng * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(f->rng >> 33) % n;
}

static void publish(fix *f, uint8_t c, uint32_t key, uint32_t seq) {
  uint8_t value[VALUE] = {0};
  char topic[32];
  snprintf(topic, sizeof topic, "c/%u", key);
  memcpy(value, &seq, sizeof seq);
  lv_rec_in in = {.kind = LV_REC_MSG,
                  .flags = LV_REC_LAST,
                  .key_off = 2,
                  .chan = f->chan[c]->id,
                  .ingest_ns = 1,
                  .topic = lv_slice_str(topic),
                  .val = lv_slice_of(value, seq ? sizeof value : 0)};
  assert_int_equal(lv__lane_commit(&lv__embedded(f->b)->lane[c], &in), 0);
}

/* What the broker says is what the model says, and what is there can be read. */
static void compare(fix *f, uint8_t c) {
  const model *m = &f->m[c];
  lv_lasts l;
  assert_int_equal(f->b->ops->lasts(f->b, f->chan[c], &l), 0);
  assert_int_equal(l.n, m->n);
  assert_true(l.next_offset == atomic_load(&f->chan[c]->next_offset));
  for (uint32_t i = 0; i < l.n; i++) {
    lv_block *block = NULL;
    uint32_t bytes, seq;
    uint64_t next;
    char topic[32];
    assert_true(l.at[i].lsn < l.until && (i == 0 || l.at[i - 1].lsn < l.at[i].lsn));
    lv_elog *elog = lv__embedded(f->b)->lane[c].elog;
    assert_int_equal(lv_elog_scan(elog, l.at[i].lsn, UINT64_MAX, 1, &block, &bytes, &next), 0);
    const lv_rec *r = (const lv_rec *)block->data;
    assert_true(r->lsn == l.at[i].lsn && r->size == l.at[i].size);
    snprintf(topic, sizeof topic, "c/%u", m->key[i]);
    assert_true(lv_slice_eq(lv_rec_topic(r), lv_slice_str(topic)));
    memcpy(&seq, lv_rec_val(r).p, sizeof seq);
    assert_int_equal(seq, m->seq[i]);
    lv_block_unref(block);
  }
  free(l.at);
}

static void some(fix *f, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) {
    uint8_t c = (uint8_t)below(f, 2);
    /* a few keys get most of the messages: the others are old when retention comes */
    uint32_t key = below(f, 8) ? below(f, 4) : below(f, KEYS), seq = below(f, 12) ? ++f->seq : 0;
    publish(f, c, key, seq);
    model_put(&f->m[c], key, seq, MOST);
    if (i % 16 == 0) lv__keeper_round_soon(lv__embedded(f->b));
  }
  compare(f, 0);
  compare(f, 1);
}

static void test_against_model(void **state) {
  fix f = {.rng = 42};
  for (uint32_t round = 0; round < 5; round++) {
    reopen(&f);
    ensure(&f, MOST);
    compare(&f, 0);
    compare(&f, 1);
    some(&f, 300);
  }
  uint64_t first = atomic_load(&f.chan[0]->first_offset);
  assert_true(first > 100); /* retention was at work meanwhile */
  f.b->ops->close(f.b);
}

static void test_bounds_change(void **state) {
  fix f = {.rng = 7};
  reopen(&f);
  ensure(&f, KEYS);
  for (uint32_t k = 0; k < 10; k++) {
    publish(&f, 1, k, k + 1);
    model_put(&f.m[1], k, k + 1, KEYS);
  }
  compare(&f, 1);
  ensure(&f, 4); /* less room: the newest stay */
  model_put(&f.m[1], 9, 10, 4);
  compare(&f, 1);
  ensure(&f, 0); /* off */
  f.m[1].n = 0;
  compare(&f, 1);
  publish(&f, 1, 1, 99);
  compare(&f, 1);
  ensure(&f, 4); /* and on, from now on */
  publish(&f, 1, 2, 100);
  model_put(&f.m[1], 2, 100, 4);
  compare(&f, 1);
  f.b->ops->close(f.b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_against_model, make_dir, drop_dir),
      cmocka_unit_test_setup_teardown(test_bounds_change, make_dir, drop_dir),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
