/* conn.c: a customer's connection, whatever carries it: the request that opens it is judged, its
 * subscriptions are made, ended and told of, and it is counted.
 *
 * A connection that is to end while lists are walked is `doomed`: closed at the end of the turn,
 * and passed over until then. @thread loop */
#include "core/log.h"
#include "core/rand.h"
#include "hub/hub_int.h"
#include "net/origin.h"
#include "wire/mqtt.h"
#include <stdio.h>
#include <stdlib.h>

/* ---- the request ---- */

int lv__hub_channel(lv__hub_loop *hl, const lv_auth *auth, lv_slice name, lv_slice keys,
                    lv_chan **ret) {
  lv_broker *b = hl->broker;
  bool all;
  if (name.n > 64 || keys.n > LV_MQTT_TOPIC_MAX / 2) return LV_E_FILTER;
  uint8_t *topic = malloc(name.n + keys.n + 2u);
  if (!topic) abort();
  bool may = lv_auth_may_subscribe(auth, lv__filter_topic(name, keys, topic), &all);
  free(topic);
  if (!may) return LV_E_FORBIDDEN;
  lv_chan *chan = b->ops->find(b, auth->app->name, name);
  if (chan && !atomic_load(&chan->dead)) {
    *ret = chan;
    return 0;
  }
  if (!auth->app->auto_channels) return LV_E_NOT_FOUND;
  int err = atomic_load(&b->refusing);
  if (err) return err;
  lv_chan_conf c = auth->app->channel_defaults;
  c.app = auth->app->name;
  c.name = name;
  return b->ops->ensure(b, &c, auth->app_id, auth->app->limits.channels, ret);
}

/* Quotes would end the JSON string of the answer. */
static int refuse(lv_http_call *call, lv__hub_ask *ask, int err) {
  for (char *p = ask->why; *p; p++)
    if (*p == '"' || *p == '\\' || (unsigned char)*p < 0x20) *p = '\'';
  lv_access_refuse(call, ask->auth, err, ask->why[0] ? ask->why : NULL);
  lv__hub_ask_free(ask);
  return err;
}

static int find_channels(lv__hub_loop *hl, lv__hub_ask *ask) {
  for (uint32_t i = 0; i < ask->q.n_channels; i++) {
    lv_slice name = ask->q.channels[i];
    int err = lv__hub_channel(hl, ask->auth, name, ask->q.keys, &ask->chans[i]);
    if (!err) continue;
    const char *what = err == LV_E_FORBIDDEN   ? "the key may not read this channel"
                       : err == LV_E_NOT_FOUND ? "no such channel"
                                               : lv_err_text(err);
    snprintf(ask->why, sizeof ask->why, "%.*s: %s", (int)name.n, (const char *)name.p, what);
    return err;
  }
  return 0;
}

static bool origin_ok(const lv__hub_ask *ask, const lv_http_req *req) {
  const lv_http_header *h = lv_http_header_find(req, LV_SLICE("Origin"));
  lv_slice origin = h ? h->value : LV_SLICE("");
  return lv_origin_allowed(ask->auth->app, origin, lv_origin_of(origin, req->host),
                           ask->auth->key == NULL);
}

static int judge(lv__hub_loop *hl, lv_http_call *call, lv__hub_ask *ask, uint8_t transport) {
  int err = lv_access_http(hl->hub->realm, lv_shard_conf(hl->shard), call, &ask->auth);
  if (err) return err;
  if (transport == LV__OVER_WS && !origin_ok(ask, &call->req)) {
    snprintf(ask->why, sizeof ask->why, "pages of this origin may not connect");
    return LV_E_FORBIDDEN;
  }
  if (ask->q.n_channels > ask->auth->app->limits.subscriptions) {
    snprintf(ask->why, sizeof ask->why, "more channels than one connection may have");
    return LV_E_QUOTA;
  }
  return find_channels(hl, ask);
}

/* Last-Event-ID counts more than `since`: it is what the browser sends when it comes again. */
static int last_event_id(const lv_http_header *h, uint8_t *scratch, lv__hub_ask *ask) {
  if (!h || !h->value.n) return 0;
  memcpy(scratch, h->value.p, h->value.n);
  if (lv_hub_since_parse((lv_slice){scratch, h->value.n}, &ask->q.since[0])) {
    snprintf(ask->why, sizeof ask->why, "Last-Event-ID: not a position");
    return LV_E_INVALID;
  }
  ask->q.has_since = ask->q.pos = true;
  return 0;
}

