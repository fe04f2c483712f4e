/* replay.c: the main of a fuzz target without libFuzzer: runs it on every file of a corpus folder,
 * on every file cut short at each length, and on a few thousand seeded mutations of them. Prints
 * how many inputs that were; an empty corpus is an error. */
#include "fuzz.h"
#include <dirent.h>

#ifndef REPLAY_STRIDE /* of the cuts and mutants, one in so many is run: for costly targets */
#define REPLAY_STRIDE 1
#endif
enum { INPUT_MAX = 1 << 16, MUTANTS = 400 / REPLAY_STRIDE };

static uint64_t seed = 0x9E3779B97F4A7C15ull;
static uint64_t next_random(void) {
  seed ^= seed << 13;
  seed ^= seed >> 7;
  seed ^= seed << 17;
  return seed;
}

static size_t file_read(const char *dir, const char *name, uint8_t *buf) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", dir, name);
  FILE *f = fopen(path, "rb");
  if (!f) {
    fprintf(stderr, "%s: cannot be opened\n", path);
    exit(66);
  }
  size_t n = fread(buf, 1, INPUT_MAX, f);
  fclose(f);
  return n;
}

/* An exact copy each time, so that an overrun of the input itself is seen. */
static void run(const uint8_t *p, size_t n) {
  lv_slice s = fuzz_copy(p, n);
  (void)LLVMFuzzerTestOneInput(s.p, s.n);
  fuzz_free(s);
}

static void mutate(uint8_t *p, size_t n) {
  for (uint64_t k = 1 + next_random() % 4; k; k--) {
    size_t at = next_random() % n;
    switch (next_random() % 4) {
    case 0: p[at] ^= (uint8_t)(1u << next_random() % 8); break;
    case 1: p[at] = (uint8_t)next_random(); break;
    case 2: p[at] = p[next_random() % n]; break;
    default: p[at] = (uint8_t)(next_random() % 2 ? 0 : 0xFF); break;
    }
  }
}

int main(int argc, char **argv) {
  static uint8_t buf[INPUT_MAX], mutant[INPUT_MAX];
  if (argc != 2) {
    fprintf(stderr, "usage: %s CORPUS_FOLDER\n", argv[0]);
    return 64;
  }
  DIR *d = opendir(argv[1]);
  if (!d) {
    fprintf(stderr, "%s: no such folder\n", argv[1]);
    return 66;
  }
  size_t files = 0, inputs = 0;
  struct dirent *e;
  while ((e = readdir(d))) {
    if (e->d_name[0] == '.') continue;
    size_t n = file_read(argv[1], e->d_name, buf);
    files++;
    for (size_t cut = n % REPLAY_STRIDE; cut <= n; cut += REPLAY_STRIDE, inputs++) run(buf, cut);
    for (size_t i = 0; n && i < MUTANTS; i++, inputs++) {
      memcpy(mutant, buf, n);
      mutate(mutant, n);
      run(mutant, n);
    }
  }
  closedir(d);
  printf("%zu files, %zu inputs\n", files, inputs);
  return files ? 0 : 1;
}
