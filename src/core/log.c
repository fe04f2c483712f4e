/* log.c: see log.h for what a line looks like.
 *
 * The format's ` name=` are replaced by a marker (random per process, so that no argument contains
 * it) before one vsnprintf; the result is cut at the markers and written out value by value. All of
 * it on the stack. A mutex serialises writes; poll(2) with no wait decides whether the receiver
 * takes a whole line (a pipe is writable when 4 KiB fit). */
#include "core/log.h"
#include "core/err.h"
#include "core/rand.h"
#include "core/slice.h"
#include "core/time.h"
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { FIELDS_MAX = 24, MARK_LEN = 8, TEXT_MAX = 3 * LV_LOG_LINE_MAX };
static const int64_t window_len_ns = 10000000000;

_Atomic int lv__log_level = LV_INFO;

static struct {
  pthread_mutex_t lock;
  int fd;
  bool json, own_fd;
  char *path;
  _Atomic uint64_t dropped;
  uint64_t dropped_told;
  _Atomic(lv_log_site *) sites;
  char mark[MARK_LEN + 1];
} lg = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = STDERR_FILENO};

static const char *const level_name[] = {"error", "warn", "info", "debug"};

__attribute__((constructor)) static void make_mark(void) {
  lv_random_bytes(lg.mark, MARK_LEN);
  lg.mark[0] = 0x1F;
  for (int i = 1; i < MARK_LEN; i++) lg.mark[i] = (char)(1 + (lg.mark[i] & 0x0F));
}

/* Contents stop at SOFT and say so in `cut`; the frame around them always fits behind it. */
typedef struct line {
  char b[LV_LOG_LINE_MAX];
  uint32_t n;
  bool cut;
} line;
enum { SOFT = LV_LOG_LINE_MAX - 256, BARE_MAX = 512 };

static void put(line *l, const char *s, size_t n) {
  assert(n <= LV_LOG_LINE_MAX - l->n);
  memcpy(l->b + l->n, s, n);
  l->n += (uint32_t)n;
}

static void puts_(line *l, const char *s) {
  put(l, s, strlen(s));
}

/* The value with escapes that both JSON and a reader understand. Invalid UTF-8 shows as its bytes'
 * code points. */
static void put_escaped(line *l, const char *s, size_t n) {
  bool utf8 = lv_utf8_valid(lv_slice_of(s, n), false);
  char e[8];
  for (size_t i = 0; i < n && !l->cut; i++) {
    uint8_t c = (uint8_t)s[i];
    if (l->n >= SOFT) {
      l->cut = true;
    } else if (c == '"' || c == '\\') {
      e[0] = '\\';
      e[1] = (char)c;
      put(l, e, 2);
    } else if (c == '\n') {
      put(l, "\\n", 2);
    } else if (c < 0x20 || c == 0x7F || (c >= 0x80 && !utf8)) {
      put(l, e, (size_t)snprintf(e, sizeof e, "\\u%04x", c));
    } else {
      size_t k = 1; /* a character goes in whole, also where the line is cut */
      while (utf8 && i + k < n && ((uint8_t)s[i + k] & 0xC0) == 0x80) k++;
      put(l, s + i, k);
      i += k - 1;
    }
  }
}

static bool plain(const char *s, size_t n) {
  for (size_t i = 0; i < n; i++) {
    uint8_t c = (uint8_t)s[i];
    if (c <= 0x20 || c >= 0x7F || c == '"' || c == '\\' || c == '=') return false;
  }
  return n > 0;
}

/* A number as JSON spells it: no leading zeros, plus signs, nan, inf, hex. */
static bool number(const char *s, size_t n) {
  size_t i = 0;
  if (i < n && s[i] == '-') i++;
  if (i >= n || !isdigit((uint8_t)s[i]) || (s[i] == '0' && i + 1 < n && isdigit((uint8_t)s[i + 1])))
    return false;
  while (i < n && isdigit((uint8_t)s[i])) i++;
  if (i < n && s[i] == '.') {
    size_t first = ++i;
    while (i < n && isdigit((uint8_t)s[i])) i++;
    if (i == first) return false;
  }
  return i == n;
}

typedef struct field {
  const char *name; /* in the format */
  uint32_t name_len;
  bool numeric; /* its conversion is a number's */
} field;

