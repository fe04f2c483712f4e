/* test_log.c: log lines as text and JSON, hostile arguments, cutting, rate limiting, receivers that
 * do not read, threads. */
#include "core/err.h"
#include "core/log.h"
#include "core/slice.h"
#include "core/time.h"
#include "unit.h"
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int fds[2];
static char out[1 << 17];

static int setup(void **state) {
  if (pipe2(fds, O_CLOEXEC)) return -1;
  lv_log_to_fd(fds[1], false);
  lv_log_set_level(LV_INFO);
  return 0;
}

static int teardown(void **state) {
  lv_log_to_fd(2, false);
  close(fds[0]);
  close(fds[1]);
  return 0;
}

/* All that was logged so far. */
static const char *logged(void) {
  size_t n = 0;
  (void)fcntl(fds[0], F_SETFL, O_NONBLOCK);
  for (ssize_t k; n < sizeof out - 1 && (k = read(fds[0], out + n, sizeof out - 1 - n)) > 0;)
    n += (size_t)k;
  out[n] = 0;
  return out;
}

/* The line behind its time stamp. */
static const char *line(void) {
  const char *s = logged();
  assert_true(strlen(s) > 25 && s[24] == ' ' && s[23] == 'Z');
  return s + 25;
}

static void text(void **state) {
  lv_log(LV_INFO, "listener open addr=%s port=%d", "127.0.0.1", 1883);
  assert_string_equal(line(), "info listener open addr=127.0.0.1 port=1883\n");
  lv_log(LV_INFO, "no fields, %d%%", 5);
  assert_string_equal(line(), "info no fields, 5%\n");
  lv_log(LV_WARN, "odd a=%s b=%s c=%s", "", "x y", "q\"\\\n\x01");
  assert_string_equal(line(), "warn odd a=\"\" b=\"x y\" c=\"q\\\"\\\\\\n\\u0001\"\n");
  lv_log(LV_INFO, "forged v=%s end=%d", "1 admin=true\nERROR", 2);
  assert_string_equal(line(), "info forged v=\"1 admin=true\\nERROR\" end=2\n");
  lv_log(LV_INFO, "name %s ok", "with\nnewline addr=1");
  assert_string_equal(line(), "info name with\\nnewline addr=1 ok\n");
}

static void levels(void **state) {
  enum lv_log_level l = LV_ERROR;
  lv_log(LV_DEBUG, "hidden");
  assert_string_equal(logged(), "");
  lv_log_set_level(LV_DEBUG);
  lv_log(LV_DEBUG, "shown");
  assert_string_equal(line(), "debug shown\n");
  lv_log_set_level(LV_ERROR);
  lv_log(LV_WARN, "hidden");
  assert_string_equal(logged(), "");
  assert_int_equal(lv_log_level_parse("debug", &l), 0);
  assert_int_equal(l, LV_DEBUG);
  assert_int_equal(lv_log_level_parse("Debug", &l), LV_E_INVALID);
}

static void json(void **state) {
  lv_log_to_fd(fds[1], true);
  lv_log(LV_INFO,
         "odd \"msg\" s=%s n=%d f=%.2f neg=%ld big=%llu nan=%f hex=%x mixed=%dms utf=%s bad=%s",
         "a b\"\\\n\t=1", 7, 1.5, -3L, 18446744073709551615ull, __builtin_nan(""), 255, 5,
         "gr\xC3\xBC\xC3\x9F", "\xff\x80");
  json_error_t e;
  json_t *j = json_loads(logged(), JSON_DISABLE_EOF_CHECK | JSON_DECODE_INT_AS_REAL, &e);
  assert_non_null(j);
  assert_string_equal(json_string_value(json_object_get(j, "level")), "info");
  assert_string_equal(json_string_value(json_object_get(j, "msg")), "odd \"msg\"");
  assert_string_equal(json_string_value(json_object_get(j, "s")), "a b\"\\\n\t=1");
  assert_true(json_number_value(json_object_get(j, "n")) == 7);
  assert_true(json_number_value(json_object_get(j, "f")) == 1.5);
  assert_true(json_number_value(json_object_get(j, "neg")) == -3);
  assert_true(json_is_number(json_object_get(j, "big")));
  assert_true(json_is_string(json_object_get(j, "nan")));
  assert_string_equal(json_string_value(json_object_get(j, "hex")), "ff");
  assert_string_equal(json_string_value(json_object_get(j, "mixed")), "5ms");
  assert_string_equal(json_string_value(json_object_get(j, "utf")), "gr\xC3\xBC\xC3\x9F");
  assert_string_equal(json_string_value(json_object_get(j, "bad")), "\xC3\xBF\xC2\x80");
  json_decref(j);
}

static void cut_lines(void **state) {
  static char big[20000];
  for (int as_json = 0; as_json < 2; as_json++)
    for (size_t n = 3700; n < sizeof big; n += n < 4200 ? 1 : 1777) {
      memset(big, n % 3 ? '"' : 'x', n);
      big[n] = 0;
      lv_log_to_fd(fds[1], as_json);
      lv_log(LV_INFO, "long a=%s b=%s", big, "tail");
      const char *s = logged();
      size_t len = strlen(s);
      assert_true(len > 3000 && len <= LV_LOG_LINE_MAX);
      assert_int_equal(s[len - 1], '\n');
      assert_ptr_equal(strchr(s, '\n'), s + len - 1);
      if (as_json) {
        json_t *j = json_loads(s, 0, NULL);
        assert_non_null(j);
        if (n > 4100) assert_true(json_integer_value(json_object_get(j, "cut")) == 1);
        json_decref(j);
      } else if (n > 4100) {
        assert_non_null(strstr(s, " cut=1\n"));
      }
    }
}

