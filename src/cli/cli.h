/* cli.h: what the subcommands share: one description a command (its options, its help, its
 * examples), from which parsing and `--help` both come, and the exit codes.
 *
 *   static const lv_cli_opt opts[] = {{"count", 'C', "N", LV_CLI_U64, offsetof(args, count), …}};
 *   const lv_cli_cmd lv_cli_sub = {.name = "sub", .opts = opts, …, .run = run};
 *
 * @thread main, for everything. */
#ifndef LV_CLI_CLI_H
#define LV_CLI_CLI_H
#include "core/slice.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum lv_cli_exit {
  LV_EXIT_OK = 0,
  LV_EXIT_FAIL = 1,    /* did not work out; the reason is on stderr */
  LV_EXIT_TIMEOUT = 2, /* the wait that was asked for is over */
  LV_EXIT_REFUSED = 3, /* the server said no: wrong key, no right, over a limit */
  LV_EXIT_USAGE = 64,  /* wrong arguments, or a file with findings */
};

enum lv_cli_kind {
  LV_CLI_FLAG,  /* bool */
  LV_CLI_TEXT,  /* const char * */
  LV_CLI_TEXTS, /* lv_cli_texts: may be given several times */
  LV_CLI_U64,   /* uint64_t, within min … max */
  LV_CLI_RATE,  /* double, > 0 */
  LV_CLI_MS,    /* uint64_t milliseconds from "5s", "500ms", "5" (seconds) */
};

typedef struct lv_cli_opt {
  const char *name; /* --name; NULL: a heading in the help */
  char letter;      /* -x; 0: none */
  const char *arg;  /* NULL for a flag */
  uint8_t kind;
  uint32_t offset; /* in the command's arguments */
  uint64_t min, max;
  const char *help;
} lv_cli_opt;

enum { LV_CLI_TEXTS_MAX = 64 };
typedef struct lv_cli_texts {
  const char *v[LV_CLI_TEXTS_MAX];
  uint32_t n;
} lv_cli_texts;

typedef struct lv_cli_cmd {
  const char *name, *usage; /* usage: what follows the name */
  const char *summary;      /* one line for the list of commands */
  const char *about;        /* paragraphs behind the usage; may be NULL */
  const char *examples;     /* may be NULL */
  const lv_cli_opt *opts;
  uint32_t n_opts;
  int (*run)(const struct lv_cli_cmd *cmd, int argc, char **argv); /* argv[0]: the name */
} lv_cli_cmd;
#define LV_CLI_OPTS(table) .opts = table, .n_opts = sizeof(table) / sizeof *(table)

/* The commands, for help and main. */
extern const lv_cli_cmd *const lv_cli_commands[];
extern const uint32_t lv_cli_n_commands;

/* Reads options into obj (which holds the defaults already); what is no option is gathered at the
 * front of argv[1 …], its count goes to ret_n. 0: go on. Otherwise the command ends with
 * *ret_exit: after --help, or after a message about wrong usage. */
int lv_cli_parse(const lv_cli_cmd *cmd, int argc, char **argv, void *obj, int *ret_n,
                 int *ret_exit);
/* Says what is wrong with the arguments; returns LV_EXIT_USAGE. */
int lv_cli_usage(const lv_cli_cmd *cmd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "lavva NAME: text" on stderr; returns LV_EXIT_FAIL. */
int lv_cli_fail(const lv_cli_cmd *cmd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void lv_cli_help(const lv_cli_cmd *cmd, FILE *out);
/* "5s", "500ms", "2m", "1h", "1.5" (seconds) as milliseconds. LV_E_INVALID. */
int lv_cli_ms(const char *text, uint64_t *ret_ms);

#endif
