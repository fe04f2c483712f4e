/* jwt.c: see jwt.h. */
#include "wire/jwt.h"
#include "wire/json.h"
#include "wire/mqtt.h"
#include <assert.h>
#include <math.h>

/* ---- base64url ---- */

static int8_t digit(uint8_t c) {
  if (c >= 'A' && c <= 'Z') return (int8_t)(c - 'A');
  if (c >= 'a' && c <= 'z') return (int8_t)(c - 'a' + 26);
  if (c >= '0' && c <= '9') return (int8_t)(c - '0' + 52);
  return c == '-' ? 62 : c == '_' ? 63 : -1;
}

int lv_base64url_decode(lv_slice text, uint8_t *dst, lv_slice *ret) {
  uint32_t bits = 0, n_bits = 0, n = 0;
  if (text.n % 4 == 1) return LV_E_MALFORMED;
  for (uint32_t i = 0; i < text.n; i++) {
    int8_t d = digit(text.p[i]);
    if (d < 0) return LV_E_MALFORMED;
    bits = bits << 6 | (uint32_t)d;
    n_bits += 6;
    if (n_bits < 8) continue;
    n_bits -= 8;
    dst[n++] = (uint8_t)(bits >> n_bits);
    bits &= (1u << n_bits) - 1;
  }
  if (bits) return LV_E_MALFORMED; /* one spelling for one value */
  *ret = (lv_slice){dst, n};
  return 0;
}

/* ---- claims ---- */

typedef struct cut { /* where decoded strings go */
  uint8_t *at;
} cut;

static int string_of(cut *c, const lv_json_tok *tok, lv_slice *ret) {
  if (tok->type != LV_JSON_STRING || (tok->flags & LV_JSON_NUL)) return LV_E_MALFORMED;
  if (lv_json_unescape(tok, c->at, ret)) return LV_E_MALFORMED;
  c->at += tok->s.n;
  return 0;
}

static int optional(cut *c, const lv_json_tok *tok, lv_slice *ret) {
  return tok->type == LV_JSON_NONE ? 0 : string_of(c, tok, ret);
}

/* NumericDate (RFC 7519 §2): seconds, perhaps with a fraction. */
static int time_of(const lv_json_tok *tok, bool up, bool *ret_has, int64_t *ret) {
  if (tok->type == LV_JSON_NONE) return 0;
  if (tok->type != LV_JSON_NUMBER) return LV_E_MALFORMED;
  double v = lv_json_double(tok);
  if (!(v >= 0)) return LV_E_MALFORMED;
  v = up ? ceil(v * 1000) : floor(v * 1000);
  *ret_has = true;
  *ret = v < (double)LV_JWT_MS_MAX ? (int64_t)v : LV_JWT_MS_MAX;
  return 0;
}

typedef int item_fn(void *arg, lv_slice text);

/* A string, or an array of strings. */
static int each_string(cut *c, lv_slice json, item_fn *fn, void *arg) {
  lv_json j;
  lv_json_tok tok;
  lv_slice s;
  lv_json_init(&j, json);
  if (lv_json_next(&j, &tok) != 1) return LV_E_MALFORMED;
  if (tok.type == LV_JSON_STRING) return string_of(c, &tok, &s) ? LV_E_MALFORMED : fn(arg, s);
  if (tok.type != LV_JSON_ARRAY) return LV_E_MALFORMED;
  for (;;) {
    if (lv_json_next(&j, &tok) != 1) return LV_E_MALFORMED;
    if (tok.type == LV_JSON_ARRAY_END) return 0;
    if (string_of(c, &tok, &s) || fn(arg, s)) return LV_E_MALFORMED;
  }
}

static int add_audience(void *arg, lv_slice text) {
  lv_jwt_token *t = arg;
  if (t->n_aud == LV_JWT_AUDIENCES_MAX) return LV_E_MALFORMED;
  t->aud[t->n_aud++] = text;
  return 0;
}

typedef struct adding {
  lv_jwt_token *t;
  uint8_t verb;
} adding;

static int add_right(void *arg, lv_slice text) {
  adding *a = arg;
  if (a->t->n_rights == LV_JWT_RIGHTS_MAX || lv_mqtt_filter_check(text) ||
      lv_slice_starts(text, LV_SLICE("$share/")))
    return LV_E_MALFORMED;
  a->t->rights[a->t->n_rights++] = (lv_right){a->verb, text};
  return 0;
}

