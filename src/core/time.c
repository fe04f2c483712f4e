/* time.c: the process's clock and RFC 3339 in both directions. The clock is set before threads
 * start, so reads need no synchronisation. */
#include "core/time.h"
#include "core/err.h"
#include <stdbool.h>
#include <stdio.h>
#include <time.h>

static lv_clock fake;
static bool faked;

void lv_clock_set(const lv_clock *clock) {
  faked = clock != NULL;
  if (clock) fake = *clock;
}

static int64_t read_clock(clockid_t id) {
  struct timespec ts;
  clock_gettime(id, &ts);
  return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

lv_mono lv_mono_now(void) {
  if (__builtin_expect(faked, 0)) return fake.mono(fake.arg);
  return (lv_mono){read_clock(CLOCK_MONOTONIC)};
}

lv_wall lv_wall_now(void) {
  if (__builtin_expect(faked, 0)) return fake.wall(fake.arg);
  return (lv_wall){read_clock(CLOCK_REALTIME)};
}

/* Days since 1970-01-01 of a proleptic Gregorian date. The year starts in March, so that the leap
 * day is its last. */
static int64_t days_of(int64_t y, int m, int d) {
  y -= m <= 2;
  int64_t era = (y >= 0 ? y : y - 399) / 400;
  int64_t yoe = y - era * 400;
  int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
  return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static void date_of(int64_t days, int64_t *y, int *m, int *d) {
  int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097;
  int64_t doe = z - era * 146097;
  int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
  int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
  int64_t mp = (5 * doy + 2) / 153;
  *d = (int)(doy - (153 * mp + 2) / 5 + 1);
  *m = (int)(mp < 10 ? mp + 3 : mp - 9);
  *y = yoe + era * 400 + (*m <= 2);
}

char *lv_time_format(lv_wall t, char *buf, size_t size) {
  int64_t ms = t.ns / 1000000 - (t.ns % 1000000 < 0);
  int64_t days = ms / 86400000 - (ms % 86400000 < 0);
  int64_t in_day = ms - days * 86400000, y;
  int m, d;
  date_of(days, &y, &m, &d);
  snprintf(buf, size, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", (int)y, m, d, (int)(in_day / 3600000),
           (int)(in_day / 60000 % 60), (int)(in_day / 1000 % 60), (int)(in_day % 1000));
  return buf;
}

/* Reads exactly `n` digits at *p. */
static bool digits(const char **p, const char *end, int n, int *ret_v) {
  int v = 0;
  if (end - *p < n) return false;
  for (int i = 0; i < n; i++, (*p)++) {
    if (**p < '0' || **p > '9') return false;
    v = v * 10 + (**p - '0');
  }
  *ret_v = v;
  return true;
}

static bool lit(const char **p, const char *end, char a, char b) {
  if (*p >= end || (**p != a && **p != b)) return false;
  (*p)++;
  return true;
}

static bool parse_date(const char **p, const char *end, int64_t *ret_days) {
  static const int len[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  int y, m, d;
  if (!digits(p, end, 4, &y) || !lit(p, end, '-', '-') || !digits(p, end, 2, &m) ||
      !lit(p, end, '-', '-') || !digits(p, end, 2, &d))
    return false;
  bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
  if (m < 1 || m > 12 || d < 1 || d > len[m - 1] + (m == 2 && leap)) return false;
  *ret_days = days_of(y, m, d);
  return true;
}

/* Fraction (any number of digits; beyond nanoseconds they are cut) and offset. */
static bool parse_rest(const char **p, const char *end, int64_t *ret_frac, int64_t *ret_off_s) {
  int h, m;
  *ret_frac = 0;
  if (*p < end && **p == '.') {
    int64_t unit = 100000000;
    const char *first = ++*p;
    for (; *p < end && **p >= '0' && **p <= '9'; (*p)++, unit /= 10)
      *ret_frac += (**p - '0') * unit;
    if (*p == first) return false;
  }
  *ret_off_s = 0;
  if (lit(p, end, 'Z', 'z')) return true;
  int sign = *p < end && **p == '-' ? -1 : 1;
  if (!lit(p, end, '+', '-') || !digits(p, end, 2, &h) || !lit(p, end, ':', ':') ||
      !digits(p, end, 2, &m) || h > 23 || m > 59)
    return false;
  *ret_off_s = sign * (h * 3600 + m * 60);
  return true;
}

int lv_time_parse(const char *s, size_t n, lv_wall *ret_t) {
  const char *p = s, *end = s + n;
  int64_t days, frac, off, ns;
  int h, m, sec;
  if (!parse_date(&p, end, &days) || p >= end || (*p != 'T' && *p != 't' && *p != ' '))
    return LV_E_INVALID;
  p++;
  if (!digits(&p, end, 2, &h) || !lit(&p, end, ':', ':') || !digits(&p, end, 2, &m) ||
      !lit(&p, end, ':', ':') || !digits(&p, end, 2, &sec))
    return LV_E_INVALID;
  if (h > 23 || m > 59 || sec > 60) return LV_E_INVALID; /* 60: a leap second */
  if (!parse_rest(&p, end, &frac, &off) || p != end) return LV_E_INVALID;
  int64_t secs = days * 86400 + h * 3600 + m * 60 + sec - off;
  if (__builtin_mul_overflow(secs, (int64_t)1000000000, &ns)) return LV_E_INVALID;
  if (__builtin_add_overflow(ns, frac, &ns)) return LV_E_INVALID;
  *ret_t = (lv_wall){ns};
  return 0;
}
