/* realm.c: what is one per process: apps' numbers, client ids, credentials in use, retained
 * messages.
 *
 * One mutex, taken when clients connect and sessions end, never per message. */
#include "core/hash.h"
#include "session/rights.h"
#include "session/session_int.h"
#include "session/share.h"
#include <assert.h>
#include <stdlib.h>

int lv_realm_new(lv_conf *conf, const lv_link_ops *ops, lv_realm **ret_realm) {
  lv_realm *r = calloc(1, sizeof *r);
  if (!r) return LV_E_NOMEM;
  pthread_mutex_init(&r->lock, NULL);
  r->conf = lv_conf_ref(conf);
  r->link = ops;
  r->clients_mask = 255;
  r->clients = calloc((size_t)r->clients_mask + 1, sizeof(lv_sess *));
  if (!r->clients) abort();
  r->retained = lv_retained_new();
  *ret_realm = r;
  return 0;
}

void lv_realm_free(lv_realm *r) {
  if (!r) return;
  for (lv_auth *a = r->auths, *next; a; a = next) {
    next = a->next;
    lv_auth_unref(a);
  }
  for (uint32_t i = 0; i < r->n_apps; i++) free((void *)r->apps[i].name.p);
  free(r->apps);
  free(r->clients);
  lv__share_kept_free(r);
  lv_retained_free(r->retained);
  lv_conf_unref(r->conf);
  pthread_mutex_destroy(&r->lock);
  free(r);
}

static uint32_t app_id_locked(lv_realm *r, lv_slice name) {
  for (uint32_t i = 0; i < r->n_apps; i++)
    if (lv_slice_eq(r->apps[i].name, name)) return i;
  r->apps = realloc(r->apps, (r->n_apps + 1) * sizeof *r->apps);
  if (!r->apps) abort();
  r->apps[r->n_apps] = (lv_realm_app){.name = lv_slice_of(lv_slice_dup(name), name.n)};
  return r->n_apps++;
}

uint32_t lv_realm_app_id(lv_realm *r, lv_slice name) {
  pthread_mutex_lock(&r->lock);
  uint32_t id = app_id_locked(r, name);
  pthread_mutex_unlock(&r->lock);
  return id;
}

void lv_realm_visible(void *realm, const lv_batch *batch) {
  lv_realm *r = realm;
  if (!(batch->flags & LV_BATCH_RETAIN)) return;
  for (const lv_rec *rec = lv_batch_first(batch); rec; rec = lv_batch_next(batch, rec)) {
    if (rec->kind != LV_REC_MSG || !(rec->flags & LV_REC_RETAIN)) continue;
    lv_chan *chan = r->broker->ops->chan(r->broker, rec->chan);
    if (chan) lv_retained_apply(r->retained, chan->app_id, rec, batch->log);
  }
}

/* ---- credentials ---- */

void lv__auth_init(lv_realm *r, lv_auth *a, lv_conf *conf, const lv_app *app) {
  pthread_mutex_lock(&r->lock);
  a->app_id = app_id_locked(r, app->name);
  a->serial = ++r->auth_serial;
  pthread_mutex_unlock(&r->lock);
  a->app = app;
  a->conf = lv_conf_ref(conf);
  atomic_store(&a->refs, 1);
}

lv_auth *lv_auth_get(lv_realm *r, lv_conf *conf, const lv_app *app, const lv_key *key) {
  pthread_mutex_lock(&r->lock);
  lv_auth *a = r->auths;
  while (a && !(a->conf == conf && a->app == app && a->key == key)) a = a->next;
  if (!a) {
    a = calloc(1, sizeof *a);
    if (!a) abort();
    *a = (lv_auth){
        .app_id = app_id_locked(r, app->name), .serial = ++r->auth_serial, .app = app, .key = key};
    a->conf = lv_conf_ref(conf);
    atomic_store(&a->refs, 1); /* the realm's own */
    a->next = r->auths;
    r->auths = a;
  }
  lv_auth_ref(a);
  pthread_mutex_unlock(&r->lock);
  return a;
}

lv_auth *lv_auth_ref(lv_auth *a) {
  atomic_fetch_add_explicit(&a->refs, 1, memory_order_relaxed);
  return a;
}

void lv_auth_unref(lv_auth *a) {
  if (!a || atomic_fetch_sub(&a->refs, 1) != 1) return;
  lv_conf_unref(a->conf);
  free(a);
}

bool lv_auth_may_publish(const lv_auth *a, lv_slice topic) {
  return lv_key_may_publish(a->key, topic);
}

bool lv_auth_may_subscribe(const lv_auth *a, lv_slice filter, bool *ret_all) {
  return lv_key_may_subscribe(a->key, filter, ret_all);
}

bool lv_auth_may_read(const lv_auth *a, lv_slice topic) {
  return lv_key_may_read(a->key, topic);
}

