/* kit.c: see kit.h. */
#include "kit.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

static const char default_conf[] = "server: {anonymous: true}\n"
                                   "apps:\n"
                                   "  - name: a\n"
                                   "    auto_channels: true\n"
                                   "    channel_defaults: {durability: disk}\n"
                                   "    channels:\n"
                                   "      - {name: m, durability: memory}\n"
                                   "      - {name: m2, durability: memory}\n"
                                   "      - {name: d, durability: disk}\n";

/* ---- the clock ---- */

static _Atomic int64_t now_ns = 1000000000000;
static lv_mono clock_mono(void *arg) {
  (void)arg;
  return (lv_mono){atomic_load(&now_ns)};
}
static lv_wall clock_wall(void *arg) {
  (void)arg;
  return (lv_wall){atomic_load(&now_ns) + INT64_C(1700000000000000000)};
}
static const lv_clock test_clock = {clock_mono, clock_wall, NULL};

/* ---- clients: what a connection does ---- */

static void link_dirty(void *conn) {
  (void)conn;
}
static void link_want_drain(void *conn) {
  ((client *)conn)->want_drain = true;
}
static void link_close(void *conn, int err) {
  client *c = conn;
  if (c->closing) return;
  c->closing = true;
  c->close_err = err;
}
static void link_resume(void *conn) {
  ((client *)conn)->resumed++;
}
static const lv_link_ops link_ops = {link_dirty, link_want_drain, link_close, link_resume};

static void *grow(void *p, uint32_t n, uint32_t *cap, size_t size) {
  if (n < *cap) return p;
  *cap = *cap ? *cap * 2 : 16;
  p = realloc(p, *cap * size);
  if (!p) abort();
  return p;
}

static void on_publish(client *c, uint8_t flags, lv_slice body) {
  lv_mqtt_publish p;
  int err = lv_mqtt_publish_decode(c->version, flags, body, false, &p);
  assert(err == 0);
  got g = {.pid = p.packet_id,
           .qos = p.qos,
           .dup = p.dup,
           .retain = p.retain,
           .alias = p.alias,
           .bare = p.topic.n == 0,
           .has_expiry = p.has_expiry,
           .expiry_s = p.expiry_s};
  if (p.has_alias) {
    assert(p.alias > 0 && p.alias <= c->connect.topic_alias_max);
    if (!c->aliases && !(c->aliases = calloc(65536, sizeof *c->aliases))) abort();
    if (p.topic.n) {
      free(c->aliases[p.alias]);
      c->aliases[p.alias] = lv_slice_dup(p.topic);
    }
    assert(c->aliases[p.alias]);
    p.topic = lv_slice_str(c->aliases[p.alias]);
  }
  assert(p.topic.n > 0);
  lv_slice props = p.raw_props;
  lv_mqtt_property x;
  while (lv_mqtt_property_next(&props, &x) == 1)
    if (x.id == LV_MQTT_P_SUBSCRIPTION_ID && g.n_ids < 8) g.ids[g.n_ids++] = x.u;
  g.topic = lv_slice_dup(p.topic);
  g.topic_n = p.topic.n;
  g.payload = lv_slice_dup(p.payload);
  g.payload_n = p.payload.n;
  if (c->on_got) c->on_got(c, &g);
  if (c->stream) {
    free(g.topic);
    free(g.payload);
  } else {
    c->got = grow(c->got, c->n_got, &c->cap_got, sizeof *c->got);
    c->got[c->n_got++] = g;
  }
  if (c->auto_ack && p.qos)
    (void)client_ack(c, p.qos == 1 ? LV_MQTT_PUBACK : LV_MQTT_PUBREC, p.packet_id, 0);
}

