/* test_jwt.c: tokens taken apart: base64url, head, claims, and everything that is refused. */
#include "wire_test.h"

#include <stdio.h>

#include "wire/jwt.h"

typedef struct parsed {
  char text[16384];
  uint8_t scratch[LV_JWT_SCRATCH(LV_JWT_TOKEN_MAX)];
  lv_jwt_token t;
} parsed;

static char *encode(char *dst, lv_slice s) {
  static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  uint32_t bits = 0, n = 0;
  for (uint32_t i = 0; i < s.n; i++) {
    bits = bits << 8 | s.p[i];
    for (n += 8; n >= 6; n -= 6) *dst++ = set[bits >> (n - 6) & 63];
  }
  if (n) *dst++ = set[bits << (6 - n) & 63];
  return dst;
}

static int parse(const char *head, const char *claims, parsed *p) {
  char *at = encode(p->text, lv_slice_str(head));
  *at++ = '.';
  at = encode(at, lv_slice_str(claims));
  *at++ = '.';
  at = encode(at, S("signature"));
  lv_slice s = heap_copy(lv_slice_of(p->text, (size_t)(at - p->text)));
  uint8_t *scratch = malloc(LV_JWT_SCRATCH(s.n));
  memset(&p->t, 0xA5, sizeof p->t);
  int err = lv_jwt_parse(s, scratch, &p->t);
  free(scratch);
  heap_free(s);
  *at = 0;
  assert_int_equal(lv_jwt_parse(lv_slice_str(p->text), p->scratch, &p->t), err);
  return err;
}

#define HEAD "{\"alg\":\"EdDSA\"}"

static void test_whole(void **state) {
  parsed p;
  assert_int_equal(parse("{\"typ\":\"JWT\",\"alg\":\"RS256\",\"kid\":\"a\\u0062\"}",
                         "{\"app\":\"x\",\"sub\":\"J\\u00e9\",\"exp\":1700000000,\"nbf\":1.5,"
                         "\"iss\":\"i\",\"aud\":[\"a\",\"b\\\"\"],\"other\":[{}],"
                         "\"rights\":{\"publish\":\"a/#\",\"subscribe\":[\"b/+\",\"c\"],\"x\":1}}",
                         &p),
                   0);
  assert_slice(p.t.alg, S("RS256"));
  assert_slice(p.t.kid, S("ab"));
  assert_slice(p.t.app, S("x"));
  assert_slice(p.t.sub, S("J\xC3\xA9"));
  assert_slice(p.t.iss, S("i"));
  assert_slice(p.t.signature, S("signature"));
  assert_true(p.t.has_exp && p.t.has_nbf && p.t.has_rights);
  assert_true(p.t.exp_ms == INT64_C(1700000000000) && p.t.nbf_ms == 1500);
  assert_int_equal(p.t.n_aud, 2);
  assert_slice(p.t.aud[1], S("b\""));
  assert_int_equal(p.t.n_rights, 3);
  assert_int_equal(p.t.rights[0].verbs, LV_VERB_PUBLISH);
  assert_slice(p.t.rights[0].pattern, S("a/#"));
  assert_int_equal(p.t.rights[2].verbs, LV_VERB_SUBSCRIBE);
  assert_slice(p.t.rights[2].pattern, S("c"));
  assert_ptr_equal(p.t.input.p, p.text);
  assert_int_equal(p.text[p.t.input.n], '.');
  assert_null(memchr(p.text + p.t.input.n + 1, '.', strlen(p.text) - p.t.input.n - 1));
}

static void test_little(void **state) {
  parsed p;
  assert_int_equal(parse(HEAD, "{}", &p), 0);
  assert_false(p.t.has_exp || p.t.has_nbf || p.t.has_rights);
  assert_int_equal(p.t.kid.n + p.t.app.n + p.t.sub.n + p.t.n_aud, 0);
  assert_int_equal(parse(HEAD, "{\"aud\":\"one\",\"rights\":{}}", &p), 0);
  assert_int_equal(p.t.n_aud, 1);
  assert_true(p.t.has_rights && p.t.n_rights == 0);
  /* the last of several counts, in the head as well */
  assert_int_equal(
      parse("{\"alg\":\"none\",\"alg\":\"EdDSA\"}", "{\"sub\":\"a\",\"sub\":\"b\"}", &p), 0);
  assert_slice(p.t.alg, S("EdDSA"));
  assert_slice(p.t.sub, S("b"));
  /* far away is as far as we count; fractions of a millisecond shorten */
  assert_int_equal(parse(HEAD, "{\"exp\":1e300,\"nbf\":0.0001}", &p), 0);
  assert_true(p.t.exp_ms == LV_JWT_MS_MAX && p.t.nbf_ms == 1);
}

