/* test_elog_retain.c: what housekeeping keeps, gives back and never loses; and how the log behaves
 * on a full disk, after a failed sync, with damaged files and with those of a newer version. */
#include "elog_kit.h"
#include <setjmp.h>
#include <stdarg.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { SECOND = 1000000000 };

typedef struct env {
  lv_disk *disk;
  lv_elog *log;
  lv_elog_recovery rec;
  lv_elog_conf conf;
  char why[LV_ELOG_WHY];
  uint64_t keep_ms, keep_bytes, keep_count;
  uint32_t unknown;    /* this channel does not exist any more */
  uint64_t newest[10]; /* lsn of each key's newest state record */
  int findings;
  char finding[256];
} env;

static int setup(void **state) {
  env *e = calloc(1, sizeof *e);
  e->disk = lv_disk_fault_new(&(lv_disk_faults){.seed = 1});
  e->conf = (lv_elog_conf){
      .disk = e->disk, .name = "disk", .segment_bytes = 16384, .first_bytes = 16384, .seed = 1};
  *state = e;
  return lv_elog_open(&e->conf, &e->log, &e->rec, e->why);
}

static int teardown(void **state) {
  env *e = *state;
  lv_elog_abandon(e->log);
  e->disk->ops->free(e->disk);
  free(e);
  return 0;
}

static void reopen(env *e) {
  assert_int_equal(lv_elog_close(e->log), 0);
  e->log = NULL;
  e->conf.seed++;
  if (lv_elog_open(&e->conf, &e->log, &e->rec, e->why) < 0) fail_msg("%s", e->why);
}

static bool on_policy(void *arg, uint32_t chan, uint64_t *ms, uint64_t *bytes, uint64_t *count) {
  const env *e = arg;
  *ms = e->keep_ms;
  *bytes = e->keep_bytes;
  *count = e->keep_count;
  return chan != e->unknown;
}

static bool on_live(void *arg, const lv_rec *rec) {
  const env *e = arg;
  return rec->lsn == e->newest[rec->body[0] - '0'];
}

static uint64_t job(env *e, int64_t now_ns) {
  lv_elog_policy p = {on_policy, on_live, e};
  uint64_t freed = 0;
  assert_int_equal(kit_sync(e->log), 0);
  lv_elog_job *j = lv_elog_job_plan(e->log, &p, (lv_wall){now_ns});
  if (!j) return 0;
  assert_int_equal(lv_elog_job_run(e->log, j), 0);
  assert_int_equal(lv_elog_job_apply(e->log, j, &freed), 0);
  return freed;
}

/* n messages of 1000 bytes, a second apart, to a channel. */
static void fill(env *e, uint32_t chan, uint32_t n, int64_t from_s) {
  static uint8_t val[1000];
  for (uint32_t i = 0; i < n; i++) {
    kit_rec r = {.chan = chan, .val = val, .val_n = sizeof val};
    r.ingest_ns = (from_s + i) * SECOND;
    assert_int_equal(kit_append(e->log, &r, 1), 0);
  }
}

static void put_state(env *e, int key, const char *value) {
  char topic[2] = {(char)('0' + key), 0};
  kit_rec r = {
      .kind = LV_REC_STATE, .topic = topic, .val = value, .val_n = (uint32_t)strlen(value)};
  lv_batch *b = kit_batch(&r, 1);
  uint32_t n;
  assert_int_equal(lv_elog_append(e->log, &b, 1, &n), 0);
  e->newest[key] = b->lsn_end - b->bytes;
  lv_batch_unref(b);
}

/* Value of a key as recovery would rebuild it; "" when there is none. */
static void expect_state(env *e, int key, const char *want) {
  lv_elog_at at[64];
  char got[64] = "";
  uint64_t from = 0;
  for (int n; (n = lv_elog_find(e->log, LV_ELOG_STATE, from, UINT64_MAX, 64, at)) > 0;) {
    for (int i = 0; i < n; i++) {
      lv_block *b;
      const lv_rec *r;
      assert_int_equal(lv_elog_pread(e->log, &at[i], &b, &r), 0);
      if (r->body[0] == '0' + key)
        (void)snprintf(got, sizeof got, "%.*s", (int)lv_rec_val(r).n, lv_rec_val(r).p);
      lv_block_unref(b);
    }
    from = at[n - 1].lsn + 8;
    lv_elog_release(at, (uint32_t)n);
  }
  assert_string_equal(got, want);
}

