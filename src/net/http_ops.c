/* http_ops.c: the operator's routes (http_ops.h). @thread loop, making metrics: libuv's pool */
#include "net/http_ops.h"
#include <stdio.h>
#include <stdlib.h>

enum { SCRAPES_MAX = 4 };

typedef struct scrape {
  uv_work_t work; /* first: libuv's request */
  lv_http_ops *ops;
  lv_http_call *call;
  lv_block *block;
} scrape;

enum { TROUBLE_SIZE = 256 };

static bool in_trouble(lv_http_ops *ops, const char *head, char text[TROUBLE_SIZE + 32]) {
  char what[TROUBLE_SIZE];
  if (!ops->trouble || !ops->trouble(ops->trouble_arg, what, sizeof what)) return false;
  snprintf(text, TROUBLE_SIZE + 32, "%s: %s\n", head, what);
  return true;
}

static void healthz(lv_http_call *call, void *arg) {
  char text[TROUBLE_SIZE + 32];
  lv_http_answer_text(call, 200, in_trouble(arg, "ok, but in trouble", text) ? text : "ok\n");
}

static void readyz(lv_http_call *call, void *arg) {
  lv_http_ops *ops = arg;
  int ready = atomic_load(&ops->ready);
  char text[TROUBLE_SIZE + 32];
  if (ready == LV_READY_YES && in_trouble(ops, "in trouble", text))
    lv_http_answer_text(call, 503, text);
  else if (ready == LV_READY_YES)
    lv_http_answer_text(call, 200, "ready\n");
  else
    lv_http_answer_text(call, 503, ready == LV_READY_STARTING ? "starting\n" : "draining\n");
}

/* @thread pool */
static void make_metrics(uv_work_t *work) {
  scrape *s = (scrape *)work;
  size_t n = 0;
  char *text = lv_metrics_prometheus(&n);
  s->block = lv_block_new((uint32_t)n);
  if (s->block) {
    memcpy(s->block->data, text, n);
    s->block->used = (uint32_t)n;
  }
  free(text);
}

static void made_metrics(uv_work_t *work, int status) {
  scrape *s = (scrape *)work;
  lv_loop_io(s->call->loop);
  atomic_fetch_sub(&s->ops->scraping, 1);
  if (status || !s->block) {
    lv_block_unref(s->block);
    lv_http_answer_err(s->call, LV_E_NOMEM);
  } else {
    lv_http_answer a = {.status = 200,
                        .content_type = LV_SLICE("text/plain; version=0.0.4; charset=utf-8"),
                        .body = lv_slice_of(s->block->data, s->block->used),
                        .block = s->block};
    lv_http_answer_send(s->call, &a);
  }
  free(s);
}

static void metrics(lv_http_call *call, void *arg) {
  lv_http_ops *ops = arg;
  if (atomic_fetch_add(&ops->scraping, 1) >= SCRAPES_MAX) {
    atomic_fetch_sub(&ops->scraping, 1);
    lv_http_answer_err(call, LV_E_BUSY);
    return;
  }
  scrape *s = calloc(1, sizeof *s);
  if (!s) abort();
  s->ops = ops;
  s->call = call;
  int rc = uv_queue_work(&call->loop->uv, &s->work, make_metrics, made_metrics);
  assert(rc == 0);
}

void lv_http_ops_routes(lv_http_ops *ops, lv_router *router) {
  lv_router_add(router, (lv_route){LV_HTTP_GET, "/healthz", healthz, ops, 0});
  lv_router_add(router, (lv_route){LV_HTTP_GET, "/readyz", readyz, ops, 0});
  lv_router_add(router, (lv_route){LV_HTTP_GET, "/metrics", metrics, ops, 0});
}
