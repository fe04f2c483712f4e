/* origin.c: see origin.h. An origin is compared as text, in any case: browsers write scheme and
 * host in lower case and leave default ports out, in Origin and in Host alike. The scheme does not
 * count for what is ours: TLS may end at a proxy. */
#include "net/origin.h"
#include <arpa/inet.h>

/* Without its port. */
static lv_slice host_name(lv_slice host) {
  lv_slice name;
  if (host.n && host.p[0] == '[') {
    (void)lv_slice_split(&host, ']', &name);
    return (lv_slice){name.p + 1, name.n - 1};
  }
  (void)lv_slice_split(&host, ':', &name);
  return name;
}

static bool is_address(lv_slice name) {
  char text[INET6_ADDRSTRLEN];
  struct in6_addr a;
  if (lv_slice_caseeq(name, LV_SLICE("localhost"))) return true;
  if (name.n >= sizeof text) return false;
  memcpy(text, name.p, name.n);
  text[name.n] = 0;
  return inet_pton(AF_INET, text, &a) == 1 || inet_pton(AF_INET6, text, &a) == 1;
}

enum lv_origin lv_origin_of(lv_slice origin, lv_slice host) {
  static const lv_slice schemes[] = {LV_SLICE("http://"), LV_SLICE("https://")};
  if (!origin.n) return LV_ORIGIN_NONE;
  for (int i = 0; i < 2; i++) {
    lv_slice s = schemes[i];
    if (origin.n <= s.n || !lv_slice_caseeq((lv_slice){origin.p, s.n}, s)) continue;
    if (!lv_slice_caseeq((lv_slice){origin.p + s.n, origin.n - s.n}, host)) continue;
    return is_address(host_name(host)) ? LV_ORIGIN_OURS : LV_ORIGIN_NAMED;
  }
  return LV_ORIGIN_CROSS;
}

bool lv_origin_allowed(const lv_app *app, lv_slice origin, enum lv_origin kind, bool anonymous) {
  if (kind == LV_ORIGIN_NONE || kind == LV_ORIGIN_OURS) return true;
  if (kind == LV_ORIGIN_NAMED && !anonymous) return true;
  if (app->n_origins == 0) return !anonymous;
  for (uint32_t i = 0; i < app->n_origins; i++)
    if (lv_slice_caseeq(app->origins[i], origin)) return true;
  return false;
}
