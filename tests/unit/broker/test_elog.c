/* test_elog.c: the log on the real disk: append, sync, find, read, scan, reopen, recycle. */
#include "elog_kit.h"
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
// clang-format on
#include <unistd.h>

typedef struct env {
  char dir[64];
  lv_disk *disk;
  lv_elog *log;
  lv_elog_recovery rec;
  char why[LV_ELOG_WHY];
  lv_elog_conf conf;
} env;

static int on_name(void *arg, const char *name) {
  lv_disk *d = arg;
  return d->ops->remove(d, name);
}

static int setup(void **state) {
  env *e = calloc(1, sizeof *e);
  (void)snprintf(e->dir, sizeof e->dir, "/tmp/lv-elog-XXXXXX");
  if (!mkdtemp(e->dir) || lv_disk_file_new(e->dir, &e->disk) < 0) return -1;
  e->conf = (lv_elog_conf){.disk = e->disk,
                           .name = "disk",
                           .segment_bytes = 64 * 1024,
                           .first_bytes = 16 * 1024,
                           .seed = 1};
  *state = e;
  return 0;
}

static int teardown(void **state) {
  env *e = *state;
  lv_elog_abandon(e->log);
  (void)e->disk->ops->list(e->disk, on_name, e->disk);
  e->disk->ops->free(e->disk);
  (void)rmdir(e->dir);
  free(e);
  return 0;
}

static void open_log(env *e) {
  e->conf.seed++;
  int rc = lv_elog_open(&e->conf, &e->log, &e->rec, e->why);
  if (rc < 0) fail_msg("open: %s", e->why);
}

static void close_log(env *e) {
  assert_int_equal(lv_elog_close(e->log), 0);
  e->log = NULL;
}

/* Appends n messages "chan:number" to each of `chans` channels, in batches of one a channel. */
static void fill(env *e, uint32_t chans, uint32_t from, uint32_t n) {
  for (uint32_t i = from; i < from + n; i++) {
    kit_rec recs[16];
    char val[16][32];
    for (uint32_t c = 0; c < chans; c++) {
      (void)snprintf(val[c], sizeof val[c], "%u:%u", c + 1, i);
      recs[c] = (kit_rec){.chan = c + 1, .val = val[c], .val_n = (uint32_t)strlen(val[c])};
    }
    assert_int_equal(kit_append(e->log, recs, chans), 0);
  }
}

/* Every message of a channel from offset `from` on is there, in order, byte for byte. */
static void expect_all(env *e, uint32_t chan, uint32_t from, uint32_t n) {
  lv_elog_at at[100];
  uint64_t lsn = 0;
  uint32_t seen = from;
  for (int got; (got = lv_elog_find(e->log, chan, lsn, UINT64_MAX, 100, at)) > 0;) {
    for (int i = 0; i < got; i++) {
      lv_block *b;
      const lv_rec *r;
      char want[32];
      assert_int_equal(at[i].offset, seen);
      assert_int_equal(lv_elog_pread(e->log, &at[i], &b, &r), 0);
      (void)snprintf(want, sizeof want, "%u:%u", chan, seen);
      assert_true(lv_slice_eq(lv_rec_val(r), lv_slice_str(want)));
      assert_int_equal(r->offset, seen);
      assert_int_equal(r->chan, chan);
      lv_block_unref(b);
      seen++;
    }
    lsn = at[got - 1].lsn + 8;
    lv_elog_release(at, (uint32_t)got);
  }
  assert_int_equal(seen, from + n);
}

static uint32_t scan_count(env *e) {
  uint64_t at = 0, end = lv_elog_end(e->log), last = 0;
  uint32_t n = 0;
  while (at < end) {
    lv_block *b;
    uint32_t bytes;
    assert_int_equal(lv_elog_scan(e->log, at, UINT64_MAX, 4096, &b, &bytes, &at), 0);
    for (uint32_t o = 0; o < bytes;) {
      const lv_rec *r = (const lv_rec *)(b->data + o);
      assert_true(r->lsn > last);
      last = r->lsn;
      n += r->kind == LV_REC_MSG;
      o += r->size;
    }
    lv_block_unref(b);
  }
  return n;
}

