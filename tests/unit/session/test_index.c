/* The subscription index and the retained store against naive ones: every filter of a random set is
 * held against every topic with lv_mqtt_match, while sets change under a cache that must notice. */
#include "core/rand.h"
#include "session/retained.h"
#include "session/subindex.h"
#include "wire/mqtt.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* after the above */
#include <cmocka.h>

enum { SUBS = 200, TARGETS = 12, ROUNDS = 4000, TOPICS = 120 };

/* A few short levels, so that most things meet. */
static const char *const levels[] = {"a", "b", "cc", "", "$x", "$SYS"};

static void random_text(lv_rand *r, bool filter, char *dst, size_t size) {
  uint32_t n = 1 + (uint32_t)lv_rand_below(r, 4);
  size_t len = 0;
  for (uint32_t i = 0; i < n; i++) {
    uint64_t x = lv_rand_below(r, filter ? 9 : 6);
    const char *level = x < 6 ? levels[x] : x == 8 && i + 1 == n ? "#" : "+";
    len += (size_t)snprintf(dst + len, size - len, "%s%s", i ? "/" : "", level);
  }
  if (len == 0) snprintf(dst, size, "/");
}

static lv_sub *sub_make(const char *filter, int *target, uint8_t qos, uint32_t id, uint8_t flags) {
  size_t n = strlen(filter);
  lv_sub *s = calloc(1, sizeof *s + n);
  s->len = (uint16_t)n;
  memcpy(s->filter, filter, n);
  s->target = target;
  s->qos = qos;
  s->sub_id = id;
  s->flags = flags;
  return s;
}

/* What the index says about a topic is what a walk over all subscriptions says. */
static void compare(lv_subindex *x, lv_sub *const *subs, int *targets, const char *topic) {
  const lv_match *m = lv_subindex_match(x, lv_slice_str(topic));
  uint32_t groups = 0, found = 0;
  for (int t = 0; t < TARGETS; t++) {
    uint32_t n = 0;
    uint8_t qos = 0;
    bool ids = false;
    for (int i = 0; i < SUBS; i++) {
      if (!subs[i] || subs[i]->target != &targets[t]) continue;
      if (!lv_mqtt_match(lv_sub_filter(subs[i]), lv_slice_str(topic))) continue;
      n++;
      if (subs[i]->qos > qos) qos = subs[i]->qos;
      ids |= subs[i]->sub_id != 0;
    }
    if (n == 0) continue;
    groups++;
    const lv_target *g = NULL;
    for (uint32_t i = 0; i < m->n; i++)
      if (m->targets[i].target == &targets[t]) g = &m->targets[i];
    if (!g) fail_msg("%s: target %d is missing", topic, t);
    if (g->n != n) fail_msg("%s: target %d has %u, not %u", topic, t, g->n, n);
    assert_int_equal(g->qos, qos);
    assert_int_equal(g->ids, ids);
    for (uint32_t i = 0; i < g->n; i++)
      assert_true(lv_mqtt_match(lv_sub_filter(g->subs[i]), lv_slice_str(topic)));
    found += g->n;
  }
  if (m->n != groups) fail_msg("%s: %u targets, not %u", topic, m->n, groups);
  (void)found;
}

static void test_subindex(void **state) {
  lv_subindex *x = lv_subindex_new();
  static lv_sub *subs[SUBS];
  static int targets[TARGETS];
  static char topics[TOPICS][64];
  lv_rand r;
  lv_rand_init(&r, 1);
  for (int i = 0; i < TOPICS; i++) random_text(&r, false, topics[i], 64);
  uint32_t count = 0;
  for (int round = 0; round < ROUNDS; round++) {
    uint32_t i = (uint32_t)lv_rand_below(&r, SUBS);
    if (subs[i]) {
      lv_subindex_remove(x, subs[i]);
      free(subs[i]);
      subs[i] = NULL;
      count--;
    } else {
      char f[64];
      random_text(&r, true, f, sizeof f);
      subs[i] = sub_make(f, &targets[lv_rand_below(&r, TARGETS)], (uint8_t)lv_rand_below(&r, 3),
                         (uint32_t)lv_rand_below(&r, 2), 0);
      lv_subindex_add(x, subs[i]);
      count++;
    }
    assert_int_equal(lv_subindex_count(x), count);
    for (int k = 0; k < 4; k++) compare(x, subs, targets, topics[lv_rand_below(&r, TOPICS)]);
  }
  for (int k = 0; k < TOPICS; k++) compare(x, subs, targets, topics[k]);
  for (int i = 0; i < SUBS; i++) {
    if (!subs[i]) continue;
    lv_subindex_remove(x, subs[i]);
    free(subs[i]);
    subs[i] = NULL;
  }
  for (int k = 0; k < TOPICS; k++)
    assert_int_equal(lv_subindex_match(x, lv_slice_str(topics[k]))->n, 0);
  lv_subindex_free(x);
}

