/* mqtt_topic.c: topics and filters (§4.7), shared subscriptions (§4.8.2), and the split of a topic
 * into channel and key (docs: MQTT topics and channels).
 *
 * Filters are walked level by level, in place. `$` rule (§4.7.2): a filter whose first level is a
 * wildcard matches no topic that starts with `$`; covers and overlaps obey it too. `#` also matches
 * the level above it (`a/#` matches `a`), so `+/#` and `#` match the same topics. The tests compare
 * covers and overlaps with what match says about all topics of a small alphabet. @thread any */
#include "wire/mqtt_int.h"

static inline uint64_t wild_bytes(uint64_t v) {
  return lv__has_byte(v, '+') | lv__has_byte(v, '#');
}

static bool has_wild(lv_slice s) {
  if (s.n >= 16) {
    lv__v16 v = lv__load128(s.p + s.n - 16), ok = (v != '+') & (v != '#');
    for (uint32_t i = 0; i + 16 < s.n; i += 16) {
      v = lv__load128(s.p + i);
      ok &= (v != '+') & (v != '#');
    }
    return !lv__v16_all(ok);
  }
  if (s.n >= 8) return wild_bytes(lv__load64(s.p)) | wild_bytes(lv__load64(s.p + s.n - 8));
  return s.n && wild_bytes(lv__load_short(s.p, s.n));
}

int lv__rd_topic(lv__rd *r, lv_slice *ret, bool *ret_wild) {
  lv_slice s;
  if (LV__RARE(lv__rd_bin(r, &s) || !lv__str_ok(s))) return LV_E_MALFORMED;
  *ret = s;
  *ret_wild = has_wild(s);
  return 0;
}

int lv_mqtt_topic_check(lv_slice topic) {
  if (topic.n == 0 || topic.n > LV_MQTT_TOPIC_MAX) return LV_E_TOPIC;
  for (uint32_t i = 0; i < topic.n; i++)
    if (topic.p[i] == '+' || topic.p[i] == '#') return LV_E_TOPIC;
  return 0;
}

int lv_mqtt_filter_check(lv_slice filter) {
  if (filter.n == 0 || filter.n > LV_MQTT_TOPIC_MAX) return LV_E_FILTER;
  for (uint32_t i = 0; i < filter.n; i++) {
    uint8_t c = filter.p[i];
    if (c != '+' && c != '#') continue;
    if (i > 0 && filter.p[i - 1] != '/') return LV_E_FILTER;
    if (i + 1 == filter.n) continue;
    if (c == '#' || filter.p[i + 1] != '/') return LV_E_FILTER;
  }
  return 0;
}

int lv_mqtt_share_split(lv_slice filter, lv_slice *ret_group, lv_slice *ret_filter) {
  lv_slice prefix = LV_SLICE("$share/");
  if (!lv_slice_starts(filter, prefix)) return 0;
  lv_slice rest = {filter.p + prefix.n, filter.n - prefix.n};
  const uint8_t *slash = rest.n ? memchr(rest.p, '/', rest.n) : NULL;
  if (!slash) return LV_E_FILTER;
  lv_slice group = lv_slice_of(rest.p, (size_t)(slash - rest.p));
  lv_slice inner = lv_slice_of(slash + 1, rest.n - group.n - 1);
  if (lv_mqtt_topic_check(group) || lv_mqtt_filter_check(inner)) return LV_E_FILTER;
  *ret_group = group;
  *ret_filter = inner;
  return 1;
}

/* A walk over levels: `p … end` is what is left, `more` tells an empty last level from the end. */
typedef struct levels {
  const uint8_t *p, *end;
  bool more;
} levels;

static inline levels levels_of(lv_slice s) {
  return (levels){s.p, s.p ? s.p + s.n : s.p, true};
}
static inline bool level_next(levels *l, lv_slice *ret) {
  if (!l->more) return false;
  const uint8_t *p = l->p;
  while (p < l->end && *p != '/') p++;
  *ret = lv_slice_of(l->p, (size_t)(p - l->p));
  l->more = p < l->end;
  l->p = l->more ? p + 1 : p;
  return true;
}
static inline bool is_hash(lv_slice l) {
  return l.n == 1 && l.p[0] == '#';
}
static inline bool is_plus(lv_slice l) {
  return l.n == 1 && l.p[0] == '+';
}
static inline bool is_dollar(lv_slice s) {
  return s.n > 0 && s.p[0] == '$';
}
static inline bool starts_wild(lv_slice s) {
  return s.n > 0 && (s.p[0] == '+' || s.p[0] == '#');
}

bool lv_mqtt_match(lv_slice filter, lv_slice topic) {
  if (filter.n == 0 || topic.n == 0) return false;
  if (is_dollar(topic) && starts_wild(filter)) return false;
  const uint8_t *f = filter.p, *fe = f + filter.n, *t = topic.p, *te = t + topic.n;
  for (;;) { /* f and t stand at the start of a level */
    if (f < fe && *f == '#') return true;
    if (f < fe && *f == '+') {
      f++;
      while (t < te && *t != '/') t++;
    } else {
      while (f < fe && t < te && *f == *t && *f != '/') {
        f++;
        t++;
      }
    }
    bool f_end = f == fe, t_end = t == te;
    if (f_end && t_end) return true;
    if (t_end) return fe - f == 2 && f[0] == '/' && f[1] == '#'; /* the level above `#` */
    if (f_end || *f != '/' || *t != '/') return false;
    f++;
    t++;
  }
}

