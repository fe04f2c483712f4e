/* doc.h: a JSON object as a small tree: what a request brings, and what the store keeps of an app,
 * a channel or a key. Bounded by its arena, LV__DOC_DEPTH
 * and LV__DOC_MEMBERS of one object. Pure. @thread any */
#ifndef LV_MASTER_DOC_H
#define LV_MASTER_DOC_H
#include "core/arena.h"
#include "core/buf.h"
#include "core/conf.h"
#include "wire/json.h"

enum { LV__DOC_DEPTH = 8, LV__DOC_MEMBERS = 64, LV__DOC_WHY = 160 };

typedef struct lv__doc {
  uint8_t type;  /* enum lv_json_type: of a value */
  lv_slice name; /* of a member, unescaped */
  lv_slice text; /* STRING: unescaped; NUMBER: its digits; else empty */
  uint32_t n;    /* members or items that were parsed */
  struct lv__doc *first, *last, *next, *up;
} lv__doc;

/* One object. LV_E_PAYLOAD: not JSON, or something else than an object, a name given twice, U+0000
 * in a text; LV_E_SURROGATE; LV_E_NESTING; LV_E_TOO_BIG: the arena is full. why: LV__DOC_WHY
 * bytes. The tree lives in the arena, which the text need not outlive. */
int lv__doc_parse(lv_arena *m, lv_slice text, lv__doc **ret_doc, char *why);
/* The member, or NULL. */
lv__doc *lv__doc_get(const lv__doc *obj, const char *name);
/* Sets a member to a text, in place of the one of that name. 0, LV_E_TOO_BIG: the arena is full. */
int lv__doc_set(lv_arena *m, lv__doc *obj, const char *name, lv_slice text);
/* RFC 7396: members of the patch replace those of the target, null takes one away, objects are
 * merged. The target keeps parts of the patch. 0, or LV_E_TOO_BIG, the arena is full: then the
 * target is neither what it was nor what it was to be. */
int lv__doc_merge(lv_arena *m, lv__doc *target, lv__doc *patch);
void lv__doc_write(lv_buf *b, const lv__doc *doc);
/* As a value of the document (core/conf.h). */
lv_conf_node *lv__doc_node(lv_arena *m, const lv__doc *doc);

#endif
