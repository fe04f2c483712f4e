/* disk_view.c: a data folder seen without touching it: reads go to the files, changes stay here.
 *
 *   file:  [ base: the real file, read-only, or nothing ] + patches (at, bytes) in order of writing
 *
 * With it `lavva log` opens a log with the very recovery that the server uses, beside a server that
 * is writing or on a folder that must not change. What recovery writes (it cuts and rewrites at
 * most the unsynced tail) is held in memory. A shared lock of the folder keeps the server from
 * filling dropped files with other content, so that what was opened stays what it was; files that
 * vanish before they are opened are LV_E_NOT_FOUND, and the caller opens again.
 *
 * @thread one */
#include "broker/embedded/logtool_int.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct patch {
  struct patch *next;
  uint64_t at, n;
  uint8_t bytes[];
} patch;

typedef struct view_file {
  struct view_file *next;
  char name[64];
  int base; /* -1: none */
  bool removed;
  uint64_t base_size, size; /* base bytes that still count; size now */
  patch *first, **last;
} view_file;

typedef struct disk_view {
  lv_disk disk;
  int dir;
  view_file *files;
  view_file **open; /* by number; numbers are not used again: a tool opens a folder once */
  int n_open, cap_open;
} disk_view;

static view_file *known(disk_view *v, const char *name) {
  for (view_file *f = v->files; f; f = f->next)
    if (!strcmp(f->name, name)) return f;
  return NULL;
}

static view_file *file_new(disk_view *v, const char *name) {
  view_file *f = calloc(1, sizeof *f);
  if (!f) abort();
  snprintf(f->name, sizeof f->name, "%s", name);
  f->base = -1;
  f->last = &f->first;
  f->next = v->files;
  v->files = f;
  return f;
}

static void drop_content(view_file *f) {
  if (f->base >= 0) close(f->base);
  f->base = -1;
  for (patch *p = f->first, *next; p; p = next) {
    next = p->next;
    free(p);
  }
  f->first = NULL;
  f->last = &f->first;
  f->base_size = f->size = 0;
}

