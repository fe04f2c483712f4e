/* conf_yaml.c: a YAML document as a tree of nodes with marks, by libyaml's event interface.
 *
 * Bounded whatever the bytes: depth, number of nodes (an alias counts with everything that it
 * stands for, so a bomb of nested aliases is refused when it is read, not when it is walked), and
 * text size by the caller. A node may be named by an alias only once it is complete, so the tree
 * has no cycles. One document; tags are ignored. */
#include "core/conf_int.h"
#include <assert.h>
#include <yaml.h>

enum { ANCHORS_MAX = 256 };

typedef struct tree {
  lv__conf_build *b;
  yaml_parser_t parser;
  lv__conf_node *stack[LV__CONF_DEPTH_MAX];
  uint32_t depth;
  lv__conf_node *root;
  struct {
    lv_slice name;
    lv__conf_node *node;
  } anchors[ANCHORS_MAX];
  uint32_t n_anchors;
} tree;

static bool count_nodes(tree *t, const lv__conf_node *at, uint32_t n) {
  if (n > LV__CONF_NODES_MAX - t->b->n_nodes) {
    lv__conf_issue(t->b, at, NULL, "more than %d values, aliases expanded", LV__CONF_NODES_MAX);
    return false;
  }
  t->b->n_nodes += n;
  return true;
}

static lv__conf_node *node_new(tree *t, uint8_t kind, const yaml_event_t *e) {
  lv__conf_node *node = lv__conf_get(t->b->tmem, sizeof *node);
  node->kind = kind;
  node->line = (uint32_t)e->start_mark.line + 1;
  node->column = (uint32_t)e->start_mark.column + 1;
  node->size = 1;
  return node;
}

/* Puts a node where the document is: into the innermost open collection, or as the root. */
static void node_place(tree *t, lv__conf_node *node) {
  if (t->depth == 0) {
    t->root = node;
    return;
  }
  lv__conf_node *up = t->stack[t->depth - 1];
  if (up->n_kids == up->cap_kids) {
    uint32_t cap = up->cap_kids ? up->cap_kids * 2 : 8;
    lv__conf_node **kids = lv__conf_get(t->b->tmem, cap * sizeof *kids);
    if (up->n_kids) memcpy(kids, up->kids, up->n_kids * sizeof *kids);
    up->kids = kids;
    up->cap_kids = cap;
  }
  up->kids[up->n_kids++] = node;
}

static bool anchor_add(tree *t, const yaml_char_t *name, lv__conf_node *node) {
  if (!name) return true;
  lv_slice s = lv_slice_of(name, strlen((const char *)name));
  for (uint32_t i = 0; i < t->n_anchors; i++) {
    if (!lv_slice_eq(t->anchors[i].name, s)) continue;
    lv__conf_issue(t->b, node, (const char *)name, "anchor defined twice");
    return false;
  }
  if (t->n_anchors == ANCHORS_MAX) {
    lv__conf_issue(t->b, node, (const char *)name, "more than %d anchors", ANCHORS_MAX);
    return false;
  }
  t->anchors[t->n_anchors].name = lv__conf_slice(t->b->tmem, s);
  t->anchors[t->n_anchors++].node = node;
  return true;
}

static bool alias_place(tree *t, const yaml_event_t *e) {
  const char *text = (const char *)e->data.alias.anchor;
  lv_slice name = lv_slice_str(text);
  uint32_t line = (uint32_t)e->start_mark.line + 1, column = (uint32_t)e->start_mark.column + 1;
  for (uint32_t i = 0; i < t->n_anchors; i++) {
    lv__conf_node *node = t->anchors[i].node;
    if (!lv_slice_eq(t->anchors[i].name, name)) continue;
    if (!node->done) {
      lv__conf_issue_at(t->b, line, column, text, "alias to a value that contains it");
      return false;
    }
    if (!count_nodes(t, node, node->size)) return false;
    if (t->depth) t->stack[t->depth - 1]->size += node->size;
    node_place(t, node);
    return true;
  }
  lv__conf_issue_at(t->b, line, column, text, "alias without an anchor of that name before it");
  return false;
}

