/* test_metric.c: sums over threads, the 60-second window, and the Prometheus text's grammar. */
#include "core/metric.h"
#include "unit.h"
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *counts(void *arg) {
  lv_metrics *m = lv_metrics_mine();
  if (m != lv_metrics_mine()) abort();
  for (int i = 0; i < 1000; i++) {
    lv_count(m, LV_C_GW_IN, 2);
    lv_gauge(m, LV_G_SESSIONS, i % 2 ? -1 : 2);
    lv_hist_add(m->commit, 1000, 1);
  }
  return NULL;
}

static void sums(void **state) {
  pthread_t t[3];
  for (int i = 0; i < 3; i++) assert_int_equal(pthread_create(&t[i], NULL, counts, NULL), 0);
  (void)lv_metrics_counter(LV_C_GW_IN); /* while they count */
  for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
  assert_int_equal(lv_metrics_counter(LV_C_GW_IN), 6000); /* threads are gone, counts are not */
  assert_int_equal(lv_metrics_gauge(LV_G_SESSIONS), 1500);
  lv_hist *h = malloc(sizeof *h);
  lv_metrics_hist(LV_HIST_COMMIT, h);
  assert_int_equal(h->count, 3000);
  lv_metrics_hist(LV_HIST_LATENCY, h);
  assert_int_equal(h->count, 0);
  free(h);
  lv_metrics *other = lv_metrics_new(), *before = lv_metrics_use(other);
  assert_ptr_equal(lv_metrics_mine(), other);
  assert_ptr_equal(lv_metrics_use(before), other);
}

static void window(void **state) {
  lv_metrics *m = lv_metrics_mine();
  const int64_t sec = 1000000000, start = 1000 * sec;
  lv_hist_add(m->latency, 700000, 10);
  assert_int_equal(lv_metrics_latency_recent(1), 700000); /* before any sample: all of it */
  for (int t = 0; t <= 200; t++) {
    if (t == 100) lv_hist_add(m->latency, 5000, 100);
    lv_metrics_sample((lv_wall){start + t * sec});
    int64_t max = lv_metrics_latency_recent(1), p50 = lv_metrics_latency_recent(0.5);
    if (t < 100) assert_int_equal(max, 0); /* what was before the first sample is not recent */
    if (t >= 100 && t < 160) {
      assert_true(max >= 5000 && max <= 5050);
      assert_true(p50 >= 5000 && p50 <= 5050);
    }
    if (t >= 160) assert_int_equal(max, 0); /* the snapshot of t = 100 is 60 s old */
  }
  lv_metrics_sample((lv_wall){start}); /* the clock went back: a new window, no nonsense */
  lv_hist_add(m->latency, 9000, 1);
  assert_true(lv_metrics_latency_recent(1) >= 9000 && lv_metrics_latency_recent(1) < 9100);
}

