/* http_publish.h: publishing over HTTP (private to gateway/). */
#ifndef LV_GATEWAY_HTTP_PUBLISH_H
#define LV_GATEWAY_HTTP_PUBLISH_H
#include "gateway/gateway_int.h"
#include "net/route.h"

/* @thread main */
void lv__http_publish_routes(lv_gateway *g, lv_router *router, const lv_conf *conf);

#endif