/* Drops the realm's own references to credentials of other documents. Under the lock. */
static void auths_trim(lv_realm *r) {
  for (lv_auth **p = &r->auths; *p;) {
    lv_auth *a = *p;
    if (a->conf == r->conf) {
      p = &a->next;
      continue;
    }
    *p = a->next;
    lv_auth_unref(a);
  }
}

/* ---- start and reload ---- */

lv_chan *lv_realm_chan(lv_realm *r, uint32_t id) {
  return r->broker->ops->chan(r->broker, id);
}

void lv_realm_on_replay(lv_realm *r, lv_state_fn *fn, void *arg) {
  r->replay_fn = fn;
  r->replay_arg = arg;
}

static int declare_channels(lv_realm *r, char *why) {
  lv_metrics_chans_max(r->conf->metrics_channels);
  for (uint32_t i = 0; i < r->conf->n_apps; i++) {
    const lv_app *app = &r->conf->apps[i];
    uint32_t app_id = lv_realm_app_id(r, app->name);
    lv_metrics_app(app_id, (const char *)app->name.p, app->name.n);
    lv_embedded_app(r->broker, app->name, app_id);
    for (uint32_t k = 0; k < app->n_channels; k++) {
      lv_chan *chan;
      lv_chan_conf c = app->channels[k];
      c.app = app->name;
      int err = r->broker->ops->ensure(r->broker, &c, app_id, 0, &chan);
      if (err) {
        snprintf(why, 256, "channel %.*s of app %.*s: %s", (int)c.name.n, c.name.p,
                 (int)app->name.n, app->name.p, lv_err_text(err));
        return err;
      }
      (void)lv_chan_kpi(chan);
    }
  }
  return 0;
}

int lv_realm_open(lv_realm *r, lv_broker *broker, lv_loop *const *loops, int n_loops, char *why) {
  assert(n_loops > 0 && n_loops <= LV_LOOPS_MAX);
  r->broker = broker;
  r->n_shards = n_loops;
  (void)loops;
  int err = declare_channels(r, why);
  if (err) return err;
  lv__recovery_begin(r);
  err = broker->ops->replay(broker, lv__store_replay, r);
  lv__recovery_end(r);
  if (err) snprintf(why, 256, "reading stored sessions: %s", lv_err_text(err));
  return err;
}

typedef struct lv_reload_mail {
  lv_mail mail;
  lv_shard *shard;
  lv_conf *conf;
} lv_reload_mail;

static bool same_key(const lv_auth *a, lv_conf *conf, lv_auth **ret, lv_realm *r) {
  const lv_app *app = lv_conf_app(conf, a->app->name);
  if (!app) return false;
  if (a->signer) return lv__token_renew(r, conf, app, a, ret);
  if (!a->key) {
    if (!conf->anonymous) return false;
    *ret = lv_auth_get(r, conf, app, NULL);
    return true;
  }
  const lv_key *k = lv_conf_key_by_id(conf, a->key->id);
  if (!k || k->app != app || memcmp(k->hash, a->key->hash, 32) != 0) return false;
  *ret = lv_auth_get(r, conf, app, k);
  return true;
}

int lv_auth_renew(lv_realm *r, lv_conf *conf, const lv_auth *old, lv_auth **ret) {
  return same_key(old, conf, ret, r) ? 0 : LV_E_BAD_AUTH;
}

static void reload_shard(lv_loop *loop, lv_mail *mail) {
  lv_reload_mail *m = (lv_reload_mail *)mail;
  lv_shard *s = m->shard;
  (void)loop;
  lv_conf_unref(s->conf);
  s->conf = m->conf;
  s->routes_gen++;
  for (lv_sess *sess = s->sessions; sess; sess = sess->next) {
    lv_auth *auth;
    if (!sess->auth) continue;
    if (same_key(sess->auth, s->conf, &auth, s->realm)) {
      lv_auth_unref(sess->auth);
      sess->auth = auth;
      lv__subs_recheck(sess);
    } else if (sess->conn) {
      s->link->close(sess->conn, LV_E_FORBIDDEN);
    }
  }
  for (lv_shard_watch *w = s->watches; w; w = w->next) w->fn(w->arg, s->conf);
  free(m);
}

void lv_realm_reload(lv_realm *r, lv_conf *conf) {
  char why[256];
  pthread_mutex_lock(&r->lock);
  lv_conf *old = r->conf;
  r->conf = lv_conf_ref(conf);
  auths_trim(r);
  pthread_mutex_unlock(&r->lock);
  lv_conf_unref(old);
  (void)declare_channels(r, why);
  for (int i = 0; i < r->n_shards; i++) {
    if (!r->shards[i]) continue;
    lv_reload_mail *m = calloc(1, sizeof *m);
    if (!m) abort();
    m->mail.run = reload_shard;
    m->shard = r->shards[i];
    m->conf = lv_conf_ref(conf);
    lv_loop_post(r->shards[i]->loop, &m->mail);
  }
}
