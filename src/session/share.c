/* share.c: see share.h. */
#include "core/hash.h"
#include "core/log.h"
#include "session/share_int.h"
#include <assert.h>
#include <stdlib.h>

typedef struct lv_share_mail {
  lv_mail mail;
  lv_share_member *m;
  uint64_t serial; /* of the share */
  lv_shard *home;
  lv_batch *batch;
  lv_block *block;
  const lv_rec *rec;
  lv_wait w;
} lv_share_mail;

static void mail_to(lv_loop *to, lv_share_mail v, void (*run)(lv_loop *, lv_mail *)) {
  lv_share_mail *m = malloc(sizeof *m);
  if (!m) abort();
  *m = v;
  m->mail.run = run;
  lv_loop_post(to, &m->mail);
}

/* ---- waiting ---- */

static void wait_grow(lv_share *sh) {
  uint32_t cap = sh->wait ? (sh->mask + 1) * 2 : 64;
  lv_wait *w = malloc(cap * sizeof *w);
  if (!w) abort();
  for (uint32_t i = 0; i < sh->count; i++) w[i] = sh->wait[(sh->head + i) & sh->mask];
  free(sh->wait);
  sh->wait = w;
  sh->head = 0;
  sh->mask = cap - 1;
}

void lv__share_wait(lv_share *sh, lv_wait w, bool front) {
  lv_metrics *mx = lv__kpi_app(sh->home, sh->app_id);
  uint32_t max = w.qos ? LV_SHARE_WAIT_MAX : sh->home->conf->limits.queue_messages;
  if (sh->count >= max && !front) {
    lv__kpi_drop(sh->home, mx, sh->app_id, 0, LV_C_DROP_HUB_SLOW, 1);
    lv_gauge(mx, LV_G_PENDING, -1);
    return;
  }
  if (!sh->wait || sh->count > sh->mask) wait_grow(sh);
  if (front) {
    sh->head = (sh->head - 1) & sh->mask;
    sh->wait[sh->head] = w;
  } else {
    sh->wait[(sh->head + sh->count) & sh->mask] = w;
  }
  sh->count++;
  sh->dirty = true;
  atomic_store(&sh->starving, true);
}

/* ---- the member's side ---- */

static void member_take(lv_share_member *m, lv_batch *batch, lv_block *block, const lv_rec *rec,
                        uint8_t log) {
  lv_sess *s = m->sess;
  if (!s) {
    lv__share_return(m, log, rec->lsn);
    return;
  }
  uint8_t qos = m->qos < lv_rec_qos(rec) ? m->qos : lv_rec_qos(rec);
  bool retain = (m->flags & LV_SUB_AS_PUBLISHED) && (rec->flags & LV_REC_RETAIN);
  lv__deliver(
      s, &(lv_delivery){.batch = batch,
                        .block = block,
                        .rec = rec,
                        .member = m,
                        .read_at = batch ? batch->read_at : (lv_mono){0},
                        .sub_id = m->sub_id,
                        .qos = qos,
                        .log = log,
                        .flags = (uint8_t)(LV_DELIVER_SHARED | (retain ? LV_DELIVER_RETAIN : 0) |
                                           (batch ? 0 : LV_DELIVER_REPLAY))});
}

static void take_mail(lv_loop *loop, lv_mail *mail) {
  lv_share_mail *v = (lv_share_mail *)mail;
  (void)loop;
  member_take(v->m, v->batch, v->block, v->rec, v->w.log);
  lv_batch_unref(v->batch);
  lv_block_unref(v->block);
  free(v);
}

static lv_share *share_find(const lv_shard *home, uint64_t serial) {
  lv_share *sh = home->shares;
  while (sh && sh->serial != serial) sh = sh->next;
  return sh;
}

static void kick_mail(lv_loop *loop, lv_mail *mail) {
  lv_share_mail *v = (lv_share_mail *)mail;
  (void)loop;
  lv_share *sh = share_find(v->home, v->serial);
  free(v);
  if (sh) lv__share_pump(sh);
}

static void let_hold(lv_share_member *m, uint64_t packed) {
  for (uint32_t i = 0; i < m->n_held; i++) {
    if (m->held[i] != packed) continue;
    m->held[i] = m->held[--m->n_held];
    return;
  }
}

static void finished(lv_share_member *m, uint8_t log, uint64_t lsn) {
  uint32_t w = atomic_load_explicit(&m->done_written, memory_order_relaxed);
  m->done[w % (2 * LV_SHARE_CREDIT)] = lv__share_pack(log, lsn);
  atomic_store(&m->done_written,
               w + 1); /* before `out`: the home drains before it hands over more */
}

void lv__share_drain(lv_share_member *m) {
  uint32_t w = atomic_load(&m->done_written);
  for (; m->done_read != w; m->done_read++) {
    let_hold(m, m->done[m->done_read % (2 * LV_SHARE_CREDIT)]);
  }
}

