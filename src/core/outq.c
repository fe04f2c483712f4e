/* outq.c: the send queue of outq.h.
 *
 *   queue → seg → seg → seg      a segment holds 12 entries (512 bytes); the last one also holds
 *             [e e e … e]        the private chunk that is being filled, with a reference of its
 * own
 *
 * Private chunks belong to one queue, so that what a connection is sent in one turn lies in one
 * piece (one entry, one iovec) even when connections take turns: 512 bytes for one that begins with
 * an answer (ten thousand CONNACKs or PUBACKs of one turn are ten thousand chunks), else 4 KiB, and
 * 16 KiB once that was too little. They are counted without atomics: a queue stays on its loop.
 * Segments and chunks are pooled. An entry's owner is a block, or a chunk with bit 0 set; bit 1
 * says that a mark is behind it: whatever comes next has another owner then, and is not merged. */
#include "core/outq.h"
#include "core/pool.h"

enum { ENTRIES = 12, ANSWER_MAX = 64, BIG_CAP = 16 * 1024, INSERT_MAX = 16 };
enum { OWNER_CHUNK = 1, OWNER_SEALED = 2 };
enum chunk_kind { TINY, SMALL, BIG };

typedef struct chunk {
  lv_pool_node rest; /* the pool's, while it is free */
  uint32_t refs, cap, used;
  uint32_t kind;
  uint8_t data[];
} chunk;

typedef struct entry {
  const uint8_t *p;
  uint32_t len, msgs;
  lv_mono read_at;
  uintptr_t owner;
  lv_use use; /* of its messages */
} entry;

typedef struct lv_outq_seg {
  struct lv_outq_seg *next;
  chunk *fill; /* last segment only: the chunk with room behind it */
  uint32_t first, end;
  uint64_t unused;
  entry e[ENTRIES];
} seg;
static_assert(sizeof(seg) == 512 && sizeof(entry) == 40, "a segment is 8 cache lines");

static lv_pool seg_pool = {.size = sizeof(seg),
                           .align = 64,
                           .batch = 64,
                           .shared_max = 32,
                           .lock = PTHREAD_MUTEX_INITIALIZER};
#define CHUNK_POOL(bytes, n)                                                                       \
  {                                                                                                \
    .size = (bytes), .align = 16, .batch = (n), .shared_max = (n),                                 \
    .lock = PTHREAD_MUTEX_INITIALIZER                                                              \
  }
static const uint32_t chunk_size[] = {
    [TINY] = 512, [SMALL] = 4096, [BIG] = (uint32_t)sizeof(chunk) + BIG_CAP};
static lv_pool chunk_pool[] = {[TINY] = CHUNK_POOL(512, 64),
                               [SMALL] = CHUNK_POOL(4096, 32),
                               [BIG] = CHUNK_POOL(sizeof(chunk) + BIG_CAP, 16)};
static _Thread_local lv_pool_local seg_local, chunk_local[3];

void lv_outq_init(lv_outq *q) {
  *q = (lv_outq){0};
}

static void chunk_unref(chunk *c) {
  assert(c->refs > 0);
  if (--c->refs > 0) return;
  lv_pool_put(&chunk_pool[c->kind], &chunk_local[c->kind], c);
}

static chunk *chunk_new(enum chunk_kind kind) {
  chunk *c = lv_pool_get(&chunk_pool[kind], &chunk_local[kind]);
  c->refs = 1;
  c->cap = chunk_size[kind] - (uint32_t)sizeof(chunk);
  c->used = 0;
  c->kind = kind;
  return c;
}

static void owner_unref(uintptr_t owner) {
  void *p = (void *)(owner & ~(uintptr_t)(OWNER_CHUNK | OWNER_SEALED));
  if (owner & OWNER_CHUNK)
    chunk_unref(p);
  else
    lv_block_unref(p);
}

static seg *seg_push(lv_outq *q) {
  seg *s = lv_pool_get(&seg_pool, &seg_local), *t = q->tail;
  s->next = NULL;
  s->fill = t ? t->fill : NULL;
  s->first = s->end = 0;
  if (t) {
    t->fill = NULL;
    t->next = s;
  } else {
    q->head = s;
  }
  q->tail = s;
  return s;
}

