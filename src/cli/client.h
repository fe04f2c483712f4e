/* client.h: an MQTT client for the commands, over libmosquitto, on one thread with poll(2).
 *
 * The library is a development tool's client only; the server's own codec has no part in it. The
 * caller drives it with lv_client_step and sends from there; callbacks run inside a step. After a
 * lost connection it tries again (0.1 s, doubling to 5 s) when `retry` is set; a first one that
 * fails only with `patient`.
 *
 * @thread main */
#ifndef LV_CLI_CLIENT_H
#define LV_CLI_CLIENT_H
#include "cli/target.h"
#include <mosquitto.h>
#include <mqtt_protocol.h>

typedef struct lv_client {
  const lv_cli_cmd *cmd;
  const lv_cli_target *target;
  struct mosquitto *mosq;
  bool connected; /* CONNACK said yes */
  bool retry, patient, quiet;
  int refused;          /* reason code of a CONNACK that said no; 0: none */
  int error;            /* libmosquitto's, of the last lost or failed connection */
  uint64_t connects;    /* successful ones */
  uint64_t retry_at_ms; /* monotonic */
  uint64_t retry_gap_ms;
  mosquitto_property *connect_props;
  void *arg;
  void (*on_connect)(struct lv_client *c, bool session_present);
  void (*on_message)(struct lv_client *c, const struct mosquitto_message *msg,
                     const mosquitto_property *props);
  void (*on_acked)(struct lv_client *c, int mid, int reason);
  void (*on_subscribed)(struct lv_client *c, int mid, int n, const int *granted);
} lv_client;

/* Makes the client from the target; set the callbacks, then connect. Exit code, or 0. */
int lv_client_init(lv_client *c, const lv_cli_cmd *cmd, const lv_cli_target *target,
                   bool clean_start);
/* Starts connecting. Exit code (after a message), or 0; with `retry` a failure is tried again in
 * lv_client_step. */
int lv_client_connect(lv_client *c);
/* Waits up to timeout_ms for the network or for `fd` (-1: none) to be readable, handles the
 * network, reconnects. ret_fd: whether fd has something. Returns 0, or an exit code when the
 * connection is over for good (the message is out). */
int lv_client_step(lv_client *c, int timeout_ms, int fd, bool *ret_fd);
/* True when nothing waits to be written: publish more only then. */
bool lv_client_writable(const lv_client *c);
/* DISCONNECT, and waits until it left (bounded). */
void lv_client_done(lv_client *c);

/* Ctrl-C and SIGTERM end a command's loop: it looks at this. A second one kills. */
void lv_cli_signals(void);
bool lv_cli_stopped(void);
uint64_t lv_cli_now_ms(void); /* monotonic */

#endif
