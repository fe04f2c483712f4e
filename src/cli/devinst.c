/* devinst.c: the development instance's key, document, dev.env and commands. */
#include "cli/devinst.h"
#include "cli/commands.h"
#include "cli/template.h"
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

/* `lv_<id>_<secret>` as we make them; anything else in the file is not taken over. */
static bool key_usable(const char *key) {
  if (!key || strlen(key) >= LV_CONF_KEY_MAX || strncmp(key, "lv_", 3) != 0) return false;
  const char *secret = strchr(key + 3, '_');
  if (!secret || secret == key + 3 || strlen(secret + 1) < 22) return false;
  return strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") ==
             strlen(key) &&
         !strchr(secret + 1, '_');
}

int lv_devinst_open(const char *dir, lv_devinst *ret) {
  lv_cli_env env;
  snprintf(ret->env_path, sizeof ret->env_path, "%s/dev.env", dir);
  int n = snprintf(ret->last_path, sizeof ret->last_path, "%s/dev.env.last", dir);
  if (n < 0 || (size_t)n >= sizeof ret->last_path) return LV_E_TOO_BIG;
  if (rename(ret->env_path, ret->last_path) && errno != ENOENT) return lv_err_from_errno(errno);
  ret->key[0] = ret->admin_key[0] = 0;
  if (lv_cli_env_read(ret->last_path, &env) == 0) {
    if (key_usable(env.v[LV_ENV_KEY])) snprintf(ret->key, sizeof ret->key, "%s", env.v[LV_ENV_KEY]);
    if (key_usable(env.v[LV_ENV_ADMIN_KEY]))
      snprintf(ret->admin_key, sizeof ret->admin_key, "%s", env.v[LV_ENV_ADMIN_KEY]);
    lv_cli_env_done(&env);
  }
  if (!ret->key[0]) (void)lv_conf_key_make(LV_DEVINST_APP, ret->key);
  if (!ret->admin_key[0]) (void)lv_conf_key_make(LV_DEVINST_ADMIN, ret->admin_key);
  return 0;
}

/* `id: …` and `hash: …` of a key, as items of a mapping. */
static void put_key(FILE *out, const char *indent, const char *key) {
  uint8_t hash[32];
  lv_conf_key_hash(lv_slice_str(key), hash);
  fprintf(out, "%s- id: %.*s\n%s  hash: sha256:", indent, (int)strcspn(key + 3, "_"), key + 3,
          indent);
  for (int i = 0; i < 32; i++) fprintf(out, "%02x", hash[i]);
  fputc('\n', out);
}

char *lv_devinst_document(const lv_devinst *d, const char *dir, bool anonymous) {
  char *text = NULL;
  size_t n = 0;
  FILE *out = open_memstream(&text, &n);
  if (!out) abort();
  fprintf(out, "server: {anonymous: %s}\n", anonymous ? "true" : "false");
  fprintf(out, "apps:\n- name: %s\n  auto_channels: true\n  channels: [{name: %s}]\n",
          LV_DEVINST_APP, LV_DEVINST_CHANNEL);
  fputs("  keys:\n", out);
  put_key(out, "  ", d->key);
  fputs("    publish: \"#\"\n    subscribe: \"#\"\n    sys: true\nkeys:\n", out);
  put_key(out, "", d->admin_key);
  fclose(out);
  return text;
}

static void env_facts(lv_cli_env *env, const lv_devinst *d, const lv_devinst_facts *f) {
  static const enum lv_cli_env_name names[LV_PROTO_COUNT] = {LV_ENV_MQTT, LV_ENV_MQTTS, LV_ENV_HTTP,
                                                             LV_ENV_HTTPS};
  char pid[24];
  snprintf(pid, sizeof pid, "%ld", (long)getpid());
  lv_cli_env_set(env, LV_ENV_APP, LV_DEVINST_APP);
  lv_cli_env_set(env, LV_ENV_CHANNEL, LV_DEVINST_CHANNEL);
  lv_cli_env_set(env, LV_ENV_KEY, d->key);
  lv_cli_env_set(env, LV_ENV_ADMIN_KEY, d->admin_key);
  lv_cli_env_set(env, LV_ENV_PID, pid);
  if (f->ca) lv_cli_env_set(env, LV_ENV_CA, f->ca);
  for (int i = 0; i < LV_PROTO_COUNT; i++)
    if (f->address[i]) lv_cli_env_set(env, names[i], f->address[i]);
}

