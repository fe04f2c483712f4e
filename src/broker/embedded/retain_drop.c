/* retain_drop.c: what channels retain, and dropping the segments in which nothing is.
 *
 * Units are looked at from the newest segment to the oldest, so that size adds up from the end. A
 * unit that the age limit cuts through is searched by halving, a few reads a channel and
 * READS_MAX a job; without budget it stays whole until the next job.
 *
 * A state record is dead when a newer one of its key is in the log; before a file with the older
 * one goes, the newer one must be on disk, whatever the log's durability: lv__sync_now. A deleted
 * key's last record (empty value) stays while there is any older segment, in which a value of the
 * key could come back to life.
 *
 * @thread housekeeper */
#include "broker/embedded/elog_int.h"
#include <stdio.h>
#include <stdlib.h>

enum { READS_MAX = 2048, STATE_STEP = 64, STATE_READ = 256 * 1024 };

static lv__jobchan *chan_of(lv_elog_job *job, uint32_t chan) {
  return chan > 0 && chan < job->n_chans ? &job->chans[chan] : NULL;
}

static void limit_by_unit(const lv_elog_job *job, lv__jobchan *j, const lv__dir *d) {
  uint64_t behind = d->first + d->count;
  if (behind <= j->new_first) return;
  if (j->keep_bytes) {
    uint64_t room = j->keep_bytes - j->acc_bytes, each = d->bytes / d->count;
    if (d->bytes > room) {
      j->new_first = lv__max(j->new_first, behind - lv__min(d->count, room / lv__max(each, 1)));
      j->acc_bytes = j->keep_bytes;
    } else {
      j->acc_bytes += d->bytes;
    }
  }
  if (j->keep_ms) {
    int64_t cut = job->now.ns - (int64_t)lv__min(j->keep_ms, INT64_MAX / 2000000) * 1000000;
    if (d->newest_ns < cut) {
      j->new_first = lv__max(j->new_first, behind);
    } else if (d->oldest_ns < cut) {
      j->probe_lo = d->first; /* the oldest such unit is looked at last, and stays */
      j->probe_hi = behind;
    }
  }
}

/* First offset in [lo, hi) whose record is not older than the limit; hi when there is none. */
static uint64_t probe(lv_elog *l, uint32_t chan, uint64_t lo, uint64_t hi, int64_t cut,
                      uint32_t *reads) {
  while (lo < hi && *reads < READS_MAX) {
    uint64_t mid = lo + (hi - lo) / 2;
    lv_elog_at at;
    lv_block *b;
    const lv_rec *rec;
    ++*reads;
    if (lv_elog_find_offset(l, chan, mid, &at) < 0) return lo;
    int rc = at.offset == mid ? lv_elog_pread(l, &at, &b, &rec) : LV_E_GONE;
    lv_elog_release(&at, 1);
    if (rc < 0) return lo;
    if (rec->ingest_ns < cut)
      lo = mid + 1;
    else
      hi = mid;
    lv_block_unref(b);
  }
  return lo;
}

void lv__retain_firsts(lv_elog *l, lv_elog_job *job) {
  uint32_t reads = 0;
  for (uint32_t i = 1; i < job->n_chans; i++) {
    lv__jobchan *j = &job->chans[i];
    j->new_first = j->first;
    if (j->next == 0) continue;
    if (!job->policy.policy(job->policy.arg, i, &j->keep_ms, &j->keep_bytes, &j->keep_count)) {
      j->new_first = j->next;
      j->keep_ms = j->keep_bytes = 0;
    } else if (j->keep_count && j->next - j->first > j->keep_count) {
      j->new_first = j->next - j->keep_count;
    }
  }
  for (uint32_t i = job->n_views; i > 0; i--) {
    const lv__view *v = &job->views[i - 1];
    for (uint32_t k = v->n_dir; k > 0; k--) {
      lv__jobchan *j = chan_of(job, v->dir[k - 1].chan);
      if (j && (j->keep_bytes || j->keep_ms)) limit_by_unit(job, j, &v->dir[k - 1]);
    }
  }
  for (uint32_t i = 1; i < job->n_chans; i++) {
    lv__jobchan *j = &job->chans[i];
    int64_t cut = job->now.ns - (int64_t)lv__min(j->keep_ms, INT64_MAX / 2000000) * 1000000;
    uint64_t lo = lv__max(j->probe_lo, j->new_first);
    if (lo < j->probe_hi)
      j->new_first = lv__max(j->new_first, probe(l, i, lo, j->probe_hi, cut, &reads));
  }
  for (uint32_t i = 0; i < job->n_views; i++) {
    lv__view *v = &job->views[i];
    for (uint32_t k = 0; k < v->n_dir; k++) {
      const lv__dir *d = &v->dir[k];
      const lv__jobchan *j = chan_of(job, d->chan);
      if (!j || d->first + d->count <= j->new_first) continue;
      uint64_t kept = d->first + d->count - lv__max(d->first, j->new_first);
      v->live_bytes += d->bytes / d->count * kept;
    }
  }
  const lv__view *open = &job->views[job->n_views - 1];
  if (open->live_bytes == 0 && open->used >= l->first_bytes / 4) job->roll_base = open->seg->base;
}

bool lv__retain_needed(const lv_elog_job *job, const lv_rec *rec, bool older_left) {
  return lv_rec_val(rec).n == 0 ? older_left : job->policy.live(job->policy.arg, rec);
}

