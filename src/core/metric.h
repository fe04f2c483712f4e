/* metric.h: the process's counters: plain sets, each written by one thread, summed when somebody
 * asks.
 *
 * The tables below are the single description: names, help, labels, Prometheus types and
 * docs/kpi.md come from them. A counter has one writer thread (a relaxed store); a scrape adds the
 * sets up. Order matters for the ledger's equations: a message is counted `offered` before
 * anything else, so that a scrape under load never shows more out than in; at rest the equations of
 * docs/kpi.md hold exactly.
 *
 *   thread ─▶ its base set (no app) ─▶ rows[app][protocol]: sets of the same shape
 *                                   └▶ chans[slot]: what is counted by channel
 *
 * Who counts finds the row of its app and protocol with one index (lv_metrics_row), once per packet
 * or batch; nothing is hashed. Where a table says `app` or `protocol` as a label, the value is
 * that of the row; whatever is counted in the base set has neither.
 *
 * X(id, prometheus name, labels, help); labels: fixed ones, then those of the row */
#ifndef LV_CORE_METRIC_H
#define LV_CORE_METRIC_H
#include "core/hist.h"
#include "core/time.h"
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define LV_COUNTERS(X)                                                                             \
  X(GW_OFFERED, "lavva_gateway_offered_messages_total", "app,protocol",                            \
    "Publishes that arrived whole from devices, wills included")                                   \
  X(GW_REJ_AUTH, "lavva_gateway_rejected_messages_total", "reason=\"forbidden\",app,protocol",     \
    "Publishes that were refused, by reason")                                                      \
  X(GW_REJ_TOPIC, "lavva_gateway_rejected_messages_total", "reason=\"topic\",app,protocol", "")    \
  X(GW_REJ_DISK, "lavva_gateway_rejected_messages_total", "reason=\"disk\",app,protocol", "")      \
  X(GW_REJ_DISK_FULL, "lavva_gateway_rejected_messages_total",                                     \
    "reason=\"disk-full\",app,protocol", "")                                                       \
  X(GW_REJ_BIG, "lavva_gateway_rejected_messages_total", "reason=\"too-big\",app,protocol", "")    \
  X(GW_REJ_DUP, "lavva_gateway_rejected_messages_total", "reason=\"duplicate\",app,protocol", "")  \
  X(GW_REJ_RATE, "lavva_gateway_rejected_messages_total", "reason=\"rate\",app,protocol", "")      \
  X(GW_REJ_QUOTA, "lavva_gateway_rejected_messages_total", "reason=\"quota\",app,protocol", "")    \
  X(GW_REJ_PAYLOAD, "lavva_gateway_rejected_messages_total", "reason=\"payload\",app,protocol",    \
    "")                                                                                            \
  X(GW_REJ_BUSY, "lavva_gateway_rejected_messages_total", "reason=\"busy\",app,protocol", "")      \
  X(GW_REJ_SYS, "lavva_gateway_rejected_messages_total", "reason=\"sys\",app,protocol", "")        \
  X(GW_IN, "lavva_gateway_in_messages_total", "app,protocol", "Messages accepted from devices")    \
  X(GW_IN_BYTES, "lavva_gateway_in_bytes_total", "app,protocol",                                   \
    "Value bytes accepted from devices")                                                           \
  X(GW_OUT, "lavva_gateway_out_messages_total", "app,protocol",                                    \
    "Messages handed to a broker and acknowledged by it")                                          \
  X(GW_OUT_BYTES, "lavva_gateway_out_bytes_total", "app,protocol", "Value bytes of the same")      \
  X(DROP_GW_QUEUE, "lavva_drops_total", "stage=\"gateway\",reason=\"queue-full\",app,protocol",    \
    "Messages dropped, by stage and reason")                                                       \
  X(DROP_GW_DISK, "lavva_drops_total", "stage=\"gateway\",reason=\"disk\",app,protocol", "")       \
  X(DROP_GW_DISK_FULL, "lavva_drops_total", "stage=\"gateway\",reason=\"disk-full\",app,protocol", \
    "")                                                                                            \
  X(DROP_GW_SHUTDOWN, "lavva_drops_total", "stage=\"gateway\",reason=\"shutdown\",app,protocol",   \
    "")                                                                                            \
  X(BR_IN, "lavva_broker_in_messages_total", "app", "Messages the cluster accepted")               \
  X(BR_IN_BYTES, "lavva_broker_in_bytes_total", "app", "Value bytes of the same")                  \
  X(BR_OUT, "lavva_broker_out_messages_total", "app", "Messages handed to consumers")              \
  X(BR_OUT_BYTES, "lavva_broker_out_bytes_total", "app", "Value bytes of the same")                \
  X(BR_WRITES, "lavva_broker_writes_total", "", "Write calls of the embedded log")                 \
  X(BR_SYNCS, "lavva_broker_syncs_total", "", "Completed fdatasync calls of the embedded log")     \
  X(BR_ERRORS, "lavva_broker_errors_total", "", "Failed writes and syncs of the embedded log")     \
  X(HUB_IN, "lavva_hub_in_messages_total", "app", "Messages taken from brokers for subscribers")   \
  X(HUB_IN_BYTES, "lavva_hub_in_bytes_total", "app", "Value bytes of the same")                    \
  X(HUB_OWED, "lavva_hub_owed_messages_total", "app",                                              \
    "Deliveries owed: one per (message, matching subscription), overlaps merged")                  \
  X(HUB_OUT, "lavva_hub_out_messages_total", "app,protocol",                                       \
    "Deliveries written to (QoS 0) or acked by "                                                   \
    "subscribers")                                                                                 \
  X(HUB_OUT_BYTES, "lavva_hub_out_bytes_total", "app,protocol", "Value bytes of the same")         \
  X(HUB_REDELIVERED, "lavva_hub_redelivered_messages_total", "app,protocol",                       \
    "Deliveries sent again (DUP), not in `out`")                                                   \
  X(HUB_RETAINED, "lavva_hub_retained_messages_total", "app,protocol",                             \
    "Retained messages sent on subscribe, not in `out`")                                           \
  X(HUB_REPLAYED, "lavva_hub_replayed_messages_total", "app,protocol",                             \
    "Messages of snapshots and resumes sent to customers, not in `out`")                           \
  X(DROP_HUB_DISCONNECTED, "lavva_drops_total",                                                    \
    "stage=\"hub\",reason=\"disconnected\",app,protocol", "")                                      \
  X(DROP_HUB_SLOW, "lavva_drops_total", "stage=\"hub\",reason=\"slow\",app,protocol", "")          \
  X(DROP_HUB_CONFLATED, "lavva_drops_total", "stage=\"hub\",reason=\"conflated\",app,protocol",    \
    "")                                                                                            \
  X(DROP_HUB_ENDED, "lavva_drops_total", "stage=\"hub\",reason=\"session-ended\",app,protocol",    \
    "")                                                                                            \
  X(DROP_HUB_EXPIRED, "lavva_drops_total", "stage=\"hub\",reason=\"expired\",app,protocol", "")    \
  X(DROP_HUB_RETENTION, "lavva_drops_total", "stage=\"hub\",reason=\"retention\",app,protocol",    \
    "")                                                                                            \
  X(DROP_HUB_TOO_BIG, "lavva_drops_total", "stage=\"hub\",reason=\"too-big\",app,protocol", "")    \
  X(CONN_OPENED, "lavva_connections_opened_total", "protocol", "Connections accepted")             \
  X(CONN_CLOSED, "lavva_connections_closed_total", "protocol", "Connections ended")                \
  X(CONN_REFUSED, "lavva_connections_refused_total", "protocol", "Connections refused by a limit") \
  X(CONN_BAD_AUTH, "lavva_auth_failures_total", "protocol",                                        \
    "CONNECTs and requests with a wrong key")                                                      \
  X(CONN_PROTOCOL, "lavva_protocol_errors_total", "protocol",                                      \
    "Connections ended for a protocol error")                                                      \
  X(CONN_TIMEOUT, "lavva_connection_timeouts_total", "protocol",                                   \
    "Connections ended by a deadline")                                                             \
  X(READ_PAUSED, "lavva_read_pauses_total", "", "Times reading paused for back-pressure")          \
  X(USE_IN, "lavva_usage_messages_in_total", "app",                                                \
    "Metering: messages published and stored, in steps of 5 KiB")                                  \
  X(USE_IN_BYTES, "lavva_usage_bytes_in_total", "app",                                             \
    "Metering: bytes of channel, key, value and user properties of the same")                      \
  X(USE_OUT, "lavva_usage_messages_out_total", "app",                                              \
    "Metering: messages delivered, in steps of 5 KiB")                                             \
  X(USE_OUT_BYTES, "lavva_usage_bytes_out_total", "app",                                           \
    "Metering: bytes of channel, key, value and user properties of the same")                      \
  X(USE_HISTORY, "lavva_usage_history_reads_total", "app",                                         \
    "Metering: messages of snapshots, replays and retained ones, in steps of 5 KiB")               \
  X(USE_CONN_MINUTES, "lavva_usage_connection_minutes_total", "app",                               \
    "Metering: minutes of connections, rounded up for each")                                       \
  X(USE_CHAN_MINUTES, "lavva_usage_channel_minutes_total", "app",                                  \
    "Metering: minutes in which a channel was in use, for each channel")                           \
  X(USE_STORED, "lavva_usage_stored_byte_hours_total", "app",                                      \
    "Metering: bytes of the retained messages, times hours")

