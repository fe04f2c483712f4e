/* order.c: guarantees 1, 2, 4 and 5: outcomes in order, per-publisher order, exact feeds. */
#include "conform.h"
#include <stdio.h>
#include <stdlib.h>

/* Each publisher was told every message once, per channel's log in the order published. */
static void check_acks(rig *r, bool errors_allowed) {
  for (int i = 0; i < RIG_LOOPS; i++) {
    const rig_loop *rl = &r->loops[i];
    uint64_t next[RIG_CHANS] = {0}, lsn[LV_DURABILITY_COUNT] = {0};
    CHECK(rl->n_acks == rl->offered, "%u of %llu told", rl->n_acks,
          (unsigned long long)rl->offered);
    for (uint32_t k = 0; k < rl->n_acks; k++) {
      const acked *a = &rl->acks[k];
      CHECK(a->seq == next[a->chan] + 1, "loop %d channel %u: outcome of %llu after %llu", i,
            a->chan, (unsigned long long)a->seq, (unsigned long long)next[a->chan]);
      next[a->chan] = a->seq;
      CHECK(errors_allowed || a->err == 0, "error %s", lv_err_name(a->err));
      if (a->err) continue;
      uint8_t log = r->chan[a->chan]->durability;
      CHECK(a->lsn > lsn[log], "positions do not grow");
      lsn[log] = a->lsn;
    }
  }
}

/* A feed: lsn ascending, each publisher's sequence in each channel without gap or repeat. */
static void check_feed(rig *r, const seen_list *feed, bool dense) {
  uint64_t last = 0, seq[RIG_LOOPS][RIG_CHANS] = {0}, off[RIG_CHANS] = {0};
  for (uint32_t k = 0; k < feed->n; k++) {
    const seen *s = &feed->v[k];
    CHECK(s->lsn > last, "feed: lsn %llu after %llu", (unsigned long long)s->lsn,
          (unsigned long long)last);
    last = s->lsn;
    CHECK(s->pub < RIG_LOOPS && s->chan < RIG_CHANS, "feed: foreign message");
    CHECK(s->id == r->chan[s->chan]->id, "feed: channel id");
    if (!dense) continue;
    CHECK(s->seq == seq[s->pub][s->chan] + 1, "feed: %llu after %llu", (unsigned long long)s->seq,
          (unsigned long long)seq[s->pub][s->chan]);
    seq[s->pub][s->chan] = s->seq;
    CHECK(s->offset >= off[s->chan], "feed: offsets");
    off[s->chan] = s->offset + 1;
  }
  for (uint32_t c = 0; dense && c < RIG_CHANS; c++)
    if (off[c])
      CHECK(atomic_load(&r->chan[c]->next_offset) == off[c], "next_offset of channel %u", c);
}

static void same_feed(const seen_list *a, const seen_list *b, uint64_t from) {
  uint32_t i = 0;
  while (i < a->n && a->v[i].lsn < from) i++;
  CHECK(a->n - i == b->n, "feeds of %u and %u messages", a->n - i, b->n);
  for (uint32_t k = 0; k < b->n; k++)
    CHECK(a->v[i + k].lsn == b->v[k].lsn && a->v[i + k].seq == b->v[k].seq, "feeds differ at %u",
          k);
}

static void feeds_exact(const conform_kind *kind) {
  rig r;
  kind->wipe(kind->env);
  rig_open(&r, kind, 0);
  uint64_t in = lv_metrics_counter(LV_C_BR_IN), out = lv_metrics_counter(LV_C_BR_OUT);
  uint64_t gw = lv_metrics_counter(LV_C_GW_OUT);
  for (int i = 0; i < RIG_LOOPS; i++) (void)rig_interest(&r, i, true);
  rig_publish(&r, 4000);
  rig_settle(&r);
  check_acks(&r, false);
  for (int log = 0; log < LV_DURABILITY_COUNT; log++)
    for (int i = 0; i < RIG_LOOPS; i++) {
      check_feed(&r, &r.loops[i].feed[log], true);
      same_feed(&r.loops[0].feed[log], &r.loops[i].feed[log], 0);
    }
  uint32_t n = r.loops[0].feed[0].n + r.loops[0].feed[1].n;
  CHECK(n == 4000 * RIG_LOOPS, "feeds show %u of %d", n, 4000 * RIG_LOOPS);
  CHECK(lv_metrics_counter(LV_C_BR_IN) - in == n, "BR_IN");
  CHECK(lv_metrics_counter(LV_C_BR_OUT) - out == n, "BR_OUT");
  CHECK(lv_metrics_counter(LV_C_GW_OUT) - gw == n, "GW_OUT");
  CHECK(lv_metrics_gauge(LV_G_INFLIGHT) == 0 && lv_metrics_gauge(LV_G_QUEUE_BYTES) == 0, "gauges");
  lv_broker_desc d;
  CHECK(r.broker->ops->describe(r.broker, &d) == 0 && d.healthy && d.queued_bytes == 0, "describe");
  rig_close(&r);
  rig_clear(&r);
}

