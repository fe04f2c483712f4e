/* wsclient.c: see wsclient.h. Blocking calls with time-outs on the socket, behind a poll for what
 * may take its time. */
#include "cli/wsclient.h"
#include "cli/client.h"
#include "cli/scrape.h"
#include "core/rand.h"
#include "wire/json.h"
#include "wire/ws_open.h"
#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { STEP_MS = 10000, SILENT_MS = 90000, HEAD_ROOM = 16 * 1024 };

static int fail(lv_wsc *w, int err, const char *why) {
  snprintf(w->why, sizeof w->why, "%s", why);
  return err;
}

/* ---- bytes ---- */

static int tls_start(lv_wsc *w, const lv_wsc_to *to) {
  char host[256];
  const char *colon = strrchr(to->address, ':');
  bool bracket = to->address[0] == '[';
  int n = (int)(colon - to->address) - (bracket ? 2 : 0);
  snprintf(host, sizeof host, "%.*s", n, to->address + bracket);
  w->ctx = SSL_CTX_new(TLS_client_method());
  if (!w->ctx) abort();
  SSL_CTX_set_min_proto_version(w->ctx, TLS1_2_VERSION);
  SSL_CTX_set_verify(w->ctx, SSL_VERIFY_PEER, NULL);
  int ok =
      to->ca ? SSL_CTX_load_verify_file(w->ctx, to->ca) : SSL_CTX_set_default_verify_paths(w->ctx);
  if (ok && to->cert)
    ok = SSL_CTX_use_certificate_chain_file(w->ctx, to->cert) &&
         SSL_CTX_use_PrivateKey_file(w->ctx, to->cert_key ? to->cert_key : to->cert,
                                     SSL_FILETYPE_PEM);
  if (!ok) return fail(w, LV_E_INVALID, "--ca, --cert or --cert-key cannot be used");
  w->ssl = SSL_new(w->ctx);
  if (!w->ssl || !SSL_set_fd(w->ssl, w->fd)) abort();
  (void)SSL_set_tlsext_host_name(w->ssl, host);
  if (!to->insecure) (void)SSL_set1_host(w->ssl, host);
  if (SSL_connect(w->ssl) == 1) return 0;
  long verdict = SSL_get_verify_result(w->ssl);
  return fail(w, LV_E_CLOSED,
              verdict == X509_V_OK ? "no TLS connection" : X509_verify_cert_error_string(verdict));
}

static int put(lv_wsc *w, const uint8_t *p, uint32_t n) {
  while (n) {
    ssize_t k = w->ssl ? SSL_write(w->ssl, p, (int)n) : send(w->fd, p, n, MSG_NOSIGNAL);
    if (k < 0 && !w->ssl && errno == EINTR) continue;
    if (k <= 0) return fail(w, LV_E_CLOSED, "the connection broke");
    p += k;
    n -= (uint32_t)k;
  }
  return 0;
}

/* 1: there is more in buf; 0: not within the time; negative: the end. */
static int fill(lv_wsc *w, int timeout_ms) {
  if (w->at) memmove(w->buf, w->buf + w->at, w->n);
  w->at = 0;
  if (w->n == LV_WSC_BUF) return fail(w, LV_E_TOO_BIG, "the server sends what is too large");
  if (!w->ssl || !SSL_pending(w->ssl)) {
    struct pollfd p = {.fd = w->fd, .events = POLLIN};
    int n = poll(&p, 1, timeout_ms);
    if (n <= 0) {
      if (lv_cli_now_ms() - w->heard_ms > SILENT_MS)
        return fail(w, LV_E_TIMEOUT, "nothing was heard for 90 s");
      return 0;
    }
  }
  ssize_t k = w->ssl ? SSL_read(w->ssl, w->buf + w->n, (int)(LV_WSC_BUF - w->n))
                     : recv(w->fd, w->buf + w->n, LV_WSC_BUF - w->n, 0);
  if (k < 0 && !w->ssl && errno == EINTR) return 0;
  if (k <= 0) return fail(w, LV_E_CLOSED, "the connection broke");
  w->n += (uint32_t)k;
  w->heard_ms = lv_cli_now_ms();
  return 1;
}

/* ---- the handshake ---- */

/* {"error":TEXT} of the answer's body, as far as it came with the head or comes now. */
static void error_text(lv_wsc *w, uint32_t head) {
  static const lv_slice names[] = {LV_SLICE("error")};
  lv_json_tok v;
  int bad;
  do {
    bad = lv_json_pick_from(lv_slice_of(w->buf + head, w->n - head), names, 1, &v);
  } while (bad && fill(w, STEP_MS) > 0);
  w->why[0] = 0;
  if (!bad && v.type == LV_JSON_STRING)
    snprintf(w->why, sizeof w->why, "%.*s", (int)v.s.n, (const char *)v.s.p);
}

