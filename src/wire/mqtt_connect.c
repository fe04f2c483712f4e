/* mqtt_connect.c: CONNECT (§3.1) to values, CONNACK (§3.2) to bytes, and the return codes that
 * 3.1.1 has instead of reason codes.
 *
 * The body is read in the order of the standard: variable header, properties, then client id, will,
 * user and password, each only when its flag says so. A will's properties that are not forwarded
 * (delay, expiry) are taken out once here, into the caller's scratch, so that publishing the will
 * later is a plain copy. @thread any */
#include "wire/mqtt_int.h"

#define CONNECT_PROPS                                                                              \
  (LV__P(LV_MQTT_P_SESSION_EXPIRY) | LV__P(LV_MQTT_P_AUTH_METHOD) | LV__P(LV_MQTT_P_AUTH_DATA) |   \
   LV__P(LV_MQTT_P_REQUEST_PROBLEM) | LV__P(LV_MQTT_P_REQUEST_RESPONSE) |                          \
   LV__P(LV_MQTT_P_RECEIVE_MAX) | LV__P(LV_MQTT_P_TOPIC_ALIAS_MAX) | LV__P(LV_MQTT_P_USER) |       \
   LV__P(LV_MQTT_P_MAX_PACKET))
#define WILL_PROPS (LV__P_FORWARD | LV__P(LV_MQTT_P_WILL_DELAY) | LV__P(LV_MQTT_P_MESSAGE_EXPIRY))

enum connect_flag {
  RESERVED = 0x01,
  CLEAN = 0x02,
  WILL = 0x04,
  WILL_QOS = 0x18,
  WILL_RETAIN = 0x20,
  PASSWORD = 0x40,
  USER = 0x80
};

/* Protocol name and level (§3.1.2.1 – 3.1.2.2). */
static int version_read(lv__rd *r, lv_mqtt_connect *c) {
  lv_slice name;
  uint8_t level;
  if (lv__rd_bin(r, &name) || lv__rd_u8(r, &level)) return LV_E_MALFORMED;
  bool old = lv_slice_eq(name, LV_SLICE("MQIsdp"));
  if (!old && !lv_slice_eq(name, LV_SLICE("MQTT"))) return LV_E_MALFORMED;
  /* Bridges mark themselves with the top bit and try again without it: answer them in the form of
   * the level below it. */
  c->version = level & 0x7F;
  if (old || (level != LV_MQTT_V3 && level != LV_MQTT_V5)) return LV_E_VERSION;
  return 0;
}

static int flags_read(lv__rd *r, lv_mqtt_connect *c, uint8_t *ret_flags) {
  uint8_t f;
  if (lv__rd_u8(r, &f) || (f & RESERVED)) return LV_E_MALFORMED;
  c->clean_start = f & CLEAN;
  c->has_user = f & USER;
  c->has_password = f & PASSWORD;
  c->will.present = f & WILL;
  c->will.qos = (f >> 3) & 3;
  c->will.retain = f & WILL_RETAIN;
  if (c->will.qos == 3) return LV_E_MALFORMED;
  if (!c->will.present && (f & (WILL_QOS | WILL_RETAIN))) return LV_E_MALFORMED;
  if (c->version < LV_MQTT_V5 && c->has_password && !c->has_user) return LV_E_MALFORMED;
  *ret_flags = f;
  return 0;
}

static int connect_prop(lv_mqtt_connect *c, const lv_mqtt_property *p) {
  switch (p->id) {
  case LV_MQTT_P_SESSION_EXPIRY: c->session_expiry_s = p->u; break;
  case LV_MQTT_P_AUTH_METHOD: c->auth_method = p->s; break;
  case LV_MQTT_P_AUTH_DATA: c->auth_data = p->s; break;
  case LV_MQTT_P_REQUEST_PROBLEM:
    if (p->u > 1) return LV_E_PROTOCOL;
    c->request_problem = p->u;
    break;
  case LV_MQTT_P_REQUEST_RESPONSE:
    if (p->u > 1) return LV_E_PROTOCOL;
    c->request_response = p->u;
    break;
  case LV_MQTT_P_RECEIVE_MAX:
    if (p->u == 0) return LV_E_PROTOCOL;
    c->receive_max = (uint16_t)p->u;
    break;
  case LV_MQTT_P_TOPIC_ALIAS_MAX: c->topic_alias_max = (uint16_t)p->u; break;
  case LV_MQTT_P_MAX_PACKET:
    if (p->u == 0) return LV_E_PROTOCOL;
    c->max_packet = p->u;
    break;
  default: break; /* user properties stay in the raw block */
  }
  return 0;
}

