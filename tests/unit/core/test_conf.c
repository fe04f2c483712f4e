/* The configuration: values land where they belong, defaults and inheritance, every kind of finding
 * with its place, bounds on hostile documents, keys, and that docs/config.md is up to date. */
#include "core/conf.h"
#include "core/conf_int.h"
#include "core/log.h"
#include "core/suggest.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
/* after the above */
#include <cmocka.h>

typedef struct found {
  lv_conf_issue v[LV__CONF_ISSUES_MAX + 1];
  uint32_t n;
} found;

static void keep(void *arg, const lv_conf_issue *issue) {
  found *f = arg;
  assert_true(f->n < LV__CONF_ISSUES_MAX + 1);
  f->v[f->n++] = *issue;
}

static int parse(const char *text, found *f, lv_conf **ret) {
  f->n = 0;
  return lv_conf_parse("dir/x.yaml", lv_slice_str(text), keep, f, ret);
}

static lv_conf *good(const char *text) {
  static found f;
  lv_conf *c = NULL;
  int r = parse(text, &f, &c);
  if (f.n)
    print_error("%u:%u %s: %s %s\n", f.v[0].line, f.v[0].column, f.v[0].key, f.v[0].found,
                f.v[0].text);
  assert_int_equal(r, 0);
  return c;
}

/* Exactly one finding, at line:column, for a key, saying something. */
static void bad(const char *text, uint32_t line, uint32_t column, const char *key,
                const char *says) {
  static found f;
  lv_conf *c = NULL;
  assert_int_equal(parse(text, &f, &c), LV_E_CONFIG);
  assert_null(c);
  assert_true(f.n >= 1);
  for (uint32_t i = 0; i < f.n; i++) {
    const lv_conf_issue *s = &f.v[i];
    if (s->line == line && s->column == column && strcmp(s->key, key) == 0 && strstr(s->text, says))
      return;
  }
  for (uint32_t i = 0; i < f.n; i++)
    print_error("%u:%u %s: found %s; %s\n", f.v[i].line, f.v[i].column, f.v[i].key, f.v[i].found,
                f.v[i].text);
  fail_msg("no finding %u:%u %s: %s", line, column, key, says);
}

static bool is(lv_slice s, const char *text) {
  return lv_slice_eq(s, lv_slice_str(text));
}

#define HASH "sha256:00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF"

static void test_empty_is_all_defaults(void **state) {
  const char *texts[] = {"", "# nothing\n", "---\n", "{}", "apps:\nserver: ~\n"};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    lv_conf *c = good(texts[i]);
    assert_int_equal(c->n_apps, 0);
    assert_int_equal(c->n_listens, 2);
    assert_int_equal(c->listens[0].port, 1883);
    assert_int_equal(c->listens[1].proto, LV_PROTO_HTTP);
    assert_int_equal(c->log_level, LV_INFO);
    assert_int_equal(c->threads, 0);
    assert_int_equal(c->drain_ms, 10000);
    assert_int_equal(c->segment_bytes, 64 << 20);
    assert_int_equal(c->limits.session_expiry_s, 30 * 86400);
    assert_int_equal(c->limits.messages_per_s, 0);
    assert_true(is(c->data_dir, "dir/lavva-data") || is(c->data_dir, "lavva-data"));
    lv_conf_unref(c);
  }
}

