/* test_http.c: HTTP/1.1 server connections over real sockets: routing, pipelining, bodies, every
 * refusal, deadlines, ways to smuggle, byte by byte, asynchronous answers, draining. */
#include "net/http_ops.h"
#include "net_test.h"
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct web {
  rig r;
  lv_router *router;
  lv_http_server server;
  lv_http_ops ops;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  lv_http_call *waiting; /* of /later */
  uint64_t n_waiting, n_calls;
} web;

static void count(web *w) {
  pthread_mutex_lock(&w->lock);
  w->n_calls++;
  pthread_mutex_unlock(&w->lock);
}

static void hello(lv_http_call *call, void *arg) {
  count(arg);
  lv_http_answer_text(call, 200, "hello\n");
}

static void echo(lv_http_call *call, void *arg) {
  count(arg);
  lv_http_answer a = {.status = 200, .content_type = LV_SLICE("x/y"), .body = call->body};
  lv_http_answer_send(call, &a);
}

static void params(lv_http_call *call, void *arg) {
  char text[100];
  count(arg);
  snprintf(text, sizeof text, "%.*s|%.*s|%.*s", (int)call->params[0].n,
           (const char *)call->params[0].p, (int)call->params[1].n, (const char *)call->params[1].p,
           (int)call->req.query.n, (const char *)call->req.query.p);
  lv_http_answer_text(call, 200, text);
}

static void special(lv_http_call *call, void *arg) {
  count(arg);
  lv_http_answer_text(call, 200, "special");
}

static void big(lv_http_call *call, void *arg) {
  lv_block *b = lv_block_new(4 << 20);
  memset(b->data, 'b', 4 << 20);
  count(arg);
  lv_http_answer a = {.status = 200, .body = lv_slice_of(b->data, 4 << 20), .block = b};
  lv_http_answer_send(call, &a);
}

static void bad_field(lv_http_call *call, void *arg) {
  lv_http_header evil = {LV_SLICE("X-Evil"), LV_SLICE("a\r\nSet-Cookie: b")};
  lv_http_answer a = {.status = 200, .headers = &evil, .n_headers = 1};
  count(arg);
  lv_http_answer_send(call, &a);
}

static void nothing(lv_http_call *call, void *arg) {
  lv_http_answer a = {.status = 204};
  count(arg);
  lv_http_answer_send(call, &a);
}

static void later(lv_http_call *call, void *arg) {
  web *w = arg;
  pthread_mutex_lock(&w->lock);
  w->waiting = call;
  w->n_waiting++;
  w->n_calls++;
  pthread_cond_broadcast(&w->changed);
  pthread_mutex_unlock(&w->lock);
}

static void busy(lv_http_call *call, void *arg) {
  count(arg);
  lv_http_answer_err(call, LV_E_DISK_FULL);
}

/* ---- an upgrade to a protocol that echoes whole lines, upside down as it were ---- */

static uint32_t line_bytes(lv_conn *c, const uint8_t *p, uint32_t n) {
  const uint8_t *nl = memchr(p, '\n', n);
  uint32_t k = nl ? (uint32_t)(nl - p) + 1 : 0;
  if (!k) return 0;
  uint8_t *dst = lv_outq_put(&c->outq, k, 0, (lv_mono){0});
  for (uint32_t i = 0; i < k - 1; i++) dst[i] = p[k - 2 - i];
  dst[k - 1] = '\n';
  lv_conn_dirty(c);
  return k;
}

static void line_close(lv_conn *c, int err) {
  (void)err;
  count(c->data);
}

static const lv_conn_ops line_ops = {
    .name = "line", .gauge = LV_G_CONNS_MQTT, .on_bytes = line_bytes, .on_close = line_close};

static void upgrade_now(lv_loop *loop, void *arg) {
  static const lv_http_header fields[] = {{LV_SLICE("Connection"), LV_SLICE("Upgrade")},
                                          {LV_SLICE("Upgrade"), LV_SLICE("lines")}};
  lv_http_call *call = arg;
  (void)loop;
  (void)lv_http_upgrade(call, fields, 2, &line_ops, call->route->arg);
}

static void upgrade(lv_http_call *call, void *arg) {
  (void)arg;
  upgrade_now(call->loop, call);
}

static lv_http_call *wait_call(web *w, uint64_t n) {
  pthread_mutex_lock(&w->lock);
  while (w->n_waiting < n) pthread_cond_wait(&w->changed, &w->lock);
  lv_http_call *call = w->waiting;
  pthread_mutex_unlock(&w->lock);
  return call;
}

