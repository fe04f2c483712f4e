/* hold.c: live messages that a subscription does not get at once, because its customer is slow or
 * asked for at most one message per key each `conflate` ms.
 *
 *   list   in the order in which they are due: oldest first
 *   map    by key, where messages conflate: an entry per key, with the newest message or (conflate)
 *          with none, so that it is known when the key was last sent
 *
 * Entries refer to shared frames, or have a copy of a small one. Bounded by the app's
 * queue_messages and queue_bytes (frames, and keys): beyond them the oldest message is dropped, and
 * counted. @thread loop */
#include "hub/hub_int.h"
#include <stdlib.h>

typedef struct entry {
  struct entry *next, *prev;
  lv__frame f; /* with a reference; block NULL: nothing waits */
  lv_mono stamp;
  int64_t due_ns, tms_ms; /* tms_ms 0: the publisher gave no time, or it is no live delivery */
  lv_use use;
  uint32_t val_n;
  uint32_t key_n;
  uint8_t key[];
} entry;

typedef struct lv__hold {
  lv__hub_sub *sub;
  entry *first, *last;
  lv_map by_key;
  uint32_t n;     /* entries */
  uint32_t full;  /* of these, with a message */
  uint64_t bytes; /* of the frames that wait */
  uint64_t keys;  /* bytes of the entries' keys */
  lv_timer timer; /* conflate: the first entry is due */
  bool mapped;
} lv__hold;

static lv_slice key_of(const void *obj) {
  const entry *e = obj;
  return lv_slice_of(e->key, e->key_n);
}

bool lv__hub_slow(const lv__hub_conn *hc) {
  return hc->conn->outq.bytes > hc->conn->out_max;
}

/* Whether what waits may go now: not so much that it counts as slow at once. */
static bool room(const lv__hub_conn *hc) {
  return hc->conn->outq.bytes < hc->conn->out_max / 2;
}

static void link_last(lv__hold *h, entry *e) {
  e->next = NULL;
  e->prev = h->last;
  if (h->last)
    h->last->next = e;
  else
    h->first = e;
  h->last = e;
}

static void unlink_entry(lv__hold *h, entry *e) {
  if (e->prev)
    e->prev->next = e->next;
  else
    h->first = e->next;
  if (e->next)
    e->next->prev = e->prev;
  else
    h->last = e->prev;
}

/* The entry's message leaves it. */
static void empty(lv__hold *h, entry *e) {
  if (!e->f.block) return;
  h->full--;
  h->bytes -= e->f.n;
  lv_block_unref(e->f.block);
  e->f.block = NULL;
}

/* The publisher's timestamp of a live delivery, else 0. */
static int64_t time_of(const lv_rec *rec, lv_mono stamp) {
  int64_t ms;
  return stamp.ns && lv_rec_tms(rec, &ms) ? ms : 0;
}

static void count_time(const lv__hub_conn *hc, int64_t ms) {
  lv_loop *loop = hc->hl->loop;
  if (ms)
    lv_metrics_latency(loop->metrics, lv__hub_row(hc), LV_LATENCY_END, loop->wall.ns - ms * 1000000,
                       1);
}

/* What waits for a slow customer may wait long, and should not keep the block that it lies in. */
static void fill(lv__hold *h, entry *e, const lv__frame *f, const lv_rec *rec, lv_mono stamp) {
  e->f = *f;
  if (h->sub->hc->conflate_ms || f->n > LV__HUB_SMALL) {
    lv_block_ref(f->block);
  } else {
    e->f.block = lv_block_new(f->n);
    e->f.p = memcpy(e->f.block->data, f->p, f->n);
  }
  e->stamp = stamp;
  e->use = lv_use_of(rec);
  e->val_n = lv_rec_val(rec).n;
  e->tms_ms = time_of(rec, stamp);
  h->full++;
  h->bytes += f->n;
}

uint32_t lv__hold_count(const lv__hub_sub *sub) {
  return sub->hold ? sub->hold->full : 0;
}

