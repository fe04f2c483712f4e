/* segment.c: segment files: names, heads, the synced mark, making a new one the open one.
 *
 *   0    lv__head, zeros                      508  CRC-32C of bytes 0 … 508 (all formats)
 *   2048 synced mark: u64 lsn, u32 crc        4096 records
 *
 * Head and mark lie in different sectors, so that a torn write of one leaves the other. The mark is
 * written only after the sync that it tells of; it becomes durable with a later one. What lies
 * below it was once on disk, so damage there is rot, not a torn tail.
 *
 * @thread writer, except where elog_int.h says otherwise. */
#include "broker/embedded/elog_int.h"
#include "core/time.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

static const char seg_magic[8] = "LVSEG\r\n";

typedef struct mark {
  uint64_t synced;
  uint32_t crc, zero;
} mark;

void lv__seg_name(const char *log, uint64_t base, const char *suffix, char *ret) {
  int n = snprintf(ret, LV__NAME_MAX, "%s-%016llx.%s", log, (unsigned long long)base, suffix);
  assert(n > 0 && n < LV__NAME_MAX);
  (void)n;
}

bool lv__seg_name_parse(const char *log, const char *file, const char *suffix, uint64_t *ret_base) {
  size_t n = strlen(log);
  if (strncmp(file, log, n) != 0 || file[n] != '-') return false;
  uint64_t base = 0;
  const char *p = file + n + 1;
  for (int i = 0; i < 16; i++, p++) {
    char c = *p;
    if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return false;
    base = base << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
  }
  if (*p != '.' || strcmp(p + 1, suffix) != 0) return false;
  *ret_base = base;
  return true;
}

lv_elog_seg *lv__seg_new(lv_disk *disk, int fd, uint64_t base) {
  lv_elog_seg *seg = calloc(1, sizeof *seg);
  if (!seg) abort();
  seg->magic = LV__SEG_MAGIC;
  atomic_init(&seg->refs, 1);
  seg->disk = disk;
  seg->fd = fd;
  seg->created_ns = lv_wall_now().ns;
  seg->base = seg->end = seg->prev_end = base;
  (void)pthread_mutex_init(&seg->repair, NULL);
  return seg;
}

void lv__seg_ref(lv_elog_seg *seg, uint32_t n) {
  assert(seg->magic == LV__SEG_MAGIC);
  (void)atomic_fetch_add_explicit(&seg->refs, n, memory_order_relaxed);
}

void lv__seg_unref(lv_elog_seg *seg, uint32_t n) {
  if (!seg || n == 0) return;
  assert(seg->magic == LV__SEG_MAGIC);
  uint32_t old = atomic_fetch_sub_explicit(&seg->refs, n, memory_order_acq_rel);
  assert(old >= n);
  if (old > n) return;
  lv__idx_free(seg->disk, atomic_load(&seg->idx));
  lv__mem_free(seg);
  if (seg->fd >= 0) seg->disk->ops->close(seg->disk, seg->fd);
  (void)pthread_mutex_destroy(&seg->repair);
  seg->magic = 0;
  free(seg);
}

static uint32_t mark_crc(const lv_elog_seg *seg, uint64_t synced) {
  uint64_t v[3] = {synced, seg->base, seg->gen};
  return lv_crc32c(0, v, sizeof v);
}

void lv__mark_write(lv_elog_seg *seg, uint64_t synced) {
  mark m = {.synced = synced, .crc = mark_crc(seg, synced)};
  struct iovec iov = {&m, sizeof m};
  seg->mark = synced;
  (void)seg->disk->ops->write(seg->disk, seg->fd, &iov, 1, LV__MARK_AT);
}

int lv__head_write(lv_disk *disk, int fd, const char *log, const lv_elog_seg *seg) {
  static_assert(sizeof(lv__head) <= LV__HEAD_CRC_AT, "the head lies in one sector");
  uint8_t page[LV_ELOG_HEAD] = {0};
  lv__head h = {.format = LV_ELOG_FORMAT,
                .flags = seg->compacted ? LV__HEAD_COMPACTED : 0,
                .base = seg->base,
                .prev_end = seg->prev_end,
                .cap = seg->head_cap,
                .gen = seg->gen,
                .created_ns = seg->created_ns, /* writing a head again must not change it */
                .end = seg->compacted ? seg->end : 0,
                .file_end = seg->compacted ? seg->file_end : 0};
  memcpy(h.magic, seg_magic, sizeof h.magic);
  memcpy(h.name, log, strlen(log));
  memcpy(h.epoch, seg->epoch, sizeof h.epoch);
  memcpy(page, &h, sizeof h);
  uint32_t crc = lv_crc32c(0, page, LV__HEAD_CRC_AT);
  memcpy(page + LV__HEAD_CRC_AT, &crc, sizeof crc);
  struct iovec iov = {page, sizeof page};
  return disk->ops->write(disk, fd, &iov, 1, 0);
}

