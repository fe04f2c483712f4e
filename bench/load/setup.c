/* setup.c: lays out connections, streams, topics and ledger rows for a run (see load_int.h). All
 * memory that grows with the number of connections is taken here, once. */
#include "load_int.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static void *zeroed(size_t n, size_t size) {
  void *p = calloc(n ? n : 1, size);
  if (!p) {
    (void)fprintf(stderr, "lavva-load: out of memory\n");
    exit(70);
  }
  return p;
}

/* `of` things are spread over `among` owners in order: the owner of thing i, and the first thing
 * of owner k (so that owner k has [first(k), first(k + 1))). */
static uint32_t owner(uint64_t i, uint64_t of, uint64_t among) {
  return (uint32_t)(i * among / of);
}

static uint32_t first(uint64_t k, uint64_t of, uint64_t among) {
  return (uint32_t)((k * of + among - 1) / among);
}

static void setup_topics(lg_run *run) {
  const lg_opts *o = &run->opt;
  const char *mark = strstr(o->topic, "%i");
  int before = mark ? (int)(mark - o->topic) : (int)strlen(o->topic);
  size_t each = strlen(o->topic) + 12;
  run->topic_at = zeroed(o->topics + 1, sizeof *run->topic_at);
  run->topic_bytes = zeroed(o->topics + 1, each);
  uint32_t at = 0;
  for (uint32_t t = 0; t < o->topics; t++) {
    run->topic_at[t] = at;
    char *p = run->topic_bytes + at;
    int n = mark ? snprintf(p, each, "%.*s%u%s", before, o->topic, t, mark + 2)
                 : snprintf(p, each, "%s", o->topic);
    at += (uint32_t)n;
  }
  run->topic_at[o->topics] = at;
}

static void setup_streams(lg_run *run) {
  const lg_opts *o = &run->opt;
  run->stream_n = (uint32_t)(o->pubs == 0 ? 0 : o->pubs > o->topics ? o->pubs : o->topics);
  run->streams = zeroed(run->stream_n, sizeof *run->streams);
  run->window_slots = 1;
  while (run->window_slots < o->window) run->window_slots *= 2;
  bool closed = o->mode == LG_CLOSED && o->subs > 0;
  uint32_t *slots =
      closed ? zeroed((size_t)run->stream_n * run->window_slots, sizeof *slots) : NULL;
  for (uint32_t s = 0; s < run->stream_n; s++) {
    run->streams[s].topic = owner(s, run->stream_n, o->topics);
    if (closed) run->streams[s].seen = slots + (size_t)s * run->window_slots;
  }
}

static void sub_range(lg_run *run, lg_conn *conn) {
  const lg_opts *o = &run->opt;
  if (run->stream_n == 0) return;
  uint32_t t0, t1;
  if (o->filter)
    t0 = 0, t1 = (uint32_t)o->topics;
  else if (o->subs <= o->topics) {
    t0 = first(conn->index, o->topics, o->subs);
    t1 = first(conn->index + 1u, o->topics, o->subs);
  } else {
    t0 = owner(conn->index, o->subs, o->topics);
    t1 = t0 + 1;
  }
  conn->stream0 = first(t0, run->stream_n, o->topics);
  conn->stream_n = first(t1, run->stream_n, o->topics) - conn->stream0;
}

