/* test_hub_query.c: the query parameters of a subscription, and what is said about bad ones. */
#include "wire_test.h"

#include <stdio.h>

#include "wire/hubmsg.h"

typedef struct parsed {
  lv_hub_query q;
  uint8_t scratch[4096];
  char why[LV_HUB_WHY_MAX];
} parsed;

static int parse(const char *query, uint8_t gen, parsed *p) {
  memset(p->why, 0, sizeof p->why);
  memset(&p->q, 0xA5, sizeof p->q);
  lv_slice s = heap_copy(lv_slice_str(query));
  uint8_t *scratch = malloc(s.n + 1);
  int err = lv_hub_query_parse(s, S(""), gen, scratch, &p->q, p->why);
  assert_int_equal(err ? LV_E_INVALID : 0, err);
  free(scratch);
  heap_free(s);
  return lv_hub_query_parse(lv_slice_str(query), S(""), gen, p->scratch, &p->q, p->why);
}

static void test_whole(void **state) {
  parsed p;
  assert_int_equal(parse("channels=a,b.2,%61,_,c%2D&user_id=J+%C3%A9&apiKey=lv_1_2&format=text"
                         "&encoding=msgpack&snapshot=false&pos=true&keys=+/x/%23&cats=a%2Cb,c+d"
                         "&conflate=250&other=%zz",
                         LV_HUB_V1, &p),
                   0);
  assert_int_equal(p.q.n_channels, 4);
  assert_slice(p.q.channels[0], S("a"));
  assert_slice(p.q.channels[1], S("b.2"));
  assert_slice(p.q.channels[2], S("_"));
  assert_slice(p.q.channels[3], S("c-"));
  assert_slice(p.q.user_id, S("J \xC3\xA9"));
  assert_slice(p.q.api_key, S("lv_1_2"));
  assert_int_equal(p.q.encoding, LV_HUB_MSGPACK);
  assert_int_equal(p.q.format, LV_HUB_BINARY); /* msgpack implies it */
  assert_true(!p.q.snapshot && p.q.pos && !p.q.has_since);
  assert_slice(p.q.keys, S("+/x/#"));
  assert_int_equal(p.q.n_cats, 2);
  assert_slice(p.q.cats[0], S("a,b"));
  assert_slice(p.q.cats[1], S("c d"));
  assert_int_equal(p.q.conflate_ms, 250);
  assert_int_equal(p.q.since[3].kind, LV_HUB_SINCE_NONE);
}

static void test_defaults(void **state) {
  parsed p;
  assert_int_equal(parse("channels=a", LV_HUB_V1, &p), 0);
  assert_true(p.q.snapshot && !p.q.pos && !p.q.has_since);
  assert_int_equal(p.q.format, LV_HUB_TEXT);
  assert_int_equal(p.q.encoding, LV_HUB_JSON);
  assert_int_equal(p.q.user_id.n + p.q.api_key.n + p.q.keys.n + p.q.n_cats + p.q.conflate_ms, 0);
  assert_int_equal(parse("channels=a&format=binary", LV_HUB_V09, &p), 0);
  assert_int_equal(p.q.format, LV_HUB_BINARY);
  /* the channel of a path, in place of the parameter */
  assert_int_equal(
      lv_hub_query_parse(S("since=start"), S("%61b"), LV_HUB_V1, p.scratch, &p.q, p.why), 0);
  assert_int_equal(p.q.n_channels, 1);
  assert_slice(p.q.channels[0], S("ab"));
  assert_int_equal(p.q.since[0].kind, LV_HUB_SINCE_START);
}

static void test_since(void **state) {
  parsed p;
  assert_int_equal(parse("channels=a&since=e1-42", LV_HUB_V1, &p), 0);
  assert_true(p.q.has_since && p.q.pos);
  assert_int_equal(p.q.since[0].kind, LV_HUB_SINCE_POS);
  assert_slice(p.q.since[0].pos.epoch, S("e1"));
  assert_int_equal(p.q.since[0].pos.offset, 42);
  assert_int_equal(parse("channels=a,b&since=start", LV_HUB_V1, &p), 0);
  assert_int_equal(p.q.since[1].kind, LV_HUB_SINCE_START);
  assert_int_equal(parse("channels=a,b&since=1970-01-01T00:00:01%2B00:00", LV_HUB_V1, &p), 0);
  assert_int_equal(p.q.since[1].kind, LV_HUB_SINCE_TIME);
  assert_int_equal(p.q.since[1].time.ns, 1000000000);
  assert_int_equal(parse("channels=a&since=1970-01-01T02:00:01+02:00", LV_HUB_V1, &p), 0);
  assert_int_equal(p.q.since[0].time.ns, 1000000000);
  assert_int_equal(
      parse("channels=a,b,c,d&since=c:start,a:e-1%2Cd:1970-01-01T00:00:02Z", LV_HUB_V1, &p), 0);
  assert_int_equal(p.q.since[0].pos.offset, 1);
  assert_int_equal(p.q.since[1].kind, LV_HUB_SINCE_NONE);
  assert_int_equal(p.q.since[2].kind, LV_HUB_SINCE_START);
  assert_int_equal(p.q.since[3].time.ns, 2000000000);
  /* a channel may be called start, or like a position */
  assert_int_equal(parse("channels=start,e-1&since=start:start,e-1:e-1", LV_HUB_V1, &p), 0);
  assert_int_equal(p.q.since[0].kind, LV_HUB_SINCE_START);
  assert_int_equal(p.q.since[1].kind, LV_HUB_SINCE_POS);
}

