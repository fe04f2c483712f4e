/* http.h: the HTTP/1.1 server side of a connection, over conn.h and the codecs of wire/http.h.
 *
 * A request becomes a call: head and body in memory of its own, matched against the routes, handed
 * to one handler. The handler answers at once or later; the connection reads no further until then,
 * so pipelined requests are answered in order and cost nothing while they wait. Without a request
 * in flight a connection owns lv_http (about 100 bytes) and no buffer.
 *
 * What a client may do wrong, and what it gets: 400 (and a closed connection) for anything
 * ambiguous, 404, 405 with Allow, 408 for a head or body that takes too long, 413, 414, 417, 431,
 * 501, 505; an idle connection is closed without a word. Bodies are collected up to the route's
 * limit; nothing of one is read before the route has been found.
 *
 * @thread loop, but for what says otherwise. */
#ifndef LV_NET_HTTP_H
#define LV_NET_HTTP_H
#include "net/conn.h"
#include "net/route.h"

typedef struct lv_http_server {
  const lv_router *router;
  uint32_t head_ms;  /* from the first byte (of the first request: from accept) to the head's end */
  uint32_t body_ms;  /* from there to the body's end */
  uint32_t idle_ms;  /* between requests; also for a client that does not read its answer */
  uint32_t head_max; /* bytes of request line and fields */
  uint32_t target_max; /* bytes of path and query */
} lv_http_server;

/* Fills in the defaults: 10 s (or the conf's connect_timeout_ms), 60 s, 75 s, 16 KiB, 8 KiB. */
void lv_http_server_init(lv_http_server *s, const lv_router *router, const lv_conf *conf);
/* For lv_accept: arg is the lv_http_server, which outlives the net. */
int lv_http_on_accept(lv_conn *c, void *arg);

typedef struct lv_http_call {
  uint32_t magic;
  lv_conn *conn; /* NULL once the client is gone; the call must be answered all the same */
  lv_loop *loop; /* where to answer */
  const lv_route *route;
  lv_slice params[LV_ROUTE_PARAMS_MAX]; /* raw */
  uint32_t n_params;
  lv_http_req req; /* its slices, and the body's, are valid until the call is answered */
  lv_slice body;
  void *data; /* the handler's own */
  struct lv_http_call_priv *priv;
} lv_http_call;

typedef struct lv_http_answer {
  uint16_t status;
  lv_slice content_type;
  const lv_http_header *headers; /* borrowed for the call */
  uint32_t n_headers;
  lv_slice body;   /* copied, unless `block` is given */
  lv_block *block; /* the body lies in this block: sent by reference; one reference is taken over */
  bool close;      /* end the connection afterwards */
} lv_http_answer;

/* Answers a call, exactly once; the call is gone afterwards. From the handler or later, on
 * call->loop. */
void lv_http_answer_send(lv_http_call *call, const lv_http_answer *answer);
/* Answers a call with 101 and these fields, and hands the connection to another protocol
 * (WebSocket) with on_bytes for whatever follows the request. The call is gone. False: the client
 * is gone, or the server drains; the call was answered (503 where somebody listens), `data` stays
 * the caller's. c->in_max, out_max and the deadline (none) are the new protocol's to set. */
bool lv_http_upgrade(lv_http_call *call, const lv_http_header *headers, uint32_t n_headers,
                     const lv_conn_ops *ops, void *data);
/* The same with 200 and an answer that ends with the connection (Server-Sent Events): the fields
 * are the caller's, Content-Type among them; HTTP/1.0 will do. */
bool lv_http_stream(lv_http_call *call, const lv_http_header *headers, uint32_t n_headers,
                    const lv_conn_ops *ops, void *data);
/* As lv_http_answer_send, with a line of text. */
void lv_http_answer_text(lv_http_call *call, uint16_t status, const char *text);
/* As above for an error of the table: its status and text, Retry-After where trying again helps. */
void lv_http_answer_err(lv_http_call *call, int err);

#endif
