/* hub_msg.c: what goes over the wire: requests and answers, frames, payloads and their books. */
#include "hub_int.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { AT_STREAM = 21, AT_SEQ = 32, AT_TIME = 47, AT_PAD = 70 };

/* ---- out ---- */

size_t hu_request_put(hu_run *run, const hu_conn *conn, uint8_t *dst) {
  const char *since = "", *pos = "";
  if (run->pos) {
    since = "&since=";
    pos = run->pos[conn->index][0] ? run->pos[conn->index] : "start";
  }
  return (size_t)snprintf((char *)dst, sizeof run->out,
                          "GET %s%s%s HTTP/1.1\r\nHost: %s:%s\r\nUpgrade: websocket\r\n"
                          "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                          "Sec-WebSocket-Version: 13\r\n\r\n",
                          run->opt.sub_path, since, pos, run->opt.host, run->opt.port);
}

static void hex_put(char *p, uint64_t v, uint32_t n) {
  while (n--) {
    p[n] = "0123456789abcdef"[v & 15];
    v >>= 4;
  }
}

/* A request is written once; what differs from message to message has its place in it. */
static void post_prepare(const hu_run *run, uint32_t stream, hu_post *post) {
  const hu_opts *o = &run->opt;
  char once[64] = "";
  if (o->once) {
    int n = snprintf(once, sizeof once, "Idempotency-Key: %08x-%04x-", run->run_mark, stream);
    (void)snprintf(once + n, sizeof once - (size_t)n, "00000000\r\n");
  }
  post->text = malloc(1024 + o->size);
  if (!post->text) abort();
  int head = snprintf(post->text, 1024,
                      "POST %s HTTP/1.1\r\nHost: %s:%s\r\nContent-Type: application/json\r\n"
                      "Content-Length: %u\r\n%s\r\n",
                      o->pub_path, o->host, o->port, o->size, once);
  if (head >= 1024) abort();
  post->payload = post->text + head;
  post->once = o->once ? post->payload - 12 : NULL;
  post->n = (uint32_t)head + o->size;
  int n = snprintf(post->payload, o->size, "%s%04x\",\"n\":\"%08x\",\"t\":\"%016x\",\"x\":\"",
                   run->head, stream, 0, 0);
  memset(post->payload + n, 'a', o->size - (size_t)n);
  memcpy(post->payload + o->size - 2, "\"}", 2);
}

const char *hu_post_of(hu_run *run, uint32_t stream, size_t *ret_n) {
  hu_stream *st = &run->streams[stream];
  hu_post *post = &st->post;
  if (!post->text) post_prepare(run, stream, post);
  if (post->once) hex_put(post->once, st->sent - 1, 8);
  hex_put(post->payload + AT_SEQ, st->sent - 1, 8);
  hex_put(post->payload + AT_TIME, (uint64_t)st->intended_ns, 16);
  *ret_n = post->n;
  return post->text;
}

/* ---- in: answers ---- */

/* The length of a whole HTTP answer in [p, p+n), 0 when more is needed, -1 when malformed. */
static int64_t answer(const uint8_t *p, size_t n, int *ret_status) {
  const char *end = memmem(p, n, "\r\n\r\n", 4);
  if (!end) return n > 16384 ? -1 : 0;
  size_t head = (size_t)(end - (const char *)p) + 4;
  if (head < 16 || memcmp(p, "HTTP/1.1 ", 9) != 0) return -1;
  *ret_status = (int)strtol((const char *)p + 9, NULL, 10);
  unsigned long body = 0;
  for (const char *at = (const char *)p; at < end;) {
    const char *line = memmem(at, (size_t)(end + 2 - at), "\r\n", 2);
    if (!line) break;
    at = line + 2;
    if (end - at > 15 && strncasecmp(at, "Content-Length:", 15) == 0)
      body = strtoul(at + 15, NULL, 10);
  }
  return head + body <= n ? (int64_t)(head + body) : 0;
}

static int64_t take_answers(hu_run *run, hu_conn *conn, const uint8_t *p, size_t n) {
  size_t used = 0;
  while (used < n) {
    int status;
    int64_t k = answer(p + used, n - used, &status);
    if (k < 0 || (k > 0 && !conn->busy)) return -1;
    if (k == 0) break;
    used += (size_t)k;
    hu_stream *st = &run->streams[conn->index];
    conn->busy = false;
    st->acked = true;
    if (status < 200 || status > 299)
      run->nacked++;
    else
      run->now.acked++;
    run->progress_ns = hu_now_ns();
    if (run->measuring) lg_hist_add(&run->ack_latency, run->progress_ns - st->intended_ns);
    hu_publish_next(run, conn);
  }
  return (int64_t)used;
}

