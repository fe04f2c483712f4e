/* test_mqtt_topic.c: topics, filters, shared subscriptions, rights on filters, channel and key. */
#include "wire_test.h"

#include "wire/mqtt.h"

static void topics(void **state) {
  (void)state;
  static const char *good[] = {"a", "/", "//", "a/b", "/a", "a/", "$SYS/x", "a b", "\xC3\xA9/x"};
  static const char *bad[] = {"", "+", "#", "a/+", "a/#", "a+", "a#b"};
  for (size_t i = 0; i < COUNT(good); i++)
    assert_err(lv_mqtt_topic_check(lv_slice_str(good[i])), 0, good[i]);
  for (size_t i = 0; i < COUNT(bad); i++)
    assert_err(lv_mqtt_topic_check(lv_slice_str(bad[i])), LV_E_TOPIC, bad[i]);
}

static void filters(void **state) {
  (void)state;
  static const char *good[] = {"#",    "+",    "a",     "/",    "a/#", "a/+",       "+/+",
                               "/+",   "+/",   "+/a/#", "//#",  "/#",  "a/+/b/+/#", "$SYS/#",
                               "$x/+", "a/+/", "+/#",   "a//#", "+//", "$share/g/+"};
  static const char *bad[] = {"",     "#/", "#/a",  "a#", "a/#/b", "##",  "+#",     "a+",  "+a",
                              "a/+b", "++", "a/b+", "#+", "a/b#",  "/+a", "a/++/b", "/##", "+/a#"};
  for (size_t i = 0; i < COUNT(good); i++)
    assert_err(lv_mqtt_filter_check(lv_slice_str(good[i])), 0, good[i]);
  for (size_t i = 0; i < COUNT(bad); i++)
    assert_err(lv_mqtt_filter_check(lv_slice_str(bad[i])), LV_E_FILTER, bad[i]);
}

static void shares(void **state) {
  (void)state;
  static const struct {
    const char *in;
    int want;
    const char *group, *filter;
  } rows[] = {
      {"$share/g/a/b", 1, "g", "a/b"},
      {"$share/g/#", 1, "g", "#"},
      {"$share/g//", 1, "g", "/"},
      {"$share/long-name/+/x", 1, "long-name", "+/x"},
      {"$share", 0, "", ""},
      {"$shared/g/a", 0, "", ""},
      {"share/g/a", 0, "", ""},
      {"a", 0, "", ""},
      {"$share/", LV_E_FILTER, "", ""},
      {"$share/g", LV_E_FILTER, "", ""},
      {"$share/g/", LV_E_FILTER, "", ""},
      {"$share//a", LV_E_FILTER, "", ""},
      {"$share/+/a", LV_E_FILTER, "", ""},
      {"$share/g#/a", LV_E_FILTER, "", ""},
      {"$share/g/a#", LV_E_FILTER, "", ""},
      {"$share/g/#/a", LV_E_FILTER, "", ""},
  };
  for (size_t i = 0; i < COUNT(rows); i++) {
    lv_slice g = {0}, f = {0};
    assert_err(lv_mqtt_share_split(lv_slice_str(rows[i].in), &g, &f), rows[i].want, rows[i].in);
    assert_slice(g, lv_slice_str(rows[i].group));
    assert_slice(f, lv_slice_str(rows[i].filter));
  }
}

static const struct {
  const char *filter, *topic;
  bool want;
} match_rows[] = {
    {"a", "a", 1},
    {"a", "b", 0},
    {"a", "ab", 0},
    {"ab", "a", 0},
    {"a/b", "a/b", 1},
    {"a/b", "a", 0},
    {"a", "a/b", 0},
    {"a", "a/", 0},
    {"a/", "a", 0},
    {"a/", "a/", 1},
    {"+", "a", 1},
    {"+", "/a", 0},
    {"+/+", "/a", 1},
    {"/+", "/a", 1},
    {"+", "", 0},
    {"+", "a/", 0},
    {"+/", "a/", 1},
    {"+/", "a", 0},
    {"a/+", "a/", 1},
    {"a/+", "a", 0},
    {"a/+", "a/b/c", 0},
    {"a/+/c", "a/b/c", 1},
    {"a/+/c", "a//c", 1},
    {"a/+/c", "a/b/d", 0},
    {"#", "a", 1},
    {"#", "a/b/c", 1},
    {"#", "/", 1},
    {"a/#", "a", 1},
    {"a/#", "a/", 1},
    {"a/#", "a/b/c", 1},
    {"a/#", "ab", 0},
    {"a/#", "b", 0},
    {"a/#", "", 0},
    {"+/#", "a", 1},
    {"+/#", "a/b/c", 1},
    {"+/+/#", "a", 0},
    {"+/+/#", "a/b", 1},
    {"a//#", "a/", 1},
    {"a//#", "a", 0},
    {"a/b/#", "a/", 0},
    {"a/b/#", "a/b", 1},
    {"/#", "/", 1},
    {"/#", "a", 0},
    {"/#", "/a", 1},
    {"#", "$SYS", 0},
    {"#", "$SYS/a", 0},
    {"+", "$SYS", 0},
    {"+/a", "$SYS/a", 0},
    {"+/#", "$SYS/a", 0},
    {"$SYS/#", "$SYS/a", 1},
    {"$SYS/#", "$SYS", 1},
    {"$SYS/+", "$SYS/a", 1},
    {"a/+", "a/$b", 1},
    {"a/#", "a/$b", 1},
    {"+", "\xC3\xA9", 1},
    {"A", "a", 0},
    {"sport/tennis/player1/#", "sport/tennis/player1", 1},
    {"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", 1},
    {"sport/tennis/+", "sport/tennis/player1/ranking", 0},
};

