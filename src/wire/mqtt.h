/* mqtt.h: MQTT 3.1.1 and 5.0 control packets, bytes to values and values to bytes. Pure: no I/O, no
 * allocation, no state.
 *
 * Sources: OASIS MQTT Version 3.1.1 (2014) and MQTT Version 5.0 (2019); section numbers below are
 * of 5.0. Decoders take a whole packet body (after the fixed header), check everything that can be
 * checked without session state, and return slices into it. All multi-byte integers are big-endian.
 * Errors: LV_E_MALFORMED (reason 0x81), LV_E_PROTOCOL (0x82), LV_E_TOPIC, LV_E_FILTER,
 * LV_E_VERSION, LV_E_CLIENT_ID, LV_E_PAYLOAD as lv_err_mqtt tells. @thread any */
#ifndef LV_WIRE_MQTT_H
#define LV_WIRE_MQTT_H
#include "core/err.h"
#include "core/slice.h"

enum lv_mqtt_type {
  LV_MQTT_CONNECT = 1,
  LV_MQTT_CONNACK,
  LV_MQTT_PUBLISH,
  LV_MQTT_PUBACK,
  LV_MQTT_PUBREC,
  LV_MQTT_PUBREL,
  LV_MQTT_PUBCOMP,
  LV_MQTT_SUBSCRIBE,
  LV_MQTT_SUBACK,
  LV_MQTT_UNSUBSCRIBE,
  LV_MQTT_UNSUBACK,
  LV_MQTT_PINGREQ,
  LV_MQTT_PINGRESP,
  LV_MQTT_DISCONNECT,
  LV_MQTT_AUTH
};
enum { LV_MQTT_V3 = 4, LV_MQTT_V5 = 5 }; /* protocol levels; 3.1 (level 3) is refused */
enum { LV_MQTT_REMAINING_MAX = 268435455, LV_MQTT_HEAD_MAX = 5 };

/* ---- fixed header (§2.1) ---- */
typedef struct lv_mqtt_head {
  uint8_t type, flags; /* flags: the low nibble, checked against the type except for PUBLISH */
  uint8_t len;         /* bytes of the fixed header itself */
  uint32_t remaining;
} lv_mqtt_head;
/* LV_E_NEED_MORE while the header is incomplete; LV_E_MALFORMED for type 0, wrong flags, a length
 * of more than four bytes. A length that is longer than it has to be passes: 3.1.1 allows it, 5.0
 * (§1.5.5) does not, see lv_mqtt_head_minimal. */
int lv_mqtt_head_decode(const uint8_t *p, uint32_t n, lv_mqtt_head *ret);
/* Whether the remaining length has its shortest form. A 5.0 packet where it has not is malformed.
 */
static inline bool lv_mqtt_head_minimal(const lv_mqtt_head *h) {
  return h->len == 2 || h->remaining >> (7 * (h->len - 2)) != 0;
}

/* ---- properties (§2.2.2) ---- */
enum lv_mqtt_prop {
  LV_MQTT_P_PAYLOAD_FORMAT = 0x01,
  LV_MQTT_P_MESSAGE_EXPIRY = 0x02,
  LV_MQTT_P_CONTENT_TYPE = 0x03,
  LV_MQTT_P_RESPONSE_TOPIC = 0x08,
  LV_MQTT_P_CORRELATION = 0x09,
  LV_MQTT_P_SUBSCRIPTION_ID = 0x0B,
  LV_MQTT_P_SESSION_EXPIRY = 0x11,
  LV_MQTT_P_ASSIGNED_CLIENT_ID = 0x12,
  LV_MQTT_P_SERVER_KEEP_ALIVE = 0x13,
  LV_MQTT_P_AUTH_METHOD = 0x15,
  LV_MQTT_P_AUTH_DATA = 0x16,
  LV_MQTT_P_REQUEST_PROBLEM = 0x17,
  LV_MQTT_P_WILL_DELAY = 0x18,
  LV_MQTT_P_REQUEST_RESPONSE = 0x19,
  LV_MQTT_P_RESPONSE_INFO = 0x1A,
  LV_MQTT_P_SERVER_REFERENCE = 0x1C,
  LV_MQTT_P_REASON_STRING = 0x1F,
  LV_MQTT_P_RECEIVE_MAX = 0x21,
  LV_MQTT_P_TOPIC_ALIAS_MAX = 0x22,
  LV_MQTT_P_TOPIC_ALIAS = 0x23,
  LV_MQTT_P_MAX_QOS = 0x24,
  LV_MQTT_P_RETAIN_AVAILABLE = 0x25,
  LV_MQTT_P_USER = 0x26,
  LV_MQTT_P_MAX_PACKET = 0x27,
  LV_MQTT_P_WILDCARD_AVAILABLE = 0x28,
  LV_MQTT_P_SUB_ID_AVAILABLE = 0x29,
  LV_MQTT_P_SHARED_AVAILABLE = 0x2A
};
/* One property of a block: id, its integer value or its bytes (for USER: `s` name, `s2` value). */
typedef struct lv_mqtt_property {
  uint8_t id;
  uint32_t u;
  lv_slice s, s2;
} lv_mqtt_property;
/* Takes the next property off `block`. 1: one taken; 0: end; LV_E_MALFORMED: unknown id, cut short,
 * bad UTF-8 or variable byte integer. Does not check which packet it stands in. */
