/* test_hubmsg.c: the hub's messages as the protocol's transcripts have them, in each form; what
 * clients send; positions and Server-Sent Events. */
#include "wire_test.h"

#include <stdio.h>

#include "core/buf.h"
#include "wire/hubmsg.h"
#include "wire/msgpack.h"

typedef struct made {
  _Alignas(8) uint8_t bytes[8192];
} made;

static const lv_rec *record(made *m, lv_slice topic, uint16_t key_off, lv_slice pid, lv_slice props,
                            int64_t tms, lv_slice val) {
  lv_rec_in in = {.kind = LV_REC_MSG,
                  .key_off = key_off,
                  .ingest_ns = 1795517439123456789,
                  .topic = topic,
                  .pid = pid,
                  .props = props,
                  .tms = tms,
                  .has_tms = tms != 0,
                  .val = val};
  uint32_t size;
  assert_int_equal(lv_rec_size(&in, &size), 0);
  assert_true(size <= sizeof m->bytes);
  return lv_rec_write(&in, m->bytes, size);
}

/* Encodes with exactly the room asked for. In msgpack it is turned back into JSON, which must be
 * what `want` says (there, the value as our own writer has it). */
static void data_is(const lv_hub_data *d, uint8_t gen, uint8_t encoding, const char *want) {
  uint32_t bound = lv_hub_data_bound(d, gen, encoding);
  uint8_t *p = malloc(bound);
  int n = lv_hub_data_encode(d, gen, encoding, p, bound);
  assert_true(n > 0);
  lv_slice got = lv_slice_of(p, (size_t)n);
  lv_buf out;
  lv_buf_init(&out, 1 << 20);
  if (encoding == LV_HUB_MSGPACK) {
    assert_int_equal(lv_msgpack_to_json(got, &out), 0);
    got = lv_buf_slice(&out);
  }
  char *text = lv_slice_dup(got);
  assert_string_equal(text, want);
  free(text);
  lv_buf_done(&out);
  free(p);
}

#define ISS "{\"latitude\":\"12.5\",\"longitude\":\"-3.25\"}"

static void test_transcript(void **state) {
  made m;
  lv_hub_data d = {.rec = record(&m, S("iss/pos"), 4, S("feed"), S(""), 1795517431000, S(ISS)),
                   .kind = LV_HUB_KIND_JSON};
  const char *v1 = "{\"typ\":7,\"chn\":\"iss\",\"key\":\"pos\",\"tag\":\"\",\"pid\":\"feed\","
                   "\"tms\":1795517431000,\"val\":" ISS "}";
  data_is(&d, LV_HUB_V1, LV_HUB_JSON, v1);
  data_is(&d, LV_HUB_V1, LV_HUB_MSGPACK, v1);
  data_is(&d, LV_HUB_V09, LV_HUB_JSON,
          "{\"type\":6,\"channel\":\"iss\",\"key\":\"pos\",\"tag\":\"\",\"pid\":\"feed\","
          "\"timestamp\":1795517431000,\"value\":" ISS "}");
}

