/* hub_client.c: what clients send on a connection: subscribe and unsubscribe objects, and publish
 * frames. Members are picked in place; only strings with escapes and base64 are copied, into the
 * caller's scratch, which is as large as the frame, so that all of them fit. @thread any */
#include "wire/hubmsg.h"
#include "wire/msgpack.h"
#include <assert.h>

enum member { TYPE, CHANNEL, SNAPSHOT, MEMBERS };
static const lv_slice names[2][MEMBERS] = {
    [LV_HUB_V1] = {{(const uint8_t *)"typ", 3},
                   {(const uint8_t *)"chn", 3},
                   {(const uint8_t *)"snapshot", 8}},
    [LV_HUB_V09] = {{(const uint8_t *)"type", 4},
                    {(const uint8_t *)"channel", 7},
                    {(const uint8_t *)"snapshot", 8}},
};

/* The members, whatever the encoding. */
typedef struct frame {
  bool has_type, has_channel;
  uint64_t type;
  lv_slice channel;
  bool has_snapshot, snapshot;
  const char *why;
} frame;

static int refuse(const char **ret_why, int err, const char *why) {
  *ret_why = why;
  return err;
}

static int json_members(uint8_t gen, lv_slice text, uint8_t *scratch, frame *f) {
  lv_json_tok t[MEMBERS];
  bool negative;
  int err = lv_json_pick_from(text, names[gen], MEMBERS, t);
  if (err) return refuse(&f->why, err, "not a JSON object");
  if (t[TYPE].type == LV_JSON_NUMBER)
    f->has_type = lv_json_integer(&t[TYPE], &f->type, &negative) && !negative;
  if (t[CHANNEL].type == LV_JSON_STRING) {
    err = lv_json_unescape(&t[CHANNEL], scratch, &f->channel);
    if (err) return refuse(&f->why, err, "the channel has a lone surrogate");
    f->has_channel = true;
  }
  uint8_t s = t[SNAPSHOT].type;
  if (s != LV_JSON_NONE && s != LV_JSON_TRUE && s != LV_JSON_FALSE && s != LV_JSON_NULL)
    return refuse(&f->why, LV_E_PAYLOAD, "snapshot is true or false");
  f->has_snapshot = s == LV_JSON_TRUE || s == LV_JSON_FALSE;
  f->snapshot = s == LV_JSON_TRUE;
  return 0;
}

static int msgpack_member(frame *f, uint32_t which, const lv_msgpack_tok *v) {
  if (which == TYPE) {
    f->has_type = v->type == LV_MSGPACK_UINT;
    f->type = f->has_type ? v->u : 0;
  } else if (which == CHANNEL) {
    f->has_channel = v->type == LV_MSGPACK_STR;
    f->channel = v->s;
  } else {
    f->has_snapshot = v->type == LV_MSGPACK_TRUE || v->type == LV_MSGPACK_FALSE;
    f->snapshot = v->type == LV_MSGPACK_TRUE;
    if (!f->has_snapshot && v->type != LV_MSGPACK_NIL)
      return refuse(&f->why, LV_E_PAYLOAD, "snapshot is true or false");
  }
  return 0;
}

static int msgpack_members(uint8_t gen, lv_slice bytes, frame *f) {
  static const char bad[] = "not a msgpack map";
  lv_msgpack m;
  lv_msgpack_tok t, v;
  lv_msgpack_init(&m, bytes);
  int got = lv_msgpack_next(&m, &t);
  if (got < 0 || t.type != LV_MSGPACK_MAP)
    return refuse(&f->why, got < 0 ? got : LV_E_PAYLOAD, bad);
  for (uint32_t i = t.n; i; i--) {
    if ((got = lv_msgpack_next(&m, &t)) < 0 || (got = lv_msgpack_skip(&m, &t)) < 0 ||
        (got = lv_msgpack_next(&m, &v)) < 0 || (got = lv_msgpack_skip(&m, &v)) < 0)
      return refuse(&f->why, got, bad);
    for (uint32_t k = 0; k < MEMBERS; k++)
      if (t.type == LV_MSGPACK_STR && lv_slice_eq(t.s, names[gen][k]) &&
          (got = msgpack_member(f, k, &v)))
        return got;
  }
  got = lv_msgpack_next(&m, &t);
  return got ? refuse(&f->why, got < 0 ? got : LV_E_PAYLOAD, bad) : 0;
}

