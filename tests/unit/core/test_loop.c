/* test_loop.c: mail order across threads, phases, timers, clocks, stopping; cores of cgroups. */
#include "core/cores_int.h"
#include "core/loop.h"
#include "unit.h"
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SENDERS = 3, MAILS = 30000 };

typedef struct letter {
  lv_mail mail;
  int from;
  uint32_t seq;
} letter;

static letter *letters[SENDERS];
static uint32_t next_seq[SENDERS], received; /* the receiving loop's */
static bool disorder;
static lv_loop *target;

static void on_letter(lv_loop *loop, lv_mail *mail) {
  letter *l = (letter *)mail;
  if (!lv_loop_here(loop) || l->seq != next_seq[l->from]++) disorder = true;
  received++;
}

static void *sender(void *arg) {
  letter *l = arg;
  for (uint32_t i = 0; i < MAILS; i++) lv_loop_post(target, &l[i].mail);
  return NULL;
}

static void nothing(lv_loop *loop, void *arg) {
  (void)loop;
  (void)arg;
}

static void mail_is_fifo(void **state) {
  pthread_t t[SENDERS];
  assert_int_equal(lv_loop_new(0, &target), 0);
  assert_int_equal(lv_loop_start(target, NULL, NULL), 0);
  assert_false(lv_loop_here(target));
  for (int s = 0; s < SENDERS; s++) {
    letters[s] = calloc(MAILS, sizeof(letter));
    for (uint32_t i = 0; i < MAILS; i++)
      letters[s][i] = (letter){.mail.run = on_letter, .from = s, .seq = i};
    assert_int_equal(pthread_create(&t[s], NULL, sender, letters[s]), 0);
  }
  for (int s = 0; s < SENDERS; s++) pthread_join(t[s], NULL);
  lv_loop_call_wait(target, nothing, NULL); /* behind all of them */
  assert_int_equal(received, SENDERS * MAILS);
  assert_false(disorder);
  lv_loop_stop(target);
  lv_loop_free(target);
  for (int s = 0; s < SENDERS; s++) free(letters[s]);
}

/* A loop that sleeps is woken for each single mail: ping-pong between two. */
typedef struct ball {
  lv_mail mail;
  lv_loop *peer[2];
  uint32_t hops;
} ball;
static uv_sem_t finished;

static void on_ball(lv_loop *loop, lv_mail *mail) {
  ball *b = (ball *)mail;
  if (--b->hops == 0)
    uv_sem_post(&finished);
  else
    lv_loop_post(b->peer[loop == b->peer[0]], &b->mail);
}

static void ping_pong(void **state) {
  ball b = {.mail.run = on_ball, .hops = 20000};
  uv_sem_init(&finished, 0);
  for (int i = 0; i < 2; i++) {
    assert_int_equal(lv_loop_new(i, &b.peer[i]), 0);
    assert_int_equal(lv_loop_start(b.peer[i], NULL, NULL), 0);
  }
  lv_loop_post(b.peer[0], &b.mail);
  uv_sem_wait(&finished);
  assert_int_equal(b.hops, 0);
  for (int i = 0; i < 2; i++) lv_loop_stop(b.peer[i]);
  for (int i = 0; i < 2; i++) lv_loop_free(b.peer[i]);
  uv_sem_destroy(&finished);
}

/* Mail that arrives just while the loop goes to sleep. The loop's last hook before the poll gives
 * the sign; the other thread sends after a delay that sweeps over the few hundred ns in question.
 * Nothing but that mail sets the timer that leads to the next sign, so a lost wake-up hangs. */
typedef struct sleepy {
  lv_mail mail; /* first */
  lv_loop *loop;
  uv_timer_t timer;
  lv_hook hook;
  bool give_sign;
  _Atomic uint32_t sign;
} sleepy;
static sleepy sl;

static void on_sleepy_timer(uv_timer_t *t) {
  sl.give_sign = true; /* the prepare handle's turn comes next */
}

static void on_sleepy_hook(lv_loop *loop, void *arg) {
  if (!sl.give_sign) return;
  sl.give_sign = false;
  atomic_fetch_add(&sl.sign, 1);
  for (volatile uint32_t k = 0; k < 100; k++) { /* until the other core has seen it */
  }
}

