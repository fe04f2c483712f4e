/* fuzz_jwt.c: a token's text as it is (first byte even), or a token made of what the input says
 * head and claims are (odd; a line each), so that what is behind base64url is reached at once. What
 * parses obeys its bounds, and all that it points to can be read. */
#include "fuzz.h"
#include "wire/jwt.h"
#include "wire/mqtt.h"

static size_t encode(const uint8_t *p, size_t n, uint8_t *dst) {
  static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  uint32_t bits = 0, have = 0;
  size_t at = 0;
  for (size_t i = 0; i < n; i++) {
    bits = bits << 8 | p[i];
    for (have += 8; have >= 6; have -= 6) dst[at++] = (uint8_t)set[bits >> (have - 6) & 63];
  }
  if (have) dst[at++] = (uint8_t)set[bits << (6 - have) & 63];
  lv_slice back;
  uint8_t *room = malloc(at + 3);
  CHECK(room && lv_base64url_decode(lv_slice_of(dst, at), room, &back) == 0);
  CHECK(back.n == n && (n == 0 || memcmp(back.p, p, n) == 0));
  free(room);
  return at;
}

static lv_slice made(const uint8_t *p, size_t n) {
  uint8_t *text = malloc(2 * n + 16);
  size_t head = 0;
  CHECK(text != NULL);
  while (head < n && p[head] != '\n') head++;
  size_t skip = head < n ? head + 1 : head, at = encode(p, head, text);
  text[at++] = '.';
  at += encode(p + skip, n - skip, text + at);
  text[at++] = '.';
  lv_slice s = fuzz_copy(text, at);
  free(text);
  return s;
}

static void judge(lv_slice text, const lv_jwt_token *t) {
  CHECK(t->input.p == text.p && t->input.n < text.n && text.p[t->input.n] == '.');
  CHECK(t->sub.n <= LV_JWT_SUB_MAX && t->n_aud <= LV_JWT_AUDIENCES_MAX);
  CHECK(t->n_rights <= LV_JWT_RIGHTS_MAX && (t->has_rights || !t->n_rights));
  CHECK(t->exp_ms >= 0 && t->exp_ms <= LV_JWT_MS_MAX);
  CHECK(t->nbf_ms >= 0 && t->nbf_ms <= LV_JWT_MS_MAX);
  fuzz_touch(t->signature);
  fuzz_touch(t->alg);
  fuzz_touch(t->kid);
  fuzz_touch(t->iss);
  fuzz_touch(t->sub);
  fuzz_touch(t->app);
  CHECK(lv_utf8_valid(t->sub, true) && lv_utf8_valid(t->app, true));
  for (uint32_t i = 0; i < t->n_aud; i++) fuzz_touch(t->aud[i]);
  for (uint32_t i = 0; i < t->n_rights; i++) {
    CHECK(lv_mqtt_filter_check(t->rights[i].pattern) == 0);
    CHECK(lv_utf8_valid(t->rights[i].pattern, true));
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  uint8_t mode = fuzz_byte(&data, &size);
  if (size > 65536) return 0;
  lv_slice text = mode & 1 ? made(data, size) : fuzz_copy(data, size);
  uint8_t *scratch = malloc(LV_JWT_SCRATCH(text.n));
  lv_jwt_token t;
  CHECK(scratch != NULL);
  int err = lv_jwt_parse(text, scratch, &t);
  CHECK(err == 0 || err == LV_E_MALFORMED || (err == LV_E_TOO_BIG && text.n > LV_JWT_TOKEN_MAX));
  if (!err) judge(text, &t);
  if (!err && lv_slice_starts(text, LV_SLICE("eyJ"))) CHECK(lv_jwt_like(text));
  free(scratch);
  fuzz_free(text);
  return 0;
}