static void test_values_land(void **state) {
  lv_conf *c = good("server:\n"
                    "  data: /d\n"
                    "  threads: 3\n"
                    "  anonymous: true\n"
                    "  keep_alive_max: 1m30s\n"
                    "  log: {level: debug, format: json}\n"
                    "  tls: {certificate: c.pem, key: /k.pem, client_ca: sub/ca.pem}\n"
                    "listen:\n"
                    "  - mqtts: '[::1]:8883'\n"
                    "    client_cert: true\n"
                    "  - {http: 'localhost:0', proxy: true}\n"
                    "  - mqtt: 1883\n"
                    "storage: {segment: 8 MiB, reserve: 0, sync_interval: 50ms}\n"
                    "limits: {packet: 64KiB, session_expiry: never}\n"
                    "apps: [{name: a}]\n");
  assert_true(is(c->data_dir, "/d"));
  assert_int_equal(c->threads, 3);
  assert_true(c->anonymous);
  assert_int_equal(c->keep_alive_max_s, 90);
  assert_int_equal(c->log_level, LV_DEBUG);
  assert_true(c->log_json);
  assert_true(is(c->tls_cert, "dir/c.pem"));
  assert_true(is(c->tls_key, "/k.pem"));
  assert_true(is(c->tls_client_ca, "dir/sub/ca.pem"));
  assert_int_equal(c->n_listens, 3);
  assert_true(is(c->listens[0].host, "::1") && c->listens[0].client_cert);
  assert_int_equal(c->listens[0].proto, LV_PROTO_MQTTS);
  assert_true(is(c->listens[1].host, "localhost") && c->listens[1].proxy);
  assert_int_equal(c->listens[1].port, 0);
  assert_int_equal(c->listens[2].host.n, 0);
  assert_int_equal(c->segment_bytes, 8 << 20);
  assert_int_equal(c->disk_reserve_bytes, 0);
  assert_int_equal(c->sync_interval_ms, 50);
  assert_int_equal(c->limits.packet_bytes, 65536);
  assert_int_equal(c->limits.session_expiry_s, UINT32_MAX);
  assert_int_equal(c->apps[0].limits.packet_bytes, 65536);
  lv_conf_unref(c);
}

static void test_apps_channels_keys(void **state) {
  lv_conf *c =
      good("apps:\n"
           "- name: plant\n"
           "  auto_channels: true\n"
           "  session_durability: memory\n"
           "  origins: [https://a, https://b]\n"
           "  channels:\n" /* before the defaults that they start from */
           "  - {name: zulu, retention: {count: 5}}\n"
           "  - {name: alfa, durability: disk, content: json}\n"
           "  channel_defaults: {durability: memory, slow: conflate, retention: {age: 1h}}\n"
           "  limits: {inflight: 7}\n"
           "  keys:\n"
           "  - {id: k1, hash: " HASH ", publish: [a/#, b], subscribe: '#', sys: true}\n"
           "- name: other\n");
  const lv_app *app = lv_conf_app(c, LV_SLICE("plant"));
  assert_non_null(app);
  assert_ptr_equal(app, &c->apps[0]);
  assert_int_equal(lv_conf_app(c, LV_SLICE("other"))->index, 1);
  assert_null(lv_conf_app(c, LV_SLICE("nobody")));
  assert_true(app->auto_channels);
  assert_int_equal(app->session_durability, LV_DURABILITY_MEMORY);
  assert_int_equal(app->n_origins, 2);
  assert_true(is(app->origins[1], "https://b"));
  assert_int_equal(app->limits.inflight, 7);
  assert_int_equal(app->limits.subscriptions, c->limits.subscriptions);
  const lv_chan_conf *z = lv_conf_channel(app, LV_SLICE("zulu"));
  assert_non_null(z);
  assert_int_equal(z->keep_count, 5);
  assert_int_equal(z->keep_ms, 3600000);
  assert_int_equal(z->durability, LV_DURABILITY_MEMORY);
  assert_int_equal(z->slow, LV_SLOW_CONFLATE);
  assert_true(is(z->app, "plant"));
  const lv_chan_conf *a = lv_conf_channel(app, LV_SLICE("alfa"));
  assert_int_equal(a->durability, LV_DURABILITY_DISK);
  assert_int_equal(a->content, LV_CONTENT_JSON);
  assert_null(lv_conf_channel(app, LV_SLICE("none")));
  assert_null(lv_conf_channel(&c->apps[1], LV_SLICE("alfa")));
  const lv_key *key = &app->keys[0];
  assert_int_equal(key->n_rights, 3);
  assert_int_equal(key->rights[1].verbs, LV_VERB_PUBLISH);
  assert_true(is(key->rights[2].pattern, "#") && key->rights[2].verbs == LV_VERB_SUBSCRIBE);
  assert_int_equal(key->verbs, LV_VERB_SYS);
  assert_int_equal(key->hash[31], 0xff);
  assert_ptr_equal(key->app, app);
  lv_conf_unref(c);
}