/* Length of ` name=` at p, 0 when there is none. */
static size_t field_head(const char *p) {
  size_t i = 1;
  if (p[0] != ' ' || !(islower((uint8_t)p[1]) || p[1] == '_')) return 0;
  while (islower((uint8_t)p[i]) || isdigit((uint8_t)p[i]) || p[i] == '_') i++;
  return p[i] == '=' ? i + 1 : 0;
}

/* Whether the conversion at p is a number and the whole value. */
static bool numeric_conv(const char *p) {
  if (*p != '%') return false;
  p += 1 + strspn(p + 1, "-+ #0123456789.*hlLqjzt");
  return *p && strchr("diufeg", *p) && (p[1] == 0 || p[1] == ' ');
}

/* Copies the format with markers in place of field heads; returns how many. */
static int mark_fields(const char *fmt, char *out, size_t size, field *f) {
  int n = 0;
  size_t o = 0;
  while (*fmt && o + MARK_LEN + 1 < size) {
    size_t h = n < FIELDS_MAX ? field_head(fmt) : 0;
    if (h == 0) {
      out[o++] = *fmt++;
      continue;
    }
    f[n++] = (field){fmt + 1, (uint32_t)h - 2, numeric_conv(fmt + h)};
    memcpy(out + o, lg.mark, MARK_LEN);
    o += MARK_LEN;
    fmt += h;
  }
  out[o] = 0;
  return n;
}

static void put_field(line *l, bool json, const field *f, const char *v, size_t n) {
  bool bare = n <= BARE_MAX && (json ? f->numeric && number(v, n) : plain(v, n));
  if (l->cut || l->n + f->name_len + (bare ? n : 0) >= SOFT) {
    l->cut = true;
    return;
  }
  puts_(l, json ? ",\"" : " ");
  put(l, f->name, f->name_len);
  puts_(l, json ? "\":" : "=");
  if (bare) {
    put(l, v, n);
  } else {
    puts_(l, "\"");
    put_escaped(l, v, n);
    puts_(l, "\"");
  }
}

/* Part of the frame: said even in a line that was cut. */
static void put_count(line *l, bool json, const char *name, uint64_t v) {
  char s[64];
  if (v == 0) return;
  int n = snprintf(s, sizeof s, json ? ",\"%s\":%llu" : " %s=%llu", name, (unsigned long long)v);
  put(l, s, (size_t)n);
}

static void put_head(line *l, bool json, enum lv_log_level level, const char *msg, size_t n) {
  char t[32];
  lv_time_format(lv_wall_now(), t, sizeof t);
  puts_(l, json ? "{\"t\":\"" : "");
  puts_(l, t);
  puts_(l, json ? "\",\"level\":\"" : " ");
  puts_(l, level_name[level]);
  puts_(l, json ? "\",\"msg\":\"" : " ");
  put_escaped(l, msg, n);
  puts_(l, json ? "\"" : "");
}

/* One write, or none. Called with the lock held. */
static bool emit(line *l) {
  if (lg.json) put(l, "}", 1);
  put(l, "\n", 1);
  struct pollfd pfd = {.fd = lg.fd, .events = POLLOUT};
  if (poll(&pfd, 1, 0) == 1 && (pfd.revents & POLLOUT)) {
    ssize_t k;
    do k = write(lg.fd, l->b, l->n);
    while (k < 0 && errno == EINTR);
    if (k == (ssize_t)l->n) return true;
  }
  atomic_fetch_add(&lg.dropped, 1);
  return false;
}

/* text: the formatted message with markers; `whole` false when it did not fit its buffer. */
static void write_line(enum lv_log_level level, uint64_t suppressed, const char *text, bool whole,
                       const field *f, int n_fields) {
  line l;
  const char *v = strstr(text, lg.mark), *next;
  l.n = 0;
  l.cut = false;
  pthread_mutex_lock(&lg.lock);
  uint64_t dropped = atomic_load(&lg.dropped);
  put_head(&l, lg.json, level, text, v ? (size_t)(v - text) : strlen(text));
  for (int i = 0; i < n_fields && v; i++, v = next) {
    v += MARK_LEN;
    next = strstr(v, lg.mark);
    put_field(&l, lg.json, &f[i], v, next ? (size_t)(next - v) : strlen(v));
  }
  put_count(&l, lg.json, "suppressed", suppressed);
  put_count(&l, lg.json, "dropped", dropped - lg.dropped_told);
  put_count(&l, lg.json, "cut", l.cut || !whole);
  if (emit(&l)) lg.dropped_told = dropped;
  pthread_mutex_unlock(&lg.lock);
}

