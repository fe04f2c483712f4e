/* conn.h: one connection, on one loop for life: bytes in, a send queue out, a deadline, TLS or not.
 *
 * A protocol (MQTT, HTTP, later WebSocket) is a vtable. The connection reads into the loop's
 * scratch and lends the bytes; what the protocol does not consume is kept in a private buffer,
 * bounded by in_max, until more arrives. What is to be sent is put into conn->outq; everything
 * queued during a turn leaves in one gathered write in the loop's FLUSH phase. An idle plain
 * connection owns this struct of 160 bytes and nothing else.
 *
 * Back-pressure: lv_conn_pause stops reading (reasons are counted separately); a send queue above
 * out_max is the protocol's to judge (it sees conn->outq.bytes).
 *
 * Closing: lv_conn_close may be called at any time, also inside callbacks; on_close runs exactly
 * once, later in the same or the next turn, never inside the call; the memory goes after that.
 *
 * @thread loop, for everything but what says otherwise. */
#ifndef LV_NET_CONN_H
#define LV_NET_CONN_H
#include "core/conf.h"
#include "core/loop.h"
#include "core/outq.h"
#include <sys/socket.h>

typedef struct lv_conn lv_conn;
typedef struct ssl_st SSL;

typedef struct lv_conn_ops {
  const char *name;
  enum lv_gauge gauge; /* counts these connections; the next one those over TLS */
  /* Bytes have arrived: n at p, earlier unconsumed ones included. Returns how many were consumed:
   * everything it can do something with, unless it paused or closed the connection. Not called
   * while paused. c->want (0 at the call) may be set to the total that makes sense to call again
   * with. The bytes are valid within the call. */
  uint32_t (*on_bytes)(lv_conn *c, const uint8_t *p, uint32_t n);
  /* The send queue fell below a quarter of out_max after having been above it (or drained while the
   * protocol had set c->want_drain). May be NULL. */
  void (*on_drain)(lv_conn *c);
  /* n messages stamped read_at left whole for the kernel (lv_outq_sent_fn). May be NULL. Must not
   * add to the queue. */
  void (*on_sent)(lv_conn *c, uint32_t n, lv_mono read_at, lv_use use);
  /* The deadline set with lv_conn_deadline passed. */
  void (*on_deadline)(lv_conn *c);
  /* The connection is over: err 0: the peer closed; else why (lv_err or -errno). The send queue
   * still holds what was not sent (lv_outq_unsent). Protocol errors and timeouts are counted here,
   * by err; refused connections never get so far. */
  void (*on_close)(lv_conn *c, int err);
  /* The server drains (SIGTERM): finish, say so in the protocol's words, then close. */
  void (*on_shutdown)(lv_conn *c);
  /* The peer sends no more, but may still read. True: leave it open, the protocol closes it later;
   * NULL or false: it is closed (err 0) once the send queue is flushed. */
  bool (*on_eof)(lv_conn *c);
  /* The send queue is about to be offered to the kernel (sent: false), or has just been (true). For
   * a protocol that carries another one and puts its frames around what that has queued. It may add
   * to the queue only before. May be NULL. */
  void (*on_flush)(lv_conn *c, bool sent);
} lv_conn_ops;

enum lv_pause {
  LV_PAUSE_BROKER = 1,    /* publish queue full */
  LV_PAUSE_HANDSHAKE = 2, /* waiting for another part of us (session lookup) */
  LV_PAUSE_RATE = 4,      /* over the rate limit */
  LV_PAUSE_REQUEST = 8,   /* an answer is due first (HTTP) */
  LV_PAUSE_ANSWERS = 16,  /* too many answers are due to it (MQTT) */
  LV_PAUSE_SEND = 32,     /* it does not take what it was sent */
};

/* Exactly 160 bytes, from slabs that are never returned while the loop's net lives: so a stale
 * pointer with its `gen` (lv_ack) can always be compared. No libuv handle: conn.c says why. */
struct lv_conn {
  uint32_t magic;
  uint32_t gen; /* changes with each connection that uses this memory; for lv_ack */
  lv_loop *loop;
  const lv_conn_ops *ops;
  void *data; /* the protocol's own */
  struct lv_listener *listener;
  struct lv_conn *dirty_next; /* to be flushed this turn; private */
  lv_outq outq;
  struct lv__inbuf *in; /* unconsumed bytes, NULL when none; private */
  uint32_t want;        /* set by on_bytes: call again with so many bytes (0: with any more) */
  uint32_t in_max;      /* bound on unconsumed bytes; reaching it ends the connection (TOO_BIG) */
  uint32_t out_max;
  int fd;
  SSL *ssl;                  /* NULL: plain */
  struct lv_conn_peer *peer; /* address text, client certificate names; made on demand */
  lv_timer timer;
  uint8_t paused;     /* enum lv_pause bits */
  uint8_t state;      /* private */
  int16_t close_err;  /* private */
  uint8_t want_drain; /* set by the protocol: call on_drain once the queue is empty */
  /* private */
  uint8_t dirty : 1, above : 1, writable_wait : 1, tls_want_write : 1, reoffer : 1, eof : 1,
      broken : 1, no_more : 1;
  uint8_t interest : 2, tls_more : 1, proxied : 1; /* interest: what epoll watches */
  uint8_t eager : 1; /* with `want`: call again with any more bytes all the same */
  uint8_t held : 1;  /* set by the protocol: it keeps bytes of its own, so that after a pause
                        on_bytes is called with n = 0 */
  uint8_t out_mark;  /* what the gauge of waiting bytes was told, in 1/8 steps of powers of two */
};

