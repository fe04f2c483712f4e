/* hub_query.c: the parameters of a subscription's URL (and of its SSE and REST forms). The first
 * pass finds each parameter, once; then they are decoded one after the other into the scratch,
 * `channels` first, since `since` refers to them. @thread any */
#include "wire/http.h"
#include "wire/hubmsg.h"
#include "wire/mqtt.h"
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

enum param {
  CHANNELS,
  USER_ID,
  API_KEY,
  FORMAT,
  ENCODING,
  SNAPSHOT,
  SINCE,
  POS,
  KEYS,
  CATS,
  CONFLATE,
  PARAMS
};
static const char *const names[PARAMS] = {"channels", "user_id",  "apiKey",  "format",
                                          "encoding", "snapshot", "since",   "pos",
                                          "keys",     "cats",     "conflate"};

typedef struct parse {
  lv_hub_query *q;
  uint8_t *scratch;
  char *why;
  bool has[PARAMS];
  lv_slice raw[PARAMS];
} parse;

__attribute__((format(printf, 2, 3))) static int refuse(parse *p, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  (void)vsnprintf(p->why, LV_HUB_WHY_MAX, fmt, ap);
  va_end(ap);
  return LV_E_INVALID;
}

/* A channel's name for a reply: cut, and with `?` for what is not visible ASCII. */
static const char *shown(lv_slice s, char buf[65]) {
  uint32_t n = s.n < 64 ? s.n : 64;
  for (uint32_t i = 0; i < n; i++)
    buf[i] = s.p[i] > ' ' && s.p[i] < 0x7F && s.p[i] != '"' ? (char)s.p[i] : '?';
  buf[n] = 0;
  return buf;
}

static int decode(parse *p, lv_slice raw, bool plus, lv_slice *ret) {
  int err = lv_http_decode(raw, plus, p->scratch, ret);
  if (!err) p->scratch += ret->n;
  return err;
}

/* A parameter of its own; ret is empty when it was not given. */
static int text(parse *p, enum param k, bool plus, lv_slice *ret) {
  *ret = (lv_slice){0};
  if (!p->has[k]) return 0;
  return decode(p, p->raw[k], plus, ret) ? refuse(p, "%s: a bad escape, or not UTF-8", names[k])
                                         : 0;
}

static int boolean(parse *p, enum param k, bool dflt, bool *ret) {
  lv_slice s;
  int err = text(p, k, false, &s);
  *ret = dflt;
  if (err || !p->has[k]) return err;
  *ret = lv_slice_eq(s, LV_SLICE("true"));
  if (!*ret && !lv_slice_eq(s, LV_SLICE("false")))
    return refuse(p, "%s: it is true or false", names[k]);
  return 0;
}

static int choice(parse *p, enum param k, lv_slice first, lv_slice second, uint8_t *ret) {
  lv_slice s;
  int err = text(p, k, false, &s);
  *ret = 0;
  if (err || !p->has[k]) return err;
  *ret = lv_slice_eq(s, second);
  if (!*ret && !lv_slice_eq(s, first))
    return refuse(p, "%s: it is %s or %s", names[k], (const char *)first.p, (const char *)second.p);
  return 0;
}

static uint32_t channel_find(const lv_hub_query *q, lv_slice name) {
  uint32_t i = 0;
  while (i < q->n_channels && !lv_slice_eq(q->channels[i], name)) i++;
  return i;
}

static int add_channel(parse *p, lv_slice raw) {
  lv_hub_query *q = p->q;
  lv_slice name;
  char buf[65];
  if (decode(p, raw, false, &name)) return refuse(p, "channels: a bad escape, or not UTF-8");
  if (!lv_channel_name_ok(name) && !lv_slice_eq(name, LV_SLICE("_")))
    return refuse(p, "channels: \"%s\" is not the name of a channel", shown(name, buf));
  if (channel_find(q, name) < q->n_channels) return 0;
  if (q->n_channels == LV_HUB_CHANNELS_MAX)
    return refuse(p, "channels: more than %d", LV_HUB_CHANNELS_MAX);
  q->since[q->n_channels] = (lv_hub_since){0};
  q->channels[q->n_channels++] = name;
  return 0;
}

static int channels(parse *p, lv_slice in_path) {
  if (in_path.n) return add_channel(p, in_path);
  lv_slice list = p->raw[CHANNELS], item;
  if (!list.n) return refuse(p, "channels: none given");
  for (bool more = true; more;) {
    more = lv_slice_split(&list, ',', &item);
    int err = add_channel(p, item);
    if (err) return err;
  }
  return 0;
}

/* ---- since ---- */

int lv_hub_since_parse(lv_slice s, lv_hub_since *ret) {
  lv_hub_since v = {0};
  if (lv_slice_eq(s, LV_SLICE("start")))
    v.kind = LV_HUB_SINCE_START;
  else if (lv_time_parse((const char *)s.p, s.n, &v.time) == 0)
    v.kind = LV_HUB_SINCE_TIME;
  else if (lv_hub_pos_parse(s, &v.pos) == 0)
    v.kind = LV_HUB_SINCE_POS;
  else
    return LV_E_INVALID;
  *ret = v;
  return 0;
}

