/* usage_rest.c: GET /api/v1/usage and /api/v1/apps/{app}/usage. The question is read on the loop,
 * answered out of the store by the master's thread, and comes back by mail.
 * @thread loop, but for run: master */
#include "master/master_int.h"
#include "master/usage.h"
#include <stdlib.h>

typedef struct question {
  lv_master_job job; /* first */
  lv_mail mail;
  lv_http_call *call;
  lv_usage_query q;
  int err;
  lv_buf json;
  uint8_t text[LV_USAGE_TEXT];
} question;

/* @thread loop */
static void answered(lv_loop *loop, lv_mail *mail) {
  question *x = (question *)((uint8_t *)mail - offsetof(question, mail));
  (void)loop;
  if (x->err)
    lv__api_refuse(x->call, x->err, NULL);
  else
    lv__api_answer(x->call, 200, lv_buf_slice(&x->json), (lv_slice){NULL, 0});
  lv_buf_done(&x->json);
  free(x);
}

/* @thread master */
static void run(lv_master *m, lv_store *store, lv_master_job *job) {
  question *x = (question *)job;
  x->err = m->usage ? lv__usage_answer(m->usage, store, &x->q, &x->json) : LV_E_BUSY;
  x->mail.run = answered;
  lv_loop_post(x->call->loop, &x->mail);
}

static void usage(lv_http_call *call, lv_master *m, bool of_app) {
  lv__asked a = {0};
  const char *why;
  if (!lv__api_ask(call, m, of_app, of_app, &a)) return;
  question *x = calloc(1, sizeof *x);
  if (!x) abort();
  x->job.run = run;
  x->call = call;
  lv_buf_init(&x->json, LV__MASTER_OUT_MAX);
  lv_slice app = of_app ? a.app->name : (lv_slice){NULL, 0};
  int err = lv_usage_query_parse(call->req.query, app, lv_wall_now(), x->text, &x->q, &why);
  lv_conf_unref(a.conf);
  if (!err) {
    why = NULL;
    err = lv_master_post(m, &x->job);
  }
  if (!err) return;
  lv_buf_done(&x->json);
  free(x);
  lv__api_refuse(call, err, why);
}

void lv__api_usage(lv_http_call *call, void *master) {
  usage(call, master, false);
}

void lv__api_app_usage(lv_http_call *call, void *master) {
  usage(call, master, true);
}
