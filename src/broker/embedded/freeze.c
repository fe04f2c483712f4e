/* freeze.c: see freeze.h.
 *
 * The folder is opened through a view (disk_view.c) by the very recovery that a server uses: what
 * it cuts and mends is in the view's memory, what it keeps are bytes of the files that nobody
 * changes any more. Three things do change in files that are open:
 *
 *   records behind the end   the view covers them with the zeros of recovery
 *   the synced mark          of segments without an index: put back to what recovery believed,
 *                            or damage would be seen where there is only an end
 *   files used again         the view's lock of the folder keeps the server from it
 *
 * Which log is opened first does not matter: a session's record that knows of addresses which the
 * other log's copy does not hold is what a crash leaves as well, and the new epoch that thaw begins
 * lies behind all of them.
 *
 * @thread one */
#include "broker/embedded/freeze.h"
#include "broker/chan.h"
#include "broker/embedded/elog_int.h"
#include "broker/embedded/logtool_int.h"
#include <stdio.h>
#include <stdlib.h>

enum { OPEN_TRIES = 50 };
static const char *const log_names[LV_FREEZE_LOGS] = {"mem", "disk"};
static_assert((int)LV_FREEZE_LOGS == (int)LV_DURABILITY_COUNT, "a log a durability");

struct lv_freeze {
  lv_disk *disk;
  lv_elog *elog[LV_FREEZE_LOGS];
  lv_freeze_log logs[LV_FREEZE_LOGS];
  lv_freeze_file *files;
  uint32_t n_files, cap_files;
};

bool lv_freeze_is_log(const char *name) {
  for (int i = 0; i < LV_FREEZE_LOGS; i++) {
    size_t n = strlen(log_names[i]);
    if (strncmp(name, log_names[i], n) == 0 && (name[n] == '-' || name[n] == '.')) return true;
  }
  return false;
}

/* Takes a file in, `most` bytes of it at most; one that is not there is left out. */
static int add(lv_freeze *f, const char *name, uint64_t most) {
  lv_freeze_file file = {.size = 0};
  uint64_t size;
  int rc = f->disk->ops->open(f->disk, name, false, &file.fd);
  if (rc < 0) return rc == LV_E_NOT_FOUND ? 0 : rc;
  if ((rc = f->disk->ops->size(f->disk, file.fd, &size)) < 0) return rc;
  (void)snprintf(file.name, sizeof file.name, "%s", name);
  file.size = lv__min(size, most);
  if (f->n_files == f->cap_files) {
    f->cap_files = f->cap_files ? 2 * f->cap_files : 64;
    f->files = realloc(f->files, f->cap_files * sizeof *f->files);
    if (!f->files) abort();
  }
  f->files[f->n_files++] = file;
  return 0;
}

/* A mark that the server wrote after recovery had looked would tell of records that are not here.
 */
static int mark_back(const lv_elog_seg *seg) {
  static const uint8_t none[16];
  struct iovec iov = {(void *)(uintptr_t)none, sizeof none};
  if (seg->mark) {
    lv__mark_write((lv_elog_seg *)(uintptr_t)seg, seg->mark);
    return 0;
  }
  return seg->disk->ops->write(seg->disk, seg->fd, &iov, 1, LV__MARK_AT);
}

static int add_log(lv_freeze *f, const lv_elog *l) {
  char name[LV__NAME_MAX];
  int rc = 0;
  for (uint32_t i = 0; rc == 0 && i < l->n_segs; i++) {
    const lv_elog_seg *seg = l->segs[i];
    bool indexed = atomic_load(&seg->idx) != NULL;
    uint64_t end = i + 1 < l->n_segs ? seg->end : lv_elog_end(l);
    if (!indexed && !seg->compacted) rc = mark_back(seg);
    lv__seg_name(l->name, seg->base, "seg", name);
    if (rc == 0) rc = add(f, name, seg->compacted ? seg->file_end : lv__pos_of(seg, end));
    lv__seg_name(l->name, seg->base, "idx", name);
    if (rc == 0 && indexed) rc = add(f, name, UINT64_MAX);
  }
  (void)snprintf(name, sizeof name, "%s.chans", l->name);
  return rc == 0 ? add(f, name, UINT64_MAX) : rc;
}

typedef struct seen {
  const char *log;
  bool any;
} seen;

