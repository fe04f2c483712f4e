/* snap.c: a channel's last messages, collected from the log and encoded, and kept while they are
 * asked for.
 *
 *   ask ─fresh─▶ the cached one                    (no read, no encoding)
 *    └─stale──▶ job: [seek] → read … → new snapshot ─▶ all who wait
 *
 * A snapshot that is only a little old is continued: the job reads from its end and copies the
 * frames' places. With a filter the job is of its own and nothing is kept. A job that everybody has
 * left goes on to its end.
 *
 * With `snapshot: keys` (max 0) the last message of each key is asked of the broker instead and
 * fetched (snap_keys.c); from then on it is the same. @thread loop */
#include "hub/snap_int.h"
#include <stdlib.h>

enum { ROUNDS_MAX = 3 };

static void job_start(lv__snap_job *job);

void lv__snap_unref(lv__snap *s) {
  if (!s || --s->refs) return;
  for (uint32_t i = 0; i < s->n; i++) lv_block_unref(s->f[i].f.block);
  free(s);
}

/* ---- collecting ---- */

static void drop_front(lv__snap_job *job, uint32_t k) {
  if (k == 0) return;
  for (uint32_t i = 0; i < k; i++) {
    if (!job->f[i].f.block) continue;
    job->bytes -= job->f[i].f.n;
    lv_block_unref(job->f[i].f.block);
  }
  job->n -= k;
  memmove(job->f, job->f + k, job->n * sizeof *job->f);
}

/* What is too old, and what is too much. */
static void trim(lv__snap_job *job) {
  if (job->keys) return;
  uint64_t oldest = job->next_offset > job->max ? job->next_offset - job->max : 0;
  uint64_t bytes = job->bytes;
  uint32_t k = 0;
  while (k < job->n &&
         (job->f[k].offset < oldest || (bytes > LV__HUB_SNAPSHOT_BYTES && k + 1 < job->n)))
    bytes -= job->f[k++].f.n;
  drop_front(job, k);
}

void lv__snap_push(lv__snap_job *job, lv__frame f, uint64_t offset, uint32_t steps) {
  if (job->n == job->cap) {
    job->cap = job->cap ? job->cap * 2 : 32;
    job->f = realloc(job->f, job->cap * sizeof *job->f);
    if (!job->f) abort();
  }
  lv_block_ref(f.block);
  job->f[job->n++] = (lv__snap_frame){f, offset, 0, 0, steps};
  job->bytes += f.n;
}

void lv__snap_take(lv__snap_job *job, const lv_rec *rec) {
  lv__frame f;
  uint64_t key = job->keys ? lv__snap_keys_of(rec) : 0;
  if (rec->offset >= job->next_offset) job->next_offset = rec->offset + 1;
  if (job->keys) lv__snap_keys_forget(job, key);
  if (job->keys && !lv_rec_val(rec).n) return; /* taken away */
  if (!lv__filter_pass(job->filter, rec) || lv__rec_expired(job->hl, rec)) return;
  lv_hub_data d = lv__data_of(job->hl, job->only, rec, job->v.pos);
  if (!lv__frames_room(&job->frames, lv__frame_bound(job->v, &d))) return;
  if (lv__frame_put(job->hl, &job->frames, job->v, &d, &f)) return;
  lv__snap_push(job, f, rec->offset, lv_use_of(rec).steps);
  if (job->keys) lv__snap_keys_added(job, key, rec->size);
}

static lv__snap *result(lv__snap_job *job, uint64_t lsn_end) {
  trim(job);
  if (job->keys) lv__snap_keys_close(job);
  lv__snap *s = malloc(sizeof *s + job->n * sizeof s->f[0]);
  if (!s) abort();
  *s = (lv__snap){.refs = 1,
                  .n = job->n,
                  .max = job->max,
                  .lsn_end = lsn_end,
                  .next_offset = job->next_offset,
                  .bytes = job->bytes};
  if (job->n) memcpy(s->f, job->f, job->n * sizeof s->f[0]);
  for (uint32_t i = 0; i < s->n; i++) s->blocks += !i || s->f[i].f.block != s->f[i - 1].f.block;
  job->n = 0;
  job->bytes = 0;
  return s;
}

/* ---- jobs ---- */

static void job_free(lv__snap_job *job) {
  drop_front(job, job->n);
  lv__snap_keys_free(job);
  if (job->group) job->group->job = NULL;
  *job->pprev = job->next;
  if (job->next) job->next->pprev = job->pprev;
  lv__filter_unref(job->filter);
  lv_block_unref(job->frames.block);
  free(job->f);
  free(job);
}

