/* registry.c: the channels of a data folder: (app, name) -> channel, id -> channel.
 *
 *   table   open addressing over (app, name), insert only, replaced whole when it grows (the older
 *           ones live until close: together no more than the newest)
 *   chunk   id -> channel, arrays of 1024, made as needed
 *   disk    a CHAN record in the channel's own log: topic "app/name", value below. So a log that
 *           holds a channel's messages holds its declaration before them, whatever tail is lost.
 *           Nobody waits for the declaration's sync, then: it rides along with what needs it. (A
 *           loop that waited did nothing else meanwhile: ten thousand devices with a channel each
 *           were ten thousand fdatasyncs in a row.) What a failed sync takes back is declared again
 *           before anything else is appended.
 *
 *   value   0 u8 format (2)   1 u8 durability   2 u8 content   3 u8 slow
 *           4 u32 id          8 u64 keep_ms     16 u64 keep_bytes   24 u64 keep_count
 *           32 u64 last_bytes 40 u32 last_keys  44 u32 0            (format 1 ends before these)
 *
 * Readers take no lock: pointers are published with release and channels are never removed. ensure
 * holds a mutex while a declaration is appended, so that a name gets one id. */
#include "broker/embedded/embedded_int.h"
#include <stdlib.h>

enum { CHAN_VALUE_SIZE = 48, CHAN_VALUE_SIZE_1 = 32, CHAN_FORMAT = 2, TABLE_FIRST_CAP = 256 };

static lv_chan_table *table_new(uint32_t cap) {
  lv_chan_table *t = calloc(1, sizeof *t + cap * sizeof t->slot[0]);
  if (!t) abort();
  t->cap = cap;
  return t;
}

void lv__registry_init(lv_registry *r) {
  pthread_mutex_init(&r->ensure_mu, NULL);
  pthread_mutex_init(&r->keep_mu, NULL);
  atomic_store(&r->table, table_new(TABLE_FIRST_CAP));
  atomic_store(&r->next_id, 1);
}

void lv__registry_done(lv_registry *r) {
  for (uint32_t i = 0; i < LV_CHAN_CHUNKS; i++) {
    lv_chan_slot *chunk = atomic_load(&r->chunk[i]);
    for (uint32_t j = 0; chunk && j < LV_CHAN_CHUNK; j++) {
      lv_chan_own *c = atomic_load(&chunk[j]);
      if (c) lv__last_done(c);
      free(c);
    }
    free(chunk);
  }
  lv_chan_table *t = atomic_load(&r->table);
  while (t) {
    lv_chan_table *older = t->older;
    free(t);
    t = older;
  }
  free(r->apps);
  lv__app_use_done(r);
  pthread_mutex_destroy(&r->ensure_mu);
  pthread_mutex_destroy(&r->keep_mu);
}

/* FNV-1a over "app/name" with a final mix: names come from configurations and rights, and a loop
 * looks a name up once a connection. */
static uint64_t name_hash(lv_slice app, lv_slice name) {
  uint64_t h = 0xcbf29ce484222325ull;
  for (uint32_t i = 0; i < app.n; i++) h = (h ^ app.p[i]) * 0x100000001b3ull;
  h = (h ^ '/') * 0x100000001b3ull;
  for (uint32_t i = 0; i < name.n; i++) h = (h ^ name.p[i]) * 0x100000001b3ull;
  return h ^ h >> 32;
}

static lv_chan_own *lookup(lv_registry *r, lv_slice app, lv_slice name) {
  uint64_t h = name_hash(app, name);
  const lv_chan_table *t = atomic_load_explicit(&r->table, memory_order_acquire);
  for (uint64_t i = h & (t->cap - 1);; i = (i + 1) & (t->cap - 1)) {
    lv_chan_own *c = atomic_load_explicit((lv_chan_slot *)&t->slot[i], memory_order_acquire);
    if (!c) return NULL;
    if (c->hash == h && lv_slice_eq(c->c.app, app) && lv_slice_eq(c->c.name, name)) return c;
  }
}

static void table_put(lv_chan_table *t, lv_chan_own *c) {
  uint64_t i = c->hash & (t->cap - 1);
  while (atomic_load_explicit(&t->slot[i], memory_order_relaxed)) i = (i + 1) & (t->cap - 1);
  atomic_store_explicit(&t->slot[i], c, memory_order_release);
  t->n++;
}

static lv_app_chans *app_chans(lv_registry *r, lv_slice app) {
  for (uint32_t i = 0; i < r->n_apps; i++)
    if (lv_slice_eq(r->apps[i].app, app)) return &r->apps[i];
  return NULL;
}

