/* api.h: the REST API as the administration commands (app, channel, key) speak it: whom to ask and
 * as whom, one request, a list with all its pages. Over libcurl, JSON by jansson. @thread main */
#ifndef LV_CLI_API_H
#define LV_CLI_API_H
#include "cli/cli.h"
#include "cli/env.h"
#include <jansson.h>

/* What was asked for; NULL: not given. */
typedef struct lv_cli_api_args {
  const char *server, *key, *data, *ca;
  bool insecure;
} lv_cli_api_args;

/* `args` is the command's struct, which has an lv_cli_api_args named `api`. */
#define LV_CLI_API_OPT(args, name, letter, arg, kind, field, help)                                 \
  { name, letter, arg, LV_CLI_##kind, offsetof(args, api.field), 0, 0, help }
#define LV_CLI_API_OPTS(args)                                                                      \
  {NULL, 0, NULL, 0, 0, 0, 0, "server"},                                                           \
      LV_CLI_API_OPT(args, "server", 's', "URL", TEXT, server, "http://HOST:PORT or https://…"),   \
      LV_CLI_API_OPT(                                                                              \
          args, "key", 'k', "KEY", TEXT, key,                                                      \
          "an administrator's key; better in\nLAVVA_ADMIN_KEY, which `ps` does not show"),         \
      LV_CLI_API_OPT(                                                                              \
          args, "data", 0, "DIR", TEXT, data,                                                      \
          "development instance to use when nothing else\nis said: DIR/dev.env (default "          \
          "lavva-data)"),                                                                          \
      LV_CLI_API_OPT(args, "ca", 0, "FILE", TEXT, ca, "PEM: whom to trust over https"),            \
      LV_CLI_API_OPT(args, "insecure", 0, NULL, FLAG, insecure, "do not check the server's name")
#define LV_CLI_API_ABOUT                                                                           \
  "The server is the one of --server, else of LAVVA_HTTP in the environment, else the\n"           \
  "development instance of ./lavva-data, else http://localhost:8080. The key is that of --key,\n"  \
  "else of LAVVA_ADMIN_KEY, else the development instance's.\n"

typedef struct lv_cli_api {
  const lv_cli_cmd *cmd;
  char base[300]; /* http://HOST:PORT/api/v1 */
  char *key, *ca; /* heap; NULL: none */
  bool insecure;
  lv_cli_env env;
} lv_cli_api;

/* Exit code, or 0. */
int lv_cli_api_resolve(const lv_cli_cmd *cmd, const lv_cli_api_args *args, lv_cli_api *ret_api);
void lv_cli_api_done(lv_cli_api *api);
/* One request; body may be NULL. 0 and *ret_answer (NULL: empty; the caller's), or an exit code
 * after the server's reason was told. */
int lv_cli_api_call(lv_cli_api *api, const char *method, const char *path, const json_t *body,
                    json_t **ret_answer);
/* All items of a list, page by page. As above. */
int lv_cli_api_list(lv_cli_api *api, const char *path, json_t **ret_items);
/* A path's segment, percent-encoded, into dst. */
const char *lv_cli_api_segment(const char *name, char *dst, size_t size);

#endif
