/* control.h: what the commands app, channel and key share: their verbs, fields given as
 * FIELD=VALUE, tables. @thread main */
#ifndef LV_CLI_CONTROL_H
#define LV_CLI_CONTROL_H
#include "cli/api.h"

/* A table's column: its head, and the field (with dots) that it shows. */
typedef struct lv_cli_column {
  const char *head, *field;
} lv_cli_column;

typedef struct lv_cli_control {
  const lv_cli_cmd *cmd;
  const lv_cli_api_args *api;
  bool json;
  char path[700];               /* of the collection, behind /api/v1 */
  const char *named;            /* field of its name */
  const lv_cli_column *columns; /* ended by a NULL head */
} lv_cli_control;

/* list, show NAME, create NAME [FIELD=VALUE…], set NAME FIELD=VALUE…, delete NAME: argv[1] is the
 * verb, n operands with it. `body` (may be NULL) is what create starts from; taken over. Exit code.
 */
int lv_cli_control_run(lv_cli_control *c, int n, char **argv, json_t *body);
/* FIELD=VALUE into an object: dots go down, nothing behind the = is null, a value that starts with
 * [ or { is JSON, `a,b` is a list where the field is one. False: not of that form. */
bool lv_cli_field(json_t *obj, const char *text);
/* An app's collection into c->path: of --app, LAVVA_APP or the development instance's app. Exit
 * code, or 0. */
int lv_cli_control_app(lv_cli_control *c, const char *app, const char *what);

#endif