static const struct {
  uint8_t gen;
  const char *in, *why;
} bad[] = {
    {0, "", "channels: none given"},
    {0, "channels=", "channels: none given"},
    {0, "channels=a,", "channels: \"\" is not the name of a channel"},
    {0, "channels=a,,b", "channels: \"\" is not the name of a channel"},
    {0, "channels=a%2Cb", "channels: \"a,b\" is not the name of a channel"},
    {0, "channels=_x", "channels: \"_x\" is not the name of a channel"},
    {0, "channels=%22%C3%A9", "channels: \"???\" is not the name of a channel"},
    {0, "channels=%zz", "channels: a bad escape, or not UTF-8"},
    {0, "channels=a&channels=b", "channels: given twice"},
    {0, "channels=a&apiKey=%ff", "apiKey: a bad escape, or not UTF-8"},
    {0, "channels=a&user_id=%00", "user_id: a bad escape, or not UTF-8"},
    {0, "channels=a&format=xml", "format: it is text or binary"},
    {0, "channels=a&encoding=cbor", "encoding: it is json or msgpack"},
    {1, "channels=a&encoding=msgpack", "encoding: /v1/ws speaks json only"},
    {0, "channels=a&snapshot=1", "snapshot: it is true or false"},
    {0, "channels=a&pos=", "pos: it is true or false"},
    {0, "channels=a,b&since=e-1",
     "since: one position for several channels: give CHANNEL:POSITION,..."},
    {0,
     "channels=a&since=", "since: not a position, a time, `start`, or a list of CHANNEL:POSITION"},
    {0, "channels=a&since=xyz",
     "since: not a position, a time, `start`, or a list of CHANNEL:POSITION"},
    {0, "channels=a&since=b:e-1", "since: \"b\" is not among the channels"},
    {0, "channels=a&since=a:e-1,a:e-2", "since: \"a\" is there twice"},
    {0, "channels=a&since=a:e", "since: not a position, a time or `start` for \"a\""},
    {0, "channels=a&keys=", "keys: not a pattern (levels, + and #)"},
    {0, "channels=a&keys=a%2B", "keys: not a pattern (levels, + and #)"},
    {0, "channels=a&keys=%23/a", "keys: not a pattern (levels, + and #)"},
    {0, "channels=a&cats=", "cats: an empty category"},
    {0, "channels=a&cats=a,", "cats: an empty category"},
    {0, "channels=a&cats=%8", "cats: a bad escape, or not UTF-8"},
    {0, "channels=a&conflate=1.5", "conflate: milliseconds, 0 to 3600000"},
    {0, "channels=a&conflate=-1", "conflate: milliseconds, 0 to 3600000"},
    {0, "channels=a&conflate=3600001", "conflate: milliseconds, 0 to 3600000"},
};

static void test_refused(void **state) {
  parsed p;
  for (size_t i = 0; i < COUNT(bad); i++) {
    assert_err(parse(bad[i].in, bad[i].gen, &p), LV_E_INVALID, bad[i].in);
    assert_string_equal(p.why, bad[i].why);
  }
}

static void test_limits(void **state) {
  static char query[4096] = "channels=c0";
  parsed p;
  for (int i = 1; i < LV_HUB_CHANNELS_MAX; i++) {
    size_t n = strlen(query);
    snprintf(query + n, sizeof query - n, ",c%d", i);
  }
  assert_int_equal(parse(query, LV_HUB_V1, &p), 0);
  assert_int_equal(p.q.n_channels, LV_HUB_CHANNELS_MAX);
  strncat(query, ",c5", 4); /* a repeat takes no place */
  assert_int_equal(parse(query, LV_HUB_V1, &p), 0);
  strncat(query, ",more", 6);
  assert_int_equal(parse(query, LV_HUB_V1, &p), LV_E_INVALID);
  assert_string_equal(p.why, "channels: more than 128");
  size_t n = (size_t)snprintf(query, sizeof query, "channels=a&cats=0");
  for (int i = 1; i <= LV_HUB_CATS_MAX; i++, n += 2) memcpy(query + n, ",0", 3);
  assert_int_equal(parse(query, LV_HUB_V1, &p), LV_E_INVALID);
  assert_string_equal(p.why, "cats: more than 32");
  query[n - 2] = 0;
  assert_int_equal(parse(query, LV_HUB_V1, &p), 0);
  n = (size_t)snprintf(query, sizeof query, "channels=a&user_id=");
  memset(query + n, 'u', 257);
  query[n + 257] = 0;
  assert_int_equal(parse(query, LV_HUB_V1, &p), LV_E_INVALID);
  assert_string_equal(p.why, "user_id: more than 256 bytes");
  query[n + 256] = 0;
  assert_int_equal(parse(query, LV_HUB_V1, &p), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_whole),   cmocka_unit_test(test_defaults), cmocka_unit_test(test_since),
      cmocka_unit_test(test_refused), cmocka_unit_test(test_limits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
