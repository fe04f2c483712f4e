/* idem.c: see idem.h. Limits: the app's (messages remembered), 24 h; a trim ends at most TRIM_MAX
 * messages, so that a loop is never held up by it. @thread any, under the table's mutex */
#include "gateway/idem.h"
#include "core/hash.h"
#include <assert.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>

enum { TRIM_MAX = 512 };

typedef struct list {
  lv_idem_entry *first, **last;
} list;

typedef struct idem_app {
  uint32_t n; /* messages */
  list by_log[LV_DURABILITY_COUNT];
} idem_app;

struct lv_idem {
  pthread_mutex_t lock;
  lv_map map; /* by sid */
  idem_app **apps;
  uint32_t n_apps;
};

static lv_slice key_of(const void *obj) {
  const lv_idem_entry *e = obj;
  return lv_slice_of(&e->sid, sizeof e->sid);
}

lv_idem *lv_idem_new(void) {
  lv_idem *t = calloc(1, sizeof *t);
  if (!t) abort();
  pthread_mutex_init(&t->lock, NULL);
  lv_map_init(&t->map, key_of);
  return t;
}

static void entry_free(lv_idem_entry *e) {
  free(e->items);
  free(e);
}

void lv_idem_free(lv_idem *t) {
  uint32_t pos = 0;
  if (!t) return;
  for (lv_idem_entry *e; (e = lv_map_next(&t->map, &pos));) entry_free(e);
  lv_map_done(&t->map);
  for (uint32_t i = 0; i < t->n_apps; i++) free(t->apps[i]);
  free(t->apps);
  pthread_mutex_destroy(&t->lock);
  free(t);
}

uint64_t lv_idem_sid(lv_slice app, lv_slice key) {
  uint8_t text[512], hash[32];
  unsigned n = 0;
  uint64_t sid = 0;
  assert(key.n <= LV_IDEM_KEY_MAX && app.n < sizeof text - LV_IDEM_KEY_MAX);
  memcpy(text, app.p, app.n);
  text[app.n] = 0; /* no app's name has one */
  memcpy(text + app.n + 1, key.p, key.n);
  if (!EVP_Digest(text, app.n + 1u + key.n, hash, &n, EVP_sha256(), NULL)) abort();
  for (int i = 0; i < 8; i++) sid |= (uint64_t)hash[i] << (8 * i);
  sid &= ~UINT64_C(1);
  return sid ? sid : 2;
}

uint64_t lv_idem_print(lv_slice topic, lv_slice props, lv_slice value) {
  uint64_t parts[3] = {lv_hash_slice(topic), lv_hash_slice(props), lv_hash_slice(value)};
  uint64_t h = lv_hash(parts, sizeof parts);
  return h ? h : 1;
}

static idem_app *app_of(lv_idem *t, uint32_t id) {
  if (id >= t->n_apps) {
    t->apps = realloc(t->apps, (id + 1u) * sizeof(idem_app *));
    if (!t->apps) abort();
    for (; t->n_apps <= id; t->n_apps++) t->apps[t->n_apps] = NULL;
  }
  if (!t->apps[id]) {
    t->apps[id] = calloc(1, sizeof(idem_app));
    if (!t->apps[id]) abort();
    for (int i = 0; i < LV_DURABILITY_COUNT; i++)
      t->apps[id]->by_log[i].last = &t->apps[id]->by_log[i].first;
  }
  return t->apps[id];
}

static lv_idem_entry *entry_of(lv_idem *t, uint32_t app_id, uint64_t sid) {
  lv_idem_entry *e = lv_map_get(&t->map, lv_slice_of(&sid, sizeof sid));
  if (e) return e;
  e = calloc(1, sizeof *e);
  if (!e) abort();
  e->sid = sid;
  e->app_id = app_id;
  (void)lv_map_add(&t->map, e);
  return e;
}

static void items_grow(lv_idem_entry *e, uint32_t n) {
  if (n <= e->n) return;
  e->items = realloc(e->items, n * sizeof *e->items);
  if (!e->items) abort();
  memset(e->items + e->n, 0, (n - e->n) * sizeof *e->items);
  e->n = n;
}

/* To the end of its log's list: all of one request went to one channel, so to one log. */
static void enlist(lv_idem *t, lv_idem_entry *e) {
  uint32_t i = 0;
  while (!e->items[i].stored) i++;
  list *l = &app_of(t, e->app_id)->by_log[e->items[i].log];
  e->next = NULL;
  *l->last = e;
  l->last = &e->next;
  e->listed = true;
}

