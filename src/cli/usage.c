/* usage.c: `lavva usage`: what apps have used, out of GET /api/v1/usage, as a table. */
#include "cli/api.h"
#include "cli/commands.h"
#include <stdlib.h>
#include <string.h>

typedef struct args {
  lv_cli_api_args api;
  const char *from, *to, *step;
  bool json;
} args;
static const lv_cli_opt opts[] = {
    {"step", 0, "STEP", LV_CLI_TEXT, offsetof(args, step), 0, 0,
     "minute, hour, day, or total (default): a line\nfor each"},
    {"from", 0, "TIME", LV_CLI_TEXT, offsetof(args, from), 0, 0,
     "RFC 3339, rounded down to whole steps; default: an\nhour (minute), a day (hour), 30 days "
     "(day) "
     "before --to,\nor all there is (total)"},
    {"to", 0, "TIME", LV_CLI_TEXT, offsetof(args, to), 0, 0, "rounded up; default: now"},
    {"json", 'j', NULL, LV_CLI_FLAG, offsetof(args, json), 0, 0, "answer in JSON"},
    LV_CLI_API_OPTS(args),
};

/* Columns: unit, heading. Byte-hours are shown as GiB-hours, bytes with a prefix. */
enum form { COUNT, BYTES, BYTE_HOURS };
static const struct {
  const char *unit, *head;
  enum form form;
} columns[] = {
    {"messages_in", "IN", COUNT},           {"messages_out", "OUT", COUNT},
    {"history_reads", "HISTORY", COUNT},    {"bytes_in", "BYTES-IN", BYTES},
    {"bytes_out", "BYTES-OUT", BYTES},      {"connection_minutes", "CONN-MIN", COUNT},
    {"channel_minutes", "CHAN-MIN", COUNT}, {"stored_byte_hours", "GiB-HOURS", BYTE_HOURS}};
enum { COLUMNS = sizeof columns / sizeof *columns, CELL = 24 };

static void cell(const json_t *row, int column, char dst[CELL]) {
  static const char *const prefix[] = {"", " KiB", " MiB", " GiB", " TiB", " PiB"};
  json_int_t n = json_integer_value(json_object_get(row, columns[column].unit));
  double v = (double)n;
  uint32_t i = 0;
  switch (columns[column].form) {
  case COUNT: (void)snprintf(dst, CELL, "%lld", (long long)n); return;
  case BYTE_HOURS: (void)snprintf(dst, CELL, "%.3f", v / (1 << 30)); return;
  case BYTES: break;
  }
  for (; v >= 1024 && i + 1 < sizeof prefix / sizeof *prefix; i++) v /= 1024;
  (void)snprintf(dst, CELL, i ? "%.1f%s" : "%.0f%s", v, prefix[i]);
}

static void widen(const json_t *row, int width[COLUMNS]) {
  char text[CELL];
  for (int c = 0; c < COLUMNS; c++) {
    cell(row, c, text);
    if ((int)strlen(text) > width[c]) width[c] = (int)strlen(text);
  }
}

static void put_row(FILE *out, const json_t *row, const int width[COLUMNS]) {
  char text[CELL];
  for (int c = 0; c < COLUMNS; c++) {
    cell(row, c, text);
    fprintf(out, "  %*s", width[c], text);
  }
  fputc('\n', out);
}

/* items: of all pages; total: of the query. with_time: there are buckets. */
static void put_table(FILE *out, const json_t *items, const json_t *total, bool with_time) {
  int width[COLUMNS], app_width = 5;
  size_t i;
  json_t *row;
  for (int c = 0; c < COLUMNS; c++) width[c] = (int)strlen(columns[c].head);
  widen(total, width);
  json_array_foreach(items, i, row) {
    int n = (int)json_string_length(json_object_get(row, "app"));
    if (n > app_width) app_width = n;
    widen(row, width);
  }
  if (with_time) fprintf(out, "%-20s  ", "FROM");
  fprintf(out, "%-*s", app_width, "APP");
  for (int c = 0; c < COLUMNS; c++) fprintf(out, "  %*s", width[c], columns[c].head);
  fputc('\n', out);
  json_array_foreach(items, i, row) {
    if (with_time) fprintf(out, "%-20s  ", json_string_value(json_object_get(row, "from")));
    fprintf(out, "%-*s", app_width, json_string_value(json_object_get(row, "app")));
    put_row(out, row, width);
  }
  if (with_time) fprintf(out, "%-20s  ", "");
  fprintf(out, "%-*s", app_width, "total");
  put_row(out, total, width);
}

