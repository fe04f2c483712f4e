/* cors.c: what pages of other origins may see (Fetch standard, §3.2 "CORS protocol"). Credentials
 * mode is never used: no cookies, no Access-Control-Allow-Credentials; the key in the request
 * decides. @thread loop */
#include "access/access.h"
#include "access/access_int.h"
#include "net/origin.h"
#include <assert.h>
#include <stdio.h>

enum { HEADERS_MAX = 8 + LV_ACCESS_CORS_MAX };

bool lv__access_origin(const lv_http_req *req, lv_slice *ret) {
  bool has = false;
  *ret = (lv_slice){0};
  for (uint32_t i = 0; i < req->n_headers; i++) {
    if (!lv_slice_caseeq(req->headers[i].name, LV_SLICE("Origin"))) continue;
    if (has) return false;
    has = true;
    *ret = req->headers[i].value.n ? req->headers[i].value : LV_SLICE("null");
  }
  return true;
}

bool lv_access_origin_ok(const lv_app *app, const lv_http_req *req) {
  lv_slice origin;
  return lv__access_origin(req, &origin) &&
         lv_origin_allowed(app, origin, lv_origin_of(origin, req->host), false);
}

uint32_t lv_access_cors(const lv_http_call *call, const lv_auth *auth, lv_http_header *dst,
                        uint32_t max) {
  static const lv_http_header any = {LV_SLICE("Access-Control-Allow-Origin"), LV_SLICE("*")};
  static const lv_http_header expose = {LV_SLICE("Access-Control-Expose-Headers"),
                                        LV_SLICE("Retry-After")};
  static const lv_http_header vary = {LV_SLICE("Vary"), LV_SLICE("Origin")};
  assert(max >= LV_ACCESS_CORS_MAX);
  (void)max;
  uint32_t n = 0;
  if (!auth) {
    dst[n++] = any;
    dst[n++] = expose;
    return n;
  }
  const lv_http_header *origin = lv_http_header_find(&call->req, LV_SLICE("Origin"));
  dst[n++] = vary;
  if (!origin || !lv_access_origin_ok(auth->app, &call->req)) return n;
  dst[n++] = (lv_http_header){any.name, origin->value};
  dst[n++] = expose;
  return n;
}

void lv_access_preflight(lv_http_call *call, void *arg) {
  static const lv_http_header headers[] = {
      {LV_SLICE("Access-Control-Allow-Origin"), LV_SLICE("*")},
      {LV_SLICE("Access-Control-Allow-Methods"), LV_SLICE("GET, HEAD, POST, OPTIONS")},
      {LV_SLICE("Access-Control-Allow-Headers"),
       LV_SLICE("Authorization, Content-Type, Idempotency-Key")},
      {LV_SLICE("Access-Control-Max-Age"), LV_SLICE("86400")},
      {LV_SLICE("Access-Control-Expose-Headers"), LV_SLICE("Retry-After")},
  };
  lv_http_answer a = {
      .status = 204, .headers = headers, .n_headers = sizeof headers / sizeof *headers};
  (void)arg;
  lv_http_answer_send(call, &a);
}

void lv_access_answer(lv_http_call *call, const lv_auth *auth, const lv_http_answer *answer) {
  lv_http_header headers[HEADERS_MAX];
  lv_http_answer a = *answer;
  assert(a.n_headers + LV_ACCESS_CORS_MAX <= HEADERS_MAX);
  for (uint32_t i = 0; i < a.n_headers; i++) headers[i] = a.headers[i];
  a.n_headers += lv_access_cors(call, auth, headers + a.n_headers, HEADERS_MAX - a.n_headers);
  a.headers = headers;
  lv_http_answer_send(call, &a);
}

void lv_access_refuse(lv_http_call *call, const lv_auth *auth, int err, const char *why) {
  char text[512];
  lv_http_header headers[2];
  uint32_t n_headers = 0;
  if (!why) why = lv_err_text(err);
  int n =
      snprintf(text, sizeof text, "{\"error\":\"%s\",\"code\":\"%s\"}\n", why, lv_err_name(err));
  assert(n > 0 && (size_t)n < sizeof text && !strchr(why, '"') && !strchr(why, '\\'));
  if (lv_err_retriable(err))
    headers[n_headers++] = (lv_http_header){LV_SLICE("Retry-After"), LV_SLICE("1")};
  if (lv_err_http(err) == 401)
    headers[n_headers++] = (lv_http_header){LV_SLICE("WWW-Authenticate"), LV_SLICE("Bearer")};
  lv_access_answer(call, auth,
                   &(lv_http_answer){.status = (uint16_t)lv_err_http(err),
                                     .content_type = LV_SLICE("application/json"),
                                     .headers = headers,
                                     .n_headers = n_headers,
                                     .body = lv_slice_of(text, (size_t)n)});
}
