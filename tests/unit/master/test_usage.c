/* test_usage.c: usage in the store: buckets, sums, pages, what is kept; and the meter on a log that
 * dies, with a store whose transactions fail now and then. */
#include "broker/embedded/embedded_int.h"
#include "core/rand.h"
#include "master/usage_db.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void exec(sqlite3 *db, const char *sql) {
  char *why = NULL;
  if (sqlite3_exec(db, sql, NULL, NULL, &why)) fail_msg("%s: %s", sql, why);
}

static int open_db(void **state) {
  sqlite3 *db;
  assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
  exec(db, lv__usage_db_schema);
  *state = db;
  return 0;
}
static int close_db(void **state) {
  assert_int_equal(sqlite3_close(*state), SQLITE_OK);
  return 0;
}

/* So much of each unit: n for the first, 2 n for the second, … */
static void add(sqlite3 *db, const char *app, int64_t minute, uint64_t n) {
  lv_meter_row row = {.app = lv_slice_str(app), .minute = minute};
  for (uint32_t u = 0; u < LV_U_COUNT; u++) row.use.u[u] = n * (u + 1);
  assert_int_equal(lv__usage_db_add(db, &(lv_meter_rows){.row = &row, .n = 1, .lsn = {7, 9}}), 0);
}

static char told[4096];
static void tell(void *arg, lv_slice app, int64_t at, const lv_usage *use) {
  size_t n = strlen(told);
  (void)arg;
  for (uint32_t u = 0; u < LV_U_COUNT; u++) assert_int_equal(use->u[u], use->u[0] * (u + 1));
  (void)snprintf(told + n, sizeof told - n, "%lld %.*s %llu\n", (long long)at, (int)app.n,
                 (const char *)app.p, (unsigned long long)use->u[0]);
}

static const char *ask(sqlite3 *db, lv_usage_query q) {
  told[0] = 0;
  if (!q.limit) q.limit = 100;
  int r = lv__usage_db_query(db, &q, tell, NULL);
  assert_true(r == 0 || r == 1);
  size_t n = strlen(told);
  if (r) (void)snprintf(told + n, sizeof told - n, "more\n");
  return told;
}

static void buckets(void **state) {
  sqlite3 *db = *state;
  const int64_t day = 86400, d = 20000 * day, m = d / 60;
  add(db, "b", m, 1);
  add(db, "b", m, 2);
  add(db, "a", m + 1, 4);
  add(db, "a", m + 60, 8);
  add(db, "a", m + 24 * 60, 16);
  lv_usage_query q = {.from = d, .to = d + 2 * day, .step = LV_USAGE_MINUTE};
  assert_string_equal(ask(db, q), "1728000000 b 3\n1728000060 a 4\n1728003600 a 8\n"
                                  "1728086400 a 16\n");
  q.step = LV_USAGE_HOUR;
  assert_string_equal(ask(db, q), "1728000000 a 4\n1728000000 b 3\n1728003600 a 8\n"
                                  "1728086400 a 16\n");
  q.step = LV_USAGE_DAY;
  assert_string_equal(ask(db, q), "1728000000 a 12\n1728000000 b 3\n1728086400 a 16\n");
  q.step = LV_USAGE_TOTAL;
  assert_string_equal(ask(db, q), "1728000000 a 28\n1728000000 b 3\n");
  q.app = LV_SLICE("b");
  assert_string_equal(ask(db, q), "1728000000 b 3\n");
  q.app = LV_SLICE("none");
  assert_string_equal(ask(db, q), "");
  q = (lv_usage_query){.from = d + 60, .to = d + 3600, .step = LV_USAGE_MINUTE};
  assert_string_equal(ask(db, q), "1728000060 a 4\n");
  lv_usage sum;
  q = (lv_usage_query){.from = d, .to = d + day, .step = LV_USAGE_DAY};
  assert_int_equal(lv__usage_db_sum(db, &q, &sum), 0);
  for (uint32_t u = 0; u < LV_U_COUNT; u++) assert_int_equal(sum.u[u], 15 * (u + 1));
}

static void pages(void **state) {
  sqlite3 *db = *state;
  const char *apps[] = {"a", "b", "c"};
  for (int64_t hour = 0; hour < 4; hour++)
    for (uint32_t i = 0; i < 3; i++) add(db, apps[i], hour * 60, (uint64_t)(10 * hour + i + 1));
  for (uint8_t step = LV_USAGE_MINUTE; step <= LV_USAGE_TOTAL; step++) {
    lv_usage_query q = {.to = 86400, .step = step};
    char all[4096], some[4096] = "";
    (void)snprintf(all, sizeof all, "%s", ask(db, q));
    q.limit = 2;
    for (;;) { /* two at a time are the same */
      long long at;
      char app[8];
      bool more = strstr(ask(db, q), "more\n") != NULL;
      if (more) *strstr(told, "more\n") = 0;
      (void)snprintf(some + strlen(some), sizeof some - strlen(some), "%s", told);
      if (!more) break;
      const char *last = told;
      for (const char *p = told; *p; p++)
        if (*p == '\n' && p[1]) last = p + 1;
      assert_int_equal(sscanf(last, "%lld %7s", &at, app), 2);
      q.after_at = at;
      q.after = lv_slice_str(app);
    }
    assert_string_equal(some, all);
  }
}

