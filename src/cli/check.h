/* check.h: `lavva check`, and how findings look. */
#ifndef LV_CLI_CHECK_H
#define LV_CLI_CHECK_H
#include "cli/cli.h"
#include "core/conf.h"

extern const lv_cli_cmd lv_cli_check;
/* lv_conf_issue_fn that prints to stderr; arg: a uint32_t that counts, or NULL. */
void lv_cli_issue_print(void *arg, const lv_conf_issue *issue);

#endif
