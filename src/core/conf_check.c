/* conf_check.c: what a single value cannot show: names given twice, a listener without a protocol,
 * TLS without a certificate, limits that contradict each other. Run by the build as each section
 * is complete. */
#include "core/conf_int.h"
#include <assert.h>
#include <stdlib.h>

/* ---- limits ---- */
void lv__conf_limits_init(lv__conf_build *b, void *parent, void *obj) {
  *(lv_limits *)obj = b->conf->limits;
}

static const char *over_text(const char *key, uint64_t v, uint64_t max) {
  return v > max ? key : NULL;
}

void lv__conf_limits_finish(lv__conf_build *b, const lv__conf_node *node, void *parent, void *obj,
                            void *out) {
  const lv_limits *l = obj, *all = &b->conf->limits;
  const lv__conf_node *at = lv__conf_find(node, "queue");
  if (l->queue_bytes < l->packet_bytes)
    lv__conf_issue(b, at ? at : lv__conf_find(node, "packet"), NULL,
                   "queue (%u bytes) must hold at least one packet (%u bytes)", l->queue_bytes,
                   l->packet_bytes);
  if (l == all) return;
  const char *over[] = {over_text("connections", l->connections, all->connections),
                        over_text("packet", l->packet_bytes, all->packet_bytes),
                        over_text("inflight", l->inflight, all->inflight),
                        over_text("queue_messages", l->queue_messages, all->queue_messages),
                        over_text("queue", l->queue_bytes, all->queue_bytes),
                        over_text("subscriptions", l->subscriptions, all->subscriptions),
                        over_text("filter_levels", l->filter_levels, all->filter_levels),
                        over_text("topic_aliases", l->topic_aliases, all->topic_aliases),
                        over_text("session_expiry", l->session_expiry_s, all->session_expiry_s),
                        over_text("session", l->session_bytes, all->session_bytes),
                        over_text("sessions", l->sessions, all->sessions),
                        over_text("channels", l->channels, all->channels),
                        over_text("messages_per_second", l->messages_per_s - 1u,
                                  all->messages_per_s - 1u), /* 0, no limit, is the most */
                        over_text("retained", l->retained_messages, all->retained_messages),
                        over_text("retained_bytes", l->retained_bytes, all->retained_bytes),
                        over_text("snapshot_keys", l->snapshot_keys, all->snapshot_keys),
                        over_text("snapshot_bytes", l->snapshot_bytes, all->snapshot_bytes),
                        over_text("idempotency", l->idempotent, all->idempotent)};
  for (size_t i = 0; i < sizeof over / sizeof *over; i++) {
    if (!over[i]) continue;
    size_t len = lv__conf_path_push(b, over[i]);
    const lv__conf_node *v = lv__conf_find(node, over[i]);
    const char *found = v && v->kind == LV__CONF_SCALAR ? (const char *)v->text.p : NULL;
    lv__conf_issue(b, v, found, "allowed: at most what `limits.%s` says", over[i]);
    lv__conf_path_cut(b, len);
  }
}

/* ---- names that must differ ---- */
typedef struct named {
  lv_slice name;
  const lv__conf_node *at;
  uint32_t index; /* in its list */
  uint32_t app;   /* of a key */
} named;

static int named_cmp(const void *a, const void *b) {
  const named *x = a, *y = b;
  int r = lv_slice_cmp(x->name, y->name);
  return r ? r : x->index < y->index ? -1 : x->index > y->index;
}

/* Two objects of one name, `first` and `at`. */
static void twice(lv__conf_build *b, const lv__conf_node *at, const lv__conf_node *first,
                  const char *found, const char *what) {
  uint32_t here = at ? at->line : 0, there = first ? first->line : 0;
  if (!here == !there)
    lv__conf_issue(b, at, found, "%s given twice, first in line %u", what, there);
  else
    lv__conf_issue(b, here ? at : first, found,
                   "%s that stands in the document (line %u) and in the store (made over REST): "
                   "take one of them away",
                   what, here ? here : there);
}

