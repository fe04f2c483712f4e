/* hub_text.c: the hub's small texts: positions and Server-Sent Events. @thread any */
#include "wire/hubmsg.h"
#include <assert.h>

static bool epoch_char(uint8_t c) {
  return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '.' || c == '_';
}

uint8_t *lv_hub_pos_put(uint8_t *dst, const lv_hub_pos *pos) {
  assert(pos->epoch.n >= 1 && pos->epoch.n <= LV_HUB_EPOCH_MAX);
  memcpy(dst, pos->epoch.p, pos->epoch.n);
  dst += pos->epoch.n;
  *dst++ = '-';
  return lv_json_put_u64(dst, pos->offset);
}

int lv_hub_pos_parse(lv_slice s, lv_hub_pos *ret) {
  lv_slice epoch;
  uint64_t offset;
  if (!lv_slice_split(&s, '-', &epoch)) return LV_E_INVALID;
  if (epoch.n < 1 || epoch.n > LV_HUB_EPOCH_MAX) return LV_E_INVALID;
  for (uint32_t i = 0; i < epoch.n; i++)
    if (!epoch_char(epoch.p[i])) return LV_E_INVALID;
  if (lv_slice_u64(s, &offset) || (s.n > 1 && s.p[0] == '0')) return LV_E_INVALID;
  *ret = (lv_hub_pos){epoch, offset};
  return 0;
}

/* ---- Server-Sent Events ---- */

/* Takes the next line off *data, false when there was none left. The last line has no end. */
static bool line_next(lv_slice *data, bool *io_more, lv_slice *ret) {
  if (!*io_more) return false;
  uint32_t n = 0;
  while (n < data->n && data->p[n] != '\n' && data->p[n] != '\r') n++;
  *ret = (lv_slice){data->p, n};
  *io_more = n < data->n;
  if (!*io_more) return true;
  uint32_t end = n + 1;
  if (data->p[n] == '\r' && end < data->n && data->p[end] == '\n') end++;
  *data = (lv_slice){data->p + end, data->n - end};
  return true;
}

static uint8_t *put_line(uint8_t *dst, lv_slice name, lv_slice text) {
  memcpy(dst, name.p, name.n);
  dst += name.n;
  if (text.n) memcpy(dst, text.p, text.n);
  dst += text.n;
  *dst++ = '\n';
  return dst;
}

uint32_t lv_hub_sse_size(lv_slice id, lv_slice event, lv_slice data) {
  uint32_t n = 1;
  bool more = true;
  lv_slice line;
  if (id.n) n += LV_SLICE("id: ").n + id.n + 1;
  if (event.n) n += LV_SLICE("event: ").n + event.n + 1;
  while (line_next(&data, &more, &line)) n += LV_SLICE("data: ").n + line.n + 1;
  return n;
}

uint8_t *lv_hub_sse_put(uint8_t *dst, lv_slice id, lv_slice event, lv_slice data) {
  bool more = true;
  lv_slice line;
  if (id.n) dst = put_line(dst, LV_SLICE("id: "), id);
  if (event.n) dst = put_line(dst, LV_SLICE("event: "), event);
  while (line_next(&data, &more, &line)) dst = put_line(dst, LV_SLICE("data: "), line);
  *dst++ = '\n';
  return dst;
}
