/* web.h: dashboard and console: the pages of web/, out of the binary.
 *
 *   GET /                      index.html
 *   GET /ui/{version}/{file}   what it loads
 *
 * They speak public protocols only, so serving them is all there is to do. Each file is there plain
 * and compressed (RFC 9110 §12.5.3), with an ETag. The page is asked for again each time (304 when
 * it is the same); what it loads has the build's version in its address and may be kept forever,
 * and another version's address is answered with this one's file, not to be kept. The pages may
 * load nothing from elsewhere and run nothing that is not one of their files
 * (Content-Security-Policy), and lend their address to nobody. */
#ifndef LV_WEB_WEB_H
#define LV_WEB_WEB_H
#include "net/route.h"

/* Adds the routes. @thread main */
void lv_web_routes(lv_router *router);

#endif
