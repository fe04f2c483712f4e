/* test_tls.c: TLS listeners with certificates made on the spot: handshakes, garbage, resumption,
 * client certificates, reload, and the development certificate itself. */
#include "core/rand.h"
#include "net/selfsign.h"
#include "net_test.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];
static char cert[128], key[128], other_cert[128], other_key[128], client_cert[128], client_key[128];

static void make_client(void) {
  EVP_PKEY *k = EVP_EC_gen("P-256");
  X509 *x = X509_new();
  X509V3_CTX ctx;
  X509_set_version(x, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(x), 7);
  X509_gmtime_adj(X509_getm_notBefore(x), -3600);
  X509_gmtime_adj(X509_getm_notAfter(x), 3600);
  X509_NAME *name = X509_get_subject_name(x);
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"device-7", -1, -1,
                             0);
  X509_set_issuer_name(x, name);
  X509_set_pubkey(x, k);
  X509V3_set_ctx_nodb(&ctx);
  X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
  X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, NID_subject_alt_name,
                                          "IP:192.0.2.9,DNS:seven.example,URI:urn:x");
  X509_add_ext(x, e, -1);
  X509_EXTENSION_free(e);
  assert_true(X509_sign(x, k, EVP_sha256()) > 0);
  FILE *f = fopen(client_cert, "w");
  PEM_write_X509(f, x);
  fclose(f);
  f = fopen(client_key, "w");
  PEM_write_PrivateKey(f, k, NULL, NULL, 0, NULL, NULL);
  fclose(f);
  X509_free(x);
  EVP_PKEY_free(k);
}

static int setup(void **state) {
  char why[256];
  (void)state;
  snprintf(dir, sizeof dir, "/tmp/lavva-tls-XXXXXX");
  if (!mkdtemp(dir)) return -1;
  snprintf(cert, sizeof cert, "%s/cert.pem", dir);
  snprintf(key, sizeof key, "%s/key.pem", dir);
  snprintf(other_cert, sizeof other_cert, "%s/other-cert.pem", dir);
  snprintf(other_key, sizeof other_key, "%s/other-key.pem", dir);
  snprintf(client_cert, sizeof client_cert, "%s/client.pem", dir);
  snprintf(client_key, sizeof client_key, "%s/client-key.pem", dir);
  make_client();
  return lv_selfsign_ensure(cert, key, NULL, why) |
         lv_selfsign_ensure(other_cert, other_key, NULL, why);
}

static int teardown(void **state) {
  const char *all[] = {cert, key, other_cert, other_key, client_cert, client_key};
  (void)state;
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) unlink(all[i]);
  return rmdir(dir);
}

static void tls_rig(rig *r, int n_loops) {
  rig_init(r, n_loops);
  r->listens[0].proto = LV_PROTO_MQTTS;
  r->conf.tls_cert = lv_slice_str(cert);
  r->conf.tls_key = lv_slice_str(key);
}

/* ---- a client ---- */

typedef struct client {
  int fd;
  SSL_CTX *ctx;
  SSL *ssl;
} client;

static SSL_CTX *client_ctx(const char *ca) {
  SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
  assert_int_equal(SSL_CTX_load_verify_file(ctx, ca), 1);
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT);
  return ctx;
}

static int client_open(client *k, const rig *r, SSL_CTX *ctx, SSL_SESSION *resume) {
  k->fd = dial_rig(r);
  k->ctx = ctx;
  k->ssl = SSL_new(ctx);
  SSL_set_fd(k->ssl, k->fd);
  SSL_set1_host(k->ssl, "localhost");
  SSL_set_tlsext_host_name(k->ssl, "localhost");
  if (resume) SSL_set_session(k->ssl, resume);
  return SSL_connect(k->ssl);
}

