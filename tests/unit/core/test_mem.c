/* test_mem.c: the arena, the growable buffer, pools and randomness. */
#include "core/arena.h"
#include "core/buf.h"
#include "core/err.h"
#include "core/pool.h"
#include "core/rand.h"
#include "unit.h"
#include <pthread.h>
#include <stdlib.h>

static void arena_basics(void **state) {
  lv_arena a;
  lv_arena_init(&a, 0, 64 * 1024);
  assert_int_equal(a.bytes, 0);
  uint8_t *last = NULL;
  for (uint32_t n = 0; n < 300; n++) {
    uint8_t *p = lv_arena_alloc(&a, n);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 16, 0);
    memset(p, 0xAA, n);
    last = p;
  }
  uint8_t *big = lv_arena_alloc(&a, 10000); /* its own chunk; the current one stays in use */
  assert_non_null(big);
  memset(big, 1, 10000);
  uint8_t *next = lv_arena_alloc(&a, 1);
  assert_true(next > last && next < last + 4096);
  assert_null(lv_arena_alloc(&a, 64 * 1024));
  assert_null(lv_arena_alloc(&a, SIZE_MAX));
  assert_null(lv_arena_alloc(&a, SIZE_MAX - 8));
  assert_null(lv_arena_calloc(&a, SIZE_MAX / 2, 4));
  while (lv_arena_alloc(&a, 1000)) assert_true(a.bytes <= a.max);
  assert_true(a.bytes > 56 * 1024);
  lv_arena_reset(&a);
  assert_int_equal(a.bytes, 4096);
  assert_non_null(lv_arena_alloc(&a, 4000));
  assert_int_equal(a.bytes, 4096);
  lv_arena_done(&a);
  assert_int_equal(a.bytes, 0);
  lv_arena_reset(&a);
  lv_arena_done(&a);
}

static void arena_helpers(void **state) {
  lv_arena a;
  lv_slice copy = {NULL, 7};
  lv_arena_init(&a, 256, 1024);
  assert_string_equal(lv_arena_str(&a, LV_SLICE("abc")), "abc");
  assert_string_equal(lv_arena_str(&a, (lv_slice){NULL, 0}), "");
  assert_string_equal(lv_arena_printf(&a, "%s-%d", "x", 42), "x-42");
  assert_true(lv_arena_slice(&a, LV_SLICE("de"), &copy));
  assert_true(lv_slice_eq(copy, LV_SLICE("de")));
  uint8_t *z = lv_arena_calloc(&a, 10, 7);
  for (int i = 0; i < 70; i++) assert_int_equal(z[i], 0);
  assert_null(lv_arena_printf(&a, "%2000d", 1));
  static uint8_t big[2000];
  assert_false(lv_arena_slice(&a, lv_slice_of(big, sizeof big), &copy));
  assert_int_equal(copy.n, 2);
  lv_arena_done(&a);
}

static void buf_basics(void **state) {
  lv_buf b;
  lv_buf_init(&b, 1000);
  assert_null(b.p);
  assert_int_equal(lv_buf_add(&b, NULL, 0), 0);
  assert_int_equal(lv_buf_add_str(&b, "ab"), 0);
  assert_int_equal(lv_buf_add_byte(&b, 'c'), 0);
  assert_int_equal(lv_buf_add_slice(&b, LV_SLICE("d")), 0);
  assert_int_equal(lv_buf_printf(&b, "-%d", 5), 0);
  assert_string_equal((char *)b.p, "abcd-5");
  memcpy(lv_buf_space(&b, 3), "xyz", 3);
  lv_buf_cut(&b, 4);
  assert_string_equal((char *)b.p, "-5xyz");
  assert_true(lv_slice_eq(lv_buf_slice(&b), LV_SLICE("-5xyz")));
  lv_buf_cut(&b, 5);
  assert_int_equal(b.n, 0);
  for (int i = 0; i < 100; i++) assert_int_equal(lv_buf_printf(&b, "%010d", i), 0);
  assert_int_equal(b.n, 1000);
  assert_int_equal(b.err, 0);
  assert_int_equal(lv_buf_add_byte(&b, 'x'), LV_E_TOO_BIG);
  assert_int_equal(b.err, LV_E_TOO_BIG);
  assert_int_equal(b.n, 1000);
  lv_buf_reset(&b);
  assert_int_equal(b.err, 0);
  assert_int_equal(lv_buf_printf(&b, "%2000d", 1), LV_E_TOO_BIG);
  assert_int_equal(b.n, 0);
  assert_string_equal((char *)b.p, "");
  assert_null(lv_buf_space(&b, SIZE_MAX));
  size_t n = 7;
  lv_buf_add_str(&b, "take");
  char *s = lv_buf_take(&b, &n);
  assert_string_equal(s, "take");
  assert_int_equal(n, 4);
  assert_null(b.p);
  free(s);
  s = lv_buf_take(&b, NULL);
  assert_string_equal(s, "");
  free(s);
  lv_buf_done(&b);
}

