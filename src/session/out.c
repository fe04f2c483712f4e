/* out.c: deliveries: the window of QoS 1 and 2 messages in flight, and what waits behind it.
 *
 *   deliver ─▶ room? ─yes─▶ send (QoS 0: into the send queue; 1, 2: takes a packet id and a slot)
 *                └─no──▶ pend queue (references to batches) ─full─▶ QoS 0: oldest dropped, counted
 *                                                                  QoS ≥ 1: the session lags
 * (lag.c)
 *
 * The window is a ring in sending order; packet ids are handed out in sequence, so the slot of an
 * id is its distance from the head's. A slot keeps no message, only its address in the log: what
 * must be sent again after a reconnect is fetched from there.
 *
 * QoS 2 of a session that outlives its connection: the PUBLISH leaves when the packet id is stored,
 * the PUBREL when the PUBREC is (design.md, guarantee 1). */
#include "core/log.h"
#include "session/session_int.h"
#include "session/share.h"
#include <assert.h>
#include <stdlib.h>

enum { PASS_LOOK_MAX = 256 }; /* waiting deliveries that are looked at before one may go past */

static lv_metrics *mx(const lv_sess *s) {
  return lv__kpi(s);
}

/* ---- counting ---- */

/* n deliveries of this session have come to an end. What was never counted as owed (it was
 * published before a restart, or while the session moved between loops) is counted now. */
void lv__settle_pending(lv_sess *s, uint32_t n) {
  uint32_t known = n < s->pending ? n : s->pending;
  lv_count(mx(s), LV_C_HUB_OWED, n - known);
  lv_gauge(mx(s), LV_G_PENDING, -(int64_t)known);
  s->pending -= known;
}

static void settle_pending(lv_sess *s, const lv_delivery *d) {
  if (d->flags & LV_DELIVER_STORED) return;
  if (d->member) {
    lv_gauge(mx(s), LV_G_PENDING, -1); /* the group's, not ours */
  } else {
    lv__settle_pending(s, 1);
  }
}

static uint32_t slot_of(const lv_sess *s, const lv_delivery *d) {
  return d->slot || !d->rec ? d->slot : lv__kpi_slot_of(s->shard, d->rec);
}

static void drop(lv_sess *s, const lv_delivery *d, enum lv_counter why) {
  if (d->flags & LV_DELIVER_STORED) return;
  lv__kpi_drop(s->shard, mx(s), s->app_id, slot_of(s, d), why, 1);
  settle_pending(s, d);
  if (d->member) lv__share_done(d->member, d->log, d->rec->lsn);
}

static void delivered(lv_sess *s, const lv_out *o) {
  if (o->flags & LV_DELIVER_STORED) return;
  lv_count(mx(s), LV_C_HUB_OUT, 1);
  lv__bill_acked(s, o);
  settle_pending(s, &(lv_delivery){.flags = o->flags, .member = o->member});
  if (o->member) lv__share_done(o->member, o->log, o->lsn);
}

void lv_sess_sent(lv_sess *s, uint32_t n, lv_mono stamp, lv_use use) {
  lv_metrics *m = mx(s);
  if (!(stamp.ns & LV_STAMP_ACKED)) {
    assert(s->q0_queued >= n);
    lv_count(m, LV_C_HUB_OUT, n);
    lv_use_out(m, use.steps, use.bytes);
    s->q0_queued -= n;
    lv__settle_pending(s, n);
  }
  if (stamp.ns > LV_STAMP_BITS)
    lv_metrics_latency(lv__metrics(s->shard), m, LV_LATENCY_PROCESSING,
                       s->shard->loop->now.ns - stamp.ns, n);
}

/* ---- the window ---- */

static uint16_t pid_next(uint16_t pid) {
  return pid == 65535 ? 1 : (uint16_t)(pid + 1);
}

static lv_out *win_at(lv_window *w, uint32_t i) {
  return &w->e[(w->head + i) & w->mask];
}

static lv_out *win_find(lv_sess *s, uint16_t pid) {
  lv_window *w = s->win;
  if (!w || w->count == 0 || pid == 0) return NULL;
  uint16_t first = win_at(w, 0)->pid;
  uint32_t d = pid >= first ? (uint32_t)(pid - first) : (uint32_t)(pid + 65535 - first);
  if (d >= w->count) return NULL;
  lv_out *o = win_at(w, d);
  assert(o->pid == pid);
  return o->state == LV_OUT_DONE ? NULL : o;
}

