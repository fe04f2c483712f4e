/* mqtt_conn.c: an MQTT connection: framing, CONNECT, dispatch to the session, deadlines, goodbye.
 *
 *   NEW ─CONNECT─▶ WAIT (claim, attach, store) ─ready─▶ OPEN ─…─▶ closed
 *
 * While it WAITs reading is paused; what the client has sent behind its CONNECT stays in the
 * connection's buffer. An unauthenticated client costs this struct, a bounded buffer and
 * connect_timeout.
 *
 * Over WebSocket (MQTT 5.0 §6) the connection is an lv_ws_conn's stream: the same packets and the
 * same send queue; only where events come from, and how it ends, differs. */
#include "gateway/mqtt_conn.h"
#include "core/log.h"
#include "core/rand.h"
#include "net/origin.h"
#include "net/ws.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum state { NEW, WAIT, OPEN, BYE };
enum { DRAIN_LOOK_MS = 5, UNAUTH_PACKET_MAX = 256 * 1024, UNREAD_ANSWERS_MAX = 64 * 1024 };

/* Needed until CONNACK only. */
typedef struct lv_handshake {
  lv_claim claim; /* first: freed by the claim's answer when the connection is gone */
  struct lv_mqtt_conn *mc;
  lv_mqtt_connect connect;
  lv_auth *auth;
  char assigned[24];
  uint8_t *bytes; /* the packet's body, then scratch of the same size */
  char *origin;   /* over WebSocket: the page's, until it is known whose app it is; NULL: none */
  uint8_t origin_kind; /* enum lv_origin */
} lv_handshake;

typedef struct lv_mqtt_conn {
  lv_conn *conn;
  lv_gw_loop *gl;
  lv_sess *sess;
  union {
    lv_handshake *hs;                 /* from CONNECT (with an origin: from the start) to CONNACK */
    struct lv_mqtt_conn *paused_next; /* in gl->paused */
  };
  uint32_t rx_ms;                  /* when the last packet came; wraps */
  uint32_t rate_count, packet_max; /* packet_max: once OPEN; before: the client's */
  uint16_t rate_second, app_slot, keep_alive_s;
  uint8_t state, version;
  bool paused, draining, counted;
} lv_mqtt_conn;
static_assert(sizeof(lv_mqtt_conn) <= 56, "paid by each idle connection");

static uint32_t now_ms(const lv_mqtt_conn *mc) {
  return (uint32_t)(mc->conn->loop->now.ns / 1000000);
}

static const lv_conn_ops mqtt_ops;

static bool over_ws(const lv_conn *c) {
  return c->ops != &mqtt_ops;
}

static lv_mqtt_conn *of(lv_conn *c) {
  return over_ws(c) ? ((lv_ws_conn *)c->data)->data : c->data;
}

static uint8_t proto_of(const lv_mqtt_conn *mc) {
  bool tls = mc->conn->ssl != NULL;
  if (over_ws(mc->conn)) return tls ? LV_KPI_WSS : LV_KPI_WS;
  return tls ? LV_KPI_MQTTS : LV_KPI_MQTT;
}

static void put(lv_mqtt_conn *mc, const uint8_t *p, uint32_t n) {
  memcpy(lv_outq_put(&mc->conn->outq, n, 0, (lv_mono){0}), p, n);
  lv_conn_dirty(mc->conn);
}

/* ---- goodbye ---- */

static bool client_fault(int err) {
  return err == LV_E_MALFORMED || err == LV_E_PROTOCOL || err == LV_E_TOO_BIG ||
         err == LV_E_TOPIC_ALIAS || err == LV_E_RECEIVE_MAX || err == LV_E_TOPIC ||
         err == LV_E_FILTER || err == LV_E_PAYLOAD || err == LV_E_VERSION;
}

/* Ends the connection behind what is queued. */
static void hang_up(lv_mqtt_conn *mc, int err) {
  lv_conn *c = mc->conn;
  mc->state = BYE;
  if (!over_ws(c))
    lv_conn_close(c, err, true);
  else if (err)
    lv_ws_fail(c->data, err, lv_err_text(err));
  else
    lv_ws_close(c->data, LV_WS_NORMAL, "");
}

