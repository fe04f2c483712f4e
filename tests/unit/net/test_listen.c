/* test_listen.c: listeners: addresses, ports, errors that help, spreading, limits, running out of
 * descriptors, PROXY, draining. */
#include "net_test.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

static bool answers(int fd) {
  uint8_t back[6];
  put_frame(fd, 'E', "x", 1);
  return recv(fd, back, sizeof back, MSG_WAITALL) == sizeof back;
}

static bool have_v6(void) {
  struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
  int fd = socket(AF_INET6, SOCK_STREAM, 0);
  bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&sin6, sizeof sin6) == 0;
  if (fd >= 0) close(fd);
  return ok;
}

static int dial6(uint16_t port) {
  struct sockaddr_in6 sin6 = {
      .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = in6addr_loopback};
  int fd = socket(AF_INET6, SOCK_STREAM, 0);
  assert_int_equal(connect(fd, (struct sockaddr *)&sin6, sizeof sin6), 0);
  return fd;
}

/* `localhost` and `*` answer over IPv4 and IPv6 on one port that the system picked. */
static void both_families_share_a_port(void **state) {
  static const char *const hosts[] = {"localhost", "*", "", "::", "[::]"};
  (void)state;
  for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
    rig r;
    rig_init(&r, 2);
    r.listens[0].host = lv_slice_str(hosts[i]);
    rig_open(&r);
    uint16_t port = lv_net_port(r.net, 0);
    assert_true(port > 0);
    int fd = dial(port);
    assert_true(answers(fd));
    assert_true(strncmp(r.tp.peer, "127.0.0.1:", 10) == 0); /* also when mapped into IPv6 */
    close(fd);
    if (have_v6()) {
      fd = dial6(port);
      assert_true(answers(fd));
      assert_true(strncmp(r.tp.peer, "[::1]:", 6) == 0);
      close(fd);
    }
    rig_close(&r);
  }
}

static void address_text(void **state) {
  (void)state;
  rig r;
  char want[64];
  rig_init(&r, 1);
  r.conf.n_listens = 2;
  r.listens[1] = (lv_listen){.proto = LV_PROTO_HTTP, .host = LV_SLICE("localhost")};
  rig_open(&r);
  snprintf(want, sizeof want, "127.0.0.1:%u", lv_net_port(r.net, 0));
  assert_string_equal(lv_net_address(r.net, 0), want);
  snprintf(want, sizeof want, "127.0.0.1:%u", lv_net_port(r.net, 1));
  assert_string_equal(lv_net_address(r.net, 1), want);
  assert_int_not_equal(lv_net_port(r.net, 0), lv_net_port(r.net, 1));
  rig_close(&r);
}

static int descriptors(void) {
  int n = 0;
  for (int fd = 0; fd < 1024; fd++) n += fcntl(fd, F_GETFD) >= 0;
  return n;
}

static void a_taken_port_is_explained(void **state) {
  (void)state;
  rig a, b;
  rig_init(&a, 2);
  rig_open(&a);
  rig_init(&b, 1);
  b.conf.n_listens = 2; /* the first one is fine and must be given back */
  b.listens[1] = (lv_listen){
      .proto = LV_PROTO_MQTT, .host = LV_SLICE("127.0.0.1"), .port = lv_net_port(a.net, 0)};
  int before = descriptors();
  assert_int_equal(rig_try_open(&b), LV_E_EXISTS);
  assert_int_equal(descriptors(), before);
  assert_non_null(strstr(b.why, lv_net_address(a.net, 0)));
  assert_non_null(strstr(b.why, "another process"));
  assert_null(b.net);
  rig_close(&b);
  rig_close(&a);
  rig_init(&b, 2); /* and free again */
  b.listens[0].port = 0;
  rig_open(&b);
  rig_close(&b);
}

static void wrong_addresses_are_explained(void **state) {
  (void)state;
  rig r;
  rig_init(&r, 1);
  r.listens[0].host = LV_SLICE("192.0.2.1");
  assert_true(rig_try_open(&r) < 0);
  assert_non_null(strstr(r.why, "192.0.2.1"));
  assert_non_null(strstr(r.why, "no such address"));
  r.listens[0].host = LV_SLICE("no-such-host.invalid");
  assert_int_equal(rig_try_open(&r), LV_E_CONFIG);
  assert_non_null(strstr(r.why, "no-such-host.invalid"));
  rig_close(&r);
}

/* Ten connections on two loops: five each, whatever the kernel's hash says. */
static void few_connections_are_spread(void **state) {
  (void)state;
  for (int round = 0; round < 5; round++) {
    rig r;
    int fd[10];
    rig_init(&r, 2);
    rig_open(&r);
    for (int i = 0; i < 10; i++) {
      fd[i] = dial_rig(&r);
      tp_wait(&r.tp, &r.tp.accepted, (uint64_t)i + 1);
    }
    assert_int_equal(r.tp.per_loop[0], 5);
    assert_int_equal(r.tp.per_loop[1], 5);
    for (int i = 0; i < 10; i++) {
      assert_true(answers(fd[i]));
      close(fd[i]);
    }
    rig_close(&r);
  }
}

