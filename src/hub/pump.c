/* pump.c: a subscription from its beginning until it is live, and what moves it on.
 *
 *   WAIT ──snapshot, place──▶ GREET ──CONNECTED──▶ SEND ──gap, snapshot──▶ LAG ──meets feed──▶ LIVE
 *
 * The connection's subscriptions take these steps together: all are greeted, in the order asked,
 * before any of them gets data; all snapshots are sent before anything is read on; then one after
 * the other reads the log to the loop's place on the feed. Nothing is sent faster than the customer
 * takes it: above half of the send queue's bound the pump stops until it has drained.
 * @thread loop */
#include "core/log.h"
#include "hub/hub_int.h"
#include <stdio.h>
#include <stdlib.h>

typedef struct lv__lag_read {
  lv_read read;
  struct lv__lag_read *next, **pprev; /* in hl->reads */
  lv__hub_loop *hl;
  lv__hub_conn *hc; /* NULL: gone */
  lv__hub_sub *sub; /* NULL: gone */
  lv_chan *only;
} lv__lag_read;

typedef struct lv__seek_job {
  lv_seek seek;
  struct lv__seek_job *next, **pprev; /* in hl->seeks */
  lv__hub_sub *sub;                   /* NULL: gone */
  char epoch[LV_HUB_EPOCH_MAX + 1];
} lv__seek_job;

/* The offset behind a position; nothing follows the largest. */
static uint64_t behind(uint64_t offset) {
  return offset < UINT64_MAX ? offset + 1 : offset;
}

static lv_chan *chan_of(const lv__hub_sub *sub) {
  return sub->group->ch->chan;
}

static bool room(const lv__hub_conn *hc) {
  return hc->conn->outq.bytes < hc->conn->out_max / 2;
}

/* ---- beginning and end ---- */

void lv__opening_free(lv__opening *o) {
  if (!o) return;
  lv__snap_cancel(&o->wait);
  if (o->seek) o->seek->sub = NULL;
  lv__snap_unref(o->snap);
  free(o);
}

/* ---- its place in the group ---- */

static void swap(lv__hub_group *g, uint32_t a, uint32_t b) {
  lv__hub_sub *x = g->subs[a], *y = g->subs[b];
  g->subs[a] = y;
  g->subs[b] = x;
  y->place = a;
  x->place = b;
}

static void join(lv__hub_sub *sub) {
  lv__hub_group *g = sub->group;
  if (g->n_all == g->cap) {
    g->cap = g->cap ? g->cap * 2 : 4;
    g->subs = realloc(g->subs, g->cap * sizeof *g->subs);
    if (!g->subs) abort();
  }
  sub->place = g->n_all;
  g->subs[g->n_all++] = sub;
}

static void leave(lv__hub_sub *sub) {
  lv__hub_group *g = sub->group;
  if (sub->state == LV__SUB_LIVE) swap(g, sub->place, --g->n_live);
  swap(g, sub->place, --g->n_all);
}

void lv__hub_sub_free(lv__hub_sub *sub, enum lv_counter why) {
  lv__hub_conn *hc = sub->hc;
  lv__hub_sub **p = &hc->subs;
  while (*p != sub) p = &(*p)->next;
  *p = sub->next;
  hc->n_subs--;
  leave(sub);
  lv__hold_free(sub, why);
  if (sub->behind) lv__hub_count_drop(sub, why, sub->behind);
  lv__opening_free(sub->opening);
  if (hc->read && hc->read->sub == sub) hc->read->sub = NULL;
  lv_gauge(lv__hub_app_row(hc), LV_G_SUBSCRIPTIONS, -1);
  sub->group->n_subs--;
  sub->group->ch->n_subs--;
  lv__filter_unref(sub->filter);
  free(sub);
}

static void fail(lv__hub_conn *hc, int err) {
  lv_log(LV_ERROR, "hub cannot read the log err=%s", lv_err_text(err));
  lv__hub_doom(hc, LV_WS_INTERNAL, "the log cannot be read");
}

/* ---- where it begins ---- */

static void pos_text(const lv__hub_loop *hl, const lv_chan *c, uint64_t lsn, uint64_t offset,
                     char dst[LV_HUB_POS_MAX + 1]) {
  lv_hub_pos pos = {lv__hub_epoch(hl, c->durability, lsn), offset};
  *lv_hub_pos_put((uint8_t *)dst, &pos) = 0;
}

