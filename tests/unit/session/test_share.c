/* Shared subscriptions over three loops: balance, what is given back, rights, moves, ends. */
#include "kit.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* after the above */
#include <cmocka.h>

enum { LOOPS = 3, MSGS_MAX = 1024 };

static kit *k;
static client *p;
static int times[MSGS_MAX]; /* how often each message came, over all members */

static const char conf[] = "server: {anonymous: true}\n"
                           "apps:\n"
                           "  - name: a\n"
                           "    auto_channels: true\n"
                           "    channel_defaults: {durability: disk}\n"
                           "    keys:\n"
                           "      - {id: some, publish: '#', subscribe: 'g/a/#', hash: "
                           "'sha256:8c4ee4e0a87ae0fd6ac4ab0ea85c3a28eb4c8a51f03cf02d6f4d61a0b1f4b7"
                           "aa'}\n"
                           "      - {id: all, subscribe: '#', hash: "
                           "'sha256:0b7d3ad4ea2c3a2d14c9d1b3e8aa76a1f5dfe25be30f9c94f3a1f6d0b8c9d2e"
                           "3'}\n";

static int up(void **state) {
  k = kit_new(LOOPS, conf);
  p = client_new(k, 0, "pub", LV_MQTT_V5);
  client_connect(p, (opts){.clean = true});
  p->auto_ack = true;
  memset(times, 0, sizeof times);
  return 0;
}

static int down(void **state) {
  kit_free(k);
  return 0;
}

static void on_got(client *c, const got *g) {
  uint64_t n;
  assert_int_equal(lv_slice_u64(lv_slice_str(g->payload), &n), 0);
  assert_true(n < MSGS_MAX);
  if (!g->dup) times[n]++;
  (void)c;
}

static client *member(int i, const char *filter, uint8_t qos, opts o) {
  char id[16];
  snprintf(id, sizeof id, "m%d", i);
  client *c = client_new(k, i % LOOPS, id, LV_MQTT_V5);
  c->auto_ack = true;
  c->on_got = on_got;
  client_connect(c, o);
  assert_true(c->open);
  assert_int_equal(client_sub(c, filter, qos, (subopts){.id = (uint32_t)i + 1}), qos);
  return c;
}

static void say(const char *topic, int from, int to, uint8_t qos) {
  char text[16];
  for (int i = from; i < to; i++) {
    snprintf(text, sizeof text, "%d", i);
    assert_int_equal(client_publish(p, topic, text, qos, false), 0);
    if (i % 7 == 0) kit_run(k);
  }
  for (int i = 0; i < 200; i++) kit_step(k);
}

static void each_once(int from, int to) {
  for (int i = from; i < to; i++)
    if (times[i] != 1) fail_msg("message %d came %d times", i, times[i]);
}

static void test_balance(void **state) {
  client *m[6];
  for (int i = 0; i < 6; i++)
    m[i] = member(i, "$share/g/g/#", (uint8_t)(i % 3), (opts){.clean = true});
  client *solo = member(7, "g/#", 0, (opts){.clean = true});
  solo->on_got = NULL;
  for (uint8_t qos = 0; qos <= 2; qos++) say("g/x", 100 * qos, 100 * qos + 100, qos);
  each_once(0, 300);
  for (int i = 0; i < 6; i++) {
    assert_in_range(m[i]->n_got, 45, 55);
    assert_int_equal(m[i]->got[0].n_ids, 1);
    assert_int_equal(m[i]->got[0].ids[0], i + 1);
  }
  assert_int_equal(solo->n_got, 300);
  assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
  assert_int_equal(kit_count(k, LV_C_HUB_OWED), 600);
  assert_int_equal(kit_count(k, LV_C_HUB_OUT), 600);
}

