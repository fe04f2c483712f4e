/* log_model.c: the simulator's judge. It keeps every appended record in order of lsn, and compares
 * it with what a recovered log returns by scanning, by channel, by offset and by state key.
 *
 *   - whatever is returned is byte for byte what was appended at that lsn
 *   - what is missing was below the retention limit, superseded, or (only at the end, in one piece)
 *     not yet as safe as promised
 *   - a visible offset of an epoch is never given to another record */
#include "log_model.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void sim_model_done(sim_model *m) {
  free(m->recs);
}

void sim_topic(const sim_rec *s, char *ret) {
  if (s->kind == LV_REC_STATE)
    (void)snprintf(ret, SIM_TOPIC, "s/%u", s->key);
  else
    (void)snprintf(ret, SIM_TOPIC, "c%u/%u", s->chan, s->key);
}

void sim_value(const sim_rec *s, uint8_t *ret) {
  uint64_t v = s->id * 0x9E3779B97F4A7C15u + 1;
  for (uint32_t i = 0; i < s->val_n; i++, v = v * 6364136223846793005u + 1442695040888963407u)
    ret[i] = (uint8_t)(v >> 56);
}

sim_rec sim_rec_of(const lv_rec *r) {
  return (sim_rec){.lsn = r->lsn, .offset = r->offset, .size = r->size};
}

void sim_push(sim_model *m, const sim_rec *s) {
  if (m->n == m->cap) {
    m->cap = m->cap ? 2 * m->cap : 1024;
    if (!(m->recs = realloc(m->recs, m->cap * sizeof *m->recs))) abort();
  }
  m->recs[m->n++] = *s;
}

static uint64_t *newest_of(sim_model *m, const sim_rec *s) {
  if (s->kind == LV_REC_STATE) return &m->newest_state[s->key];
  if (s->kind == LV_REC_MSG && (s->flags & LV_REC_RETAIN))
    return &m->newest_retained[(s->chan - 1) * SIM_KEYS + s->key];
  return NULL;
}

void sim_newest(sim_model *m) {
  memset(m->newest_state, 0, sizeof m->newest_state);
  memset(m->newest_retained, 0, sizeof m->newest_retained);
  for (uint32_t i = 0; i < m->n; i++) {
    uint64_t *at = newest_of(m, &m->recs[i]);
    if (at) *at = m->recs[i].lsn;
  }
}

__attribute__((format(printf, 2, 3))) static bool wrong(sim_model *m, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  (void)vsnprintf(m->why, sizeof m->why, fmt, ap);
  va_end(ap);
  return false;
}

static bool same(const sim_rec *s, const lv_rec *r) {
  char topic[SIM_TOPIC];
  uint8_t val[8192];
  sim_topic(s, topic);
  sim_value(s, val);
  return r->lsn == s->lsn && r->offset == s->offset && r->size == s->size && r->kind == s->kind &&
         r->chan == s->chan && r->flags == s->flags && r->ingest_ns == s->ingest_ns &&
         lv_slice_eq(lv_rec_topic(r), lv_slice_str(topic)) &&
         lv_slice_eq(lv_rec_val(r), lv_slice_of(val, s->val_n));
}

static sim_rec *by_lsn(sim_model *m, uint64_t lsn) {
  uint32_t lo = 0, hi = m->n;
  while (lo < hi) {
    uint32_t mid = (lo + hi) / 2;
    if (m->recs[mid].lsn < lsn)
      lo = mid + 1;
    else
      hi = mid;
  }
  return lo < m->n && m->recs[lo].lsn == lsn ? &m->recs[lo] : NULL;
}

typedef struct seen {
  uint8_t *at;   /* a flag for each record of the model */
  uint32_t last; /* behind the last one seen */
  bool damage;
} seen;

