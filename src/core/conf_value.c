/* conf_value.c: the texts of scalars as values: numbers, sizes, durations, words, addresses, names,
 * hashes; and the other way round, what a field allows in words. One reader for each type, used for
 * the document and for the defaults of the schema alike. */
#include "core/conf_int.h"
#include <assert.h>
#include <ctype.h>
#include <stdlib.h>

typedef struct unit {
  const char *name;
  uint64_t factor;
} unit;
/* The first name of a factor is the one that we write. */
static const unit byte_units[] = {
    {"TiB", 1ull << 40},   {"GiB", 1ull << 30},
    {"MiB", 1ull << 20},   {"KiB", 1ull << 10},
    {"TB", 1000000000000}, {"GB", 1000000000},
    {"MB", 1000000},       {"kB", 1000},
    {"KB", 1000},          {"B", 1},
};
static const unit time_units[] = {
    {"w", 604800000}, {"d", 86400000}, {"h", 3600000}, {"min", 60000},
    {"m", 60000},     {"s", 1000},     {"ms", 1},
};
enum {
  N_BYTE_UNITS = sizeof byte_units / sizeof *byte_units,
  N_TIME_UNITS = sizeof time_units / sizeof *time_units
};

static bool word_is(lv_slice s, const char *word) {
  return word && lv_slice_eq(s, lv_slice_str(word));
}

/* Takes digits off the front of s. */
static int digits(lv_slice *s, uint64_t *ret_v) {
  uint64_t v = 0;
  uint32_t i = 0;
  for (; i < s->n && s->p[i] >= '0' && s->p[i] <= '9'; i++) {
    if (v > (UINT64_MAX - 9) / 10) return LV_E_INVALID;
    v = v * 10 + (uint64_t)(s->p[i] - '0');
  }
  if (i == 0) return LV_E_INVALID;
  s->p += i;
  s->n -= i;
  *ret_v = v;
  return 0;
}

/* Sum of NUMBER UNIT parts ("1h30m", "64 MiB"); `bare` allows a number without a unit. */
static int quantity(lv_slice s, const unit *units, uint32_t n_units, bool bare, uint64_t *ret_v) {
  uint64_t sum = 0;
  if (s.n == 0) return LV_E_INVALID;
  for (bool first = true; s.n; first = false) {
    uint64_t v = 0;
    if (digits(&s, &v)) return LV_E_INVALID;
    while (s.n && s.p[0] == ' ') s.p++, s.n--;
    uint32_t n = 0;
    while (n < s.n && isalpha(s.p[n])) n++;
    lv_slice name = {s.p, n};
    uint64_t factor = n == 0 && first && s.n == 0 && (bare || v == 0) ? 1 : 0;
    for (uint32_t i = 0; i < n_units && !factor; i++)
      if (word_is(name, units[i].name)) factor = units[i].factor;
    if (factor == 0 || v > (UINT64_MAX - sum) / factor) return LV_E_INVALID;
    sum += v * factor;
    s.p += n;
    s.n -= n;
  }
  *ret_v = sum;
  return 0;
}

static void quantity_text(uint64_t v, const unit *units, uint32_t n, char *dst, size_t size) {
  for (uint32_t i = 0; i < n; i++) {
    if (v == 0 || v % units[i].factor) continue;
    snprintf(dst, size, "%llu%s", (unsigned long long)(v / units[i].factor), units[i].name);
    return;
  }
  snprintf(dst, size, "0");
}

void lv__conf_bytes_text(uint64_t v, char *dst, size_t size) {
  quantity_text(v, byte_units, 4, dst, size); /* powers of two only */
  if (v % 1024) snprintf(dst, size, "%lluB", (unsigned long long)v);
}

void lv__conf_duration_text(uint64_t ms, char *dst, size_t size) {
  quantity_text(ms, time_units, N_TIME_UNITS, dst, size);
}

static void number_text(const lv__conf_field *f, uint64_t v, char *dst, size_t size) {
  if (f->type == LV__CONF_BYTES)
    lv__conf_bytes_text(v, dst, size);
  else if (f->type == LV__CONF_DURATION)
    lv__conf_duration_text(v * f->unit_ms, dst, size);
  else
    snprintf(dst, size, "%llu", (unsigned long long)v);
}

void lv__conf_number_text(const lv__conf_field *f, uint64_t v, char *dst, size_t size) {
  if (v == 0 && f->zero)
    snprintf(dst, size, "%s", f->zero);
  else if (f->highest && v == f->max)
    snprintf(dst, size, "%s", f->highest);
  else
    number_text(f, v, dst, size);
}

