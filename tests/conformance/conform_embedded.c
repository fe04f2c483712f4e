/* conform_embedded.c: runs the conformance suite on the embedded broker.
 *
 * usage: conform_embedded memory|disk|mixed|twin
 *   memory, disk  channels of one durability, on the real disk, all in the tail
 *   mixed         both, on the real disk, with a small tail and small segments
 *   twin          both, on the faulty twin, with crashes and failing storage */
#include "broker/embedded/embedded_int.h"
#include "conform.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct env {
  char dir[256]; /* real disk */
  lv_disk *twin; /* or this one */
  uint64_t tail_bytes, segment_bytes, seed;
} env;

static int env_open(void *arg, lv_broker **ret, char *why) {
  env *e = arg;
  lv_embedded_conf conf = {.dir = e->dir,
                           .disk = e->twin,
                           .tail_bytes = e->tail_bytes,
                           .segment_bytes = e->segment_bytes,
                           .sync_interval_ms = 20};
  if (e->twin) lv_disk_fault_kill(e->twin); /* the process before this one is gone, with its lock */
  return lv_embedded_open(&conf, ret, why);
}

static int remove_one(void *arg, const char *name) {
  lv_disk *d = arg;
  return d->ops->remove(d, name);
}

static void env_wipe(void *arg) {
  env *e = arg;
  lv_disk *d = e->twin;
  if (e->twin) {
    e->twin->ops->free(e->twin);
    lv_disk_faults none = {.seed = ++e->seed};
    e->twin = lv_disk_fault_new(&none);
    return;
  }
  CHECK(lv_disk_file_new(e->dir, &d) == 0, "folder %s", e->dir);
  CHECK(d->ops->list(d, remove_one, d) == 0, "emptying %s", e->dir);
  d->ops->free(d);
}

static void env_crash(void *arg, lv_broker *b, bool power) {
  env *e = arg;
  if (e->twin && power) lv_disk_fault_crash(e->twin);
  if (e->twin && !power) lv_disk_fault_kill(e->twin);
  lv__embedded_abandon(b);
}

static void env_faults(void *arg, bool on) {
  env *e = arg;
  lv_disk_faults f = {.seed = ++e->seed};
  if (on) {
    f.write_error = 20000;
    f.short_then_error = 20000;
    f.sync_error = 20000;
    f.full = 20000;
  }
  lv_disk_fault_set(e->twin, &f);
}

static void env_tend(void *arg, lv_broker *b) {
  (void)arg;
  lv__keeper_round_soon(lv__embedded(b));
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  env e = {.seed = 1};
  conform_kind kind = {
      .name = what, .open = env_open, .wipe = env_wipe, .tend = env_tend, .env = &e};
  kind.caps = LV_CAP_REPLAY | LV_CAP_POSITION | LV_CAP_POSITION_ON_ACK | LV_CAP_LAST_PER_KEY |
              LV_CAP_COUNT_RETENTION | LV_CAP_STATE;
  if (argc > 2) e.seed = strtoull(argv[2], NULL, 10);
  if (!strcmp(what, "disk")) {
    kind.durability = LV_DURABILITY_DISK;
  } else if (!strcmp(what, "mixed") || !strcmp(what, "twin")) {
    kind.mixed = true;
    e.tail_bytes = 64 * 1024;
    e.segment_bytes = 1 << 20;
  } else if (strcmp(what, "memory") != 0) {
    fprintf(stderr, "usage: %s memory|disk|mixed|twin [SEED]\n", argv[0]);
    return 64;
  }
  if (!strcmp(what, "twin")) {
    lv_disk_faults none = {.seed = e.seed};
    e.twin = lv_disk_fault_new(&none);
    kind.crash = env_crash;
    kind.faults = env_faults;
  } else {
    const char *tmp = getenv("TMPDIR");
    snprintf(e.dir, sizeof e.dir, "%s/lavva-conform-XXXXXX", tmp ? tmp : "/tmp");
    CHECK(mkdtemp(e.dir), "mkdtemp %s", e.dir);
  }
  printf("embedded/%s seed %llu\n", what, (unsigned long long)e.seed);
  conform_run(&kind);
  env_wipe(&e);
  if (e.twin)
    e.twin->ops->free(e.twin);
  else
    (void)rmdir(e.dir);
  return 0;
}