int lv_mqtt_property_next(lv_slice *block, lv_mqtt_property *ret);
/* Value of the first user property named `name` in a block that was checked before; false: none. */
bool lv_mqtt_user_find(lv_slice block, lv_slice name, lv_slice *ret_value);

/* The publisher's own timestamp, the user property `tms` (milliseconds since 1970, decimal), of a
 * block that was checked before; false: none, or none that could be one. */
bool lv_mqtt_tms(lv_slice block, int64_t *ret_ms);

/* ---- CONNECT (§3.1) ---- */
typedef struct lv_mqtt_will {
  lv_slice topic, payload, props; /* props: forwardable ones (see lv_mqtt_publish.props) */
  uint32_t delay_s, expiry_s;
  bool has_expiry, retain, present;
  uint8_t qos;
} lv_mqtt_will;
typedef struct lv_mqtt_connect {
  uint8_t version;
  bool clean_start, has_user, has_password, request_problem, request_response;
  uint16_t keep_alive_s, receive_max /* default 65535 */, topic_alias_max /* default 0 */;
  uint32_t session_expiry_s; /* 5.0 as sent (default 0); 3.1.1: 0 if clean, else UINT32_MAX */
  uint32_t max_packet;       /* 0: no limit given */
  lv_slice client_id, user, password, auth_method, auth_data, user_props /* raw block */;
  lv_mqtt_will will; /* will.props points into `scratch` when a property had to be left out */
} lv_mqtt_connect;
/* `scratch` needs as many bytes as the body. LV_E_VERSION: a protocol level we do not speak (the
 * caller answers 0x84, or return code 1 below 5); LV_E_CLIENT_ID: 3.1.1 zero-length id without
 * clean session; LV_E_PAYLOAD: a will that says it is UTF-8 and is not. On failure too,
 * ret->version is set (the level asked for without its top bit, 0 when it could not be read or the
 * protocol name is not MQTT's), so that the caller knows in which form to answer; nothing else is
 * touched. */
int lv_mqtt_connect_decode(lv_slice body, uint8_t *scratch, lv_mqtt_connect *ret);

/* ---- PUBLISH (§3.3) ---- */
typedef struct lv_mqtt_publish {
  bool dup, retain, has_alias, has_expiry, utf8 /* payload format indicator 1 */;
  uint8_t qos;
  uint16_t packet_id, alias;
  uint32_t expiry_s;
  uint32_t sub_id;         /* first subscription identifier (server to client only), 0: none */
  lv_slice topic, payload; /* topic may be empty in 5.0 when has_alias */
  lv_slice raw_props;      /* the block as received, without its length */
  uint32_t forward_len;    /* bytes of raw_props that are forwarded: 0x01 0x03 0x08 0x09 0x26 */
} lv_mqtt_publish;
/* `to_server`: subscription identifiers are a protocol error. Wildcards in the topic: LV_E_TOPIC;
 * alias 0: LV_E_TOPIC_ALIAS. The payload is not looked at: when `utf8` says what it is, checking
 * that (lv_utf8_valid, LV_E_PAYLOAD) is up to the session, which can refuse the message alone. */
