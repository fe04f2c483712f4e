/* retain.c: housekeeping of a log: a job is planned by the writer, run beside it, applied by the
 * writer again.
 *
 * A job sees the log through views: for each segment, the directory of its index (immutable), or a
 * copy of its memory units taken while planning. What it decides and does to files is safe at any
 * point of a crash; the segment list and the channels change only in apply (first offsets: under
 * the mutex in run, before the files that they justify to remove are removed).
 *
 * @thread see elog.h */
#include "broker/embedded/elog_int.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { PACE_MAX_NS = 20000000 }; /* between two pieces of a new segment */

static void view_copy_units(lv__view *v) {
  uint32_t n = 0;
  v->own = malloc((v->seg->n_units + 1) * sizeof *v->own);
  if (!v->own) abort();
  for (const lv__unit *u = v->seg->units; u; u = u->next)
    if (u->count)
      v->own[n++] = (lv__dir){.chan = u->chan,
                              .count = u->count,
                              .first = u->first,
                              .bytes = u->bytes,
                              .oldest_ns = u->oldest_ns,
                              .newest_ns = u->newest_ns};
  v->dir = v->own;
  v->n_dir = n;
}

static void view_init(lv_elog *l, lv__view *v, lv_elog_seg *seg) {
  v->seg = seg;
  lv__seg_ref(seg, 1);
  v->open = seg == lv__open_seg(l);
  v->end = v->open ? lv_elog_end(l) : seg->end;
  v->used = seg->compacted ? seg->file_end - LV_ELOG_HEAD : v->end - seg->base;
  const lv__idx *idx = atomic_load(&seg->idx);
  if (idx) {
    v->dir = idx->dir;
    v->n_dir = idx->n_dir;
  } else {
    view_copy_units(v);
  }
}

lv_elog_job *lv_elog_job_plan(lv_elog *l, const lv_elog_policy *policy, lv_wall now) {
  (void)lv__elog(l);
  if (l->job_out || lv_elog_broken(l)) return NULL;
  lv_elog_seg *open = lv__open_seg(l);
  uint64_t end = lv_elog_end(l);
  if (l->n_segs == 1 && end == open->base) return NULL;
  if (l->roll_base == open->base && end > open->base) (void)lv__seg_switch(l, end, end, 0);
  lv_elog_job *job = calloc(1, sizeof *job);
  if (!job) abort();
  job->policy = *policy;
  job->now = now;
  (void)pthread_mutex_lock(&l->mu);
  job->n_views = l->n_segs;
  job->views = calloc(job->n_views, sizeof *job->views);
  job->n_chans = l->chan_top;
  job->chans = calloc((size_t)job->n_chans + 1, sizeof *job->chans);
  if (!job->views || !job->chans) abort();
  for (uint32_t i = 0; i < l->n_segs; i++) view_init(l, &job->views[i], l->segs[i]);
  for (uint32_t i = 1; i < l->chan_top; i++) {
    const lv__chan *c = lv__chan_at(l, i, false);
    if (c) job->chans[i] = (lv__jobchan){.chan = i, .first = c->first, .next = c->next};
  }
  (void)pthread_mutex_unlock(&l->mu);
  l->job_out = true;
  return job;
}

/* Writes the index of a segment that is whole on disk, and one that had to be made anew. */
static int seal(lv_elog *l, lv__view *v) {
  lv_elog_seg *seg = v->seg;
  lv__idx *idx = atomic_load(&seg->idx);
  uint64_t n = 0;
  int rc;
  if (v->open || v->end > lv_elog_synced(l)) return 0;
  if (idx && (idx->fd >= 0 || !idx->image)) return 0;
  uint8_t *image = idx ? idx->image : lv__idx_image(l->name, seg, &n);
  if (idx) n = idx->image_n;
  rc = l->disk->ops->sync(l->disk, seg->fd); /* the mark at its end */
  if (rc == 0) rc = lv__idx_store(l->disk, l->name, seg, image, n);
  if (!idx) free(image);
  if (rc == 0) rc = lv__idx_load(l->disk, l->name, seg, &v->fresh);
  if (rc == 0) {
    v->dir = v->fresh->dir;
    v->n_dir = v->fresh->n_dir;
  }
  return rc;
}