static void count_app(lv_registry *r, lv_slice app) {
  lv_app_chans *a = app_chans(r, app);
  if (!a) {
    r->apps = realloc(r->apps, (r->n_apps + 1) * sizeof *r->apps);
    if (!r->apps) abort();
    a = &r->apps[r->n_apps++];
    *a = (lv_app_chans){.app = app};
  }
  a->n++; /* marking channels dead, once that is possible, must count them out */
}

static void insert(lv_registry *r, lv_chan_own *c) {
  uint32_t id = c->c.id;
  lv_chan_slot *chunk = atomic_load(&r->chunk[id / LV_CHAN_CHUNK]);
  if (!chunk) {
    chunk = calloc(LV_CHAN_CHUNK, sizeof *chunk);
    if (!chunk) abort();
    atomic_store_explicit(&r->chunk[id / LV_CHAN_CHUNK], chunk, memory_order_release);
  }
  atomic_store_explicit(&chunk[id % LV_CHAN_CHUNK], c, memory_order_release);
  lv_chan_table *t = atomic_load(&r->table);
  if (t->n * 2 >= t->cap) {
    lv_chan_table *bigger = table_new(t->cap * 2);
    for (uint32_t i = 0; i < t->cap; i++) {
      lv_chan_own *old = atomic_load_explicit(&t->slot[i], memory_order_relaxed);
      if (old) table_put(bigger, old);
    }
    bigger->older = t;
    atomic_store_explicit(&r->table, bigger, memory_order_release);
    t = bigger;
  }
  table_put(t, c);
  count_app(r, c->c.app);
  atomic_fetch_add(&r->count, 1);
  if (id >= atomic_load(&r->next_id)) atomic_store(&r->next_id, id + 1);
}

/* One allocation: channel, app, name. */
static lv_chan_own *chan_new(lv_embedded *b, uint32_t id, uint32_t app_id,
                             const lv_chan_conf *conf) {
  lv_chan_own *c = calloc(1, sizeof *c + conf->app.n + conf->name.n);
  if (!c) abort();
  uint8_t *text = (uint8_t *)(c + 1);
  memcpy(text, conf->app.p, conf->app.n);
  memcpy(text + conf->app.n, conf->name.p, conf->name.n);
  c->c = (lv_chan){.magic = LV_CHAN_MAGIC,
                   .id = id,
                   .app_id = app_id,
                   .durability = conf->durability,
                   .content = conf->content,
                   .slow = conf->slow,
                   .app = {text, conf->app.n},
                   .name = {text + conf->app.n, conf->name.n},
                   .keep_ms = conf->keep_ms,
                   .keep_bytes = conf->keep_bytes,
                   .keep_count = conf->keep_count,
                   .last_keys = conf->last_keys,
                   .last_bytes = conf->last_bytes,
                   .broker = &b->base};
  c->hash = name_hash(c->c.app, c->c.name);
  c->use = lv__app_use(&b->registry, conf->app);
  lv_elog_chan facts;
  lv_elog_chan_get(b->lane[conf->durability].elog, id, &facts);
  atomic_store(&c->c.first_offset, facts.first_offset);
  atomic_store(&c->c.next_offset, facts.next_offset);
  atomic_store(&c->gone, facts.gone_lsn);
  lv_elog_at at;
  if (facts.next_offset > facts.first_offset &&
      lv_elog_find_offset(b->lane[conf->durability].elog, id, facts.next_offset - 1, &at) == 0) {
    atomic_store(&c->last_lsn, at.lsn);
    lv_elog_release(&at, 1);
  }
  return c;
}

/* ---- the record ---- */

static void value_write(const lv_chan_conf *conf, uint32_t id, uint8_t v[CHAN_VALUE_SIZE]) {
  v[0] = CHAN_FORMAT;
  v[1] = conf->durability;
  v[2] = conf->content;
  v[3] = conf->slow;
  memcpy(v + 4, &id, 4);
  memcpy(v + 8, &conf->keep_ms, 8);
  memcpy(v + 16, &conf->keep_bytes, 8);
  memcpy(v + 24, &conf->keep_count, 8);
  memcpy(v + 32, &conf->last_bytes, 8);
  memcpy(v + 40, &conf->last_keys, 4);
  memset(v + 44, 0, 4);
}

