/* test_ws.c: the frame decoder and encoder. Each stream is decoded whole, cut at every place, and
 * byte by byte, held back and in pieces: always the same. */
#include "wire_test.h"

#include "core/rand.h"
#include "wire/ws.h"

enum { LOG_MAX = 1 << 20 };

/* What a decoder made of a stream: one entry a frame or piece, pieces of a frame joined. */
typedef struct result {
  int err; /* LV_E_NEED_MORE: the stream ended without one */
  uint32_t n, at, left;
  uint8_t log[LOG_MAX];
} result;

static void note(result *r, const lv_ws_event *e) {
  assert_true(r->n + e->data.n + 8 < LOG_MAX);
  if (e->op <= LV_WS_BINARY) {
    if (e->first) r->log[r->n++] = '<', r->log[r->n++] = e->deflated ? 'z' : (uint8_t)('0' + e->op);
  } else {
    r->log[r->n++] = (uint8_t)('A' + e->op);
    r->log[r->n++] = (uint8_t)(e->code >> 8);
    r->log[r->n++] = (uint8_t)e->code;
  }
  if (e->data.n) memcpy(r->log + r->n, e->data.p, e->data.n);
  r->n += e->data.n;
  if (e->last) r->log[r->n++] = '>';
}

/* Feeds the stream as far as `upto`; keeps what is left over, at another place, as a connection
 * does. */
typedef struct feeder {
  lv_ws ws;
  const lv_ws_rules *rules;
  uint8_t *kept;
  uint32_t n_kept;
} feeder;

static int feed(feeder *f, lv_slice more, result *r) {
  uint32_t n = f->n_kept + more.n;
  uint8_t *p = malloc(n ? n : 1);
  assert_non_null(p);
  if (f->n_kept) memcpy(p, f->kept, f->n_kept);
  if (more.n) memcpy(p + f->n_kept, more.p, more.n);
  free(f->kept);
  f->kept = NULL;
  lv_ws_in in = {p, n, 0};
  lv_ws_event e;
  int got;
  while ((got = lv_ws_next(&f->ws, f->rules, &in, &e)) == 1) {
    assert_true(e.data.n == 0 || (e.data.p >= p && e.data.p + e.data.n <= in.p));
    note(r, &e);
  }
  f->n_kept = in.n;
  if (got == LV_E_NEED_MORE) assert_true(in.want > in.n);
  f->kept = malloc(in.n ? in.n : 1);
  if (in.n) memcpy(f->kept, in.p, in.n);
  free(p);
  return got;
}

/* cut 0: pieces of one byte; else two pieces. */
static void decode(lv_slice s, const lv_ws_rules *rules, uint32_t cut, result *r) {
  feeder f = {.rules = rules};
  r->n = 0;
  r->err = LV_E_NEED_MORE;
  for (uint32_t at = 0; at < s.n && r->err == LV_E_NEED_MORE;) {
    uint32_t n = cut == 0 ? 1 : at < cut ? cut - at : s.n - at;
    if (n > s.n - at) n = s.n - at;
    r->err = feed(&f, (lv_slice){s.p + at, n}, r);
    at += n;
    r->at = at;
  }
  r->left = f.n_kept;
  free(f.kept);
}

static void same(const result *a, const result *b) {
  assert_int_equal(a->err, b->err);
  assert_int_equal(a->n, b->n);
  assert_memory_equal(a->log, b->log, a->n);
}

/* Every cut, held and in pieces. Between an error's bytes and the end of input lies nothing, so the
 * byte-by-byte run also tells where the error was seen: *ret_at (0 when none). */
