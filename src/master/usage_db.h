/* usage_db.h: usage in the store: buckets by app, of a minute and of an hour, and the addresses in
 * the logs up to which they count (meter.h). All of one second's change in one transaction.
 *
 * Kept: minutes for 48 hours, hours for 400 days. An app that is deleted keeps its buckets.
 * @thread the store's, for everything */
#ifndef LV_MASTER_USAGE_DB_H
#define LV_MASTER_USAGE_DB_H
#include "master/meter.h"
#include "master/usage.h"
#include <sqlite3.h>

enum { LV_USAGE_KEEP_MINUTES = 48 * 60, LV_USAGE_KEEP_HOURS = 400 * 24 };

/* 1 and the addresses; 0: none stored yet; LV_E_IO. */
int lv__usage_db_marks(sqlite3 *db, uint64_t ret_lsn[LV_DURABILITY_COUNT]);
/* Adds rows and sets the addresses, inside a transaction that the caller has begun, and rolls back
 * on an error: LV_E_DISK_FULL, LV_E_IO. */
int lv__usage_db_add(sqlite3 *db, const lv_meter_rows *rows);
/* Removes what is older than it is kept. LV_E_IO. */
int lv__usage_db_prune(sqlite3 *db, lv_wall now);

typedef void lv_usage_bucket_fn(void *arg, lv_slice app, int64_t at, const lv_usage *use);
/* Calls fn for up to `limit` buckets, ascending by time, then app; a total has the time `from`.
 * 1: there are more; 0: not. LV_E_IO. */
int lv__usage_db_query(sqlite3 *db, const lv_usage_query *q, lv_usage_bucket_fn *fn, void *arg);
/* The sum of all buckets of the query. LV_E_IO. */
int lv__usage_db_sum(sqlite3 *db, const lv_usage_query *q, lv_usage *ret);

#endif
