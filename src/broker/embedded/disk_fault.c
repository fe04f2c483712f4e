/* disk_fault.c: the faulty twin of the real disk: files in memory, faults from a seed.
 *
 * Each file is two images, in sectors of 512 bytes: what a read returns (the page cache) and what
 * is on the platter, and a flag per sector: dirty. A sync moves dirty sectors to the platter. A
 * sync that fails moves some of them, and all become clean, as in Linux: what was lost then is read
 * back from the cache for a while (or not: it may be evicted at any time), but no later sync writes
 * it.
 *
 *   names:   now[] and a list of changes since the last sync_dir; after a power loss some first
 * part of the list has happened (the journal is in order) crash:   each dirty sector of each file
 * reached the platter or did not
 *
 * Everything is under one mutex; file numbers are never used twice, closing a dead one is harmless.
 * @thread any */
#include "broker/embedded/disk.h"
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { MAGIC = 0x4C42D1FA, SECTOR = 512, NAME_MAX_ = 64, FDS = 4096 };

typedef struct inode {
  struct inode *next;
  uint8_t *cache, *platter, *dirty; /* dirty: a byte a sector */
  uint64_t size, platter_size, cap;
  uint32_t names, fds;
} inode;

typedef struct entry {
  char name[NAME_MAX_];
  inode *ino;
} entry;

typedef struct names {
  entry *e;
  uint32_t n, cap;
} names;

enum change_kind { MADE, RENAMED, REMOVED };
typedef struct change {
  enum change_kind kind;
  char name[NAME_MAX_], to[NAME_MAX_];
  inode *ino;
} change;

typedef struct disk_fault {
  lv_disk base;
  uint32_t magic;
  pthread_mutex_t mu;
  lv_disk_faults faults;
  uint64_t rng;
  inode *inodes;
  names now, durable;
  change *changes;
  uint32_t n_changes, cap_changes;
  struct {
    int no;
    inode *ino;
  } fds[FDS];
  int next_fd;
  uint32_t taken[256]; /* failed syncs that took something back, by the name's first letter */
  uint32_t halt_in;    /* operations until the power goes; 0: not planned */
  bool halted, locked;
} disk_fault;

static disk_fault *of(lv_disk *d) {
  disk_fault *f = (disk_fault *)d;
  assert(f && f->magic == MAGIC);
  return f;
}

static uint64_t rnd(disk_fault *f) {
  f->rng += 0x9E3779B97F4A7C15u;
  uint64_t v = f->rng;
  v = (v ^ v >> 30) * 0xBF58476D1CE4E5B9u;
  v = (v ^ v >> 27) * 0x94D049BB133111EBu;
  return v ^ v >> 31;
}

static bool chance(disk_fault *f, uint32_t per_million) {
  return per_million && rnd(f) % 1000000 < per_million;
}

/* Counts an operation that changes something; true: the power is gone. */
static bool halted(disk_fault *f) {
  if (f->halt_in && --f->halt_in == 0) f->halted = true;
  return f->halted;
}

static void enter(disk_fault *f) {
  (void)pthread_mutex_lock(&f->mu);
}
static int leave(disk_fault *f, int rc) {
  (void)pthread_mutex_unlock(&f->mu);
  return rc;
}

static entry *names_find(const names *t, const char *name) {
  for (uint32_t i = 0; i < t->n; i++)
    if (strcmp(t->e[i].name, name) == 0) return &t->e[i];
  return NULL;
}

static void names_put(names *t, const char *name, inode *ino) {
  entry *e = names_find(t, name);
  assert(strlen(name) < NAME_MAX_);
  if (!e) {
    if (t->n == t->cap) {
      t->cap = t->cap ? 2 * t->cap : 32;
      if (!(t->e = realloc(t->e, t->cap * sizeof *t->e))) abort();
    }
    e = &t->e[t->n++];
    memcpy(e->name, name, strlen(name) + 1);
    e->ino = NULL;
  }
  if (e->ino) e->ino->names--;
  e->ino = ino;
  ino->names++;
}

static void names_cut(names *t, const char *name) {
  entry *e = names_find(t, name);
  if (!e) return;
  e->ino->names--;
  *e = t->e[--t->n];
}

