/* http_publish.c: POST /v1/channels/{channel}/messages?key=&tag=&cat=&tms=[&batch=1]
 *
 *   body                                   is
 *   anything                               one value, byte for byte
 *   application/x-ndjson                   a batch, one {key,tag,cat,val|b64} a line
 *   a JSON array, with batch=1             a batch, one element each
 *
 * Answered when every message is as safe as its channel asks: 200 and {"pos":"EPOCH-OFFSET"}, or
 * {"results":[{"pos":…}|{"error":…,"code":…,"status":…},…]} for a batch: 200 when all were stored,
 * 207 when some were, else the status of the first. key, tag and cat of the query hold for the
 * items of a batch that have none of their own.
 *
 * Nothing is kept between requests but what Idempotency-Key asks for (idem.h). @thread loop */
#include "gateway/http_publish.h"
#include "access/access.h"
#include "core/buf.h"
#include "core/hash.h"
#include "gateway/batch.h"
#include "gateway/publish.h"
#include <assert.h>
#include <stdlib.h>

enum { SCRATCH_SMALL = 6 * 1024 };
enum how { ONE, LINES, ARRAY };

/* A request, taken apart. */
typedef struct ask {
  lv_http_call *call;
  lv_gw_loop *gl;
  lv_auth *auth;
  lv_slice channel, key, tag, cat, tms, content_type, pid, idem;
  bool has_key;
  uint8_t how, proto;
  uint32_t n; /* messages */
  lv_cut cut;
  uint8_t *scratch; /* decoded parameters, then what items need */
  uint32_t used;
  uint8_t *item; /* of a batch: where its items are decoded */
  const char *why;
} ask;

static int fail(ask *a, int err, const char *why) {
  a->why = why;
  return err;
}

/* ---- taking it apart ---- */

static int one_header(ask *a, lv_slice name, lv_slice *ret) {
  const lv_http_req *req = &a->call->req;
  bool has = false;
  for (uint32_t i = 0; i < req->n_headers; i++) {
    if (!lv_slice_caseeq(req->headers[i].name, name)) continue;
    if (has) return LV_E_INVALID;
    has = true;
    *ret = req->headers[i].value;
    if (ret->n == 0) return LV_E_INVALID;
  }
  return 0;
}

/* The media type without its parameters is what decides; the whole field is what is kept. */
static bool media_is(lv_slice field, lv_slice type) {
  lv_slice media;
  (void)lv_slice_split(&field, ';', &media);
  while (media.n && (media.p[media.n - 1] == ' ' || media.p[media.n - 1] == '\t')) media.n--;
  return lv_slice_caseeq(media, type);
}

static int decode(ask *a, lv_slice raw, bool plus, lv_slice *ret) {
  int err = lv_http_decode(raw, plus, a->scratch + a->used, ret);
  a->used += raw.n;
  return err;
}

static int take_param(ask *a, lv_slice name, lv_slice value, uint8_t *seen) {
  static const char *const names[] = {"key", "tag", "cat", "tms", "batch"};
  lv_slice *const into[] = {&a->key, &a->tag, &a->cat, &a->tms, NULL};
  for (uint32_t i = 0; i < 5; i++) {
    if (!lv_slice_eq(name, lv_slice_str(names[i]))) continue;
    if (*seen & 1u << i) return fail(a, LV_E_INVALID, "a parameter was given twice");
    *seen |= (uint8_t)(1u << i);
    if (i == 0) a->has_key = true;
    if (i < 4 && decode(a, value, true, into[i]))
      return fail(a, LV_E_INVALID, "key, tag, cat and tms are percent-encoded UTF-8");
    if (i < 4) return 0;
    if (lv_slice_eq(value, LV_SLICE("1")) || lv_slice_eq(value, LV_SLICE("true")))
      a->how = ARRAY;
    else if (!lv_slice_eq(value, LV_SLICE("0")) && !lv_slice_eq(value, LV_SLICE("false")))
      return fail(a, LV_E_INVALID, "batch is 0 or 1");
  }
  return 0;
}

