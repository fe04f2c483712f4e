/* elog.h: one embedded log: segments of records, an index per channel, recovery, retention. No
 * threads of its own: embedded.c says who may call what, when.
 *
 * Addresses. A log is one endless byte sequence; an lsn is an address in it, always 8-aligned,
 * never 0. Segment files hold consecutive ranges: `NAME-<base lsn, 16 hex digits>.seg`. A record
 * written at lsn L lies at L - base + head in its segment's file, unless the segment was compacted
 * (then its index says where). Segment files are made ahead: written full of zeros or recycled from
 * dropped ones, so that appending and syncing change no file metadata; a record is valid only if
 * its lsn field equals its address, so that remains of a recycled file never count.
 *
 *   segment file:  head (format number, log name, epoch, base lsn, created, crc; 4096 bytes; a
 *                  second small part says how far the log was known to be synced)
 *                  record | record | … | zeros or remains
 *   sealed:        NAME-<base>.idx  per channel: where each of its records is; the state and
 *                  retained records as channels of their own; checksums
 *   once:          NAME.chans       first and next offset of each channel, so that an offset is
 *                  never given twice after a channel's last segment was dropped
 *
 * Offsets. Records of kind MSG get their channel's next offset (dense, from 0); other kinds get 0.
 *
 * Sizes. The first segment of a log is small (1 MiB), each next one four times the size of the one
 * before, up to `segment_bytes`; the next is made ahead when an eighth of the open one is used. An
 * idle instance therefore takes 1 MiB a log.
 *
 * Retention. A channel's policy advances its first offset; a sealed segment in which nothing is
 * retained and no state record is live is dropped (its file recycled or removed); neighbours that
 * are mostly dead are compacted: live records are copied to one new file with the same lsns, then
 * the old are removed. A crash at any point leaves either the old or the new.
 *
 * Epoch. A random id per log, made with it, in each segment's head. The memory log gets a new epoch
 * when it opens without a clean shutdown note (a delivered tail may be lost only by power loss, but
 * a process cannot tell); so does any log that finds that offsets may have been lost. A new epoch
 * begins a new segment, and its addresses begin at the next multiple of 2^40: an lsn that a cursor
 * remembers from before is never used for another record.
 *
 * Errors. After a failed write the tail is cut back before the next append; after a failed sync the
 * log refuses appends (LV_E_IO) until lv_elog_reopen has re-read and verified what is on disk. A
 * record that fails its checksum below the synced mark is damage, not a torn tail: it is reported
 * (LV_E_CORRUPT on reading, a line from verify) and what is behind it stays.
 *
 * Threads. @writer: whoever holds the log's writer role (one at a time). @sync, @housekeeper: one
 * such thread each. @any: also beside the writer; a small mutex inside guards the index and the
 * segment list, never held over I/O. */
#ifndef LV_BROKER_ELOG_H
#define LV_BROKER_ELOG_H
#include "broker/embedded/disk.h"
#include "core/block.h"

enum { LV_ELOG_FORMAT = 1, LV_ELOG_HEAD = 4096, LV_ELOG_WHY = 256 };
/* Channel ids are 1 … this - 1. */
#define LV_ELOG_CHAN_MAX ((uint32_t)1 << 24)

typedef struct lv_elog lv_elog;

typedef struct lv_elog_conf {
  lv_disk *disk;          /* borrowed; locked (ops->lock) by the caller */
  const char *name;       /* "mem" or "disk": file name prefix; at most 15 of [a-z0-9] */
  uint64_t segment_bytes; /* 0: 64 MiB */
  uint64_t first_bytes;   /* size of the first segment; 0: 1 MiB */
  bool epoch_on_unclean;  /* memory log: what was written and not synced counts (it was visible) */
  bool epoch_fresh;       /* it may be older than what customers have seen: a new epoch always */
  uint64_t seed;          /* for epochs in tests; 0: getrandom */
} lv_elog_conf;

/* What recovery found, for the log line and `lavva log inspect`. */
typedef struct lv_elog_recovery {
  uint64_t records, bytes; /* scanned in segments without an index */
  uint64_t torn_bytes;     /* cut from the end */
  uint64_t damaged_bytes;  /* below the synced mark, and failing their checksum: data was lost */
  uint32_t segments, indexes_rebuilt;
  bool clean, new_epoch;
} lv_elog_recovery;

/* Opens or creates; recovers; each channel's first/next offset is known afterwards. LV_E_FORMAT
 * (written by a newer version), LV_E_CORRUPT, LV_E_IO, LV_E_DISK_FULL. ret_rec is set also on an
 * error: what was cut until then is not found again.
 * why: LV_ELOG_WHY bytes, says which file and what is wrong. @thread main */
