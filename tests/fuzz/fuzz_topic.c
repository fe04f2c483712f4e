/* fuzz_topic.c: three lines, two filters and a topic: match, covers and overlaps must agree.
 * Filters that are none are only checked. */
#include "fuzz.h"
#include "wire/mqtt.h"

static lv_slice line(const uint8_t **p, size_t *n) {
  size_t k = 0;
  while (k < *n && (*p)[k] != '\n') k++;
  lv_slice s = fuzz_copy(*p, k < LV_MQTT_TOPIC_MAX ? k : LV_MQTT_TOPIC_MAX);
  size_t skip = k < *n ? k + 1 : k;
  *p += skip;
  *n -= skip;
  return s;
}

static void agree(lv_slice a, lv_slice b, lv_slice t) {
  bool ma = lv_mqtt_match(a, t), mb = lv_mqtt_match(b, t);
  if (lv_mqtt_covers(a, b)) {
    CHECK(!mb || ma);
    CHECK(lv_mqtt_overlaps(a, b)); /* no filter matches nothing */
  }
  CHECK(!(ma && mb) || lv_mqtt_overlaps(a, b));
  CHECK(lv_mqtt_overlaps(a, b) == lv_mqtt_overlaps(b, a));
  CHECK(lv_mqtt_covers(a, a) && lv_mqtt_overlaps(a, a));
  /* a topic is a filter that matches itself alone */
  CHECK(lv_mqtt_match(t, t) && lv_mqtt_covers(a, t) == ma && lv_mqtt_overlaps(a, t) == ma);
  if (lv_mqtt_covers(a, b) && lv_mqtt_covers(b, a)) CHECK(ma == mb);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  lv_slice a = line(&data, &size), b = line(&data, &size), t = line(&data, &size), g, f;
  bool good = lv_mqtt_filter_check(a) == 0 && lv_mqtt_filter_check(b) == 0;
  if (lv_mqtt_share_split(a, &g, &f) == 1)
    CHECK(g.n > 0 && f.n > 0 && 8 + g.n + f.n == a.n && lv_mqtt_filter_check(f) == 0);
  if (good && lv_mqtt_topic_check(t) == 0) agree(a, b, t);
  lv_slice chan;
  uint16_t off;
  lv_topic_split(t, &chan, &off);
  CHECK(lv_mqtt_levels(t) >= 1);
  if (off != 0xFFFF && off != 0) /* rebuilt exactly: channel, slash, key */
    CHECK(off == chan.n + 1 && t.p[chan.n] == '/' && memcmp(t.p, chan.p, chan.n) == 0);
  fuzz_free(a);
  fuzz_free(b);
  fuzz_free(t);
  return 0;
}
