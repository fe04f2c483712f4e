/* route.c: the table of route.h. A scan over all routes: there are tens, taken apart when they are
 * added, and most are passed over for their number of segments; a tree would pay from hundreds on.
 *
 * @thread main for adding, any for finding */
#include "net/route.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum { SEGMENTS_MAX = 12 };

typedef struct segments {
  lv_slice seg[SEGMENTS_MAX];
  uint32_t n; /* SEGMENTS_MAX + 1: more */
} segments;

struct lv_router {
  lv_route routes[LV_ROUTES_MAX];
  segments patterns[LV_ROUTES_MAX];
  uint32_t n;
};

static void take_apart(lv_slice path, segments *ret) {
  lv_slice seg;
  ret->n = 0;
  while (lv_http_path_next(&path, &seg)) {
    if (ret->n == SEGMENTS_MAX) {
      ret->n++;
      return;
    }
    ret->seg[ret->n++] = seg;
  }
}

static bool is_param(lv_slice seg) {
  return seg.n > 2 && seg.p[0] == '{' && seg.p[seg.n - 1] == '}';
}

/* How well a pattern fits: 0 not at all, else 1 + literal segments. */
static uint32_t fit(const segments *pattern, const segments *path, lv_route_match *m) {
  uint32_t literal = 0;
  if (pattern->n != path->n) return 0;
  m->n_params = 0;
  for (uint32_t i = 0; i < path->n; i++) {
    lv_slice want = pattern->seg[i], have = path->seg[i];
    if (is_param(want)) {
      if (have.n == 0) return 0;
      m->params[m->n_params++] = have;
    } else if (lv_slice_eq(want, have)) {
      literal++;
    } else {
      return 0;
    }
  }
  return 1 + literal;
}

lv_router *lv_router_new(void) {
  lv_router *r = calloc(1, sizeof *r);
  if (!r) abort();
  return r;
}

void lv_router_free(lv_router *r) {
  free(r);
}

/* Whether two patterns cannot be told apart: parameters stand at the same places. */
static bool same_shape(lv_slice a, lv_slice b) {
  for (;;) {
    lv_slice x, y;
    bool more = lv_http_path_next(&a, &x);
    if (more != lv_http_path_next(&b, &y)) return false;
    if (!more) return true;
    if (is_param(x) != is_param(y) || (!is_param(x) && !lv_slice_eq(x, y))) return false;
  }
}

void lv_router_add(lv_router *r, lv_route route) {
  assert(r->n < LV_ROUTES_MAX && route.fn && route.pattern[0] == '/');
  assert(route.body_max <= LV_ROUTE_BODY_MAX);
  assert(route.method != LV_HTTP_OTHER && route.method != LV_HTTP_HEAD);
  lv_slice path = lv_slice_str(route.pattern), seg;
  uint32_t params = 0;
  while (lv_http_path_next(&path, &seg)) params += is_param(seg);
  assert(params <= LV_ROUTE_PARAMS_MAX);
  for (uint32_t i = 0; i < r->n; i++)
    assert(r->routes[i].method != route.method ||
           !same_shape(lv_slice_str(r->routes[i].pattern), lv_slice_str(route.pattern)));
  take_apart(lv_slice_str(route.pattern), &r->patterns[r->n]);
  assert(r->patterns[r->n].n <= SEGMENTS_MAX);
  r->routes[r->n++] = route;
}

int lv_router_find(const lv_router *r, enum lv_http_method method, lv_slice path,
                   lv_route_match *ret) {
  enum lv_http_method as = method == LV_HTTP_HEAD ? LV_HTTP_GET : method;
  lv_route_match best = {0};
  uint32_t best_fit = 0;
  segments have;
  take_apart(path, &have);
  for (uint32_t i = 0; i < r->n && have.n <= SEGMENTS_MAX; i++) {
    if (r->patterns[i].n != have.n) continue;
    lv_route_match m = {.route = &r->routes[i]};
    uint32_t f = fit(&r->patterns[i], &have, &m);
    if (!f) continue;
    best.open = m.open = best.open || m.route->open;
    m.allowed = best.allowed | 1u << m.route->method | 1u << LV_HTTP_OPTIONS;
    if (m.route->method == LV_HTTP_GET) m.allowed |= 1u << LV_HTTP_HEAD;
    best.allowed = m.allowed;
    if (m.route->method != as || f <= best_fit) continue;
    best = m;
    best_fit = f;
  }
  if (!best.allowed) return LV_E_NOT_FOUND;
  *ret = best;
  return best.route ? 0 : LV_E_UNSUPPORTED;
}

uint32_t lv_route_allow(uint32_t allowed, char *buf, uint32_t size) {
  static const char *const names[] = {NULL,  "GET",   "HEAD",   "POST",
                                      "PUT", "PATCH", "DELETE", "OPTIONS"};
  uint32_t n = 0;
  buf[0] = 0;
  for (uint32_t m = LV_HTTP_GET; m <= LV_HTTP_OPTIONS; m++) {
    if (!(allowed & 1u << m)) continue;
    int k = snprintf(buf + n, size - n, "%s%s", n ? ", " : "", names[m]);
    assert(k > 0 && (uint32_t)k < size - n);
    n += (uint32_t)k;
  }
  return n;
}
