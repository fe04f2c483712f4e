/* elog.h: one embedded log: segments of records, an index per channel, recovery, retention. No
 * threads of its own and no locks: embedded.c says who may call what, when.
 *
 * Addresses. A log is one endless byte sequence; an lsn is an address in it, always 8-aligned.
 * Segment files hold consecutive ranges: `NAME-<base lsn, 16 hex digits>.seg`. A record written at
 * lsn L lies at L - base + head in its segment's file, unless the segment was compacted (then its
 * index says where). Segment files are made ahead: written full of zeros or recycled from dropped
 * ones, so that appending and syncing change no file metadata; a record is valid only if its lsn
 * field equals its address, so that remains of a recycled file never count.
 *
 *   segment file:  head (format number, log name, epoch, base lsn, created, crc; 4096 bytes)
 *                  record | record | … | zeros or remains
 *   sealed:        NAME-<base>.idx  per channel: (offset, lsn, position) of each of its records;
 *                  the state and retained records as channels of their own; checksum
 *
 * Retention. A channel's policy advances its first offset; a sealed segment in which nothing is
 * retained and no state record is live is dropped (its file recycled or removed); one that is
 * mostly dead is compacted: live records are copied to a new file with the same lsns, then the old
 * is removed. A crash at any point leaves either the old or the new.
 *
 * Epoch. A random id per log, made with it. The memory log gets a new epoch when it opens without a
 * clean shutdown note (a delivered tail may be lost only by power loss, but a process cannot tell);
 * so does a log after a sync error whose outcome is unknown.
 *
 * Errors. After a failed write the tail is cut back (the same range is written again by the next
 * append); after a failed sync the log refuses appends (LV_E_IO) until lv_elog_reopen has re-read
 * and verified what is on disk. */
#ifndef LV_BROKER_ELOG_H
#define LV_BROKER_ELOG_H
#include "broker/broker.h"
#include "broker/embedded/disk.h"

enum { LV_ELOG_FORMAT = 1, LV_ELOG_HEAD = 4096 };

typedef struct lv_elog lv_elog;

typedef struct lv_elog_conf {
  lv_disk *disk;
  const char *name; /* "mem" or "disk": file name prefix */
  uint64_t segment_bytes;
  bool epoch_on_unclean; /* memory log */
  uint64_t seed;         /* for epochs in tests; 0: getrandom */
} lv_elog_conf;

/* What recovery found, for the log line and `lavva log inspect`. */
typedef struct lv_elog_recovery {
  uint64_t records, bytes, torn_bytes; /* scanned in the open segment; cut from its end */
  uint32_t segments, indexes_rebuilt;
  bool clean, new_epoch;
} lv_elog_recovery;

/* Opens or creates; recovers; each channel's first/next offset is known afterwards.
 * why: >= 256 bytes, says which file and what is wrong. */
int lv_elog_open(const lv_elog_conf *conf, lv_elog **ret_log, lv_elog_recovery *ret_rec, char *why);
/* Appends batches in order with as few writes as possible (one in the common case): sets each
 * record's lsn, offset and crc, and each batch's lsn_end. All or none. Starts new segments as
 * needed (never splits a record). LV_E_DISK_FULL, LV_E_IO. @writer */
int lv_elog_append(lv_elog *l, lv_batch *const *batches, uint32_t n);
/* End of what was appended, and of what a completed sync covers. */
uint64_t lv_elog_end(const lv_elog *l);
uint64_t lv_elog_synced(const lv_elog *l);
/* fdatasync in two halves, so that appending goes on during the sync: `begin` notes the end and the
 * file (@writer), `run` syncs (@sync thread), `finish` advances lv_elog_synced or marks the log
 * broken
 * (@writer). */
typedef struct lv_elog_sync {
  uint64_t upto;
  int fd, fd_prev; /* a segment switch may leave two files to sync; -1: none */
  int err;
} lv_elog_sync;
bool lv_elog_sync_begin(lv_elog *l, lv_elog_sync *ret); /* false: nothing to sync */
void lv_elog_sync_run(lv_elog *l, lv_elog_sync *s);
int lv_elog_sync_finish(lv_elog *l, lv_elog_sync *s);
/* After an error: re-reads and verifies from the last synced address on, cuts what does not verify,
 * prepares to append again. ret_lost: appended bytes that are gone. @writer, nothing in flight */
