/* mqtt_ack.c: PUBACK, PUBREC, PUBREL, PUBCOMP (§3.4 – 3.7) and DISCONNECT (§3.14), both ways.
 *
 * The four acks share one layout: packet id, then in 5.0 an optional reason and an optional
 * property block. Which reasons each may carry is a table; any other one is a protocol error.
 * @thread any */
#include "wire/mqtt_int.h"

#define ACK_PROPS (LV__P(LV_MQTT_P_REASON_STRING) | LV__P(LV_MQTT_P_USER))
#define DISCONNECT_PROPS                                                                           \
  (ACK_PROPS | LV__P(LV_MQTT_P_SESSION_EXPIRY) | LV__P(LV_MQTT_P_SERVER_REFERENCE))

/* Reason codes of 0x80 and above as bits of a mask. */
#define R(code) (1ull << ((code)-0x80))
static const uint64_t publish_reasons =
    R(0x80) | R(0x83) | R(0x87) | R(0x90) | R(0x91) | R(0x97) | R(0x99);
/* Those that a client may send; the rest is the server's to say. */
static const uint64_t disconnect_reasons = R(0x80) | R(0x81) | R(0x82) | R(0x83) | R(0x90) |
                                           R(0x93) | R(0x94) | R(0x95) | R(0x96) | R(0x97) |
                                           R(0x98) | R(0x99);

static bool in_mask(uint64_t mask, uint8_t reason) {
  return reason >= 0x80 && reason < 0xC0 && (mask & R(reason));
}

static bool ack_reason_ok(uint8_t type, uint8_t reason) {
  if (reason == 0) return true;
  if (type == LV_MQTT_PUBREL || type == LV_MQTT_PUBCOMP) return reason == 0x92;
  return reason == 0x10 || in_mask(publish_reasons, reason);
}

int lv_mqtt_ack_decode(uint8_t version, uint8_t type, lv_slice body, lv_mqtt_ack *ret) {
  lv_mqtt_ack a = {0};
  lv__rd r = lv__rd_of(body);
  if (lv__rd_u16(&r, &a.packet_id)) return LV_E_MALFORMED;
  if (version < LV_MQTT_V5 && r.p != r.end) return LV_E_MALFORMED;
  if (a.packet_id == 0) return LV_E_PROTOCOL;
  if (r.p < r.end) {
    a.reason = *r.p++;
    if (!ack_reason_ok(type, a.reason)) return LV_E_PROTOCOL;
  }
  if (r.p < r.end) {
    lv_slice block;
    if (lv__rd_props(&r, &block) || r.p != r.end) return LV_E_MALFORMED;
    lv__rd b = lv__rd_of(block);
    uint64_t seen = 0;
    lv_mqtt_property p;
    int got;
    while ((got = lv__props_take(&b, ACK_PROPS, LV__P(LV_MQTT_P_USER), &seen, &p)) == 1)
      if (p.id == LV_MQTT_P_REASON_STRING) a.reason_string = p.s;
    if (got < 0) return got;
  }
  *ret = a;
  return 0;
}

/* Reason and, when it fits into what is left of LV_MQTT_ACK_MAX, the text. */
static uint8_t *reason_write(uint8_t *d, uint8_t reason, lv_slice text) {
  *d++ = reason;
  if (text.n == 0) return d;
  d = lv__put_varint(d, 3 + text.n);
  *d++ = LV_MQTT_P_REASON_STRING;
  return lv__put_str(d, text);
}

uint32_t lv_mqtt_ack_encode(uint8_t version, uint8_t type, uint16_t packet_id, uint8_t reason,
                            lv_slice text, uint8_t dst[LV_MQTT_ACK_MAX]) {
  assert(type >= LV_MQTT_PUBACK && type <= LV_MQTT_PUBCOMP && packet_id != 0);
  dst[0] = (uint8_t)(type << 4 | (type == LV_MQTT_PUBREL ? 2 : 0));
  uint8_t *d = lv__put16(dst + 2, packet_id);
  if (version >= LV_MQTT_V5 && (reason || text.n)) {
    if (text.n > LV_MQTT_TEXT_MAX) text.n = 0;
    d = reason_write(d, reason, text);
  }
  dst[1] = (uint8_t)(d - dst - 2); /* one byte: LV_MQTT_TEXT_MAX keeps it below 128 */
  return (uint32_t)(d - dst);
}

int lv_mqtt_disconnect_decode(uint8_t version, lv_slice body, lv_mqtt_disconnect *ret) {
  lv_mqtt_disconnect m = {0};
  lv__rd r = lv__rd_of(body);
  if (version < LV_MQTT_V5) {
    if (body.n) return LV_E_MALFORMED;
    *ret = m;
    return 0;
  }
  if (r.p < r.end) {
    m.reason = *r.p++;
    if (m.reason != 0 && m.reason != 0x04 && !in_mask(disconnect_reasons, m.reason))
      return LV_E_PROTOCOL;
  }
  if (r.p < r.end) {
    lv_slice block;
    if (lv__rd_props(&r, &block) || r.p != r.end) return LV_E_MALFORMED;
    lv__rd b = lv__rd_of(block);
    uint64_t seen = 0;
    lv_mqtt_property p;
    int got;
    while ((got = lv__props_take(&b, DISCONNECT_PROPS, LV__P(LV_MQTT_P_USER), &seen, &p)) == 1) {
      if (p.id == LV_MQTT_P_SERVER_REFERENCE) return LV_E_PROTOCOL; /* the server's to say */
      if (p.id == LV_MQTT_P_REASON_STRING) m.reason_string = p.s;
      if (p.id != LV_MQTT_P_SESSION_EXPIRY) continue;
      m.has_session_expiry = true;
      m.session_expiry_s = p.u;
    }
    if (got < 0) return got;
  }
  *ret = m;
  return 0;
}

uint32_t lv_mqtt_disconnect_encode(uint8_t reason, lv_slice text, uint8_t dst[LV_MQTT_ACK_MAX]) {
  dst[0] = LV_MQTT_DISCONNECT << 4;
  if (text.n > LV_MQTT_TEXT_MAX) text.n = 0;
  uint8_t *d = dst + 2;
  if (reason || text.n) d = reason_write(d, reason, text);
  dst[1] = (uint8_t)(d - dst - 2);
  return (uint32_t)(d - dst);
}
