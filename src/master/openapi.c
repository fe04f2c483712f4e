/* openapi.c: /api/v1/openapi.json, made from the table of routes and the schema of the document, so
 * that neither can say something else. tests/e2e/test_40_control.py compares it with what the
 * server does. @thread main */
#include "master/master_int.h"
#include <assert.h>
#include <stdlib.h>

static const char *const status_texts[][2] = {
    {"200", "As asked"},
    {"201", "Made; Location says where it is"},
    {"204", "Taken away"},
    {"400", "The request is malformed"},
    {"401", "No administrator's key, or a wrong one"},
    {"403", "An app's key"},
    {"404", "There is no such thing"},
    {"409", "The name is taken; or what is asked for stands in the configuration file"},
    {"413", "The body is too large"},
    {"415", "The body is not JSON"},
    {"422", "A value that `lavva check` would refuse"},
    {"503", "Busy, or the disk is full; Retry-After"},
};

static void put_statuses(lv_buf *b, const lv__api_route *r) {
  lv_slice rest = lv_slice_str(r->statuses), status;
  lv_buf_add_str(b, "\"responses\":{");
  for (bool first = true, more = true; more; first = false) {
    more = lv_slice_split(&rest, ' ', &status);
    const char *text = NULL, *schema = first ? r->answers : "Error";
    for (size_t i = 0; i < sizeof status_texts / sizeof *status_texts; i++)
      if (lv_slice_eq(status, lv_slice_str(status_texts[i][0]))) text = status_texts[i][1];
    assert(text);
    lv_buf_printf(b, "%s\"%.*s\":{\"description\":\"%s\"", first ? "" : ",", (int)status.n,
                  (const char *)status.p, text);
    if (schema)
      lv_buf_printf(b,
                    ",\"content\":{\"application/json\":{\"schema\":{\"$ref\":"
                    "\"#/components/schemas/%s\"}}}",
                    schema);
    (void)lv_buf_add_byte(b, '}');
  }
  (void)lv_buf_add_byte(b, '}');
}

static void put_params(lv_buf *b, const lv__api_route *r) {
  lv_slice path = lv_slice_str(r->pattern), seg;
  const char *sep = "";
  lv_buf_add_str(b, "\"parameters\":[");
  while (lv_http_path_next(&path, &seg)) {
    if (seg.n < 3 || seg.p[0] != '{') continue;
    lv_buf_printf(b,
                  "%s{\"name\":\"%.*s\",\"in\":\"path\",\"required\":true,"
                  "\"schema\":{\"type\":\"string\"}}",
                  sep, (int)seg.n - 2, (const char *)seg.p + 1);
    sep = ",";
  }
  if (r->list)
    lv_buf_printf(b,
                  "%s{\"name\":\"limit\",\"in\":\"query\",\"description\":\"Items at most\","
                  "\"schema\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":1000,"
                  "\"default\":100}},{\"name\":\"after\",\"in\":\"query\",\"description\":"
                  "\"`next` of the page before\",\"schema\":{\"type\":\"string\"}}",
                  sep);
  if (r->list == 2)
    lv_buf_add_str(b,
                   ",{\"name\":\"from\",\"in\":\"query\",\"description\":\"Rounded down to whole "
                   "steps\",\"schema\":{\"type\":\"string\",\"format\":\"date-time\"}},"
                   "{\"name\":\"to\",\"in\":\"query\",\"description\":\"Exclusive, rounded up; "
                   "default: now\",\"schema\":{\"type\":\"string\",\"format\":\"date-time\"}},"
                   "{\"name\":\"step\",\"in\":\"query\",\"schema\":{\"enum\":[\"minute\",\"hour\","
                   "\"day\",\"total\"],\"default\":\"hour\"}}");
  lv_buf_add_str(b, "],");
}