int lv_mqtt_publish_decode(uint8_t version, uint8_t flags, lv_slice body, bool to_server,
                           lv_mqtt_publish *ret);
/* The properties to forward: raw_props itself when forward_len equals its length, else copied into
 * dst (forward_len bytes). */
lv_slice lv_mqtt_publish_forward(const lv_mqtt_publish *p, uint8_t *dst);

/* Parameters of an outgoing PUBLISH. */
typedef struct lv_mqtt_publish_out {
  uint8_t version, qos;
  bool dup, retain, has_expiry;
  uint16_t packet_id, alias; /* alias 0: none */
  bool alias_only;           /* send an empty topic (the alias is known to the client) */
  uint32_t expiry_s;
  const uint32_t *sub_ids;
  uint32_t n_sub_ids;
  lv_slice topic, props, payload;
} lv_mqtt_publish_out;
/* Size of the whole packet (fixed header included), or LV_E_TOO_BIG. With `without_payload` the
 * bytes in front of the payload only. ret_remaining: for lv_mqtt_publish_encode. */
int lv_mqtt_publish_size(const lv_mqtt_publish_out *p, bool without_payload, uint32_t *ret_size,
                         uint32_t *ret_remaining);
/* Writes what lv_mqtt_publish_size counted; returns the end. */
uint8_t *lv_mqtt_publish_encode(const lv_mqtt_publish_out *p, bool without_payload,
                                uint32_t remaining, uint8_t *dst);
/* How many whole PUBLISH packets end within the first n bytes at p, a run of packets as encoded
 * above (for lv_outq_unsent). Packets of other types are not counted. */
uint32_t lv_mqtt_count_publishes(const uint8_t *p, uint32_t n);

/* ---- PUBACK, PUBREC, PUBREL, PUBCOMP (§3.4 – 3.7) ---- */
typedef struct lv_mqtt_ack {
  uint16_t packet_id;
  uint8_t reason; /* 0 when absent */
  lv_slice reason_string;
} lv_mqtt_ack;
int lv_mqtt_ack_decode(uint8_t version, uint8_t type, lv_slice body, lv_mqtt_ack *ret);
/* Writes at most 8 + reason text bytes; returns the length. 3.1.1, or reason 0 without text: four
 * bytes. The text (may be empty) is left out below 5.0 or above LV_MQTT_TEXT_MAX bytes. */
enum { LV_MQTT_ACK_MAX = 8 + 128, LV_MQTT_TEXT_MAX = 120 };
uint32_t lv_mqtt_ack_encode(uint8_t version, uint8_t type, uint16_t packet_id, uint8_t reason,
                            lv_slice text, uint8_t dst[LV_MQTT_ACK_MAX]);

/* ---- SUBSCRIBE, UNSUBSCRIBE (§3.8, 3.10) ---- */
typedef struct lv_mqtt_sub {
  lv_slice filter; /* as sent, `$share/…` included */
  uint8_t qos, retain_handling;
  bool no_local, retain_as_published;
} lv_mqtt_sub;
typedef struct lv_mqtt_subscribe {
  uint16_t packet_id;
  uint32_t sub_id; /* 0: none */
  lv_slice list;   /* for the _next functions */
  uint32_t count;  /* entries in it, at least 1 */
} lv_mqtt_subscribe;
/* Checks all entries' shape (UTF-8, lengths, options' reserved bits). Filters' own syntax is
 * checked per entry with lv_mqtt_filter_check, since a bad filter of a well-formed packet is
 * answered in the SUBACK (0x8F), not by closing. */
int lv_mqtt_subscribe_decode(uint8_t version, lv_slice body, lv_mqtt_subscribe *ret);
bool lv_mqtt_subscribe_next(uint8_t version, lv_slice *list, lv_mqtt_sub *ret);
int lv_mqtt_unsubscribe_decode(uint8_t version, lv_slice body, lv_mqtt_subscribe *ret);
bool lv_mqtt_unsubscribe_next(lv_slice *list, lv_slice *ret_filter);
/* SUBACK / UNSUBACK of n codes. In 3.1.1 a SUBACK code >= 0x80 becomes 0x80 and an UNSUBACK has
 * none. Returns the length; dst must hold lv_mqtt_suback_size(). */
