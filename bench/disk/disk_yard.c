/* disk_yard.c: what the bare disk gives, beside which our log is measured. Two jobs:
 *
 *   latency  messages fall due at a fixed rate; one thread writes all that are due and fdatasyncs,
 *            again and again. Reports the durations of the syncs, plain and weighted by time (what
 *            a message that comes at any moment meets), and each message's wait until it is safe.
 *   append   one thread writes as fast as it goes, another fdatasyncs every few milliseconds; then
 *            the page cache is dropped and the file read back.
 *
 * The file grows, or with --ring it is written once beforehand and gone round in. */
#include "hist.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
    "usage: lavva-disk latency|append FILE [OPTIONS]      prints one JSON object\n"
    "\n"
    "  --seconds S      how long (latency 5, append 10)\n"
    "  --rate N         latency: messages a second (10000)\n"
    "  --record BYTES   latency: bytes written for each message (200)\n"
    "  --chunk BYTES    append: bytes of each write (65536)\n"
    "  --commit-ms MS   append: time between two syncs (5)\n"
    "  --ring BYTES     write the file once beforehand and go round in it (0: it grows)\n"
    "\n"
    "  lavva-disk latency /var/tmp/yard --rate 10000 --ring 67108864\n"
    "  lavva-disk append /var/tmp/yard --seconds 30\n";

typedef struct yard {
  const char *path;
  int fd;
  double seconds, rate, commit_ms;
  uint64_t record, chunk, ring, at, written;
  uint8_t *bytes;
  _Atomic bool stop;
  _Atomic uint64_t syncs;
} yard;

static int64_t now_ns(void) {
  struct timespec ts;
  (void)clock_gettime(CLOCK_MONOTONIC, &ts);
  return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void sleep_until(int64_t at_ns) {
  struct timespec ts = {at_ns / 1000000000, at_ns % 1000000000};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR) continue;
}

static _Noreturn void die(const yard *y, const char *what) {
  char why[80];
  (void)fprintf(stderr, "lavva-disk: %s: %s: %s\n", y->path, what,
                strerror_r(errno, why, sizeof why));
  exit(74);
}

static void put(yard *y, uint64_t n) {
  if (y->ring && y->at + n > y->ring) y->at = 0;
  if (pwrite(y->fd, y->bytes, n, (off_t)y->at) != (ssize_t)n) die(y, "write");
  y->at += n;
  y->written += n;
}

