/* Deliveries: windows, queues and what happens when they are full, lagging and back, reconnects. */
#include "kit.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* after the above */
#include <cmocka.h>

static kit *k;
static client *p, *s;

static const char conf[] =
    "server: {anonymous: true}\n"
    "limits: {queue_messages: 16, queue: 64KiB, packet: 64KiB, inflight: 20}\n"
    "apps:\n"
    "  - name: a\n"
    "    auto_channels: true\n"
    "    channel_defaults: {durability: disk}\n"
    "    channels:\n"
    "      - {name: m, durability: memory}\n"
    "      - {name: d, durability: disk}\n"
    "      - {name: con, durability: memory, slow: conflate}\n"
    "      - {name: cut, durability: memory, slow: disconnect}\n";

/* A payload's number; what is none is -1. */
static int num(const char *text) {
  uint64_t v;
  return lv_slice_u64(lv_slice_str(text), &v) ? -1 : (int)v;
}

static int up(void **state) {
  k = kit_new(1, conf);
  p = client_new(k, 0, "pub", LV_MQTT_V5);
  s = client_new(k, 0, "sub", LV_MQTT_V5);
  client_connect(p, (opts){.clean = true});
  p->auto_ack = true;
  return 0;
}

static int down(void **state) {
  kit_free(k);
  return 0;
}

static void send_n(const char *topic, int from, int to, uint8_t qos) {
  char text[16];
  for (int i = from; i < to; i++) {
    snprintf(text, sizeof text, "%d", i);
    assert_int_equal(client_publish(p, topic, text, qos, false), 0);
    if (i % 5 == 4) kit_run(k);
  }
  kit_run(k);
}

/* The next unseen messages are from … to-1, in order, acknowledged on the way. */
static void expect(int from, int to) {
  for (int i = from; i < to; i++) {
    const got *g = client_next(s);
    if (!g) fail_msg("message %d is missing", i);
    assert_int_equal(num(g->payload), i);
    if (g->qos == 1) client_ack(s, LV_MQTT_PUBACK, g->pid, 0);
    if (g->qos == 2) {
      client_ack(s, LV_MQTT_PUBREC, g->pid, 0);
      kit_run(k);
      assert_non_null(client_acked(s, LV_MQTT_PUBREL, g->pid));
      client_ack(s, LV_MQTT_PUBCOMP, g->pid, 0);
    }
    kit_run(k);
  }
}

static void nothing_more(void) {
  kit_run(k);
  const got *g = client_next(s);
  if (g) fail_msg("unexpected: %s %s", g->topic, g->payload);
}

static void test_receive_maximum(void **state) {
  for (uint8_t qos = 1; qos <= 2; qos++) {
    client_connect(s, (opts){.clean = true, .receive_max = 3});
    client_sub(s, "d/#", qos, (subopts){0});
    send_n("d/a", 0, 10, qos);
    assert_int_equal(s->n_got - s->n_seen, 3);
    kit_ledger(k);
    expect(0, 10);
    nothing_more();
    assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
    client_cut(s);
    kit_run(k);
    client_forget(s);
  }
}

static void test_negative_pubrec_frees_its_place(void **state) {
  client_connect(s, (opts){.clean = true, .receive_max = 1});
  client_sub(s, "d/#", 2, (subopts){0});
  send_n("d/a", 0, 3, 2);
  for (int i = 0; i < 3; i++) {
    const got *g = client_next(s);
    assert_non_null(g);
    client_ack(s, LV_MQTT_PUBREC, g->pid, 0x97);
    kit_run(k);
  }
  assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
}