/* Without close_notify, as many devices do; the session stays resumable. */
static void client_close(client *k) {
  SSL_set_shutdown(k->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  SSL_free(k->ssl);
  close(k->fd);
}

static void tput(client *k, const void *p, size_t n) {
  const uint8_t *s = p;
  while (n) {
    int w = SSL_write(k->ssl, s, (int)(n < 100000 ? n : 100000));
    assert_true(w > 0);
    s += w;
    n -= (size_t)w;
  }
}

static void tget(client *k, uint8_t *p, size_t n) {
  while (n) {
    int w = SSL_read(k->ssl, p, (int)(n < 1000000 ? n : 1000000));
    assert_true(w > 0);
    p += w;
    n -= (size_t)w;
  }
}

static void techo(client *k, uint32_t size) {
  size_t n;
  uint8_t *f = make_frame('E', size, &n), *back = malloc(n);
  tput(k, f, n);
  tget(k, back, n);
  assert_memory_equal(f, back, n);
  free(f);
  free(back);
}

/* ---- tests ---- */

static void talks(void **state) {
  static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
  (void)state;
  rig r;
  tls_rig(&r, 2);
  r.tp.in_max = 4 << 20;
  r.tp.out_max = 4 << 20;
  rig_open(&r);
  for (int i = 0; i < 2; i++) {
    SSL_CTX *ctx = client_ctx(cert);
    SSL_CTX_set_min_proto_version(ctx, versions[i]);
    SSL_CTX_set_max_proto_version(ctx, versions[i]);
    client k;
    assert_int_equal(client_open(&k, &r, ctx, NULL), 1);
    techo(&k, 10);
    techo(&k, 17000);
    techo(&k, 1 << 20); /* the client reads only after having written: both sides' buffers fill */
    for (int n = 0; n < 50; n++) techo(&k, 100 + (uint32_t)n * 97);
    uint32_t many = htonl(3 << 20);
    size_t m;
    uint8_t *f = make_frame('S', 4, &m), *all = malloc(3 << 20);
    memcpy(f + 5, &many, 4);
    tput(&k, f, m);
    tget(&k, all, 3 << 20);
    for (uint32_t b = 0; b < 3 << 20; b++) assert_int_equal(all[b], (uint8_t)(b % 65536 * 7));
    free(f);
    free(all);
    client_close(&k);
    SSL_CTX_free(ctx);
  }
  tp_wait(&r.tp, &r.tp.closes, 2);
  assert_int_equal(r.tp.close_err, 0); /* an end without close_notify is an end */
  rig_close(&r);
}

static void old_versions_are_refused(void **state) {
  (void)state;
  rig r;
  tls_rig(&r, 1);
  rig_open(&r);
  SSL_CTX *ctx = client_ctx(cert);
  SSL_CTX_set_security_level(ctx, 0);
  SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
  SSL_CTX_set_max_proto_version(ctx, TLS1_1_VERSION);
  client k;
  assert_true(client_open(&k, &r, ctx, NULL) <= 0);
  client_close(&k);
  SSL_CTX_free(ctx);
  rig_close(&r);
  assert_int_equal(r.tp.accepted, 0);
}

/* Garbage, silence and half a handshake: no protocol ever sees them. */
static void garbage_goes_nowhere(void **state) {
  (void)state;
  rig r;
  tls_rig(&r, 1);
  r.conf.connect_timeout_ms = 150;
  rig_open(&r);
  uint64_t late = lv_metrics_counter(LV_C_CONN_TIMEOUT);
  uint64_t bad = lv_metrics_counter(LV_C_CONN_PROTOCOL);
  lv_rand rnd;
  lv_rand_init(&rnd, 11);
  uint8_t junk[512], b[64];
  for (int i = 0; i < 20; i++) {
    lv_rand_fill(&rnd, junk, sizeof junk);
    if (i % 2) memcpy(junk, "\x16\x03\x01\x01\x00\x01", 6); /* a ClientHello, it says */
    int fd = dial_rig(&r);
    put(fd, junk, sizeof junk);
    (void)get_end(fd, b, sizeof b);
    close(fd);
  }
  int fd = dial_rig(&r);
  put(fd, "\x16\x03\x01", 3);
  (void)get_end(fd, b, sizeof b);
  close(fd);
  assert_true(lv_metrics_counter(LV_C_CONN_PROTOCOL) > bad);
  assert_true(lv_metrics_counter(LV_C_CONN_TIMEOUT) > late);
  assert_int_equal(r.tp.accepted, 0);
  assert_int_equal(lv_metrics_gauge(LV_G_CONNS_NEW), 0);
  rig_close(&r);
}

static SSL_SESSION *kept;

static int keep_session(SSL *ssl, SSL_SESSION *s) {
  (void)ssl;
  SSL_SESSION_free(kept);
  kept = s;
  return 1;
}

static void resumes_and_reloads(void **state) {
  (void)state;
  rig r;
  tls_rig(&r, 2);
  rig_open(&r);
  SSL_CTX *ctx = client_ctx(cert);
  SSL_CTX_sess_set_new_cb(ctx, keep_session);
  client k, old;
  assert_int_equal(client_open(&k, &r, ctx, NULL), 1);
  techo(&k, 10); /* the ticket comes before the echo */
  assert_non_null(kept);
  client_close(&k);
  for (int i = 0; i < 4; i++) { /* on either loop */
    SSL_SESSION *s = SSL_SESSION_dup(kept);
    assert_int_equal(client_open(&k, &r, ctx, s), 1);
    assert_true(SSL_session_reused(k.ssl));
    techo(&k, 10);
    client_close(&k);
    SSL_SESSION_free(s);
  }
  /* A reload: connections that are there stay, new ones see the new certificate. */
  assert_int_equal(client_open(&old, &r, ctx, NULL), 1);
  r.conf.tls_cert = lv_slice_str(other_cert);
  r.conf.tls_key = lv_slice_str(other_key);
  assert_int_equal(lv_net_reload(r.net, &r.conf, r.why), 0);
  techo(&old, 100);
  assert_true(client_open(&k, &r, ctx, NULL) <= 0); /* trusts the old one only */
  client_close(&k);
  SSL_CTX *other = client_ctx(other_cert);
  assert_int_equal(client_open(&k, &r, other, NULL), 1);
  techo(&k, 10);
  client_close(&k);
  /* A reload that fails changes nothing. */
  r.conf.tls_key = lv_slice_str(key);
  assert_int_equal(lv_net_reload(r.net, &r.conf, r.why), LV_E_CONFIG);
  assert_non_null(strstr(r.why, key));
  assert_int_equal(client_open(&k, &r, other, NULL), 1);
  client_close(&k);
  client_close(&old);
  SSL_SESSION_free(kept);
  kept = NULL;
  SSL_CTX_free(other);
  SSL_CTX_free(ctx);
  rig_close(&r);
}

static void client_certificates(void **state) {
  (void)state;
  for (int required = 0; required < 2; required++) {
    rig r;
    tls_rig(&r, 1);
    r.conf.tls_client_ca = lv_slice_str(client_cert);
    r.listens[0].client_cert = required;
    rig_open(&r);
    SSL_CTX *ctx = client_ctx(cert);
    client k;
    uint8_t b[8];
    (void)client_open(&k, &r, ctx, NULL); /* TLS 1.3 tells a client of a refusal after the fact */
    if (required) {
      assert_true(SSL_read(k.ssl, b, sizeof b) <= 0);
      assert_int_equal(r.tp.accepted, 0);
    } else {
      techo(&k, 10);
      assert_string_equal(r.tp.cn, "");
    }
    client_close(&k);
    assert_int_equal(SSL_CTX_use_certificate_file(ctx, client_cert, SSL_FILETYPE_PEM), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey_file(ctx, client_key, SSL_FILETYPE_PEM), 1);
    assert_int_equal(client_open(&k, &r, ctx, NULL), 1);
    techo(&k, 10);
    assert_string_equal(r.tp.cn, "device-7");
    assert_string_equal(r.tp.san, "seven.example");
    client_close(&k);
    /* One that nobody vouches for. */
    SSL_CTX *wrong = client_ctx(cert);
    assert_int_equal(SSL_CTX_use_certificate_file(wrong, other_cert, SSL_FILETYPE_PEM), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey_file(wrong, other_key, SSL_FILETYPE_PEM), 1);
    uint64_t before = r.tp.accepted;
    (void)client_open(&k, &r, wrong, NULL);
    assert_true(SSL_read(k.ssl, b, sizeof b) <= 0);
    assert_int_equal(r.tp.accepted, before);
    client_close(&k);
    SSL_CTX_free(wrong);
    SSL_CTX_free(ctx);
    rig_close(&r);
  }
}

static void wrong_files_are_explained(void **state) {
  (void)state;
  rig r;
  char path[160];
  tls_rig(&r, 1);
  snprintf(path, sizeof path, "%s/none.pem", dir);
  r.conf.tls_cert = lv_slice_str(path);
  assert_int_equal(rig_try_open(&r), LV_E_CONFIG);
  assert_non_null(strstr(r.why, path));
  assert_non_null(strstr(r.why, "No such file"));
  r.conf.tls_cert = LV_SLICE("");
  assert_int_equal(rig_try_open(&r), LV_E_CONFIG);
  assert_non_null(strstr(r.why, "none is configured"));
  r.conf.tls_cert = lv_slice_str(key); /* no certificate in it */
  assert_int_equal(rig_try_open(&r), LV_E_CONFIG);
  assert_non_null(strstr(r.why, key));
  r.conf.tls_cert = lv_slice_str(other_cert);
  assert_int_equal(rig_try_open(&r), LV_E_CONFIG);
  assert_non_null(strstr(r.why, "mismatch"));
  r.conf.tls_cert = lv_slice_str(cert);
  r.listens[0].client_cert = true;
  assert_int_equal(rig_try_open(&r), LV_E_CONFIG);
  assert_non_null(strstr(r.why, "client CA"));
  rig_close(&r);
}

static void alpn_is_spoken(void **state) {
  (void)state;
  rig r;
  tls_rig(&r, 1);
  rig_open(&r);
  SSL_CTX *ctx = client_ctx(cert);
  static const unsigned char offer[] = "\x08http/1.1\x04mqtt";
  SSL_CTX_set_alpn_protos(ctx, offer, sizeof offer - 1);
  client k;
  const unsigned char *p;
  unsigned n;
  assert_int_equal(client_open(&k, &r, ctx, NULL), 1);
  SSL_get0_alpn_selected(k.ssl, &p, &n);
  assert_int_equal(n, 4);
  assert_memory_equal(p, "mqtt", 4);
  client_close(&k);
  SSL_CTX_free(ctx);
  rig_close(&r);
}

/* The last words arrive, and after them a proper end. */
static void says_goodbye(void **state) {
  (void)state;
  rig r;
  tls_rig(&r, 1);
  rig_open(&r);
  SSL_CTX *ctx = client_ctx(cert);
  client k;
  assert_int_equal(client_open(&k, &r, ctx, NULL), 1);
  size_t n;
  uint8_t *f = make_frame('C', 3, &n), b[8];
  memcpy(f + 5, "bye", 3);
  tput(&k, f, n);
  tget(&k, b, 3);
  assert_memory_equal(b, "bye", 3);
  int rc = SSL_read(k.ssl, b, 1);
  assert_int_equal(SSL_get_error(k.ssl, rc), SSL_ERROR_ZERO_RETURN);
  client_close(&k);
  free(f);
  SSL_CTX_free(ctx);
  rig_close(&r);
}

static void paused_bytes_inside_openssl(void **state) {
  (void)state;
  rig r;
  tls_rig(&r, 1);
  rig_open(&r);
  SSL_CTX *ctx = client_ctx(cert);
  client k;
  assert_int_equal(client_open(&k, &r, ctx, NULL), 1);
  size_t n, m;
  uint8_t *p = make_frame('P', 0, &n), *f = make_frame('E', 9000, &m), *back = malloc(m);
  tput(&k, p, n);
  tp_wait(&r.tp, &r.tp.frames, 1);
  for (int i = 0; i < 20; i++) tput(&k, f, m);
  rig_resume(&r);
  for (int i = 0; i < 20; i++) {
    tget(&k, back, m);
    assert_memory_equal(f, back, m);
  }
  client_close(&k);
  free(p);
  free(f);
  free(back);
  SSL_CTX_free(ctx);
  rig_close(&r);
}

static void the_certificate_is_kept(void **state) {
  (void)state;
  char c[160], k[160], why[256];
  bool made = false;
  struct stat st;
  snprintf(c, sizeof c, "%s/dev.pem", dir);
  snprintf(k, sizeof k, "%s/dev-key.pem", dir);
  assert_int_equal(lv_selfsign_ensure(c, k, &made, why), 0);
  assert_true(made);
  assert_int_equal(stat(k, &st), 0);
  assert_int_equal(st.st_mode & 07777, 0600);
  assert_int_equal(lv_selfsign_ensure(c, k, &made, why), 0);
  assert_false(made);
  assert_int_equal(truncate(k, 20), 0); /* a key that is none any more */
  assert_int_equal(lv_selfsign_ensure(c, k, &made, why), 0);
  assert_true(made);
  FILE *f = fopen(c, "r");
  X509 *x = PEM_read_X509(f, NULL, NULL, NULL);
  fclose(f);
  assert_int_equal(X509_check_host(x, "localhost", 0, 0, NULL), 1);
  assert_int_equal(X509_check_ip_asc(x, "127.0.0.1", 0), 1);
  assert_int_equal(X509_check_ip_asc(x, "::1", 0), 1);
  int days, secs;
  assert_int_equal(ASN1_TIME_diff(&days, &secs, NULL, X509_get0_notAfter(x)), 1);
  assert_true(days > 3000 && days < 3650);
  X509_free(x);
  unlink(c);
  unlink(k);
  assert_true(lv_selfsign_ensure("/nonexistent/a", "/nonexistent/b", &made, why) < 0);
  assert_non_null(strstr(why, "/nonexistent/b"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(talks),
      cmocka_unit_test(old_versions_are_refused),
      cmocka_unit_test(garbage_goes_nowhere),
      cmocka_unit_test(resumes_and_reloads),
      cmocka_unit_test(client_certificates),
      cmocka_unit_test(wrong_files_are_explained),
      cmocka_unit_test(alpn_is_spoken),
      cmocka_unit_test(says_goodbye),
      cmocka_unit_test(paused_bytes_inside_openssl),
      cmocka_unit_test(the_certificate_is_kept),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
