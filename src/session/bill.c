/* bill.c: metering of acknowledged deliveries (core/usage.h).
 *
 * A delivery that a restart may bring again, because the progress that tells of its acknowledgement
 * is not stored yet, is not charged for yet: so a crash never charges for it twice.
 *
 *   acknowledged ──▶ use_acked ──progress is written──▶ use_saved ──it is safe──▶ the app's
 * counters
 *
 * One record at a time is waited for: what is acknowledged meanwhile goes with the next. Sessions
 * that end with their connection need neither, and what a shared subscription hands out is the
 * group's, whose progress is not the session's. @thread loop */
#include "session/session_int.h"

static void charge(lv_sess *s, lv_use_sum *u) {
  if (u->steps) lv_use_out(lv__kpi(s), u->steps, u->bytes);
  *u = (lv_use_sum){0, 0};
}

void lv__bill_acked(lv_sess *s, const lv_out *o) {
  lv_use u = {lv_use_steps(o->use_bytes), o->use_bytes};
  if (s->persistent && !o->member)
    lv_use_add(&lv__sess_more(s)->use_acked, u);
  else
    lv_use_out(lv__kpi(s), u.steps, u.bytes);
}

void lv__bill_saving(lv_sess *s, uint32_t seq) {
  lv_sess_more *more = s->more;
  if (more->use_saved.steps || !more->use_acked.steps) return;
  more->use_saved = more->use_acked;
  more->use_acked = (lv_use_sum){0, 0};
  more->use_seq = seq;
}

void lv__bill_saved(lv_sess *s, uint32_t seq) {
  lv_sess_more *more = s->more;
  if (!more->use_saved.steps || (int32_t)(seq - more->use_seq) < 0) return;
  charge(s, &more->use_saved);
  if (more->use_acked.steps && s->persistent) lv__save(s, 1);
}

void lv__bill_detach(lv_sess *s) {
  if (s->more->use_acked.steps && s->persistent && !s->shard->quiet) lv__save(s, 2);
}

void lv__bill_all(lv_sess *s) {
  if (!s->more) return;
  charge(s, &s->more->use_saved);
  charge(s, &s->more->use_acked);
}
