/* deflate.c: permessage-deflate's payloads (RFC 7692 §7.2.1, §7.2.2) with zlib's raw deflate.
 *
 * A message is closed with Z_SYNC_FLUSH and loses the four bytes 00 00 FF FF that this leaves at
 * its end; the receiver puts them back. Each thread has three streams, made when they are first
 * needed:
 *
 *   small   messages up to 4 KiB, window 2^12, a hash of 8 KiB     resetting clears the hash, so a
 *   large   the rest, window 2^15, a hash of 64 KiB                small message should have a
 *   in      to decompress; reads what any window wrote             small one
 *
 * A message no longer than a window comes out the same whatever larger one is used, so one form
 * serves all receivers that lv_deflate_shared names. For a receiver with less, a stream of exactly
 * its window is made for this message only: rare, and still correct. zlib has no deflate for 2^8,
 * but with 2^9 it looks back 250 bytes at most (its window less its look-ahead).
 * @thread any: thread-local state behind a pthread key */
#include "wire/deflate.h"
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <zlib.h>

enum { LEVEL = 6, SMALL = 4096, SMALL_BITS = 12, SMALL_MEM = 5, LARGE_MEM = 8, HISTORY = 1 << 15 };

static const uint8_t tail[4] = {0x00, 0x00, 0xFF, 0xFF};

typedef struct streams {
  z_stream small, large, in;
  bool has_small, has_large, has_in;
} streams;

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Thread_local streams *local;

static void thread_end(void *p) {
  streams *s = p;
  if (s->has_small) (void)deflateEnd(&s->small);
  if (s->has_large) (void)deflateEnd(&s->large);
  if (s->has_in) (void)inflateEnd(&s->in);
  free(s);
  local = NULL;
}

static void key_make(void) {
  if (pthread_key_create(&key, thread_end) != 0) abort();
}

static streams *mine(void) {
  if (local) return local;
  (void)pthread_once(&once, key_make);
  local = calloc(1, sizeof *local);
  if (!local || pthread_setspecific(key, local) != 0) abort();
  return local;
}

static int deflate_begin(z_stream *z, int bits, int mem) {
  *z = (z_stream){0};
  int got = deflateInit2(z, LEVEL, Z_DEFLATED, -bits, mem, Z_DEFAULT_STRATEGY);
  assert(got == Z_OK || got == Z_MEM_ERROR);
  return got == Z_OK ? 0 : LV_E_NOMEM;
}

/* A pooled stream, ready for a message. */
static z_stream *deflate_get(bool small) {
  streams *s = mine();
  z_stream *z = small ? &s->small : &s->large;
  bool *has = small ? &s->has_small : &s->has_large;
  if (*has) {
    (void)deflateReset(z);
    return z;
  }
  if (deflate_begin(z, small ? SMALL_BITS : 15, small ? SMALL_MEM : LARGE_MEM)) return NULL;
  *has = true;
  return z;
}

static int deflate_run(z_stream *z, lv_slice in, uint8_t *dst, uint32_t cap, uint32_t *ret_n) {
  z->next_in = (Bytef *)in.p;
  z->avail_in = in.n;
  z->next_out = dst;
  z->avail_out = cap;
  int got = deflate(z, Z_SYNC_FLUSH);
  /* Only with space left over is it certain that the flush is complete. */
  if (got != Z_OK || z->avail_in || z->avail_out == 0) return LV_E_TOO_BIG;
  uint32_t n = cap - z->avail_out;
  assert(n >= 5 && memcmp(dst + n - 4, tail, 4) == 0);
  *ret_n = n - 4;
  return 0;
}

