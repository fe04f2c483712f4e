/* handle.c: what arrives: greetings, acknowledgements, and messages, which go into the ledger and
 * the latency histogram. The acknowledgements owed for one read leave in one send. */
#include "load_int.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILTERS_PER_SUBSCRIBE = 200 };

void lg_dirty(lg_run *run, lg_conn *conn) {
  if (conn->dirty || conn->state != LG_READY) return;
  conn->dirty = 1;
  run->dirty[run->dirty_n++] = conn;
}

static void made_ready(lg_run *run, lg_conn *conn, bool session) {
  conn->state = LG_READY;
  run->connecting--;
  run->ready++;
  if (!conn->returning) return;
  conn->returning = 0;
  run->came_back++;
  if (conn->role != LG_PUB) return;
  lg_resend(run, conn, session);
  lg_dirty(run, conn);
}

/* Subscribes to the topics from *at on, one packet's worth; returns its size. */
static size_t subscribe_some(lg_run *run, lg_conn *conn, uint8_t *out, uint32_t *at, uint32_t end) {
  static char names[FILTERS_PER_SUBSCRIBE][LG_TOPIC_MAX];
  const char *filters[FILTERS_PER_SUBSCRIBE];
  uint32_t n = 0;
  for (; n < FILTERS_PER_SUBSCRIBE && *at < end; n++, (*at)++) {
    uint32_t from = run->topic_at[*at];
    (void)snprintf(names[n], sizeof names[n], "%.*s", (int)(run->topic_at[*at + 1] - from),
                   run->topic_bytes + from);
    filters[n] = names[n];
  }
  conn->subacks_due++;
  if (++conn->pid_next == 0) conn->pid_next = 1;
  return lg_subscribe_encode(out, conn->pid_next, run->opt.v5, (uint8_t)run->opt.sub_qos, filters,
                             n);
}

static int64_t subscribe(lg_run *run, lg_conn *conn, uint8_t *out) {
  const lg_opts *o = &run->opt;
  conn->state = LG_SUBSCRIBING;
  if (o->filter) {
    conn->subacks_due = 1;
    return (int64_t)lg_subscribe_encode(out, 1, o->v5, (uint8_t)o->sub_qos, &o->filter, 1);
  }
  uint32_t at = conn->index % (uint32_t)o->topics, end = at + 1;
  if (conn->stream_n) {
    at = run->streams[conn->stream0].topic;
    end = run->streams[conn->stream0 + conn->stream_n - 1].topic + 1;
  }
  /* All but the last go out from here; `out` must not be used by them, so each is sent at once. */
  size_t n = subscribe_some(run, conn, run->out, &at, end);
  while (at < end) {
    lg_conn_send(run, conn, n);
    if (conn->fd < 0) return 0;
    n = subscribe_some(run, conn, run->out, &at, end);
  }
  if (out != run->out) memmove(out, run->out, n);
  return (int64_t)n;
}

static int64_t on_connack(lg_run *run, lg_conn *conn, const lg_frame *f, uint8_t *out) {
  lg_connack ack;
  if (conn->state != LG_GREETING || lg_connack_decode(f, run->opt.v5, &ack)) return -1;
  if (ack.code) {
    char why[64];
    (void)snprintf(why, sizeof why, "CONNACK refused with code 0x%02x", ack.code);
    lg_conn_kill(run, conn, why);
    return 0;
  }
  conn->receive_max = ack.receive_max;
  bool kept = ack.session && conn->returning;
  if (conn->role == LG_SUB && !kept) return subscribe(run, conn, out);
  made_ready(run, conn, ack.session);
  return 0;
}

static int64_t on_suback(lg_run *run, lg_conn *conn, const lg_frame *f) {
  uint32_t at = 2;
  if (conn->state != LG_SUBSCRIBING || f->n < 3) return -1;
  if (run->opt.v5) at += 1u + f->body[2]; /* properties shorter than 128 bytes */
  for (; at < f->n; at++) {
    if (f->body[at] < 0x80) continue;
    char why[64];
    (void)snprintf(why, sizeof why, "SUBACK refused with code 0x%02x", f->body[at]);
    lg_conn_kill(run, conn, why);
    return 0;
  }
  if (--conn->subacks_due == 0) made_ready(run, conn, false);
  return 0;
}

static bool topic_matches(const lg_run *run, const lg_pub_in *pub, uint32_t topic) {
  uint32_t from = run->topic_at[topic], n = run->topic_at[topic + 1] - from;
  return pub->topic_n == n && memcmp(pub->topic, run->topic_bytes + from, n) == 0;
}

