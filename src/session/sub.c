/* sub.c: SUBSCRIBE and UNSUBSCRIBE, and what follows them: retained messages, SUBACK.
 *
 * A subscription is live from the moment it is handled: its `from` is what is visible then, ahead
 * of the shard's place on the feed perhaps, so that what another client knows to be retained comes
 * as that. SUBACK leaves when the session's record is as safe as the app's session_durability, then
 * retained messages follow (§3.3.1.3): those that became visible after `from` are left to the feed.
 */
#include "core/hash.h"
#include "core/log.h"
#include "session/session_int.h"
#include "session/share.h"
#include <assert.h>
#include <stdlib.h>

/* Each of these costs a record with the whole session, so not many are on their way at once: the
 * client is not read meanwhile. */
enum { SUBACKS_MAX = 16, TABLE_MIN = 16 };

/* A SUBACK or UNSUBACK, and the subscriptions that want retained messages behind it. */
typedef struct lv_suback {
  struct lv_suback *next;
  uint32_t n, n_want;
  struct {
    lv_sub *sub; /* its `due` points here; NULL: it has ended */
    lv_pos from;
  } * want;
  uint8_t bytes[];
} lv_suback;

/* ---- the session's list ---- */

static lv_sub **table_slot(const lv_sess *s, const char *filter, size_t n) {
  uint64_t h = lv_hash(filter, n);
  return &s->more->sub_table[(h ^ h >> 32) & s->more->sub_mask];
}

static void table_add(lv_sess *s, lv_sub *sub) {
  lv_sub **slot = table_slot(s, sub->filter, sub->len);
  sub->hash_next = *slot;
  *slot = sub;
}

/* With few subscriptions the list will do. */
static void table_grow(lv_sess *s) {
  lv_sess_more *more = lv__sess_more(s);
  uint32_t slots = more->sub_table ? (more->sub_mask + 1) * 2 : TABLE_MIN * 2;
  free(more->sub_table);
  more->sub_table = calloc(slots, sizeof *more->sub_table);
  if (!more->sub_table) abort();
  more->sub_mask = slots - 1;
  for (lv_sub *sub = s->subs; sub; sub = sub->own_next) table_add(s, sub);
}

static void table_remove(lv_sess *s, lv_sub *sub) {
  lv_sub **p = table_slot(s, sub->filter, sub->len);
  while (*p != sub) p = &(*p)->hash_next;
  *p = sub->hash_next;
}

static bool has_table(const lv_sess *s) {
  return s->more && s->more->sub_table;
}

static lv_sub *find(const lv_sess *s, lv_slice filter) {
  bool table = has_table(s);
  lv_sub *sub = table ? *table_slot(s, (const char *)filter.p, filter.n) : s->subs;
  while (sub && !lv_slice_eq(lv_slice_of(sub->filter, sub->len), filter))
    sub = table ? sub->hash_next : sub->own_next;
  return sub;
}

lv_sub *lv__sub_new(lv_sess *s, const lv_mqtt_sub *m, uint32_t sub_id) {
  lv_sub *sub = calloc(1, sizeof *sub + m->filter.n);
  if (!sub) abort();
  sub->target = s;
  sub->len = (uint16_t)m->filter.n;
  memcpy(sub->filter, m->filter.p, m->filter.n);
  lv_slice group, filter;
  if (lv_mqtt_share_split(m->filter, &group, &filter) == 1)
    sub->shared_prefix = (uint16_t)(m->filter.n - filter.n);
  sub->qos = m->qos;
  sub->sub_id = sub_id;
  sub->retain_handling = m->retain_handling;
  sub->flags = (uint8_t)((m->no_local ? LV_SUB_NO_LOCAL : 0) |
                         (m->retain_as_published ? LV_SUB_AS_PUBLISHED : 0));
  sub->own_next = s->subs;
  sub->own_pprev = &s->subs;
  if (s->subs) s->subs->own_pprev = &sub->own_next;
  s->subs = sub;
  s->n_subs++;
  if (s->n_subs > (has_table(s) ? s->more->sub_mask : TABLE_MIN)) {
    table_grow(s);
  } else if (has_table(s)) {
    table_add(s, sub);
  }
  s->bytes += (uint32_t)sizeof *sub + sub->len;
  if (sub_id) s->sub_ids = 1;
  return sub;
}

