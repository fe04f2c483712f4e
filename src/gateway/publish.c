/* publish.c: see publish.h. An item becomes one record: topic from channel and key, tag and
 * category as MQTT user properties (so that MQTT subscribers see them too), the content type as
 * that property; QoS 1, never retained.
 *
 * Acknowledgements carry the request and the item's place. A request lives until the last one has
 * come, whatever becomes of its client. */
#include "gateway/publish.h"
#include "gateway/ws_publish.h"
#include "wire/json.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum { PUBLISH_MAGIC = 0x4C505542 };

lv_publish *lv__publish_new(lv_gw_loop *gl, lv_auth *auth, uint8_t proto, uint32_t n) {
  lv_publish *p = calloc(1, sizeof *p + n * sizeof p->res[0]);
  if (!p) abort();
  p->magic = PUBLISH_MAGIC;
  p->gl = gl;
  p->auth = auth;
  p->proto = proto;
  p->n = n;
  return p;
}

void lv__publish_free(lv_publish *p) {
  assert(p->magic == PUBLISH_MAGIC && p->due == 0 && !p->idem);
  p->magic = 0;
  lv_auth_unref(p->auth);
  free(p);
}

static lv_metrics *row_of(const lv_publish *p) {
  return lv_metrics_row(p->gl->loop->metrics, p->auth->app_id, p->proto);
}

static void refuse(lv_publish *p, uint32_t i, int err, const char *why, enum lv_counter c) {
  p->res[i].err = err;
  p->res[i].why = why;
  lv_count(row_of(p), c, 1);
}

void lv__publish_bad(lv_publish *p, uint32_t i, int err, const char *why) {
  lv_count(row_of(p), LV_C_GW_OFFERED, 1);
  refuse(p, i, err, why, lv_reject_counter(err));
}

/* ---- topic, properties, value ---- */

static int topic_of(const lv_publish *p, const lv_publish_item *item, uint8_t *dst, lv_slice *ret,
                    const char **why) {
  bool other = lv_slice_eq(p->channel, LV_SLICE("_"));
  uint8_t *at = dst;
  lv_slice channel;
  uint16_t key_off;
  *why = "channels are [A-Za-z0-9._-]{1,64} and do not begin with _";
  if (!other && !lv_channel_name_ok(p->channel)) return LV_E_TOPIC;
  *why = "the key is too long, not UTF-8 without U+0000, or has + or #";
  if (item->key.n > LV_MQTT_TOPIC_MAX - 65u) return LV_E_TOPIC;
  if (!other) {
    memcpy(at, p->channel.p, p->channel.n);
    at += p->channel.n;
    if (item->has_key) *at++ = '/';
  }
  if (item->key.n) memcpy(at, item->key.p, item->key.n);
  *ret = lv_slice_of(dst, (size_t)(at - dst) + item->key.n);
  if (!lv_utf8_valid(item->key, true) || (!other || ret->n ? lv_mqtt_topic_check(*ret) : 0))
    return LV_E_TOPIC;
  /* Channel `_` is where topics are whose first level names no channel (design: topics). */
  *why = "channel _ has no name of its own: its messages have a key whose first level is none";
  if (other && ret->n == 0) return LV_E_TOPIC;
  lv_topic_split(*ret, &channel, &key_off);
  if (other && !lv_slice_eq(channel, LV_SLICE("_"))) return LV_E_TOPIC;
  *why = NULL;
  return 0;
}

static uint8_t *put_text(uint8_t *p, lv_slice s) {
  *p++ = (uint8_t)(s.n >> 8);
  *p++ = (uint8_t)s.n;
  memcpy(p, s.p, s.n);
  return p + s.n;
}

static bool label_ok(lv_slice s) {
  return s.n <= LV_PUBLISH_LABEL_MAX && lv_utf8_valid(s, true);
}

static const char bad_time[] = "tms is a time in milliseconds since 1970";

/* MQTT 5.0 §3.3.2.3.7, §3.3.2.3.9. */
static int props_of(const lv_publish_item *item, uint8_t *dst, lv_slice *ret, const char **why) {
  const lv_slice names[] = {LV_SLICE("tag"), LV_SLICE("cat"), LV_SLICE("tms")};
  const lv_slice values[] = {item->tag, item->cat, item->tms};
  uint8_t *at = dst;
  *why = bad_time;
  if (item->tms.n > 16) return LV_E_INVALID;
  *why = "tag, category and content type are UTF-8 without U+0000, at most 1024 bytes";
  if (!label_ok(item->tag) || !label_ok(item->cat) || !label_ok(item->content_type))
    return LV_E_INVALID;
  if (item->content_type.n) {
    *at++ = 0x03;
    at = put_text(at, item->content_type);
  }
  for (int i = 0; i < 3; i++) {
    if (!values[i].n) continue;
    *at++ = 0x26;
    at = put_text(at, names[i]);
    at = put_text(at, values[i]);
  }
  *ret = lv_slice_of(dst, (size_t)(at - dst));
  *why = NULL;
  return 0;
}