/* Enters one message into the books. */
static void see(lg_run *run, lg_conn *conn, const lg_pub_in *pub, int64_t now_ns) {
  lg_stamp st;
  run->now.received++;
  if (pub->payload_n < LG_STAMP_BYTES ||
      (lg_stamp_read(pub->payload, &st), st.run != run->run_mark)) {
    run->foreign++;
    return;
  }
  if (pub->payload_n != run->opt.payload_bytes ||
      memcmp(pub->payload + LG_STAMP_BYTES, run->pattern + LG_STAMP_BYTES,
             pub->payload_n - LG_STAMP_BYTES) != 0) {
    run->corrupt++;
    return;
  }
  uint32_t at = st.stream - conn->stream0;
  if (at >= conn->stream_n || st.seq >= run->streams[st.stream].sent ||
      !topic_matches(run, pub, run->streams[st.stream].topic)) {
    run->unexpected++;
    return;
  }
  if (now_ns - run->delivered_ns > run->delivery_gap_ns && run->delivered_ns)
    run->delivery_gap_ns = now_ns - run->delivered_ns;
  run->delivered_ns = now_ns;
  uint32_t from = 0;
  lg_seen seen = lg_ledger_see(&run->ledger, &conn->rows[at], st.seq, &from);
  if (seen == LG_DUPLICATE) return;
  if (seen != LG_LATE) lg_credit(run, st.stream, from, st.seq + 1, now_ns);
  if (run->phase >= LG_MEASURE && st.intended_ns >= run->start_ns &&
      (run->end_ns == 0 || st.intended_ns < run->end_ns))
    lg_hist_add(&run->latency, now_ns - st.intended_ns);
}

static int64_t on_publish(lg_run *run, lg_conn *conn, const lg_frame *f, int64_t now_ns,
                          uint8_t *out) {
  lg_pub_in pub;
  if (conn->role != LG_SUB || lg_publish_decode(f, run->opt.v5, &pub)) return -1;
  see(run, conn, &pub, now_ns);
  if (pub.qos == 0) return 0;
  return (int64_t)lg_ack_encode(out, pub.qos == 1 ? LG_PUBACK : LG_PUBREC, pub.pid);
}

/* Settles a message of the ring; false when its id is not under way. */
static bool settle(lg_run *run, lg_conn *conn, uint16_t pid) {
  lg_flight *fl = lg_flight_find(run, conn, pid);
  if (!fl) return false;
  fl->done = true;
  uint32_t mask = run->window_slots - 1;
  while (conn->acked != conn->sent && conn->flight[conn->acked & mask].done) conn->acked++;
  return true;
}

static void acked(lg_run *run, lg_conn *conn, uint16_t pid, int64_t now_ns) {
  if (now_ns - run->acked_ns > run->ack_gap_ns && run->acked_ns)
    run->ack_gap_ns = now_ns - run->acked_ns;
  run->acked_ns = now_ns;
  uint16_t want = conn->pid_acked == 65535 ? 1 : (uint16_t)(conn->pid_acked + 1);
  if (pid != want) run->acks_misordered++;
  conn->pid_acked = pid;
  if (!conn->flight)
    conn->acked++;
  else if (!settle(run, conn, pid))
    return; /* acked before the break, and again after it */
  conn->progress_ns = now_ns;
  run->now.acked++;
  lg_dirty(run, conn);
}

static int64_t on_ack(lg_run *run, lg_conn *conn, const lg_frame *f, int64_t now_ns, uint8_t *out) {
  uint16_t pid;
  uint8_t reason;
  if (lg_ack_decode(f, &pid, &reason)) return -1;
  if (f->type == LG_PUBREL) return (int64_t)lg_ack_encode(out, LG_PUBCOMP, pid); /* subscriber */
  if (conn->role != LG_PUB || (conn->acked == conn->sent && !conn->flight)) return -1;
  if (reason >= 0x80 && reason != 0x92) run->nacked++; /* 0x92: id not found, after a break */
  lg_flight *fl = conn->flight && f->type == LG_PUBREC ? lg_flight_find(run, conn, pid) : NULL;
  if (fl) fl->released = true;
  if (f->type == LG_PUBREC && reason < 0x80) return (int64_t)lg_ack_encode(out, LG_PUBREL, pid);
  acked(run, conn, pid, now_ns);
  return 0;
}

int64_t lg_handle(lg_run *run, lg_conn *conn, const lg_frame *f, int64_t now_ns, uint8_t *out) {
  switch (f->type) {
  case LG_PUBLISH: return on_publish(run, conn, f, now_ns, out);
  case LG_PUBACK:
  case LG_PUBREC:
  case LG_PUBREL:
  case LG_PUBCOMP: return on_ack(run, conn, f, now_ns, out);
  case LG_CONNACK: return on_connack(run, conn, f, out);
  case LG_SUBACK: return on_suback(run, conn, f);
  case LG_PINGRESP: return 0;
  case LG_DISCONNECT: {
    char why[64];
    (void)snprintf(why, sizeof why, "DISCONNECT with reason 0x%02x", f->n ? f->body[0] : 0);
    lg_conn_kill(run, conn, why);
    return 0;
  }
  default: return -1;
  }
}