/* Reports each name that came before in the list; `list` is the node that the names came from. */
static void names_check(lv__conf_build *b, named *v, uint32_t n, const char *list,
                        const char *what) {
  if (n) qsort(v, n, sizeof *v, named_cmp);
  for (uint32_t i = 1; i < n; i++) {
    if (v[i].name.n == 0 || !lv_slice_eq(v[i].name, v[i - 1].name)) continue;
    char found[80];
    snprintf(found, sizeof found, "%.*s", (int)v[i].name.n, (const char *)v[i].name.p);
    size_t len = lv__conf_path_push(b, list);
    (void)lv__conf_path_index(b, v[i].index);
    twice(b, v[i].at, v[i - 1].at, found, what);
    lv__conf_path_cut(b, len);
  }
}

static const lv__conf_node *item(const lv__conf_node *list, uint32_t i) {
  return list && i < list->n_kids ? list->kids[i] : list;
}

static uint8_t source_of(const lv__conf_node *node) {
  return node && node->line == 0 ? LV_SOURCE_STORE : LV_SOURCE_FILE;
}

/* ---- apps ---- */
void lv__conf_channel_init(lv__conf_build *b, void *parent, void *obj) {
  const lv_app *app = parent;
  *(lv_chan_conf *)obj = app->channel_defaults;
}

static int chan_cmp(const void *a, const void *b) {
  const lv_chan_conf *x = a, *y = b;
  return lv_slice_cmp(x->name, y->name);
}

/* `snapshot: keys` is 0 in the document's numbers. */
static void lasts_set(lv_chan_conf *c, const lv_limits *l) {
  c->last_keys = c->snapshot ? 0 : l->snapshot_keys;
  c->last_bytes = c->snapshot ? 0 : l->snapshot_bytes;
}

void lv__conf_app_finish(lv__conf_build *b, const lv__conf_node *node, void *parent, void *obj,
                         void *out) {
  lv_app *app = obj;
  const lv__conf_node *list = lv__conf_find(node, "channels");
  lv_chan_conf *channels = (lv_chan_conf *)app->channels;
  named *v = lv__conf_get(b->tmem, (app->n_channels + 1) * sizeof *v);
  for (uint32_t i = 0; i < app->n_channels; i++)
    v[i] = (named){channels[i].name, item(list, i), i, 0};
  names_check(b, v, app->n_channels, "channels", "a channel's name");
  app->channel_defaults.app = app->name;
  app->source = source_of(node);
  lasts_set(&app->channel_defaults, &app->limits);
  for (uint32_t i = 0; i < app->n_channels; i++) {
    channels[i].app = app->name;
    channels[i].source = source_of(item(list, i));
    lasts_set(&channels[i], &app->limits);
  }
  /* In order of names from here on: lv_conf_channel searches by halves. */
  if (app->n_channels) qsort(channels, app->n_channels, sizeof *channels, chan_cmp);
  if (app->n_channels > app->limits.channels)
    lv__conf_issue(b, list, NULL, "%u channels, limits.channels allows %u", app->n_channels,
                   app->limits.channels);
  lv_key *keys = (lv_key *)app->keys;
  for (uint32_t i = 0; i < app->n_keys; i++) keys[i].app = app;
  app->jwt.within.app = app;
}

void lv__conf_key_finish(lv__conf_build *b, const lv__conf_node *node, void *parent, void *obj,
                         void *out) {
  const lv__conf_key_in *in = obj;
  lv_key *key = out;
  *key = in->key;
  uint32_t n = in->n_publish + in->n_subscribe;
  lv_right *rights = lv__conf_get(b->mem, n * sizeof *rights);
  for (uint32_t i = 0; i < in->n_publish; i++)
    rights[i] = (lv_right){LV_VERB_PUBLISH, in->publish[i]};
  for (uint32_t i = 0; i < in->n_subscribe; i++)
    rights[in->n_publish + i] = (lv_right){LV_VERB_SUBSCRIBE, in->subscribe[i]};
  key->rights = rights;
  key->n_rights = n;
  key->verbs = in->sys ? LV_VERB_SYS : 0;
  key->source = source_of(node);
  if (!lv__conf_find(node, "publish") && !lv__conf_find(node, "subscribe") && !in->sys)
    lv__conf_issue(b, node, "no rights", "needs at least one of publish, subscribe, sys");
}

