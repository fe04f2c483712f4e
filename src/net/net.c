/* net.c: all listeners and connections of the process: opening, reloading, draining.
 *
 * The main thread makes every socket and TLS context before any loop hears of it, so a wrong port
 * or certificate is reported whole and leaves nothing behind. Then each loop gets its lv__netloop
 * with listener k in slot k.
 *
 * @thread main, but for lv__net_place: loop */
#include "conn_int.h"
#include "core/log.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

enum { NET_MAGIC = 0x4C4E4554, WHY = 256, PORT_TRIES = 32 };
enum { SPARE_FDS = 256 }; /* for log segments, listeners and the like */

/* One socket address of one listener of the conf. */
typedef struct slot {
  uint32_t index;
  lv__addr addr;
  int fds[LV_LOOPS_MAX];
} slot;

typedef struct face {
  lv_listen listen; /* of the conf, without its host */
  uint16_t port;
  char address[64];
  struct ssl_ctx_st *ctx;
} face;

struct lv_net {
  uint32_t magic;
  lv__netloop *nls;
  int n_loops;
  slot *slots;
  uint32_t n_slots;
  face *faces;
  uint32_t n_faces;
  lv_accept accept[LV_PROTO_COUNT];
  _Atomic uint32_t limit; /* connections; 0: none */
  uint32_t preface_ms;    /* at the start; a reload tells the loops */
  pthread_mutex_t lock;
  pthread_cond_t idle; /* signalled when a draining loop became empty */
  bool down;
};

static bool is_tls(uint8_t proto) {
  return proto == LV_PROTO_MQTTS || proto == LV_PROTO_HTTPS;
}

static bool is_http(uint8_t proto) {
  return proto == LV_PROTO_HTTP || proto == LV_PROTO_HTTPS;
}

/* ---- placing ---- */

lv__netloop *lv__net_place(const lv_listener *l) {
  lv__netloop *from = l->nl, *least = from;
  lv_net *net = from->net;
  uint32_t mine = atomic_load_explicit(&from->open, memory_order_relaxed), min = mine;
  uint64_t total = 0, limit = atomic_load_explicit(&net->limit, memory_order_relaxed);
  for (int i = 0; i < net->n_loops; i++) {
    uint32_t n = atomic_load_explicit(&net->nls[i].open, memory_order_relaxed);
    total += n;
    if (n < min) {
      min = n;
      least = &net->nls[i];
    }
  }
  if (limit && total >= limit + (l->http ? LV__OPS_RESERVE : 0)) return NULL;
  return mine > min + min / 8 ? least : from;
}

void lv__net_idle(lv_net *net) {
  pthread_mutex_lock(&net->lock);
  pthread_cond_signal(&net->idle);
  pthread_mutex_unlock(&net->lock);
}

/* ---- opening ---- */

/* The sockets of one listener: the same port on each of its addresses. */
static int open_face(lv_net *net, const lv_listen *li, uint32_t i, char *why) {
  lv__addr addrs[LV__ADDRS_MAX];
  uint32_t n = 0;
  int rc = lv__addr_resolve(li->host, li->port, addrs, &n, why);
  for (int tries = 0; rc == 0 && tries < PORT_TRIES; tries++) {
    uint32_t k = 0;
    for (; k < n; k++) {
      slot *s = &net->slots[net->n_slots + k];
      *s = (slot){.index = i, .addr = addrs[k]};
      if (k > 0) lv__addr_port_set(&s->addr, lv__addr_port(&net->slots[net->n_slots].addr));
      rc = lv__listen_sockets(&s->addr, s->fds, net->n_loops, why);
      if (rc) break;
    }
    if (rc == 0) {
      face *f = &net->faces[i];
      f->port = lv__addr_port(&net->slots[net->n_slots].addr);
      lv__addr_text(&net->slots[net->n_slots].addr, f->address, sizeof f->address);
      net->n_slots += n;
      return 0;
    }
    bool again = rc == LV_E_EXISTS && li->port == 0 && k > 0;
    while (k > 0)
      for (int l = 0; k > 0 && l < net->n_loops; l++) {
        close(net->slots[net->n_slots + k - 1].fds[l]);
        if (l == net->n_loops - 1) k--;
      }
    if (again) rc = 0; /* the free port of one address is taken on another: the next one */
  }
  return rc ? rc : LV_E_EXISTS;
}

