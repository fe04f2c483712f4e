/* What is bounded: answers that are due, SUBACKs under way, retained messages at once; and what a
 * connection's end leaves in the ledger. */
#include "kit.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* after the above */
#include <cmocka.h>

enum { MEM = LV_DURABILITY_MEMORY, DISK = LV_DURABILITY_DISK, INFLIGHT = 20 };

static kit *k;
static client *p, *s;

static const char conf[] =
    "server: {anonymous: true}\n"
    "limits: {queue_messages: 16, queue: 64KiB, packet: 64KiB, filter_levels: 3}\n"
    "apps:\n"
    "  - name: a\n"
    "    auto_channels: true\n"
    "    limits: {inflight: 20}\n"
    "    session_durability: disk\n"
    "    channel_defaults: {durability: memory}\n"
    "    channels:\n"
    "      - {name: d, durability: disk}\n";

static int up(void **state) {
  k = kit_new(1, conf);
  p = client_new(k, 0, "pub", LV_MQTT_V5);
  s = client_new(k, 0, "sub", LV_MQTT_V5);
  return 0;
}

static int down(void **state) {
  kit_free(k);
  return 0;
}

/* ---- answers ---- */

/* 3.1.1 has no Receive Maximum: the client is held back, and nothing is lost or out of order. */
static void test_v3_waits_for_its_answers(void **state) {
  for (uint8_t qos = 1; qos <= 2; qos++) {
    client *c = client_new(k, 0, qos == 1 ? "old1" : "old2", LV_MQTT_V3);
    client_connect(c, (opts){.clean = true});
    fake_hold(k->fake, DISK, true);
    for (uint32_t i = 0; i < INFLIGHT; i++)
      assert_int_equal(client_publish(c, "d/a", "x", qos, false), 0);
    for (int i = 0; i < 3; i++)
      assert_int_equal(client_publish(c, "d/a", "x", qos, false), LV_E_BUSY);
    assert_int_equal(client_publish(c, "d/a", "x", 0, false), 0); /* has no answer */
    kit_run(k);
    assert_int_equal(c->resumed, 0);
    uint32_t offered = (uint32_t)kit_count(k, LV_C_GW_OFFERED);
    fake_hold(k->fake, DISK, false);
    kit_run(k);
    assert_int_equal(c->resumed, 1);
    assert_int_equal(c->n_acks, INFLIGHT);
    /* Even without PUBREL: else it could never come. */
    assert_int_equal(client_publish_pid(c, "d/a", "x", qos, false, 500, false), 0);
    kit_run(k);
    assert_int_equal(c->n_acks, INFLIGHT + 1);
    assert_int_equal(kit_count(k, LV_C_GW_OFFERED), offered + 1);
    assert_true(c->sess != NULL);
  }
}

/* A refused publish has an answer that waits behind those that are due: of these no end either. */
static void test_refusals_wait_too(void **state) {
  client_connect(p, (opts){.clean = true});
  fake_hold(k->fake, DISK, true);
  assert_int_equal(client_publish(p, "d/a", "x", 1, false), 0);
  int err = 0;
  uint32_t n = 1;
  for (; n < 1000 && !err; n++) err = client_publish(p, "d/too/many/levels", "x", 2, false);
  assert_int_equal(err, LV_E_BUSY);
  assert_int_equal(n, INFLIGHT + 1);
  fake_hold(k->fake, DISK, false);
  kit_run(k);
  assert_int_equal(p->resumed, 1);
  assert_int_equal(p->n_acks, INFLIGHT);
  assert_int_equal(p->acks[1].reason, 0x90);
}

/* §3.4.2.1, §3.5.2.1: what is not in the tables is said as 0x83. */
static void test_reason_codes(void **state) {
  client_connect(p, (opts){.clean = true});
  char *props = malloc(70000);
  memset(props, 0, 70000); /* nobody looks into them here */
  for (uint8_t qos = 1; qos <= 2; qos++) {
    lv_mqtt_publish m = {.topic = LV_SLICE("d/a"), .qos = qos, .packet_id = (uint16_t)(10 + qos)};
    m.raw_props = lv_slice_of(props, 70000);
    m.forward_len = 70000;
    assert_int_equal(lv_sess_publish(p->sess, &m, k->loop[0]->now), 0);
    kit_run(k);
    const ack_got *a = client_acked(p, qos == 1 ? LV_MQTT_PUBACK : LV_MQTT_PUBREC, m.packet_id);
    assert_non_null(a);
    assert_int_equal(a->reason, 0x83);
  }
  free(props);
}

