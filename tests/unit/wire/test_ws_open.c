/* test_ws_open.c: the opening handshake from both sides, and what is agreed on in it. */
#include "wire_test.h"

#include "wire/ws_open.h"

#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define GET "GET /chat HTTP/1.1\r\nHost: h\r\n"
#define UP "Upgrade: websocket\r\nConnection: Upgrade\r\n"
#define K "Sec-WebSocket-Key: " KEY "\r\n"
#define V "Sec-WebSocket-Version: 13\r\n"
#define P "Sec-WebSocket-Protocol: "
#define X "Sec-WebSocket-Extensions: "

static const lv_slice protocols[] = {B("mqtt"), B("chat")};

static int check(lv_slice head, const lv_ws_able *able, lv_ws_open *ret) {
  static lv_http_req req;
  uint32_t scanned = 0, len;
  assert_int_equal(lv_http_head_find(head.p, head.n, 8192, &scanned, &len), 0);
  assert_int_equal(lv_http_head_decode(head, &req), 0);
  return lv_ws_open_check(&req, able, ret);
}

static void requests(void **state) {
  static const struct {
    const char *what;
    lv_slice in;
    int want;
  } rows[] = {
      {"plain", B(GET UP K V "\r\n"), 0},
      {"any case", B(GET "upgrade: WebSocket\r\nCONNECTION: keep-alive, upgrade\r\n" K V "\r\n"),
       0},
      {"several upgrades", B(GET "Upgrade: h2c, websocket\r\nConnection: upgrade\r\n" K V "\r\n"),
       0},
      {"empty body", B(GET "Content-Length: 0\r\n" UP K V "\r\n"), 0},
      {"POST", B("POST /chat HTTP/1.1\r\nHost: h\r\n" UP K V "\r\n"), LV_E_UNSUPPORTED},
      {"HTTP/1.0", B("GET /chat HTTP/1.0\r\nHost: h\r\n" UP K V "\r\n"), LV_E_UNSUPPORTED},
      {"no Upgrade", B(GET "Connection: Upgrade\r\n" K V "\r\n"), LV_E_UNSUPPORTED},
      {"no Connection", B(GET "Upgrade: websocket\r\n" K V "\r\n"), LV_E_UNSUPPORTED},
      {"other upgrade", B(GET "Upgrade: h2c\r\nConnection: Upgrade\r\n" K V "\r\n"),
       LV_E_UNSUPPORTED},
      {"no version", B(GET UP K "\r\n"), LV_E_VERSION},
      {"version 8", B(GET UP K "Sec-WebSocket-Version: 8\r\n\r\n"), LV_E_VERSION},
      {"version 13, 8", B(GET UP K "Sec-WebSocket-Version: 13, 8\r\n\r\n"), LV_E_VERSION},
      {"version 013", B(GET UP K "Sec-WebSocket-Version: 013\r\n\r\n"), LV_E_VERSION},
      {"two versions", B(GET UP K V V "\r\n"), LV_E_MALFORMED},
      {"no key", B(GET UP V "\r\n"), LV_E_MALFORMED},
      {"two keys", B(GET UP K K V "\r\n"), LV_E_MALFORMED},
      {"short key", B(GET UP V "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=\r\n\r\n"),
       LV_E_MALFORMED},
      {"15 bytes", B(GET UP V "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQAA\r\n\r\n"),
       LV_E_MALFORMED},
      {"one =", B(GET UP V "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQA=\r\n\r\n"), LV_E_MALFORMED},
      {"not base64", B(GET UP V "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ-==\r\n\r\n"),
       LV_E_MALFORMED},
      {"a body", B(GET "Content-Length: 1\r\n" UP K V "\r\n"), LV_E_MALFORMED},
      {"a chunked body", B(GET "Transfer-Encoding: chunked\r\n" UP K V "\r\n"), LV_E_MALFORMED},
  };
  const lv_ws_able able = {.pmd = LV_WS_PMD_SHARED};
  lv_ws_open o;
  (void)state;
  for (size_t i = 0; i < COUNT(rows); i++) {
    assert_err(check(rows[i].in, &able, &o), rows[i].want, rows[i].what);
    if (rows[i].want) continue;
    assert_slice(o.key, S(KEY));
    assert_true(!o.pmd.on && !o.protocol.n);
  }
  assert_int_equal(lv_ws_open_status(LV_E_VERSION), 426);
  assert_int_equal(lv_ws_open_status(LV_E_UNSUPPORTED), 426);
  assert_int_equal(lv_ws_open_status(LV_E_MALFORMED), 400);
  assert_int_equal(lv_ws_open_status(LV_E_INVALID), 400);
}

