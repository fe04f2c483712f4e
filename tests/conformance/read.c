/* read.c: guarantee 3 and replay: reads and fetches show what the feed showed. */
#include "conform.h"
#include <stdio.h>
#include <stdlib.h>

static bool wanted(const seen *s, lv_chan *const *chans, uint32_t n) {
  if (!chans) return true;
  for (uint32_t i = 0; i < n; i++)
    if (chans[i]->id == s->id) return true;
  return false;
}

/* A read of these channels from `from` equals that part of the feed. */
static void compare(rig *r, uint8_t log, uint64_t from, lv_chan *const *chans, uint32_t n,
                    uint32_t max_count, uint32_t max_bytes) {
  seen_list got = {0};
  uint64_t missing = 0;
  rig_read(r, log, from, chans, n, max_count, max_bytes, &got, &missing);
  CHECK(missing == 0, "told that records below %llu are gone", (unsigned long long)missing);
  const seen_list *feed = &r->loops[0].feed[log];
  uint32_t k = 0;
  for (uint32_t i = 0; i < feed->n; i++) {
    const seen *s = &feed->v[i];
    if (s->lsn < from || !wanted(s, chans, n)) continue;
    CHECK(k < got.n, "read ends after %u records", got.n);
    CHECK(got.v[k].lsn == s->lsn && got.v[k].offset == s->offset && got.v[k].seq == s->seq &&
              got.v[k].pub == s->pub && got.v[k].id == s->id,
          "record %u differs", k);
    k++;
  }
  CHECK(k == got.n, "read shows %u records, the feed %u", got.n, k);
  seen_clear(&got);
}

static void read_all_ways(rig *r, uint8_t log) {
  const seen_list *feed = &r->loops[0].feed[log];
  uint64_t rng = 42 + log;
  if (feed->n == 0) return;
  compare(r, log, 0, NULL, 0, 100000, 1u << 30);
  compare(r, log, 0, NULL, 0, 13, 1u << 30);
  compare(r, log, 0, NULL, 0, 100000, 1);
  for (uint32_t c = 0; c < RIG_CHANS; c++) {
    compare(r, log, 0, &r->chan[c], 1, 100, 1u << 20);
    compare(r, log, feed->v[feed->n / 2].lsn, &r->chan[c], 1, 1000, 3000);
  }
  compare(r, log, 0, r->chan, RIG_CHANS, 250, 1u << 20);
  for (int i = 0; i < 20; i++) {
    uint64_t from = feed->v[rig_random(&rng) % feed->n].lsn;
    uint32_t first = (uint32_t)(rig_random(&rng) % RIG_CHANS);
    uint32_t n = 1 + (uint32_t)(rig_random(&rng) % (RIG_CHANS - first));
    compare(r, log, from, r->chan + first, n, 1 + (uint32_t)(rig_random(&rng) % 300), 40000);
  }
  /* Whatever room the last record leaves, less than a head too, the next read goes on behind it. */
  for (uint32_t room = 1000; room < 1400; room += 8) compare(r, log, 0, &r->chan[0], 1, 1000, room);
  compare(r, log, UINT64_MAX / 2, NULL, 0, 10, 10000); /* from the future: nothing */
}

typedef struct fetching {
  lv_fetch fetch;
  rig *r;
  uint64_t *lsns;
  bool finished;
} fetching;

static void on_fetch(lv_fetch *fetch) {
  fetching *f = fetch->arg;
  pthread_mutex_lock(&f->r->mu);
  f->finished = true;
  pthread_cond_signal(&f->r->progress);
  pthread_mutex_unlock(&f->r->mu);
}

static void fetch_start(lv_loop *loop, void *arg) {
  (void)loop;
  fetching *f = arg;
  int err = f->r->broker->ops->fetch(f->r->broker, &f->fetch);
  CHECK(err == 0, "fetch: %s", lv_err_name(err));
}

static bool fetch_finished(rig *r, void *arg) {
  (void)r;
  return ((fetching *)arg)->finished;
}

static void fetch_free(lv_loop *loop, void *arg) {
  (void)loop;
  lv_broker_fetch_free(&((fetching *)arg)->fetch);
}