static void interest(lv_shard *shard, uint32_t app_id, int by) {
  uint32_t old = shard->interest;
  shard->interest = (uint32_t)((int64_t)old + by);
  lv_gauge(lv__kpi_app(shard, app_id), LV_G_SUBSCRIPTIONS, by);
  if (shard->quiet) return;
  if (old == 0 && by > 0)
    shard->seen = shard->broker->ops->interest(shard->broker, shard->loop, &shard->feed, true);
  if (old > 0 && shard->interest == 0)
    (void)shard->broker->ops->interest(shard->broker, shard->loop, &shard->feed, false);
}

void lv__interest(lv_shard *shard, uint32_t app_id, int by) {
  interest(shard, app_id, by);
}

/* Whether each delivery has to be checked. */
static void recheck(const lv_sess *s, lv_sub *sub) {
  bool all = false;
  (void)lv_auth_may_subscribe(s->auth, lv_sub_filter(sub), &all);
  sub->flags = (uint8_t)((sub->flags & ~LV_SUB_CHECK) | (all ? 0 : LV_SUB_CHECK));
}

void lv__subs_recheck(lv_sess *s) {
  for (lv_sub *sub = s->subs; sub; sub = sub->own_next) {
    recheck(s, sub);
    if (!sub->member) continue;
    lv__share_leave(s, sub, false);
    lv__share_join(s, sub);
  }
}

/* Into the index, from now on (where it stayed in it: from when it came). */
static void sub_on(lv_sess *s, lv_sub *sub) {
  recheck(s, sub);
  if (sub->node) return;
  interest(s->shard, s->app_id, 1);
  if (sub->shared_prefix) {
    lv__share_join(s, sub);
    return;
  }
  sub->from = s->shard->broker->ops->visible(s->shard->broker);
  lv_subindex_add(lv__shard_index(s->shard, s->app_id), sub);
}

/* for_good: not only until its client is back. */
static void sub_off(lv_sess *s, lv_sub *sub, bool for_good) {
  if (sub->shared_prefix) {
    lv__share_leave(s, sub, for_good);
  } else {
    lv_subindex_remove(lv__shard_index(s->shard, s->app_id), sub);
  }
  interest(s->shard, s->app_id, -1);
}

void lv__subs_attach(lv_sess *s, const lv_pos *cursor) {
  for (lv_sub *sub = s->subs; sub; sub = sub->own_next) {
    lv_pos from = sub->from; /* a subscription may be younger than the cursor */
    sub_on(s, sub);
    if (sub->shared_prefix) continue;
    for (int i = 0; i < LV_DURABILITY_COUNT; i++)
      sub->from.lsn[i] = from.lsn[i] > cursor->lsn[i] ? from.lsn[i] : cursor->lsn[i];
  }
}

void lv__subs_detach(lv_sess *s) {
  for (lv_sub *sub = s->subs; sub; sub = sub->own_next)
    if (sub->shared_prefix || !s->persistent) sub_off(s, sub, !s->persistent);
}

void lv__subs_index(lv_sess *s) {
  for (lv_sub *sub = s->subs; sub; sub = sub->own_next) {
    lv_pos from = sub->from;
    if (sub->shared_prefix) continue;
    sub_on(s, sub);
    sub->from = from;
  }
}

void lv__subs_unindex(lv_sess *s, lv_shard *from) {
  for (lv_sub *sub = s->subs; sub; sub = sub->own_next) {
    if (!sub->node) continue;
    lv_subindex_remove(lv__shard_index(from, s->app_id), sub);
    interest(from, s->app_id, -1);
    s->more->counted_upto = from->seen;
  }
}

static void suback_free(lv_suback *a) {
  for (uint32_t i = 0; i < a->n_want; i++)
    if (a->want[i].sub) a->want[i].sub->due = NULL;
  free(a->want);
  free(a);
}

/* It ends before its retained messages were given. */
static void due_forget(lv_sess *s, lv_sub *sub) {
  if (lv__giving(s) && sub->due == s->more->gives) {
    lv__give_forget(s, sub);
  } else {
    lv_suback *a = sub->due;
    assert(sub->due_at < a->n_want && a->want[sub->due_at].sub == sub);
    a->want[sub->due_at].sub = NULL;
  }
}

