/* A session's life: takeover between loops, clean start, expiry, wills, restarts, and what a
 * subscription says about its deliveries. */
#include "kit.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* after the above */
#include <cmocka.h>

static kit *k;
static client *p, *a, *b;

static int up(void **state) {
  k = kit_new(2, NULL);
  p = client_new(k, 0, "pub", LV_MQTT_V5);
  a = client_new(k, 0, "dev", LV_MQTT_V5);
  b = client_new(k, 1, "dev", LV_MQTT_V5); /* the same client id elsewhere */
  client_connect(p, (opts){.clean = true});
  p->auto_ack = a->auto_ack = b->auto_ack = true;
  return 0;
}

static int down(void **state) {
  kit_free(k);
  return 0;
}

static void say(const char *topic, const char *payload, uint8_t qos) {
  assert_int_equal(client_publish(p, topic, payload, qos, false), 0);
  kit_run(k);
}

static void hears(client *c, const char *topic, const char *payload) {
  kit_run(k);
  const got *g = client_next(c);
  if (!g) fail_msg("%s %s is missing", topic, payload);
  assert_string_equal(g->topic, topic);
  assert_string_equal(g->payload, payload);
}

static void silence(client *c) {
  kit_run(k);
  const got *g = client_next(c);
  if (g) fail_msg("unexpected: %s %s", g->topic, g->payload);
}

/* ---- takeover ---- */

static void test_takeover(void **state) {
  client_connect(a, (opts){.expiry_s = 100});
  assert_false(a->present);
  client_sub(a, "d/#", 1, (subopts){0});
  say("d/1", "x", 1);
  hears(a, "d/1", "x");
  client_connect(b, (opts){.expiry_s = 100});
  assert_null(a->sess);
  assert_int_equal(a->err, LV_E_TAKEN_OVER);
  assert_true(b->present);
  say("d/2", "y", 1);
  hears(b, "d/2", "y");
  client_connect(a, (opts){.expiry_s = 100});
  assert_null(b->sess);
  silence(a);
  say("d/3", "z", 2);
  hears(a, "d/3", "z");
  assert_int_equal(kit_gauge(k, LV_G_SESSIONS), 2);
}

/* The session is handed over when the broker has said its last word about it. */
static void test_takeover_waits(void **state) {
  client_connect(a, (opts){.expiry_s = 100});
  fake_hold(k->fake, LV_DURABILITY_DISK, true);
  client_publish_pid(a, "d/1", "x", 2, false, 9, false);
  kit_run(k);
  client_ask(b, (opts){.expiry_s = 100});
  kit_run(k);
  assert_null(a->sess);
  assert_false(b->open);
  fake_hold(k->fake, LV_DURABILITY_DISK, false);
  kit_run(k);
  assert_true(b->open);
  client_publish_pid(b, "d/1", "x", 2, false, 9, true); /* known there, too */
  kit_run(k);
  assert_int_equal(fake_msgs(k->fake), 1);
}

/* Several want it: each gets it, one after the other, the last keeps it. */
static void test_claims_in_order(void **state) {
  client *c[6];
  client_connect(a, (opts){.expiry_s = 100});
  for (int i = 0; i < 6; i++) {
    c[i] = client_new(k, i % 2, "dev", LV_MQTT_V5);
    client_ask(c[i], (opts){.expiry_s = 100});
  }
  kit_run(k);
  kit_run(k);
  assert_null(a->sess);
  for (int i = 0; i < 5; i++) {
    assert_null(c[i]->sess);
    assert_int_equal(c[i]->err, LV_E_TAKEN_OVER);
  }
  assert_true(c[5]->open);
  assert_true(c[5]->present);
  assert_int_equal(kit_gauge(k, LV_G_SESSIONS), 2);
}

