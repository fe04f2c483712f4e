/* Unit tests of the embedded broker's parts: tail, state index, one record committed, the log tool
 * on a folder in use and at rest. The whole is the conformance suite's matter. */
#include "broker/embedded/embedded_int.h"
#include "broker/embedded/logtool.h"
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- tail ---- */

/* A batch of one record of `size` bytes at `at` in the block, as if committed at lsn. */
static lv_batch *batch_at(lv_block *block, uint32_t at, uint32_t size, uint64_t lsn) {
  lv_rec *r = (lv_rec *)(block->data + at);
  memset(r, 0, size);
  r->size = size;
  r->lsn = lsn;
  r->kind = LV_REC_MSG;
  lv_batch *b = lv_batch_new(lv_block_ref(block), block->data + at);
  b->bytes = size;
  b->count = 1;
  b->lsn_end = lsn + size;
  return b;
}

static void tail_add(lv_tail *t, lv_block *block, uint32_t at, uint64_t lsn, int origin) {
  lv_batch *b = batch_at(block, at, 64, lsn);
  lv__tail_add(t, b, origin);
  lv_batch_unref(b);
}

static void test_tail_merges_and_finds(void **state) {
  (void)state;
  lv_tail t;
  lv_tail_ent e[8];
  uint32_t n = 99;
  lv__tail_init(&t, 1 << 20, 4096);
  assert_true(lv__tail_view(&t, 4096, UINT64_MAX, 8, e, &n));
  assert_int_equal(n, 0);
  assert_false(lv__tail_view(&t, 4095, UINT64_MAX, 8, e, &n));
  lv_block *a = lv_block_new(LV_BLOCK_SIZE), *b = lv_block_new(LV_BLOCK_SIZE);
  tail_add(&t, a, 0, 4096, 0);
  tail_add(&t, a, 64, 4160, 0); /* continues the first: one entry */
  tail_add(&t, b, 0, 4224, 1);
  tail_add(&t, a, 128, 4288, 0);
  assert_int_equal(t.n, 3);
  uint64_t blocks = 2 * LV_BLOCK_SIZE + 3 * sizeof(lv_tail_ent);
  assert_int_equal(t.bytes, blocks); /* each block is charged once */
  assert_true(lv__tail_view(&t, 4160, UINT64_MAX, 8, e, &n));
  assert_int_equal(n, 3);
  assert_int_equal(e[0].lsn, 4096);
  for (uint32_t i = 0; i < n; i++) lv_block_unref(e[i].block);
  assert_true(lv__tail_view(&t, 4224, 4288, 8, e, &n));
  assert_int_equal(n, 1);
  assert_ptr_equal(e[0].block, b);
  lv_block_unref(e[0].block);
  lv__tail_clear(&t, 9000);
  assert_false(lv__tail_view(&t, 8992, UINT64_MAX, 8, e, &n));
  assert_true(lv__tail_view(&t, 9000, UINT64_MAX, 8, e, &n));
  lv__tail_done(&t);
  assert_int_equal(atomic_load(&a->refs), 1);
  lv_block_unref(a);
  lv_block_unref(b);
}

static void test_tail_is_bounded(void **state) {
  (void)state;
  lv_tail t;
  uint64_t before = lv_block_bytes(), max = 10 * (LV_BLOCK_SIZE + 64);
  lv__tail_init(&t, max, 4096);
  uint64_t lsn = 4096;
  for (int i = 0; i < 500; i++) {
    lv_block *a = lv_block_new(LV_BLOCK_SIZE);
    tail_add(&t, a, 0, lsn, i % 3);
    lsn += 64;
    lv_block_unref(a);
    assert_true(t.bytes <= max);
    assert_true(lv_block_bytes() - before <= max + LV_BLOCK_SIZE);
  }
  assert_int_equal(t.n, 10);
  assert_int_equal(t.first, lsn - 10 * 64);
  lv__tail_done(&t);
  assert_int_equal(lv_block_bytes(), before);
}

/* ---- state index ---- */

typedef struct keyed {
  _Alignas(8) uint8_t bytes[256];
} keyed;

