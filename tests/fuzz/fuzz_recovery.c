/* fuzz_recovery.c: any bytes as a segment file and its index file. Opening must not crash and must
 * never show a record that fails its checksum; what it accepted must verify, open again and read
 * the same.
 *
 *   byte 0      bit 0: memory log; bit 1: the input is taken as it is (else heads and CRCs are made
 *               right first, so that the fuzzer gets past them); bits 2-3: how the log ends
 *   u16         bytes of the segment file that follow (little-endian), then the index file */
#include "broker/embedded/elog.h"
#include <stdio.h>
#include <stdlib.h>

enum { BASE = 4096, SEG_MAX = 20000 };

static void put_file(lv_disk *d, const char *name, const uint8_t *p, size_t n) {
  int fd;
  struct iovec iov = {(void *)(uintptr_t)p, n};
  if (d->ops->open(d, name, true, &fd) < 0) abort();
  if (d->ops->write(d, fd, &iov, 1, 0) < 0 || d->ops->sync(d, fd) < 0) abort();
  d->ops->close(d, fd);
}

static void set_crc(uint8_t *p, size_t at) {
  uint32_t crc = lv_crc32c(0, p, at);
  memcpy(p + at, &crc, sizeof crc);
}

/* Gives records that lie one behind the other their lsn and CRC, as far as their sizes are sane. */
static void seal_all(uint8_t *p, size_t n) {
  for (size_t at = BASE; at + LV_REC_HEAD <= n;) {
    lv_rec r;
    memcpy(&r, p + at, sizeof r);
    if (r.size < LV_REC_HEAD || r.size % 8 || r.size > n - at) break;
    r.lsn = at; /* base 4096 and a head of 4096: address and position agree */
    memcpy(p + at, &r, sizeof r);
    r.crc = lv_crc32c(0, p + at + 8, r.size - 8);
    memcpy(p + at + 4, &r.crc, sizeof r.crc);
    at += r.size;
  }
}

typedef struct sum {
  uint64_t n, crc, end;
} sum;

static sum read_all(lv_elog *l) {
  sum s = {.end = lv_elog_end(l)};
  for (uint64_t at = 0; at < s.end;) {
    lv_block *b = NULL;
    uint32_t bytes = 0;
    uint64_t before = at;
    int rc = lv_elog_scan(l, at, UINT64_MAX, 8192, &b, &bytes, &at);
    if (rc < 0 && rc != LV_E_CORRUPT) abort();
    if (at <= before) abort();
    for (uint32_t o = 0; o < bytes;) {
      const lv_rec *r = NULL;
      if (lv_rec_check(b->data + o, bytes - o, &r) < 0) abort(); /* shown, but not sound */
      if (r->kind != LV_REC_NOTE) s.crc = s.crc * 31 + r->crc;
      s.n += r->kind != LV_REC_NOTE;
      o += r->size;
    }
    lv_block_unref(b);
  }
  return s;
}

static void read_index(lv_elog *l, uint32_t chan) {
  lv_elog_at at[32];
  uint64_t from = 0, last = 0;
  for (int n; (n = lv_elog_find(l, chan, from, UINT64_MAX, 32, at)) > 0;) {
    for (int i = 0; i < n; i++) {
      lv_block *b = NULL;
      const lv_rec *r = NULL;
      int rc = lv_elog_pread(l, &at[i], &b, &r);
      if (rc == 0 && r->lsn != at[i].lsn) abort();
      if (rc == 0 && lv_rec_check(r, r->size, &r) < 0) abort();
      if (rc == 0) lv_block_unref(b);
      if (at[i].lsn > last) last = at[i].lsn;
    }
    lv_elog_release(at, (uint32_t)n);
    if (last + 8 <= from) break;
    from = last + 8;
  }
  if (lv_elog_find_offset(l, chan, 1, at) == 0) lv_elog_release(at, 1);
}

static lv_elog *open_log(lv_disk *d, bool memory, uint64_t seed) {
  lv_elog_conf conf = {.disk = d,
                       .name = "disk",
                       .segment_bytes = 32768,
                       .first_bytes = 8192,
                       .epoch_on_unclean = memory,
                       .seed = seed};
  lv_elog *l = NULL;
  lv_elog_recovery rec;
  char why[LV_ELOG_WHY];
  int rc = lv_elog_open(&conf, &l, &rec, why);
  if (rc < 0 && !why[0]) abort();
  return rc < 0 ? NULL : l;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 3) return 0;
  uint8_t how = data[0];
  size_t n_seg = (size_t)(data[1] | data[2] << 8), n_idx;
  if (n_seg > size - 3) n_seg = size - 3;
  if (n_seg > SEG_MAX) n_seg = SEG_MAX;
  n_idx = size - 3 - n_seg;
  uint8_t *seg = malloc(n_seg + 1), *idx = malloc(n_idx + 1);
  memcpy(seg, data + 3, n_seg);
  memcpy(idx, data + 3 + n_seg, n_idx);
  if (!(how & 2) && n_seg >= 512) set_crc(seg, 508);
  if (!(how & 2)) seal_all(seg, n_seg);
  if (!(how & 2) && n_idx >= 128) set_crc(idx, 124);
  lv_disk *d = lv_disk_fault_new(&(lv_disk_faults){.seed = 1});
  put_file(d, "disk-0000000000001000.seg", seg, n_seg);
  if (n_idx) put_file(d, "disk-0000000000001000.idx", idx, n_idx);
  (void)d->ops->sync_dir(d);
  (void)lv_elog_verify(d, "disk", NULL, NULL, NULL);
  lv_elog *l = open_log(d, how & 1, 7);
  if (l) {
    sum first = read_all(l);
    for (uint32_t c = 1; c < 4; c++) read_index(l, c);
    read_index(l, LV_ELOG_STATE);
    read_index(l, LV_ELOG_RETAINED);
    if (how & 4)
      (void)lv_elog_close(l);
    else
      lv_elog_abandon(l);
    if (how & 8) lv_disk_fault_crash(d);
    if (!(l = open_log(d, how & 1, 8))) abort(); /* what was accepted once is accepted again */
    sum second = read_all(l);
    if (first.n != second.n || first.crc != second.crc) abort();
    lv_elog_abandon(l);
  }
  d->ops->free(d);
  free(seg);
  free(idx);
  return 0;
}
