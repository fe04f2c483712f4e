/* core_bench.c: what the primitives of src/core cost on this machine, in nanoseconds an operation
 * or GB/s; best of five, so that neighbours on the machine disturb it least. It compares nothing:
 * it is the price list for reading profiles. Usage: core_bench [NAME-PREFIX] */
#include "core/hash.h"
#include "core/loop.h"
#include "core/map.h"
#include "core/outq.h"
#include "core/rand.h"
#include "core/rec.h"
#include <stdio.h>
#include <stdlib.h>

enum { REPEAT = 5 };
static volatile uint64_t sink;
static const char *only = "";

typedef uint64_t bench_fn(uint64_t n);

/* Runs fn(n) REPEAT times; prints the best. unit: bytes an operation for GB/s, 0 for ns. */
static void run(const char *name, bench_fn *fn, uint64_t n, uint64_t bytes) {
  int64_t best = INT64_MAX;
  if (strncmp(name, only, strlen(only)) != 0) return;
  for (int i = 0; i < REPEAT; i++) {
    int64_t t = lv_mono_now().ns;
    sink += fn(n);
    t = lv_mono_now().ns - t;
    if (t < best) best = t;
  }
  if (bytes)
    printf("%-28s %8.2f GB/s\n", name, (double)(n * bytes) / (double)best);
  else
    printf("%-28s %8.2f ns\n", name, (double)best / (double)n);
}

static uint8_t data[1 << 20];

static uint64_t crc_200(uint64_t n) {
  uint32_t c = 0;
  for (uint64_t i = 0; i < n; i++) c = lv_crc32c(c, data + (i & 1023), 200);
  return c;
}

static uint64_t crc_64k(uint64_t n) {
  uint32_t c = 0;
  for (uint64_t i = 0; i < n; i++) c = lv_crc32c(c, data, 65536);
  return c;
}

static uint64_t hash_20(uint64_t n) {
  uint64_t h = 0;
  for (uint64_t i = 0; i < n; i++) h += lv_hash(data + (h & 1023), 20);
  return h;
}

static uint64_t put_consume(uint64_t n) { /* a turn: 16 packets of 130 bytes, one send */
  lv_outq q;
  struct iovec iov[8];
  uint64_t k = 0;
  lv_outq_init(&q);
  for (uint64_t i = 0; i < n; i += 16) {
    for (int j = 0; j < 16; j++) lv_outq_put(&q, 130, 1, (lv_mono){1})[0] = 1;
    k += (uint64_t)lv_outq_iov(&q, iov, 8);
    lv_outq_consume(&q, q.bytes, NULL, NULL);
  }
  lv_outq_done(&q);
  return k;
}

static uint64_t put_one(uint64_t n) { /* an ack a turn */
  lv_outq q;
  lv_outq_init(&q);
  for (uint64_t i = 0; i < n; i++) {
    lv_outq_put(&q, 4, 0, (lv_mono){0})[0] = 1;
    lv_outq_consume(&q, 4, NULL, NULL);
  }
  return q.bytes;
}

static uint64_t ref_consume(uint64_t n) { /* fan-out: 16 neighbouring frames, one send */
  lv_outq q;
  lv_block *b = lv_block_new(LV_BLOCK_SIZE);
  lv_outq_init(&q);
  for (uint64_t i = 0; i < n; i += 16) {
    for (uint32_t j = 0; j < 16; j++) lv_outq_ref(&q, b, b->data + j * 130, 130, 1, (lv_mono){1});
    lv_outq_consume(&q, q.bytes, NULL, NULL);
  }
  lv_outq_done(&q);
  lv_block_unref(b);
  return n;
}

static uint64_t rec_write(uint64_t n) { /* 128-byte values, with and without the seal */
  lv_rec_in in = {.kind = LV_REC_MSG,
                  .key_off = 6,
                  .topic = LV_SLICE("bench/device/1234"),
                  .pid = LV_SLICE("publisher-17"),
                  .val = lv_slice_of(data, 128)};
  lv_block *b = lv_block_new(LV_BLOCK_SIZE);
  uint32_t size = 0;
  for (uint64_t i = 0; i < n; i++) {
    if (lv_rec_size(&in, &size)) abort();
    if (b->used + size > b->cap) b->used = 0;
    in.ingest_ns = (int64_t)i;
    lv_rec_write(&in, b->data + b->used, size);
    b->used += size;
  }
  sink += b->data[100];
  lv_block_unref(b);
  return size;
}

static uint64_t rec_seal(uint64_t n) {
  lv_rec_in in = {.kind = LV_REC_MSG, .key_off = LV_REC_NO_KEY, .val = lv_slice_of(data, 160)};
  uint32_t size = 0;
  if (lv_rec_size(&in, &size)) abort();
  lv_rec *r = lv_rec_write(&in, data + 4096, size);
  for (uint64_t i = 0; i < n; i++) {
    r->lsn = i;
    lv_rec_seal(r);
  }
  return r->crc;
}

