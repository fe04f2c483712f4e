/* mqtt_head.c: the fixed header (§2.1), and counting packets in a run of encoded ones.
 *
 * Here the remaining length may be longer than it has to be: MQTT 3.1.1 does not forbid it, devices
 * that reserve room for the length rely on that, and the protocol level is not known before the
 * first packet. Four bytes stay the limit. @thread any */
#include "wire/mqtt_int.h"

/* Low nibble that §2.1.3 demands for each type; PUBLISH (any) and type 0 (none) apart. */
static const uint8_t flags_of[16] = {
    [LV_MQTT_PUBREL] = 2, [LV_MQTT_SUBSCRIBE] = 2, [LV_MQTT_UNSUBSCRIBE] = 2};

int lv_mqtt_head_decode(const uint8_t *p, uint32_t n, lv_mqtt_head *ret) {
  if (n == 0) return LV_E_NEED_MORE;
  uint8_t type = p[0] >> 4, flags = p[0] & 15;
  if (type != LV_MQTT_PUBLISH && LV__RARE(type == 0 || flags != flags_of[type]))
    return LV_E_MALFORMED;
  uint32_t v = 0;
  for (uint32_t i = 1; i < LV_MQTT_HEAD_MAX; i++) {
    if (i >= n) return LV_E_NEED_MORE;
    v |= (uint32_t)(p[i] & 0x7F) << (7 * (i - 1));
    if (p[i] & 0x80) continue;
    *ret = (lv_mqtt_head){.type = type, .flags = flags, .len = (uint8_t)(i + 1), .remaining = v};
    return 0;
  }
  return LV_E_MALFORMED;
}

uint32_t lv_mqtt_count_publishes(const uint8_t *p, uint32_t n) {
  uint32_t count = 0;
  lv_mqtt_head h;
  while (n > 0 && lv_mqtt_head_decode(p, n, &h) == 0 && n - h.len >= h.remaining) {
    count += h.type == LV_MQTT_PUBLISH;
    p += h.len + h.remaining;
    n -= h.len + h.remaining;
  }
  return count;
}
