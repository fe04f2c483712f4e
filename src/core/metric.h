/* metric.h: the process's counters, one plain set a thread, summed when somebody asks.
 *
 * The tables below are the single description: names, help, labels, Prometheus types and
 * docs/kpi.md come from them. A counter has one writer thread (a relaxed store); a scrape adds the
 * threads up. Order matters for the ledger's equations: a message is counted `offered` before
 * anything else, so that a scrape under load never shows more out than in; at rest the equations of
 * docs/kpi.md hold exactly.
 *
 * X(id, prometheus name, labels, help) */
#ifndef LV_CORE_METRIC_H
#define LV_CORE_METRIC_H
#include "core/hist.h"
#include "core/time.h"
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define LV_COUNTERS(X)                                                                             \
  X(GW_OFFERED, "lavva_gateway_offered_messages_total", "",                                        \
    "Publishes that arrived whole from devices, wills included")                                   \
  X(GW_REJ_AUTH, "lavva_gateway_rejected_messages_total", "reason=\"forbidden\"",                  \
    "Publishes that were refused, by reason")                                                      \
  X(GW_REJ_TOPIC, "lavva_gateway_rejected_messages_total", "reason=\"topic\"", "")                 \
  X(GW_REJ_DISK, "lavva_gateway_rejected_messages_total", "reason=\"disk\"", "")                   \
  X(GW_REJ_DISK_FULL, "lavva_gateway_rejected_messages_total", "reason=\"disk-full\"", "")         \
  X(GW_REJ_BIG, "lavva_gateway_rejected_messages_total", "reason=\"too-big\"", "")                 \
  X(GW_REJ_DUP, "lavva_gateway_rejected_messages_total", "reason=\"duplicate\"", "")               \
  X(GW_REJ_RATE, "lavva_gateway_rejected_messages_total", "reason=\"rate\"", "")                   \
  X(GW_REJ_QUOTA, "lavva_gateway_rejected_messages_total", "reason=\"quota\"", "")                 \
  X(GW_REJ_PAYLOAD, "lavva_gateway_rejected_messages_total", "reason=\"payload\"", "")             \
  X(GW_REJ_SYS, "lavva_gateway_rejected_messages_total", "reason=\"sys\"", "")                     \
  X(GW_IN, "lavva_gateway_in_messages_total", "", "Messages accepted from devices")                \
  X(GW_IN_BYTES, "lavva_gateway_in_bytes_total", "", "Value bytes accepted from devices")          \
  X(GW_OUT, "lavva_gateway_out_messages_total", "",                                                \
    "Messages handed to a broker and acknowledged by it")                                          \
  X(GW_OUT_BYTES, "lavva_gateway_out_bytes_total", "", "Value bytes of the same")                  \
  X(DROP_GW_QUEUE, "lavva_drops_total", "stage=\"gateway\",reason=\"queue-full\"",                 \
    "Messages dropped, by stage and reason")                                                       \
  X(DROP_GW_DISK, "lavva_drops_total", "stage=\"gateway\",reason=\"disk\"", "")                    \
  X(DROP_GW_DISK_FULL, "lavva_drops_total", "stage=\"gateway\",reason=\"disk-full\"", "")          \
  X(DROP_GW_SHUTDOWN, "lavva_drops_total", "stage=\"gateway\",reason=\"shutdown\"", "")            \
  X(BR_IN, "lavva_broker_in_messages_total", "", "Messages the cluster accepted")                  \
  X(BR_IN_BYTES, "lavva_broker_in_bytes_total", "", "Value bytes of the same")                     \
  X(BR_OUT, "lavva_broker_out_messages_total", "", "Messages handed to consumers")                 \
  X(BR_OUT_BYTES, "lavva_broker_out_bytes_total", "", "Value bytes of the same")                   \
  X(BR_WRITES, "lavva_broker_writes_total", "", "Write calls of the embedded log")                 \
  X(BR_SYNCS, "lavva_broker_syncs_total", "", "Completed fdatasync calls of the embedded log")     \
  X(BR_ERRORS, "lavva_broker_errors_total", "", "Failed writes and syncs of the embedded log")     \
  X(HUB_IN, "lavva_hub_in_messages_total", "", "Messages taken from brokers for subscribers")      \
  X(HUB_IN_BYTES, "lavva_hub_in_bytes_total", "", "Value bytes of the same")                       \
  X(HUB_OWED, "lavva_hub_owed_messages_total", "",                                                 \
    "Deliveries owed: one per (message, matching subscription), overlaps merged")                  \
  X(HUB_OUT, "lavva_hub_out_messages_total", "",                                                   \
    "Deliveries written to (QoS 0) or acked by "                                                   \
    "subscribers")                                                                                 \
  X(HUB_OUT_BYTES, "lavva_hub_out_bytes_total", "", "Value bytes of the same")                     \
  X(HUB_REDELIVERED, "lavva_hub_redelivered_messages_total", "",                                   \
    "Deliveries sent again (DUP), not in `out`")                                                   \
  X(HUB_RETAINED, "lavva_hub_retained_messages_total", "",                                         \
    "Retained messages sent on subscribe, not in `out`")                                           \
  X(DROP_HUB_DISCONNECTED, "lavva_drops_total", "stage=\"hub\",reason=\"disconnected\"", "")       \
  X(DROP_HUB_SLOW, "lavva_drops_total", "stage=\"hub\",reason=\"slow\"", "")                       \
  X(DROP_HUB_CONFLATED, "lavva_drops_total", "stage=\"hub\",reason=\"conflated\"", "")             \
  X(DROP_HUB_ENDED, "lavva_drops_total", "stage=\"hub\",reason=\"session-ended\"", "")             \
  X(DROP_HUB_EXPIRED, "lavva_drops_total", "stage=\"hub\",reason=\"expired\"", "")                 \
  X(DROP_HUB_RETENTION, "lavva_drops_total", "stage=\"hub\",reason=\"retention\"", "")             \
  X(DROP_HUB_TOO_BIG, "lavva_drops_total", "stage=\"hub\",reason=\"too-big\"", "")                 \
  X(CONN_OPENED, "lavva_connections_opened_total", "", "Connections accepted")                     \
  X(CONN_CLOSED, "lavva_connections_closed_total", "", "Connections ended")                        \
  X(CONN_REFUSED, "lavva_connections_refused_total", "", "Connections refused by a limit")         \
  X(CONN_BAD_AUTH, "lavva_auth_failures_total", "", "CONNECTs and requests with a wrong key")      \
  X(CONN_PROTOCOL, "lavva_protocol_errors_total", "", "Connections ended for a protocol error")    \
  X(CONN_TIMEOUT, "lavva_connection_timeouts_total", "", "Connections ended by a deadline")        \
  X(READ_PAUSED, "lavva_read_pauses_total", "", "Times reading paused for back-pressure")

