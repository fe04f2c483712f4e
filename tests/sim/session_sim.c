/* session_sim.c: MQTT sessions over the embedded broker on the disk's faulty twin, with seeded
 * kills, power losses, failing writes and restarts.
 *
 *   publishers (5.0 and 3.1.1, persistent, QoS 1 and 2, resending as clients do)
 *        │  sessions on two loops, stepped by hand     ┌ valve ┐
 *        └──────────────▶ realm ─────────────────────▶ │       │ ▶ embedded broker ▶ faulty disk
 *   subscribers (QoS 2; QoS 1; with filters that       └───────┘
 *   overlap; shared), a will, retained messages
 *
 * A process ends in one of three ways: in order; killed (the valve shuts: what is published from
 * then on never reaches the broker, and no client hears of it); or by power loss (the disk halts in
 * the middle of its work, then loses what was not synced). Then the next one opens what is left.
 *
 * What must hold: an acknowledged publish reaches every subscriber; a QoS 2 message reaches the
 * persistent QoS 2 subscriber's application exactly once; per publisher and topic first receipts
 * are in order; sessions, retained messages and wills are there after each restart; the ledger
 * balances whenever a process ends in order and at the end.
 *
 * Power loss, and a failed sync that took pages back, may take from the memory log what was
 * acknowledged. Which messages those are is read from the log at each start: they are excused, the
 * others are not, and nothing is missing where neither has happened.
 *
 * usage: session-sim [--seeds N] [--seed S] [--verbose]. One thread steps loops and clients; the
 * broker has threads of its own, so a seed decides the script, not every interleaving. */
#include "../unit/session/kit.h"
#include "broker/embedded/embedded_int.h"
#include "core/log.h"
#include "core/rand.h"
#include "session/share_int.h"
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
  PUBS = 2,
  SUBS = 4,
  SHARED = 3,  /* the one that is a shared group's only member */
  FILTERS = 3, /* a subscriber's, at most */
  WINDOW = 12, /* a publisher's messages without an answer */
  MSGS_MAX = 4096,
  TURNS = 90,  /* of a process */
  ROUNDS = 4,  /* processes a seed */
  WAIT_S = 60, /* for anything that has to come */
  PIDS = 65536,
};
enum { KEEP_TOPIC = 4, WILL_TOPIC = 5 }; /* behind log × QoS; below: an ordinary one */

static const char conf[] = "server: {anonymous: true}\n"
                           "limits: {queue_messages: 16, inflight: 24}\n"
                           "apps:\n"
                           "  - name: a\n"
                           "    channels:\n"
                           "      - {name: m, durability: memory}\n"
                           "      - {name: d, durability: disk}\n";

typedef struct msg {
  uint8_t pub, topic, qos;
  bool disk, retain, acked;
  bool gone;          /* the memory log has lost it, and it was not acknowledged since */
  bool again;         /* lost like that once: it may come again */
  uint32_t got[SUBS]; /* times that a subscriber's application saw it */
} msg;

typedef struct sent {
  uint16_t pid;
  uint32_t num;
  bool rec; /* QoS 2: PUBREC came */
} sent;

typedef struct party { /* a client with its own memory across connections */
  client *c;
  opts o;
  bool greeted, known; /* this connection was seen open; the server has its session */
  bool wants;          /* to be connected */
  sent out[WINDOW];    /* publishers, in order */
  uint32_t n_out;
  uint16_t next_pid;
  uint8_t *rec; /* subscribers: QoS 2 packet ids that wait for PUBREL */
  uint32_t last[PUBS][WILL_TOPIC + 1];
  int index;
  uint8_t qos; /* of a subscriber's filters */
} party;

static const char *const filters[SUBS][FILTERS] = {
    {"m/#", "d/#"}, {"m/#", "d/#"}, {"#", "d/+/+", "m/p0/1"}, {"$share/g/m/#", "$share/g/d/#"}};

/* Between the sessions and the broker. */
typedef struct valve {
  lv_broker base;
  lv_broker *to;
  bool shut;
} valve;

