/* elog_int.h: what the files of the embedded log share. See elog.h for the whole picture.
 *
 *   lv_elog ── segs[] ── lv_elog_seg ── units (memory: segments whose index is not on disk yet)
 *      │                      └──────── idx   (file: a directory of units in memory, entries on
 * disk) └───── chans: two-level array by channel id ── cur: newest memory unit, older ones behind
 * it
 *
 * A unit is a run of one channel's records with dense offsets within one segment, so an entry needs
 * no offset: 4 bytes (lsn - base) / 8; a compacted segment's has a second word, position / 8.
 * Memory units grow by chunks (64 bytes, doubling to 16 KiB) out of the segment's arena, which is
 * freed whole once the segment's index is on disk. */
#ifndef LV_BROKER_ELOG_INT_H
#define LV_BROKER_ELOG_INT_H
#include "broker/embedded/elog.h"
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>

enum {
  LV__ELOG_MAGIC = 0x4C42E106,
  LV__SEG_MAGIC = 0x4C42E5E6,
  LV__NAME_MAX = 48,       /* file names of a log */
  LV__SPARES = 2,          /* files made ahead or kept for recycling */
  LV__MARK_AT = 2048,      /* of the synced mark in a segment's head */
  LV__MARK_EVERY = 262144, /* bytes between marks */
  LV__SCAN_BUF = 262144,
  LV__CHAN_PAGE = 1024, /* channels in a page of the table */
  LV__EPOCH_SIZE = 24,
};
#define LV__LSN_FIRST ((uint64_t)4096)
#define LV__EPOCH_STEP ((uint64_t)1 << 40)
/* Positions and addresses within a segment are kept as multiples of 8 in 32 bits. */
#define LV__SEG_SPAN_MAX ((uint64_t)32 << 30)

typedef struct lv__chunk {
  struct lv__chunk *next;
  uint32_t n, cap; /* words */
  uint32_t e[];
} lv__chunk;

typedef struct lv__unit {
  struct lv__unit *prev; /* of the same channel, older; also in another segment */
  struct lv__unit *next; /* of the same segment */
  struct lv_elog_seg *seg;
  lv__chunk *head, *tail;
  uint32_t chan, count;
  uint64_t first, bytes; /* offset of the first record; bytes of all */
  int64_t oldest_ns, newest_ns;
} lv__unit;

typedef struct lv__arena_block lv__arena_block;
typedef struct lv__arena {
  lv__arena_block *blocks;
  uint64_t bytes;
} lv__arena;

/* A unit in an index file; sorted by (chan, first). Little-endian file format. */
typedef struct lv__dir {
  uint32_t chan, count;
  uint64_t first, bytes;
  int64_t oldest_ns, newest_ns;
  uint32_t start; /* index of its first entry in the file */
  uint32_t crc;   /* of its entries */
} lv__dir;
static_assert(sizeof(lv__dir) == 48, "file format");

typedef struct lv__idx {
  struct lv__idx *older; /* replaced, kept until the segment goes */
  int fd;                /* of the index file; -1: all in `image` */
  uint8_t *image;        /* whole file in memory, or NULL */
  uint64_t image_n;
  uint64_t entries_at; /* in the file */
  uint32_t n_dir, words;
  uint64_t seg_end;
  lv__dir *dir;
  _Atomic uint8_t *checked; /* per unit: its entries' crc was right once */
} lv__idx;

typedef struct lv_elog_seg {
  uint32_t magic;
  _Atomic uint32_t refs;
  lv_disk *disk;
  int fd;
  uint64_t base, prev_end; /* prev_end: where the segment before ended when this one was made */
  uint64_t end;            /* behind its last record; of the open one: lv_elog_end instead */
  uint64_t cap;            /* file size, head included */
  int64_t created_ns; /* as in the head, like head_cap: writing it again must not change a bit */
  uint64_t head_cap;
  uint64_t gen;                /* random; an index file belongs to the segment file with its gen */
  uint64_t file_end;           /* compacted: bytes of the file that count */
  uint64_t mark;               /* synced mark found or written */
  uint64_t hint_pos, hint_lsn; /* compacted: where the last scan stopped */
  uint64_t quiet_until;        /* not looked at for compaction before the log ends here */
  bool compacted, head_ok;
  bool stub; /* neither head nor record: left of one that could not be made */
  char epoch[LV__EPOCH_SIZE];
  lv__arena arena;
  lv__unit *units, *units_tail;
  uint32_t n_units;
  lv__unit **map; /* while a compacted segment is built: newest unit by channel */
  uint32_t n_map, map_cap;
  lv__idx *_Atomic idx;
  pthread_mutex_t repair;
} lv_elog_seg;

