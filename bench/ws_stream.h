/* ws_stream.h: the stream that ws_bench and wslay_bench decode: masked text frames of a client, one
 * behind the other, as they lie in a read buffer of 16 KiB. */
#ifndef BENCH_WS_STREAM_H
#define BENCH_WS_STREAM_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 5, READ = 16384 };

typedef struct stream {
  uint8_t bytes[READ];
  uint32_t n, frames;
} stream;

static inline double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static inline void stream_make(stream *s, uint32_t payload) {
  static const uint8_t key[4] = {0x37, 0xFA, 0x21, 0x3D};
  s->n = s->frames = 0;
  while (s->n + payload + 8 <= READ) {
    uint8_t *p = s->bytes + s->n;
    uint32_t h = 2;
    p[0] = 0x81;
    p[1] = (uint8_t)(0x80 | (payload < 126 ? payload : 126));
    if (payload >= 126) p[2] = (uint8_t)(payload >> 8), p[3] = (uint8_t)payload, h = 4;
    memcpy(p + h, key, 4);
    for (uint32_t i = 0; i < payload; i++) p[h + 4 + i] = (uint8_t)(('a' + i % 26) ^ key[i & 3]);
    s->n += h + 4 + payload;
    s->frames++;
  }
}

#endif