static int since_item(parse *p, lv_slice item) {
  lv_slice name;
  char buf[65];
  if (!lv_slice_split(&item, ':', &name))
    return refuse(p, "since: not a position, a time, `start`, or a list of CHANNEL:POSITION");
  uint32_t i = channel_find(p->q, name);
  if (i == p->q->n_channels)
    return refuse(p, "since: \"%s\" is not among the channels", shown(name, buf));
  if (p->q->since[i].kind) return refuse(p, "since: \"%s\" is there twice", shown(name, buf));
  if (lv_hub_since_parse(item, &p->q->since[i]))
    return refuse(p, "since: not a position, a time or `start` for \"%s\"", shown(name, buf));
  return 0;
}

static int since(parse *p) {
  lv_hub_query *q = p->q;
  lv_hub_since all;
  lv_slice s, item;
  int err = text(p, SINCE, false, &s);
  if (err || !p->has[SINCE]) return err;
  q->has_since = true;
  q->pos = true;
  if (lv_hub_since_parse(s, &all) == 0) {
    if (all.kind == LV_HUB_SINCE_POS && q->n_channels > 1)
      return refuse(p, "since: one position for several channels: give CHANNEL:POSITION,...");
    for (uint32_t i = 0; i < q->n_channels; i++) q->since[i] = all;
    return 0;
  }
  for (bool more = true; more;) {
    more = lv_slice_split(&s, ',', &item);
    if ((err = since_item(p, item))) return err;
  }
  return 0;
}

/* ---- filters ---- */

static int keys(parse *p) {
  int err = text(p, KEYS, false, &p->q->keys);
  if (err || !p->has[KEYS]) return err;
  if (lv_mqtt_filter_check(p->q->keys)) return refuse(p, "keys: not a pattern (levels, + and #)");
  return 0;
}

static int cats(parse *p) {
  lv_hub_query *q = p->q;
  lv_slice list = p->raw[CATS], item;
  for (bool more = p->has[CATS]; more;) {
    more = lv_slice_split(&list, ',', &item);
    if (item.n == 0) return refuse(p, "cats: an empty category");
    if (q->n_cats == LV_HUB_CATS_MAX) return refuse(p, "cats: more than %d", LV_HUB_CATS_MAX);
    if (decode(p, item, true, &q->cats[q->n_cats++]))
      return refuse(p, "cats: a bad escape, or not UTF-8");
  }
  return 0;
}

static int conflate(parse *p) {
  lv_slice s;
  uint64_t ms;
  int err = text(p, CONFLATE, false, &s);
  if (err || !p->has[CONFLATE]) return err;
  if (lv_slice_u64(s, &ms) || ms > LV_HUB_CONFLATE_MAX_MS)
    return refuse(p, "conflate: milliseconds, 0 to %d", LV_HUB_CONFLATE_MAX_MS);
  p->q->conflate_ms = (uint32_t)ms;
  return 0;
}

static int identity(parse *p) {
  int err = text(p, USER_ID, true, &p->q->user_id);
  if (!err && p->q->user_id.n > LV_HUB_USER_ID_MAX)
    err = refuse(p, "user_id: more than %d bytes", LV_HUB_USER_ID_MAX);
  return err ? err : text(p, API_KEY, false, &p->q->api_key);
}

static int form(parse *p, uint8_t gen) {
  lv_hub_query *q = p->q;
  int err = choice(p, FORMAT, LV_SLICE("text"), LV_SLICE("binary"), &q->format);
  if (!err) err = choice(p, ENCODING, LV_SLICE("json"), LV_SLICE("msgpack"), &q->encoding);
  if (err) return err;
  if (gen == LV_HUB_V09 && q->encoding == LV_HUB_MSGPACK)
    return refuse(p, "encoding: /v1/ws speaks json only");
  if (q->encoding == LV_HUB_MSGPACK) q->format = LV_HUB_BINARY;
  return 0;
}

static int find(parse *p, lv_slice query) {
  lv_slice name, value;
  while (lv_http_query_next(&query, &name, &value)) {
    uint32_t k = 0;
    while (k < PARAMS && !lv_slice_eq(name, lv_slice_str(names[k]))) k++;
    if (k == PARAMS) continue;
    if (p->has[k]) return refuse(p, "%s: given twice", names[k]);
    p->has[k] = true;
    p->raw[k] = value;
  }
  return 0;
}

int lv_hub_query_parse(lv_slice query, lv_slice channel, uint8_t gen, uint8_t *scratch,
                       lv_hub_query *ret, char why[LV_HUB_WHY_MAX]) {
  parse p = {.q = ret, .scratch = scratch, .why = why};
  int err;
  assert(gen <= LV_HUB_V09);
  ret->n_channels = ret->n_cats = ret->conflate_ms = 0;
  ret->has_since = false;
  if ((err = find(&p, query)) || (err = channels(&p, channel)) || (err = identity(&p)) ||
      (err = form(&p, gen)) || (err = boolean(&p, SNAPSHOT, true, &ret->snapshot)) ||
      (err = boolean(&p, POS, false, &ret->pos)) || (err = since(&p)) || (err = keys(&p)) ||
      (err = cats(&p)) || (err = conflate(&p)))
    return err;
  return 0;
}
