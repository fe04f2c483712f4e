/* test_mqtt_connect.c: fixed headers, CONNECT in both versions, CONNACK and return codes. */
#include "wire_test.h"

#include "wire/mqtt.h"

#define NAME4 "\0\4MQTT\4"
#define NAME5 "\0\4MQTT\5"

static void heads(void **state) {
  (void)state;
  static const struct {
    const char *what;
    lv_slice in;
    int want;
    uint32_t remaining;
    uint8_t type, len;
    bool minimal;
  } rows[] = {
      {"nothing", B(""), LV_E_NEED_MORE, 0, 0, 0, 0},
      {"type only", B("\xC0"), LV_E_NEED_MORE, 0, 0, 0, 0},
      {"pingreq", B("\xC0\0"), 0, 0, LV_MQTT_PINGREQ, 2, 1},
      {"127", B("\x30\x7F"), 0, 127, LV_MQTT_PUBLISH, 2, 1},
      {"128", B("\x30\x80\1"), 0, 128, LV_MQTT_PUBLISH, 3, 1},
      {"cut at 128", B("\x30\x80"), LV_E_NEED_MORE, 0, 0, 0, 0},
      {"16384", B("\x30\x80\x80\1"), 0, 16384, LV_MQTT_PUBLISH, 4, 1},
      {"most", B("\x30\xFF\xFF\xFF\x7F"), 0, LV_MQTT_REMAINING_MAX, LV_MQTT_PUBLISH, 5, 1},
      {"five bytes", B("\x30\xFF\xFF\xFF\xFF\1"), LV_E_MALFORMED, 0, 0, 0, 0},
      {"five bytes, cut", B("\x30\xFF\xFF\xFF\xFF"), LV_E_MALFORMED, 0, 0, 0, 0},
      {"long form", B("\x10\x8A\x80\0"), 0, 10, LV_MQTT_CONNECT, 4, 0},
      {"long form of 0", B("\xC0\x80\0"), 0, 0, LV_MQTT_PINGREQ, 3, 0},
      {"type 0", B("\0\0"), LV_E_MALFORMED, 0, 0, 0, 0},
      {"type 0, cut", B("\0"), LV_E_MALFORMED, 0, 0, 0, 0},
  };
  for (size_t i = 0; i < COUNT(rows); i++) {
    lv_slice in = heap_copy(rows[i].in);
    lv_mqtt_head h = {0};
    assert_err(lv_mqtt_head_decode(in.p, in.n, &h), rows[i].want, rows[i].what);
    assert_int_equal(h.remaining, rows[i].remaining);
    assert_int_equal(h.type, rows[i].type);
    assert_int_equal(h.len, rows[i].len);
    if (rows[i].want == 0) assert_int_equal(lv_mqtt_head_minimal(&h), rows[i].minimal);
    heap_free(in);
  }
}

/* §2.1.3: each type has one legal value of the flags, PUBLISH has all. */
static void head_flags(void **state) {
  (void)state;
  for (unsigned type = 1; type < 16; type++) {
    for (unsigned flags = 0; flags < 16; flags++) {
      bool two = type == LV_MQTT_PUBREL || type == LV_MQTT_SUBSCRIBE || type == LV_MQTT_UNSUBSCRIBE;
      bool good = type == LV_MQTT_PUBLISH || flags == (two ? 2 : 0);
      uint8_t in[2] = {(uint8_t)(type << 4 | flags), 0};
      lv_mqtt_head h;
      assert_int_equal(lv_mqtt_head_decode(in, 2, &h), good ? 0 : LV_E_MALFORMED);
      if (good) assert_true(h.type == type && h.flags == flags);
    }
  }
}

static int decode(lv_slice body, lv_mqtt_connect *c, uint8_t *scratch) {
  return lv_mqtt_connect_decode(body, scratch, c);
}

static void connect_v3(void **state) {
  (void)state;
  uint8_t scratch[256];
  lv_mqtt_connect c;
  lv_slice b = S(NAME4 "\xEE\0\x3C\0\2id\0\3w/t\0\3bye\0\1u\0\2p\0");
  assert_int_equal(decode(b, &c, scratch), 0);
  assert_int_equal(c.version, LV_MQTT_V3);
  assert_true(c.clean_start && c.has_user && c.has_password && c.will.present && c.will.retain);
  assert_int_equal(c.will.qos, 1);
  assert_int_equal(c.keep_alive_s, 60);
  assert_int_equal(c.session_expiry_s, 0);
  assert_int_equal(c.receive_max, 65535);
  assert_int_equal(c.max_packet, 0);
  assert_true(c.request_problem);
  assert_slice(c.client_id, S("id"));
  assert_slice(c.will.topic, S("w/t"));
  assert_slice(c.will.payload, S("bye"));
  assert_int_equal(c.will.props.n, 0);
  assert_slice(c.user, S("u"));
  assert_slice(c.password, S("p\0"));
  assert_int_equal(decode(S(NAME4 "\0\0\0\0\1i"), &c, scratch), 0);
  assert_true(!c.clean_start && !c.has_user && !c.will.present);
  assert_int_equal(c.session_expiry_s, UINT32_MAX);
}

