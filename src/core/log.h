/* log.h: one line an event, as text or JSON, to stderr or a file.
 *
 *   lv_log(LV_INFO, "listener open addr=%s port=%d", addr, port);
 *
 * The format is words, then fields: each ` name=` in the format itself starts a field (never one in
 * an argument, so nobody can forge fields). Text shows values with spaces or control characters
 * quoted; JSON has `t`, `level`, `msg` and the fields, numbers bare where the format says so.
 * Control characters are escaped, so a line is a line.
 *
 * Errors and warnings are limited to LV_LOG_BURST per call site in 10 s; what was left out is
 * counted and said by the site's next line or by lv_log_tick. A line is at most 4 KiB (cut, and
 * marked) and one write; when the receiver does not take it at once it is dropped and counted, so
 * that logging never stops a loop. Secrets never go into a log. */
#ifndef LV_CORE_LOG_H
#define LV_CORE_LOG_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum lv_log_level { LV_ERROR, LV_WARN, LV_INFO, LV_DEBUG };
enum { LV_LOG_LINE_MAX = 4096, LV_LOG_BURST = 10 };

typedef struct lv_log_site {
  _Atomic int64_t window_ns; /* when the current window began */
  _Atomic uint32_t in_window, suppressed;
  _Atomic bool linked;
  struct lv_log_site *next; /* sites that ever left lines out */
  const char *fmt;
} lv_log_site;

extern _Atomic int lv__log_level;
void lv__log_write(lv_log_site *site, enum lv_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* @thread any; costs one load when the level is off */
#define lv_log(level, ...)                                                                         \
  do {                                                                                             \
    static lv_log_site lv_site_;                                                                   \
    if (lv_log_on(level)) lv__log_write(&lv_site_, level, __VA_ARGS__);                            \
  } while (0)
static inline bool lv_log_on(enum lv_log_level level) {
  return (int)level <= atomic_load_explicit(&lv__log_level, memory_order_relaxed);
}

/* Sets where lines go: a file that is appended to (made with mode 0640), or stderr when path is
 * NULL. 0, or the error of opening (the old target stays). Before any call lines go to stderr as
 * text, level info. @thread main */
int lv_log_open(const char *path, bool json);
/* Opens the file again, after it was moved away. @thread main */
int lv_log_reopen(void);
/* Lines go to this descriptor, which stays the caller's; for tests. @thread main */
void lv_log_to_fd(int fd, bool json);
/* @thread any */
void lv_log_set_level(enum lv_log_level level);
/* "error" … "debug"; LV_E_INVALID otherwise. */
int lv_log_level_parse(const char *s, enum lv_log_level *ret_level);
/* Reports what sites left out since their last line; once a second or so. @thread any */
void lv_log_tick(void);
/* Lines that the receiver did not take. @thread any */
uint64_t lv_log_dropped(void);

#endif
