/* share_store.c: what a shared subscription still owes, across restarts.
 *
 * A group with a member whose session outlives its connection keeps one state record,
 * `g<app>/$share/NAME/FILTER`: a place in each log up to which it has seen everything, and the
 * addresses before it that are unfinished (waiting, or handed over and not acknowledged), at most
 * KEEP_MAX: with more, the place is that of the first one left out. It is written once a second
 * while it changes, and when the process ends. A new group of that name begins with it: the
 * addresses wait for a member, and the log is scanned from the place on.
 *
 * So nothing that the group owes is lost by a restart. What was finished in the last second before
 * a crash is handed out again (at-least-once; also at QoS 2, see docs/mqtt.md). @thread home */
#include "core/buf.h"
#include "core/hash.h"
#include "core/log.h"
#include "session/share_int.h"
#include <assert.h>
#include <stdlib.h>

enum { FORMAT = 1, KEEP_MAX = 4096, SCAN_COUNT = 256, SCAN_BYTES = 256 * 1024 };

typedef struct lv_share_kept {
  struct lv_share_kept *next;
  lv_pos upto;
  int64_t written_ns;
  uint32_t app_id, len, n;
  uint8_t logs; /* bit of each log that has a record of it */
  uint64_t *held;
  uint64_t *skip; /* from upto on, with a member already */
  uint32_t n_skip;
  char text[];
} lv_share_kept;

/* ---- writing ---- */

static void put(lv_buf *b, uint64_t v, int n) {
  for (int i = 0; i < n; i++) (void)lv_buf_add_byte(b, (uint8_t)(v >> (8 * i)));
}

static const lv_auth *keeper(const lv_share *sh) {
  for (const lv_share_member *m = sh->members; m; m = m->next)
    if (m->persistent) return m->auth;
  return NULL;
}

static void write_state(const lv_share *sh, uint8_t log, lv_slice app, lv_slice value) {
  lv_buf key;
  lv_rec *rec;
  lv_buf_init(&key, 70000);
  (void)lv_buf_add_byte(&key, 'g');
  (void)lv_buf_add_slice(&key, app);
  (void)lv_buf_add_byte(&key, '/');
  (void)lv_buf_add(&key, sh->sub->filter, sh->sub->len);
  lv_rec_in in = {.kind = LV_REC_STATE,
                  .key_off = LV_REC_NO_KEY,
                  .topic = lv_buf_slice(&key),
                  .val = value,
                  .ingest_ns = sh->home->loop->wall.ns};
  int err = lv_pub_add(sh->home->pub, log, &in, sh->home->loop->now, &rec);
  if (err) lv_log(LV_ERROR, "shared subscription not stored err=%s", lv_err_text(err));
  lv_buf_done(&key);
}

typedef struct lv_keep {
  lv_buf *b;
  uint32_t n;
  lv_pos *upto;
} lv_keep;

static void keep(lv_keep *k, uint64_t packed) {
  uint8_t log = packed & 7;
  uint64_t lsn = packed & ~UINT64_C(7);
  if (k->n < KEEP_MAX) {
    put(k->b, packed, 8);
    k->n++;
  } else if (lsn < k->upto->lsn[log]) {
    k->upto->lsn[log] = lsn; /* from there on the log is read again */
  }
}

static void keep_held(lv_share_member *m, lv_keep *k) {
  for (; m; m = m->next) {
    lv__share_drain(m);
    for (uint32_t i = 0; i < m->n_held; i++) keep(k, m->held[i]);
  }
}

static void unfinished(lv_share *sh, lv_keep *k) {
  keep_held(sh->members, k);
  keep_held(sh->leaving, k);
  if (sh->fetching) keep(k, lv__share_pack(sh->fetch_wait.log, sh->fetch_wait.lsn));
  for (uint32_t i = 0; i < sh->count; i++) {
    const lv_wait *w = &sh->wait[(sh->head + i) & sh->mask];
    if (w->qos) keep(k, lv__share_pack(w->log, w->lsn));
  }
}

/* Where the app's session_durability was changed the other log's record goes with the second one in
 * the new log: by then the first is likely to be as safe as it must be. */
static void store(lv_share *sh, const lv_app *app, lv_slice value) {
  static_assert(LV_DURABILITY_COUNT == 2, "there is one other log");
  uint8_t log = app->session_durability, mine = (uint8_t)(1 << log), other = mine ^ 3;
  bool again = sh->logs & mine;
  write_state(sh, log, app->name, value);
  sh->logs |= mine;
  if (!again || !(sh->logs & other)) return;
  write_state(sh, !log, app->name, (lv_slice){NULL, 0});
  sh->logs = mine;
}