/* Claimants that vanish while they wait; the session's time goes on. */
static void test_cancelled_claims(void **state) {
  client_connect(a,
                 (opts){.expiry_s = 10, .will_topic = "w/dev", .will = "bye", .will_delay_s = 5});
  client_sub(p, "w/#", 1, (subopts){0});
  client_ask(b, (opts){.expiry_s = 10});
  client_cut(b);
  kit_run(k);
  assert_null(a->sess); /* it was asked to leave all the same */
  assert_int_equal(kit_gauge(k, LV_G_SESSIONS), 2);
  kit_sleep_ms(k, 6000);
  hears(p, "w/dev", "bye"); /* on the loop that it was left on */
  kit_sleep_ms(k, 6000);
  assert_int_equal(kit_gauge(k, LV_G_SESSIONS), 1); /* and it has expired there */
  /* A new id whose claimant is gone leaves nothing behind. */
  client *n = client_new(k, 1, "new", LV_MQTT_V5);
  client_ask(n, (opts){.expiry_s = 10});
  client_cut(n);
  kit_run(k);
  assert_int_equal(kit_gauge(k, LV_G_SESSIONS), 2); /* it had attached at once: offline */
}

/* The feed of the new loop may be behind that of the old: nothing comes twice. */
static void test_takeover_between_feeds(void **state) {
  client_connect(a, (opts){.expiry_s = 100});
  client_sub(a, "d/#", 2, (subopts){0});
  client *other = client_new(k, 1, "other", LV_MQTT_V5);
  client_connect(other, (opts){.clean = true});
  client_sub(other, "d/#", 0, (subopts){0});
  client_publish(p, "d/1", "x", 2, false);
  for (int i = 0; i < 6; i++) lv_loop_step(k->loop[0]); /* loop 1 sleeps */
  hears(a, "d/1", "x");
  client_publish(p, "d/2", "y", 2, false);
  for (int i = 0; i < 6; i++) lv_loop_step(k->loop[0]);
  uint32_t n = a->n_got;
  client_connect(b, (opts){.expiry_s = 100});
  client_cut(b);
  kit_run(k);
  client_connect(b, (opts){.expiry_s = 100});
  kit_run(k);
  assert_int_equal(a->n_got, n);
  silence(b);
  say("d/3", "z", 2);
  hears(b, "d/3", "z");
}

/* ---- clean start, expiry ---- */

static void test_clean_start(void **state) {
  client_connect(a, (opts){.expiry_s = 100, .will_topic = "w", .will = "x", .will_delay_s = 50});
  client_sub(a, "d/#", 1, (subopts){0});
  client_sub(p, "w", 0, (subopts){0});
  client_publish_pid(a, "d/self", "q2", 2, false, 5, false);
  client_cut(a);
  say("d/1", "owed", 1);
  client_connect(a, (opts){.clean = true, .expiry_s = 100});
  assert_false(a->present);
  hears(p, "w", "x"); /* its session has ended, and so has the delay */
  silence(a);
  say("d/2", "x", 1);
  silence(a); /* no subscription is left */
  uint32_t had = fake_msgs(k->fake);
  client_publish_pid(a, "d/self", "q2", 2, false, 5, false); /* a new exchange */
  kit_run(k);
  assert_int_equal(fake_msgs(k->fake), had + 1);
  client_cut(a);
  client_connect(a, (opts){0}); /* expiry 0 now: it ends with this connection */
  assert_true(a->present);
  client_cut(a);
  kit_run(k);
  client_connect(a, (opts){0});
  assert_false(a->present);
  client_bye(a);
  kit_run(k);
  client_bye(p);
  kit_run(k);
  assert_int_equal(fake_keys(k->fake), 0); /* nothing of them is kept */
  assert_int_equal(kit_gauge(k, LV_G_SESSIONS), 0);
}

static void test_expiry(void **state) {
  client_connect(a, (opts){.expiry_s = 10});
  client_sub(a, "d/#", 1, (subopts){0});
  client_cut(a);
  kit_sleep_ms(k, 9000);
  say("d/1", "x", 1);
  client_connect(a, (opts){.expiry_s = 10});
  assert_true(a->present);
  hears(a, "d/1", "x");
  client_cut(a);
  kit_sleep_ms(k, 11000);
  assert_int_equal(kit_gauge(k, LV_G_SESSIONS), 1);
  assert_int_equal(fake_keys(k->fake), 0);
  client_connect(a, (opts){.expiry_s = 10});
  assert_false(a->present);
  /* DISCONNECT may change it, but not from 0. */
  lv_mqtt_disconnect d = {.has_session_expiry = true, .session_expiry_s = 0};
  assert_int_equal(lv_sess_disconnect(a->sess, &d), 0);
  client_cut(a);
  kit_run(k);
  assert_int_equal(kit_gauge(k, LV_G_SESSIONS), 1);
  client_connect(a, (opts){0});
  d.session_expiry_s = 5;
  assert_int_equal(lv_sess_disconnect(a->sess, &d), LV_E_PROTOCOL);
}

