/* http_head.c: the head of a request (RFC 9112 §3, §5, §6), found and taken apart.
 *
 * Two passes. `find` looks for the empty line, remembers how far it got, and stops at the first
 * byte that cannot be part of a head, so that a TLS or MQTT client on this port is told at once.
 * `decode` sees a head that is whole, whose lines all end in CRLF, and splits it. What a field
 * means for framing and for the connection is collected in one pass; contradictions are judged at
 * the end.
 * @thread any */
#include "wire/http_int.h"

int lv_http_head_find(const uint8_t *p, uint32_t n, uint32_t limit, uint32_t *io_scanned,
                      uint32_t *ret_len) {
  uint32_t i = *io_scanned, end = n < limit ? n : limit;
  for (; i < end; i++) {
    uint8_t c = p[i];
    if (i > 0 && p[i - 1] == '\r' && c != '\n') return LV_E_MALFORMED;
    if (c == '\r' || lv__http_is(c, LV__HTTP_VALUE)) continue;
    if (c != '\n' || i == 0 || p[i - 1] != '\r') return LV_E_MALFORMED;
    if (i < 3 || p[i - 2] != '\n') continue; /* an ordinary line, or the empty one in front */
    *io_scanned = i + 1;
    *ret_len = i + 1;
    return 0;
  }
  *io_scanned = i;
  return n >= limit ? LV_E_TOO_BIG : LV_E_NEED_MORE;
}

uint16_t lv_http_head_status(int err) {
  switch (err) {
  case LV_E_TOO_BIG: return 431;
  case LV_E_NEED_MORE: return 408;
  case LV_E_VERSION: return 505;
  case LV_E_UNSUPPORTED: return 501;
  default: return 400;
  }
}

/* What the fields say, before it is judged. */
typedef struct facts {
  uint32_t hosts, lengths, codings;
  lv_slice host, coding;
  bool close, keep, upgrade, bad;
} facts;

static const struct {
  lv_slice name;
  uint8_t method;
} methods[] = {
    {{(const uint8_t *)"GET", 3}, LV_HTTP_GET},
    {{(const uint8_t *)"HEAD", 4}, LV_HTTP_HEAD},
    {{(const uint8_t *)"POST", 4}, LV_HTTP_POST},
    {{(const uint8_t *)"PUT", 3}, LV_HTTP_PUT},
    {{(const uint8_t *)"PATCH", 5}, LV_HTTP_PATCH},
    {{(const uint8_t *)"DELETE", 6}, LV_HTTP_DELETE},
    {{(const uint8_t *)"OPTIONS", 7}, LV_HTTP_OPTIONS},
};

static uint8_t method_of(lv_slice name) {
  for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
    if (lv_slice_eq(methods[i].name, name)) return methods[i].method;
  return LV_HTTP_OTHER;
}

/* A line without its CRLF; `s` moves behind it. The head was found, so each line has its end. */
static lv_slice line_take(lv_slice *s) {
  lv_slice line;
  if (lv_slice_split(s, '\n', &line) && line.n > 0) line.n--;
  return line;
}

static int version_read(lv_slice v, lv_http_req *r) {
  if (v.n != 8 || memcmp(v.p, "HTTP/", 5) != 0 || v.p[6] != '.') return LV_E_MALFORMED;
  uint8_t major = v.p[5], minor = v.p[7];
  if (major < '0' || major > '9' || minor < '0' || minor > '9') return LV_E_MALFORMED;
  if (major != '1') return LV_E_VERSION;
  r->minor = minor == '0' ? 0 : 1;
  return 0;
}

/* Host and port, no user info (RFC 9110 §4.2.4, §7.2). */
static bool host_ok(lv_slice h) {
  return lv__http_all(h, LV__HTTP_HOST);
}

/* http://host/path?query (§3.2.2): leaves `t` at the path. */
static int absolute_read(lv_slice *t, lv_http_req *r) {
  uint32_t skip = 0;
  if (t->n >= 7 && lv_slice_caseeq((lv_slice){t->p, 7}, LV_SLICE("http://"))) skip = 7;
  if (t->n >= 8 && lv_slice_caseeq((lv_slice){t->p, 8}, LV_SLICE("https://"))) skip = 8;
  if (!skip) return LV_E_MALFORMED;
  uint32_t i = skip;
  while (i < t->n && t->p[i] != '/' && t->p[i] != '?') i++;
  r->absolute = true;
  r->host = (lv_slice){t->p + skip, i - skip};
  *t = (lv_slice){t->p + i, t->n - i};
  return r->host.n && host_ok(r->host) ? 0 : LV_E_MALFORMED;
}

static int target_read(lv_slice t, lv_http_req *r) {
  if (t.n == 0 || !lv__http_all(t, LV__HTTP_TARGET)) return LV_E_MALFORMED;
  if (lv_slice_eq(r->method_name, LV_SLICE("CONNECT"))) return LV_E_UNSUPPORTED;
  if (lv_slice_eq(t, LV_SLICE("*"))) {
    r->asterisk = true;
    return r->method == LV_HTTP_OPTIONS ? 0 : LV_E_MALFORMED;
  }
  int err;
  if (t.p[0] != '/' && (err = absolute_read(&t, r))) return err;
  (void)lv_slice_split(&t, '?', &r->path);
  r->query = t;
  if (r->path.n == 0) r->path = LV_SLICE("/"); /* only in absolute-form */
  return 0;
}

