/* publish.c: when messages leave. Closed loop: a publisher with room in its window is put on the
 * dirty list, and at the end of the turn gets one send with all that the window allows. Open loop:
 * a schedule hands messages to publishers at their time; one that is held up (socket full, too many
 * unacked) waits in its publisher's list with its intended time. */
#include "load_int.h"
#include <assert.h>
#include <math.h>

void lg_credit(lg_run *run, uint32_t stream, uint32_t from, uint32_t to, int64_t now_ns) {
  lg_stream *st = &run->streams[stream];
  if (!st->seen) return;
  uint32_t mask = run->window_slots - 1;
  if ((int32_t)(from - st->base) < 0) from = st->base; /* written off before */
  for (uint32_t s = from; (int32_t)(to - s) > 0; s++) st->seen[s & mask]++;
  uint32_t base = st->base;
  while (base != st->sent && st->seen[base & mask] >= st->owed) {
    st->seen[base & mask] = 0;
    base++;
  }
  if (base == st->base) return;
  lg_conn *pub = lg_pub_of(run, stream);
  pub->seen += base - st->base;
  pub->progress_ns = now_ns;
  st->base = base;
  lg_dirty(run, pub);
}

void lg_stalls(lg_run *run, int64_t now_ns) {
  const lg_opts *o = &run->opt;
  if (o->mode != LG_CLOSED || o->subs == 0) return;
  for (uint32_t i = 0; i < o->pubs; i++) {
    lg_conn *pub = &run->conns[o->subs + i];
    bool stuck = pub->state == LG_READY && pub->seen != pub->sent &&
                 (o->qos == 0 || pub->acked == pub->sent) &&
                 now_ns - pub->progress_ns > (int64_t)(o->stall_s * 1e9);
    if (!stuck) continue;
    for (uint32_t s = pub->stream0; s < pub->stream0 + pub->stream_n; s++) {
      lg_stream *st = &run->streams[s];
      run->written_off += st->sent - st->base;
      for (; st->base != st->sent; st->base++) st->seen[st->base & (run->window_slots - 1)] = 0;
    }
    pub->seen = pub->sent;
    pub->progress_ns = now_ns;
    lg_dirty(run, pub);
  }
}

static uint32_t window_room(const lg_run *run, const lg_conn *pub) {
  const lg_opts *o = &run->opt;
  uint32_t unacked = o->qos ? pub->sent - pub->acked : 0;
  uint32_t unseen = o->subs && o->mode == LG_CLOSED ? pub->sent - pub->seen : 0;
  uint32_t busy = unacked > unseen ? unacked : unseen;
  uint32_t room = busy < o->window ? (uint32_t)o->window - busy : 0;
  if (o->qos && unacked + room > pub->receive_max)
    room = unacked < pub->receive_max ? pub->receive_max - unacked : 0;
  return room;
}

static size_t encode(lg_run *run, const lg_flight *fl, bool dup, uint8_t *out) {
  uint32_t topic = run->streams[fl->stream].topic, from = run->topic_at[topic];
  lg_pub msg = {.topic = run->topic_bytes + from,
                .topic_n = (uint16_t)(run->topic_at[topic + 1] - from),
                .pid = fl->pid,
                .qos = (uint8_t)run->opt.qos,
                .v5 = run->opt.v5,
                .dup = dup,
                .stamp = {run->run_mark, fl->stream, fl->seq, fl->intended_ns},
                .pattern = run->pattern,
                .payload_n = (uint32_t)run->opt.payload_bytes};
  return lg_publish_encode(out, &msg);
}

static size_t encode_one(lg_run *run, lg_conn *pub, int64_t intended_ns, uint8_t *out) {
  uint32_t s = pub->stream0 + pub->stream_next;
  if (++pub->stream_next == pub->stream_n) pub->stream_next = 0;
  lg_stream *st = &run->streams[s];
  if (run->opt.qos && ++pub->pid_next == 0) pub->pid_next = 1;
  lg_flight fl = {intended_ns, s, st->sent, pub->pid_next, false, false};
  if (pub->flight) pub->flight[pub->sent & (run->window_slots - 1)] = fl;
  st->sent++;
  pub->sent++;
  run->now.sent++;
  run->expected += st->owed;
  if (st->seen && st->owed == 0) st->base++, pub->seen++;
  return encode(run, &fl, false, out);
}

lg_flight *lg_flight_find(lg_run *run, lg_conn *pub, uint16_t pid) {
  for (uint32_t i = pub->acked; i != pub->sent; i++) { /* the first, unless acks are out of order */
    lg_flight *fl = &pub->flight[i & (run->window_slots - 1)];
    if (fl->pid == pid && !fl->done) return fl;
  }
  return NULL;
}

