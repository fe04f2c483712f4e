/* conf_key.c: keys: `lv_<id>_<secret>`, letters and digits only, checked against the SHA-256 in the
 * document in constant time. A fast hash is right here: the secret has 128 random bits, and a slow
 * hash would die in a storm of reconnects. */
#include "core/conf_int.h"
#include "core/rand.h"
#include <assert.h>
#include <ctype.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>

enum { ID_MAX = 32, SECRET_MIN = 22, SECRET_MAX = 128 };
static_assert(LV_CONF_KEY_MAX >= 3 + ID_MAX + 1 + SECRET_MIN + 1, "a made key fits");

static bool alnum(lv_slice s) {
  for (uint32_t i = 0; i < s.n; i++)
    if (!isalnum(s.p[i])) return false;
  return true;
}

/* Takes the id out of a key's text. */
static bool key_split(lv_slice text, lv_slice *ret_id) {
  if (!lv_slice_starts(text, LV_SLICE("lv_"))) return false;
  lv_slice rest = {text.p + 3, text.n - 3}, id;
  if (!lv_slice_split(&rest, '_', &id)) return false;
  if (id.n < 1 || id.n > ID_MAX || rest.n < SECRET_MIN || rest.n > SECRET_MAX) return false;
  if (!alnum(id) || !alnum(rest)) return false;
  *ret_id = id;
  return true;
}

void lv_conf_key_hash(lv_slice text, uint8_t ret_hash[32]) {
  unsigned n = 0;
  if (!EVP_Digest(text.p, text.n, ret_hash, &n, EVP_sha256(), NULL)) abort();
  assert(n == 32);
}

int lv_conf_key(const lv_conf *c, lv_slice text, const lv_key **ret_key) {
  static const uint8_t nobody[32];
  uint8_t hash[32];
  lv_slice id;
  if (!key_split(text, &id)) return LV_E_BAD_AUTH;
  const lv_key *key = lv_conf_key_by_id(c, id);
  lv_conf_key_hash(text, hash);
  /* An unknown id takes the same way, so that time does not tell which ids exist. */
  int differs = CRYPTO_memcmp(hash, key ? key->hash : nobody, sizeof hash);
  if (!key || differs) return LV_E_BAD_AUTH;
  *ret_key = key;
  return 0;
}

/* n random letters and digits, each as likely as the others. */
static void random_text(char *dst, size_t n) {
  static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  for (size_t at = 0; at < n;) {
    uint8_t bytes[64];
    lv_random_bytes(bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes && at < n; i++)
      if (bytes[i] < 248) dst[at++] = set[bytes[i] % 62]; /* 248 = 4 × 62 */
  }
}

int lv_conf_key_make(const char *id, char ret_text[LV_CONF_KEY_MAX]) {
  char own[9] = {0}, secret[SECRET_MIN + 1] = {0};
  if (!id) {
    random_text(own, sizeof own - 1);
    id = own;
  }
  size_t n = strlen(id);
  if (n < 1 || n > ID_MAX || !alnum(lv_slice_of(id, n))) return LV_E_INVALID;
  random_text(secret, SECRET_MIN); /* 22 × log2(62) = 131 bits */
  snprintf(ret_text, LV_CONF_KEY_MAX, "lv_%s_%s", id, secret);
  return 0;
}
