/* crc.c: CRC-32C (Castagnoli polynomial 0x1EDC6F41, reflected 0x82F63B78; RFC 3720 appendix B.4).
 *
 * On x86-64 the SSE4.2 instruction does 8 bytes in 3 cycles of latency, 1 of throughput, so long
 * ranges run as three interleaved streams of STRIDE bytes that are joined by "append STRIDE zero
 * bytes" (a linear map, kept as 4 × 256 words). Elsewhere, and to check the above in tests,
 * eight tables do 8 bytes a step. Tables are made before main; read-only afterwards. */
#include "core/crc_int.h"
#include "core/rec.h"
#ifdef __SSE4_2__
#include <nmmintrin.h>
#endif

enum { STRIDE = 256 };
static const uint32_t poly = 0x82F63B78u;
static uint32_t slow[8][256];  /* slow[k][b]: byte b followed by k zero bytes */
static uint32_t shift[4][256]; /* shift[k][b]: byte k of a CRC, moved on by STRIDE zero bytes */

__attribute__((constructor)) static void make_tables(void) {
  for (uint32_t b = 0; b < 256; b++) {
    uint32_t c = b;
    for (int i = 0; i < 8; i++) c = (c >> 1) ^ ((c & 1) ? poly : 0);
    slow[0][b] = c;
  }
  for (uint32_t b = 0; b < 256; b++)
    for (int k = 1; k < 8; k++) slow[k][b] = (slow[k - 1][b] >> 8) ^ slow[0][slow[k - 1][b] & 0xFF];
  for (int k = 0; k < 4; k++)
    for (uint32_t b = 0; b < 256; b++) {
      uint32_t c = b << (8 * k);
      for (int i = 0; i < STRIDE; i++) c = (c >> 8) ^ slow[0][c & 0xFF];
      shift[k][b] = c;
    }
}

uint32_t lv__crc32c_table(uint32_t crc, const void *data, size_t n) {
  const uint8_t *p = data;
  uint32_t c = ~crc;
  for (; n >= 8; n -= 8, p += 8) {
    uint64_t w;
    memcpy(&w, p, 8);
    w ^= c;
    c = slow[7][w & 0xFF] ^ slow[6][(w >> 8) & 0xFF] ^ slow[5][(w >> 16) & 0xFF] ^
        slow[4][(w >> 24) & 0xFF] ^ slow[3][(w >> 32) & 0xFF] ^ slow[2][(w >> 40) & 0xFF] ^
        slow[1][(w >> 48) & 0xFF] ^ slow[0][w >> 56];
  }
  for (; n > 0; n--, p++) c = (c >> 8) ^ slow[0][(c ^ *p) & 0xFF];
  return ~c;
}

#ifdef __SSE4_2__
static inline uint64_t load(const uint8_t *p) {
  uint64_t w;
  memcpy(&w, p, 8);
  return w;
}

static inline uint32_t moved(uint32_t c) {
  return shift[0][c & 0xFF] ^ shift[1][(c >> 8) & 0xFF] ^ shift[2][(c >> 16) & 0xFF] ^
         shift[3][c >> 24];
}

uint32_t lv_crc32c(uint32_t crc, const void *data, size_t n) {
  const uint8_t *p = data;
  uint64_t c = (uint32_t)~crc;
  for (; n >= 3 * STRIDE; n -= 3 * STRIDE, p += 3 * STRIDE) {
    uint64_t c1 = 0, c2 = 0;
    for (int i = 0; i < STRIDE; i += 8) {
      c = _mm_crc32_u64(c, load(p + i));
      c1 = _mm_crc32_u64(c1, load(p + STRIDE + i));
      c2 = _mm_crc32_u64(c2, load(p + 2 * STRIDE + i));
    }
    c = moved(moved((uint32_t)c) ^ (uint32_t)c1) ^ (uint32_t)c2;
  }
  for (; n >= 8; n -= 8, p += 8) c = _mm_crc32_u64(c, load(p));
  uint32_t r = (uint32_t)c;
  for (; n > 0; n--, p++) r = _mm_crc32_u8(r, *p);
  return ~r;
}
#else
uint32_t lv_crc32c(uint32_t crc, const void *data, size_t n) {
  return lv__crc32c_table(crc, data, n);
}
#endif