static lv_elog_chan facts(env *e, uint32_t chan) {
  lv_elog_chan f;
  lv_elog_chan_get(e->log, chan, &f);
  return f;
}

static uint64_t disk_bytes(env *e) {
  lv_elog_stats st;
  lv_elog_stats_get(e->log, &st);
  return st.disk_bytes;
}

static void test_keep_count_and_offsets_go_on(void **state) {
  env *e = *state;
  fill(e, 1, 100, 0);
  fill(e, 2, 5, 0);
  fill(e, 1, 100, 100);
  e->keep_count = 10;
  uint64_t before = disk_bytes(e);
  for (int i = 0; i < 4; i++) (void)job(e, 300ll * SECOND);
  assert_int_equal(facts(e, 1).first_offset, 190);
  assert_int_equal(facts(e, 2).first_offset, 0); /* has only five */
  assert_true(disk_bytes(e) < before / 2);
  lv_elog_at at;
  assert_int_equal(lv_elog_find_offset(e->log, 1, 0, &at), 0);
  assert_int_equal(at.offset, 190); /* the oldest that is retained */
  assert_true(facts(e, 1).gone_lsn > 0 && facts(e, 1).gone_lsn <= at.lsn);
  lv_elog_release(&at, 1);
  e->unknown = 2;
  for (int i = 0; i < 4; i++) (void)job(e, 300ll * SECOND);
  assert_int_equal(facts(e, 2).first_offset, 5);
  fill(e, 1, 60, 300); /* its old segments go for good */
  for (int i = 0; i < 6; i++) (void)job(e, 400ll * SECOND);
  reopen(e);
  assert_true(e->rec.clean);
  assert_int_equal(facts(e, 2).next_offset, 5); /* never given again */
  assert_int_equal(facts(e, 1).next_offset, 260);
  assert_int_equal(facts(e, 1).first_offset, 250);
}

static void test_keep_age_is_exact(void **state) {
  env *e = *state;
  fill(e, 1, 100, 0);
  e->keep_ms = 30500;
  (void)job(e, 100ll * SECOND); /* older than 69.5 s goes: offsets 0 … 69 */
  assert_int_equal(facts(e, 1).first_offset, 70);
  (void)job(e, 1000ll * SECOND);
  assert_int_equal(facts(e, 1).first_offset, 100);
}

static void test_keep_bytes(void **state) {
  env *e = *state;
  fill(e, 1, 100, 0);
  e->keep_bytes = 20 * 1056;
  (void)job(e, 100ll * SECOND);
  assert_in_range(facts(e, 1).first_offset, 79, 81);
}

/* An idle log whose open segment holds only what has expired gives it back too. */
static void test_idle_log_is_emptied(void **state) {
  env *e = *state;
  fill(e, 1, 10, 0);
  e->keep_ms = 1000;
  for (int i = 0; i < 6; i++) (void)job(e, 100ll * SECOND);
  lv_elog_stats st;
  lv_elog_stats_get(e->log, &st);
  assert_true(st.segments <= 2);
  assert_int_equal(facts(e, 1).bytes, 0);
  fill(e, 1, 1, 200);
  assert_int_equal(facts(e, 1).next_offset, 11);
}

static void test_state_survives_its_segments(void **state) {
  env *e = *state;
  put_state(e, 1, "one");
  put_state(e, 2, "two");
  put_state(e, 3, "three");
  fill(e, 1, 50, 0);
  put_state(e, 2, "two again");
  put_state(e, 3, ""); /* deleted */
  fill(e, 1, 150, 50);
  e->keep_count = 5;
  uint64_t freed = 0;
  for (int i = 0; i < 12; i++) freed += job(e, 300ll * SECOND);
  assert_true(freed > 100000);
  for (int i = 0; i < 2; i++) {
    expect_state(e, 1, "one");
    expect_state(e, 2, "two again");
    expect_state(e, 3, "");
    if (i == 0) reopen(e);
  }
  /* Compacted or not: same lsn, found and read. */
  lv_elog_at at[8];
  int n = lv_elog_find(e->log, LV_ELOG_STATE, e->newest[1], e->newest[1] + 1, 8, at);
  assert_int_equal(n, 1);
  lv_elog_release(at, 1);
}

