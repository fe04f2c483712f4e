/* store.c: what is durable about a session: keyed state records in the log of its app's
 * session_durability, riding the same commits as messages.
 *
 *   m<app>/<client id>  who it is: session id, version, expiry, key or token, will, subscriptions
 *                       (written at CONNECT, SUBSCRIBE, UNSUBSCRIBE)
 *   p<sid>              how far it is: cursors, next packet id, messages in flight,
 *                       which subscriptions have got their retained messages (give.c)
 *   i<sid><pid>         an inbound QoS 2 publish (the message's own record), until released
 *
 * `p` is written each turn in which a QoS 2 window changed (those wait for it), else lazily, once a
 * second. After a crash a QoS 1 message may be sent again under another packet id, as at-least-once
 * allows; a QoS 2 message keeps its id, because nothing of it left before `p` was stored.
 *
 * Values begin with a format byte; integers are little-endian. Parsing trusts nothing: a record
 * that does not parse is logged and skipped. */
#include "core/buf.h"
#include "core/log.h"
#include "core/rand.h"
#include "session/session_int.h"
#include "session/share.h"
#include <assert.h>
#include <stdlib.h>

enum { FORMAT_META = 2, FORMAT_PROGRESS = 2 };

/* ---- writing ---- */

static void put(lv_buf *b, uint64_t v, int n) {
  uint8_t tmp[8];
  for (int i = 0; i < n; i++) tmp[i] = (uint8_t)(v >> (8 * i));
  (void)lv_buf_add(b, tmp, (size_t)n);
}

static void put_slice(lv_buf *b, lv_slice s) {
  put(b, s.n, 4);
  (void)lv_buf_add_slice(b, s);
}

static void hex16(char *dst, uint64_t v) {
  for (int i = 0; i < 16; i++) dst[i] = "0123456789abcdef"[(v >> (60 - 4 * i)) & 15];
}

/* One state record; empty value: deleted. */
static int put_state(lv_sess *s, uint8_t log, lv_slice key, lv_slice value) {
  lv_rec *rec;
  lv_rec_in in = {.kind = LV_REC_STATE,
                  .key_off = LV_REC_NO_KEY,
                  .topic = key,
                  .val = value,
                  .ingest_ns = s->shard->loop->wall.ns};
  int err = lv_pub_add(s->shard->pub, log, &in, s->shard->loop->now, &rec);
  if (err)
    lv_log(LV_ERROR, "session state not stored client=%.*s err=%s", (int)s->id_len, s->id,
           lv_err_text(err));
  return err;
}

static void meta_key(const lv_sess *s, lv_buf *b) {
  lv_realm *r = s->shard->realm;
  (void)lv_buf_add_byte(b, 'm');
  pthread_mutex_lock(&r->lock);
  (void)lv_buf_add_slice(b, r->apps[s->app_id].name);
  pthread_mutex_unlock(&r->lock);
  (void)lv_buf_add_byte(b, '/');
  (void)lv_buf_add_slice(b, lv_sess_id(s));
}

static void put_will(lv_buf *b, const lv_will *w) {
  put(b, w != NULL, 1);
  if (!w) return;
  put(b, w->delay_s, 4);
  put(b, w->expiry_s, 4);
  put(b, (uint64_t)w->has_expiry | (uint64_t)w->retain << 1 | (uint64_t)w->qos << 2, 1);
  put_slice(b, lv_slice_of(w->bytes, w->n_topic));
  put_slice(b, lv_slice_of(w->bytes + w->n_topic, w->n_props));
  put_slice(b, lv_slice_of(w->bytes + w->n_topic + w->n_props, w->n_payload));
}

static void meta_value(const lv_sess *s, lv_buf *b) {
  put(b, FORMAT_META, 1);
  put(b, s->more->sid, 8);
  put(b, s->version, 1);
  put(b, s->expiry_s, 4);
  put(b, s->conn != NULL, 1);
  put(b, s->more ? (uint64_t)s->more->gone_at.ns : 0, 8);
  if (s->auth && s->auth->signer) {
    lv_buf token;
    lv_buf_init(&token, LV_REC_MAX / 4);
    lv__token_store(s->auth, &token);
    put_slice(b, lv_buf_slice(&token));
    lv_buf_done(&token);
  } else {
    put_slice(b, s->auth && s->auth->key ? s->auth->key->id : (lv_slice){NULL, 0});
  }
  put_will(b, s->more->will);
  put(b, s->n_subs, 4);
  for (const lv_sub *sub = s->subs; sub; sub = sub->own_next) {
    put(b, sub->qos, 1);
    put(b, sub->flags & (LV_SUB_NO_LOCAL | LV_SUB_AS_PUBLISHED), 1);
    put(b, sub->retain_handling, 1);
    put(b, sub->sub_id, 4);
    put(b, sub->due_seq, 4);
    put_slice(b, lv_slice_of(sub->filter, sub->len));
  }
}

/* gen: for LV_ACK_SAVE its number, else not 0 when the record could not even be written. */
static void ack_due(lv_sess *s, uint8_t log, enum lv_ack_kind kind, uint32_t gen, uint16_t pid) {
  s->acks++;
  lv_pub_ack(s->shard->pub, log, (lv_ack){s, gen, pid, 0, (uint8_t)kind, UINT32_MAX});
}

void lv__store_word(lv_sess *s, uint8_t log, enum lv_ack_kind kind) {
  ack_due(s, log, kind, 0, 0);
}

