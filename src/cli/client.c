/* client.c: libmosquitto driven by poll. */
#include "cli/client.h"
#include "core/err.h"
#include "core/time.h"
#include <assert.h>
#include <errno.h>
#include <openssl/x509.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { RETRY_MIN_MS = 100, RETRY_MAX_MS = 5000, MISC_MS = 500, GOODBYE_MS = 2000 };

static volatile sig_atomic_t stopped;

static void on_signal(int sig) {
  if (stopped) {
    signal(sig, SIG_DFL);
    raise(sig);
  }
  stopped = 1;
}

void lv_cli_signals(void) {
  struct sigaction sa = {.sa_handler = on_signal};
  sigaction(SIGINT, &sa, NULL);
  sigaction(SIGTERM, &sa, NULL);
  signal(SIGPIPE, SIG_IGN);
}

bool lv_cli_stopped(void) {
  return stopped != 0;
}

uint64_t lv_cli_now_ms(void) {
  return (uint64_t)lv_mono_now().ns / 1000000;
}

static void cb_connect(struct mosquitto *m, void *arg, int reason, int flags,
                       const mosquitto_property *props) {
  lv_client *c = arg;
  (void)props;
  if (reason) {
    c->refused = reason;
    return;
  }
  c->connected = true;
  c->connects++;
  c->retry_gap_ms = RETRY_MIN_MS;
  if (c->on_connect) c->on_connect(c, flags & 1);
}

static void cb_disconnect(struct mosquitto *m, void *arg, int reason,
                          const mosquitto_property *props) {
  lv_client *c = arg;
  (void)props;
  c->connected = false;
  c->error = reason;
}

static void cb_message(struct mosquitto *m, void *arg, const struct mosquitto_message *msg,
                       const mosquitto_property *props) {
  lv_client *c = arg;
  if (c->on_message) c->on_message(c, msg, props);
}

static void cb_publish(struct mosquitto *m, void *arg, int mid, int reason,
                       const mosquitto_property *props) {
  lv_client *c = arg;
  (void)props;
  if (c->on_acked) c->on_acked(c, mid, reason);
}

static void cb_subscribe(struct mosquitto *m, void *arg, int mid, int n, const int *granted,
                         const mosquitto_property *props) {
  lv_client *c = arg;
  (void)props;
  if (c->on_subscribed) c->on_subscribed(c, mid, n, granted);
}

/* What the numbers of libmosquitto and MQTT mean, in our words. */
static const char *error_text(int e) {
  if (e == MOSQ_ERR_ERRNO) return lv_strerror(errno);
  if (e == MOSQ_ERR_TLS)
    return "no TLS connection: is there TLS, and is its certificate trusted? (--ca names whom to "
           "trust)";
  return e >= 0x80 ? mosquitto_reason_string(e) : mosquitto_strerror(e);
}

static const char *refused_text(const lv_client *c) {
  return c->target->version == 5 ? mosquitto_reason_string(c->refused)
                                 : mosquitto_connack_string(c->refused);
}

int lv_client_init(lv_client *c, const lv_cli_cmd *cmd, const lv_cli_target *t, bool clean_start) {
  *c = (lv_client){.cmd = cmd, .target = t, .retry_gap_ms = RETRY_MIN_MS};
  mosquitto_lib_init();
  c->mosq = mosquitto_new(t->id, clean_start, c);
  if (!c->mosq) return lv_cli_fail(cmd, "client id %s: %s", t->id, lv_strerror(errno));
  mosquitto_int_option(c->mosq, MOSQ_OPT_PROTOCOL_VERSION,
                       t->version == 5 ? MQTT_PROTOCOL_V5 : MQTT_PROTOCOL_V311);
  mosquitto_int_option(c->mosq, MOSQ_OPT_TCP_NODELAY, 1);
  mosquitto_int_option(c->mosq, MOSQ_OPT_RECEIVE_MAXIMUM, 1000);
  if (t->user) mosquitto_username_pw_set(c->mosq, t->user, t->password);
  mosquitto_connect_v5_callback_set(c->mosq, cb_connect);
  mosquitto_disconnect_v5_callback_set(c->mosq, cb_disconnect);
  mosquitto_message_v5_callback_set(c->mosq, cb_message);
  mosquitto_publish_v5_callback_set(c->mosq, cb_publish);
  mosquitto_subscribe_v5_callback_set(c->mosq, cb_subscribe);
  if (!t->tls) return 0;
  /* Without --ca: whom this system trusts. libmosquitto wants to be told where that is. */
  const char *system = getenv(X509_get_default_cert_dir_env());
  if (!system) system = X509_get_default_cert_dir();
  int r = mosquitto_tls_set(c->mosq, t->ca, t->ca ? NULL : system, t->cert, t->cert_key, NULL);
  if (r) return lv_cli_fail(cmd, "TLS: %s (--ca, --cert, --cert-key)", error_text(r));
  if (t->insecure) mosquitto_tls_insecure_set(c->mosq, true);
  return 0;
}