static void sub_free(lv_sess *s, lv_sub *sub) {
  if (sub->due) due_forget(s, sub);
  if (sub->node) sub_off(s, sub, true);
  if (sub->member && !(s->shard && s->shard->quiet)) lv__share_leave(s, sub, true);
  if (has_table(s)) table_remove(s, sub);
  *sub->own_pprev = sub->own_next;
  if (sub->own_next) sub->own_next->own_pprev = sub->own_pprev;
  if (--s->n_subs == 0 && has_table(s)) {
    free(s->more->sub_table);
    s->more->sub_table = NULL;
  }
  s->bytes -= (uint32_t)sizeof *sub + sub->len;
  free(sub);
}

void lv__subs_free(lv_sess *s) {
  while (s->subs) sub_free(s, s->subs);
  s->sub_ids = 0;
  if (!s->more) return;
  for (lv_suback *a = s->more->subacks, *next; a; a = next) {
    next = a->next;
    suback_free(a);
  }
  s->more->subacks = NULL;
  s->more->n_subacks = 0;
}

/* ---- SUBACK ---- */

static void suback_send(lv_sess *s, lv_suback *a) {
  if (s->conn && s->max_packet && a->n > s->max_packet) { /* nothing in it can be left out */
    s->shard->link->close(s->conn, LV_E_TOO_BIG);
  } else if (s->conn) {
    if (a->n <= 16384) {
      memcpy(lv_outq_put(s->outq, a->n, 0, (lv_mono){0}), a->bytes, a->n);
    } else {
      lv_block *b = lv_block_new(a->n);
      if (!b) abort();
      memcpy(b->data, a->bytes, a->n);
      lv_outq_ref(s->outq, b, b->data, a->n, 0, (lv_mono){0});
      lv_block_unref(b);
    }
    s->shard->link->dirty(s->conn);
    for (uint32_t i = 0; i < a->n_want; i++) {
      lv_sub *sub = a->want[i].sub;
      if (!sub) continue;
      a->want[i].sub = NULL;
      lv__sys_give(s, sub, true);
      lv__give_add(s, sub, a->want[i].from);
    }
    if (a->n_want) lv__out_pump(s);
  }
  suback_free(a);
}

void lv__sub_stored(lv_sess *s, int err) {
  lv_suback *a = s->more ? s->more->subacks : NULL;
  if (!a) return; /* the session was cleared meanwhile */
  s->more->subacks = a->next;
  s->more->n_subacks--;
  if (err && s->conn) s->shard->link->close(s->conn, err);
  if (err) s->save = 0;
  if (!err) {
    suback_send(s, a);
    if (s->more->n_subacks <= SUBACKS_MAX / 2) lv__in_resume(s);
    return;
  }
  suback_free(a);
}

static void finish(lv_sess *s, uint8_t type, uint16_t pid, const uint8_t *codes, uint32_t n,
                   lv_suback *want, bool changed) {
  uint32_t size = lv_mqtt_suback_size(s->version, n);
  lv_suback *a = malloc(sizeof *a + size);
  if (!a) abort();
  *a = *want;
  a->next = NULL;
  for (uint32_t i = 0; i < a->n_want; i++)
    if (a->want[i].sub) a->want[i].sub->due = a;
  a->n = lv_mqtt_suback_encode(s->version, type, pid, codes, n, a->bytes);
  if (!s->persistent || !changed) {
    if (!(s->more && s->more->subacks)) {
      suback_send(s, a);
      return;
    }
  }
  lv_suback **p = &lv__sess_more(s)->subacks;
  while (*p) p = &(*p)->next;
  *p = a;
  s->more->n_subacks++;
  lv__store_meta(s, LV_ACK_SUB);
}

/* ---- SUBSCRIBE ---- */

static bool must_wait(lv_sess *s) {
  uint32_t n = s->more ? s->more->n_subacks : 0;
  if (n && lv_pub_full(s->shard->pub)) return true;
  if (n < SUBACKS_MAX) return false;
  s->held = 1;
  return true;
}