int lv__chan_value_read(const lv_rec *rec, lv_chan_conf *ret_conf, uint32_t *ret_id) {
  lv_slice v = lv_rec_val(rec), name = lv_rec_topic(rec), app;
  if (v.n > 0 && v.p[0] > CHAN_FORMAT) return LV_E_FORMAT;
  uint32_t size = v.n && v.p[0] == 1 ? CHAN_VALUE_SIZE_1 : CHAN_VALUE_SIZE;
  if (v.n != size || v.p[0] == 0 || v.p[1] >= LV_DURABILITY_COUNT ||
      !lv_slice_split(&name, '/', &app))
    return LV_E_CORRUPT;
  uint32_t id;
  memcpy(&id, v.p + 4, 4);
  if (id == 0 || id >= LV_CHAN_CHUNK * LV_CHAN_CHUNKS) return LV_E_CORRUPT;
  lv_chan_conf c = {
      .app = app, .name = name, .durability = v.p[1], .content = v.p[2], .slow = v.p[3]};
  memcpy(&c.keep_ms, v.p + 8, 8);
  memcpy(&c.keep_bytes, v.p + 16, 8);
  memcpy(&c.keep_count, v.p + 24, 8);
  if (size == CHAN_VALUE_SIZE) memcpy(&c.last_bytes, v.p + 32, 8);
  if (size == CHAN_VALUE_SIZE) memcpy(&c.last_keys, v.p + 40, 4);
  *ret_conf = c;
  *ret_id = id;
  return 0;
}

static void set_policy(lv_registry *r, lv_chan_own *c, const lv_chan_conf *conf) {
  pthread_mutex_lock(&r->keep_mu);
  c->c.keep_ms = conf->keep_ms;
  c->c.keep_bytes = conf->keep_bytes;
  c->c.keep_count = conf->keep_count;
  pthread_mutex_unlock(&r->keep_mu);
  c->c.content = conf->content;
  c->c.slow = conf->slow;
  if (c->c.last_bytes == conf->last_bytes && c->c.last_keys == conf->last_keys) return;
  c->c.last_bytes = conf->last_bytes;
  atomic_store(&c->c.last_keys, conf->last_keys);
  lv__last_bound(c);
}

int lv__registry_load(lv_embedded *b, const lv_rec *rec) {
  lv_chan_conf conf;
  uint32_t id;
  int err = lv__chan_value_read(rec, &conf, &id);
  if (err) return err;
  lv_registry *r = &b->registry;
  if (lv__registry_get(r, id) || lookup(r, conf.app, conf.name)) return LV_E_CORRUPT;
  lv_chan_own *c = chan_new(b, id, UINT32_MAX, &conf);
  c->c.use_minute = (uint32_t)(lv_wall_now().ns / 60000000000); /* perhaps counted before */
  insert(r, c);
  return 0;
}

/* Appends a declaration. With the role. */
static int declare(lv_lane *l, const lv_chan_conf *conf, uint32_t id, uint64_t *ret_end) {
  uint8_t value[CHAN_VALUE_SIZE], topic[512];
  if (conf->app.n == 0 || conf->name.n == 0 || conf->app.n + conf->name.n + 1 > sizeof topic)
    return LV_E_INVALID;
  if (memchr(conf->app.p, '/', conf->app.n)) return LV_E_INVALID;
  memcpy(topic, conf->app.p, conf->app.n);
  topic[conf->app.n] = '/';
  memcpy(topic + conf->app.n + 1, conf->name.p, conf->name.n);
  value_write(conf, id, value);
  lv_rec_in in = {.kind = LV_REC_CHAN,
                  .key_off = LV_REC_NO_KEY,
                  .chan = id,
                  .ingest_ns = lv_wall_now().ns,
                  .topic = {topic, conf->app.n + conf->name.n + 1},
                  .val = {value, CHAN_VALUE_SIZE}};
  return lv__lane_append(l, &in, ret_end);
}

int lv__registry_redeclare(lv_lane *l, uint64_t from) {
  lv_registry *r = &l->b->registry;
  for (uint32_t id = 1; id < atomic_load(&r->next_id); id++) {
    lv_chan_own *c = lv__registry_get(r, id);
    if (!c || c->c.durability != l->log || c->declared <= from) continue;
    pthread_mutex_lock(&r->keep_mu);
    lv_chan_conf conf = {.app = c->c.app,
                         .name = c->c.name,
                         .durability = c->c.durability,
                         .content = c->c.content,
                         .slow = c->c.slow,
                         .keep_ms = c->c.keep_ms,
                         .keep_bytes = c->c.keep_bytes,
                         .keep_count = c->c.keep_count,
                         .last_keys = c->c.last_keys,
                         .last_bytes = c->c.last_bytes};
    pthread_mutex_unlock(&r->keep_mu);
    int err = declare(l, &conf, id, &c->declared);
    if (err) return err;
  }
  return 0;
}

/* ---- ensure and the look-ups ---- */