int lv_hub_client_decode(uint8_t gen, uint8_t encoding, lv_slice bytes, uint8_t *scratch,
                         lv_hub_client *ret, const char **ret_why) {
  frame f = {0};
  assert(gen <= LV_HUB_V09 && encoding <= LV_HUB_MSGPACK);
  int err = encoding == LV_HUB_JSON ? json_members(gen, bytes, scratch, &f)
                                    : msgpack_members(gen, bytes, &f);
  if (err) return refuse(ret_why, err, f.why);
  if (!f.has_type) return refuse(ret_why, LV_E_PAYLOAD, "no message type");
  uint64_t type = f.type + (gen == LV_HUB_V09 && f.type <= UINT8_MAX);
  if (type != LV_HUB_CLIENT_SUBSCRIBE && type != LV_HUB_CLIENT_UNSUBSCRIBE)
    return refuse(ret_why, LV_E_PROTOCOL, "clients send CLIENT_SUBSCRIBE and CLIENT_UNSUBSCRIBE");
  if (!f.has_channel) return refuse(ret_why, LV_E_PAYLOAD, "no channel");
  *ret = (lv_hub_client){.type = (uint8_t)type,
                         .has_snapshot = f.has_snapshot,
                         .snapshot = f.snapshot,
                         .channel = f.channel};
  return 0;
}

/* ---- publish: JSON ---- */

enum part { ID, PART_KEY, PART_TAG, PART_CAT, VAL, B64, PARTS };
static const lv_slice parts[PARTS] = {{(const uint8_t *)"id", 2},  {(const uint8_t *)"key", 3},
                                      {(const uint8_t *)"tag", 3}, {(const uint8_t *)"cat", 3},
                                      {(const uint8_t *)"val", 3}, {(const uint8_t *)"b64", 3}};

/* A string member that may be missing or null; takes what it needs off *io_scratch. */
static int take_string(const lv_json_tok *tok, uint8_t **io_scratch, lv_slice *ret, bool *ret_has) {
  if (tok->type == LV_JSON_NONE || tok->type == LV_JSON_NULL) return 0;
  if (tok->type != LV_JSON_STRING) return LV_E_PAYLOAD;
  int err = lv_json_unescape(tok, *io_scratch, ret);
  if (err) return err;
  if (ret->p == *io_scratch) *io_scratch += ret->n;
  *ret_has = true;
  return 0;
}

static int take_id(const lv_json_tok *tok, lv_hub_publish *ret) {
  if (tok->type == LV_JSON_NONE || tok->type == LV_JSON_NULL) return 0;
  if (tok->type == LV_JSON_NUMBER)
    ret->id = tok->s;
  else if (tok->type == LV_JSON_STRING && !(tok->flags & LV_JSON_SURROGATE))
    ret->id = (lv_slice){tok->s.p - 1, tok->s.n + 2}; /* with its quotes */
  else
    return LV_E_PAYLOAD;
  if (ret->id.n <= LV_HUB_ID_MAX) return 0;
  ret->id = (lv_slice){0};
  return LV_E_PAYLOAD;
}

static int take_value(const lv_json_tok *t, uint8_t *scratch, lv_hub_publish *ret,
                      const char **ret_why) {
  lv_slice text;
  bool has = false;
  if ((t[VAL].type == LV_JSON_NONE) == (t[B64].type == LV_JSON_NONE))
    return refuse(ret_why, LV_E_PAYLOAD, "give either val or b64");
  if (t[VAL].type != LV_JSON_NONE) {
    if (t[VAL].flags & LV_JSON_SURROGATE)
      return refuse(ret_why, LV_E_SURROGATE, "val has a lone surrogate");
    ret->val = t[VAL];
    if (t[VAL].type == LV_JSON_STRING) ret->val.s = (lv_slice){t[VAL].s.p - 1, t[VAL].s.n + 2};
    return 0;
  }
  /* decoding in place is fine: three bytes for each four, behind what is read */
  if (take_string(&t[B64], &scratch, &text, &has) || !has ||
      lv_base64_decode(text, text.p == t[B64].s.p ? scratch : (uint8_t *)(uintptr_t)text.p,
                       &ret->bin))
    return refuse(ret_why, LV_E_PAYLOAD, "b64 is not base64 with padding");
  ret->binary = true;
  return 0;
}

int lv_hub_publish_decode(lv_slice object, uint8_t *scratch, lv_hub_publish *ret,
                          const char **ret_why) {
  lv_json_tok t[PARTS];
  uint8_t *free_at = scratch;
  *ret = (lv_hub_publish){0};
  int err = lv_json_pick_from(object, parts, PARTS, t);
  if (err) return refuse(ret_why, err, "not a JSON object");
  if ((err = take_id(&t[ID], ret)))
    return refuse(ret_why, err, "id is a string or a number, at most 256 bytes");
  if ((err = take_string(&t[PART_KEY], &free_at, &ret->key, &ret->has_key)))
    return refuse(ret_why, err, "key is a string");
  if ((err = take_string(&t[PART_TAG], &free_at, &ret->tag, &ret->has_tag)))
    return refuse(ret_why, err, "tag is a string");
  if ((err = take_string(&t[PART_CAT], &free_at, &ret->cat, &ret->has_cat)))
    return refuse(ret_why, err, "cat is a string");
  return take_value(t, free_at, ret, ret_why);
}

