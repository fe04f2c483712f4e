/* wsclient.h: a WebSocket client for commands: one connection, driven by its caller with poll(2).
 * Frames, handshake and heads are wire/'s, TLS is OpenSSL's. Pings are answered; a server of whom
 * nothing was heard for 90 s (it pings each 30 s) is gone. Nothing is sent but that.
 *
 * @thread main */
#ifndef LV_CLI_WSCLIENT_H
#define LV_CLI_WSCLIENT_H
#include "core/buf.h"
#include "wire/ws.h"

enum { LV_WSC_BUF = 64 * 1024, LV_WSC_MESSAGE_MAX = 64 << 20 };

typedef struct lv_wsc_to {          /* where to */
  const char *address;              /* HOST:PORT, [IPV6]:PORT */
  const char *target;               /* path and query */
  const char *bearer;               /* key or token; NULL: none */
  bool tls, insecure;               /* insecure: the certificate's name is not checked */
  const char *ca, *cert, *cert_key; /* PEM files; NULL: the system's; none */
} lv_wsc_to;

typedef struct lv_wsc {
  int fd; /* -1: not connected */
  struct ssl_st *ssl;
  struct ssl_ctx_st *ctx;
  lv_ws dec;
  lv_buf msg; /* of a message in pieces */
  uint8_t *buf;
  uint32_t at, n; /* what of buf is still to be decoded */
  bool open_msg;  /* msg has the beginning of one */
  uint64_t heard_ms;
  uint16_t code; /* of the close frame that came; 0: none */
  char why[256]; /* what went wrong, or the close reason */
} lv_wsc;

/* The HTTP status: 101: connected; another one: refused, with the server's words in `why`. Or an
 * error (negative) with `why`. Bounded by 10 s a step. In all cases lv_wsc_close comes last. */
int lv_wsc_open(lv_wsc *w, const lv_wsc_to *to);
/* 1: a whole message, valid until the next call; 0: none within the time, or a signal; negative:
 * the connection is over, see code and why. */
int lv_wsc_next(lv_wsc *w, int timeout_ms, lv_slice *ret);
void lv_wsc_close(lv_wsc *w);

#endif
