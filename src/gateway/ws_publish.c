/* ws_publish.c: GET /v1/publish?channel=C as a WebSocket: each message is {id,key,tag,cat,val|b64},
 * answered {id,pos} when it is as safe as the channel asks, or {id,error,code}. `id` is the
 * client's, a string or a number, given back as it is; without one the answer has none. JSON in
 * text or binary frames; with encoding=msgpack binary frames are msgpack, and a `val` that is bin
 * is the value's bytes. An answer has the kind of its frame.
 *
 *   frame ─▶ lv_publish (one item) ─▶ … ─▶ done ─▶ the list's head: answered, in order
 *
 * Answers come in the order of the frames, whatever became of them, so that who sends no ids can
 * count. Reading stops while the loop's publish queue is full or `limits.inflight` answers are due.
 * A connection outlives its client until its last answer has come. @thread loop */
#include "gateway/ws_publish.h"
#include "access/access.h"
#include "gateway/publish.h"
#include "net/ws.h"
#include "wire/msgpack.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum {
  WS_PUB_MAGIC = 0x57535042,
  PING_MS = 30000,
  ANSWER_MAX = LV_HUB_ID_MAX + 512,
  SCRATCH_SMALL = 16 * 1024
};

/* A frame until it is answered. */
typedef struct frame {
  struct frame *next;
  struct lv_ws_pub *ws;
  lv_publish *p; /* its result; NULL: not yet */
  uint8_t op;
  bool msgpack;
  uint32_t n_id;
  uint8_t id[]; /* as it came */
} frame;

typedef struct lv_ws_pub {
  uint32_t magic;
  lv_ws_conn *w; /* NULL: the client is gone */
  lv_gw_loop *gl;
  lv_auth *auth;
  lv_auth_term *term; /* of a token; NULL: none */
  struct lv_ws_pub *paused_next;
  struct lv_ws_pub *next, **at; /* of the loop's, while it is connected */
  frame *first, **tail;         /* to be answered */
  uint32_t due;                 /* so many */
  uint32_t slot;                /* in app_conns */
  uint32_t use_since;           /* lv_use_connect */
  uint8_t proto;
  bool msgpack, paused, waiting, draining; /* paused: for the broker; waiting: for answers */
  lv_slice channel, pid;
  uint8_t bytes[]; /* of these two */
} lv_ws_pub;

static lv_ws_pub *of(const lv_ws_conn *w) {
  lv_ws_pub *ws = w->data;
  assert(ws->magic == WS_PUB_MAGIC && ws->w == w);
  return ws;
}

static void ws_free(lv_ws_pub *ws) {
  assert(!ws->w && !ws->due && !ws->paused);
  ws->magic = 0;
  lv_auth_unref(ws->auth);
  free(ws);
}

/* ---- answers ---- */

static uint32_t answer_json(const frame *f, const lv_publish_res *res, lv_slice pos, char *dst) {
  int n = snprintf(dst, ANSWER_MAX, "{%s%.*s%s", f->n_id ? "\"id\":" : "", (int)f->n_id,
                   (const char *)f->id, f->n_id ? "," : "");
  if (res->err)
    n += snprintf(dst + n, ANSWER_MAX - (size_t)n, "\"error\":\"%s\",\"code\":\"%s\"}",
                  res->why ? res->why : lv_err_text(res->err), lv_err_name(res->err));
  else
    n += snprintf(dst + n, ANSWER_MAX - (size_t)n, "\"pos\":\"%.*s\"}", (int)pos.n,
                  (const char *)pos.p);
  assert(n > 0 && n < ANSWER_MAX);
  return (uint32_t)n;
}

static uint32_t answer_msgpack(const frame *f, const lv_publish_res *res, lv_slice pos,
                               char *text) {
  uint8_t *dst = (uint8_t *)text;
  uint8_t *p = lv_msgpack_put_map_head(dst, (f->n_id ? 1u : 0u) + (res->err ? 2u : 1u));
  if (f->n_id) {
    p = lv_msgpack_put_str(p, LV_SLICE("id"));
    memcpy(p, f->id, f->n_id);
    p += f->n_id;
  }
  if (res->err) {
    p = lv_msgpack_put_str(p, LV_SLICE("error"));
    p = lv_msgpack_put_str(p, lv_slice_str(res->why ? res->why : lv_err_text(res->err)));
    p = lv_msgpack_put_str(p, LV_SLICE("code"));
    p = lv_msgpack_put_str(p, lv_slice_str(lv_err_name(res->err)));
  } else {
    p = lv_msgpack_put_str(p, LV_SLICE("pos"));
    p = lv_msgpack_put_str(p, pos);
  }
  assert(p - dst < ANSWER_MAX);
  return (uint32_t)(p - dst);
}

