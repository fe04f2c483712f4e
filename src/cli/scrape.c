/* scrape.c: a GET with HTTP/1.0, so that the answer ends with the connection, and the numbers in
 * it. */
#include "cli/scrape.h"
#include "core/err.h"
#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { BODY_MAX = 8 << 20 };

static const char *const names[LV_S_COUNT] = {
#define X(id, name) name,
    LV_SCRAPE_SUMS(X)
#undef X
};

/* The text of label NAME in `{…}`, or "". */
static void label(const char *labels, const char *name, char *dst, size_t size) {
  size_t n = strlen(name);
  const char *p = labels;
  dst[0] = 0;
  while (p && !(strncmp(p, name, n) == 0 && p[n] == '=' && p[n + 1] == '"')) {
    p = strstr(p, "\",");
    if (p) p += 2;
  }
  if (!p) return;
  p += n + 2;
  snprintf(dst, size, "%.*s", (int)strcspn(p, "\""), p);
}

static void drop_take(lv_scrape *s, const char *labels, double v) {
  char stage[32], reason[31], both[64];
  if (v <= 0) return;
  label(labels, "stage", stage, sizeof stage);
  label(labels, "reason", reason, sizeof reason);
  snprintf(both, sizeof both, "%s %s", stage, reason);
  uint32_t i = 0; /* each app and protocol has its own */
  while (i < s->n_drops && strcmp(s->drops[i].label, both) != 0) i++;
  if (i == LV_SCRAPE_DROPS) return;
  if (i == s->n_drops) memcpy(s->drops[s->n_drops++].label, both, sizeof both);
  s->drops[i].n += v;
}

static double *app_field(lv_scrape_app *a, const char *name) {
  if (strcmp(name, "lavva_gateway_in_messages_total") == 0) return &a->in;
  if (strcmp(name, "lavva_hub_out_messages_total") == 0) return &a->out;
  if (strcmp(name, "lavva_drops_total") == 0) return &a->drops;
  if (strcmp(name, "lavva_hub_pending_messages") == 0) return &a->pending;
  if (strcmp(name, "lavva_consumer_lag_max_messages") == 0) return &a->lag_max;
  if (strcmp(name, "lavva_clients") == 0) return &a->clients;
  return NULL;
}

static void app_take(lv_scrape *s, const char *name, const char *labels, double v) {
  lv_scrape_app any;
  char app[sizeof any.name];
  if (!app_field(&any, name)) return;
  label(labels, "app", app, sizeof app);
  if (!*app) return;
  uint32_t i = 0;
  while (i < s->n_apps && strcmp(s->apps[i].name, app) != 0) i++;
  if (i == LV_SCRAPE_APPS) {
    s->more_apps = true;
    return;
  }
  if (i == s->n_apps) memcpy(s->apps[s->n_apps++].name, app, sizeof app);
  *app_field(&s->apps[i], name) += v;
}

static void proto_take(lv_scrape *s, const char *labels, double v) {
  if (v <= 0 || s->n_protos == LV_SCRAPE_PROTOS) return;
  label(labels, "protocol", s->protos[s->n_protos].name, sizeof s->protos[0].name);
  s->protos[s->n_protos++].n = v;
}

static void line_take(lv_scrape *s, char *line) {
  char *space = strrchr(line, ' ');
  if (line[0] == '#' || !space) return;
  *space = 0;
  double v = strtod(space + 1, NULL);
  char *labels = strchr(line, '{'), q[16];
  if (labels) *labels++ = 0;
  for (int i = 0; i < LV_S_COUNT; i++)
    if (strcmp(line, names[i]) == 0) s->v[i] += v;
  if (strcmp(line, "lavva_drops_total") == 0) drop_take(s, labels, v);
  if (strcmp(line, "lavva_connections") == 0) proto_take(s, labels, v);
  app_take(s, line, labels, v);
  if (strcmp(line, "lavva_processing_latency_quantile_seconds") != 0) return;
  label(labels, "quantile", q, sizeof q);
  if (strcmp(q, "0.5") == 0) s->p50_s = v;
  if (strcmp(q, "0.99") == 0) s->p99_s = v;
}

void lv_scrape_parse(char *text, lv_scrape *ret) {
  memset(ret, 0, sizeof *ret);
  for (char *line = text, *next; line; line = next) {
    next = strchr(line, '\n');
    if (next) *next++ = 0;
    line_take(ret, line);
  }
}

/* ---- HTTP ---- */
int lv_cli_connect(const char *address, int timeout_ms) {
  char host[256];
  const char *colon = strrchr(address, ':');
  size_t n = colon ? (size_t)(colon - address) : 0;
  if (!colon || n == 0 || n >= sizeof host) return LV_E_INVALID;
  bool bracket = address[0] == '[' && address[n - 1] == ']';
  snprintf(host, sizeof host, "%.*s", (int)(bracket ? n - 2 : n), address + bracket);
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
  if (getaddrinfo(host, colon + 1, &hints, &list)) return LV_E_NOT_FOUND;
  struct timeval tv = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
  int fd = -1, eno = 0;
  for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
    fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
      eno = errno;
      continue;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
    if (connect(fd, a->ai_addr, a->ai_addrlen) == 0) break;
    eno = errno == EINPROGRESS ? ETIMEDOUT : errno; /* so Linux tells SO_SNDTIMEO */
    close(fd);
    fd = -1;
  }
  freeaddrinfo(list);
  return fd < 0 ? (eno ? -eno : LV_E_NOT_FOUND) : fd;
}

static int fetch(int fd, const char *address, char **ret_text) {
  char head[512];
  int n = snprintf(head, sizeof head, "GET /metrics HTTP/1.0\r\nHost: %s\r\n\r\n", address);
  if (send(fd, head, (size_t)n, MSG_NOSIGNAL) != n) return LV_E_IO;
  size_t cap = 64 * 1024, got = 0;
  char *buf = malloc(cap);
  if (!buf) abort();
  for (;;) {
    if (got + 1 == cap) {
      if (cap >= BODY_MAX) break;
      buf = realloc(buf, cap *= 2);
      if (!buf) abort();
    }
    ssize_t r = recv(fd, buf + got, cap - got - 1, 0);
    if (r < 0 && errno == EINTR) continue;
    if (r < 0) {
      free(buf);
      return errno == EAGAIN || errno == EWOULDBLOCK ? LV_E_TIMEOUT : LV_E_IO;
    }
    if (r == 0) break;
    got += (size_t)r;
  }
  buf[got] = 0;
  *ret_text = buf;
  return cap >= BODY_MAX ? LV_E_TOO_BIG : 0;
}

const char *lv_scrape_error(int err) {
  if (err > -1000 && err < 0) return lv_strerror(-err);
  if (err == LV_E_NOT_FOUND) return "no such host";
  if (err == LV_E_MALFORMED) return "no metrics there";
  return lv_err_text(err);
}

int lv_scrape_get(const char *address, int timeout_ms, lv_scrape *ret) {
  char *text = NULL;
  int fd = lv_cli_connect(address, timeout_ms);
  if (fd < 0) return fd;
  int r = fetch(fd, address, &text);
  close(fd);
  char *body = text ? strstr(text, "\r\n\r\n") : NULL;
  bool ok = text && strncmp(text, "HTTP/1.", 7) == 0 && strncmp(text + 8, " 200", 4) == 0;
  if (r == 0 && (!body || !ok)) r = LV_E_MALFORMED;
  if (r == 0) lv_scrape_parse(body + 4, ret);
  free(text);
  return r;
}
