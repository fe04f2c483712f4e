/* metric.c: the sets of all threads, their rows, and their sums. metric_text.c makes the text.
 *
 * Sets are linked into one list that only grows (loops and service threads live as long as the
 * process, and counters must not go back when a thread ends); rows of channels into another. A set
 * belongs to one thread, which alone uses its tables of rows; a scrape walks the lists.
 *
 * Apps and channels have their names in two tables that only grow, under one lock, taken when a
 * channel or an app is met for the first time.
 *
 * The 60-second window keeps a snapshot of both latency histograms every 5 seconds and subtracts.
 */
#include "core/metric_int.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static _Atomic(lv_metrics *) sets;
static _Atomic(lv_chan_row *) chan_rows;
static _Thread_local lv_metrics *mine;

static void *zeroed(size_t size) {
  void *p = aligned_alloc(64, (size + 63) & ~(size_t)63);
  if (!p) abort();
  return memset(p, 0, size);
}

static void link_set(lv_metrics *m) {
  m->next = atomic_load_explicit(&sets, memory_order_relaxed);
  while (!atomic_compare_exchange_weak_explicit(&sets, &m->next, m, memory_order_release,
                                                memory_order_relaxed)) {
  }
}

lv_metrics *lv_metrics_new(void) {
  lv_metrics *m = zeroed(sizeof *m);
  m->latency = zeroed(sizeof *m->latency);
  m->end = zeroed(sizeof *m->end);
  m->commit = zeroed(sizeof *m->commit);
  m->loop = -1;
  link_set(m);
  return m;
}

void lv_metrics_loop(lv_metrics *m, int index) {
  m->turn = zeroed(sizeof *m->turn);
  m->loop = index;
}

lv_metrics *lv_metrics_mine(void) {
  if (!mine) mine = lv_metrics_new();
  return mine;
}

lv_metrics *lv_metrics_use(lv_metrics *m) {
  lv_metrics *before = mine;
  mine = m;
  return before;
}

/* ---- latency ---- */

#define US INT64_C(1000)
#define DECADE(x) 1 * (x), 2 * (x), 3 * (x), 5 * (x), 7 * (x)
const int64_t lv__kpi_edges[LV_KPI_BUCKETS] = {
    DECADE(10 * US), DECADE(100 * US), DECADE(1000 * US), DECADE(10000 * US), DECADE(100000 * US),
    1000000 * US,    2000000 * US,     5000000 * US,      10000000 * US,      30000000 * US};

/* The first bucket whose edge is not below ns; LV_KPI_BUCKETS: none. */
static uint32_t bucket_of(int64_t ns) {
  uint32_t lo = 0, hi = LV_KPI_BUCKETS;
  while (lo < hi) {
    uint32_t mid = (lo + hi) / 2;
    if (lv__kpi_edges[mid] < ns)
      lo = mid + 1;
    else
      hi = mid;
  }
  return lo;
}

static void more(_Atomic uint64_t *v, uint64_t n) {
  atomic_store_explicit(v, atomic_load_explicit(v, memory_order_relaxed) + n, memory_order_relaxed);
}

void lv_metrics_latency(lv_metrics *base, lv_metrics *row, enum lv_latency which, int64_t ns,
                        uint64_t n) {
  assert(base->latency && !row->latency);
  lv_hist_add(which == LV_LATENCY_PROCESSING ? base->latency : base->end, ns, n);
  if (ns < 0) return;
  lv_lat *lat = &row->lat[which];
  more(&lat->bucket[bucket_of(ns)], n);
  more(&lat->sum, (uint64_t)ns * n);
}

/* ---- rows ---- */

/* Place of an app in the table of apps. */
static uint32_t app_index(uint32_t app_id) {
  if (app_id == LV_KPI_NO_APP) return 0;
  return app_id < LV_KPI_APPS_MAX ? app_id + 1 : LV_KPI_APPS_MAX + 1;
}

static void *grown(void *table, uint32_t *n, uint32_t want, uint32_t max) {
  uint32_t cap = *n ? *n : 4 * LV_KPI_PROTO_COUNT;
  while (cap < want) cap *= 2;
  if (cap > max) cap = max;
  void **t = realloc(table, cap * sizeof *t);
  if (!t) abort();
  memset(t + *n, 0, (cap - *n) * sizeof *t);
  *n = cap;
  return t;
}