static int rights_of(cut *c, const lv_json_tok *tok, lv_jwt_token *t) {
  static const lv_slice names[] = {LV_SLICE("publish"), LV_SLICE("subscribe")};
  static const uint8_t verbs[] = {LV_VERB_PUBLISH, LV_VERB_SUBSCRIBE};
  lv_json_tok v[2];
  if (tok->type == LV_JSON_NONE) return 0;
  if (tok->type != LV_JSON_OBJECT || lv_json_pick_from(tok->s, names, 2, v)) return LV_E_MALFORMED;
  t->has_rights = true;
  for (int i = 0; i < 2; i++) {
    if (v[i].type == LV_JSON_NONE) continue;
    adding a = {t, verbs[i]};
    lv_slice text = v[i].s;
    if (v[i].type == LV_JSON_STRING) text = (lv_slice){text.p - 1, text.n + 2}; /* its quotes */
    if (each_string(c, text, add_right, &a)) return LV_E_MALFORMED;
  }
  return 0;
}

static int claims_of(cut *c, lv_slice json, lv_jwt_token *t) {
  enum { ISS, SUB, AUD, EXP, NBF, APP, RIGHTS, N };
  static const lv_slice names[N] = {LV_SLICE("iss"),   LV_SLICE("sub"), LV_SLICE("aud"),
                                    LV_SLICE("exp"),   LV_SLICE("nbf"), LV_SLICE("app"),
                                    LV_SLICE("rights")};
  lv_json_tok v[N];
  if (lv_json_pick_from(json, names, N, v)) return LV_E_MALFORMED;
  if (optional(c, &v[ISS], &t->iss) || optional(c, &v[SUB], &t->sub) ||
      optional(c, &v[APP], &t->app) || time_of(&v[EXP], false, &t->has_exp, &t->exp_ms) ||
      time_of(&v[NBF], true, &t->has_nbf, &t->nbf_ms) || t->sub.n > LV_JWT_SUB_MAX)
    return LV_E_MALFORMED;
  if (v[AUD].type != LV_JSON_NONE) {
    lv_slice text = v[AUD].s;
    if (v[AUD].type == LV_JSON_STRING) text = (lv_slice){text.p - 1, text.n + 2};
    if (each_string(c, text, add_audience, t)) return LV_E_MALFORMED;
  }
  return rights_of(c, &v[RIGHTS], t);
}

static int head_of(cut *c, lv_slice json, lv_jwt_token *t) {
  enum { ALG, KID, CRIT, B64, N };
  static const lv_slice names[N] = {LV_SLICE("alg"), LV_SLICE("kid"), LV_SLICE("crit"),
                                    LV_SLICE("b64")};
  lv_json_tok v[N];
  if (lv_json_pick_from(json, names, N, v)) return LV_E_MALFORMED;
  if (v[CRIT].type != LV_JSON_NONE || v[B64].type != LV_JSON_NONE) return LV_E_MALFORMED;
  if (string_of(c, &v[ALG], &t->alg) || optional(c, &v[KID], &t->kid)) return LV_E_MALFORMED;
  return 0;
}

/* ---- the token ---- */

bool lv_jwt_like(lv_slice text) {
  uint32_t dots = 0;
  if (!lv_slice_starts(text, LV_SLICE("eyJ"))) return false; /* `{"` */
  for (uint32_t i = 0; i < text.n; i++) dots += text.p[i] == '.';
  return dots == 2;
}

int lv_jwt_parse(lv_slice text, uint8_t *scratch, lv_jwt_token *ret) {
  lv_slice rest = text, part[3], bytes[3] = {{0}};
  if (text.n > LV_JWT_TOKEN_MAX) return LV_E_TOO_BIG;
  for (int i = 0; i < 2; i++)
    if (!lv_slice_split(&rest, '.', &part[i])) return LV_E_MALFORMED;
  part[2] = rest; /* with a dot in it, it is no base64url */
  uint8_t *at = scratch;
  for (int i = 0; i < 3; i++) {
    if (lv_base64url_decode(part[i], at, &bytes[i])) return LV_E_MALFORMED;
    at += bytes[i].n;
  }
  *ret = (lv_jwt_token){.input = {text.p, part[0].n + 1 + part[1].n}, .signature = bytes[2]};
  cut c = {at};
  int err = head_of(&c, bytes[0], ret);
  if (!err) err = claims_of(&c, bytes[1], ret);
  assert(c.at <= scratch + LV_JWT_SCRATCH(text.n));
  return err;
}