/* Packet ids of QoS 2 that are open: as many as there are, found whatever came and went. */
static void test_open_packet_ids(void **state) {
  enum { ALL = 65535 };
  static bool open[ALL + 1];
  client *c = client_new(k, 0, "ids", LV_MQTT_V3);
  client_connect(c, (opts){.expiry_s = 100});
  uint64_t seed = 3;
  memset(open, 0, sizeof open);
  for (uint32_t i = 1; i <= ALL; i++) {
    lv__in2_add(c->sess, (uint16_t)i, LV_IN_STORED, MEM);
    open[i] = true;
  }
  assert_int_equal(c->sess->in2->n, ALL);
  uint32_t n = ALL;
  c->sess->persistent = 0; /* releases at once */
  for (int i = 0; i < 300000; i++) {
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
    uint16_t pid = (uint16_t)(seed >> 40);
    if (pid == 0) continue;
    if (seed >> 63) {
      lv__in2_add(c->sess, pid, LV_IN_STORED, MEM);
      n += !open[pid];
      open[pid] = true;
    } else {
      assert_int_equal(lv__in_release(c->sess, pid), 0);
      n -= open[pid];
      open[pid] = false;
    }
    assert_int_equal(c->sess->in2->n, n);
    if (i % 1000 == 0) kit_run(k);
  }
  for (uint32_t i = 1; i <= ALL; i++) {
    if (!open[i]) continue;
    uint32_t before = c->sess->in2->n;
    assert_int_equal(lv__in_release(c->sess, (uint16_t)i), 0);
    if (--n == 0) break;
    assert_int_equal(c->sess->in2->n, before - 1);
  }
  assert_int_equal(n, 0);
  assert_null(c->sess->in2);
  c->sess->persistent = 1;
}

static void test_few_subacks_under_way(void **state) {
  client_connect(s, (opts){.expiry_s = 100});
  fake_hold(k->fake, DISK, true);
  char filter[16];
  uint32_t n = 0;
  int err = 0;
  for (; n < 1000 && !err; n += !err) {
    snprintf(filter, sizeof filter, "f/%u", n);
    err = client_sub_send(s, filter, 1, (subopts){0});
  }
  assert_int_equal(err, LV_E_BUSY);
  assert_int_equal(n, 16);
  lv_mqtt_subscribe u = {.packet_id = 999, .list = LV_SLICE("\0\3f/0"), .count = 1};
  assert_int_equal(lv_sess_unsubscribe(s->sess, &u), LV_E_BUSY);
  kit_run(k);
  assert_int_equal(s->n_acks, 0);
  fake_hold(k->fake, DISK, false);
  kit_run(k);
  assert_int_equal(s->n_acks, 16);
  assert_int_equal(s->resumed, 1);
  assert_int_equal(lv_sess_unsubscribe(s->sess, &u), 0);
  kit_run(k);
  assert_non_null(client_acked(s, LV_MQTT_UNSUBACK, 999));
}

/* Found by filter whatever came and went: replaced, ended, made again; stored and read back. */
static void test_many_filters(void **state) {
  enum { N = 700 };
  char f[16];
  static uint8_t qos[N]; /* 0xFF: none */
  uint32_t n = 0;
  uint64_t seed = 7;
  client_connect(s, (opts){.expiry_s = 100});
  memset(qos, 0xFF, sizeof qos);
  for (int i = 0; i < 4 * N; i++) {
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
    uint32_t at = (uint32_t)(seed >> 33) % N;
    snprintf(f, sizeof f, "m/%u", at);
    bool had = qos[at] != 0xFF;
    if (seed >> 60 < 6) {
      assert_int_equal(client_unsub(s, f), had ? 0 : 0x11);
      qos[at] = 0xFF;
      n -= had;
    } else {
      qos[at] = (uint8_t)(seed >> 40) % 3;
      assert_int_equal(client_sub(s, f, qos[at], (subopts){0}), qos[at]);
      n += !had;
    }
    assert_int_equal(s->sess->n_subs, n);
  }
  assert_in_range(n, N / 4, N - 1);
  client_cut(s);
  kit_run(k);
  kit_restart(k, true);
  client_connect(s, (opts){.expiry_s = 100});
  assert_int_equal(s->sess->n_subs, n);
  for (uint32_t at = 0; at < N; at++) {
    snprintf(f, sizeof f, "m/%u", at);
    assert_int_equal(client_unsub(s, f), qos[at] != 0xFF ? 0 : 0x11);
  }
  assert_int_equal(s->sess->n_subs, 0);
}

