/* content.c: whether a value is what its channel declares: JSON (RFC 8259: any value, well-formed
 * UTF-8, no lone surrogates, at most 128 levels) or text (UTF-8). Undeclared channels take
 * anything. */
#include "session/session_int.h"
#include "wire/json.h"

bool lv_content_ok(const lv_chan *chan, lv_slice value) {
  if (chan->content == LV_CONTENT_JSON) return lv_json_check_value(value) == 0;
  if (chan->content == LV_CONTENT_TEXT) return lv_utf8_valid(value, false);
  return true;
}
