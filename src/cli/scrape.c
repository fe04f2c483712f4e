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
  const char *p = labels ? strstr(labels, name) : NULL;
  dst[0] = 0;
  if (!p || p[strlen(name)] != '=' || p[strlen(name) + 1] != '"') return;
  p += strlen(name) + 2;
  snprintf(dst, size, "%.*s", (int)strcspn(p, "\""), p);
}

static void drop_take(lv_scrape *s, const char *labels, double v) {
  char stage[32], reason[32];
  if (v <= 0 || s->n_drops == LV_SCRAPE_DROPS) return;
  label(labels, "stage", stage, sizeof stage);
  label(labels, "reason", reason, sizeof reason);
  snprintf(s->drops[s->n_drops].label, sizeof s->drops[0].label, "%s %s", stage, reason);
  s->drops[s->n_drops++].n = v;
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
static int connect_to(const char *address, int timeout_ms) {
  char host[256];
  const char *colon = strrchr(address, ':');
  size_t n = colon ? (size_t)(colon - address) : 0;
  if (!colon || n == 0 || n >= sizeof host) return LV_E_INVALID;
  bool bracket = address[0] == '[' && address[n - 1] == ']';
  snprintf(host, sizeof host, "%.*s", (int)(bracket ? n - 2 : n), address + bracket);
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
  if (getaddrinfo(host, colon + 1, &hints, &list)) return LV_E_NOT_FOUND;
  struct timeval tv = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
  int fd = -1;
  for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
    fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) continue;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
    if (connect(fd, a->ai_addr, a->ai_addrlen) == 0) break;
    close(fd);
    fd = -1;
  }
  freeaddrinfo(list);
  return fd < 0 ? LV_E_IO : fd;
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

int lv_scrape_get(const char *address, int timeout_ms, lv_scrape *ret) {
  char *text = NULL;
  int fd = connect_to(address, timeout_ms);
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
