/* gateway.h: device connections: MQTT over TCP, TLS and WebSocket onto sessions, HTTP onto
 * publishes.
 *
 * One gateway a process; each loop has its own part with the loop's shard. What arrives is framed
 * (mqtt_conn.c), authenticated (auth.c) and handed to the session layer, which answers through the
 * connection's send queue. */
#ifndef LV_GATEWAY_GATEWAY_H
#define LV_GATEWAY_GATEWAY_H
#include "net/conn.h"
#include "net/route.h"
#include "session/session.h"

typedef struct lv_gateway lv_gateway;

/* What sessions ask of our connections; for lv_realm_new. */
extern const lv_link_ops lv_gateway_link_ops;

/* Before lv_realm_open, which gives it what it remembers. @thread main */
int lv_gateway_new(lv_realm *realm, lv_gateway **ret_gateway);
void lv_gateway_free(lv_gateway *g);
/* Makes this loop's part (its shard included). @thread loop */
int lv_gateway_loop_init(lv_gateway *g, lv_loop *loop);
/* Saves and lets go of the loop's sessions; call after the connections are closed. @thread loop */
void lv_gateway_loop_quiesce(lv_gateway *g, lv_loop *loop);
/* Frees the loop's part. @thread main, the loop has stopped */
void lv_gateway_loop_done(lv_gateway *g, lv_loop *loop);
/* The loop's shard. @thread loop */
lv_shard *lv_gateway_shard(lv_gateway *g, const lv_loop *loop);
/* Adds what devices ask for over HTTP: publishing, and MQTT over WebSocket (MQTT 5.0 §6). The
 * gateway outlives the router's use. @thread main */
void lv_gateway_routes(lv_gateway *g, lv_router *router, const lv_conf *conf);
/* For lv_net_open's accept[LV_PROTO_MQTT] and [LV_PROTO_MQTTS]. */
lv_accept lv_gateway_accept(lv_gateway *g);

#endif
