/* claim.c: whose session is whose: the registry of client ids, takeover, birth and end of sessions.
 *
 * A session has one owner, a shard, connected or not. A CONNECT claims it:
 *
 *   unknown id            → made, owned by the claimant
 *   owned by the claimant → a connection that has it is closed (0x8E), then it is granted
 *   owned by another      → the claim is queued at the session, the owner is told by mail; it
 * closes its connection, waits for what is still with the broker, and mails the session
 *
 * Claims are granted in order. sess->shard and sess->claims change only under realm->lock. */
#include "core/hash.h"
#include "core/rand.h"
#include "session/session_int.h"
#include <assert.h>
#include <stdlib.h>

lv_sess_more *lv__sess_more(lv_sess *sess) {
  if (!sess->more) {
    sess->more = calloc(1, sizeof *sess->more);
    if (!sess->more) abort();
    sess->more->sess = sess;
  }
  return sess->more;
}

static uint64_t id_hash(uint32_t app_id, lv_slice id) {
  return lv_hash(id.p, id.n) ^ (uint64_t)app_id * UINT64_C(0x9E3779B97F4A7C15);
}

static lv_sess **slot_of(lv_realm *r, uint64_t hash) {
  return &r->clients[hash & r->clients_mask];
}

static lv_sess *find_locked(lv_realm *r, uint32_t app_id, lv_slice id) {
  lv_sess *s = *slot_of(r, id_hash(app_id, id));
  while (s && !(s->app_id == app_id && lv_slice_eq(lv_sess_id(s), id))) s = s->hash_next;
  return s;
}

static void grow_locked(lv_realm *r) {
  uint32_t mask = r->clients_mask * 2 + 1;
  lv_sess **slots = calloc((size_t)mask + 1, sizeof *slots);
  if (!slots) abort();
  for (uint32_t i = 0; i <= r->clients_mask; i++) {
    for (lv_sess *s = r->clients[i], *next; s; s = next) {
      next = s->hash_next;
      lv_sess **slot = &slots[id_hash(s->app_id, lv_sess_id(s)) & mask];
      s->hash_next = *slot;
      *slot = s;
    }
  }
  free(r->clients);
  r->clients = slots;
  r->clients_mask = mask;
}

static void insert_locked(lv_realm *r, lv_sess *s) {
  if (r->n_clients > r->clients_mask) grow_locked(r);
  lv_sess **slot = slot_of(r, id_hash(s->app_id, lv_sess_id(s)));
  s->hash_next = *slot;
  *slot = s;
  r->n_clients++;
  r->apps[s->app_id].n_sessions++;
}

static void remove_locked(lv_realm *r, lv_sess *s) {
  lv_sess **p = slot_of(r, id_hash(s->app_id, lv_sess_id(s)));
  while (*p && *p != s) p = &(*p)->hash_next;
  if (!*p) return;
  *p = s->hash_next;
  r->n_clients--;
  r->apps[s->app_id].n_sessions--;
}

/* Makes a session and enters it (the caller holds the lock, or is alone). shard may be NULL. */
static lv_sess *sess_make(lv_realm *r, lv_shard *shard, uint32_t app_id, lv_slice id) {
  size_t size = offsetof(lv_sess, id) + id.n; /* the id begins in the struct's last padding */
  lv_sess *s = calloc(1, size > sizeof *s ? size : sizeof *s);
  if (!s) abort();
  s->magic = LV_SESS_MAGIC;
  s->shard = shard;
  s->app_id = app_id;
  s->id_len = (uint16_t)id.n;
  s->next_pid = 1;
  if (id.n) memcpy(s->id, id.p, id.n);
  insert_locked(r, s);
  return s;
}

lv_sess *lv__sess_recover(lv_realm *r, uint32_t app_id, lv_slice id) {
  lv_sess *s = find_locked(r, app_id, id);
  return s ? s : sess_make(r, NULL, app_id, id);
}

