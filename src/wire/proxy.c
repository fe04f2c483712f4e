/* proxy.c: the PROXY protocol, version 2, §2.2.
 *
 *    0 12 signature | 12 u8 version 2, command | 13 u8 family, transport | 14 u16 length
 *   16 addresses (12, 36 or 216 bytes by family), then TLVs: u8 type, u16 length, value
 *
 * With LOCAL, or family UNSPEC, the standard has the receiver skip the whole block and use the
 * connection's own addresses. TLVs that mean nothing to us are stepped over within their bounds.
 * The checksum, where there is one, covers all of the header with its own four bytes as zeros.
 * @thread any */
#include "wire/proxy.h"
#include "core/rec.h"

enum {
  TLV_ALPN = 0x01,
  TLV_AUTHORITY = 0x02,
  TLV_CRC32C = 0x03,
  TLV_UNIQUE_ID = 0x05,
  TLV_SSL = 0x20,
  TLV_SSL_VERSION = 0x21,
  TLV_SSL_CN = 0x22,
  TLV_SSL_CIPHER = 0x23,
  TLV_SSL_SIG_ALG = 0x24,
  TLV_SSL_KEY_ALG = 0x25,
};
enum { SSL_USED = 1, SSL_CERT_CONN = 2, SSL_CERT_SESS = 4 };
enum { UNIQUE_ID_MAX = 128, UNIX_PATH = 108 };

static const uint8_t signature[12] = "\r\n\r\n\0\r\nQUIT\n";

static uint16_t get16(const uint8_t *p) {
  return (uint16_t)(p[0] << 8 | p[1]);
}
static uint32_t get32(const uint8_t *p) {
  return (uint32_t)get16(p) << 16 | get16(p + 2);
}

typedef struct tlv {
  uint8_t type;
  lv_slice value;
} tlv;

/* Takes the next TLV off *s: 1, 0 at the end, LV_E_MALFORMED when it does not fit. */
static int tlv_take(lv_slice *s, tlv *ret) {
  if (s->n == 0) return 0;
  if (s->n < 3) return LV_E_MALFORMED;
  uint32_t n = get16(s->p + 1);
  if (n > s->n - 3) return LV_E_MALFORMED;
  *ret = (tlv){s->p[0], {s->p + 3, n}};
  *s = (lv_slice){s->p + 3 + n, s->n - 3 - n};
  return 1;
}

/* Each may come once; a second one would let two readers see two clients. */
static int once(lv_slice *slot, lv_slice value) {
  if (slot->p) return LV_E_MALFORMED;
  *slot = value;
  return 0;
}

static int ssl_read(lv_slice v, lv_proxy *r) {
  if (v.n < 5) return LV_E_MALFORMED;
  r->ssl = v.p[0] & SSL_USED;
  r->ssl_cert = r->ssl && (v.p[0] & (SSL_CERT_CONN | SSL_CERT_SESS));
  r->ssl_verify = get32(v.p + 1);
  lv_slice subs = {v.p + 5, v.n - 5};
  tlv t;
  int got, err = 0;
  while ((got = tlv_take(&subs, &t)) == 1) {
    switch (t.type) {
    case TLV_SSL_VERSION: err = once(&r->ssl_version, t.value); break;
    case TLV_SSL_CN: err = once(&r->ssl_cn, t.value); break;
    case TLV_SSL_CIPHER: err = once(&r->ssl_cipher, t.value); break;
    case TLV_SSL_SIG_ALG: err = once(&r->ssl_sig_alg, t.value); break;
    case TLV_SSL_KEY_ALG: err = once(&r->ssl_key_alg, t.value); break;
    default: break;
    }
    if (err) return err;
  }
  return got;
}