static void subprotocols(void **state) {
  lv_ws_able able = {.protocols = protocols, .n_protocols = 2};
  lv_ws_open o;
  (void)state;
  static const struct {
    lv_slice in, want;
  } rows[] = {
      {B(GET UP K V P "mqtt\r\n\r\n"), B("mqtt")},
      {B(GET UP K V P "chat, mqtt\r\n\r\n"), B("chat")},
      {B(GET UP K V P "x\r\n" P " y ,\tmqtt \r\n\r\n"), B("mqtt")},
      {B(GET UP K V P "MQTT\r\n\r\n"), B("")},
      {B(GET UP K V P "mqttv3.1\r\n\r\n"), B("")},
      {B(GET UP K V "\r\n"), B("")},
  };
  for (size_t i = 0; i < COUNT(rows); i++) {
    able.need_protocol = false;
    assert_int_equal(check(rows[i].in, &able, &o), 0);
    assert_slice(o.protocol, rows[i].want);
    able.need_protocol = true;
    assert_int_equal(check(rows[i].in, &able, &o), rows[i].want.n ? 0 : LV_E_INVALID);
  }
}

#define PMD "permessage-deflate"
#define NO_TAKE "; server_no_context_takeover; client_no_context_takeover"

static void server_extensions(void **state) {
  static const struct {
    lv_slice in, shared, loose; /* answers with LV_WS_PMD_SHARED, and with a policy of no wishes */
  } rows[] = {
      {B(PMD), B(PMD NO_TAKE), B(PMD)},
      {B("Permessage-Deflate"), B(PMD NO_TAKE), B(PMD)},
      {B(PMD "; client_max_window_bits"), B(PMD NO_TAKE), B(PMD)},
      {B(PMD ";client_max_window_bits=10"), B(PMD NO_TAKE "; client_max_window_bits=10"),
       B(PMD "; client_max_window_bits=10")},
      {B(PMD "; client_max_window_bits=\"9\""), B(PMD NO_TAKE "; client_max_window_bits=9"),
       B(PMD "; client_max_window_bits=9")},
      {B(PMD "; server_no_context_takeover"), B(PMD NO_TAKE),
       B(PMD "; server_no_context_takeover")},
      {B(PMD "; client_no_context_takeover"), B(PMD NO_TAKE),
       B(PMD "; client_no_context_takeover")},
      {B(PMD "; server_max_window_bits=15"), B(PMD NO_TAKE "; server_max_window_bits=15"),
       B(PMD "; server_max_window_bits=15")},
      {B(PMD "; server_max_window_bits=10"), B(""), B(PMD "; server_max_window_bits=10")},
      {B(PMD "; server_max_window_bits=8"), B(""), B(PMD "; server_max_window_bits=8")},
      {B(PMD "; server_max_window_bits=10, " PMD), B(PMD NO_TAKE),
       B(PMD "; server_max_window_bits=10")},
      {B("x-other; a=b; c=\"d\", , " PMD), B(PMD NO_TAKE), B(PMD)},
      {B(PMD "; unknown, " PMD "; client_no_context_takeover"), B(PMD NO_TAKE),
       B(PMD "; client_no_context_takeover")},
      {B(PMD "; server_max_window_bits"), B(""), B("")},
      {B(PMD "; server_max_window_bits=7"), B(""), B("")},
      {B(PMD "; server_max_window_bits=16"), B(""), B("")},
      {B(PMD "; server_max_window_bits=08"), B(""), B("")},
      {B(PMD "; client_max_window_bits=100"), B(""), B("")},
      {B(PMD "; client_max_window_bits=1x"), B(""), B("")},
      {B(PMD "; client_max_window_bits; client_max_window_bits"), B(""), B("")},
      {B(PMD "; server_no_context_takeover; server_no_context_takeover"), B(""), B("")},
      {B(PMD "; server_no_context_takeover=1"), B(""), B("")},
      {B("x-webkit-deflate-frame"), B(""), B("")},
      {B(""), B(""), B("")},
      /* breaches of the grammar */
      {B(PMD "; "), B(""), B("")},
      {B(PMD "; client_max_window_bits="), B(""), B("")},
      {B(PMD "; client_max_window_bits=\"9"), B(""), B("")},
      {B(PMD "; client_max_window_bits=\" 9\""), B(""), B("")},
      {B(PMD " x"), B(""), B("")},
      {B("=" PMD), B(""), B("")},
      {B(PMD ", @"), B(""), B("")},
  };
  const lv_ws_pmd shared = LV_WS_PMD_SHARED,
                  loose = {.on = true, .server_bits = 15, .client_bits = 15}, off = {0};
  (void)state;
  for (size_t i = 0; i < COUNT(rows); i++) {
    for (int k = 0; k < 2; k++) {
      lv_slice in = heap_copy(rows[i].in), want = k ? rows[i].loose : rows[i].shared;
      lv_ws_pmd got;
      uint8_t d[LV_WS_EXT_MAX];
      bool on = lv_ws_pmd_choose(in, k ? &loose : &shared, &got);
      if (on != (want.n > 0)) fail_msg("row %zu, policy %d: %d", i, k, on);
      if (on) assert_slice(lv_slice_of(d, lv_ws_pmd_write(&got, false, d)), want);
      assert_false(lv_ws_pmd_choose(in, &off, &got));
      heap_free(in);
    }
  }
}

