/* gateway.c: the process's side and each loop's side of device connections. */
#include "gateway/gateway_int.h"
#include "gateway/http_publish.h"
#include "gateway/mqtt_conn.h"
#include "gateway/publish.h"
#include "gateway/ws_publish.h"
#include "net/ws.h"
#include <stdlib.h>

/* A message with an Idempotency-Key, of before the restart. @thread main */
static int replay(void *arg, lv_slice key, lv_slice value, const lv_rec *rec, uint8_t log) {
  lv_gateway *g = arg;
  (void)key;
  (void)value;
  lv_chan *chan = lv_realm_chan(g->realm, rec->chan);
  if (chan) lv_idem_replay(g->idem, lv_realm_app_id(g->realm, chan->app), rec, log);
  return 0;
}

int lv_gateway_new(lv_realm *realm, lv_gateway **ret_gateway) {
  lv_gateway *g = calloc(1, sizeof *g);
  if (!g) return LV_E_NOMEM;
  g->realm = realm;
  g->idem = lv_idem_new();
  lv_realm_on_replay(realm, replay, g);
  *ret_gateway = g;
  return 0;
}

void lv_gateway_free(lv_gateway *g) {
  if (!g) return;
  lv_idem_free(g->idem);
  free(g->ws_publish);
  free(g);
}

static void drained(void *arg) {
  lv__mqtt_resume_all(arg);
}

int lv_gateway_loop_init(lv_gateway *g, lv_loop *loop) {
  lv_gw_loop *gl = calloc(1, sizeof *gl);
  if (!gl) return LV_E_NOMEM;
  gl->gateway = g;
  gl->loop = loop;
  int err = lv_shard_new(g->realm, loop, &gl->shard);
  if (!err) err = lv__publish_loop_init(gl);
  if (err) {
    lv__publish_loop_done(gl);
    lv_shard_free(gl->shard);
    free(gl);
    return err;
  }
  lv_pub_on_drained(lv_shard_pub(gl->shard), drained, gl);
  gl->watch = (lv_shard_watch){.fn = lv__ws_publish_reloaded, .arg = gl};
  lv_shard_watch_add(gl->shard, &gl->watch);
  g->loops[loop->index] = gl;
  return 0;
}

void lv_gateway_loop_quiesce(lv_gateway *g, lv_loop *loop) {
  lv_gw_loop *gl = g->loops[loop->index];
  if (!gl) return;
  lv__publish_loop_quiesce(gl);
  lv_shard_quiesce(gl->shard);
}

void lv_gateway_loop_done(lv_gateway *g, lv_loop *loop) {
  lv_gw_loop *gl = g->loops[loop->index];
  if (!gl) return;
  lv__publish_loop_done(gl);
  lv_shard_free(gl->shard);
  free(gl);
  g->loops[loop->index] = NULL;
}

lv_shard *lv_gateway_shard(lv_gateway *g, const lv_loop *loop) {
  return g->loops[loop->index]->shard;
}

static int on_accept(lv_conn *c, void *arg) {
  lv_gateway *g = arg;
  return lv__mqtt_conn_new(g->loops[c->loop->index], c);
}

lv_accept lv_gateway_accept(lv_gateway *g) {
  return (lv_accept){.on_accept = on_accept, .arg = g};
}

static void on_call(lv_http_call *call, void *arg) {
  lv_gateway *g = arg;
  lv__mqtt_conn_upgrade(g->loops[call->loop->index], call);
}

void lv_gateway_routes(lv_gateway *g, lv_router *router, const lv_conf *conf) {
  lv_router_add(router, (lv_route){LV_HTTP_GET, "/mqtt", on_call, g, 0});
  lv__http_publish_routes(g, router, conf);
  lv__ws_publish_routes(g, router, conf);
}
