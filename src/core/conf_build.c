/* conf_build.c: walks the tree by the schema and fills an lv_conf: unknown keys (with the nearest
 * known one), keys given twice, values of the wrong kind, values out of range. Goes on after each
 * finding, so that one run shows them all. Fields are read in the schema's order whatever the
 * document's, so that a section may build on one that the schema names before it. */
#include "core/conf_int.h"
#include "core/suggest.h"
#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>

static void section_fill(lv__conf_build *b, const lv__conf_section *s, const lv__conf_node *node,
                         void *parent, void *obj, void *out);

/* ---- findings ---- */
static void issue_v(lv__conf_build *b, uint32_t line, uint32_t column, const char *found,
                    const char *fmt, va_list ap) {
  if (b->n_issues++ >= LV__CONF_ISSUES_MAX) return;
  lv_conf_issue issue = {.file = b->file, .line = line, .column = column};
  snprintf(issue.key, sizeof issue.key, "%s", b->path);
  snprintf(issue.found, sizeof issue.found, "%s", found ? found : "");
  for (char *p = issue.found; *p; p++)
    if ((unsigned char)*p < 0x20 || *p == 0x7f) *p = '?';
  vsnprintf(issue.text, sizeof issue.text, fmt, ap);
  if (b->n_issues == LV__CONF_ISSUES_MAX)
    snprintf(issue.text, sizeof issue.text, "too many findings, the rest is not shown");
  if (b->fn) b->fn(b->arg, &issue);
}

void lv__conf_issue_at(lv__conf_build *b, uint32_t line, uint32_t column, const char *found,
                       const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  issue_v(b, line, column, found, fmt, ap);
  va_end(ap);
}

void lv__conf_issue(lv__conf_build *b, const lv__conf_node *at, const char *found, const char *fmt,
                    ...) {
  va_list ap;
  va_start(ap, fmt);
  issue_v(b, at ? at->line : 1, at ? at->column : 1, found, fmt, ap);
  va_end(ap);
}

size_t lv__conf_path_push(lv__conf_build *b, const char *name) {
  size_t len = strlen(b->path);
  snprintf(b->path + len, sizeof b->path - len, "%s%s", len ? "." : "", name);
  return len;
}

size_t lv__conf_path_index(lv__conf_build *b, uint32_t i) {
  size_t len = strlen(b->path);
  snprintf(b->path + len, sizeof b->path - len, "[%u]", i);
  return len;
}

void lv__conf_path_cut(lv__conf_build *b, size_t len) {
  assert(len < sizeof b->path);
  b->path[len] = 0;
}

const lv__conf_node *lv__conf_find(const lv__conf_node *map, const char *key) {
  if (!map || map->kind != LV__CONF_MAP) return NULL;
  for (uint32_t i = 0; i + 1 < map->n_kids; i += 2) {
    const lv__conf_node *k = map->kids[i];
    if (k->kind == LV__CONF_SCALAR && lv_slice_eq(k->text, lv_slice_str(key)))
      return map->kids[i + 1];
  }
  return NULL;
}

/* ---- kinds ---- */
static const char *found_text(const lv__conf_node *node) {
  if (node->kind == LV__CONF_SEQ) return "a list";
  if (node->kind == LV__CONF_MAP) return "a mapping";
  return node->text.n ? (const char *)node->text.p : "nothing";
}

/* `key:` with nothing behind it (or ~, null). */
bool lv__conf_is_null(const lv__conf_node *node) {
  if (!node) return true;
  return node->kind == LV__CONF_SCALAR && node->plain &&
         (node->text.n == 0 || lv_slice_eq(node->text, LV_SLICE("~")) ||
          lv_slice_eq(node->text, LV_SLICE("null")));
}

static bool kind_check(lv__conf_build *b, const lv__conf_field *f, const lv__conf_node *node,
                       uint8_t kind) {
  if (node->kind == kind) return true;
  char allowed[160];
  lv__conf_allowed(f, allowed, sizeof allowed);
  lv__conf_issue(b, node, found_text(node), "allowed: %s", allowed);
  return false;
}

