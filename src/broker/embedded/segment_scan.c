/* segment_scan.c: the records of a segment file in order, each checked before it is shown.
 *
 * A record counts only if its lsn is its address (in a compacted segment: above the one before, and
 * inside the segment) and its CRC is right, so that zeros, remains of a recycled file and torn
 * writes all end the scan. Reads in steps of 256 KiB; a larger record grows the buffer, but only
 * once its header looks right, so that garbage cannot ask for 64 MiB.
 *
 * @thread any: the scan belongs to its caller. */
#include "broker/embedded/elog_int.h"
#include <stdlib.h>

void lv__scan_init(lv__scan *s, const lv_elog_seg *seg, uint64_t limit, uint64_t lsn_end) {
  *s = (lv__scan){.disk = seg->disk,
                  .fd = seg->fd,
                  .compacted = seg->compacted,
                  .base = seg->base,
                  .pos = LV_ELOG_HEAD,
                  .limit = limit,
                  .lsn = seg->base,
                  .lsn_end = lsn_end};
}

void lv__scan_done(lv__scan *s) {
  free(s->buf);
  s->buf = NULL;
}

/* Makes [pos, pos + n) available in the buffer as far as the file goes. Returns the bytes there. */
static int64_t fill(lv__scan *s, uint64_t pos, uint32_t n) {
  if (pos >= s->limit) return 0;
  n = (uint32_t)lv__min(n, s->limit - pos);
  if (pos >= s->buf_at && pos + n <= s->buf_at + s->buf_n)
    return (int64_t)(s->buf_at + s->buf_n - pos);
  uint32_t want = n > LV__SCAN_BUF ? n : LV__SCAN_BUF;
  if (want > s->buf_cap) {
    free(s->buf);
    s->buf_cap = want;
    if (!(s->buf = malloc(want))) abort();
  }
  s->buf_n = 0;
  int64_t got = s->disk->ops->read(s->disk, s->fd, s->buf,
                                   (uint32_t)lv__min(s->buf_cap, s->limit - pos), pos);
  if (got < 0) return got;
  s->buf_at = pos;
  s->buf_n = (uint32_t)got;
  return got;
}

static bool address_fits(const lv__scan *s, const lv_rec *r, uint64_t pos) {
  if (r->size < LV_REC_HEAD || r->size % LV_REC_ALIGN || r->size > LV_REC_MAX) return false;
  if (r->lsn + r->size > s->lsn_end || r->lsn % LV_REC_ALIGN) return false;
  if (s->compacted) return r->lsn >= s->lsn;
  return r->lsn == pos - LV_ELOG_HEAD + s->base;
}

/* 1 when a valid record lies at pos, which is 8-aligned in the file and in the buffer. */
static int valid_at(lv__scan *s, uint64_t pos, const lv_rec **ret_rec) {
  int64_t n = fill(s, pos, LV_REC_HEAD);
  if (n < LV_REC_HEAD) return n < 0 ? (int)n : 0;
  const lv_rec *r = (const lv_rec *)(s->buf + (pos - s->buf_at));
  if (!address_fits(s, r, pos)) return 0;
  uint32_t size = r->size;
  n = fill(s, pos, size);
  if (n < size) return n < 0 ? (int)n : 0;
  return lv_rec_check(s->buf + (pos - s->buf_at), size, ret_rec) == 0;
}

int lv__scan_next(lv__scan *s, const lv_rec **ret_rec, uint64_t *ret_pos) {
  const lv_rec *r = NULL;
  int rc = valid_at(s, s->pos, &r);
  if (rc <= 0) return rc;
  *ret_rec = r;
  *ret_pos = s->pos;
  s->pos += r->size;
  s->lsn = r->lsn + r->size;
  return 1;
}

int lv__scan_resync(lv__scan *s) {
  const lv_rec *r;
  for (uint64_t pos = s->pos + LV_REC_ALIGN; pos + LV_REC_HEAD <= s->limit; pos += LV_REC_ALIGN) {
    int rc = valid_at(s, pos, &r);
    if (rc < 0) return rc;
    if (rc == 0) {
      if (fill(s, pos, LV_REC_HEAD) < LV_REC_HEAD) return 0; /* behind the end of the file */
      continue;
    }
    s->pos = pos;
    s->lsn = r->lsn;
    return 1;
  }
  return 0;
}