static void kept(void **state) {
  sqlite3 *db = *state;
  const int64_t now = 30000000;
  add(db, "a", now, 1);
  add(db, "a", now - LV_USAGE_KEEP_MINUTES + 1, 2);
  add(db, "a", now - LV_USAGE_KEEP_MINUTES - 1, 4);
  add(db, "a", now - (LV_USAGE_KEEP_HOURS + 1) * 60, 8);
  assert_int_equal(lv__usage_db_prune(db, (lv_wall){now * 60000000000}), 0);
  lv_usage sum;
  lv_usage_query q = {.to = INT64_MAX / 2, .step = LV_USAGE_MINUTE};
  assert_int_equal(lv__usage_db_sum(db, &q, &sum), 0);
  assert_int_equal(sum.u[0], 3);
  q.step = LV_USAGE_TOTAL;
  assert_int_equal(lv__usage_db_sum(db, &q, &sum), 0);
  assert_int_equal(sum.u[0], 7);
}

static void marks(void **state) {
  sqlite3 *db = *state;
  uint64_t lsn[LV_DURABILITY_COUNT];
  assert_int_equal(lv__usage_db_marks(db, lsn), 0);
  add(db, "a", 1, 1);
  assert_int_equal(lv__usage_db_marks(db, lsn), 1);
  assert_int_equal(lsn[0], 7);
  assert_int_equal(lsn[1], 9);
}

/* ---- the meter ---- */

static lv_chan *chans[4];

static lv_broker *open_log(lv_disk *disk) {
  lv_broker *b;
  char why[256];
  lv_embedded_conf conf = {.dir = "", .disk = disk, .tail_bytes = 1 << 20};
  assert_int_equal(lv_embedded_open(&conf, &b, why), 0);
  for (uint32_t i = 0; i < 4; i++) {
    char name[2] = {(char)('a' + i), 0};
    lv_chan_conf cc = {.app = i % 2 ? LV_SLICE("odd") : LV_SLICE("even"),
                       .name = lv_slice_str(name),
                       .durability = i < 2 ? LV_DURABILITY_DISK : LV_DURABILITY_MEMORY};
    assert_int_equal(b->ops->ensure(b, &cc, i % 2, 0, &chans[i]), 0);
  }
  return b;
}

/* What has become of the messages: 1 step each, 100 bytes. */
static int publish(lv_broker *b, uint32_t i) {
  static uint8_t value[97];
  lv_lane *l = &lv__embedded(b)->lane[chans[i]->durability];
  lv_rec_in in = {.kind = LV_REC_MSG,
                  .key_off = 2,
                  .chan = chans[i]->id,
                  .topic = LV_SLICE("a/kk"),
                  .ingest_ns = (int64_t)(100 + i) * 60000000000,
                  .val = lv_slice_of(value, sizeof value)};
  return lv__lane_commit(l, &in);
}

static int store(sqlite3 *db, lv_meter *m, const lv_meter_rows *rows, bool fail) {
  exec(db, "BEGIN");
  assert_int_equal(lv__usage_db_add(db, rows), 0);
  exec(db, fail ? "ROLLBACK" : "COMMIT");
  if (!fail) lv_meter_commit(m);
  return fail ? LV_E_IO : 0;
}

static void check_sums(sqlite3 *db, const uint64_t done[2], uint64_t out) {
  lv_usage sum;
  for (uint32_t i = 0; i < 2; i++) {
    lv_usage_query q = {
        .app = i ? LV_SLICE("odd") : LV_SLICE("even"), .to = 1 << 20, .step = LV_USAGE_TOTAL};
    assert_int_equal(lv__usage_db_sum(db, &q, &sum), 0);
    assert_int_equal(sum.u[LV_U_MESSAGES_IN], done[i]);
    assert_int_equal(sum.u[LV_U_BYTES_IN], done[i] * 100);
    assert_int_equal(sum.u[LV_U_MESSAGES_OUT], i ? 0 : out);
    assert_int_equal(sum.u[LV_U_BYTES_OUT], i ? 0 : out * 10);
  }
}

