/* conf_jwt.c: an app's section `jwt`: the keys that its customers' tokens are signed with, read and
 * judged when the document is, so that a request finds them ready.
 *
 * What is a secret is never repeated in a finding. Keys that OpenSSL made live as long as the
 * document (a list in the conf), everything else is in its memory. @thread main, but for the end */
#include "core/conf_int.h"
#include <assert.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { KEY_BYTES_MAX = 64 * 1024, SECRET_MIN = 32, RSA_BITS_MIN = 2048, RSA_BITS_MAX = 16384 };

struct lv_conf_pkey {
  struct lv_conf_pkey *next;
  EVP_PKEY *pkey;
};

void lv__conf_pkeys_free(lv_conf *c) {
  for (struct lv_conf_pkey *k = c->pkeys; k; k = k->next) EVP_PKEY_free(k->pkey);
  c->pkeys = NULL;
}

/* ---- one key ---- */

static bool is_pem(lv_slice s, const char *what) {
  return s.n && memmem(s.p, s.n, what, strlen(what));
}

/* NULL when it is one of the right kind. */
static const char *pkey_wrong(const EVP_PKEY *pkey, uint8_t algorithm) {
  if (algorithm == LV_JWT_EDDSA)
    return EVP_PKEY_is_a(pkey, "ED25519") ? NULL : "EdDSA wants an Ed25519 public key";
  if (!EVP_PKEY_is_a(pkey, "RSA")) return "RS256 wants an RSA public key";
  int bits = EVP_PKEY_get_bits(pkey);
  return bits >= RSA_BITS_MIN && bits <= RSA_BITS_MAX ? NULL
                                                      : "an RSA key has 2048 to 16384 bits here";
}

static const char *public_key(lv__conf_build *b, lv_slice text, uint8_t algorithm,
                              lv_jwt_key *key) {
  if (is_pem(text, "PRIVATE KEY")) return "a private key stays with who signs: the public one";
  BIO *bio = BIO_new_mem_buf(text.p, (int)text.n);
  if (!bio) abort();
  EVP_PKEY *pkey = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
  BIO_free(bio);
  ERR_clear_error();
  if (!pkey) return "not a public key in PEM (-----BEGIN PUBLIC KEY-----)";
  struct lv_conf_pkey *kept = lv__conf_get(b->mem, sizeof *kept);
  *kept = (struct lv_conf_pkey){b->conf->pkeys, pkey};
  b->conf->pkeys = kept;
  key->pkey = pkey;
  return pkey_wrong(pkey, algorithm);
}

static const char *secret(lv__conf_build *b, lv_slice text, lv_jwt_key *key) {
  if (is_pem(text, "-----BEGIN")) return "HS256 wants a secret, not a key in PEM";
  if (text.n < SECRET_MIN) return "a secret has 32 bytes or more (RFC 7518 §3.2)";
  key->secret = lv__conf_slice(b->mem, text);
  return NULL;
}

static void print_make(lv_jwt_key *key, uint8_t algorithm) {
  uint8_t *der = NULL;
  unsigned n = 0;
  EVP_MD_CTX *ctx = EVP_MD_CTX_new();
  int len = key->pkey ? i2d_PUBKEY(key->pkey, &der) : 0;
  if (!ctx || len < 0 || !EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) ||
      !EVP_DigestUpdate(ctx, &algorithm, 1) ||
      !EVP_DigestUpdate(ctx, der ? der : key->secret.p, der ? (size_t)len : key->secret.n) ||
      !EVP_DigestFinal_ex(ctx, key->print, &n))
    abort();
  assert(n == sizeof key->print);
  OPENSSL_free(der);
  EVP_MD_CTX_free(ctx);
}

/* The bytes of `file`: on the heap. */
static const char *file_take(lv_slice path, uint8_t **ret_p, lv_slice *ret) {
  size_t n = 0;
  struct stat st;
  if (stat((const char *)path.p, &st) || !S_ISREG(st.st_mode)) return "there is no such file";
  if (lv__conf_file_read((const char *)path.p, KEY_BYTES_MAX, ret_p, &n))
    return "the file cannot be read";
  *ret = lv_slice_of(*ret_p, n);
  return NULL;
}