/* Gauges are kept per thread as signed deltas and summed. X(id, name, help) */
#define LV_GAUGES(X)                                                                               \
  X(CONNS_MQTT, "lavva_connections{protocol=\"mqtt\"}", "Open connections")                        \
  X(CONNS_MQTTS, "lavva_connections{protocol=\"mqtts\"}", "")                                      \
  X(CONNS_HTTP, "lavva_connections{protocol=\"http\"}", "")                                        \
  X(CONNS_HTTPS, "lavva_connections{protocol=\"https\"}", "")                                      \
  X(CONNS_WS, "lavva_connections{protocol=\"ws\"}", "")                                            \
  X(CONNS_WSS, "lavva_connections{protocol=\"wss\"}", "")                                          \
  X(CONNS_SSE, "lavva_connections{protocol=\"sse\"}", "")                                          \
  X(CONNS_SSES, "lavva_connections{protocol=\"sses\"}", "")                                        \
  X(CONNS_NEW, "lavva_connections{protocol=\"handshake\"}", "")                                    \
  X(CLIENTS, "lavva_clients{app,protocol}", "Clients that have logged in and are connected")       \
  X(SESSIONS, "lavva_sessions{app}", "MQTT sessions, offline ones included")                       \
  X(SUBSCRIPTIONS, "lavva_subscriptions{app}",                                                     \
    "Subscriptions, those of sessions that wait for their client too")                             \
  X(PENDING, "lavva_hub_pending_messages{app}",                                                    \
    "Deliveries owed and neither delivered nor dropped: the lag of all consumers")                 \
  X(LAG_MAX, "lavva_consumer_lag_max_messages{app}",                                               \
    "Most that one session or customer is owed, as of the last second")                            \
  X(LAGGING, "lavva_consumers_lagging{app}",                                                       \
    "Sessions and subscriptions that read the log to catch up, as of the last second")             \
  X(RETAINED, "lavva_retained_messages", "Retained MQTT messages")                                 \
  X(RETAINED_BYTES, "lavva_retained_bytes", "Bytes of the same")                                   \
  X(QUEUE_BYTES, "lavva_publish_queue_bytes", "Bytes given to the broker, not yet acknowledged")   \
  X(INFLIGHT, "lavva_publish_inflight_messages", "Messages accepted, not yet acknowledged")        \
  X(OUT_BYTES, "lavva_out_queue_bytes", "Bytes waiting in connections' send queues")

