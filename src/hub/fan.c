/* fan.c: the loop's place on the broker's feed, and fan-out.
 *
 * The messages of a batch are sorted by channel; each channel's run is encoded once for every
 * variant that somebody listens to, frame behind frame. A subscription that takes everything gets
 * the whole run as one reference; one with a filter, one that conflates or one that is slow gets
 * its messages one by one.
 *
 * The last run of what a turn brings leaves at once, connection by connection, so that the first of
 * a thousand need not wait until it was queued for the last, and each is looked at once. All others
 * are queued, and leave with it or with the flush at the end of the turn. @thread loop */
#include "hub/hub_int.h"
#include <stdlib.h>

typedef struct fan {
  lv__hub_loop *hl;
  lv__hub_chan *ch;
  lv__hub_group *g;
  lv_mono stamp;
  uint32_t first, n; /* messages of ch->run whose frames lie in `f` */
  uint64_t bytes;    /* of their values */
  lv_use use;
  bool timed;                          /* some have their publisher's timestamp */
  bool now;                            /* nothing more follows in this turn */
  lv__frame f;                         /* all of them */
  uint32_t *size;                      /* of each */
  uint32_t framed[LV_KPI_PROTO_COUNT]; /* subscriptions that got all of it */
} fan;

/* Message by message: what the whole run is not for. */
static void give_some(fan *x, lv__hub_sub *sub) {
  lv__frame part = {x->f.block, x->f.p, 0};
  for (uint32_t i = 0; i < x->n; i++) {
    const lv_rec *rec = x->ch->run[x->first + i].rec;
    part.p += part.n;
    part.n = x->size[i];
    if (!part.n || rec->lsn < sub->from || !lv__filter_pass(sub->filter, rec)) continue;
    lv__hub_count_owed(sub, 1);
    lv__hold_give(sub, &part, rec, x->stamp);
    if (sub->hc->closing) return;
  }
}

/* Whether a subscription simply takes all of the run. */
static inline bool takes_all(const fan *x, const lv__hub_sub *sub) {
  return !sub->filter && sub->from <= x->ch->run[x->first].rec->lsn && lv__hold_plain(sub) &&
         !lv__hub_slow(sub->hc);
}

/* End-to-end latency of the run's messages, for those who got all of it. */
static void count_times(const fan *x) {
  lv_loop *loop = x->hl->loop;
  int64_t ms;
  for (uint32_t i = 0; i < x->n; i++) {
    if (!x->size[i] || !lv_rec_tms(x->ch->run[x->first + i].rec, &ms)) continue;
    for (uint32_t p = 0; p < LV_KPI_PROTO_COUNT; p++)
      if (x->framed[p])
        lv_metrics_latency(loop->metrics, lv_metrics_row(loop->metrics, x->ch->chan->app_id, p),
                           LV_LATENCY_END, loop->wall.ns - ms * 1000000, x->framed[p]);
  }
}

static void count_framed(const fan *x) {
  lv_chan *chan = x->ch->chan;
  lv_metrics *base = x->hl->loop->metrics;
  uint32_t all = 0;
  for (uint32_t p = 0; p < LV_KPI_PROTO_COUNT; p++) {
    if (!x->framed[p]) continue;
    lv_count(lv_metrics_row(base, chan->app_id, p), LV_C_HUB_OUT_BYTES, x->framed[p] * x->bytes);
    all += x->framed[p];
  }
  if (!all) return;
  lv_chan_row *row = lv_metrics_chan_row(base, lv_chan_kpi(chan));
  lv_chan_count(row, LV_CH_OUT, (uint64_t)all * x->n);
  lv_chan_count(row, LV_CH_OUT_BYTES, all * x->bytes);
  if (x->timed) count_times(x);
}

/* Each delivery looks at five objects of its connection, one through the other: they are fetched a
 * few deliveries before. */
static inline void fetch_ahead(const lv__hub_group *g, uint32_t i) {
  enum { SUB = 12, CUSTOMER = 8, CONN = 4 };
  if (i + SUB >= g->n_live) return;
  __builtin_prefetch(g->subs[i + SUB]);
  __builtin_prefetch(g->subs[i + CUSTOMER]->hc);
  const lv__hub_conn *hc = g->subs[i + CONN]->hc;
  __builtin_prefetch(&hc->conn->outq);
  __builtin_prefetch(&hc->conn->out_mark);
  __builtin_prefetch(hc->ws);
}

static bool send_now(const fan *x, lv__hub_conn *hc) {
  lv_conn *c = hc->conn;
  if (!hc->ws || hc->ws->closing || !lv_conn_may_send_now(c)) return false;
  lv_outq_ref(&c->outq, x->f.block, x->f.p, x->f.n, x->n, x->stamp);
  lv_outq_use(&c->outq, x->use);
  lv_conn_send_now(c);
  return true;
}

static void run_end(fan *x) {
  if (x->n == 0 || x->f.n == 0) {
    x->n = 0;
    return;
  }
  memset(x->framed, 0, sizeof x->framed);
  lv_metrics *app = lv_metrics_row(x->hl->loop->metrics, x->ch->chan->app_id, LV_KPI_NONE);
  for (uint32_t i = 0; i < x->g->n_live; i++) {
    lv__hub_sub *sub = x->g->subs[i];
    fetch_ahead(x->g, i);
    if (sub->hc->closing) continue;
    if (takes_all(x, sub)) {
      lv_count(app, LV_C_HUB_OWED, x->n);
      lv_gauge(app, LV_G_PENDING, x->n);
      if (!x->now || !send_now(x, sub->hc)) lv__hub_send(sub->hc, &x->f, x->n, x->stamp, x->use);
      x->framed[sub->hc->proto]++;
    } else {
      give_some(x, sub);
    }
  }
  count_framed(x);
  x->n = 0;
  x->bytes = 0;
  x->use = (lv_use){0, 0};
  x->timed = false;
  x->f = (lv__frame){0};
}