/* ---- fields ---- */
static void scalar_fill(lv__conf_build *b, const lv__conf_field *f, const lv__conf_node *node,
                        void *obj) {
  char why[sizeof(((lv_conf_issue *)0)->text)];
  if (!kind_check(b, f, node, LV__CONF_SCALAR)) return;
  if (lv__conf_value(b, f, node->text, obj, why, sizeof why) == 0) return;
  lv_suggest s;
  lv_suggest_init(&s, (const char *)node->text.p, node->text.n);
  for (const lv__conf_word *w = f->words; w && w->word; w++) lv_suggest_offer(&s, w->word);
  /* A hash may be a key that was pasted in the wrong place: never repeat it. */
  const char *found = f->type == LV__CONF_HASH ? "something else" : found_text(node);
  if (s.best)
    lv__conf_issue(b, node, found, "%s; did you mean %s?", why, s.best);
  else
    lv__conf_issue(b, node, found, "%s", why);
}

/* Syntax of a topic filter (MQTT 5.0 §4.7.1), as a right's pattern. */
static const char *filter_wrong(lv_slice s) {
  if (s.n == 0) return "an empty filter matches nothing";
  if (s.n > 65535) return "longer than 65535 bytes";
  if (!lv_utf8_valid(s, true)) return "not valid UTF-8";
  if (lv_slice_starts(s, LV_SLICE("$share/")))
    return "a right names topics, without $share/GROUP/ in front";
  if (lv_slice_eq(s, LV_SLICE("$SYS")) || lv_slice_starts(s, LV_SLICE("$SYS/")))
    return "$SYS is given by `sys: true`";
  for (uint32_t i = 0; i < s.n; i++) {
    bool alone = (i == 0 || s.p[i - 1] == '/') && (i + 1 == s.n || s.p[i + 1] == '/');
    if ((s.p[i] == '+' || s.p[i] == '#') && !alone)
      return "+ and # stand for whole levels: a/+/b, a/#";
    if (s.p[i] == '#' && i + 1 != s.n) return "# is only allowed at the end";
  }
  return NULL;
}

static void texts_fill(lv__conf_build *b, const lv__conf_field *f, const lv__conf_node *node,
                       void *obj) {
  const lv__conf_node one = {
      .kind = LV__CONF_SEQ, .kids = (lv__conf_node *[]){(lv__conf_node *)node}, .n_kids = 1};
  if (node->kind == LV__CONF_SCALAR) node = &one; /* `publish: a/#` is a list of one */
  if (!kind_check(b, f, node, LV__CONF_SEQ)) return;
  lv_slice *v = lv__conf_get(b->mem, node->n_kids * sizeof *v);
  uint32_t n = 0;
  for (uint32_t i = 0; i < node->n_kids; i++) {
    const lv__conf_node *kid = node->kids[i];
    size_t len = lv__conf_path_index(b, i);
    const char *wrong = kid->kind != LV__CONF_SCALAR  ? "allowed: a text"
                        : f->type == LV__CONF_FILTERS ? filter_wrong(kid->text)
                                                      : NULL;
    if (wrong)
      lv__conf_issue(b, kid, found_text(kid), "%s", wrong);
    else
      v[n++] = lv__conf_slice(b->mem, kid->text);
    lv__conf_path_cut(b, len);
  }
  memcpy((uint8_t *)obj + f->offset, &v, sizeof(void *));
  memcpy((uint8_t *)obj + f->offset_n, &n, sizeof n);
}

static void list_fill(lv__conf_build *b, const lv__conf_field *f, const lv__conf_node *node,
                      void *obj) {
  const lv__conf_section *s = f->section;
  if (!kind_check(b, f, node, LV__CONF_SEQ)) return;
  size_t size_out = s->size_out ? s->size_out : s->size;
  if (node->n_kids > f->max) {
    lv__conf_issue(b, node, NULL, "%u entries, at most %llu are allowed", node->n_kids,
                   (unsigned long long)f->max);
    return;
  }
  uint8_t *v = lv__conf_get(b->mem, node->n_kids * size_out);
  uint8_t *staged = s->size_out ? lv__conf_get(b->tmem, s->size) : NULL;
  memcpy((uint8_t *)obj + f->offset, &v, sizeof(void *));
  for (uint32_t i = 0; i < node->n_kids; i++) {
    const lv__conf_node *kid = node->kids[i];
    size_t len = lv__conf_path_index(b, i);
    uint8_t *out = v + i * size_out;
    if (staged) memset(staged, 0, s->size);
    if (kid->kind == LV__CONF_MAP)
      section_fill(b, s, kid, obj, staged ? staged : out, out);
    else
      lv__conf_issue(b, kid, found_text(kid), "allowed: a mapping");
    lv__conf_path_cut(b, len);
  }
  memcpy((uint8_t *)obj + f->offset_n, &node->n_kids, sizeof node->n_kids);
}

