/* shard.c: one loop's side of the sessions: its place on the broker's feed, and fan-out.
 *
 * Each visible batch is matched record by record against this shard's subscriptions. A record that
 * goes to many subscribers at QoS 0 is encoded once per (protocol version, RETAIN) into a block of
 * frames; their queues refer to it, and frames that lie side by side merge into one entry per
 * subscriber. */
#include "core/log.h"
#include "session/session_int.h"
#include "session/share.h"
#include <assert.h>
#include <stdlib.h>

enum { FRAME_TARGETS_MIN = 4 }; /* with fewer subscribers copying is cheaper than sharing */

lv_subindex *lv__shard_index(lv_shard *s, uint32_t app_id) {
  if (app_id >= s->n_index) {
    s->index = realloc(s->index, (app_id + 1) * sizeof(*s->index));
    if (!s->index) abort();
    memset(s->index + s->n_index, 0, (app_id + 1 - s->n_index) * sizeof(*s->index));
    s->n_index = app_id + 1;
  }
  if (!s->index[app_id]) s->index[app_id] = lv_subindex_new();
  return s->index[app_id];
}

/* ---- frames ---- */

typedef struct lv_frame {
  const uint8_t *p;
  uint32_t n;
} lv_frame;

/* The frame of rec for version and retain, encoded into the shard's block of frames. */
static bool frame_make(lv_shard *s, const lv_rec *rec, bool v5, bool retain, lv_frame *ret) {
  lv_mqtt_publish_out o = {.version = v5 ? LV_MQTT_V5 : LV_MQTT_V3,
                           .retain = retain,
                           .topic = lv_rec_topic(rec),
                           .props = v5 ? lv_rec_props(rec) : (lv_slice){NULL, 0},
                           .payload = lv_rec_val(rec)};
  uint32_t size, remaining;
  if (lv_mqtt_publish_size(&o, false, &size, &remaining)) return false;
  if (size > LV_BLOCK_SIZE / 4) return false;
  if (!s->frames || s->frames->used + size > s->frames->cap) {
    lv_block_unref(s->frames);
    s->frames = lv_block_new(LV_BLOCK_SIZE);
  }
  uint8_t *p = s->frames->data + s->frames->used;
  uint8_t *end = lv_mqtt_publish_encode(&o, false, remaining, p);
  assert(end == p + size);
  s->frames->used += size;
  *ret = (lv_frame){p, size};
  return true;
}

/* Whether the target may simply get a shared frame. */
static bool frame_fits(const lv_sess *sess, const lv_target *t, const lv_frame *f) {
  if (lv__giving(sess)) return false;
  return !t->ids && !(sess->alias && sess->alias->out_max) && !sess->pend && sess->started &&
         (!sess->max_packet || f->n <= sess->max_packet) && lv__out_room(sess, 0);
}

static void frame_send(lv_sess *sess, lv_block *block, const lv_frame *f, lv_mono read_at,
                       lv_use use) {
  lv_mono stamp = {read_at.ns & ~(int64_t)LV_STAMP_BITS};
  lv_outq_ref(sess->outq, block, f->p, f->n, 1, stamp);
  lv_outq_use(sess->outq, use);
  sess->q0_queued++;
  sess->shard->link->dirty(sess->conn);
}

/* ---- the feed ---- */

/* Which of a target's subscriptions take this record: the rest (made later than it, own messages
 * under No Local, no right to read) fall away. */
static bool narrow(const lv_target *t, const lv_rec *rec, uint8_t log, const lv_sess *sess,
                   uint8_t *qos, uint8_t *flags) {
  *qos = 0;
  *flags = 0;
  bool any = false;
  for (uint32_t i = 0; i < t->n; i++) {
    const lv_sub *sub = t->subs[i];
    if (rec->lsn < sub->from.lsn[log]) continue;
    if ((sub->flags & LV_SUB_NO_LOCAL) && lv_slice_eq(lv_rec_pid(rec), lv_sess_id(sess))) continue;
    if ((sub->flags & LV_SUB_CHECK) && !lv_auth_may_read(sess->auth, lv_rec_topic(rec))) continue;
    any = true;
    if (sub->qos > *qos) *qos = sub->qos;
    *flags |= sub->flags;
  }
  return any;
}