void lv__snap_jobs_free(lv__hub_loop *hl) {
  while (hl->jobs) job_free(hl->jobs);
}

static lv__snap_wait *pop(lv__snap_wait **list) {
  lv__snap_wait *w = *list;
  if (!w) return NULL;
  *list = w->next;
  if (w->next) w->next->pprev = list;
  w->next = NULL;
  w->pprev = NULL;
  return w;
}

void lv__snap_cancel(lv__snap_wait *w) {
  if (!w->pprev) return;
  *w->pprev = w->next;
  if (w->next) w->next->pprev = w->pprev;
  w->next = NULL;
  w->pprev = NULL;
}

static void wait_add(lv__snap_job *job, lv__snap_wait *w) {
  lv__snap_wait **p = &job->waits;
  w->next = *p; /* in no order: each of them is another connection, or its own channel */
  w->pprev = p;
  if (w->next) w->next->pprev = &w->next;
  *p = w;
}

/* Tells those whom this snapshot is new enough for; the others wait for the next round. */
void lv__snap_job_done(lv__snap_job *job, lv__snap *snap, int err) {
  lv__snap_wait *list = job->waits, *w, *rest = NULL;
  job->waits = NULL;
  if (list) list->pprev = &list;
  if (job->group && snap) {
    lv__snap_unref(job->group->snap);
    job->group->snap = snap;
    snap->refs++;
  }
  while ((w = pop(&list))) {
    if (snap && w->need > snap->next_offset && job->rounds < ROUNDS_MAX) {
      w->next = rest;
      w->pprev = &rest;
      if (rest) rest->pprev = &w->next;
      rest = w;
      continue;
    }
    if (snap) snap->refs++;
    w->done(w, snap, err);
  }
  while ((w = pop(&rest))) wait_add(job, w);
  lv__snap_unref(snap);
  if (job->waits && !job->hl->ended)
    job_start(job);
  else
    job_free(job);
}

void lv__snap_jobs_end(lv__hub_loop *hl) {
  for (lv__snap_job *job = hl->jobs; job; job = job->next) {
    lv__snap_wait *w;
    while ((w = pop(&job->waits))) w->done(w, NULL, LV_E_SHUTDOWN);
  }
}

static void read_done(lv_read *rd) {
  lv__snap_job *job = rd->arg;
  int err = rd->err;
  uint64_t next = rd->next;
  uint32_t n = rd->n;
  for (uint32_t i = 0; i < n; i++) lv__snap_take(job, rd->recs[i]);
  lv_broker_read_free(rd);
  trim(job);
  if (err || job->hl->ended)
    lv__snap_job_done(job, NULL, err ? err : LV_E_SHUTDOWN);
  else if (next >= job->until || (n == 0 && next <= rd->from))
    lv__snap_job_done(job, result(job, next > job->until ? next : job->until), 0);
  else
    lv__snap_read_on(job, next);
}

void lv__snap_read_on(lv__snap_job *job, uint64_t from) {
  job->read = (lv_read){.loop = job->hl->loop,
                        .log = job->only->durability,
                        .from = from,
                        .until = job->until,
                        .chans = &job->only,
                        .n_chans = 1,
                        .max_count = LV__HUB_READ_COUNT,
                        .max_bytes = LV__HUB_READ_BYTES,
                        .done = read_done,
                        .arg = job};
  int err = job->hl->broker->ops->read(job->hl->broker, &job->read);
  if (err) lv__snap_job_done(job, NULL, err);
}

static void seek_done(lv_seek *seek) {
  lv__snap_job *job = seek->arg;
  if (seek->err || job->hl->ended) {
    lv__snap_job_done(job, NULL, seek->err ? seek->err : LV_E_SHUTDOWN);
    return;
  }
  job->next_offset = seek->offset;
  if (seek->lsn > job->until) job->until = seek->lsn;
  lv__snap_read_on(job, seek->lsn);
}

/* Each round that goes on where the last one ended begins a block: with a few small messages a
 * round, a snapshot would keep a block for nearly every one of them. */
static bool sparse(const lv__snap *s) {
  enum { BLOCKS_FEW = 8, TIMES = 4 };
  return s->blocks > BLOCKS_FEW && (uint64_t)s->blocks * LV_BLOCK_SIZE > TIMES * s->bytes;
}

