/* meter.h: from counters to what is written down: what each app has used since the last time, and
 * the addresses in the logs up to which that counts what was published (core/usage.h, broker.h).
 *
 *   meter_begin ─▶ what the logs hold behind the stored addresses: a crash's remainder
 *   every second: meter_collect ─▶ one transaction (rows added, addresses set) ─▶ meter_commit
 *
 * When the transaction fails nothing is lost: what was collected is collected again with what came
 * since. Limits: as many apps as have sums (usage.h), for publishes as many as have channels.
 * @thread one at a time */
#ifndef LV_MASTER_METER_H
#define LV_MASTER_METER_H
#include "broker/broker.h"

typedef struct lv_meter lv_meter;

/* What is to be added to one app's bucket. */
typedef struct lv_meter_row {
  lv_slice app;   /* valid until the next call */
  int64_t minute; /* since 1970 */
  lv_usage use;
} lv_meter_row;
typedef struct lv_meter_rows {
  lv_meter_row *row;
  uint32_t n, cap;
  uint64_t lsn[LV_DURABILITY_COUNT]; /* to be stored with them */
  bool worth;                        /* storing: there are rows, or an address has moved far */
} lv_meter_rows;

/* Right after the broker was opened: what it makes visible from now on counts. @thread main */
lv_meter *lv_meter_new(lv_broker *b);
/* What the logs held before that, behind these addresses, by the minute in which it came; to be
 * stored and committed before the first lv_meter_collect. lsn: as stored with the rows before;
 * NULL: there are none, metering begins with this start. An address beyond what a log holds belongs
 * to another one (it was removed): it counts from here, too. LV_E_IO: try again. */
int lv_meter_begin(lv_meter *m, const uint64_t *lsn, const lv_meter_rows **ret);
/* What was used since the last lv_meter_commit, in the minute of `now`; rows without anything are
 * left out. */
const lv_meter_rows *lv_meter_collect(lv_meter *m, lv_wall now, lv_mono mono);
/* The same at the end, once the broker is closed: what publishes come to was in the last one. */
const lv_meter_rows *lv_meter_collect_rest(lv_meter *m, lv_wall now);
/* What was collected last is stored. */
void lv_meter_commit(lv_meter *m);
void lv_meter_free(lv_meter *m);

#endif