static void answer(const frame *f) {
  char text[ANSWER_MAX], at[LV_PUBLISH_POS_MAX];
  const lv_publish_res *res = &f->p->res[0];
  lv_slice pos = {(uint8_t *)at, res->err ? 0 : lv__publish_pos(f->p->gl, res, at)};
  uint32_t n = f->msgpack ? answer_msgpack(f, res, pos, text) : answer_json(f, res, pos, text);
  lv_ws_send(f->ws->w, f->op, lv_slice_of(text, n), 0, (lv_mono){0});
}

static void bye(lv_ws_pub *ws) {
  if (ws->draining && ws->due == 0) lv_ws_close(ws->w, LV_WS_RESTART, "draining: connect again");
}

static void done(lv_publish *p) {
  frame *f = p->arg;
  lv_ws_pub *ws = f->ws;
  assert(ws->magic == WS_PUB_MAGIC && ws->due > 0 && !f->p);
  f->p = p;
  while ((f = ws->first) && f->p) {
    if (ws->w) answer(f);
    ws->first = f->next;
    if (!f->next) ws->tail = &ws->first;
    ws->due--;
    lv__publish_free(f->p);
    free(f);
  }
  if (!ws->w) {
    if (ws->due == 0) ws_free(ws);
    return;
  }
  if (ws->waiting && ws->due <= ws->auth->app->limits.inflight / 2) {
    ws->waiting = false;
    lv_conn_resume(ws->w->conn, LV_PAUSE_ANSWERS);
  }
  bye(ws);
}

/* ---- frames ---- */

/* The document may be another one now. False: the key is not in it. */
static bool still_welcome(lv_ws_pub *ws) {
  lv_conf *conf = lv_shard_conf(ws->gl->shard);
  if (ws->auth->conf == conf) return true;
  lv_auth *auth;
  if (lv_auth_renew(ws->gl->gateway->realm, conf, ws->auth, &auth)) return false;
  lv_auth_unref(ws->auth);
  ws->auth = auth;
  return true;
}

void lv__ws_publish_reloaded(void *gw_loop, lv_conf *conf) {
  lv_gw_loop *gl = gw_loop;
  (void)conf; /* the shard's by now */
  for (lv_ws_pub *ws = gl->ws_all, *next; ws; ws = next) {
    next = ws->next;
    if (!ws->w->closing && !still_welcome(ws)) lv_ws_close(ws->w, LV_WS_POLICY, "key revoked");
  }
}

static void list_add(lv_ws_pub *ws) {
  ws->next = ws->gl->ws_all;
  ws->at = &ws->gl->ws_all;
  if (ws->next) ws->next->at = &ws->next;
  *ws->at = ws;
}

static void list_del(lv_ws_pub *ws) {
  *ws->at = ws->next;
  if (ws->next) ws->next->at = ws->at;
}

static void hold_back(lv_ws_pub *ws) {
  lv_gw_loop *gl = ws->gl;
  if (lv_pub_full(gl->pub) && !ws->paused) {
    ws->paused = true;
    ws->paused_next = gl->ws_paused;
    gl->ws_paused = ws;
    lv_conn_pause(ws->w->conn, LV_PAUSE_BROKER);
  }
  if (ws->due >= ws->auth->app->limits.inflight && !ws->waiting) {
    ws->waiting = true;
    lv_conn_pause(ws->w->conn, LV_PAUSE_ANSWERS);
  }
}

void lv__ws_publish_drained(void *gw_loop) {
  lv_gw_loop *gl = gw_loop;
  while (gl->ws_paused) {
    lv_ws_pub *ws = gl->ws_paused;
    gl->ws_paused = ws->paused_next;
    ws->paused = false;
    lv_conn_resume(ws->w->conn, LV_PAUSE_BROKER);
  }
}

static frame *frame_add(lv_ws_pub *ws, uint8_t op, bool msgpack, lv_slice id) {
  frame *f = malloc(sizeof *f + id.n);
  if (!f) abort();
  *f = (frame){.ws = ws, .op = op, .msgpack = msgpack, .n_id = id.n};
  if (id.n) memcpy(f->id, id.p, id.n);
  *ws->tail = f;
  ws->tail = &f->next;
  ws->due++;
  return f;
}

