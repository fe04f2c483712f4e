/* notify.h: what the service manager (systemd, Type=notify) is told: sd_notify(3)'s protocol, a
 * datagram of NAME=VALUE lines to the socket in $NOTIFY_SOCKET. Without that variable nothing
 * happens. @thread main, for everything. */
#ifndef LV_CLI_NOTIFY_H
#define LV_CLI_NOTIFY_H
#include <stdbool.h>
#include <stdint.h>

typedef struct lv_notify {
  int fd; /* -1: nobody to tell */
  bool watchdog;
} lv_notify;

/* Reads the environment. */
void lv_notify_open(lv_notify *n);
void lv_notify_close(lv_notify *n);
/* Up, and what it does in a few words; also the end of a reload. */
void lv_notify_ready(const lv_notify *n, const char *status);
void lv_notify_reloading(const lv_notify *n);
void lv_notify_stopping(const lv_notify *n);
/* All is well: to be called at least every few seconds while it is. */
void lv_notify_alive(const lv_notify *n);

#endif
