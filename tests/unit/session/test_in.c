/* What clients publish: acknowledgements in order across both logs, refusals in their place,
 * failures, QoS 2 packet ids, aliases, limits. */
#include "kit.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* after the above */
#include <cmocka.h>

enum { MEM = LV_DURABILITY_MEMORY, DISK = LV_DURABILITY_DISK };

static kit *k;
static client *p;

static int up(void **state) {
  k = kit_new(1, NULL);
  p = client_new(k, 0, "pub", LV_MQTT_V5);
  client_connect(p, (opts){.clean = true});
  assert_true(p->open);
  return 0;
}

static int down(void **state) {
  kit_free(k);
  return 0;
}

/* The acknowledgements that came so far are these, in this order: "1 2 r3" (r: PUBREC). */
static void acks_are(const char *want) {
  char text[256] = "";
  size_t n = 0;
  for (uint32_t i = 0; i < p->n_acks; i++) {
    const ack_got *a = &p->acks[i];
    const char *kind = a->type == LV_MQTT_PUBACK    ? ""
                       : a->type == LV_MQTT_PUBREC  ? "r"
                       : a->type == LV_MQTT_PUBCOMP ? "c"
                                                    : "?";
    n += (size_t)snprintf(text + n, sizeof text - n, "%s%s%u%s", n ? " " : "", kind, a->pid,
                          a->reason >= 0x80 ? "!" : "");
  }
  assert_string_equal(text, want);
}

static void test_acks(void **state) {
  client_publish(p, "d/a", "x", 0, false);
  client_publish(p, "d/a", "x", 1, false);
  client_publish(p, "m/a", "x", 1, false);
  client_publish(p, "other/a", "x", 2, false);
  kit_run(k);
  acks_are("1 2 r3");
  client_ack(p, LV_MQTT_PUBREL, 3, 0);
  kit_run(k);
  acks_are("1 2 r3 c3");
  assert_int_equal(fake_msgs(k->fake), 4);
  client_ack(p, LV_MQTT_PUBREL, 3, 0); /* again: unknown by now */
  kit_run(k);
  assert_int_equal(client_acked(p, LV_MQTT_PUBCOMP, 3)->reason, 0x92);
}

/* Nothing is acknowledged before it is safe; a fast log waits for a slow one. */
static void test_order_across_logs(void **state) {
  fake_hold(k->fake, DISK, true);
  client_publish(p, "m/a", "x", 1, false);
  client_publish(p, "d/a", "x", 1, false);
  kit_run(k);
  acks_are("1");
  client_publish(p, "m/a", "x", 1, false);
  client_publish(p, "m/a", "x", 2, false);
  kit_run(k);
  client_publish(p, "d/a", "x", 2, false);
  kit_run(k);
  acks_are("1");
  fake_complete(k->fake, DISK, 1);
  kit_run(k);
  acks_are("1 2 3 r4");
  fake_hold(k->fake, DISK, false);
  kit_run(k);
  acks_are("1 2 3 r4 r5");
  /* and the other way round */
  fake_hold(k->fake, MEM, true);
  client_publish(p, "m/a", "x", 1, false);
  client_publish(p, "d/a", "x", 1, false);
  kit_run(k);
  client_publish(p, "d/a", "x", 1, false);
  client_publish(p, "m/a", "x", 1, false);
  kit_run(k);
  acks_are("1 2 3 r4 r5");
  fake_complete(k->fake, MEM, 1);
  kit_run(k);
  acks_are("1 2 3 r4 r5 6 7 8");
  fake_hold(k->fake, MEM, false);
  kit_run(k);
  acks_are("1 2 3 r4 r5 6 7 8 9");
  assert_true(p->open);
}

static void test_refusals_in_their_place(void **state) {
  fake_hold(k->fake, DISK, true);
  client_publish(p, "d/a", "x", 1, false);
  lv_mqtt_publish bad = {.topic = LV_SLICE("d/a"),
                         .payload = LV_SLICE("\xff"),
                         .utf8 = true,
                         .qos = 1,
                         .packet_id = 77};
  assert_int_equal(lv_sess_publish(p->sess, &bad, k->loop[0]->now), 0);
  client_publish_pid(p, "$SYS/x", "x", 1, false, 78, false);
  kit_run(k);
  acks_are("");
  fake_hold(k->fake, DISK, false);
  kit_run(k);
  acks_are("1 77! 78");
  assert_int_equal(client_acked(p, LV_MQTT_PUBACK, 77)->reason, 0x99);
  assert_int_equal(kit_count(k, LV_C_GW_REJ_PAYLOAD), 1);
  assert_int_equal(kit_count(k, LV_C_GW_REJ_SYS), 1);
}