static void answers(void **state) {
  const lv_ws_able able = {.protocols = protocols, .n_protocols = 2, .pmd = LV_WS_PMD_SHARED};
  lv_ws_open o;
  uint8_t d[600];
  (void)state;
  assert_int_equal(check(S(GET UP K V "\r\n"), &able, &o), 0);
  int n = lv_ws_open_answer(&o, NULL, 0, d, sizeof d);
  assert_slice(lv_slice_of(d, n), S("HTTP/1.1 101 Switching Protocols\r\n" UP
                                    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"));
  assert_int_equal(lv_ws_open_answer(&o, NULL, 0, d, (uint32_t)n - 1), LV_E_TOO_BIG);
  assert_int_equal(
      check(S(GET UP K V P "mqtt\r\n" X "foo\r\n" X PMD "; client_max_window_bits\r\n\r\n"), &able,
            &o),
      0);
  const lv_http_header extra = {B("X-Lv"), B("1")};
  n = lv_ws_open_answer(&o, &extra, 1, d, sizeof d);
  assert_slice(lv_slice_of(d, n), S("HTTP/1.1 101 Switching Protocols\r\n" UP
                                    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" P
                                    "mqtt\r\n" X PMD NO_TAKE "\r\nX-Lv: 1\r\n\r\n"));
}

#define OK101 "HTTP/1.1 101 Switching Protocols\r\n"
#define ACCEPT "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"

static void client_checks(void **state) {
  static const struct {
    const char *what;
    lv_slice in;
    int want;
  } rows[] = {
      {"plain", B(OK101 UP ACCEPT "\r\n"), 0},
      {"no reason", B("HTTP/1.1 101\r\n" UP ACCEPT "\r\n"), 0},
      {"protocol", B(OK101 UP ACCEPT P "chat\r\n\r\n"), 0},
      {"extension", B(OK101 UP ACCEPT X PMD NO_TAKE "; client_max_window_bits=8\r\n\r\n"), 0},
      {"200", B("HTTP/1.1 200 OK\r\n\r\n"), LV_E_UNSUPPORTED},
      {"1010", B("HTTP/1.1 1010\r\n\r\n"), LV_E_MALFORMED},
      {"no HTTP", B("SSH-2.0-x\r\n\r\n"), LV_E_MALFORMED},
      {"not whole", B(OK101 UP ACCEPT), LV_E_MALFORMED},
      {"bad field", B(OK101 UP ACCEPT "x\r\n\r\n"), LV_E_MALFORMED},
      {"no upgrade", B(OK101 "Connection: Upgrade\r\n" ACCEPT "\r\n"), LV_E_PROTOCOL},
      {"no connection", B(OK101 "Upgrade: websocket\r\n" ACCEPT "\r\n"), LV_E_PROTOCOL},
      {"no accept", B(OK101 UP "\r\n"), LV_E_PROTOCOL},
      {"two accepts", B(OK101 UP ACCEPT ACCEPT "\r\n"), LV_E_PROTOCOL},
      {"wrong accept", B(OK101 UP "Sec-WebSocket-Accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"),
       LV_E_PROTOCOL},
      {"other protocol", B(OK101 UP ACCEPT P "soap\r\n\r\n"), LV_E_PROTOCOL},
      {"two protocols", B(OK101 UP ACCEPT P "chat, mqtt\r\n\r\n"), LV_E_PROTOCOL},
      {"protocol twice", B(OK101 UP ACCEPT P "chat\r\n" P "mqtt\r\n\r\n"), LV_E_PROTOCOL},
      {"other extension", B(OK101 UP ACCEPT X "foo\r\n\r\n"), LV_E_PROTOCOL},
      {"takeover", B(OK101 UP ACCEPT X PMD "\r\n\r\n"), LV_E_PROTOCOL},
      {"bits without value", B(OK101 UP ACCEPT X PMD NO_TAKE "; client_max_window_bits\r\n\r\n"),
       LV_E_PROTOCOL},
      {"extension twice", B(OK101 UP ACCEPT X PMD NO_TAKE ", " PMD NO_TAKE "\r\n\r\n"),
       LV_E_PROTOCOL},
      {"extension in two fields", B(OK101 UP ACCEPT X PMD NO_TAKE "\r\n" X PMD NO_TAKE "\r\n\r\n"),
       LV_E_PROTOCOL},
  };
  lv_ws_able able = {.protocols = protocols, .n_protocols = 2, .pmd = LV_WS_PMD_SHARED};
  lv_ws_open o;
  uint16_t status = 0;
  (void)state;
  for (size_t i = 0; i < COUNT(rows); i++) {
    lv_slice in = heap_copy(rows[i].in);
    assert_err(lv_ws_answer_check(in, (const uint8_t *)KEY, &able, &o, &status), rows[i].want,
               rows[i].what);
    if (rows[i].want == 0 || rows[i].want == LV_E_PROTOCOL) assert_int_equal(status, 101);
    heap_free(in);
  }
  able.need_protocol = true;
  assert_int_equal(lv_ws_answer_check(rows[0].in, (const uint8_t *)KEY, &able, &o, &status),
                   LV_E_PROTOCOL);
  able.pmd.server_bits = 12; /* asked for and not granted */
  assert_int_equal(lv_ws_answer_check(rows[3].in, (const uint8_t *)KEY, &able, &o, &status),
                   LV_E_PROTOCOL);
  assert_int_equal(
      lv_ws_answer_check(S("HTTP/1.1 503 x\r\n\r\n"), (const uint8_t *)KEY, &able, &o, &status),
      LV_E_UNSUPPORTED);
  assert_int_equal(status, 503);
}

static void round_trip(void **state) {
  const lv_ws_able able = {
      .protocols = protocols, .n_protocols = 2, .need_protocol = true, .pmd = LV_WS_PMD_SHARED};
  uint8_t key[LV_WS_KEY_LEN], req[600], ans[600];
  uint16_t status;
  lv_ws_open server, client;
  (void)state;
  lv_ws_key((const uint8_t *)"the sample nonce", key);
  assert_memory_equal(key, KEY, sizeof key);
  const lv_http_header auth = {B("Authorization"), B("Bearer x")}, bad = {B("A"), B("x\r\ny: z")};
  int n =
      lv_ws_request_encode(S("/mqtt?a=b"), S("[::1]:8080"), key, &able, &auth, 1, req, sizeof req);
  assert_true(n > 0);
  assert_int_equal(check(lv_slice_of(req, n), &able, &server), 0);
  assert_slice(server.protocol, S("mqtt"));
  int m = lv_ws_open_answer(&server, NULL, 0, ans, sizeof ans);
  assert_int_equal(lv_ws_answer_check(lv_slice_of(ans, m), key, &able, &client, &status), 0);
  assert_slice(client.protocol, S("mqtt"));
  assert_true(client.pmd.on && client.pmd.client_no_takeover && client.pmd.server_bits == 15);
  for (int cap = 0; cap < n; cap++)
    assert_int_equal(
        lv_ws_request_encode(S("/mqtt?a=b"), S("[::1]:8080"), key, &able, &auth, 1, req, cap),
        LV_E_TOO_BIG);
  assert_int_equal(lv_ws_request_encode(S("/"), S("h"), key, &able, &bad, 1, req, sizeof req),
                   LV_E_INVALID);
  assert_int_equal(lv_ws_request_encode(S("/ x"), S("h"), key, &able, NULL, 0, req, sizeof req),
                   LV_E_INVALID);
  assert_int_equal(lv_ws_request_encode(S("/"), S("u@h"), key, &able, NULL, 0, req, sizeof req),
                   LV_E_INVALID);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(requests),          cmocka_unit_test(subprotocols),
      cmocka_unit_test(server_extensions), cmocka_unit_test(answers),
      cmocka_unit_test(client_checks),     cmocka_unit_test(round_trip),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
