/* ws.h: WebSocket frames (RFC 6455), bytes to values and values to bytes. Pure: no I/O, no
 * allocation; what a connection keeps between two reads are the 24 bytes of lv_ws.
 *
 * The decoder works in the caller's read buffer: payloads are unmasked where they lie, and events
 * are slices of it. A frame of up to `whole_max` bytes is left in the buffer until all of it is
 * there and comes as one piece; a longer one comes in pieces as it arrives. In both cases each byte
 * is unmasked and looked at once, on arrival, so that text that is not UTF-8 is refused at its
 * first wrong byte. Control frames always come whole.
 *
 * Messages that permessage-deflate compressed (RFC 7692) are passed on compressed, and their text
 * is not checked here: see wire/deflate.h and lv_ws_utf8_add. The opening handshake is
 * wire/ws_open.h.
 * @thread any, one at a time for an lv_ws */
#ifndef LV_WIRE_WS_H
#define LV_WIRE_WS_H
#include "core/err.h"
#include "core/slice.h"

enum lv_ws_op {
  LV_WS_CONT = 0,
  LV_WS_TEXT = 1,
  LV_WS_BINARY = 2,
  LV_WS_CLOSE = 8,
  LV_WS_PING = 9,
  LV_WS_PONG = 10
};
/* Bits of a frame's first byte beside the opcode, for the encoders. */
enum { LV_WS_FIN = 0x80, LV_WS_RSV1 = 0x40 };
enum {
  LV_WS_HEAD_MAX = 10,     /* bytes of an unmasked frame's head; 4 more when masked */
  LV_WS_CONTROL_MAX = 125, /* payload bytes of a control frame (§5.5) */
  LV_WS_REASON_MAX = 123,  /* bytes of a close reason */
};

/* Close codes (§7.4.1 and IANA's registry) that are named in code. */
enum lv_ws_close {
  LV_WS_NORMAL = 1000,
  LV_WS_GOING_AWAY = 1001,
  LV_WS_PROTOCOL = 1002,
  LV_WS_UNSUPPORTED = 1003,
  LV_WS_NO_CODE = 1005, /* the close frame had none; never sent */
  LV_WS_BAD_PAYLOAD = 1007,
  LV_WS_POLICY = 1008,
  LV_WS_TOO_BIG = 1009,
  LV_WS_INTERNAL = 1011,
  LV_WS_RESTART = 1012,
  LV_WS_TRY_LATER = 1013
};

/* ---- decoder ---- */

/* What holds for a kind of connection: shared by all of them, passed to each call. */
typedef struct lv_ws_rules {
  uint32_t message_max;    /* payload bytes of a message, on the wire; at most 2^31. Compressed ones
                              may have an eighth more: deflate may grow what it cannot shrink */
  uint32_t whole_max;      /* see above; the read buffer must hold so much plus a head of 14 */
  uint32_t frames_max;     /* of one message, at least 1 */
  bool client;             /* we are the client: frames come unmasked; else they must be masked */
  bool deflate;            /* permessage-deflate was agreed on: RSV1 is allowed */
  bool no_text, no_binary; /* messages of that kind are refused (1003) */
} lv_ws_rules;

/* A connection's decoder. All zero is the beginning. The fields are the decoder's own. */
typedef struct lv_ws {
  uint32_t left;   /* payload bytes of this frame not passed on yet */
  uint32_t held;   /* of these: bytes in the buffer that are unmasked and checked already */
  uint32_t bytes;  /* payload bytes of this message, with the current frame's */
  uint32_t key;    /* mask, turned so that the next byte to unmask comes first */
  uint32_t frames; /* of this message */
  uint8_t head;    /* first byte of the current frame */
  uint8_t op;      /* of the message: TEXT or BINARY; 0: none is open */
  uint8_t utf8;    /* lv_ws_utf8 of the message */
  uint8_t flags;
} lv_ws;

/* Bytes on their way in. The decoder moves p and n behind what it is done with; what is left is
 * offered again, at this or another place, with more behind. */
