/* diskfault.c: a disk that fills and fails, for end-to-end tests: loaded in front of libc
 * (LD_PRELOAD) it changes what the calls that make and write files say, below one folder.
 *
 * A test steers it while the server runs, through a small file that both map (diskfault.py writes
 * the same layout): LV_DISKFAULT_CTL names it, LV_DISKFAULT_DIR the folder. No privileges needed.
 *
 *   space     a file system of `space` free bytes: making a file takes 4 KiB, growing one what it
 *             grows, overwriting nothing, removing one gives back its size; what does not fit is
 *             written as far as it does, then ENOSPC; statvfs tells the same number
 *   write     the next write_n writes (-1: all) fail with write_errno, after write_part bytes
 *   sync      the next sync_n fdatasync and fsync fail with sync_errno, and, with `lose`, what was
 *             written to that file since its last sync is gone: zeros, as when the kernel drops
 *             dirty pages whose write-back failed
 *   make      the next make_n new files (-1: all) fail with make_errno
 *   chunk     a write takes at most so many bytes and says so: a legal short write
 *   hold      fdatasync does not return while it is set
 *   hold_reads  a pread does not return while it is set
 *   match     faults hit only files with this text in their names (space counts for all)
 *
 * Limits: 4,096 writes a sync interval are remembered for `lose`. Thread-safe by one mutex, which
 * is not held across `hold`. Without LV_DISKFAULT_CTL it does nothing. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { WRITES_MAX = 4096, BLOCK = 4096, PATH_SIZE = 4096 };

typedef struct control { /* diskfault.py: FIELDS */
  _Atomic int64_t space;
  _Atomic int32_t space_on, write_n, write_errno, sync_n, sync_errno, lose, chunk, hold, make_n,
      make_errno;
  _Atomic int64_t write_part;
  _Atomic int64_t writes, writes_failed, syncs, syncs_failed, syncs_held, makes_failed;
  char match[32];
  _Atomic int32_t hold_reads, reads_held;
} control;

typedef struct dirty {
  int fd;
  off_t at;
  size_t n;
} dirty;

static control *ctl;
static char folder[PATH_SIZE];
static dirty writes[WRITES_MAX];
static int n_writes;
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void start(void) {
  const char *path = getenv("LV_DISKFAULT_CTL"), *dir = getenv("LV_DISKFAULT_DIR");
  if (!path || !dir) return;
  snprintf(folder, sizeof folder, "%s/", dir);
  int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
  void *p =
      fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (p == MAP_FAILED) abort();
  close(fd);
  ctl = p;
}

/* ---- which file ---- */

/* The folder itself, or something in it. `folder` ends with a slash. */
static bool below(const char *path) {
  size_t n = strlen(folder);
  return strncmp(path, folder, n) == 0 ||
         (strlen(path) == n - 1 && memcmp(path, folder, n - 1) == 0);
}

static bool fd_path(int fd, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, PATH_SIZE - 1);
  path[n > 0 ? n : 0] = 0;
  return n > 0;
}

/* Ours; ret_hit: and one that faults are meant for. */
static bool ours(int fd, bool *ret_hit) {
  char path[PATH_SIZE];
  *ret_hit = false;
  if (!ctl || !fd_path(fd, path) || !below(path)) return false;
  *ret_hit = !ctl->match[0] || strstr(path + strlen(folder) - 1, ctl->match);
  return true;
}

static bool path_ours(int dir_fd, const char *path) {
  char at[PATH_SIZE];
  if (!ctl) return false;
  if (path[0] == '/') return below(path);
  return dir_fd != AT_FDCWD && fd_path(dir_fd, at) && below(at);
}

/* Takes one of a number of faults; -1 is endless. */
static bool take(_Atomic int32_t *n) {
  int32_t now = atomic_load(n);
  while (now > 0 && !atomic_compare_exchange_weak(n, &now, now - 1)) continue;
  return now != 0;
}

static int fail(int eno) {
  errno = eno;
  return -1;
}

/* ---- writing ---- */

static off_t size_of(int fd) {
  struct stat st;
  return fstat(fd, &st) == 0 ? st.st_size : 0;
}

/* How many of n bytes at `at` fit; takes the space. */
static size_t fit(int fd, off_t at, size_t n) {
  off_t size = size_of(fd), grow = at + (off_t)n - size;
  if (!atomic_load(&ctl->space_on) || grow <= 0) return n;
  int64_t left = atomic_load(&ctl->space), got = left < grow ? (left > 0 ? left : 0) : grow;
  atomic_fetch_sub(&ctl->space, got);
  off_t miss = grow - (off_t)got;
  return miss > (off_t)n ? 0 : n - (size_t)miss;
}