static void matches(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(match_rows); i++) {
    if (lv_mqtt_match(lv_slice_str(match_rows[i].filter), lv_slice_str(match_rows[i].topic)) !=
        match_rows[i].want)
      fail_msg("match(%s, %s) should be %d", match_rows[i].filter, match_rows[i].topic,
               match_rows[i].want);
  }
}

static void covers(void **state) {
  (void)state;
  static const struct {
    const char *pattern, *filter;
    bool want;
  } rows[] = {
      {"#", "#", 1},      {"#", "a/+/b", 1},    {"#", "+/#", 1},      {"+/#", "#", 1},
      {"+/#", "a", 1},    {"+/+/#", "#", 0},    {"+", "#", 0},        {"+", "+", 1},
      {"+", "a", 1},      {"a", "+", 0},        {"a", "a", 1},        {"a/#", "a", 1},
      {"a/#", "a/#", 1},  {"a/#", "a/+/#", 1},  {"a/+/#", "a/#", 0},  {"a/#", "+/b", 0},
      {"+/b", "a/b", 1},  {"+/b", "a/+", 0},    {"a/+", "a/#", 0},    {"a/+", "a/b/c", 0},
      {"#", "$SYS/#", 0}, {"+/a", "$SYS/a", 0}, {"+/#", "$SYS/a", 0}, {"$SYS/#", "$SYS/+", 1},
      {"$SYS/#", "#", 0}, {"a/b", "a", 0},      {"a", "a/b", 0},      {"a", "a/#", 0},
      {"a/+", "a/$x", 1}, {"/#", "/a", 1},      {"/#", "#", 0},       {"a/", "a", 0},
      {"a/+", "a/", 1},   {"/+/#", "/#", 1},    {"+/+/#", "/#", 1},
  };
  for (size_t i = 0; i < COUNT(rows); i++) {
    if (lv_mqtt_covers(lv_slice_str(rows[i].pattern), lv_slice_str(rows[i].filter)) != rows[i].want)
      fail_msg("covers(%s, %s) should be %d", rows[i].pattern, rows[i].filter, rows[i].want);
  }
}

static void overlaps(void **state) {
  (void)state;
  static const struct {
    const char *a, *b;
    bool want;
  } rows[] = {
      {"#", "a", 1},     {"#", "#", 1},      {"a/#", "+", 1},     {"a/#", "b/#", 0},
      {"a/+", "+/b", 1}, {"a/+", "b/+", 0},  {"a/+/c", "a/#", 1}, {"a", "a/b", 0},
      {"a/b", "a/+", 1}, {"+", "+/+", 0},    {"+/#", "a", 1},     {"+/+/#", "a", 0},
      {"#", "$a/b", 0},  {"+/b", "$a/b", 0}, {"$a/#", "$a/b", 1}, {"$a/#", "#", 0},
      {"a/#", "a", 1},   {"a//#", "a/", 1},  {"a//#", "a/b", 0},  {"a/+", "a/", 1},
  };
  for (size_t i = 0; i < COUNT(rows); i++) {
    lv_slice a = lv_slice_str(rows[i].a), b = lv_slice_str(rows[i].b);
    if (lv_mqtt_overlaps(a, b) != rows[i].want || lv_mqtt_overlaps(b, a) != rows[i].want)
      fail_msg("overlaps(%s, %s) should be %d", rows[i].a, rows[i].b, rows[i].want);
  }
}

/* Every filter and topic of up to three levels over a small alphabet: covers and overlaps must say
 * exactly what match says when it is asked about all topics. One level more than the filters have
 * and a fresh name ("z") are enough to tell two filters apart. */