static void test_append_find_read(void **state) {
  env *e = *state;
  open_log(e);
  assert_int_equal(lv_elog_end(e->log), lv_elog_synced(e->log));
  fill(e, 3, 0, 1000); /* about 170 KiB: several segments */
  assert_true(lv_elog_synced(e->log) < lv_elog_end(e->log));
  for (uint32_t c = 1; c <= 3; c++) expect_all(e, c, 0, 1000);
  assert_int_equal(kit_sync(e->log), 0);
  assert_int_equal(lv_elog_end(e->log), lv_elog_synced(e->log));
  lv_elog_stats st;
  lv_elog_stats_get(e->log, &st);
  assert_true(st.segments >= 3);
  assert_int_equal(scan_count(e), 3000);
  lv_elog_chan facts;
  lv_elog_chan_get(e->log, 2, &facts);
  assert_int_equal(facts.next_offset, 1000);
  assert_int_equal(facts.first_offset, 0);
  lv_elog_chan_get(e->log, 77, &facts);
  assert_int_equal(facts.next_offset, 0);
}

static void test_find_bounds(void **state) {
  env *e = *state;
  lv_elog_at at[10];
  open_log(e);
  fill(e, 2, 0, 500);
  int got = lv_elog_find(e->log, 1, 0, UINT64_MAX, 10, at);
  assert_int_equal(got, 10);
  uint64_t third = at[2].lsn, fifth = at[4].lsn;
  lv_elog_release(at, 10);
  got = lv_elog_find(e->log, 1, third, fifth, 10, at);
  assert_int_equal(got, 2);
  assert_int_equal(at[0].offset, 2);
  lv_elog_release(at, 2);
  assert_int_equal(lv_elog_find(e->log, 9, 0, UINT64_MAX, 10, at), 0);
  for (uint64_t o = 0; o < 500; o += 7) {
    assert_int_equal(lv_elog_find_offset(e->log, 2, o, at), 0);
    assert_int_equal(at[0].offset, o);
    lv_elog_release(at, 1);
  }
  assert_int_equal(lv_elog_find_offset(e->log, 2, 500, at), LV_E_GONE);
}

static void test_reopen_clean_and_not(void **state) {
  env *e = *state;
  open_log(e);
  fill(e, 2, 0, 400);
  char epoch[32];
  (void)snprintf(epoch, sizeof epoch, "%s", lv_elog_epoch(e->log));
  close_log(e);
  open_log(e);
  assert_true(e->rec.clean);
  assert_false(e->rec.new_epoch);
  expect_all(e, 1, 0, 400);
  fill(e, 2, 400, 100);
  lv_elog_abandon(e->log); /* as kill -9 */
  open_log(e);
  assert_false(e->rec.clean);
  assert_false(e->rec.new_epoch); /* a disk log keeps its epoch */
  assert_string_equal(epoch, lv_elog_epoch(e->log));
  expect_all(e, 1, 0, 500);
  expect_all(e, 2, 0, 500);
  assert_int_equal(lv_elog_end(e->log), lv_elog_synced(e->log));
  fill(e, 2, 500, 10);
  expect_all(e, 2, 0, 510);
}

static void test_memory_epoch(void **state) {
  env *e = *state;
  e->conf.epoch_on_unclean = true;
  open_log(e);
  fill(e, 1, 0, 10);
  char epoch[32];
  (void)snprintf(epoch, sizeof epoch, "%s", lv_elog_epoch(e->log));
  uint64_t end = lv_elog_end(e->log);
  lv_elog_abandon(e->log);
  open_log(e);
  assert_true(e->rec.new_epoch);
  assert_string_not_equal(epoch, lv_elog_epoch(e->log));
  assert_true(lv_elog_end(e->log) > end + ((uint64_t)1 << 30));
  expect_all(e, 1, 0, 10);
  fill(e, 1, 10, 10);
  expect_all(e, 1, 0, 20);
  assert_int_equal(scan_count(e), 20);
  close_log(e);
  open_log(e);
  assert_false(e->rec.new_epoch);
  expect_all(e, 1, 0, 20);

  /* Who was at the old epoch's end may have seen other messages in place of the ten new ones. */
  uint64_t from, until;
  lv_slice was = lv_slice_str(epoch), now = lv_slice_str(lv_elog_epoch(e->log));
  assert_int_equal(lv_elog_epoch_range(e->log, was, &from, &until), 0);
  assert_true(from <= end && until > end && until < lv_elog_end(e->log));
  lv_elog_at at;
  assert_int_equal(lv_elog_find(e->log, 1, until, UINT64_MAX, 1, &at), 1);
  assert_int_equal(at.offset, 10);
  lv_elog_release(&at, 1);
  assert_int_equal(lv_elog_epoch_range(e->log, now, &from, &end), 0);
  assert_true(from == until && end == UINT64_MAX);
  assert_int_equal(lv_elog_epoch_range(e->log, LV_SLICE("nobody"), &from, &end), LV_E_NOT_FOUND);
}

