/* preface.c: what precedes the protocol on a connection: TLS. One deadline covers all of it, no
 * protocol data exists yet.
 *
 * @thread loop */
#include "conn_int.h"

static void tls_step(lv_conn *c) {
  int rc = lv__tls_handshake(c);
  if (rc < 0) {
    lv_conn_close(c, rc, false);
    return;
  }
  if (rc == 0) {
    lv__conn_poll(c);
    return;
  }
  if (!lv__conn_accepted(c)) return;
  /* Reading ahead may have taken the protocol's first bytes together with the handshake's last. */
  c->tls_more = 1;
  c->reoffer = 1;
  if (!c->dirty) lv__conn_dirty(c);
}

void lv__preface(lv_conn *c) {
  lv_listener *l = c->listener;
  assert(c->state == LV__PREFACE);
  if (!l->ctx) {
    (void)lv__conn_accepted(c);
    return;
  }
  if (!c->ssl) {
    int rc = lv__tls_begin(c, l->ctx);
    if (rc) {
      lv_conn_close(c, rc, false);
      return;
    }
  }
  tls_step(c);
}