/* A group counts for itself, even when two of its kind have the same owner. */
static void test_shared_targets(void **state) {
  lv_subindex *x = lv_subindex_new();
  int t[2];
  lv_sub *a = sub_make("a/#", &t[0], 1, 0, LV_SUB_SHARED), *b = sub_make("a/b", &t[1], 2, 0, 0),
         *c = sub_make("a/+", &t[1], 0, 7, 0);
  lv_subindex_add(x, a);
  lv_subindex_add(x, b);
  lv_subindex_add(x, c);
  const lv_match *m = lv_subindex_match(x, LV_SLICE("a/b"));
  assert_int_equal(m->n, 2);
  lv_subindex_remove(x, c);
  m = lv_subindex_match(x, LV_SLICE("a/b"));
  for (uint32_t i = 0; i < m->n; i++) assert_int_equal(m->targets[i].n, 1);
  lv_subindex_free(x); /* those that are in it are forgotten */
  free(a);
  free(b);
  free(c);
}

/* Many topics: the cache replaces, and stays right. */
static void test_many_topics(void **state) {
  lv_subindex *x = lv_subindex_new();
  int t;
  lv_sub *all = sub_make("t/#", &t, 0, 0, 0), *one = sub_make("t/777", &t, 1, 0, 0);
  lv_subindex_add(x, all);
  char topic[32];
  for (int round = 0; round < 2; round++) {
    for (int i = 0; i < 3 * LV_MATCH_SLOTS; i++) {
      snprintf(topic, sizeof topic, "t/%d", i);
      const lv_match *m = lv_subindex_match(x, lv_slice_str(topic));
      assert_int_equal(m->n, 1);
      assert_int_equal(m->targets[0].n, round && i == 777 ? 2 : 1);
    }
    if (!round) lv_subindex_add(x, one);
  }
  lv_subindex_free(x);
  free(all);
  free(one);
}

/* ---- retained ---- */

typedef struct kept {
  char topic[64];
  uint64_t lsn;
  bool there, seen;
} kept;

static void apply(lv_retained *r, uint32_t app, const char *topic, const char *val, uint64_t lsn,
                  uint32_t ttl, int64_t at) {
  _Alignas(8) uint8_t buf[512];
  lv_rec_in in = {.kind = LV_REC_MSG,
                  .flags = LV_REC_RETAIN,
                  .topic = lv_slice_str(topic),
                  .val = lv_slice_str(val),
                  .ingest_ns = at,
                  .expiry_s = ttl,
                  .has_expiry = ttl > 0};
  uint32_t size;
  assert_int_equal(lv_rec_size(&in, &size), 0);
  lv_rec *rec = lv_rec_write(&in, buf, size);
  rec->lsn = lsn;
  lv_retained_apply(r, app, rec, 0);
}

static void mark(void *arg, lv_block *block, const lv_rec *rec, uint8_t log) {
  kept *k = arg;
  assert_true((const uint8_t *)rec >= block->data);
  for (int i = 0; i < TOPICS; i++) {
    if (!lv_slice_eq(lv_slice_str(k[i].topic), lv_rec_topic(rec))) continue;
    assert_false(k[i].seen);
    assert_true(k[i].there);
    assert_int_equal(k[i].lsn, rec->lsn);
    k[i].seen = true;
    return;
  }
  fail_msg("a message that nobody retained");
}

static void walk_all(lv_retained *r, uint32_t app, const char *filter, uint32_t step,
                     lv_retained_fn *fn, void *arg) {
  lv_retained_walk w;
  lv_retained_walk_start(&w, r, app, lv_slice_str(filter));
  while (lv_retained_walk_step(&w, step, fn, arg)) {
  }
  lv_retained_walk_stop(&w);
}

