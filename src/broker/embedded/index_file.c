/* index_file.c: the index of a sealed segment: a file with a directory of units and their entries.
 *
 *   0   idx_head (magic, format, log name, base, end, gen, counts, crc of the directory, crc)
 *   128 directory: lv__dir[n_dir], sorted by (chan, first)
 *   …   entries: n_entries × words × u32
 *
 * The directory stays in memory (48 bytes a channel and segment), entries are read when asked for.
 * Each unit's entries have a CRC, checked at first use; an index that fails is made anew from the
 * segment's records and kept in memory until the segment goes. A wrong entry that slips through can
 * not mislead: pread checks that the record there has the lsn that the index promised.
 *
 * @thread any; the index of a segment is immutable, only replaced. */
#include "broker/embedded/elog_int.h"
#include <stdio.h>
#include <stdlib.h>

static const char idx_magic[8] = "LVIDX\r\n";
enum { HEAD_SIZE = 128, HEAD_CRC_AT = 124, PIECE = 16384 /* words read at once */ };

typedef struct idx_head {
  char magic[8];
  uint32_t format, words;
  char name[16];
  uint64_t base, end, gen;
  uint32_t n_dir, dir_crc;
  uint64_t n_entries;
} idx_head;
static_assert(sizeof(idx_head) <= HEAD_CRC_AT, "fits");

static int by_chan(const void *a, const void *b) {
  const lv__unit *x = *(lv__unit *const *)a, *y = *(lv__unit *const *)b;
  if (x->chan != y->chan) return x->chan < y->chan ? -1 : 1;
  return x->first < y->first ? -1 : x->first > y->first;
}

static uint64_t copy_entries(const lv__unit *u, uint32_t *to) {
  uint64_t n = 0;
  for (const lv__chunk *c = u->head; c; n += c->n, c = c->next)
    memcpy(to + n, c->e, c->n * sizeof *to);
  return n;
}

uint8_t *lv__idx_image(const char *log, const lv_elog_seg *seg, uint64_t *ret_n) {
  uint32_t words = seg->compacted ? 2 : 1, n = 0;
  uint64_t n_entries = 0;
  lv__unit **units = malloc((seg->n_units + 1) * sizeof *units);
  if (!units) abort();
  for (lv__unit *u = seg->units; u; u = u->next) {
    if (u->count == 0) continue; /* emptied by a cut */
    units[n++] = u;
    n_entries += u->count;
  }
  qsort(units, n, sizeof *units, by_chan);
  uint64_t size = HEAD_SIZE + n * sizeof(lv__dir) + n_entries * words * 4;
  uint8_t *image = calloc(1, size);
  if (!image) abort();
  lv__dir *dir = (lv__dir *)(image + HEAD_SIZE);
  uint32_t *entries = (uint32_t *)(dir + n), at = 0;
  for (uint32_t i = 0; i < n; i++) {
    const lv__unit *u = units[i];
    uint32_t *to = entries + (size_t)at * words;
    uint64_t got = copy_entries(u, to);
    assert(got == (uint64_t)u->count * words);
    dir[i] = (lv__dir){.chan = u->chan,
                       .count = u->count,
                       .first = u->first,
                       .bytes = u->bytes,
                       .oldest_ns = u->oldest_ns,
                       .newest_ns = u->newest_ns,
                       .start = at,
                       .crc = lv_crc32c(0, to, (size_t)got * 4)};
    at += u->count;
  }
  free(units);
  idx_head h = {.format = LV_ELOG_FORMAT,
                .words = words,
                .base = seg->base,
                .end = seg->end,
                .gen = seg->gen,
                .n_dir = n,
                .dir_crc = lv_crc32c(0, dir, n * sizeof *dir),
                .n_entries = n_entries};
  memcpy(h.magic, idx_magic, sizeof h.magic);
  memcpy(h.name, log, strlen(log));
  memcpy(image, &h, sizeof h);
  uint32_t crc = lv_crc32c(0, image, HEAD_CRC_AT);
  memcpy(image + HEAD_CRC_AT, &crc, sizeof crc);
  *ret_n = size;
  return image;
}

