/* test_access.c: whose a request is, and which pages may see what, against a document of two apps:
 * requests are real heads, the connection is a bare struct. */
#include "access/access.h"
#include "net/conn_int.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* after the three above */
#include <cmocka.h>

typedef struct fix {
  lv_conf *conf;
  lv_realm *realm;
  lv_loop loop;
  lv_conn conn;
  struct lv_conn_peer peer;
  lv_http_call call;
  char head[2048], full[LV_CONF_KEY_MAX], two[LV_CONF_KEY_MAX];
} fix;

static void hex_of(const char *key, char dst[65]) {
  uint8_t h[32];
  lv_conf_key_hash(lv_slice_str(key), h);
  for (int i = 0; i < 32; i++) snprintf(dst + 2 * i, 3, "%02x", h[i]);
}

static void issue(void *arg, const lv_conf_issue *i) {
  (void)arg;
  print_message("%u: %s: %s\n", i->line, i->key, i->text);
}

static void setup(fix *f, bool anonymous) {
  char text[2048], one[65], two[65];
  memset(f, 0, sizeof *f);
  assert_int_equal(lv_conf_key_make("full", f->full), 0);
  assert_int_equal(lv_conf_key_make("two", f->two), 0);
  hex_of(f->full, one);
  hex_of(f->two, two);
  snprintf(text, sizeof text,
           "server: {anonymous: %s}\n"
           "apps:\n"
           "- name: one\n"
           "  keys: [{id: full, hash: 'sha256:%s', publish: ['#'], subscribe: ['#']}]\n"
           "- name: two\n"
           "  origins: ['https://a.example', 'http://b.example:81']\n"
           "  keys: [{id: two, hash: 'sha256:%s', publish: ['#'], subscribe: ['#']}]\n",
           anonymous ? "true" : "false", one, two);
  assert_int_equal(lv_conf_parse(NULL, lv_slice_str(text), issue, NULL, &f->conf), 0);
  assert_int_equal(lv_realm_new(f->conf, NULL, &f->realm), 0);
  f->conn.magic = LV__CONN_MAGIC;
  f->loop.metrics = lv_metrics_new();
  f->call = (lv_http_call){.conn = &f->conn, .loop = &f->loop};
}

static void teardown(fix *f) {
  lv_realm_free(f->realm);
  lv_conf_unref(f->conf);
}

static void request(fix *f, const char *query, const char *fields) {
  int n =
      snprintf(f->head, sizeof f->head, "GET /x?%s HTTP/1.1\r\nHost: h\r\n%s\r\n", query, fields);
  assert_true(n > 0 && (size_t)n < sizeof f->head);
  assert_int_equal(lv_http_head_decode(lv_slice_of(f->head, (size_t)n), &f->call.req), 0);
}

/* "app/key" of whoever it is, "app/" for nobody, else the error's name. */
static const char *who(fix *f, const char *query, const char *fields) {
  static char text[128];
  lv_auth *a = NULL;
  request(f, query, fields);
  int err = lv_access_http(f->realm, f->conf, &f->call, &a);
  if (err) {
    assert_null(a);
    return lv_err_name(err);
  }
  lv_slice key = a->key ? a->key->id : (lv_slice){0};
  snprintf(text, sizeof text, "%.*s/%.*s", (int)a->app->name.n, (const char *)a->app->name.p,
           (int)key.n, (const char *)key.p);
  lv_auth_unref(a);
  return text;
}

static const char *with(const char *format, const char *key) {
  static char text[256];
  const char *at = strchr(format, '*');
  assert_non_null(at);
  snprintf(text, sizeof text, "%.*s%s%s", (int)(at - format), format, key, at + 1);
  return text;
}

static uint64_t failures(const fix *f) {
  lv_metrics *m = lv_metrics_row(f->loop.metrics, LV_KPI_NO_APP, LV_KPI_HTTP);
  return m->c[LV_C_CONN_BAD_AUTH];
}

