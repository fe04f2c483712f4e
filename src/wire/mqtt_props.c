/* mqtt_props.c: property blocks (§2.2.2).
 *
 * A property is one id byte (no id needs a second) and a value whose type the id decides. Which
 * packet allows which id, and which may repeat, is a pair of 64-bit masks that each decoder passes
 * in: ids end at 0x2A. An id that the packet does not allow is malformed, a repeated one is a
 * protocol error. @thread any */
#include "wire/mqtt_int.h"

enum kind { NONE, BYTE, TWO, FOUR, VARINT, STRING, BINARY, PAIR };
static const uint8_t kind_of[0x2B] = {
    [LV_MQTT_P_PAYLOAD_FORMAT] = BYTE,
    [LV_MQTT_P_MESSAGE_EXPIRY] = FOUR,
    [LV_MQTT_P_CONTENT_TYPE] = STRING,
    [LV_MQTT_P_RESPONSE_TOPIC] = STRING,
    [LV_MQTT_P_CORRELATION] = BINARY,
    [LV_MQTT_P_SUBSCRIPTION_ID] = VARINT,
    [LV_MQTT_P_SESSION_EXPIRY] = FOUR,
    [LV_MQTT_P_ASSIGNED_CLIENT_ID] = STRING,
    [LV_MQTT_P_SERVER_KEEP_ALIVE] = TWO,
    [LV_MQTT_P_AUTH_METHOD] = STRING,
    [LV_MQTT_P_AUTH_DATA] = BINARY,
    [LV_MQTT_P_REQUEST_PROBLEM] = BYTE,
    [LV_MQTT_P_WILL_DELAY] = FOUR,
    [LV_MQTT_P_REQUEST_RESPONSE] = BYTE,
    [LV_MQTT_P_RESPONSE_INFO] = STRING,
    [LV_MQTT_P_SERVER_REFERENCE] = STRING,
    [LV_MQTT_P_REASON_STRING] = STRING,
    [LV_MQTT_P_RECEIVE_MAX] = TWO,
    [LV_MQTT_P_TOPIC_ALIAS_MAX] = TWO,
    [LV_MQTT_P_TOPIC_ALIAS] = TWO,
    [LV_MQTT_P_MAX_QOS] = BYTE,
    [LV_MQTT_P_RETAIN_AVAILABLE] = BYTE,
    [LV_MQTT_P_USER] = PAIR,
    [LV_MQTT_P_MAX_PACKET] = FOUR,
    [LV_MQTT_P_WILDCARD_AVAILABLE] = BYTE,
    [LV_MQTT_P_SUB_ID_AVAILABLE] = BYTE,
    [LV_MQTT_P_SHARED_AVAILABLE] = BYTE,
};

static inline int value_take(lv__rd *r, lv_mqtt_property *p) {
  uint8_t b = 0;
  uint16_t w = 0;
  int err;
  switch (kind_of[p->id]) {
  case BYTE:
    err = lv__rd_u8(r, &b);
    p->u = b;
    return err;
  case TWO:
    err = lv__rd_u16(r, &w);
    p->u = w;
    return err;
  case FOUR: return lv__rd_u32(r, &p->u);
  case VARINT: return lv__rd_varint(r, &p->u);
  case STRING: return lv__rd_str(r, &p->s);
  case BINARY: return lv__rd_bin(r, &p->s);
  case PAIR: return lv__rd_str(r, &p->s) ? LV_E_MALFORMED : lv__rd_str(r, &p->s2);
  default: return LV_E_MALFORMED;
  }
}

static inline int take(lv__rd *r, lv_mqtt_property *p) {
  if (r->p == r->end) return 0;
  *p = (lv_mqtt_property){.id = *r->p};
  if (p->id >= sizeof kind_of) return LV_E_MALFORMED;
  r->p++;
  return value_take(r, p) ? LV_E_MALFORMED : 1;
}

int lv__props_take(lv__rd *r, uint64_t allowed, uint64_t many, uint64_t *seen,
                   lv_mqtt_property *ret) {
  if (r->p == r->end) return 0;
  uint8_t id = *r->p;
  if (id >= sizeof kind_of || !(allowed & LV__P(id))) return LV_E_MALFORMED;
  int err = take(r, ret);
  if (err < 0) return err;
  if (*seen & LV__P(id) & ~many) return LV_E_PROTOCOL;
  *seen |= LV__P(id);
  return 1;
}

int lv__rd_props(lv__rd *r, lv_slice *ret_block) {
  uint32_t n;
  if (lv__rd_varint(r, &n) || n > lv__rd_left(r)) return LV_E_MALFORMED;
  *ret_block = (lv_slice){r->p, n};
  r->p += n;
  return 0;
}

int lv__prop_message_check(const lv_mqtt_property *p) {
  if (p->id == LV_MQTT_P_PAYLOAD_FORMAT) return p->u > 1 ? LV_E_PROTOCOL : 0;
  if (p->id == LV_MQTT_P_RESPONSE_TOPIC) return lv_mqtt_topic_check(p->s) ? LV_E_PROTOCOL : 0;
  return 0;
}

uint8_t *lv__props_forward(lv_slice block, uint8_t *dst) {
  lv__rd r = lv__rd_of(block);
  lv_mqtt_property p;
  for (;;) {
    const uint8_t *from = r.p;
    int got = take(&r, &p);
    assert(got >= 0); /* the block was checked when it was decoded */
    if (got == 0) return dst;
    if (LV__P_FORWARD & LV__P(p.id)) dst = lv__put_bytes(dst, lv_slice_of(from, r.p - from));
  }
}

int lv_mqtt_property_next(lv_slice *block, lv_mqtt_property *ret) {
  lv__rd r = lv__rd_of(*block);
  lv_mqtt_property p;
  int got = take(&r, &p);
  if (got <= 0) return got;
  *ret = p;
  *block = lv__rd_rest(&r);
  return 1;
}

bool lv_mqtt_user_find(lv_slice block, lv_slice name, lv_slice *ret_value) {
  lv_mqtt_property p;
  while (lv_mqtt_property_next(&block, &p) == 1) {
    if (p.id != LV_MQTT_P_USER || !lv_slice_eq(p.s, name)) continue;
    *ret_value = p.s2;
    return true;
  }
  return false;
}

bool lv_mqtt_tms(lv_slice block, int64_t *ret_ms) {
  const int64_t max_ms = INT64_MAX / 1000000; /* it is a number of nanoseconds, too */
  lv_slice text;
  int64_t ms = 0;
  if (!block.n || !lv_mqtt_user_find(block, LV_SLICE("tms"), &text) || !text.n) return false;
  for (uint32_t i = 0; i < text.n; i++) {
    if (text.p[i] < '0' || text.p[i] > '9') return false;
    ms = ms * 10 + (text.p[i] - '0');
    if (ms > max_ms) return false;
  }
  if (ms == 0) return false;
  *ret_ms = ms;
  return true;
}