/* A deletion must not be forgotten while an older value of the key is still in some file. */
static void test_deletion_outlives_the_value(void **state) {
  env *e = *state;
  put_state(e, 1, "stays"); /* keeps its segment, with the dead value of 2 in it */
  put_state(e, 2, "gone");
  fill(e, 1, 12, 0);
  fill(e, 2, 30, 0);
  put_state(e, 2, "");
  e->newest[2] = 0;
  fill(e, 2, 30, 0);
  e->unknown = 2;
  for (int i = 0; i < 8; i++) {
    (void)job(e, 100ll * SECOND);
    expect_state(e, 2, "");
    expect_state(e, 1, "stays");
  }
  reopen(e);
  expect_state(e, 2, "");
}

static void test_readers_keep_their_segment(void **state) {
  env *e = *state;
  lv_elog_at at;
  lv_block *b;
  const lv_rec *r;
  fill(e, 1, 60, 0);
  assert_int_equal(lv_elog_find_offset(e->log, 1, 0, &at), 0);
  e->unknown = 1;
  for (int i = 0; i < 6; i++) (void)job(e, 100ll * SECOND);
  fill(e, 3, 60, 100); /* recycled files would be written over by now */
  assert_int_equal(lv_elog_pread(e->log, &at, &b, &r), 0);
  assert_int_equal(r->offset, 0);
  lv_block_unref(b);
  lv_elog_release(&at, 1);
}

static void test_disk_full_and_back(void **state) {
  env *e = *state;
  static uint8_t val[1000];
  kit_rec r = {.chan = 1, .val = val, .val_n = sizeof val};
  lv_disk_fault_set(e->disk, &(lv_disk_faults){.capacity = 60000});
  uint32_t ok = 0;
  int rc;
  while ((rc = kit_append(e->log, &r, 1)) == 0) ok++;
  assert_int_equal(rc, LV_E_DISK_FULL);
  assert_int_equal(kit_append(e->log, &r, 1), LV_E_DISK_FULL);
  assert_int_equal(facts(e, 1).next_offset, ok);
  assert_int_equal(kit_sync(e->log), 0); /* what was appended is as good as ever */
  lv_disk_fault_set(e->disk, &(lv_disk_faults){0});
  assert_int_equal(kit_append(e->log, &r, 1), 0);
  assert_int_equal(facts(e, 1).next_offset, ok + 1);
  reopen(e);
  assert_int_equal(facts(e, 1).next_offset, ok + 1);
}

static void test_sync_error_stops_the_log(void **state) {
  env *e = *state;
  kit_rec r = {.chan = 1};
  uint64_t lost;
  assert_int_equal(kit_append(e->log, &r, 1), 0);
  assert_int_equal(kit_sync(e->log), 0);
  assert_int_equal(kit_append(e->log, &r, 1), 0);
  lv_disk_fault_set(e->disk, &(lv_disk_faults){.sync_error = 1000000});
  assert_int_equal(kit_sync(e->log), LV_E_IO);
  assert_true(lv_elog_broken(e->log));
  assert_int_equal(kit_append(e->log, &r, 1), LV_E_IO);
  assert_int_equal(lv_elog_reopen(e->log, &lost), LV_E_IO);
  lv_disk_fault_set(e->disk, &(lv_disk_faults){0});
  assert_int_equal(kit_append(e->log, &r, 1), LV_E_IO); /* not before reopen */
  assert_int_equal(lv_elog_reopen(e->log, &lost), 0);
  assert_int_equal(lost, 56); /* back to what was synced: a disk log showed nothing else */
  assert_int_equal(facts(e, 1).next_offset, 1);
  assert_int_equal(kit_append(e->log, &r, 1), 0);
  assert_int_equal(kit_sync(e->log), 0);
}

