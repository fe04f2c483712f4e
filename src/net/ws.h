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
 * A protocol that is a stream of bytes of its own (MQTT, MQTT 5.0 §6) has on_stream instead: it
 * gets payload bytes as they come, whatever the frames, and writes its bytes straight into
 * conn->outq, as it would without WebSocket; what was queued since the last flush leaves as one
 * binary frame, its head put in front at the flush. Nothing is copied for that.
 *
 * An idle connection owns lv_conn, lv_ws_conn (80 bytes) and no buffer. Pings leave each `ping_ms`;
 * a peer of whom nothing was heard after two of them is gone (LV_E_TIMEOUT).
 *
 * A peer that does not take what it is sent (conn->outq above out_max) is not read from until it
 * does; what it is owed meanwhile is the protocol's policy.
 *
 * Closing: lv_ws_close sends the close frame behind what is queued and waits, bounded, for the
 * peer's; a protocol error closes by itself with the right code. on_close comes exactly once, as
 * conn.h says, and is the last that the protocol hears.
 *
 * @thread loop, for everything but lv_ws_frame… */
#ifndef LV_NET_WS_H
#define LV_NET_WS_H
#include "net/http.h"
#include "wire/deflate.h"
#include "wire/ws.h"
#include "wire/ws_open.h"

typedef struct lv_ws_conn lv_ws_conn;

typedef struct lv_ws_ops {
  const char *name;
  /* A whole message, unmasked, decompressed, checked: op is LV_WS_TEXT or LV_WS_BINARY. The bytes
   * are valid within the call. Not called while the connection is paused (lv_conn_pause). */
  void (*on_message)(lv_ws_conn *w, uint8_t op, lv_slice data);
  /* In place of on_message: the next n payload bytes, earlier unconsumed ones included; returns how
   * many were consumed: everything it can do something with, unless it paused or closed the
   * connection. What is left comes again with more, or after the pause. More than conn->in_max left
   * without a pause is LV_E_TOO_BIG. */
  uint32_t (*on_stream)(lv_ws_conn *w, const uint8_t *p, uint32_t n);
  void (*on_drain)(lv_ws_conn *w); /* as conn.h; may be NULL */
  void (*on_sent)(lv_ws_conn *w, uint32_t n, lv_mono stamp,
                  lv_use use); /* as conn.h; may be NULL */
  /* With ping_ms 0 the connection's deadline is the protocol's, until it closes. May be NULL. */
  void (*on_deadline)(lv_ws_conn *w);
  /* The server drains: finish and lv_ws_close (1012 for customers); NULL: closed with 1001. */
  void (*on_shutdown)(lv_ws_conn *w);
  /* The connection is over, w goes after the call. err 0: closed in order by either side. The
   * connection's send queue still holds what was not sent. */
  void (*on_close)(lv_ws_conn *w, int err);
} lv_ws_ops;

/* What holds for one kind of endpoint; lives as long as its connections. */
typedef struct lv_ws_kind {
  const lv_ws_ops *ops;
  lv_ws_rules rules; /* message_max, …; `deflate` is ignored: it is agreed per connection. With
                        on_stream whole_max is 0 and nothing is compressed */
  lv_ws_able able;   /* subprotocols and compression that the handshake may agree on */
  uint32_t ping_ms;  /* 0: none */
  uint32_t out_max;  /* bytes queued above which reading stops (conn.h out_max), not 0 */
} lv_ws_kind;

struct lv_ws_conn {
  lv_conn *conn; /* outq, loop, pausing, peer: conn.h */
  const lv_ws_kind *kind;
  void *data;       /* the protocol's own */
  bool deflate : 1; /* frames may be compressed (lv_ws_frame_deflated) */
  bool closing : 1; /* a close frame was sent or received: nothing more is sent */
  /* private from here on */
  uint8_t bits;       /* of the window that the peer decompresses with */
  uint8_t unanswered; /* pings since the peer was heard last */
  int16_t err;        /* for on_close, once `closing` */
  lv_ws dec;
  lv_buf *kept;      /* a message in pieces, or what on_stream left; NULL: none */
  lv_outq_mark mark; /* streams: what is behind it has no frame yet */
};

/* Judges the call's handshake and answers it: with 101, or with the HTTP error that is due (400,
 * 426; 503 while the server drains) and NULL: then `data` stays the caller's. Origin and
 * credentials are checked by the caller before. The call is gone in both cases. */
lv_ws_conn *lv_ws_upgrade(lv_http_call *call, const lv_ws_kind *kind, void *data);

/* Sends a message by copy (compressed where that was agreed and helps). It counts as `msgs`
 * deliveries stamped `stamp` (outq.h); 0 for what is no delivery. Nothing happens once the
 * connection closes. Not for streams. */
void lv_ws_send(lv_ws_conn *w, uint8_t op, lv_slice data, uint32_t msgs, lv_mono stamp);
/* Sends frames that are complete, head included, at p in block `b`, by reference. For many
 * receivers: lv_ws_frame writes such a frame once. As above. */
void lv_ws_send_frames(lv_ws_conn *w, lv_block *b, const uint8_t *p, uint32_t n, uint32_t msgs,
                       lv_mono stamp);

/* Bytes that the next two want at dst for a message of n bytes. */
static inline uint32_t lv_ws_frame_max(uint32_t n) {
  return n + LV_WS_HEAD_MAX + LV_DEFLATE_SLACK;
}
/* Writes a message as one frame, head and payload; its length. @thread any */
uint32_t lv_ws_frame(uint8_t *dst, uint8_t op, lv_slice data);
/* The same, compressed, for connections whose `deflate` is set; a window of 2^bits (15 for
 * LV_WS_PMD_SHARED). 0: that would not be shorter; send the other one. @thread any */
uint32_t lv_ws_frame_deflated(uint8_t *dst, uint8_t op, lv_slice data, uint8_t bits);

/* Closes with a code and a reason (cut to fit), after what is queued; on_close gets 0. A second
 * call changes nothing. lv_conn_close ends it without ceremony. A stream does not wait for the
 * peer's close frame: what its protocol still queues is thrown away. */
void lv_ws_close(lv_ws_conn *w, uint16_t code, const char *reason);
/* The same for an error of the table: its close code; on_close gets the error. */
void lv_ws_fail(lv_ws_conn *w, int err, const char *reason);

/* Adds GET /v1/echo, which sends each message back: for development, and for conformance suites.
 * @thread main */
void lv_ws_echo_route(lv_router *router);

#endif
