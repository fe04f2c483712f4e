/* hub.c: the process's side and each loop's side of the hub: routes, channels and their groups, the
 * broker's feed on and off, what is done each second. */
#include "core/log.h"
#include "hub/hub_int.h"
#include <stdio.h>
#include <stdlib.h>

int lv_hub_new(lv_realm *realm, lv_broker *broker, lv_hub **ret_hub) {
  lv_hub *h = calloc(1, sizeof *h);
  if (!h) return LV_E_NOMEM;
  h->magic = LV__HUB_MAGIC;
  h->realm = realm;
  h->broker = broker;
  *ret_hub = h;
  return 0;
}

void lv_hub_free(lv_hub *h) {
  free(h);
}

void lv_hub_routes(lv_hub *h, lv_router *router) {
  static const struct {
    const char *pattern;
    lv_http_handler *fn;
  } routes[] = {{"/ws", lv__hub_ws},
                {"/v1/ws", lv__hub_ws09},
                {"/v1/channels/{channel}/events", lv__hub_events},
                {"/snapshot", lv__hub_snapshot}};
  for (uint32_t i = 0; i < sizeof routes / sizeof *routes; i++) {
    lv_router_add(router, (lv_route){LV_HTTP_GET, routes[i].pattern, routes[i].fn, h, 0, true});
    lv_router_add(
        router, (lv_route){LV_HTTP_OPTIONS, routes[i].pattern, lv_access_preflight, NULL, 0, true});
  }
}

/* ---- channels and groups ---- */

lv__hub_chan *lv__hub_chan_get(lv__hub_loop *hl, lv_chan *chan) {
  if (chan->id >= hl->n_chans) {
    uint32_t n = hl->n_chans ? hl->n_chans : 16;
    while (n <= chan->id) n *= 2;
    hl->chans = realloc(hl->chans, n * sizeof *hl->chans);
    if (!hl->chans) abort();
    memset(hl->chans + hl->n_chans, 0, (n - hl->n_chans) * sizeof *hl->chans);
    hl->n_chans = n;
  }
  if (hl->chans[chan->id]) return hl->chans[chan->id];
  lv__hub_chan *ch = calloc(1, sizeof *ch);
  if (!ch) abort();
  ch->chan = chan;
  ch->known_from = hl->on ? hl->seen.lsn[chan->durability] : UINT64_MAX;
  hl->chans[chan->id] = ch;
  return ch;
}

lv__hub_group *lv__hub_group_get(lv__hub_loop *hl, lv__hub_chan *ch, lv__variant v) {
  lv__hub_group **p = &ch->groups;
  while (*p && !lv__variant_eq((*p)->v, v)) p = &(*p)->next;
  if (*p) return *p;
  lv__hub_group *g = calloc(1, sizeof *g);
  if (!g) abort();
  g->ch = ch;
  g->v = v;
  g->used_ns = hl->loop->now.ns;
  *p = g;
  return g;
}

static void group_free(lv__hub_group *g) {
  assert(!g->n_all && !g->job);
  lv__snap_unref(g->snap);
  free(g->subs);
  free(g);
}

/* Snapshots that nobody asked for lately go, and groups without subscriptions with them. */
static void chan_sweep(lv__hub_loop *hl, lv__hub_chan **slot) {
  lv__hub_chan *ch = *slot;
  int64_t old = hl->loop->now.ns - LV__HUB_CACHE_S * INT64_C(1000000000);
  for (lv__hub_group **p = &ch->groups; *p;) {
    lv__hub_group *g = *p;
    if (g->snap && !g->job && g->used_ns < old) {
      lv__snap_unref(g->snap);
      g->snap = NULL;
    }
    if (g->n_subs || g->job || g->used_ns >= old) {
      p = &g->next;
      continue;
    }
    *p = g->next;
    group_free(g);
  }
  if (ch->groups || ch->n_subs) return;
  *slot = NULL;
  free(ch->run);
  free(ch);
}

/* ---- the feed ---- */

void lv__hub_epochs(lv__hub_loop *hl) {
  lv_broker_desc d;
  uint32_t count = atomic_load(&hl->broker->epochs);
  if (count == hl->epochs || hl->broker->ops->describe(hl->broker, &d)) return;
  hl->epochs = count;
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) {
    struct lv__hub_epoch *e = &hl->epoch[i];
    if (strcmp(e->now, d.epoch[i]) == 0) continue;
    memcpy(e->before, e->now, sizeof e->before);
    memcpy(e->now, d.epoch[i], sizeof e->now);
    e->from = d.epoch_from[i];
  }
}

void lv__hub_wake(lv__hub_loop *hl) {
  if (hl->on) return;
  hl->on = true;
  hl->on_from = hl->seen = hl->broker->ops->interest(hl->broker, hl->loop, &hl->feed, true);
  for (uint32_t i = 0; i < hl->n_chans; i++)
    if (hl->chans[i]) hl->chans[i]->known_from = hl->seen.lsn[hl->chans[i]->chan->durability];
}

