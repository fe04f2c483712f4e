/* change.c: one change of the document: judged, committed, applied; in that order, so that what was
 * answered is both true and safe. @thread master
 *
 *   body ─▶ the object as it would be ─▶ document with it ─▶ channels at the broker ─▶ store
 *                                       findings: 422                               ─▶ every loop
 *
 * Each change builds the whole document anew: 2 ms with 1,000 keys, beside a commit's sync. */
#include "core/log.h"
#include "master/doc.h"
#include "master/master_int.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum { ARENA_MAX = 1 << 30 };

/* ---- objects in memory ---- */
static lv__object *object_new(uint8_t kind, lv_slice app, lv_slice name, lv_slice body) {
  lv__object *o = malloc(sizeof *o + app.n + name.n + body.n);
  if (!o) abort();
  uint8_t *p = (uint8_t *)(o + 1);
  if (app.n) memcpy(p, app.p, app.n);
  if (name.n) memcpy(p + app.n, name.p, name.n);
  if (body.n) memcpy(p + app.n + name.n, body.p, body.n);
  *o = (lv__object){.kind = kind,
                    .app = {p, app.n},
                    .name = {p + app.n, name.n},
                    .body = {p + app.n + name.n, body.n}};
  return o;
}

static void objects_add(lv_master *m, lv__object *o) {
  if (m->n_objects == m->cap_objects) {
    m->cap_objects = m->cap_objects ? 2 * m->cap_objects : 64;
    m->objects = realloc(m->objects, m->cap_objects * sizeof(lv__object *));
    if (!m->objects) abort();
  }
  m->objects[m->n_objects++] = o;
}

static bool same(const lv__object *o, uint8_t kind, lv_slice app, lv_slice name) {
  return o->kind == kind && lv_slice_eq(o->name, name) && lv_slice_eq(o->app, app);
}

static lv__object *objects_find(lv_master *m, uint8_t kind, lv_slice app, lv_slice name) {
  for (uint32_t i = 0; i < m->n_objects; i++)
    if (same(m->objects[i], kind, app, name)) return m->objects[i];
  return NULL;
}

/* Takes out one; `all`: of an app, what is in it, too. */
static void objects_drop(lv_master *m, uint8_t kind, lv_slice app, lv_slice name, bool all) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < m->n_objects; i++) {
    lv__object *o = m->objects[i];
    bool inside = all && kind == LV_CONF_APP && o->app.n && lv_slice_eq(o->app, name);
    if (inside || same(o, kind, app, name))
      free(o);
    else
      m->objects[n++] = o;
  }
  m->n_objects = n;
}

void lv__objects_free(lv_master *m) {
  for (uint32_t i = 0; i < m->n_objects; i++) free(m->objects[i]);
  free(m->objects);
  m->objects = NULL;
  m->n_objects = m->cap_objects = 0;
}

static int read_one(void *arg, enum lv_conf_kind kind, lv_slice app, lv_slice name, lv_slice body) {
  objects_add(arg, object_new((uint8_t)kind, app, name, body));
  return 0;
}

int lv__objects_read(lv_master *m) {
  lv_master fresh = {0};
  int err = lv_store_each(m->store, read_one, &fresh);
  if (err) {
    lv__objects_free(&fresh);
    return err;
  }
  lv__objects_free(m);
  m->objects = fresh.objects;
  m->n_objects = fresh.n_objects;
  m->cap_objects = fresh.cap_objects;
  return 0;
}

/* ---- the document ---- */
static bool more_add(lv_arena *a, lv_conf_more *more, const lv__object *o, lv_conf_issue_fn *fn,
                     void *fn_arg) {
  lv__doc *doc;
  char why[LV__DOC_WHY];
  if (lv__doc_parse(a, o->body, &doc, why)) {
    lv_conf_issue issue = {.file = LV_STORE_FILE};
    if (!fn) return false;
    snprintf(issue.found, sizeof issue.found, "%.*s", (int)o->name.n, (const char *)o->name.p);
    snprintf(issue.text, sizeof issue.text, "cannot be read: %s", why);
    fn(fn_arg, &issue);
    return false;
  }
  *more = (lv_conf_more){.kind = o->kind, .app = o->app, .value = lv__doc_node(a, doc)};
  return true;
}

