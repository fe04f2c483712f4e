/* gateway.c: the process's side and each loop's side of device connections. */
#include "gateway/gateway_int.h"
#include "gateway/mqtt_conn.h"
#include <stdlib.h>

int lv_gateway_new(lv_realm *realm, lv_gateway **ret_gateway) {
  lv_gateway *g = calloc(1, sizeof *g);
  if (!g) return LV_E_NOMEM;
  g->realm = realm;
  *ret_gateway = g;
  return 0;
}

void lv_gateway_free(lv_gateway *g) {
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
  if (err) {
    free(gl);
    return err;
  }
  lv_pub_on_drained(lv_shard_pub(gl->shard), drained, gl);
  g->loops[loop->index] = gl;
  return 0;
}

void lv_gateway_loop_quiesce(lv_gateway *g, lv_loop *loop) {
  lv_gw_loop *gl = g->loops[loop->index];
  if (gl) lv_shard_quiesce(gl->shard);
}

void lv_gateway_loop_done(lv_gateway *g, lv_loop *loop) {
  lv_gw_loop *gl = g->loops[loop->index];
  if (!gl) return;
  lv_shard_free(gl->shard);
  free(gl);
  g->loops[loop->index] = NULL;
}

static int on_accept(lv_conn *c, void *arg) {
  lv_gateway *g = arg;
  return lv__mqtt_conn_new(g->loops[c->loop->index], c);
}

lv_accept lv_gateway_accept(lv_gateway *g) {
  return (lv_accept){.on_accept = on_accept, .arg = g};
}
