/* wheel.h: a hierarchical timer wheel (Varghese and Lauck, 1987), one per loop, no I/O.
 *
 * A timer is 32 bytes inside its owner. Resolution 10 ms; four levels of 64 slots reach 46 hours,
 * longer delays are re-armed. Arming and cancelling cost O(1). */
#ifndef LV_CORE_WHEEL_H
#define LV_CORE_WHEEL_H
#include "core/time.h"
#include <stdbool.h>

enum { LV_WHEEL_BITS = 6, LV_WHEEL_SLOTS = 1 << LV_WHEEL_BITS, LV_WHEEL_LEVELS = 4 };
#define LV_WHEEL_TICK_NS ((int64_t)10000000)

typedef struct lv_timer {
  struct lv_timer *next, **pprev; /* pprev NULL: not armed */
  uint64_t tick;
  void (*fn)(struct lv_timer *timer);
} lv_timer;

typedef struct lv_wheel {
  lv_timer *slot[LV_WHEEL_LEVELS][LV_WHEEL_SLOTS];
  uint64_t occupied[LV_WHEEL_LEVELS]; /* a bit per slot that holds timers */
  uint64_t tick;                      /* everything up to it has fired */
  uint32_t armed;
} lv_wheel;

void lv_wheel_init(lv_wheel *w, lv_mono now);
/* (Re-)arms: fn runs once, not before `now` + `delay`, at most one resolution plus the loop's own
 * lateness after it. fn may re-arm or free the timer's owner. @thread loop */
void lv_timer_arm(lv_wheel *w, lv_timer *t, lv_mono now, lv_dur delay, void (*fn)(lv_timer *t));
void lv_timer_cancel(lv_wheel *w, lv_timer *t);
static inline bool lv_timer_armed(const lv_timer *t) {
  return t->pprev != NULL;
}
/* Fires what is due. @thread loop */
void lv_wheel_advance(lv_wheel *w, lv_mono now);
/* Time until the next timer may be due, rounded up to the resolution; negative: none armed.
 * @thread loop */
lv_dur lv_wheel_next(const lv_wheel *w, lv_mono now);

#endif
