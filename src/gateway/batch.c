/* batch.c: see batch.h. Lines end with LF, a CR before it is white space to JSON; empty lines are
 * skipped. An array is scanned twice, to be refused as a whole before anything of it is published;
 * scanning is cheap beside publishing. */
#include "gateway/batch.h"
#include <assert.h>

static bool blank(lv_slice s) {
  for (uint32_t i = 0; i < s.n; i++)
    if (s.p[i] != ' ' && s.p[i] != '\t' && s.p[i] != '\r') return false;
  return true;
}

/* False: no line that is not empty is left. */
static bool line_next(lv_slice *rest, lv_slice *ret) {
  while (rest->n) {
    (void)lv_slice_split(rest, '\n', ret);
    if (!blank(*ret)) return true;
  }
  return false;
}

/* 1: *ret is the next element (empty unless it is an object); 0: the array has ended. */
static int element_next(lv_json *j, lv_slice *ret) {
  lv_json_tok t;
  int rc = lv_json_next(j, &t);
  if (rc < 0 || t.type == LV_JSON_ARRAY_END) return rc < 0 ? rc : 0;
  bool object = t.type == LV_JSON_OBJECT;
  rc = lv_json_skip(j, &t);
  if (rc) return rc;
  *ret = object ? t.s : (lv_slice){0};
  return 1;
}

static int count(const lv_cut *c, uint32_t max, uint32_t *ret_n) {
  lv_slice item, rest = c->rest;
  lv_json j = c->json;
  lv_json_tok t;
  uint32_t n = 0;
  int rc;
  for (;; n++) {
    rc = c->array ? element_next(&j, &item) : line_next(&rest, &item);
    if (rc <= 0) break;
    if (n == max) return LV_E_TOO_BIG;
  }
  if (!rc && c->array) rc = lv_json_next(&j, &t); /* nothing but white space behind it */
  if (rc < 0) return rc;
  *ret_n = n;
  return n ? 0 : LV_E_INVALID;
}

int lv_cut_init(lv_cut *c, bool array, lv_slice body, uint32_t max, uint32_t *ret_n,
                const char **ret_why) {
  lv_json_tok t = {0};
  *c = (lv_cut){.array = array, .rest = body};
  lv_json_init(&c->json, body);
  int err = array ? lv_json_next(&c->json, &t) : 1;
  if (err == 1 && array && t.type != LV_JSON_ARRAY) err = LV_E_PAYLOAD;
  if (err >= 0) err = count(c, max, ret_n);
  if (err == LV_E_TOO_BIG)
    *ret_why = "too many messages in one batch";
  else if (err == LV_E_INVALID)
    *ret_why = "no messages in the batch";
  else if (err)
    *ret_why = "the body is not a JSON array";
  return err;
}

lv_slice lv_cut_next(lv_cut *c) {
  lv_slice item;
  int rc = c->array ? element_next(&c->json, &item) : line_next(&c->rest, &item);
  assert(rc == 1); /* lv_cut_init has counted */
  return item;
}