/* One scanned record: known, or left by the append that failed last. */
static bool take(sim_model *m, const lv_rec *r, seen *s) {
  if (r->kind == LV_REC_NOTE) return true;
  sim_rec *k = by_lsn(m, r->lsn);
  if (k) {
    if (!same(k, r)) return wrong(m, "lsn %llu: other content", (unsigned long long)r->lsn);
    s->at[k - m->recs] = 1;
    s->last = (uint32_t)(k - m->recs) + 1;
    return true;
  }
  for (uint32_t i = 0; i < m->n_attempt; i++) {
    if (m->attempt[i].lsn != r->lsn) continue;
    if (m->n && r->lsn < m->recs[m->n - 1].lsn) break;
    if (!same(&m->attempt[i], r)) break;
    sim_push(m, &m->attempt[i]);
    if (!(s->at = realloc(s->at, m->n + 1))) abort();
    s->at[m->n - 1] = 1;
    s->last = m->n;
    return true;
  }
  return wrong(m, "lsn %llu chan %u offset %llu: unexpected", (unsigned long long)r->lsn, r->chan,
               (unsigned long long)r->offset);
}

static bool scan_all(sim_model *m, lv_elog *log, seen *s) {
  uint64_t at = 0, end = lv_elog_end(log), last = 0;
  while (at < end) {
    lv_block *b = NULL;
    uint32_t bytes = 0;
    uint64_t before = at;
    int rc = lv_elog_scan(log, at, UINT64_MAX, 3000, &b, &bytes, &at);
    if (rc == LV_E_CORRUPT) s->damage = true;
    if (rc < 0 && !(m->rot && rc == LV_E_CORRUPT))
      return wrong(m, "scan at %llu: %s", (unsigned long long)before, lv_err_name(rc));
    if (at <= before && bytes == 0)
      return wrong(m, "scan at %llu does not advance: end %llu, %s", (unsigned long long)before,
                   (unsigned long long)end, lv_err_name(rc));
    bool ok = true;
    for (uint32_t o = 0; ok && o < bytes;) {
      const lv_rec *r = (const lv_rec *)(b->data + o);
      ok = r->lsn > last || last == 0 ? take(m, r, s) : wrong(m, "scan goes back");
      last = r->lsn;
      o += r->size;
    }
    lv_block_unref(b);
    if (!ok) return false;
  }
  return true;
}

/* Missing is fine for what retention or a newer record of the key made dead. */
static bool dead(sim_model *m, const sim_rec *s) {
  const uint64_t *newest = newest_of(m, s);
  bool superseded = !newest || *newest != s->lsn || s->val_n == 0;
  if (s->kind == LV_REC_MSG && s->offset >= m->first[s->chan]) return false;
  return superseded;
}

/* Cuts what is not there any more off the end, and judges every hole before it. */
static bool settle(sim_model *m, const seen *s, uint64_t keeps, bool *ret_cut) {
  uint32_t n = m->n;
  while (n > s->last && m->recs[n - 1].lsn >= keeps) n--;
  if (m->rot && n > s->last) {
    if (!s->damage) return wrong(m, "the tail was lost silently");
    n = s->last;
  }
  *ret_cut = n < m->n;
  m->n = n;
  sim_newest(m);
  if (m->rot) return true;
  for (uint32_t i = 0; i < n; i++)
    if (!s->at[i] && !dead(m, &m->recs[i]))
      return wrong(m, "lost: lsn %llu chan %u offset %llu kind %u key %u (keeps %llu)",
                   (unsigned long long)m->recs[i].lsn, m->recs[i].chan,
                   (unsigned long long)m->recs[i].offset, m->recs[i].kind, m->recs[i].key,
                   (unsigned long long)keeps);
  return true;
}

/* Reads one place and compares it. */
static bool place(sim_model *m, lv_elog *log, const lv_elog_at *at, const sim_rec *want) {
  lv_block *b;
  const lv_rec *r;
  int rc = lv_elog_pread(log, at, &b, &r);
  if (rc == LV_E_CORRUPT && m->rot) return true;
  if (rc < 0) return wrong(m, "read of lsn %llu: %s", (unsigned long long)at->lsn, lv_err_name(rc));
  const sim_rec *k = want ? want : by_lsn(m, at->lsn);
  bool ok = k && same(k, r) && k->lsn == at->lsn;
  lv_block_unref(b);
  return ok || wrong(m, "read of lsn %llu: not what was written", (unsigned long long)at->lsn);
}

