/* attach.c: a session meets a connection, and loses it: Clean Start, expiry, wills, what is sent
 * again.
 *
 *   claim ─▶ attach (stored if it must be) ─▶ ready ─▶ CONNACK ─▶ start ─▶ … ─▶ detach ─▶ timer ─▶
 * end */
#include "core/log.h"
#include "session/session_int.h"
#include "session/share.h"
#include <assert.h>
#include <stdlib.h>

enum { RESEND_MAX = 64 }; /* messages that are fetched from the log at once, to be sent again */

/* ---- waiting for the client: expiry and delayed will ---- */

static void timer_arm(lv_sess *s);

static int64_t waited_s(const lv_sess *s) {
  int64_t ns = lv_wall_now().ns - s->more->gone_at.ns;
  return ns < 0 ? 0 : ns / 1000000000;
}

static uint32_t will_delay(const lv_sess *s) {
  uint32_t d = s->more->will ? s->more->will->delay_s : 0;
  return d < s->expiry_s ? d : s->expiry_s; /* the session's end publishes it too (§3.1.3.2.2) */
}

static void timer_fired(lv_timer *t) {
  lv_sess_more *more = (lv_sess_more *)((char *)t - offsetof(lv_sess_more, timer));
  lv_sess *s = more->sess;
  if (s->conn) return;
  int64_t waited = waited_s(s);
  bool full = lv__publish_later(s->shard); /* then a little later, but not never */
  if (more->will_due && waited >= will_delay(s) && full) {
    lv_timer_arm(&s->shard->loop->wheel, t, s->shard->loop->now, LV_MS(100), timer_fired);
    return;
  }
  if (more->will_due && waited >= will_delay(s)) {
    more->will_due = false;
    lv__will_fire(s);
    if (s->persistent) lv__store_meta(s, LV_ACK_NONE);
  }
  if (s->expiry_s != UINT32_MAX && waited >= s->expiry_s) {
    lv__sess_end(s);
    lv__sess_settle(s);
    return;
  }
  timer_arm(s);
}

static void timer_arm(lv_sess *s) {
  lv_sess_more *more = lv__sess_more(s);
  int64_t due = s->expiry_s == UINT32_MAX ? INT64_MAX : s->expiry_s;
  if (more->will_due && will_delay(s) < due) due = will_delay(s);
  if (due == INT64_MAX) return;
  int64_t left = due - waited_s(s);
  if (left > 86400) left = 86400; /* looked at again once a day */
  lv_timer_arm(&s->shard->loop->wheel, &more->timer, s->shard->loop->now,
               LV_SEC(left > 0 ? left : 0), timer_fired);
}

void lv__offline_arm(lv_sess *s) {
  if (!s->conn && !s->shard->quiet && (s->present || (s->more && s->more->will_due))) timer_arm(s);
}

void lv__recovered_start(lv_sess *s) {
  lv_gauge(lv__kpi(s), LV_G_PENDING, s->pending);
  lv_count(lv__kpi(s), LV_C_HUB_OWED, s->pending);
  if (!s->auth) {
    free(s->more->will);
    s->more->will = NULL;
    s->more->will_due = false;
    lv__sess_end(s);
    lv__sess_settle(s);
    return;
  }
  for (lv_sub *sub = s->subs; sub; sub = sub->own_next)
    if (sub->shared_prefix && s->persistent) lv__share_join(s, sub);
  if (s->persistent) lv__subs_index(s); /* what it is owed from now on is counted */
  timer_arm(s);
}

/* ---- attach ---- */

static uint32_t grant_expiry(const lv_sess *s, const lv_mqtt_connect *c) {
  uint32_t max = s->auth->app->limits.session_expiry_s;
  return max && c->session_expiry_s > max ? max : c->session_expiry_s;
}

static void token_over(void *arg) {
  lv_sess *s = arg;
  assert(s->conn);
  s->shard->link->close(s->conn, LV_E_EXPIRED);
}

static void bind_conn(lv_sess *s, const lv_attach *a) {
  const lv_mqtt_connect *c = a->connect;
  const lv_limits *l = &a->auth->app->limits;
  lv_auth_unref(s->auth);
  s->auth = a->auth;
  s->conn = a->conn;
  s->outq = a->outq;
  s->version = c->version;
  s->proto = a->proto & 7u;
  lv_gauge(lv__kpi(s), LV_G_CLIENTS, 1);
  s->use_since = lv_use_connect(lv__metrics(s->shard), s->app_id, s->shard->loop->now);
  s->conn_epoch++;
  if (s->auth->until.ns)
    lv__sess_more(s)->term = lv_auth_term_new(s->shard->loop, s->auth, token_over, s);
  s->expiry_s = grant_expiry(s, c);
  s->persistent = s->expiry_s > 0;
  if (s->stored && s->durability != s->auth->app->session_durability) s->elsewhere = 1;
  s->durability = s->auth->app->session_durability;
  s->receive_max = c->receive_max;
  s->in_max = (uint16_t)(l->inflight < UINT16_MAX ? l->inflight : UINT16_MAX);
  s->max_packet = c->max_packet;
  s->request_problem = c->version >= LV_MQTT_V5 && c->request_problem;
  s->clean_exit = s->started = s->held = 0;
  uint32_t out_max = c->topic_alias_max < l->topic_aliases ? c->topic_alias_max : l->topic_aliases;
  uint32_t in_max = c->version >= LV_MQTT_V5 ? l->topic_aliases : 0;
  lv__alias_free(s);
  if (c->version >= LV_MQTT_V5) lv__alias_set(s, (uint16_t)in_max, (uint16_t)out_max);
  lv__will_set(s, &c->will);
  lv__in_attach(s);
}

