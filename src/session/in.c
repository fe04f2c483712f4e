/* in.c: what a client publishes: from a decoded PUBLISH to a record in this turn's batch, and back
 * from the broker's word to PUBACK, PUBREC, PUBCOMP.
 *
 * Answers leave in the order of the publishes (MQTT 5.0 §4.6), though a client's messages may go to
 * both logs, which complete each at its own pace, and some are refused at once. So each publish
 * takes a place in a ring; what the broker says is noted there, and answers leave from its head.
 *
 *   ring   head [ 7 done | 8 due | 9 done | 10 due ]     7 leaves now, 9 with 8
 *
 * An entry is 4 bytes; the ring stays as large as it was needed until the connection ends.
 * In 3.1.1, which has no negative answer, a failure closes the connection and keeps its place:
 * nothing behind it is answered. A session changes hands only when the broker has said its last
 * word, so no answer meets a later connection. */
#include "core/hash.h"
#include "core/log.h"
#include "session/session_int.h"
#include <assert.h>
#include <stdlib.h>

void lv__put_ack(lv_sess *s, uint8_t type, uint16_t pid, uint8_t reason) {
  if (!s->conn) return;
  uint8_t tmp[LV_MQTT_ACK_MAX];
  lv_slice text = {NULL, 0};
  if (reason >= 0x80 && s->request_problem && reason != 0x92) {
    /* the reason code says it all for most; the text helps who reads a trace */
    text = lv_slice_str(reason == 0x87   ? "not authorized"
                        : reason == 0x90 ? "topic name invalid or channel not declared"
                        : reason == 0x97 ? "quota exceeded, or no space on the server"
                                         : "");
  }
  uint32_t n = lv_mqtt_ack_encode(s->version, type, pid, reason, text, tmp);
  if (s->max_packet && n > s->max_packet) /* [MQTT-3.4.2-2] */
    n = lv_mqtt_ack_encode(s->version, type, pid, reason, (lv_slice){NULL, 0}, tmp);
  memcpy(lv_outq_put(s->outq, n, 0, (lv_mono){0}), tmp, n);
  s->shard->link->dirty(s->conn);
}

/* ---- answers in order ---- */

static void answers_grow(lv_sess *s) {
  lv_answers *old = s->answers;
  uint32_t cap = old ? (old->mask + 1) * 2 : 4;
  lv_answers *a = malloc(sizeof *a + cap * sizeof a->e[0]);
  if (!a) abort();
  *a = (lv_answers){.mask = cap - 1};
  for (; old && a->count < old->count; a->count++)
    a->e[a->count] = old->e[(old->head + a->count) & old->mask];
  free(old);
  s->answers = a;
}

/* Takes the next place; returns its number. */
static uint32_t answers_push(lv_sess *s, uint16_t pid, uint8_t qos, uint8_t reason) {
  if (!s->answers || s->answers->count > s->answers->mask) answers_grow(s);
  lv_answers *a = s->answers;
  uint32_t i = (a->head + a->count) & a->mask;
  a->e[i].pid = pid;
  a->e[i].qos = qos;
  a->e[i].reason = reason;
  if (qos == 1) s->in_unacked++;
  return s->answer_seq + a->count++;
}

static void answers_flush(lv_sess *s) {
  lv_answers *a = s->answers;
  while (a->count && a->e[a->head].reason != LV_ANSWER_DUE) {
    uint32_t i = a->head;
    a->head = (a->head + 1) & a->mask;
    a->count--;
    s->answer_seq++;
    if (a->e[i].qos == 1) s->in_unacked--;
    lv__put_ack(s, a->e[i].qos == 1 ? LV_MQTT_PUBACK : LV_MQTT_PUBREC, a->e[i].pid, a->e[i].reason);
  }
  if (s->held && a->count <= s->in_max / 2u) lv__in_resume(s);
}

void lv__in_resume(lv_sess *s) {
  if (!s->held) return;
  s->held = 0;
  if (s->conn) s->shard->link->resume(s->conn);
}

void lv__in_attach(lv_sess *s) {
  for (uint32_t i = 0; s->in2 && i < s->in2->n; i++) s->in2->e[i].old = true;
  if (s->in2) s->in2->n_old = s->in2->n;
}

void lv__in_detach(lv_sess *s) {
  if (s->answers) s->answer_seq += s->answers->count;
  free(s->answers);
  s->answers = NULL;
  s->in_unacked = 0;
}

/* ---- inbound QoS 2 packet ids ---- */

