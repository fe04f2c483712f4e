/* hub_int.h: the load generator for WebSocket customers and HTTP publishers (lavva-hubload).
 *
 *   publishers ──POST, keep-alive, one request under way each──▶ server ──frames──▶ subscribers
 *
 * Payloads are JSON of fixed layout, so that reading one is a few loads at known places:
 *
 *   {"r":"RUN_MARK","p":"STRM","n":"NUMBER..","t":"INTENDED_NS.....","x":"aaaa…"}
 *   0      6          21        32             47                     70        size-2
 *
 * A publisher is a stream of its own; a subscriber has a ledger row for each, so what is lost,
 * doubled or reordered is known to the message. A message lies somewhere in the server's frame;
 * where was learnt from the first one, and is looked for again only when it is not there.
 *
 * Closed loop: a publisher's next message leaves when its last one was answered and seen by every
 * subscriber, so N publishers are a window of N. Open loop: by the clock, through whichever
 * publisher is free; latency counts from when it was due.
 *
 * One thread; a read a readiness event. Reading a thousand customers takes as long as sending to
 * them, so with --watch N latency is taken from N customers, spread evenly over the others and read
 * first: what they show is when the server sent, not when the generator came to it. Everyone is
 * read, and in the ledger. */
#ifndef HUBLOAD_INT_H
#define HUBLOAD_INT_H
#include "hist.h"
#include "ledger.h"
#include "proc.h"
#include <stddef.h>

enum { HU_PIDS_MAX = 16, HU_POS_MAX = 64, HU_IN_BYTES = 256 << 10, HU_HEAD_N = 21 };
enum { HU_SIZE_MIN = 80, HU_SIZE_MAX = 4096, HU_EVENTS = 512 };

typedef enum hu_mode { HU_LOAD, HU_IDLE, HU_SNAPSHOT, HU_RESUME } hu_mode;

typedef struct hu_opts {
  hu_mode mode;
  const char *host, *port, *sub_path, *pub_path;
  uint32_t subs, pubs, size, messages, connecting_max, watch;
  double rate_per_s, warmup_s, duration_s, drain_s, settle_s;
  bool tls, once;
  pid_t pids[HU_PIDS_MAX];
  uint32_t n_pids;
} hu_opts;

typedef enum hu_state { HU_DOWN, HU_DIALING, HU_OPENING, HU_READY } hu_state;

typedef struct hu_conn {
  int fd;
  uint8_t state;
  bool pub, busy; /* publisher: a request is under way */
  bool watched;   /* subscriber: its latency counts */
  uint32_t index; /* among its kind */
  uint32_t in_n, in_cap;
  uint8_t *in;     /* what was cut off by the end of a read */
  lg_row *rows;    /* subscriber */
  uint32_t caught; /* rows complete: resume, snapshot */
} hu_conn;

typedef struct hu_post { /* a request, to be filled in */
  char *text, *payload, *once;
  uint32_t n;
} hu_post;

typedef struct hu_stream { /* of a publisher */
  uint32_t sent, seen;     /* seen: receipts of the last message */
  bool acked;              /* the last message */
  int64_t intended_ns;     /* of the last message */
  hu_post post;
} hu_stream;

typedef struct hu_counts {
  uint64_t sent, acked, received;
} hu_counts;

typedef struct hu_run {
  hu_opts opt;
  int epfd, epfd_rest; /* rest: subscribers that are not watched */
  bool rest_due;       /* some of them may be readable */
  hu_conn *conns;      /* subscribers, then publishers */
  hu_stream *streams;
  lg_row *rows;
  char (*pos)[HU_POS_MAX]; /* resume: the last position that each subscriber saw */
  uint32_t ready, opening, failed, down;
  uint32_t run_mark, tail;
  char head[HU_HEAD_N + 1];
  uint8_t *in;
  uint8_t out[HU_SIZE_MAX + 1024];
  /* books */
  lg_ledger ledger;
  lg_lost lost;
  lg_hist latency, ack_latency, lateness;
  hu_counts now, at_start, at_end;
  uint64_t other, corrupt, nacked, gaps, held_up, written_off;
  uint32_t upto;      /* snapshot, resume: so many messages may leave by now */
  uint32_t listeners; /* subscribers that a message is awaited by */
  uint64_t due;       /* open loop: messages that have been due so far */
  bool held;          /* and the next of them finds no free publisher */
  int64_t open_ns, start_ns, end_ns, progress_ns;
  bool measuring, publishing, finishing; /* finishing: nothing new leaves */
  uint32_t caught_up;                    /* subscribers that have everything */
  lg_usage use0, use1;                   /* around what is measured */
  double self0, self1;
  int64_t rss0, rss1;
  double times[4]; /* of the resume, seconds */
  uint32_t repeated;
  char error[160];
} hu_run;

/* hub_conn.c */
int64_t hu_now_ns(void);
/* Begins to connect; false when that is refused at once. */
bool hu_dial(hu_run *run, hu_conn *conn);
void hu_drop(hu_run *run, hu_conn *conn, const char *why);
/* Waits for events at most so long and handles them. */
void hu_poll(hu_run *run, int64_t wait_ns);
/* Connects conns[from, to), and returns when all are ready or one failed. */
bool hu_connect_all(hu_run *run, uint32_t from, uint32_t to);
/* A connection made, upgraded and left alone, through TLS if asked: its descriptor, or -1. */
int hu_idle_open(hu_run *run);
/* hub_msg.c: bytes that came, as far as they are complete; returns the bytes used, -1: broken. */
int64_t hu_take(hu_run *run, hu_conn *conn, const uint8_t *p, size_t n);
size_t hu_request_put(hu_run *run, const hu_conn *conn, uint8_t *dst);
/* The stream's last message as a request. */
const char *hu_post_of(hu_run *run, uint32_t stream, size_t *ret_n);
/* hub_load.c */
void hu_publish_next(hu_run *run, hu_conn *pub); /* its last message is done with */
void hu_send_message(hu_run *run, hu_conn *pub);
int hu_load_run(hu_run *run);
/* hub_modes.c */
int hu_idle_run(hu_run *run);
int hu_snapshot_run(hu_run *run);
int hu_resume_run(hu_run *run);
void hu_usage(hu_run *run, lg_usage *ret);
static inline hu_conn *hu_pub(hu_run *run, uint32_t i) {
  return &run->conns[run->opt.subs + i];
}

#endif