/* ---- asking ---- */

enum { ENCODED = 3 * 300 };

static void param(char *path, size_t size, const char *name, const char *value) {
  char text[ENCODED];
  size_t n = strlen(path);
  if (!value) return;
  (void)snprintf(path + n, size - n, "&%s=%s", name, lv_cli_api_segment(value, text, sizeof text));
}

/* The answer with the items of all pages. Exit code, or 0. */
static int ask(lv_cli_api *api, const args *a, const char *app, json_t **ret) {
  char path[8 * ENCODED], name[ENCODED];
  json_t *all = NULL, *page;
  const char *after = NULL;
  do {
    if (app)
      (void)snprintf(path, sizeof path, "/apps/%s/usage?limit=1000",
                     lv_cli_api_segment(app, name, sizeof name));
    else
      (void)snprintf(path, sizeof path, "/usage?limit=1000");
    param(path, sizeof path, "step", a->step ? a->step : "total");
    param(path, sizeof path, "from", a->from);
    /* Pages are of one question: `to` stays what it was. */
    param(path, sizeof path, "to", all ? json_string_value(json_object_get(all, "to")) : a->to);
    param(path, sizeof path, "after", after);
    int r = lv_cli_api_call(api, "GET", path, NULL, &page);
    if (r) {
      json_decref(all);
      return r;
    }
    if (all) {
      (void)json_array_extend(json_object_get(all, "items"), json_object_get(page, "items"));
      (void)json_object_del(all, "next");
      if (json_object_get(page, "next"))
        (void)json_object_set(all, "next", json_object_get(page, "next"));
      json_decref(page);
    } else {
      all = page;
    }
    after = json_string_value(json_object_get(all, "next"));
  } while (after);
  *ret = all;
  return 0;
}

static int run(const lv_cli_cmd *cmd, int argc, char **argv) {
  args a = {0};
  lv_cli_api api;
  json_t *answer = NULL;
  int n, r;
  if (lv_cli_parse(cmd, argc, argv, &a, &n, &r)) return r;
  if (n > 1) return lv_cli_usage(cmd, "one APP at a time");
  const char *app = n ? argv[1] : NULL;
  r = lv_cli_api_resolve(cmd, &a.api, &api);
  if (r) return r;
  r = ask(&api, &a, app, &answer);
  if (r == 0 && a.json) {
    (void)json_dumpf(answer, stdout, JSON_INDENT(2));
    putchar('\n');
  } else if (r == 0) {
    put_table(stdout, json_object_get(answer, "items"), json_object_get(answer, "total"),
              a.step && strcmp(a.step, "total") != 0);
  }
  json_decref(answer);
  lv_cli_api_done(&api);
  return r;
}

const lv_cli_cmd lv_cli_usage_cmd = {
    .name = "usage",
    .usage = "[APP] [--step STEP] [--from TIME] [--to TIME]",
    .summary = "Shows what apps have used: messages, bytes, minutes, stored bytes",
    .about = "Messages count in steps of 5 KiB; docs/usage.md defines the units. What was used is\n"
             "shown within two seconds.\n\n" LV_CLI_API_ABOUT
             "Exit codes: 0 shown, 1 not, 3 the key was refused, 64 wrong arguments.\n",
    .examples = "  lavva usage                               all that is known, by app\n"
                "  lavva usage plant --step day              the last 30 days\n"
                "  lavva usage --step hour --from 2026-11-24T00:00:00Z --json\n",
    LV_CLI_OPTS(opts),
    .run = run};
