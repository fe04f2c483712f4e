/* web.h: dashboard and console: the pages of web/, out of the binary.
 *
 *   GET /            index.html
 *   GET /ui/{file}   what it loads
 *
 * They speak public protocols only, so serving them is all there is to do. Each file is there plain
 * and compressed (RFC 9110 §12.5.3), with an ETag; a browser asks again whether it changed, and
 * gets 304. The pages may load nothing from elsewhere and run nothing that is not one of their
 * files (Content-Security-Policy), and lend their address to nobody. */
#ifndef LV_WEB_WEB_H
#define LV_WEB_WEB_H
#include "net/route.h"

/* Adds the routes. @thread main */
void lv_web_routes(lv_router *router);

#endif