/* ---- wills ---- */

static void test_will(void **state) {
  const opts o = {.expiry_s = 100, .will_topic = "w", .will = "x", .will_qos = 1};
  client_sub(p, "w", 2, (subopts){0});
  client_connect(a, o);
  client_bye(a);
  kit_sleep_ms(k, 1000);
  silence(p);
  client_connect(a, o);
  client_cut(a);
  hears(p, "w", "x");
  assert_int_equal(p->got[p->n_seen - 1].qos, 1);
  client_connect(a, o);
  client_connect(b, o); /* taken over: the old connection's will */
  hears(p, "w", "x");
  lv_mqtt_disconnect d = {.reason = 0x04};
  assert_int_equal(lv_sess_disconnect(b->sess, &d), 0);
  client_cut(b);
  hears(p, "w", "x");
  silence(p);
  assert_int_equal(kit_count(k, LV_C_GW_OFFERED), 3);
}

static void test_will_delay(void **state) {
  const opts o = {.expiry_s = 100, .will_topic = "w", .will = "x", .will_delay_s = 10};
  client_sub(p, "w", 0, (subopts){0});
  client_connect(a, o);
  client_cut(a);
  kit_sleep_ms(k, 9000);
  silence(p);
  client_connect(b, o); /* back in time */
  kit_sleep_ms(k, 5000);
  silence(p);
  client_cut(b);
  kit_sleep_ms(k, 10500);
  hears(p, "w", "x");
  kit_sleep_ms(k, 100000);
  silence(p);
  /* The session's end comes first. */
  opts s = o;
  s.expiry_s = 3;
  client_connect(a, s);
  client_cut(a);
  kit_sleep_ms(k, 4000);
  hears(p, "w", "x");
  assert_int_equal(kit_gauge(k, LV_G_SESSIONS), 1);
}

static void test_will_across_restarts(void **state) {
  for (int crash = 0; crash < 2; crash++) {
    for (uint32_t expiry = 0; expiry <= 100; expiry += 100) {
      client_connect(a, (opts){.expiry_s = expiry,
                               .will_topic = "w/r",
                               .will = "x",
                               .will_delay_s = 10,
                               .will_retain = true});
      kit_restart(k, crash);
      client_connect(p, (opts){.clean = true});
      client_sub(p, "w/r", 0, (subopts){0});
      if (expiry) {
        kit_sleep_ms(k, 8000);
        silence(p);
        kit_sleep_ms(k, 3000);
      } else {
        kit_sleep_ms(k, 1000);
      }
      const got *g = client_next(p);
      assert_non_null(g);
      assert_string_equal(g->payload, "x");
      kit_sleep_ms(k, 200000);
      silence(p);
      client_publish(p, "w/r", "", 0, true);
      kit_run(k);
      hears(p, "w/r", "");
      assert_int_equal(kit_gauge(k, LV_G_SESSIONS), 1);
    }
  }
}

/* A broker that is full delays a will; it does not lose it. */
static void test_will_and_back_pressure(void **state) {
  char *big = malloc(1 << 20);
  memset(big, 'x', (1 << 20) - 1);
  big[(1 << 20) - 1] = 0;
  client_sub(p, "w", 0, (subopts){0});
  client_connect(a, (opts){.will_topic = "w", .will = "x"});
  fake_hold(k->fake, LV_DURABILITY_DISK, true);
  while (client_publish(a, "d/a", big, 0, false) == 0) {
  }
  free(big);
  client_cut(a);
  kit_sleep_ms(k, 2000);
  fake_hold(k->fake, LV_DURABILITY_DISK, false);
  kit_sleep_ms(k, 1000);
  hears(p, "w", "x");
}