static void flip(env *e, const char *name, uint64_t at) {
  uint8_t byte;
  int fd;
  assert_int_equal(e->disk->ops->open(e->disk, name, false, &fd), 0);
  assert_int_equal(e->disk->ops->read(e->disk, fd, &byte, 1, at), 1);
  byte ^= 0x10;
  struct iovec iov = {&byte, 1};
  assert_int_equal(e->disk->ops->write(e->disk, fd, &iov, 1, at), 0);
  e->disk->ops->close(e->disk, fd);
}

static void on_finding(void *arg, const char *text) {
  env *e = arg;
  e->findings++;
  (void)snprintf(e->finding, sizeof e->finding, "%s", text);
}

static void test_damage_in_a_sealed_segment(void **state) {
  env *e = *state;
  lv_elog_at at;
  lv_block *b;
  const lv_rec *r;
  fill(e, 1, 60, 0);
  (void)job(e, 60ll * SECOND); /* seals */
  assert_int_equal(lv_elog_verify(e->disk, "disk", on_finding, e, NULL), 0);
  assert_int_equal(lv_elog_find_offset(e->log, 1, 5, &at), 0);
  flip(e, "disk-0000000000001000.seg", at.pos + 500);
  assert_int_equal(lv_elog_pread(e->log, &at, &b, &r), LV_E_CORRUPT);
  uint32_t bytes;
  uint64_t next;
  assert_int_equal(lv_elog_scan(e->log, at.lsn, UINT64_MAX, 4096, &b, &bytes, &next), LV_E_CORRUPT);
  assert_int_equal(next, at.lsn + 1056); /* the next sound record */
  lv_elog_release(&at, 1);
  assert_int_equal(lv_elog_find_offset(e->log, 1, 6, &at), 0);
  assert_int_equal(lv_elog_pread(e->log, &at, &b, &r), 0); /* its neighbour is fine */
  lv_block_unref(b);
  lv_elog_release(&at, 1);
  e->findings = 0;
  assert_int_equal(lv_elog_verify(e->disk, "disk", on_finding, e, NULL), LV_E_CORRUPT);
  assert_int_equal(e->findings, 1);
  assert_non_null(strstr(e->finding, "damaged"));
  reopen(e); /* opens all the same, and knows every offset */
  assert_int_equal(facts(e, 1).next_offset, 60);
}

static void test_index_is_made_anew(void **state) {
  env *e = *state;
  const char *idx = "disk-0000000000001000.idx";
  for (int i = 0; i < 3; i++) {
    fill(e, 1, 40, 0);
    (void)job(e, 60ll * SECOND);
    assert_int_equal(lv_elog_close(e->log), 0);
    if (i == 0) assert_int_equal(e->disk->ops->remove(e->disk, idx), 0);
    if (i == 1) flip(e, idx, 140);          /* directory */
    if (i == 2) flip(e, idx, 128 + 48 + 5); /* entries: found out when they are used */
    e->conf.seed++;
    assert_int_equal(lv_elog_open(&e->conf, &e->log, &e->rec, e->why), 0);
    assert_int_equal(e->rec.indexes_rebuilt, i < 2);
    for (uint32_t o = 0; o < 40u * (uint32_t)(i + 1); o++) {
      lv_elog_at at;
      lv_block *b;
      const lv_rec *r;
      assert_int_equal(lv_elog_find_offset(e->log, 1, o, &at), 0);
      assert_int_equal(lv_elog_pread(e->log, &at, &b, &r), 0);
      assert_int_equal(r->offset, o);
      lv_block_unref(b);
      lv_elog_release(&at, 1);
    }
  }
}