static bool channel(sim_model *m, lv_elog *log, uint32_t chan) {
  lv_elog_at at[64];
  uint64_t from = 0;
  uint32_t i = 0;
  bool ok = true;
  for (int n; ok && (n = lv_elog_find(log, chan, from, UINT64_MAX, 64, at)) != 0;) {
    if (n < 0) return wrong(m, "find in channel %u: %s", chan, lv_err_name(n));
    for (int k = 0; ok && k < n; k++) {
      while (i < m->n &&
             (m->recs[i].kind != LV_REC_MSG || m->recs[i].chan != chan ||
              m->recs[i].offset < m->first[chan] || (m->rot && m->recs[i].lsn < at[k].lsn)))
        i++;
      if (i == m->n || m->recs[i].lsn != at[k].lsn || m->recs[i].offset != at[k].offset)
        ok = wrong(m, "channel %u: place lsn %llu offset %llu not expected", chan,
                   (unsigned long long)at[k].lsn, (unsigned long long)at[k].offset);
      else
        ok = place(m, log, &at[k], &m->recs[i++]);
    }
    from = at[n - 1].lsn + 8;
    lv_elog_release(at, (uint32_t)n);
  }
  for (; ok && !m->rot && i < m->n; i++)
    if (m->recs[i].kind == LV_REC_MSG && m->recs[i].chan == chan &&
        m->recs[i].offset >= m->first[chan])
      ok = wrong(m, "channel %u: offset %llu not found", chan,
                 (unsigned long long)m->recs[i].offset);
  return ok;
}

static bool offsets(sim_model *m, lv_elog *log) {
  for (uint32_t i = 0; i < m->n; i += 7) {
    const sim_rec *s = &m->recs[i];
    lv_elog_at at;
    if (s->kind != LV_REC_MSG || s->offset < m->first[s->chan]) continue;
    int rc = lv_elog_find_offset(log, s->chan, s->offset, &at);
    if (rc < 0 && m->rot) continue;
    if (rc < 0) return wrong(m, "offset %llu: %s", (unsigned long long)s->offset, lv_err_name(rc));
    bool ok = at.offset == s->offset && at.lsn == s->lsn;
    lv_elog_release(&at, 1);
    if (!ok && !m->rot)
      return wrong(m, "offset %llu found elsewhere", (unsigned long long)s->offset);
  }
  return true;
}

/* Replays a pseudo channel: the newest record of each key must be the model's. */
static bool keyed(sim_model *m, lv_elog *log, uint32_t pseudo, const uint64_t *newest,
                  uint32_t n_keys) {
  lv_elog_at at[64];
  uint64_t from = 0, got[SIM_CHANS * SIM_KEYS] = {0};
  for (int n; (n = lv_elog_find(log, pseudo, from, UINT64_MAX, 64, at)) != 0;) {
    if (n < 0) return wrong(m, "find of state: %s", lv_err_name(n));
    bool ok = true;
    for (int k = 0; ok && k < n; k++) {
      const sim_rec *s = by_lsn(m, at[k].lsn);
      ok = s ? place(m, log, &at[k], s)
             : wrong(m, "state at lsn %llu not expected", (unsigned long long)at[k].lsn);
      if (!ok) break;
      uint64_t *slot = newest_of(m, s);
      ok = slot && slot >= newest && slot < newest + n_keys;
      if (ok) got[slot - newest] = s->lsn;
    }
    from = at[n - 1].lsn + 8;
    lv_elog_release(at, (uint32_t)n);
    if (!ok) return m->why[0] ? false : wrong(m, "a record among the wrong kind of state");
  }
  for (uint32_t i = 0; !m->rot && i < n_keys; i++) {
    const sim_rec *want = newest[i] ? by_lsn(m, newest[i]) : NULL;
    const sim_rec *have = got[i] ? by_lsn(m, got[i]) : NULL;
    if (got[i] == newest[i] || (want && want->val_n == 0 && !have)) continue;
    return wrong(m, "key %u of %s: newest is lsn %llu, found %llu", i,
                 pseudo == LV_ELOG_STATE ? "state" : "retained", (unsigned long long)newest[i],
                 (unsigned long long)got[i]);
  }
  return true;
}