typedef struct lv__chan {
  uint64_t first, next; /* retained range; under mu */
  uint64_t next_w;      /* the writer's: also what is being appended */
  uint64_t
      floor; /* behind the offsets that no cut can take back: sealed, or in the channels file */
  uint64_t gone_lsn, bytes;
  lv__unit *cur;
} lv__chan;

typedef struct lv__spare {
  char name[LV__NAME_MAX];
  uint64_t cap;
} lv__spare;

struct lv_elog {
  uint32_t magic;
  lv_disk *disk;
  char name[16];
  uint64_t segment_bytes, first_bytes;
  bool visible_unsynced; /* conf.epoch_on_unclean */
  bool epoch_fresh;
  _Atomic uint64_t rng; /* 0: getrandom */
  char epoch[LV__EPOCH_SIZE];

  pthread_mutex_t mu; /* segs, units, chans, spares */
  _Atomic uint64_t end, synced;
  pthread_mutex_t sync_mu;     /* one fdatasync at a time, with what follows from it */
  _Atomic uint64_t job_synced; /* what housekeeping synced for itself, and relies on */
  _Atomic bool broken;
  _Atomic uint64_t damaged_reads;
  uint64_t dirty_upto; /* a failed write may have left bytes up to here (lsn); 0: none */
  bool dir_dirty;      /* names changed since the last sync began */
  lv_elog_seg **segs;  /* ascending; the last is open */
  uint32_t n_segs, cap_segs;
  lv__chan *_Atomic *pages;
  uint32_t chan_top; /* behind the largest channel id seen */
  lv__chan state, retained;
  lv__spare spares[LV__SPARES];
  uint32_t n_spares;
  uint64_t spare_seq;
  uint64_t roll_base; /* this open segment holds only what is not retained: start another */
  uint64_t top_lsn;   /* no address behind it was ever used, in segments that are gone either */
  bool note_due;      /* memory log: what is on disk still looks cleanly closed */
  bool job_out;
  _Atomic bool hurry; /* a segment being prepared takes no pauses */
};

/* segment.c: files, names, heads, switching */
typedef struct lv__head {
  char magic[8]; /* "LVSEG\r\n\0" */
  uint32_t format, flags;
  char name[16];
  char epoch[LV__EPOCH_SIZE];
  uint64_t base, prev_end, cap, gen;
  int64_t created_ns;
  uint64_t end, file_end; /* compacted only */
} lv__head;
enum { LV__HEAD_COMPACTED = 1, LV__HEAD_CRC_AT = 508 };

void lv__seg_name(const char *log, uint64_t base, const char *suffix, char *ret);
bool lv__seg_name_parse(const char *log, const char *file, const char *suffix, uint64_t *ret_base);
/* ret_seg gets one reference, the file open, head and mark read (head_ok false: damaged).
 * LV_E_FORMAT when it was written by a newer version. */
int lv__seg_open(lv_disk *disk, const char *log, uint64_t base, lv_elog_seg **ret_seg);
lv_elog_seg *lv__seg_new(lv_disk *disk, int fd, uint64_t base);
void lv__seg_ref(lv_elog_seg *seg, uint32_t n);
void lv__seg_unref(lv_elog_seg *seg, uint32_t n);
int lv__head_write(lv_disk *disk, int fd, const char *log, const lv_elog_seg *seg);
/* Best effort: says in the segment's head that the log is synced up to `synced`. */
void lv__mark_write(lv_elog_seg *seg, uint64_t synced);
/* Makes a segment at `base` the open one, from a spare that is large enough or a new file. */
int lv__seg_switch(lv_elog *l, uint64_t base, uint64_t prev_end, uint64_t need);
void lv__segs_push(lv_elog *l, lv_elog_seg *seg); /* under mu */
uint64_t lv__random(lv_elog *l);
void lv__epoch_new(lv_elog *l);
/* Writes zeros over [pos, end of file). ret_n: bytes (in pages) that were not zero. */
int lv__zero_rest(lv_disk *disk, int fd, uint64_t pos, uint64_t *ret_n);

