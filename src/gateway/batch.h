/* batch.h: the body of a batch taken apart into its items: lines (application/x-ndjson) or the
 * elements of a JSON array. Pure: slices of the body (private to gateway/). @thread any */
#ifndef LV_GATEWAY_BATCH_H
#define LV_GATEWAY_BATCH_H
#include "wire/json.h"

typedef struct lv_cut {
  bool array;
  lv_slice rest; /* lines */
  lv_json json;  /* an array, after its `[` */
} lv_cut;

/* Looks through the whole body: how many items there are. LV_E_PAYLOAD, LV_E_NESTING: an array that
 * is not JSON, or no array (lines are judged one by one, later); LV_E_INVALID: no item;
 * LV_E_TOO_BIG: more than `max`. *ret_why (on errors) says it as a sentence. */
int lv_cut_init(lv_cut *c, bool array, lv_slice body, uint32_t max, uint32_t *ret_n,
                const char **ret_why);
/* The next item's text; empty for what cannot be an object. After so many calls there is none. */
lv_slice lv_cut_next(lv_cut *c);

#endif
