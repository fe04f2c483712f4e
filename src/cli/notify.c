/* notify.c: see notify.h. By hand, since it is one sendto: libsystemd would be a dependency of the
 * server for that. A send that fails is not worth more than a line of log: the manager finds out.
 */
#include "cli/notify.h"
#include "core/err.h"
#include "core/log.h"
#include "core/slice.h"
#include "core/time.h"
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void tell(const lv_notify *n, const char *text) {
  if (n->fd < 0) return;
  if (send(n->fd, text, strlen(text), MSG_NOSIGNAL) < 0)
    lv_log(LV_WARN, "the service manager could not be told error=%s", lv_strerror(errno));
}

/* WATCHDOG_USEC is meant for the process in WATCHDOG_PID, if that is set. */
static bool watched(void) {
  const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
  uint64_t v;
  if (!usec || lv_slice_u64(lv_slice_str(usec), &v) || v == 0) return false;
  return !pid || (lv_slice_u64(lv_slice_str(pid), &v) == 0 && v == (uint64_t)getpid());
}

void lv_notify_open(lv_notify *n) {
  struct sockaddr_un a = {.sun_family = AF_UNIX};
  const char *path = getenv("NOTIFY_SOCKET");
  *n = (lv_notify){.fd = -1};
  size_t len = path ? strlen(path) : 0;
  if (len < 2 || len >= sizeof a.sun_path || (path[0] != '/' && path[0] != '@')) return;
  memcpy(a.sun_path, path, len);
  if (path[0] == '@') a.sun_path[0] = '\0'; /* the abstract name space */
  n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
  if (n->fd >= 0 && connect(n->fd, (struct sockaddr *)&a, size) == 0) {
    n->watchdog = watched();
    return;
  }
  lv_log(LV_WARN, "no service manager at NOTIFY_SOCKET error=%s", lv_strerror(errno));
  lv_notify_close(n);
}

void lv_notify_close(lv_notify *n) {
  if (n->fd >= 0) (void)close(n->fd);
  n->fd = -1;
}

void lv_notify_ready(const lv_notify *n, const char *status) {
  char text[320];
  snprintf(text, sizeof text, "READY=1\nSTATUS=%.256s", status);
  tell(n, text);
}

void lv_notify_reloading(const lv_notify *n) {
  char text[96];
  snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%" PRId64, lv_mono_now().ns / 1000);
  tell(n, text);
}

void lv_notify_stopping(const lv_notify *n) {
  tell(n, "STOPPING=1\nSTATUS=draining");
}

void lv_notify_alive(const lv_notify *n) {
  if (n->watchdog) tell(n, "WATCHDOG=1");
}
