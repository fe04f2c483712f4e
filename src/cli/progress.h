/* progress.h: a bar on a terminal for work whose size is known; silent elsewhere. @thread one */
#ifndef LV_CLI_PROGRESS_H
#define LV_CLI_PROGRESS_H
#include "core/time.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct lv_progress {
  const char *what; /* "backup" */
  uint64_t done, total;
  lv_mono start, shown;
  bool on, drawn;
} lv_progress;

/* total: bytes; 0: not known. quiet: never draws. */
void lv_progress_init(lv_progress *p, const char *what, uint64_t total, bool quiet);
/* Counts bytes of a lv_progress on, draws at most ten times a second. */
void lv_progress_add(void *progress, uint64_t bytes);
/* Wipes the bar: what is printed next starts on a clean line. */
void lv_progress_end(lv_progress *p);
/* "1.5 GB" into dst (>= 16 bytes); returns dst. */
const char *lv_progress_bytes(uint64_t bytes, char dst[16]);

#endif
