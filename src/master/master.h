/* master.h: apps, channels and keys made at run time.
 *
 *   REST (loops) ──job──▶ master thread ── check: document + store ─▶ commit ─▶ apply ──mail──▶
 * loop
 *
 * The effective document is the file's (or the development instance's) with the store's objects
 * appended, judged by the same checks. Whatever changes it (a request, SIGHUP, another process that
 * wrote to the store) runs on the master's thread, one at a time: a request is answered once it is
 * committed and every loop has the new document. A crash between the two leaves the store's truth,
 * which the next start applies.
 *
 * Jobs wait in a queue of LV_MASTER_QUEUE; one more is LV_E_BUSY (503). Others with tables in the
 * store (metering) post jobs of their own. */
#ifndef LV_MASTER_MASTER_H
#define LV_MASTER_MASTER_H
#include "broker/broker.h"
#include "core/conf.h"
#include "master/store.h"
#include "net/route.h"
#include "session/session.h"

enum { LV_MASTER_QUEUE = 1024 };

typedef struct lv_master lv_master;

/* What the process gives the master. All @thread master, but build: also main, before it runs. */
typedef struct lv_master_ops {
  /* The document with these objects; `reread`: the file's text as it is now, and if that is good it
   * is the text from then on. LV_E_CONFIG after findings. */
  int (*build)(void *arg, bool reread, lv_conf_more *more, uint32_t n, lv_conf_issue_fn *fn,
               void *fn_arg, lv_conf **ret_conf);
  /* Hands it to everybody; returns once every loop has it. `whole`: more than apps and keys may
   * have changed (certificates, limits). why: >= 512 bytes. */
  int (*apply)(void *arg, lv_conf *conf, bool whole, char *why);
  void *arg;
} lv_master_ops;

/* Opens DIR's store and reads it. why: >= LV_STORE_WHY. @thread main */
int lv_master_open(const char *dir, const lv_master_ops *ops, lv_master **ret_master, char *why);
/* The effective document, for the start. @thread main, before lv_master_start */
int lv_master_conf_first(lv_master *m, lv_conf_issue_fn *fn, void *fn_arg, lv_conf **ret_conf);
/* Takes the document that the loops run with, and adds /api/v1; before they serve. @thread main */
void lv_master_attach(lv_master *m, lv_conf *conf, lv_realm *realm, lv_broker *broker,
                      lv_router *router);
/* Begins to take jobs; those that came before were refused. @thread main */
void lv_master_start(lv_master *m);
/* SIGHUP: reads the file again. Waits for the end; issues and reasons go to fn and why.
 * @thread main, while it runs */
int lv_master_reload(lv_master *m, lv_conf_issue_fn *fn, void *fn_arg, char *why);
/* About once a second: looks whether another process wrote to the store. @thread main */
void lv_master_tick(lv_master *m);
/* Finishes what is queued and ends the thread: loops still run. @thread main */
void lv_master_stop(lv_master *m);
/* Closes the store. NULL is fine. @thread main, after lv_master_stop */
void lv_master_free(lv_master *m);

/* Work for the master's thread. The memory is the caller's, and the job's own again once `run` is
 * called, which happens exactly once. */
typedef struct lv_master_job {
  struct lv_master_job *next;
  void (*run)(lv_master *m, lv_store *store, struct lv_master_job *job);
} lv_master_job;
/* LV_E_BUSY: the queue is full; LV_E_SHUTDOWN: it ends. Then run is never called. @thread any */
int lv_master_post(lv_master *m, lv_master_job *job);
/* The document in force, with a reference. @thread any */
lv_conf *lv_master_conf(lv_master *m);

#endif
