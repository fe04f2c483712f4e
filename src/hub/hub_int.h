/* hub_int.h: what the files of hub/ share.
 *
 *   lv_hub ── loops[i]: lv__hub_loop ── chans[id]: lv__hub_chan ── groups (one a variant)
 *                            │                                        │ live subscriptions
 *                            └ conns: lv__hub_conn ── subs ───────────┘ cached snapshot
 *
 * A subscription's life (pump.c):
 *   WAIT snapshot and place are looked for → GREET they are known → SEND snapshot, told gap →
 *   LAG reads the log from its cursor → LIVE is in its group's list
 *
 * The ledger: a message of the feed counts as owed to a subscription that has begun, whether it is
 * live or still reads the log (`behind`); then it is behind, held or in the send queue (pending),
 * and ends as delivered or as a drop. Messages from before it began (snapshots, replays) are
 * counted apart.
 *
 * Everything of one lv__hub_loop belongs to its loop's thread. */
#ifndef LV_HUB_INT_H
#define LV_HUB_INT_H
#include "access/access.h"
#include "core/map.h"
#include "hub/hub.h"
#include "net/ws.h"
#include "wire/hubmsg.h"

enum {
  LV__HUB_MAGIC = 0x48554230,
  LV__HUB_CONN_MAGIC = 0x48554243,
  LV__HUB_SNAPSHOT_BYTES = 8 << 20, /* the newest that fit */
  LV__HUB_ANSWER_BYTES = 64 << 20,  /* of GET /snapshot */
  LV__HUB_READ_COUNT = 256,         /* of one read of the log */
  LV__HUB_READ_BYTES = 256 * 1024,
  LV__HUB_CACHE_S = 3, /* a snapshot that nobody asks for goes after this */
  LV__HUB_APPS = 1024,
  LV__HUB_ID_LEN = 24,
  LV__HUB_PING_MS = 30000,
  LV__HUB_IN_MAX = 64 * 1024, /* a message from a customer */
  LV__HUB_SMALL = 8 * 1024,   /* a frame that is copied where it would keep a block */
};

typedef struct lv__hub_loop lv__hub_loop;
typedef struct lv__hub_chan lv__hub_chan;
typedef struct lv__hub_group lv__hub_group;
typedef struct lv__hub_conn lv__hub_conn;
typedef struct lv__hub_sub lv__hub_sub;

/* ---- variants and frames (frame.c) ---- */

enum lv__transport { LV__OVER_WS, LV__OVER_SSE, LV__OVER_REST };
/* What the bytes of a message depend on. */
typedef struct lv__variant {
  uint8_t gen, encoding, format; /* enum lv_hub_gen, _encoding, _format */
  uint8_t transport;             /* enum lv__transport */
  bool pos;
  bool deflate; /* WebSocket: compressed, once for all, where that is shorter */
} lv__variant;
static inline bool lv__variant_eq(lv__variant a, lv__variant b) {
  return a.gen == b.gen && a.encoding == b.encoding && a.format == b.format &&
         a.transport == b.transport && a.pos == b.pos && a.deflate == b.deflate;
}

typedef struct lv__frame {
  lv_block *block; /* borrowed, unless it says otherwise */
  const uint8_t *p;
  uint32_t n;
} lv__frame;

/* Where frames are written, one behind the other. */
typedef struct lv__frames {
  lv_block *block;
} lv__frames;

/* Whether a frame of `bound` bytes fits behind the last one. */
static inline bool lv__frames_fit(const lv__frames *f, uint32_t bound) {
  return f->block && f->block->cap - f->block->used >= bound;
}
/* Makes room: false when memory is out for a large one. */
bool lv__frames_room(lv__frames *f, uint32_t bound);
uint32_t lv__frame_bound(lv__variant v, const lv_hub_data *d);
/* Writes the frame of d behind the last one (there is room for its bound). */
int lv__frame_put(lv__hub_loop *hl, lv__frames *f, lv__variant v, const lv_hub_data *d,
                  lv__frame *ret);
