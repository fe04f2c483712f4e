/* idem.h: what was published under an Idempotency-Key, so that it is published once (private to
 * gateway/).
 *
 * A message that has such a key is remembered by its own record, as a QoS 2 publish is: the record
 * carries a number made of app and key in place of a session id (even, where sessions have odd
 * ones) and its place in the request as packet id. So message and memory are one commit, whatever
 * happens, and a restart finds both; the STATE record that ends it is written when it is forgotten.
 * In a batch each message is remembered by itself: a request whose first half was stored before a
 * kill -9 is completed by its repeat.
 *
 *   (app, key) ─SHA-256─▶ sid ─▶ entry: items[place] = position and a hash of topic, properties,
 *                                value: other bytes under the same key are told from a repeat
 *   app ─▶ list of its entries by log, oldest first: forgotten after 24 h, or above the app's limit
 *
 * One table a process, one mutex, taken twice by requests that have the header and by no others. */
#ifndef LV_GATEWAY_IDEM_H
#define LV_GATEWAY_IDEM_H
#include "broker/pub.h"
#include "core/map.h"
#include "session/session.h"

typedef struct lv_idem lv_idem;
enum { LV_IDEM_KEY_MAX = 255, LV_IDEM_ITEMS_MAX = 65535, LV_IDEM_HOURS = 24 };

typedef struct lv_idem_item {
  uint64_t print; /* of the message */
  uint64_t offset;
  uint8_t log;
  bool stored;
} lv_idem_item;

/* While a request has it, its items are that request's to read and write. */
typedef struct lv_idem_entry {
  uint64_t sid;   /* first: the map's key */
  uint64_t print; /* of the request, so far as it is known; 0: not */
  int64_t at_ns;  /* wall time of the first message */
  struct lv_idem_entry *next;
  uint32_t app_id, n, n_stored;
  bool busy, listed;
  lv_idem_item *items;
} lv_idem_entry;

/* @thread main */
lv_idem *lv_idem_new(void);
void lv_idem_free(lv_idem *t);
/* A record of before the restart. */
void lv_idem_replay(lv_idem *t, uint32_t app_id, const lv_rec *rec, uint8_t log);

/* The number of an app's key: even, never 0. @thread any */
uint64_t lv_idem_sid(lv_slice app, lv_slice key);
/* What tells two messages of one key apart. Never 0. @thread any */
uint64_t lv_idem_print(lv_slice topic, lv_slice props, lv_slice value);

/* Takes the entry of a key for a request of n messages, whose print is `print`. LV_E_EXISTS:
 * another request has it; LV_E_PAYLOAD: it was used for another request. @thread any */
int lv_idem_begin(lv_idem *t, uint32_t app_id, uint64_t sid, uint32_t n, uint64_t print,
                  lv_idem_entry **ret_entry);
/* Gives it back; the items that were stored stay. @thread any */
void lv_idem_end(lv_idem *t, lv_idem_entry *e, int64_t now_ns);
/* Forgets, in the log as well (through `pub`), what is older than 24 h or above the limit `max` of
 * the app; a bounded number each call. @thread loop of pub */
void lv_idem_trim(lv_idem *t, lv_pub *pub, uint32_t app_id, uint32_t max, int64_t now_ns);
/* Apps have ids below this. @thread any */
uint32_t lv_idem_apps(lv_idem *t);
/* Messages that are remembered for the app. @thread any */
uint32_t lv_idem_count(lv_idem *t, uint32_t app_id);

#endif
