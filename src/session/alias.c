/* alias.c: topic aliases (MQTT 5.0 §3.3.2.3.4), both directions, for one connection.
 *
 * Towards the client each new topic takes the next number until all are given; those stay. That is
 * what a subscriber of a few busy topics gains from, and it never thrashes. */
#include "core/hash.h"
#include "session/session_int.h"
#include <stdlib.h>

static uint8_t *copy(lv_slice topic) {
  uint8_t *p = malloc(topic.n + 2u);
  if (!p) abort();
  uint16_t n = (uint16_t)topic.n;
  memcpy(p, &n, 2);
  memcpy(p + 2, topic.p, topic.n);
  return p;
}

static lv_slice text(const uint8_t *p) {
  uint16_t n;
  memcpy(&n, p, 2);
  return lv_slice_of(p + 2, n);
}

void lv__alias_free(lv_sess *s) {
  lv_alias *a = s->alias;
  if (!a) return;
  for (uint32_t i = 0; a->in && i < a->in_max; i++) free(a->in[i]);
  for (uint32_t i = 0; i < a->out_n; i++) free(a->out[i]);
  free(a->in);
  free(a->out);
  free(a->out_hash);
  free(a);
  s->alias = NULL;
}

/* Bounds for a new connection: what the server takes, what the client takes (0: none). */
void lv__alias_set(lv_sess *s, uint16_t in_max, uint16_t out_max) {
  lv__alias_free(s);
  if (!in_max && !out_max) return;
  s->alias = calloc(1, sizeof *s->alias);
  if (!s->alias) abort();
  s->alias->in_max = in_max;
  s->alias->out_max = out_max;
}

/* Resolves or records an alias; the publish's topic is complete afterwards. */
int lv__alias_in(lv_sess *s, lv_mqtt_publish *p) {
  lv_alias *a = s->alias;
  if (!a || p->alias == 0 || p->alias > a->in_max) return LV_E_TOPIC_ALIAS;
  if (!a->in && !(a->in = calloc(a->in_max, sizeof(uint8_t *)))) abort();
  uint8_t **slot = &a->in[p->alias - 1];
  if (p->topic.n) {
    free(*slot);
    *slot = copy(p->topic);
    return 0;
  }
  if (!*slot) return LV_E_PROTOCOL;
  p->topic = text(*slot);
  return 0;
}

uint16_t lv__alias_out(lv_sess *s, lv_slice topic, bool *ret_known) {
  lv_alias *a = s->alias;
  *ret_known = false;
  if (topic.n < 4) return 0; /* three bytes of property would save nothing */
  uint64_t h = lv_hash(topic.p, topic.n);
  for (uint32_t i = 0; i < a->out_n; i++) {
    if (a->out_hash[i] != h || !lv_slice_eq(text(a->out[i]), topic)) continue;
    *ret_known = true;
    return (uint16_t)(i + 1);
  }
  if (a->out_n == a->out_max) return 0;
  if (!a->out) {
    a->out = calloc(a->out_max, sizeof(uint8_t *));
    a->out_hash = calloc(a->out_max, sizeof(uint64_t));
    if (!a->out || !a->out_hash) abort();
  }
  a->out[a->out_n] = copy(topic);
  a->out_hash[a->out_n] = h;
  return ++a->out_n;
}

void lv__alias_undo(lv_sess *s, uint16_t alias, bool known) {
  if (known || alias != s->alias->out_n) return;
  free(s->alias->out[--s->alias->out_n]);
}
