/* hubmsg.h: the hub protocol's messages and requests, for both of its generations. Pure: no I/O, no
 * allocation but that of an output buffer.
 *
 * A server message is one object. What one is made of does not depend on the customer, so the hub
 * encodes each once per (generation, encoding) and shares the bytes; `text` and `binary` are only
 * the frame that carries them. Members are in the order typ, chn, key, tag, cat, pid, hid, tms,
 * pos, val; `key` and `tag` are always there, the others where they say something.
 *
 *                    1.x                                  0.9 (JSON only)
 *   names            typ chn key tag cat pid hid tms val  type channel key tag pid hid timestamp
 *                                                         value (no category)
 *   types            enum lv_hub_type                     one less; a gap is 9 in both
 *
 * Strings that are not UTF-8 get U+FFFD for each bad byte, in both encodings. @thread any */
#ifndef LV_WIRE_HUBMSG_H
#define LV_WIRE_HUBMSG_H
#include "core/buf.h"
#include "core/conf.h"
#include "core/rec.h"
#include "core/time.h"
#include "wire/json.h"

enum lv_hub_gen { LV_HUB_V1, LV_HUB_V09 };
enum lv_hub_encoding { LV_HUB_JSON, LV_HUB_MSGPACK };
enum lv_hub_format { LV_HUB_TEXT, LV_HUB_BINARY };
enum lv_hub_type {
  LV_HUB_DEFAULT,
  LV_HUB_CLIENT_CONNECTED,
  LV_HUB_CLIENT_DISCONNECTED, /* never sent */
  LV_HUB_CLIENT_SUBSCRIBE,
  LV_HUB_CLIENT_SUBSCRIBED,
  LV_HUB_CLIENT_UNSUBSCRIBE,
  LV_HUB_CLIENT_UNSUBSCRIBED,
  LV_HUB_DATA,
  LV_HUB_PARTIAL_DATA, /* never sent */
  LV_HUB_GAP
};
/* What a value is. */
enum lv_hub_kind { LV_HUB_KIND_JSON, LV_HUB_KIND_TEXT, LV_HUB_KIND_BINARY };

/* What a value of a channel of that content (enum lv_content) is. On channels that are undeclared
 * or declare JSON: JSON if it is valid, nested at most 128 deep and without lone surrogates; else
 * text if it is UTF-8; else binary (an empty value, which takes a retained message back, is text).
 * Text: UTF-8 or binary. The value is always looked at, since a channel may have been declared
 * after it was published. */
uint8_t lv_hub_kind(uint8_t content, lv_slice val);
/* "json", "text" or "binary": how `channel_encoding` reports a content. Undeclared is "json". */
lv_slice lv_hub_content_name(uint8_t content);

/* ---- positions ---- */

/* EPOCH-OFFSET. An epoch is [A-Za-z0-9._]{1,LV_HUB_EPOCH_MAX}, without `-`. */
enum { LV_HUB_EPOCH_MAX = 64, LV_HUB_POS_MAX = LV_HUB_EPOCH_MAX + 1 + LV_JSON_U64_MAX };
typedef struct lv_hub_pos {
  lv_slice epoch;
  uint64_t offset;
} lv_hub_pos;
/* At most LV_HUB_POS_MAX bytes; returns the end. */
uint8_t *lv_hub_pos_put(uint8_t *dst, const lv_hub_pos *pos);
/* The whole slice; ret->epoch points into it. The offset has no leading zeros, so that a position
 * has one spelling. LV_E_INVALID. */
int lv_hub_pos_parse(lv_slice s, lv_hub_pos *ret);

/* ---- server messages ---- */

/* A message to customers. The channel and key are the record's own topic, taken apart. */
typedef struct lv_hub_data {
  const lv_rec *rec;
  lv_slice hid; /* empty: left out */
  uint8_t kind; /* from lv_hub_kind */
  bool has_pos;
  lv_hub_pos pos;
} lv_hub_data;
/* Room that lv_hub_data_encode wants; most of the time it needs far less. */
uint32_t lv_hub_data_bound(const lv_hub_data *d, uint8_t gen, uint8_t encoding);
/* Writes the object to dst (at least that room). Returns its length, or an error of
 * lv_msgpack_from_json when `kind` is not what the value is. */
int lv_hub_data_encode(const lv_hub_data *d, uint8_t gen, uint8_t encoding, uint8_t *dst,
                       uint32_t cap);
/* The channel and the key that a record has on the hub: `_` and the whole topic, channel and "", or
 * channel and key. */
lv_slice lv_hub_channel_of(const lv_rec *rec);
lv_slice lv_hub_key_of(const lv_rec *rec);
/* Tag and category: user properties `tag` and `cat`, the first of each. Without one the tag is ""
 * and the category "default". */
void lv_hub_labels_of(const lv_rec *rec, lv_slice *ret_tag, lv_slice *ret_cat);

