/* http_target.c: the parts of a request target: path segments, query parameters, percent-decoding
 * (RFC 3986 §2.1). Splitting comes before decoding, so that an encoded separator stays data.
 * @thread any */
#include "wire/http_int.h"

bool lv_http_path_next(lv_slice *path, lv_slice *ret_segment) {
  if (path->n == 0) return false;
  lv_slice rest = *path;
  if (rest.p[0] == '/') rest = (lv_slice){rest.p + 1, rest.n - 1};
  uint32_t n = 0;
  while (n < rest.n && rest.p[n] != '/') n++;
  *ret_segment = (lv_slice){rest.p, n};
  *path = (lv_slice){rest.p + n, rest.n - n};
  return true;
}

bool lv_http_query_next(lv_slice *query, lv_slice *ret_name, lv_slice *ret_value) {
  lv_slice part;
  while (query->n) {
    (void)lv_slice_split(query, '&', &part);
    if (part.n == 0) continue;
    (void)lv_slice_split(&part, '=', ret_name);
    *ret_value = part;
    return true;
  }
  return false;
}

bool lv_http_query_find(lv_slice query, lv_slice name, lv_slice *ret_value) {
  lv_slice k, v;
  while (lv_http_query_next(&query, &k, &v)) {
    if (!lv_slice_eq(k, name)) continue;
    *ret_value = v;
    return true;
  }
  return false;
}

int lv_http_decode(lv_slice raw, bool plus, uint8_t *dst, lv_slice *ret) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < raw.n; i++) {
    uint8_t c = raw.p[i];
    if (c == '%') {
      if (raw.n - i < 3 || !lv__http_is(raw.p[i + 1], LV__HTTP_HEX) ||
          !lv__http_is(raw.p[i + 2], LV__HTTP_HEX))
        return LV_E_MALFORMED;
      c = (uint8_t)(lv__http_hex(raw.p[i + 1]) << 4 | lv__http_hex(raw.p[i + 2]));
      i += 2;
    } else if (c == '+' && plus) {
      c = ' ';
    }
    dst[n++] = c;
  }
  lv_slice out = {dst, n};
  if (!lv_utf8_valid(out, true)) return LV_E_MALFORMED;
  *ret = out;
  return 0;
}