void lv__conf_admin_finish(lv__conf_build *b, const lv__conf_node *node, void *parent, void *obj,
                           void *out) {
  const lv__conf_key_in *in = obj;
  lv_key *key = out;
  *key = in->key;
  key->verbs = LV_VERB_ADMIN;
  key->source = source_of(node);
}

/* ---- listeners ---- */
static const char *const proto_names[LV_PROTO_COUNT] = {"mqtt", "mqtts", "http", "https"};

void lv__conf_listen_finish(lv__conf_build *b, const lv__conf_node *node, void *parent, void *obj,
                            void *out) {
  const lv__conf_listen_in *in = obj;
  lv_listen *l = out;
  uint32_t n = 0;
  for (uint8_t i = 0; i < LV_PROTO_COUNT; i++) {
    if (!lv__conf_find(node, proto_names[i])) continue;
    if (n++) continue;
    l->proto = i;
    if (in->address[i].n) (void)lv_conf_address(in->address[i], &l->host, &l->port);
  }
  l->proxy = in->proxy;
  l->client_cert = in->client_cert;
  bool tls = l->proto == LV_PROTO_MQTTS || l->proto == LV_PROTO_HTTPS;
  if (n != 1)
    lv__conf_issue(b, node, n ? "several protocols" : "no protocol",
                   "allowed: exactly one of mqtt, mqtts, http, https");
  else if (l->client_cert && !tls)
    lv__conf_issue(b, lv__conf_find(node, "client_cert"), "client_cert",
                   "allowed: only with mqtts or https");
}

static void listens_default(lv_conf *c, lv_arena *mem) {
  static const uint16_t ports[LV_PROTO_COUNT] = {1883, 8883, 8080, 8443};
  c->listens_default = true;
  c->listens = lv__conf_get(mem, LV_PROTO_COUNT * sizeof *c->listens);
  for (uint8_t i = 0; i < LV_PROTO_COUNT; i++) {
    bool tls = i == LV_PROTO_MQTTS || i == LV_PROTO_HTTPS;
    if (tls && c->tls_cert.n == 0) continue;
    c->listens[c->n_listens++] = (lv_listen){.proto = i, .host = LV_SLICE("*"), .port = ports[i]};
  }
}

static void listens_check(lv__conf_build *b, const lv__conf_node *node) {
  lv_conf *c = b->conf;
  const lv__conf_node *list = lv__conf_find(node, "listen");
  bool tls = false, client_cert = false;
  size_t len = lv__conf_path_push(b, "listen");
  for (uint32_t i = 0; i < c->n_listens; i++) {
    const lv_listen *l = &c->listens[i];
    tls |= l->proto == LV_PROTO_MQTTS || l->proto == LV_PROTO_HTTPS;
    client_cert |= l->client_cert;
    for (uint32_t j = 0; j < i; j++) {
      if (l->port == 0 || l->port != c->listens[j].port) continue;
      if (!lv_slice_eq(l->host, c->listens[j].host)) continue;
      lv__conf_issue(b, item(list, i), NULL, "same address as listen[%u], in line %u", j,
                     item(list, j) ? item(list, j)->line : 0);
    }
  }
  if (tls && (c->tls_cert.n == 0 || c->tls_key.n == 0))
    lv__conf_issue(b, list, NULL, "mqtts and https need server.tls.certificate and server.tls.key");
  if (client_cert && c->tls_client_ca.n == 0)
    lv__conf_issue(b, list, NULL, "client_cert needs server.tls.client_ca");
  lv__conf_path_cut(b, len);
}

