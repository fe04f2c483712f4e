/* fuzz_ws_handshake.c: WebSocket's opening handshake. What a server agrees to is within what it
 * could and within what was offered, and its answer is one that our own client understands the same
 * way. The first byte picks: a request, an answer, or one field of extensions; and the policy. */
#include "fuzz.h"
#include "wire/ws_open.h"

static const lv_slice protocols[] = {{(const uint8_t *)"mqtt", 4}, {(const uint8_t *)"chat", 4}};

static void agreed(const lv_ws_pmd *got, const lv_ws_pmd *policy) {
  CHECK(got->on && policy->on);
  CHECK(got->server_bits >= 8 && got->server_bits <= policy->server_bits);
  CHECK(got->client_bits >= 8 && got->client_bits <= 15);
  CHECK(!got->server_bits_asked || got->server_bits >= policy->server_bits_min);
  CHECK(got->server_no_takeover || !policy->server_no_takeover);
  CHECK(got->client_no_takeover || !policy->client_no_takeover);
  uint8_t d[LV_WS_EXT_MAX];
  const lv_ws_pmd any = {.on = true, .server_bits = 15, .client_bits = 15};
  lv_ws_pmd again;
  uint32_t n = lv_ws_pmd_write(got, false, d);
  CHECK(lv_ws_pmd_accept(lv_slice_of(d, n), &any, &again));
  CHECK(again.server_no_takeover == got->server_no_takeover);
  CHECK(again.client_no_takeover == got->client_no_takeover);
  CHECK(again.server_bits == got->server_bits && again.client_bits == got->client_bits);
}

static void request(lv_slice in, const lv_ws_able *able) {
  static lv_http_req req;
  lv_ws_open o, c;
  uint8_t d[1024];
  uint16_t status;
  if (lv_http_head_decode(in, &req) || lv_ws_open_check(&req, able, &o)) return;
  CHECK(o.key.n == LV_WS_KEY_LEN && !req.chunked && !req.content_length);
  CHECK(o.protocol.n || !able->need_protocol);
  if (o.pmd.on) agreed(&o.pmd, &able->pmd);
  int n = lv_ws_open_answer(&o, NULL, 0, d, sizeof d);
  CHECK(n > 0);
  lv_ws_able client = *able;
  client.need_protocol = false;
  client.pmd = (lv_ws_pmd){.on = true, .server_bits = 15, .client_bits = 15};
  CHECK(lv_ws_answer_check(lv_slice_of(d, n), o.key.p, &client, &c, &status) == 0);
  CHECK(lv_slice_eq(c.protocol, o.protocol) && c.pmd.on == o.pmd.on);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  uint8_t how = fuzz_byte(&data, &size);
  lv_ws_able able = {.protocols = protocols, .n_protocols = 2, .need_protocol = how & 4};
  able.pmd =
      how & 8 ? LV_WS_PMD_SHARED : (lv_ws_pmd){.on = true, .server_bits = 15, .client_bits = 12};
  lv_slice in = fuzz_copy(data, size);
  lv_ws_open o;
  lv_ws_pmd got;
  uint16_t status;
  switch (how & 3) {
  case 0: request(in, &able); break;
  case 1:
    if (lv_ws_answer_check(in, (const uint8_t *)"dGhlIHNhbXBsZSBub25jZQ==", &able, &o, &status) ==
        0)
      CHECK(status == 101 && (o.protocol.n || !able.need_protocol));
    break;
  case 2:
    if (lv_ws_pmd_choose(in, &able.pmd, &got)) agreed(&got, &able.pmd);
    break;
  default:
    if (lv_ws_pmd_accept(in, &able.pmd, &got))
      CHECK(got.server_bits <= able.pmd.server_bits && got.client_bits <= able.pmd.client_bits);
  }
  fuzz_free(in);
  return 0;
}