/* By channel; labels app and channel. The first `metrics.channels` channels of an app have names of
 * their own, the others are `_other`, and what ends in bulk, so that nobody knows of which channel
 * it was, is `_unknown`. X(id, name, labels, help) */
#define LV_CHAN_COUNTERS(X)                                                                        \
  X(IN, "lavva_channel_in_messages_total", "app,channel",                                          \
    "Messages accepted from devices (gateway in)")                                                 \
  X(IN_BYTES, "lavva_channel_in_bytes_total", "app,channel", "Value bytes of the same")            \
  X(STORED, "lavva_channel_stored_messages_total", "app,channel",                                  \
    "Messages that the broker has acknowledged (gateway out)")                                     \
  X(OUT, "lavva_channel_out_messages_total", "app,channel",                                        \
    "Messages put into subscribers' send queues for the first time")                               \
  X(OUT_BYTES, "lavva_channel_out_bytes_total", "app,channel",                                     \
    "Value bytes of the same (hub out)")                                                           \
  X(DROP_GW, "lavva_channel_drops_total", "stage=\"gateway\",app,channel",                         \
    "Messages dropped, by stage; lavva_drops_total has the reasons")                               \
  X(DROP_HUB, "lavva_channel_drops_total", "stage=\"hub\",app,channel", "")

