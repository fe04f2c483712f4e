/* reader.c: reads of one log: from the tail on the loop itself, else by the reader thread.
 *
 *   lv_read ──▶ everything wanted in the tail? ──yes──▶ served inline, mail to the own loop
 *                    └─no──▶ queue ──▶ reader thread: steps of bounded size, mail when done
 *
 * A step takes from the tail what is there, else from disk: for few channels a merge by lsn of
 * their indexes (places, then grouped reads), for many or all a sequential scan. A read that has
 * found nothing yet goes back to the end of the queue after each step, so a sparse one does not
 * hold up the others. Its state between steps is in the lv_read: `next` and the result in `priv`.
 *
 * What retention removed is told: in a disk step the look-up and the channels' `gone` marks are
 * read under `retain`, which the housekeeper holds while it moves both; in the tail a record below
 * its channel's first offset is skipped and counts as gone.
 *
 * A read yields messages only (kind MSG). No limit on the queue of its own: a session has at most
 * one read or fetch outstanding. */
#include "broker/embedded/embedded_int.h"
#include <stdlib.h>

enum {
  STEP_BYTES = 256 * 1024,     /* one read from disk */
  STEP_INLINE = 256 * 1024,    /* records a loop looks at before the reader takes over */
  STEP_TAIL = 4 * 1024 * 1024, /* records of the tail looked at in one step */
  MERGE_CHANS = 64,            /* with more active channels the log is scanned */
  MERGE_PLACES = 512,
  VIEW_MAX = 32,
};

/* ---- what is wanted ---- */

typedef struct want {
  lv_read *read;
  lv_result *res;
  lv_registry *reg;
  uint32_t last_id; /* of the record looked at before; 0: none */
  const lv_chan_own *last;
} want;

static want want_of(lv_embedded *b, lv_read *read) {
  if (!read->priv) read->priv = lv__result_new(read->max_count < 64 ? read->max_count : 64);
  return (want){.read = read, .res = read->priv, .reg = &b->registry};
}

static const lv_chan_own *wanted_chan(want *w, uint32_t id) {
  if (id == w->last_id) return w->last;
  w->last_id = id;
  w->last = NULL;
  const lv_read *read = w->read;
  if (!read->chans) {
    w->last = lv__registry_get(w->reg, id);
    return w->last;
  }
  uint32_t lo = 0, hi = read->n_chans;
  while (lo < hi) {
    uint32_t mid = lo + (hi - lo) / 2;
    if (read->chans[mid]->id < id)
      lo = mid + 1;
    else
      hi = mid;
  }
  if (lo < read->n_chans && read->chans[lo]->id == id)
    w->last = (const lv_chan_own *)read->chans[lo];
  return w->last;
}

static void tell_missing(lv_read *read, uint64_t before) {
  if (before > read->missing_before) read->missing_before = before;
}

static bool is_full(const want *w, uint32_t size) {
  const lv_read *read = w->read;
  if (w->res->n_recs == 0) return false;
  return w->res->n_recs >= read->max_count || w->res->bytes + size > read->max_bytes;
}

/* Looks at one record at read->next or behind; false when the read is full (it stays unread). */
static bool take(want *w, const lv_rec *r, bool *took) {
  lv_read *read = w->read;
  if (r->kind == LV_REC_MSG) {
    const lv_chan_own *c = wanted_chan(w, r->chan);
    if (c && r->offset < atomic_load_explicit(&c->c.first_offset, memory_order_relaxed)) {
      tell_missing(read, r->lsn + r->size);
    } else if (c) {
      if (is_full(w, r->size)) return false;
      lv__result_add(w->res, r);
      w->res->bytes += r->size;
      *took = true;
    }
  }
  read->next = r->lsn + r->size;
  return true;
}

/* Looks at records in [p, p + n); keeps `block` (takes the reference over) if any was taken. */
static bool take_range(want *w, lv_block *block, const uint8_t *p, uint32_t n, uint64_t until) {
  bool more = true, took = false;
  for (const uint8_t *end = p + n; p < end && more;) {
    const lv_rec *r = (const lv_rec *)p;
    p += r->size;
    if (r->lsn < w->read->next) continue;
    if (r->lsn >= until) break;
    more = take(w, r, &took);
  }
  if (took)
    lv__result_keep(w->res, block);
  else
    lv_block_unref(block);
  return more;
}

