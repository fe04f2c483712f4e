/* usage_db.c: see usage_db.h.
 *
 * Two tables of the same shape, both written with each second's change, so that no job has to make
 * hours of minutes; days and totals are sums of hours. Rows are ordered by time first: what is
 * written lies together, what is too old goes as one range. Columns are the units of core/usage.h
 * by name: a unit more there is a migration here (ALTER TABLE … ADD COLUMN … DEFAULT 0). */
#include "master/usage_db.h"
#include <string.h>

#define X(id, name, counter) "," name " INTEGER NOT NULL"
#define COLUMNS "(at INTEGER NOT NULL,app TEXT NOT NULL" LV_USAGE_UNITS(X)
const char lv__usage_db_schema[] =
    "CREATE TABLE usage_minute" COLUMNS ",PRIMARY KEY(at,app)) WITHOUT ROWID;"
    "CREATE TABLE usage_hour" COLUMNS ",PRIMARY KEY(at,app)) WITHOUT ROWID;"
    "CREATE TABLE usage_mark(log INTEGER PRIMARY KEY,lsn INTEGER NOT NULL);";
#undef X

static int err_of(int rc) {
  return rc == SQLITE_FULL ? LV_E_DISK_FULL : LV_E_IO;
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql) {
  sqlite3_stmt *st = NULL;
  return sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK ? st : NULL;
}

static void bind_text(sqlite3_stmt *st, int i, lv_slice s) {
  (void)sqlite3_bind_text(st, i, s.n ? (const char *)s.p : "", (int)s.n, SQLITE_STATIC);
}

/* ---- writing ---- */

int lv__usage_db_marks(sqlite3 *db, uint64_t ret_lsn[LV_DURABILITY_COUNT]) {
  sqlite3_stmt *st = prepare(db, "SELECT log,lsn FROM usage_mark");
  uint64_t lsn[LV_DURABILITY_COUNT] = {0};
  int rc = SQLITE_IOERR, n = 0;
  while (st && (rc = sqlite3_step(st)) == SQLITE_ROW) {
    int log = sqlite3_column_int(st, 0);
    if (log < 0 || log >= LV_DURABILITY_COUNT) continue;
    lsn[log] = (uint64_t)sqlite3_column_int64(st, 1);
    n++;
  }
  sqlite3_finalize(st);
  if (rc != SQLITE_DONE) return err_of(rc);
  if (n < LV_DURABILITY_COUNT) return 0;
  memcpy(ret_lsn, lsn, sizeof lsn);
  return 1;
}

#define ADD(table)                                                                                 \
  "INSERT INTO " table " VALUES(?,?" LV_USAGE_UNITS(                                               \
      VALUE) ") ON CONFLICT(at,app) DO UPDATE SET at=at" LV_USAGE_UNITS(SET)
#define VALUE(id, name, counter) ",?"
#define SET(id, name, counter) "," name "=" name "+excluded." name

static int add_rows(sqlite3 *db, const lv_meter_rows *rows, const char *sql, int minutes) {
  sqlite3_stmt *st = prepare(db, sql);
  int rc = st ? SQLITE_DONE : SQLITE_IOERR;
  for (uint32_t i = 0; i < rows->n && rc == SQLITE_DONE; i++) {
    const lv_meter_row *row = &rows->row[i];
    (void)sqlite3_bind_int64(st, 1, row->minute / minutes);
    bind_text(st, 2, row->app);
    for (int u = 0; u < LV_U_COUNT; u++)
      (void)sqlite3_bind_int64(st, 3 + u, (int64_t)row->use.u[u]);
    rc = sqlite3_step(st);
    (void)sqlite3_reset(st);
  }
  sqlite3_finalize(st);
  return rc;
}

static int set_marks(sqlite3 *db, const lv_meter_rows *rows) {
  sqlite3_stmt *st = prepare(db, "INSERT OR REPLACE INTO usage_mark VALUES(?,?)");
  int rc = st ? SQLITE_DONE : SQLITE_IOERR;
  for (int log = 0; log < LV_DURABILITY_COUNT && rc == SQLITE_DONE; log++) {
    (void)sqlite3_bind_int(st, 1, log);
    (void)sqlite3_bind_int64(st, 2, (int64_t)rows->lsn[log]);
    rc = sqlite3_step(st);
    (void)sqlite3_reset(st);
  }
  sqlite3_finalize(st);
  return rc;
}

int lv__usage_db_add(sqlite3 *db, const lv_meter_rows *rows) {
  int rc = add_rows(db, rows, ADD("usage_minute"), 1);
  if (rc == SQLITE_DONE) rc = add_rows(db, rows, ADD("usage_hour"), 60);
  if (rc == SQLITE_DONE) rc = set_marks(db, rows);
  return rc == SQLITE_DONE ? 0 : err_of(rc);
}

