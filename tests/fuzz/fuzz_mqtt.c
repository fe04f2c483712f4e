/* fuzz_mqtt.c: a run of MQTT packets of either version, each decoded, and what was understood
 * encoded and decoded again to the same values. The first byte picks version and direction. */
#include "fuzz.h"
#include "wire/mqtt.h"

static void props_walk(lv_slice block) {
  lv_mqtt_property p;
  lv_slice v;
  int got;
  if (lv_mqtt_user_find(block, LV_SLICE("tag"), &v)) fuzz_touch(v);
  while ((got = lv_mqtt_property_next(&block, &p)) == 1) {
    fuzz_touch(p.s);
    fuzz_touch(p.s2);
  }
  CHECK(got == 0 && block.n == 0); /* only blocks that were accepted come here */
}

static void publish_again(uint8_t version, const lv_mqtt_publish *m, lv_slice props) {
  lv_mqtt_publish_out o = {.version = version,
                           .qos = m->qos,
                           .dup = m->dup,
                           .retain = m->retain,
                           .has_expiry = m->has_expiry,
                           .packet_id = m->packet_id,
                           .alias = m->alias,
                           .alias_only = m->topic.n == 0,
                           .expiry_s = m->expiry_s,
                           .sub_ids = &m->sub_id,
                           .n_sub_ids = m->sub_id ? 1 : 0,
                           .topic = m->topic,
                           .props = props,
                           .payload = m->payload};
  uint32_t size, remaining;
  CHECK(lv_mqtt_publish_size(&o, false, &size, &remaining) == 0);
  uint8_t *d = malloc(size);
  CHECK(d && lv_mqtt_publish_encode(&o, false, remaining, d) == d + size);
  CHECK(lv_mqtt_count_publishes(d, size) == 1);
  lv_mqtt_head h;
  lv_mqtt_publish b;
  CHECK(lv_mqtt_head_decode(d, size, &h) == 0 && lv_mqtt_head_minimal(&h));
  CHECK(h.len + h.remaining == size);
  lv_slice body = {d + h.len, h.remaining};
  CHECK(lv_mqtt_publish_decode(version, h.flags, body, false, &b) == 0);
  CHECK(b.dup == m->dup && b.retain == m->retain && b.qos == m->qos && b.utf8 == m->utf8);
  CHECK(b.packet_id == m->packet_id && b.alias == m->alias && b.has_alias == m->has_alias);
  CHECK(b.has_expiry == m->has_expiry && b.expiry_s == m->expiry_s && b.sub_id == m->sub_id);
  CHECK(lv_slice_eq(b.topic, m->topic) && lv_slice_eq(b.payload, m->payload));
  CHECK(b.forward_len == props.n);
  free(d);
}

static void publish(uint8_t version, uint8_t flags, lv_slice body, bool to_server) {
  lv_mqtt_publish m, before;
  memset(&m, 0xA5, sizeof m);
  before = m;
  if (lv_mqtt_publish_decode(version, flags, body, to_server, &m)) {
    CHECK(memcmp(&m, &before, sizeof m) == 0);
    return;
  }
  CHECK(m.topic.n == 0 || lv_mqtt_topic_check(m.topic) == 0);
  CHECK(lv_utf8_valid(m.topic, true));
  CHECK((m.qos == 0) == (m.packet_id == 0));
  fuzz_touch(m.payload);
  props_walk(m.raw_props);
  uint8_t *dst = malloc(m.forward_len ? m.forward_len : 1);
  CHECK(dst != NULL);
  lv_slice props = lv_mqtt_publish_forward(&m, dst);
  CHECK(props.n == m.forward_len);
  props_walk(props);
  publish_again(version, &m, props);
  lv_slice chan;
  uint16_t off;
  lv_topic_split(m.topic, &chan, &off);
  CHECK(lv_channel_name_ok(chan) || lv_slice_eq(chan, LV_SLICE("_")));
  CHECK(off == 0xFFFF || off <= m.topic.n);
  free(dst);
}

static void connect_packet(lv_slice body) {
  uint8_t *scratch = malloc(body.n ? body.n : 1);
  CHECK(scratch != NULL);
  lv_mqtt_connect c;
  int err = lv_mqtt_connect_decode(body, scratch, &c);
  if (err == 0) {
    CHECK(c.version == LV_MQTT_V3 || c.version == LV_MQTT_V5);
    CHECK(c.receive_max > 0 && c.will.qos < 3);
    props_walk(c.user_props);
    props_walk(c.will.props);
    CHECK(!c.will.present || lv_mqtt_topic_check(c.will.topic) == 0);
    fuzz_touch(c.client_id);
    fuzz_touch(c.user);
    fuzz_touch(c.password);
    fuzz_touch(c.auth_data);
    fuzz_touch(c.will.payload);
    uint8_t d[LV_MQTT_CONNACK_MAX];
    lv_mqtt_connack a = {.version = c.version,
                         .assigned_client_id = c.client_id,
                         .reason_string = c.user,
                         .response_info = c.will.topic};
    uint32_t n = lv_mqtt_connack_encode(&a, d);
    lv_mqtt_head h;
    CHECK(lv_mqtt_head_decode(d, n, &h) == 0 && h.len + h.remaining == n);
  }
  free(scratch);
}

