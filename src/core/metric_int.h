/* metric_int.h: what metric.c (sets and names) shows metric_text.c (the text). */
#ifndef LV_CORE_METRIC_INT_H
#define LV_CORE_METRIC_INT_H
#include "core/metric.h"
#include <assert.h>

/* Places: none, the apps with rows of their own, `_other`. */
enum { LV_KPI_APPS = LV_KPI_APPS_MAX + 2, LV_KPI_SLOTS = LV_KPI_CHANS_MAX + 2 * LV_KPI_APPS + 1 };

typedef struct lv_kpi_app {
  _Atomic(char *) name;                    /* NULL: not met yet */
  uint32_t n_chans, first, other, unknown; /* slots */
} lv_kpi_app;

typedef struct lv_kpi_slot {
  uint32_t app, app_id;
  uint32_t next; /* named ones of the same app */
  char *name;
} lv_kpi_slot;

const lv_kpi_app *lv__kpi_app(uint32_t index);
const lv_kpi_slot *lv__kpi_slot(uint32_t slot);
/* Slots below it may be looked at. */
uint32_t lv__kpi_slots(void);
lv_metrics *lv__metrics_first(void);
lv_chan_row *lv__metrics_first_chan(void);
/* The latencies since the youngest snapshot that is 60 s old (or the oldest there is). */
void lv__metrics_recent(enum lv_latency which, lv_hist *dst);
/* The upper edge of a classic bucket in nanoseconds: 1-2-3-5-7 a decade from 10 µs to 0.7 s, then
 * 1, 2, 5, 10, 30 s. */
extern const int64_t lv__kpi_edges[LV_KPI_BUCKETS];
lv_hist *lv__hist_tmp(void);

/* metric_proc.c: CPU, memory, descriptors, threads. */
struct lv_buf;
void lv__metrics_process(struct lv_buf *b);
void lv__metrics_head(struct lv_buf *b, const char *name, const char *help, const char *type);
const char *lv__metrics_role(void);
void lv__metrics_value(struct lv_buf *b, const char *s);

#endif