static void test_members(void **state) {
  made m;
  static const char labels[] = "\x26\0\3cat\0\5alarm\x26\0\3tag\0\2t1\x26\0\3tag\0\2t2\1\1";
  lv_hub_data d = {.rec = record(&m, S("c/k/l"), 2, S("p"), lv_slice_of(labels, sizeof labels - 1),
                                 0, S(" [1.50] ")),
                   .kind = LV_HUB_KIND_JSON,
                   .hid = S("h1"),
                   .has_pos = true,
                   .pos = {S("e1"), 18446744073709551615u}};
  data_is(&d, LV_HUB_V1, LV_HUB_JSON,
          "{\"typ\":7,\"chn\":\"c\",\"key\":\"k/l\",\"tag\":\"t1\",\"cat\":\"alarm\",\"pid\":\"p\","
          "\"hid\":\"h1\",\"tms\":1795517439123,\"pos\":\"e1-18446744073709551615\","
          "\"val\": [1.50] }"); /* byte for byte */
  data_is(
      &d, LV_HUB_V1, LV_HUB_MSGPACK,
      "{\"typ\":7,\"chn\":\"c\",\"key\":\"k/l\",\"tag\":\"t1\",\"cat\":\"alarm\",\"pid\":\"p\","
      "\"hid\":\"h1\",\"tms\":1795517439123,\"pos\":\"e1-18446744073709551615\",\"val\":[1.5]}");
  data_is(&d, LV_HUB_V09, LV_HUB_JSON,
          "{\"type\":6,\"channel\":\"c\",\"key\":\"k/l\",\"tag\":\"t1\",\"pid\":\"p\","
          "\"hid\":\"h1\",\"timestamp\":1795517439123,\"pos\":\"e1-18446744073709551615\","
          "\"value\": [1.50] }"); /* which has no categories */
  static const char same[] = "\x26\0\3cat\0\7default";
  d = (lv_hub_data){.rec = record(&m, S("c"), LV_REC_NO_KEY, S(""),
                                  lv_slice_of(same, sizeof same - 1), 5, S("a\"\n")),
                    .kind = LV_HUB_KIND_TEXT};
  const char *text = "{\"typ\":7,\"chn\":\"c\",\"key\":\"\",\"tag\":\"\",\"tms\":5,"
                     "\"val\":\"a\\\"\\n\"}";
  data_is(&d, LV_HUB_V1, LV_HUB_JSON, text);
  data_is(&d, LV_HUB_V1, LV_HUB_MSGPACK, text);
  d.rec = record(&m, S("c/"), 2, S(""), S(""), -5, S(""));
  data_is(&d, LV_HUB_V1, LV_HUB_JSON,
          "{\"typ\":7,\"chn\":\"c\",\"key\":\"\",\"tag\":\"\",\"tms\":-5,\"val\":\"\"}");
  d = (lv_hub_data){.rec = record(&m, S("_odd/t\xC3\xA9"), 0, S(""), S(""), 5, S("\xFF\x00")),
                    .kind = LV_HUB_KIND_BINARY};
  const char *bin = "{\"typ\":7,\"chn\":\"_\",\"key\":\"_odd/t\xC3\xA9\",\"tag\":\"\",\"tms\":5,"
                    "\"val\":\"/wA=\"}";
  data_is(&d, LV_HUB_V1, LV_HUB_JSON, bin);
  data_is(&d, LV_HUB_V1, LV_HUB_MSGPACK, bin);
  d.rec = record(&m, S("c/k\"\x80z"), 2, S("\xFF"), S(""), 5, S(""));
  const char *mended = "{\"typ\":7,\"chn\":\"c\",\"key\":\"k\\\"\xEF\xBF\xBDz\",\"tag\":\"\","
                       "\"pid\":\"\xEF\xBF\xBD\",\"tms\":5,\"val\":\"\"}";
  data_is(&d, LV_HUB_V1, LV_HUB_JSON, mended);
  data_is(&d, LV_HUB_V1, LV_HUB_MSGPACK, mended);
}

static void test_msgpack_bytes(void **state) {
  made m;
  uint8_t buf[2048];
  lv_hub_data d = {.rec = record(&m, S("c/k"), 2, S(""), S(""), 1, S("\xFF\x00")),
                   .kind = LV_HUB_KIND_BINARY};
  int n = lv_hub_data_encode(&d, LV_HUB_V1, LV_HUB_MSGPACK, buf, sizeof buf);
  assert_slice(lv_slice_of(buf, (size_t)n), S("\x86\xA3typ\x07\xA3"
                                              "chn\xA1"
                                              "c\xA3key\xA1k\xA3tag\xA0\xA3tms\x01\xA3val"
                                              "\xC4\x02\xFF\x00"));
  d.kind = LV_HUB_KIND_JSON; /* which it is not */
  assert_int_equal(lv_hub_data_encode(&d, LV_HUB_V1, LV_HUB_MSGPACK, buf, sizeof buf),
                   LV_E_PAYLOAD);
}