static void win_grow(lv_sess *s) {
  lv_window *old = s->win;
  uint32_t cap = old ? (old->mask + 1) * 2 : 8;
  lv_window *w = malloc(sizeof *w + cap * sizeof(lv_out));
  if (!w) abort();
  *w = (lv_window){.mask = cap - 1};
  for (uint32_t i = 0; old && i < old->count; i++) w->e[i] = *win_at(old, i);
  if (old) {
    w->count = old->count;
    w->live = old->live;
  }
  free(old);
  s->win = w;
}

lv_out *lv__win_push(lv_sess *s, uint16_t pid) {
  if (!s->win || s->win->count > s->win->mask) win_grow(s);
  lv_out *o = win_at(s->win, s->win->count++);
  *o = (lv_out){.pid = pid};
  s->win->live++;
  return o;
}

static void win_done(lv_sess *s, lv_out *o) {
  lv_window *w = s->win;
  if (o->state != LV_OUT_DONE) w->live--;
  o->state = LV_OUT_DONE;
  if (o->hold) {
    lv_batch_unref(o->hold);
    o->hold = NULL;
  }
  while (w->count && win_at(w, 0)->state == LV_OUT_DONE) {
    w->head = (w->head + 1) & w->mask;
    w->count--;
  }
  if (w->count == 0) {
    free(w);
    s->win = NULL;
  }
}

static uint32_t window_max(const lv_sess *s) {
  uint32_t mine = lv__limits(s)->inflight;
  return s->receive_max < mine ? s->receive_max : mine;
}

uint32_t lv__out_slots(const lv_sess *s) {
  uint32_t live = s->win ? s->win->live : 0, max = window_max(s);
  if (s->win && s->win->count >= 32768)
    return 0; /* a head that is never acked blocks its successors */
  return live < max ? max - live : 0;
}

bool lv__out_room(const lv_sess *s, uint8_t qos) {
  if (!s->started || (s->more && s->more->fetching) || (qos && s->resending)) return false;
  if (s->outq->bytes >= lv__limits(s)->queue_bytes) return false;
  return qos == 0 || lv__out_slots(s) > 0;
}

/* ---- encoding ---- */

static bool ttl_left(const lv_sess *s, const lv_rec *rec, uint32_t *ret_left) {
  uint32_t ttl;
  if (!lv_rec_expiry(rec, &ttl)) return true;
  int64_t age_s = (s->shard->loop->wall.ns - rec->ingest_ns) / 1000000000;
  if (age_s < 0) age_s = 0;
  if (age_s >= (int64_t)ttl) return false;
  *ret_left = ttl - (uint32_t)age_s;
  return true;
}

/* Bytes of the packet into the send queue: all copied when small, the payload by reference when
 * not. */
static bool put_publish(lv_sess *s, lv_mqtt_publish_out *o, const lv_delivery *d, lv_mono stamp) {
  uint32_t size, remaining;
  if (lv_mqtt_publish_size(o, false, &size, &remaining)) return false;
  if (s->max_packet && size > s->max_packet) return false;
  lv_block *block = d->batch ? d->batch->block : d->block;
  if (size <= 2048 || o->payload.n <= 1024 || !block) {
    if (size <= 16384) {
      uint8_t *p = lv_outq_put(s->outq, size, 1, stamp);
      (void)lv_mqtt_publish_encode(o, false, remaining, p);
      return true;
    }
    block = lv_block_new(size);
    if (!block) return false;
    (void)lv_mqtt_publish_encode(o, false, remaining, block->data);
    lv_outq_ref(s->outq, block, block->data, size, 1, stamp);
    lv_block_unref(block);
    return true;
  }
  uint32_t head = size - o->payload.n;
  if (head > 16384) {
    lv_block *b = lv_block_new(head);
    if (!b) return false;
    (void)lv_mqtt_publish_encode(o, true, remaining, b->data);
    lv_outq_ref(s->outq, b, b->data, head, 0, stamp);
    lv_block_unref(b);
  } else {
    (void)lv_mqtt_publish_encode(o, true, remaining, lv_outq_put(s->outq, head, 0, stamp));
  }
  stamp.ns |= LV_STAMP_PART;
  lv_outq_ref(s->outq, block, o->payload.p, o->payload.n, 1, stamp);
  return true;
}

