/* master_int.h: what the files of the master share: its objects in memory, a change, the routes. */
#ifndef LV_MASTER_MASTER_INT_H
#define LV_MASTER_MASTER_INT_H
#include "core/buf.h"
#include "master/master.h"
#include "net/http.h"
#include <pthread.h>

enum { LV__MASTER_BODY_MAX = 256 * 1024, LV__MASTER_WHY = 512, LV__MASTER_OUT_MAX = 64 << 20 };

/* An object of the store, as it is there. One block of memory. */
typedef struct lv__object {
  uint8_t kind;
  lv_slice app, name, body;
} lv__object;

struct lv_master {
  uint32_t magic;
  lv_master_ops ops;
  lv_store *store;
  lv__object **objects; /* @thread master (main before it runs) */
  uint32_t n_objects, cap_objects;
  lv_realm *realm;
  lv_broker *broker;
  lv_wall started;
  lv_block *openapi;
  struct lv_usage_book *usage; /* NULL: nothing is metered */

  pthread_mutex_t conf_lock;
  lv_conf *conf; /* in force; under the lock */

  pthread_t thread;
  bool running;
  pthread_mutex_t lock; /* of what follows */
  pthread_cond_t wake;
  lv_master_job *head, **tail;
  uint32_t queued;
  bool stop;
  _Atomic bool looking; /* the tick's job is queued */
  lv_master_job look;
};

/* ---- change.c ---- */
enum lv__op { LV__OP_CREATE, LV__OP_PATCH, LV__OP_DELETE };
typedef struct lv__change {
  uint8_t op;         /* enum lv__op */
  uint8_t kind;       /* enum lv_conf_kind */
  lv_slice app, name; /* of the request's path; name empty: in the body */
  lv_slice body;      /* JSON */
  /* results */
  int status;       /* HTTP */
  const char *code; /* of an error: name of it */
  char why[LV__MASTER_WHY];
  lv_buf out;                /* the object, when there is one to show */
  char made[65];             /* its name */
  char key[LV_CONF_KEY_MAX]; /* a key that was made, whole: shown once */
} lv__change;
/* Checks, commits and applies. @thread master */
void lv__master_change(lv_master *m, lv__change *c);
/* Reads the store again. LV_E_…, why as lv_store_open. @thread master */
int lv__objects_read(lv_master *m);
void lv__objects_free(lv_master *m);
/* The document with the store's objects; one of them changed: `now` in place of `old`, either may
 * be NULL (an app that goes takes along what is in it). */
typedef struct lv__finding {
  uint32_t n;
  char text[LV__MASTER_WHY];
} lv__finding;
int lv__master_build(lv_master *m, bool reread, const lv__object *old, const lv__object *now,
                     lv_conf_issue_fn *fn, void *fn_arg, lv_conf **ret_conf);
/* A channel of the document (of one app, unless empty) that the broker has with another durability;
 * NULL: none. @thread master */
const lv_chan_conf *lv__durability_differs(lv_master *m, const lv_conf *conf, lv_slice app);
/* Makes it the one in force. why: LV__MASTER_WHY. @thread master */
int lv__master_apply(lv_master *m, lv_conf *conf, bool whole, char *why);
/* Reads the store, the file too, and applies. @thread master */
int lv__master_refresh(lv_master *m, bool reread, lv_conf_issue_fn *fn, void *fn_arg, char *why);

/* ---- rest.c ---- */
enum { LV__NAME_MAX = 256 }; /* in a path, decoded or not */
/* What a handler needs: the caller is an administrator, the document, the app of the path. */
typedef struct lv__asked {
  lv_conf *conf; /* a reference, to be given back */
  const lv_app *app;
  lv_slice name;
  uint8_t buf[2][LV__NAME_MAX];
} lv__asked;
/* n: parameters of the path; `app`: the first is an app's, which must be there. False: answered. */
bool lv__api_ask(lv_http_call *call, lv_master *m, uint32_t n, bool app, lv__asked *ret);
/* location may be empty. */
void lv__api_answer(lv_http_call *call, int status, lv_slice body, lv_slice location);
/* why NULL: the error's text. */
void lv__api_refuse(lv_http_call *call, int err, const char *why);
/* usage_rest.c */
void lv__api_usage(lv_http_call *call, void *master);
void lv__api_app_usage(lv_http_call *call, void *master);
void lv__master_routes(lv_master *m, lv_router *router);

/* ---- show.c: objects as JSON, out of a document ---- */
const char *lv__source_name(uint8_t source);
void lv__show_app(lv_buf *b, const lv_app *app);
void lv__show_channel(lv_buf *b, const lv_chan_conf *chan);
void lv__show_key(lv_buf *b, const lv_key *key);
/* A channel of the broker that no document declares, as it is. */
lv_chan_conf lv__auto_channel(const lv_app *app, const lv_chan *chan);
/* Whether an undeclared channel is there: one that holds messages. */
bool lv__auto_alive(const lv_chan *chan);

/* ---- openapi.c ---- */
typedef struct lv__api_route {
  uint8_t method;
  const char *pattern, *id, *summary;
  const char *takes;    /* schema of the body; NULL: none */
  const char *answers;  /* schema of the first status' answer; NULL: empty */
  const char *statuses; /* "200 401 403": the first is that of success */
  uint8_t list;         /* 1: takes limit and after; 2: from, to and step, too */
  lv_http_handler *fn;
} lv__api_route;
extern const lv__api_route lv__api_routes[];
extern const uint32_t lv__api_n_routes;
/* The document; heap. */
char *lv__openapi(size_t *ret_n);

#endif