void lv__store_meta(lv_sess *s, enum lv_ack_kind kind) {
  lv_buf key, value;
  lv_buf_init(&key, 70000);
  lv_buf_init(&value, LV_REC_MAX / 2);
  (void)lv__sess_more(s);
  if (s->more->sid == 0) s->more->sid = lv_random_u64() | 1;
  meta_key(s, &key);
  meta_value(s, &value);
  int err = put_state(s, s->durability, lv_buf_slice(&key), lv_buf_slice(&value));
  s->stored = 1;
  if (s->persistent && !err) err = lv__store_progress_now(s);
  if (kind != LV_ACK_NONE) ack_due(s, s->durability, kind, err ? 1 : 0, 0);
  lv_buf_done(&key);
  lv_buf_done(&value);
}

int lv__store_progress_now(lv_sess *s) {
  char key[17] = {'p'};
  lv_buf b;
  lv_pos pos = lv__sess_position(s);
  hex16(key + 1, s->more->sid);
  lv_buf_init(&b, LV_REC_MAX / 2);
  put(&b, FORMAT_PROGRESS, 1);
  for (int i = 0; i < LV_DURABILITY_COUNT; i++) put(&b, pos.lsn[i], 8);
  put(&b, s->next_pid, 2);
  uint32_t n = 0, count = s->win ? s->win->count : 0;
  for (uint32_t i = 0; i < count; i++)
    n += s->win->e[(s->win->head + i) & s->win->mask].state != LV_OUT_DONE;
  put(&b, n, 4);
  for (uint32_t i = 0; i < count; i++) {
    const lv_out *o = &s->win->e[(s->win->head + i) & s->win->mask];
    if (o->state == LV_OUT_DONE) continue;
    bool rel = o->state == LV_OUT_REL || o->state == LV_OUT_REC;
    bool shared = o->flags & LV_DELIVER_SHARED;
    int f = o->qos | (rel ? 4 : 0) | o->log << 3 | (shared ? 16 : 0) | (o->flags & 7) << 5;
    put(&b, o->pid, 2);
    put(&b, (uint64_t)f, 1);
    put(&b, o->lsn, 8);
    if (shared) put(&b, o->sub_id, 4);
  }
  put(&b, s->more->due_done, 4);
  int err = put_state(s, s->durability, lv_slice_of(key, 17), lv_buf_slice(&b));
  lv_buf_done(&b);
  return err;
}

/* Progress, with word when it is safe. */
void lv__store_progress(lv_sess *s) {
  lv_sess_more *more = lv__sess_more(s);
  if (!s->stored) return;
  more->save_seq++;
  if (lv__store_progress_now(s)) {
    if (s->conn) s->shard->link->close(s->conn, LV_E_IO); /* what waits for it must not leave */
    return;
  }
  lv__bill_saving(s, more->save_seq);
  ack_due(s, s->durability, LV_ACK_SAVE, more->save_seq, 0);
}

/* how: 1 lazily, 2 this turn. */
void lv__save(lv_sess *s, uint8_t how) {
  if (s->save < how) s->save = how;
  if (s->save != 2 || s->in_saving) return;
  s->in_saving = 1;
  (void)lv__sess_more(s);
  s->more->save_next = s->shard->saving;
  s->shard->saving = s;
}

static void in2_key(const lv_sess *s, uint16_t pid, char key[LV_REC_QOS2_KEY]) {
  key[0] = 'i';
  hex16(key + 1, s->more->sid);
  for (int i = 0; i < 4; i++) key[17 + i] = "0123456789abcdef"[(pid >> (12 - 4 * i)) & 15];
}

/* Ends an inbound QoS 2 publish, in the log that has it: there is no order between logs. */
void lv__store_release(lv_sess *s, uint16_t pid, uint8_t log) {
  char key[LV_REC_QOS2_KEY];
  in2_key(s, pid, key);
  int err = put_state(s, log, lv_slice_of(key, sizeof key), (lv_slice){NULL, 0});
  ack_due(s, log, LV_ACK_REL, err ? 1 : 0, pid);
}

static void forget_in(lv_sess *s, uint8_t log) {
  lv_buf key;
  char pkey[17] = {'p'};
  lv_buf_init(&key, 70000);
  meta_key(s, &key);
  (void)put_state(s, log, lv_buf_slice(&key), (lv_slice){NULL, 0});
  lv_buf_done(&key);
  hex16(pkey + 1, s->more->sid);
  (void)put_state(s, log, lv_slice_of(pkey, 17), (lv_slice){NULL, 0});
}

void lv__store_moved(lv_sess *s) {
  static_assert(LV_DURABILITY_COUNT == 2, "there is one other log");
  forget_in(s, !s->durability);
  s->elsewhere = 0;
}

void lv__store_forget(lv_sess *s) {
  if (!s->stored || s->shard->quiet) return;
  forget_in(s, s->durability);
  if (s->elsewhere) lv__store_moved(s);
  for (uint32_t i = 0; s->in2 && i < s->in2->n; i++) {
    char ikey[LV_REC_QOS2_KEY];
    in2_key(s, s->in2->e[i].pid, ikey);
    (void)put_state(s, s->in2->e[i].log, lv_slice_of(ikey, sizeof ikey), (lv_slice){NULL, 0});
  }
  s->stored = 0;
  s->more->sid = 0;
}