typedef struct sim {
  uint64_t seed;
  lv_rand rand;
  lv_disk *disk;
  valve valve;
  kit *k;
  party pubs[PUBS], subs[SUBS], will;
  uint32_t will_num;
  bool will_armed;
  msg msgs[MSGS_MAX];
  uint32_t n_msgs;
  bool power, faults; /* how this seed's processes end; whether its disk errs */
  uint32_t taken;     /* failed syncs that took back what the memory log had, when this began */
  bool deaf;          /* no client hears anything any more */
  bool final;
  bool failed, verbose;
} sim;

static sim s;

#define HOLDS(cond, ...)                                                                           \
  do {                                                                                             \
    if (!(cond) && !s.failed) {                                                                    \
      (void)fprintf(stderr, "session-sim: seed %llu: ", (unsigned long long)s.seed);               \
      (void)fprintf(stderr, __VA_ARGS__);                                                          \
      (void)fprintf(stderr, "\n");                                                                 \
      s.failed = true;                                                                             \
    }                                                                                              \
  } while (0)

static void say(const char *what) {
  if (s.verbose) (void)fprintf(stderr, "  %s (%u messages)\n", what, s.n_msgs);
}

static uint32_t below(uint32_t n) {
  return (uint32_t)lv_rand_below(&s.rand, n);
}

/* ---- the valve ---- */

static lv_broker *behind(lv_broker *b) {
  return ((valve *)b)->to;
}

static int v_ensure(lv_broker *b, const lv_chan_conf *c, uint32_t app_id, uint32_t max,
                    lv_chan **ret) {
  return behind(b)->ops->ensure(behind(b), c, app_id, max, ret);
}
static lv_chan *v_find(lv_broker *b, lv_slice app, lv_slice name) {
  return behind(b)->ops->find(behind(b), app, name);
}
static lv_chan *v_chan(lv_broker *b, uint32_t id) {
  return behind(b)->ops->chan(behind(b), id);
}
static int v_attach(lv_broker *b, lv_loop *loop, lv_feed *feed, lv_pos *ret) {
  return behind(b)->ops->attach(behind(b), loop, feed, ret);
}
static lv_pos v_interest(lv_broker *b, lv_loop *loop, lv_feed *feed, bool on) {
  return behind(b)->ops->interest(behind(b), loop, feed, on);
}
static int v_publish(lv_broker *b, lv_batch *batch) {
  return s.valve.shut ? LV_E_CLOSED : behind(b)->ops->publish(behind(b), batch);
}
static int v_read(lv_broker *b, lv_read *rd) {
  return behind(b)->ops->read(behind(b), rd);
}
static int v_seek(lv_broker *b, lv_seek *k) {
  return behind(b)->ops->seek(behind(b), k);
}
static int v_lasts(lv_broker *b, lv_chan *c, lv_lasts *ret) {
  return behind(b)->ops->lasts(behind(b), c, ret);
}
static int v_fetch(lv_broker *b, lv_fetch *f) {
  return behind(b)->ops->fetch(behind(b), f);
}
static lv_pos v_visible(lv_broker *b) {
  return behind(b)->ops->visible(behind(b));
}
static int v_replay(lv_broker *b, lv_state_fn *fn, void *arg) {
  return behind(b)->ops->replay(behind(b), fn, arg);
}
static int v_describe(lv_broker *b, lv_broker_desc *d) {
  return behind(b)->ops->describe(behind(b), d);
}
static void v_close(lv_broker *b) {
  (void)b;
}
static const lv_broker_ops valve_ops = {
    "valve", 0,       v_ensure, v_find,  v_chan,    v_attach, v_interest, v_publish,
    v_read,  v_fetch, v_seek,   v_lasts, v_visible, v_replay, v_describe, v_close,
};

/* ---- processes ---- */

static bool reading(const kit *k) {
  for (int i = 0; i < k->n_loops; i++) {
    for (const lv_share *x = k->shard[i]->shares; x; x = x->next)
      if (x->fetching || (x->scan && x->scan->reading)) return true;
    for (const lv_sess *x = k->shard[i]->sessions; x; x = x->next)
      if ((x->lag && x->lag->reading) || (x->more && x->more->fetching)) return true;
  }
  return false;
}