static void test_snapshot(void **state) {
  lv_conf *c = good("apps:\n"
                    "- name: a\n"
                    "  limits: {snapshot_keys: 5}\n"
                    "  channel_defaults: {snapshot: keys}\n"
                    "  channels: [{name: n, snapshot: 7}, {name: k}]\n"
                    "- name: b\n"
                    "  channels: [{name: k, snapshot: keys}, {name: n}]\n");
  const lv_app *a = &c->apps[0], *b = &c->apps[1];
  assert_int_equal(a->channel_defaults.last_keys, 5);
  assert_int_equal(lv_conf_channel(a, LV_SLICE("k"))->last_keys, 5);
  assert_int_equal(lv_conf_channel(a, LV_SLICE("n"))->last_keys, 0);
  assert_int_equal(lv_conf_channel(a, LV_SLICE("n"))->snapshot, 7);
  assert_int_equal(lv_conf_channel(b, LV_SLICE("k"))->last_keys, 10000);
  assert_int_equal(lv_conf_channel(b, LV_SLICE("k"))->last_bytes, 8 << 20);
  assert_int_equal(lv_conf_channel(b, LV_SLICE("n"))->last_keys, 0);
  assert_int_equal(lv_conf_channel(b, LV_SLICE("n"))->snapshot, 100);
  lv_conf_unref(c);
  bad("apps: [{name: a, channel_defaults: {snapshot: all}}]\n", 1, 47,
      "apps[0].channel_defaults.snapshot", "1 to 100000, or keys");
}

/* What is a secret is not repeated; e2e has the keys themselves. */
static void test_jwt(void **state) {
  lv_conf *c = good("apps:\n"
                    "- name: a\n"
                    "  jwt:\n"
                    "    algorithm: HS256\n"
                    "    keys: [{kid: x, key: 0123456789abcdef0123456789abcdef}]\n"
                    "    publish: [p/#]\n"
                    "    max_age: 1h\n"
                    "- name: b\n"
                    "  jwt: {algorithm: HS256, keys: [{key: 0123456789abcdef0123456789abcdeX}]}\n");
  const lv_jwt *a = &c->apps[0].jwt, *b = &c->apps[1].jwt;
  assert_int_equal(a->n_keys, 1);
  assert_true(is(a->keys[0].kid, "x") && a->keys[0].secret.n == 32);
  assert_memory_not_equal(a->keys[0].print, b->keys[0].print, 32);
  assert_int_equal(a->leeway_s, 30);
  assert_int_equal(a->max_age_s, 3600);
  assert_int_equal(a->within.n_rights, 1);
  assert_true(is(a->within.rights[0].pattern, "p/#"));
  assert_int_equal(b->within.n_rights, 1);
  assert_int_equal(b->within.rights[0].verbs, LV_VERB_SUBSCRIBE);
  assert_ptr_equal(b->within.app, &c->apps[1]);
  lv_conf_unref(c);
  bad("apps:\n- name: a\n  jwt: {algorithm: HS256, keys: [{key: short}]}\n", 3, 40,
      "apps[0].jwt.keys[0].key", "32 bytes");
  bad("apps:\n- name: a\n  jwt: {algorithm: RS256, keys: [{file: /dev/null/x}]}\n", 3, 41,
      "apps[0].jwt.keys[0].file", "no such file");
}