/* A member goes while it owes acknowledgements: the others get those. */
static void test_leave_in_flight(void **state) {
  for (int how = 0; how < 3; how++) {
    client *slow = member(10 + how, "$share/g/g/#", 1, (opts){.clean = true, .receive_max = 5});
    slow->auto_ack = false;
    slow->on_got = NULL;
    say("g/x", 0, 40, 1);
    assert_int_equal(slow->n_got, 5);
    client *m = member(20 + how, "$share/g/g/#", 1, (opts){.clean = true});
    kit_ledger(k);
    if (how == 0) client_cut(slow);
    if (how == 1) client_bye(slow);
    if (how == 2) { /* what it has begun stays its own */
      client_unsub(slow, "$share/g/g/#");
      for (uint32_t i = 0; i < 5; i++) {
        on_got(slow, &slow->got[i]);
        client_ack(slow, LV_MQTT_PUBACK, slow->got[i].pid, 0);
      }
    }
    for (int i = 0; i < 300; i++) kit_step(k);
    each_once(0, 40);
    assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
    client_bye(m);
    kit_run(k);
    memset(times, 0, sizeof times);
  }
}

/* QoS 2 that a persistent member has begun is finished by that member. */
static void test_qos2_in_flight(void **state) {
  client *m = member(1, "$share/g/g/#", 2, (opts){.expiry_s = 100});
  m->auto_ack = false;
  say("g/x", 0, 3, 2);
  assert_int_equal(m->n_got, 3);
  client_ack(m, LV_MQTT_PUBREC, m->got[0].pid, 0);
  kit_run(k);
  client_cut(m);
  kit_run(k);
  client *other = member(2, "$share/g/g/#", 2, (opts){.clean = true});
  say("g/x", 3, 6, 2);
  assert_int_equal(other->n_got, 3);
  m->auto_ack = true;
  client_connect(m, (opts){.expiry_s = 100});
  client_ack(m, LV_MQTT_PUBCOMP, m->got[0].pid, 0);
  for (int i = 0; i < 100; i++) kit_step(k);
  each_once(0, 6);
  assert_int_equal(m->n_got, 5); /* two of them again */
  assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
}

/* The only member subscribes again, as clients do when they are back: the group stays, with all
 * that it has not finished. */
static void test_resubscribe(void **state) {
  for (int i = 0; i < LOOPS; i++) {
    opts o = {.expiry_s = 100, .receive_max = 2};
    client *m = member(i, "$share/g/g/#", 1, o);
    client_cut(m);
    kit_run(k);
    say("g/x", 0, 20, 1);
    m->auto_ack = false;
    m->stream = true;
    client_connect(m, o);
    assert_true(m->present);
    assert_int_equal(client_sub(m, "$share/g/g/#", 1, (subopts){0}), 1);
    m->auto_ack = true;
    client_cut(m); /* what it has not acknowledged comes again */
    kit_run(k);
    client_connect(m, o);
    assert_int_equal(client_sub(m, "$share/g/g/#", 1, (subopts){0}), 1);
    for (int n = 0; n < 300; n++) kit_step(k);
    each_once(0, 20);
    assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
    client_cut(m);
    kit_run(k);
    client_connect(m, (opts){.clean = true});
    client_bye(m);
    kit_run(k);
    memset(times, 0, sizeof times);
  }
}

/* What a session has begun and kept is its own after a crash, whatever the other groups it is in
 * have not read yet. */
static void test_own_after_crash(void **state) {
  opts o = {.expiry_s = 100};
  client *m = member(1, "$share/h/h/#", 1, o);
  assert_int_equal(client_sub(m, "$share/g/g/#", 1, (subopts){0}), 1);
  m->auto_ack = false;
  kit_sleep_ms(k, 3000); /* both groups are stored */
  say("g/x", 0, 1, 1);
  each_once(0, 1);
  assert_int_equal(client_sub(m, "$share/g/g/#", 1, (subopts){0}), 1); /* now it is its own */
  kit_sleep_ms(k, 3000);                                               /* `g` knows */
  kit_restart(k, true);
  m->auto_ack = true;
  client_connect(m, o);
  assert_true(m->present);
  for (int n = 0; n < 100; n++) kit_step(k);
  assert_int_equal(m->n_got, 2);
  assert_true(m->got[1].dup);
  assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
}