/* Everything that is with the broker has come back. */
static void settle(kit *k) {
  time_t end = time(NULL) + WAIT_S;
  int calm = 0;
  while (calm < 6 && time(NULL) < end) {
    kit_step(k);
    bool busy = kit_gauge(k, LV_G_QUEUE_BYTES) || kit_gauge(k, LV_G_INFLIGHT) || reading(k);
    calm = busy ? 0 : calm + 1;
    if (busy) (void)sched_yield();
  }
  HOLDS(calm == 6, "the broker does not answer");
}

static void end_broker(kit *k) {
  (void)k;
  if (!s.deaf) {
    s.valve.to->ops->close(s.valve.to);
    lv_disk_fault_kill(s.disk); /* its lock */
    return;
  }
  if (s.power)
    lv_disk_fault_crash(s.disk);
  else
    lv_disk_fault_kill(s.disk);
  lv__embedded_abandon(s.valve.to);
}

static void faults_set(bool on) {
  lv_disk_faults f = {.seed = s.seed + s.n_msgs};
  if (on) {
    f.write_error = f.short_then_error = f.sync_error = 4000;
    f.full = 8000;
  }
  lv_disk_fault_set(s.disk, &f);
}

static void survey_block(const uint8_t *p, uint32_t n, bool *here) {
  for (const uint8_t *end = p + n; p < end;) {
    const lv_rec *rec = (const lv_rec *)p;
    uint64_t num;
    p += rec->size;
    if (rec->kind != LV_REC_MSG || lv_slice_u64(lv_rec_val(rec), &num)) continue;
    if (num < MSGS_MAX) here[num] = true;
  }
}

/* What is left in the memory log after a start. */
static void survey(bool crash) {
  static bool here[MSGS_MAX];
  lv_elog *log = lv__embedded(s.valve.to)->lane[LV_DURABILITY_MEMORY].elog;
  uint32_t taken = lv_disk_fault_taken(s.disk, 'm');
  bool may_lose = (crash && s.power) || taken != s.taken;
  memset(here, 0, sizeof here);
  for (uint64_t at = lv_elog_oldest(log), end = lv_elog_end(log); at < end;) {
    lv_block *block = NULL;
    uint32_t n = 0;
    int err = lv_elog_scan(log, at, end, 1 << 20, &block, &n, &at);
    HOLDS(err == 0 || (err == LV_E_CORRUPT && may_lose), "scan: %s", lv_err_text(err));
    if (err && err != LV_E_CORRUPT) return;
    if (block) survey_block(block->data, n, here);
    lv_block_unref(block);
  }
  for (uint32_t i = 0; i < s.n_msgs; i++) {
    msg *m = &s.msgs[i];
    if (m->disk || here[i]) continue;
    HOLDS(may_lose || m->gone || !m->acked, "message %u is not in the memory log any more", i);
    m->gone = true;
    m->again |= may_lose;
  }
  s.taken = taken;
}

static void start(bool crash) {
  char why[256] = "";
  lv_embedded_conf c = {.disk = s.disk,
                        .segment_bytes = 1 << 20,
                        .tail_bytes = 16 * 1024,
                        .sync_interval_ms = 50,
                        .visible = lv_realm_visible,
                        .visible_arg = kit_realm(s.k)};
  faults_set(false);
  int err = lv_embedded_open(&c, &s.valve.to, why);
  if (err) {
    (void)fprintf(stderr, "session-sim: seed %llu: %s\n", (unsigned long long)s.seed, why);
    exit(1);
  }
  survey(crash);
  s.valve.base.ops = &valve_ops;
  s.valve.shut = s.deaf = false;
  kit_open(s.k, &s.valve.base);
  if (s.faults && !s.final) faults_set(true);
}

static void stop(bool crash) {
  say(crash ? (s.power ? "power loss" : "kill") : "stop");
  if (crash) s.valve.shut = s.deaf = true;
  if (!crash) faults_set(false);
  kit_close(s.k, crash);
}

