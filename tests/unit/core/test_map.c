/* test_map.c: the hash's spread and keying; the map against an array, walks that delete, memory. */
#include "core/err.h"
#include "core/hash.h"
#include "core/map.h"
#include "core/rand.h"
#include "unit.h"
#include <stdio.h>
#include <stdlib.h>

typedef struct node {
  char key[16];
  uint32_t n;
  bool in;
} node;

static lv_slice key_of(const void *obj) {
  const node *o = obj;
  return lv_slice_of(o->key, o->n);
}

enum { NODES = 2000 };
static node nodes[NODES], twins[NODES]; /* a twin has the same key */

static void make_nodes(void) {
  for (int i = 0; i < NODES; i++) {
    nodes[i].n = (uint32_t)snprintf(nodes[i].key, sizeof nodes[i].key, "dev/%d", i);
    nodes[i].in = false;
    twins[i] = nodes[i];
  }
  nodes[0].n = twins[0].n = 0; /* the empty key is a key */
}

static void against_model(void **state) {
  lv_map m;
  lv_rand r;
  node *in[NODES] = {0};
  uint32_t count = 0;
  lv_rand_init(&r, 1);
  make_nodes();
  lv_map_init(&m, key_of);
  for (int step = 0; step < 60000; step++) {
    uint32_t i = (uint32_t)lv_rand_below(&r, step / 10000 % 2 ? 60 : NODES);
    node *o = lv_rand_chance(&r, 0.5) ? &nodes[i] : &twins[i];
    switch (lv_rand_below(&r, step / 10000 % 2 ? 6 : 4)) {
    case 0:
      assert_int_equal(lv_map_add(&m, o), in[i] ? LV_E_EXISTS : 0);
      if (!in[i]) in[i] = o, count++;
      break;
    case 1:
      assert_ptr_equal(lv_map_put(&m, o), in[i]);
      if (!in[i]) count++;
      in[i] = o;
      break;
    case 2: assert_ptr_equal(lv_map_get(&m, key_of(o)), in[i]); break;
    default:
      assert_ptr_equal(lv_map_del(&m, key_of(o)), in[i]);
      if (in[i]) count--;
      in[i] = NULL;
    }
    assert_int_equal(m.n, count);
  }
  for (uint32_t i = 0; i < NODES; i++) {
    assert_ptr_equal(lv_map_get(&m, key_of(&nodes[i])), in[i]);
    assert_ptr_equal(lv_map_del(&m, key_of(&nodes[i])), in[i]);
  }
  assert_int_equal(m.n, 0);
  assert_true(m.cap <= 16); /* it gave its memory back */
  lv_map_done(&m);
}

static void walk_and_delete(void **state) {
  lv_map m;
  make_nodes();
  lv_map_init(&m, key_of);
  uint32_t pos = 0;
  assert_null(lv_map_next(&m, &pos));
  assert_null(lv_map_get(&m, LV_SLICE("x")));
  assert_null(lv_map_del(&m, LV_SLICE("x")));
  for (uint32_t i = 0; i < NODES; i++) assert_int_equal(lv_map_add(&m, &nodes[i]), 0);
  assert_true(lv_map_bytes(&m) <= NODES * 31);
  for (node *o; (o = lv_map_next(&m, &pos));) {
    assert_false(o->in); /* once each */
    o->in = true;
  }
  for (uint32_t i = 0; i < NODES; i++) assert_true(nodes[i].in);
  pos = 0;
  for (node *o; (o = lv_map_next(&m, &pos));) /* every other leaves while we walk */
    if ((o - nodes) % 2) lv_map_del_prev(&m, &pos);
  assert_int_equal(m.n, NODES / 2);
  for (uint32_t i = 0; i < NODES; i++)
    assert_ptr_equal(lv_map_get(&m, key_of(&nodes[i])), i % 2 ? NULL : &nodes[i]);
  pos = 0;
  while (lv_map_next(&m, &pos)) lv_map_del_prev(&m, &pos);
  assert_int_equal(m.n, 0);
  lv_map_done(&m);
}

static void hashed(void **state) {
  lv_map m;
  make_nodes();
  lv_map_init(&m, key_of);
  uint64_t h = lv_hash_slice(key_of(&nodes[1]));
  assert_null(lv_map_get_hashed(&m, key_of(&nodes[1]), h));
  assert_int_equal(lv_map_add_hashed(&m, &nodes[1], h), 0);
  assert_int_equal(lv_map_add_hashed(&m, &twins[1], h), LV_E_EXISTS);
  assert_ptr_equal(lv_map_get(&m, key_of(&nodes[1])), &nodes[1]);
  /* Same hash, other key: both are found. */
  assert_int_equal(lv_map_add_hashed(&m, &nodes[2], h), 0);
  assert_ptr_equal(lv_map_get_hashed(&m, key_of(&nodes[2]), h), &nodes[2]);
  assert_ptr_equal(lv_map_get_hashed(&m, key_of(&nodes[1]), h), &nodes[1]);
  lv_map_done(&m);
}

static int by_u64(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

/* Each length and each single bit of the input changes the hash, and about half of its bits. */
static void hash_spread(void **state) {
  enum { LEN = 200 };
  uint8_t b[LEN] = {0};
  static uint64_t v[LEN * 8 + LEN + 2];
  uint32_t n = 0, flips = 0, pairs = 0;
  for (uint32_t len = 0; len <= LEN; len++) v[n++] = lv_hash(b, len); /* zeros of each length */
  uint64_t base = lv_hash(b, LEN);
  for (uint32_t bit = 0; bit < LEN * 8; bit++) {
    b[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    uint64_t h = lv_hash(b, LEN);
    b[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    flips += (uint32_t)__builtin_popcountll(h ^ base);
    pairs++;
    v[n++] = h;
  }
  assert_true(flips > pairs * 28 && flips < pairs * 36);
  qsort(v, n, sizeof *v, by_u64);
  for (uint32_t i = 1; i < n; i++) assert_true(v[i] != v[i - 1]);
  uint64_t u = lv_hash_u64(1);
  assert_true(u != lv_hash_u64(2) && u == lv_hash_u64(1));
}

/* Buckets of sequential keys fill evenly: chi-squared over 256 buckets of both ends of the hash. */
static void hash_buckets(void **state) {
  uint32_t lo[256] = {0}, hi[256] = {0};
  char k[32];
  for (int i = 0; i < 256 * 100; i++) {
    uint64_t h = lv_hash(k, (size_t)snprintf(k, sizeof k, "site/7/device/%d", i));
    lo[h & 255]++;
    hi[h >> 56]++;
  }
  double x_lo = 0, x_hi = 0;
  for (int i = 0; i < 256; i++) {
    x_lo += (lo[i] - 100.0) * (lo[i] - 100.0) / 100;
    x_hi += (hi[i] - 100.0) * (hi[i] - 100.0) / 100;
  }
  assert_true(x_lo < 400 && x_hi < 400); /* 255 degrees of freedom: 400 is 6 sigma */
}

static void hash_keyed(void **state) {
  uint64_t before = lv_hash("abc", 3);
  lv_hash_seed(1);
  uint64_t one = lv_hash("abc", 3);
  lv_hash_seed(2);
  assert_true(lv_hash("abc", 3) != one);
  lv_hash_seed(1);
  assert_true(lv_hash("abc", 3) == one);
  assert_true(before != one);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(against_model), cmocka_unit_test(walk_and_delete),
      cmocka_unit_test(hashed),        cmocka_unit_test(hash_spread),
      cmocka_unit_test(hash_buckets),  cmocka_unit_test(hash_keyed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