int lv_elog_reopen(lv_elog *l, uint64_t *ret_lost);

/* Where records are, from the channel indexes. */
typedef struct lv_elog_at {
  uint64_t lsn, offset, pos; /* pos: in the segment's file */
  uint32_t segment;          /* handle for lv_elog_pread; stays valid until lv_elog_release */
} lv_elog_at;
/* Up to max places of records of `chan` (0: of all channels, by scanning order; see LV_ELOG_STATE,
 * LV_ELOG_RETAINED) with from <= lsn < until, ascending. Returns the count. @reader under the
 * index lock */
uint32_t lv_elog_find(lv_elog *l, uint32_t chan, uint64_t from, uint64_t until, uint32_t max,
                      lv_elog_at *ret);
/* Place of a channel's record with the smallest offset >= offset. LV_E_GONE: none. */
int lv_elog_find_offset(lv_elog *l, uint32_t chan, uint64_t offset, lv_elog_at *ret);
enum { LV_ELOG_STATE = 0xFFFFFFFE, LV_ELOG_RETAINED = 0xFFFFFFFD }; /* pseudo channels */
/* Reads and checks a record at a place into dst (grows as needed through lv_block). @reader */
int lv_elog_pread(lv_elog *l, const lv_elog_at *at, lv_block **ret_block, const lv_rec **ret_rec);
/* Sequential read of raw log bytes from an lsn (for whole-log replay): whole records only; ret_next
 * where to go on. @reader */
int lv_elog_scan(lv_elog *l, uint64_t from, uint64_t until, uint32_t max_bytes,
                 lv_block **ret_block, uint32_t *ret_bytes, uint64_t *ret_next);
/* Oldest lsn that is still held. */
uint64_t lv_elog_oldest(const lv_elog *l);
/* Epoch as text for positions: [A-Za-z0-9]{1,16}. */
const char *lv_elog_epoch(const lv_elog *l);

/* Per-channel facts. Unknown channel: all zero. */
typedef struct lv_elog_chan {
  uint64_t first_offset, next_offset; /* retained range is [first, next) */
  uint64_t count, bytes;
} lv_elog_chan;
void lv_elog_chan_get(lv_elog *l, uint32_t chan, lv_elog_chan *ret);

/* Housekeeping, called now and then. `policy` gives a channel's limits (false: channel is unknown
 * or deleted: nothing of it is retained); `live` says whether a state or retained record is still
 * the newest of its key. Seals, writes indexes, advances first offsets, drops, compacts (at most
 * one segment a call). ret_freed: bytes given back. Split so that the slow half runs without the
 * index lock: `plan` (@writer) chooses, `run` (@housekeeper) does the I/O, `apply` (@writer) swaps.
 */
typedef struct lv_elog_policy {
  bool (*policy)(void *arg, uint32_t chan, uint64_t *keep_ms, uint64_t *keep_bytes,
                 uint64_t *keep_count);
  bool (*live)(void *arg, const lv_rec *rec);
  void *arg;
} lv_elog_policy;
typedef struct lv_elog_job lv_elog_job;
lv_elog_job *lv_elog_job_plan(lv_elog *l, const lv_elog_policy *policy, lv_wall now);
int lv_elog_job_run(lv_elog *l, lv_elog_job *job);
int lv_elog_job_apply(lv_elog *l, lv_elog_job *job, uint64_t *ret_freed); /* frees the job */
/* Makes the next segment's file ahead of need (zeros or a recycled one). @housekeeper */
int lv_elog_prepare_next(lv_elog *l);
bool lv_elog_needs_next(const lv_elog *l);

/* Writes the clean shutdown note, syncs, closes, frees. */
int lv_elog_close(lv_elog *l);
/* Drops everything without writing (for tests: as a crash would). */
void lv_elog_abandon(lv_elog *l);

/* Read-only checks for `lavva log`: walks a data folder that may be in use. fn gets one line of
 * text a finding; returns LV_E_CORRUPT when there was one that is not a torn tail. */
int lv_elog_verify(lv_disk *disk, const char *name, void (*fn)(void *arg, const char *text),
                   void *arg, lv_elog_recovery *ret);

#endif