int lv__hub_ask_new(lv__hub_loop *hl, lv_http_call *call, lv_slice channel, uint8_t gen,
                    uint8_t transport, lv__hub_ask **ret) {
  lv_slice query = call->req.query;
  const lv_http_header *last = lv_http_header_find(&call->req, LV_SLICE("Last-Event-ID"));
  uint32_t used = query.n + channel.n;
  lv__hub_ask *ask = calloc(1, sizeof *ask + used + (last ? last->value.n : 0) + 1u);
  if (!ask) abort();
  int err = lv_hub_query_parse(query, channel, gen, ask->scratch, &ask->q, ask->why);
  if (!err && transport == LV__OVER_SSE) err = last_event_id(last, ask->scratch + used, ask);
  if (!err && transport != LV__OVER_WS && ask->q.encoding != LV_HUB_JSON) {
    snprintf(ask->why, sizeof ask->why, "encoding: only json here");
    err = LV_E_INVALID;
  }
  if (!err) {
    ask->why[0] = 0;
    err = judge(hl, call, ask, transport);
  }
  if (err) return refuse(call, ask, err);
  *ret = ask;
  return 0;
}

void lv__hub_ask_free(lv__hub_ask *ask) {
  if (!ask) return;
  lv_auth_unref(ask->auth);
  free(ask);
}

/* ---- life ---- */

static _Atomic uint32_t *app_conns(lv_hub *hub, uint32_t app_id) {
  return &hub->app_conns[app_id < LV__HUB_APPS ? app_id : LV__HUB_APPS - 1];
}

static uint8_t *put(uint8_t *p, lv_slice s) {
  if (s.n) memcpy(p, s.p, s.n);
  return p + s.n;
}

lv__hub_wish *lv__hub_wish_new(const lv_hub_query *q) {
  size_t n = q->user_id.n + q->keys.n;
  for (uint32_t i = 0; i < q->n_cats; i++) n += q->cats[i].n + sizeof(lv_slice);
  if (!n) return NULL;
  lv__hub_wish *w = malloc(sizeof *w + n);
  if (!w) abort();
  *w = (lv__hub_wish){q->user_id.n, q->keys.n, q->n_cats};
  uint8_t *p = put(put((uint8_t *)(w->cats + w->n_cats), q->user_id), q->keys);
  for (uint32_t i = 0; i < q->n_cats; i++) {
    w->cats[i] = (lv_slice){p, q->cats[i].n};
    p = put(p, q->cats[i]);
  }
  return w;
}

lv__hub_conn *lv__hub_conn_new(lv__hub_loop *hl, const lv__hub_ask *ask, uint8_t gen,
                               uint8_t transport, bool tls) {
  const lv_hub_query *q = &ask->q;
  _Atomic uint32_t *n = app_conns(hl->hub, ask->auth->app_id);
  if (atomic_fetch_add(n, 1) >= ask->auth->app->limits.connections) {
    atomic_fetch_sub(n, 1);
    return NULL;
  }
  lv__hub_conn *hc = calloc(1, sizeof *hc);
  if (!hc) abort();
  hc->magic = LV__HUB_CONN_MAGIC;
  hc->hl = hl;
  hc->auth = lv_auth_ref(ask->auth);
  hc->proto = (uint8_t)((transport == LV__OVER_SSE ? LV_KPI_SSE : LV_KPI_WS) + (tls ? 1 : 0));
  hc->v = (lv__variant){gen, q->encoding, q->format, transport, q->pos};
  hc->has_since = q->has_since;
  hc->conflate_ms = q->conflate_ms;
  hc->wish = lv__hub_wish_new(q);
  lv_random_bytes(hc->id, sizeof hc->id);
  return hc;
}

void lv__hub_conn_free(lv__hub_conn *hc) {
  assert(hc->magic == LV__HUB_CONN_MAGIC && !hc->subs);
  atomic_fetch_sub(app_conns(hc->hl->hub, hc->auth->app_id), 1);
  hc->magic = 0;
  lv_auth_term_free(hc->term);
  lv_auth_unref(hc->auth);
  free(hc->wish);
  free(hc->doom);
  free(hc);
}

static void auth_over(void *hc) {
  lv__hub_doom(hc, LV_WS_POLICY, "token expired");
}