int lv_elog_open(const lv_elog_conf *conf, lv_elog **ret_log, lv_elog_recovery *ret_rec, char *why);
/* Appends batches in order with as few writes as possible (one in the common case): sets each
 * record's lsn, offset and crc, and each batch's lsn_end. A batch is appended whole or not at all;
 * ret_n: how many were (all of them when 0 is returned), those behind an error were not touched and
 * may be appended again. Starts new segments as needed (a batch never spans two). LV_E_DISK_FULL,
 * LV_E_IO; LV_E_INVALID for a MSG record without a usable channel id. @writer */
int lv_elog_append(lv_elog *l, lv_batch *const *batches, uint32_t n, uint32_t *ret_n);
/* End of what was appended, and of what a completed sync covers. @any */
uint64_t lv_elog_end(const lv_elog *l);
uint64_t lv_elog_synced(const lv_elog *l);
/* Whether a failed sync waits for lv_elog_reopen. @any */
bool lv_elog_broken(const lv_elog *l);
/* fdatasync in two halves, so that appending goes on during the sync: `begin` notes the end and the
 * files (@writer), `run` syncs (@sync), `finish` advances lv_elog_synced to `upto` or marks the log
 * broken and returns LV_E_IO (@writer). One at a time. After many segment switches `upto` may be
 * less than the end: begin again. */
enum { LV_ELOG_SYNC_FILES = 4 };
typedef struct lv_elog_sync {
  uint64_t upto;
  int fd[LV_ELOG_SYNC_FILES];
  uint32_t n;
  bool dir; /* a file was made or renamed: its name needs a sync too */
  int err;
} lv_elog_sync;
bool lv_elog_sync_begin(lv_elog *l, lv_elog_sync *ret); /* false: nothing to sync */
void lv_elog_sync_run(lv_elog *l, lv_elog_sync *s);
int lv_elog_sync_finish(lv_elog *l, lv_elog_sync *s);
/* After a failed sync. Page cache that failed to reach the disk once proves nothing when read back,
 * so: a disk log (nothing unsynced was visible) goes back to the last synced address; a memory log
 * re-reads what is behind it, writes again what verifies, and starts a new epoch if some did not.
 * Then syncs. ret_lost: appended bytes that are gone. On an error it stays broken: call again
 * later. No sync or job in flight. @writer */
int lv_elog_reopen(lv_elog *l, uint64_t *ret_lost);

/* Where a record is, from the channel indexes. Holds its segment's file until released. */
typedef struct lv_elog_at {
  uint64_t lsn, offset, pos; /* pos: in the segment's file; offset 0 for the pseudo channels */
  struct lv_elog_seg *seg;
} lv_elog_at;
enum { LV_ELOG_STATE = 0xFFFFFFFE, LV_ELOG_RETAINED = 0xFFFFFFFD }; /* pseudo channels */
/* Up to max places of retained records of `chan` with from <= lsn < until, ascending: the count, or
 * a negative error. The pseudo channels list STATE and CHAN records, and MSG records with RETAIN or
 * LAST (superseded ones included, until compaction). Release each place. @any */
int lv_elog_find(lv_elog *l, uint32_t chan, uint64_t from, uint64_t until, uint32_t max,
                 lv_elog_at *ret);
/* Place of a channel's record with the smallest offset >= offset (appended, maybe not synced: look
 * at its lsn). LV_E_GONE: none. @any */
int lv_elog_find_offset(lv_elog *l, uint32_t chan, uint64_t offset, lv_elog_at *ret);
void lv_elog_release(lv_elog_at *at, uint32_t n);
/* Reads and checks one record into a new block. LV_E_CORRUPT: fails its checksum, or is not the
 * record that the index promised. LV_E_IO. @any */
int lv_elog_pread(lv_elog *l, const lv_elog_at *at, lv_block **ret_block, const lv_rec **ret_rec);
/* The same for several places (ascending, as find gives them) with one read where they lie close
 * together: reads the first of them and as many of the next as fit max_bytes of file. recs[i] is
 * NULL where the record is damaged. Returns how many were looked at (>= 1), or an error. @any */
int lv_elog_pread_many(lv_elog *l, const lv_elog_at *at, uint32_t n, uint32_t max_bytes,
                       lv_block **ret_block, const lv_rec **recs);
/* Sequential read of the log from an lsn (whole-log replay), also what channels no longer retain
 * and all kinds: whole checked records, ret_bytes of them at the start of the block, ret_next where
 * to go on (== until at the end; behind gaps that compaction left). LV_E_CORRUPT: a damaged record
 * first; ret_next (set) is where the next sound one starts. @any */