/* Subscriptions that end while their retained messages are due, before the SUBACK and after. */
static void test_due_and_ended(void **state) {
  char f[16];
  client_connect(p, (opts){.clean = true});
  for (int i = 0; i < 40; i++) {
    snprintf(f, sizeof f, "m/%d", i);
    client_publish(p, f, "v", 1, true);
    kit_run(k);
  }
  client_connect(s, (opts){.expiry_s = 100, .receive_max = 1});
  s->auto_ack = false;
  fake_hold(k->fake, DISK, true);
  for (int i = 0; i < 8; i++) { /* m/0 … m/3, each twice */
    snprintf(f, sizeof f, "m/%d", i / 2);
    assert_int_equal(client_sub_send(s, f, 1, (subopts){0}), 0);
  }
  lv_mqtt_subscribe u = {.packet_id = 999, .list = LV_SLICE("\0\3m/2"), .count = 1};
  assert_int_equal(lv_sess_unsubscribe(s->sess, &u), 0);
  fake_hold(k->fake, DISK, false);
  kit_run(k);
  for (int i = 0; i < 200; i++) { /* again and again, none of it taken */
    snprintf(f, sizeof f, "m/%d", 4 + i % 30);
    assert_int_equal(client_sub(s, f, 1, (subopts){0}), 1);
    if (i % 3 == 0) assert_int_equal(client_unsub(s, f), 0);
  }
  s->auto_ack = true;
  assert_int_equal(s->n_got, 1);
  client_ack(s, LV_MQTT_PUBACK, s->got[0].pid, 0);
  kit_run(k);
  assert_int_equal(s->n_got, s->sess->n_subs); /* each that is left: once */
  assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
}

/* ---- retained messages ---- */

enum { KEPT = 3000 };

static void keep_many(uint8_t qos) {
  char topic[32];
  client_connect(p, (opts){.clean = true});
  for (int i = 0; i < KEPT; i++) {
    snprintf(topic, sizeof topic, "m/%d", i);
    assert_int_equal(client_publish(p, topic, "v", qos, true), 0);
    if (i % 10 == 9) kit_run(k);
  }
  kit_run(k);
}

/* How many different retained topics came; once: each for the first time, but for DUP. */
static int retained_seen(bool once) {
  static bool seen[KEPT];
  int n = 0;
  memset(seen, 0, sizeof seen);
  for (uint32_t i = 0; i < s->n_got; i++) {
    const got *g = &s->got[i];
    if (!g->retain) continue;
    uint64_t at;
    assert_int_equal(lv_slice_u64(lv_slice_str(g->topic + 2), &at), 0);
    assert_in_range(at, 0, KEPT - 1);
    assert_true(!once || !seen[at] || g->dup);
    n += !seen[at];
    seen[at] = true;
  }
  return n;
}

/* Many more than the queue takes: all come, as the client takes them, and new ones behind them. */
static void test_many_retained(void **state) {
  keep_many(1);
  for (uint8_t qos = 0; qos <= 1; qos++) {
    client_connect(s, (opts){.clean = true, .receive_max = 5});
    s->auto_ack = false;
    s->blocked = qos == 0;
    client_sub_send(s, "m/#", qos, (subopts){0});
    for (int i = 0; i < 5; i++) kit_step(k);
    assert_true(s->outq.bytes < 128 * 1024);
    if (qos) assert_int_equal(s->n_got, 5);
    client_publish(p, "m/7", "new", 1, false);
    kit_step(k);
    s->blocked = false;
    s->auto_ack = true;
    for (uint32_t i = 0; qos && i < 5; i++) client_ack(s, LV_MQTT_PUBACK, s->got[i].pid, 0);
    for (int i = 0; i < 300 && s->n_got <= KEPT; i++) {
      kit_sleep_ms(k, 2);
      kit_run(k);
    }
    assert_int_equal(retained_seen(true), KEPT);
    assert_int_equal(s->n_got, KEPT + 1);
    assert_string_equal(s->got[KEPT].payload, "new");
    assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
    client_cut(s);
    kit_run(k);
    client_forget(s);
  }
}

