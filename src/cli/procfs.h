/* procfs.h: what a Linux machine says about itself in /proc, as one sample, and two samples as
 * values. Missing files (an old kernel, a container) leave their part empty.
 *
 * Sources: proc(5); pressure: Documentation/accounting/psi.rst. */
#ifndef LV_CLI_PROCFS_H
#define LV_CLI_PROCFS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LV_PROC_CPUS = 512, LV_PROC_DEVS = 64, LV_PROC_NAME = 32 };
enum lv_proc_cpu_field { LV_CPU_USER, LV_CPU_SYSTEM, LV_CPU_IOWAIT, LV_CPU_IDLE, LV_CPU_FIELDS };

typedef struct lv_proc_dev {
  char name[LV_PROC_NAME];
  uint64_t in_bytes, out_bytes; /* disk: read, written; network: received, sent */
  uint64_t in_count, out_count; /* operations; packets */
  uint64_t busy_ms;             /* disk only */
} lv_proc_dev;

typedef struct lv_proc_pressure {
  bool there, has_full;
  double some10, full10;     /* share of the last 10 s, in percent */
  uint64_t some_us, full_us; /* total */
} lv_proc_pressure;

typedef struct lv_proc_sample {
  uint64_t at_ns; /* monotonic, set by the caller */
  uint32_t n_cpus;
  uint64_t cpu[LV_PROC_CPUS][LV_CPU_FIELDS]; /* ticks */
  bool has_memory, has_load;
  uint64_t mem_total, mem_available, swap_total, swap_free; /* bytes */
  double load[3];
  uint32_t running, tasks;
  uint32_t n_disks, n_nets;
  lv_proc_dev disk[LV_PROC_DEVS], net[LV_PROC_DEVS];
  lv_proc_pressure pressure[3]; /* cpu, io, memory */
} lv_proc_sample;
extern const char *const lv_proc_pressure_names[3];

/* Reads everything below `root` ("/proc"). LV_E_NOT_FOUND when not even stat is there. */
int lv_proc_read(const char *root, lv_proc_sample *ret);

/* One device's value: topic behind the channel ("cpu/0") and a JSON object. */
typedef void lv_proc_value_fn(void *arg, const char *category, const char *key, const char *json);
/* Calls fn for each device with rates between the two samples (a before b). */
void lv_proc_values(const lv_proc_sample *a, const lv_proc_sample *b, lv_proc_value_fn *fn,
                    void *arg);

#endif
