/* recover_tail.c: the segments whose index was not written yet, at start and after a failed sync.
 *
 * They are scanned from the front. The first record that does not verify ends the log (the torn
 * tail; a later segment must begin where this one ended, or it goes too), unless it lies below the
 * synced mark: then it is damage, counted, and the scan goes on behind it. What is kept and not
 * known to be synced is written again before it is synced: a page whose write-back failed once
 * looks clean to Linux, and a sync of it would prove nothing. What lies behind the end is zeroed,
 * so that no later crash can bring back records from there.
 *
 * @thread main, or writer with nothing in flight */
#include "broker/embedded/elog_int.h"
#include <stdlib.h>

static bool is_clean_note(const lv_rec *rec) {
  return rec->kind == LV_REC_NOTE && lv_slice_eq(lv_rec_topic(rec), LV_SLICE("clean"));
}

/* Where the records of segment i end at most, if nothing is torn: where the next one says. */
static uint64_t end_by_next(const lv_elog *l, uint32_t i) {
  const lv_elog_seg *seg = l->segs[i], *next = i + 1 < l->n_segs ? l->segs[i + 1] : NULL;
  uint64_t room = seg->cap < LV_ELOG_HEAD ? seg->base : seg->base + seg->cap - LV_ELOG_HEAD;
  if (!next) return room;
  uint64_t end = next->head_ok ? next->prev_end : next->base;
  return end < seg->base ? room : lv__min(end, room);
}

static void enter(lv_elog *l, lv_elog_seg *seg, const lv_rec *r) {
  (void)pthread_mutex_lock(&l->mu);
  lv__mem_add(l, seg, r);
  (void)pthread_mutex_unlock(&l->mu);
}

/* Finds the segment's end; from: its index knows everything before. */
static int scan_one(lv_elog *l, lv_elog_seg *seg, uint64_t from, uint64_t limit, uint64_t trusted,
                    lv_elog_recovery *rec) {
  lv__scan s;
  const lv_rec *r;
  uint64_t pos;
  int rc;
  lv__scan_init(&s, seg, seg->cap, limit);
  s.lsn = lv__max(from, seg->base);
  s.pos = lv__pos_of(seg, s.lsn);
  for (;;) {
    while ((rc = lv__scan_next(&s, &r, &pos)) == 1) {
      if (from == 0) enter(l, seg, r);
      rec->records++;
      rec->bytes += r->size;
      rec->clean = is_clean_note(r);
    }
    if (rc < 0 || s.lsn >= trusted) break;
    uint64_t bad = s.lsn;
    rc = lv__scan_resync(&s);
    if (rc == 1 && s.lsn < trusted) {
      rec->damaged_bytes += s.lsn - bad;
      continue;
    }
    rec->damaged_bytes += trusted - bad;
    s.lsn = trusted;
    break;
  }
  lv__scan_done(&s);
  if (rc < 0) return rc;
  seg->end = s.lsn;
  return 0;
}

/* Removes the segments from index i on. */
static int drop_from(lv_elog *l, uint32_t i, lv_elog_recovery *rec) {
  while (l->n_segs > i) {
    lv_elog_seg *seg = lv__open_seg(l);
    char name[LV__NAME_MAX];
    lv__seg_name(l->name, seg->base, "seg", name);
    int rc = l->disk->ops->remove(l->disk, name);
    if (rc < 0 && rc != LV_E_NOT_FOUND) return rc;
    rec->torn_bytes += seg->end > seg->base ? seg->end - seg->base : seg->cap;
    (void)pthread_mutex_lock(&l->mu);
    seg->end = seg->base;
    lv__mem_truncate(l, seg);
    lv__mem_drop(l, seg);
    l->n_segs--;
    (void)pthread_mutex_unlock(&l->mu);
    lv__seg_unref(seg, 1);
    l->dir_dirty = true;
  }
  return 0;
}

/* Whether segment i goes on where the one before ended. A damaged head cannot say; then records at
 * the right addresses can (which are not behind a hole: the first one is there). */