/* Fills in what the head says; head_ok stays false when it cannot be believed. */
static int head_take(lv_elog_seg *seg, const char *log, const uint8_t *page) {
  lv__head h;
  uint32_t crc;
  memcpy(&h, page, sizeof h);
  memcpy(&crc, page + LV__HEAD_CRC_AT, sizeof crc);
  if (memcmp(h.magic, seg_magic, sizeof h.magic) != 0) return 0;
  if (crc != lv_crc32c(0, page, LV__HEAD_CRC_AT)) return 0;
  if (h.format > LV_ELOG_FORMAT) return LV_E_FORMAT;
  if (h.base != seg->base || strncmp(h.name, log, sizeof h.name) != 0) return 0;
  h.epoch[sizeof h.epoch - 1] = 0;
  seg->head_ok = true;
  seg->compacted = h.flags & LV__HEAD_COMPACTED;
  seg->prev_end = h.prev_end;
  seg->gen = h.gen;
  seg->created_ns = h.created_ns;
  seg->head_cap = h.cap;
  if (!seg->compacted && h.cap <= LV__SEG_SPAN_MAX) seg->cap = lv__max(seg->cap, h.cap);
  memcpy(seg->epoch, h.epoch, sizeof seg->epoch);
  if (seg->compacted) {
    if (h.end < h.base || h.end - h.base > LV__SEG_SPAN_MAX) return LV_E_CORRUPT;
    seg->end = h.end;
    seg->file_end = h.file_end;
  }
  mark m;
  memcpy(&m, page + LV__MARK_AT, sizeof m);
  if (m.crc == mark_crc(seg, m.synced) && m.synced >= seg->base) seg->mark = m.synced;
  return 0;
}

int lv__seg_open(lv_disk *disk, const char *log, uint64_t base, lv_elog_seg **ret_seg) {
  char name[LV__NAME_MAX];
  int fd, rc;
  uint8_t page[LV_ELOG_HEAD] = {0};
  lv__seg_name(log, base, "seg", name);
  if ((rc = disk->ops->open(disk, name, false, &fd)) < 0) return rc;
  lv_elog_seg *seg = lv__seg_new(disk, fd, base);
  int64_t n = disk->ops->read(disk, fd, page, sizeof page, 0);
  if (n < 0) rc = (int)n;
  if (rc == 0) rc = disk->ops->size(disk, fd, &seg->cap);
  if (rc == 0) rc = head_take(seg, log, page);
  if (rc == 0 && seg->cap > LV__SEG_SPAN_MAX) rc = LV_E_CORRUPT;
  if (rc < 0) {
    lv__seg_unref(seg, 1);
    return rc;
  }
  *ret_seg = seg;
  return 0;
}

uint64_t lv__random(lv_elog *l) {
  const uint64_t step = 0x9E3779B97F4A7C15u; /* splitmix64 */
  uint64_t v = 0;
  if (atomic_load(&l->rng) == 0) {
    if (getrandom(&v, sizeof v, 0) != sizeof v) abort();
    return v;
  }
  v = atomic_fetch_add(&l->rng, step) + step;
  v = (v ^ v >> 30) * 0xBF58476D1CE4E5B9u;
  v = (v ^ v >> 27) * 0x94D049BB133111EBu;
  return v ^ v >> 31;
}

void lv__epoch_new(lv_elog *l) {
  static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";
  uint64_t v = lv__random(l);
  memset(l->epoch, 0, sizeof l->epoch);
  for (int i = 0; i < 12; i++, v >>= 5) l->epoch[i] = digits[v & 31];
}

void lv__segs_push(lv_elog *l, lv_elog_seg *seg) {
  if (l->n_segs == l->cap_segs) {
    l->cap_segs = l->cap_segs ? 2 * l->cap_segs : 16;
    l->segs = realloc(l->segs, l->cap_segs * sizeof *l->segs);
    if (!l->segs) abort();
  }
  assert(l->n_segs == 0 || lv__open_seg(l)->base < seg->base);
  l->segs[l->n_segs++] = seg;
  l->top_lsn = lv__max(l->top_lsn, lv__max(seg->base, seg->end));
}