/* The frame is read: its message goes its way. */
static void submit(lv_ws_pub *ws, frame *f, const lv_hub_publish *m, int err, const char *why) {
  static const lv_publish_item none;
  uint8_t small[SCRATCH_SMALL];
  lv_publish *p = lv__publish_new(ws->gl, lv_auth_ref(ws->auth), ws->proto, 1);
  p->channel = ws->channel;
  p->pid = ws->pid;
  p->conn = ws->w->conn;
  p->done = done;
  p->arg = f;
  if (ws->draining || err) {
    lv__publish_bad(p, 0, ws->draining ? LV_E_SHUTDOWN : err, ws->draining ? NULL : why);
  } else {
    uint32_t value = m->binary ? m->bin.n : m->val.s.n;
    size_t need = lv__publish_scratch(ws->channel, 0) + (size_t)m->key.n + value;
    uint8_t *scratch = need <= sizeof small ? small : malloc(need);
    if (!scratch) abort();
    lv__publish_object(p, 0, m, &none, scratch);
    if (scratch != small) free(scratch);
  }
  lv__publish_end(p);
}

static void publish_json(lv_ws_pub *ws, uint8_t op, lv_slice data) {
  lv_hub_publish m;
  const char *why = NULL;
  uint8_t small[SCRATCH_SMALL];
  uint8_t *scratch = data.n <= sizeof small ? small : malloc(data.n);
  if (!scratch) abort();
  int err = lv_hub_publish_decode(data, scratch, &m, &why);
  submit(ws, frame_add(ws, op, false, m.id), &m, err, why);
  if (scratch != small) free(scratch);
}

static void publish_msgpack(lv_ws_pub *ws, lv_slice data) {
  lv_hub_publish m;
  const char *why = NULL;
  lv_buf json;
  lv_buf_init(&json, ws->auth->app->limits.packet_bytes);
  int err = lv_hub_publish_decode_msgpack(data, &json, &m, &why);
  submit(ws, frame_add(ws, LV_WS_BINARY, true, m.id), &m, err, why);
  lv_buf_done(&json);
}

static void on_message(lv_ws_conn *w, uint8_t op, lv_slice data) {
  lv_ws_pub *ws = of(w);
  if (!still_welcome(ws)) {
    lv_ws_fail(w, LV_E_FORBIDDEN, "the key was revoked");
    return;
  }
  if (data.n > ws->auth->app->limits.packet_bytes) {
    lv_metrics *row = lv_metrics_row(ws->gl->loop->metrics, ws->auth->app_id, ws->proto);
    lv_count(row, LV_C_GW_OFFERED, 1);
    lv_count(row, LV_C_GW_REJ_BIG, 1);
    lv_ws_fail(w, LV_E_TOO_BIG, "larger than the app may send");
    return;
  }
  if (ws->msgpack && op == LV_WS_BINARY)
    publish_msgpack(ws, data);
  else
    publish_json(ws, op, data);
  if (!w->closing) hold_back(ws);
}

static void on_shutdown(lv_ws_conn *w) {
  lv_ws_pub *ws = of(w);
  ws->draining = true;
  bye(ws);
}

static void on_close(lv_ws_conn *w, int err) {
  lv_ws_pub *ws = of(w);
  (void)err;
  list_del(ws);
  atomic_fetch_sub(&ws->gl->gateway->app_conns[ws->slot], 1);
  lv_gauge(lv_metrics_row(ws->gl->loop->metrics, ws->auth->app_id, ws->proto), LV_G_CLIENTS, -1);
  lv_use_disconnect(ws->gl->loop->metrics, ws->auth->app_id, ws->use_since, ws->gl->loop->now);
  for (lv_ws_pub **at = &ws->gl->ws_paused; ws->paused && *at; at = &(*at)->paused_next) {
    if (*at != ws) continue;
    *at = ws->paused_next;
    break;
  }
  ws->paused = false;
  ws->w = NULL;
  lv_auth_term_free(ws->term);
  ws->term = NULL;
  if (ws->due == 0) ws_free(ws);
}

/* ---- the handshake ---- */

static int encoding_of(lv_slice query, bool *ret_msgpack) {
  lv_slice raw;
  bool has = lv_http_query_find(query, LV_SLICE("encoding"), &raw);
  *ret_msgpack = has && lv_slice_eq(raw, LV_SLICE("msgpack"));
  return has && !*ret_msgpack && !lv_slice_eq(raw, LV_SLICE("json")) ? LV_E_INVALID : 0;
}

