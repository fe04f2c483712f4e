/* server.h: all roles in one process, put together and taken apart in order.
 *
 *   start:  broker (recovers) → realm (sessions, retained) → loops, shards → listeners → ready
 *   stop:   not ready → listeners drain → sessions saved → loops stop → broker commits → free
 *
 * @thread main, but for what says otherwise. */
#ifndef LV_CLI_SERVER_H
#define LV_CLI_SERVER_H
#include "core/conf.h"
#include "net/conn.h"

typedef struct lv_server lv_server;

struct lv_disk;
/* Makes (mode 0750) and locks the data folder, before anything in it is touched. LV_E_LOCKED. */
int lv_server_folder(const char *dir, struct lv_disk **ret_disk);
/* What the operator can do about an error that has to do with the data folder: "; …", or "". */
const char *lv_server_folder_hint(int err);
struct lv_master;
/* Opens everything `conf` describes and returns once all listeners accept. why: >= 512 bytes: what
 * failed, where, and what to do. The conf is referenced; the disk is taken over, also on failure.
 * The master stays the caller's: it is attached, to be started afterwards, and lv_server_stop stops
 * it. */
int lv_server_start(lv_conf *conf, struct lv_disk *disk, struct lv_master *master,
                    lv_server **ret_server, char *why);
/* "host:port" of listener i of the document as it was at the start, with the real port, and its
 * protocol; NULL: there are no more. */
const char *lv_server_listener(const lv_server *s, uint32_t i, uint8_t *ret_proto);
/* A new document: keys, certificates, limits, log level; returns once every loop has it. Listeners
 * and the data folder stay. `whole` false: only apps and keys differ. @thread master */
int lv_server_reload(lv_server *s, lv_conf *conf, bool whole, char *why);
/* Drains and frees; at most the conf's drain_ms and a little. Returns the number of connections
 * that had to be cut. */
uint32_t lv_server_stop(lv_server *s);
/* Asks each loop for a sign of life; true when all have answered the time before. @thread main */
bool lv_server_beat(lv_server *s);
/* To be called about once a second: samples for the 60-second quantiles, held-back log lines. */
void lv_server_tick(lv_server *s);

#endif
