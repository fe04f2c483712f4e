/* conn_int.h: what the files of net/ share: the per-loop state, listeners, the byte paths.
 *
 *   lv_net ── loops[i]: lv__netloop ── listeners[k] (one per socket address) ── conns (slabs)
 *
 * Everything of one lv__netloop belongs to its loop's thread, except `open` and `mail`ed
 * connections. Listener k of every loop is the same address. */
#ifndef LV_NET_CONN_INT_H
#define LV_NET_CONN_INT_H
#include "net/conn.h"

enum {
  LV__CONN_MAGIC = 0x434F4E4E,
  LV__CONN_FREE_MAGIC = 0x46524545,
  LV__LISTENER_MAGIC = 0x4C495354,
  LV__NETLOOP_MAGIC = 0x4E45544C,
  LV__SLAB_CONNS = 64,
  LV__READ_MAX = 128 * 1024, /* one read; below LV_SCRATCH_SIZE: what was kept goes before it */
  LV__IN_SMALL = 4096,       /* up to so many kept bytes are copied in front of the next read */
  LV__IOV_MAX = 256,
  LV__FLUSH_MS = 5000,
  LV__LINGER_MS = 2000,
  LV__LINGER_BYTES = 1 << 20, /* discarded while closing; then the peer is on its own */
  LV__OPS_RESERVE = 32,       /* HTTP connections beyond the limit: /metrics of a full server */
  LV__PREFACE_MS = 10000,     /* PROXY header and TLS handshake, when the conf names no time */
};

/* What a connection waits for; kept in 2 bits. */
enum { LV__RD = 1, LV__WR = 2 };

enum lv__conn_state {
  LV__FREE,
  LV__PREFACE, /* PROXY header, TLS handshake: no protocol yet */
  LV__OPEN,
  LV__FLUSHING, /* closing, the queue first */
  LV__CLOSE,    /* on_close is due */
  LV__LINGER,   /* on_close is done, FIN sent, waiting for the peer's */
};

typedef struct lv__inbuf {
  uint32_t off, len, cap; /* unconsumed: data[off … len) */
  uint8_t data[];
} lv__inbuf;

struct lv_conn_peer {
  char text[64];
  char *cn, *san;
  bool names; /* the certificate was looked at */
};

typedef struct lv__slab {
  struct lv__slab *next;
  lv_conn conns[LV__SLAB_CONNS];
} lv__slab;

typedef struct lv__netloop {
  uint32_t magic;
  lv_loop *loop;
  struct lv_net *net;
  lv_hook hook;
  uv_poll_t poll; /* watches epfd */
  int epfd;       /* watches the connections */
  lv_conn *dirty, **dirty_tail;
  lv_conn *unused;
  lv__slab *slabs;
  struct lv_listener **listeners;
  uint32_t n_listeners;
  uint32_t live;            /* conns not yet back on `unused`, on this thread */
  _Atomic uint32_t closing; /* handles whose close callback is due */
  _Atomic uint32_t open;    /* live ones and those on their way by mail; for placing */
  int reserve_fd;           /* given up to accept-and-close when descriptors run out */
  bool draining, cut;
} lv__netloop;

typedef struct lv_listener {
  uv_poll_t poll;
  uint32_t magic;
  lv__netloop *nl;
  uint32_t slot;  /* index in nl->listeners, the same on every loop */
  uint32_t index; /* in conf->listens */
  int fd;
  lv_timer backoff;
  lv_accept accept;
  struct ssl_ctx_st *ctx; /* NULL: plain; one reference */
  uint32_t preface_ms;
  bool proxy, http, polling, closed;
} lv_listener;

/* Where the listener's connections are counted, those not yet logged in included. @thread loop */
static inline lv_metrics *lv__listener_kpi(const lv_listener *l) {
  uint32_t proto =
      l->http ? (l->ctx ? LV_KPI_HTTPS : LV_KPI_HTTP) : (l->ctx ? LV_KPI_MQTTS : LV_KPI_MQTT);
  return lv_metrics_row(l->nl->loop->metrics, LV_KPI_NO_APP, proto);
}

