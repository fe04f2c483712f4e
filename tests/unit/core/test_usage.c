/* test_usage.c: steps and sizes of messages, minutes of connections, sums by app. */
#include "core/usage.h"
#include "unit.h"
#include <stdlib.h>

static void steps(void **state) {
  static const struct {
    uint32_t bytes, steps;
  } t[] = {{0, 1},      {1, 1},         {5119, 1},         {5120, 1},
           {5121, 2},   {10240, 2},     {10241, 3},        {51200, 10},
           {51201, 11}, {1 << 20, 205}, {64 << 20, 13108}, {UINT32_MAX, 838861}};
  (void)state;
  for (size_t i = 0; i < COUNT_OF(t); i++) assert_int_equal(lv_use_steps(t[i].bytes), t[i].steps);
}

/* What a message with these parts comes to, through the record that is really written. */
static lv_use use_of(const char *topic, uint16_t key_off, lv_slice props, uint32_t n_val) {
  static uint8_t value[20000];
  lv_rec_in in = {.kind = LV_REC_MSG,
                  .key_off = key_off,
                  .topic = lv_slice_str(topic),
                  .pid = LV_SLICE("a publisher with a long name"),
                  .props = props,
                  .val = lv_slice_of(value, n_val),
                  .has_expiry = true,
                  .has_tms = true};
  uint32_t size;
  assert_true(n_val <= sizeof value);
  assert_int_equal(lv_rec_size(&in, &size), 0);
  void *dst = aligned_alloc(8, size);
  lv_use u = lv_use_of(lv_rec_write(&in, dst, size));
  free(dst);
  return u;
}

static void sizes(void **state) {
  const lv_slice none = {NULL, 0};
  (void)state;
  assert_int_equal(use_of("chan", LV_REC_NO_KEY, none, 10).bytes, 4 + 10);
  assert_int_equal(use_of("chan/", 5, none, 10).bytes, 4 + 10);        /* the empty key */
  assert_int_equal(use_of("chan/k/l", 5, none, 10).bytes, 4 + 3 + 10); /* without the slash */
  assert_int_equal(use_of("/a/b", 0, none, 0).bytes, 1 + 4);           /* channel `_` */
  assert_int_equal(use_of("chan/k/l", 5, none, 5120 - 7).steps, 1);
  assert_int_equal(use_of("chan/k/l", 5, none, 5120 - 6).steps, 2);
}

static void properties(void **state) {
  /* payload format, content type "t/p", response topic "r", correlation data 2 bytes, and two user
   * properties: "tag"="x", ""="value" */
  static const uint8_t p[] = "\x01\x01\x03\x00\x03t/p\x08\x00\x01r\x09\x00\x02\x26\x26"
                             "\x26\x00\x03tag\x00\x01x\x26\x00\x00\x00\x05value";
  lv_slice all = lv_slice_of(p, sizeof p - 1);
  (void)state;
  assert_int_equal(lv__use_props(all), 3 + 1 + 5);
  assert_int_equal(use_of("c", LV_REC_NO_KEY, all, 100).bytes, 1 + 9 + 100);
  for (uint32_t n = 0; n < all.n; n++) assert_true(lv__use_props(lv_slice_of(p, n)) <= 9);
}

static uint64_t minutes_of(const lv_metrics *base, uint32_t app) {
  return atomic_load(
      &lv_metrics_row((lv_metrics *)(uintptr_t)base, app, LV_KPI_NONE)->c[LV_C_USE_CONN_MINUTES]);
}

static lv_mono at(double s) {
  return (lv_mono){(int64_t)(s * 1e9)};
}

static void ticks(lv_metrics *base, double from, double to) {
  for (double t = from; t <= to; t += 1) lv_use_tick(base, at(t));
}

/* One connection that lasts: with ticks each second, late ones, and none at all. */
static void lasting(void **state) {
  static const struct {
    double s;
    uint64_t minutes;
  } t[] = {{0, 1},     {0.2, 1},   {1, 1},     {59, 1},    {59.99, 1},       {61.1, 2},
           {119.9, 2}, {121.1, 3}, {3601, 61}, {3659, 61}, {86400 + 1, 1441}};
  uint32_t app = 7;
  (void)state;
  for (int every = 0; every < 3; every++)
    for (size_t i = 0; i < COUNT_OF(t); i++)
      for (double start = 1000; start < 1001; start += 0.25) {
        lv_metrics *m = lv_metrics_new();
        double end = start + t[i].s;
        lv_use_tick(m, at(999.3));
        uint32_t since = lv_use_connect(m, app, at(start));
        if (every == 0) ticks(m, 1000.3, end);
        if (every == 1)
          for (double k = 1000.7; k < end; k += 13) lv_use_tick(m, at(k));
        assert_true(minutes_of(m, app) <= t[i].minutes);
        lv_use_disconnect(m, app, since, at(end));
        assert_int_equal(minutes_of(m, app), t[i].minutes);
        ticks(m, end, end + 200);
        assert_int_equal(minutes_of(m, app), t[i].minutes);
      }
}