static int on_name(void *arg, const char *name) {
  seen *s = arg;
  uint64_t base;
  s->any |= lv__seg_name_parse(s->log, name, "seg", &base);
  return 0;
}

static int open_log(lv_freeze *f, int i, bool *any, char *why) {
  seen s = {.log = log_names[i]};
  int rc = f->disk->ops->list(f->disk, on_name, &s);
  if (rc < 0 || !s.any) return rc;
  *any = true;
  lv_elog_conf conf = {.disk = f->disk, .name = log_names[i]};
  rc = lv_elog_open(&conf, &f->elog[i], NULL, why);
  if (rc < 0) return rc;
  f->logs[i] = (lv_freeze_log){
      .name = log_names[i], .end = lv_elog_end(f->elog[i]), .format = LV_ELOG_FORMAT};
  (void)snprintf(f->logs[i].epoch, sizeof f->logs[i].epoch, "%s", lv_elog_epoch(f->elog[i]));
  return add_log(f, f->elog[i]);
}

void lv_freeze_close(lv_freeze *f) {
  if (!f) return;
  for (int i = 0; i < LV_FREEZE_LOGS; i++) lv_elog_abandon(f->elog[i]);
  if (f->disk) f->disk->ops->free(f->disk);
  free(f->files);
  free(f);
}

static int open_once(const char *dir, lv_freeze **ret, char *why) {
  lv_freeze *f = calloc(1, sizeof *f);
  bool any = false;
  if (!f) abort();
  why[0] = '\0';
  int rc = lv__disk_view_new(dir, &f->disk);
  if (rc < 0) (void)snprintf(why, LV_ELOG_WHY, "%s", lv_err_text(rc));
  for (int i = 0; rc == 0 && i < LV_FREEZE_LOGS; i++) {
    f->logs[i] = (lv_freeze_log){.name = log_names[i]};
    rc = open_log(f, i, &any, why);
    if (rc < 0 && !why[0])
      (void)snprintf(why, LV_ELOG_WHY, "log %s: %s", log_names[i], lv_err_text(rc));
  }
  if (rc == 0 && !any) {
    (void)snprintf(why, LV_ELOG_WHY, "no log in this folder");
    rc = LV_E_NOT_FOUND;
  }
  if (rc < 0)
    lv_freeze_close(f);
  else
    *ret = f;
  return rc;
}

int lv_freeze_open(const char *dir, lv_freeze **ret_freeze, char *why) {
  int rc = 0;
  for (int i = 0; i < OPEN_TRIES; i++) { /* the server may drop a file while it is opened */
    rc = open_once(dir, ret_freeze, why);
    if (rc == 0 || rc == LV_E_FORMAT) return rc;
  }
  return rc;
}

const lv_freeze_file *lv_freeze_files(const lv_freeze *f, uint32_t *ret_n) {
  *ret_n = f->n_files;
  return f->files;
}

const lv_freeze_log *lv_freeze_logs(const lv_freeze *f) {
  return f->logs;
}

int64_t lv_freeze_read(lv_freeze *f, uint32_t i, void *dst, uint32_t n, uint64_t at) {
  assert(i < f->n_files);
  const lv_freeze_file *file = &f->files[i];
  if (at >= file->size) return 0;
  if (n > file->size - at) n = (uint32_t)(file->size - at);
  return f->disk->ops->read(f->disk, file->fd, dst, n, at);
}

int lv_freeze_thaw(const char *dir, char *why) {
  lv_disk *disk = NULL;
  why[0] = '\0';
  int rc = lv_disk_file_new(dir, &disk);
  if (rc == 0) rc = disk->ops->lock(disk);
  for (int i = 0; rc == 0 && i < LV_FREEZE_LOGS; i++) {
    lv_elog_conf conf = {.disk = disk,
                         .name = log_names[i],
                         .epoch_on_unclean = i == LV_DURABILITY_MEMORY,
                         .epoch_fresh = true};
    lv_elog *l = NULL;
    rc = lv_elog_open(&conf, &l, NULL, why);
    if (rc == 0) rc = lv_elog_close(l);
  }
  if (rc < 0 && !why[0]) (void)snprintf(why, LV_ELOG_WHY, "%s", lv_err_text(rc));
  if (disk) disk->ops->free(disk);
  return rc;
}