static int take_target(ask *a) {
  lv_slice query = a->call->req.query, name, value;
  uint8_t seen = 0;
  int err = decode(a, a->call->params[0], false, &a->channel);
  if (err) return fail(a, LV_E_INVALID, "the channel is percent-encoded UTF-8");
  while (!err && lv_http_query_next(&query, &name, &value)) err = take_param(a, name, value, &seen);
  return err;
}

static int take_fields(ask *a) {
  if (one_header(a, LV_SLICE("Content-Type"), &a->content_type))
    return fail(a, LV_E_INVALID, "Content-Type is there once");
  if (media_is(a->content_type, LV_SLICE("application/x-ndjson"))) a->how = LINES;
  /* What curl says when nobody told it what it sends; it says nothing about the value. */
  if (media_is(a->content_type, LV_SLICE("application/x-www-form-urlencoded")))
    a->content_type = (lv_slice){0};
  if (a->auth->key) a->pid = a->auth->key->id;
  if (one_header(a, LV_SLICE("Publisher-Id"), &a->pid) || a->pid.n > LV_PUBLISH_ID_MAX ||
      !lv_utf8_valid(a->pid, true))
    return fail(a, LV_E_INVALID, "Publisher-Id is there once, at most 256 bytes of UTF-8");
  if (a->auth->signer && !lv_slice_eq(a->pid, a->auth->key->id))
    return fail(a, LV_E_FORBIDDEN, "the publisher of a token is its sub");
  if (one_header(a, LV_SLICE("Idempotency-Key"), &a->idem) || a->idem.n > LV_IDEM_KEY_MAX)
    return fail(a, LV_E_INVALID, "Idempotency-Key is there once, at most 255 bytes");
  return 0;
}

static int take_body(ask *a) {
  a->n = 1;
  if (a->call->body.n > a->auth->app->limits.packet_bytes)
    return fail(a, LV_E_TOO_BIG, "the body is larger than the app may send");
  if (a->how == ONE) return 0;
  return lv_cut_init(&a->cut, a->how == ARRAY, a->call->body, LV_PUBLISH_ITEMS_MAX, &a->n, &a->why);
}

/* ---- answering ---- */

static void put_error(lv_buf *b, int err, const char *why) {
  (void)lv_buf_printf(b, "{\"error\":\"%s\",\"code\":\"%s\",\"status\":%d}",
                      why ? why : lv_err_text(err), lv_err_name(err), lv_err_http(err));
}

static void put_pos(lv_buf *b, lv_gw_loop *gl, const lv_publish_res *res) {
  char pos[LV_PUBLISH_POS_MAX];
  uint32_t n = lv__publish_pos(gl, res, pos);
  (void)lv_buf_printf(b, "{\"pos\":\"%.*s\"}", (int)n, pos);
}

/* 200: all stored; 207: some; else what the first one got. */
static uint16_t batch_status(const lv_publish *p, bool *ret_retry) {
  uint32_t stored = 0;
  int first = 0;
  for (uint32_t i = 0; i < p->n; i++) {
    stored += p->res[i].err == 0;
    if (!first) first = p->res[i].err;
    *ret_retry |= p->res[i].err && lv_err_retriable(p->res[i].err);
  }
  return stored == p->n ? 200 : stored ? 207 : (uint16_t)lv_err_http(first);
}

static void answer_batch(lv_publish *p) {
  static const lv_http_header retry = {LV_SLICE("Retry-After"), LV_SLICE("1")};
  lv_http_call *call = p->arg;
  lv_buf b;
  bool again = false;
  lv_buf_init(&b, 1u << 30);
  (void)lv_buf_add_str(&b, "{\"results\":[");
  for (uint32_t i = 0; i < p->n; i++) {
    if (i) (void)lv_buf_add_byte(&b, ',');
    if (p->res[i].err)
      put_error(&b, p->res[i].err, p->res[i].why);
    else
      put_pos(&b, p->gl, &p->res[i]);
  }
  (void)lv_buf_add_str(&b, "]}\n");
  lv_http_answer a = {.status = batch_status(p, &again),
                      .content_type = LV_SLICE("application/json"),
                      .headers = &retry,
                      .body = lv_buf_slice(&b)};
  a.n_headers = again;
  lv_access_answer(call, p->auth, &a);
  lv_buf_done(&b);
  lv__publish_free(p);
}