static void test_kind(void **state) {
  static const struct {
    uint8_t content;
    lv_slice val;
    uint8_t want;
  } rows[] = {
      {LV_CONTENT_AUTO, B("{}"), LV_HUB_KIND_JSON},
      {LV_CONTENT_AUTO, B("21.5"), LV_HUB_KIND_JSON},
      {LV_CONTENT_AUTO, B("on"), LV_HUB_KIND_TEXT},
      {LV_CONTENT_AUTO, B(""), LV_HUB_KIND_TEXT},
      {LV_CONTENT_AUTO, B("\xFF"), LV_HUB_KIND_BINARY},
      {LV_CONTENT_AUTO, B("\"\\ud800\""), LV_HUB_KIND_TEXT},
      {LV_CONTENT_JSON, B("1"), LV_HUB_KIND_JSON},
      {LV_CONTENT_JSON, B("on"), LV_HUB_KIND_TEXT},
      {LV_CONTENT_TEXT, B("1"), LV_HUB_KIND_TEXT},
      {LV_CONTENT_TEXT, B("\x80"), LV_HUB_KIND_BINARY},
      {LV_CONTENT_BINARY, B("1"), LV_HUB_KIND_BINARY},
  };
  for (size_t i = 0; i < COUNT(rows); i++)
    assert_int_equal(lv_hub_kind(rows[i].content, rows[i].val), rows[i].want);
}

static void event_is(const lv_hub_event *e, uint8_t gen, uint8_t encoding, const char *want) {
  uint32_t bound = lv_hub_event_bound(e);
  uint8_t *p = malloc(bound);
  lv_slice got = lv_slice_of(p, lv_hub_event_encode(e, gen, encoding, p, bound));
  lv_buf out;
  lv_buf_init(&out, 1 << 20);
  if (encoding == LV_HUB_MSGPACK) {
    assert_int_equal(lv_msgpack_to_json(got, &out), 0);
    got = lv_buf_slice(&out);
  }
  char *text = lv_slice_dup(got);
  assert_string_equal(text, want);
  free(text);
  lv_buf_done(&out);
  free(p);
}

static void test_events(void **state) {
  lv_hub_event e = {.type = LV_HUB_CLIENT_CONNECTED,
                    .channel = S("iss"),
                    .tms = 1795517433000,
                    .client_id = S("c7f0"),
                    .user_id = S("u1"),
                    .transport = S("websocket"),
                    .size = 2};
  const char *v1 = "{\"typ\":1,\"chn\":\"iss\",\"key\":\"\",\"tag\":\"\",\"tms\":1795517433000,"
                   "\"val\":{\"client_id\":\"c7f0\",\"user_id\":\"u1\",\"channel_name\":\"iss\","
                   "\"channel_size\":2,\"format\":\"text\",\"transport\":\"websocket\","
                   "\"channel_encoding\":\"json\"}}";
  event_is(&e, LV_HUB_V1, LV_HUB_JSON, v1);
  event_is(&e, LV_HUB_V1, LV_HUB_MSGPACK, v1);
  e.user_id = S("");
  e.format = LV_HUB_BINARY;
  e.content = LV_CONTENT_BINARY;
  event_is(&e, LV_HUB_V09, LV_HUB_JSON,
           "{\"type\":0,\"channel\":\"iss\",\"key\":\"\",\"tag\":\"\",\"timestamp\":1795517433000,"
           "\"value\":{\"client_id\":\"c7f0\",\"channel_name\":\"iss\",\"channel_size\":2,"
           "\"format\":\"binary\",\"transport\":\"websocket\",\"channel_encoding\":\"binary\"}}");
  e.type = LV_HUB_CLIENT_SUBSCRIBED;
  e.content = LV_CONTENT_TEXT;
  e.hid = S("h");
  e.has_pos = true;
  e.pos = (lv_hub_pos){S("e"), 7};
  event_is(&e, LV_HUB_V1, LV_HUB_MSGPACK,
           "{\"typ\":4,\"chn\":\"iss\",\"key\":\"\",\"tag\":\"\",\"hid\":\"h\","
           "\"tms\":1795517433000,\"pos\":\"e-7\",\"val\":{\"client_id\":\"c7f0\","
           "\"channel_name\":\"iss\",\"channel_size\":2,\"format\":\"binary\","
           "\"transport\":\"websocket\",\"channel_encoding\":\"text\"}}");
  e = (lv_hub_event){.type = LV_HUB_CLIENT_UNSUBSCRIBED, .channel = S("a"), .tms = 1};
  event_is(&e, LV_HUB_V09, LV_HUB_JSON,
           "{\"type\":5,\"channel\":\"a\",\"key\":\"\",\"tag\":\"\",\"timestamp\":1,"
           "\"value\":{\"channel_name\":\"a\"}}");
  e.error = S("not \"authorized\"");
  const char *gone = "{\"typ\":6,\"chn\":\"a\",\"key\":\"\",\"tag\":\"\",\"tms\":1,\"val\":"
                     "{\"channel_name\":\"a\",\"error\":\"not \\\"authorized\\\"\"}}";
  event_is(&e, LV_HUB_V1, LV_HUB_JSON, gone);
  event_is(&e, LV_HUB_V1, LV_HUB_MSGPACK, gone);
  e = (lv_hub_event){.type = LV_HUB_GAP,
                     .channel = S("a"),
                     .tms = 1,
                     .from = S("e-1"),
                     .to = S("e-9"),
                     .reason = S("retention")};
  const char *gap = "{\"typ\":9,\"chn\":\"a\",\"key\":\"\",\"tag\":\"\",\"tms\":1,\"val\":"
                    "{\"from\":\"e-1\",\"to\":\"e-9\",\"reason\":\"retention\"}}";
  event_is(&e, LV_HUB_V1, LV_HUB_JSON, gap);
  event_is(&e, LV_HUB_V1, LV_HUB_MSGPACK, gap);
  event_is(&e, LV_HUB_V09, LV_HUB_JSON,
           "{\"type\":9,\"channel\":\"a\",\"key\":\"\",\"tag\":\"\",\"timestamp\":1,\"value\":"
           "{\"from\":\"e-1\",\"to\":\"e-9\",\"reason\":\"retention\"}}");
}

