/* hub_encode.c: the hub's messages as bytes. @thread any
 *
 * One body serves four forms. The names of the outer members are a table for each form, ready with
 * comma and colon or with their msgpack head, in sixteen bytes: copying a fixed size is two
 * instructions, and the caller's room allows for what is written behind the end. */
#include "wire/hubmsg.h"
#include "wire/json_int.h"
#include "wire/mqtt.h"
#include "wire/msgpack.h"
#include <assert.h>

enum field { TYPE, CHANNEL, KEY, TAG, CAT, PID, HID, TIME, POS, VALUE, FIELDS };
enum { NAME_SIZE = 16, FIXED_ROOM = 640 };

typedef struct name {
  uint8_t n;
  char b[NAME_SIZE];
} name;
#define N(lit)                                                                                     \
  { sizeof(lit) - 1, lit }
static const name names[2][2][FIELDS] = {
    [LV_HUB_V1] = {[LV_HUB_JSON] = {N("{\"typ\":"), N(",\"chn\":"), N(",\"key\":"), N(",\"tag\":"),
                                    N(",\"cat\":"), N(",\"pid\":"), N(",\"hid\":"), N(",\"tms\":"),
                                    N(",\"pos\":"), N(",\"val\":")},
                   [LV_HUB_MSGPACK] = {N("\xA3typ"),
                                       N("\xA3"
                                         "chn"),
                                       N("\xA3key"), N("\xA3tag"),
                                       N("\xA3"
                                         "cat"),
                                       N("\xA3pid"), N("\xA3hid"), N("\xA3tms"), N("\xA3pos"),
                                       N("\xA3val")}},
    [LV_HUB_V09] = {[LV_HUB_JSON] = {N("{\"type\":"), N(",\"channel\":"), N(",\"key\":"),
                                     N(",\"tag\":"), N(",\"cat\":"), N(",\"pid\":"), N(",\"hid\":"),
                                     N(",\"timestamp\":"), N(",\"pos\":"), N(",\"value\":")},
                    [LV_HUB_MSGPACK] = {N("\xA4type"),
                                        N("\xA7"
                                          "channel"),
                                        N("\xA3key"), N("\xA3tag"),
                                        N("\xA3"
                                          "cat"),
                                        N("\xA3pid"), N("\xA3hid"), N("\xA9timestamp"),
                                        N("\xA3pos"), N("\xA5value")}},
};

typedef struct enc {
  uint8_t *p;
  const name *names;
  bool json;
} enc;

static inline void put_name(enc *e, enum field f) {
  memcpy(e->p, e->names[f].b, NAME_SIZE);
  e->p += e->names[f].n;
}

/* A msgpack string that was not UTF-8. */
static void put_mended(enc *e, lv_slice s) {
  uint8_t *body = e->p + LV_MSGPACK_HEAD_MAX, *to = body;
  for (uint32_t i = 0; i < s.n;) {
    uint32_t len = s.p[i] < 0x80, n = 2;
    for (; !len && n <= 4 && n <= s.n - i; n++)
      if (lv_utf8_valid((lv_slice){s.p + i, n}, false)) len = n;
    if (len) memcpy(to, s.p + i, len);
    to = len ? to + len : lv__utf8_put(to, 0xFFFD);
    i += len ? len : 1;
  }
  uint32_t n = (uint32_t)(to - body);
  e->p = lv_msgpack_put_str_head(e->p, n);
  memmove(e->p, body, n);
  e->p += n;
}

static inline void put_str(enc *e, lv_slice s) {
  if (e->json)
    e->p = lv_json_put_string(e->p, s);
  else if (lv_utf8_valid(s, false))
    e->p = lv_msgpack_put_str(e->p, s);
  else
    put_mended(e, s);
}
static inline void put_u64(enc *e, uint64_t v) {
  e->p = e->json ? lv_json_put_u64(e->p, v) : lv_msgpack_put_u64(e->p, v);
}
static inline void put_i64(enc *e, int64_t v) {
  e->p = e->json ? lv_json_put_i64(e->p, v) : lv_msgpack_put_i64(e->p, v);
}
static inline void put_field(enc *e, enum field f, lv_slice s) {
  put_name(e, f);
  put_str(e, s);
}
static void put_pos(enc *e, const lv_hub_pos *pos) {
  uint8_t text[LV_HUB_POS_MAX];
  put_field(e, POS, lv_slice_of(text, (size_t)(lv_hub_pos_put(text, pos) - text)));
}

