/* ws_open.c: who may open a WebSocket, and how both sides say so (RFC 6455 §4). SHA-1 is
 * OpenSSL's; it is no secret here, only a proof that the other side speaks the protocol.
 * @thread any */
#include "wire/ws_open.h"
#include "wire/http_int.h"
#include <assert.h>
#include <openssl/sha.h>
#include <stdlib.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* RFC 4648 §4: (n + 2) / 3 * 4 characters. */
static void base64(const uint8_t *p, uint32_t n, uint8_t *dst) {
  for (uint32_t i = 0; i < n; i += 3, dst += 4) {
    uint32_t have = n - i < 3 ? n - i : 3, v = (uint32_t)p[i] << 16;
    if (have > 1) v |= (uint32_t)p[i + 1] << 8;
    if (have > 2) v |= p[i + 2];
    for (uint32_t k = 0; k < 4; k++)
      dst[k] = k <= have ? (uint8_t)alphabet[v >> (18 - 6 * k) & 63] : '=';
  }
}

void lv_ws_key(const uint8_t random[16], uint8_t dst[LV_WS_KEY_LEN]) {
  base64(random, 16, dst);
}

void lv_ws_accept(lv_slice key, uint8_t dst[LV_WS_ACCEPT_LEN]) {
  static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  uint8_t text[LV_WS_KEY_LEN + sizeof guid - 1], sum[SHA_DIGEST_LENGTH];
  assert(key.n == LV_WS_KEY_LEN);
  memcpy(text, key.p, key.n);
  memcpy(text + key.n, guid, sizeof guid - 1);
  if (!SHA1(text, sizeof text, sum)) abort(); /* only when it has no memory */
  base64(sum, sizeof sum, dst);
}

/* 16 bytes in base64: 22 of its characters and two `=` (the last four bits are not judged). */
static bool key_ok(lv_slice k) {
  if (k.n != LV_WS_KEY_LEN || k.p[22] != '=' || k.p[23] != '=') return false;
  for (uint32_t i = 0; i < 22; i++)
    if (!k.p[i] || !strchr(alphabet, k.p[i])) return false;
  return true;
}

/* The fields of a handshake, as found in a head of either side. */
typedef struct fields {
  uint32_t keys, versions, accepts, protocols, extensions;
  lv_slice key, version, accept, protocol; /* the last of each */
  lv_slice upgrade;
  bool connection;
} fields;

static bool named(const lv_http_header *h, const char *name) {
  return lv_slice_caseeq(h->name, lv_slice_str(name));
}

static void one(uint32_t *count, lv_slice *value, const lv_http_header *h) {
  ++*count;
  *value = h->value;
}

static void field_note(fields *f, const lv_http_header *h) {
  if (named(h, "sec-websocket-key"))
    one(&f->keys, &f->key, h);
  else if (named(h, "sec-websocket-version"))
    one(&f->versions, &f->version, h);
  else if (named(h, "sec-websocket-accept"))
    one(&f->accepts, &f->accept, h);
  else if (named(h, "sec-websocket-protocol"))
    one(&f->protocols, &f->protocol, h);
  else if (named(h, "sec-websocket-extensions"))
    f->extensions++;
  else if (named(h, "upgrade"))
    f->upgrade = h->value;
  else if (named(h, "connection"))
    f->connection |= lv_http_has_token(h->value, LV_SLICE("upgrade"));
}

static lv_slice trim(lv_slice s) {
  while (s.n && (s.p[0] == ' ' || s.p[0] == '\t')) s = (lv_slice){s.p + 1, s.n - 1};
  while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t')) s.n--;
  return s;
}

static bool protocol_find(const lv_ws_able *able, lv_slice name, lv_slice *ret) {
  for (uint32_t i = 0; i < able->n_protocols; i++)
    if (lv_slice_eq(able->protocols[i], name)) {
      *ret = able->protocols[i];
      return true;
    }
  return false;
}

/* The first of the client's that we speak; names are compared as they are (§4.2.2). */
static void protocol_choose(const lv_http_req *req, const lv_ws_able *able, lv_slice *ret) {
  for (uint32_t i = 0; i < req->n_headers; i++) {
    if (!named(&req->headers[i], "sec-websocket-protocol")) continue;
    lv_slice list = req->headers[i].value, name;
    while (list.n) {
      (void)lv_slice_split(&list, ',', &name);
      if (protocol_find(able, trim(name), ret)) return;
    }
  }
}

static void extension_choose(const lv_http_req *req, const lv_ws_pmd *policy, lv_ws_pmd *ret) {
  for (uint32_t i = 0; i < req->n_headers && !ret->on; i++)
    if (named(&req->headers[i], "sec-websocket-extensions"))
      (void)lv_ws_pmd_choose(req->headers[i].value, policy, ret);
}

