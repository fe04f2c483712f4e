/* env.h: `DIR/dev.env`, the facts of a development instance as shell assignments, which `serve`
 * writes and the other commands read. Values are single-quoted; only that form and bare words are
 * read. */
#ifndef LV_CLI_ENV_H
#define LV_CLI_ENV_H
#include <stddef.h>

#define LV_CLI_ENV_NAMES(X)                                                                        \
  X(APP) X(CHANNEL) X(KEY) X(HTTP) X(HTTPS) X(MQTT) X(MQTTS) X(PID) X(CA) X(ADMIN_KEY)

enum lv_cli_env_name {
#define X(name) LV_ENV_##name,
  LV_CLI_ENV_NAMES(X)
#undef X
      LV_ENV_COUNT
};
enum { LV_CLI_ENV_VALUE_MAX = 4200 };

typedef struct lv_cli_env {
  char *v[LV_ENV_COUNT]; /* heap; NULL: not there */
} lv_cli_env;

/* Reads a file. LV_E_NOT_FOUND, LV_E_IO, LV_E_MALFORMED; env is empty then. */
int lv_cli_env_read(const char *path, lv_cli_env *ret_env);
/* Reads the process's environment (LAVVA_APP, …). */
void lv_cli_env_process(lv_cli_env *ret_env);
/* Writes PATH, mode 0600, so that readers see the whole file or none: a file beside it, fsync,
 * rename. LV_E_IO and the like, errno kept. */
int lv_cli_env_write(const char *path, const lv_cli_env *env);
void lv_cli_env_set(lv_cli_env *env, enum lv_cli_env_name name, const char *value);
void lv_cli_env_done(lv_cli_env *env);

#endif