static bool same_policy(const lv_chan *c, const lv_chan_conf *conf) {
  return c->last_keys == conf->last_keys && c->last_bytes == conf->last_bytes &&
         c->keep_ms == conf->keep_ms && c->keep_bytes == conf->keep_bytes &&
         c->keep_count == conf->keep_count && c->content == conf->content && c->slow == conf->slow;
}

/* A new channel: declared and entered while the role is held, so that whoever holds it next finds
 * what is in the log in the registry, too. */
static int make(lv_embedded *b, const lv_chan_conf *conf, uint32_t app_id, lv_chan_own **ret) {
  lv_lane *l = &b->lane[conf->durability];
  uint32_t id = atomic_load(&b->registry.next_id);
  uint64_t end;
  if (id >= LV_CHAN_CHUNK * LV_CHAN_CHUNKS) return LV_E_QUOTA;
  lv__role_take(l);
  int err = declare(l, conf, id, &end);
  if (!err) {
    *ret = chan_new(b, id, app_id, conf);
    (*ret)->declared = end;
    insert(&b->registry, *ret);
  } /* else the id stays free: what a failed write left is zeroed before the next one */
  lv__role_drop(l);
  return err;
}

static int change(lv_embedded *b, lv_chan_own *c, const lv_chan_conf *conf) {
  lv_lane *l = &b->lane[conf->durability];
  lv__role_take(l);
  int err = declare(l, conf, c->c.id, &c->declared);
  if (!err) set_policy(&b->registry, c, conf);
  lv__role_drop(l);
  return err;
}

static int ensure_locked(lv_embedded *b, const lv_chan_conf *conf, uint32_t app_id,
                         uint32_t max_channels, lv_chan_own **ret) {
  lv_registry *r = &b->registry;
  lv_chan_own *c = lookup(r, conf->app, conf->name);
  if (c) {
    if (c->c.durability != conf->durability) return LV_E_EXISTS;
    if (c->c.app_id == UINT32_MAX) c->c.app_id = app_id;
    int err = same_policy(&c->c, conf) ? 0 : change(b, c, conf);
    if (!err) *ret = c;
    return err;
  }
  const lv_app_chans *have = app_chans(r, conf->app);
  if (max_channels && have && have->n >= max_channels) return LV_E_QUOTA;
  return make(b, conf, app_id, ret);
}

int lv__registry_ensure(lv_broker *base, const lv_chan_conf *conf, uint32_t app_id,
                        uint32_t max_channels, lv_chan **ret_chan) {
  lv_embedded *b = lv__embedded(base);
  if (conf->durability >= LV_DURABILITY_COUNT) return LV_E_INVALID;
  lv_chan_own *c;
  pthread_mutex_lock(&b->registry.ensure_mu);
  int err = ensure_locked(b, conf, app_id, max_channels, &c);
  pthread_mutex_unlock(&b->registry.ensure_mu);
  if (err) return err;
  *ret_chan = &c->c;
  return 0;
}

lv_chan *lv__registry_find(lv_broker *base, lv_slice app, lv_slice name) {
  lv_chan_own *c = lookup(&lv__embedded(base)->registry, app, name);
  return c ? &c->c : NULL;
}

lv_chan *lv__registry_chan(lv_broker *base, uint32_t id) {
  lv_chan_own *c = lv__registry_get(&lv__embedded(base)->registry, id);
  return c ? &c->c : NULL;
}

void lv_embedded_app(lv_broker *base, lv_slice app, uint32_t app_id) {
  if (base->magic != LV_EMBEDDED_MAGIC) return;
  lv_embedded *b = lv__embedded(base);
  pthread_mutex_lock(&b->registry.ensure_mu);
  const lv_chan_table *t = atomic_load(&b->registry.table);
  for (uint32_t i = 0; i < t->cap; i++) {
    lv_chan_own *c = atomic_load_explicit((lv_chan_slot *)&t->slot[i], memory_order_acquire);
    if (c && lv_slice_eq(c->c.app, app)) c->c.app_id = app_id;
  }
  pthread_mutex_unlock(&b->registry.ensure_mu);
}

bool lv__registry_policy(lv_registry *r, uint32_t id, uint64_t *keep_ms, uint64_t *keep_bytes,
                         uint64_t *keep_count) {
  lv_chan_own *c = lv__registry_get(r, id);
  if (!c || atomic_load(&c->c.dead)) return false;
  pthread_mutex_lock(&r->keep_mu);
  *keep_ms = c->c.keep_ms;
  *keep_bytes = c->c.keep_bytes;
  *keep_count = c->c.keep_count;
  pthread_mutex_unlock(&r->keep_mu);
  return true;
}
