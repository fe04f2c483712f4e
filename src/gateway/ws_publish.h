/* ws_publish.h: publishing over WebSocket (private to gateway/). */
#ifndef LV_GATEWAY_WS_PUBLISH_H
#define LV_GATEWAY_WS_PUBLISH_H
#include "gateway/gateway_int.h"
#include "net/route.h"

/* @thread main */
void lv__ws_publish_routes(lv_gateway *g, lv_router *router, const lv_conf *conf);
/* The loop's publish queue has drained: everybody is read again. @thread loop */
void lv__ws_publish_drained(void *gw_loop);

#endif
