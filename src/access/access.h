/* access.h: who is it over HTTP, and which web pages may ask: what gateway and hub share between
 * the HTTP server and the session layer's credentials.
 *
 *   Authorization: Bearer KEY  │ the first of these that is there; KEY: a key or a token (JWT)
 *   ?apiKey=KEY                │ (several keys in one request are no request of ours: 400)
 *   TLS client certificate     │ whose SAN or CN is a key's id
 *   nobody                     │ where the document lets anonymous clients in: its first app
 *
 * Any page of any origin may learn that it may not do something: until the app is known everything
 * carries `Access-Control-Allow-Origin: *`; then the app's list decides. Cookies and other ambient
 * credentials are never looked at, so a page can do no more than its key allows. What a browser
 * lends a page (a client certificate; being nobody, from where it stands) counts only for pages of
 * the app's list and our own (net/origin.h).
 *
 * Neither a key nor a query string is ever logged or answered. @thread loop, but for what says
 * otherwise. */
#ifndef LV_ACCESS_ACCESS_H
#define LV_ACCESS_ACCESS_H
#include "net/http.h"
#include "session/session.h"

/* Who asks? 0 and a new reference; LV_E_BAD_AUTH (401): no key, an unknown one, another scheme than
 * Bearer, a token that does not hold; LV_E_EXPIRED (401): one that held; LV_E_FORBIDDEN (403): an
 * administrator's key, which has no app, or a page that may not use what its browser lends;
 * LV_E_INVALID (400): more than one key, or one that does not decode. Failures but of the last kind
 * are counted. The call must have its connection (it has, inside of its handler). */
int lv_access_http(lv_realm *r, lv_conf *conf, const lv_http_call *call, lv_auth **ret_auth);
/* The key or token (its text, or empty) by itself: where it does not come in a head. As above. */
int lv_access_key(lv_realm *r, lv_conf *conf, lv_slice text, lv_auth **ret_auth);
/* The key whose id a client's certificate names, or NULL. */
const lv_key *lv_access_certificate(const lv_conf *conf, lv_conn *c);
/* LV_KPI_HTTP or LV_KPI_HTTPS. */
static inline uint8_t lv_access_proto(const lv_conn *c) {
  return c->ssl ? LV_KPI_HTTPS : LV_KPI_HTTP;
}

/* The CORS fields of an answer into dst; how many. `auth` NULL: the app is not known. The values
 * point into the call or are static. LV_ACCESS_CORS_MAX always fit. */
enum { LV_ACCESS_CORS_MAX = 3 };
uint32_t lv_access_cors(const lv_http_call *call, const lv_auth *auth, lv_http_header *dst,
                        uint32_t max);
/* Whether a page of that origin may open a WebSocket to the app: no Origin at all (no page), a page
 * of ours, an empty list, or one of the list. @thread any */
bool lv_access_origin_ok(const lv_app *app, const lv_http_req *req);
/* Handler for an OPTIONS route beside those that pages may use: 204 with what is allowed. */
void lv_access_preflight(lv_http_call *call, void *arg);

/* lv_http_answer_send with the CORS fields behind the answer's own (at most 8). */
void lv_access_answer(lv_http_call *call, const lv_auth *auth, const lv_http_answer *answer);
/* Answers an error of the table: its status, `{"error":TEXT,"code":NAME}`, Retry-After where trying
 * again helps, WWW-Authenticate with 401, CORS. `why` (a sentence, no secrets in it) in place of
 * the error's text; NULL: that one. */
void lv_access_refuse(lv_http_call *call, const lv_auth *auth, int err, const char *why);

#endif
