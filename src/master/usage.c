/* usage.c: the book of usage (usage.h).
 *
 * What could not be written (the disk is full) is written with the next second's; meanwhile nothing
 * is lost but by a crash, and of that no publish. One job a second; while one waits, none is added.
 * @thread master; main before it runs and after it has ended */
#include "master/usage.h"
#include "core/log.h"
#include "master/master_int.h"
#include "master/usage_db.h"
#include <assert.h>
#include <stdlib.h>

enum { PRUNE_S = 60 };

struct lv_usage_book {
  lv_master_job job;    /* first */
  _Atomic bool waiting; /* it is queued */
  lv_master *master;
  lv_meter *meter;
  bool begun; /* what was before this start is written down */
  uint32_t seconds;
};

/* ---- writing ---- */

static int exec(lv_store *store, const char *sql) {
  return lv_store_err(sqlite3_exec(lv_store_db(store), sql, NULL, NULL, NULL));
}

static int write_rows(lv_usage_book *u, lv_store *store, const lv_meter_rows *rows) {
  int err = exec(store, "BEGIN IMMEDIATE");
  if (!err) err = lv__usage_db_add(lv_store_db(store), rows);
  if (!err) err = exec(store, "COMMIT");
  if (!err) {
    lv_meter_commit(u->meter);
    return 0;
  }
  lv_log(LV_WARN, "usage cannot be written down now, it is kept err=%s why=\"%s\"",
         lv_err_text(err), lv_store_text(store));
  if (!sqlite3_get_autocommit(lv_store_db(store))) (void)exec(store, "ROLLBACK");
  return err;
}

/* What the logs hold beyond the book is written into it. */
static int begin(lv_usage_book *u, lv_store *store) {
  uint64_t lsn[LV_DURABILITY_COUNT];
  const lv_meter_rows *rows;
  int have = lv__usage_db_marks(lv_store_db(store), lsn);
  int err = have < 0 ? have : lv_meter_begin(u->meter, have ? lsn : NULL, &rows);
  if (!err) err = write_rows(u, store, rows);
  u->begun = err == 0;
  return err;
}

static void second(lv_usage_book *u, lv_store *store) {
  lv_wall now = lv_wall_now();
  if (!u->begun && begin(u, store)) return;
  const lv_meter_rows *rows = lv_meter_collect(u->meter, now, lv_mono_now());
  if (rows->worth) (void)write_rows(u, store, rows);
  if (u->seconds++ % PRUNE_S == 0) (void)lv__usage_db_prune(lv_store_db(store), now);
}

static void job_run(lv_master *m, lv_store *store, lv_master_job *job) {
  lv_usage_book *u = (lv_usage_book *)job;
  (void)m;
  second(u, store);
  atomic_store(&u->waiting, false);
}

/* ---- answers ---- */

typedef struct answer {
  lv_buf *json;
  const lv_usage_query *q;
  uint32_t n;
  int64_t at; /* of the last bucket */
  uint8_t app[LV_USAGE_APP_MAX];
  uint32_t n_app;
} answer;

static void put_time(lv_buf *b, int64_t s) {
  char text[32];
  (void)lv_time_format((lv_wall){s * 1000000000}, text, sizeof text);
  char *dot = strchr(text, '.'); /* whole seconds */
  if (dot) memcpy(dot, "Z", 2);
  (void)lv_buf_printf(b, "\"%s\"", text);
}

static void put_units(lv_buf *b, const lv_usage *use) {
  for (int i = 0; i < LV_U_COUNT; i++)
    (void)lv_buf_printf(b, "%s\"%s\":%llu", i ? "," : "", lv_usage_name((enum lv_usage_unit)i),
                        (unsigned long long)use->u[i]);
}

/* Names of apps need no escapes in JSON. */
static void put_bucket(void *arg, lv_slice app, int64_t at, const lv_usage *use) {
  answer *a = arg;
  int64_t s = lv_usage_step_s(a->q->step);
  (void)lv_buf_printf(a->json, "%s{\"app\":\"%.*s\",\"from\":", a->n++ ? "," : "", (int)app.n,
                      (const char *)app.p);
  put_time(a->json, at);
  (void)lv_buf_add_str(a->json, ",\"to\":");
  put_time(a->json, s ? at + s : a->q->to);
  (void)lv_buf_add_byte(a->json, ',');
  put_units(a->json, use);
  (void)lv_buf_add_byte(a->json, '}');
  a->at = at;
  a->n_app = app.n < sizeof a->app ? app.n : (uint32_t)sizeof a->app;
  memcpy(a->app, app.p, a->n_app);
}

int lv__usage_answer(lv_usage_book *u, lv_store *store, const lv_usage_query *q, lv_buf *json) {
  static const char *const steps[] = {"minute", "hour", "day", "total"};
  answer a = {.json = json, .q = q};
  sqlite3 *db = lv_store_db(store);
  lv_usage sum;
  if (!u->begun) return LV_E_BUSY;
  (void)lv_buf_printf(json, "{\"step\":\"%s\",\"from\":", steps[q->step]);
  put_time(json, q->from);
  (void)lv_buf_add_str(json, ",\"to\":");
  put_time(json, q->to);
  (void)lv_buf_add_str(json, ",\"items\":[");
  int more = lv__usage_db_query(db, q, put_bucket, &a);
  if (more < 0) return more;
  int err = lv__usage_db_sum(db, q, &sum);
  if (err) return err;
  (void)lv_buf_add_str(json, "],\"total\":{");
  put_units(json, &sum);
  (void)lv_buf_add_byte(json, '}');
  if (more)
    (void)lv_buf_printf(json, ",\"next\":\"%lld.%.*s\"", (long long)a.at, (int)a.n_app, a.app);
  return lv_buf_add_str(json, "}\n");
}

/* ---- life ---- */

lv_usage_book *lv_usage_open(lv_master *master, lv_broker *broker) {
  lv_usage_book *u = calloc(1, sizeof *u);
  if (!u) abort();
  u->job.run = job_run;
  u->master = master;
  u->meter = lv_meter_new(broker);
  master->usage = u;
  (void)begin(u, master->store);
  return u;
}

void lv_usage_tick(lv_usage_book *u) {
  if (!u || atomic_exchange(&u->waiting, true)) return;
  if (lv_master_post(u->master, &u->job)) atomic_store(&u->waiting, false);
}

void lv_usage_flush(lv_usage_book *u) {
  if (u) second(u, u->master->store);
}

void lv_usage_close(lv_usage_book *u) {
  if (!u) return;
  if (u->begun) {
    const lv_meter_rows *rows = lv_meter_collect_rest(u->meter, lv_wall_now());
    if (rows->worth) (void)write_rows(u, u->master->store, rows);
  }
  u->master->usage = NULL;
  lv_meter_free(u->meter);
  free(u);
}