/* The level above `#` in `#` and in `/#` would be the empty topic, which is none: write them so
 * that each of their levels can be there. */
static lv_slice spelled_out(lv_slice filter) {
  if (lv_slice_eq(filter, LV_SLICE("#"))) return LV_SLICE("+/#");
  if (lv_slice_eq(filter, LV_SLICE("/#"))) return LV_SLICE("/+/#");
  return filter;
}

bool lv_mqtt_covers(lv_slice pattern, lv_slice filter) {
  if (pattern.n == 0 || filter.n == 0) return false;
  if (starts_wild(pattern) && is_dollar(filter)) return false;
  levels pl = levels_of(pattern), fl = levels_of(spelled_out(filter));
  lv_slice p, f;
  for (;;) {
    bool p_more = level_next(&pl, &p), f_more = level_next(&fl, &f);
    if (p_more && is_hash(p)) return true;
    if (!p_more || !f_more) return p_more == f_more;
    if (is_hash(f)) return false; /* also matches the level above, which a longer p cannot */
    if (!is_plus(p) && !lv_slice_eq(p, f)) return false;
  }
}

bool lv_mqtt_overlaps(lv_slice a, lv_slice b) {
  if (a.n == 0 || b.n == 0) return false;
  if ((starts_wild(a) && is_dollar(b)) || (starts_wild(b) && is_dollar(a))) return false;
  levels al = levels_of(spelled_out(a)), bl = levels_of(spelled_out(b));
  lv_slice x, y;
  for (;;) {
    bool a_more = level_next(&al, &x), b_more = level_next(&bl, &y);
    if ((a_more && is_hash(x)) || (b_more && is_hash(y))) return true;
    if (!a_more || !b_more) return a_more == b_more;
    if (!is_plus(x) && !is_plus(y) && !lv_slice_eq(x, y)) return false;
  }
}

uint32_t lv_mqtt_levels(lv_slice s) {
  uint32_t n = 1;
  for (uint32_t i = 0; i < s.n; i++) n += s.p[i] == '/';
  return n;
}

static const bool name_char[256] = {
    ['A'] = 1, ['B'] = 1, ['C'] = 1, ['D'] = 1, ['E'] = 1, ['F'] = 1, ['G'] = 1, ['H'] = 1,
    ['I'] = 1, ['J'] = 1, ['K'] = 1, ['L'] = 1, ['M'] = 1, ['N'] = 1, ['O'] = 1, ['P'] = 1,
    ['Q'] = 1, ['R'] = 1, ['S'] = 1, ['T'] = 1, ['U'] = 1, ['V'] = 1, ['W'] = 1, ['X'] = 1,
    ['Y'] = 1, ['Z'] = 1, ['a'] = 1, ['b'] = 1, ['c'] = 1, ['d'] = 1, ['e'] = 1, ['f'] = 1,
    ['g'] = 1, ['h'] = 1, ['i'] = 1, ['j'] = 1, ['k'] = 1, ['l'] = 1, ['m'] = 1, ['n'] = 1,
    ['o'] = 1, ['p'] = 1, ['q'] = 1, ['r'] = 1, ['s'] = 1, ['t'] = 1, ['u'] = 1, ['v'] = 1,
    ['w'] = 1, ['x'] = 1, ['y'] = 1, ['z'] = 1, ['0'] = 1, ['1'] = 1, ['2'] = 1, ['3'] = 1,
    ['4'] = 1, ['5'] = 1, ['6'] = 1, ['7'] = 1, ['8'] = 1, ['9'] = 1, ['.'] = 1, ['_'] = 1,
    ['-'] = 1};

enum { CHANNEL_NAME_MAX = 64 };

/* Length of the run of name characters at the start of s, at most one more than a name may have. */
static uint32_t name_run(lv_slice s) {
  uint32_t i = 0;
  while (i < s.n && i <= CHANNEL_NAME_MAX && name_char[s.p[i]]) i++;
  return i;
}

bool lv_channel_name_ok(lv_slice name) {
  return name.n >= 1 && name.n <= CHANNEL_NAME_MAX && name.p[0] != '_' && name_run(name) == name.n;
}

void lv_topic_split(lv_slice topic, lv_slice *ret_channel, uint16_t *ret_key_off) {
  uint32_t n = name_run(topic);
  bool usable = n >= 1 && n <= CHANNEL_NAME_MAX && topic.p[0] != '_';
  if (usable && n == topic.n) {
    *ret_channel = topic;
    *ret_key_off = 0xFFFF;
  } else if (usable && topic.p[n] == '/') {
    *ret_channel = (lv_slice){topic.p, n};
    *ret_key_off = (uint16_t)(n + 1);
  } else {
    *ret_channel = LV_SLICE("_");
    *ret_key_off = 0;
  }
}
