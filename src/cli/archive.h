/* archive.h: a backup as a file: a tar archive (zstd or plain) of a data folder's files, that says
 * of itself what is in it, so that nothing is believed before all of it was checked.
 *
 *   lavva-backup.json   first: {"format", "version", "created"}: read before anything else
 *   NAME …              files of the folder, flat
 *   manifest.json       {"format", …, "files": [{"name", "size", "sha256"}, …]}
 *   manifest.sha256     SHA-256 of manifest.json, as sha256sum prints it; last
 *
 * An archive without its last two members is not whole. Any tar that knows zstd unpacks it, and
 * `sha256sum -c manifest.sha256` works on it. @thread one, for everything. */
#ifndef LV_CLI_ARCHIVE_H
#define LV_CLI_ARCHIVE_H
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LV_ARCHIVE_FORMAT = 1, LV_ARCHIVE_WHY = 512, LV_ARCHIVE_NAME = 128 };

/* Whether a name may be a member: one path component of [A-Za-z0-9._-], no dot in front. */
bool lv_archive_name_ok(const char *name);

typedef struct lv_archive_out lv_archive_out;
/* Bytes of a member from `at` on: exactly n; 0, or a negative lv_err. */
typedef int lv_archive_read(void *arg, void *dst, uint32_t n, uint64_t at);
/* Called now and then with the bytes read or written since the last call. */
typedef void lv_archive_tick(void *arg, uint64_t bytes);

/* Writes to fd, which stays the caller's. Each returns 0, or a negative lv_err with why. */
int lv_archive_create(int fd, bool zstd, lv_archive_out **ret_out, char *why);
int lv_archive_add(lv_archive_out *out, const char *name, uint64_t size, lv_archive_read *read,
                   void *arg, char *why);
/* Adds manifest and end. `facts`: more members for the manifest; stolen. */
int lv_archive_finish(lv_archive_out *out, json_t *facts, char *why);
void lv_archive_on_tick(lv_archive_out *out, lv_archive_tick *tick, void *arg);
/* Frees, also an unfinished one. */
void lv_archive_free(lv_archive_out *out);

/* Unpacks the archive read from fd into an empty folder and checks all of it: members, sizes and
 * checksums are those of the manifest. folder -1: checks only. LV_E_CORRUPT, LV_E_FORMAT,
 * LV_E_DISK_FULL, LV_E_IO with why; what was written stays for the caller to remove. Files are
 * synced, the folder is not. ret_manifest: a reference. tick counts bytes read from fd. */
int lv_archive_unpack(int fd, int folder, lv_archive_tick *tick, void *arg, json_t **ret_manifest,
                      char *why);

#endif
