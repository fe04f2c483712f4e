/* broker.h: the contract between Lavva and a cluster, whatever its type.
 *
 * A cluster keeps channels: named, ordered, durable streams of records (core/rec.h). One vtable of
 * a dozen functions, plus flags that say what a type can do. broker/conformance runs one suite
 * against every implementation.
 *
 * What every implementation guarantees
 *  1. `done` of a batch runs exactly once, on the batch's loop, never inside publish, and in the
 *     order in which that loop published to that log. err 0 means every record of the batch is as
 *     safe as its channel's durability says; an error means that none was acknowledged (some may
 *     still become visible after a failure whose outcome is unknown: LV_E_IO).
 *  2. Records of one loop to one channel keep the order in which they were published.
 *  3. Nothing reaches a feed or a read before it is as safe as its channel asks. Visible records
 * are never taken back; an (epoch, offset) that was seen never names another message.
 *  4. Every loop that is attached gets every visible batch of a log in one and the same order, lsn
 *     ascending, without gap or repeat from the moment of attaching.
 *  5. publish never blocks on the cluster: it queues, bounded by the caller watching `queued`.
 *
 * KPIs that every implementation counts: BR_IN per message that became visible; BR_OUT and HUB_IN
 * (the hand-over is one event in this process) per message that the feed gave to at least one loop,
 * and per message that a read returned. Layers above count neither.
 *
 * Positions: a record's place is (log, lsn); lsn grows within a log. A customer sees EPOCH-OFFSET.
 */
#ifndef LV_BROKER_BROKER_H
#define LV_BROKER_BROKER_H
#include "broker/chan.h"
#include "core/loop.h"
#include <stdatomic.h>

enum lv_broker_cap {
  LV_CAP_REPLAY = 1,          /* read from an old position */
  LV_CAP_POSITION = 2,        /* records carry offsets */
  LV_CAP_POSITION_ON_ACK = 4, /* known when `done` runs */
  LV_CAP_REPLICATION = 8,
  LV_CAP_DEDUPLICATION = 16,
  LV_CAP_LAST_PER_KEY = 32,
  LV_CAP_COUNT_RETENTION = 64,
  LV_CAP_STATE = 128, /* keyed state rides the same commit */
};

typedef struct lv_broker lv_broker;

/* A point in each of the cluster's logs: everything with lsn < pos.lsn[log] is behind it. */
typedef struct lv_pos {
  uint64_t lsn[LV_DURABILITY_COUNT];
} lv_pos;

/* The live feed: called on the attached loop for each visible batch. The records stay valid while
 * the callee holds a reference to batch->block (or to the batch). @thread loop */
typedef void lv_feed_fn(lv_loop *loop, lv_batch *batch, void *arg);

/* One taker of the feed on a loop: MQTT sessions are one, the hub is another. The memory is the
 * taker's, and stays until the loop has stopped. */
enum { LV_FEEDS_MAX = 4 }; /* on one loop */
typedef struct lv_feed {
  lv_feed_fn *fn;
  void *arg;
  /* the cluster's */
  lv_pos from; /* gives nothing from before this */
  bool on;
  bool more; /* while fn runs: another batch follows at once */
} lv_feed;

/* A bounded read of the messages (kind MSG) of one log in lsn order, completed by mail. */
typedef struct lv_read {
  lv_mail mail;
  lv_loop *loop;
  uint8_t log;
  uint64_t from;         /* first lsn wanted */
  uint64_t until;        /* exclusive; UINT64_MAX: up to what is visible now */
  lv_chan *const *chans; /* only these (sorted by id; borrowed until done); NULL: every channel */
  uint32_t n_chans;
  uint32_t max_count, max_bytes; /* stops after either; at least one record is returned if any */
  void (*done)(struct lv_read *read); /* @thread loop: exactly once */
  void *arg;
  /* results */
  int err;
  uint64_t next;           /* continue here; everything before it has been looked at */
  uint64_t visible;        /* the log's visible end when the read finished */
  uint64_t missing_before; /* records with lsn below this were wanted but are no longer retained;
                              0: none */
  const lv_rec **recs;     /* n records, valid until lv_broker_read_free */
  uint32_t n;
  void *priv;
  struct lv_broker *broker; /* private */
} lv_read;

/* A read of named records (a session's inflight after a restart), completed by mail; recs[i] is
 * NULL where lsns[i] is no longer retained. */
typedef struct lv_fetch {
  lv_mail mail;
  lv_loop *loop;
  uint8_t log;
  const uint64_t *lsns; /* ascending; borrowed until done */
  uint32_t n;
  void (*done)(struct lv_fetch *fetch);
  void *arg;
  int err;
  const lv_rec **recs;
  void *priv;
} lv_fetch;

