/* opt.c: options of a command by its table, and the help that comes from the same table. Long
 * options as `--name value` or `--name=value`, short ones as `-x value`, `-xvalue`, flags bundled
 * (`-qv`); `--` ends them; `-` alone is an operand. Options and operands may be mixed. */
#include "cli/cli.h"
#include "cli/commands.h"
#include "core/err.h"
#include "core/suggest.h"
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

const char *lv_cli_program = "lavva";

int lv_cli_fail(const lv_cli_cmd *cmd, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  fprintf(stderr, "lavva %s: ", cmd->name);
  vfprintf(stderr, fmt, ap);
  fputc('\n', stderr);
  va_end(ap);
  return LV_EXIT_FAIL;
}

int lv_cli_usage(const lv_cli_cmd *cmd, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  fprintf(stderr, "lavva %s: ", cmd->name);
  vfprintf(stderr, fmt, ap);
  fprintf(stderr, "\nusage: lavva %s %s\nlavva help %s tells more.\n", cmd->name, cmd->usage,
          cmd->name);
  va_end(ap);
  return LV_EXIT_USAGE;
}

int lv_cli_ms(const char *text, uint64_t *ret_ms) {
  static const struct {
    const char *name;
    double ms;
  } units[] = {{"", 1000},     {"s", 1000},    {"ms", 1},      {"m", 60000},
               {"min", 60000}, {"h", 3600000}, {"d", 86400000}};
  char *end = NULL;
  if (!text[0] || !strchr("0123456789.", text[0])) return LV_E_INVALID;
  double v = strtod(text, &end);
  for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
    if (strcmp(end, units[i].name) != 0) continue;
    double ms = v * units[i].ms;
    if (!(ms >= 0 && ms < 1e15)) return LV_E_INVALID;
    *ret_ms = (uint64_t)ms;
    return 0;
  }
  return LV_E_INVALID;
}

static int set_number(const lv_cli_cmd *cmd, const lv_cli_opt *o, const char *value,
                      uint64_t *dst) {
  uint64_t v = 0, max = o->max ? o->max : UINT64_MAX;
  int r = o->kind == LV_CLI_MS ? lv_cli_ms(value, &v) : lv_slice_u64(lv_slice_str(value), &v);
  if (r) {
    return lv_cli_usage(cmd, "--%s %s: %s is expected", o->name, value,
                        o->kind == LV_CLI_MS ? "a duration such as 5s or 500ms" : "a number");
  }
  if (v < o->min || v > max)
    return lv_cli_usage(cmd, "--%s %s: allowed are %llu to %llu", o->name, value,
                        (unsigned long long)o->min, (unsigned long long)max);
  *dst = v;
  return 0;
}

static int set(const lv_cli_cmd *cmd, const lv_cli_opt *o, const char *value, void *obj) {
  char *dst = (char *)obj + o->offset;
  lv_cli_texts *texts = (lv_cli_texts *)(void *)dst;
  switch (o->kind) {
  case LV_CLI_FLAG: *(bool *)dst = true; return 0;
  case LV_CLI_TEXT: *(const char **)(void *)dst = value; return 0;
  case LV_CLI_TEXTS:
    if (texts->n == LV_CLI_TEXTS_MAX)
      return lv_cli_usage(cmd, "--%s: at most %d times", o->name, LV_CLI_TEXTS_MAX);
    texts->v[texts->n++] = value;
    return 0;
  case LV_CLI_RATE: {
    char *end = NULL;
    double v = strtod(value, &end);
    if (*end || end == value || !isfinite(v) || v <= 0 || v > 1e9)
      return lv_cli_usage(cmd, "--%s %s: a number above 0 is expected", o->name, value);
    *(double *)(void *)dst = v;
    return 0;
  }
  default: return set_number(cmd, o, value, (uint64_t *)(void *)dst);
  }
}

static const lv_cli_opt *find_long(const lv_cli_cmd *cmd, const char *name, size_t n,
                                   lv_suggest *s) {
  for (uint32_t i = 0; i < cmd->n_opts; i++) {
    const lv_cli_opt *o = &cmd->opts[i];
    if (!o->name) continue;
    if (strlen(o->name) == n && memcmp(o->name, name, n) == 0) return o;
    lv_suggest_offer(s, o->name);
  }
  return NULL;
}

static const lv_cli_opt *find_short(const lv_cli_cmd *cmd, char c) {
  for (uint32_t i = 0; i < cmd->n_opts; i++)
    if (cmd->opts[i].name && cmd->opts[i].letter == c) return &cmd->opts[i];
  return NULL;
}

