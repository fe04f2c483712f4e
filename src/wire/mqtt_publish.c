/* mqtt_publish.c: PUBLISH (§3.3), both ways. The hot path of the product.
 *
 *   decode: topic length and topic | packet id (QoS > 0) | property length and block | payload
 *
 * Nothing is copied: the decoded message is slices of the body. A packet without properties touches
 * only its lengths and topic. Encoding is split into a size and a write, so that the caller can
 * reserve room in its output queue first, and can leave the payload out (`without_payload`) to send
 * it by reference. @thread any */
#include "wire/mqtt_int.h"

#define PUBLISH_PROPS                                                                              \
  (LV__P_FORWARD | LV__P(LV_MQTT_P_MESSAGE_EXPIRY) | LV__P(LV_MQTT_P_TOPIC_ALIAS) |                \
   LV__P(LV_MQTT_P_SUBSCRIPTION_ID))
#define PUBLISH_MANY (LV__P(LV_MQTT_P_USER) | LV__P(LV_MQTT_P_SUBSCRIPTION_ID))

static int publish_prop(const lv_mqtt_property *p, bool to_server, lv_mqtt_publish *m) {
  switch (p->id) {
  case LV_MQTT_P_PAYLOAD_FORMAT: m->utf8 = p->u == 1; break;
  case LV_MQTT_P_MESSAGE_EXPIRY:
    m->expiry_s = p->u;
    m->has_expiry = true;
    break;
  case LV_MQTT_P_TOPIC_ALIAS:
    if (p->u == 0) return LV_E_TOPIC_ALIAS;
    m->alias = (uint16_t)p->u;
    m->has_alias = true;
    break;
  case LV_MQTT_P_SUBSCRIPTION_ID:
    if (to_server || p->u == 0) return LV_E_PROTOCOL;
    if (m->sub_id == 0) m->sub_id = p->u;
    break;
  default: break;
  }
  return lv__prop_message_check(p);
}

static int publish_props(lv__rd *r, bool to_server, lv_mqtt_publish *m) {
  if (lv__rd_props(r, &m->raw_props)) return LV_E_MALFORMED;
  lv__rd b = lv__rd_of(m->raw_props);
  uint64_t seen = 0;
  lv_mqtt_property p;
  for (;;) {
    const uint8_t *from = b.p;
    int got = lv__props_take(&b, PUBLISH_PROPS, PUBLISH_MANY, &seen, &p);
    if (got <= 0) return got;
    int err = publish_prop(&p, to_server, m);
    if (err) return err;
    if (LV__P_FORWARD & LV__P(p.id)) m->forward_len += (uint32_t)(b.p - from);
  }
}

/* The rest of a 5.0 packet that has properties. `m` is a copy, so that *ret stays as it was when
 * they turn out to be bad. */
static int with_props(lv__rd *r, bool to_server, bool wild, lv_mqtt_publish m,
                      lv_mqtt_publish *ret) {
  int err = publish_props(r, to_server, &m);
  if (err) return err;
  if (wild) return LV_E_TOPIC;
  if (m.topic.n == 0 && !m.has_alias) return LV_E_PROTOCOL;
  m.payload = lv__rd_rest(r);
  *ret = m;
  return 0;
}

int lv_mqtt_publish_decode(uint8_t version, uint8_t flags, lv_slice body, bool to_server,
                           lv_mqtt_publish *ret) {
  uint8_t qos = (flags >> 1) & 3;
  if (LV__RARE(qos == 3 || ((flags & 8) && qos == 0))) return LV_E_MALFORMED;
  lv__rd r = lv__rd_of(body);
  lv_slice topic;
  bool wild;
  uint16_t id = 0;
  int err = lv__rd_topic(&r, &topic, &wild);
  if (LV__RARE(err)) return err;
  if (qos) {
    if (lv__rd_u16(&r, &id)) return LV_E_MALFORMED;
    if (LV__RARE(id == 0)) return LV_E_PROTOCOL;
  }
  bool v5 = version >= LV_MQTT_V5;
  if (v5) {
    if (r.p == r.end) return LV_E_MALFORMED;
    if (*r.p != 0) {
      lv_mqtt_publish m = {
          .dup = flags & 8, .retain = flags & 1, .qos = qos, .packet_id = id, .topic = topic};
      return with_props(&r, to_server, wild, m, ret);
    }
    r.p++;
  }
  if (LV__RARE(wild)) return LV_E_TOPIC;
  if (LV__RARE(topic.n == 0)) return v5 ? LV_E_PROTOCOL : LV_E_TOPIC;
  *ret = (lv_mqtt_publish){.dup = flags & 8,
                           .retain = flags & 1,
                           .qos = qos,
                           .packet_id = id,
                           .topic = topic,
                           .payload = lv__rd_rest(&r),
                           .raw_props = {r.p, 0}};
  return 0;
}