lv_metrics *lv__metrics_row_new(lv_metrics *base, uint32_t app_id, uint32_t proto) {
  assert(base->latency && proto < LV_KPI_PROTO_COUNT);
  uint32_t app = app_index(app_id), i = app * LV_KPI_PROTO_COUNT + proto;
  if (i >= base->n_rows)
    base->rows = grown(base->rows, &base->n_rows, i + 1, LV_KPI_APPS * LV_KPI_PROTO_COUNT);
  if (!base->rows[i]) {
    lv_metrics *m = zeroed(sizeof *m);
    m->app = app;
    m->proto = (uint8_t)proto;
    m->loop = -1;
    base->rows[i] = m;
    link_set(m);
  }
  return base->rows[i];
}

lv_chan_row *lv__metrics_chan_new(lv_metrics *base, uint32_t slot) {
  assert(base->latency && slot < LV_KPI_SLOTS);
  if (slot >= base->n_chans)
    base->chans = grown(base->chans, &base->n_chans, slot + 1, LV_KPI_SLOTS);
  if (!base->chans[slot]) {
    lv_chan_row *r = zeroed(sizeof *r);
    r->slot = slot;
    base->chans[slot] = r;
    r->next = atomic_load_explicit(&chan_rows, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&chan_rows, &r->next, r, memory_order_release,
                                                  memory_order_relaxed)) {
    }
  }
  return base->chans[slot];
}

/* ---- names of apps and channels ---- */

static lv_kpi_app apps[LV_KPI_APPS];
static lv_kpi_slot slots[LV_KPI_SLOTS]; /* 0: none */
static _Atomic uint32_t n_slots = 1;
static uint32_t n_named, chans_max = LV_KPI_CHANS_DEFAULT; /* under the lock */
static pthread_mutex_t names_lock = PTHREAD_MUTEX_INITIALIZER;

const lv_kpi_app *lv__kpi_app(uint32_t index) {
  return &apps[index];
}
const lv_kpi_slot *lv__kpi_slot(uint32_t slot) {
  return &slots[slot];
}
uint32_t lv__kpi_slots(void) {
  return atomic_load_explicit(&n_slots, memory_order_acquire);
}

static char *name_copy(const char *name, size_t n) {
  char *copy = malloc(n + 1);
  if (!copy) abort();
  memcpy(copy, name, n);
  copy[n] = 0;
  return copy;
}

void lv_metrics_app(uint32_t app_id, const char *name, size_t n) {
  lv_kpi_app *a = &apps[app_index(app_id)];
  if (app_id >= LV_KPI_APPS_MAX) {
    name = "_other";
    n = strlen(name);
  }
  pthread_mutex_lock(&names_lock);
  if (!atomic_load_explicit(&a->name, memory_order_relaxed))
    atomic_store_explicit(&a->name, name_copy(name, n), memory_order_release);
  pthread_mutex_unlock(&names_lock);
}

void lv_metrics_chans_max(uint32_t n) {
  pthread_mutex_lock(&names_lock);
  chans_max = n;
  pthread_mutex_unlock(&names_lock);
}

/* Under the lock. */
static uint32_t slot_new(uint32_t app, uint32_t app_id, const char *name, size_t n) {
  uint32_t slot = atomic_load_explicit(&n_slots, memory_order_relaxed);
  assert(slot < LV_KPI_SLOTS);
  slots[slot] = (lv_kpi_slot){.app = app, .app_id = app_id, .name = name_copy(name, n)};
  atomic_store_explicit(&n_slots, slot + 1, memory_order_release);
  return slot;
}

static uint32_t special_slot(uint32_t *which, uint32_t app, uint32_t app_id, const char *name) {
  if (!*which) *which = slot_new(app, app_id, name, strlen(name));
  return *which;
}

uint32_t lv_metrics_chan_slot(uint32_t app_id, const char *name, size_t n) {
  uint32_t app = app_index(app_id);
  lv_kpi_app *a = &apps[app];
  pthread_mutex_lock(&names_lock);
  uint32_t slot = a->first;
  while (slot && !(strncmp(slots[slot].name, name, n) == 0 && !slots[slot].name[n]))
    slot = slots[slot].next;
  if (!slot && a->n_chans < chans_max && n_named < LV_KPI_CHANS_MAX) {
    slot = slot_new(app, app_id, name, n);
    slots[slot].next = a->first;
    a->first = slot;
    a->n_chans++;
    n_named++;
  }
  if (!slot) slot = special_slot(&a->other, app, app_id, "_other");
  pthread_mutex_unlock(&names_lock);
  return slot;
}

