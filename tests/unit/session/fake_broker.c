/* fake_broker.c: see fake_broker.h. Each record is copied into a block of its own; a log is an
 * array of those in lsn order, searched by bisection. */
#include "fake_broker.h"
#include "broker/broker_int.h"
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

enum { CHANS_MAX = 4096, FIRST_LSN = 64 };

typedef struct fake_log {
  lv_block **recs;
  uint32_t n, cap, first; /* first: what retention left */
  uint64_t end;
  lv_batch *head, **tail; /* waiting, by batch->next */
  uint32_t n_waiting;
  bool hold;
  int fail;
} fake_log;

typedef struct fake_port {
  lv_loop *loop;
  lv_feed *feed;   /* one taker a loop is enough for sessions */
  uint32_t serial; /* of its interest: stale feed mail is not for it */
  bool on;
} fake_port;

typedef struct fake_job {
  lv_mail mail;
  struct fake_job *next;
  fake_broker *f;
  lv_read *read;
  lv_fetch *fetch;
} fake_job;

struct fake_broker {
  lv_broker base;
  pthread_mutex_t lock;
  fake_log log[LV_DURABILITY_COUNT];
  fake_port port[LV_LOOPS_MAX];
  lv_chan *chans[CHANS_MAX]; /* by id; 0 is none */
  _Atomic uint32_t n_chans;
  lv_visible_fn *visible;
  void *visible_arg;
  fake_job *jobs, **jobs_tail;
  bool hold_reads, cut;
  int fail_reads;
};

typedef struct fake_feed {
  lv_mail mail;
  fake_broker *f;
  lv_batch *batch;
  uint32_t serial;
} fake_feed;

static fake_broker *of(lv_broker *b) {
  return (fake_broker *)b;
}

static const lv_rec *rec_at(const fake_log *g, uint32_t i) {
  return (const lv_rec *)g->recs[i]->data;
}

/* ---- channels ---- */

static lv_slice dup_slice(lv_slice s) {
  return lv_slice_of(lv_slice_dup(s), s.n);
}

static lv_chan *find_locked(fake_broker *f, lv_slice app, lv_slice name) {
  for (uint32_t i = 1; i <= f->n_chans; i++)
    if (lv_slice_eq(f->chans[i]->app, app) && lv_slice_eq(f->chans[i]->name, name))
      return f->chans[i];
  return NULL;
}

static int fk_ensure(lv_broker *b, const lv_chan_conf *conf, uint32_t app_id, uint32_t max,
                     lv_chan **ret) {
  fake_broker *f = of(b);
  int err = 0;
  pthread_mutex_lock(&f->lock);
  lv_chan *c = find_locked(f, conf->app, conf->name);
  if (!c && max && f->n_chans >= max) err = LV_E_QUOTA;
  if (!c && !err) {
    assert(f->n_chans + 1 < CHANS_MAX);
    c = calloc(1, sizeof *c);
    if (!c) abort();
    c->id = f->n_chans + 1;
    c->durability = conf->durability;
    c->slow = conf->slow;
    c->app = dup_slice(conf->app);
    c->name = dup_slice(conf->name);
    c->broker = b;
    f->chans[c->id] = c;
    atomic_store(&f->n_chans, c->id);
  }
  if (c) c->app_id = app_id;
  pthread_mutex_unlock(&f->lock);
  if (!err) *ret = c;
  return err;
}

static lv_chan *fk_find(lv_broker *b, lv_slice app, lv_slice name) {
  pthread_mutex_lock(&of(b)->lock);
  lv_chan *c = find_locked(of(b), app, name);
  pthread_mutex_unlock(&of(b)->lock);
  return c;
}

static lv_chan *fk_chan(lv_broker *b, uint32_t id) {
  return id && id <= atomic_load(&of(b)->n_chans) ? of(b)->chans[id] : NULL;
}

/* ---- publishing ---- */

