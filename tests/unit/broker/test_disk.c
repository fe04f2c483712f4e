/* test_disk.c: both disks keep the same contract; the twin's faults are what they claim to be. */
#include "broker/embedded/disk.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
// clang-format off
#include <cmocka.h>
// clang-format on
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[64];

static lv_disk *real_disk(void) {
  lv_disk *d;
  (void)snprintf(dir, sizeof dir, "/tmp/lv-disk-XXXXXX");
  assert_non_null(mkdtemp(dir));
  char sub[80];
  (void)snprintf(sub, sizeof sub, "%s/a/b", dir); /* made when missing */
  assert_int_equal(lv_disk_file_new(sub, &d), 0);
  return d;
}

static int remove_name(void *arg, const char *name) {
  lv_disk *d = arg;
  return d->ops->remove(d, name);
}

static void real_done(lv_disk *d) {
  char sub[80];
  (void)d->ops->list(d, remove_name, d);
  d->ops->free(d);
  (void)snprintf(sub, sizeof sub, "%s/a/b", dir);
  (void)rmdir(sub);
  (void)snprintf(sub, sizeof sub, "%s/a", dir);
  (void)rmdir(sub);
  (void)rmdir(dir);
}

static int put(lv_disk *d, int fd, const char *text, uint64_t at) {
  struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};
  return d->ops->write(d, fd, &iov, 1, at);
}

static void expect(lv_disk *d, int fd, uint64_t at, const char *text) {
  char buf[64] = {0};
  uint32_t n = (uint32_t)strlen(text);
  assert_int_equal(d->ops->read(d, fd, buf, n, at), n);
  assert_memory_equal(buf, text, n);
}

static int count_name(void *arg, const char *name) {
  *(int *)arg += strcmp(name, "lock") != 0;
  return 0;
}

static void contract(lv_disk *d) {
  int fd, other, n = 0;
  uint64_t size = 7;
  char buf[16];
  assert_int_equal(d->ops->open(d, "x", false, &fd), LV_E_NOT_FOUND);
  assert_int_equal(d->ops->open(d, "x", true, &fd), 0);
  assert_int_equal(d->ops->size(d, fd, &size), 0);
  assert_int_equal(size, 0);
  struct iovec iov[3] = {{"abc", 3}, {"", 0}, {"defg", 4}};
  assert_int_equal(d->ops->write(d, fd, iov, 3, 5), 0);
  expect(d, fd, 5, "abcdefg");
  assert_int_equal(d->ops->read(d, fd, buf, sizeof buf, 0), 12); /* short at the end */
  assert_int_equal(buf[0], 0);
  assert_int_equal(d->ops->read(d, fd, buf, sizeof buf, 100), 0);
  assert_int_equal(d->ops->sync(d, fd), 0);
  d->ops->flush(d, fd, 0, 12);
  assert_int_equal(d->ops->rename(d, "x", "y"), 0);
  assert_int_equal(d->ops->rename(d, "x", "z"), LV_E_NOT_FOUND);
  assert_int_equal(d->ops->open(d, "y", false, &other), 0);
  expect(d, other, 5, "abcdefg"); /* the same file */
  assert_int_equal(d->ops->truncate(d, other, 7), 0);
  assert_int_equal(d->ops->size(d, fd, &size), 0);
  assert_int_equal(size, 7);
  assert_int_equal(d->ops->prepare(d, other, 8192, NULL, NULL), 0);
  assert_int_equal(d->ops->read(d, other, buf, 4, 8188), 4);
  assert_memory_equal(buf, "\0\0\0\0", 4);
  assert_int_equal(d->ops->list(d, count_name, &n), 0);
  assert_int_equal(n, 1);
  assert_int_equal(d->ops->remove(d, "y"), 0);
  assert_int_equal(d->ops->remove(d, "y"), LV_E_NOT_FOUND);
  assert_int_equal(put(d, fd, "still", 0), 0); /* open files outlive their name */
  expect(d, other, 0, "still");
  d->ops->close(d, fd);
  d->ops->close(d, other);
  assert_int_equal(d->ops->sync_dir(d), 0);
  assert_int_equal(d->ops->space(d, &size), 0);
  assert_true(size > 0);
}

static void test_file(void **state) {
  (void)state;
  lv_disk *d = real_disk(), *second;
  char sub[80];
  contract(d);
  assert_int_equal(d->ops->lock(d), 0);
  (void)snprintf(sub, sizeof sub, "%s/a/b", dir);
  assert_int_equal(lv_disk_file_new(sub, &second), 0);
  assert_int_equal(second->ops->lock(second), LV_E_LOCKED);
  second->ops->free(second);
  real_done(d);
}

static void test_many_pieces(void **state) {
  (void)state;
  lv_disk *d = real_disk();
  enum { N = 3000 };
  static struct iovec iov[N];
  static char text[N][4];
  char got[12];
  int fd;
  for (int i = 0; i < N; i++) {
    (void)snprintf(text[i], sizeof text[i], "%03d", i % 1000);
    iov[i] = (struct iovec){text[i], 3};
  }
  assert_int_equal(d->ops->open(d, "many", true, &fd), 0);
  assert_int_equal(d->ops->write(d, fd, iov, N, 1), 0);
  assert_int_equal(d->ops->read(d, fd, got, 9, 1 + 3 * 2997), 9);
  assert_memory_equal(got, "997998999", 9);
  d->ops->close(d, fd);
  real_done(d);
}

