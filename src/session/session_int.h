/* session_int.h: what the files of session/ share. See session.h for the picture.
 *
 * Sizes matter: lv_sess is paid by each of 10,000 idle connections, so whatever an idle session
 * does not need is behind a pointer. */
#ifndef LV_SESSION_INT_H
#define LV_SESSION_INT_H
#include "session/retained.h"
#include "session/session.h"
#include "session/subindex.h"
#include <pthread.h>

enum { LV_SESS_MAGIC = 0x53455353, LV_SHARD_MAGIC = 0x53485244 };

/* The send queue's stamps carry the kind of delivery in their lowest bits. */
enum {
  LV_STAMP_ACKED = 1, /* QoS 1, 2, retained: not counted as delivered by the write */
  LV_STAMP_PART = 2,  /* the entry is the end of a packet that began in the one before */
  LV_STAMP_BITS = 3
};

/* While the broker's state is read back: a session's parts by session id. */
typedef struct lv_recovered {
  uint64_t sid;
  lv_sess *sess;
  uint8_t *progress;
  struct lv_in2_id *pids;
  uint32_t n_progress, n_pids;
  int64_t progress_ns; /* when it was written */
} lv_recovered;
typedef struct lv_recovery {
  uint64_t mask, n;
  lv_recovered slot[];
} lv_recovery;

typedef struct lv_realm_app {
  lv_slice name;
  uint32_t n_sessions;
} lv_realm_app;

enum { LV_SHARE_KEPT_SLOTS = 256 };
struct lv_realm {
  lv_broker *broker;
  lv_conf *conf;
  const lv_link_ops *link;
  lv_shard *shards[LV_LOOPS_MAX];
  int n_shards, n_entered;
  pthread_mutex_t lock; /* guards apps, clients and each session's owner and claims; never held on
                           the data path */
  lv_realm_app *apps;
  uint32_t n_apps;
  lv_sess **clients; /* app id + client id → session, chained by hash_next */
  uint32_t clients_mask, n_clients;
  lv_auth *auths; /* of the current document, one a key */
  uint64_t auth_serial;
  lv_retained *retained;
  lv_state_fn *replay_fn; /* lv_realm_on_replay */
  void *replay_arg;
  lv_recovery *recovery;                           /* during start-up */
  struct lv_share_kept *kept[LV_SHARE_KEPT_SLOTS]; /* stored shared subscriptions without a member
                                                      yet, by name */
  lv_sess *recovered;                              /* until the shards take theirs */
};

/* Topic → verdict and channel, for publishers of one key. */
typedef struct lv_topic_route {
  uint64_t hash, auth; /* serial of the lv_auth */
  lv_chan *chan;
  uint32_t gen;
  int16_t err;
  uint16_t key_off, len;
  uint16_t sys;
  uint8_t topic[];
} lv_topic_route;
enum { LV_ROUTES = 4096 };

struct lv_shard {
  uint32_t magic;
  lv_realm *realm;
  lv_loop *loop;
  lv_broker *broker;
  lv_pub *pub;
  lv_conf *conf;
  const lv_link_ops *link;
  lv_subindex **index; /* by app id */
  uint32_t n_index;
  lv_feed feed; /* ours of the broker's */
  lv_shard_watch *watches;
  lv_pos seen;             /* it has been handled up to here */
  uint32_t interest;       /* subscriptions; > 0: the feed is wanted */
  lv_topic_route **routes; /* LV_ROUTES direct-mapped */
  uint32_t routes_gen;
  lv_sess *sessions; /* all that it owns */
  lv_sess *saving;   /* progress must be stored this turn */
  lv_block *frames;  /* fanned-out packets are encoded here */
  lv_timer lazy;     /* once a second: lazy progress, $SYS */
  lv_hook hook;
  struct lv_share *shares; /* shared subscriptions whose home this is */
  uint64_t share_serial;
  uint64_t sys_next_ns;
  int64_t retained_n, retained_bytes; /* as last put into the gauges */
  bool feeding, quiet;
};