static void names_copy(names *to, const names *from) {
  while (to->n > 0) names_cut(to, to->e[0].name);
  for (uint32_t i = 0; i < from->n; i++) names_put(to, from->e[i].name, from->e[i].ino);
}

static void change_apply(names *t, const change *c) {
  switch (c->kind) {
  case MADE: names_put(t, c->name, c->ino); break;
  case REMOVED: names_cut(t, c->name); break;
  case RENAMED:
    names_cut(t, c->name);
    names_put(t, c->to, c->ino);
    break;
  }
}

static void change_do(disk_fault *f, enum change_kind kind, const char *name, const char *to,
                      inode *ino) {
  change c = {.kind = kind, .ino = ino};
  assert(strlen(name) < NAME_MAX_ && strlen(to) < NAME_MAX_);
  memcpy(c.name, name, strlen(name) + 1);
  memcpy(c.to, to, strlen(to) + 1);
  if (f->n_changes == f->cap_changes) {
    f->cap_changes = f->cap_changes ? 2 * f->cap_changes : 32;
    if (!(f->changes = realloc(f->changes, f->cap_changes * sizeof *f->changes))) abort();
  }
  ino->names++; /* the list holds it, until the next sync_dir */
  f->changes[f->n_changes++] = c;
  change_apply(&f->now, &c);
}

static void sweep(disk_fault *f) {
  for (inode **at = &f->inodes; *at;) {
    inode *i = *at;
    if (i->names || i->fds) {
      at = &i->next;
      continue;
    }
    *at = i->next;
    free(i->cache);
    free(i->platter);
    free(i->dirty);
    free(i);
  }
}

static void changes_forget(disk_fault *f) {
  for (uint32_t i = 0; i < f->n_changes; i++) f->changes[i].ino->names--;
  f->n_changes = 0;
  sweep(f);
}

static inode *ino_of(disk_fault *f, int fd) {
  return fd >= 0 && f->fds[fd % FDS].no == fd ? f->fds[fd % FDS].ino : NULL;
}

static uint64_t used_bytes(const disk_fault *f) {
  uint64_t n = 0;
  for (const inode *i = f->inodes; i; i = i->next) n += i->size;
  return n;
}

static void reserve(inode *i, uint64_t size) {
  if (size <= i->cap) return;
  uint64_t cap = i->cap ? i->cap : 4096;
  while (cap < size) cap *= 2;
  i->cache = realloc(i->cache, cap);
  i->platter = realloc(i->platter, cap);
  i->dirty = realloc(i->dirty, cap / SECTOR);
  if (!i->cache || !i->platter || !i->dirty) abort();
  memset(i->cache + i->cap, 0, cap - i->cap);
  memset(i->platter + i->cap, 0, cap - i->cap);
  memset(i->dirty + i->cap / SECTOR, 0, (cap - i->cap) / SECTOR);
  i->cap = cap;
}

static int fault_open(lv_disk *d, const char *name, bool create, int *ret_fd) {
  disk_fault *f = of(d);
  enter(f);
  entry *e = names_find(&f->now, name);
  if (!e && !create) return leave(f, LV_E_NOT_FOUND);
  if (!e && halted(f)) return leave(f, LV_E_IO);
  if (!e && chance(f, f->faults.full)) return leave(f, LV_E_DISK_FULL);
  inode *i = e ? e->ino : calloc(1, sizeof *i);
  if (!i) abort();
  if (!e) {
    i->next = f->inodes;
    f->inodes = i;
    change_do(f, MADE, name, "", i);
  }
  int no = f->next_fd, tries = 0;
  while (f->fds[no % FDS].ino && tries++ < FDS) no++;
  assert(tries < FDS);
  f->next_fd = no + 1;
  f->fds[no % FDS].no = no;
  f->fds[no % FDS].ino = i;
  i->fds++;
  *ret_fd = no;
  return leave(f, 0);
}

static void fault_close(lv_disk *d, int fd) {
  disk_fault *f = of(d);
  enter(f);
  inode *i = ino_of(f, fd);
  if (i) {
    i->fds--;
    f->fds[fd % FDS].ino = NULL;
    if (!i->fds && !i->names) sweep(f);
  }
  (void)leave(f, 0);
}

