/* test_mqtt_subscribe.c: SUBSCRIBE, UNSUBSCRIBE, their acks; PUBACK and its kin; DISCONNECT. */
#include "wire_test.h"

#include "wire/mqtt.h"

typedef struct row {
  const char *what;
  lv_slice in;
  int want;
  uint8_t version;
} row;

static const row subscribes[] = {
    {"plain", B("\0\1\0\1a\1"), 0, 4},
    {"plain 5.0", B("\0\1\0\0\1a\x2E"), 0, 5},
    {"empty", B(""), LV_E_MALFORMED, 4},
    {"no list", B("\0\1"), LV_E_PROTOCOL, 4},
    {"no list 5.0", B("\0\1\0"), LV_E_PROTOCOL, 5},
    {"packet id 0", B("\0\0\0\1a\1"), LV_E_PROTOCOL, 4},
    {"no options", B("\0\1\0\1a"), LV_E_MALFORMED, 4},
    {"filter cut", B("\0\1\0\5a\1"), LV_E_MALFORMED, 4},
    {"second entry cut", B("\0\1\0\1a\1\0"), LV_E_MALFORMED, 4},
    {"filter not UTF-8", B("\0\1\0\1\xFF\1"), LV_E_MALFORMED, 4},
    {"filter with NUL", B("\0\1\0\2a\0\1"), LV_E_MALFORMED, 4},
    {"3.1.1 QoS 3", B("\0\1\0\1a\3"), LV_E_MALFORMED, 4},
    {"3.1.1 options of 5.0", B("\0\1\0\1a\4"), LV_E_MALFORMED, 4},
    {"QoS 3", B("\0\1\0\0\1a\3"), LV_E_PROTOCOL, 5},
    {"retain handling 3", B("\0\1\0\0\1a\x30"), LV_E_PROTOCOL, 5},
    {"reserved bit 6", B("\0\1\0\0\1a\x40"), LV_E_MALFORMED, 5},
    {"reserved bit 7", B("\0\1\0\0\1a\x80"), LV_E_MALFORMED, 5},
    {"no local, shared", B("\0\1\0\0\x0A$share/g/a\4"), LV_E_PROTOCOL, 5},
    {"shared", B("\0\1\0\0\x0A$share/g/a\1"), 0, 5},
    {"subscription id 0", B("\0\1\2\x0B\0\0\1a\1"), LV_E_PROTOCOL, 5},
    {"subscription id twice", B("\0\1\4\x0B\1\x0B\2\0\1a\1"), LV_E_PROTOCOL, 5},
    {"subscription id in long form", B("\0\1\3\x0B\x81\0\0\1a\1"), LV_E_MALFORMED, 5},
    {"largest subscription id", B("\0\1\5\x0B\xFF\xFF\xFF\x7F\0\1a\1"), 0, 5},
    {"another property", B("\0\1\2\1\1\0\1a\1"), LV_E_MALFORMED, 5},
    {"user properties", B("\0\1\x0A\x26\0\0\0\0\x26\0\0\0\0\0\1a\1"), 0, 5},
    {"properties past the end", B("\0\1\x50\x0B\1\0\1a\1"), LV_E_MALFORMED, 5},
    {"empty filter has shape", B("\0\1\0\0\1"), 0, 4},
};

static const row unsubscribes[] = {
    {"plain", B("\0\1\0\1a"), 0, 4},
    {"plain 5.0", B("\0\1\0\0\1a"), 0, 5},
    {"no list", B("\0\1"), LV_E_PROTOCOL, 4},
    {"packet id 0", B("\0\0\0\1a"), LV_E_PROTOCOL, 4},
    {"filter cut", B("\0\1\0\2a"), LV_E_MALFORMED, 4},
    {"trailing byte", B("\0\1\0\1a\0"), LV_E_MALFORMED, 4},
    {"filter not UTF-8", B("\0\1\0\1\xFF"), LV_E_MALFORMED, 4},
    {"subscription id", B("\0\1\2\x0B\1\0\1a"), LV_E_MALFORMED, 5},
    {"user property", B("\0\1\5\x26\0\0\0\0\0\1a"), 0, 5},
};

