/* msgjson.c: values as JSON. */
#include "cli/msgjson.h"
#include "wire/json.h"
#include <assert.h>
#include <stdlib.h>

void lv_cli_base64(lv_slice s, lv_cli_text *out) {
  uint32_t n = LV_BASE64_SIZE(s.n);
  uint8_t *p = malloc(n + 1u);
  if (!p) abort();
  (void)lv_base64_put(p, s);
  lv_cli_text_put(out, p, n);
  free(p);
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

static void put_text(lv_slice s, FILE *out) {
  uint8_t *p = malloc(lv_json_string_size(s));
  if (!p) abort();
  fputs("\"val\":", out);
  fwrite(p, 1, (size_t)(lv_json_put_string(p, s) - p), out);
  free(p);
}

void lv_cli_json_line(const json_t *obj, lv_slice value, FILE *out) {
  assert(obj);
  char *head = json_dumps(obj, JSON_COMPACT);
  if (!head) abort();
  size_t n = strlen(head);
  fwrite(head, 1, n - 1, out); /* without the last brace */
  if (n > 2) fputc(',', out);
  free(head);
  if (value.n && lv_json_check_value(value) == 0) {
    fputs("\"val\":", out);
    put_json(value, out);
  } else if (lv_utf8_valid(value, false)) {
    put_text(value, out);
  } else {
    lv_cli_text b64 = {0};
    lv_cli_base64(value, &b64);
    fprintf(out, "\"b64\":\"%s\"", b64.p);
    lv_cli_text_done(&b64);
  }
  fputs("}\n", out);
}
