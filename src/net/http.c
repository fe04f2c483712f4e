/* http.c: the state machine of an HTTP/1.1 connection (http.h). No I/O of its own: bytes come with
 * on_bytes, answers go into the connection's send queue, time comes as its deadline.
 *
 *   IDLE ──first byte──▶ HEAD ──whole──▶ BODY ──whole──▶ CALL (paused) ──answered──▶ IDLE
 *     ▲                                                       │
 *     └───────────────────────────────────────────────────────┘
 *
 * A refused request ends the connection: what follows its head cannot be trusted to be a head. The
 * answer still arrives, because lv_conn_close flushes and lingers.
 *
 * @thread loop */
#include "net/http.h"
#include <stdio.h>
#include <stdlib.h>

enum {
  HTTP_MAGIC = 0x48545450,
  CALL_MAGIC = 0x43414C4C,
  IN_MAX = 64 * 1024,
  OUT_MAX = 256 * 1024, /* answers not taken by the client: no further request is read */
  HEAD_CAP = 4096,      /* of an answer */
  PUT_MAX = 16 * 1024,
};
enum state { IDLE, HEAD, BODY, CALL };

typedef struct http {
  uint32_t magic;
  uint8_t state;
  bool first, draining, eof, full, in_handler;
  uint32_t scanned;   /* of the head, so far */
  uint32_t unsent;    /* send queue when the idle deadline was set */
  lv_http_call *call; /* being received or answered */
  const lv_http_server *server;
} http;

struct lv_http_call_priv {
  http *http; /* NULL: the client is gone */
  uint8_t *head;
  uint8_t *body;
  uint32_t body_len, body_cap;
  lv_http_chunks chunks;
  bool answered, keep;
  bool open; /* lv_route_match.open */
};

static const lv_conn_ops http_ops;

static http *of(lv_conn *c) {
  http *h = c->data;
  assert(h->magic == HTTP_MAGIC);
  return h;
}

void lv_http_server_init(lv_http_server *s, const lv_router *router, const lv_conf *conf) {
  *s = (lv_http_server){.router = router,
                        .head_ms = conf->connect_timeout_ms ? conf->connect_timeout_ms : 10000,
                        .body_ms = 60000,
                        .idle_ms = 75000,
                        .head_max = 16 * 1024,
                        .target_max = 8 * 1024};
}

/* ---- calls ---- */

static lv_http_call *call_new(lv_conn *c, http *h, lv_slice head) {
  lv_http_call *call = malloc(sizeof *call);
  struct lv_http_call_priv *p = calloc(1, sizeof *p);
  uint8_t *copy = malloc(head.n);
  if (!call || !p || !copy) abort();
  memcpy(copy, head.p, head.n);
  p->http = h;
  p->head = copy;
  call->magic = CALL_MAGIC;
  call->conn = c;
  call->loop = c->loop;
  call->route = NULL;
  call->n_params = 0;
  call->body = LV_SLICE("");
  call->data = NULL;
  call->priv = p;
  return call;
}

static void call_free(lv_http_call *call) {
  if (!call) return;
  assert(call->magic == CALL_MAGIC);
  call->magic = 0;
  free(call->priv->head);
  free(call->priv->body);
  free(call->priv);
  free(call);
}

/* ---- answers ---- */

/* The date of this second; formatted once a second and thread. */
static lv_slice date_now(const lv_loop *loop) {
  static _Thread_local int64_t of_second = -1;
  static _Thread_local uint8_t text[LV_HTTP_DATE_LEN];
  int64_t s = loop->wall.ns / 1000000000;
  if (s != of_second) lv_http_date(s, text);
  of_second = s;
  return lv_slice_of(text, sizeof text);
}

static void put(lv_conn *c, const uint8_t *p, uint32_t n) {
  while (n) {
    uint32_t k = n < PUT_MAX ? n : PUT_MAX;
    memcpy(lv_outq_put(&c->outq, k, 0, (lv_mono){0}), p, k);
    p += k;
    n -= k;
  }
}

static void put_body(lv_conn *c, const lv_http_answer *a) {
  if (!a->body.n) return;
  if (a->block) {
    lv_outq_ref(&c->outq, a->block, a->body.p, a->body.n, 0, (lv_mono){0});
  } else if (a->body.n <= PUT_MAX) {
    put(c, a->body.p, a->body.n);
  } else {
    lv_block *b = lv_block_new(a->body.n);
    if (!b) abort();
    memcpy(b->data, a->body.p, a->body.n);
    lv_outq_ref(&c->outq, b, b->data, a->body.n, 0, (lv_mono){0});
    lv_block_unref(b);
  }
}

