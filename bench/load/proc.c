/* proc.c: CPU time, memory and context switches of other processes, from /proc/PID. */
#include "proc.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* The whole file as a string; the bytes read, or -errno. */
static ssize_t slurp(const char *path, char *buf, size_t size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  ssize_t total = 0, n;
  while ((n = read(fd, buf + total, size - 1 - (size_t)total)) > 0) total += n;
  int eno = errno;
  (void)close(fd);
  if (n < 0) return -eno;
  buf[total] = 0;
  return total;
}

static int64_t field_kb(const char *text, const char *name) {
  const char *at = strstr(text, name);
  return at ? strtoll(at + strlen(name), NULL, 10) * 1024 : -1;
}

static int64_t switches(pid_t pid) {
  char path[300], buf[4096];
  (void)snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
  DIR *dir = opendir(path);
  int64_t sum = 0;
  for (struct dirent *e; dir && (e = readdir(dir));) {
    if (e->d_name[0] == '.') continue;
    (void)snprintf(path, sizeof path, "/proc/%d/task/%s/status", (int)pid, e->d_name);
    if (slurp(path, buf, sizeof buf) <= 0) continue;
    const char *a = strstr(buf, "\nvoluntary_ctxt_switches:");
    const char *b = strstr(buf, "\nnonvoluntary_ctxt_switches:");
    if (a) sum += strtoll(strchr(a, ':') + 1, NULL, 10);
    if (b) sum += strtoll(strchr(b, ':') + 1, NULL, 10);
  }
  if (dir) (void)closedir(dir);
  return sum;
}

static int one(pid_t pid, bool memory, lg_usage *sum) {
  char path[64], buf[4096];
  (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
  ssize_t n = slurp(path, buf, sizeof buf);
  if (n <= 0) return n < 0 ? (int)n : -ESRCH;
  const char *p = strrchr(buf, ')'); /* the name may contain anything; fields follow it */
  if (!p) return -EINVAL;
  unsigned long long utime, stime;
  if (sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &utime, &stime) != 2)
    return -EINVAL;
  double tick = (double)sysconf(_SC_CLK_TCK);
  sum->user_s += (double)utime / tick;
  sum->sys_s += (double)stime / tick;
  sum->cpu_s = sum->user_s + sum->sys_s;
  sum->ctx_switches += switches(pid);
  if (!memory) return 0;
  (void)snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
  if (slurp(path, buf, sizeof buf) > 0) {
    int64_t rss = field_kb(buf, "VmRSS:");
    if (rss > 0) sum->rss_bytes += rss;
  }
  (void)snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
  int64_t pss = slurp(path, buf, sizeof buf) > 0 ? field_kb(buf, "\nPss:") : -1;
  sum->pss_bytes = pss < 0 || sum->pss_bytes < 0 ? -1 : sum->pss_bytes + pss;
  return 0;
}

int lg_usage_read(const pid_t *pids, uint32_t count, bool memory, lg_usage *ret_usage) {
  lg_usage sum = {0};
  for (uint32_t i = 0; i < count; i++) {
    int err = one(pids[i], memory, &sum);
    if (err) return err;
  }
  *ret_usage = sum;
  return 0;
}

double lg_self_cpu_s(void) {
  struct rusage ru;
  (void)getrusage(RUSAGE_SELF, &ru);
  return (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
         (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
}
