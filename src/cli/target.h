/* target.h: which server a client command talks to, and as whom: options that pub, sub, demo and
 * top share, with the development instance's dev.env as the default. */
#ifndef LV_CLI_TARGET_H
#define LV_CLI_TARGET_H
#include "cli/cli.h"
#include "cli/env.h"

/* What was asked for; NULL: not given. */
typedef struct lv_cli_target_args {
  const char *url, *app, *key, *user, *password, *data, *ca, *cert, *cert_key, *id;
  uint64_t version, keep_alive_s;
  bool insecure;
} lv_cli_target_args;

#define LV_CLI_TARGET_DEFAULTS                                                                     \
  { .version = 5, .keep_alive_s = 30 }
#define LV_CLI_TARGET_OPT(args, name, letter, arg, kind, field, lo, hi, help)                      \
  { name, letter, arg, LV_CLI_##kind, offsetof(args, target.field), lo, hi, help }
/* `args` is the command's struct, which has an lv_cli_target_args named `target`. */
#define LV_CLI_TARGET_OPTS(args)                                                                   \
  {NULL, 0, NULL, 0, 0, 0, 0, "server"},                                                           \
      LV_CLI_TARGET_OPT(args, "url", 'u', "URL", TEXT, url, 0, 0,                                  \
                        "mqtt://HOST[:PORT] or mqtts://HOST[:PORT]"),                              \
      LV_CLI_TARGET_OPT(args, "app", 'a', "APP", TEXT, app, 0, 0, "app to act in (MQTT user)"),    \
      LV_CLI_TARGET_OPT(args, "key", 'k', "KEY", TEXT, key, 0, 0,                                  \
                        "its key (MQTT password); better in LAVVA_KEY,\n"                          \
                        "which `ps` does not show"),                                               \
      LV_CLI_TARGET_OPT(args, "data", 0, "DIR", TEXT, data, 0, 0,                                  \
                        "development instance to use when nothing else\n"                          \
                        "is said: DIR/dev.env (default lavva-data)"),                              \
      LV_CLI_TARGET_OPT(args, "id", 'i', "ID", TEXT, id, 0, 0, "client id (default: random)"),     \
      LV_CLI_TARGET_OPT(args, "mqtt-version", 'V', "N", U64, version, 3, 5,                        \
                        "5 (default), or 3 or 4 for 3.1.1"),                                       \
      LV_CLI_TARGET_OPT(args, "keep-alive", 0, "SECONDS", U64, keep_alive_s, 0, 65535,             \
                        "default 30; 0: none"),                                                    \
      LV_CLI_TARGET_OPT(args, "ca", 0, "FILE", TEXT, ca, 0, 0, "PEM: whom to trust over TLS"),     \
      LV_CLI_TARGET_OPT(args, "cert", 0, "FILE", TEXT, cert, 0, 0, "PEM: own certificate"),        \
      LV_CLI_TARGET_OPT(args, "cert-key", 0, "FILE", TEXT, cert_key, 0, 0,                         \
                        "PEM: its private key"),                                                   \
      LV_CLI_TARGET_OPT(args, "insecure", 0, NULL, FLAG, insecure, 0, 0,                           \
                        "do not check the server's name")
#define LV_CLI_TARGET_ABOUT                                                                        \
  "The server is the one of --url, else of LAVVA_MQTT in the environment, else the development\n"  \
  "instance of ./lavva-data (`lavva serve`), else localhost:1883. The same order holds for "       \
  "--app\n"                                                                                        \
  "and --key (LAVVA_APP, LAVVA_KEY).\n"

/* What it comes to. */
typedef struct lv_cli_target {
  char host[256];
  uint16_t port;
  bool tls, insecure;
  int version;
  int keep_alive_s;
  char *user, *password; /* heap; NULL: none */
  char *ca, *cert, *cert_key, *id;
  lv_cli_env env; /* of the development instance, when it is the target */
} lv_cli_target;

/* Exit code, or 0. */
int lv_cli_target_resolve(const lv_cli_cmd *cmd, const lv_cli_target_args *args,
                          lv_cli_target *ret_target);
void lv_cli_target_done(lv_cli_target *t);

#endif
