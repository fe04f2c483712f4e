/* err.c: the error table of err.h as arrays, indexed by -1000 - err. Constant data, any thread. */
#include "core/err.h"
#include <errno.h>
#include <string.h>

typedef struct row {
  const char *name, *text;
  uint16_t http, close;
  uint8_t mqtt;
  bool retriable;
} row;

static const row table[LV_EI_COUNT] = {
#define X(name, text, http, mqtt, close, retriable) {#name, text, http, close, mqtt, retriable},
    LV_ERRORS(X)
#undef X
};
static const row ok_row = {"OK", "ok", 200, 1000, 0x00, false};
static const row unknown_row = {"UNKNOWN", "unknown error", 500, 1011, 0x80, false};

static const row *find(int err) {
  if (err == 0) return &ok_row;
  if (err > -1000 || err <= -1000 - LV_EI_COUNT) return &unknown_row;
  return &table[-1000 - err];
}

const char *lv_err_name(int err) {
  return find(err)->name;
}

const char *lv_err_text(int err) {
  return find(err)->text;
}

int lv_err_http(int err) {
  return find(err)->http;
}

uint8_t lv_err_mqtt(int err) {
  return find(err)->mqtt;
}

int lv_err_close(int err) {
  return find(err)->close;
}

bool lv_err_retriable(int err) {
  return find(err)->retriable;
}

int lv_err_from_errno(int eno) {
  switch (eno < 0 ? -eno : eno) {
  case 0: return 0;
  case ENOMEM: return LV_E_NOMEM;
  case ENOSPC:
  case EDQUOT: return LV_E_DISK_FULL;
  case EINVAL:
  case ENAMETOOLONG:
  case ENOTDIR:
  case EISDIR: return LV_E_INVALID;
  case ENOENT: return LV_E_NOT_FOUND;
  case EEXIST: return LV_E_EXISTS;
  case EACCES:
  case EPERM:
  case EROFS: return LV_E_FORBIDDEN;
  case EFBIG:
  case EMSGSIZE:
  case E2BIG: return LV_E_TOO_BIG;
  case EAGAIN:
  case EBUSY:
  case EMFILE:
  case ENFILE:
  case ENOBUFS: return LV_E_BUSY;
  case EPIPE:
  case ECONNRESET:
  case ECONNABORTED:
  case ENOTCONN:
  case ESHUTDOWN: return LV_E_CLOSED;
  case ETIMEDOUT: return LV_E_TIMEOUT;
  case ENOSYS:
  case EOPNOTSUPP: return LV_E_UNSUPPORTED;
  default: return LV_E_IO;
  }
}

const char *lv_strerror(int eno) {
  static _Thread_local char buf[128];
  return strerror_r(eno < 0 ? -eno : eno, buf, sizeof buf);
}