static void test_out_of_order_acks(void **state) {
  client_connect(s, (opts){.expiry_s = 100, .receive_max = 4});
  client_sub(s, "d/#", 1, (subopts){0});
  send_n("d/a", 0, 8, 1);
  client_ack(s, LV_MQTT_PUBACK, 3, 0);
  client_ack(s, LV_MQTT_PUBACK, 2, 0);
  kit_sleep_ms(k, 2000); /* the lazy save */
  assert_int_equal(s->n_got, 6);
  client_ack(s, LV_MQTT_PUBACK, 6, 0);
  kit_sleep_ms(k, 2000);
  kit_restart(k, true);
  client_connect(s, (opts){.expiry_s = 100, .receive_max = 4});
  assert_true(s->present);
  /* 1, 4, 5 and 7 were in flight: again, with their ids, in order; then 8. */
  const uint16_t pids[] = {1, 4, 5, 7};
  client_forget(s);
  kit_run(k);
  client_cut(s);
  kit_run(k);
  client_forget(s);
  client_connect(s, (opts){.expiry_s = 100, .receive_max = 4});
  for (int i = 0; i < 4; i++) {
    const got *g = client_next(s);
    assert_non_null(g);
    assert_int_equal(g->pid, pids[i]);
    assert_true(g->dup);
    client_ack(s, LV_MQTT_PUBACK, g->pid, 0);
  }
  kit_run(k);
  const got *g = client_next(s);
  assert_non_null(g);
  assert_int_equal(g->pid, 8);
  assert_int_equal(num(g->payload), 7);
  client_ack(s, LV_MQTT_PUBACK, 8, 0);
  kit_run(k);
  nothing_more();
  assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
}

/* A smaller Receive Maximum than before holds for what is sent again, too. */
static void test_resend_within_receive_maximum(void **state) {
  for (uint8_t qos = 1; qos <= 2; qos++) {
    client_connect(s, (opts){.expiry_s = 100, .receive_max = 12, .clean = true});
    client_sub(s, "#", qos, (subopts){0});
    for (int i = 0; i < 12; i += 4) { /* in both logs */
      send_n("d/a", i, i + 2, qos);
      send_n("m/a", i + 2, i + 4, qos);
    }
    assert_int_equal(s->n_got, 12);
    client_cut(s);
    kit_run(k);
    client_forget(s);
    client_connect(s, (opts){.expiry_s = 100, .receive_max = 2});
    assert_int_equal(s->n_got, 2);
    send_n("d/a", 12, 14, qos);
    assert_int_equal(s->n_got, 2);
    int next_d = 0, next_m = 2; /* order per topic */
    for (int i = 0; i < 14; i++) {
      const got *g = client_next(s);
      assert_non_null(g);
      assert_in_range(s->n_got - s->n_seen, 0, 1);
      int *next = g->topic[0] == 'd' ? &next_d : &next_m;
      assert_int_equal(num(g->payload), *next);
      assert_int_equal(g->dup, i < 12);
      *next += (*next % 2 && *next < 12) ? 3 : 1;
      client_ack(s, qos == 1 ? LV_MQTT_PUBACK : LV_MQTT_PUBREC, g->pid, 0);
      kit_run(k);
      if (qos == 2) client_ack(s, LV_MQTT_PUBCOMP, g->pid, 0);
      kit_run(k);
    }
    nothing_more();
    assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
    client_bye(s);
    kit_run(k);
    client_forget(s);
  }
}

static void test_failed_fetch_keeps_what_is_due(void **state) {
  client_connect(s, (opts){.expiry_s = 100});
  client_sub(s, "d/#", 1, (subopts){0});
  send_n("d/a", 0, 5, 1);
  client_cut(s);
  kit_run(k);
  client_forget(s);
  fake_fail_reads(k->fake, LV_E_IO);
  client_connect(s, (opts){.expiry_s = 100});
  assert_null(s->sess);
  assert_int_equal(s->err, LV_E_IO);
  fake_fail_reads(k->fake, 0);
  client_connect(s, (opts){.expiry_s = 100});
  expect(0, 5);
  nothing_more();
}

/* What does not fit the queue is read from the log: no gap, no repeat, then live again. */
static void test_lag(void **state) {
  for (uint8_t qos = 1; qos <= 2; qos++) {
    client_connect(s, (opts){.clean = true, .expiry_s = qos == 2 ? 100 : 0, .receive_max = 5});
    client_sub(s, "d/#", qos, (subopts){0});
    send_n("d/a", 0, 200, qos);
    assert_int_equal(s->n_got, 5);
    assert_non_null(s->sess->lag);
    expect(0, 100);
    send_n("d/a", 200, 250, qos);
    expect(100, 250);
    assert_null(s->sess->lag);
    nothing_more();
    send_n("d/a", 250, 255, qos);
    expect(250, 255);
    nothing_more();
    assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
    client_bye(s);
    kit_run(k);
    client_forget(s);
  }
}

