/* log_sim.c: drives the embedded log through the disk's faulty twin, from a seed.
 *
 *   log-sim [--seeds N] [--seed S] [-v]     runs seeds S … S + N - 1
 *
 * Each seed picks a configuration, a set of faults, and a few hundred steps: appends of several
 * batches to many channels, syncs in halves with appends between, housekeeping in its three parts,
 * power losses (also in the middle of any operation), kills, clean restarts, failed writes and
 * syncs, a full disk. log_model.c judges what comes back. Prints the seed and what is wrong;
 * exit 1. A failing seed replays exactly. */
#include "log_model.h"
#include <stdio.h>
#include <stdlib.h>

typedef struct sim {
  uint64_t seed, rng, next_id, opens;
  lv_disk *disk;
  lv_disk_faults faults;
  lv_elog_conf conf;
  lv_elog *log;
  lv_elog_recovery rec;
  sim_model model;
  lv_elog_sync sync;
  bool syncing, sync_ran;
  lv_elog_job *job;
  bool job_ran, failed, verbose;
  int64_t now_ns;
  uint64_t keep_count[SIM_CHANS + 1], keep_ms[SIM_CHANS + 1];
  bool unknown[SIM_CHANS + 1];
  uint64_t crashes, kills, closes, reopens, appended, errors, dropped;
} sim;

static uint64_t rnd(sim *s) {
  s->rng += 0x9E3779B97F4A7C15u;
  uint64_t v = s->rng;
  v = (v ^ v >> 30) * 0xBF58476D1CE4E5B9u;
  v = (v ^ v >> 27) * 0x94D049BB133111EBu;
  return v ^ v >> 31;
}
static uint32_t below(sim *s, uint32_t n) {
  return (uint32_t)(rnd(s) % n);
}

static void say(sim *s, const char *what) {
  if (s->verbose)
    (void)fprintf(stderr, "  end %llu: %s\n",
                  s->log ? (unsigned long long)lv_elog_end(s->log) : 0ull, what);
}

static bool fails(sim *s, const char *where) {
  (void)printf("seed %llu: %s: %s\n", (unsigned long long)s->seed, where, s->model.why);
  s->failed = true;
  return false;
}

static sim_rec random_rec(sim *s) {
  sim_rec r = {.id = ++s->next_id, .kind = LV_REC_MSG};
  uint32_t kind = below(s, 10);
  r.chan = 1 + below(s, 2 + below(s, SIM_CHANS - 1));
  r.key = (uint8_t)below(s, SIM_KEYS);
  r.val_n = below(s, 200);
  if (below(s, 60) == 0) r.val_n = below(s, 6000);
  if (kind < 2) {
    r.kind = LV_REC_STATE;
    r.chan = 0;
    r.val_n = below(s, 3) ? 1 + below(s, 60) : 0;
  } else if (kind == 2) {
    r.flags = LV_REC_RETAIN;
    r.val_n = below(s, 4) ? 1 + below(s, 60) : 0;
  }
  r.ingest_ns = s->now_ns += below(s, 1000) * 1000000;
  return r;
}

static lv_batch *make_batch(sim_rec *recs, uint32_t n) {
  lv_rec_in in[16];
  char topics[16][SIM_TOPIC];
  static uint8_t vals[16][8192];
  uint32_t total = 0;
  for (uint32_t i = 0; i < n; i++) {
    sim_topic(&recs[i], topics[i]);
    sim_value(&recs[i], vals[i]);
    in[i] = (lv_rec_in){.kind = recs[i].kind,
                        .flags = recs[i].flags,
                        .chan = recs[i].chan,
                        .key_off = LV_REC_NO_KEY,
                        .ingest_ns = recs[i].ingest_ns,
                        .topic = lv_slice_str(topics[i]),
                        .val = lv_slice_of(vals[i], recs[i].val_n)};
    if (lv_rec_size(&in[i], &recs[i].size) < 0) abort();
    total += recs[i].size;
  }
  lv_block *b = lv_block_new(total);
  for (uint32_t i = 0; i < n; i++) {
    (void)lv_rec_write(&in[i], b->data + b->used, recs[i].size);
    b->used += recs[i].size;
  }
  lv_batch *batch = lv_batch_new(b, b->data);
  batch->bytes = total;
  batch->count = n;
  return batch;
}