static void seg_pop(lv_outq *q) {
  seg *s = q->head;
  q->head = s->next;
  if (!q->head) q->tail = NULL;
  if (s->fill) chunk_unref(s->fill);
  lv_pool_put(&seg_pool, &seg_local, s);
}

void lv_outq_done(lv_outq *q) {
  while (q->head) {
    seg *s = q->head;
    for (uint32_t i = s->first; i < s->end; i++) owner_unref(s->e[i].owner);
    seg_pop(q);
  }
  *q = (lv_outq){0};
}

/* Adds the range to the last entry when it continues it; false when it needs one of its own. */
static inline bool merge(lv_outq *q, uintptr_t owner, const uint8_t *p, uint32_t n, uint32_t msgs,
                         lv_mono read_at) {
  seg *s = q->tail;
  if (!s || s->first == s->end) return false;
  entry *e = &s->e[s->end - 1];
  if (e->owner != owner || e->p + e->len != p) return false;
  if (msgs) {
    if (e->msgs && e->read_at.ns != read_at.ns) return false;
    e->read_at = read_at;
    e->msgs += msgs;
    q->msgs += msgs;
  }
  e->len += n;
  return true;
}

static inline void append(lv_outq *q, uintptr_t owner, const uint8_t *p, uint32_t n, uint32_t msgs,
                          lv_mono read_at) {
  seg *s = q->tail;
  if (!s || s->end == ENTRIES) s = seg_push(q);
  s->e[s->end++] = (entry){p, n, msgs, read_at, owner, {0, 0}};
  q->msgs += msgs;
}

/* A chunk with room for n: a size above the one that was too little. */
static chunk *refill(lv_outq *q, uint32_t n) {
  seg *s = q->tail ? q->tail : seg_push(q);
  bool tiny = !s->fill && n <= ANSWER_MAX, small = !s->fill || s->fill->kind == TINY;
  if (n > chunk_size[SMALL] - sizeof(chunk)) small = false;
  chunk *c = chunk_new(tiny ? TINY : small ? SMALL : BIG);
  if (s->fill) chunk_unref(s->fill);
  s->fill = c;
  return c;
}

uint8_t *lv_outq_put(lv_outq *q, uint32_t n, uint32_t msgs, lv_mono read_at) {
  assert(n > 0 && n <= BIG_CAP && q->bytes <= UINT32_MAX - n);
  chunk *c = q->tail ? q->tail->fill : NULL;
  if (__builtin_expect(!c || c->cap - c->used < n, 0)) c = refill(q, n);
  uint8_t *p = c->data + c->used;
  uintptr_t owner = (uintptr_t)c + OWNER_CHUNK;
  c->used += n;
  q->bytes += n;
  if (!merge(q, owner, p, n, msgs, read_at)) {
    append(q, owner, p, n, msgs, read_at);
    c->refs++;
  }
  return p;
}

void lv_outq_ref(lv_outq *q, lv_block *b, const uint8_t *p, uint32_t n, uint32_t msgs,
                 lv_mono read_at) {
  assert(n > 0 && q->bytes <= UINT32_MAX - n);
  assert(p >= b->data && p + n <= b->data + b->cap);
  q->bytes += n;
  if (merge(q, (uintptr_t)b, p, n, msgs, read_at)) return;
  append(q, (uintptr_t)lv_block_ref(b), p, n, msgs, read_at);
}

void lv_outq_use(lv_outq *q, lv_use use) {
  seg *s = q->tail;
  assert(s && s->end > s->first);
  entry *e = &s->e[s->end - 1];
  e->use.steps += use.steps;
  e->use.bytes += use.bytes;
}

int lv_outq_iov(const lv_outq *q, struct iovec *iov, int max) {
  uint32_t skip = q->head_sent;
  int n = 0;
  for (const seg *s = q->head; s; s = s->next)
    for (uint32_t i = s->first; i < s->end; i++) {
      if (n == max) return n;
      iov[n++] = (struct iovec){(void *)(uintptr_t)(s->e[i].p + skip), s->e[i].len - skip};
      skip = 0;
    }
  return n;
}

