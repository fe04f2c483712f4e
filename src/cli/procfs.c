/* procfs.c: /proc read line by line, and two samples as JSON values. Whole disks only: partitions
 * and what has no activity to speak of (loop, ram, zram) are left out, and network interfaces that
 * never sent a packet. */
#include "cli/procfs.h"
#include "core/err.h"
#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const lv_proc_pressure_names[3] = {"cpu", "io", "memory"};

static FILE *file(const char *root, const char *name) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", root, name);
  return fopen(path, "re");
}

static int read_stat(const char *root, lv_proc_sample *s) {
  char line[8192];
  FILE *f = file(root, "stat");
  if (!f) return LV_E_NOT_FOUND;
  while (fgets(line, sizeof line, f) && strncmp(line, "cpu", 3) == 0) {
    if (!isdigit((unsigned char)line[3])) continue; /* all cores together */
    unsigned long long v[8] = {0};
    unsigned cpu;
    if (sscanf(line, "cpu%u %llu %llu %llu %llu %llu %llu %llu %llu", &cpu, &v[0], &v[1], &v[2],
               &v[3], &v[4], &v[5], &v[6], &v[7]) < 5)
      continue;
    if (cpu >= LV_PROC_CPUS) continue;
    s->cpu[cpu][LV_CPU_USER] = v[0] + v[1];
    s->cpu[cpu][LV_CPU_SYSTEM] = v[2] + v[5] + v[6] + v[7]; /* interrupts and stolen time too */
    s->cpu[cpu][LV_CPU_IDLE] = v[3];
    s->cpu[cpu][LV_CPU_IOWAIT] = v[4];
    if (cpu >= s->n_cpus) s->n_cpus = cpu + 1;
  }
  fclose(f);
  return 0;
}

static void read_memory(const char *root, lv_proc_sample *s) {
  static const struct {
    const char *name;
    size_t offset;
  } fields[] = {{"MemTotal:", offsetof(lv_proc_sample, mem_total)},
                {"MemAvailable:", offsetof(lv_proc_sample, mem_available)},
                {"SwapTotal:", offsetof(lv_proc_sample, swap_total)},
                {"SwapFree:", offsetof(lv_proc_sample, swap_free)}};
  char line[256], name[64];
  unsigned long long kib;
  FILE *f = file(root, "meminfo");
  if (!f) return;
  while (fgets(line, sizeof line, f)) {
    if (sscanf(line, "%63s %llu kB", name, &kib) != 2) continue;
    for (size_t i = 0; i < 4; i++) {
      if (strcmp(name, fields[i].name) != 0) continue;
      uint64_t bytes = kib * 1024;
      memcpy((char *)s + fields[i].offset, &bytes, sizeof bytes);
    }
  }
  s->has_memory = s->mem_total > 0;
  fclose(f);
}

static void read_load(const char *root, lv_proc_sample *s) {
  FILE *f = file(root, "loadavg");
  if (!f) return;
  s->has_load = fscanf(f, "%lf %lf %lf %u/%u", &s->load[0], &s->load[1], &s->load[2], &s->running,
                       &s->tasks) == 5;
  fclose(f);
}

/* A partition's name is its disk's and a number (sda1, nvme0n1p2). */
static bool is_partition(const lv_proc_sample *s, const char *name) {
  for (uint32_t i = 0; i < s->n_disks; i++) {
    size_t n = strlen(s->disk[i].name);
    if (strncmp(name, s->disk[i].name, n) != 0) continue;
    const char *rest = name + n;
    if (*rest == 'p') rest++;
    if (isdigit((unsigned char)*rest)) return true;
  }
  return false;
}

static void read_disks(const char *root, lv_proc_sample *s) {
  char line[512], name[LV_PROC_NAME];
  FILE *f = file(root, "diskstats");
  if (!f) return;
  while (s->n_disks < LV_PROC_DEVS && fgets(line, sizeof line, f)) {
    unsigned long long v[10] = {0};
    if (sscanf(line, "%*u %*u %31s %llu %*u %llu %*u %llu %*u %llu %*u %*u %llu", name, &v[0],
               &v[1], &v[2], &v[3], &v[4]) != 6)
      continue;
    if (strncmp(name, "loop", 4) == 0 || strncmp(name, "ram", 3) == 0 ||
        strncmp(name, "zram", 4) == 0 || v[0] + v[2] == 0 || is_partition(s, name))
      continue;
    lv_proc_dev *d = &s->disk[s->n_disks++];
    memcpy(d->name, name, sizeof name);
    d->in_count = v[0];
    d->in_bytes = v[1] * 512; /* sectors of 512 bytes, whatever the disk's are */
    d->out_count = v[2];
    d->out_bytes = v[3] * 512;
    d->busy_ms = v[4];
  }
  fclose(f);
}