static uint16_t *in2_slot(lv_in2 *x, uint16_t pid) {
  uint16_t *slots = (uint16_t *)(x->e + x->cap);
  return &slots[pid & (x->cap - 1)];
}

static lv_in2_id *in2_find(lv_sess *s, uint16_t pid) {
  if (!s->in2) return NULL;
  for (uint32_t i = *in2_slot(s->in2, pid); i; i = s->in2->e[i - 1].next)
    if (s->in2->e[i - 1].pid == pid) return &s->in2->e[i - 1];
  return NULL;
}

static void in2_link(lv_in2 *x, uint32_t i) {
  uint16_t *slot = in2_slot(x, x->e[i].pid);
  x->e[i].next = *slot;
  *slot = (uint16_t)(i + 1);
}

static void in2_unlink(lv_in2 *x, uint32_t i) {
  uint16_t *p = in2_slot(x, x->e[i].pid);
  while (*p != i + 1) p = &x->e[*p - 1].next;
  *p = x->e[i].next;
}

static void in2_grow(lv_sess *s) {
  lv_in2 *old = s->in2;
  uint32_t cap = old ? old->cap * 2 : 4;
  lv_in2 *x = calloc(1, sizeof *x + cap * (sizeof x->e[0] + sizeof(uint16_t)));
  if (!x) abort();
  x->cap = cap;
  if (old) {
    x->n_old = old->n_old;
    memcpy(x->e, old->e, old->n * sizeof x->e[0]);
    for (; x->n < old->n; x->n++) in2_link(x, x->n);
    free(old);
  }
  s->in2 = x;
}

void lv__in2_add(lv_sess *s, uint16_t pid, uint8_t state, uint8_t log) {
  assert(pid != 0); /* so there are 65,535 at most, and a place + 1 fits 16 bits */
  if (in2_find(s, pid)) return;
  if (!s->in2 || s->in2->n == s->in2->cap) in2_grow(s);
  lv_in2 *x = s->in2;
  x->e[x->n] = (lv_in2_id){.pid = pid, .state = state, .log = log};
  in2_link(x, x->n++);
}

static void in2_remove(lv_sess *s, uint16_t pid) {
  lv_in2_id *found = in2_find(s, pid);
  if (!found) return;
  lv_in2 *x = s->in2;
  uint32_t i = (uint32_t)(found - x->e), last = x->n - 1;
  if (found->old) x->n_old--;
  in2_unlink(x, i);
  if (i != last) { /* the last takes its place */
    in2_unlink(x, last);
    x->e[i] = x->e[last];
    in2_link(x, i);
  }
  if (--x->n > 0) return;
  free(x);
  s->in2 = NULL;
}

/* What counts against the Receive Maximum that we granted: unanswered QoS 1, unfinished QoS 2. */
static uint32_t in_window(const lv_sess *s) {
  return s->in_unacked + (s->in2 ? s->in2->n - s->in2->n_old : 0);
}

/* As many answers are due as publishes may be in flight, and it is no fault of the client's: 3.1.1
 * knows no such limit, and neither do repeats and publishes that are refused. */
static bool must_wait(lv_sess *s, const lv_mqtt_publish *p) {
  if (!p->qos || !s->answers || s->answers->count < s->in_max) return false;
  if (s->version < LV_MQTT_V5 || in_window(s) < s->in_max) return true;
  return p->qos == 2 && in2_find(s, p->packet_id);
}

/* ---- topic → channel ---- */

static int route_find(lv_shard *s, const lv_auth *a, lv_slice topic, lv_chan **ret_chan,
                      uint16_t *ret_key_off) {
  lv_slice name;
  if (lv_slice_starts(topic, LV_SLICE("$SYS/")) || lv_slice_eq(topic, LV_SLICE("$SYS"))) return 1;
  if (topic.n > LV_MQTT_TOPIC_MAX) return LV_E_TOPIC;
  if (lv_mqtt_levels(topic) > a->app->limits.filter_levels) return LV_E_TOPIC;
  if (!lv_auth_may_publish(a, topic)) return LV_E_FORBIDDEN;
  lv_topic_split(topic, &name, ret_key_off);
  lv_chan *chan = s->broker->ops->find(s->broker, a->app->name, name);
  if (chan && !atomic_load(&chan->dead)) {
    *ret_chan = chan;
    return 0;
  }
  if (!a->app->auto_channels) return LV_E_NOT_FOUND;
  if (s->broker->refusing) return s->broker->refusing;
  lv_chan_conf c = a->app->channel_defaults;
  c.app = a->app->name;
  c.name = name;
  return s->broker->ops->ensure(s->broker, &c, a->app_id, a->app->limits.channels, ret_chan);
}

