/* embedded_int.h: private to the embedded broker: its logs, ports, registry, tail, state index.
 *
 *   loop ──publish──▶ lane.queue ──role──▶ lv_elog_append ──▶ memory: visible at once
 *                                                            └▶ disk: pending ──sync thread──▶
 * visible visible (mutex `vis`, one log at a time): hook → state index → tail → channels → ports →
 * loops
 *
 * Threads: the loops, one sync thread (disk log), one reader, one housekeeper.
 * Locks, in the order in which they may be nested:
 *   registry.ensure_mu > [role of a log] > vis of a log > state.mu | port.mu | registry.keep_mu
 * The role is not a mutex for loops: a loop that does not get it leaves its batch and goes on.
 * elog's
 * @writer functions are called with it held. */
#ifndef LV_BROKER_EMBEDDED_INT_H
#define LV_BROKER_EMBEDDED_INT_H
#include "broker/broker_int.h"
#include "broker/embedded/elog.h"
#include <pthread.h>

enum {
  LV_EMBEDDED_MAGIC = 0x4C454D42,
  LV_CHAN_MAGIC = 0x4C434841,
  LV_CHAN_CHUNK = 1024,         /* channels a chunk of the id table */
  LV_CHAN_CHUNKS = 1024,        /* at most 1 Mi channels in a data folder */
  LV_APPEND_MAX = 64,           /* batches one append takes */
  LV_PORT_BYTES_MAX = 64 << 20, /* feed waiting for one loop: beyond it publishing waits */
};

/* tail.c: the recent visible records of one log, as ranges of blocks. @thread under vis */
typedef struct lv_tail_ent {
  lv_block *block; /* one reference */
  const uint8_t *start;
  uint32_t bytes, charge; /* memory this entry added when it came */
  uint64_t lsn, lsn_end;  /* of its first record; behind its last */
} lv_tail_ent;
typedef struct lv_tail {
  lv_tail_ent *ring; /* power of two */
  uint32_t head, n, cap;
  uint64_t bytes, bytes_max;
  uint64_t first;                         /* everything visible with lsn >= first is here */
  const lv_block *last[LV_LOOPS_MAX + 1]; /* newest block of each loop, for the charge */
} lv_tail;
void lv__tail_init(lv_tail *t, uint64_t bytes_max, uint64_t first);
void lv__tail_done(lv_tail *t);
/* Drops everything; the tail goes on with records at or behind `first`. */
void lv__tail_clear(lv_tail *t, uint64_t first);
void lv__tail_add(lv_tail *t, const lv_batch *b, int origin);
/* Copies (with a reference to each block) up to max ranges with records in [from, until); false
 * when `from` is older than the tail. */
bool lv__tail_view(lv_tail *t, uint64_t from, uint64_t until, uint32_t max, lv_tail_ent *ret,
                   uint32_t *ret_n);

/* state_index.c: key -> lsn of the newest record of that key in one log. Own mutex. */
typedef struct lv_state_slot {
  uint64_t hash;
  uint64_t ref; /* bits 0-47 lsn / 8, bits 48-62 more of the hash, bit 63 deleted; 0: free */
} lv_state_slot;
typedef struct lv_state {
  pthread_mutex_t mu;
  uint64_t seed[2];
  lv_state_slot *slot;
  uint64_t cap, n, n_dead; /* used slots; of these deleted keys */
} lv_state;
void lv__state_init(lv_state *s);
void lv__state_done(lv_state *s);
/* Whether a record is keyed at all: STATE, CHAN, or MSG with RETAIN or QOS2. */
static inline bool lv__state_keyed(const lv_rec *r) {
  return r->kind == LV_REC_STATE || r->kind == LV_REC_CHAN ||
         (r->kind == LV_REC_MSG && (r->flags & (LV_REC_RETAIN | LV_REC_QOS2)));
}
/* Notes a keyed record that became visible; an older one than what is known changes nothing. */
void lv__state_put(lv_state *s, const lv_rec *r);
/* Whether r is its key's newest record, or the newest is not yet synced (lsn >= synced): as STATE,
 * CHAN or retained MSG by its topic, as QoS 2 publish by its packet. */