static uint64_t hist_add(uint64_t n) {
  static lv_hist h;
  for (uint64_t i = 0; i < n; i++) lv_hist_add(&h, (int64_t)(i * 977 & 0xFFFFF), 1);
  return h.count;
}

static void nothing(lv_timer *t) {
  (void)t;
}

static uint64_t timer_arm(uint64_t n) { /* keep-alives of 1,000 connections put off by traffic */
  static lv_timer t[1000];
  static lv_wheel w;
  lv_wheel_init(&w, (lv_mono){0});
  memset(t, 0, sizeof t);
  for (uint64_t i = 0; i < n; i++)
    lv_timer_arm(&w, &t[i % 1000], (lv_mono){(int64_t)i * 1000}, LV_SEC(60), nothing);
  return w.armed;
}

typedef struct node {
  char key[12];
} node;
static lv_slice key_of(const void *obj) {
  return lv_slice_of(((const node *)obj)->key, 12);
}

static uint64_t map_get(uint64_t n) { /* 100,000 entries, random hits */
  enum { N = 100000 };
  static node nodes[N];
  static lv_map m;
  uint64_t found = 0, s = 1;
  if (!m.key) {
    lv_map_init(&m, key_of);
    for (int i = 0; i < N; i++) {
      memcpy(nodes[i].key, &i, sizeof i);
      if (lv_map_add(&m, &nodes[i])) abort();
    }
  }
  for (uint64_t i = 0; i < n; i++)
    found += lv_map_get(&m, key_of(&nodes[lv_splitmix(&s) % N])) != NULL;
  return found;
}

static uint64_t clocks(uint64_t n) {
  uint64_t v = 0;
  for (uint64_t i = 0; i < n; i++) v += (uint64_t)lv_mono_now().ns;
  return v;
}

/* A mail from one sleeping loop to another and back: half of it is one hop. */
typedef struct ball {
  lv_mail mail;
  lv_loop *peer[2];
  uint64_t hops;
  uv_sem_t done;
} ball;

static void on_ball(lv_loop *loop, lv_mail *mail) {
  ball *b = (ball *)mail;
  if (--b->hops == 0)
    uv_sem_post(&b->done);
  else
    lv_loop_post(b->peer[loop == b->peer[0]], &b->mail);
}

static uint64_t mail_hop(uint64_t n) {
  ball b = {.mail.run = on_ball, .hops = n};
  uv_sem_init(&b.done, 0);
  for (int i = 0; i < 2; i++)
    if (lv_loop_new(i, &b.peer[i]) || lv_loop_start(b.peer[i], NULL, NULL)) abort();
  lv_loop_post(b.peer[0], &b.mail);
  uv_sem_wait(&b.done);
  for (int i = 0; i < 2; i++) lv_loop_stop(b.peer[i]);
  for (int i = 0; i < 2; i++) lv_loop_free(b.peer[i]);
  uv_sem_destroy(&b.done);
  return n;
}

static void on_own(lv_loop *loop, lv_mail *mail) {
  ball *b = (ball *)mail;
  if (--b->hops == 0)
    lv_loop_stop(loop);
  else
    lv_loop_post(loop, mail);
}

static uint64_t mail_own(uint64_t n) {
  ball b = {.mail.run = on_own, .hops = n};
  if (lv_loop_new(0, &b.peer[0])) abort();
  lv_loop_post(b.peer[0], &b.mail);
  (void)lv_loop_run(b.peer[0]);
  lv_loop_free(b.peer[0]);
  return n;
}

int main(int argc, char **argv) {
  if (argc > 1) only = argv[1];
  lv_rand r;
  lv_rand_init(&r, 1);
  lv_rand_fill(&r, data, sizeof data);
  run("crc 200 B", crc_200, 1000000, 200);
  run("crc 64 KiB", crc_64k, 5000, 65536);
  run("hash 20 B", hash_20, 5000000, 0);
  run("map get of 100k", map_get, 1000000, 0);
  run("outq put, 16 a turn", put_consume, 8000000, 0);
  run("outq put, 1 a turn", put_one, 5000000, 0);
  run("outq ref, 16 a turn", ref_consume, 8000000, 0);
  run("rec write 128 B", rec_write, 2000000, 0);
  run("rec seal 208 B", rec_seal, 2000000, 0);
  run("hist add", hist_add, 5000000, 0);
  run("timer re-arm", timer_arm, 5000000, 0);
  run("clock", clocks, 2000000, 0);
  run("mail hop, sleeping loops", mail_hop, 30000, 0);
  run("mail to itself", mail_own, 300000, 0);
  return 0;
}
