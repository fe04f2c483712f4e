/* give.c: retained messages after SUBSCRIBE (§3.3.1.3).
 *
 *   subs   [ filter, filter, … ]        whose turn has not come
 *   walk   through the retained store, for the filter whose turn it is
 *   e      [ message, message, … ]      what the walk has found and is left to be sent
 *
 * One filter is looked up at a time, STEP topics at a time, and messages are sent as the send queue
 * and the window have room: a filter may match a hundred thousand. While some are left, nothing
 * else is sent to the client (out.c lets it wait; but for $SYS), so what is published meanwhile
 * comes behind them. Work stops after BUDGET and goes on a millisecond later: others are served in
 * between.
 *
 * What a session that outlives its connection is still to get at QoS 1 and 2 is pending (§4.1): it
 * goes on at the next connection. Meanwhile nothing of the store is held: the step that was under
 * way will be done again, but for the addresses that were given. For a restart each subscription
 * has a number (`due_seq`, in the session's record), and progress says up to which all is given:
 * a filter that was under way begins anew.
 *
 * Limits: subs has each subscription of the session once; e has at most STEP. @thread loop */
#include "session/session_int.h"
#include <assert.h>
#include <stdlib.h>

enum { BUDGET_NS = 2000000, LOOK_AT_CLOCK = 64, STEP = 1024 };

typedef struct lv_give_sub {
  lv_sub *sub; /* NULL: it has ended */
  lv_pos from; /* the feed brings what comes from here on */
} lv_give_sub;

typedef struct lv_gives {
  lv_timer timer;
  lv_sess *sess;
  lv_give_sub *subs, now;
  lv_retained_walk walk; /* for `now` */
  lv_retained_walk back; /* where the step that found e began */
  uint64_t *given;       /* of that step, to an earlier connection: lsn | log */
  uint32_t n_given;
  uint32_t n_subs, sub_at, cap_subs;
  uint32_t n, at, cap;
  struct {
    lv_block *block;
    const lv_rec *rec;
    uint64_t lsn; /* | log */
  } * e;
} lv_gives;

/* Those that have had their turn or have ended go first: a client may subscribe to the same filter
 * again and again. */
static void make_room(lv_gives *g) {
  uint32_t n = 0;
  for (uint32_t i = g->sub_at; i < g->n_subs; i++)
    if (g->subs[i].sub) {
      g->subs[i].sub->due_at = n;
      g->subs[n++] = g->subs[i];
    }
  g->n_subs = n;
  g->sub_at = 0;
  if (n < g->cap_subs / 2) return;
  g->cap_subs = n * 2 + 4;
  g->subs = realloc(g->subs, g->cap_subs * sizeof *g->subs);
  if (!g->subs) abort();
}

void lv__give_add(lv_sess *s, lv_sub *sub, lv_pos from) {
  lv_sess_more *more = lv__sess_more(s);
  lv_gives *g = more->gives;
  if (!g) {
    g = more->gives = calloc(1, sizeof *g);
    if (!g) abort();
    g->sess = s;
  }
  if (g->n_subs == g->cap_subs) make_room(g);
  sub->due = g;
  sub->due_at = g->n_subs;
  g->subs[g->n_subs++] = (lv_give_sub){sub, from};
}

static void collect(void *arg, lv_block *block, const lv_rec *rec, uint8_t log) {
  lv_gives *g = arg;
  const lv_auth *auth = g->sess->auth;
  uint8_t flags = g->now.sub->flags;
  if (rec->lsn >= g->now.from.lsn[log]) return; /* the feed brings it */
  if ((flags & LV_SUB_NO_LOCAL) && lv_slice_eq(lv_rec_pid(rec), lv_sess_id(g->sess))) return;
  for (uint32_t i = 0; i < g->n_given; i++)
    if (g->given[i] == (rec->lsn | log)) return;
  if ((flags & LV_SUB_CHECK) && !lv_auth_may_read(auth, lv_rec_topic(rec))) return;
  if (g->n == g->cap) {
    g->cap = g->cap ? g->cap * 2 : 16;
    g->e = realloc(g->e, g->cap * sizeof *g->e);
    if (!g->e) abort();
  }
  g->e[g->n].block = lv_block_ref(block);
  g->e[g->n].rec = rec;
  g->e[g->n++].lsn = rec->lsn | log;
}

static void step_done(lv_gives *g) {
  g->n = g->at = g->n_given = 0;
  free(g->given);
  g->given = NULL;
  lv_retained_walk_stop(&g->back);
}

static void drop_list(lv_gives *g) {
  for (; g->at < g->n; g->at++) lv_block_unref(g->e[g->at].block);
  free(g->e);
  g->e = NULL;
  g->cap = 0;
  step_done(g);
  lv_retained_walk_stop(&g->walk);
  if (g->now.sub) g->now.sub->due = NULL;
  g->now.sub = NULL;
}

