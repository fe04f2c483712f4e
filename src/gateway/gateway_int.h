/* gateway_int.h: what the files of gateway/ share. */
#ifndef LV_GATEWAY_INT_H
#define LV_GATEWAY_INT_H
#include "gateway/gateway.h"

typedef struct lv_gw_loop {
  lv_gateway *gateway;
  lv_loop *loop;
  lv_shard *shard;
  struct lv_mqtt_conn *paused; /* wait for the publish queue to drain */
} lv_gw_loop;

struct lv_gateway {
  lv_realm *realm;
  lv_gw_loop *loops[LV_LOOPS_MAX];
  _Atomic uint32_t app_conns[1024]; /* connections by app id (those above share the last) */
};

/* Who is it? 0 and a new reference, or LV_E_BAD_AUTH. auth.c, @thread loop */
int lv__auth_connect(lv_realm *r, lv_conf *conf, lv_conn *c, const lv_mqtt_connect *m,
                     lv_auth **ret_auth);

#endif