static void decode_all(lv_slice s, lv_ws_rules rules, result *r, uint32_t *ret_at) {
  static result other;
  const uint32_t holds[] = {0, 3, 100, 1 << 20};
  decode(s, &rules, s.n, r);
  for (size_t h = 0; h < COUNT(holds); h++) {
    rules.whole_max = holds[h];
    for (uint32_t cut = 0; cut <= s.n; cut += s.n > 2000 ? 97 : 1) {
      decode(s, &rules, cut, &other);
      if (cut == 0 && ret_at) *ret_at = other.err == LV_E_NEED_MORE ? 0 : other.at;
      if (r->err == LV_E_NEED_MORE) {
        if (other.n == r->n && other.err == r->err) assert_memory_equal(other.log, r->log, r->n);
        /* A stream that ends inside a frame shows more or less of it, by what is held back. */
        else
          assert_true(other.err == r->err && r->left);
      } else {
        assert_int_equal(other.err, r->err);
      }
    }
  }
}

static const lv_ws_rules client = {
    .message_max = 1 << 20, .whole_max = 1 << 20, .frames_max = 100, .client = true};
static const lv_ws_rules server = {.message_max = 1 << 20, .whole_max = 1 << 20, .frames_max = 100};

static void rfc_examples(void **state) {
  static const struct {
    const char *what;
    lv_slice in, want;
    bool masked, deflate;
  } rows[] = {
      {"text", B("\x81\5Hello"), B("<1Hello>"), 0, 0},
      {"masked", B("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), B("<1Hello>"), 1, 0},
      {"fragments", B("\1\3Hel\x80\2lo"), B("<1Hello>"), 0, 0},
      {"ping, pong", B("\x89\5Hello\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), B(""), 0, 0},
      {"ping", B("\x89\5Hello"), B("J\0\0Hello>"), 0, 0},
      {"pong", B("\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), B("K\0\0Hello>"), 1, 0},
      {"ping in between", B("\1\3Hel\x89\1!\x80\2lo"), B("<1HelJ\0\0!>lo>"), 0, 0},
      {"close", B("\x88\2\3\xe8"), B("I\3\xe8>"), 0, 0},
      {"close without code", B("\x88\0"), B("I\3\xed>"), 0, 0},
      {"close with reason",
       B("\x88\5\3\xe9"
         "bye"),
       B("I\3\xe9"
         "bye>"),
       0, 0},
      {"nothing behind close", B("\x88\0\xff\xff\x81\1x"), B("I\3\xed>"), 0, 0},
      {"empty fragments", B("\1\0\0\0\0\1x\x80\0\x82\0"), B("<1x><2>"), 0, 0},
      {"deflated", B("\xc1\7\xf2\x48\xcd\xc9\xc9\7\0"), B("<z\xf2\x48\xcd\xc9\xc9\7\0>"), 0, 1},
      {"deflated fragments", B("\x41\3\xf2\x48\xcd\x80\4\xc9\xc9\7\0"),
       B("<z\xf2\x48\xcd\xc9\xc9\7\0>"), 0, 1},
  };
  (void)state;
  static result r;
  for (size_t i = 0; i < COUNT(rows); i++) {
    lv_ws_rules rules = rows[i].masked ? server : client;
    rules.deflate = rows[i].deflate;
    decode_all(rows[i].in, rules, &r, NULL);
    if (rows[i].want.n == 0) {
      assert_err(r.err, LV_E_PROTOCOL, rows[i].what); /* the second frame has a mask */
      continue;
    }
    assert_err(r.err, LV_E_NEED_MORE, rows[i].what);
    assert_int_equal(r.left, 0);
    assert_slice(lv_slice_of(r.log, r.n), rows[i].want);
  }
}

static void lengths(void **state) {
  static const uint32_t sizes[] = {0, 1, 125, 126, 127, 128, 65535, 65536, 70000};
  static uint8_t s[70100];
  static result r;
  (void)state;
  for (size_t i = 0; i < COUNT(sizes); i++) {
    for (int masked = 0; masked < 2; masked++) {
      const uint8_t mask[4] = {0x5A, 0, 0xFF, 0x13};
      uint32_t len = masked ? lv_ws_head_encode_masked(LV_WS_FIN | LV_WS_BINARY, sizes[i], mask, s)
                            : lv_ws_head_encode(LV_WS_FIN | LV_WS_BINARY, sizes[i], s),
               key;
      assert_int_equal(len, lv_ws_head_size(sizes[i]) + (masked ? 4 : 0));
      memset(s + len, 'x', sizes[i]);
      memcpy(&key, mask, 4);
      if (masked) (void)lv_ws_mask(s + len, sizes[i], key);
      decode_all(lv_slice_of(s, len + sizes[i]), masked ? server : client, &r, NULL);
      assert_int_equal(r.err, LV_E_NEED_MORE);
      assert_int_equal(r.n, sizes[i] + 3);
      assert_memory_equal(r.log, "<2", 2);
      for (uint32_t k = 0; k < sizes[i]; k++) assert_int_equal(r.log[2 + k], 'x');
    }
  }
}

/* `at`: how many bytes suffice to see the error. */
static const struct {
  const char *what;
  lv_slice in;
  int want;
  uint32_t at;
} errors_rows[] = {
    {"RSV1", B("\xc1\1x"), LV_E_PROTOCOL, 1},
    {"RSV2", B("\xa1\1x"), LV_E_PROTOCOL, 1},
    {"RSV3", B("\x91\1x"), LV_E_PROTOCOL, 1},
    {"RSV1 in ping", B("\xc9\0"), LV_E_PROTOCOL, 1},
    {"opcode 3", B("\x83\0"), LV_E_PROTOCOL, 1},
    {"opcode 7", B("\x87\0"), LV_E_PROTOCOL, 1},
    {"opcode 11", B("\x8b\0"), LV_E_PROTOCOL, 1},
    {"opcode 15", B("\x8f\0"), LV_E_PROTOCOL, 1},
    {"ping in fragments", B("\x09\0"), LV_E_PROTOCOL, 1},
    {"close in fragments", B("\x08\0"), LV_E_PROTOCOL, 1},
    {"ping of 126", B("\x89\x7e\0\x7e"), LV_E_PROTOCOL, 2},
    {"ping of 64 bit", B("\x89\x7f\0\0\0\0\0\0\0\1x"), LV_E_PROTOCOL, 2},
    {"masked from a server", B("\x81\x81\1\2\3\4x"), LV_E_PROTOCOL, 2},
    {"125 in 16 bits", B("\x82\x7e\0\x7d"), LV_E_PROTOCOL, 4},
    {"0 in 16 bits", B("\x82\x7e\0\0"), LV_E_PROTOCOL, 4},
    {"65535 in 64 bits", B("\x82\x7f\0\0\0\0\0\0\xff\xff"), LV_E_PROTOCOL, 10},
    {"highest bit", B("\x82\x7f\x80\0\0\0\0\1\0\0"), LV_E_PROTOCOL, 3},
    {"too long", B("\x82\x7f\0\0\0\0\0\x10\0\1"), LV_E_TOO_BIG, 10},
    {"far too long", B("\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff"), LV_E_TOO_BIG, 10},
    {"continuation alone", B("\x80\1x"), LV_E_PROTOCOL, 1},
    {"continuation alone, more to come", B("\0\1x"), LV_E_PROTOCOL, 1},
    {"continuation after the end", B("\x81\1x\x80\1x"), LV_E_PROTOCOL, 4},
    {"text in text", B("\1\1x\1\1x"), LV_E_PROTOCOL, 4},
    {"binary in text", B("\1\1x\x82\1x"), LV_E_PROTOCOL, 4},
    {"close of one byte", B("\x88\1\3"), LV_E_PROTOCOL, 3},
    {"close 0", B("\x88\2\0\0"), LV_E_PROTOCOL, 4},
    {"close 999", B("\x88\2\3\xe7"), LV_E_PROTOCOL, 4},
    {"close 1004", B("\x88\2\3\xec"), LV_E_PROTOCOL, 4},
    {"close 1005", B("\x88\2\3\xed"), LV_E_PROTOCOL, 4},
    {"close 1006", B("\x88\2\3\xee"), LV_E_PROTOCOL, 4},
    {"close 1015", B("\x88\2\3\xf7"), LV_E_PROTOCOL, 4},
    {"close 1016", B("\x88\2\3\xf8"), LV_E_PROTOCOL, 4},
    {"close 2999", B("\x88\2\x0b\xb7"), LV_E_PROTOCOL, 4},
    {"close 5000", B("\x88\2\x13\x88"), LV_E_PROTOCOL, 4},
    {"close with a bad reason", B("\x88\4\3\xe8\xc3("), LV_E_PAYLOAD, 6},
    {"close with half a character", B("\x88\3\3\xe8\xc3"), LV_E_PAYLOAD, 5},
    {"text not UTF-8",
     B("\x81\3a\xff"
       "b"),
     LV_E_PAYLOAD, 4},
    {"text ends in a character", B("\x81\2a\xc3"), LV_E_PAYLOAD, 4},
    {"text ends in a character, by an empty frame", B("\1\2a\xc3\x80\0"), LV_E_PAYLOAD, 6},
    {"character broken over frames", B("\1\1\xe2\0\1\x82\x80\1x"), LV_E_PAYLOAD, 9},
    {"surrogate, at its second byte", B("\x81\4\xed\xa0\x80!"), LV_E_PAYLOAD, 4},
    {"overlong, at its second byte", B("\x81\4\xe0\x80\x80!"), LV_E_PAYLOAD, 4},
    {"above U+10FFFF, at its second byte", B("\x81\4\xf4\x90\x80\x80"), LV_E_PAYLOAD, 4},
};

static void errors(void **state) {
  (void)state;
  static result r;
  for (size_t i = 0; i < COUNT(errors_rows); i++) {
    uint32_t at = 0;
    decode_all(errors_rows[i].in, client, &r, &at);
    assert_err(r.err, errors_rows[i].want, errors_rows[i].what);
    if (at != errors_rows[i].at)
      fail_msg("%s: seen at byte %u, not %u", errors_rows[i].what, at, errors_rows[i].at);
  }
  decode_all(S("\x81\1x"), server, &r, NULL); /* unmasked from a client */
  assert_int_equal(r.err, LV_E_PROTOCOL);
  lv_ws_rules deflate = client;
  deflate.deflate = true;
  static const lv_slice bad[] = {B("\xe1\1x"), B("\xc9\0"), B("\1\1x\xc0\1x"), B("\x41\1x\xc0\1x")};
  for (size_t i = 0; i < COUNT(bad); i++) {
    decode_all(bad[i], deflate, &r, NULL);
    assert_int_equal(r.err, LV_E_PROTOCOL);
  }
}

static void limits(void **state) {
  static result r;
  lv_ws_rules rules = client;
  (void)state;
  rules.message_max = 10;
  rules.frames_max = 3;
  decode_all(S("\x82\x0a"
               "0123456789"),
             rules, &r, NULL);
  assert_int_equal(r.err, LV_E_NEED_MORE);
  decode_all(S("\x82\x0b"), rules, &r, NULL);
  assert_int_equal(r.err, LV_E_TOO_BIG);
  decode_all(S("\2\5"
               "01234\x89\5"
               "01234\x80\5"
               "56789"),
             rules, &r, NULL);
  assert_int_equal(r.err, LV_E_NEED_MORE);
  decode_all(S("\2\5"
               "01234\x80\6"),
             rules, &r, NULL);
  assert_int_equal(r.err, LV_E_TOO_BIG);
  decode_all(S("\2\0\0\0\x80\0\2\0\0\0\x80\0"), rules, &r, NULL);
  assert_int_equal(r.err, LV_E_NEED_MORE);
  decode_all(S("\2\0\0\0\0\0\x80"), rules, &r, NULL);
  assert_int_equal(r.err, LV_E_TOO_BIG);
  /* what deflate adds to ten random bytes passes, the check of the result is for later */
  rules.deflate = true;
  decode_all(S("\xc2\x0f"
               "0123456789abcde"),
             rules, &r, NULL);
  assert_int_equal(r.err, LV_E_NEED_MORE);
  decode_all(S("\xc2\x7e\0\x7f"), rules, &r, NULL);
  assert_int_equal(r.err, LV_E_TOO_BIG);
  rules.no_binary = true;
  decode_all(S("\x82\1x"), rules, &r, NULL);
  assert_int_equal(r.err, LV_E_UNSUPPORTED);
  decode_all(S("\x81\1x"), rules, &r, NULL);
  assert_int_equal(r.err, LV_E_NEED_MORE);
  rules.no_text = true;
  decode_all(S("\x81\1x"), rules, &r, NULL);
  assert_int_equal(r.err, LV_E_UNSUPPORTED);
  assert_int_equal(lv_ws_close_code(LV_E_UNSUPPORTED), 1003);
  assert_int_equal(lv_ws_close_code(LV_E_TOO_BIG), 1009);
  assert_int_equal(lv_ws_close_code(LV_E_PAYLOAD), 1007);
  assert_int_equal(lv_ws_close_code(LV_E_PROTOCOL), 1002);
  assert_true(sizeof(lv_ws) <= 24);
}

/* Small frames come whole, longer ones in pieces; `want` tells when to call again. */
static void holding(void **state) {
  uint8_t s[] = "\x82\4abcd\x82\6efghij";
  lv_ws_rules rules = client;
  lv_ws ws = {0};
  lv_ws_event e;
  (void)state;
  rules.whole_max = 4;
  lv_ws_in in = {s, 1, 0};
  assert_int_equal(lv_ws_next(&ws, &rules, &in, &e), LV_E_NEED_MORE);
  assert_int_equal(in.want, 2);
  in.n = 4;
  assert_int_equal(lv_ws_next(&ws, &rules, &in, &e), LV_E_NEED_MORE);
  assert_ptr_equal(in.p, s + 2);
  assert_int_equal(in.want, 4);
  in.n = 10; /* the frame, the next one's head, two bytes of it */
  assert_int_equal(lv_ws_next(&ws, &rules, &in, &e), 1);
  assert_true(e.first && e.last);
  assert_slice(e.data, S("abcd"));
  assert_int_equal(lv_ws_next(&ws, &rules, &in, &e), 1);
  assert_true(e.first && !e.last);
  assert_slice(e.data, S("efgh"));
  assert_int_equal(lv_ws_next(&ws, &rules, &in, &e), LV_E_NEED_MORE);
  assert_int_equal(in.want, 1);
  in.n = 2;
  assert_int_equal(lv_ws_next(&ws, &rules, &in, &e), 1);
  assert_true(!e.first && e.last);
  assert_slice(e.data, S("ij"));
}

static void masking(void **state) {
  uint8_t a[300], b[300];
  lv_rand rnd;
  (void)state;
  lv_rand_init(&rnd, 7);
  for (uint32_t off = 0; off < 20; off++)
    for (uint32_t n = 0; n < 260; n++) {
      uint8_t mask[4];
      uint32_t key, cut = n ? (uint32_t)lv_rand_below(&rnd, n + 1) : 0;
      lv_rand_fill(&rnd, mask, 4);
      lv_rand_fill(&rnd, a, sizeof a);
      memcpy(b, a, sizeof a);
      for (uint32_t i = 0; i < n; i++) b[off + i] ^= mask[i & 3];
      memcpy(&key, mask, 4);
      key = lv_ws_mask(a + off, cut, key);
      key = lv_ws_mask(a + off + cut, n - cut, key);
      assert_memory_equal(a, b, sizeof a);
      uint8_t turned[4];
      memcpy(turned, &key, 4);
      for (uint32_t i = 0; i < 4; i++) assert_int_equal(turned[i], mask[(n + i) & 3]);
    }
}

/* The simplest decoder that could be: one whole, well-formed stream of unmasked frames. */
static uint32_t naive(const uint8_t *p, uint32_t n, uint8_t *log) {
  uint32_t at = 0;
  bool open = false;
  while (n) {
    uint32_t len = p[1] & 127, h = 2;
    if (len == 126) len = (uint32_t)(p[2] << 8 | p[3]), h = 4;
    if (p[0] & 8)
      log[at++] = (uint8_t)('A' + (p[0] & 15)), log[at++] = 0, log[at++] = 0;
    else if (!open)
      log[at++] = '<', log[at++] = (uint8_t)('0' + (p[0] & 15)), open = true;
    memcpy(log + at, p + h, len);
    at += len;
    if (p[0] & 0x80) log[at++] = '>';
    if (p[0] & 0x80 && !(p[0] & 8)) open = false;
    p += h + len;
    n -= h + len;
  }
  return at;
}

/* Appends a frame to both streams: plain for the reference, masked for the decoder. */
static void both(lv_rand *rnd, uint8_t first, uint32_t n, uint8_t *plain, uint32_t *n_plain,
                 uint8_t *wire, uint32_t *n_wire) {
  uint8_t mask[4];
  uint32_t key;
  lv_rand_fill(rnd, mask, 4);
  memcpy(&key, mask, 4);
  *n_plain += lv_ws_head_encode(first, n, plain + *n_plain);
  *n_wire += lv_ws_head_encode_masked(first, n, mask, wire + *n_wire);
  for (uint32_t i = 0; i < n; i++) plain[*n_plain + i] = (uint8_t)('a' + lv_rand_below(rnd, 26));
  if (n) memcpy(wire + *n_wire, plain + *n_plain, n);
  (void)lv_ws_mask(wire + *n_wire, n, key);
  *n_plain += n;
  *n_wire += n;
}

static void random_streams(void **state) {
  static uint8_t plain[1 << 17], wire[1 << 17], want[1 << 18];
  static result r;
  lv_rand rnd;
  (void)state;
  for (uint32_t seed = 0; seed < 300; seed++) {
    uint32_t n_plain = 0, n_wire = 0, messages = 0;
    bool open = false;
    lv_rand_init(&rnd, seed);
    for (uint32_t i = 0; i < 60; i++) {
      uint32_t n = (uint32_t)lv_rand_below(&rnd, lv_rand_chance(&rnd, 0.2) ? 1000 : 20);
      bool fin = lv_rand_chance(&rnd, 0.5);
      uint8_t op = open ? LV_WS_CONT : lv_rand_chance(&rnd, 0.5) ? LV_WS_TEXT : LV_WS_BINARY;
      if (lv_rand_chance(&rnd, 0.2)) op = LV_WS_PING, fin = true, n %= 126;
      both(&rnd, (uint8_t)(op | (fin ? LV_WS_FIN : 0)), n, plain, &n_plain, wire, &n_wire);
      if (op != LV_WS_PING) open = !fin, messages += fin;
    }
    uint32_t n_want = naive(plain, n_plain, want);
    assert_int_equal(lv_ws_whole(plain, n_plain), messages);
    lv_ws_rules rules = server;
    rules.whole_max = (uint32_t)lv_rand_below(&rnd, 600);
    feeder f = {.rules = &rules};
    r.n = 0;
    for (uint32_t at = 0; at < n_wire;) {
      uint32_t n = 1 + (uint32_t)lv_rand_below(&rnd, lv_rand_chance(&rnd, 0.5) ? 5 : 500);
      if (n > n_wire - at) n = n_wire - at;
      assert_int_equal(feed(&f, (lv_slice){wire + at, n}, &r), LV_E_NEED_MORE);
      at += n;
    }
    assert_int_equal(f.n_kept, 0);
    free(f.kept);
    assert_int_equal(r.n, n_want);
    assert_memory_equal(r.log, want, n_want);
  }
}

static void whole_messages(void **state) {
  static const uint8_t s[] = "\x81\2ab\x89\0\1\1x\x80\1y\x82\x7e\0\x80";
  (void)state;
  const uint32_t ends[] = {0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2};
  for (uint32_t n = 0; n < COUNT(ends); n++) assert_int_equal(lv_ws_whole(s, n), ends[n]);
}

static void control_frames(void **state) {
  uint8_t d[6 + LV_WS_CONTROL_MAX], long_reason[200];
  static result r;
  (void)state;
  uint32_t n = lv_ws_control_encode(LV_WS_PING, S("hi"), NULL, d);
  assert_slice(lv_slice_of(d, n), S("\x89\2hi"));
  n = lv_ws_control_encode(LV_WS_PONG, S("Hello"), (const uint8_t *)"\x37\xfa\x21\x3d", d);
  assert_slice(lv_slice_of(d, n), S("\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"));
  n = lv_ws_close_encode(1001, S("bye"), NULL, d);
  assert_slice(lv_slice_of(d, n), S("\x88\5\3\xe9"
                                    "bye"));
  n = lv_ws_close_encode(LV_WS_NO_CODE, S("lost"), NULL, d);
  assert_slice(lv_slice_of(d, n), S("\x88\0"));
  for (uint32_t shift = 0; shift < 4; shift++) { /* é é é …, cut at each phase */
    memset(long_reason, 'x', shift);
    for (uint32_t i = shift; i + 2 <= sizeof long_reason; i += 2)
      memcpy(long_reason + i, "\xc3\xa9", 2);
    n = lv_ws_close_encode(1008, lv_slice_of(long_reason, shift + 190), NULL, d);
    uint32_t want = shift % 2 ? 123 : 122;
    assert_int_equal(n, 2 + 2 + want);
    decode_all(lv_slice_of(d, n), client, &r, NULL);
    assert_int_equal(r.err, LV_E_NEED_MORE);
    assert_memory_equal(r.log, "I\3\xf0", 3);
  }
  assert_int_equal(lv_ws_utf8_cut(S("ab\xf0\x9f\x98\x80"), 5), 2);
  assert_int_equal(lv_ws_utf8_cut(S("ab\xf0\x9f\x98\x80"), 6), 6);
  for (uint32_t c = 0; c < 65536; c++) {
    bool ok = (c >= 1000 && c <= 1003) || (c >= 1007 && c <= 1014) || (c >= 3000 && c <= 4999);
    assert_int_equal(lv_ws_code_ok((uint16_t)c), ok);
  }
}

/* Every code point and every sequence of up to three bytes, whole and cut, beside core's check. */
static void utf8(void **state) {
  (void)state;
  for (uint32_t v = 0; v < 1u << 24; v += v < 1u << 16 ? 1 : 7) {
    uint8_t b[4] = {(uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v, 0x80};
    for (uint32_t n = 3; n <= 4; n++) {
      lv_slice s = {b, n};
      lv_ws_utf8 a = LV_WS_UTF8_START, c = LV_WS_UTF8_START;
      bool whole = lv_ws_utf8_add(&a, s) && lv_ws_utf8_end(a), bytes = true;
      for (uint32_t i = 0; i < n && bytes; i++) bytes = lv_ws_utf8_add(&c, (lv_slice){b + i, 1});
      assert_int_equal(whole, lv_utf8_valid(s, false));
      assert_int_equal(whole, bytes && lv_ws_utf8_end(c));
    }
  }
  uint8_t text[200];
  for (uint32_t at = 0; at < 150; at++) { /* one character in ASCII, at each place */
    memset(text, 'a', sizeof text);
    memcpy(text + at, "\xf0\x9f\x98\x80", 4);
    lv_ws_utf8 a = LV_WS_UTF8_START;
    assert_true(lv_ws_utf8_add(&a, lv_slice_of(text, sizeof text)) && lv_ws_utf8_end(a));
    text[at + 2] = 'x';
    a = LV_WS_UTF8_START;
    assert_false(lv_ws_utf8_add(&a, lv_slice_of(text, sizeof text)));
  }
}

static void same_is_used(void **state) { /* byte by byte equals whole on a long valid stream */
  static result a, b;
  (void)state;
  const lv_slice s = B("\x81\3abc\1\2de\x89\1!\x80\1f\x88\2\3\xe8");
  decode(s, &client, s.n, &a);
  decode(s, &client, 0, &b);
  same(&a, &b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rfc_examples),   cmocka_unit_test(lengths),
      cmocka_unit_test(errors),         cmocka_unit_test(limits),
      cmocka_unit_test(holding),        cmocka_unit_test(masking),
      cmocka_unit_test(random_streams), cmocka_unit_test(whole_messages),
      cmocka_unit_test(control_frames), cmocka_unit_test(utf8),
      cmocka_unit_test(same_is_used),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
