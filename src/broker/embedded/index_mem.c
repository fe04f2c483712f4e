/* index_mem.c: channel state, and the index of the segments whose index file is not written yet.
 *
 * The hot path is lv__mem_add: array lookup by channel id, one word appended to the unit's last
 * chunk. Chunks come from the segment's arena by doubling sizes, so 10,000 channels with a few
 * records each take 64 bytes a channel, and one busy channel takes few large pieces; nothing is
 * ever reallocated, and all of it goes at once when the segment's index file is there.
 *
 * Bounds: 4 to 8 bytes a record of the open segment; 48 bytes a channel for good.
 * @thread under the log's mutex. */
#include "broker/embedded/elog_int.h"
#include <stdlib.h>

enum { ARENA_FIRST = 4096, ARENA_MAX = 256 * 1024, CHUNK_FIRST = 12, CHUNK_MAX = 4092 };

struct lv__arena_block {
  lv__arena_block *next;
  size_t used, cap;
  _Alignas(16) uint8_t data[];
};

void *lv__arena_get(lv__arena *a, size_t n) {
  n = (n + 15) & ~(size_t)15;
  lv__arena_block *b = a->blocks;
  if (!b || b->cap - b->used < n) {
    size_t cap = b ? 2 * b->cap : ARENA_FIRST;
    if (cap > ARENA_MAX) cap = ARENA_MAX;
    if (cap < n) cap = n;
    b = malloc(sizeof *b + cap);
    if (!b) abort();
    b->next = a->blocks;
    b->used = 0;
    b->cap = cap;
    a->blocks = b;
    a->bytes += sizeof *b + cap;
  }
  void *p = b->data + b->used;
  b->used += n;
  return p;
}

void lv__arena_done(lv__arena *a) {
  for (lv__arena_block *b = a->blocks, *next; b; b = next) {
    next = b->next;
    free(b);
  }
  *a = (lv__arena){0};
}

lv__chan *lv__chan_at(lv_elog *l, uint32_t chan, bool make) {
  if (chan == LV_ELOG_STATE) return &l->state;
  if (chan == LV_ELOG_RETAINED) return &l->retained;
  if (chan == 0 || chan >= LV_ELOG_CHAN_MAX) return NULL;
  lv__chan *page = atomic_load_explicit(&l->pages[chan / LV__CHAN_PAGE], memory_order_acquire);
  if (!page) {
    if (!make) return NULL;
    page = calloc(LV__CHAN_PAGE, sizeof *page);
    if (!page) abort();
    atomic_store_explicit(&l->pages[chan / LV__CHAN_PAGE], page, memory_order_release);
  }
  if (make && chan >= l->chan_top) l->chan_top = chan + 1;
  return &page[chan % LV__CHAN_PAGE];
}

static void push(lv_elog_seg *seg, lv__unit *u, const uint32_t *words, uint32_t n) {
  lv__chunk *c = u->tail;
  if (!c || c->cap - c->n < n) {
    uint32_t cap = c ? 2 * (c->cap + 4) - 4 : CHUNK_FIRST; /* 64, 128, … bytes with the head */
    if (cap > CHUNK_MAX) cap = CHUNK_MAX;
    lv__chunk *fresh = lv__arena_get(&seg->arena, sizeof *fresh + cap * sizeof(uint32_t));
    *fresh = (lv__chunk){.cap = cap};
    if (c)
      c->next = fresh;
    else
      u->head = fresh;
    u->tail = c = fresh;
  }
  for (uint32_t i = 0; i < n; i++) c->e[c->n++] = words[i];
}

static lv__unit *unit_new(lv_elog_seg *seg, uint32_t chan, uint64_t first) {
  lv__unit *u = lv__arena_get(&seg->arena, sizeof *u);
  *u = (lv__unit){.seg = seg, .chan = chan, .first = first};
  u->oldest_ns = INT64_MAX;
  u->newest_ns = INT64_MIN;
  if (seg->units_tail)
    seg->units_tail->next = u;
  else
    seg->units = u;
  seg->units_tail = u;
  seg->n_units++;
  return u;
}