/* ---- publishers ---- */

static void topic_of(const msg *m, char *dst, size_t size) {
  const char *chan = m->disk ? "d" : "m";
  if (m->topic == WILL_TOPIC) {
    (void)snprintf(dst, size, "%s/will", chan);
  } else if (m->topic == KEEP_TOPIC) {
    (void)snprintf(dst, size, "%s/keep/%u", chan, m->pub);
  } else {
    (void)snprintf(dst, size, "%s/p%u/%u", chan, m->pub, m->qos);
  }
}

static void transmit(party *p, const sent *x, bool dup) {
  const msg *m = &s.msgs[x->num];
  char topic[32], num[16];
  topic_of(m, topic, sizeof topic);
  (void)snprintf(num, sizeof num, "%u", x->num);
  if (x->rec) {
    (void)client_ack(p->c, LV_MQTT_PUBREL, x->pid, 0);
  } else if (client_publish_pid(p->c, topic, num, m->qos, m->retain, x->pid, dup)) {
    client_cut(p->c);
  }
}

static void publish(party *p) {
  if (p->n_out == WINDOW || s.n_msgs == MSGS_MAX) return;
  msg *m = &s.msgs[s.n_msgs];
  bool keep = below(8) == 0;
  *m = (msg){.pub = (uint8_t)p->index,
             .topic = keep ? KEEP_TOPIC : (uint8_t)below(4),
             .qos = (uint8_t)(1 + below(2)),
             .disk = keep || below(2),
             .retain = keep};
  if (!keep) m->topic = (uint8_t)((m->disk ? 2 : 0) + m->qos - 1);
  if (keep) m->qos = 1;
  sent *x = &p->out[p->n_out++];
  *x = (sent){.pid = p->next_pid, .num = s.n_msgs++};
  p->next_pid = p->next_pid == 65535 ? 1 : (uint16_t)(p->next_pid + 1);
  transmit(p, x, false);
}

static void out_remove(party *p, uint32_t i) {
  memmove(&p->out[i], &p->out[i + 1], (p->n_out - i - 1) * sizeof p->out[0]);
  p->n_out--;
}

static void pub_heard(client *c, const ack_got *a) {
  party *p = c->arg;
  uint32_t i = 0;
  if (s.deaf) return;
  while (i < p->n_out && p->out[i].pid != a->pid) i++;
  if (i == p->n_out) return;
  if (a->type == LV_MQTT_PUBCOMP) {
    HOLDS(p->out[i].rec, "PUBCOMP before PUBREC");
    out_remove(p, i);
    return;
  }
  HOLDS(a->reason < 0x80 || s.faults || s.power, "a publish was refused with 0x%02x", a->reason);
  if (a->reason < 0x80) {
    s.msgs[p->out[i].num].acked = true;
    s.msgs[p->out[i].num].gone = false;
  }
  if (a->type == LV_MQTT_PUBREC && a->reason < 0x80) {
    p->out[i].rec = true;
    (void)client_ack(c, LV_MQTT_PUBREL, a->pid, 0);
    return;
  }
  out_remove(p, i);
}

/* ---- subscribers ---- */

static void received(party *p, const got *g, uint32_t num) {
  msg *m = &s.msgs[num];
  bool first = m->got[p->index]++ == 0;
  if (!g->retain && g->qos == 2 && !m->again)
    HOLDS(first, "QoS 2 message %u came again to subscriber %d", num, p->index);
  uint32_t *last = &p->last[m->pub][m->topic];
  if (!first || m->topic == WILL_TOPIC || g->retain || p->index == SHARED) return;
  if (!s.faults && !m->again)
    HOLDS(*last <= num, "message %u came behind %u to subscriber %d", num, *last - 1, p->index);
  *last = num + 1;
}