/* ---- publish: msgpack ---- */

static bool is_nothing(const lv_msgpack_tok *t) {
  return t->type == LV_MSGPACK_NIL;
}

static int take_packed_id(const lv_msgpack_tok *t, lv_slice raw, lv_hub_publish *ret) {
  if (is_nothing(t)) return 0;
  if (t->type != LV_MSGPACK_STR && t->type != LV_MSGPACK_UINT && t->type != LV_MSGPACK_INT)
    return LV_E_PAYLOAD;
  if (raw.n > LV_HUB_ID_MAX) return LV_E_PAYLOAD;
  ret->id = raw;
  return 0;
}

static int take_packed_string(const lv_msgpack_tok *t, lv_slice *ret, bool *ret_has) {
  if (is_nothing(t)) return 0;
  if (t->type != LV_MSGPACK_STR) return LV_E_PAYLOAD;
  *ret = t->s;
  *ret_has = true;
  return 0;
}

static int take_packed_value(const lv_msgpack_tok *t, lv_slice raw, lv_buf *json,
                             lv_hub_publish *ret) {
  size_t from = json->n;
  ret->binary = t->type == LV_MSGPACK_BIN;
  ret->bin = t->s;
  ret->val = (lv_json_tok){0};
  if (ret->binary) return 0;
  int err = lv_msgpack_to_json(raw, json);
  if (err) return err;
  ret->val.type = t->type == LV_MSGPACK_STR ? LV_JSON_STRING : LV_JSON_OBJECT;
  ret->val.s = lv_slice_of(json->p + from, json->n - from);
  return 0;
}

/* One member, whose value is `t`, which was written as `raw`. */
static int take_packed(uint32_t which, const lv_msgpack_tok *t, lv_slice raw, lv_buf *json,
                       lv_hub_publish *ret, const char **ret_why) {
  static const char *const bad[PARTS] = {[ID] = "id is a string or an integer, at most 256 bytes",
                                         [PART_KEY] = "key is a string",
                                         [PART_TAG] = "tag is a string",
                                         [PART_CAT] = "cat is a string",
                                         [VAL] = "val has what JSON has no form for",
                                         [B64] = "give bytes as val"};
  int err;
  switch (which) {
  case ID: err = take_packed_id(t, raw, ret); break;
  case PART_KEY: err = take_packed_string(t, &ret->key, &ret->has_key); break;
  case PART_TAG: err = take_packed_string(t, &ret->tag, &ret->has_tag); break;
  case PART_CAT: err = take_packed_string(t, &ret->cat, &ret->has_cat); break;
  case VAL: err = take_packed_value(t, raw, json, ret); break;
  default: err = LV_E_PAYLOAD; break;
  }
  return err ? refuse(ret_why, err, err == LV_E_TOO_BIG ? NULL : bad[which]) : 0;
}

/* A value and what it holds; ret_raw: all of its bytes. */
static int packed_next(lv_msgpack *m, lv_msgpack_tok *t, lv_slice *ret_raw) {
  const uint8_t *from = m->p;
  int got = lv_msgpack_next(m, t);
  if (got == 1) got = lv_msgpack_skip(m, t);
  *ret_raw = lv_slice_of(from, (size_t)(m->p - from));
  return got < 0 ? got : 0;
}

int lv_hub_publish_decode_msgpack(lv_slice map, lv_buf *json, lv_hub_publish *ret,
                                  const char **ret_why) {
  static const char bad[] = "not a msgpack map";
  lv_msgpack m;
  lv_msgpack_tok t, v;
  lv_slice raw;
  *ret = (lv_hub_publish){0};
  lv_msgpack_init(&m, map);
  int got = lv_msgpack_check(map);
  if (!got) got = lv_msgpack_next(&m, &t) == 1 && t.type == LV_MSGPACK_MAP ? 0 : LV_E_PAYLOAD;
  if (got) return refuse(ret_why, got, bad);
  int first = 0;
  for (uint32_t i = t.n; i; i--) {
    got = packed_next(&m, &t, &raw);
    if (!got) got = packed_next(&m, &v, &raw);
    assert(!got); /* it was checked as a whole */
    uint32_t which = 0;
    while (which < PARTS && !(t.type == LV_MSGPACK_STR && lv_slice_eq(t.s, parts[which]))) which++;
    /* The id may come behind what is wrong. */
    if (which < PARTS && (!first || which == ID)) {
      int err = take_packed(which, &v, raw, json, ret, first ? &(const char *){0} : ret_why);
      if (!first) first = err;
    }
  }
  if (first) return first;
  if (!ret->binary && ret->val.type == LV_JSON_NONE)
    return refuse(ret_why, LV_E_PAYLOAD, "val is missing");
  return 0;
}
