/* log_bench.c: what the embedded log makes of the disk, beside `lavva-disk append`, a bare file.
 *
 *   write  one thread appends batches of 64 KiB of 128-byte messages as fast as it goes; another
 *          syncs every few milliseconds; a third is the housekeeper (keeper.c's work: next segments
 *          ahead of need, retention). Bytes are those of the records, time ends with a last sync.
 *   read   the log is synced, its files leave the page cache, and lv_elog_scan goes over everything
 *          that is retained. Each message carries its number, and numbers and offsets are
 *          checked.
 *
 * Retention bounds the files. Should it fall behind, the appender waits for it, and that is counted
 * as time. The role that embedded.c gives to one thread at a time is a mutex here, with a gate in
 * front so that the appender cannot starve the others. */
#include "broker/embedded/elog.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
    "usage: log_bench --data DIR [OPTIONS]     DIR must not hold a log; what is made\n"
    "                                          is removed unless something fails\n"
    "\n"
    "  --seconds S      how long to append (10)\n"
    "  --commit-ms MS   time between two syncs (5)\n"
    "  --channels N     that the messages go to in turn (16)\n"
    "  --keep BYTES     retention of all channels together (1 GiB)\n"
    "  --round-ms MS    time between two rounds of retention (1000, as the broker's)\n"
    "  --json           one JSON object instead of text\n"
    "\n"
    "  log_bench --data /var/tmp/log-bench --seconds 30\n";

enum { VALUE = 128, CHANNELS_MAX = 4096, SCAN_BYTES = 1 << 20, JOBS_A_ROUND = 16 };
/* Files beyond `keep`, for which the appender waits. */
#define AHEAD_MAX ((uint64_t)1 << 30)

typedef struct bench {
  const char *dir;
  double seconds, commit_ms, round_ms;
  uint64_t keep;
  uint32_t channels;
  lv_disk *disk;
  lv_elog *log;
  pthread_mutex_t gate, role; /* the writer role: gate, then role */
  pthread_mutex_t mu;
  pthread_cond_t wake, freed;
  bool poked; /* under mu */
  _Atomic bool stop;
  uint64_t syncs, jobs, made; /* each its own thread's, read after the join */
} bench;

static _Noreturn void die(const char *what, int err) {
  (void)fprintf(stderr, "log_bench: %s: %s\n", what, lv_err_text(err));
  exit(74);
}

static void role_take(bench *b) {
  (void)pthread_mutex_lock(&b->gate);
  (void)pthread_mutex_lock(&b->role);
  (void)pthread_mutex_unlock(&b->gate);
}
static void role_drop(bench *b) {
  (void)pthread_mutex_unlock(&b->role);
}

static double since(lv_mono t) {
  return (double)lv_mono_sub(lv_mono_now(), t).ns / 1e9;
}

