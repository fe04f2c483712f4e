/* elog_verify.c: reads everything in a data folder and says what does not add up; changes nothing.
 *
 * May run beside the process that uses the folder: files that vanish meanwhile are skipped, and
 * what lies behind the last synced mark is judged as a tail that may be in the middle of a write.
 *
 * @thread any */
#include "broker/embedded/elog_int.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct verify {
  lv_disk *disk;
  const char *name;
  void (*fn)(void *arg, const char *text);
  void *arg;
  lv_elog_recovery rec;
  uint64_t *bases, trusted;
  uint32_t n, cap;
  bool corrupt;
} verify;

__attribute__((format(printf, 3, 4))) static void say(verify *v, bool corrupt, const char *fmt,
                                                      ...) {
  char text[256];
  va_list ap;
  va_start(ap, fmt);
  (void)vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  v->corrupt |= corrupt;
  if (v->fn) v->fn(v->arg, text);
}

static int on_name(void *arg, const char *name) {
  verify *v = arg;
  uint64_t base;
  if (!lv__seg_name_parse(v->name, name, "seg", &base)) return 0;
  if (v->n == v->cap) {
    v->cap = v->cap ? 2 * v->cap : 64;
    if (!(v->bases = realloc(v->bases, v->cap * sizeof *v->bases))) abort();
  }
  v->bases[v->n++] = base;
  return 0;
}

static int cmp_u64(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

typedef struct counts {
  uint64_t messages, state, retained;
} counts;

/* All records; damage below `known` is reported, what follows it is read on. */
static int records(verify *v, const lv_elog_seg *seg, uint64_t known, uint64_t end, counts *ret) {
  lv__scan s;
  const lv_rec *r;
  uint64_t pos;
  int rc;
  lv__scan_init(&s, seg, seg->compacted ? seg->file_end : seg->cap, end);
  for (;;) {
    while ((rc = lv__scan_next(&s, &r, &pos)) == 1) {
      v->rec.records++;
      v->rec.bytes += r->size;
      v->rec.clean = r->kind == LV_REC_NOTE;
      ret->messages += lv__rec_usable(r);
      ret->state += lv__rec_state(r);
      ret->retained += lv__rec_retained(r);
    }
    bool whole = seg->compacted ? s.pos >= s.limit : s.lsn >= known;
    if (rc < 0 || whole) break;
    uint64_t bad = s.lsn, bad_pos = s.pos;
    rc = lv__scan_resync(&s);
    uint64_t to = rc == 1 ? s.lsn : seg->compacted ? seg->end : known;
    if (!seg->compacted) to = lv__min(to, known);
    say(v, true, "%s-%016llx.seg: damaged at position %llu: lsn %llu to %llu", v->name,
        (unsigned long long)seg->base, (unsigned long long)bad_pos, (unsigned long long)bad,
        (unsigned long long)to);
    v->rec.damaged_bytes += to - bad;
    if (rc != 1) break;
  }
  if (rc == 0 && s.lsn > known) known = s.lsn;
  if (rc == 0 && !seg->compacted && lv__scan_resync(&s) == 1) {
    say(v, false, "%s-%016llx.seg: torn tail behind lsn %llu", v->name,
        (unsigned long long)seg->base, (unsigned long long)known);
    v->rec.torn_bytes += s.lsn - known;
  }
  lv__scan_done(&s);
  return rc < 0 ? rc : 0;
}

static void index_of(verify *v, const lv_elog_seg *seg, lv__idx *idx, const counts *found) {
  counts told = {0};
  for (uint32_t i = 0; i < idx->n_dir; i++) {
    const lv__dir *d = &idx->dir[i];
    if (lv__idx_check_unit(v->disk, idx, i) < 0)
      say(v, true, "%s-%016llx.idx: entries of channel %u damaged (made anew when needed)", v->name,
          (unsigned long long)seg->base, d->chan);
    if (d->chan == LV_ELOG_STATE)
      told.state += d->count;
    else if (d->chan == LV_ELOG_RETAINED)
      told.retained += d->count;
    else
      told.messages += d->count;
  }
  if (v->rec.damaged_bytes || seg->compacted) return; /* counts differ for a reason */
  if (told.messages != found->messages || told.state != found->state ||
      told.retained != found->retained)
    say(v, true, "%s-%016llx.idx: names %llu messages, the segment has %llu", v->name,
        (unsigned long long)seg->base, (unsigned long long)told.messages,
        (unsigned long long)found->messages);
}

static int segment(verify *v, uint32_t i) {
  lv_elog_seg *seg;
  lv__idx *idx = NULL;
  counts found = {0};
  uint64_t end = i + 1 < v->n ? v->bases[i + 1] : UINT64_MAX;
  int rc = lv__seg_open(v->disk, v->name, v->bases[i], &seg);
  if (rc == LV_E_NOT_FOUND) return 0;
  if (rc < 0) {
    say(v, rc == LV_E_CORRUPT, "%s-%016llx.seg: %s", v->name, (unsigned long long)v->bases[i],
        lv_err_text(rc));
    return rc == LV_E_CORRUPT ? 0 : rc;
  }
  v->rec.segments++;
  if (!seg->head_ok)
    say(v, seg->base < v->trusted, "%s-%016llx.seg: head damaged", v->name,
        (unsigned long long)seg->base);
  rc = lv__idx_load(v->disk, v->name, seg, &idx);
  if (rc == LV_E_FORMAT || rc == LV_E_IO) {
    lv__seg_unref(seg, 1);
    return rc;
  }
  if (rc < 0 && rc != LV_E_NOT_FOUND)
    say(v, true, "%s-%016llx.idx: damaged (made anew at the next start)", v->name,
        (unsigned long long)seg->base);
  if (seg->compacted || idx) end = lv__min(end, idx ? idx->seg_end : seg->end);
  uint64_t known = idx || seg->compacted ? end : lv__min(end, lv__max(seg->mark, v->trusted));
  if (!idx && known > seg->base + seg->cap) known = seg->base;
  rc = records(v, seg, known, end, &found);
  if (rc == 0 && idx) index_of(v, seg, idx, &found);
  lv__idx_free(v->disk, idx);
  lv__seg_unref(seg, 1);
  return rc;
}

static void find_trusted(verify *v) {
  for (uint32_t i = 0; i < v->n; i++) {
    lv_elog_seg *seg;
    if (lv__seg_open(v->disk, v->name, v->bases[i], &seg) < 0) continue;
    v->trusted = lv__max(v->trusted, seg->mark);
    lv__seg_unref(seg, 1);
  }
}

int lv_elog_verify(lv_disk *disk, const char *name, void (*fn)(void *arg, const char *text),
                   void *arg, lv_elog_recovery *ret) {
  verify v = {.disk = disk, .name = name, .fn = fn, .arg = arg};
  int rc = disk->ops->list(disk, on_name, &v);
  if (v.n) qsort(v.bases, v.n, sizeof *v.bases, cmp_u64);
  find_trusted(&v);
  for (uint32_t i = 0; rc == 0 && i < v.n; i++) rc = segment(&v, i);
  free(v.bases);
  if (ret) *ret = v.rec;
  return rc < 0 ? rc : v.corrupt ? LV_E_CORRUPT : 0;
}