/* Moves what the log stamped into the model. */
static bool enter_batch(sim *s, const lv_batch *b, sim_rec *recs, bool attempt) {
  sim_model *m = &s->model;
  uint32_t i = 0;
  m->touched |= !attempt;
  for (const lv_rec *r = lv_batch_first(b); r; r = lv_batch_next(b, r), i++) {
    recs[i].lsn = r->lsn;
    recs[i].offset = r->offset;
    if (attempt) {
      if (m->n_attempt < 64) m->attempt[m->n_attempt++] = recs[i];
      continue;
    }
    uint64_t floor = m->memory ? m->max_lsn : m->synced;
    if (r->lsn < floor && !m->rot) {
      (void)snprintf(m->why, sizeof m->why, "lsn %llu was visible before",
                     (unsigned long long)r->lsn);
      return fails(s, "append");
    }
    if (r->kind == LV_REC_MSG && r->offset < m->visible_next[r->chan] && !m->rot) {
      (void)snprintf(m->why, sizeof m->why, "chan %u: offset %llu was visible before", r->chan,
                     (unsigned long long)r->offset);
      return fails(s, "append");
    }
    if (m->memory && r->kind == LV_REC_MSG) m->visible_next[r->chan] = r->offset + 1;
    sim_push(m, &recs[i]);
    if (m->memory) m->max_lsn = r->lsn + r->size;
  }
  return true;
}

static bool step_append(sim *s) {
  enum { MOST = 4 };
  lv_batch *batches[MOST];
  sim_rec recs[MOST][16];
  uint32_t n = 1 + below(s, MOST), done = 0;
  for (uint32_t i = 0; i < n; i++) {
    uint32_t count = 1 + below(s, 8);
    for (uint32_t k = 0; k < count; k++) recs[i][k] = random_rec(s);
    batches[i] = make_batch(recs[i], count);
  }
  int rc = lv_elog_append(s->log, batches, n, &done);
  bool ok = true;
  if (done > 0) s->model.n_attempt = 0;
  for (uint32_t i = 0; ok && i < done; i++) ok = enter_batch(s, batches[i], recs[i], false);
  if (rc < 0) {
    s->errors++;
    bool stamped = done < n && lv_batch_first(batches[done])->lsn != 0;
    if (stamped) s->model.n_attempt = 0;
    for (uint32_t i = done; stamped && ok && i < n && lv_batch_first(batches[i])->lsn; i++)
      ok = enter_batch(s, batches[i], recs[i], true);
  }
  sim_newest(&s->model);
  s->appended += done;
  for (uint32_t i = 0; i < n; i++) lv_batch_unref(batches[i]);
  return ok;
}

static void see_synced(sim *s) {
  sim_model *m = &s->model;
  m->synced = lv_elog_synced(s->log);
  if (m->memory) return;
  for (uint32_t i = m->n; i > 0 && m->recs[i - 1].lsn + m->recs[i - 1].size > m->max_lsn; i--) {
    const sim_rec *r = &m->recs[i - 1];
    if (r->lsn >= m->synced || r->kind != LV_REC_MSG) continue;
    if (r->offset + 1 > m->visible_next[r->chan]) m->visible_next[r->chan] = r->offset + 1;
  }
  if (m->synced > m->max_lsn) m->max_lsn = m->synced;
}

static void step_sync(sim *s) {
  if (!s->syncing) {
    s->syncing = lv_elog_sync_begin(s->log, &s->sync);
    s->sync_ran = false;
  } else if (!s->sync_ran) {
    lv_elog_sync_run(s->log, &s->sync);
    s->sync_ran = true;
  } else {
    s->syncing = false;
    if (lv_elog_sync_finish(s->log, &s->sync) == 0) see_synced(s);
  }
}

static bool on_policy(void *arg, uint32_t chan, uint64_t *keep_ms, uint64_t *keep_bytes,
                      uint64_t *keep_count) {
  sim *s = arg;
  if (chan > SIM_CHANS || s->unknown[chan]) return false;
  *keep_ms = s->keep_ms[chan];
  *keep_bytes = 0;
  *keep_count = s->keep_count[chan];
  return true;
}

static bool on_live(void *arg, const lv_rec *rec) {
  sim *s = arg;
  for (uint32_t i = 0; i < SIM_KEYS; i++)
    if (s->model.newest_state[i] == rec->lsn) return true;
  for (uint32_t i = 0; i < SIM_CHANS * SIM_KEYS; i++)
    if (s->model.newest_retained[i] == rec->lsn) return true;
  return false;
}