static bool scalar_place(tree *t, const yaml_event_t *e) {
  lv__conf_node *node = node_new(t, LV__CONF_SCALAR, e);
  node->plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
  node->done = true;
  node->text = lv__conf_slice(t->b->tmem, lv_slice_of(e->data.scalar.value, e->data.scalar.length));
  if (!count_nodes(t, node, 1) || !anchor_add(t, e->data.scalar.anchor, node)) return false;
  if (t->depth) t->stack[t->depth - 1]->size++;
  node_place(t, node);
  return true;
}

static bool collection_open(tree *t, const yaml_event_t *e, uint8_t kind,
                            const yaml_char_t *anchor) {
  lv__conf_node *node = node_new(t, kind, e);
  if (t->depth == LV__CONF_DEPTH_MAX) {
    lv__conf_issue(t->b, node, NULL, "nested deeper than %d levels", LV__CONF_DEPTH_MAX);
    return false;
  }
  if (!count_nodes(t, node, 1) || !anchor_add(t, anchor, node)) return false;
  node_place(t, node);
  t->stack[t->depth++] = node;
  return true;
}

static void collection_close(tree *t) {
  assert(t->depth > 0);
  lv__conf_node *node = t->stack[--t->depth];
  node->done = true;
  if (t->depth) t->stack[t->depth - 1]->size += node->size;
}

/* Takes one event in; false: stop (the end, or a finding). */
static bool take(tree *t, const yaml_event_t *e) {
  switch (e->type) {
  case YAML_DOCUMENT_START_EVENT:
    if (!t->root) return true;
    lv__conf_issue_at(t->b, (uint32_t)e->start_mark.line + 1, 1, NULL,
                      "a second document: one file holds one");
    return false;
  case YAML_ALIAS_EVENT: return alias_place(t, e);
  case YAML_SCALAR_EVENT: return scalar_place(t, e);
  case YAML_SEQUENCE_START_EVENT:
    return collection_open(t, e, LV__CONF_SEQ, e->data.sequence_start.anchor);
  case YAML_MAPPING_START_EVENT:
    return collection_open(t, e, LV__CONF_MAP, e->data.mapping_start.anchor);
  case YAML_SEQUENCE_END_EVENT:
  case YAML_MAPPING_END_EVENT: collection_close(t); return true;
  case YAML_STREAM_END_EVENT: return false;
  default: return true;
  }
}

static void parser_issue(tree *t) {
  const yaml_parser_t *p = &t->parser;
  const char *problem = p->problem ? p->problem : "not YAML";
  if (p->error == YAML_READER_ERROR) {
    lv__conf_issue_at(t->b, 1, 1, NULL, "%s at byte %zu", problem, p->problem_offset);
    return;
  }
  lv__conf_issue_at(t->b, (uint32_t)p->problem_mark.line + 1, (uint32_t)p->problem_mark.column + 1,
                    NULL, "%s%s%s", problem, p->context ? ", " : "", p->context ? p->context : "");
}

lv__conf_node *lv__conf_tree(lv__conf_build *b, lv_slice text) {
  tree *t = lv__conf_get(b->tmem, sizeof *t);
  t->b = b;
  if (!yaml_parser_initialize(&t->parser)) abort();
  yaml_parser_set_input_string(&t->parser, text.n ? text.p : (const uint8_t *)"", text.n);
  bool more = true;
  while (more) {
    yaml_event_t event;
    if (!yaml_parser_parse(&t->parser, &event)) {
      parser_issue(t);
      break;
    }
    more = take(t, &event);
    yaml_event_delete(&event);
  }
  yaml_parser_delete(&t->parser);
  return b->n_issues ? NULL : t->root;
}
