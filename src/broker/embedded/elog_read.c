/* elog_read.c: finding and reading records, beside the writer.
 *
 * The mutex is held only to look up the segment list and to copy places out of memory units; the
 * entries of index files and the records themselves are read outside it, from segments that are
 * referenced meanwhile (a place keeps its reference until it is released).
 *
 * @thread any. */
#include "broker/embedded/elog_int.h"
#include <stdlib.h>

enum { READ_AHEAD = 8192, AHEAD = 2 << 20 };

static uint64_t seg_end(const lv_elog *l, const lv_elog_seg *seg) {
  return seg == lv__open_seg(l) ? lv_elog_end(l) : seg->end;
}

/* The first segment that ends behind `lsn`, referenced; NULL: none. With ret_end, under mu. */
static lv_elog_seg *seg_at(lv_elog *l, uint64_t lsn, uint64_t *ret_end) {
  uint32_t lo = 0, hi = l->n_segs;
  while (lo < hi) {
    uint32_t mid = (lo + hi) / 2;
    if (seg_end(l, l->segs[mid]) <= lsn)
      lo = mid + 1;
    else
      hi = mid;
  }
  if (lo == l->n_segs) return NULL;
  lv__seg_ref(l->segs[lo], 1);
  *ret_end = seg_end(l, l->segs[lo]);
  return l->segs[lo];
}

/* Places in one segment whose index is in memory, oldest first. */
static uint32_t mem_find(const lv__unit *u, const lv_elog_seg *seg, const lv__want *w,
                         lv_elog_at *ret) {
  const lv__unit *list[64]; /* more than one only around damage */
  uint32_t n_list = 0, n = 0;
  for (; u; u = u->prev)
    if (u->seg == seg && n_list < 64) list[n_list++] = u;
  while (n_list > 0 && n < w->max) {
    lv__want rest = *w;
    rest.max -= n;
    n += lv__mem_find(list[--n_list], &rest, ret + n);
  }
  return n;
}

static int file_find(lv_elog *l, lv_elog_seg *seg, uint32_t chan, const lv__want *w,
                     lv_elog_at *ret) {
  lv__idx *idx = atomic_load(&seg->idx);
  uint32_t unit, behind;
  int n = 0;
  lv__idx_units(idx, chan, &unit, &behind);
  for (; unit < behind && (uint32_t)n < w->max; unit++) {
    lv__want rest = *w;
    rest.max -= (uint32_t)n;
    int got = lv__idx_find(l->disk, seg, idx, unit, &rest, ret + n);
    if (got < 0) return got;
    n += got;
  }
  return n;
}

/* An index file that fails its checksum is made anew from the records, once. */
static int repair(lv_elog *l, lv_elog_seg *seg, lv__idx *bad) {
  int rc = 0;
  (void)pthread_mutex_lock(&seg->repair);
  if (atomic_load(&seg->idx) == bad) rc = lv__idx_rebuild(l, seg);
  (void)pthread_mutex_unlock(&seg->repair);
  return rc;
}

static int sealed_find(lv_elog *l, lv_elog_seg *seg, uint32_t chan, const lv__want *w,
                       lv_elog_at *ret) {
  lv__idx *idx = atomic_load(&seg->idx);
  int n = file_find(l, seg, chan, w, ret);
  if (n == LV_E_CORRUPT) {
    if ((n = repair(l, seg, idx)) < 0) return n;
    n = file_find(l, seg, chan, w, ret);
  }
  return n;
}

/* Places in the first segment that ends behind *from; moves *from to its end. 0 with *from
 * unchanged: there is none. */
static int find_step(lv_elog *l, uint32_t chan, uint64_t *from, lv__want w, lv_elog_at *ret) {
  uint64_t end = 0;
  int got = 0;
  (void)pthread_mutex_lock(&l->mu);
  lv__chan *c = lv__chan_at(l, chan, false);
  lv_elog_seg *seg = c ? seg_at(l, *from, &end) : NULL;
  bool sealed = seg && atomic_load(&seg->idx);
  w.from = *from;
  w.first = c ? c->first : 0;
  if (seg && !sealed) got = (int)mem_find(c->cur, seg, &w, ret);
  (void)pthread_mutex_unlock(&l->mu);
  if (!seg) return 0;
  if (sealed) got = sealed_find(l, seg, chan, &w, ret);
  if (got > 0) lv__seg_ref(seg, (uint32_t)got);
  lv__seg_unref(seg, 1);
  *from = end;
  return got;
}