/* ---- in: messages ---- */

static uint64_t hex(const uint8_t *p, uint32_t n) {
  uint64_t v = 0;
  for (uint32_t i = 0; i < n; i++) v = v << 4 | (uint64_t)((p[i] & 15) + (p[i] >> 6) * 9);
  return v;
}

/* Where the payload lies in a frame, or NULL. */
static const uint8_t *find(hu_run *run, const uint8_t *p, size_t n) {
  uint32_t size = run->opt.size;
  const uint8_t *b = n >= size + run->tail ? p + n - run->tail - size : NULL;
  if (b && memcmp(b, run->head, HU_HEAD_N) == 0) return b;
  b = memmem(p, n, run->head, HU_HEAD_N);
  if (!b) return NULL;
  size_t rest = (size_t)(p + n - b);
  if (rest < size) return NULL;
  run->tail = (uint32_t)(rest - size);
  return b;
}

static void note_pos(hu_run *run, const hu_conn *conn, const uint8_t *p, size_t n) {
  const uint8_t *at = memmem(p, n, "\"pos\":\"", 7);
  uint32_t k = 0;
  if (!at) return;
  for (at += 7; at < p + n && *at != '"' && k + 1 < HU_POS_MAX; at++)
    run->pos[conn->index][k++] = (char)*at;
  run->pos[conn->index][k] = 0;
}

static void see(hu_run *run, hu_conn *conn, const uint8_t *p, size_t n, int64_t now_ns) {
  const uint8_t *b = find(run, p, n);
  if (!b) {
    run->other++;
    if (memmem(p, n, "\"typ\":9,", 8)) run->gaps++;
    return;
  }
  uint32_t stream = (uint32_t)hex(b + AT_STREAM, 4), seq = (uint32_t)hex(b + AT_SEQ, 8), from;
  int64_t intended_ns = (int64_t)hex(b + AT_TIME, 16);
  run->now.received++;
  if (stream >= run->opt.pubs || seq >= run->streams[stream].sent || b[AT_PAD] != 'a' ||
      b[run->opt.size - 1] != '}') {
    run->corrupt++;
    return;
  }
  if (run->pos) note_pos(run, conn, p, (size_t)(b - p));
  lg_row *row = &conn->rows[stream];
  if (lg_ledger_see(&run->ledger, row, seq, &from) == LG_DUPLICATE) return;
  if (conn->watched && intended_ns >= run->start_ns &&
      (run->end_ns == 0 || intended_ns < run->end_ns))
    lg_hist_add(&run->latency, now_ns - intended_ns);
  if (run->opt.mode != HU_LOAD && row->next == run->opt.messages && !row->missing) {
    conn->caught = 1;
    run->caught_up++;
  }
  hu_stream *st = &run->streams[stream];
  if (seq + 1 != st->sent || ++st->seen < run->listeners) return;
  run->progress_ns = now_ns;
  hu_publish_next(run, hu_pub(run, stream));
}

static int64_t take_frames(hu_run *run, hu_conn *conn, const uint8_t *p, size_t n) {
  size_t used = 0;
  int64_t now_ns = hu_now_ns();
  while (n - used >= 2) {
    const uint8_t *f = p + used;
    uint64_t len = f[1] & 0x7f;
    size_t head = 2;
    if (f[1] & 0x80 || f[0] & 0x70 || !(f[0] & 0x80)) return -1; /* masked, compressed, in pieces */
    if (len == 126) {
      if (n - used < 4) break;
      len = (uint64_t)f[2] << 8 | f[3];
      head = 4;
    } else if (len == 127) {
      if (n - used < 10) break;
      len = 0;
      for (int i = 2; i < 10; i++) len = len << 8 | f[i];
      head = 10;
    }
    if (n - used < head + len) break;
    uint8_t op = f[0] & 15;
    if (op == 8) return -1;
    if (op < 8) see(run, conn, f + head, len, now_ns);
    used += head + len;
  }
  return (int64_t)used;
}

int64_t hu_take(hu_run *run, hu_conn *conn, const uint8_t *p, size_t n) {
  if (conn->pub) return take_answers(run, conn, p, n);
  int64_t head = 0;
  if (conn->state == HU_OPENING) {
    int status = 0;
    head = answer(p, n, &status);
    if (head <= 0) return head;
    if (status != 101) return -1;
    conn->state = HU_READY;
    run->opening--;
    run->ready++;
  }
  int64_t used = take_frames(run, conn, p + head, n - (size_t)head);
  return used < 0 ? -1 : used + head;
}