enum { LEVELS = 3, SET_MAX = 3000, NAME_MAX_LEN = 24 };
static size_t make_all(const char *const *words, size_t n, size_t depth_max,
                       char (*out)[NAME_MAX_LEN]) {
  size_t count = 0;
  for (size_t depth = 1; depth <= depth_max; depth++) {
    size_t total = 1;
    for (size_t d = 0; d < depth; d++) total *= n;
    for (size_t k = 0; k < total; k++) {
      char s[NAME_MAX_LEN] = "";
      size_t at = 0, rest = k;
      for (size_t d = 0; d < depth; d++, rest /= n) {
        const char *w = words[rest % n];
        if (d) s[at++] = '/';
        memcpy(s + at, w, strlen(w));
        at += strlen(w);
      }
      assert_true(count < SET_MAX && at < NAME_MAX_LEN);
      s[at] = 0;
      memcpy(out[count++], s, sizeof s);
    }
  }
  return count;
}

static void against_all_topics(void **state) {
  (void)state;
  static const char *const fw[] = {"+", "#", "", "a", "$s"}, *const tw[] = {"", "a", "z", "$s"};
  static char fs[SET_MAX][NAME_MAX_LEN], ts[SET_MAX][NAME_MAX_LEN];
  static bool m[SET_MAX / 10][SET_MAX];
  size_t all = make_all(fw, COUNT(fw), LEVELS, fs), nf = 0;
  for (size_t i = 0; i < all; i++)
    if (lv_mqtt_filter_check(lv_slice_str(fs[i])) == 0) memmove(fs[nf++], fs[i], NAME_MAX_LEN);
  size_t nt = make_all(tw, COUNT(tw), LEVELS + 1, ts);
  assert_true(nf > 50 && nf < COUNT(m));
  for (size_t i = 0; i < nf; i++)
    for (size_t t = 0; t < nt; t++)
      m[i][t] = lv_mqtt_match(lv_slice_str(fs[i]), lv_slice_str(ts[t]));
  for (size_t i = 0; i < nf; i++) {
    for (size_t j = 0; j < nf; j++) {
      bool subset = true, common = false;
      for (size_t t = 0; t < nt; t++) {
        subset = subset && (!m[j][t] || m[i][t]);
        common = common || (m[i][t] && m[j][t]);
      }
      if (lv_mqtt_covers(lv_slice_str(fs[i]), lv_slice_str(fs[j])) != subset)
        fail_msg("covers(%s, %s) should be %d", fs[i], fs[j], subset);
      if (lv_mqtt_overlaps(lv_slice_str(fs[i]), lv_slice_str(fs[j])) != common)
        fail_msg("overlaps(%s, %s) should be %d", fs[i], fs[j], common);
    }
  }
}

static void levels(void **state) {
  (void)state;
  assert_int_equal(lv_mqtt_levels(S("a")), 1);
  assert_int_equal(lv_mqtt_levels(S("/")), 2);
  assert_int_equal(lv_mqtt_levels(S("a/b/#")), 3);
}

static void splits(void **state) {
  (void)state;
#define N64 "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffff0123"
  static const struct {
    const char *topic, *channel;
    uint16_t key_off;
  } rows[] = {
      {"c", "c", 0xFFFF},     {"c/", "c", 2},        {"c/k", "c", 2},
      {"c/k/l", "c", 2},      {"c//", "c", 2},       {"Az09.-_x/k", "Az09.-_x", 9},
      {"_c/k", "_", 0},       {"_", "_", 0},         {"/a", "_", 0},
      {"/", "_", 0},          {"a b/c", "_", 0},     {"$SYS/x", "_", 0},
      {"\xC3\xA9/x", "_", 0}, {"a\xC3\xA9", "_", 0}, {N64, N64, 0xFFFF},
      {N64 "/k", N64, 65},    {N64 "4", "_", 0},     {N64 "4/k", "_", 0},
      {N64 "!", "_", 0},
  };
  for (size_t i = 0; i < COUNT(rows); i++) {
    lv_slice t = heap_copy(lv_slice_str(rows[i].topic)), ch;
    uint16_t off = 7;
    lv_topic_split(t, &ch, &off);
    assert_slice(ch, lv_slice_str(rows[i].channel));
    assert_int_equal(off, rows[i].key_off);
    heap_free(t);
  }
  assert_true(lv_channel_name_ok(S("a")));
  assert_true(lv_channel_name_ok(S(N64)));
  assert_true(lv_channel_name_ok(S("..")));
  assert_false(lv_channel_name_ok(S(N64 "4")));
  assert_false(lv_channel_name_ok(S("")));
  assert_false(lv_channel_name_ok(S("_a")));
  assert_false(lv_channel_name_ok(S("a/b")));
  assert_false(lv_channel_name_ok(S("a\0")));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(topics), cmocka_unit_test(filters),
      cmocka_unit_test(shares), cmocka_unit_test(matches),
      cmocka_unit_test(covers), cmocka_unit_test(overlaps),
      cmocka_unit_test(levels), cmocka_unit_test(against_all_topics),
      cmocka_unit_test(splits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
