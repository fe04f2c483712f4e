/* loop.c: the event loop of loop.h on libuv.
 *
 *   uv iteration:  timers → … → prepare → poll (I/O callbacks) → check → closing callbacks
 *                                 │ turn, set timer, sleep          │ clocks, wheel, turn
 *
 * The check handle runs the turn after I/O; the prepare handle runs it again before the poll, for
 * what uv timers and closing callbacks left. Both were started first, so libuv runs them last.
 *
 * Mail is an intrusive stack with many pushers and one popper, reversed when taken, hence FIFO per
 * sender. A pusher wakes the loop only while it sleeps: the loop sets `asleep`, looks at the stack
 * again, and polls; a pusher pushes, then looks at `asleep` (both sequentially consistent, so one
 * of the two sees the other). A busy loop is never woken, and mail from the loop to itself never
 * is. The wheel drives one uv_timer, which is re-armed only when the next timer became earlier or
 * it ran; that is a heap operation in libuv, no system call. */
#include "core/loop.h"
#include "core/err.h"
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { LOOP_MAGIC = 0x4C4C4F4F, ROUNDS_MAX = 16 };

struct lv_loop_priv {
  _Atomic(lv_mail *) mail;
  _Atomic bool asleep;
  _Atomic bool stopping;
  bool again, threaded, joined, seen_stop;
  lv_hook *hooks[LV_PHASE_COUNT];
  lv_hook **hooks_tail[LV_PHASE_COUNT];
  uv_prepare_t prepare;
  uv_check_t check;
  uv_idle_t idle; /* started when work is left over: the poll does not wait */
  uv_async_t async;
  uv_timer_t timer;
  int64_t timer_due_ns; /* what the uv timer is set for, in loop time */
  int64_t woke_ns;      /* when this turn began; 0: not yet */
  pthread_t thread;
  uv_sem_t started;
  void (*init)(lv_loop *loop, void *arg);
  void *init_arg;
};

static _Thread_local lv_loop *current;

static lv_loop *loop_of(void *data) {
  lv_loop *loop = data;
  assert(loop->magic == LOOP_MAGIC);
  return loop;
}

bool lv_loop_here(const lv_loop *loop) {
  return current == loop;
}

void lv_loop_tick(lv_loop *loop) {
  loop->now = lv_mono_now();
  loop->wall = lv_wall_now();
  if (loop->stale) loop->priv->woke_ns = loop->now.ns;
  loop->stale = false;
}

void lv_loop_hook(lv_loop *loop, enum lv_phase phase, lv_hook *hook) {
  struct lv_loop_priv *p = loop->priv;
  assert(phase < LV_PHASE_COUNT && (!current || current == loop));
  hook->next = NULL;
  *p->hooks_tail[phase] = hook;
  p->hooks_tail[phase] = &hook->next;
}

void lv_loop_again(lv_loop *loop) {
  assert(lv_loop_here(loop));
  loop->priv->again = true;
}

void lv_loop_post(lv_loop *loop, lv_mail *mail) {
  struct lv_loop_priv *p = loop->priv;
  assert(loop->magic == LOOP_MAGIC);
  lv_mail *head = atomic_load_explicit(&p->mail, memory_order_relaxed);
  do mail->next = head;
  while (!atomic_compare_exchange_weak(&p->mail, &head, mail));
  if (current == loop) return;
  if (atomic_load(&p->asleep) && atomic_exchange(&p->asleep, false)) uv_async_send(&p->async);
}

static bool has_mail(const struct lv_loop_priv *p) {
  return atomic_load(&p->mail) != NULL;
}

/* Runs what was in the mailbox, oldest first; false when it was empty. */
static bool run_mail(lv_loop *loop) {
  lv_mail *m = atomic_exchange(&loop->priv->mail, NULL), *first = NULL;
  if (!m) return false;
  while (m) {
    lv_mail *next = m->next;
    m->next = first;
    first = m;
    m = next;
  }
  while (first) {
    m = first;
    first = m->next;
    m->run(loop, m);
  }
  return true;
}

static void run_hooks(lv_loop *loop, enum lv_phase phase) {
  for (lv_hook *h = loop->priv->hooks[phase]; h; h = h->next) h->run(loop, h->arg);
}

/* The end of a turn. True when work is left over because it came faster than it went. */
static bool turn(lv_loop *loop) {
  struct lv_loop_priv *p = loop->priv;
  for (int round = 0; round < ROUNDS_MAX; round++) {
    p->again = false;
    run_hooks(loop, LV_PHASE_SUBMIT);
    bool mailed = run_mail(loop);
    run_hooks(loop, LV_PHASE_DELIVER);
    run_hooks(loop, LV_PHASE_FLUSH);
    if (!mailed && !p->again && !has_mail(p)) return false;
  }
  return true;
}