/* No message that its policy keeps was passed by the first offset. */
static bool check_firsts(sim *s) {
  sim_model *m = &s->model;
  for (uint32_t c = 1; c <= SIM_CHANS; c++) {
    lv_elog_chan f;
    lv_elog_chan_get(s->log, c, &f);
    if (s->unknown[c]) m->first[c] = f.first_offset;
    for (uint32_t i = 0; i < m->n && f.first_offset > m->first[c]; i++) {
      const sim_rec *r = &m->recs[i];
      if (r->kind != LV_REC_MSG || r->chan != c || r->offset < m->first[c]) continue;
      if (r->offset >= f.first_offset) break;
      bool by_count = s->keep_count[c] && r->offset + s->keep_count[c] < f.next_offset;
      bool by_age = s->keep_ms[c] && r->ingest_ns < s->now_ns - (int64_t)s->keep_ms[c] * 1000000;
      if (by_count || by_age) continue;
      (void)snprintf(m->why, sizeof m->why, "chan %u: offset %llu not due, first %llu next %llu", c,
                     (unsigned long long)r->offset, (unsigned long long)f.first_offset,
                     (unsigned long long)f.next_offset);
      return fails(s, "retention");
    }
    m->first[c] = f.first_offset;
  }
  return true;
}

static bool step_job(sim *s) {
  lv_elog_policy p = {on_policy, on_live, s};
  if (!s->job) {
    s->job = lv_elog_job_plan(s->log, &p, (lv_wall){s->now_ns});
    s->job_ran = false;
  } else if (!s->job_ran) {
    (void)lv_elog_job_run(s->log, s->job);
    s->job_ran = true;
    return check_firsts(s);
  } else {
    uint64_t freed = 0;
    (void)lv_elog_job_apply(s->log, s->job, &freed);
    s->dropped += freed;
    s->job = NULL;
  }
  return true;
}

/* synced: what must be there even if opening fails and loses what a failed sync drops. */
static bool open_log(sim *s, enum sim_end end, uint64_t keeps, uint64_t synced) {
  char why[LV_ELOG_WHY];
  int rc = LV_E_IO;
  for (int tries = 0; rc < 0; tries++) {
    lv_disk_faults calm = {.seed = s->seed};
    if (tries > 2) lv_disk_fault_set(s->disk, &calm);
    s->conf.seed = s->seed + ++s->opens * 1000003;
    rc = lv_elog_open(&s->conf, &s->log, &s->rec, why);
    if (rc == 0) break;
    say(s, why);
    s->model.told |= s->rec.torn_bytes || s->rec.damaged_bytes;
    keeps = keeps < synced ? keeps : synced;
    if (tries > 2) {
      (void)snprintf(s->model.why, sizeof s->model.why, "%s", why);
      return fails(s, "open");
    }
    if (below(s, 2) && end == SIM_CRASHED)
      lv_disk_fault_crash(s->disk);
    else
      lv_disk_fault_kill(s->disk);
    if (s->rec.clean) s->rec.clean = false;
  }
  lv_disk_faults calm = {.seed = s->seed};
  lv_disk_fault_set(s->disk, &calm);
  if (s->verbose)
    (void)fprintf(stderr,
                  "  opened: end %llu segments %u records %llu torn %llu damaged %llu clean %d\n",
                  (unsigned long long)lv_elog_end(s->log), s->rec.segments,
                  (unsigned long long)s->rec.records, (unsigned long long)s->rec.torn_bytes,
                  (unsigned long long)s->rec.damaged_bytes, s->rec.clean);
  bool told = s->rec.damaged_bytes || s->rec.torn_bytes || s->rec.new_epoch;
  bool ok = sim_check(&s->model, s->log, end, keeps, told) || fails(s, "check");
  lv_disk_fault_set(s->disk, &s->faults);
  sim_newest(&s->model);
  if (ok) {
    s->model.memory ? (void)0 : see_synced(s);
    for (uint32_t i = 0; s->model.memory && i < s->model.n; i++) {
      const sim_rec *r = &s->model.recs[i];
      if (r->kind == LV_REC_MSG && r->offset + 1 > s->model.visible_next[r->chan])
        s->model.visible_next[r->chan] = r->offset + 1;
    }
    if (s->model.max_lsn < lv_elog_end(s->log) && !s->model.memory)
      s->model.max_lsn = lv_elog_end(s->log);
  }
  return ok;
}

