/* store.c: what lasts: channels and their ids, messages, keyed state, retention that is told. */
#include "conform.h"
#include <stdio.h>
#include <stdlib.h>

/* What was acknowledged is there, once, in order; what is there was published. */
static void check_kept(rig *r, const rig *before, bool lossy_memory) {
  for (uint8_t log = 0; log < LV_DURABILITY_COUNT; log++) {
    seen_list got = {0};
    uint64_t next[RIG_LOOPS][RIG_CHANS] = {0};
    rig_read(r, log, 0, NULL, 0, 1000, 1u << 20, &got, NULL);
    for (uint32_t k = 0; k < got.n; k++) {
      const seen *s = &got.v[k];
      CHECK(s->seq > next[s->pub][s->chan], "%llu after %llu", (unsigned long long)s->seq,
            (unsigned long long)next[s->pub][s->chan]);
      CHECK(s->seq <= before->loops[s->pub].seq[s->chan], "a message nobody published");
      CHECK(s->seq == next[s->pub][s->chan] + 1, "a hole before %llu", (unsigned long long)s->seq);
      next[s->pub][s->chan] = s->seq;
    }
    for (int i = 0; i < RIG_LOOPS; i++)
      for (uint32_t k = 0; k < before->loops[i].n_acks; k++) {
        const acked *a = &before->loops[i].acks[k];
        if (a->err || r->chan[a->chan]->durability != log) continue;
        if (log == LV_DURABILITY_MEMORY && lossy_memory) continue;
        CHECK(a->seq <= next[i][a->chan], "acked message %llu of loop %d is lost",
              (unsigned long long)a->seq, i);
      }
    seen_clear(&got);
  }
}

/* how: 0 closed, 1 killed, 2 power cut (which may take channels of memory durability along). */
static void same_chans(const rig *a, const rig *b, const uint64_t next[RIG_CHANS], int how) {
  bool exact = how == 0;
  for (uint32_t c = 0; c < RIG_CHANS; c++) {
    if (how == 2 && b->chan[c]->durability == LV_DURABILITY_MEMORY) continue;
    CHECK(a->chan[c]->id == b->chan[c]->id, "channel %u has another id", c);
    uint64_t now = atomic_load(&b->chan[c]->next_offset);
    CHECK(!exact || now == next[c], "channel %u: next offset %llu, was %llu", c,
          (unsigned long long)now, (unsigned long long)next[c]);
  }
}

/* Channel structs die with their broker: keep what is compared. */
typedef struct kept_chans {
  lv_chan copy[RIG_CHANS];
  uint64_t next[RIG_CHANS];
} kept_chans;

static void keep_chans(rig *r, kept_chans *k) {
  for (uint32_t c = 0; c < RIG_CHANS; c++) {
    k->copy[c].id = r->chan[c]->id;
    k->next[c] = atomic_load(&r->chan[c]->next_offset);
  }
}

static void reopen(const conform_kind *kind, int how) {
  rig a, b;
  kept_chans kept;
  kind->wipe(kind->env);
  rig_open(&a, kind, 0);
  rig_publish(&a, 1500);
  keep_chans(&a, &kept);
  if (how == 0)
    rig_close(&a);
  else
    rig_crash(&a, how == 2);
  rig_open(&b, kind, 0);
  for (uint32_t c = 0; c < RIG_CHANS; c++) a.chan[c] = &kept.copy[c];
  same_chans(&a, &b, kept.next, how);
  check_kept(&b, &a, how == 2);
  /* Offsets go on: nothing that was seen is named again. */
  for (int i = 0; i < RIG_LOOPS; i++) {
    memcpy(b.loops[i].seq, a.loops[i].seq, sizeof b.loops[i].seq);
    b.loops[i].offered = 0;
  }
  rig_publish(&b, 100);
  for (uint32_t c = 0; c < RIG_CHANS && how != 2; c++)
    CHECK(atomic_load(&b.chan[c]->next_offset) > kept.next[c], "offsets do not go on");
  rig_close(&b);
  rig_clear(&b);
  rig_clear(&a);
}

/* ---- channels ---- */

typedef struct ensurer {
  rig *r;
  pthread_t thread;
  lv_chan *chan[20];
} ensurer;