/* What the channel keeps of a value that came as a member of a JSON object: text of a text channel
 * is the string's characters; binary has to come as b64. */
static int value_of(const lv_publish_item *item, uint8_t content, uint8_t *dst, lv_slice *ret,
                    const char **why) {
  *ret = item->val;
  if (!item->json || content == LV_CONTENT_AUTO || content == LV_CONTENT_JSON) return 0;
  if (content == LV_CONTENT_BINARY) {
    *why = "the channel is binary: give b64";
    return LV_E_PAYLOAD;
  }
  *why = "the channel is text: give a string";
  if (!item->json_string) return LV_E_PAYLOAD;
  lv_json j;
  lv_json_tok t;
  lv_json_init(&j, item->val);
  int rc = lv_json_next(&j, &t);
  assert(rc == 1 && t.type == LV_JSON_STRING);
  rc = lv_json_unescape(&t, dst, ret);
  if (!rc) *why = NULL;
  return rc;
}

/* ---- rate ---- */

/* How many publishes a connection has sent in this second; connections share slots by chance, and
 * whoever comes into a taken one begins anew: a limit, not an account. */
static bool over_rate(lv_publish *p, const lv_conn *c) {
  uint32_t max = p->auth->app->limits.messages_per_s;
  if (!max || !c) return false;
  uint32_t second = (uint32_t)(p->gl->loop->now.ns / 1000000000);
  lv_gw_rate *r = &p->gl->rates[((uintptr_t)c / sizeof(lv_conn)) % LV_GW_RATES];
  if (r->conn != c || r->gen != c->gen || r->second != second)
    *r = (lv_gw_rate){.conn = c, .gen = c->gen, .second = second};
  return r->count++ >= max;
}

/* ---- an item ---- */

/* 1: it was published before, and its result is there. */
static int seen_before(lv_publish *p, uint32_t i, const lv_rec_in *in) {
  if (!p->idem) return 0;
  lv_publish_res *res = &p->res[i];
  const lv_idem_item *it = &p->idem->items[i];
  res->print = lv_idem_print(in->topic, in->props, in->val);
  if (!it->stored) return 0;
  if (it->print != res->print) return LV_E_PAYLOAD;
  res->offset = it->offset;
  res->log = it->log;
  return 1;
}

static int add(lv_publish *p, uint32_t i, lv_rec_in *in, const lv_chan *chan) {
  if (p->idem) {
    in->has_session = true;
    in->session = p->idem->sid;
    in->packet_id = (uint16_t)(i + 1);
  }
  int err = lv_pub_add(p->gl->pub, chan->durability, in, p->gl->loop->now, NULL);
  if (err) return err;
  p->res[i].log = chan->durability;
  p->due++;
  lv_pub_ack(p->gl->pub, chan->durability, (lv_ack){.owner = p, .gen = i});
  return 0;
}

void lv__publish_item(lv_publish *p, uint32_t i, const lv_publish_item *item, uint8_t *scratch) {
  lv_chan *chan;
  const char *why = NULL;
  lv_rec_in in = {.kind = LV_REC_MSG,
                  .flags = 1, /* QoS 1 */
                  .pid = p->pid,
                  .ingest_ns = p->gl->loop->wall.ns,
                  .kpi_proto = p->proto};
  assert(p->magic == PUBLISH_MAGIC && i < p->n && !p->ended);
  lv_count(row_of(p), LV_C_GW_OFFERED, 1);
  int err = over_rate(p, p->conn) ? LV_E_RATE : topic_of(p, item, scratch, &in.topic, &why);
  if (!err) err = props_of(item, scratch += in.topic.n, &in.props, &why);
  if (!err) in.has_tms = lv_mqtt_tms(in.props, &in.tms);
  if (!err && item->tms.n && !in.has_tms) {
    err = LV_E_INVALID;
    why = bad_time;
  }
  if (!err) err = lv_shard_route(p->gl->shard, p->auth, in.topic, &chan, &in.key_off);
  if (err == 1) {
    refuse(p, i, LV_E_FORBIDDEN, "$SYS is the server's own", LV_C_GW_REJ_SYS);
    return;
  }
  if (!err) err = value_of(item, chan->content, scratch + in.props.n, &in.val, &why);
  if (!err && !lv_content_ok(chan, in.val)) {
    err = LV_E_PAYLOAD;
    why = "the value is not what the channel declares";
  }
  int seen = err ? 0 : seen_before(p, i, &in);
  if (seen == 1) {
    lv_count(row_of(p), LV_C_GW_REJ_DUP, 1);
    return;
  }
  if (seen < 0) {
    err = seen;
    why = "another message was published with this Idempotency-Key";
  }
  if (!err) {
    if (lv_chan_lasts(chan)) in.flags |= LV_REC_LAST;
    in.chan = chan->id;
    in.kpi_slot = lv_chan_kpi(chan);
    err = add(p, i, &in, chan);
  }
  if (err) refuse(p, i, err, why, lv_reject_counter(err));
}

