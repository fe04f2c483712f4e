/* logtool.h: a data folder read for people: what `lavva log inspect|verify|dump` shows.
 *
 * The folder is never changed, and may be in use by a server meanwhile: what is shown is what a
 * server that started now would recover. @thread one, for everything. */
#ifndef LV_BROKER_LOGTOOL_H
#define LV_BROKER_LOGTOOL_H
#include "broker/chan.h"
#include "core/buf.h"
#include "core/rec.h"

typedef struct lv_logtool lv_logtool;

typedef struct lv_logtool_log {
  const char *name;     /* "mem" or "disk" */
  char epoch[24];       /* as the server says it now, or said it last */
  uint64_t oldest, end; /* addresses (lsn) */
  uint64_t disk_bytes;
  uint32_t segments;
  uint64_t torn_bytes, damaged_bytes; /* cut from the end; failing their checksum before it */
  uint64_t keys;                      /* live keyed records: state, channels, retained messages */
  bool clean;                         /* shut down cleanly (a server in use: no) */
} lv_logtool_log;

typedef struct lv_logtool_seg {
  const char *log;
  uint64_t base, end;  /* addresses */
  uint64_t file_bytes; /* as sized */
  bool open, compacted;
} lv_logtool_seg;

typedef struct lv_logtool_chan {
  const lv_chan *chan; /* names, durability, retention */
  uint64_t first_offset, next_offset, bytes;
} lv_logtool_chan;

/* Opens a folder. LV_E_NOT_FOUND, LV_E_FORMAT, LV_E_CORRUPT, LV_E_IO; why: >= 256 bytes. */
int lv_logtool_open(const char *dir, lv_logtool **ret_tool, char *why);
void lv_logtool_close(lv_logtool *t);

const lv_logtool_log *lv_logtool_logs(const lv_logtool *t, uint32_t *ret_n);
const lv_logtool_seg *lv_logtool_segs(const lv_logtool *t, uint32_t *ret_n);
/* By app, then name. */
const lv_logtool_chan *lv_logtool_chans(const lv_logtool *t, uint32_t *ret_n);
/* All of it as text for a terminal. */
void lv_logtool_text(const lv_logtool *t, lv_buf *out);

/* A channel by "app/name", or by its name alone when only one app has it. LV_E_NOT_FOUND;
 * LV_E_INVALID: several apps have it. */
int lv_logtool_find(const lv_logtool *t, lv_slice name, const lv_logtool_chan **ret_chan);

/* Calls fn for each retained message of the channel with offset >= from, in offset order; pos is
 * its position, "EPOCH-OFFSET". fn returns 0 to go on; anything else ends it and is returned. A
 * damaged record is left out and counted in ret_damaged. */
typedef int lv_logtool_rec_fn(void *arg, const lv_rec *rec, const char *pos);
int lv_logtool_dump(lv_logtool *t, const lv_logtool_chan *chan, uint64_t from,
                    lv_logtool_rec_fn *fn, void *arg, uint64_t *ret_damaged);

/* Reads every byte that counts. fn gets a line of text for each finding. 0: sound (a torn tail is);
 * LV_E_CORRUPT: something was lost; or why it could not be read. ret_records: looked at. */
int lv_logtool_verify(const char *dir, void (*fn)(void *arg, const char *text), void *arg,
                      uint64_t *ret_records);

#endif