static void count(lv__unit *u, const lv_rec *rec) {
  u->count++;
  u->bytes += rec->size;
  if (rec->ingest_ns < u->oldest_ns) u->oldest_ns = rec->ingest_ns;
  if (rec->ingest_ns > u->newest_ns) u->newest_ns = rec->ingest_ns;
}

static void add_to(lv_elog_seg *seg, lv__chan *c, uint32_t chan, uint64_t offset,
                   const lv_rec *rec) {
  lv__unit *u = c->cur;
  if (!u || u->seg != seg || (offset != UINT64_MAX && u->first + u->count != offset)) {
    u = unit_new(seg, chan, offset == UINT64_MAX ? 0 : offset);
    u->prev = c->cur;
    c->cur = u;
  }
  uint32_t word = (uint32_t)((rec->lsn - seg->base) / LV_REC_ALIGN);
  push(seg, u, &word, 1);
  count(u, rec);
}

bool lv__rec_usable(const lv_rec *rec) {
  return rec->kind == LV_REC_MSG && rec->chan > 0 && rec->chan < LV_ELOG_CHAN_MAX &&
         rec->offset < UINT64_MAX / 4;
}
bool lv__rec_retained(const lv_rec *rec) {
  return rec->kind == LV_REC_MSG && (rec->flags & (LV_REC_RETAIN | LV_REC_LAST));
}
bool lv__rec_state(const lv_rec *rec) {
  return rec->kind == LV_REC_STATE || rec->kind == LV_REC_CHAN ||
         (rec->kind == LV_REC_MSG && (rec->flags & LV_REC_QOS2));
}

void lv__mem_add(lv_elog *l, lv_elog_seg *seg, const lv_rec *rec) {
  assert(!seg->compacted);
  if (rec->kind == LV_REC_MSG) {
    if (lv__rec_usable(rec)) {
      lv__chan *c = lv__chan_at(l, rec->chan, true);
      add_to(seg, c, rec->chan, rec->offset, rec);
      c->next = lv__max(c->next, rec->offset + 1);
      c->bytes += rec->size;
    }
    if (lv__rec_retained(rec)) add_to(seg, &l->retained, LV_ELOG_RETAINED, UINT64_MAX, rec);
  }
  if (lv__rec_state(rec)) add_to(seg, &l->state, LV_ELOG_STATE, UINT64_MAX, rec);
}

/* Slot of a channel's newest unit in the packed segment's map (open addressing, never full). */
static lv__unit **map_slot(lv_elog_seg *seg, uint32_t chan) {
  uint32_t i = (uint32_t)(chan * 0x9E3779B1u) & (seg->map_cap - 1);
  while (seg->map[i] && seg->map[i]->chan != chan) i = (i + 1) & (seg->map_cap - 1);
  return &seg->map[i];
}

static void map_grow(lv_elog_seg *seg) {
  if (seg->n_map * 2 < seg->map_cap) return;
  lv__unit **old = seg->map;
  uint32_t n = seg->map_cap;
  seg->map_cap = n ? 2 * n : 64;
  seg->map = calloc(seg->map_cap, sizeof *seg->map);
  if (!seg->map) abort();
  for (uint32_t i = 0; i < n; i++)
    if (old[i]) *map_slot(seg, old[i]->chan) = old[i];
  free(old);
}

void lv__mem_add_packed(lv_elog_seg *seg, uint32_t chan, const lv_rec *rec, uint64_t pos) {
  assert(seg->compacted);
  bool pseudo = chan == LV_ELOG_STATE || chan == LV_ELOG_RETAINED;
  map_grow(seg);
  lv__unit **slot = map_slot(seg, chan), *u = *slot;
  if (!u) seg->n_map++;
  if (!u || (!pseudo && u->first + u->count != rec->offset))
    *slot = u = unit_new(seg, chan, pseudo ? 0 : rec->offset);
  uint32_t words[2] = {(uint32_t)((rec->lsn - seg->base) / LV_REC_ALIGN),
                       (uint32_t)(pos / LV_REC_ALIGN)};
  push(seg, u, words, 2);
  count(u, rec);
}

