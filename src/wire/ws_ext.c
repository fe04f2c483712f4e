/* ws_ext.c: Sec-WebSocket-Extensions (RFC 6455 §9.1) and the parameters of permessage-deflate
 * (RFC 7692 §7.1).
 *
 *   extension  = token *( ";" token [ "=" ( token / quoted-string ) ] ), several behind commas
 *
 * The value is read once, one element at a time, into a small struct; whatever it says twice,
 * wrongly, or that we do not know makes that offer unacceptable (§7), a breach of the grammar all
 * that follow as well.
 * @thread any */
#include "wire/http_int.h"
#include "wire/ws_open.h"
#include <assert.h>

/* One extension as read. */
typedef struct offer {
  bool is_pmd, bad; /* bad: parameters that no permessage-deflate has */
  bool server_no_takeover, client_no_takeover, has_server_bits, has_client_bits;
  uint8_t server_bits, client_bits; /* 0 for client_bits: named without a value */
} offer;

static void space_skip(lv_slice *s) {
  while (s->n && (s->p[0] == ' ' || s->p[0] == '\t')) *s = (lv_slice){s->p + 1, s->n - 1};
}

static bool byte_take(lv_slice *s, uint8_t c) {
  space_skip(s);
  if (!s->n || s->p[0] != c) return false;
  *s = (lv_slice){s->p + 1, s->n - 1};
  return true;
}

static bool token_take(lv_slice *s, lv_slice *ret) {
  uint32_t n = 0;
  space_skip(s);
  while (n < s->n && lv__http_is(s->p[n], LV__HTTP_TOKEN)) n++;
  *ret = (lv_slice){s->p, n};
  *s = (lv_slice){s->p + n, s->n - n};
  return n > 0;
}

/* A token, perhaps in quotes; what is quoted has to be a token too (§9.1). */
static bool value_take(lv_slice *s, lv_slice *ret) {
  space_skip(s);
  bool quoted = s->n && s->p[0] == '"';
  if (quoted) *s = (lv_slice){s->p + 1, s->n - 1};
  if ((quoted && s->n && (s->p[0] == ' ' || s->p[0] == '\t')) || !token_take(s, ret)) return false;
  if (!quoted) return true;
  if (!s->n || s->p[0] != '"') return false;
  *s = (lv_slice){s->p + 1, s->n - 1};
  return true;
}

/* 8 … 15 in decimal without leading zeros; 0: anything else. */
static uint8_t bits_read(lv_slice v) {
  if (v.n == 1 && (v.p[0] == '8' || v.p[0] == '9')) return (uint8_t)(v.p[0] - '0');
  if (v.n == 2 && v.p[0] == '1' && v.p[1] >= '0' && v.p[1] <= '5')
    return (uint8_t)(10 + v.p[1] - '0');
  return 0;
}

static void flag_note(offer *o, bool *flag, bool has_value) {
  if (*flag || has_value) o->bad = true;
  *flag = true;
}

static void param_note(offer *o, lv_slice name, bool has_value, lv_slice value) {
  if (lv_slice_caseeq(name, LV_SLICE("server_no_context_takeover"))) {
    flag_note(o, &o->server_no_takeover, has_value);
  } else if (lv_slice_caseeq(name, LV_SLICE("client_no_context_takeover"))) {
    flag_note(o, &o->client_no_takeover, has_value);
  } else if (lv_slice_caseeq(name, LV_SLICE("server_max_window_bits"))) {
    o->server_bits = has_value ? bits_read(value) : 0;
    if (o->has_server_bits || !o->server_bits) o->bad = true;
    o->has_server_bits = true;
  } else if (lv_slice_caseeq(name, LV_SLICE("client_max_window_bits"))) {
    o->client_bits = has_value ? bits_read(value) : 0;
    if (o->has_client_bits || (has_value && !o->client_bits)) o->bad = true;
    o->has_client_bits = true;
  } else {
    o->bad = true;
  }
}

/* The next element of the list: 1, 0 at its end, LV_E_MALFORMED. */
static int offer_next(lv_slice *s, offer *ret) {
  lv_slice name, value = {0};
  offer o = {0};
  do space_skip(s);
  while (byte_take(s, ',')); /* empty elements are allowed (RFC 9110 §5.6.1) */
  if (s->n == 0) return 0;
  if (!token_take(s, &name)) return LV_E_MALFORMED;
  o.is_pmd = lv_slice_caseeq(name, LV_SLICE("permessage-deflate"));
  while (byte_take(s, ';')) {
    if (!token_take(s, &name)) return LV_E_MALFORMED;
    bool has_value = byte_take(s, '=');
    if (has_value && !value_take(s, &value)) return LV_E_MALFORMED;
    param_note(&o, name, has_value, value);
  }
  space_skip(s);
  if (s->n && s->p[0] != ',') return LV_E_MALFORMED;
  *ret = o;
  return 1;
}