static void say_bye(lv_mqtt_conn *mc, int err) {
  if (mc->state == OPEN && mc->version >= LV_MQTT_V5) {
    uint8_t tmp[LV_MQTT_ACK_MAX];
    put(mc, tmp, lv_mqtt_disconnect_encode(lv_err_mqtt(err), (lv_slice){NULL, 0}, tmp));
  }
  hang_up(mc, err);
}

static void fail(lv_mqtt_conn *mc, int err) {
  if (client_fault(err))
    lv_log(LV_INFO, "mqtt connection closed peer=%s reason=%s", lv_conn_peer(mc->conn),
           lv_err_text(err));
  say_bye(mc, err);
}

static void link_dirty(void *conn) {
  lv_conn_dirty(conn);
}
static void link_want_drain(void *conn) {
  ((lv_conn *)conn)->want_drain = 1;
}
static void link_close(void *conn, int err) {
  lv_conn *c = conn;
  if (!lv_conn_closing(c)) say_bye(of(c), err);
}
static void link_resume(void *conn) {
  lv_conn_resume(conn, LV_PAUSE_ANSWERS);
}
const lv_link_ops lv_gateway_link_ops = {link_dirty, link_want_drain, link_close, link_resume};

/* ---- CONNECT ---- */

static void refuse(lv_mqtt_conn *mc, int err) {
  uint8_t tmp[LV_MQTT_CONNACK_MAX];
  lv_mqtt_connack a = {.version = mc->version, .reason = lv_err_mqtt(err)};
  if (mc->version >= LV_MQTT_V5) a.reason_string = lv_slice_str(lv_err_text(err));
  uint32_t n = lv_mqtt_connack_encode(&a, tmp);
  if (mc->packet_max && n > mc->packet_max) { /* [MQTT-3.2.2-19] */
    a.reason_string.n = 0;
    n = lv_mqtt_connack_encode(&a, tmp);
  }
  if (!mc->packet_max || n <= mc->packet_max) put(mc, tmp, n);
  hang_up(mc, err);
}

static void handshake_free(lv_handshake *hs) {
  if (!hs) return;
  lv_auth_unref(hs->auth);
  free(hs->bytes);
  free(hs->origin);
  free(hs);
}

static void arm_keep_alive(lv_mqtt_conn *mc) {
  lv_conn_deadline(mc->conn, mc->keep_alive_s ? LV_MS(mc->keep_alive_s * 1500) : LV_SEC(-1));
}

/* False: the client takes no packet of this size (its Maximum Packet Size). */
static bool connack(lv_mqtt_conn *mc, bool present) {
  lv_handshake *hs = mc->hs;
  const lv_limits *l = &hs->auth->app->limits;
  uint8_t tmp[LV_MQTT_CONNACK_MAX];
  lv_mqtt_connack a = {.version = mc->version, .session_present = present};
  a.session_expiry_s = lv_sess_expiry_s(mc->sess);
  a.has_session_expiry = a.session_expiry_s != hs->connect.session_expiry_s;
  uint16_t receive_max = lv_sess_receive_max(mc->sess);
  a.receive_max = receive_max < UINT16_MAX ? receive_max : 0; /* the protocol's default */
  a.max_packet = l->packet_bytes;
  a.topic_alias_max = (uint16_t)(l->topic_aliases < 65535 ? l->topic_aliases : 65535);
  a.server_keep_alive = mc->keep_alive_s;
  a.has_server_keep_alive = mc->keep_alive_s != hs->connect.keep_alive_s;
  a.assigned_client_id = lv_slice_str(hs->assigned);
  uint32_t n = lv_mqtt_connack_encode(&a, tmp);
  if (mc->packet_max && n > mc->packet_max) return false;
  put(mc, tmp, n);
  return true;
}

