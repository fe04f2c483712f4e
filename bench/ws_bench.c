/* ws_bench.c: what WebSocket costs in wire/, alone: ns a frame, GB/s of masks and UTF-8, bytes a
 * connection, ns a message compressed and decompressed. One thread, hot cache, the least of five
 * rounds. Decoding includes the copy of 16 KiB into the read buffer that a read would make, since
 * unmasking spends it. wslay_bench is the peer. Usage: ws_bench [ROUND_MS] */
#include "wire/deflate.h"
#include "wire/ws.h"
#include "ws_stream.h"

typedef struct job {
  const char *name;
  void (*fn)(const struct job *j);
  uint32_t size;
  bool per_byte; /* told as GB/s */
} job;

static uint8_t text[1 << 16], squeezed[1 << 17];
static stream in;
static uint32_t n_squeezed;

static void keep(const void *p) {
  __asm__ volatile("" ::"r"(p) : "memory");
}

/* Each does about a read's worth and returns through `units` of the job's own. */
static uint64_t units;

static void decode(const job *j) {
  static uint8_t buf[READ];
  static const lv_ws_rules rules = {.message_max = 1 << 20, .whole_max = READ, .frames_max = 100};
  lv_ws ws = {0};
  lv_ws_event e;
  memcpy(buf, in.bytes, in.n);
  lv_ws_in rd = {buf, in.n, 0};
  uint32_t got = 0;
  while (lv_ws_next(&ws, &rules, &rd, &e) == 1) {
    keep(&e);
    got++;
  }
  if (got != in.frames) abort();
  units += j->per_byte ? (uint64_t)got * j->size : got;
}
static void mask(const job *j) {
  static uint8_t buf[(1 << 16) + 1];
  keep(buf + lv_ws_mask(buf + 1, j->size, 0x3D21FA37) % 2);
  units += j->size;
}
static void utf8(const job *j) {
  lv_ws_utf8 u = LV_WS_UTF8_START;
  if (!lv_ws_utf8_add(&u, lv_slice_of(text, j->size))) abort();
  units += j->size;
}
static void head(const job *j) {
  uint8_t d[LV_WS_HEAD_MAX];
  for (int i = 0; i < 1000; i++) {
    keep(d + lv_ws_head_encode(LV_WS_FIN | LV_WS_TEXT, j->size, d) - 2);
    keep(d);
  }
  units += 1000;
}
static void squeeze(const job *j) {
  if (lv_deflate(lv_slice_of(text, j->size), 15, squeezed, sizeof squeezed, &n_squeezed)) abort();
  units++;
}
static void swell(const job *j) {
  static lv_buf out;
  if (!out.max) lv_buf_init(&out, 1 << 17);
  lv_buf_reset(&out);
  if (lv_inflate(lv_slice_of(squeezed, n_squeezed), &out) || out.n != j->size) abort();
  units++;
}

static double measure(const job *j, double round_ns) {
  double best = 1e18;
  for (int r = 0; r < ROUNDS; r++) {
    double start = now_ns(), end = start;
    for (units = 0; end - start < round_ns; end = now_ns())
      for (int i = 0; i < 20; i++) j->fn(j);
    double each = (end - start) / (double)units;
    if (each < best) best = each;
  }
  return best;
}

static void fill_json(void) {
  uint32_t at = 0;
  for (uint32_t i = 0; at + 200 < sizeof text; i++)
    at += (uint32_t)snprintf(
        (char *)text + at, sizeof text - at,
        "{\"typ\":7,\"chn\":\"iss\",\"key\":\"pos\",\"tag\":\"\",\"pid\":\"feed\",\"tms\":"
        "%llu,\"val\":{\"latitude\":\"%u.%u\",\"longitude\":\"-%u.%u\"}}",
        1795517431000ull + i * 977, i % 90, i * 7 % 100, i % 180, i * 13 % 100);
}
static void fill(const char *word) {
  for (uint32_t i = 0, n = (uint32_t)strlen(word); i + n <= sizeof text; i += n)
    memcpy(text + i, word, n);
}

int main(int argc, char **argv) {
  double round_ns = (argc > 1 ? strtod(argv[1], NULL) : 50) * 1e6;
  const job jobs[] = {
      {"decode a masked text frame of 16 B", decode, 16, false},
      {"decode a masked text frame of 128 B", decode, 128, false},
      {"decode a masked text frame of 1 KiB", decode, 1024, false},
      {"unmask 128 B, unaligned", mask, 128, true},
      {"unmask 4 KiB, unaligned", mask, 4096, true},
      {"unmask 64 KiB, unaligned", mask, 65536, true},
      {"UTF-8, 4 KiB of ASCII", utf8, 4096, true},
      {"UTF-8, 4095 B of two and three bytes", utf8, 4095, true},
      {"encode the head of 128 B", head, 128, false},
      {"compress 128 B of JSON", squeeze, 128, false},
      {"decompress them", swell, 128, false},
      {"compress 1 KiB of JSON", squeeze, 1024, false},
      {"decompress them", swell, 1024, false},
      {"compress 16 KiB of JSON", squeeze, 16384, false},
      {"decompress them", swell, 16384, false},
  };
  printf("%-42s %7zu B\n", "state of a connection", sizeof(lv_ws));
  fill("abcdefgh");
  for (size_t i = 0; i < sizeof jobs / sizeof jobs[0]; i++) {
    const job *j = &jobs[i];
    if (j->fn == decode) stream_make(&in, j->size);
    if (j->fn == utf8 && j->size == 4095) fill("\xd0\x9f\xe2\x82\xac"); /* П€ */
    if (j->fn == squeeze) fill_json();
    double each = measure(j, round_ns);
    if (j->per_byte)
      printf("%-42s %7.1f GB/s\n", j->name, 1 / each);
    else
      printf("%-42s %7.1f ns", j->name, each);
    if (j->fn == squeeze) printf(" (%u B)", n_squeezed);
    if (!j->per_byte) printf("\n");
  }
  return 0;
}
