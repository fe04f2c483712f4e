/* test_wheel.c: the timer wheel against a naive list of due ticks, under random arming, cancelling
 * and jumps of the clock, through all levels and beyond the wheel's reach. */
#include "core/rand.h"
#include "core/wheel.h"
#include "unit.h"

enum { TIMERS = 300 };
#define HOUR_NS ((int64_t)3600 * 1000000000)

typedef struct item {
  lv_timer t; /* first: the timer is the item */
  uint64_t due;
  bool armed, hit;
} item;

static lv_wheel w;
static item items[TIMERS];
static uint64_t last_tick;
static uint32_t fired;

static void on_fire(lv_timer *t) {
  item *it = (item *)t;
  assert_false(lv_timer_armed(t));
  assert_true(it->armed);
  assert_true(it->due == w.tick); /* exactly at its tick, in order */
  assert_true(w.tick >= last_tick);
  last_tick = w.tick;
  it->armed = false;
  it->hit = true;
  fired++;
}

static void arm(item *it, int64_t now, int64_t delay) {
  lv_timer_arm(&w, &it->t, (lv_mono){now}, (lv_dur){delay}, on_fire);
  int64_t due = now + (delay < 0 ? 0 : delay);
  it->due = (uint64_t)((due + LV_WHEEL_TICK_NS - 1) / LV_WHEEL_TICK_NS);
  if (it->due <= w.tick) it->due = w.tick + 1;
  it->armed = true;
}

static int64_t random_delay(lv_rand *r) {
  static const int64_t scale[] = {
      1,       50 * LV_WHEEL_TICK_NS, 70 * LV_WHEEL_TICK_NS, 5000 * LV_WHEEL_TICK_NS,
      HOUR_NS, 60 * HOUR_NS,          500 * HOUR_NS};
  return (int64_t)lv_rand_below(r, (uint64_t)scale[lv_rand_below(r, COUNT_OF(scale))] + 1) - 1;
}

static void check(int64_t now) {
  uint64_t earliest = UINT64_MAX;
  uint32_t armed = 0;
  for (int i = 0; i < TIMERS; i++) {
    assert_int_equal(lv_timer_armed(&items[i].t), items[i].armed);
    if (!items[i].armed) continue;
    armed++;
    assert_true(items[i].due > (uint64_t)(now / LV_WHEEL_TICK_NS));
    if (items[i].due < earliest) earliest = items[i].due;
  }
  assert_int_equal(w.armed, armed);
  lv_dur next = lv_wheel_next(&w, (lv_mono){now});
  if (armed == 0) {
    assert_true(next.ns < 0);
  } else { /* never later than the earliest, and never 0 while nothing is due */
    assert_true(next.ns > 0);
    assert_true(now + next.ns <= (int64_t)earliest * LV_WHEEL_TICK_NS);
    if (earliest - w.tick < 64) /* exact when it is near */
      assert_true(now + next.ns == (int64_t)earliest * LV_WHEEL_TICK_NS ||
                  now / LV_WHEEL_TICK_NS / 64 != (int64_t)earliest / 64);
  }
}

static void against_model(void **state) {
  for (uint64_t seed = 1; seed <= 6; seed++) {
    lv_rand r;
    lv_rand_init(&r, seed);
    int64_t now = (int64_t)lv_rand_below(&r, 1000 * HOUR_NS);
    memset(items, 0, sizeof items);
    lv_wheel_init(&w, (lv_mono){now});
    last_tick = w.tick;
    for (int step = 0; step < 6000; step++) {
      item *it = &items[lv_rand_below(&r, TIMERS)];
      double what = lv_rand_unit(&r);
      if (what < 0.55) {
        arm(it, now, random_delay(&r));
      } else if (what < 0.7) {
        lv_timer_cancel(&w, &it->t);
        it->armed = false;
      } else {
        now += lv_rand_chance(&r, 0.3) ? 1 + random_delay(&r)
                                       : (int64_t)lv_rand_below(&r, 3 * LV_WHEEL_TICK_NS);
        lv_wheel_advance(&w, (lv_mono){now});
        assert_true(w.tick == (uint64_t)(now / LV_WHEEL_TICK_NS));
      }
      if (step % 16 == 0) check(now);
    }
    check(now);
  }
  assert_true(fired > 1000);
}

