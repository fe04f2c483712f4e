/* usage.c: the book of usage: its thread, its file, its answers (usage.h).
 *
 * The thread sleeps until the next second or the next question. What could not be written (the disk
 * is full) is written with the next second's; meanwhile nothing is lost but by a crash, and of that
 * no publish. Limits: ASKS_MAX questions wait, answers of LV_USAGE_LIMIT_MAX buckets.
 * @thread main: open, stop, close; its own: all between */
#include "master/usage.h"
#include "core/log.h"
#include "core/loop.h"
#include "master/usage_db.h"
#include "wire/http.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum {
  FORMAT = 1,
  ASKS_MAX = 64,
  ANSWER_BYTES = 64 << 20,
  PRUNE_S = 60,
  BUSY_MS = 5000,
  RETRY_S = 5
};

struct lv_usage_book {
  sqlite3 *db;
  lv_meter *meter;
  pthread_t thread;
  pthread_mutex_t mu;
  pthread_cond_t wake;
  lv_usage_ask *first, **last; /* under mu */
  uint32_t n_asks;
  bool stop, started;
  bool begun; /* what was before this start is written down */
  uint32_t seconds;
  char dir[4096];
};

/* ---- writing ---- */

static int exec(sqlite3 *db, const char *sql) {
  int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
  return rc == SQLITE_OK ? 0 : rc == SQLITE_FULL ? LV_E_DISK_FULL : LV_E_IO;
}

static int store(lv_usage_book *u, const lv_meter_rows *rows) {
  int err = exec(u->db, "BEGIN IMMEDIATE");
  if (!err) err = lv__usage_db_add(u->db, rows);
  if (!err) err = exec(u->db, "COMMIT");
  if (!err) {
    lv_meter_commit(u->meter);
    return 0;
  }
  if (!sqlite3_get_autocommit(u->db)) (void)exec(u->db, "ROLLBACK");
  lv_log(LV_WARN, "usage could not be written, it is kept for the next second err=%s",
         lv_err_text(err));
  return err;
}

/* ---- the file ---- */

static int format_of(sqlite3 *db) {
  sqlite3_stmt *st = NULL;
  int v = -1;
  if (sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &st, NULL) == SQLITE_OK &&
      sqlite3_step(st) == SQLITE_ROW)
    v = sqlite3_column_int(st, 0);
  sqlite3_finalize(st);
  return v;
}

static int make_tables(sqlite3 *db) {
  char version[64];
  int have = format_of(db);
  if (have < 0) return LV_E_IO;
  if (have > FORMAT) return LV_E_FORMAT;
  if (have == FORMAT) return 0;
  (void)snprintf(version, sizeof version, "PRAGMA user_version=%d;COMMIT", FORMAT);
  int err = exec(db, "BEGIN IMMEDIATE");
  if (!err) err = exec(db, lv__usage_db_schema);
  return err ? err : exec(db, version);
}

static int open_db(const char *dir, sqlite3 **ret, char *why) {
  char path[4200];
  (void)snprintf(path, sizeof path, "%s/usage.db", dir);
  int rc = sqlite3_open(path, ret);
  int err = rc == SQLITE_OK ? 0 : LV_E_IO;
  if (!err) (void)sqlite3_busy_timeout(*ret, BUSY_MS);
  /* FULL: a power loss takes no second that was written. */
  if (!err) err = exec(*ret, "PRAGMA journal_mode=WAL;PRAGMA synchronous=FULL");
  if (!err) err = make_tables(*ret);
  if (!err) return 0;
  (void)snprintf(why, 256, "usage.db: %s (%s)", lv_err_text(err), sqlite3_errmsg(*ret));
  (void)sqlite3_close(*ret);
  *ret = NULL;
  return err;
}

/* What the logs hold beyond the book is written into it. */
static int begin(lv_usage_book *u) {
  uint64_t lsn[LV_DURABILITY_COUNT];
  const lv_meter_rows *rows;
  char why[256];
  int err = u->db ? 0 : open_db(u->dir, &u->db, why);
  if (err) {
    lv_log(LV_ERROR, "usage is counted and cannot be written down why=\"%s\"", why);
    return err;
  }
  int have = lv__usage_db_marks(u->db, lsn);
  err = have < 0 ? have : lv_meter_begin(u->meter, have ? lsn : NULL, &rows);
  if (!err) err = store(u, rows);
  u->begun = err == 0;
  return err;
}