static void on_packet(client *c, const lv_mqtt_head *h, lv_slice body) {
  if (h->type == LV_MQTT_PUBLISH) {
    on_publish(c, h->flags, body);
    return;
  }
  ack_got a = {.type = h->type};
  if (h->type == LV_MQTT_SUBACK || h->type == LV_MQTT_UNSUBACK) {
    a.pid = (uint16_t)(body.p[0] << 8 | body.p[1]);
    uint32_t at = c->version >= LV_MQTT_V5 ? 3 : 2;
    a.n_codes = body.n - at;
    a.reason = a.n_codes ? body.p[at] : 0;
  } else {
    lv_mqtt_ack m;
    int err = lv_mqtt_ack_decode(c->version, h->type, body, &m);
    assert(err == 0);
    a.pid = m.packet_id;
    a.reason = m.reason;
  }
  c->acks = grow(c->acks, c->n_acks, &c->cap_acks, sizeof *c->acks);
  c->acks[c->n_acks++] = a;
  if (c->on_ack) c->on_ack(c, &a);
  if (!c->auto_ack) return;
  if (a.type == LV_MQTT_PUBREC && a.reason < 0x80) (void)client_ack(c, LV_MQTT_PUBREL, a.pid, 0);
  if (a.type == LV_MQTT_PUBREL) (void)client_ack(c, LV_MQTT_PUBCOMP, a.pid, 0);
}

static void on_sent(void *arg, uint32_t n, lv_mono stamp, lv_use use) {
  client *c = arg;
  lv_sess_sent(c->sess, n, stamp, use);
}

/* The kernel takes all of it. True: something moved. */
static bool client_flush(client *c) {
  if (!c->sess || c->outq.bytes == 0 || (c->blocked && !c->closing)) return false;
  struct iovec iov[64];
  uint32_t total = c->outq.bytes;
  c->in = realloc(c->in, c->n_in + total);
  if (!c->in) abort();
  while (c->outq.bytes) {
    int n = lv_outq_iov(&c->outq, iov, 64);
    uint32_t part = 0;
    for (int i = 0; i < n; i++) {
      memcpy(c->in + c->n_in, iov[i].iov_base, iov[i].iov_len);
      c->n_in += (uint32_t)iov[i].iov_len;
      part += (uint32_t)iov[i].iov_len;
    }
    lv_outq_consume(&c->outq, part, on_sent, c);
  }
  uint32_t used = 0;
  lv_mqtt_head h;
  /* A copy: acknowledging at once queues more. */
  uint8_t *bytes = c->in;
  uint32_t n = c->n_in;
  c->in = NULL;
  c->n_in = 0;
  while (lv_mqtt_head_decode(bytes + used, n - used, &h) == 0 && h.len + h.remaining <= n - used) {
    on_packet(c, &h, lv_slice_of(bytes + used + h.len, h.remaining));
    used += h.len + h.remaining;
  }
  assert(used == n); /* whole packets only: everything was taken */
  free(bytes);
  return true;
}

static void gone(client *c, int err) {
  lv_sess *s = c->sess;
  c->sess = NULL;
  c->open = c->waiting = false;
  c->err = err;
  lv_sess_detach(s, err);
  lv_outq_done(&c->outq);
  for (uint32_t i = 0; c->aliases && i < 65536; i++) free(c->aliases[i]);
  free(c->aliases);
  c->aliases = NULL;
}

/* A connection's share of a turn. */
static bool client_turn(client *c) {
  bool moved = client_flush(c);
  if (c->sess && c->closing) {
    gone(c, c->close_err);
    return true;
  }
  if (c->sess && c->open && c->want_drain && c->outq.bytes == 0) {
    c->want_drain = false;
    lv_sess_drain(c->sess);
    moved |= c->outq.bytes > 0;
  }
  return moved;
}

static void flush_hook(lv_loop *loop, void *arg) {
  kit *k = arg;
  for (client *c = k->clients[loop->index], *next; c; c = next) {
    next = c->next;
    if (client_turn(c)) lv_loop_again(loop);
  }
}

