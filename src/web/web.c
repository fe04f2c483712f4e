/* web.c: see web.h. @thread loop */
#include "web/web.h"
#include "net/http.h"
#include "web/web_int.h"

static bool is_space(uint8_t c) {
  return c == ' ' || c == '\t';
}

static lv_slice trim(lv_slice s) {
  while (s.n && is_space(s.p[0])) s = (lv_slice){s.p + 1, s.n - 1};
  while (s.n && is_space(s.p[s.n - 1])) s.n--;
  return s;
}

/* Whether one item of a list is that word; parameters behind `;` are given in ret_params. */
static bool item_is(lv_slice item, lv_slice word, lv_slice *ret_params) {
  lv_slice name;
  *ret_params = item;
  (void)lv_slice_split(ret_params, ';', &name);
  return lv_slice_caseeq(trim(name), word);
}

/* `gzip` in Accept-Encoding, but not with q=0. */
static bool takes_gzip(const lv_http_req *req) {
  const lv_http_header *h = lv_http_header_find(req, LV_SLICE("Accept-Encoding"));
  lv_slice rest = h ? h->value : (lv_slice){NULL, 0}, params;
  while (rest.n) {
    lv_slice item;
    (void)lv_slice_split(&rest, ',', &item);
    if (!item_is(trim(item), LV_SLICE("gzip"), &params)) continue;
    params = trim(params);
    if (!lv_slice_starts(params, LV_SLICE("q=0"))) return true;
    for (uint32_t i = 3; i < params.n; i++)
      if (params.p[i] >= '1' && params.p[i] <= '9') return true;
    return false;
  }
  return false;
}

static bool known_already(const lv_http_req *req, const char *etag) {
  const lv_http_header *h = lv_http_header_find(req, LV_SLICE("If-None-Match"));
  lv_slice rest = h ? h->value : (lv_slice){NULL, 0};
  while (rest.n) {
    lv_slice item;
    (void)lv_slice_split(&rest, ',', &item);
    item = trim(item);
    if (lv_slice_starts(item, LV_SLICE("W/"))) item = (lv_slice){item.p + 2, item.n - 2};
    if (lv_slice_eq(item, lv_slice_str(etag))) return true;
  }
  return false;
}

static void answer_file(lv_http_call *call, const lv__web_file *f, bool forever) {
  bool gzip = takes_gzip(&call->req);
  const char *etag = gzip ? f->etag_packed : f->etag;
  bool known = known_already(&call->req, etag);
  lv_http_header headers[] = {
      {LV_SLICE("ETag"), lv_slice_str(etag)},
      {LV_SLICE("Cache-Control"),
       lv_slice_str(forever ? "public, max-age=31536000, immutable" : "no-cache")},
      {LV_SLICE("Vary"), LV_SLICE("Accept-Encoding")},
      {LV_SLICE("Content-Security-Policy"),
       LV_SLICE("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
                "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")},
      {LV_SLICE("Referrer-Policy"), LV_SLICE("no-referrer")},
      {LV_SLICE("X-Content-Type-Options"), LV_SLICE("nosniff")},
      {LV_SLICE("Cross-Origin-Opener-Policy"), LV_SLICE("same-origin")},
      {LV_SLICE("Cross-Origin-Resource-Policy"), LV_SLICE("same-origin")},
      {LV_SLICE("Content-Encoding"), LV_SLICE("gzip")},
  };
  uint32_t n = sizeof headers / sizeof *headers;
  lv_http_answer a = {.status = known ? 304 : 200,
                      .content_type = lv_slice_str(f->type),
                      .headers = headers,
                      .n_headers = gzip && !known ? n : n - 1};
  if (known)
    a.content_type = (lv_slice){NULL, 0};
  else
    a.body = gzip ? lv_slice_of(f->packed, f->n_packed) : lv_slice_of(f->plain, f->n_plain);
  lv_http_answer_send(call, &a);
}

static void file(lv_http_call *call, lv_slice name, bool forever) {
  for (uint32_t i = 0; i < lv__web_n_files; i++) {
    if (!lv_slice_eq(name, lv_slice_str(lv__web_files[i].name))) continue;
    answer_file(call, &lv__web_files[i], forever);
    return;
  }
  lv_http_answer_text(call, 404, "no such page\n");
}

static void on_index(lv_http_call *call, void *arg) {
  (void)arg;
  file(call, LV_SLICE("index.html"), false);
}

static void on_file(lv_http_call *call, void *arg) {
  (void)arg;
  file(call, call->params[1], lv_slice_eq(call->params[0], lv_slice_str(lv__web_version)));
}

void lv_web_routes(lv_router *router) {
  lv_router_add(router, (lv_route){.method = LV_HTTP_GET, .pattern = "/", .fn = on_index});
  lv_router_add(
      router, (lv_route){.method = LV_HTTP_GET, .pattern = "/ui/{version}/{file}", .fn = on_file});
}