/* Gateway protocols: how a client is connected. */
#define LV_KPI_PROTOS(X)                                                                           \
  X(NONE, "none")                                                                                  \
  X(MQTT, "mqtt")                                                                                  \
  X(MQTTS, "mqtts")                                                                                \
  X(HTTP, "http")                                                                                  \
  X(HTTPS, "https")                                                                                \
  X(WS, "ws")                                                                                      \
  X(WSS, "wss")                                                                                    \
  X(SSE, "sse")                                                                                    \
  X(SSES, "sses")

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

enum lv_chan_counter {
#define X(id, name, labels, help) LV_CH_##id,
  LV_CHAN_COUNTERS(X)
#undef X
      LV_CH_COUNT
};
enum lv_kpi_proto {
#define X(id, text) LV_KPI_##id,
  LV_KPI_PROTOS(X)
#undef X
      LV_KPI_PROTO_COUNT
};
/* Apps with rows of their own (more share the row `_other`); channels with names of their own, all
 * apps together; where more than LV_KPI_ZEROS rows of (app, protocol) exist, reasons that have
 * not occurred are left out of the text. */
enum { LV_KPI_APPS_MAX = 1000, LV_KPI_CHANS_MAX = 10000, LV_KPI_ZEROS = 64 };
enum { LV_KPI_CHANS_DEFAULT = 100 };
/* Apps whose latency has buckets of its own; those of the others are `_other` together. */
enum { LV_KPI_HIST_APPS = 64 };
#define LV_KPI_NO_APP UINT32_MAX

/* One thread's counters of one channel. */
typedef struct lv_chan_row {
  _Atomic uint64_t c[LV_CH_COUNT];
  uint32_t slot;
  uint16_t mark[LV_KPI_PROTO_COUNT]; /* where the open batch tallies it (pub.c) */
  struct lv_chan_row *next;
} lv_chan_row;

/* Two ways of measuring a delivery: from the message's last byte read here, and from the time that
 * its publisher gave it. */
enum lv_latency { LV_LATENCY_PROCESSING, LV_LATENCY_END, LV_LATENCY_COUNT };
/* Of a row: the classic buckets of Prometheus and one more for all above. The fine histograms, from
 * which quantiles come, are the base set's. */
enum { LV_KPI_BUCKETS = 30 };
typedef struct lv_lat {
  _Atomic uint64_t bucket[LV_KPI_BUCKETS + 1], sum;
} lv_lat;

/* One thread's set of one app and protocol, or its base set. */
typedef struct lv_metrics {
  _Atomic uint64_t c[LV_C_COUNT];
  _Atomic int64_t g[LV_G_COUNT];
  uint32_t app; /* place in the table of apps; 0: none */
  uint8_t proto;
  struct lv_metrics *next;
  uint32_t *use_ring; /* of a row without protocol: usage.c; NULL: no connection yet */
  lv_lat lat[LV_LATENCY_COUNT];
  /* the base set only: */
  lv_hist *latency; /* processing latency of live first deliveries */
  lv_hist *end;     /* end-to-end latency of the same, where the publisher gave a time */
  lv_hist *commit;  /* submit to durable, per batch */
  lv_hist *turn;    /* a loop's turns, from waking up to sleeping; NULL: no loop */
  int loop;         /* its index, or -1 */
  struct lv_metrics **rows;
  struct lv_chan_row **chans;
  uint32_t n_rows, n_chans;
  uint32_t use_s; /* the second that usage.c has counted last */
} lv_metrics;

static inline void lv_count(lv_metrics *m, enum lv_counter c, uint64_t n) {
  uint64_t v = atomic_load_explicit(&m->c[c], memory_order_relaxed);
  atomic_store_explicit(&m->c[c], v + n, memory_order_relaxed);
}
static inline void lv_gauge(lv_metrics *m, enum lv_gauge g, int64_t n) {
  int64_t v = atomic_load_explicit(&m->g[g], memory_order_relaxed);
  atomic_store_explicit(&m->g[g], v + n, memory_order_relaxed);
}

static inline void lv_gauge_set(lv_metrics *m, enum lv_gauge g, int64_t v) {
  atomic_store_explicit(&m->g[g], v, memory_order_relaxed);
}
static inline void lv_chan_count(lv_chan_row *r, enum lv_chan_counter c, uint64_t n) {
  uint64_t v = atomic_load_explicit(&r->c[c], memory_order_relaxed);
  atomic_store_explicit(&r->c[c], v + n, memory_order_relaxed);
}

