/* test_mqtt_publish.c: PUBLISH both ways, property blocks, counting encoded packets. */
#include "wire_test.h"

#include "wire/mqtt.h"

static const struct {
  const char *what;
  lv_slice in;
  int want;
  uint8_t version, flags;
} refused[] = {
    {"empty", B(""), LV_E_MALFORMED, 4, 0},
    {"half a length", B("\0"), LV_E_MALFORMED, 4, 0},
    {"topic cut", B("\0\4abc"), LV_E_MALFORMED, 4, 0},
    {"QoS 3", B("\0\1a\0\1"), LV_E_MALFORMED, 4, 6},
    {"DUP at QoS 0", B("\0\1a"), LV_E_MALFORMED, 4, 8},
    {"no packet id", B("\0\1a"), LV_E_MALFORMED, 4, 2},
    {"half a packet id", B("\0\1a\0"), LV_E_MALFORMED, 4, 2},
    {"packet id 0", B("\0\1a\0\0"), LV_E_PROTOCOL, 4, 2},
    {"empty topic", B("\0\0x"), LV_E_TOPIC, 4, 0},
    {"empty topic without alias", B("\0\0\0x"), LV_E_PROTOCOL, 5, 0},
    {"wild +", B("\0\3a/+"), LV_E_TOPIC, 4, 0},
    {"wild # first", B("\0\1#"), LV_E_TOPIC, 4, 0},
    {"wild in a long topic",
     B("\0\x0C"
       "abcdefgh#jkl"),
     LV_E_TOPIC, 4, 0},
    {"wild at the end",
     B("\0\x0B"
       "abcdefghij+"),
     LV_E_TOPIC, 4, 0},
    {"wild, 5.0", B("\0\3a/+\0"), LV_E_TOPIC, 5, 0},
    {"topic with NUL", B("\0\3a\0b"), LV_E_MALFORMED, 4, 0},
    {"NUL in a long topic",
     B("\0\x0C"
       "abcdefg\0ijkl"),
     LV_E_MALFORMED, 4, 0},
    {"NUL at the end",
     B("\0\x0A"
       "abcdefghi\0"),
     LV_E_MALFORMED, 4, 0},
    {"topic overlong UTF-8", B("\0\2\xC0\xAF"), LV_E_MALFORMED, 4, 0},
    {"topic surrogate",
     B("\0\x0B"
       "abcdefgh\xED\xA0\x80"),
     LV_E_MALFORMED, 4, 0},
    {"topic above U+10FFFF", B("\0\4\xF4\x90\x80\x80"), LV_E_MALFORMED, 4, 0},
    {"topic cut in a character", B("\0\2a\xC3"), LV_E_MALFORMED, 4, 0},
    {"no property length", B("\0\1a"), LV_E_MALFORMED, 5, 0},
    {"property length past the end", B("\0\1a\5\1\1"), LV_E_MALFORMED, 5, 0},
    {"property length in long form", B("\0\1a\x80\0"), LV_E_MALFORMED, 5, 0},
    {"property length of five bytes", B("\0\1a\xFF\xFF\xFF\xFF\1"), LV_E_MALFORMED, 5, 0},
    {"unknown property", B("\0\1a\2\x04\1"), LV_E_MALFORMED, 5, 0},
    {"property above the table", B("\0\1a\2\xFE\1"), LV_E_MALFORMED, 5, 0},
    {"property of CONNECT", B("\0\1a\3\x21\0\1"), LV_E_MALFORMED, 5, 0},
    {"will delay", B("\0\1a\5\x18\0\0\0\1"), LV_E_MALFORMED, 5, 0},
    {"payload format 2", B("\0\1a\2\1\2"), LV_E_PROTOCOL, 5, 0},
    {"payload format twice", B("\0\1a\4\1\1\1\1"), LV_E_PROTOCOL, 5, 0},
    {"expiry twice", B("\0\1a\x0A\2\0\0\0\1\2\0\0\0\1"), LV_E_PROTOCOL, 5, 0},
    {"expiry cut", B("\0\1a\3\2\0\0"), LV_E_MALFORMED, 5, 0},
    {"content type twice", B("\0\1a\x08\3\0\1x\3\0\1x"), LV_E_PROTOCOL, 5, 0},
    {"content type not UTF-8", B("\0\1a\4\3\0\1\xFF"), LV_E_MALFORMED, 5, 0},
    {"response topic wild", B("\0\1a\4\x08\0\1+"), LV_E_PROTOCOL, 5, 0},
    {"response topic empty", B("\0\1a\3\x08\0\0"), LV_E_PROTOCOL, 5, 0},
    {"correlation twice", B("\0\1a\x08\x09\0\1x\x09\0\1x"), LV_E_PROTOCOL, 5, 0},
    {"alias 0", B("\0\1a\3\x23\0\0"), LV_E_TOPIC_ALIAS, 5, 0},
    {"alias twice", B("\0\1a\6\x23\0\1\x23\0\1"), LV_E_PROTOCOL, 5, 0},
    {"subscription id to a server", B("\0\1a\2\x0B\1"), LV_E_PROTOCOL, 5, 0},
    {"user property without value", B("\0\1a\4\x26\0\1k"), LV_E_MALFORMED, 5, 0},
    {"user property with NUL", B("\0\1a\7\x26\0\1\0\0\1v"), LV_E_MALFORMED, 5, 0},
};