/* Encodes a delivery. LV_E_EXPIRED, LV_E_TOO_BIG: it cannot be sent. */
static int encode(lv_sess *s, const lv_delivery *d, uint16_t pid, bool dup) {
  uint32_t left = 0, expiry;
  if (!ttl_left(s, d->rec, &left)) return LV_E_EXPIRED;
  bool v5 = s->version >= LV_MQTT_V5;
  lv_sess_match match = {0};
  bool shared = d->flags & LV_DELIVER_SHARED;
  if (v5 && s->sub_ids && !shared) (void)lv__sess_match(s, d->rec, d->log, true, &match);
  lv_mqtt_publish_out o = {.version = s->version,
                           .qos = d->qos,
                           .dup = dup,
                           .retain = (d->flags & LV_DELIVER_RETAIN) != 0,
                           .packet_id = pid,
                           .topic = lv_rec_topic(d->rec),
                           .payload = lv_rec_val(d->rec),
                           .sub_ids = match.ids,
                           .n_sub_ids = match.n_ids};
  if (v5 && shared && d->sub_id) {
    o.sub_ids = &d->sub_id;
    o.n_sub_ids = 1;
  }
  if (v5) {
    o.props = lv_rec_props(d->rec);
    o.has_expiry = lv_rec_expiry(d->rec, &expiry);
    o.expiry_s = left;
    if (s->alias && s->alias->out_max) o.alias = lv__alias_out(s, o.topic, &o.alias_only);
  }
  lv_mono stamp = {(d->flags & (LV_DELIVER_REPLAY | LV_DELIVER_STORED)) ? 0 : d->read_at.ns};
  stamp.ns = (stamp.ns & ~(int64_t)LV_STAMP_BITS) | (d->qos || (d->flags & LV_DELIVER_STORED));
  bool put = put_publish(s, &o, d, stamp);
  if (!put && o.alias && !o.alias_only) { /* it may fit without teaching the alias */
    lv__alias_undo(s, o.alias, false);
    o.alias = 0;
    put = put_publish(s, &o, d, stamp);
  }
  if (!put) return LV_E_TOO_BIG;
  if (d->flags & LV_DELIVER_STORED) {
    if (!dup && d->rec->chan) lv_count(mx(s), LV_C_USE_HISTORY, lv_use_of(d->rec).steps);
  } else if (d->qos == 0) {
    lv_outq_use(s->outq, lv_use_of(d->rec));
    s->q0_queued++;
    if (d->member) s->pending++; /* from here on it is this connection's */
  }
  bool live = !dup && !(d->flags & (LV_DELIVER_REPLAY | LV_DELIVER_STORED));
  if (live) lv__kpi_end_to_end(s->shard, mx(s), d->rec, 1);
  if (!dup && !(d->flags & LV_DELIVER_STORED))
    lv__kpi_sent(mx(s), lv_metrics_chan_row(lv__metrics(s->shard), slot_of(s, d)), 1, o.payload.n);
  s->shard->link->dirty(s->conn);
  return 0;
}

/* ---- sending ---- */

static void send_fail(lv_sess *s, const lv_delivery *d, int err) {
  drop(s, d, err == LV_E_EXPIRED ? LV_C_DROP_HUB_EXPIRED : LV_C_DROP_HUB_TOO_BIG);
}

static void send_acked(lv_sess *s, const lv_delivery *d) {
  uint32_t left;
  if (!ttl_left(s, d->rec, &left)) {
    send_fail(s, d, LV_E_EXPIRED);
    return;
  }
  uint16_t pid = s->next_pid;
  s->next_pid = pid_next(pid);
  lv_out *o = lv__win_push(s, pid);
  o->lsn = d->rec->lsn;
  o->log = d->log;
  o->qos = d->qos;
  o->flags = d->flags;
  o->member = d->member;
  o->sub_id = d->sub_id;
  o->use_bytes = lv_use_of(d->rec).bytes;
  if (s->persistent) lv__save(s, d->qos == 2 ? 2 : 1);
  if (d->qos == 2 && s->persistent) {
    o->state = LV_OUT_STORE;
    o->save_seq = lv__sess_more(s)->save_seq + 1;
    o->read_at = d->read_at;
    o->hold = d->batch ? lv_batch_ref(d->batch)
                       : lv_batch_new(lv_block_ref(d->block), (const uint8_t *)d->rec);
    o->rec = d->rec;
    return;
  }
  o->state = LV_OUT_SENT;
  int err = encode(s, d, pid, false);
  if (err) {
    send_fail(s, d, err);
    o = win_find(s, pid);
    win_done(s, o);
  }
}