/* The session is bound and as safe as it must be. */
static void ready(void *conn, lv_sess *sess, bool present, int err) {
  lv_conn *c = conn;
  lv_mqtt_conn *mc = of(c);
  (void)sess;
  if (lv_conn_closing(c)) return;
  if (err) {
    refuse(mc, err);
    return;
  }
  lv_log(LV_DEBUG, "mqtt client connected peer=%s app=%.*s client=%.*s version=%u present=%d",
         lv_conn_peer(c), (int)mc->hs->auth->app->name.n, (const char *)mc->hs->auth->app->name.p,
         (int)mc->hs->connect.client_id.n, (const char *)mc->hs->connect.client_id.p, mc->version,
         present);
  if (!connack(mc, present)) {
    refuse(mc, LV_E_TOO_BIG);
    return;
  }
  const lv_limits *l = &mc->hs->auth->app->limits;
  mc->packet_max = l->packet_bytes;
  if (l->packet_bytes + LV_MQTT_HEAD_MAX > c->in_max)
    c->in_max = l->packet_bytes + LV_MQTT_HEAD_MAX;
  c->out_max = l->queue_bytes;
  handshake_free(mc->hs);
  mc->hs = NULL;
  mc->state = OPEN;
  mc->rx_ms = now_ms(mc);
  if (!mc->draining) arm_keep_alive(mc);
  lv_sess_start(mc->sess);
  if (!mc->draining) lv_conn_resume(c, LV_PAUSE_HANDSHAKE);
}

static void claimed(lv_claim *claim, lv_sess *sess, int err) {
  lv_handshake *hs = (lv_handshake *)claim;
  lv_mqtt_conn *mc = hs->mc;
  claim->shard = NULL;    /* answered */
  if (claim->cancelled) { /* the connection went away meanwhile */
    if (sess) lv_sess_release(sess);
    handshake_free(hs);
    return;
  }
  if (err) {
    mc->hs = NULL;
    handshake_free(hs);
    refuse(mc, err);
    return;
  }
  mc->sess = sess;
  lv_sess_attach(sess, &(lv_attach){.conn = mc->conn,
                                    .outq = &mc->conn->outq,
                                    .connect = &hs->connect,
                                    .auth = lv_auth_ref(hs->auth),
                                    .proto = proto_of(mc),
                                    .ready = ready});
}

static int take_slot(lv_mqtt_conn *mc, const lv_auth *auth) {
  uint32_t n = sizeof mc->gl->gateway->app_conns / sizeof mc->gl->gateway->app_conns[0];
  mc->app_slot = (uint16_t)(auth->app_id < n ? auth->app_id : n - 1);
  uint32_t max = auth->app->limits.connections;
  uint32_t now = atomic_fetch_add(&mc->gl->gateway->app_conns[mc->app_slot], 1);
  mc->counted = true;
  return max && now >= max ? LV_E_QUOTA : 0;
}

/* Whether the page that the connection comes from may act for this client. */
static int origin_check(lv_mqtt_conn *mc, const lv_handshake *hs) {
  if (!hs->origin) return 0;
  if (lv_origin_allowed(hs->auth->app, lv_slice_str(hs->origin), hs->origin_kind, !hs->auth->key))
    return 0;
  lv_log(LV_INFO, "mqtt client of a page that may not connect refused peer=%s app=%.*s origin=%s",
         lv_conn_peer(mc->conn), (int)hs->auth->app->name.n, (const char *)hs->auth->app->name.p,
         hs->origin);
  return LV_E_FORBIDDEN;
}

/* The CONNECT's own rules and whose it is. On success hs->auth is set. */
static int connect_check(lv_mqtt_conn *mc, lv_handshake *hs) {
  lv_conf *conf = lv_shard_conf(mc->gl->shard);
  lv_mqtt_connect *m = &hs->connect;
  if (m->auth_method.n) return LV_E_AUTH_METHOD; /* we have no enhanced authentication */
  int err = lv__auth_connect(mc->gl->gateway->realm, conf, mc->conn, m, &hs->auth);
  if (err) {
    lv_count(lv_metrics_row(mc->conn->loop->metrics, LV_KPI_NO_APP, proto_of(mc)),
             LV_C_CONN_BAD_AUTH, 1);
    return err;
  }
  err = origin_check(mc, hs);
  if (!err) err = take_slot(mc, hs->auth);
  if (err) return err;
  if (m->will.present && lv_mqtt_levels(m->will.topic) > hs->auth->app->limits.filter_levels)
    return LV_E_TOPIC;
  if (m->client_id.n == 0) {
    snprintf(hs->assigned, sizeof hs->assigned, "lv-%016llx", (unsigned long long)lv_random_u64());
    m->client_id = lv_slice_str(hs->assigned);
  }
  uint32_t max = conf->keep_alive_max_s;
  mc->keep_alive_s = m->keep_alive_s;
  if (max && (m->keep_alive_s == 0 || m->keep_alive_s > max))
    if (mc->version >= LV_MQTT_V5) mc->keep_alive_s = (uint16_t)max;
  return 0;
}