/* Gauges are kept per thread as signed deltas and summed. X(id, name, help) */
#define LV_GAUGES(X)                                                                               \
  X(CONNS_MQTT, "lavva_connections{protocol=\"mqtt\"}", "Open connections")                        \
  X(CONNS_HTTP, "lavva_connections{protocol=\"http\"}", "")                                        \
  X(CONNS_NEW, "lavva_connections{protocol=\"handshake\"}", "")                                    \
  X(SESSIONS, "lavva_sessions", "MQTT sessions, offline ones included")                            \
  X(SUBSCRIPTIONS, "lavva_subscriptions",                                                          \
    "Subscriptions, those of sessions that wait for their client too")                             \
  X(PENDING, "lavva_hub_pending_messages", "Deliveries owed and neither delivered nor dropped")    \
  X(RETAINED, "lavva_retained_messages", "Retained MQTT messages")                                 \
  X(RETAINED_BYTES, "lavva_retained_bytes", "Bytes of the same")                                   \
  X(QUEUE_BYTES, "lavva_publish_queue_bytes", "Bytes given to the broker, not yet acknowledged")   \
  X(INFLIGHT, "lavva_publish_inflight_messages", "Messages accepted, not yet acknowledged")        \
  X(OUT_BYTES, "lavva_out_queue_bytes", "Bytes waiting in connections' send queues")

enum lv_counter {
#define X(id, name, labels, help) LV_C_##id,
  LV_COUNTERS(X)
#undef X
      LV_C_COUNT
};
enum lv_gauge {
#define X(id, name, help) LV_G_##id,
  LV_GAUGES(X)
#undef X
      LV_G_COUNT
};

/* One thread's set. */
typedef struct lv_metrics {
  _Atomic uint64_t c[LV_C_COUNT];
  _Atomic int64_t g[LV_G_COUNT];
  lv_hist latency; /* processing latency of live first deliveries */
  lv_hist commit;  /* submit to durable, per batch */
  struct lv_metrics *next;
} lv_metrics;

static inline void lv_count(lv_metrics *m, enum lv_counter c, uint64_t n) {
  uint64_t v = atomic_load_explicit(&m->c[c], memory_order_relaxed);
  atomic_store_explicit(&m->c[c], v + n, memory_order_relaxed);
}
static inline void lv_gauge(lv_metrics *m, enum lv_gauge g, int64_t n) {
  int64_t v = atomic_load_explicit(&m->g[g], memory_order_relaxed);
  atomic_store_explicit(&m->g[g], v + n, memory_order_relaxed);
}

/* A set for the calling thread, linked into the process's list for good. @thread any */
lv_metrics *lv_metrics_new(void);
/* The calling thread's set, made on first use (for threads that are no loops). @thread any */
lv_metrics *lv_metrics_mine(void);
/* Makes m the calling thread's set (a loop's thread counts into loop->metrics); returns the
 * previous one or NULL. @thread any */
lv_metrics *lv_metrics_use(lv_metrics *m);
/* Sums over all threads. @thread any */
uint64_t lv_metrics_counter(enum lv_counter c);
int64_t lv_metrics_gauge(enum lv_gauge g);
/* Merged histogram into dst (zeroed first). which: 0 latency, 1 commit. @thread any */
void lv_metrics_hist(int which, lv_hist *dst);
/* Samples the latency for the 60-second quantile window; call once a second. @thread one */
void lv_metrics_sample(lv_wall now);
/* Quantile of processing latency over the last 60 s in nanoseconds; q = 1 is the maximum.
 * @thread any */
int64_t lv_metrics_latency_recent(double q);
/* All of it in Prometheus text format 0.0.4; a heap buffer the caller frees. @thread any */
char *lv_metrics_prometheus(size_t *ret_n);

#endif