static void put(inode *i, const void *p, uint64_t n, uint64_t at) {
  if (n == 0) return;
  memcpy(i->cache + at, p, n);
  memset(i->dirty + at / SECTOR, 1, (at + n - 1) / SECTOR - at / SECTOR + 1);
}

/* Puts at most `n` bytes of the pieces. */
static void put_pieces(inode *i, const struct iovec *iov, int n_iov, uint64_t n, uint64_t at) {
  reserve(i, at + n);
  if (n && at + n > i->size) i->size = at + n;
  for (int k = 0; k < n_iov && n > 0; k++) {
    uint64_t part = iov[k].iov_len < n ? iov[k].iov_len : n;
    put(i, iov[k].iov_base, part, at);
    at += part;
    n -= part;
  }
}

static int fault_write(lv_disk *d, int fd, const struct iovec *iov, int n_iov, uint64_t at) {
  disk_fault *f = of(d);
  uint64_t n = 0;
  for (int k = 0; k < n_iov; k++) n += iov[k].iov_len;
  enter(f);
  inode *i = ino_of(f, fd);
  if (!i || halted(f) || chance(f, f->faults.write_error)) return leave(f, LV_E_IO);
  if (n && chance(f, f->faults.short_then_error)) {
    put_pieces(i, iov, n_iov, rnd(f) % n, at);
    return leave(f, LV_E_IO);
  }
  uint64_t grow = at + n > i->size ? at + n - i->size : 0, room = n;
  if (grow && f->faults.capacity) {
    uint64_t used = used_bytes(f);
    uint64_t left = used < f->faults.capacity ? f->faults.capacity - used : 0;
    if (grow > left) room = grow - left < n ? n - (grow - left) : 0;
  }
  if (grow && chance(f, f->faults.full)) room = rnd(f) % (n + 1);
  put_pieces(i, iov, n_iov, room, at);
  return leave(f, room < n ? LV_E_DISK_FULL : 0);
}

static int64_t fault_read(lv_disk *d, int fd, void *dst, uint32_t n, uint64_t at) {
  disk_fault *f = of(d);
  enter(f);
  inode *i = ino_of(f, fd);
  if (!i || chance(f, f->faults.read_error)) return leave(f, LV_E_IO);
  uint64_t left = at < i->size ? i->size - at : 0;
  if (n > left) n = (uint32_t)left;
  if (n) memcpy(dst, i->cache + at, n);
  (void)leave(f, 0);
  return n;
}

static void sector_to_platter(inode *i, uint64_t s) {
  memcpy(i->platter + s * SECTOR, i->cache + s * SECTOR, SECTOR);
}

static void count_taken(disk_fault *f, const inode *i) {
  for (uint32_t k = 0; k < f->now.n; k++) {
    if (f->now.e[k].ino != i) continue;
    f->taken[(uint8_t)f->now.e[k].name[0]]++;
    return;
  }
}

static int fault_sync(lv_disk *d, int fd) {
  disk_fault *f = of(d);
  enter(f);
  inode *i = ino_of(f, fd);
  if (!i || halted(f)) return leave(f, LV_E_IO);
  bool bad = chance(f, f->faults.sync_error), evict = rnd(f) % 2, taken = false;
  for (uint64_t s = 0; s * SECTOR < i->size; s++) {
    if (!i->dirty[s]) continue;
    i->dirty[s] = 0;
    if (!bad || rnd(f) % 2) {
      sector_to_platter(i, s);
    } else if (evict) {
      taken = true;
      memcpy(i->cache + s * SECTOR, i->platter + s * SECTOR, SECTOR);
    }
  }
  if (taken) count_taken(f, i);
  if (!bad) i->platter_size = i->size;
  return leave(f, bad ? LV_E_IO : 0);
}

static void fault_flush(lv_disk *d, int fd, uint64_t at, uint64_t n) {
  (void)d, (void)fd, (void)at, (void)n;
}

static void fault_ahead(lv_disk *d, int fd, uint64_t at, uint64_t n) {
  (void)d, (void)fd, (void)at, (void)n;
}

static int fault_size(lv_disk *d, int fd, uint64_t *ret_size) {
  disk_fault *f = of(d);
  enter(f);
  inode *i = ino_of(f, fd);
  if (i) *ret_size = i->size;
  return leave(f, i ? 0 : LV_E_IO);
}