void lv__share_done(lv_share_member *m, uint8_t log, uint64_t lsn) {
  finished(m, log, lsn);
  uint32_t left = atomic_fetch_sub(&m->out, 1) - 1;
  if (left > LV_SHARE_CREDIT / 2 || !m->share) return;
  if (atomic_load(&m->share->starving) && atomic_exchange(&m->share->starving, false))
    mail_to(m->home->loop, (lv_share_mail){.serial = m->serial, .home = m->home}, kick_mail);
}

/* The home keeps it among `held` until this arrives, so that it is never in neither place. */
static void return_mail(lv_loop *loop, lv_mail *mail) {
  lv_share_mail *v = (lv_share_mail *)mail;
  (void)loop;
  lv_share *sh = share_find(v->home, v->serial);
  if (sh) {
    let_hold(v->m, lv__share_pack(v->w.log, v->w.lsn));
    atomic_fetch_sub(&v->m->out, 1);
    lv__share_wait(sh, v->w, true);
    lv__share_pump(sh);
  } else {
    lv_metrics *mx = lv__kpi_app(v->home, v->m->app_id);
    lv__kpi_drop(v->home, mx, v->m->app_id, 0, LV_C_DROP_HUB_ENDED, 1);
    lv_gauge(mx, LV_G_PENDING, -1);
  }
  free(v);
}

void lv__share_return(lv_share_member *m, uint8_t log, uint64_t lsn) {
  mail_to(m->home->loop,
          (lv_share_mail){.m = m, .serial = m->serial, .home = m->home, .w = {lsn, log, 1}},
          return_mail);
}

/* ---- the home's side ---- */

static bool may_take(const lv_share_member *m, lv_slice topic) {
  return !(m->flags & LV_SUB_CHECK) || lv_auth_may_read(m->auth, topic);
}

/* Whether any member, also one that is away, may read it: else it is not owed to the group. */
static bool readable(const lv_share *sh, lv_slice topic) {
  for (const lv_share_member *m = sh->members; m; m = m->next)
    if (may_take(m, topic)) return true;
  return false;
}

/* The next member with room that may read the topic, by turns. */
static lv_share_member *choose(lv_share *sh, lv_slice topic) {
  for (uint32_t i = 0; i < sh->n_members; i++) {
    lv_share_member *m = sh->members;
    if (m->next) { /* the head goes to the end */
      sh->members = m->next;
      m->next = NULL;
      sh->last->next = m;
      sh->last = m;
    }
    if (!atomic_load(&m->gone) && atomic_load(&m->out) < LV_SHARE_CREDIT && may_take(m, topic))
      return m;
  }
  return NULL;
}

static void give(lv_share_member *m, lv_batch *batch, lv_block *block, const lv_rec *rec,
                 uint8_t log) {
  lv__share_drain(m);
  assert(m->n_held < LV_SHARE_CREDIT);
  m->held[m->n_held++] = lv__share_pack(log, rec->lsn);
  m->share->dirty = true;
  atomic_fetch_add(&m->out, 1);
  if (m->shard == m->home) {
    member_take(m, batch, block, rec, log);
    return;
  }
  mail_to(m->shard->loop,
          (lv_share_mail){.m = m,
                          .batch = batch ? lv_batch_ref(batch) : NULL,
                          .block = block ? lv_block_ref(block) : NULL,
                          .rec = rec,
                          .w = {.log = log}},
          take_mail);
}

void lv__share_deliver(lv_share *sh, lv_batch *batch, const lv_rec *rec) {
  lv_metrics *mx = lv__kpi_app(sh->home, sh->app_id);
  lv_slice topic = lv_rec_topic(rec);
  if (rec->lsn < sh->sub->from.lsn[batch->log] || !readable(sh, topic)) return;
  if (sh->scan) return; /* the scan comes here */
  sh->dirty = true;
  lv_count(mx, LV_C_HUB_OWED, 1);
  lv_gauge(mx, LV_G_PENDING, 1);
  lv_share_member *m = sh->count || sh->fetching ? NULL : choose(sh, topic);
  if (m) {
    give(m, batch, NULL, rec, batch->log);
  } else {
    lv__share_wait(sh, (lv_wait){rec->lsn, batch->log, lv_rec_qos(rec)}, false);
  }
}

void lv__share_free(lv_share *sh) {
  lv_metrics *mx = lv__kpi_app(sh->home, sh->app_id);
  if (sh->count) {
    lv__kpi_drop(sh->home, mx, sh->app_id, 0, LV_C_DROP_HUB_ENDED, sh->count);
    lv_gauge(mx, LV_G_PENDING, -(int64_t)sh->count);
  }
  if (sh->scan && sh->scan->reading) lv_broker_read_free(&sh->scan->read); /* see lv_shard_free */
  if (sh->fetching) lv_broker_fetch_free(&sh->fetch);
  if (sh->scan) free(sh->scan->skip);
  free(sh->scan);
  free(sh->wait);
  free(sh->sub);
  free(sh);
}

