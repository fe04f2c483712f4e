/* snap_int.h: what the two files of snapshots share. */
#ifndef LV_HUB_SNAP_INT_H
#define LV_HUB_SNAP_INT_H
#include "hub/hub_int.h"

typedef struct lv__snap_job {
  struct lv__snap_job *next, **pprev; /* in hl->jobs */
  lv__hub_loop *hl;
  lv__hub_group *group; /* where the result is kept; NULL: nowhere */
  lv__variant v;
  lv__filter *filter;
  lv__snap_wait *waits, **waits_tail;
  lv_seek seek;
  lv_read read;
  lv_chan *only; /* not the loop's part of it: that may go while nobody waits for the job */
  lv__frames frames;
  lv__snap_frame *f; /* with `keys`: block NULL where a newer one of its key came */
  uint32_t n, cap, rounds, max;
  uint64_t bytes, next_offset, until;
  bool keys;                    /* the last message of each key; these are only then: */
  uint32_t *slot, mask, n_keys; /* key to its place in f, + 1; 0: free */
  lv_lasts lasts;
  uint32_t next_last; /* the next of them to be fetched */
  lv_fetch fetch;
  uint64_t *lsns; /* of the fetch */
} lv__snap_job;

/* snap.c */
/* Keeps a frame: one reference to its block is taken. */
void lv__snap_push(lv__snap_job *job, lv__frame f, uint64_t offset, uint32_t steps);
/* A message of the channel, in its order. */
void lv__snap_take(lv__snap_job *job, const lv_rec *rec);
/* Reads the log from there to `until`, then it is done. */
void lv__snap_read_on(lv__snap_job *job, uint64_t from);
/* Tells those who wait; the job goes, or begins anew. */
void lv__snap_job_done(lv__snap_job *job, lv__snap *snap, int err);

/* snap_keys.c */
uint64_t lv__snap_keys_of(const lv_rec *rec);
/* Asks the broker for the last messages and fetches them. */
void lv__snap_keys_start(lv__snap_job *job);
/* What is there of that key goes. */
void lv__snap_keys_forget(lv__snap_job *job, uint64_t key);
/* The newest frame is that key's, of a record of so many bytes. */
void lv__snap_keys_added(lv__snap_job *job, uint64_t key, uint32_t size);
/* No more comes: f has no holes, and no more than the channel keeps. */
void lv__snap_keys_close(lv__snap_job *job);
void lv__snap_keys_free(lv__snap_job *job);

#endif