static void entry_free(lv__hold *h, entry *e) {
  empty(h, e);
  unlink_entry(h, e);
  if (h->mapped) (void)lv_map_del(&h->by_key, key_of(e));
  h->n--;
  h->keys -= e->key_n;
  free(e);
}

static void send_entry(lv__hold *h, entry *e) {
  lv__hub_sub *sub = h->sub;
  lv__hub_send_alone(sub->hc, &e->f, 1, e->stamp, e->use);
  lv__hub_count_queued(sub, 1, e->val_n);
  count_time(sub->hc, e->tms_ms);
  empty(h, e);
}

static lv__hold *hold_get(lv__hub_sub *sub, bool mapped) {
  if (sub->hold) return sub->hold;
  lv__hold *h = calloc(1, sizeof *h);
  if (!h) abort();
  h->sub = sub;
  h->mapped = mapped;
  lv_map_init(&h->by_key, key_of);
  sub->hold = h;
  return h;
}

void lv__hold_free(lv__hub_sub *sub, enum lv_counter why) {
  lv__hold *h = sub->hold;
  if (!h) return;
  if (h->full) lv__hub_count_drop(sub, why, h->full);
  lv_timer_cancel(&sub->hc->hl->loop->wheel, &h->timer);
  while (h->first) entry_free(h, h->first);
  lv_map_done(&h->by_key);
  sub->hold = NULL;
  free(h);
}

/* Within the bounds again: the oldest message goes. */
static void bound(lv__hold *h) {
  const lv_limits *l = &h->sub->hc->auth->app->limits;
  for (;;) {
    bool many = h->n > l->queue_messages || (h->keys > l->queue_bytes && h->n > 1);
    if (!many && (h->bytes <= l->queue_bytes || h->full <= 1)) return;
    entry *e = h->first;
    while (!many && !e->f.block) e = e->next;
    if (e->f.block) lv__hub_count_drop(h->sub, LV_C_DROP_HUB_SLOW, 1);
    entry_free(h, e);
  }
}

/* The newest message of the key takes the place of the one that waits. */
static entry *entry_put(lv__hold *h, const lv__frame *f, const lv_rec *rec, lv_mono stamp) {
  lv_slice key = h->mapped ? lv_hub_key_of(rec) : (lv_slice){NULL, 0};
  entry *e = h->mapped ? lv_map_get(&h->by_key, key) : NULL;
  if (e && e->f.block) {
    lv__hub_count_drop(h->sub, LV_C_DROP_HUB_CONFLATED, 1);
    empty(h, e);
  }
  if (!e) {
    e = calloc(1, sizeof *e + key.n);
    if (!e) abort();
    e->key_n = key.n;
    if (key.n) memcpy(e->key, key.p, key.n);
    if (h->mapped) (void)lv_map_add(&h->by_key, e);
    link_last(h, e);
    h->n++;
    h->keys += key.n;
  }
  fill(h, e, f, rec, stamp);
  return e;
}

/* ---- conflate=MS ---- */

static void on_due(lv_timer *t);

static void arm(lv__hold *h) {
  lv_loop *loop = h->sub->hc->hl->loop;
  if (!h->first) return;
  int64_t in = h->first->due_ns - loop->now.ns;
  lv_timer_arm(&loop->wheel, &h->timer, loop->now, (lv_dur){in > 0 ? in : 0}, on_due);
}

/* Entries are due in the order of the list, since all keys wait equally long. */
static void give_due(lv__hold *h) {
  lv__hub_sub *sub = h->sub;
  lv__hub_conn *hc = sub->hc;
  int64_t now = hc->hl->loop->now.ns;
  while (h->first && h->first->due_ns <= now) {
    entry *e = h->first;
    if (e->f.block && !room(hc)) {
      hc->conn->want_drain = 1;
      return; /* lv__hold_flush goes on */
    }
    if (!e->f.block) {
      entry_free(h, e);
      continue;
    }
    send_entry(h, e);
    unlink_entry(h, e);
    e->due_ns = now + (int64_t)hc->conflate_ms * 1000000;
    link_last(h, e);
  }
  arm(h);
}