/* The head says format 2, with a right checksum: refused, and the text says which file. */
static void test_newer_format_is_refused(void **state) {
  env *e = *state;
  uint8_t head[512];
  int fd;
  fill(e, 1, 3, 0);
  assert_int_equal(lv_elog_close(e->log), 0);
  e->log = NULL;
  assert_int_equal(e->disk->ops->open(e->disk, "disk-0000000000001000.seg", false, &fd), 0);
  assert_int_equal(e->disk->ops->read(e->disk, fd, head, sizeof head, 0), sizeof head);
  assert_int_equal(head[8], LV_ELOG_FORMAT);
  head[8] = LV_ELOG_FORMAT + 1;
  uint32_t crc = lv_crc32c(0, head, 508);
  memcpy(head + 508, &crc, 4);
  struct iovec iov = {head, sizeof head};
  assert_int_equal(e->disk->ops->write(e->disk, fd, &iov, 1, 0), 0);
  e->disk->ops->close(e->disk, fd);
  lv_elog *none = NULL;
  assert_int_equal(lv_elog_open(&e->conf, &none, &e->rec, e->why), LV_E_FORMAT);
  assert_non_null(strstr(e->why, "disk-0000000000001000.seg"));
  assert_null(none);
}

/* Damage below the synced mark of an unsealed segment is not a torn tail: what follows stays. */
static void test_damage_below_the_mark(void **state) {
  env *e = *state;
  assert_int_equal(lv_elog_close(e->log), 0);
  e->disk->ops->free(e->disk);
  e->disk = e->conf.disk = lv_disk_fault_new(&(lv_disk_faults){.seed = 2});
  e->conf.segment_bytes = e->conf.first_bytes = 8 << 20;
  assert_int_equal(lv_elog_open(&e->conf, &e->log, &e->rec, e->why), 0);
  fill(e, 1, 400, 0);
  assert_int_equal(kit_sync(e->log), 0); /* leaves a mark behind 400 KiB */
  fill(e, 1, 1, 0);
  assert_int_equal(kit_sync(e->log), 0);
  lv_disk_fault_crash(e->disk);
  lv_elog_abandon(e->log);
  flip(e, "disk-0000000000001000.seg", 4096 + 56 + 100 * 1056 + 300);
  assert_int_equal(lv_elog_open(&e->conf, &e->log, &e->rec, e->why), 0);
  assert_int_equal(e->rec.damaged_bytes, 1056);
  assert_int_equal(facts(e, 1).next_offset, 401);
  lv_elog_at at;
  assert_int_equal(lv_elog_find_offset(e->log, 1, 100, &at), 0);
  assert_int_equal(at.offset, 101);
  lv_elog_release(&at, 1);
}

/* Ten thousand channels with a record each must not take much. */
static void test_many_channels(void **state) {
  env *e = *state;
  enum { CHANS = 10000, ROUNDS = 5 };
  lv_elog_stats st;
  assert_int_equal(lv_elog_close(e->log), 0);
  e->disk->ops->free(e->disk);
  e->disk = e->conf.disk = lv_disk_fault_new(&(lv_disk_faults){.seed = 2});
  e->conf.segment_bytes = e->conf.first_bytes = 8 << 20;
  assert_int_equal(lv_elog_open(&e->conf, &e->log, &e->rec, e->why), 0);
  for (int k = 0; k < ROUNDS; k++)
    for (uint32_t c = 1; c <= CHANS; c += 100) {
      kit_rec recs[100];
      for (uint32_t i = 0; i < 100; i++) recs[i] = (kit_rec){.chan = c + i, .val = "x", .val_n = 1};
      assert_int_equal(kit_append(e->log, recs, 100), 0);
    }
  lv_elog_stats_get(e->log, &st);
  assert_true(st.index_bytes < 250 * CHANS);
  for (uint32_t c = 1; c <= CHANS; c += 97) assert_int_equal(facts(e, c).next_offset, ROUNDS);
  reopen(e);
  for (uint32_t c = 1; c <= CHANS; c += 97) assert_int_equal(facts(e, c).next_offset, ROUNDS);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
  const struct CMUnitTest tests[] = {
      T(test_keep_count_and_offsets_go_on),
      T(test_keep_age_is_exact),
      T(test_keep_bytes),
      T(test_idle_log_is_emptied),
      T(test_state_survives_its_segments),
      T(test_deletion_outlives_the_value),
      T(test_readers_keep_their_segment),
      T(test_disk_full_and_back),
      T(test_sync_error_stops_the_log),
      T(test_damage_in_a_sealed_segment),
      T(test_index_is_made_anew),
      T(test_newer_format_is_refused),
      T(test_damage_below_the_mark),
      T(test_many_channels),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
