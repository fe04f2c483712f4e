/* wire_bench.c: what the MQTT codec costs, alone: ns for each PUBLISH decoded and encoded, for
 * filter matching, and for an HTTP head. One thread, hot cache; the least of five rounds counts,
 * since what disturbs a round only makes it slower. Usage: wire_bench [ROUND_MS] */
#include "wire/http.h"
#include "wire/mqtt.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROUNDS = 5, BATCH = 1000 };

static double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}
static void keep(const void *p) {
  __asm__ volatile("" ::"r"(p) : "memory");
}

/* What is measured: fn does BATCH of it. */
typedef struct job {
  const char *name;
  void (*fn)(const struct job *j);
  uint8_t version, flags;
  lv_slice in;
  lv_mqtt_publish_out out;
} job;

static void decode(const job *j) {
  lv_mqtt_publish m;
  for (int i = 0; i < BATCH; i++) {
    if (lv_mqtt_publish_decode(j->version, j->flags, j->in, true, &m)) abort();
    keep(&m);
  }
}
static void encode(const job *j) {
  static uint8_t d[4096];
  uint32_t size, remaining;
  for (int i = 0; i < BATCH; i++) {
    if (lv_mqtt_publish_size(&j->out, false, &size, &remaining) || size > sizeof d) abort();
    keep(lv_mqtt_publish_encode(&j->out, false, remaining, d));
  }
}
static void match(const job *j) {
  for (int i = 0; i < BATCH; i++) {
    if (!lv_mqtt_match(j->out.topic, j->in)) abort();
    keep(j);
  }
}
static void split(const job *j) {
  lv_slice chan;
  uint16_t off;
  for (int i = 0; i < BATCH; i++) {
    lv_topic_split(j->in, &chan, &off);
    keep(&chan);
  }
}
static void http(const job *j) {
  lv_http_req r;
  for (int i = 0; i < BATCH; i++) {
    uint32_t scanned = 0, len;
    if (lv_http_head_find(j->in.p, j->in.n, 8192, &scanned, &len)) abort();
    if (lv_http_head_decode((lv_slice){j->in.p, len}, &r)) abort();
    keep(&r);
  }
}

static double measure(const job *j, double round_ns) {
  double best = 1e18;
  for (int r = 0; r < ROUNDS; r++) {
    double start = now_ns(), end = start;
    uint64_t n = 0;
    for (; end - start < round_ns; end = now_ns(), n += BATCH) j->fn(j);
    double each = (end - start) / (double)n;
    if (each < best) best = each;
  }
  return best;
}

#define TOPIC "factory/line-7/machine-042/temperature"
#define PAY16 "0123456789abcdef"
#define PAY128 PAY16 PAY16 PAY16 PAY16 PAY16 PAY16 PAY16 PAY16
#define PROPS "\x26\0\3tag\0\2t1\x26\0\3cat\0\5alarm"
#define L(lit)                                                                                     \
  { (const uint8_t *)(lit), sizeof(lit) - 1 }

int main(int argc, char **argv) {
  double round_ns = (argc > 1 ? strtod(argv[1], NULL) : 50) * 1e6;
  const job jobs[] = {
      {"decode PUBLISH 3.1.1 QoS 0, 128 B", decode, 4, 0, L("\0\x26" TOPIC PAY128), {0}},
      {"decode PUBLISH 5.0 QoS 1, 128 B", decode, 5, 2, L("\0\x26" TOPIC "\0\1\0" PAY128), {0}},
      {"decode PUBLISH 5.0 QoS 1, tag and cat",
       decode,
       5,
       2,
       L("\0\x26" TOPIC "\0\1\x17" PROPS PAY128),
       {0}},
      {"encode PUBLISH 3.1.1 QoS 0, 128 B",
       encode,
       0,
       0,
       L(""),
       {.version = 4, .topic = L(TOPIC), .payload = L(PAY128)}},
      {"encode PUBLISH 5.0 QoS 1, tag and cat",
       encode,
       0,
       0,
       L(""),
       {.version = 5,
        .qos = 1,
        .packet_id = 1,
        .topic = L(TOPIC),
        .props = L(PROPS),
        .payload = L(PAY128)}},
      {"match factory/+/+/temperature",
       match,
       0,
       0,
       L(TOPIC),
       {.topic = L("factory/+/+/temperature")}},
      {"split a topic into channel and key", split, 0, 0, L(TOPIC), {0}},
      {"find and decode an HTTP head of 5 fields",
       http,
       0,
       0,
       L("GET /v1/channels/a/messages?key=k HTTP/1.1\r\nHost: localhost:8080\r\n"
         "User-Agent: bench\r\nAccept: */*\r\nAuthorization: Bearer lv_0123456789\r\n"
         "Connection: keep-alive\r\n\r\n"),
       {0}},
  };
  for (size_t i = 0; i < sizeof jobs / sizeof jobs[0]; i++)
    printf("%-42s %7.1f ns\n", jobs[i].name, measure(&jobs[i], round_ns));
  return 0;
}
