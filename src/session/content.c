/* content.c: whether a value is what its channel declares: JSON (RFC 8259: any value, well-formed
 * UTF-8, no lone surrogates, at most 128 levels) or text (UTF-8). Undeclared channels take
 * anything.
 *
 * JSON is parsed by jansson; declared channels pay for it, others do not. The depth is bounded
 * first, since a parser that builds a tree pays for each level. */
#include "session/session_int.h"
#include <jansson.h>

enum { DEPTH_MAX = 128 };

static bool shallow(lv_slice s) {
  uint32_t depth = 0;
  bool in_string = false;
  for (uint32_t i = 0; i < s.n; i++) {
    uint8_t c = s.p[i];
    if (in_string) {
      if (c == '\\')
        i++;
      else if (c == '"')
        in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > DEPTH_MAX) return false;
    } else if ((c == ']' || c == '}') && depth) {
      depth--;
    }
  }
  return true;
}

static bool is_json(lv_slice s) {
  json_error_t e;
  if (!shallow(s)) return false;
  json_t *v = json_loadb((const char *)s.p, s.n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
  bool ok = v != NULL;
  json_decref(v);
  return ok;
}

bool lv__content_ok(const lv_chan *chan, lv_slice value, bool retain) {
  if (value.n == 0 && retain) return true; /* takes a retained message back */
  if (chan->content == LV_CONTENT_JSON) return is_json(value);
  if (chan->content == LV_CONTENT_TEXT) return lv_utf8_valid(value, false);
  return true;
}
