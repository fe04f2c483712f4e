/* template.h: texts with {names}, for topics, messages and output lines. An unknown name stays as
 * it is written, so that JSON passes through; `{{` is a brace. */
#ifndef LV_CLI_TEMPLATE_H
#define LV_CLI_TEMPLATE_H
#include "core/slice.h"
#include <stddef.h>

/* A growing text. */
typedef struct lv_cli_text {
  char *p;
  size_t n, cap;
} lv_cli_text;
void lv_cli_text_put(lv_cli_text *t, const void *p, size_t n);
void lv_cli_text_done(lv_cli_text *t);

/* Appends the value of {name} or {name:arg} to out; false: not a name it knows. */
typedef bool lv_cli_template_fn(void *arg, lv_slice name, lv_slice param, lv_cli_text *out);
/* out is emptied first, and NUL-terminated. */
void lv_cli_template(const char *fmt, lv_cli_template_fn *fn, void *arg, lv_cli_text *out);
/* The names that need no message: {time} {iso} {rand} {rand:N} {pid} {host}. */
bool lv_cli_template_common(lv_slice name, lv_slice param, lv_cli_text *out);

#endif
