/* session.h: MQTT sessions over the broker contract: what gateways and MQTT subscribers share.
 *
 *   realm   one a process: client ids, retained messages, apps, the shards
 *   shard   one a loop: the sessions it owns, its subscription index, its publisher side
 *   sess    one client id: subscriptions, windows, queue, cursor, will; connected or not
 *
 * No sockets here. A session writes packets into a send queue (core/outq.h) that a connection lends
 * it and asks for two things through lv_link_ops: "flush this" and "close this". Packets come in
 * decoded. Time comes from the loop, disk through the broker, so a simulator can drive all of it.
 *
 *   PUBLISH ─▶ sess_in ─▶ lv_pub (batch a turn) ─▶ broker ─▶ feed ─▶ shard: match ─▶ sess_out ─▶
 * outq
 *
 * A session belongs to one shard at a time; nothing of it is touched by another thread. Taking it
 * over from another loop goes through the registry (claim.c): the owner lets go, the claimant gets
 * it by mail. What is durable about a session is in store.c. */
#ifndef LV_SESSION_SESSION_H
#define LV_SESSION_SESSION_H
#include "broker/pub.h"
#include "core/conf.h"
#include "core/outq.h"
#include "wire/mqtt.h"

typedef struct lv_realm lv_realm;
typedef struct lv_shard lv_shard;
typedef struct lv_sess lv_sess;

/* Who a client is: its app and key in one document. Refcounted (atomically). */
typedef struct lv_auth {
  _Atomic uint32_t refs;
  uint32_t app_id; /* stable within the process */
  uint64_t serial; /* never used twice, unlike the address */
  struct lv_auth *next;
  lv_conf *conf; /* one reference */
  const lv_app *app;
  const lv_key *key; /* NULL: anonymous, everything but $SYS; a token's: its own, id = `sub` */
  const lv_jwt_key *signer; /* not NULL: a token, signed with this key of the app */
  lv_wall until;            /* of a token: ends its connections; leeway included */
} lv_auth;
/* One per key and document; a new reference. key NULL: anonymous. @thread any */
lv_auth *lv_auth_get(lv_realm *r, lv_conf *conf, const lv_app *app, const lv_key *key);
/* For a token (JWT) whose claims were all checked: rights within those of the app's section. The
 * slices are copied, and with them n_rights rights; n_rights LV_AUTH_NO_RIGHTS: the claim is not
 * there, and the section's hold. A new reference, never shared. @thread any */
enum { LV_AUTH_NO_RIGHTS = -1 };
typedef struct lv_auth_claims {
  lv_slice sub;
  lv_wall until;
  const lv_right *rights;
  int32_t n_rights;
} lv_auth_claims;
lv_auth *lv_auth_token(lv_realm *r, lv_conf *conf, const lv_app *app, const lv_jwt_key *signer,
                       const lv_auth_claims *claims);
lv_auth *lv_auth_ref(lv_auth *a);
void lv_auth_unref(lv_auth *a);
bool lv_auth_may_publish(const lv_auth *a, lv_slice topic);
bool lv_auth_may_subscribe(const lv_auth *a, lv_slice filter, bool *ret_all);
bool lv_auth_may_read(const lv_auth *a, lv_slice topic);

/* What a session asks of its connection. @thread loop */
typedef struct lv_link_ops {
  void (*dirty)(void *conn);
  /* Call lv_sess_drain when the send queue has emptied. */
  void (*want_drain)(void *conn);
  /* Say goodbye with this error's reason (5.0: DISCONNECT) and close, after what is queued. */
  void (*close)(void *conn, int err);
  /* What was refused with LV_E_BUSY for answers that were due may be offered again. */
  void (*resume)(void *conn);
} lv_link_ops;

/* ---- realm ---- */
/* One per process; broker->visible hook must be lv_realm_visible with the realm. @thread main */
int lv_realm_new(lv_conf *conf, const lv_link_ops *ops, lv_realm **ret_realm);
void lv_realm_free(lv_realm *r);
/* The retained store follows what becomes visible (lv_visible_fn). @thread the committing one */
void lv_realm_visible(void *realm, const lv_batch *batch);
/* Recovers sessions, retained messages and wills from the broker's state, and declares the channels
 * of the document; before any shard runs. @thread main */
int lv_realm_open(lv_realm *r, lv_broker *broker, lv_loop *const *loops, int n_loops, char *why);
/* A new document: keys are checked again, limits follow. Posts to all shards. @thread main */
void lv_realm_reload(lv_realm *r, lv_conf *conf);
uint32_t lv_realm_app_id(lv_realm *r, lv_slice app_name);
/* The channel of a record. @thread any */
lv_chan *lv_realm_chan(lv_realm *r, uint32_t id);

/* ---- shard ---- */
/* Makes the loop's shard (attaches to the broker's feed). @thread loop */
int lv_shard_new(lv_realm *r, lv_loop *loop, lv_shard **ret_shard);
/* Saves what is lazy (cursors); the loop still runs. @thread loop */
void lv_shard_quiesce(lv_shard *s);
/* Frees everything; nothing is published any more. @thread loop, or main when the loop has stopped
 */
void lv_shard_free(lv_shard *s);
lv_pub *lv_shard_pub(lv_shard *s);
lv_broker *lv_shard_broker(lv_shard *s);
lv_conf *lv_shard_conf(lv_shard *s);
/* Who else wants to know, on this loop, that there is a new document (lv_realm_reload). The memory
 * is the caller's and stays until the shard is freed. @thread loop */
