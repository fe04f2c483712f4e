/* mqtt_conn.h: one MQTT connection (private to gateway/). */
#ifndef LV_GATEWAY_MQTT_CONN_H
#define LV_GATEWAY_MQTT_CONN_H
#include "gateway/gateway_int.h"

/* @thread loop */
int lv__mqtt_conn_new(lv_gw_loop *gl, lv_conn *c);
/* The publish queue has drained: everybody reads again. */
void lv__mqtt_resume_all(lv_gw_loop *gl);

#endif
