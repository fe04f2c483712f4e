/* meter.c: see meter.h.
 *
 * Publishes come from the logs' own sums, which belong to an address; all else comes from the sums
 * of the process's counters (lv_usage_sum). Both only grow, so what is new is the difference to
 * what was stored last: `last` is that, `now` is what was collected.
 *
 * Stored bytes are looked at every SAMPLE_S seconds (more seldom with very many channels) and count
 * for the time since the look before; what is less than a byte-hour is carried on. */
#include "master/meter.h"
#include "core/map.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>

enum { SAMPLE_S = 10, SAMPLE_MANY_S = 60, MANY_CHANNELS = 20000 };
enum { FAR_BYTES = 16 << 20 }; /* of records that are no messages: not to be read after a crash */

/* An app, by name: its sums of published messages, and where it is in the rows. */
typedef struct app {
  struct app *next; /* in the order in which they were met */
  lv_use_sum last[LV_DURABILITY_COUNT], now[LV_DURABILITY_COUNT];
  uint32_t row; /* + 1, of the rows being made; 0: none */
  uint32_t n;
  uint8_t name[];
} app;

struct lv_meter {
  lv_broker *broker;
  lv_map apps;
  app *first, **end;
  lv_usage *last, *now; /* by place, LV_USAGE_APPS each */
  uint64_t last_lsn[LV_DURABILITY_COUNT];
  lv_meter_rows rows;
  uint8_t log; /* whose sums are being read */
  /* stored bytes */
  lv_mono sampled;
  double *part;    /* by place: of a byte-hour */
  uint64_t *bytes; /* by place */
  uint32_t *id;    /* by place: an app's id */
  uint32_t channels;
};

static lv_slice name_of(const void *obj) {
  const app *a = obj;
  return lv_slice_of(a->name, a->n);
}

static app *app_get(lv_meter *m, lv_slice name) {
  app *a = lv_map_get(&m->apps, name);
  if (a) return a;
  a = calloc(1, sizeof *a + name.n);
  if (!a) abort();
  a->n = name.n;
  memcpy(a->name, name.p, name.n);
  *m->end = a;
  m->end = &a->next;
  (void)lv_map_add(&m->apps, a);
  return a;
}

/* ---- rows ---- */

static lv_meter_row *row_new(lv_meter *m, app *a, int64_t minute) {
  lv_meter_rows *r = &m->rows;
  if (r->n == r->cap) {
    r->cap = r->cap ? r->cap * 2 : 16;
    r->row = realloc(r->row, r->cap * sizeof *r->row);
    if (!r->row) abort();
  }
  r->row[r->n] = (lv_meter_row){.app = name_of(a), .minute = minute};
  a->row = ++r->n;
  return &r->row[r->n - 1];
}

/* The app's row of that minute; minutes come nearly in order, an app has few. */
static lv_meter_row *row_get(lv_meter *m, app *a, int64_t minute) {
  lv_meter_rows *r = &m->rows;
  if (a->row && r->row[a->row - 1].minute == minute) return &r->row[a->row - 1];
  for (uint32_t i = a->row ? r->n : 0; i > 0; i--) {
    if (r->row[i - 1].minute != minute || r->row[i - 1].app.p != a->name) continue;
    a->row = i;
    return &r->row[i - 1];
  }
  return row_new(m, a, minute);
}

static void rows_begin(lv_meter *m) {
  m->rows.n = 0;
  for (app *a = m->first; a; a = a->next) a->row = 0;
}

/* ---- the remainder of a crash ---- */

static void on_rec(void *arg, lv_slice name, const lv_rec *rec) {
  lv_meter *m = arg;
  lv_meter_row *row = row_get(m, app_get(m, name), rec->ingest_ns / 60000000000);
  lv_use u = lv_use_of(rec);
  row->use.u[LV_U_MESSAGES_IN] += u.steps;
  row->use.u[LV_U_BYTES_IN] += u.bytes;
}

static void *zeroed(size_t n, size_t size) {
  void *p = calloc(n, size);
  if (!p) abort();
  return p;
}

lv_meter *lv_meter_new(lv_broker *b) {
  lv_meter *m = zeroed(1, sizeof *m);
  m->broker = b;
  m->end = &m->first;
  lv_map_init(&m->apps, name_of);
  m->last = zeroed(LV_USAGE_APPS, sizeof *m->last);
  m->now = zeroed(LV_USAGE_APPS, sizeof *m->now);
  m->part = zeroed(LV_USAGE_APPS, sizeof *m->part);
  m->bytes = zeroed(LV_USAGE_APPS, sizeof *m->bytes);
  m->id = zeroed(LV_USAGE_APPS, sizeof *m->id);
  lv_usage_sum(m->last);
  lv_pos pos = b->ops->visible(b);
  memcpy(m->last_lsn, pos.lsn, sizeof m->last_lsn);
  return m;
}

int lv_meter_begin(lv_meter *m, const uint64_t *lsn, const lv_meter_rows **ret) {
  int err = 0;
  rows_begin(m);
  memcpy(m->now, m->last, LV_USAGE_APPS * sizeof *m->now);
  memcpy(m->rows.lsn, m->last_lsn, sizeof m->last_lsn);
  for (uint8_t log = 0; log < LV_DURABILITY_COUNT && !err && lsn; log++)
    err = lv_embedded_usage_since(m->broker, log, lsn[log], on_rec, m);
  if (err) return err;
  m->rows.worth = true;
  *ret = &m->rows;
  return 0;
}