static int crc_check(lv_slice whole, lv_slice field) {
  static const uint8_t zeros[4];
  if (field.n != 4) return LV_E_MALFORMED;
  size_t before = (size_t)(field.p - whole.p);
  uint32_t crc = lv_crc32c(0, whole.p, before);
  crc = lv_crc32c(crc, zeros, 4);
  crc = lv_crc32c(crc, field.p + 4, whole.n - before - 4);
  return crc == get32(field.p) ? 0 : LV_E_CORRUPT;
}

static int tlvs_read(lv_slice whole, lv_slice s, lv_proxy *r) {
  lv_slice crc = {0}, ssl = {0};
  tlv t;
  int got, err = 0;
  while ((got = tlv_take(&s, &t)) == 1) {
    switch (t.type) {
    case TLV_ALPN: err = once(&r->alpn, t.value); break;
    case TLV_AUTHORITY: err = once(&r->authority, t.value); break;
    case TLV_CRC32C: err = once(&crc, t.value); break;
    case TLV_SSL: err = once(&ssl, t.value); break;
    case TLV_UNIQUE_ID:
      err = t.value.n > UNIQUE_ID_MAX ? LV_E_MALFORMED : once(&r->unique_id, t.value);
      break;
    default: break;
    }
    if (err) return err;
  }
  if (got < 0) return got;
  if (crc.p && (err = crc_check(whole, crc))) return err;
  r->has_crc = crc.p != NULL;
  return ssl.p ? ssl_read(ssl, r) : 0;
}

static lv_slice path_of(const uint8_t *p) {
  const uint8_t *nul = memchr(p, 0, UNIX_PATH);
  return lv_slice_of(p, nul ? (size_t)(nul - p) : UNIX_PATH);
}

static int addresses_read(lv_slice block, lv_proxy *r, uint32_t *ret_len) {
  static const uint8_t need[] = {0, 12, 36, 2 * UNIX_PATH};
  uint32_t ip = r->family == LV_PROXY_INET ? 4 : 16;
  if (block.n < need[r->family]) return LV_E_MALFORMED;
  *ret_len = need[r->family];
  if (r->family == LV_PROXY_UNIX) {
    r->src_path = path_of(block.p);
    r->dst_path = path_of(block.p + UNIX_PATH);
    return 0;
  }
  memcpy(r->src, block.p, ip);
  memcpy(r->dst, block.p + ip, ip);
  r->src_port = get16(block.p + 2 * ip);
  r->dst_port = get16(block.p + 2 * ip + 2);
  return 0;
}

int lv_proxy_decode(const uint8_t *p, uint32_t n, lv_proxy *ret) {
  uint32_t seen = n < sizeof signature ? n : (uint32_t)sizeof signature;
  if (seen && memcmp(p, signature, seen) != 0) return LV_E_MALFORMED;
  if (n > 12 && (p[12] >> 4 != 2 || (p[12] & 15) > 1)) return LV_E_MALFORMED;
  if (n > 13 && (p[13] >> 4 > LV_PROXY_UNIX || (p[13] & 15) > 2)) return LV_E_MALFORMED;
  if (n < LV_PROXY_HEAD) return LV_E_NEED_MORE;
  lv_proxy r = {.len = LV_PROXY_HEAD + (uint32_t)get16(p + 14), .local = (p[12] & 15) == 0};
  if (r.len > LV_PROXY_MAX) return LV_E_TOO_BIG;
  if (n < r.len) return LV_E_NEED_MORE;
  if (!r.local) {
    r.family = p[13] >> 4;
    r.datagram = (p[13] & 15) == 2;
  }
  if (r.family != LV_PROXY_UNSPEC) {
    lv_slice block = {p + LV_PROXY_HEAD, r.len - LV_PROXY_HEAD};
    uint32_t used;
    int err = addresses_read(block, &r, &used);
    if (err) return err;
    err = tlvs_read((lv_slice){p, r.len}, (lv_slice){block.p + used, block.n - used}, &r);
    if (err) return err;
  }
  *ret = r;
  return 0;
}
