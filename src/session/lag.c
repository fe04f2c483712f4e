/* lag.c: a session that reads the log instead of following the feed: after it was offline, or was
 * too slow for its queue. It has a cursor in each log; everything before it has been handled. Reads
 * are sized by the free window, one at a time; when both cursors reach the feed's place, the
 * session is live again. Nothing is held in memory for a session that lags. */
#include "core/log.h"
#include "session/session_int.h"
#include <assert.h>
#include <stdlib.h>

enum { READ_COUNT_MAX = 256, READ_BYTES_MAX = 256 * 1024, CHANS_MAX = 1024 };

static int by_id(const void *a, const void *b) {
  const lv_chan *x = *(lv_chan *const *)a, *y = *(lv_chan *const *)b;
  return x->id < y->id ? -1 : x->id > y->id;
}

/* The channel that a filter is confined to, if any: false when it may reach several. */
static bool one_channel(lv_slice filter, lv_slice *ret_name) {
  lv_slice level, rest = filter;
  (void)lv_slice_split(&rest, '/', &level);
  if (level.n == 1 && (level.p[0] == '+' || level.p[0] == '#')) return false;
  uint16_t key_off;
  lv_topic_split(level.n ? level : LV_SLICE("/"), ret_name, &key_off);
  return true;
}

/* Which channels to read. Channels come and go, so this is asked anew for each read. */
static void choose_channels(lv_sess *s) {
  lv_lag *lag = s->lag;
  lag->n_chans = 0;
  lag->all = s->n_subs > CHANS_MAX;
  if (!lag->all && s->n_subs > lag->cap_chans) {
    lag->cap_chans = s->n_subs + 8;
    lag->chans = realloc(lag->chans, lag->cap_chans * sizeof(lv_chan *));
    if (!lag->chans) abort();
  }
  for (lv_sub *sub = s->subs; sub && !lag->all; sub = sub->own_next) {
    if (sub->shared_prefix) continue;
    lv_slice name;
    if (!one_channel(lv_sub_filter(sub), &name)) {
      lag->all = true;
      break;
    }
    lv_chan *c = s->shard->broker->ops->find(s->shard->broker, s->auth->app->name, name);
    bool dup = c == NULL;
    for (uint32_t i = 0; i < lag->n_chans; i++) dup |= lag->chans[i] == c;
    if (!dup) lag->chans[lag->n_chans++] = c;
  }
  if (!lag->all && lag->n_chans > 1) qsort(lag->chans, lag->n_chans, sizeof(lv_chan *), by_id);
}

bool lv__sess_match(const lv_sess *s, const lv_rec *rec, uint8_t log, bool live, lv_sess_match *m) {
  *m = (lv_sess_match){0};
  lv_slice topic = lv_rec_topic(rec);
  bool any = false;
  for (const lv_sub *sub = s->subs; sub; sub = sub->own_next) {
    if (sub->shared_prefix || !lv_mqtt_match(lv_sub_filter(sub), topic)) continue;
    if (rec->lsn < sub->from.lsn[log] && !live) continue;
    if ((sub->flags & LV_SUB_NO_LOCAL) && lv_slice_eq(lv_rec_pid(rec), lv_sess_id(s))) continue;
    if ((sub->flags & LV_SUB_CHECK) && !lv_auth_may_read(s->auth, topic)) continue;
    any = true;
    if (sub->qos > m->qos) m->qos = sub->qos;
    m->flags |= sub->flags;
    if (sub->sub_id && m->n_ids < LV_SUB_IDS_MAX) m->ids[m->n_ids++] = sub->sub_id;
  }
  return any;
}

/* One record of the log: delivered if it is ours. False: no room, come back to it. */
static bool take(lv_sess *s, const lv_rec *rec, uint8_t log) {
  lv_sess_match m;
  if (rec->kind != LV_REC_MSG) return true;
  lv_chan *chan = s->shard->broker->ops->chan(s->shard->broker, rec->chan);
  if (!chan || chan->app_id != s->app_id) return true;
  if (!lv__sess_match(s, rec, log, false, &m)) return true;
  uint8_t qos = m.qos < lv_rec_qos(rec) ? m.qos : lv_rec_qos(rec);
  lv_sess_more *more = lv__sess_more(s);
  if (qos == 0 && rec->lsn < more->q0_from.lsn[log]) return true;
  /* rec does not outlive the call */
  if (s->pend || lv__giving(s) || !lv__out_room(s, qos)) return false;
  if (qos == 0 && s->lag->q0) s->lag->q0--;
  bool retain = (m.flags & LV_SUB_AS_PUBLISHED) && (rec->flags & LV_REC_RETAIN);
  lv_block *copy = NULL;
  if (qos == 2 && s->persistent) { /* kept until its packet id is stored */
    copy = lv_block_new(rec->size);
    if (!copy) abort();
    memcpy(copy->data, rec, rec->size);
    copy->used = rec->size;
    rec = (const lv_rec *)copy->data;
  }
  lv__deliver(
      s, &(lv_delivery){.block = copy,
                        .rec = rec,
                        .qos = qos,
                        .log = log,
                        .slot = lv_chan_kpi(chan),
                        .flags = (uint8_t)(LV_DELIVER_REPLAY | (retain ? LV_DELIVER_RETAIN : 0))});
  lv_block_unref(copy);
  return true;
}