/* Queues the answer; `minor` and `head_only` are of the request, as far as it was understood. */
static void respond(lv_conn *c, const lv_http_answer *a, uint8_t minor, bool head_only, bool keep) {
  uint8_t head[HEAD_CAP];
  bool bodyless = a->status == 204 || a->status == 304;
  lv_http_resp r = {.status = a->status,
                    .minor = minor,
                    .keep_alive = keep,
                    .has_length = !bodyless,
                    .length = a->body.n,
                    .date = date_now(c->loop),
                    .content_type = a->content_type,
                    .headers = a->headers,
                    .n_headers = a->n_headers};
  int n = lv_http_resp_encode(&r, head, sizeof head);
  if (n < 0) { /* a field that would break the head: ours is the fault, not the client's */
    lv_http_answer sorry = {.status = 500};
    assert(a->status != 500 || a->n_headers);
    respond(c, &sorry, minor, head_only, keep);
    return;
  }
  put(c, head, (uint32_t)n);
  if (!bodyless && !head_only) put_body(c, a);
  lv_conn_dirty(c);
}

static void idle(lv_conn *c, http *h) {
  h->state = IDLE;
  h->scanned = 0;
  h->unsent = c->outq.bytes;
  lv_conn_deadline(c, LV_MS(h->server->idle_ms));
}

/* What an error says that no handler answers: a line of text, or for programs (under /api/, and
 * where pages of other origins may ask) JSON. */
static void error_body(const lv_http_call *call, uint16_t status, char text[128],
                       lv_http_answer *a) {
  const char *name = lv_http_status_text(status), *code = "MALFORMED";
  bool json = call && (call->priv->open || lv_slice_starts(call->req.path, LV_SLICE("/api/")));
  if (status == 404) code = "NOT_FOUND";
  if (status == 405) code = "METHOD";
  if (status == 408) code = "TIMEOUT";
  if (status == 413 || status == 414 || status == 431) code = "TOO_BIG";
  if (status >= 500) code = "UNSUPPORTED";
  int n = json ? snprintf(text, 128, "{\"error\":\"%s\",\"code\":\"%s\"}\n", name, code)
               : snprintf(text, 128, "%s\n", name);
  assert(n > 0 && n < 128);
  a->content_type = json ? LV_SLICE("application/json") : LV_SLICE("text/plain; charset=utf-8");
  a->body = lv_slice_of(text, (size_t)n);
}

/* What lets pages of other origins read it: no app is known yet. Returns how many, up to 2. */
static uint32_t open_fields(const lv_http_call *call, lv_http_header *dst) {
  if (!call || !call->priv->open) return 0;
  dst[0] = (lv_http_header){LV_SLICE("Access-Control-Allow-Origin"), LV_SLICE("*")};
  dst[1] = (lv_http_header){LV_SLICE("Access-Control-Expose-Headers"), LV_SLICE("Retry-After")};
  return 2;
}

/* Answers what cannot be served, and ends the connection. */
static void refuse(lv_conn *c, http *h, uint16_t status, uint32_t allowed) {
  char allow[64], text[128];
  lv_http_header fields[3] = {{LV_SLICE("Allow"), LV_SLICE("")}};
  lv_http_answer a = {.status = status};
  const lv_http_req *req = h->call ? &h->call->req : NULL;
  if (allowed) {
    fields[0].value = lv_slice_of(allow, lv_route_allow(allowed, allow, sizeof allow));
    a.n_headers = 1;
  }
  a.headers = fields;
  a.n_headers += open_fields(h->call, fields + a.n_headers);
  error_body(h->call, status, text, &a);
  respond(c, &a, req ? req->minor : 1, req && req->method == LV_HTTP_HEAD, false);
  call_free(h->call);
  h->call = NULL;
  int err = status == 408 ? LV_E_TIMEOUT : status == 400 ? LV_E_MALFORMED : 0;
  lv_conn_close(c, err, true);
}

static void finish(lv_conn *c, http *h, bool keep) {
  h->call = NULL;
  idle(c, h);
  if (!keep) {
    lv_conn_close(c, 0, true);
    return;
  }
  h->full = c->outq.bytes > OUT_MAX; /* until on_drain */
  if (h->full) {
    c->want_drain = 1;
    lv_conn_pause(c, LV_PAUSE_REQUEST);
  } else if (!h->in_handler) {
    lv_conn_resume(c, LV_PAUSE_REQUEST);
  }
}