/* Both logs, and a subscription that is made while lagging. */
static void test_lag_and_subscribe(void **state) {
  client_connect(s, (opts){.clean = true, .receive_max = 2});
  client_sub(s, "d/#", 1, (subopts){0});
  send_n("d/a", 0, 60, 1);
  send_n("other/a", 1000, 1010, 1); /* before it asks for them */
  assert_non_null(s->sess->lag);
  for (int i = 0; i < 40; i++) {
    char f[16];
    snprintf(f, sizeof f, "c%d/#", i);
    client_publish(p, f[0] ? "x/y" : "", "", 0, false);
    client_sub(s, f, 1, (subopts){0});
  }
  client_sub(s, "other/#", 1, (subopts){0});
  send_n("other/a", 60, 70, 1);
  expect(0, 70);
  nothing_more();
  assert_null(s->sess->lag);
}

/* A retained message that waits does not let a record of a read dangle behind it. */
static void test_lag_and_retained(void **state) {
  client_publish(p, "ret/a", "5000", 1, true);
  client_connect(s, (opts){.clean = true, .receive_max = 3});
  client_sub(s, "d/#", 1, (subopts){0});
  send_n("d/a", 0, 60, 1);
  assert_non_null(s->sess->lag);
  fake_hold_reads(k->fake, true);
  for (int i = 0; i < 3; i++) {
    const got *g = client_next(s);
    client_ack(s, LV_MQTT_PUBACK, g->pid, 0);
  }
  kit_run(k); /* a read for the free places is on its way */
  for (int i = 0; i < 4; i++) client_sub(s, "ret/+", 1, (subopts){0});
  fake_hold_reads(k->fake, false);
  kit_run(k);
  int next = 3, retained = 0;
  for (const got *g; (g = client_next(s));) {
    if (num(g->payload) == 5000) {
      retained++;
    } else {
      assert_int_equal(num(g->payload), next++);
    }
    client_ack(s, LV_MQTT_PUBACK, g->pid, 0);
    kit_run(k);
  }
  assert_int_equal(next, 60);
  assert_int_equal(retained, 4);
}

static void test_lag_retention(void **state) {
  client_connect(s, (opts){.clean = true, .expiry_s = 100, .receive_max = 5});
  client_sub(s, "d/#", 1, (subopts){0});
  send_n("d/a", 0, 50, 1);
  fake_retain_from(k->fake, LV_DURABILITY_DISK, fake_end(k->fake, LV_DURABILITY_DISK));
  send_n("d/a", 50, 60, 1);
  expect(0, 5);
  expect(50, 60);
  nothing_more();
  assert_int_equal(kit_count(k, LV_C_DROP_HUB_RETENTION), 45);
  assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
}

static void test_offline(void **state) {
  for (uint8_t qos = 1; qos <= 2; qos++) {
    client_connect(s, (opts){.clean = true, .expiry_s = 1000, .receive_max = 10});
    client_sub(s, "d/#", qos, (subopts){0});
    client_sub(s, "m/#", qos, (subopts){0});
    client_cut(s);
    send_n("d/a", 0, 50, qos);
    send_n("d/q0", 0, 5, 0); /* not kept for who is away */
    client_connect(s, (opts){.expiry_s = 1000, .receive_max = 10});
    assert_true(s->present);
    send_n("d/a", 50, 55, qos);
    expect(0, 20);
    client_cut(s);
    send_n("d/a", 55, 60, qos);
    uint32_t sent = s->n_got;
    client_connect(s, (opts){.expiry_s = 1000, .receive_max = 10});
    for (uint32_t i = sent; i < s->n_got; i++) assert_true(s->got[i].dup);
    s->n_seen = sent;
    expect(20, 60);
    nothing_more();
    assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
    client_bye(s);
    kit_run(k);
    client_connect(s, (opts){.clean = true});
    client_bye(s);
    kit_run(k);
    client_forget(s);
  }
}