static int fault_truncate(lv_disk *d, int fd, uint64_t size) {
  disk_fault *f = of(d);
  enter(f);
  inode *i = ino_of(f, fd);
  if (!i || halted(f) || chance(f, f->faults.write_error)) return leave(f, LV_E_IO);
  reserve(i, size);
  uint64_t from = size < i->size ? size : i->size, to = size < i->size ? i->size : size;
  if (to > from) {
    memset(i->cache + from, 0, to - from);
    memset(i->dirty + from / SECTOR, 1, (to - 1) / SECTOR - from / SECTOR + 1);
  }
  i->size = size;
  return leave(f, 0);
}

static int fault_prepare(lv_disk *d, int fd, uint64_t size, lv_disk_pace *pace, void *arg) {
  (void)pace, (void)arg;
  uint8_t *zeros = calloc(1, size ? size : 1);
  if (!zeros) abort();
  struct iovec iov = {zeros, size};
  int rc = fault_write(d, fd, &iov, 1, 0);
  free(zeros);
  return rc < 0 ? rc : fault_sync(d, fd);
}

static int fault_rename(lv_disk *d, const char *from, const char *to) {
  disk_fault *f = of(d);
  enter(f);
  entry *e = names_find(&f->now, from);
  if (!e) return leave(f, LV_E_NOT_FOUND);
  if (halted(f) || chance(f, f->faults.write_error)) return leave(f, LV_E_IO);
  change_do(f, RENAMED, from, to, e->ino);
  return leave(f, 0);
}

static int fault_remove(lv_disk *d, const char *name) {
  disk_fault *f = of(d);
  enter(f);
  entry *e = names_find(&f->now, name);
  if (!e) return leave(f, LV_E_NOT_FOUND);
  if (halted(f) || chance(f, f->faults.write_error)) return leave(f, LV_E_IO);
  change_do(f, REMOVED, name, "", e->ino);
  return leave(f, 0);
}

static int fault_sync_dir(lv_disk *d) {
  disk_fault *f = of(d);
  enter(f);
  if (halted(f) || chance(f, f->faults.sync_error)) return leave(f, LV_E_IO);
  names_copy(&f->durable, &f->now);
  changes_forget(f);
  return leave(f, 0);
}

static int fault_list(lv_disk *d, int (*fn)(void *arg, const char *name), void *arg) {
  disk_fault *f = of(d);
  enter(f);
  uint32_t n = f->now.n;
  entry *copy = malloc((n + 1) * sizeof *copy);
  if (!copy) abort();
  if (n) memcpy(copy, f->now.e, n * sizeof *copy);
  (void)leave(f, 0);
  int rc = 0;
  for (uint32_t i = 0; rc == 0 && i < n; i++) rc = fn(arg, copy[i].name);
  free(copy);
  return rc;
}

static int fault_space(lv_disk *d, uint64_t *ret_free_bytes) {
  disk_fault *f = of(d);
  enter(f);
  uint64_t used = used_bytes(f), cap = f->faults.capacity ? f->faults.capacity : UINT64_MAX / 2;
  *ret_free_bytes = used < cap ? cap - used : 0;
  return leave(f, 0);
}

static int fault_reuse_begin(lv_disk *d) {
  (void)d;
  return 0;
}

static void fault_reuse_end(lv_disk *d) {
  (void)d;
}

static int fault_lock(lv_disk *d) {
  disk_fault *f = of(d);
  enter(f);
  bool was = f->locked;
  f->locked = true;
  return leave(f, was ? LV_E_LOCKED : 0);
}

static void close_all(disk_fault *f) {
  for (int i = 0; i < FDS; i++) {
    if (f->fds[i].ino) f->fds[i].ino->fds--;
    f->fds[i].ino = NULL;
  }
  f->locked = f->halted = false;
  f->halt_in = 0;
}

static void fault_free(lv_disk *d) {
  if (!d) return;
  disk_fault *f = of(d);
  close_all(f);
  while (f->now.n > 0) names_cut(&f->now, f->now.e[0].name);
  while (f->durable.n > 0) names_cut(&f->durable, f->durable.e[0].name);
  changes_forget(f);
  assert(!f->inodes);
  free(f->now.e);
  free(f->durable.e);
  free(f->changes);
  (void)pthread_mutex_destroy(&f->mu);
  f->magic = 0;
  free(f);
}

