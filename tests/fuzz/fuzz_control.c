/* fuzz_control.c: what comes to /api/v1: the body of a request, parsed, merged into an object, and
 * judged with the document. The first byte picks the kind; a NUL ends the first body, what follows
 * is a patch of it. What is taken has to come out as JSON again, and to mean the same when it is
 * read back. */
#include "fuzz.h"
#include "master/doc.h"

static const char document[] =
    "limits: {connections: 100}\n"
    "apps:\n"
    "- &a {name: dev, channels: [{name: demo}], keys: &k [{id: one, publish: '#', hash: "
    "'sha256:0b7d3ad4ea2c3a2d14c9d1b3e8aa76a1f5dfe25be30f9c94f3a1f6d0b8c9d2e3'}]}\n";
enum { OUT_MAX = 8 << 20 };

static void written(const lv__doc *doc, lv_buf *b) {
  lv_arena m;
  lv__doc *again;
  char why[LV__DOC_WHY];
  lv_buf other;
  lv_buf_init(b, OUT_MAX);
  lv_buf_init(&other, OUT_MAX);
  lv__doc_write(b, doc);
  CHECK(!b->err && lv_json_check_value(lv_buf_slice(b)) == 0);
  lv_arena_init(&m, 0, OUT_MAX);
  int err = lv__doc_parse(&m, lv_buf_slice(b), &again, why);
  CHECK(err == 0 || err == LV_E_TOO_BIG); /* a merge of two may have more members than one may */
  if (err == 0) {
    lv__doc_write(&other, again);
    CHECK(lv_slice_eq(lv_buf_slice(b), lv_buf_slice(&other)));
  }
  lv_arena_done(&m);
  lv_buf_done(&other);
}

static void issue(void *arg, const lv_conf_issue *i) {
  ++*(uint32_t *)arg;
  CHECK(i->text[0] && memchr(i->text, 0, sizeof i->text));
}

static void show(const lv_conf *conf, enum lv_conf_kind kind) {
  lv_buf b;
  lv_buf_init(&b, OUT_MAX);
  for (uint32_t i = 0; i < conf->n_apps; i++) {
    const lv_app *app = &conf->apps[i];
    const void *obj = kind == LV_CONF_APP ? (const void *)app : NULL;
    if (kind == LV_CONF_CHANNEL) obj = &app->channels[0];
    if (kind == LV_CONF_KEY) obj = &app->keys[0];
    if (!obj) continue;
    if ((kind == LV_CONF_CHANNEL && !app->n_channels) || (kind == LV_CONF_KEY && !app->n_keys))
      continue;
    lv_buf_reset(&b);
    (void)lv_buf_add_byte(&b, '{');
    lv_conf_json(&b, kind, obj);
    (void)lv_buf_add_byte(&b, '}');
    CHECK(!b.err && lv_json_check_value(lv_buf_slice(&b)) == 0);
  }
  lv_buf_done(&b);
}

static void judge(lv_arena *m, enum lv_conf_kind kind, const lv__doc *doc) {
  uint32_t n = 0;
  lv_conf *conf;
  lv_conf_more more[2] = {
      {.kind = (uint8_t)kind, .app = LV_SLICE("dev"), .value = lv__doc_node(m, doc)},
      {.kind = LV_CONF_CHANNEL, .app = LV_SLICE("nowhere"), .value = lv_conf_node_map(m)}};
  int err = lv_conf_parse_with(NULL, lv_slice_str(document), more, 2, issue, &n, &conf);
  CHECK((err == 0) == (n == 0));
  if (err) return;
  CHECK(!more[0].orphan);
  show(conf, kind);
  lv_conf_unref(conf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  enum lv_conf_kind kind = (enum lv_conf_kind)(fuzz_byte(&data, &size) % LV_CONF_KIND_COUNT);
  const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
  size_t n = nul ? (size_t)(nul - data) : size;
  lv_slice first = fuzz_copy(data, n),
           second = fuzz_copy(nul ? nul + 1 : data, nul ? size - n - 1 : 0);
  lv_arena m;
  lv__doc *doc, *patch;
  char why[LV__DOC_WHY];
  lv_buf b;
  lv_arena_init(&m, 0, 2 << 20);
  int err = lv__doc_parse(&m, first, &doc, why);
  CHECK(err == 0 || (why[0] && strlen(why) < LV__DOC_WHY));
  if (err == 0 && nul && lv__doc_parse(&m, second, &patch, why) == 0)
    (void)lv__doc_merge(&m, doc, patch);
  fuzz_free(first);
  fuzz_free(second); /* a tree does not point into its text */
  if (err == 0) {
    written(doc, &b);
    lv_buf_done(&b);
    judge(&m, kind, doc);
  }
  lv_arena_done(&m);
  return 0;
}
