/* proxy.h: the PROXY protocol, version 2 (binary): who the client behind a proxy is. Pure.
 *
 * Source: "The PROXY protocol, versions 1 & 2" (HAProxy, doc/proxy-protocol.txt), §2.2. Only
 * listeners that are configured for it expect this header, and they demand it: it must come first
 * and must never be guessed, since any client could claim any address. Slices point into the bytes
 * given. @thread any */
#ifndef LV_WIRE_PROXY_H
#define LV_WIRE_PROXY_H
#include "core/err.h"
#include "core/slice.h"

enum {
  LV_PROXY_HEAD = 16,  /* signature, version and command, family, length */
  LV_PROXY_MAX = 4096, /* header, addresses and TLVs together; what HAProxy sends fits many times */
};
enum lv_proxy_family { LV_PROXY_UNSPEC, LV_PROXY_INET, LV_PROXY_INET6, LV_PROXY_UNIX };

typedef struct lv_proxy {
  uint32_t len; /* bytes of the whole header; the client's own bytes start behind them */
  bool local;   /* LOCAL: the proxy speaks for itself (health check) */
  uint8_t
      family;    /* enum lv_proxy_family. UNSPEC (always with LOCAL): keep the socket's addresses */
  bool datagram; /* the client came by datagrams */
  uint8_t src[16], dst[16]; /* network order; 4 bytes for INET */
  uint16_t src_port, dst_port;
  lv_slice src_path, dst_path; /* UNIX; without the NULs behind them */
  bool has_crc;                /* a CRC-32C was there, and right */
  lv_slice authority;          /* SNI that the client sent (UTF-8 not checked), or empty */
  lv_slice alpn, unique_id;
  bool ssl;            /* an SSL TLV was there, and says the client used TLS */
  bool ssl_cert;       /* the client showed a certificate (on this connection or its session) */
  uint32_t ssl_verify; /* 0: the certificate was verified; not 0, or no ssl_cert: it was not */
  lv_slice ssl_version, ssl_cn, ssl_cipher, ssl_sig_alg, ssl_key_alg;
} lv_proxy;

/* LV_E_NEED_MORE while incomplete; LV_E_MALFORMED: not this protocol (at the first byte that
 * differs), unknown command, family or transport, lengths that do not fit each other, a repeated
 * TLV of those above; LV_E_CORRUPT: a wrong checksum; LV_E_TOO_BIG: above LV_PROXY_MAX. */
int lv_proxy_decode(const uint8_t *p, uint32_t n, lv_proxy *ret);

#endif