static void forget(sim *s) {
  if (s->job) lv_elog_job_cancel(s->log, s->job);
  s->job = NULL;
  s->syncing = false;
}

static bool step_down(sim *s, bool power) {
  say(s, power ? "power loss" : "kill");
  bool broken = lv_elog_broken(s->log) || (s->syncing && s->sync_ran && s->sync.err);
  uint64_t synced = lv_elog_synced(s->log), end = lv_elog_end(s->log);
  bool halted = lv_disk_fault_halted(s->disk);
  forget(s);
  if (power)
    lv_disk_fault_crash(s->disk);
  else
    lv_disk_fault_kill(s->disk);
  lv_elog_abandon(s->log);
  s->log = NULL;
  s->model.rot |= power && s->faults.bit_flip_on_crash;
  /* After a kill everything written is there, unless a failed sync dropped it. */
  return open_log(s, power ? SIM_CRASHED : SIM_KILLED, power || broken || halted ? synced : end,
                  synced);
}

static bool step_close(sim *s) {
  say(s, "close");
  while (s->job) (void)step_job(s);
  while (s->syncing) step_sync(s);
  if (s->failed) return false;
  uint64_t synced = lv_elog_synced(s->log), end = lv_elog_end(s->log);
  int rc = lv_elog_close(s->log);
  s->log = NULL;
  lv_disk_fault_kill(s->disk);
  if (rc == 0) s->model.n_attempt = 0;
  /* If it failed, it is as after a failed sync; the note may be there all the same. */
  bool ok = open_log(s, SIM_CLOSED, rc == 0 ? end : synced, rc == 0 ? end : synced);
  if (ok && rc == 0 && !s->rec.clean && s->opens == 0) {
    (void)snprintf(s->model.why, sizeof s->model.why, "not clean after a clean close");
    return fails(s, "close");
  }
  return ok;
}

static bool step_reopen(sim *s) {
  say(s, "reopen");
  while (s->job) (void)step_job(s);
  s->syncing = false;
  if (s->failed) return false;
  uint64_t lost = 0, synced = lv_elog_synced(s->log);
  if (lv_elog_reopen(s->log, &lost) < 0) return true;
  s->reopens++;
  lv_disk_faults calm = {.seed = s->seed};
  lv_disk_fault_set(s->disk, &calm);
  bool ok = sim_check(&s->model, s->log, SIM_REOPENED, synced, lost > 0) || fails(s, "reopen");
  lv_disk_fault_set(s->disk, &s->faults);
  sim_newest(&s->model);
  return ok;
}

static bool step(sim *s) {
  uint32_t what = below(s, 1000);
  if (s->verbose)
    (void)fprintf(stderr, "   %3u end %llx synced %llx broken %d syncing %d job %d\n", what,
                  (unsigned long long)lv_elog_end(s->log),
                  (unsigned long long)lv_elog_synced(s->log), lv_elog_broken(s->log), s->syncing,
                  s->job != NULL);
  if (lv_elog_broken(s->log) && what < 300 && !lv_disk_fault_halted(s->disk)) return step_reopen(s);
  if (lv_disk_fault_halted(s->disk) && what < 400) return step_down(s, below(s, 4) > 0);
  if (what < 450) return step_append(s);
  if (what < 720) {
    step_sync(s);
    return true;
  }
  if (what < 880) return step_job(s);
  if (what < 940) {
    if (lv_elog_needs_next(s->log)) (void)lv_elog_prepare_next(s->log);
    return true;
  }
  if (what < 952) {
    s->faults.capacity = s->faults.capacity ? 0 : 100000 + below(s, 300000);
    lv_disk_fault_set(s->disk, &s->faults);
    return true;
  }
  if (what < 970) {
    lv_disk_fault_halt(s->disk, 1 + below(s, 40));
    return true;
  }
  if (what < 982) return s->crashes++, step_down(s, true);
  if (what < 992) return s->kills++, step_down(s, false);
  return s->closes++, step_close(s);
}

