/* retain_compact.c: neighbouring segments that are mostly dead become one that holds what lives.
 *
 * A group is a run of sealed segments that are mostly dead or small. What is needed is copied, same
 * lsns, one behind the other, into NAME-<base>.seg.tmp; synced; renamed over the first segment of
 * the group (the point of no return: its head says which range it covers, so that recovery knows
 * the others as leftovers); then the others are removed and the index is written. Its index has the
 * file's random gen, so an index of the old file is never believed.
 *
 * A segment that was looked at and left alone is not looked at again before the log has grown by
 * half a segment. A damaged segment is never compacted: what is left of it stays as it is.
 *
 * @thread housekeeper */
#include "broker/embedded/elog_int.h"
#include "core/time.h"
#include <stdio.h>
#include <stdlib.h>

enum { GROUP_MAX = 16, WORTH_MERGING = 8 };

typedef struct packer {
  lv_elog *l;
  const lv_elog_job *job;
  lv_elog_seg *seg; /* the new one */
  bool older_left;
  uint8_t *buf;
  uint32_t n;
  uint64_t at;
} packer;

static bool small(const lv_elog *l, const lv__view *v) {
  return v->used < l->segment_bytes / 8;
}

static bool candidate(const lv_elog *l, const lv__view *v) {
  if (v->open || v->dropped || v->fresh || !atomic_load(&v->seg->idx)) return false;
  if (v->seg->quiet_until > lv_elog_end(l)) return false;
  return v->live_bytes < v->used / 2 || (small(l, v) && v->seg->compacted);
}

/* The first run of candidates that is worth the copying; ret_n 0: none. */
static int choose(lv_elog *l, lv_elog_job *job, uint32_t *ret_first, uint32_t *ret_n) {
  *ret_n = 0;
  for (uint32_t i = 0; i < job->n_views; i++) {
    uint64_t live = 0, used = 0, base = job->views[i].seg->base;
    uint32_t n = 0;
    while (i + n < job->n_views && n < GROUP_MAX && candidate(l, &job->views[i + n]) &&
           job->views[i + n].end - base <= LV__SEG_SPAN_MAX) {
      const lv__view *v = &job->views[i + n];
      uint64_t state = 0;
      int rc = lv__retain_state_bytes(l, job, v, i > 0, &state);
      if (rc == LV_E_CORRUPT) v->seg->quiet_until = UINT64_MAX;
      if (rc == LV_E_CORRUPT) break;
      if (rc < 0) return rc;
      if (n > 0 && live + state + v->live_bytes > l->segment_bytes) break;
      live += state + v->live_bytes;
      used += v->used;
      n++;
    }
    if (n > 0 && used > 0 && (live < used / 2 || n >= WORTH_MERGING)) {
      *ret_first = i;
      *ret_n = n;
      return 0;
    }
    for (uint32_t k = 0; k < n; k++)
      if (job->views[i + k].seg->quiet_until != UINT64_MAX)
        job->views[i + k].seg->quiet_until = lv_elog_end(l) + l->segment_bytes / 2;
    i += n > 1 ? n - 1 : 0;
  }
  return 0;
}

static int flush(packer *p) {
  struct iovec iov = {p->buf, p->n};
  int rc = p->n ? p->seg->disk->ops->write(p->seg->disk, p->seg->fd, &iov, 1, p->at) : 0;
  p->at += p->n;
  p->n = 0;
  return rc;
}

static int pack(packer *p, const lv_rec *rec) {
  const lv__jobchan *j =
      lv__rec_usable(rec) && rec->chan < p->job->n_chans ? &p->job->chans[rec->chan] : NULL;
  bool kept = j && rec->offset >= j->new_first, state = false, retained = false;
  if (lv__rec_state(rec)) state = lv__retain_needed(p->job, rec, p->older_left);
  if (lv__rec_retained(rec)) retained = lv__retain_needed(p->job, rec, p->older_left);
  if (!kept && !state && !retained) return 0;
  uint64_t pos = p->at + p->n;
  if (kept) lv__mem_add_packed(p->seg, rec->chan, rec, pos);
  if (state) lv__mem_add_packed(p->seg, LV_ELOG_STATE, rec, pos);
  if (retained) lv__mem_add_packed(p->seg, LV_ELOG_RETAINED, rec, pos);
  if (p->n + rec->size > LV__SCAN_BUF) {
    int rc = flush(p);
    if (rc < 0) return rc;
  }
  if (rec->size > LV__SCAN_BUF) {
    struct iovec iov = {(void *)(uintptr_t)rec, rec->size};
    int rc = p->seg->disk->ops->write(p->seg->disk, p->seg->fd, &iov, 1, p->at);
    p->at += rec->size;
    return rc;
  }
  memcpy(p->buf + p->n, rec, rec->size);
  p->n += rec->size;
  return 0;
}

