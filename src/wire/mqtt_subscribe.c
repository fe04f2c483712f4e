/* mqtt_subscribe.c: SUBSCRIBE and UNSUBSCRIBE (§3.8, 3.10) to values, their acks to bytes.
 *
 * Decoding walks the whole list once and checks its shape, so that the _next functions, which the
 * session calls afterwards, cannot fail on it. Whether each filter is a filter is the session's
 * question (lv_mqtt_filter_check), answered per entry. @thread any */
#include "wire/mqtt_int.h"

#define SUBSCRIBE_PROPS (LV__P(LV_MQTT_P_SUBSCRIPTION_ID) | LV__P(LV_MQTT_P_USER))
#define UNSUBSCRIBE_PROPS LV__P(LV_MQTT_P_USER)

static int list_head(uint8_t version, uint64_t allowed, lv__rd *r, lv_mqtt_subscribe *s) {
  if (lv__rd_u16(r, &s->packet_id)) return LV_E_MALFORMED;
  if (s->packet_id == 0) return LV_E_PROTOCOL;
  if (version < LV_MQTT_V5) return 0;
  lv_slice block;
  if (lv__rd_props(r, &block)) return LV_E_MALFORMED;
  lv__rd b = lv__rd_of(block);
  uint64_t seen = 0;
  lv_mqtt_property p;
  int got;
  while ((got = lv__props_take(&b, allowed, LV__P(LV_MQTT_P_USER), &seen, &p)) == 1) {
    if (p.id != LV_MQTT_P_SUBSCRIPTION_ID) continue;
    if (p.u == 0) return LV_E_PROTOCOL;
    s->sub_id = p.u;
  }
  return got;
}

static int entry_read(uint8_t version, lv__rd *r, lv_mqtt_sub *e) {
  uint8_t o;
  if (lv__rd_str(r, &e->filter) || lv__rd_u8(r, &o)) return LV_E_MALFORMED;
  if (o & (version >= LV_MQTT_V5 ? 0xC0 : 0xFC)) return LV_E_MALFORMED;
  e->qos = o & 3;
  e->no_local = o & 4;
  e->retain_as_published = o & 8;
  e->retain_handling = (o >> 4) & 3;
  /* §3.8.3.1: both values 3, and No Local on a shared subscription. 3.1.1 calls QoS 3 malformed. */
  if (e->qos == 3) return version >= LV_MQTT_V5 ? LV_E_PROTOCOL : LV_E_MALFORMED;
  if (e->retain_handling == 3) return LV_E_PROTOCOL;
  if (e->no_local && lv_slice_starts(e->filter, LV_SLICE("$share/"))) return LV_E_PROTOCOL;
  return 0;
}

int lv_mqtt_subscribe_decode(uint8_t version, lv_slice body, lv_mqtt_subscribe *ret) {
  lv_mqtt_subscribe s = {0};
  lv__rd r = lv__rd_of(body);
  int err = list_head(version, SUBSCRIBE_PROPS, &r, &s);
  if (err) return err;
  s.list = lv__rd_rest(&r);
  lv_mqtt_sub e;
  while (r.p < r.end) {
    if ((err = entry_read(version, &r, &e))) return err;
    s.count++;
  }
  if (s.count == 0) return LV_E_PROTOCOL;
  *ret = s;
  return 0;
}

bool lv_mqtt_subscribe_next(uint8_t version, lv_slice *list, lv_mqtt_sub *ret) {
  lv__rd r = lv__rd_of(*list);
  lv_mqtt_sub e;
  if (r.p == r.end || entry_read(version, &r, &e)) return false;
  *ret = e;
  *list = lv__rd_rest(&r);
  return true;
}

int lv_mqtt_unsubscribe_decode(uint8_t version, lv_slice body, lv_mqtt_subscribe *ret) {
  lv_mqtt_subscribe s = {0};
  lv__rd r = lv__rd_of(body);
  int err = list_head(version, UNSUBSCRIBE_PROPS, &r, &s);
  if (err) return err;
  s.list = lv__rd_rest(&r);
  lv_slice f;
  while (r.p < r.end) {
    if (lv__rd_str(&r, &f)) return LV_E_MALFORMED;
    s.count++;
  }
  if (s.count == 0) return LV_E_PROTOCOL;
  *ret = s;
  return 0;
}

bool lv_mqtt_unsubscribe_next(lv_slice *list, lv_slice *ret_filter) {
  lv__rd r = lv__rd_of(*list);
  lv_slice f;
  if (r.p == r.end || lv__rd_str(&r, &f)) return false;
  *ret_filter = f;
  *list = lv__rd_rest(&r);
  return true;
}

uint32_t lv_mqtt_suback_size(uint8_t version, uint32_t n) {
  uint32_t remaining = 2 + (version >= LV_MQTT_V5 ? 1 : 0) + n;
  return 1 + lv__varint_len(remaining) + remaining;
}

uint32_t lv_mqtt_suback_encode(uint8_t version, uint8_t type, uint16_t packet_id,
                               const uint8_t *codes, uint32_t n, uint8_t *dst) {
  assert(type == LV_MQTT_SUBACK || type == LV_MQTT_UNSUBACK);
  bool v5 = version >= LV_MQTT_V5;
  if (!v5 && type == LV_MQTT_UNSUBACK) n = 0;
  uint8_t *d = dst;
  *d++ = (uint8_t)(type << 4);
  d = lv__put_varint(d, 2 + (v5 ? 1 : 0) + n);
  d = lv__put16(d, packet_id);
  if (v5) *d++ = 0;
  for (uint32_t i = 0; i < n; i++) *d++ = (!v5 && codes[i] >= 0x80) ? 0x80 : codes[i];
  return (uint32_t)(d - dst);
}