/* Where something in a channel is in its log, completed by mail: how a reader that knows an offset,
 * a number of messages or a time finds where to read from. */
enum lv_seek_by {
  LV_SEEK_OFFSET, /* the first message with offset `value` or more */
  LV_SEEK_LAST,   /* the oldest of the last `value` messages */
  LV_SEEK_TIME,   /* the first that was ingested at `value` (ns since 1970) or later */
  /* The first that somebody whose newest message was `epoch`-(value - 1) may not have seen: that
   * with offset `value` or more, but where a later epoch begins at the latest; all that is retained
   * if nothing is known of the epoch. */
  LV_SEEK_POS,
};
enum { LV_EPOCH_SIZE = 24 }; /* of an epoch's text, its end included */
typedef struct lv_seek {
  lv_mail mail;
  lv_loop *loop;
  const lv_chan *chan;
  uint8_t by; /* enum lv_seek_by */
  uint64_t value;
  lv_slice epoch;                     /* LV_SEEK_POS; lives until done */
  void (*done)(struct lv_seek *seek); /* @thread loop: exactly once, never inside seek */
  void *arg;
  /* results */
  int err;
  uint64_t lsn, offset;    /* of that message; where there is none, of the next to become visible */
  uint64_t first;          /* the channel's oldest retained offset */
  bool same_epoch;         /* LV_SEEK_POS: the epoch is the current one */
  char now[LV_EPOCH_SIZE]; /* LV_SEEK_POS: the current one */
} lv_seek;

/* Where the last message of one of a channel's keys is. */
typedef struct lv_last_at {
  uint64_t lsn;
  uint32_t size; /* of its record */
} lv_last_at;
/* The last messages of all its keys as of one moment: `until` is visible then, `next_offset` the
 * next message's. */
typedef struct lv_lasts {
  lv_last_at *at; /* ascending; heap, the caller frees */
  uint32_t n;
  uint64_t until, next_offset;
} lv_lasts;

typedef struct lv_broker_desc {
  const char *type;
  uint32_t caps;
  bool healthy;
  char detail[160]; /* what is wrong, when it is not */
  char epoch[LV_DURABILITY_COUNT][LV_EPOCH_SIZE];
  uint64_t epoch_from[LV_DURABILITY_COUNT]; /* the epoch is that of records from here on */
  uint64_t visible[LV_DURABILITY_COUNT], oldest[LV_DURABILITY_COUNT];
  uint64_t disk_bytes, tail_bytes;
  uint32_t channels, segments;
  uint64_t queued_bytes; /* published, not done */
  uint64_t feed_bytes;   /* visible, not yet handled by the loops that want them */
} lv_broker_desc;

typedef int lv_state_fn(void *arg, lv_slice key, lv_slice value, const lv_rec *rec, uint8_t log);

typedef struct lv_broker_ops {
  const char *type;
  uint32_t caps;
  /* Creates or finds a channel. What is published to it is never safe without its declaration.
   * LV_E_QUOTA over the limit given in `max_channels` of the app (0: none); LV_E_EXISTS if it
   * exists with another durability. May block for a write, not for a sync. @thread any */
  int (*ensure)(lv_broker *b, const lv_chan_conf *conf, uint32_t app_id, uint32_t max_channels,
                lv_chan **ret_chan);
  /* Finds a channel by app and name without creating it; NULL: none. @thread any */
  lv_chan *(*find)(lv_broker *b, lv_slice app, lv_slice name);
  /* Channel by the id in a record. @thread any, lock-free */
  lv_chan *(*chan)(lv_broker *b, uint32_t id);
  /* Registers a loop for publish, and a taker of its feed. ret_pos is what is visible now.
   * LV_E_QUOTA: the loop has LV_FEEDS_MAX. @thread loop */
  int (*attach)(lv_broker *b, lv_loop *loop, lv_feed *feed, lv_pos *ret_pos);
  /* Whether this taker wants the feed (no subscriptions: no work, no wake-ups; off after attach).
   * When it is switched on, returns the point from which the feed gives everything; the next batch
   * follows it without gap. @thread loop */
  lv_pos (*interest)(lv_broker *b, lv_loop *loop, lv_feed *feed, bool on);
  /* Hands a batch over (the caller keeps its own reference until done). @thread batch->loop */
  int (*publish)(lv_broker *b, lv_batch *batch);
  int (*read)(lv_broker *b, lv_read *read);
  int (*fetch)(lv_broker *b, lv_fetch *fetch);
  int (*seek)(lv_broker *b, lv_seek *seek);
  /* The last message of each key of a channel with `last_keys`, those that were published with it
   * (`fetch` reads them): at most so many keys and bytes, the newest. An empty value takes its key
   * away. Retention does not. LV_E_UNSUPPORTED without LV_CAP_LAST_PER_KEY. @thread any */
  int (*lasts)(lv_broker *b, lv_chan *chan, lv_lasts *ret);
  /* Newest visible point of each log. @thread any */
  lv_pos (*visible)(lv_broker *b);
  /* Calls fn for each live state record, each live retained message (kind MSG with RETAIN) and each
   * live QoS 2 publish (kind MSG with LV_REC_QOS2), in lsn order within each log, at start-up
   * before any publish. A QoS 2 publish is keyed state as well: its key is lv_rec_qos2_key; the
   * STATE record with that key and an empty value ends it. `key` is the topic of a STATE record,
   * that key for a QoS 2 publish (called apart from its retained role), else the message's topic.
   * @thread main */
  int (*replay)(lv_broker *b, lv_state_fn *fn, void *arg);
  /* @thread any */
  int (*describe)(lv_broker *b, lv_broker_desc *ret_desc);
  /* Commits what was published, closes, frees. Loops must have stopped (what their mailboxes still
   * owed is run here: `done` of batches) and must not have been freed. @thread main */
  void (*close)(lv_broker *b);
} lv_broker_ops;