/* A copy behind the job's own frames. */
static lv__frame copy(lv__snap_job *job, lv__frame f) {
  if (!lv__frames_room(&job->frames, f.n)) return f;
  lv_block *b = job->frames.block;
  lv__frame ret = {b, b->data + b->used, f.n};
  memcpy(b->data + b->used, f.p, f.n);
  b->used += f.n;
  return ret;
}

/* From the end of the one that is there, unless the log begins behind its first message now. */
static bool carry_on(lv__snap_job *job) {
  lv__snap *old = job->group ? job->group->snap : NULL;
  uint64_t first = atomic_load(&job->only->first_offset);
  if (!old || old->max != job->max || old->lsn_end > job->until ||
      (!job->keys && old->n && old->f[0].offset < first))
    return false;
  bool pack = sparse(old);
  for (uint32_t i = 0; i < old->n; i++) {
    const lv__snap_frame *f = &old->f[i];
    lv__snap_push(job, pack ? copy(job, f->f) : f->f, f->offset, f->use_steps);
    if (job->keys) lv__snap_keys_added(job, f->key, f->size);
  }
  job->next_offset = old->next_offset;
  return true;
}

static void job_start(lv__snap_job *job) {
  if (job->hl->ended) {
    lv__snap_job_done(job, NULL, LV_E_SHUTDOWN);
    return;
  }
  job->rounds++;
  job->until = job->hl->broker->ops->visible(job->hl->broker).lsn[job->only->durability];
  drop_front(job, job->n);
  lv__snap_keys_free(job);
  if (carry_on(job)) {
    lv__snap_read_on(job, job->group->snap->lsn_end);
    return;
  }
  if (job->keys) {
    lv__snap_keys_start(job);
    return;
  }
  job->seek = (lv_seek){.loop = job->hl->loop,
                        .chan = job->only,
                        .by = LV_SEEK_LAST,
                        .value = job->max,
                        .done = seek_done,
                        .arg = job};
  int err = job->hl->broker->ops->seek(job->hl->broker, &job->seek);
  if (err) lv__snap_job_done(job, NULL, err);
}

static lv__snap_job *job_new(lv__hub_loop *hl, lv__hub_group *g, lv__filter *filter, uint32_t max) {
  lv__snap_job *job = calloc(1, sizeof *job);
  if (!job) abort();
  job->hl = hl;
  job->only = g->ch->chan;
  job->v = g->v;
  job->max = max;
  job->keys = max == 0;
  job->filter = lv__filter_ref(filter);
  job->next = hl->jobs;
  job->pprev = &hl->jobs;
  if (job->next) job->next->pprev = &job->next;
  hl->jobs = job;
  return job;
}

uint32_t lv__hub_snap_max(const lv_app *app, const lv_chan *chan) {
  enum { NOT_YET = 100 }; /* made before the document said `keys`: it keeps none */
  uint32_t max = lv__hub_conf(app, chan)->snapshot;
  if (lv_chan_lasts(chan)) return 0;
  return max ? max : NOT_YET;
}

static bool fresh(const lv__hub_group *g, uint32_t max) {
  const lv__snap *s = g->snap;
  const lv_chan *c = g->ch->chan;
  return s && s->max == max && s->next_offset == atomic_load(&c->next_offset) &&
         (!max || !s->n || s->f[0].offset >= atomic_load(&c->first_offset));
}

typedef struct lv__late { /* a job that could not start tells so, but not inside the call */
  lv_mail mail;
  lv__snap_job *job;
} lv__late;
static void late_start(lv_loop *loop, lv_mail *mail) {
  lv__late *late = (lv__late *)mail;
  (void)loop;
  job_start(late->job);
  free(late);
}

lv__snap *lv__snap_ask(lv__hub_loop *hl, lv__hub_group *g, lv__filter *filter, uint32_t max,
                       lv__snap_wait *wait) {
  g->used_ns = hl->loop->now.ns;
  if (!filter && fresh(g, max)) {
    g->snap->refs++;
    return g->snap;
  }
  wait->need = atomic_load(&g->ch->chan->next_offset);
  lv__snap_job *job = filter ? NULL : g->job;
  if (!job) {
    job = job_new(hl, g, filter, max);
    if (!filter) {
      job->group = g;
      g->job = job;
    }
    lv__late *late = calloc(1, sizeof *late);
    if (!late) abort();
    late->mail.run = late_start;
    late->job = job;
    lv_loop_post(hl->loop, &late->mail);
  }
  wait_add(job, wait);
  return NULL;
}