uint32_t lv_metrics_unknown_slot(uint32_t app_id) {
  uint32_t app = app_index(app_id);
  pthread_mutex_lock(&names_lock);
  uint32_t slot = special_slot(&apps[app].unknown, app, app_id, "_unknown");
  pthread_mutex_unlock(&names_lock);
  return slot;
}

uint32_t lv_metrics_slot_app(uint32_t slot) {
  assert(slot < LV_KPI_SLOTS);
  return slot ? slots[slot].app_id : LV_KPI_NO_APP;
}

/* ---- sums ---- */

lv_metrics *lv__metrics_first(void) {
  return atomic_load_explicit(&sets, memory_order_acquire);
}
lv_chan_row *lv__metrics_first_chan(void) {
  return atomic_load_explicit(&chan_rows, memory_order_acquire);
}

uint64_t lv_metrics_counter(enum lv_counter c) {
  uint64_t n = 0;
  for (lv_metrics *m = lv__metrics_first(); m; m = m->next)
    n += atomic_load_explicit(&m->c[c], memory_order_acquire);
  return n;
}

int64_t lv_metrics_gauge(enum lv_gauge g) {
  int64_t n = 0;
  for (lv_metrics *m = lv__metrics_first(); m; m = m->next) {
    int64_t v = atomic_load_explicit(&m->g[g], memory_order_acquire);
    if (g != LV_G_LAG_MAX)
      n += v;
    else if (v > n)
      n = v;
  }
  return n;
}

uint64_t lv_metrics_chan_counter(uint32_t slot, enum lv_chan_counter c) {
  uint64_t n = 0;
  for (lv_chan_row *r = lv__metrics_first_chan(); r; r = r->next)
    if (r->slot == slot) n += atomic_load_explicit(&r->c[c], memory_order_acquire);
  return n;
}

void lv_metrics_hist(enum lv_metrics_hist which, lv_hist *dst) {
  memset(dst, 0, sizeof *dst);
  for (lv_metrics *m = lv__metrics_first(); m; m = m->next) {
    const lv_hist *h = which == LV_HIST_LATENCY  ? m->latency
                       : which == LV_HIST_END    ? m->end
                       : which == LV_HIST_COMMIT ? m->commit
                                                 : m->turn;
    if (h) lv_hist_merge(dst, h);
  }
}

/* ---- the 60-second window ---- */

enum { SNAPS = 14 };
static const int64_t snap_ns = 5000000000, window_ns = 60000000000;
static const enum lv_metrics_hist hist_of[LV_LATENCY_COUNT] = {LV_HIST_LATENCY, LV_HIST_END};
static struct {
  pthread_mutex_t lock;
  lv_hist *h[SNAPS][LV_LATENCY_COUNT];
  int64_t at[SNAPS], now;
  int n, newest; /* used slots; index of the newest */
} win = {.lock = PTHREAD_MUTEX_INITIALIZER};

void lv_metrics_sample(lv_wall now) {
  pthread_mutex_lock(&win.lock);
  win.now = now.ns;
  int64_t age = win.n ? now.ns - win.at[win.newest] : snap_ns;
  if (age < 0) win.n = 0; /* the wall clock went back: start over */
  if (age < 0 || age >= snap_ns) {
    win.newest = win.n ? (win.newest + 1) % SNAPS : 0;
    if (win.n < SNAPS) win.n++;
    for (int i = 0; i < LV_LATENCY_COUNT; i++) {
      lv_hist **h = &win.h[win.newest][i];
      if (!*h) *h = lv__hist_tmp();
      lv_metrics_hist(hist_of[i], *h);
    }
    win.at[win.newest] = now.ns;
  }
  pthread_mutex_unlock(&win.lock);
}

void lv__metrics_recent(enum lv_latency which, lv_hist *dst) {
  lv_metrics_hist(hist_of[which], dst);
  pthread_mutex_lock(&win.lock);
  const lv_hist *from = NULL;
  for (int i = 0; i < win.n; i++) {
    int k = (win.newest - i + SNAPS) % SNAPS;
    from = win.h[k][which];
    if (win.now - win.at[k] >= window_ns) break;
  }
  if (from) lv_hist_diff(dst, dst, from);
  pthread_mutex_unlock(&win.lock);
}

lv_hist *lv__hist_tmp(void) {
  lv_hist *h = malloc(sizeof *h);
  if (!h) abort();
  return h;
}

int64_t lv_metrics_latency_recent(double q) {
  lv_hist *h = lv__hist_tmp();
  lv__metrics_recent(LV_LATENCY_PROCESSING, h);
  int64_t v = lv_hist_quantile(h, q);
  free(h);
  return v;
}