void lv__share_save(lv_share *sh) {
  const lv_auth *auth = keeper(sh);
  if (!auth || sh->home->quiet) return;
  bool handed = false; /* what is with members may have been finished without a word */
  for (const lv_share_member *m = sh->members; m; m = m->next) handed |= m->n_held > 0;
  if (!sh->dirty && !handed && sh->stored) return;
  sh->dirty = false;
  sh->stored = true;
  lv_buf list, value;
  lv_pos upto = sh->scan ? sh->scan->next : sh->home->seen;
  lv_buf_init(&list, KEEP_MAX * 8);
  lv_buf_init(&value, KEEP_MAX * 8 + 64);
  lv_keep k = {&list, 0, &upto};
  unfinished(sh, &k);
  put(&value, FORMAT, 1);
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) put(&value, upto.lsn[i], 8);
  put(&value, k.n, 4);
  (void)lv_buf_add_slice(&value, lv_buf_slice(&list));
  store(sh, auth->app, lv_buf_slice(&value));
  lv_buf_done(&list);
  lv_buf_done(&value);
}

void lv__share_forget(lv_share *sh) {
  if (!sh->stored || sh->home->quiet) return;
  lv_realm *r = sh->home->realm;
  pthread_mutex_lock(&r->lock);
  lv_slice app = r->apps[sh->app_id].name;
  pthread_mutex_unlock(&r->lock);
  for (uint8_t log = 0; log < LV_DURABILITY_COUNT; log++)
    if (sh->logs & 1 << log) write_state(sh, log, app, (lv_slice){NULL, 0});
}

/* ---- reading back ---- */

/* Where the pointer to the kept group of this name is, or would be. */
static lv_share_kept **kept_at(lv_realm *r, uint32_t app_id, lv_slice text) {
  lv_share_kept **p = &r->kept[(lv_hash(text.p, text.n) ^ app_id) % LV_SHARE_KEPT_SLOTS];
  while (*p && !((*p)->app_id == app_id && lv_slice_eq(lv_slice_of((*p)->text, (*p)->len), text)))
    p = &(*p)->next;
  return p;
}

static void kept_free(lv_share_kept *x) {
  free(x->held);
  free(x->skip);
  free(x);
}

/* Both logs have a record where the app's session_durability was changed: the newer one counts. */
int lv__share_recover(lv_realm *r, lv_slice key, lv_slice value, int64_t ns, uint8_t log) {
  lv_slice app, text = lv_slice_of(key.p + 1, key.n - 1u);
  if (!lv_slice_split(&text, '/', &app) || value.n < 21 || value.p[0] != FORMAT) return 0;
  uint32_t n, app_id = lv_realm_app_id(r, app);
  memcpy(&n, value.p + 17, 4);
  if (n > KEEP_MAX || value.n != 21 + n * 8u) return 0;
  lv_share_kept **p = kept_at(r, app_id, text), *old = *p;
  uint8_t logs = (uint8_t)((old ? old->logs : 0) | 1 << log);
  if (old && ns < old->written_ns) {
    old->logs = logs;
    return 0;
  }
  lv_share_kept *x = calloc(1, sizeof *x + text.n);
  if (!x) abort();
  x->app_id = app_id;
  x->written_ns = ns;
  x->logs = logs;
  x->len = text.n;
  memcpy(x->text, text.p, text.n);
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) memcpy(&x->upto.lsn[i], value.p + 1 + 8 * i, 8);
  x->n = n;
  x->held = malloc(n * 8u + 8);
  if (!x->held) abort();
  memcpy(x->held, value.p + 21, n * 8u);
  if (old) {
    x->next = old->next;
    kept_free(old);
  }
  *p = x;
  return 0;
}

/* Its place among those held; x->n: it is none of them. */
static uint32_t holds(const lv_share_kept *x, uint64_t packed) {
  uint32_t i = 0;
  while (i < x->n && x->held[i] != packed) i++;
  return i;
}

/* The group that it was handed out by, if that still owes it: `held`, or the scan will find it. Of
 * several groups it is not known which: where one of them is past it, it may be that one, which the
 * session has it from for good. Then at QoS 1 it is the session's (rather twice than never). */
static lv_share_kept *kept_of(lv_realm *r, const lv_sess *s, const lv_out *o) {
  lv_share_kept *found = NULL;
  bool all = true;
  for (const lv_sub *sub = s->subs; sub; sub = sub->own_next) {
    if (!sub->shared_prefix) continue;
    lv_share_kept *x = *kept_at(r, s->app_id, lv_slice_of(sub->filter, sub->len));
    if (x && holds(x, lv__share_pack(o->log, o->lsn)) < x->n) return x;
    if (x && o->lsn >= x->upto.lsn[o->log]) {
      found = x;
    } else {
      all = false;
    }
  }
  return all || o->qos == 2 ? found : NULL;
}

static void skip(lv_share_kept *x, uint64_t packed) {
  x->skip = realloc(x->skip, (x->n_skip + 1) * sizeof *x->skip);
  if (!x->skip) abort();
  x->skip[x->n_skip++] = packed;
}

