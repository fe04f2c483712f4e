/* elog_append.c: the hot path: appending batches and syncing.
 *
 * Per record: an array lookup for its channel, the next offset, lsn and CRC patched in place, one
 * word into the index. Per call: one pwritev of all batches that fit the open segment. The index is
 * updated only once the write has succeeded, so readers never see what is not in the file.
 *
 * A failed write may leave bytes behind the end. They would be valid records at valid addresses, so
 * before anything else is appended they are zeroed and the zeros are synced: otherwise a power loss
 * could keep the new record and bring back an old one behind it.
 *
 * @thread writer, except run (sync thread). */
#include "broker/embedded/elog_int.h"
#include <stdlib.h>

enum { RUN_MAX = 256 };

/* Gives each record its place. Only next_w of the channels changes, so it can be undone. */
static int stamp(lv_elog *l, lv_batch *batch, uint64_t lsn) {
  for (lv_rec *r = lv_batch_first(batch); r; r = lv_batch_next(batch, r)) {
    r->lsn = lsn;
    r->offset = 0;
    if (r->kind == LV_REC_MSG) {
      lv__chan *c = r->chan < LV_ELOG_CHAN_MAX ? lv__chan_at(l, r->chan, true) : NULL;
      if (!c) return LV_E_INVALID;
      r->offset = c->next_w++;
    }
    lv_rec_seal(r);
    lsn += r->size;
  }
  return 0;
}

static void unstamp(lv_elog *l, lv_batch *const *batches, uint32_t n) {
  for (uint32_t i = 0; i < n; i++)
    for (const lv_rec *r = lv_batch_first(batches[i]); r; r = lv_batch_next(batches[i], r)) {
      lv__chan *c = r->kind == LV_REC_MSG && r->chan < LV_ELOG_CHAN_MAX
                        ? lv__chan_at(l, r->chan, false)
                        : NULL;
      if (c) c->next_w = c->next;
    }
}

/* Enters what was written into the index; from here on readers see it. */
static void publish(lv_elog *l, lv_elog_seg *seg, lv_batch *const *batches, uint32_t n,
                    uint64_t lsn) {
  (void)pthread_mutex_lock(&l->mu);
  for (uint32_t i = 0; i < n; i++) {
    for (const lv_rec *r = lv_batch_first(batches[i]); r; r = lv_batch_next(batches[i], r))
      lv__mem_add(l, seg, r);
    lsn += batches[i]->bytes;
    batches[i]->lsn_end = lsn;
  }
  atomic_store_explicit(&l->end, lsn, memory_order_release);
  (void)pthread_mutex_unlock(&l->mu);
}

/* Zeroes what a failed write may have left behind the end. */
static int zero_tail(lv_elog *l) {
  lv_elog_seg *seg = lv__open_seg(l);
  uint64_t from = lv__pos_of(seg, lv_elog_end(l)), to = lv__pos_of(seg, l->dirty_upto);
  uint64_t size;
  int rc = l->disk->ops->size(l->disk, seg->fd, &size);
  to = lv__min(to, rc == 0 ? size : to);
  if (rc == 0 && to > from) {
    struct iovec iov = {calloc(1, (size_t)(to - from)), (size_t)(to - from)};
    if (!iov.iov_base) return LV_E_NOMEM;
    rc = l->disk->ops->write(l->disk, seg->fd, &iov, 1, from);
    free(iov.iov_base);
  }
  return rc;
}

/* The same, durably. */
static int clean_tail(lv_elog *l) {
  lv_elog_seg *seg = lv__open_seg(l);
  int rc = zero_tail(l);
  if (rc == 0) rc = lv__sync_files(l, &seg->fd, 1, false);
  if (rc == 0) l->dirty_upto = 0;
  return rc;
}

/* Writes as many batches as fit the open segment with one call. ret_n: how many. */
static int append_run(lv_elog *l, lv_batch *const *batches, uint32_t n, uint32_t *ret_n) {
  lv_elog_seg *seg = lv__open_seg(l);
  uint64_t start = lv_elog_end(l), end = start, limit = seg->base + seg->cap - LV_ELOG_HEAD;
  struct iovec iov[RUN_MAX];
  uint32_t i = 0;
  int rc = 0;
  for (; i < n && i < RUN_MAX && end + batches[i]->bytes <= limit; i++) {
    assert(batches[i]->bytes % LV_REC_ALIGN == 0 && batches[i]->bytes > 0);
    if ((rc = stamp(l, batches[i], end)) < 0) {
      unstamp(l, batches, i + 1);
      return rc;
    }
    iov[i] = (struct iovec){(void *)(uintptr_t)batches[i]->start, batches[i]->bytes};
    end += batches[i]->bytes;
  }
  assert(i > 0);
  rc = l->disk->ops->write(l->disk, seg->fd, iov, (int)i, lv__pos_of(seg, start));
  if (rc < 0) {
    unstamp(l, batches, i);
    l->dirty_upto = lv__max(l->dirty_upto, end);
    (void)zero_tail(l); /* what is refused now must not be there after a kill -9 */
    return rc;
  }
  publish(l, seg, batches, i, start);
  *ret_n = i;
  return 0;
}