static void test_keys(void **state) {
  fix f;
  (void)state;
  setup(&f, false);
  assert_string_equal(who(&f, "", ""), "BAD_AUTH");
  assert_string_equal(who(&f, "", with("Authorization: Bearer *\r\n", f.full)), "one/full");
  assert_string_equal(who(&f, "", with("authorization: bEARER   *\r\n", f.two)), "two/two");
  assert_string_equal(who(&f, with("a=1&apiKey=*&b", f.two), ""), "two/two");
  assert_string_equal(who(&f, with("apikey=*", f.two), ""), "BAD_AUTH");
  assert_string_equal(who(&f, "apiKey=", ""), "BAD_AUTH");
  assert_string_equal(who(&f, "apiKey=%zz", ""), "INVALID");
  assert_string_equal(who(&f, "apiKey=a&apiKey=a", ""), "INVALID");
  assert_int_equal(failures(&f), 3);
  f.full[strlen(f.full) - 1] ^= 1;
  assert_string_equal(who(&f, "", with("Authorization: Bearer *\r\n", f.full)), "BAD_AUTH");
  f.full[strlen(f.full) - 1] ^= 1;
  assert_string_equal(who(&f, "", with("Authorization: Basic *\r\n", f.full)), "BAD_AUTH");
  assert_string_equal(who(&f, "", with("Authorization: Bearer*\r\n", f.full)), "BAD_AUTH");
  assert_string_equal(who(&f, "", "Authorization: Bearer\r\n"), "BAD_AUTH");
  assert_string_equal(who(&f, "", "Authorization: Bearer x\r\nAuthorization: Bearer x\r\n"),
                      "INVALID");
  /* both: only if they are the same */
  char query[128], field[128];
  snprintf(query, sizeof query, "apiKey=%s", f.full);
  snprintf(field, sizeof field, "Authorization: Bearer %s\r\n", f.full);
  assert_string_equal(who(&f, query, field), "one/full");
  snprintf(field, sizeof field, "Authorization: Bearer %s\r\n", f.two);
  assert_string_equal(who(&f, query, field), "INVALID");
  char longer[400] = "apiKey=lv_full_";
  memset(longer + strlen(longer), 'x', 300);
  assert_string_equal(who(&f, longer, ""), "BAD_AUTH");
  teardown(&f);
}

static void test_nobody(void **state) {
  fix f;
  (void)state;
  setup(&f, true);
  assert_string_equal(who(&f, "", ""), "one/");
  assert_string_equal(who(&f, "apiKey=demo", ""), "one/");
  assert_string_equal(who(&f, "", "Authorization: Bearer demo\r\n"), "one/");
  assert_string_equal(who(&f, "apiKey=lv_full_AAAAAAAAAAAAAAAAAAAAAA", ""), "BAD_AUTH");
  assert_string_equal(who(&f, with("apiKey=*", f.two), ""), "two/two");
  teardown(&f);
}

/* What the browser brings along is not the page's to use. */
static void test_lent(void **state) {
  fix f;
  (void)state;
  setup(&f, true);
  assert_string_equal(who(&f, "", "Origin: https://x.example\r\n"), "FORBIDDEN");
  assert_string_equal(who(&f, "", "Origin: null\r\n"), "FORBIDDEN");
  assert_string_equal(who(&f, "", "Origin:\r\n"), "FORBIDDEN");
  assert_string_equal(who(&f, with("apiKey=*", f.full), "Origin: https://x.example\r\n"),
                      "one/full");
  f.peer = (struct lv_conn_peer){.cn = "two", .names = true};
  f.conn.peer = &f.peer;
  assert_string_equal(who(&f, "", "Origin: https://x.example\r\n"), "FORBIDDEN");
  assert_string_equal(who(&f, "", "Origin: https://a.example\r\n"), "two/two");
  assert_string_equal(who(&f, "", ""), "two/two");
  teardown(&f);
}