static void configure(sim *s) {
  static const uint32_t rates[4] = {0, 0, 2000, 20000};
  s->model.memory = below(s, 2);
  s->conf = (lv_elog_conf){.disk = s->disk,
                           .name = s->model.memory ? "mem" : "disk",
                           .segment_bytes = 8192u << below(s, 3),
                           .first_bytes = 4096u << below(s, 2),
                           .epoch_on_unclean = s->model.memory};
  s->faults = (lv_disk_faults){.seed = s->seed,
                               .write_error = rates[below(s, 4)],
                               .short_then_error = rates[below(s, 4)],
                               .sync_error = rates[below(s, 4)],
                               .full = rates[below(s, 4)],
                               .read_error = below(s, 8) ? 0 : 500};
  if (s->seed % 10 == 9) s->faults.bit_flip_on_crash = 1000000;
  for (uint32_t c = 1; c <= SIM_CHANS; c++) {
    s->keep_count[c] = below(s, 3) ? 1 + below(s, 60) : 0;
    s->keep_ms[c] = below(s, 3) == 0 ? 1000 + below(s, 60000) : 0;
    s->unknown[c] = below(s, 12) == 0;
  }
}

static void on_finding(void *arg, const char *text) {
  sim *s = arg;
  (void)snprintf(s->model.why, sizeof s->model.why, "%s", text);
}

/* Quiet at last: a clean close, a clean open, nothing to complain about. */
static bool finish(sim *s) {
  lv_disk_faults calm = {.seed = s->seed};
  s->faults = calm;
  lv_disk_fault_set(s->disk, &calm);
  if (lv_disk_fault_halted(s->disk) && !step_down(s, true)) return false;
  lv_disk_fault_halt(s->disk, 0);
  if (lv_elog_broken(s->log) && !step_reopen(s)) return false;
  if (!step_append(s)) return false;
  if (!step_close(s)) return false;
  if (!s->rec.clean && !s->model.rot) {
    (void)snprintf(s->model.why, sizeof s->model.why, "not clean after a clean close");
    return fails(s, "finish");
  }
  int rc = lv_elog_verify(s->disk, s->conf.name, on_finding, s, NULL);
  if (rc < 0 && !s->model.rot) return fails(s, "verify");
  return true;
}

static bool run_seed(uint64_t seed, bool verbose, sim *total) {
  sim *s = calloc(1, sizeof *s);
  if (!s) abort();
  s->seed = s->rng = seed;
  s->verbose = verbose;
  s->now_ns = 1000000000000;
  lv_disk_faults none = {.seed = seed};
  s->disk = lv_disk_fault_new(&none);
  configure(s);
  uint32_t steps = 100 + below(s, 500);
  bool ok = open_log(s, SIM_CLOSED, 0, 0);
  for (uint32_t i = 0; ok && i < steps && !s->model.rot; i++) ok = step(s);
  if (ok) ok = finish(s);
  if (s->log) {
    forget(s);
    lv_elog_abandon(s->log);
  }
  s->disk->ops->free(s->disk);
  total->crashes += s->crashes;
  total->kills += s->kills;
  total->closes += s->closes;
  total->reopens += s->reopens;
  total->appended += s->appended;
  total->errors += s->errors;
  total->dropped += s->dropped;
  total->opens += s->opens;
  sim_model_done(&s->model);
  free(s);
  return ok;
}

int main(int argc, char **argv) {
  uint64_t seeds = 1, seed = 1, bad = 0;
  bool verbose = false;
  for (int i = 1; i < argc; i++) {
    uint64_t *to = strcmp(argv[i], "--seeds") == 0  ? &seeds
                   : strcmp(argv[i], "--seed") == 0 ? &seed
                                                    : NULL;
    if (strcmp(argv[i], "-v") == 0) {
      verbose = true;
    } else if (!to || i + 1 >= argc || lv_slice_u64(lv_slice_str(argv[++i]), to) < 0) {
      (void)fprintf(stderr, "usage: log-sim [--seeds N] [--seed S] [-v]\n");
      return 64;
    }
  }
  sim total = {0};
  for (uint64_t i = 0; i < seeds; i++) bad += !run_seed(seed + i, verbose, &total);
  (void)printf(
      "log-sim: seeds %llu to %llu: %llu failed; %llu opens, %llu power losses, %llu kills, "
      "%llu clean closes, %llu reopens, %llu batches, %llu errors, %llu bytes freed\n",
      (unsigned long long)seed, (unsigned long long)(seed + seeds - 1), (unsigned long long)bad,
      (unsigned long long)total.opens, (unsigned long long)total.crashes,
      (unsigned long long)total.kills, (unsigned long long)total.closes,
      (unsigned long long)total.reopens, (unsigned long long)total.appended,
      (unsigned long long)total.errors, (unsigned long long)total.dropped);
  return bad ? 1 : 0;
}
