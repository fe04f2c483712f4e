/* master.c: the master's thread and queue, the document in force, reloads (master.h). */
#include "core/log.h"
#include "master/master_int.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MAGIC = 0x4C564D53 };

int lv_master_open(const char *dir, const lv_master_ops *ops, lv_master **ret_master, char *why) {
  lv_store *store;
  int err = lv_store_open(dir, &store, why);
  if (err) return err;
  lv_master *m = calloc(1, sizeof *m);
  if (!m) abort();
  m->magic = MAGIC;
  m->ops = *ops;
  m->store = store;
  m->tail = &m->head;
  m->started = lv_wall_now();
  pthread_mutex_init(&m->conf_lock, NULL);
  pthread_mutex_init(&m->lock, NULL);
  pthread_cond_init(&m->wake, NULL);
  (void)lv_store_changed(store); /* from here on */
  err = lv__objects_read(m);
  if (err) {
    snprintf(why, LV_STORE_WHY, "%s/" LV_STORE_FILE ": %s", dir, lv_store_text(store));
    lv_master_free(m);
    return err;
  }
  *ret_master = m;
  return 0;
}

/* ---- the document ---- */
lv_conf *lv_master_conf(lv_master *m) {
  pthread_mutex_lock(&m->conf_lock);
  lv_conf *conf = m->conf ? lv_conf_ref(m->conf) : NULL;
  pthread_mutex_unlock(&m->conf_lock);
  return conf;
}

static void conf_set(lv_master *m, lv_conf *conf) {
  pthread_mutex_lock(&m->conf_lock);
  lv_conf *old = m->conf;
  m->conf = conf ? lv_conf_ref(conf) : NULL;
  pthread_mutex_unlock(&m->conf_lock);
  lv_conf_unref(old);
}

int lv_master_conf_first(lv_master *m, lv_conf_issue_fn *fn, void *fn_arg, lv_conf **ret_conf) {
  assert(!m->running);
  return lv__master_build(m, true, NULL, NULL, fn, fn_arg, ret_conf);
}

int lv__master_apply(lv_master *m, lv_conf *conf, bool whole, char *why) {
  int err = m->ops.apply(m->ops.arg, conf, whole, why);
  if (!err) conf_set(m, conf);
  return err;
}

int lv__master_refresh(lv_master *m, bool reread, lv_conf_issue_fn *fn, void *fn_arg, char *why) {
  lv_conf *conf;
  int err = lv__objects_read(m);
  if (err) {
    snprintf(why, LV__MASTER_WHY, "%s: %s", LV_STORE_FILE, lv_store_text(m->store));
    return err;
  }
  err = lv__master_build(m, reread, NULL, NULL, fn, fn_arg, &conf);
  if (err) return err;
  const lv_chan_conf *bad = lv__durability_differs(m, conf, (lv_slice){NULL, 0});
  if (bad) {
    snprintf(why, LV__MASTER_WHY, "channel %.*s of app %.*s has messages of the other durability",
             (int)bad->name.n, (const char *)bad->name.p, (int)bad->app.n,
             (const char *)bad->app.p);
    err = LV_E_EXISTS;
  }
  if (!err) err = lv__master_apply(m, conf, reread, why);
  lv_conf_unref(conf);
  return err;
}

/* ---- the thread ---- */
static lv_master_job *take(lv_master *m) {
  pthread_mutex_lock(&m->lock);
  while (!m->head && !m->stop) pthread_cond_wait(&m->wake, &m->lock);
  lv_master_job *job = m->head;
  if (job) {
    m->head = job->next;
    if (!m->head) m->tail = &m->head;
    m->queued--;
  }
  pthread_mutex_unlock(&m->lock);
  return job;
}

static void *thread_run(void *arg) {
  lv_master *m = arg;
  assert(m->magic == MAGIC);
  for (lv_master_job *job; (job = take(m));) job->run(m, m->store, job);
  return NULL;
}

int lv_master_post(lv_master *m, lv_master_job *job) {
  int err = 0;
  assert(m->magic == MAGIC);
  pthread_mutex_lock(&m->lock);
  if (m->stop || !m->running)
    err = LV_E_SHUTDOWN;
  else if (m->queued >= LV_MASTER_QUEUE)
    err = LV_E_BUSY;
  if (!err) {
    job->next = NULL;
    *m->tail = job;
    m->tail = &job->next;
    m->queued++;
    pthread_cond_signal(&m->wake);
  }
  pthread_mutex_unlock(&m->lock);
  return err;
}