/* ---- conn.c ---- */
/* Per-loop state: registers the hook and watches epfd, which it takes over. @thread loop */
void lv__netloop_init(lv__netloop *nl, lv_loop *loop, struct lv_net *net, int epfd);
/* No connection is left: closes the watching. nl->closing tells when. @thread loop */
void lv__netloop_close(lv__netloop *nl);
/* Frees slabs. The loop is stopped. @thread main */
void lv__netloop_done(lv__netloop *nl);
/* Takes over fd (non-blocking), counted in nl->open already; NULL: it was closed. @thread loop */
lv_conn *lv__conn_open(lv_listener *l, int fd);
/* The protocol's turn: on_accept, then OPEN. False: refused. @thread loop */
bool lv__conn_accepted(lv_conn *c);
void lv__conn_poll(lv_conn *c); /* watches for what the state needs */
/* Sends shutdown to each connection; `cut`: ends them now. Returns how many are open. */
uint32_t lv__netloop_drain(lv__netloop *nl, bool cut);

/* ---- conn_io.c ---- */
/* One read and what follows from it. @thread loop */
void lv__conn_readable(lv_conn *c);
/* Offers kept bytes again after a pause. */
void lv__conn_reoffer(lv_conn *c);
/* What came before the socket's error. Reading that waits until something is sent waits in vain:
 * then the connection ends here. */
void lv__conn_read_rest(lv_conn *c);
/* Keeps n bytes behind those kept already. */
void lv__conn_keep(lv_conn *c, const uint8_t *p, uint32_t n);
/* Reads and forgets; closing. */
void lv__conn_discard(lv_conn *c);
/* Sends what is queued. 0, or -errno / lv_err when the connection is broken. */
int lv__conn_send(lv_conn *c);

/* ---- tls.c ---- */
/* From the conf's PEM files. A client CA means that certificates are asked for, `required` that
 * there must be one. http: the protocol for ALPN. why: >= 256 bytes. @thread main */
int lv__tls_ctx_new(const lv_conf *conf, bool required, bool http, struct ssl_ctx_st **ret_ctx,
                    char *why);
/* One of the files alone; see lv_net_tls_check. */
int lv__tls_file_check(const lv_conf *conf, enum lv_conf_tls file, bool required, char *why);
void lv__tls_ctx_ref(struct ssl_ctx_st *ctx);
void lv__tls_ctx_unref(struct ssl_ctx_st *ctx); /* NULL is fine */
int lv__tls_begin(lv_conn *c, struct ssl_ctx_st *ctx);
/* 1 done, 0 waits (tls_want_write says for what), negative: error. */
int lv__tls_handshake(lv_conn *c);
/* As read(): > 0 bytes, 0 end, -EAGAIN or another -errno. Reads until n bytes or nothing more;
 * c->tls_more: there may be more that no readiness event will announce. */
int lv__tls_read(lv_conn *c, uint8_t *p, uint32_t n);
int lv__tls_send(lv_conn *c);
void lv__tls_bye(lv_conn *c); /* close_notify, best effort */
void lv__tls_free(lv_conn *c);
void lv__tls_names(lv_conn *c, struct lv_conn_peer *peer);

/* ---- preface.c ---- */
void lv__preface(lv_conn *c); /* goes on with PROXY and TLS. @thread loop */

/* ---- listen.c ---- */
typedef struct lv__addr {
  struct sockaddr_storage sa;
  socklen_t len;
} lv__addr;
enum { LV__ADDRS_MAX = 8 };
/* Socket addresses that `host` stands for, port included; none: LV_E_CONFIG and why. */
int lv__addr_resolve(lv_slice host, uint16_t port, lv__addr *addrs, uint32_t *ret_n, char *why);
/* Bound and listening sockets of one address, one per loop; port 0 in it becomes the real one. */
int lv__listen_sockets(lv__addr *addr, int *fds, int n_loops, char *why);
void lv__addr_port_set(lv__addr *a, uint16_t port);
uint16_t lv__addr_port(const lv__addr *a);
/* "192.0.2.1:5555", "[::1]:5555"; IPv4-mapped ones as IPv4. */
void lv__addr_text(const lv__addr *a, char *buf, size_t size);
/* Starts and ends accepting. @thread loop */
void lv__listener_start(lv_listener *l);
void lv__listener_close(lv_listener *l);
/* Among the loops of the net, the one that a new connection of `l` should live on; NULL: the limit
 * is reached. */
lv__netloop *lv__net_place(const lv_listener *l);
/* A draining loop's connection is gone: the main thread looks again. */
void lv__net_idle(struct lv_net *net);
#endif
