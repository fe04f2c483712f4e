/* scrape.h: one GET of /metrics and the few numbers that the live view shows.
 *
 * @thread main */
#ifndef LV_CLI_SCRAPE_H
#define LV_CLI_SCRAPE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(id, Prometheus name: samples of all labels are added up) */
#define LV_SCRAPE_SUMS(X)                                                                          \
  X(GW_IN, "lavva_gateway_in_messages_total")                                                      \
  X(GW_IN_BYTES, "lavva_gateway_in_bytes_total")                                                   \
  X(GW_OUT, "lavva_gateway_out_messages_total")                                                    \
  X(GW_REJECTED, "lavva_gateway_rejected_messages_total")                                          \
  X(BR_IN, "lavva_broker_in_messages_total")                                                       \
  X(BR_OUT, "lavva_broker_out_messages_total")                                                     \
  X(BR_SYNCS, "lavva_broker_syncs_total")                                                          \
  X(HUB_IN, "lavva_hub_in_messages_total")                                                         \
  X(HUB_OUT, "lavva_hub_out_messages_total")                                                       \
  X(HUB_OUT_BYTES, "lavva_hub_out_bytes_total")                                                    \
  X(PENDING, "lavva_hub_pending_messages")                                                         \
  X(DROPS, "lavva_drops_total")                                                                    \
  X(CONNS, "lavva_connections")                                                                    \
  X(SESSIONS, "lavva_sessions")                                                                    \
  X(SUBS, "lavva_subscriptions")                                                                   \
  X(LATENCY_MAX, "lavva_processing_latency_max_seconds")                                           \
  X(CPU, "process_cpu_seconds_total")                                                              \
  X(RSS, "process_resident_memory_bytes")

enum lv_scrape_sum {
#define X(id, name) LV_S_##id,
  LV_SCRAPE_SUMS(X)
#undef X
      LV_S_COUNT
};
enum { LV_SCRAPE_DROPS = 16, LV_SCRAPE_APPS = 8, LV_SCRAPE_PROTOS = 8 };

typedef struct lv_scrape_app {
  char name[40];
  double in, out, drops, pending, lag_max, clients;
} lv_scrape_app;

typedef struct lv_scrape {
  double v[LV_S_COUNT];
  double p50_s, p99_s; /* processing latency over the last 60 s */
  struct {
    char label[64]; /* "hub slow" */
    double n;
  } drops[LV_SCRAPE_DROPS]; /* those above 0 */
  uint32_t n_drops;
  lv_scrape_app apps[LV_SCRAPE_APPS]; /* the first ones that are named */
  uint32_t n_apps;
  bool more_apps;
  struct {
    char name[16];
    double n;
  } protos[LV_SCRAPE_PROTOS]; /* open connections, where there are any */
  uint32_t n_protos;
} lv_scrape;

/* Takes the numbers out of Prometheus text. */
void lv_scrape_parse(char *text, lv_scrape *ret);
/* GET http://HOST:PORT/metrics within timeout_ms. -errno of a connect that failed, LV_E_NOT_FOUND
 * (host), LV_E_INVALID (address), LV_E_IO, LV_E_TIMEOUT, LV_E_MALFORMED, LV_E_TOO_BIG (above
 * 8 MiB). */
int lv_scrape_get(const char *address, int timeout_ms, lv_scrape *ret);
/* What any of these says. */
const char *lv_scrape_error(int err);

/* A TCP connection to HOST:PORT or [IPV6]:PORT with that time-out for each step: its descriptor, or
 * an error for lv_scrape_error. */
int lv_cli_connect(const char *address, int timeout_ms);

#endif
