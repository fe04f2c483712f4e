/* pub.h: a loop's side of publishing: records gathered during a turn, one batch a log, submitted at
 * the end of the turn.
 *
 * It keeps the gateway's side of the ledger for messages (kind MSG, batch->msgs), by what
 * `kpi_slot` and `kpi_proto` of each say: GW_IN and GW_IN_BYTES when a batch is submitted; when it
 * is done, GW_OUT and GW_OUT_BYTES (err 0) or the drop DROP_GW_DISK_FULL, DROP_GW_SHUTDOWN,
 * DROP_GW_DISK; the gauges QUEUE_BYTES and INFLIGHT; and the `commit` histogram (submit to done,
 * per batch).
 *
 * @thread loop, for everything. */
#ifndef LV_BROKER_PUB_H
#define LV_BROKER_PUB_H
#include "broker/broker.h"

typedef struct lv_pub lv_pub;

/* Called on the loop for each acknowledgement due in a finished batch, in order. err: 0 or why the
 * message is not safe. rec: the record it belongs to, or NULL (with err 0 its lsn and offset are
 * set). May call lv_pub_add and lv_pub_ack; must not free the lv_pub. */
typedef void lv_pub_ack_fn(void *arg, const lv_ack *ack, int err, const lv_rec *rec);

/* Registers a SUBMIT hook on the loop, which must be attached to the broker. queue_bytes_max bounds
 * what is open or submitted and not done. */
int lv_pub_new(lv_loop *loop, lv_broker *broker, uint64_t queue_bytes_max, lv_pub_ack_fn *fn,
               void *arg, lv_pub **ret_pub);
/* After the loop has stopped (its hook list keeps pointing here until then) and before the loop is
 * freed. What is open is dropped; what is not done yet gets no
 * acknowledgement any more. @thread main */
void lv_pub_free(lv_pub *p);
/* Encodes one message (or state record) for its channel's log into the open batch. read_at: when
 * its last byte was read. LV_E_TOO_BIG, or LV_E_BUSY for a message while lv_pub_full (state is few
 * and small, and what waits for it could not be told: it is always taken). */
int lv_pub_add(lv_pub *p, uint8_t log, const lv_rec_in *in, lv_mono read_at, lv_rec **ret_rec);
/* Adds an acknowledgement behind everything added to that log so far. ack.index UINT32_MAX: without
 * a record of its own; it then says that all earlier ones are safe (or that this one's batch
 * failed). Any other value is replaced by the index of the record added last to that log. */
void lv_pub_ack(lv_pub *p, uint8_t log, lv_ack ack);
/* True when the bound is reached: stop reading from publishers. `drained` is called once, when it
 * has fallen to half. */
bool lv_pub_full(const lv_pub *p);
void lv_pub_on_drained(lv_pub *p, void (*fn)(void *arg), void *arg);
/* Called for each batch that is done (err in it), before its acknowledgements. */
void lv_pub_on_done(lv_pub *p, void (*fn)(void *arg, const lv_batch *batch), void *arg);
/* Submits what is open now (the hook does it each turn). */
void lv_pub_submit(lv_pub *p);
/* Bytes submitted or open, not done. */
uint64_t lv_pub_queued(const lv_pub *p);

#endif