static void gap_set(lv__opening *o, const lv_chan *c, const lv_seek *to, const char *reason) {
  const lv_hub_since *s = &o->since;
  o->gap = true;
  o->gap_reason = reason;
  if (s->kind == LV_HUB_SINCE_POS)
    *lv_hub_pos_put((uint8_t *)o->gap_from, &s->pos) = 0;
  else
    (void)lv_time_format(s->time, o->gap_from, sizeof o->gap_from);
  pos_text(o->sub->hc->hl, c, to->lsn, to->offset, o->gap_to);
}

/* It has its place: what the feed gives from now on, and lies behind it, is owed. */
static void begin(lv__hub_sub *sub, uint64_t lsn) {
  uint64_t seen = sub->hc->hl->seen.lsn[chan_of(sub)->durability];
  sub->from = lsn;
  sub->start = lsn > seen ? lsn : seen;
  sub->state = LV__SUB_GREET;
}

static void placed(lv__hub_sub *sub, const lv_seek *seek) {
  lv__opening *o = sub->opening;
  const lv_chan *c = chan_of(sub);
  begin(sub, seek->lsn);
  if (o->since.kind == LV_HUB_SINCE_POS) {
    uint64_t want = behind(o->since.pos.offset);
    sub->has_last = true;
    sub->last = o->since.pos.offset;
    if (!seek->same_epoch)
      gap_set(o, c, seek, "epoch");
    else if (seek->first > want)
      gap_set(o, c, seek, "retention");
    else if (want > seek->offset)
      gap_set(o, c, seek, "position");
  } else if (o->since.kind == LV_HUB_SINCE_TIME) {
    if (seek->first > 0 && seek->offset == seek->first) gap_set(o, c, seek, "retention");
  }
}

static void seek_done(lv_seek *seek) {
  lv__seek_job *job = seek->arg;
  lv__hub_sub *sub = job->sub;
  *job->pprev = job->next;
  if (job->next) job->next->pprev = job->pprev;
  if (sub) {
    sub->opening->seek = NULL;
    if (seek->err)
      fail(sub->hc, seek->err);
    else
      placed(sub, seek);
    lv__hub_pump(sub->hc);
  }
  free(job);
}

static int seek_start(lv__hub_sub *sub) {
  lv__opening *o = sub->opening;
  lv__hub_loop *hl = sub->hc->hl;
  lv_chan *c = chan_of(sub);
  lv__seek_job *job = calloc(1, sizeof *job);
  if (!job) abort();
  job->sub = sub;
  job->seek = (lv_seek){.loop = hl->loop, .chan = c, .done = seek_done, .arg = job};
  if (o->since.kind == LV_HUB_SINCE_TIME) {
    job->seek.by = LV_SEEK_TIME;
    job->seek.value = o->since.time.ns > 0 ? (uint64_t)o->since.time.ns : 0;
  } else if (o->since.kind == LV_HUB_SINCE_POS) {
    job->seek.by = LV_SEEK_POS;
    job->seek.value = behind(o->since.pos.offset);
    memcpy(job->epoch, o->epoch, sizeof job->epoch);
    job->seek.epoch = lv_slice_str(job->epoch);
  }
  int err = hl->broker->ops->seek(hl->broker, &job->seek);
  if (err) {
    free(job);
    return err;
  }
  job->next = hl->seeks;
  job->pprev = &hl->seeks;
  if (job->next) job->next->pprev = &job->next;
  hl->seeks = job;
  o->seek = job;
  return 0;
}

static void snap_here(lv__hub_sub *sub, lv__snap *snap) {
  lv__opening *o = sub->opening;
  o->snap = snap;
  if (!o->since.kind) {
    begin(sub, snap->lsn_end);
    return;
  }
  int err = seek_start(sub);
  if (err) fail(sub->hc, err);
}

static void snap_done(lv__snap_wait *wait, lv__snap *snap, int err) {
  lv__opening *o = (lv__opening *)((char *)wait - offsetof(lv__opening, wait));
  lv__hub_conn *hc = o->sub->hc;
  if (snap)
    snap_here(o->sub, snap);
  else
    fail(hc, err);
  lv__hub_pump(hc);
}

static void opening_new(lv__hub_sub *sub, const lv_hub_since *since) {
  lv__opening *o = calloc(1, sizeof *o);
  if (!o) abort();
  o->sub = sub;
  o->wait.done = snap_done;
  if (since) o->since = *since;
  if (o->since.kind == LV_HUB_SINCE_POS) {
    memcpy(o->epoch, since->pos.epoch.p, since->pos.epoch.n);
    o->since.pos.epoch = lv_slice_of(o->epoch, since->pos.epoch.n);
  }
  sub->opening = o;
}