static void test_positions(void **state) {
  lv_hub_pos pos;
  uint8_t buf[LV_HUB_POS_MAX];
  static const lv_slice ok[] = {B("a-0"), B("1f.B_-18446744073709551615")};
  for (size_t i = 0; i < COUNT(ok); i++) {
    assert_int_equal(lv_hub_pos_parse(ok[i], &pos), 0);
    assert_slice(lv_slice_of(buf, (size_t)(lv_hub_pos_put(buf, &pos) - buf)), ok[i]);
  }
  static const char *const bad[] = {"",
                                    "a",
                                    "-1",
                                    "a-",
                                    "a-01",
                                    "a--1",
                                    "a-b-1",
                                    "a-1x",
                                    "a-+1",
                                    "a-18446744073709551616",
                                    "a b-1",
                                    "a:b-1",
                                    "\xC3\xA9-1",
                                    ("0123456789012345678901234567890123456789012345678901234567890"
                                     "1234-1")};
  for (size_t i = 0; i < COUNT(bad); i++)
    assert_err(lv_hub_pos_parse(lv_slice_str(bad[i]), &pos), LV_E_INVALID, bad[i]);
}

static void sse_is(lv_slice id, lv_slice event, lv_slice data, lv_slice want) {
  uint32_t n = lv_hub_sse_size(id, event, data);
  uint8_t *p = malloc(n);
  assert_int_equal(lv_hub_sse_put(p, id, event, data) - p, n);
  assert_slice(lv_slice_of(p, n), want);
  free(p);
}

static void test_sse(void **state) {
  sse_is(S("e-1"), S(""), S("{}"), S("id: e-1\ndata: {}\n\n"));
  sse_is(S(""), S("gap"), S("{}"), S("event: gap\ndata: {}\n\n"));
  sse_is(S(""), S(""), S(""), S("data: \n\n"));
  sse_is(S(""), S(""), S("a\nb\r\nc\rd"), S("data: a\ndata: b\ndata: c\ndata: d\n\n"));
  sse_is(S(""), S(""), S("\r\r\n\n"), S("data: \ndata: \ndata: \ndata: \n\n"));
}

/* ---- clients ---- */