static void put_operation(lv_buf *b, const lv__api_route *r) {
  static const char *const methods[] = {[LV_HTTP_GET] = "get",
                                        [LV_HTTP_POST] = "post",
                                        [LV_HTTP_PATCH] = "patch",
                                        [LV_HTTP_DELETE] = "delete"};
  lv_buf_printf(b, "\"%s\":{\"operationId\":\"%s\",\"summary\":\"%s\",", methods[r->method], r->id,
                r->summary);
  put_params(b, r);
  if (!strstr(r->statuses, "401")) lv_buf_add_str(b, "\"security\":[],");
  if (r->takes)
    lv_buf_printf(b,
                  "\"requestBody\":{\"required\":true,\"content\":{\"application/json\":{"
                  "\"schema\":{\"$ref\":\"#/components/schemas/%s\"}}}},",
                  r->takes);
  put_statuses(b, r);
  (void)lv_buf_add_byte(b, '}');
}

/* Routes of one path stand together in the table. */
static void put_paths(lv_buf *b) {
  lv_buf_add_str(b, "\"paths\":{");
  for (uint32_t i = 0; i < lv__api_n_routes; i++) {
    const lv__api_route *r = &lv__api_routes[i];
    bool again = i && strcmp(r->pattern, lv__api_routes[i - 1].pattern) == 0;
    if (again)
      (void)lv_buf_add_byte(b, ',');
    else
      lv_buf_printf(b, "%s\"%s\":{", i ? "}," : "", r->pattern);
    put_operation(b, r);
  }
  lv_buf_add_str(b, "}}");
}

/* ---- schemas ---- */
static void put_object(lv_buf *b, const char *name, enum lv_conf_kind kind, bool input,
                       const char *required, const char *more) {
  lv_buf_printf(b,
                "\"%s\":{\"type\":\"object\",\"additionalProperties\":false,\"required\":[%s],"
                "\"properties\":{",
                name, required);
  lv_conf_json_schema(b, kind, input);
  lv_buf_printf(b, "%s}},", more);
}

#define ORIGIN                                                                                     \
  ",\"origin\":{\"enum\":[\"file\",\"store\",\"auto\"],\"description\":\"file: of the "            \
  "configuration file, and read-only; store: made here; auto: made by a publish\"}"
#define COUNTS                                                                                     \
  ",\"channel_count\":{\"type\":\"integer\",\"description\":\"declared channels\"},"               \
  "\"key_count\":{\"type\":\"integer\"}"
#define OF_APP ",\"app\":{\"type\":\"string\"}"
#define THE_KEY                                                                                    \
  ",\"key\":{\"type\":\"string\",\"description\":\"The whole key, this once; absent when a hash "  \
  "was given\"}"

static void put_objects(lv_buf *b) {
  put_object(b, "App", LV_CONF_APP, false, "\"name\",\"origin\",\"limits\"", COUNTS ORIGIN);
  put_object(b, "AppNew", LV_CONF_APP, true, "\"name\"", "");
  put_object(b, "AppChange", LV_CONF_APP, true, "", "");
  put_object(b, "Channel", LV_CONF_CHANNEL, false,
             "\"app\",\"name\",\"origin\",\"durability\",\"retention\"", OF_APP ORIGIN);
  put_object(b, "ChannelNew", LV_CONF_CHANNEL, true, "\"name\"", "");
  put_object(b, "ChannelChange", LV_CONF_CHANNEL, true, "", "");
  put_object(b, "Key", LV_CONF_KEY, false, "\"app\",\"id\",\"origin\"", OF_APP ORIGIN);
  put_object(b, "KeyNew", LV_CONF_KEY, true, "", "");
  put_object(b, "KeyMade", LV_CONF_KEY, false, "\"app\",\"id\",\"origin\"", OF_APP ORIGIN THE_KEY);
  put_object(b, "AdminKey", LV_CONF_ADMIN, false, "\"id\",\"origin\"", ORIGIN);
  put_object(b, "AdminKeyNew", LV_CONF_ADMIN, true, "", "");
  put_object(b, "AdminKeyMade", LV_CONF_ADMIN, false, "\"id\",\"origin\"", ORIGIN THE_KEY);
}

