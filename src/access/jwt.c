/* jwt.c: whether a token (JWT) holds: its signature, by the algorithm and key that the app's
 * section pins, and its claims. OpenSSL does the cryptography.
 *
 * The token names the app and perhaps a key; both only choose among what the document has. Its
 * `alg` is compared with the pinned one and never used (RFC 8725 §3.1), so that `none`, or a public
 * key taken for a secret, has no way in. What costs little is looked at first, but only somebody
 * whose signature was right learns why else he is refused. No text of a token is ever logged.
 *
 * One verification costs 2 µs (HS256), 30 µs (RS256), 120 µs (EdDSA), once a connection or HTTP
 * request. @thread loop */
#include "wire/jwt.h"
#include "access/access_int.h"
#include "core/log.h"
#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>

static lv_slice alg_name(uint8_t algorithm) {
  static const lv_slice names[LV_JWT_ALG_COUNT] = {LV_SLICE("EdDSA"), LV_SLICE("RS256"),
                                                   LV_SLICE("HS256")};
  assert(algorithm < LV_JWT_ALG_COUNT);
  return names[algorithm];
}

/* RFC 7518 §3.2 */
static bool hmac_ok(const lv_jwt_key *key, lv_slice input, lv_slice signature) {
  uint8_t mac[EVP_MAX_MD_SIZE];
  unsigned n = 0;
  if (!HMAC(EVP_sha256(), key->secret.p, (int)key->secret.n, input.p, input.n, mac, &n)) abort();
  return signature.n == n && CRYPTO_memcmp(mac, signature.p, n) == 0;
}

/* RFC 7518 §3.3 (PKCS #1 v1.5, which is OpenSSL's default), RFC 8037 §3.1 */
static bool pkey_ok(const EVP_MD *md, const lv_jwt_key *key, lv_slice input, lv_slice signature) {
  EVP_MD_CTX *ctx = EVP_MD_CTX_new();
  if (!ctx) abort();
  bool ok = EVP_DigestVerifyInit(ctx, NULL, md, NULL, key->pkey) == 1 &&
            EVP_DigestVerify(ctx, signature.p, signature.n, input.p, input.n) == 1;
  EVP_MD_CTX_free(ctx);
  ERR_clear_error(); /* TLS connections of this thread look at that queue */
  return ok;
}

bool lv__access_signed(uint8_t algorithm, const lv_jwt_key *key, lv_slice input,
                       lv_slice signature) {
  switch (algorithm) {
  case LV_JWT_HS256: return hmac_ok(key, input, signature);
  case LV_JWT_RS256: return pkey_ok(EVP_sha256(), key, input, signature);
  default: assert(algorithm == LV_JWT_EDDSA); return pkey_ok(NULL, key, input, signature);
  }
}

/* The key that it names; the only one, where neither says a name, or the token does not. */
static const lv_jwt_key *signer_of(const lv_jwt *jwt, const lv_jwt_token *t) {
  if (jwt->n_keys == 1 && (!t->kid.n || !jwt->keys[0].kid.n)) return &jwt->keys[0];
  for (uint32_t i = 0; i < jwt->n_keys && t->kid.n; i++)
    if (lv_slice_eq(jwt->keys[i].kid, t->kid)) return &jwt->keys[i];
  return NULL;
}

static bool audience_ok(const lv_jwt *jwt, const lv_jwt_token *t) {
  if (!jwt->audience.n) return true;
  for (uint32_t i = 0; i < t->n_aud; i++)
    if (lv_slice_eq(t->aud[i], jwt->audience)) return true;
  return false;
}

/* NULL: they hold. Else why not, and whether it is only that its time is over. */
static const char *claims_wrong(const lv_jwt *jwt, const lv_jwt_token *t, int64_t now_ms,
                                int *ret_err) {
  int64_t leeway_ms = jwt->leeway_s * INT64_C(1000);
  *ret_err = LV_E_BAD_AUTH;
  if (!t->sub.n) return "it has no sub";
  if (!t->has_exp) return "it has no exp";
  if (jwt->issuer.n && !lv_slice_eq(t->iss, jwt->issuer)) return "iss is another one";
  if (!audience_ok(jwt, t)) return "aud is another one";
  if (t->has_nbf && now_ms + leeway_ms < t->nbf_ms) return "it is not valid yet";
  if (jwt->max_age_s && t->exp_ms - now_ms > jwt->max_age_s * INT64_C(1000) + leeway_ms)
    return "it is valid for longer than max_age";
  if (now_ms < t->exp_ms + leeway_ms) return NULL;
  *ret_err = LV_E_EXPIRED;
  return "it has expired";
}

static int token_check(lv_realm *r, lv_conf *conf, const lv_jwt_token *t, lv_auth **ret_auth) {
  const lv_app *app = t->app.n ? lv_conf_app(conf, t->app) : NULL;
  if (!app || !lv_slice_eq(t->alg, alg_name(app->jwt.algorithm))) return LV_E_BAD_AUTH;
  const lv_jwt_key *signer = signer_of(&app->jwt, t);
  if (!signer || !lv__access_signed(app->jwt.algorithm, signer, t->input, t->signature))
    return LV_E_BAD_AUTH;
  int err;
  const char *why = claims_wrong(&app->jwt, t, lv_wall_now().ns / 1000000, &err);
  if (why) {
    lv_log(LV_INFO, "token refused app=%.*s sub=%.*s reason=%s", (int)t->app.n,
           (const char *)t->app.p, (int)t->sub.n, (const char *)t->sub.p, why);
    return err;
  }
  lv_auth_claims c = {.sub = t->sub,
                      .until = {(t->exp_ms + app->jwt.leeway_s * INT64_C(1000)) * 1000000},
                      .rights = t->rights,
                      .n_rights = t->has_rights ? (int32_t)t->n_rights : LV_AUTH_NO_RIGHTS};
  *ret_auth = lv_auth_token(r, conf, app, signer, &c);
  return 0;
}

int lv__access_token(lv_realm *r, lv_conf *conf, lv_slice text, lv_auth **ret_auth) {
  lv_jwt_token t;
  if (text.n > LV_JWT_TOKEN_MAX) return LV_E_BAD_AUTH;
  uint8_t *scratch = malloc(LV_JWT_SCRATCH(text.n));
  if (!scratch) abort();
  int err = lv_jwt_parse(text, scratch, &t) ? LV_E_BAD_AUTH : token_check(r, conf, &t, ret_auth);
  free(scratch);
  return err;
}
