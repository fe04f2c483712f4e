/* api.c: see api.h. libcurl is the commands' only: the server has no part of it. */
#include "cli/api.h"
#include "core/err.h"
#include <assert.h>
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_MAX = 256 << 20, CONNECT_S = 10, TIMEOUT_S = 60 };

static char *copy(const char *s) {
  return s ? strdup(s) : NULL;
}

/* The facts of the environment, or of DIR/dev.env when DIR was named or the environment says
 * nothing. */
static int env_take(lv_cli_api *api, const lv_cli_api_args *a) {
  char path[LV_CLI_ENV_VALUE_MAX];
  lv_cli_env file;
  lv_cli_env_process(&api->env);
  if (!a->data && (a->server || api->env.v[LV_ENV_HTTP])) return 0;
  snprintf(path, sizeof path, "%s/dev.env", a->data ? a->data : "lavva-data");
  int r = lv_cli_env_read(path, &file);
  if (r == LV_E_NOT_FOUND && !a->data) return 0;
  if (r) return lv_cli_fail(api->cmd, "%s: %s (is `lavva serve` running?)", path, lv_err_text(r));
  if (!file.v[LV_ENV_ADMIN_KEY]) /* of an older version */
    lv_cli_env_set(&file, LV_ENV_ADMIN_KEY, api->env.v[LV_ENV_ADMIN_KEY]);
  lv_cli_env_done(&api->env);
  api->env = file;
  return 0;
}

int lv_cli_api_resolve(const lv_cli_cmd *cmd, const lv_cli_api_args *a, lv_cli_api *ret_api) {
  memset(ret_api, 0, sizeof *ret_api);
  ret_api->cmd = cmd;
  int r = env_take(ret_api, a);
  if (r) return r;
  const char *at = a->server ? a->server : ret_api->env.v[LV_ENV_HTTP];
  if (!at) at = "localhost:8080";
  size_t n = strlen(at);
  while (n && at[n - 1] == '/') n--;
  if (strstr(at, "://") && strncmp(at, "http://", 7) != 0 && strncmp(at, "https://", 8) != 0)
    return lv_cli_usage(cmd, "--server %s: http:// and https:// are known", at);
  if (n == 0 || n > 250) return lv_cli_usage(cmd, "--server: HOST:PORT expected");
  snprintf(ret_api->base, sizeof ret_api->base, "%s%.*s/api/v1", strstr(at, "://") ? "" : "http://",
           (int)n, at);
  ret_api->key = copy(a->key ? a->key : ret_api->env.v[LV_ENV_ADMIN_KEY]);
  ret_api->ca = copy(a->ca ? a->ca : ret_api->env.v[LV_ENV_CA]);
  ret_api->insecure = a->insecure;
  if (ret_api->key) return 0;
  r = lv_cli_fail(cmd, "no administrator's key: --key, LAVVA_ADMIN_KEY or the development "
                       "instance's\n(on the server's machine `lavva key create --admin --data DIR` "
                       "makes one)");
  lv_cli_api_done(ret_api);
  return r;
}

void lv_cli_api_done(lv_cli_api *api) {
  free(api->key);
  free(api->ca);
  lv_cli_env_done(&api->env);
  memset(api, 0, sizeof *api);
}

const char *lv_cli_api_segment(const char *name, char *dst, size_t size) {
  size_t n = 0;
  for (; *name && n + 4 < size; name++) {
    bool plain =
        strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~", *name);
    int k = plain ? snprintf(dst + n, size - n, "%c", *name)
                  : snprintf(dst + n, size - n, "%%%02X", (unsigned char)*name);
    n += (size_t)k;
  }
  dst[n] = 0;
  return dst;
}

/* ---- one request ---- */
typedef struct bytes {
  char *p;
  size_t n;
} bytes;

static size_t take(char *p, size_t size, size_t n, void *arg) {
  bytes *b = arg;
  n *= size;
  if (n > ANSWER_MAX - b->n) return 0;
  b->p = realloc(b->p, b->n + n + 1);
  if (!b->p) abort();
  memcpy(b->p + b->n, p, n);
  b->n += n;
  b->p[b->n] = 0;
  return n;
}

/* Says why a request was refused. */
static int refused(const lv_cli_api *api, long status, const json_t *answer) {
  const char *why = json_string_value(json_object_get(answer, "error"));
  if (why)
    lv_cli_fail(api->cmd, "%s", why);
  else
    lv_cli_fail(api->cmd, "the server answers with status %ld: is %s a Lavva server?", status,
                api->base);
  return status == 401 || status == 403 ? LV_EXIT_REFUSED : LV_EXIT_FAIL;
}

static void set_up(CURL *curl, lv_cli_api *api, const char *method, const char *url, bytes *in) {
  curl_easy_setopt(curl, CURLOPT_URL, url);
  curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
  curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)TIMEOUT_S);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, in);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "lavva/" LV_VERSION);
  if (api->ca) curl_easy_setopt(curl, CURLOPT_CAINFO, api->ca);
  if (!api->insecure) return;
  curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
  curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
}

static int judge(const lv_cli_api *api, CURL *curl, const bytes *in, json_t **ret_answer) {
  long status = 0;
  json_error_t at;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
  json_t *answer = in->n ? json_loadb(in->p, in->n, 0, &at) : NULL;
  bool fine = status >= 200 && status < 300 && (answer || in->n == 0);
  int r = fine ? 0 : refused(api, status, answer);
  if (r) {
    json_decref(answer);
    return r;
  }
  *ret_answer = answer;
  return 0;
}

int lv_cli_api_call(lv_cli_api *api, const char *method, const char *path, const json_t *body,
                    json_t **ret_answer) {
  char url[2048], auth[512];
  bytes in = {0};
  int n = snprintf(url, sizeof url, "%s%s", api->base, path);
  if (n < 0 || (size_t)n >= sizeof url) return lv_cli_fail(api->cmd, "a name is too long");
  CURL *curl = curl_easy_init();
  if (!curl) abort();
  set_up(curl, api, method, url, &in);
  snprintf(auth, sizeof auth, "Authorization: Bearer %s", api->key);
  struct curl_slist *head = curl_slist_append(NULL, auth);
  head = curl_slist_append(head, "Content-Type: application/json");
  head = curl_slist_append(head, "Expect:");
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, head);
  char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
  if (text) curl_easy_setopt(curl, CURLOPT_POSTFIELDS, text);
  CURLcode rc = curl_easy_perform(curl);
  int r;
  if (rc)
    r = lv_cli_fail(api->cmd, "%s: %s", api->base, curl_easy_strerror(rc));
  else
    r = judge(api, curl, &in, ret_answer);
  curl_slist_free_all(head);
  curl_easy_cleanup(curl);
  memset(auth, 0, sizeof auth);
  free(text);
  free(in.p);
  return r;
}

int lv_cli_api_list(lv_cli_api *api, const char *path, json_t **ret_items) {
  char page[1200], after[900] = "";
  json_t *all = json_array();
  for (;;) {
    json_t *answer = NULL;
    snprintf(page, sizeof page, "%.200s?limit=1000%s%s", path, after[0] ? "&after=" : "", after);
    int r = lv_cli_api_call(api, "GET", page, NULL, &answer);
    if (r) {
      json_decref(all);
      return r;
    }
    json_array_extend(all, json_object_get(answer, "items"));
    const char *next = json_string_value(json_object_get(answer, "next"));
    if (next) (void)lv_cli_api_segment(next, after, sizeof after);
    json_decref(answer);
    if (!next) break;
  }
  *ret_items = all;
  return 0;
}