/* Lines of one metric stand together behind one HELP and one TYPE; samples parse. */
static void prometheus(void **state) {
  size_t n = 0;
  lv_count(lv_metrics_mine(), LV_C_DROP_HUB_SLOW, 5);
  lv_metrics *row = lv_metrics_row(lv_metrics_mine(), 7, LV_KPI_WS);
  lv_metrics_app(7, "seven", 5);
  lv_metrics_latency(lv_metrics_mine(), row, LV_LATENCY_PROCESSING, 2000000000, 2);
  lv_metrics_latency(lv_metrics_mine(), row, LV_LATENCY_PROCESSING, 10001, 1);
  lv_metrics_latency(lv_metrics_mine(), row, LV_LATENCY_END, -5, 3);
  for (uint32_t id = 64; id < 66; id++) /* beyond those with buckets of their own */
    lv_metrics_latency(lv_metrics_mine(), lv_metrics_row(lv_metrics_mine(), id, LV_KPI_MQTT),
                       LV_LATENCY_PROCESSING, 5000, 2);
  char *text = lv_metrics_prometheus(&n), *save = NULL, cur[128] = "";
  char seen[256][128];
  int groups = 0, samples = 0;
  assert_int_equal(strlen(text), n);
  assert_int_equal(text[n - 1], '\n');
  assert_non_null(strstr(text, "\nlavva_drops_total{stage=\"hub\",reason=\"slow\",app=\"\","
                               "protocol=\"none\"} 5\n"));
  assert_non_null(
      strstr(text, "\nlavva_gateway_in_messages_total{app=\"\",protocol=\"none\"} 6000\n"));
  assert_non_null(strstr(text, "lavva_connections{protocol=\"mqtt\"} 0\n"));
  assert_non_null(strstr(text, "_seconds_bucket{le=\"1e-05\"} "));
#define OF "app=\"seven\",protocol=\"ws\"} "
#define LATENCY "\nlavva_processing_latency_seconds_"
  assert_non_null(strstr(text, LATENCY "bucket{le=\"1e-05\"," OF "0\n"));
  assert_non_null(strstr(text, LATENCY "bucket{le=\"2e-05\"," OF "1\n"));
  assert_non_null(strstr(text, LATENCY "bucket{le=\"1\"," OF "1\n"));
  assert_non_null(strstr(text, LATENCY "bucket{le=\"2\"," OF "3\n"));
  assert_non_null(strstr(text, LATENCY "bucket{le=\"+Inf\"," OF "3\n"));
  assert_non_null(strstr(text, LATENCY "sum{" OF "4.000010001\n"));
  assert_non_null(strstr(text, LATENCY "count{" OF "3\n"));
  assert_non_null(strstr(text, "\nlavva_end_to_end_latency_negative_total 3\n"));
  assert_non_null(strstr(text, LATENCY "count{app=\"_other\",protocol=\"mqtt\"} 4\n"));
#undef OF
#undef LATENCY
  assert_non_null(strstr(text, "quantile_seconds{quantile=\"0.999\"} "));
  unsigned long long last_bucket = 0;
  for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
    char name[128], type[16];
    if (sscanf(l, "# TYPE %127s %15s", name, type) == 2) {
      for (int i = 0; i < groups; i++) assert_string_not_equal(seen[i], name);
      assert_true(groups < 256);
      memcpy(seen[groups++], name, sizeof name);
      memcpy(cur, name, sizeof cur);
      last_bucket = 0;
      continue;
    }
    if (l[0] == '#') continue;
    double v;
    char *space = strrchr(l, ' '), *end;
    assert_non_null(space);
    v = strtod(space + 1, &end);
    assert_true(*end == 0 && v >= 0);
    assert_true(strncmp(l, cur, strlen(cur)) == 0); /* it belongs to the group above it */
    if (strstr(l, "_bucket{")) {
      assert_true((unsigned long long)v >= last_bucket); /* cumulative */
      last_bucket = (unsigned long long)v;
    }
    samples++;
  }
  assert_true(samples > 100);
  free(text);
}

static uint64_t value_of(const char *text, const char *line) {
  const char *p = strstr(text, line);
  if (!p || (p != text && p[-1] != '\n') || p[strlen(line)] != ' ') return UINT64_MAX;
  return strtoull(p + strlen(line) + 1, NULL, 10);
}

/* Rows of an app: counted by several threads, summed by label; one name is escaped. */
static void *counts_rows(void *arg) {
  lv_metrics *m = lv_metrics_mine();
  for (uint32_t i = 0; i < 1000; i++) {
    lv_count(lv_metrics_row(m, i % 2, LV_KPI_MQTT), LV_C_GW_IN, 1);
    lv_count(lv_metrics_row(m, i % 2, LV_KPI_MQTTS), LV_C_GW_IN, 2);
    lv_count(lv_metrics_row(m, i % 2, LV_KPI_NONE), LV_C_HUB_OWED, 1);
    lv_count(lv_metrics_row(m, LV_KPI_NO_APP, LV_KPI_HTTP), LV_C_CONN_OPENED, 1);
    lv_chan_count(lv_metrics_chan_row(m, *(uint32_t *)arg), LV_CH_IN, 3);
  }
  lv_gauge_set(lv_metrics_row(m, 1, LV_KPI_NONE), LV_G_LAG_MAX, 7 + *(uint32_t *)arg);
  return NULL;
}

