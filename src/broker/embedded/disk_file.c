/* disk_file.c: the real disk: a folder of files. A file's number is its file descriptor.
 *
 * The folder is locked with flock on its file `lock`, which dies with the process; with flock on
 * the folder itself those who read it keep its files from being used again. `prepare` writes zeros
 * over reserved blocks: on ext4 and xfs a write into blocks that were only reserved changes
 * metadata at each sync; into blocks that were written once it does not (measured: 2x per
 * fdatasync, more per write).
 *
 * @thread any; one file is written by one thread at a time. */
#include "broker/embedded/disk.h"
#include "core/time.h"
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { MAGIC = 0x4C42D15C, IOV_RUN = 256, ZEROS = 256 * 1024 };

typedef struct disk_file {
  lv_disk base;
  uint32_t magic;
  int dir_fd, lock_fd;
} disk_file;

static disk_file *of(lv_disk *d) {
  disk_file *f = (disk_file *)d;
  assert(f && f->magic == MAGIC);
  return f;
}

static int err_of(int eno) {
  return eno == ENOENT ? LV_E_NOT_FOUND : lv_err_from_errno(eno);
}

static int file_open(lv_disk *d, const char *name, bool create, int *ret_fd) {
  int fd = openat(of(d)->dir_fd, name, O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0640);
  if (fd < 0 && !create && (errno == EACCES || errno == EROFS))
    fd = openat(of(d)->dir_fd, name, O_RDONLY | O_CLOEXEC); /* for `lavva log` */
  if (fd < 0) return err_of(errno);
  *ret_fd = fd;
  return 0;
}

static void file_close(lv_disk *d, int fd) {
  (void)d;
  int rc = close(fd);
  assert(rc == 0 || errno != EBADF);
  (void)rc;
}

/* Drops the first n bytes from an array of pieces; returns how many pieces are left. */
static int iov_skip(struct iovec *iov, int n_iov, size_t n) {
  int i = 0;
  while (i < n_iov && n >= iov[i].iov_len) n -= iov[i++].iov_len;
  if (i < n_iov) {
    iov[i].iov_base = (char *)iov[i].iov_base + n;
    iov[i].iov_len -= n;
  }
  memmove(iov, iov + i, (size_t)(n_iov - i) * sizeof *iov);
  return n_iov - i;
}