void lv_http_answer_send(lv_http_call *call, const lv_http_answer *a) {
  struct lv_http_call_priv *p = call->priv;
  http *h = p->http; /* without one it may be after the loop has stopped, too */
  assert(call->magic == CALL_MAGIC && !p->answered && (!h || lv_loop_here(call->loop)));
  p->answered = true;
  if (h) {
    lv_conn *c = call->conn;
    bool keep = p->keep && !a->close && !h->draining && !h->eof;
    respond(c, a, call->req.minor, call->req.method == LV_HTTP_HEAD, keep);
    finish(c, h, keep);
  }
  lv_block_unref(a->block);
  call_free(call);
}

/* The head of an answer, then the connection is another protocol's. */
static bool hand_over(lv_http_call *call, const lv_http_resp *r, const lv_conn_ops *ops,
                      void *data) {
  assert(call->magic == CALL_MAGIC && !call->priv->answered && lv_loop_here(call->loop));
  http *h = call->priv->http;
  lv_conn *c = call->conn;
  uint8_t head[HEAD_CAP];
  int n = lv_http_resp_encode(r, head, sizeof head);
  assert(n > 0);
  if (!h || h->draining || h->eof || (r->status == 101 && call->req.minor == 0)) {
    lv_http_answer_err(call, LV_E_SHUTDOWN);
    return false;
  }
  put(c, head, (uint32_t)n);
  lv_conn_dirty(c);
  lv_conn_deadline(c, (lv_dur){-1});
  lv_conn_switch(c, ops, data);
  lv_conn_resume(c, LV_PAUSE_REQUEST);
  h->magic = 0;
  free(h);
  call_free(call);
  return true;
}

bool lv_http_upgrade(lv_http_call *call, const lv_http_header *headers, uint32_t n_headers,
                     const lv_conn_ops *ops, void *data) {
  lv_http_resp r = {.status = 101, .minor = 1, .headers = headers, .n_headers = n_headers};
  return hand_over(call, &r, ops, data);
}

bool lv_http_stream(lv_http_call *call, const lv_http_header *headers, uint32_t n_headers,
                    const lv_conn_ops *ops, void *data) {
  lv_http_resp r = {.status = 200,
                    .minor = call->req.minor,
                    .date = date_now(call->loop),
                    .headers = headers,
                    .n_headers = n_headers};
  return hand_over(call, &r, ops, data);
}

void lv_http_answer_text(lv_http_call *call, uint16_t status, const char *text) {
  lv_http_answer a = {.status = status,
                      .content_type = LV_SLICE("text/plain; charset=utf-8"),
                      .body = lv_slice_str(text)};
  lv_http_answer_send(call, &a);
}

void lv_http_answer_err(lv_http_call *call, int err) {
  static const lv_http_header retry[] = {{LV_SLICE("Retry-After"), LV_SLICE("1")}};
  char text[128];
  int n = snprintf(text, sizeof text, "%s\n", lv_err_text(err));
  assert(n > 0 && (size_t)n < sizeof text);
  lv_http_answer a = {.status = (uint16_t)lv_err_http(err),
                      .content_type = LV_SLICE("text/plain; charset=utf-8"),
                      .body = lv_slice_of(text, (size_t)n),
                      .headers = retry,
                      .n_headers = lv_err_retriable(err)};
  lv_http_answer_send(call, &a);
}

/* ---- requests ---- */

/* Everything has arrived: the handler's turn. */
static void dispatch(lv_conn *c, http *h) {
  lv_http_call *call = h->call;
  call->body = lv_slice_of(call->priv->body, call->priv->body_len);
  h->state = CALL;
  lv_conn_deadline(c, (lv_dur){-1});
  h->in_handler = true;
  call->route->fn(call, call->route->arg);
  if (c->ops != &http_ops) return; /* upgraded: there is no http any more */
  h->in_handler = false;
  if (h->call == call) lv_conn_pause(c, LV_PAUSE_REQUEST); /* the answer comes later */
}

/* OPTIONS of a path that has routes, and of the server as a whole. */
static void answer_options(lv_conn *c, http *h, uint32_t allowed) {
  char allow[64];
  lv_http_header field = {LV_SLICE("Allow"), LV_SLICE("")};
  lv_http_answer a = {.status = 204, .headers = &field, .n_headers = 1};
  if (!allowed) allowed = (1u << (LV_HTTP_OPTIONS + 1)) - (1u << LV_HTTP_GET);
  field.value = lv_slice_of(allow, lv_route_allow(allowed, allow, sizeof allow));
  h->in_handler = true;
  lv_http_answer_send(h->call, &a);
  h->in_handler = false;
}

