/* usage.c: see usage.h.
 *
 * Connection-minutes without a timer a connection: an app's connections on a loop are counted by
 * the second (of 60) at which they were opened.
 *
 *   ring[s % 60] = how many that are open now were opened at a second s
 *
 * Each second its slot is added to the app's minutes: the first time for those that have just been
 * opened, and every 60 seconds after that. What a connection is owed beyond the last tick (it came
 * and went between two) is settled as it ends. A connection is taken to be opened at the next whole
 * second, and closed at the last. */
#include "core/usage.h"
#include "core/metric_int.h"
#include <stdlib.h>

enum { MINUTE_S = 60 };

const char *lv_usage_name(enum lv_usage_unit unit) {
  static const char *const names[] = {
#define X(id, name, counter) name,
      LV_USAGE_UNITS(X)
#undef X
  };
  return names[unit];
}

/* ---- messages ---- */

enum { PROP_FORMAT = 0x01, PROP_USER = 0x26 }; /* MQTT 5.0 §2.2.2.2 */

/* A string or binary: two bytes of length, then so many. */
static bool take(lv_slice *s, uint32_t *ret_n) {
  if (s->n < 2) return false;
  uint32_t n = ((uint32_t)s->p[0] << 8) + s->p[1];
  if (s->n - 2 < n) return false;
  *s = (lv_slice){s->p + 2 + n, s->n - 2 - n};
  *ret_n = n;
  return true;
}

uint32_t lv__use_props(lv_slice props) {
  uint32_t sum = 0, n, m;
  while (props.n) {
    uint8_t id = props.p[0];
    props = (lv_slice){props.p + 1, props.n - 1};
    if (id == PROP_FORMAT) {
      if (!props.n) break;
      props = (lv_slice){props.p + 1, props.n - 1};
      continue;
    }
    if (!take(&props, &n)) break;
    if (id != PROP_USER) continue;
    if (!take(&props, &m)) break;
    sum += n + m;
  }
  return sum;
}

/* ---- connection-minutes ---- */

static uint32_t whole_seconds(lv_mono t) {
  return (uint32_t)(t.ns / 1000000000);
}

/* Minutes that the ticks up to `upto` have counted of a connection of second `since`. */
static uint32_t minutes(uint32_t since, uint32_t upto) {
  return upto < since ? 0 : 1 + (upto - since) / MINUTE_S;
}

static void begin(lv_metrics *base, lv_mono now) {
  if (!base->use_s) base->use_s = whole_seconds(now);
}

uint32_t lv_use_connect(lv_metrics *base, uint32_t app_id, lv_mono now) {
  lv_metrics *row = lv_metrics_row(base, app_id, LV_KPI_NONE);
  uint32_t since = whole_seconds((lv_mono){now.ns + 999999999});
  begin(base, now);
  if (!row->use_ring) {
    row->use_ring = calloc(MINUTE_S, sizeof *row->use_ring);
    if (!row->use_ring) abort();
  }
  row->use_ring[since % MINUTE_S]++;
  lv_count(row, LV_C_USE_CONN_MINUTES, minutes(since, base->use_s));
  return since;
}

void lv_use_disconnect(lv_metrics *base, uint32_t app_id, uint32_t since, lv_mono now) {
  lv_metrics *row = lv_metrics_row(base, app_id, LV_KPI_NONE);
  uint32_t end = whole_seconds(now);
  assert(row->use_ring && row->use_ring[since % MINUTE_S] > 0);
  row->use_ring[since % MINUTE_S]--;
  uint32_t due = minutes(since, end < since ? since : end), had = minutes(since, base->use_s);
  if (due > had) lv_count(row, LV_C_USE_CONN_MINUTES, due - had);
}

void lv_use_tick(lv_metrics *base, lv_mono now) {
  uint32_t upto = whole_seconds(now);
  begin(base, now);
  for (uint32_t s = base->use_s + 1; s <= upto; s++) {
    for (uint32_t i = LV_KPI_NONE; i < base->n_rows; i += LV_KPI_PROTO_COUNT) {
      lv_metrics *row = base->rows[i];
      if (row && row->use_ring) lv_count(row, LV_C_USE_CONN_MINUTES, row->use_ring[s % MINUTE_S]);
    }
    base->use_s = s;
  }
}

/* ---- sums ---- */

void lv_usage_sum(lv_usage *ret) {
  static const enum lv_counter counter[] = {
#define X(id, name, counter) LV_C_##counter,
      LV_USAGE_UNITS(X)
#undef X
  };
  memset(ret, 0, LV_USAGE_APPS * sizeof *ret);
  for (lv_metrics *m = lv__metrics_first(); m; m = m->next)
    for (uint32_t i = 0; i < LV_U_COUNT; i++)
      ret[m->app].u[i] += atomic_load_explicit(&m->c[counter[i]], memory_order_relaxed);
}

const char *lv_usage_app(uint32_t place) {
  assert(place < LV_USAGE_APPS);
  return atomic_load_explicit(&lv__kpi_app(place)->name, memory_order_acquire);
}
