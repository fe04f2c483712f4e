/* rights.c: a key's patterns against topics and filters, by the rules of MQTT (wire/mqtt.h). Keys
 * have few patterns; the usual one, `#`, is answered without a match. */
#include "session/rights.h"
#include "wire/mqtt.h"
#include <assert.h>

/* In the $SYS tree: the level itself or below it. */
static bool is_sys(lv_slice s) {
  return lv_slice_starts(s, LV_SLICE("$SYS")) && (s.n == 4 || s.p[4] == '/');
}

static bool is_all(lv_slice pattern) {
  return pattern.n == 1 && pattern.p[0] == '#';
}

/* For topics outside of $SYS. */
static bool allows(const lv_key *key, uint8_t verb, lv_slice topic) {
  if (!key) return true;
  if (key->within && !allows(key->within, verb, topic)) return false;
  for (uint32_t i = 0; i < key->n_rights; i++) {
    const lv_right *r = &key->rights[i];
    if (!(r->verbs & verb)) continue;
    if (is_all(r->pattern) || lv_mqtt_match(r->pattern, topic)) return true;
  }
  return false;
}

bool lv_key_may_publish(const lv_key *key, lv_slice topic) {
  return !is_sys(topic) && allows(key, LV_VERB_PUBLISH, topic);
}

bool lv_key_may_read(const lv_key *key, lv_slice topic) {
  if (is_sys(topic)) return key && (key->verbs & LV_VERB_SYS);
  return allows(key, LV_VERB_SUBSCRIBE, topic);
}

/* Of two sets of rights that both have to allow it: what overlaps each of them need not overlap
 * what they share, which the check of each delivery then finds. */
static bool both_may(const lv_key *key, lv_slice filter, bool *ret_all) {
  lv_key own = *key;
  bool all, within;
  own.within = NULL;
  if (!lv_key_may_subscribe(&own, filter, &all) ||
      !lv_key_may_subscribe(key->within, filter, &within))
    return false;
  *ret_all = all && within;
  return true;
}

bool lv_key_may_subscribe(const lv_key *key, lv_slice filter, bool *ret_all) {
  static const lv_right everything = {LV_VERB_SUBSCRIBE, LV_SLICE("#")};
  const lv_right *rights = key ? key->rights : &everything;
  uint32_t n = key ? key->n_rights : 1;
  bool any = false, all = false;
  assert(ret_all);
  if (key && key->within) return both_may(key, filter, ret_all);
  if (is_sys(filter)) {
    any = all = key && (key->verbs & LV_VERB_SYS);
    n = 0;
  }
  for (uint32_t i = 0; i < n && !all; i++) {
    if (!(rights[i].verbs & LV_VERB_SUBSCRIBE)) continue;
    all = is_all(rights[i].pattern) || lv_mqtt_covers(rights[i].pattern, filter);
    any |= all || lv_mqtt_overlaps(rights[i].pattern, filter);
  }
  if (any) *ret_all = all;
  return any;
}
