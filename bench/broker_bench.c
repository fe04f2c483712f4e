/* broker_bench.c: what the embedded broker costs a message, beside the bare log under it.
 *
 * usage: broker_bench memory|disk|raw|rawdisk [LOOPS] [BATCH] [SECONDS] [FEED] [DIR]
 *   LOOPS loops publish messages of 128 bytes, BATCH a turn, each next turn when the last message
 * of the one before was acknowledged (closed loop, two turns outstanding). FEED: so many of the
 * loops take the live feed and look at each record's header. raw: the same batches go to the log
 * alone, by one thread (memory: written; rawdisk: and synced). Prints messages a second and process
 * CPU microseconds a message (user + system). */
#include "broker/embedded/elog.h"
#include "broker/pub.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { MAX_LOOPS = 16, VALUE = 128, TURNS_OUT = 2 };

typedef struct worker {
  lv_loop *loop;
  lv_pub *pub;
  lv_broker *broker;
  const lv_chan *chan;
  uint32_t batch, feed;
  lv_feed taker;
  _Atomic uint64_t acked, fed;
  _Atomic bool stop;
  uint64_t check;
} worker;

static void die(const char *what, int err) {
  fprintf(stderr, "%s: %s\n", what, lv_err_text(err));
  exit(1);
}