static void publish_refused(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(refused); i++) {
    lv_slice b = heap_copy(refused[i].in);
    lv_mqtt_publish m = {.packet_id = 4242};
    assert_err(lv_mqtt_publish_decode(refused[i].version, refused[i].flags, b, true, &m),
               refused[i].want, refused[i].what);
    assert_int_equal(m.packet_id, 4242);
    heap_free(b);
  }
}

/* Wherever a bad byte stands in a topic of any length, it is found; and nothing else is. */
static void topic_scan(void **state) {
  (void)state;
  for (uint32_t n = 1; n <= 40; n++) {
    uint8_t *b = malloc(2 + n);
    b[0] = 0;
    b[1] = (uint8_t)n;
    lv_slice body = {b, 2 + n};
    lv_mqtt_publish m;
    for (uint32_t at = 0; at < n; at++) {
      for (unsigned c = 0; c < 256; c++) {
        memset(b + 2, 'a', n);
        b[2 + at] = (uint8_t)c;
        int want = c == 0 || c >= 0x80 ? LV_E_MALFORMED : c == '+' || c == '#' ? LV_E_TOPIC : 0;
        assert_int_equal(lv_mqtt_publish_decode(4, 0, body, true, &m), want);
      }
    }
    free(b);
  }
}

static void publish_v3(void **state) {
  (void)state;
  lv_mqtt_publish m;
  assert_int_equal(lv_mqtt_publish_decode(4, 0x0B, S("\0\3a/b\1\2pay"), true, &m), 0);
  assert_true(m.dup && m.retain && m.qos == 1 && !m.has_alias && !m.has_expiry && !m.utf8);
  assert_int_equal(m.packet_id, 258);
  assert_slice(m.topic, S("a/b"));
  assert_slice(m.payload, S("pay"));
  assert_int_equal(m.raw_props.n, 0);
  assert_int_equal(m.forward_len, 0);
  assert_int_equal(lv_mqtt_publish_decode(4, 0, S("\0\1a"), true, &m), 0);
  assert_int_equal(m.payload.n, 0);
  assert_int_equal(m.packet_id, 0);
}

static void publish_v5(void **state) {
  (void)state;
  lv_mqtt_publish m;
  uint8_t buf[64];
  assert_int_equal(lv_mqtt_publish_decode(5, 2, S("\0\1a\0\7\0pay"), true, &m), 0);
  assert_slice(m.payload, S("pay"));
  lv_slice b = S("\0\1a\0\7\x1D"
                 "\1\1\2\0\0\0\x3C\3\0\1t\x23\0\5\x26\0\1k\0\1v\x08\0\1r\x09\0\1\xFF"
                 "pay");
  assert_int_equal(lv_mqtt_publish_decode(5, 2, b, true, &m), 0);
  assert_true(m.utf8 && m.has_alias && m.has_expiry);
  assert_int_equal(m.alias, 5);
  assert_int_equal(m.expiry_s, 60);
  assert_int_equal(m.raw_props.n, 29);
  assert_int_equal(m.forward_len, 21);
  assert_slice(lv_mqtt_publish_forward(&m, buf),
               S("\1\1\3\0\1t\x26\0\1k\0\1v\x08\0\1r\x09\0\1\xFF"));
  assert_slice(m.payload, S("pay"));
  lv_slice v;
  assert_true(lv_mqtt_user_find(m.raw_props, S("k"), &v));
  assert_slice(v, S("v"));
  /* nothing to leave out: the block itself */
  assert_int_equal(lv_mqtt_publish_decode(5, 0, S("\0\1a\2\1\0x"), true, &m), 0);
  assert_false(m.utf8);
  assert_ptr_equal(lv_mqtt_publish_forward(&m, buf).p, m.raw_props.p);
  /* an alias in place of the topic */
  assert_int_equal(lv_mqtt_publish_decode(5, 0, S("\0\0\3\x23\0\1x"), true, &m), 0);
  assert_int_equal(m.topic.n, 0);
  assert_int_equal(m.alias, 1);
  /* subscription ids, towards a client: several, never 0 */
  assert_int_equal(lv_mqtt_publish_decode(5, 0, S("\0\1a\5\x0B\x80\1\x0B\2x"), false, &m), 0);
  assert_int_equal(m.sub_id, 128);
  assert_int_equal(lv_mqtt_publish_decode(5, 0, S("\0\1a\2\x0B\0"), false, &m), LV_E_PROTOCOL);
  assert_int_equal(lv_mqtt_publish_decode(5, 0, S("\0\1a\3\x0B\x81\0"), false, &m), LV_E_MALFORMED);
  /* UTF-8 in the topic, of each length */
  lv_slice u = heap_copy(S("\0\x09\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\0"));
  assert_int_equal(lv_mqtt_publish_decode(5, 0, u, true, &m), 0);
  heap_free(u);
}

