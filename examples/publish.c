/* publish.c: publishes COUNT values to TOPIC at QoS 1 and waits until all are acknowledged.
 *
 *   publish TOPIC [COUNT]        server: LAVVA_MQTT, LAVVA_APP, LAVVA_KEY
 *   cc -o publish publish.c -lmosquitto
 *
 * One thread: libmosquitto's loop is called by hand. */
#include <mosquitto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int acked, refused;

static void on_connect(struct mosquitto *m, void *arg, int reason) {
  (void)m;
  (void)arg;
  if (reason == 0) return;
  fprintf(stderr, "refused: %s\n", mosquitto_connack_string(reason));
  exit(3);
}

static void on_publish(struct mosquitto *m, void *arg, int id, int reason,
                       const mosquitto_property *props) {
  (void)m;
  (void)arg;
  (void)id;
  (void)props;
  acked++;
  refused += reason >= 0x80;
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
  char host[256], value[32];
  int port = server(host, sizeof host), rc = 0;
  if (argc < 2 || port <= 0) return 64;
  int count = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 1;
  mosquitto_lib_init();
  struct mosquitto *m = mosquitto_new(NULL, true, NULL);
  if (!m) return 1;
  mosquitto_int_option(m, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V5);
  mosquitto_username_pw_set(m, getenv("LAVVA_APP"), getenv("LAVVA_KEY"));
  mosquitto_connect_callback_set(m, on_connect);
  mosquitto_publish_v5_callback_set(m, on_publish);
  rc = mosquitto_connect(m, host, port, 30);
  for (int i = 0; i < count && rc == 0; i++) {
    int n = snprintf(value, sizeof value, "{\"n\":%d}", i);
    rc = mosquitto_publish(m, NULL, argv[1], n, value, 1, false);
  }
  while (rc == 0 && acked < count) rc = mosquitto_loop(m, 1000, 1);
  if (rc == 0 && refused == 0) printf("%d acknowledged\n", count);
  if (rc) fprintf(stderr, "%s\n", mosquitto_strerror(rc));
  mosquitto_disconnect(m);
  mosquitto_destroy(m);
  mosquitto_lib_cleanup();
  return rc ? 1 : refused ? 3 : 0;
}
