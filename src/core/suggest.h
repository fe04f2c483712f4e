/* suggest.h: "did you mean": the known word that is nearest to a mistyped one. */
#ifndef LV_CORE_SUGGEST_H
#define LV_CORE_SUGGEST_H
#include <stddef.h>
#include <stdint.h>

/* Edits (insert, delete, replace, swap of neighbours) between two words, capped at 9. Words longer
 * than 40 bytes count as 9 apart. @thread any */
uint32_t lv_suggest_distance(const char *a, size_t na, const char *b, size_t nb);

typedef struct lv_suggest {
  const char *typed;
  size_t n;
  const char *best; /* NULL: nothing is near enough */
  uint32_t distance;
} lv_suggest;
void lv_suggest_init(lv_suggest *s, const char *typed, size_t n);
/* Offers a candidate; it is kept when it is nearer than what came before and near enough: at most a
 * third of the longer word's letters differ, or one starts with the other. */
void lv_suggest_offer(lv_suggest *s, const char *word);

#endif