static ssize_t write_some(int fd, const struct iovec *iov, int n_iov, off_t at, size_t n) {
  struct iovec cut[IOV_MAX];
  int k = 0;
  for (; k < n_iov && k < IOV_MAX && n > 0; k++) {
    cut[k] = iov[k];
    if (cut[k].iov_len > n) cut[k].iov_len = n;
    n -= cut[k].iov_len;
  }
  return syscall(SYS_pwritev, fd, cut, k, at, 0);
}

static size_t total(const struct iovec *iov, int n_iov) {
  size_t n = 0;
  for (int i = 0; i < n_iov; i++) n += iov[i].iov_len;
  return n;
}

static ssize_t faulty_write(int fd, const struct iovec *iov, int n_iov, off_t at, bool hit) {
  size_t want = total(iov, n_iov), n = want;
  int eno = ENOSPC;
  atomic_fetch_add(&ctl->writes, 1);
  if (hit && take(&ctl->write_n)) {
    eno = atomic_load(&ctl->write_errno);
    size_t part = (size_t)atomic_exchange(&ctl->write_part, 0);
    n = part < n ? part : n - 1; /* never the whole */
    n = fit(fd, at, n);
  } else {
    int chunk = hit ? atomic_load(&ctl->chunk) : 0;
    if (chunk > 0 && n > (size_t)chunk) n = (size_t)chunk;
    size_t fits = fit(fd, at, n);
    if (fits == n || fits > 0) eno = 0;
    n = fits;
  }
  ssize_t got = n ? write_some(fd, iov, n_iov, at, n) : 0;
  if (got > 0 && n_writes < WRITES_MAX) writes[n_writes++] = (dirty){fd, at, (size_t)got};
  if (!eno || (n == want && got >= 0)) return got;
  atomic_fetch_add(&ctl->writes_failed, 1);
  return fail(eno);
}

static ssize_t do_pwritev(int fd, const struct iovec *iov, int n_iov, off_t at) {
  bool hit;
  if (!ours(fd, &hit)) return syscall(SYS_pwritev, fd, iov, n_iov, at, 0);
  pthread_mutex_lock(&mu);
  ssize_t got = faulty_write(fd, iov, n_iov, at, hit);
  int eno = errno;
  pthread_mutex_unlock(&mu);
  errno = eno;
  return got;
}

static int do_fallocate(int fd, int mode, off_t at, off_t n) {
  bool hit;
  if (ours(fd, &hit)) {
    pthread_mutex_lock(&mu);
    off_t grow = at + n - size_of(fd);
    bool full = atomic_load(&ctl->space_on) && grow > atomic_load(&ctl->space);
    if (!full && grow > 0) atomic_fetch_sub(&ctl->space, grow);
    pthread_mutex_unlock(&mu);
    if (full) {
      atomic_fetch_add(&ctl->writes_failed, 1);
      return fail(ENOSPC);
    }
  }
  return (int)syscall(SYS_fallocate, fd, mode, at, n);
}

/* ---- syncing ---- */

/* What was written since the last sync: forgotten, or gone. */
static void settle(int fd, bool lose) {
  static const char zeros[65536];
  int kept = 0;
  for (int i = 0; i < n_writes; i++) {
    dirty w = writes[i];
    if (w.fd != fd) {
      writes[kept++] = w;
      continue;
    }
    while (lose && w.n > 0) {
      size_t n = w.n < sizeof zeros ? w.n : sizeof zeros;
      if (syscall(SYS_pwrite64, fd, zeros, n, w.at) != (ssize_t)n) abort();
      w.at += (off_t)n;
      w.n -= n;
    }
  }
  n_writes = kept;
}

static int do_sync(int fd, long call) {
  bool hit;
  if (!ours(fd, &hit)) return (int)syscall(call, fd);
  if (hit && atomic_load(&ctl->hold)) atomic_fetch_add(&ctl->syncs_held, 1);
  while (hit && atomic_load(&ctl->hold)) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  pthread_mutex_lock(&mu);
  bool bad = hit && take(&ctl->sync_n);
  settle(fd, bad && atomic_load(&ctl->lose));
  pthread_mutex_unlock(&mu);
  int rc = (int)syscall(call, fd);
  if (rc == 0) atomic_fetch_add(&ctl->syncs, 1);
  if (!bad) return rc;
  atomic_fetch_add(&ctl->syncs_failed, 1);
  return fail(atomic_load(&ctl->sync_errno));
}

static ssize_t do_pread(int fd, void *dst, size_t n, off_t at) {
  bool hit;
  hit = ours(fd, &hit) && hit && atomic_load(&ctl->hold_reads);
  if (hit) atomic_fetch_add(&ctl->reads_held, 1);
  while (hit && atomic_load(&ctl->hold_reads))
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  return (ssize_t)syscall(SYS_pread64, fd, dst, n, at);
}