typedef struct lv_ws_in {
  uint8_t *p;
  uint32_t n;
  uint32_t want; /* with LV_E_NEED_MORE: a call with fewer bytes than this at p gives nothing */
  bool look;     /* and yet is worth making: heads and text are refused at their first bad byte */
} lv_ws_in;

typedef struct lv_ws_event {
  uint8_t op;       /* TEXT, BINARY (for continuations too), CLOSE, PING, PONG */
  bool first, last; /* whether this piece begins and ends its message; control: both */
  bool deflated;    /* the message is compressed */
  uint16_t code;    /* of CLOSE: as received, LV_WS_NO_CODE without one */
  lv_slice data;    /* unmasked, in the caller's buffer before in->p. CLOSE: the reason */
} lv_ws_event;

/* 1: an event, call again; LV_E_NEED_MORE: the input is used up, or what is left of it is kept for
 * later. LV_E_PROTOCOL (close with 1002), LV_E_PAYLOAD (not UTF-8: 1007), LV_E_TOO_BIG
 * (message_max, frames_max: 1009), LV_E_UNSUPPORTED (1003): lv_ws_close_code. After an error it is
 * not called again. What follows a CLOSE is thrown away (§5.5.1). A piece is empty only where it
 * ends a frame. Outcome and bytes do not depend on how the input is cut. */
int lv_ws_next(lv_ws *ws, const lv_ws_rules *rules, lv_ws_in *in, lv_ws_event *ret);
/* The code to close with after an error: 1003 for LV_E_UNSUPPORTED, else as lv_err_close. */
uint16_t lv_ws_close_code(int err);
/* Whether a close frame may carry that code (§7.4). */
bool lv_ws_code_ok(uint16_t code);
/* Data messages that end within the first n bytes of frames without masks: for lv_outq_unsent. */
uint32_t lv_ws_whole(const uint8_t *p, uint32_t n);

/* ---- text ---- */

/* State of the UTF-8 check between two pieces of a text. */
typedef uint8_t lv_ws_utf8;
enum { LV_WS_UTF8_START = 6 };
/* Checks the next piece: false as soon as no text could begin so (RFC 3629). */
bool lv_ws_utf8_add(lv_ws_utf8 *state, lv_slice s);
/* Whether the text may end here. */
static inline bool lv_ws_utf8_end(lv_ws_utf8 state) {
  return state == LV_WS_UTF8_START;
}
/* The largest length <= max at which s can be cut without splitting a character (s is UTF-8). */
uint32_t lv_ws_utf8_cut(lv_slice s, uint32_t max);

/* ---- encoder ---- */

static inline uint32_t lv_ws_head_size(uint64_t n) {
  return n <= 125 ? 2 : n <= 65535 ? 4 : 10;
}
/* Writes the head of a frame of n payload bytes without mask; `first`: opcode | LV_WS_FIN |
 * LV_WS_RSV1. Returns its length: lv_ws_head_size(n), at most LV_WS_HEAD_MAX. */
uint32_t lv_ws_head_encode(uint8_t first, uint64_t n, uint8_t *dst);
/* The same for a client: 4 bytes more, with the mask. The payload is for lv_ws_mask. */
uint32_t lv_ws_head_encode_masked(uint8_t first, uint64_t n, const uint8_t mask[4], uint8_t *dst);
/* XORs n bytes with a mask; `key`: the mask's four bytes in memory order, as memcpy loads them.
 * Returns the key for the bytes that follow. */
uint32_t lv_ws_mask(uint8_t *p, size_t n, uint32_t key);
/* Whole control frames. mask NULL: from a server; dst needs 6 + LV_WS_CONTROL_MAX bytes at most.
 * Each returns the frame's length. */
uint32_t lv_ws_control_encode(uint8_t op, lv_slice payload, const uint8_t *mask, uint8_t *dst);
/* A close frame; LV_WS_NO_CODE makes it empty. The reason (UTF-8) is cut to LV_WS_REASON_MAX bytes
 * between characters. */
uint32_t lv_ws_close_encode(uint16_t code, lv_slice reason, const uint8_t *mask, uint8_t *dst);

#endif