static void fetched(lv_fetch *f) {
  lv_share *sh = f->arg;
  lv_metrics *mx = lv__kpi_app(sh->home, sh->app_id);
  sh->fetching = false;
  const lv_rec *rec = f->err ? NULL : f->recs[0];
  lv_share_member *m = rec && !sh->dead ? choose(sh, lv_rec_topic(rec)) : NULL;
  bool stuck = !m && (f->err || (rec && (sh->dead || readable(sh, lv_rec_topic(rec)))));
  if (m) {
    lv_block *copy = lv_block_new(rec->size);
    if (!copy) abort();
    memcpy(copy->data, rec, rec->size);
    copy->used = rec->size;
    give(m, NULL, copy, (const lv_rec *)copy->data, sh->fetch_wait.log);
    lv_block_unref(copy);
  } else if (stuck) {
    lv__share_wait(sh, sh->fetch_wait, true);
  } else {
    lv__kpi_drop(sh->home, mx, sh->app_id, rec ? lv__kpi_slot_of(sh->home, rec) : 0,
                 rec ? LV_C_DROP_HUB_ENDED : LV_C_DROP_HUB_RETENTION, 1);
    lv_gauge(mx, LV_G_PENDING, -1);
  }
  lv_broker_fetch_free(f);
  if (sh->dead) {
    if (!(sh->scan && sh->scan->reading)) lv__share_free(sh);
  } else if (!stuck) {
    lv__share_pump(sh);
  } /* else a member with room, a new one, or the next second */
}

/* Takes what waits, one fetch at a time, while a member has room. */
void lv__share_pump(lv_share *sh) {
  if (sh->scan) lv__share_scan_on(sh);
  if (sh->fetching || sh->count == 0) return;
  bool room = false;
  for (lv_share_member *m = sh->members; m && !room; m = m->next)
    room = !atomic_load(&m->gone) && atomic_load(&m->out) < LV_SHARE_CREDIT;
  if (!room) {
    atomic_store(&sh->starving, true);
    return;
  }
  sh->fetch_wait = sh->wait[sh->head];
  sh->head = (sh->head + 1) & sh->mask;
  sh->count--;
  sh->fetch_lsn = sh->fetch_wait.lsn;
  sh->fetch = (lv_fetch){.loop = sh->home->loop,
                         .log = sh->fetch_wait.log,
                         .lsns = &sh->fetch_lsn,
                         .n = 1,
                         .done = fetched,
                         .arg = sh};
  sh->fetching = true;
  if (sh->home->broker->ops->fetch(sh->home->broker, &sh->fetch)) {
    sh->fetching = false;
    lv__share_wait(sh, sh->fetch_wait, true);
  }
}

/* ---- joining and leaving ---- */

static lv_share *share_get(lv_shard *home, const lv_share_member *m) {
  lv_slice text = lv_slice_of(m->filter, m->len);
  for (lv_share *sh = home->shares; sh; sh = sh->next)
    if (sh->app_id == m->app_id && lv_slice_eq(lv_slice_of(sh->sub->filter, sh->sub->len), text))
      return sh;
  lv_share *sh = calloc(1, sizeof *sh);
  lv_sub *sub = calloc(1, sizeof *sub + m->len);
  if (!sh || !sub) abort();
  sub->target = sh;
  sub->len = (uint16_t)m->len;
  memcpy(sub->filter, m->filter, m->len);
  lv_slice group, filter;
  (void)lv_mqtt_share_split(text, &group, &filter);
  sub->shared_prefix = (uint16_t)(m->len - filter.n);
  sub->qos = 2;
  sub->flags = LV_SUB_SHARED;
  sh->sub = sub;
  sh->home = home;
  sh->app_id = m->app_id;
  sh->serial = ++home->share_serial;
  sh->next = home->shares;
  home->shares = sh;
  lv__interest(home, m->app_id, 1);
  sub->from = home->seen;
  lv_subindex_add(lv__shard_index(home, sh->app_id), sub);
  lv__share_begin(sh, m->from);
  return sh;
}

static void join(lv_share_member *m) {
  lv_share *sh = share_get(m->home, m);
  m->share = sh;
  m->serial = sh->serial;
  m->next = sh->members;
  sh->members = m;
  if (!m->next) sh->last = m;
  sh->n_members++;
  if (!sh->stored) lv__share_save(sh); /* from now on nothing that it is owed gets lost */
  lv__share_pump(sh);
}