static bool chained(const lv_elog *l, uint32_t i, const lv__tail *t, bool scanned) {
  const lv_elog_seg *seg = l->segs[i];
  if (seg->base < t->trusted) return true;
  if (seg->base > t->limit) return false;
  if (seg->head_ok) return i == 0 || seg->prev_end == l->segs[i - 1]->end;
  if (!scanned) return true;
  return seg->end > seg->base &&
         (i == 0 || seg->base == l->segs[i - 1]->end || seg->base % LV__EPOCH_STEP == 0);
}

static int write_again(lv_disk *d, int fd, uint64_t pos, uint64_t end) {
  uint8_t *buf = malloc(LV__SCAN_BUF);
  int rc = 0;
  if (!buf) abort();
  while (rc == 0 && pos < end) {
    uint32_t n = (uint32_t)lv__min(end - pos, LV__SCAN_BUF);
    int64_t got = d->ops->read(d, fd, buf, n, pos);
    struct iovec iov = {buf, n};
    rc = got < 0 ? (int)got : got < n ? LV_E_IO : d->ops->write(d, fd, &iov, 1, pos);
    pos += n;
  }
  free(buf);
  return rc;
}

/* Makes segments from i on as durable as they look: also after a clean close, whose note may be in
 * the cache only. Then nothing lies behind it, at least. */
static int settle_from(lv_elog *l, uint32_t i, uint64_t trusted, lv_elog_recovery *rec) {
  lv_disk *d = l->disk;
  int rc = 0;
  for (; rc == 0 && i < l->n_segs; i++) {
    lv_elog_seg *seg = l->segs[i];
    uint64_t from = lv__max(seg->base, lv__min(trusted, seg->end)), torn = 0;
    if (!seg->head_ok || !seg->mark) {
      if (!seg->head_ok && i > 0) memcpy(seg->epoch, l->segs[i - 1]->epoch, sizeof seg->epoch);
      if (!seg->head_ok) seg->prev_end = i > 0 ? l->segs[i - 1]->end : seg->base;
      if (!seg->head_ok) seg->gen = lv__random(l);
      rc = lv__head_write(d, seg->fd, l->name, seg);
      seg->head_ok = true;
    }
    if (rc == 0) rc = write_again(d, seg->fd, lv__pos_of(seg, from), lv__pos_of(seg, seg->end));
    if (rc == 0 && i + 1 == l->n_segs && !rec->clean)
      rc = lv__zero_rest(d, seg->fd, lv__pos_of(seg, seg->end), &torn);
    if (rc == 0) rc = d->ops->sync(d, seg->fd);
    rec->torn_bytes += torn;
  }
  if (rc == 0) rc = d->ops->sync_dir(d);
  if (rc == 0) l->dir_dirty = false;
  return rc;
}

int lv__recover_tail(lv_elog *l, const lv__tail *t, lv_elog_recovery *rec) {
  uint32_t first = l->n_segs;
  int rc = 0;
  while (first > 0 && !atomic_load(&l->segs[first - 1]->idx)) first--;
  rec->clean = false;
  for (uint32_t i = first; rc == 0 && i < l->n_segs; i++) {
    lv_elog_seg *seg = l->segs[i];
    uint64_t own = lv__min(lv__min(t->trusted, t->limit), end_by_next(l, i));
    bool scan = t->from == 0 || i + 1 == l->n_segs || seg->end > t->from;
    bool ok = chained(l, i, t, false);
    if (ok && scan) rc = scan_one(l, seg, t->from, t->limit, own, rec);
    if (rc == 0 && ok) rc = lv__drop_overlapped(l, i);
    if (rc == 0 && (!ok || !chained(l, i, t, true))) rc = drop_from(l, i, rec);
  }
  if (rc < 0) return rc;
  if (t->from) {
    (void)pthread_mutex_lock(&l->mu);
    for (uint32_t i = first; i < l->n_segs; i++) lv__mem_truncate(l, l->segs[i]);
  }
  if (l->n_segs > 0) atomic_store(&l->end, lv__open_seg(l)->end);
  if (t->from) (void)pthread_mutex_unlock(&l->mu);
  if (first < l->n_segs)
    rc = settle_from(l, first, t->trusted, rec);
  else if (l->dir_dirty && (rc = l->disk->ops->sync_dir(l->disk)) == 0)
    l->dir_dirty = false;
  return rc;
}