static const struct {
  uint8_t gen, encoding;
  lv_slice in;
  int want;
  uint8_t type;
  lv_slice channel;
  bool has, snapshot;
} frames[] = {
    {0, 0, B("{\"typ\":3,\"chn\":\"a\"}"), 0, 3, B("a"), 0, 0},
    {0, 0, B("{\"typ\":3,\"chn\":\"a\",\"snapshot\":true}"), 0, 3, B("a"), 1, 1},
    {0, 0, B("{\"snapshot\":false,\"chn\":\"\\u0061\",\"typ\":5,\"val\":{}}"), 0, 5, B("a"), 1, 0},
    {0, 0, B("{\"typ\":3,\"chn\":\"a\",\"snapshot\":null}"), 0, 3, B("a"), 0, 0},
    {1, 0, B("{\"type\":2,\"channel\":\"a\"}"), 0, 3, B("a"), 0, 0},
    {1, 0, B("{\"type\":4,\"channel\":\"a\"}"), 0, 5, B("a"), 0, 0},
    {0, 1,
     B("\x83\xA3typ\x03\xA3"
       "chn\xA1"
       "a\xA8snapshot\xC3"),
     0, 3, B("a"), 1, 1},
    {0, 1,
     B("\x83\xA1x\x92\x01\x81\x01\x02\xA3typ\xCC\x05\xA3"
       "chn\xA1"
       "a"),
     0, 5, B("a"), 0, 0},
    {0, 1,
     B("\x84\x90\x01\xA3typ\x03\xA3"
       "chn\xA1"
       "a\xA8snapshot\xC0"),
     0, 3, B("a"), 0, 0},
    {0, 0, B("{\"type\":3,\"channel\":\"a\"}"), LV_E_PAYLOAD, 0, B(""), 0, 0},
    {0, 0, B("{\"typ\":3}"), LV_E_PAYLOAD, 0, B(""), 0, 0},
    {0, 0, B("{\"typ\":3,\"chn\":1}"), LV_E_PAYLOAD, 0, B(""), 0, 0},
    {0, 0, B("{\"typ\":\"3\",\"chn\":\"a\"}"), LV_E_PAYLOAD, 0, B(""), 0, 0},
    {0, 0, B("{\"typ\":3.0,\"chn\":\"a\"}"), LV_E_PAYLOAD, 0, B(""), 0, 0},
    {0, 0, B("{\"typ\":-3,\"chn\":\"a\"}"), LV_E_PAYLOAD, 0, B(""), 0, 0},
    {0, 0, B("{\"typ\":3,\"chn\":\"a\",\"snapshot\":1}"), LV_E_PAYLOAD, 0, B(""), 0, 0},
    {0, 0, B("{\"typ\":3,\"chn\":\"\\ud800\"}"), LV_E_SURROGATE, 0, B(""), 0, 0},
    {0, 0, B("{\"typ\":7,\"chn\":\"a\"}"), LV_E_PROTOCOL, 0, B(""), 0, 0},
    {1, 0, B("{\"type\":3,\"channel\":\"a\"}"), LV_E_PROTOCOL, 0, B(""), 0, 0},
    {1, 0, B("{\"type\":18446744073709551615,\"channel\":\"a\"}"), LV_E_PROTOCOL, 0, B(""), 0, 0},
    {0, 0, B("{\"typ\":259,\"chn\":\"a\"}"), LV_E_PROTOCOL, 0, B(""), 0, 0},
    {0, 0, B("[]"), LV_E_PAYLOAD, 0, B(""), 0, 0},
    {0, 0, B("{\"typ\":3,\"chn\":\"a\""), LV_E_PAYLOAD, 0, B(""), 0, 0},
    {0, 1, B("\x91\x01"), LV_E_PAYLOAD, 0, B(""), 0, 0},
    {0, 1, B("\x82\xA3typ\x03"), LV_E_PAYLOAD, 0, B(""), 0, 0},
    {0, 1,
     B("\x82\xA3typ\x03\xA3"
       "chn\xA1"
       "aa"),
     LV_E_PAYLOAD, 0, B(""), 0, 0},
    {0, 1,
     B("\x82\xA3typ\x03\xA3"
       "chn\xC4\x01"
       "a"),
     LV_E_PAYLOAD, 0, B(""), 0, 0},
};