static void sleep_if_idle(lv__hub_loop *hl) {
  if (!hl->on || hl->n_conns || hl->reads || hl->jobs || ++hl->idle_s < LV__HUB_CACHE_S) return;
  (void)hl->broker->ops->interest(hl->broker, hl->loop, &hl->feed, false);
  hl->on = false;
}

/* Gauges of each app, beside those of its sessions: the most that one customer is owed, and how
 * many subscriptions read the log. */
static void count_lag(lv__hub_loop *hl) {
  lv_metrics *m = hl->loop->metrics;
  uint32_t n = m->n_rows / LV_KPI_PROTO_COUNT;
  struct lag_of_app {
    int64_t max, lagging;
  } *app = calloc(n + 1, sizeof *app);
  if (!app) abort();
  for (const lv__hub_conn *hc = hl->conns; hc; hc = hc->next) {
    struct lag_of_app *a = &app[hc->auth->app_id + 1 < n ? hc->auth->app_id + 1 : n];
    int64_t owed = hc->conn->outq.msgs;
    for (const lv__hub_sub *sub = hc->subs; sub; sub = sub->next) {
      owed += sub->behind + lv__hold_count(sub);
      a->lagging += sub->state != LV__SUB_LIVE;
    }
    if (owed > a->max) a->max = owed;
  }
  for (uint32_t i = 1; i < n; i++) {
    bool known = m->rows[i * LV_KPI_PROTO_COUNT + LV_KPI_WS];
    if (!known && !app[i].max && !app[i].lagging) continue;
    lv_metrics *row = lv_metrics_row(m, i - 1, LV_KPI_WS);
    lv_gauge_set(row, LV_G_LAG_MAX, app[i].max);
    lv_gauge_set(row, LV_G_LAGGING, app[i].lagging);
  }
  free(app);
}

static void tick(lv_timer *t) {
  lv__hub_loop *hl = (lv__hub_loop *)((char *)t - offsetof(lv__hub_loop, tick));
  lv_timer_arm(&hl->loop->wheel, t, hl->loop->now, LV_SEC(1), tick);
  for (uint32_t i = 0; i < hl->n_chans; i++) {
    if (!hl->chans[i]) continue;
    if (hl->chans[i]->n_subs) lv_chan_in_use(hl->chans[i]->chan, hl->loop->metrics, hl->loop->wall);
    chan_sweep(hl, &hl->chans[i]);
  }
  count_lag(hl);
  sleep_if_idle(hl);
}

static void hook(lv_loop *loop, void *arg) {
  (void)loop;
  lv__hub_doomed_close(arg);
}

/* ---- life ---- */

int lv_hub_loop_init(lv_hub *h, lv_loop *loop, lv_shard *shard) {
  lv__hub_loop *hl = calloc(1, sizeof *hl);
  if (!hl) return LV_E_NOMEM;
  hl->hub = h;
  hl->loop = loop;
  hl->shard = shard;
  hl->broker = h->broker;
  hl->feed = (lv_feed){.fn = lv__hub_feed, .arg = hl};
  int err = hl->broker->ops->attach(hl->broker, loop, &hl->feed, &hl->seen);
  if (err) {
    free(hl);
    return err;
  }
  lv__hub_epochs(hl);
  hl->watch = (lv_shard_watch){.fn = lv__hub_reloaded, .arg = hl};
  lv_shard_watch_add(shard, &hl->watch);
  hl->hook = (lv_hook){.run = hook, .arg = hl};
  lv_loop_hook(loop, LV_PHASE_DELIVER, &hl->hook);
  lv_timer_arm(&loop->wheel, &hl->tick, loop->now, LV_SEC(1), tick);
  h->loops[loop->index] = hl;
  return 0;
}

void lv_hub_loop_quiesce(lv_hub *h, lv_loop *loop) {
  lv__hub_loop *hl = h->loops[loop->index];
  if (!hl) return;
  hl->ended = true;
  lv__snap_jobs_end(hl);
  lv_timer_cancel(&loop->wheel, &hl->tick);
}

void lv_hub_loop_done(lv_hub *h, lv_loop *loop) {
  lv__hub_loop *hl = h->loops[loop->index];
  if (!hl) return;
  assert(!hl->conns);
  lv__snap_jobs_free(hl);
  lv__lag_reads_free(hl);
  for (uint32_t i = 0; i < hl->n_chans; i++) {
    lv__hub_chan *ch = hl->chans[i];
    while (ch && ch->groups) {
      lv__hub_group *g = ch->groups;
      ch->groups = g->next;
      group_free(g);
    }
    if (ch) free(ch->run);
    free(ch);
  }
  free(hl->chans);
  lv_block_unref(hl->frames.block);
  free(hl->tmp);
  free(hl);
  h->loops[loop->index] = NULL;
}
