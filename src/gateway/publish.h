/* publish.h: publishing without an MQTT session: what HTTP and WebSocket share (private to
 * gateway/).
 *
 *   request ─▶ lv_publish (n items) ─lv__publish_item─▶ lv_pub ─▶ broker ─▶ done(): n results
 *
 * An item is one message for one channel; it is refused, or published and acknowledged, by itself.
 * `done` runs exactly once, when the last of them is as safe as its channel asks: perhaps inside of
 * lv__publish_end. Counts like MQTT does: each item is `offered`, then `in` (lv_pub) or `rejected`.
 *
 * @thread loop, for everything. */
#ifndef LV_GATEWAY_PUBLISH_H
#define LV_GATEWAY_PUBLISH_H
#include "gateway/gateway_int.h"
#include "gateway/idem.h"
#include "net/http.h"
#include "wire/hubmsg.h"

enum {
  LV_PUBLISH_ITEMS_MAX = 10000, /* of a batch */
  LV_PUBLISH_LABEL_MAX = 1024,  /* bytes of a tag, category or content type */
  LV_PUBLISH_ID_MAX = 256,      /* of a publisher's id */
};

typedef struct lv_publish_item {
  lv_slice key, tag, cat, content_type; /* content_type of the value; all may be empty */
  lv_slice tms; /* the publisher's timestamp: milliseconds since 1970; empty: none */
  lv_slice val;
  bool has_key;     /* else the topic is the channel */
  bool json_string; /* val is the JSON text of a string, quotes included */
  bool json;        /* val is JSON text (a member of a JSON object) */
} lv_publish_item;

typedef struct lv_publish_res {
  int err;
  const char *why; /* with err: a sentence, or NULL */
  uint64_t offset; /* err 0 */
  uint64_t print;
  uint8_t log;
} lv_publish_res;

typedef struct lv_publish {
  uint32_t magic;
  lv_gw_loop *gl;
  lv_auth *auth;       /* one reference */
  const lv_conn *conn; /* whose rate it counts for; compared only. NULL: nobody's */
  lv_slice channel;    /* borrowed until lv__publish_end */
  lv_slice pid;        /* publisher's id; borrowed as well */
  uint8_t proto;       /* enum lv_kpi_proto */
  bool ended;
  uint32_t n, due;
  lv_idem_entry *idem; /* NULL: without Idempotency-Key */
  void (*done)(struct lv_publish *p);
  void *arg; /* whose it is: an lv_http_call, a WebSocket's frame */
  lv_publish_res res[];
} lv_publish;

/* n: how many items follow. Takes over the reference to auth. */
lv_publish *lv__publish_new(lv_gw_loop *gl, lv_auth *auth, uint8_t proto, uint32_t n);
void lv__publish_free(lv_publish *p);
/* Publishes item i. `scratch`: as many bytes as item->val has, plus LV_PUBLISH_LABEL_MAX * 4, plus
 * channel and key. */
void lv__publish_item(lv_publish *p, uint32_t i, const lv_publish_item *item, uint8_t *scratch);
/* The same for an object of a batch or a frame; `base`: what stands in for the labels that it has
 * not. The scratch behind what its decoding used. */
void lv__publish_object(lv_publish *p, uint32_t i, const lv_hub_publish *m,
                        const lv_publish_item *base, uint8_t *scratch);
/* Item i cannot even be read. */
void lv__publish_bad(lv_publish *p, uint32_t i, int err, const char *why);
void lv__publish_end(lv_publish *p);
/* "EPOCH-OFFSET" of a result without error; the length. */
enum { LV_PUBLISH_POS_MAX = 48 };
uint32_t lv__publish_pos(lv_gw_loop *gl, const lv_publish_res *res, char dst[LV_PUBLISH_POS_MAX]);
static inline uint32_t lv__publish_scratch(lv_slice channel, uint32_t keys_and_values) {
  return channel.n + 1 + keys_and_values + 4 * LV_PUBLISH_LABEL_MAX;
}

/* The loop's part: its lv_pub. quiesce: what is open is submitted. */
int lv__publish_loop_init(lv_gw_loop *gl);
void lv__publish_loop_quiesce(lv_gw_loop *gl);
void lv__publish_loop_done(lv_gw_loop *gl);

#endif