/* ---- from the tail ---- */

enum step { STEP_DONE, STEP_MORE, STEP_DISK };

static enum step tail_step(lv_lane *l, want *w, uint64_t until, uint64_t budget) {
  lv_tail_ent ents[VIEW_MAX];
  lv_read *read = w->read;
  for (uint64_t seen = 0; seen < budget;) {
    uint32_t n = 0;
    pthread_mutex_lock(&l->vis);
    bool here = lv__tail_view(&l->tail, read->next, until, VIEW_MAX, ents, &n);
    pthread_mutex_unlock(&l->vis);
    if (!here) return STEP_DISK;
    bool more = true;
    for (uint32_t i = 0; i < n; i++) {
      if (!more) {
        lv_block_unref(ents[i].block);
        continue;
      }
      seen += ents[i].bytes;
      more = take_range(w, ents[i].block, ents[i].start, ents[i].bytes, until);
    }
    if (!more) return STEP_DONE;
    if (n < VIEW_MAX) {
      read->next = until;
      return STEP_DONE;
    }
  }
  return STEP_MORE;
}

/* ---- from disk ---- */

static void tell_gone(lv_lane *l, lv_read *read) {
  if (!read->chans) {
    uint64_t gone = atomic_load(&l->gone);
    if (gone > read->next) tell_missing(read, gone);
    return;
  }
  for (uint32_t i = 0; i < read->n_chans; i++) {
    uint64_t gone = atomic_load(&((lv_chan_own *)read->chans[i])->gone);
    if (gone > read->next) tell_missing(read, gone);
  }
}

/* `edge`: where a record starts or the log ends, at or behind `until`. */
static enum step scan_step(lv_lane *l, want *w, uint64_t edge, uint64_t until) {
  lv_read *read = w->read;
  lv_block *block = NULL;
  uint32_t bytes = 0;
  uint64_t next = read->next;
  int err = lv_elog_scan(l->elog, read->next, edge, STEP_BYTES, &block, &bytes, &next);
  if (err == LV_E_CORRUPT) { /* damaged records are a hole, and told like one */
    lv_count(lv_metrics_mine(), LV_C_BR_ERRORS, 1);
    tell_missing(read, next);
    read->next = next > read->next ? next : until;
    return STEP_MORE;
  }
  if (err) {
    read->err = err;
    return STEP_DONE;
  }
  bool more = true;
  if (block) more = take_range(w, block, block->data, bytes, until);
  if (!more) return STEP_DONE;
  if (!block &&
      next <= read->next) { /* the log ends before what was visible: a failed sync took it */
    tell_missing(read, until);
    next = until;
  }
  read->next = next < until ? next : until;
  return STEP_MORE;
}

static int place_cmp(const void *a, const void *b) {
  const lv_elog_at *x = a, *y = b;
  return x->lsn < y->lsn ? -1 : x->lsn > y->lsn;
}

/* Channels that have something in [next, …), by their newest lsn. */
static uint32_t active_chans(const lv_read *read, uint32_t ret[MERGE_CHANS]) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < read->n_chans; i++) {
    const lv_chan_own *c = (const lv_chan_own *)read->chans[i];
    if (atomic_load_explicit(&c->last_lsn, memory_order_relaxed) < read->next) continue;
    if (n < MERGE_CHANS) ret[n] = c->c.id;
    n++;
  }
  return n;
}

int lv__places_merge(lv_elog *l, const uint32_t *ids, uint32_t n_ids, uint64_t from, uint64_t until,
                     lv_elog_at *at, uint32_t max, uint64_t *ret_upto) {
  uint32_t each = max / n_ids, n = 0;
  *ret_upto = until;
  for (uint32_t i = 0; i < n_ids; i++) {
    int k = lv_elog_find(l, ids[i], from, until, each, at + n);
    if (k < 0) {
      lv_elog_release(at, n);
      return k;
    }
    n += (uint32_t)k;
    if ((uint32_t)k == each && at[n - 1].lsn + 1 < *ret_upto) *ret_upto = at[n - 1].lsn + 1;
  }
  if (n_ids > 1) qsort(at, n, sizeof *at, place_cmp);
  return (int)n;
}

