/* ws.c: the hub's WebSocket endpoints: /ws (1.x) and /v1/ws (0.9). @thread loop */
#include "hub/hub_int.h"
#include <stdlib.h>

static lv__hub_conn *of(lv_ws_conn *w) {
  lv__hub_conn *hc = w->data;
  assert(hc->magic == LV__HUB_CONN_MAGIC);
  return hc;
}

static void on_message(lv_ws_conn *w, uint8_t op, lv_slice data) {
  lv__hub_conn *hc = of(w);
  lv_hub_client c;
  const char *why = NULL;
  uint8_t encoding = op == LV_WS_TEXT ? LV_HUB_JSON : hc->v.encoding;
  if (hc->closing) return;
  uint8_t *copy = malloc(data.n + 1u);
  if (!copy) abort();
  int err = lv_hub_client_decode(hc->v.gen, encoding, data, copy, &c, &why);
  if (err ==
      LV_E_PROTOCOL) /* a type that means nothing here: what SDKs may say is not ours to end */
    lv_count(lv__hub_row(hc), LV_C_CONN_PROTOCOL, 1);
  else if (err)
    lv_ws_fail(w, err, why ? why : lv_err_text(err));
  else if (c.type == LV_HUB_CLIENT_SUBSCRIBE)
    lv__hub_subscribe(hc, &c);
  else
    lv__hub_unsubscribe(hc, c.channel);
  free(copy);
}

static void on_drain(lv_ws_conn *w) {
  lv__hub_drained(of(w));
}

static void on_sent(lv_ws_conn *w, uint32_t n, lv_mono stamp, lv_use use) {
  lv__hub_sent(of(w), n, stamp, use);
}

static void on_shutdown(lv_ws_conn *w) {
  lv_ws_close(w, LV_WS_RESTART, "draining: connect again");
}

static void on_close(lv_ws_conn *w, int err) {
  (void)err;
  lv__hub_conn_gone(of(w));
}

static const lv_ws_ops ops = {.name = "hub",
                              .on_message = on_message,
                              .on_drain = on_drain,
                              .on_sent = on_sent,
                              .on_shutdown = on_shutdown,
                              .on_close = on_close};
#define KIND                                                                                       \
  .ops = &ops, .rules = {.message_max = LV__HUB_IN_MAX, .whole_max = 16 * 1024, .frames_max = 64}, \
  .ping_ms = LV__HUB_PING_MS, .out_max = 8 << 20 /* then the app's */
static const lv_ws_kind kind = {KIND}, deflating = {KIND, .able = {.pmd = LV_WS_PMD_SHARED}};

static void serve(lv_http_call *call, void *hub, uint8_t gen) {
  lv__hub_loop *hl = lv__hub_here(hub, call->loop);
  lv__hub_ask *ask;
  if (lv__hub_ask_new(hl, call, LV_SLICE(""), gen, LV__OVER_WS, &ask)) return;
  lv__hub_conn *hc = lv__hub_conn_new(hl, ask, gen, LV__OVER_WS, call->conn->ssl != NULL);
  if (!hc) {
    lv_access_refuse(call, ask->auth, LV_E_QUOTA, "too many connections of this app");
    lv__hub_ask_free(ask);
    return;
  }
  hc->ws = lv_ws_upgrade(call, lv_shard_conf(hl->shard)->compression ? &deflating : &kind, hc);
  if (!hc->ws) {
    lv__hub_conn_free(hc);
    lv__hub_ask_free(ask);
    return;
  }
  hc->conn = hc->ws->conn;
  hc->v.deflate = hc->ws->deflate;
  lv__hub_conn_start(hc, ask);
}

void lv__hub_ws(lv_http_call *call, void *hub) {
  serve(call, hub, LV_HUB_V1);
}

void lv__hub_ws09(lv_http_call *call, void *hub) {
  serve(call, hub, LV_HUB_V09);
}