static int make_ctx(const lv_conf *conf, const lv_listen *li, struct ssl_ctx_st **ret_ctx,
                    char *why) {
  if (!is_tls(li->proto)) return 0;
  return lv__tls_ctx_new(conf, li->client_cert, is_http(li->proto), ret_ctx, why);
}

int lv_net_tls_check(const lv_conf *conf, enum lv_conf_tls file, char *why) {
  bool used = false, required = false;
  why[0] = 0;
  for (uint32_t i = 0; i < conf->n_listens; i++) {
    const lv_listen *li = &conf->listens[i];
    if (!is_tls(li->proto)) continue;
    used = true;
    required |= li->client_cert;
  }
  return used ? lv__tls_file_check(conf, file, required, why) : 0;
}

static int open_all(lv_net *net, const lv_conf *conf, char *why) {
  for (uint32_t i = 0; i < net->n_faces; i++) {
    const lv_listen *li = &conf->listens[i];
    net->faces[i].listen = *li;
    net->faces[i].listen.host = LV_SLICE("");
    if (li->proto >= LV_PROTO_COUNT || !net->accept[li->proto].on_accept) {
      snprintf(why, WHY, "listener %u: this process does not serve its protocol", i);
      return LV_E_UNSUPPORTED;
    }
    int rc = make_ctx(conf, li, &net->faces[i].ctx, why);
    if (!rc) rc = open_face(net, li, i, why);
    if (rc) return rc;
  }
  return 0;
}

/* Each connection is a descriptor: asks for as many as the limit says, and warns where the system
 * grants fewer. */
static void raise_descriptors(uint32_t connections) {
  struct rlimit r;
  rlim_t need = (rlim_t)connections + LV__OPS_RESERVE + SPARE_FDS;
  if (getrlimit(RLIMIT_NOFILE, &r) || r.rlim_cur >= need) return;
  r.rlim_cur = r.rlim_max < need ? r.rlim_max : need;
  if (setrlimit(RLIMIT_NOFILE, &r) || r.rlim_cur < need)
    lv_log(LV_WARN,
           "the system allows fewer descriptors than limits.connections; raise it with "
           "`ulimit -Hn` or systemd's LimitNOFILE connections=%u descriptors=%llu",
           connections, (unsigned long long)r.rlim_cur);
}

/* One epoll set a loop, made while failing is still cheap. */
static int make_epolls(lv_net *net, char *why) {
  for (int i = 0; i < net->n_loops; i++) {
    net->nls[i].epfd = epoll_create1(EPOLL_CLOEXEC);
    if (net->nls[i].epfd >= 0) continue;
    snprintf(why, WHY, "cannot watch connections: %s", lv_strerror(errno));
    return lv_err_from_errno(errno);
  }
  return 0;
}

static void close_sockets(lv_net *net) {
  for (uint32_t k = 0; k < net->n_slots; k++)
    for (int l = 0; l < net->n_loops; l++) close(net->slots[k].fds[l]);
  for (int l = 0; l < net->n_loops; l++)
    if (net->nls[l].epfd >= 0) close(net->nls[l].epfd);
}

static uint32_t preface_ms(const lv_conf *conf) {
  return conf->connect_timeout_ms ? conf->connect_timeout_ms : LV__PREFACE_MS;
}

/* Builds and starts one loop's listeners. @thread loop */
static void start_loop(lv_loop *loop, void *arg) {
  lv__netloop *nl = arg;
  lv_net *net = nl->net;
  lv__netloop_init(nl, loop, net, nl->epfd);
  nl->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  nl->listeners = calloc(net->n_slots ? net->n_slots : 1, sizeof *nl->listeners);
  if (!nl->listeners) abort();
  nl->n_listeners = net->n_slots;
  for (uint32_t k = 0; k < net->n_slots; k++) {
    const slot *s = &net->slots[k];
    const lv_listen *li = &net->faces[s->index].listen;
    lv_listener *l = calloc(1, sizeof *l);
    if (!l) abort();
    l->magic = LV__LISTENER_MAGIC;
    l->nl = nl;
    l->slot = k;
    l->index = s->index;
    l->fd = s->fds[nl - net->nls];
    l->accept = net->accept[li->proto];
    l->ctx = net->faces[s->index].ctx;
    lv__tls_ctx_ref(l->ctx);
    l->preface_ms = net->preface_ms;
    l->proxy = li->proxy;
    l->http = is_http(li->proto);
    nl->listeners[k] = l;
  }
}