static const lv_rec *keyed_rec(keyed *k, uint8_t kind, uint8_t flags, uint32_t chan,
                               const char *topic, const char *val, uint64_t lsn) {
  lv_rec_in in = {.kind = kind,
                  .flags = flags,
                  .key_off = LV_REC_NO_KEY,
                  .chan = chan,
                  .topic = lv_slice_str(topic),
                  .val = lv_slice_str(val)};
  uint32_t size;
  assert_int_equal(lv_rec_size(&in, &size), 0);
  assert_true(size <= sizeof k->bytes);
  lv_rec *r = lv_rec_write(&in, k->bytes, size);
  r->lsn = lsn;
  return r;
}

static void test_state_newest_wins(void **state) {
  (void)state;
  lv_state s;
  keyed k1, k2, k3, k4;
  const uint64_t all = UINT64_MAX;
  lv__state_init(&s);
  const lv_rec *old = keyed_rec(&k1, LV_REC_STATE, 0, 0, "a", "1", 8);
  const lv_rec *new = keyed_rec(&k2, LV_REC_STATE, 0, 0, "a", "2", 16);
  const lv_rec *kept = keyed_rec(&k3, LV_REC_MSG, LV_REC_RETAIN, 1, "a", "3", 24);
  const lv_rec *other = keyed_rec(&k4, LV_REC_MSG, LV_REC_RETAIN, 2, "a", "4", 32);
  lv__state_put(&s, new);
  lv__state_put(&s, old); /* late: changes nothing */
  lv__state_put(&s, kept);
  lv__state_put(&s, other);
  assert_false(lv__state_live_key(&s, old, all));
  assert_true(lv__state_live_key(&s, new, all));
  assert_true(lv__state_live_key(&s, kept, all));
  assert_true(lv__state_live_key(&s, other, all));
  assert_true(lv__state_live_key(&s, old, 16)); /* its successor is not synced yet */
  assert_false(lv__state_live_key(&s, old, 24));
  lv__state_put(&s, keyed_rec(&k4, LV_REC_STATE, 0, 0, "a", "", 40));
  assert_false(lv__state_live_key(&s, new, all));
  assert_true(lv__state_live_key(&s, new, 40));
  uint64_t live, dead;
  lv__state_count(&s, &live, &dead);
  assert_int_equal(live, 2);
  assert_int_equal(dead, 1);
  assert_int_equal(lv__state_sweep(&s, 40), 0); /* the deletion itself must be synced */
  assert_int_equal(lv__state_sweep(&s, 48), 1);
  assert_false(lv__state_live_key(&s, new, 40));
  lv__state_done(&s);
}

static void test_state_many_keys_small(void **state) {
  (void)state;
  lv_state s;
  keyed k;
  char key[24];
  enum { N = 50000 };
  lv__state_init(&s);
  for (uint32_t i = 0; i < 2 * N; i++) {
    snprintf(key, sizeof key, "key-%u", i % N);
    lv__state_put(&s, keyed_rec(&k, LV_REC_STATE, 0, 0, key, "v", 8 + 8ull * i));
  }
  assert_int_equal(s.n, N);
  assert_true(s.cap * sizeof *s.slot <= N * 44ull);
  for (uint32_t i = 0; i < 2 * N; i += 7) {
    snprintf(key, sizeof key, "key-%u", i % N);
    const lv_rec *r = keyed_rec(&k, LV_REC_STATE, 0, 0, key, "v", 8 + 8ull * i);
    assert_int_equal(lv__state_live_key(&s, r, UINT64_MAX), i >= N);
  }
  for (uint32_t i = 0; i < N; i++) {
    snprintf(key, sizeof key, "key-%u", i);
    lv__state_put(&s, keyed_rec(&k, LV_REC_STATE, 0, 0, key, "", 8 + 8ull * (2 * N + i)));
  }
  assert_int_equal(lv__state_sweep(&s, UINT64_MAX), N);
  assert_int_equal(s.n, 0);
  assert_true(s.cap <= 2048); /* memory comes back */
  lv__state_done(&s);
}

/* ---- the log tool ---- */

static char dir[64];

static int make_dir(void **state) {
  (void)state;
  snprintf(dir, sizeof dir, "/tmp/lavva-unit-XXXXXX");
  return mkdtemp(dir) ? 0 : -1;
}