static void connect_v5(void **state) {
  (void)state;
  uint8_t scratch[256];
  lv_mqtt_connect c;
  lv_slice b = S(NAME5 "\xF6\0\1\x2E"   /* flags, keep-alive, 46 bytes of properties */
                       "\x11\0\0\0\x0A" /* session expiry */
                       "\x21\0\x14"     /* receive maximum */
                       "\x27\0\0\1\0"   /* maximum packet */
                       "\x22\0\5"       /* topic alias maximum */
                       "\x19\1\x17\0"   /* response information yes, problem information no */
                       "\x26\0\1a\0\1b"
                       "\x26\0\1a\0\1c"
                       "\x15\0\2me"
                       "\x16\0\4\0\1\2\3"
                       "\0\0"         /* client id */
                       "\x1F"         /* 31 bytes of will properties */
                       "\x18\0\0\0\7" /* delay */
                       "\1\1"         /* payload format */
                       "\2\0\0\0\x1E" /* message expiry */
                       "\3\0\1t"      /* content type */
                       "\x08\0\1r"    /* response topic */
                       "\x09\0\1\xFF" /* correlation data */
                       "\x26\0\1k\0\1v"
                       "\0\1w\0\2hi\0\1u\0\1p");
  assert_err(decode(b, &c, scratch), 0, "full 5.0");
  assert_int_equal(c.session_expiry_s, 10);
  assert_int_equal(c.receive_max, 20);
  assert_int_equal(c.max_packet, 256);
  assert_int_equal(c.topic_alias_max, 5);
  assert_true(c.request_response && !c.request_problem);
  assert_slice(c.auth_method, S("me"));
  assert_slice(c.auth_data, S("\0\1\2\3"));
  assert_int_equal(c.client_id.n, 0);
  lv_slice v;
  assert_true(lv_mqtt_user_find(c.user_props, S("a"), &v));
  assert_slice(v, S("b"));
  assert_false(lv_mqtt_user_find(c.user_props, S("b"), &v));
  assert_int_equal(c.will.delay_s, 7);
  assert_true(c.will.has_expiry);
  assert_int_equal(c.will.expiry_s, 30);
  assert_int_equal(c.will.qos, 2);
  assert_slice(c.will.props, S("\1\1\3\0\1t\x08\0\1r\x09\0\1\xFF\x26\0\1k\0\1v"));
  assert_slice(c.will.payload, S("hi"));
  /* cut anywhere, it is malformed, and nothing is read behind the cut */
  for (uint32_t n = 0; n < b.n; n++) {
    lv_slice cut = heap_copy((lv_slice){b.p, n});
    assert_int_equal(decode(cut, &c, scratch), LV_E_MALFORMED);
    heap_free(cut);
  }
}

/* A will without properties to leave out points into the packet itself. */
static void will_in_place(void **state) {
  (void)state;
  uint8_t scratch[64];
  lv_mqtt_connect c;
  lv_slice b = S(NAME5 "\6\0\0\0\0\1i\2\1\0\0\1w\0\0");
  assert_int_equal(decode(b, &c, scratch), 0);
  assert_ptr_equal(c.will.props.p, b.p + 15);
  assert_int_equal(c.will.props.n, 2);
}