/* ---- restarts ---- */

static void test_persistence(void **state) {
  for (int crash = 0; crash < 2; crash++) {
    client_connect(a, (opts){.clean = true, .expiry_s = 1000});
    a->auto_ack = false;
    client_sub(a, "d/#", 2, (subopts){.id = 5});
    client_sub(a, "m/+", 1,
               (subopts){.as_published = true, .no_local = true, .id = 6, .retain_handling = 2});
    client_unsub(a, "never");
    client_publish(a, "m/own", "x", 1, true);
    say("d/1", "in flight", 2);
    say("m/1", "in flight too", 1);
    say("d/2", "received", 2);
    hears(a, "d/1", "in flight");
    hears(a, "m/1", "in flight too");
    hears(a, "d/2", "received");
    assert_int_equal(a->got[a->n_seen - 1].ids[0], 5);
    uint16_t rec = a->got[a->n_seen - 1].pid;
    client_ack(a, LV_MQTT_PUBREC, rec, 0);
    kit_run(k);
    assert_non_null(client_acked(a, LV_MQTT_PUBREL, rec));
    kit_restart(k, crash);
    client_connect(p, (opts){.clean = true});
    say("d/3", "while away", 2);
    client_forget(a);
    client_connect(a, (opts){.expiry_s = 1000});
    assert_true(a->present);
    assert_non_null(client_acked(a, LV_MQTT_PUBREL, rec)); /* again, and not the message */
    hears(a, "d/1", "in flight");
    assert_true(a->got[0].dup);
    assert_int_equal(a->got[0].ids[0], 5);
    hears(a, "m/1", "in flight too");
    hears(a, "d/3", "while away");
    silence(a);
    client_publish(a, "m/own", "x", 1, true); /* No Local is remembered */
    client_publish(p, "m/other", "x", 1, true);
    hears(a, "m/other", "x");
    assert_true(a->got[a->n_seen - 1].retain); /* as published */
    silence(a);
    for (uint32_t i = 0; i < a->n_got; i++) {
      if (a->got[i].qos == 2) client_ack(a, LV_MQTT_PUBREC, a->got[i].pid, 0);
      if (a->got[i].qos == 1) client_ack(a, LV_MQTT_PUBACK, a->got[i].pid, 0);
    }
    kit_run(k);
    for (uint32_t i = 0; i < a->n_got; i++)
      if (a->got[i].qos == 2) client_ack(a, LV_MQTT_PUBCOMP, a->got[i].pid, 0);
    client_ack(a, LV_MQTT_PUBCOMP, rec, 0);
    kit_run(k);
    assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
    client_bye(a);
    kit_run(k);
    client_forget(a);
  }
}

/* SUBACK and CONNACK leave when their record is safe, and not when it failed. */
static void test_stored_first(void **state) {
  fake_hold(k->fake, LV_DURABILITY_DISK, true);
  client_ask(a, (opts){.expiry_s = 100});
  kit_run(k);
  assert_false(a->open);
  fake_hold(k->fake, LV_DURABILITY_DISK, false);
  kit_run(k);
  assert_true(a->open);
  fake_hold(k->fake, LV_DURABILITY_DISK, true);
  client_sub_send(a, "d/#", 1, (subopts){0});
  client_sub_send(a, "e/#", 1, (subopts){0});
  kit_run(k);
  assert_int_equal(a->n_acks, 0);
  fake_complete(k->fake, LV_DURABILITY_DISK, 1);
  fake_fail(k->fake, LV_DURABILITY_DISK, 100, LV_E_IO);
  kit_run(k);
  fake_hold(k->fake, LV_DURABILITY_DISK, false);
  client_cut(a);
  kit_run(k);
  fake_fail_all(k->fake, LV_DURABILITY_DISK, LV_E_DISK_FULL);
  client_connect(a, (opts){.expiry_s = 100});
  assert_null(a->sess);
  assert_int_equal(a->err, LV_E_DISK_FULL);
  client_connect(b, (opts){0}); /* nothing to store, but an old record to end */
  fake_fail_all(k->fake, LV_DURABILITY_DISK, 0);
  kit_run(k);
}