/* 0 and the channel; 1: a $SYS topic; else why not. Verdicts are cached, but for passing failures.
 */
int lv__route(lv_shard *s, const lv_auth *a, lv_slice topic, lv_chan **ret_chan,
              uint16_t *ret_key_off) {
  uint64_t h = lv_hash(topic.p, topic.n) + a->serial * UINT64_C(0x9E3779B97F4A7C15);
  lv_topic_route **slot = &s->routes[(h ^ h >> 32) & (LV_ROUTES - 1)], *r = *slot;
  if (r && r->hash == h && r->auth == a->serial && r->gen == s->routes_gen && r->len == topic.n &&
      memcmp(r->topic, topic.p, topic.n) == 0) {
    *ret_chan = r->chan;
    *ret_key_off = r->key_off;
    return r->err;
  }
  lv_chan *chan = NULL;
  uint16_t key_off = 0;
  int err = route_find(s, a, topic, &chan, &key_off);
  *ret_chan = chan;
  *ret_key_off = key_off;
  if (err && err != 1 && err != LV_E_FORBIDDEN && err != LV_E_TOPIC) return err;
  if (topic.n > 1024) return err; /* long topics are not worth remembering */
  free(r);
  r = malloc(sizeof *r + topic.n);
  if (!r) abort();
  *r =
      (lv_topic_route){h, a->serial, chan, s->routes_gen, (int16_t)err, key_off, (uint16_t)topic.n};
  memcpy(r->topic, topic.p, topic.n);
  *slot = r;
  return err;
}

int lv_shard_route(lv_shard *s, const lv_auth *auth, lv_slice topic, lv_chan **ret_chan,
                   uint16_t *ret_key_off) {
  lv_chan *chan;
  uint16_t key_off;
  int err = lv__route(s, auth, topic, &chan, &key_off);
  if (!err) err = s->broker->refusing;
  if (err) return err;
  *ret_chan = chan;
  *ret_key_off = key_off;
  return 0;
}

/* ---- refusing ---- */

enum lv_counter lv_reject_counter(int err) {
  switch (err) {
  case LV_E_FORBIDDEN: return LV_C_GW_REJ_AUTH;
  case LV_E_TOO_BIG: return LV_C_GW_REJ_BIG;
  case LV_E_RATE: return LV_C_GW_REJ_RATE;
  case LV_E_PAYLOAD:
  case LV_E_NESTING:
  case LV_E_SURROGATE: return LV_C_GW_REJ_PAYLOAD;
  case LV_E_BUSY:
  case LV_E_SHUTDOWN:
  case LV_E_NOMEM: return LV_C_GW_REJ_BUSY;
  case LV_E_QUOTA:
  case LV_E_RECEIVE_MAX: return LV_C_GW_REJ_QUOTA;
  case LV_E_DISK_FULL: return LV_C_GW_REJ_DISK_FULL;
  case LV_E_IO: return LV_C_GW_REJ_DISK;
  default: return LV_C_GW_REJ_TOPIC;
  }
}

/* What PUBACK and PUBREC may say (§3.4.2.1, §3.5.2.1); the rest is 0x83, "not willing to accept
 * it".
 */
static uint8_t answer_code(int err) {
  uint8_t code = lv_err_mqtt(err);
  bool listed =
      code == 0x80 || code == 0x83 || code == 0x87 || code == 0x90 || code == 0x97 || code == 0x99;
  return listed ? code : 0x83;
}

/* The publish's answer comes behind those that are still due. */
static void answer(lv_sess *s, uint8_t qos, uint16_t pid, uint8_t reason) {
  if (s->answers && s->answers->count) {
    (void)answers_push(s, pid, qos, reason);
  } else {
    lv__put_ack(s, qos == 1 ? LV_MQTT_PUBACK : LV_MQTT_PUBREC, pid, reason);
  }
}

static int reject(lv_sess *s, const lv_mqtt_publish *p, int err) {
  lv_count(lv__kpi(s), lv_reject_counter(err), 1);
  if (err == LV_E_RECEIVE_MAX || err == LV_E_TOPIC_ALIAS || err == LV_E_MALFORMED ||
      err == LV_E_PROTOCOL)
    return err;
  bool disk = err == LV_E_DISK_FULL || err == LV_E_IO; /* no fault of the client's */
  if (p->qos == 0) return s->version < LV_MQTT_V5 && !disk ? err : 0;
  if (s->version < LV_MQTT_V5) return err; /* 3.1.1 has no negative PUBACK */
  answer(s, p->qos, p->packet_id, answer_code(err));
  return 0;
}