static void join_mail(lv_loop *loop, lv_mail *mail) {
  (void)loop;
  join((lv_share_member *)((char *)mail - offsetof(lv_share_member, join)));
}

static void member_free(lv_share_member *m) {
  lv_auth_unref(m->auth);
  free(m);
}

/* Behind all that its side had given back. */
static void bury_mail(lv_loop *loop, lv_mail *mail) {
  lv_share_member *m = (lv_share_member *)mail;
  (void)loop;
  lv_share *sh = share_find(m->home, m->serial);
  lv_share_member **p = sh ? &sh->leaving : NULL;
  while (p && *p && *p != m) p = &(*p)->next;
  if (p && *p) *p = m->next;
  member_free(m);
}

static void left_mail(lv_loop *loop, lv_mail *mail) {
  lv_share_member *m = (lv_share_member *)mail;
  (void)loop;
  m->mail.run = bury_mail;
  lv_loop_post(m->home->loop, &m->mail);
}

static void leave(lv_share_member *m) {
  lv_share *sh = m->share;
  lv_share_member **p = &sh->members, *before = NULL;
  for (; *p != m; p = &(*p)->next) before = *p;
  *p = m->next;
  if (sh->last == m) sh->last = before;
  m->next = sh->leaving; /* what it holds is on its way back */
  sh->leaving = m;
  if (--sh->n_members == 0) {
    lv_share **q = &sh->home->shares;
    while (*q != sh) q = &(*q)->next;
    *q = sh->next;
    lv_subindex_remove(lv__shard_index(sh->home, sh->app_id), sh->sub);
    lv__interest(sh->home, sh->app_id, -1);
    sh->dead = true;
    lv__share_forget(sh);
    if (!sh->fetching && !(sh->scan && sh->scan->reading)) lv__share_free(sh);
  }
  m->mail.run = left_mail;
  lv_loop_post(m->shard->loop, &m->mail); /* behind everything that was handed to it */
}

static void leave_mail(lv_loop *loop, lv_mail *mail) {
  (void)loop;
  leave((lv_share_member *)mail);
}

static lv_share_member *member_new(lv_sess *s, lv_sub *sub) {
  lv_realm *r = s->shard->realm;
  lv_share_member *m = calloc(1, sizeof *m + sub->len);
  if (!m) abort();
  uint64_t h = lv_hash(sub->filter, sub->len) ^ s->app_id;
  m->home = r->shards[h % (uint64_t)r->n_shards];
  m->shard = s->shard;
  m->sess = s->conn ? s : NULL;
  m->auth = lv_auth_ref(s->auth);
  m->app_id = s->app_id;
  m->sub_id = sub->sub_id;
  m->qos = sub->qos;
  m->flags = sub->flags;
  m->persistent = s->persistent;
  m->from = s->shard->broker->ops->visible(s->shard->broker);
  m->len = sub->len;
  memcpy(m->filter, sub->filter, sub->len);
  return m;
}

/* From the member's loop, or from the one its session went to. */
static void member_leave(lv_share_member *m) {
  atomic_store(&m->gone, true);
  m->mail.run = leave_mail;
  lv_loop_post(m->home->loop, &m->mail);
}

void lv__share_join(lv_sess *s, lv_sub *sub) {
  lv_share_member *old = sub->member, *m = member_new(s, sub);
  sub->member = m;
  atomic_store(&m->gone, s->conn == NULL);
  m->join.run = join_mail;
  lv_loop_post(m->home->loop, &m->join);
  if (old) member_leave(old); /* the new one keeps the group alive */
}

void lv__share_leave(lv_sess *s, lv_sub *sub, bool for_good) {
  lv_share_member *m = sub->member;
  if (!m) return;
  lv__out_member_gone(s, m);
  if (m->sess)
    m->sess = NULL; /* what is on its way goes back; offline: it is NULL, not our loop's */
  atomic_store(&m->gone, true);
  if (!for_good) return;
  sub->member = NULL;
  member_leave(m);
}

void lv__share_tick(lv_shard *s) {
  for (lv_share *sh = s->shares; sh; sh = sh->next) {
    lv__share_pump(sh);
    lv__share_save(sh);
  }
}

static void members_free(lv_share_member *m) {
  for (lv_share_member *next; m; m = next) {
    next = m->next;
    member_free(m);
  }
}

void lv__share_free_all(lv_shard *s) {
  while (s->shares) {
    lv_share *sh = s->shares;
    s->shares = sh->next;
    members_free(sh->members);
    members_free(sh->leaving);
    sh->count = 0;
    lv__share_free(sh);
  }
}

void lv__share_save_all(lv_shard *s) {
  for (lv_share *sh = s->shares; sh; sh = sh->next) {
    sh->dirty = true;
    lv__share_save(sh);
  }
}