client *client_new(kit *k, int loop, const char *id, uint8_t version) {
  client *c = calloc(1, sizeof *c);
  if (!c) abort();
  c->k = k;
  c->loop = loop;
  c->version = version;
  c->next_pid = 1;
  snprintf(c->id, sizeof c->id, "%s", id);
  lv_outq_init(&c->outq);
  c->next = k->clients[loop];
  k->clients[loop] = c;
  return c;
}

void client_move(client *c, int loop) {
  client **p = &c->k->clients[c->loop];
  assert(!c->sess && !c->asked);
  while (*p != c) p = &(*p)->next;
  *p = c->next;
  c->loop = loop;
  c->next = c->k->clients[loop];
  c->k->clients[loop] = c;
}

static void ready(void *conn, lv_sess *sess, bool present, int err) {
  client *c = conn;
  c->waiting = false;
  if (c->closing) return;
  if (err) {
    link_close(c, err);
    return;
  }
  c->open = true;
  c->present = present;
  if (!c->hold_start) lv_sess_start(sess);
}

void client_start(client *c) {
  lv_sess_start(c->sess);
}

static void claimed(lv_claim *claim, lv_sess *sess, int err) {
  client *c = claim->arg;
  c->asked = false;
  if (claim->cancelled) {
    if (sess) lv_sess_release(sess);
    lv_auth_unref(c->auth);
    c->auth = NULL;
    return;
  }
  if (err) {
    c->err = err;
    lv_auth_unref(c->auth);
    c->auth = NULL;
    return;
  }
  c->sess = sess;
  c->waiting = true;
  lv_auth *auth = c->auth;
  c->auth = NULL;
  lv_sess_attach(
      sess, &(lv_attach){
                .conn = c, .outq = &c->outq, .connect = &c->connect, .auth = auth, .ready = ready});
}

static const lv_key *key_by_id(const lv_app *app, const char *id) {
  for (uint32_t i = 0; id && i < app->n_keys; i++)
    if (lv_slice_eq(app->keys[i].id, lv_slice_str(id))) return &app->keys[i];
  assert(!id);
  return NULL;
}

void client_ask(client *c, opts o) {
  kit *k = c->k;
  lv_conf *conf = lv_shard_conf(k->shard[c->loop]);
  assert(!c->sess && !c->asked);
  c->err = c->close_err = 0;
  c->open = c->present = c->closing = c->want_drain = false;
  c->connect = (lv_mqtt_connect){.version = c->version,
                                 .clean_start = o.clean,
                                 .session_expiry_s = o.expiry_s,
                                 .receive_max = o.receive_max ? o.receive_max : 65535,
                                 .topic_alias_max = o.alias_max,
                                 .max_packet = o.max_packet,
                                 .request_problem = true,
                                 .client_id = lv_slice_str(c->id)};
  if (o.will_topic) {
    lv_mqtt_will *w = &c->connect.will;
    w->present = true;
    w->topic = lv_slice_str(o.will_topic);
    w->payload = lv_slice_str(o.will ? o.will : "");
    w->delay_s = o.will_delay_s;
    w->qos = o.will_qos;
    w->retain = o.will_retain;
  }
  c->auth = lv_auth_get(k->realm, conf, &conf->apps[0], key_by_id(&conf->apps[0], o.key));
  c->asked = true;
  c->claim = (lv_claim){.done = claimed, .arg = c};
  lv_sess_claim(k->shard[c->loop], c->auth, c->connect.client_id, &c->claim);
}

void client_connect(client *c, opts o) {
  client_ask(c, o);
  kit_run(c->k);
}

void client_cut(client *c) {
  if (c->asked) c->claim.cancelled = true;
  if (c->sess) gone(c, LV_E_CLOSED);
}

void client_bye(client *c) {
  int err = lv_sess_disconnect(c->sess, &(lv_mqtt_disconnect){0});
  assert(err == 0);
  gone(c, 0);
}

