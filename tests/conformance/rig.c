/* rig.c: loops, publishers and feeds that write everything down, for the conformance suite. */
#include "conform.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

void conform_fail(const char *file, int line, const char *cond, const char *fmt, ...) {
  va_list ap;
  fflush(stdout);
  fprintf(stderr, "%s:%d: %s: ", file, line, cond);
  va_start(ap, fmt);
  vfprintf(stderr, fmt, ap);
  va_end(ap);
  fputc('\n', stderr);
  abort();
}

uint64_t rig_random(uint64_t *s) { /* xorshift64* (Vigna, 2016) */
  *s ^= *s >> 12;
  *s ^= *s << 25;
  *s ^= *s >> 27;
  return *s * 0x2545F4914F6CDD1Dull;
}

static void seen_add(seen_list *s, const lv_rec *rec) {
  if (s->n == s->cap) {
    s->cap = s->cap ? s->cap * 2 : 1024;
    s->v = realloc(s->v, s->cap * sizeof *s->v);
    if (!s->v) abort();
  }
  note nt = {0};
  lv_slice val = lv_rec_val(rec);
  CHECK(val.n == sizeof nt, "value of %u bytes", val.n);
  memcpy(&nt, val.p, sizeof nt);
  s->v[s->n++] = (seen){.lsn = rec->lsn,
                        .offset = rec->offset,
                        .seq = nt.seq,
                        .pub = nt.pub,
                        .chan = nt.chan,
                        .id = rec->chan};
}

void seen_clear(seen_list *s) {
  free(s->v);
  *s = (seen_list){0};
}

/* ---- waiting ---- */

void rig_wait(rig *r, bool (*cond)(rig *r, void *arg), void *arg, const char *what) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  time_t deadline = t.tv_sec + RIG_DEADLINE_S;
  pthread_mutex_lock(&r->mu);
  while (!cond(r, arg)) {
    clock_gettime(CLOCK_REALTIME, &t);
    CHECK(t.tv_sec < deadline, "%s: did not happen within %d s", what, RIG_DEADLINE_S);
    t.tv_nsec += 2000000;
    if (t.tv_nsec >= 1000000000) {
      t.tv_nsec -= 1000000000;
      t.tv_sec++;
    }
    (void)pthread_cond_timedwait(&r->progress, &r->mu, &t);
  }
  pthread_mutex_unlock(&r->mu);
}

static void progress(rig *r) {
  pthread_cond_signal(&r->progress);
}

/* ---- a loop's side ---- */

static void note_feed(rig_loop *rl, lv_loop *loop, const lv_batch *batch, seen_list *to) {
  rig *r = rl->rig;
  CHECK(lv_loop_here(loop) && loop == rl->loop, "feed on another thread");
  pthread_mutex_lock(&r->mu);
  for (const lv_rec *rec = lv_batch_first(batch); rec; rec = lv_batch_next(batch, rec))
    if (rec->kind == LV_REC_MSG) seen_add(&to[batch->log], rec);
  progress(r);
  pthread_mutex_unlock(&r->mu);
}

static void on_feed(lv_loop *loop, lv_batch *batch, void *arg) {
  rig_loop *rl = arg;
  note_feed(rl, loop, batch, rl->feed);
}

static void on_second(lv_loop *loop, lv_batch *batch, void *arg) {
  rig_loop *rl = arg;
  note_feed(rl, loop, batch, rl->feed2);
}

static void publish_turn(rig_loop *rl);