static void answer_one(lv_publish *p) {
  lv_http_call *call = p->arg;
  char text[LV_PUBLISH_POS_MAX + 16] = "{\"pos\":\"";
  const lv_publish_res *res = &p->res[0];
  if (res->err) {
    lv_access_refuse(call, p->auth, res->err, res->why);
  } else {
    uint32_t n = 8 + lv__publish_pos(p->gl, res, text + 8);
    memcpy(text + n, "\"}\n", 3);
    lv_access_answer(call, p->auth,
                     &(lv_http_answer){.status = 200,
                                       .content_type = LV_SLICE("application/json"),
                                       .body = lv_slice_of(text, n + 3)});
  }
  lv__publish_free(p);
}

/* All of a request is refused. What it brought (a message, if nobody knows) is counted. */
static void refuse(ask *a, int err, enum lv_counter c) {
  if (a->auth) {
    lv_metrics *row = lv_metrics_row(a->gl->loop->metrics, a->auth->app_id, a->proto);
    uint32_t n = a->n ? a->n : 1;
    lv_count(row, LV_C_GW_OFFERED, n);
    lv_count(row, c, n);
  }
  lv_access_refuse(a->call, a->auth, err, a->why);
  lv_auth_unref(a->auth);
  a->auth = NULL;
}

/* Values are kept byte for byte, and nobody who reads them is told of an encoding. */
static bool is_encoded(const lv_http_req *req) {
  const lv_http_header *h = lv_http_header_find(req, LV_SLICE("Content-Encoding"));
  return h && !lv_slice_caseeq(h->value, LV_SLICE("identity"));
}

static void refuse_encoded(ask *a) {
  static const char text[] =
      "{\"error\":\"the body is sent as it is: without Content-Encoding\",\"code\":\"PAYLOAD\"}\n";
  lv_metrics *row = lv_metrics_row(a->gl->loop->metrics, a->auth->app_id, a->proto);
  lv_count(row, LV_C_GW_OFFERED, 1);
  lv_count(row, LV_C_GW_REJ_PAYLOAD, 1);
  lv_access_answer(a->call, a->auth,
                   &(lv_http_answer){.status = 415,
                                     .content_type = LV_SLICE("application/json"),
                                     .body = lv_slice_str(text)});
  lv_auth_unref(a->auth);
}

/* ---- publishing ---- */

/* The print of the whole request, so that a batch with another item is told from a repeat. */
static uint64_t print_of(const ask *a) {
  uint64_t parts[] = {lv_hash_slice(a->channel),     lv_hash_slice(a->key),
                      lv_hash_slice(a->tag),         lv_hash_slice(a->cat),
                      lv_hash_slice(a->call->body),  ((uint64_t)a->how << 1) | a->has_key,
                      lv_hash_slice(a->content_type)};
  uint64_t h = lv_hash(parts, sizeof parts);
  return h ? h : 1;
}

static int take_idem(ask *a, lv_idem_entry **ret) {
  if (!a->idem.n) return 0;
  uint64_t sid = lv_idem_sid(a->auth->app->name, a->idem);
  int err = lv_idem_begin(a->gl->gateway->idem, a->auth->app_id, sid, a->n, print_of(a), ret);
  if (err == LV_E_EXISTS)
    return fail(a, err, "a request with this Idempotency-Key is being served");
  if (err) return fail(a, err, "another request was made with this Idempotency-Key");
  return 0;
}