static void link_site(lv_log_site *site, const char *fmt) {
  if (atomic_exchange(&site->linked, true)) return;
  site->fmt = fmt;
  site->next = atomic_load(&lg.sites);
  while (!atomic_compare_exchange_weak(&lg.sites, &site->next, site)) {
  }
}

/* Whether a line of this site may go out now, and how many were left out before it. */
static bool admit(lv_log_site *site, const char *fmt, uint32_t *ret_suppressed) {
  int64_t now = lv_mono_now().ns, began = atomic_load(&site->window_ns);
  if (began == 0 || now - began >= window_len_ns || now < began)
    if (atomic_compare_exchange_strong(&site->window_ns, &began, now))
      atomic_store(&site->in_window, 0);
  if (atomic_fetch_add(&site->in_window, 1) < LV_LOG_BURST) {
    *ret_suppressed = atomic_exchange(&site->suppressed, 0);
    return true;
  }
  atomic_fetch_add(&site->suppressed, 1);
  link_site(site, fmt);
  return false;
}

void lv__log_write(lv_log_site *site, enum lv_log_level level, const char *fmt, ...) {
  char marked[1024], text[TEXT_MAX];
  field f[FIELDS_MAX];
  uint32_t suppressed = 0;
  va_list ap;
  int saved = errno;
  if (level <= LV_WARN && !admit(site, fmt, &suppressed)) return;
  int n_fields = mark_fields(fmt, marked, sizeof marked, f);
  va_start(ap, fmt);
  int n = vsnprintf(text, sizeof text, marked, ap);
  va_end(ap);
  if (n >= 0) write_line(level, suppressed, text, (size_t)n < sizeof text, f, n_fields);
  errno = saved;
}

void lv_log_tick(void) {
  int64_t now = lv_mono_now().ns;
  for (lv_log_site *s = atomic_load(&lg.sites); s; s = s->next) {
    if (now - atomic_load(&s->window_ns) < window_len_ns) continue;
    uint32_t n = atomic_exchange(&s->suppressed, 0);
    if (n == 0) continue;
    char head[80]; /* the words of the format, up to its first field or conversion */
    size_t k = 0;
    while (k < sizeof head - 1 && s->fmt[k] && s->fmt[k] != '%' && !field_head(s->fmt + k)) k++;
    memcpy(head, s->fmt, k);
    head[k] = 0;
    write_line(LV_WARN, n, head, true, NULL, 0);
  }
}

uint64_t lv_log_dropped(void) {
  return atomic_load(&lg.dropped);
}

void lv_log_set_level(enum lv_log_level level) {
  atomic_store(&lv__log_level, (int)level);
}

int lv_log_level_parse(const char *s, enum lv_log_level *ret_level) {
  for (int i = LV_ERROR; i <= LV_DEBUG; i++)
    if (strcmp(s, level_name[i]) == 0) {
      *ret_level = (enum lv_log_level)i;
      return 0;
    }
  return LV_E_INVALID;
}

static void set_target(int fd, bool own, bool json, char *path) {
  pthread_mutex_lock(&lg.lock);
  if (lg.own_fd) (void)close(lg.fd);
  if (lg.path != path) free(lg.path);
  lg.fd = fd;
  lg.own_fd = own;
  lg.json = json;
  lg.path = path;
  pthread_mutex_unlock(&lg.lock);
}

void lv_log_to_fd(int fd, bool json) {
  set_target(fd, false, json, NULL);
}

static int open_file(const char *path, int *ret_fd) {
  int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0640);
  if (fd < 0) return lv_err_from_errno(errno);
  *ret_fd = fd;
  return 0;
}

int lv_log_open(const char *path, bool json) {
  int fd = -1, rc;
  if (!path) {
    set_target(STDERR_FILENO, false, json, NULL);
    return 0;
  }
  rc = open_file(path, &fd);
  if (rc == 0) set_target(fd, true, json, lv_slice_dup(lv_slice_str(path)));
  return rc;
}

int lv_log_reopen(void) {
  int fd = -1, rc;
  if (!lg.path) return 0;
  rc = open_file(lg.path, &fd);
  if (rc == 0) set_target(fd, true, lg.json, lg.path);
  return rc;
}
