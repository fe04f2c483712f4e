/* share.h: shared subscriptions (MQTT 5.0 §4.8.2): one group, one cursor, many members.
 *
 * A group `$share/NAME/FILTER` of an app has a home shard, chosen by its text. Only the home
 * matches messages against it; it hands each to one member with room, by turns, directly or by mail
 * to the member's shard. What no member can take waits at the home as log addresses; what a member
 * gives back (it disconnected before acknowledging) goes to the front of those and is fetched from
 * the log.
 *
 *   home:    share ── members (by turns) ── waiting (log, lsn)…
 *   member:  lv_share_member, made by the session's shard, freed there once the home has let go of
 * it
 *
 * The ledger: a message is owed once to a group, counted at the home; the member's shard counts how
 * it ended. Bound: waiting addresses per group (LV_SHARE_WAIT_MAX), then counted drops. */
#ifndef LV_SESSION_SHARE_H
#define LV_SESSION_SHARE_H
#include "session/session_int.h"

enum { LV_SHARE_WAIT_MAX = 1 << 20, LV_SHARE_CREDIT = 64 };

typedef struct lv_share lv_share;
typedef struct lv_share_member lv_share_member;

/* @thread the session's loop: joins, or comes back online; goes offline (the session waits for its
 * client), or leaves for good. */
void lv__share_join(lv_sess *sess, lv_sub *sub);
void lv__share_leave(lv_sess *sess, lv_sub *sub, bool for_good);
/* @thread home: one matched message. */
void lv__share_deliver(lv_share *share, lv_batch *batch, const lv_rec *rec);
/* @thread the member's loop: a delivery ended (acked, sent, dropped) / was not finished. */
void lv__share_done(lv_share_member *m, uint8_t log, uint64_t lsn);
void lv__share_return(lv_share_member *m, uint8_t log, uint64_t lsn);
/* @thread home: once a second. */
void lv__share_tick(lv_shard *s);
void lv__share_free_all(lv_shard *s);
void lv__share_save_all(lv_shard *s); /* the process ends */
void lv__share_kept_free(lv_realm *r);
/* A stored cursor (key `g<app>/<filter>`) at start-up. @thread main */
int lv__share_recover(lv_realm *r, lv_slice key, lv_slice value, int64_t written_ns, uint8_t log);
/* When all is read: a message in flight is either the session's or the group's: at QoS 2 the
 * session's (§4.8.2), at QoS 1 the group's. */
void lv__share_unkeep(lv_realm *r, lv_sess *sess);

#endif
