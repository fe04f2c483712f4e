/* commands.h: one description for each subcommand. */
#ifndef LV_CLI_COMMANDS_H
#define LV_CLI_COMMANDS_H
#include "cli/cli.h"

/* How we were called, for commands to paste: "lavva", "build/lavva". */
extern const char *lv_cli_program;

extern const lv_cli_cmd lv_cli_serve, lv_cli_pub, lv_cli_sub, lv_cli_demo, lv_cli_top, lv_cli_log,
    lv_cli_check, lv_cli_app, lv_cli_channel, lv_cli_key, lv_cli_version, lv_cli_help_cmd,
    lv_cli_backup, lv_cli_restore, lv_cli_usage_cmd;

#endif
