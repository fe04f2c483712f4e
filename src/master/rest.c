/* rest.c: /api/v1 for apps, channels and keys: who asks, what is read out of the document in force
 * (on the loop), what is changed (a job for the master's thread, answered by mail).
 *
 * Administrators' keys only, as a Bearer token; no CORS, and nothing that a browser adds by itself
 * counts. docs/control.md is the reference for people, /api/v1/openapi.json for programs; both, and
 * the routes, come from lv__api_routes.
 *
 * @thread loop, but for job_run: master */
#include "access/access.h"
#include "core/time.h"
#include "master/master_int.h"
#include "wire/json.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum { LIMIT_DEFAULT = 100, LIMIT_MAX = 1000 };
static const lv_slice json_type = LV_SLICE("application/json");
static const lv_slice merge_type = LV_SLICE("application/merge-patch+json");

/* ---- answers ---- */
static void put_string(lv_buf *b, lv_slice s) {
  uint8_t *p = lv_buf_space(b, lv_json_string_size(s));
  if (p) (void)lv_json_put_string(p, s);
}

/* Nothing of it is for caches: keys are shown here. location may be empty. */
void lv__api_answer(lv_http_call *call, int status, lv_slice body, lv_slice location) {
  lv_http_header headers[4] = {{LV_SLICE("Cache-Control"), LV_SLICE("no-store")}};
  uint32_t n = 1;
  if (location.n) headers[n++] = (lv_http_header){LV_SLICE("Location"), location};
  if (status == 401)
    headers[n++] = (lv_http_header){LV_SLICE("WWW-Authenticate"), LV_SLICE("Bearer")};
  if (status == 503) headers[n++] = (lv_http_header){LV_SLICE("Retry-After"), LV_SLICE("1")};
  lv_http_answer a = {.status = (uint16_t)status,
                      .content_type = body.n ? json_type : (lv_slice){NULL, 0},
                      .headers = headers,
                      .n_headers = n,
                      .body = body};
  lv_http_answer_send(call, &a);
}

static void refuse(lv_http_call *call, int status, const char *code, const char *why) {
  lv_buf b;
  lv_buf_init(&b, 8192);
  lv_buf_add_str(&b, "{\"error\":");
  put_string(&b, lv_slice_str(why));
  lv_buf_printf(&b, ",\"code\":\"%s\"}\n", code);
  lv__api_answer(call, status, lv_buf_slice(&b), (lv_slice){NULL, 0});
  lv_buf_done(&b);
}

void lv__api_refuse(lv_http_call *call, int err, const char *why) {
  refuse(call, lv_err_http(err), lv_err_name(err), why ? why : lv_err_text(err));
}

/* ---- who asks ---- */
static int token_of(const lv_http_req *req, lv_slice *ret_token) {
  static const char scheme[] = "bearer ";
  const lv_http_header *found = NULL;
  for (uint32_t i = 0; i < req->n_headers; i++) {
    if (!lv_slice_caseeq(req->headers[i].name, LV_SLICE("Authorization"))) continue;
    if (found) return LV_E_INVALID;
    found = &req->headers[i];
  }
  lv_slice v = found ? found->value : (lv_slice){NULL, 0};
  uint32_t n = sizeof scheme - 1;
  if (v.n <= n || !lv_slice_caseeq((lv_slice){v.p, n}, lv_slice_str(scheme))) return LV_E_BAD_AUTH;
  while (n < v.n && v.p[n] == ' ') n++;
  *ret_token = (lv_slice){v.p + n, v.n - n};
  return 0;
}

/* An administrator's request? Else it is answered. */
static bool admitted(lv_http_call *call, const lv_conf *conf) {
  const lv_key *key;
  lv_slice token;
  int err = token_of(&call->req, &token);
  if (!err) err = lv_conf_key(conf, token, &key);
  if (!err && (key->app || !(key->verbs & LV_VERB_ADMIN))) err = LV_E_FORBIDDEN;
  if (!err) return true;
  if (err != LV_E_INVALID)
    lv_count(lv_metrics_row(call->loop->metrics, LV_KPI_NO_APP, lv_access_proto(call->conn)),
             LV_C_CONN_BAD_AUTH, 1);
  lv__api_refuse(call, err,
                 err == LV_E_FORBIDDEN ? "an administrator's key is needed, this one is an app's"
                 : err == LV_E_BAD_AUTH
                     ? "an administrator's key is needed: Authorization: Bearer KEY"
                     : "Authorization is given twice");
  return false;
}