lv__hub_sub *lv__hub_sub_new(lv__hub_conn *hc, lv_chan *chan, const lv_hub_since *since,
                             bool initial, bool send) {
  lv__hub_loop *hl = hc->hl;
  lv__hub_sub *sub = calloc(1, sizeof *sub), **p = &hc->subs;
  if (!sub) abort();
  while (*p) p = &(*p)->next;
  *p = sub;
  hc->n_subs++;
  sub->hc = hc;
  sub->initial = initial;
  sub->send = send;
  sub->slow = lv__hub_slow_of(hc, chan);
  sub->group = lv__hub_group_get(hl, lv__hub_chan_get(hl, chan), hc->v);
  sub->group->n_subs++;
  sub->group->ch->n_subs++;
  sub->start = UINT64_MAX;
  join(sub);
  sub->filter = lv__hub_filter(hc, chan);
  lv_gauge(lv__hub_app_row(hc), LV_G_SUBSCRIPTIONS, 1);
  lv__hub_wake(hl);
  opening_new(sub, since);
  uint32_t max = lv__hub_snap_max(hc->auth->app, chan);
  lv__snap *snap = lv__snap_ask(hl, sub->group, sub->filter, max, &sub->opening->wait);
  if (snap) snap_here(sub, snap);
  return sub;
}

/* ---- GREET and SEND ---- */

static void greet(lv__hub_sub *sub) {
  lv__hub_conn *hc = sub->hc;
  lv_chan *c = chan_of(sub);
  char id[LV__HUB_ID_LEN];
  for (uint32_t i = 0; i < sizeof hc->id; i++) {
    id[2 * i] = "0123456789abcdef"[hc->id[i] >> 4];
    id[2 * i + 1] = "0123456789abcdef"[hc->id[i] & 15];
  }
  lv_hub_event e = {.type = sub->initial ? LV_HUB_CLIENT_CONNECTED : LV_HUB_CLIENT_SUBSCRIBED,
                    .format = hc->v.format,
                    .content = c->content,
                    .channel = c->name,
                    .client_id = lv_slice_of(id, LV__HUB_ID_LEN),
                    .user_id = lv__hub_user_id(hc),
                    .transport = hc->ws ? LV_SLICE("websocket") : LV_SLICE("sse"),
                    .size = sub->opening->snap->n};
  lv__hub_say(hc, &e);
  sub->state = LV__SUB_SEND;
}

static void tell_gap(lv__hub_sub *sub, const char *from, const char *to, const char *reason) {
  lv_hub_event e = {.type = LV_HUB_GAP,
                    .channel = chan_of(sub)->name,
                    .from = lv_slice_str(from),
                    .to = lv_slice_str(to),
                    .reason = lv_slice_str(reason)};
  lv__hub_say(sub->hc, &e);
}

/* Frames that lie side by side leave as one. False: no room for the rest yet. */
static bool send_snap(lv__hub_sub *sub) {
  lv__opening *o = sub->opening;
  lv__hub_conn *hc = sub->hc;
  uint32_t begin = o->sent;
  uint64_t steps = 0;
  while (o->sent < o->snap->n && room(hc)) {
    lv__frame run = o->snap->f[o->sent].f;
    steps += o->snap->f[o->sent++].use_steps;
    while (o->sent < o->snap->n && run.n < LV_BLOCK_SIZE) {
      const lv__frame *f = &o->snap->f[o->sent].f;
      if (f->block != run.block || f->p != run.p + run.n) break;
      run.n += f->n;
      steps += o->snap->f[o->sent++].use_steps;
    }
    lv__hub_send_alone(hc, &run, 0, (lv_mono){0}, (lv_use){0, 0});
  }
  lv_count(lv__hub_row(hc), LV_C_HUB_REPLAYED, o->sent - begin);
  lv_count(lv__hub_row(hc), LV_C_USE_HISTORY, steps);
  return o->sent == o->snap->n;
}

/* True: it is through, the subscription may be gone. */
static bool send_step(lv__hub_sub *sub) {
  lv__opening *o = sub->opening;
  if (o->gap && sub->hc->has_since) tell_gap(sub, o->gap_from, o->gap_to, o->gap_reason);
  o->gap = false;
  if (sub->send && !o->since.kind && !send_snap(sub)) return false;
  lv__opening_free(o);
  sub->opening = NULL;
  sub->state = LV__SUB_LAG;
  if (sub->once) lv__hub_sub_free(sub, LV_C_DROP_HUB_ENDED);
  return true;
}

