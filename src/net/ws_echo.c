/* ws_echo.c: GET /v1/echo: each message comes back as it was sent, text as text, binary as binary,
 * through the frames and the compression that everything else uses. A development instance has it,
 * for people who try a client, and for conformance suites: hence its generous limits. */
#include "net/ws.h"

static void on_message(lv_ws_conn *w, uint8_t op, lv_slice data) {
  lv_ws_send(w, op, data, 0, (lv_mono){0});
}

static void on_close(lv_ws_conn *w, int err) {
  (void)w;
  (void)err;
}

static void on_call(lv_http_call *call, void *arg) {
  static const lv_ws_ops ops = {.name = "echo", .on_message = on_message, .on_close = on_close};
  static const lv_ws_kind kind = {
      .ops = &ops,
      .rules = {.message_max = 16 << 20, .whole_max = 64 * 1024, .frames_max = 1 << 20},
      .able = {.pmd = {.on = true,
                       .server_no_takeover = true,
                       .client_no_takeover = true,
                       .server_bits = LV_WS_BITS_MAX,
                       .client_bits = LV_WS_BITS_MAX,
                       .server_bits_min = LV_WS_BITS_MIN}},
      .ping_ms = 30000,
      .out_max = 1 << 20};
  (void)arg;
  (void)lv_ws_upgrade(call, &kind, NULL);
}

void lv_ws_echo_route(lv_router *router) {
  lv_router_add(router, (lv_route){LV_HTTP_GET, "/v1/echo", on_call, NULL, 0});
}