/* ---- names ---- */

static int do_open(int dir_fd, const char *path, int flags, mode_t mode) {
  if ((flags & O_CREAT) && path_ours(dir_fd, path)) {
    bool there = syscall(SYS_faccessat, dir_fd, path, F_OK) == 0;
    bool full = atomic_load(&ctl->space_on) && atomic_load(&ctl->space) < BLOCK;
    if (!there && (full || take(&ctl->make_n))) {
      atomic_fetch_add(&ctl->makes_failed, 1);
      return fail(full ? ENOSPC : atomic_load(&ctl->make_errno));
    }
    if (!there) atomic_fetch_sub(&ctl->space, BLOCK);
  }
  return (int)syscall(SYS_openat, dir_fd, path, flags, mode);
}

static int do_unlink(int dir_fd, const char *path, int flags) {
  struct stat st;
  bool mine = path_ours(dir_fd, path) && fstatat(dir_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
  int rc = (int)syscall(SYS_unlinkat, dir_fd, path, flags);
  if (mine && rc == 0) atomic_fetch_add(&ctl->space, st.st_size + BLOCK);
  return rc;
}

static int do_statvfs(int fd, struct statvfs *st) {
  char path[64];
  bool hit;
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  if (statvfs(path, st) != 0) return -1;
  int64_t left = ctl ? atomic_load(&ctl->space) : 0;
  if (!ours(fd, &hit) || !atomic_load(&ctl->space_on)) return 0;
  st->f_bavail = (fsblkcnt_t)(left > 0 ? left : 0) / st->f_frsize;
  return 0;
}

/* ---- what libc calls them: with and without 64-bit file offsets ---- */

static mode_t mode_of(int flags, va_list ap) {
  return flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
}

#define OPEN(name, params, dir, last)                                                              \
  __attribute__((visibility("default"))) int name params {                                         \
    va_list ap;                                                                                    \
    va_start(ap, last);                                                                            \
    mode_t mode = mode_of(flags, ap);                                                              \
    va_end(ap);                                                                                    \
    return do_open(dir, path, flags, mode);                                                        \
  }

int lv_open(const char *path, int flags, ...) __asm__("open");
int lv_open64(const char *path, int flags, ...) __asm__("open64");
int lv_openat(int dir_fd, const char *path, int flags, ...) __asm__("openat");
int lv_openat64(int dir_fd, const char *path, int flags, ...) __asm__("openat64");
OPEN(lv_open, (const char *path, int flags, ...), AT_FDCWD, flags)
OPEN(lv_open64, (const char *path, int flags, ...), AT_FDCWD, flags)
OPEN(lv_openat, (int dir_fd, const char *path, int flags, ...), dir_fd, flags)
OPEN(lv_openat64, (int dir_fd, const char *path, int flags, ...), dir_fd, flags)

/* The definition of a function under libc's name for it. */
#define AS(ret, mine, name, params, body)                                                          \
  ret mine params __asm__(name);                                                                   \
  __attribute__((visibility("default"))) ret mine params {                                         \
    return body;                                                                                   \
  }

AS(ssize_t, lv_pread, "pread", (int fd, void *dst, size_t n, off_t at), do_pread(fd, dst, n, at))
AS(ssize_t, lv_pread64, "pread64", (int fd, void *dst, size_t n, off_t at),
   do_pread(fd, dst, n, at))
AS(ssize_t, lv_pwritev, "pwritev", (int fd, const struct iovec *iov, int n, off_t at),
   do_pwritev(fd, iov, n, at))
AS(ssize_t, lv_pwritev64, "pwritev64", (int fd, const struct iovec *iov, int n, off_t at),
   do_pwritev(fd, iov, n, at))
AS(int, lv_fallocate, "fallocate", (int fd, int mode, off_t at, off_t n),
   do_fallocate(fd, mode, at, n))
AS(int, lv_fallocate64, "fallocate64", (int fd, int mode, off_t at, off_t n),
   do_fallocate(fd, mode, at, n))
AS(int, lv_fdatasync, "fdatasync", (int fd), do_sync(fd, SYS_fdatasync))
AS(int, lv_fsync, "fsync", (int fd), do_sync(fd, SYS_fsync))
AS(int, lv_unlink, "unlink", (const char *path), do_unlink(AT_FDCWD, path, 0))
AS(int, lv_unlinkat, "unlinkat", (int dir_fd, const char *path, int flags),
   do_unlink(dir_fd, path, flags))
AS(int, lv_fstatvfs, "fstatvfs", (int fd, struct statvfs *st), do_statvfs(fd, st))
AS(int, lv_fstatvfs64, "fstatvfs64", (int fd, struct statvfs *st), do_statvfs(fd, st))