void lv__conf_jwt_key_finish(lv__conf_build *b, const lv__conf_node *node, void *parent, void *obj,
                             void *out) {
  const lv__conf_jwt_key_in *in = obj;
  const lv_jwt *jwt = parent;
  lv_jwt_key *key = out;
  uint8_t *bytes = NULL;
  lv_slice text = in->key;
  const lv__conf_node *at = lv__conf_find(node, in->file.n ? "file" : "key");
  const char *why = NULL;
  bool both = lv__conf_find(node, "key") && lv__conf_find(node, "file");
  key->kid = in->kid;
  if (both || !at) {
    lv__conf_issue(b, node, both ? "both" : "neither", "needs one of key, file");
    return;
  }
  if (in->file.n) why = file_take(in->file, &bytes, &text);
  if (!why && text.n > KEY_BYTES_MAX) why = "larger than 64 KiB";
  /* Editors end a file with a line end, which is no part of a secret. */
  if (bytes)
    while (text.n && (text.p[text.n - 1] == '\n' || text.p[text.n - 1] == '\r')) text.n--;
  if (!why)
    why = jwt->algorithm == LV_JWT_HS256 ? secret(b, text, key)
                                         : public_key(b, text, jwt->algorithm, key);
  if (why) {
    size_t len = lv__conf_path_push(b, in->file.n ? "file" : "key");
    lv__conf_issue(b, at, NULL, "%s", why);
    lv__conf_path_cut(b, len);
  } else {
    print_make(key, jwt->algorithm);
  }
  free(bytes);
}

/* ---- the section ---- */

static void kids_check(lv__conf_build *b, const lv__conf_node *list, const lv_jwt *jwt) {
  for (uint32_t i = 0; i < jwt->n_keys && jwt->n_keys > 1; i++) {
    const lv__conf_node *at = list && i < list->n_kids ? list->kids[i] : list;
    const char *why = jwt->keys[i].kid.n ? NULL : "several keys: each needs a kid";
    for (uint32_t j = 0; j < i && !why; j++)
      if (lv_slice_eq(jwt->keys[i].kid, jwt->keys[j].kid)) why = "this kid is given twice";
    if (!why) continue;
    size_t len = lv__conf_path_push(b, "keys");
    (void)lv__conf_path_index(b, i);
    (void)lv__conf_path_push(b, "kid");
    lv__conf_issue(b, at, NULL, "%s", why);
    lv__conf_path_cut(b, len);
  }
}

void lv__conf_jwt_finish(lv__conf_build *b, const lv__conf_node *node, void *parent, void *obj,
                         void *out) {
  static const lv_right all = {LV_VERB_SUBSCRIBE, LV_SLICE("#")};
  lv_jwt *jwt = obj;
  if (!node) return;
  if (!jwt->n_keys) lv__conf_issue(b, node, NULL, "needs at least one of keys");
  if (!lv__conf_find(node, "algorithm"))
    lv__conf_issue(b, node, NULL, "needs algorithm: one of EdDSA, RS256, HS256");
  kids_check(b, lv__conf_find(node, "keys"), jwt);
  jwt->within.id = LV_SLICE("jwt");
  if (!lv__conf_find(node, "publish") && !lv__conf_find(node, "subscribe")) {
    jwt->within.rights = &all;
    jwt->within.n_rights = 1;
    return;
  }
  uint32_t n = jwt->n_publish + jwt->n_subscribe;
  lv_right *rights = lv__conf_get(b->mem, n * sizeof *rights);
  for (uint32_t i = 0; i < jwt->n_publish; i++)
    rights[i] = (lv_right){LV_VERB_PUBLISH, jwt->publish[i]};
  for (uint32_t i = 0; i < jwt->n_subscribe; i++)
    rights[jwt->n_publish + i] = (lv_right){LV_VERB_SUBSCRIBE, jwt->subscribe[i]};
  jwt->within.rights = rights;
  jwt->within.n_rights = n;
}
