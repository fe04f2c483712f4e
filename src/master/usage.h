/* usage.h: the book of usage: written each second, asked over REST.
 *
 *   counters, logs ──meter.h──▶ usage_db.h ──▶ the master's store
 *                                   ▲
 *      GET …/usage ──usage_rest.c───┘   all of it as jobs of the master's thread
 *
 * After a crash the publishes that were not written down yet are read from the logs
 * (lv_usage_open); deliveries, minutes and the rest of the last second are not charged. */
#ifndef LV_MASTER_USAGE_H
#define LV_MASTER_USAGE_H
#include "core/buf.h"
#include "master/master.h"

typedef struct lv_usage_book lv_usage_book;

/* Begins to count, and writes down what the logs hold beyond the book. Where that cannot be written
 * now (the disk is full), it is tried again: nobody is refused for it.
 * @thread main, right after the broker was opened, before lv_master_start */
lv_usage_book *lv_usage_open(lv_master *master, lv_broker *broker);
/* About once a second: what was used since is written down by the master. @thread main */
void lv_usage_tick(lv_usage_book *book);
/* The end, once the master was stopped, in two steps: flush when the loops have stopped, before the
 * broker is closed; close after that, before the master is freed. NULL is fine. @thread main */
void lv_usage_flush(lv_usage_book *book);
void lv_usage_close(lv_usage_book *book);

enum lv_usage_step { LV_USAGE_MINUTE, LV_USAGE_HOUR, LV_USAGE_DAY, LV_USAGE_TOTAL };
/* What was used, by bucket and app. */
typedef struct lv_usage_query {
  lv_slice app;     /* empty: all, each by itself */
  int64_t from, to; /* seconds since 1970, whole steps (hours for a total): [from, to) */
  enum lv_usage_step step;
  uint32_t limit;
  int64_t after_at; /* behind this bucket … */
  lv_slice after;   /* … of this app; empty: from the beginning */
} lv_usage_query;
/* Seconds of a step; 0: total. @thread any */
int64_t lv_usage_step_s(enum lv_usage_step step);
enum { LV_USAGE_TEXT = 2 * 256 }; /* of lv_usage_query_parse */
enum { LV_USAGE_LIMIT = 100, LV_USAGE_LIMIT_MAX = 1000, LV_USAGE_APP_MAX = 255 };
/* Reads the parameters from, to (RFC 3339), step, limit, after of a query string; `now` is what
 * stands in for `to`. text keeps what the query points to. LV_E_INVALID, and why. @thread any */
int lv_usage_query_parse(lv_slice query, lv_slice app, lv_wall now, uint8_t *text,
                         lv_usage_query *ret, const char **ret_why);

/* The answer's body. @thread master */
int lv__usage_answer(lv_usage_book *book, lv_store *store, const lv_usage_query *q, lv_buf *json);

#endif
