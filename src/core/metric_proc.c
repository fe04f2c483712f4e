/* metric_proc.c: what the kernel says about this process, under the names that Prometheus clients
 * use, and by role. From /proc/self; what cannot be read is left out. @thread any */
#include "core/buf.h"
#include "core/metric_int.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { THREADS_MAX = 96 };

typedef struct facts {
  double cpu_s, start_s;
  long long rss, vsize, fds, fds_max, threads;
} facts;

static int count_fds(void) {
  int n = 0;
  DIR *d = opendir("/proc/self/fd");
  if (!d) return 0;
  for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
  (void)closedir(d);
  return n - 1; /* without the folder's own */
}

/* Seconds since 1970 at which the machine started. */
static double boot_s(void) {
  char line[256];
  double at = 0;
  FILE *f = fopen("/proc/stat", "re");
  while (f && fgets(line, sizeof line, f))
    if (strncmp(line, "btime ", 6) == 0) at = strtod(line + 6, NULL);
  if (f) (void)fclose(f);
  return at;
}

static void read_stat(facts *x) {
  char line[1024];
  FILE *f = fopen("/proc/self/stat", "re");
  if (!f) return;
  char *p = fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;
  unsigned long long start = 0, vsize = 0;
  long threads = 0, rss = 0;
  if (p && sscanf(p + 1,
                  " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld %*d "
                  "%llu %llu %ld",
                  &threads, &start, &vsize, &rss) == 4) {
    x->threads = threads;
    x->vsize = (long long)vsize;
    x->rss = (long long)rss * sysconf(_SC_PAGESIZE);
    x->start_s = boot_s() + (double)start / (double)sysconf(_SC_CLK_TCK);
  }
  (void)fclose(f);
}

