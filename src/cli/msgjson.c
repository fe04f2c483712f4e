/* msgjson.c: values as JSON. */
#include "cli/msgjson.h"
#include <assert.h>
#include <stdlib.h>

void lv_cli_base64(lv_slice s, lv_cli_text *out) {
  static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (uint32_t i = 0; i < s.n; i += 3) {
    uint32_t left = s.n - i, v = (uint32_t)s.p[i] << 16;
    if (left > 1) v |= (uint32_t)s.p[i + 1] << 8;
    if (left > 2) v |= s.p[i + 2];
    char four[4] = {set[v >> 18], set[v >> 12 & 63], left > 1 ? set[v >> 6 & 63] : '=',
                    left > 2 ? set[v & 63] : '='};
    lv_cli_text_put(out, four, 4);
  }
}

void lv_cli_json_text(json_t *obj, const char *name, lv_slice s) {
  json_t *v = json_stringn((const char *)s.p, s.n);
  if (!v) {
    char *copy = lv_slice_dup(s);
    for (uint32_t i = 0; i < s.n; i++)
      if ((unsigned char)copy[i] >= 0x80 || copy[i] == 0) copy[i] = '?';
    v = json_stringn(copy, s.n);
    free(copy);
  }
  json_object_set_new(obj, name, v);
}

static bool is_json(lv_slice v) {
  const size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL;
  json_t *j = v.n ? json_loadb((const char *)v.p, v.n, flags, NULL) : NULL;
  json_decref(j);
  return j != NULL;
}

/* Line ends outside of strings; inside them JSON has none. */
static void put_json(lv_slice v, FILE *out) {
  for (uint32_t i = 0; i < v.n;) {
    uint32_t n = 0;
    while (i + n < v.n && v.p[i + n] != '\n' && v.p[i + n] != '\r') n++;
    fwrite(v.p + i, 1, n, out);
    i += n;
    if (i < v.n) fputc(' ', out);
    i++;
  }
}

static void put_text(const char *name, const char *p, size_t n, FILE *out) {
  json_t *text = json_stringn(p, n);
  assert(text);
  fprintf(out, "\"%s\":", name);
  (void)json_dumpf(text, out, JSON_ENCODE_ANY);
  json_decref(text);
}

void lv_cli_json_line(const json_t *obj, lv_slice value, FILE *out) {
  assert(obj);
  char *head = json_dumps(obj, JSON_COMPACT);
  if (!head) abort();
  size_t n = strlen(head);
  fwrite(head, 1, n - 1, out); /* without the last brace */
  if (n > 2) fputc(',', out);
  free(head);
  if (is_json(value)) {
    fputs("\"val\":", out);
    put_json(value, out);
  } else if (lv_utf8_valid(value, false)) {
    put_text("val", value.n ? (const char *)value.p : "", value.n, out);
  } else {
    lv_cli_text b64 = {0};
    lv_cli_base64(value, &b64);
    put_text("b64", b64.p, b64.n, out);
    lv_cli_text_done(&b64);
  }
  fputs("}\n", out);
}
