/* ws.h: a WebSocket connection (RFC 6455), server side, over conn.h and the codec of wire/ws.h.
 *
 *   HTTP call ─lv_ws_upgrade─▶ lv_ws_conn ──on_message (whole messages)──▶ its protocol
 *                                   ▲
 *                 frames by copy, or by reference into a block that many connections share
 *
 * Done here: frames, fragments, UTF-8, permessage-deflate, ping and pong, the closing handshake,
 * limits. A protocol (the hub, publishing, MQTT, echo) is a vtable. Messages reach it whole; one
 * that arrived in one frame is not copied, one in pieces is collected up to message_max.
 *
 * An idle connection owns lv_conn, lv_ws_conn (at most 96 bytes) and no buffer. Pings leave each
 * `ping_ms`; a peer of whom nothing was heard for two of them is gone (LV_E_TIMEOUT).
 *
 * Closing: lv_ws_close sends the close frame behind what is queued and waits, bounded, for the
 * peer's; a protocol error closes by itself with the right code. on_close comes exactly once, as
 * conn.h says, and is the last that the protocol hears.
 *
 * @thread loop, for everything. */
#ifndef LV_NET_WS_H
#define LV_NET_WS_H
#include "net/http.h"
#include "wire/ws.h"
#include "wire/ws_open.h"

typedef struct lv_ws_conn lv_ws_conn;

typedef struct lv_ws_ops {
  const char *name;
  /* A whole message, unmasked, decompressed, checked: op is LV_WS_TEXT or LV_WS_BINARY. The bytes
   * are valid within the call. Not called while the connection is paused (lv_conn_pause). */
  void (*on_message)(lv_ws_conn *w, uint8_t op, lv_slice data);
  void (*on_drain)(lv_ws_conn *w);                           /* as conn.h; may be NULL */
  void (*on_sent)(lv_ws_conn *w, uint32_t n, lv_mono stamp); /* as conn.h; may be NULL */
  /* The server drains: finish and lv_ws_close (1012 for customers); NULL: closed with 1001. */
  void (*on_shutdown)(lv_ws_conn *w);
  /* The connection is over, w goes after the call. err 0: closed in order by either side. The
   * connection's send queue still holds what was not sent. */
  void (*on_close)(lv_ws_conn *w, int err);
} lv_ws_ops;

/* What holds for one kind of endpoint; lives as long as its connections. */
typedef struct lv_ws_kind {
  const lv_ws_ops *ops;
  lv_ws_rules rules; /* message_max, whole_max, …; `deflate` is ignored: it is agreed per connection */
  lv_ws_able able;   /* subprotocols and compression that the handshake may agree on */
  uint32_t ping_ms;  /* 0: none */
  uint32_t out_max;  /* bytes queued above which the protocol's policy is asked (conn.h out_max) */
} lv_ws_kind;

struct lv_ws_conn {
  lv_conn *conn; /* outq, loop, pausing, peer: conn.h */
  const lv_ws_kind *kind;
  void *data;        /* the protocol's own */
  lv_ws dec;         /* private from here on */
  lv_buf *collected; /* a message in pieces; NULL: none */
  lv_slice protocol; /* that was agreed on */
  uint32_t heard_ms;
  bool deflate, pinged, closing, close_sent;
};

/* Judges the call's handshake and answers it: with 101, or with the HTTP error that is due (400,
 * 426; 503 while the server drains) and NULL: then `data` stays the caller's. Origin and
 * credentials are checked by the caller before. The call is gone in both cases. */
lv_ws_conn *lv_ws_upgrade(lv_http_call *call, const lv_ws_kind *kind, void *data);

/* Sends a message by copy (compressed where that was agreed and helps). It counts as `msgs`
 * deliveries stamped `stamp` (outq.h); 0 for what is no delivery. */
void lv_ws_send(lv_ws_conn *w, uint8_t op, lv_slice data, uint32_t msgs, lv_mono stamp);
/* Sends frames that are complete, head included, at p in block `b`, by reference. For many
 * receivers: lv_ws_frame writes such a frame once. */
void lv_ws_send_frames(lv_ws_conn *w, lv_block *b, const uint8_t *p, uint32_t n, uint32_t msgs,
                       lv_mono stamp);
/* Bytes that lv_ws_frame_put wants for a message of n bytes. */
static inline uint32_t lv_ws_frame_max(uint32_t n) {
  return n + LV_WS_HEAD_MAX;
}
/* Closes with a code and a reason (cut to fit), after what is queued. A second call changes
 * nothing. lv_conn_close ends it without ceremony. */
void lv_ws_close(lv_ws_conn *w, uint16_t code, const char *reason);

#endif
