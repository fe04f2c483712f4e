/* doc.c: see doc.h. Parsing goes by parents, not by recursion; what recurses is bounded by
 * LV__DOC_DEPTH. */
#include "master/doc.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

static lv__doc *doc_new(lv_arena *m, uint8_t type) {
  lv__doc *d = lv_arena_calloc(m, 1, sizeof *d);
  if (d) d->type = type;
  return d;
}

static void append(lv__doc *to, lv__doc *kid) {
  kid->up = to;
  kid->next = NULL;
  if (to->last)
    to->last->next = kid;
  else
    to->first = kid;
  to->last = kid;
}

static lv__doc *find(const lv__doc *obj, lv_slice name) {
  for (lv__doc *d = obj->first; d; d = d->next)
    if (lv_slice_eq(d->name, name)) return d;
  return NULL;
}

lv__doc *lv__doc_get(const lv__doc *obj, const char *name) {
  return find(obj, lv_slice_str(name));
}

static int unescape(lv_arena *m, const lv_json_tok *tok, lv_slice *ret, char *why) {
  lv_slice s;
  uint8_t *p = lv_arena_alloc(m, tok->s.n + 1u);
  if (!p) return LV_E_TOO_BIG;
  if (tok->flags & LV_JSON_NUL) {
    snprintf(why, LV__DOC_WHY, "U+0000 in a text");
    return LV_E_PAYLOAD;
  }
  int err = lv_json_unescape(tok, p, &s);
  if (err) return err;
  if (s.n && s.p != p) memcpy(p, s.p, s.n);
  p[s.n] = 0;
  *ret = lv_slice_of(p, s.n);
  return 0;
}

/* ---- parsing ---- */
typedef struct parse {
  lv_arena *m;
  lv_json j;
  lv__doc *root, *at; /* the innermost open array or object */
  lv_slice name;      /* of the member whose value comes next */
  uint32_t depth;
  char *why;
} parse;

static int on_name(parse *p, const lv_json_tok *tok) {
  if (p->at->n++ == LV__DOC_MEMBERS) { /* names are searched one by one */
    snprintf(p->why, LV__DOC_WHY, "more than %d members in an object", LV__DOC_MEMBERS);
    return LV_E_TOO_BIG;
  }
  int err = unescape(p->m, tok, &p->name, p->why);
  if (err || !find(p->at, p->name)) return err;
  snprintf(p->why, LV__DOC_WHY, "%.*s: given twice", p->name.n > 64 ? 64 : (int)p->name.n,
           (const char *)p->name.p);
  return LV_E_PAYLOAD;
}

static int on_value(parse *p, const lv_json_tok *tok) {
  bool opens = tok->type == LV_JSON_OBJECT || tok->type == LV_JSON_ARRAY;
  lv__doc *d = doc_new(p->m, tok->type);
  if (!d) return LV_E_TOO_BIG;
  if (!p->root && tok->type != LV_JSON_OBJECT) {
    snprintf(p->why, LV__DOC_WHY, "a JSON object is expected");
    return LV_E_PAYLOAD;
  }
  int err = 0;
  if (tok->type == LV_JSON_STRING) err = unescape(p->m, tok, &d->text, p->why);
  if (tok->type == LV_JSON_NUMBER && !lv_arena_slice(p->m, tok->s, &d->text)) err = LV_E_TOO_BIG;
  if (err) return err;
  if (p->at && p->at->type == LV_JSON_OBJECT) d->name = p->name;
  if (p->at)
    append(p->at, d);
  else
    p->root = d;
  if (!opens) return 0;
  if (++p->depth > LV__DOC_DEPTH) {
    snprintf(p->why, LV__DOC_WHY, "nested deeper than %d levels", LV__DOC_DEPTH);
    return LV_E_NESTING;
  }
  p->at = d;
  return 0;
}

static int on_token(parse *p, const lv_json_tok *tok) {
  if (tok->type == LV_JSON_NAME) return on_name(p, tok);
  if (tok->type != LV_JSON_ARRAY_END && tok->type != LV_JSON_OBJECT_END) return on_value(p, tok);
  assert(p->at);
  p->at = p->at->up;
  p->depth--;
  return 0;
}