/* --name, --name=value, --name value; *i moves over what was used. */
static int take_long(const lv_cli_cmd *cmd, int argc, char **argv, int *i, void *obj) {
  const char *name = argv[*i] + 2, *eq = strchr(name, '=');
  size_t n = eq ? (size_t)(eq - name) : strlen(name);
  lv_suggest s;
  lv_suggest_init(&s, name, n);
  const lv_cli_opt *o = find_long(cmd, name, n, &s);
  if (!o && s.best)
    return lv_cli_usage(cmd, "unknown option --%.*s; did you mean --%s?", (int)n, name, s.best);
  if (!o) return lv_cli_usage(cmd, "unknown option --%.*s", (int)n, name);
  if (o->kind == LV_CLI_FLAG)
    return eq ? lv_cli_usage(cmd, "--%s takes no value", o->name) : set(cmd, o, NULL, obj);
  if (eq) return set(cmd, o, eq + 1, obj);
  if (*i + 1 >= argc) return lv_cli_usage(cmd, "--%s needs %s", o->name, o->arg);
  return set(cmd, o, argv[++*i], obj);
}

static int take_short(const lv_cli_cmd *cmd, int argc, char **argv, int *i, void *obj) {
  for (const char *p = argv[*i] + 1; *p; p++) {
    const lv_cli_opt *o = find_short(cmd, *p);
    if (!o) return lv_cli_usage(cmd, "unknown option -%c", *p);
    if (o->kind == LV_CLI_FLAG) {
      (void)set(cmd, o, NULL, obj);
      continue;
    }
    if (p[1]) return set(cmd, o, p + 1, obj);
    if (*i + 1 >= argc) return lv_cli_usage(cmd, "-%c needs %s", *p, o->arg);
    return set(cmd, o, argv[++*i], obj);
  }
  return 0;
}

int lv_cli_parse(const lv_cli_cmd *cmd, int argc, char **argv, void *obj, int *ret_n,
                 int *ret_exit) {
  int n = 0;
  bool options = true;
  assert(cmd && ret_n && ret_exit);
  for (int i = 1; i < argc; i++) {
    const char *a = argv[i];
    int r = 0;
    if (options && strcmp(a, "--") == 0) {
      options = false;
    } else if (options &&
               (strcmp(a, "--help") == 0 || (strcmp(a, "-h") == 0 && !find_short(cmd, 'h')))) {
      lv_cli_help(cmd, stdout);
      *ret_exit = LV_EXIT_OK;
      return 1;
    } else if (options && a[0] == '-' && a[1] == '-') {
      r = take_long(cmd, argc, argv, &i, obj);
    } else if (options && a[0] == '-' && a[1]) {
      r = take_short(cmd, argc, argv, &i, obj);
    } else {
      argv[1 + n++] = argv[i];
    }
    if (r == 0) continue;
    *ret_exit = r;
    return 1;
  }
  *ret_n = n;
  return 0;
}

static void option_help(const lv_cli_opt *o, FILE *out) {
  enum { COLUMN = 28 };
  if (!o->name) {
    fprintf(out, "\n%s\n", o->help);
    return;
  }
  char head[64];
  int n = snprintf(head, sizeof head, "  %c%c%s --%s%s%s", o->letter ? '-' : ' ',
                   o->letter ? o->letter : ' ', o->letter ? "," : " ", o->name, o->arg ? " " : "",
                   o->arg ? o->arg : "");
  fprintf(out, "%s%*s", head, n < COLUMN ? COLUMN - n : 1, n < COLUMN ? "" : " ");
  for (const char *p = o->help; *p; p++) {
    fputc(*p, out);
    if (*p == '\n') fprintf(out, "%*s", COLUMN, "");
  }
  fputc('\n', out);
}

void lv_cli_help(const lv_cli_cmd *cmd, FILE *out) {
  fprintf(out, "usage: lavva %s %s\n\n%s.\n", cmd->name, cmd->usage, cmd->summary);
  if (cmd->about) fprintf(out, "\n%s", cmd->about);
  if (cmd->n_opts && cmd->opts[0].name) fprintf(out, "\noptions\n");
  for (uint32_t i = 0; i < cmd->n_opts; i++) option_help(&cmd->opts[i], out);
  fprintf(out, "  -h, --help                this text\n");
  if (cmd->examples) fprintf(out, "\nexamples\n%s", cmd->examples);
}