/* What to answer instead of serving; 0: serve. */
static uint16_t judge(http *h, lv_route_match *m) {
  const lv_http_req *req = &h->call->req;
  bool expects = req->minor >= 1 && lv_http_header_find(req, LV_SLICE("Expect"));
  int rc = lv_router_find(h->server->router, req->method, req->path, m);
  /* A path of nobody's is open, too: a page whose base address is wrong should be able to see so.
   */
  h->call->priv->open =
      m->open || (rc == LV_E_NOT_FOUND && !lv_slice_starts(req->path, LV_SLICE("/api/")));
  if (req->path.n + req->query.n > h->server->target_max) return 414;
  if (req->method == LV_HTTP_OTHER) return 501;
  if (expects && !req->expect_continue) return 417;
  if (req->asterisk) return req->method == LV_HTTP_OPTIONS ? 0 : 400;
  if (rc == LV_E_NOT_FOUND) return 404;
  if (rc && req->method == LV_HTTP_OPTIONS) return 0;
  if (rc) return 405;
  if (req->has_length && req->content_length > m->route->body_max) return 413;
  return 0;
}

static void begin_body(lv_conn *c, http *h, bool more_is_here) {
  static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
  const lv_http_req *req = &h->call->req;
  h->state = BODY;
  lv_http_chunks_init(&h->call->priv->chunks, h->call->route->body_max);
  lv_conn_deadline(c, LV_MS(h->server->body_ms));
  if (!req->expect_continue || more_is_here) return;
  put(c, (const uint8_t *)go_on, sizeof go_on - 1);
  lv_conn_dirty(c);
}

static void on_head(lv_conn *c, http *h, lv_slice head, bool more_is_here) {
  h->call = call_new(c, h, head);
  struct lv_http_call_priv *p = h->call->priv;
  h->first = false;
  h->scanned = 0;
  int rc = lv_http_head_decode(lv_slice_of(p->head, head.n), &h->call->req);
  if (rc) {
    call_free(h->call);
    h->call = NULL;
    refuse(c, h, lv_http_head_status(rc), 0);
    return;
  }
  const lv_http_req *req = &h->call->req;
  lv_route_match m = {0};
  uint16_t status = judge(h, &m);
  bool body = req->chunked || (req->has_length && req->content_length);
  h->call->route = m.route;
  p->keep = req->keep_alive;
  if (!status && body && !m.route) status = 413; /* OPTIONS with a body */
  if (status && !body && (status == 404 || status == 405) && p->keep && !h->draining) {
    /* Harmless, and its end is known: the connection may go on. */
    char allow[64], text[128];
    lv_http_header fields[3] = {{LV_SLICE("Allow"), LV_SLICE("")}};
    lv_http_answer a = {.status = status, .headers = fields, .n_headers = status == 405};
    if (p->open || lv_slice_starts(req->path, LV_SLICE("/api/")))
      error_body(h->call, status, text, &a);
    if (status == 405)
      fields[0].value = lv_slice_of(allow, lv_route_allow(m.allowed, allow, sizeof allow));
    a.n_headers += open_fields(h->call, fields + a.n_headers);
    h->in_handler = true;
    lv_http_answer_send(h->call, &a);
    h->in_handler = false;
  } else if (status) {
    refuse(c, h, status, status == 405 ? m.allowed : 0);
  } else if (!m.route) {
    answer_options(c, h, m.allowed);
  } else {
    h->call->n_params = m.n_params;
    memcpy(h->call->params, m.params, sizeof m.params);
    /* The params point into the head's copy, as the path does. */
    if (body)
      begin_body(c, h, more_is_here);
    else
      dispatch(c, h);
  }
}

static void body_add(struct lv_http_call_priv *p, lv_slice s, uint64_t expect) {
  if (p->body_cap - p->body_len < s.n) {
    /* Twice what has arrived at most: a length is only a promise. */
    uint64_t cap = 2 * ((uint64_t)p->body_len + s.n);
    if (expect && cap > expect) cap = expect;
    p->body = realloc(p->body, cap);
    if (!p->body) abort();
    p->body_cap = (uint32_t)cap;
  }
  memcpy(p->body + p->body_len, s.p, s.n);
  p->body_len += s.n;
}