/* While it lasts it is seen, and never early. */
static void seen_while_open(void **state) {
  lv_metrics *m = lv_metrics_new();
  (void)state;
  lv_use_tick(m, at(50.5));
  uint32_t since = lv_use_connect(m, 3, at(51.9));
  for (double t = 52.5; t < 51.9 + 600; t += 1) {
    lv_use_tick(m, at(t));
    double lasted = t - 51.9;
    assert_true(minutes_of(m, 3) <= (uint64_t)(lasted / 60) + 1);
    if (lasted > 1.5) assert_true(minutes_of(m, 3) >= (uint64_t)((lasted - 1.5) / 60) + 1);
  }
  lv_use_disconnect(m, 3, since, at(700));
}

/* Many of several apps, against a sum of each rounded up. */
static void many(void **state) {
  enum { N = 500 };
  lv_metrics *m = lv_metrics_new();
  uint64_t want[3] = {0};
  struct {
    uint32_t since, app;
    double from, to;
    int phase;
  } c[N];
  (void)state;
  srandom(1);
  for (int i = 0; i < N; i++) {
    c[i].app = (uint32_t)i % 3;
    c[i].from = 100 + (double)(random() % 200000) / 1000;
    c[i].to = c[i].from + (double)(random() % 400000) / 1000;
    c[i].phase = 0;
    double d = (double)(int64_t)c[i].to - (double)((int64_t)(c[i].from + 0.999999999));
    want[c[i].app] += d < 0 ? 1 : 1 + (uint64_t)(d / 60);
    assert_true(1 + (d < 0 ? 0 : d / 60) <= 1 + (c[i].to - c[i].from) / 60);
  }
  for (double t = 99; t < 1000; t += 0.05) {
    for (int i = 0; i < N; i++) {
      if (c[i].phase == 0 && c[i].from <= t) {
        c[i].since = lv_use_connect(m, c[i].app, at(c[i].from));
        c[i].phase = 1;
      }
      if (c[i].phase == 1 && c[i].to <= t) {
        lv_use_disconnect(m, c[i].app, c[i].since, at(c[i].to));
        c[i].phase = 2;
      }
    }
    if ((int64_t)(t * 20) % 20 == 7) lv_use_tick(m, at(t));
  }
  for (uint32_t app = 0; app < 3; app++) assert_int_equal(minutes_of(m, app), want[app]);
}

static void sums(void **state) {
  lv_usage *before = calloc(LV_USAGE_APPS, sizeof *before);
  lv_usage *after = calloc(LV_USAGE_APPS, sizeof *after);
  lv_metrics *a = lv_metrics_new(), *b = lv_metrics_new();
  (void)state;
  lv_metrics_app(41, "forty-one", 9);
  lv_usage_sum(before);
  lv_use_out(lv_metrics_row(a, 41, LV_KPI_MQTT), 2, 200);
  lv_use_out(lv_metrics_row(b, 41, LV_KPI_WS), 3, 300);
  lv_count(lv_metrics_row(b, 41, LV_KPI_NONE), LV_C_USE_IN, 5);
  lv_count(lv_metrics_row(b, LV_KPI_APPS_MAX + 5, LV_KPI_NONE), LV_C_USE_IN, 9);
  lv_usage_sum(after);
  assert_string_equal(lv_usage_app(42), "forty-one");
  assert_null(lv_usage_app(43));
  assert_int_equal(after[42].u[LV_U_MESSAGES_OUT] - before[42].u[LV_U_MESSAGES_OUT], 5);
  assert_int_equal(after[42].u[LV_U_BYTES_OUT] - before[42].u[LV_U_BYTES_OUT], 500);
  assert_int_equal(after[42].u[LV_U_MESSAGES_IN] - before[42].u[LV_U_MESSAGES_IN], 5);
  uint32_t other = LV_USAGE_APPS - 1; /* those beyond the table */
  assert_int_equal(after[other].u[LV_U_MESSAGES_IN] - before[other].u[LV_U_MESSAGES_IN], 9);
  assert_string_equal(lv_usage_name(LV_U_STORED_BYTE_HOURS), "stored_byte_hours");
  free(before);
  free(after);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(steps),   cmocka_unit_test(sizes),           cmocka_unit_test(properties),
      cmocka_unit_test(lasting), cmocka_unit_test(seen_while_open), cmocka_unit_test(many),
      cmocka_unit_test(sums),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