/* Sent again it has the identifier of the shared subscription, and of no other; also by the next
 * process, where nobody else gets it. */
static void test_qos2_again(void **state) {
  for (int restart = 0; restart < 2; restart++) {
    client *m = member(2 * restart, "$share/g/g/#", 2, (opts){.expiry_s = 100});
    assert_int_equal(client_sub(m, "g/#", 0, (subopts){.id = 77}), 0);
    m->auto_ack = false;
    say("g/x", 10 * restart, 10 * restart + 2, 2);
    assert_int_equal(m->n_got, 4);
    client_cut(m);
    kit_run(k);
    client_forget(m);
    if (restart) {
      kit_restart(k, false);
      client_connect(p, (opts){.clean = true});
    }
    client *other = member(2 * restart + 1, "$share/g/g/#", 2, (opts){.clean = true});
    m->auto_ack = true;
    client_connect(m, (opts){.expiry_s = 100});
    for (int i = 0; i < 100; i++) kit_step(k);
    assert_int_equal(other->n_got, 0);
    assert_int_equal(m->n_got, 2);
    for (int i = 0; i < 2; i++) {
      assert_true(m->got[i].dup);
      assert_int_equal(m->got[i].n_ids, 1);
      assert_int_equal(m->got[i].ids[0], 2 * restart + 1);
    }
    assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
    client_bye(other);
    client_bye(m);
    client_connect(m, (opts){.clean = true});
    client_bye(m);
    kit_run(k);
  }
}

/* After a crash, before or after the group's record was written: QoS 2 that was begun is the
 * member's, QoS 1 goes to whoever is there. */
static void test_in_flight_at_crash(void **state) {
  int from = 0;
  for (int way = 0; way < 4; way++, from += 5) {
    uint8_t qos = (uint8_t)(1 + way % 2);
    client *m = member(2 * way, "$share/g/g/#", qos, (opts){.expiry_s = 10000});
    m->auto_ack = false;
    say("g/x", from, from + 5, qos);
    assert_int_equal(m->n_got, 5);
    for (int i = 0; i < (way < 2 ? 3 : 0); i++) kit_sleep_ms(k, 1000);
    client_forget(m);
    kit_restart(k, true);
    client *other = member(2 * way + 1, "$share/g/g/#", qos, (opts){.clean = true});
    other->on_got = NULL;
    for (int i = 0; i < 100; i++) kit_step(k);
    assert_int_equal(other->n_got, qos == 1 ? 5 : 0);
    m->auto_ack = true;
    client_connect(m, (opts){.expiry_s = 10000});
    for (int i = 0; i < 100; i++) kit_step(k);
    assert_int_equal(m->n_got, qos == 1 ? 0 : 5);
    assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
    client_bye(other);
    client_bye(m);
    client_connect(m, (opts){.clean = true});
    client_bye(m);
    client_connect(p, (opts){.clean = true});
    kit_run(k);
  }
}

/* Nobody is there: it waits. */
static void test_offline_group(void **state) {
  client *m[2];
  for (int i = 0; i < 2; i++) {
    m[i] = member(i, "$share/g/g/#", 1, (opts){.expiry_s = 100, .receive_max = 3});
    client_cut(m[i]);
  }
  say("g/x", 0, 150, 1);
  assert_int_equal(kit_gauge(k, LV_G_PENDING), 150);
  kit_ledger(k);
  client_connect(m[1], (opts){.expiry_s = 100, .receive_max = 3});
  for (int i = 0; i < 900; i++) kit_step(k);
  each_once(0, 150);
  assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
  /* The last one leaves: what waits is given up. */
  client_cut(m[1]);
  say("g/x", 150, 160, 1);
  for (int i = 0; i < 2; i++) {
    client_connect(m[i], (opts){.clean = true});
    client_bye(m[i]);
  }
  for (int i = 0; i < 100; i++) kit_step(k);
  assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
  assert_int_equal(kit_count(k, LV_C_DROP_HUB_ENDED), 10);
}