/* One outgoing QoS 1/2 message in flight. */
enum lv_out_state {
  LV_OUT_FREE,
  LV_OUT_STORE,  /* QoS 2: waits until its packet id is stored */
  LV_OUT_SENT,   /* PUBLISH sent, PUBACK or PUBREC due */
  LV_OUT_REC,    /* PUBREC received, waits until that is stored */
  LV_OUT_REL,    /* PUBREL sent, PUBCOMP due */
  LV_OUT_RESEND, /* after a reconnect: to be sent again with DUP once fetched */
  LV_OUT_DONE    /* finished out of order */
};
typedef struct lv_out {
  uint64_t lsn;
  lv_batch *hold; /* LV_OUT_STORE: keeps rec alive */
  const lv_rec *rec;
  struct lv_share_member *member; /* shared subscription it came through, or NULL */
  lv_mono read_at;
  uint32_t save_seq; /* progress record that makes it safe */
  uint32_t sub_id;
  uint16_t pid;
  uint8_t state, qos, log, flags; /* flags: enum lv_deliver_flag */
  uint32_t use_bytes;             /* of usage.h; 0: it was in flight before a restart */
} lv_out;

/* Ring of packet ids in sending order: window[(head + i) & mask]. */
typedef struct lv_window {
  uint32_t head, count, mask, live; /* live: entries that count against the receive maximum */
  lv_out e[];
} lv_window;

enum lv_deliver_flag {
  LV_DELIVER_RETAIN = 1, /* RETAIN is set in the packet */
  LV_DELIVER_REPLAY = 2, /* not a live first delivery: no latency sample */
  LV_DELIVER_STORED = 4, /* a retained message on subscribe: outside the ledger's owed */
  LV_DELIVER_SHARED = 8, /* through a shared subscription: its identifier is sub_id, 0: none */
};

/* One message on its way to one session. */
typedef struct lv_delivery {
  lv_batch *batch; /* live: holds rec */
  lv_block *block; /* else: holds rec; NULL when rec outlives the call only */
  const lv_rec *rec;
  struct lv_share_member *member; /* shared subscription it came through, or NULL */
  lv_mono read_at;
  uint32_t sub_id;         /* of the shared subscription */
  uint32_t slot;           /* of the channel's KPIs; 0: found when needed */
  uint8_t qos, log, flags; /* enum lv_deliver_flag */
} lv_delivery;

/* Deliveries that wait for room. */
typedef struct lv_pend {
  lv_delivery d; /* with references */
  uint32_t held; /* bytes of memory that it keeps alive, unless its predecessor does */
} lv_pend;
/* Which waiting QoS 0 delivery has a topic (conflate.c): slots hold numbers of deliveries. */
typedef struct lv_pend_index {
  uint32_t mask, used;
  struct {
    uint32_t hash, seq, set;
  } slot[];
} lv_pend_index;
typedef struct lv_pendq {
  uint32_t head, count, mask, n_q0;
  uint32_t seq;         /* number of the first; the others follow */
  lv_pend_index *index; /* NULL: nobody asked yet */
  uint64_t held;
  lv_pend e[];
} lv_pendq;

/* Inbound QoS 2 packet ids. The record that ends one goes to the log that has its message. */
enum { LV_IN_STORING = 1, LV_IN_STORED = 2, LV_IN_RELEASING = 3 };
typedef struct lv_in2_id {
  uint16_t pid;
  uint16_t next; /* of the same slot: place + 1, 0: none */
  uint8_t state, log;
  bool old; /* of an earlier connection: outside this one's Receive Maximum */
} lv_in2_id;
/* A table by packet id: cap entries, of which the first n are used, then cap slots. Clients number
 * in sequence, so each has a slot of its own. */
typedef struct lv_in2 {
  uint32_t n, n_old, cap; /* cap: a power of two */
  lv_in2_id e[];
} lv_in2;
static_assert(sizeof(lv_in2_id) == 8, "a client may have 65,535 of them");

/* Answers that are due to the client, in the order of its publishes (in.c). */
enum { LV_ANSWER_DUE = 0xFF };
typedef struct lv_answers {
  uint32_t head, count, mask;
  struct {
    uint16_t pid;
    uint8_t qos, reason; /* LV_ANSWER_DUE: the broker has not said yet */
  } e[];
} lv_answers;

typedef struct lv_will {
  uint32_t delay_s, expiry_s, n_topic, n_props, n_payload;
  bool has_expiry, retain;
  uint8_t qos;
  uint8_t bytes[]; /* topic, props, payload */
} lv_will;