void lv_outq_consume(lv_outq *q, uint32_t n, lv_outq_sent_fn *fn, void *arg) {
  assert(n <= q->bytes);
  q->bytes -= n;
  n += q->head_sent;
  q->head_sent = 0;
  while (n > 0) {
    seg *s = q->head;
    entry e = s->e[s->first];
    if (n < e.len) {
      q->head_sent = n;
      return;
    }
    n -= e.len;
    s->first++;
    if (s->first == s->end && (s->next || q->bytes == 0)) seg_pop(q);
    q->msgs -= e.msgs;
    owner_unref(e.owner);
    if (e.msgs && fn) fn(arg, e.msgs, e.read_at, e.use);
  }
}

uint32_t lv_outq_gone(const lv_outq *q, uint32_t (*whole)(const uint8_t *p, uint32_t n),
                      lv_mono *ret_read_at) {
  *ret_read_at = (lv_mono){0};
  if (q->head_sent == 0) return 0;
  const entry *e = &q->head->e[q->head->first];
  if (e->msgs == 0) return 0;
  *ret_read_at = e->read_at;
  uint32_t gone = whole(e->p, q->head_sent);
  return gone < e->msgs ? gone : e->msgs;
}

uint32_t lv_outq_unsent(const lv_outq *q, uint32_t (*whole)(const uint8_t *p, uint32_t n)) {
  lv_mono stamp;
  return q->msgs - (whole ? lv_outq_gone(q, whole, &stamp) : 0);
}

void lv_outq_mark_end(lv_outq *q, lv_outq_mark *m) {
  seg *s = q->bytes ? q->tail : NULL;
  *m = (lv_outq_mark){.seg = s, .at = s ? s->end : 0, .bytes = q->bytes};
  if (s && s->end > s->first) s->e[s->end - 1].owner |= OWNER_SEALED;
}

/* A full segment's entries from i on go to a segment of their own behind it. */
static void seg_split(lv_outq *q, seg *s, uint32_t i) {
  seg *n = lv_pool_get(&seg_pool, &seg_local);
  n->next = s->next;
  n->fill = s->fill;
  n->first = 0;
  n->end = s->end - i;
  memcpy(n->e, s->e + i, n->end * sizeof *s->e);
  s->next = n;
  s->fill = NULL;
  s->end = i;
  if (q->tail == s) q->tail = n;
}

void lv_outq_insert(lv_outq *q, const lv_outq_mark *m, const uint8_t *p, uint32_t n) {
  assert(n > 0 && n <= INSERT_MAX && q->bytes > m->bytes && q->bytes <= UINT32_MAX - n);
  assert(m->seg || q->head_sent == 0);
  seg *s = m->seg ? m->seg : q->head;
  uint32_t i = m->seg ? m->at : s->first;
  if (i == s->end) { /* it was full at the mark */
    s = s->next;
    i = s->first;
  }
  assert(i < s->end);
  chunk *c = q->tail->fill;
  if (c && c->cap - c->used >= n)
    c->refs++;
  else
    c = chunk_new(TINY);
  uint8_t *to = c->data + c->used;
  memcpy(to, p, n);
  c->used += n;
  if (s->end == ENTRIES)
    seg_split(q, s, i);
  else
    memmove(s->e + i + 1, s->e + i, (s->end - i) * sizeof *s->e);
  s->e[i] = (entry){to, n, 0, {0}, (uintptr_t)c + OWNER_CHUNK, {0, 0}};
  s->end++;
  q->bytes += n;
}

void lv_outq_cut(lv_outq *q, const lv_outq_mark *m) {
  assert(q->bytes >= m->bytes && (m->seg || m->bytes == 0));
  if (q->bytes == m->bytes) return;
  if (!m->seg) {
    lv_outq_done(q);
    return;
  }
  seg *s = m->seg;
  chunk *fill = q->tail->fill;
  for (uint32_t i = m->at; s; s = s->next, i = 0) {
    for (; i < s->end; i++) {
      q->msgs -= s->e[i].msgs;
      owner_unref(s->e[i].owner);
    }
  }
  s = m->seg;
  for (seg *n = s->next, *next; n; n = next) {
    next = n->next;
    lv_pool_put(&seg_pool, &seg_local, n);
  }
  s->next = NULL;
  s->end = m->at;
  s->fill = fill;
  q->tail = s;
  q->bytes = m->bytes;
}
