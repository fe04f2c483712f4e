/* store.c: DIR/master.db (store.h). Statements are prepared when used: a change costs a sync,
 * beside which preparing is nothing. @thread one at a time */
#include "master/store.h"
#include "core/rand.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { MAGIC = 0x4C564D44, APPLICATION = 0x4C617661, BUSY_MS = 5000 };

struct lv_store {
  sqlite3 *db;
  char instance[LV_STORE_INSTANCE];
  int64_t seen; /* data_version; 0: not asked for yet */
};

/* One string a format: what brings a file from format i to i + 1. Only ever append. */
static const char *const migrations[] = {
    /* 1: apps, channels, keys */
    "CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;"
    "CREATE TABLE object(kind INTEGER NOT NULL, app TEXT NOT NULL, name TEXT NOT NULL,"
    " body TEXT NOT NULL, created INTEGER NOT NULL, PRIMARY KEY(kind, app, name)) WITHOUT ROWID;"
    "INSERT INTO meta VALUES('revision', 0);",
    /* 2: metering */
    lv__usage_db_schema,
};
enum { FORMAT = sizeof migrations / sizeof *migrations };

int lv_store_err(int rc) {
  switch (rc & 0xff) {
  case SQLITE_OK:
  case SQLITE_ROW:
  case SQLITE_DONE: return 0;
  case SQLITE_BUSY:
  case SQLITE_LOCKED: return LV_E_BUSY;
  case SQLITE_FULL: return LV_E_DISK_FULL;
  case SQLITE_CORRUPT: return LV_E_CORRUPT;
  case SQLITE_NOTADB: return LV_E_FORMAT;
  case SQLITE_PERM:
  case SQLITE_READONLY:
  case SQLITE_CANTOPEN:
  case SQLITE_AUTH: return LV_E_FORBIDDEN;
  case SQLITE_NOMEM: return LV_E_NOMEM;
  case SQLITE_CONSTRAINT: return LV_E_EXISTS;
  case SQLITE_TOOBIG: return LV_E_TOO_BIG;
  default: return LV_E_IO;
  }
}

const char *lv_store_text(lv_store *s) {
  return sqlite3_errmsg(s->db);
}

struct sqlite3 *lv_store_db(lv_store *s) {
  return s->db;
}

const char *lv_store_instance(const lv_store *s) {
  return s->instance;
}

static int exec(sqlite3 *db, const char *sql) {
  return lv_store_err(sqlite3_exec(db, sql, NULL, NULL, NULL));
}

/* First column of the first row of a query, as a number. */
static int number(sqlite3 *db, const char *sql, int64_t *ret) {
  sqlite3_stmt *st = NULL;
  int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
  if (rc == SQLITE_OK) rc = sqlite3_step(st);
  int err = rc == SQLITE_DONE ? LV_E_NOT_FOUND : lv_store_err(rc);
  if (rc == SQLITE_ROW) *ret = sqlite3_column_int64(st, 0);
  sqlite3_finalize(st);
  return err;
}

/* ---- opening ---- */

/* SQLite would make it with the umask's mode; who makes it for another (root, with `lavva key
 * create`) gives it to the folder's owner. SQLite's other files follow this one. */
static int make_file(const char *dir, const char *path, char *why) {
  struct stat st;
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) {
    int err = lv_err_from_errno(errno);
    snprintf(why, LV_STORE_WHY, "%.300s: %s", path, lv_strerror(errno));
    return err;
  }
  if (geteuid() == 0 && stat(dir, &st) == 0) (void)!fchown(fd, st.st_uid, st.st_gid);
  close(fd);
  return 0;
}

static int integrity(sqlite3 *db, char *why) {
  sqlite3_stmt *st = NULL;
  int rc = sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &st, NULL);
  if (rc == SQLITE_OK) rc = sqlite3_step(st);
  int err = lv_store_err(rc);
  const char *text = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(st, 0) : NULL;
  if (text && strcmp(text, "ok") != 0) {
    err = LV_E_CORRUPT;
    snprintf(why, LV_STORE_WHY, "it is damaged: %.200s", text);
  }
  sqlite3_finalize(st);
  return err;
}

/* One format further, or nothing: a crash leaves the old one. */
static int migrate_one(sqlite3 *db, int64_t from) {
  char version[48];
  snprintf(version, sizeof version, "PRAGMA user_version=%lld", (long long)from + 1);
  int err = exec(db, migrations[from]);
  if (!err) err = exec(db, version);
  return err;
}

