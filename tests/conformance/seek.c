/* seek.c: places by offset, by number from the end and by time are those that the feed showed. */
#include "conform.h"
#include <stdio.h>
#include <stdlib.h>

typedef struct seeking {
  lv_seek seek;
  rig *r;
  bool finished;
} seeking;

static void on_seek(lv_seek *seek) {
  seeking *s = seek->arg;
  pthread_mutex_lock(&s->r->mu);
  s->finished = true;
  pthread_cond_signal(&s->r->progress);
  pthread_mutex_unlock(&s->r->mu);
}

static void seek_start(lv_loop *loop, void *arg) {
  (void)loop;
  seeking *s = arg;
  int err = s->r->broker->ops->seek(s->r->broker, &s->seek);
  CHECK(err == 0, "seek: %s", lv_err_name(err));
  CHECK(!s->finished, "an answer inside the call");
}

static bool seek_finished(rig *r, void *arg) {
  (void)r;
  return ((seeking *)arg)->finished;
}

static lv_seek seek_from(rig *r, const lv_chan *chan, uint8_t by, uint64_t value, lv_slice epoch) {
  seeking s = {.r = r};
  s.seek = (lv_seek){.loop = r->loops[0].loop,
                     .chan = chan,
                     .by = by,
                     .value = value,
                     .epoch = epoch,
                     .done = on_seek,
                     .arg = &s};
  lv_loop_call_wait(r->loops[0].loop, seek_start, &s);
  rig_wait(r, seek_finished, &s, "end of a seek");
  CHECK(s.seek.err == 0, "seek: %s", lv_err_name(s.seek.err));
  return s.seek;
}

static lv_seek seek(rig *r, const lv_chan *chan, uint8_t by, uint64_t value) {
  return seek_from(r, chan, by, value, (lv_slice){0});
}

/* A position of the current epoch goes on behind it; one of nobody's, with all there is. */
static void check_positions(rig *r, const lv_chan *chan, const seen_list *l) {
  lv_broker_desc d;
  CHECK(r->broker->ops->describe(r->broker, &d) == 0, "describe");
  lv_slice epoch = lv_slice_str(d.epoch[chan->durability]);
  lv_seek s = seek_from(r, chan, LV_SEEK_POS, l->v[3].offset, epoch);
  CHECK(s.same_epoch && s.offset == l->v[3].offset && s.lsn == l->v[3].lsn, "the same epoch");
  s = seek_from(r, chan, LV_SEEK_POS, UINT64_MAX, epoch);
  CHECK(s.same_epoch && s.offset == atomic_load(&chan->next_offset), "behind the end");
  s = seek_from(r, chan, LV_SEEK_POS, l->v[3].offset, LV_SLICE("nobody"));
  CHECK(!s.same_epoch && s.offset == l->v[0].offset, "another epoch: %llu",
        (unsigned long long)s.offset);
  CHECK(lv_slice_eq(lv_slice_str(s.now), epoch), "epoch %s", s.now);
}

/* The channel's messages in the feed. */
static seen_list of_chan(const seen_list *feed, const lv_chan *chan) {
  seen_list l = {.v = calloc(feed->n + 1, sizeof *l.v)};
  for (uint32_t i = 0; i < feed->n; i++)
    if (feed->v[i].id == chan->id) l.v[l.n++] = feed->v[i];
  return l;
}

static void check(rig *r, const lv_chan *chan, const seen_list *l, uint8_t by, uint64_t value,
                  uint32_t want) {
  lv_seek s = seek(r, chan, by, value);
  uint64_t end = r->broker->ops->visible(r->broker).lsn[chan->durability];
  if (want == l->n) {
    CHECK(s.lsn == end && s.offset == atomic_load(&chan->next_offset), "behind the last message");
    return;
  }
  CHECK(s.lsn == l->v[want].lsn && s.offset == l->v[want].offset, "offset %llu instead of %llu",
        (unsigned long long)s.offset, (unsigned long long)l->v[want].offset);
}

void conform_seek(const conform_kind *kind) {
  if (!(kind->caps & LV_CAP_REPLAY)) {
    printf("  left out: seeks (no replay)\n");
    return;
  }
  rig r;
  kind->wipe(kind->env);
  rig_open(&r, kind, 0);
  (void)rig_interest(&r, 0, true);
  rig_publish(&r, 700);
  rig_settle(&r);
  for (uint32_t c = 0; c < RIG_CHANS; c++) {
    const lv_chan *chan = r.chan[c];
    seen_list l = of_chan(&r.loops[0].feed[chan->durability], chan);
    CHECK(l.n > 10, "%u messages", l.n);
    for (uint32_t i = 0; i < l.n; i += 37) check(&r, chan, &l, LV_SEEK_OFFSET, l.v[i].offset, i);
    check(&r, chan, &l, LV_SEEK_OFFSET, 0, 0);
    check(&r, chan, &l, LV_SEEK_OFFSET, l.v[l.n - 1].offset + 1, l.n);
    check(&r, chan, &l, LV_SEEK_OFFSET, UINT64_MAX, l.n);
    check(&r, chan, &l, LV_SEEK_LAST, 0, l.n);
    check(&r, chan, &l, LV_SEEK_LAST, 1, l.n - 1);
    check(&r, chan, &l, LV_SEEK_LAST, 10, l.n - 10);
    check(&r, chan, &l, LV_SEEK_LAST, UINT64_MAX, 0);
    check(&r, chan, &l, LV_SEEK_TIME, 0, 0);
    check(&r, chan, &l, LV_SEEK_TIME, INT64_MAX, l.n);
    check_positions(&r, chan, &l);
    free(l.v);
  }
  printf("  ok   seeks find what the feed showed\n");
  rig_close(&r);
  rig_clear(&r);
}