/* Topic aliases, both directions: u16 length and bytes each, or NULL. */
typedef struct lv_alias {
  uint16_t in_max, out_max, out_n;
  uint8_t **in, **out; /* [alias - 1] */
  uint64_t *out_hash;
} lv_alias;

/* A session that reads the log instead of the feed. What it is owed is counted by the feed, as for
 * one that is offline, so that what retention takes from it is known. */
typedef struct lv_lag {
  lv_read read;
  bool reading, orphan;
  bool missing; /* retention took something */
  uint32_t q0;  /* QoS 0 that it counted, still to be read */
  lv_chan **chans;
  uint32_t n_chans, cap_chans;
  bool all;
} lv_lag;

struct lv_sess {
  uint32_t magic;
  uint32_t acks; /* acknowledgements of ours that are still with the broker */
  lv_shard *shard;
  lv_sess *prev, *next; /* of the shard */
  lv_sess *hash_next;
  lv_claim *claims; /* others who want this session; under realm->lock */
  void *conn;       /* NULL: not connected */
  lv_outq *outq;
  lv_auth *auth;
  lv_sub *subs;
  lv_window *win;
  lv_pendq *pend;
  lv_in2 *in2;
  lv_answers *answers; /* NULL: none since it connected */
  lv_alias *alias;
  lv_lag *lag; /* NULL: live (or no subscriptions) */
  struct lv_sess_more *more;
  uint32_t expiry_s; /* 0: ends with the connection */
  uint32_t n_subs, bytes /* stored state */;
  uint32_t pending;    /* owed, neither delivered nor dropped */
  uint32_t q0_queued;  /* of these: QoS 0, in the send queue */
  uint32_t answer_seq; /* number of the first of `answers` */
  uint32_t app_id;
  uint32_t max_packet;
  uint32_t use_since; /* of its connection (lv_use_connect) */
  uint16_t receive_max, in_unacked;
  uint16_t next_pid;
  uint16_t id_len;
  uint16_t in_max; /* Receive Maximum granted to this connection */
  uint8_t version, conn_epoch, durability;
  uint8_t save; /* 0 no, 1 lazily, 2 this turn */
  uint8_t persistent : 1, present : 1, ended : 1, clean_exit : 1, started : 1, in_saving : 1,
      releasing : 1, sub_ids : 1;
  uint8_t assigned : 1, request_problem : 1, stored : 1;
  uint8_t proto : 3;     /* enum lv_kpi_proto: how its client is, or was last, connected */
  uint8_t resending : 1; /* some of the window is not sent again yet (attach.c) */
  uint8_t elsewhere : 1; /* the log that is not `durability` has a record of it too */
  uint8_t held : 1;      /* the client is not read until answers have left (LV_E_BUSY) */
  bool in_transit;       /* between two shards; under realm->lock */
  char id[];             /* client id */
};

/* What only some sessions need. */
typedef struct lv_sess_more {
  uint64_t sid;  /* names the session in state records; 0: never stored */
  lv_pos cursor; /* while lagging or offline: everything before it has been handled */
  lv_will *will;
  lv_sess *save_next;  /* in shard->saving, or among the recovered */
  lv_timer timer;      /* expiry, will delay */
  lv_wall gone_at;     /* when the connection ended */
  lv_auth_term *term;  /* of the connection's token; NULL: none */
  int64_t stored_ns;   /* at start-up: when the record that was read last was written */
  lv_pos q0_from;      /* QoS 0 before this is not owed: published while the client was away, or
                          dropped when the session began to lag */
  lv_pos counted_upto; /* by the shard that owned the session before */
  uint32_t save_seq, saved_seq;
  struct lv_suback *subacks; /* SUBACKs that wait for their state, in order */
  uint32_t n_subacks;
  struct lv_gives *gives; /* retained messages on their way (give.c) */
  lv_sub **sub_table;     /* subscriptions by filter, once they are many (sub.c) */
  uint32_t sub_mask;
  lv_use_sum use_acked, use_saved; /* bill.c; use_saved waits for progress of number use_seq */
  uint32_t use_seq;
  uint32_t due_seq, due_done; /* the last number given to a subscription that wants retained
                                 messages; up to which they all have got them (give.c) */
  void (*ready)(void *conn, lv_sess *sess, bool present, int err);
  lv_fetch fetch;
  uint64_t *fetch_lsns;
  bool fetching, will_due, ready_present;
  uint8_t fetch_epoch;
  lv_sess *sess;
} lv_sess_more;

