/* metric_text.c: the Prometheus text (format 0.0.4, legal as OpenMetrics but for its end): all sets
 * added up by (app, protocol), channels by slot.
 *
 * What a table's labels end with, `app`, `protocol` or `channel`, are labels of the rows: a metric
 * is summed over those that it does not name. So the sum over labels is the total, exactly. A label
 * is left empty by nothing: what belongs to no app (app="") appears only when there is any.
 *
 * Bounded: LV_KPI_APPS × protocols rows, LV_KPI_SLOTS channels, TEXT_MAX bytes. @thread any */
#include "core/buf.h"
#include "core/metric_int.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { APP = 1, PROTO = 2, CHANNEL = 4 };
enum { ROWS = LV_KPI_APPS * LV_KPI_PROTO_COUNT, COLS = LV_C_COUNT + LV_G_COUNT };
enum { TEXT_MAX = 64 << 20 };

/* A line of one of the tables, taken apart. */
typedef struct desc {
  const char *name, *labels, *help;
  size_t n_name, n_labels; /* without the labels of the row */
  uint32_t rows;           /* which those are */
} desc;

typedef struct sums {
  int64_t (*v)[COLS]; /* [app * protocols + protocol] */
  uint32_t *row;      /* those that exist, ascending */
  uint32_t n_rows;
} sums;

static const char *const proto_text[LV_KPI_PROTO_COUNT] = {
#define X(id, text) text,
    LV_KPI_PROTOS(X)
#undef X
};

/* ---- the tables ---- */

static const struct {
  const char *text;
  uint32_t rows;
} row_labels[] = {{"app,protocol", APP | PROTO},
                  {"app,channel", APP | CHANNEL},
                  {"app", APP},
                  {"protocol", PROTO}};

static desc desc_of(const char *name, const char *labels, const char *help) {
  desc d = {.name = name, .labels = labels, .help = help, .n_name = strcspn(name, "{")};
  if (name[d.n_name]) { /* gauges carry them in the name */
    d.labels = name + d.n_name + 1;
    d.n_labels = strlen(d.labels) - 1;
  } else {
    d.n_labels = strlen(labels);
  }
  for (size_t i = 0; i < sizeof row_labels / sizeof *row_labels; i++) {
    size_t n = strlen(row_labels[i].text);
    if (d.n_labels < n || memcmp(d.labels + d.n_labels - n, row_labels[i].text, n) != 0) continue;
    if (d.n_labels > n && d.labels[d.n_labels - n - 1] != ',') continue;
    d.n_labels -= d.n_labels > n ? n + 1 : n;
    d.rows = row_labels[i].rows;
    break;
  }
  return d;
}

static desc counter_desc(int i) {
  static const char *const t[LV_C_COUNT][3] = {
#define X(id, name, labels, help) {name, labels, help},
    LV_COUNTERS(X)
#undef X
  };
  return desc_of(t[i][0], t[i][1], t[i][2]);
}

static desc gauge_desc(int i) {
  static const char *const t[LV_G_COUNT][2] = {
#define X(id, name, help) {name, help},
      LV_GAUGES(X)
#undef X
  };
  return desc_of(t[i][0], "", t[i][1]);
}

static desc chan_desc(int i) {
  static const char *const t[LV_CH_COUNT][3] = {
#define X(id, name, labels, help) {name, labels, help},
      LV_CHAN_COUNTERS(X)
#undef X
  };
  return desc_of(t[i][0], t[i][1], t[i][2]);
}

/* ---- lines ---- */