int lv_elog_find(lv_elog *l, uint32_t chan, uint64_t from, uint64_t until, uint32_t max,
                 lv_elog_at *ret) {
  (void)lv__elog(l);
  uint32_t n = 0;
  until = lv__min(until, lv_elog_end(l));
  while (n < max && from < until) {
    uint64_t before = from;
    int got = find_step(l, chan, &from, (lv__want){.until = until, .max = max - n}, ret + n);
    if (got < 0) {
      lv_elog_release(ret, n);
      return got;
    }
    n += (uint32_t)got;
    if (from == before) break;
  }
  return (int)n;
}

/* In one segment: the place of the smallest offset >= *offset. 1: found, 0: not here. */
static int offset_in(lv_elog *l, lv_elog_seg *seg, uint32_t chan, uint64_t offset,
                     lv_elog_at *ret) {
  lv__idx *idx = atomic_load(&seg->idx);
  uint32_t unit, behind;
  lv__idx_units(idx, chan, &unit, &behind);
  for (; unit < behind; unit++) {
    const lv__dir *d = &idx->dir[unit];
    if (d->first + d->count <= offset) continue;
    int rc = lv__idx_at(l->disk, seg, idx, unit, lv__max(offset, d->first), ret);
    if (rc != LV_E_CORRUPT) return rc < 0 ? rc : 1;
    if ((rc = repair(l, seg, idx)) < 0) return rc;
    return offset_in(l, seg, chan, offset, ret);
  }
  return 0;
}

static bool mem_offset(const lv__unit *u, const lv_elog_seg *seg, uint64_t offset,
                       lv_elog_at *ret) {
  bool found = false;
  for (; u; u = u->prev) {
    if (u->seg != seg || u->first + u->count <= offset) continue;
    lv_elog_at at;
    if (lv__mem_at(u, lv__max(offset, u->first), &at) && (!found || at.offset < ret->offset)) {
      *ret = at;
      found = true;
    }
  }
  return found;
}

int lv_elog_find_offset(lv_elog *l, uint32_t chan, uint64_t offset, lv_elog_at *ret) {
  (void)lv__elog(l);
  for (uint64_t from = 0;;) {
    uint64_t end = 0;
    bool found = false;
    (void)pthread_mutex_lock(&l->mu);
    lv__chan *c = lv__chan_at(l, chan, false);
    lv_elog_seg *seg = c ? seg_at(l, from, &end) : NULL;
    if (c) offset = lv__max(offset, c->first);
    bool sealed = seg && atomic_load(&seg->idx);
    if (seg && !sealed) found = mem_offset(c->cur, seg, offset, ret);
    (void)pthread_mutex_unlock(&l->mu);
    if (!seg) return LV_E_GONE;
    int rc = sealed ? offset_in(l, seg, chan, offset, ret) : found;
    if (rc == 1) return 0; /* the place takes over the reference */
    lv__seg_unref(seg, 1);
    if (rc < 0) return rc;
    from = end;
  }
}

void lv_elog_release(lv_elog_at *at, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) {
    lv__seg_unref(at[i].seg, at[i].seg != NULL);
    at[i].seg = NULL;
  }
}

/* The record at `at` inside [buf, buf + n): NULL when it is damaged or another one. */
static const lv_rec *check(lv_elog *l, const lv_elog_at *at, const uint8_t *buf, int64_t n) {
  const lv_rec *rec = NULL;
  if (n >= 0 && lv_rec_check(buf, (size_t)n, &rec) == 0 && rec->lsn == at->lsn) return rec;
  (void)atomic_fetch_add_explicit(&l->damaged_reads, 1, memory_order_relaxed);
  return NULL;
}

static int64_t read_at(const lv_elog_at *at, uint32_t n, uint64_t pos, lv_block **ret_block) {
  lv_block *b = lv_block_new(n);
  if (!b) return LV_E_NOMEM;
  int64_t got = at->seg->disk->ops->read(at->seg->disk, at->seg->fd, b->data, n, pos);
  if (got < 0) {
    lv_block_unref(b);
    return got;
  }
  b->used = (uint32_t)got & ~7u;
  *ret_block = b;
  return got;
}

int lv_elog_pread(lv_elog *l, const lv_elog_at *at, lv_block **ret_block, const lv_rec **ret_rec) {
  const lv_rec *rec = NULL;
  int rc = lv_elog_pread_many(l, at, 1, READ_AHEAD, ret_block, &rec);
  if (rc < 0) return rc;
  if (!rec) {
    lv_block_unref(*ret_block);
    *ret_block = NULL;
    return LV_E_CORRUPT;
  }
  *ret_rec = rec;
  return 0;
}

/* Size that the header at `at` claims, when it can be believed enough to read that much. */
static uint32_t claimed(const lv_elog_at *at, const uint8_t *p, int64_t n) {
  const lv_rec *r = (const lv_rec *)p;
  if (n < LV_REC_HEAD || r->lsn != at->lsn || r->size > LV_REC_MAX || r->size < LV_REC_HEAD)
    return 0;
  return r->size;
}

