/* route.h: the table that says which handler answers which method and path.
 *
 * Filled on the main thread before the loops serve it, read-only from then on. A pattern is a path
 * whose segments are literal or `{name}`, which stands for any one segment that is not empty; a
 * literal beats a parameter. Literals are compared with the raw path (escapes are not undone: an
 * encoded slash never splits a segment, and `/%68ealthz` is another path). */
#ifndef LV_NET_ROUTE_H
#define LV_NET_ROUTE_H
#include "wire/http.h"

enum { LV_ROUTE_PARAMS_MAX = 8, LV_ROUTES_MAX = 256 };
#define LV_ROUTE_BODY_MAX (1u << 30)

struct lv_http_call;
typedef void lv_http_handler(struct lv_http_call *call, void *arg);

typedef struct lv_route {
  enum lv_http_method method; /* a GET answers HEAD too, the body is left out */
  const char *pattern;        /* lives as long as the router */
  lv_http_handler *fn;
  void *arg;
  uint32_t body_max; /* largest body, whole, up to LV_ROUTE_BODY_MAX; 0: none is taken */
  bool open; /* pages of other origins may read errors that come before the handler's turn */
} lv_route;

typedef struct lv_router lv_router;

lv_router *lv_router_new(void);
void lv_router_free(lv_router *r);
/* Adds a route. Two routes of one method whose patterns match the same paths equally well, a
 * pattern that does not start with `/`, and more than LV_ROUTES_MAX routes are programmer errors.
 * @thread main */
void lv_router_add(lv_router *r, lv_route route);

typedef struct lv_route_match {
  const lv_route *route;
  lv_slice params[LV_ROUTE_PARAMS_MAX]; /* raw segments (lv_http_decode), in the pattern's order */
  uint32_t n_params;
  uint32_t allowed; /* bits 1 << method of routes with this path, HEAD and OPTIONS included */
  bool open;        /* one of them is */
} lv_route_match;
/* LV_E_NOT_FOUND: no route has this path; LV_E_UNSUPPORTED: none with this method (405), and
 * ret->allowed says which there are. @thread any */
int lv_router_find(const lv_router *r, enum lv_http_method method, lv_slice path,
                   lv_route_match *ret);
/* "GET, HEAD, OPTIONS" of allowed bits, into buf; its length. */
uint32_t lv_route_allow(uint32_t allowed, char *buf, uint32_t size);

#endif