/* Its subscription, or its connection, ends in the middle. */
static void test_retained_cut_short(void **state) {
  keep_many(1);
  client_connect(s, (opts){.expiry_s = 100, .receive_max = 5});
  client_sub_send(s, "m/#", 1, (subopts){0});
  client_sub_send(s, "m/1", 1, (subopts){0});
  kit_run(k);
  assert_int_equal(s->n_got, 5);
  assert_int_equal(client_unsub(s, "m/#"), 0);
  for (uint32_t i = 0; i < 5; i++) client_ack(s, LV_MQTT_PUBACK, s->got[i].pid, 0);
  kit_run(k);
  assert_int_equal(s->n_got, 6); /* the other one's turn */
  assert_string_equal(s->got[5].topic, "m/1");
  client_sub_send(s, "m/#", 1, (subopts){0});
  kit_run(k);
  client_cut(s);
  kit_run(k);
  client_forget(s);
  client_connect(s, (opts){.expiry_s = 100, .receive_max = 5});
  kit_run(k);
  assert_true(s->present);
}

static void stop_acking(client *c, const got *g) {
  if (g->pid % 97 == 0 && !g->dup) c->auto_ack = false;
}

/* What is due at QoS 1 and 2 is pending (§4.1): later connections get the rest, and each message
 * once; so do those to the next process, where some may come again. */
static void test_retained_over_connections(void **state) {
  p->auto_ack = true;
  keep_many(2);
  for (int way = 0; way < 4; way++) {
    uint8_t qos = (uint8_t)(1 + way % 2);
    bool restarts = way >= 2;
    opts o = {.expiry_s = 10000, .receive_max = 20};
    client_connect(s, o);
    s->auto_ack = true;
    s->on_got = stop_acking;
    client_sub_send(s, "m/1", qos, (subopts){0});
    client_sub_send(s, "m/#", qos, (subopts){.retain_handling = 1});
    client_sub_send(s, "m/+", 0, (subopts){0}); /* QoS 0: not for later */
    for (int cuts = 0; cuts < 12; cuts++) {
      kit_run(k);
      assert_true(s->n_got < KEPT);
      if (restarts && cuts % 4 == 0) {
        kit_restart(k, cuts == 4);
      } else {
        client_cut(s);
        kit_run(k);
      }
      s->auto_ack = true;
      client_connect(s, o);
      assert_true(s->present);
    }
    s->on_got = NULL;
    s->auto_ack = true;
    for (uint32_t i = 0; i < s->n_got; i++) /* those that it has kept back */
      if (s->got[i].qos)
        client_ack(s, qos == 1 ? LV_MQTT_PUBACK : LV_MQTT_PUBREC, s->got[i].pid, 0);
    for (int i = 0; i < 2000 && retained_seen(false) < KEPT; i++) {
      kit_sleep_ms(k, 2);
      kit_run(k);
    }
    kit_sleep_ms(k, 2000);
    kit_run(k);
    assert_int_equal(retained_seen(false), KEPT);
    if (!restarts) assert_in_range(s->n_got, KEPT + 1, KEPT + 1 + 12 * 20);
    if (restarts) { /* it is known now that all is done */
      client_forget(s);
      kit_restart(k, true);
      client_connect(s, o);
      for (int i = 0; i < 50; i++) kit_step(k);
      assert_int_equal(s->n_got, 0);
    }
    client_cut(s);
    kit_run(k);
    client_connect(s, (opts){.clean = true});
    client_cut(s);
    kit_run(k);
    client_forget(s);
  }
}

/* ---- session_durability is another one at the next start ---- */

#define APP(durability)                                                                            \
  "server: {anonymous: true}\n"                                                                    \
  "apps:\n"                                                                                        \
  "  - name: a\n"                                                                                  \
  "    auto_channels: true\n"                                                                      \
  "    session_durability: " durability "\n"                                                       \
  "    channel_defaults: {durability: memory}\n"

/* Session and shared subscription move to the other log; each message comes once, and in the end
 * neither log knows anything of them. */