/* Believes nothing: the head's counts, the directory's ranges and order are all checked. */
static int head_check(const uint8_t *p, uint64_t size, const char *log, const lv_elog_seg *seg,
                      idx_head *ret) {
  idx_head h;
  uint32_t crc;
  memcpy(&h, p, sizeof h);
  memcpy(&crc, p + HEAD_CRC_AT, sizeof crc);
  if (memcmp(h.magic, idx_magic, sizeof h.magic) || crc != lv_crc32c(0, p, HEAD_CRC_AT))
    return LV_E_CORRUPT;
  if (h.format > LV_ELOG_FORMAT) return LV_E_FORMAT;
  if (h.base != seg->base || (log && strncmp(h.name, log, sizeof h.name) != 0)) return LV_E_CORRUPT;
  if (seg->head_ok && h.gen != seg->gen) return LV_E_NOT_FOUND; /* of the file before */
  if (seg->compacted && h.words != 2) return LV_E_CORRUPT;
  if (h.words < 1 || h.words > 2 || h.end < h.base || h.end - h.base > LV__SEG_SPAN_MAX)
    return LV_E_CORRUPT;
  if (h.n_entries > UINT32_MAX ||
      size < HEAD_SIZE + (uint64_t)h.n_dir * sizeof(lv__dir) + h.n_entries * h.words * 4)
    return LV_E_CORRUPT;
  *ret = h;
  return 0;
}

static int dir_check(const lv__dir *dir, const idx_head *h) {
  if (lv_crc32c(0, dir, h->n_dir * sizeof *dir) != h->dir_crc) return LV_E_CORRUPT;
  for (uint32_t i = 0; i < h->n_dir; i++) {
    if ((uint64_t)dir[i].start + dir[i].count > h->n_entries || dir[i].count == 0)
      return LV_E_CORRUPT;
    if (i && (dir[i].chan < dir[i - 1].chan ||
              (dir[i].chan == dir[i - 1].chan && dir[i].first < dir[i - 1].first)))
      return LV_E_CORRUPT;
  }
  return 0;
}

static lv__idx *idx_new(const idx_head *h, int fd) {
  lv__idx *idx = calloc(1, sizeof *idx);
  if (!idx) abort();
  idx->fd = fd;
  idx->n_dir = h->n_dir;
  idx->words = h->words;
  idx->seg_end = h->end;
  idx->entries_at = HEAD_SIZE + (uint64_t)h->n_dir * sizeof(lv__dir);
  idx->dir = malloc((h->n_dir + 1) * sizeof *idx->dir);
  idx->checked = calloc(h->n_dir + 1, sizeof *idx->checked);
  if (!idx->dir || !idx->checked) abort();
  return idx;
}

static void idx_free_one(lv_disk *disk, lv__idx *idx) {
  if (idx->fd >= 0) disk->ops->close(disk, idx->fd);
  free(idx->image);
  free(idx->dir);
  free((void *)idx->checked);
  free(idx);
}

void lv__idx_free(lv_disk *disk, lv__idx *idx) {
  for (lv__idx *older; idx; idx = older) {
    older = idx->older;
    idx_free_one(disk, idx);
  }
}

int lv__idx_of_image(uint8_t *image, uint64_t n, const lv_elog_seg *seg, lv__idx **ret) {
  idx_head h;
  int rc = n < HEAD_SIZE ? LV_E_CORRUPT : head_check(image, n, NULL, seg, &h);
  if (rc < 0) return rc;
  lv__idx *idx = idx_new(&h, -1);
  memcpy(idx->dir, image + HEAD_SIZE, h.n_dir * sizeof *idx->dir);
  idx->image = image;
  idx->image_n = n;
  for (uint32_t i = 0; i < h.n_dir; i++) idx->checked[i] = 1;
  *ret = idx;
  return 0;
}

