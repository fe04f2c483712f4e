/* http_ops.h: what every role answers to its operator: /healthz, /readyz, /metrics. */
#ifndef LV_NET_HTTP_OPS_H
#define LV_NET_HTTP_OPS_H
#include "net/http.h"
#include <stdatomic.h>

enum lv_ready { LV_READY_STARTING, LV_READY_YES, LV_READY_DRAINING };

typedef struct lv_http_ops {
  _Atomic int ready;         /* enum lv_ready; set by the server. @thread any */
  _Atomic uint32_t scraping; /* private: /metrics being made */
  /* Whether something keeps the process from its work; then text says what. NULL: nothing can.
   * @thread loop */
  bool (*trouble)(void *arg, char *text, size_t size);
  void *trouble_arg;
} lv_http_ops;

/* Adds the routes; `ops` (zeroed: starting) outlives the router's use. /healthz says 200 while the
 * process answers at all; /readyz 200 only when ready and without trouble, else 503; both say why;
 * /metrics is Prometheus text, made on a thread of libuv's pool (its size grows with loops and
 * histograms, and a loop should not pause for it), at most four at a time. @thread main */
void lv_http_ops_routes(lv_http_ops *ops, lv_router *router);

#endif
