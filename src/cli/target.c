/* target.c: options, environment and dev.env put together into one server address and identity. */
#include "cli/target.h"
#include "core/err.h"
#include "core/rand.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *copy(const char *s) {
  return s ? strdup(s) : NULL;
}

/* HOST, HOST:PORT, [IPV6], [IPV6]:PORT. */
static bool host_port(const char *s, size_t n, lv_cli_target *t) {
  const char *port = NULL, *host = s;
  size_t host_n = n;
  if (n && s[0] == '[') {
    const char *end = memchr(s, ']', n);
    if (!end) return false;
    host = s + 1;
    host_n = (size_t)(end - host);
    if (end + 1 < s + n) port = end + 1;
  } else {
    port = memchr(s, ':', n);
    if (port) host_n = (size_t)(port - s);
  }
  if (host_n == 0 || host_n >= sizeof t->host) return false;
  if (port) {
    uint64_t v = 0;
    lv_slice digits = lv_slice_of(port + 1, (size_t)(s + n - port - 1));
    if (*port != ':' || lv_slice_u64(digits, &v) || v < 1 || v > UINT16_MAX) return false;
    t->port = (uint16_t)v;
  }
  memcpy(t->host, host, host_n);
  t->host[host_n] = 0;
  return true;
}

static int hex(char c) {
  return c >= '0' && c <= '9'                 ? c - '0'
         : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                              : -1;
}

/* A part of a URL with %XX decoded, on the heap. */
static char *decoded(const char *s, size_t n) {
  char *out = calloc(1, n + 1), *to = out;
  if (!out) abort();
  for (size_t i = 0; i < n; i++) {
    bool esc = s[i] == '%' && i + 2 < n && hex(s[i + 1]) >= 0 && hex(s[i + 2]) >= 0;
    *to++ = esc ? (char)(hex(s[i + 1]) << 4 | hex(s[i + 2])) : s[i];
    if (esc) i += 2;
  }
  return out;
}

/* [mqtt|mqtts://][USER[:PASSWORD]@]HOST[:PORT][/] */
static int url_take(const lv_cli_cmd *cmd, const char *url, lv_cli_target *t) {
  const char *rest = strstr(url, "://"), *p = rest ? rest + 3 : url;
  size_t scheme = rest ? (size_t)(rest - url) : 0;
  if (rest && scheme == 5 && memcmp(url, "mqtts", 5) == 0)
    t->tls = true;
  else if (rest && !(scheme == 4 && memcmp(url, "mqtt", 4) == 0))
    return lv_cli_usage(cmd, "--url %s: mqtt:// and mqtts:// are known", url);
  t->port = t->tls ? 8883 : 1883;
  size_t n = strcspn(p, "/");
  const char *at = memchr(p, '@', n);
  if (at) {
    const char *colon = memchr(p, ':', (size_t)(at - p));
    t->user = decoded(p, (size_t)((colon ? colon : at) - p));
    if (colon) t->password = decoded(colon + 1, (size_t)(at - colon - 1));
    n -= (size_t)(at + 1 - p);
    p = at + 1;
  }
  if (!host_port(p, n, t)) return lv_cli_usage(cmd, "--url: HOST:PORT expected");
  return 0;
}

/* The facts of the development instance: of the environment, or of DIR/dev.env when DIR was named
 * or the environment says nothing. */
static int env_take(const lv_cli_cmd *cmd, const lv_cli_target_args *a, lv_cli_target *t) {
  char path[LV_CLI_ENV_VALUE_MAX];
  lv_cli_env_process(&t->env);
  if (!a->data && (a->url || t->env.v[LV_ENV_MQTT])) return 0;
  snprintf(path, sizeof path, "%s/dev.env", a->data ? a->data : "lavva-data");
  lv_cli_env file;
  int r = lv_cli_env_read(path, &file);
  if (r == LV_E_NOT_FOUND && !a->data) return 0;
  if (r) return lv_cli_fail(cmd, "%s: %s (is `lavva serve` running?)", path, lv_err_text(r));
  lv_cli_env_done(&t->env);
  t->env = file;
  return 0;
}

static int address_take(const lv_cli_cmd *cmd, lv_cli_target *t) {
  const char *address = t->env.v[LV_ENV_MQTT];
  t->port = 1883;
  if (!address)
    snprintf(t->host, sizeof t->host, "localhost");
  else if (!host_port(address, strlen(address), t))
    return lv_cli_fail(cmd, "LAVVA_MQTT=%s: HOST:PORT expected", address);
  return 0;
}

static void identity(const lv_cli_target_args *a, lv_cli_target *t) {
  const char *app = a->app ? a->app : t->env.v[LV_ENV_APP];
  const char *key = a->key ? a->key : t->env.v[LV_ENV_KEY];
  if (a->app || !t->user) {
    free(t->user);
    t->user = copy(app);
  }
  if (a->key || !t->password) {
    free(t->password);
    t->password = copy(key);
  }
  t->ca = copy(a->ca ? a->ca : t->env.v[LV_ENV_CA]);
  t->cert = copy(a->cert);
  t->cert_key = copy(a->cert_key);
  if (a->id) {
    t->id = strdup(a->id);
  } else {
    char id[40];
    snprintf(id, sizeof id, "lavva-%s-%08x", "cli", (unsigned)lv_random_u64());
    t->id = strdup(id);
  }
}

int lv_cli_target_resolve(const lv_cli_cmd *cmd, const lv_cli_target_args *a,
                          lv_cli_target *ret_target) {
  lv_cli_target *t = ret_target;
  memset(t, 0, sizeof *t);
  t->version = a->version == 5 ? 5 : 4;
  t->keep_alive_s = (int)a->keep_alive_s;
  t->insecure = a->insecure;
  int r = env_take(cmd, a, t);
  if (r == 0) r = a->url ? url_take(cmd, a->url, t) : address_take(cmd, t);
  if (r == 0)
    identity(a, t);
  else
    lv_cli_target_done(t);
  return r;
}

void lv_cli_target_done(lv_cli_target *t) {
  free(t->user);
  free(t->password);
  free(t->ca);
  free(t->cert);
  free(t->cert_key);
  free(t->id);
  lv_cli_env_done(&t->env);
  memset(t, 0, sizeof *t);
}