static void follow_on(lv_sess *s) {
  lv_pos cursor = lv__sess_more(s)->cursor;
  lv__subs_attach(s, &cursor);
  if (s->subs || s->pending) lv__lag_enter(s, cursor, s->shard->seen);
}

void lv_sess_attach(lv_sess *s, const lv_attach *a) {
  assert(!s->conn && !s->lag);
  bool present = s->present && !a->connect->clean_start && lv__auth_same_owner(s->auth, a->auth);
  if (s->more) {
    lv_timer_cancel(&s->shard->loop->wheel, &s->more->timer);
    if (s->more->will_due && !present) lv__will_fire(s);
    s->more->will_due = false;
  }
  bool forgotten = !present && s->stored;
  uint8_t log = s->durability;
  if (!present && (s->present || s->stored)) lv__sess_clear(s);
  bool stored = s->stored, connect_has_will = a->connect->will.present;
  bind_conn(s, a);
  s->present = 1;
  if (present) follow_on(s);
  bool store = s->persistent || connect_has_will || stored;
  if (!store && !forgotten) {
    a->ready(s->conn, s, present, 0);
    return;
  }
  lv_sess_more *more = lv__sess_more(s);
  more->ready = a->ready;
  more->ready_present = present;
  if (store) {
    lv__store_meta(s, LV_ACK_CONNECT);
  } else {
    lv__store_word(s, log, LV_ACK_CONNECT); /* a crash must not bring the old session back */
  }
}

void lv__connect_stored(lv_sess *s, const lv_ack *ack, int err) {
  lv_sess_more *more = s->more;
  if (ack->gen && !err) err = LV_E_IO;
  if (!more || !more->ready || !s->conn) return;
  if (err) s->clean_exit = 1; /* never connected: no will, and no session that was not there */
  if (err && !more->ready_present) s->expiry_s = 0;
  void (*ready)(void *, lv_sess *, bool, int) = more->ready;
  more->ready = NULL;
  if (!err && s->elsewhere) lv__store_moved(s);
  ready(s->conn, s, more->ready_present, err);
}

uint16_t lv_sess_receive_max(const lv_sess *s) {
  return s->in_max;
}

lv_slice lv_sess_client_id(const lv_sess *s) {
  return lv_sess_id(s);
}

const lv_limits *lv_sess_limits(const lv_sess *s) {
  return lv__limits(s);
}

uint32_t lv_sess_expiry_s(const lv_sess *s) {
  return s->expiry_s;
}

/* ---- start: what was in flight is sent again (§4.4) ---- */