static int request_line(lv_slice line, lv_http_req *r) {
  lv_slice target;
  if (!lv_slice_split(&line, ' ', &r->method_name)) return LV_E_MALFORMED;
  if (!lv_slice_split(&line, ' ', &target)) return LV_E_MALFORMED;
  if (r->method_name.n == 0 || !lv__http_all(r->method_name, LV__HTTP_TOKEN)) return LV_E_MALFORMED;
  int err = version_read(line, r);
  if (err) return err;
  r->method = method_of(r->method_name);
  return target_read(target, r);
}

static lv_slice trim(lv_slice s) {
  while (s.n && (s.p[0] == ' ' || s.p[0] == '\t')) s = (lv_slice){s.p + 1, s.n - 1};
  while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t')) s.n--;
  return s;
}

static bool token_next(lv_slice *list, lv_slice *ret) {
  while (list->n) {
    (void)lv_slice_split(list, ',', ret);
    *ret = trim(*ret);
    if (ret->n) return true;
  }
  return false;
}

bool lv_http_has_token(lv_slice list, lv_slice token) {
  lv_slice t;
  while (token_next(&list, &t))
    if (lv_slice_caseeq(t, token)) return true;
  return false;
}

static bool named(const lv_http_header *h, lv_slice name) {
  return lv_slice_caseeq(h->name, name);
}

static void note_field(const lv_http_header *h, lv_http_req *r, facts *f) {
  if (named(h, LV_SLICE("host"))) {
    f->hosts++;
    f->host = h->value;
  } else if (named(h, LV_SLICE("content-length"))) {
    f->lengths++;
    if (lv_slice_u64(h->value, &r->content_length)) f->bad = true;
  } else if (named(h, LV_SLICE("transfer-encoding"))) {
    f->codings++;
    f->coding = h->value;
  } else if (named(h, LV_SLICE("connection"))) {
    f->close |= lv_http_has_token(h->value, LV_SLICE("close"));
    f->keep |= lv_http_has_token(h->value, LV_SLICE("keep-alive"));
    f->upgrade |= lv_http_has_token(h->value, LV_SLICE("upgrade"));
  } else if (named(h, LV_SLICE("upgrade"))) {
    if (r->upgrade.n) f->bad = true; /* two of them: which one was meant? */
    r->upgrade = h->value;
  } else if (named(h, LV_SLICE("expect"))) {
    r->expect_continue = lv_slice_caseeq(h->value, LV_SLICE("100-continue"));
  }
}

static int field_read(lv_slice line, lv_http_req *r, facts *f) {
  lv_http_header h;
  if (r->n_headers == LV_HTTP_HEADERS_MAX) return LV_E_TOO_BIG;
  if (!lv_slice_split(&line, ':', &h.name)) return LV_E_MALFORMED;
  /* A fold starts with white space, which is no token; so is white space before the colon. */
  if (h.name.n == 0 || !lv__http_all(h.name, LV__HTTP_TOKEN)) return LV_E_MALFORMED;
  h.value = trim(line);
  if (!lv__http_all(h.value, LV__HTTP_VALUE)) return LV_E_MALFORMED;
  r->headers[r->n_headers++] = h;
  note_field(&h, r, f);
  return 0;
}

/* `chunked` once and last is the one framing we know (§6.1). Others in front of it: 501; anything
 * else leaves the body's end unknown: 400. */
static int coding_read(lv_slice list, lv_http_req *r) {
  lv_slice t, last = {0};
  uint32_t n = 0, chunked = 0;
  while (token_next(&list, &t)) {
    last = t;
    n++;
    chunked += lv_slice_caseeq(t, LV_SLICE("chunked"));
  }
  if (chunked != 1 || !lv_slice_caseeq(last, LV_SLICE("chunked"))) return LV_E_MALFORMED;
  if (n != 1) return LV_E_UNSUPPORTED;
  r->chunked = true;
  return 0;
}

static int judge(const facts *f, lv_http_req *r) {
  if (f->bad || f->hosts > 1 || f->lengths > 1 || f->codings > 1) return LV_E_MALFORMED;
  if (f->lengths && f->codings) return LV_E_MALFORMED;
  if (f->codings && r->minor == 0) return LV_E_MALFORMED;
  if (f->hosts == 0 && r->minor > 0) return LV_E_MALFORMED;
  if (!host_ok(f->host)) return LV_E_MALFORMED;
  if (!r->absolute) r->host = f->host;
  r->has_length = f->lengths == 1;
  r->keep_alive = r->minor ? !f->close : f->keep && !f->close;
  r->wants_upgrade = r->minor && f->upgrade && r->upgrade.n;
  if (r->minor == 0) r->expect_continue = false;
  return f->codings ? coding_read(f->coding, r) : 0;
}

int lv_http_head_decode(lv_slice head, lv_http_req *ret) {
  /* The array of headers stays as it is: 2 KiB that nobody reads. */
  memset(ret, 0, offsetof(lv_http_req, headers));
  facts f = {0};
  if (lv_slice_starts(head, LV_SLICE("\r\n"))) head = (lv_slice){head.p + 2, head.n - 2};
  int err = request_line(line_take(&head), ret);
  if (err) return err;
  for (;;) {
    if (head.n == 0) return LV_E_MALFORMED; /* no empty line: not a whole head */
    lv_slice line = line_take(&head);
    if (line.n == 0) break;
    if ((err = field_read(line, ret, &f))) return err;
  }
  if (head.n) return LV_E_MALFORMED;
  return judge(&f, ret);
}

const lv_http_header *lv_http_header_find(const lv_http_req *req, lv_slice name) {
  for (uint32_t i = 0; i < req->n_headers; i++)
    if (named(&req->headers[i], name)) return &req->headers[i];
  return NULL;
}