static void read_facts(facts *x) {
  struct rusage ru;
  struct rlimit rl;
  memset(x, 0, sizeof *x);
  read_stat(x);
  if (getrusage(RUSAGE_SELF, &ru) == 0)
    x->cpu_s = (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
               (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
  x->fds = count_fds();
  if (getrlimit(RLIMIT_NOFILE, &rl) == 0) x->fds_max = (long long)rl.rlim_cur;
}

/* ---- how much memory there is ---- */

/* The number at the beginning of a file, or behind `name` in one of its lines; UINT64_MAX: none. */
static uint64_t number_in(const char *path, const char *name) {
  char line[256];
  uint64_t v = UINT64_MAX;
  size_t n = strlen(name);
  FILE *f = fopen(path, "re");
  while (f && v == UINT64_MAX && fgets(line, sizeof line, f)) {
    const char *at = line + n + strspn(line + n, " ");
    if (strncmp(line, name, n) == 0 && *at >= '0' && *at <= '9') v = strtoull(at, NULL, 10);
  }
  if (f) (void)fclose(f);
  return v;
}

/* The machine's memory, or less where a cgroup (v2; this one or one around it) has a limit. */
static uint64_t memory_limit(void) {
  char dir[4096] = "/sys/fs/cgroup", path[4160], group[4000] = "";
  uint64_t best = number_in("/proc/meminfo", "MemTotal:");
  if (best < UINT64_MAX / 1024) best *= 1024; /* it is in kB */
  size_t base = strlen(dir);
  FILE *f = fopen("/proc/self/cgroup", "re");
  while (f && fgets(path, sizeof path, f))
    if (sscanf(path, "0::%3999[^\n]", group) == 1) break;
  if (f) (void)fclose(f);
  if (strcmp(group, "/") != 0) snprintf(dir + base, sizeof dir - base, "%s", group);
  for (;;) {
    snprintf(path, sizeof path, "%s/memory.max", dir);
    uint64_t v = number_in(path, "");
    if (v < best) best = v;
    char *slash = strrchr(dir, '/');
    if ((size_t)(slash - dir) < base) return best;
    *slash = 0;
  }
}

static void by_role(lv_buf *b, const char *name, const char *type, const char *help, double v) {
  lv__metrics_head(b, name, help, type);
  lv_buf_printf(b, "%s{role=\"%s\"} %.15g\n", name, lv__metrics_role(), v);
}

/* ---- CPU time by thread name ---- */

typedef struct thread_cpu {
  char name[16];
  double s;
} thread_cpu;

static int read_first(const char *tid, const char *file, char *dst, int size) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%.16s/%s", tid, file);
  FILE *f = fopen(path, "re");
  if (!f) return 0;
  int ok = fgets(dst, size, f) != NULL;
  (void)fclose(f);
  return ok;
}

static void add_thread(thread_cpu *t, int *n, const char *tid) {
  char comm[64], sched[128];
  if (!read_first(tid, "comm", comm, sizeof comm)) return;
  if (!read_first(tid, "schedstat", sched, sizeof sched)) return;
  comm[strcspn(comm, "\n")] = 0;
  int i = 0;
  while (i < *n && strncmp(t[i].name, comm, sizeof t[i].name) != 0) i++;
  if (i == THREADS_MAX) return;
  if (i == *n) {
    t[i].s = 0;
    snprintf(t[(*n)++].name, sizeof t[i].name, "%.15s", comm);
  }
  t[i].s += strtod(sched, NULL) / 1e9;
}

static void put_threads(lv_buf *b) {
  thread_cpu t[THREADS_MAX];
  int n = 0;
  DIR *d = opendir("/proc/self/task");
  if (!d) return;
  for (struct dirent *e; (e = readdir(d));)
    if (e->d_name[0] != '.') add_thread(t, &n, e->d_name);
  (void)closedir(d);
  lv__metrics_head(b, "lavva_thread_cpu_seconds_total",
                   "CPU time by thread; those of one name together", "counter");
  for (int i = 0; i < n; i++) {
    lv_buf_add_str(b, "lavva_thread_cpu_seconds_total{thread=\"");
    lv__metrics_value(b, t[i].name);
    lv_buf_printf(b, "\"} %.6f\n", t[i].s);
  }
}

void lv__metrics_process(lv_buf *b) {
  facts x;
  read_facts(&x);
  by_role(b, "lavva_process_cpu_seconds_total", "counter", "User and system CPU time by role",
          x.cpu_s);
  by_role(b, "lavva_process_resident_memory_bytes", "gauge", "Resident memory by role",
          (double)x.rss);
  by_role(b, "lavva_process_memory_limit_bytes", "gauge",
          "Memory of the machine, or of the cgroup where that is less", (double)memory_limit());
  by_role(b, "lavva_process_open_fds", "gauge", "Open file descriptors by role", (double)x.fds);
  by_role(b, "lavva_process_threads", "gauge", "Threads by role", (double)x.threads);
  put_threads(b);
  lv__metrics_head(b, "lavva_build_info", "Always 1; the version is a label", "gauge");
  lv_buf_printf(b, "lavva_build_info{version=\"%s\"} 1\n", LV_VERSION);
  lv_metrics_put(b, "process_cpu_seconds_total", "counter", "User and system CPU time", x.cpu_s);
  lv_metrics_put(b, "process_resident_memory_bytes", "gauge", "Resident memory", (double)x.rss);
  lv_metrics_put(b, "process_virtual_memory_bytes", "gauge", "Virtual memory", (double)x.vsize);
  lv_metrics_put(b, "process_open_fds", "gauge", "Open file descriptors", (double)x.fds);
  lv_metrics_put(b, "process_max_fds", "gauge", "Most file descriptors it may open",
                 (double)x.fds_max);
  lv_metrics_put(b, "process_threads", "gauge", "Threads", (double)x.threads);
  lv_metrics_put(b, "process_start_time_seconds", "gauge", "Start, in seconds since 1970",
                 x.start_s);
}