/* A QoS 2 message leaves when its packet id is stored, PUBREL when its PUBREC is. */
static void test_qos2_stored_first(void **state) {
  client_connect(a, (opts){.expiry_s = 100});
  a->auto_ack = false;
  client_sub(a, "m/#", 2, (subopts){0});
  fake_hold(k->fake, LV_DURABILITY_DISK, true);
  say("m/1", "x", 2);
  assert_int_equal(a->n_got, 0);
  fake_hold(k->fake, LV_DURABILITY_DISK, false);
  kit_run(k);
  hears(a, "m/1", "x");
  fake_hold(k->fake, LV_DURABILITY_DISK, true);
  client_ack(a, LV_MQTT_PUBREC, 1, 0);
  kit_run(k);
  assert_null(client_acked(a, LV_MQTT_PUBREL, 1));
  fake_hold(k->fake, LV_DURABILITY_DISK, false);
  kit_run(k);
  assert_non_null(client_acked(a, LV_MQTT_PUBREL, 1));
  /* When it cannot be stored it waits until it can. */
  fake_fail_all(k->fake, LV_DURABILITY_DISK, LV_E_IO);
  say("m/2", "y", 2);
  kit_sleep_ms(k, 1100);
  assert_non_null(a->sess);
  silence(a);
  fake_fail_all(k->fake, LV_DURABILITY_DISK, 0);
  kit_sleep_ms(k, 1100);
  hears(a, "m/2", "y");
  silence(a);
}

/* ---- subscriptions ---- */

static void test_options(void **state) {
  client_connect(a, (opts){.clean = true});
  client_publish(p, "r/1", "kept", 1, true);
  kit_run(k);
  client_sub(a, "r/#", 1, (subopts){.retain_handling = 2});
  silence(a);
  client_sub(a, "r/+", 1, (subopts){.retain_handling = 1, .id = 9});
  hears(a, "r/1", "kept");
  assert_true(a->got[0].retain);
  client_sub(a, "r/+", 1, (subopts){.retain_handling = 1, .id = 9});
  silence(a);
  client_sub(a, "r/+", 1, (subopts){.id = 10});
  hears(a, "r/1", "kept");
  /* overlapping filters: one copy, the higher QoS, every identifier */
  client_sub(a, "r/2", 2, (subopts){.id = 11});
  say("r/2", "x", 2);
  hears(a, "r/2", "x");
  const got *g = &a->got[a->n_seen - 1];
  assert_int_equal(g->qos, 2);
  assert_false(g->retain);
  assert_int_equal(g->n_ids, 2);
  assert_int_equal(g->ids[0] + g->ids[1], 21);
  silence(a);
  client_publish(p, "r/1", "", 1, true);
  hears(a, "r/1", "");
  client_sub(a, "r/+", 1, (subopts){0});
  silence(a);
  /* no local, as published */
  client_sub(a, "n", 1, (subopts){.no_local = true, .as_published = true});
  client_publish(a, "n", "mine", 1, true);
  silence(a);
  client_publish(p, "n", "theirs", 1, true);
  hears(a, "n", "theirs");
  assert_true(a->got[a->n_seen - 1].retain);
}

static void test_subscribe_answers(void **state) {
  client_connect(a, (opts){.clean = true});
  assert_int_equal(client_sub(a, "a/#/b", 1, (subopts){0}), 0x8F);
  assert_int_equal(client_sub(a, "$share//b", 1, (subopts){0}), 0x8F);
  assert_int_equal(client_sub(a, "$SYS/#", 1, (subopts){0}), 0x87);
  assert_int_equal(client_sub(a, "x", 2, (subopts){0}), 2);
  assert_int_equal(client_unsub(a, "x"), 0);
  assert_int_equal(client_unsub(a, "x"), 0x11);
  say("x", "y", 1);
  silence(a);
  client_sub(a, "again", 1, (subopts){0});
  client_sub(a, "again", 0, (subopts){0});
  say("again", "y", 1);
  hears(a, "again", "y");
  assert_int_equal(a->got[0].qos, 0);
  silence(a);
}

