/* filter.c: which messages of a channel a subscription takes: by key, by category, by the rights of
 * the customer's key where these do not cover the whole channel. Refcounted on one loop, since a
 * read of the log may outlive the subscription. @thread loop */
#include "hub/hub_int.h"
#include "wire/mqtt.h"
#include <stdlib.h>

lv_slice lv__filter_topic(lv_slice channel, lv_slice keys, uint8_t *dst) {
  uint8_t *p = dst;
  if (!lv_slice_eq(channel, LV_SLICE("_"))) {
    memcpy(p, channel.p, channel.n);
    p += channel.n;
    *p++ = '/';
  }
  if (keys.n)
    memcpy(p, keys.p, keys.n);
  else
    *p = '#';
  p += keys.n ? keys.n : 1;
  return lv_slice_of(dst, (size_t)(p - dst));
}

lv__filter *lv__filter_new(const lv_chan *chan, lv_auth *check, lv_slice keys, const lv_slice *cats,
                           uint32_t n_cats) {
  if (!check && !keys.n && !n_cats) return NULL;
  size_t room = chan->name.n + 2u + keys.n;
  for (uint32_t i = 0; i < n_cats; i++) room += cats[i].n;
  lv__filter *f = calloc(1, sizeof *f + n_cats * sizeof(lv_slice) + room);
  if (!f) abort();
  uint8_t *text = (uint8_t *)&f->cats[n_cats];
  f->refs = 1;
  f->auth = check ? lv_auth_ref(check) : NULL;
  if (keys.n) {
    f->pattern = lv__filter_topic(chan->name, keys, text);
    text += f->pattern.n;
  }
  f->n_cats = n_cats;
  for (uint32_t i = 0; i < n_cats; i++) {
    memcpy(text, cats[i].p, cats[i].n);
    f->cats[i] = (lv_slice){text, cats[i].n};
    text += cats[i].n;
  }
  return f;
}

lv__filter *lv__filter_ref(lv__filter *f) {
  if (f) f->refs++;
  return f;
}

void lv__filter_unref(lv__filter *f) {
  if (!f || --f->refs) return;
  lv_auth_unref(f->auth);
  free(f);
}

static bool has_cat(const lv__filter *f, const lv_rec *rec) {
  lv_slice tag, cat;
  lv_hub_labels_of(rec, &tag, &cat);
  for (uint32_t i = 0; i < f->n_cats; i++)
    if (lv_slice_eq(f->cats[i], cat)) return true;
  return false;
}

bool lv__filter_pass(const lv__filter *f, const lv_rec *rec) {
  if (!f) return true;
  lv_slice topic = lv_rec_topic(rec);
  if (f->pattern.n && !lv_mqtt_match(f->pattern, topic)) return false;
  if (f->n_cats && !has_cat(f, rec)) return false;
  return !f->auth || lv_auth_may_read(f->auth, topic);
}