static void ack(uint8_t version, uint8_t type, lv_slice body) {
  lv_mqtt_ack a, b;
  if (lv_mqtt_ack_decode(version, type, body, &a)) return;
  CHECK(a.packet_id != 0);
  uint8_t d[LV_MQTT_ACK_MAX];
  uint32_t n = lv_mqtt_ack_encode(version, type, a.packet_id, a.reason, a.reason_string, d);
  lv_mqtt_head h;
  CHECK(n <= sizeof d && lv_mqtt_head_decode(d, n, &h) == 0 && h.type == type);
  CHECK(lv_mqtt_ack_decode(version, type, lv_slice_of(d + 2, n - 2), &b) == 0);
  CHECK(a.packet_id == b.packet_id && a.reason == b.reason);
  CHECK(a.reason_string.n > LV_MQTT_TEXT_MAX || lv_slice_eq(a.reason_string, b.reason_string));
}

static void disconnect(uint8_t version, lv_slice body) {
  lv_mqtt_disconnect a, b;
  if (lv_mqtt_disconnect_decode(version, body, &a)) return;
  uint8_t d[LV_MQTT_ACK_MAX];
  uint32_t n = lv_mqtt_disconnect_encode(a.reason, a.reason_string, d);
  CHECK(lv_mqtt_disconnect_decode(LV_MQTT_V5, lv_slice_of(d + 2, n - 2), &b) == 0);
  CHECK(a.reason == b.reason);
}

static void subscribe(uint8_t version, lv_slice body) {
  lv_mqtt_subscribe s;
  if (lv_mqtt_subscribe_decode(version, body, &s)) return;
  CHECK(s.packet_id != 0 && s.count > 0);
  lv_mqtt_sub e;
  lv_slice g, f;
  uint32_t n = 0;
  for (; lv_mqtt_subscribe_next(version, &s.list, &e); n++) {
    CHECK(e.qos < 3 && e.retain_handling < 3 && lv_utf8_valid(e.filter, true));
    int got = lv_mqtt_share_split(e.filter, &g, &f);
    CHECK(got <= 0 || lv_mqtt_filter_check(f) == 0);
    CHECK(got <= 0 || (lv_mqtt_filter_check(e.filter) == 0 && !e.no_local));
  }
  CHECK(n == s.count && s.list.n == 0);
}

static void unsubscribe(uint8_t version, lv_slice body) {
  lv_mqtt_subscribe s;
  if (lv_mqtt_unsubscribe_decode(version, body, &s)) return;
  lv_slice f;
  uint32_t n = 0;
  for (; lv_mqtt_unsubscribe_next(&s.list, &f); n++) CHECK(lv_utf8_valid(f, true));
  CHECK(n == s.count && s.list.n == 0);
}

static void packet(uint8_t version, bool to_server, const lv_mqtt_head *h, lv_slice body) {
  switch (h->type) {
  case LV_MQTT_CONNECT: connect_packet(body); break;
  case LV_MQTT_PUBLISH: publish(version, h->flags, body, to_server); break;
  case LV_MQTT_PUBACK:
  case LV_MQTT_PUBREC:
  case LV_MQTT_PUBREL:
  case LV_MQTT_PUBCOMP: ack(version, h->type, body); break;
  case LV_MQTT_SUBSCRIBE: subscribe(version, body); break;
  case LV_MQTT_UNSUBSCRIBE: unsubscribe(version, body); break;
  case LV_MQTT_DISCONNECT: disconnect(version, body); break;
  default: break;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  uint8_t how = fuzz_byte(&data, &size);
  uint8_t version = how & 1 ? LV_MQTT_V5 : LV_MQTT_V3;
  lv_mqtt_head h;
  while (size > 0 && lv_mqtt_head_decode(data, (uint32_t)size, &h) == 0) {
    data += h.len;
    size -= h.len;
    size_t n = h.remaining < size ? h.remaining : size; /* a cut body is tried as it is */
    lv_slice body = fuzz_copy(data, n);
    packet(version, !(how & 2), &h, body);
    fuzz_free(body);
    data += n;
    size -= n;
  }
  return 0;
}
