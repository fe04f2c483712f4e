/* msgpack_peer.c: our converter as a filter, for test_msgpack_peer.py. Each line in is `J` and a
 * JSON text, or `M` and msgpack in hex; each line out its other form, or `E` and the error. */
#include "core/buf.h"
#include "wire/json.h"
#include "wire/msgpack.h"
#include <stdio.h>
#include <stdlib.h>

static void to_hex(lv_slice json) {
  uint64_t cap = LV_MSGPACK_BOUND(json.n);
  uint8_t *p = malloc(cap);
  int n = p ? lv_msgpack_from_json(json, p, cap) : LV_E_NOMEM;
  if (n < 0) printf("E %s", lv_err_name(n));
  for (int i = 0; i < n; i++) printf("%02x", p[i]);
  putchar('\n');
  free(p);
}

static void from_hex(lv_slice hex) {
  uint8_t *p = malloc(hex.n / 2 + 1);
  lv_buf out;
  if (!p) abort();
  for (uint32_t i = 0; i + 1 < hex.n; i += 2) {
    const char two[3] = {(char)hex.p[i], (char)hex.p[i + 1], 0};
    p[i / 2] = (uint8_t)strtoul(two, NULL, 16);
  }
  lv_buf_init(&out, 1 << 24);
  int err = lv_msgpack_to_json(lv_slice_of(p, hex.n / 2), &out);
  if (err)
    printf("E %s\n", lv_err_name(err));
  else
    printf("%.*s\n", (int)out.n, out.p);
  lv_buf_done(&out);
  free(p);
}

int main(void) {
  char *line = NULL;
  size_t cap = 0;
  ssize_t n;
  while ((n = getline(&line, &cap, stdin)) > 1) {
    lv_slice s = lv_slice_of(line + 1, (size_t)n - 2); /* without the line end */
    if (line[0] == 'J')
      to_hex(s);
    else
      from_hex(s);
  }
  free(line);
  return 0;
}