/* ---- LAG ---- */

/* What is still counted as behind was lost to retention, or may not be read any more. */
static void go_live(lv__hub_sub *sub) {
  lv__hub_group *g = sub->group;
  enum lv_counter why = sub->missing ? LV_C_DROP_HUB_RETENTION : LV_C_DROP_HUB_ENDED;
  if (sub->behind) lv__hub_count_drop(sub, why, sub->behind);
  sub->behind = 0;
  sub->missing = false;
  swap(g, sub->place, g->n_live++);
  sub->state = LV__SUB_LIVE;
}

/* Whether the feed gives everything that it still needs. */
static bool met(const lv__hub_sub *sub) {
  const lv__hub_chan *ch = sub->group->ch;
  const lv__hub_loop *hl = sub->hc->hl;
  if (sub->from >= hl->seen.lsn[ch->chan->durability]) return true;
  return sub->from >= ch->known_from && ch->seen_end <= sub->from;
}

typedef struct lv__run { /* frames of one kind that lie side by side */
  lv__frame f;
  uint32_t n;
  uint64_t bytes;
  lv_use use;
  bool owed;
} lv__run;

static void run_send(lv__hub_sub *sub, lv__run *r) {
  if (!r->n) return;
  if (r->owed) {
    lv__hub_count_queued(sub, r->n, r->bytes);
  } else {
    lv_count(lv__hub_row(sub->hc), LV_C_HUB_REPLAYED, r->n);
    lv_count(lv__hub_row(sub->hc), LV_C_USE_HISTORY, r->use.steps);
  }
  lv__hub_send_alone(sub->hc, &r->f, r->owed ? r->n : 0, (lv_mono){0}, r->use);
  *r = (lv__run){0};
}

/* Owed since the feed gave it, or (the rights changed meanwhile) from now on. */
static void owe(lv__hub_sub *sub) {
  if (sub->behind)
    sub->behind--;
  else
    lv__hub_count_owed(sub, 1);
}

static void lag_take(lv__hub_sub *sub, const lv_rec *rec, lv__run *r) {
  lv__hub_conn *hc = sub->hc;
  lv__hub_loop *hl = hc->hl;
  bool owed = rec->lsn >= sub->start;
  lv__frame f;
  sub->has_last = true;
  sub->last = rec->offset;
  if (!lv__filter_pass(sub->filter, rec)) return;
  if (owed) owe(sub);
  if (lv__rec_expired(hl, rec)) {
    if (owed) lv__hub_count_drop(sub, LV_C_DROP_HUB_EXPIRED, 1);
    return;
  }
  lv_hub_data d = lv__data_of(hl, chan_of(sub), rec, hc->v.pos);
  uint32_t bound = lv__frame_bound(hc->v, &d);
  if (!lv__frames_fit(&hl->frames, bound)) run_send(sub, r);
  if (!lv__frames_room(&hl->frames, bound) || lv__frame_put(hl, &hl->frames, hc->v, &d, &f)) {
    if (owed) lv__hub_count_drop(sub, LV_C_DROP_HUB_TOO_BIG, 1);
    return;
  }
  if (owed && hc->conflate_ms) {
    run_send(sub, r);
    lv__hold_give(sub, &f, rec, (lv_mono){0});
    return;
  }
  if (r->n && r->owed != owed) run_send(sub, r);
  if (!r->n) r->f = (lv__frame){f.block, f.p, 0};
  r->owed = owed;
  r->f.n += f.n;
  r->n++;
  r->bytes += lv_rec_val(rec).n;
  lv_use use = lv_use_of(rec);
  r->use.steps += use.steps;
  r->use.bytes += use.bytes;
}

/* Retention was faster than the customer. */
static void overtaken(lv__hub_sub *sub, const lv_read *rd) {
  char from[LV_HUB_POS_MAX + 1] = "start", to[LV_HUB_POS_MAX + 1];
  lv_chan *c = chan_of(sub);
  uint64_t next = rd->n ? rd->recs[0]->offset : atomic_load(&c->first_offset);
  if (sub->has_last && sub->last + 1 >= next) return; /* nothing of this channel */
  lv_log(LV_WARN, "customer lost messages to retention channel=%.*s", (int)c->name.n, c->name.p);
  if (!sub->hc->has_since) return;
  if (sub->has_last) pos_text(sub->hc->hl, c, sub->from, sub->last, from);
  pos_text(sub->hc->hl, c, rd->next, next, to);
  tell_gap(sub, from, to, "retention");
}

