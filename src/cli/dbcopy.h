/* dbcopy.h: an SQLite file of a data folder (NAME.db) as one piece of memory, for a backup while it
 * is in use. They hold apps, channels, keys, usage: small beside the logs. @thread one */
#ifndef LV_CLI_DBCOPY_H
#define LV_CLI_DBCOPY_H
#include <stdbool.h>
#include <stdint.h>

#define LV_DBCOPY_CONTROL "master.db" /* the control store */

typedef struct lv_dbcopy {
  unsigned char *bytes; /* NULL: there is no such file */
  uint64_t size;
  int format; /* its number, PRAGMA user_version */
} lv_dbcopy;

/* Whether a name is that of a database, or of what SQLite keeps beside one. */
bool lv_dbcopy_is(const char *name);
bool lv_dbcopy_beside(const char *name);
/* Reads a database of a data folder, consistent in itself, beside whoever writes. As root it acts
 * as the file's owner, so that nothing is left there that the server cannot use. LV_E_IO,
 * LV_E_BUSY, LV_E_CORRUPT with why (>= 256 bytes). */
int lv_dbcopy_read(const char *dir, const char *name, lv_dbcopy *ret, char *why);
void lv_dbcopy_done(lv_dbcopy *c);
/* Whether a database in a folder is sound. */
int lv_dbcopy_check(const char *dir, const char *name, char *why);

#endif