static void field_default(lv__conf_build *b, const lv__conf_field *f, void *obj) {
  char why[256];
  if (!f->def || f->type >= LV__CONF_FILTERS) return;
  int r = lv__conf_value(b, f, lv_slice_str(f->def), obj, why, sizeof why);
  assert(r == 0); /* the schema's own defaults are valid */
  (void)r;
}

static void field_fill(lv__conf_build *b, const lv__conf_field *f, const lv__conf_node *node,
                       void *obj) {
  switch (f->type) {
  case LV__CONF_SECTION: {
    if (lv__conf_is_null(node)) node = NULL;
    if (node && !kind_check(b, f, node, LV__CONF_MAP)) return;
    uint8_t *sub = (uint8_t *)obj + f->offset;
    section_fill(b, f->section, node, obj, sub, sub);
    return;
  }
  case LV__CONF_LIST:
    if (!lv__conf_is_null(node)) list_fill(b, f, node, obj);
    return;
  case LV__CONF_FILTERS:
  case LV__CONF_TEXTS:
    if (!lv__conf_is_null(node)) texts_fill(b, f, node, obj);
    return;
  default:
    if (node) scalar_fill(b, f, node, obj);
  }
}

/* Which field a key names; -1 after a finding. */
static int key_field(lv__conf_build *b, const lv__conf_section *s, const lv__conf_node *key) {
  if (key->kind != LV__CONF_SCALAR) {
    lv__conf_issue(b, key, found_text(key), "a key is a word");
    return -1;
  }
  lv_suggest sug;
  lv_suggest_init(&sug, (const char *)key->text.p, key->text.n);
  for (uint32_t i = 0; i < s->n_fields; i++) {
    if (lv_slice_eq(key->text, lv_slice_str(s->fields[i].name))) return (int)i;
    lv_suggest_offer(&sug, s->fields[i].name);
  }
  char all[200] = "";
  for (uint32_t i = 0; i < s->n_fields && !sug.best; i++) {
    size_t at = strlen(all);
    snprintf(all + at, sizeof all - at, "%s%s", i ? ", " : "", s->fields[i].name);
  }
  if (sug.best)
    lv__conf_issue(b, key, found_text(key), "unknown key; did you mean %s?", sug.best);
  else
    lv__conf_issue(b, key, found_text(key), "unknown key; allowed: %s", all);
  return -1;
}

enum { FIELDS_MAX = 32 };

static void section_fill(lv__conf_build *b, const lv__conf_section *s, const lv__conf_node *node,
                         void *parent, void *obj, void *out) {
  const lv__conf_node *values[FIELDS_MAX] = {NULL};
  assert(s->n_fields <= FIELDS_MAX);
  if (s->init) s->init(b, parent, obj);
  for (uint32_t i = 0; node && i + 1 < node->n_kids; i += 2) {
    const lv__conf_node *key = node->kids[i];
    int at = key_field(b, s, key);
    if (at < 0) continue;
    if (values[at])
      lv__conf_issue(b, key, found_text(key), "key given twice, first in line %u",
                     values[at]->line);
    else
      values[at] = node->kids[i + 1];
  }
  for (uint32_t i = 0; i < s->n_fields; i++) {
    const lv__conf_field *f = &s->fields[i];
    size_t len = lv__conf_path_push(b, f->name);
    if (!s->inherits) field_default(b, f, obj);
    if (f->required && !values[i])
      lv__conf_issue(b, node, "nothing", "required: %s", f->help);
    else
      field_fill(b, f, values[i], obj);
    lv__conf_path_cut(b, len);
  }
  if (s->finish) s->finish(b, node, parent, obj, out);
}

void lv__conf_fill(lv__conf_build *b, const lv__conf_node *root) {
  if (lv__conf_is_null(root)) root = NULL;
  if (root && root->kind != LV__CONF_MAP) {
    lv__conf_issue(b, root, found_text(root),
                   "allowed: a mapping with the sections server, "
                   "listen, storage, limits, apps");
    return;
  }
  section_fill(b, &lv__conf_root, root, NULL, b->conf, b->conf);
}