static void on_connect(lv_mqtt_conn *mc, lv_slice body) {
  lv_handshake *hs = mc->hs ? mc->hs : calloc(1, sizeof *hs);
  uint8_t *bytes = malloc(body.n * 2u + 1);
  if (!hs || !bytes) abort();
  memcpy(bytes, body.p, body.n);
  mc->hs = NULL;
  hs->bytes = bytes;
  hs->mc = mc;
  int err = lv_mqtt_connect_decode(lv_slice_of(bytes, body.n), bytes + body.n, &hs->connect);
  mc->version = hs->connect.version > LV_MQTT_V5 ? LV_MQTT_V5 : hs->connect.version;
  if (mc->version < LV_MQTT_V3) mc->version = LV_MQTT_V3;
  mc->packet_max = err ? 0 : hs->connect.max_packet;
  if (!err) err = connect_check(mc, hs);
  if (err) {
    bool answer = hs->connect.version != 0;
    handshake_free(hs);
    /* What is no CONNECT gets no CONNACK (3.1.1 §3.1.4: malformed ones are closed without). */
    if (!answer || (mc->version < LV_MQTT_V5 && err == LV_E_MALFORMED))
      hang_up(mc, err);
    else
      refuse(mc, err);
    return;
  }
  mc->hs = hs;
  mc->state = WAIT;
  lv_conn_pause(mc->conn, LV_PAUSE_HANDSHAKE);
  hs->claim.done = claimed;
  lv_sess_claim(mc->gl->shard, hs->auth, hs->connect.client_id, &hs->claim);
}

/* ---- packets ---- */

static void pause_for_broker(lv_mqtt_conn *mc) {
  lv_conn_pause(mc->conn, LV_PAUSE_BROKER);
  if (mc->paused) return;
  mc->paused = true;
  mc->paused_next = mc->gl->paused;
  mc->gl->paused = mc;
}

void lv__mqtt_resume_all(lv_gw_loop *gl) {
  lv_mqtt_conn *list = gl->paused;
  gl->paused = NULL;
  while (list) {
    lv_mqtt_conn *mc = list;
    list = mc->paused_next;
    mc->paused_next = NULL;
    mc->paused = false;
    lv_conn_resume(mc->conn, LV_PAUSE_BROKER);
  }
}

/* Over the rate: reading stops until the next second. */
static bool over_rate(lv_mqtt_conn *mc) {
  uint32_t max = lv_sess_limits(mc->sess)->messages_per_s;
  if (!max) return false;
  uint16_t second = (uint16_t)(mc->conn->loop->now.ns / 1000000000);
  if (second != mc->rate_second) {
    mc->rate_second = second;
    mc->rate_count = 0;
  }
  if (mc->rate_count++ < max) return false;
  mc->rate_count--;
  lv_conn_pause(mc->conn, LV_PAUSE_RATE);
  int64_t left = 1000000000 - mc->conn->loop->now.ns % 1000000000;
  lv_conn_deadline(mc->conn, (lv_dur){left});
  return true;
}

static int on_publish(lv_mqtt_conn *mc, uint8_t flags, lv_slice body) {
  lv_mqtt_publish p;
  if (over_rate(mc)) return LV_E_BUSY;
  int err = lv_mqtt_publish_decode(mc->version, flags, body, true, &p);
  if (err) return err;
  err = lv_sess_publish(mc->sess, &p, mc->conn->loop->now);
  if (err == LV_E_BUSY && mc->rate_count) mc->rate_count--; /* it comes again */
  return err;
}