static void test_client(void **state) {
  for (size_t i = 0; i < COUNT(frames); i++) {
    lv_slice in = heap_copy(frames[i].in);
    uint8_t *scratch = malloc(in.n);
    lv_hub_client c;
    const char *why = NULL;
    assert_err(lv_hub_client_decode(frames[i].gen, frames[i].encoding, in, scratch, &c, &why),
               frames[i].want, (const char *)frames[i].in.p);
    assert_int_equal(why != NULL, frames[i].want != 0);
    if (!frames[i].want) {
      assert_int_equal(c.type, frames[i].type);
      assert_slice(c.channel, frames[i].channel);
      assert_true(c.has_snapshot == frames[i].has && c.snapshot == frames[i].snapshot);
    }
    free(scratch);
    heap_free(in);
  }
}

static int publish(lv_slice text, lv_hub_publish *p, uint8_t *scratch) {
  const char *why = NULL;
  int err = lv_hub_publish_decode(text, scratch, p, &why);
  assert_int_equal(why != NULL, err != 0);
  return err;
}

static void test_publish(void **state) {
  uint8_t scratch[512];
  lv_hub_publish p;
  assert_int_equal(publish(S("{\"id\":\"x\\n\",\"key\":\"k\\/l\",\"tag\":\"\\u0074\",\"cat\":\"c\","
                             "\"val\": {\"a\" : 1.0} }"),
                           &p, scratch),
                   0);
  assert_slice(p.id, S("\"x\\n\""));
  assert_slice(p.key, S("k/l"));
  assert_slice(p.tag, S("t"));
  assert_slice(p.cat, S("c"));
  assert_slice(p.val.s, S("{\"a\" : 1.0}"));
  assert_true(p.has_key && p.has_tag && p.has_cat && !p.binary);
  assert_int_equal(publish(S("{\"id\":7,\"val\":\"t\\n\"}"), &p, scratch), 0);
  assert_slice(p.id, S("7"));
  assert_slice(p.val.s, S("\"t\\n\""));
  assert_false(p.has_key);
  assert_int_equal(publish(S("{\"val\":null}"), &p, scratch), 0);
  assert_int_equal(p.val.type, LV_JSON_NULL);
  assert_int_equal(publish(S("{\"b64\":\"\\/wA=\",\"key\":\"\\u0061\"}"), &p, scratch), 0);
  assert_true(p.binary);
  assert_slice(p.bin, S("\xFF\x00"));
  assert_slice(p.key, S("a"));
  static const struct {
    const char *in;
    int want;
  } bad[] = {{"{}", LV_E_PAYLOAD},
             {"{\"val\":1,\"b64\":\"\"}", LV_E_PAYLOAD},
             {"{\"b64\":1}", LV_E_PAYLOAD},
             {"{\"b64\":\"Zg\"}", LV_E_PAYLOAD},
             {"{\"b64\":null}", LV_E_PAYLOAD},
             {"{\"key\":1,\"val\":1}", LV_E_PAYLOAD},
             {"{\"tag\":[],\"val\":1}", LV_E_PAYLOAD},
             {"{\"cat\":true,\"val\":1}", LV_E_PAYLOAD},
             {"{\"id\":{},\"val\":1}", LV_E_PAYLOAD},
             {"{\"key\":\"\\ud800\",\"val\":1}", LV_E_SURROGATE},
             {"{\"val\":[[\"\\ud800\"]]}", LV_E_SURROGATE},
             {"{\"val\":1", LV_E_PAYLOAD},
             {"5", LV_E_PAYLOAD}};
  for (size_t i = 0; i < COUNT(bad); i++)
    assert_err(publish(lv_slice_str(bad[i].in), &p, scratch), bad[i].want, bad[i].in);
  assert_int_equal(publish(S("{\"id\":5,\"key\":1,\"val\":1}"), &p, scratch), LV_E_PAYLOAD);
  assert_slice(p.id, S("5")); /* so that the answer can name it */
}