int lv_ws_open_check(const lv_http_req *req, const lv_ws_able *able, lv_ws_open *ret) {
  fields f = {0};
  lv_ws_open o = {0};
  if (req->method != LV_HTTP_GET || !req->wants_upgrade) return LV_E_UNSUPPORTED;
  if (!lv_http_has_token(req->upgrade, LV_SLICE("websocket"))) return LV_E_UNSUPPORTED;
  for (uint32_t i = 0; i < req->n_headers; i++) field_note(&f, &req->headers[i]);
  /* A body would be taken for frames. */
  if (req->chunked || req->content_length || req->expect_continue) return LV_E_MALFORMED;
  if (f.versions > 1) return LV_E_MALFORMED;
  if (f.versions == 0 || !lv_slice_eq(f.version, LV_SLICE("13"))) return LV_E_VERSION;
  if (f.keys != 1 || !key_ok(f.key)) return LV_E_MALFORMED;
  o.key = f.key;
  protocol_choose(req, able, &o.protocol);
  if (able->need_protocol && !o.protocol.n) return LV_E_INVALID;
  extension_choose(req, &able->pmd, &o.pmd);
  *ret = o;
  return 0;
}

uint16_t lv_ws_open_status(int err) {
  return err == LV_E_VERSION || err == LV_E_UNSUPPORTED ? 426 : 400;
}

enum { EXTRA_MAX = 8, OURS_MAX = 6 };

/* Subprotocols, comma-separated; what does not fit is an error of the caller's table. */
static lv_slice protocols_join(const lv_ws_able *able, uint8_t *dst, uint32_t cap) {
  uint32_t at = 0;
  for (uint32_t i = 0; i < able->n_protocols; i++) {
    lv_slice s = able->protocols[i];
    assert(at + s.n + 2 <= cap);
    if (i) memcpy(dst + at, ", ", 2), at += 2;
    memcpy(dst + at, s.p, s.n);
    at += s.n;
  }
  return lv_slice_of(dst, at);
}

int lv_ws_open_answer(const lv_ws_open *o, const lv_http_header *extra, uint32_t n_extra,
                      uint8_t *dst, uint32_t cap) {
  uint8_t accept[LV_WS_ACCEPT_LEN], ext[LV_WS_EXT_MAX];
  lv_http_header h[OURS_MAX + EXTRA_MAX];
  uint32_t n = 0;
  assert(n_extra <= EXTRA_MAX);
  lv_ws_accept(o->key, accept);
  h[n++] = (lv_http_header){LV_SLICE("Upgrade"), LV_SLICE("websocket")};
  h[n++] = (lv_http_header){LV_SLICE("Connection"), LV_SLICE("Upgrade")};
  h[n++] = (lv_http_header){LV_SLICE("Sec-WebSocket-Accept"), lv_slice_of(accept, sizeof accept)};
  if (o->protocol.n) h[n++] = (lv_http_header){LV_SLICE("Sec-WebSocket-Protocol"), o->protocol};
  if (o->pmd.on)
    h[n++] = (lv_http_header){LV_SLICE("Sec-WebSocket-Extensions"),
                              lv_slice_of(ext, lv_ws_pmd_write(&o->pmd, false, ext))};
  for (uint32_t i = 0; i < n_extra; i++) h[n++] = extra[i];
  lv_http_resp r = {.status = 101, .minor = 1, .keep_alive = true, .headers = h, .n_headers = n};
  return lv_http_resp_encode(&r, dst, cap);
}

static bool put(uint8_t *dst, uint32_t cap, uint32_t *at, lv_slice s) {
  if (s.n > cap - *at) return false;
  if (s.n) memcpy(dst + *at, s.p, s.n);
  *at += s.n;
  return true;
}
static bool put_field(uint8_t *dst, uint32_t cap, uint32_t *at, const lv_http_header *h) {
  return put(dst, cap, at, h->name) && put(dst, cap, at, LV_SLICE(": ")) &&
         put(dst, cap, at, h->value) && put(dst, cap, at, LV_SLICE("\r\n"));
}