bool lv__state_live_key(lv_state *s, const lv_rec *r, uint64_t synced);
bool lv__state_live_qos2(lv_state *s, const lv_rec *r, uint64_t synced);
/* Forgets deletions with lsn < synced. Returns how many. */
uint64_t lv__state_sweep(lv_state *s, uint64_t synced);
/* Keys that live, and deletions that are remembered. */
void lv__state_count(lv_state *s, uint64_t *ret_live, uint64_t *ret_dead);

/* The seeded hash of a key in a space of keys: 128 bits. */
void lv__state_hash(const lv_state *s, uint64_t space, lv_slice key, uint64_t ret[2]);

/* One log with what surrounds it. */
typedef struct lv_embedded lv_embedded;
typedef struct lv_lane {
  lv_embedded *b;
  uint8_t log; /* enum lv_durability */
  const char *name;
  lv_elog *elog;
  lv_elog_recovery recovery; /* what opening found */
  /* publishing */
  _Atomic(lv_batch *) queue; /* newest first */
  _Atomic uint32_t role;     /* 0 free, 1 held */
  _Atomic uint32_t role_waiting;
  pthread_mutex_t role_mu;
  pthread_cond_t role_free;
  /* under the role */
  lv_batch *pending, **pending_tail; /* disk: appended or failed, not completed */
  _Atomic int trouble;               /* why the newest append or sync failed; 0: it did not */
  bool syncing;                      /* between begin and finish */
  bool jobbing;                      /* between plan and apply */
  bool redeclare;                    /* before the next append: declarations behind this: */
  uint64_t redeclare_from;
  /* visibility */
  pthread_mutex_t vis;
  _Atomic uint64_t visible; /* lsn */
  uint64_t opened;          /* what it was when the log was opened */
  _Atomic uint64_t gone;    /* behind the newest message that retention removed, of any channel */
  lv_tail tail;
  lv_state state;
  char epoch[LV_EPOCH_SIZE]; /* under vis, with the place from which it counts */
  uint64_t epoch_from;
  bool no_room; /* the next segment could not be made in this round; the keeper's */
} lv_lane;

/* port.c: what waits for one attached loop: its feed and its completions, in one order. */
typedef struct lv_port {
  lv_mail mail;
  lv_embedded *b;
  lv_loop *loop;
  lv_feed *feed[LV_FEEDS_MAX]; /* theirs; changed by the loop only */
  uint32_t n_feeds, n_on;
  pthread_mutex_t mu;
  uintptr_t *ring; /* batch pointers, bit 0: completion (else feed); one reference each */
  uint32_t n, cap;
  uintptr_t *spare; /* the loop's half of the pair */
  uint32_t spare_cap;
  uint64_t feed_bytes; /* waiting */
  bool interested, posted, over;
} lv_port;
int lv__port_attach(lv_embedded *b, lv_loop *loop, lv_feed *feed);
void lv__port_interest(lv_port *p, lv_feed *feed, bool on, lv_pos from);
/* Hands a list (by next) of finished batches to the loops: those with err 0 and records to every
 * interested loop, and each to its origin. Under vis. */
void lv__port_hand(lv_embedded *b, lv_batch *list);
/* At close, loops stopped: runs completions, drops feeds, frees. */
/* Bytes of feed that wait for all loops. @thread any */
uint64_t lv__port_waiting(lv_embedded *b);
void lv__port_free(lv_port *p);

/* registry.c */
typedef struct lv_chan_own { /* the channel and what only the broker needs */
  lv_chan c;
  _Atomic uint64_t last_lsn; /* of its newest visible message; 0: none */
  _Atomic uint64_t gone;     /* behind its newest message that retention removed; 0: none */
  _Atomic(struct lv_last_index *) last; /* NULL: never kept the last message of each key */
  uint64_t declared;      /* where its newest declaration ends in its log; under the role */
  struct lv_app_use *use; /* of its app */
  uint64_t hash;
} lv_chan_own;
/* lasts.c: the last message of each key of channels that keep it */
/* A record with LV_REC_LAST became visible, or was found on disk (by lsn). */
void lv__last_put(lv_lane *l, lv_chan_own *c, const lv_rec *r);
/* Whether a record with that flag is its key's last one, or the last is not synced yet. */
bool lv__last_live(lv_lane *l, const lv_rec *r, uint64_t synced);
/* Applies the channel's bounds (last_keys, last_bytes); 0 keys forgets all. */
void lv__last_bound(lv_chan_own *c);
void lv__last_done(lv_chan_own *c);
int lv__lasts(lv_broker *base, lv_chan *chan, lv_lasts *ret);