static uint8_t min_u8(uint8_t a, uint8_t b) {
  return a < b ? a : b;
}

typedef struct lv_fan {
  lv_batch *batch;
  const lv_rec *rec;
  lv_frame frame[4];                         /* by version (5.0: +1) and retain (+2) */
  uint8_t made;                              /* bits of those */
  uint32_t slot;                             /* of the channel's KPIs */
  lv_use use;                                /* of a delivery; when frames are shared */
  uint32_t owed, framed[LV_KPI_PROTO_COUNT]; /* counted once all targets are through */
  bool share;                                /* enough subscribers to share frames */
} lv_fan;

/* Whether a session that is away or lags is owed the record. */
static bool owed_later(lv_sess *sess, const lv_fan *f, uint8_t qos) {
  if (f->rec->lsn < sess->more->counted_upto.lsn[f->batch->log]) return false;
  if (qos == 0 && !sess->conn) return false; /* nothing is kept at QoS 0 */
  if (qos == 0) sess->lag->q0++;
  return true;
}

static void fan_one(lv_shard *s, lv_fan *f, const lv_target *t) {
  lv_sess *sess = t->target;
  uint8_t qos, flags;
  if (!narrow(t, f->rec, f->batch->log, sess, &qos, &flags)) return;
  qos = min_u8(qos, lv_rec_qos(f->rec));
  bool retain = (flags & LV_SUB_AS_PUBLISHED) && (f->rec->flags & LV_REC_RETAIN);
  bool later = sess->lag || !sess->conn; /* its cursor comes here in its own time */
  if (later && !owed_later(sess, f, qos)) return;
  f->owed++;
  sess->pending++;
  if (later) return;
  if (qos == 0 && f->share) {
    uint32_t i = (sess->version >= LV_MQTT_V5 ? 1u : 0u) + (retain ? 2u : 0u);
    if (!(f->made & (1u << i)) && frame_make(s, f->rec, i & 1, retain, &f->frame[i]))
      f->made |= (uint8_t)(1u << i);
    if ((f->made & (1u << i)) && frame_fits(sess, t, &f->frame[i])) {
      frame_send(sess, s->frames, &f->frame[i], f->batch->read_at, f->use);
      f->framed[sess->proto]++;
      return;
    }
  }
  lv__deliver(sess, &(lv_delivery){.batch = f->batch,
                                   .rec = f->rec,
                                   .read_at = f->batch->read_at,
                                   .qos = qos,
                                   .log = f->batch->log,
                                   .slot = f->slot,
                                   .flags = retain ? LV_DELIVER_RETAIN : 0});
}

static void fan_count(lv_shard *s, const lv_fan *f, const lv_chan *chan) {
  lv_metrics *app = lv__kpi_app(s, chan->app_id);
  lv_count(app, LV_C_HUB_OWED, f->owed);
  lv_gauge(app, LV_G_PENDING, f->owed);
  if (!f->share) return;
  for (uint32_t p = 0; p < LV_KPI_PROTO_COUNT; p++) {
    if (!f->framed[p]) continue;
    lv_metrics *base = lv__metrics(s), *row = lv_metrics_row(base, chan->app_id, p);
    lv__kpi_sent(row, lv_metrics_chan_row(base, f->slot), f->framed[p], lv_rec_val(f->rec).n);
    lv__kpi_end_to_end(s, row, f->rec, f->framed[p]);
  }
}

static void fan_out(lv_shard *s, lv_batch *batch, const lv_rec *rec, lv_chan *chan) {
  lv_subindex *x = s->index[chan->app_id];
  const lv_match *m = lv_subindex_match(x, lv_rec_topic(rec));
  if (m->n == 0) return;
  uint32_t ttl;
  lv_fan f = {.batch = batch, .rec = rec, .slot = lv_chan_kpi(chan)};
  f.share = m->n >= FRAME_TARGETS_MIN && !lv_rec_expiry(rec, &ttl);
  /* All variants of one record must lie in one block, which queues then refer to. */
  if (f.share && s->frames && s->frames->used + 4 * (rec->size + 64) > s->frames->cap) {
    lv_block_unref(s->frames);
    s->frames = NULL;
  }
  f.share = f.share && rec->size < LV_BLOCK_SIZE / 8;
  if (f.share) f.use = lv_use_of(rec);
  for (uint32_t i = 0; i < m->n; i++) {
    if (m->targets[i].flags & LV_SUB_SHARED) {
      lv__share_deliver(m->targets[i].target, batch, rec);
    } else {
      fan_one(s, &f, &m->targets[i]);
    }
  }
  if (f.owed) fan_count(s, &f, chan);
}

