/* archive_int.h: what the two halves of archive.h share. */
#ifndef LV_CLI_ARCHIVE_INT_H
#define LV_CLI_ARCHIVE_INT_H
#include "cli/archive.h"
#include <openssl/evp.h>

#define LV__ARCHIVE_FIRST "lavva-backup.json"
#define LV__ARCHIVE_MANIFEST "manifest.json"
#define LV__ARCHIVE_SUM "manifest.sha256"
enum { LV__ARCHIVE_PIECE = 256 * 1024, LV__ARCHIVE_HEX = 65, LV__ARCHIVE_JSON_MAX = 64 << 20 };

/* The digest of what went into ctx as hex, and ctx ready for the next one. */
void lv__archive_hex(EVP_MD_CTX *ctx, char ret[LV__ARCHIVE_HEX]);
void lv__archive_sha(EVP_MD_CTX *ctx, const void *p, size_t n);
EVP_MD_CTX *lv__archive_sha_new(void);

#endif