/* What is to be encoded. */
lv_hub_data lv__data_of(const lv__hub_loop *hl, const lv_chan *chan, const lv_rec *rec, bool pos);
/* Events that end within the first n bytes of a stream: for lv_outq_unsent. */
uint32_t lv__sse_whole(const uint8_t *p, uint32_t n);
/* Whether the publisher's expiry has passed. */
bool lv__rec_expired(const lv__hub_loop *hl, const lv_rec *rec);

/* ---- what a subscription lets through (filter.c) ---- */

typedef struct lv__filter {
  uint32_t refs;
  lv_auth *auth;    /* NULL: may read all of the channel */
  lv_slice pattern; /* over the original topic; empty: all */
  uint32_t n_cats;
  lv_slice cats[]; /* the text of all lies behind them */
} lv__filter;
/* NULL: everything passes. keys: over the key levels; empty: all. */
lv__filter *lv__filter_new(const lv_chan *chan, lv_auth *check, lv_slice keys, const lv_slice *cats,
                           uint32_t n_cats);
lv__filter *lv__filter_ref(lv__filter *f);
void lv__filter_unref(lv__filter *f);
bool lv__filter_pass(const lv__filter *f, const lv_rec *rec);
/* The topic filter of a channel's messages whose keys match `keys`, into dst (>= 66 + keys.n). */
lv_slice lv__filter_topic(lv_slice channel, lv_slice keys, uint8_t *dst);

/* ---- snapshots (snap.c) ---- */

typedef struct lv__snap_frame {
  lv__frame f; /* one reference to the block */
  uint64_t offset;
  uint64_t key; /* with `snapshot: keys`: its hash, and its record's size */
  uint32_t size;
  uint32_t use_steps; /* of usage.h */
} lv__snap_frame;
/* The last messages of a channel in one variant; never changed. */
typedef struct lv__snap {
  uint32_t refs, n;
  uint32_t max;         /* as many as were asked for */
  uint64_t lsn_end;     /* what of the channel lies before this was looked at */
  uint64_t next_offset; /* of the first message that was not */
  uint64_t bytes;
  uint32_t blocks; /* that hold them: a frame keeps all of its block */
  lv__snap_frame f[];
} lv__snap;
void lv__snap_unref(lv__snap *s);

typedef struct lv__snap_wait {
  struct lv__snap_wait *next, **pprev; /* pprev NULL: does not wait */
  /* With one reference, or NULL and why. Never inside lv__snap_ask. */
  void (*done)(struct lv__snap_wait *wait, lv__snap *snap, int err);
  uint64_t need; /* it must reach to this offset */
} lv__snap_wait;

/* How long a channel's snapshot is; 0: the last message of each key. */
uint32_t lv__hub_snap_max(const lv_app *app, const lv_chan *chan);
/* The last `max` messages, or the last of each key: the snapshot if there is a fresh one (a
 * reference), else NULL: `wait` is told. filter: a reference is taken. */
lv__snap *lv__snap_ask(lv__hub_loop *hl, lv__hub_group *g, lv__filter *filter, uint32_t max,
                       lv__snap_wait *wait);
void lv__snap_cancel(lv__snap_wait *wait);
/* Tells all who wait that the loop ends. */
void lv__snap_jobs_end(lv__hub_loop *hl);
void lv__snap_jobs_free(lv__hub_loop *hl);

/* ---- channels and groups ---- */

struct lv__hub_group {
  lv__hub_group *next; /* of its channel */
  lv__hub_chan *ch;
  lv__variant v;
  lv__hub_sub **subs; /* the live ones first */
  uint32_t n_live, n_all, cap;
  uint32_t n_subs; /* all, and requests that want its snapshot */
  lv__snap *snap;  /* cached; NULL: none */
  struct lv__snap_job *job;
  int64_t used_ns; /* when the snapshot was last asked for */
};

typedef struct lv__run_rec { /* a message of the batch that is being fanned out */
  const lv_rec *rec;
  uint8_t kind;
} lv__run_rec;

struct lv__hub_chan {
  lv_chan *chan;
  lv__hub_group *groups;
  uint32_t n_subs;
  uint64_t seen_end;   /* behind the last message that the feed gave us */
  uint64_t known_from; /* and it gave us all from here */
  lv__run_rec *run;
  uint32_t n_run, cap_run;
  lv__hub_chan *touched; /* next with a run */
};

