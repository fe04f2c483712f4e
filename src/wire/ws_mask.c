/* ws_mask.c: XOR with the frame's mask (RFC 6455 §5.3), in place, at any alignment.
 *
 * Vectors of the compiler's own (SSE2, NEON, or plain words), loaded and stored unaligned: 64 bytes
 * a round, then 16, then the rest by halves. The mask is four bytes, so every step but the last
 * ones leaves it as it is; at the end it is turned by what the last word was short of.
 * @thread any */
#include "wire/ws.h"

typedef uint32_t v4 __attribute__((vector_size(16)));

static inline void mask16(uint8_t *p, v4 k) {
  v4 v;
  memcpy(&v, p, 16);
  v ^= k;
  memcpy(p, &v, 16);
}

/* The key whose first byte in memory is this one's byte n (1 … 3). */
static uint32_t turn(uint32_t key, uint32_t n) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  return key >> (8 * n) | key << (32 - 8 * n);
#else
  return key << (8 * n) | key >> (32 - 8 * n);
#endif
}

uint32_t lv_ws_mask(uint8_t *p, size_t n, uint32_t key) {
  const v4 k = {key, key, key, key};
  for (; n >= 64; p += 64, n -= 64) {
    mask16(p, k);
    mask16(p + 16, k);
    mask16(p + 32, k);
    mask16(p + 48, k);
  }
  for (; n >= 16; p += 16, n -= 16) mask16(p, k);
  if (n & 8) {
    uint64_t w, k8 = (uint64_t)key << 32 | key;
    memcpy(&w, p, 8);
    w ^= k8;
    memcpy(p, &w, 8);
    p += 8;
  }
  if (n & 4) {
    uint32_t w;
    memcpy(&w, p, 4);
    w ^= key;
    memcpy(p, &w, 4);
    p += 4;
  }
  n &= 3;
  if (n == 0) return key;
  uint8_t b[4];
  memcpy(b, &key, 4);
  for (size_t i = 0; i < n; i++) p[i] ^= b[i];
  return turn(key, (uint32_t)n);
}