static int judge(lv_wsc *w, const uint8_t key[LV_WS_KEY_LEN], const lv_ws_able *able) {
  uint32_t scanned = 0, head = 0;
  uint16_t status = 0;
  lv_ws_open open;
  int err;
  while ((err = lv_http_head_find(w->buf, w->n, HEAD_ROOM, &scanned, &head)) == LV_E_NEED_MORE) {
    err = fill(w, STEP_MS);
    if (err == 0) return fail(w, LV_E_TIMEOUT, "the server does not answer");
    if (err < 0) return err;
  }
  if (!err) err = lv_ws_answer_check(lv_slice_of(w->buf, head), key, able, &open, &status);
  if (err == LV_E_UNSUPPORTED && status) {
    error_text(w, head);
    return status;
  }
  if (err) return fail(w, err, "the server does not speak WebSocket there");
  w->at = head;
  w->n -= head;
  return 101;
}

int lv_wsc_open(lv_wsc *w, const lv_wsc_to *to) {
  static const lv_ws_able able = {0};
  uint8_t random[16], key[LV_WS_KEY_LEN], req[HEAD_ROOM];
  char auth[8300];
  lv_http_header h = {LV_SLICE("Authorization"), {NULL, 0}};
  *w = (lv_wsc){.fd = -1, .heard_ms = lv_cli_now_ms()};
  lv_buf_init(&w->msg, LV_WSC_MESSAGE_MAX);
  w->buf = malloc(LV_WSC_BUF);
  if (!w->buf) abort();
  int fd = lv_cli_connect(to->address, STEP_MS);
  if (fd < 0) return fail(w, fd, lv_scrape_error(fd));
  w->fd = fd;
  int err = to->tls ? tls_start(w, to) : 0;
  if (err) return err;
  lv_random_bytes(random, sizeof random);
  lv_ws_key(random, key);
  snprintf(auth, sizeof auth, "Bearer %s", to->bearer ? to->bearer : "");
  h.value = lv_slice_str(auth);
  int n = lv_ws_request_encode(lv_slice_str(to->target), lv_slice_str(to->address), key, &able, &h,
                               to->bearer ? 1 : 0, req, sizeof req);
  if (n < 0) return fail(w, n, "that cannot be asked for");
  err = put(w, req, (uint32_t)n);
  return err ? err : judge(w, key, &able);
}

/* ---- messages ---- */

static int answer(lv_wsc *w, uint8_t op, lv_slice payload) {
  uint8_t mask[4], frame[6 + LV_WS_CONTROL_MAX];
  lv_random_bytes(mask, sizeof mask);
  return put(w, frame, lv_ws_control_encode(op, payload, mask, frame));
}

/* 1: *ret is a whole message; 0: go on; negative: the end. */
static int take(lv_wsc *w, const lv_ws_event *e, lv_slice *ret) {
  if (e->op == LV_WS_PING) return answer(w, LV_WS_PONG, e->data);
  if (e->op == LV_WS_PONG) return 0;
  if (e->op == LV_WS_CLOSE) {
    w->code = e->code;
    snprintf(w->why, sizeof w->why, "%.*s", (int)e->data.n, (const char *)e->data.p);
    return LV_E_CLOSED;
  }
  if (e->first && e->last) {
    *ret = e->data;
    return 1;
  }
  if (e->first) lv_buf_reset(&w->msg);
  if (lv_buf_add_slice(&w->msg, e->data)) return fail(w, LV_E_TOO_BIG, "a message is too large");
  if (!e->last) return 0;
  *ret = lv_buf_slice(&w->msg);
  return 1;
}

int lv_wsc_next(lv_wsc *w, int timeout_ms, lv_slice *ret) {
  static const lv_ws_rules rules = {
      .message_max = LV_WSC_MESSAGE_MAX, .frames_max = UINT32_MAX, .client = true};
  for (;;) {
    lv_ws_in in = {w->buf + w->at, w->n, 0};
    lv_ws_event e;
    int got = lv_ws_next(&w->dec, &rules, &in, &e);
    w->at = (uint32_t)(in.p - w->buf);
    w->n = in.n;
    if (got == 1) {
      got = take(w, &e, ret);
      if (got) return got;
      continue;
    }
    if (got != LV_E_NEED_MORE) return fail(w, got, lv_err_text(got));
    got = fill(w, timeout_ms);
    if (got <= 0) return got;
  }
}

void lv_wsc_close(lv_wsc *w) {
  if (w->ssl) SSL_free(w->ssl);
  if (w->ctx) SSL_CTX_free(w->ctx);
  ERR_clear_error();
  if (w->fd >= 0) close(w->fd);
  lv_buf_done(&w->msg);
  free(w->buf);
  w->buf = NULL;
  w->ssl = NULL;
  w->ctx = NULL;
  w->fd = -1;
}
