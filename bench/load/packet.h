/* packet.h: the client half of MQTT 3.1.1 and 5.0, as much as load needs: encoders into a caller's
 * buffer and a framing decoder over borrowed bytes. No I/O, no state.
 *
 * Each payload starts with a stamp (little-endian) and is filled up with a fixed pattern:
 *
 *   0      4        8     12        16          24 … size
 *   run    stream   seq   reserved  intended_ns pattern
 *
 * `run` tells this run's messages from strangers; `intended_ns` is CLOCK_MONOTONIC, when the
 * message was meant to leave. */
#ifndef LG_PACKET_H
#define LG_PACKET_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LG_STAMP_BYTES = 24, LG_TOPIC_MAX = 256 };
enum {
  LG_CONNECT = 1,
  LG_CONNACK,
  LG_PUBLISH,
  LG_PUBACK,
  LG_PUBREC,
  LG_PUBREL,
  LG_PUBCOMP,
  LG_SUBSCRIBE,
  LG_SUBACK,
  LG_UNSUBSCRIBE,
  LG_UNSUBACK,
  LG_PINGREQ,
  LG_PINGRESP,
  LG_DISCONNECT,
  LG_AUTH
};

typedef struct lg_stamp {
  uint32_t run, stream, seq;
  int64_t intended_ns;
} lg_stamp;

typedef struct lg_connect {
  const char *client_id, *user, *password; /* user and password may be NULL */
  bool v5, clean;
  uint16_t keep_alive_s, receive_max; /* receive_max: 0 = not sent (5.0 only) */
  uint32_t expiry_s;                  /* session expiry (5.0 only), 0 = not sent */
} lg_connect;

typedef struct lg_pub {
  const char *topic;
  uint16_t topic_n, pid; /* pid is written for QoS > 0 */
  uint8_t qos;
  bool v5, dup;
  lg_stamp stamp;
  const uint8_t *pattern; /* payload_n bytes, of which those behind the stamp are used */
  uint32_t payload_n;     /* >= LG_STAMP_BYTES */
} lg_pub;

/* One framed packet: `body` is what follows the fixed header. */
typedef struct lg_frame {
  uint8_t type, flags;
  const uint8_t *body;
  uint32_t n;
} lg_frame;

/* A PUBLISH taken apart; all slices are borrowed from the frame. */
typedef struct lg_pub_in {
  const uint8_t *topic, *payload;
  uint32_t topic_n, payload_n;
  uint16_t pid;
  uint8_t qos;
  bool dup;
} lg_pub_in;

/* What a CONNACK says that matters here. */
typedef struct lg_connack {
  uint8_t code;
  bool session;         /* the server had kept it */
  uint16_t receive_max; /* 65535 unless the server says otherwise */
} lg_connack;

/* Encoders return the bytes written; the buffer must hold lg_*_bytes_max. */
size_t lg_connect_encode(uint8_t *buf, const lg_connect *c);
size_t lg_connect_bytes_max(const lg_connect *c);
size_t lg_subscribe_encode(uint8_t *buf, uint16_t pid, bool v5, uint8_t qos,
                           const char *const *filters, uint32_t count);
size_t lg_subscribe_bytes_max(const char *const *filters, uint32_t count);
size_t lg_publish_encode(uint8_t *buf, const lg_pub *pub);
size_t lg_publish_bytes_max(uint32_t topic_n, uint32_t payload_n);
/* PUBACK, PUBREC, PUBREL or PUBCOMP with reason 0: always 4 bytes. */
size_t lg_ack_encode(uint8_t *buf, uint8_t type, uint16_t pid);
/* Cuts one packet off [p, p+n): its total size, 0 when more bytes are needed, -1 when malformed. */
int64_t lg_frame_cut(const uint8_t *p, size_t n, lg_frame *ret_frame);
/* 0, or -1 when the bytes do not fit together. */
int lg_publish_decode(const lg_frame *f, bool v5, lg_pub_in *ret_pub);
int lg_connack_decode(const lg_frame *f, bool v5, lg_connack *ret_ack);
/* The packet id and reason (0 when absent) of an acknowledgement. */
int lg_ack_decode(const lg_frame *f, uint16_t *ret_pid, uint8_t *ret_reason);
void lg_stamp_read(const uint8_t *payload, lg_stamp *ret_stamp);

#endif
