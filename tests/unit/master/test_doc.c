/* test_doc.c: request bodies as trees: what is refused, merging (RFC 7396, with its examples), and
 * what an object becomes beside the document. */
#include "core/arena.h"
#include "master/doc.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* after the others */
#include <cmocka.h>

static lv_arena arena;

static int setup(void **state) {
  (void)state;
  lv_arena_init(&arena, 0, 1 << 20);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  lv_arena_done(&arena);
  return 0;
}

static void is(const lv__doc *doc, const char *want) {
  lv_buf b;
  lv_buf_init(&b, 1 << 20);
  lv__doc_write(&b, doc);
  (void)lv_buf_add_byte(&b, 0);
  assert_string_equal((const char *)b.p, want);
  lv_buf_done(&b);
}

static lv__doc *parsed(const char *text) {
  lv__doc *doc = NULL;
  char why[LV__DOC_WHY];
  assert_int_equal(lv__doc_parse(&arena, lv_slice_str(text), &doc, why), 0);
  return doc;
}

static void test_parse(void **state) {
  static const struct {
    const char *text;
    int err;
    const char *why;
  } bad[] = {
      {"", LV_E_PAYLOAD, "not JSON"},
      {"[]", LV_E_PAYLOAD, "a JSON object is expected"},
      {"1", LV_E_PAYLOAD, "a JSON object is expected"},
      {"{\"a\":1", LV_E_PAYLOAD, "about byte"},
      {"{\"a\":1}x", LV_E_PAYLOAD, "not JSON"},
      {"{\"a\":1,\"b\":{\"a\":1,\"a\":2}}", LV_E_PAYLOAD, "a: given twice"},
      {"{\"a\":1,\"\\u0061\":2}", LV_E_PAYLOAD, "a: given twice"},
      {"{\"a\":\"\\u0000\"}", LV_E_PAYLOAD, "U+0000"},
      {"{\"a\":\"\\udc00\"}", LV_E_SURROGATE, "surrogate"},
      {"{\"a\":[[[[[[[[1]]]]]]]]}", LV_E_NESTING, "8 levels"},
  };
  (void)state;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    lv__doc *doc = NULL;
    char why[LV__DOC_WHY];
    assert_int_equal(lv__doc_parse(&arena, lv_slice_str(bad[i].text), &doc, why), bad[i].err);
    assert_null(doc);
    if (!strstr(why, bad[i].why)) print_message("%s: %s\n", bad[i].text, why);
    assert_non_null(strstr(why, bad[i].why));
  }
  is(parsed(" {\"a\" : [1, true,null,\"x\\n\\u00e9\"],\"b\":{}} "),
     "{\"a\":[1,true,null,\"x\\n\xc3\xa9\"],\"b\":{}}");
  assert_null(lv__doc_get(parsed("{\"a\":1}"), "b"));
  lv_arena small;
  lv_arena_init(&small, 0, 8192);
  lv__doc *doc = NULL;
  char text[4200], why[LV__DOC_WHY];
  memset(text, '1', sizeof text);
  for (size_t i = 5; i + 2 < sizeof text; i += 2) text[i] = ',';
  memcpy(text, "{\"a\":[", 6);
  snprintf(text + sizeof text - 3, 3, "]}");
  assert_int_equal(lv__doc_parse(&small, lv_slice_of(text, sizeof text - 1), &doc, why),
                   LV_E_TOO_BIG);
  lv_arena_done(&small);
}

