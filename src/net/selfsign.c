/* selfsign.c: the development certificate (selfsign.h), made with OpenSSL's own X.509 functions.
 *
 * The certificate is a leaf that signs itself: basicConstraints CA:TRUE with path length 0 lets
 * curl, paho and mosquitto take the very file as --cacert, and the key usages are those of a
 * server. Not-before lies a day back, for machines whose clocks disagree. @thread main */
#include "net/selfsign.h"
#include "core/err.h"
#include "core/rand.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WHY = 256, DAY_S = 86400, VALID_DAYS = 3649, RENEW_DAYS = 30 };

static int openssl_says(char *why, const char *what) {
  const char *text = ERR_reason_error_string(ERR_get_error());
  snprintf(why, WHY, "cannot make a certificate: %s: %s", what, text ? text : "no reason given");
  ERR_clear_error();
  return LV_E_IO;
}

static bool extend(X509 *x, int nid, const char *value) {
  X509V3_CTX ctx;
  X509V3_set_ctx_nodb(&ctx);
  X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
  X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
  bool ok = ext && X509_add_ext(x, ext, -1) == 1;
  X509_EXTENSION_free(ext);
  return ok;
}

static bool set_serial(X509 *x) {
  uint8_t bytes[16];
  lv_random_bytes(bytes, sizeof bytes);
  bytes[0] = (uint8_t)((bytes[0] & 0x7F) | 0x40); /* positive, and of full length */
  BIGNUM *bn = BN_bin2bn(bytes, sizeof bytes, NULL);
  bool ok = bn && BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(x));
  BN_free(bn);
  return ok;
}

static bool fill(X509 *x, EVP_PKEY *key) {
  X509_NAME *name = X509_get_subject_name(x);
  static const unsigned char cn[] = "Lavva development";
  return X509_set_version(x, X509_VERSION_3) && set_serial(x) &&
         X509_gmtime_adj(X509_getm_notBefore(x), -DAY_S) &&
         X509_gmtime_adj(X509_getm_notAfter(x), (long)VALID_DAYS * DAY_S) &&
         X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, cn, -1, -1, 0) &&
         X509_set_issuer_name(x, name) && X509_set_pubkey(x, key) &&
         extend(x, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
         extend(x, NID_key_usage, "critical,digitalSignature,keyCertSign") &&
         extend(x, NID_ext_key_usage, "serverAuth") &&
         extend(x, NID_subject_key_identifier, "hash") &&
         extend(x, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1,IP:::1") &&
         X509_sign(x, key, EVP_sha256()) > 0;
}

/* ---- files ---- */

static int io_error(char *why, const char *what, const char *path) {
  int eno = errno;
  snprintf(why, WHY, "cannot %s %.180s: %s", what, path, lv_strerror(eno));
  return lv_err_from_errno(eno);
}

static void sync_folder(const char *path) {
  char dir[4096];
  const char *slash = strrchr(path, '/');
  snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path + 1) : 1, slash ? path : ".");
  int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  (void)fsync(fd);
  close(fd);
}

static int write_whole(const char *path, BIO *pem, mode_t mode, char *why) {
  char tmp[4096], *p;
  long n = BIO_get_mem_data(pem, &p);
  int k = snprintf(tmp, sizeof tmp, "%s.%08x.tmp", path, (unsigned)lv_random_u64());
  if (k < 0 || (size_t)k >= sizeof tmp) {
    errno = ENAMETOOLONG;
    return io_error(why, "write", path);
  }
  int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  if (fd < 0) return io_error(why, "create", tmp);
  int rc = 0;
  while (n > 0 && !rc) {
    ssize_t w = write(fd, p, (size_t)n);
    if (w < 0 && errno != EINTR) rc = io_error(why, "write", tmp);
    if (w > 0) p += w, n -= w;
  }
  if (!rc && fsync(fd)) rc = io_error(why, "sync", tmp);
  if (close(fd) && !rc) rc = io_error(why, "close", tmp);
  if (!rc && rename(tmp, path)) rc = io_error(why, "replace", path);
  if (rc)
    (void)unlink(tmp);
  else
    sync_folder(path);
  return rc;
}

static int make(const char *cert_path, const char *key_path, char *why) {
  EVP_PKEY *key = EVP_EC_gen("P-256");
  X509 *x = X509_new();
  BIO *cert_pem = BIO_new(BIO_s_mem()), *key_pem = BIO_new(BIO_s_mem());
  int rc = 0;
  if (!key || !x || !cert_pem || !key_pem)
    rc = openssl_says(why, "key generation");
  else if (!fill(x, key))
    rc = openssl_says(why, "signing");
  else if (!PEM_write_bio_X509(cert_pem, x) ||
           !PEM_write_bio_PrivateKey(key_pem, key, NULL, NULL, 0, NULL, NULL))
    rc = openssl_says(why, "encoding");
  /* The key first: a crash in between leaves a pair that does not fit, and is made anew. */
  if (!rc) rc = write_whole(key_path, key_pem, 0600, why);
  if (!rc) rc = write_whole(cert_path, cert_pem, 0644, why);
  BIO_free(cert_pem);
  BIO_free(key_pem);
  X509_free(x);
  EVP_PKEY_free(key);
  return rc;
}

static int no_passphrase(char *buf, int size, int rw, void *arg) {
  (void)buf, (void)size, (void)rw, (void)arg;
  return 0;
}

static bool usable(const char *cert_path, const char *key_path) {
  BIO *cb = BIO_new_file(cert_path, "r"), *kb = BIO_new_file(key_path, "r");
  X509 *x = cb ? PEM_read_bio_X509(cb, NULL, no_passphrase, NULL) : NULL;
  EVP_PKEY *key = kb ? PEM_read_bio_PrivateKey(kb, NULL, no_passphrase, NULL) : NULL;
  time_t soon = time(NULL) + (time_t)RENEW_DAYS * DAY_S;
  bool ok = x && key && X509_check_private_key(x, key) == 1 &&
            X509_cmp_time(X509_get0_notAfter(x), &soon) > 0 &&
            X509_check_host(x, "localhost", 0, 0, NULL) == 1;
  EVP_PKEY_free(key);
  X509_free(x);
  BIO_free(kb);
  BIO_free(cb);
  ERR_clear_error();
  return ok;
}

int lv_selfsign_ensure(const char *cert_path, const char *key_path, bool *ret_made, char *why) {
  bool made = !usable(cert_path, key_path);
  int rc = made ? make(cert_path, key_path, why) : 0;
  if (!rc && ret_made) *ret_made = made;
  return rc;
}
