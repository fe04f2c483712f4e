/* wheel.c: the hierarchical timer wheel of wheel.h.
 *
 * Level l has 64 slots of 64^l ticks each. A timer sits at the lowest level that reaches it; when
 * the wheel's tick comes to a slot of a higher level, that slot's timers are placed again, lower
 * down. A bit per slot says where timers are, so that advancing and `next` skip what is empty: a
 * jump of days costs no more than the timers in it. */
#include "core/wheel.h"
#include <assert.h>
#include <string.h>

static const uint64_t reach = (uint64_t)1 << (LV_WHEEL_BITS * LV_WHEEL_LEVELS);

void lv_wheel_init(lv_wheel *w, lv_mono now) {
  memset(w, 0, sizeof *w);
  w->tick = (uint64_t)(now.ns / LV_WHEEL_TICK_NS);
}

static void link_at(lv_wheel *w, lv_timer *t, int level, uint64_t tick) {
  uint32_t i = (uint32_t)(tick >> (LV_WHEEL_BITS * level)) & (LV_WHEEL_SLOTS - 1);
  lv_timer **head = &w->slot[level][i];
  t->next = *head;
  t->pprev = head;
  if (t->next) t->next->pprev = &t->next;
  *head = t;
  w->occupied[level] |= (uint64_t)1 << i;
}

static void place(lv_wheel *w, lv_timer *t) {
  uint64_t at = t->tick, delta = at - w->tick;
  if (delta >= reach) { /* farther than the wheel: look again when its last slot comes */
    delta = reach - 1;
    at = w->tick + delta;
  }
  int level = 0;
  while (delta >> (LV_WHEEL_BITS * (level + 1))) level++;
  link_at(w, t, level, at);
}

static void take_out(lv_wheel *w, lv_timer *t) {
  lv_timer **pprev = t->pprev;
  *pprev = t->next;
  if (t->next) t->next->pprev = pprev;
  t->next = NULL;
  t->pprev = NULL;
  uintptr_t off = (uintptr_t)pprev - (uintptr_t)&w->slot[0][0];
  if (off < sizeof w->slot && !*pprev) { /* it was its slot's last */
    uintptr_t i = off / sizeof(lv_timer *);
    w->occupied[i / LV_WHEEL_SLOTS] &= ~((uint64_t)1 << (i % LV_WHEEL_SLOTS));
  }
}

void lv_timer_arm(lv_wheel *w, lv_timer *t, lv_mono now, lv_dur delay, void (*fn)(lv_timer *t)) {
  int64_t due;
  if (t->pprev) lv_timer_cancel(w, t);
  if (delay.ns < 0) delay.ns = 0;
  if (__builtin_add_overflow(now.ns, delay.ns, &due)) due = INT64_MAX - LV_WHEEL_TICK_NS;
  if (due < 0) due = 0;
  t->tick = (uint64_t)due / LV_WHEEL_TICK_NS + ((uint64_t)due % LV_WHEEL_TICK_NS != 0);
  if (t->tick <= w->tick) t->tick = w->tick + 1;
  t->fn = fn;
  place(w, t);
  w->armed++;
}

void lv_timer_cancel(lv_wheel *w, lv_timer *t) {
  if (!t->pprev) return;
  take_out(w, t);
  assert(w->armed > 0);
  w->armed--;
}

/* The next tick at which a slot is due: to fire (level 0) or to be placed again. */
static uint64_t next_tick(const lv_wheel *w) {
  uint64_t best = UINT64_MAX;
  for (int l = 0; l < LV_WHEEL_LEVELS; l++) {
    if (!w->occupied[l]) continue;
    uint64_t cur = w->tick >> (LV_WHEEL_BITS * l);
    uint32_t rot = (uint32_t)(cur + 1) & (LV_WHEEL_SLOTS - 1);
    uint64_t bits = w->occupied[l] >> rot | (rot ? w->occupied[l] << (64 - rot) : 0);
    uint64_t at = (cur + 1 + (uint64_t)__builtin_ctzll(bits)) << (LV_WHEEL_BITS * l);
    if (at < best) best = at;
  }
  return best;
}

/* Detaches a slot's timers to a list of its own, from which they can still be cancelled. */
static void detach(lv_wheel *w, int level, uint32_t i, lv_timer **list) {
  *list = w->slot[level][i];
  if (*list) (*list)->pprev = list;
  w->slot[level][i] = NULL;
  w->occupied[level] &= ~((uint64_t)1 << i);
}

static void cascade(lv_wheel *w, int level) {
  lv_timer *list;
  detach(w, level, (uint32_t)(w->tick >> (LV_WHEEL_BITS * level)) & (LV_WHEEL_SLOTS - 1), &list);
  while (list) {
    lv_timer *t = list;
    take_out(w, t);
    place(w, t);
  }
}

static void fire(lv_wheel *w) {
  lv_timer *list;
  detach(w, 0, (uint32_t)w->tick & (LV_WHEEL_SLOTS - 1), &list);
  while (list) {
    lv_timer *t = list;
    assert(t->tick == w->tick);
    take_out(w, t);
    w->armed--;
    t->fn(t);
  }
}

void lv_wheel_advance(lv_wheel *w, lv_mono now) {
  uint64_t target = now.ns < 0 ? 0 : (uint64_t)(now.ns / LV_WHEEL_TICK_NS);
  while (w->tick < target) {
    uint64_t at = next_tick(w);
    if (at > target) {
      w->tick = target;
      return;
    }
    w->tick = at;
    for (int l = LV_WHEEL_LEVELS - 1; l > 0; l--)
      if ((at & (((uint64_t)1 << (LV_WHEEL_BITS * l)) - 1)) == 0) cascade(w, l);
    fire(w);
  }
}

lv_dur lv_wheel_next(const lv_wheel *w, lv_mono now) {
  if (w->armed == 0) return (lv_dur){-1};
  int64_t at = (int64_t)next_tick(w) * LV_WHEEL_TICK_NS;
  return (lv_dur){at > now.ns ? at - now.ns : 0};
}