static void on_ack(void *arg, const lv_ack *ack, int err, const lv_rec *rec) {
  rig_loop *rl = arg;
  rig *r = rl->rig;
  note nt;
  CHECK(!rl->in_submit, "completion inside publish");
  CHECK(rec && lv_loop_here(rl->loop), "acknowledgement without its record");
  memcpy(&nt, lv_rec_val(rec).p, sizeof nt);
  CHECK(nt.seq == ((uint64_t)ack->gen << 16 | ack->packet_id), "another record's acknowledgement");
  pthread_mutex_lock(&r->mu);
  if (rl->n_acks == rl->cap_acks) {
    rl->cap_acks = rl->cap_acks ? rl->cap_acks * 2 : 1024;
    rl->acks = realloc(rl->acks, rl->cap_acks * sizeof *rl->acks);
    if (!rl->acks) abort();
  }
  rl->acks[rl->n_acks++] = (acked){nt.seq, rec->lsn, nt.chan, err};
  rl->told++;
  progress(r);
  pthread_mutex_unlock(&r->mu);
}

static bool publish_one(rig_loop *rl) {
  rig *r = rl->rig;
  uint32_t c = (uint32_t)(rig_random(&rl->rng) % RIG_CHANS);
  lv_chan *chan = r->chan[c];
  note nt = {.pub = (uint32_t)rl->loop->index, .chan = c, .seq = rl->seq[c] + 1};
  memset(nt.fill, (int)(nt.seq & 0xFF), sizeof nt.fill);
  char topic[32];
  int n = snprintf(topic, sizeof topic, "c%u/k%u", c, nt.pub);
  lv_rec_in in = {.kind = LV_REC_MSG,
                  .flags = 1,
                  .key_off = 3,
                  .chan = chan->id,
                  .ingest_ns = rl->loop->wall.ns,
                  .topic = lv_slice_of(topic, (size_t)n),
                  .val = lv_slice_of(&nt, sizeof nt)};
  lv_rec *rec;
  int err = lv_pub_add(rl->pub, chan->durability, &in, rl->loop->now, &rec);
  if (err == LV_E_BUSY) return false;
  CHECK(err == 0, "lv_pub_add: %s", lv_err_name(err));
  rl->seq[c]++;
  lv_pub_ack(rl->pub, chan->durability,
             (lv_ack){.gen = (uint32_t)(nt.seq >> 16), .packet_id = (uint16_t)nt.seq, .qos = 1});
  return true;
}

void conform_turn(lv_loop *loop, void *arg) {
  (void)loop;
  publish_turn(arg);
}

/* Some messages, then again from the mailbox; `drained` goes on when the bound was reached. */
static void publish_turn(rig_loop *rl) {
  uint64_t n = 1 + rig_random(&rl->rng) % 40;
  for (; n && rl->todo; n--) {
    if (!publish_one(rl)) return;
    rl->todo--;
    rl->offered++;
  }
  rl->in_submit = true;
  lv_pub_submit(rl->pub);
  rl->in_submit = false;
  if (rl->todo) lv_loop_call(rl->loop, conform_turn, rl);
}

static void on_drained(void *arg) {
  publish_turn(arg);
}

static void loop_attach(lv_loop *loop, void *arg) {
  rig_loop *rl = arg;
  rig *r = rl->rig;
  rl->taker = (lv_feed){.fn = on_feed, .arg = rl};
  int err = r->broker->ops->attach(r->broker, loop, &rl->taker, &rl->start);
  CHECK(err == 0, "attach: %s", lv_err_name(err));
  lv_pos pos;
  rl->second = (lv_feed){.fn = on_second, .arg = rl};
  err = r->broker->ops->attach(r->broker, loop, &rl->second, &pos);
  CHECK(err == 0, "attach a second: %s", lv_err_name(err));
  err = lv_pub_new(loop, r->broker, 256 * 1024, on_ack, rl, &rl->pub);
  CHECK(err == 0, "lv_pub_new: %s", lv_err_name(err));
  lv_pub_on_drained(rl->pub, on_drained, rl);
}

/* ---- the rig ---- */