void lv__out_send(lv_sess *s, const lv_delivery *d) {
  if (d->flags & LV_DELIVER_STORED) lv_count(mx(s), LV_C_HUB_RETAINED, 1);
  if (d->qos) {
    send_acked(s, d);
    return;
  }
  int err = encode(s, d, 0, false);
  if (err) {
    send_fail(s, d, err);
  } else if (d->member) {
    lv__share_done(d->member, d->log, d->rec->lsn);
  }
}

/* ---- waiting ---- */

static lv_pend *pend_at(lv_pendq *q, uint32_t i) {
  return &q->e[(q->head + i) & q->mask];
}

static const lv_block *block_of(const lv_delivery *d) {
  return d->batch ? d->batch->block : d->block;
}

static void pend_unref(lv_pend *p) {
  lv_batch_unref(p->d.batch);
  lv_block_unref(p->d.block);
}

static void pend_free(lv_sess *s) {
  free(s->pend->index);
  free(s->pend);
  s->pend = NULL;
}

/* The i-th goes: what its successor needs too is held by that one now. */
static void pend_unhold(lv_pendq *q, uint32_t i) {
  lv_pend *p = pend_at(q, i), *next = i + 1 < q->count ? pend_at(q, i + 1) : NULL;
  if (p->held && next && !next->held && block_of(&next->d) == block_of(&p->d)) {
    next->held = p->held;
  } else {
    q->held -= p->held;
  }
  p->held = 0;
}

static void pend_pop(lv_sess *s) {
  lv_pendq *q = s->pend;
  lv_pend *p = pend_at(q, 0);
  pend_unhold(q, 0);
  if (p->d.qos == 0) q->n_q0--;
  pend_unref(p);
  q->head = (q->head + 1) & q->mask;
  q->seq++;
  if (--q->count == 0) pend_free(s);
}

static void pend_grow(lv_sess *s) {
  lv_pendq *q = s->pend;
  uint32_t cap = q ? (q->mask + 1) * 2 : 8;
  lv_pendq *n = malloc(sizeof *n + cap * sizeof(lv_pend));
  if (!n) abort();
  *n = (lv_pendq){.mask = cap - 1};
  for (uint32_t i = 0; q && i < q->count; i++) n->e[i] = *pend_at(q, i);
  if (q) {
    n->count = q->count;
    n->n_q0 = q->n_q0;
    n->seq = q->seq;
    n->index = q->index;
    n->held = q->held;
  }
  free(q);
  s->pend = n;
}

/* Memory that the delivery would keep alive at the end of the queue. */
static uint32_t hold_bytes(const lv_sess *s, const lv_delivery *d) {
  const lv_pendq *q = s->pend;
  const lv_block *b = block_of(d);
  if (q && block_of(&q->e[(q->head + q->count - 1) & q->mask].d) == b) return 0;
  return b->cap;
}

/* A reference keeps a whole block alive. While there is plenty of room that is cheapest, and the
 * block is shared with others; then small records get a block of their own. */
static bool pend_copies(const lv_sess *s, const lv_delivery *d, uint32_t hold) {
  uint64_t held = s->pend ? s->pend->held : 0;
  return hold / 4 > d->rec->size && held + hold > lv__limits(s)->queue_bytes / 2;
}

static void pend_fill(lv_sess *s, lv_pend *p, const lv_delivery *d, uint32_t hold) {
  p->d = *d;
  if (pend_copies(s, d, hold)) {
    lv_block *b = lv_block_new(d->rec->size);
    if (!b) abort();
    memcpy(b->data, d->rec, d->rec->size);
    b->used = d->rec->size;
    p->d.batch = NULL;
    p->d.block = b;
    p->d.rec = (const lv_rec *)b->data;
    hold = b->cap;
  } else {
    if (d->batch) lv_batch_ref(d->batch);
    if (d->block) lv_block_ref(d->block);
  }
  p->held = hold;
  s->pend->held += hold;
}