static bool half_told(rig *r, void *arg) {
  (void)arg;
  return r->loops[0].told > 1500;
}

/* A loop that joins while others publish gets exactly what follows its point. */
static void joins_exact(const conform_kind *kind) {
  rig r;
  kind->wipe(kind->env);
  rig_open(&r, kind, 0);
  (void)rig_interest(&r, 0, true);
  for (int i = 0; i < RIG_LOOPS; i++) {
    r.loops[i].todo = 3000;
    lv_loop_call(r.loops[i].loop, conform_turn, &r.loops[i]);
  }
  rig_wait(&r, half_told, NULL, "half of the messages");
  lv_pos pos = rig_interest(&r, 2, true), pos1 = rig_interest_second(&r, 1, true);
  lv_pos pos2 = rig_interest_second(&r, 2, true);
  uint64_t want[RIG_LOOPS] = {3000, 3000, 3000};
  rig_wait(&r, conform_all_told, want, "outcome of every message");
  rig_settle(&r);
  for (int log = 0; log < LV_DURABILITY_COUNT; log++) {
    check_feed(&r, &r.loops[0].feed[log], true);
    same_feed(&r.loops[0].feed[log], &r.loops[2].feed[log], pos.lsn[log]);
    CHECK(r.loops[1].feed[log].n == 0, "a feed that nobody asked for");
    same_feed(&r.loops[0].feed[log], &r.loops[1].feed2[log], pos1.lsn[log]);
    same_feed(&r.loops[0].feed[log], &r.loops[2].feed2[log], pos2.lsn[log]);
  }
  (void)rig_interest(&r, 2, false); /* the other taker goes on */
  uint32_t had[2] = {r.loops[2].feed[0].n, r.loops[2].feed[1].n};
  rig_publish(&r, 100);
  rig_settle(&r);
  CHECK(r.loops[2].feed[0].n == had[0] && r.loops[2].feed[1].n == had[1], "a feed after leaving");
  for (int log = 0; log < LV_DURABILITY_COUNT; log++)
    same_feed(&r.loops[0].feed[log], &r.loops[2].feed2[log], pos2.lsn[log]);
  rig_close(&r);
  rig_clear(&r);
}

typedef struct renewal {
  rig_loop *rl;
  lv_pos pos;
  uint32_t had[LV_DURABILITY_COUNT];
} renewal;

/* Off and on within a turn: what waits for the loop is from before. */
static void renew(lv_loop *loop, void *arg) {
  renewal *n = arg;
  rig *r = n->rl->rig;
  (void)r->broker->ops->interest(r->broker, loop, &n->rl->taker, false);
  n->pos = r->broker->ops->interest(r->broker, loop, &n->rl->taker, true);
  for (int log = 0; log < LV_DURABILITY_COUNT; log++) n->had[log] = n->rl->feed[log].n;
}