static void setup_conns(lg_run *run) {
  const lg_opts *o = &run->opt;
  run->conn_n = (uint32_t)(o->subs + o->pubs + o->idle);
  run->conns = zeroed(run->conn_n, sizeof *run->conns);
  run->dirty = zeroed(o->pubs, sizeof *run->dirty);
  size_t rows = 0;
  for (uint32_t i = 0; i < run->conn_n; i++) {
    lg_conn *conn = &run->conns[i];
    conn->fd = -1;
    conn->receive_max = 65535;
    conn->role = i < o->subs ? LG_SUB : i < o->subs + o->pubs ? LG_PUB : LG_IDLE;
    conn->index = i - (uint32_t)(conn->role == LG_SUB   ? 0
                                 : conn->role == LG_PUB ? o->subs
                                                        : o->subs + o->pubs);
    conn->slow = conn->role == LG_SUB && conn->index < o->slow;
    if (conn->role == LG_PUB) {
      conn->stream0 = first(conn->index, run->stream_n, o->pubs);
      conn->stream_n = first(conn->index + 1u, run->stream_n, o->pubs) - conn->stream0;
    } else if (conn->role == LG_SUB) {
      sub_range(run, conn);
      rows += conn->stream_n;
    }
  }
  run->rows = zeroed(rows, sizeof *run->rows);
  rows = 0;
  for (uint32_t i = 0; i < o->subs; i++) {
    lg_conn *conn = &run->conns[i];
    conn->rows = run->rows + rows;
    rows += conn->stream_n;
    for (uint32_t s = 0; s < conn->stream_n; s++) run->streams[conn->stream0 + s].owed++;
  }
  if (!o->reconnect || !o->qos) return;
  lg_flight *flight = zeroed((size_t)o->pubs * run->window_slots, sizeof *flight);
  for (uint32_t i = 0; i < o->pubs; i++)
    run->conns[o->subs + i].flight = flight + (size_t)i * run->window_slots;
}

void lg_setup(lg_run *run) {
  const lg_opts *o = &run->opt;
  setup_topics(run);
  setup_streams(run);
  setup_conns(run);
  uint64_t seed = o->seed;
  if (!seed && getrandom(&seed, sizeof seed, 0) != sizeof seed) seed = (uint64_t)lg_now_ns();
  run->opt.seed = seed;
  run->rng = seed ? seed : 1;
  run->run_mark = (uint32_t)(seed ^ seed >> 32) | 1;
  run->pattern = zeroed(o->payload_bytes, 1);
  for (uint64_t i = 0; i < o->payload_bytes; i++) run->pattern[i] = (uint8_t)('a' + i % 26);
  size_t packet = lg_publish_bytes_max(LG_TOPIC_MAX, (uint32_t)o->payload_bytes);
  run->in_cap = 256 << 10;
  while (run->in_cap < 4 * packet) run->in_cap *= 2;
  run->in = zeroed(run->in_cap, 1);
  run->out_cap = LG_BATCH_BYTES + packet + run->in_cap; /* answers never outgrow what was read */
  run->out = zeroed(run->out_cap, 1);
  if (o->mode == LG_OPEN) {
    run->due = zeroed(LG_BACKLOG_MAX, sizeof *run->due);
    for (uint32_t i = 1; i + 1 < LG_BACKLOG_MAX; i++) run->due[i].next = i + 1;
    run->due_free = 1;
  }
}

double lg_random(lg_run *run) { /* xorshift64*, (0, 1] */
  run->rng ^= run->rng >> 12;
  run->rng ^= run->rng << 25;
  run->rng ^= run->rng >> 27;
  return ((double)((run->rng * 0x2545F4914F6CDD1DULL) >> 11) + 1) / 9007199254740992.0;
}

lg_conn *lg_pub_of(lg_run *run, uint32_t stream) {
  assert(stream < run->stream_n);
  return &run->conns[run->opt.subs + owner(stream, run->stream_n, run->opt.pubs)];
}

void lg_teardown(lg_run *run) {
  for (uint32_t i = 0; i < run->conn_n; i++) {
    lg_conn *conn = &run->conns[i];
    for (uint32_t s = 0; conn->role == LG_SUB && s < conn->stream_n; s++)
      lg_row_done(&conn->rows[s]);
    lg_conn_done(conn);
  }
  if (run->stream_n) free(run->streams[0].seen);
  if (run->opt.pubs) free(run->conns[run->opt.subs].flight);
  free(run->conns), free(run->dirty), free(run->rows), free(run->streams);
  free(run->topic_at), free(run->topic_bytes), free(run->pattern);
  free(run->in), free(run->out), free(run->due);
}