static void test_retained(void **state) {
  lv_retained *r = lv_retained_new();
  static kept k[TOPICS];
  lv_rand rnd;
  lv_rand_init(&rnd, 2);
  int n = 0;
  while (n < TOPICS) { /* distinct topics */
    random_text(&rnd, false, k[n].topic, sizeof k[n].topic);
    bool dup = false;
    for (int i = 0; i < n; i++) dup |= strcmp(k[i].topic, k[n].topic) == 0;
    if (!dup) n++;
  }
  uint64_t lsn = 8;
  for (int round = 0; round < ROUNDS; round++) {
    kept *x = &k[lv_rand_below(&rnd, TOPICS)];
    bool gone = lv_rand_below(&rnd, 3) == 0;
    apply(r, 3, x->topic, gone ? "" : "v", x->lsn = lsn, 0, 0);
    apply(r, 4, x->topic, "other app", lsn, 0, 0);
    lsn += 8;
    x->there = !gone;
    if (x->there && lv_rand_below(&rnd, 4) == 0) apply(r, 3, x->topic, "older", lsn - 16, 0, 0);
    char f[64];
    random_text(&rnd, true, f, sizeof f);
    for (int i = 0; i < TOPICS; i++) k[i].seen = false;
    walk_all(r, 3, f, 1 + (uint32_t)lv_rand_below(&rnd, 50), mark, k);
    for (int i = 0; i < TOPICS; i++) {
      bool want = k[i].there && lv_mqtt_match(lv_slice_str(f), lv_slice_str(k[i].topic));
      if (want != k[i].seen) fail_msg("filter %s, topic %s", f, k[i].topic);
    }
  }
  uint64_t count, bytes, there = 0;
  for (int i = 0; i < TOPICS; i++) {
    there += k[i].there;
    apply(r, 4, k[i].topic, "", lsn, 0, 0);
  }
  lv_retained_count(r, &count, &bytes);
  assert_int_equal(count, there);
  for (int i = 0; i < TOPICS; i++) apply(r, 3, k[i].topic, "", lsn, 0, 0);
  lv_retained_count(r, &count, &bytes);
  assert_int_equal(count, 0);
  assert_int_equal(bytes, 0);
  lv_retained_free(r);
}

static void tally(void *arg, lv_block *block, const lv_rec *rec, uint8_t log) {
  int *seen = arg, i = 0;
  lv_slice topic = lv_rec_topic(rec);
  for (uint32_t at = 2; at < topic.n && topic.p[at] != '/'; at++) i = i * 10 + topic.p[at] - '0';
  seen[i]++;
}

/* Half of the topics come and go while the walk stands among them; the others are seen once. */
static void test_retained_walk_meanwhile(void **state) {
  enum { N = 200 };
  lv_retained *r = lv_retained_new();
  char topic[32];
  lv_rand rnd;
  lv_rand_init(&rnd, 3);
  uint64_t lsn = 8;
  for (int round = 0; round < 50; round++) {
    int seen[N] = {0};
    const char *deep = round % 2 ? "t/%d/x/y" : "t/%d";
    for (int i = 0; i < N; i++) {
      snprintf(topic, sizeof topic, deep, i);
      apply(r, 0, topic, "v", lsn += 8, 0, 0);
    }
    lv_retained_walk w;
    lv_retained_walk_start(&w, r, 0, round % 3 ? LV_SLICE("t/#") : LV_SLICE("#"));
    while (lv_retained_walk_step(&w, 1 + (uint32_t)lv_rand_below(&rnd, 3), tally, seen)) {
      for (int k = 0; k < N / 2; k++) {
        snprintf(topic, sizeof topic, deep, k * 2);
        apply(r, 0, topic, lv_rand_below(&rnd, 2) ? "" : "v", lsn += 8, 0, 0);
      }
      if (lv_rand_below(&rnd, 400) == 0) break; /* the client is gone */
    }
    bool whole = w.at == NULL;
    lv_retained_walk_stop(&w);
    for (int i = 1; i < N && whole; i += 2) assert_int_equal(seen[i], 1);
    for (int i = 0; i < N; i++) {
      snprintf(topic, sizeof topic, deep, i);
      apply(r, 0, topic, "", lsn += 8, 0, 0);
    }
    uint64_t count, bytes;
    lv_retained_count(r, &count, &bytes);
    assert_int_equal(count, 0);
  }
  lv_retained_free(r);
}

/* Would it be taken? */
static bool fits(lv_retained *r, uint32_t app_id, const char *topic, uint32_t n, uint64_t max_count,
                 uint64_t max_bytes) {
  bool yes = lv_retained_claim(r, app_id, lv_slice_str(topic), n, max_count, max_bytes);
  if (yes) lv_retained_unclaim(r, app_id, lv_slice_str(topic));
  return yes;
}