typedef struct lv_shard_watch {
  struct lv_shard_watch *next;
  void (*fn)(void *arg, lv_conf *conf);
  void *arg;
} lv_shard_watch;
void lv_shard_watch_add(lv_shard *s, lv_shard_watch *w);
/* The same credential in a new document: 0 and a new reference; LV_E_BAD_AUTH: it is there no more.
 * @thread any */
int lv_auth_renew(lv_realm *r, lv_conf *conf, const lv_auth *old, lv_auth **ret);

/* Tells once when a credential is over: fn(arg) on the loop, with nothing of ours after it. NULL:
 * it has no end. Costs memory only where there is one. @thread loop */
typedef struct lv_auth_term lv_auth_term;
lv_auth_term *lv_auth_term_new(lv_loop *loop, const lv_auth *auth, void (*fn)(void *arg),
                               void *arg);
/* NULL is fine, and so is calling it inside of fn. */
void lv_auth_term_free(lv_auth_term *t);

/* ---- publishing without a session (HTTP, WebSocket) ---- */
/* Where a publish to this topic (checked) goes: the channel, which may be made by it, and where the
 * key starts in the topic. 0; 1: a `$SYS` topic, which takes nothing; LV_E_FORBIDDEN, LV_E_TOPIC,
 * LV_E_NOT_FOUND, LV_E_QUOTA, or why the broker refuses messages just now. @thread loop */
int lv_shard_route(lv_shard *s, const lv_auth *auth, lv_slice topic, lv_chan **ret_chan,
                   uint16_t *ret_key_off);
/* Whether a value is what its channel declares. @thread any */
bool lv_content_ok(const lv_chan *chan, lv_slice value);
/* Where a publish that was refused for `err` is counted. @thread any */
enum lv_counter lv_reject_counter(int err);
/* What was published elsewhere than in an MQTT session and is remembered as a QoS 2 publish is (one
 * whose session id is even, and not 0: those of sessions are odd) is given to fn by lv_realm_open.
 * @thread main, before that */
void lv_realm_on_replay(lv_realm *r, lv_state_fn *fn, void *arg);

/* ---- connecting ---- */
/* A CONNECT that wants a session. `done` runs once (perhaps inside lv_sess_claim) with the session,
 * owned by this shard, without connection; or with an error and NULL. */
typedef struct lv_claim {
  lv_mail mail;
  struct lv_claim *next;
  lv_shard *shard;
  void (*done)(struct lv_claim *claim, lv_sess *sess, int err);
  lv_sess *granted; /* private */
  void *arg;
  bool cancelled; /* set by the claimant when its connection is gone */
} lv_claim;
void lv_sess_claim(lv_shard *s, lv_auth *auth, lv_slice client_id, lv_claim *claim);
/* Gives back a session that was claimed and not attached. */
void lv_sess_release(lv_sess *sess);

/* Binds the session to a connection as the CONNECT says: session present or cleared, expiry, will,
 * windows. When the session must be stored, it is; `ready` runs (once, perhaps inside the call)
 * when CONNACK may leave. Afterwards the connection sends CONNACK and calls lv_sess_start. */
typedef struct lv_attach {
  void *conn;
  lv_outq *outq;
  const lv_mqtt_connect *connect; /* borrowed for the call */
  lv_auth *auth;                  /* one reference is taken */
  uint8_t proto;                  /* enum lv_kpi_proto */
  void (*ready)(void *conn, lv_sess *sess, bool session_present, int err);
} lv_attach;
void lv_sess_attach(lv_sess *sess, const lv_attach *a);
/* After CONNACK was queued: inflight messages are sent again, waiting ones follow. */
void lv_sess_start(lv_sess *sess);
/* Values for CONNACK. */
uint32_t lv_sess_expiry_s(const lv_sess *sess);
uint16_t lv_sess_receive_max(const lv_sess *sess);
/* Its client's id, for logs, and the limits that hold for it; valid while it is attached. */
lv_slice lv_sess_client_id(const lv_sess *sess);
const lv_limits *lv_sess_limits(const lv_sess *sess);

/* ---- packets from the client ---- */
/* All return 0, or the error the connection ends with. LV_E_BUSY means: not taken; try again when
 * the publish queue has drained if that is full, else when `resume` is called (too many answers are
 * due to the client). read_at: when the packet's last byte was read. */
int lv_sess_publish(lv_sess *sess, lv_mqtt_publish *p, lv_mono read_at);
int lv_sess_ack(lv_sess *sess, uint8_t type, const lv_mqtt_ack *ack);
int lv_sess_subscribe(lv_sess *sess, const lv_mqtt_subscribe *s);
int lv_sess_unsubscribe(lv_sess *sess, const lv_mqtt_subscribe *s);
/* DISCONNECT was received; the connection is closed next. */
int lv_sess_disconnect(lv_sess *sess, const lv_mqtt_disconnect *d);

/* ---- from the connection ---- */
/* Whether nothing of this session is with the broker: all that was accepted is answered. */
bool lv_sess_idle(const lv_sess *sess);
/* The send queue has room again. */
void lv_sess_drain(lv_sess *sess);
/* n messages left whole for the kernel; what they come to (lv_outq_use). */
void lv_sess_sent(lv_sess *sess, uint32_t n, lv_mono stamp, lv_use use);
/* The connection is gone (the send queue still holds what was not sent). The will fires unless
 * DISCONNECT was received; the session waits for its client, or ends. */
void lv_sess_detach(lv_sess *sess, int err);

#endif