/* A member gets nothing that its key may not read; what nobody may read is not owed. */
static void test_rights(void **state) {
  client *some = member(1, "$share/g/g/#", 1, (opts){.clean = true, .key = "some"});
  say("g/b/secret", 0, 10, 1);
  assert_int_equal(some->n_got, 0);
  assert_int_equal(kit_count(k, LV_C_HUB_OWED), 0);
  say("g/a/x", 10, 20, 1);
  assert_int_equal(some->n_got, 10);
  client *all = member(2, "$share/g/g/#", 1, (opts){.clean = true, .key = "all"});
  say("g/b/secret", 20, 40, 1);
  assert_int_equal(some->n_got, 10);
  assert_int_equal(all->n_got, 20);
  say("g/a/x", 40, 80, 1);
  assert_in_range(some->n_got, 25, 35);
  each_once(10, 80);
  assert_int_equal(client_sub(some, "$share/g/h/#", 1, (subopts){0}), 0x87);
}

/* Sessions move between loops with their shared subscriptions while messages flow. */
static void test_moves(void **state) {
  client *m[4];
  for (int i = 0; i < 4; i++) m[i] = member(i, "$share/g/g/#", 1, (opts){.expiry_s = 100});
  int n = 0;
  char text[16];
  for (int round = 0; round < 40; round++) {
    client *c = m[round % 4];
    for (int i = 0; i < 5; i++, n++) {
      snprintf(text, sizeof text, "%d", n);
      client_publish(p, "g/x", text, 1, false);
      if (i % 2) kit_step(k);
    }
    if (c->sess && !c->closing) client_cut(c);
    if (!c->sess && !c->asked) {
      client_move(c, (c->loop + 1) % LOOPS);
      client_ask(c, (opts){.expiry_s = 100});
    }
    kit_step(k);
  }
  for (int i = 0; i < 400; i++) kit_step(k);
  for (int i = 0; i < n; i++) assert_true(times[i] >= 1); /* at least once */
  assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
}

/* Several groups with homes anywhere, through restarts and shutdowns. */
static void test_restart(void **state) {
  char filter[32];
  client *m[8];
  for (int i = 0; i < 8; i++) {
    snprintf(filter, sizeof filter, "$share/g%d/g/%d", i, i);
    m[i] = member(i, filter, 1, (opts){.expiry_s = 1000});
  }
  for (int crash = 0; crash < 2; crash++) {
    kit_restart(k, crash);
    client_connect(p, (opts){.clean = true});
    for (int i = 0; i < 8; i++) {
      client_connect(m[i], (opts){.expiry_s = 1000});
      assert_true(m[i]->present);
    }
    for (int i = 0; i < 8; i++) {
      snprintf(filter, sizeof filter, "g/%d", i);
      say(filter, crash * 8 + i, crash * 8 + i + 1, 1);
    }
    each_once(crash * 8, crash * 8 + 8);
  }
  assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_balance, up, down),
      cmocka_unit_test_setup_teardown(test_leave_in_flight, up, down),
      cmocka_unit_test_setup_teardown(test_qos2_in_flight, up, down),
      cmocka_unit_test_setup_teardown(test_resubscribe, up, down),
      cmocka_unit_test_setup_teardown(test_own_after_crash, up, down),
      cmocka_unit_test_setup_teardown(test_qos2_again, up, down),
      cmocka_unit_test_setup_teardown(test_in_flight_at_crash, up, down),
      cmocka_unit_test_setup_teardown(test_offline_group, up, down),
      cmocka_unit_test_setup_teardown(test_rights, up, down),
      cmocka_unit_test_setup_teardown(test_moves, up, down),
      cmocka_unit_test_setup_teardown(test_restart, up, down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