/* A second step, once every loop can be handed connections. @thread loop */
static void start_accepting(lv_loop *loop, void *arg) {
  lv__netloop *nl = arg;
  assert(nl->loop == loop);
  for (uint32_t k = 0; k < nl->n_listeners; k++) lv__listener_start(nl->listeners[k]);
}

static void free_net(lv_net *net) {
  for (uint32_t i = 0; i < net->n_faces; i++) lv__tls_ctx_unref(net->faces[i].ctx);
  pthread_mutex_destroy(&net->lock);
  pthread_cond_destroy(&net->idle);
  free(net->nls);
  free(net->slots);
  free(net->faces);
  net->magic = 0;
  free(net);
}

int lv_net_open(lv_loop *const *loops, int n_loops, const lv_conf *conf,
                const lv_accept accept[LV_PROTO_COUNT], lv_net **ret_net, char *why) {
  assert(n_loops > 0 && n_loops <= LV_LOOPS_MAX);
  why[0] = 0;
  (void)signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
  lv_net *net = calloc(1, sizeof *net);
  if (!net) abort();
  net->magic = NET_MAGIC;
  net->preface_ms = preface_ms(conf);
  net->n_loops = n_loops;
  net->n_faces = conf->n_listens;
  net->nls = calloc((size_t)n_loops, sizeof *net->nls);
  net->faces = calloc(conf->n_listens + 1, sizeof *net->faces);
  net->slots = calloc((size_t)conf->n_listens * LV__ADDRS_MAX + 1, sizeof *net->slots);
  if (!net->nls || !net->faces || !net->slots) abort();
  memcpy(net->accept, accept, sizeof net->accept);
  atomic_init(&net->limit, conf->limits.connections);
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&net->idle, &attr);
  pthread_condattr_destroy(&attr);
  pthread_mutex_init(&net->lock, NULL);
  raise_descriptors(conf->limits.connections);
  for (int i = 0; i < n_loops; i++) net->nls[i].epfd = -1;
  int rc = make_epolls(net, why);
  if (!rc) rc = open_all(net, conf, why);
  if (rc) {
    close_sockets(net);
    free_net(net);
    return rc;
  }
  for (int i = 0; i < n_loops; i++) {
    net->nls[i].net = net;
    lv_loop_call_wait(loops[i], start_loop, &net->nls[i]);
  }
  for (int i = 0; i < n_loops; i++) lv_loop_call_wait(loops[i], start_accepting, &net->nls[i]);
  *ret_net = net;
  return 0;
}

uint16_t lv_net_port(const lv_net *net, uint32_t i) {
  assert(net->magic == NET_MAGIC && i < net->n_faces);
  return net->faces[i].port;
}

const char *lv_net_address(const lv_net *net, uint32_t i) {
  assert(net->magic == NET_MAGIC && i < net->n_faces);
  return net->faces[i].address;
}

/* ---- reloading ---- */

typedef struct reload {
  lv_net *net;
  lv__netloop *nl;
  uint32_t preface_ms;
} reload;

/* @thread loop */
static void reload_loop(lv_loop *loop, void *arg) {
  reload *r = arg;
  assert(r->nl->loop == loop);
  for (uint32_t k = 0; k < r->nl->n_listeners; k++) {
    lv_listener *l = r->nl->listeners[k];
    struct ssl_ctx_st *old = l->ctx;
    l->ctx = r->net->faces[l->index].ctx;
    lv__tls_ctx_ref(l->ctx);
    lv__tls_ctx_unref(old);
    l->preface_ms = r->preface_ms;
  }
}