static uint8_t least(uint8_t a, uint8_t b) {
  return a < b ? a : b;
}

/* §7.1: a server may always ask for less than was offered, except that a client's window can only
 * be named to one that named it. */
static bool offer_meet(const offer *o, const lv_ws_pmd *policy, lv_ws_pmd *ret) {
  if (!o->is_pmd || o->bad) return false;
  uint8_t server = o->has_server_bits ? least(o->server_bits, policy->server_bits) : 0;
  if (server && server < policy->server_bits_min) return false;
  *ret = (lv_ws_pmd){.on = true,
                     .server_no_takeover = o->server_no_takeover || policy->server_no_takeover,
                     .client_no_takeover = o->client_no_takeover || policy->client_no_takeover,
                     .server_bits = server ? server : policy->server_bits,
                     .client_bits = LV_WS_BITS_MAX,
                     .server_bits_asked = o->has_server_bits};
  if (o->has_client_bits)
    ret->client_bits = least(o->client_bits ? o->client_bits : LV_WS_BITS_MAX, policy->client_bits);
  return true;
}

bool lv_ws_pmd_choose(lv_slice value, const lv_ws_pmd *policy, lv_ws_pmd *ret) {
  lv_ws_pmd found = {0};
  offer o;
  int got;
  if (!policy->on) return false;
  while ((got = offer_next(&value, &o)) == 1)
    if (!found.on) (void)offer_meet(&o, policy, &found);
  if (got || !found.on) return false; /* the rest has to be well formed as well */
  *ret = found;
  return true;
}

bool lv_ws_pmd_accept(lv_slice value, const lv_ws_pmd *offered, lv_ws_pmd *ret) {
  offer o, more;
  if (!offered->on || offer_next(&value, &o) != 1 || offer_next(&value, &more) != 0) return false;
  if (!o.is_pmd || o.bad || (o.has_client_bits && !o.client_bits)) return false;
  if (offered->server_no_takeover && !o.server_no_takeover) return false;
  uint8_t server = o.has_server_bits ? o.server_bits : LV_WS_BITS_MAX;
  uint8_t client = o.has_client_bits ? o.client_bits : offered->client_bits;
  if (server > offered->server_bits || client > offered->client_bits) return false;
  *ret = (lv_ws_pmd){.on = true,
                     .server_no_takeover = o.server_no_takeover,
                     .client_no_takeover = o.client_no_takeover || offered->client_no_takeover,
                     .server_bits = server,
                     .client_bits = client};
  return true;
}

static uint32_t put(uint8_t *dst, uint32_t at, lv_slice s) {
  assert(at + s.n <= LV_WS_EXT_MAX);
  memcpy(dst + at, s.p, s.n);
  return at + s.n;
}
static uint32_t put_bits(uint8_t *dst, uint32_t at, lv_slice name, uint8_t bits) {
  at = put(dst, at, name);
  if (bits >= 10) at = put(dst, at, LV_SLICE("1"));
  uint8_t digit = (uint8_t)('0' + bits % 10);
  return put(dst, at, lv_slice_of(&digit, 1));
}

uint32_t lv_ws_pmd_write(const lv_ws_pmd *pmd, bool client, uint8_t dst[LV_WS_EXT_MAX]) {
  uint32_t at = put(dst, 0, LV_SLICE("permessage-deflate"));
  assert(pmd->on && pmd->server_bits <= 15 && pmd->client_bits <= 15);
  if (pmd->server_no_takeover) at = put(dst, at, LV_SLICE("; server_no_context_takeover"));
  if (pmd->client_no_takeover) at = put(dst, at, LV_SLICE("; client_no_context_takeover"));
  if (pmd->server_bits < LV_WS_BITS_MAX || pmd->server_bits_asked)
    at = put_bits(dst, at, LV_SLICE("; server_max_window_bits="), pmd->server_bits);
  if (pmd->client_bits < LV_WS_BITS_MAX)
    return put_bits(dst, at, LV_SLICE("; client_max_window_bits="), pmd->client_bits);
  return client ? put(dst, at, LV_SLICE("; client_max_window_bits")) : at;
}