static int connect_once(lv_client *c) {
  const lv_cli_target *t = c->target;
  errno = 0;
  return mosquitto_connect_bind_v5(c->mosq, t->host, t->port, t->keep_alive_s, NULL,
                                   t->version == 5 ? c->connect_props : NULL);
}

/* The connection is gone or was not made: say why, or plan the next try. */
static int lost(lv_client *c, int error) {
  const lv_cli_target *t = c->target;
  c->connected = false;
  if (c->refused) {
    lv_cli_fail(c->cmd, "%s:%u refused the connection: %s", t->host, t->port, refused_text(c));
    return LV_EXIT_REFUSED;
  }
  if (!c->retry || (c->connects == 0 && !c->patient))
    return lv_cli_fail(c->cmd, "%s:%u: %s", t->host, t->port,
                       error ? error_text(error) : "the server closed the connection");
  if (c->retry_gap_ms == RETRY_MIN_MS && !c->quiet)
    lv_cli_fail(c->cmd, "%s:%u: %s; trying again", t->host, t->port, error_text(error));
  c->retry_at_ms = lv_cli_now_ms() + c->retry_gap_ms;
  c->retry_gap_ms = c->retry_gap_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : c->retry_gap_ms * 2;
  return 0;
}

int lv_client_connect(lv_client *c) {
  int r = connect_once(c);
  return r ? lost(c, r) : 0;
}

bool lv_client_writable(const lv_client *c) {
  return c->connected && !mosquitto_want_write(c->mosq);
}

/* How long poll may sleep: not past the library's own duties or the next try. */
static int sleep_ms(const lv_client *c, int sock, int timeout_ms) {
  int limit = MISC_MS;
  if (sock < 0 && c->retry_at_ms) {
    uint64_t now = lv_cli_now_ms();
    limit = now < c->retry_at_ms ? (int)(c->retry_at_ms - now) : 0;
  }
  return timeout_ms < 0 || timeout_ms > limit ? limit : timeout_ms;
}

static int network(lv_client *c, const struct pollfd *p) {
  int r = MOSQ_ERR_SUCCESS;
  errno = 0;
  if (p->revents & (POLLIN | POLLHUP | POLLERR)) r = mosquitto_loop_read(c->mosq, 1);
  if (r == MOSQ_ERR_SUCCESS && (p->revents & POLLOUT)) r = mosquitto_loop_write(c->mosq, 1);
  if (r == MOSQ_ERR_SUCCESS) r = mosquitto_loop_misc(c->mosq);
  if (r == MOSQ_ERR_SUCCESS) return 0;
  return lost(c, c->error > 0 && r == MOSQ_ERR_CONN_LOST ? c->error : r);
}

int lv_client_step(lv_client *c, int timeout_ms, int fd, bool *ret_fd) {
  int sock = mosquitto_socket(c->mosq);
  if (sock < 0 && c->retry_at_ms && lv_cli_now_ms() >= c->retry_at_ms) {
    int r = connect_once(c);
    if (r) return lost(c, r);
    sock = mosquitto_socket(c->mosq);
  }
  struct pollfd p[2] = {{.fd = sock, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
  if (sock >= 0 && mosquitto_want_write(c->mosq)) p[0].events |= POLLOUT;
  int n = poll(p, 2, sleep_ms(c, sock, timeout_ms));
  if (ret_fd) *ret_fd = n > 0 && p[1].revents;
  if (sock < 0) return 0;
  if (n <= 0) p[0].revents = 0;
  return network(c, &p[0]);
}

void lv_client_done(lv_client *c) {
  if (!c->mosq) return;
  if (c->connected) {
    uint64_t until = lv_cli_now_ms() + GOODBYE_MS;
    c->retry = false;
    c->quiet = true;
    mosquitto_disconnect(c->mosq);
    while (mosquitto_socket(c->mosq) >= 0 && mosquitto_want_write(c->mosq) &&
           lv_cli_now_ms() < until) {
      struct pollfd p = {.fd = mosquitto_socket(c->mosq), .events = POLLOUT};
      (void)poll(&p, 1, 100);
      if (mosquitto_loop_write(c->mosq, 1)) break;
    }
  }
  mosquitto_destroy(c->mosq);
  mosquitto_property_free_all(&c->connect_props);
  mosquitto_lib_cleanup();
  c->mosq = NULL;
}