lv_slice lv_mqtt_publish_forward(const lv_mqtt_publish *p, uint8_t *dst) {
  if (p->forward_len == p->raw_props.n) return p->raw_props;
  uint8_t *end = lv__props_forward(p->raw_props, dst);
  assert((uint32_t)(end - dst) == p->forward_len);
  return lv_slice_of(dst, p->forward_len);
}

/* Bytes of the property block, without its length. */
static inline uint32_t props_len(const lv_mqtt_publish_out *p) {
  uint32_t n = (p->has_expiry ? 5u : 0u) + (p->alias ? 3u : 0u);
  for (uint32_t i = 0; i < p->n_sub_ids; i++) n += 1 + lv__varint_len(p->sub_ids[i]);
  return n + p->props.n;
}

int lv_mqtt_publish_size(const lv_mqtt_publish_out *p, bool without_payload, uint32_t *ret_size,
                         uint32_t *ret_remaining) {
  uint32_t topic = p->alias_only ? 0 : p->topic.n;
  if (LV__RARE(topic > LV_MQTT_TOPIC_MAX || p->props.n > LV_MQTT_REMAINING_MAX))
    return LV_E_TOO_BIG;
  uint64_t n = 2ull + topic + (p->qos ? 2 : 0);
  if (p->version >= LV_MQTT_V5) {
    uint32_t props = props_len(p);
    n += (uint64_t)lv__varint_len(props) + props;
  }
  uint64_t remaining = n + p->payload.n;
  if (LV__RARE(remaining > LV_MQTT_REMAINING_MAX)) return LV_E_TOO_BIG;
  uint32_t head = 1 + lv__varint_len((uint32_t)remaining);
  *ret_size = head + (uint32_t)(without_payload ? n : remaining);
  *ret_remaining = (uint32_t)remaining;
  return 0;
}

static uint8_t *props_write(const lv_mqtt_publish_out *p, uint8_t *d) {
  d = lv__put_varint(d, props_len(p));
  if (p->has_expiry) {
    *d++ = LV_MQTT_P_MESSAGE_EXPIRY;
    d = lv__put32(d, p->expiry_s);
  }
  if (p->alias) {
    *d++ = LV_MQTT_P_TOPIC_ALIAS;
    d = lv__put16(d, p->alias);
  }
  for (uint32_t i = 0; i < p->n_sub_ids; i++) {
    *d++ = LV_MQTT_P_SUBSCRIPTION_ID;
    d = lv__put_varint(d, p->sub_ids[i]);
  }
  return lv__put_bytes(d, p->props);
}

uint8_t *lv_mqtt_publish_encode(const lv_mqtt_publish_out *p, bool without_payload,
                                uint32_t remaining, uint8_t *dst) {
  assert(p->qos <= 2 && (p->qos == 0) == (p->packet_id == 0));
  assert(!p->alias_only || p->alias);
  uint8_t *d = dst;
  *d++ = (uint8_t)(LV_MQTT_PUBLISH << 4 | (p->dup ? 8 : 0) | p->qos << 1 | (p->retain ? 1 : 0));
  d = lv__put_varint(d, remaining);
  d = p->alias_only ? lv__put16(d, 0) : lv__put_str(d, p->topic);
  if (p->qos) d = lv__put16(d, p->packet_id);
  if (p->version >= LV_MQTT_V5) d = props_write(p, d);
  return without_payload ? d : lv__put_bytes(d, p->payload);
}
