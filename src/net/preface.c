/* preface.c: what precedes the protocol on a connection: a PROXY v2 header where the listener asks
 * for one, then TLS. One deadline covers both, and no protocol data exists yet.
 *
 * The PROXY header is read to its exact length, so what follows stays in the socket, where OpenSSL
 * or the protocol finds it. A listener that expects the header takes nothing without it: any other
 * rule would let a client claim an address by being first.
 *
 * @thread loop */
#include "conn_int.h"
#include "wire/proxy.h"
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

static void remember_peer(lv_conn *c, const lv_proxy *px) {
  lv__addr a = {0};
  if (px->local || (px->family != LV_PROXY_INET && px->family != LV_PROXY_INET6)) return;
  if (px->family == LV_PROXY_INET) {
    struct sockaddr_in *sin = (struct sockaddr_in *)&a.sa;
    *sin = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(px->src_port)};
    memcpy(&sin->sin_addr, px->src, 4);
  } else {
    struct sockaddr_in6 *sin = (struct sockaddr_in6 *)&a.sa;
    *sin = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(px->src_port)};
    memcpy(&sin->sin6_addr, px->src, 16);
  }
  struct lv_conn_peer *peer = calloc(1, sizeof *peer);
  if (!peer) abort();
  lv__addr_text(&a, peer->text, sizeof peer->text);
  if (px->ssl && px->ssl_cert && px->ssl_verify == 0 && px->ssl_cn.n &&
      !memchr(px->ssl_cn.p, 0, px->ssl_cn.n))
    peer->cn = lv_slice_dup(px->ssl_cn);
  c->peer = peer;
}

/* 1: the header was there; 0: it is not whole yet; negative: it never will be (-EPIPE: the end). */
static int proxy_step(lv_conn *c) {
  for (;;) {
    lv_proxy px;
    uint32_t have = c->in ? c->in->len : 0, need = LV_PROXY_HEAD;
    int rc = have ? lv_proxy_decode(c->in->data, have, &px) : LV_E_NEED_MORE;
    if (rc == 0) {
      assert(px.len == have);
      remember_peer(c, &px);
      free(c->in);
      c->in = NULL;
      return 1;
    }
    if (rc != LV_E_NEED_MORE) return rc;
    if (have >= LV_PROXY_HEAD) need += (uint32_t)c->in->data[14] << 8 | c->in->data[15];
    ssize_t n = read(c->fd, c->loop->scratch, need - have);
    if (n < 0) return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    if (n == 0) return -EPIPE;
    lv__conn_keep(c, c->loop->scratch, (uint32_t)n);
  }
}

/* The same values for TLS. */
static int tls_step(lv_conn *c) {
  if (!c->ssl) {
    int rc = lv__tls_begin(c, c->listener->ctx);
    if (rc) return rc;
  }
  return lv__tls_handshake(c);
}

void lv__preface(lv_conn *c) {
  lv_listener *l = c->listener;
  int rc = 1;
  assert(c->state == LV__PREFACE);
  if (l->proxy && !c->proxied) {
    rc = proxy_step(c);
    c->proxied = rc == 1;
  }
  if (rc == 1 && l->ctx) rc = tls_step(c);
  if (rc < 0) {
    lv_conn_close(c, rc == -EPIPE ? 0 : rc, false);
  } else if (rc == 0) {
    lv__conn_poll(c);
  } else if (lv__conn_accepted(c) && c->ssl) {
    /* Reading ahead may have taken the protocol's first bytes with the handshake's last. */
    c->tls_more = 1;
    c->reoffer = 1;
    if (!c->dirty) lv__conn_dirty(c);
  }
}
