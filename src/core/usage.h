/* usage.h: metering: the units in which an app's use is counted, and the arithmetic of them.
 *
 * A message counts in steps of 5 KiB of its channel, key, value and user properties, as they were
 * published: before compression, framing and conflation, and whatever carries it. docs/usage.md is
 * the definition for people; the numbers are computed here and nowhere else.
 *
 *   published   when it is in the log and visible: once, whatever becomes of it then (writer.c)
 *   delivered   when the ledger counts it as delivered: QoS 0, WebSocket and event streams handed
 *               whole to the kernel (the send queue carries lv_use beside its messages), QoS 1 and
 *               2 acknowledged, and for a session that outlives its connection once that is stored
 *   history     messages of snapshots, replays and retained messages, as they are queued or
 * answered minutes     of connections here; of channels where the broker's channel is (chan.h)
 *
 * Counters are those of metric.h: one set a thread, no atomic read-modify-write; whoever asks adds
 * them up (lv_usage_sum). They begin at 0 with the process; master/usage.c keeps them. */
#ifndef LV_CORE_USAGE_H
#define LV_CORE_USAGE_H
#include "core/metric.h"
#include "core/rec.h"

/* X(id, name in JSON and in the store, counter) */
#define LV_USAGE_UNITS(X)                                                                          \
  X(MESSAGES_IN, "messages_in", USE_IN)                                                            \
  X(MESSAGES_OUT, "messages_out", USE_OUT)                                                         \
  X(CONNECTION_MINUTES, "connection_minutes", USE_CONN_MINUTES)                                    \
  X(CHANNEL_MINUTES, "channel_minutes", USE_CHAN_MINUTES)                                          \
  X(BYTES_IN, "bytes_in", USE_IN_BYTES)                                                            \
  X(BYTES_OUT, "bytes_out", USE_OUT_BYTES)                                                         \
  X(STORED_BYTE_HOURS, "stored_byte_hours", USE_STORED)                                            \
  X(HISTORY_READS, "history_reads", USE_HISTORY)

enum lv_usage_unit {
#define X(id, name, counter) LV_U_##id,
  LV_USAGE_UNITS(X)
#undef X
      LV_U_COUNT
};
typedef struct lv_usage {
  uint64_t u[LV_U_COUNT];
} lv_usage;
/* Name of a unit, as in JSON. @thread any */
const char *lv_usage_name(enum lv_usage_unit unit);

/* ---- messages ---- */

enum { LV_USAGE_STEP = 5 * 1024 };
/* What messages come to. */
typedef struct lv_use {
  uint32_t steps, bytes;
} lv_use;
typedef struct lv_use_sum {
  uint64_t steps, bytes;
} lv_use_sum;

/* Names and values of the user properties in a record's properties (rec.h). @thread any */
uint32_t lv__use_props(lv_slice props);
/* Steps of a message of so many bytes: an empty one is one, 5,120 bytes are one, 5,121 are two. */
static inline uint32_t lv_use_steps(uint32_t bytes) {
  return bytes <= LV_USAGE_STEP ? 1 : (bytes - 1) / LV_USAGE_STEP + 1;
}
/* Of a record: bytes of channel, key, value and user properties. The topic is `channel`,
 * `channel/key`, or in channel `_` (key_off 0) the whole key. It runs for each message that becomes
 * visible, so what is there is what is left when the rest is taken off. */
static inline lv_use lv_use_of(const lv_rec *r) {
  static const uint8_t ext[] = {0, 4, 8, 12, 8, 12, 16, 20}; /* lv_rec_ext_len */
  static_assert(LV_REC_EXPIRY == 8 && LV_REC_TMS == 16 && LV_REC_QOS2 == 32, "the order of bits");
  uint32_t n = r->size - LV_REC_HEAD - r->pad - r->pid_len - r->props_len - ext[r->flags >> 3 & 7];
  n += (r->key_off == 0) - (uint32_t)(r->key_off != 0 && r->key_off != LV_REC_NO_KEY);
  if (__builtin_expect(r->props_len != 0, 0)) n += lv__use_props(lv_rec_props(r));
  return (lv_use){lv_use_steps(n), n};
}
static inline void lv_use_add(lv_use_sum *sum, lv_use u) {
  sum->steps += u.steps;
  sum->bytes += u.bytes;
}
/* Deliveries of this row's app. @thread that of the set */
static inline void lv_use_out(lv_metrics *row, uint64_t steps, uint64_t bytes) {
  lv_count(row, LV_C_USE_OUT, steps);
  lv_count(row, LV_C_USE_OUT_BYTES, bytes);
}

/* ---- connection-minutes ---- */

/* A client of an app is connected, on the loop whose base set this is; returns what
 * lv_use_disconnect wants. A connection counts one minute at once (within a second), and another
 * whenever it has lasted whole minutes more: rounded up, to the second, in the client's favour.
 * O(1), and nothing is walked but apps. @thread that of the set */
uint32_t lv_use_connect(lv_metrics *base, uint32_t app_id, lv_mono now);
void lv_use_disconnect(lv_metrics *base, uint32_t app_id, uint32_t since, lv_mono now);
/* To be called each second; late is fine. @thread that of the set */
void lv_use_tick(lv_metrics *base, lv_mono now);

/* ---- sums ---- */

/* Apps with sums of their own: places 1 … LV_KPI_APPS_MAX, `_other` behind them (metric.h). */
enum { LV_USAGE_APPS = LV_KPI_APPS_MAX + 2 };
/* All counters since the process began, by place. @thread any */
void lv_usage_sum(lv_usage *ret_by_app);
/* Name of the app at a place; NULL: there is none. @thread any */
const char *lv_usage_app(uint32_t place);

#endif