/* ---- publishing ---- */

/* Given back by lv__pub_done. */
static int retained_claim(lv_shard *s, const lv_limits *l, uint32_t app_id, const lv_rec_in *in) {
  uint32_t size;
  int err = lv_rec_size(in, &size);
  if (err) return err;
  bool fits = lv_retained_claim(s->realm->retained, app_id, in->topic, size, l->retained_messages,
                                l->retained_bytes);
  return fits ? 0 : LV_E_QUOTA;
}

/* Routes and adds one message. True: added; else *ret_err: 1 $SYS, or why not. */
bool lv__publish_rec(lv_shard *s, lv_auth *auth, lv_rec_in *in, lv_slice topic, lv_mono read_at,
                     uint8_t *ret_log, int *ret_err) {
  lv_chan *chan;
  *ret_err = lv__route(s, auth, topic, &chan, &in->key_off);
  if (!*ret_err) *ret_err = s->broker->refusing;
  if (*ret_err) return false;
  if (!lv__content_ok(chan, in->val, in->flags & LV_REC_RETAIN)) {
    *ret_err = LV_E_PAYLOAD;
    return false;
  }
  lv_rec *rec;
  in->kind = LV_REC_MSG;
  if (lv_chan_lasts(chan)) in->flags |= LV_REC_LAST;
  in->chan = chan->id;
  in->kpi_slot = lv_chan_kpi(chan);
  in->topic = topic;
  in->ingest_ns = s->loop->wall.ns;
  in->has_tms = lv_mqtt_tms(in->props, &in->tms);
  bool claims = (in->flags & LV_REC_RETAIN) && in->val.n;
  if (claims) *ret_err = retained_claim(s, &auth->app->limits, chan->app_id, in);
  if (*ret_err) return false;
  *ret_err = lv_pub_add(s->pub, chan->durability, in, read_at, &rec);
  if (*ret_err && claims) lv_retained_unclaim(s->realm->retained, chan->app_id, topic);
  if (*ret_err) return false;
  *ret_log = chan->durability;
  return true;
}

/* A QoS 2 publish that was seen before: answered again, stored once. */
static int publish_again(lv_sess *s, const lv_mqtt_publish *p, uint8_t state) {
  lv_count(lv__kpi(s), LV_C_GW_REJ_DUP, 1);
  if (state == LV_IN_STORED) answer(s, 2, p->packet_id, 0);
  return 0; /* while it is being stored its PUBREC is due anyway */
}

static void publish_ack_due(lv_sess *s, const lv_mqtt_publish *p, uint8_t log) {
  uint32_t seq = answers_push(s, p->packet_id, p->qos, LV_ANSWER_DUE);
  s->acks++;
  lv_pub_ack(s->shard->pub, log, (lv_ack){s, seq, p->packet_id, p->qos, LV_ACK_PUB, UINT32_MAX});
}

int lv_sess_publish(lv_sess *s, lv_mqtt_publish *p, lv_mono read_at) {
  lv_shard *shard = s->shard;
  uint8_t log = 0;
  if (lv_pub_full(shard->pub)) return LV_E_BUSY;
  if (must_wait(s, p)) {
    s->held = 1;
    return LV_E_BUSY;
  }
  lv_count(lv__kpi(s), LV_C_GW_OFFERED, 1);
  int err = p->has_alias ? lv__alias_in(s, p) : 0;
  if (err) return reject(s, p, err);
  lv_in2_id *seen = p->qos == 2 ? in2_find(s, p->packet_id) : NULL;
  if (seen) return publish_again(s, p, seen->state);
  /* 3.1.1 knows no Receive Maximum: see must_wait. */
  if (p->qos && s->version >= LV_MQTT_V5 && in_window(s) >= s->in_max)
    return reject(s, p, LV_E_RECEIVE_MAX);
  if (p->utf8 && !lv_utf8_valid(p->payload, false)) return reject(s, p, LV_E_PAYLOAD);
  uint8_t *scratch = NULL;
  if (p->forward_len != p->raw_props.n && !(scratch = malloc(p->forward_len + 1))) abort();
  lv_rec_in in = {.flags = (uint8_t)(p->qos | (p->retain ? LV_REC_RETAIN : 0)),
                  .pid = lv_sess_id(s),
                  .props = lv_mqtt_publish_forward(p, scratch),
                  .val = p->payload,
                  .kpi_proto = s->proto,
                  .has_expiry = p->has_expiry,
                  .expiry_s = p->expiry_s};
  if (p->qos == 2) {
    in.packet_id = p->packet_id;
    in.has_session = s->persistent;
    in.session = s->persistent ? s->more->sid : 0;
  }
  bool ok = lv__publish_rec(shard, s->auth, &in, p->topic, read_at, &log, &err);
  free(scratch);
  if (!ok) {
    if (err != 1) return reject(s, p, err);
    lv_count(lv__kpi(s), LV_C_GW_REJ_SYS, 1); /* acked and dropped (design: $SYS) */
    if (p->qos) answer(s, p->qos, p->packet_id, 0);
    if (p->qos == 2) lv__in2_add(s, p->packet_id, LV_IN_STORED, s->durability);
    return 0;
  }
  if (p->qos == 2) lv__in2_add(s, p->packet_id, LV_IN_STORING, log);
  if (p->qos) publish_ack_due(s, p, log);
  return 0;
}