static void pend_push(lv_sess *s, const lv_delivery *d) {
  assert(d->batch || d->block);
  uint32_t hold = hold_bytes(s, d);
  if (!s->pend || s->pend->count > s->pend->mask) pend_grow(s);
  lv_pendq *q = s->pend;
  pend_fill(s, pend_at(q, q->count), d, hold);
  q->count++;
  if (d->qos == 0) {
    q->n_q0++;
    lv__pend_index_add(q, lv_rec_topic(d->rec));
  }
  if (s->started) s->shard->link->want_drain(s->conn);
}

/* Removes the i-th waiting delivery, keeping the order of the others. */
static void pend_remove(lv_sess *s, uint32_t i) {
  lv_pendq *q = s->pend;
  lv_pend gone;
  pend_unhold(q, i);
  gone = *pend_at(q, i);
  for (uint32_t k = 0; k < i && q->index; k++)
    if (pend_at(q, k)->d.qos == 0) lv__pend_index_drop(q);
  for (uint32_t k = i; k > 0; k--) *pend_at(q, k) = *pend_at(q, k - 1);
  *pend_at(q, 0) = gone;
  pend_pop(s);
}

static uint8_t slow_policy(const lv_sess *s, const lv_delivery *d) {
  lv_chan *chan = s->shard->broker->ops->chan(s->shard->broker, d->rec->chan);
  return chan ? chan->slow : LV_SLOW_DROP_OLDEST;
}

/* Makes room in a full queue at the cost of a QoS 0 delivery; false: there is none to give. */
static bool pend_evict(lv_sess *s, const lv_delivery *d) {
  lv_pendq *q = s->pend;
  if (d->qos == 0 && slow_policy(s, d) == LV_SLOW_DISCONNECT) {
    s->shard->link->close(s->conn, LV_E_QUOTA);
    return false;
  }
  if (q->n_q0 == 0) return false;
  uint32_t i = 0;
  while (pend_at(q, i)->d.qos) i++;
  drop(s, &pend_at(q, i)->d, LV_C_DROP_HUB_SLOW);
  pend_remove(s, i);
  return true;
}

/* Under `conflate` a newer message takes the place of the one of its topic that waits. */
static bool conflate(lv_sess *s, const lv_delivery *d) {
  uint32_t i;
  lv_pendq *q = s->pend;
  if (d->qos || d->member || slow_policy(s, d) != LV_SLOW_CONFLATE) return false;
  if (!lv__pend_find(q, lv_rec_topic(d->rec), &i)) return false;
  lv_pend *p = pend_at(q, i);
  if (p->d.member || (d->flags & LV_DELIVER_STORED)) return false;
  drop(s, &p->d, LV_C_DROP_HUB_CONFLATED);
  pend_unhold(q, i);
  pend_unref(p);
  pend_fill(s, p, d, block_of(d)->cap);
  return true;
}

static bool pend_full(const lv_sess *s, const lv_delivery *d) {
  const lv_limits *l = lv__limits(s);
  if (!s->pend) return false;
  return s->pend->count >= l->queue_messages || s->pend->held + d->rec->size > l->queue_bytes;
}

/* The queue cannot take it: QoS 0 is dropped, for the others the session starts to read the log. */
static void overflow(lv_sess *s, const lv_delivery *d) {
  if (d->qos && d->member) {
    lv__share_return(d->member, d->log, d->rec->lsn);
    return;
  }
  if (d->qos == 0 || (d->flags & LV_DELIVER_STORED)) {
    drop(s, d, LV_C_DROP_HUB_SLOW);
    return;
  }
  lv_pos from = lv__sess_position(s), upto = s->shard->seen;
  if (d->rec->lsn < from.lsn[d->log]) from.lsn[d->log] = d->rec->lsn;
  if (upto.lsn[d->log] <= d->rec->lsn) upto.lsn[d->log] = d->rec->lsn + LV_REC_ALIGN;
  lv__pend_discard(s, false);
  lv__lag_enter(s, from, upto);
}