static void property_walk(void **state) {
  (void)state;
  lv_slice b = S("\x21\1\2\x0B\xFF\x7F\x26\0\1k\0\0\x16\0\1\0");
  lv_mqtt_property p;
  assert_int_equal(lv_mqtt_property_next(&b, &p), 1);
  assert_true(p.id == LV_MQTT_P_RECEIVE_MAX && p.u == 258);
  assert_int_equal(lv_mqtt_property_next(&b, &p), 1);
  assert_true(p.id == LV_MQTT_P_SUBSCRIPTION_ID && p.u == 16383);
  assert_int_equal(lv_mqtt_property_next(&b, &p), 1);
  assert_slice(p.s, S("k"));
  assert_int_equal(p.s2.n, 0);
  assert_int_equal(lv_mqtt_property_next(&b, &p), 1);
  assert_slice(p.s, S("\0"));
  assert_int_equal(lv_mqtt_property_next(&b, &p), 0);
  /* every id: known or refused; cut short at every length */
  for (unsigned id = 0; id < 256; id++) {
    uint8_t raw[6] = {(uint8_t)id, 0, 0, 0, 0, 0};
    lv_slice one = {raw, 1};
    assert_int_equal(lv_mqtt_property_next(&one, &p), LV_E_MALFORMED);
    one = (lv_slice){raw, 6};
    static const uint8_t known[] = {1,    2,    3,    8,    9,    0x0B, 0x11, 0x12, 0x13,
                                    0x15, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1C, 0x1F, 0x21,
                                    0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A};
    bool is = memchr(known, (int)id, sizeof known) != NULL;
    assert_int_equal(lv_mqtt_property_next(&one, &p), is ? 1 : LV_E_MALFORMED);
  }
}

/* Encodes, compares with `want`, and (with its payload) decodes again to the same values. */
static void check_out(const lv_mqtt_publish_out *o, lv_slice want) {
  uint32_t size, remaining, head_size, head_remaining;
  assert_int_equal(lv_mqtt_publish_size(o, false, &size, &remaining), 0);
  assert_int_equal(size, want.n);
  uint8_t *d = malloc(size);
  assert_ptr_equal(lv_mqtt_publish_encode(o, false, remaining, d), d + size);
  assert_memory_equal(d, want.p, size);
  assert_int_equal(lv_mqtt_count_publishes(d, size), 1);
  assert_int_equal(lv_mqtt_count_publishes(d, size - 1), 0);
  lv_mqtt_head h;
  lv_mqtt_publish m;
  assert_int_equal(lv_mqtt_head_decode(d, size, &h), 0);
  assert_true(h.type == LV_MQTT_PUBLISH && h.remaining == remaining && h.len + remaining == size);
  assert_int_equal(
      lv_mqtt_publish_decode(o->version, h.flags, lv_slice_of(d + h.len, remaining), false, &m), 0);
  assert_slice(m.payload, o->payload);
  assert_int_equal(m.packet_id, o->packet_id);
  free(d);
  assert_int_equal(lv_mqtt_publish_size(o, true, &head_size, &head_remaining), 0);
  assert_int_equal(head_size, size - o->payload.n);
  assert_int_equal(head_remaining, remaining);
  d = malloc(head_size);
  assert_ptr_equal(lv_mqtt_publish_encode(o, true, remaining, d), d + head_size);
  assert_memory_equal(d, want.p, head_size);
  free(d);
}