static void on_timer(uv_timer_t *timer) {
  (void)timer; /* it only ends the poll; the wheel runs in on_check */
}

static void on_async(uv_async_t *async) {
  (void)async; /* likewise */
}

static void on_idle(uv_idle_t *idle) {
  (void)idle;
}

static void set_timer(lv_loop *loop) {
  struct lv_loop_priv *p = loop->priv;
  lv_dur d = lv_wheel_next(&loop->wheel, loop->now);
  if (d.ns < 0) {
    if (uv_is_active((uv_handle_t *)&p->timer)) uv_timer_stop(&p->timer);
    return;
  }
  int64_t due = loop->now.ns + d.ns;
  /* One that is set for earlier is left: it costs a turn at most, and saves moving it each time the
   * earliest of many timers is put off. */
  if (uv_is_active((uv_handle_t *)&p->timer) && p->timer_due_ns <= due) return;
  uv_update_time(&loop->uv);
  uv_timer_start(&p->timer, on_timer, (uint64_t)((d.ns + 999999) / 1000000), 0);
  p->timer_due_ns = due;
}

static void see_stop(lv_loop *loop) {
  struct lv_loop_priv *p = loop->priv;
  if (p->seen_stop || !atomic_load(&p->stopping)) return;
  p->seen_stop = true;
  uv_unref((uv_handle_t *)&p->async); /* from now on only others' handles keep it running */
}

static void on_prepare(uv_prepare_t *prepare) {
  lv_loop *loop = loop_of(prepare->data);
  struct lv_loop_priv *p = loop->priv;
  bool busy = turn(loop);
  see_stop(loop);
  set_timer(loop);
  if (!busy) {
    atomic_store(&p->asleep, true);
    if (has_mail(p) || atomic_load(&p->stopping) != p->seen_stop) {
      atomic_store(&p->asleep, false);
      busy = true;
    }
  }
  if (busy)
    uv_idle_start(&p->idle, on_idle);
  else
    uv_idle_stop(&p->idle);
  if (p->woke_ns) lv_hist_add(loop->metrics->turn, lv_mono_now().ns - p->woke_ns, 1);
  p->woke_ns = 0;
  loop->stale = true;
}

static void on_check(uv_check_t *check) {
  lv_loop *loop = loop_of(check->data);
  atomic_store(&loop->priv->asleep, false);
  lv_loop_tick(loop);
  lv_wheel_advance(&loop->wheel, loop->now);
  (void)turn(loop); /* what is left over is found by on_prepare */
  see_stop(loop);
}

static void make_handles(lv_loop *loop) {
  struct lv_loop_priv *p = loop->priv;
  int rc = uv_prepare_init(&loop->uv, &p->prepare) | uv_check_init(&loop->uv, &p->check) |
           uv_idle_init(&loop->uv, &p->idle) | uv_timer_init(&loop->uv, &p->timer);
  p->prepare.data = p->check.data = p->idle.data = p->timer.data = p->async.data = loop;
  rc |= uv_prepare_start(&p->prepare, on_prepare) | uv_check_start(&p->check, on_check);
  assert(rc == 0);
  uv_unref((uv_handle_t *)&p->prepare);
  uv_unref((uv_handle_t *)&p->check);
  uv_unref((uv_handle_t *)&p->idle);
  uv_unref((uv_handle_t *)&p->timer);
}

int lv_loop_new(int index, lv_loop **ret_loop) {
  lv_loop *loop = calloc(1, sizeof *loop);
  struct lv_loop_priv *p = calloc(1, sizeof *p);
  uint8_t *scratch = malloc(LV_SCRATCH_SIZE);
  if (!loop || !p || !scratch) abort();
  int rc = uv_loop_init(&loop->uv);
  if (rc == 0) {
    rc = uv_async_init(&loop->uv, &p->async, on_async);
    if (rc) (void)uv_loop_close(&loop->uv);
  }
  if (rc) { /* out of descriptors */
    free(scratch);
    free(p);
    free(loop);
    return lv_err_from_errno(-rc);
  }
  loop->magic = LOOP_MAGIC;
  loop->index = index;
  loop->priv = p;
  loop->scratch = scratch;
  loop->metrics = lv_metrics_new();
  lv_metrics_loop(loop->metrics, index);
  for (int i = 0; i < LV_PHASE_COUNT; i++) p->hooks_tail[i] = &p->hooks[i];
  make_handles(loop);
  uv_sem_init(&p->started, 0);
  lv_loop_tick(loop);
  lv_wheel_init(&loop->wheel, loop->now);
  *ret_loop = loop;
  return 0;
}