/* QoS 0 knows no window (§4.9): it goes past what waits for one, unless that would reorder a topic.
 */
static bool passes(const lv_sess *s, const lv_delivery *d) {
  if (d->qos || s->pend->n_q0 || s->pend->count > PASS_LOOK_MAX) return false;
  for (uint32_t i = 0; i < s->pend->count; i++) {
    const lv_rec *w = pend_at(s->pend, i)->d.rec;
    if (lv_slice_eq(lv_rec_topic(w), lv_rec_topic(d->rec))) return false;
  }
  return true;
}

void lv__deliver(lv_sess *s, const lv_delivery *d) {
  if (!lv__giving(s) && (!s->pend || passes(s, d)) && lv__out_room(s, d->qos)) {
    lv__out_send(s, d);
    return;
  }
  if (s->pend && conflate(s, d)) return;
  while (pend_full(s, d)) {
    if (pend_evict(s, d)) continue;
    overflow(s, d);
    return;
  }
  pend_push(s, d);
}

/* Forgets what waits. QoS 0 is lost (why: disconnected when `gone`, else slow); the rest is still
 * owed and comes from the log again. Shared deliveries go back to their group. */
void lv__pend_discard(lv_sess *s, bool gone) {
  while (s->pend) {
    lv_delivery *d = &pend_at(s->pend, 0)->d;
    if (d->member) {
      lv__share_return(d->member, d->log, d->rec->lsn);
    } else if (d->qos == 0) {
      drop(s, d, gone ? LV_C_DROP_HUB_DISCONNECTED : LV_C_DROP_HUB_SLOW);
    }
    pend_pop(s);
  }
}

void lv__out_pump(lv_sess *s) {
  if (!lv__give_pump(s)) return;
  while (s->conn && s->pend && lv__out_room(s, pend_at(s->pend, 0)->d.qos)) {
    lv_delivery d = pend_at(s->pend, 0)->d;
    if (d.batch) lv_batch_ref(d.batch);
    if (d.block) lv_block_ref(d.block);
    pend_pop(s);
    lv__out_send(s, &d);
    lv_batch_unref(d.batch);
    lv_block_unref(d.block);
  }
  if (s->conn && s->pend && s->outq->bytes) s->shard->link->want_drain(s->conn);
  if (s->conn && !s->pend && s->lag) lv__lag_pump(s);
}

/* A place in the window is free again. */
static void freed(lv_sess *s) {
  if (s->resending) {
    lv__resend(s);
  } else if (s->pend || s->lag || lv__giving(s)) {
    lv__out_pump(s);
  }
}

bool lv_sess_idle(const lv_sess *s) {
  return s->acks == 0 && !s->in_saving;
}

void lv_sess_drain(lv_sess *s) {
  if (s->resending) {
    lv__resend(s);
  } else {
    lv__out_pump(s);
  }
}

/* The first thing not yet handled, in each log. Where a session went live its cursor may be ahead
 * of the feed of a loop that it came to. */
lv_pos lv__sess_position(const lv_sess *s) {
  lv_pos pos = s->more ? s->more->cursor : (lv_pos){{0}};
  for (int i = 0; i < LV_DURABILITY_COUNT && s->conn && !s->lag; i++)
    if (s->shard->seen.lsn[i] > pos.lsn[i]) pos.lsn[i] = s->shard->seen.lsn[i];
  for (uint32_t i = 0; s->pend && i < s->pend->count; i++) {
    const lv_delivery *d = &pend_at(s->pend, i)->d;
    if (d->qos == 0 || d->member || (d->flags & LV_DELIVER_STORED)) continue;
    if (d->rec->lsn < pos.lsn[d->log]) pos.lsn[d->log] = d->rec->lsn;
  }
  return pos;
}

/* ---- acknowledgements from the subscriber ---- */

static void put_pubrel(lv_sess *s, lv_out *o) {
  o->state = LV_OUT_REL;
  lv__put_ack(s, LV_MQTT_PUBREL, o->pid, 0);
}