static void test_failure(void **state) {
  fake_hold(k->fake, MEM, true);
  client_publish(p, "m/a", "x", 1, false);
  client_publish(p, "d/a", "x", 2, false); /* safe first */
  kit_run(k);
  acks_are("");
  fake_fail(k->fake, MEM, 1, LV_E_DISK_FULL);
  kit_run(k);
  acks_are("1! r2");
  assert_int_equal(client_acked(p, LV_MQTT_PUBACK, 1)->reason, 0x97);
  fake_hold(k->fake, MEM, false);
  /* A QoS 2 publish that failed is not known: it may be sent again with its id. */
  fake_fail_all(k->fake, DISK, LV_E_IO);
  client_publish_pid(p, "d/a", "x", 2, false, 9, false);
  kit_run(k);
  assert_true(client_acked(p, LV_MQTT_PUBREC, 9)->reason >= 0x80);
  fake_fail_all(k->fake, DISK, 0);
  uint32_t had = fake_msgs(k->fake);
  client_publish_pid(p, "d/a", "x", 2, false, 9, false);
  kit_run(k);
  assert_int_equal(client_acked(p, LV_MQTT_PUBREC, 9)->reason, 0);
  assert_int_equal(fake_msgs(k->fake), had + 1);
}

/* 3.1.1 cannot say no: what failed and all behind it stays unanswered, and the connection ends. */
static void test_failure_v3(void **state) {
  client *c = client_new(k, 0, "old", LV_MQTT_V3);
  client_connect(c, (opts){.clean = true});
  fake_hold(k->fake, MEM, true);
  client_publish(c, "m/a", "1", 1, false);
  client_publish(c, "d/a", "2", 1, false);
  client_publish(c, "d/a", "3", 2, false);
  kit_run(k);
  assert_int_equal(c->n_acks, 0);
  fake_fail(k->fake, MEM, 1, LV_E_IO);
  kit_run(k);
  assert_null(c->sess);
  assert_int_equal(c->err, LV_E_IO);
  assert_int_equal(c->n_acks, 0);
  fake_hold(k->fake, MEM, false);
}

static void test_qos2_once(void **state) {
  client *c = client_new(k, 0, "once", LV_MQTT_V5);
  client_connect(c, (opts){.expiry_s = 100});
  fake_hold(k->fake, DISK, true);
  client_publish_pid(c, "d/a", "x", 2, false, 5, false);
  client_publish_pid(c, "d/a", "x", 2, false, 5, true); /* while it is being stored */
  kit_run(k);
  assert_int_equal(c->n_acks, 0);
  assert_int_not_equal(client_ack(c, LV_MQTT_PUBREL, 5, 0), 0); /* before its PUBREC */
  fake_hold(k->fake, DISK, false);
  kit_run(k);
  assert_null(c->sess);
  client_forget(c);
  client_connect(c, (opts){.expiry_s = 100});
  assert_true(c->present);
  client_publish_pid(c, "d/a", "x", 2, false, 5, true);
  kit_run(k);
  assert_int_equal(c->n_acks, 1);
  assert_int_equal(fake_msgs(k->fake), 1);
  assert_int_equal(kit_count(k, LV_C_GW_REJ_DUP), 2);
  /* PUBCOMP waits for the record that ends it; after that the id means a new message. */
  fake_hold(k->fake, DISK, true);
  client_ack(c, LV_MQTT_PUBREL, 5, 0);
  client_ack(c, LV_MQTT_PUBREL, 5, 0);
  kit_run(k);
  assert_null(client_acked(c, LV_MQTT_PUBCOMP, 5));
  fake_hold(k->fake, DISK, false);
  kit_run(k);
  assert_non_null(client_acked(c, LV_MQTT_PUBCOMP, 5));
  client_publish_pid(c, "d/a", "y", 2, false, 5, false);
  kit_run(k);
  assert_int_equal(fake_msgs(k->fake), 2);
}

/* The id of a publish to a memory channel ends in the memory log, whatever log keeps the session.
 */
static void test_qos2_survives(void **state) {
  for (int i = 0; i < 2; i++) {
    const char *topic = i ? "d/a" : "m/a";
    client *c = client_new(k, 0, i ? "sd" : "sm", LV_MQTT_V5);
    uint32_t had = fake_msgs(k->fake);
    client_connect(c, (opts){.expiry_s = 1000});
    client_publish_pid(c, topic, "1", 2, false, 7, false);
    client_publish_pid(c, topic, "2", 2, false, 8, false);
    kit_run(k);
    client_ack(c, LV_MQTT_PUBREL, 8, 0);
    kit_run(k);
    kit_restart(k, true);
    client_connect(c, (opts){.expiry_s = 1000});
    assert_true(c->present);
    client_publish_pid(c, topic, "1", 2, false, 7, true);  /* known: stored once */
    client_publish_pid(c, topic, "3", 2, false, 8, false); /* released: new */
    kit_run(k);
    assert_int_equal(fake_msgs(k->fake), had + 3);
    client_ack(c, LV_MQTT_PUBREL, 7, 0);
    client_ack(c, LV_MQTT_PUBREL, 8, 0);
    kit_run(k);
    client_connect(p, (opts){.clean = true});
    client_cut(c);
  }
}