void lv_idem_replay(lv_idem *t, uint32_t app_id, const lv_rec *rec, uint8_t log) {
  uint64_t sid;
  if (!lv_rec_session(rec, &sid) || rec->packet_id == 0) return;
  pthread_mutex_lock(&t->lock);
  lv_idem_entry *e = entry_of(t, app_id, sid);
  items_grow(e, rec->packet_id);
  lv_idem_item *it = &e->items[rec->packet_id - 1];
  if (!it->stored) {
    e->n_stored++;
    app_of(t, app_id)->n++;
  }
  *it =
      (lv_idem_item){.print = lv_idem_print(lv_rec_topic(rec), lv_rec_props(rec), lv_rec_val(rec)),
                     .offset = rec->offset,
                     .log = log,
                     .stored = true};
  if (!e->at_ns) e->at_ns = rec->ingest_ns;
  if (!e->listed) enlist(t, e);
  pthread_mutex_unlock(&t->lock);
}

int lv_idem_begin(lv_idem *t, uint32_t app_id, uint64_t sid, uint32_t n, uint64_t print,
                  lv_idem_entry **ret_entry) {
  int err = 0;
  assert(n > 0 && n <= LV_IDEM_ITEMS_MAX && print);
  pthread_mutex_lock(&t->lock);
  lv_idem_entry *e = entry_of(t, app_id, sid);
  if (e->busy)
    err = LV_E_EXISTS;
  else if (e->app_id != app_id || (e->print && e->print != print) || n < e->n)
    err = LV_E_PAYLOAD;
  if (!err) {
    e->busy = true;
    e->print = print;
    items_grow(e, n);
    *ret_entry = e;
  }
  pthread_mutex_unlock(&t->lock);
  return err;
}

void lv_idem_end(lv_idem *t, lv_idem_entry *e, int64_t now_ns) {
  uint32_t stored = 0;
  for (uint32_t i = 0; i < e->n; i++) stored += e->items[i].stored;
  pthread_mutex_lock(&t->lock);
  assert(e->busy && stored >= e->n_stored);
  e->busy = false;
  app_of(t, e->app_id)->n += stored - e->n_stored;
  e->n_stored = stored;
  if (!stored) { /* nothing came of it: the key is free again */
    (void)lv_map_del(&t->map, key_of(e));
    entry_free(e);
  } else if (!e->listed) {
    e->at_ns = now_ns;
    enlist(t, e);
  }
  pthread_mutex_unlock(&t->lock);
}

/* Ends each of its messages in the log that has it. */
static void forget(lv_idem *t, list *l, lv_pub *pub, int64_t now_ns) {
  lv_idem_entry *e = l->first;
  l->first = e->next;
  if (!l->first) l->last = &l->first;
  for (uint32_t i = 0; i < e->n; i++) {
    if (!e->items[i].stored) continue;
    char key[LV_REC_QOS2_KEY];
    lv_rec_qos2_key_of(e->sid, (uint16_t)(i + 1), key);
    lv_rec_in in = {.kind = LV_REC_STATE,
                    .key_off = LV_REC_NO_KEY,
                    .topic = lv_slice_of(key, sizeof key),
                    .ingest_ns = now_ns};
    (void)lv_pub_add(pub, e->items[i].log, &in, (lv_mono){0}, NULL);
  }
  t->apps[e->app_id]->n -= e->n_stored;
  (void)lv_map_del(&t->map, key_of(e));
  entry_free(e);
}

void lv_idem_trim(lv_idem *t, lv_pub *pub, uint32_t app_id, uint32_t max, int64_t now_ns) {
  const int64_t age_ns = LV_IDEM_HOURS * INT64_C(3600000000000);
  pthread_mutex_lock(&t->lock);
  idem_app *a = app_id < t->n_apps ? t->apps[app_id] : NULL;
  for (uint32_t budget = TRIM_MAX; a && budget;) {
    list *oldest = NULL;
    for (int i = 0; i < LV_DURABILITY_COUNT; i++) {
      list *l = &a->by_log[i];
      if (!l->first || l->first->busy) continue;
      if (!oldest || l->first->at_ns < oldest->first->at_ns) oldest = l;
    }
    if (!oldest || (a->n <= max && now_ns - oldest->first->at_ns < age_ns)) break;
    budget -= oldest->first->n_stored < budget ? oldest->first->n_stored : budget;
    forget(t, oldest, pub, now_ns);
  }
  pthread_mutex_unlock(&t->lock);
}

uint32_t lv_idem_apps(lv_idem *t) {
  pthread_mutex_lock(&t->lock);
  uint32_t n = t->n_apps;
  pthread_mutex_unlock(&t->lock);
  return n;
}

uint32_t lv_idem_count(lv_idem *t, uint32_t app_id) {
  pthread_mutex_lock(&t->lock);
  uint32_t n = app_id < t->n_apps && t->apps[app_id] ? t->apps[app_id]->n : 0;
  pthread_mutex_unlock(&t->lock);
  return n;
}
