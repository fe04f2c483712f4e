/* net_test.h: loops in threads, a net on loopback, blocking client sockets with time limits, and a
 * small framed protocol whose behaviour the client steers. Nothing sleeps: the test thread waits
 * for conditions that the loops signal. */
#ifndef LV_TESTS_NET_TEST_H
#define LV_TESTS_NET_TEST_H
#include "net/conn.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
/* after the three above */
#include <cmocka.h>

/* Frame: u32 big-endian length of what follows, then a type byte, then data.
 *   E data   echo the frame         P   pause (the test resumes)    C data  send data, close(flush)
 *   S u32    send so many bytes     D   deadline of 30 ms           X       close without flush
 *   W u32    as S, ask for on_drain; on_drain answers with the frame 'd'     N  count only */
typedef struct tp {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  uint64_t accepted, frames, bytes, calls, closes, drains, deadlines, sent_msgs, unsent, eofs;
  int close_err;
  int per_loop[4]; /* open connections */
  lv_conn *last;   /* accepted last */
  int nodelay, user_timeout;
  char peer[64], cn[64], san[64];
  uint32_t in_max, out_max;
  bool refuse, keep_on_eof, bye_on_shutdown;
} tp;

typedef struct rig {
  lv_loop *loops[4];
  int n_loops;
  lv_net *net;
  lv_listen listens[4];
  lv_conf conf;
  char why[256];
  tp tp;
} rig;

void tp_init(tp *t);
/* Waits until *v >= n (up to 20 s); fails the test otherwise. */
void tp_wait(tp *t, const uint64_t *v, uint64_t n);
/* conf with one plain listener on 127.0.0.1, port 0; edit, then rig_open. */
void rig_init(rig *r, int n_loops);
int rig_try_open(rig *r);
void rig_open(rig *r);
void rig_close(rig *r);
/* Runs fn on the connection's loop and waits. */
void rig_resume(rig *r);
/* Returns when every loop has finished what it was doing when this was called. */
void rig_sync(rig *r);
int dial(uint16_t port);
int dial_rig(const rig *r);
void put(int fd, const void *p, size_t n);
/* Reads exactly n bytes; fails the test on an end or after 20 s. */
void get(int fd, void *p, size_t n);
/* Reads to the end; returns the bytes read, or -1 when it ended with a reset. */
long get_end(int fd, uint8_t *p, size_t max);
void put_frame(int fd, char type, const void *p, uint32_t n);
/* Where a frame of n data bytes is made: returns malloc'ed bytes, *ret_n of them. */
uint8_t *make_frame(char type, uint32_t n, size_t *ret_n);

#endif