static double cpu_s(void) {
  struct rusage u;
  (void)getrusage(RUSAGE_SELF, &u);
  return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
         (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* ---- syncing ---- */

static bool sync_once(bench *b) {
  lv_elog_sync s;
  role_take(b);
  bool any = lv_elog_sync_begin(b->log, &s);
  role_drop(b);
  if (!any) return false;
  lv_elog_sync_run(b->log, &s);
  role_take(b);
  int err = lv_elog_sync_finish(b->log, &s);
  role_drop(b);
  if (err) die("sync", err);
  b->syncs++;
  return true;
}

static void *syncer(void *arg) {
  bench *b = arg;
  int64_t next = lv_mono_now().ns;
  while (!atomic_load(&b->stop)) {
    int64_t now = lv_mono_now().ns;
    next += (int64_t)(b->commit_ms * 1e6);
    if (next < now) next = now;
    struct timespec ts = {next / 1000000000, next % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR) continue;
    (void)sync_once(b);
  }
  return NULL;
}

/* ---- housekeeping ---- */

static bool policy(void *arg, uint32_t chan, uint64_t *ms, uint64_t *bytes, uint64_t *count) {
  const bench *b = arg;
  (void)chan;
  *ms = *count = 0;
  *bytes = b->keep / b->channels;
  return true;
}

static bool live(void *arg, const lv_rec *rec) {
  (void)arg, (void)rec;
  return false;
}

static bool retention_job(bench *b) {
  const lv_elog_policy p = {.policy = policy, .live = live, .arg = b};
  uint64_t freed = 0;
  role_take(b);
  lv_elog_job *job = lv_elog_job_plan(b->log, &p, lv_wall_now());
  role_drop(b);
  if (!job) return false;
  int err = lv_elog_job_run(b->log, job);
  role_take(b);
  int err2 = lv_elog_job_apply(b->log, job, &freed);
  role_drop(b);
  if (err == LV_E_BUSY && !err2) return false; /* too much is not synced yet */
  if (err || err2) die("retention", err ? err : err2);
  b->jobs++;
  return true;
}

static void prepare(bench *b) {
  if (!lv_elog_needs_next(b->log)) return;
  int err = lv_elog_prepare_next(b->log);
  if (err) die("next segment", err);
  b->made++;
}

static void wait_due(bench *b, int64_t until_ns) {
  struct timespec ts = {until_ns / 1000000000, until_ns % 1000000000};
  (void)pthread_mutex_lock(&b->mu);
  (void)pthread_cond_broadcast(&b->freed);
  while (!b->poked && !atomic_load(&b->stop) &&
         pthread_cond_timedwait(&b->wake, &b->mu, &ts) == 0) {
  }
  b->poked = false;
  (void)pthread_mutex_unlock(&b->mu);
}

static void *keeper(void *arg) {
  bench *b = arg;
  int64_t round_ns = (int64_t)(b->round_ms * 1e6), next = lv_mono_now().ns + round_ns;
  while (!atomic_load(&b->stop)) {
    wait_due(b, next);
    prepare(b);
    if (lv_mono_now().ns < next) continue;
    for (int i = 0; i < JOBS_A_ROUND && retention_job(b); i++) prepare(b);
    next = lv_mono_now().ns + round_ns;
  }
  return NULL;
}

static void poke(bench *b) {
  (void)pthread_mutex_lock(&b->mu);
  b->poked = true;
  (void)pthread_cond_signal(&b->wake);
  (void)pthread_mutex_unlock(&b->mu);
}

/* ---- appending ---- */

static lv_batch *make_batch(const bench *b) {
  static const uint8_t value[VALUE] = {0};
  lv_block *block = lv_block_new(LV_BLOCK_SIZE);
  lv_batch *batch = lv_batch_new(block, block->data);
  for (;;) {
    lv_rec_in in = {.kind = LV_REC_MSG,
                    .flags = 1,
                    .key_off = 6,
                    .chan = 1 + batch->count % b->channels,
                    .ingest_ns = lv_wall_now().ns,
                    .topic = LV_SLICE("bench/device/17"),
                    .pid = LV_SLICE("client-17"),
                    .val = lv_slice_of(value, VALUE)};
    uint32_t size;
    (void)lv_rec_size(&in, &size);
    if (block->used + size > block->cap) return batch;
    (void)lv_rec_write(&in, block->data + block->used, size);
    block->used += size;
    batch->bytes += size;
    batch->count++;
  }
}

static uint8_t *number_at(const lv_rec *r) {
  return (uint8_t *)(uintptr_t)lv_rec_val(r).p;
}

/* Waits while the files outgrow the bound; the seconds that took. */
static double wait_for_room(bench *b) {
  lv_elog_stats st;
  lv_mono start = lv_mono_now();
  bool waited = false;
  for (;; waited = true) {
    lv_elog_stats_get(b->log, &st);
    if (st.disk_bytes <= b->keep + AHEAD_MAX) break;
    struct timespec ts = {.tv_nsec = 0};
    int64_t until = lv_mono_now().ns + 20000000;
    ts.tv_sec = until / 1000000000, ts.tv_nsec = until % 1000000000;
    (void)pthread_mutex_lock(&b->mu);
    (void)pthread_cond_timedwait(&b->freed, &b->mu, &ts);
    (void)pthread_mutex_unlock(&b->mu);
  }
  return waited ? since(start) : 0;
}

/* Returns how many messages were appended. */
static uint64_t append(bench *b, double *ret_waited) {
  lv_batch *batch = make_batch(b);
  uint64_t number = 0;
  lv_mono start = lv_mono_now();
  for (uint32_t turn = 0; since(start) < b->seconds; turn++) {
    uint32_t done;
    for (const lv_rec *r = lv_batch_first(batch); r; r = lv_batch_next(batch, r), number++)
      memcpy(number_at(r), &number, sizeof number);
    role_take(b);
    int err = lv_elog_append(b->log, &batch, 1, &done);
    role_drop(b);
    if (err) die("append", err);
    if (lv_elog_needs_next(b->log)) poke(b);
    if (turn % 256 == 0) *ret_waited += wait_for_room(b);
  }
  lv_batch_unref(batch);
  return number;
}

/* ---- reading back ---- */

static void drop_cache(const bench *b) {
  DIR *d = opendir(b->dir);
  if (!d) die(b->dir, lv_err_from_errno(errno));
  for (struct dirent *e; (e = readdir(d));) {
    int fd = openat(dirfd(d), e->d_name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) continue;
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    (void)close(fd);
  }
  (void)closedir(d);
}

/* A channel: what must be there, what came so far. */
typedef struct seen {
  uint64_t first, end, next, count;
} seen;

/* Numbers ascend; what a channel retains has no gap (before it, compaction may have left some). */
static void look(const lv_rec *r, seen *chans, uint32_t n_chans, uint64_t *number) {
  uint64_t now;
  memcpy(&now, number_at(r), sizeof now);
  if (r->chan < 1 || r->chan > n_chans || now < *number) die("a wrong message", LV_E_CORRUPT);
  *number = now + 1;
  seen *c = &chans[r->chan - 1];
  if (r->offset != c->next && (c->next > c->first || r->offset > c->first))
    die("a message is missing", LV_E_CORRUPT);
  c->next = r->offset + 1;
  c->count++;
}

static uint64_t replay(bench *b, uint64_t end, uint64_t *ret_bytes) {
  static seen chans[CHANNELS_MAX];
  uint64_t number = 0, count = 0, bytes = 0;
  for (uint32_t i = 0; i < b->channels; i++) {
    lv_elog_chan facts;
    lv_elog_chan_get(b->log, i + 1, &facts);
    chans[i] = (seen){.first = facts.first_offset, .end = facts.next_offset};
  }
  for (uint64_t at = lv_elog_oldest(b->log), until = lv_elog_end(b->log); at < until;) {
    lv_block *block;
    uint32_t n;
    int err = lv_elog_scan(b->log, at, until, SCAN_BYTES, &block, &n, &at);
    if (err) die("scan", err);
    for (uint32_t i = 0; i < n;) {
      const lv_rec *r = (const lv_rec *)(block->data + i);
      i += r->size;
      if (r->kind == LV_REC_MSG) look(r, chans, b->channels, &number);
    }
    bytes += n;
    lv_block_unref(block);
  }
  for (uint32_t i = 0; i < b->channels; i++) {
    if (chans[i].next != chans[i].end) die("a channel's last message is missing", LV_E_CORRUPT);
    count += chans[i].count;
  }
  if (number != end) die("the last message is missing", LV_E_CORRUPT);
  *ret_bytes = bytes;
  return count;
}

/* ---- the whole ---- */

static int refuse_log(void *arg, const char *name) {
  (void)arg;
  return strstr(name, ".seg") ? LV_E_INVALID : 0;
}

static void open_log(bench *b) {
  char why[LV_ELOG_WHY] = "";
  lv_elog_recovery rec;
  int err = lv_disk_file_new(b->dir, &b->disk);
  if (!err) err = b->disk->ops->lock(b->disk);
  if (!err && b->disk->ops->list(b->disk, refuse_log, NULL)) die("DIR holds a log", LV_E_INVALID);
  if (err) die(b->dir, err);
  lv_elog_conf conf = {.disk = b->disk, .name = "disk"};
  if ((err = lv_elog_open(&conf, &b->log, &rec, why))) die(why, err);
  pthread_condattr_t attr;
  (void)pthread_condattr_init(&attr);
  (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  (void)pthread_cond_init(&b->wake, &attr);
  (void)pthread_cond_init(&b->freed, &attr);
  (void)pthread_condattr_destroy(&attr);
}

static int remove_one(void *arg, const char *name) {
  lv_disk *d = arg;
  return d->ops->remove(d, name);
}

static void close_log(bench *b) {
  lv_elog_abandon(b->log);
  (void)b->disk->ops->list(b->disk, remove_one, b->disk);
  b->disk->ops->free(b->disk);
  (void)rmdir(b->dir);
}

static void run(bench *b, bool json) {
  pthread_t sync_thread, keep_thread;
  double waited = 0, cpu = cpu_s();
  uint64_t read_bytes, at = lv_elog_end(b->log);
  lv_mono start = lv_mono_now();
  if (pthread_create(&sync_thread, NULL, syncer, b) ||
      pthread_create(&keep_thread, NULL, keeper, b))
    die("thread", LV_E_NOMEM);
  uint64_t n = append(b, &waited);
  atomic_store(&b->stop, true);
  poke(b);
  (void)pthread_join(sync_thread, NULL);
  while (sync_once(b)) {
  }
  double write_s = since(start), write_cpu = cpu_s() - cpu;
  (void)pthread_join(keep_thread, NULL);
  uint64_t bytes = lv_elog_end(b->log) - at;
  drop_cache(b);
  cpu = cpu_s();
  start = lv_mono_now();
  uint64_t read_n = replay(b, n, &read_bytes);
  double read_s = since(start), read_cpu = cpu_s() - cpu;
  (void)printf(
      json
          ? "{\"messages\":%llu,\"bytes\":%llu,\"write_s\":%.3f,\"write_bytes_per_s\":%.0f,"
            "\"write_cpu_s\":%.3f,\"waited_s\":%.3f,\"syncs\":%llu,\"jobs\":%llu,\"prepared\":%llu,"
            "\"read_messages\":%llu,\"read_bytes\":%llu,\"read_s\":%.3f,\"read_bytes_per_s\":%.0f,"
            "\"read_cpu_s\":%.3f}\n"
          : "wrote %llu messages, %llu bytes in %.3f s: %.0f bytes/s, CPU %.3f s; waited %.3f s "
            "for "
            "room, %llu syncs, %llu retention jobs, %llu segments made ahead\n"
            "read  %llu messages, %llu bytes in %.3f s: %.0f bytes/s, CPU %.3f s\n",
      (unsigned long long)n, (unsigned long long)bytes, write_s, (double)bytes / write_s, write_cpu,
      waited, (unsigned long long)b->syncs, (unsigned long long)b->jobs,
      (unsigned long long)b->made, (unsigned long long)read_n, (unsigned long long)read_bytes,
      read_s, (double)read_bytes / read_s, read_cpu);
}

static double real(const char *v, double max) {
  char *end;
  double d = strtod(v, &end);
  if (end != v && *end == 0 && d > 0 && d <= max) return d;
  (void)fprintf(stderr, "log_bench: '%s' is not a number above 0 and up to %.0f\n", v, max);
  exit(64);
}

int main(int argc, char **argv) {
  static const struct option longs[] = {
      {"data", 1, NULL, 'd'}, {"seconds", 1, NULL, 's'},  {"commit-ms", 1, NULL, 'm'},
      {"keep", 1, NULL, 'k'}, {"channels", 1, NULL, 'c'}, {"round-ms", 1, NULL, 'r'},
      {"json", 0, NULL, 'j'}, {"help", 0, NULL, 'h'},     {NULL, 0, NULL, 0}};
  static bench b = {.seconds = 10,
                    .commit_ms = 5,
                    .round_ms = 1000,
                    .keep = (uint64_t)1 << 30,
                    .channels = 16,
                    .gate = PTHREAD_MUTEX_INITIALIZER,
                    .role = PTHREAD_MUTEX_INITIALIZER,
                    .mu = PTHREAD_MUTEX_INITIALIZER};
  bool json = false;
  for (int c; (c = getopt_long(argc, argv, "h", longs, NULL)) != -1;) {
    switch (c) {
    case 'd': b.dir = optarg; break;
    case 's': b.seconds = real(optarg, 3600); break;
    case 'm': b.commit_ms = real(optarg, 1000); break;
    case 'k': b.keep = (uint64_t)real(optarg, 4e9); break;
    case 'c': b.channels = (uint32_t)real(optarg, CHANNELS_MAX); break;
    case 'r': b.round_ms = real(optarg, 60000); break;
    case 'j': json = true; break;
    case 'h': (void)fputs(usage, stdout); return 0;
    default: return 64;
    }
  }
  if (!b.dir || optind != argc || b.channels < 1) {
    (void)fputs(usage, stderr);
    return 64;
  }
  (void)prctl(PR_SET_TIMERSLACK, 1UL);
  open_log(&b);
  run(&b, json);
  close_log(&b);
  return 0;
}