static void feed_run(lv_loop *loop, lv_mail *mail) {
  fake_feed *m = (fake_feed *)mail;
  fake_port *p = &m->f->port[loop->index];
  pthread_mutex_lock(&m->f->lock);
  bool mine = p->loop == loop && p->on && p->serial == m->serial;
  pthread_mutex_unlock(&m->f->lock);
  if (mine) p->feed->fn(loop, m->batch, p->feed->arg);
  lv_batch_unref(m->batch);
  free(m);
}

static void done_run(lv_loop *loop, lv_mail *mail) {
  lv_batch *b = (lv_batch *)mail;
  (void)loop;
  b->done(b);
}

static void keep(fake_log *g, const lv_rec *rec) {
  if (g->n == g->cap) {
    g->cap = g->cap ? g->cap * 2 : 64;
    g->recs = realloc(g->recs, g->cap * sizeof *g->recs);
    if (!g->recs) abort();
  }
  lv_block *b = lv_block_new(rec->size);
  if (!b) abort();
  memcpy(b->data, rec, rec->size);
  b->used = rec->size;
  g->recs[g->n++] = b;
}

/* Under the lock: gives each record its place and shows it to everybody who wants the feed. */
static void make_visible(fake_broker *f, fake_log *g, lv_batch *b) {
  for (lv_rec *r = b->count ? lv_batch_first(b) : NULL; r; r = lv_batch_next(b, r)) {
    r->lsn = g->end;
    g->end += r->size;
    lv_chan *c = f->chans[r->chan];
    if (r->kind == LV_REC_MSG && c) r->offset = atomic_fetch_add(&c->next_offset, 1);
    lv_rec_seal(r);
    keep(g, r);
  }
  b->lsn_end = g->end;
  if (b->count && f->visible) f->visible(f->visible_arg, b);
  for (int i = 0; i < LV_LOOPS_MAX && b->count; i++) {
    fake_port *p = &f->port[i];
    if (!p->loop || !p->on) continue;
    fake_feed *m = malloc(sizeof *m);
    if (!m) abort();
    *m = (fake_feed){{NULL, feed_run}, f, lv_batch_ref(b), p->serial};
    lv_loop_post(p->loop, &m->mail);
  }
}

static void finish(fake_broker *f, lv_batch *b, int err) {
  b->err = f->cut ? LV_E_CLOSED : err;
  if (b->err == 0) make_visible(f, &f->log[b->log], b);
  b->mail.run = done_run;
  lv_loop_post(b->loop, &b->mail);
}

static int fk_publish(lv_broker *base, lv_batch *b) {
  fake_broker *f = of(base);
  fake_log *g = &f->log[b->log];
  pthread_mutex_lock(&f->lock);
  if (g->hold) {
    b->next = NULL;
    *g->tail = b;
    g->tail = &b->next;
    g->n_waiting++;
  } else {
    finish(f, b, g->fail);
  }
  pthread_mutex_unlock(&f->lock);
  return 0;
}

static void let_go(fake_broker *f, int log, uint32_t n, int err) {
  fake_log *g = &f->log[log];
  pthread_mutex_lock(&f->lock);
  for (; n > 0 && g->head; n--) {
    lv_batch *b = g->head;
    g->head = b->next;
    if (!g->head) g->tail = &g->head;
    g->n_waiting--;
    finish(f, b, err);
  }
  pthread_mutex_unlock(&f->lock);
}

void fake_hold(fake_broker *f, int log, bool hold) {
  if (!hold) let_go(f, log, UINT32_MAX, 0);
  f->log[log].hold = hold;
}

uint32_t fake_waiting(fake_broker *f, int log) {
  return f->log[log].n_waiting;
}

void fake_complete(fake_broker *f, int log, uint32_t n) {
  let_go(f, log, n, 0);
}

void fake_fail(fake_broker *f, int log, uint32_t n, int err) {
  let_go(f, log, n, err);
}

void fake_fail_all(fake_broker *f, int log, int err) {
  f->log[log].fail = err;
}

/* ---- loops ---- */

static lv_pos ends(fake_broker *f) {
  lv_pos pos;
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) pos.lsn[i] = f->log[i].end;
  return pos;
}

