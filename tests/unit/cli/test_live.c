/* What demo and top read: /proc samples as values, Prometheus text as numbers, and the scrape over
 * HTTP against a socket of our own. */
#include "cli/procfs.h"
#include "cli/scrape.h"
#include "core/err.h"
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
/* after the above */
#include <cmocka.h>

static char got[4096];
static void keep(void *arg, const char *category, const char *key, const char *json) {
  size_t n = strlen(got);
  snprintf(got + n, sizeof got - n, "%s/%s %s\n", category, key, json);
}

static void test_values(void **state) {
  static lv_proc_sample a, b;
  assert_int_equal(lv_proc_read(LV_PROC "/a", &a), 0);
  assert_int_equal(lv_proc_read(LV_PROC "/b", &b), 0);
  a.at_ns = 1000000000;
  b.at_ns = 3000000000; /* two seconds */
  got[0] = 0;
  lv_proc_values(&a, &b, keep, NULL);
  assert_string_equal(
      got, "cpu/0 {\"used\":40.0,\"user\":30.0,\"system\":10.0,\"iowait\":10.0}\n"
           "cpu/1 {\"used\":0.0,\"user\":0.0,\"system\":0.0,\"iowait\":0.0}\n"
           "memory/ {\"used\":25.0,\"used_bytes\":256000,\"total_bytes\":1024000,"
           "\"swap_used_bytes\":102400}\n"
           "load/ {\"load1\":0.50,\"load5\":1.25,\"load15\":2.00,\"running\":3,\"tasks\":120}\n"
           "disk/sda {\"read_bps\":512000,\"write_bps\":1024000,\"read_iops\":5.0,"
           "\"write_iops\":10.0,\"busy\":25.0}\n"
           "disk/nvme0n1 {\"read_bps\":0,\"write_bps\":0,\"read_iops\":0.0,\"write_iops\":0.0,"
           "\"busy\":0.0}\n"
           "net/eth0 {\"in_bps\":1000,\"out_bps\":1000,\"in_pps\":10.0,\"out_pps\":5.0}\n"
           "pressure/cpu {\"some\":25.0,\"some10\":2.50}\n"
           "pressure/io {\"some\":50.0,\"some10\":9.00,\"full\":12.5,\"full10\":4.00}\n");
}

static void test_counters_that_go_back(void **state) {
  static lv_proc_sample a, b;
  assert_int_equal(lv_proc_read(LV_PROC "/b", &a), 0);
  assert_int_equal(lv_proc_read(LV_PROC "/a", &b), 0);
  got[0] = 0;
  lv_proc_values(&a, &b, keep, NULL);
  assert_null(strchr(got, '-'));
  assert_null(strstr(got, "nan"));
  assert_int_equal(lv_proc_read("/nonexistent", &a), LV_E_NOT_FOUND);
}

#define METRICS                                                                                    \
  "# HELP lavva_gateway_in_messages_total x 5\n"                                                   \
  "lavva_gateway_in_messages_total 1234567\n"                                                      \
  "lavva_gateway_in_messages_total_other 9\n"                                                      \
  "lavva_connections{protocol=\"mqtt\"} 3\n"                                                       \
  "lavva_connections{protocol=\"http\"} 2\n"                                                       \
  "lavva_drops_total{stage=\"hub\",reason=\"slow\",app=\"one\",protocol=\"mqtt\"} 7\n"             \
  "lavva_drops_total{stage=\"hub\",reason=\"slow\",app=\"two\",protocol=\"mqtts\"} 5\n"            \
  "lavva_hub_pending_messages{app=\"one\"} 4\n"                                                    \
  "lavva_clients{app=\"two\",protocol=\"mqtts\"} 2\n"                                              \
  "lavva_clients{app=\"two\",protocol=\"mqtt\"} 1\n"                                               \
  "lavva_hub_pending_messages{app=\"\"} 0\n"                                                       \
  "lavva_drops_total{stage=\"gateway\",reason=\"disk\"} 0\n"                                       \
  "lavva_processing_latency_quantile_seconds{quantile=\"0.5\"} 0.000120\n"                         \
  "lavva_processing_latency_quantile_seconds{quantile=\"0.99\"} 0.0021\n"                          \
  "lavva_processing_latency_max_seconds 0.5\n"                                                     \
  "process_resident_memory_bytes 34000000"