static void read_nets(const char *root, lv_proc_sample *s) {
  char line[512];
  FILE *f = file(root, "net/dev");
  if (!f) return;
  while (s->n_nets < LV_PROC_DEVS && fgets(line, sizeof line, f)) {
    unsigned long long v[4];
    char *colon = strchr(line, ':'), *name = line;
    if (!colon) continue; /* the two lines of headings */
    *colon = 0;
    while (*name == ' ') name++;
    if (sscanf(colon + 1, "%llu %llu %*u %*u %*u %*u %*u %*u %llu %llu", &v[0], &v[1], &v[2],
               &v[3]) != 4 ||
        v[1] + v[3] == 0 || strlen(name) >= LV_PROC_NAME)
      continue;
    lv_proc_dev *d = &s->net[s->n_nets++];
    snprintf(d->name, sizeof d->name, "%s", name);
    d->in_bytes = v[0];
    d->in_count = v[1];
    d->out_bytes = v[2];
    d->out_count = v[3];
  }
  fclose(f);
}

static void read_pressure(const char *root, lv_proc_sample *s) {
  char name[32], line[256];
  for (int i = 0; i < 3; i++) {
    lv_proc_pressure *p = &s->pressure[i];
    double avg;
    unsigned long long total;
    snprintf(name, sizeof name, "pressure/%s", lv_proc_pressure_names[i]);
    FILE *f = file(root, name);
    if (!f) continue;
    while (fgets(line, sizeof line, f)) {
      if (sscanf(line, "some avg10=%lf avg60=%*f avg300=%*f total=%llu", &avg, &total) == 2) {
        p->there = true;
        p->some10 = avg;
        p->some_us = total;
      } else if (sscanf(line, "full avg10=%lf avg60=%*f avg300=%*f total=%llu", &avg, &total) ==
                 2) {
        p->has_full = true;
        p->full10 = avg;
        p->full_us = total;
      }
    }
    fclose(f);
  }
}

int lv_proc_read(const char *root, lv_proc_sample *ret) {
  uint64_t at = ret->at_ns;
  assert(root);
  memset(ret, 0, sizeof *ret);
  ret->at_ns = at;
  int r = read_stat(root, ret);
  if (r) return r;
  read_memory(root, ret);
  read_load(root, ret);
  read_disks(root, ret);
  read_nets(root, ret);
  read_pressure(root, ret);
  return 0;
}

/* ---- values ---- */
/* Counters may go back when a device is replaced. */
static double grown(uint64_t a, uint64_t b) {
  return b > a ? (double)(b - a) : 0;
}

static double percent(double part, double whole) {
  double v = whole > 0 ? 100 * part / whole : 0;
  return v > 100 ? 100 : v;
}

static void cpu_values(const lv_proc_sample *a, const lv_proc_sample *b, lv_proc_value_fn *fn,
                       void *arg) {
  for (uint32_t i = 0; i < b->n_cpus; i++) {
    char key[16], json[200];
    double d[LV_CPU_FIELDS], all = 0;
    for (int k = 0; k < LV_CPU_FIELDS; k++) all += d[k] = grown(a->cpu[i][k], b->cpu[i][k]);
    snprintf(key, sizeof key, "%u", i);
    snprintf(json, sizeof json, "{\"used\":%.1f,\"user\":%.1f,\"system\":%.1f,\"iowait\":%.1f}",
             percent(d[LV_CPU_USER] + d[LV_CPU_SYSTEM], all), percent(d[LV_CPU_USER], all),
             percent(d[LV_CPU_SYSTEM], all), percent(d[LV_CPU_IOWAIT], all));
    fn(arg, "cpu", key, json);
  }
}

