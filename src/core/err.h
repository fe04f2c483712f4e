/* err.h: every error of the product, in one table.
 *
 * Functions return 0 or a negative `lv_err`. Results go to `ret_` parameters, which stay untouched
 * on failure. The table gives each error its name, a text for people, the HTTP status, the MQTT 5
 * reason code and the WebSocket close code that a client sees, and whether trying again can help.
 * Modules return errors; the edge (a connection, the CLI) logs or reports them, once.
 *
 * X(name, text, http, mqtt, close, retriable) */
#ifndef LV_CORE_ERR_H
#define LV_CORE_ERR_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LV_ERRORS(X)                                                                               \
  X(NOMEM, "out of memory", 503, 0x97, 1013, true)                                                 \
  X(INVALID, "invalid argument", 400, 0x83, 1008, false)                                           \
  X(MALFORMED, "malformed packet", 400, 0x81, 1002, false)                                         \
  X(PROTOCOL, "protocol error", 400, 0x82, 1002, false)                                            \
  X(TOO_BIG, "too large", 413, 0x95, 1009, false)                                                  \
  X(NEED_MORE, "more bytes needed", 400, 0x81, 1002, true)                                         \
  X(VERSION, "unsupported protocol version", 505, 0x84, 1002, false)                               \
  X(CLIENT_ID, "client identifier not valid", 400, 0x85, 1008, false)                              \
  X(BAD_AUTH, "unknown user or wrong key", 401, 0x86, 1008, false)                                 \
  X(FORBIDDEN, "not authorized", 403, 0x87, 1008, false)                                           \
  X(BUSY, "server busy", 503, 0x89, 1013, true)                                                    \
  X(SHUTDOWN, "server shutting down", 503, 0x8B, 1012, true)                                       \
  X(AUTH_METHOD, "bad authentication method", 401, 0x8C, 1008, false)                              \
  X(KEEP_ALIVE, "keep-alive timeout", 408, 0x8D, 1001, true)                                       \
  X(TAKEN_OVER, "session taken over", 409, 0x8E, 1008, false)                                      \
  X(FILTER, "topic filter invalid", 400, 0x8F, 1008, false)                                        \
  X(TOPIC, "topic name invalid", 400, 0x90, 1008, false)                                           \
  X(RECEIVE_MAX, "receive maximum exceeded", 429, 0x93, 1008, false)                               \
  X(TOPIC_ALIAS, "topic alias invalid", 400, 0x94, 1008, false)                                    \
  X(RATE, "message rate too high", 429, 0x96, 1008, true)                                          \
  X(QUOTA, "quota exceeded", 429, 0x97, 1008, true)                                                \
  X(PAYLOAD, "payload format invalid", 422, 0x99, 1007, false)                                     \
  X(NOT_FOUND, "not found", 404, 0x90, 1008, false)                                                \
  X(EXISTS, "already exists", 409, 0x83, 1008, false)                                              \
  X(DISK_FULL, "no space left on the log's disk", 503, 0x97, 1013, true)                           \
  X(IO, "input/output error", 503, 0x83, 1011, true)                                               \
  X(CORRUPT, "data failed its checksum", 500, 0x83, 1011, false)                                   \
  X(FORMAT, "format written by another version", 500, 0x83, 1011, false)                           \
  X(LOCKED, "data folder in use by another process", 503, 0x83, 1011, false)                       \
  X(CLOSED, "closed", 503, 0x8B, 1001, true)                                                       \
  X(GONE, "no longer retained", 410, 0x83, 1008, false)                                            \
  X(EPOCH, "position of another epoch", 410, 0x83, 1008, false)                                    \
  X(CONFIG, "configuration invalid", 400, 0x83, 1008, false)                                       \
  X(TIMEOUT, "timed out", 504, 0x8D, 1001, true)                                                   \
  X(EXPIRED, "credential expired", 401, 0x87, 1008, false)                                         \
  X(UNSUPPORTED, "not supported by this cluster type", 501, 0x83, 1008, false)                     \
  X(NESTING, "nested deeper than 128 levels", 422, 0x99, 1007, false)                              \
  X(SURROGATE, "lone surrogate in a JSON string", 422, 0x99, 1007, false)

enum lv_err_index {
#define X(name, text, http, mqtt, close, retriable) LV_EI_##name,
  LV_ERRORS(X)
#undef X
      LV_EI_COUNT
};

/* Negative error numbers: LV_E_NOMEM, LV_E_INVALID, … ; -1000 downwards, clear of -errno. */
enum lv_err {
#define X(name, text, http, mqtt, close, retriable) LV_E_##name = -1000 - LV_EI_##name,
  LV_ERRORS(X)
#undef X
};

/* "DISK_FULL" for LV_E_DISK_FULL; "OK" for 0; "UNKNOWN" for what is not in the table. @thread any
 */
const char *lv_err_name(int err);
/* The text for people; never NULL. @thread any */
const char *lv_err_text(int err);
/* HTTP status, MQTT 5 reason code (OASIS MQTT 5.0 §2.4), WebSocket close code (RFC 6455 §7.4.1).
 * @thread any */
int lv_err_http(int err);
uint8_t lv_err_mqtt(int err);
int lv_err_close(int err);
/* Whether the same request may succeed later. @thread any */
bool lv_err_retriable(int err);
/* Maps an errno (ENOSPC, EDQUOT, EIO, ENOMEM, …) to an lv_err. @thread any */
int lv_err_from_errno(int eno);
/* Thread-safe strerror: the text is static or in a thread-local buffer. @thread any */
const char *lv_strerror(int eno);

#endif
