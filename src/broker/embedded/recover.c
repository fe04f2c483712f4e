/* recover.c: opening what an earlier process left behind. Reads files, decides, mends; see
 * recover_tail.c for the segments that have no index yet.
 *
 *   1. list the folder: segments by base, spares, leftovers of interrupted steps (removed)
 *   2. open each segment: head, synced mark, index file; a segment inside the range of a compacted
 *      one before it is a leftover of that compaction
 *   3. sealed segments: channel facts from the index directories; a missing or damaged index is
 *      made anew from the records
 *   4. the others: scanned, the torn tail cut
 *   5. the epoch: kept, or a new one where offsets that somebody saw may have been lost
 *
 * @thread main */
#include "broker/embedded/elog_int.h"
#include <stdio.h>
#include <stdlib.h>

typedef struct names {
  const char *log;
  uint64_t *bases, *idx;
  uint32_t n_bases, n_idx, cap;
  char (*junk)[LV__NAME_MAX];
  char (*spares)[LV__NAME_MAX];
  uint32_t n_junk, n_spares;
} names;

static bool ends_with(const char *s, const char *end) {
  size_t n = strlen(s), m = strlen(end);
  return n >= m && strcmp(s + n - m, end) == 0;
}

static void names_grow(names *f) {
  uint32_t most = f->n_bases;
  if (f->n_idx > most) most = f->n_idx;
  if (f->n_junk > most) most = f->n_junk;
  if (f->n_spares > most) most = f->n_spares;
  if (most < f->cap) return;
  f->cap = f->cap ? 2 * f->cap : 64;
  f->bases = realloc(f->bases, f->cap * sizeof *f->bases);
  f->idx = realloc(f->idx, f->cap * sizeof *f->idx);
  f->junk = realloc(f->junk, f->cap * sizeof *f->junk);
  f->spares = realloc(f->spares, f->cap * sizeof *f->spares);
  if (!f->bases || !f->idx || !f->junk || !f->spares) abort();
}

static int on_name(void *arg, const char *name) {
  names *f = arg;
  size_t n = strlen(f->log);
  uint64_t base;
  if (strncmp(name, f->log, n) != 0 || (name[n] != '-' && name[n] != '.')) return 0;
  if (strlen(name) >= LV__NAME_MAX) return 0;
  names_grow(f);
  if (lv__seg_name_parse(f->log, name, "seg", &base))
    f->bases[f->n_bases++] = base;
  else if (lv__seg_name_parse(f->log, name, "idx", &base))
    f->idx[f->n_idx++] = base;
  else if (ends_with(name, ".spare"))
    memcpy(f->spares[f->n_spares++], name, strlen(name) + 1);
  else if (ends_with(name, ".tmp"))
    memcpy(f->junk[f->n_junk++], name, strlen(name) + 1);
  return 0;
}

static void names_done(names *f) {
  free(f->bases);
  free(f->idx);
  free(f->junk);
  free(f->spares);
}

