/* access.c: a request's credentials to a key, or to a token's owner (jwt.c). Keys are compared in
 * constant time (core/conf); what was presented is neither logged nor answered. @thread loop */
#include "access/access.h"
#include "access/access_int.h"
#include "net/origin.h"
#include "wire/jwt.h"

enum { KEY_TEXT_MAX = LV_JWT_TOKEN_MAX }; /* longer ones are neither keys nor tokens of ours */

static const lv_key *by_id(const lv_conf *conf, lv_slice id) {
  const lv_key *key = id.n ? lv_conf_key_by_id(conf, id) : NULL;
  return key && key->app ? key : NULL; /* administrators show theirs */
}

const lv_key *lv_access_certificate(const lv_conf *conf, lv_conn *c) {
  const lv_key *key = by_id(conf, lv_conn_cert_san(c));
  return key ? key : by_id(conf, lv_conn_cert_cn(c));
}

int lv_access_key(lv_realm *r, lv_conf *conf, lv_slice text, lv_auth **ret_auth) {
  const lv_key *key;
  if (lv_jwt_like(text)) return lv__access_token(r, conf, text, ret_auth);
  if (lv_conf_key(conf, text, &key)) return LV_E_BAD_AUTH;
  if (!key->app) return LV_E_FORBIDDEN;
  *ret_auth = lv_auth_get(r, conf, key->app, key);
  return 0;
}

/* The one field of that name; LV_E_INVALID when there are several. */
static int only_header(const lv_http_req *req, lv_slice name, const lv_http_header **ret) {
  const lv_http_header *found = NULL;
  for (uint32_t i = 0; i < req->n_headers; i++) {
    if (!lv_slice_caseeq(req->headers[i].name, name)) continue;
    if (found) return LV_E_INVALID;
    found = &req->headers[i];
  }
  *ret = found;
  return 0;
}

/* RFC 6750 §2.1: `Bearer` in any case, spaces, the token. */
static int bearer(lv_slice value, lv_slice *ret_token) {
  static const char scheme[] = "bearer";
  uint32_t n = sizeof scheme - 1;
  if (value.n <= n || !lv_slice_caseeq((lv_slice){value.p, n}, lv_slice_str(scheme)) ||
      value.p[n] != ' ')
    return LV_E_BAD_AUTH;
  while (n < value.n && value.p[n] == ' ') n++;
  *ret_token = (lv_slice){value.p + n, value.n - n};
  return 0;
}

/* apiKey of the query, decoded into buf. *ret_has false: it is not there. */
static int query_key(lv_slice query, uint8_t buf[KEY_TEXT_MAX], bool *ret_has, lv_slice *ret) {
  lv_slice name, value, raw = {0};
  bool has = false;
  while (lv_http_query_next(&query, &name, &value)) {
    if (!lv_slice_eq(name, LV_SLICE("apiKey"))) continue;
    if (has) return LV_E_INVALID;
    has = true;
    raw = value;
  }
  *ret_has = has;
  if (!has) return 0;
  if (raw.n > KEY_TEXT_MAX) return LV_E_BAD_AUTH;
  return lv_http_decode(raw, false, buf, ret) ? LV_E_INVALID : 0;
}

/* What was presented, if anything. */
static int presented(const lv_http_req *req, uint8_t buf[KEY_TEXT_MAX], bool *ret_has,
                     lv_slice *ret) {
  const lv_http_header *h;
  bool in_query;
  lv_slice from_query = {0};
  int err = only_header(req, LV_SLICE("Authorization"), &h);
  if (!err) err = query_key(req->query, buf, &in_query, &from_query);
  if (err) return err;
  *ret_has = h || in_query;
  *ret = from_query;
  if (!h) return 0;
  err = bearer(h->value, ret);
  if (err) return err;
  return in_query && !lv_slice_eq(*ret, from_query) ? LV_E_INVALID : 0;
}

/* What a browser adds by itself (its certificate, its place in the network) it would lend to any
 * page: that needs a page of the app's list, or of our own. */
static bool lent(const lv_app *app, const lv_http_req *req) {
  lv_slice origin;
  return !lv__access_origin(req, &origin) ||
         !lv_origin_allowed(app, origin, lv_origin_of(origin, req->host), true);
}

/* Whoever gives nothing, or something that is neither key nor token (clients that must send an
 * apiKey send any word), is nobody, where nobody is let in; one that is wrong is refused even
 * there. */
static int nobody(lv_realm *r, lv_conf *conf, const lv_http_req *req, lv_auth **ret_auth) {
  if (!conf->anonymous || conf->n_apps == 0) return LV_E_BAD_AUTH;
  if (lent(&conf->apps[0], req)) return LV_E_FORBIDDEN;
  *ret_auth = lv_auth_get(r, conf, &conf->apps[0], NULL);
  return 0;
}

static int find(lv_realm *r, lv_conf *conf, const lv_http_call *call, lv_auth **ret_auth) {
  uint8_t buf[KEY_TEXT_MAX];
  lv_slice text;
  bool has;
  int err = presented(&call->req, buf, &has, &text);
  if (err) return err;
  if (has && conf->anonymous && !lv_slice_starts(text, LV_SLICE("lv_")) && !lv_jwt_like(text))
    has = false;
  if (has) return lv_access_key(r, conf, text, ret_auth);
  const lv_key *key = lv_access_certificate(conf, call->conn);
  if (!key) return nobody(r, conf, &call->req, ret_auth);
  if (!key->app || lent(key->app, &call->req)) return LV_E_FORBIDDEN;
  *ret_auth = lv_auth_get(r, conf, key->app, key);
  return 0;
}

int lv_access_http(lv_realm *r, lv_conf *conf, const lv_http_call *call, lv_auth **ret_auth) {
  int err = find(r, conf, call, ret_auth);
  if (err && err != LV_E_INVALID)
    lv_count(lv_metrics_row(call->loop->metrics, LV_KPI_NO_APP, lv_access_proto(call->conn)),
             LV_C_CONN_BAD_AUTH, 1);
  return err;
}