static void on_sleepy_mail(lv_loop *loop, lv_mail *mail) {
  uv_timer_start(&sl.timer, on_sleepy_timer, 1, 0);
}

static void sleepy_init(lv_loop *loop, void *arg) {
  uv_timer_init(&loop->uv, &sl.timer);
  sl.hook.run = on_sleepy_hook;
  lv_loop_hook(loop, LV_PHASE_FLUSH, &sl.hook);
  uv_timer_start(&sl.timer, on_sleepy_timer, 1, 0);
}

static void sleepy_close(lv_loop *loop, void *arg) {
  uv_close((uv_handle_t *)&sl.timer, NULL);
}

static void no_lost_wakeup(void **state) {
  sl.mail.run = on_sleepy_mail;
  assert_int_equal(lv_loop_new(0, &sl.loop), 0);
  assert_int_equal(lv_loop_start(sl.loop, sleepy_init, NULL), 0);
  for (uint32_t i = 0; i < 900; i++) {
    for (uint32_t k = 0; atomic_load(&sl.sign) == i; k++)
      if (k > 1000000) sched_yield();
    for (volatile uint32_t k = 0; k < i % 300; k++) {
    }
    lv_loop_post(sl.loop, &sl.mail);
  }
  lv_loop_call_wait(sl.loop, sleepy_close, NULL);
  lv_loop_stop(sl.loop);
  lv_loop_free(sl.loop);
}

/* Phases, on this thread's own loop. A uv timer runs just before the prepare handle; `poll` marks
 * where the loop has polled. */
typedef struct phase_test {
  lv_timer timer; /* first */
  lv_loop *loop;
  lv_hook hooks[5];
  lv_mail mail;
  uv_timer_t go;
  uv_check_t polled;
  bool with_mail, with_again, tracing;
  char trace[64];
  uint32_t n;
} phase_test;
static phase_test pt;

static void note(char c) {
  if (pt.tracing && pt.n < sizeof pt.trace - 1) pt.trace[pt.n++] = c;
}

static void on_hook(lv_loop *loop, void *arg) {
  char c = *(const char *)arg;
  note(c);
  if (c == 'F' && pt.tracing && pt.with_again) {
    pt.with_again = false;
    lv_loop_again(loop);
  }
}

static void on_note(lv_loop *loop, lv_mail *mail) {
  note('m');
}

static void on_go(uv_timer_t *t) {
  pt.tracing = true;
  if (pt.with_mail) lv_loop_post(pt.loop, &pt.mail);
  uv_close((uv_handle_t *)t, NULL);
}

static void on_polled(uv_check_t *c) {
  if (!pt.tracing) return;
  note('|');
  pt.tracing = false;
  uv_close((uv_handle_t *)c, NULL);
  lv_loop_stop(pt.loop);
}

static void on_wheel(lv_timer *t) {
  (void)t; /* it only ends the poll */
}

static void run_phases(bool with_mail, bool with_again, const char *want) {
  static const char name[] = "FDSsf";
  static const enum lv_phase phase[] = {LV_PHASE_FLUSH, LV_PHASE_DELIVER, LV_PHASE_SUBMIT,
                                        LV_PHASE_SUBMIT, LV_PHASE_FLUSH};
  pt = (phase_test){.with_mail = with_mail, .with_again = with_again, .mail.run = on_note};
  assert_int_equal(lv_loop_new(7, &pt.loop), 0);
  assert_int_equal(pt.loop->index, 7);
  for (int i = 0; i < 5; i++) {
    pt.hooks[i] = (lv_hook){.run = on_hook, .arg = (void *)(uintptr_t)&name[i]};
    lv_loop_hook(pt.loop, phase[i], &pt.hooks[i]);
  }
  uv_timer_init(&pt.loop->uv, &pt.go);
  uv_timer_start(&pt.go, on_go, 0, 0);
  uv_check_init(&pt.loop->uv, &pt.polled);
  uv_check_start(&pt.polled, on_polled);
  lv_timer_arm(&pt.loop->wheel, &pt.timer, pt.loop->now, LV_MS(1), on_wheel);
  assert_int_equal(lv_loop_run(pt.loop), 0);
  assert_string_equal(pt.trace, want);
  lv_timer_cancel(&pt.loop->wheel, &pt.timer);
  lv_loop_free(pt.loop);
}