/* ---- stored bytes ---- */

static void on_stored(void *arg, const lv_chan *chan, uint64_t bytes) {
  lv_meter *m = arg;
  m->channels++;
  if (chan->app_id == UINT32_MAX) return; /* of an app that is not there any more */
  uint32_t place = chan->app_id < LV_KPI_APPS_MAX ? chan->app_id + 1 : LV_KPI_APPS_MAX + 1;
  m->bytes[place] += bytes;
  m->id[place] = chan->app_id;
}

static void sample(lv_meter *m, lv_mono now) {
  int64_t every_s = m->channels > MANY_CHANNELS ? SAMPLE_MANY_S : SAMPLE_S;
  double hours = (double)(now.ns - m->sampled.ns) / 3.6e12;
  if (m->sampled.ns && now.ns - m->sampled.ns < every_s * INT64_C(1000000000)) return;
  bool first = m->sampled.ns == 0;
  m->sampled = now;
  m->channels = 0;
  memset(m->bytes, 0, LV_USAGE_APPS * sizeof *m->bytes);
  lv_embedded_stored(m->broker, on_stored, m);
  for (uint32_t i = 1; i < LV_USAGE_APPS && !first; i++) {
    if (!m->bytes[i]) continue;
    m->part[i] += (double)m->bytes[i] * hours;
    double whole = floor(m->part[i]);
    m->part[i] -= whole;
    lv_count(lv_metrics_row(lv_metrics_mine(), m->id[i], LV_KPI_NONE), LV_C_USE_STORED,
             (uint64_t)whole);
  }
}

/* ---- collecting ---- */

static void on_app(void *arg, lv_slice name, lv_use_sum sum) {
  lv_meter *m = arg;
  app_get(m, name)->now[m->log] = sum;
}

static void add_published(lv_meter *m, int64_t minute) {
  for (app *a = m->first; a; a = a->next)
    for (int log = 0; log < LV_DURABILITY_COUNT; log++) {
      uint64_t steps = a->now[log].steps - a->last[log].steps;
      if (!steps) continue;
      lv_meter_row *row = row_get(m, a, minute);
      row->use.u[LV_U_MESSAGES_IN] += steps;
      row->use.u[LV_U_BYTES_IN] += a->now[log].bytes - a->last[log].bytes;
    }
}

/* All units but those of publishes, which the logs tell. */
static void add_rest(lv_meter *m, int64_t minute) {
  for (uint32_t i = 1; i < LV_USAGE_APPS; i++) {
    const char *name = NULL;
    lv_meter_row *row = NULL;
    for (int u = 0; u < LV_U_COUNT; u++) {
      uint64_t more = m->now[i].u[u] - m->last[i].u[u];
      if (!more || u == LV_U_MESSAGES_IN || u == LV_U_BYTES_IN) continue;
      if (!name && !(name = lv_usage_app(i))) break;
      if (!row) row = row_get(m, app_get(m, lv_slice_str(name)), minute);
      row->use.u[u] += more;
    }
  }
}

const lv_meter_rows *lv_meter_collect(lv_meter *m, lv_wall now, lv_mono mono) {
  int64_t minute = now.ns / 60000000000;
  sample(m, mono);
  rows_begin(m);
  lv_usage_sum(m->now);
  for (m->log = 0; m->log < LV_DURABILITY_COUNT; m->log++)
    lv_embedded_usage(m->broker, m->log, on_app, m, &m->rows.lsn[m->log]);
  add_published(m, minute);
  add_rest(m, minute);
  m->rows.worth = m->rows.n > 0;
  for (int log = 0; log < LV_DURABILITY_COUNT; log++)
    if (m->rows.lsn[log] - m->last_lsn[log] > FAR_BYTES) m->rows.worth = true;
  return &m->rows;
}

const lv_meter_rows *lv_meter_collect_rest(lv_meter *m, lv_wall now) {
  rows_begin(m);
  lv_usage_sum(m->now);
  memcpy(m->rows.lsn, m->last_lsn, sizeof m->last_lsn);
  for (app *a = m->first; a; a = a->next) memcpy(a->now, a->last, sizeof a->now);
  add_rest(m, now.ns / 60000000000);
  m->rows.worth = m->rows.n > 0;
  return &m->rows;
}

void lv_meter_commit(lv_meter *m) {
  memcpy(m->last, m->now, LV_USAGE_APPS * sizeof *m->last);
  for (app *a = m->first; a; a = a->next) memcpy(a->last, a->now, sizeof a->last);
  memcpy(m->last_lsn, m->rows.lsn, sizeof m->last_lsn);
}

void lv_meter_free(lv_meter *m) {
  if (!m) return;
  while (m->first) {
    app *a = m->first;
    m->first = a->next;
    free(a);
  }
  lv_map_done(&m->apps);
  free(m->last);
  free(m->now);
  free(m->part);
  free(m->bytes);
  free(m->id);
  free(m->rows.row);
  free(m);
}
