/* conn_io.c: bytes in, bytes out.
 *
 * In: one read a readiness event into the loop's scratch; the protocol parses there, and only what
 * it leaves is copied, into c->in. With something in c->in:
 *
 *   little kept (≤ 4 KiB)      scratch [ kept | read … ]      one more small copy, parsed there
 *   much kept or much wanted   in [ kept | read … ] scratch [ read … ]   one readv; the large
 *                              packet is completed in place, what is behind it stays in scratch
 *
 * c->in grows to at most twice what has arrived, so a header that promises 256 MiB costs nothing,
 * and every byte is copied O(1) times however the peer slices them.
 *
 * Out: one sendmsg of up to 256 ranges, again while the kernel takes all of it.
 *
 * @thread loop */
#include "conn_int.h"
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static uint32_t in_len(const lv_conn *c) {
  return c->in ? c->in->len - c->in->off : 0;
}

static uint32_t min_u32(uint32_t a, uint32_t b) {
  return a < b ? a : b;
}

/* Room for n more bytes behind those kept. */
static void in_reserve(lv_conn *c, uint32_t n) {
  lv__inbuf *in = c->in;
  uint32_t len = in_len(c);
  if (in && in->cap - in->len >= n) return;
  if (in && in->off) {
    memmove(in->data, in->data + in->off, len);
    in->off = 0;
    in->len = len;
    if (in->cap - len >= n) return;
  }
  uint32_t cap = len + n;
  in = realloc(in, sizeof *in + cap);
  if (!in) abort();
  if (!c->in) in->off = in->len = 0;
  in->cap = cap;
  c->in = in;
}

void lv__conn_keep(lv_conn *c, const uint8_t *p, uint32_t n) {
  in_reserve(c, n);
  memcpy(c->in->data + c->in->len, p, n);
  c->in->len += n;
}

static void in_drop(lv_conn *c, uint32_t n) {
  assert(n <= in_len(c));
  c->in->off += n;
  if (c->in->off == c->in->len) {
    free(c->in);
    c->in = NULL;
  }
}

/* Lends n bytes to the protocol; returns how many it consumed. */
static uint32_t lend(lv_conn *c, const uint8_t *p, uint32_t n) {
  uint32_t used = 0;
  const lv_conn_ops *ops = NULL;
  while (used < n && ops != c->ops && c->state == LV__OPEN && !c->paused) {
    ops = c->ops; /* a second time only for the protocol that it was switched to */
    c->want = 0;
    c->eager = 0;
    uint32_t k = ops->on_bytes(c, p + used, n - used);
    assert(k <= n - used);
    used += k;
  }
  return used;
}

/* Kept more than the protocol may leave, and it does not get on. */
static void check_full(lv_conn *c) {
  if (c->state == LV__OPEN && !c->paused && in_len(c) >= c->in_max)
    lv_conn_close(c, LV_E_TOO_BIG, true);
}

/* Bytes in the scratch, nothing kept. */
static void take(lv_conn *c, const uint8_t *p, uint32_t n) {
  assert(!c->in);
  uint32_t used = lend(c, p, n);
  if (used < n && c->state == LV__OPEN) lv__conn_keep(c, p + used, n - used);
}

static void take_kept(lv_conn *c) {
  if (!c->in || (in_len(c) < c->want && !c->eager) || c->state != LV__OPEN || c->paused) return;
  uint32_t used = lend(c, c->in->data + c->in->off, in_len(c));
  if (used) in_drop(c, used);
}

/* read() ended: 0 or an error. */
static void ended(lv_conn *c, int rc) {
  if (rc == -EINTR) return;
  if (rc == -EAGAIN) {
    if (!c->broken) return;
    int eno = 0;
    socklen_t n = sizeof eno;
    (void)getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &eno, &n);
    rc = eno ? -eno : -ECONNRESET;
  }
  if (rc < 0) {
    c->broken = 1;
    lv_conn_close(c, rc, false);
    return;
  }
  c->eof = 1;
  if (!c->broken && c->ops->on_eof && c->ops->on_eof(c))
    lv__conn_poll(c);
  else
    lv_conn_close(c, 0, c->outq.bytes > 0);
}

static int sys_read(lv_conn *c, struct iovec *iov, int n) {
  if (c->ssl) {
    int got = lv__tls_read(c, iov[0].iov_base, (uint32_t)iov[0].iov_len);
    if (n == 1 || got < (int)iov[0].iov_len) return got;
    int more = lv__tls_read(c, iov[1].iov_base, (uint32_t)iov[1].iov_len);
    return more > 0 ? got + more : got; /* an end or error shows again at the next call */
  }
  ssize_t k = n == 1 ? read(c->fd, iov[0].iov_base, iov[0].iov_len) : readv(c->fd, iov, n);
  return k < 0 ? -errno : (int)k;
}

static void read_fresh(lv_conn *c) {
  struct iovec iov = {c->loop->scratch, min_u32(LV__READ_MAX, c->in_max)};
  int n = sys_read(c, &iov, 1);
  if (n > 0)
    take(c, c->loop->scratch, (uint32_t)n);
  else
    ended(c, n);
}

