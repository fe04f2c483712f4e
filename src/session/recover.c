/* recover.c: sessions, retained messages and wills read back at start-up (see store.c for the
 * keys).
 *
 * Records come in the order of each log, so `p` and `i` may precede their `m`: they are kept by
 * session id until all is read. @thread main, before the loops run */
#include "core/log.h"
#include "session/session_int.h"
#include "session/share.h"
#include <assert.h>
#include <stdlib.h>

typedef struct lv_cut {
  const uint8_t *p;
  size_t n;
  bool bad;
} lv_cut;

static uint64_t get(lv_cut *c, uint32_t n) {
  if (c->bad || c->n < n) {
    c->bad = true;
    return 0;
  }
  uint64_t v = 0;
  for (uint32_t i = 0; i < n; i++) v |= (uint64_t)c->p[i] << (8 * i);
  c->p += n;
  c->n -= n;
  return v;
}

static lv_slice get_slice(lv_cut *c) {
  uint64_t n = get(c, 4);
  if (c->bad || n > c->n) {
    c->bad = true;
    return (lv_slice){NULL, 0};
  }
  lv_slice s = lv_slice_of(c->p, n);
  c->p += n;
  c->n -= n;
  return s;
}

static lv_recovered *slot_of(lv_realm *r, uint64_t sid) {
  lv_recovery *t = r->recovery;
  if (t->n * 2 > t->mask) {
    lv_recovery *g = calloc(1, sizeof *g + (t->mask * 2 + 2) * sizeof(lv_recovered));
    if (!g) abort();
    g->mask = t->mask * 2 + 1;
    g->n = t->n;
    for (uint64_t i = 0; i <= t->mask; i++) {
      if (!t->slot[i].sid) continue;
      uint64_t k = t->slot[i].sid & g->mask;
      while (g->slot[k].sid) k = (k + 1) & g->mask;
      g->slot[k] = t->slot[i];
    }
    free(t);
    r->recovery = t = g;
  }
  uint64_t i = sid & t->mask;
  while (t->slot[i].sid && t->slot[i].sid != sid) i = (i + 1) & t->mask;
  if (!t->slot[i].sid) t->n++;
  t->slot[i].sid = sid;
  return &t->slot[i];
}

/* ---- m: who it is ---- */

static void read_will(lv_cut *c, lv_sess *s) {
  if (!get(c, 1)) return;
  lv_mqtt_will w = {.present = true};
  w.delay_s = (uint32_t)get(c, 4);
  w.expiry_s = (uint32_t)get(c, 4);
  uint8_t f = (uint8_t)get(c, 1);
  w.has_expiry = f & 1;
  w.retain = f & 2;
  w.qos = (f >> 2) & 3;
  w.topic = get_slice(c);
  w.props = get_slice(c);
  w.payload = get_slice(c);
  if (!c->bad && w.topic.n) lv__will_set(s, &w);
}

static void read_subs(lv_cut *c, lv_sess *s, uint64_t format) {
  uint64_t n = get(c, 4);
  for (uint64_t i = 0; i < n && !c->bad; i++) {
    lv_mqtt_sub m = {0};
    m.qos = (uint8_t)(get(c, 1) & 3);
    uint8_t flags = (uint8_t)get(c, 1);
    m.no_local = flags & LV_SUB_NO_LOCAL;
    m.retain_as_published = flags & LV_SUB_AS_PUBLISHED;
    m.retain_handling = (uint8_t)get(c, 1);
    uint32_t sub_id = (uint32_t)get(c, 4), due_seq = format > 1 ? (uint32_t)get(c, 4) : 0;
    m.filter = get_slice(c);
    if (c->bad || !m.filter.n || m.filter.n > LV_MQTT_TOPIC_MAX) return;
    lv__sub_new(s, &m, sub_id)->due_seq = due_seq;
    if (due_seq > s->more->due_seq) s->more->due_seq = due_seq;
  }
}

static bool read_auth(lv_realm *r, lv_sess *s, lv_slice app_name, lv_slice key_id) {
  const lv_app *app = lv_conf_app(r->conf, app_name);
  if (!app) return false;
  if (key_id.n == 0) {
    if (!r->conf->anonymous) return false;
    s->auth = lv_auth_get(r, r->conf, app, NULL);
    return true;
  }
  if (key_id.p[0] == LV__TOKEN_MARK) {
    s->auth = lv__token_load(r, r->conf, app, key_id);
    return s->auth != NULL;
  }
  for (uint32_t i = 0; i < app->n_keys; i++) {
    if (!lv_slice_eq(app->keys[i].id, key_id)) continue;
    s->auth = lv_auth_get(r, r->conf, app, &app->keys[i]);
    return true;
  }
  return false;
}