static void *ensure_many(void *arg) {
  ensurer *e = arg;
  for (uint32_t i = 0; i < 20; i++) {
    char name[16];
    snprintf(name, sizeof name, "many-%u", i);
    lv_chan_conf conf = {
        .app = LV_SLICE("app"), .name = lv_slice_str(name), .durability = e->r->kind->durability};
    int err = e->r->broker->ops->ensure(e->r->broker, &conf, 7, 1000, &e->chan[i]);
    CHECK(err == 0, "ensure: %s", lv_err_name(err));
  }
  return NULL;
}

static void channels(const conform_kind *kind) {
  rig r;
  lv_chan *chan = NULL;
  ensurer e[3] = {{.r = &r}, {.r = &r}, {.r = &r}};
  kind->wipe(kind->env);
  rig_open(&r, kind, 0);
  lv_broker *b = r.broker;
  lv_chan_conf conf = {.app = LV_SLICE("app"), .name = LV_SLICE("c0"), .keep_count = 5};
  conf.durability = r.chan[0]->durability;
  CHECK(b->ops->find(b, conf.app, conf.name) == r.chan[0], "find");
  CHECK(b->ops->find(b, conf.app, LV_SLICE("nope")) == NULL, "find of nothing");
  CHECK(b->ops->find(b, LV_SLICE("other"), conf.name) == NULL, "find in another app");
  CHECK(b->ops->chan(b, r.chan[0]->id) == r.chan[0], "chan by id");
  CHECK(b->ops->chan(b, 999999) == NULL, "chan by an unknown id");
  CHECK(b->ops->ensure(b, &conf, 7, 1, &chan) == 0 && chan == r.chan[0], "ensure what exists");
  CHECK(chan->keep_count == 5, "a new policy");
  conf.durability = !conf.durability;
  CHECK(b->ops->ensure(b, &conf, 7, 100, &chan) == LV_E_EXISTS, "another durability");
  conf.durability = !conf.durability;
  conf.name = LV_SLICE("fresh");
  CHECK(b->ops->ensure(b, &conf, 7, RIG_CHANS, &chan) == LV_E_QUOTA, "beyond the limit");
  CHECK(b->ops->ensure(b, &conf, 7, RIG_CHANS + 1, &chan) == 0 && chan->app_id == 7,
        "at the limit");
  conf.app = LV_SLICE("other");
  CHECK(b->ops->ensure(b, &conf, 8, 1, &chan) == 0 && chan->app_id == 8, "in another app");
  for (int i = 0; i < 3; i++)
    CHECK(pthread_create(&e[i].thread, NULL, ensure_many, &e[i]) == 0, "thread");
  for (int i = 0; i < 3; i++) pthread_join(e[i].thread, NULL);
  for (int i = 1; i < 3; i++)
    CHECK(memcmp(e[i].chan, e[0].chan, sizeof e[0].chan) == 0, "one name, two channels");
  rig_close(&r);
  rig_open(&r, kind, 0);
  chan = r.broker->ops->find(r.broker, LV_SLICE("other"), LV_SLICE("fresh"));
  CHECK(chan && chan->keep_count == 5, "a channel is lost by a restart");
  rig_close(&r);
}

/* ---- keyed state ---- */

enum { STATE_KEYS = 60, STATE_ROUNDS = 8 };

typedef struct state_run {
  rig *r;
  uint32_t round, told, want;
  uint8_t log;
  uint32_t value[STATE_KEYS]; /* the newest; 0: deleted */
} state_run;

static void add_state(lv_pub *pub, uint8_t log, uint32_t key, uint32_t value) {
  char topic[16];
  int n = snprintf(topic, sizeof topic, "key-%u", key);
  lv_rec_in in = {.kind = LV_REC_STATE,
                  .key_off = LV_REC_NO_KEY,
                  .topic = lv_slice_of(topic, (size_t)n),
                  .val = lv_slice_of(&value, value ? sizeof value : 0)};
  CHECK(lv_pub_add(pub, log, &in, lv_mono_now(), NULL) == 0, "add");
}

static void add_message(lv_pub *pub, const lv_chan *chan, const char *topic, uint32_t value,
                        bool retain, uint16_t packet_id) {
  lv_rec_in in = {.kind = LV_REC_MSG,
                  .flags = retain ? LV_REC_RETAIN : 0,
                  .key_off = LV_REC_NO_KEY,
                  .chan = chan->id,
                  .packet_id = packet_id,
                  .session = 77,
                  .has_session = packet_id != 0,
                  .topic = lv_slice_str(topic),
                  .val = lv_slice_of(&value, value ? sizeof value : 0)};
  CHECK(lv_pub_add(pub, chan->durability, &in, lv_mono_now(), NULL) == 0, "add");
}