/* What owner and kind an acknowledgement has (lv_ack.flags). */
enum lv_ack_kind {
  LV_ACK_NONE = 0x7F, /* for store.c: no word wanted */
  LV_ACK_PUB = 0,     /* an inbound publish */
  LV_ACK_REL,         /* inbound QoS 2 released */
  LV_ACK_CONNECT,     /* session stored: CONNACK may leave */
  LV_ACK_SUB,         /* subscriptions stored: a queued SUBACK may leave (more in sub.c) */
  LV_ACK_SAVE,        /* progress stored */
};

/* token.c */
/* A credential's number, app and document; under no lock. */
void lv__auth_init(lv_realm *r, lv_auth *a, lv_conf *conf, const lv_app *app);
/* The same token in a new document; false: its signer is gone, or the app asks for other claims. */
bool lv__token_renew(lv_realm *r, lv_conf *conf, const lv_app *app, const lv_auth *old,
                     lv_auth **ret);
/* A token as it stands in a stored session, and back: NULL when its signer is gone. A key's id is
 * letters and digits; what begins with LV__TOKEN_MARK is a token. */
enum { LV__TOKEN_MARK = '.' };
struct lv_buf;
void lv__token_store(const lv_auth *a, struct lv_buf *b);
lv_auth *lv__token_load(lv_realm *r, lv_conf *conf, const lv_app *app, lv_slice stored);
/* Whether a session of `old` is also that of `now`: tokens share none with anybody else. */
bool lv__auth_same_owner(const lv_auth *old, const lv_auth *now);

static inline lv_slice lv_sess_id(const lv_sess *s) {
  return lv_slice_of(s->id, s->id_len);
}
static inline const lv_limits *lv__limits(const lv_sess *s) {
  return &s->auth->app->limits;
}
static inline lv_metrics *lv__metrics(const lv_shard *s) {
  return s->loop->metrics;
}
/* Where the KPIs of an app, or of a session, are counted on this loop. */
static inline lv_metrics *lv__kpi_app(const lv_shard *s, uint32_t app_id) {
  return lv_metrics_row(s->loop->metrics, app_id, LV_KPI_NONE);
}
/* n live first deliveries of a record, measured from its publisher's timestamp if it has one. */
static inline void lv__kpi_end_to_end(const lv_shard *s, lv_metrics *row, const lv_rec *rec,
                                      uint32_t n) {
  int64_t ms;
  if (lv_rec_tms(rec, &ms))
    lv_metrics_latency(s->loop->metrics, row, LV_LATENCY_END, s->loop->wall.ns - ms * 1000000, n);
}
static_assert(LV_KPI_WSS < 8, "lv_sess.proto has 3 bits; no session comes over what is behind it");
static inline lv_metrics *lv__kpi(const lv_sess *s) {
  return lv_metrics_row(s->shard->loop->metrics, s->app_id, s->proto);
}
/* n deliveries of one channel (slot 0: nobody knows which) to this row's subscribers end here. */
static inline void lv__kpi_drop(const lv_shard *s, lv_metrics *row, uint32_t app_id, uint32_t slot,
                                enum lv_counter why, uint64_t n) {
  if (n == 0) return;
  if (slot == 0) slot = lv_metrics_unknown_slot(app_id);
  lv_count(row, why, n);
  lv_chan_count(lv_metrics_chan_row(s->loop->metrics, slot), LV_CH_DROP_HUB, n);
}
/* A message of so many bytes is in n send queues for the first time. */
static inline void lv__kpi_sent(lv_metrics *row, lv_chan_row *chan, uint32_t n, uint32_t bytes) {
  lv_count(row, LV_C_HUB_OUT_BYTES, (uint64_t)n * bytes);
  lv_chan_count(chan, LV_CH_OUT, n);
  lv_chan_count(chan, LV_CH_OUT_BYTES, (uint64_t)n * bytes);
}
static inline uint32_t lv__kpi_slot_of(const lv_shard *s, const lv_rec *rec) {
  lv_chan *chan = s->broker->ops->chan(s->broker, rec->chan);
  return chan ? lv_chan_kpi(chan) : 0;
}
lv_subindex *lv__shard_index(lv_shard *s, uint32_t app_id);