int client_publish_pid(client *c, const char *topic, const char *payload, uint8_t qos, bool retain,
                       uint16_t pid, bool dup) {
  lv_mqtt_publish p = {.topic = lv_slice_str(topic),
                       .payload = lv_slice_str(payload),
                       .qos = qos,
                       .retain = retain,
                       .dup = dup,
                       .packet_id = qos ? pid : 0};
  int err = lv_sess_publish(c->sess, &p, c->k->loop[c->loop]->now);
  if (err && err != LV_E_BUSY) link_close(c, err);
  return err;
}

int client_publish(client *c, const char *topic, const char *payload, uint8_t qos, bool retain) {
  uint16_t pid = c->next_pid;
  if (qos) c->next_pid = pid == 65535 ? 1 : (uint16_t)(pid + 1);
  return client_publish_pid(c, topic, payload, qos, retain, pid, false);
}

int client_ack(client *c, uint8_t type, uint16_t pid, uint8_t reason) {
  int err = lv_sess_ack(c->sess, type, &(lv_mqtt_ack){.packet_id = pid, .reason = reason});
  if (err) link_close(c, err);
  return err;
}

static uint32_t put_filter(uint8_t *p, const char *filter) {
  uint32_t n = (uint32_t)strlen(filter);
  p[0] = (uint8_t)(n >> 8);
  p[1] = (uint8_t)n;
  memcpy(p + 2, filter, n);
  return n + 2;
}

int client_sub_send(client *c, const char *filter, uint8_t qos, subopts o) {
  uint8_t buf[1024];
  uint32_t n = put_filter(buf, filter);
  buf[n++] = (uint8_t)(qos | o.no_local << 2 | o.as_published << 3 | o.retain_handling << 4);
  lv_mqtt_subscribe s = {
      .packet_id = c->next_pid++, .sub_id = o.id, .list = lv_slice_of(buf, n), .count = 1};
  if (!c->next_pid) c->next_pid = 1;
  int err = lv_sess_subscribe(c->sess, &s);
  if (err && err != LV_E_BUSY) link_close(c, err);
  return err;
}

uint8_t client_sub(client *c, const char *filter, uint8_t qos, subopts o) {
  uint16_t pid = c->next_pid;
  if (client_sub_send(c, filter, qos, o)) return 0xFF;
  kit_run(c->k);
  const ack_got *a = client_acked(c, LV_MQTT_SUBACK, pid);
  return a ? a->reason : 0xFE;
}

uint8_t client_unsub(client *c, const char *filter) {
  uint8_t buf[1024];
  uint16_t pid = c->next_pid++;
  lv_mqtt_subscribe s = {
      .packet_id = pid, .list = lv_slice_of(buf, put_filter(buf, filter)), .count = 1};
  (void)lv_sess_unsubscribe(c->sess, &s);
  kit_run(c->k);
  const ack_got *a = client_acked(c, LV_MQTT_UNSUBACK, pid);
  return a ? a->reason : 0xFE;
}

const got *client_next(client *c) {
  return c->n_seen < c->n_got ? &c->got[c->n_seen++] : NULL;
}

const ack_got *client_acked(client *c, uint8_t type, uint16_t pid) {
  for (uint32_t i = c->n_acks; i-- > 0;)
    if (c->acks[i].type == type && c->acks[i].pid == pid) return &c->acks[i];
  return NULL;
}

void client_forget(client *c) {
  for (uint32_t i = 0; i < c->n_got; i++) {
    free(c->got[i].topic);
    free(c->got[i].payload);
  }
  c->n_got = c->n_seen = c->n_acks = 0;
}

static void client_free(client *c) {
  assert(!c->sess);
  client_forget(c);
  lv_auth_unref(c->auth);
  lv_outq_done(&c->outq);
  free(c->got);
  free(c->acks);
  free(c->in);
  free(c);
}

/* ---- the process ---- */

static void issue(void *arg, const lv_conf_issue *i) {
  (void)arg;
  fprintf(stderr, "%u: %s: %s\n", i->line, i->key, i->text);
}