static void feed(lv_loop *loop, lv_batch *batch, void *arg) {
  lv_shard *s = arg;
  (void)loop;
  s->feeding = true;
  for (const lv_rec *rec = lv_batch_first(batch); rec; rec = lv_batch_next(batch, rec)) {
    if (rec->kind != LV_REC_MSG) continue;
    lv_chan *chan = s->broker->ops->chan(s->broker, rec->chan);
    if (!chan || chan->app_id >= s->n_index || !s->index[chan->app_id]) continue;
    fan_out(s, batch, rec, chan);
  }
  s->seen.lsn[batch->log] = batch->lsn_end;
  s->feeding = false;
}

/* ---- life ---- */

/* Gauges of each app: the most that one session is owed, and how many read the log. */
static void count_lag(lv_shard *s) {
  lv_metrics *m = lv__metrics(s);
  uint32_t n = m->n_rows / LV_KPI_PROTO_COUNT;
  struct lag_of_app {
    int64_t max, lagging;
  } *app = calloc(n + 1, sizeof *app);
  if (!app) abort();
  for (const lv_sess *sess = s->sessions; sess; sess = sess->next) {
    struct lag_of_app *a = &app[sess->app_id + 1 < n ? sess->app_id + 1 : n];
    if (sess->pending > a->max) a->max = sess->pending;
    a->lagging += sess->lag != NULL;
  }
  for (uint32_t i = 1; i < n; i++) {
    lv_metrics *row = m->rows[i * LV_KPI_PROTO_COUNT + LV_KPI_NONE];
    if (!row) continue;
    lv_gauge_set(row, LV_G_LAG_MAX, app[i].max);
    lv_gauge_set(row, LV_G_LAGGING, app[i].lagging);
  }
  free(app);
}

static void lazy_tick(lv_timer *t) {
  lv_shard *s = (lv_shard *)((char *)t - offsetof(lv_shard, lazy));
  lv_timer_arm(&s->loop->wheel, t, s->loop->now, LV_SEC(1), lazy_tick);
  for (lv_sess *sess = s->sessions; sess; sess = sess->next) {
    if (sess->save == 1) lv__save(sess, 2);
    if (sess->lag) lv__lag_pump(sess);
  }
  count_lag(s);
  lv_use_tick(lv__metrics(s), s->loop->now);
  lv__share_tick(s);
  lv__sys_tick(s);
}

/* Stores the progress of sessions that asked for it in this turn. */
static void save_hook(lv_loop *loop, void *arg) {
  lv_shard *s = arg;
  (void)loop;
  while (s->saving) {
    lv_sess *sess = s->saving;
    s->saving = sess->more->save_next;
    sess->more->save_next = NULL;
    sess->in_saving = 0;
    sess->save = 0;
    if (sess->persistent && !sess->ended) lv__store_progress(sess);
    lv__sess_settle(sess);
  }
}

/* Sessions read back from the log are dealt out among the shards, once all of these are there: a
 * session's shared subscriptions may live with another. */
static void take_recovered(lv_loop *loop, void *arg) {
  lv_realm *r = arg;
  lv_shard *s = r->shards[loop->index];
  pthread_mutex_lock(&r->lock);
  lv_sess **p = &r->recovered, *mine = NULL;
  while (*p) {
    lv_sess *sess = *p;
    if (sess->shard != s) {
      p = &sess->more->save_next;
      continue;
    }
    *p = sess->more->save_next;
    sess->more->save_next = mine;
    mine = sess;
  }
  pthread_mutex_unlock(&r->lock);
  while (mine) {
    lv_sess *sess = mine;
    mine = sess->more->save_next;
    sess->more->save_next = NULL;
    lv__recovered_start(sess);
  }
}