void lv__hub_conn_start(lv__hub_conn *hc, lv__hub_ask *ask) {
  lv__hub_loop *hl = hc->hl;
  hc->next = hl->conns;
  hc->pprev = &hl->conns;
  if (hc->next) hc->next->pprev = &hc->next;
  hl->conns = hc;
  hl->n_conns++;
  hl->idle_s = 0;
  hc->conn->out_max = hc->auth->app->limits.queue_bytes;
  hc->term = lv_auth_term_new(hl->loop, hc->auth, auth_over, hc);
  lv_gauge(lv__hub_row(hc), LV_G_CLIENTS, 1);
  hc->use_since = lv_use_connect(hl->loop->metrics, hc->auth->app_id, hl->loop->now);
  if (ask->q.n_channels == 1) hc->only = ask->chans[0];
  hc->pumping = true;
  for (uint32_t i = 0; i < ask->q.n_channels && !hc->closing; i++)
    (void)lv__hub_sub_new(hc, ask->chans[i], &ask->q.since[i], true, ask->q.snapshot);
  hc->pumping = false;
  lv__hub_ask_free(ask);
  lv__hub_pump(hc);
}

/* Its subscriptions end; what they hold is dropped for that reason. */
static void subs_end(lv__hub_conn *hc, enum lv_counter why) {
  lv__lag_orphan(hc);
  while (hc->subs) lv__hub_sub_free(hc->subs, why);
}

/* What was put, or would be, into its send queue. */
static void drop_unsent(lv__hub_conn *hc, uint32_t n) {
  uint32_t slot = hc->only ? lv_chan_kpi(hc->only) : lv_metrics_unknown_slot(hc->auth->app_id);
  lv_count(lv__hub_row(hc), LV_C_DROP_HUB_DISCONNECTED, n);
  lv_gauge(lv__hub_app_row(hc), LV_G_PENDING, -(int64_t)n);
  lv_chan_count(lv_metrics_chan_row(hc->hl->loop->metrics, slot), LV_CH_DROP_HUB, n);
}

void lv__hub_conn_gone(lv__hub_conn *hc) {
  lv__hub_loop *hl = hc->hl;
  lv_mono stamp;
  uint32_t (*whole)(const uint8_t *, uint32_t) = hc->ws ? lv_ws_whole : lv__sse_whole;
  uint32_t gone = lv_outq_gone(&hc->conn->outq, whole, &stamp);
  if (gone) lv__hub_sent(hc, gone, stamp, (lv_use){gone, 0});
  uint32_t unsent = lv_outq_unsent(&hc->conn->outq, whole);
  if (unsent) drop_unsent(hc, unsent);
  hc->closing = true;
  subs_end(hc, LV_C_DROP_HUB_DISCONNECTED);
  for (lv__hub_conn **p = &hl->doomed; hc->doom && *p; p = &(*p)->doom->next) {
    if (*p != hc) continue;
    *p = hc->doom->next;
    break;
  }
  lv_gauge(lv__hub_row(hc), LV_G_CLIENTS, -1);
  lv_use_disconnect(hl->loop->metrics, hc->auth->app_id, hc->use_since, hl->loop->now);
  *hc->pprev = hc->next;
  if (hc->next) hc->next->pprev = hc->pprev;
  hl->n_conns--;
  lv__hub_conn_free(hc);
}

void lv__hub_doom(lv__hub_conn *hc, uint16_t code, const char *why) {
  if (hc->closing) return;
  hc->closing = true;
  hc->doom = malloc(sizeof *hc->doom);
  if (!hc->doom) abort();
  *hc->doom = (lv__hub_doomed){hc->hl->doomed, why, code};
  hc->hl->doomed = hc;
}

void lv__hub_doomed_close(lv__hub_loop *hl) {
  while (hl->doomed) {
    lv__hub_conn *hc = hl->doomed;
    hl->doomed = hc->doom->next;
    bool slow = hc->doom->code == LV_WS_TRY_LATER;
    subs_end(hc, slow ? LV_C_DROP_HUB_SLOW : LV_C_DROP_HUB_DISCONNECTED);
    if (slow)
      lv_log(LV_INFO, "customer too slow, closed peer=%s queued_bytes=%u", lv_conn_peer(hc->conn),
             hc->conn->outq.bytes);
    if (hc->ws)
      lv_ws_close(hc->ws, hc->doom->code, hc->doom->why);
    else
      lv_conn_close(hc->conn, 0, true);
  }
}