static void second(lv_usage_book *u) {
  lv_wall now = lv_wall_now();
  if (!u->begun && (++u->seconds % RETRY_S || begin(u))) return;
  const lv_meter_rows *rows = lv_meter_collect(u->meter, now, lv_mono_now());
  if (rows->worth) (void)store(u, rows);
  if (u->seconds++ % PRUNE_S == 0) (void)lv__usage_db_prune(u->db, now);
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

static int answer_make(sqlite3 *db, const lv_usage_query *q, lv_buf *json) {
  static const char *const steps[] = {"minute", "hour", "day", "total"};
  answer a = {.json = json, .q = q};
  lv_usage sum;
  lv_buf_init(json, ANSWER_BYTES);
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

/* ---- the thread ---- */

static lv_usage_ask *take_ask(lv_usage_book *u) { /* under mu */
  lv_usage_ask *ask = u->first;
  if (!ask) return NULL;
  u->first = ask->next;
  if (!u->first) u->last = &u->first;
  u->n_asks--;
  return ask;
}

static void told(lv_loop *loop, lv_mail *mail) {
  lv_usage_ask *ask = (lv_usage_ask *)mail;
  (void)loop;
  ask->done(ask);
}

static void reply(lv_usage_ask *ask) {
  ask->mail.run = told;
  lv_loop_post(ask->loop, &ask->mail);
}

static struct timespec after_a_second(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  t.tv_sec++;
  return t;
}

static void *book_main(void *arg) {
  lv_usage_book *u = arg;
  (void)pthread_setname_np(pthread_self(), "lv-usage");
  struct timespec due = after_a_second();
  pthread_mutex_lock(&u->mu);
  while (!u->stop || u->first) {
    lv_usage_ask *ask = take_ask(u);
    bool late = !ask && pthread_cond_timedwait(&u->wake, &u->mu, &due) != 0;
    pthread_mutex_unlock(&u->mu);
    if (ask) {
      ask->err = u->begun ? answer_make(u->db, &ask->q, &ask->json) : LV_E_BUSY;
      reply(ask);
    }
    if (late) {
      due = after_a_second();
      second(u);
    }
    pthread_mutex_lock(&u->mu);
  }
  pthread_mutex_unlock(&u->mu);
  return NULL;
}

int lv_usage_ask_send(lv_usage_book *u, lv_usage_ask *ask) {
  int err = 0;
  lv_buf_init(&ask->json, ANSWER_BYTES);
  ask->err = 0;
  ask->next = NULL;
  pthread_mutex_lock(&u->mu);
  if (u->stop)
    err = LV_E_SHUTDOWN;
  else if (u->n_asks >= ASKS_MAX)
    err = LV_E_BUSY;
  if (!err) {
    *u->last = ask;
    u->last = &ask->next;
    u->n_asks++;
    pthread_cond_signal(&u->wake);
  }
  pthread_mutex_unlock(&u->mu);
  return err;
}

/* ---- open and close ---- */

int lv_usage_open(const char *dir, lv_broker *broker, lv_usage_book **ret) {
  pthread_condattr_t mono;
  lv_usage_book *u = calloc(1, sizeof *u);
  if (!u) abort();
  (void)snprintf(u->dir, sizeof u->dir, "%s", dir);
  u->last = &u->first;
  u->meter = lv_meter_new(broker);
  pthread_mutex_init(&u->mu, NULL);
  pthread_condattr_init(&mono);
  pthread_condattr_setclock(&mono, CLOCK_MONOTONIC);
  pthread_cond_init(&u->wake, &mono);
  pthread_condattr_destroy(&mono);
  int err = begin(u);
  if (err != LV_E_FORMAT) {
    int rc = pthread_create(&u->thread, NULL, book_main, u);
    u->started = rc == 0;
    err = rc ? lv_err_from_errno(rc) : 0;
  }
  if (err) {
    lv_usage_close(u);
    return err;
  }
  *ret = u;
  return 0;
}

void lv_usage_stop(lv_usage_book *u) {
  if (!u || !u->started) return;
  pthread_mutex_lock(&u->mu);
  u->stop = true;
  pthread_cond_signal(&u->wake);
  pthread_mutex_unlock(&u->mu);
  pthread_join(u->thread, NULL);
  u->started = false;
}

void lv_usage_flush(lv_usage_book *u) {
  if (u && u->begun) second(u);
}

void lv_usage_close(lv_usage_book *u) {
  if (!u) return;
  assert(!u->started && !u->first);
  if (u->begun) {
    const lv_meter_rows *rows = lv_meter_collect_rest(u->meter, lv_wall_now());
    if (rows->worth) (void)store(u, rows);
  }
  lv_meter_free(u->meter);
  (void)sqlite3_close(u->db);
  pthread_cond_destroy(&u->wake);
  pthread_mutex_destroy(&u->mu);
  free(u);
}