static void the_limit_refuses(void **state) {
  (void)state;
  rig r;
  rig_init(&r, 2);
  r.conf.limits.connections = 3;
  r.listens[1] = (lv_listen){.proto = LV_PROTO_HTTP, .host = LV_SLICE("127.0.0.1")};
  r.conf.n_listens = 2;
  rig_open(&r);
  uint64_t before = lv_metrics_counter(LV_C_CONN_REFUSED);
  int fd[4];
  uint8_t b[8];
  for (int i = 0; i < 3; i++) {
    fd[i] = dial_rig(&r);
    assert_true(answers(fd[i]));
  }
  fd[3] = dial_rig(&r);
  assert_true(get_end(fd[3], b, sizeof b) <= 0);
  close(fd[3]);
  assert_int_equal(lv_metrics_counter(LV_C_CONN_REFUSED), before + 1);
  fd[3] = dial(lv_net_port(r.net, 1)); /* an operator still gets in */
  assert_true(answers(fd[3]));
  close(fd[3]);
  tp_wait(&r.tp, &r.tp.closes, 1);
  r.conf.limits.connections = 5; /* a reload raises it */
  assert_int_equal(lv_net_reload(r.net, &r.conf, r.why), 0);
  fd[3] = dial_rig(&r);
  assert_true(answers(fd[3]));
  for (int i = 0; i < 4; i++) close(fd[i]);
  rig_close(&r);
}

static void a_protocol_may_refuse(void **state) {
  (void)state;
  rig r;
  rig_init(&r, 1);
  r.tp.refuse = true;
  rig_open(&r);
  uint8_t b[8];
  int fd = dial_rig(&r);
  assert_true(get_end(fd, b, sizeof b) <= 0);
  close(fd);
  assert_int_equal(r.tp.closes, 0);
  rig_close(&r);
}

/* Without descriptors a client is refused at once; afterwards all is well. */
static void running_out_of_descriptors(void **state) {
  (void)state;
  rig r;
  rig_init(&r, 1);
  rig_open(&r);
  int first = dial_rig(&r);
  assert_true(answers(first));
  struct rlimit old, low;
  getrlimit(RLIMIT_NOFILE, &old);
  int top = dup(0); /* the lowest free one */
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  low = old;
  low.rlim_cur = (rlim_t)fd + 1;
  close(top);
  int plug = dup(0);
  assert_int_equal(plug, top);
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
  uint64_t before = lv_metrics_counter(LV_C_CONN_REFUSED);
  struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(lv_net_port(r.net, 0))};
  sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  assert_int_equal(connect(fd, (struct sockaddr *)&sin, sizeof sin), 0);
  uint8_t b[8];
  assert_true(get_end(fd, b, sizeof b) <= 0);
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
  assert_true(lv_metrics_counter(LV_C_CONN_REFUSED) > before);
  close(fd);
  close(plug);
  assert_true(answers(first)); /* those that are there live on */
  fd = dial_rig(&r);
  assert_true(answers(fd));
  close(fd);
  close(first);
  rig_close(&r);
}

/* Many that come and go at once on two loops: every one is served, counted, and gone at the end. */
static void *come_and_go(void *arg) {
  rig *r = arg;
  for (int i = 0; i < 300; i++) {
    int fd = dial_rig(r);
    if (i % 3 && !answers(fd)) abort(); /* cmocka knows one thread only */
    if (i % 5 == 0) {
      struct linger hard = {.l_onoff = 1, .l_linger = 0};
      setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    }
    close(fd);
  }
  return NULL;
}

static void churn(void **state) {
  (void)state;
  rig r;
  pthread_t t[4];
  int before = descriptors();
  rig_init(&r, 2);
  rig_open(&r);
  for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, come_and_go, &r);
  for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
  tp_wait(&r.tp, &r.tp.closes, 4 * 200);
  rig_close(&r);
  assert_int_equal(descriptors(), before);
  assert_int_equal(r.tp.accepted, r.tp.closes);
  assert_int_equal(r.tp.per_loop[0], 0);
  assert_int_equal(r.tp.per_loop[1], 0);
  assert_int_equal(lv_metrics_gauge(LV_G_CONNS_NEW), 0);
  assert_int_equal(lv_metrics_gauge(LV_G_CONNS_MQTT), 0);
}

/* ---- PROXY ---- */

static size_t proxy_header(uint8_t *h, uint8_t command) {
  static const uint8_t sig[12] = {0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D,
                                  0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A};
  static const uint8_t addrs[12] = {198, 51, 100, 7, 203, 0, 113, 9, 0x30, 0x39, 0x07, 0x5B};
  memcpy(h, sig, 12);
  h[12] = 0x20 | command;
  h[13] = 0x11;
  h[14] = 0;
  h[15] = 12;
  memcpy(h + 16, addrs, 12);
  return 28;
}