/* Size of the next segment's file: four times the last one's. */
uint64_t lv__next_cap(const lv_elog *l) {
  if (l->n_segs == 0) return lv__min(l->first_bytes, l->segment_bytes);
  return lv__min(lv__max(4 * lv__open_seg(l)->cap, l->first_bytes), l->segment_bytes);
}

/* Takes the smallest spare with at least `cap` bytes and gives it its name. LV_E_NOT_FOUND. */
static int spare_take(lv_elog *l, uint64_t cap, const char *name) {
  lv__spare spare = {0};
  (void)pthread_mutex_lock(&l->mu);
  for (uint32_t i = 0; i < l->n_spares; i++) {
    if (l->spares[i].cap < cap || (spare.cap && spare.cap <= l->spares[i].cap)) continue;
    spare = l->spares[i];
  }
  for (uint32_t i = 0; spare.cap && i < l->n_spares; i++)
    if (strcmp(l->spares[i].name, spare.name) == 0) l->spares[i] = l->spares[--l->n_spares];
  (void)pthread_mutex_unlock(&l->mu);
  if (!spare.cap) return LV_E_NOT_FOUND;
  return l->disk->ops->rename(l->disk, spare.name, name);
}

int lv__seg_switch(lv_elog *l, uint64_t base, uint64_t prev_end, uint64_t need) {
  lv_disk *d = l->disk;
  char name[LV__NAME_MAX];
  int fd, rc;
  uint64_t cap = need + LV_ELOG_HEAD, size = 0;
  if (cap > LV__SEG_SPAN_MAX) return LV_E_TOO_BIG;
  lv__seg_name(l->name, base, "seg", name);
  rc = spare_take(l, cap, name);
  if (rc < 0 && rc != LV_E_NOT_FOUND) return rc;
  if ((rc = d->ops->open(d, name, true, &fd)) < 0) return rc;
  if ((rc = d->ops->size(d, fd, &size)) < 0) {
    d->ops->close(d, fd);
    return rc;
  }
  lv_elog_seg *seg = lv__seg_new(d, fd, base);
  seg->head_ok = true;
  seg->prev_end = prev_end;
  seg->cap = size >= cap ? size : lv__max(cap, lv__next_cap(l));
  seg->head_cap = seg->cap;
  seg->gen = lv__random(l);
  memcpy(seg->epoch, l->epoch, sizeof seg->epoch);
  if ((rc = lv__head_write(d, fd, l->name, seg)) < 0) {
    lv__seg_unref(seg, 1);
    (void)d->ops->remove(d, name);
    return rc;
  }
  (void)pthread_mutex_lock(&l->mu);
  if (l->n_segs > 0) lv__open_seg(l)->end = prev_end;
  lv__segs_push(l, seg);
  atomic_store(&l->end, base);
  l->dir_dirty = true;
  (void)pthread_mutex_unlock(&l->mu);
  return 0;
}

static bool all_zero(const uint8_t *p, uint64_t n) {
  return n == 0 || (p[0] == 0 && memcmp(p, p + 1, (size_t)n - 1) == 0);
}

/* Also what reads as zeros is written: if it is the cache's word for zeros that never reached the
 * disk, because their sync failed, only another write makes them go there. */
int lv__zero_rest(lv_disk *disk, int fd, uint64_t pos, uint64_t *ret_n) {
  uint8_t *buf = malloc(LV__SCAN_BUF);
  if (!buf) abort();
  uint64_t found = 0;
  int rc = 0;
  while (rc == 0) {
    int64_t n = disk->ops->read(disk, fd, buf, LV__SCAN_BUF, pos);
    if (n <= 0) {
      rc = (int)n;
      break;
    }
    for (uint64_t i = 0; i < (uint64_t)n; i += 4096) {
      uint64_t part = lv__min((uint64_t)n - i, 4096);
      if (!all_zero(buf + i, part)) found += part;
    }
    memset(buf, 0, (size_t)n);
    struct iovec iov = {buf, (size_t)n};
    rc = disk->ops->write(disk, fd, &iov, 1, pos);
    pos += (uint64_t)n;
  }
  free(buf);
  if (ret_n) *ret_n = found;
  return rc;
}
