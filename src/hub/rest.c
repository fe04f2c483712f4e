/* rest.c: GET /snapshot: the last messages of channels, as one JSON object. The snapshots come from
 * the same cache as those of connections (snap.c), one channel after the other. @thread loop */
#include "hub/hub_int.h"
#include <stdlib.h>

typedef struct rest {
  lv_http_call *call;
  lv__hub_loop *hl;
  lv__hub_ask *ask;
  lv__snap_wait wait;
  lv__hub_group *pin; /* of the channel that is waited for */
  uint32_t n;         /* snapshots that are there */
  uint64_t bytes;
  lv__snap *snap[];
} rest;

static void go_on(rest *r);

static void finish(rest *r) {
  for (uint32_t i = 0; i < r->n; i++) {
    lv_count(lv_metrics_row(r->hl->loop->metrics, r->ask->auth->app_id, LV_KPI_HTTP),
             LV_C_HUB_REPLAYED, r->snap[i]->n);
    lv__snap_unref(r->snap[i]);
  }
  lv__hub_ask_free(r->ask);
  free(r);
}

static uint8_t *put(uint8_t *p, lv_slice s) {
  memcpy(p, s.p, s.n);
  return p + s.n;
}

static uint8_t *put_chan(uint8_t *p, lv_slice name, const lv__snap *s) {
  p = lv_json_put_string(p, name);
  p = put(p, LV_SLICE(":["));
  for (uint32_t i = 0; i < s->n; i++) {
    if (i) *p++ = ',';
    p = put(p, lv_slice_of(s->f[i].f.p, s->f[i].f.n));
  }
  *p++ = ']';
  return p;
}

static void answer(rest *r) {
  uint64_t size = 64;
  for (uint32_t i = 0; i < r->n; i++)
    size += LV_JSON_STRING_BOUND(r->ask->q.channels[i].n) + 8 + r->snap[i]->bytes + r->snap[i]->n;
  lv_block *b = lv_block_new((uint32_t)size);
  if (!b) {
    lv_access_refuse(r->call, r->ask->auth, LV_E_NOMEM, NULL);
    return;
  }
  uint8_t *p = put(b->data, LV_SLICE("{\"Snapshot\":{"));
  for (uint32_t i = 0; i < r->n; i++) {
    if (i) *p++ = ',';
    p = put_chan(p, r->ask->q.channels[i], r->snap[i]);
  }
  p = put(p, LV_SLICE("}}\n"));
  b->used = (uint32_t)(p - b->data);
  assert(b->used <= b->cap);
  static const lv_http_header no_store[] = {{LV_SLICE("Cache-Control"), LV_SLICE("no-store")}};
  lv_access_answer(r->call, r->ask->auth,
                   &(lv_http_answer){.status = 200,
                                     .content_type = LV_SLICE("application/json"),
                                     .headers = no_store,
                                     .n_headers = 1,
                                     .body = lv_slice_of(b->data, b->used),
                                     .block = b});
  lv_metrics *row = lv_metrics_row(r->hl->loop->metrics, r->ask->auth->app_id, LV_KPI_HTTP);
  for (uint32_t i = 0; i < r->n; i++)
    for (uint32_t k = 0; k < r->snap[i]->n; k++)
      lv_count(row, LV_C_USE_HISTORY, r->snap[i]->f[k].use_steps);
}

static void add(rest *r, lv__snap *snap) {
  r->snap[r->n++] = snap;
  r->bytes += snap->bytes;
}

static void unpin(rest *r) {
  if (r->pin) r->pin->n_subs--;
  r->pin = NULL;
}

static void done(lv__snap_wait *wait, lv__snap *snap, int err) {
  rest *r = (rest *)((char *)wait - offsetof(rest, wait));
  unpin(r);
  if (snap) {
    add(r, snap);
    go_on(r);
    return;
  }
  lv_access_refuse(r->call, r->ask->auth, err, NULL);
  finish(r);
}

static void go_on(rest *r) {
  static const lv__variant plain = {.transport = LV__OVER_REST};
  lv__variant v = plain;
  v.pos = r->ask->q.pos;
  while (r->n < r->ask->q.n_channels && r->bytes <= LV__HUB_ANSWER_BYTES) {
    lv_chan *chan = r->ask->chans[r->n];
    lv__hub_group *g = lv__hub_group_get(r->hl, lv__hub_chan_get(r->hl, chan), v);
    lv__hub_conn who = {.auth = r->ask->auth, .wish = lv__hub_wish_new(&r->ask->q)};
    lv__filter *filter = lv__hub_filter(&who, chan);
    free(who.wish);
    uint32_t max = lv__hub_snap_max(r->ask->auth->app, chan);
    lv__snap *snap = lv__snap_ask(r->hl, g, filter, max, &r->wait);
    lv__filter_unref(filter);
    if (!snap) {
      r->pin = g;
      g->n_subs++;
      return;
    }
    add(r, snap);
  }
  if (r->bytes > LV__HUB_ANSWER_BYTES)
    lv_access_refuse(r->call, r->ask->auth, LV_E_TOO_BIG, "too many bytes for one answer");
  else
    answer(r);
  finish(r);
}

void lv__hub_snapshot(lv_http_call *call, void *hub) {
  lv__hub_loop *hl = lv__hub_here(hub, call->loop);
  lv__hub_ask *ask;
  if (lv__hub_ask_new(hl, call, LV_SLICE(""), LV_HUB_V1, LV__OVER_REST, &ask)) return;
  rest *r = calloc(1, sizeof *r + ask->q.n_channels * sizeof r->snap[0]);
  if (!r) abort();
  r->call = call;
  r->hl = hl;
  r->ask = ask;
  r->wait.done = done;
  go_on(r);
}