static void prepare(yard *y, uint64_t room) {
  y->fd = open(y->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (y->fd < 0) die(y, "open");
  y->bytes = malloc(room);
  if (!y->bytes) die(y, "memory");
  for (uint64_t i = 0; i < room; i++) y->bytes[i] = (uint8_t)(i * 2654435761u >> 13);
  uint64_t step = room < 1 << 20 ? room : 1 << 20;
  for (uint64_t at = 0; at < y->ring; at += step)
    if (pwrite(y->fd, y->bytes, step, (off_t)at) != (ssize_t)step) die(y, "write");
  if (fsync(y->fd)) die(y, "fsync");
}

/* The duration that syncs of at most that length fill a share q of all sync time with. */
static int64_t time_weighted(const lg_hist *h, double q) {
  double sum = 0, all = 0;
  for (uint32_t i = 0; i < LG_HIST_BUCKETS; i++)
    all += (double)h->bucket[i] * (double)lg_hist_edge(i);
  for (uint32_t i = 0; i < LG_HIST_BUCKETS; i++) {
    sum += (double)h->bucket[i] * (double)lg_hist_edge(i);
    if (sum >= q * all) return (int64_t)lg_hist_edge(i);
  }
  return h->max_ns;
}

static int latency(yard *y) {
  lg_hist *sync_h = calloc(1, sizeof *sync_h), *wait_h = calloc(1, sizeof *wait_h);
  uint64_t batch_max = 1 + (1 << 20) / y->record, done = 0, syncs = 0;
  if (!sync_h || !wait_h) die(y, "memory");
  prepare(y, batch_max * y->record);
  int64_t start = now_ns(), end = start + (int64_t)(y->seconds * 1e9);
  double gap_ns = 1e9 / y->rate;
  for (int64_t now = start; now < end; now = now_ns()) {
    uint64_t due = (uint64_t)((double)(now - start) / gap_ns) + 1, n = due - done;
    if (due <= done) {
      sleep_until(start + (int64_t)((double)done * gap_ns));
      continue;
    }
    if (n > batch_max) n = batch_max;
    put(y, n * y->record);
    int64_t before = now_ns();
    if (fdatasync(y->fd)) die(y, "fdatasync");
    int64_t after = now_ns();
    lg_hist_add(sync_h, after - before);
    for (; n > 0; n--, done++)
      lg_hist_add(wait_h, after - start - (int64_t)((double)done * gap_ns));
    syncs++;
  }
  (void)printf(
      "{\"syncs\":%llu,\"messages\":%llu,\"sync_p50\":%lld,\"sync_p99\":%lld,\"sync_max\":%lld,"
      "\"sync_p50_time_weighted\":%lld,\"sync_p99_time_weighted\":%lld,"
      "\"wait_p50\":%lld,\"wait_p99\":%lld,\"wait_max\":%lld}\n",
      (unsigned long long)syncs, (unsigned long long)done, (long long)lg_hist_quantile(sync_h, 0.5),
      (long long)lg_hist_quantile(sync_h, 0.99), (long long)sync_h->max_ns,
      (long long)time_weighted(sync_h, 0.5), (long long)time_weighted(sync_h, 0.99),
      (long long)lg_hist_quantile(wait_h, 0.5), (long long)lg_hist_quantile(wait_h, 0.99),
      (long long)wait_h->max_ns);
  free(sync_h), free(wait_h);
  return 0;
}

static void *syncer(void *arg) {
  yard *y = arg;
  int64_t next = now_ns();
  while (!atomic_load(&y->stop)) {
    next += (int64_t)(y->commit_ms * 1e6);
    int64_t now = now_ns();
    if (next > now)
      sleep_until(next);
    else
      next = now;
    if (fdatasync(y->fd)) die(y, "fdatasync");
    atomic_fetch_add(&y->syncs, 1);
  }
  return NULL;
}

static int append(yard *y) {
  pthread_t thread;
  prepare(y, y->chunk > 1 << 20 ? y->chunk : 1 << 20);
  int64_t start = now_ns(), end = start + (int64_t)(y->seconds * 1e9);
  if (pthread_create(&thread, NULL, syncer, y)) die(y, "thread");
  while (now_ns() < end) put(y, y->chunk);
  atomic_store(&y->stop, true);
  (void)pthread_join(thread, NULL);
  if (fdatasync(y->fd)) die(y, "fdatasync");
  double write_s = (double)(now_ns() - start) / 1e9;
  if (posix_fadvise(y->fd, 0, 0, POSIX_FADV_DONTNEED)) die(y, "fadvise");
  uint64_t got = 0;
  start = now_ns();
  for (ssize_t n; (n = pread(y->fd, y->bytes, 1 << 20, (off_t)got)) > 0;) got += (uint64_t)n;
  double read_s = (double)(now_ns() - start) / 1e9;
  (void)printf("{\"bytes\":%llu,\"write_s\":%.3f,\"write_bytes_per_s\":%.0f,\"syncs\":%llu,"
               "\"read_bytes\":%llu,\"read_s\":%.3f,\"read_bytes_per_s\":%.0f}\n",
               (unsigned long long)y->written, write_s, (double)y->written / write_s,
               (unsigned long long)atomic_load(&y->syncs), (unsigned long long)got, read_s,
               (double)got / read_s);
  return 0;
}

static double real(const char *v) {
  char *end;
  double d = strtod(v, &end);
  if (end != v && *end == 0 && d > 0 && d < 1e15) return d;
  (void)fprintf(stderr, "lavva-disk: '%s' is not a positive number\n", v);
  exit(64);
}

int main(int argc, char **argv) {
  static const struct option longs[] = {{"seconds", 1, NULL, 's'},   {"rate", 1, NULL, 'r'},
                                        {"record", 1, NULL, 'b'},    {"chunk", 1, NULL, 'c'},
                                        {"commit-ms", 1, NULL, 'm'}, {"ring", 1, NULL, 'g'},
                                        {"help", 0, NULL, 'h'},      {NULL, 0, NULL, 0}};
  yard y = {.rate = 10000, .record = 200, .chunk = 65536, .commit_ms = 5};
  for (int c; (c = getopt_long(argc, argv, "h", longs, NULL)) != -1;) {
    switch (c) {
    case 's': y.seconds = real(optarg); break;
    case 'r': y.rate = real(optarg); break;
    case 'b': y.record = (uint64_t)real(optarg); break;
    case 'c': y.chunk = (uint64_t)real(optarg); break;
    case 'm': y.commit_ms = real(optarg); break;
    case 'g': y.ring = (uint64_t)real(optarg); break;
    case 'h': (void)fputs(usage, stdout); return 0;
    default: return 64;
    }
  }
  bool lat = optind + 2 == argc && !strcmp(argv[optind], "latency");
  if (!lat && !(optind + 2 == argc && !strcmp(argv[optind], "append"))) {
    (void)fputs(usage, stderr);
    return 64;
  }
  y.path = argv[optind + 1];
  if (y.seconds == 0) y.seconds = lat ? 5 : 10;
  (void)prctl(PR_SET_TIMERSLACK, 1UL);
  int code = lat ? latency(&y) : append(&y);
  (void)unlink(y.path);
  (void)close(y.fd);
  free(y.bytes);
  return code;
}