static int fk_attach(lv_broker *b, lv_loop *loop, lv_feed *feed, lv_pos *ret) {
  fake_broker *f = of(b);
  pthread_mutex_lock(&f->lock);
  assert(!f->port[loop->index].loop);
  f->port[loop->index] = (fake_port){.loop = loop, .feed = feed};
  *ret = ends(f);
  pthread_mutex_unlock(&f->lock);
  return 0;
}

static lv_pos fk_interest(lv_broker *b, lv_loop *loop, lv_feed *feed, bool on) {
  fake_broker *f = of(b);
  assert(f->port[loop->index].feed == feed);
  pthread_mutex_lock(&f->lock);
  f->port[loop->index].on = on;
  f->port[loop->index].serial++;
  lv_pos pos = ends(f);
  pthread_mutex_unlock(&f->lock);
  return pos;
}

static lv_pos fk_visible(lv_broker *b) {
  pthread_mutex_lock(&of(b)->lock);
  lv_pos pos = ends(of(b));
  pthread_mutex_unlock(&of(b)->lock);
  return pos;
}

/* ---- reading ---- */

static uint32_t at_or_after(const fake_log *g, uint64_t lsn) {
  uint32_t lo = g->first, hi = g->n;
  while (lo < hi) {
    uint32_t mid = (lo + hi) / 2;
    if (rec_at(g, mid)->lsn < lsn) {
      lo = mid + 1;
    } else {
      hi = mid;
    }
  }
  return lo;
}

static bool wanted(const lv_read *rd, const lv_rec *r) {
  if (!rd->chans) return true;
  for (uint32_t i = 0; i < rd->n_chans; i++)
    if (rd->chans[i]->id == r->chan) return true;
  return false;
}

static void read_fill(fake_broker *f, lv_read *rd) {
  fake_log *g = &f->log[rd->log];
  lv_result *res = lv__result_new(16);
  uint64_t until = rd->until < g->end ? rd->until : g->end, bytes = 0;
  rd->next = rd->from > until ? rd->from : until;
  for (uint32_t i = at_or_after(g, rd->from); i < g->n && rec_at(g, i)->lsn < until; i++) {
    const lv_rec *r = rec_at(g, i);
    if (r->kind != LV_REC_MSG || !wanted(rd, r)) continue;
    if (res->n_recs && (res->n_recs >= rd->max_count || bytes + r->size > rd->max_bytes)) {
      rd->next = r->lsn;
      break;
    }
    bytes += r->size;
    lv__result_add(res, r);
    lv__result_keep(res, lv_block_ref(g->recs[i]));
  }
  uint64_t kept = g->first < g->n ? rec_at(g, g->first)->lsn : g->end;
  rd->missing_before = g->first && rd->from < kept ? kept : 0;
  rd->visible = g->end;
  rd->recs = res->recs;
  rd->n = res->n_recs;
  rd->priv = res;
}

static void fetch_fill(fake_broker *f, lv_fetch *ft) {
  fake_log *g = &f->log[ft->log];
  lv_result *res = lv__result_new(ft->n);
  for (uint32_t i = 0; i < ft->n; i++) {
    uint32_t k = at_or_after(g, ft->lsns[i]);
    bool hit = k < g->n && rec_at(g, k)->lsn == ft->lsns[i];
    lv__result_add(res, hit ? rec_at(g, k) : NULL);
    if (hit) lv__result_keep(res, lv_block_ref(g->recs[k]));
  }
  ft->recs = res->recs;
  ft->priv = res;
}

/* On the asker's loop, so that the answer is as of now and carries no lock. */
static void job_run(lv_loop *loop, lv_mail *mail) {
  fake_job *j = (fake_job *)mail;
  fake_broker *f = j->f;
  lv_read *rd = j->read;
  lv_fetch *ft = j->fetch;
  (void)loop;
  free(j);
  pthread_mutex_lock(&f->lock);
  int err = f->fail_reads;
  if (!err && rd) read_fill(f, rd);
  if (!err && ft) fetch_fill(f, ft);
  pthread_mutex_unlock(&f->lock);
  if (rd) {
    rd->err = err;
    rd->done(rd);
  } else {
    ft->err = err;
    ft->done(ft);
  }
}