static int remove_one(void *arg, const char *name) {
  lv_disk *d = arg;
  return d->ops->remove(d, name);
}

static int drop_dir(void **state) {
  (void)state;
  lv_disk *d;
  if (lv_disk_file_new(dir, &d)) return -1;
  (void)d->ops->list(d, remove_one, d);
  d->ops->free(d);
  return rmdir(dir);
}

static lv_broker *open_broker(void) {
  lv_broker *b;
  char why[256];
  lv_embedded_conf conf = {.dir = dir};
  assert_int_equal(lv_embedded_open(&conf, &b, why), 0);
  return b;
}

static lv_chan *make_chan(lv_broker *b, const char *app, const char *name, uint8_t durability) {
  lv_chan *chan;
  lv_chan_conf conf = {
      .app = lv_slice_str(app), .name = lv_slice_str(name), .durability = durability};
  assert_int_equal(b->ops->ensure(b, &conf, 0, 0, &chan), 0);
  return chan;
}

static void put_messages(lv_broker *b, const lv_chan *chan, uint32_t from, uint32_t n) {
  for (uint32_t i = from; i < from + n; i++) {
    lv_rec_in in = {.kind = LV_REC_MSG,
                    .key_off = LV_REC_NO_KEY,
                    .chan = chan->id,
                    .topic = LV_SLICE("t"),
                    .val = lv_slice_of(&i, sizeof i)};
    assert_int_equal(lv__lane_commit(&lv__embedded(b)->lane[chan->durability], &in), 0);
  }
}

typedef struct dumped {
  uint32_t next, stop_at;
  char epoch[24];
} dumped;

static int on_dump(void *arg, const lv_rec *rec, const char *pos) {
  dumped *d = arg;
  uint32_t v;
  char want[64];
  memcpy(&v, lv_rec_val(rec).p, sizeof v);
  assert_int_equal(v, d->next);
  assert_int_equal(rec->offset, d->next);
  snprintf(want, sizeof want, "%s-%u", d->epoch, d->next);
  assert_string_equal(pos, want);
  d->next++;
  return d->next == d->stop_at ? 77 : 0;
}

static void dump_whole(lv_broker *b, const char *name, uint32_t n) {
  lv_logtool *t;
  const lv_logtool_chan *chan;
  char why[256];
  uint64_t damaged = 9;
  lv_broker_desc desc;
  assert_int_equal(lv_logtool_open(dir, &t, why), 0);
  assert_int_equal(lv_logtool_find(t, lv_slice_str(name), &chan), 0);
  dumped d = {0};
  uint32_t n_logs;
  const lv_logtool_log *logs = lv_logtool_logs(t, &n_logs);
  memcpy(d.epoch, logs[chan->chan->durability].epoch, sizeof d.epoch);
  if (b) {
    assert_int_equal(b->ops->describe(b, &desc), 0);
    assert_string_equal(d.epoch, desc.epoch[chan->chan->durability]);
  }
  assert_int_equal(lv_logtool_dump(t, chan, 0, on_dump, &d, &damaged), 0);
  assert_int_equal(d.next, n);
  assert_int_equal(damaged, 0);
  d.next = 5;
  d.stop_at = 8;
  assert_int_equal(lv_logtool_dump(t, chan, 5, on_dump, &d, NULL), 77);
  d.next = 0;
  assert_int_equal(lv_logtool_dump(t, chan, n, on_dump, &d, NULL), 0);
  assert_int_equal(d.next, 0);
  lv_logtool_close(t);
}

static void ignore_line(void *arg, const char *text) {
  (void)arg;
  (void)text;
}