static bool facts(sim_model *m, lv_elog *log, enum sim_end end, bool cut) {
  bool new_epoch = m->epoch[0] && strcmp(m->epoch, lv_elog_epoch(log)) != 0;
  if (new_epoch) memset(m->visible_next, 0, sizeof m->visible_next);
  (void)snprintf(m->epoch, sizeof m->epoch, "%s", lv_elog_epoch(log));
  if (m->memory && m->touched && end != SIM_CLOSED && end != SIM_REOPENED && !new_epoch)
    return wrong(m, "no new epoch after an unclean end");
  if (m->memory && cut && !new_epoch) return wrong(m, "visible records gone in the same epoch");
  if (!m->memory && new_epoch && !m->rot) return wrong(m, "a disk log changed its epoch");
  if (new_epoch && lv_elog_end(log) < m->max_lsn && !m->rot)
    return wrong(m, "a new epoch uses old addresses");
  for (uint32_t c = 1; c <= SIM_CHANS; c++) {
    lv_elog_chan f;
    lv_elog_chan_get(log, c, &f);
    if (f.first_offset > m->first[c] && !m->rot)
      return wrong(m, "channel %u: first offset %llu, was %llu", c,
                   (unsigned long long)f.first_offset, (unsigned long long)m->first[c]);
    if (f.next_offset < m->visible_next[c] && !m->rot)
      return wrong(m, "channel %u: next offset %llu, %llu was seen", c,
                   (unsigned long long)f.next_offset, (unsigned long long)m->visible_next[c] - 1);
    m->first[c] = f.first_offset;
  }
  return true;
}

bool sim_check(sim_model *m, lv_elog *log, enum sim_end end, uint64_t keeps, bool told) {
  m->told |= told;
  seen s = {.at = calloc(1, m->n + 1), .damage = m->told};
  uint32_t before = m->n;
  bool cut = false;
  if (!s.at) abort();
  m->why[0] = 0;
  bool ok = scan_all(m, log, &s);
  m->n_attempt = 0;
  /* first offsets before holes are judged: recovery may have gone back to older ones */
  uint64_t first[SIM_CHANS + 1];
  memcpy(first, m->first, sizeof first);
  for (uint32_t c = 1; ok && c <= SIM_CHANS; c++) {
    lv_elog_chan f;
    lv_elog_chan_get(log, c, &f);
    if (f.first_offset < m->first[c] || m->rot) m->first[c] = f.first_offset;
  }
  ok = ok && settle(m, &s, keeps, &cut);
  ok = ok && facts(m, log, end, cut);
  for (uint32_t c = 1; ok && c <= SIM_CHANS; c++) ok = channel(m, log, c);
  ok = ok && offsets(m, log);
  ok = ok && keyed(m, log, LV_ELOG_STATE, m->newest_state, SIM_KEYS);
  ok = ok && keyed(m, log, LV_ELOG_RETAINED, m->newest_retained, SIM_CHANS * SIM_KEYS);
  uint32_t holes = 0;
  for (uint32_t i = 0; ok && m->rot && i < m->n && i < before; i++)
    holes += !s.at[i] && !dead(m, &m->recs[i]);
  lv_elog_stats st;
  lv_elog_stats_get(log, &st);
  if (ok && holes && !s.damage && !st.damaged_reads)
    ok = wrong(m, "%u records lost silently", holes);
  free(s.at);
  m->synced = lv_elog_synced(log);
  m->touched &= end == SIM_REOPENED;
  return ok;
}
