/* relay_store.c: the relay's one file. Everything of a turn goes into one pwrite, followed by one
 * fdatasync with --sync. A file that was written once before and is gone round in (--file-size)
 * costs less than one that grows: no blocks are allocated and the metadata stands still. */
#include "relay_int.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int rl_store_open(rl_store *st, const char *path, uint64_t size, bool sync) {
  char why[80];
  st->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  st->sync = sync;
  st->size = size;
  static uint8_t zeros[1 << 20];
  uint64_t at = 0;
  while (st->fd >= 0 && at < size) {
    ssize_t n = pwrite(st->fd, zeros, sizeof zeros, (off_t)at);
    if (n <= 0) break;
    at += (uint64_t)n;
  }
  if (st->fd >= 0 && at >= size && fsync(st->fd) == 0) return 0;
  (void)fprintf(stderr, "lavva-relay: %s: %s\n", path, strerror_r(errno, why, sizeof why));
  return -1;
}

void rl_store_add(rl_store *st, const lg_pub_in *pub) {
  if (st->fd < 0) return;
  uint32_t head[2] = {pub->topic_n, pub->payload_n};
  rl_bytes_room(&st->turn, sizeof head + pub->topic_n + pub->payload_n);
  rl_bytes_add(&st->turn, head, sizeof head);
  rl_bytes_add(&st->turn, pub->topic, pub->topic_n);
  rl_bytes_add(&st->turn, pub->payload, pub->payload_n);
}

void rl_store_commit(rl_store *st) {
  if (st->fd < 0 || st->turn.n == 0) return;
  if (st->size && st->at + st->turn.n > st->size) st->at = 0;
  size_t done = 0;
  while (done < st->turn.n) {
    ssize_t n = pwrite(st->fd, st->turn.p + done, st->turn.n - done, (off_t)(st->at + done));
    if (n <= 0) {
      (void)fprintf(stderr, "lavva-relay: cannot write its file\n");
      exit(74);
    }
    done += (size_t)n;
  }
  st->at += done;
  st->bytes += done;
  st->writes++;
  st->turn.n = 0;
  if (!st->sync) return;
  if (fdatasync(st->fd)) {
    (void)fprintf(stderr, "lavva-relay: cannot sync its file\n");
    exit(74);
  }
  st->syncs++;
}
