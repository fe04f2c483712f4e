/* jwt.h: JSON Web Tokens in compact form (RFC 7515 §3.1, RFC 7519), taken apart. Pure: no I/O, no
 * allocation, no cryptography: nothing in here is true before the signature was checked over
 * `input` by who knows the key (access/jwt.c).
 *
 *   BASE64URL(head) . BASE64URL(claims) . BASE64URL(signature)
 *   └──────────── input ─────────────┘
 *
 * Strict where being lax has hurt others: no padding, no other characters, no spare bits in
 * base64url; JSON as wire/json.h has it; `crit` is refused, as we know no extension; a claim of
 * another type than ours makes the whole token malformed, rather than absent. Of members of the
 * same name the last counts (RFC 7519 §4 allows it). @thread any */
#ifndef LV_WIRE_JWT_H
#define LV_WIRE_JWT_H
#include "core/conf.h"
#include "core/err.h"

enum {
  LV_JWT_TOKEN_MAX = 8192, /* bytes of the text */
  LV_JWT_SUB_MAX = 256,    /* bytes of `sub`: it becomes a publisher's id */
  LV_JWT_RIGHTS_MAX = 64,  /* patterns of both kinds */
  LV_JWT_AUDIENCES_MAX = 16,
};

typedef struct lv_jwt_token {
  lv_slice input;     /* what is signed, in the token's text */
  lv_slice signature; /* decoded */
  lv_slice alg, kid;  /* kid empty: none */
  lv_slice iss, sub, app;
  lv_slice aud[LV_JWT_AUDIENCES_MAX];
  uint32_t n_aud;
  bool has_exp, has_nbf, has_rights;
  int64_t exp_ms, nbf_ms; /* since 1970, in 0 … LV_JWT_MS_MAX; exp rounded down, nbf up */
  lv_right rights[LV_JWT_RIGHTS_MAX];
  uint32_t n_rights;
} lv_jwt_token;
#define LV_JWT_MS_MAX INT64_C(9000000000000) /* 2255: in nanoseconds it fits 64 bits */

/* Whether a text looks like one, so that it is treated as one, right or wrong. */
bool lv_jwt_like(lv_slice text);
/* Takes a token apart. `scratch` needs LV_JWT_SCRATCH(text.n) bytes and lives as long as *ret.
 * LV_E_TOO_BIG, LV_E_MALFORMED. */
#define LV_JWT_SCRATCH(n) (2u * (uint32_t)(n) + 16u)
int lv_jwt_parse(lv_slice text, uint8_t *scratch, lv_jwt_token *ret);
/* Base64url without padding (RFC 7515 §2). dst needs n * 3 / 4 + 3 bytes. LV_E_MALFORMED. */
int lv_base64url_decode(lv_slice text, uint8_t *dst, lv_slice *ret);

#endif
