/* token.c: credentials that are tokens (JWT): a lv_auth of its own for each, with a key inside that
 * has what the token said: id = `sub`, rights within those of the app's section.
 *
 *   lv_auth │ lv_key │ rights … │ their texts
 *
 * Signatures and claims were checked before (access/jwt.c); nothing here sees a token's text. When
 * the document changes, a token lives on if the key that signed it is still there, and the app
 * still asks for the same issuer and audience; it then gets the new bound on its rights. */
#include "core/buf.h"
#include "session/session_int.h"
#include <assert.h>
#include <stdlib.h>

typedef struct lv_token {
  lv_auth auth; /* first: freed as one */
  lv_key key;
  lv_right rights[];
} lv_token;

static lv_slice put(uint8_t **at, lv_slice s) {
  lv_slice kept = {*at, s.n};
  if (s.n) memcpy(*at, s.p, s.n);
  *at += s.n;
  return kept;
}

lv_auth *lv_auth_token(lv_realm *r, lv_conf *conf, const lv_app *app, const lv_jwt_key *signer,
                       const lv_auth_claims *c) {
  const lv_key *within = &app->jwt.within;
  uint32_t n = c->n_rights > 0 ? (uint32_t)c->n_rights : 0;
  size_t text = c->sub.n;
  for (uint32_t i = 0; i < n; i++) text += c->rights[i].pattern.n;
  lv_token *t = calloc(1, sizeof *t + n * sizeof t->rights[0] + text);
  if (!t) abort();
  uint8_t *at = (uint8_t *)&t->rights[n];
  for (uint32_t i = 0; i < n; i++)
    t->rights[i] = (lv_right){c->rights[i].verbs, put(&at, c->rights[i].pattern)};
  t->key = (lv_key){.id = put(&at, c->sub), .app = app, .within = within};
  if (c->n_rights == LV_AUTH_NO_RIGHTS) {
    t->key.rights = within->rights;
    t->key.n_rights = within->n_rights;
    t->key.within = NULL;
  } else {
    t->key.rights = t->rights;
    t->key.n_rights = n;
  }
  t->auth.key = &t->key;
  t->auth.signer = signer;
  t->auth.until = c->until;
  lv__auth_init(r, &t->auth, conf, app);
  return &t->auth;
}

static lv_auth_claims claims_of(const lv_auth *a) {
  return (lv_auth_claims){.sub = a->key->id,
                          .until = a->until,
                          .rights = a->key->rights,
                          .n_rights =
                              a->key->within ? (int32_t)a->key->n_rights : LV_AUTH_NO_RIGHTS};
}

static const lv_jwt_key *signer_find(const lv_app *app, const uint8_t print[32]) {
  for (uint32_t i = 0; i < app->jwt.n_keys; i++)
    if (memcmp(app->jwt.keys[i].print, print, 32) == 0) return &app->jwt.keys[i];
  return NULL;
}

bool lv__token_renew(lv_realm *r, lv_conf *conf, const lv_app *app, const lv_auth *old,
                     lv_auth **ret) {
  const lv_jwt_key *signer = signer_find(app, old->signer->print);
  const lv_jwt *was = &old->app->jwt, *is = &app->jwt;
  if (!signer || !lv_slice_eq(was->issuer, is->issuer) || !lv_slice_eq(was->audience, is->audience))
    return false;
  lv_auth_claims c = claims_of(old);
  *ret = lv_auth_token(r, conf, app, signer, &c);
  return true;
}

bool lv__auth_same_owner(const lv_auth *old, const lv_auth *now) {
  bool was = old && old->signer, is = now->signer;
  if (!was || !is) return was == is;
  return lv_slice_eq(old->key->id, now->key->id);
}

/* ---- in a stored session ---- */

static void put_n(lv_buf *b, uint64_t v, int n) {
  for (int i = 0; i < n; i++) (void)lv_buf_add_byte(b, (uint8_t)(v >> (8 * i)));
}

static void put_text(lv_buf *b, lv_slice s) {
  put_n(b, s.n, 2);
  (void)lv_buf_add_slice(b, s);
}