/* From here on readers do not get what is not retained. */
static void advance(lv_elog *l, const lv_elog_job *job) {
  for (uint32_t i = 1; i < job->n_chans; i++) {
    const lv__jobchan *j = &job->chans[i];
    lv_elog_at at = {0};
    if (j->new_first <= j->first) continue;
    bool found = lv_elog_find_offset(l, i, j->new_first - 1, &at) == 0;
    (void)pthread_mutex_lock(&l->mu);
    lv__chan *c = lv__chan_at(l, i, false);
    c->first = lv__max(c->first, j->new_first);
    if (found && at.offset == j->new_first - 1) c->gone_lsn = lv__max(c->gone_lsn, at.lsn + 8);
    (void)pthread_mutex_unlock(&l->mu);
    if (found) lv_elog_release(&at, 1);
  }
}

int lv_elog_job_run(lv_elog *l, lv_elog_job *job) {
  (void)lv__elog(l);
  int rc = 0;
  for (uint32_t i = 0; i < job->n_views; i++) {
    int got = seal(l, &job->views[i]);
    if (got < 0) rc = got;
  }
  lv__retain_firsts(l, job);
  advance(l, job);
  if (rc == 0) rc = lv__retain_drop(l, job);
  if (rc == 0) rc = lv__retain_compact(l, job);
  return rc;
}

static void forget_bytes(lv_elog *l, const lv__view *v) {
  for (uint32_t i = 0; i < v->n_dir; i++) {
    lv__chan *c = lv__chan_at(l, v->dir[i].chan, false);
    if (c) c->bytes -= lv__min(c->bytes, v->dir[i].bytes);
  }
}

static void add_bytes(lv_elog *l, const lv_elog_seg *seg) {
  const lv__idx *idx = atomic_load(&seg->idx);
  for (uint32_t i = 0; i < idx->n_dir; i++) {
    lv__chan *c = lv__chan_at(l, idx->dir[i].chan, false);
    if (c) c->bytes += idx->dir[i].bytes;
  }
}

/* The segment list without what was dropped, the compacted one in place of its group. */
static void swap_segs(lv_elog *l, lv_elog_job *job) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < l->n_segs; i++) {
    lv_elog_seg *seg = l->segs[i];
    const lv__view *v = i < job->n_views ? &job->views[i] : NULL;
    assert(!v || v->seg == seg);
    if (job->packed && v == &job->views[job->group]) l->segs[n++] = job->packed;
    if (v && (v->dropped || v->in_group)) {
      forget_bytes(l, v);
      lv__seg_unref(seg, 1);
    } else {
      l->segs[n++] = seg;
    }
  }
  l->n_segs = n;
  if (job->packed) add_bytes(l, job->packed);
}

/* A dropped segment's file is a spare if nobody reads from it any more. */
static void recycle(lv_elog *l, lv__view *v) {
  bool unused = atomic_load(&v->seg->refs) == 1; /* ours; there is no way to get a new one */
  if (!v->spare[0]) return;
  (void)pthread_mutex_lock(&l->mu);
  bool take = unused && l->n_spares < LV__SPARES;
  if (take) {
    lv__spare *s = &l->spares[l->n_spares++];
    memcpy(s->name, v->spare, sizeof s->name);
    s->cap = v->seg->cap;
  }
  (void)pthread_mutex_unlock(&l->mu);
  if (!take) (void)l->disk->ops->remove(l->disk, v->spare);
}

