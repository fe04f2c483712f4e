/* test_jwt.c: signatures against the vectors of RFC 7515 (A.1, A.2) and RFC 8037 (A.4), and that no
 * other bit of them passes. Whole tokens are made and tried by tests/e2e/test_42_jwt.py. */
#include "access/access_int.h"
#include "wire/jwt.h"
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* after the three above */
#include <cmocka.h>

#define CLAIMS                                                                                     \
  "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"

static lv_slice bytes(const char *text) {
  static uint8_t room[8][512];
  static int next;
  lv_slice s;
  assert_int_equal(lv_base64url_decode(lv_slice_str(text), room[next++ % 8], &s), 0);
  return s;
}

static void check(uint8_t algorithm, const lv_jwt_key *key, const char *input, lv_slice signature) {
  lv_slice in = lv_slice_str(input);
  assert_true(lv__access_signed(algorithm, key, in, signature));
  for (uint32_t i = 0; i < signature.n; i++) {
    uint8_t bad[512];
    memcpy(bad, signature.p, signature.n);
    bad[i] ^= (uint8_t)(1u << (i & 7));
    assert_false(lv__access_signed(algorithm, key, in, (lv_slice){bad, signature.n}));
  }
  assert_false(lv__access_signed(algorithm, key, in, (lv_slice){signature.p, signature.n - 1}));
  assert_false(lv__access_signed(algorithm, key, in, (lv_slice){signature.p, 0}));
  in.n--;
  assert_false(lv__access_signed(algorithm, key, in, signature));
}

static void test_hs256(void **state) {
  lv_jwt_key key = {.secret =
                        bytes("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0"
                              "iPS4hcgUuTwjAzZr1Z9CAow")};
  check(LV_JWT_HS256, &key, "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9." CLAIMS,
        bytes("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"));
}

static EVP_PKEY *rsa_key(lv_slice modulus) {
  BIGNUM *n = BN_bin2bn(modulus.p, (int)modulus.n, NULL), *e = BN_new();
  OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
  EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
  EVP_PKEY *pkey = NULL;
  assert_true(n && e && bld && ctx && BN_set_word(e, 65537));
  assert_true(OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, n) &&
              OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, e));
  OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(bld);
  assert_true(EVP_PKEY_fromdata_init(ctx) == 1 &&
              EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) == 1);
  OSSL_PARAM_free(params);
  OSSL_PARAM_BLD_free(bld);
  EVP_PKEY_CTX_free(ctx);
  BN_free(n);
  BN_free(e);
  return pkey;
}

static void test_rs256(void **state) {
  EVP_PKEY *pkey = rsa_key(bytes(
      "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1"
      "Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSH"
      "SXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_"
      "I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"));
  lv_jwt_key key = {.pkey = pkey};
  check(
      LV_JWT_RS256, &key, "eyJhbGciOiJSUzI1NiJ9." CLAIMS,
      bytes(
          "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8"
          "W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvk"
          "SjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCn"
          "vWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"));
  EVP_PKEY_free(pkey);
}

static void test_eddsa(void **state) {
  lv_slice x = bytes("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
  EVP_PKEY *pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, x.p, x.n);
  lv_jwt_key key = {.pkey = pkey};
  assert_non_null(pkey);
  check(LV_JWT_EDDSA, &key, "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
        bytes("hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0K"
              "Ag"));
  EVP_PKEY_free(pkey);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_hs256),
      cmocka_unit_test(test_rs256),
      cmocka_unit_test(test_eddsa),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