static void test_retained_limits(void **state) {
  lv_retained *r = lv_retained_new();
  assert_true(fits(r, 0, "a", 100, 1, 200));
  apply(r, 0, "a", "v", 8, 0, 0);
  uint64_t count, bytes;
  lv_retained_count(r, &count, &bytes);
  assert_false(fits(r, 0, "b", 1, 1, 0));       /* one more */
  assert_true(fits(r, 0, "a", 100, 1, 200));    /* in its place */
  assert_false(fits(r, 0, "b", 100, 2, bytes)); /* bytes */
  assert_true(fits(r, 0, "b", 100, 2, bytes + 100));
  assert_true(fits(r, 7, "b", 100, 1, 100)); /* another app's */
  lv_retained_free(r);
}

/* Several on their way: the bound holds for what they will be, whatever the order. */
static void test_retained_claims(void **state) {
  lv_retained *r = lv_retained_new();
  lv_slice a = LV_SLICE("a"), b = LV_SLICE("b/x"), c = LV_SLICE("c");
  uint64_t count, bytes;
  assert_true(lv_retained_claim(r, 0, a, 60, 2, 200));
  assert_true(lv_retained_claim(r, 0, a, 100, 2, 200)); /* the same topic: counts once */
  assert_true(lv_retained_claim(r, 0, a, 80, 2, 200));
  assert_false(lv_retained_claim(r, 0, b, 101, 2, 200)); /* 100 are taken */
  assert_true(lv_retained_claim(r, 0, b, 100, 2, 200));
  assert_false(lv_retained_claim(r, 0, c, 1, 2, 0)); /* two topics are taken */
  assert_false(lv_retained_claim(r, 0, b, 101, 2, 200));
  lv_retained_count(r, &count, &bytes);
  assert_true(count == 0 && bytes == 0); /* and nothing is there */
  lv_retained_unclaim(r, 0, b);          /* failed */
  assert_true(lv_retained_claim(r, 0, c, 100, 2, 200));
  apply(r, 0, "a", "v", 8, 0, 0);
  lv_retained_unclaim(r, 0, a);
  assert_false(fits(r, 0, "b/x", 1, 2, 0)); /* stays taken: two more are on their way to it */
  apply(r, 0, "a", "", 16, 0, 0);
  lv_retained_unclaim(r, 0, a);
  assert_false(fits(r, 0, "b/x", 1, 2, 0));
  lv_retained_unclaim(r, 0, a); /* failed; the topic had been emptied before */
  assert_true(fits(r, 0, "b/x", 100, 2, 200));
  lv_retained_unclaim(r, 0, c);
  assert_true(fits(r, 0, "b/x", 200, 1, 200));
  lv_retained_free(r);
}

static void count_one(void *arg, lv_block *block, const lv_rec *rec, uint8_t log) {
  ++*(int *)arg;
}

static void test_retained_expiry(void **state) {
  lv_retained *r = lv_retained_new();
  char topic[64];
  for (int i = 0; i < 3000; i++) {
    snprintf(topic, sizeof topic, "x/%d/y", i);
    apply(r, 0, topic, "v", 8, i % 3 ? 10 : 0, 1000);
  }
  apply(r, 0, "x/1", "parent", 8, 0, 0);
  uint64_t count, bytes;
  for (int i = 0; i < 20; i++) lv_retained_expire(r, INT64_C(9999999999));
  lv_retained_count(r, &count, &bytes);
  assert_int_equal(count, 3001);
  for (int i = 0; i < 20; i++) lv_retained_expire(r, INT64_C(10000002000));
  lv_retained_count(r, &count, &bytes);
  assert_int_equal(count, 1001);
  int n = 0;
  walk_all(r, 0, "x/+/y", 100, count_one, &n);
  assert_int_equal(n, 1000);
  n = 0;
  walk_all(r, 0, "x/1/#", 100, count_one, &n);
  assert_int_equal(n, 1);
  lv_retained_free(r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_subindex),
      cmocka_unit_test(test_shared_targets),
      cmocka_unit_test(test_many_topics),
      cmocka_unit_test(test_retained),
      cmocka_unit_test(test_retained_walk_meanwhile),
      cmocka_unit_test(test_retained_limits),
      cmocka_unit_test(test_retained_claims),
      cmocka_unit_test(test_retained_expiry),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
