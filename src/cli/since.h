/* since.h: `lavva sub --since`: channels from a position, a time or their start on, over the hub's
 * WebSocket. @thread main */
#ifndef LV_CLI_SINCE_H
#define LV_CLI_SINCE_H
#include "cli/target.h"

typedef struct lv_since_args {
  const char *since;
  lv_cli_texts channels; /* CHANNEL or CHANNEL/FILTER, where FILTER is the same of all */
  const char *format;    /* a template, or NULL */
  bool json, raw, hex, quiet;
  uint64_t count, wait_ms; /* 0: no end */
} lv_since_args;

/* Exit code. */
int lv_cli_since(const lv_cli_cmd *cmd, lv_cli_target_args *target, const lv_since_args *args);

#endif