static void test_refused(void **state) {
  static const char *const rows[][2] = {
      {"{}", "{}"},
      {"{\"alg\":7}", "{}"},
      {"[\"alg\"]", "{}"},
      {"{\"alg\":\"EdDSA\",\"crit\":[]}", "{}"},
      {"{\"alg\":\"EdDSA\",\"b64\":false}", "{}"},
      {"{\"alg\":\"EdDSA\",\"kid\":1}", "{}"},
      {"{\"alg\":\"EdDSA\"} x", "{}"},
      {"", "{}"},
      {HEAD, ""},
      {HEAD, "7"},
      {HEAD, "[]"},
      {HEAD, "{\"sub\":null}"},
      {HEAD, "{\"sub\":\"a\\u0000\"}"},
      {HEAD, "{\"sub\":\"\\ud800\"}"},
      {HEAD, "{\"sub\":\"\xFF\"}"},
      {HEAD, "{\"exp\":\"1\"}"},
      {HEAD, "{\"exp\":-1}"},
      {HEAD, "{\"nbf\":true}"},
      {HEAD, "{\"aud\":{}}"},
      {HEAD, "{\"aud\":[1]}"},
      {HEAD, "{\"rights\":\"#\"}"},
      {HEAD, "{\"rights\":{\"publish\":{}}}"},
      {HEAD, "{\"rights\":{\"publish\":[[\"a\"]]}}"},
      {HEAD, "{\"rights\":{\"publish\":\"\"}}"},
      {HEAD, "{\"rights\":{\"publish\":\"a#\"}}"},
      {HEAD, "{\"rights\":{\"subscribe\":\"$share/g/a\"}}"},
      {HEAD, "{\"aud\":[0,0"},
  };
  parsed p;
  for (size_t i = 0; i < COUNT(rows); i++)
    assert_err(parse(rows[i][0], rows[i][1], &p), LV_E_MALFORMED, rows[i][1]);
}

static void test_bounds(void **state) {
  char claims[4096];
  parsed p;
  for (int n = LV_JWT_RIGHTS_MAX; n <= LV_JWT_RIGHTS_MAX + 1; n++) {
    int at = snprintf(claims, sizeof claims, "{\"rights\":{\"publish\":[\"a\"");
    for (int i = 1; i < n; i++) at += snprintf(claims + at, sizeof claims - (size_t)at, ",\"a\"");
    snprintf(claims + at, sizeof claims - (size_t)at, "]}}");
    assert_err(parse(HEAD, claims, &p), n > LV_JWT_RIGHTS_MAX ? LV_E_MALFORMED : 0, "rights");
  }
  for (int n = LV_JWT_SUB_MAX; n <= LV_JWT_SUB_MAX + 1; n++) {
    snprintf(claims, sizeof claims, "{\"sub\":\"%0*d\"}", n, 0);
    assert_err(parse(HEAD, claims, &p), n > LV_JWT_SUB_MAX ? LV_E_MALFORMED : 0, "sub");
  }
  memset(p.text, 'A', LV_JWT_TOKEN_MAX + 1);
  assert_err(lv_jwt_parse(lv_slice_of(p.text, LV_JWT_TOKEN_MAX + 1), p.scratch, &p.t), LV_E_TOO_BIG,
             "long");
  assert_err(lv_jwt_parse(lv_slice_of(p.text, LV_JWT_TOKEN_MAX), p.scratch, &p.t), LV_E_MALFORMED,
             "without dots");
}

/* RFC 4648 §10 in its url form, and one spelling for each value. */
static void test_base64url(void **state) {
  static const struct {
    const char *text, *bytes;
  } rows[] = {{"", ""},
              {"Zg", "f"},
              {"Zm8", "fo"},
              {"Zm9v", "foo"},
              {"Zm9vYg", "foob"},
              {"Zm9vYmE", "fooba"},
              {"Zm9vYmFy", "foobar"},
              {"-_-_", "\xFB\xFF\xBF"},
              {"Zh", NULL},
              {"Zm9", NULL},
              {"Z", NULL},
              {"Zg==", NULL},
              {"Zm9v\n", NULL},
              {"Zm9vZ", NULL},
              {"+/+/", NULL},
              {"Zm 8", NULL},
              {"Zm9v.", NULL}};
  for (size_t i = 0; i < COUNT(rows); i++) {
    lv_slice s = heap_copy(lv_slice_str(rows[i].text)), got;
    uint8_t dst[16];
    int err = lv_base64url_decode(s, dst, &got);
    assert_err(err, rows[i].bytes ? 0 : LV_E_MALFORMED, rows[i].text);
    if (rows[i].bytes) assert_slice(got, lv_slice_str(rows[i].bytes));
    heap_free(s);
  }
}

static void test_like(void **state) {
  assert_true(lv_jwt_like(S("eyJ.x.")) && lv_jwt_like(S("eyJhbGciOiJFZERTQSJ9.e30.AA")));
  assert_false(lv_jwt_like(S("eyJ.x")) || lv_jwt_like(S("lv_a.b.c")) || lv_jwt_like(S("")) ||
               lv_jwt_like(S("eyJ.a.b.c")));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_whole),     cmocka_unit_test(test_little),
      cmocka_unit_test(test_refused),   cmocka_unit_test(test_bounds),
      cmocka_unit_test(test_base64url), cmocka_unit_test(test_like),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