static void test_logtool(void **state) {
  (void)state;
  lv_broker *b = open_broker();
  lv_chan *mem = make_chan(b, "app", "mem", LV_DURABILITY_MEMORY);
  lv_chan *disk = make_chan(b, "app", "disk", LV_DURABILITY_DISK);
  (void)make_chan(b, "two", "disk", LV_DURABILITY_DISK);
  put_messages(b, mem, 0, 700);
  put_messages(b, disk, 0, 20);
  dump_whole(b, "mem", 700); /* beside the broker that has it open */
  dump_whole(b, "app/disk", 20);
  put_messages(b, mem, 700, 10); /* which did not notice */
  dump_whole(b, "app/mem", 710);
  b->ops->close(b);
  dump_whole(NULL, "mem", 710);
  dump_whole(NULL, "app/disk", 20);

  lv_logtool *t;
  const lv_logtool_chan *chan;
  char why[256];
  assert_int_equal(lv_logtool_open(dir, &t, why), 0);
  assert_int_equal(lv_logtool_find(t, LV_SLICE("disk"), &chan), LV_E_INVALID);
  assert_int_equal(lv_logtool_find(t, LV_SLICE("nope"), &chan), LV_E_NOT_FOUND);
  lv_buf text;
  lv_buf_init(&text, 1 << 20);
  lv_logtool_text(t, &text);
  assert_non_null(strstr((char *)text.p, "channel app/mem"));
  assert_non_null(strstr((char *)text.p, "offsets 0-710"));
  assert_non_null(strstr((char *)text.p, "log mem"));
  lv_buf_done(&text);
  lv_logtool_close(t);

  uint64_t records = 0;
  assert_int_equal(lv_logtool_verify(dir, ignore_line, NULL, &records), 0);
  assert_true(records >= 730);
  assert_int_equal(lv_logtool_open("/nonexistent/lavva", &t, why), LV_E_NOT_FOUND);
  b = open_broker(); /* and everything is as it was */
  disk = b->ops->find(b, LV_SLICE("app"), LV_SLICE("disk"));
  assert_non_null(disk);
  assert_int_equal(atomic_load(&disk->next_offset), 20);
  b->ops->close(b);
}

static int count_file(void *arg, const char *name) {
  (void)name;
  ++*(uint32_t *)arg;
  return 0;
}

/* A log of more files than 1,024: all of them are read, each held open. */
static void test_logtool_many_files(void **state) {
  (void)state;
  enum { MESSAGES = 2600, FILES = 1100 };
  static uint8_t value[4096];
  struct rlimit was, more;
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
  more = was;
  more.rlim_cur = was.rlim_max < 8192 ? was.rlim_max : 8192; /* lavva's main takes what it may */
  if (more.rlim_cur < 4096) skip();
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &more), 0);
  lv_embedded_conf conf = {.dir = dir, .segment_bytes = 16384};
  lv_broker *b;
  char why[256];
  assert_int_equal(lv_embedded_open(&conf, &b, why), 0);
  lv_chan *chan = make_chan(b, "app", "mem", LV_DURABILITY_MEMORY);
  for (uint32_t i = 0; i < MESSAGES; i++) {
    memcpy(value, &i, sizeof i);
    lv_rec_in in = {.kind = LV_REC_MSG,
                    .key_off = LV_REC_NO_KEY,
                    .chan = chan->id,
                    .topic = LV_SLICE("t"),
                    .val = lv_slice_of(value, sizeof value)};
    assert_int_equal(lv__lane_commit(&lv__embedded(b)->lane[chan->durability], &in), 0);
  }
  dump_whole(b, "mem", MESSAGES);
  b->ops->close(b);
  uint32_t files = 0;
  lv_disk *d;
  assert_int_equal(lv_disk_file_new(dir, &d), 0);
  assert_int_equal(d->ops->list(d, count_file, &files), 0);
  d->ops->free(d);
  assert_true(files > FILES);
  uint64_t records = 0;
  dump_whole(NULL, "mem", MESSAGES);
  assert_int_equal(lv_logtool_verify(dir, ignore_line, NULL, &records), 0);
  assert_true(records >= MESSAGES);
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
}

/* ---- space ---- */

