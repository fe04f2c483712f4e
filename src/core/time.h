/* time.h: wall time, monotonic time and durations as distinct types, behind a clock interface.
 *
 * Units are in the names: all three count nanoseconds. The clock is an interface so that the
 * simulator and the lab can move it. */
#ifndef LV_CORE_TIME_H
#define LV_CORE_TIME_H
#include <stddef.h>
#include <stdint.h>

typedef struct lv_mono {
  int64_t ns;
} lv_mono; /* CLOCK_MONOTONIC */
typedef struct lv_wall {
  int64_t ns;
} lv_wall; /* since the Unix epoch, UTC */
typedef struct lv_dur {
  int64_t ns;
} lv_dur;

#define LV_MS(x) ((lv_dur){(int64_t)(x)*1000000})
#define LV_SEC(x) ((lv_dur){(int64_t)(x)*1000000000})

static inline lv_dur lv_mono_sub(lv_mono a, lv_mono b) {
  return (lv_dur){a.ns - b.ns};
}
static inline lv_mono lv_mono_add(lv_mono a, lv_dur d) {
  return (lv_mono){a.ns + d.ns};
}
static inline int64_t lv_dur_ms(lv_dur d) {
  return d.ns / 1000000;
}

/* The clock of this process: the system's unless a test or --fault-injection replaced it with
 * lv_clock_set (before threads start). @thread any */
lv_mono lv_mono_now(void);
lv_wall lv_wall_now(void);
typedef struct lv_clock {
  lv_mono (*mono)(void *arg);
  lv_wall (*wall)(void *arg);
  void *arg;
} lv_clock;
/* NULL restores the system's clock. @thread main */
void lv_clock_set(const lv_clock *clock);

/* "2026-11-24T12:00:00.123Z" into buf (>= 25 bytes); returns buf. @thread any */
char *lv_time_format(lv_wall t, char *buf, size_t size);
/* RFC 3339 date-time, whole slice. LV_E_INVALID otherwise. @thread any */
int lv_time_parse(const char *s, size_t n, lv_wall *ret_t);

#endif