/* Parameter i of the path, decoded into dst; empty: it is no name. */
static lv_slice param(const lv_http_call *call, uint32_t i, uint8_t dst[LV__NAME_MAX]) {
  lv_slice name = {NULL, 0}, raw = call->params[i];
  assert(i < call->n_params);
  if (raw.n > LV__NAME_MAX || lv_http_decode(raw, false, dst, &name)) return (lv_slice){NULL, 0};
  return name;
}

/* ---- lists ---- */
typedef struct page {
  uint32_t limit, n;
  uint8_t buf[LV__NAME_MAX];
  lv_slice after;
  lv_slice last; /* name of the last item shown */
  lv_buf out;
  bool more;
} page;

static bool page_begin(lv_http_call *call, page *p) {
  lv_slice query = call->req.query, name, value;
  *p = (page){.limit = LIMIT_DEFAULT};
  while (lv_http_query_next(&query, &name, &value)) {
    uint64_t v = 0;
    bool fine = true;
    if (lv_slice_eq(name, LV_SLICE("limit"))) {
      fine = lv_slice_u64(value, &v) == 0 && v >= 1 && v <= LIMIT_MAX;
      p->limit = (uint32_t)v;
    } else if (lv_slice_eq(name, LV_SLICE("after"))) {
      fine = value.n <= LV__NAME_MAX && lv_http_decode(value, true, p->buf, &p->after) == 0;
    }
    if (fine) continue;
    refuse(call, 400, "INVALID",
           v || lv_slice_eq(name, LV_SLICE("limit")) ? "limit: 1 to 1000" : "after: not a token");
    return false;
  }
  lv_buf_init(&p->out, LV__MASTER_OUT_MAX);
  lv_buf_add_str(&p->out, "{\"items\":[");
  return true;
}

/* Whether the item of that name is on the page; the caller appends it then. Names ascend. */
static bool page_item(page *p, lv_slice name) {
  if (p->after.n && lv_slice_cmp(name, p->after) <= 0) return false;
  if (p->n == p->limit) p->more = true;
  if (p->more) return false;
  if (p->n++) (void)lv_buf_add_byte(&p->out, ',');
  p->last = name;
  return true;
}

static void page_end(lv_http_call *call, page *p) {
  lv_buf_add_str(&p->out, "]");
  if (p->more) {
    lv_buf_add_str(&p->out, ",\"next\":");
    put_string(&p->out, p->last);
  }
  lv_buf_add_str(&p->out, "}\n");
  lv__api_answer(call, 200, lv_buf_slice(&p->out), (lv_slice){NULL, 0});
  lv_buf_done(&p->out);
}

/* ---- reading ---- */
static int app_ptr_cmp(const void *a, const void *b) {
  return lv_slice_cmp((*(const lv_app *const *)a)->name, (*(const lv_app *const *)b)->name);
}

static void list_apps(lv_http_call *call, const lv_conf *conf) {
  page p;
  if (!page_begin(call, &p)) return;
  const lv_app **v = calloc(conf->n_apps + 1u, sizeof *v);
  if (!v) abort();
  for (uint32_t i = 0; i < conf->n_apps; i++) v[i] = &conf->apps[i];
  qsort(v, conf->n_apps, sizeof *v, app_ptr_cmp);
  for (uint32_t i = 0; i < conf->n_apps; i++)
    if (page_item(&p, v[i]->name)) lv__show_app(&p.out, v[i]);
  free(v);
  page_end(call, &p);
}

static void list_keys(lv_http_call *call, const lv_key *keys, uint32_t n) {
  page p;
  if (!page_begin(call, &p)) return;
  for (uint32_t i = 0; i < n; i++)
    if (page_item(&p, keys[i].id)) lv__show_key(&p.out, &keys[i]);
  page_end(call, &p);
}

/* The declared channels and those that publishes made, by name. */
typedef struct chans {
  const lv_app *app;
  lv_chan_conf *v;
  uint32_t n, cap;
} chans;