/* The channel's part here, made on demand; the group of a variant. */
lv__hub_chan *lv__hub_chan_get(lv__hub_loop *hl, lv_chan *chan);
lv__hub_group *lv__hub_group_get(lv__hub_loop *hl, lv__hub_chan *ch, lv__variant v);

struct lv__hub_loop {
  lv_hub *hub;
  lv_loop *loop;
  lv_shard *shard;
  lv_broker *broker;
  lv_feed feed;
  lv_shard_watch watch;
  bool on;
  lv_pos on_from;       /* the feed gives everything from here */
  lv_pos seen;          /* and has given everything before here */
  lv__hub_chan **chans; /* by channel id */
  uint32_t n_chans;
  lv__frames frames;
  uint8_t *tmp;
  uint32_t tmp_cap;
  lv__hub_conn *conns;
  uint32_t n_conns, idle_s;
  lv__hub_conn *doomed; /* to be closed when the fan-out is through */
  struct lv__snap_job *jobs;
  struct lv__lag_read *reads;
  struct lv__seek_job *seeks;
  lv_timer tick;
  lv_hook hook;
  bool ended; /* the loop stops: nothing more is read */
  struct lv__hub_epoch {
    char now[LV_EPOCH_SIZE], before[LV_EPOCH_SIZE]; /* before: what now followed while we ran */
    uint64_t from;                                  /* now is the epoch of records from here on */
  } epoch[LV_DURABILITY_COUNT];
  uint32_t epochs; /* as of this count of the broker's */
};

struct lv_hub {
  uint32_t magic;
  lv_realm *realm;
  lv_broker *broker;
  lv__hub_loop *loops[LV_LOOPS_MAX];
  _Atomic uint32_t app_conns[LV__HUB_APPS]; /* by app id; those above share the last */
};
static inline lv__hub_loop *lv__hub_here(void *hub, const lv_loop *loop) {
  lv_hub *h = hub;
  assert(h->magic == LV__HUB_MAGIC);
  return h->loops[loop->index];
}
/* Looks whether a log took a new epoch. */
void lv__hub_epochs(lv__hub_loop *hl);
/* The epoch in a record's position: what lies in front of a new one was seen under the old name, or
 * will be, and the new one may have given its offset away. */
static inline lv_slice lv__hub_epoch(const lv__hub_loop *hl, uint8_t log, uint64_t lsn) {
  const struct lv__hub_epoch *e = &hl->epoch[log];
  return lv_slice_str(lsn < e->from && e->before[0] ? e->before : e->now);
}
/* Switches the feed on; off comes by itself. */
void lv__hub_wake(lv__hub_loop *hl);
void lv__hub_feed(lv_loop *loop, lv_batch *batch, void *arg); /* fan.c */

/* ---- subscriptions ---- */

enum lv__sub_state { LV__SUB_WAIT, LV__SUB_GREET, LV__SUB_SEND, LV__SUB_LAG, LV__SUB_LIVE };

struct lv__hub_sub {
  lv__hub_sub *next; /* of its connection, in the order asked */
  lv__hub_conn *hc;
  lv__hub_group *group;
  lv__filter *filter; /* NULL: all */
  struct lv__hold *hold;
  uint64_t from;   /* LIVE: takes nothing from before; LAG: its cursor */
  uint64_t start;  /* messages from here on are owed; UINT64_MAX: not known yet */
  uint32_t place;  /* in group->subs */
  uint32_t behind; /* owed messages that it has still to read from the log */
  uint8_t state, slow;
  bool initial; /* of the request: greeted with CONNECTED */
  bool send;    /* the snapshot is wanted */
  bool once;    /* a repeated subscribe: only the answer and the snapshot */
  bool has_last;
  bool missing;                /* retention was faster */
  uint64_t last;               /* offset of the message before `from`, where positions are wanted */
  struct lv__opening *opening; /* until SEND is over */
};

/* What a subscription needs until it is live. */
typedef struct lv__opening {
  lv__snap_wait wait;
  lv__hub_sub *sub;
  lv__snap *snap;
  uint32_t sent; /* of its frames */
  lv_hub_since since;
  struct lv__seek_job *seek;
  bool gap, sought;
  char epoch[LV_HUB_EPOCH_MAX + 1]; /* of `since` */
  char gap_from[LV_HUB_POS_MAX + 1], gap_to[LV_HUB_POS_MAX + 1];
  const char *gap_reason;
} lv__opening;