int lv_devinst_publish(const lv_devinst *d, const lv_devinst_facts *f) {
  lv_cli_env env = {0};
  env_facts(&env, d, f);
  int r = lv_cli_env_write(d->env_path, &env);
  if (r == 0) (void)unlink(d->last_path);
  lv_cli_env_done(&env);
  return r;
}

/* A shell word: quoted where it has to be. */
static const char *word(const char *s, lv_cli_text *out) {
  const char *safe = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-./:@%+=,";
  out->n = 0;
  if (s[0] && strspn(s, safe) == strlen(s)) {
    lv_cli_text_put(out, s, strlen(s));
    return out->p;
  }
  lv_cli_text_put(out, "'", 1);
  for (; *s; s++) {
    if (*s == '\'')
      lv_cli_text_put(out, "'\\''", 4);
    else
      lv_cli_text_put(out, s, 1);
  }
  lv_cli_text_put(out, "'", 1);
  return out->p;
}

/* "-h HOST -p PORT" of an address; brackets are not for mosquitto's tools. */
static void host_port(const char *address, char *dst, size_t size) {
  lv_slice host;
  uint16_t port;
  int r = lv_conf_address(lv_slice_str(address), &host, &port);
  assert(r == 0);
  (void)r;
  snprintf(dst, size, "-h %.*s -p %u", (int)host.n, (const char *)host.p, port);
}

static void print_lavva(const lv_devinst_facts *f, lv_cli_text *w, FILE *out) {
  char data[4200] = "";
  if (strcmp(f->dir, "lavva-data") != 0) {
    snprintf(data, sizeof data, " --data %s", word(f->dir, w));
  }
  const char *me = lv_cli_program;
  fprintf(out, "  %s sub%s\n", me, data);
  fprintf(out, "  %s pub%s demo/hello world\n", me, data);
  fprintf(out, "  %s demo%s\n", me, data);
  fprintf(out, "  %s top%s\n", me, data);
}

void lv_devinst_print(const lv_devinst *d, const lv_devinst_facts *f, FILE *out) {
  static const char *const names[LV_PROTO_COUNT] = {"MQTT", "MQTT over TLS", "HTTP",
                                                    "HTTP over TLS"};
  static const char *const schemes[LV_PROTO_COUNT] = {"mqtt", "mqtts", "http", "https"};
  lv_cli_text w = {0};
  char at[300];
  fprintf(out, "Lavva %s, development instance in %s\n\n", LV_VERSION, f->dir);
  for (int i = 0; i < LV_PROTO_COUNT; i++)
    if (f->address[i]) fprintf(out, "  %-14s %s://%s\n", names[i], schemes[i], f->address[i]);
  fprintf(out, "  %-14s %s\n  %-14s %s\n", "app", LV_DEVINST_APP, "channel", LV_DEVINST_CHANNEL);
  if (f->address[LV_PROTO_HTTP])
    fprintf(out, "  %-14s http://%s/#app=%s&key=%s&admin=%s\n", "dashboard",
            f->address[LV_PROTO_HTTP], LV_DEVINST_APP, d->key, d->admin_key);
  fprintf(out, "  %-14s %s\n\nTry in another terminal:\n", "key", d->key);
  print_lavva(f, &w, out);
  if (f->address[LV_PROTO_MQTT]) {
    host_port(f->address[LV_PROTO_MQTT], at, sizeof at);
    fprintf(out, "  mosquitto_sub %s -u %s -P %s -t 'demo/#' -v\n", at, LV_DEVINST_APP, d->key);
    fprintf(out, "  mosquitto_pub %s -u %s -P %s -t demo/hello -m world\n", at, LV_DEVINST_APP,
            d->key);
  }
  if (f->address[LV_PROTO_MQTTS] && f->ca) {
    host_port(f->address[LV_PROTO_MQTTS], at, sizeof at);
    fprintf(out, "  mosquitto_pub --cafile %s %s -u %s -P %s -t demo/hello -m secret\n",
            word(f->ca, &w), at, LV_DEVINST_APP, d->key);
  }
  if (f->address[LV_PROTO_HTTP])
    fprintf(out, "  curl -s http://%s/metrics\n", f->address[LV_PROTO_HTTP]);
  fprintf(out, "  . %s    # these facts as LAVVA_… variables\n\n", word(d->env_path, &w));
  fflush(out);
  lv_cli_text_done(&w);
}
