/* tls.c: TLS 1.2 and 1.3 (OpenSSL) on a connection's own descriptor.
 *
 * One SSL_CTX per TLS listener and configuration, shared by all loops (OpenSSL counts references
 * atomically); a reload makes a new one, connections keep theirs. Sessions are resumed by tickets
 * only: no shared cache, no lock, no memory per client. Ticket keys die with the context, so a new
 * client CA cannot be passed by with an old session.
 *
 * SSL_MODE_RELEASE_BUFFERS gives the 16 KiB record buffers back whenever they are empty; reading
 * ahead takes a record's header and body in one system call. What is to be sent is gathered into
 * records of up to 16 KiB: sixteen small messages cost one record, not sixteen.
 *
 * @thread loop, but for lv__tls_ctx_*: any */
#include "conn_int.h"
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { RECORD = 16 * 1024, WHY = 256 };

/* ---- contexts ---- */

static void explain(char *why, const char *what, const char *file) {
  unsigned long e = ERR_get_error();
  const char *text = ERR_reason_error_string(e);
  if (ERR_SYSTEM_ERROR(e)) text = lv_strerror(ERR_GET_REASON(e));
  snprintf(why, WHY, "%s %s: %s", what, file, text ? text : "OpenSSL gives no reason");
  ERR_clear_error();
}

static int readable(const char *what, const char *file, char *why) {
  if (!*file) {
    snprintf(why, WHY, "a TLS listener needs a %s file, and none is configured", what);
    return LV_E_CONFIG;
  }
  if (access(file, R_OK) == 0) return 0;
  snprintf(why, WHY, "%s %s: %s", what, file, lv_strerror(errno));
  return LV_E_CONFIG;
}

static int no_passphrase(char *buf, int size, int rw, void *arg) {
  (void)buf, (void)size, (void)rw, (void)arg;
  return 0; /* a server cannot be asked */
}

static int pick_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_n,
                     const unsigned char *in, unsigned in_n, void *arg) {
  const char *ours = arg; /* length-prefixed */
  (void)ssl;
  int rc = SSL_select_next_proto((unsigned char **)(uintptr_t)out, out_n,
                                 (const unsigned char *)ours, (unsigned)strlen(ours), in, in_n);
  return rc == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

static int load_client_ca(SSL_CTX *ctx, const char *ca, bool required, char *why) {
  if (!*ca && required) {
    snprintf(why, WHY, "client certificates are required, and no client CA file is configured");
    return LV_E_CONFIG;
  }
  if (!*ca) return 0;
  int rc = readable("client CA", ca, why);
  if (rc) return rc;
  STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(ca);
  if (!names || SSL_CTX_load_verify_file(ctx, ca) != 1) {
    sk_X509_NAME_pop_free(names, X509_NAME_free);
    explain(why, "client CA", ca);
    return LV_E_CONFIG;
  }
  SSL_CTX_set_client_CA_list(ctx, names);
  int mode = SSL_VERIFY_PEER | (required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0);
  SSL_CTX_set_verify(ctx, mode, NULL);
  return 0;
}

static int load_cert(SSL_CTX *ctx, const char *cert, char *why) {
  int rc = readable("TLS certificate", cert, why);
  if (rc || SSL_CTX_use_certificate_chain_file(ctx, cert) == 1) return rc;
  explain(why, "TLS certificate", cert);
  return LV_E_CONFIG;
}

/* It must be that of the certificate, if there is one. */
static int load_key(SSL_CTX *ctx, const char *key, char *why) {
  int rc = readable("TLS key", key, why);
  if (rc) return rc;
  if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) == 1 &&
      (!SSL_CTX_get0_certificate(ctx) || SSL_CTX_check_private_key(ctx) == 1))
    return 0;
  explain(why, "TLS key", key);
  return LV_E_CONFIG;
}