static void phases(void **state) {
  run_phases(false, false, "SsDFf|");
  run_phases(false, true, "SsDFfSsDFf|");
  run_phases(true, false, "SsmDFfSsDFf|"); /* what mail left over is submitted before the poll */
  run_phases(true, true, "SsmDFfSsDFf|");
}

/* Mail that begets mail to its own loop never stalls, however long the chain. */
static uint32_t chain_left;
static void on_chain(lv_loop *loop, lv_mail *mail) {
  if (--chain_left)
    lv_loop_post(loop, mail);
  else
    lv_loop_stop(loop);
}

static void own_mail_chain(void **state) {
  lv_loop *loop;
  lv_mail m = {.run = on_chain};
  chain_left = 1000;
  assert_int_equal(lv_loop_new(0, &loop), 0);
  lv_loop_post(loop, &m); /* before it runs */
  assert_int_equal(lv_loop_run(loop), 0);
  assert_int_equal(chain_left, 0);
  lv_loop_free(loop);
}

typedef struct sleeper {
  lv_timer timer; /* first */
  lv_loop *loop;
  lv_mono due, fired;
} sleeper;

static void on_sleeper(lv_timer *t) {
  sleeper *s = (sleeper *)t;
  s->fired = lv_mono_now();
  if (s->loop) lv_loop_stop(s->loop);
}

static void timers(void **state) {
  static const int ms[] = {35, 5, 0, 20, 60};
  sleeper s[COUNT_OF(ms)] = {0};
  lv_loop *loop;
  assert_int_equal(lv_loop_new(0, &loop), 0);
  for (size_t i = 0; i < COUNT_OF(ms); i++) {
    lv_loop_tick(loop);
    s[i].due = lv_mono_add(loop->now, LV_MS(ms[i]));
    lv_timer_arm(&loop->wheel, &s[i].timer, loop->now, LV_MS(ms[i]), on_sleeper);
  }
  s[COUNT_OF(ms) - 1].loop = loop; /* the last one ends the run */
  assert_int_equal(lv_loop_run(loop), 0);
  for (size_t i = 0; i < COUNT_OF(ms); i++) assert_true(s[i].fired.ns >= s[i].due.ns);
  lv_loop_free(loop);
}

/* In an I/O callback lv_loop_io gives a time after the event, once a turn. */
static int pipe_fd[2];
static _Atomic int64_t written_ns;
static uv_poll_t poll_handle;
static bool io_ok;

static void on_readable(uv_poll_t *h, int status, int events) {
  lv_loop *loop = h->data;
  bool was_stale = loop->stale;
  lv_loop_io(loop);
  lv_mono first = loop->now;
  lv_loop_io(loop);
  io_ok = was_stale && !loop->stale && first.ns >= written_ns && loop->now.ns == first.ns &&
          lv_loop_here(loop) && lv_metrics_mine() == loop->metrics;
  uv_close((uv_handle_t *)h, NULL);
  uv_sem_post(&finished);
}

static void watch_pipe(lv_loop *loop, void *arg) {
  assert_int_equal(uv_poll_init(&loop->uv, &poll_handle, pipe_fd[0]), 0);
  poll_handle.data = loop;
  uv_poll_start(&poll_handle, UV_READABLE, on_readable);
}

static void clocks_in_io(void **state) {
  lv_loop *loop;
  uv_sem_init(&finished, 0);
  assert_int_equal(pipe(pipe_fd), 0);
  assert_int_equal(lv_loop_new(0, &loop), 0);
  assert_int_equal(lv_loop_start(loop, watch_pipe, NULL), 0);
  written_ns = lv_mono_now().ns;
  assert_int_equal(write(pipe_fd[1], "x", 1), 1);
  uv_sem_wait(&finished);
  lv_loop_stop(loop); /* waits until the poll handle is closed */
  assert_true(io_ok);
  lv_loop_free(loop);
  close(pipe_fd[0]);
  close(pipe_fd[1]);
  uv_sem_destroy(&finished);
}

