/* metric.c: the sets of all threads, their sums, and the Prometheus text.
 *
 * Sets are linked into one list that only grows (loops and service threads live as long as the
 * process, and counters must not go back when a thread ends). Counters are summed from the last of
 * the enum to the first, that is in the order opposite to that in which a message passes them, so
 * that a scrape under load shows at most as many out as in.
 *
 * The 60-second window keeps a snapshot of the latency histogram every 5 seconds and subtracts. */
#include "core/metric.h"
#include "core/buf.h"
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static _Atomic(lv_metrics *) sets;
static _Thread_local lv_metrics *mine;

lv_metrics *lv_metrics_new(void) {
  lv_metrics *m = calloc(1, sizeof *m);
  if (!m) abort();
  m->next = atomic_load_explicit(&sets, memory_order_relaxed);
  while (!atomic_compare_exchange_weak_explicit(&sets, &m->next, m, memory_order_release,
                                                memory_order_relaxed)) {
  }
  return m;
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

static lv_metrics *first_set(void) {
  return atomic_load_explicit(&sets, memory_order_acquire);
}

uint64_t lv_metrics_counter(enum lv_counter c) {
  uint64_t n = 0;
  for (lv_metrics *m = first_set(); m; m = m->next)
    n += atomic_load_explicit(&m->c[c], memory_order_acquire);
  return n;
}

int64_t lv_metrics_gauge(enum lv_gauge g) {
  int64_t n = 0;
  for (lv_metrics *m = first_set(); m; m = m->next)
    n += atomic_load_explicit(&m->g[g], memory_order_acquire);
  return n;
}

void lv_metrics_hist(int which, lv_hist *dst) {
  memset(dst, 0, sizeof *dst);
  for (lv_metrics *m = first_set(); m; m = m->next)
    lv_hist_merge(dst, which == 0 ? &m->latency : &m->commit);
}

/* ---- the 60-second window ---- */

enum { SNAPS = 14 };
static const int64_t snap_ns = 5000000000, window_ns = 60000000000;
static struct {
  pthread_mutex_t lock;
  lv_hist *h[SNAPS];
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
    if (!win.h[win.newest] && !(win.h[win.newest] = malloc(sizeof(lv_hist)))) abort();
    lv_metrics_hist(0, win.h[win.newest]);
    win.at[win.newest] = now.ns;
  }
  pthread_mutex_unlock(&win.lock);
}

/* The latencies since the youngest snapshot that is 60 s old (or the oldest there is) into dst. */
static void recent(lv_hist *dst) {
  lv_metrics_hist(0, dst);
  pthread_mutex_lock(&win.lock);
  const lv_hist *from = NULL;
  for (int i = 0; i < win.n; i++) {
    int k = (win.newest - i + SNAPS) % SNAPS;
    from = win.h[k];
    if (win.now - win.at[k] >= window_ns) break;
  }
  if (from) lv_hist_diff(dst, dst, from);
  pthread_mutex_unlock(&win.lock);
}

static lv_hist *hist_tmp(void) {
  lv_hist *h = malloc(sizeof *h);
  if (!h) abort();
  return h;
}

int64_t lv_metrics_latency_recent(double q) {
  lv_hist *h = hist_tmp();
  recent(h);
  int64_t v = lv_hist_quantile(h, q);
  free(h);
  return v;
}

/* ---- Prometheus text format 0.0.4 ---- */

typedef struct desc {
  const char *name, *labels, *help;
} desc;
static const desc counters[LV_C_COUNT] = {
#define X(id, name, labels, help) {name, labels, help},
    LV_COUNTERS(X)
#undef X
};
static const desc gauges[LV_G_COUNT] = {
#define X(id, name, help) {name, "", help},
    LV_GAUGES(X)
#undef X
};

/* The name up to its labels. */
static int base_len(const char *name) {
  return (int)strcspn(name, "{");
}

static bool same_base(const char *a, const char *b) {
  return base_len(a) == base_len(b) && strncmp(a, b, (size_t)base_len(a)) == 0;
}

static void head(lv_buf *b, const char *name, const char *help, const char *type) {
  int n = base_len(name);
  if (*help) lv_buf_printf(b, "# HELP %.*s %s\n", n, name, help);
  lv_buf_printf(b, "# TYPE %.*s %s\n", n, name, type);
}

static bool seen_before(const desc *d, int i) {
  for (int k = 0; k < i; k++)
    if (same_base(d[k].name, d[i].name)) return true;
  return false;
}