static int packed(lv_slice map, lv_hub_publish *p, lv_buf *json) {
  const char *why = NULL;
  lv_buf_reset(json);
  uint8_t *in = map.n ? malloc(map.n) : NULL; /* its own memory, so that ASan sees overruns */
  if (map.n) memcpy(in, map.p, map.n);
  int err = lv_hub_publish_decode_msgpack(lv_slice_of(in, map.n), json, p, &why);
  assert_true(err == LV_E_TOO_BIG || (why != NULL) == (err != 0));
  assert_true(p->id.n == 0 || lv_msgpack_check(p->id) == 0);
  free(in);
  return err;
}

static void test_publish_msgpack(void **state) {
  const char *why = NULL;
  lv_hub_publish p;
  lv_buf json;
  lv_buf_init(&json, 64);
  lv_slice in = S("\x86\xA2id\xCD\x01\x00\xA3key\xA1k\xA3tag\xA1t\xA3"
                  "cat\xA1"
                  "c\xA3odd\x91\x01\xA3val\x81\xA1"
                  "a\x92\xC0\xC4\x01\xFF");
  assert_int_equal(lv_hub_publish_decode_msgpack(in, &json, &p, &why), 0);
  assert_slice(p.id, S("\xCD\x01\x00"));
  assert_slice(p.key, S("k"));
  assert_slice(p.tag, S("t"));
  assert_slice(p.cat, S("c"));
  assert_true(p.has_key && p.has_tag && p.has_cat && !p.binary);
  assert_slice(p.val.s, S("{\"a\":[null,\"/w==\"]}"));
  assert_int_not_equal(p.val.type, LV_JSON_STRING);
  lv_buf_reset(&json);
  assert_int_equal(lv_hub_publish_decode_msgpack(S("\x81\xA3val\xA2t\n"), &json, &p, &why), 0);
  assert_int_equal(p.val.type, LV_JSON_STRING);
  assert_slice(p.val.s, S("\"t\\n\""));
  assert_int_equal(lv_hub_publish_decode_msgpack(S("\x81\xA3val\xC4\x02\x00\xFF"), &json, &p, &why),
                   0);
  assert_true(p.binary && p.id.n == 0 && !p.has_key);
  assert_slice(p.bin, S("\x00\xFF"));
  static const struct {
    lv_slice in;
    int want;
  } bad[] = {{LV_SLICE(""), LV_E_PAYLOAD},
             {LV_SLICE("\x80"), LV_E_PAYLOAD},
             {LV_SLICE("\x90"), LV_E_PAYLOAD},
             {LV_SLICE("\x81\xA3val"), LV_E_PAYLOAD},
             {LV_SLICE("\x81\xA3val\x01\x01"), LV_E_PAYLOAD},
             {LV_SLICE("\x81\xA3val\xD4\x01\x01"), LV_E_PAYLOAD},
             {LV_SLICE("\x81\xA3val\x81\x01\x01"), LV_E_PAYLOAD},
             {LV_SLICE("\x81\xA3"
                       "b64\xA0"),
              LV_E_PAYLOAD},
             {LV_SLICE("\x82\xA3key\x01\xA3val\x01"), LV_E_PAYLOAD},
             {LV_SLICE("\x82\xA2id\x90\xA3val\x01"), LV_E_PAYLOAD}};
  for (size_t i = 0; i < COUNT(bad); i++)
    assert_int_equal(packed(bad[i].in, &p, &json), bad[i].want);
  assert_int_equal(packed(S("\x83\xA3key\x01\xA3val\x01\xA2id\x05"), &p, &json), LV_E_PAYLOAD);
  assert_int_equal(p.id.n, 1); /* though it came last */
  uint8_t big[80] = "\x81\xA3val\xD9\x46";
  memset(big + 7, 'x', 0x46);
  assert_int_equal(packed(lv_slice_of(big, 7 + 0x46), &p, &json), LV_E_TOO_BIG);
  lv_buf_done(&json);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_transcript),    cmocka_unit_test(test_members),
      cmocka_unit_test(test_msgpack_bytes), cmocka_unit_test(test_kind),
      cmocka_unit_test(test_events),        cmocka_unit_test(test_positions),
      cmocka_unit_test(test_sse),           cmocka_unit_test(test_client),
      cmocka_unit_test(test_publish),       cmocka_unit_test(test_publish_msgpack),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
