/* freeze.h: the files of a data folder as they are at one moment, while a server may go on writing:
 * what `lavva backup` copies; and what a folder needs that was put together from such a copy.
 *
 * A frozen folder holds, for both logs, everything that was acknowledged before it was opened, in
 * the form that recovery would leave: sealed segments with their indexes, the open one up to its
 * last whole record. It stays so until it is closed, whatever the server does meanwhile: appended
 * records are not seen, dropped files stay readable (their space is given back at the close).
 *
 * @thread one, for everything. */
#ifndef LV_BROKER_FREEZE_H
#define LV_BROKER_FREEZE_H
#include "core/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LV_FREEZE_NAME = 64, LV_FREEZE_LOGS = 2 };

typedef struct lv_freeze lv_freeze;

typedef struct lv_freeze_file {
  char name[LV_FREEZE_NAME];
  uint64_t size; /* bytes */
  int fd;        /* private */
} lv_freeze_file;

typedef struct lv_freeze_log {
  const char *name; /* "mem" or "disk" */
  char epoch[24];
  uint64_t end;    /* address behind the last record */
  uint32_t format; /* of its files */
} lv_freeze_log;

/* Opens a data folder. LV_E_NOT_FOUND (no folder, or no log in it), LV_E_FORMAT, LV_E_CORRUPT,
 * LV_E_IO with a text in why (>= 256 bytes). May wait for a retention job of the server. */
int lv_freeze_open(const char *dir, lv_freeze **ret_freeze, char *why);
void lv_freeze_close(lv_freeze *f);
/* The logs' files, in an order in which they may be written to a new folder. */
const lv_freeze_file *lv_freeze_files(const lv_freeze *f, uint32_t *ret_n);
const lv_freeze_log *lv_freeze_logs(const lv_freeze *f);
/* Bytes of file i from `at` on: exactly n where the file has them; or a negative error. */
int64_t lv_freeze_read(lv_freeze *f, uint32_t i, void *dst, uint32_t n, uint64_t at);
/* Whether a name in a data folder is one of a log's files, spares and leftovers included. */
bool lv_freeze_is_log(const char *name);

/* Makes a folder of copied files into one that a server may run on: recovers both logs and begins a
 * new epoch in each, since customers may have seen positions behind the copy. Everything is on the
 * disk afterwards. The folder must not be in use (LV_E_LOCKED). LV_E_FORMAT, LV_E_CORRUPT, LV_E_IO,
 * LV_E_DISK_FULL with a text in why (>= 256 bytes). */
int lv_freeze_thaw(const char *dir, char *why);

#endif