static void shard_make(lv_loop *loop, void *arg) {
  kit *k = arg;
  int err = lv_shard_new(k->realm, loop, &k->shard[loop->index]);
  assert(err == 0);
  k->hook[loop->index] = (lv_hook){.run = flush_hook, .arg = k};
  lv_loop_hook(loop, LV_PHASE_FLUSH, &k->hook[loop->index]);
}

lv_realm *kit_realm(kit *k) {
  if (k->realm) return k->realm;
  lv_clock_set(&test_clock);
  int err = lv_realm_new(k->conf, &link_ops, &k->realm);
  assert(err == 0);
  return k->realm;
}

void kit_open(kit *k, lv_broker *broker) {
  char why[256] = "";
  k->broker = broker;
  (void)kit_realm(k);
  for (int i = 0; i < LV_C_COUNT; i++) k->base_c[i] = lv_metrics_counter((enum lv_counter)i);
  for (int i = 0; i < LV_G_COUNT; i++) k->base_g[i] = lv_metrics_gauge((enum lv_gauge)i);
  if (k->fake) fake_visible(k->fake, lv_realm_visible, k->realm);
  for (int i = 0; i < k->n_loops; i++) {
    int err = lv_loop_new(i, &k->loop[i]);
    assert(err == 0);
  }
  int err = lv_realm_open(k->realm, broker, k->loop, k->n_loops, why);
  if (err) fprintf(stderr, "%s\n", why);
  assert(err == 0);
  for (int i = 0; i < k->n_loops; i++) {
    lv_loop_call(k->loop[i], shard_make, k);
    lv_loop_step(k->loop[i]);
    assert(k->shard[i]);
  }
  kit_run(k);
}

void kit_conf(kit *k, const char *yaml) {
  lv_conf_unref(k->conf);
  k->conf = NULL;
  int err = lv_conf_parse("kit.yaml", lv_slice_str(yaml), issue, NULL, &k->conf);
  assert(err == 0);
}

kit *kit_new(int n_loops, const char *yaml) {
  kit *k = calloc(1, sizeof *k);
  if (!k) abort();
  kit_conf(k, yaml ? yaml : default_conf);
  k->n_loops = n_loops;
  if (n_loops > 0) {
    k->fake = fake_new();
    kit_open(k, fake_base(k->fake));
  }
  return k;
}

static void turns(kit *k, int n) {
  for (int i = 0; i < n; i++) kit_step(k);
}

static void nothing(lv_loop *loop, void *arg) {
  (void)loop;
  (void)arg;
}

void kit_threads(kit *k) {
  for (int i = 0; i < k->n_loops; i++) {
    int err = lv_loop_start(k->loop[i], NULL, NULL);
    assert(err == 0);
  }
  k->threaded = true;
}

/* With threads: each loop has handled what was in its mailbox. */
void kit_step(kit *k) {
  for (int i = 0; i < k->n_loops; i++) {
    if (k->threaded) {
      lv_loop_call_wait(k->loop[i], nothing, NULL);
    } else {
      lv_loop_step(k->loop[i]);
    }
  }
}

void kit_run(kit *k) {
  turns(k, k->settle ? 1 : 12);
  if (k->settle) k->settle(k);
}

void kit_tick_ms(kit *k, int64_t ms) {
  (void)k;
  atomic_fetch_add(&now_ns, ms * 1000000);
}

void kit_sleep_ms(kit *k, int64_t ms) {
  for (; ms > 0; ms -= 500) { /* in parts, so that repeating timers repeat */
    atomic_fetch_add(&now_ns, (ms < 500 ? ms : 500) * 1000000);
    turns(k, 2);
  }
  kit_run(k);
}

uint64_t kit_count(const kit *k, enum lv_counter c) {
  return lv_metrics_counter(c) - k->base_c[c];
}

int64_t kit_gauge(const kit *k, enum lv_gauge g) {
  return lv_metrics_gauge(g) - k->base_g[g];
}