static void test_twin(void **state) {
  (void)state;
  lv_disk *d = lv_disk_fault_new(&(lv_disk_faults){.seed = 1});
  contract(d);
  assert_int_equal(d->ops->lock(d), 0);
  assert_int_equal(d->ops->lock(d), LV_E_LOCKED);
  d->ops->free(d);
}

/* What was synced survives a power loss, what was not may or may not: both happen. */
static void test_twin_crash(void **state) {
  (void)state;
  int kept = 0, lost = 0, named = 0, unnamed = 0;
  for (uint64_t seed = 1; seed <= 64; seed++) {
    lv_disk *d = lv_disk_fault_new(&(lv_disk_faults){.seed = seed});
    int fd;
    char buf[8];
    assert_int_equal(d->ops->open(d, "f", true, &fd), 0);
    assert_int_equal(put(d, fd, "safe", 0), 0);
    assert_int_equal(d->ops->sync(d, fd), 0);
    assert_int_equal(d->ops->sync_dir(d), 0);
    assert_int_equal(put(d, fd, "soon", 4096), 0);
    assert_int_equal(d->ops->rename(d, "f", "g"), 0);
    lv_disk_fault_crash(d);
    assert_int_equal(d->ops->read(d, fd, buf, 4, 0), LV_E_IO); /* the number is dead */
    int rc = d->ops->open(d, "g", false, &fd);
    if (rc == 0) named++;
    if (rc < 0) unnamed++;
    if (rc < 0) assert_int_equal(d->ops->open(d, "f", false, &fd), 0);
    expect(d, fd, 0, "safe");
    int64_t n = d->ops->read(d, fd, buf, 4, 4096);
    if (n == 4 && memcmp(buf, "soon", 4) == 0)
      kept++;
    else
      lost++;
    d->ops->free(d);
  }
  assert_true(kept > 5 && lost > 5 && named > 5 && unnamed > 5);
}

/* After a failed sync, a sync that succeeds proves nothing about what was written before. */
static void test_twin_failed_sync(void **state) {
  (void)state;
  int lost = 0;
  for (uint64_t seed = 1; seed <= 64; seed++) {
    lv_disk_faults bad = {.seed = seed, .sync_error = 1000000}, calm = {.seed = seed};
    lv_disk *d = lv_disk_fault_new(&calm);
    int fd;
    char buf[8] = {0};
    assert_int_equal(d->ops->open(d, "f", true, &fd), 0);
    assert_int_equal(d->ops->sync_dir(d), 0);
    assert_int_equal(put(d, fd, "data", 0), 0);
    lv_disk_fault_set(d, &bad);
    assert_int_equal(d->ops->sync(d, fd), LV_E_IO);
    lv_disk_fault_set(d, &calm);
    assert_int_equal(d->ops->sync(d, fd), 0);
    lv_disk_fault_crash(d);
    assert_int_equal(d->ops->open(d, "f", false, &fd), 0);
    (void)d->ops->read(d, fd, buf, 4, 0);
    lost += memcmp(buf, "data", 4) != 0;
    d->ops->free(d);
  }
  assert_true(lost > 10 && lost < 60);
}

static void test_twin_full_and_halt(void **state) {
  (void)state;
  lv_disk *d = lv_disk_fault_new(&(lv_disk_faults){.seed = 3, .capacity = 1000});
  static char big[800];
  struct iovec iov = {big, sizeof big};
  int fd;
  assert_int_equal(d->ops->open(d, "f", true, &fd), 0);
  assert_int_equal(d->ops->write(d, fd, &iov, 1, 0), 0);
  assert_int_equal(d->ops->write(d, fd, &iov, 1, 800), LV_E_DISK_FULL);
  assert_int_equal(d->ops->write(d, fd, &iov, 1, 0), 0); /* in place */
  lv_disk_fault_halt(d, 2);
  assert_int_equal(put(d, fd, "a", 0), 0);
  assert_false(lv_disk_fault_halted(d));
  assert_int_equal(put(d, fd, "b", 0), LV_E_IO);
  assert_true(lv_disk_fault_halted(d));
  assert_int_equal(d->ops->sync(d, fd), LV_E_IO);
  expect(d, fd, 0, "a");
  lv_disk_fault_kill(d);
  assert_false(lv_disk_fault_halted(d));
  assert_int_equal(d->ops->open(d, "f", false, &fd), 0);
  expect(d, fd, 0, "a"); /* a kill loses nothing that was written */
  d->ops->free(d);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_file),
      cmocka_unit_test(test_many_pieces),
      cmocka_unit_test(test_twin),
      cmocka_unit_test(test_twin_crash),
      cmocka_unit_test(test_twin_failed_sync),
      cmocka_unit_test(test_twin_full_and_halt),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