/* The channel and the publisher's id, which live as long as the connection. */
static int take(const lv_http_call *call, const lv_auth *auth, lv_ws_pub **ret, const char **why) {
  const lv_http_header *h = lv_http_header_find(&call->req, LV_SLICE("Publisher-Id"));
  lv_slice raw, pid = h ? h->value : auth->key ? auth->key->id : (lv_slice){0};
  bool msgpack;
  *why = "encoding is json or msgpack";
  if (encoding_of(call->req.query, &msgpack)) return LV_E_INVALID;
  *why = "Publisher-Id is at most 256 bytes of UTF-8";
  if (pid.n > LV_PUBLISH_ID_MAX || !lv_utf8_valid(pid, true)) return LV_E_INVALID;
  *why = "the publisher of a token is its sub";
  if (auth->signer && !lv_slice_eq(pid, auth->key->id)) return LV_E_FORBIDDEN;
  *why = "channel is missing";
  if (!lv_http_query_find(call->req.query, LV_SLICE("channel"), &raw)) return LV_E_INVALID;
  lv_ws_pub *ws = calloc(1, sizeof *ws + raw.n + pid.n);
  if (!ws) abort();
  int err = lv_http_decode(raw, false, ws->bytes, &ws->channel);
  *why = "channels are [A-Za-z0-9._-]{1,64} and do not begin with _";
  if (err || (!lv_channel_name_ok(ws->channel) && !lv_slice_eq(ws->channel, LV_SLICE("_")))) {
    free(ws);
    return LV_E_TOPIC;
  }
  ws->msgpack = msgpack;
  if (pid.n) memcpy(ws->bytes + raw.n, pid.p, pid.n);
  ws->pid = lv_slice_of(ws->bytes + raw.n, pid.n);
  *why = NULL;
  *ret = ws;
  return 0;
}

static int take_slot(lv_gateway *g, const lv_auth *auth, uint32_t *ret_slot) {
  uint32_t n = sizeof g->app_conns / sizeof g->app_conns[0], max = auth->app->limits.connections;
  uint32_t slot = auth->app_id < n ? auth->app_id : n - 1;
  if (atomic_fetch_add(&g->app_conns[slot], 1) >= max && max) {
    atomic_fetch_sub(&g->app_conns[slot], 1);
    return LV_E_QUOTA;
  }
  *ret_slot = slot;
  return 0;
}

static void token_over(void *arg) {
  lv_ws_pub *ws = arg;
  lv_ws_close(ws->w, LV_WS_POLICY, "token expired");
}

static void on_call(lv_http_call *call, void *arg) {
  lv_gateway *g = arg;
  lv_gw_loop *gl = g->loops[call->loop->index];
  lv_auth *auth = NULL;
  lv_ws_pub *ws = NULL;
  const char *why = NULL;
  uint32_t slot = 0;
  bool tls = call->conn->ssl != NULL;
  int err = lv_access_http(g->realm, lv_shard_conf(gl->shard), call, &auth);
  if (!err && !lv_access_origin_ok(auth->app, &call->req)) {
    err = LV_E_FORBIDDEN;
    why = "pages of this origin may not connect";
  }
  if (!err) err = take(call, auth, &ws, &why);
  if (!err) err = take_slot(g, auth, &slot);
  if (err) {
    free(ws);
    lv_access_refuse(call, auth, err, why);
    lv_auth_unref(auth);
    return;
  }
  ws->magic = WS_PUB_MAGIC;
  ws->tail = &ws->first;
  ws->gl = gl;
  ws->auth = auth;
  ws->slot = slot;
  ws->proto = tls ? LV_KPI_WSS : LV_KPI_WS;
  ws->w = lv_ws_upgrade(call, &g->ws_publish[lv_shard_conf(gl->shard)->compression], ws);
  if (ws->w) {
    list_add(ws);
    ws->term = lv_auth_term_new(gl->loop, auth, token_over, ws);
    lv_gauge(lv_metrics_row(gl->loop->metrics, auth->app_id, ws->proto), LV_G_CLIENTS, 1);
    ws->use_since = lv_use_connect(gl->loop->metrics, auth->app_id, gl->loop->now);
    return;
  }
  atomic_fetch_sub(&g->app_conns[slot], 1);
  ws_free(ws);
}

void lv__ws_publish_routes(lv_gateway *g, lv_router *router, const lv_conf *conf) {
  static const lv_ws_ops ops = {.name = "publish over ws",
                                .on_message = on_message,
                                .on_shutdown = on_shutdown,
                                .on_close = on_close};
  lv_ws_kind *kind = calloc(2, sizeof *kind);
  if (!kind) abort();
  *kind = (lv_ws_kind){.ops = &ops,
                       .rules = {.message_max = conf->limits.packet_bytes,
                                 .whole_max = 64 * 1024,
                                 .frames_max = 1 << 16},
                       .ping_ms = PING_MS,
                       .out_max = 256 * 1024};
  kind[1] = kind[0];
  kind[1].able.pmd = LV_WS_PMD_SHARED;
  g->ws_publish = kind;
  lv_router_add(
      router,
      (lv_route){
          .method = LV_HTTP_GET, .pattern = "/v1/publish", .fn = on_call, .arg = g, .open = true});
}