static void chans_add(chans *c, lv_chan_conf chan) {
  if (c->n == c->cap) {
    c->cap = c->cap ? 2 * c->cap : 64;
    c->v = realloc(c->v, c->cap * sizeof *c->v);
    if (!c->v) abort();
  }
  c->v[c->n++] = chan;
}

static void chans_auto(void *arg, const lv_chan *chan, uint64_t bytes) {
  chans *c = arg;
  (void)bytes;
  if (!lv_slice_eq(chan->app, c->app->name) || !lv__auto_alive(chan)) return;
  if (lv_conf_channel(c->app, chan->name)) return;
  chans_add(c, lv__auto_channel(c->app, chan));
}

static int chan_cmp(const void *a, const void *b) {
  return lv_slice_cmp(((const lv_chan_conf *)a)->name, ((const lv_chan_conf *)b)->name);
}

static void list_channels(lv_http_call *call, lv_master *m, const lv_app *app) {
  chans c = {.app = app};
  page p;
  if (!page_begin(call, &p)) return;
  for (uint32_t i = 0; i < app->n_channels; i++) chans_add(&c, app->channels[i]);
  lv_embedded_stored(m->broker, chans_auto, &c);
  if (c.n) qsort(c.v, c.n, sizeof *c.v, chan_cmp);
  for (uint32_t i = 0; i < c.n; i++)
    if (page_item(&p, c.v[i].name)) lv__show_channel(&p.out, &c.v[i]);
  page_end(call, &p);
  free(c.v);
}

/* One object: 200, or 404. */
static void show_one(lv_http_call *call, lv_buf *b, const char *what) {
  char why[32];
  snprintf(why, sizeof why, "no such %s", what);
  if (b->n) {
    (void)lv_buf_add_byte(b, '\n');
    lv__api_answer(call, 200, lv_buf_slice(b), (lv_slice){NULL, 0});
  } else {
    lv__api_refuse(call, LV_E_NOT_FOUND, why);
  }
  lv_buf_done(b);
}

static void show_channel(lv_http_call *call, lv_master *m, const lv_app *app, lv_slice name) {
  lv_buf b;
  lv_buf_init(&b, LV__MASTER_OUT_MAX);
  const lv_chan_conf *declared = lv_conf_channel(app, name);
  const lv_chan *chan = declared ? NULL : m->broker->ops->find(m->broker, app->name, name);
  if (declared) {
    lv__show_channel(&b, declared);
  } else if (chan && lv__auto_alive(chan)) {
    lv_chan_conf conf = lv__auto_channel(app, chan);
    lv__show_channel(&b, &conf);
  }
  show_one(call, &b, "channel");
}

static void show_key(lv_http_call *call, const lv_conf *conf, const lv_app *app, lv_slice id) {
  lv_buf b;
  lv_buf_init(&b, LV__MASTER_OUT_MAX);
  const lv_key *key = lv_conf_key_by_id(conf, id);
  if (key && key->app == app) lv__show_key(&b, key);
  show_one(call, &b, "key");
}

/* ---- changing ---- */
typedef struct request {
  lv_master_job job; /* first */
  lv_mail mail;
  lv_http_call *call;
  lv__change change;
  uint8_t app[LV__NAME_MAX], name[LV__NAME_MAX];
} request;

/* Where what was created is; empty: nothing was. */
static lv_slice location_of(const lv__change *c, char *dst, size_t size) {
  int n = 0;
  const char *app = (const char *)c->app.p;
  if (c->status != 201) return (lv_slice){NULL, 0};
  if (c->kind == LV_CONF_APP) n = snprintf(dst, size, "/api/v1/apps/%s", c->made);
  if (c->kind == LV_CONF_ADMIN) n = snprintf(dst, size, "/api/v1/keys/%s", c->made);
  if (c->kind == LV_CONF_CHANNEL)
    n = snprintf(dst, size, "/api/v1/apps/%.*s/channels/%s", (int)c->app.n, app, c->made);
  if (c->kind == LV_CONF_KEY)
    n = snprintf(dst, size, "/api/v1/apps/%.*s/keys/%s", (int)c->app.n, app, c->made);
  return lv_slice_of(dst, (size_t)n);
}