static const lv_disk_ops fault_ops = {
    .open = fault_open,
    .close = fault_close,
    .write = fault_write,
    .read = fault_read,
    .sync = fault_sync,
    .flush = fault_flush,
    .ahead = fault_ahead,
    .size = fault_size,
    .truncate = fault_truncate,
    .prepare = fault_prepare,
    .rename = fault_rename,
    .remove = fault_remove,
    .sync_dir = fault_sync_dir,
    .list = fault_list,
    .space = fault_space,
    .lock = fault_lock,
    .reuse_begin = fault_reuse_begin,
    .reuse_end = fault_reuse_end,
    .free = fault_free,
};

lv_disk *lv_disk_fault_new(const lv_disk_faults *faults) {
  disk_fault *f = calloc(1, sizeof *f);
  if (!f) abort();
  f->base.ops = &fault_ops;
  f->magic = MAGIC;
  f->faults = *faults;
  f->rng = faults->seed;
  (void)pthread_mutex_init(&f->mu, NULL);
  for (int i = 0; i < FDS; i++) f->fds[i].no = -1;
  return &f->base;
}

void lv_disk_fault_halt(lv_disk *d, uint32_t n) {
  disk_fault *f = of(d);
  enter(f);
  f->halt_in = n;
  (void)leave(f, 0);
}

bool lv_disk_fault_halted(lv_disk *d) {
  disk_fault *f = of(d);
  enter(f);
  return leave(f, f->halted);
}

uint32_t lv_disk_fault_taken(lv_disk *d, char first) {
  disk_fault *f = of(d);
  enter(f);
  uint32_t n = f->taken[(uint8_t)first];
  (void)leave(f, 0);
  return n;
}

void lv_disk_fault_set(lv_disk *d, const lv_disk_faults *faults) {
  disk_fault *f = of(d);
  enter(f);
  f->faults = *faults; /* the random sequence goes on */
  (void)leave(f, 0);
}

/* How a file looks after the power came back. keep: of 256, how many dirty sectors made it. */
static void ino_crash(disk_fault *f, inode *i, uint32_t keep) {
  uint64_t size = i->platter_size;
  for (uint64_t s = 0; s * SECTOR < i->cap; s++) {
    uint64_t end = (s + 1) * SECTOR;
    if (i->dirty[s] && rnd(f) % 256 < keep) {
      sector_to_platter(i, s);
      if (end > i->size) end = i->size;
      if (s * SECTOR < i->size && end > size) size = end;
    }
    i->dirty[s] = 0;
  }
  i->size = i->platter_size = size;
  if (i->cap) memset(i->platter + size, 0, i->cap - size);
  if (i->cap) memcpy(i->cache, i->platter, i->cap);
}

static void flip_bit(disk_fault *f) {
  uint64_t used = used_bytes(f), at = used ? rnd(f) % used : 0;
  for (inode *i = f->inodes; i && used; i = i->next) {
    if (at >= i->size) {
      at -= i->size;
      continue;
    }
    i->platter[at] ^= (uint8_t)(1u << rnd(f) % 8);
    i->cache[at] = i->platter[at];
    return;
  }
}

void lv_disk_fault_crash(lv_disk *d) {
  disk_fault *f = of(d);
  enter(f);
  close_all(f);
  uint32_t done = (uint32_t)(rnd(f) % (f->n_changes + 1));
  for (uint32_t i = 0; i < done; i++) change_apply(&f->durable, &f->changes[i]);
  names_copy(&f->now, &f->durable);
  changes_forget(f);
  uint32_t keeps[4] = {0, 256, 128, (uint32_t)(rnd(f) % 256)};
  uint32_t keep = keeps[rnd(f) % 4];
  for (inode *i = f->inodes; i; i = i->next) ino_crash(f, i, keep);
  if (chance(f, f->faults.bit_flip_on_crash)) flip_bit(f);
  (void)leave(f, 0);
}

void lv_disk_fault_kill(lv_disk *d) {
  disk_fault *f = of(d);
  enter(f);
  close_all(f);
  sweep(f);
  (void)leave(f, 0);
}