int lv__doc_parse(lv_arena *m, lv_slice text, lv__doc **ret_doc, char *why) {
  parse p = {.m = m, .why = why};
  lv_json_tok tok;
  int r;
  why[0] = 0;
  lv_json_init(&p.j, text);
  while ((r = lv_json_next(&p.j, &tok)) == 1) {
    r = on_token(&p, &tok);
    if (r) break;
  }
  if (r == 0 && p.root) {
    *ret_doc = p.root;
    return 0;
  }
  if (r == 0) r = LV_E_PAYLOAD;
  if (!why[0] && r == LV_E_PAYLOAD)
    snprintf(why, LV__DOC_WHY, "not JSON, about byte %zu", (size_t)(p.j.p - p.j.start));
  else if (!why[0])
    snprintf(why, LV__DOC_WHY, "%s", lv_err_text(r));
  return r;
}

/* ---- changing ---- */
int lv__doc_set(lv_arena *m, lv__doc *obj, const char *name, lv_slice text) {
  lv__doc *d = lv__doc_get(obj, name);
  if (!d) {
    d = doc_new(m, LV_JSON_STRING);
    if (!d || !lv_arena_slice(m, lv_slice_str(name), &d->name)) return LV_E_TOO_BIG;
    append(obj, d);
  }
  d->type = LV_JSON_STRING;
  d->first = d->last = NULL;
  return lv_arena_slice(m, text, &d->text) ? 0 : LV_E_TOO_BIG;
}

static void take_out(lv__doc *obj, lv__doc *kid) {
  lv__doc *before = NULL;
  for (lv__doc *d = obj->first; d != kid; d = d->next) before = d;
  if (before)
    before->next = kid->next;
  else
    obj->first = kid->next;
  if (obj->last == kid) obj->last = before;
}

int lv__doc_merge(lv_arena *m, lv__doc *target, lv__doc *patch) {
  assert(target->type == LV_JSON_OBJECT && patch->type == LV_JSON_OBJECT);
  for (lv__doc *p = patch->first, *next; p; p = next) {
    next = p->next;
    lv__doc *have = find(target, p->name);
    if (p->type != LV_JSON_OBJECT) {
      if (have) take_out(target, have);
      if (p->type != LV_JSON_NULL) append(target, p);
      continue;
    }
    if (!have || have->type != LV_JSON_OBJECT) { /* also drops the nulls in it */
      if (have) take_out(target, have);
      have = doc_new(m, LV_JSON_OBJECT);
      if (!have) return LV_E_TOO_BIG;
      have->name = p->name;
      append(target, have);
    }
    int err = lv__doc_merge(m, have, p);
    if (err) return err;
  }
  return 0;
}

/* ---- giving ---- */
static void write_string(lv_buf *b, lv_slice s) {
  uint8_t *p = lv_buf_space(b, lv_json_string_size(s));
  if (p) (void)lv_json_put_string(p, s);
}

void lv__doc_write(lv_buf *b, const lv__doc *doc) {
  bool object = doc->type == LV_JSON_OBJECT;
  switch (doc->type) {
  case LV_JSON_NULL: lv_buf_add_str(b, "null"); return;
  case LV_JSON_FALSE: lv_buf_add_str(b, "false"); return;
  case LV_JSON_TRUE: lv_buf_add_str(b, "true"); return;
  case LV_JSON_NUMBER: lv_buf_add_slice(b, doc->text); return;
  case LV_JSON_STRING: write_string(b, doc->text); return;
  default: break;
  }
  (void)lv_buf_add_byte(b, object ? '{' : '[');
  for (const lv__doc *d = doc->first; d; d = d->next) {
    if (d != doc->first) (void)lv_buf_add_byte(b, ',');
    if (object) {
      write_string(b, d->name);
      (void)lv_buf_add_byte(b, ':');
    }
    lv__doc_write(b, d);
  }
  (void)lv_buf_add_byte(b, object ? '}' : ']');
}

lv_conf_node *lv__doc_node(lv_arena *m, const lv__doc *doc) {
  switch (doc->type) {
  case LV_JSON_NULL: return lv_conf_node_text(m, LV_SLICE("null"), true);
  case LV_JSON_FALSE: return lv_conf_node_text(m, LV_SLICE("false"), true);
  case LV_JSON_TRUE: return lv_conf_node_text(m, LV_SLICE("true"), true);
  case LV_JSON_NUMBER: return lv_conf_node_text(m, doc->text, true);
  case LV_JSON_STRING: return lv_conf_node_text(m, doc->text, false);
  default: break;
  }
  bool object = doc->type == LV_JSON_OBJECT;
  lv_conf_node *node = object ? lv_conf_node_map(m) : lv_conf_node_list(m);
  for (const lv__doc *d = doc->first; d; d = d->next) {
    if (object) lv_conf_node_add(m, node, lv_conf_node_text(m, d->name, true));
    lv_conf_node_add(m, node, lv__doc_node(m, d));
  }
  return node;
}