static void put_counters(lv_buf *b) {
  uint64_t v[LV_C_COUNT];
  for (int i = LV_C_COUNT - 1; i >= 0; i--) v[i] = lv_metrics_counter((enum lv_counter)i);
  for (int i = 0; i < LV_C_COUNT; i++) {
    if (seen_before(counters, i)) continue;
    head(b, counters[i].name, counters[i].help, "counter");
    for (int k = i; k < LV_C_COUNT; k++) {
      if (!same_base(counters[k].name, counters[i].name)) continue;
      const char *l = counters[k].labels;
      lv_buf_printf(b, *l ? "%s{%s} %llu\n" : "%s%s %llu\n", counters[k].name, l,
                    (unsigned long long)v[k]);
    }
  }
}

static void put_gauges(lv_buf *b) {
  for (int i = 0; i < LV_G_COUNT; i++) {
    if (seen_before(gauges, i)) continue;
    head(b, gauges[i].name, gauges[i].help, "gauge");
    for (int k = i; k < LV_G_COUNT; k++)
      if (same_base(gauges[k].name, gauges[i].name))
        lv_buf_printf(b, "%s %lld\n", gauges[k].name,
                      (long long)lv_metrics_gauge((enum lv_gauge)k));
  }
}

/* Classic buckets: 1-2-3-5-7 a decade from 10 µs to 0.7 s, then 1, 2, 5, 10, 30 s. */
static void put_hist(lv_buf *b, const char *name, const char *help, const lv_hist *h) {
  static const int step[] = {1, 2, 3, 5, 7}, tail[] = {1, 2, 5, 10, 30};
  head(b, name, help, "histogram");
  int64_t decade = 10000;
  for (int i = 0; i < 30; i++) {
    int64_t ns = i < 25 ? step[i % 5] * decade : tail[i - 25] * (int64_t)1000000000;
    if (i < 25 && i % 5 == 4) decade *= 10;
    lv_buf_printf(b, "%s_bucket{le=\"%.9g\"} %llu\n", name, (double)ns / 1e9,
                  (unsigned long long)lv_hist_below(h, ns));
  }
  unsigned long long all = lv_hist_below(h, INT64_MAX);
  lv_buf_printf(b, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.9f\n%s_count %llu\n", name, all, name,
                (double)atomic_load(&h->sum) / 1e9, name, all);
}

static void put_latency(lv_buf *b) {
  static const double q[] = {0.5, 0.95, 0.99, 0.999};
  lv_hist *h = hist_tmp();
  lv_metrics_hist(0, h);
  put_hist(b, "lavva_processing_latency_seconds",
           "From a message's last byte read to its delivery's first byte written", h);
  head(b, "lavva_processing_latency_negative_total",
       "Latencies that came out negative and are not in the histogram", "counter");
  lv_buf_printf(b, "lavva_processing_latency_negative_total %llu\n",
                (unsigned long long)atomic_load(&h->negative));
  recent(h);
  head(b, "lavva_processing_latency_quantile_seconds",
       "Quantiles of the processing latency over the last 60 s", "gauge");
  for (size_t i = 0; i < sizeof q / sizeof *q; i++)
    lv_buf_printf(b, "lavva_processing_latency_quantile_seconds{quantile=\"%g\"} %.9f\n", q[i],
                  (double)lv_hist_quantile(h, q[i]) / 1e9);
  head(b, "lavva_processing_latency_max_seconds", "Largest processing latency of the last 60 s",
       "gauge");
  lv_buf_printf(b, "lavva_processing_latency_max_seconds %.9f\n",
                (double)lv_hist_quantile(h, 1) / 1e9);
  lv_metrics_hist(1, h);
  put_hist(b, "lavva_broker_commit_latency_seconds",
           "From a batch's submission to the moment it is as safe as its channels ask", h);
  free(h);
}

static void put_process(lv_buf *b) {
  struct rusage ru;
  long pages = 0;
  FILE *f = fopen("/proc/self/statm", "re");
  if (f) {
    if (fscanf(f, "%*s %ld", &pages) != 1) pages = 0;
    (void)fclose(f);
  }
  if (getrusage(RUSAGE_SELF, &ru) == 0) {
    double cpu = (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
                 (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
    head(b, "process_cpu_seconds_total", "User and system CPU time", "counter");
    lv_buf_printf(b, "process_cpu_seconds_total %.6f\n", cpu);
  }
  head(b, "process_resident_memory_bytes", "Resident memory", "gauge");
  lv_buf_printf(b, "process_resident_memory_bytes %lld\n",
                (long long)pages * sysconf(_SC_PAGESIZE));
}

char *lv_metrics_prometheus(size_t *ret_n) {
  lv_buf b;
  lv_buf_init(&b, 4u << 20);
  put_counters(&b);
  put_gauges(&b);
  put_latency(&b);
  put_process(&b);
  return lv_buf_take(&b, ret_n);
}
