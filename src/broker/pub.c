/* pub.c: a loop's side of publishing.
 *
 *   lane (one a log):  block [ submitted … | open batch | free ]
 *                      ready: closed batches of this turn, submitted in order at its end
 *                      sent:  when each submitted batch was (a ring: done comes in that order)
 *
 * A batch is contiguous in one block, so a record that does not fit closes the open batch; one that
 * is larger than a block gets a block of its own. An acknowledgement without a record rides a batch
 * without records. The KPIs of the gateway are counted here, because here is the one place that
 * every message passes once on its way in (GW_IN, as its batch is submitted) and once with its
 * outcome (GW_OUT or a drop): a batch carries how many of its messages belong to which channel and
 * protocol.
 *
 * @thread loop. Limits: queue_bytes_max, as bytes of records open or submitted and not done. The
 * bound is a threshold, not a wall: one record may exceed it. */
#include "broker/pub.h"
#include <assert.h>
#include <stdlib.h>

enum { PUB_MAGIC = 0x4C505542, SENT_FIRST_CAP = 64 };

typedef struct lane {
  lv_block *block; /* current; one reference held by the lane */
  lv_batch *open;
  lv_batch *ready, **ready_tail; /* by batch->next */
  lv_mono *sent;
  uint32_t sent_head, sent_n, sent_cap; /* cap: a power of two */
} lane;

struct lv_pub {
  uint32_t magic;
  lv_loop *loop;
  lv_metrics *metrics; /* the loop's; outlives it */
  lv_broker *broker;
  uint64_t queued, queue_max;
  uint32_t waiting; /* submitted batches, not done */
  bool dirty;       /* something is open or ready */
  bool was_full, freed;
  lv_pub_ack_fn *ack_fn;
  void *arg;
  void (*drained)(void *arg);
  void *drained_arg;
  void (*done)(void *arg, const lv_batch *batch);
  void *done_arg;
  lv_hook hook;
  lane lanes[LV_DURABILITY_COUNT];
};

static void pub_hook(lv_loop *loop, void *arg) {
  (void)loop;
  lv_pub *p = arg;
  if (p->dirty) lv_pub_submit(p);
}

int lv_pub_new(lv_loop *loop, lv_broker *broker, uint64_t queue_bytes_max, lv_pub_ack_fn *fn,
               void *arg, lv_pub **ret_pub) {
  assert(lv_loop_here(loop) && fn);
  lv_pub *p = calloc(1, sizeof *p);
  if (!p) return LV_E_NOMEM;
  p->magic = PUB_MAGIC;
  p->loop = loop;
  p->metrics = loop->metrics;
  p->broker = broker;
  p->queue_max = queue_bytes_max;
  p->ack_fn = fn;
  p->arg = arg;
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) {
    lane *ln = &p->lanes[i];
    ln->ready_tail = &ln->ready;
    ln->sent_cap = SENT_FIRST_CAP;
    ln->sent = calloc(ln->sent_cap, sizeof *ln->sent);
    if (!ln->sent) abort();
  }
  p->hook.run = pub_hook;
  p->hook.arg = p;
  lv_loop_hook(loop, LV_PHASE_SUBMIT, &p->hook);
  *ret_pub = p;
  return 0;
}

static void pub_release(lv_pub *p) {
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) {
    lv_block_unref(p->lanes[i].block);
    free(p->lanes[i].sent);
  }
  p->magic = 0;
  free(p);
}

void lv_pub_free(lv_pub *p) {
  if (!p) return;
  assert(p->magic == PUB_MAGIC && !p->freed);
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) {
    lv_batch_unref(p->lanes[i].open);
    for (lv_batch *b = p->lanes[i].ready, *next; b; b = next) {
      next = b->next;
      lv_batch_unref(b);
    }
  }
  /* Batches that are still on their way keep the memory: the last `done` releases it. */
  p->freed = true;
  if (p->waiting == 0) pub_release(p);
}

static void sent_push(lane *ln, lv_mono now) {
  if (ln->sent_n == ln->sent_cap) {
    lv_mono *bigger = calloc((size_t)ln->sent_cap * 2, sizeof *bigger);
    if (!bigger) abort();
    for (uint32_t i = 0; i < ln->sent_n; i++)
      bigger[i] = ln->sent[(ln->sent_head + i) & (ln->sent_cap - 1)];
    free(ln->sent);
    ln->sent = bigger;
    ln->sent_head = 0;
    ln->sent_cap *= 2;
  }
  ln->sent[(ln->sent_head + ln->sent_n++) & (ln->sent_cap - 1)] = now;
}

static lv_mono sent_pop(lane *ln) {
  assert(ln->sent_n > 0);
  lv_mono at = ln->sent[ln->sent_head];
  ln->sent_head = (ln->sent_head + 1) & (ln->sent_cap - 1);
  ln->sent_n--;
  return at;
}