static void warn_orphans(const lv_conf_more *more, uint32_t n) {
  for (uint32_t i = 0; i < n; i++)
    if (more[i].orphan)
      lv_log(LV_WARN, "an object of the store is left out: there is no such app app=%.*s",
             (int)more[i].app.n, (const char *)more[i].app.p);
}

int lv__master_build(lv_master *m, bool reread, const lv__object *old, const lv__object *now,
                     lv_conf_issue_fn *fn, void *fn_arg, lv_conf **ret_conf) {
  lv_arena a;
  lv_arena_init(&a, 64 * 1024, ARENA_MAX);
  lv_conf_more *v = lv_arena_calloc(&a, m->n_objects + 1u, sizeof *v);
  if (!v) abort();
  uint32_t n = 0;
  bool fine = true, app_goes = old && !now && old->kind == LV_CONF_APP;
  for (uint32_t i = 0; i < m->n_objects && fine; i++) {
    const lv__object *o = m->objects[i];
    if (app_goes && lv_slice_eq(o->app, old->name)) continue;
    if (o != old) fine = more_add(&a, &v[n++], o, fn, fn_arg);
  }
  if (fine && now) fine = more_add(&a, &v[n++], now, fn, fn_arg);
  int err = fine ? m->ops.build(m->ops.arg, reread, v, n, fn, fn_arg, ret_conf) : LV_E_CONFIG;
  if (!err && !old && !now) warn_orphans(v, n);
  lv_arena_done(&a);
  return err;
}