static const struct {
  const char *what;
  lv_slice in;
  int want;
  uint8_t version;
} refused[] = {
    {"level 3", B("\0\6MQIsdp\3\2\0\0\0\1i"), LV_E_VERSION, 3},
    {"level 6", B("\0\4MQTT\6\2\0\0\0\1i"), LV_E_VERSION, 6},
    {"level 3 under the new name", B("\0\4MQTT\3\2\0\0\0\1i"), LV_E_VERSION, 3},
    {"a bridge's level", B("\0\4MQTT\x84\2\0\0\0\1i"), LV_E_VERSION, 4},
    {"another protocol", B("\0\4HTTP\4\2\0\0\0\1i"), LV_E_MALFORMED, 0},
    {"name in lower case", B("\0\4mqtt\4\2\0\0\0\1i"), LV_E_MALFORMED, 0},
    {"reserved flag", B(NAME4 "\3\0\0\0\1i"), LV_E_MALFORMED, 4},
    {"will QoS 3", B(NAME4 "\x1E\0\0\0\1i\0\1w\0\0"), LV_E_MALFORMED, 4},
    {"will QoS without will", B(NAME4 "\x0A\0\0\0\1i"), LV_E_MALFORMED, 4},
    {"will retain without will", B(NAME4 "\x22\0\0\0\1i"), LV_E_MALFORMED, 4},
    {"3.1.1 password without user", B(NAME4 "\x42\0\0\0\1i\0\1p"), LV_E_MALFORMED, 4},
    {"3.1.1 no id, kept session", B(NAME4 "\0\0\0\0\0"), LV_E_CLIENT_ID, 4},
    {"trailing byte", B(NAME4 "\2\0\0\0\1ix"), LV_E_MALFORMED, 4},
    {"id with NUL", B(NAME4 "\2\0\0\0\2a\0"), LV_E_MALFORMED, 4},
    {"id with a surrogate", B(NAME4 "\2\0\0\0\3\xED\xA0\x80"), LV_E_MALFORMED, 4},
    {"id not UTF-8, long",
     B(NAME4 "\2\0\0\0\x09"
             "abcdefgh\xFF"),
     LV_E_MALFORMED, 4},
    {"user with NUL", B(NAME4 "\x82\0\0\0\1i\0\1\0"), LV_E_MALFORMED, 4},
    {"will topic empty", B(NAME4 "\6\0\0\0\1i\0\0\0\0"), LV_E_TOPIC, 4},
    {"will topic wild", B(NAME4 "\6\0\0\0\1i\0\3a/+\0\0"), LV_E_TOPIC, 4},
    {"will topic not UTF-8", B(NAME4 "\6\0\0\0\1i\0\1\x80\0\0"), LV_E_MALFORMED, 4},
    {"receive maximum 0", B(NAME5 "\2\0\0\3\x21\0\0\0\0"), LV_E_PROTOCOL, 5},
    {"maximum packet 0", B(NAME5 "\2\0\0\5\x27\0\0\0\0\0\0"), LV_E_PROTOCOL, 5},
    {"request problem 2", B(NAME5 "\2\0\0\2\x17\2\0\0"), LV_E_PROTOCOL, 5},
    {"request response 2", B(NAME5 "\2\0\0\2\x19\2\0\0"), LV_E_PROTOCOL, 5},
    {"expiry twice", B(NAME5 "\2\0\0\x0A\x11\0\0\0\1\x11\0\0\0\1\0\0"), LV_E_PROTOCOL, 5},
    {"auth data alone", B(NAME5 "\2\0\0\4\x16\0\1x\0\0"), LV_E_PROTOCOL, 5},
    {"property of PUBLISH", B(NAME5 "\2\0\0\2\1\1\0\0"), LV_E_MALFORMED, 5},
    {"unknown property", B(NAME5 "\2\0\0\2\x7F\1\0\0"), LV_E_MALFORMED, 5},
    {"property id 0", B(NAME5 "\2\0\0\2\0\1\0\0"), LV_E_MALFORMED, 5},
    {"property past the block", B(NAME5 "\2\0\0\3\x11\0\0\0\0\0\0"), LV_E_MALFORMED, 5},
    {"block past the body", B(NAME5 "\2\0\0\x50\x11\0\0\0\1\0\0"), LV_E_MALFORMED, 5},
    {"block length in long form", B(NAME5 "\2\0\0\x80\0\0\0"), LV_E_MALFORMED, 5},
    {"will: expiry of sessions", B(NAME5 "\6\0\0\0\0\0\5\x11\0\0\0\1\0\1w\0\0"), LV_E_MALFORMED, 5},
    {"will: delay twice", B(NAME5 "\6\0\0\0\0\0\x0A\x18\0\0\0\1\x18\0\0\0\1\0\1w\0\0"),
     LV_E_PROTOCOL, 5},
    {"will: payload format 2", B(NAME5 "\6\0\0\0\0\0\2\1\2\0\1w\0\0"), LV_E_PROTOCOL, 5},
    {"will: response topic wild", B(NAME5 "\6\0\0\0\0\0\4\x08\0\1#\0\1w\0\0"), LV_E_PROTOCOL, 5},
    {"will: not the UTF-8 it says", B(NAME5 "\6\0\0\0\0\0\2\1\1\0\1w\0\1\xFF"), LV_E_PAYLOAD, 5},
};

static void connect_refused(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(refused); i++) {
    lv_slice b = heap_copy(refused[i].in);
    uint8_t *scratch = malloc(b.n);
    lv_mqtt_connect c = {.version = 99, .keep_alive_s = 4242};
    assert_err(decode(b, &c, scratch), refused[i].want, refused[i].what);
    assert_int_equal(c.version, refused[i].version);
    assert_int_equal(c.keep_alive_s, 4242);
    free(scratch);
    heap_free(b);
  }
}