/* A feed that ends and begins again gives nothing from before its new point. */
static void renews_exact(const conform_kind *kind) {
  enum { TIMES = 200 };
  rig r;
  static renewal n[TIMES];
  kind->wipe(kind->env);
  rig_open(&r, kind, 0);
  (void)rig_interest(&r, 0, true);
  (void)rig_interest(&r, 2, true);
  for (int i = 0; i < RIG_LOOPS; i++) {
    r.loops[i].todo = 3000;
    lv_loop_call(r.loops[i].loop, conform_turn, &r.loops[i]);
  }
  for (int k = 0; k < TIMES; k++) {
    n[k].rl = &r.loops[2];
    lv_loop_call_wait(r.loops[2].loop, renew, &n[k]);
  }
  uint64_t want[RIG_LOOPS] = {3000, 3000, 3000};
  rig_wait(&r, conform_all_told, want, "outcome of every message");
  rig_settle(&r);
  for (int log = 0; log < LV_DURABILITY_COUNT; log++) {
    const seen_list *feed = &r.loops[2].feed[log];
    for (int k = 0; k < TIMES; k++)
      CHECK(n[k].had[log] == feed->n || feed->v[n[k].had[log]].lsn >= n[k].pos.lsn[log],
            "a feed from before its point");
    check_feed(&r, feed, false);
    seen_list tail = *feed;
    tail.n -= n[TIMES - 1].had[log];
    if (tail.n) tail.v += n[TIMES - 1].had[log];
    same_feed(&r.loops[0].feed[log], &tail, n[TIMES - 1].pos.lsn[log]);
  }
  rig_close(&r);
  rig_clear(&r);
}

/* An acknowledgement without a record comes behind all earlier ones of that log. */
typedef struct bare {
  rig *r;
  lv_pub *pub;
  uint32_t plain, before;
  bool finished;
} bare;

static void on_bare_ack(void *arg, const lv_ack *ack, int err, const lv_rec *rec) {
  bare *t = arg;
  CHECK(err == 0, "error %s", lv_err_name(err));
  pthread_mutex_lock(&t->r->mu);
  if (ack->index == UINT32_MAX) {
    CHECK(rec == NULL && t->plain == t->before, "%u of %u acknowledged before it", t->plain,
          t->before);
    t->finished = true;
  } else {
    CHECK(rec, "no record");
    t->plain++;
  }
  pthread_cond_signal(&t->r->progress);
  pthread_mutex_unlock(&t->r->mu);
}

static void bare_run(lv_loop *loop, void *arg) {
  bare *t = arg;
  if (!t->pub) CHECK(lv_pub_new(loop, t->r->broker, 1 << 20, on_bare_ack, t, &t->pub) == 0, "pub");
  note nt = {0};
  const lv_chan *chan = t->r->chan[0];
  lv_rec_in in = {.kind = LV_REC_MSG,
                  .key_off = LV_REC_NO_KEY,
                  .chan = chan->id,
                  .topic = LV_SLICE("c0"),
                  .val = lv_slice_of(&nt, sizeof nt)};
  t->plain = 0;
  t->finished = false;
  for (uint32_t i = 0; i < t->before; i++) {
    CHECK(lv_pub_add(t->pub, chan->durability, &in, loop->now, NULL) == 0, "add");
    lv_pub_ack(t->pub, chan->durability, (lv_ack){0});
  }
  if (t->before) lv_pub_submit(t->pub);
  lv_pub_ack(t->pub, chan->durability, (lv_ack){.index = UINT32_MAX});
}

static bool bare_finished(rig *r, void *arg) {
  (void)r;
  return ((bare *)arg)->finished;
}

static void bare_acks(const conform_kind *kind) {
  rig r;
  kind->wipe(kind->env);
  rig_open(&r, kind, 0);
  bare t = {.r = &r};
  for (t.before = 0; t.before < 1000; t.before = t.before * 3 + 1) {
    lv_loop_call_wait(r.loops[1].loop, bare_run, &t);
    rig_wait(&r, bare_finished, &t, "an acknowledgement without a record");
  }
  for (int i = 0; i < RIG_LOOPS; i++) lv_loop_stop(r.loops[i].loop);
  lv_pub_free(t.pub);
  rig_close(&r);
  rig_clear(&r);
}

void conform_order(const conform_kind *kind) {
  feeds_exact(kind);
  printf("  ok   every loop's feed is the same, complete and in order; outcomes in order\n");
  joins_exact(kind);
  renews_exact(kind);
  printf("  ok   a loop that joins gets exactly what follows its point\n");
  bare_acks(kind);
  printf("  ok   an acknowledgement without a record waits for all earlier ones\n");
}
