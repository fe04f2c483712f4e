/* Sessions: bytes are a script of packets, cuts, completions, failures, turns and restarts for a
 * few clients of three ids on two loops over the fake broker (tests/unit/session/kit.h).
 *
 * What must hold whatever the script says: nothing is acknowledged that is not in the log;
 * acknowledgements come in the order of the publishes; per publisher, topic and QoS first
 * deliveries come in order; a QoS 2 message that was released never comes again, also after a
 * crash; no packet id means two messages; never more in flight than the client's Receive Maximum;
 * the ledger balances; and once everybody is connected and acknowledges, nothing stays owed. */
#include "../unit/session/kit.h"
#include "fuzz.h"

enum { CLIENTS = 4, TOPICS = 6, NUMS = 2048, PIDS = 4096, OPS_MAX = 400, SETTLE_TURNS = 3000 };

static const char *const topics[TOPICS] = {"m/a", "m/b/c", "d/a", "d", "/x", "new/a"};
static const char *const filters[] = {"m/#", "d/+", "#",          "+/a",          "d",
                                      "m/a", "/x",  "$share/g/#", "$share/h/d/+", "$share/g/m/a"};
enum { FILTERS = sizeof filters / sizeof *filters };

/* What a client knows of its session: by packet id the message, by message how far it is. */
typedef struct peer {
  client *c;
  uint32_t num_of[PIDS]; /* of an incoming packet id: number + 1, 0: free */
  uint8_t qos_of[PIDS];
  bool mine[PIDS];                   /* it was sent on this connection */
  uint32_t in_flight;                /* on this connection */
  uint32_t last[CLIENTS][TOPICS][3]; /* newest first delivery + 1, by publisher */
  uint8_t released[NUMS];            /* QoS 2 that was finished */
  uint16_t due[PIDS];                /* publishes without an answer, in order */
  uint32_t due_num[PIDS];
  uint8_t due_topic[PIDS];
  uint32_t due_first, n_due;
  bool shares;  /* what comes by a group may come from the middle */
  bool odd;     /* it has used ids by hand: its answers are not compared */
  bool lenient; /* after a crash or a failure QoS 1 may repeat */
} peer;

static kit *k;
static peer peers[CLIENTS];
static uint32_t next_num;
static uint8_t publisher[NUMS];

static peer *peer_of(const client *c) {
  return c->arg;
}

static uint32_t number(const char *payload) {
  uint64_t v = 0;
  CHECK(lv_slice_u64(lv_slice_str(payload), &v) == 0 && v < NUMS);
  return (uint32_t)v;
}

static int topic_index(const char *topic) {
  for (int i = 0; i < TOPICS; i++)
    if (strcmp(topic, topics[i]) == 0) return i;
  return -1;
}

static void id_free(peer *p, uint16_t pid) {
  if (pid >= PIDS || !p->num_of[pid]) return;
  if (p->mine[pid]) p->in_flight--;
  p->mine[pid] = false;
  p->num_of[pid] = 0;
}

static void check_id(peer *p, const got *g, uint32_t num) {
  CHECK(g->pid > 0 && g->pid < PIDS);
  uint32_t had = p->num_of[g->pid];
  bool known = had != 0 && p->qos_of[g->pid] == g->qos;
  if (g->qos == 2 && had && p->qos_of[g->pid] == 2) CHECK(had == num + 1);
  if (known && !p->lenient) CHECK(had == num + 1 && g->dup);
  if (had) id_free(p, g->pid);
  p->num_of[g->pid] = num + 1;
  p->qos_of[g->pid] = g->qos;
  p->mine[g->pid] = true;
  p->in_flight++;
  CHECK(p->in_flight <= p->c->connect.receive_max);
}

static void on_got(client *c, const got *g) {
  peer *p = peer_of(c);
  if (strncmp(g->topic, "$SYS", 4) == 0 || strcmp(g->topic, "will") == 0) return;
  int t = topic_index(g->topic);
  CHECK(t >= 0);
  if (g->payload_n == 0) return;
  uint32_t num = number(g->payload);
  CHECK(fake_has(k->fake, g->topic, g->payload)); /* nothing is seen before it is safe */
  if (g->qos) check_id(p, g, num);
  if (g->qos == 2 && !g->retain && !p->shares) CHECK(!p->released[num]);
  if (g->dup || g->retain || p->shares) return;
  uint32_t *last = &p->last[publisher[num]][t][g->qos];
  if (!(p->lenient && g->qos == 1)) CHECK(*last <= num);
  if (*last < num + 1) *last = num + 1;
}

