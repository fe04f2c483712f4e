/* fake_broker.h: a cluster in memory for tests of sessions: two logs whose completions, reads and
 * failures the test decides. It keeps the contract of broker.h (order, one feed for all loops,
 * nothing visible before it is done) and nothing else: no disk, no bounds, one lock.
 *
 *   publish ─▶ waiting (while held) ─complete─▶ records, feed, done
 *                                   └─fail────▶ done with the error
 *
 * A test restarts a process by fake_restart: loops are forgotten, records stay, what was waiting is
 * gone. @thread any, but for fake_restart and fake_free */
#ifndef LV_TEST_FAKE_BROKER_H
#define LV_TEST_FAKE_BROKER_H
#include "broker/broker.h"

typedef struct fake_broker fake_broker;

fake_broker *fake_new(void);
void fake_free(fake_broker *f);
lv_broker *fake_base(fake_broker *f);
void fake_visible(fake_broker *f, lv_visible_fn *fn, void *arg);
/* While held, batches of a log wait for fake_complete or fake_fail; letting go completes them. */
void fake_hold(fake_broker *f, int log, bool hold);
uint32_t fake_waiting(fake_broker *f, int log);
/* The n oldest waiting batches of a log end well / with an error. */
void fake_complete(fake_broker *f, int log, uint32_t n);
void fake_fail(fake_broker *f, int log, uint32_t n, int err);
/* All batches fail at once with this error until 0 is set. */
void fake_fail_all(fake_broker *f, int log, int err);
/* Reads and fetches wait while held; then they are done in order. err: how the next ones end. */
void fake_hold_reads(fake_broker *f, bool hold);
void fake_fail_reads(fake_broker *f, int err);
/* Retention: what lies before lsn is gone. */
void fake_retain_from(fake_broker *f, int log, uint64_t lsn);
uint64_t fake_end(fake_broker *f, int log);
/* Records of kind MSG that are kept, and state keys that live. */
uint32_t fake_msgs(fake_broker *f);
bool fake_has(fake_broker *f, const char *topic, const char *payload); /* ever, retention aside */
uint32_t fake_keys(fake_broker *f);
/* From here on nothing is kept: what is published ends with LV_E_CLOSED. As if the power was lost.
 */
void fake_cut(fake_broker *f);
void fake_restart(fake_broker *f);

#endif
