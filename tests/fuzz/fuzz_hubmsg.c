/* fuzz_hubmsg.c: what a customer sends. The first byte picks: a query, a client frame (in JSON or
 * msgpack), a publish frame, or a message whose texts are the input, which has to come out as one
 * object in every form, within the room that was asked for. */
#include "fuzz.h"
#include "wire/hubmsg.h"
#include "wire/mqtt.h"
#include "wire/msgpack.h"

static void query(lv_slice in, uint8_t gen) {
  static lv_hub_query q;
  char why[LV_HUB_WHY_MAX] = "";
  uint8_t *scratch = malloc(in.n + 1u);
  CHECK(scratch != NULL);
  int err = lv_hub_query_parse(in, (lv_slice){0}, gen, scratch, &q, why);
  CHECK(err == 0 || (err == LV_E_INVALID && why[0] && strlen(why) < LV_HUB_WHY_MAX));
  if (err == 0) {
    CHECK(q.n_channels >= 1 && q.n_channels <= LV_HUB_CHANNELS_MAX);
    CHECK(q.n_cats <= LV_HUB_CATS_MAX && q.conflate_ms <= LV_HUB_CONFLATE_MAX_MS);
    for (uint32_t i = 0; i < q.n_channels; i++) {
      CHECK(lv_channel_name_ok(q.channels[i]) || lv_slice_eq(q.channels[i], LV_SLICE("_")));
      CHECK(q.since[i].kind == LV_HUB_SINCE_NONE || (q.has_since && q.pos));
      if (q.since[i].kind == LV_HUB_SINCE_POS) fuzz_touch(q.since[i].pos.epoch);
    }
    for (uint32_t i = 0; i < q.n_cats; i++) CHECK(lv_utf8_valid(q.cats[i], true));
    CHECK(lv_utf8_valid(q.user_id, true) && lv_utf8_valid(q.api_key, true));
    CHECK(q.keys.n == 0 || lv_mqtt_filter_check(q.keys) == 0);
  }
  free(scratch);
}

static void client(lv_slice in, uint8_t gen, uint8_t encoding) {
  lv_hub_client c;
  const char *why = NULL;
  uint8_t *scratch = malloc(in.n + 1u);
  CHECK(scratch != NULL);
  int err = lv_hub_client_decode(gen, encoding, in, scratch, &c, &why);
  CHECK((err == 0) == (why == NULL));
  if (err == 0) CHECK(lv_utf8_valid(c.channel, false) && c.snapshot <= c.has_snapshot);
  free(scratch);
}

static void publish(lv_slice in) {
  lv_hub_publish p;
  const char *why = NULL;
  uint8_t *scratch = malloc(in.n ? in.n : 1);
  CHECK(scratch != NULL);
  int err = lv_hub_publish_decode(in, scratch, &p, &why);
  CHECK((err == 0) == (why == NULL));
  CHECK(p.id.n == 0 || lv_json_check_value(p.id) == 0);
  if (err == 0) {
    CHECK(lv_utf8_valid(p.key, false) && lv_utf8_valid(p.tag, false) &&
          lv_utf8_valid(p.cat, false));
    CHECK(p.binary || lv_json_check_value(p.val.s) == 0);
    fuzz_touch(p.bin);
  }
  free(scratch);
}

static void publish_packed(lv_slice in) {
  lv_hub_publish p;
  const char *why = NULL;
  lv_buf json;
  lv_buf_init(&json, 4096);
  int err = lv_hub_publish_decode_msgpack(in, &json, &p, &why);
  CHECK(err == LV_E_TOO_BIG || (err == 0) == (why == NULL));
  CHECK(p.id.n == 0 || lv_msgpack_check(p.id) == 0);
  if (err == 0) {
    CHECK(lv_utf8_valid(p.key, false) && lv_utf8_valid(p.tag, false) &&
          lv_utf8_valid(p.cat, false));
    CHECK(p.binary || lv_json_check_value(p.val.s) == 0);
    fuzz_touch(p.bin);
  }
  lv_buf_done(&json);
}

static void form(const lv_hub_data *d, uint8_t gen, uint8_t encoding) {
  uint32_t cap = lv_hub_data_bound(d, gen, encoding);
  uint8_t *p = malloc(cap);
  CHECK(p != NULL);
  int n = lv_hub_data_encode(d, gen, encoding, p, cap);
  CHECK(n > 0);
  lv_slice out = lv_slice_of(p, (size_t)n);
  CHECK(encoding == LV_HUB_JSON ? lv_json_check_value(out) == 0 : lv_msgpack_check(out) == 0);
  uint32_t size = lv_hub_sse_size(LV_SLICE("e-1"), LV_SLICE(""), out);
  uint8_t *q = malloc(size);
  CHECK(q && lv_hub_sse_put(q, LV_SLICE("e-1"), LV_SLICE(""), out) == q + size);
  free(q);
  free(p);
}

/* The input's first part is the topic, then come publisher id and properties, then the value. */
static void message(lv_slice in, uint8_t content) {
  lv_slice part[3];
  for (int i = 0; i < 3; i++) (void)lv_slice_split(&in, '\n', &part[i]);
  if (part[0].n == 0 || part[0].n > 1000) return;
  lv_slice chan;
  lv_rec_in r = {.kind = LV_REC_MSG, .topic = part[0], .pid = part[1], .props = part[2], .val = in};
  lv_topic_split(r.topic, &chan, &r.key_off);
  uint32_t size;
  if (lv_rec_size(&r, &size)) return;
  void *mem = aligned_alloc(8, size);
  CHECK(mem != NULL);
  lv_hub_data d = {.rec = lv_rec_write(&r, mem, size), .kind = lv_hub_kind(content, in)};
  CHECK(lv_slice_eq(lv_hub_channel_of(d.rec), chan));
  form(&d, LV_HUB_V1, LV_HUB_JSON);
  form(&d, LV_HUB_V1, LV_HUB_MSGPACK);
  form(&d, LV_HUB_V09, LV_HUB_JSON);
  free(mem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  uint8_t what = fuzz_byte(&data, &size);
  lv_slice in = fuzz_copy(data, size);
  switch (what & 3) {
  case 0: query(in, what >> 2 & 1); break;
  case 1: client(in, what >> 2 & 1, what >> 3 & 1); break;
  case 2:
    publish(in);
    publish_packed(in);
    break;
  default: message(in, what >> 2 & 3); break;
  }
  fuzz_free(in);
  return 0;
}