static enc begin(uint8_t gen, uint8_t encoding, uint8_t *dst, uint32_t members, uint8_t type) {
  assert(gen <= LV_HUB_V09 && encoding <= LV_HUB_MSGPACK);
  enc e = {dst, names[gen][encoding], encoding == LV_HUB_JSON};
  if (!e.json) e.p = lv_msgpack_put_map_head(e.p, members);
  put_name(&e, TYPE);
  put_u64(&e, gen == LV_HUB_V09 && type != LV_HUB_GAP ? type - 1u : type);
  return e;
}

/* ---- data ---- */

uint8_t lv_hub_kind(uint8_t content, lv_slice val) {
  if (content == LV_CONTENT_BINARY) return LV_HUB_KIND_BINARY;
  if (content != LV_CONTENT_TEXT && val.n && lv_json_check_value(val) == 0) return LV_HUB_KIND_JSON;
  return lv_utf8_valid(val, false) ? LV_HUB_KIND_TEXT : LV_HUB_KIND_BINARY;
}

lv_slice lv_hub_content_name(uint8_t content) {
  if (content == LV_CONTENT_TEXT) return LV_SLICE("text");
  return content == LV_CONTENT_BINARY ? LV_SLICE("binary") : LV_SLICE("json");
}

lv_slice lv_hub_channel_of(const lv_rec *rec) {
  if (rec->key_off == LV_REC_NO_KEY) return lv_rec_topic(rec);
  if (rec->key_off == 0) return LV_SLICE("_");
  return (lv_slice){rec->body, rec->key_off - 1u};
}

lv_slice lv_hub_key_of(const lv_rec *rec) {
  return lv_rec_key(rec);
}

void lv_hub_labels_of(const lv_rec *rec, lv_slice *ret_tag, lv_slice *ret_cat) {
  lv_slice props = lv_rec_props(rec);
  lv_mqtt_property p;
  bool tag = false, cat = false;
  *ret_tag = LV_SLICE("");
  *ret_cat = LV_SLICE("default");
  while (props.n && !(tag && cat) && lv_mqtt_property_next(&props, &p) == 1) {
    if (p.id != LV_MQTT_P_USER || p.s.n != 3) continue;
    if (!tag && memcmp(p.s.p, "tag", 3) == 0) {
      tag = true;
      *ret_tag = p.s2;
    } else if (!cat && memcmp(p.s.p, "cat", 3) == 0) {
      cat = true;
      if (p.s2.n) *ret_cat = p.s2;
    }
  }
}

static uint32_t value_bound(const lv_hub_data *d, uint8_t encoding) {
  lv_slice val = lv_rec_val(d->rec);
  bool json = encoding == LV_HUB_JSON;
  if (d->kind == LV_HUB_KIND_JSON) return json ? val.n : (uint32_t)LV_MSGPACK_BOUND(val.n);
  if (!json) return val.n + LV_MSGPACK_HEAD_MAX;
  if (d->kind == LV_HUB_KIND_BINARY) return LV_BASE64_SIZE(val.n) + 2;
  return val.n <= 4096 ? LV_JSON_STRING_BOUND(val.n) : lv_json_string_size(val);
}

uint32_t lv_hub_data_bound(const lv_hub_data *d, uint8_t gen, uint8_t encoding) {
  const lv_rec *r = d->rec;
  assert(gen <= LV_HUB_V09 && d->kind <= LV_HUB_KIND_BINARY);
  return FIXED_ROOM + 6u * ((uint32_t)r->topic_len + r->pid_len + r->props_len + d->hid.n) +
         value_bound(d, encoding);
}

/* The value, or an error of lv_msgpack_from_json. */
static int put_value(enc *e, const lv_hub_data *d, const uint8_t *end) {
  lv_slice val = lv_rec_val(d->rec);
  if (d->kind == LV_HUB_KIND_JSON && e->json) {
    if (val.n) memcpy(e->p, val.p, val.n);
    e->p += val.n;
  } else if (d->kind == LV_HUB_KIND_JSON) {
    int n = lv_msgpack_from_json(val, e->p, (uint64_t)(end - e->p));
    if (n < 0) return n;
    e->p += n;
  } else if (d->kind == LV_HUB_KIND_TEXT) {
    put_str(e, val);
  } else if (e->json) {
    *e->p++ = '"';
    e->p = lv_base64_put(e->p, val);
    *e->p++ = '"';
  } else {
    e->p = lv_msgpack_put_bin_head(e->p, val.n);
    if (val.n) memcpy(e->p, val.p, val.n);
    e->p += val.n;
  }
  return 0;
}