/* Every `step`th message of the feed, and one that is not visible yet. */
static void fetch_some(rig *r, uint8_t log, uint32_t first, uint32_t step) {
  const seen_list *feed = &r->loops[0].feed[log];
  uint32_t n = 0;
  fetching f = {.r = r, .lsns = calloc(feed->n + 1, sizeof(uint64_t))};
  for (uint32_t i = first; i < feed->n; i += step) f.lsns[n++] = feed->v[i].lsn;
  uint64_t end = r->broker->ops->visible(r->broker).lsn[log];
  f.lsns[n++] = end;
  f.fetch = (lv_fetch){
      .loop = r->loops[0].loop, .log = log, .lsns = f.lsns, .n = n, .done = on_fetch, .arg = &f};
  lv_loop_call_wait(r->loops[0].loop, fetch_start, &f);
  rig_wait(r, fetch_finished, &f, "end of a fetch");
  CHECK(f.fetch.err == 0, "fetch: %s", lv_err_name(f.fetch.err));
  for (uint32_t i = 0; i + 1 < n; i++) {
    CHECK(f.fetch.recs[i], "record %u of %u is gone", i, n);
    CHECK(f.fetch.recs[i]->lsn == f.lsns[i], "another record");
  }
  CHECK(f.fetch.recs[n - 1] == NULL, "a record that is not visible");
  lv_loop_call_wait(r->loops[0].loop, fetch_free, &f);
  free(f.lsns);
}

/* Readers chase the publishers: what is read while it is written equals the feed in the end. */
static void read_while_written(rig *r) {
  seen_list got[LV_DURABILITY_COUNT] = {{0}, {0}};
  uint64_t from[LV_DURABILITY_COUNT] = {0};
  uint64_t want[RIG_LOOPS];
  for (int log = 0; log < LV_DURABILITY_COUNT; log++)
    from[log] = r->broker->ops->visible(r->broker).lsn[log];
  lv_pos start = {{from[0], from[1]}};
  for (int i = 0; i < RIG_LOOPS; i++) {
    want[i] = r->loops[i].told + 1000;
    r->loops[i].todo = 1000;
    lv_loop_call(r->loops[i].loop, conform_turn, &r->loops[i]);
  }
  for (bool last = false;;) {
    pthread_mutex_lock(&r->mu);
    bool all = conform_all_told(r, want);
    pthread_mutex_unlock(&r->mu);
    for (uint8_t log = 0; log < LV_DURABILITY_COUNT; log++) {
      rig_read(r, log, from[log], r->chan, RIG_CHANS, 500, 100000, &got[log], NULL);
      if (got[log].n) from[log] = got[log].v[got[log].n - 1].lsn + 1;
    }
    if (last) break;
    last = all;
  }
  rig_settle(r);
  for (int log = 0; log < LV_DURABILITY_COUNT; log++) {
    const seen_list *feed = &r->loops[0].feed[log];
    uint32_t i = 0;
    while (i < feed->n && feed->v[i].lsn < start.lsn[log]) i++;
    CHECK(feed->n - i == got[log].n, "%u read, %u fed", got[log].n, feed->n - i);
    for (uint32_t k = 0; k < got[log].n; k++)
      CHECK(feed->v[i + k].lsn == got[log].v[k].lsn, "record %u differs", k);
    seen_clear(&got[log]);
  }
}

void conform_read(const conform_kind *kind) {
  if (!(kind->caps & LV_CAP_REPLAY)) {
    printf("  left out: reads and fetches (no replay)\n");
    return;
  }
  rig r;
  kind->wipe(kind->env);
  rig_open(&r, kind, 0);
  (void)rig_interest(&r, 0, true);
  rig_publish(&r, 2500);
  rig_settle(&r);
  for (uint8_t log = 0; log < LV_DURABILITY_COUNT; log++) read_all_ways(&r, log);
  printf("  ok   reads of every shape show what the feed showed\n");
  for (uint8_t log = 0; log < LV_DURABILITY_COUNT; log++) {
    const seen_list *feed = &r.loops[0].feed[log];
    if (feed->n == 0) continue;
    fetch_some(&r, log, 0, 17);
    fetch_some(&r, log, feed->n - 3, 1);
    fetch_some(&r, log, 0, feed->n);
  }
  printf("  ok   fetches find what the feed showed, and nothing that is not visible\n");
  read_while_written(&r);
  printf("  ok   reading behind the writers misses and repeats nothing\n");
  rig_close(&r);
  rig_clear(&r);
}
