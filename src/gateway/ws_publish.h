/* ws_publish.h: publishing over WebSocket (private to gateway/). */
#ifndef LV_GATEWAY_WS_PUBLISH_H
#define LV_GATEWAY_WS_PUBLISH_H
#include "gateway/gateway_int.h"
#include "net/route.h"

/* @thread main */
void lv__ws_publish_routes(lv_gateway *g, lv_router *router, const lv_conf *conf);
/* The loop's publish queue has drained: everybody is read again. @thread loop */
void lv__ws_publish_drained(void *gw_loop);
/* There is a new document (lv_shard_watch): who shows a key that is not in it is closed (1008).
 * @thread loop */
void lv__ws_publish_reloaded(void *gw_loop, lv_conf *conf);

#endif
