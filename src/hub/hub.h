/* hub.h: what customers get: channels over WebSocket and Server-Sent Events, and snapshots by GET.
 *
 * One hub a process, with a part on each loop beside the loop's session shard. A loop's part takes
 * the broker's feed, encodes each message once per variant (protocol generation, encoding, frame,
 * position, transport) and gives all who want that variant the same bytes by reference.
 *
 *   GET /ws, /v1/ws                   WebSocket, generations 1.x and 0.9
 *   GET /v1/channels/{channel}/events Server-Sent Events
 *   GET /snapshot                     the last messages of channels
 *
 * A subscription is never without a place: it starts where its snapshot ends (or where it resumes),
 * reads the log until it meets the loop's place on the feed, and is live from there on; so nothing
 * is missed or repeated in between. */
#ifndef LV_HUB_HUB_H
#define LV_HUB_HUB_H
#include "net/route.h"
#include "session/session.h"

typedef struct lv_hub lv_hub;

/* @thread main */
int lv_hub_new(lv_realm *realm, lv_broker *broker, lv_hub **ret_hub);
void lv_hub_free(lv_hub *hub);
/* Adds the hub's routes. @thread main, before the loops serve them */
void lv_hub_routes(lv_hub *hub, lv_router *router);
/* Makes this loop's part; the shard is the loop's. @thread loop */
int lv_hub_loop_init(lv_hub *hub, lv_loop *loop, lv_shard *shard);
/* Nothing more is read; after the connections were closed. @thread loop */
void lv_hub_loop_quiesce(lv_hub *hub, lv_loop *loop);
/* Frees the loop's part. Its connections are closed, the broker, too. @thread main, the loop has
 * stopped */
void lv_hub_loop_done(lv_hub *hub, lv_loop *loop);

#endif
