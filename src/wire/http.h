/* http.h: HTTP/1.1 messages, bytes to values and values to bytes. Pure: no I/O, no allocation, no
 * state beyond the small structs below.
 *
 * Sources: RFC 9110 (semantics), RFC 9112 (HTTP/1.1), RFC 3986 (percent-encoding). Where a
 * recipient may choose between mending and refusing, this one refuses: two parties that mend
 * differently are how requests get smuggled. Refused are, among others: bare CR or LF, NUL and
 * other controls, obs-fold, white space around the field name, Content-Length together with
 * Transfer-Encoding or given twice, any transfer coding but one `chunked`, Transfer-Encoding in
 * HTTP/1.0, no or two Hosts, targets with a fragment, user info or bytes that are not ASCII.
 *
 * A connection reads into a buffer of its own limit, calls lv_http_head_find until the head is
 * whole (each byte is looked at once, however slowly they drip in), then lv_http_head_decode once.
 * Slices point into that buffer. Errors: LV_E_NEED_MORE, LV_E_MALFORMED, LV_E_TOO_BIG,
 * LV_E_VERSION, LV_E_UNSUPPORTED; lv_http_head_status gives the status to answer. @thread any */
#ifndef LV_WIRE_HTTP_H
#define LV_WIRE_HTTP_H
#include "core/err.h"
#include "core/slice.h"

enum {
  LV_HTTP_HEADERS_MAX = 64,     /* header fields of a request */
  LV_HTTP_CHUNK_EXT_MAX = 1024, /* bytes of all chunk extensions of a message */
  LV_HTTP_TRAILER_MAX = 4096,   /* bytes of a trailer section */
  LV_HTTP_DATE_LEN = 29,        /* "Sun, 06 Nov 1994 08:49:37 GMT" */
};

enum lv_http_method {
  LV_HTTP_OTHER, /* a token that is none of these: 501 or 405 */
  LV_HTTP_GET,
  LV_HTTP_HEAD,
  LV_HTTP_POST,
  LV_HTTP_PUT,
  LV_HTTP_PATCH,
  LV_HTTP_DELETE,
  LV_HTTP_OPTIONS
};

typedef struct lv_http_header {
  lv_slice name, value; /* value without white space around it; it may be empty */
} lv_http_header;

typedef struct lv_http_req {
  uint8_t method;       /* enum lv_http_method */
  uint8_t minor;        /* HTTP/1.minor: 0 or 1 (a higher one is spoken to as 1) */
  bool keep_alive;      /* whether the client expects the connection to stay open */
  bool has_length;      /* Content-Length was given; without it or `chunked` there is no body */
  bool chunked;         /* the body is for lv_http_chunk_next */
  bool expect_continue; /* answer 100 before reading the body (RFC 9110 §10.1.1) */
  bool wants_upgrade;   /* Connection: upgrade and an Upgrade field, in HTTP/1.1 */
  bool absolute;        /* the target came in absolute-form; `host` is from it */
  bool asterisk;        /* OPTIONS *; path is empty */
  uint16_t n_headers;
  uint64_t content_length;
  lv_slice method_name;
  lv_slice path;    /* still percent-encoded, starts with `/` (unless asterisk) */
  lv_slice query;   /* behind the `?`, still encoded; may be empty */
  lv_slice host;    /* with its port; may be empty */
  lv_slice upgrade; /* value of Upgrade, see lv_http_has_token */
  lv_http_header headers[LV_HTTP_HEADERS_MAX];
} lv_http_req;

/* Where the head ends. `io_scanned` (0 for a new request) remembers what was looked at, so the call
 * is repeated with the same p and a larger n. One empty line in front is skipped (RFC 9112 §2.2)
 * and counted in. LV_E_NEED_MORE; LV_E_TOO_BIG: no end within `limit` bytes; LV_E_MALFORMED as soon
 * as a byte stands there that no head has. */
int lv_http_head_find(const uint8_t *p, uint32_t n, uint32_t limit, uint32_t *io_scanned,
                      uint32_t *ret_len);
