/* proc.h: what /proc says about the server's processes and about ourselves. */
#ifndef LG_PROC_H
#define LG_PROC_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct lg_usage {
  double cpu_s;                 /* utime + stime of all threads, summed over the processes */
  double user_s, sys_s;         /* its parts */
  int64_t rss_bytes, pss_bytes; /* pss: -1 where smaps_rollup may not be read */
  int64_t ctx_switches;         /* of all threads, voluntary and not */
} lg_usage;

/* Sums over `count` processes; 0, or -errno when one cannot be read (it has died). Memory only when
 * asked: PSS walks the whole address space and holds the server up while it does. */
int lg_usage_read(const pid_t *pids, uint32_t count, bool memory, lg_usage *ret_usage);
/* CPU seconds of the calling process, to the microsecond. */
double lg_self_cpu_s(void);

#endif
