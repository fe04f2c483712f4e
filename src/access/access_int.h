/* access_int.h: what the files of access/ share. */
#ifndef LV_ACCESS_INT_H
#define LV_ACCESS_INT_H
#include "session/session.h"
#include "wire/http.h"

/* Whether the signature over `input` is that key's, by that algorithm (enum lv_jwt_alg). */
bool lv__access_signed(uint8_t algorithm, const lv_jwt_key *key, lv_slice input,
                       lv_slice signature);
/* A token's text to who it is: 0 and a new reference, LV_E_BAD_AUTH, LV_E_EXPIRED. */
int lv__access_token(lv_realm *r, lv_conf *conf, lv_slice text, lv_auth **ret_auth);

/* The request's Origin; empty: there is none. False: there are several. */
bool lv__access_origin(const lv_http_req *req, lv_slice *ret);

#endif