static void shapes(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(subscribes); i++) {
    lv_slice b = heap_copy(subscribes[i].in);
    lv_mqtt_subscribe s;
    assert_err(lv_mqtt_subscribe_decode(subscribes[i].version, b, &s), subscribes[i].want,
               subscribes[i].what);
    heap_free(b);
  }
  for (size_t i = 0; i < COUNT(unsubscribes); i++) {
    lv_slice b = heap_copy(unsubscribes[i].in);
    lv_mqtt_subscribe s;
    assert_err(lv_mqtt_unsubscribe_decode(unsubscribes[i].version, b, &s), unsubscribes[i].want,
               unsubscribes[i].what);
    heap_free(b);
  }
}

static void lists(void **state) {
  (void)state;
  lv_mqtt_subscribe s;
  lv_mqtt_sub e;
  assert_int_equal(lv_mqtt_subscribe_decode(5, S("\1\2\3\x0B\x80\1\0\1a\x2E\0\3b/#\1\0\0\0"), &s),
                   0);
  assert_int_equal(s.packet_id, 258);
  assert_int_equal(s.sub_id, 128);
  assert_int_equal(s.count, 3);
  assert_true(lv_mqtt_subscribe_next(5, &s.list, &e));
  assert_slice(e.filter, S("a"));
  assert_true(e.qos == 2 && e.no_local && e.retain_as_published && e.retain_handling == 2);
  assert_true(lv_mqtt_subscribe_next(5, &s.list, &e));
  assert_slice(e.filter, S("b/#"));
  assert_true(e.qos == 1 && !e.no_local && !e.retain_as_published && e.retain_handling == 0);
  assert_true(lv_mqtt_subscribe_next(5, &s.list, &e));
  assert_int_equal(e.filter.n, 0);
  assert_false(lv_mqtt_subscribe_next(5, &s.list, &e));
  assert_int_equal(lv_mqtt_unsubscribe_decode(4, S("\0\7\0\1a\0\3b/#"), &s), 0);
  assert_int_equal(s.packet_id, 7);
  assert_int_equal(s.count, 2);
  assert_int_equal(s.sub_id, 0);
  lv_slice f;
  assert_true(lv_mqtt_unsubscribe_next(&s.list, &f));
  assert_slice(f, S("a"));
  assert_true(lv_mqtt_unsubscribe_next(&s.list, &f));
  assert_slice(f, S("b/#"));
  assert_false(lv_mqtt_unsubscribe_next(&s.list, &f));
}

static void subacks(void **state) {
  (void)state;
  static const uint8_t codes[] = {0, 1, 2, 0x87, 0x8F};
  uint8_t d[300], many[200] = {0};
  assert_slice(lv_slice_of(d, lv_mqtt_suback_encode(4, LV_MQTT_SUBACK, 258, codes, 5, d)),
               S("\x90\7\1\2\0\1\2\x80\x80"));
  assert_slice(lv_slice_of(d, lv_mqtt_suback_encode(5, LV_MQTT_SUBACK, 258, codes, 5, d)),
               S("\x90\x08\1\2\0\0\1\2\x87\x8F"));
  assert_slice(lv_slice_of(d, lv_mqtt_suback_encode(4, LV_MQTT_UNSUBACK, 1, codes, 5, d)),
               S("\xB0\2\0\1"));
  assert_slice(lv_slice_of(d, lv_mqtt_suback_encode(5, LV_MQTT_UNSUBACK, 1, codes, 1, d)),
               S("\xB0\4\0\1\0\0"));
  assert_int_equal(lv_mqtt_suback_size(4, 5), 9);
  assert_int_equal(lv_mqtt_suback_size(5, 5), 10);
  uint32_t n = lv_mqtt_suback_encode(5, LV_MQTT_SUBACK, 1, many, 200, d);
  assert_int_equal(n, lv_mqtt_suback_size(5, 200));
  assert_int_equal(n, 206);
}

