/* logtool.c: inspects, verifies and dumps a data folder, on the broker's own code.
 *
 * A broker is opened without its threads on a view of the folder (disk_view.c); channels, indexes
 * and recovered ends are then what the server would have. Facts are gathered once at opening. A
 * server may drop a file while it is opened: then the whole is tried again. */
#include "broker/embedded/logtool.h"
#include "broker/embedded/elog_int.h"
#include "broker/embedded/logtool_int.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { OPEN_TRIES = 5, DUMP_PLACES = 256, DUMP_BYTES = 256 * 1024 };
static const char *const log_names[LV_DURABILITY_COUNT] = {"mem", "disk"};

struct lv_logtool {
  lv_embedded *b;
  lv_disk *disk;
  lv_logtool_log logs[LV_DURABILITY_COUNT];
  lv_logtool_seg *segs;
  uint32_t n_segs;
  lv_logtool_chan *chans;
  uint32_t n_chans;
};

typedef struct newest {
  const char *log;
  uint64_t base;
  bool any;
} newest;

static int on_name(void *arg, const char *name) {
  newest *n = arg;
  uint64_t base;
  if (lv__seg_name_parse(n->log, name, "seg", &base) && (!n->any || base > n->base)) {
    n->base = base;
    n->any = true;
  }
  return 0;
}

/* The epoch of a log's newest segment: opening an unclean memory log would begin another. */
static int epoch_of(lv_disk *disk, const char *log, char ret[24]) {
  newest n = {.log = log};
  lv_elog_seg *seg;
  ret[0] = '\0';
  int rc = disk->ops->list(disk, on_name, &n);
  if (rc < 0 || !n.any) return rc;
  rc = lv__seg_open(disk, log, n.base, &seg);
  if (rc < 0) return rc;
  snprintf(ret, 24, "%.*s", LV__EPOCH_SIZE, seg->epoch);
  lv__seg_unref(seg, 1);
  return 0;
}

static void gather_segs(lv_logtool *t, const lv_lane *l) {
  const lv_elog *e = l->elog;
  t->segs = realloc(t->segs, (t->n_segs + e->n_segs + 1) * sizeof *t->segs);
  if (!t->segs) abort();
  for (uint32_t i = 0; i < e->n_segs; i++) {
    const lv_elog_seg *s = e->segs[i];
    bool open = i + 1 == e->n_segs;
    t->segs[t->n_segs++] = (lv_logtool_seg){.log = l->name,
                                            .base = s->base,
                                            .end = open ? lv_elog_end(e) : s->end,
                                            .file_bytes = s->compacted ? s->file_end : s->cap,
                                            .open = open,
                                            .compacted = s->compacted};
  }
}

static int chan_cmp(const void *a, const void *b) {
  const lv_chan *x = ((const lv_logtool_chan *)a)->chan, *y = ((const lv_logtool_chan *)b)->chan;
  int c = lv_slice_cmp(x->app, y->app);
  return c ? c : lv_slice_cmp(x->name, y->name);
}

static void gather_chans(lv_logtool *t) {
  lv_registry *r = &t->b->registry;
  uint32_t end = atomic_load(&r->next_id);
  t->chans = calloc(atomic_load(&r->count) + 1, sizeof *t->chans);
  if (!t->chans) abort();
  for (uint32_t id = 1; id < end; id++) {
    const lv_chan_own *c = lv__registry_get(r, id);
    lv_elog_chan facts;
    if (!c) continue;
    lv_elog_chan_get(t->b->lane[c->c.durability].elog, id, &facts);
    t->chans[t->n_chans++] = (lv_logtool_chan){.chan = &c->c,
                                               .first_offset = facts.first_offset,
                                               .next_offset = facts.next_offset,
                                               .bytes = facts.bytes};
  }
  qsort(t->chans, t->n_chans, sizeof *t->chans, chan_cmp);
}

static void gather(lv_logtool *t) {
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) {
    lv_lane *l = &t->b->lane[i];
    lv_logtool_log *g = &t->logs[i];
    lv_elog_stats st;
    uint64_t dead;
    lv_elog_stats_get(l->elog, &st);
    g->name = l->name;
    g->oldest = lv_elog_oldest(l->elog);
    g->end = lv_elog_end(l->elog);
    g->disk_bytes = st.disk_bytes;
    g->segments = st.segments;
    g->torn_bytes = l->recovery.torn_bytes;
    g->damaged_bytes = l->recovery.damaged_bytes;
    g->clean = l->recovery.clean;
    lv__state_count(&l->state, &g->keys, &dead);
    gather_segs(t, l);
  }
  gather_chans(t);
}