int lv_elog_pread_many(lv_elog *l, const lv_elog_at *at, uint32_t n, uint32_t max_bytes,
                       lv_block **ret_block, const lv_rec **recs) {
  (void)lv__elog(l);
  assert(n > 0 && at->seg->magic == LV__SEG_MAGIC && at->pos % LV_REC_ALIGN == 0);
  uint64_t start = at->pos, len = READ_AHEAD;
  uint32_t k = 1;
  lv_block *b;
  while (k < n && at[k].seg == at->seg && at[k].pos > at[k - 1].pos &&
         at[k].pos - start + READ_AHEAD <= max_bytes)
    k++;
  /* The first is read whole whatever max_bytes says: half a header would look like damage. */
  len = (at[k - 1].pos - start + READ_AHEAD + 7) & ~7ull;
  int64_t got = read_at(at, (uint32_t)len, start, &b);
  if (got < 0) return (int)got;
  uint64_t off = at[k - 1].pos - start;
  uint32_t size = (uint64_t)got > off ? claimed(&at[k - 1], b->data + off, got - (int64_t)off) : 0;
  if (k == 1 && size > (uint64_t)got) { /* a large record: once more, whole */
    lv_block_unref(b);
    if ((got = read_at(at, size, start, &b)) < 0) return (int)got;
  } else if (k > 1 && size > (uint64_t)got - off) {
    k--; /* the last one reaches beyond: the next call begins with it */
  }
  for (uint32_t i = 0; i < k; i++) {
    uint64_t o = at[i].pos - start;
    recs[i] = check(l, &at[i], b->data + o, got - (int64_t)o);
  }
  *ret_block = b;
  return (int)k;
}

/* Position in a compacted segment's file at or before the record with the smallest lsn >= from. */
static uint64_t packed_pos(lv_elog *l, lv_elog_seg *seg, uint64_t from) {
  (void)pthread_mutex_lock(&l->mu);
  uint64_t pos = seg->hint_pos && seg->hint_lsn <= from ? seg->hint_pos : LV_ELOG_HEAD;
  (void)pthread_mutex_unlock(&l->mu);
  return pos;
}

static void packed_hint(lv_elog *l, lv_elog_seg *seg, const lv__scan *s) {
  (void)pthread_mutex_lock(&l->mu);
  seg->hint_pos = s->pos;
  seg->hint_lsn = s->lsn;
  (void)pthread_mutex_unlock(&l->mu);
}

/* The next record with lsn >= from. 0: damage there; damage that lies before `from` (in a compacted
 * segment the way leads over it) is passed. */
static int next_wanted(lv__scan *s, uint64_t from, const lv_rec **rec, uint64_t *at) {
  while (s->pos < s->limit) {
    int rc = lv__scan_next(s, rec, at);
    if (rc == 1 && (*rec)->lsn < from) continue;
    if (rc != 0 || !s->compacted || s->lsn > from) return rc;
    uint64_t pos = s->pos, lsn = s->lsn;
    rc = lv__scan_resync(s);
    if (rc == 1 && s->lsn <= from) continue;
    s->pos = pos;
    s->lsn = lsn;
    return rc < 0 ? rc : 0;
  }
  return 0;
}

/* Copies whole records with from <= lsn < until out of one segment. ret_next: behind the last.
 * LV_E_CORRUPT: damage first; ret_next: behind it. */
static int scan_seg(lv_elog *l, lv_elog_seg *seg, uint64_t from, uint64_t until, uint32_t max,
                    lv_block **ret_block, uint64_t *ret_next) {
  lv__scan s;
  const lv_rec *rec;
  lv_block *b = NULL;
  uint64_t at, end = until; /* within the segment */
  int rc = 1;
  lv__scan_init(&s, seg, seg->compacted ? seg->file_end : lv__pos_of(seg, until),
                seg->compacted ? seg->end : until);
  s.pos = seg->compacted ? packed_pos(l, seg, from) : lv__pos_of(seg, from);
  s.lsn = seg->compacted ? seg->base : from;
  *ret_next = from;
  while (s.pos < s.limit && (rc = next_wanted(&s, from, &rec, &at)) == 1) {
    if (rec->lsn >= until) break;
    if (!b && !(b = lv_block_new((uint32_t)lv__max(max, rec->size)))) rc = LV_E_NOMEM;
    if (!b || b->used + rec->size > b->cap) {
      s.pos = at; /* the next call begins with it */
      s.lsn = rec->lsn;
      break;
    }
    memcpy(b->data + b->used, rec, rec->size);
    b->used += rec->size;
    *ret_next = rec->lsn + rec->size;
  }
  if (s.pos >= s.limit || (rc == 1 && !b)) {
    rc = 1;
    *ret_next = end;
  }
  if (seg->compacted) packed_hint(l, seg, &s);
  if (rc == 0 && !b) { /* damage at the front */
    rc = lv__scan_resync(&s);
    *ret_next = rc == 1 ? lv__min(s.lsn, end) : end;
    rc = rc < 0 ? rc : LV_E_CORRUPT;
  }
  lv__scan_done(&s);
  if (rc < 0) lv_block_unref(b);
  *ret_block = rc < 0 ? NULL : b;
  return rc < 0 ? rc : 0;
}