static void test_torn_tail_is_cut_for_good(void **state) {
  env *e = *state;
  open_log(e);
  fill(e, 1, 0, 50);
  assert_int_equal(kit_sync(e->log), 0);
  lv_elog_at at[3];
  assert_int_equal(lv_elog_find_offset(e->log, 1, 30, at), 0);
  uint64_t pos = at[0].pos;
  lv_elog_release(at, 1);
  lv_elog_abandon(e->log);
  e->log = NULL;
  int fd;
  uint8_t bad = 0xFF;
  struct iovec iov = {&bad, 1};
  assert_int_equal(e->disk->ops->open(e->disk, "disk-0000000000001000.seg", false, &fd), 0);
  assert_int_equal(e->disk->ops->write(e->disk, fd, &iov, 1, pos + 9), 0);
  e->disk->ops->close(e->disk, fd);
  open_log(e);
  assert_true(e->rec.torn_bytes > 0);
  expect_all(e, 1, 0, 30);
  /* The same length as the lost one: those behind it would be valid again if they were there. */
  fill(e, 1, 30, 1);
  lv_elog_abandon(e->log);
  open_log(e);
  expect_all(e, 1, 0, 31);
}

static void test_large_record(void **state) {
  env *e = *state;
  static uint8_t big[300000];
  memset(big, 'x', sizeof big);
  open_log(e);
  assert_int_equal(kit_append(e->log, &(kit_rec){.chan = 1, .val = big, .val_n = sizeof big}, 1),
                   0);
  lv_elog_at at;
  lv_block *b;
  const lv_rec *r;
  for (int i = 0; i < 2; i++) {
    assert_int_equal(lv_elog_find_offset(e->log, 1, 0, &at), 0);
    assert_int_equal(lv_elog_pread(e->log, &at, &b, &r), 0);
    assert_int_equal(lv_rec_val(r).n, sizeof big);
    lv_block_unref(b);
    lv_elog_release(&at, 1);
    assert_int_equal(scan_count(e), 1);
    if (i == 0) lv_elog_abandon(e->log);
    if (i == 0) open_log(e);
  }
}

static void test_pread_many(void **state) {
  env *e = *state;
  open_log(e);
  fill(e, 2, 0, 600);
  lv_elog_at at[600];
  const lv_rec *recs[600];
  int got = lv_elog_find(e->log, 2, 0, UINT64_MAX, 600, at);
  assert_int_equal(got, 600);
  uint32_t seen = 0, calls = 0;
  while (seen < 600) {
    lv_block *b;
    int n = lv_elog_pread_many(e->log, at + seen, 600 - seen, 32768, &b, recs);
    assert_true(n > 0);
    for (int i = 0; i < n; i++) assert_int_equal(recs[i]->offset, seen + (uint32_t)i);
    lv_block_unref(b);
    seen += (uint32_t)n;
    calls++;
  }
  assert_true(calls < 20);
  lv_elog_release(at, 600);
}

static void test_refuses_bad_channel(void **state) {
  env *e = *state;
  open_log(e);
  kit_rec recs[2] = {{.chan = 1}, {.chan = LV_ELOG_CHAN_MAX}};
  assert_int_equal(kit_append(e->log, recs, 2), LV_E_INVALID);
  assert_int_equal(kit_append(e->log, recs, 1), 0);
  lv_elog_chan facts;
  lv_elog_chan_get(e->log, 1, &facts);
  assert_int_equal(facts.next_offset, 1);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
  const struct CMUnitTest tests[] = {
      T(test_append_find_read),
      T(test_find_bounds),
      T(test_reopen_clean_and_not),
      T(test_memory_epoch),
      T(test_torn_tail_is_cut_for_good),
      T(test_large_record),
      T(test_pread_many),
      T(test_refuses_bad_channel),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