/* Reads n places in groups; false when the read is full or failed. */
static bool take_places(lv_lane *l, want *w, const lv_elog_at *at, uint32_t n) {
  const lv_rec *recs[MERGE_PLACES];
  lv_read *read = w->read;
  for (uint32_t i = 0; i < n;) {
    lv_block *block = NULL;
    uint64_t room = w->res->bytes < read->max_bytes ? read->max_bytes - w->res->bytes : 0;
    /* However little room is left, the next record is read: `take` says whether it fits. */
    uint32_t bytes = room < STEP_BYTES ? (uint32_t)room : STEP_BYTES;
    int k = lv_elog_pread_many(l->elog, at + i, n - i, bytes, &block, recs);
    if (k < 0) {
      read->err = k;
      return false;
    }
    bool more = true, took = false;
    for (int j = 0; j < k && more; j++) {
      if (recs[j])
        more = take(w, recs[j], &took);
      else
        tell_missing(read, read->next = at[i + (uint32_t)j].lsn + LV_REC_ALIGN);
    }
    if (took)
      lv__result_keep(w->res, block);
    else
      lv_block_unref(block);
    if (!more) return false;
    i += (uint32_t)k;
  }
  return true;
}

static enum step merge_step(lv_lane *l, want *w, const uint32_t *ids, uint32_t n_ids,
                            uint64_t until) {
  lv_elog_at at[MERGE_PLACES];
  lv_read *read = w->read;
  uint64_t upto;
  int n = lv__places_merge(l->elog, ids, n_ids, read->next, until, at, MERGE_PLACES, &upto);
  if (n < 0) {
    read->err = n;
    return STEP_DONE;
  }
  uint32_t use = 0;
  while (use < (uint32_t)n && at[use].lsn < upto) use++;
  bool more = take_places(l, w, at, use);
  lv_elog_release(at, (uint32_t)n);
  if (!more) return STEP_DONE;
  if (upto > read->next) read->next = upto;
  return STEP_MORE;
}

static enum step disk_step(lv_lane *l, want *w, uint64_t edge, uint64_t until) {
  lv_read *read = w->read;
  if (edge < until) until = edge;
  uint32_t ids[MERGE_CHANS];
  enum step s = STEP_MORE;
  pthread_rwlock_rdlock(&l->b->reader.retain);
  tell_gone(l, read);
  uint32_t active = read->chans ? active_chans(read, ids) : UINT32_MAX;
  if (active == 0)
    read->next = until;
  else if (active <= MERGE_CHANS)
    s = merge_step(l, w, ids, active, until);
  else
    s = scan_step(l, w, edge, until);
  pthread_rwlock_unlock(&l->b->reader.retain);
  return s;
}

/* ---- reads ---- */

static void read_run(lv_loop *loop, lv_mail *mail) {
  lv_read *read = (lv_read *)mail;
  lv_embedded *b = lv__embedded(read->broker);
  uint64_t bytes = 0, msgs = 0;
  uint32_t chan = 0, app_id = LV_KPI_NO_APP;
  for (uint32_t i = 0; i < read->n; i++) {
    const lv_rec *rec = read->recs[i];
    if (rec->chan != chan) { /* neighbours are mostly of one app */
      lv_chan_own *c = lv__registry_get(&b->registry, chan = rec->chan);
      uint32_t its = c ? c->c.app_id : LV_KPI_NO_APP;
      if (its != app_id && msgs) lv__count_out(loop->metrics, app_id, msgs, bytes);
      if (its != app_id) msgs = bytes = 0;
      app_id = its;
    }
    msgs++;
    bytes += lv_rec_val(rec).n;
  }
  if (msgs) lv__count_out(loop->metrics, app_id, msgs, bytes);
  read->done(read);
}