void lv__publish_object(lv_publish *p, uint32_t i, const lv_hub_publish *m,
                        const lv_publish_item *base, uint8_t *scratch) {
  lv_publish_item item = {.key = m->has_key ? m->key : base->key,
                          .tag = m->has_tag ? m->tag : base->tag,
                          .cat = m->has_cat ? m->cat : base->cat,
                          .tms = base->tms,
                          .val = m->binary ? m->bin : m->val.s,
                          .has_key = m->has_key || base->has_key,
                          .json = !m->binary,
                          .json_string = !m->binary && m->val.type == LV_JSON_STRING};
  lv__publish_item(p, i, &item, scratch);
}

static void finish(lv_publish *p) {
  lv_gw_loop *gl = p->gl;
  if (p->idem) {
    lv_idem *t = gl->gateway->idem;
    uint32_t app_id = p->auth->app_id;
    lv_idem_end(t, p->idem, gl->loop->wall.ns);
    p->idem = NULL;
    if (lv_idem_count(t, app_id) > p->auth->app->limits.idempotent)
      lv_idem_trim(t, gl->pub, app_id, p->auth->app->limits.idempotent, gl->loop->wall.ns);
  }
  p->done(p);
}

void lv__publish_end(lv_publish *p) {
  p->ended = true;
  p->channel = p->pid = (lv_slice){0};
  if (!p->due) finish(p);
}

static void acked(void *arg, const lv_ack *ack, int err, const lv_rec *rec) {
  lv_publish *p = ack->owner;
  (void)arg;
  assert(p->magic == PUBLISH_MAGIC && ack->gen < p->n && p->due > 0);
  lv_publish_res *res = &p->res[ack->gen];
  res->err = err;
  if (!err) {
    res->offset = rec->offset;
    if (p->idem) p->idem->items[ack->gen] = (lv_idem_item){res->print, res->offset, res->log, true};
  }
  if (--p->due == 0) finish(p);
}

uint32_t lv__publish_pos(lv_gw_loop *gl, const lv_publish_res *res, char dst[LV_PUBLISH_POS_MAX]) {
  lv_broker *b = lv_shard_broker(gl->shard);
  uint32_t epochs = atomic_load(&b->epochs);
  if (gl->epochs != epochs) {
    lv_broker_desc d;
    if (b->ops->describe(b, &d) == 0) memcpy(gl->epoch, d.epoch, sizeof gl->epoch);
    gl->epochs = epochs;
  }
  int n = snprintf(dst, LV_PUBLISH_POS_MAX, "%s-%llu", gl->epoch[res->log],
                   (unsigned long long)res->offset);
  assert(n > 0 && n < LV_PUBLISH_POS_MAX);
  return (uint32_t)n;
}

/* ---- the loop's part ---- */

enum { TRIM_EVERY_S = 1 };

/* What is older than a day is forgotten by the first loop. */
static void tick(lv_timer *t) {
  lv_gw_loop *gl = (lv_gw_loop *)((char *)t - offsetof(lv_gw_loop, tick));
  lv_idem *idem = gl->gateway->idem;
  lv_timer_arm(&gl->loop->wheel, t, gl->loop->now, LV_SEC(TRIM_EVERY_S), tick);
  for (uint32_t i = 0, n = lv_idem_apps(idem); i < n; i++)
    lv_idem_trim(idem, gl->pub, i, UINT32_MAX, gl->loop->wall.ns);
}

int lv__publish_loop_init(lv_gw_loop *gl) {
  gl->rates = calloc(LV_GW_RATES, sizeof *gl->rates);
  if (!gl->rates) return LV_E_NOMEM;
  int err = lv_pub_new(gl->loop, lv_shard_broker(gl->shard),
                       lv_shard_conf(gl->shard)->publish_queue_bytes, acked, gl, &gl->pub);
  if (!err) lv_pub_on_drained(gl->pub, lv__ws_publish_drained, gl);
  if (!err && gl->loop->index == 0)
    lv_timer_arm(&gl->loop->wheel, &gl->tick, gl->loop->now, LV_SEC(TRIM_EVERY_S), tick);
  return err;
}

void lv__publish_loop_quiesce(lv_gw_loop *gl) {
  lv_timer_cancel(&gl->loop->wheel, &gl->tick);
  if (gl->pub) lv_pub_submit(gl->pub);
}

void lv__publish_loop_done(lv_gw_loop *gl) {
  lv_timer_cancel(&gl->loop->wheel, &gl->tick);
  lv_pub_free(gl->pub);
  free(gl->rates);
}
