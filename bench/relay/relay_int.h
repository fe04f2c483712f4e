/* relay_int.h: the bare relay, the least that can carry MQTT messages from publishers to
 * subscribers, and so the floor under every figure of ours: one epoll thread, no sessions, no
 * rights, exact topics, QoS 0 and 1. It is a yardstick, not a server.
 *
 *   turn:  read what is readable ──▶ turn buffer of each topic (encoded once per form)
 *          ──▶ one write (and one fdatasync) of everything ──▶ acks, deliveries: one send a
 *          connection and topic
 *
 * A form is (QoS, version): a subscriber's bytes differ by the packet id and the property length
 * only, so ids are patched in place before each send. Options make it faulty in known amounts,
 * which is how the load generator's books are checked. */
#ifndef RELAY_INT_H
#define RELAY_INT_H
#include "packet.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RL_FORMS = 4, RL_IN_BYTES = 256 << 10, RL_OUT_BYTES_MAX = 256 << 20 };

typedef struct rl_bytes {
  uint8_t *p;
  size_t n, cap;
} rl_bytes;

/* One turn's messages of a topic in one form. */
typedef struct rl_chunk {
  rl_bytes bytes;
  uint32_t *pid_at; /* offsets of the packet ids (QoS 1) */
  uint32_t count, cap;
} rl_chunk;

typedef struct rl_topic {
  char *name;
  uint32_t name_n, hash;
  struct rl_conn **subs[RL_FORMS];
  uint32_t sub_n[RL_FORMS], sub_cap[RL_FORMS];
  rl_chunk turn[RL_FORMS];
  bool touched;
  rl_bytes held; /* --swap: payload of the message that waits for its successor */
  bool holding;
} rl_topic;

typedef struct rl_conn {
  int fd;
  bool v5, dead, dirty, epollout;
  uint16_t pid;
  uint32_t subs; /* topics it stands in */
  rl_bytes in, out;
  size_t out_off;
  rl_bytes ack; /* acknowledgements of this turn */
} rl_conn;

/* Where messages are written before they are acked or delivered. */
typedef struct rl_store {
  int fd; /* -1: nowhere */
  bool sync;
  uint64_t at, size; /* size: of a pre-written file that is gone round in; 0: the file grows */
  rl_bytes turn;
  uint64_t writes, syncs, bytes;
} rl_store;

typedef struct rl_faults {
  uint64_t drop, dup, swap; /* every Nth message, 0 = never */
  int64_t delay_ns;
} rl_faults;

typedef struct rl_delayed {
  int64_t due_ns;
  rl_topic *topic;
  rl_chunk turn[RL_FORMS];
} rl_delayed;

typedef struct rl_relay {
  int epfd, listen_fd;
  rl_topic **table; /* open addressing, table_cap a power of two */
  uint32_t table_cap, topic_n;
  rl_topic **touched;
  uint32_t touched_n, touched_cap;
  rl_conn **dirty;
  uint32_t dirty_n, dirty_cap;
  rl_conn **closed; /* in this turn; freed at its end */
  uint32_t closed_n, closed_cap;
  rl_store store;
  rl_faults faults;
  rl_delayed *queue; /* --delay: ring */
  uint32_t queue_head, queue_n, queue_cap;
  uint64_t in, out, dropped, doubled, swapped, overflowed;
  rl_bytes scratch;
} rl_relay;

/* relay_bytes.c */
void rl_bytes_room(rl_bytes *b, size_t more);
void rl_bytes_add(rl_bytes *b, const void *p, size_t n);
void *rl_grow(void *array, uint32_t *cap, uint32_t need, size_t size);
int64_t rl_now_ns(void);
/* relay_store.c: -1 with a message on stderr when the file cannot be had. */
int rl_store_open(rl_store *st, const char *path, uint64_t size, bool sync);
void rl_store_add(rl_store *st, const lg_pub_in *pub);
void rl_store_commit(rl_store *st);
/* relay_deliver.c */
rl_topic *rl_topic_get(rl_relay *rl, const uint8_t *name, uint32_t n);
void rl_subscribe(rl_relay *rl, rl_topic *topic, rl_conn *conn, uint8_t qos);
void rl_publish(rl_relay *rl, const lg_pub_in *pub);
void rl_unsubscribe_all(rl_relay *rl, rl_conn *conn);
/* Commits the turn, then delivers and acks it. */
void rl_turn_end(rl_relay *rl);
/* Delivers what --delay held until now; returns when the next is due. */
int64_t rl_delayed_run(rl_relay *rl, int64_t now_ns);
/* Lets go of what --swap still holds, in order. */
void rl_held_flush(rl_relay *rl);
/* relay_conn.c */
void rl_conn_send(rl_relay *rl, rl_conn *conn, const uint8_t *p, size_t n);
void rl_conn_close(rl_relay *rl, rl_conn *conn);
void rl_conn_event(rl_relay *rl, rl_conn *conn, uint32_t events);
void rl_accept(rl_relay *rl);
void rl_conns_reap(rl_relay *rl);

#endif
