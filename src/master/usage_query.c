/* usage_query.c: the parameters of a question about usage. Pure. */
#include "master/usage.h"
#include "wire/http.h"
#include <string.h>

enum { HOUR = 3600, DAY = 86400, VALUE_MAX = 300 };

static const struct {
  const char *name;
  int64_t s, back; /* of a bucket; how far back `from` is when nothing is said */
} steps[] = {{"minute", 60, HOUR}, {"hour", HOUR, DAY}, {"day", DAY, 30 * DAY}, {"total", 0, 0}};

int64_t lv_usage_step_s(enum lv_usage_step step) {
  return steps[step].s;
}

/* The parameter, decoded into `text`; empty: not there. */
static int find(lv_slice query, const char *name, uint8_t text[VALUE_MAX], lv_slice *ret) {
  lv_slice raw;
  *ret = (lv_slice){text, 0};
  if (!lv_http_query_find(query, lv_slice_str(name), &raw)) return 0;
  if (raw.n > VALUE_MAX) return LV_E_INVALID;
  return lv_http_decode(raw, false, text, ret);
}

static int find_step(lv_slice query, lv_usage_query *q) {
  uint8_t text[VALUE_MAX];
  lv_slice v;
  if (find(query, "step", text, &v)) return LV_E_INVALID;
  for (uint32_t i = 0; v.n && i < sizeof steps / sizeof *steps; i++) {
    if (!lv_slice_eq(v, lv_slice_str(steps[i].name))) continue;
    q->step = (enum lv_usage_step)i;
    return 0;
  }
  return v.n ? LV_E_INVALID : 0;
}

static int find_time(lv_slice query, const char *name, int64_t *ret_s, bool *ret_has) {
  uint8_t text[VALUE_MAX];
  lv_slice v;
  lv_wall t;
  if (find(query, name, text, &v)) return LV_E_INVALID;
  *ret_has = v.n > 0;
  if (!v.n) return 0;
  if (lv_time_parse((const char *)v.p, v.n, &t)) return LV_E_INVALID;
  *ret_s = t.ns / 1000000000;
  return 0;
}

static int find_limit(lv_slice query, lv_usage_query *q) {
  uint8_t text[VALUE_MAX];
  lv_slice v;
  uint64_t n = LV_USAGE_LIMIT;
  if (find(query, "limit", text, &v)) return LV_E_INVALID;
  if (v.n && (lv_slice_u64(v, &n) || n < 1 || n > LV_USAGE_LIMIT_MAX)) return LV_E_INVALID;
  q->limit = (uint32_t)n;
  return 0;
}

/* "SECONDS.APP", as it was given in `next`. */
static int find_after(lv_slice query, uint8_t *dst, lv_usage_query *q) {
  uint8_t text[VALUE_MAX];
  lv_slice v, at;
  uint64_t s;
  if (find(query, "after", text, &v)) return LV_E_INVALID;
  if (!v.n) return 0;
  if (!lv_slice_split(&v, '.', &at) || lv_slice_u64(at, &s) || s > INT64_MAX || !v.n ||
      v.n > LV_USAGE_APP_MAX)
    return LV_E_INVALID;
  memcpy(dst, v.p, v.n);
  q->after_at = (int64_t)s;
  q->after = (lv_slice){dst, v.n};
  return 0;
}

int lv_usage_query_parse(lv_slice query, lv_slice app, lv_wall now, uint8_t *text,
                         lv_usage_query *ret, const char **ret_why) {
  lv_usage_query q = {.step = LV_USAGE_HOUR, .to = now.ns / 1000000000 + 1};
  bool has_from, has_to;
  *ret_why = "step is minute, hour, day or total";
  if (find_step(query, &q)) return LV_E_INVALID;
  *ret_why = "from and to are RFC 3339 times, to behind from";
  if (find_time(query, "from", &q.from, &has_from) || find_time(query, "to", &q.to, &has_to))
    return LV_E_INVALID;
  *ret_why = "limit is 1 to 10000";
  if (find_limit(query, &q)) return LV_E_INVALID;
  *ret_why = "after is what `next` was";
  if (find_after(query, text, &q)) return LV_E_INVALID;
  *ret_why = "from and to are RFC 3339 times, to behind from";
  int64_t whole = steps[q.step].s ? steps[q.step].s : HOUR;
  if (q.to < 0 || q.from < 0 || q.to > INT64_MAX / 4) return LV_E_INVALID;
  q.to = (q.to + whole - 1) / whole * whole;
  if (!has_from) q.from = steps[q.step].back < q.to ? q.to - steps[q.step].back : 0;
  if (!has_from && !steps[q.step].back) q.from = 0;
  q.from = q.from / whole * whole;
  if (q.from >= q.to || app.n > LV_USAGE_APP_MAX) return LV_E_INVALID;
  uint8_t *p = text + q.after.n;
  if (app.n) memcpy(p, app.p, app.n);
  q.app = (lv_slice){p, app.n};
  *ret = q;
  *ret_why = NULL;
  return 0;
}
