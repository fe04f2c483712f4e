/* ws_encode.c: frame heads and control frames (RFC 6455 §5.2, §5.5). A server's message is a head
 * in front of bytes that many connections share; only clients mask. @thread any */
#include "wire/ws.h"
#include <assert.h>

static uint32_t head_put(uint8_t first, uint64_t n, uint8_t mask_bit, uint8_t *dst) {
  dst[0] = first;
  if (n <= 125) {
    dst[1] = (uint8_t)(mask_bit | n);
    return 2;
  }
  uint32_t bytes = n <= 65535 ? 2 : 8;
  dst[1] = (uint8_t)(mask_bit | (bytes == 2 ? 126 : 127));
  for (uint32_t i = 0; i < bytes; i++) dst[2 + i] = (uint8_t)(n >> (8 * (bytes - 1 - i)));
  return 2 + bytes;
}

uint32_t lv_ws_head_encode(uint8_t first, uint64_t n, uint8_t *dst) {
  assert(n <= INT64_MAX);
  return head_put(first, n, 0, dst);
}

uint32_t lv_ws_head_encode_masked(uint8_t first, uint64_t n, const uint8_t mask[4], uint8_t *dst) {
  assert(n <= INT64_MAX);
  uint32_t len = head_put(first, n, 0x80, dst);
  memcpy(dst + len, mask, 4);
  return len + 4;
}

uint32_t lv_ws_control_encode(uint8_t op, lv_slice payload, const uint8_t *mask, uint8_t *dst) {
  assert(op >= LV_WS_CLOSE && op <= LV_WS_PONG);
  assert(payload.n <= LV_WS_CONTROL_MAX);
  uint8_t first = (uint8_t)(op | LV_WS_FIN);
  uint32_t len = mask ? lv_ws_head_encode_masked(first, payload.n, mask, dst)
                      : lv_ws_head_encode(first, payload.n, dst);
  if (payload.n) memcpy(dst + len, payload.p, payload.n);
  if (mask) {
    uint32_t key;
    memcpy(&key, mask, 4);
    (void)lv_ws_mask(dst + len, payload.n, key);
  }
  return len + payload.n;
}

uint32_t lv_ws_close_encode(uint16_t code, lv_slice reason, const uint8_t *mask, uint8_t *dst) {
  uint8_t payload[LV_WS_CONTROL_MAX];
  if (code == LV_WS_NO_CODE) return lv_ws_control_encode(LV_WS_CLOSE, (lv_slice){0}, mask, dst);
  assert(lv_ws_code_ok(code));
  uint32_t n = lv_ws_utf8_cut(reason, LV_WS_REASON_MAX);
  payload[0] = (uint8_t)(code >> 8);
  payload[1] = (uint8_t)code;
  if (n) memcpy(payload + 2, reason.p, n);
  return lv_ws_control_encode(LV_WS_CLOSE, lv_slice_of(payload, n + 2), mask, dst);
}
