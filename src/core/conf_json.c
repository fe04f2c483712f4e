/* conf_json.c: apps, channels and keys as JSON, and the JSON Schemas of that, out of the schema of
 * the document: so the REST API (docs/control.md) speaks of an object with the words of the file.
 * Sizes and durations are texts as they would be written there. @thread any */
#include "core/buf.h"
#include "core/conf_int.h"
#include <assert.h>
#include <stdlib.h>

static const lv__conf_section *sub_section(const lv__conf_section *s, const char *name) {
  for (uint32_t i = 0; i < s->n_fields; i++)
    if (strcmp(s->fields[i].name, name) == 0) return s->fields[i].section;
  abort(); /* the schema has it */
}

static const lv__conf_section *section_of(enum lv_conf_kind kind) {
  const lv__conf_section *apps = sub_section(&lv__conf_root, "apps");
  switch (kind) {
  case LV_CONF_APP: return apps;
  case LV_CONF_CHANNEL: return sub_section(apps, "channels");
  case LV_CONF_KEY: return sub_section(apps, "keys");
  default: return sub_section(&lv__conf_root, "keys");
  }
}

/* A JSON string; what a document holds is UTF-8. */
static void put_text(lv_buf *b, lv_slice s) {
  (void)lv_buf_add_byte(b, '"');
  for (uint32_t i = 0; i < s.n; i++) {
    if (s.p[i] == '"' || s.p[i] == '\\')
      lv_buf_printf(b, "\\%c", s.p[i]);
    else if (s.p[i] < 0x20)
      lv_buf_printf(b, "\\u%04x", s.p[i]);
    else
      (void)lv_buf_add_byte(b, s.p[i]);
  }
  (void)lv_buf_add_byte(b, '"');
}

/* ---- values ---- */
static uint64_t load(const lv__conf_field *f, const void *obj) {
  const uint8_t *p = (const uint8_t *)obj + f->offset;
  switch (f->width) {
  case 1: return *p;
  case 2: return *(const uint16_t *)(const void *)p;
  case 4: return *(const uint32_t *)(const void *)p;
  default: return *(const uint64_t *)(const void *)p;
  }
}

static void put_word(lv_buf *b, const lv__conf_field *f, uint64_t v) {
  for (const lv__conf_word *w = f->words; w->word; w++)
    if (w->value == v) put_text(b, lv_slice_str(w->word));
}

static void put_texts(lv_buf *b, const lv__conf_field *f, const void *obj) {
  const lv_slice *v;
  uint32_t n;
  memcpy(&v, (const uint8_t *)obj + f->offset, sizeof v);
  memcpy(&n, (const uint8_t *)obj + f->offset_n, sizeof n);
  (void)lv_buf_add_byte(b, '[');
  for (uint32_t i = 0; i < n; i++) {
    if (i) (void)lv_buf_add_byte(b, ',');
    put_text(b, v[i]);
  }
  (void)lv_buf_add_byte(b, ']');
}

static void put_number(lv_buf *b, const lv__conf_field *f, uint64_t v) {
  char text[48];
  lv__conf_number_text(f, v, text, sizeof text);
  bool digits = f->type == LV__CONF_NUMBER && strspn(text, "0123456789") == strlen(text);
  if (digits)
    lv_buf_add_str(b, text);
  else
    put_text(b, lv_slice_str(text));
}

static void put_members(lv_buf *b, const lv__conf_section *s, const void *obj);

static void put_value(lv_buf *b, const lv__conf_field *f, const void *obj) {
  const uint8_t *p = (const uint8_t *)obj + f->offset;
  switch (f->type) {
  case LV__CONF_BOOL: lv_buf_add_str(b, *(const bool *)p ? "true" : "false"); return;
  case LV__CONF_NUMBER:
  case LV__CONF_BYTES:
  case LV__CONF_DURATION: put_number(b, f, load(f, obj)); return;
  case LV__CONF_WORD: put_word(b, f, load(f, obj)); return;
  case LV__CONF_FILTERS:
  case LV__CONF_TEXTS: put_texts(b, f, obj); return;
  case LV__CONF_SECTION:
    (void)lv_buf_add_byte(b, '{');
    put_members(b, f->section, p);
    (void)lv_buf_add_byte(b, '}');
    return;
  default:
    assert(f->type == LV__CONF_NAME || f->type == LV__CONF_TEXT);
    put_text(b, *(const lv_slice *)(const void *)p);
  }
}

/* An app that takes no tokens has no section `jwt`. Its keys are a list, and lists are not shown:
 * some are secrets. */
static bool is_unused(const lv__conf_field *f, const void *obj) {
  if (strcmp(f->name, "jwt") != 0) return false;
  return ((const lv_jwt *)(const void *)((const uint8_t *)obj + f->offset))->n_keys == 0;
}

static void put_members(lv_buf *b, const lv__conf_section *s, const void *obj) {
  bool first = true;
  for (uint32_t i = 0; i < s->n_fields; i++) {
    const lv__conf_field *f = &s->fields[i];
    if (f->type == LV__CONF_LIST || is_unused(f, obj)) continue;
    lv_buf_printf(b, "%s\"%s\":", first ? "" : ",", f->name);
    first = false;
    put_value(b, f, obj);
  }
}