static void read_free(lv__lag_read *lr) {
  *lr->pprev = lr->next;
  if (lr->next) lr->next->pprev = lr->pprev;
  if (lr->hc) lr->hc->read = NULL;
  free(lr);
}

void lv__lag_orphan(lv__hub_conn *hc) {
  if (!hc->read) return;
  hc->read->hc = NULL;
  hc->read->sub = NULL;
  hc->read = NULL;
}

void lv__lag_reads_free(lv__hub_loop *hl) {
  while (hl->reads) read_free(hl->reads);
  while (hl->seeks) {
    lv__seek_job *job = hl->seeks;
    hl->seeks = job->next;
    free(job);
  }
}

static void read_done(lv_read *rd) {
  lv__lag_read *lr = rd->arg;
  lv__hub_conn *hc = lr->hc;
  lv__hub_sub *sub = lr->sub;
  int err = rd->err;
  if (sub && !hc->closing && !err) {
    lv__run run = {0};
    if (rd->missing_before) overtaken(sub, rd);
    sub->missing |= rd->missing_before != 0;
    for (uint32_t i = 0; i < rd->n; i++) lag_take(sub, rd->recs[i], &run);
    run_send(sub, &run);
    sub->from = rd->next;
  }
  lv_broker_read_free(rd);
  read_free(lr);
  if (!hc || hc->closing) return;
  if (err && sub) fail(hc, err);
  lv__hub_pump(hc);
}

static int read_start(lv__hub_sub *sub) {
  lv__hub_conn *hc = sub->hc;
  lv__hub_loop *hl = hc->hl;
  lv__lag_read *lr = calloc(1, sizeof *lr);
  if (!lr) abort();
  lr->hl = hl;
  lr->hc = hc;
  lr->sub = sub;
  lr->only = chan_of(sub);
  lr->read = (lv_read){.loop = hl->loop,
                       .log = lr->only->durability,
                       .from = sub->from,
                       .until = hl->seen.lsn[lr->only->durability],
                       .chans = &lr->only,
                       .n_chans = 1,
                       .max_count = LV__HUB_READ_COUNT,
                       .max_bytes = LV__HUB_READ_BYTES,
                       .done = read_done,
                       .arg = lr};
  int err = hl->broker->ops->read(hl->broker, &lr->read);
  if (err) {
    free(lr);
    return err;
  }
  lr->next = hl->reads;
  lr->pprev = &hl->reads;
  if (lr->next) lr->next->pprev = &lr->next;
  hl->reads = lr;
  hc->read = lr;
  return 0;
}

/* ---- the pump ---- */

/* True when all have been greeted. */
static bool greet_all(lv__hub_conn *hc) {
  for (lv__hub_sub *sub = hc->subs; sub; sub = sub->next) {
    if (sub->state == LV__SUB_WAIT) return false;
    if (sub->state == LV__SUB_GREET) greet(sub);
  }
  return true;
}

/* False: the send queue is full enough. */
static bool send_all(lv__hub_conn *hc) {
  for (lv__hub_sub *sub = hc->subs, *next; sub; sub = next) {
    next = sub->next;
    if (sub->state == LV__SUB_SEND && !send_step(sub)) return false;
  }
  return true;
}

static void catch_up(lv__hub_conn *hc) {
  for (lv__hub_sub *sub = hc->subs; sub && !hc->read && !hc->closing; sub = sub->next) {
    if (sub->state != LV__SUB_LAG) continue;
    if (met(sub)) {
      go_live(sub);
    } else if (!room(hc)) {
      hc->conn->want_drain = 1;
      return;
    } else {
      int err = read_start(sub);
      if (err) fail(hc, err);
    }
  }
}

/* Nothing is put into its send queue any more: reading for it would have no end but the log's. */
static bool deaf(const lv__hub_conn *hc) {
  return (hc->ws && hc->ws->closing) || lv_conn_closing(hc->conn);
}

void lv__hub_pump(lv__hub_conn *hc) {
  if (hc->closing || hc->pumping || deaf(hc)) return;
  hc->pumping = true;
  if (greet_all(hc)) {
    if (send_all(hc))
      catch_up(hc);
    else
      hc->conn->want_drain = 1;
  }
  hc->pumping = false;
}