/* Base of every implementation; the first member of its own struct. */
struct lv_broker {
  uint32_t magic;
  const lv_broker_ops *ops;
  /* 0, or why messages (not state) would fail now: then they are better refused than published. */
  _Atomic int refusing;
  /* Counted up before anything of a new epoch becomes visible. */
  _Atomic uint32_t epochs;
};

/* Runs on the thread that makes records visible, inside the critical section that orders the feed,
 * for every visible batch: where the retained store follows. Set before the first publish. */
typedef void lv_visible_fn(void *arg, const lv_batch *batch);

typedef struct lv_embedded_conf {
  const char *dir;             /* data folder; locked for this process */
  uint64_t segment_bytes;      /* default 64 MiB */
  uint64_t tail_bytes;         /* recent records kept in memory, per log */
  uint64_t disk_reserve_bytes; /* publishing stops (LV_E_DISK_FULL) while less is free */
  uint32_t sync_interval_ms;   /* background fdatasync of the memory log */
  struct lv_disk *disk;        /* NULL: the real one */
  lv_visible_fn *visible;
  void *visible_arg;
} lv_embedded_conf;

/* Opens (or creates) the embedded broker: recovers both logs, cuts torn tails, starts its threads.
 * LV_E_LOCKED, LV_E_FORMAT, LV_E_CORRUPT, LV_E_IO with a text in `ret_why` (>= 256 bytes).
 * @thread main */
int lv_embedded_open(const lv_embedded_conf *conf, lv_broker **ret_broker, char *ret_why);

/* Tells the small number of an app: channels that were found on disk have app_id UINT32_MAX until
 * then or until they are ensured. Before the loops run, and after a reload that adds apps. Does
 * nothing with another type of cluster.
 * @thread main */
void lv_embedded_app(lv_broker *b, lv_slice app, uint32_t app_id);

/* ---- metering (core/usage.h): what was published, by app, exactly and across any crash ---- */
/* What has become visible in one log since it was opened, of one app. @thread any */
typedef void lv_usage_app_fn(void *arg, lv_slice app, lv_use_sum sum);
/* Calls fn once an app; the sums and the address (everything before it is in them) belong together.
 * They hold the log up: fn must be quick. @thread any */
void lv_embedded_usage(lv_broker *b, uint8_t log, lv_usage_app_fn *fn, void *arg,
                       uint64_t *ret_lsn);
/* Calls fn for each message that the log held from lsn on when it was opened: what had become
 * visible after sums with that address were noted, and before the crash. app is that of its
 * channel; damaged records are left out. LV_E_IO. @thread any but loops */
typedef void lv_usage_rec_fn(void *arg, lv_slice app, const lv_rec *rec);
int lv_embedded_usage_since(lv_broker *b, uint8_t log, uint64_t lsn, lv_usage_rec_fn *fn,
                            void *arg);
/* Bytes that each channel's messages take in its log: those that retention has given up count until
 * they are freed, but not beyond the channel's limit in bytes, nor once none is left. @thread any
 */
typedef void lv_usage_stored_fn(void *arg, const lv_chan *chan, uint64_t bytes);
void lv_embedded_stored(lv_broker *b, lv_usage_stored_fn *fn, void *arg);

/* Frees the results of a finished read or fetch. @thread loop */
void lv_broker_read_free(lv_read *read);
void lv_broker_fetch_free(lv_fetch *fetch);

/* Whether (seq of) a live feed can be compared: the lsn behind the last record of a visible batch
 * is batch->lsn_end; its first record's lsn is lv_batch_first(batch)->lsn. */

#endif