/* RFC 7396, appendix A, as far as both are objects. */
static void test_merge(void **state) {
  static const char *const rows[][3] = {
      {"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
      {"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
      {"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
      {"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
      {"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
      {"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
      {"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}"},
      {"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
      {"{\"e\":null}", "{\"a\":1}", "{\"e\":null,\"a\":1}"},
      {"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
      {"{\"a\":1}", "{\"a\":{\"b\":null,\"c\":2}}", "{\"a\":{\"c\":2}}"},
      {"{\"a\":1,\"b\":2,\"c\":3}", "{\"c\":null,\"a\":null,\"d\":4}", "{\"b\":2,\"d\":4}"},
  };
  (void)state;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    lv__doc *target = parsed(rows[i][0]);
    assert_int_equal(lv__doc_merge(&arena, target, parsed(rows[i][1])), 0);
    is(target, rows[i][2]);
  }
  lv__doc *doc = parsed("{\"a\":{\"b\":1}}");
  assert_int_equal(lv__doc_set(&arena, doc, "a", LV_SLICE("x\"y")), 0);
  assert_int_equal(lv__doc_set(&arena, doc, "n", LV_SLICE("z")), 0);
  is(doc, "{\"a\":\"x\\\"y\",\"n\":\"z\"}");
}

/* What was read fills the arena; there is no room for changing it. */
static void test_full(void **state) {
  lv_arena m;
  lv__doc *doc, *patch;
  char why[LV__DOC_WHY];
  (void)state;
  lv_arena_init(&m, 0, 16 * 1024);
  assert_int_equal(lv__doc_parse(&m, LV_SLICE("{}"), &doc, why), 0);
  assert_int_equal(lv__doc_parse(&m, LV_SLICE("{\"a\":{\"b\":{}}}"), &patch, why), 0);
  while (lv_arena_alloc(&m, 16)) {
  }
  assert_int_equal(lv__doc_merge(&m, doc, patch), LV_E_TOO_BIG);
  assert_int_equal(lv__doc_set(&m, doc, "x", LV_SLICE("y")), LV_E_TOO_BIG);
  lv_arena_done(&m);
}

/* ---- beside the document ---- */
typedef struct findings {
  uint32_t n;
  char key[96], text[256];
} findings;

static void issue(void *arg, const lv_conf_issue *i) {
  findings *f = arg;
  if (f->n++ == 0) {
    snprintf(f->key, sizeof f->key, "%s", i->key);
    snprintf(f->text, sizeof f->text, "%s", i->text);
  }
}

static lv_conf_more more_of(enum lv_conf_kind kind, const char *app, const char *text) {
  return (lv_conf_more){
      .kind = (uint8_t)kind, .app = lv_slice_str(app), .value = lv__doc_node(&arena, parsed(text))};
}

/* Apps that share their list by an alias: what is appended to one is not in the other. */
static void test_aliases(void **state) {
  static const char text[] =
      "apps:\n- name: a\n  channels: &c [{name: x}]\n- name: b\n  channels: *c\n"
      "- name: d\n  channels:\n";
  (void)state;
  lv_conf_more more[] = {more_of(LV_CONF_CHANNEL, "a", "{\"name\":\"new\",\"content\":\"json\"}"),
                         more_of(LV_CONF_CHANNEL, "d", "{\"name\":\"only\"}"),
                         more_of(LV_CONF_CHANNEL, "nope", "{\"name\":\"y\"}"),
                         more_of(LV_CONF_APP, "", "{\"name\":\"e\",\"auto_channels\":true}"),
                         more_of(LV_CONF_CHANNEL, "e", "{\"name\":\"z\"}")};
  findings f = {0};
  lv_conf *c = NULL;
  assert_int_equal(lv_conf_parse_with(NULL, lv_slice_str(text), more, 5, issue, &f, &c), 0);
  assert_int_equal(c->n_apps, 4);
  const lv_app *a = lv_conf_app(c, LV_SLICE("a")), *b = lv_conf_app(c, LV_SLICE("b"));
  const lv_app *d = lv_conf_app(c, LV_SLICE("d")), *e = lv_conf_app(c, LV_SLICE("e"));
  assert_int_equal(a->n_channels, 2);
  assert_int_equal(b->n_channels, 1);
  assert_int_equal(lv_conf_channel(a, LV_SLICE("new"))->source, LV_SOURCE_STORE);
  assert_int_equal(lv_conf_channel(a, LV_SLICE("new"))->content, LV_CONTENT_JSON);
  assert_int_equal(lv_conf_channel(a, LV_SLICE("x"))->source, LV_SOURCE_FILE);
  assert_non_null(lv_conf_channel(d, LV_SLICE("only")));
  assert_int_equal(a->source, LV_SOURCE_FILE);
  assert_true(e->source == LV_SOURCE_STORE && e->auto_channels);
  assert_int_equal(e->n_channels, 1);
  assert_true(more[2].orphan && !more[0].orphan && !more[4].orphan);
  lv_conf_unref(c);
}

static void test_collisions(void **state) {
#define HASH "sha256:0b7d3ad4ea2c3a2d14c9d1b3e8aa76a1f5dfe25be30f9c94f3a1f6d0b8c9d2e3"
  static const char text[] = "apps:\n- name: a\n  channels: [{name: x}]\n"
                             "  keys: [{id: k, publish: '#', hash: '" HASH "'}]\n"
                             "- name: b\nkeys: [{id: boss, hash: '" HASH "'}]\n";
  static const char key[] = "{\"id\":\"k\",\"publish\":\"#\",\"hash\":\"" HASH "\"}";
  const struct {
    lv_conf_more more;
    const char *key;
  } rows[] = {
      {more_of(LV_CONF_APP, "", "{\"name\":\"b\"}"), "apps[2]"},
      {more_of(LV_CONF_CHANNEL, "a", "{\"name\":\"x\"}"), "apps[0].channels[1]"},
      {more_of(LV_CONF_KEY, "a", key), "apps[0].keys[1]"},
      {more_of(LV_CONF_KEY, "b", key), "apps[1].keys[0]"},
      {more_of(LV_CONF_ADMIN, "", "{\"id\":\"k\",\"hash\":\"" HASH "\"}"), "keys[1]"},
      {more_of(LV_CONF_ADMIN, "", "{\"id\":\"boss\",\"hash\":\"" HASH "\"}"), "keys[1]"},
  };
  (void)state;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    lv_conf_more more = rows[i].more;
    findings f = {0};
    lv_conf *c = NULL;
    assert_int_equal(lv_conf_parse_with(NULL, lv_slice_str(text), &more, 1, issue, &f, &c),
                     LV_E_CONFIG);
    assert_int_equal(f.n, 1);
    assert_non_null(strstr(f.text, "stands in the document (line "));
    assert_non_null(strstr(f.text, "and in the store"));
    if (i != 4) assert_string_equal(f.key, rows[i].key); /* 4: whichever of the two comes later */
  }
}

/* What an object shows is what it was given, with everything else as it is in force. */
static void test_shown(void **state) {
  (void)state;
  lv_conf_more more = more_of(LV_CONF_APP, "",
                              "{\"name\":\"a\",\"origins\":[\"https://x\\\"y\"],\"limits\":"
                              "{\"session_expiry\":\"never\",\"packet\":65536}}");
  findings f = {0};
  lv_conf *c = NULL;
  lv_buf b;
  lv_buf_init(&b, 1 << 20);
  assert_int_equal(lv_conf_parse_with(NULL, LV_SLICE("limits: {session_expiry: never}\n"), &more, 1,
                                      issue, &f, &c),
                   0);
  (void)lv_buf_add_byte(&b, '{');
  lv_conf_json(&b, LV_CONF_APP, &c->apps[0]);
  (void)lv_buf_add_byte(&b, '}');
  const char *text = (const char *)b.p;
  assert_int_equal(lv_json_check_value(lv_buf_slice(&b)), 0);
  assert_non_null(strstr(text, "\"origins\":[\"https://x\\\"y\"]"));
  assert_non_null(strstr(text, "\"session_expiry\":\"never\""));
  assert_non_null(strstr(text, "\"packet\":\"64KiB\""));
  assert_non_null(strstr(text, "\"messages_per_second\":\"unlimited\""));
  assert_null(strstr(text, "jwt"));
  for (int kind = 0; kind < LV_CONF_KIND_COUNT; kind++) {
    for (int input = 0; input < 2; input++) {
      lv_buf_reset(&b);
      (void)lv_buf_add_byte(&b, '{');
      lv_conf_json_schema(&b, (enum lv_conf_kind)kind, input);
      (void)lv_buf_add_byte(&b, '}');
      assert_int_equal(lv_json_check_value(lv_buf_slice(&b)), 0);
      assert_true(input || !strstr((const char *)b.p, "hash"));
    }
  }
  lv_buf_done(&b);
  lv_conf_unref(c);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_parse, setup, teardown),
      cmocka_unit_test_setup_teardown(test_merge, setup, teardown),
      cmocka_unit_test(test_full),
      cmocka_unit_test_setup_teardown(test_aliases, setup, teardown),
      cmocka_unit_test_setup_teardown(test_collisions, setup, teardown),
      cmocka_unit_test_setup_teardown(test_shown, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