static int open_once(const char *dir, lv_logtool **ret, char *why) {
  lv_logtool *t = calloc(1, sizeof *t);
  bool any = false;
  if (!t) abort();
  int rc = lv__disk_view_new(dir, &t->disk);
  if (rc < 0) snprintf(why, LV_ELOG_WHY, "%s", lv_err_text(rc));
  for (int i = 0; i < LV_DURABILITY_COUNT && rc == 0; i++) {
    rc = epoch_of(t->disk, log_names[i], t->logs[i].epoch);
    if (rc < 0) snprintf(why, LV_ELOG_WHY, "log %s: %s", log_names[i], lv_err_text(rc));
    any |= t->logs[i].epoch[0] != '\0';
  }
  if (rc == 0 && !any) {
    snprintf(why, LV_ELOG_WHY, "no log in this folder");
    rc = LV_E_NOT_FOUND;
  }
  lv_embedded_conf conf = {.dir = dir, .disk = t->disk};
  if (rc == 0) rc = lv__embedded_open_quiet(&conf, &t->b, why);
  if (rc < 0) {
    if (t->disk) t->disk->ops->free(t->disk);
    free(t);
    return rc;
  }
  gather(t);
  *ret = t;
  return 0;
}

int lv_logtool_open(const char *dir, lv_logtool **ret_tool, char *why) {
  lv_disk *probe;
  int rc = lv__disk_view_new(dir, &probe);
  if (rc < 0) {
    snprintf(why, LV_ELOG_WHY, "%s", lv_err_text(rc)); /* the caller names the folder */
    return rc;
  }
  probe->ops->free(probe);
  for (int i = 0; i < OPEN_TRIES; i++) {
    rc = open_once(dir, ret_tool, why);
    if (rc == 0 || rc == LV_E_FORMAT) return rc;
  }
  return rc;
}

void lv_logtool_close(lv_logtool *t) {
  if (!t) return;
  lv__embedded_abandon(&t->b->base);
  t->disk->ops->free(t->disk);
  free(t->segs);
  free(t->chans);
  free(t);
}

const lv_logtool_log *lv_logtool_logs(const lv_logtool *t, uint32_t *ret_n) {
  *ret_n = LV_DURABILITY_COUNT;
  return t->logs;
}

const lv_logtool_seg *lv_logtool_segs(const lv_logtool *t, uint32_t *ret_n) {
  *ret_n = t->n_segs;
  return t->segs;
}

const lv_logtool_chan *lv_logtool_chans(const lv_logtool *t, uint32_t *ret_n) {
  *ret_n = t->n_chans;
  return t->chans;
}

/* ---- as text ---- */

static void text_logs(const lv_logtool *t, lv_buf *out) {
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) {
    const lv_logtool_log *g = &t->logs[i];
    (void)lv_buf_printf(out,
                        "log %-4s  epoch %s  %u segments  %" PRIu64 " bytes on disk  lsn %" PRIu64
                        "-%" PRIu64 "  %" PRIu64 " keys  %s\n",
                        g->name, g->epoch[0] ? g->epoch : "-", g->segments, g->disk_bytes,
                        g->oldest, g->end, g->keys, g->clean ? "clean" : "in use or not clean");
    if (g->torn_bytes)
      (void)lv_buf_printf(out, "          torn tail of %" PRIu64 " bytes\n", g->torn_bytes);
    if (g->damaged_bytes)
      (void)lv_buf_printf(out, "          %" PRIu64 " bytes DAMAGED\n", g->damaged_bytes);
  }
}

void lv_logtool_text(const lv_logtool *t, lv_buf *out) {
  text_logs(t, out);
  for (uint32_t i = 0; i < t->n_segs; i++) {
    const lv_logtool_seg *s = &t->segs[i];
    (void)lv_buf_printf(
        out, "segment %-4s  %016" PRIx64 "  lsn %" PRIu64 "-%" PRIu64 "  file %" PRIu64 "%s%s\n",
        s->log, s->base, s->base, s->end, s->file_bytes, s->compacted ? "  compacted" : "",
        s->open ? "  open" : "");
  }
  for (uint32_t i = 0; i < t->n_chans; i++) {
    const lv_logtool_chan *c = &t->chans[i];
    (void)lv_buf_printf(
        out, "channel %.*s/%.*s  id %u  %s  offsets %" PRIu64 "-%" PRIu64 "  %" PRIu64 " bytes",
        (int)c->chan->app.n, (const char *)c->chan->app.p, (int)c->chan->name.n,
        (const char *)c->chan->name.p, c->chan->id,
        c->chan->durability == LV_DURABILITY_DISK ? "disk" : "memory", c->first_offset,
        c->next_offset, c->bytes);
    if (c->chan->keep_ms) (void)lv_buf_printf(out, "  keep %" PRIu64 " ms", c->chan->keep_ms);
    if (c->chan->keep_bytes)
      (void)lv_buf_printf(out, "  keep %" PRIu64 " bytes", c->chan->keep_bytes);
    if (c->chan->keep_count) (void)lv_buf_printf(out, "  keep %" PRIu64, c->chan->keep_count);
    (void)lv_buf_add_str(out, "\n");
  }
}