void lv_master_attach(lv_master *m, lv_conf *conf, lv_realm *realm, lv_broker *broker,
                      lv_router *router) {
  assert(m->magic == MAGIC && !m->running && !m->realm);
  m->realm = realm;
  m->broker = broker;
  conf_set(m, conf);
  lv__master_routes(m, router);
}

void lv_master_start(lv_master *m) {
  assert(m->realm && !m->running && !m->stop);
  pthread_mutex_lock(&m->lock);
  m->running = true;
  int rc = pthread_create(&m->thread, NULL, thread_run, m);
  pthread_mutex_unlock(&m->lock);
  if (rc) abort();
  pthread_setname_np(m->thread, "lv-master");
  lv_conf *conf = lv_master_conf(m);
  if (conf->n_keys == 0)
    lv_log(LV_INFO,
           "no administrator's key: `lavva key create --admin --data %.*s` makes one, for "
           "the REST API",
           (int)conf->data_dir.n, (const char *)conf->data_dir.p);
  lv_conf_unref(conf);
}

void lv_master_stop(lv_master *m) {
  if (!m || !m->running) return;
  pthread_mutex_lock(&m->lock);
  m->stop = true;
  pthread_cond_signal(&m->wake);
  pthread_mutex_unlock(&m->lock);
  pthread_join(m->thread, NULL); /* the queue is empty now, and takes nothing any more */
  m->running = false;
}

void lv_master_free(lv_master *m) {
  if (!m) return;
  assert(m->magic == MAGIC && !m->running);
  conf_set(m, NULL);
  lv__objects_free(m);
  lv_store_close(m->store);
  lv_block_unref(m->openapi);
  pthread_cond_destroy(&m->wake);
  pthread_mutex_destroy(&m->lock);
  pthread_mutex_destroy(&m->conf_lock);
  m->magic = 0;
  free(m);
}

/* ---- reloads ---- */
typedef struct reload {
  lv_master_job job;
  lv_conf_issue_fn *fn;
  void *fn_arg;
  char *why;
  int err;
  bool done;
  pthread_mutex_t lock;
  pthread_cond_t wake;
} reload;

static void reload_run(lv_master *m, lv_store *store, lv_master_job *job) {
  reload *r = (reload *)job;
  (void)lv_store_changed(store);
  r->err = lv__master_refresh(m, true, r->fn, r->fn_arg, r->why);
  pthread_mutex_lock(&r->lock);
  r->done = true;
  pthread_cond_signal(&r->wake);
  pthread_mutex_unlock(&r->lock);
}

int lv_master_reload(lv_master *m, lv_conf_issue_fn *fn, void *fn_arg, char *why) {
  reload r = {.job = {.run = reload_run}, .fn = fn, .fn_arg = fn_arg, .why = why};
  why[0] = 0;
  pthread_mutex_init(&r.lock, NULL);
  pthread_cond_init(&r.wake, NULL);
  int err = lv_master_post(m, &r.job);
  if (!err) {
    pthread_mutex_lock(&r.lock);
    while (!r.done) pthread_cond_wait(&r.wake, &r.lock);
    pthread_mutex_unlock(&r.lock);
    err = r.err;
  }
  pthread_cond_destroy(&r.wake);
  pthread_mutex_destroy(&r.lock);
  return err;
}

static void issue_log(void *arg, const lv_conf_issue *issue) {
  (void)arg;
  lv_log(LV_ERROR, "finding in the store key=%s found=%s text=%s", issue->key, issue->found,
         issue->text);
}

static void look_run(lv_master *m, lv_store *store, lv_master_job *job) {
  char why[LV__MASTER_WHY] = "";
  (void)job;
  atomic_store(&m->looking, false);
  if (!lv_store_changed(store)) return;
  int err = lv__master_refresh(m, false, issue_log, NULL, why);
  if (err)
    lv_log(LV_ERROR, "what another process wrote to the store is not taken over why=%s",
           why[0] ? why : lv_err_text(err));
  else
    lv_log(LV_INFO, "took over what another process wrote to the store");
}

void lv_master_tick(lv_master *m) {
  if (!m->running || atomic_exchange(&m->looking, true)) return;
  m->look.run = look_run;
  if (lv_master_post(m, &m->look)) atomic_store(&m->looking, false);
}