static void on_ack(client *c, const ack_got *a) {
  peer *p = peer_of(c);
  if (a->type == LV_MQTT_PUBREL && a->pid < PIDS && p->num_of[a->pid] && p->qos_of[a->pid] == 2)
    p->released[p->num_of[a->pid] - 1] = 1;
  if ((a->type != LV_MQTT_PUBACK && a->type != LV_MQTT_PUBREC) || p->odd) return;
  CHECK(p->n_due > 0);
  uint32_t i = p->due_first % PIDS;
  CHECK(p->due[i] == a->pid);
  p->due_first++;
  p->n_due--;
  char num[16];
  snprintf(num, sizeof num, "%u", p->due_num[i]);
  if (a->reason < 0x80) CHECK(fake_has(k->fake, topics[p->due_topic[i]], num));
}

/* A connection ended or begins: what was on it is not in flight any more. */
static void connection_new(peer *p) {
  memset(p->mine, 0, sizeof p->mine);
  p->in_flight = p->n_due = 0;
  p->odd = false;
}

static void session_new(peer *p) {
  memset(p->num_of, 0, sizeof p->num_of);
  memset(p->released, 0, sizeof p->released);
  memset(p->last, 0, sizeof p->last);
  p->shares = p->lenient = false;
}

/* Both clients of an id are one to the server: they share what they know. */
static void hand_over(peer *p) {
  int i = (int)(p - peers);
  peer *twin = i < 2 ? &peers[1 - i] : p;
  if (twin == p) return;
  memcpy(p->num_of, twin->num_of, sizeof p->num_of);
  memcpy(p->qos_of, twin->qos_of, sizeof p->qos_of);
  memcpy(p->last, twin->last, sizeof p->last);
  memcpy(p->released, twin->released, sizeof p->released);
  p->shares = twin->shares;
  p->lenient |= twin->lenient;
}

static int newest; /* of the two clients of one id, who had the session last */

static void come(peer *p, uint8_t o) {
  client *c = p->c;
  int i = (int)(p - peers);
  if (c->sess || c->asked) return;
  c->blocked = false;
  connection_new(p);
  /* The other one is stopped first, so that what it still reads is not what we read. */
  if (i < 2 && peers[1 - i].c->sess) client_cut(peers[1 - i].c);
  if (i < 2 && peers[1 - i].c->asked) return;
  if (i < 2 && newest != i) hand_over(p);
  if (i < 2) newest = i;
  c->hold_start = true; /* until we know whether the session is the old one */
  client_connect(c, (opts){.clean = (o & 7) == 7,
                           .expiry_s = o & 8 ? 100 : 0,
                           .receive_max = o & 16 ? 2 : 20,
                           .alias_max = o & 32 ? 2 : 0,
                           .will_topic = o & 64 ? "will" : NULL,
                           .will_delay_s = o & 128 ? 5 : 0});
  for (int n = 0; n < 50 && c->waiting; n++) kit_run(k);
  c->hold_start = false;
  if (!c->open) {
    client_cut(c);
    return;
  }
  if (!c->present) session_new(p);
  client_start(c);
}

static void publish(peer *p, uint8_t a, uint8_t b) {
  client *c = p->c;
  char num[16];
  uint8_t qos = a % 3, t = (a >> 2) % TOPICS;
  if (next_num + 1 >= NUMS || p->n_due + 1 >= PIDS) return;
  snprintf(num, sizeof num, "%u", next_num);
  uint16_t pid = c->next_pid;
  bool by_hand = b > 250;
  if (by_hand) p->odd = true;
  publisher[next_num] = (uint8_t)(p - peers);
  int err = by_hand
                ? client_publish_pid(c, topics[t], num, qos, b & 1, (uint16_t)(b & 3) + 1, b & 2)
                : client_publish(c, topics[t], b == 250 ? "" : num, qos, b > 200);
  if (err || b == 250) {
    if (b == 250) p->odd = true; /* empty: nothing to look for in the log */
    return;
  }
  next_num++;
  if (!qos || by_hand) return;
  uint32_t i = (p->due_first + p->n_due++) % PIDS;
  p->due[i] = pid;
  p->due_num[i] = next_num - 1;
  p->due_topic[i] = t;
}

/* Answers one of the ids that the client holds, as it should or not. */
static void answer(peer *p, uint8_t a) {
  for (uint16_t n = 0; n < 64; n++) {
    uint16_t pid = (uint16_t)(1 + (a + n) % 64);
    if (!p->num_of[pid]) continue;
    if (p->qos_of[pid] == 1) {
      (void)client_ack(p->c, LV_MQTT_PUBACK, pid, 0);
      id_free(p, pid);
    } else if (client_acked(p->c, LV_MQTT_PUBREL, pid) && p->released[p->num_of[pid] - 1]) {
      (void)client_ack(p->c, LV_MQTT_PUBCOMP, pid, 0);
      id_free(p, pid);
    } else if (a == 255) {
      (void)client_ack(p->c, LV_MQTT_PUBREC, pid, 0x80);
      id_free(p, pid);
    } else {
      (void)client_ack(p->c, LV_MQTT_PUBREC, pid, 0);
    }
    return;
  }
  if (a % 16 == 3) (void)client_ack(p->c, LV_MQTT_PUBREL, (uint16_t)(1 + a / 16), 0);
}