int lv_net_reload(lv_net *net, const lv_conf *conf, char *why) {
  assert(net->magic == NET_MAGIC && !net->down);
  why[0] = 0;
  struct ssl_ctx_st **ctxs = calloc(net->n_faces + 1, sizeof *ctxs);
  if (!ctxs) abort();
  int rc = 0;
  for (uint32_t i = 0; i < net->n_faces && !rc; i++) {
    const lv_listen *was = &net->faces[i].listen;
    bool same = i < conf->n_listens && conf->listens[i].proto == was->proto;
    rc = make_ctx(conf, same ? &conf->listens[i] : was, &ctxs[i], why);
  }
  for (uint32_t i = 0; i < net->n_faces; i++) {
    struct ssl_ctx_st *drop = rc ? ctxs[i] : net->faces[i].ctx;
    if (!rc) net->faces[i].ctx = ctxs[i];
    lv__tls_ctx_unref(drop);
  }
  free(ctxs);
  if (rc) return rc;
  atomic_store(&net->limit, conf->limits.connections);
  raise_descriptors(conf->limits.connections);
  for (int i = 0; i < net->n_loops; i++) {
    reload r = {net, &net->nls[i], preface_ms(conf)};
    lv_loop_call_wait(net->nls[i].loop, reload_loop, &r);
  }
  return 0;
}

/* ---- ending ---- */

typedef struct drain {
  lv__netloop *nl;
  bool cut;
  uint32_t n;
} drain;

/* @thread loop */
static void drain_loop(lv_loop *loop, void *arg) {
  drain *d = arg;
  assert(d->nl->loop == loop);
  for (uint32_t k = 0; k < d->nl->n_listeners; k++) lv__listener_close(d->nl->listeners[k]);
  d->n = lv__netloop_drain(d->nl, d->cut);
}

/* @thread loop */
static void close_loop(lv_loop *loop, void *arg) {
  lv__netloop *nl = arg;
  assert(nl->loop == loop);
  lv__netloop_close(nl);
}

static uint32_t drain_all(lv_net *net, bool cut) {
  uint32_t n = 0;
  for (int i = 0; i < net->n_loops; i++) {
    drain d = {&net->nls[i], cut, 0};
    lv_loop_call_wait(net->nls[i].loop, drain_loop, &d);
    n += d.n;
  }
  return n;
}

static bool all_idle(lv_net *net) {
  uint32_t n = 0;
  for (int i = 0; i < net->n_loops; i++)
    n += atomic_load(&net->nls[i].open) + atomic_load(&net->nls[i].closing);
  return n == 0;
}

/* False: ms passed before every connection was gone. Negative: no bound. */
static bool wait_idle(lv_net *net, int64_t ms) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  int64_t ns = t.tv_nsec + (ms % 1000) * 1000000;
  t.tv_sec += ms / 1000 + ns / 1000000000;
  t.tv_nsec = ns % 1000000000;
  bool idle;
  pthread_mutex_lock(&net->lock);
  while (!(idle = all_idle(net))) {
    int rc = ms < 0 ? pthread_cond_wait(&net->idle, &net->lock)
                    : pthread_cond_timedwait(&net->idle, &net->lock, &t);
    if (rc == ETIMEDOUT) break;
  }
  pthread_mutex_unlock(&net->lock);
  return idle;
}

uint32_t lv_net_shutdown(lv_net *net, uint32_t drain_ms) {
  assert(net->magic == NET_MAGIC);
  if (net->down) return 0;
  net->down = true;
  uint32_t cut = 0;
  (void)drain_all(net, false);
  if (!wait_idle(net, drain_ms)) {
    cut = drain_all(net, true);
    /* A connection on its way by mail when its loop was told finds the loop draining. */
    (void)wait_idle(net, -1);
  }
  for (int i = 0; i < net->n_loops; i++)
    lv_loop_call_wait(net->nls[i].loop, close_loop, &net->nls[i]);
  (void)wait_idle(net, -1);
  return cut;
}

void lv_net_free(lv_net *net) {
  if (!net) return;
  assert(net->magic == NET_MAGIC && net->down);
  for (int i = 0; i < net->n_loops; i++) {
    lv__netloop *nl = &net->nls[i];
    for (uint32_t k = 0; k < nl->n_listeners; k++) {
      lv__tls_ctx_unref(nl->listeners[k]->ctx);
      free(nl->listeners[k]);
    }
    free(nl->listeners);
    lv__netloop_done(nl);
  }
  free_net(net);
}