/* The last `m` of a session wins. The broker gives only that one of each log; both have one where
 * the app's session_durability was changed and the process ended before the old one was removed.
 * They may be of two sessions of this client, if it came with Clean Start. */
static bool superseded(lv_realm *r, lv_sess *s, int64_t ns) {
  lv_sess_more *more = lv__sess_more(s);
  if (s->stored) s->elsewhere = 1;
  if (s->stored && ns < more->stored_ns) return true;
  if (s->stored) slot_of(r, more->sid)->sess = NULL;
  more->stored_ns = ns;
  lv__subs_free(s);
  lv__will_set(s, NULL);
  lv_auth_unref(s->auth);
  s->auth = NULL;
  return false;
}

static void read_meta(lv_realm *r, lv_slice key, lv_slice value, const lv_rec *rec, uint8_t log) {
  lv_cut c = {value.p, value.n, false};
  lv_slice app, id = lv_slice_of(key.p + 1, key.n - 1);
  if (!lv_slice_split(&id, '/', &app)) return;
  uint64_t format = get(&c, 1); /* 1: without due_seq */
  if (format < 1 || format > 2) return;
  uint32_t app_id = lv_realm_app_id(r, app);
  uint64_t sid = get(&c, 8);
  if (!sid) return;
  lv_sess *s = lv__sess_recover(r, app_id, id);
  if (superseded(r, s, rec->ingest_ns)) return;
  s->durability = log;
  s->version = (uint8_t)get(&c, 1);
  s->expiry_s = (uint32_t)get(&c, 4);
  bool connected = get(&c, 1);
  lv_sess_more *more = lv__sess_more(s);
  more->sid = sid;
  more->gone_at.ns = (int64_t)get(&c, 8);
  if (connected) more->gone_at = lv_wall_now(); /* it was when we stopped: its time starts now */
  lv_slice key_id = get_slice(&c);
  read_will(&c, s);
  read_subs(&c, s, format);
  more->will_due = s->more->will != NULL; /* a stored will means: not taken back by DISCONNECT */
  s->stored = 1;
  s->present = s->persistent = s->expiry_s > 0; /* else it is kept for its will only */
  if (!read_auth(r, s, app, key_id)) {
    /* The key is gone: the session ends as soon as a shard owns it. */
    s->expiry_s = 0;
    s->auth = NULL;
  }
  if (c.bad) lv_log(LV_WARN, "stored session damaged client=%.*s", (int)id.n, id.p);
  slot_of(r, sid)->sess = s;
}

/* ---- p: how far it is ---- */

/* Packet ids are in sequence in the window, up to the next one: finished ones are filled in. */
static void fill_gap(lv_sess *s, uint16_t last, uint16_t pid) {
  if (last == 0) return;
  for (;;) {
    last = last == 65535 ? 1 : (uint16_t)(last + 1);
    if (last == pid || s->win->count >= 65535) return;
    lv_out *gap = lv__win_push(s, last);
    gap->state = LV_OUT_DONE;
    s->win->live--;
  }
}

static void read_progress(lv_sess *s, lv_slice value) {
  lv_cut c = {value.p, value.n, false};
  uint64_t format = get(&c, 1); /* 1: without LV_DELIVER_SHARED and due_done */
  if (format < 1 || format > 2) return;
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) s->more->cursor.lsn[i] = get(&c, 8);
  uint16_t next = (uint16_t)get(&c, 2);
  s->next_pid = next ? next : 1;
  uint64_t n = get(&c, 4);
  uint16_t last = 0;
  for (uint64_t i = 0; i < n && !c.bad; i++) {
    uint16_t pid = (uint16_t)get(&c, 2);
    uint8_t f = (uint8_t)get(&c, 1);
    uint64_t lsn = get(&c, 8);
    bool shared = f & 16;
    uint32_t sub_id = shared ? (uint32_t)get(&c, 4) : 0;
    if (c.bad || pid == 0 || pid == last || (f & 3) == 0) break;
    fill_gap(s, last, pid);
    lv_out *o = lv__win_push(s, pid);
    o->qos = f & 3;
    o->state = (f & 4) ? LV_OUT_REL : LV_OUT_RESEND;
    o->log = (f >> 3) & 1;
    o->flags = (uint8_t)((f >> 5) | (shared ? LV_DELIVER_SHARED : 0));
    o->sub_id = sub_id;
    o->lsn = lsn;
    last = pid;
    if (o->state == LV_OUT_RESEND && !(o->flags & LV_DELIVER_STORED)) s->pending++;
  }
  fill_gap(s, last, s->next_pid);
  if (format > 1) s->more->due_done = (uint32_t)get(&c, 4);
}

