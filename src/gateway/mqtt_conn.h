/* mqtt_conn.h: one MQTT connection (private to gateway/). */
#ifndef LV_GATEWAY_MQTT_CONN_H
#define LV_GATEWAY_MQTT_CONN_H
#include "gateway/gateway_int.h"

/* @thread loop */
int lv__mqtt_conn_new(lv_gw_loop *gl, lv_conn *c);
/* Answers the call: a WebSocket that carries MQTT, or what is wrong with the handshake. */
struct lv_http_call;
void lv__mqtt_conn_upgrade(lv_gw_loop *gl, struct lv_http_call *call);
/* The publish queue has drained: everybody reads again. */
void lv__mqtt_resume_all(lv_gw_loop *gl);

#endif