static void test_findings(void **state) {
  bad("servr: {}\n", 1, 1, "", "did you mean server?");
  bad("x: 1\n", 1, 1, "", "allowed: server, listen");
  bad("server:\n  drain: 10s\n  drain: 5s\n", 3, 3, "server", "given twice");
  bad("server: {threads: -1}\n", 1, 19, "server.threads", "1 to 64, or auto");
  bad("server: {threads: 65}\n", 1, 19, "server.threads", "1 to 64");
  bad("server: {threads: 0}\n", 1, 19, "server.threads", "1 to 64, or auto");
  bad("limits: {messages_per_second: 0}\n", 1, 31, "limits.messages_per_second", "or unlimited");
  bad("apps: [{name: a, channel_defaults: {retention: {bytes: 0}}}]\n", 1, 56,
      "apps[0].channel_defaults.retention.bytes", "or unlimited");
  bad("server: {threads: [1]}\n", 1, 19, "server.threads", "1 to 64");
  bad("server: 5\n", 1, 9, "server", "a mapping");
  bad("server: {drain: 10}\n", 1, 17, "server.drain", "100ms to 1h");
  bad("server: {drain: 10x}\n", 1, 17, "server.drain", "100ms to 1h");
  bad("server: {anonymous: yes}\n", 1, 21, "server.anonymous", "true, false");
  bad("server: {anonymous: true}\n", 1, 21, "server.anonymous", "declare one");
  bad("server: {log: {level: wran}}\n", 1, 23, "server.log.level", "did you mean warn?");
  bad("limits: {packet: 99999999999999999999}\n", 1, 18, "limits.packet", "1KiB to 32MiB");
  bad("limits: {packet: 17179869184GiB}\n", 1, 18, "limits.packet", "1KiB to 32MiB");
  bad("limits: {queue: 64KiB, packet: 128KiB}\n", 1, 17, "limits", "at least one packet");
  bad("listen: [{mqtt: ':x'}]\n", 1, 17, "listen[0].mqtt", "HOST:PORT");
  bad("listen: [{mqtt: '::1:1883'}]\n", 1, 17, "listen[0].mqtt", "HOST:PORT");
  bad("listen: [{mqtt: 'a:65536'}]\n", 1, 17, "listen[0].mqtt", "HOST:PORT");
  bad("listen: [{mqtt: '*:1', http: '*:2'}]\n", 1, 10, "listen[0]", "exactly one");
  bad("listen: [{proxy: true}]\n", 1, 10, "listen[0]", "exactly one");
  bad("listen: [{mqtt: '*:1'}, {http: '*:1'}]\n", 1, 25, "listen", "same address");
  bad("listen: [{mqtts: '*:1'}]\n", 1, 9, "listen", "server.tls.certificate");
  bad("listen: [{mqtt: '*:1', client_cert: true}]\n", 1, 37, "listen[0]", "only with mqtts");
  bad("apps: [{}]\n", 1, 8, "apps[0].name", "required");
  bad("apps: [{name: _a}]\n", 1, 15, "apps[0].name", "not starting with _");
  bad("apps: [{name: a}, {name: a}]\n", 1, 19, "apps[1]", "given twice");
  bad("apps: [{name: a, channels: [{name: c}, {name: c}]}]\n", 1, 40, "apps[0].channels[1]",
      "twice");
  bad("apps:\n- {name: a, keys: [{id: k, hash: " HASH ", sys: true}]}\n- name: b\n  keys:\n"
      "  - {id: j, hash: " HASH ", sys: true}\n  - {id: k, hash: " HASH ", sys: true}\n",
      6, 5, "apps[1].keys[1]", "first in line 2");
  bad("apps: [{name: a, limits: {inflight: 1025}}]\n", 1, 37, "apps[0].limits.inflight", "at most");
  bad("limits: {messages_per_second: 5}\napps: [{name: a, limits: {messages_per_second: "
      "unlimited}}]\n",
      2, 48, "apps[0].limits.messages_per_second", "at most");
  bad("apps: [{name: a, keys: [{id: a-b, hash: " HASH ", sys: true}]}]\n", 1, 30,
      "apps[0].keys[0].id", "letters and digits");
  bad("apps: [{name: a, keys: [{id: a, hash: " HASH "}]}]\n", 1, 25, "apps[0].keys[0]",
      "at least one");
  bad("apps: [{name: a, keys: [{id: a, hash: " HASH ", publish: [a#]}]}]\n", 1, 122,
      "apps[0].keys[0].publish[0]", "whole levels");
  bad("apps: [{name: a, keys: [{id: a, hash: " HASH ", subscribe: $SYS/#}]}]\n", 1, 123,
      "apps[0].keys[0].subscribe[0]", "sys: true");
  bad("apps:\n- name: a\n  keys: [{id: k, hash: " HASH ", sys: true}]\n"
      "- name: b\n  keys: [{id: k, hash: " HASH ", sys: true}]\n",
      5, 10, "apps[1].keys[0]", "across apps");
}

static void test_all_findings_are_told(void **state) {
  static found f;
  lv_conf *c = NULL;
  assert_int_equal(parse("a: 1\nb: 2\nserver: {c: 1, drain: 1}\n", &f, &c), LV_E_CONFIG);
  assert_int_equal(f.n, 4);
  char *many = malloc(64 * 1000);
  size_t at = 0;
  for (int i = 0; i < 1000; i++) at += (size_t)snprintf(many + at, 64, "zz%d: 1\n", i);
  assert_int_equal(parse(many, &f, &c), LV_E_CONFIG);
  assert_int_equal(f.n, LV__CONF_ISSUES_MAX);
  assert_non_null(strstr(f.v[f.n - 1].text, "too many"));
  free(many);
}

