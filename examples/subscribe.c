/* subscribe.c: prints COUNT messages that match FILTER; the server keeps the session for an hour,
 * so that the next run with the same id goes on where this one left off.
 *
 *   subscribe FILTER [COUNT [ID]]        server: LAVVA_MQTT, LAVVA_APP, LAVVA_KEY
 *   cc -o subscribe subscribe.c -lmosquitto
 *
 * One thread: libmosquitto's loop is called by hand. */
#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *filter;
static int count, seen;

static void on_connect(struct mosquitto *m, void *arg, int reason) {
  (void)arg;
  if (reason) {
    fprintf(stderr, "refused: %s\n", mosquitto_connack_string(reason));
    exit(3);
  }
  mosquitto_subscribe(m, NULL, filter, 1);
}

static void on_message(struct mosquitto *m, void *arg, const struct mosquitto_message *msg) {
  (void)m;
  (void)arg;
  if (count && seen >= count) return;
  printf("%s %.*s\n", msg->topic, msg->payloadlen, (const char *)msg->payload);
  fflush(stdout);
  seen++;
}

/* "HOST:PORT" of the environment; IPv6 addresses stand in brackets. */
static int server(char *host, size_t size) {
  const char *at = getenv("LAVVA_MQTT");
  if (!at) at = "localhost:1883";
  const char *colon = strrchr(at, ':');
  if (!colon) return -1;
  size_t skip = *at == '[';
  snprintf(host, size, "%.*s", (int)((size_t)(colon - at) - 2 * skip), at + skip);
  return (int)strtol(colon + 1, NULL, 10);
}

int main(int argc, char **argv) {
  char host[256];
  int port = server(host, sizeof host), rc = 0;
  if (argc < 2 || port <= 0) return 64;
  filter = argv[1];
  count = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 0;
  mosquitto_lib_init();
  struct mosquitto *m = mosquitto_new(argc > 3 ? argv[3] : "example-c", false, NULL);
  if (!m) return 1;
  mosquitto_property *props = NULL;
  mosquitto_property_add_int32(&props, MQTT_PROP_SESSION_EXPIRY_INTERVAL, 3600);
  mosquitto_int_option(m, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V5);
  mosquitto_username_pw_set(m, getenv("LAVVA_APP"), getenv("LAVVA_KEY"));
  mosquitto_connect_callback_set(m, on_connect);
  mosquitto_message_callback_set(m, on_message);
  rc = mosquitto_connect_bind_v5(m, host, port, 30, NULL, props);
  while (rc == 0 && (count == 0 || seen < count)) rc = mosquitto_loop(m, 1000, 1);
  if (rc) fprintf(stderr, "%s\n", mosquitto_strerror(rc));
  mosquitto_disconnect(m);
  mosquitto_property_free_all(&props);
  mosquitto_destroy(m);
  mosquitto_lib_cleanup();
  return rc != 0;
}