static int prune(sqlite3 *db, const char *sql, int64_t before) {
  sqlite3_stmt *st = prepare(db, sql);
  if (!st) return SQLITE_IOERR;
  (void)sqlite3_bind_int64(st, 1, before);
  int rc = sqlite3_step(st);
  sqlite3_finalize(st);
  return rc;
}

int lv__usage_db_prune(sqlite3 *db, lv_wall now) {
  int64_t minute = now.ns / 60000000000;
  int rc = prune(db, "DELETE FROM usage_minute WHERE at<?", minute - LV_USAGE_KEEP_MINUTES);
  if (rc == SQLITE_DONE)
    rc = prune(db, "DELETE FROM usage_hour WHERE at<?", minute / 60 - LV_USAGE_KEEP_HOURS);
  return rc == SQLITE_DONE ? 0 : err_of(rc);
}

/* ---- reading ---- */

#define SUM(id, name, counter) ",SUM(" name ")"
/* 1, 2: from, to; 3: app; 4: rows a bucket, 0: all are one; 5, 6: behind this bucket; 7: limit */
#define QUERY(table)                                                                               \
  "SELECT * FROM (SELECT CASE ?4 WHEN 0 THEN 0 ELSE at/?4 END AS b,app" LV_USAGE_UNITS(            \
      SUM) " FROM " table                                                                          \
           " WHERE at>=?1 AND at<?2 AND (?3='' OR app=?3) GROUP BY b,app) WHERE (b,app)>(?5,?6) "  \
           "ORDER BY b,app LIMIT ?7"

static void use_of(sqlite3_stmt *st, int column, lv_usage *ret) {
  for (int u = 0; u < LV_U_COUNT; u++) ret->u[u] = (uint64_t)sqlite3_column_int64(st, column + u);
}

int lv__usage_db_query(sqlite3 *db, const lv_usage_query *q, lv_usage_bucket_fn *fn, void *arg) {
  bool minutes = q->step == LV_USAGE_MINUTE;
  int64_t row_s = minutes ? 60 : 3600, bucket_s = lv_usage_step_s(q->step),
          bucket = bucket_s / row_s;
  sqlite3_stmt *st = prepare(db, minutes ? QUERY("usage_minute") : QUERY("usage_hour"));
  if (!st) return LV_E_IO;
  (void)sqlite3_bind_int64(st, 1, q->from / row_s);
  (void)sqlite3_bind_int64(st, 2, q->to / row_s);
  bind_text(st, 3, q->app);
  (void)sqlite3_bind_int64(st, 4, bucket);
  (void)sqlite3_bind_int64(st, 5, !q->after.n ? -1 : bucket ? q->after_at / bucket_s : 0);
  bind_text(st, 6, q->after);
  (void)sqlite3_bind_int64(st, 7, (int64_t)q->limit + 1);
  int rc = SQLITE_DONE;
  for (uint32_t n = 0; n <= q->limit && (rc = sqlite3_step(st)) == SQLITE_ROW && n < q->limit;
       n++) {
    lv_usage use;
    use_of(st, 2, &use);
    lv_slice app = lv_slice_of((const uint8_t *)sqlite3_column_text(st, 1),
                               (size_t)sqlite3_column_bytes(st, 1));
    fn(arg, app, bucket ? sqlite3_column_int64(st, 0) * bucket_s : q->from, &use);
  }
  sqlite3_finalize(st);
  return rc == SQLITE_ROW ? 1 : rc == SQLITE_DONE ? 0 : err_of(rc);
}

int lv__usage_db_sum(sqlite3 *db, const lv_usage_query *q, lv_usage *ret) {
  static const char minute[] = "SELECT 0" LV_USAGE_UNITS(
      SUM) " FROM usage_minute WHERE at>=?1 AND at<?2 AND (?3='' OR app=?3)";
  static const char hour[] = "SELECT 0" LV_USAGE_UNITS(
      SUM) " FROM usage_hour WHERE at>=?1 AND at<?2 AND (?3='' OR app=?3)";
  bool minutes = q->step == LV_USAGE_MINUTE;
  int64_t row_s = minutes ? 60 : 3600;
  sqlite3_stmt *st = prepare(db, minutes ? minute : hour);
  if (!st) return LV_E_IO;
  (void)sqlite3_bind_int64(st, 1, q->from / row_s);
  (void)sqlite3_bind_int64(st, 2, q->to / row_s);
  bind_text(st, 3, q->app);
  int rc = sqlite3_step(st);
  if (rc == SQLITE_ROW) use_of(st, 1, ret);
  sqlite3_finalize(st);
  return rc == SQLITE_ROW ? 0 : err_of(rc);
}
