/* will.c: the will message (MQTT 5.0 §3.1.2.5): kept with the session, published when its
 * connection ends without DISCONNECT, after its delay. */
#include "core/log.h"
#include "session/session_int.h"
#include <stdlib.h>

void lv__will_set(lv_sess *s, const lv_mqtt_will *w) {
  if (s->more) free(s->more->will);
  if (s->more) s->more->will = NULL;
  if (!w || !w->present) return;
  size_t n = (size_t)w->topic.n + w->props.n + w->payload.n;
  lv_will *x = malloc(sizeof *x + n);
  if (!x) abort();
  *x = (lv_will){w->delay_s,   w->expiry_s,   w->topic.n, w->props.n,
                 w->payload.n, w->has_expiry, w->retain,  w->qos};
  uint8_t *p = x->bytes;
  if (w->topic.n) memcpy(p, w->topic.p, w->topic.n);
  p += w->topic.n;
  if (w->props.n) memcpy(p, w->props.p, w->props.n);
  p += w->props.n;
  if (w->payload.n) memcpy(p, w->payload.p, w->payload.n);
  lv__sess_more(s)->will = x;
}

/* Publishes the will and forgets it. */
void lv__will_fire(lv_sess *s) {
  lv_will *w = s->more ? s->more->will : NULL;
  if (!w) return;
  s->more->will = NULL;
  lv_shard *shard = s->shard;
  if (shard->quiet) { /* the process ends: the stored will is published after the restart */
    free(w);
    return;
  }
  lv_count(lv__kpi(s), LV_C_GW_OFFERED, 1);
  lv_rec_in in = {.flags = (uint8_t)(w->qos | (w->retain ? LV_REC_RETAIN : 0)),
                  .pid = lv_sess_id(s),
                  .props = lv_slice_of(w->bytes + w->n_topic, w->n_props),
                  .val = lv_slice_of(w->bytes + w->n_topic + w->n_props, w->n_payload),
                  .kpi_proto = s->proto,
                  .has_expiry = w->has_expiry,
                  .expiry_s = w->expiry_s};
  int err;
  uint8_t log;
  if (!lv__publish_rec(shard, s->auth, &in, lv_slice_of(w->bytes, w->n_topic), shard->loop->now,
                       &log, &err)) {
    lv_count(lv__kpi(s), err == 1 ? LV_C_GW_REJ_SYS : lv_reject_counter(err), 1);
    lv_log(LV_WARN, "will not published client=%.*s err=%s", (int)s->id_len, s->id,
           err == 1 ? "$SYS topic" : lv_err_text(err));
  }
  free(w);
}