static uint32_t on_body(lv_conn *c, http *h, lv_slice in) {
  struct lv_http_call_priv *p = h->call->priv;
  uint32_t had = in.n;
  if (!h->call->req.chunked) {
    uint64_t left = h->call->req.content_length - p->body_len;
    if (in.n > left) in.n = (uint32_t)left;
    body_add(p, in, h->call->req.content_length);
    if (p->body_len == h->call->req.content_length) dispatch(c, h);
    return in.n;
  }
  for (;;) {
    lv_slice data;
    int rc = lv_http_chunk_next(&p->chunks, &in, &data);
    if (rc == 1) {
      body_add(p, data, 0);
    } else if (rc == LV_E_NEED_MORE) {
      return had - in.n;
    } else if (rc == 0) {
      dispatch(c, h);
      return had - in.n;
    } else {
      refuse(c, h, rc == LV_E_TOO_BIG ? 413 : 400, 0);
      return had - in.n;
    }
  }
}

/* Returns what was consumed: a whole head or nothing. */
static uint32_t on_head_bytes(lv_conn *c, http *h, lv_slice in) {
  uint32_t len = 0;
  int rc = lv_http_head_find(in.p, in.n, h->server->head_max, &h->scanned, &len);
  if (rc == LV_E_NEED_MORE) {
    if (h->state == IDLE && !h->first) lv_conn_deadline(c, LV_MS(h->server->head_ms));
    h->state = HEAD;
    return 0;
  }
  if (rc) {
    uint32_t seen = in.n < h->server->head_max ? in.n : h->server->head_max;
    bool in_line = rc == LV_E_TOO_BIG && seen > 2 && !memchr(in.p + 2, '\n', seen - 2);
    refuse(c, h, in_line ? 414 : lv_http_head_status(rc), 0);
    return 0;
  }
  on_head(c, h, lv_slice_of(in.p, len), in.n > len);
  return len;
}

static uint32_t on_bytes(lv_conn *c, const uint8_t *p, uint32_t n) {
  http *h = of(c);
  uint32_t used = 0;
  while (used < n && c->ops == &http_ops && !c->paused && !lv_conn_closing(c)) {
    lv_slice in = lv_slice_of(p + used, n - used);
    assert(h->state != CALL);
    uint32_t k = h->state == BODY ? on_body(c, h, in) : on_head_bytes(c, h, in);
    if (k == 0) break;
    used += k;
  }
  return used;
}

/* ---- time and ends ---- */

static void on_deadline(lv_conn *c) {
  http *h = of(c);
  if (h->state == HEAD || h->state == BODY || h->first) {
    if (h->state == IDLE)
      lv_conn_close(c, LV_E_TIMEOUT, false); /* it never said a word */
    else
      refuse(c, h, 408, 0);
  } else if (c->outq.bytes && c->outq.bytes < h->unsent) {
    h->unsent = c->outq.bytes; /* slow, but reading */
    lv_conn_deadline(c, LV_MS(h->server->idle_ms));
  } else {
    lv_conn_close(c, c->outq.bytes ? LV_E_TIMEOUT : 0, c->outq.bytes == 0);
  }
}

static void on_drain(lv_conn *c) {
  http *h = of(c);
  if (!h->full) return;
  h->full = false;
  lv_conn_resume(c, LV_PAUSE_REQUEST);
}

static bool on_eof(lv_conn *c) {
  http *h = of(c);
  h->eof = true;
  return h->state == CALL; /* the answer is still wanted; it ends the connection */
}

static void on_close(lv_conn *c, int err) {
  http *h = of(c);
  (void)err;
  if (h->call && h->state == CALL) { /* its handler will answer into the void */
    h->call->priv->http = NULL;
    h->call->conn = NULL;
  } else {
    call_free(h->call);
  }
  h->magic = 0;
  free(h);
}

static void on_shutdown(lv_conn *c) {
  http *h = of(c);
  h->draining = true;
  if (h->state == IDLE || h->state == HEAD) lv_conn_close(c, 0, true);
}

static const lv_conn_ops http_ops = {.name = "http",
                                     .gauge = LV_G_CONNS_HTTP,
                                     .on_bytes = on_bytes,
                                     .on_drain = on_drain,
                                     .on_deadline = on_deadline,
                                     .on_close = on_close,
                                     .on_shutdown = on_shutdown,
                                     .on_eof = on_eof};

int lv_http_on_accept(lv_conn *c, void *arg) {
  const lv_http_server *s = arg;
  http *h = calloc(1, sizeof *h);
  if (!h) return LV_E_NOMEM;
  h->magic = HTTP_MAGIC;
  h->server = s;
  h->first = true;
  c->ops = &http_ops;
  c->data = h;
  c->in_max = IN_MAX;
  c->out_max = OUT_MAX;
  assert(s->head_max < IN_MAX);
  lv_conn_deadline(c, LV_MS(s->head_ms));
  return 0;
}