/* ---- the document ---- */
static int key_cmp(const void *a, const void *b) {
  const named *x = a, *y = b;
  int r = lv_slice_cmp(x->name, y->name);
  if (!r) r = (x->app > y->app) - (x->app < y->app);
  return r ? r : (x->index > y->index) - (x->index < y->index);
}

static void key_twice(lv__conf_build *b, const named *v, const named *first) {
  size_t len = strlen(b->path);
  if (v->app != UINT32_MAX) {
    (void)lv__conf_path_push(b, "apps");
    (void)lv__conf_path_index(b, v->app);
  }
  (void)lv__conf_path_push(b, "keys");
  (void)lv__conf_path_index(b, v->index);
  twice(b, v->at, first->at, (const char *)v->name.p,
        "a key's id (they must differ across apps, too)");
  lv__conf_path_cut(b, len);
}

/* Ids must differ in the whole document: a client certificate names nothing else. */
static void keys_check(lv__conf_build *b, const lv__conf_node *root, const lv__conf_node *apps) {
  const lv_conf *c = b->conf;
  uint32_t n = c->n_keys, at = 0;
  for (uint32_t i = 0; i < c->n_apps; i++) n += c->apps[i].n_keys;
  named *v = lv__conf_get(b->tmem, (n + 1) * sizeof *v);
  const lv__conf_node *admins = lv__conf_find(root, "keys");
  for (; at < c->n_keys; at++) v[at] = (named){c->keys[at].id, item(admins, at), at, UINT32_MAX};
  for (uint32_t i = 0; i < c->n_apps; i++) {
    const lv__conf_node *list = lv__conf_find(item(apps, i), "keys");
    for (uint32_t k = 0; k < c->apps[i].n_keys; k++, at++)
      v[at] = (named){c->apps[i].keys[k].id, item(list, k), k, i};
  }
  qsort(v, n, sizeof *v, key_cmp);
  for (uint32_t i = 1; i < n; i++)
    if (v[i].name.n && lv_slice_eq(v[i].name, v[i - 1].name)) key_twice(b, &v[i], &v[i - 1]);
}

/* What is in the files is looked at by who uses them (net/), which then says where they are named.
 */
static void tls_mark(lv_conf *c, const lv__conf_node *root) {
  static const char *const keys[LV_CONF_TLS_COUNT] = {"certificate", "key", "client_ca"};
  const lv__conf_node *tls = lv__conf_find(lv__conf_find(root, "server"), "tls");
  for (int i = 0; i < LV_CONF_TLS_COUNT; i++) {
    const lv__conf_node *at = lv__conf_find(tls, keys[i]);
    if (at) c->tls_at[i] = (lv_conf_mark){at->line, at->column};
  }
}

void lv__conf_root_finish(lv__conf_build *b, const lv__conf_node *node, void *parent, void *obj,
                          void *out) {
  lv_conf *c = obj;
  assert(c == b->conf);
  const lv__conf_node *apps = lv__conf_find(node, "apps");
  lv_app *list = (lv_app *)c->apps;
  named *v = lv__conf_get(b->tmem, (c->n_apps + 1) * sizeof *v);
  for (uint32_t i = 0; i < c->n_apps; i++) {
    list[i].index = i;
    v[i] = (named){list[i].name, item(apps, i), i, 0};
  }
  names_check(b, v, c->n_apps, "apps", "an app's name");
  keys_check(b, node, apps);
  if (!lv__conf_find(node, "listen")) listens_default(c, b->mem);
  listens_check(b, node);
  tls_mark(c, node);
  if (c->anonymous && c->n_apps == 0) {
    size_t len = lv__conf_path_push(b, "server.anonymous");
    lv__conf_issue(b, lv__conf_find(lv__conf_find(node, "server"), "anonymous"), "true",
                   "anonymous clients act in the first app: declare one in apps");
    lv__conf_path_cut(b, len);
  }
}