static void across_crashes(void **state) {
  sqlite3 *db = *state;
  lv_disk_faults none = {.seed = 5};
  lv_disk *disk = lv_disk_fault_new(&none);
  lv_rand r;
  uint64_t done[2] = {0}, out = 0, lsn[LV_DURABILITY_COUNT];
  lv_metrics *row = lv_metrics_row(lv_metrics_mine(), 0, LV_KPI_MQTT);
  lv_rand_init(&r, 5);
  lv_metrics_app(0, "even", 4);
  lv_metrics_app(1, "odd", 3);
  for (int life = 0; life < 8; life++) {
    lv_broker *b = open_log(disk);
    lv_meter *m;
    const lv_meter_rows *rows;
    int have = lv__usage_db_marks(db, lsn);
    assert_int_equal(have, life > 0);
    m = lv_meter_new(b);
    if (life % 2) { /* before the store is there */
      assert_int_equal(publish(b, 0), 0);
      done[0]++;
    }
    assert_int_equal(lv_meter_begin(m, have ? lsn : NULL, &rows), 0);
    while (store(db, m, rows, lv_rand_chance(&r, 0.3))) {
    }
    uint64_t charged = 0;
    for (int second = 0; second < 4; second++) {
      for (uint32_t i = 0, n = (uint32_t)lv_rand_below(&r, 50); i < n; i++) {
        uint32_t c = (uint32_t)lv_rand_below(&r, 4);
        assert_int_equal(publish(b, c), 0);
        done[c % 2]++;
      }
      lv_use_out(row, 3, 30);
      rows = lv_meter_collect(m, (lv_wall){(int64_t)200 * 60000000000}, lv_mono_now());
      assert_true(rows->worth);
      charged += 3;
      if (store(db, m, rows, lv_rand_chance(&r, 0.3)) == 0) {
        out += charged;
        charged = 0;
      }
    }
    lv_meter_free(m);
    lv__embedded_abandon(b);
    lv_disk_fault_kill(disk);
  }
  lv_broker *b = open_log(disk);
  lv_meter *m;
  const lv_meter_rows *rows;
  assert_int_equal(lv__usage_db_marks(db, lsn), 1);
  m = lv_meter_new(b);
  assert_int_equal(lv_meter_begin(m, lsn, &rows), 0);
  for (uint32_t i = 0; i < rows->n; i++) /* by the minute in which it came */
    assert_true(rows->row[i].minute >= 100 && rows->row[i].minute < 104);
  (void)store(db, m, rows, false);
  check_sums(db, done, out);
  /* A log that was removed meanwhile: its addresses begin anew, nothing is read twice. */
  uint64_t far[LV_DURABILITY_COUNT] = {UINT64_C(1) << 60, UINT64_C(1) << 60};
  lv_meter_free(m);
  m = lv_meter_new(b);
  assert_int_equal(lv_meter_begin(m, far, &rows), 0);
  assert_int_equal(rows->n, 0);
  assert_true(rows->lsn[0] < far[0] && rows->worth);
  lv_meter_free(m);
  b->ops->close(b);
  disk->ops->free(disk);
}

/* Byte-hours: what is stored, times the time that passes; nothing before it is stored. */
static void byte_hours(void **state) {
  lv_disk_faults none = {.seed = 6};
  lv_disk *disk = lv_disk_fault_new(&none);
  lv_broker *b = open_log(disk);
  lv_meter *m;
  const lv_meter_rows *rows;
  uint64_t sum = 0;
  (void)state;
  m = lv_meter_new(b);
  assert_int_equal(lv_meter_begin(m, NULL, &rows), 0);
  lv_mono t = {1000000000};
  for (int i = 0; i < 1000; i++) assert_int_equal(publish(b, 0), 0);
  lv_elog_chan facts;
  lv_elog_chan_get(lv__embedded(b)->lane[LV_DURABILITY_DISK].elog, chans[0]->id, &facts);
  assert_true(facts.bytes >= 1000 * (LV_REC_HEAD + 97));
  for (int i = 0; i <= 7200; i += 11, t.ns += INT64_C(11000000000)) {
    rows = lv_meter_collect(m, (lv_wall){0}, t);
    for (uint32_t k = 0; k < rows->n; k++)
      if (lv_slice_eq(rows->row[k].app, LV_SLICE("even")))
        sum += rows->row[k].use.u[LV_U_STORED_BYTE_HOURS];
    lv_meter_commit(m);
  }
  double hours = 7194 / 3600.0;
  assert_true((double)sum <= hours * (double)facts.bytes);
  assert_true((double)sum > hours * (double)facts.bytes * 0.99);
  lv_meter_free(m);
  b->ops->close(b);
  disk->ops->free(disk);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, open_db, close_db)
  const struct CMUnitTest tests[] = {
      T(buckets), T(pages), T(kept), T(marks), T(across_crashes), cmocka_unit_test(byte_hours),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