int lv__idx_load(lv_disk *disk, const char *log, const lv_elog_seg *seg, lv__idx **ret) {
  char name[LV__NAME_MAX];
  uint8_t head[HEAD_SIZE];
  idx_head h;
  uint64_t size;
  int fd, rc;
  lv__seg_name(log, seg->base, "idx", name);
  if ((rc = disk->ops->open(disk, name, false, &fd)) < 0) return rc;
  int64_t n = disk->ops->read(disk, fd, head, sizeof head, 0);
  if (n != sizeof head) rc = n < 0 ? (int)n : LV_E_CORRUPT;
  if (rc == 0) rc = disk->ops->size(disk, fd, &size);
  if (rc == 0) rc = head_check(head, size, log, seg, &h);
  if (rc < 0) {
    disk->ops->close(disk, fd);
    return rc;
  }
  lv__idx *idx = idx_new(&h, fd);
  uint32_t want = h.n_dir * (uint32_t)sizeof *idx->dir;
  n = disk->ops->read(disk, fd, idx->dir, want, HEAD_SIZE);
  rc = n < 0 ? (int)n : n != want ? LV_E_CORRUPT : dir_check(idx->dir, &h);
  if (rc < 0) {
    idx_free_one(disk, idx);
    return rc;
  }
  *ret = idx;
  return 0;
}

int lv__idx_store(lv_disk *disk, const char *log, const lv_elog_seg *seg, const uint8_t *image,
                  uint64_t n) {
  char tmp[LV__NAME_MAX], name[LV__NAME_MAX];
  struct iovec iov = {(void *)(uintptr_t)image, (size_t)n};
  int fd, rc;
  lv__seg_name(log, seg->base, "idx.tmp", tmp);
  lv__seg_name(log, seg->base, "idx", name);
  if ((rc = disk->ops->open(disk, tmp, true, &fd)) < 0) return rc;
  rc = disk->ops->truncate(disk, fd, 0);
  if (rc == 0) rc = disk->ops->write(disk, fd, &iov, 1, 0);
  if (rc == 0) rc = disk->ops->sync(disk, fd);
  disk->ops->close(disk, fd);
  if (rc == 0) rc = disk->ops->rename(disk, tmp, name);
  if (rc == 0) rc = disk->ops->sync_dir(disk);
  if (rc < 0) (void)disk->ops->remove(disk, tmp);
  return rc;
}

void lv__idx_units(const lv__idx *idx, uint32_t chan, uint32_t *ret_first, uint32_t *ret_behind) {
  uint32_t lo = 0, hi = idx->n_dir;
  while (lo < hi) {
    uint32_t mid = (lo + hi) / 2;
    if (idx->dir[mid].chan < chan)
      lo = mid + 1;
    else
      hi = mid;
  }
  *ret_first = lo;
  while (lo < idx->n_dir && idx->dir[lo].chan == chan) lo++;
  *ret_behind = lo;
}

static int entries_read(lv_disk *disk, const lv__idx *idx, uint64_t entry, uint32_t n,
                        uint32_t *ret) {
  uint64_t at = idx->entries_at + entry * idx->words * 4;
  uint32_t want = n * idx->words * 4;
  if (idx->image) {
    memcpy(ret, idx->image + at, want);
    return 0;
  }
  int64_t got = disk->ops->read(disk, idx->fd, ret, want, at);
  if (got < 0) return (int)got;
  return got == want ? 0 : LV_E_CORRUPT;
}

int lv__idx_check_unit(lv_disk *disk, lv__idx *idx, uint32_t unit) {
  if (atomic_load_explicit(&idx->checked[unit], memory_order_relaxed)) return 0;
  const lv__dir *d = &idx->dir[unit];
  uint32_t *buf = malloc(PIECE * sizeof *buf), crc = 0;
  int rc = 0;
  if (!buf) abort();
  for (uint32_t i = 0; rc == 0 && i < d->count;) {
    uint32_t n = (uint32_t)lv__min(d->count - i, PIECE / idx->words);
    rc = entries_read(disk, idx, (uint64_t)d->start + i, n, buf);
    if (rc == 0) crc = lv_crc32c(crc, buf, (size_t)n * idx->words * 4);
    i += n;
  }
  free(buf);
  if (rc < 0) return rc;
  if (crc != d->crc) return LV_E_CORRUPT;
  atomic_store_explicit(&idx->checked[unit], 1, memory_order_relaxed);
  return 0;
}

static void place(lv_elog_seg *seg, const lv__idx *idx, const lv__dir *d, uint32_t i,
                  const uint32_t *words, lv_elog_at *ret) {
  bool pseudo = d->chan == LV_ELOG_STATE || d->chan == LV_ELOG_RETAINED;
  uint64_t lsn = seg->base + (uint64_t)words[0] * LV_REC_ALIGN;
  *ret = (lv_elog_at){.lsn = lsn,
                      .offset = pseudo ? 0 : d->first + i,
                      .pos = idx->words == 2 ? (uint64_t)words[1] * LV_REC_ALIGN
                                             : lv__pos_of(seg, lsn),
                      .seg = seg};
}