/* What most customers do not ask for, or is short: the texts lie behind the categories. */
typedef struct lv__hub_wish {
  uint32_t user_n, keys_n, n_cats;
  lv_slice cats[];
} lv__hub_wish;

lv__hub_wish *lv__hub_wish_new(const lv_hub_query *q); /* for free(); NULL: none */

/* Why a connection is to be closed, when the fan-out is through. */
typedef struct lv__hub_doomed {
  lv__hub_conn *next;
  const char *why;
  uint16_t code;
} lv__hub_doomed;

/* Paid by each idle customer, and looked at for each delivery: what that needs comes first. */
struct lv__hub_conn {
  uint32_t magic;
  uint8_t proto; /* enum lv_kpi_proto */
  lv__variant v;
  bool has_since, closing, pumping, again;
  lv_conn *conn;
  lv_ws_conn *ws; /* NULL: an event stream */
  lv_chan *only;  /* whose messages alone may be in the send queue; NULL: several channels' */
  lv__hub_loop *hl;
  lv_auth *auth;
  lv__hub_sub *subs;
  lv__hub_conn *next, **pprev; /* in hl->conns */
  lv_auth_term *term;          /* NULL: it has no end */
  struct lv__lag_read *read;   /* under way; NULL: none */
  lv__hub_doomed *doom;        /* NULL: it is not to be closed */
  lv__hub_wish *wish;          /* NULL: none */
  uint32_t n_subs, conflate_ms;
  uint32_t use_since; /* lv_use_connect */
  uint8_t id[LV__HUB_ID_LEN / 2];
};
static_assert(sizeof(lv__hub_conn) <= 136, "paid by each idle connection");
static inline lv_slice lv__hub_user_id(const lv__hub_conn *hc) {
  const lv__hub_wish *w = hc->wish;
  return w ? (lv_slice){(const uint8_t *)(w->cats + w->n_cats), w->user_n} : (lv_slice){NULL, 0};
}
static inline lv_slice lv__hub_keys(const lv__hub_conn *hc) {
  const lv__hub_wish *w = hc->wish;
  return w ? (lv_slice){(const uint8_t *)(w->cats + w->n_cats) + w->user_n, w->keys_n}
           : (lv_slice){NULL, 0};
}

static inline lv_metrics *lv__hub_row(const lv__hub_conn *hc) {
  return lv_metrics_row(hc->hl->loop->metrics, hc->auth->app_id, hc->proto);
}
static inline lv_metrics *lv__hub_app_row(const lv__hub_conn *hc) {
  return lv_metrics_row(hc->hl->loop->metrics, hc->auth->app_id, LV_KPI_NONE);
}

/* conn.c: what WebSocket and event streams have in common */
typedef struct lv__hub_ask { /* a request that was judged */
  lv_hub_query q;
  lv_auth *auth;
  lv_chan *chans[LV_HUB_CHANNELS_MAX];
  char why[LV_HUB_WHY_MAX];
  uint8_t scratch[];
} lv__hub_ask;
/* 0 and what was asked for; else the call was answered. */
int lv__hub_ask_new(lv__hub_loop *hl, lv_http_call *call, lv_slice channel, uint8_t gen,
                    uint8_t transport, lv__hub_ask **ret);
void lv__hub_ask_free(lv__hub_ask *ask);
/* A channel by name, created where that is allowed: 0, LV_E_FORBIDDEN, LV_E_NOT_FOUND, … */
int lv__hub_channel(lv__hub_loop *hl, const lv_auth *auth, lv_slice name, lv_slice keys,
                    lv_chan **ret);
/* Counts it among the app's connections until lv__hub_conn_free; NULL: one too many. */
lv__hub_conn *lv__hub_conn_new(lv__hub_loop *hl, const lv__hub_ask *ask, uint8_t gen,
                               uint8_t transport, bool tls);
