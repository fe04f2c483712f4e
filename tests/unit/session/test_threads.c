/* Three loops on their own threads: clients of few ids come and go everywhere, take each other's
 * sessions, publish, subscribe, share; then all is quiet and the ledger holds. Made for TSan. */
#include "core/rand.h"
#include "kit.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
/* after the above */
#include <cmocka.h>

enum { LOOPS = 3, IDS = 6, ROUNDS = 2000, ACTIONS = 12, WAIT_S = 30 };

typedef struct actor { /* one a loop */
  kit *k;
  int loop;
  lv_rand rand;
  client *c[IDS];
} actor;

static actor actors[LOOPS];
static const char *const topics[] = {"m/a", "m/b", "d/a", "d/b/c", "x/y", "m"};
static const char *const filters[] = {"m/#",        "d/a",          "+/b",          "#",
                                      "$share/g/#", "$share/h/m/+", "$share/g/d/#", "x/+"};

static void act(actor *a) {
  client *c = a->c[lv_rand_below(&a->rand, IDS)];
  uint64_t what = lv_rand_below(&a->rand, 20);
  if (!c->sess) {
    bool with_will = lv_rand_below(&a->rand, 4) == 0;
    if (!c->asked && what < 2)
      client_ask(c, (opts){.clean = what == 0,
                           .expiry_s = lv_rand_below(&a->rand, 3) ? 100 : 0,
                           .receive_max = (uint16_t)(1 + lv_rand_below(&a->rand, 20)),
                           .will_topic = with_will ? "m/will" : NULL,
                           .will = "w"});
    if (c->asked && what == 19) client_cut(c);
    return;
  }
  if (!c->open || c->closing) return;
  if (what < 10) {
    const char *t = topics[lv_rand_below(&a->rand, 6)];
    (void)client_publish(c, t, "payload", (uint8_t)lv_rand_below(&a->rand, 3), what == 0);
  } else if (what < 14) {
    (void)client_sub_send(c, filters[lv_rand_below(&a->rand, 8)],
                          (uint8_t)lv_rand_below(&a->rand, 3), (subopts){.id = 1});
  } else if (what == 14) {
    client_cut(c);
  } else if (what == 15) {
    client_bye(c);
  } else if (what < 18) {
    c->blocked = !c->blocked;
  }
}

static void act_many(lv_loop *loop, void *arg) {
  actor *a = &actors[loop->index];
  (void)arg;
  for (int i = 0; i < ACTIONS; i++) act(a);
}

static void calm(lv_loop *loop, void *arg) {
  actor *a = &actors[loop->index];
  (void)arg;
  for (int i = 0; i < IDS; i++) a->c[i]->blocked = false;
}

static void leave(lv_loop *loop, void *arg) {
  actor *a = &actors[loop->index];
  (void)arg;
  for (int i = 0; i < IDS; i++) {
    client *c = a->c[i];
    if (!c->sess && !c->asked) client_ask(c, (opts){.clean = true});
  }
}

/* What is owed is delivered once everybody takes it, or goes with its session. */
static bool at_rest(kit *k) {
  time_t end = time(NULL) + WAIT_S;
  while (time(NULL) < end) {
    for (int i = 0; i < 20; i++) kit_step(k);
    if (kit_gauge(k, LV_G_PENDING) == 0 && kit_gauge(k, LV_G_INFLIGHT) == 0) return true;
  }
  return false;
}

static void run(uint64_t seed) {
  kit *k = kit_new(LOOPS, NULL);
  char id[8];
  for (int l = 0; l < LOOPS; l++) {
    actors[l] = (actor){.k = k, .loop = l};
    lv_rand_init(&actors[l].rand, seed + (uint64_t)l);
    for (int i = 0; i < IDS; i++) {
      snprintf(id, sizeof id, "id%d", i);
      client *c = client_new(k, l, id, i % 3 ? LV_MQTT_V5 : LV_MQTT_V3);
      c->auto_ack = c->stream = true;
      actors[l].c[i] = c;
    }
  }
  kit_threads(k);
  for (int round = 0; round < ROUNDS; round++) {
    for (int l = 0; l < LOOPS; l++) lv_loop_call(k->loop[l], act_many, NULL);
    if (round % 4 == 0) kit_step(k);
  }
  for (int l = 0; l < LOOPS; l++) lv_loop_call(k->loop[l], calm, NULL);
  kit_step(k);
  /* Every id is claimed anew and ends, with what was owed to it. */
  for (int l = 0; l < LOOPS; l++) lv_loop_call(k->loop[l], leave, NULL);
  if (!at_rest(k))
    fail_msg("seed %llu: %lld pending, %lld in flight", (unsigned long long)seed,
             (long long)kit_gauge(k, LV_G_PENDING), (long long)kit_gauge(k, LV_G_INFLIGHT));
  kit_ledger(k);
  assert_true(kit_count(k, LV_C_HUB_OUT) > 1000);
  kit_free(k);
}

static void test_storm(void **state) {
  for (uint64_t seed = 1; seed <= 3; seed++) run(seed * 1000);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_storm)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