/* ---- dump ---- */

int lv_logtool_find(const lv_logtool *t, lv_slice name, const lv_logtool_chan **ret_chan) {
  lv_slice rest = name, app;
  bool whole = lv_slice_split(&rest, '/', &app);
  const lv_logtool_chan *found = NULL;
  for (uint32_t i = 0; i < t->n_chans; i++) {
    const lv_chan *c = t->chans[i].chan;
    if (whole ? !lv_slice_eq(c->app, app) || !lv_slice_eq(c->name, rest)
              : !lv_slice_eq(c->name, name))
      continue;
    if (found) return LV_E_INVALID;
    found = &t->chans[i];
  }
  if (!found) return LV_E_NOT_FOUND;
  *ret_chan = found;
  return 0;
}

typedef struct dump {
  const lv_logtool_log *log;
  lv_elog *elog;
  uint64_t from, damaged;
  lv_logtool_rec_fn *fn;
  void *arg;
} dump;

static int dump_places(dump *d, const lv_elog_at *at, uint32_t n) {
  const lv_rec *recs[DUMP_PLACES];
  int rc = 0;
  for (uint32_t i = 0; i < n && rc == 0;) {
    lv_block *block = NULL;
    int k = lv_elog_pread_many(d->elog, at + i, n - i, DUMP_BYTES, &block, recs);
    if (k < 0) return k;
    for (int j = 0; j < k && rc == 0; j++) {
      char pos[48];
      if (!recs[j]) d->damaged++;
      if (!recs[j] || recs[j]->offset < d->from) continue;
      snprintf(pos, sizeof pos, "%s-%" PRIu64, d->log->epoch, recs[j]->offset);
      rc = d->fn(d->arg, recs[j], pos);
    }
    lv_block_unref(block);
    i += (uint32_t)k;
  }
  return rc;
}

int lv_logtool_dump(lv_logtool *t, const lv_logtool_chan *chan, uint64_t from,
                    lv_logtool_rec_fn *fn, void *arg, uint64_t *ret_damaged) {
  uint8_t log = chan->chan->durability;
  dump d = {.log = &t->logs[log], .elog = t->b->lane[log].elog, .from = from, .fn = fn, .arg = arg};
  lv_elog_at at[DUMP_PLACES];
  int rc = lv_elog_find_offset(d.elog, chan->chan->id, from, at);
  uint64_t lsn = rc == 0 ? at[0].lsn : UINT64_MAX;
  if (rc == 0) lv_elog_release(at, 1);
  if (rc == LV_E_GONE) rc = 0;
  while (rc == 0 && lsn != UINT64_MAX) {
    int n = lv_elog_find(d.elog, chan->chan->id, lsn, UINT64_MAX, DUMP_PLACES, at);
    if (n < 0) rc = n;
    if (n <= 0) break;
    lsn = at[n - 1].lsn + 1;
    rc = dump_places(&d, at, (uint32_t)n);
    lv_elog_release(at, (uint32_t)n);
  }
  if (ret_damaged) *ret_damaged = d.damaged;
  return rc;
}

int lv_logtool_verify(const char *dir, void (*fn)(void *arg, const char *text), void *arg,
                      uint64_t *ret_records) {
  lv_disk *disk;
  int rc = lv__disk_view_new(dir, &disk), worst = 0;
  uint64_t records = 0;
  if (rc < 0) return rc;
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) {
    lv_elog_recovery rec = {0};
    rc = lv_elog_verify(disk, log_names[i], fn, arg, &rec);
    if (rc < 0) worst = rc;
    records += rec.records;
  }
  disk->ops->free(disk);
  if (ret_records) *ret_records = records;
  return worst;
}