static int by_due(const void *a, const void *b) {
  const lv_sub *x = *(lv_sub *const *)a, *y = *(lv_sub *const *)b;
  return x->due_seq < y->due_seq ? -1 : x->due_seq > y->due_seq;
}

/* Retained messages that it had not all got yet: what comes from the cursor on the log brings. */
static void read_due(lv_sess *s) {
  lv_sub **due = malloc((s->n_subs + 1) * sizeof(lv_sub *));
  uint32_t n = 0;
  if (!due) abort();
  for (lv_sub *sub = s->subs; sub; sub = sub->own_next)
    if (sub->due_seq > s->more->due_done && sub->qos > 0 && !sub->shared_prefix) due[n++] = sub;
  qsort(due, n, sizeof(lv_sub *), by_due);
  for (uint32_t i = 0; i < n; i++) lv__give_add(s, due[i], s->more->cursor);
  free(due);
}

static uint64_t unhex(lv_slice s) {
  uint64_t v = 0;
  for (uint32_t i = 0; i < s.n; i++) {
    uint8_t c = s.p[i];
    v = v << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
  }
  return v;
}

int lv__store_replay(void *realm, lv_slice key, lv_slice value, const lv_rec *rec, uint8_t log) {
  lv_realm *r = realm;
  if (rec->kind == LV_REC_MSG && !(key.n == LV_REC_QOS2_KEY && key.p != rec->body)) {
    lv_chan *chan = r->broker->ops->chan(r->broker, rec->chan);
    if (!chan) return 0;
    chan->app_id = lv_realm_app_id(r, chan->app);
    lv_retained_apply(r->retained, chan->app_id, rec, log);
    return 0;
  }
  if (key.n == 0) return 0;
  uint64_t sid;
  if (rec->kind == LV_REC_MSG && lv_rec_session(rec, &sid) && sid && !(sid & 1))
    return r->replay_fn ? r->replay_fn(r->replay_arg, key, value, rec, log) : 0;
  if (key.p[0] == 'm') read_meta(r, key, value, rec, log);
  if (key.p[0] == 'g') return lv__share_recover(r, key, value, rec->ingest_ns, log);
  if (key.p[0] == 'p' && key.n == 17) {
    lv_recovered *x = slot_of(r, unhex(lv_slice_of(key.p + 1, 16)));
    if (x->progress && rec->ingest_ns < x->progress_ns) return 0; /* as with `m` */
    free(x->progress);
    x->progress_ns = rec->ingest_ns;
    x->progress = malloc(value.n + 1u);
    if (!x->progress) abort();
    memcpy(x->progress, value.p, value.n);
    x->n_progress = value.n;
  }
  if (key.p[0] == 'i' && key.n == LV_REC_QOS2_KEY) {
    uint16_t pid = (uint16_t)unhex(lv_slice_of(key.p + 17, 4));
    if (pid == 0) return 0; /* no such packet */
    lv_recovered *x = slot_of(r, unhex(lv_slice_of(key.p + 1, 16)));
    x->pids = realloc(x->pids, (x->n_pids + 1) * sizeof *x->pids);
    if (!x->pids) abort();
    x->pids[x->n_pids++] = (lv_in2_id){.pid = pid, .log = log};
  }
  return 0;
}

void lv__recovery_begin(lv_realm *r) {
  r->recovery = calloc(1, sizeof *r->recovery + 64 * sizeof(lv_recovered));
  if (!r->recovery) abort();
  r->recovery->mask = 63;
}

/* Puts the parts together; sessions wait in r->recovered for their shards. */
void lv__recovery_end(lv_realm *r) {
  lv_recovery *t = r->recovery;
  for (uint64_t i = 0; i <= t->mask; i++) {
    lv_recovered *x = &t->slot[i];
    if (x->sess) {
      if (x->progress) read_progress(x->sess, lv_slice_of(x->progress, x->n_progress));
      for (uint32_t k = 0; k < x->n_pids; k++)
        lv__in2_add(x->sess, x->pids[k].pid, LV_IN_STORED, x->pids[k].log);
      if (x->progress && x->sess->persistent) read_due(x->sess);
      lv__share_unkeep(r, x->sess);
      x->sess->more->save_next = r->recovered;
      r->recovered = x->sess;
    }
    free(x->progress);
    free(x->pids);
  }
  free(t);
  r->recovery = NULL;
}