static void test_back_pressure(void **state) {
  client *c = client_new(k, 0, "many", LV_MQTT_V5);
  client_connect(c, (opts){.expiry_s = 1000});
  char *big = malloc(1 << 20);
  memset(big, 'x', (1 << 20) - 1);
  big[(1 << 20) - 1] = 0;
  fake_hold(k->fake, DISK, true);
  uint32_t n = 0;
  while (client_publish(c, "d/a", big, 0, false) == 0) n++;
  free(big);
  assert_in_range(n, 60, 70);
  assert_int_equal(client_publish(c, "d/a", "x", 1, false), LV_E_BUSY);
  /* State is taken: the SUBACK comes with its record, not without. */
  uint32_t keys = fake_keys(k->fake);
  client_sub_send(c, "q/#", 1, (subopts){0});
  kit_run(k);
  assert_int_equal(c->n_acks, 0);
  fake_hold(k->fake, DISK, false);
  kit_run(k);
  assert_int_equal(c->n_acks, 1);
  assert_int_equal(fake_keys(k->fake), keys);
  assert_int_equal(client_publish(c, "d/a", "x", 1, false), 0);
  kit_run(k);
}

static void test_receive_maximum(void **state) {
  uint32_t max = k->conf->limits.inflight;
  fake_hold(k->fake, DISK, true);
  for (uint32_t i = 0; i < max; i++)
    assert_int_equal(client_publish(p, "d/a", "x", i % 2 ? 1 : 2, false), 0);
  assert_int_equal(client_publish(p, "d/a", "x", 1, false), LV_E_RECEIVE_MAX);
  fake_hold(k->fake, DISK, false);
  kit_run(k);
  assert_int_equal(p->err, LV_E_RECEIVE_MAX);
  /* A new connection starts with all of it, whatever an earlier one left unreleased. */
  client *c = client_new(k, 0, "again", LV_MQTT_V5);
  client_connect(c, (opts){.expiry_s = 1000});
  for (uint32_t i = 0; i < max; i++) client_publish(c, "d/a", "x", 2, false);
  kit_run(k);
  client_cut(c);
  kit_run(k);
  client_connect(c, (opts){.expiry_s = 1000});
  for (uint32_t i = 0; i < max; i++) assert_int_equal(client_publish(c, "d/a", "x", 1, false), 0);
  kit_run(k);
  assert_true(c->open);
}

static void test_alias(void **state) {
  lv_mqtt_publish a = {
      .topic = LV_SLICE("d/long"), .payload = LV_SLICE("1"), .has_alias = true, .alias = 3};
  client *s = client_new(k, 0, "sub", LV_MQTT_V5);
  client_connect(s, (opts){.clean = true, .alias_max = 2});
  client_sub(s, "#", 0, (subopts){0});
  assert_int_equal(lv_sess_publish(p->sess, &a, k->loop[0]->now), 0);
  a.topic = LV_SLICE("");
  assert_int_equal(lv_sess_publish(p->sess, &a, k->loop[0]->now), 0);
  assert_string_equal("d/long", "d/long");
  for (int i = 0; i < 3; i++) {
    client_publish(p, "d/two22", "x", 0, false);
    client_publish(p, "d/three", "x", 0, false);
  }
  kit_run(k);
  const char *want[] = {"d/long", "d/long", "d/two22", "d/three", "d/two22", "d/three", "d/two22"};
  const bool bare[] = {false, true, false, false, true, false, true};
  for (int i = 0; i < 7; i++) {
    const got *g = client_next(s);
    assert_non_null(g);
    assert_string_equal(g->topic, want[i]);
    assert_int_equal(g->bare, bare[i]);
  }
  lv_mqtt_publish none = {.payload = LV_SLICE("1"), .has_alias = true, .alias = 4};
  assert_int_equal(lv_sess_publish(p->sess, &none, k->loop[0]->now), LV_E_PROTOCOL);
  none.alias = 65;
  assert_int_equal(lv_sess_publish(p->sess, &none, k->loop[0]->now), LV_E_TOPIC_ALIAS);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_acks, up, down),
      cmocka_unit_test_setup_teardown(test_order_across_logs, up, down),
      cmocka_unit_test_setup_teardown(test_refusals_in_their_place, up, down),
      cmocka_unit_test_setup_teardown(test_failure, up, down),
      cmocka_unit_test_setup_teardown(test_failure_v3, up, down),
      cmocka_unit_test_setup_teardown(test_qos2_once, up, down),
      cmocka_unit_test_setup_teardown(test_qos2_survives, up, down),
      cmocka_unit_test_setup_teardown(test_back_pressure, up, down),
      cmocka_unit_test_setup_teardown(test_receive_maximum, up, down),
      cmocka_unit_test_setup_teardown(test_alias, up, down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
