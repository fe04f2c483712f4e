/* wslay_bench.c: wslay (libwslay-dev) at what ws_bench measures: heap bytes of a server's context,
 * and ns a masked text frame out of reads of 16 KiB. Built where wslay is installed.
 * Usage: wslay_bench [ROUND_MS] */
#include "ws_stream.h"
#include <malloc.h>
#include <wslay/wslay.h>

enum { CONTEXTS = 1000 };

typedef struct rd {
  const stream *s;
  uint32_t at, got;
} rd;

static ssize_t on_recv(wslay_event_context_ptr ctx, uint8_t *buf, size_t len, int flags,
                       void *arg) {
  rd *r = arg;
  size_t n = r->s->n - r->at;
  (void)flags;
  if (n == 0) {
    wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
    return -1;
  }
  if (n > len) n = len;
  memcpy(buf, r->s->bytes + r->at, n);
  r->at += (uint32_t)n;
  return (ssize_t)n;
}
static void on_msg(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *m,
                   void *arg) {
  (void)ctx;
  (void)m;
  ((rd *)arg)->got++;
}

static const struct wslay_event_callbacks calls = {.recv_callback = on_recv,
                                                   .on_msg_recv_callback = on_msg};

static wslay_event_context_ptr context(rd *r) {
  wslay_event_context_ptr ctx;
  if (wslay_event_context_server_init(&ctx, &calls, r)) abort();
  return ctx;
}

static double frames(const stream *s, double round_ns) {
  double best = 1e18;
  rd r = {s, 0, 0};
  wslay_event_context_ptr ctx = context(&r);
  for (int i = 0; i < ROUNDS; i++) {
    double start = now_ns(), end = start;
    for (r.got = 0; end - start < round_ns; end = now_ns())
      for (int k = 0; k < 20; k++) {
        uint32_t had = r.got;
        r.at = 0;
        if (wslay_event_recv(ctx) || r.got - had != s->frames) abort();
      }
    if ((end - start) / r.got < best) best = (end - start) / r.got;
  }
  wslay_event_context_free(ctx);
  return best;
}

int main(int argc, char **argv) {
  static wslay_event_context_ptr many[CONTEXTS];
  static stream s;
  static const uint32_t sizes[] = {16, 128, 1024};
  double round_ns = (argc > 1 ? strtod(argv[1], NULL) : 50) * 1e6;
  rd r = {&s, 0, 0};
  size_t before = mallinfo2().uordblks;
  for (int i = 0; i < CONTEXTS; i++) many[i] = context(&r);
  printf("%-42s %7zu B\n", "wslay: a connection's context",
         (mallinfo2().uordblks - before) / CONTEXTS);
  for (int i = 0; i < CONTEXTS; i++) wslay_event_context_free(many[i]);
  for (int i = 0; i < 3; i++) {
    stream_make(&s, sizes[i]);
    printf("wslay: a masked text frame of %4u B %15.1f ns\n", sizes[i], frames(&s, round_ns));
  }
  return 0;
}