int lv_ws_request_encode(lv_slice target, lv_slice host, const uint8_t key[LV_WS_KEY_LEN],
                         const lv_ws_able *able, const lv_http_header *extra, uint32_t n_extra,
                         uint8_t *dst, uint32_t cap) {
  uint8_t ext[LV_WS_EXT_MAX], protocols[512];
  lv_http_header h[OURS_MAX + 1 + EXTRA_MAX];
  uint32_t n = 0, at = 0;
  assert(n_extra <= EXTRA_MAX);
  if (!target.n || target.p[0] != '/' || !lv__http_all(target, LV__HTTP_TARGET))
    return LV_E_INVALID;
  if (!lv__http_all(host, LV__HTTP_HOST)) return LV_E_INVALID;
  h[n++] = (lv_http_header){LV_SLICE("Host"), host};
  h[n++] = (lv_http_header){LV_SLICE("Upgrade"), LV_SLICE("websocket")};
  h[n++] = (lv_http_header){LV_SLICE("Connection"), LV_SLICE("Upgrade")};
  h[n++] = (lv_http_header){LV_SLICE("Sec-WebSocket-Version"), LV_SLICE("13")};
  h[n++] = (lv_http_header){LV_SLICE("Sec-WebSocket-Key"), lv_slice_of(key, LV_WS_KEY_LEN)};
  if (able->n_protocols)
    h[n++] = (lv_http_header){LV_SLICE("Sec-WebSocket-Protocol"),
                              protocols_join(able, protocols, sizeof protocols)};
  if (able->pmd.on)
    h[n++] = (lv_http_header){LV_SLICE("Sec-WebSocket-Extensions"),
                              lv_slice_of(ext, lv_ws_pmd_write(&able->pmd, true, ext))};
  for (uint32_t i = 0; i < n_extra; i++) h[n++] = extra[i];
  bool fits = put(dst, cap, &at, LV_SLICE("GET ")) && put(dst, cap, &at, target) &&
              put(dst, cap, &at, LV_SLICE(" HTTP/1.1\r\n"));
  for (uint32_t i = 0; i < n; i++) {
    if (!h[i].name.n || !lv__http_all(h[i].name, LV__HTTP_TOKEN) ||
        !lv__http_all(h[i].value, LV__HTTP_VALUE))
      return LV_E_INVALID;
    fits = fits && put_field(dst, cap, &at, &h[i]);
  }
  return fits && put(dst, cap, &at, LV_SLICE("\r\n")) ? (int)at : LV_E_TOO_BIG;
}

/* ---- the client's side of the answer ---- */

static lv_slice line_take(lv_slice *s) {
  lv_slice line;
  if (lv_slice_split(s, '\n', &line) && line.n && line.p[line.n - 1] == '\r') line.n--;
  return line;
}

/* HTTP/1.x 101 Switching Protocols (RFC 9112 §4) */
static bool status_read(lv_slice line, uint16_t *ret) {
  if (line.n < 12 || !lv_slice_starts(line, LV_SLICE("HTTP/1.")) || line.p[8] != ' ') return false;
  if (line.p[7] < '0' || line.p[7] > '9' || (line.n > 12 && line.p[12] != ' ')) return false;
  uint64_t status;
  if (lv_slice_u64((lv_slice){line.p + 9, 3}, &status) || status < 100) return false;
  *ret = (uint16_t)status;
  return true;
}

static bool field_split(lv_slice line, lv_http_header *ret) {
  if (!lv_slice_split(&line, ':', &ret->name)) return false;
  ret->value = trim(line);
  return ret->name.n && lv__http_all(ret->name, LV__HTTP_TOKEN) &&
         lv__http_all(ret->value, LV__HTTP_VALUE);
}

/* §4.1, what the client must check. */
static int answer_judge(const fields *f, const uint8_t *key, const lv_ws_able *able,
                        lv_ws_open *o) {
  uint8_t want[LV_WS_ACCEPT_LEN];
  if (!lv_slice_caseeq(f->upgrade, LV_SLICE("websocket")) || !f->connection) return LV_E_PROTOCOL;
  lv_ws_accept(lv_slice_of(key, LV_WS_KEY_LEN), want);
  if (f->accepts != 1 || !lv_slice_eq(f->accept, lv_slice_of(want, sizeof want)))
    return LV_E_PROTOCOL;
  if (f->protocols > 1 || f->extensions > 1) return LV_E_PROTOCOL;
  if (f->protocols && !protocol_find(able, f->protocol, &o->protocol)) return LV_E_PROTOCOL;
  return able->need_protocol && !o->protocol.n ? LV_E_PROTOCOL : 0;
}

int lv_ws_answer_check(lv_slice head, const uint8_t key[LV_WS_KEY_LEN], const lv_ws_able *able,
                       lv_ws_open *ret, uint16_t *ret_status) {
  fields f = {0};
  lv_ws_open o = {0};
  bool refused = false; /* an extension that was not offered so */
  if (!status_read(line_take(&head), ret_status)) return LV_E_MALFORMED;
  if (*ret_status != 101) return LV_E_UNSUPPORTED;
  for (;;) {
    lv_http_header h;
    if (head.n == 0) return LV_E_MALFORMED; /* without its empty line */
    lv_slice line = line_take(&head);
    if (line.n == 0) break;
    if (!field_split(line, &h)) return LV_E_MALFORMED;
    field_note(&f, &h);
    if (named(&h, "sec-websocket-extensions"))
      refused |= !lv_ws_pmd_accept(h.value, &able->pmd, &o.pmd);
  }
  if (head.n) return LV_E_MALFORMED;
  int err = answer_judge(&f, key, able, &o);
  if (err || refused) return LV_E_PROTOCOL;
  *ret = o;
  return 0;
}