/* In a segment whose addresses are places, records lie one behind the other: they are read into the
 * block that is handed out, and checked there. False: the first one is damaged or too large for
 * this (scan_seg says). */
static bool scan_plain(lv_elog_seg *seg, uint64_t from, uint64_t until, uint32_t max,
                       lv_block **ret_block, uint64_t *ret_next) {
  uint64_t pos = lv__pos_of(seg, from);
  uint32_t n = (uint32_t)lv__min(max, until - from), used = 0;
  if (n < LV_REC_HEAD) return false;
  lv_block *b = lv_block_new(n);
  if (!b) return false;
  int64_t got = seg->disk->ops->read(seg->disk, seg->fd, b->data, n, pos);
  if (n == max) seg->disk->ops->ahead(seg->disk, seg->fd, pos + n, AHEAD);
  while (got - used >= LV_REC_HEAD) {
    const lv_rec *rec;
    if (lv_rec_check(b->data + used, (size_t)(got - used), &rec) || rec->lsn != from + used) break;
    used += rec->size;
  }
  if (used == 0) {
    lv_block_unref(b);
    return false;
  }
  b->used = used;
  *ret_block = b;
  *ret_next = from + used;
  return true;
}

int lv_elog_scan(lv_elog *l, uint64_t from, uint64_t until, uint32_t max_bytes,
                 lv_block **ret_block, uint32_t *ret_bytes, uint64_t *ret_next) {
  (void)lv__elog(l);
  until = lv__min(until, lv_elog_end(l));
  *ret_block = NULL;
  *ret_bytes = 0;
  *ret_next = lv__max(from, until);
  while (from < until) {
    uint64_t end = 0;
    (void)pthread_mutex_lock(&l->mu);
    lv_elog_seg *seg = seg_at(l, from, &end);
    (void)pthread_mutex_unlock(&l->mu);
    if (!seg || seg->base >= until) {
      lv__seg_unref(seg, seg != NULL);
      *ret_next = until;
      return 0;
    }
    lv_block *b = NULL;
    uint64_t first = lv__max(from, seg->base), last = lv__min(until, end);
    int rc = 0;
    if (seg->compacted || !scan_plain(seg, first, last, max_bytes, &b, ret_next))
      rc = scan_seg(l, seg, first, last, max_bytes, &b, ret_next);
    lv__seg_unref(seg, 1);
    if (rc == LV_E_CORRUPT)
      (void)atomic_fetch_add_explicit(&l->damaged_reads, 1, memory_order_relaxed);
    if (rc < 0) return rc;
    if (b) {
      *ret_block = b;
      *ret_bytes = b->used;
      return 0;
    }
    from = lv__max(*ret_next, from);
    if (from < end && from < until) from = lv__min(end, until);
  }
  *ret_next = from;
  return 0;
}

uint64_t lv_elog_oldest(lv_elog *l) {
  (void)pthread_mutex_lock(&l->mu);
  uint64_t base = l->segs[0]->base;
  (void)pthread_mutex_unlock(&l->mu);
  return base;
}

const char *lv_elog_epoch(const lv_elog *l) {
  return lv__elog(l)->epoch;
}

int lv_elog_epoch_range(lv_elog *l, lv_slice epoch, uint64_t *ret_from, uint64_t *ret_end) {
  bool found = false;
  (void)lv__elog(l);
  *ret_end = UINT64_MAX;
  (void)pthread_mutex_lock(&l->mu);
  for (uint32_t i = 0; i < l->n_segs; i++) {
    bool its = lv_slice_eq(lv_slice_str(l->segs[i]->epoch), epoch);
    if (its && !found) *ret_from = l->segs[i]->base;
    if (its) *ret_end = UINT64_MAX;
    if (!its && found && *ret_end == UINT64_MAX) *ret_end = l->segs[i]->base;
    found |= its;
  }
  (void)pthread_mutex_unlock(&l->mu);
  return found ? 0 : LV_E_NOT_FOUND;
}