static void on_state_ack(void *arg, const lv_ack *ack, int err, const lv_rec *rec) {
  (void)ack;
  (void)rec;
  state_run *s = arg;
  CHECK(err == 0, "error %s", lv_err_name(err));
  pthread_mutex_lock(&s->r->mu);
  s->told++;
  pthread_cond_signal(&s->r->progress);
  pthread_mutex_unlock(&s->r->mu);
}

static bool state_told(rig *r, void *arg) {
  (void)r;
  const state_run *s = arg;
  return s->told == s->want;
}

typedef struct pub_of {
  state_run *s;
  lv_pub *pub;
} pub_of;

static void write_state(lv_loop *loop, void *arg) {
  pub_of *p = arg;
  state_run *s = p->s;
  const lv_chan *chan = s->r->chan[0];
  uint8_t log = chan->durability;
  if (!p->pub) CHECK(lv_pub_new(loop, s->r->broker, 1 << 20, on_state_ack, s, &p->pub) == 0, "pub");
  for (uint32_t k = 0; k < STATE_KEYS; k++) {
    if ((k + s->round) % 3 == 0) continue;
    s->value[k] = (k + s->round) % 7 == 0 ? 0 : s->round * 1000 + k;
    add_state(p->pub, log, k, s->value[k]);
  }
  /* Retained: r1 replaced each round, r2 removed at last; QoS 2: 5 stays, 6 ends. */
  add_message(p->pub, chan, "c0/r1", s->round, true, 0);
  add_message(p->pub, chan, "c0/r2", s->round == STATE_ROUNDS ? 0 : s->round, true, 0);
  add_message(p->pub, chan, "c0/r1", 99999, false, 0);
  if (s->round == 1) {
    add_message(p->pub, chan, "c0/q", 5, false, 5);
    add_message(p->pub, chan, "c0/q", 6, false, 6);
  }
  if (s->round == 2) {
    char key[LV_REC_QOS2_KEY + 1];
    snprintf(key, sizeof key, "i%016x%04x", 77, 6);
    lv_rec_in in = {.kind = LV_REC_STATE, .key_off = LV_REC_NO_KEY, .topic = lv_slice_str(key)};
    CHECK(lv_pub_add(p->pub, log, &in, loop->now, NULL) == 0, "add");
  }
  lv_pub_ack(p->pub, log, (lv_ack){.index = UINT32_MAX});
}

typedef struct replayed {
  uint32_t value[STATE_KEYS], n_state, r1, r2, q5, q6;
  uint8_t log;
  uint64_t last;
} replayed;

static int on_replay(void *arg, lv_slice key, lv_slice value, const lv_rec *rec, uint8_t log) {
  replayed *p = arg;
  CHECK(log == p->log, "log %u", log);
  uint32_t v = 0;
  CHECK(value.n == sizeof v, "a deleted key is replayed");
  memcpy(&v, value.p, sizeof v);
  CHECK(rec->lsn >= p->last, "order of replay");
  p->last = rec->lsn;
  if (rec->kind == LV_REC_STATE) {
    char text[32] = "";
    uint64_t k;
    memcpy(text, key.p, key.n < 31 ? key.n : 31);
    CHECK(lv_slice_u64((lv_slice){key.p + 4, key.n - 4}, &k) == 0 && k < STATE_KEYS, "key %s",
          text);
    p->value[k] = v;
    p->n_state++;
    return 0;
  }
  if (lv_slice_eq(key, LV_SLICE("c0/r1"))) p->r1 = v;
  if (lv_slice_eq(key, LV_SLICE("c0/r2"))) p->r2 = v;
  if (lv_slice_eq(key, LV_SLICE("i000000000000004d0005"))) p->q5 = v;
  if (lv_slice_eq(key, LV_SLICE("i000000000000004d0006"))) p->q6 = v;
  return 0;
}

static void check_replay(const conform_kind *kind, const state_run *s) {
  lv_broker *b;
  char why[256];
  replayed p = {.log = s->log};
  int err = kind->open(kind->env, &b, why);
  CHECK(err == 0, "open: %s: %s", lv_err_name(err), why);
  err = b->ops->replay(b, on_replay, &p);
  CHECK(err == 0, "replay: %s", lv_err_name(err));
  uint32_t live = 0;
  for (uint32_t k = 0; k < STATE_KEYS; k++) {
    CHECK(p.value[k] == s->value[k], "key %u: %u, was %u", k, p.value[k], s->value[k]);
    live += s->value[k] != 0;
  }
  CHECK(p.n_state == live, "%u records for %u keys", p.n_state, live);
  CHECK(p.r1 == STATE_ROUNDS && p.r2 == 0, "retained: %u %u", p.r1, p.r2);
  CHECK(p.q5 == 5 && p.q6 == 0, "QoS 2: %u %u", p.q5, p.q6);
  b->ops->close(b);
}

