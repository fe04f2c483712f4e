/* sys.c: `$SYS/…` for operators: this process's counters as MQTT messages, every ten seconds, to
 * those who subscribed and may read them (LV_VERB_SYS). They are made per shard, never stored, and
 * outside the ledger. Topics follow the names that Mosquitto made common, under $SYS/broker/. */
#include "core/log.h"
#include "session/session_int.h"
#include <stdio.h>
#include <stdlib.h>

enum { EVERY_S = 10 };

typedef struct lv_sys_value {
  const char *topic;
  enum lv_counter counter;
} lv_sys_value;

static const lv_sys_value counters[] = {
    {"$SYS/broker/publish/messages/received", LV_C_GW_IN},
    {"$SYS/broker/publish/messages/sent", LV_C_HUB_OUT},
    {"$SYS/broker/publish/bytes/received", LV_C_GW_IN_BYTES},
    {"$SYS/broker/publish/bytes/sent", LV_C_HUB_OUT_BYTES},
    {"$SYS/broker/messages/offered", LV_C_GW_OFFERED},
    {"$SYS/broker/messages/stored", LV_C_BR_IN},
    {"$SYS/broker/messages/redelivered", LV_C_HUB_REDELIVERED},
    {"$SYS/broker/publish/messages/dropped", LV_C_DROP_HUB_SLOW},
    {"$SYS/broker/drops/disconnected", LV_C_DROP_HUB_DISCONNECTED},
    {"$SYS/broker/drops/session-ended", LV_C_DROP_HUB_ENDED},
    {"$SYS/broker/drops/expired", LV_C_DROP_HUB_EXPIRED},
    {"$SYS/broker/drops/retention", LV_C_DROP_HUB_RETENTION},
    {"$SYS/broker/connections/total", LV_C_CONN_OPENED},
    {"$SYS/broker/connections/refused", LV_C_CONN_REFUSED},
    {"$SYS/broker/connections/auth-failures", LV_C_CONN_BAD_AUTH},
};
static const struct {
  const char *topic;
  enum lv_gauge gauge;
} gauges[] = {
    {"$SYS/broker/clients/connected", LV_G_CLIENTS},
    {"$SYS/broker/clients/total", LV_G_SESSIONS},
    {"$SYS/broker/subscriptions/count", LV_G_SUBSCRIPTIONS},
    {"$SYS/broker/retained messages/count", LV_G_RETAINED},
    {"$SYS/broker/messages/pending", LV_G_PENDING},
};

static void give(lv_sess *s, const char *topic, const char *value, bool retain) {
  lv_rec_in in = {.kind = LV_REC_MSG,
                  .topic = lv_slice_str(topic),
                  .val = lv_slice_str(value),
                  .ingest_ns = s->shard->loop->wall.ns};
  uint32_t size;
  if (lv_rec_size(&in, &size)) return;
  lv_block *b = lv_block_new(size);
  if (!b) return;
  const lv_rec *rec = lv_rec_write(&in, b->data, size);
  b->used = size;
  if (lv__out_room(s, 0) && !s->pend) /* retained messages that it still gets have other topics */
    lv__out_send(s, &(lv_delivery){
                        .block = b,
                        .rec = rec,
                        .flags = (uint8_t)(LV_DELIVER_STORED | (retain ? LV_DELIVER_RETAIN : 0))});
  lv_block_unref(b);
}

static bool wants_sys(const lv_sub *sub) {
  return lv_slice_starts(lv_sub_filter(sub), LV_SLICE("$SYS")) && !sub->shared_prefix;
}

static void tell(lv_sess *s, const lv_sub *sub, const char *topic, const char *value, bool retain) {
  if (lv_mqtt_match(lv_sub_filter(sub), lv_slice_str(topic))) give(s, topic, value, retain);
}

void lv__sys_give(lv_sess *s, const lv_sub *sub, bool retain) {
  char v[64];
  if (!wants_sys(sub)) return;
  if (!lv_auth_may_read(s->auth, LV_SLICE("$SYS"))) return; /* a reload may take the right back */
  for (size_t i = 0; i < sizeof counters / sizeof *counters; i++) {
    snprintf(v, sizeof v, "%llu", (unsigned long long)lv_metrics_counter(counters[i].counter));
    tell(s, sub, counters[i].topic, v, retain);
  }
  for (size_t i = 0; i < sizeof gauges / sizeof *gauges; i++) {
    snprintf(v, sizeof v, "%lld", (long long)lv_metrics_gauge(gauges[i].gauge));
    tell(s, sub, gauges[i].topic, v, retain);
  }
  snprintf(v, sizeof v, "%.1f", (double)lv_metrics_latency_recent(0.5) / 1e3);
  tell(s, sub, "$SYS/broker/latency/p50-us", v, retain);
  snprintf(v, sizeof v, "%.1f", (double)lv_metrics_latency_recent(0.99) / 1e3);
  tell(s, sub, "$SYS/broker/latency/p99-us", v, retain);
  tell(s, sub, "$SYS/broker/version", "lavva " LV_VERSION, retain);
}

void lv__sys_tick(lv_shard *s) {
  if (s->loop->index == 0) {
    uint64_t n, bytes;
    lv_retained_count(s->realm->retained, &n, &bytes);
    lv_metrics *m = lv__metrics(s);
    lv_gauge(m, LV_G_RETAINED, (int64_t)n - s->retained_n);
    lv_gauge(m, LV_G_RETAINED_BYTES, (int64_t)bytes - s->retained_bytes);
    s->retained_n = (int64_t)n;
    s->retained_bytes = (int64_t)bytes;
    lv_retained_expire(s->realm->retained, s->loop->wall.ns);
  }
  if ((uint64_t)s->loop->now.ns < s->sys_next_ns) return;
  s->sys_next_ns = (uint64_t)s->loop->now.ns + EVERY_S * UINT64_C(1000000000);
  for (lv_sess *sess = s->sessions; sess; sess = sess->next) {
    if (!sess->conn || !sess->started) continue;
    for (const lv_sub *sub = sess->subs; sub; sub = sub->own_next) lv__sys_give(sess, sub, false);
  }
}