static void ensure_chans(rig *r, uint64_t keep_count) {
  for (uint32_t c = 0; c < RIG_CHANS; c++) {
    char name[8];
    snprintf(name, sizeof name, "c%u", c);
    lv_chan_conf conf = {.app = LV_SLICE("app"),
                         .name = lv_slice_str(name),
                         .durability = r->kind->durability,
                         .keep_count = keep_count};
    if (r->kind->mixed) conf.durability = c % LV_DURABILITY_COUNT;
    int err = r->broker->ops->ensure(r->broker, &conf, 7, 100, &r->chan[c]);
    CHECK(err == 0, "ensure: %s", lv_err_name(err));
  }
}

void rig_open(rig *r, const conform_kind *kind, uint64_t keep_count) {
  char why[256] = "";
  *r = (rig){.kind = kind};
  pthread_mutex_init(&r->mu, NULL);
  pthread_cond_init(&r->progress, NULL);
  int err = kind->open(kind->env, &r->broker, why);
  CHECK(err == 0, "open: %s: %s", lv_err_name(err), why);
  ensure_chans(r, keep_count);
  for (int i = 0; i < RIG_LOOPS; i++) {
    rig_loop *rl = &r->loops[i];
    rl->rig = r;
    rl->rng = 0x9E3779B97F4A7C15ull * (uint64_t)(i + 1);
    err = lv_loop_new(i, &rl->loop);
    CHECK(err == 0, "lv_loop_new: %s", lv_err_name(err));
    err = lv_loop_start(rl->loop, loop_attach, rl);
    CHECK(err == 0, "lv_loop_start: %s", lv_err_name(err));
  }
}

static void stop_loops(rig *r) {
  for (int i = 0; i < RIG_LOOPS; i++) lv_loop_stop(r->loops[i].loop);
  for (int i = 0; i < RIG_LOOPS; i++) lv_pub_free(r->loops[i].pub);
}

static void free_loops(rig *r) {
  for (int i = 0; i < RIG_LOOPS; i++) lv_loop_free(r->loops[i].loop);
  pthread_mutex_destroy(&r->mu);
  pthread_cond_destroy(&r->progress);
}

void rig_close(rig *r) {
  stop_loops(r);
  r->broker->ops->close(r->broker);
  free_loops(r);
}

void rig_crash(rig *r, bool power) {
  stop_loops(r);
  r->kind->crash(r->kind->env, r->broker, power);
  free_loops(r);
}

void rig_clear(rig *r) {
  for (int i = 0; i < RIG_LOOPS; i++) {
    rig_loop *rl = &r->loops[i];
    for (int l = 0; l < LV_DURABILITY_COUNT; l++) {
      seen_clear(&rl->feed[l]);
      seen_clear(&rl->feed2[l]);
    }
    free(rl->acks);
    rl->acks = NULL;
    rl->n_acks = rl->cap_acks = 0;
  }
}

typedef struct go {
  rig_loop *rl;
  uint32_t n;
} go;

static void start_publishing(lv_loop *loop, void *arg) {
  (void)loop;
  go *g = arg;
  g->rl->todo = g->n;
  publish_turn(g->rl);
}

bool conform_all_told(rig *r, void *arg) {
  const uint64_t *want = arg;
  for (int i = 0; i < RIG_LOOPS; i++)
    if (r->loops[i].told < want[i]) return false;
  return true;
}

void rig_publish(rig *r, uint32_t n_each) {
  uint64_t want[RIG_LOOPS];
  go g[RIG_LOOPS];
  for (int i = 0; i < RIG_LOOPS; i++) {
    want[i] = r->loops[i].told + n_each; /* nobody publishes now: told == offered */
    g[i] = (go){&r->loops[i], n_each};
  }
  for (int i = 0; i < RIG_LOOPS; i++) lv_loop_call_wait(r->loops[i].loop, start_publishing, &g[i]);
  rig_wait(r, conform_all_told, want, "outcome of every message");
}

typedef struct interest_call {
  rig_loop *rl;
  lv_feed *feed;
  bool on;
  lv_pos pos;
} interest_call;

