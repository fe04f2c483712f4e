/* store.h: what the master keeps: one SQLite file, DIR/master.db.
 *
 *   meta(name, value)                      instance, revision
 *   object(kind, app, name, body, created) apps, channels and keys made over REST; body: the fields
 *                                          of the document as JSON, of a key its hash only
 *   usage_…                                metering: usage_db.h
 *   … and the tables of others, by the list of migrations in store.c
 *
 * WAL with synchronous FULL: a change that was answered survives power loss. PRAGMA user_version is
 * the number of migrations applied: an older file is brought up to date, a newer one refused. Other
 * processes may write to it while the server runs (`lavva key create --admin`): lv_store_changed.
 *
 * @thread one at a time: the master's (lv_master_post) once it runs, before that main. */
#ifndef LV_MASTER_STORE_H
#define LV_MASTER_STORE_H
#include "core/conf.h"

struct sqlite3;
typedef struct lv_store lv_store;

#define LV_STORE_FILE "master.db"
/* Tables of others, as they were first made: statements. */
extern const char lv__usage_db_schema[]; /* usage_db.c */
enum { LV_STORE_WHY = 512, LV_STORE_INSTANCE = 17 };

/* Opens or creates DIR/master.db, mode 0600, checks its integrity and applies migrations. Errors:
 * LV_E_FORMAT (written by a newer version, or no file of ours), LV_E_CORRUPT, LV_E_BUSY (another
 * process holds it for longer than 5 s), LV_E_DISK_FULL, LV_E_FORBIDDEN, LV_E_IO; why: at least
 * LV_STORE_WHY bytes, a sentence. */
int lv_store_open(const char *dir, lv_store **ret_store, char *why);
void lv_store_close(lv_store *s);
/* For modules with tables of their own. */
struct sqlite3 *lv_store_db(lv_store *s);
/* An SQLite result code as an lv_err. */
int lv_store_err(int rc);
/* What SQLite says of the last failure. */
const char *lv_store_text(lv_store *s);
/* Random, of this file; never changes. */
const char *lv_store_instance(const lv_store *s);

/* Whether another connection wrote since the last call (the first says no). */
bool lv_store_changed(lv_store *s);
/* Gives every object, in the order of kind, app, name. fn returning non-zero ends it. */
typedef int lv_store_fn(void *arg, enum lv_conf_kind kind, lv_slice app, lv_slice name,
                        lv_slice body);
int lv_store_each(lv_store *s, lv_store_fn *fn, void *arg);
/* Each is one committed transaction. app is empty for apps and administrators' keys. */
int lv_store_insert(lv_store *s, enum lv_conf_kind kind, lv_slice app, lv_slice name,
                    lv_slice body); /* LV_E_EXISTS */
int lv_store_update(lv_store *s, enum lv_conf_kind kind, lv_slice app, lv_slice name,
                    lv_slice body); /* NOT_FOUND */
int lv_store_delete(lv_store *s, enum lv_conf_kind kind, lv_slice app, lv_slice name); /* an app:
                                                               with what is in it */
/* Counted up by each change. */
int lv_store_revision(lv_store *s, uint64_t *ret_revision);

#endif