/* A customer subscribes or unsubscribes while connected. */
void lv__hub_subscribe(lv__hub_conn *hc, const lv_hub_client *c);
void lv__hub_unsubscribe(lv__hub_conn *hc, lv_slice channel);
/* The connection is there: subscriptions begin. */
void lv__hub_conn_start(lv__hub_conn *hc, lv__hub_ask *ask);
/* It is gone (the send queue still holds what was not sent). */
void lv__hub_conn_gone(lv__hub_conn *hc);
void lv__hub_conn_free(lv__hub_conn *hc);
/* use: what the msgs messages in it come to when they are delivered. */
void lv__hub_send(lv__hub_conn *hc, const lv__frame *f, uint32_t msgs, lv_mono stamp, lv_use use);
/* The same for a frame whose neighbours in its block are not sent to it: a small one by copy, since
 * a customer who reads slowly would keep a whole block for each. */
void lv__hub_send_alone(lv__hub_conn *hc, const lv__frame *f, uint32_t msgs, lv_mono stamp,
                        lv_use use);
void lv__hub_say(lv__hub_conn *hc, lv_hub_event *e);
void lv__hub_sent(lv__hub_conn *hc, uint32_t n, lv_mono stamp, lv_use use);
void lv__hub_drained(lv__hub_conn *hc);
/* Later in this turn, safe while lists are walked. */
void lv__hub_doom(lv__hub_conn *hc, uint16_t code, const char *why);
void lv__hub_doomed_close(lv__hub_loop *hl);
void lv__hub_reloaded(void *arg, lv_conf *conf);

/* pump.c */
lv__hub_sub *lv__hub_sub_new(lv__hub_conn *hc, lv_chan *chan, const lv_hub_since *since,
                             bool initial, bool send);
void lv__hub_sub_free(lv__hub_sub *sub, enum lv_counter why); /* of its hc->subs, too */
/* A message of the feed, for a subscription that reads the log: it is owed from now on. */
static inline bool lv__hub_sub_later(const lv__hub_sub *sub, const lv_rec *rec) {
  return sub->state != LV__SUB_LIVE && !sub->once && rec->lsn >= sub->start &&
         rec->lsn >= sub->from && !sub->hc->closing && lv__filter_pass(sub->filter, rec);
}
void lv__hub_pump(lv__hub_conn *hc);
void lv__lag_reads_free(lv__hub_loop *hl);
void lv__lag_orphan(lv__hub_conn *hc);
void lv__opening_free(lv__opening *o);
uint8_t lv__hub_slow_of(const lv__hub_conn *hc, const lv_chan *chan);
/* What the document says of the channel, or of those that it does not name. */
const lv_chan_conf *lv__hub_conf(const lv_app *app, const lv_chan *chan);
lv__filter *lv__hub_filter(const lv__hub_conn *hc, const lv_chan *chan);

/* hold.c: messages that wait for a slow customer, or for their time */
bool lv__hub_slow(const lv__hub_conn *hc);
/* One message for a live subscription that was counted as owed. */
void lv__hold_give(lv__hub_sub *sub, const lv__frame *f, const lv_rec *rec, lv_mono stamp);
void lv__hold_flush(lv__hub_sub *sub);
/* Lets go of everything, counted as drops for that reason. */
void lv__hold_free(lv__hub_sub *sub, enum lv_counter why);
/* Messages that wait in it. */
uint32_t lv__hold_count(const lv__hub_sub *sub);
static inline bool lv__hold_plain(const lv__hub_sub *sub) {
  return !sub->hold && !sub->hc->conflate_ms;
}
/* Ledger: n messages with so many value bytes were put into the send queue; or dropped. */
void lv__hub_count_queued(lv__hub_sub *sub, uint32_t n, uint64_t bytes);
void lv__hub_count_owed(lv__hub_sub *sub, uint32_t n);
void lv__hub_count_drop(lv__hub_sub *sub, enum lv_counter why, uint32_t n);

/* routes: ws.c, sse.c, rest.c */
void lv__hub_ws(lv_http_call *call, void *hub);
void lv__hub_ws09(lv_http_call *call, void *hub);
void lv__hub_events(lv_http_call *call, void *hub);
void lv__hub_snapshot(lv_http_call *call, void *hub);
extern const lv_conn_ops lv__hub_sse_ops;

#endif