static int on_ack(lv_mqtt_conn *mc, uint8_t type, lv_slice body) {
  lv_mqtt_ack a;
  int err = lv_mqtt_ack_decode(mc->version, type, body, &a);
  return err ? err : lv_sess_ack(mc->sess, type, &a);
}

static int on_subscribe(lv_mqtt_conn *mc, uint8_t type, lv_slice body) {
  lv_mqtt_subscribe s;
  int err = type == LV_MQTT_SUBSCRIBE ? lv_mqtt_subscribe_decode(mc->version, body, &s)
                                      : lv_mqtt_unsubscribe_decode(mc->version, body, &s);
  if (err) return err;
  return type == LV_MQTT_SUBSCRIBE ? lv_sess_subscribe(mc->sess, &s)
                                   : lv_sess_unsubscribe(mc->sess, &s);
}

static int on_disconnect(lv_mqtt_conn *mc, lv_slice body) {
  lv_mqtt_disconnect d;
  int err = lv_mqtt_disconnect_decode(mc->version, body, &d);
  if (!err) err = lv_sess_disconnect(mc->sess, &d);
  if (err) return err;
  hang_up(mc, 0);
  return 0;
}

/* A packet was not taken: reading stops until it may be offered again. */
static void on_busy(lv_mqtt_conn *mc) {
  if (mc->conn->paused & LV_PAUSE_RATE) return;
  if (lv_pub_full(lv_shard_pub(mc->gl->shard))) {
    pause_for_broker(mc);
  } else {
    lv_conn_pause(mc->conn, LV_PAUSE_ANSWERS);
  }
}

/* A client that asks and asks, and takes no answers. Deliveries alone do not get there: sessions
 * stop at out_max, give or take one packet. */
static bool takes_nothing(const lv_mqtt_conn *mc) {
  uint32_t room = mc->conn->out_max + lv_shard_conf(mc->gl->shard)->limits.packet_bytes;
  return mc->state == OPEN && mc->conn->outq.bytes > room + UNREAD_ANSWERS_MAX;
}

/* One whole packet; the error ends the connection, except LV_E_BUSY: it is offered again. */
static int dispatch(lv_mqtt_conn *mc, const lv_mqtt_head *h, lv_slice body) {
  if (mc->version >= LV_MQTT_V5 && !lv_mqtt_head_minimal(h)) return LV_E_MALFORMED;
  switch (h->type) {
  case LV_MQTT_PUBLISH: return on_publish(mc, h->flags, body);
  case LV_MQTT_PUBACK:
  case LV_MQTT_PUBREC:
  case LV_MQTT_PUBREL:
  case LV_MQTT_PUBCOMP: return on_ack(mc, h->type, body);
  case LV_MQTT_SUBSCRIBE:
  case LV_MQTT_UNSUBSCRIBE: return on_subscribe(mc, h->type, body);
  case LV_MQTT_PINGREQ:
    if (body.n) return LV_E_MALFORMED;
    put(mc, (const uint8_t[]){LV_MQTT_PINGRESP << 4, 0}, 2);
    return 0;
  case LV_MQTT_DISCONNECT: return on_disconnect(mc, body);
  case LV_MQTT_AUTH: return mc->version >= LV_MQTT_V5 ? LV_E_AUTH_METHOD : LV_E_MALFORMED;
  default: return LV_E_PROTOCOL; /* a second CONNECT, or what only servers send */
  }
}

static uint32_t packet_max(const lv_mqtt_conn *mc) {
  uint32_t max = lv_shard_conf(mc->gl->shard)->limits.packet_bytes;
  if (mc->state == NEW) return max > UNAUTH_PACKET_MAX ? UNAUTH_PACKET_MAX : max;
  return mc->packet_max; /* the app's, as CONNACK said */
}