static int ack_rec(lv_sess *s, lv_out *o, const lv_mqtt_ack *a) {
  if (o->state != LV_OUT_SENT) {
    if (o->state == LV_OUT_REL) lv__put_ack(s, LV_MQTT_PUBREL, o->pid, 0);
    return 0;
  }
  delivered(s, o);
  if (a->reason >= 0x80) {
    win_done(s, o);
    if (s->persistent) lv__save(s, 1);
    freed(s);
    return 0;
  }
  if (!s->persistent) {
    put_pubrel(s, o);
    return 0;
  }
  o->state = LV_OUT_REC;
  lv__save(s, 2);
  o->save_seq = lv__sess_more(s)->save_seq + 1;
  return 0;
}

int lv_sess_ack(lv_sess *s, uint8_t type, const lv_mqtt_ack *a) {
  if (type == LV_MQTT_PUBREL) return lv__in_release(s, a->packet_id);
  lv_out *o = win_find(s, a->packet_id);
  if (!o) {
    if (type == LV_MQTT_PUBREC && a->reason < 0x80)
      lv__put_ack(s, LV_MQTT_PUBREL, a->packet_id, s->version >= LV_MQTT_V5 ? 0x92 : 0);
    return 0;
  }
  if ((type == LV_MQTT_PUBACK) != (o->qos == 1)) return LV_E_PROTOCOL;
  if (type == LV_MQTT_PUBREC) return ack_rec(s, o, a);
  if (type == LV_MQTT_PUBACK) {
    if (o->state != LV_OUT_SENT) return 0;
    delivered(s, o);
  } else if (o->state != LV_OUT_REL && o->state != LV_OUT_REC) {
    return LV_E_PROTOCOL;
  }
  win_done(s, o);
  if (s->persistent) lv__save(s, 1);
  freed(s);
  return 0;
}

/* ---- stored progress ---- */

void lv__out_stored(lv_sess *s, uint32_t seq, int err) {
  lv_sess_more *more = lv__sess_more(s);
  if (err) { /* what waits for it goes on waiting; delivery at QoS 0 and 1 does not */
    if (s->persistent) lv__save(s, 1);
    return;
  }
  more->saved_seq = seq;
  lv__bill_saved(s, seq);
  uint16_t done[64];
  for (uint32_t n = 64; n == 64 && s->conn && s->win;) {
    n = 0;
    for (uint32_t i = 0; i < s->win->count && n < 64; i++) {
      const lv_out *o = win_at(s->win, i);
      if ((o->state == LV_OUT_STORE || o->state == LV_OUT_REC) && (int32_t)(seq - o->save_seq) >= 0)
        done[n++] = o->pid;
    }
    for (uint32_t i = 0; i < n; i++) {
      lv_out *o = win_find(s, done[i]);
      if (!o) continue;
      if (o->state == LV_OUT_REC) {
        put_pubrel(s, o);
      } else {
        lv__out_send_held(s, o);
      }
    }
  }
  if (s->conn) freed(s); /* some of them may have expired */
}

/* A QoS 2 message whose packet id is stored now. */
void lv__out_send_held(lv_sess *s, lv_out *o) {
  lv_batch *hold = o->hold;
  lv_delivery d = {.block = hold->block,
                   .rec = o->rec,
                   .member = o->member,
                   .read_at = o->read_at,
                   .sub_id = o->sub_id,
                   .qos = o->qos,
                   .log = o->log,
                   .flags = o->flags};
  o->hold = NULL;
  o->state = LV_OUT_SENT;
  int err = encode(s, &d, o->pid, false);
  if (err) {
    send_fail(s, &d, err);
    win_done(s, o);
  }
  lv_batch_unref(hold);
}

/* ---- after a reconnect ---- */

void lv__out_rerel(lv_sess *s) {
  for (uint32_t i = 0; s->win && i < s->win->count; i++) {
    lv_out *o = win_at(s->win, i);
    if (o->state == LV_OUT_REL) put_pubrel(s, o);
  }
}

uint32_t lv__out_resend_room(const lv_sess *s, uint32_t n_resend) {
  uint32_t out = s->win->live - n_resend, max = window_max(s);
  return out < max ? max - out : 0;
}