static void read_finish(lv_lane *l, lv_read *read) {
  lv_result *res = read->priv;
  read->visible = atomic_load(&l->visible);
  read->recs = res ? res->recs : NULL;
  read->n = res ? res->n_recs : 0;
  if (read->n) read->err = 0; /* what was read before a failure counts; the next read meets it */
  lv_loop_post(read->loop, &read->mail);
}

static uint64_t read_until(const lv_lane *l, const lv_read *read) {
  uint64_t visible = atomic_load(&l->visible);
  return read->until < visible ? read->until : visible;
}

static enum step read_step(lv_embedded *b, lv_read *read) {
  lv_lane *l = &b->lane[read->log];
  uint64_t until = read_until(l, read);
  if (read->next >= until) return STEP_DONE;
  want w = want_of(b, read);
  enum step s = tail_step(l, &w, until, STEP_TAIL);
  if (s == STEP_DISK) {
    pthread_mutex_lock(&l->vis);
    uint64_t first = l->tail.first;
    pthread_mutex_unlock(&l->vis);
    s = disk_step(l, &w, first, until);
  }
  if (s == STEP_MORE && read->next >= until) s = STEP_DONE;
  return s;
}

void lv__reader_enqueue(lv_embedded *b, lv_mail *mail) {
  lv_reader *r = &b->reader;
  mail->next = NULL;
  pthread_mutex_lock(&r->mu);
  *r->tail = mail;
  r->tail = &mail->next;
  pthread_cond_signal(&r->more);
  pthread_mutex_unlock(&r->mu);
}

int lv__reader_read(lv_broker *base, lv_read *read) {
  lv_embedded *b = lv__embedded(base);
  assert(read->log < LV_DURABILITY_COUNT && read->done && lv_loop_here(read->loop));
  if (atomic_load(&b->closing)) return LV_E_CLOSED;
  lv_lane *l = &b->lane[read->log];
  read->mail.run = read_run;
  read->err = 0;
  read->n = 0;
  read->recs = NULL;
  read->priv = NULL;
  read->broker = base;
  read->missing_before = 0;
  read->next = read->from;
  uint64_t until = read_until(l, read);
  enum step s = STEP_DONE;
  if (read->next < until) {
    want w = want_of(b, read);
    s = tail_step(l, &w, until, STEP_INLINE);
    if (s == STEP_MORE && w.res->n_recs) s = STEP_DONE;
  }
  if (s == STEP_DONE)
    read_finish(l, read);
  else
    lv__reader_enqueue(b, &read->mail);
  return 0;
}

/* ---- fetches ---- */

static void fetch_run(lv_loop *loop, lv_mail *mail) {
  (void)loop;
  lv_fetch *fetch = (lv_fetch *)mail;
  fetch->done(fetch);
}

/* The record at lsn if the tail has it; 1: found, 0: the tail does not reach back that far. */
static bool fetch_tail(lv_lane *l, lv_result *res, uint64_t lsn) {
  lv_tail_ent e;
  uint32_t n = 0;
  pthread_mutex_lock(&l->vis);
  bool here = lv__tail_view(&l->tail, lsn, lsn + 1, 1, &e, &n);
  pthread_mutex_unlock(&l->vis);
  if (!here) return false;
  const lv_rec *found = NULL;
  for (const uint8_t *p = e.start; n && p < e.start + e.bytes && !found;) {
    const lv_rec *r = (const lv_rec *)p;
    if (r->lsn == lsn) found = r;
    p += r->size;
  }
  lv__result_add(res, found);
  if (n && found) lv__result_keep(res, e.block);
  if (n && !found) lv_block_unref(e.block);
  return true;
}

static int fetch_disk(lv_lane *l, lv_result *res, uint64_t lsn) {
  lv_block *block = NULL;
  uint32_t bytes = 0;
  uint64_t next = 0;
  int err = lv_elog_scan(l->elog, lsn, UINT64_MAX, 1, &block, &bytes, &next);
  if (err && err != LV_E_CORRUPT) return err;
  const lv_rec *r = !err && block && bytes ? (const lv_rec *)block->data : NULL;
  if (r && r->lsn == lsn) {
    lv__result_add(res, r);
    lv__result_keep(res, block);
    return 0;
  }
  lv_block_unref(block);
  lv__result_add(res, NULL);
  return 0;
}