void lv__sess_link(lv_shard *s, lv_sess *sess) {
  assert(sess->shard == s); /* set under the lock */
  sess->prev = NULL;
  sess->next = s->sessions;
  if (sess->next) sess->next->prev = sess;
  s->sessions = sess;
  lv_gauge(lv__kpi_app(s, sess->app_id), LV_G_SESSIONS, 1);
}

void lv__sess_unlink(lv_sess *sess) {
  lv_shard *s = sess->shard;
  if (sess->prev) {
    sess->prev->next = sess->next;
  } else {
    s->sessions = sess->next;
  }
  if (sess->next) sess->next->prev = sess->prev;
  sess->prev = sess->next = NULL;
  lv_gauge(lv__kpi_app(s, sess->app_id), LV_G_SESSIONS, -1);
}

/* Everything that belongs to the session's past goes; the object stays, as new. */
static void sess_clear(lv_sess *s) {
  lv__lag_stop(s);
  lv__out_drop_all(s, LV_C_DROP_HUB_ENDED);
  lv__give_stop(s);
  lv__subs_free(s);
  lv__alias_free(s);
  free(s->in2);
  s->in2 = NULL;
  if (s->more) {
    free(s->more->will);
    s->more->will = NULL;
    s->more->cursor = s->more->q0_from = s->more->counted_upto = (lv_pos){{0}};
    s->more->will_due = false;
  }
  s->expiry_s = 0;
  s->present = s->persistent = s->sub_ids = 0;
  s->bytes = 0;
  s->next_pid = 1;
}

void lv__sess_clear(lv_sess *s) {
  lv__store_forget(s);
  sess_clear(s);
}

static void sess_free(lv_sess *s) {
  sess_clear(s);
  lv_auth_unref(s->auth);
  free(s->more);
  s->magic = 0;
  free(s);
}

void lv__sess_destroy(lv_sess *s) {
  sess_free(s);
}

/* Whether nothing outside the session still points to it. */
static bool settled(const lv_sess *s) {
  return s->acks == 0 && !s->conn && !s->in_saving && !(s->more && s->more->fetching) &&
         !(s->lag && s->lag->reading);
}

static void grant_mail(lv_loop *loop, lv_mail *mail);

/* Under the lock: hands the session to the first claim; NULL: nobody wants it. */
static lv_claim *next_claim_locked(lv_sess *s) {
  lv_claim *c = s->claims;
  if (!c) return NULL;
  s->claims = c->next;
  lv__sess_unlink(s);
  s->shard = c->shard;
  s->in_transit = 1;
  return c;
}

void lv__sess_settle(lv_sess *s) {
  if (!(s->releasing || s->ended) || !settled(s)) return;
  lv_shard *shard = s->shard;
  lv_realm *r = shard->realm;
  if (s->more) lv_timer_cancel(&shard->loop->wheel, &s->more->timer);
  if (s->ended) sess_clear(s);
  pthread_mutex_lock(&r->lock);
  lv_claim *c = next_claim_locked(s);
  if (!c && s->ended) remove_locked(r, s);
  bool gone = !c && s->ended;
  s->ended = s->releasing = 0;
  pthread_mutex_unlock(&r->lock);
  if (gone) {
    lv__sess_unlink(s);
    sess_free(s);
    return;
  }
  if (!c) {
    lv__offline_arm(s); /* whoever wanted it went away */
    return;
  }
  lv__subs_unindex(s, shard);
  c->mail.run = grant_mail;
  c->granted = s;
  lv_loop_post(c->shard->loop, &c->mail);
}

static bool wanted(lv_realm *r, lv_sess *s) {
  pthread_mutex_lock(&r->lock);
  bool yes = s->claims != NULL;
  pthread_mutex_unlock(&r->lock);
  return yes;
}