static int connect_props(lv__rd *r, lv_mqtt_connect *c) {
  if (lv__rd_props(r, &c->user_props)) return LV_E_MALFORMED;
  lv__rd b = lv__rd_of(c->user_props);
  uint64_t seen = 0;
  lv_mqtt_property p;
  int got, err;
  while ((got = lv__props_take(&b, CONNECT_PROPS, LV__P(LV_MQTT_P_USER), &seen, &p)) == 1) {
    if ((err = connect_prop(c, &p))) return err;
  }
  if (got < 0) return got;
  /* §3.1.2.11.10: data without a method. */
  bool bare = (seen & LV__P(LV_MQTT_P_AUTH_DATA)) && !(seen & LV__P(LV_MQTT_P_AUTH_METHOD));
  return bare ? LV_E_PROTOCOL : 0;
}

static int will_props(lv__rd *r, uint8_t *scratch, lv_mqtt_will *w, bool *ret_utf8) {
  lv_slice block;
  if (lv__rd_props(r, &block)) return LV_E_MALFORMED;
  lv__rd b = lv__rd_of(block);
  uint64_t seen = 0;
  lv_mqtt_property p;
  int got, err;
  while ((got = lv__props_take(&b, WILL_PROPS, LV__P(LV_MQTT_P_USER), &seen, &p)) == 1) {
    if ((err = lv__prop_message_check(&p))) return err;
    if (p.id == LV_MQTT_P_WILL_DELAY) w->delay_s = p.u;
    if (p.id == LV_MQTT_P_PAYLOAD_FORMAT) *ret_utf8 = p.u;
    if (p.id == LV_MQTT_P_MESSAGE_EXPIRY) {
      w->expiry_s = p.u;
      w->has_expiry = true;
    }
  }
  if (got < 0) return got;
  w->props = block;
  if (seen & ~LV__P_FORWARD)
    w->props = lv_slice_of(scratch, (size_t)(lv__props_forward(block, scratch) - scratch));
  return 0;
}

static int will_read(lv__rd *r, uint8_t version, uint8_t *scratch, lv_mqtt_will *w) {
  bool wild, utf8 = false;
  int err;
  if (version == LV_MQTT_V5 && (err = will_props(r, scratch, w, &utf8))) return err;
  if ((err = lv__rd_topic(r, &w->topic, &wild))) return err;
  if (wild || w->topic.n == 0) return LV_E_TOPIC;
  if (lv__rd_bin(r, &w->payload)) return LV_E_MALFORMED;
  if (utf8 && !lv_utf8_valid(w->payload, false)) return LV_E_PAYLOAD;
  return 0;
}

int lv_mqtt_connect_decode(lv_slice body, uint8_t *scratch, lv_mqtt_connect *ret) {
  lv_mqtt_connect c = {.receive_max = 65535, .request_problem = true};
  lv__rd r = lv__rd_of(body);
  uint8_t flags;
  int err = version_read(&r, &c);
  ret->version = c.version; /* tells the caller how to answer an error */
  if (err || (err = flags_read(&r, &c, &flags))) return err;
  if (lv__rd_u16(&r, &c.keep_alive_s)) return LV_E_MALFORMED;
  if (c.version == LV_MQTT_V5) {
    if ((err = connect_props(&r, &c))) return err;
  } else {
    c.session_expiry_s = c.clean_start ? 0 : UINT32_MAX;
  }
  if (lv__rd_str(&r, &c.client_id)) return LV_E_MALFORMED;
  if (c.will.present && (err = will_read(&r, c.version, scratch, &c.will))) return err;
  if (c.has_user && lv__rd_str(&r, &c.user)) return LV_E_MALFORMED;
  if (c.has_password && lv__rd_bin(&r, &c.password)) return LV_E_MALFORMED;
  if (r.p != r.end) return LV_E_MALFORMED;
  if (c.version < LV_MQTT_V5 && c.client_id.n == 0 && !c.clean_start) return LV_E_CLIENT_ID;
  *ret = c;
  return 0;
}

