/* cores.c: how many cores this process may use: scheduler affinity and cgroup CPU quota.
 *
 * cgroup v2: /proc/self/cgroup has "0::PATH"; cpu.max ("QUOTA PERIOD" or "max PERIOD") of the group
 * and of each of its parents counts. v1: the line whose controllers name `cpu`, and
 * cpu.cfs_quota_us / cpu.cfs_period_us (-1: none). Inside a container PATH may not be visible under
 * the mount; then the mount's own root counts. Unreadable files limit nothing. */
#include "core/cores_int.h"
#include "core/loop.h"
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static bool slurp(const char *path, char *buf, size_t size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  ssize_t n = read(fd, buf, size - 1);
  close(fd);
  if (n <= 0) return false;
  buf[n] = 0;
  return true;
}

/* quota and period in µs to whole cores, rounded up; INT_MAX when there is no quota. */
static int to_cores(long long quota, long long period) {
  if (quota <= 0 || period <= 0) return INT_MAX;
  long long n = (quota + period - 1) / period;
  return n > INT_MAX ? INT_MAX : (int)n;
}

static int limit_v2(const char *dir) {
  char path[PATH_MAX + 32], buf[64];
  long long quota, period;
  snprintf(path, sizeof path, "%s/cpu.max", dir);
  if (!slurp(path, buf, sizeof buf) || sscanf(buf, "%lld %lld", &quota, &period) != 2)
    return INT_MAX;
  return to_cores(quota, period);
}

static int limit_v1(const char *dir) {
  char path[PATH_MAX + 32], buf[64];
  snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", dir);
  if (!slurp(path, buf, sizeof buf)) return INT_MAX;
  long long quota = strtoll(buf, NULL, 10);
  snprintf(path, sizeof path, "%s/cpu.cfs_period_us", dir);
  if (!slurp(path, buf, sizeof buf)) return INT_MAX;
  return to_cores(quota, strtoll(buf, NULL, 10));
}

/* The tightest limit of mount+group and its parents up to the mount. */
static int limit_up(const char *mount, const char *group, int (*limit)(const char *dir)) {
  char dir[PATH_MAX];
  size_t base = strlen(mount);
  int best = INT_MAX;
  if (snprintf(dir, sizeof dir - 32, "%s%s", mount, group) >= (int)sizeof dir - 32) return INT_MAX;
  for (;;) {
    int n = limit(dir);
    if (n < best) best = n;
    char *slash = strrchr(dir, '/');
    if (!slash || (size_t)(slash - dir) < base) return best;
    *slash = 0;
  }
}

static bool names_cpu(const char *controllers) {
  for (const char *p = controllers; p; p = strchr(p, ',')) {
    if (*p == ',') p++;
    if (strncmp(p, "cpu", 3) == 0 && (p[3] == 0 || p[3] == ',')) return true;
  }
  return false;
}

/* One line of /proc/self/cgroup: "ID:CONTROLLERS:PATH". */
static int limit_of_line(const char *root, char *line) {
  static const char *const v1[] = {"cpu", "cpu,cpuacct", "cpuacct,cpu"};
  char mount[PATH_MAX];
  char *ctl = strchr(line, ':'), *group = ctl ? strchr(ctl + 1, ':') : NULL;
  int best = INT_MAX;
  if (!group) return INT_MAX;
  *group++ = 0;
  ctl++;
  if (strcmp(group, "/") == 0) group = "";
  if (*ctl == 0) {
    snprintf(mount, sizeof mount, "%s/sys/fs/cgroup", root);
    return limit_up(mount, group, limit_v2);
  }
  if (!names_cpu(ctl)) return INT_MAX;
  for (size_t i = 0; i < sizeof v1 / sizeof *v1; i++) {
    snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/%s", root, v1[i]);
    int n = limit_up(mount, group, limit_v1);
    if (n < best) best = n;
  }
  return best;
}

int lv__cores_quota(const char *root) {
  char path[PATH_MAX], buf[8192], *save = NULL;
  int best = INT_MAX;
  snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
  if (!slurp(path, buf, sizeof buf)) return INT_MAX;
  for (char *line = strtok_r(buf, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
    int n = limit_of_line(root, line);
    if (n < best) best = n;
  }
  return best;
}

int lv_cores(void) {
  cpu_set_t set;
  long n =
      sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : sysconf(_SC_NPROCESSORS_ONLN);
  int quota = lv__cores_quota("");
  if (n > quota) n = quota;
  return n < 1 ? 1 : (int)n;
}