/* @thread loop */
static void request_done(lv_loop *loop, lv_mail *mail) {
  request *r = (request *)((uint8_t *)mail - offsetof(request, mail));
  lv__change *c = &r->change;
  char location[512];
  (void)loop;
  if (c->status >= 400) {
    refuse(r->call, c->status, c->code, c->why);
  } else {
    if (c->key[0] && c->out.n) { /* `{…}` with one member more */
      c->out.n--;
      lv_buf_printf(&c->out, ",\"key\":\"%s\"}", c->key);
    }
    if (c->out.n) (void)lv_buf_add_byte(&c->out, '\n');
    lv__api_answer(r->call, c->status, lv_buf_slice(&c->out),
                   location_of(c, location, sizeof location));
  }
  lv_buf_done(&c->out);
  memset(c->key, 0, sizeof c->key);
  free(r);
}

/* @thread master */
static void request_run(lv_master *m, lv_store *store, lv_master_job *job) {
  request *r = (request *)job;
  (void)store;
  lv__master_change(m, &r->change);
  r->mail.run = request_done;
  lv_loop_post(r->call->loop, &r->mail);
}

static bool json_body(const lv_http_req *req) {
  const lv_http_header *h = lv_http_header_find(req, LV_SLICE("Content-Type"));
  if (!h) return true;
  lv_slice rest = h->value, type;
  (void)lv_slice_split(&rest, ';', &type);
  while (type.n && type.p[type.n - 1] == ' ') type.n--;
  if (req->method == LV_HTTP_PATCH && lv_slice_caseeq(type, merge_type)) return true; /* RFC 7396 */
  return lv_slice_caseeq(type, json_type);
}

static void change(lv_http_call *call, lv_master *m, enum lv__op op, enum lv_conf_kind kind) {
  if (op != LV__OP_DELETE && !json_body(&call->req)) {
    refuse(call, 415, "UNSUPPORTED", "the body is JSON: Content-Type: application/json");
    return;
  }
  request *r = calloc(1, sizeof *r);
  if (!r) abort();
  bool inside = kind == LV_CONF_CHANNEL || kind == LV_CONF_KEY;
  r->job.run = request_run;
  r->call = call;
  r->change = (lv__change){.op = (uint8_t)op, .kind = (uint8_t)kind, .body = call->body};
  lv_buf_init(&r->change.out, LV__MASTER_OUT_MAX);
  if (inside) r->change.app = param(call, 0, r->app);
  if (op != LV__OP_CREATE) r->change.name = param(call, inside, r->name);
  bool names = (!inside || r->change.app.n) && (op == LV__OP_CREATE || r->change.name.n);
  int err = names ? lv_master_post(m, &r->job) : LV_E_NOT_FOUND;
  if (!err) return;
  lv_buf_done(&r->change.out);
  free(r);
  lv__api_refuse(call, err, NULL);
}

/* ---- handlers ---- */
/* What each needs: the caller is an administrator, the document, the app of the path. */
/* n: parameters of the path; `app`: the first is an app's, which must be there. False: answered. */
bool lv__api_ask(lv_http_call *call, lv_master *m, uint32_t n, bool app, lv__asked *a) {
  a->conf = lv_master_conf(m);
  bool ok = admitted(call, a->conf);
  if (ok && app) {
    a->app = lv_conf_app(a->conf, param(call, 0, a->buf[0]));
    if (!a->app) lv__api_refuse(call, LV_E_NOT_FOUND, "no such app");
    ok = a->app != NULL;
  }
  if (ok && n > app) a->name = param(call, app, a->buf[1]);
  if (!ok) lv_conf_unref(a->conf);
  return ok;
}

static void get_root(lv_http_call *call, void *arg) {
  lv_master *m = arg;
  lv__asked a = {0};
  char at[40], text[512];
  if (!lv__api_ask(call, m, 0, false, &a)) return;
  lv_time_format(m->started, at, sizeof at);
  int64_t up = (lv_wall_now().ns - m->started.ns) / 1000000000;
  int n = snprintf(text, sizeof text,
                   "{\"name\":\"lavva\",\"version\":\"" LV_VERSION "\",\"instance\":\"%s\","
                   "\"started\":\"%s\",\"uptime_seconds\":%lld,\"development\":%s}\n",
                   lv_store_instance(m->store), at, (long long)(up > 0 ? up : 0),
                   a.conf->path ? "false" : "true");
  lv__api_answer(call, 200, lv_slice_of(text, (size_t)n), (lv_slice){NULL, 0});
  lv_conf_unref(a.conf);
}