void lv__metrics_head(lv_buf *b, const char *name, const char *help, const char *type) {
  lv_buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void head(lv_buf *b, const desc *d, const char *type) {
  lv_buf_printf(b, "# HELP %.*s %s\n# TYPE %.*s %s\n", (int)d->n_name, d->name, d->help,
                (int)d->n_name, d->name, type);
}

void lv_metrics_put(lv_buf *b, const char *name, const char *type, const char *help, double v) {
  lv__metrics_head(b, name, help, type);
  lv_buf_printf(b, "%s %.15g\n", name, v);
}

/* A label's value, escaped (\\, \" and \n). */
void lv__metrics_value(lv_buf *b, const char *s) {
  for (; *s; s++) {
    if (*s == '\n') {
      lv_buf_add_str(b, "\\n");
      continue;
    }
    if (*s == '\\' || *s == '"') lv_buf_add_byte(b, '\\');
    lv_buf_add_byte(b, (uint8_t)*s);
  }
}

static void label(lv_buf *b, bool *first, const char *name, const char *value) {
  lv_buf_printf(b, "%s%s=\"", *first ? "" : ",", name);
  lv__metrics_value(b, value);
  lv_buf_add_byte(b, '"');
  *first = false;
}

static const char *app_text(uint32_t index) {
  const char *name = atomic_load_explicit(&lv__kpi_app(index)->name, memory_order_acquire);
  return name ? name : "";
}

static void sample(lv_buf *b, const desc *d, uint32_t app, uint32_t proto, const char *chan,
                   int64_t v) {
  bool first = d->n_labels == 0;
  lv_buf_add(b, d->name, d->n_name);
  if (d->n_labels || d->rows) {
    lv_buf_add_byte(b, '{');
    lv_buf_add(b, d->labels, d->n_labels);
    if (d->rows & APP) label(b, &first, "app", app_text(app));
    if (d->rows & PROTO) label(b, &first, "protocol", proto_text[proto]);
    if (d->rows & CHANNEL) label(b, &first, "channel", chan);
    lv_buf_add_byte(b, '}');
  }
  lv_buf_printf(b, " %lld\n", (long long)v);
}

/* ---- sums ---- */

static void sum_column(sums *s, int col) {
  for (lv_metrics *m = lv__metrics_first(); m; m = m->next) {
    int64_t *v = &s->v[m->app * LV_KPI_PROTO_COUNT + m->proto][col];
    if (col < LV_C_COUNT)
      *v += (int64_t)atomic_load_explicit(&m->c[col], memory_order_acquire);
    else if (col - LV_C_COUNT != LV_G_LAG_MAX)
      *v += atomic_load_explicit(&m->g[col - LV_C_COUNT], memory_order_acquire);
    else if (atomic_load_explicit(&m->g[LV_G_LAG_MAX], memory_order_acquire) > *v)
      *v = atomic_load_explicit(&m->g[LV_G_LAG_MAX], memory_order_acquire);
  }
}

/* Rows that somebody has counted in, the base set's, and MQTT for each app and for none. */
static void find_rows(sums *s) {
  bool *has = calloc(ROWS, sizeof *has);
  s->row = calloc(ROWS, sizeof *s->row);
  if (!has || !s->row) abort();
  has[LV_KPI_NONE] = has[LV_KPI_MQTT] = true;
  for (lv_metrics *m = lv__metrics_first(); m; m = m->next)
    has[m->app * LV_KPI_PROTO_COUNT + m->proto] = true;
  for (uint32_t i = 0; i < LV_KPI_APPS; i++)
    if (*app_text(i)) has[i * LV_KPI_PROTO_COUNT + LV_KPI_MQTT] = true;
  for (uint32_t i = 0; i < ROWS; i++)
    if (has[i]) s->row[s->n_rows++] = i;
  free(has);
}

/* From the last counter to the first, that is in the order opposite to that in which a message
 * passes them, so that a scrape under load shows at most as many out as in. */
static void sum_up(sums *s) {
  *s = (sums){.v = calloc(ROWS, sizeof *s->v)};
  if (!s->v) abort();
  for (int i = LV_C_COUNT - 1; i >= 0; i--) sum_column(s, i);
  for (int i = LV_C_COUNT; i < COLS; i++) sum_column(s, i);
  find_rows(s);
}

/* All samples of one line of a table. */
static void put_rows(lv_buf *b, const sums *s, const desc *d, int col) {
  bool zeros = d->n_labels == 0 || s->n_rows <= LV_KPI_ZEROS;
  bool by_app = d->rows & APP, by_proto = d->rows & PROTO, max = col == LV_C_COUNT + LV_G_LAG_MAX;
  int64_t sum[LV_KPI_PROTO_COUNT] = {0}; /* without app: by protocol, or all in the first */
  bool seen[LV_KPI_PROTO_COUNT] = {0};
  for (uint32_t i = 0; i < s->n_rows; i++) {
    uint32_t app = s->row[i] / LV_KPI_PROTO_COUNT, proto = s->row[i] % LV_KPI_PROTO_COUNT;
    uint32_t at = by_proto ? proto : 0;
    int64_t v = s->v[s->row[i]][col];
    sum[at] = max && sum[at] > v ? sum[at] : max ? v : sum[at] + v;
    seen[at] = true;
    bool last = by_proto || i + 1 == s->n_rows || s->row[i + 1] / LV_KPI_PROTO_COUNT != app;
    if (!by_app || !last) continue;
    bool plain = app != 0 && (!by_proto || proto != LV_KPI_NONE) && zeros;
    if (plain || sum[at]) sample(b, d, app, proto, NULL, sum[at]);
    sum[at] = 0;
  }
  for (uint32_t p = 0; p < LV_KPI_PROTO_COUNT && !by_app; p++)
    if (sum[p] || (seen[p] && (!by_proto || p != LV_KPI_NONE))) sample(b, d, 0, p, NULL, sum[p]);
}

static bool same_name(const desc *a, const desc *b) {
  return a->n_name == b->n_name && memcmp(a->name, b->name, a->n_name) == 0;
}

/* A table's metrics: lines of one name stand together. `col`: of the first line. */
static void put_table(lv_buf *b, const sums *s, desc (*of)(int), int n, int col, const char *type) {
  for (int i = 0; i < n; i++) {
    desc d = of(i);
    bool before = false;
    for (int k = 0; k < i && !before; k++) {
      desc e = of(k);
      before = same_name(&d, &e);
    }
    if (before) continue;
    head(b, &d, type);
    for (int k = i; k < n; k++) {
      desc e = of(k);
      if (same_name(&d, &e)) put_rows(b, s, &e, col + k);
    }
  }
}

/* ---- channels ---- */

static void put_chan_lines(lv_buf *b, const int64_t (*v)[LV_CH_COUNT], uint32_t n, int i) {
  desc d = chan_desc(i);
  bool zeros = d.n_labels == 0 || n <= LV_KPI_ZEROS;
  for (uint32_t slot = 0; slot < n; slot++) {
    const lv_kpi_slot *s = lv__kpi_slot(slot);
    if ((slot && zeros) || v[slot][i]) sample(b, &d, s->app, 0, slot ? s->name : "", v[slot][i]);
  }
}

static void put_chans(lv_buf *b) {
  uint32_t n = lv__kpi_slots();
  int64_t(*v)[LV_CH_COUNT] = calloc(n, sizeof *v);
  if (!v) abort();
  for (lv_chan_row *r = lv__metrics_first_chan(); r; r = r->next)
    for (int i = LV_CH_COUNT - 1; i >= 0 && r->slot < n; i--)
      v[r->slot][i] += (int64_t)atomic_load_explicit(&r->c[i], memory_order_acquire);
  for (int i = 0; i < LV_CH_COUNT; i++) {
    desc d = chan_desc(i), before = i ? chan_desc(i - 1) : (desc){0};
    if (!i || !same_name(&d, &before)) head(b, &d, "counter");
    put_chan_lines(b, (const int64_t(*)[LV_CH_COUNT])v, n, i);
  }
  free(v);
}

/* ---- histograms ---- */

static void put_buckets(lv_buf *b, const char *name, const char *who, const uint64_t *below,
                        double sum_s) {
  const char *comma = *who ? "," : "";
  for (int i = 0; i < LV_KPI_BUCKETS; i++)
    lv_buf_printf(b, "%s_bucket{le=\"%.9g\"%s%s} %llu\n", name, (double)lv__kpi_edges[i] / 1e9,
                  comma, who, (unsigned long long)below[i]);
  lv_buf_printf(b, "%s_bucket{le=\"+Inf\"%s%s} %llu\n", name, comma, who,
                (unsigned long long)below[LV_KPI_BUCKETS]);
  const char *open = *who ? "{" : "", *close = *who ? "}" : "";
  lv_buf_printf(b, "%s_sum%s%s%s %.9f\n%s_count%s%s%s %llu\n", name, open, who, close, sum_s, name,
                open, who, close, (unsigned long long)below[LV_KPI_BUCKETS]);
}

static void put_hist(lv_buf *b, const char *name, const char *help, const lv_hist *h) {
  uint64_t below[LV_KPI_BUCKETS + 1];
  lv__metrics_head(b, name, help, "histogram");
  for (int i = 0; i < LV_KPI_BUCKETS; i++) below[i] = lv_hist_below(h, lv__kpi_edges[i]);
  below[LV_KPI_BUCKETS] = lv_hist_below(h, INT64_MAX);
  put_buckets(b, name, "", below, (double)atomic_load(&h->sum) / 1e9);
}

/* By app (the first ones; the others together) and protocol: those that have had a delivery, and
 * the first app's over MQTT, so that the metric is there from the start. */
static void put_rows_hist(lv_buf *b, const char *name, const char *help, enum lv_latency which) {
  typedef uint64_t lat[LV_KPI_BUCKETS + 2];
  lat *v = calloc(ROWS, sizeof *v);
  if (!v) abort();
  for (lv_metrics *m = lv__metrics_first(); m; m = m->next) {
    uint32_t app = m->app <= LV_KPI_HIST_APPS ? m->app : LV_KPI_APPS_MAX + 1;
    uint64_t *to = v[app * LV_KPI_PROTO_COUNT + m->proto];
    for (int i = 0; i <= LV_KPI_BUCKETS; i++)
      to[i] += atomic_load_explicit(&m->lat[which].bucket[i], memory_order_relaxed);
    to[LV_KPI_BUCKETS + 1] += atomic_load_explicit(&m->lat[which].sum, memory_order_relaxed);
  }
  lv__metrics_head(b, name, help, "histogram");
  for (uint32_t row = 0; row < ROWS; row++) {
    for (int i = 1; i <= LV_KPI_BUCKETS; i++) v[row][i] += v[row][i - 1];
    if (!v[row][LV_KPI_BUCKETS] && row != LV_KPI_PROTO_COUNT + LV_KPI_MQTT) continue;
    lv_buf text;
    bool first = true;
    size_t n;
    lv_buf_init(&text, 4096);
    uint32_t app = row / LV_KPI_PROTO_COUNT;
    label(&text, &first, "app", app > LV_KPI_APPS_MAX ? "_other" : app_text(app));
    label(&text, &first, "protocol", proto_text[row % LV_KPI_PROTO_COUNT]);
    char *labels = lv_buf_take(&text, &n);
    put_buckets(b, name, labels, v[row], (double)v[row][LV_KPI_BUCKETS + 1] / 1e9);
    free(labels);
  }
  free(v);
}

static void put_quantiles(lv_buf *b, const char *name, const char *help, const lv_hist *h) {
  static const double q[] = {0.5, 0.95, 0.99, 0.999};
  lv__metrics_head(b, name, help, "gauge");
  for (size_t i = 0; i < sizeof q / sizeof *q; i++)
    lv_buf_printf(b, "%s{quantile=\"%g\"} %.9f\n", name, q[i],
                  (double)lv_hist_quantile(h, q[i]) / 1e9);
}

static double seconds(int64_t ns) {
  return (double)ns / 1e9;
}

static void put_latency(lv_buf *b, lv_hist *h) {
  put_rows_hist(b, "lavva_processing_latency_seconds",
                "From a message's last byte read to its delivery's first byte written",
                LV_LATENCY_PROCESSING);
  lv_metrics_hist(LV_HIST_LATENCY, h);
  lv_metrics_put(b, "lavva_processing_latency_negative_total", "counter",
                 "Latencies that came out negative and are not in the histogram",
                 (double)atomic_load(&h->negative));
  lv__metrics_recent(LV_LATENCY_PROCESSING, h);
  put_quantiles(b, "lavva_processing_latency_quantile_seconds",
                "Quantiles of the processing latency over the last 60 s", h);
  lv_metrics_put(b, "lavva_processing_latency_max_seconds", "gauge",
                 "Largest processing latency of the last 60 s", seconds(lv_hist_quantile(h, 1)));
}

static void put_end_to_end(lv_buf *b, lv_hist *h) {
  put_rows_hist(b, "lavva_end_to_end_latency_seconds",
                "From the publisher's own timestamp to the delivery, where it gave one",
                LV_LATENCY_END);
  lv_metrics_hist(LV_HIST_END, h);
  lv_metrics_put(b, "lavva_end_to_end_latency_negative_total", "counter",
                 "Deliveries before their publisher's timestamp: a clock is wrong",
                 (double)atomic_load(&h->negative));
  lv__metrics_recent(LV_LATENCY_END, h);
  put_quantiles(b, "lavva_end_to_end_latency_quantile_seconds",
                "Quantiles of the end-to-end latency over the last 60 s", h);
  lv_metrics_put(b, "lavva_end_to_end_latency_max_seconds", "gauge",
                 "Largest end-to-end latency of the last 60 s", seconds(lv_hist_quantile(h, 1)));
}

static void put_hists(lv_buf *b) {
  lv_hist *h = lv__hist_tmp();
  put_latency(b, h);
  put_end_to_end(b, h);
  lv_metrics_hist(LV_HIST_COMMIT, h);
  put_hist(b, "lavva_broker_commit_latency_seconds",
           "From a batch's submission to the moment it is as safe as its channels ask", h);
  lv_metrics_hist(LV_HIST_TURN, h);
  put_hist(b, "lavva_loop_turn_seconds", "A loop's turns, from waking up to sleeping again", h);
  free(h);
}

/* The rate of a loop's busy time is how full it is. */
static void put_loops(lv_buf *b) {
  lv__metrics_head(b, "lavva_loop_busy_seconds_total",
                   "Time that a loop was awake; its rate is how full the loop is", "counter");
  for (lv_metrics *m = lv__metrics_first(); m; m = m->next)
    if (m->turn)
      lv_buf_printf(b, "lavva_loop_busy_seconds_total{loop=\"%d\"} %.9f\n", m->loop,
                    (double)atomic_load(&m->turn->sum) / 1e9);
}

/* ---- all of it ---- */

static lv_metrics_source_fn *source_fn;
static void *source_arg;
static const char *role = "none";

void lv_metrics_source(lv_metrics_source_fn *fn, void *arg) {
  source_fn = fn;
  source_arg = arg;
}

void lv_metrics_role(const char *text) {
  role = text;
}

const char *lv__metrics_role(void) {
  return role;
}

char *lv_metrics_prometheus(size_t *ret_n) {
  lv_buf b;
  sums s;
  sum_up(&s);
  lv_buf_init(&b, TEXT_MAX);
  put_table(&b, &s, counter_desc, LV_C_COUNT, 0, "counter");
  put_table(&b, &s, gauge_desc, LV_G_COUNT, LV_C_COUNT, "gauge");
  free(s.v);
  free(s.row);
  put_chans(&b);
  put_hists(&b);
  put_loops(&b);
  if (source_fn) source_fn(source_arg, &b);
  lv__metrics_process(&b);
  return lv_buf_take(&b, ret_n);
}
