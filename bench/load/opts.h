/* opts.h: the command line of lavva-load: one table that parses, checks ranges and prints --help.
 */
#ifndef LG_OPTS_H
#define LG_OPTS_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { LG_SERVERS_MAX = 64 };
typedef enum lg_mode { LG_CLOSED, LG_OPEN } lg_mode;

typedef struct lg_opts {
  /* where */
  const char *host, *port;
  const char *user, *password, *id_prefix;
  bool v5, persistent, reconnect;
  /* who */
  uint64_t pubs, subs, idle, topics;
  const char *pattern, *topic, *filter;
  uint64_t qos, sub_qos, payload_bytes;
  uint64_t keep_alive_s, receive_max, ramp_per_s, connecting_max;
  /* how */
  lg_mode mode;
  uint64_t window, count, nap_us;
  uint64_t slow, slow_bytes_per_s, churn_per_s;
  double rate_per_s;
  bool poisson;
  double warmup_s, duration_s, drain_s, stall_s, settle_s;
  double objective_ms;
  uint64_t seed;
  /* what is told */
  pid_t server_pids[LG_SERVERS_MAX];
  uint32_t server_count;
  const char *json;
  bool progress, quiet, allow_loss, topic_check;
} lg_opts;

/* Fills ret_opts; on --help prints and exits 0, on bad arguments says which and exits 64. */
void lg_opts_parse(int argc, char **argv, lg_opts *ret_opts);

#endif
