/* progress.c: see progress.h. Drawn on standard error:
 *
 *   backup  [##########..........]  52%  1.1 GB of 2.1 GB  310 MB/s  3 s left
 */
#include "cli/progress.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { EVERY_MS = 100, CELLS = 30 };

const char *lv_progress_bytes(uint64_t bytes, char dst[16]) {
  static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
  double v = (double)bytes;
  size_t u = 0;
  while (v >= 999.5 && u + 1 < sizeof units / sizeof *units) v /= 1000, u++;
  snprintf(dst, 16, u && v < 10 ? "%.1f %s" : "%.0f %s", v, units[u]);
  return dst;
}

void lv_progress_init(lv_progress *p, const char *what, uint64_t total, bool quiet) {
  *p = (lv_progress){.what = what, .total = total, .start = lv_mono_now()};
  p->shown = p->start;
  p->on = !quiet && isatty(STDERR_FILENO);
}

static void draw(lv_progress *p, lv_mono now) {
  char done[16], total[16], rate[16], bar[CELLS + 1];
  int64_t ms = lv_dur_ms(lv_mono_sub(now, p->start));
  uint64_t all = p->total > p->done ? p->total : p->done;
  uint64_t per_s = ms > 0 ? p->done * 1000 / (uint64_t)ms : 0;
  p->drawn = true;
  fprintf(stderr, "\r\033[K%s  ", p->what);
  if (p->total) {
    int cells = (int)(p->done * CELLS / all);
    memset(bar, '.', CELLS);
    memset(bar, '#', (size_t)cells);
    bar[CELLS] = '\0';
    fprintf(stderr, "[%s] %3d%%  %s of %s", bar, (int)(p->done * 100 / all),
            lv_progress_bytes(p->done, done), lv_progress_bytes(all, total));
  } else {
    fputs(lv_progress_bytes(p->done, done), stderr);
  }
  fprintf(stderr, "  %s/s", lv_progress_bytes(per_s, rate));
  if (p->total && per_s) fprintf(stderr, "  %" PRIu64 " s left", (all - p->done) / per_s);
  fflush(stderr);
}

void lv_progress_add(void *progress, uint64_t bytes) {
  lv_progress *p = progress;
  p->done += bytes;
  if (!p->on) return;
  lv_mono now = lv_mono_now();
  if (lv_dur_ms(lv_mono_sub(now, p->shown)) < EVERY_MS) return;
  p->shown = now;
  draw(p, now);
}

void lv_progress_end(lv_progress *p) {
  if (p->drawn) fputs("\r\033[K", stderr);
  p->on = p->drawn = false;
}