void lv__share_unkeep(lv_realm *r, lv_sess *s) {
  for (uint32_t i = 0; s->win && i < s->win->count; i++) {
    lv_out *o = &s->win->e[(s->win->head + i) & s->win->mask];
    if (!(o->flags & LV_DELIVER_SHARED) || o->state == LV_OUT_DONE) continue;
    uint64_t packed = lv__share_pack(o->log, o->lsn);
    lv_share_kept *x = kept_of(r, s, o);
    if (x && o->qos == 1) { /* the group's, as when a connection ends */
      o->state = LV_OUT_DONE;
      s->win->live--;
      s->pending--;
    } else if (x) {
      uint32_t at = holds(x, packed);
      if (at < x->n) {
        x->held[at] = x->held[--x->n];
      } else {
        skip(x, packed);
      }
    }
  }
}

static lv_share_kept *take_kept(lv_realm *r, const lv_share *sh) {
  pthread_mutex_lock(&r->lock);
  lv_share_kept **p = kept_at(r, sh->app_id, lv_slice_of(sh->sub->filter, sh->sub->len)), *x = *p;
  if (x) *p = x->next;
  pthread_mutex_unlock(&r->lock);
  return x;
}

void lv__share_kept_free(lv_realm *r) {
  for (uint32_t i = 0; i < LV_SHARE_KEPT_SLOTS; i++)
    for (lv_share_kept *x = r->kept[i], *next; x; x = next) {
      next = x->next;
      kept_free(x);
    }
}

static void owe(lv_share *sh, uint64_t lsn, uint8_t log, uint8_t qos) {
  lv_metrics *mx = lv__kpi_app(sh->home, sh->app_id);
  lv_count(mx, LV_C_HUB_OWED, 1);
  lv_gauge(mx, LV_G_PENDING, 1);
  lv__share_wait(sh, (lv_wait){lsn, log, qos}, false);
}

/* The home may have handled more of the feed than the group's first member had seen: what lies
 * between is read from the log. */
static void scan_from(lv_share *sh, lv_pos from, lv_share_kept *kept) {
  sh->scan = calloc(1, sizeof *sh->scan);
  if (!sh->scan) abort();
  sh->scan->next = from;
  if (kept) {
    sh->scan->skip = kept->skip;
    sh->scan->n_skip = kept->n_skip;
    kept->skip = NULL;
  }
  lv__share_scan_on(sh);
}

void lv__share_begin(lv_share *sh, lv_pos from) {
  lv_share_kept *x = take_kept(sh->home->realm, sh);
  if (!x) {
    scan_from(sh, from, NULL);
    return;
  }
  for (uint32_t i = 0; i < x->n; i++)
    owe(sh, x->held[i] & ~UINT64_C(7), (uint8_t)(x->held[i] & 1), 1);
  sh->stored = true;
  sh->logs = x->logs;
  scan_from(sh, x->upto, x);
  kept_free(x);
}

/* ---- the scan ---- */

static void scan_take(lv_share *sh, const lv_rec *rec, uint8_t log) {
  lv_chan *chan = sh->home->broker->ops->chan(sh->home->broker, rec->chan);
  if (rec->kind != LV_REC_MSG || !chan || chan->app_id != sh->app_id || !lv_rec_qos(rec)) return;
  for (uint32_t i = 0; i < sh->scan->n_skip; i++)
    if (sh->scan->skip[i] == lv__share_pack(log, rec->lsn)) return;
  if (lv_mqtt_match(lv_sub_filter(sh->sub), lv_rec_topic(rec)))
    owe(sh, rec->lsn, log, lv_rec_qos(rec));
}

static void scanned(lv_read *rd) {
  lv_share *sh = rd->arg;
  lv_share_scan *sc = sh->scan;
  sc->reading = false;
  if (sh->dead) {
    lv_broker_read_free(rd);
    if (!sh->fetching) lv__share_free(sh);
    return;
  }
  for (uint32_t i = 0; i < rd->n; i++) scan_take(sh, rd->recs[i], rd->log);
  if (!rd->err) sc->next.lsn[rd->log] = rd->next;
  int err = rd->err;
  lv_broker_read_free(rd);
  if (err) {
    lv_log(LV_ERROR, "shared subscription cannot read the log err=%s", lv_err_text(err));
    return; /* the next second tries again */
  }
  lv__share_pump(sh);
}

void lv__share_scan_on(lv_share *sh) {
  lv_share_scan *sc = sh->scan;
  if (sc->reading || sh->count >= LV_SHARE_WAIT_MAX / 2) return;
  uint8_t log = 0;
  while (log < LV_DURABILITY_COUNT && sc->next.lsn[log] >= sh->home->seen.lsn[log]) log++;
  if (log == LV_DURABILITY_COUNT) { /* the feed goes on from here */
    sh->sub->from = sc->next;
    sh->scan = NULL;
    free(sc->skip);
    free(sc);
    return;
  }
  sc->read = (lv_read){.loop = sh->home->loop,
                       .log = log,
                       .from = sc->next.lsn[log],
                       .until = sh->home->seen.lsn[log],
                       .max_count = SCAN_COUNT,
                       .max_bytes = SCAN_BYTES,
                       .done = scanned,
                       .arg = sh};
  sc->reading = true;
  if (sh->home->broker->ops->read(sh->home->broker, &sc->read)) sc->reading = false;
}