/* ---- sending ---- */

void lv__hub_send(lv__hub_conn *hc, const lv__frame *f, uint32_t msgs, lv_mono stamp, lv_use use) {
  lv_outq *q = &hc->conn->outq;
  uint32_t before = q->msgs;
  if (hc->ws) {
    lv_ws_send_frames(hc->ws, f->block, f->p, f->n, msgs, stamp);
  } else {
    lv_outq_ref(q, f->block, f->p, f->n, msgs, stamp);
    lv_conn_dirty(hc->conn);
  }
  if (q->msgs != before)
    lv_outq_use(q, use);
  else if (msgs) /* it is closing already */
    drop_unsent(hc, msgs);
}

void lv__hub_send_alone(lv__hub_conn *hc, const lv__frame *f, uint32_t msgs, lv_mono stamp,
                        lv_use use) {
  lv_outq *q = &hc->conn->outq;
  lv_outq_mark own;
  if (f->n > LV__HUB_SMALL || (hc->ws && hc->ws->closing) || lv_conn_closing(hc->conn)) {
    lv__hub_send(hc, f, msgs, stamp, use);
    return;
  }
  lv_outq_mark_end(q, &own); /* not one with what is no message: lv_outq_gone counts frames */
  memcpy(lv_outq_put(q, f->n, msgs, stamp), f->p, f->n);
  if (msgs) lv_outq_use(q, use);
  lv_conn_dirty(hc->conn);
}

void lv__hub_say(lv__hub_conn *hc, lv_hub_event *e) {
  uint8_t small[4096];
  e->tms = hc->hl->loop->wall.ns / 1000000;
  uint32_t cap = lv_hub_event_bound(e);
  uint8_t *p = cap <= sizeof small ? small : malloc(cap);
  if (!p) abort();
  uint32_t n = lv_hub_event_encode(e, hc->v.gen, hc->v.encoding, p, cap);
  if (hc->ws) {
    uint8_t op = hc->v.format == LV_HUB_BINARY ? LV_WS_BINARY : LV_WS_TEXT;
    lv_ws_send(hc->ws, op, lv_slice_of(p, n), 0, (lv_mono){0});
  } else {
    lv_slice name = e->type == LV_HUB_GAP ? LV_SLICE("gap") : LV_SLICE("");
    uint32_t size = lv_hub_sse_size(LV_SLICE(""), name, lv_slice_of(p, n));
    lv_block *b = lv_block_new(size < LV_BLOCK_SIZE ? LV_BLOCK_SIZE : size);
    if (!b) abort();
    (void)lv_hub_sse_put(b->data, LV_SLICE(""), name, lv_slice_of(p, n));
    lv_outq_ref(&hc->conn->outq, b, b->data, size, 0, (lv_mono){0});
    lv_block_unref(b);
    lv_conn_dirty(hc->conn);
  }
  if (p != small) free(p);
}

void lv__hub_sent(lv__hub_conn *hc, uint32_t n, lv_mono stamp, lv_use use) {
  lv_loop *loop = hc->hl->loop;
  lv_metrics *row = lv__hub_row(hc);
  lv_count(row, LV_C_HUB_OUT, n);
  lv_use_out(row, use.steps, use.bytes);
  lv_gauge(lv__hub_app_row(hc), LV_G_PENDING, -(int64_t)n);
  if (stamp.ns)
    lv_metrics_latency(loop->metrics, row, LV_LATENCY_PROCESSING, loop->now.ns - stamp.ns, n);
}

void lv__hub_drained(lv__hub_conn *hc) {
  if (hc->closing) return;
  for (lv__hub_sub *sub = hc->subs; sub; sub = sub->next) lv__hold_flush(sub);
  lv__hub_pump(hc);
}

/* ---- subscriptions of a connection ---- */

const lv_chan_conf *lv__hub_conf(const lv_app *app, const lv_chan *chan) {
  const lv_chan_conf *c = lv_conf_channel(app, chan->name);
  return c ? c : &app->channel_defaults;
}

uint8_t lv__hub_slow_of(const lv__hub_conn *hc, const lv_chan *chan) {
  return lv__hub_conf(hc->auth->app, chan)->slow_hub;
}

