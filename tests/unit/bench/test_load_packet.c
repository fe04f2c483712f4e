/* The load generator's MQTT framing: bytes written by hand from the standard, cut anywhere, and
 * refused when malformed. */
#include "packet.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_connect_bytes(void **state) {
  (void)state;
  uint8_t buf[128];
  lg_connect c = {
      .client_id = "ab", .user = "u", .password = "pw", .clean = true, .keep_alive_s = 60};
  static const uint8_t v4[] = "\x10\x15\0\x04MQTT\x04\xc2\0\x3c\0\x02"
                              "ab\0\x01u\0\x02pw";
  assert_int_equal(lg_connect_encode(buf, &c), sizeof v4 - 1);
  assert_memory_equal(buf, v4, sizeof v4 - 1);
  c = (lg_connect){.client_id = "", .v5 = true, .receive_max = 10, .expiry_s = 1};
  static const uint8_t v5[] = "\x10\x15\0\x04MQTT\x05\0\0\0\x08\x21\0\x0a\x11\0\0\0\x01\0\0";
  assert_int_equal(lg_connect_encode(buf, &c), sizeof v5 - 1);
  assert_memory_equal(buf, v5, sizeof v5 - 1);
}

static void test_publish_round_trip(void **state) {
  (void)state;
  for (int v5 = 0; v5 < 2; v5++)
    for (uint8_t qos = 0; qos < 3; qos++) {
      uint8_t buf[512], pattern[300];
      memset(pattern, 'x', sizeof pattern);
      lg_pub pub = {.topic = "a/b",
                    .topic_n = 3,
                    .pid = 513,
                    .qos = qos,
                    .v5 = v5,
                    .stamp = {7, 8, 9, 1234567890123},
                    .pattern = pattern,
                    .payload_n = 300};
      size_t n = lg_publish_encode(buf, &pub);
      assert_true(n <= lg_publish_bytes_max(3, 300));
      lg_frame f;
      for (size_t cut = 0; cut < n; cut++) assert_int_equal(lg_frame_cut(buf, cut, &f), 0);
      assert_int_equal(lg_frame_cut(buf, n, &f), n);
      assert_int_equal(f.type, LG_PUBLISH);
      lg_pub_in in;
      lg_stamp st;
      assert_int_equal(lg_publish_decode(&f, v5, &in), 0);
      assert_int_equal(in.qos, qos);
      assert_int_equal(in.pid, qos ? 513 : 0);
      assert_int_equal(in.payload_n, 300);
      assert_memory_equal(in.topic, "a/b", 3);
      lg_stamp_read(in.payload, &st);
      assert_int_equal(st.run, 7);
      assert_int_equal(st.stream, 8);
      assert_int_equal(st.seq, 9);
      assert_true(st.intended_ns == 1234567890123);
      assert_int_equal(in.payload[299], 'x');
    }
}

static void test_malformed(void **state) {
  (void)state;
  lg_frame f;
  lg_pub_in in;
  assert_int_equal(lg_frame_cut((const uint8_t *)"\x30\xff\xff\xff\xff\x01", 6, &f), -1);
  assert_int_equal(lg_frame_cut((const uint8_t *)"\x30\x03\0\x09z", 5, &f), 5);
  assert_int_equal(lg_publish_decode(&f, false, &in), -1); /* topic longer than the packet */
  assert_int_equal(lg_frame_cut((const uint8_t *)"\x30\x04\0\x01z\x05", 6, &f), 6);
  assert_int_equal(lg_publish_decode(&f, true, &in), -1); /* properties longer than the packet */
  assert_int_equal(lg_publish_decode(&f, false, &in), 0);
}

static void test_connack_receive_maximum(void **state) {
  (void)state;
  lg_frame f;
  lg_connack ack;
  static const uint8_t v5[] = "\x20\x0f\0\0\x0c\x12\0\x02id\x21\0\x14\x25\0\x24\x01";
  assert_int_equal(lg_frame_cut(v5, sizeof v5 - 1, &f), sizeof v5 - 1);
  assert_int_equal(lg_connack_decode(&f, true, &ack), 0);
  assert_int_equal(ack.receive_max, 20);
  assert_int_equal(ack.code, 0);
  assert_int_equal(lg_frame_cut((const uint8_t *)"\x20\x02\0\x05", 4, &f), 4);
  assert_int_equal(lg_connack_decode(&f, false, &ack), 0);
  assert_int_equal(ack.code, 5);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_connect_bytes), cmocka_unit_test(test_publish_round_trip),
      cmocka_unit_test(test_malformed), cmocka_unit_test(test_connack_receive_maximum)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