/* A printf that fits the memory but not the limit must not go beyond the limit. */
static void buf_printf_limit(void **state) {
  lv_buf b;
  lv_buf_init(&b, 100);
  lv_buf_add_str(&b, "x"); /* 256 bytes of memory from here on */
  assert_int_equal(lv_buf_printf(&b, "%150d", 1), LV_E_TOO_BIG);
  assert_int_equal(b.n, 1);
  assert_string_equal((char *)b.p, "x");
  assert_int_equal(lv_buf_printf(&b, "%99d", 1), 0);
  assert_int_equal(b.n, 100);
  lv_buf_done(&b);
}

static _Atomic int alive;
static void count_init(void *obj) {
  (void)obj;
  alive++;
}
static void count_fini(void *obj) {
  (void)obj;
  alive--;
}
static lv_pool pool = {.size = 64,
                       .align = 16,
                       .batch = 4,
                       .shared_max = 3,
                       .init = count_init,
                       .fini = count_fini,
                       .lock = PTHREAD_MUTEX_INITIALIZER};
static _Thread_local lv_pool_local local;
static lv_pool_node *objs[100];

static void *drop_all(void *arg) {
  for (int i = 0; i < 100; i++) lv_pool_put(&pool, &local, objs[i]);
  /* 4 + 4 here, 3 × 4 shared, the rest on the heap again */
  return (void *)(intptr_t)alive;
}

static void pool_bounds(void **state) {
  pthread_t t;
  void *kept;
  for (int i = 0; i < 100; i++) objs[i] = lv_pool_get(&pool, &local);
  assert_int_equal(alive, 100);
  assert_int_equal(pthread_create(&t, NULL, drop_all, NULL), 0);
  pthread_join(t, &kept);
  assert_int_equal((intptr_t)kept, 20);
  assert_int_equal(alive, 12); /* what the thread kept went with it */
  for (int i = 0; i < 13; i++) objs[i] = lv_pool_get(&pool, &local);
  assert_int_equal(alive, 13); /* 12 came back from the other thread */
  for (int i = 0; i < 13; i++)
    for (int k = 0; k < i; k++) assert_ptr_not_equal(objs[i], objs[k]);
  for (int i = 0; i < 13; i++) lv_pool_put(&pool, &local, objs[i]);
  lv_pool_trim(&pool);
  assert_int_equal(pool.n_shared, 0);
}

static void randomness(void **state) {
  lv_rand a, b;
  lv_rand_init(&a, 7);
  lv_rand_init(&b, 7);
  for (int i = 0; i < 100; i++) assert_true(lv_rand_u64(&a) == lv_rand_u64(&b));
  lv_rand_init(&b, 8);
  assert_true(lv_rand_u64(&a) != lv_rand_u64(&b));
  uint32_t seen[10] = {0};
  double sum = 0, exp_sum = 0;
  for (int i = 0; i < 100000; i++) {
    uint64_t v = lv_rand_below(&a, 10);
    assert_true(v < 10);
    seen[v]++;
    double u = lv_rand_unit(&a);
    assert_true(u >= 0 && u < 1);
    sum += u;
    exp_sum += lv_rand_exp(&a, 3);
  }
  for (int i = 0; i < 10; i++) assert_in_range(seen[i], 9500, 10500);
  assert_true(sum > 49500 && sum < 50500);
  assert_true(exp_sum > 290000 && exp_sum < 310000);
  assert_true(lv_rand_below(&a, 1) == 0);
  assert_true(lv_rand_below(&a, UINT64_MAX) < UINT64_MAX);
  uint8_t f[13] = {0}, g[13] = {0};
  lv_rand_fill(&a, f, 12);
  assert_int_equal(f[12], 0);
  lv_random_bytes(f, 12);
  lv_random_bytes(g, 12);
  assert_memory_not_equal(f, g, 12);
  assert_int_equal(g[12], 0);
  assert_true(lv_random_u64() != lv_random_u64());
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(arena_basics), cmocka_unit_test(arena_helpers),
      cmocka_unit_test(buf_basics),   cmocka_unit_test(buf_printf_limit),
      cmocka_unit_test(pool_bounds),  cmocka_unit_test(randomness),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
