/* ledger.c: exact account of losses, duplicates and reordering per row (see ledger.h). The in-order
 * path touches the row only. */
#include "ledger.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void holes_add(lg_ledger *led, lg_row *row, uint32_t lo, uint32_t hi) {
  lg_holes *holes = row->holes;
  uint32_t cap = holes ? holes->cap : 0;
  if (!holes || holes->count == cap) {
    if (cap >= LG_HOLES_MAX) {
      led->abandoned += holes->at[0].hi - holes->at[0].lo;
      holes->count--;
      memmove(&holes->at[0], &holes->at[1], holes->count * sizeof holes->at[0]);
    } else {
      uint32_t grown = cap ? cap * 2 : 4;
      holes = realloc(holes, sizeof *holes + grown * sizeof holes->at[0]);
      if (!holes) abort();
      if (!row->holes) holes->count = 0;
      holes->cap = grown;
      row->holes = holes;
    }
  }
  holes->at[holes->count++] = (lg_hole){lo, hi};
}

/* Index of the first hole whose end is above seq. */
static uint32_t holes_find(const lg_holes *holes, uint32_t seq) {
  uint32_t lo = 0, hi = holes->count;
  while (lo < hi) {
    uint32_t mid = (lo + hi) / 2;
    if (holes->at[mid].hi <= seq)
      lo = mid + 1;
    else
      hi = mid;
  }
  return lo;
}

static void hole_drop(lg_holes *holes, uint32_t i) {
  holes->count--;
  memmove(&holes->at[i], &holes->at[i + 1], (holes->count - i) * sizeof holes->at[0]);
}

/* Takes seq out of the hole it lies in; false when it lies in none. */
static int holes_fill(lg_ledger *led, lg_row *row, uint32_t seq) {
  lg_holes *holes = row->holes;
  if (!holes) return 0;
  uint32_t i = holes_find(holes, seq);
  if (i == holes->count || holes->at[i].lo > seq) return 0;
  lg_hole *h = &holes->at[i];
  if (h->lo == seq) {
    if (++h->lo == h->hi) hole_drop(holes, i);
  } else if (h->hi == seq + 1) {
    h->hi--;
  } else { /* split: append a slot, then rotate the upper part into place */
    uint32_t hi = h->hi, before = holes->count;
    h->hi = seq;
    holes_add(led, row, seq + 1, hi);
    holes = row->holes;
    uint32_t at = before == holes->count ? i : i + 1; /* the oldest may have been given up */
    lg_hole fresh = holes->at[holes->count - 1];
    memmove(&holes->at[at + 1], &holes->at[at], (holes->count - 1 - at) * sizeof fresh);
    holes->at[at] = fresh;
  }
  return 1;
}

lg_seen lg_ledger_see(lg_ledger *led, lg_row *row, uint32_t seq, uint32_t *ret_from) {
  uint32_t next = row->next;
  if (seq >= next) {
    *ret_from = next;
    row->next = seq + 1;
    led->unique++;
    if (seq == next) return LG_IN_ORDER;
    led->jumps++;
    row->missing += seq - next;
    holes_add(led, row, next, seq);
    return LG_JUMP;
  }
  if (!holes_fill(led, row, seq)) {
    led->duplicated++;
    return LG_DUPLICATE;
  }
  assert(row->missing > 0);
  row->missing--;
  led->unique++;
  led->reordered++;
  return LG_LATE;
}

int lg_row_misses(const lg_row *row, uint32_t seq) {
  if (seq >= row->next) return 1;
  if (!row->holes) return 0;
  uint32_t i = holes_find(row->holes, seq);
  return i < row->holes->count && row->holes->at[i].lo <= seq;
}

void lg_ledger_lost(const lg_row *row, uint32_t sent, lg_lost *lost) {
  if (row->next == 0) { /* nothing seen: all of it is tail */
    lost->tail += sent;
    return;
  }
  uint32_t prefix = 0;
  if (row->holes && row->holes->count && row->holes->at[0].lo == 0) prefix = row->holes->at[0].hi;
  lost->prefix += prefix;
  lost->middle += row->missing - prefix;
  if (sent > row->next) lost->tail += sent - row->next;
}

void lg_row_done(lg_row *row) {
  free(row->holes);
  row->holes = NULL;
}