/* The loop's only subscription is replaced while something that it is owed waits for the loop. */
static void test_resubscribe_live(void **state) {
  client_connect(b, (opts){.clean = true});
  client_sub(b, "d/#", 1, (subopts){0});
  for (int i = 0; i < 3; i++) {
    uint64_t seen = k->shard[1]->seen.lsn[LV_DURABILITY_DISK];
    assert_int_equal(client_publish(p, "d/x", "y", 1, false), 0);
    for (int n = 0; n < 3; n++) lv_loop_step(k->loop[0]);
    assert_true(seen < k->broker->ops->visible(k->broker).lsn[LV_DURABILITY_DISK]);
    assert_int_equal(client_sub_send(b, "d/#", 1, (subopts){.retain_handling = 2}), 0);
    hears(b, "d/x", "y");
    silence(b);
  }
}

/* Frames that many subscribers share carry the same as those that are made for one. */
static void test_fan_out(void **state) {
  client *c[9];
  char id[16];
  for (int i = 0; i < 9; i++) {
    snprintf(id, sizeof id, "fan%d", i);
    c[i] = client_new(k, i % 2, id, i % 3 ? LV_MQTT_V5 : LV_MQTT_V3);
    client_connect(
        c[i], (opts){.clean = true, .alias_max = i == 4 ? 5 : 0, .max_packet = i == 5 ? 20 : 0});
    client_sub(c[i], "f/#", i == 7 ? 1 : 0,
               (subopts){.as_published = i == 8, .id = i == 2 ? 3 : 0});
  }
  for (int i = 0; i < 50; i++) {
    snprintf(id, sizeof id, "%d", i);
    client_publish(p, i % 2 ? "f/long/topic/that/is/too/big" : "f/s", id, 1, i == 10);
    if (i % 7 == 0) kit_run(k);
  }
  kit_run(k);
  for (int i = 0; i < 9; i++) {
    for (int n = 0; n < 50; n++) {
      if (i == 5 && n % 2) continue; /* more than it takes */
      snprintf(id, sizeof id, "%d", n);
      hears(c[i], n % 2 ? "f/long/topic/that/is/too/big" : "f/s", id);
      const got *g = &c[i]->got[c[i]->n_seen - 1];
      assert_int_equal(g->qos, i == 7 ? 1 : 0);
      assert_int_equal(g->retain, i == 8 && n == 10);
      assert_int_equal(g->n_ids, i == 2);
      if (g->qos) client_ack(c[i], LV_MQTT_PUBACK, g->pid, 0);
    }
    silence(c[i]);
  }
  assert_int_equal(kit_count(k, LV_C_DROP_HUB_TOO_BIG), 25);
  assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_takeover, up, down),
      cmocka_unit_test_setup_teardown(test_takeover_waits, up, down),
      cmocka_unit_test_setup_teardown(test_claims_in_order, up, down),
      cmocka_unit_test_setup_teardown(test_cancelled_claims, up, down),
      cmocka_unit_test_setup_teardown(test_takeover_between_feeds, up, down),
      cmocka_unit_test_setup_teardown(test_clean_start, up, down),
      cmocka_unit_test_setup_teardown(test_expiry, up, down),
      cmocka_unit_test_setup_teardown(test_will, up, down),
      cmocka_unit_test_setup_teardown(test_will_delay, up, down),
      cmocka_unit_test_setup_teardown(test_will_across_restarts, up, down),
      cmocka_unit_test_setup_teardown(test_will_and_back_pressure, up, down),
      cmocka_unit_test_setup_teardown(test_persistence, up, down),
      cmocka_unit_test_setup_teardown(test_stored_first, up, down),
      cmocka_unit_test_setup_teardown(test_qos2_stored_first, up, down),
      cmocka_unit_test_setup_teardown(test_options, up, down),
      cmocka_unit_test_setup_teardown(test_subscribe_answers, up, down),
      cmocka_unit_test_setup_teardown(test_resubscribe_live, up, down),
      cmocka_unit_test_setup_teardown(test_fan_out, up, down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