static void test_drop_oldest(void **state) {
  client_connect(s, (opts){.clean = true});
  client_sub(s, "m/#", 0, (subopts){0});
  s->blocked = true;
  char big[4096];
  memset(big, 'x', sizeof big - 1);
  big[sizeof big - 1] = 0;
  for (int i = 0; i < 40; i++) client_publish(p, "m/a", big, 0, false);
  kit_run(k);
  kit_ledger(k);
  uint64_t dropped = kit_count(k, LV_C_DROP_HUB_SLOW);
  assert_true(dropped > 0);
  s->blocked = false;
  kit_run(k);
  assert_int_equal(s->n_got, 40 - dropped);
  assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
  /* It never gets stuck: all that waits follows as the queue empties. */
  for (int i = 0; i < 30; i++) client_publish(p, "m/a", big, 0, false);
  kit_run(k);
  assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
}

static void fill(const char *topic) {
  char big[4096];
  memset(big, 'x', sizeof big - 1);
  big[sizeof big - 1] = 0;
  s->blocked = true;
  for (int i = 0; i < 17; i++) client_publish(p, topic, big, 0, false);
  kit_run(k);
}

static void test_conflate(void **state) {
  client_connect(s, (opts){.clean = true});
  client_sub(s, "con/#", 0, (subopts){0});
  fill("con/fill");
  char t[32], v[32];
  for (int i = 0; i < 200; i++) {
    snprintf(t, sizeof t, "con/%d", i % 10);
    snprintf(v, sizeof v, "%d", i);
    client_publish(p, t, v, 0, false);
  }
  kit_run(k);
  assert_true(kit_count(k, LV_C_DROP_HUB_CONFLATED) > 100);
  s->blocked = false;
  kit_run(k);
  int last[10] = {0};
  for (const got *g; (g = client_next(s));)
    if (g->topic[4] != 'f') {
      int key = g->topic[4] - '0', value = num(g->payload);
      assert_true(value >= last[key]);
      last[key] = value;
    }
  for (int i = 0; i < 10; i++) assert_int_equal(last[i], 190 + i);
}

static void test_slow_disconnect(void **state) {
  client_connect(s, (opts){.clean = true});
  client_sub(s, "cut/#", 0, (subopts){0});
  fill("cut/fill");
  for (int i = 0; i < 20; i++) client_publish(p, "cut/a", "x", 0, false);
  kit_run(k);
  assert_null(s->sess);
  assert_int_equal(s->err, LV_E_QUOTA);
  assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
}

/* QoS 1 behind a full queue takes the place of QoS 0, and is never dropped itself. */
static void test_qos1_outlives_qos0(void **state) {
  client_connect(s, (opts){.clean = true});
  client_sub(s, "m/#", 1, (subopts){0});
  fill("m/fill");
  send_n("m/q0", 0, 20, 0);
  send_n("m/q1", 0, 40, 1);
  s->blocked = false;
  s->auto_ack = true;
  kit_run(k);
  int next = 0;
  for (const got *g; (g = client_next(s));)
    if (strcmp(g->topic, "m/q1") == 0) assert_int_equal(num(g->payload), next++);
  assert_int_equal(next, 40);
  assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
}

static void test_too_big(void **state) {
  char big[4096];
  memset(big, 'x', sizeof big - 1);
  big[sizeof big - 1] = 0;
  client_connect(s, (opts){.clean = true, .max_packet = 1000, .alias_max = 1, .expiry_s = 10});
  for (uint8_t qos = 0; qos <= 2; qos++) {
    client_sub(s, "d/#", qos, (subopts){0});
    client_publish(p, "d/a", big, qos, false);
    send_n("d/a", 7, 8, qos);
    expect(7, 8);
    nothing_more();
  }
  assert_int_equal(kit_count(k, LV_C_DROP_HUB_TOO_BIG), 3);
  /* Long topic and properties, no payload. */
  client_connect(client_new(k, 0, "x", LV_MQTT_V5), (opts){.clean = true});
  client *y = k->clients[0];
  client_sub(y, "d/#", 1, (subopts){0});
  memcpy(big, "d/", 2);
  client_publish(p, big, "", 1, false);
  kit_run(k);
  const got *g = client_next(y);
  assert_non_null(g);
  assert_int_equal(g->payload_n, 0);
  assert_int_equal(g->topic_n, sizeof big - 1);
}

static void publish_ttl(const char *topic, const char *payload, uint8_t qos, uint32_t ttl) {
  lv_mqtt_publish m = {.topic = lv_slice_str(topic),
                       .payload = lv_slice_str(payload),
                       .qos = qos,
                       .packet_id = qos ? p->next_pid++ : 0,
                       .has_expiry = true,
                       .expiry_s = ttl};
  assert_int_equal(lv_sess_publish(p->sess, &m, k->loop[0]->now), 0);
  kit_run(k);
}