/* Index within the unit of the first entry with lsn >= from. */
static int lower(lv_disk *disk, const lv_elog_seg *seg, const lv__idx *idx, const lv__dir *d,
                 uint64_t from, uint32_t *ret) {
  uint32_t lo = 0, hi = d->count, words[2];
  while (lo < hi) {
    uint32_t mid = lo + (hi - lo) / 2;
    int rc = entries_read(disk, idx, (uint64_t)d->start + mid, 1, words);
    if (rc < 0) return rc;
    if (seg->base + (uint64_t)words[0] * LV_REC_ALIGN < from)
      lo = mid + 1;
    else
      hi = mid;
  }
  *ret = lo;
  return 0;
}

int lv__idx_find(lv_disk *disk, lv_elog_seg *seg, lv__idx *idx, uint32_t unit, const lv__want *w,
                 lv_elog_at *ret) {
  enum { STEP = 128 };
  uint32_t words[STEP * 2], i = 0, n = 0;
  int rc = lv__idx_check_unit(disk, idx, unit);
  if (rc < 0) return rc;
  const lv__dir *d = &idx->dir[unit];
  if (w->from > seg->base && (rc = lower(disk, seg, idx, d, w->from, &i)) < 0) return rc;
  if (w->first > d->first) i = (uint32_t)lv__min(d->count, lv__max(i, w->first - d->first));
  while (i < d->count && n < w->max) {
    uint32_t step = (uint32_t)lv__min(lv__min(d->count - i, w->max - n), STEP);
    if ((rc = entries_read(disk, idx, (uint64_t)d->start + i, step, words)) < 0) return rc;
    for (uint32_t k = 0; k < step; k++) {
      place(seg, idx, d, i + k, words + k * idx->words, &ret[n]);
      if (ret[n].lsn >= w->until) return (int)n;
      n++;
    }
    i += step;
  }
  return (int)n;
}

int lv__idx_at(lv_disk *disk, lv_elog_seg *seg, lv__idx *idx, uint32_t unit, uint64_t offset,
               lv_elog_at *ret) {
  uint32_t words[2];
  int rc = lv__idx_check_unit(disk, idx, unit);
  if (rc < 0) return rc;
  const lv__dir *d = &idx->dir[unit];
  assert(offset >= d->first && offset - d->first < d->count);
  uint32_t i = (uint32_t)(offset - d->first);
  if ((rc = entries_read(disk, idx, (uint64_t)d->start + i, 1, words)) < 0) return rc;
  place(seg, idx, d, i, words, ret);
  return 0;
}

int lv__idx_rebuild(lv_elog *l, lv_elog_seg *seg) {
  lv_elog_seg *tmp = lv__seg_new(seg->disk, -1, seg->base);
  const lv_rec *rec;
  uint64_t pos, n;
  lv__scan s;
  int rc;
  /* Every unit goes through the packed builder, with positions: also around damaged records. */
  tmp->compacted = true;
  tmp->end = seg->end;
  tmp->gen = seg->gen;
  lv__scan_init(&s, seg, seg->compacted ? seg->file_end : lv__pos_of(seg, seg->end), seg->end);
  do {
    while ((rc = lv__scan_next(&s, &rec, &pos)) == 1) {
      if (lv__rec_usable(rec)) lv__mem_add_packed(tmp, rec->chan, rec, pos);
      if (lv__rec_retained(rec)) lv__mem_add_packed(tmp, LV_ELOG_RETAINED, rec, pos);
      if (lv__rec_state(rec)) lv__mem_add_packed(tmp, LV_ELOG_STATE, rec, pos);
    }
  } while (rc == 0 && (rc = lv__scan_resync(&s)) == 1);
  lv__scan_done(&s);
  lv__idx *idx = NULL;
  if (rc == 0) {
    uint8_t *image = lv__idx_image(l->name, tmp, &n);
    rc = lv__idx_of_image(image, n, tmp, &idx);
    assert(rc == 0);
    idx->older = atomic_load(&seg->idx);
    atomic_store(&seg->idx, idx);
  }
  lv__seg_unref(tmp, 1);
  return rc;
}