static void get_openapi(lv_http_call *call, void *arg) {
  lv_master *m = arg;
  lv_http_answer a = {.status = 200,
                      .content_type = json_type,
                      .body = lv_slice_of(m->openapi->data, m->openapi->used),
                      .block = lv_block_ref(m->openapi)};
  lv_http_answer_send(call, &a);
}

static void get_apps(lv_http_call *call, void *arg) {
  lv__asked a = {0};
  if (!lv__api_ask(call, arg, 0, false, &a)) return;
  list_apps(call, a.conf);
  lv_conf_unref(a.conf);
}

static void get_app(lv_http_call *call, void *arg) {
  lv__asked a = {0};
  lv_buf b;
  if (!lv__api_ask(call, arg, 1, true, &a)) return;
  lv_buf_init(&b, LV__MASTER_OUT_MAX);
  lv__show_app(&b, a.app);
  show_one(call, &b, "app");
  lv_conf_unref(a.conf);
}

static void get_channels(lv_http_call *call, void *arg) {
  lv__asked a = {0};
  if (!lv__api_ask(call, arg, 1, true, &a)) return;
  list_channels(call, arg, a.app);
  lv_conf_unref(a.conf);
}

static void get_channel(lv_http_call *call, void *arg) {
  lv__asked a = {0};
  if (!lv__api_ask(call, arg, 2, true, &a)) return;
  show_channel(call, arg, a.app, a.name);
  lv_conf_unref(a.conf);
}

static void get_keys(lv_http_call *call, void *arg) {
  lv__asked a = {0};
  if (!lv__api_ask(call, arg, 1, true, &a)) return;
  list_keys(call, a.app->keys, a.app->n_keys);
  lv_conf_unref(a.conf);
}

static void get_key(lv_http_call *call, void *arg) {
  lv__asked a = {0};
  if (!lv__api_ask(call, arg, 2, true, &a)) return;
  show_key(call, a.conf, a.app, a.name);
  lv_conf_unref(a.conf);
}

static void get_admins(lv_http_call *call, void *arg) {
  lv__asked a = {0};
  if (!lv__api_ask(call, arg, 0, false, &a)) return;
  list_keys(call, a.conf->keys, a.conf->n_keys);
  lv_conf_unref(a.conf);
}

static void get_admin(lv_http_call *call, void *arg) {
  lv__asked a = {0};
  if (!lv__api_ask(call, arg, 1, false, &a)) return;
  show_key(call, a.conf, NULL, a.name);
  lv_conf_unref(a.conf);
}

#define CHANGE(name, op, kind)                                                                     \
  static void name(lv_http_call *call, void *arg) {                                                \
    lv__asked a = {0};                                                                             \
    if (!lv__api_ask(call, arg, 0, false, &a)) return;                                             \
    lv_conf_unref(a.conf);                                                                         \
    change(call, arg, op, kind);                                                                   \
  }
CHANGE(post_apps, LV__OP_CREATE, LV_CONF_APP)
CHANGE(patch_app, LV__OP_PATCH, LV_CONF_APP)
CHANGE(delete_app, LV__OP_DELETE, LV_CONF_APP)
CHANGE(post_channels, LV__OP_CREATE, LV_CONF_CHANNEL)
CHANGE(patch_channel, LV__OP_PATCH, LV_CONF_CHANNEL)
CHANGE(delete_channel, LV__OP_DELETE, LV_CONF_CHANNEL)
CHANGE(post_keys, LV__OP_CREATE, LV_CONF_KEY)
CHANGE(delete_key, LV__OP_DELETE, LV_CONF_KEY)
CHANGE(post_admins, LV__OP_CREATE, LV_CONF_ADMIN)
CHANGE(delete_admin, LV__OP_DELETE, LV_CONF_ADMIN)
#undef CHANGE