static lv_metrics *row_of(lv_metrics *m, const lv_tally *t) {
  return lv_metrics_row(m, lv_metrics_slot_app(t->slot), t->proto);
}

static void count_submit(lv_metrics *m, const lv_batch *b) {
  lv_gauge(m, LV_G_QUEUE_BYTES, b->bytes);
  lv_gauge(m, LV_G_INFLIGHT, b->msgs);
  for (uint32_t i = 0; i < b->n_tally; i++) {
    const lv_tally *t = &b->tally[i];
    lv_metrics *row = row_of(m, t);
    lv_chan_row *chan = lv_metrics_chan_row(m, t->slot);
    lv_count(row, LV_C_GW_IN, t->msgs);
    lv_count(row, LV_C_GW_IN_BYTES, t->bytes);
    lv_chan_count(chan, LV_CH_IN, t->msgs);
    lv_chan_count(chan, LV_CH_IN_BYTES, t->bytes);
  }
}

static enum lv_counter drop_counter(int err) {
  if (err == LV_E_DISK_FULL) return LV_C_DROP_GW_DISK_FULL;
  if (err == LV_E_SHUTDOWN || err == LV_E_CLOSED) return LV_C_DROP_GW_SHUTDOWN;
  return LV_C_DROP_GW_DISK;
}

static void count_outcome(lv_metrics *m, const lv_batch *b, lv_mono sent) {
  lv_gauge(m, LV_G_QUEUE_BYTES, -(int64_t)b->bytes);
  lv_gauge(m, LV_G_INFLIGHT, -(int64_t)b->msgs);
  for (uint32_t i = 0; i < b->n_tally; i++) {
    const lv_tally *t = &b->tally[i];
    lv_metrics *row = row_of(m, t);
    lv_chan_row *chan = lv_metrics_chan_row(m, t->slot);
    if (b->err == 0) lv_count(row, LV_C_GW_OUT_BYTES, t->bytes);
    lv_count(row, b->err ? drop_counter(b->err) : LV_C_GW_OUT, t->msgs);
    lv_chan_count(chan, b->err ? LV_CH_DROP_GW : LV_CH_STORED, t->msgs);
  }
  if (b->err == 0 && b->count) lv_hist_add(m->commit, lv_mono_sub(lv_mono_now(), sent).ns, 1);
}

/* Acknowledgements in order, each with its record: both walk forward once. */
static void run_acks(lv_pub *p, lv_batch *b) {
  const lv_rec *rec = b->count ? lv_batch_first(b) : NULL;
  uint32_t at = 0;
  for (uint32_t i = 0; i < b->n_acks; i++) {
    const lv_ack *ack = &b->acks[i];
    if (ack->index == UINT32_MAX) {
      p->ack_fn(p->arg, ack, b->err, NULL);
      continue;
    }
    assert(ack->index < b->count && ack->index >= at);
    for (; at < ack->index; at++) rec = lv_batch_next(b, rec);
    p->ack_fn(p->arg, ack, b->err, rec);
  }
}

static void batch_done(lv_batch *b) {
  lv_pub *p = b->arg;
  assert(p->magic == PUB_MAGIC && p->waiting > 0);
  lv_mono sent = sent_pop(&p->lanes[b->log]);
  p->waiting--;
  assert(p->queued >= b->bytes);
  p->queued -= b->bytes;
  count_outcome(p->metrics, b, sent);
  if (!p->freed && p->done) p->done(p->done_arg, b);
  if (!p->freed) run_acks(p, b);
  lv_batch_unref(b);
  if (p->freed) {
    if (p->waiting == 0) pub_release(p);
  } else if (p->was_full && p->queued <= p->queue_max / 2) {
    p->was_full = false;
    if (p->drained) p->drained(p->drained_arg);
  }
}

/* A batch that the broker refused to take completes by mail, like any other. */
static void refused_run(lv_loop *loop, lv_mail *mail) {
  (void)loop;
  batch_done((lv_batch *)mail);
}

static void lane_close(lane *ln) {
  lv_batch *b = ln->open;
  if (!b) return;
  if (ln->block) ln->block->used = (uint32_t)(b->start - ln->block->data) + b->bytes;
  b->next = NULL;
  *ln->ready_tail = b;
  ln->ready_tail = &b->next;
  ln->open = NULL;
}

static void lane_block(lane *ln, uint32_t cap) {
  lv_block_unref(ln->block);
  ln->block = lv_block_new(cap);
}

