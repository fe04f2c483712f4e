/* msgpack_json.c: JSON to msgpack in one pass over the text, and back.
 *
 * msgpack wants the number of elements first and JSON tells it last. One byte is kept for the head,
 * which is right for up to 15 elements; where there turn out to be more, the elements are moved by
 * two or four bytes. A second pass over the text would cost more for what is common.
 * The stack is an array of LV_JSON_DEPTH_MAX places. @thread any */
#include "wire/json.h"
#include "wire/msgpack.h"
#include <assert.h>
#include <math.h>

typedef struct group {
  uint8_t *head;
  uint32_t n; /* elements, or pairs */
  bool object;
} group;
typedef struct maker {
  uint8_t *p, *end;
  uint32_t depth;
  group open[LV_JSON_DEPTH_MAX];
} maker;

static bool room(const maker *w, uint64_t n) {
  return (uint64_t)(w->end - w->p) >= n;
}

static int put_string(maker *w, const lv_json_tok *tok) {
  if (tok->flags & LV_JSON_SURROGATE) return LV_E_SURROGATE;
  uint32_t n = lv_json_unescaped_size(tok);
  lv_slice s;
  if (!room(w, (uint64_t)n + LV_MSGPACK_HEAD_MAX)) return LV_E_TOO_BIG;
  w->p = lv_msgpack_put_str_head(w->p, n);
  if (tok->flags & LV_JSON_ESCAPED) {
    /* the head before it left dst with n bytes and more; unescape writes exactly n */
    int err = lv_json_unescape(tok, w->p, &s);
    assert(err == 0 && s.n == n);
  } else if (n) {
    memcpy(w->p, tok->s.p, n);
  }
  w->p += n;
  return 0;
}

static int put_number(maker *w, const lv_json_tok *tok) {
  uint64_t v;
  bool negative;
  if (!room(w, LV_MSGPACK_NUMBER_MAX)) return LV_E_TOO_BIG;
  if (!lv_json_integer(tok, &v, &negative))
    w->p = lv_msgpack_put_double(w->p, lv_json_double(tok));
  else if (negative)
    w->p = lv_msgpack_put_i64(w->p, (int64_t)v);
  else
    w->p = lv_msgpack_put_u64(w->p, v);
  return 0;
}

static int open_group(maker *w, bool object) {
  if (!room(w, 1)) return LV_E_TOO_BIG;
  w->open[w->depth++] = (group){w->p++, 0, object};
  return 0;
}

static int close_group(maker *w) {
  group *g = &w->open[--w->depth];
  uint8_t head[LV_MSGPACK_HEAD_MAX], *end;
  end = g->object ? lv_msgpack_put_map_head(head, g->n) : lv_msgpack_put_array_head(head, g->n);
  size_t n = (size_t)(end - head);
  if (n > 1) {
    if (!room(w, n - 1)) return LV_E_TOO_BIG;
    memmove(g->head + n, g->head + 1, (size_t)(w->p - g->head) - 1);
    w->p += n - 1;
  }
  memcpy(g->head, head, n);
  return 0;
}

static int put_token(maker *w, const lv_json_tok *tok) {
  static const uint8_t simple[] = {
      [LV_JSON_NULL] = 0xC0, [LV_JSON_FALSE] = 0xC2, [LV_JSON_TRUE] = 0xC3};
  if (tok->type == LV_JSON_ARRAY_END || tok->type == LV_JSON_OBJECT_END) return close_group(w);
  if (w->depth) {
    group *g = &w->open[w->depth - 1];
    g->n += !g->object || tok->type == LV_JSON_NAME; /* a pair counts by its name */
  }
  switch (tok->type) {
  case LV_JSON_NAME:
  case LV_JSON_STRING: return put_string(w, tok);
  case LV_JSON_NUMBER: return put_number(w, tok);
  case LV_JSON_ARRAY: return open_group(w, false);
  case LV_JSON_OBJECT: return open_group(w, true);
  default: break;
  }
  if (!room(w, 1)) return LV_E_TOO_BIG;
  *w->p++ = simple[tok->type];
  return 0;
}