#define APPS "/api/v1/apps"
#define APP APPS "/{app}"
#define READ "200 401 403 404"
#define LIST "200 400 401 403"
#define MAKE "201 400 401 403 404 409 413 415 422 503"
#define SET "200 400 401 403 404 409 413 415 422 503"
#define DROP "204 401 403 404 409 422 503"
#define R(m, pattern, id, summary, takes, answers, statuses, list, fn)                             \
  { LV_HTTP_##m, pattern, id, summary, takes, answers, statuses, list, fn }
const lv__api_route lv__api_routes[] = {
    R(GET, "/api/v1", "getInstance", "What runs here", NULL, "Instance", "200 401 403", false,
      get_root),
    R(GET, "/api/v1/openapi.json", "getOpenApi", "This document; no key is needed", NULL, "OpenApi",
      "200", false, get_openapi),
    R(GET, APPS, "listApps", "Apps", NULL, "AppList", LIST, true, get_apps),
    R(POST, APPS, "createApp", "Makes an app", "AppNew", "App", MAKE, false, post_apps),
    R(GET, APP, "getApp", "One app", NULL, "App", READ, false, get_app),
    R(PATCH, APP, "setApp", "Changes an app; null sets a field back", "AppChange", "App", SET,
      false, patch_app),
    R(DELETE, APP, "deleteApp", "Takes an app away, with its channels and keys", NULL, NULL, DROP,
      false, delete_app),
    R(GET, APP "/channels", "listChannels", "Channels of an app, auto-created ones included", NULL,
      "ChannelList", LIST " 404", true, get_channels),
    R(POST, APP "/channels", "createChannel", "Declares a channel", "ChannelNew", "Channel", MAKE,
      false, post_channels),
    R(GET, APP "/channels/{channel}", "getChannel", "One channel", NULL, "Channel", READ, false,
      get_channel),
    R(PATCH, APP "/channels/{channel}", "setChannel", "Changes a channel; null sets a field back",
      "ChannelChange", "Channel", SET, false, patch_channel),
    R(DELETE, APP "/channels/{channel}", "deleteChannel", "Takes a channel's declaration away",
      NULL, NULL, DROP, false, delete_channel),
    R(GET, APP "/keys", "listKeys", "Keys of an app", NULL, "KeyList", LIST " 404", true, get_keys),
    R(POST, APP "/keys", "createKey", "Makes a key, shown once", "KeyNew", "KeyMade", MAKE, false,
      post_keys),
    R(GET, APP "/keys/{id}", "getKey", "One key, without its secret", NULL, "Key", READ, false,
      get_key),
    R(DELETE, APP "/keys/{id}", "deleteKey", "Revokes a key: its connections are closed", NULL,
      NULL, DROP, false, delete_key),
    R(GET, "/api/v1/keys", "listAdminKeys", "Administrators' keys", NULL, "AdminKeyList", LIST,
      true, get_admins),
    R(POST, "/api/v1/keys", "createAdminKey", "Makes an administrator's key, shown once",
      "AdminKeyNew", "AdminKeyMade", MAKE, false, post_admins),
    R(GET, "/api/v1/keys/{id}", "getAdminKey", "One administrator's key", NULL, "AdminKey", READ,
      false, get_admin),
    R(DELETE, "/api/v1/keys/{id}", "deleteAdminKey", "Revokes an administrator's key", NULL, NULL,
      DROP, false, delete_admin),
    R(GET, "/api/v1/usage", "getUsage", "What apps have used, by time", NULL, "Usage", LIST " 503",
      2, lv__api_usage),
    R(GET, APP "/usage", "getAppUsage", "What one app has used, by time", NULL, "Usage",
      LIST " 404 503", 2, lv__api_app_usage),
};
#undef R
const uint32_t lv__api_n_routes = sizeof lv__api_routes / sizeof *lv__api_routes;

void lv__master_routes(lv_master *m, lv_router *router) {
  size_t n;
  char *text = lv__openapi(&n);
  m->openapi = lv_block_new((uint32_t)n);
  if (!m->openapi) abort();
  memcpy(m->openapi->data, text, n);
  m->openapi->used = (uint32_t)n;
  free(text);
  for (uint32_t i = 0; i < lv__api_n_routes; i++) {
    const lv__api_route *r = &lv__api_routes[i];
    lv_router_add(router, (lv_route){.method = (enum lv_http_method)r->method,
                                     .pattern = r->pattern,
                                     .fn = r->fn,
                                     .arg = m,
                                     .body_max = r->takes ? LV__MASTER_BODY_MAX : 0});
  }
}