/* The next segment; an empty one that is too small for a large batch grows instead. */
static int make_room(lv_elog *l, uint64_t end, uint64_t need) {
  lv_elog_seg *seg = lv__open_seg(l);
  if (end > seg->base) return lv__seg_switch(l, end, end, need);
  (void)pthread_mutex_lock(&l->mu);
  seg->cap = need + LV_ELOG_HEAD;
  (void)pthread_mutex_unlock(&l->mu);
  return 0;
}

int lv_elog_append(lv_elog *l, lv_batch *const *batches, uint32_t n, uint32_t *ret_n) {
  (void)lv__elog(l);
  uint32_t done = 0;
  int rc = l->note_due && !lv_elog_broken(l) ? lv__note_open(l) : 0;
  while (rc == 0 && done < n) {
    if (atomic_load_explicit(&l->broken, memory_order_relaxed)) {
      rc = LV_E_IO;
      break;
    }
    if (l->dirty_upto && (rc = clean_tail(l)) < 0) break;
    lv_elog_seg *seg = lv__open_seg(l);
    uint64_t end = lv_elog_end(l), used = lv__pos_of(seg, end);
    uint64_t room = used < seg->cap ? seg->cap - used : 0;
    if (batches[done]->bytes > room && (rc = make_room(l, end, batches[done]->bytes)) < 0) break;
    uint32_t got = 0;
    if ((rc = append_run(l, batches + done, n - done, &got)) < 0) break;
    done += got;
  }
  *ret_n = done;
  return rc;
}

uint64_t lv_elog_end(const lv_elog *l) {
  return atomic_load_explicit(&l->end, memory_order_acquire);
}
uint64_t lv_elog_synced(const lv_elog *l) {
  return atomic_load_explicit(&l->synced, memory_order_acquire);
}
bool lv_elog_broken(const lv_elog *l) {
  return atomic_load_explicit(&l->broken, memory_order_acquire);
}

bool lv_elog_sync_begin(lv_elog *l, lv_elog_sync *ret) {
  (void)lv__elog(l);
  uint64_t end = lv_elog_end(l), synced = lv_elog_synced(l);
  if (synced >= end || lv_elog_broken(l)) return false;
  *ret = (lv_elog_sync){.upto = end, .dir = l->dir_dirty};
  (void)pthread_mutex_lock(&l->mu);
  uint32_t i = l->n_segs - 1;
  while (i > 0 && l->segs[i - 1]->end > synced) i--;
  for (; i < l->n_segs && ret->n < LV_ELOG_SYNC_FILES; i++) {
    ret->fd[ret->n++] = l->segs[i]->fd;
    ret->upto = i + 1 < l->n_segs ? l->segs[i]->end : end;
  }
  (void)pthread_mutex_unlock(&l->mu);
  l->dir_dirty = false;
  return true;
}

int lv__sync_files(lv_elog *l, const int *fds, uint32_t n, bool dir) {
  (void)pthread_mutex_lock(&l->sync_mu);
  int rc = lv_elog_broken(l) ? LV_E_IO : 0;
  for (uint32_t i = 0; rc == 0 && i < n; i++) rc = l->disk->ops->sync(l->disk, fds[i]);
  if (rc == 0 && dir) rc = l->disk->ops->sync_dir(l->disk);
  if (rc < 0) atomic_store(&l->broken, true);
  (void)pthread_mutex_unlock(&l->sync_mu);
  return rc;
}

void lv_elog_sync_run(lv_elog *l, lv_elog_sync *s) {
  s->err = lv__sync_files(lv__elog(l), s->fd, s->n, s->dir);
}

/* Leaves a mark now and then, and one at the end of each segment that is whole on disk. */
static void leave_marks(lv_elog *l, uint64_t before, uint64_t synced) {
  uint32_t i = l->n_segs - 1;
  while (i > 0 && l->segs[i - 1]->end > before) i--;
  for (; i < l->n_segs; i++) {
    lv_elog_seg *seg = l->segs[i];
    bool open = i + 1 == l->n_segs;
    if (!open && seg->end <= synced && seg->mark < seg->end)
      lv__mark_write(seg, seg->end);
    else if (open && synced > seg->base && synced - lv__max(seg->mark, seg->base) >= LV__MARK_EVERY)
      lv__mark_write(seg, synced);
  }
}

int lv_elog_sync_finish(lv_elog *l, lv_elog_sync *s) {
  (void)lv__elog(l);
  if (s->err != 0) {
    atomic_store(&l->broken, true);
    if (s->dir) l->dir_dirty = true;
  }
  if (lv_elog_broken(l)) return LV_E_IO;
  uint64_t before = lv_elog_synced(l);
  if (s->upto > before) {
    atomic_store_explicit(&l->synced, s->upto, memory_order_release);
    leave_marks(l, before, s->upto);
  }
  return 0;
}