static void add_one(ask *a, lv_publish *p) {
  lv_publish_item item = {.key = a->key,
                          .tag = a->tag,
                          .cat = a->cat,
                          .tms = a->tms,
                          .content_type = a->content_type,
                          .val = a->call->body,
                          .has_key = a->has_key};
  lv__publish_item(p, 0, &item, a->scratch + a->used);
}

static void add_item(ask *a, lv_publish *p, uint32_t i, lv_slice text) {
  lv_hub_publish m;
  const char *why = NULL;
  uint8_t *scratch = a->item;
  int err = lv_hub_publish_decode(text, scratch, &m, &why);
  if (err) {
    lv__publish_bad(p, i, err, why);
    return;
  }
  lv_publish_item base = {
      .key = a->key, .tag = a->tag, .cat = a->cat, .tms = a->tms, .has_key = a->has_key};
  lv__publish_object(p, i, &m, &base, scratch + text.n);
}

static void add_batch(ask *a, lv_publish *p) {
  a->item =
      malloc(3 * (size_t)a->call->body.n + a->channel.n + a->key.n + 4 * LV_PUBLISH_LABEL_MAX);
  if (!a->item) abort();
  for (uint32_t i = 0; i < a->n; i++) add_item(a, p, i, lv_cut_next(&a->cut));
  free(a->item);
}

static void publish(ask *a, lv_idem_entry *idem) {
  lv_publish *p = lv__publish_new(a->gl, a->auth, a->proto, a->n);
  p->channel = a->channel;
  p->pid = a->pid;
  p->conn = a->call->conn;
  p->idem = idem;
  p->arg = a->call;
  p->done = a->how == ONE ? answer_one : answer_batch;
  if (a->how == ONE)
    add_one(a, p);
  else
    add_batch(a, p);
  lv__publish_end(p);
}

/* Room for decoded parameters and for what publishing one item takes: its topic, properties; of a
 * batch also its decoded strings. `small` is enough for nearly all. */
static uint8_t *scratch_new(const lv_http_call *call, uint8_t small[SCRATCH_SMALL]) {
  size_t head = (size_t)call->params[0].n + call->req.query.n;
  size_t want = 2 * head + 4 * LV_PUBLISH_LABEL_MAX + 64;
  if (want <= SCRATCH_SMALL) return small;
  uint8_t *p = malloc(want);
  if (!p) abort();
  return p;
}

static void on_publish(lv_http_call *call, void *arg) {
  lv_gateway *g = arg;
  ask a = {.call = call, .gl = g->loops[call->loop->index], .proto = lv_access_proto(call->conn)};
  lv_idem_entry *idem = NULL;
  int err = lv_access_http(g->realm, lv_shard_conf(a.gl->shard), call, &a.auth);
  if (err) {
    lv_access_refuse(call, NULL, err, NULL);
    return;
  }
  if (is_encoded(&call->req)) {
    refuse_encoded(&a);
    return;
  }
  uint8_t small[SCRATCH_SMALL];
  a.scratch = scratch_new(call, small);
  err = take_target(&a);
  if (!err) err = take_fields(&a);
  if (!err) err = take_body(&a);
  if (err) {
    refuse(&a, err, lv_reject_counter(err));
  } else if ((err = take_idem(&a, &idem))) {
    refuse(&a, err, err == LV_E_EXISTS ? LV_C_GW_REJ_BUSY : LV_C_GW_REJ_PAYLOAD);
  } else {
    publish(&a, idem);
  }
  if (a.scratch != small) free(a.scratch);
}

void lv__http_publish_routes(lv_gateway *g, lv_router *router, const lv_conf *conf) {
  static const char path[] = "/v1/channels/{channel}/messages";
  lv_router_add(router, (lv_route){.method = LV_HTTP_POST,
                                   .pattern = path,
                                   .fn = on_publish,
                                   .arg = g,
                                   .open = true,
                                   .body_max = conf->limits.packet_bytes});
  lv_router_add(router, (lv_route){.method = LV_HTTP_OPTIONS,
                                   .pattern = path,
                                   .fn = lv_access_preflight,
                                   .open = true});
}
