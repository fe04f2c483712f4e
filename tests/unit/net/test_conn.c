/* test_conn.c: connections over real loopback sockets: every way bytes can be cut, pauses, resets,
 * ends, deadlines. */
#include "core/rand.h"
#include "net_test.h"
#include <arpa/inet.h>
#include <stdlib.h>
#include <unistd.h>

static uint64_t now_counter(enum lv_counter c) {
  return lv_metrics_counter(c);
}

static void echoes(void **state) {
  (void)state;
  rig r;
  rig_init(&r, 1);
  rig_open(&r);
  int fd = dial_rig(&r);
  size_t n;
  uint8_t *f = make_frame('E', 100, &n), back[200];
  put(fd, f, n);
  get(fd, back, n);
  assert_memory_equal(f, back, n);
  assert_true(r.tp.nodelay);
  assert_true(r.tp.user_timeout > 0);
  assert_true(strncmp(r.tp.peer, "127.0.0.1:", 10) == 0);
  close(fd);
  tp_wait(&r.tp, &r.tp.closes, 1);
  rig_sync(&r);
  assert_int_equal(r.tp.close_err, 0);
  assert_int_equal(r.tp.sent_msgs, 1);
  free(f);
  rig_close(&r);
}

static void takes_single_bytes(void **state) {
  (void)state;
  rig r;
  rig_init(&r, 1);
  rig_open(&r);
  int fd = dial_rig(&r);
  size_t n;
  uint8_t *f = make_frame('E', 60, &n), back[100];
  for (int round = 0; round < 3; round++) {
    for (size_t i = 0; i < n; i++) put(fd, f + i, 1);
    get(fd, back, n);
    assert_memory_equal(f, back, n);
  }
  close(fd);
  free(f);
  rig_close(&r);
}

/* Large frames in pieces of every size: nothing lost, few calls, no bytes left behind. */
static void takes_large_frames(void **state) {
  (void)state;
  rig r;
  rig_init(&r, 1);
  r.tp.in_max = 8 << 20;
  rig_open(&r);
  int fd = dial_rig(&r);
  size_t n, m;
  uint8_t *big = make_frame('N', 3 << 20, &n), *small = make_frame('E', 3000, &m);
  uint8_t *stream = malloc(2 * (n + m));
  memcpy(stream, big, n);
  memcpy(stream + n, small, m);
  memcpy(stream + n + m, big, n);
  memcpy(stream + 2 * n + m, small, m);
  lv_rand rnd;
  lv_rand_init(&rnd, 7);
  size_t total = 2 * (n + m), at = 0, pieces = 0;
  while (at < total) {
    size_t k = 1 + lv_rand_below(&rnd, pieces % 3 ? 200000 : 3000);
    if (k > total - at) k = total - at;
    put(fd, stream + at, k);
    at += k;
    pieces++;
  }
  uint8_t back[4000];
  for (int i = 0; i < 2; i++) {
    get(fd, back, m);
    assert_memory_equal(back, small, m);
  }
  rig_sync(&r);
  assert_int_equal(r.tp.frames, 4);
  assert_true(r.tp.calls <= 12); /* `want` spares the protocol all the pieces */
  close(fd);
  tp_wait(&r.tp, &r.tp.closes, 1);
  free(big);
  free(small);
  free(stream);
  rig_close(&r);
}

static void bounds_what_it_keeps(void **state) {
  (void)state;
  rig r;
  rig_init(&r, 1);
  r.tp.in_max = 10000;
  rig_open(&r);
  uint64_t before = now_counter(LV_C_CONN_PROTOCOL);
  int fd = dial_rig(&r);
  uint8_t junk[10000] = {0, 1, 0, 0};
  put(fd, junk, sizeof junk);
  tp_wait(&r.tp, &r.tp.closes, 1);
  assert_int_equal(r.tp.close_err, LV_E_TOO_BIG);
  assert_int_equal(now_counter(LV_C_CONN_PROTOCOL), before + 1);
  close(fd);
  rig_close(&r);
}