static void words_text(const lv__conf_field *f, char *dst, size_t size) {
  size_t at = 0;
  for (const lv__conf_word *w = f->words; w->word && at < size; w++) {
    int n = snprintf(dst + at, size - at, "%s%s", at ? ", " : "", w->word);
    at += n > 0 ? (size_t)n : 0;
  }
}

static void range_text(const lv__conf_field *f, char *dst, size_t size) {
  char lo[32], hi[32];
  const char *what = f->type == LV__CONF_NUMBER  ? ""
                     : f->type == LV__CONF_BYTES ? " (B, KiB, MiB, GiB, TiB)"
                                                 : " (ms, s, m, h, d, w)";
  number_text(f, f->min, lo, sizeof lo);
  number_text(f, f->max, hi, sizeof hi);
  bool top = f->highest && f->max == (f->width == 4 ? UINT32_MAX : UINT64_MAX);
  if (top)
    snprintf(dst, size, "%s or more%s", lo, what);
  else
    snprintf(dst, size, "%s to %s%s", lo, hi, what);
  size_t at = strlen(dst);
  if (f->zero) snprintf(dst + at, size - at, ", or %s", f->zero);
  at = strlen(dst);
  if (f->highest) snprintf(dst + at, size - at, ", or %s", f->highest);
}

void lv__conf_allowed(const lv__conf_field *f, char *dst, size_t size) {
  switch (f->type) {
  case LV__CONF_BOOL: snprintf(dst, size, "true, false"); return;
  case LV__CONF_NUMBER:
  case LV__CONF_BYTES:
  case LV__CONF_DURATION: range_text(f, dst, size); return;
  case LV__CONF_WORD: words_text(f, dst, size); return;
  case LV__CONF_TEXT: snprintf(dst, size, "a text"); return;
  case LV__CONF_NAME:
    snprintf(dst, size, "1 to 64 of A-Z a-z 0-9 . _ -, not starting with _");
    return;
  case LV__CONF_KEY_ID: snprintf(dst, size, "1 to 32 letters and digits"); return;
  case LV__CONF_FILE: snprintf(dst, size, "a path, relative to this file"); return;
  case LV__CONF_ADDRESS:
    snprintf(dst, size, "HOST:PORT, [IPV6]:PORT, *:PORT for all interfaces; port 0: a free one");
    return;
  case LV__CONF_HASH: snprintf(dst, size, "sha256: and 64 hexadecimal digits"); return;
  case LV__CONF_FILTERS: snprintf(dst, size, "a list of MQTT topic filters"); return;
  case LV__CONF_TEXTS: snprintf(dst, size, "a list of texts"); return;
  case LV__CONF_SECTION: snprintf(dst, size, "a mapping"); return;
  case LV__CONF_LIST: snprintf(dst, size, "a list of mappings"); return;
  default: abort(); /* there is no other type */
  }
}

static void store(void *obj, const lv__conf_field *f, uint64_t v) {
  uint8_t *p = (uint8_t *)obj + f->offset;
  switch (f->width) {
  case 1: *p = (uint8_t)v; return;
  case 2: *(uint16_t *)(void *)p = (uint16_t)v; return;
  case 4: *(uint32_t *)(void *)p = (uint32_t)v; return;
  default:
    assert(f->width == 8);
    *(uint64_t *)(void *)p = v;
    return;
  }
}

static int value_number(const lv__conf_field *f, lv_slice text, void *obj) {
  uint64_t v = 0;
  int r;
  if (word_is(text, f->zero)) {
    store(obj, f, 0);
    return 0;
  }
  if (word_is(text, f->highest)) {
    store(obj, f, f->max);
    return 0;
  }
  if (f->type == LV__CONF_BYTES) {
    r = quantity(text, byte_units, N_BYTE_UNITS, true, &v);
  } else if (f->type == LV__CONF_DURATION) {
    r = quantity(text, time_units, N_TIME_UNITS, false, &v);
    if (r == 0 && v % f->unit_ms) r = LV_E_INVALID;
    v /= f->unit_ms;
  } else {
    r = digits(&text, &v);
    if (r == 0 && text.n) r = LV_E_INVALID;
  }
  if (r) return r;
  if (v < f->min || v > f->max) return LV_E_INVALID; /* 0 for `unlimited` would surprise */
  store(obj, f, v);
  return 0;
}

static bool name_ok(lv_slice s) {
  if (s.n < 1 || s.n > 64 || s.p[0] == '_') return false;
  for (uint32_t i = 0; i < s.n; i++)
    if (!isalnum(s.p[i]) && s.p[i] != '.' && s.p[i] != '_' && s.p[i] != '-') return false;
  return true;
}

static bool id_ok(lv_slice s) {
  if (s.n < 1 || s.n > 32) return false;
  for (uint32_t i = 0; i < s.n; i++)
    if (!isalnum(s.p[i])) return false;
  return true;
}