static void sub_heard(client *c, const got *g) {
  party *p = c->arg;
  uint64_t num;
  if (s.deaf) return;
  HOLDS(lv_slice_u64(lv_slice_str(g->payload), &num) == 0 && num < s.n_msgs, "garbage");
  if (s.failed) return;
  if (g->qos == 1) {
    received(p, g, (uint32_t)num);
    (void)client_ack(c, LV_MQTT_PUBACK, g->pid, 0);
    return;
  }
  if (!p->rec[g->pid]) received(p, g, (uint32_t)num);
  p->rec[g->pid] = 1;
  (void)client_ack(c, LV_MQTT_PUBREC, g->pid, 0);
}

static void sub_released(client *c, const ack_got *a) {
  party *p = c->arg;
  if (s.deaf || a->type != LV_MQTT_PUBREL) return;
  p->rec[a->pid] = 0;
  (void)client_ack(c, LV_MQTT_PUBCOMP, a->pid, 0);
}

/* ---- one turn of a client ---- */

static void greet(party *p) {
  p->greeted = true;
  if (p->o.expiry_s) HOLDS(!p->known || p->c->present, "the session of %s is gone", p->c->id);
  p->known = true;
  for (uint32_t i = 0; i < p->n_out && p->c->sess; i++) transmit(p, &p->out[i], true);
}

static void turn_party(party *p) {
  client *c = p->c;
  c->n_acks = 0;
  if (!c->sess) p->greeted = false;
  if (!c->sess && !c->asked) {
    p->wants = s.final || p->wants || below(4) == 0;
    if (p->wants) client_ask(c, p->o);
    p->wants = false;
    return;
  }
  if (c->open && !c->closing && !p->greeted) greet(p);
  if (s.final) {
    c->blocked = false;
    return;
  }
  if (p->rec && p->greeted && below(30) == 0) /* again: nothing is interrupted */
    for (int f = 0; f < FILTERS && filters[p->index][f]; f++)
      (void)client_sub_send(c, filters[p->index][f], p->qos, (subopts){.retain_handling = 2});
  uint32_t dice = below(60);
  if (dice == 0 && (c->sess || c->asked)) client_cut(c);
  if (dice == 1) c->blocked = !c->blocked;
}

static bool talks(const party *p) {
  return p->c->sess && p->c->open && !p->c->closing && p->greeted;
}

/* A will of its own number each time; owed once its CONNACK was seen and it goes without a word. */
static void turn_will(void) {
  client *c = s.will.c;
  if (c->sess && c->open && !s.will_armed && !c->closing) s.will_armed = true;
  if (!c->sess && !c->asked && s.will_armed) { /* it was closed */
    s.msgs[s.will_num].acked |= !s.faults;
    s.will_armed = false;
  }
  if (s.final || c->asked) return;
  if (c->sess) {
    if (below(25)) return;
    if (s.will_armed) s.msgs[s.will_num].acked |= !s.faults && !s.power;
    s.will_armed = false;
    client_cut(c);
    return;
  }
  if (below(6) || s.n_msgs == MSGS_MAX) return;
  static char text[16];
  s.will_num = s.n_msgs++;
  s.msgs[s.will_num] = (msg){.topic = WILL_TOPIC, .qos = 1, .disk = true};
  (void)snprintf(text, sizeof text, "%u", s.will_num);
  client_ask(c, (opts){.clean = true, .will_topic = "d/will", .will = text, .will_qos = 1});
}

/* What the clients of one loop do, on it. */
static void act(lv_loop *loop, void *arg) {
  (void)arg;
  for (int i = 0; i < SUBS; i++)
    if (s.subs[i].c->loop == loop->index) turn_party(&s.subs[i]);
  for (int i = 0; i < PUBS; i++) {
    party *p = &s.pubs[i];
    if (p->c->loop != loop->index) continue;
    turn_party(p);
    for (uint32_t n = s.final ? 0 : below(4); n > 0 && talks(p); n--) publish(p);
  }
  if (s.will.c->loop == loop->index) turn_will();
}

static void turn(void) {
  for (int i = 0; i < SUBS; i++) {
    client *c = s.subs[i].c;
    if (!c->sess && !c->asked && below(4) == 0) client_move(c, (int)below(2));
  }
  for (int i = 0; i < s.k->n_loops; i++) lv_loop_call(s.k->loop[i], act, NULL);
  kit_tick_ms(s.k, below(30));
  kit_step(s.k);
  if (below(3) == 0) (void)sched_yield();
}