/* n live first deliveries took so many nanoseconds: counted in the base set's histogram and in the
 * row. Negative ones are counted apart. @thread that of the sets */
void lv_metrics_latency(lv_metrics *base, lv_metrics *row, enum lv_latency which, int64_t ns,
                        uint64_t n);

/* ---- rows ---- */
lv_metrics *lv__metrics_row_new(lv_metrics *base, uint32_t app_id, uint32_t proto);
lv_chan_row *lv__metrics_chan_new(lv_metrics *base, uint32_t slot);
/* The row of an app (LV_KPI_NO_APP: none) and protocol in the base set of the calling thread.
 * @thread that of the set */
static inline lv_metrics *lv_metrics_row(lv_metrics *base, uint32_t app_id, uint32_t proto) {
  uint64_t i = (uint64_t)(uint32_t)(app_id + 1) * LV_KPI_PROTO_COUNT + proto;
  if (__builtin_expect(i < base->n_rows && base->rows[i], 1)) return base->rows[i];
  return lv__metrics_row_new(base, app_id, proto);
}
/* The row of a channel's slot. @thread that of the set */
static inline lv_chan_row *lv_metrics_chan_row(lv_metrics *base, uint32_t slot) {
  if (__builtin_expect(slot < base->n_chans && base->chans[slot], 1)) return base->chans[slot];
  return lv__metrics_chan_new(base, slot);
}
/* Names an app for its rows; ids are small numbers. Again: nothing happens. @thread any */
void lv_metrics_app(uint32_t app_id, const char *name, size_t n);
/* Channels of each app that get a name of their own from now on. @thread any */
void lv_metrics_chans_max(uint32_t n);
/* A channel's slot, never 0 (0: none): its own, or that of its app's `_other`. To be kept with the
 * channel: it takes a lock. @thread any */
uint32_t lv_metrics_chan_slot(uint32_t app_id, const char *name, size_t n);
/* The app's slot for what is of no known channel. @thread any */
uint32_t lv_metrics_unknown_slot(uint32_t app_id);
/* The app that a slot belongs to. @thread any */
uint32_t lv_metrics_slot_app(uint32_t slot);

/* ---- sets and sums ---- */
/* A set for the calling thread, linked into the process's list for good. @thread any */
lv_metrics *lv_metrics_new(void);
/* The set is a loop's: it counts turns. @thread main */
void lv_metrics_loop(lv_metrics *m, int index);
/* The calling thread's set, made on first use (for threads that are no loops). @thread any */
lv_metrics *lv_metrics_mine(void);
/* Makes m the calling thread's set (a loop's thread counts into loop->metrics); returns the
 * previous one or NULL. @thread any */
lv_metrics *lv_metrics_use(lv_metrics *m);
/* Sums over all threads. @thread any */
uint64_t lv_metrics_counter(enum lv_counter c);
int64_t lv_metrics_gauge(enum lv_gauge g);
/* Sum of a channel's counter. @thread any */
uint64_t lv_metrics_chan_counter(uint32_t slot, enum lv_chan_counter c);
/* Merged histogram into dst (zeroed first). @thread any */
enum lv_metrics_hist { LV_HIST_LATENCY, LV_HIST_END, LV_HIST_COMMIT, LV_HIST_TURN };
void lv_metrics_hist(enum lv_metrics_hist which, lv_hist *dst);
/* Samples both latencies for the 60-second quantile window; call once a second. @thread one */
void lv_metrics_sample(lv_wall now);
/* Quantile of processing latency over the last 60 s in nanoseconds; q = 1 is the maximum.
 * @thread any */
int64_t lv_metrics_latency_recent(double q);
/* What else a process has to say (queues of its broker): fn is called for each text and adds whole
 * metrics with lv_metrics_put. NULL ends it; no text is being made then. @thread main */
struct lv_buf;
typedef void lv_metrics_source_fn(void *arg, struct lv_buf *b);
void lv_metrics_source(lv_metrics_source_fn *fn, void *arg);
void lv_metrics_put(struct lv_buf *b, const char *name, const char *type, const char *help,
                    double v);
/* What this process is: the label `role`. A string that stays. @thread main */
void lv_metrics_role(const char *role);
/* All of it in Prometheus text format 0.0.4; a heap buffer the caller frees. @thread any */
char *lv_metrics_prometheus(size_t *ret_n);

#endif