static int hex(uint8_t c) {
  return c >= '0' && c <= '9'                 ? c - '0'
         : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                              : -1;
}

static int value_hash(const lv__conf_field *f, lv_slice text, void *obj) {
  uint8_t *dst = (uint8_t *)obj + f->offset;
  lv_slice prefix = LV_SLICE("sha256:");
  if (text.n != prefix.n + 64 || !lv_slice_starts(text, prefix)) return LV_E_INVALID;
  const uint8_t *p = text.p + prefix.n;
  for (uint32_t i = 0; i < 32; i++) {
    int hi = hex(p[2 * i]), lo = hex(p[2 * i + 1]);
    if (hi < 0 || lo < 0) return LV_E_INVALID;
    dst[i] = (uint8_t)(hi << 4 | lo);
  }
  return 0;
}

int lv_conf_address(lv_slice text, lv_slice *ret_host, uint16_t *ret_port) {
  lv_slice host = {text.p, 0}, port = text;
  uint64_t v = 0;
  for (uint32_t i = text.n; i > 0; i--) {
    if (text.p[i - 1] != ':') continue;
    host.n = i - 1;
    port = (lv_slice){text.p + i, text.n - i};
    break;
  }
  if (digits(&port, &v) || port.n || v > UINT16_MAX) return LV_E_INVALID;
  bool bracket = host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']';
  if (bracket) host = (lv_slice){host.p + 1, host.n - 2};
  if (host.n > 255 || (bracket && host.n == 0)) return LV_E_INVALID;
  for (uint32_t i = 0; i < host.n; i++) {
    uint8_t c = host.p[i];
    if (c == ':' ? !bracket : !(isalnum(c) || strchr("*.-_%", c))) return LV_E_INVALID;
  }
  if (host.n > 1 && memchr(host.p, '*', host.n)) return LV_E_INVALID;
  *ret_host = host;
  *ret_port = (uint16_t)v;
  return 0;
}

/* A file's path, as seen from the document's folder. */
static lv_slice file_path(lv__conf_build *b, lv_slice text) {
  const char *doc = b->conf->path, *slash = doc ? strrchr(doc, '/') : NULL;
  if (!slash || text.n == 0 || text.p[0] == '/') return lv__conf_slice(b->mem, text);
  size_t dir = (size_t)(slash - doc) + 1;
  uint8_t *p = lv__conf_get(b->mem, dir + text.n + 1);
  memcpy(p, doc, dir);
  memcpy(p + dir, text.p, text.n);
  return (lv_slice){p, (uint32_t)(dir + text.n)};
}

static int value_word(const lv__conf_field *f, lv_slice text, void *obj) {
  for (const lv__conf_word *w = f->words; w->word; w++) {
    if (!word_is(text, w->word)) continue;
    store(obj, f, w->value);
    return 0;
  }
  return LV_E_INVALID;
}

static int value_bool(const lv__conf_field *f, lv_slice text, void *obj) {
  bool yes = word_is(text, "true");
  if (!yes && !word_is(text, "false")) return LV_E_INVALID;
  *((bool *)obj + f->offset) = yes;
  return 0;
}

int lv__conf_value(lv__conf_build *b, const lv__conf_field *f, lv_slice text, void *obj, char *why,
                   size_t why_size) {
  lv_slice *dst = (lv_slice *)(void *)((uint8_t *)obj + f->offset), host;
  uint16_t port;
  int r = 0;
  switch (f->type) {
  case LV__CONF_BOOL: r = value_bool(f, text, obj); break;
  case LV__CONF_NUMBER:
  case LV__CONF_BYTES:
  case LV__CONF_DURATION: r = value_number(f, text, obj); break;
  case LV__CONF_WORD: r = value_word(f, text, obj); break;
  case LV__CONF_HASH: r = value_hash(f, text, obj); break;
  case LV__CONF_NAME: r = name_ok(text) ? 0 : LV_E_INVALID; break;
  case LV__CONF_KEY_ID: r = id_ok(text) ? 0 : LV_E_INVALID; break;
  case LV__CONF_ADDRESS: r = lv_conf_address(text, &host, &port); break;
  case LV__CONF_FILE: r = text.n && !memchr(text.p, 0, text.n) ? 0 : LV_E_INVALID; break;
  default: assert(f->type == LV__CONF_TEXT); break;
  }
  if (r) {
    char allowed[160];
    lv__conf_allowed(f, allowed, sizeof allowed);
    snprintf(why, why_size, "allowed: %s", allowed);
    return r;
  }
  if (f->type == LV__CONF_FILE)
    *dst = file_path(b, text);
  else if (f->type >= LV__CONF_TEXT && f->type <= LV__CONF_ADDRESS)
    *dst = lv__conf_slice(b->mem, text);
  return 0;
}