static void test_durability_changes(void **state) {
  static const char *const conf_of[] = {APP("memory"), APP("disk")};
  char text[8];
  client_connect(s, (opts){.expiry_s = 10000});
  client_sub(s, "$share/g/m/shared", 1, (subopts){0});
  client_sub(s, "m/own", 1, (subopts){0});
  s->auto_ack = true;
  uint32_t n = 0;
  for (int i = 0; i < 6; i++) {
    client_cut(s);
    kit_run(k);
    client_connect(p, (opts){.clean = true});
    for (int j = 0; j < 3; j++, n += 2) {
      snprintf(text, sizeof text, "%u", n);
      client_publish(p, "m/shared", text, 1, false);
      client_publish(p, "m/own", text, 1, false);
    }
    kit_run(k);
    if (i % 2) kit_sleep_ms(k, 1100); /* stored anew */
    if (i % 3 == 0) kit_conf(k, conf_of[i / 3]);
    kit_restart(k, i == 1 || i % 3 == 2);
    fake_hold(k->fake, DISK, i == 0); /* so that what is there is not removed: both logs have it */
    client_connect(s, (opts){.expiry_s = 10000});
    assert_true(s->present);
    assert_int_equal(s->sess->n_subs, 2 + i);
    snprintf(text, sizeof text, "x/%d", i);
    assert_int_equal(client_sub(s, text, 1, (subopts){0}), 1);
    for (int j = 0; j < 100; j++) kit_step(k);
    assert_int_equal(s->n_got, n);
    kit_sleep_ms(k, 1100);
    kit_sleep_ms(k, 1100); /* a crash repeats nothing of what is older than a second */
    assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
  }
  client_cut(s);
  kit_run(k);
  client_connect(s, (opts){.clean = true});
  client_cut(s);
  kit_run(k);
  assert_int_equal(fake_keys(k->fake), 0);
}

/* CONNACK says that the old session is gone: it is, whatever happens next. */
static void test_clean_start_waits(void **state) {
  client_connect(s, (opts){.expiry_s = 100});
  client_sub(s, "m/a", 1, (subopts){0});
  client_cut(s);
  kit_run(k);
  fake_hold(k->fake, DISK, true);
  client_ask(s, (opts){.clean = true});
  kit_run(k);
  assert_false(s->open);
  fake_hold(k->fake, DISK, false);
  kit_run(k);
  assert_true(s->open);
  assert_false(s->present);
  kit_restart(k, true);
  client_connect(s, (opts){.expiry_s = 100});
  assert_false(s->present);
}

/* ---- sent again ---- */

/* A window of large messages is not put into the send queue at once, and comes in order. */
static void test_resend_is_bounded(void **state) {
  static char big[30000];
  memset(big, 'b', sizeof big - 1);
  client_connect(p, (opts){.clean = true});
  client_connect(s, (opts){.expiry_s = 100});
  s->auto_ack = false;
  client_sub(s, "m/#", 1, (subopts){0});
  for (int i = 0; i < INFLIGHT; i++) {
    big[0] = (char)('a' + i);
    assert_int_equal(client_publish(p, "m/a", big, 1, false), 0);
    kit_run(k);
  }
  assert_int_equal(s->n_got, INFLIGHT);
  client_cut(s);
  kit_run(k);
  client_forget(s);
  s->blocked = true;
  client_connect(s, (opts){.expiry_s = 100});
  kit_run(k);
  assert_in_range(s->outq.bytes, 1, 64 * 1024 + 32 * 1024);
  s->blocked = false;
  kit_run(k);
  assert_int_equal(s->n_got, INFLIGHT);
  for (int i = 0; i < INFLIGHT; i++) {
    assert_int_equal(s->got[i].payload[0], 'a' + i);
    assert_true(s->got[i].dup);
    client_ack(s, LV_MQTT_PUBACK, s->got[i].pid, 0);
  }
  kit_run(k);
  assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
}

static uint8_t puback(client *c, uint16_t pid) {
  const ack_got *a = client_acked(c, LV_MQTT_PUBACK, pid);
  assert_non_null(a);
  return a->reason;
}

static void keep(client *c, uint16_t pid, const char *topic, const char *value) {
  assert_int_equal(client_publish_pid(c, topic, value, 1, true, pid, false), 0);
}