/* claim.c */
lv_sess *lv__sess_recover(lv_realm *r, uint32_t app_id, lv_slice id); /* at start-up */
void lv__sess_clear(lv_sess *s);                                      /* Clean Start: as new */
void lv__sess_destroy(lv_sess *s);
void lv__sess_link(lv_shard *s, lv_sess *sess);
void lv__sess_unlink(lv_sess *sess);
void lv__sess_settle(lv_sess *sess); /* lets go of it when asked to and nothing is in flight */
void lv__sess_end(lv_sess *sess);    /* the session is over: forget all, everywhere */
lv_sess_more *lv__sess_more(lv_sess *sess);

/* bill.c: metering of acknowledged deliveries */
void lv__bill_acked(lv_sess *sess, const lv_out *o);
void lv__bill_saving(lv_sess *sess, uint32_t seq); /* progress of that number is written */
void lv__bill_saved(lv_sess *sess, uint32_t seq);  /* and is safe */
void lv__bill_detach(lv_sess *sess);
void lv__bill_all(lv_sess *sess); /* the session is over: nothing of it is done again */

/* out.c */
void lv__settle_pending(lv_sess *sess, uint32_t n);
void lv__deliver(lv_sess *sess, const lv_delivery *d);
void lv__out_pump(lv_sess *sess); /* sends what waits, as far as windows allow */
void lv__out_send(lv_sess *sess, const lv_delivery *d); /* now: there is room */
/* After a reconnect: PUBRELs that are due, then the fetched messages of one log with DUP. */
void lv__out_rerel(lv_sess *sess);
void lv__out_resend(lv_sess *sess, const lv_fetch *f);
/* How many of the n_resend messages that wait to be sent again may be, at this connection. */
uint32_t lv__out_resend_room(const lv_sess *sess, uint32_t n_resend);
void lv__out_stored(lv_sess *sess, uint32_t seq, int err); /* progress `seq` is safe */
void lv__out_drop_all(lv_sess *sess, enum lv_counter why);
void lv__out_detach(lv_sess *sess);
bool lv__out_room(const lv_sess *sess, uint8_t qos);
uint32_t lv__out_slots(const lv_sess *sess);
void lv__put_ack(lv_sess *sess, uint8_t type, uint16_t pid, uint8_t reason);
void lv__alias_free(lv_sess *sess);
/* The alias for a topic on an outgoing packet: 0 none; ret_known: the client has it already. */
uint16_t lv__alias_out(lv_sess *sess, lv_slice topic, bool *ret_known);
/* The packet that would have taught the alias was not sent. */
void lv__alias_undo(lv_sess *sess, uint16_t alias, bool known);
void lv__alias_set(lv_sess *sess, uint16_t in_max, uint16_t out_max);
int lv__alias_in(lv_sess *sess, lv_mqtt_publish *p);
/* The session leaves a shared subscription: what it has of it goes back, or becomes its own where
 * the exchange has begun. */
void lv__out_member_gone(lv_sess *sess, struct lv_share_member *m);
void lv__out_send_held(lv_sess *sess, lv_out *o);
void lv__pend_discard(lv_sess *sess, bool gone);
lv_out *lv__win_push(lv_sess *sess, uint16_t pid);

/* match of one record against one session's own subscriptions (catch-up, subscription ids) */
enum { LV_SUB_IDS_MAX = 16 };
typedef struct lv_sess_match {
  uint8_t qos, flags;
  uint32_t n_ids;
  uint32_t ids[LV_SUB_IDS_MAX];
} lv_sess_match;
bool lv__sess_match(const lv_sess *sess, const lv_rec *rec, uint8_t log, bool live,
                    lv_sess_match *ret);

/* lag.c */
/* from: where to read on; q0_from: QoS 0 before it is not owed. */
void lv__lag_enter(lv_sess *sess, lv_pos from, lv_pos q0_from);
void lv__lag_pump(lv_sess *sess);
void lv__lag_stop(lv_sess *sess);

/* give.c */
/* The subscription's retained messages come next, behind those of earlier ones. */
void lv__give_add(lv_sess *sess, lv_sub *sub, lv_pos from);
void lv__give_forget(lv_sess *sess, lv_sub *sub); /* the subscription, one of these, ends */
/* Goes on with them, as far as windows allow; true: none are left. */
bool lv__give_pump(lv_sess *sess);
void lv__give_stop(lv_sess *sess);
void lv__give_pause(lv_sess *sess); /* the connection is gone, the session stays */
static inline bool lv__giving(const lv_sess *s) {
  return s->more && s->more->gives;
}