uint64_t kit_drops(const kit *k) {
  uint64_t n = 0;
  for (int c = LV_C_DROP_HUB_DISCONNECTED; c <= LV_C_DROP_HUB_TOO_BIG; c++)
    n += kit_count(k, (enum lv_counter)c);
  return n;
}

#define EQUAL(what, a, b)                                                                          \
  do {                                                                                             \
    long long x_ = (long long)(a), y_ = (long long)(b);                                            \
    if (x_ != y_) fprintf(stderr, "ledger: %s: %lld != %lld\n", what, x_, y_);                     \
    assert(x_ == y_);                                                                              \
  } while (0)

void kit_ledger(const kit *k) {
  uint64_t rejected = 0, lost = 0;
  for (int c = LV_C_GW_REJ_AUTH; c <= LV_C_GW_REJ_SYS; c++)
    rejected += kit_count(k, (enum lv_counter)c);
  for (int c = LV_C_DROP_GW_QUEUE; c <= LV_C_DROP_GW_SHUTDOWN; c++)
    lost += kit_count(k, (enum lv_counter)c);
  EQUAL("offered = in + rejected", kit_count(k, LV_C_GW_OFFERED),
        kit_count(k, LV_C_GW_IN) + rejected);
  EQUAL("in = out + drops + in flight", kit_count(k, LV_C_GW_IN),
        kit_count(k, LV_C_GW_OUT) + lost + (uint64_t)kit_gauge(k, LV_G_INFLIGHT));
  EQUAL("owed = delivered + drops + pending", kit_count(k, LV_C_HUB_OWED),
        kit_count(k, LV_C_HUB_OUT) + kit_drops(k) + (uint64_t)kit_gauge(k, LV_G_PENDING));
}

static void drop_all(lv_loop *loop, void *arg) {
  kit *k = arg;
  for (client *c = k->clients[loop->index]; c; c = c->next) {
    if (c->asked) c->claim.cancelled = true;
    if (c->sess) gone(c, LV_E_SHUTDOWN);
  }
}

static void quiesce(lv_loop *loop, void *arg) {
  lv_shard_quiesce(((kit *)arg)->shard[loop->index]);
}

void kit_close(kit *k, bool crash) {
  if (crash && k->fake) fake_cut(k->fake);
  if (k->fake) {
    for (int i = 0; i < LV_DURABILITY_COUNT; i++) fake_hold(k->fake, i, false);
    fake_hold_reads(k->fake, false);
  }
  for (int i = 0; i < k->n_loops; i++) lv_loop_call(k->loop[i], drop_all, k);
  kit_run(k);
  for (int i = 0; i < k->n_loops; i++) lv_loop_call(k->loop[i], quiesce, k);
  kit_run(k);
  if (!crash) kit_ledger(k);
  for (int i = 0; k->threaded && i < k->n_loops; i++) lv_loop_stop(k->loop[i]);
  k->threaded = false;
  for (int i = 0; i < k->n_loops; i++) lv_shard_free(k->shard[i]);
  if (k->close) k->close(k);
  for (int i = 0; i < k->n_loops; i++) {
    k->shard[i] = NULL;
    lv_loop_free(k->loop[i]);
  }
  lv_realm_free(k->realm);
  k->realm = NULL;
}

void kit_restart(kit *k, bool crash) {
  kit_close(k, crash);
  fake_restart(k->fake);
  kit_open(k, fake_base(k->fake));
}

void kit_free(kit *k) {
  if (k->realm) {
    kit_ledger(k);
    kit_close(k, false);
  }
  for (int i = 0; i < KIT_LOOPS_MAX; i++) {
    for (client *c = k->clients[i], *next; c; c = next) {
      next = c->next;
      client_free(c);
    }
  }
  if (k->fake) fake_free(k->fake);
  lv_conf_unref(k->conf);
  lv_clock_set(NULL);
  free(k);
}