static void test_reserve_stops_publishing(void **state) {
  (void)state;
  lv_disk_faults faults = {.seed = 3, .capacity = 64 << 20};
  lv_disk *twin = lv_disk_fault_new(&faults);
  lv_embedded_conf conf = {.dir = "", .disk = twin, .disk_reserve_bytes = 32 << 20};
  lv_broker *b;
  char why[256];
  assert_int_equal(lv_embedded_open(&conf, &b, why), 0);
  lv_chan *chan = make_chan(b, "app", "c", LV_DURABILITY_DISK);
  put_messages(b, chan, 0, 3);
  lv_lane *l = &lv__embedded(b)->lane[LV_DURABILITY_DISK];
  uint32_t v = 3;
  lv_rec_in in = {.kind = LV_REC_MSG,
                  .key_off = LV_REC_NO_KEY,
                  .chan = chan->id,
                  .topic = LV_SLICE("t"),
                  .val = lv_slice_of(&v, sizeof v)};
  faults.capacity = 16 << 20;
  lv_disk_fault_set(twin, &faults);
  int err = 0;
  for (int i = 0; i < 1000000 && !err; i++) { /* until the housekeeper has looked */
    lv__keeper_round_soon(lv__embedded(b));
    err = lv__lane_commit(l, &in);
  }
  assert_int_equal(err, LV_E_DISK_FULL);
  lv_broker_desc d;
  assert_int_equal(b->ops->describe(b, &d), 0);
  assert_false(d.healthy);
  faults.capacity = 64 << 20;
  lv_disk_fault_set(twin, &faults);
  for (int i = 0; i < 1000000 && err; i++) {
    lv__keeper_round_soon(lv__embedded(b));
    err = lv__lane_commit(l, &in);
  }
  assert_int_equal(err, 0);
  b->ops->close(b);
  twin->ops->free(twin);
}

/* ---- declarations ---- */

/* A failed sync takes a channel's declaration back; what is acknowledged later stays its. */
static void declared_again(uint8_t durability) {
  lv_disk_faults faults = {.seed = 5};
  lv_disk *twin = lv_disk_fault_new(&faults);
  lv_embedded_conf conf = {.dir = "", .disk = twin};
  lv_broker *b;
  char why[256];
  assert_int_equal(lv_embedded_open(&conf, &b, why), 0);
  put_messages(b, make_chan(b, "app", "first", durability), 0, 1);
  lv_lane *l = &lv__embedded(b)->lane[durability];
  faults.sync_error = 1000000;
  lv_disk_fault_set(twin, &faults);
  lv_chan *chan = make_chan(b, "app", "second", durability); /* does not wait for a sync */
  while (!lv_elog_broken(l->elog)) {
    lv__keeper_round_soon(lv__embedded(b));
    sched_yield();
  }
  faults.sync_error = 0;
  lv_disk_fault_set(twin, &faults);
  uint32_t v = 0;
  lv_rec_in in = {.kind = LV_REC_MSG,
                  .key_off = LV_REC_NO_KEY,
                  .chan = chan->id,
                  .topic = LV_SLICE("t"),
                  .val = lv_slice_of(&v, sizeof v)};
  while (lv__lane_commit(l, &in)) lv__keeper_round_soon(lv__embedded(b));
  while (lv_elog_synced(l->elog) < atomic_load(&l->visible)) sched_yield();
  lv_disk_fault_crash(twin);
  lv__embedded_abandon(b);
  assert_int_equal(lv_embedded_open(&conf, &b, why), 0);
  chan = b->ops->find(b, LV_SLICE("app"), LV_SLICE("second"));
  assert_non_null(chan);
  assert_int_equal(atomic_load(&chan->next_offset), 1);
  b->ops->close(b);
  twin->ops->free(twin);
}

static void test_declared_again(void **state) {
  (void)state;
  declared_again(LV_DURABILITY_DISK);
  declared_again(LV_DURABILITY_MEMORY);
}

static void test_folder_is_locked(void **state) {
  (void)state;
  lv_broker *a = open_broker(), *b;
  char why[256] = "";
  lv_embedded_conf conf = {.dir = dir};
  assert_int_equal(lv_embedded_open(&conf, &b, why), LV_E_LOCKED);
  assert_non_null(strstr(why, dir));
  a->ops->close(a);
  b = open_broker();
  b->ops->close(b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_tail_merges_and_finds),
      cmocka_unit_test(test_tail_is_bounded),
      cmocka_unit_test(test_state_newest_wins),
      cmocka_unit_test(test_state_many_keys_small),
      cmocka_unit_test_setup_teardown(test_logtool, make_dir, drop_dir),
      cmocka_unit_test_setup_teardown(test_logtool_many_files, make_dir, drop_dir),
      cmocka_unit_test(test_reserve_stops_publishing),
      cmocka_unit_test(test_declared_again),
      cmocka_unit_test_setup_teardown(test_folder_is_locked, make_dir, drop_dir),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