static void check(const lv_scrape *s) {
  assert_true(s->v[LV_S_GW_IN] == 1234567);
  assert_true(s->v[LV_S_CONNS] == 5);
  assert_true(s->v[LV_S_DROPS] == 12);
  assert_int_equal(s->n_drops, 1);
  assert_string_equal(s->drops[0].label, "hub slow");
  assert_true(s->drops[0].n == 12);
  assert_int_equal(s->n_apps, 2);
  assert_string_equal(s->apps[0].name, "one");
  assert_true(s->apps[0].drops == 7 && s->apps[0].pending == 4 && s->apps[0].clients == 0);
  assert_true(s->apps[1].drops == 5 && s->apps[1].clients == 3);
  assert_int_equal(s->n_protos, 2);
  assert_string_equal(s->protos[1].name, "http");
  assert_true(s->p50_s > 0.000119 && s->p50_s < 0.000121);
  assert_true(s->p99_s > 0.00209 && s->p99_s < 0.00211);
  assert_true(s->v[LV_S_LATENCY_MAX] == 0.5);
  assert_true(s->v[LV_S_RSS] == 34e6);
}

static void test_scrape_text(void **state) {
  char text[] = METRICS;
  lv_scrape s;
  lv_scrape_parse(text, &s);
  check(&s);
  char empty[] = "";
  lv_scrape_parse(empty, &s);
  assert_true(s.v[LV_S_GW_IN] == 0);
}

typedef struct peer {
  int fd;
  const char *answer; /* NULL: none, until the client gives up */
} peer;

static void *serve_one(void *arg) {
  peer *p = arg;
  char buf[1024];
  int c = accept(p->fd, NULL, NULL);
  ssize_t n = recv(c, buf, sizeof buf - 1, 0);
  buf[n > 0 ? n : 0] = 0;
  if (p->answer && strncmp(buf, "GET /metrics HTTP/1.0\r\n", 23) == 0)
    (void)send(c, p->answer, strlen(p->answer), MSG_NOSIGNAL);
  else if (!p->answer)
    (void)recv(c, buf, sizeof buf, 0);
  close(c);
  return NULL;
}

static int scrape(const char *answer, int timeout_ms, lv_scrape *s) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t n = sizeof a;
  peer p = {.fd = socket(AF_INET, SOCK_STREAM, 0), .answer = answer};
  assert_int_equal(bind(p.fd, (struct sockaddr *)&a, sizeof a), 0);
  assert_int_equal(listen(p.fd, 1), 0);
  assert_int_equal(getsockname(p.fd, (struct sockaddr *)&a, &n), 0);
  pthread_t th;
  assert_int_equal(pthread_create(&th, NULL, serve_one, &p), 0);
  char address[32];
  snprintf(address, sizeof address, "127.0.0.1:%u", ntohs(a.sin_port));
  int r = lv_scrape_get(address, timeout_ms, s);
  pthread_join(th, NULL);
  close(p.fd);
  return r;
}

static void test_scrape_http(void **state) {
  lv_scrape s;
  assert_int_equal(scrape("HTTP/1.1 200 OK\r\nContent-Type: x\r\n\r\n" METRICS, 5000, &s), 0);
  check(&s);
  assert_int_equal(scrape("HTTP/1.1 503 No\r\n\r\nx", 5000, &s), LV_E_MALFORMED);
  assert_int_equal(scrape("", 5000, &s), LV_E_MALFORMED);
  assert_int_equal(scrape(NULL, 50, &s), LV_E_TIMEOUT);
  assert_int_equal(lv_scrape_get("127.0.0.1", 50, &s), LV_E_INVALID);
  assert_int_equal(lv_scrape_get("127.0.0.1:1", 1000, &s), -ECONNREFUSED);
  assert_string_equal(lv_scrape_error(-ECONNREFUSED), "Connection refused");
  assert_string_equal(lv_scrape_error(LV_E_TIMEOUT), "timed out");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_values),
      cmocka_unit_test(test_counters_that_go_back),
      cmocka_unit_test(test_scrape_text),
      cmocka_unit_test(test_scrape_http),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