static double cpu_s(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
         (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static lv_rec_in message(const lv_chan *chan, uint32_t id, const uint8_t *value) {
  return (lv_rec_in){.kind = LV_REC_MSG,
                     .key_off = 6,
                     .chan = chan ? chan->id : id,
                     .ingest_ns = 1,
                     .topic = LV_SLICE("bench/device/17"),
                     .pid = LV_SLICE("client-17"),
                     .val = lv_slice_of(value, VALUE)};
}

static void publish_turn(worker *w) {
  static const uint8_t value[VALUE];
  lv_rec_in in = message(w->chan, 0, value);
  lv_mono now = w->loop->now;
  for (uint32_t i = 0; i < w->batch; i++) {
    int err = lv_pub_add(w->pub, w->chan->durability, &in, now, NULL);
    if (err) die("lv_pub_add", err);
  }
  lv_pub_ack(w->pub, w->chan->durability, (lv_ack){0});
}

static void on_ack(void *arg, const lv_ack *ack, int err, const lv_rec *rec) {
  (void)ack;
  (void)rec;
  worker *w = arg;
  if (err) die("publish", err);
  atomic_fetch_add_explicit(&w->acked, w->batch, memory_order_relaxed);
  if (!atomic_load_explicit(&w->stop, memory_order_relaxed)) publish_turn(w);
}

static void on_feed(lv_loop *loop, lv_batch *batch, void *arg) {
  (void)loop;
  worker *w = arg;
  for (const lv_rec *r = lv_batch_first(batch); r; r = lv_batch_next(batch, r)) w->check += r->lsn;
  atomic_fetch_add_explicit(&w->fed, batch->count, memory_order_relaxed);
}

static void start(lv_loop *loop, void *arg) {
  worker *w = arg;
  lv_pos pos;
  w->taker = (lv_feed){.fn = on_feed, .arg = w};
  int err = w->broker->ops->attach(w->broker, loop, &w->taker, &pos);
  if (!err) err = lv_pub_new(loop, w->broker, 64 << 20, on_ack, w, &w->pub);
  if (err) die("attach", err);
  if (w->feed) (void)w->broker->ops->interest(w->broker, loop, &w->taker, true);
  for (int i = 0; i < TURNS_OUT; i++) publish_turn(w);
}

static void nap(double s) {
  struct timespec t = {(time_t)s, (long)((s - (double)(time_t)s) * 1e9)};
  nanosleep(&t, NULL);
}

static uint64_t total(worker *w, int n, bool fed) {
  uint64_t sum = 0;
  for (int i = 0; i < n; i++) sum += atomic_load(fed ? &w[i].fed : &w[i].acked);
  return sum;
}

static void bench_broker(const char *dir, uint8_t durability, int loops, uint32_t batch,
                         double secs, int feeds) {
  static worker w[MAX_LOOPS];
  char why[256];
  lv_broker *b;
  lv_chan *chan;
  lv_embedded_conf conf = {.dir = dir};
  int err = lv_embedded_open(&conf, &b, why);
  if (err) die(why, err);
  lv_chan_conf cc = {.app = LV_SLICE("a"),
                     .name = LV_SLICE("bench"),
                     .durability = durability,
                     .keep_bytes = 256 << 20};
  err = b->ops->ensure(b, &cc, 0, 0, &chan);
  if (err) die("ensure", err);
  for (int i = 0; i < loops; i++) {
    w[i] = (worker){.broker = b, .chan = chan, .batch = batch, .feed = i < feeds};
    err = lv_loop_new(i, &w[i].loop);
    if (!err) err = lv_loop_start(w[i].loop, start, &w[i]);
    if (err) die("loop", err);
  }
  nap(0.5);
  double c0 = cpu_s();
  uint64_t n0 = total(w, loops, false), f0 = total(w, loops, true);
  lv_mono t0 = lv_mono_now();
  nap(secs);
  double c1 = cpu_s(), wall = (double)lv_mono_sub(lv_mono_now(), t0).ns / 1e9;
  double n = (double)(total(w, loops, false) - n0), f = (double)(total(w, loops, true) - f0);
  printf("%-8s loops %d batch %u feed %d: %.3f M msg/s, %.3f us CPU a message, %.2f cores, fed "
         "%.3f M/s\n",
         durability == LV_DURABILITY_DISK ? "disk" : "memory", loops, batch, feeds, n / wall / 1e6,
         (c1 - c0) * 1e6 / n, (c1 - c0) / wall, f / wall / 1e6);
  for (int i = 0; i < loops; i++) atomic_store(&w[i].stop, true);
  for (int i = 0; i < loops; i++) lv_loop_stop(w[i].loop);
  for (int i = 0; i < loops; i++) lv_pub_free(w[i].pub);
  b->ops->close(b);
  for (int i = 0; i < loops; i++) lv_loop_free(w[i].loop);
}

static void raw_sync(lv_elog *log) {
  lv_elog_sync s;
  if (!lv_elog_sync_begin(log, &s)) return;
  lv_elog_sync_run(log, &s);
  if (lv_elog_sync_finish(log, &s)) die("sync", LV_E_IO);
}

static bool keep(void *arg, uint32_t chan, uint64_t *ms, uint64_t *bytes, uint64_t *count) {
  (void)arg;
  (void)chan;
  *ms = *count = 0;
  *bytes = 256 << 20;
  return true;
}

static bool live(void *arg, const lv_rec *rec) {
  (void)arg;
  (void)rec;
  return false;
}

/* What the housekeeper does for the broker, inline. */
static void raw_tend(lv_elog *log) {
  const lv_elog_policy policy = {.policy = keep, .live = live};
  uint64_t freed;
  if (!lv_elog_needs_next(log)) return;
  (void)lv_elog_prepare_next(log);
  lv_elog_job *job = lv_elog_job_plan(log, &policy, lv_wall_now());
  if (!job) return;
  (void)lv_elog_job_run(log, job);
  (void)lv_elog_job_apply(log, job, &freed);
}

static void bench_raw(const char *dir, bool sync, uint32_t batch, double secs) {
  static const uint8_t value[VALUE];
  lv_disk *disk;
  lv_elog *log;
  lv_elog_recovery rec;
  char why[256];
  int err = lv_disk_file_new(dir, &disk);
  if (err) die(dir, err);
  lv_elog_conf conf = {.disk = disk, .name = "mem", .epoch_on_unclean = true};
  if ((err = lv_elog_open(&conf, &log, &rec, why))) die(why, err);
  lv_rec_in in = message(NULL, 1, value);
  uint32_t size, n;
  (void)lv_rec_size(&in, &size);
  lv_block *block = lv_block_new(size * batch);
  for (uint32_t i = 0; i < batch; i++) (void)lv_rec_write(&in, block->data + i * size, size);
  lv_batch *bt = lv_batch_new(block, block->data);
  bt->bytes = size * batch;
  bt->count = batch;
  double c0 = cpu_s();
  lv_mono t0 = lv_mono_now();
  double msgs = 0, wall;
  do {
    if ((err = lv_elog_append(log, &bt, 1, &n))) die("append", err);
    if (sync) raw_sync(log);
    msgs += batch;
    raw_tend(log);
    wall = (double)lv_mono_sub(lv_mono_now(), t0).ns / 1e9;
  } while (wall < secs);
  double c1 = cpu_s();
  printf(
      "raw%-5s batch %u: %.3f M msg/s, %.3f us CPU a message (append alone, records of %u bytes)\n",
      sync ? "disk" : "", batch, msgs / wall / 1e6, (c1 - c0) * 1e6 / msgs, size);
  lv_batch_unref(bt);
  (void)lv_elog_close(log);
  disk->ops->free(disk);
}

static int remove_one(void *arg, const char *name) {
  lv_disk *d = arg;
  return d->ops->remove(d, name);
}

static void empty(const char *dir) {
  lv_disk *d;
  if (lv_disk_file_new(dir, &d)) return;
  (void)d->ops->list(d, remove_one, d);
  d->ops->free(d);
  (void)rmdir(dir);
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "memory";
  int loops = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 2;
  uint32_t batch = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 64;
  double secs = argc > 4 ? strtod(argv[4], NULL) : 3;
  int feeds = argc > 5 ? (int)strtol(argv[5], NULL, 10) : 0;
  char dir[256];
  if (loops < 1 || loops > MAX_LOOPS || batch < 1) return 64;
  snprintf(dir, sizeof dir, "%s/broker-bench-XXXXXX", argc > 6 ? argv[6] : "/tmp");
  if (!mkdtemp(dir)) return 1;
  if (!strncmp(what, "raw", 3))
    bench_raw(dir, what[3] != 0, batch, secs);
  else
    bench_broker(dir, !strcmp(what, "disk") ? LV_DURABILITY_DISK : LV_DURABILITY_MEMORY, loops,
                 batch, secs, feeds);
  empty(dir);
  return 0;
}