static void machine_values(const lv_proc_sample *b, lv_proc_value_fn *fn, void *arg) {
  char json[256];
  if (b->has_memory) {
    uint64_t used = b->mem_total - (b->mem_available < b->mem_total ? b->mem_available : 0);
    snprintf(json, sizeof json,
             "{\"used\":%.1f,\"used_bytes\":%llu,\"total_bytes\":%llu,\"swap_used_bytes\":%llu}",
             percent((double)used, (double)b->mem_total), (unsigned long long)used,
             (unsigned long long)b->mem_total, (unsigned long long)(b->swap_total - b->swap_free));
    fn(arg, "memory", "", json);
  }
  if (b->has_load) {
    snprintf(json, sizeof json,
             "{\"load1\":%.2f,\"load5\":%.2f,\"load15\":%.2f,\"running\":%u,\"tasks\":%u}",
             b->load[0], b->load[1], b->load[2], b->running, b->tasks);
    fn(arg, "load", "", json);
  }
}

static const lv_proc_dev *same(const lv_proc_dev *list, uint32_t n, const char *name) {
  for (uint32_t i = 0; i < n; i++)
    if (strcmp(list[i].name, name) == 0) return &list[i];
  return NULL;
}

static void dev_values(const lv_proc_sample *a, const lv_proc_sample *b, lv_proc_value_fn *fn,
                       void *arg) {
  double s = grown(a->at_ns, b->at_ns) / 1e9;
  char json[256];
  if (s <= 0) s = 1;
  for (uint32_t i = 0; i < b->n_disks; i++) {
    const lv_proc_dev *d = &b->disk[i], *o = same(a->disk, a->n_disks, d->name);
    if (!o) continue;
    snprintf(json, sizeof json,
             "{\"read_bps\":%.0f,\"write_bps\":%.0f,\"read_iops\":%.1f,\"write_iops\":%.1f,"
             "\"busy\":%.1f}",
             grown(o->in_bytes, d->in_bytes) / s, grown(o->out_bytes, d->out_bytes) / s,
             grown(o->in_count, d->in_count) / s, grown(o->out_count, d->out_count) / s,
             percent(grown(o->busy_ms, d->busy_ms) / 1000, s));
    fn(arg, "disk", d->name, json);
  }
  for (uint32_t i = 0; i < b->n_nets; i++) {
    const lv_proc_dev *d = &b->net[i], *o = same(a->net, a->n_nets, d->name);
    if (!o) continue;
    snprintf(json, sizeof json,
             "{\"in_bps\":%.0f,\"out_bps\":%.0f,\"in_pps\":%.1f,\"out_pps\":%.1f}",
             grown(o->in_bytes, d->in_bytes) / s, grown(o->out_bytes, d->out_bytes) / s,
             grown(o->in_count, d->in_count) / s, grown(o->out_count, d->out_count) / s);
    fn(arg, "net", d->name, json);
  }
}

static void pressure_values(const lv_proc_sample *a, const lv_proc_sample *b, lv_proc_value_fn *fn,
                            void *arg) {
  double us = grown(a->at_ns, b->at_ns) / 1000;
  char json[200];
  for (int i = 0; i < 3; i++) {
    const lv_proc_pressure *p = &b->pressure[i], *o = &a->pressure[i];
    if (!p->there) continue;
    int n = snprintf(json, sizeof json, "{\"some\":%.1f,\"some10\":%.2f",
                     percent(grown(o->some_us, p->some_us), us), p->some10);
    if (p->has_full)
      n += snprintf(json + n, sizeof json - (size_t)n, ",\"full\":%.1f,\"full10\":%.2f",
                    percent(grown(o->full_us, p->full_us), us), p->full10);
    snprintf(json + n, sizeof json - (size_t)n, "}");
    fn(arg, "pressure", lv_proc_pressure_names[i], json);
  }
}

void lv_proc_values(const lv_proc_sample *a, const lv_proc_sample *b, lv_proc_value_fn *fn,
                    void *arg) {
  assert(a && b && fn);
  cpu_values(a, b, fn, arg);
  machine_values(b, fn, arg);
  dev_values(a, b, fn, arg);
  pressure_values(a, b, fn, arg);
}