static int pack_segment(packer *p, const lv__view *v) {
  lv__scan s;
  const lv_rec *rec;
  uint64_t pos;
  int rc, put = 0;
  lv__scan_init(&s, v->seg, LV_ELOG_HEAD + v->used, v->end);
  while (put == 0 && (rc = lv__scan_next(&s, &rec, &pos)) == 1) put = pack(p, rec);
  if (put == 0 && rc == 0 && s.pos < s.limit) put = LV_E_CORRUPT;
  if (put == 0 && rc < 0) put = rc;
  lv__scan_done(&s);
  return put;
}

static int pack_group(packer *p, uint32_t first, uint32_t n) {
  int rc = 0;
  for (uint32_t i = first; rc == 0 && i < first + n; i++) {
    if (p->job->views[i].dropped) continue;
    rc = pack_segment(p, &p->job->views[i]);
    if (rc == LV_E_CORRUPT) p->job->views[i].seg->quiet_until = UINT64_MAX;
  }
  if (rc == 0) rc = flush(p);
  p->seg->file_end = p->seg->cap = p->at;
  if (rc == 0) rc = lv__head_write(p->seg->disk, p->seg->fd, p->l->name, p->seg);
  if (rc == 0) rc = p->seg->disk->ops->sync(p->seg->disk, p->seg->fd);
  return rc;
}

static lv_elog_seg *packed_new(lv_elog *l, const lv__view *first, const lv__view *last, int fd) {
  lv_elog_seg *seg = lv__seg_new(l->disk, fd, first->seg->base);
  seg->compacted = seg->head_ok = true;
  seg->prev_end = first->seg->prev_end;
  seg->end = last->end;
  seg->gen = lv__random(l);
  memcpy(seg->epoch, last->seg->epoch, sizeof seg->epoch);
  seg->quiet_until = lv_elog_end(l) + l->segment_bytes / 2;
  return seg;
}

/* Puts the new file in the place of the group's. */
static int replace(lv_elog *l, lv_elog_job *job, lv_elog_seg *seg, const char *tmp, uint32_t first,
                   uint32_t n) {
  lv_disk *d = l->disk;
  char name[LV__NAME_MAX];
  uint64_t size;
  lv__seg_name(l->name, seg->base, "seg", name);
  uint8_t *image = lv__idx_image(l->name, seg, &size);
  lv__idx *idx = NULL;
  int rc = d->ops->rename(d, tmp, name);
  if (rc < 0) {
    free(image);
    return rc;
  }
  /* From here on the new file counts, also if something below fails. */
  rc = d->ops->sync_dir(d);
  for (uint32_t i = first; i < first + n; i++) {
    lv__view *v = &job->views[i];
    if (v->dropped) continue;
    v->in_group = true;
    job->freed += v->seg->cap;
    if (rc < 0 || i == first) continue;
    lv__seg_name(l->name, v->seg->base, "idx", name);
    (void)d->ops->remove(d, name);
    lv__seg_name(l->name, v->seg->base, "seg", name);
    rc = d->ops->remove(d, name);
  }
  if (rc == 0) rc = lv__idx_store(d, l->name, seg, image, size);
  if (rc == 0) rc = lv__idx_load(d, l->name, seg, &idx);
  if (idx)
    free(image);
  else if (lv__idx_of_image(image, size, seg, &idx) < 0)
    abort();
  atomic_store(&seg->idx, idx);
  lv__mem_free(seg);
  job->freed -= lv__min(job->freed, seg->cap);
  job->group = first;
  job->group_n = n;
  job->packed = seg;
  return rc;
}

int lv__retain_compact(lv_elog *l, lv_elog_job *job) {
  uint32_t first = 0, n = 0;
  char tmp[LV__NAME_MAX];
  int fd, rc = choose(l, job, &first, &n);
  if (rc < 0 || n == 0) return rc;
  lv__seg_name(l->name, job->views[first].seg->base, "seg.tmp", tmp);
  if ((rc = l->disk->ops->open(l->disk, tmp, true, &fd)) < 0) return rc;
  if ((rc = l->disk->ops->truncate(l->disk, fd, 0)) < 0) {
    l->disk->ops->close(l->disk, fd);
    return rc;
  }
  packer p = {.l = l, .job = job, .at = LV_ELOG_HEAD};
  p.seg = packed_new(l, &job->views[first], &job->views[first + n - 1], fd);
  for (uint32_t i = 0; i < first; i++) p.older_left |= !job->views[i].dropped;
  if (!(p.buf = malloc(LV__SCAN_BUF))) abort();
  rc = pack_group(&p, first, n);
  free(p.buf);
  if (rc == 0) rc = lv__sync_now(l); /* what supersedes the dead must be on disk */
  if (rc == 0) rc = lv__chans_store(l);
  if (rc == 0) rc = replace(l, job, p.seg, tmp, first, n);
  if (!job->packed) {
    (void)l->disk->ops->remove(l->disk, tmp);
    lv__seg_unref(p.seg, 1);
    if (rc == LV_E_CORRUPT) rc = 0; /* left as it is */
  }
  return rc;
}