int lv_loop_run(lv_loop *loop) {
  struct lv_loop_priv *p = loop->priv;
  lv_loop *outer = current;
  lv_metrics *outer_metrics = lv_metrics_use(loop->metrics);
  current = loop;
  lv_loop_tick(loop);
  for (;;) {
    (void)uv_run(&loop->uv, UV_RUN_DEFAULT);
    /* No handle is left but ours. Mail that came last may still open some. */
    lv_loop_tick(loop);
    bool more = turn(loop) || has_mail(p);
    see_stop(loop);
    if (!more && p->seen_stop && !uv_loop_alive(&loop->uv)) break;
  }
  current = outer;
  (void)lv_metrics_use(outer_metrics);
  return 0;
}

void lv_loop_step(lv_loop *loop) {
  lv_loop *outer = current;
  assert(!loop->priv->threaded);
  lv_metrics *outer_metrics = lv_metrics_use(loop->metrics);
  current = loop;
  lv_loop_tick(loop);
  (void)uv_run(&loop->uv, UV_RUN_NOWAIT);
  current = outer;
  (void)lv_metrics_use(outer_metrics);
}

static void *thread_main(void *arg) {
  lv_loop *loop = loop_of(arg);
  struct lv_loop_priv *p = loop->priv;
  char name[16];
  snprintf(name, sizeof name, "lv-loop-%d", loop->index);
  (void)pthread_setname_np(pthread_self(), name);
  current = loop;
  (void)lv_metrics_use(loop->metrics);
  lv_loop_tick(loop);
  if (p->init) p->init(loop, p->init_arg);
  uv_sem_post(&p->started);
  (void)lv_loop_run(loop);
  return NULL;
}

int lv_loop_start(lv_loop *loop, void (*init)(lv_loop *loop, void *arg), void *arg) {
  struct lv_loop_priv *p = loop->priv;
  sigset_t all, old;
  assert(!p->threaded);
  p->init = init;
  p->init_arg = arg;
  sigfillset(&all); /* signals are the main thread's, except those about this thread itself */
  sigdelset(&all, SIGSEGV);
  sigdelset(&all, SIGBUS);
  sigdelset(&all, SIGFPE);
  sigdelset(&all, SIGILL);
  sigdelset(&all, SIGABRT);
  sigdelset(&all, SIGPROF);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  int rc = pthread_create(&p->thread, NULL, thread_main, loop);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  if (rc) return lv_err_from_errno(rc);
  p->threaded = true;
  uv_sem_wait(&p->started);
  return 0;
}

void lv_loop_stop(lv_loop *loop) {
  struct lv_loop_priv *p = loop->priv;
  atomic_store(&p->stopping, true);
  if (lv_loop_here(loop)) return; /* seen at the end of this turn; joined by a later call */
  if (atomic_exchange(&p->asleep, false)) uv_async_send(&p->async);
  if (p->threaded && !p->joined) {
    pthread_join(p->thread, NULL);
    p->joined = true;
  }
}

void lv_loop_free(lv_loop *loop) {
  if (!loop) return;
  struct lv_loop_priv *p = loop->priv;
  assert(loop->magic == LOOP_MAGIC && (!p->threaded || p->joined) && !lv_loop_here(loop));
  uv_handle_t *ours[] = {(uv_handle_t *)&p->prepare, (uv_handle_t *)&p->check,
                         (uv_handle_t *)&p->idle, (uv_handle_t *)&p->timer,
                         (uv_handle_t *)&p->async};
  for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) uv_close(ours[i], NULL);
  (void)uv_run(&loop->uv, UV_RUN_NOWAIT);
  int rc = uv_loop_close(&loop->uv);
  assert(rc == 0); /* somebody's handle is still open */
  uv_sem_destroy(&p->started);
  free(loop->scratch);
  loop->magic = 0;
  free(p);
  free(loop);
}

typedef struct call {
  lv_mail mail;
  void (*fn)(lv_loop *loop, void *arg);
  void *arg;
  uv_sem_t *done; /* NULL: nobody waits, the call is on the heap */
} call;

static void run_call(lv_loop *loop, lv_mail *mail) {
  call *c = (call *)mail;
  uv_sem_t *done = c->done;
  c->fn(loop, c->arg);
  if (done)
    uv_sem_post(done);
  else
    free(c);
}

void lv_loop_call(lv_loop *loop, void (*fn)(lv_loop *loop, void *arg), void *arg) {
  call *c = malloc(sizeof *c);
  if (!c) abort();
  *c = (call){.mail.run = run_call, .fn = fn, .arg = arg};
  lv_loop_post(loop, &c->mail);
}

void lv_loop_call_wait(lv_loop *loop, void (*fn)(lv_loop *loop, void *arg), void *arg) {
  uv_sem_t done;
  call c = {.mail.run = run_call, .fn = fn, .arg = arg, .done = &done};
  assert(!current);
  uv_sem_init(&done, 0);
  lv_loop_post(loop, &c.mail);
  uv_sem_wait(&done);
  uv_sem_destroy(&done);
}