static void test_certificates(void **state) {
  fix f;
  (void)state;
  setup(&f, true);
  f.peer = (struct lv_conn_peer){.cn = "full", .names = true};
  f.conn.peer = &f.peer;
  assert_string_equal(who(&f, "", ""), "one/full");
  f.peer.san = "two"; /* the SAN goes before the CN */
  assert_string_equal(who(&f, "", ""), "two/two");
  f.peer.san = "stranger";
  assert_string_equal(who(&f, "", ""), "one/full");
  assert_string_equal(who(&f, with("apiKey=*", f.two), ""), "two/two"); /* a key goes first */
  assert_string_equal(who(&f, "apiKey=lv_two_AAAAAAAAAAAAAAAAAAAAAA", ""), "BAD_AUTH");
  f.peer.cn = "stranger";
  assert_string_equal(who(&f, "", ""), "one/");
  teardown(&f);
}

/* The CORS fields as one text. */
static const char *cors(fix *f, const lv_app *app, const char *fields) {
  static char text[512];
  lv_http_header h[LV_ACCESS_CORS_MAX];
  lv_auth *a = app ? lv_auth_get(f->realm, f->conf, app, NULL) : NULL;
  request(f, "", fields);
  uint32_t n = lv_access_cors(&f->call, a, h, LV_ACCESS_CORS_MAX);
  size_t at = 0;
  text[0] = 0;
  for (uint32_t i = 0; i < n; i++)
    at +=
        (size_t)snprintf(text + at, sizeof text - at, "%.*s=%.*s;", (int)h[i].name.n,
                         (const char *)h[i].name.p, (int)h[i].value.n, (const char *)h[i].value.p);
  lv_auth_unref(a);
  return text;
}

static void test_cors(void **state) {
  fix f;
  (void)state;
  setup(&f, false);
  const lv_app *one = lv_conf_app(f.conf, LV_SLICE("one"));
  const lv_app *two = lv_conf_app(f.conf, LV_SLICE("two"));
  static const char any[] =
      "Access-Control-Allow-Origin=*;Access-Control-Expose-Headers=Retry-After;";
  assert_string_equal(cors(&f, NULL, ""), any);
  assert_string_equal(cors(&f, NULL, "Origin: https://x.example\r\n"), any);
  assert_string_equal(cors(&f, one, ""), "Vary=Origin;");
  assert_string_equal(cors(&f, one, "Origin: https://x.example\r\n"),
                      "Vary=Origin;Access-Control-Allow-Origin=https://x.example;"
                      "Access-Control-Expose-Headers=Retry-After;");
  assert_string_equal(cors(&f, two, "Origin: https://x.example\r\n"), "Vary=Origin;");
  assert_string_equal(cors(&f, two, "Origin: null\r\n"), "Vary=Origin;");
  assert_string_equal(cors(&f, two, "Origin: HTTPS://A.example\r\n"),
                      "Vary=Origin;Access-Control-Allow-Origin=HTTPS://A.example;"
                      "Access-Control-Expose-Headers=Retry-After;");
  teardown(&f);
}

static void test_origins(void **state) {
  static const struct {
    const char *fields;
    bool one, two;
  } t[] = {{"", true, true},
           {"Origin: https://a.example\r\n", true, true},
           {"Origin: http://b.example:81\r\n", true, true},
           {"Origin: http://a.example\r\n", true, false},
           {"Origin: http://b.example\r\n", true, false},
           {"Origin: https://a.example.evil.example\r\n", true, false},
           {"Origin: null\r\n", true, false},
           {"Origin: \r\n", true, false},
           {"Origin: https://a.example\r\nOrigin: https://a.example\r\n", false, false}};
  fix f;
  (void)state;
  setup(&f, false);
  for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
    request(&f, "", t[i].fields);
    assert_int_equal(lv_access_origin_ok(&f.conf->apps[0], &f.call.req), t[i].one);
    assert_int_equal(lv_access_origin_ok(&f.conf->apps[1], &f.call.req), t[i].two);
  }
  teardown(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_keys),         cmocka_unit_test(test_nobody),
      cmocka_unit_test(test_certificates), cmocka_unit_test(test_lent),
      cmocka_unit_test(test_cors),         cmocka_unit_test(test_origins)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
