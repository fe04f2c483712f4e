/* deflate.h: the bytes of permessage-deflate (RFC 7692 §7.2) over zlib: whole messages, each on its
 * own (no context takeover), so that a message is compressed once for all who get it.
 *
 * zlib's working memory (about 270 KB to compress, 40 KB to decompress) belongs to the thread, not
 * to a connection: it is made at the first use, reset for each message, and freed at the thread's
 * end. Nothing is allocated per message but what the output buffer grows by.
 * @thread any */
#ifndef LV_WIRE_DEFLATE_H
#define LV_WIRE_DEFLATE_H
#include "core/buf.h"
#include "core/err.h"

/* Bytes that lv_deflate may need behind its result. */
enum { LV_DEFLATE_SLACK = 5 };

/* Compresses a message for a receiver whose window is 2^bits (8 … 15). dst has room for `cap`
 * bytes; a result needs LV_DEFLATE_SLACK more than its own length, so cap = in.n + LV_DEFLATE_SLACK
 * - 1 asks for a result that is shorter than the message. LV_E_TOO_BIG when it does not fit. */
int lv_deflate(lv_slice in, uint8_t bits, uint8_t *dst, uint32_t cap, uint32_t *ret_n);
/* Room that is enough for any message of n bytes (n <= 2^30). */
uint32_t lv_deflate_bound(uint32_t n);
/* Whether what lv_deflate made of a message of n bytes with any window can be read with a window of
 * 2^bits: nothing in it points further back than the message is long. */
static inline bool lv_deflate_shared(uint32_t n, uint8_t bits) {
  return n <= 1u << bits;
}

/* Decompresses a whole message behind what `out` holds. Stops at out->max: LV_E_TOO_BIG (1009),
 * however much more was in it. LV_E_PAYLOAD (1007): not what §7.2.2 allows. After an error `out` is
 * as before. LV_E_NOMEM. */
int lv_inflate(lv_slice in, lv_buf *out);

#endif