static inline uint32_t packets(lv_mqtt_conn *mc, const uint8_t *p, uint32_t n) {
  lv_conn *c = mc->conn;
  uint32_t used = 0, max = packet_max(mc);
  while (used < n && (mc->state == NEW || mc->state == OPEN) && !c->paused) {
    lv_mqtt_head h;
    int err = lv_mqtt_head_decode(p + used, n - used, &h);
    if (err == LV_E_NEED_MORE) break;
    if (!err && mc->state == NEW && h.type != LV_MQTT_CONNECT) err = LV_E_PROTOCOL;
    if (!err && h.remaining > max - h.len) err = LV_E_TOO_BIG;
    uint32_t size = h.len + h.remaining;
    if (!err && size > n - used) {
      c->want = size;
      break;
    }
    lv_slice body = lv_slice_of(p + used + h.len, h.remaining);
    mc->rx_ms = now_ms(mc);
    if (!err && mc->state == NEW) {
      used += size;
      on_connect(mc, body);
      continue;
    }
    if (!err) err = dispatch(mc, &h, body);
    if (err == LV_E_BUSY) {
      on_busy(mc);
      break;
    }
    used += size;
    if (err) {
      fail(mc, err);
      break;
    }
    if (takes_nothing(mc)) lv_conn_pause(c, LV_PAUSE_SEND);
  }
  return mc->state == BYE ? n : used;
}

static uint32_t on_bytes(lv_conn *c, const uint8_t *p, uint32_t n) {
  return packets(c->data, p, n);
}

/* ---- the connection's events ---- */

static void on_drain(lv_conn *c) {
  lv_mqtt_conn *mc = of(c);
  lv_conn_resume(c, LV_PAUSE_SEND);
  if (mc->sess && mc->state == OPEN) lv_sess_drain(mc->sess);
}

static void on_sent(lv_conn *c, uint32_t n, lv_mono stamp, lv_use use) {
  lv_mqtt_conn *mc = of(c);
  if (mc->sess) lv_sess_sent(mc->sess, n, stamp, use);
}

static void on_deadline(lv_conn *c) {
  lv_mqtt_conn *mc = of(c);
  if (mc->draining) {
    if (mc->sess && !lv_sess_idle(mc->sess)) {
      lv_conn_deadline(c, LV_MS(DRAIN_LOOK_MS));
      return;
    }
    say_bye(mc, LV_E_SHUTDOWN);
    return;
  }
  if (c->paused & LV_PAUSE_RATE) {
    mc->rx_ms = now_ms(mc);
    arm_keep_alive(mc);
    lv_conn_resume(c, LV_PAUSE_RATE);
    return;
  }
  if (mc->state != OPEN) {
    mc->state = BYE;
    lv_conn_close(c, LV_E_TIMEOUT, false);
    return;
  }
  uint32_t quiet = now_ms(mc) - mc->rx_ms, allowed = mc->keep_alive_s * 1500u;
  /* It is we who do not read, unless the client takes nothing. */
  if (c->paused & ~LV_PAUSE_SEND) quiet = allowed - 1000;
  if (quiet < allowed) {
    lv_conn_deadline(c, LV_MS(allowed - quiet));
    return;
  }
  say_bye(mc, LV_E_KEEP_ALIVE);
}

static void on_shutdown(lv_conn *c) {
  lv_mqtt_conn *mc = of(c);
  if (mc->state == BYE) return;
  mc->draining = true;
  lv_conn_pause(c, LV_PAUSE_HANDSHAKE); /* nothing more is accepted */
  on_deadline(c);
}

static void over(lv_mqtt_conn *mc, int err) {
  lv_conn *c = mc->conn;
  lv_log(LV_DEBUG, "mqtt connection over peer=%s reason=%s", lv_conn_peer(c),
         err ? lv_err_text(err) : "closed by the client");
  mc->state = BYE;
  if (mc->counted) atomic_fetch_sub(&mc->gl->gateway->app_conns[mc->app_slot], 1);
  if (mc->paused) {
    lv_mqtt_conn **p = &mc->gl->paused;
    while (*p != mc) p = &(*p)->paused_next;
    *p = mc->paused_next;
    mc->paused_next = NULL;
    mc->paused = false;
  }
  if (mc->sess) {
    lv_slice id = lv_sess_client_id(mc->sess);
    lv_log(LV_DEBUG, "mqtt client gone client=%.*s reason=%s", (int)id.n, (const char *)id.p,
           err ? lv_err_text(err) : "closed");
    lv_sess_detach(mc->sess, err);
    if (mc->hs && !mc->paused) handshake_free(mc->hs);
  } else if (mc->hs) {
    if (mc->hs->claim.shard) {
      mc->hs->claim.cancelled = true; /* its answer frees it */
    } else {
      handshake_free(mc->hs);
    }
  }
  free(mc);
}