void lv__conn_dirty(lv_conn *c); /* private: the slow half of the next */
/* Marks for the flush at the end of the turn; call after adding to c->outq. To be called from I/O
 * callbacks, mail, timers or hooks. */
static inline void lv_conn_dirty(lv_conn *c) {
  if (!(c->dirty | c->writable_wait)) lv__conn_dirty(c);
}
/* For the last of what a turn brings to many connections, which need not wait until it was queued
 * for all of them: nothing is queued and nothing stands in the way, so what is queued now may leave
 * by lv_conn_send_now instead of lv_conn_dirty. Of the protocol it calls on_sent alone. */
bool lv_conn_may_send_now(const lv_conn *c);
void lv_conn_send_now(lv_conn *c);
/* Stops / resumes reading for a reason; resuming re-offers kept bytes later in the turn. A pause
 * for BROKER or RATE of a connection that was not paused counts READ_PAUSED. */
void lv_conn_pause(lv_conn *c, enum lv_pause why);
void lv_conn_resume(lv_conn *c, enum lv_pause why);
/* (Re-)arms the one deadline; a negative delay cancels. Cheap enough to set per packet only if the
 * protocol does it lazily (compare against last activity when it fires). */
void lv_conn_deadline(lv_conn *c, lv_dur delay);
/* Ends the connection for `err`. flush: what is queued is sent first (bounded: 5 s), then FIN, and
 * the peer gets up to 2 s to read it and close (its bytes are discarded), so that no RST eats it;
 * on_close comes with the FIN. Without flush: at once. A second call can only cut a flush short. */
void lv_conn_close(lv_conn *c, int err, bool flush);
bool lv_conn_closing(const lv_conn *c);
/* Peer address as text ("192.0.2.1:5555", "[::1]:5555"), from PROXY where it was given; valid until
 * the connection is freed. */
const char *lv_conn_peer(lv_conn *c);
/* Common name and first DNS/URI SAN of the client's verified certificate; empty when there is none.
 * Behind a PROXY listener without TLS the name that the proxy verified. */
lv_slice lv_conn_cert_cn(lv_conn *c);
lv_slice lv_conn_cert_san(lv_conn *c);
/* Hands the connection to another protocol (HTTP upgrade): ops and data are replaced. */
void lv_conn_switch(lv_conn *c, const lv_conn_ops *ops, void *data);

/* ---- listeners ---- */
typedef struct lv_net lv_net; /* all listeners and connections of the process */

typedef struct lv_accept {
  /* Makes the protocol's data for a new connection and sets c->ops, data, in_max, out_max; an error
   * refuses it. @thread loop */
  int (*on_accept)(lv_conn *c, void *arg);
  void *arg;
} lv_accept;

/* A connection is accepted by any loop and handed to the least loaded one before its first byte is
 * read; there it stays. Opens every listener of `conf` on every loop (one SO_REUSEPORT socket a
 * loop; port 0 is chosen once and shared), TLS contexts included. accept[proto] per enum lv_proto
 * (TLS and plain variants of a protocol usually share one). The loops must be running. why: >= 256
 * bytes. @thread main */
int lv_net_open(lv_loop *const *loops, int n_loops, const lv_conf *conf,
                const lv_accept accept[LV_PROTO_COUNT], lv_net **ret_net, char *why);
/* Whether one of the document's TLS files can be used, as lv_net_open and lv_net_reload would: 0
 * also where no listener needs it. LV_E_CONFIG; why: >= 256 bytes. A key is held against the
 * certificate, if that can be read. @thread main */
int lv_net_tls_check(const lv_conf *conf, enum lv_conf_tls file, char *why);
/* Real port of the i-th listener of the conf; its bound address as "host:port", IPv6 in brackets.
 */
uint16_t lv_net_port(const lv_net *net, uint32_t i);
const char *lv_net_address(const lv_net *net, uint32_t i);
/* New certificates, limits and times for connections to come; on an error all stays as it was.
 * Which addresses are listened on does not change: that takes a restart. why: >= 256 bytes.
 * @thread main */
int lv_net_reload(lv_net *net, const lv_conf *conf, char *why);
/* Stops accepting, calls on_shutdown on each connection, waits until all are closed or drain_ms
 * have passed, closes the rest. Returns how many had to be cut. @thread main */
uint32_t lv_net_shutdown(lv_net *net, uint32_t drain_ms);
/* After lv_net_shutdown, and after the loops were stopped (their hooks live here). @thread main */
void lv_net_free(lv_net *net);

#endif
