/* conf_int.h: what the files of the configuration share: the document as a tree of nodes with
 * marks, the schema's table types, and the build in progress.
 *
 *   text ──conf_yaml.c──▶ tree ──conf_build.c by conf_schema.c──▶ lv_conf
 *                                 conf_value.c reads scalars, conf_check.c judges relations
 *
 * The tree dies with the parse; what an lv_conf keeps is copied into its own memory. */
#ifndef LV_CORE_CONF_INT_H
#define LV_CORE_CONF_INT_H
#include "core/arena.h"
#include "core/conf.h"
#include <stddef.h>
#include <stdio.h>

/* Bounds on a document: what a finding says when one is passed. */
enum {
  LV__CONF_FILE_MAX = 16 << 20,
  LV__CONF_DEPTH_MAX = 16,
  LV__CONF_NODES_MAX = 1 << 20, /* aliases count with all that they stand for */
  LV__CONF_ISSUES_MAX = 200,
};

/* ---- memory: an arena that never says no (the document's bounds are its bounds) ---- */
/* Zeroed; aborts when memory is out. */
void *lv__conf_get(lv_arena *m, size_t n);
lv_slice lv__conf_slice(lv_arena *m, lv_slice s);

/* ---- the tree ---- */
enum lv__conf_kind { LV__CONF_SCALAR, LV__CONF_SEQ, LV__CONF_MAP };
struct lv__conf_node {
  uint8_t kind;
  bool plain;                  /* a scalar without quotes */
  bool done;                   /* complete: may be the target of an alias */
  uint32_t line, column, size; /* size: nodes in it, aliases expanded; line 0: of the store */
  lv_slice text;               /* of a scalar; NUL-terminated */
  struct lv__conf_node **kids; /* items; of a map: key, value, key, value, … */
  uint32_t n_kids, cap_kids;
};
typedef struct lv__conf_node lv__conf_node;

/* ---- the schema ---- */
enum lv__conf_type {
  LV__CONF_BOOL,
  LV__CONF_NUMBER,
  LV__CONF_BYTES,
  LV__CONF_DURATION,
  LV__CONF_WORD,
  LV__CONF_TEXT,
  LV__CONF_NAME,    /* of an app or a channel */
  LV__CONF_KEY_ID,  /* letters and digits */
  LV__CONF_FILE,    /* relative to the document's folder */
  LV__CONF_ADDRESS, /* host:port, kept as text, taken apart by lv_conf_address */
  LV__CONF_HASH,
  LV__CONF_FILTERS, /* list of MQTT filters */
  LV__CONF_TEXTS,   /* list of texts */
  LV__CONF_SECTION,
  LV__CONF_LIST, /* of sections */
};

typedef struct lv__conf_word {
  const char *word;
  uint8_t value;
  const char *help;
} lv__conf_word;

struct lv__conf_section;
typedef struct lv__conf_field {
  const char *name;
  uint8_t type;  /* enum lv__conf_type */
  uint8_t width; /* bytes of a number's destination: 1, 2, 4 or 8 */
  bool required;
  uint32_t offset;   /* destination, from the section's object */
  uint32_t offset_n; /* count of a list */
  uint32_t unit_ms;  /* of a duration's destination: 1 or 1000 */
  uint64_t min, max;
  const char *def;     /* the default as it would be written; NULL: empty */
  const char *zero;    /* word for 0, which is then allowed below min */
  const char *highest; /* word for max */
  const lv__conf_word *words;
  const struct lv__conf_section *section;
  const char *help;
} lv__conf_field;

typedef struct lv__conf_build lv__conf_build;
typedef struct lv__conf_section {
  const char *title, *about;
  const lv__conf_field *fields;
  uint32_t n_fields;
  size_t size;     /* of the object that the fields fill, in a list */
  size_t size_out; /* of what `finish` makes of it; 0: the object itself */
  bool inherits;   /* `init` gives the defaults, not the table */
  void (*init)(lv__conf_build *b, void *parent, void *obj);
  /* Judges (and converts) a filled object; node is NULL when the section is absent. */
  void (*finish)(lv__conf_build *b, const lv__conf_node *node, void *parent, void *obj, void *out);
} lv__conf_section;
extern const lv__conf_section lv__conf_root;

/* A list of texts as read. */
typedef struct lv__conf_texts {
  const lv_slice *v;
  uint32_t n;
} lv__conf_texts;
/* Objects that `finish` converts. */
typedef struct lv__conf_listen_in {
  lv_slice address[LV_PROTO_COUNT];
  bool proxy, client_cert;
} lv__conf_listen_in;
typedef struct lv__conf_key_in {
  lv_key key;
  const lv_slice *publish, *subscribe;
  uint32_t n_publish, n_subscribe;
  bool sys;
} lv__conf_key_in;
typedef struct lv__conf_jwt_key_in {
  lv_slice kid, key, file;
} lv__conf_jwt_key_in;