int lv_deflate(lv_slice in, uint8_t bits, uint8_t *dst, uint32_t cap, uint32_t *ret_n) {
  assert(bits >= 8 && bits <= 15);
  if (in.n == 0) { /* §7.2.3.6 */
    if (cap < 1 + LV_DEFLATE_SLACK) return LV_E_TOO_BIG;
    dst[0] = 0;
    *ret_n = 1;
    return 0;
  }
  if (bits == 15 || lv_deflate_shared(in.n, bits)) {
    z_stream *z = deflate_get(in.n <= SMALL);
    return z ? deflate_run(z, in, dst, cap, ret_n) : LV_E_NOMEM;
  }
  z_stream z;
  int err = deflate_begin(&z, bits < 9 ? 9 : bits, LARGE_MEM);
  if (err) return err;
  err = deflate_run(&z, in, dst, cap, ret_n);
  (void)deflateEnd(&z);
  return err;
}

uint32_t lv_deflate_bound(uint32_t n) {
  assert(n <= 1u << 30);
  return n + n / 8 + n / 64 + 32; /* zlib's worst case for any setting, and the flush */
}

/* ---- decompression ---- */

static z_stream *inflate_get(void) {
  streams *s = mine();
  if (s->has_in) {
    (void)inflateReset(&s->in);
    return &s->in;
  }
  s->in = (z_stream){0};
  if (inflateInit2(&s->in, -15) != Z_OK) return NULL;
  s->has_in = true;
  return &s->in;
}

/* Runs until the input given to z is used up or a last block has ended (1). Output goes behind what
 * `out` holds; at its limit one byte more is asked for, to tell a message that just fits. */
static int inflate_run(z_stream *z, lv_buf *out) {
  for (;;) {
    uint8_t over;
    size_t room = out->max - out->n, chunk = (size_t)z->avail_in * 4 + 256;
    if (chunk > room) chunk = room;
    uint8_t *p = chunk ? lv_buf_space(out, chunk) : &over;
    assert(p); /* within the limit */
    z->next_out = p;
    z->avail_out = chunk ? (uInt)chunk : 1;
    int got = inflate(z, Z_SYNC_FLUSH);
    if (chunk)
      out->n -= z->avail_out;
    else if (z->avail_out == 0)
      return LV_E_TOO_BIG;
    if (got == Z_STREAM_END) return 1;
    if (got == Z_MEM_ERROR) return LV_E_NOMEM;
    if (got != Z_OK && got != Z_BUF_ERROR) return LV_E_PAYLOAD;
    if (z->avail_in == 0 && z->avail_out) return 0;
  }
}

/* As inflate_run over all of `in`. A block may say that it is the last one without being it
 * (§7.2.3.4): what follows goes on with the history so far. */
static int inflate_all(z_stream *z, lv_slice in, lv_buf *out, size_t start, bool *ended) {
  z->next_in = (Bytef *)in.p;
  z->avail_in = in.n;
  *ended = false;
  int got;
  while ((got = inflate_run(z, out)) == 1) {
    size_t n = out->n - start;
    if (n > HISTORY) n = HISTORY;
    *ended = z->avail_in == 0;
    if (inflateReset(z) != Z_OK) return LV_E_PAYLOAD;
    if (n && inflateSetDictionary(z, out->p + out->n - n, (uInt)n) != Z_OK) return LV_E_NOMEM;
    if (*ended) return 0;
  }
  return got;
}

int lv_inflate(lv_slice in, lv_buf *out) {
  z_stream *z = inflate_get();
  size_t start = out->n;
  bool ended;
  assert(!out->err);
  if (!z) return LV_E_NOMEM;
  int err = inflate_all(z, in, out, start, &ended);
  /* A message whose last block said so and that lacks the byte of §7.2.3.4 is complete as well. */
  if (!err && !ended) {
    err = inflate_all(z, lv_slice_of(tail, sizeof tail), out, start, &ended);
    /* The flush has to be one: read as a block of its own, at its place, with nothing behind. */
    if (!err && (ended || !(z->data_type & 128) || z->data_type & 63)) err = LV_E_PAYLOAD;
  }
  if (err) out->n = start;
  if (out->p) out->p[out->n] = 0;
  return err;
}