/* ---- the end ---- */

/* What is owed and has not come; MSGS_MAX: nothing. */
static uint32_t missing(int *ret_sub) {
  for (uint32_t i = 0; i < s.n_msgs; i++) {
    const msg *m = &s.msgs[i];
    if (!m->acked || m->gone) continue;
    for (int k = 0; k < SUBS; k++) {
      if (m->got[k]) continue;
      *ret_sub = k;
      return i;
    }
  }
  return MSGS_MAX;
}

static void ask(lv_loop *loop, void *arg) {
  client *c = arg;
  (void)loop;
  client_ask(c, *(opts *)c->arg);
}

static void subscribe(lv_loop *loop, void *arg) {
  client *c = arg;
  (void)loop;
  (void)client_sub_send(c, c->arg, 1, (subopts){0});
}

static void subscribe_all(lv_loop *loop, void *arg) {
  client *c = arg;
  const party *p = c->arg;
  (void)loop;
  for (int f = 0; f < FILTERS && filters[p->index][f]; f++)
    (void)client_sub_send(c, filters[p->index][f], p->qos, (subopts){0});
}

static void on_loop(client *c, void (*fn)(lv_loop *loop, void *arg)) {
  lv_loop_call(s.k->loop[c->loop], fn, c);
  kit_run(s.k);
}

static uint32_t kept[PUBS];
static void keep_heard(client *c, const got *g) {
  uint64_t num = 0;
  (void)c;
  (void)lv_slice_u64(lv_slice_str(g->payload), &num);
  if (g->retain && num < s.n_msgs) kept[s.msgs[num].pub] = (uint32_t)num + 1;
}

static void check_retained(void) {
  client *c = client_new(s.k, 0, "keeper", LV_MQTT_V5);
  memset(kept, 0, sizeof kept);
  c->stream = c->auto_ack = true;
  c->on_got = keep_heard;
  c->arg = &(opts){.clean = true};
  on_loop(c, ask);
  c->arg = "d/keep/#";
  on_loop(c, subscribe);
  for (uint32_t i = 0; i < s.n_msgs; i++) {
    const msg *m = &s.msgs[i];
    if (m->topic == KEEP_TOPIC && m->acked && !s.faults)
      HOLDS(kept[m->pub] > i, "retained message %u is gone", i);
  }
}

static void finish(void) {
  time_t end = time(NULL) + WAIT_S;
  int sub = 0;
  uint32_t lost;
  s.final = true;
  faults_set(false);
  do {
    for (int i = 0; i < 20 && !s.failed; i++) turn();
    lost = missing(&sub);
    bool rest = lost == MSGS_MAX && kit_gauge(s.k, LV_G_PENDING) == 0;
    for (int i = 0; i < PUBS; i++) rest = rest && s.pubs[i].n_out == 0;
    if (rest) break;
  } while (time(NULL) < end && !s.failed);
  if (lost != MSGS_MAX)
    HOLDS(false, "message %u (topic %u, %s, QoS %u) never came to subscriber %d", lost,
          s.msgs[lost].topic, s.msgs[lost].disk ? "disk" : "memory", s.msgs[lost].qos, sub);
  HOLDS(kit_gauge(s.k, LV_G_PENDING) == 0, "%lld stay owed",
        (long long)kit_gauge(s.k, LV_G_PENDING));
  for (int i = 0; i < PUBS; i++)
    HOLDS(s.pubs[i].n_out == 0, "%u publishes stay unanswered", s.pubs[i].n_out);
  if (!s.failed) check_retained();
}

static void party_init(party *p, int loop, const char *id, uint8_t version, int index) {
  p->c = client_new(s.k, loop, id, version);
  p->c->arg = p;
  p->c->stream = true;
  p->index = index;
  p->next_pid = 1;
  p->o = (opts){.expiry_s = version >= LV_MQTT_V5 ? 100000 : UINT32_MAX, .receive_max = 8};
}