static _Atomic uint32_t ran;
static void count_call(lv_loop *loop, void *arg) {
  ran++;
}

static void stop_runs_mail(void **state) {
  for (int round = 0; round < 50; round++) {
    lv_loop *loop;
    ran = 0;
    assert_int_equal(lv_loop_new(0, &loop), 0);
    assert_int_equal(lv_loop_start(loop, NULL, NULL), 0);
    for (int i = 0; i < 100; i++) lv_loop_call(loop, count_call, NULL);
    lv_loop_stop(loop);
    assert_int_equal(ran, 100);
    lv_loop_stop(loop); /* again is fine */
    lv_loop_free(loop);
  }
  lv_loop_free(NULL);
}

/* ---- cores ---- */

static char root[64];
static void put_file(const char *path, const char *text) {
  char full[256];
  snprintf(full, sizeof full, "%s/%s", root, path);
  for (char *p = full + strlen(root) + 1; *p; p++)
    if (*p == '/') {
      *p = 0;
      (void)mkdir(full, 0755);
      *p = '/';
    }
  FILE *f = fopen(full, "w");
  assert_non_null(f);
  fputs(text, f);
  (void)fclose(f);
}

static void fresh_root(void) {
  snprintf(root, sizeof root, "/tmp/lv-cores-XXXXXX");
  assert_non_null(mkdtemp(root));
}

static void drop_root(void) {
  char cmd[96];
  snprintf(cmd, sizeof cmd, "rm -rf %s", root);
  FILE *p = popen(cmd, "r");
  assert_non_null(p);
  (void)pclose(p);
}

static void cores_v2(void **state) {
  fresh_root();
  assert_int_equal(lv__cores_quota(root), INT_MAX); /* nothing readable */
  put_file("proc/self/cgroup", "0::/a/b\n");
  assert_int_equal(lv__cores_quota(root), INT_MAX);
  put_file("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  assert_int_equal(lv__cores_quota(root), INT_MAX);
  put_file("sys/fs/cgroup/a/b/cpu.max", "250000 100000\n");
  assert_int_equal(lv__cores_quota(root), 3);             /* rounded up */
  put_file("sys/fs/cgroup/a/cpu.max", "150000 100000\n"); /* a parent is tighter */
  assert_int_equal(lv__cores_quota(root), 2);
  put_file("sys/fs/cgroup/cpu.max", "50000 100000\n"); /* the mount itself, as in a container */
  assert_int_equal(lv__cores_quota(root), 1);
  put_file("proc/self/cgroup", "0::/\n");
  assert_int_equal(lv__cores_quota(root), 1);
  put_file("proc/self/cgroup", "garbage\n:\n0:\n");
  assert_int_equal(lv__cores_quota(root), INT_MAX);
  drop_root();
}

static void cores_v1(void **state) {
  fresh_root();
  put_file("proc/self/cgroup", "5:cpuset:/x\n4:cpu,cpuacct:/x\n0::/\n");
  put_file("sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us", "-1\n");
  put_file("sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us", "100000\n");
  assert_int_equal(lv__cores_quota(root), INT_MAX);
  put_file("sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us", "400000\n");
  assert_int_equal(lv__cores_quota(root), 4);
  put_file("sys/fs/cgroup/cpuset/x/cpu.cfs_quota_us", "1\n"); /* not the cpu controller's */
  assert_int_equal(lv__cores_quota(root), 4);
  drop_root();
  assert_true(lv_cores() >= 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(mail_is_fifo), cmocka_unit_test(no_lost_wakeup), cmocka_unit_test(ping_pong),
      cmocka_unit_test(phases),       cmocka_unit_test(own_mail_chain), cmocka_unit_test(timers),
      cmocka_unit_test(clocks_in_io), cmocka_unit_test(stop_runs_mail), cmocka_unit_test(cores_v2),
      cmocka_unit_test(cores_v1),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
