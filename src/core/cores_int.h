/* cores_int.h: the cgroup part of lv_cores, on a file tree that tests can make. */
#ifndef LV_CORE_CORES_INT_H
#define LV_CORE_CORES_INT_H

/* Cores that cgroup quotas below root allow; INT_MAX when there is no quota. */
int lv__cores_quota(const char *root);

#endif
