/* fuzz_http.c: request heads and chunked bodies. However the bytes are cut into pieces, the outcome
 * is the same; and a field that was accepted can be sent on without breaking a head. The first byte
 * picks which, the second the size of the pieces. */
#include "fuzz.h"
#include "wire/http.h"

enum { LIMIT = 2048, BODY_MAX = 4096 };

static void target(const lv_http_req *r) {
  lv_slice path = r->path, query = r->query, s, k, v, out;
  uint8_t *dst = malloc(path.n + query.n + 1);
  CHECK(dst != NULL);
  while (lv_http_path_next(&path, &s))
    if (lv_http_decode(s, false, dst, &out) == 0) CHECK(lv_utf8_valid(out, true) && out.n <= s.n);
  while (lv_http_query_next(&query, &k, &v)) {
    CHECK(lv_http_query_find(r->query, k, &s));
    if (lv_http_decode(v, true, dst, &out) == 0) CHECK(lv_utf8_valid(out, true));
  }
  free(dst);
}

static void request(const lv_http_req *r) {
  CHECK(r->minor <= 1 && r->n_headers <= LV_HTTP_HEADERS_MAX);
  CHECK(!(r->has_length && r->chunked) && !(r->chunked && r->minor == 0));
  CHECK(r->asterisk || (r->path.n && r->path.p[0] == '/'));
  fuzz_touch(r->host);
  fuzz_touch(r->upgrade);
  target(r);
  for (uint32_t i = 0; i < r->n_headers; i++)
    CHECK(lv_http_header_find(r, r->headers[i].name) != NULL);
  uint8_t d[LIMIT * 2 + 64 * 4 + 128];
  lv_http_resp resp = {.status = 200,
                       .minor = r->minor,
                       .keep_alive = r->keep_alive,
                       .headers = r->headers,
                       .n_headers = r->n_headers};
  int n = lv_http_resp_encode(&resp, d, sizeof d);
  CHECK(n > 0);
  /* one line a field, the status line, the empty line, perhaps Connection */
  uint32_t lines = 0;
  for (int i = 0; i < n; i++) lines += d[i] == '\n';
  CHECK(lines >= r->n_headers + 2u && lines <= r->n_headers + 3u);
}

static void head(lv_slice in, uint32_t step) {
  uint32_t scanned = 0, len = 0, scanned2 = 0, len2 = 0;
  int whole = lv_http_head_find(in.p, in.n, LIMIT, &scanned, &len), pieces = LV_E_NEED_MORE;
  for (uint32_t n = 0; pieces == LV_E_NEED_MORE; n += step) {
    if (n > in.n) n = in.n;
    pieces = lv_http_head_find(in.p, n, LIMIT, &scanned2, &len2);
    if (n == in.n) break;
  }
  CHECK(whole == pieces && len == len2);
  lv_http_req r;
  if (whole == 0 && lv_http_head_decode((lv_slice){in.p, len}, &r) == 0) request(&r);
  (void)lv_http_head_decode(in, &r); /* and whatever was not found to be a head */
}

/* Feeds a body in pieces; the sum of what came out, and how it ended. */
static int body(lv_slice in, uint32_t step, uint64_t *ret_sum, uint32_t *ret_used) {
  lv_http_chunks c;
  lv_http_chunks_init(&c, BODY_MAX);
  uint32_t at = 0, total = 0;
  int got = LV_E_NEED_MORE;
  *ret_sum = 0;
  while (got == LV_E_NEED_MORE && at < in.n) {
    uint32_t n = in.n - at < step ? in.n - at : step;
    lv_slice piece = {in.p + at, n}, data;
    while ((got = lv_http_chunk_next(&c, &piece, &data)) == 1) {
      CHECK(data.n > 0 && data.p >= in.p && data.p + data.n <= in.p + in.n);
      for (uint32_t i = 0; i < data.n; i++) *ret_sum = *ret_sum * 31 + data.p[i] + 1;
      total += data.n;
    }
    at += n - (got >= 0 || got == LV_E_NEED_MORE ? piece.n : 0);
  }
  CHECK(total <= BODY_MAX);
  *ret_used = got == 0 ? at : 0;
  return got;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  uint8_t what = fuzz_byte(&data, &size);
  uint32_t step = 1u + fuzz_byte(&data, &size) % 32;
  lv_slice in = fuzz_copy(data, size);
  if (what & 1) {
    uint64_t sum, sum2;
    uint32_t used, used2;
    int whole = body(in, UINT32_MAX, &sum, &used), pieces = body(in, step, &sum2, &used2);
    CHECK(whole == pieces && sum == sum2 && used == used2);
  } else {
    head(in, step);
  }
  fuzz_free(in);
  return 0;
}