static void test_expiry(void **state) {
  for (uint8_t qos = 1; qos <= 2; qos++) {
    client_connect(s, (opts){.clean = true, .expiry_s = 1000, .receive_max = 1});
    client_sub(s, "d/#", qos, (subopts){0});
    uint64_t was = kit_count(k, LV_C_DROP_HUB_EXPIRED);
    publish_ttl("d/a", "0", qos, 100);
    publish_ttl("d/a", "1", qos, 2);
    publish_ttl("d/a", "2", qos, 60);
    const got *g = client_next(s);
    assert_int_equal(g->expiry_s, 100);
    s->n_seen--;
    kit_sleep_ms(k, 5000);
    expect(0, 1);
    g = client_next(s);
    assert_non_null(g);
    assert_int_equal(g->expiry_s, 55);
    s->n_seen--;
    expect(2, 3);
    client_cut(s);
    publish_ttl("d/a", "3", qos, 2);
    publish_ttl("d/a", "4", qos, 60);
    kit_sleep_ms(k, 3000);
    client_connect(s, (opts){.expiry_s = 1000});
    expect(4, 5);
    nothing_more();
    assert_int_equal(kit_count(k, LV_C_DROP_HUB_EXPIRED), was + 2);
    assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
    client_bye(s);
    kit_run(k);
    client_forget(s);
  }
}

/* Retained before the SUBSCRIBE is retained to it, though the feed is not there yet (§3.3.1.3). */
static void test_retained_ahead_of_feed(void **state) {
  (void)state;
  client *live = client_new(k, 0, "live", LV_MQTT_V5);
  client_connect(live, (opts){.clean = true});
  client_sub(live, "m/#", 0, (subopts){0}); /* without one the feed is off */
  client_connect(s, (opts){.clean = true});
  fake_hold(k->fake, LV_DURABILITY_MEMORY, true);
  client_publish(p, "m/a", "1", 1, true);
  kit_run(k);
  fake_complete(k->fake, LV_DURABILITY_MEMORY, 1);
  fake_hold(k->fake, LV_DURABILITY_MEMORY, false);
  assert_true(k->shard[0]->seen.lsn[LV_DURABILITY_MEMORY] <
              k->broker->ops->visible(k->broker).lsn[LV_DURABILITY_MEMORY]);
  assert_int_equal(client_sub_send(s, "m/#", 1, (subopts){0}), 0);
  kit_run(k);
  const got *g = client_next(s);
  assert_non_null(g);
  assert_true(g->retain);
  assert_null(client_next(s));
  g = client_next(live);
  assert_non_null(g);
  assert_false(g->retain);
  client_publish(p, "m/b", "2", 1, false);
  kit_run(k);
  expect(2, 3);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_receive_maximum, up, down),
      cmocka_unit_test_setup_teardown(test_negative_pubrec_frees_its_place, up, down),
      cmocka_unit_test_setup_teardown(test_out_of_order_acks, up, down),
      cmocka_unit_test_setup_teardown(test_resend_within_receive_maximum, up, down),
      cmocka_unit_test_setup_teardown(test_failed_fetch_keeps_what_is_due, up, down),
      cmocka_unit_test_setup_teardown(test_lag, up, down),
      cmocka_unit_test_setup_teardown(test_lag_and_subscribe, up, down),
      cmocka_unit_test_setup_teardown(test_lag_and_retained, up, down),
      cmocka_unit_test_setup_teardown(test_retained_ahead_of_feed, up, down),
      cmocka_unit_test_setup_teardown(test_lag_retention, up, down),
      cmocka_unit_test_setup_teardown(test_offline, up, down),
      cmocka_unit_test_setup_teardown(test_drop_oldest, up, down),
      cmocka_unit_test_setup_teardown(test_conflate, up, down),
      cmocka_unit_test_setup_teardown(test_slow_disconnect, up, down),
      cmocka_unit_test_setup_teardown(test_qos1_outlives_qos0, up, down),
      cmocka_unit_test_setup_teardown(test_too_big, up, down),
      cmocka_unit_test_setup_teardown(test_expiry, up, down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