static const struct {
  const char *what;
  lv_slice in;
  int want;
  uint8_t version, type, reason;
} acks[] = {
    {"puback", B("\0\1"), 0, 4, LV_MQTT_PUBACK, 0},
    {"cut", B("\0"), LV_E_MALFORMED, 4, LV_MQTT_PUBACK, 0},
    {"id 0", B("\0\0"), LV_E_PROTOCOL, 4, LV_MQTT_PUBREL, 0},
    {"3.1.1 trailing", B("\0\1\0"), LV_E_MALFORMED, 4, LV_MQTT_PUBACK, 0},
    {"5.0 short", B("\0\1"), 0, 5, LV_MQTT_PUBCOMP, 0},
    {"no subscribers", B("\0\1\x10"), 0, 5, LV_MQTT_PUBREC, 0x10},
    {"quota", B("\0\1\x97"), 0, 5, LV_MQTT_PUBACK, 0x97},
    {"reason not of PUBACK", B("\0\1\x92"), LV_E_PROTOCOL, 5, LV_MQTT_PUBACK, 0},
    {"reason of nothing", B("\0\1\xC1"), LV_E_PROTOCOL, 5, LV_MQTT_PUBREC, 0},
    {"reason behind the table", B("\0\1\xC0"), LV_E_PROTOCOL, 5, LV_MQTT_PUBREC, 0},
    {"id not found", B("\0\1\x92"), 0, 5, LV_MQTT_PUBREL, 0x92},
    {"reason not of PUBREL", B("\0\1\x10"), LV_E_PROTOCOL, 5, LV_MQTT_PUBREL, 0},
    {"no properties", B("\0\1\0\0"), 0, 5, LV_MQTT_PUBACK, 0},
    {"text", B("\0\1\x87\x0A\x1F\0\2no\x26\0\0\0\0"), 0, 5, LV_MQTT_PUBACK, 0x87},
    {"text twice", B("\0\1\0\x08\x1F\0\1a\x1F\0\1b"), LV_E_PROTOCOL, 5, LV_MQTT_PUBACK, 0},
    {"trailing", B("\0\1\0\0\0"), LV_E_MALFORMED, 5, LV_MQTT_PUBACK, 0},
    {"properties cut", B("\0\1\0\4\x1F\0\2n"), LV_E_MALFORMED, 5, LV_MQTT_PUBACK, 0},
    {"another property", B("\0\1\0\2\1\1"), LV_E_MALFORMED, 5, LV_MQTT_PUBACK, 0},
};

static void acks_in(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(acks); i++) {
    lv_slice b = heap_copy(acks[i].in);
    lv_mqtt_ack a = {0};
    assert_err(lv_mqtt_ack_decode(acks[i].version, acks[i].type, b, &a), acks[i].want,
               acks[i].what);
    assert_int_equal(a.packet_id, acks[i].want ? 0 : 1);
    assert_int_equal(a.reason, acks[i].reason);
    if (acks[i].reason == 0x87) assert_slice(a.reason_string, S("no"));
    heap_free(b);
  }
}

static void acks_out(void **state) {
  (void)state;
  uint8_t d[LV_MQTT_ACK_MAX];
  assert_slice(lv_slice_of(d, lv_mqtt_ack_encode(4, LV_MQTT_PUBACK, 258, 0x97, S("x"), d)),
               S("\x40\2\1\2"));
  assert_slice(lv_slice_of(d, lv_mqtt_ack_encode(5, LV_MQTT_PUBREL, 1, 0, S(""), d)),
               S("\x62\2\0\1"));
  assert_slice(lv_slice_of(d, lv_mqtt_ack_encode(5, LV_MQTT_PUBREC, 1, 0x97, S(""), d)),
               S("\x50\3\0\1\x97"));
  assert_slice(lv_slice_of(d, lv_mqtt_ack_encode(5, LV_MQTT_PUBCOMP, 1, 0x92, S("no"), d)),
               S("\x70\x09\0\1\x92\5\x1F\0\2no"));
  char text[200];
  memset(text, 't', sizeof text);
  lv_slice long_text = {(const uint8_t *)text, LV_MQTT_TEXT_MAX};
  uint32_t n = lv_mqtt_ack_encode(5, LV_MQTT_PUBACK, 1, 0x80, long_text, d);
  assert_int_equal(n, 9 + LV_MQTT_TEXT_MAX);
  lv_mqtt_ack a;
  assert_int_equal(d[1], n - 2);
  assert_int_equal(lv_mqtt_ack_decode(5, LV_MQTT_PUBACK, lv_slice_of(d + 2, n - 2), &a), 0);
  assert_slice(a.reason_string, long_text);
  long_text.n++;
  assert_int_equal(lv_mqtt_ack_encode(5, LV_MQTT_PUBACK, 1, 0x80, long_text, d), 5);
}

