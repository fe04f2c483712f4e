/* test_store.c: the master's store: what is kept over closing and opening, formats, a second
 * writer.
 */
#include "master/store.h"
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
/* after the others */
#include <cmocka.h>

static char dir[64], path[96], why[LV_STORE_WHY];

static int setup(void **state) {
  (void)state;
  snprintf(dir, sizeof dir, "/tmp/lv-store-XXXXXX");
  if (!mkdtemp(dir)) return -1;
  snprintf(path, sizeof path, "%s/" LV_STORE_FILE, dir);
  return 0;
}

static int teardown(void **state) {
  static const char *const ends[] = {"", "-wal", "-shm"};
  (void)state;
  for (size_t i = 0; i < 3; i++) {
    char name[128];
    snprintf(name, sizeof name, "%s%s", path, ends[i]);
    (void)unlink(name);
  }
  return rmdir(dir);
}

static lv_store *open_ok(void) {
  lv_store *s = NULL;
  int err = lv_store_open(dir, &s, why);
  if (err) print_message("%s\n", why);
  assert_int_equal(err, 0);
  return s;
}

static lv_slice str(const char *s) {
  return lv_slice_str(s);
}

/* "kind app name body;" of all. */
static int append(void *arg, enum lv_conf_kind kind, lv_slice app, lv_slice name, lv_slice body) {
  char *dst = arg;
  size_t n = strlen(dst);
  snprintf(dst + n, 1024 - n, "%d %.*s %.*s %.*s;", (int)kind, (int)app.n, (const char *)app.p,
           (int)name.n, (const char *)name.p, (int)body.n, (const char *)body.p);
  return 0;
}

static void holds(lv_store *s, const char *want) {
  char text[1024] = "";
  assert_int_equal(lv_store_each(s, append, text), 0);
  assert_string_equal(text, want);
}

static void test_objects(void **state) {
  uint64_t before = 0, after = 0;
  char instance[LV_STORE_INSTANCE];
  (void)state;
  lv_store *s = open_ok();
  assert_int_equal(lv_store_revision(s, &before), 0);
  assert_int_equal(lv_store_insert(s, LV_CONF_APP, str(""), str("a"), str("{1}")), 0);
  assert_int_equal(lv_store_insert(s, LV_CONF_APP, str(""), str("a"), str("{2}")), LV_E_EXISTS);
  assert_int_equal(lv_store_insert(s, LV_CONF_CHANNEL, str("a"), str("c"), str("{c}")), 0);
  assert_int_equal(lv_store_insert(s, LV_CONF_KEY, str("a"), str("k"), str("{k}")), 0);
  assert_int_equal(lv_store_insert(s, LV_CONF_KEY, str("b"), str("k"), str("{b}")), 0);
  assert_int_equal(lv_store_insert(s, LV_CONF_ADMIN, str(""), str("a"), str("{d}")), 0);
  assert_int_equal(lv_store_update(s, LV_CONF_APP, str(""), str("a"), str("{3}")), 0);
  assert_int_equal(lv_store_update(s, LV_CONF_APP, str(""), str("x"), str("{}")), LV_E_NOT_FOUND);
  assert_int_equal(lv_store_delete(s, LV_CONF_APP, str(""), str("x")), LV_E_NOT_FOUND);
  assert_int_equal(lv_store_revision(s, &after), 0);
  assert_int_equal(after - before, 6); /* what failed does not count */
  holds(s, "0  a {3};1 a c {c};2 a k {k};2 b k {b};3  a {d};");
  snprintf(instance, sizeof instance, "%s", lv_store_instance(s));
  assert_int_equal(strlen(instance), 16);
  lv_store_close(s);
  s = open_ok();
  assert_string_equal(lv_store_instance(s), instance);
  holds(s, "0  a {3};1 a c {c};2 a k {k};2 b k {b};3  a {d};");
  /* an app takes along what is in it, and nobody else's */
  assert_int_equal(lv_store_delete(s, LV_CONF_APP, str(""), str("a")), 0);
  holds(s, "2 b k {b};3  a {d};");
  lv_store_close(s);
}

static void test_second_writer(void **state) {
  (void)state;
  lv_store *s = open_ok(), *other = open_ok();
  assert_false(lv_store_changed(s));
  assert_int_equal(lv_store_insert(s, LV_CONF_APP, str(""), str("own"), str("{}")), 0);
  assert_false(lv_store_changed(s)); /* its own */
  assert_int_equal(lv_store_insert(other, LV_CONF_ADMIN, str(""), str("k"), str("{}")), 0);
  assert_true(lv_store_changed(s));
  assert_false(lv_store_changed(s));
  holds(s, "0  own {};3  k {};");
  lv_store_close(other);
  lv_store_close(s);
}

static void exec(const char *sql) {
  sqlite3 *db = NULL;
  assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
  assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
  assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void refused(int err, const char *text) {
  lv_store *s = NULL;
  assert_int_equal(lv_store_open(dir, &s, why), err);
  assert_null(s);
  if (!strstr(why, text)) print_message("%s\n", why);
  assert_non_null(strstr(why, text));
  assert_non_null(strstr(why, LV_STORE_FILE));
}

static void test_formats(void **state) {
  struct stat st;
  (void)state;
  lv_store_close(open_ok());
  assert_int_equal(stat(path, &st), 0);
  assert_int_equal(st.st_mode & 0777, 0600);
  exec("PRAGMA user_version=1000");
  refused(LV_E_FORMAT, "format 1000");
  (void)unlink(path);
  exec("CREATE TABLE somebody(x)");
  refused(LV_E_FORMAT, "not one of Lavva's");
  FILE *f = fopen(path, "w");
  assert_non_null(f);
  for (int i = 0; i < 1000; i++) fputs("no database ", f);
  fclose(f);
  refused(LV_E_FORMAT, "not a database");
  (void)unlink(path);
  assert_int_equal(symlink("/nowhere", path), 0);
  refused(lv_err_from_errno(40 /* ELOOP */), "");
}

/* Damage in a page is told when the file is opened. */
static void test_damage(void **state) {
  (void)state;
  lv_store *s = open_ok();
  char body[2048];
  memset(body, 'x', sizeof body - 1);
  body[sizeof body - 1] = 0;
  for (int i = 0; i < 50; i++) {
    char name[8];
    snprintf(name, sizeof name, "n%d", i);
    assert_int_equal(lv_store_insert(s, LV_CONF_APP, str(""), str(name), str(body)), 0);
  }
  lv_store_close(s);
  FILE *f = fopen(path, "r+");
  assert_non_null(f);
  (void)fseek(f, 0, SEEK_END);
  long size = ftell(f);
  for (long at = 4096 * 4; at + 64 < size; at += 4096) {
    (void)fseek(f, at, SEEK_SET);
    for (int i = 0; i < 64; i++) fputc(0xA5, f);
  }
  fclose(f);
  refused(LV_E_CORRUPT, "damaged");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_objects, setup, teardown),
      cmocka_unit_test_setup_teardown(test_second_writer, setup, teardown),
      cmocka_unit_test_setup_teardown(test_formats, setup, teardown),
      cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
