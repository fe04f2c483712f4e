/* gateway_int.h: what the files of gateway/ share. */
#ifndef LV_GATEWAY_INT_H
#define LV_GATEWAY_INT_H
#include "gateway/gateway.h"

/* Publishes of an HTTP connection in this second (publish.c). */
enum { LV_GW_RATES = 4096 };
typedef struct lv_gw_rate {
  const lv_conn *conn;
  uint32_t gen, second, count;
} lv_gw_rate;

typedef struct lv_gw_loop {
  lv_gateway *gateway;
  lv_loop *loop;
  lv_shard *shard;
  struct lv_mqtt_conn *paused; /* wait for the publish queue to drain */
  lv_pub *pub;                 /* of what comes without a session (publish.c) */
  lv_gw_rate *rates;           /* LV_GW_RATES */
  struct lv_ws_pub *ws_paused; /* wait for that queue to drain */
  struct lv_ws_pub *ws_all;    /* every one that is connected */
  lv_shard_watch watch;        /* a new document: their keys are looked at again */
  char epoch[LV_DURABILITY_COUNT]
            [LV_EPOCH_SIZE]; /* of the logs, as of this count of the broker's */
  uint32_t epochs;
  lv_timer tick;
} lv_gw_loop;

struct lv_gateway {
  lv_realm *realm;
  struct lv_idem *idem;
  struct lv_ws_kind *ws_publish; /* what holds for /v1/publish: without and with compression */
  lv_gw_loop *loops[LV_LOOPS_MAX];
  _Atomic uint32_t app_conns[1024]; /* connections by app id (those above share the last) */
};

/* Who is it? 0 and a new reference, or LV_E_BAD_AUTH. auth.c, @thread loop */
int lv__auth_connect(lv_realm *r, lv_conf *conf, lv_conn *c, const lv_mqtt_connect *m,
                     lv_auth **ret_auth);

#endif