/* ---- the build ---- */
struct lv__conf_build {
  lv_conf *conf;
  lv_arena *mem;  /* the conf's */
  lv_arena *tmem; /* the tree's */
  const char *file;
  lv_conf_issue_fn *fn;
  void *arg;
  uint32_t n_issues;
  uint32_t n_nodes;
  char path[sizeof(((lv_conf_issue *)0)->key)]; /* key being read: apps[0].limits.inflight */
};

/* Reports a finding at a node (NULL: the document's start). found may be NULL. */
void lv__conf_issue(lv__conf_build *b, const lv__conf_node *at, const char *found, const char *fmt,
                    ...) __attribute__((format(printf, 4, 5)));
void lv__conf_issue_at(lv__conf_build *b, uint32_t line, uint32_t column, const char *found,
                       const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* Appends ".name" or "[i]" to the path; returns the length to cut it back to. */
size_t lv__conf_path_push(lv__conf_build *b, const char *name);
size_t lv__conf_path_index(lv__conf_build *b, uint32_t i);
void lv__conf_path_cut(lv__conf_build *b, size_t len);
/* The value of a key in a map, or NULL. */
const lv__conf_node *lv__conf_find(const lv__conf_node *map, const char *key);

/* A whole regular file into a heap buffer, at most max bytes and one more, which says that there
 * were more. 0 or -errno. */
int lv__conf_file_read(const char *path, size_t max, uint8_t **ret_p, size_t *ret_n);
/* Frees the public keys (conf_jwt.c). */
void lv__conf_pkeys_free(lv_conf *c);

/* Text to tree: NULL after findings, or when the document is empty (no finding then). */
lv__conf_node *lv__conf_tree(lv__conf_build *b, lv_slice text);
/* Appends objects to the tree (conf_more.c); *io_root may be NULL. */
void lv__conf_append(lv__conf_build *b, lv__conf_node **io_root, lv_conf_more *more, uint32_t n);
/* Tree to conf, by lv__conf_root. */
void lv__conf_fill(lv__conf_build *b, const lv__conf_node *root);
/* Reads a scalar's text into obj as the field says; 0, or LV_E_INVALID with a text in why. */
int lv__conf_value(lv__conf_build *b, const lv__conf_field *f, lv_slice text, void *obj, char *why,
                   size_t why_size);
/* What a field allows, in words, for findings and docs. */
/* The example in the docs, for a test. */
extern const char lv__conf_example[];
void lv__conf_allowed(const lv__conf_field *f, char *dst, size_t size);
/* `null`, `~` or nothing, without quotes; or no node at all. */
bool lv__conf_is_null(const lv__conf_node *node);
/* A number's value as it would be written, words included. */
void lv__conf_number_text(const lv__conf_field *f, uint64_t v, char *dst, size_t size);
void lv__conf_bytes_text(uint64_t v, char *dst, size_t size);
void lv__conf_duration_text(uint64_t ms, char *dst, size_t size);

/* conf_check.c: the hooks named in the schema. */
void lv__conf_limits_init(lv__conf_build *b, void *parent, void *obj);
void lv__conf_limits_finish(lv__conf_build *b, const lv__conf_node *node, void *parent, void *obj,
                            void *out);
void lv__conf_app_finish(lv__conf_build *b, const lv__conf_node *node, void *parent, void *obj,
                         void *out);
void lv__conf_channel_init(lv__conf_build *b, void *parent, void *obj);
void lv__conf_key_finish(lv__conf_build *b, const lv__conf_node *node, void *parent, void *obj,
                         void *out);
/* conf_jwt.c */
void lv__conf_jwt_finish(lv__conf_build *b, const lv__conf_node *node, void *parent, void *obj,
                         void *out);
void lv__conf_jwt_key_finish(lv__conf_build *b, const lv__conf_node *node, void *parent, void *obj,
                             void *out);
void lv__conf_admin_finish(lv__conf_build *b, const lv__conf_node *node, void *parent, void *obj,
                           void *out);
void lv__conf_listen_finish(lv__conf_build *b, const lv__conf_node *node, void *parent, void *obj,
                            void *out);
void lv__conf_root_finish(lv__conf_build *b, const lv__conf_node *node, void *parent, void *obj,
                          void *out);
#endif