static void fetch_finish(lv_fetch *fetch) {
  lv_result *res = fetch->priv;
  fetch->recs = res->recs;
  lv_loop_post(fetch->loop, &fetch->mail);
}

static void fetch_serve(lv_embedded *b, lv_fetch *fetch) {
  lv_lane *l = &b->lane[fetch->log];
  lv_result *res = fetch->priv;
  while (res->n_recs < fetch->n && !fetch->err) {
    uint64_t lsn = fetch->lsns[res->n_recs];
    if (lsn >= atomic_load(&l->visible))
      lv__result_add(res, NULL);
    else if (!fetch_tail(l, res, lsn))
      fetch->err = fetch_disk(l, res, lsn);
  }
  fetch_finish(fetch);
}

int lv__reader_fetch(lv_broker *base, lv_fetch *fetch) {
  lv_embedded *b = lv__embedded(base);
  assert(fetch->log < LV_DURABILITY_COUNT && fetch->done && lv_loop_here(fetch->loop));
  if (atomic_load(&b->closing)) return LV_E_CLOSED;
  lv_lane *l = &b->lane[fetch->log];
  fetch->mail.run = fetch_run;
  fetch->err = 0;
  fetch->recs = NULL;
  fetch->priv = lv__result_new(fetch->n);
  pthread_mutex_lock(&l->vis);
  bool near = fetch->n == 0 || fetch->lsns[0] >= l->tail.first;
  pthread_mutex_unlock(&l->vis);
  if (near) {
    lv_result *res = fetch->priv;
    while (res->n_recs < fetch->n && fetch_tail(l, res, fetch->lsns[res->n_recs])) {
    }
    near = res->n_recs == fetch->n; /* the tail may have moved on meanwhile */
  }
  if (near)
    fetch_finish(fetch);
  else
    lv__reader_enqueue(b, &fetch->mail);
  return 0;
}

/* ---- the thread ---- */

static void serve(lv_embedded *b, lv_mail *mail) {
  if (lv__is_seek(mail)) {
    lv__seek_serve(b, (lv_seek *)mail);
    return;
  }
  if (mail->run == fetch_run) {
    fetch_serve(b, (lv_fetch *)mail);
    return;
  }
  lv_read *read = (lv_read *)mail;
  enum step s;
  do s = read_step(b, read);
  while (s != STEP_DONE && read->priv && ((lv_result *)read->priv)->n_recs);
  if (s == STEP_DONE)
    read_finish(&b->lane[read->log], read);
  else
    lv__reader_enqueue(b, mail);
}

static void *reader_main(void *arg) {
  lv_embedded *b = arg;
  lv_reader *r = &b->reader;
  (void)pthread_setname_np(pthread_self(), "lv-reader");
  pthread_mutex_lock(&r->mu);
  for (;;) {
    while (!r->head && !r->stop) pthread_cond_wait(&r->more, &r->mu);
    if (r->stop) break;
    lv_mail *mail = r->head;
    r->head = mail->next;
    if (!r->head) r->tail = &r->head;
    pthread_mutex_unlock(&r->mu);
    serve(b, mail);
    pthread_mutex_lock(&r->mu);
  }
  pthread_mutex_unlock(&r->mu);
  return NULL;
}

int lv__reader_start(lv_embedded *b) {
  int rc = pthread_create(&b->reader.thread, NULL, reader_main, b);
  if (rc) return lv_err_from_errno(rc);
  b->reader.started = true;
  return 0;
}

void lv__reader_stop(lv_embedded *b) {
  lv_reader *r = &b->reader;
  if (r->started) {
    pthread_mutex_lock(&r->mu);
    r->stop = true;
    pthread_cond_signal(&r->more);
    pthread_mutex_unlock(&r->mu);
    pthread_join(r->thread, NULL);
  }
  for (lv_mail *m = r->head, *next; m; m = next) { /* their loops have stopped */
    next = m->next;
    if (m->run == fetch_run)
      lv_broker_fetch_free((lv_fetch *)m);
    else if (!lv__is_seek(m))
      lv_broker_read_free((lv_read *)m);
  }
}