static void put_rights(lv_buf *b, const lv_key *key, uint8_t verb) {
  const char *sep = "[";
  for (uint32_t i = 0; i < key->n_rights; i++) {
    if (!(key->rights[i].verbs & verb)) continue;
    lv_buf_add_str(b, sep);
    put_text(b, key->rights[i].pattern);
    sep = ",";
  }
  lv_buf_add_str(b, *sep == '[' ? "[]" : "]");
}

static void put_key(lv_buf *b, const lv_key *key) {
  lv_buf_add_str(b, "\"id\":");
  put_text(b, key->id);
  if (!key->app) return;
  lv_buf_add_str(b, ",\"publish\":");
  put_rights(b, key, LV_VERB_PUBLISH);
  lv_buf_add_str(b, ",\"subscribe\":");
  put_rights(b, key, LV_VERB_SUBSCRIBE);
  lv_buf_printf(b, ",\"sys\":%s", key->verbs & LV_VERB_SYS ? "true" : "false");
}

void lv_conf_json(lv_buf *b, enum lv_conf_kind kind, const void *obj) {
  if (kind == LV_CONF_KEY || kind == LV_CONF_ADMIN)
    put_key(b, obj);
  else
    put_members(b, section_of(kind), obj);
}

/* ---- schemas ---- */
static void schema_members(lv_buf *b, const lv__conf_section *s, bool input);

static void schema_number(lv_buf *b, const lv__conf_field *f) {
  char words[96] = "";
  snprintf(words, sizeof words, "%s%s%s%s%s%s", f->zero ? "\"" : "", f->zero ? f->zero : "",
           f->zero ? "\"" : "", f->zero && f->highest ? "," : "", f->highest ? "\"" : "",
           f->highest ? f->highest : "");
  lv_buf_printf(b, "\"anyOf\":[{\"type\":\"integer\",\"minimum\":%llu,\"maximum\":%llu}",
                (unsigned long long)f->min, (unsigned long long)f->max);
  if (words[0]) lv_buf_printf(b, ",{\"enum\":[%s%s]}", words, f->highest ? "\"" : "");
  lv_buf_add_str(b, "],");
}

static void schema_words(lv_buf *b, const lv__conf_field *f) {
  lv_buf_add_str(b, "\"enum\":[");
  for (const lv__conf_word *w = f->words; w->word; w++)
    lv_buf_printf(b, "%s\"%s\"", w == f->words ? "" : ",", w->word);
  lv_buf_add_str(b, "],");
}

static void schema_type(lv_buf *b, const lv__conf_field *f, bool input) {
  static const char strings[] = "\"type\":\"array\",\"items\":{\"type\":\"string\"},";
  switch (f->type) {
  case LV__CONF_BOOL: lv_buf_add_str(b, "\"type\":\"boolean\","); return;
  case LV__CONF_NUMBER: schema_number(b, f); return;
  case LV__CONF_BYTES:
    lv_buf_add_str(b, input ? "\"type\":[\"string\",\"integer\"]," : "\"type\":\"string\",");
    return;
  case LV__CONF_WORD: schema_words(b, f); return;
  case LV__CONF_NAME:
    lv_buf_add_str(b, "\"type\":\"string\",\"pattern\":\"^[A-Za-z0-9.-][A-Za-z0-9._-]{0,63}$\",");
    return;
  case LV__CONF_KEY_ID:
    lv_buf_add_str(b, "\"type\":\"string\",\"pattern\":\"^[A-Za-z0-9]{1,32}$\",");
    return;
  case LV__CONF_HASH:
    lv_buf_add_str(b, "\"type\":\"string\",\"pattern\":\"^sha256:[0-9A-Fa-f]{64}$\",");
    return;
  case LV__CONF_FILTERS:
    if (input)
      lv_buf_printf(b, "\"anyOf\":[{%s\"minItems\":0},{\"type\":\"string\"}],", strings);
    else
      lv_buf_add_str(b, strings);
    return;
  case LV__CONF_TEXTS: lv_buf_add_str(b, strings); return;
  case LV__CONF_SECTION:
    lv_buf_add_str(b, "\"type\":\"object\",\"additionalProperties\":false,\"properties\":{");
    schema_members(b, f->section, input);
    lv_buf_add_str(b, "},");
    return;
  case LV__CONF_LIST:
    lv_buf_add_str(b, "\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{");
    schema_members(b, f->section, input);
    lv_buf_add_str(b, "}},");
    return;
  default: lv_buf_add_str(b, "\"type\":\"string\","); return;
  }
}

static void schema_members(lv_buf *b, const lv__conf_section *s, bool input) {
  bool first = true;
  char allowed[160], text[512];
  for (uint32_t i = 0; i < s->n_fields; i++) {
    const lv__conf_field *f = &s->fields[i];
    bool list = f->type == LV__CONF_LIST;
    if (list && (!input || s == section_of(LV_CONF_APP))) continue;
    if (f->type == LV__CONF_HASH && !input) continue;
    lv_buf_printf(b, "%s\"%s\":{", first ? "" : ",", f->name);
    first = false;
    schema_type(b, f, input);
    lv__conf_allowed(f, allowed, sizeof allowed);
    snprintf(text, sizeof text, "%s. Allowed: %s", f->help, allowed);
    lv_buf_add_str(b, "\"description\":");
    put_text(b, lv_slice_str(f->type == LV__CONF_SECTION ? f->help : text));
    (void)lv_buf_add_byte(b, '}');
  }
}

void lv_conf_json_schema(lv_buf *b, enum lv_conf_kind kind, bool input) {
  schema_members(b, section_of(kind), input);
}