/* ---- a change ---- */
static void fail(lv__change *c, int status, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static void fail(lv__change *c, int status, const char *code, const char *fmt, ...) {
  va_list ap;
  c->status = status;
  c->code = code;
  va_start(ap, fmt);
  vsnprintf(c->why, sizeof c->why, fmt, ap);
  va_end(ap);
}

static void fail_err(lv__change *c, int err, const char *what) {
  fail(c, lv_err_http(err), lv_err_name(err), "%s: %s", what, lv_err_text(err));
}

static const char *noun(uint8_t kind) {
  return kind == LV_CONF_APP ? "app" : kind == LV_CONF_CHANNEL ? "channel" : "key";
}

/* The first finding, with the part of its key that is the object's own. */
static void on_issue(void *arg, const lv_conf_issue *issue) {
  lv__finding *f = arg;
  if (f->n++) return;
  const char *key = issue->key, *cut;
  if (strncmp(key, "apps[", 5) == 0) key += strcspn(key, "]") + 1;
  if (*key == '.') key++;
  if (strncmp(key, "channels[", 9) == 0 || strncmp(key, "keys[", 5) == 0) {
    cut = key + strcspn(key, "]");
    key = *cut ? cut + 1 : cut;
  }
  if (*key == '.') key++;
  snprintf(f->text, sizeof f->text, "%s%s%s%s%s%s", key, *key ? ": " : "",
           issue->found[0] ? "found " : "", issue->found, issue->found[0] ? ": " : "", issue->text);
}

/* What of that name is in force; *ret_source says where it is from. */
static const void *in_force(const lv_conf *conf, uint8_t kind, lv_slice app_name, lv_slice name,
                            uint8_t *ret_source) {
  const lv_app *app = lv_conf_app(conf, kind == LV_CONF_APP ? name : app_name);
  if (kind == LV_CONF_APP) {
    if (app) *ret_source = app->source;
    return app;
  }
  if (kind == LV_CONF_CHANNEL) {
    const lv_chan_conf *chan = app ? lv_conf_channel(app, name) : NULL;
    if (chan) *ret_source = chan->source;
    return chan;
  }
  const lv_key *key = lv_conf_key_by_id(conf, name);
  if (!key || (kind == LV_CONF_ADMIN ? key->app != NULL : !app || key->app != app)) return NULL;
  *ret_source = key->source;
  return key;
}

static void show(lv__change *c, const lv_conf *conf, lv_slice name) {
  uint8_t source;
  const void *obj = in_force(conf, c->kind, c->app, name, &source);
  assert(obj); /* it was just built */
  if (c->kind == LV_CONF_APP)
    lv__show_app(&c->out, obj);
  else if (c->kind == LV_CONF_CHANNEL)
    lv__show_channel(&c->out, obj);
  else
    lv__show_key(&c->out, obj);
}

/* Channels of an app (NULL: of all) that the broker has with another durability. */
const lv_chan_conf *lv__durability_differs(lv_master *m, const lv_conf *conf, lv_slice app) {
  for (uint32_t i = 0; i < conf->n_apps; i++) {
    const lv_app *a = &conf->apps[i];
    if (app.n && !lv_slice_eq(a->name, app)) continue;
    for (uint32_t k = 0; k < a->n_channels; k++) {
      lv_chan *chan = m->broker->ops->find(m->broker, a->name, a->channels[k].name);
      if (chan && chan->durability != a->channels[k].durability) return &a->channels[k];
    }
  }
  return NULL;
}

/* What the broker has to do with it, before anything is committed: a channel that cannot be made
 * there is refused. One that is made there for nothing, because the commit fails, is an empty
 * channel that nobody declares. */
static int broker_takes(lv_master *m, lv__change *c, const lv_conf *conf, lv_slice name) {
  lv_slice app = c->kind == LV_CONF_APP ? name : c->app;
  if (c->kind != LV_CONF_APP && c->kind != LV_CONF_CHANNEL) return 0;
  const lv_chan_conf *bad = lv__durability_differs(m, conf, app);
  if (bad) {
    fail(c, 409, "EXISTS",
         "channel %.*s has messages of the other durability; the durability of a channel cannot be "
         "changed",
         (int)bad->name.n, (const char *)bad->name.p);
    return LV_E_EXISTS;
  }
  if (c->kind == LV_CONF_APP) return 0;
  lv_chan *chan;
  lv_chan_conf want = *lv_conf_channel(lv_conf_app(conf, app), name);
  int err = m->broker->ops->ensure(m->broker, &want, lv_realm_app_id(m->realm, app), 0, &chan);
  if (err) fail_err(c, err, "the channel cannot be made");
  return err;
}

static int commit(lv_master *m, lv__change *c, const lv__object *o) {
  int err = c->op == LV__OP_CREATE  ? lv_store_insert(m->store, o->kind, o->app, o->name, o->body)
            : c->op == LV__OP_PATCH ? lv_store_update(m->store, o->kind, o->app, o->name, o->body)
                                    : lv_store_delete(m->store, o->kind, o->app, o->name);
  if (!err) return 0;
  lv_log(LV_ERROR, "the store does not take a change why=%s", lv_store_text(m->store));
  fail_err(c, err, "the store");
  return err;
}

/* From a checked object (create, patch) or one to be left out (delete) to the answer. */
static void carry_out(lv_master *m, lv__change *c, lv__object *o, const lv__object *old) {
  lv__finding f = {0};
  lv_conf *conf;
  char why[LV__MASTER_WHY] = "";
  const lv__object *more = c->op == LV__OP_DELETE ? NULL : o;
  int err = lv__master_build(m, false, old, more, on_issue, &f, &conf);
  if (err) {
    fail(c, 422, "CONFIG", "%s", f.n ? f.text : lv_err_text(err));
    return;
  }
  if (more) err = broker_takes(m, c, conf, o->name);
  if (!err) err = commit(m, c, o);
  if (err) {
    lv_conf_unref(conf);
    return;
  }
  if (c->op != LV__OP_CREATE) objects_drop(m, o->kind, o->app, o->name, !more);
  if (more) objects_add(m, object_new(o->kind, o->app, o->name, o->body));
  err = lv__master_apply(m, conf, false, why);
  if (err) { /* certificates that went bad on disk and the like; the store has it */
    lv_log(LV_ERROR, "a change is in the store and not yet in force why=%s", why);
    fail(c, 500, lv_err_name(err), "stored, in force with the next start: %s", why);
  } else {
    c->status = c->op == LV__OP_CREATE ? 201 : c->op == LV__OP_PATCH ? 200 : 204;
    if (more) show(c, conf, o->name);
  }
  lv_conf_unref(conf);
}

/* The object to change; NULL after an error. */
static const lv__object *stored(lv_master *m, lv__change *c, const lv_conf *conf) {
  uint8_t source = LV_SOURCE_STORE;
  const lv__object *o = objects_find(m, c->kind, c->app, c->name);
  const void *obj = in_force(conf, c->kind, c->app, c->name, &source);
  if (obj && source == LV_SOURCE_FILE) {
    fail(c, 409, "read-only", "%s %.*s stands in the configuration file: change it there",
         noun(c->kind), (int)c->name.n, (const char *)c->name.p);
    return NULL;
  }
  if (o && obj) return o;
  lv_chan *chan =
      c->kind == LV_CONF_CHANNEL ? m->broker->ops->find(m->broker, c->app, c->name) : NULL;
  if (chan && lv__auto_alive(chan))
    fail(c, 409, "auto",
         "channel %.*s was made by a publish and is nowhere declared: create it to give it a "
         "policy; without one it goes with its messages",
         (int)c->name.n, (const char *)c->name.p);
  else
    fail(c, 404, "NOT_FOUND", "no such %s", noun(c->kind));
  return NULL;
}

static void hash_text(const char *key, char dst[80]) {
  uint8_t hash[32];
  lv_conf_key_hash(lv_slice_str(key), hash);
  memcpy(dst, "sha256:", 8);
  for (int i = 0; i < 32; i++) snprintf(dst + 7 + 2 * i, 3, "%02x", hash[i]);
}

static void fail_big(lv__change *c) {
  fail(c, 413, "TOO_BIG", "the body: %s", lv_err_text(LV_E_TOO_BIG));
}

/* A key without a hash is made here, and one without an id gets one. */
static int make_key(lv_arena *a, lv__change *c, lv__doc *doc) {
  char id[33] = "", hash[80];
  const lv__doc *have = lv__doc_get(doc, "id");
  int err = 0;
  if (lv__doc_get(doc, "hash")) return 0;
  if (have) snprintf(id, sizeof id, "%.*s", (int)have->text.n, (const char *)have->text.p);
  if (have && (have->text.n > 32 || lv_conf_key_make(id, c->key))) return 0; /* the check tells */
  if (!have) {
    (void)lv_conf_key_make(NULL, c->key);
    err = lv__doc_set(a, doc, "id", lv_slice_of(c->key + 3, strcspn(c->key + 3, "_")));
  }
  hash_text(c->key, hash);
  return err ? err : lv__doc_set(a, doc, "hash", lv_slice_str(hash));
}

static void create(lv_master *m, lv__change *c, const lv_conf *conf, lv_arena *a, lv__doc *doc) {
  bool key = c->kind == LV_CONF_KEY || c->kind == LV_CONF_ADMIN;
  uint8_t source = LV_SOURCE_STORE;
  if (key && make_key(a, c, doc)) {
    fail_big(c);
    return;
  }
  const lv__doc *named = lv__doc_get(doc, key ? "id" : "name");
  lv_slice name = named ? named->text : (lv_slice){NULL, 0};
  if (named && named->type != LV_JSON_STRING && !named->first && named->type < LV_JSON_ARRAY) {
    fail(c, 422, "CONFIG", "%s: a text is expected", key ? "id" : "name");
    return;
  }
  const void *have = name.n ? in_force(conf, c->kind, c->app, name, &source) : NULL;
  const lv_key *other = key && name.n && !have ? lv_conf_key_by_id(conf, name) : NULL;
  if (other) source = other->source;
  if (have || other) {
    fail(c, 409, "EXISTS", "%s %.*s exists already%s%s", noun(c->kind), (int)name.n,
         (const char *)name.p, other ? ", in another app" : "",
         source == LV_SOURCE_FILE ? " (in the configuration file)" : "");
    return;
  }
  snprintf(c->made, sizeof c->made, "%.*s", (int)name.n, (const char *)name.p);
  lv_buf body;
  lv_buf_init(&body, LV__MASTER_BODY_MAX * 2);
  lv__doc_write(&body, doc);
  lv__object *o = object_new(c->kind, c->app, name, lv_buf_slice(&body));
  lv_buf_done(&body);
  carry_out(m, c, o, NULL);
  free(o);
}

static void patch(lv_master *m, lv__change *c, const lv__object *old, lv_arena *a, lv__doc *doc) {
  lv__doc *now;
  char why[LV__DOC_WHY];
  const lv__doc *name = lv__doc_get(doc, "name");
  if (name && !lv_slice_eq(name->text, c->name)) {
    fail(c, 422, "CONFIG", "name: a name cannot be changed");
    return;
  }
  int err = lv__doc_parse(a, old->body, &now, why);
  if (err && err != LV_E_TOO_BIG) {
    fail(c, 500, "CORRUPT", "what is stored cannot be read: %s", why);
    return;
  }
  if (!err) err = lv__doc_merge(a, now, doc);
  if (err) {
    fail_big(c);
    return;
  }
  lv_buf body;
  lv_buf_init(&body, LV__MASTER_BODY_MAX * 2);
  lv__doc_write(&body, now);
  lv__object *o = object_new(old->kind, old->app, old->name, lv_buf_slice(&body));
  lv_buf_done(&body);
  carry_out(m, c, o, old);
  free(o);
}

/* The body as an object without nulls; NULL after an error. */
static lv__doc *body_of(lv__change *c, lv_arena *a) {
  static const lv__doc empty = {.type = LV_JSON_OBJECT};
  lv__doc *doc, *clean;
  char why[LV__DOC_WHY];
  int err = lv__doc_parse(a, c->body, &doc, why);
  if (err) {
    fail(c, err == LV_E_TOO_BIG ? 413 : 400, err == LV_E_TOO_BIG ? "TOO_BIG" : "MALFORMED",
         "the body: %s", why);
    return NULL;
  }
  if (c->op == LV__OP_PATCH) return doc;
  clean = lv_arena_alloc(a, sizeof *clean);
  if (clean) *clean = empty;
  if (clean && !lv__doc_merge(a, clean, doc)) return clean;
  fail_big(c);
  return NULL;
}

/* What is in an app are objects of their own. */
static bool has_lists(lv__change *c, const lv__doc *doc) {
  static const char *const lists[] = {"channels", "keys"};
  for (int i = 0; c->kind == LV_CONF_APP && i < 2; i++) {
    if (!lv__doc_get(doc, lists[i])) continue;
    fail(c, 422, "CONFIG", "%s: made by themselves, with POST /api/v1/apps/APP/%s", lists[i],
         lists[i]);
    return true;
  }
  return false;
}

void lv__master_change(lv_master *m, lv__change *c) {
  lv_arena a;
  char why[LV__MASTER_WHY] = "";
  if (lv_store_changed(m->store)) (void)lv__master_refresh(m, false, NULL, NULL, why);
  lv_conf *conf = lv_master_conf(m);
  lv_arena_init(&a, 0, 8 * LV__MASTER_BODY_MAX);
  bool inside = c->kind == LV_CONF_CHANNEL || c->kind == LV_CONF_KEY;
  lv__doc *doc = c->op == LV__OP_DELETE ? NULL : body_of(c, &a);
  if (c->op != LV__OP_DELETE && (!doc || has_lists(c, doc))) {
    /* told */
  } else if (inside && !lv_conf_app(conf, c->app)) {
    fail(c, 404, "NOT_FOUND", "no such app");
  } else if (c->op == LV__OP_CREATE) {
    create(m, c, conf, &a, doc);
  } else {
    const lv__object *old = stored(m, c, conf);
    if (old && c->op == LV__OP_PATCH) {
      patch(m, c, old, &a, doc);
    } else if (old) {
      lv__object *o = object_new(old->kind, old->app, old->name, old->body);
      carry_out(m, c, o, old);
      free(o);
    }
  }
  lv_arena_done(&a);
  lv_conf_unref(conf);
}