/* The owner lets go: its connection is closed; detach and settle do the rest. */
static void let_go(lv_sess *s) {
  s->releasing = 1;
  if (s->conn) {
    /* Its place in the log is only known while it lags: detach takes it down, then stops that. */
    s->shard->link->close(s->conn, LV_E_TAKEN_OVER);
  } else {
    lv__lag_stop(s);
  }
  lv__sess_settle(s);
}

static void grant_mail(lv_loop *loop, lv_mail *mail) {
  lv_claim *c = (lv_claim *)mail; /* the mail is its first member */
  lv_sess *s = c->granted;
  lv_realm *r = c->shard->realm;
  (void)loop;
  pthread_mutex_lock(&r->lock);
  s->in_transit = 0;
  pthread_mutex_unlock(&r->lock);
  lv__sess_link(c->shard, s);
  lv__subs_index(s);
  s->acks++; /* keeps it while `done` may give it back */
  c->done(c, s, 0);
  s->acks--;
  if (wanted(r, s)) {
    let_go(s);
  } else {
    lv__sess_settle(s);
  }
}

/* Names the session by its key, not by address: by the time the mail is read it may be another's.
 */
typedef struct lv_release_mail {
  lv_mail mail;
  lv_realm *realm;
  uint32_t app_id, id_len;
  char id[];
} lv_release_mail;

static void release_mail(lv_loop *loop, lv_mail *mail) {
  lv_release_mail *m = (lv_release_mail *)mail;
  pthread_mutex_lock(&m->realm->lock);
  lv_sess *s = find_locked(m->realm, m->app_id, lv_slice_of(m->id, m->id_len));
  bool ours = s && s->shard && s->shard->loop == loop && !s->in_transit && s->claims;
  pthread_mutex_unlock(&m->realm->lock);
  free(m);
  if (ours) let_go(s);
}

static void ask_owner(lv_shard *owner, const lv_sess *s) {
  lv_release_mail *m = calloc(1, sizeof *m + s->id_len);
  if (!m) abort();
  *m = (lv_release_mail){{NULL, release_mail}, owner->realm, s->app_id, s->id_len};
  memcpy(m->id, s->id, s->id_len);
  lv_loop_post(owner->loop, &m->mail);
}

static void queue_locked(lv_sess *s, lv_claim *c) {
  lv_claim **p = &s->claims;
  while (*p) p = &(*p)->next;
  *p = c;
  c->next = NULL;
}

static void claim_new(lv_shard *shard, const lv_auth *auth, lv_slice id, lv_claim *c) {
  lv_realm *r = shard->realm;
  uint32_t max = auth->app->limits.sessions;
  if (max && r->apps[auth->app_id].n_sessions >= max) {
    pthread_mutex_unlock(&r->lock);
    c->done(c, NULL, LV_E_QUOTA);
    return;
  }
  lv_sess *s = sess_make(r, shard, auth->app_id, id);
  pthread_mutex_unlock(&r->lock);
  lv__sess_link(shard, s);
  c->done(c, s, 0);
}

void lv_sess_claim(lv_shard *shard, lv_auth *auth, lv_slice id, lv_claim *c) {
  lv_realm *r = shard->realm;
  c->shard = shard;
  c->granted = NULL;
  pthread_mutex_lock(&r->lock);
  lv_sess *s = find_locked(r, auth->app_id, id);
  if (!s) {
    claim_new(shard, auth, id, c); /* unlocks */
    return;
  }
  bool first = !s->claims && !s->in_transit;
  queue_locked(s, c);
  bool mine = first && s->shard == shard;
  if (first && !mine) ask_owner(s->shard, s);
  pthread_mutex_unlock(&r->lock);
  if (mine) let_go(s);
}

void lv_sess_release(lv_sess *s) {
  if (!s->present && !(s->more && s->more->will_due)) s->ended = 1;
  s->releasing = 1;
  lv__sess_settle(s);
}

void lv__sess_end(lv_sess *s) {
  lv__store_forget(s);
  s->ended = 1;
  s->present = 0;
}