static void answer_now(lv_loop *loop, void *arg) {
  (void)loop;
  lv_http_answer_text(arg, 200, "late");
}

static void web_open(web *w) {
  memset(w, 0, sizeof *w);
  pthread_mutex_init(&w->lock, NULL);
  pthread_cond_init(&w->changed, NULL);
  rig_init(&w->r, 1);
  w->router = lv_router_new();
  lv_router_add(w->router, (lv_route){LV_HTTP_GET, "/hello", hello, w, 0});
  lv_router_add(w->router, (lv_route){LV_HTTP_POST, "/echo", echo, w, 100000});
  lv_router_add(w->router, (lv_route){LV_HTTP_GET, "/p/{a}/x/{b}", params, w, 0});
  lv_router_add(w->router, (lv_route){LV_HTTP_GET, "/p/here/x/{b}", special, w, 0});
  lv_router_add(w->router, (lv_route){LV_HTTP_GET, "/big", big, w, 0});
  lv_router_add(w->router, (lv_route){LV_HTTP_GET, "/evil", bad_field, w, 0});
  lv_router_add(w->router, (lv_route){LV_HTTP_DELETE, "/nothing", nothing, w, 0});
  lv_router_add(w->router, (lv_route){LV_HTTP_GET, "/later", later, w, 0});
  lv_router_add(w->router, (lv_route){LV_HTTP_GET, "/busy", busy, w, 0});
  lv_router_add(w->router, (lv_route){LV_HTTP_GET, "/lines", upgrade, w, 0});
  lv_http_ops_routes(&w->ops, w->router);
  lv_http_server_init(&w->server, w->router, &w->r.conf);
}

static void web_listen(web *w) {
  lv_accept accept[LV_PROTO_COUNT] = {0};
  accept[LV_PROTO_HTTP] = (lv_accept){lv_http_on_accept, &w->server};
  w->r.listens[0].proto = LV_PROTO_HTTP;
  int rc = lv_net_open(w->r.loops, 1, &w->r.conf, accept, &w->r.net, w->r.why);
  if (rc) fail_msg("%s", w->r.why);
}

static void web_start(web *w) {
  web_open(w);
  web_listen(w);
}

static void web_close(web *w) {
  rig_close(&w->r);
  lv_router_free(w->router);
}

static void puts_to(int fd, const char *s) {
  put(fd, s, strlen(s));
}

/* ---- a reader of answers ---- */

typedef struct reply {
  int status;
  char head[4096];
  char *body;
  size_t body_n;
} reply;

static void read_reply(int fd, bool head_only, reply *ret) {
  size_t n = 0;
  do {
    assert_true(n < sizeof ret->head - 1);
    get(fd, ret->head + n, 1);
    ret->head[++n] = 0;
  } while (n < 4 || memcmp(ret->head + n - 4, "\r\n\r\n", 4) != 0);
  assert_int_equal(sscanf(ret->head, "HTTP/1.1 %d ", &ret->status), 1);
  const char *len = strstr(ret->head, "Content-Length: ");
  ret->body_n = len && !head_only ? strtoul(len + 16, NULL, 10) : 0;
  ret->body = malloc(ret->body_n + 1);
  get(fd, ret->body, ret->body_n);
  ret->body[ret->body_n] = 0;
}

static void expect(int fd, int status, const char *body) {
  reply a;
  read_reply(fd, false, &a);
  assert_int_equal(a.status, status);
  if (body) assert_string_equal(a.body, body);
  free(a.body);
}

static void expect_end(int fd) {
  uint8_t b[64];
  long n = get_end(fd, b, sizeof b);
  if (n > 0) fail_msg("more: %.*s", (int)n, (char *)b);
  assert_int_equal(n, 0);
}

/* Sends `raw` on a connection of its own; expects that status, then (if closes) the end. */
static void one(web *w, const char *raw, int status, bool closes) {
  int fd = dial_rig(&w->r);
  puts_to(fd, raw);
  reply a;
  read_reply(fd, false, &a);
  if (a.status != status) fail_msg("%d instead of %d for: %.60s", a.status, status, raw);
  assert_int_equal(strstr(a.head, "Connection: close") != NULL, closes);
  assert_non_null(strstr(a.head, "Date: "));
  free(a.body);
  if (closes) expect_end(fd);
  close(fd);
}

/* ---- tests ---- */

