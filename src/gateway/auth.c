/* auth.c: credentials of a CONNECT to a key: user = app and password = key or token, a TLS client
 * certificate whose name is a key's id, or nobody where the configuration allows anonymous clients.
 *
 * Keys are compared in constant time (core/conf). Nothing here is logged. */
#include "access/access.h"
#include "gateway/gateway_int.h"

/* user: the app that the client named, empty: none. */
static int by_certificate(lv_realm *r, lv_conf *conf, lv_conn *c, lv_slice user,
                          lv_auth **ret_auth) {
  const lv_key *key = lv_access_certificate(conf, c);
  if (!key || !key->app || (user.n && !lv_slice_eq(user, key->app->name))) return LV_E_BAD_AUTH;
  *ret_auth = lv_auth_get(r, conf, key->app, key);
  return 0;
}

static int by_key(lv_realm *r, lv_conf *conf, const lv_mqtt_connect *m, lv_auth **ret_auth) {
  lv_auth *auth;
  int err = lv_access_key(r, conf, m->password, &auth);
  if (err) return err == LV_E_EXPIRED ? err : LV_E_BAD_AUTH; /* administrators' keys, too */
  if (m->has_user && !lv_slice_eq(m->user, auth->app->name)) {
    lv_auth_unref(auth);
    return LV_E_BAD_AUTH;
  }
  *ret_auth = auth;
  return 0;
}

/* A key or token counts with the user name of its app, or (5.0) with none at all. Where anonymous
 * clients are let in, one whose user names no app is such a client, whatever its password. */
int lv__auth_connect(lv_realm *r, lv_conf *conf, lv_conn *c, const lv_mqtt_connect *m,
                     lv_auth **ret_auth) {
  bool named = m->has_user && lv_conf_app(conf, m->user);
  if (m->has_password && (named || !m->has_user || !conf->anonymous))
    return by_key(r, conf, m, ret_auth);
  lv_slice user = named ? m->user : (lv_slice){NULL, 0};
  if (by_certificate(r, conf, c, user, ret_auth) == 0) return 0;
  if (named || !conf->anonymous || conf->n_apps == 0) return LV_E_BAD_AUTH;
  *ret_auth = lv_auth_get(r, conf, &conf->apps[0], NULL);
  return 0;
}