/* Registers the shard. The last one sets the recovered sessions off. */
static void shard_enter(lv_realm *r, lv_shard *s) {
  pthread_mutex_lock(&r->lock);
  r->shards[s->loop->index] = s;
  for (lv_sess *x = r->recovered; x; x = x->more->save_next) {
    if ((int)(x->more->sid % (uint64_t)r->n_shards) != s->loop->index) continue;
    x->shard = s;
    lv__sess_link(s, x);
  }
  bool all = ++r->n_entered == r->n_shards && r->recovered;
  pthread_mutex_unlock(&r->lock);
  for (int i = 0; all && i < r->n_shards; i++) lv_loop_call(r->shards[i]->loop, take_recovered, r);
}

int lv_shard_new(lv_realm *r, lv_loop *loop, lv_shard **ret_shard) {
  lv_shard *s = calloc(1, sizeof *s);
  if (!s) return LV_E_NOMEM;
  s->magic = LV_SHARD_MAGIC;
  s->realm = r;
  s->loop = loop;
  s->broker = r->broker;
  s->link = r->link;
  s->conf = lv_conf_ref(r->conf);
  s->routes = calloc(LV_ROUTES, sizeof(*s->routes));
  if (!s->routes) abort();
  int err = lv_pub_new(loop, s->broker, s->conf->publish_queue_bytes, lv__pub_acked, s, &s->pub);
  if (!err) lv_pub_on_done(s->pub, lv__pub_done, s);
  s->feed = (lv_feed){.fn = feed, .arg = s};
  if (!err) err = s->broker->ops->attach(s->broker, loop, &s->feed, &s->seen);
  if (err) {
    lv_shard_free(s);
    return err;
  }
  s->hook = (lv_hook){.run = save_hook, .arg = s};
  lv_loop_hook(loop, LV_PHASE_DELIVER, &s->hook);
  lv_timer_arm(&loop->wheel, &s->lazy, loop->now, LV_SEC(1), lazy_tick);
  shard_enter(r, s);
  *ret_shard = s;
  return 0;
}

void lv_shard_quiesce(lv_shard *s) {
  for (lv_sess *sess = s->sessions; sess; sess = sess->next) {
    if (!sess->persistent || sess->ended || !sess->stored) continue;
    lv__store_progress(sess);
  }
  lv__share_save_all(s);
  s->quiet = true;
  lv_timer_cancel(&s->loop->wheel, &s->lazy);
  lv_pub_submit(s->pub);
}

/* What the broker was asked for and had posted to a loop that had stopped comes no more. */
static void answers_drop(lv_sess *s) {
  if (s->lag && s->lag->reading) {
    lv_broker_read_free(&s->lag->read);
    s->lag->reading = false;
  }
  if (s->more && s->more->fetching) {
    lv_broker_fetch_free(&s->more->fetch);
    free(s->more->fetch_lsns);
    s->more->fetch_lsns = NULL;
    s->more->fetching = false;
  }
}

void lv_shard_free(lv_shard *s) {
  if (!s) return;
  s->quiet = true;
  while (s->sessions) {
    lv_sess *sess = s->sessions;
    if (sess->more) lv_timer_cancel(&s->loop->wheel, &sess->more->timer);
    lv__sess_unlink(sess);
    answers_drop(sess);
    lv__sess_destroy(sess);
  }
  lv__share_free_all(s);
  lv_timer_cancel(&s->loop->wheel, &s->lazy);
  for (uint32_t i = 0; i < s->n_index; i++) lv_subindex_free(s->index[i]);
  free(s->index);
  for (uint32_t i = 0; i < LV_ROUTES; i++) free(s->routes[i]);
  free(s->routes);
  lv_block_unref(s->frames);
  lv_pub_free(s->pub);
  lv_conf_unref(s->conf);
  free(s);
}

lv_pub *lv_shard_pub(lv_shard *s) {
  return s->pub;
}
lv_broker *lv_shard_broker(lv_shard *s) {
  return s->broker;
}
void lv_shard_watch_add(lv_shard *s, lv_shard_watch *w) {
  w->next = s->watches;
  s->watches = w;
}
lv_conf *lv_shard_conf(lv_shard *s) {
  return s->conf;
}