/* `_` holds `$…` topics, too, which `#` as a filter does not cover and as a right does. */
lv__filter *lv__hub_filter(const lv__hub_conn *hc, const lv_chan *chan) {
  uint8_t topic[128];
  bool all = false, shared = lv_slice_eq(chan->name, LV_SLICE("_"));
  if (!shared && chan->name.n <= 64)
    (void)lv_auth_may_subscribe(hc->auth, lv__filter_topic(chan->name, LV_SLICE(""), topic), &all);
  return lv__filter_new(chan, all ? NULL : hc->auth, lv__hub_keys(hc),
                        hc->wish ? hc->wish->cats : NULL, hc->wish ? hc->wish->n_cats : 0);
}

static lv__hub_sub *sub_find(lv__hub_conn *hc, lv_slice channel) {
  for (lv__hub_sub *sub = hc->subs; sub; sub = sub->next)
    if (!sub->once && lv_slice_eq(sub->group->ch->chan->name, channel)) return sub;
  return NULL;
}

static void tell_unsubscribed(lv__hub_conn *hc, lv_slice channel, const char *error) {
  lv_hub_event e = {.type = LV_HUB_CLIENT_UNSUBSCRIBED, .channel = channel};
  if (error) e.error = lv_slice_str(error);
  lv__hub_say(hc, &e);
}

void lv__hub_subscribe(lv__hub_conn *hc, const lv_hub_client *c) {
  lv_chan *chan = NULL;
  int err = 0;
  bool named = lv_channel_name_ok(c->channel) || lv_slice_eq(c->channel, LV_SLICE("_"));
  lv_slice shown = c->channel.n > 256 ? (lv_slice){c->channel.p, 256} : c->channel;
  if (!named) err = LV_E_TOPIC;
  if (!err && hc->n_subs >= hc->auth->app->limits.subscriptions) err = LV_E_QUOTA;
  if (!err) err = lv__hub_channel(hc->hl, hc->auth, c->channel, lv__hub_keys(hc), &chan);
  if (err) {
    tell_unsubscribed(hc, shown, named ? lv_err_text(err) : "not the name of a channel");
    return;
  }
  bool again = sub_find(hc, chan->name) != NULL;
  if (chan != hc->only) hc->only = NULL;
  lv__hub_sub *sub = lv__hub_sub_new(hc, chan, NULL, false, c->has_snapshot && c->snapshot);
  sub->once = again;
  lv__hub_pump(hc);
}

void lv__hub_unsubscribe(lv__hub_conn *hc, lv_slice channel) {
  lv__hub_sub *sub = sub_find(hc, channel);
  lv_slice shown = channel.n > 256 ? (lv_slice){channel.p, 256} : channel;
  if (sub) lv__hub_sub_free(sub, LV_C_DROP_HUB_ENDED);
  tell_unsubscribed(hc, shown, sub ? NULL : "not subscribed");
  lv__hub_pump(hc);
}

/* ---- a new document ---- */

static void recheck(lv__hub_conn *hc) {
  for (lv__hub_sub *sub = hc->subs, *next; sub; sub = next) {
    lv_chan *chan = sub->group->ch->chan, *found;
    next = sub->next;
    int err = lv__hub_channel(hc->hl, hc->auth, chan->name, lv__hub_keys(hc), &found);
    if (err == LV_E_FORBIDDEN) {
      lv__hub_sub_free(sub, LV_C_DROP_HUB_ENDED);
      tell_unsubscribed(hc, chan->name, "the key may not read this channel any more");
      continue;
    }
    lv__filter_unref(sub->filter);
    sub->filter = lv__hub_filter(hc, chan);
    sub->slow = lv__hub_slow_of(hc, chan);
  }
  lv__hub_pump(hc);
}

void lv__hub_reloaded(void *arg, lv_conf *conf) {
  lv__hub_loop *hl = arg;
  for (lv__hub_conn *hc = hl->conns; hc; hc = hc->next) {
    lv_auth *auth;
    if (hc->closing) continue;
    if (lv_auth_renew(hl->hub->realm, conf, hc->auth, &auth)) {
      lv__hub_doom(hc, LV_WS_POLICY, hc->auth->signer ? "token revoked" : "key revoked");
      continue;
    }
    lv_auth_unref(hc->auth);
    hc->auth = auth;
    hc->conn->out_max = auth->app->limits.queue_bytes;
    recheck(hc);
  }
}