static void test_a_hash_is_never_repeated(void **state) {
  static found f;
  lv_conf *c = NULL;
  const char *secret = "lv_k_AAAAAAAAAAAAAAAAAAAAAA";
  char text[256];
  snprintf(text, sizeof text, "apps: [{name: a, keys: [{id: k, hash: %s, sys: true}]}]", secret);
  assert_int_equal(parse(text, &f, &c), LV_E_CONFIG);
  for (uint32_t i = 0; i < f.n; i++) {
    assert_null(strstr(f.v[i].found, secret));
    assert_null(strstr(f.v[i].text, secret));
  }
}

static void test_yaml_bounds(void **state) {
  bad("a: [\n", 2, 1, "", "");
  bad("\tx: 1", 1, 1, "", "");
  bad("a: 1\n---\nb: 1\n", 2, 1, "", "second document");
  bad("[a]\n", 1, 1, "", "mapping");
  bad("apps: *nobody\n", 1, 7, "", "without an anchor");
  bad("server: &s {log: *s}\n", 1, 18, "", "contains it");
  bad("? [a]\n: 1\n", 1, 3, "", "a key is a word");
  char deep[256] = "apps: ";
  memset(deep + 6, '[', 40);
  bad(deep, 1, 22, "", "nested deeper");
  /* Nine levels of nine aliases each would stand for 9^9 values. */
  char bomb[1024];
  size_t at = (size_t)snprintf(bomb, sizeof bomb, "a0: &a0 [x]\n");
  for (int i = 1; i < 9; i++) {
    at += (size_t)snprintf(bomb + at, sizeof bomb - at, "a%d: &a%d [", i, i);
    for (int k = 0; k < 9; k++)
      at += (size_t)snprintf(bomb + at, sizeof bomb - at, "%s*a%d", k ? "," : "", i - 1);
    at += (size_t)snprintf(bomb + at, sizeof bomb - at, "]\n");
  }
  static found f;
  lv_conf *c = NULL;
  assert_int_equal(parse(bomb, &f, &c), LV_E_CONFIG);
  assert_int_equal(f.n, 1);
  assert_non_null(strstr(f.v[0].text, "aliases expanded"));
  lv_slice big = {calloc(1, LV__CONF_FILE_MAX + 1), LV__CONF_FILE_MAX + 1};
  f.n = 0;
  assert_int_equal(lv_conf_parse(NULL, big, keep, &f, &c), LV_E_CONFIG);
  assert_non_null(strstr(f.v[0].text, "larger than 16 MiB"));
  free((void *)big.p);
}

static void test_aliases_work(void **state) {
  lv_conf *c = good("apps:\n"
                    "- {name: a, limits: &l {inflight: 9}}\n"
                    "- {name: b, limits: *l}\n");
  assert_int_equal(c->apps[1].limits.inflight, 9);
  lv_conf_unref(c);
}

static void test_load(void **state) {
  static found f;
  lv_conf *c = NULL;
  f.n = 0;
  assert_int_equal(lv_conf_load("/nonexistent/x.yaml", keep, &f, &c), LV_E_CONFIG);
  assert_int_equal(f.n, 1);
  f.n = 0;
  assert_int_equal(lv_conf_load("/", keep, &f, &c), LV_E_CONFIG);
  assert_int_equal(f.n, 1);
  char path[] = "/tmp/lavva-conf-XXXXXX";
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  assert_int_equal(write(fd, lv__conf_example, strlen(lv__conf_example)), strlen(lv__conf_example));
  close(fd);
  f.n = 0;
  assert_int_equal(lv_conf_load(path, keep, &f, &c), 0);
  assert_string_equal(c->path, path);
  assert_true(is(c->tls_key, "/tmp/tls/key.pem"));
  assert_ptr_equal(lv_conf_ref(c), c);
  lv_conf_unref(c);
  assert_int_equal(c->apps[0].n_channels, 2);
  lv_conf_unref(c);
  lv_conf_unref(NULL);
  unlink(path);
}