static void read_behind_small(lv_conn *c) {
  uint8_t *p = c->loop->scratch;
  uint32_t kept = in_len(c);
  struct iovec iov = {p + kept, min_u32(LV__READ_MAX, c->in_max - kept)};
  int n = sys_read(c, &iov, 1);
  if (n <= 0) {
    ended(c, n);
    return;
  }
  if (kept + (uint32_t)n < c->want && !c->eager) {
    lv__conn_keep(c, iov.iov_base, (uint32_t)n);
    return;
  }
  memcpy(p, c->in->data + c->in->off, kept);
  uint32_t total = kept + (uint32_t)n, used = lend(c, p, total);
  if (c->state != LV__OPEN) return;
  if (used < kept) {
    in_drop(c, used);
    lv__conn_keep(c, iov.iov_base, (uint32_t)n);
  } else {
    in_drop(c, kept);
    if (used < total) lv__conn_keep(c, p + used, total - used);
  }
}

static void read_behind_large(lv_conn *c) {
  uint32_t kept = in_len(c), want = c->want > kept ? min_u32(c->want, c->in_max) : kept;
  uint32_t room = min_u32(want > kept ? want - kept : LV__READ_MAX, kept + LV__READ_MAX);
  room = min_u32(room, c->in_max - kept);
  in_reserve(c, room);
  struct iovec iov[2] = {{c->in->data + c->in->len, room},
                         {c->loop->scratch, min_u32(LV__READ_MAX, c->in_max - kept - room)}};
  int n = sys_read(c, iov, iov[1].iov_len ? 2 : 1);
  if (n <= 0) {
    ended(c, n);
    return;
  }
  uint32_t first = min_u32((uint32_t)n, room), over = (uint32_t)n - first;
  c->in->len += first;
  take_kept(c);
  if (!over || c->state != LV__OPEN) return;
  if (!c->in && !c->paused) {
    take(c, c->loop->scratch, over);
  } else {
    lv__conn_keep(c, c->loop->scratch, over);
    take_kept(c);
  }
}

void lv__conn_readable(lv_conn *c) {
  uint32_t kept = in_len(c);
  assert(c->state == LV__OPEN && !c->paused && kept < c->in_max);
  if (!kept)
    read_fresh(c);
  else if (kept <= LV__IN_SMALL && c->want <= LV__READ_MAX)
    read_behind_small(c);
  else
    read_behind_large(c);
  check_full(c);
  /* OpenSSL may hold decrypted bytes that no readiness event will announce. */
  if (c->tls_more && c->state == LV__OPEN && !c->paused && !c->eof) {
    c->reoffer = 1;
    if (!c->dirty) lv__conn_dirty(c);
  }
}

void lv__conn_read_rest(lv_conn *c) {
  assert(c->broken);
  while (c->state == LV__OPEN && !c->paused && !c->reoffer) lv__conn_readable(c);
  if (c->state == LV__OPEN && (c->paused & LV_PAUSE_SEND)) lv_conn_close(c, -ECONNRESET, false);
}

void lv__conn_reoffer(lv_conn *c) {
  assert(c->state == LV__OPEN);
  if (c->held && !c->paused) (void)c->ops->on_bytes(c, c->loop->scratch, 0);
  if (c->state == LV__OPEN) take_kept(c);
  check_full(c);
  if (c->tls_more && c->state == LV__OPEN && !c->paused && !c->eof) lv__conn_readable(c);
  if (c->broken && c->state == LV__OPEN) lv__conn_read_rest(c);
}

void lv__conn_discard(lv_conn *c) {
  ssize_t n = read(c->fd, c->loop->scratch, LV__READ_MAX);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0)
    c->eof = 1;
  else
    c->want += (uint32_t)n;
  if (c->want > LV__LINGER_BYTES) c->no_more = 1;
  if (c->eof || c->no_more) lv__conn_poll(c);
}

static void on_sent(void *arg, uint32_t n, lv_mono read_at, lv_use use) {
  lv_conn *c = arg;
  c->ops->on_sent(c, n, read_at, use);
}

int lv__conn_send(lv_conn *c) {
  lv_outq_sent_fn *fn = c->ops->on_sent ? on_sent : NULL;
  while (c->outq.bytes) {
    struct iovec iov[LV__IOV_MAX];
    int n = lv_outq_iov(&c->outq, iov, LV__IOV_MAX);
    size_t total = 0;
    for (int i = 0; i < n; i++) total += iov[i].iov_len;
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)n};
    ssize_t k = n == 1 ? send(c->fd, iov[0].iov_base, iov[0].iov_len, MSG_NOSIGNAL)
                       : sendmsg(c->fd, &msg, MSG_NOSIGNAL);
    if (k < 0 && errno == EINTR) continue;
    if (k < 0 && errno != EAGAIN) return -errno;
    if (k > 0) lv_outq_consume(&c->outq, (uint32_t)k, fn, c);
    if (k < (ssize_t)total) {
      c->writable_wait = 1;
      return 0;
    }
  }
  return 0;
}