static void job_free(lv_elog *l, lv_elog_job *job) {
  for (uint32_t i = 0; i < job->n_views; i++) {
    lv__seg_unref(job->views[i].seg, 1);
    free(job->views[i].own);
  }
  free(job->views);
  free(job->chans);
  free(job);
  l->job_out = false;
}

int lv_elog_job_apply(lv_elog *l, lv_elog_job *job, uint64_t *ret_freed) {
  (void)lv__elog(l);
  assert(l->job_out);
  (void)pthread_mutex_lock(&l->mu);
  for (uint32_t i = 0; i < job->n_views; i++) {
    lv__view *v = &job->views[i];
    if (!v->fresh) continue;
    v->fresh->older = atomic_load(&v->seg->idx);
    atomic_store(&v->seg->idx, v->fresh);
    lv__mem_drop(l, v->seg);
  }
  swap_segs(l, job);
  l->roll_base = job->roll_base;
  (void)pthread_mutex_unlock(&l->mu);
  for (uint32_t i = 0; i < job->n_views; i++)
    if (job->views[i].dropped) recycle(l, &job->views[i]);
  if (ret_freed) *ret_freed = job->freed;
  job_free(l, job);
  return 0;
}

void lv_elog_job_cancel(lv_elog *l, lv_elog_job *job) {
  (void)lv__elog(l);
  if (!job) return;
  for (uint32_t i = 0; i < job->n_views; i++) lv__idx_free(l->disk, job->views[i].fresh);
  lv__seg_unref(job->packed, job->packed != NULL);
  job_free(l, job);
}

bool lv_elog_needs_next(lv_elog *l) {
  (void)lv__elog(l);
  (void)pthread_mutex_lock(&l->mu);
  const lv_elog_seg *seg = lv__open_seg(l);
  uint64_t used = lv_elog_end(l) - seg->base;
  bool needs = l->n_spares == 0 && used > 0 && used >= seg->cap / 8;
  (void)pthread_mutex_unlock(&l->mu);
  return needs;
}

/* A new file is zeroed beside the log's own writes and syncs: a fifth of the disk's time is enough
 * while there is room in the open segment (at full speed each commit would wait some 20 ms). */
static void pace(void *arg, uint64_t took_ns) {
  lv_elog *l = arg;
  (void)pthread_mutex_lock(&l->mu);
  const lv_elog_seg *seg = lv__open_seg(l);
  bool hurry = atomic_load(&l->hurry) || lv_elog_end(l) - seg->base > seg->cap / 2;
  (void)pthread_mutex_unlock(&l->mu);
  uint64_t ns = took_ns * 4 < PACE_MAX_NS ? took_ns * 4 : PACE_MAX_NS;
  if (!hurry) (void)nanosleep(&(struct timespec){.tv_nsec = (long)ns}, NULL);
}

void lv_elog_hurry(lv_elog *l) {
  (void)lv__elog(l);
  atomic_store(&l->hurry, true);
}

int lv_elog_prepare_next(lv_elog *l) {
  (void)lv__elog(l);
  lv_disk *d = l->disk;
  lv__spare s = {0};
  int fd, rc;
  (void)pthread_mutex_lock(&l->mu);
  bool full = l->n_spares >= LV__SPARES;
  s.cap = lv__next_cap(l);
  uint64_t seq = lv__random(l);
  (void)pthread_mutex_unlock(&l->mu);
  if (full) return 0;
  lv__seg_name(l->name, seq, "spare", s.name);
  if ((rc = d->ops->open(d, s.name, true, &fd)) < 0) return rc;
  rc = d->ops->prepare(d, fd, s.cap, pace, l);
  d->ops->close(d, fd);
  if (rc < 0) {
    (void)d->ops->remove(d, s.name);
    return rc;
  }
  (void)pthread_mutex_lock(&l->mu);
  l->spares[l->n_spares++] = s;
  (void)pthread_mutex_unlock(&l->mu);
  return 0;
}
