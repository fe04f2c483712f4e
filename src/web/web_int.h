/* web_int.h: the files that the build puts into the binary (scripts/embed.py). */
#ifndef LV_WEB_INT_H
#define LV_WEB_INT_H
#include <stdint.h>

typedef struct lv__web_file {
  const char *name, *type, *etag, *etag_packed;
  const uint8_t *plain;
  uint32_t n_plain;
  const uint8_t *packed; /* gzip */
  uint32_t n_packed;
} lv__web_file;
extern const lv__web_file lv__web_files[];
extern const char lv__web_version[]; /* of all of them together */
extern const uint32_t lv__web_n_files;

#endif
