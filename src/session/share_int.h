/* share_int.h: what share.c and share_store.c share. */
#ifndef LV_SESSION_SHARE_INT_H
#define LV_SESSION_SHARE_INT_H
#include "session/share.h"

typedef struct lv_share_scan {
  lv_read read;
  lv_pos next;
  bool reading;
  uint32_t n_skip;
  uint64_t *skip; /* lsn | log: after a crash, what a member's session has in flight */
} lv_share_scan;

typedef struct lv_wait {
  uint64_t lsn;
  uint8_t log, qos;
} lv_wait;

struct lv_share_member {
  lv_mail mail;          /* leave, then left */
  lv_mail join;          /* it may still be on its way when the member leaves */
  uint64_t serial;       /* of the share; set with it */
  lv_share_member *next; /* in the share, at the home */
  lv_share *share;       /* set by the home */
  lv_shard *home, *shard;
  lv_sess *sess; /* touched by the member's loop only; NULL: it is offline or left */
  lv_auth *auth; /* one reference: what may be handed to it */
  uint32_t app_id, sub_id, len;
  uint8_t qos, flags;
  _Atomic uint32_t out; /* handed over, not finished */
  /* What those are: kept by the home, which takes out what the member's side put into `done` (a
   * ring with one writer and one reader). */
  uint64_t held[LV_SHARE_CREDIT], done[2 * LV_SHARE_CREDIT]; /* lsn | log */
  uint32_t n_held, done_read;
  _Atomic uint32_t done_written;
  bool persistent;
  lv_pos from; /* what was visible when it subscribed: a new group is owed everything after it */
  _Atomic bool gone; /* the member's side has let go */
  char filter[];     /* `$share/…` */
};

struct lv_share {
  lv_share *next;
  uint64_t serial; /* unlike the address never used twice at its home */
  lv_shard *home;
  lv_share_member *members, *last;
  lv_share_member *leaving; /* left, but for what they give back */
  lv_sub *sub;              /* in the home's index */
  uint32_t app_id, n_members;
  lv_wait *wait; /* ring */
  uint32_t head, count, mask;
  _Atomic bool starving; /* something waits: tell the home when a member has room */
  bool fetching, dead, dirty, stored;
  uint8_t logs;        /* bit of each log that has a record of it */
  lv_share_scan *scan; /* after a restart: the log is read up to the feed's place first */
  lv_fetch fetch;
  uint64_t fetch_lsn;
  lv_wait fetch_wait;
};

static inline uint64_t lv__share_pack(uint8_t log, uint64_t lsn) {
  return lsn | log; /* lsns are multiples of 8 */
}
void lv__share_wait(lv_share *sh, lv_wait w, bool front);
void lv__share_pump(lv_share *sh);
void lv__share_free(lv_share *sh);
/* Takes out of m->held what its side has finished. */
void lv__share_drain(lv_share_member *m);

/* share_store.c, @thread home */
/* A new group begins: with what a stored one of its name still owed, else at `from`. */
void lv__share_begin(lv_share *sh, lv_pos from);
void lv__share_save(lv_share *sh);    /* writes what is unfinished, if it changed */
void lv__share_forget(lv_share *sh);  /* the group is gone for good */
void lv__share_scan_on(lv_share *sh); /* goes on reading */

#endif