static void set_options(SSL_CTX *ctx, bool http) {
  static const unsigned char context[] = "lavva";
  static const char alpn_http[] = "\x08http/1.1", alpn_mqtt[] = "\x04mqtt";
  SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
  SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                               SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_CIPHER_SERVER_PREFERENCE |
                               SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                            SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_read_ahead(ctx, 1);
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_session_id_context(ctx, context, sizeof context - 1);
  SSL_CTX_set_num_tickets(ctx, 1);
  SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
  SSL_CTX_set_alpn_select_cb(ctx, pick_alpn, (void *)(uintptr_t)(http ? alpn_http : alpn_mqtt));
}

int lv__tls_ctx_new(const lv_conf *conf, bool required, bool http, SSL_CTX **ret_ctx, char *why) {
  char *cert = lv_slice_dup(conf->tls_cert), *key = lv_slice_dup(conf->tls_key);
  char *ca = lv_slice_dup(conf->tls_client_ca);
  ERR_clear_error();
  SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
  if (!ctx) abort();
  set_options(ctx, http);
  int rc = load_cert(ctx, cert, why);
  if (!rc) rc = load_key(ctx, key, why);
  if (!rc) rc = load_client_ca(ctx, ca, required, why);
  free(cert);
  free(key);
  free(ca);
  if (rc)
    SSL_CTX_free(ctx);
  else
    *ret_ctx = ctx;
  return rc;
}

int lv__tls_file_check(const lv_conf *conf, enum lv_conf_tls file, bool required, char *why) {
  char *cert = lv_slice_dup(conf->tls_cert), *key = lv_slice_dup(conf->tls_key);
  char *ca = lv_slice_dup(conf->tls_client_ca), other[WHY];
  ERR_clear_error();
  SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
  if (!ctx) abort();
  SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
  int rc = 0;
  switch (file) {
  case LV_CONF_TLS_CERT: rc = load_cert(ctx, cert, why); break;
  case LV_CONF_TLS_KEY:
    (void)load_cert(ctx, cert, other);
    rc = load_key(ctx, key, why);
    break;
  default: rc = load_client_ca(ctx, ca, required, why);
  }
  SSL_CTX_free(ctx);
  free(cert);
  free(key);
  free(ca);
  return rc;
}

void lv__tls_ctx_ref(SSL_CTX *ctx) {
  if (ctx) SSL_CTX_up_ref(ctx);
}

void lv__tls_ctx_unref(SSL_CTX *ctx) {
  SSL_CTX_free(ctx);
}

/* ---- connections ---- */

int lv__tls_begin(lv_conn *c, SSL_CTX *ctx) {
  assert(!c->ssl);
  c->ssl = SSL_new(ctx);
  if (!c->ssl || SSL_set_fd(c->ssl, c->fd) != 1) return LV_E_NOMEM;
  SSL_set_accept_state(c->ssl);
  return 0;
}

/* Maps a failed call: -EAGAIN, 0 for the end, or an error. */
static int failed(lv_conn *c, int rc) {
  int eno = errno;
  switch (SSL_get_error(c->ssl, rc)) {
  case SSL_ERROR_WANT_READ: return -EAGAIN;
  case SSL_ERROR_WANT_WRITE: c->tls_want_write = 1; return -EAGAIN;
  case SSL_ERROR_ZERO_RETURN: return 0;
  case SSL_ERROR_SYSCALL: SSL_set_quiet_shutdown(c->ssl, 1); return eno ? -eno : -ECONNRESET;
  default: SSL_set_quiet_shutdown(c->ssl, 1); return LV_E_PROTOCOL;
  }
}

int lv__tls_handshake(lv_conn *c) {
  ERR_clear_error();
  errno = 0;
  c->tls_want_write = 0;
  int rc = SSL_do_handshake(c->ssl);
  if (rc == 1) return 1;
  rc = failed(c, rc);
  ERR_clear_error();
  if (rc == -EAGAIN) return 0;
  return rc == 0 ? -ECONNRESET : rc;
}

int lv__tls_read(lv_conn *c, uint8_t *p, uint32_t n) {
  uint32_t have = 0;
  ERR_clear_error();
  c->tls_more = 0;
  while (have < n) {
    errno = 0;
    int k = SSL_read(c->ssl, p + have, (int)(n - have));
    if (k <= 0) {
      int rc = failed(c, k);
      if (c->tls_want_write) lv__conn_poll(c);
      if (!have) return rc;
      c->tls_more = rc != -EAGAIN; /* the end comes with the next call */
      return (int)have;
    }
    have += (uint32_t)k;
  }
  c->tls_more = 1;
  return (int)have;
}