static int write_run(int fd, const struct iovec *from, int n, uint64_t *at) {
  struct iovec iov[IOV_RUN];
  memcpy(iov, from, (size_t)n * sizeof *iov);
  while (n > 0) {
    ssize_t got = pwritev(fd, iov, n, (off_t)*at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return lv_err_from_errno(errno);
    if (got == 0) return LV_E_IO;
    *at += (uint64_t)got;
    n = iov_skip(iov, n, (size_t)got);
  }
  return 0;
}

static int file_write(lv_disk *d, int fd, const struct iovec *iov, int n_iov, uint64_t at) {
  (void)d;
  while (n_iov > 0) {
    int n = n_iov < IOV_RUN ? n_iov : IOV_RUN;
    int rc = write_run(fd, iov, n, &at);
    if (rc < 0) return rc;
    iov += n;
    n_iov -= n;
  }
  return 0;
}

static int64_t file_read(lv_disk *d, int fd, void *dst, uint32_t n, uint64_t at) {
  (void)d;
  uint32_t done = 0;
  while (done < n) {
    ssize_t got = pread(fd, (char *)dst + done, n - done, (off_t)(at + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return lv_err_from_errno(errno);
    if (got == 0) break;
    done += (uint32_t)got;
  }
  return done;
}

static int file_sync(lv_disk *d, int fd) {
  (void)d;
  while (fdatasync(fd) != 0)
    if (errno != EINTR) return lv_err_from_errno(errno);
  return 0;
}

static void file_flush(lv_disk *d, int fd, uint64_t at, uint64_t n) {
  (void)d;
  (void)sync_file_range(fd, (off_t)at, (off_t)n, SYNC_FILE_RANGE_WRITE);
}

static void file_ahead(lv_disk *d, int fd, uint64_t at, uint64_t n) {
  (void)d;
  (void)posix_fadvise(fd, (off_t)at, (off_t)n, POSIX_FADV_WILLNEED);
}

static int file_size(lv_disk *d, int fd, uint64_t *ret_size) {
  (void)d;
  struct stat st;
  if (fstat(fd, &st) != 0) return lv_err_from_errno(errno);
  *ret_size = (uint64_t)st.st_size;
  return 0;
}

static int file_truncate(lv_disk *d, int fd, uint64_t size) {
  (void)d;
  return ftruncate(fd, (off_t)size) == 0 ? 0 : lv_err_from_errno(errno);
}

static int file_prepare(lv_disk *d, int fd, uint64_t size, lv_disk_pace *pace, void *arg) {
  static const uint8_t zeros[ZEROS];
  if (fallocate(fd, 0, 0, (off_t)size) != 0 && errno != EOPNOTSUPP && errno != ENOSYS)
    return lv_err_from_errno(errno);
  for (uint64_t at = 0; at < size;) {
    uint64_t n = size - at < ZEROS ? size - at : ZEROS;
    struct iovec iov = {(void *)(uintptr_t)zeros, (size_t)n};
    lv_mono start = lv_mono_now();
    int rc = file_write(d, fd, &iov, 1, at);
    if (rc < 0) return rc;
    (void)sync_file_range(fd, (off_t)at, (off_t)n,
                          SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
    at += n;
    if (pace) pace(arg, (uint64_t)(lv_mono_now().ns - start.ns));
  }
  return file_sync(d, fd);
}

static int file_rename(lv_disk *d, const char *from, const char *to) {
  int fd = of(d)->dir_fd;
  return renameat(fd, from, fd, to) == 0 ? 0 : err_of(errno);
}

static int file_remove(lv_disk *d, const char *name) {
  return unlinkat(of(d)->dir_fd, name, 0) == 0 ? 0 : err_of(errno);
}

static int file_sync_dir(lv_disk *d) {
  return fsync(of(d)->dir_fd) == 0 ? 0 : lv_err_from_errno(errno);
}

static int file_list(lv_disk *d, int (*fn)(void *arg, const char *name), void *arg) {
  int fd = openat(of(d)->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return lv_err_from_errno(errno);
  DIR *dir = fdopendir(fd);
  if (!dir) {
    int eno = errno;
    (void)close(fd);
    return lv_err_from_errno(eno);
  }
  int rc = 0;
  struct dirent *e;
  while (rc == 0 && (e = readdir(dir)))
    if (e->d_name[0] != '.') rc = fn(arg, e->d_name);
  (void)closedir(dir);
  return rc;
}

static int file_space(lv_disk *d, uint64_t *ret_free_bytes) {
  struct statvfs st;
  if (fstatvfs(of(d)->dir_fd, &st) != 0) return lv_err_from_errno(errno);
  *ret_free_bytes = (uint64_t)st.f_bavail * st.f_frsize;
  return 0;
}

static int file_lock(lv_disk *d) {
  disk_file *f = of(d);
  if (f->lock_fd >= 0) return 0;
  int fd = openat(f->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0640);
  if (fd < 0) return lv_err_from_errno(errno);
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    int eno = errno;
    (void)close(fd);
    return eno == EWOULDBLOCK ? LV_E_LOCKED : lv_err_from_errno(eno);
  }
  f->lock_fd = fd;
  return 0;
}

/* Readers hold a shared lock of the folder itself: it needs no file, nor the right to write. */
static int file_reuse_begin(lv_disk *d) {
  while (flock(of(d)->dir_fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    return errno == EWOULDBLOCK ? LV_E_LOCKED : lv_err_from_errno(errno);
  }
  return 0;
}

static void file_reuse_end(lv_disk *d) {
  (void)flock(of(d)->dir_fd, LOCK_UN);
}

static void file_free(lv_disk *d) {
  if (!d) return;
  disk_file *f = of(d);
  if (f->lock_fd >= 0) (void)close(f->lock_fd);
  (void)close(f->dir_fd);
  f->magic = 0;
  free(f);
}

static const lv_disk_ops file_ops = {
    .open = file_open,
    .close = file_close,
    .write = file_write,
    .read = file_read,
    .sync = file_sync,
    .flush = file_flush,
    .ahead = file_ahead,
    .size = file_size,
    .truncate = file_truncate,
    .prepare = file_prepare,
    .rename = file_rename,
    .remove = file_remove,
    .sync_dir = file_sync_dir,
    .list = file_list,
    .space = file_space,
    .lock = file_lock,
    .reuse_begin = file_reuse_begin,
    .reuse_end = file_reuse_end,
    .free = file_free,
};

/* mkdir -p, with the mode of a data folder. */
static int make_dirs(const char *dir) {
  char path[PATH_MAX];
  size_t n = strlen(dir);
  if (n == 0 || n >= sizeof path) return LV_E_INVALID;
  memcpy(path, dir, n + 1);
  for (size_t i = 1; i <= n; i++) {
    if (path[i] != '/' && path[i] != 0) continue;
    char c = path[i];
    path[i] = 0;
    if (mkdir(path, 0750) != 0 && errno != EEXIST) return lv_err_from_errno(errno);
    path[i] = c;
  }
  return 0;
}

int lv_disk_file_new(const char *dir, lv_disk **ret_disk) {
  assert(dir && ret_disk);
  int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) {
    int rc = make_dirs(dir);
    if (rc < 0) return rc;
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  }
  if (fd < 0) return err_of(errno);
  disk_file *f = calloc(1, sizeof *f);
  if (!f) abort();
  *f = (disk_file){.base = {&file_ops}, .magic = MAGIC, .dir_fd = fd, .lock_fd = -1};
  *ret_disk = &f->base;
  return 0;
}