static void connect_accepted(void **state) {
  (void)state;
  static const struct {
    const char *what;
    lv_slice in;
  } rows[] = {
      {"5.0 password without user", B(NAME5 "\x42\0\0\0\0\0\0\1p")},
      {"3.1.1 no id, clean", B(NAME4 "\2\0\0\0\0")},
      {"5.0 no id, kept session", B(NAME5 "\0\0\0\0\0\0")},
      {"empty user and password", B(NAME4 "\xC2\0\0\0\1i\0\0\0\0")},
      {"binary password", B(NAME4 "\xC2\0\0\0\1i\0\1u\0\2\0\xFF")},
      {"id in UTF-8", B(NAME4 "\2\0\0\0\4\xF0\x9F\x98\x80")},
      {"id with a byte order mark", B(NAME4 "\2\0\0\0\3\xEF\xBB\xBF")},
      {"request problem 1, response 1", B(NAME5 "\2\0\0\4\x17\1\x19\1\0\0")},
      {"empty user property", B(NAME5 "\2\0\0\5\x26\0\0\0\0\0\0")},
  };
  uint8_t scratch[64];
  for (size_t i = 0; i < COUNT(rows); i++) {
    lv_slice b = heap_copy(rows[i].in);
    lv_mqtt_connect c;
    assert_err(decode(b, &c, scratch), 0, rows[i].what);
    heap_free(b);
  }
}

static void connack(void **state) {
  (void)state;
  uint8_t d[LV_MQTT_CONNACK_MAX];
  lv_mqtt_connack c = {.version = LV_MQTT_V3, .session_present = true};
  assert_slice(lv_slice_of(d, lv_mqtt_connack_encode(&c, d)), S("\x20\2\1\0"));
  c.reason = 0x86;
  assert_slice(lv_slice_of(d, lv_mqtt_connack_encode(&c, d)), S("\x20\2\0\4"));
  c = (lv_mqtt_connack){.version = LV_MQTT_V5, .session_present = true};
  assert_slice(lv_slice_of(d, lv_mqtt_connack_encode(&c, d)), S("\x20\3\1\0\0"));
  c = (lv_mqtt_connack){.version = LV_MQTT_V5,
                        .has_session_expiry = true,
                        .session_expiry_s = 9,
                        .receive_max = 32,
                        .max_packet = 1024,
                        .topic_alias_max = 8,
                        .server_keep_alive = 60,
                        .has_server_keep_alive = true,
                        .assigned_client_id = S("x1"),
                        .reason_string = S("why")};
  assert_slice(
      lv_slice_of(d, lv_mqtt_connack_encode(&c, d)),
      S("\x20\x21\0\0\x1E\x11\0\0\0\x09\x21\0\x20\x27\0\0\4\0\x22\0\x08\x13\0\x3C\x12\0\2x1"
        "\x1F\0\3why"));
  /* text that does not fit is left out, what fits stays */
  char big[600];
  memset(big, 'r', sizeof big);
  c.reason_string = (lv_slice){(const uint8_t *)big, sizeof big};
  assert_int_equal(lv_mqtt_connack_encode(&c, d), 29);
  c.reason_string.n = LV_MQTT_CONNACK_MAX - 7 - 24 - 3;
  assert_int_equal(lv_mqtt_connack_encode(&c, d), LV_MQTT_CONNACK_MAX);
  c.reason_string.n++;
  assert_int_equal(lv_mqtt_connack_encode(&c, d), 29);
}

static void return_codes(void **state) {
  (void)state;
  static const uint8_t rows[][2] = {{0, 0},    {0x84, 1}, {0x85, 2}, {0x88, 3}, {0x89, 3},
                                    {0x86, 4}, {0x8C, 4}, {0x87, 5}, {0x8A, 5}, {0x97, 3}};
  for (size_t i = 0; i < COUNT(rows); i++)
    assert_int_equal(lv_mqtt_return_code(rows[i][0]), rows[i][1]);
  for (unsigned r = 0x80; r < 0x100; r++) {
    uint8_t code = lv_mqtt_return_code((uint8_t)r);
    assert_true(code >= 1 && code <= 5);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(heads),
      cmocka_unit_test(head_flags),
      cmocka_unit_test(connect_v3),
      cmocka_unit_test(connect_v5),
      cmocka_unit_test(will_in_place),
      cmocka_unit_test(connect_refused),
      cmocka_unit_test(connect_accepted),
      cmocka_unit_test(connack),
      cmocka_unit_test(return_codes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