static void begin(void) {
  party_init(&s.pubs[0], 0, "p0", LV_MQTT_V5, 0);
  party_init(&s.pubs[1], 1, "p1", LV_MQTT_V3, 1);
  for (int i = 0; i < SUBS; i++) {
    static const char *const ids[SUBS] = {"s0", "s1", "s2", "s3"};
    party_init(&s.subs[i], 1 - i % 2, ids[i], i == 1 ? LV_MQTT_V3 : LV_MQTT_V5, i);
    s.subs[i].qos = i == 0 ? 2 : 1;
  }
  party_init(&s.will, 1, "will", LV_MQTT_V5, 0);
  for (int i = 0; i < PUBS; i++) s.pubs[i].c->on_ack = pub_heard;
  for (int i = 0; i < SUBS; i++) {
    party *p = &s.subs[i];
    p->rec = calloc(PIDS, 1);
    if (!p->rec) abort();
    p->c->arg = &p->o;
    on_loop(p->c, ask);
    HOLDS(p->c->open, "no connection");
    p->c->arg = p;
    on_loop(p->c, subscribe_all);
    HOLDS(p->c->n_acks == (i == 2 ? 3u : 2u), "no SUBACK");
    p->c->on_got = sub_heard;
    p->c->on_ack = sub_released;
  }
}

static void round_end(bool last) {
  bool crash = last || below(4) != 0;
  if (crash && s.power) lv_disk_fault_halt(s.disk, 1 + below(40));
  for (uint32_t n = crash ? below(12) : 0; n > 0 && !s.failed; n--) turn();
  bool armed = s.will_armed && s.will.c->sess && s.will.c->open;
  stop(crash);
  if (armed) s.msgs[s.will_num].acked |= !s.faults; /* published after the restart */
  s.will_armed = false;
  for (int i = 0; i < PUBS; i++) s.pubs[i].greeted = false;
  start(crash);
}

static bool run(uint64_t seed, bool verbose) {
  memset(&s, 0, sizeof s);
  s.seed = seed;
  s.verbose = verbose;
  lv_rand_init(&s.rand, seed);
  s.power = seed % 2;
  s.faults = seed % 5 == 4;
  lv_disk_faults none = {.seed = seed};
  s.disk = lv_disk_fault_new(&none);
  s.k = kit_new(0, conf);
  s.k->n_loops = 2;
  s.k->settle = settle;
  s.k->close = end_broker;
  start(false);
  faults_set(false);
  begin();
  if (s.faults) faults_set(true);
  for (int round = 0; round < ROUNDS && !s.failed; round++) {
    for (int n = 0; n < TURNS && !s.failed; n++) turn();
    round_end(round + 1 == ROUNDS);
  }
  if (!s.failed) finish();
  if (s.failed) return false; /* what is left is for a debugger */
  stop(false);
  kit_free(s.k);
  for (int i = 0; i < SUBS; i++) free(s.subs[i].rec);
  s.disk->ops->free(s.disk);
  return true;
}

static int usage(void) {
  (void)fprintf(stderr, "usage: session-sim [--seeds N] [--seed S] [--verbose]\n");
  return 64;
}

int main(int argc, char **argv) {
  uint64_t seeds = 20, first = 1;
  bool verbose = false;
  for (int i = 1; i < argc; i++) {
    uint64_t *to = !strcmp(argv[i], "--seeds")  ? &seeds
                   : !strcmp(argv[i], "--seed") ? &first
                                                : NULL;
    if (!strcmp(argv[i], "--verbose")) {
      verbose = true;
    } else if (!to || ++i == argc || lv_slice_u64(lv_slice_str(argv[i]), to)) {
      return usage();
    }
  }
  if (!verbose) atomic_store(&lv__log_level, -1);
  uint64_t msgs = 0;
  for (uint64_t n = 0; n < seeds; n++) {
    if (!run(first + n, verbose)) return 1;
    msgs += s.n_msgs;
  }
  printf("%llu seeds from %llu, %llu messages: none lost, none twice, none reordered\n",
         (unsigned long long)seeds, (unsigned long long)first, (unsigned long long)msgs);
  return 0;
}