static void state(const conform_kind *kind, bool crash) {
  rig r;
  state_run s = {.r = &r};
  pub_of p = {.s = &s};
  kind->wipe(kind->env);
  rig_open(&r, kind, 0);
  s.log = r.chan[0]->durability;
  for (s.round = 1; s.round <= STATE_ROUNDS; s.round++) {
    s.want++;
    lv_loop_call_wait(r.loops[0].loop, write_state, &p);
    rig_wait(&r, state_told, &s, "state is safe");
  }
  for (int i = 0; i < RIG_LOOPS; i++) lv_loop_stop(r.loops[i].loop);
  lv_pub_free(p.pub);
  if (crash)
    rig_crash(&r, false);
  else
    rig_close(&r);
  check_replay(kind, &s);
  check_replay(kind, &s);
}

/* ---- retention ---- */

static bool first_moved(rig *r, void *arg) {
  const lv_chan *chan = arg;
  pthread_mutex_unlock(&r->mu);
  if (r->kind->tend) r->kind->tend(r->kind->env, r->broker);
  pthread_mutex_lock(&r->mu);
  return atomic_load(&chan->first_offset) > 0;
}

/* Reads from the start tell the gap, reads from what is retained tell none. False: the retained
 * range moved while it was looked at. */
static bool retained_exactly(rig *r, uint64_t first) {
  const lv_chan *chan = r->chan[0];
  uint64_t next = atomic_load(&chan->next_offset), missing = 0, missing2 = 0;
  seen_list got = {0}, again = {0};
  CHECK(next - first >= 200 && next > 400, "first %llu next %llu", (unsigned long long)first,
        (unsigned long long)next);
  rig_read(r, chan->durability, 0, r->chan, 1, 500, 1u << 20, &got, &missing);
  CHECK(got.n > 0, "nothing is retained");
  rig_read(r, chan->durability, got.v[0].lsn, r->chan, 1, 500, 1u << 20, &again, &missing2);
  bool same = atomic_load(&chan->first_offset) == first;
  CHECK(!same || (got.n == next - first && got.v[0].offset == first), "%u records from %llu", got.n,
        (unsigned long long)got.v[0].offset);
  CHECK(missing > 0, "the gap is not told");
  CHECK(!same || missing <= got.v[0].lsn, "too much is told: %llu", (unsigned long long)missing);
  CHECK(!same || (again.n == got.n && missing2 == 0), "a gap is told where there is none");
  seen_clear(&got);
  seen_clear(&again);
  return same;
}

static void retention(const conform_kind *kind) {
  rig r;
  kind->wipe(kind->env);
  rig_open(&r, kind, 200);
  for (int round = 0; round < 4; round++) rig_publish(&r, 3000);
  rig_wait(&r, first_moved, r.chan[0], "retention by count");
  const lv_chan *chan = r.chan[0];
  uint64_t first;
  do { /* retention may go on meanwhile: then look again */
    first = atomic_load(&chan->first_offset);
  } while (!retained_exactly(&r, first));
  rig_close(&r);
  rig_clear(&r);
}

void conform_store(const conform_kind *kind) {
  channels(kind);
  printf("  ok   channels: one id a name, limits, policies, restarts\n");
  reopen(kind, 0);
  printf("  ok   a restart keeps messages, ids and offsets\n");
  if (kind->crash) {
    reopen(kind, 1);
    printf("  ok   a kill keeps what was acknowledged\n");
    reopen(kind, 2);
    printf("  ok   a power cut keeps what was acknowledged as on disk\n");
  } else {
    printf("  left out: crashes (cannot be done with this type)\n");
  }
  if (kind->caps & LV_CAP_STATE) {
    state(kind, false);
    if (kind->crash) state(kind, true);
    printf("  ok   keyed state, retained messages and QoS 2 publishes are replayed\n");
  } else {
    printf("  left out: keyed state\n");
  }
  if (kind->caps & LV_CAP_COUNT_RETENTION) {
    retention(kind);
    printf("  ok   retention by count; the gap is told\n");
  } else {
    printf("  left out: retention by count\n");
  }
}