static int migrate(sqlite3 *db, char *why) {
  int64_t version = 0, application = 0, tables = 0;
  char sign[48];
  snprintf(sign, sizeof sign, "PRAGMA application_id=%d", APPLICATION);
  int err = exec(db, "BEGIN IMMEDIATE"); /* another process may be doing the same */
  if (err) return err;
  err = number(db, "PRAGMA user_version", &version);
  if (!err) err = number(db, "PRAGMA application_id", &application);
  if (!err) err = number(db, "SELECT count(*) FROM sqlite_master", &tables);
  bool fresh = !version && !application && !tables;
  if (!err && !fresh && application != APPLICATION) {
    snprintf(why, LV_STORE_WHY, "an SQLite file, but not one of Lavva's");
    err = LV_E_FORMAT;
  } else if (!err && version > FORMAT) {
    snprintf(why, LV_STORE_WHY, "format %lld, this version reads up to %d: run a newer lavva",
             (long long)version, FORMAT);
    err = LV_E_FORMAT;
  }
  if (!err && fresh) err = exec(db, sign);
  for (; !err && version < FORMAT; version++) err = migrate_one(db, version);
  if (!err) return exec(db, "COMMIT");
  (void)exec(db, "ROLLBACK");
  return err;
}

static int instance(lv_store *s) {
  char made[LV_STORE_INSTANCE], sql[128];
  uint8_t bytes[8];
  lv_random_bytes(bytes, sizeof bytes);
  for (int i = 0; i < 8; i++) snprintf(made + 2 * i, 3, "%02x", bytes[i]);
  snprintf(sql, sizeof sql, "INSERT OR IGNORE INTO meta VALUES('instance', '%s')", made);
  int err = exec(s->db, sql);
  if (err) return err;
  sqlite3_stmt *st = NULL;
  int rc = sqlite3_prepare_v2(s->db, "SELECT value FROM meta WHERE name='instance'", -1, &st, NULL);
  if (rc == SQLITE_OK) rc = sqlite3_step(st);
  if (rc == SQLITE_ROW)
    snprintf(s->instance, sizeof s->instance, "%s", (const char *)sqlite3_column_text(st, 0));
  sqlite3_finalize(st);
  return lv_store_err(rc);
}

/* Of a log of its own that it cannot make SQLite says no more than "unable to open". */
static bool no_space(const char *dir) {
  struct statvfs v;
  int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  bool low = fd >= 0 && fstatvfs(fd, &v) == 0 && (uint64_t)v.f_bavail * v.f_frsize < 64 * 1024;
  if (fd >= 0) close(fd);
  return low;
}

static int settings(sqlite3 *db) {
  sqlite3_busy_timeout(db, BUSY_MS);
  (void)sqlite3_extended_result_codes(db, 1);
  (void)sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
  (void)sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
  return exec(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
                  "PRAGMA journal_size_limit=4194304");
}

int lv_store_open(const char *dir, lv_store **ret_store, char *why) {
  char path[4200], what[LV_STORE_WHY] = "";
  why[0] = 0;
  snprintf(path, sizeof path, "%s/" LV_STORE_FILE, dir);
  int err = make_file(dir, path, why);
  if (err) return err;
  lv_store *s = calloc(1, sizeof *s);
  if (!s) abort();
  err = lv_store_err(
      sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL));
  if (!err) err = settings(s->db);
  if (!err) err = integrity(s->db, what);
  if (!err) err = migrate(s->db, what);
  if (!err) err = instance(s);
  if (!err) {
    *ret_store = s;
    return 0;
  }
  if (err == LV_E_FORBIDDEN && no_space(dir)) err = LV_E_DISK_FULL;
  snprintf(why, LV_STORE_WHY, "%.200s: %.250s", path,
           what[0] ? what
           : s->db ? sqlite3_errmsg(s->db)
                   : lv_err_text(err));
  lv_store_close(s);
  return err;
}

void lv_store_close(lv_store *s) {
  if (!s) return;
  int rc = sqlite3_close(s->db);
  assert(rc == SQLITE_OK); /* every statement was finalized */
  (void)rc;
  free(s);
}

/* ---- objects ---- */

bool lv_store_changed(lv_store *s) {
  int64_t now = 0;
  if (number(s->db, "PRAGMA data_version", &now)) return false;
  bool changed = s->seen && now != s->seen;
  s->seen = now;
  return changed;
}