/* Looks up the next filter; false: there is none. */
static bool next_filter(lv_gives *g) {
  lv_sess *s = g->sess;
  if (g->now.sub && g->now.sub->due_seq > s->more->due_done) {
    s->more->due_done = g->now.sub->due_seq;
    if (s->persistent) lv__save(s, 1);
  }
  drop_list(g);
  while (g->sub_at < g->n_subs && !g->now.sub) g->now = g->subs[g->sub_at++];
  if (!g->now.sub) return false;
  lv_retained_walk_start(&g->walk, s->shard->realm->retained, s->app_id, lv_sub_filter(g->now.sub));
  return true;
}

/* What the filter matches next is looked up; false: there are no more filters. */
static bool look_on(lv_gives *g) {
  if (g->back.at) step_done(g);
  if (!g->walk.at) return next_filter(g);
  lv_retained_walk_copy(&g->back, &g->walk);
  (void)lv_retained_walk_step(&g->walk, STEP, collect, g);
  return true;
}

/* False: no room; a drained send queue or an acknowledgement brings us back. */
static bool give_one(lv_gives *g) {
  lv_sess *s = g->sess;
  const lv_rec *rec = g->e[g->at].rec;
  uint8_t qos = g->now.sub->qos < lv_rec_qos(rec) ? g->now.sub->qos : lv_rec_qos(rec);
  if (!lv__out_room(s, qos)) {
    if (s->outq->bytes) s->shard->link->want_drain(s->conn);
    return false;
  }
  lv_block *block = g->e[g->at].block;
  lv__out_send(s, &(lv_delivery){.block = block,
                                 .rec = rec,
                                 .qos = qos,
                                 .log = g->e[g->at].lsn & 7,
                                 .flags = LV_DELIVER_RETAIN | LV_DELIVER_STORED});
  g->at++;
  lv_block_unref(block);
  return true;
}

static void go_on(lv_timer *t) {
  lv_gives *g = (lv_gives *)t; /* its first member */
  lv__out_pump(g->sess);
}

bool lv__give_pump(lv_sess *s) {
  if (!lv__giving(s)) return true;
  lv_gives *g = s->more->gives;
  if (!s->conn || !s->started) return false;
  int64_t end = lv_mono_now().ns + BUDGET_NS;
  for (uint32_t n = 1;; n++) {
    if (g->at == g->n) {
      if (!look_on(g)) break;
      n = LOOK_AT_CLOCK; /* that may have taken long */
    } else if (!give_one(g)) {
      return false;
    }
    if (n % LOOK_AT_CLOCK || lv_mono_now().ns < end) continue;
    lv_timer_arm(&s->shard->loop->wheel, &g->timer, s->shard->loop->now, LV_MS(1), go_on);
    return false;
  }
  lv__give_stop(s);
  return true;
}

void lv__give_forget(lv_sess *s, lv_sub *sub) {
  lv_gives *g = s->more->gives;
  assert(sub->due == g);
  if (g->now.sub == sub) {
    drop_list(g);
    return;
  }
  assert(sub->due_at >= g->sub_at && g->subs[sub->due_at].sub == sub);
  g->subs[sub->due_at].sub = NULL;
  sub->due = NULL;
}

static bool for_later(const lv_sub *sub) {
  return sub && sub->qos > 0;
}

/* Back to where the step began; what of it was given is remembered. */
static void step_back(lv_gives *g) {
  g->given = realloc(g->given, (g->n_given + g->at + 1) * sizeof *g->given);
  if (!g->given) abort();
  for (uint32_t i = 0; i < g->at; i++) g->given[g->n_given++] = g->e[i].lsn;
  for (; g->at < g->n; g->at++) lv_block_unref(g->e[g->at].block);
  free(g->e);
  g->e = NULL;
  g->n = g->at = g->cap = 0;
  lv_retained_walk_stop(&g->walk);
  g->walk = g->back;
  g->back = (lv_retained_walk){0};
}

void lv__give_pause(lv_sess *s) {
  if (!lv__giving(s)) return;
  lv_gives *g = s->more->gives;
  lv_timer_cancel(&s->shard->loop->wheel, &g->timer);
  if (!for_later(g->now.sub)) {
    drop_list(g);
  } else if (g->back.at) {
    step_back(g);
  }
  uint32_t n = g->now.sub != NULL;
  for (uint32_t i = g->sub_at; i < g->n_subs; i++) {
    lv_sub *sub = g->subs[i].sub;
    n += for_later(sub);
    if (!sub || for_later(sub)) continue;
    sub->due = NULL;
    g->subs[i].sub = NULL;
  }
  if (n == 0) lv__give_stop(s);
}

void lv__give_stop(lv_sess *s) {
  if (!lv__giving(s)) return;
  lv_gives *g = s->more->gives;
  s->more->gives = NULL;
  lv_timer_cancel(&s->shard->loop->wheel, &g->timer);
  drop_list(g);
  for (uint32_t i = g->sub_at; i < g->n_subs; i++)
    if (g->subs[i].sub) g->subs[i].sub->due = NULL;
  free(g->subs);
  free(g);
}