static int ask(fake_broker *f, lv_loop *loop, lv_read *rd, lv_fetch *ft) {
  fake_job *j = malloc(sizeof *j);
  if (!j) abort();
  *j = (fake_job){.mail.run = job_run, .f = f, .read = rd, .fetch = ft};
  pthread_mutex_lock(&f->lock);
  if (f->hold_reads) {
    *f->jobs_tail = j;
    f->jobs_tail = &j->next;
  } else {
    lv_loop_post(loop, &j->mail);
  }
  pthread_mutex_unlock(&f->lock);
  return 0;
}

static int fk_read(lv_broker *b, lv_read *rd) {
  assert(rd->max_count > 0 && rd->from < rd->until);
  rd->recs = NULL;
  rd->priv = NULL;
  rd->n = 0;
  return ask(of(b), rd->loop, rd, NULL);
}

static int fk_fetch(lv_broker *b, lv_fetch *ft) {
  for (uint32_t i = 1; i < ft->n; i++) assert(ft->lsns[i - 1] < ft->lsns[i]);
  ft->recs = NULL;
  ft->priv = NULL;
  return ask(of(b), ft->loop, NULL, ft);
}

void fake_hold_reads(fake_broker *f, bool hold) {
  pthread_mutex_lock(&f->lock);
  f->hold_reads = hold;
  while (!hold && f->jobs) {
    fake_job *j = f->jobs;
    f->jobs = j->next;
    lv_loop_post(j->read ? j->read->loop : j->fetch->loop, &j->mail);
  }
  if (!f->jobs) f->jobs_tail = &f->jobs;
  pthread_mutex_unlock(&f->lock);
}

void fake_fail_reads(fake_broker *f, int err) {
  f->fail_reads = err;
}

void fake_retain_from(fake_broker *f, int log, uint64_t lsn) {
  f->log[log].first = at_or_after(&f->log[log], lsn);
}

uint64_t fake_end(fake_broker *f, int log) {
  return f->log[log].end;
}

/* ---- state ---- */

static lv_slice state_key(const lv_rec *r, char *buf) {
  if (r->kind == LV_REC_STATE) return lv_rec_topic(r);
  if (r->kind == LV_REC_MSG && lv_rec_qos2_key(r, buf)) return lv_slice_of(buf, LV_REC_QOS2_KEY);
  return (lv_slice){NULL, 0};
}

/* Whether record i is the newest of its log with this key. */
static bool newest(const fake_log *g, uint32_t i, lv_slice key) {
  char buf[LV_REC_QOS2_KEY];
  for (uint32_t k = g->n; k-- > i + 1;)
    if (lv_slice_eq(state_key(rec_at(g, k), buf), key)) return false;
  return true;
}

static bool newest_retained(const fake_log *g, uint32_t i) {
  for (uint32_t k = g->n; k-- > i + 1;) {
    const lv_rec *r = rec_at(g, k);
    if (r->kind == LV_REC_MSG && (r->flags & LV_REC_RETAIN) && r->chan == rec_at(g, i)->chan &&
        lv_slice_eq(lv_rec_topic(r), lv_rec_topic(rec_at(g, i))))
      return false;
  }
  return true;
}

static int fk_replay(lv_broker *b, lv_state_fn *fn, void *arg) {
  fake_broker *f = of(b);
  char buf[LV_REC_QOS2_KEY];
  for (uint8_t log = 0; log < LV_DURABILITY_COUNT; log++) {
    const fake_log *g = &f->log[log];
    for (uint32_t i = 0; i < g->n; i++) {
      const lv_rec *r = rec_at(g, i);
      lv_slice key = state_key(r, buf), val = lv_rec_val(r);
      bool live = key.n && (val.n || r->kind == LV_REC_MSG) && newest(g, i, key);
      if (live) (void)fn(arg, key, val, r, log);
      if (r->kind == LV_REC_MSG && (r->flags & LV_REC_RETAIN) && val.n && newest_retained(g, i))
        (void)fn(arg, lv_rec_topic(r), val, r, log);
    }
  }
  return 0;
}