/* All caught up. What is still counted as owed but neither in flight nor queued was lost to
 * retention, or its subscription has ended. */
static void go_live(lv_sess *s) {
  lv_lag *lag = s->lag;
  enum lv_counter why = lag->missing ? LV_C_DROP_HUB_RETENTION : LV_C_DROP_HUB_ENDED;
  s->lag = NULL;
  free(lag->chans);
  free(lag);
  uint32_t held = s->q0_queued;
  for (uint32_t i = 0; s->win && i < s->win->count; i++) {
    const lv_out *o = &s->win->e[(s->win->head + i) & s->win->mask];
    held += !o->member && !(o->flags & LV_DELIVER_STORED) &&
            (o->state == LV_OUT_SENT || o->state == LV_OUT_STORE || o->state == LV_OUT_RESEND);
  }
  if (s->pending > held) {
    uint32_t lost = s->pending - held;
    lv__kpi_drop(s->shard, lv__kpi(s), s->app_id, 0, why, lost);
    lv_gauge(lv__kpi(s), LV_G_PENDING, -(int64_t)lost);
    s->pending = held;
  }
}

static void read_done(lv_read *rd) {
  lv_sess *s = rd->arg;
  lv_lag *lag = s->lag;
  assert(lag && lag->reading);
  lag->reading = false;
  if (lag->orphan || !s->conn) {
    lv_broker_read_free(rd);
    if (lag->orphan) {
      s->lag = NULL;
      free(lag->chans);
      free(lag);
    }
    lv__sess_settle(s);
    return;
  }
  uint64_t next = rd->err ? s->more->cursor.lsn[rd->log] : rd->next;
  if (rd->err)
    lv_log(LV_ERROR, "session cannot read the log client=%.*s err=%s", (int)s->id_len, s->id,
           lv_err_text(rd->err));
  lag->missing |= rd->missing_before != 0;
  if (rd->missing_before)
    lv_log(LV_WARN, "session lost messages to retention client=%.*s before_lsn=%llu",
           (int)s->id_len, s->id, (unsigned long long)rd->missing_before);
  for (uint32_t i = 0; i < rd->n; i++) {
    if (take(s, rd->recs[i], rd->log)) continue;
    next = rd->recs[i]->lsn;
    break;
  }
  int err = rd->err;
  s->more->cursor.lsn[rd->log] = next;
  lv_broker_read_free(rd);
  if (s->persistent) lv__save(s, 1);
  if (!err) lv__lag_pump(s); /* after an error the lazy timer tries again */
}

static bool behind(const lv_sess *s, uint8_t log) {
  return s->more->cursor.lsn[log] < s->shard->seen.lsn[log];
}

void lv__lag_pump(lv_sess *s) {
  lv_lag *lag = s->lag;
  if (!s->conn || !s->started || lag->reading || s->pend || s->resending ||
      (s->more && (s->more->fetching || s->more->gives)))
    return;
  uint8_t log = LV_DURABILITY_COUNT;
  for (uint8_t i = 0; i < LV_DURABILITY_COUNT; i++)
    if (behind(s, i)) log = i;
  if (log == LV_DURABILITY_COUNT) {
    go_live(s);
    return;
  }
  uint32_t slots = lv__out_slots(s);
  if (slots == 0) return; /* an acknowledgement will bring us back */
  if (!lv__out_room(s, 1)) {
    s->shard->link->want_drain(s->conn);
    return;
  }
  choose_channels(s);
  if (!lag->all && lag->n_chans == 0) { /* nothing that it asks for exists yet */
    s->more->cursor = s->shard->seen;
    go_live(s);
    return;
  }
  lag->read = (lv_read){.loop = s->shard->loop,
                        .log = log,
                        .from = s->more->cursor.lsn[log],
                        .until = s->shard->seen.lsn[log],
                        .chans = lag->all ? NULL : lag->chans,
                        .n_chans = lag->n_chans,
                        .max_count = slots < READ_COUNT_MAX ? slots : READ_COUNT_MAX,
                        .max_bytes = READ_BYTES_MAX,
                        .done = read_done,
                        .arg = s};
  lag->reading = true;
  int err = s->shard->broker->ops->read(s->shard->broker, &lag->read);
  if (err) lag->reading = false; /* the lazy timer tries again */
}

void lv__lag_enter(lv_sess *s, lv_pos from, lv_pos q0_from) {
  if (!s->lag) {
    s->lag = calloc(1, sizeof *s->lag);
    if (!s->lag) abort();
  }
  lv_sess_more *more = lv__sess_more(s);
  more->cursor = from;
  more->q0_from = q0_from;
}

/* A new filter needs another set of channels; an old set may be in use by a read. */
void lv__lag_stop(lv_sess *s) {
  lv_lag *lag = s->lag;
  if (!lag) return;
  if (lag->reading) {
    lag->orphan = true;
    return;
  }
  s->lag = NULL;
  free(lag->chans);
  free(lag);
}
