/* dbcopy.c: see dbcopy.h. SQLite's online backup into a database in memory: one step, so that the
 * copy is of one moment; in WAL mode writers are not held up by it.
 *
 * @thread one */
#include "cli/dbcopy.h"
#include "core/err.h"
#include <assert.h>
#include <errno.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUSY_MS = 10000, WHY = 256 };

static bool ends_with(const char *s, const char *end) {
  size_t n = strlen(s), m = strlen(end);
  return n > m && strcmp(s + n - m, end) == 0;
}

bool lv_dbcopy_is(const char *name) {
  return ends_with(name, ".db");
}

bool lv_dbcopy_beside(const char *name) {
  return ends_with(name, ".db-wal") || ends_with(name, ".db-shm") || ends_with(name, ".db-journal");
}

static int failed(sqlite3 *db, int code, char *why) {
  snprintf(why, WHY, "%s", db ? sqlite3_errmsg(db) : sqlite3_errstr(code));
  switch (code & 0xFF) {
  case SQLITE_CORRUPT:
  case SQLITE_NOTADB: return LV_E_CORRUPT;
  case SQLITE_BUSY: return LV_E_BUSY;
  case SQLITE_FULL: return LV_E_DISK_FULL;
  default: return LV_E_IO;
  }
}

static int number(sqlite3 *db, const char *sql, int *ret) {
  sqlite3_stmt *st = NULL;
  int r = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
  if (r == SQLITE_OK) r = sqlite3_step(st);
  if (r == SQLITE_ROW) *ret = sqlite3_column_int(st, 0);
  (void)sqlite3_finalize(st);
  return r == SQLITE_ROW ? SQLITE_OK : r;
}

static int copy(sqlite3 *from, sqlite3 *to, lv_dbcopy *ret) {
  sqlite3_backup *b = sqlite3_backup_init(to, "main", from, "main");
  if (!b) return sqlite3_errcode(to);
  int r;
  for (int i = 0; (r = sqlite3_backup_step(b, -1)) == SQLITE_BUSY || r == SQLITE_LOCKED; i++) {
    if (i * 50 > BUSY_MS) break;
    (void)sqlite3_sleep(50);
  }
  (void)sqlite3_backup_finish(b);
  if (r != SQLITE_DONE) return r;
  r = number(to, "PRAGMA user_version", &ret->format);
  if (r != SQLITE_OK) return r;
  sqlite3_int64 n = 0;
  ret->bytes = sqlite3_serialize(to, "main", &n, 0);
  ret->size = (uint64_t)n;
  return ret->bytes ? SQLITE_OK : SQLITE_NOMEM;
}

static int read_as_owner(const char *path, lv_dbcopy *ret, char *why) {
  sqlite3 *from = NULL, *to = NULL;
  int r = sqlite3_open_v2(path, &from, SQLITE_OPEN_READWRITE, NULL);
  if (r == SQLITE_OK) (void)sqlite3_busy_timeout(from, BUSY_MS);
  if (r == SQLITE_OK) r = sqlite3_open(":memory:", &to);
  if (r == SQLITE_OK) r = copy(from, to, ret);
  int err = r == SQLITE_OK ? 0 : failed(from, r, why);
  (void)sqlite3_close(to);
  (void)sqlite3_close(from);
  return err;
}

static int path_of(const char *dir, const char *name, char path[4300], struct stat *st) {
  int n = snprintf(path, 4300, "%s/%s", dir, name);
  if (n < 0 || n >= 4300) return LV_E_TOO_BIG;
  if (stat(path, st) == 0) return 0;
  return errno == ENOENT ? LV_E_NOT_FOUND : lv_err_from_errno(errno);
}

int lv_dbcopy_read(const char *dir, const char *name, lv_dbcopy *ret, char *why) {
  char path[4300];
  struct stat st;
  *ret = (lv_dbcopy){0};
  int r = path_of(dir, name, path, &st);
  if (r == LV_E_NOT_FOUND) return 0;
  if (r) {
    snprintf(why, WHY, "%s", lv_err_text(r));
    return r;
  }
  bool as = geteuid() == 0 && (st.st_uid != 0 || st.st_gid != 0);
  gid_t gid = getegid();
  if (as && (setegid(st.st_gid) || seteuid(st.st_uid))) r = lv_err_from_errno(errno);
  if (!r) r = read_as_owner(path, ret, why);
  if (as && (seteuid(0) || setegid(gid)) && !r) r = lv_err_from_errno(errno);
  return r;
}

void lv_dbcopy_done(lv_dbcopy *c) {
  sqlite3_free(c->bytes);
  c->bytes = NULL;
}

int lv_dbcopy_check(const char *dir, const char *name, char *why) {
  char path[4300];
  struct stat st;
  sqlite3 *db = NULL;
  int errors = -1, r = path_of(dir, name, path, &st);
  if (r) {
    snprintf(why, WHY, "%s", lv_err_text(r));
    return r;
  }
  r = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL);
  if (r == SQLITE_OK)
    r = number(db, "SELECT count(*) FROM pragma_quick_check WHERE quick_check <> 'ok'", &errors);
  int err = r == SQLITE_OK ? 0 : failed(db, r, why);
  if (!err && errors) {
    snprintf(why, WHY, "its check found errors");
    err = LV_E_CORRUPT;
  }
  (void)sqlite3_close(db);
  return err;
}