void lg_resend(lg_run *run, lg_conn *pub, bool session) {
  size_t n = 0;
  for (uint32_t i = pub->acked; pub->flight && i != pub->sent && pub->fd >= 0; i++) {
    const lg_flight *fl = &pub->flight[i & (run->window_slots - 1)];
    if (fl->done) continue;
    if (fl->released)
      n += lg_ack_encode(run->out + n, LG_PUBREL, fl->pid);
    else
      n += encode(run, fl, session, run->out + n);
    run->resent++;
    if (n < LG_BATCH_BYTES) continue;
    lg_conn_send(run, pub, n);
    n = 0;
  }
  pub->pid_acked = pub->acked != pub->sent
                       ? (uint16_t)(pub->flight[pub->acked & (run->window_slots - 1)].pid - 1)
                       : pub->pid_next;
  if (pub->fd >= 0) lg_conn_send(run, pub, n);
}

static void publish_closed(lg_run *run, lg_conn *pub, int64_t now_ns) {
  uint32_t room = window_room(run, pub);
  size_t n = 0;
  if (pub->sent == pub->seen || pub->sent == pub->acked) pub->progress_ns = now_ns;
  for (; room > 0 && n < LG_BATCH_BYTES; room--) {
    if (run->opt.count && run->now.sent >= run->opt.count) break;
    n += encode_one(run, pub, now_ns, run->out + n);
  }
  lg_conn_send(run, pub, n);
  if (room > 0 && n >= LG_BATCH_BYTES) lg_dirty(run, pub);
  /* Nobody listens and nobody acks: the socket is the only limit. */
  else if (run->opt.subs == 0 && run->opt.qos == 0 && n > 0)
    lg_dirty(run, pub);
}

static void publish_open(lg_run *run, lg_conn *pub) {
  uint32_t room = run->opt.qos ? window_room(run, pub) : UINT32_MAX;
  size_t n = 0;
  for (; room > 0 && pub->due_head && n < LG_BATCH_BYTES; room--) {
    uint32_t at = pub->due_head;
    pub->due_head = run->due[at].next;
    n += encode_one(run, pub, run->due[at].intended_ns, run->out + n);
    run->due[at].next = run->due_free;
    run->due_free = at;
    run->due_count--;
  }
  lg_conn_send(run, pub, n);
  if (n >= LG_BATCH_BYTES && pub->due_head) lg_dirty(run, pub);
}

void lg_publish_dirty(lg_run *run) {
  uint32_t n = run->dirty_n;
  if (n == 0) return;
  bool pause = run->phase < LG_WARMUP || (run->phase >= LG_DRAIN && run->opt.mode == LG_CLOSED);
  int64_t now_ns = lg_now_ns();
  run->dirty_n = 0; /* those that stay dirty append themselves from the front, behind the reader */
  for (uint32_t i = 0; i < n; i++) {
    lg_conn *pub = run->dirty[i];
    pub->dirty = 0;
    if (pause || pub->state != LG_READY || pub->out_n) continue;
    if (run->opt.mode == LG_OPEN)
      publish_open(run, pub);
    else
      publish_closed(run, pub, now_ns);
  }
}

static void schedule_next(lg_run *run) {
  const lg_opts *o = &run->opt;
  run->open_made++;
  if (o->poisson)
    run->due_next_ns += -log(lg_random(run)) * 1e9 / o->rate_per_s;
  else
    run->due_next_ns = (double)run->open_made * 1e9 / o->rate_per_s;
}

void lg_open_start(lg_run *run, int64_t now_ns) {
  run->open_start_ns = now_ns;
  run->due_next_ns = 0;
}

static lg_conn *draw_publisher(lg_run *run) {
  const lg_opts *o = &run->opt;
  uint32_t i = run->pub_turn;
  if (o->poisson)
    i = (uint32_t)(lg_random(run) * (double)o->pubs);
  else if (++run->pub_turn == o->pubs)
    run->pub_turn = 0;
  if (i >= o->pubs) i = (uint32_t)o->pubs - 1;
  return &run->conns[o->subs + i];
}

int64_t lg_open_pull(lg_run *run, int64_t now_ns) {
  for (;;) {
    int64_t due_ns = run->open_start_ns + (int64_t)run->due_next_ns;
    if (due_ns > now_ns) return due_ns;
    if (run->opt.count && run->open_made >= run->opt.count) return INT64_MAX;
    uint32_t at = run->due_free;
    if (at == 0) { /* the server holds us up: the schedule waits, and says so */
      run->backlogged++;
      return now_ns + 1000000;
    }
    if (run->phase == LG_MEASURE && run->backlogged == run->backlogged_seen)
      lg_hist_add(&run->lateness, now_ns - due_ns);
    run->backlogged_seen = run->backlogged;
    lg_conn *pub = draw_publisher(run);
    run->due_free = run->due[at].next;
    run->due[at] = (lg_due){due_ns, 0};
    run->due_count++;
    if (pub->due_head)
      run->due[pub->due_tail].next = at;
    else
      pub->due_head = at;
    pub->due_tail = at;
    lg_dirty(run, pub);
    schedule_next(run);
  }
}
