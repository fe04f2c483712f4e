/* load_int.h: the state of a run, private to bench/load.
 *
 * N streams = max(publishers, topics). Stream s belongs to publisher s*P/N and topic s*T/N, so that
 * a publisher's streams, and a topic's, are neighbours; subscribers take a range of topics in the
 * same way. Hence every connection is described by a range of streams, and a subscriber's ledger
 * rows are an array indexed by stream - stream0: no hash table anywhere.
 *
 *   lg_run ── conns[subs | pubs | idle] ── rows (subscriber) ──┐ see()
 *        └─── streams[N] ── seen[window] (closed loop) ◀───────┘ credit
 *
 * One epoll thread does everything. Reads go into one scratch area; only a packet that is cut by
 * the end of a read is kept with its connection, and only bytes that the kernel did not take. */
#ifndef LG_LOAD_INT_H
#define LG_LOAD_INT_H
#include "hist.h"
#include "ledger.h"
#include "opts.h"
#include "packet.h"
#include "proc.h"
#include <stddef.h>

enum { LG_BATCH_BYTES = 128 << 10, LG_BACKLOG_MAX = 1 << 18 };

typedef enum lg_role { LG_SUB, LG_PUB, LG_IDLE } lg_role;
typedef enum lg_state {
  LG_NEW,
  LG_DIALING,
  LG_GREETING,
  LG_SUBSCRIBING,
  LG_READY,
  LG_DEAD
} lg_state;
typedef enum lg_phase {
  LG_CONNECTING,
  LG_SETTLING,
  LG_WARMUP,
  LG_MEASURE,
  LG_DRAIN,
  LG_OVER
} lg_phase;

typedef struct lg_stream {
  uint32_t sent; /* next number */
  uint32_t base; /* every number below was seen by all that are owed it (closed loop) */
  uint32_t owed; /* subscribers of its topic */
  uint32_t topic;
  uint32_t *seen; /* window_slots counters, number & mask */
} lg_stream;

typedef struct lg_flight { /* --reconnect: a message that is not acked */
  int64_t intended_ns;
  uint32_t stream, seq;
  uint16_t pid;
  bool done, released; /* acked out of turn; QoS 2: PUBREC came */
} lg_flight;

typedef struct lg_conn {
  int fd;
  uint8_t role, state, dirty, epollout, returning, slow, deaf; /* deaf: out of budget */
  uint32_t budget;                                             /* slow: bytes it may read yet */
  uint16_t pid_next, pid_acked; /* ids are 1 … 65535 in turn; acks come in that order */
  uint32_t index;               /* within its role */
  uint32_t stream0, stream_n, stream_next;
  uint32_t sent, acked, seen; /* publisher: messages, wrapping */
  uint32_t receive_max;
  uint32_t in_n, in_cap, out_off, out_n, out_cap;
  uint8_t *in, *out;
  lg_flight *flight;            /* publisher with --reconnect: ring, message number & mask */
  lg_row *rows;                 /* subscriber */
  uint32_t subacks_due;         /* subscriber */
  uint32_t due_head, due_tail;  /* publisher, open loop: indexes into run->due, 0 = none */
  int64_t progress_ns, ping_ns; /* last ack or sighting; last PINGREQ or break */
} lg_conn;

typedef struct lg_due { /* an open-loop message that waits for its connection */
  int64_t intended_ns;
  uint32_t next;
} lg_due;

typedef struct lg_counts { /* plain counters, copied at the edges of the measured window */
  uint64_t sent, acked, received, bytes_in, bytes_out, reads, writes;
} lg_counts;

typedef struct lg_run {
  lg_opts opt;
  uint32_t run_mark;
  int epfd;
  lg_phase phase;
  /* who */
  lg_conn *conns;
  uint32_t conn_n, opened, ready, dead, connecting;
  lg_stream *streams;
  uint32_t stream_n;
  lg_row *rows;
  uint32_t *topic_at; /* offsets into topic_bytes, topics + 1 of them */
  char *topic_bytes;
  uint8_t *pattern;
  uint32_t window_slots;
  /* scratch, and publishers with something to do */
  uint8_t *in, *out;
  size_t in_cap, out_cap;
  lg_conn **dirty;
  uint32_t dirty_n;
  /* open loop */
  lg_due *due; /* index 0 is not used */
  uint32_t due_free, due_count, pub_turn;
  double due_next_ns;
  int64_t open_start_ns;
  uint64_t open_made, backlogged, rng;
  lg_hist lateness;
  /* books */
  lg_ledger ledger;
  lg_lost lost;
  lg_hist latency, ack_latency;
  lg_counts now, at_start, at_end;
  uint64_t unique_start, unique_end, expected;
  uint64_t foreign, corrupt, unexpected, nacked, acks_misordered, written_off, backlogged_seen;
  uint64_t closed_early, refused, broke, came_back, resent, lost_unacked;
  uint32_t down; /* waiting to dial again */
  double churn_due;
  int64_t acked_ns, delivered_ns, ack_gap_ns, delivery_gap_ns; /* last, and longest pause */
  char first_error[160];
  int64_t start_ns, end_ns, connect_start_ns, connect_end_ns;
  lg_usage use_before, use_connected, use_start, use_end;
  double self_start_s, self_end_s;
  bool server_gone;
} lg_run;

/* conn.c */
int64_t lg_now_ns(void);
int lg_conn_dial(lg_run *run, lg_conn *conn);
void lg_conn_event(lg_run *run, lg_conn *conn, uint32_t events);
/* Sends what stands in run->out; what the kernel does not take is kept with the connection. */
void lg_conn_send(lg_run *run, lg_conn *conn, size_t n);
void lg_conn_kill(lg_run *run, lg_conn *conn, const char *why);
void lg_conn_done(lg_conn *conn);
/* A tenth of a second has gone by: slow subscribers may read again, --churn cuts some off. */
void lg_conns_tick(lg_run *run);
/* Dials again those whose pause is over. */
void lg_conns_return(lg_run *run, int64_t now_ns);
/* handle.c: one framed packet; writes answers at out, returns their size; -1 kills. */
int64_t lg_handle(lg_run *run, lg_conn *conn, const lg_frame *f, int64_t now_ns, uint8_t *out);
void lg_dirty(lg_run *run, lg_conn *conn);
/* publish.c */
void lg_publish_dirty(lg_run *run);
void lg_open_start(lg_run *run, int64_t now_ns);
/* Queues what is due by now; returns when the next message is due. */
int64_t lg_open_pull(lg_run *run, int64_t now_ns);
void lg_credit(lg_run *run, uint32_t stream, uint32_t from, uint32_t to, int64_t now_ns);
/* After a reconnect: everything that is not acked goes out again. */
void lg_resend(lg_run *run, lg_conn *pub, bool session);
lg_flight *lg_flight_find(lg_run *run, lg_conn *pub, uint16_t pid);
void lg_stalls(lg_run *run, int64_t now_ns);
/* setup.c */
void lg_setup(lg_run *run);
void lg_teardown(lg_run *run);
double lg_random(lg_run *run); /* (0, 1] */
lg_conn *lg_pub_of(lg_run *run, uint32_t stream);
/* run.c */
int lg_run_all(lg_run *run);
/* report.c: prints, writes JSON, returns the exit code. */
int lg_report(lg_run *run);

#endif