static int count_key(void *arg, lv_slice key, lv_slice value, const lv_rec *rec, uint8_t log) {
  (void)value;
  (void)log;
  if (rec->kind == LV_REC_STATE || key.p != rec->body) ++*(uint32_t *)arg;
  return 0;
}

uint32_t fake_keys(fake_broker *f) {
  uint32_t n = 0;
  (void)fk_replay(&f->base, count_key, &n);
  return n;
}

uint32_t fake_msgs(fake_broker *f) {
  uint32_t n = 0;
  for (int i = 0; i < LV_DURABILITY_COUNT; i++)
    for (uint32_t k = f->log[i].first; k < f->log[i].n; k++)
      n += rec_at(&f->log[i], k)->kind == LV_REC_MSG;
  return n;
}

bool fake_has(fake_broker *f, const char *topic, const char *payload) {
  lv_slice t = lv_slice_str(topic), v = lv_slice_str(payload);
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) {
    for (uint32_t k = f->log[i].n; k-- > 0;) {
      const lv_rec *r = rec_at(&f->log[i], k);
      if (r->kind == LV_REC_MSG && lv_slice_eq(lv_rec_topic(r), t) && lv_slice_eq(lv_rec_val(r), v))
        return true;
    }
  }
  return false;
}

/* ---- life ---- */

static int fk_describe(lv_broker *b, lv_broker_desc *d) {
  *d = (lv_broker_desc){.type = b->ops->type, .caps = b->ops->caps, .healthy = true};
  return 0;
}

static void fk_close(lv_broker *b) {
  fake_free(of(b));
}

static const lv_broker_ops ops = {
    .type = "fake",
    .caps = LV_CAP_REPLAY | LV_CAP_POSITION | LV_CAP_LAST_PER_KEY | LV_CAP_STATE,
    .ensure = fk_ensure,
    .find = fk_find,
    .chan = fk_chan,
    .attach = fk_attach,
    .interest = fk_interest,
    .publish = fk_publish,
    .read = fk_read,
    .fetch = fk_fetch,
    .visible = fk_visible,
    .replay = fk_replay,
    .describe = fk_describe,
    .close = fk_close,
};

fake_broker *fake_new(void) {
  fake_broker *f = calloc(1, sizeof *f);
  if (!f) abort();
  f->base.ops = &ops;
  pthread_mutex_init(&f->lock, NULL);
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) {
    f->log[i].end = FIRST_LSN;
    f->log[i].tail = &f->log[i].head;
  }
  f->jobs_tail = &f->jobs;
  return f;
}

lv_broker *fake_base(fake_broker *f) {
  return &f->base;
}

void fake_visible(fake_broker *f, lv_visible_fn *fn, void *arg) {
  f->visible = fn;
  f->visible_arg = arg;
}

void fake_cut(fake_broker *f) {
  f->cut = true;
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) fake_hold(f, i, false);
}

void fake_restart(fake_broker *f) {
  assert(!f->jobs);
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) {
    assert(!f->log[i].head);
    f->log[i].fail = 0;
  }
  memset(f->port, 0, sizeof f->port);
  f->cut = f->hold_reads = false;
  f->fail_reads = 0;
  f->visible = NULL;
}

void fake_free(fake_broker *f) {
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) {
    for (uint32_t k = 0; k < f->log[i].n; k++) lv_block_unref(f->log[i].recs[k]);
    free(f->log[i].recs);
  }
  for (uint32_t i = 1; i <= f->n_chans; i++) {
    free((void *)f->chans[i]->app.p);
    free((void *)f->chans[i]->name.p);
    free(f->chans[i]);
  }
  pthread_mutex_destroy(&f->lock);
  free(f);
}