static void serves(void **state) {
  (void)state;
  web w;
  web_start(&w);
  int fd = dial_rig(&w.r);
  puts_to(fd, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
  expect(fd, 200, "hello\n");
  puts_to(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde");
  expect(fd, 200, "abcde");
  puts_to(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
              "3\r\nabc\r\n2;e=1\r\nde\r\n0\r\nT: v\r\n\r\n");
  expect(fd, 200, "abcde");
  puts_to(fd, "POST /echo HTTP/1.1\r\nHost: x\r\n\r\n");
  expect(fd, 200, "");
  puts_to(fd, "GET /p/one/x/t%2Fo?k=v HTTP/1.1\r\nHost: x\r\n\r\n");
  expect(fd, 200, "one|t%2Fo|k=v");
  puts_to(fd, "GET /p/here/x/y HTTP/1.1\r\nHost: x\r\n\r\n");
  expect(fd, 200, "special");
  reply a;
  puts_to(fd, "HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\n");
  read_reply(fd, true, &a);
  assert_int_equal(a.status, 200);
  assert_non_null(strstr(a.head, "Content-Length: 6\r\n"));
  free(a.body);
  puts_to(fd, "DELETE /nothing HTTP/1.1\r\nHost: x\r\n\r\n");
  read_reply(fd, false, &a);
  assert_int_equal(a.status, 204);
  assert_null(strstr(a.head, "Content-Length"));
  free(a.body);
  puts_to(fd, "GET /busy HTTP/1.1\r\nHost: x\r\n\r\n");
  read_reply(fd, false, &a);
  assert_int_equal(a.status, 503);
  assert_non_null(strstr(a.head, "Retry-After: "));
  free(a.body);
  puts_to(fd, "GET /evil HTTP/1.1\r\nHost: x\r\n\r\n");
  read_reply(fd, false, &a);
  assert_int_equal(a.status, 500);
  assert_null(strstr(a.head, "Set-Cookie"));
  free(a.body);
  puts_to(fd, "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  expect(fd, 200, "hello\n");
  expect_end(fd);
  close(fd);
  one(&w, "GET /hello HTTP/1.0\r\n\r\n", 200, true);
  one(&w, "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, false);
  web_close(&w);
}

static void methods_and_paths(void **state) {
  (void)state;
  web w;
  web_start(&w);
  reply a;
  one(&w, "GET /none HTTP/1.1\r\nHost: x\r\n\r\n", 404, false);
  one(&w, "GET /hello/ HTTP/1.1\r\nHost: x\r\n\r\n", 404, false);
  one(&w, "GET /p//x/b HTTP/1.1\r\nHost: x\r\n\r\n", 404, false);
  one(&w, "POST /none HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 404, true);
  one(&w, "BREW /hello HTTP/1.1\r\nHost: x\r\n\r\n", 501, true);
  int fd = dial_rig(&w.r);
  puts_to(fd, "POST /hello HTTP/1.1\r\nHost: x\r\n\r\n");
  read_reply(fd, false, &a);
  assert_int_equal(a.status, 405);
  assert_non_null(strstr(a.head, "Allow: GET, HEAD, OPTIONS\r\n"));
  free(a.body);
  puts_to(fd, "OPTIONS /echo HTTP/1.1\r\nHost: x\r\n\r\n");
  read_reply(fd, false, &a);
  assert_int_equal(a.status, 204);
  assert_non_null(strstr(a.head, "Allow: POST, OPTIONS\r\n"));
  free(a.body);
  puts_to(fd, "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n");
  read_reply(fd, false, &a);
  assert_int_equal(a.status, 204);
  free(a.body);
  close(fd);
  web_close(&w);
}

/* What two parties could read differently is refused, and nothing behind it is a request. */
static void smuggling(void **state) {
  static const char *const bad[] = {
      "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
      "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n",
      "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: +4\r\n\r\n",
      "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length : 4\r\n\r\n",
      "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
      "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
      "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd0\r\n\r\n",
      "GET /hello HTTP/1.1\r\n\r\n",
      "GET /hello HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
      "GET /hello HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n",
      "GET /hello HTTP/1.1\nHost: x\n\n",
      "GET  /hello HTTP/1.1\r\nHost: x\r\n\r\n",
      "GET /hel\x01lo HTTP/1.1\r\nHost: x\r\n\r\n",
      "\x16\x03\x01\x02",
  };
  (void)state;
  web w;
  web_start(&w);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    char raw[512];
    snprintf(raw, sizeof raw, "%sGET /hello HTTP/1.1\r\nHost: x\r\n\r\n", bad[i]);
    one(&w, raw, 400, true);
  }
  assert_int_equal(w.n_calls, 0);
  one(&w, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, true);
  one(&w, "GET /hello HTTP/2.0\r\nHost: x\r\n\r\n", 505, true);
  web_close(&w);
}

static char *repeat(const char *before, char c, size_t n, const char *after) {
  size_t b = strlen(before), a = strlen(after);
  char *s = malloc(b + n + a + 1);
  memcpy(s, before, b);
  memset(s + b, c, n);
  memcpy(s + b + n, after, a + 1);
  return s;
}

static void limits(void **state) {
  (void)state;
  web w;
  web_start(&w);
  char *s = repeat("GET /", 'a', 10000, " HTTP/1.1\r\nHost: x\r\n\r\n");
  one(&w, s, 414, true);
  free(s);
  s = repeat("GET /", 'a', 20000, "");
  one(&w, s, 414, true);
  free(s);
  s = repeat("GET /hello HTTP/1.1\r\nHost: x\r\nA: ", 'a', 20000, "\r\n\r\n");
  one(&w, s, 431, true);
  free(s);
  one(&w, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\n", 413, true);
  one(&w, "GET /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na", 413, true);
  s = repeat("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n186A1\r\n", 'a',
             100001, "\r\n0\r\n\r\n");
  one(&w, s, 413, true);
  free(s);
  /* A client that goes on sending its body still reads the refusal. */
  int fd = dial_rig(&w.r);
  puts_to(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n");
  s = repeat("", 'a', 900000, "");
  puts_to(fd, s);
  free(s);
  expect(fd, 413, NULL);
  expect_end(fd);
  close(fd);
  s = repeat("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", 'a', 100000, "");
  one(&w, s, 200, false);
  free(s);
  web_close(&w);
}

static void expectations(void **state) {
  (void)state;
  web w;
  web_start(&w);
  int fd = dial_rig(&w.r);
  reply a;
  puts_to(fd,
          "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
  read_reply(fd, false, &a);
  assert_int_equal(a.status, 100);
  free(a.body);
  puts_to(fd, "abc");
  expect(fd, 200, "abc");
  /* Refused before the body is sent. */
  puts_to(fd,
          "POST /none HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
  expect(fd, 404, NULL);
  expect_end(fd);
  close(fd);
  one(&w, "GET /hello HTTP/1.1\r\nHost: x\r\nExpect: wonders\r\n\r\n", 417, true);
  web_close(&w);
}

static void byte_by_byte(void **state) {
  static const char raw[] =
      "\r\nPOST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
      "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
      "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nwxyz"
      "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";
  (void)state;
  web w;
  web_start(&w);
  int fd = dial_rig(&w.r);
  for (size_t i = 0; i < sizeof raw - 1; i++) put(fd, raw + i, 1);
  expect(fd, 200, "abcde");
  expect(fd, 200, "wxyz");
  expect(fd, 200, "hello\n");
  close(fd);
  web_close(&w);
}

/* Answers come in the order of the requests, also when some come later than others. */
static void pipelining(void **state) {
  (void)state;
  web w;
  web_start(&w);
  int fd = dial_rig(&w.r);
  puts_to(fd, "GET /later HTTP/1.1\r\nHost: x\r\n\r\nGET /hello HTTP/1.1\r\nHost: x\r\n\r\n"
              "GET /later HTTP/1.1\r\nHost: x\r\n\r\nGET /p/1/x/2 HTTP/1.1\r\nHost: x\r\n\r\n");
  lv_http_call *call = wait_call(&w, 1);
  assert_int_equal(w.n_calls, 1);
  lv_loop_call_wait(call->loop, answer_now, call);
  expect(fd, 200, "late");
  expect(fd, 200, "hello\n");
  call = wait_call(&w, 2);
  lv_loop_call_wait(call->loop, answer_now, call);
  expect(fd, 200, "late");
  expect(fd, 200, "1|2|");
  /* A thousand at once; and large answers to one who does not read: bounded, and complete. */
  char *many = malloc(1000 * 40);
  size_t n = 0;
  for (int i = 0; i < 1000; i++)
    n += (size_t)snprintf(many + n, 40, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
  put(fd, many, n);
  for (int i = 0; i < 1000; i++) expect(fd, 200, "hello\n");
  for (int i = 0; i < 5; i++) puts_to(fd, "GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
  for (int i = 0; i < 5; i++) {
    reply a;
    read_reply(fd, false, &a);
    assert_int_equal(a.body_n, 4 << 20);
    assert_int_equal(a.body[(4 << 20) - 1], 'b');
    free(a.body);
  }
  free(many);
  close(fd);
  web_close(&w);
}

static void clients_that_leave(void **state) {
  (void)state;
  web w;
  web_start(&w);
  /* Half-closed: the answer is still wanted, at once or later. */
  int fd = dial_rig(&w.r);
  puts_to(fd, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
  shutdown(fd, SHUT_WR);
  expect(fd, 200, "hello\n");
  expect_end(fd);
  close(fd);
  fd = dial_rig(&w.r);
  puts_to(fd, "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
  shutdown(fd, SHUT_WR);
  lv_http_call *call = wait_call(&w, 1);
  lv_loop_call_wait(call->loop, answer_now, call);
  expect(fd, 200, "late");
  expect_end(fd);
  close(fd);
  /* Cut while its call is open: the answer goes nowhere, and nothing leaks. */
  fd = dial_rig(&w.r);
  puts_to(fd, "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
  call = wait_call(&w, 2);
  assert_int_equal(lv_net_shutdown(w.r.net, 20), 1);
  lv_loop_call_wait(w.r.loops[0], answer_now, call);
  close(fd);
  web_close(&w);
}

static void deadlines(void **state) {
  (void)state;
  web w;
  web_open(&w);
  w.server.head_ms = 60;
  w.server.body_ms = 60;
  w.server.idle_ms = 60;
  web_listen(&w);
  int fd = dial_rig(&w.r); /* silence from the start: an end without a word */
  expect_end(fd);
  close(fd);
  fd = dial_rig(&w.r);
  puts_to(fd, "GET /hello HT"); /* half a head */
  expect(fd, 408, NULL);
  expect_end(fd);
  close(fd);
  fd = dial_rig(&w.r);
  puts_to(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"); /* half a body */
  expect(fd, 408, NULL);
  expect_end(fd);
  close(fd);
  fd = dial_rig(&w.r);
  puts_to(fd, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"); /* idle afterwards */
  expect(fd, 200, "hello\n");
  expect_end(fd);
  close(fd);
  fd = dial_rig(&w.r);
  puts_to(fd, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\nGET /he"); /* the second one dawdles */
  expect(fd, 200, "hello\n");
  expect(fd, 408, NULL);
  expect_end(fd);
  close(fd);
  fd = dial_rig(&w.r); /* more than the kernel takes, and nobody reads it */
  puts_to(fd, "GET /big HTTP/1.1\r\nHost: x\r\n\r\nGET /big HTTP/1.1\r\nHost: x\r\n\r\n"
              "GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
  uint64_t timeouts = lv_metrics_counter(LV_C_CONN_TIMEOUT);
  for (int i = 0; i < 1000 && lv_metrics_counter(LV_C_CONN_TIMEOUT) == timeouts; i++)
    (void)poll(NULL, 0, 10);
  assert_int_equal(lv_metrics_counter(LV_C_CONN_TIMEOUT), timeouts + 1);
  close(fd);
  web_close(&w);
}

/* What follows the request, in the same read or later, is the new protocol's. */
static void upgrades(void **state) {
  static const char *const paths[] = {"/lines", "/later"};
  (void)state;
  web w;
  web_start(&w);
  for (int i = 0; i < 2; i++) {
    char raw[200], line[4];
    reply a;
    int fd = dial_rig(&w.r);
    snprintf(raw, sizeof raw,
             "GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\nabc\n",
             paths[i]);
    puts_to(fd, raw);
    if (i == 1) {
      lv_http_call *call = wait_call(&w, 1);
      lv_loop_call_wait(call->loop, upgrade_now, call);
    }
    read_reply(fd, false, &a);
    assert_int_equal(a.status, 101);
    assert_non_null(strstr(a.head, "Upgrade: lines\r\n"));
    free(a.body);
    get(fd, line, 4);
    assert_memory_equal(line, "cba\n", 4);
    puts_to(fd, "xyz\n");
    get(fd, line, 4);
    assert_memory_equal(line, "zyx\n", 4);
    close(fd);
  }
  web_close(&w);
  assert_int_equal(lv_metrics_gauge(LV_G_CONNS_MQTT), 0);
  assert_int_equal(lv_metrics_gauge(LV_G_CONNS_HTTP), 0);
}

static void operator_routes(void **state) {
  (void)state;
  web w;
  web_start(&w);
  int fd = dial_rig(&w.r);
  reply a;
  puts_to(fd, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
  expect(fd, 200, "ok\n");
  puts_to(fd, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
  expect(fd, 503, "starting\n");
  atomic_store(&w.ops.ready, LV_READY_YES);
  puts_to(fd, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
  expect(fd, 200, "ready\n");
  atomic_store(&w.ops.ready, LV_READY_DRAINING);
  puts_to(fd, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
  expect(fd, 503, "draining\n");
  puts_to(fd, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
  read_reply(fd, false, &a);
  assert_int_equal(a.status, 200);
  assert_non_null(strstr(a.head, "Content-Type: text/plain; version=0.0.4"));
  assert_non_null(strstr(a.body, "lavva_connections{protocol=\"http\"} 1\n"));
  free(a.body);
  close(fd);
  web_close(&w);
}

static void *shut_down(void *net) {
  return (void *)(uintptr_t)lv_net_shutdown(net, 10000);
}

static void draining(void **state) {
  (void)state;
  web w;
  web_start(&w);
  int idle = dial_rig(&w.r), busy_fd = dial_rig(&w.r);
  puts_to(idle, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
  expect(idle, 200, "hello\n");
  puts_to(busy_fd, "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
  lv_http_call *call = wait_call(&w, 1);
  pthread_t t;
  pthread_create(&t, NULL, shut_down, w.r.net);
  expect_end(idle); /* at once */
  close(idle);
  lv_loop_call_wait(call->loop, answer_now, call);
  reply a;
  read_reply(busy_fd, false, &a);
  assert_string_equal(a.body, "late");
  assert_non_null(strstr(a.head, "Connection: close"));
  free(a.body);
  expect_end(busy_fd);
  close(busy_fd);
  void *cut;
  pthread_join(t, &cut);
  assert_null(cut);
  web_close(&w);
}

static void patterns(void **state) {
  (void)state;
  lv_router *r = lv_router_new();
  lv_route_match m;
  lv_router_add(r, (lv_route){LV_HTTP_GET, "/", hello, NULL, 0});
  lv_router_add(r, (lv_route){LV_HTTP_GET, "/v1/{a}", hello, NULL, 0});
  lv_router_add(r, (lv_route){LV_HTTP_PUT, "/v1/{a}", hello, NULL, 0});
  lv_router_add(r, (lv_route){LV_HTTP_POST, "/v1/list", hello, NULL, 0});
  assert_int_equal(lv_router_find(r, LV_HTTP_GET, LV_SLICE("/"), &m), 0);
  assert_int_equal(lv_router_find(r, LV_HTTP_GET, LV_SLICE("/v1"), &m), LV_E_NOT_FOUND);
  assert_int_equal(lv_router_find(r, LV_HTTP_GET, LV_SLICE("/v1/"), &m), LV_E_NOT_FOUND);
  assert_int_equal(lv_router_find(r, LV_HTTP_HEAD, LV_SLICE("/v1/x"), &m), 0);
  assert_int_equal(m.n_params, 1);
  assert_true(lv_slice_eq(m.params[0], LV_SLICE("x")));
  /* A literal beats a parameter for its own method only. */
  assert_int_equal(lv_router_find(r, LV_HTTP_POST, LV_SLICE("/v1/list"), &m), 0);
  assert_string_equal(m.route->pattern, "/v1/list");
  assert_int_equal(lv_router_find(r, LV_HTTP_GET, LV_SLICE("/v1/list"), &m), 0);
  assert_string_equal(m.route->pattern, "/v1/{a}");
  assert_int_equal(lv_router_find(r, LV_HTTP_DELETE, LV_SLICE("/v1/list"), &m), LV_E_UNSUPPORTED);
  char allow[64];
  (void)lv_route_allow(m.allowed, allow, sizeof allow);
  assert_string_equal(allow, "GET, HEAD, POST, PUT, OPTIONS");
  lv_router_free(r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(patterns),
      cmocka_unit_test(serves),
      cmocka_unit_test(methods_and_paths),
      cmocka_unit_test(smuggling),
      cmocka_unit_test(limits),
      cmocka_unit_test(expectations),
      cmocka_unit_test(byte_by_byte),
      cmocka_unit_test(pipelining),
      cmocka_unit_test(clients_that_leave),
      cmocka_unit_test(deadlines),
      cmocka_unit_test(upgrades),
      cmocka_unit_test(operator_routes),
      cmocka_unit_test(draining),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