/* limits.retained counts what is on its way, on every loop, and no topic twice. */
static void test_retained_claims(void **state) {
  kit *two = kit_new(2, "server: {anonymous: true}\n"
                        "apps: [{name: a, auto_channels: true, limits: {retained: 2}}]\n");
  client *c[2] = {client_new(two, 0, "c0", LV_MQTT_V5), client_new(two, 1, "c1", LV_MQTT_V5)};
  for (int i = 0; i < 2; i++) client_connect(c[i], (opts){.clean = true});
  for (int fail = 1; fail >= 0; fail--) {
    client_forget(c[0]);
    client_forget(c[1]);
    fake_hold(two->fake, DISK, true);
    keep(c[0], 1, "d/1", "x");
    keep(c[0], 2, "d/1", "xx");
    keep(c[1], 1, "d/2", "x");
    keep(c[1], 2, "d/3", "x");
    keep(c[0], 3, "d/3", "x");
    keep(c[1], 3, "d/1", "x");
    kit_run(two);
    if (fail) fake_fail(two->fake, DISK, UINT32_MAX, LV_E_IO);
    fake_hold(two->fake, DISK, false);
    kit_run(two);
    uint8_t stored = fail ? 0x83 : 0;
    assert_int_equal(puback(c[0], 1), stored);
    assert_int_equal(puback(c[0], 2), stored);
    assert_int_equal(puback(c[1], 1), stored);
    assert_int_equal(puback(c[1], 2), 0x97);
    assert_int_equal(puback(c[0], 3), 0x97);
    assert_int_equal(puback(c[1], 3), stored);
  }
  keep(c[0], 4, "d/2", ""); /* gone when that is visible */
  keep(c[0], 5, "d/3", "x");
  kit_run(two);
  keep(c[0], 6, "d/3", "x");
  keep(c[0], 7, "d/4", "x");
  kit_run(two);
  assert_int_equal(puback(c[0], 5), 0x97);
  assert_int_equal(puback(c[0], 6), 0);
  assert_int_equal(puback(c[0], 7), 0x97);
  kit_free(two);
}

/* ---- the ledger ---- */

/* Five messages of one turn are one entry of the send queue; two and a half left. */
static void test_partly_sent_entry(void **state) {
  client_connect(p, (opts){.clean = true});
  client_connect(s, (opts){.clean = true});
  client_sub(s, "m/#", 0, (subopts){0});
  s->blocked = true;
  for (int i = 0; i < 5; i++) client_publish(p, "m/a", "0123456789", 0, false);
  kit_run(k);
  uint32_t one = s->outq.bytes / 5;
  assert_int_equal(s->outq.bytes, 5 * one);
  uint64_t out = kit_count(k, LV_C_HUB_OUT);
  lv_outq_consume(&s->outq, one * 5 / 2, NULL, NULL);
  client_cut(s);
  kit_run(k);
  assert_int_equal(kit_count(k, LV_C_HUB_OUT) - out, 2);
  assert_int_equal(kit_count(k, LV_C_DROP_HUB_DISCONNECTED), 3);
  assert_int_equal(kit_gauge(k, LV_G_PENDING), 0);
}

/* A large value goes by reference; packets inside it are none. */
static void test_partly_sent_value(void **state) {
  char big[8000];
  memset(big, '0', sizeof big - 1); /* 0x30 0x30 …: looks like PUBLISH */
  big[sizeof big - 1] = 0;
  client_connect(p, (opts){.clean = true});
  client_connect(s, (opts){.clean = true});
  client_sub(s, "m/#", 0, (subopts){0});
  s->blocked = true;
  client_publish(p, "m/a", big, 0, false);
  kit_run(k);
  lv_outq_consume(&s->outq, 5000, NULL, NULL);
  client_cut(s);
  kit_run(k);
  assert_int_equal(kit_count(k, LV_C_DROP_HUB_DISCONNECTED), 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_v3_waits_for_its_answers, up, down),
      cmocka_unit_test_setup_teardown(test_refusals_wait_too, up, down),
      cmocka_unit_test_setup_teardown(test_reason_codes, up, down),
      cmocka_unit_test_setup_teardown(test_open_packet_ids, up, down),
      cmocka_unit_test_setup_teardown(test_few_subacks_under_way, up, down),
      cmocka_unit_test_setup_teardown(test_many_filters, up, down),
      cmocka_unit_test_setup_teardown(test_due_and_ended, up, down),
      cmocka_unit_test_setup_teardown(test_many_retained, up, down),
      cmocka_unit_test_setup_teardown(test_retained_cut_short, up, down),
      cmocka_unit_test_setup_teardown(test_retained_over_connections, up, down),
      cmocka_unit_test(test_retained_claims),
      cmocka_unit_test_setup_teardown(test_durability_changes, up, down),
      cmocka_unit_test_setup_teardown(test_clean_start_waits, up, down),
      cmocka_unit_test_setup_teardown(test_resend_is_bounded, up, down),
      cmocka_unit_test_setup_teardown(test_partly_sent_entry, up, down),
      cmocka_unit_test_setup_teardown(test_partly_sent_value, up, down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