static const row disconnects[] = {
    {"3.1.1", B(""), 0, 4},
    {"3.1.1 trailing", B("\0"), LV_E_MALFORMED, 4},
    {"plain", B(""), 0, 5},
    {"with will", B("\4"), 0, 5},
    {"no such reason", B("\3"), LV_E_PROTOCOL, 5},
    {"no such error", B("\xA3"), LV_E_PROTOCOL, 5},
    {"quota exceeded", B("\x97"), 0, 5},
    {"server shutting down", B("\x8B"), LV_E_PROTOCOL, 5},
    {"session taken over", B("\x8E\0"), LV_E_PROTOCOL, 5},
    {"server moved", B("\x9D"), LV_E_PROTOCOL, 5},
    {"server reference", B("\0\4\x1C\0\1x"), LV_E_PROTOCOL, 5},
    {"no properties", B("\0\0"), 0, 5},
    {"expiry", B("\0\5\x11\0\0\0\7"), 0, 5},
    {"expiry twice", B("\0\x0A\x11\0\0\0\7\x11\0\0\0\7"), LV_E_PROTOCOL, 5},
    {"text", B("\x81\5\x1F\0\2no"), 0, 5},
    {"another property", B("\0\3\x21\0\1"), LV_E_MALFORMED, 5},
    {"trailing", B("\0\0\0"), LV_E_MALFORMED, 5},
    {"properties cut", B("\0\5\x11\0\0\0"), LV_E_MALFORMED, 5},
};

static void disconnect(void **state) {
  (void)state;
  lv_mqtt_disconnect m;
  for (size_t i = 0; i < COUNT(disconnects); i++) {
    lv_slice b = heap_copy(disconnects[i].in);
    assert_err(lv_mqtt_disconnect_decode(disconnects[i].version, b, &m), disconnects[i].want,
               disconnects[i].what);
    heap_free(b);
  }
  assert_int_equal(lv_mqtt_disconnect_decode(5, S("\4\5\x11\0\0\0\7"), &m), 0);
  assert_true(m.reason == 4 && m.has_session_expiry && m.session_expiry_s == 7);
  assert_int_equal(m.reason_string.n, 0);
  assert_int_equal(lv_mqtt_disconnect_decode(5, S("\x81\5\x1F\0\2no"), &m), 0);
  assert_slice(m.reason_string, S("no"));
  assert_int_equal(lv_mqtt_disconnect_decode(5, S(""), &m), 0);
  assert_true(m.reason == 0 && !m.has_session_expiry);
  uint8_t d[LV_MQTT_ACK_MAX];
  assert_slice(lv_slice_of(d, lv_mqtt_disconnect_encode(0, S(""), d)), S("\xE0\0"));
  assert_slice(lv_slice_of(d, lv_mqtt_disconnect_encode(0x8B, S(""), d)), S("\xE0\1\x8B"));
  assert_slice(lv_slice_of(d, lv_mqtt_disconnect_encode(0x81, S("no"), d)),
               S("\xE0\7\x81\5\x1F\0\2no"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(shapes),  cmocka_unit_test(lists),    cmocka_unit_test(subacks),
      cmocka_unit_test(acks_in), cmocka_unit_test(acks_out), cmocka_unit_test(disconnect),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
