/* conf_more.c: objects beside the document (those of the master's store) become nodes of its tree,
 * in line 0, before the tree is judged: so they meet the same checks, with the same words, as what
 * stands in the file, and a name that both have is found by the check for names given twice.
 *
 * Nodes of the document may be shared by aliases; what gets something appended is copied first. */
#include "core/conf_int.h"
#include "core/map.h"
#include <assert.h>

/* ---- nodes for callers ---- */
static lv_conf_node *node_new(lv_arena *m, uint8_t kind) {
  lv_conf_node *node = lv__conf_get(m, sizeof *node);
  node->kind = kind;
  node->done = true;
  node->size = 1;
  return node;
}

lv_conf_node *lv_conf_node_text(lv_arena *m, lv_slice text, bool plain) {
  lv_conf_node *node = node_new(m, LV__CONF_SCALAR);
  node->text = lv__conf_slice(m, text);
  node->plain = plain;
  return node;
}

lv_conf_node *lv_conf_node_list(lv_arena *m) {
  return node_new(m, LV__CONF_SEQ);
}

lv_conf_node *lv_conf_node_map(lv_arena *m) {
  return node_new(m, LV__CONF_MAP);
}

void lv_conf_node_add(lv_arena *m, lv_conf_node *to, lv_conf_node *kid) {
  assert(to->kind != LV__CONF_SCALAR);
  if (to->n_kids == to->cap_kids) {
    uint32_t cap = to->cap_kids ? to->cap_kids * 2 : 8;
    lv__conf_node **kids = lv__conf_get(m, cap * sizeof *kids);
    if (to->n_kids) memcpy(kids, to->kids, to->n_kids * sizeof *kids);
    to->kids = kids;
    to->cap_kids = cap;
  }
  to->kids[to->n_kids++] = kid;
}

/* ---- appending ---- */
/* An app of the tree, found by its name. */
typedef struct place {
  lv_slice name;
  lv__conf_node *map;      /* the app's */
  lv__conf_node *lists[2]; /* channels, keys: ours, once something was appended */
  lv__conf_node **slot;    /* where the list of apps refers to it */
} place;

static lv_slice place_key(const void *obj) {
  return ((const place *)obj)->name;
}

static lv__conf_node *copy_of(lv_arena *m, const lv__conf_node *node) {
  lv__conf_node *copy = node_new(m, node->kind);
  *copy = *node;
  copy->kids = lv__conf_get(m, (node->n_kids + 1) * sizeof *copy->kids);
  copy->cap_kids = node->n_kids + 1;
  if (node->n_kids) memcpy(copy->kids, node->kids, node->n_kids * sizeof *copy->kids);
  return copy;
}

/* The list `name` of a mapping that is ours, as one that is ours; NULL: something else stands
 * there, which the check will tell. */
static lv__conf_node *list_of(lv_arena *m, lv__conf_node *map, const char *name) {
  for (uint32_t i = 0; i + 1 < map->n_kids; i += 2) {
    const lv__conf_node *key = map->kids[i];
    if (key->kind != LV__CONF_SCALAR || !lv_slice_eq(key->text, lv_slice_str(name))) continue;
    lv__conf_node *list = map->kids[i + 1];
    if (list->kind != LV__CONF_SEQ && !lv__conf_is_null(list)) return NULL;
    bool empty = list->kind != LV__CONF_SEQ;
    map->kids[i + 1] = empty ? lv_conf_node_list(m) : copy_of(m, list);
    if (empty) map->kids[i + 1]->line = list->line;
    return map->kids[i + 1];
  }
  lv__conf_node *list = lv_conf_node_list(m);
  lv_conf_node_add(m, map, lv_conf_node_text(m, lv_slice_str(name), true));
  lv_conf_node_add(m, map, list);
  return list;
}

static lv_slice name_of(const lv__conf_node *app) {
  const lv__conf_node *name = lv__conf_find(app, "name");
  return name && name->kind == LV__CONF_SCALAR ? name->text : (lv_slice){NULL, 0};
}

static place *places_new(lv__conf_build *b, lv__conf_node *apps, lv_map *map) {
  place *v = lv__conf_get(b->tmem, (apps->n_kids + 1) * sizeof *v);
  for (uint32_t i = 0; i < apps->n_kids; i++) {
    v[i] = (place){.name = name_of(apps->kids[i]), .map = apps->kids[i], .slot = &apps->kids[i]};
    if (v[i].name.n) (void)lv_map_add(map, &v[i]); /* given twice: the check tells */
  }
  return v;
}

static void append_to_app(lv__conf_build *b, place *p, const lv_conf_more *more) {
  bool keys = more->kind == LV_CONF_KEY;
  if (!p->lists[0] && !p->lists[1]) *p->slot = p->map = copy_of(b->tmem, p->map);
  if (!p->lists[keys]) p->lists[keys] = list_of(b->tmem, p->map, keys ? "keys" : "channels");
  if (p->lists[keys]) lv_conf_node_add(b->tmem, p->lists[keys], more->value);
}

void lv__conf_append(lv__conf_build *b, lv__conf_node **io_root, lv_conf_more *more, uint32_t n) {
  lv_arena *m = b->tmem;
  lv__conf_node *apps, *admins = NULL;
  if (lv__conf_is_null(*io_root)) *io_root = lv_conf_node_map(m);
  if ((*io_root)->kind != LV__CONF_MAP) return;
  lv__conf_node *root = *io_root = copy_of(m, *io_root);
  apps = list_of(m, root, "apps");
  if (!apps) return;
  for (uint32_t i = 0; i < n; i++) {
    more[i].orphan = false;
    if (more[i].kind == LV_CONF_APP) lv_conf_node_add(m, apps, more[i].value);
    if (more[i].kind != LV_CONF_ADMIN) continue;
    if (!admins) admins = list_of(m, root, "keys");
    if (admins) lv_conf_node_add(m, admins, more[i].value);
  }
  lv_map map;
  lv_map_init(&map, place_key);
  (void)places_new(b, apps, &map);
  for (uint32_t i = 0; i < n; i++) {
    if (more[i].kind == LV_CONF_APP || more[i].kind == LV_CONF_ADMIN) continue;
    place *p = lv_map_get(&map, more[i].app);
    more[i].orphan = !p || p->map->kind != LV__CONF_MAP;
    if (!more[i].orphan) append_to_app(b, p, &more[i]);
  }
  lv_map_done(&map);
}