int lv_store_revision(lv_store *s, uint64_t *ret_revision) {
  int64_t v = 0;
  int err = number(s->db, "SELECT value FROM meta WHERE name='revision'", &v);
  if (!err) *ret_revision = (uint64_t)v;
  return err;
}

static lv_slice column(sqlite3_stmt *st, int i) {
  const void *p = sqlite3_column_text(st, i);
  return lv_slice_of(p, p ? (size_t)sqlite3_column_bytes(st, i) : 0);
}

int lv_store_each(lv_store *s, lv_store_fn *fn, void *arg) {
  static const char sql[] = "SELECT kind, app, name, body FROM object ORDER BY kind, app, name";
  sqlite3_stmt *st = NULL;
  int rc = sqlite3_prepare_v2(s->db, sql, -1, &st, NULL), stop = 0;
  while (rc == SQLITE_OK || rc == SQLITE_ROW) {
    rc = sqlite3_step(st);
    if (rc != SQLITE_ROW) break;
    int kind = sqlite3_column_int(st, 0);
    if (kind < 0 || kind >= LV_CONF_KIND_COUNT) stop = LV_E_CORRUPT;
    if (!stop) stop = fn(arg, (enum lv_conf_kind)kind, column(st, 1), column(st, 2), column(st, 3));
    if (stop) break;
  }
  sqlite3_finalize(st);
  return stop ? stop : lv_store_err(rc);
}

static void bind(sqlite3_stmt *st, int at, lv_slice s) {
  (void)sqlite3_bind_text(st, at, s.n ? (const char *)s.p : "", (int)s.n, SQLITE_STATIC);
}

/* One statement with ?1 kind, ?2 app, ?3 name, ?4 body as far as it has them. */
static int run(lv_store *s, const char *sql, enum lv_conf_kind kind, lv_slice app, lv_slice name,
               lv_slice body) {
  sqlite3_stmt *st = NULL;
  int rc = sqlite3_prepare_v2(s->db, sql, -1, &st, NULL);
  if (rc != SQLITE_OK) return lv_store_err(rc);
  int n = sqlite3_bind_parameter_count(st);
  (void)sqlite3_bind_int(st, 1, (int)kind);
  if (n >= 2) bind(st, 2, app);
  if (n >= 3) bind(st, 3, name);
  if (n >= 4) bind(st, 4, body);
  rc = sqlite3_step(st);
  sqlite3_finalize(st);
  return lv_store_err(rc);
}

static int commit(lv_store *s, int err) {
  if (!err) err = exec(s->db, "UPDATE meta SET value=value+1 WHERE name='revision'");
  if (!err) err = exec(s->db, "COMMIT");
  if (err && !sqlite3_get_autocommit(s->db)) (void)exec(s->db, "ROLLBACK");
  return err;
}

int lv_store_insert(lv_store *s, enum lv_conf_kind kind, lv_slice app, lv_slice name,
                    lv_slice body) {
  int err = exec(s->db, "BEGIN IMMEDIATE");
  if (err) return err;
  err = run(s, "INSERT INTO object VALUES(?1, ?2, ?3, ?4, CAST(strftime('%s','now') AS INTEGER))",
            kind, app, name, body);
  return commit(s, err);
}

/* What a statement changed, as an error when it was nothing. */
static int some(lv_store *s, int err) {
  return err ? err : sqlite3_changes(s->db) ? 0 : LV_E_NOT_FOUND;
}

int lv_store_update(lv_store *s, enum lv_conf_kind kind, lv_slice app, lv_slice name,
                    lv_slice body) {
  int err = exec(s->db, "BEGIN IMMEDIATE");
  if (err) return err;
  err = run(s, "UPDATE object SET body=?4 WHERE kind=?1 AND app=?2 AND name=?3", kind, app, name,
            body);
  return commit(s, some(s, err));
}

int lv_store_delete(lv_store *s, enum lv_conf_kind kind, lv_slice app, lv_slice name) {
  static const char one[] = "DELETE FROM object WHERE kind=?1 AND app=?2 AND name=?3";
  static const char inside[] = "DELETE FROM object WHERE ?1 >= 0 AND app=?2";
  int err = exec(s->db, "BEGIN IMMEDIATE");
  if (err) return err;
  err = some(s, run(s, one, kind, app, name, (lv_slice){NULL, 0}));
  if (!err && kind == LV_CONF_APP) err = run(s, inside, kind, name, name, name);
  return commit(s, err);
}
