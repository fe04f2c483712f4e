/* json_bench.c: what JSON, msgpack and the hub's messages cost, alone: MB/s of checking beside
 * jansson, ns for each message encoded in each form. CPU time of one thread, hot cache; the least
 * of five rounds counts, since what disturbs a round only makes it slower. Usage: json_bench
 * [ROUND_MS] */
#include "wire/hubmsg.h"
#include "wire/msgpack.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROUNDS = 5 };

static double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* What is measured: fn does it `batch` times. */
typedef struct job {
  void (*fn)(const struct job *j);
  lv_slice in;
  const lv_hub_data *data;
  uint8_t gen, encoding;
  int batch;
} job;

static uint8_t out[8 << 20];

static void check(const job *j) {
  for (int i = 0; i < j->batch; i++)
    if (lv_json_check_value(j->in)) abort();
}
static void jansson(const job *j) {
  for (int i = 0; i < j->batch; i++) {
    json_t *v = json_loadb((const char *)j->in.p, j->in.n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (!v) abort();
    json_decref(v);
  }
}
static void convert(const job *j) {
  for (int i = 0; i < j->batch; i++)
    if (lv_msgpack_from_json(j->in, out, sizeof out) < 0) abort();
}
static void encode(const job *j) {
  for (int i = 0; i < j->batch; i++)
    if (lv_hub_data_encode(j->data, j->gen, j->encoding, out, sizeof out) < 0) abort();
}
static void kind(const job *j) {
  for (int i = 0; i < j->batch; i++)
    if (lv_hub_kind(LV_CONTENT_AUTO, j->in) != LV_HUB_KIND_JSON) abort();
}
/* The same message through jansson's tree. */
static void jansson_encode(const job *j) {
  for (int i = 0; i < j->batch; i++) {
    json_t *v = json_loadb((const char *)j->in.p, j->in.n, JSON_DECODE_ANY, NULL);
    json_t *o = json_pack("{s:i,s:s,s:s,s:s,s:s,s:I,s:o}", "typ", 7, "chn", "factory", "key",
                          "line-7/temperature", "tag", "", "pid", "device-042", "tms",
                          (json_int_t)1795517431000, "val", v);
    char *text = json_dumps(o, JSON_COMPACT);
    if (!text) abort();
    free(text);
    json_decref(o);
  }
}

static double measure(const job *j, double round_ns) {
  double best = 1e18;
  for (int r = 0; r < ROUNDS; r++) {
    double start = now_ns(), end = start;
    uint64_t n = 0;
    for (; end - start < round_ns; end = now_ns(), n += (uint64_t)j->batch) j->fn(j);
    double each = (end - start) / (double)n;
    if (each < best) best = each;
  }
  return best;
}

/* About `size` bytes of one kind of text, as an array. */
static lv_slice large(const char *item, uint32_t size) {
  uint32_t len = (uint32_t)strlen(item), n = 0;
  char *p = malloc(size + len + 2);
  if (!p) abort();
  p[n++] = '[';
  for (; n < size; n += len) memcpy(p + n, item, len);
  p[n - 1] = ']';
  return lv_slice_of(p, n);
}

static const char value128[] =
    "{\"latitude\":\"12.51833\",\"longitude\":\"-3.250127\",\"temperature\":21.53,\"seq\":1234567,"
    "\"unit\":\"celsius\",\"status\":\"ok\",\"n\":[1,2,3]}";

static void texts(double round_ns) {
  const struct {
    const char *name, *item;
  } kinds[] = {
      {"telemetry objects", "{\"latitude\":\"12.51833\",\"longitude\":\"-3.250127\",\"t\":21.53},"},
      {"text of 200 bytes",
       "\"The quick brown fox jumps over the lazy dog and goes on to jump over the lazy dog, and "
       "then the quick brown fox jumps over the lazy dog and goes on to jump over it all again and "
       "again, lazily.\","},
      {"text, not ASCII", "\"Gr\xC3\xBC\xC3\x9F"
                          "e aus K\xC3\xB6ln \xE2\x82\xAC\","},
      {"integers", "1234567,"},
      {"doubles", "-12.518330457,"}};
  printf("%-28s %10s %10s %14s\n", "1 MB of", "check MB/s", "jansson", "to msgpack");
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    lv_slice in = large(kinds[i].item, 1000000);
    double mb = (double)in.n * 1e3;
    job j = {.fn = check, .in = in, .batch = 1};
    double ours = mb / measure(&j, round_ns);
    j.fn = jansson;
    double theirs = mb / measure(&j, round_ns);
    j.fn = convert;
    printf("%-28s %10.0f %10.0f %14.0f\n", kinds[i].name, ours, theirs, mb / measure(&j, round_ns));
    free((void *)(uintptr_t)in.p);
  }
}

int main(int argc, char **argv) {
  double round_ns = (argc > 1 ? strtod(argv[1], NULL) : 50) * 1e6;
  texts(round_ns);
  lv_slice val = lv_slice_str(value128);
  lv_rec_in in = {.kind = LV_REC_MSG,
                  .key_off = 8,
                  .topic = LV_SLICE("factory/line-7/temperature"),
                  .pid = LV_SLICE("device-042"),
                  .ingest_ns = 1795517431000000000,
                  .val = val};
  uint32_t size;
  if (lv_rec_size(&in, &size)) return 1;
  void *mem = aligned_alloc(8, size);
  if (!mem) return 1;
  lv_hub_data d = {.rec = lv_rec_write(&in, mem, size), .kind = LV_HUB_KIND_JSON};
  lv_hub_data pos = d;
  pos.has_pos = true;
  pos.pos = (lv_hub_pos){LV_SLICE("18f2a7c0d1e2"), 123456789};
  const struct {
    const char *name;
    job j;
  } jobs[] = {
      {"what is it (once a message)", {kind, val, NULL, 0, 0, 1000}},
      {"DATA 1.x JSON", {encode, val, &d, LV_HUB_V1, LV_HUB_JSON, 1000}},
      {"DATA 1.x JSON, with pos", {encode, val, &pos, LV_HUB_V1, LV_HUB_JSON, 1000}},
      {"DATA 1.x msgpack", {encode, val, &d, LV_HUB_V1, LV_HUB_MSGPACK, 1000}},
      {"DATA 0.9 JSON", {encode, val, &d, LV_HUB_V09, LV_HUB_JSON, 1000}},
      {"DATA 1.x JSON by jansson", {jansson_encode, val, NULL, 0, 0, 1000}},
  };
  printf("\na value of %u bytes of JSON\n", (unsigned)val.n);
  for (size_t i = 0; i < sizeof jobs / sizeof jobs[0]; i++)
    printf("%-42s %7.1f ns\n", jobs[i].name, measure(&jobs[i].j, round_ns));
  free(mem);
  return 0;
}