static void pauses_and_resumes(void **state) {
  (void)state;
  rig r;
  rig_init(&r, 1);
  rig_open(&r);
  int fd = dial_rig(&r);
  put_frame(fd, 'P', NULL, 0);
  for (int i = 0; i < 500; i++) put_frame(fd, 'N', "abc", 3);
  tp_wait(&r.tp, &r.tp.frames, 1);
  rig_resume(&r);
  tp_wait(&r.tp, &r.tp.frames, 501);
  /* Bytes that came in one read with the pause are kept, and offered again. */
  size_t n;
  uint8_t *f = make_frame('N', 3, &n), buf[64] = {0, 0, 0, 1, 'P'};
  memcpy(buf + 5, f, n);
  put(fd, buf, 5 + n);
  tp_wait(&r.tp, &r.tp.frames, 502);
  rig_resume(&r);
  tp_wait(&r.tp, &r.tp.frames, 503);
  free(f);
  close(fd);
  tp_wait(&r.tp, &r.tp.closes, 1);
  rig_close(&r);
}

static void reset(int fd) {
  struct linger hard = {.l_onoff = 1, .l_linger = 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
  close(fd);
}

/* What a device sent before its reset has been sent. */
static void reads_what_came_before_a_reset(void **state) {
  (void)state;
  rig r;
  rig_init(&r, 1);
  rig_open(&r);
  int fd = dial_rig(&r);
  put_frame(fd, 'P', NULL, 0);
  tp_wait(&r.tp, &r.tp.frames, 1);
  size_t n;
  uint8_t *f = make_frame('N', 8, &n), many[300 * 13];
  for (int i = 0; i < 300; i++) memcpy(many + (size_t)i * n, f, n);
  free(f);
  put(fd, many, sizeof many); /* in one piece: a reset drops what its own kernel still holds */
  reset(fd);
  rig_resume(&r);
  tp_wait(&r.tp, &r.tp.closes, 1);
  assert_int_equal(r.tp.frames, 301);
  assert_true(r.tp.close_err < 0);
  rig_close(&r);
}

static void survives_a_reset_while_sending(void **state) {
  (void)state;
  rig r;
  rig_init(&r, 1);
  rig_open(&r);
  int fd = dial_rig(&r);
  uint32_t n = htonl(64 << 20);
  put_frame(fd, 'S', &n, 4);
  uint8_t some[1000];
  get(fd, some, sizeof some);
  reset(fd);
  tp_wait(&r.tp, &r.tp.closes, 1);
  rig_sync(&r);
  assert_true(r.tp.unsent > 0);
  assert_int_equal(r.tp.unsent + r.tp.sent_msgs, 1024); /* every message is one or the other */
  assert_int_equal(lv_metrics_gauge(LV_G_OUT_BYTES), 0);
  rig_close(&r);
}

/* The last words arrive although the peer is still sending, and closing takes no RST. */
static void flushes_before_it_closes(void **state) {
  (void)state;
  rig r;
  rig_init(&r, 1);
  rig_open(&r);
  int fd = dial_rig(&r);
  uint32_t n = htonl(4 << 20);
  put_frame(fd, 'S', &n, 4);
  put_frame(fd, 'C', "bye", 3);
  tp_wait(&r.tp, &r.tp.frames, 2);
  for (int i = 0; i < 100; i++) put_frame(fd, 'N', "after the end", 13);
  uint8_t *all = malloc(5 << 20);
  long got = get_end(fd, all, 5 << 20);
  assert_int_equal(got, (4 << 20) + 3);
  assert_memory_equal(all + got - 3, "bye", 3);
  tp_wait(&r.tp, &r.tp.closes, 1);
  assert_int_equal(r.tp.close_err, LV_E_PROTOCOL);
  assert_int_equal(r.tp.frames, 2);
  free(all);
  close(fd);
  rig_close(&r);
}

static void closes_at_once(void **state) {
  (void)state;
  rig r;
  rig_init(&r, 1);
  rig_open(&r);
  int fd = dial_rig(&r);
  put_frame(fd, 'X', NULL, 0);
  uint8_t b[8];
  assert_int_equal(get_end(fd, b, sizeof b), 0);
  tp_wait(&r.tp, &r.tp.closes, 1);
  assert_int_equal(r.tp.close_err, LV_E_FORBIDDEN);
  close(fd);
  rig_close(&r);
}

static void keeps_a_deadline(void **state) {
  (void)state;
  rig r;
  rig_init(&r, 1);
  rig_open(&r);
  uint64_t before = now_counter(LV_C_CONN_TIMEOUT);
  int fd = dial_rig(&r);
  put_frame(fd, 'D', NULL, 0);
  uint8_t b[8];
  assert_int_equal(get_end(fd, b, sizeof b), 0);
  close(fd);
  tp_wait(&r.tp, &r.tp.closes, 1);
  assert_int_equal(r.tp.deadlines, 1);
  assert_int_equal(r.tp.close_err, LV_E_TIMEOUT);
  assert_int_equal(now_counter(LV_C_CONN_TIMEOUT), before + 1);
  rig_close(&r);
}

static void tells_when_drained(void **state) {
  (void)state;
  rig r;
  rig_init(&r, 1);
  rig_open(&r);
  int fd = dial_rig(&r);
  uint32_t n = htonl(16 << 20); /* above out_max, and more than the kernel takes */
  uint8_t *all = malloc((16 << 20) + 10);
  put_frame(fd, 'S', &n, 4);
  get(fd, all, 1000);
  rig_sync(&r);
  assert_true(lv_metrics_gauge(LV_G_OUT_BYTES) > 1 << 20); /* what the kernel does not take */
  get(fd, all + 1000, (16 << 20) + 5 - 1000);
  assert_memory_equal(all + (16 << 20), "\0\0\0\1d", 5);
  n = htonl(2000); /* far below; asked for */
  put_frame(fd, 'W', &n, 4);
  get(fd, all, 2005);
  assert_memory_equal(all + 2000, "\0\0\0\1d", 5);
  rig_sync(&r);
  assert_int_equal(r.tp.drains, 2);
  assert_int_equal(lv_metrics_gauge(LV_G_OUT_BYTES), 0);
  free(all);
  close(fd);
  rig_close(&r);
}

static void half_closed_peers(void **state) {
  (void)state;
  rig r;
  rig_init(&r, 1);
  rig_open(&r);
  r.tp.keep_on_eof = true;
  int fd = dial_rig(&r);
  put_frame(fd, 'P', NULL, 0);
  put_frame(fd, 'E', "x", 1);
  shutdown(fd, SHUT_WR);
  tp_wait(&r.tp, &r.tp.frames, 1);
  rig_resume(&r);
  uint8_t back[6];
  get(fd, back, sizeof back);
  tp_wait(&r.tp, &r.tp.eofs, 1);
  assert_int_equal(r.tp.closes, 0);
  close(fd);
  rig_close(&r);
  assert_int_equal(r.tp.closes, 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(echoes),
      cmocka_unit_test(takes_single_bytes),
      cmocka_unit_test(takes_large_frames),
      cmocka_unit_test(bounds_what_it_keeps),
      cmocka_unit_test(pauses_and_resumes),
      cmocka_unit_test(reads_what_came_before_a_reset),
      cmocka_unit_test(survives_a_reset_while_sending),
      cmocka_unit_test(flushes_before_it_closes),
      cmocka_unit_test(closes_at_once),
      cmocka_unit_test(keeps_a_deadline),
      cmocka_unit_test(tells_when_drained),
      cmocka_unit_test(half_closed_peers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