static void on_close(lv_conn *c, int err) {
  over(c->data, err);
}

static const lv_conn_ops mqtt_ops = {
    .name = "mqtt",
    .gauge = LV_G_CONNS_MQTT,
    .on_bytes = on_bytes,
    .on_drain = on_drain,
    .on_sent = on_sent,
    .on_deadline = on_deadline,
    .on_close = on_close,
    .on_shutdown = on_shutdown,
};

/* The connection's protocol is set: it is ours now. */
static void begin(lv_mqtt_conn *mc, lv_conn *c) {
  const lv_conf *conf = lv_shard_conf(mc->gl->shard);
  mc->conn = c;
  static_assert((int)UNAUTH_PACKET_MAX <= (int)LV_SCRATCH_SIZE, "a CONNECT has room");
  c->in_max = LV_SCRATCH_SIZE + LV_MQTT_HEAD_MAX; /* until it is known whose limits hold */
  c->out_max = conf->limits.queue_bytes;
  lv_conn_deadline(c, LV_MS(conf->connect_timeout_ms));
}

int lv__mqtt_conn_new(lv_gw_loop *gl, lv_conn *c) {
  lv_mqtt_conn *mc = calloc(1, sizeof *mc);
  if (!mc) return LV_E_NOMEM;
  mc->gl = gl;
  mc->state = NEW;
  c->data = mc;
  c->ops = &mqtt_ops;
  begin(mc, c);
  return 0;
}

/* ---- over WebSocket ---- */

static uint32_t ws_stream(lv_ws_conn *w, const uint8_t *p, uint32_t n) {
  return packets(w->data, p, n);
}
static void ws_drain(lv_ws_conn *w) {
  on_drain(w->conn);
}
static void ws_sent(lv_ws_conn *w, uint32_t n, lv_mono stamp, lv_use use) {
  on_sent(w->conn, n, stamp, use);
}
static void ws_deadline(lv_ws_conn *w) {
  on_deadline(w->conn);
}
static void ws_shutdown(lv_ws_conn *w) {
  on_shutdown(w->conn);
}
static void ws_close(lv_ws_conn *w, int err) {
  over(w->data, err);
}

/* MQTT 5.0 §6: binary frames only, the subprotocol is `mqtt`, packets need not keep to frames. A
 * client that puts all it ever says into one message is within its rights up to message_max. */
static const lv_ws_kind *ws_kind(void) {
  static const lv_ws_ops ops = {.name = "mqtt over ws",
                                .on_stream = ws_stream,
                                .on_drain = ws_drain,
                                .on_sent = ws_sent,
                                .on_deadline = ws_deadline,
                                .on_shutdown = ws_shutdown,
                                .on_close = ws_close};
  static const lv_slice protocols[] = {LV_SLICE("mqtt")};
  static const lv_ws_kind kind = {
      .ops = &ops,
      .rules = {.message_max = 1u << 31, .frames_max = UINT32_MAX, .no_text = true},
      .able = {.protocols = protocols, .n_protocols = 1, .need_protocol = true},
      .out_max = 1 << 20}; /* until the conf's is set */
  return &kind;
}

void lv__mqtt_conn_upgrade(lv_gw_loop *gl, lv_http_call *call) {
  const lv_http_header *origin = lv_http_header_find(&call->req, LV_SLICE("Origin"));
  lv_mqtt_conn *mc = calloc(1, sizeof *mc);
  if (!mc) abort();
  mc->gl = gl;
  mc->state = NEW;
  if (origin && origin->value.n) {
    mc->hs = calloc(1, sizeof *mc->hs);
    if (!mc->hs) abort();
    mc->hs->origin = lv_slice_dup(origin->value);
    mc->hs->origin_kind = (uint8_t)lv_origin_of(origin->value, call->req.host);
  }
  lv_ws_conn *w = lv_ws_upgrade(call, ws_kind(), mc);
  if (w) {
    begin(mc, w->conn);
  } else {
    handshake_free(mc->hs);
    free(mc);
  }
}
