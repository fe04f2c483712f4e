/* http_resp.c: the head of a response (RFC 9112 §4), and the date in it.
 *
 * Written by appending to a bounded buffer; the first thing that does not fit makes the whole head
 * LV_E_TOO_BIG, so that no half of one is ever sent. @thread any */
#include "wire/http_int.h"
#include <assert.h>

#define STATUSES(X)                                                                                \
  X(100, "Continue")                                                                               \
  X(101, "Switching Protocols")                                                                    \
  X(200, "OK")                                                                                     \
  X(201, "Created")                                                                                \
  X(202, "Accepted")                                                                               \
  X(204, "No Content")                                                                             \
  X(207, "Multi-Status")                                                                           \
  X(301, "Moved Permanently")                                                                      \
  X(302, "Found")                                                                                  \
  X(304, "Not Modified")                                                                           \
  X(307, "Temporary Redirect")                                                                     \
  X(308, "Permanent Redirect")                                                                     \
  X(400, "Bad Request")                                                                            \
  X(401, "Unauthorized")                                                                           \
  X(403, "Forbidden")                                                                              \
  X(404, "Not Found")                                                                              \
  X(405, "Method Not Allowed")                                                                     \
  X(406, "Not Acceptable")                                                                         \
  X(408, "Request Timeout")                                                                        \
  X(409, "Conflict")                                                                               \
  X(410, "Gone")                                                                                   \
  X(411, "Length Required")                                                                        \
  X(412, "Precondition Failed")                                                                    \
  X(413, "Content Too Large")                                                                      \
  X(414, "URI Too Long")                                                                           \
  X(415, "Unsupported Media Type")                                                                 \
  X(417, "Expectation Failed")                                                                     \
  X(421, "Misdirected Request")                                                                    \
  X(422, "Unprocessable Content")                                                                  \
  X(426, "Upgrade Required")                                                                       \
  X(429, "Too Many Requests")                                                                      \
  X(431, "Request Header Fields Too Large")                                                        \
  X(500, "Internal Server Error")                                                                  \
  X(501, "Not Implemented")                                                                        \
  X(503, "Service Unavailable")                                                                    \
  X(504, "Gateway Timeout")                                                                        \
  X(505, "HTTP Version Not Supported")                                                             \
  X(507, "Insufficient Storage")

const char *lv_http_status_text(uint16_t status) {
  switch (status) {
#define X(code, text)                                                                              \
  case code: return text;
    STATUSES(X)
#undef X
  default: return "Unknown";
  }
}

typedef struct out {
  uint8_t *p, *end;
  bool full;
} out;

static void put(out *o, lv_slice s) {
  if (o->full || (size_t)(o->end - o->p) < s.n) {
    o->full = true;
    return;
  }
  if (s.n) memcpy(o->p, s.p, s.n);
  o->p += s.n;
}
static void put_u64(out *o, uint64_t v) {
  uint8_t d[20], *p = d + sizeof d;
  do *--p = (uint8_t)('0' + v % 10);
  while (v /= 10);
  put(o, lv_slice_of(p, (size_t)(d + sizeof d - p)));
}
static void put_field(out *o, lv_slice name, lv_slice value) {
  put(o, name);
  put(o, LV_SLICE(": "));
  put(o, value);
  put(o, LV_SLICE("\r\n"));
}

static bool field_ok(const lv_http_header *h) {
  return h->name.n && lv__http_all(h->name, LV__HTTP_TOKEN) &&
         lv__http_all(h->value, LV__HTTP_VALUE);
}

static void put_framing(out *o, const lv_http_resp *r) {
  if (r->chunked) put_field(o, LV_SLICE("Transfer-Encoding"), LV_SLICE("chunked"));
  if (r->has_length) {
    put(o, LV_SLICE("Content-Length: "));
    put_u64(o, r->length);
    put(o, LV_SLICE("\r\n"));
  }
  if (r->status == 101) return; /* its Connection field is the caller's: upgrade */
  if (!r->keep_alive && r->status >= 200) put_field(o, LV_SLICE("Connection"), LV_SLICE("close"));
  if (r->keep_alive && r->minor == 0) put_field(o, LV_SLICE("Connection"), LV_SLICE("keep-alive"));
}

int lv_http_resp_encode(const lv_http_resp *r, uint8_t *dst, uint32_t cap) {
  assert(r->status >= 100 && r->status <= 999);
  assert(!r->chunked || (!r->has_length && r->minor > 0));
  /* §6.1, RFC 9110 §8.6: these have no body and say nothing about one. */
  assert((r->status >= 200 && r->status != 204) || (!r->chunked && !r->has_length));
  out o = {dst, dst + cap, false};
  if (!lv__http_all(r->content_type, LV__HTTP_VALUE)) return LV_E_INVALID;
  put(&o, LV_SLICE("HTTP/1.1 "));
  put_u64(&o, r->status);
  put(&o, LV_SLICE(" "));
  put(&o, lv_slice_str(lv_http_status_text(r->status)));
  put(&o, LV_SLICE("\r\n"));
  if (r->date.n) put_field(&o, LV_SLICE("Date"), r->date);
  if (r->content_type.n) put_field(&o, LV_SLICE("Content-Type"), r->content_type);
  put_framing(&o, r);
  for (uint32_t i = 0; i < r->n_headers; i++) {
    if (!field_ok(&r->headers[i])) return LV_E_INVALID;
    put_field(&o, r->headers[i].name, r->headers[i].value);
  }
  put(&o, LV_SLICE("\r\n"));
  return o.full ? LV_E_TOO_BIG : (int)(o.p - dst);
}

static void two(uint8_t *p, int64_t v) {
  p[0] = (uint8_t)('0' + v / 10 % 10);
  p[1] = (uint8_t)('0' + v % 10);
}

/* Year, month (1–12) and day of a day number since 1970, in the proleptic Gregorian calendar. Years
 * are counted from March, so that the leap day is the last one of its year. */
static void civil(int64_t days, int64_t *ret_y, int64_t *ret_m, int64_t *ret_d) {
  int64_t z = days + 719468, era = z / 146097, doe = z - era * 146097;
  int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
  int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
  *ret_d = doy - (153 * mp + 2) / 5 + 1;
  *ret_m = mp < 10 ? mp + 3 : mp - 9;
  *ret_y = yoe + era * 400 + (*ret_m <= 2);
}

void lv_http_date(int64_t unix_s, uint8_t dst[LV_HTTP_DATE_LEN]) {
  assert(unix_s >= 0 && unix_s <= 253402300799);
  static const char days[] = "ThuFriSatSunMonTueWed",
                    months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
  int64_t day = unix_s / 86400, s = unix_s % 86400, y, m, d;
  civil(day, &y, &m, &d);
  memcpy(dst, "Thu, 01 Jan 1970 00:00:00 GMT", LV_HTTP_DATE_LEN);
  memcpy(dst, days + day % 7 * 3, 3);
  two(dst + 5, d);
  memcpy(dst + 8, months + (m - 1) * 3, 3);
  two(dst + 12, y / 100);
  two(dst + 14, y);
  two(dst + 17, s / 3600);
  two(dst + 20, s / 60 % 60);
  two(dst + 23, s % 60);
}