typedef struct lv_app_chans { /* how many channels an app has */
  lv_slice app;               /* text of its first channel */
  uint32_t n;
} lv_app_chans;
typedef struct lv_app_use { /* what was published in an app since the logs were opened (usage.c) */
  _Atomic(struct lv_app_use *) next;
  lv_use_sum in[LV_DURABILITY_COUNT]; /* each under the vis of its log */
  uint32_t n_app;
  uint8_t app[];
} lv_app_use;
typedef _Atomic(lv_chan_own *) lv_chan_slot;
typedef struct lv_chan_table { /* open addressing, insert only; replaced whole when it grows */
  uint32_t cap, n;
  struct lv_chan_table *older;
  lv_chan_slot slot[];
} lv_chan_table;
typedef struct lv_registry {
  pthread_mutex_t ensure_mu; /* held while a declaration is appended */
  pthread_mutex_t keep_mu;   /* keep_* fields of channels */
  _Atomic(lv_chan_table *) table;
  _Atomic(lv_chan_slot *) chunk[LV_CHAN_CHUNKS];
  _Atomic uint32_t next_id, count;
  _Atomic(lv_app_use *) use; /* a list that only grows, under ensure_mu */
  lv_app_chans *apps;        /* under ensure_mu */
  uint32_t n_apps;
} lv_registry;
void lv__registry_init(lv_registry *r);
void lv__registry_done(lv_registry *r);
/* From a channel's newest CHAN record, at open. LV_E_CORRUPT. @thread main */
int lv__registry_load(lv_embedded *b, const lv_rec *rec);
int lv__registry_ensure(lv_broker *base, const lv_chan_conf *conf, uint32_t app_id,
                        uint32_t max_channels, lv_chan **ret_chan);
/* Appends once more the declarations in l's log that end behind `from`, which a failed sync may
 * have lost. With the role. */
int lv__registry_redeclare(lv_lane *l, uint64_t from);
lv_chan *lv__registry_find(lv_broker *base, lv_slice app, lv_slice name);
lv_chan *lv__registry_chan(lv_broker *base, uint32_t id);
/* Reads the value of a CHAN record; slices point into it. LV_E_CORRUPT, LV_E_FORMAT. */
int lv__chan_value_read(const lv_rec *rec, lv_chan_conf *ret_conf, uint32_t *ret_id);
static inline lv_chan_own *lv__registry_get(lv_registry *r, uint32_t id) {
  if (id / LV_CHAN_CHUNK >= LV_CHAN_CHUNKS) return NULL;
  lv_chan_slot *chunk = atomic_load_explicit(&r->chunk[id / LV_CHAN_CHUNK], memory_order_acquire);
  return chunk ? atomic_load_explicit(&chunk[id % LV_CHAN_CHUNK], memory_order_acquire) : NULL;
}
bool lv__registry_policy(lv_registry *r, uint32_t id, uint64_t *keep_ms, uint64_t *keep_bytes,
                         uint64_t *keep_count);

/* usage.c: metering of what becomes visible. */
/* The app's sums, made on demand. Under ensure_mu, or at open. */
lv_app_use *lv__app_use(lv_registry *r, lv_slice app);
void lv__app_use_done(lv_registry *r);
/* So many messages of a channel have become visible, the last at that time. Under vis. */
void lv__use_seen(lv_lane *l, lv_chan_own *chan, lv_use_sum sum, lv_wall at);

/* reader.c: a queue of reads and fetches, and the thread that serves them. */
typedef struct lv_reader {
  pthread_rwlock_t retain; /* read: a look-up and what retention says about it; write: retention */
  pthread_t thread;
  pthread_mutex_t mu;
  pthread_cond_t more;
  lv_mail *head, **tail;
  bool stop, started;
} lv_reader;

/* keeper.c: the housekeeper. */
typedef struct lv_keeper {
  pthread_t thread;
  pthread_mutex_t mu;
  pthread_cond_t wake;
  bool stop, started, poked, round;
} lv_keeper;