/* A message that cannot be framed: dropped for all who would get it. */
static void lose(const fan *x, const lv_rec *rec) {
  for (uint32_t i = 0; i < x->g->n_live; i++) {
    lv__hub_sub *sub = x->g->subs[i];
    if (sub->hc->closing || rec->lsn < sub->from || !lv__filter_pass(sub->filter, rec)) continue;
    lv__hub_count_owed(sub, 1);
    lv__hub_count_drop(sub, LV_C_DROP_HUB_TOO_BIG, 1);
  }
}

/* One more message behind the run; a run ends with its block. */
static void run_add(fan *x, uint32_t i) {
  const lv__run_rec *r = &x->ch->run[i];
  lv_chan *chan = x->ch->chan;
  lv_hub_data d = {.rec = r->rec,
                   .kind = r->kind,
                   .has_pos = x->g->v.pos,
                   .pos = {lv__hub_epoch(x->hl, chan->durability, r->rec->lsn), r->rec->offset}};
  uint32_t bound = lv__frame_bound(x->g->v, &d);
  lv__frame f;
  if (!lv__frames_fit(&x->hl->frames, bound)) {
    run_end(x);
    if (!lv__frames_room(&x->hl->frames, bound)) {
      lose(x, r->rec);
      return;
    }
  }
  if (lv__frame_put(x->hl, &x->hl->frames, x->g->v, &d, &f)) {
    lose(x, r->rec);
    return;
  }
  if (x->n == 0) {
    x->first = i;
    x->f = (lv__frame){f.block, f.p, 0};
  }
  x->size[x->n++] = f.n;
  x->f.n += f.n;
  x->bytes += lv_rec_val(r->rec).n;
  lv_use use = lv_use_of(r->rec);
  x->use.steps += use.steps;
  x->use.bytes += use.bytes;
  x->timed |= (r->rec->flags & LV_REC_TMS) != 0;
}

/* Those who still read the log get it from there; it is owed to them from now on. */
static void owe_later(const lv__hub_chan *ch, const lv__hub_group *g) {
  for (uint32_t k = g->n_live; k < g->n_all; k++) {
    lv__hub_sub *sub = g->subs[k];
    uint32_t n = 0;
    for (uint32_t i = 0; i < ch->n_run; i++) n += lv__hub_sub_later(sub, ch->run[i].rec);
    if (n) lv__hub_count_owed(sub, n);
    sub->behind += n;
  }
}

/* A channel's run for all who listen. */
static void fan_chan(lv__hub_loop *hl, lv__hub_chan *ch, lv_mono stamp, bool last) {
  uint32_t *size = (uint32_t *)(void *)hl->loop->scratch;
  fan x = {.hl = hl, .ch = ch, .stamp = stamp, .size = size};
  bool kinds = false;
  for (x.g = ch->groups; x.g; x.g = x.g->next) {
    owe_later(ch, x.g);
    if (!x.g->n_live) continue;
    for (uint32_t i = 0; i < ch->n_run && !kinds; i++)
      ch->run[i].kind = lv_hub_kind(ch->chan->content, lv_rec_val(ch->run[i].rec));
    kinds = true;
    for (uint32_t i = 0; i < ch->n_run; i++) {
      if (x.n == LV_SCRATCH_SIZE / sizeof *size) run_end(&x);
      if (x.n && x.first + x.n != i) run_end(&x); /* one could not be encoded */
      run_add(&x, i);
    }
    x.now = last;
    run_end(&x);
    x.now = false;
  }
  ch->n_run = 0;
}

static void run_push(lv__hub_chan *ch, const lv_rec *rec) {
  if (ch->n_run == ch->cap_run) {
    ch->cap_run = ch->cap_run ? ch->cap_run * 2 : 16;
    ch->run = realloc(ch->run, ch->cap_run * sizeof *ch->run);
    if (!ch->run) abort();
  }
  ch->run[ch->n_run++] = (lv__run_rec){rec, 0};
}

void lv__hub_feed(lv_loop *loop, lv_batch *batch, void *arg) {
  lv__hub_loop *hl = arg;
  lv__hub_chan *touched = NULL, **tail = &touched;
  (void)loop;
  lv__hub_epochs(hl);
  for (const lv_rec *rec = lv_batch_first(batch); rec; rec = lv_batch_next(batch, rec)) {
    if (rec->kind != LV_REC_MSG || rec->chan >= hl->n_chans) continue;
    lv__hub_chan *ch = hl->chans[rec->chan];
    if (!ch) continue;
    ch->seen_end = rec->lsn + 1;
    if (!ch->n_subs) continue;
    if (!ch->n_run) {
      *tail = ch;
      tail = &ch->touched;
      ch->touched = NULL;
    }
    run_push(ch, rec);
  }
  lv_mono stamp = batch->read_at;
  while (touched) {
    lv__hub_chan *ch = touched;
    touched = ch->touched;
    ch->touched = NULL;
    fan_chan(hl, ch, stamp, !touched && !hl->feed.more);
  }
  hl->seen.lsn[batch->log] = batch->lsn_end;
}