static void rows(void **state) {
  pthread_t t[3];
  uint64_t in = lv_metrics_counter(LV_C_GW_IN);
  lv_metrics_app(0, "one", 3);
  lv_metrics_app(1, "t\"w\\o\n", 6);
  uint32_t slot[3];
  for (int i = 0; i < 3; i++)
    slot[i] = lv_metrics_chan_slot(i == 2, i == 0 ? "a" : "b", 1); /* one/a, one/b, two/b */
  assert_int_equal(lv_metrics_chan_slot(0, "a", 1), slot[0]);
  assert_true(slot[0] != slot[1] && slot[1] != slot[2]);
  assert_int_equal(lv_metrics_slot_app(slot[2]), 1);
  for (int i = 0; i < 3; i++)
    assert_int_equal(pthread_create(&t[i], NULL, counts_rows, &slot[i]), 0);
  free(lv_metrics_prometheus(NULL)); /* while they count */
  for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
  assert_int_equal(lv_metrics_counter(LV_C_GW_IN) - in, 9000);
  assert_int_equal(lv_metrics_gauge(LV_G_LAG_MAX), 7 + slot[2]); /* the most, not the sum */
  assert_int_equal(lv_metrics_chan_counter(slot[1], LV_CH_IN), 3000);
  char *x = lv_metrics_prometheus(NULL);
  const char *gw = "lavva_gateway_in_messages_total{app=";
  char line[128];
  snprintf(line, sizeof line, "%s\"one\",protocol=\"mqtt\"}", gw);
  assert_int_equal(value_of(x, line), 1500);
  snprintf(line, sizeof line, "%s\"t\\\"w\\\\o\\n\",protocol=\"mqtts\"}", gw);
  assert_int_equal(value_of(x, line), 3000);
  assert_int_equal(value_of(x, "lavva_hub_owed_messages_total{app=\"one\"}"), 1500);
  assert_int_equal(value_of(x, "lavva_connections_opened_total{protocol=\"http\"}"), 3000);
  assert_int_equal(value_of(x, "lavva_channel_in_messages_total{app=\"one\",channel=\"b\"}"), 3000);
  assert_int_equal(value_of(x, "lavva_hub_out_messages_total{app=\"one\",protocol=\"mqtt\"}"), 0);
  free(x);
}

/* More channels and apps than have names of their own: nothing is lost, the text stays small. */
static void bounded(void **state) {
  lv_metrics *m = lv_metrics_mine();
  char name[32];
  lv_metrics_chans_max(100);
  lv_metrics_app(2, "many", 4);
  uint32_t other = 0;
  for (int i = 0; i < 10000; i++) {
    int n = snprintf(name, sizeof name, "channel-%d", i);
    uint32_t slot = lv_metrics_chan_slot(2, name, (size_t)n);
    lv_chan_count(lv_metrics_chan_row(m, slot), LV_CH_IN, 1);
    if (i == 100) other = slot;
    if (i > 100) assert_int_equal(slot, other);
  }
  assert_int_equal(lv_metrics_chan_counter(other, LV_CH_IN), 9900);
  size_t n;
  char *x = lv_metrics_prometheus(&n);
  assert_int_equal(value_of(x, "lavva_channel_in_messages_total{app=\"many\",channel=\"_other\"}"),
                   9900);
  assert_true(n < 150000);
  free(x);
  for (uint32_t app = 3; app < 3000; app++) {
    lv_metrics_app(app, name, (size_t)snprintf(name, sizeof name, "app-%u", app));
    for (uint32_t k = 0; k < LV_KPI_PROTO_COUNT; k++)
      lv_count(lv_metrics_row(m, app, k), LV_C_GW_OFFERED, 1);
  }
  x = lv_metrics_prometheus(&n);
  assert_int_equal(
      value_of(x, "lavva_gateway_offered_messages_total{app=\"_other\",protocol=\"ws\"}"), 2000);
  assert_int_equal(
      value_of(x, "lavva_gateway_offered_messages_total{app=\"app-999\",protocol=\"ws\"}"), 1);
  assert_true(n < 16 << 20);
  free(x);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sums), cmocka_unit_test(window),  cmocka_unit_test(prometheus),
      cmocka_unit_test(rows), cmocka_unit_test(bounded),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