int lv_elog_scan(lv_elog *l, uint64_t from, uint64_t until, uint32_t max_bytes,
                 lv_block **ret_block, uint32_t *ret_bytes, uint64_t *ret_next);
/* Oldest lsn that is still held. @any */
uint64_t lv_elog_oldest(lv_elog *l);
/* Epoch as text for positions: [A-Za-z0-9]{1,16}. Changes only in open and reopen. @any */
const char *lv_elog_epoch(const lv_elog *l);
/* The address from which an epoch counts; a later one begins where the next starts: *ret_end
 * (UINT64_MAX: it is the current one). LV_E_NOT_FOUND: no segment is of it (any more). @any */
int lv_elog_epoch_range(lv_elog *l, lv_slice epoch, uint64_t *ret_from, uint64_t *ret_end);

/* Per-channel facts. Unknown channel: all zero. @any */
typedef struct lv_elog_chan {
  uint64_t first_offset, next_offset; /* retained range is [first, next) */
  uint64_t gone_lsn;                  /* behind the last record that retention removed; 0: none */
  uint64_t bytes;                     /* of its records on disk, those not yet freed included */
} lv_elog_chan;
void lv_elog_chan_get(lv_elog *l, uint32_t chan, lv_elog_chan *ret);

typedef struct lv_elog_stats {
  uint64_t disk_bytes;  /* all files of the log, as sized */
  uint64_t index_bytes; /* memory of the indexes */
  uint32_t segments, spares;
  uint64_t damaged_reads; /* records that failed their checksum when read */
} lv_elog_stats;
void lv_elog_stats_get(lv_elog *l, lv_elog_stats *ret); /* @any */

/* Housekeeping, called every few seconds, and after a segment was filled. `policy` gives a
 * channel's limits (0: no limit; false: channel is unknown or deleted: nothing of it is retained);
 * `live` says whether a state or retained record with a value is still the newest of its key, as
 * far as is appended (it is not asked about empty values: the log keeps those until no older record
 * of the key can be left). Both are called from `run`, so from the housekeeper's thread. Seals,
 * writes indexes, advances first offsets, drops, compacts (at most one group of segments a call).
 * `plan` (@writer) chooses (NULL: nothing to do), `run` (@housekeeper) does the I/O, `apply`
 * (@writer) swaps and frees the job, also after a failed run. ret_freed: bytes given back by this
 * job. Age is exact to the record where that can be found out with few reads, else to the segment;
 * size to the average record; count exact. The newest full segment is never dropped, only emptied:
 * recovery needs to know where it ended. */
typedef struct lv_elog_policy {
  bool (*policy)(void *arg, uint32_t chan, uint64_t *keep_ms, uint64_t *keep_bytes,
                 uint64_t *keep_count);
  bool (*live)(void *arg, const lv_rec *rec);
  void *arg;
  bool no_reuse; /* somebody outside reads the files: dropped ones are removed, not recycled */
} lv_elog_policy;
typedef struct lv_elog_job lv_elog_job;
lv_elog_job *lv_elog_job_plan(lv_elog *l, const lv_elog_policy *policy, lv_wall now);
int lv_elog_job_run(lv_elog *l, lv_elog_job *job);
int lv_elog_job_apply(lv_elog *l, lv_elog_job *job, uint64_t *ret_freed);
/* Frees a job that is not applied: only right before lv_elog_abandon. */
void lv_elog_job_cancel(lv_elog *l, lv_elog_job *job);
/* Makes the next segment's file ahead of need (a recycled one is used instead where there is one).
 * @housekeeper */
int lv_elog_prepare_next(lv_elog *l);
bool lv_elog_needs_next(lv_elog *l); /* @any */
/* From now on, and for the one under way, it takes no pauses: the log is about to be closed. @any
 */
void lv_elog_hurry(lv_elog *l);

/* Writes the clean shutdown note, syncs, closes, frees. An error means only that the next open will
 * not be clean. Every place must have been released. @thread main */
int lv_elog_close(lv_elog *l);
/* Drops everything without writing (for tests: as a crash would). */
void lv_elog_abandon(lv_elog *l);

/* Read-only checks for `lavva log`: walks a data folder that may be in use. fn gets one line of
 * text a finding; returns LV_E_CORRUPT when there was one that is not a torn tail. */
int lv_elog_verify(lv_disk *disk, const char *name, void (*fn)(void *arg, const char *text),
                   void *arg, lv_elog_recovery *ret);

#endif
