/* suggest.c: edit distance with swaps (optimal string alignment) over two short words, in three
 * rows on the stack. */
#include "core/suggest.h"
#include <assert.h>
#include <string.h>

enum { WORD_MAX = 40, FAR = 9 };

static uint32_t min3(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t m = a < b ? a : b;
  return m < c ? m : c;
}

uint32_t lv_suggest_distance(const char *a, size_t na, const char *b, size_t nb) {
  if (na > WORD_MAX || nb > WORD_MAX) return FAR;
  uint8_t rows[3][WORD_MAX + 1];
  uint8_t *two = rows[0], *one = rows[1], *cur = rows[2];
  for (size_t j = 0; j <= nb; j++) one[j] = (uint8_t)j;
  for (size_t i = 1; i <= na; i++) {
    cur[0] = (uint8_t)i;
    for (size_t j = 1; j <= nb; j++) {
      uint32_t d = min3(one[j] + 1u, cur[j - 1] + 1u, one[j - 1] + (a[i - 1] != b[j - 1]));
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && two[j - 2] + 1u < d)
        d = two[j - 2] + 1u;
      cur[j] = (uint8_t)d;
    }
    uint8_t *t = two;
    two = one;
    one = cur;
    cur = t;
  }
  return one[nb] > FAR ? FAR : one[nb];
}

void lv_suggest_init(lv_suggest *s, const char *typed, size_t n) {
  assert(s && typed);
  *s = (lv_suggest){.typed = typed, .n = n, .distance = FAR};
}

void lv_suggest_offer(lv_suggest *s, const char *word) {
  assert(s && word);
  size_t nw = strlen(word), longer = nw > s->n ? nw : s->n;
  size_t shorter = nw < s->n ? nw : s->n;
  uint32_t d = lv_suggest_distance(s->typed, s->n, word, nw);
  if (shorter >= 3 && memcmp(s->typed, word, shorter) == 0 && d > 1) d = 1;
  if (d * 3 > longer || d >= s->distance) return;
  s->best = word;
  s->distance = d;
}
