/* fuzz_conf.c: configuration documents. Whatever the bytes: either findings, each with a place and
 * a text, or a conf that keeps what the schema promises. */
#include "core/conf.h"
#include "fuzz.h"

typedef struct seen {
  uint32_t n;
} seen;

static void on_issue(void *arg, const lv_conf_issue *s) {
  seen *v = arg;
  v->n++;
  CHECK(s->line >= 1 && s->column >= 1);
  CHECK(s->text[0] != 0 && strlen(s->text) < sizeof s->text);
  CHECK(strlen(s->found) < sizeof s->found && strlen(s->key) < sizeof s->key);
  for (const char *p = s->found; *p; p++) CHECK((uint8_t)*p >= 0x20); /* a line is a line */
}

static void limits_check(const lv_limits *l, const lv_limits *all) {
  CHECK(l->connections >= 1 && l->connections <= all->connections);
  CHECK(l->packet_bytes >= 1024 && l->packet_bytes <= all->packet_bytes);
  CHECK(l->queue_bytes >= l->packet_bytes);
  CHECK(l->inflight >= 1 && l->inflight <= 65535);
  CHECK(l->filter_levels >= 1 && l->topic_aliases <= 65535);
}

static void key_check(const lv_conf *c, const lv_app *app, const lv_key *key) {
  CHECK(key->app == app && key->id.n >= 1 && key->id.n <= 32);
  fuzz_touch(key->id);
  for (uint32_t i = 0; i < key->n_rights; i++) {
    CHECK(key->rights[i].verbs == LV_VERB_PUBLISH || key->rights[i].verbs == LV_VERB_SUBSCRIBE);
    CHECK(key->rights[i].pattern.n >= 1);
    fuzz_touch(key->rights[i].pattern);
  }
  const lv_key *hit = NULL; /* nobody knows the secret */
  char text[80];
  snprintf(text, sizeof text, "lv_%.*s_AAAAAAAAAAAAAAAAAAAAAAAA", (int)key->id.n,
           (const char *)key->id.p);
  CHECK(lv_conf_key(c, lv_slice_str(text), &hit) == LV_E_BAD_AUTH && !hit);
}

static void app_check(const lv_conf *c, const lv_app *app, uint32_t index) {
  CHECK(app->index == index && app->name.n >= 1 && app->name.n <= 64);
  CHECK(lv_conf_app(c, app->name) == app);
  limits_check(&app->limits, &c->limits);
  for (uint32_t i = 0; i < app->n_channels; i++) {
    const lv_chan_conf *ch = &app->channels[i];
    CHECK(ch->name.n >= 1 && ch->name.p[0] != '_' && lv_slice_eq(ch->app, app->name));
    CHECK(ch->durability < LV_DURABILITY_COUNT && ch->slow <= LV_SLOW_CONFLATE);
    CHECK(lv_conf_channel(app, ch->name) == ch);
  }
  for (uint32_t i = 0; i < app->n_keys; i++) key_check(c, app, &app->keys[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  lv_slice in = fuzz_copy(data, size);
  seen v = {0};
  lv_conf *c = NULL;
  int r = lv_conf_parse("f.yaml", in, on_issue, &v, &c);
  fuzz_free(in); /* a conf borrows nothing */
  CHECK((r == 0 && v.n == 0 && c) || (r == LV_E_CONFIG && v.n > 0 && !c));
  if (!c) return 0;
  limits_check(&c->limits, &c->limits);
  CHECK(c->drain_ms >= 100 && c->connect_timeout_ms >= 100 && c->threads <= 64);
  CHECK(!c->anonymous || c->n_apps > 0);
  for (uint32_t i = 0; i < c->n_listens; i++) {
    CHECK(c->listens[i].proto < LV_PROTO_COUNT);
    fuzz_touch(c->listens[i].host);
  }
  for (uint32_t i = 0; i < c->n_apps; i++) app_check(c, &c->apps[i], i);
  lv_conf_unref(c);
  return 0;
}
