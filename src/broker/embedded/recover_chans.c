/* recover_chans.c: the channels file: first and next offset of each channel, written whole.
 *
 *   0  magic, format, count, crc of the entries, crc of the head (32 bytes)
 *   32 entries: u32 chan, u32 0, u64 first, next, gone_lsn
 *
 * Needed only for channels whose last segment was dropped: without it their offsets would start
 * again at 0. It is therefore written and synced before any segment is removed, and at a clean
 * close. Where it is missing or damaged although segments were dropped, the log takes a new epoch.
 *
 * @thread housekeeper or main */
#include "broker/embedded/elog_int.h"
#include <stdio.h>
#include <stdlib.h>

static const char chans_magic[8] = "LVCHN\r\n";

typedef struct chans_head {
  char magic[8];
  uint32_t format, n;
  uint32_t entries_crc, zero[2], crc;
} chans_head;
static_assert(sizeof(chans_head) == 32, "file format");

typedef struct chans_entry {
  uint32_t chan, zero;
  uint64_t first, next, gone_lsn;
} chans_entry;
static_assert(sizeof(chans_entry) == 32, "file format");

static uint32_t head_crc(const chans_head *h) {
  return lv_crc32c(0, h, offsetof(chans_head, crc));
}

static chans_entry *snapshot(lv_elog *l, uint32_t *ret_n) {
  (void)pthread_mutex_lock(&l->mu);
  chans_entry *e = calloc((size_t)l->chan_top + 1, sizeof *e);
  if (!e) abort();
  uint32_t n = 0;
  for (uint32_t i = 1; i < l->chan_top; i++) {
    const lv__chan *c = lv__chan_at(l, i, false);
    if (c && c->next > 0) e[n++] = (chans_entry){i, 0, c->first, c->next, c->gone_lsn};
  }
  (void)pthread_mutex_unlock(&l->mu);
  *ret_n = n;
  return e;
}

int lv__chans_store(lv_elog *l) {
  lv_disk *d = l->disk;
  char name[LV__NAME_MAX], tmp[LV__NAME_MAX];
  uint32_t n;
  int fd, rc;
  (void)snprintf(name, sizeof name, "%s.chans", l->name);
  (void)snprintf(tmp, sizeof tmp, "%s.chans.tmp", l->name);
  chans_entry *e = snapshot(l, &n);
  chans_head h = {.format = LV_ELOG_FORMAT, .n = n, .entries_crc = lv_crc32c(0, e, n * sizeof *e)};
  memcpy(h.magic, chans_magic, sizeof h.magic);
  h.crc = head_crc(&h);
  struct iovec iov[2] = {{&h, sizeof h}, {e, n * sizeof *e}};
  rc = d->ops->open(d, tmp, true, &fd);
  if (rc == 0) {
    rc = d->ops->truncate(d, fd, 0);
    if (rc == 0) rc = d->ops->write(d, fd, iov, n ? 2 : 1, 0);
    if (rc == 0) rc = d->ops->sync(d, fd);
    d->ops->close(d, fd);
    if (rc == 0) rc = d->ops->rename(d, tmp, name);
    if (rc == 0) rc = d->ops->sync_dir(d);
    if (rc < 0) (void)d->ops->remove(d, tmp);
  }
  free(e);
  return rc;
}

static void take(lv_elog *l, const chans_entry *e) {
  lv__chan *c = lv__chan_at(l, e->chan, true);
  if (!c || e->first > e->next) return;
  c->first = e->first;
  c->next = c->floor = e->next;
  c->gone_lsn = e->gone_lsn;
}

int lv__chans_load(lv_elog *l) {
  lv_disk *d = l->disk;
  char name[LV__NAME_MAX];
  chans_head h = {0};
  uint64_t size = 0;
  int fd, rc;
  (void)snprintf(name, sizeof name, "%s.chans", l->name);
  if ((rc = d->ops->open(d, name, false, &fd)) < 0) return rc;
  int64_t got = d->ops->read(d, fd, &h, sizeof h, 0);
  rc = got < 0 ? (int)got : d->ops->size(d, fd, &size);
  if (rc == 0 && (got != sizeof h || memcmp(h.magic, chans_magic, 8) || h.crc != head_crc(&h)))
    rc = LV_E_CORRUPT;
  if (rc == 0 && h.format > LV_ELOG_FORMAT) rc = LV_E_FORMAT;
  if (rc == 0 && (h.n > LV_ELOG_CHAN_MAX || size < sizeof h + h.n * sizeof(chans_entry)))
    rc = LV_E_CORRUPT;
  chans_entry *e = NULL;
  if (rc == 0) {
    uint32_t n = h.n * (uint32_t)sizeof *e;
    if (!(e = malloc(n + 1))) abort();
    got = d->ops->read(d, fd, e, n, sizeof h);
    rc = got < 0 ? (int)got : got != n || lv_crc32c(0, e, n) != h.entries_crc ? LV_E_CORRUPT : 0;
  }
  d->ops->close(d, fd);
  for (uint32_t i = 0; rc == 0 && i < h.n; i++) take(l, &e[i]);
  free(e);
  return rc;
}