/* Takes a whole head (as found above) apart. LV_E_VERSION: not HTTP/1.x; LV_E_UNSUPPORTED: CONNECT,
 * or a transfer coding we do not speak; LV_E_TOO_BIG: too many fields. *ret is written only as far
 * as it is used: headers behind n_headers are not. */
int lv_http_head_decode(lv_slice head, lv_http_req *ret);
/* The status that answers an error of the two functions above: 400, 408, 431, 501, 505. */
uint16_t lv_http_head_status(int err);

/* The first field of that name (any case), or NULL. */
const lv_http_header *lv_http_header_find(const lv_http_req *req, lv_slice name);
/* Whether a comma-separated list holds `token`, any case (RFC 9110 §5.6.1). */
bool lv_http_has_token(lv_slice list, lv_slice token);

/* ---- target ---- */
/* Takes the next segment off a raw path: false at the end. `/a//b` has a, empty, b. Split first and
 * decode then: an encoded slash belongs to its segment. */
bool lv_http_path_next(lv_slice *path, lv_slice *ret_segment);
/* Takes the next parameter off a raw query, both parts still encoded: false at the end. Empty ones
 * (`a&&b`) are skipped; without `=` the value is empty. */
bool lv_http_query_next(lv_slice *query, lv_slice *ret_name, lv_slice *ret_value);
/* The raw value of the first parameter of that name (written without escapes). */
bool lv_http_query_find(lv_slice query, lv_slice name, lv_slice *ret_value);
/* Decodes %XX (and, with `plus`, `+` to a space: query parameters) into dst, which needs raw.n
 * bytes. LV_E_MALFORMED: a bad escape, or a result that is not UTF-8 or holds NUL. */
int lv_http_decode(lv_slice raw, bool plus, uint8_t *dst, lv_slice *ret);

/* ---- chunked bodies (RFC 9112 §7.1) ---- */
typedef struct lv_http_chunks {
  uint64_t left;      /* of the current chunk */
  uint64_t body_left; /* bytes the body may still have */
  uint32_t extra;     /* extension bytes so far; in the trailer section its bytes */
  uint8_t state, digits;
} lv_http_chunks;
void lv_http_chunks_init(lv_http_chunks *c, uint64_t body_max);
/* Takes from *io_in what it can. 1: *ret_data is a piece of the body (within the input, not empty),
 * call again; 0: the body has ended, *io_in starts with what follows it; LV_E_NEED_MORE: the input
 * is used up; LV_E_MALFORMED; LV_E_TOO_BIG: body, extensions or trailers above their limit. Trailer
 * fields are checked and dropped. After an error or 0 it is not called again. */
int lv_http_chunk_next(lv_http_chunks *c, lv_slice *io_in, lv_slice *ret_data);

/* ---- responses ---- */
typedef struct lv_http_resp {
  uint16_t status;
  uint8_t minor;   /* of the request; `Connection` follows from it and keep_alive */
  bool keep_alive; /* ignored for 101 */
  bool has_length; /* Content-Length: length; never with `chunked` */
  bool chunked;    /* Transfer-Encoding: chunked (HTTP/1.1 only) */
  uint64_t length;
  lv_slice date;         /* from lv_http_date; empty: left out */
  lv_slice content_type; /* empty: left out */
  const lv_http_header *headers;
  uint32_t n_headers;
} lv_http_resp;
/* Writes status line, fields and the empty line. Returns the length, LV_E_TOO_BIG when cap is too
 * small, or LV_E_INVALID for a field that would break the head (controls in a value, a name that is
 * no token): its bytes may come from outside. */
int lv_http_resp_encode(const lv_http_resp *r, uint8_t *dst, uint32_t cap);
/* "Not Found" for 404; "Unknown" for what is not in the table. */
const char *lv_http_status_text(uint16_t status);
/* IMF-fixdate (RFC 9110 §5.6.7) of seconds since 1970 (0 … 253402300799); not NUL-terminated. */
void lv_http_date(int64_t unix_s, uint8_t dst[LV_HTTP_DATE_LEN]);

#endif
