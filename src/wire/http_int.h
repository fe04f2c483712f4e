/* http_int.h: the character classes of RFC 9110 that the HTTP files share. */
#ifndef LV_WIRE_HTTP_INT_H
#define LV_WIRE_HTTP_INT_H
#include "wire/http.h"

enum lv__http_class {
  LV__HTTP_TOKEN = 1,  /* tchar (§5.6.2) */
  LV__HTTP_VALUE = 2,  /* field-vchar, SP, HTAB, obs-text (§5.5) */
  LV__HTTP_TARGET = 4, /* visible ASCII but `#`: what a request target may hold */
  LV__HTTP_HOST = 8,   /* reg-name, IP literal, port (RFC 3986 §3.2.2); no user info */
  LV__HTTP_HEX = 16
};
extern const uint8_t lv__http_class[256];

static inline bool lv__http_is(uint8_t c, enum lv__http_class k) {
  return lv__http_class[c] & k;
}
static inline bool lv__http_all(lv_slice s, enum lv__http_class k) {
  for (uint32_t i = 0; i < s.n; i++)
    if (!(lv__http_class[s.p[i]] & k)) return false;
  return true;
}
static inline uint8_t lv__http_hex(uint8_t c) {
  return (uint8_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
}
#endif