/* PUBREL: the packet id is free once that is as safe as the session. */
int lv__in_release(lv_sess *s, uint16_t pid) {
  lv_in2_id *x = in2_find(s, pid);
  if (!x) {
    lv__put_ack(s, LV_MQTT_PUBCOMP, pid, s->version >= LV_MQTT_V5 ? 0x92 : 0);
    return 0;
  }
  if (x->state == LV_IN_STORING) return LV_E_PROTOCOL; /* PUBREL before PUBREC (§4.3.3) */
  if (x->state == LV_IN_RELEASING) return 0;
  if (!s->persistent) {
    in2_remove(s, pid);
    lv__put_ack(s, LV_MQTT_PUBCOMP, pid, 0);
    return 0;
  }
  x->state = LV_IN_RELEASING;
  lv__store_release(s, pid, x->log);
  return 0;
}

/* ---- the broker's word ---- */

static void acked_pub(lv_sess *s, const lv_ack *ack, int err) {
  lv_in2_id *x = ack->qos == 2 ? in2_find(s, ack->packet_id) : NULL;
  if (x && err) in2_remove(s, ack->packet_id);
  if (x && !err && x->state == LV_IN_STORING) x->state = LV_IN_STORED;
  uint32_t i = ack->gen - s->answer_seq;
  if (!s->conn || !s->answers || i >= s->answers->count) return; /* its connection has ended */
  if (err && s->version < LV_MQTT_V5) {
    s->shard->link->close(s->conn, err); /* and its place stays: see the top of the file */
    return;
  }
  lv_answers *a = s->answers;
  a->e[(a->head + i) & a->mask].reason = err ? answer_code(err) : 0;
  answers_flush(s);
}

static void acked_release(lv_sess *s, const lv_ack *ack, int err) {
  lv_in2_id *x = in2_find(s, ack->packet_id);
  if (!x || x->state != LV_IN_RELEASING) return;
  if (err || ack->gen) {
    x->state = LV_IN_STORED;
    if (s->conn) s->shard->link->close(s->conn, err ? err : LV_E_IO); /* it will ask again */
    return;
  }
  in2_remove(s, ack->packet_id);
  lv__put_ack(s, LV_MQTT_PUBCOMP, ack->packet_id, 0);
}

/* What a batch claimed of the retained store is there by now, or will not come. */
void lv__pub_done(void *arg, const lv_batch *batch) {
  lv_shard *s = arg;
  if (!(batch->flags & LV_BATCH_RETAIN)) return;
  for (const lv_rec *rec = lv_batch_first(batch); rec; rec = lv_batch_next(batch, rec)) {
    if (rec->kind != LV_REC_MSG || !(rec->flags & LV_REC_RETAIN) || !lv_rec_val(rec).n) continue;
    const lv_chan *chan = s->broker->ops->chan(s->broker, rec->chan);
    lv_retained_unclaim(s->realm->retained, chan->app_id, lv_rec_topic(rec));
  }
}

void lv__pub_acked(void *arg, const lv_ack *ack, int err, const lv_rec *rec) {
  lv_sess *s = ack->owner;
  (void)arg;
  (void)rec;
  if (!s) return;
  assert(s->magic == LV_SESS_MAGIC && s->acks > 0);
  switch (ack->flags) {
  case LV_ACK_PUB: acked_pub(s, ack, err); break;
  case LV_ACK_REL: acked_release(s, ack, err); break;
  case LV_ACK_CONNECT: lv__connect_stored(s, ack, err); break;
  case LV_ACK_SUB: lv__sub_stored(s, !err && ack->gen ? LV_E_IO : err); break;
  case LV_ACK_SAVE: lv__out_stored(s, ack->gen, err); break;
  default: assert(false && "ack kind");
  }
  s->acks--;
  lv__sess_settle(s);
}
