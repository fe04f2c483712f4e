/* template.c: {names} replaced in a text. */
#include "cli/template.h"
#include "core/rand.h"
#include "core/time.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void lv_cli_text_put(lv_cli_text *t, const void *p, size_t n) {
  assert(t);
  if (t->n + n + 1 > t->cap) {
    size_t cap = (t->n + n + 1) * 2;
    char *q = realloc(t->p, cap < 128 ? 128 : cap);
    if (!q) abort();
    t->p = q;
    t->cap = cap < 128 ? 128 : cap;
  }
  if (n) memcpy(t->p + t->n, p, n);
  t->n += n;
  t->p[t->n] = 0;
}

void lv_cli_text_done(lv_cli_text *t) {
  free(t->p);
  *t = (lv_cli_text){0};
}

void lv_cli_template(const char *fmt, lv_cli_template_fn *fn, void *arg, lv_cli_text *out) {
  out->n = 0;
  lv_cli_text_put(out, "", 0);
  for (const char *p = fmt; *p;) {
    size_t plain = strcspn(p, "{");
    lv_cli_text_put(out, p, plain);
    p += plain;
    if (!*p) break;
    size_t n = strcspn(p + 1, "{}");
    if (p[1] == '{' || p[1 + n] != '}') { /* `{{`, or no name */
      lv_cli_text_put(out, p, 1);
      p += p[1] == '{' ? 2 : 1;
      continue;
    }
    lv_slice param = lv_slice_of(p + 1, n), name;
    (void)lv_slice_split(&param, ':', &name);
    if (!fn(arg, name, param, out)) lv_cli_text_put(out, p, n + 2);
    p += n + 2;
  }
}

static bool is(lv_slice s, const char *word) {
  return lv_slice_eq(s, lv_slice_str(word));
}

bool lv_cli_template_common(lv_slice name, lv_slice param, lv_cli_text *out) {
  char text[80] = "";
  uint64_t below = 1000000;
  if (is(name, "time")) {
    snprintf(text, sizeof text, "%lld", (long long)(lv_wall_now().ns / 1000000));
  } else if (is(name, "iso")) {
    (void)lv_time_format(lv_wall_now(), text, sizeof text);
  } else if (is(name, "pid")) {
    snprintf(text, sizeof text, "%ld", (long)getpid());
  } else if (is(name, "host")) {
    if (gethostname(text, sizeof text - 1)) text[0] = 0;
  } else if (is(name, "rand")) {
    if (param.n && (lv_slice_u64(param, &below) || below == 0)) return false;
    snprintf(text, sizeof text, "%llu", (unsigned long long)(lv_random_u64() % below));
  } else {
    return false;
  }
  lv_cli_text_put(out, text, strlen(text));
  return true;
}