/* Where lsn stands in what was fetched; f->n: it was not asked for. */
static uint32_t fetched_at(const lv_fetch *f, uint64_t lsn) {
  uint32_t lo = 0, hi = f->n;
  while (lo < hi) {
    uint32_t mid = (lo + hi) / 2;
    if (f->lsns[mid] < lsn) {
      lo = mid + 1;
    } else {
      hi = mid;
    }
  }
  return lo < f->n && f->lsns[lo] == lsn ? lo : f->n;
}

void lv__out_resend(lv_sess *s, const lv_fetch *f) {
  uint32_t n = s->win ? s->win->count : 0;
  uint16_t pid = n ? win_at(s->win, 0)->pid : 0;
  for (; n > 0; n--, pid = pid_next(pid)) {
    lv_out *o = win_find(s, pid);
    if (!o || o->state != LV_OUT_RESEND || o->log != f->log) continue;
    uint32_t at = fetched_at(f, o->lsn);
    if (at == f->n) continue;
    if (s->outq->bytes >= lv__limits(s)->queue_bytes) return; /* lv__resend comes here again */
    const lv_rec *rec = f->recs[at];
    lv_delivery d = {.rec = rec,
                     .sub_id = o->sub_id,
                     .qos = o->qos,
                     .log = o->log,
                     .flags = o->flags | LV_DELIVER_REPLAY};
    int err = rec ? encode(s, &d, pid, true) : LV_E_GONE;
    if (!err) {
      o->use_bytes = lv_use_of(rec).bytes;
      o->state = LV_OUT_SENT;
      lv_count(mx(s), LV_C_HUB_REDELIVERED, 1);
      continue;
    }
    drop(s, &d,
         err == LV_E_GONE      ? LV_C_DROP_HUB_RETENTION
         : err == LV_E_EXPIRED ? LV_C_DROP_HUB_EXPIRED
                               : LV_C_DROP_HUB_TOO_BIG);
    win_done(s, o);
    if (s->persistent) lv__save(s, 1);
  }
}

/* ---- ends ---- */

/* The connection is gone: messages in flight will be fetched from the log. */
void lv__out_detach(lv_sess *s) {
  for (uint32_t i = 0; s->win && i < s->win->count; i++) {
    lv_out *o = win_at(s->win, i);
    if (o->state == LV_OUT_STORE || o->state == LV_OUT_SENT) o->state = LV_OUT_RESEND;
    if (o->state == LV_OUT_REC) o->state = LV_OUT_REL;
    lv_batch_unref(o->hold);
    o->hold = NULL;
  }
}

void lv__out_member_gone(lv_sess *s, lv_share_member *m) {
  for (uint32_t i = 0; s->pend && i < s->pend->count;) {
    const lv_delivery *d = &pend_at(s->pend, i)->d;
    if (d->member != m) {
      i++;
      continue;
    }
    lv__share_return(m, d->log, d->rec->lsn);
    pend_remove(s, i);
  }
  for (uint32_t i = 0; s->win && i < s->win->count; i++) {
    lv_out *o = win_at(s->win, i);
    if (o->member != m) continue;
    o->member = NULL;
    if (o->state == LV_OUT_REL || o->state == LV_OUT_REC || o->state == LV_OUT_DONE) continue;
    /* What was begun at QoS 2 goes to nobody else, even if the session ends (§4.8.2-5). */
    if (s->conn || (o->qos == 2 && o->state != LV_OUT_STORE)) {
      s->pending++; /* ours from here on */
      continue;
    }
    lv__share_return(m, o->log, o->lsn);
    if (o->state != LV_OUT_DONE) s->win->live--;
    o->state = LV_OUT_DONE;
    lv_batch_unref(o->hold);
    o->hold = NULL;
  }
}

/* Nothing is sent any more; what was owed is counted as dropped. Shared deliveries went back before
 * (lv__out_member_gone). */
void lv__out_drop_all(lv_sess *s, enum lv_counter why) {
  lv__bill_all(s);
  lv__pend_discard(s, true);
  while (s->win) {
    lv_out *o = win_at(s->win, 0);
    assert(!o->member || o->state == LV_OUT_DONE);
    win_done(s, o);
  }
  if (s->pending) {
    lv__kpi_drop(s->shard, mx(s), s->app_id, 0, why, s->pending);
    lv_gauge(mx(s), LV_G_PENDING, -(int64_t)s->pending);
    s->pending = 0;
  }
}