static void put_list(lv_buf *b, const char *name, const char *item) {
  lv_buf_printf(b,
                "\"%s\":{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"items\""
                "],\"properties\":{\"items\":{\"type\":\"array\",\"items\":{\"$ref\":"
                "\"#/components/schemas/%s\"}},\"next\":{\"type\":\"string\",\"description\":"
                "\"`after` of the next page; absent: there is none\"}}},",
                name, item);
}

/* The units as properties; or their names, as they stand in `required`. */
static void put_units(lv_buf *b, bool names) {
  for (int u = 0; u < LV_U_COUNT; u++)
    lv_buf_printf(b, names ? "%s\"%s\"" : "%s\"%s\":{\"type\":\"integer\"}", u ? "," : "",
                  lv_usage_name((enum lv_usage_unit)u));
}

#define TIMES                                                                                      \
  "\"from\":{\"type\":\"string\",\"format\":\"date-time\"},\"to\":{\"type\":\"string\","           \
  "\"format\":\"date-time\"}"

static void put_usage(lv_buf *b) {
  lv_buf_add_str(b, "\"UsageSum\":{\"type\":\"object\",\"description\":\"docs/usage.md has the "
                    "units\",\"required\":[");
  put_units(b, true);
  lv_buf_add_str(b, "],\"properties\":{");
  put_units(b, false);
  lv_buf_add_str(b, "}},\"UsageBucket\":{\"type\":\"object\",\"additionalProperties\":false,"
                    "\"required\":[\"app\",\"from\",\"to\",");
  put_units(b, true);
  lv_buf_add_str(b, "],\"properties\":{\"app\":{\"type\":\"string\"}," TIMES ",");
  put_units(b, false);
  lv_buf_add_str(
      b,
      "}},\"Usage\":{\"type\":\"object\",\"additionalProperties\":false,\"required\":["
      "\"step\",\"from\",\"to\",\"items\",\"total\"],\"properties\":{\"step\":{\"enum\":["
      "\"minute\",\"hour\",\"day\",\"total\"]}," TIMES ",\"items\":{\"type\":\"array\",\"items\":{"
      "\"$ref\":\"#/components/schemas/UsageBucket\"}},\"total\":{\"$ref\":"
      "\"#/components/schemas/UsageSum\"},\"next\":{\"type\":\"string\"}}},");
}

char *lv__openapi(size_t *ret_n) {
  lv_buf b;
  lv_buf_init(&b, 4 << 20);
  lv_buf_add_str(&b, "{\"openapi\":\"3.1.0\",\"info\":{\"title\":\"Lavva control API\",\"version\":"
                     "\"" LV_VERSION "\",\"description\":\"Apps, channels and keys at run time. "
                     "Additive only.\",\"license\":{\"name\":\"Apache-2.0\",\"identifier\":"
                     "\"Apache-2.0\"}},\"security\":[{\"key\":[]}],");
  put_paths(&b);
  lv_buf_add_str(&b, ",\"components\":{\"securitySchemes\":{\"key\":{\"type\":\"http\",\"scheme\":"
                     "\"bearer\",\"description\":\"An administrator's key\"}},\"schemas\":{");
  put_objects(&b);
  put_list(&b, "AppList", "App");
  put_list(&b, "ChannelList", "Channel");
  put_list(&b, "KeyList", "Key");
  put_list(&b, "AdminKeyList", "AdminKey");
  put_usage(&b);
  lv_buf_add_str(
      &b,
      "\"Instance\":{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"name\","
      "\"version\",\"instance\",\"started\",\"uptime_seconds\",\"development\"],\"properties\":{"
      "\"name\":{\"const\":\"lavva\"},\"version\":{\"type\":\"string\"},\"instance\":{\"type\":"
      "\"string\"},\"started\":{\"type\":\"string\",\"format\":\"date-time\"},\"uptime_seconds\":{"
      "\"type\":\"integer\"},\"development\":{\"type\":\"boolean\"}}},"
      "\"Error\":{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"error\","
      "\"code\"],\"properties\":{\"error\":{\"type\":\"string\"},\"code\":{\"type\":\"string\"}}},"
      "\"OpenApi\":{\"type\":\"object\"}}}}\n");
  assert(!b.err);
  return lv_buf_take(&b, ret_n);
}