/* Sleeping exactly as long as `next` says fires each timer at its tick, in few wake-ups. */
static void follow_next(void **state) {
  lv_rand r;
  int64_t now = 12345;
  lv_rand_init(&r, 9);
  memset(items, 0, sizeof items);
  lv_wheel_init(&w, (lv_mono){now});
  last_tick = w.tick;
  fired = 0;
  for (int i = 0; i < TIMERS; i++) arm(&items[i], now, (int64_t)lv_rand_below(&r, 100 * HOUR_NS));
  int wakes = 0;
  for (lv_dur d; (d = lv_wheel_next(&w, (lv_mono){now})).ns >= 0; wakes++) {
    now += d.ns;
    lv_wheel_advance(&w, (lv_mono){now});
  }
  assert_int_equal(fired, TIMERS);
  assert_true(wakes <= TIMERS * (LV_WHEEL_LEVELS + 2));
}

/* Delays around each level's reach, from ticks around each level's slot edges. */
static void level_edges(void **state) {
  for (int from = 0; from <= LV_WHEEL_LEVELS; from++)
    for (int64_t a = -1; a <= 1; a++)
      for (int level = 0; level <= LV_WHEEL_LEVELS; level++) {
        uint64_t tick = ((uint64_t)3 << (LV_WHEEL_BITS * from)) + (uint64_t)a;
        lv_wheel_init(&w, (lv_mono){(int64_t)tick * LV_WHEEL_TICK_NS});
        memset(items, 0, sizeof items);
        last_tick = tick;
        fired = 0;
        for (int64_t b = -2; b <= 2; b++) {
          int64_t delay = ((int64_t)1 << (LV_WHEEL_BITS * level)) + b;
          arm(&items[b + 2], (int64_t)tick * LV_WHEEL_TICK_NS, delay * LV_WHEEL_TICK_NS);
        }
        for (uint64_t t = items[0].due - 2; t <= items[4].due; t++) {
          lv_wheel_advance(&w, (lv_mono){(int64_t)t * LV_WHEEL_TICK_NS});
          for (int i = 0; i < 5; i++) assert_int_equal(items[i].hit, items[i].due <= t);
        }
        assert_int_equal(fired, 5);
      }
}

static item *victim;
static void cancel_other(lv_timer *t) {
  on_fire(t);
  if (victim->armed) {
    lv_timer_cancel(&w, &victim->t);
    victim->armed = false;
  }
}

static void cancel_in_same_slot(void **state) {
  memset(items, 0, sizeof items);
  lv_wheel_init(&w, (lv_mono){0});
  last_tick = 0;
  for (int i = 0; i < 3; i++) arm(&items[i], 0, LV_WHEEL_TICK_NS);
  items[0].t.fn = items[2].t.fn = cancel_other;
  victim = &items[1]; /* between the two, whichever goes first */
  lv_wheel_advance(&w, (lv_mono){LV_WHEEL_TICK_NS});
  assert_true(items[0].hit && !items[1].hit && items[2].hit);
  assert_int_equal(w.armed, 0);
}

static int64_t clock_ns;
static void rearm(lv_timer *t) {
  fired++;
  lv_timer_arm(&w, t, (lv_mono){clock_ns}, LV_MS(0), rearm);
}

static void rearm_at_once(void **state) {
  lv_timer t = {0};
  lv_wheel_init(&w, (lv_mono){0});
  fired = 0;
  lv_timer_arm(&w, &t, (lv_mono){0}, LV_MS(0), rearm);
  for (int i = 1; i <= 100; i++) {
    clock_ns = i * LV_WHEEL_TICK_NS;
    lv_wheel_advance(&w, (lv_mono){clock_ns});
    assert_int_equal(fired, i); /* once a tick, not for ever */
  }
  lv_timer_cancel(&w, &t);
  lv_timer_cancel(&w, &t); /* not armed: nothing happens */
  assert_int_equal(w.armed, 0);
}

static void count(lv_timer *t) {
  (void)t;
  fired++;
}

static void extremes(void **state) {
  lv_timer t = {0}, t2 = {0};
  lv_wheel_init(&w, (lv_mono){5});
  fired = 0;
  lv_timer_arm(&w, &t, (lv_mono){5}, (lv_dur){INT64_MAX}, count);
  lv_timer_arm(&w, &t2, (lv_mono){5}, (lv_dur){INT64_MIN}, count);
  lv_wheel_advance(&w, (lv_mono){LV_WHEEL_TICK_NS});
  assert_int_equal(fired, 1);
  lv_wheel_advance(&w, (lv_mono){0}); /* the clock goes back: nothing */
  assert_int_equal(w.tick, 1);
  lv_wheel_advance(&w, (lv_mono){1000000 * HOUR_NS / 1000}); /* 41 days in one step */
  assert_int_equal(fired, 1);
  assert_true(lv_timer_armed(&t));
  lv_timer_cancel(&w, &t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(against_model),
      cmocka_unit_test(follow_next),
      cmocka_unit_test(cancel_in_same_slot),
      cmocka_unit_test(rearm_at_once),
      cmocka_unit_test(extremes),
      cmocka_unit_test(level_edges),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