int lv_msgpack_from_json(lv_slice json, uint8_t *dst, uint64_t cap) {
  if (cap > INT32_MAX) cap = INT32_MAX;
  maker w;
  w.p = dst;
  w.end = dst + cap;
  w.depth = 0;
  lv_json j;
  lv_json_tok tok;
  lv_json_init(&j, json);
  int got, err;
  while ((got = lv_json_next(&j, &tok)) == 1)
    if ((err = put_token(&w, &tok))) return err;
  return got < 0 ? got : (int)(w.p - dst);
}

/* ---- back ---- */

static int put_bin(lv_buf *out, lv_slice s) {
  uint8_t *p = s.n < UINT32_MAX / 2 ? lv_buf_space(out, LV_BASE64_SIZE(s.n) + 2) : NULL;
  if (!p) return LV_E_TOO_BIG;
  *p++ = '"';
  p = lv_base64_put(p, s);
  *p = '"';
  return 0;
}

static int put_str(lv_buf *out, lv_slice s) {
  uint8_t *p = s.n < UINT32_MAX / 6 - 1 ? lv_buf_space(out, lv_json_string_size(s)) : NULL;
  if (!p) return LV_E_TOO_BIG;
  (void)lv_json_put_string(p, s);
  return 0;
}

static int put_scalar(lv_buf *out, const lv_msgpack_tok *t) {
  uint8_t num[LV_JSON_DOUBLE_MAX + 1], *end = num;
  switch (t->type) {
  case LV_MSGPACK_NIL: return lv_buf_add_str(out, "null");
  case LV_MSGPACK_FALSE: return lv_buf_add_str(out, "false");
  case LV_MSGPACK_TRUE: return lv_buf_add_str(out, "true");
  case LV_MSGPACK_STR: return put_str(out, t->s);
  case LV_MSGPACK_BIN: return put_bin(out, t->s);
  case LV_MSGPACK_UINT: end = lv_json_put_u64(num, t->u); break;
  case LV_MSGPACK_INT: end = lv_json_put_i64(num, t->i); break;
  case LV_MSGPACK_FLOAT:
    if (!isfinite(t->d)) return LV_E_PAYLOAD;
    end = lv_json_put_double(num, t->d);
    break;
  default: return LV_E_PAYLOAD; /* ext */
  }
  return lv_buf_add(out, num, (size_t)(end - num));
}

/* What is open: the closing bracket of each level, and whether a name comes next. */
typedef struct walk {
  uint32_t depth;
  char close[LV_MSGPACK_DEPTH_MAX];
  bool name[LV_MSGPACK_DEPTH_MAX], first[LV_MSGPACK_DEPTH_MAX];
} walk;

/* What stands between the value before and this one. */
static int put_between(walk *w, lv_buf *out, const lv_msgpack_tok *t) {
  if (w->depth == 0) return 0;
  uint32_t d = w->depth - 1;
  bool map = w->close[d] == '}', value = map && !w->name[d];
  if (map && w->name[d] && t->type != LV_MSGPACK_STR) return LV_E_PAYLOAD;
  int err = value ? lv_buf_add_byte(out, ':') : w->first[d] ? 0 : lv_buf_add_byte(out, ',');
  w->first[d] = false;
  if (map) w->name[d] = !w->name[d];
  return err;
}

static int put_value(walk *w, lv_buf *out, const lv_msgpack_tok *t) {
  bool map = t->type == LV_MSGPACK_MAP;
  if (!map && t->type != LV_MSGPACK_ARRAY) return put_scalar(out, t);
  if (t->n == 0) return lv_buf_add_str(out, map ? "{}" : "[]");
  uint32_t d = w->depth++;
  w->close[d] = map ? '}' : ']';
  w->name[d] = map;
  w->first[d] = true;
  return lv_buf_add_byte(out, map ? '{' : '[');
}

int lv_msgpack_to_json(lv_slice bytes, lv_buf *out) {
  lv_msgpack m;
  lv_msgpack_tok t;
  walk w;
  int got, err;
  w.depth = 0;
  lv_msgpack_init(&m, bytes);
  while ((got = lv_msgpack_next(&m, &t)) == 1) {
    if ((err = put_between(&w, out, &t)) || (err = put_value(&w, out, &t))) return err;
    for (; t.closes; t.closes--)
      if ((err = lv_buf_add_byte(out, (uint8_t)w.close[--w.depth]))) return err;
  }
  return got;
}
