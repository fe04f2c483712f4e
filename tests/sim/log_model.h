/* log_model.h: what the log simulator knows to be true: every record that was appended, what of it
 * was visible, and what a recovered log may and must therefore hold. */
#ifndef LV_SIM_LOG_MODEL_H
#define LV_SIM_LOG_MODEL_H
#include "broker/embedded/elog.h"

enum { SIM_CHANS = 24, SIM_KEYS = 12, SIM_TOPIC = 24 };

typedef struct sim_rec {
  uint64_t lsn, offset, id; /* id fills the value */
  int64_t ingest_ns;
  uint32_t size, chan, val_n;
  uint8_t kind, flags, key; /* key: index in the key space of its kind */
} sim_rec;

typedef struct sim_model {
  bool touched; /* something was appended (or tried) since the log was opened */
  bool memory;  /* visible as soon as written */
  sim_rec *recs;
  uint32_t n, cap;
  sim_rec attempt[64]; /* records of the last failed append: they may be on disk */
  uint32_t n_attempt;
  uint64_t synced; /* what a finished sync covered */
  uint64_t first[SIM_CHANS + 1];
  uint64_t visible_next[SIM_CHANS + 1]; /* behind the largest offset seen in this epoch */
  uint64_t max_lsn;                     /* behind everything that was visible, in any epoch */
  char epoch[24];
  uint64_t newest_state[SIM_KEYS], newest_retained[SIM_CHANS * SIM_KEYS];
  bool told; /* damage was reported */
  bool rot;  /* a bit was flipped: records may be missing, if that is told; none may be wrong */
  char why[256];
} sim_model;

/* How the log went down. */
enum sim_end { SIM_CLOSED, SIM_KILLED, SIM_CRASHED, SIM_REOPENED };

void sim_model_done(sim_model *m);
void sim_topic(const sim_rec *s, char *ret);
void sim_value(const sim_rec *s, uint8_t *ret);
sim_rec sim_rec_of(const lv_rec *r);
void sim_push(sim_model *m, const sim_rec *s);
/* Recomputes the newest lsn of each key. */
void sim_newest(sim_model *m);
/* Whether a log that came back after `end` is right. False: why says what is not. keeps:
 * appended records below it must be there. told: damage was reported. */
bool sim_check(sim_model *m, lv_elog *log, enum sim_end end, uint64_t keeps, bool told);

#endif
