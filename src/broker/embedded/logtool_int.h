/* logtool_int.h: private to the log tool: the view of a folder, and a broker without threads. */
#ifndef LV_BROKER_LOGTOOL_INT_H
#define LV_BROKER_LOGTOOL_INT_H
#include "broker/embedded/embedded_int.h"

/* A disk on `dir` that never changes it. LV_E_NOT_FOUND: no such folder. @thread one */
int lv__disk_view_new(const char *dir, lv_disk **ret_disk);

#endif
