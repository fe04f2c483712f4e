/* faults.c: storage that fails: outcomes stay in order, nothing acknowledged is lost, nothing that
 * failed for lack of space shows up, and service resumes. */
#include "conform.h"
#include <stdio.h>
#include <stdlib.h>

typedef struct told { /* err of each message, by publisher, channel and sequence */
  int *err[RIG_LOOPS][RIG_CHANS];
} told;

static void told_make(const rig *r, told *t) {
  for (int i = 0; i < RIG_LOOPS; i++) {
    const rig_loop *rl = &r->loops[i];
    uint64_t next[RIG_CHANS] = {0};
    for (uint32_t c = 0; c < RIG_CHANS; c++) t->err[i][c] = calloc(rl->seq[c] + 2, sizeof(int));
    for (uint32_t k = 0; k < rl->n_acks; k++) {
      const acked *a = &rl->acks[k];
      CHECK(a->seq == next[a->chan] + 1, "outcome of %llu after %llu", (unsigned long long)a->seq,
            (unsigned long long)next[a->chan]);
      next[a->chan] = a->seq;
      CHECK(a->err == 0 || a->err == LV_E_IO || a->err == LV_E_DISK_FULL, "error %s",
            lv_err_name(a->err));
      t->err[i][a->chan][a->seq] = a->err ? a->err : 1;
    }
  }
}

static void told_free(told *t) {
  for (int i = 0; i < RIG_LOOPS; i++)
    for (uint32_t c = 0; c < RIG_CHANS; c++) free(t->err[i][c]);
}

/* Compares what is readable with what was told. Returns how many had failed. */
static uint32_t check_told(rig *r, const rig *before, bool memory_kept) {
  told t = {0};
  uint32_t failed = 0;
  told_make(before, &t);
  for (uint8_t log = 0; log < LV_DURABILITY_COUNT; log++) {
    seen_list got = {0};
    uint64_t last[RIG_LOOPS][RIG_CHANS] = {0};
    rig_read(r, log, 0, NULL, 0, 1000, 1u << 20, &got, NULL);
    for (uint32_t k = 0; k < got.n; k++) {
      const seen *s = &got.v[k];
      CHECK(s->seq > last[s->pub][s->chan], "reordered or repeated");
      last[s->pub][s->chan] = s->seq;
      int *e = &t.err[s->pub][s->chan][s->seq];
      CHECK(*e != LV_E_DISK_FULL, "a message that was refused is visible");
      *e = 2; /* seen */
    }
    seen_clear(&got);
  }
  for (int i = 0; i < RIG_LOOPS; i++)
    for (uint32_t c = 0; c < RIG_CHANS; c++)
      for (uint64_t q = 1; q <= before->loops[i].seq[c]; q++) {
        int e = t.err[i][c][q];
        failed += e < 0;
        if (!memory_kept && r->chan[c]->durability == LV_DURABILITY_MEMORY) continue;
        CHECK(e != 1, "acked message %llu of loop %d in channel %u is lost", (unsigned long long)q,
              i, c);
      }
  told_free(&t);
  return failed;
}

/* Feeds never show what failed, and show each visible message once. */
static void check_fed(const rig *r) {
  told t = {0};
  told_make(r, &t);
  for (int log = 0; log < LV_DURABILITY_COUNT; log++) {
    const seen_list *feed = &r->loops[1].feed[log];
    uint64_t last = 0;
    for (uint32_t k = 0; k < feed->n; k++) {
      const seen *s = &feed->v[k];
      CHECK(s->lsn > last, "an address is given twice");
      last = s->lsn;
      int *e = &t.err[s->pub][s->chan][s->seq];
      CHECK(*e == 1, "fed: outcome was %s", lv_err_name(*e));
      *e = 2;
    }
  }
  for (int i = 0; i < RIG_LOOPS; i++)
    for (uint32_t c = 0; c < RIG_CHANS; c++)
      for (uint64_t q = 1; q <= r->loops[i].seq[c]; q++)
        CHECK(t.err[i][c][q] != 1, "acked and not fed");
  told_free(&t);
}

static bool healthy(rig *r, void *arg) {
  (void)arg;
  lv_broker_desc d;
  pthread_mutex_unlock(&r->mu);
  if (r->kind->tend) r->kind->tend(r->kind->env, r->broker);
  CHECK(r->broker->ops->describe(r->broker, &d) == 0, "describe");
  pthread_mutex_lock(&r->mu);
  return d.healthy;
}

void conform_faults(const conform_kind *kind) {
  if (!kind->faults) {
    printf("  left out: failing storage (cannot be made with this type)\n");
    return;
  }
  uint32_t failed = 0;
  for (int round = 0; round < 6; round++) {
    rig r, b;
    kind->wipe(kind->env);
    rig_open(&r, kind, 0);
    (void)rig_interest(&r, 1, true);
    rig_publish(&r, 200);
    kind->faults(kind->env, true);
    rig_publish(&r, 1000);
    kind->faults(kind->env, false);
    rig_wait(&r, healthy, NULL, "service resumes");
    uint32_t before[RIG_LOOPS];
    for (int i = 0; i < RIG_LOOPS; i++) before[i] = r.loops[i].n_acks;
    rig_publish(&r, 300);
    for (int i = 0; i < RIG_LOOPS; i++)
      for (uint32_t k = before[i]; k < r.loops[i].n_acks; k++)
        CHECK(r.loops[i].acks[k].err == 0, "%s after it resumed",
              lv_err_name(r.loops[i].acks[k].err));
    rig_settle(&r);
    check_fed(&r);
    failed += check_told(&r, &r, false);
    bool power = round % 2 == 1;
    if (kind->crash)
      rig_crash(&r, power);
    else
      rig_close(&r);
    rig_open(&b, kind, 0);
    (void)check_told(&b, &r, false);
    rig_close(&b);
    rig_clear(&b);
    rig_clear(&r);
  }
  CHECK(failed > 0, "no fault was met: the check proves nothing");
  printf("  ok   failing writes and syncs: %u refused, none acked was lost, service resumed\n",
         failed);
}