/* segment_scan.c: records of a segment file in order, checked */
typedef struct lv__scan {
  lv_disk *disk;
  int fd;
  bool compacted;
  uint64_t base;
  uint64_t pos, limit; /* next position; bytes of the file to look at */
  uint64_t lsn;        /* expected (compacted: lowest allowed) at pos */
  uint64_t lsn_end;    /* records at or behind it do not count */
  uint8_t *buf;
  uint64_t buf_at;
  uint32_t buf_n, buf_cap;
} lv__scan;
void lv__scan_init(lv__scan *s, const lv_elog_seg *seg, uint64_t limit, uint64_t lsn_end);
void lv__scan_done(lv__scan *s);
/* 1: a record at *ret_pos, valid until the next call; 0: nothing valid at s->pos; or an error. */
int lv__scan_next(lv__scan *s, const lv_rec **ret_rec, uint64_t *ret_pos);
/* Moves on to the next position behind s->pos that holds a valid record: 1, or 0: none. */
int lv__scan_resync(lv__scan *s);

/* index_mem.c */
void *lv__arena_get(lv__arena *a, size_t n);
void lv__arena_done(lv__arena *a);
/* Channel state; NULL: never seen. `make`: created (ids below LV_ELOG_CHAN_MAX). */
lv__chan *lv__chan_at(lv_elog *l, uint32_t chan, bool make);
/* Enters a record into its segment's memory index and its channel's facts (under mu). */
void lv__mem_add(lv_elog *l, lv_elog_seg *seg, const lv_rec *rec);
/* Enters a record into the units of a compacted segment, under the channel given. */
void lv__mem_add_packed(lv_elog_seg *seg, uint32_t chan, const lv_rec *rec, uint64_t pos);
/* Forgets entries at or behind the segment's end, and their channels' offsets (under mu). */
void lv__mem_truncate(lv_elog *l, lv_elog_seg *seg);
/* Takes the segment's units out of the channels' lists and frees them (under mu). */
void lv__mem_drop(lv_elog *l, lv_elog_seg *seg);
void lv__mem_free(lv_elog_seg *seg); /* frees only */
/* from <= lsn < until and offset >= first: at most max. */
typedef struct lv__want {
  uint64_t from, until, first;
  uint32_t max;
} lv__want;
uint32_t lv__mem_find(const lv__unit *u, const lv__want *w, lv_elog_at *ret);
bool lv__mem_at(const lv__unit *u, uint64_t offset, lv_elog_at *ret);
/* A message that a channel's index can name. */
bool lv__rec_usable(const lv_rec *rec);
bool lv__rec_retained(const lv_rec *rec);
bool lv__rec_state(const lv_rec *rec);

/* index_file.c */
/* The index file's bytes from the segment's units. */
uint8_t *lv__idx_image(const char *log, const lv_elog_seg *seg, uint64_t *ret_n);
int lv__idx_of_image(uint8_t *image, uint64_t n, const lv_elog_seg *seg, lv__idx **ret);
int lv__idx_load(lv_disk *disk, const char *log, const lv_elog_seg *seg, lv__idx **ret);
int lv__idx_store(lv_disk *disk, const char *log, const lv_elog_seg *seg, const uint8_t *image,
                  uint64_t n);
void lv__idx_free(lv_disk *disk, lv__idx *idx);
/* Units of a channel: [first, behind). */
void lv__idx_units(const lv__idx *idx, uint32_t chan, uint32_t *ret_first, uint32_t *ret_behind);
int lv__idx_find(lv_disk *disk, lv_elog_seg *seg, lv__idx *idx, uint32_t unit, const lv__want *w,
                 lv_elog_at *ret);
int lv__idx_at(lv_disk *disk, lv_elog_seg *seg, lv__idx *idx, uint32_t unit, uint64_t offset,
               lv_elog_at *ret);
int lv__idx_check_unit(lv_disk *disk, lv__idx *idx, uint32_t unit);
/* Makes a sealed segment's index anew from its records, in memory. */
int lv__idx_rebuild(lv_elog *l, lv_elog_seg *seg);

/* elog_append.c: syncs files, unless the log is broken; breaks it when one fails. The kernel tells
 * of a failed write-back once: whoever syncs next would believe that all is well, so nobody may
 * come between the failure and `broken`. */