static int64_t now_ns;
static lv_mono fake_mono(void *arg) {
  return (lv_mono){now_ns};
}
static lv_wall fake_wall(void *arg) {
  return (lv_wall){now_ns};
}

static int count(const char *s, const char *what) {
  int n = 0;
  for (; (s = strstr(s, what)); s++) n++;
  return n;
}

static void disk_gone(int i) {
  lv_log(LV_ERROR, "disk gone n=%d", i);
}

static void rate_limit(void **state) {
  lv_clock c = {fake_mono, fake_wall, NULL};
  now_ns = 1000;
  lv_clock_set(&c);
  for (int i = 0; i < 100; i++) disk_gone(i);
  assert_int_equal(count(logged(), "disk gone"), LV_LOG_BURST);
  now_ns += 5 * (int64_t)1000000000;
  lv_log_tick();
  assert_string_equal(logged(), ""); /* the window is still open */
  now_ns += 6 * (int64_t)1000000000;
  disk_gone(100);
  assert_string_equal(line(), "error disk gone n=100 suppressed=90\n");
  for (int i = 0; i < 20; i++) disk_gone(i);
  assert_int_equal(count(logged(), "disk gone"), LV_LOG_BURST - 1);
  now_ns += 11 * (int64_t)1000000000;
  lv_log_tick(); /* the last ones are not silent either */
  assert_string_equal(line(), "warn disk gone suppressed=11\n");
  lv_log_tick();
  assert_string_equal(logged(), "");
  lv_clock_set(NULL);
}

/* A pipe that nobody reads fills up; logging goes on, and says how many lines were lost. */
static void full_pipe(void **state) {
  uint64_t before = lv_log_dropped();
  for (int i = 0; i < 3000; i++) lv_log(LV_INFO, "filler of some length i=%d", i);
  uint64_t lost = lv_log_dropped() - before;
  assert_true(lost > 0);
  assert_int_equal((uint64_t)count(logged(), "filler") + lost, 3000);
  char want[80];
  lv_log(LV_INFO, "again");
  snprintf(want, sizeof want, "info again dropped=%llu\n", (unsigned long long)lost);
  assert_string_equal(line(), want);
}

static void *writer(void *arg) {
  for (int i = 0; i < 200; i++)
    lv_log(LV_INFO, "thread line id=%d i=%d pad=%s", *(int *)arg, i, "xxxx");
  return NULL;
}

static void threads(void **state) {
  pthread_t t[3];
  int id[3] = {0, 1, 2};
  for (int i = 0; i < 3; i++) assert_int_equal(pthread_create(&t[i], NULL, writer, &id[i]), 0);
  for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
  const char *s = logged();
  assert_int_equal(count(s, "\n"), 600);
  for (; *s; s = strchr(s, '\n') + 1) { /* no line is torn */
    assert_true(strncmp(s + 25, "info thread line id=", 20) == 0);
    const char *end = strchr(s, '\n');
    assert_true(strncmp(end - 9, " pad=xxxx", 9) == 0);
  }
}

static void files(void **state) {
  char dir[] = "/tmp/lv-log-XXXXXX", path[64], moved[64], b[256];
  assert_non_null(mkdtemp(dir));
  snprintf(path, sizeof path, "%s/a.log", dir);
  snprintf(moved, sizeof moved, "%s/b.log", dir);
  assert_int_equal(lv_log_open(path, false), 0);
  lv_log(LV_INFO, "first");
  assert_int_equal(rename(path, moved), 0);
  lv_log(LV_INFO, "second");
  assert_int_equal(lv_log_reopen(), 0);
  lv_log(LV_INFO, "third");
  assert_int_equal(lv_log_open("/nonexistent/x.log", false),
                   LV_E_NOT_FOUND); /* keeps the old one */
  lv_log(LV_INFO, "fourth");
  lv_log_to_fd(fds[1], false);
  for (int i = 0; i < 2; i++) {
    int fd = open(i ? path : moved, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, b, sizeof b - 1);
    assert_true(n > 0);
    b[n] = 0;
    assert_int_equal(count(b, "\n"), 2);
    assert_non_null(strstr(b, i ? "third" : "first"));
    assert_non_null(strstr(b, i ? "fourth" : "second"));
    close(fd);
    unlink(i ? path : moved);
  }
  rmdir(dir);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(text, setup, teardown),
      cmocka_unit_test_setup_teardown(levels, setup, teardown),
      cmocka_unit_test_setup_teardown(json, setup, teardown),
      cmocka_unit_test_setup_teardown(cut_lines, setup, teardown),
      cmocka_unit_test_setup_teardown(rate_limit, setup, teardown),
      cmocka_unit_test_setup_teardown(full_pipe, setup, teardown),
      cmocka_unit_test_setup_teardown(threads, setup, teardown),
      cmocka_unit_test_setup_teardown(files, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
