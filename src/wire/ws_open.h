/* ws_open.h: the opening handshake of WebSocket (RFC 6455 §4) on both sides, over HTTP heads that
 * wire/http.h has taken apart, with subprotocols and permessage-deflate (RFC 7692 §5, §7.1). Pure:
 * no I/O; slices point into the head. What to do with Origin is the caller's to decide.
 * @thread any */
#ifndef LV_WIRE_WS_OPEN_H
#define LV_WIRE_WS_OPEN_H
#include "wire/http.h"

enum {
  LV_WS_KEY_LEN = 24,    /* Sec-WebSocket-Key: base64 of 16 bytes */
  LV_WS_ACCEPT_LEN = 28, /* Sec-WebSocket-Accept: base64 of a SHA-1 */
  LV_WS_EXT_MAX = 160,   /* bytes of a Sec-WebSocket-Extensions value that we write */
  LV_WS_BITS_MIN = 8,
  LV_WS_BITS_MAX = 15
};

/* Parameters of permessage-deflate: as we wish them (server: policy, client: offer), or as agreed.
 * `bits` are the logarithms of the LZ77 windows. */
typedef struct lv_ws_pmd {
  bool on;                 /* used at all */
  bool server_no_takeover; /* the server compresses each message for itself */
  bool client_no_takeover; /* so does the client: nobody keeps a window for its messages */
  uint8_t server_bits;     /* server's window: 8…15 */
  uint8_t client_bits;     /* client's window: 8…15 */
  uint8_t server_bits_min; /* a server's policy: an offer that wants its window below this is
                              declined. 15: only what can share one compressed form */
  bool server_bits_asked;  /* agreed: the offer named the server's window, so the answer has to */
} lv_ws_pmd;
/* What a server should wish: a message is compressed once for all who get it, and no connection
 * keeps memory for compression between messages. */
#define LV_WS_PMD_SHARED ((lv_ws_pmd){true, true, true, 15, 15, 15, false})

/* What this end can do. */
typedef struct lv_ws_able {
  const lv_slice *protocols; /* subprotocols, compared byte by byte */
  uint32_t n_protocols;
  bool need_protocol; /* without a common one there is no connection (MQTT 5.0 §6) */
  lv_ws_pmd pmd;
} lv_ws_able;

/* What was agreed on. */
typedef struct lv_ws_open {
  lv_slice key;      /* the client's; server side only */
  lv_slice protocol; /* empty: none. It points into `able` */
  lv_ws_pmd pmd;
} lv_ws_open;

/* ---- server ---- */
/* Judges a request. LV_E_UNSUPPORTED: not a WebSocket upgrade by GET; LV_E_VERSION: not version 13;
 * LV_E_MALFORMED: no or a bad key, two of what may be there once, a body; LV_E_INVALID: no common
 * subprotocol where one is needed. Of several subprotocols the client's first wins; of several
 * offers of permessage-deflate the first that `able` can meet. An extension field that is not well
 * formed declines all of them. */
int lv_ws_open_check(const lv_http_req *req, const lv_ws_able *able, lv_ws_open *ret);
/* The status for an error of lv_ws_open_check: 400 or 426. With 426 the answer carries
 * `Upgrade: websocket` and `Sec-WebSocket-Version: 13` (RFC 9110 §15.5.22, RFC 6455 §4.4). */
uint16_t lv_ws_open_status(int err);
/* Writes the whole 101 head, with `n_extra` fields behind ours. Its length, or an error of
 * lv_http_resp_encode. */
int lv_ws_open_answer(const lv_ws_open *o, const lv_http_header *extra, uint32_t n_extra,
                      uint8_t *dst, uint32_t cap);

/* ---- client ---- */
/* The key of 16 random bytes. */
void lv_ws_key(const uint8_t random[16], uint8_t dst[LV_WS_KEY_LEN]);
/* Writes a GET with the fields of the handshake. `extra` as above (Authorization, Origin …).
 * LV_E_TOO_BIG, LV_E_INVALID as lv_http_resp_encode. */
int lv_ws_request_encode(lv_slice target, lv_slice host, const uint8_t key[LV_WS_KEY_LEN],
                         const lv_ws_able *able, const lv_http_header *extra, uint32_t n_extra,
                         uint8_t *dst, uint32_t cap);
/* Judges the answer's head (as lv_http_head_find found it) against what was sent. *ret_status is
 * set, whatever the outcome, once the status line was read. LV_E_UNSUPPORTED: not a 101;
 * LV_E_MALFORMED: not HTTP; LV_E_PROTOCOL: a 101 that breaks §4.1 or chose what was not offered. */
int lv_ws_answer_check(lv_slice head, const uint8_t key[LV_WS_KEY_LEN], const lv_ws_able *able,
                       lv_ws_open *ret, uint16_t *ret_status);

/* ---- parts ---- */
/* Base64 of the SHA-1 of key and the RFC's GUID (§4.2.2). */
void lv_ws_accept(lv_slice key, uint8_t dst[LV_WS_ACCEPT_LEN]);
/* Server: takes the first acceptable offer of permessage-deflate off one field's value. False:
 * none, or the value is malformed. */
bool lv_ws_pmd_choose(lv_slice value, const lv_ws_pmd *policy, lv_ws_pmd *ret);
/* Client: checks the server's answer to `offer`. */
bool lv_ws_pmd_accept(lv_slice value, const lv_ws_pmd *offer, lv_ws_pmd *ret);
/* The field's value: the server's answer, or the client's offer. Its length <= LV_WS_EXT_MAX. */
uint32_t lv_ws_pmd_write(const lv_ws_pmd *pmd, bool client, uint8_t dst[LV_WS_EXT_MAX]);

#endif