static void interest_run(lv_loop *loop, void *arg) {
  interest_call *c = arg;
  lv_broker *b = c->rl->rig->broker;
  c->pos = b->ops->interest(b, loop, c->feed, c->on);
}

lv_pos rig_interest(rig *r, int loop, bool on) {
  interest_call c = {.rl = &r->loops[loop], .feed = &r->loops[loop].taker, .on = on};
  lv_loop_call_wait(r->loops[loop].loop, interest_run, &c);
  return c.pos;
}

lv_pos rig_interest_second(rig *r, int loop, bool on) {
  interest_call c = {.rl = &r->loops[loop], .feed = &r->loops[loop].second, .on = on};
  lv_loop_call_wait(r->loops[loop].loop, interest_run, &c);
  return c.pos;
}

static void nothing(lv_loop *loop, void *arg) {
  (void)loop;
  (void)arg;
}

void rig_settle(rig *r) {
  /* Everything was told, so everything is visible and posted; mail is first in, first out. */
  for (int i = 0; i < RIG_LOOPS; i++) lv_loop_call_wait(r->loops[i].loop, nothing, NULL);
}

/* ---- reads ---- */

typedef struct reading {
  lv_read read;
  rig *r;
  seen_list *out;
  uint64_t missing;
  int err;
  bool finished;
} reading;

static void read_again(lv_loop *loop, void *arg) {
  (void)loop;
  reading *g = arg;
  int err = g->r->broker->ops->read(g->r->broker, &g->read);
  CHECK(err == 0, "read: %s", lv_err_name(err));
}

static void on_read(lv_read *read) {
  reading *g = read->arg;
  CHECK(lv_loop_here(read->loop), "read completed on another thread");
  CHECK(read->n <= read->max_count, "%u records, limit %u", read->n, read->max_count);
  CHECK(read->next >= read->from, "read went backwards");
  uint64_t last = 0, bytes = 0;
  pthread_mutex_lock(&g->r->mu);
  for (uint32_t i = 0; i < read->n; i++) {
    const lv_rec *rec = read->recs[i];
    CHECK(rec->lsn > last && rec->lsn >= read->from && rec->lsn < read->next, "order of a read");
    last = rec->lsn;
    bytes += rec->size;
    seen_add(g->out, rec);
  }
  CHECK(read->n <= 1 || bytes <= read->max_bytes, "%llu bytes", (unsigned long long)bytes);
  if (read->missing_before > g->missing) g->missing = read->missing_before;
  bool end = read->err || read->next >= read->visible;
  CHECK(end || read->n || read->next > read->from, "a read that gets nowhere");
  g->err = read->err;
  lv_broker_read_free(read);
  read->from = read->next;
  g->finished = end;
  progress(g->r);
  pthread_mutex_unlock(&g->r->mu);
  if (!end) read_again(read->loop, g);
}

static bool read_finished(rig *r, void *arg) {
  (void)r;
  return ((reading *)arg)->finished;
}

void rig_read(rig *r, uint8_t log, uint64_t from, lv_chan *const *chans, uint32_t n_chans,
              uint32_t max_count, uint32_t max_bytes, seen_list *ret, uint64_t *ret_missing) {
  reading g = {.read = {.loop = r->loops[0].loop,
                        .log = log,
                        .from = from,
                        .until = UINT64_MAX,
                        .chans = chans,
                        .n_chans = n_chans,
                        .max_count = max_count,
                        .max_bytes = max_bytes,
                        .done = on_read},
               .r = r,
               .out = ret};
  g.read.arg = &g;
  lv_loop_call_wait(r->loops[0].loop, read_again, &g);
  rig_wait(r, read_finished, &g, "end of a read");
  CHECK(g.err == 0, "read: %s", lv_err_name(g.err));
  if (ret_missing) *ret_missing = g.missing;
}

void conform_run(const conform_kind *kind) {
  conform_order(kind);
  conform_read(kind);
  conform_seek(kind);
  conform_store(kind);
  conform_faults(kind);
}