static int by_lsn(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

static void refetched(lv_fetch *f) {
  lv_sess *s = f->arg;
  lv_sess_more *more = s->more;
  bool mine = s->conn && more->fetch_epoch == s->conn_epoch;
  int err = f->err;
  if (mine && !err) lv__out_resend(s, f);
  lv_broker_fetch_free(f);
  free(more->fetch_lsns);
  more->fetch_lsns = NULL;
  more->fetching = false;
  if (mine && err) s->shard->link->close(s->conn, err); /* they stay due */
  if (mine && !err) lv__resend(s);
  lv__sess_settle(s);
}

/* The addresses of the messages that come next: of the first `room` that are to be sent again those
 * in the log of the first. */
static uint32_t resend_pick(const lv_sess *s, uint32_t room, uint64_t *lsns, uint8_t *ret_log) {
  uint32_t n = 0, seen = 0;
  for (uint32_t i = 0; i < s->win->count && seen < room; i++) {
    const lv_out *o = &s->win->e[(s->win->head + i) & s->win->mask];
    if (o->state != LV_OUT_RESEND) continue;
    if (seen++ == 0) *ret_log = o->log;
    if (o->log == *ret_log) lsns[n++] = o->lsn;
  }
  qsort(lsns, n, sizeof(uint64_t), by_lsn);
  uint32_t kept = 0; /* a retained message may be in flight twice */
  for (uint32_t i = 0; i < n; i++)
    if (kept == 0 || lsns[kept - 1] != lsns[i]) lsns[kept++] = lsns[i];
  return kept;
}

/* What was in flight is sent again before anything new, never more than the client's Receive
 * Maximum at a time (§4.9), which may be smaller than it was, and never much more than the send
 * queue is meant to hold. */
void lv__resend(lv_sess *s) {
  uint32_t n = 0;
  if (!s->conn || (s->more && s->more->fetching)) return;
  for (uint32_t i = 0; s->win && i < s->win->count; i++)
    n += s->win->e[(s->win->head + i) & s->win->mask].state == LV_OUT_RESEND;
  s->resending = n > 0;
  if (n == 0) {
    lv__out_pump(s);
    return;
  }
  uint32_t room = lv__out_resend_room(s, n);
  if (room == 0) return; /* an acknowledgement brings us back */
  if (s->outq->bytes >= lv__limits(s)->queue_bytes) {
    s->shard->link->want_drain(s->conn);
    return;
  }
  if (room > RESEND_MAX) room = RESEND_MAX;
  uint8_t log = 0;
  lv_sess_more *more = lv__sess_more(s); /* only now: most sessions have nothing to send again */
  more->fetch_lsns = malloc(room * sizeof(uint64_t));
  if (!more->fetch_lsns) abort();
  n = resend_pick(s, room, more->fetch_lsns, &log);
  more->fetch = (lv_fetch){.loop = s->shard->loop,
                           .log = log,
                           .lsns = more->fetch_lsns,
                           .n = n,
                           .done = refetched,
                           .arg = s};
  more->fetching = true;
  more->fetch_epoch = s->conn_epoch;
  if (s->shard->broker->ops->fetch(s->shard->broker, &more->fetch)) {
    more->fetching = false;
    free(more->fetch_lsns);
    more->fetch_lsns = NULL;
    s->shard->link->close(s->conn, LV_E_IO);
  }
}

void lv_sess_start(lv_sess *s) {
  s->started = 1;
  lv__out_rerel(s);
  lv__resend(s);
  if (s->lag) lv__lag_pump(s);
}

/* ---- the end of a connection ---- */

int lv_sess_disconnect(lv_sess *s, const lv_mqtt_disconnect *d) {
  if (d->has_session_expiry) {
    if (s->expiry_s == 0 && d->session_expiry_s > 0) return LV_E_PROTOCOL; /* §3.14.2.2.2 */
    uint32_t max = s->auth->app->limits.session_expiry_s;
    s->expiry_s = max && d->session_expiry_s > max ? max : d->session_expiry_s;
  }
  s->clean_exit = d->reason == 0; /* any other reason leaves the will in force (§3.14.4) */
  return 0;
}

/* What happens to the will now. True: it is still to come. */
static bool will_waits(lv_sess *s, int err, bool accepted) {
  if (s->clean_exit || !accepted) lv__will_set(s, NULL);
  if (!s->more->will) return false;
  if (err == LV_E_SHUTDOWN || s->shard->quiet) return true; /* after the restart */
  if (will_delay(s) > 0 || lv__publish_later(s->shard)) return true;
  lv__will_fire(s);
  return false;
}

void lv_sess_detach(lv_sess *s, int err) {
  lv_sess_more *more = lv__sess_more(s);
  lv_shard *shard = s->shard;
  assert(s->conn);
  lv_pos pos = lv__sess_position(s);
  bool accepted = s->started; /* CONNACK left: before that a will is nobody's (§3.1.2.5) */
  lv__pend_discard(s, true);
  lv_mono stamp;
  uint32_t gone = lv_outq_gone(s->outq, lv_mqtt_count_publishes, &stamp);
  if (gone && !(stamp.ns & LV_STAMP_PART)) lv_sess_sent(s, gone, stamp, (lv_use){gone, 0});
  uint32_t q0 = s->q0_queued + (s->lag ? s->lag->q0 : 0);
  lv__kpi_drop(shard, lv__kpi(s), s->app_id, 0, LV_C_DROP_HUB_DISCONNECTED, q0);
  lv_gauge(lv__kpi(s), LV_G_CLIENTS, -1);
  lv_use_disconnect(lv__metrics(shard), s->app_id, s->use_since, shard->loop->now);
  lv__settle_pending(s, q0);
  s->q0_queued = 0;
  if (s->lag) s->lag->q0 = 0;
  s->conn = NULL;
  s->outq = NULL;
  s->started = s->resending = 0;
  s->more->cursor = pos;
  if (s->expiry_s == 0) s->persistent = 0;
  if (s->persistent) {
    lv__give_pause(s);
  } else {
    lv__give_stop(s);
  }
  more->ready = NULL;
  lv_auth_term_free(more->term);
  more->term = NULL;
  lv__in_detach(s);
  lv__subs_detach(s);
  lv__lag_stop(s);
  lv__out_detach(s);
  lv__alias_free(s);
  more->gone_at = lv_wall_now();
  more->will_due = will_waits(s, err, accepted);
  if (s->persistent || more->will_due) {
    if (!shard->quiet) {
      lv__store_meta(s, LV_ACK_NONE);
      lv__bill_detach(s);
      if (err != LV_E_SHUTDOWN) timer_arm(s); /* else the next process does */
    }
  } else {
    lv__sess_end(s);
  }
  lv__sess_settle(s);
}