uint32_t lv_mqtt_suback_size(uint8_t version, uint32_t n);
uint32_t lv_mqtt_suback_encode(uint8_t version, uint8_t type, uint16_t packet_id,
                               const uint8_t *codes, uint32_t n, uint8_t *dst);

/* ---- CONNACK (§3.2) ---- */
typedef struct lv_mqtt_connack {
  uint8_t version, reason; /* a 5.0 reason code; translated to a return code for 3.1.1 */
  bool session_present;
  /* 5.0 only; each is sent when it differs from the protocol's default */
  uint32_t session_expiry_s;
  bool has_session_expiry;
  uint16_t receive_max; /* 0: not sent */
  uint32_t max_packet;  /* 0: not sent */
  uint16_t topic_alias_max;
  uint16_t server_keep_alive;
  bool has_server_keep_alive;
  lv_slice assigned_client_id, reason_string, response_info;
} lv_mqtt_connack;
enum { LV_MQTT_CONNACK_MAX = 512 };
/* Returns the length, at most LV_MQTT_CONNACK_MAX (text that does not fit is left out). */
uint32_t lv_mqtt_connack_encode(const lv_mqtt_connack *c, uint8_t dst[LV_MQTT_CONNACK_MAX]);
/* 3.1.1 return code (1–5) for a 5.0 reason code (§3.2.2.2 against 3.1.1 §3.2.2.3). */
uint8_t lv_mqtt_return_code(uint8_t reason);

/* ---- DISCONNECT (§3.14), AUTH (§3.15) ---- */
/* A client's. What only a server may say (0x8B, Server Reference, …) is LV_E_PROTOCOL. */
typedef struct lv_mqtt_disconnect {
  uint8_t reason;
  bool has_session_expiry;
  uint32_t session_expiry_s;
  lv_slice reason_string;
} lv_mqtt_disconnect;
int lv_mqtt_disconnect_decode(uint8_t version, lv_slice body, lv_mqtt_disconnect *ret);
/* 5.0 only (3.1.1 servers never send one). At most LV_MQTT_ACK_MAX bytes; returns the length. */
uint32_t lv_mqtt_disconnect_encode(uint8_t reason, lv_slice text, uint8_t dst[LV_MQTT_ACK_MAX]);

/* ---- topics and filters (§4.7) ---- */
enum { LV_MQTT_TOPIC_MAX = 65535 };
/* LV_E_TOPIC: empty or with a wildcard (UTF-8 is checked by the decoders). */
int lv_mqtt_topic_check(lv_slice topic);
/* LV_E_FILTER: empty, `#` not last or not alone in its level, `+` not alone in its level. */
int lv_mqtt_filter_check(lv_slice filter);
/* Takes `$share/NAME/FILTER` apart (§4.8.2): 1 and the parts; 0: not a shared subscription;
 * LV_E_FILTER: malformed (no name, wildcard in the name, no filter). */
int lv_mqtt_share_split(lv_slice filter, lv_slice *ret_group, lv_slice *ret_filter);
/* Whether a checked filter matches a topic, `$` rule included (§4.7.2). */
bool lv_mqtt_match(lv_slice filter, lv_slice topic);
/* Whether every topic that `filter` matches is matched by `pattern` too (for rights). */
bool lv_mqtt_covers(lv_slice pattern, lv_slice filter);
/* Whether some topic is matched by both filters. */
bool lv_mqtt_overlaps(lv_slice a, lv_slice b);
/* Number of levels of a topic or filter. */
uint32_t lv_mqtt_levels(lv_slice s);
/* design.md: splits an original topic into channel and key. Usable first level
 * ([A-Za-z0-9._-]{1,64}, not starting with `_`): channel = it, key = what is behind the first `/`
 * (ret_key_off = 0xFFFF when there is no `/`). Otherwise the channel is `_` and the key the whole
 * topic (ret_key_off = 0). */
void lv_topic_split(lv_slice topic, lv_slice *ret_channel, uint16_t *ret_key_off);
/* [A-Za-z0-9._-]{1,64}, not starting with `_`. */
bool lv_channel_name_ok(lv_slice name);

#endif