static void proxy_tells_the_peer(void **state) {
  (void)state;
  rig r;
  rig_init(&r, 1);
  r.listens[0].proxy = true;
  rig_open(&r);
  uint8_t h[64], back[6];
  size_t n = proxy_header(h, 1), m;
  uint8_t *f = make_frame('E', 1, &m);
  int fd = dial_rig(&r); /* all in one piece */
  memcpy(h + n, f, m);
  put(fd, h, n + m);
  get(fd, back, sizeof back);
  assert_string_equal(r.tp.peer, "198.51.100.7:12345");
  close(fd);
  fd = dial_rig(&r); /* byte by byte */
  for (size_t i = 0; i < n + m; i++) put(fd, h + i, 1);
  get(fd, back, sizeof back);
  assert_string_equal(r.tp.peer, "198.51.100.7:12345");
  close(fd);
  n = proxy_header(h, 0); /* LOCAL: the proxy itself */
  fd = dial_rig(&r);
  put(fd, h, n);
  assert_true(answers(fd));
  assert_true(strncmp(r.tp.peer, "127.0.0.1:", 10) == 0);
  close(fd);
  free(f);
  rig_close(&r);
}

static void proxy_is_demanded(void **state) {
  (void)state;
  rig r;
  rig_init(&r, 1);
  r.listens[0].proxy = true;
  r.conf.connect_timeout_ms = 100;
  rig_open(&r);
  uint8_t h[64], b[8];
  (void)proxy_header(h, 1);
  uint64_t bad = lv_metrics_counter(LV_C_CONN_PROTOCOL);
  uint64_t late = lv_metrics_counter(LV_C_CONN_TIMEOUT);
  int fd = dial_rig(&r);
  put_frame(fd, 'E', "x", 1);
  assert_true(get_end(fd, b, sizeof b) <= 0);
  close(fd);
  assert_int_equal(lv_metrics_counter(LV_C_CONN_PROTOCOL), bad + 1);
  fd = dial_rig(&r); /* half a header, then silence */
  put(fd, h, 20);
  assert_true(get_end(fd, b, sizeof b) <= 0);
  close(fd);
  assert_int_equal(lv_metrics_counter(LV_C_CONN_TIMEOUT), late + 1);
  assert_int_equal(r.tp.accepted, 0);
  rig_close(&r);
}

/* ---- draining ---- */

static void drains(void **state) {
  (void)state;
  rig r;
  rig_init(&r, 2);
  r.tp.bye_on_shutdown = true;
  rig_open(&r);
  int fd[6];
  uint8_t b[8];
  for (int i = 0; i < 6; i++) {
    fd[i] = dial_rig(&r);
    assert_true(answers(fd[i]));
  }
  /* The clients close when told to, on a thread of theirs: here, they have already shut down. */
  for (int i = 0; i < 6; i++) shutdown(fd[i], SHUT_WR);
  assert_int_equal(lv_net_shutdown(r.net, 10000), 0);
  for (int i = 0; i < 6; i++) {
    assert_true(get_end(fd[i], b, sizeof b) >= 0);
    close(fd[i]);
  }
  assert_int_equal(r.tp.closes, 6);
  assert_int_equal(lv_metrics_gauge(LV_G_CONNS_MQTT), 0);
  rig_close(&r);
}

static void cuts_who_will_not_go(void **state) {
  (void)state;
  rig r;
  rig_init(&r, 2);
  rig_open(&r); /* on_shutdown does nothing */
  int fd[3];
  uint8_t b[8];
  for (int i = 0; i < 3; i++) {
    fd[i] = dial_rig(&r);
    assert_true(answers(fd[i]));
  }
  assert_int_equal(lv_net_shutdown(r.net, 50), 3);
  assert_int_equal(r.tp.closes, 3);
  assert_int_equal(r.tp.close_err, LV_E_SHUTDOWN);
  for (int i = 0; i < 3; i++) {
    assert_true(get_end(fd[i], b, sizeof b) <= 0);
    close(fd[i]);
  }
  rig_close(&r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(both_families_share_a_port),
      cmocka_unit_test(address_text),
      cmocka_unit_test(a_taken_port_is_explained),
      cmocka_unit_test(wrong_addresses_are_explained),
      cmocka_unit_test(few_connections_are_spread),
      cmocka_unit_test(the_limit_refuses),
      cmocka_unit_test(a_protocol_may_refuse),
      cmocka_unit_test(running_out_of_descriptors),
      cmocka_unit_test(churn),
      cmocka_unit_test(proxy_tells_the_peer),
      cmocka_unit_test(proxy_is_demanded),
      cmocka_unit_test(drains),
      cmocka_unit_test(cuts_who_will_not_go),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