static lv_batch *lane_open(lv_pub *p, uint8_t log, lv_mono read_at) {
  lane *ln = &p->lanes[log];
  if (ln->open) return ln->open;
  if (!ln->block) lane_block(ln, LV_BLOCK_SIZE);
  lv_batch *b = lv_batch_new(lv_block_ref(ln->block), ln->block->data + ln->block->used);
  b->loop = p->loop;
  b->log = log;
  b->done = batch_done;
  b->arg = p;
  b->read_at = read_at;
  ln->open = b;
  p->dirty = true;
  return b;
}

/* Space for a record of `size` bytes at the end of the open batch, or of a new one. */
static uint8_t *lane_space(lv_pub *p, uint8_t log, uint32_t size, lv_mono read_at) {
  lane *ln = &p->lanes[log];
  uint32_t used = !ln->block ? 0
                  : ln->open ? (uint32_t)(ln->open->start - ln->block->data) + ln->open->bytes
                             : ln->block->used;
  if (!ln->block || ln->block->cap - used < size) {
    lane_close(ln);
    lane_block(ln, size > LV_BLOCK_SIZE ? size : LV_BLOCK_SIZE);
    if (!ln->block) return NULL;
  }
  lv_batch *b = lane_open(p, log, read_at);
  return (uint8_t *)(uintptr_t)(b->start + b->bytes);
}

static void note_kind(lv_metrics *m, lv_batch *b, const lv_rec_in *in, const lv_rec *rec) {
  if (in->kind != LV_REC_MSG) {
    b->flags |= LV_BATCH_STATE;
    return;
  }
  b->msgs++;
  b->bytes_in += in->val.n;
  lv_chan_row *chan = lv_metrics_chan_row(m, in->kpi_slot);
  lv_batch_tally(b, in->kpi_slot, in->kpi_proto, in->val.n, &chan->mark[in->kpi_proto]);
  if (rec->flags & LV_REC_RETAIN) b->flags |= LV_BATCH_RETAIN;
  if (rec->flags & LV_REC_QOS2) b->flags |= LV_BATCH_STATE;
}

int lv_pub_add(lv_pub *p, uint8_t log, const lv_rec_in *in, lv_mono read_at, lv_rec **ret_rec) {
  assert(p->magic == PUB_MAGIC && log < LV_DURABILITY_COUNT);
  if (in->kind == LV_REC_MSG && lv_pub_full(p)) return LV_E_BUSY;
  uint32_t size;
  int err = lv_rec_size(in, &size);
  if (err) return err;
  uint8_t *dst = lane_space(p, log, size, read_at);
  if (!dst) return LV_E_NOMEM;
  lv_rec *rec = lv_rec_write(in, dst, size);
  lane *ln = &p->lanes[log];
  lv_batch *b = ln->open;
  b->bytes += size;
  b->count++;
  b->read_at = read_at;
  note_kind(p->metrics, b, in, rec);
  p->queued += size;
  if (lv_pub_full(p)) p->was_full = true;
  if (ret_rec) *ret_rec = rec;
  return 0;
}

void lv_pub_ack(lv_pub *p, uint8_t log, lv_ack ack) {
  assert(p->magic == PUB_MAGIC && log < LV_DURABILITY_COUNT);
  lv_batch *b = lane_open(p, log, p->loop->now);
  if (ack.index != UINT32_MAX) ack.index = b->count ? b->count - 1 : UINT32_MAX;
  lv_batch_ack(b, ack);
}

bool lv_pub_full(const lv_pub *p) {
  return p->queued >= p->queue_max;
}

void lv_pub_on_drained(lv_pub *p, void (*fn)(void *arg), void *arg) {
  p->drained = fn;
  p->drained_arg = arg;
}

void lv_pub_on_done(lv_pub *p, void (*fn)(void *arg, const lv_batch *batch), void *arg) {
  p->done = fn;
  p->done_arg = arg;
}

uint64_t lv_pub_queued(const lv_pub *p) {
  return p->queued;
}

static void submit_lane(lv_pub *p, lane *ln, lv_mono now) {
  lane_close(ln);
  lv_batch *b = ln->ready;
  ln->ready = NULL;
  ln->ready_tail = &ln->ready;
  while (b) {
    lv_batch *next = b->next;
    b->next = NULL;
    sent_push(ln, now);
    p->waiting++;
    count_submit(p->metrics, b);
    int err = p->broker->ops->publish(p->broker, b);
    if (err) {
      b->err = err;
      b->mail.run = refused_run;
      lv_loop_post(p->loop, &b->mail);
    }
    b = next;
  }
}

void lv_pub_submit(lv_pub *p) {
  assert(p->magic == PUB_MAGIC && lv_loop_here(p->loop));
  if (!p->dirty) return;
  p->dirty = false;
  lv_mono now = lv_mono_now();
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) submit_lane(p, &p->lanes[i], now);
}
