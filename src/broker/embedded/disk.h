/* disk.h: the few things the log does to a disk, as an interface with a faulty twin.
 *
 * `lv_disk_file()` is the real one (pwritev, fdatasync, …). `lv_disk_fault_new(seed)` keeps files
 * in memory with the distinction a real disk makes between written and synced bytes, and misbehaves
 * from a seed: loses or tears the unsynced tail at a crash, short writes, write and sync errors,
 * bit flips, disk full. After a failed sync the twin drops what was dirty, as Linux does (the
 * fsyncgate lesson), so that a second sync that succeeds proves nothing.
 *
 * All return 0 or a count, or a negative lv_err (LV_E_DISK_FULL, LV_E_IO, LV_E_NOT_FOUND). A disk
 * is used by several threads; one file is written by one thread at a time. */
#ifndef LV_BROKER_DISK_H
#define LV_BROKER_DISK_H
#include "core/err.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

typedef struct lv_disk lv_disk;
/* took_ns: how long the piece took. */
typedef void lv_disk_pace(void *arg, uint64_t took_ns);

typedef struct lv_disk_ops {
  /* Opens NAME in the folder; create: made when missing (size 0). ret_fd is the disk's own number.
   */
  int (*open)(lv_disk *d, const char *name, bool create, int *ret_fd);
  void (*close)(lv_disk *d, int fd);
  /* Writes everything or fails; never a silent short write. */
  int (*write)(lv_disk *d, int fd, const struct iovec *iov, int n_iov, uint64_t at);
  /* Bytes read (short at the end of the file), or an error. */
  int64_t (*read)(lv_disk *d, int fd, void *dst, uint32_t n, uint64_t at);
  int (*sync)(lv_disk *d, int fd); /* fdatasync */
  /* Starts writing dirty pages out without waiting (sync_file_range); best effort. */
  void (*flush)(lv_disk *d, int fd, uint64_t at, uint64_t n);
  /* Says that these bytes will be read next (posix_fadvise); best effort. */
  void (*ahead)(lv_disk *d, int fd, uint64_t at, uint64_t n);
  int (*size)(lv_disk *d, int fd, uint64_t *ret_size);
  int (*truncate)(lv_disk *d, int fd, uint64_t size);
  /* Reserves blocks and writes zeros, so that later writes and syncs touch no metadata. `pace` (may
   * be NULL) is called between pieces, each of which is on the disk by then: syncs of other files
   * wait for a piece at most. */
  int (*prepare)(lv_disk *d, int fd, uint64_t size, lv_disk_pace *pace, void *arg);
  int (*rename)(lv_disk *d, const char *from, const char *to);
  int (*remove)(lv_disk *d, const char *name);
  int (*sync_dir)(lv_disk *d);
  /* Calls fn for each file name. */
  int (*list)(lv_disk *d, int (*fn)(void *arg, const char *name), void *arg);
  int (*space)(lv_disk *d, uint64_t *ret_free_bytes);
  /* Exclusive lock of the folder for this process. LV_E_LOCKED. */
  int (*lock)(lv_disk *d);
  /* Whether a file whose content is done with may be filled with other content: not while somebody
   * outside this process has the folder's files open (lavva log, lavva backup). 0: yes, until
   * reuse_end; LV_E_LOCKED or another error: no, remove it instead. @thread housekeeper */
  int (*reuse_begin)(lv_disk *d);
  void (*reuse_end)(lv_disk *d);
  void (*free)(lv_disk *d);
} lv_disk_ops;
struct lv_disk {
  const lv_disk_ops *ops;
};

/* The real disk at folder `dir` (made, mode 0750, when missing). */
int lv_disk_file_new(const char *dir, lv_disk **ret_disk);

/* The faulty twin. Rates are per million operations; 0 switches a fault off. */
typedef struct lv_disk_faults {
  uint64_t seed;
  uint32_t write_error, short_then_error, sync_error, full, bit_flip_on_crash, read_error;
  uint64_t capacity; /* bytes; 0: no limit */
} lv_disk_faults;
lv_disk *lv_disk_fault_new(const lv_disk_faults *faults);
/* Power loss: for each file, an arbitrary (seeded) subset of what was not synced survives, at
 * 512-byte granularity, renames and removals not followed by sync_dir may be undone. All open
 * numbers become invalid. */
void lv_disk_fault_crash(lv_disk *d);
/* kill -9: everything written survives; open numbers become invalid. */
void lv_disk_fault_kill(lv_disk *d);
/* Loses power in the middle of things: after n more operations that change something, every one
 * fails with LV_E_IO and changes nothing, until crash or kill. 0: off. */
void lv_disk_fault_halt(lv_disk *d, uint32_t n);
bool lv_disk_fault_halted(lv_disk *d);
void lv_disk_fault_set(lv_disk *d, const lv_disk_faults *faults);
/* How many failed syncs took back what had been written (Linux drops dirty pages it could not
 * write), in files whose name begins with this letter. */
uint32_t lv_disk_fault_taken(lv_disk *d, char first);

#endif