static void test_keys(void **state) {
  char text[LV_CONF_KEY_MAX], doc[512], hex[65];
  uint8_t hash[32];
  assert_int_equal(lv_conf_key_make("dev", text), 0);
  assert_int_equal(strncmp(text, "lv_dev_", 7), 0);
  assert_int_equal(strlen(text), 7 + 22);
  lv_conf_key_hash(LV_SLICE("abc"), hash); /* FIPS 180-2, appendix B.1 */
  assert_int_equal(hash[0], 0xba);
  assert_int_equal(hash[31], 0xad);
  lv_conf_key_hash(lv_slice_str(text), hash);
  for (int i = 0; i < 32; i++) snprintf(hex + 2 * i, 3, "%02x", hash[i]);
  snprintf(doc, sizeof doc, "apps: [{name: a, keys: [{id: dev, hash: 'sha256:%s', publish: x}]}]",
           hex);
  lv_conf *c = good(doc);
  const lv_key *key = NULL;
  assert_int_equal(lv_conf_key(c, lv_slice_str(text), &key), 0);
  assert_ptr_equal(key, &c->apps[0].keys[0]);
  key = NULL;
  for (size_t i = 0; i < strlen(text); i++) { /* each character matters */
    char wrong[LV_CONF_KEY_MAX];
    memcpy(wrong, text, sizeof wrong);
    wrong[i] = wrong[i] == 'x' ? 'y' : 'x';
    assert_int_equal(lv_conf_key(c, lv_slice_str(wrong), &key), LV_E_BAD_AUTH);
  }
  const char *shapes[] = {"",
                          "lv_",
                          "lv_dev",
                          "lv_dev_",
                          "lv__AAAAAAAAAAAAAAAAAAAAAA",
                          "dev",
                          "lv_dev_AAAAAAAAAAAAAAAAAAAAA",
                          "lv_dev_AAAAAAAAAA-AAAAAAAAAAA"};
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
    assert_int_equal(lv_conf_key(c, lv_slice_str(shapes[i]), &key), LV_E_BAD_AUTH);
  assert_null(key);
  assert_int_equal(lv_conf_key(c, lv_slice_of(text, strlen(text) - 1), &key), LV_E_BAD_AUTH);
  lv_conf_unref(c);
  char other[LV_CONF_KEY_MAX];
  assert_int_equal(lv_conf_key_make(NULL, text), 0);
  assert_int_equal(lv_conf_key_make(NULL, other), 0);
  assert_string_not_equal(text, other);
  assert_int_equal(lv_conf_key_make("a_b", text), LV_E_INVALID);
  assert_int_equal(lv_conf_key_make("", text), LV_E_INVALID);
}

static void test_suggest(void **state) {
  assert_int_equal(lv_suggest_distance("ab", 2, "ba", 2), 1);
  assert_int_equal(lv_suggest_distance("", 0, "abc", 3), 3);
  assert_int_equal(lv_suggest_distance("kitten", 6, "sitting", 7), 3);
  lv_suggest s;
  lv_suggest_init(&s, "sevre", 5);
  lv_suggest_offer(&s, "sub");
  lv_suggest_offer(&s, "serve");
  assert_string_equal(s.best, "serve");
  lv_suggest_init(&s, "xyz", 3);
  lv_suggest_offer(&s, "serve");
  assert_null(s.best);
}

/* What the docs say is what the schema says. On failure: make docs. */
static void test_docs_are_fresh(void **state) {
  char *made = NULL, *kept = calloc(1, 256 * 1024);
  size_t n = 0;
  FILE *out = open_memstream(&made, &n), *in = fopen(LV_SOURCE "/docs/config.md", "r");
  assert_non_null(out);
  assert_non_null(in);
  lv_conf_doc(out);
  fclose(out);
  size_t got = fread(kept, 1, 256 * 1024 - 1, in);
  fclose(in);
  assert_int_equal(got, n);
  assert_memory_equal(kept, made, n);
  free(made);
  free(kept);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_empty_is_all_defaults),
      cmocka_unit_test(test_values_land),
      cmocka_unit_test(test_apps_channels_keys),
      cmocka_unit_test(test_snapshot),
      cmocka_unit_test(test_jwt),
      cmocka_unit_test(test_findings),
      cmocka_unit_test(test_all_findings_are_told),
      cmocka_unit_test(test_a_hash_is_never_repeated),
      cmocka_unit_test(test_yaml_bounds),
      cmocka_unit_test(test_aliases_work),
      cmocka_unit_test(test_load),
      cmocka_unit_test(test_keys),
      cmocka_unit_test(test_suggest),
      cmocka_unit_test(test_docs_are_fresh),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