/* conflate.c */
/* The place (0: the first) of the QoS 0 delivery with this topic that waits; false: none does. */
bool lv__pend_find(lv_pendq *q, lv_slice topic, uint32_t *ret_i);
/* A QoS 0 delivery was put at the end. */
void lv__pend_index_add(lv_pendq *q, lv_slice topic);
/* Places have changed: the index is made again when it is needed. */
void lv__pend_index_drop(lv_pendq *q);

static inline bool lv__content_ok(const lv_chan *chan, lv_slice value, bool retain) {
  return (value.n == 0 && retain) || lv_content_ok(chan, value); /* takes a retained one back */
}

/* will.c */
void lv__will_set(lv_sess *sess, const lv_mqtt_will *w);
void lv__will_fire(lv_sess *sess);
/* attach.c */
void lv__connect_stored(lv_sess *sess, const lv_ack *ack, int err);
void lv__recovered_start(lv_sess *sess);
void lv__resend(lv_sess *sess); /* goes on with what is to be sent again, as the window allows */
void lv__offline_arm(lv_sess *sess); /* its time runs: expiry, delayed will */

/* in.c */
void lv__pub_done(void *shard, const lv_batch *batch);
void lv__pub_acked(void *shard, const lv_ack *ack, int err, const lv_rec *rec);
int lv__route(lv_shard *s, const lv_auth *auth, lv_slice topic, lv_chan **ret_chan,
              uint16_t *ret_key_off);
/* Whether what the server publishes by itself (a will) had better wait. */
static inline bool lv__publish_later(const lv_shard *s) {
  return lv_pub_full(s->pub) || s->broker->refusing;
}
bool lv__publish_rec(lv_shard *s, lv_auth *auth, lv_rec_in *in, lv_slice topic, lv_mono read_at,
                     uint8_t *ret_log, int *ret_err);
void lv__in2_add(lv_sess *s, uint16_t pid, uint8_t state, uint8_t log);
void lv__in_attach(lv_sess *s);
/* The client is read again, if it was not for answers that were due. */
void lv__in_resume(lv_sess *s);
void lv__in_detach(lv_sess *s);
int lv__in_release(lv_sess *s, uint16_t pid);

/* sub.c */
/* Into the index; what lies before `cursor` was handled. */
void lv__subs_attach(lv_sess *sess, const lv_pos *cursor);
/* The connection is gone: those of a session that waits for its client stay in the index and count.
 */
void lv__subs_detach(lv_sess *sess);
/* The session comes to, or leaves, a shard without connection. */
void lv__subs_index(lv_sess *sess);
void lv__subs_unindex(lv_sess *sess, lv_shard *from);
void lv__subs_recheck(lv_sess *sess); /* the key's rights have changed */
void lv__subs_free(lv_sess *sess);
lv_sub *lv__sub_new(lv_sess *sess, const lv_mqtt_sub *m, uint32_t sub_id);
void lv__sub_stored(lv_sess *sess, int err);

/* store.c: state records */
void lv__store_meta(lv_sess *sess, enum lv_ack_kind kind);
/* Word when all that was written to the log in this turn is as safe as it must be. */
void lv__store_word(lv_sess *sess, uint8_t log, enum lv_ack_kind kind);
int lv__store_progress_now(lv_sess *sess);
void lv__store_progress(lv_sess *sess);
void lv__store_forget(lv_sess *sess);
/* The app's session_durability is another one now, and the session is stored in its log: the other
 * log may forget it. */
void lv__store_moved(lv_sess *sess);
void lv__store_release(lv_sess *sess, uint16_t pid, uint8_t log);
void lv__save(lv_sess *sess, uint8_t how);
/* recover.c */
int lv__store_replay(void *realm, lv_slice key, lv_slice value, const lv_rec *rec, uint8_t log);
void lv__recovery_begin(lv_realm *r);
void lv__recovery_end(lv_realm *r);
void lv__interest(lv_shard *shard, uint32_t app_id, int by);
lv_pos lv__sess_position(const lv_sess *sess);

/* sys.c */
void lv__sys_tick(lv_shard *s);
void lv__sys_give(lv_sess *sess, const lv_sub *sub, bool retain); /* all values, now */

#endif
