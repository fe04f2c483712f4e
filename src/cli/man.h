/* man.h: the manual page of the commands and the completions of shells, out of the tables that make
 * `--help`. @thread main */
#ifndef LV_CLI_MAN_H
#define LV_CLI_MAN_H
#include <stdio.h>

/* lavva(1), in roff's man macros. */
void lv_man_commands(FILE *out);
/* What bash (share/bash-completion/completions/lavva) and zsh (_lavva) read. */
void lv_man_bash(FILE *out);
void lv_man_zsh(FILE *out);

#endif