void lv__mem_truncate(lv_elog *l, lv_elog_seg *seg) {
  for (lv__unit *u = seg->units; u; u = u->next) {
    uint32_t before = u->count;
    u->count = 0;
    for (lv__chunk *c = u->head; c; c = c->next) {
      while (c->n > 0 && seg->base + (uint64_t)c->e[c->n - 1] * LV_REC_ALIGN >= seg->end) c->n--;
      u->count += c->n;
      u->tail = c;
      if (c->n < c->cap) c->next = NULL; /* what is behind is empty too */
    }
    lv__chan *ch = u->count < before ? lv__chan_at(l, u->chan, false) : NULL;
    const lv__unit *rest = u;
    while (rest && rest->count == 0) rest = rest->prev;
    uint64_t end = rest ? rest->first + rest->count : 0;
    if (ch) ch->next = lv__min(ch->next, lv__max(end, ch->floor));
  }
}

void lv__mem_drop(lv_elog *l, lv_elog_seg *seg) {
  for (lv__unit *u = seg->units; u; u = u->next) {
    lv__chan *c = lv__chan_at(l, u->chan, false);
    if (!c) continue;
    c->floor = lv__max(c->floor, u->count ? u->first + u->count : 0);
    lv__unit **at = &c->cur;
    while (*at && (*at)->seg != seg) at = &(*at)->prev;
    while (*at && (*at)->seg == seg) *at = (*at)->prev;
  }
  lv__mem_free(seg);
}

void lv__mem_free(lv_elog_seg *seg) {
  lv__arena_done(&seg->arena);
  free(seg->map);
  seg->map = NULL;
  seg->map_cap = seg->n_map = 0;
  seg->units = seg->units_tail = NULL;
  seg->n_units = 0;
}

static void place(const lv__unit *u, uint32_t word, uint64_t i, lv_elog_at *ret) {
  bool pseudo = u->chan == LV_ELOG_STATE || u->chan == LV_ELOG_RETAINED;
  uint64_t lsn = u->seg->base + (uint64_t)word * LV_REC_ALIGN;
  *ret = (lv_elog_at){.lsn = lsn,
                      .offset = pseudo ? 0 : u->first + i,
                      .pos = lv__pos_of(u->seg, lsn),
                      .seg = u->seg};
}

uint32_t lv__mem_find(const lv__unit *u, const lv__want *w, lv_elog_at *ret) {
  uint32_t n = 0;
  uint64_t i = 0, base = u->seg->base, skip = w->first > u->first ? w->first - u->first : 0;
  for (const lv__chunk *c = u->head; c && n < w->max; i += c->n, c = c->next) {
    if (c->n == 0 || i + c->n <= skip) continue;
    if (base + (uint64_t)c->e[c->n - 1] * LV_REC_ALIGN < w->from) continue;
    uint32_t lo = skip > i ? (uint32_t)(skip - i) : 0, hi = c->n; /* first entry wanted */
    while (lo < hi) {
      uint32_t mid = (lo + hi) / 2;
      if (base + (uint64_t)c->e[mid] * LV_REC_ALIGN < w->from)
        lo = mid + 1;
      else
        hi = mid;
    }
    for (; lo < c->n && n < w->max; lo++) {
      if (base + (uint64_t)c->e[lo] * LV_REC_ALIGN >= w->until) return n;
      place(u, c->e[lo], i + lo, &ret[n++]);
    }
  }
  return n;
}

bool lv__mem_at(const lv__unit *u, uint64_t offset, lv_elog_at *ret) {
  if (offset < u->first || offset - u->first >= u->count) return false;
  uint64_t i = offset - u->first, skipped = 0;
  const lv__chunk *c = u->head;
  for (; i - skipped >= c->n; c = c->next) skipped += c->n;
  place(u, c->e[i - skipped], i, ret);
  return true;
}
