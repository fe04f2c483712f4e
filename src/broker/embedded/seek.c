/* seek.c: finds a place in a channel by offset, by number from the end, by time or by a position
 * that may be of another epoch, on the reader thread (the index of a sealed segment may have to be
 * read from disk).
 *
 * By time: a binary search over offsets, reading one record each. Loops stamp messages with their
 * own clock before they are in order, so times may run back a little; what is found is the first
 * message behind one that is older, which is exact but for such neighbours. */
#include "broker/embedded/embedded_int.h"

static void seek_run(lv_loop *loop, lv_mail *mail) {
  lv_seek *seek = (lv_seek *)mail;
  (void)loop;
  seek->done(seek);
}

bool lv__is_seek(const lv_mail *mail) {
  return mail->run == seek_run;
}

/* The first message at or behind `offset` that is visible: 1; 0: there is none; or an error. */
static int place(lv_lane *l, uint32_t chan, uint64_t offset, lv_elog_at *ret) {
  int err = lv_elog_find_offset(l->elog, chan, offset, ret);
  if (err == LV_E_GONE) return 0;
  if (err) return err;
  if (ret->lsn < atomic_load(&l->visible)) return 1;
  lv_elog_release(ret, 1);
  return 0;
}

static int time_of(lv_lane *l, const lv_elog_at *at, int64_t *ret_ns) {
  lv_block *block = NULL;
  const lv_rec *rec = NULL;
  int err = lv_elog_pread(l->elog, at, &block, &rec);
  if (!err) *ret_ns = rec->ingest_ns;
  lv_block_unref(block);
  return err;
}

/* The smallest offset in [lo, hi] from which on messages are not older than `ns`. */
static int by_time(lv_lane *l, uint32_t chan, uint64_t lo, uint64_t hi, int64_t ns,
                   uint64_t *ret_offset) {
  while (lo < hi) {
    uint64_t mid = lo + (hi - lo) / 2;
    lv_elog_at at;
    int64_t t = INT64_MAX; /* nothing there: behind the end */
    int n = place(l, chan, mid, &at);
    if (n < 0) return n;
    if (n == 0) {
      hi = mid;
      continue;
    }
    int err = time_of(l, &at, &t);
    uint64_t found = at.offset;
    lv_elog_release(&at, 1);
    if (err && err != LV_E_CORRUPT) return err;
    if (!err && t < ns) {
      lo = found + 1;
    } else if (err) {
      lo = found + 1; /* a damaged record has no time: look behind it */
    } else {
      hi = mid;
    }
  }
  *ret_offset = lo;
  return 0;
}

/* Where a position is continued: its epoch's successor may have given the offsets behind it to
 * other messages. */
static int by_pos(lv_lane *l, lv_seek *seek, uint64_t *ret_offset) {
  uint32_t chan = seek->chan->id;
  uint64_t from, end;
  pthread_mutex_lock(&l->vis);
  memcpy(seek->now, l->epoch, sizeof seek->now);
  pthread_mutex_unlock(&l->vis);
  seek->same_epoch = lv_slice_eq(seek->epoch, lv_slice_str(seek->now));
  if (seek->same_epoch) return 0;
  if (lv_elog_epoch_range(l->elog, seek->epoch, &from, &end)) {
    *ret_offset = 0;
    return 0;
  }
  lv_elog_at at;
  int n = lv_elog_find(l->elog, chan, end, UINT64_MAX, 1, &at);
  if (n <= 0) return n;
  if (at.offset < *ret_offset) *ret_offset = at.offset;
  lv_elog_release(&at, 1);
  return 0;
}

void lv__seek_serve(lv_embedded *b, lv_seek *seek) {
  const lv_chan *c = seek->chan;
  lv_lane *l = &b->lane[c->durability];
  uint64_t visible = atomic_load(&l->visible); /* first: what is not found later lies behind it */
  uint64_t next = atomic_load(&c->next_offset), offset = seek->value;
  seek->first = atomic_load(&c->first_offset);
  if (seek->by == LV_SEEK_LAST) offset = next > seek->value ? next - seek->value : 0;
  if (seek->by == LV_SEEK_TIME)
    seek->err = by_time(l, c->id, seek->first, next, (int64_t)seek->value, &offset);
  if (seek->by == LV_SEEK_POS) seek->err = by_pos(l, seek, &offset);
  lv_elog_at at;
  int n = seek->err ? seek->err : place(l, c->id, offset, &at);
  if (n > 0) {
    seek->lsn = at.lsn;
    seek->offset = at.offset;
    lv_elog_release(&at, 1);
  } else if (n < 0) {
    seek->err = n;
  } else {
    seek->lsn = visible;
    seek->offset = next;
  }
  lv_loop_post(seek->loop, &seek->mail);
}

int lv__seek(lv_broker *base, lv_seek *seek) {
  lv_embedded *b = lv__embedded(base);
  assert(seek->chan && seek->done && lv_loop_here(seek->loop));
  if (atomic_load(&b->closing)) return LV_E_CLOSED;
  seek->mail.run = seek_run;
  seek->err = 0;
  lv__reader_enqueue(b, &seek->mail);
  return 0;
}