/* ---- CONNACK ---- */

static uint8_t *prop16(uint8_t *p, uint8_t id, uint16_t v) {
  *p++ = id;
  return lv__put16(p, v);
}
static uint8_t *prop32(uint8_t *p, uint8_t id, uint32_t v) {
  *p++ = id;
  return lv__put32(p, v);
}
/* Nothing when the text is empty or would pass `end`. */
static uint8_t *prop_text(uint8_t *p, const uint8_t *end, uint8_t id, lv_slice s) {
  if (s.n == 0 || (size_t)(end - p) < 3u + s.n) return p;
  *p++ = id;
  return lv__put_str(p, s);
}

uint32_t lv_mqtt_connack_encode(const lv_mqtt_connack *c, uint8_t dst[LV_MQTT_CONNACK_MAX]) {
  uint8_t present = c->session_present && c->reason == 0;
  dst[0] = LV_MQTT_CONNACK << 4;
  if (c->version < LV_MQTT_V5) {
    dst[1] = 2;
    dst[2] = present;
    dst[3] = lv_mqtt_return_code(c->reason);
    return 4;
  }
  /* The properties are written to their own buffer, because two lengths stand in front of them. */
  uint8_t props[LV_MQTT_CONNACK_MAX - 7], *p = props;
  const uint8_t *end = props + sizeof props;
  if (c->has_session_expiry) p = prop32(p, LV_MQTT_P_SESSION_EXPIRY, c->session_expiry_s);
  if (c->receive_max) p = prop16(p, LV_MQTT_P_RECEIVE_MAX, c->receive_max);
  if (c->max_packet) p = prop32(p, LV_MQTT_P_MAX_PACKET, c->max_packet);
  if (c->topic_alias_max) p = prop16(p, LV_MQTT_P_TOPIC_ALIAS_MAX, c->topic_alias_max);
  if (c->has_server_keep_alive) p = prop16(p, LV_MQTT_P_SERVER_KEEP_ALIVE, c->server_keep_alive);
  p = prop_text(p, end, LV_MQTT_P_ASSIGNED_CLIENT_ID, c->assigned_client_id);
  p = prop_text(p, end, LV_MQTT_P_RESPONSE_INFO, c->response_info);
  p = prop_text(p, end, LV_MQTT_P_REASON_STRING, c->reason_string);
  uint32_t n = (uint32_t)(p - props);
  uint8_t *q = lv__put_varint(dst + 1, 2 + lv__varint_len(n) + n);
  *q++ = present;
  *q++ = c->reason;
  q = lv__put_bytes(lv__put_varint(q, n), lv_slice_of(props, n));
  assert(q <= dst + LV_MQTT_CONNACK_MAX);
  return (uint32_t)(q - dst);
}

uint8_t lv_mqtt_return_code(uint8_t reason) {
  switch (reason) {
  case 0x00: return 0;
  case 0x84: return 1; /* unsupported protocol version */
  case 0x85: return 2; /* client identifier not valid */
  case 0x86:           /* bad user name or password */
  case 0x8C: return 4; /* bad authentication method */
  case 0x80:           /* unspecified, implementation specific: nothing the client did */
  case 0x83:
  case 0x88: /* unavailable, busy, shutting down */
  case 0x89:
  case 0x8B:
  case 0x97: /* quota, another server, connection rate */
  case 0x9C:
  case 0x9D:
  case 0x9F: return 3;
  default: return 5; /* not authorized, banned, and what this server does not take */
  }
}