static void restart(bool crash) {
  kit_restart(k, crash);
  for (int i = 0; i < CLIENTS; i++) {
    connection_new(&peers[i]);
    if (crash) peers[i].lenient = true;
  }
}

/* What happens outside the clients. */
static void outside(uint8_t op, uint8_t a) {
  int log = a & 1;
  for (int i = 0; i < CLIENTS && (op == 2 || op == 3); i++)
    peers[i].lenient = true; /* what was acknowledged may not have been stored */
  switch (op) {
  case 0: fake_hold(k->fake, log, a & 2); break;
  case 1: fake_complete(k->fake, log, 1 + (a >> 1) % 4); break;
  case 2: fake_fail(k->fake, log, 1 + (a >> 1) % 4, a & 128 ? LV_E_DISK_FULL : LV_E_IO); break;
  case 3: fake_fail_all(k->fake, log, a & 2 ? LV_E_DISK_FULL : 0); break;
  case 4: fake_hold_reads(k->fake, a & 1); break;
  case 5: fake_fail_reads(k->fake, a & 1 ? LV_E_IO : 0); break;
  case 6: lv_loop_step(k->loop[log]); break;
  case 7: kit_run(k); break;
  case 8: kit_sleep_ms(k, a * 50); break;
  case 9: restart(a & 1); break;
  default: kit_step(k); break;
  }
}

static void with_client(peer *p, uint8_t op, uint8_t a, uint8_t b) {
  client *c = p->c;
  if (!c->sess || !c->open || c->closing) {
    if (op < 4) come(p, a);
    return;
  }
  switch (op) {
  case 0: client_cut(c); break;
  case 1: client_bye(c); break;
  case 2: c->blocked = !c->blocked; break;
  case 3:
  case 4: {
    const char *f = filters[a % FILTERS];
    if (f[0] == '$') p->shares = true;
    (void)client_sub_send(c, f, b % 3,
                          (subopts){.no_local = b & 4 && f[0] != '$',
                                    .as_published = b & 8,
                                    .id = b & 16 ? b : 0,
                                    .retain_handling = 2});
    memset(p->last, 0, sizeof p->last); /* another filter, another QoS: other orders */
    break;
  }
  case 5: (void)client_unsub(c, filters[a % FILTERS]); break;
  case 6:
  case 7: answer(p, a); break;
  default: publish(p, a, b); break;
  }
}

static void on_got_end(client *c, const got *g) {
  on_got(c, g);
  peer *p = peer_of(c);
  if (g->qos == 1) id_free(p, g->pid);
}

static void on_ack_end(client *c, const ack_got *a) {
  on_ack(c, a);
  if (a->type == LV_MQTT_PUBREL) id_free(peer_of(c), a->pid);
}

/* Everybody is there and acknowledges; what fails no longer fails. */
static void settle(void) {
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) {
    fake_fail_all(k->fake, i, 0);
    fake_hold(k->fake, i, false);
  }
  fake_fail_reads(k->fake, 0);
  fake_hold_reads(k->fake, false);
  kit_run(k);
  for (int i = 0; i < CLIENTS; i++) {
    peers[i].c->blocked = false;
    if (peers[i].c->sess) client_cut(peers[i].c);
  }
  kit_run(k);
  for (int i = 1; i < CLIENTS; i++) {
    client *c = peers[i].c;
    c->on_got = on_got_end;
    c->on_ack = on_ack_end;
    c->auto_ack = true;
    come(&peers[i], 8);
    CHECK(c->open && c->sess);
  }
  for (int n = 0; n < SETTLE_TURNS && kit_gauge(k, LV_G_PENDING); n += 12) {
    kit_run(k);
    if (n % 120 == 0) kit_sleep_ms(k, 1100);
  }
  kit_ledger(k);
  CHECK(kit_gauge(k, LV_G_PENDING) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const char *const ids[CLIENTS] = {"x", "x", "y", "z"};
  if (size < 6) return 0;
  k = kit_new(2, NULL);
  next_num = 0;
  newest = 0;
  memset(peers, 0, sizeof peers);
  for (int i = 0; i < CLIENTS; i++) {
    peer *p = &peers[i];
    p->c = client_new(k, i & 1, ids[i], i == 3 ? LV_MQTT_V3 : LV_MQTT_V5);
    p->c->arg = p;
    p->c->on_got = on_got;
    p->c->on_ack = on_ack;
  }
  for (int n = 0; n < OPS_MAX && size; n++) {
    uint8_t op = fuzz_byte(&data, &size), a = fuzz_byte(&data, &size);
    if (op & 1) {
      with_client(&peers[(op >> 1) % CLIENTS], (op >> 3) % 16, a, fuzz_byte(&data, &size));
    } else {
      outside((op >> 1) % 16, a);
    }
  }
  settle();
  kit_free(k);
  return 0;
}