int lv__sync_files(lv_elog *l, const int *fds, uint32_t n, bool dir);

/* elog_open.c: appends a note "clean" or "open" */
int lv__note(lv_elog *l, const char *what);
int lv__note_open(lv_elog *l);

/* recover.c */
int lv__recover(lv_elog *l, lv_elog_recovery *rec, char *why);
typedef struct lv__tail {
  uint64_t from;    /* after a failed sync: the indexes are right up to here; at start 0 */
  uint64_t limit;   /* nothing at or behind it counts */
  uint64_t trusted; /* below it nothing is torn */
} lv__tail;
/* Scans the segments without an index, cuts the torn tail, writes again and syncs what is kept. */
int lv__recover_tail(lv_elog *l, const lv__tail *t, lv_elog_recovery *rec);
/* Removes segments that begin inside segment i: what is left of a compaction, or of a segment that
 * could not be made, so that the log went on in the one before. */
int lv__drop_overlapped(lv_elog *l, uint32_t i);
/* Makes sure that there is an open segment (in a new epoch) and that it is on disk. */
int lv__settle_open(lv_elog *l, bool new_epoch);
void lv__chans_rewind(lv_elog *l); /* the writer's next offsets, after some were cut */
/* A new epoch in a new segment, its addresses behind every one that was used. */
int lv__epoch_begin(lv_elog *l);

/* recover_chans.c: the channels file */
int lv__chans_load(lv_elog *l); /* LV_E_NOT_FOUND, LV_E_CORRUPT, LV_E_FORMAT */
int lv__chans_store(lv_elog *l);

/* retain*.c */
typedef struct lv__view { /* a segment as a job sees it */
  lv_elog_seg *seg;
  const lv__dir *dir;
  lv__dir *own; /* copy of memory units */
  uint32_t n_dir;
  bool open, dropped, in_group;
  uint64_t end, used;       /* file bytes with records */
  uint64_t live_bytes;      /* of channel records that are retained (estimate) */
  lv__idx *fresh;           /* index to install */
  char spare[LV__NAME_MAX]; /* its file's new name when it is recycled */
} lv__view;
typedef struct lv__jobchan {
  uint32_t chan;
  uint64_t first, next, new_first, acc_bytes;
  uint64_t keep_ms, keep_bytes, keep_count;
  uint64_t probe_lo, probe_hi; /* the age limit lies in here */
} lv__jobchan;
struct lv_elog_job {
  lv_elog_policy policy;
  lv_wall now;
  lv__view *views;
  uint32_t n_views;
  lv__jobchan *chans; /* by channel id */
  uint32_t n_chans;
  uint32_t group, group_n; /* views that were compacted */
  lv_elog_seg *packed;     /* into this */
  uint64_t roll_base, freed;
};
void lv__retain_firsts(lv_elog *l, lv_elog_job *job);
int lv__retain_drop(lv_elog *l, lv_elog_job *job);
int lv__retain_compact(lv_elog *l, lv_elog_job *job);
/* Whether a state or retained record (of the pseudo channel `chan`) must stay. */
bool lv__retain_needed(const lv_elog_job *job, const lv_rec *rec, bool older_left);
/* Bytes of needed state and retained records of a view, read one by one. */
int lv__retain_state_bytes(lv_elog *l, const lv_elog_job *job, const lv__view *v, bool older_left,
                           uint64_t *ret_bytes);
/* Everything appended so far is on disk afterwards; else the log is broken. @housekeeper */
int lv__sync_now(lv_elog *l);
uint64_t lv__next_cap(const lv_elog *l);

static inline lv_elog *lv__elog(const lv_elog *l) {
  assert(l && l->magic == LV__ELOG_MAGIC);
  return (lv_elog *)(uintptr_t)l;
}
static inline lv_elog_seg *lv__open_seg(const lv_elog *l) {
  assert(l->n_segs > 0);
  return l->segs[l->n_segs - 1];
}
static inline uint64_t lv__pos_of(const lv_elog_seg *seg, uint64_t lsn) {
  return lsn - seg->base + LV_ELOG_HEAD;
}
static inline uint64_t lv__min(uint64_t a, uint64_t b) {
  return a < b ? a : b;
}
static inline uint64_t lv__max(uint64_t a, uint64_t b) {
  return a > b ? a : b;
}

#endif
