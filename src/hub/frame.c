/* frame.c: messages as the bytes that go on the wire: a WebSocket frame, an event of a stream, or
 * (for GET /snapshot) the bare object. Frames of one variant lie side by side in a block, so that a
 * send queue holds a run of them as one entry. @thread loop */
#include "hub/hub_int.h"
#include <stdlib.h>

enum { SSE_ROOM = 64 + LV_HUB_POS_MAX, HEAD_GUESS = 4 };

bool lv__frames_room(lv__frames *f, uint32_t bound) {
  if (lv__frames_fit(f, bound)) return true;
  lv_block_unref(f->block);
  f->block = lv_block_new(bound > LV_BLOCK_SIZE ? bound : LV_BLOCK_SIZE);
  return f->block != NULL;
}

/* Each line end in the value costs a stream a `data: ` more. */
static uint32_t line_ends(lv_slice s) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < s.n; i++) n += s.p[i] == '\n' || s.p[i] == '\r';
  return n;
}

uint32_t lv__frame_bound(lv__variant v, const lv_hub_data *d) {
  uint32_t n = lv_hub_data_bound(d, v.gen, v.encoding) + LV_WS_HEAD_MAX;
  if (v.deflate) n += LV_DEFLATE_SLACK;
  if (v.transport == LV__OVER_SSE) n += SSE_ROOM + 6 * line_ends(lv_rec_val(d->rec));
  return n;
}

/* As text, where the value turns out not to be what it was taken for. */
static int encode(lv__variant v, const lv_hub_data *d, uint8_t *dst, uint32_t cap) {
  int n = lv_hub_data_encode(d, v.gen, v.encoding, dst, cap);
  if (n >= 0) return n;
  lv_hub_data plain = *d;
  plain.kind = lv_utf8_valid(lv_rec_val(d->rec), false) ? LV_HUB_KIND_TEXT : LV_HUB_KIND_BINARY;
  if (lv_hub_data_bound(&plain, v.gen, v.encoding) > cap) return LV_E_TOO_BIG;
  return lv_hub_data_encode(&plain, v.gen, v.encoding, dst, cap);
}

/* The head is as long as the payload wants; nearly always that is the guess. */
static int put_ws(lv__variant v, const lv_hub_data *d, uint8_t *p, uint32_t cap) {
  int n = encode(v, d, p + HEAD_GUESS, cap - LV_WS_HEAD_MAX);
  if (n < 0) return n;
  uint32_t head = lv_ws_head_size((uint64_t)n);
  if (head != HEAD_GUESS) memmove(p + head, p + HEAD_GUESS, (size_t)n);
  uint8_t op = v.format == LV_HUB_BINARY ? LV_WS_BINARY : LV_WS_TEXT;
  (void)lv_ws_head_encode((uint8_t)(op | LV_WS_FIN), (uint64_t)n, p);
  return (int)head + n;
}

static void tmp_room(lv__hub_loop *hl, uint32_t cap) {
  if (cap <= hl->tmp_cap) return;
  free(hl->tmp);
  hl->tmp = malloc(cap);
  if (!hl->tmp) abort();
  hl->tmp_cap = cap;
}

/* Compressed where that is shorter (small ones never are); the others as they are. */
static int put_deflated(lv__hub_loop *hl, lv__variant v, const lv_hub_data *d, uint8_t *p) {
  uint32_t cap = lv_hub_data_bound(d, v.gen, v.encoding);
  tmp_room(hl, cap);
  int n = encode(v, d, hl->tmp, cap);
  if (n < 0) return n;
  uint8_t op = v.format == LV_HUB_BINARY ? LV_WS_BINARY : LV_WS_TEXT;
  lv_slice plain = lv_slice_of(hl->tmp, (size_t)n);
  uint32_t size = lv_ws_frame_deflated(p, op, plain, LV_WS_BITS_MAX);
  return (int)(size ? size : lv_ws_frame(p, op, plain));
}

static int put_sse(lv__hub_loop *hl, lv__variant v, const lv_hub_data *d, uint8_t *p) {
  uint32_t cap = lv_hub_data_bound(d, v.gen, v.encoding);
  tmp_room(hl, cap);
  lv_hub_data inner = *d;
  inner.has_pos = v.pos;
  int n = encode(v, &inner, hl->tmp, cap);
  if (n < 0) return n;
  uint8_t id[LV_HUB_POS_MAX];
  uint32_t id_n = (uint32_t)(lv_hub_pos_put(id, &d->pos) - id);
  uint8_t *end =
      lv_hub_sse_put(p, lv_slice_of(id, id_n), LV_SLICE(""), lv_slice_of(hl->tmp, (size_t)n));
  return (int)(end - p);
}

int lv__frame_put(lv__hub_loop *hl, lv__frames *f, lv__variant v, const lv_hub_data *d,
                  lv__frame *ret) {
  uint8_t *p = f->block->data + f->block->used;
  uint32_t cap = f->block->cap - f->block->used;
  int n;
  switch (v.transport) {
  case LV__OVER_WS: n = v.deflate ? put_deflated(hl, v, d, p) : put_ws(v, d, p, cap); break;
  case LV__OVER_SSE: n = put_sse(hl, v, d, p); break;
  default: n = encode(v, d, p, cap); break;
  }
  if (n < 0) return n;
  assert((uint32_t)n <= cap);
  f->block->used += (uint32_t)n;
  *ret = (lv__frame){f->block, p, (uint32_t)n};
  return 0;
}

lv_hub_data lv__data_of(const lv__hub_loop *hl, const lv_chan *chan, const lv_rec *rec, bool pos) {
  return (lv_hub_data){.rec = rec,
                       .kind = lv_hub_kind(chan->content, lv_rec_val(rec)),
                       .has_pos = pos,
                       .pos = {lv__hub_epoch(hl, chan->durability, rec->lsn), rec->offset}};
}

uint32_t lv__sse_whole(const uint8_t *p, uint32_t n) {
  uint32_t whole = 0;
  for (uint32_t i = 1; i < n; i++) whole += p[i] == '\n' && p[i - 1] == '\n';
  return whole;
}

bool lv__rec_expired(const lv__hub_loop *hl, const lv_rec *rec) {
  uint32_t ttl;
  return lv_rec_expiry(rec, &ttl) && hl->loop->wall.ns - rec->ingest_ns > (int64_t)ttl * 1000000000;
}
