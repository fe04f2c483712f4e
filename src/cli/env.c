/* env.c: dev.env, read and written. */
#include "cli/env.h"
#include "core/err.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const names[LV_ENV_COUNT] = {
#define X(name) "LAVVA_" #name,
    LV_CLI_ENV_NAMES(X)
#undef X
};

void lv_cli_env_set(lv_cli_env *env, enum lv_cli_env_name name, const char *value) {
  assert(name < LV_ENV_COUNT);
  free(env->v[name]);
  env->v[name] = value ? strdup(value) : NULL;
}

void lv_cli_env_done(lv_cli_env *env) {
  for (int i = 0; i < LV_ENV_COUNT; i++) free(env->v[i]);
  memset(env, 0, sizeof *env);
}

void lv_cli_env_process(lv_cli_env *ret_env) {
  memset(ret_env, 0, sizeof *ret_env);
  for (int i = 0; i < LV_ENV_COUNT; i++)
    lv_cli_env_set(ret_env, (enum lv_cli_env_name)i, getenv(names[i]));
}

/* A shell word in place: '…' with '\'' inside, or without quotes. */
static int unquote(char *s) {
  char *to = s;
  bool quoted = false;
  for (char *p = s; *p; p++) {
    if (*p == '\'')
      quoted = !quoted;
    else if (!quoted && *p == '\\' && p[1])
      *to++ = *++p;
    else if (!quoted && strchr(" \t\"$`;&|<>()", *p))
      return LV_E_MALFORMED;
    else
      *to++ = *p;
  }
  *to = 0;
  return quoted ? LV_E_MALFORMED : 0;
}

static int take_line(lv_cli_env *env, char *line) {
  line[strcspn(line, "\n")] = 0;
  char *eq = strchr(line, '=');
  if (line[0] == '#' || line[0] == 0) return 0;
  if (!eq) return LV_E_MALFORMED;
  *eq = 0;
  for (int i = 0; i < LV_ENV_COUNT; i++) {
    if (strcmp(line, names[i]) != 0) continue;
    if (unquote(eq + 1)) return LV_E_MALFORMED;
    lv_cli_env_set(env, (enum lv_cli_env_name)i, eq + 1);
  }
  return 0;
}

int lv_cli_env_read(const char *path, lv_cli_env *ret_env) {
  char line[LV_CLI_ENV_VALUE_MAX + 64];
  int r = 0;
  memset(ret_env, 0, sizeof *ret_env);
  FILE *f = fopen(path, "re");
  if (!f) return errno == ENOENT || errno == ENOTDIR ? LV_E_NOT_FOUND : LV_E_IO;
  while (r == 0 && fgets(line, sizeof line, f)) r = take_line(ret_env, line);
  if (r == 0 && ferror(f)) r = LV_E_IO;
  fclose(f);
  if (r) lv_cli_env_done(ret_env);
  return r;
}

static void put_quoted(FILE *f, const char *s) {
  fputc('\'', f);
  for (; *s; s++) {
    if (*s == '\'')
      fputs("'\\''", f);
    else
      fputc(*s, f);
  }
  fputs("'\n", f);
}

int lv_cli_env_write(const char *path, const lv_cli_env *env) {
  char tmp[LV_CLI_ENV_VALUE_MAX];
  int n = snprintf(tmp, sizeof tmp, "%s.%ld", path, (long)getpid());
  if (n < 0 || (size_t)n >= sizeof tmp) return LV_E_TOO_BIG;
  (void)unlink(tmp);
  int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return lv_err_from_errno(errno);
  FILE *f = fdopen(fd, "w");
  if (!f) {
    close(fd);
    return LV_E_NOMEM;
  }
  for (int i = 0; i < LV_ENV_COUNT; i++) {
    if (!env->v[i]) continue;
    fprintf(f, "%s=", names[i]);
    put_quoted(f, env->v[i]);
  }
  bool ok = fflush(f) == 0 && fsync(fd) == 0;
  ok = fclose(f) == 0 && ok;
  if (ok) ok = rename(tmp, path) == 0;
  if (ok) return 0;
  int r = lv_err_from_errno(errno);
  (void)unlink(tmp);
  return r;
}