/* Everything else that the hub says. */
typedef struct lv_hub_event {
  uint8_t type; /* CLIENT_CONNECTED, CLIENT_SUBSCRIBED, CLIENT_UNSUBSCRIBED, GAP */
  bool has_pos;
  uint8_t format;  /* CONNECTED, SUBSCRIBED: enum lv_hub_format, as asked for */
  uint8_t content; /* CONNECTED, SUBSCRIBED: enum lv_content */
  int64_t tms;     /* ms since the epoch */
  lv_slice channel, hid;
  lv_hub_pos pos;
  lv_slice client_id, user_id, transport; /* CONNECTED, SUBSCRIBED; user_id empty: left out */
  uint64_t size;                          /* CONNECTED, SUBSCRIBED: channel_size */
  lv_slice error;                         /* UNSUBSCRIBED: why; empty: left out */
  lv_slice from, to, reason;              /* GAP */
} lv_hub_event;
uint32_t lv_hub_event_bound(const lv_hub_event *e);
/* Returns the length. */
uint32_t lv_hub_event_encode(const lv_hub_event *e, uint8_t gen, uint8_t encoding, uint8_t *dst,
                             uint32_t cap);

/* ---- Server-Sent Events (WHATWG HTML §9.2) ---- */

/* One event: `id:` (empty: none), `event:` (empty: none), a `data:` line for each line of data
 * (CR, LF and CRLF all end one), an empty line. JSON has line ends only as white space, so nothing
 * is changed by it. */
uint32_t lv_hub_sse_size(lv_slice id, lv_slice event, lv_slice data);
uint8_t *lv_hub_sse_put(uint8_t *dst, lv_slice id, lv_slice event, lv_slice data);

/* ---- what clients send ---- */

typedef struct lv_hub_client {
  uint8_t type; /* CLIENT_SUBSCRIBE or CLIENT_UNSUBSCRIBE */
  bool has_snapshot, snapshot;
  lv_slice channel;
} lv_hub_client;
/* A frame from a subscriber; members that it does not know are skipped. `scratch` needs frame.n
 * bytes, the channel points into it or into the frame. LV_E_PAYLOAD: not an object of that
 * encoding, a member of the wrong type; LV_E_PROTOCOL: a type that clients do not send. *ret_why
 * (on errors) says what was wrong. */
int lv_hub_client_decode(uint8_t gen, uint8_t encoding, lv_slice frame, uint8_t *scratch,
                         lv_hub_client *ret, const char **ret_why);

/* A publish frame or an item of a batch: {id, key, tag, cat, val} or with b64 in place of val. */
enum { LV_HUB_ID_MAX = 256 };
typedef struct lv_hub_publish {
  lv_slice id; /* its JSON text (a string or number), to be given back as it is; empty: none */
  lv_slice key, tag, cat;
  lv_json_tok val; /* val.s: its JSON text, byte for byte; LV_JSON_NONE when it is binary */
  lv_slice bin;    /* from b64 */
  bool has_key, has_tag, has_cat, binary;
} lv_hub_publish;
/* `scratch` needs object.n bytes. LV_E_PAYLOAD, LV_E_NESTING, LV_E_SURROGATE (in val too: checked
 * with lv_json_check_value's rules). On an error ret->id is still set when it could be read. */
int lv_hub_publish_decode(lv_slice object, uint8_t *scratch, lv_hub_publish *ret,
                          const char **ret_why);
/* The same for a msgpack map. `val` becomes JSON text, appended to `json` (val.type: STRING, or
 * OBJECT for all others); when it is bin, its bytes are the value, and there is no b64. `id` (str
 * or an integer) is given as msgpack. Also LV_E_TOO_BIG: the limit of `json`. */
int lv_hub_publish_decode_msgpack(lv_slice map, lv_buf *json, lv_hub_publish *ret,
                                  const char **ret_why);

/* ---- the request's query ---- */

enum {
  LV_HUB_CHANNELS_MAX = 128,
  LV_HUB_CATS_MAX = 32,
  LV_HUB_USER_ID_MAX = 256,
  LV_HUB_WHY_MAX = 192,
  LV_HUB_CONFLATE_MAX_MS = 3600000
};
enum lv_hub_since_kind {
  LV_HUB_SINCE_NONE,
  LV_HUB_SINCE_START,
  LV_HUB_SINCE_POS,
  LV_HUB_SINCE_TIME
};
typedef struct lv_hub_since {
  uint8_t kind;
  lv_hub_pos pos;
  lv_wall time;
} lv_hub_since;
typedef struct lv_hub_query {
  uint32_t n_channels, n_cats;
  lv_slice channels[LV_HUB_CHANNELS_MAX]; /* in the order asked, without repeats */
  lv_hub_since since[LV_HUB_CHANNELS_MAX];
  lv_slice user_id, api_key; /* may be empty */
  lv_slice keys;             /* a checked filter on the key levels; empty: all */
  lv_slice cats[LV_HUB_CATS_MAX];
  uint32_t conflate_ms; /* 0: off */
  uint8_t format, encoding;
  bool snapshot, pos, has_since; /* has_since sets pos */
} lv_hub_query;
/* Takes a raw query apart. `channel`: from the path, still encoded (SSE); empty: the parameter
 * `channels` has to be there. Split first, decoded then; `+` stands for itself, but for a space in
 * user_id and cats. Slices point into `scratch` (query.n + channel.n bytes). Parameters that it
 * does not know are skipped; a known one given twice is refused. LV_E_INVALID, with the reason as
 * a sentence for the reply in `why`: it never holds apiKey or any other value but channel names. */
int lv_hub_query_parse(lv_slice query, lv_slice channel, uint8_t gen, uint8_t *scratch,
                       lv_hub_query *ret, char why[LV_HUB_WHY_MAX]);
/* A position, `start` or an RFC 3339 time (since, Last-Event-ID). LV_E_INVALID. */
int lv_hub_since_parse(lv_slice s, lv_hub_since *ret);

#endif
