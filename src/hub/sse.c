/* sse.c: Server-Sent Events (WHATWG HTML §9.2): one channel as an endless answer to a GET. Each
 * event is the 1.x object in JSON with its position as `id`, so that a browser that comes again
 * resumes by itself. A comment keeps proxies from closing a quiet stream. @thread loop */
#include "hub/hub_int.h"

static lv__hub_conn *of(lv_conn *c) {
  lv__hub_conn *hc = c->data;
  assert(hc->magic == LV__HUB_CONN_MAGIC);
  return hc;
}

/* Nothing is expected any more. */
static uint32_t on_bytes(lv_conn *c, const uint8_t *p, uint32_t n) {
  (void)c;
  (void)p;
  return n;
}

static void on_drain(lv_conn *c) {
  lv__hub_drained(of(c));
}

static void on_sent(lv_conn *c, uint32_t n, lv_mono stamp, lv_use use) {
  lv__hub_sent(of(c), n, stamp, use);
}

static void on_deadline(lv_conn *c) {
  static const char quiet[] = ":\n\n";
  if (c->outq.bytes == 0) {
    memcpy(lv_outq_put(&c->outq, sizeof quiet - 1, 0, (lv_mono){0}), quiet, sizeof quiet - 1);
    lv_conn_dirty(c);
  }
  lv_conn_deadline(c, LV_MS(LV__HUB_PING_MS / 2));
}

static void on_close(lv_conn *c, int err) {
  (void)err;
  lv__hub_conn_gone(of(c));
}

static void on_shutdown(lv_conn *c) {
  lv_conn_close(c, 0, true);
}

const lv_conn_ops lv__hub_sse_ops = {.name = "sse",
                                     .gauge = LV_G_CONNS_SSE,
                                     .on_bytes = on_bytes,
                                     .on_drain = on_drain,
                                     .on_sent = on_sent,
                                     .on_deadline = on_deadline,
                                     .on_close = on_close,
                                     .on_shutdown = on_shutdown};

static uint32_t head(const lv_http_call *call, const lv_auth *auth, lv_http_header *h) {
  uint32_t n = 0;
  h[n++] = (lv_http_header){LV_SLICE("Content-Type"), LV_SLICE("text/event-stream")};
  h[n++] = (lv_http_header){LV_SLICE("Cache-Control"), LV_SLICE("no-store")};
  h[n++] = (lv_http_header){LV_SLICE("X-Accel-Buffering"), LV_SLICE("no")};
  return n + lv_access_cors(call, auth, h + n, LV_ACCESS_CORS_MAX);
}

void lv__hub_events(lv_http_call *call, void *hub) {
  lv__hub_loop *hl = lv__hub_here(hub, call->loop);
  lv__hub_ask *ask;
  lv_http_header h[3 + LV_ACCESS_CORS_MAX];
  if (lv__hub_ask_new(hl, call, call->params[0], LV_HUB_V1, LV__OVER_SSE, &ask)) return;
  uint32_t n = head(call, ask->auth, h);
  if (call->req.method == LV_HTTP_HEAD) {
    lv_http_answer_send(call, &(lv_http_answer){.status = 200, .headers = h, .n_headers = n});
    lv__hub_ask_free(ask);
    return;
  }
  lv__hub_conn *hc = lv__hub_conn_new(hl, ask, LV_HUB_V1, LV__OVER_SSE, call->conn->ssl != NULL);
  if (!hc) {
    lv_access_refuse(call, ask->auth, LV_E_QUOTA, "too many connections of this app");
    lv__hub_ask_free(ask);
    return;
  }
  lv_conn *c = call->conn;
  if (!lv_http_stream(call, h, n, &lv__hub_sse_ops, hc)) {
    lv__hub_conn_free(hc);
    lv__hub_ask_free(ask);
    return;
  }
  hc->conn = c;
  c->in_max = 4096;
  lv_conn_deadline(c, LV_MS(LV__HUB_PING_MS / 2));
  lv__hub_conn_start(hc, ask);
}
