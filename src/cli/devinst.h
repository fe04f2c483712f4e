/* devinst.h: the development instance: what `lavva serve` makes up when it has no configuration: an
 * app, a channel, a key, listeners on loopback; and what it tells: dev.env and a block of commands.
 *
 * Its keys (the app's, and the administrator's) live in dev.env and nowhere else: as long as that
 * file is there they stay; a lost file means new ones, and the old ones are nobody's. While a
 * server starts the file is called dev.env.last: dev.env names one that runs, and a start that
 * fails (a full disk) keeps the key.
 *
 * @thread main */
#ifndef LV_CLI_DEVINST_H
#define LV_CLI_DEVINST_H
#include "cli/env.h"
#include "core/conf.h"

#define LV_DEVINST_APP "dev"
#define LV_DEVINST_CHANNEL "demo"
#define LV_DEVINST_ADMIN "admin" /* id of the administrator's key */

typedef struct lv_devinst {
  char key[LV_CONF_KEY_MAX], admin_key[LV_CONF_KEY_MAX];
  char env_path[4096], last_path[4096];
} lv_devinst;

/* Takes the keys out of DIR/dev.env, or makes new ones, and puts the file aside. The folder is ours
 * (locked). LV_E_IO. */
int lv_devinst_open(const char *dir, lv_devinst *ret);
/* The document: a YAML text on the heap. */
char *lv_devinst_document(const lv_devinst *d, const char *dir, bool anonymous);
/* How to reach the first listener of each protocol (NULL: none), and where the certificate is. */
typedef struct lv_devinst_facts {
  const char *address[LV_PROTO_COUNT];
  const char *ca;  /* NULL: none */
  const char *dir; /* as the user wrote it */
} lv_devinst_facts;
/* Writes dev.env, once everything accepts. */
int lv_devinst_publish(const lv_devinst *d, const lv_devinst_facts *f);
/* The block of ready-to-paste commands. */
void lv_devinst_print(const lv_devinst *d, const lv_devinst_facts *f, FILE *out);

#endif