static int cmp_u64(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

static int remove_seg_files(lv_elog *l, uint64_t base) {
  char name[LV__NAME_MAX];
  lv__seg_name(l->name, base, "idx", name);
  (void)l->disk->ops->remove(l->disk, name);
  lv__seg_name(l->name, base, "seg", name);
  return l->disk->ops->remove(l->disk, name);
}

/* A segment without a sound head: is it what is left of one that could not be made (no record
 * either), or damaged? A compacted one is known by its records not lying at their addresses. */
static int judge_headless(lv_elog_seg *seg) {
  const lv_rec *r;
  uint64_t pos, n = 0;
  lv__scan s;
  int rc;
  lv__scan_init(&s, seg, seg->cap, UINT64_MAX);
  s.compacted = true; /* any record that is not from before */
  do {
    while ((rc = lv__scan_next(&s, &r, &pos)) == 1 && !(n && !seg->compacted)) {
      if (n++ == 0) seg->compacted = r->lsn != pos - LV_ELOG_HEAD + seg->base;
      if (seg->compacted) seg->end = r->lsn + r->size;
    }
  } while (rc == 0 && (rc = lv__scan_resync(&s)) == 1);
  lv__scan_done(&s);
  if (seg->compacted) seg->file_end = seg->cap;
  seg->stub = n == 0;
  return rc < 0 ? rc : 0;
}

static int open_segs(lv_elog *l, names *f, char *why) {
  if (f->n_bases) qsort(f->bases, f->n_bases, sizeof *f->bases, cmp_u64);
  for (uint32_t i = 0; i < f->n_bases; i++) {
    lv_elog_seg *seg;
    int rc = f->bases[i] % LV_REC_ALIGN || f->bases[i] < LV__LSN_FIRST
                 ? LV_E_CORRUPT
                 : lv__seg_open(l->disk, l->name, f->bases[i], &seg);
    if (rc == 0 && !seg->head_ok && (rc = judge_headless(seg)) < 0) lv__seg_unref(seg, 1);
    if (rc < 0) {
      (void)snprintf(why, LV_ELOG_WHY, "%s-%016llx.seg: %s", l->name,
                     (unsigned long long)f->bases[i], lv_err_text(rc));
      return rc;
    }
    lv__segs_push(l, seg);
  }
  return 0;
}

static int load_idx(lv_elog *l, char *why) {
  for (uint32_t i = 0; i < l->n_segs; i++) {
    lv__idx *idx = NULL;
    int rc = lv__idx_load(l->disk, l->name, l->segs[i], &idx);
    if (rc == LV_E_FORMAT) {
      (void)snprintf(why, LV_ELOG_WHY, "%s-%016llx.idx: %s", l->name,
                     (unsigned long long)l->segs[i]->base, lv_err_text(rc));
      return rc;
    }
    if (rc == LV_E_IO || rc == LV_E_NOMEM) return rc;
    if (rc < 0) continue;
    l->segs[i]->stub = false;
    atomic_store(&l->segs[i]->idx, idx);
    l->segs[i]->end = idx->seg_end;
    if (!l->segs[i]->head_ok && idx->words == 2 && !l->segs[i]->compacted) {
      l->segs[i]->compacted = true;
      l->segs[i]->file_end = l->segs[i]->cap;
    }
  }
  return 0;
}

/* Below this, everything was synced once: what the marks and the indexes say. */
static uint64_t trusted_end(const lv_elog *l) {
  uint64_t t = 0;
  for (uint32_t i = 0; i < l->n_segs; i++) {
    t = lv__max(t, l->segs[i]->mark);
    if (atomic_load(&l->segs[i]->idx)) t = lv__max(t, l->segs[i]->end);
  }
  return t;
}

static void take_dir(lv_elog *l, const lv__idx *idx) {
  for (uint32_t i = 0; i < idx->n_dir; i++) {
    const lv__dir *d = &idx->dir[i];
    if (d->chan == 0 || d->chan >= LV_ELOG_CHAN_MAX) continue;
    lv__chan *c = lv__chan_at(l, d->chan, true);
    c->next = c->floor = lv__max(c->next, d->first + d->count);
    c->bytes += d->bytes;
  }
}

/* A damaged index file is replaced, or at least removed; housekeeping tries again. */
static void store_again(lv_elog *l, lv_elog_seg *seg, const lv__idx *idx) {
  char name[LV__NAME_MAX];
  if (lv__idx_store(l->disk, l->name, seg, idx->image, idx->image_n) == 0) return;
  lv__seg_name(l->name, seg->base, "idx", name);
  (void)l->disk->ops->remove(l->disk, name);
}

static int drop_at(lv_elog *l, uint32_t i) {
  lv_elog_seg *seg = l->segs[i];
  int rc = remove_seg_files(l, seg->base);
  if (rc < 0) return rc;
  l->dir_dirty = true;
  memmove(&l->segs[i], &l->segs[i + 1], (l->n_segs - i - 1) * sizeof *l->segs);
  l->n_segs--;
  lv__seg_unref(seg, 1);
  return 0;
}

int lv__drop_overlapped(lv_elog *l, uint32_t i) {
  int rc = 0;
  while (rc == 0 && i + 1 < l->n_segs && l->segs[i + 1]->base < l->segs[i]->end)
    rc = drop_at(l, i + 1);
  return rc;
}

/* Where a segment ends of which neither index nor head says it: behind its last sound record, or
 * where the next one says that it ended (what is between is damaged). */
static int find_end(lv_elog *l, uint32_t i) {
  lv_elog_seg *seg = l->segs[i];
  const lv_rec *r;
  uint64_t pos, end = seg->base, room = seg->base + lv__max(seg->cap, LV_ELOG_HEAD) - LV_ELOG_HEAD;
  lv__scan s;
  int rc;
  lv__scan_init(&s, seg, seg->cap, room);
  do {
    while ((rc = lv__scan_next(&s, &r, &pos)) == 1) end = s.lsn;
  } while (rc == 0 && (rc = lv__scan_resync(&s)) == 1);
  lv__scan_done(&s);
  seg->end = end;
  if (rc < 0 || (rc = lv__drop_overlapped(l, i)) < 0) return rc;
  const lv_elog_seg *next = i + 1 < l->n_segs ? l->segs[i + 1] : NULL;
  uint64_t told = !next ? end : next->head_ok ? next->prev_end : next->base;
  if (told > end && told <= room) seg->end = told;
  return 0;
}

/* Segments that cannot be the tail, because a sealed or a marked one follows: their index is made
 * anew when it is missing. */
static int take_sealed(lv_elog *l, uint64_t trusted, lv_elog_recovery *rec) {
  uint32_t sealed = 0;
  int rc = 0;
  for (uint32_t i = l->n_segs; rc == 0 && i > 0; i--)
    if (l->segs[i - 1]->stub) rc = drop_at(l, i - 1);
  for (uint32_t i = 0; rc == 0 && i < l->n_segs; i++)
    if (atomic_load(&l->segs[i]->idx) || l->segs[i]->compacted) rc = lv__drop_overlapped(l, i);
  for (uint32_t i = 0; i < l->n_segs; i++)
    if (atomic_load(&l->segs[i]->idx) || l->segs[i]->compacted ||
        (i + 1 < l->n_segs && l->segs[i + 1]->base <= trusted && l->segs[i + 1]->mark))
      sealed = i + 1;
  for (uint32_t i = 0; rc == 0 && i < sealed && i < l->n_segs; i++) {
    lv_elog_seg *seg = l->segs[i];
    if (!atomic_load(&seg->idx)) {
      uint32_t n = l->n_segs;
      if (!seg->compacted && (rc = find_end(l, i)) < 0) return rc;
      if (seg->compacted && !seg->head_ok && i + 1 < l->n_segs && l->segs[i + 1]->head_ok)
        seg->end = lv__max(seg->end, l->segs[i + 1]->prev_end);
      sealed -= n - l->n_segs;
      if ((rc = lv__idx_rebuild(l, seg)) < 0) return rc;
      rec->indexes_rebuilt++;
      store_again(l, seg, atomic_load(&seg->idx));
    }
    take_dir(l, atomic_load(&seg->idx));
  }
  return rc;
}

static bool first_seen(lv_elog *l, uint32_t chan, uint64_t *ret) {
  for (uint32_t i = 0; i < l->n_segs; i++) {
    lv__idx *idx = atomic_load(&l->segs[i]->idx);
    uint32_t unit, behind;
    if (!idx) break;
    lv__idx_units(idx, chan, &unit, &behind);
    if (unit == behind) continue;
    *ret = idx->dir[unit].first;
    return true;
  }
  const lv__chan *c = lv__chan_at(l, chan, false);
  const lv__unit *u = c ? c->cur : NULL;
  for (; u; u = u->prev) *ret = u->first;
  return c && c->cur;
}

/* Without the channels file, and with segments gone, the oldest record seen is the first. */
static void guess_firsts(lv_elog *l) {
  for (uint32_t i = 1; i < l->chan_top; i++) {
    lv__chan *c = lv__chan_at(l, i, false);
    uint64_t first;
    if (c && c->next > 0 && first_seen(l, i, &first)) c->first = lv__max(c->first, first);
  }
}

static int keep_spares(lv_elog *l, const names *f, bool clean) {
  int rc = 0;
  for (uint32_t i = 0; rc == 0 && i < f->n_spares; i++) {
    int fd;
    uint64_t size = 0;
    rc = l->disk->ops->open(l->disk, f->spares[i], false, &fd);
    if (rc == LV_E_NOT_FOUND) { /* in a view: the server has made a segment of it meanwhile */
      rc = 0;
      continue;
    }
    if (rc == 0) {
      rc = l->disk->ops->size(l->disk, fd, &size);
      l->disk->ops->close(l->disk, fd);
    }
    if (rc == 0 && clean && l->n_spares < LV__SPARES && size >= l->first_bytes) {
      lv__spare *s = &l->spares[l->n_spares++];
      memcpy(s->name, f->spares[i], sizeof s->name);
      s->cap = size;
    } else if (rc == 0) {
      /* After a crash it may hold records of a segment whose name was lost: valid ones, at
       * addresses that are given again. */
      rc = l->disk->ops->remove(l->disk, f->spares[i]);
      if (rc == LV_E_NOT_FOUND) rc = 0;
      l->dir_dirty = true;
    }
  }
  return rc;
}

/* What interrupted steps left; one that is repeated meanwhile may have taken its file along. */
static int remove_leftovers(lv_elog *l, const names *f) {
  int rc = 0;
  for (uint32_t i = 0; rc == 0 && i < f->n_junk; i++, l->dir_dirty = true)
    if ((rc = l->disk->ops->remove(l->disk, f->junk[i])) == LV_E_NOT_FOUND) rc = 0;
  for (uint32_t i = 0; rc == 0 && i < f->n_idx; i++) {
    if (f->n_bases && bsearch(&f->idx[i], f->bases, f->n_bases, sizeof *f->bases, cmp_u64))
      continue;
    char name[LV__NAME_MAX];
    lv__seg_name(l->name, f->idx[i], "idx", name);
    if ((rc = l->disk->ops->remove(l->disk, name)) == LV_E_NOT_FOUND) rc = 0;
  }
  return rc;
}

/* An empty segment of the epoch before stays until housekeeping drops it: its base is what says
 * which addresses were used, even if all of its records were lost. */
int lv__epoch_begin(lv_elog *l) {
  uint64_t end = l->n_segs ? lv_elog_end(l) : 0, top = lv__max(end, l->top_lsn);
  uint64_t base = top ? (top / LV__EPOCH_STEP + 1) * LV__EPOCH_STEP : LV__LSN_FIRST;
  lv__epoch_new(l);
  return lv__seg_switch(l, base, end ? end : base, 0);
}

int lv__settle_open(lv_elog *l, bool new_epoch) {
  lv_elog_seg *last = l->n_segs ? lv__open_seg(l) : NULL;
  int rc = 0;
  if (new_epoch)
    rc = lv__epoch_begin(l);
  else if (atomic_load(&last->idx))
    rc = lv__seg_switch(l, last->end, last->end, 0);
  if (rc < 0) return rc;
  if (l->dir_dirty) {
    rc = l->disk->ops->sync(l->disk, lv__open_seg(l)->fd);
    if (rc == 0) rc = l->disk->ops->sync_dir(l->disk);
    if (rc < 0) return rc;
    l->dir_dirty = false;
  }
  atomic_store(&l->synced, lv_elog_end(l));
  return 0;
}

/* Whether retention ever took something away. */
static bool was_cut(const lv_elog *l) {
  for (uint32_t i = 0; i < l->n_segs; i++)
    if (l->segs[i]->compacted) return true;
  return l->n_segs == 0 || l->segs[0]->base != LV__LSN_FIRST;
}

static int recover_from(lv_elog *l, names *f, lv_elog_recovery *rec, char *why) {
  int rc, chans;
  if ((rc = open_segs(l, f, why)) < 0 || (rc = load_idx(l, why)) < 0) return rc;
  chans = lv__chans_load(l);
  if (chans == LV_E_FORMAT)
    (void)snprintf(why, LV_ELOG_WHY, "%s.chans: %s", l->name, lv_err_text(chans));
  if (chans == LV_E_FORMAT || chans == LV_E_IO) return chans;
  bool had_any = l->n_segs > 0, lost_chans = false;
  uint64_t trusted = trusted_end(l);
  lv__tail tail = {.limit = UINT64_MAX, .trusted = trusted};
  if (had_any) {
    if ((rc = take_sealed(l, trusted, rec)) < 0) return rc;
    if ((rc = lv__recover_tail(l, &tail, rec)) < 0) return rc;
    lost_chans = chans == LV_E_CORRUPT || (chans < 0 && was_cut(l));
    if (lost_chans) guess_firsts(l);
  }
  for (uint32_t i = l->n_segs; i > 0 && !l->epoch[0]; i--)
    memcpy(l->epoch, l->segs[i - 1]->epoch, sizeof l->epoch);
  if ((rc = keep_spares(l, f, rec->clean)) < 0 || (rc = remove_leftovers(l, f)) < 0) return rc;
  rec->new_epoch = l->n_segs == 0 || !l->epoch[0] || lost_chans ||
                   (l->visible_unsynced && !rec->clean) || l->epoch_fresh;
  rc = lv__settle_open(l, rec->new_epoch);
  rec->segments = l->n_segs;
  rec->new_epoch &= had_any;
  return rc;
}

void lv__chans_rewind(lv_elog *l) {
  for (uint32_t i = 1; i < l->chan_top; i++) {
    lv__chan *c = lv__chan_at(l, i, false);
    if (!c) continue;
    /* Retention may have passed what was then cut: those offsets are left out. */
    c->next = c->next_w = lv__max(c->next, c->first);
  }
}

int lv__recover(lv_elog *l, lv_elog_recovery *rec, char *why) {
  names f = {.log = l->name};
  *rec = (lv_elog_recovery){0};
  int rc = l->disk->ops->list(l->disk, on_name, &f);
  if (rc == 0) rc = recover_from(l, &f, rec, why);
  if (rc < 0 && !why[0]) (void)snprintf(why, LV_ELOG_WHY, "log %s: %s", l->name, lv_err_text(rc));
  names_done(&f);
  if (rc == 0) lv__chans_rewind(l);
  return rc;
}