void lv__token_store(const lv_auth *a, lv_buf *b) {
  lv_auth_claims c = claims_of(a);
  (void)lv_buf_add_byte(b, LV__TOKEN_MARK);
  (void)lv_buf_add(b, a->signer->print, sizeof a->signer->print);
  put_n(b, (uint64_t)c.until.ns, 8);
  put_text(b, c.sub);
  put_n(b, (uint16_t)c.n_rights, 2); /* -1: 0xFFFF */
  for (int32_t i = 0; i < c.n_rights; i++) {
    (void)lv_buf_add_byte(b, c.rights[i].verbs);
    put_text(b, c.rights[i].pattern);
  }
}

typedef struct cut {
  const uint8_t *p;
  uint32_t n;
  bool bad;
} cut;

static uint64_t get(cut *c, uint32_t n) {
  uint64_t v = 0;
  if (c->bad || c->n < n) {
    c->bad = true;
    return 0;
  }
  for (uint32_t i = 0; i < n; i++) v |= (uint64_t)c->p[i] << (8 * i);
  c->p += n;
  c->n -= n;
  return v;
}

static lv_slice get_bytes(cut *c, uint64_t n) {
  if (c->bad || n > c->n) {
    c->bad = true;
    return (lv_slice){NULL, 0};
  }
  lv_slice s = lv_slice_of(c->p, n);
  c->p += n;
  c->n -= (uint32_t)n;
  return s;
}

lv_auth *lv__token_load(lv_realm *r, lv_conf *conf, const lv_app *app, lv_slice stored) {
  enum { RIGHTS_MAX = 256 };
  lv_right rights[RIGHTS_MAX];
  cut c = {stored.p, stored.n, false};
  (void)get(&c, 1); /* the mark */
  lv_slice print = get_bytes(&c, 32);
  lv_auth_claims claims = {.until = {(int64_t)get(&c, 8)}, .rights = rights};
  claims.sub = get_bytes(&c, get(&c, 2));
  claims.n_rights = (int16_t)get(&c, 2);
  if (claims.n_rights > RIGHTS_MAX || claims.n_rights < LV_AUTH_NO_RIGHTS) return NULL;
  for (int32_t i = 0; i < claims.n_rights && !c.bad; i++) {
    rights[i].verbs = (uint8_t)get(&c, 1);
    rights[i].pattern = get_bytes(&c, get(&c, 2));
  }
  if (c.bad) return NULL;
  const lv_jwt_key *signer = signer_find(app, print.p);
  return signer ? lv_auth_token(r, conf, app, signer, &claims) : NULL;
}

/* ---- the end ---- */

struct lv_auth_term {
  lv_timer timer;
  lv_loop *loop;
  lv_wall until;
  void (*fn)(void *arg);
  void *arg;
};

enum { LOOK_S = 60 }; /* the wall clock may be set meanwhile */

static void look(lv_timer *timer) {
  lv_auth_term *t = (lv_auth_term *)timer;
  int64_t left = t->until.ns - lv_wall_now().ns;
  if (left <= 0) {
    t->fn(t->arg);
    return;
  }
  if (left > LV_SEC(LOOK_S).ns) left = LV_SEC(LOOK_S).ns;
  lv_timer_arm(&t->loop->wheel, timer, t->loop->now, (lv_dur){left}, look);
}

static_assert(offsetof(lv_auth_term, timer) == 0, "a timer is cast to its owner");

lv_auth_term *lv_auth_term_new(lv_loop *loop, const lv_auth *auth, void (*fn)(void *arg),
                               void *arg) {
  if (!auth->until.ns) return NULL;
  lv_auth_term *t = calloc(1, sizeof *t);
  if (!t) abort();
  *t = (lv_auth_term){.loop = loop, .until = auth->until, .fn = fn, .arg = arg};
  int64_t left = t->until.ns - lv_wall_now().ns; /* never inside of the call */
  if (left > LV_SEC(LOOK_S).ns) left = LV_SEC(LOOK_S).ns;
  lv_timer_arm(&loop->wheel, &t->timer, loop->now, (lv_dur){left > 0 ? left : 0}, look);
  return t;
}

void lv_auth_term_free(lv_auth_term *t) {
  if (!t) return;
  lv_timer_cancel(&t->loop->wheel, &t->timer);
  free(t);
}