static uint8_t check(lv_sess *s, const lv_mqtt_sub *m, lv_sub *old) {
  const lv_limits *l = &s->auth->app->limits;
  lv_slice group, filter = m->filter;
  bool all;
  int shared = lv_mqtt_share_split(m->filter, &group, &filter);
  if (shared < 0) return lv_err_mqtt(LV_E_FILTER);
  if (lv_mqtt_filter_check(filter)) return lv_err_mqtt(LV_E_FILTER);
  if (lv_mqtt_levels(filter) > l->filter_levels) return lv_err_mqtt(LV_E_FILTER);
  if (!lv_auth_may_subscribe(s->auth, filter, &all)) return lv_err_mqtt(LV_E_FORBIDDEN);
  if (!old && s->n_subs >= l->subscriptions) return lv_err_mqtt(LV_E_QUOTA);
  if (s->persistent && s->bytes + m->filter.n + sizeof(lv_sub) > l->session_bytes)
    return lv_err_mqtt(LV_E_QUOTA);
  return m->qos;
}

static void want_add(lv_sess *s, lv_suback *want, lv_sub *sub, lv_pos from) {
  if (s->persistent) sub->due_seq = ++lv__sess_more(s)->due_seq;
  if ((want->n_want & (want->n_want - 1)) == 0) { /* full: there is room for a power of two */
    want->want = realloc(want->want, (want->n_want * 2u + 1) * sizeof(*want->want));
    if (!want->want) abort();
  }
  sub->due = want;
  sub->due_at = want->n_want;
  want->want[want->n_want].sub = sub;
  want->want[want->n_want++].from = from;
}

static uint8_t subscribe_one(lv_sess *s, const lv_mqtt_sub *m, uint32_t sub_id, lv_suback *want) {
  lv_sub *old = find(s, m->filter);
  uint8_t code = check(s, m, old);
  if (code >= 0x80) return code;
  bool retained = m->retain_handling == 0 || (m->retain_handling == 1 && !old);
  lv_sub *sub = lv__sub_new(s, m, sub_id);
  sub_on(s, sub);
  lv_pos now = sub->from;
  if (old) { /* Replaced, not interrupted (§3.8.4): the new one keeps the shard's feed, or the
                group, going until the old one has left. */
    if (!sub->shared_prefix) sub->from = old->from;
    sub_off(s, old, true);
    sub_free(s, old);
  }
  if (retained && !sub->shared_prefix) want_add(s, want, sub, now);
  return code;
}

int lv_sess_subscribe(lv_sess *s, const lv_mqtt_subscribe *m) {
  if (must_wait(s)) return LV_E_BUSY;
  lv_suback want = {0};
  lv_slice list = m->list;
  lv_mqtt_sub sub;
  bool changed = false;
  uint8_t *codes = malloc(m->count);
  if (!codes) abort();
  uint32_t n = 0;
  int err = 0;
  while (n < m->count && lv_mqtt_subscribe_next(s->version, &list, &sub)) {
    if (sub.no_local && lv_slice_starts(sub.filter, LV_SLICE("$share/"))) {
      err = LV_E_PROTOCOL; /* §3.8.3.1 */
      break;
    }
    codes[n] = subscribe_one(s, &sub, m->sub_id, &want);
    changed |= codes[n++] < 0x80;
  }
  if (err) {
    for (uint32_t i = 0; i < want.n_want; i++)
      if (want.want[i].sub) want.want[i].sub->due = NULL;
    free(want.want);
  } else {
    finish(s, LV_MQTT_SUBACK, m->packet_id, codes, n, &want, changed);
  }
  free(codes);
  return err;
}

int lv_sess_unsubscribe(lv_sess *s, const lv_mqtt_subscribe *m) {
  if (must_wait(s)) return LV_E_BUSY;
  lv_suback want = {0};
  lv_slice list = m->list, filter;
  bool changed = false;
  uint8_t *codes = malloc(m->count);
  if (!codes) abort();
  uint32_t n = 0;
  while (n < m->count && lv_mqtt_unsubscribe_next(&list, &filter)) {
    lv_slice group, inner = filter;
    bool bad = lv_mqtt_share_split(filter, &group, &inner) < 0 || lv_mqtt_filter_check(inner);
    lv_sub *sub = bad ? NULL : find(s, filter);
    codes[n++] = sub ? 0 : bad ? 0x8F : 0x11; /* no subscription existed */
    if (!sub) continue;
    sub_off(s, sub, true);
    sub_free(s, sub);
    changed = true;
  }
  finish(s, LV_MQTT_UNSUBACK, m->packet_id, codes, n, &want, changed);
  free(codes);
  return 0;
}
