/* origin.h: which web pages may use a connection: the Origin that browsers send (RFC 6454, RFC 6455
 * §10.2) against an app's allow-list. Who is no browser sends none, or whatever it likes: this
 * protects users of browsers, credentials protect everything else.
 * @thread any */
#ifndef LV_NET_ORIGIN_H
#define LV_NET_ORIGIN_H
#include "core/conf.h"

enum lv_origin {
  LV_ORIGIN_NONE,  /* no browser, or an old one */
  LV_ORIGIN_OURS,  /* a page of this server, reached by address or as localhost */
  LV_ORIGIN_NAMED, /* the same, by a name: which may be anybody's that points here */
  LV_ORIGIN_CROSS, /* another server's page */
};
/* What an Origin field says, against the request's Host. Both as they came; origin empty: none. */
enum lv_origin lv_origin_of(lv_slice origin, lv_slice host);
/* Whether pages of that origin may act in the app. Its list decides; our own pages may too. With an
 * empty list any page may, if it has a key; what acts without one (anonymous) must come from our
 * own pages, reached by address: a browser on the same machine or network would lend any page its
 * place otherwise. */
bool lv_origin_allowed(const lv_app *app, lv_slice origin, enum lv_origin kind, bool anonymous);

#endif
