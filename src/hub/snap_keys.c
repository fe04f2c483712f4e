/* snap_keys.c: the last message of each key as a snapshot (`snapshot: keys`).
 *
 *   broker: lasts ─▶ addresses, as of `until` ─▶ fetch, some at a time ─▶ the job's frames
 *                                              └ from `until` on: the log, as with any snapshot
 *
 * A message that replaces one of its key leaves a hole in the job's frames, so that these stay in
 * the log's order. An address that is no longer there had a newer message of its key, which comes
 * behind `until` and so is not missed. Keys are 64 bits of the process's seeded hash.
 * @thread loop */
#include "core/hash.h"
#include "hub/snap_int.h"
#include <stdlib.h>

enum { FETCH_COUNT = 256, FETCH_BYTES = 1 << 20, SLOTS_FIRST = 64 };

uint64_t lv__snap_keys_of(const lv_rec *rec) {
  return lv_hash_slice(lv_rec_topic(rec));
}

/* ---- which frame is a key's ---- */

static uint32_t probe(const lv__snap_job *job, uint64_t key) {
  uint32_t s = (uint32_t)key & job->mask;
  while (job->slot[s] && job->f[job->slot[s] - 1].key != key) s = (s + 1) & job->mask;
  return s;
}

/* Frames without holes, and a table of what is left with room for as many again. */
static void rebuild(lv__snap_job *job) {
  uint32_t n = 0, size = SLOTS_FIRST;
  for (uint32_t i = 0; i < job->n; i++)
    if (job->f[i].f.block) job->f[n++] = job->f[i];
  job->n = job->n_keys = n;
  while (size < 4 * (n + 1)) size *= 2;
  free(job->slot);
  job->slot = calloc(size, sizeof *job->slot);
  if (!job->slot) abort();
  job->mask = size - 1;
  for (uint32_t i = 0; i < n; i++) job->slot[probe(job, job->f[i].key)] = i + 1;
}

static void hole(lv__snap_job *job, uint32_t i) {
  lv__snap_frame *f = &job->f[i];
  if (!f->f.block) return;
  job->bytes -= f->f.n;
  lv_block_unref(f->f.block);
  f->f.block = NULL;
}

void lv__snap_keys_forget(lv__snap_job *job, uint64_t key) {
  if (!job->slot) return;
  uint32_t s = probe(job, key);
  if (job->slot[s]) hole(job, job->slot[s] - 1); /* the slot stays: its place keeps the key */
}

void lv__snap_keys_added(lv__snap_job *job, uint64_t key, uint32_t size) {
  job->f[job->n - 1].key = key;
  job->f[job->n - 1].size = size;
  if (!job->slot || 2 * (job->n_keys + 1) > job->mask || job->n > 4 * (job->n_keys + SLOTS_FIRST)) {
    rebuild(job); /* with the new frame */
    return;
  }
  uint32_t s = probe(job, job->f[job->n - 1].key);
  job->n_keys += job->slot[s] == 0;
  job->slot[s] = job->n;
}

void lv__snap_keys_close(lv__snap_job *job) {
  uint32_t keys = atomic_load(&job->only->last_keys), n = 0, live = 0;
  uint64_t bytes = 0, most = job->only->last_bytes;
  for (uint32_t i = 0; i < job->n; i++) {
    live += job->f[i].f.block != NULL;
    bytes += job->f[i].f.block ? job->f[i].size : 0;
  }
  for (uint32_t i = 0; i < job->n; i++) {
    if (!job->f[i].f.block) continue;
    if (keys && (live > keys || (bytes > most && live > 1))) {
      bytes -= job->f[i].size;
      live--;
      hole(job, i);
    } else {
      job->f[n++] = job->f[i];
    }
  }
  job->n = n;
  lv__snap_keys_free(job);
}

void lv__snap_keys_free(lv__snap_job *job) {
  free(job->slot);
  free(job->lsns);
  free(job->lasts.at);
  job->slot = NULL;
  job->lsns = NULL;
  job->lasts = (lv_lasts){0};
  job->mask = job->n_keys = job->next_last = 0;
}

/* ---- from the broker ---- */

static void fetch_more(lv__snap_job *job);

static void fetched(lv_fetch *fetch) {
  lv__snap_job *job = fetch->arg;
  int err = fetch->err ? fetch->err : job->hl->ended ? LV_E_SHUTDOWN : 0;
  for (uint32_t i = 0; !err && i < fetch->n; i++)
    if (fetch->recs[i] && fetch->recs[i]->chan == job->only->id) lv__snap_take(job, fetch->recs[i]);
  lv_broker_fetch_free(fetch);
  if (err)
    lv__snap_job_done(job, NULL, err);
  else
    fetch_more(job);
}

static void fetch_more(lv__snap_job *job) {
  const lv_lasts *l = &job->lasts;
  uint32_t n = 0;
  uint64_t bytes = 0;
  while (job->next_last < l->n && n < FETCH_COUNT && bytes < FETCH_BYTES) {
    const lv_last_at *at = &l->at[job->next_last++];
    job->lsns[n++] = at->lsn;
    bytes += at->size;
  }
  if (n == 0) {
    if (l->next_offset > job->next_offset) job->next_offset = l->next_offset;
    lv__snap_read_on(job, l->until);
    return;
  }
  job->fetch = (lv_fetch){.loop = job->hl->loop,
                          .log = job->only->durability,
                          .lsns = job->lsns,
                          .n = n,
                          .done = fetched,
                          .arg = job};
  int err = job->hl->broker->ops->fetch(job->hl->broker, &job->fetch);
  if (err) lv__snap_job_done(job, NULL, err);
}

void lv__snap_keys_start(lv__snap_job *job) {
  lv_broker *b = job->hl->broker;
  int err = b->ops->lasts ? b->ops->lasts(b, job->only, &job->lasts) : LV_E_UNSUPPORTED;
  if (err) {
    lv__snap_job_done(job, NULL, err);
    return;
  }
  job->until = job->lasts.until;
  job->next_offset = 0;
  job->next_last = 0;
  job->lsns = malloc(FETCH_COUNT * sizeof *job->lsns);
  if (!job->lsns) abort();
  fetch_more(job);
}