static void on_due(lv_timer *t) {
  lv__hold *h = (lv__hold *)((char *)t - offsetof(lv__hold, timer));
  if (!h->sub->hc->closing) give_due(h);
}

static void give_conflated(lv__hub_sub *sub, const lv__frame *f, const lv_rec *rec, lv_mono stamp) {
  lv__hold *h = hold_get(sub, true);
  lv__hub_conn *hc = sub->hc;
  entry *e = lv_map_get(&h->by_key, lv_hub_key_of(rec));
  bool due = !e, armed = lv_timer_armed(&h->timer);
  e = entry_put(h, f, rec, stamp);
  if (due && room(hc)) {
    send_entry(h, e);
    e->due_ns = hc->hl->loop->now.ns + (int64_t)hc->conflate_ms * 1000000;
  } else if (due) {
    e->due_ns = hc->hl->loop->now.ns;
    hc->conn->want_drain = 1;
  }
  bound(h);
  if (!armed) arm(h);
}

/* ---- slow customers ---- */

void lv__hold_give(lv__hub_sub *sub, const lv__frame *f, const lv_rec *rec, lv_mono stamp) {
  lv__hub_conn *hc = sub->hc;
  if (hc->conflate_ms) {
    give_conflated(sub, f, rec, stamp);
    return;
  }
  if (!sub->hold && !lv__hub_slow(hc)) {
    lv__hub_send_alone(hc, f, 1, stamp, lv_use_of(rec));
    lv__hub_count_queued(sub, 1, lv_rec_val(rec).n);
    count_time(hc, time_of(rec, stamp));
    return;
  }
  if (sub->slow == LV_SLOW_DISCONNECT) {
    lv__hub_count_drop(sub, LV_C_DROP_HUB_SLOW, 1);
    lv__hub_doom(hc, LV_WS_TRY_LATER, "too slow");
    return;
  }
  lv__hold *h = hold_get(sub, sub->slow == LV_SLOW_CONFLATE);
  (void)entry_put(h, f, rec, stamp);
  bound(h);
  hc->conn->want_drain = 1;
}

void lv__hold_flush(lv__hub_sub *sub) {
  lv__hold *h = sub->hold;
  lv__hub_conn *hc = sub->hc;
  if (!h) return;
  if (hc->conflate_ms) {
    give_due(h);
    return;
  }
  while (h->first && room(hc)) {
    send_entry(h, h->first);
    entry_free(h, h->first);
  }
  if (h->first)
    hc->conn->want_drain = 1;
  else
    lv__hold_free(sub, LV_C_DROP_HUB_SLOW);
}

/* ---- the ledger ---- */

void lv__hub_count_queued(lv__hub_sub *sub, uint32_t n, uint64_t bytes) {
  lv__hub_conn *hc = sub->hc;
  lv_chan_row *row = lv_metrics_chan_row(hc->hl->loop->metrics, lv_chan_kpi(sub->group->ch->chan));
  lv_count(lv__hub_row(hc), LV_C_HUB_OUT_BYTES, bytes);
  lv_chan_count(row, LV_CH_OUT, n);
  lv_chan_count(row, LV_CH_OUT_BYTES, bytes);
}

void lv__hub_count_owed(lv__hub_sub *sub, uint32_t n) {
  lv_metrics *app = lv__hub_app_row(sub->hc);
  lv_count(app, LV_C_HUB_OWED, n);
  lv_gauge(app, LV_G_PENDING, n);
}

void lv__hub_count_drop(lv__hub_sub *sub, enum lv_counter why, uint32_t n) {
  lv__hub_conn *hc = sub->hc;
  lv_chan_row *row = lv_metrics_chan_row(hc->hl->loop->metrics, lv_chan_kpi(sub->group->ch->chan));
  lv_count(lv__hub_row(hc), why, n);
  lv_chan_count(row, LV_CH_DROP_HUB, n);
  lv_gauge(lv__hub_app_row(hc), LV_G_PENDING, -(int64_t)n);
}