/* Of the records at these places; read together where they lie together. */
static int needed_bytes(lv_elog *l, const lv_elog_job *job, const lv_elog_at *at, uint32_t n,
                        bool older_left, uint64_t *bytes) {
  const lv_rec *recs[STATE_STEP];
  for (uint32_t i = 0; i < n;) {
    lv_block *b = NULL;
    int k = lv_elog_pread_many(l, at + i, n - i, STATE_READ, &b, recs), rc = k;
    for (int j = 0; rc >= 0 && j < k; j++) {
      if (!recs[j]) rc = LV_E_CORRUPT;
      if (recs[j] && lv__retain_needed(job, recs[j], older_left)) *bytes += recs[j]->size;
    }
    lv_block_unref(b);
    if (rc < 0) return rc;
    i += (uint32_t)k;
  }
  return 0;
}

static int pseudo_bytes(lv_elog *l, const lv_elog_job *job, const lv__view *v, uint32_t chan,
                        bool older_left, uint64_t *bytes) {
  lv_elog_at at[STATE_STEP];
  uint64_t from = v->seg->base;
  for (;;) {
    int n = lv_elog_find(l, chan, from, v->end, STATE_STEP, at);
    int rc = n > 0 ? needed_bytes(l, job, at, (uint32_t)n, older_left, bytes) : n;
    if (n > 0) from = at[n - 1].lsn + LV_REC_ALIGN;
    if (n > 0) lv_elog_release(at, (uint32_t)n);
    if (rc < 0) return rc;
    if (n < STATE_STEP) return 0;
  }
}

int lv__retain_state_bytes(lv_elog *l, const lv_elog_job *job, const lv__view *v, bool older_left,
                           uint64_t *ret_bytes) {
  uint64_t bytes = 0;
  int rc = pseudo_bytes(l, job, v, LV_ELOG_STATE, older_left, &bytes);
  if (rc == 0) rc = pseudo_bytes(l, job, v, LV_ELOG_RETAINED, older_left, &bytes);
  if (rc == 0) *ret_bytes = bytes;
  return rc;
}

int lv__sync_now(lv_elog *l) {
  enum { MOST = 16 };
  lv_elog_seg *segs[MOST];
  int fds[MOST];
  uint32_t n = 0, i;
  (void)pthread_mutex_lock(&l->mu);
  uint64_t synced = lv_elog_synced(l), end = lv_elog_end(l);
  for (i = l->n_segs - 1; i > 0 && l->segs[i]->base > synced; i--) continue;
  bool all = l->n_segs - i <= MOST;
  for (; all && i < l->n_segs; i++) {
    fds[n] = l->segs[i]->fd;
    segs[n++] = l->segs[i];
    lv__seg_ref(l->segs[i], 1);
  }
  (void)pthread_mutex_unlock(&l->mu);
  if (!all) return LV_E_BUSY; /* the sync thread is far behind: another time */
  int rc = lv__sync_files(l, fds, n, true);
  while (n > 0) lv__seg_unref(segs[--n], 1);
  if (rc == 0) atomic_store(&l->job_synced, end); /* reopen must not go back behind it */
  return rc;
}

/* Removes a dead segment's files, or gives its file another name for later use. */
static int drop_files(lv_elog *l, lv__view *v, bool recycle) {
  lv_disk *d = l->disk;
  char seg[LV__NAME_MAX], idx[LV__NAME_MAX];
  int rc;
  lv__seg_name(l->name, v->seg->base, "seg", seg);
  lv__seg_name(l->name, v->seg->base, "idx", idx);
  if (recycle) {
    lv__seg_name(l->name, v->seg->base, "spare", v->spare);
    rc = d->ops->rename(d, seg, v->spare);
    if (rc < 0) v->spare[0] = 0;
  } else {
    rc = d->ops->remove(d, seg);
  }
  if (rc < 0) return rc;
  v->dropped = true;
  (void)d->ops->remove(d, idx);
  return d->ops->sync_dir(d);
}

static bool sealed_on_disk(const lv__view *v) {
  const lv__idx *idx = v->fresh ? v->fresh : atomic_load(&v->seg->idx);
  return idx && idx->fd >= 0;
}

/* The newest sealed segment stays: it says where those without an index have to begin. */
static bool dead(const lv__view *v) {
  return v->live_bytes == 0 && sealed_on_disk(v) && !v[1].open && sealed_on_disk(&v[1]);
}

/* Whether nothing in it is needed. A damaged state record: nobody can say, so it stays. */
static int droppable(lv_elog *l, const lv_elog_job *job, const lv__view *v, bool older_left,
                     bool *ret_yes) {
  uint64_t state = 0;
  *ret_yes = false;
  if (!dead(v) || v->seg->quiet_until > lv_elog_end(l)) return 0;
  int rc = lv__retain_state_bytes(l, job, v, older_left, &state);
  if (rc == LV_E_CORRUPT) {
    v->seg->quiet_until = UINT64_MAX;
    return 0;
  }
  *ret_yes = rc == 0 && state == 0;
  return rc;
}

int lv__retain_drop(lv_elog *l, lv_elog_job *job) {
  bool older_left = false, safe = false, yes;
  lv_elog_stats st;
  int rc = 0;
  lv_elog_stats_get(l, &st);
  uint32_t recycled = st.spares;
  for (uint32_t i = 0; rc == 0 && i + 2 < job->n_views; i++) {
    lv__view *v = &job->views[i];
    rc = droppable(l, job, v, older_left, &yes);
    if (rc == 0 && yes && !safe && (rc = lv__sync_now(l)) == 0) rc = lv__chans_store(l);
    if (rc < 0 || !yes) {
      older_left = true;
      continue;
    }
    safe = true;
    bool recycle = !job->policy.no_reuse && recycled < LV__SPARES && !v->seg->compacted &&
                   v->seg->cap >= l->segment_bytes && v->seg->cap <= 2 * l->segment_bytes;
    recycled += recycle;
    rc = drop_files(l, v, recycle);
    if (v->dropped && !recycle) job->freed += v->seg->cap;
  }
  return rc;
}