/* The file as it is seen now; NULL: there is none. */
static view_file *look(disk_view *v, const char *name) {
  view_file *f = known(v, name);
  if (f) return f->removed ? NULL : f;
  int fd = openat(v->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  struct stat st;
  if (fd < 0) return NULL;
  if (fstat(fd, &st) || !S_ISREG(st.st_mode) || strlen(name) >= sizeof f->name) {
    close(fd);
    return NULL;
  }
  f = file_new(v, name);
  f->base = fd;
  f->base_size = f->size = (uint64_t)st.st_size;
  return f;
}

static int view_open(lv_disk *d, const char *name, bool create, int *ret_fd) {
  disk_view *v = (disk_view *)d;
  view_file *f = look(v, name);
  if (!f && !create) return LV_E_NOT_FOUND;
  if (v->n_open == v->cap_open) {
    v->cap_open = v->cap_open * 2 + 64;
    v->open = realloc(v->open, (size_t)v->cap_open * sizeof *v->open);
    if (!v->open) abort();
  }
  if (!f) {
    f = known(v, name);
    if (!f) f = file_new(v, name);
    f->removed = false;
  }
  v->open[v->n_open] = f;
  *ret_fd = v->n_open++;
  return 0;
}

static void view_close(lv_disk *d, int fd) {
  (void)d;
  (void)fd;
}

static view_file *of(lv_disk *d, int fd) {
  disk_view *v = (disk_view *)d;
  assert(fd >= 0 && fd < v->n_open);
  return v->open[fd];
}

static int view_write(lv_disk *d, int fd, const struct iovec *iov, int n_iov, uint64_t at) {
  view_file *f = of(d, fd);
  uint64_t n = 0;
  for (int i = 0; i < n_iov; i++) n += iov[i].iov_len;
  patch *p = malloc(sizeof *p + n);
  if (!p) return LV_E_NOMEM;
  *p = (patch){.at = at, .n = 0};
  for (int i = 0; i < n_iov; i++) {
    memcpy(p->bytes + p->n, iov[i].iov_base, iov[i].iov_len);
    p->n += iov[i].iov_len;
  }
  *f->last = p;
  f->last = &p->next;
  if (at + n > f->size) f->size = at + n;
  return 0;
}

static int64_t view_read(lv_disk *d, int fd, void *dst, uint32_t n, uint64_t at) {
  const view_file *f = of(d, fd);
  if (at >= f->size) return 0;
  if (n > f->size - at) n = (uint32_t)(f->size - at);
  memset(dst, 0, n);
  if (f->base >= 0 && at < f->base_size) {
    uint64_t want = f->base_size - at < n ? f->base_size - at : n, got = 0;
    while (got < want) {
      ssize_t k = pread(f->base, (uint8_t *)dst + got, want - got, (off_t)(at + got));
      if (k < 0 && errno == EINTR) continue;
      if (k < 0) return lv_err_from_errno(errno);
      if (k == 0) break;
      got += (uint64_t)k;
    }
  }
  for (const patch *p = f->first; p; p = p->next) {
    uint64_t from = p->at > at ? p->at : at;
    uint64_t to = p->at + p->n < at + n ? p->at + p->n : at + n;
    if (from < to) memcpy((uint8_t *)dst + (from - at), p->bytes + (from - p->at), to - from);
  }
  return n;
}

static int view_sync(lv_disk *d, int fd) {
  (void)of(d, fd);
  return 0;
}

static void view_flush(lv_disk *d, int fd, uint64_t at, uint64_t n) {
  (void)d;
  (void)fd;
  (void)at;
  (void)n;
}

static void view_ahead(lv_disk *d, int fd, uint64_t at, uint64_t n) {
  (void)d, (void)fd, (void)at, (void)n;
}

static int view_size(lv_disk *d, int fd, uint64_t *ret_size) {
  *ret_size = of(d, fd)->size;
  return 0;
}

static int view_truncate(lv_disk *d, int fd, uint64_t size) {
  view_file *f = of(d, fd);
  if (size < f->base_size) f->base_size = size;
  for (patch *p = f->first; p; p = p->next) {
    if (p->at >= size)
      p->n = 0;
    else if (p->at + p->n > size)
      p->n = size - p->at;
  }
  f->size = size;
  return 0;
}

static int view_prepare(lv_disk *d, int fd, uint64_t size, lv_disk_pace *pace, void *arg) {
  (void)pace, (void)arg;
  view_file *f = of(d, fd);
  if (size > f->size) f->size = size;
  return 0;
}

static int view_remove(lv_disk *d, const char *name) {
  view_file *f = look((disk_view *)d, name);
  if (!f) return LV_E_NOT_FOUND;
  f->removed = true;
  return 0;
}

/* The open numbers of `from` go on naming its content; the name `to` names it from now on. */
static int view_rename(lv_disk *d, const char *from, const char *to) {
  disk_view *v = (disk_view *)d;
  view_file *f = look(v, from), *old = look(v, to);
  if (!f || strlen(to) >= sizeof f->name) return LV_E_NOT_FOUND;
  if (old) { /* out of sight, for those who have it open */
    old->removed = true;
    snprintf(old->name, sizeof old->name, "/%p", (void *)old);
  }
  char was[64];
  memcpy(was, f->name, sizeof was);
  snprintf(f->name, sizeof f->name, "%s", to);
  file_new(v, was)->removed = true;
  return 0;
}

static int view_sync_dir(lv_disk *d) {
  (void)d;
  return 0;
}

static int view_list(lv_disk *d, int (*fn)(void *arg, const char *name), void *arg) {
  disk_view *v = (disk_view *)d;
  int fd = openat(v->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
  DIR *dir = fd < 0 ? NULL : fdopendir(fd);
  if (!dir) {
    if (fd >= 0) close(fd);
    return LV_E_IO;
  }
  for (struct dirent *e; rc == 0 && (e = readdir(dir));)
    if (e->d_name[0] != '.' && !known(v, e->d_name)) rc = fn(arg, e->d_name);
  closedir(dir);
  for (view_file *f = v->files; f && rc == 0; f = f->next)
    if (!f->removed) rc = fn(arg, f->name);
  return rc;
}

static int view_space(lv_disk *d, uint64_t *ret_free_bytes) {
  (void)d;
  *ret_free_bytes = UINT64_MAX;
  return 0;
}

static int view_lock(lv_disk *d) {
  (void)d;
  return 0;
}

static int view_reuse_begin(lv_disk *d) {
  (void)d;
  return LV_E_LOCKED;
}

static void view_reuse_end(lv_disk *d) {
  (void)d;
}

static void view_free(lv_disk *d) {
  disk_view *v = (disk_view *)d;
  for (view_file *f = v->files, *next; f; f = next) {
    next = f->next;
    drop_content(f);
    free(f);
  }
  close(v->dir);
  free(v->open);
  free(v);
}

static const lv_disk_ops view_ops = {
    .open = view_open,
    .close = view_close,
    .write = view_write,
    .read = view_read,
    .sync = view_sync,
    .flush = view_flush,
    .ahead = view_ahead,
    .size = view_size,
    .truncate = view_truncate,
    .prepare = view_prepare,
    .rename = view_rename,
    .remove = view_remove,
    .sync_dir = view_sync_dir,
    .list = view_list,
    .space = view_space,
    .lock = view_lock,
    .reuse_begin = view_reuse_begin,
    .reuse_end = view_reuse_end,
    .free = view_free,
};

int lv__disk_view_new(const char *dir, lv_disk **ret_disk) {
  int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT ? LV_E_NOT_FOUND : lv_err_from_errno(errno);
  while (flock(fd, LOCK_SH) != 0) { /* at most for as long as a retention job takes */
    if (errno == EINTR) continue;
    if (errno == ENOLCK || errno == EOPNOTSUPP || errno == EINVAL) break; /* reuse fails as well */
    int err = lv_err_from_errno(errno);
    close(fd);
    return err;
  }
  disk_view *v = calloc(1, sizeof *v);
  if (!v) abort();
  v->disk.ops = &view_ops;
  v->dir = fd;
  *ret_disk = &v->disk;
  return 0;
}