static void encodes(void **state) {
  (void)state;
  lv_mqtt_publish_out o = {.version = 4, .topic = S("a/b"), .payload = S("pay")};
  check_out(&o, S("\x30\x08\0\3a/bpay"));
  o.props = S("\1\1"); /* 3.1.1 has none */
  check_out(&o, S("\x30\x08\0\3a/bpay"));
  o.qos = 2, o.packet_id = 258, o.dup = o.retain = true;
  check_out(&o, S("\x3D\x0A\0\3a/b\1\2pay"));
  o.version = 5;
  check_out(&o, S("\x3D\x0D\0\3a/b\1\2\2\1\1pay"));
  o = (lv_mqtt_publish_out){.version = 5, .topic = S("t")};
  check_out(&o, S("\x30\4\0\1t\0"));
  static const uint32_t ids[] = {1, 200};
  o = (lv_mqtt_publish_out){.version = 5,
                            .qos = 1,
                            .packet_id = 1,
                            .alias = 9,
                            .has_expiry = true,
                            .expiry_s = 5,
                            .sub_ids = ids,
                            .n_sub_ids = 2,
                            .topic = S("t"),
                            .props = S("\3\0\1x"),
                            .payload = S("p")};
  check_out(&o, S("\x32\x18\0\1t\0\1\x11\2\0\0\0\5\x23\0\x09\x0B\1\x0B\xC8\1\3\0\1xp"));
  o.alias_only = true;
  check_out(&o, S("\x32\x17\0\0\0\1\x11\2\0\0\0\5\x23\0\x09\x0B\1\x0B\xC8\1\3\0\1xp"));
}

static void sizes(void **state) {
  (void)state;
  static uint8_t zeros[70000];
  uint32_t size, remaining;
  lv_mqtt_publish_out o = {.version = 4, .topic = S("t"), .payload = {zeros, 124}};
  static const uint32_t rows[][2] = {
      {124, 129}, {125, 131}, {16380, 16386}, {16381, 16388}, {268435452, 268435460}};
  for (size_t i = 0; i < COUNT(rows); i++) {
    o.payload.n = rows[i][0];
    assert_int_equal(lv_mqtt_publish_size(&o, false, &size, &remaining), 0);
    assert_int_equal(size, rows[i][1]);
  }
  o.payload.n++;
  assert_int_equal(lv_mqtt_publish_size(&o, false, &size, &remaining), LV_E_TOO_BIG);
  o.payload.n = UINT32_MAX;
  assert_int_equal(lv_mqtt_publish_size(&o, false, &size, &remaining), LV_E_TOO_BIG);
  o.payload.n = 0;
  o.topic = (lv_slice){zeros, 65535};
  assert_int_equal(lv_mqtt_publish_size(&o, false, &size, &remaining), 0);
  o.topic.n++;
  assert_int_equal(lv_mqtt_publish_size(&o, false, &size, &remaining), LV_E_TOO_BIG);
}

static void counts(void **state) {
  (void)state;
  lv_slice run = S("\x30\3\0\1a"
                   "\x40\2\0\1"
                   "\x32\6\0\1a\0\1x"
                   "\xD0\0"
                   "\x30\3\0\1b");
  static const uint8_t ends[] = {5, 17, 24};
  for (uint32_t n = 0; n <= run.n; n++) {
    lv_slice part = heap_copy((lv_slice){run.p, n});
    uint32_t want = 0;
    for (size_t i = 0; i < COUNT(ends); i++) want += n >= ends[i];
    assert_int_equal(lv_mqtt_count_publishes(part.p, n), want);
    heap_free(part);
  }
}

/* The user property `tms`: digits, above 0, and still a number of nanoseconds. */
static void publisher_time(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int64_t ms; /* 0: none */
  } rows[] = {{"1795517431000", 1795517431000},
              {"1", 1},
              {"9223372036854", 9223372036854},
              {"9223372036855", 0},
              {"0", 0},
              {"", 0},
              {"-1", 0},
              {"1.5", 0},
              {" 1", 0},
              {"99999999999999999999", 0},
              {"1e3", 0}};
  for (size_t i = 0; i < COUNT(rows); i++) {
    uint8_t block[64] = "\x03\0\x01x\x26\0\x03tms\0";
    size_t n = strlen(rows[i].text);
    block[11] = (uint8_t)n;
    memcpy(block + 12, rows[i].text, n);
    int64_t ms = -1;
    assert_int_equal(lv_mqtt_tms(lv_slice_of(block, 12 + n), &ms), rows[i].ms != 0);
    assert_int_equal(ms, rows[i].ms ? rows[i].ms : -1);
  }
  int64_t ms;
  assert_false(lv_mqtt_tms((lv_slice){0}, &ms));
  assert_false(lv_mqtt_tms(S("\x26\0\x03tmt\0\x01"
                             "5"),
                           &ms));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(publish_refused), cmocka_unit_test(topic_scan),
      cmocka_unit_test(publish_v3),      cmocka_unit_test(publish_v5),
      cmocka_unit_test(property_walk),   cmocka_unit_test(encodes),
      cmocka_unit_test(publisher_time),  cmocka_unit_test(sizes),
      cmocka_unit_test(counts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
