/* usage.h: the book of usage: written each second, asked over REST.
 *
 *   counters, logs ──meter.h──▶ usage_db.h ──▶ DIR/usage.db
 *                                   ▲
 *      GET …/usage ──▶ ask ─────────┘   all of it on one thread of its own
 *
 * After a crash the publishes that were not written down yet are read from the logs (lv_usage_open)
 * and deliveries, minutes and the rest of the last second are not charged. */
#ifndef LV_MASTER_USAGE_H
#define LV_MASTER_USAGE_H
#include "broker/broker.h"
#include "core/buf.h"

typedef struct lv_usage_book lv_usage_book;

/* Opens or makes the book, and adds what the logs hold beyond it. Where that does not work now (the
 * disk is full), it is tried again from time to time: nobody is refused for it. LV_E_FORMAT: a
 * newer version wrote it. @thread main, right after the broker was opened */
int lv_usage_open(const char *dir, lv_broker *broker, lv_usage_book **ret_book);
/* Ends the thread: what was asked is answered, by loops that still run. The rest of the end is
 * written down in two steps: flush once the loops have stopped, before the broker is closed; close
 * after that. NULL is fine for all three. @thread main */
void lv_usage_stop(lv_usage_book *book);
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
enum { LV_USAGE_LIMIT = 1000, LV_USAGE_LIMIT_MAX = 10000, LV_USAGE_APP_MAX = 255 };
/* Reads the parameters from, to (RFC 3339), step, limit, after of a query string; `now` is what
 * stands in for `to`. text keeps what the query points to. LV_E_INVALID, and why. @thread any */
int lv_usage_query_parse(lv_slice query, lv_slice app, lv_wall now, uint8_t *text,
                         lv_usage_query *ret, const char **ret_why);

/* A question; the memory is the asker's until `done`, which runs once on the loop. */
typedef struct lv_usage_ask {
  lv_mail mail;
  lv_loop *loop;
  lv_usage_query q;
  void (*done)(struct lv_usage_ask *ask);
  void *arg;
  /* results */
  int err;
  lv_buf json; /* the answer's body; to be freed with lv_buf_done */
  struct lv_usage_ask *next;
} lv_usage_ask;
/* LV_E_BUSY: too many are waiting; LV_E_SHUTDOWN. `done` does not run then. @thread loop */
int lv_usage_ask_send(lv_usage_book *book, lv_usage_ask *ask);

#endif