int lv_hub_data_encode(const lv_hub_data *d, uint8_t gen, uint8_t encoding, uint8_t *dst,
                       uint32_t cap) {
  const lv_rec *r = d->rec;
  lv_slice tag, cat, pid = lv_rec_pid(r);
  int64_t tms;
  assert(cap >= lv_hub_data_bound(d, gen, encoding));
  lv_hub_labels_of(r, &tag, &cat);
  bool has_cat = gen == LV_HUB_V1 && !lv_slice_eq(cat, LV_SLICE("default"));
  uint32_t members = 6u + has_cat + (pid.n > 0) + (d->hid.n > 0) + d->has_pos;
  if (!lv_rec_tms(r, &tms)) tms = r->ingest_ns / 1000000;
  enc e = begin(gen, encoding, dst, members, LV_HUB_DATA);
  put_field(&e, CHANNEL, lv_hub_channel_of(r));
  put_field(&e, KEY, lv_hub_key_of(r));
  put_field(&e, TAG, tag);
  if (has_cat) put_field(&e, CAT, cat);
  if (pid.n) put_field(&e, PID, pid);
  if (d->hid.n) put_field(&e, HID, d->hid);
  put_name(&e, TIME);
  put_i64(&e, tms);
  if (d->has_pos) put_pos(&e, &d->pos);
  put_name(&e, VALUE);
  int err = put_value(&e, d, dst + cap);
  if (err) return err;
  if (e.json) *e.p++ = '}';
  assert(e.p <= dst + cap);
  return (int)(e.p - dst);
}

/* ---- events ---- */

/* A member of the inner object; `first` in JSON opens it. */
static void put_inner(enc *e, bool first, lv_slice key) {
  if (e->json) *e->p++ = first ? '{' : ',';
  put_str(e, key);
  if (e->json) *e->p++ = ':';
}
static void put_inner_str(enc *e, bool first, lv_slice key, lv_slice s) {
  put_inner(e, first, key);
  put_str(e, s);
}

static void put_inner_head(enc *e, uint32_t members) {
  if (!e->json) e->p = lv_msgpack_put_map_head(e->p, members);
}

static void put_welcome(enc *e, const lv_hub_event *v) {
  put_inner_head(e, 6 + (v->user_id.n > 0));
  put_inner_str(e, true, LV_SLICE("client_id"), v->client_id);
  if (v->user_id.n) put_inner_str(e, false, LV_SLICE("user_id"), v->user_id);
  put_inner_str(e, false, LV_SLICE("channel_name"), v->channel);
  put_inner(e, false, LV_SLICE("channel_size"));
  put_u64(e, v->size);
  put_inner_str(e, false, LV_SLICE("format"),
                v->format == LV_HUB_BINARY ? LV_SLICE("binary") : LV_SLICE("text"));
  put_inner_str(e, false, LV_SLICE("transport"), v->transport);
  put_inner_str(e, false, LV_SLICE("channel_encoding"), lv_hub_content_name(v->content));
}

static void put_event_value(enc *e, const lv_hub_event *v) {
  switch (v->type) {
  case LV_HUB_CLIENT_CONNECTED:
  case LV_HUB_CLIENT_SUBSCRIBED: put_welcome(e, v); break;
  case LV_HUB_CLIENT_UNSUBSCRIBED:
    put_inner_head(e, 1 + (v->error.n > 0));
    put_inner_str(e, true, LV_SLICE("channel_name"), v->channel);
    if (v->error.n) put_inner_str(e, false, LV_SLICE("error"), v->error);
    break;
  case LV_HUB_GAP:
    put_inner_head(e, 3);
    put_inner_str(e, true, LV_SLICE("from"), v->from);
    put_inner_str(e, false, LV_SLICE("to"), v->to);
    put_inner_str(e, false, LV_SLICE("reason"), v->reason);
    break;
  default: assert(false && "not an event of the hub");
  }
  if (e->json) *e->p++ = '}';
}

uint32_t lv_hub_event_bound(const lv_hub_event *e) {
  return FIXED_ROOM + 6u * (2 * e->channel.n + e->hid.n + e->client_id.n + e->user_id.n +
                            e->transport.n + e->error.n + e->from.n + e->to.n + e->reason.n);
}

uint32_t lv_hub_event_encode(const lv_hub_event *v, uint8_t gen, uint8_t encoding, uint8_t *dst,
                             uint32_t cap) {
  assert(cap >= lv_hub_event_bound(v));
  uint32_t members = 6u + (v->hid.n > 0) + v->has_pos;
  enc e = begin(gen, encoding, dst, members, v->type);
  put_field(&e, CHANNEL, v->channel);
  put_field(&e, KEY, LV_SLICE(""));
  put_field(&e, TAG, LV_SLICE(""));
  if (v->hid.n) put_field(&e, HID, v->hid);
  put_name(&e, TIME);
  put_i64(&e, v->tms);
  if (v->has_pos) put_pos(&e, &v->pos);
  put_name(&e, VALUE);
  put_event_value(&e, v);
  if (e.json) *e.p++ = '}';
  assert(e.p <= dst + cap);
  return (uint32_t)(e.p - dst);
}
