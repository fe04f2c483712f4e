/* show.c: apps, channels and keys as the API answers them: the fields of the document with their
 * effective values, whose they are, and where they come from. @thread any */
#include "master/master_int.h"
#include <stdatomic.h>

const char *lv__source_name(uint8_t source) {
  return source == LV_SOURCE_FILE ? "file" : source == LV_SOURCE_STORE ? "store" : "auto";
}

void lv__show_app(lv_buf *b, const lv_app *app) {
  (void)lv_buf_add_byte(b, '{');
  lv_conf_json(b, LV_CONF_APP, app);
  lv_buf_printf(b, ",\"channel_count\":%u,\"key_count\":%u,\"origin\":\"%s\"}", app->n_channels,
                app->n_keys, lv__source_name(app->source));
}

/* Names of apps and channels need no escaping in JSON. */
void lv__show_channel(lv_buf *b, const lv_chan_conf *chan) {
  lv_buf_printf(b, "{\"app\":\"%.*s\",", (int)chan->app.n, (const char *)chan->app.p);
  lv_conf_json(b, LV_CONF_CHANNEL, chan);
  lv_buf_printf(b, ",\"origin\":\"%s\"}", lv__source_name(chan->source));
}

void lv__show_key(lv_buf *b, const lv_key *key) {
  (void)lv_buf_add_byte(b, '{');
  if (key->app)
    lv_buf_printf(b, "\"app\":\"%.*s\",", (int)key->app->name.n, (const char *)key->app->name.p);
  lv_conf_json(b, key->app ? LV_CONF_KEY : LV_CONF_ADMIN, key);
  lv_buf_printf(b, ",\"origin\":\"%s\"}", lv__source_name(key->source));
}

lv_chan_conf lv__auto_channel(const lv_app *app, const lv_chan *chan) {
  lv_chan_conf c = app->channel_defaults; /* what the broker does not keep */
  c.app = chan->app;
  c.name = chan->name;
  c.durability = chan->durability;
  c.content = chan->content;
  c.slow = chan->slow;
  c.keep_ms = chan->keep_ms;
  c.keep_bytes = chan->keep_bytes;
  c.keep_count = chan->keep_count;
  if (lv_chan_lasts(chan)) c.snapshot = 0; /* the last message of each key */
  c.source = LV_SOURCE_AUTO;
  return c;
}

bool lv__auto_alive(const lv_chan *chan) {
  return !atomic_load(&chan->dead) &&
         atomic_load(&chan->first_offset) < atomic_load(&chan->next_offset);
}
