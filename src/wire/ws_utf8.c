/* ws_utf8.c: UTF-8 that arrives in pieces (RFC 3629, RFC 6455 §8.1).
 *
 * An automaton whose transitions are words: the row of a byte holds, for each state, the next one,
 * six bits each. A state is its own place in that word, so that a step is a load, a shift and a
 * mask, whatever the text. Sixteen ASCII bytes at a time are passed without it.
 *
 *   NO    nothing can mend it      OK    between two characters
 *   C1–C3 so many continuations    E0 ED F0 F4  behind that byte: its second one has other bounds
 * @thread any */
#include "wire/ws.h"
#include <assert.h>

enum {
  NO = 0,
  OK = LV_WS_UTF8_START,
  C1 = 12,
  C2 = 18,
  C3 = 24,
  E0 = 30,
  ED = 36,
  F0 = 42,
  F4 = 48
};

#define TO(from, to) ((uint64_t)(to) << (from))
#define MORE (TO(C1, OK) | TO(C2, C1) | TO(C3, C2))

static const uint64_t rows[256] = {
    [0x00 ... 0x7F] = TO(OK, OK),
    [0x80 ... 0x8F] = MORE | TO(ED, C1) | TO(F4, C2),
    [0x90 ... 0x9F] = MORE | TO(ED, C1) | TO(F0, C2),
    [0xA0 ... 0xBF] = MORE | TO(E0, C1) | TO(F0, C2),
    [0xC2 ... 0xDF] = TO(OK, C1),
    [0xE0] = TO(OK, E0),
    [0xE1 ... 0xEC] = TO(OK, C2),
    [0xED] = TO(OK, ED),
    [0xEE ... 0xEF] = TO(OK, C2),
    [0xF0] = TO(OK, F0),
    [0xF1 ... 0xF3] = TO(OK, C3),
    [0xF4] = TO(OK, F4),
};

static bool ascii16(const uint8_t *p) {
  uint64_t a, b;
  memcpy(&a, p, 8);
  memcpy(&b, p + 8, 8);
  return ((a | b) & 0x8080808080808080u) == 0;
}

bool lv_ws_utf8_add(lv_ws_utf8 *state, lv_slice s) {
  uint64_t at = *state;
  uint32_t i = 0;
  assert(at <= F4);
  while (i < s.n) {
    if (at == OK)
      while (s.n - i >= 16 && ascii16(s.p + i)) i += 16;
    /* A mixed stretch runs through the automaton before the short way is tried again. */
    uint32_t end = s.n - i > 32 ? i + 32 : s.n;
    for (; i < end; i++) at = rows[s.p[i]] >> at & 63;
    if (at == NO) break;
  }
  *state = (lv_ws_utf8)at;
  return at != NO;
}

uint32_t lv_ws_utf8_cut(lv_slice s, uint32_t max) {
  if (s.n <= max) return s.n;
  while (max && (s.p[max] & 0xC0) == 0x80) max--;
  return max;
}