static void on_sent(void *arg, uint32_t n, lv_mono read_at, lv_use use) {
  lv_conn *c = arg;
  c->ops->on_sent(c, n, read_at, use);
}

/* What the next record carries: a long range as it lies, else a copy of several in the scratch. */
static const uint8_t *gather(lv_conn *c, uint32_t *ret_n) {
  struct iovec iov[LV__IOV_MAX];
  int n = lv_outq_iov(&c->outq, iov, LV__IOV_MAX);
  if (n == 1 || iov[0].iov_len >= RECORD) {
    *ret_n = iov[0].iov_len < RECORD ? (uint32_t)iov[0].iov_len : (uint32_t)RECORD;
    return iov[0].iov_base;
  }
  uint32_t have = 0;
  for (int i = 0; i < n && have < RECORD; i++) {
    size_t k = iov[i].iov_len < RECORD - have ? iov[i].iov_len : RECORD - have;
    memcpy(c->loop->scratch + have, iov[i].iov_base, k);
    have += (uint32_t)k;
  }
  *ret_n = have;
  return c->loop->scratch;
}

int lv__tls_send(lv_conn *c) {
  lv_outq_sent_fn *fn = c->ops->on_sent ? on_sent : NULL;
  ERR_clear_error();
  while (c->outq.bytes) {
    uint32_t n;
    const uint8_t *p = gather(c, &n);
    errno = 0;
    int k = SSL_write(c->ssl, p, (int)n);
    if (k > 0) {
      lv_outq_consume(&c->outq, (uint32_t)k, fn, c);
      continue;
    }
    bool reading_waits = c->tls_want_write;
    int rc = failed(c, k);
    c->tls_want_write = reading_waits;
    if (rc != -EAGAIN) return rc == 0 ? -EPIPE : rc;
    c->writable_wait = 1;
    return 0;
  }
  return 0;
}

void lv__tls_bye(lv_conn *c) {
  ERR_clear_error();
  if (SSL_is_init_finished(c->ssl) && !SSL_get_quiet_shutdown(c->ssl)) (void)SSL_shutdown(c->ssl);
  ERR_clear_error();
}

void lv__tls_free(lv_conn *c) {
  SSL_free(c->ssl);
  c->ssl = NULL;
}

/* ---- the client's certificate ---- */

static char *common_name(X509 *x) {
  unsigned char *utf8 = NULL;
  int at = X509_NAME_get_index_by_NID(X509_get_subject_name(x), NID_commonName, -1);
  if (at < 0) return NULL;
  X509_NAME_ENTRY *e = X509_NAME_get_entry(X509_get_subject_name(x), at);
  int n = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(e));
  if (n < 0) return NULL;
  /* A NUL inside would let two different names look alike. */
  char *s = memchr(utf8, 0, (size_t)n) ? NULL : lv_slice_dup(lv_slice_of(utf8, (size_t)n));
  OPENSSL_free(utf8);
  return s;
}

static char *alt_name(X509 *x) {
  GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
  char *s = NULL;
  for (int i = 0; !s && i < sk_GENERAL_NAME_num(names); i++) {
    int type;
    const ASN1_STRING *v = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);
    if (type != GEN_DNS && type != GEN_URI) continue;
    size_t n = (size_t)ASN1_STRING_length(v);
    const unsigned char *p = ASN1_STRING_get0_data(v);
    if (!memchr(p, 0, n)) s = lv_slice_dup(lv_slice_of(p, n));
  }
  GENERAL_NAMES_free(names);
  return s;
}

void lv__tls_names(lv_conn *c, struct lv_conn_peer *peer) {
  X509 *x = c->ssl ? SSL_get0_peer_certificate(c->ssl) : NULL;
  if (!x || SSL_get_verify_result(c->ssl) != X509_V_OK) return;
  free(peer->cn); /* what a proxy claimed; this is our own handshake */
  peer->cn = common_name(x);
  peer->san = alt_name(x);
}