struct lv_embedded {
  lv_broker base;
  lv_embedded_conf conf;
  lv_disk *disk;
  bool own_disk;
  lv_lane lane[LV_DURABILITY_COUNT];
  _Atomic(lv_port *) port[LV_LOOPS_MAX];
  _Atomic int n_ports;           /* indexes in use are below it */
  _Atomic uint32_t n_interested; /* loops that want the feed; changed under every vis */
  _Atomic uint32_t ports_over;   /* loops whose feed is over the bound */
  _Atomic uint32_t must_commit;  /* waiters that may not be held up by it */
  _Atomic bool space_low, closing;
  _Atomic uint64_t queued_bytes, tail_bytes, disk_bytes;
  _Atomic uint32_t io_errors;
  lv_registry registry;
  lv_reader reader;
  lv_keeper keeper;
  /* sync thread of the disk log */
  pthread_t sync_thread;
  pthread_mutex_t sync_mu;
  pthread_cond_t sync_wake;
  bool sync_wanted, sync_stop, sync_started;
};

static inline lv_embedded *lv__embedded(lv_broker *base) {
  lv_embedded *b = (lv_embedded *)base;
  assert(base->magic == LV_EMBEDDED_MAGIC);
  return b;
}

/* seek.c: seeks are served by the reader thread. */
int lv__seek(lv_broker *base, lv_seek *seek);
bool lv__is_seek(const lv_mail *mail);
void lv__seek_serve(lv_embedded *b, lv_seek *seek);

/* writer.c: publishing, the role, visibility. */
int lv__lane_publish(lv_broker *base, lv_batch *batch);
/* Takes the role, waiting for it. @thread any; loops only to declare a channel */
void lv__role_take(lv_lane *l);
/* Gives it back and serves what was left in the queue meanwhile. */
void lv__role_drop(lv_lane *l);
/* Appends what is queued, if nobody does. @thread any */
void lv__lane_kick(lv_lane *l);
/* Notes that appending or syncing failed, or (0) that it worked again; says so once. */
void lv__lane_trouble(lv_lane *l, int err);
/* Makes finished batches visible or fails them, completes all; takes over the list's references. */
void lv__lane_finish(lv_lane *l, lv_batch *list);
/* Appends one record at once; what is appended to this log from now on is safe only together with
 * it. Does not wait for a sync. ret_end: where it ends. With the role. */
int lv__lane_append(lv_lane *l, const lv_rec_in *in, uint64_t *ret_end);
/* Publishes one record and waits until it is safe. @thread any */
int lv__lane_commit(lv_lane *l, const lv_rec_in *in);
/* One round of a log's sync: begin, fdatasync, finish, completion. True: more waits already. */
bool lv__lane_sync(lv_lane *l);
void *lv__sync_main(void *arg);
/* Reopens a broken log; false: still broken. With the role, no sync or job in flight. */
bool lv__lane_mend(lv_lane *l);
/* Takes over the epoch of its log, after an open or a reopen. Holds vis, or nothing runs yet. */
void lv__lane_epoch(lv_lane *l);

/* Up to max places of n_ids channels (or pseudo channels) with from <= lsn < until, by lsn: the
 * count or an error; below *ret_upto none is left out. Release them. @thread any */
int lv__places_merge(lv_elog *l, const uint32_t *ids, uint32_t n_ids, uint64_t from, uint64_t until,
                     lv_elog_at *at, uint32_t max, uint64_t *ret_upto);
int lv__reader_read(lv_broker *base, lv_read *read);
int lv__reader_fetch(lv_broker *base, lv_fetch *fetch);
void lv__reader_enqueue(lv_embedded *b, lv_mail *mail);
int lv__reader_start(lv_embedded *b);
void lv__reader_stop(lv_embedded *b);

/* Takes over what the log says about each channel's retained range. With `retain` for writing, or
 * before threads start. */
void lv__lane_mirror(lv_lane *l);
/* Next segments now; everything now. @thread any */
void lv__keeper_poke(lv_embedded *b);
void lv__keeper_round_soon(lv_embedded *b);
int lv__keeper_start(lv_embedded *b);
void lv__keeper_stop(lv_embedded *b);

/* Opens without starting the threads: for looking only, then abandon. @thread main */
int lv__embedded_open_quiet(const lv_embedded_conf *conf, lv_embedded **ret, char *ret_why);
/* Closes as a crash would: nothing is written any more. For tests. @thread main */
void lv__embedded_abandon(lv_broker *base);

#endif
