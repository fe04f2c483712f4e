/* kit.h: sessions driven packet by packet: a realm on the fake broker (or on another), one to three
 * loops stepped by hand under a clock of the test, and clients without sockets.
 *
 * A client is what a connection is to a session: it lends a send queue, takes what is queued at the
 * end of each turn unless it is `blocked`, decodes it, and remembers it. Calls of the session layer
 * are made directly, between turns, or from a loop's own thread in the threaded tests. */
#ifndef LV_TEST_SESSION_KIT_H
#define LV_TEST_SESSION_KIT_H
#include "fake_broker.h"
#include "session/session_int.h"

enum { KIT_LOOPS_MAX = 4 };

typedef struct got { /* one PUBLISH as the client sees it; the topic after alias */
  char *topic, *payload;
  uint32_t topic_n, payload_n;
  uint32_t n_ids, ids[8];
  uint32_t expiry_s;
  uint16_t pid, alias;
  uint8_t qos;
  bool dup, retain, has_expiry, bare; /* bare: an alias stood for the topic */
} got;

typedef struct ack_got {
  uint8_t type, reason; /* SUBACK, UNSUBACK: the first code */
  uint16_t pid;
  uint32_t n_codes;
} ack_got;

typedef struct kit kit;
typedef struct client {
  kit *k;
  struct client *next;
  int loop;
  char id[64];
  uint8_t version;
  lv_claim claim;
  lv_mqtt_connect connect;
  lv_auth *auth;
  lv_sess *sess;
  lv_outq outq;
  uint8_t *in; /* bytes of an unfinished packet */
  uint32_t n_in;
  bool asked, waiting, open, present, closing, blocked, want_drain, hold_start;
  bool auto_ack; /* answers PUBLISH, PUBREC, PUBREL at once */
  bool stream;   /* counts, keeps no messages */
  int err, close_err;
  uint32_t resumed; /* how often what had been LV_E_BUSY was asked for again */
  got *got;
  uint32_t n_got, cap_got, n_seen;
  ack_got *acks;
  uint32_t n_acks, cap_acks;
  char **aliases;
  uint16_t next_pid;
  void (*on_got)(struct client *c, const got *g);
  void (*on_ack)(struct client *c, const ack_got *a); /* before it is answered */
  void *arg;
} client;

struct kit {
  fake_broker *fake; /* NULL: another broker, not ours */
  lv_broker *broker;
  lv_conf *conf;
  lv_realm *realm;
  int n_loops;
  lv_loop *loop[KIT_LOOPS_MAX];
  lv_shard *shard[KIT_LOOPS_MAX];
  lv_hook hook[KIT_LOOPS_MAX];
  client *clients[KIT_LOOPS_MAX]; /* touched by their loop only */
  uint64_t base_c[LV_C_COUNT];
  int64_t base_g[LV_G_COUNT];
  bool threaded;
  void (*settle)(kit *k); /* extra work of a settling step, or NULL */
  void (*close)(kit *k);  /* ends the broker: the shards are gone, the loops still there; or NULL */
  void *env;              /* theirs */
};

/* A realm with n_loops on a new fake broker. yaml: NULL for the default document, in which app `a`
 * has the key-less rights of an anonymous client, memory channels `m…`, else disk. */
kit *kit_new(int n_loops, const char *yaml);
/* The realm that kit_open will use, for a broker that wants to know it first. */
lv_realm *kit_realm(kit *k);
/* On a broker that is there (records and all), with k->n_loops loops. @thread main */
void kit_open(kit *k, lv_broker *broker);
/* Ends the process in order: clients are told, sessions saved. crash: nothing more is kept. */
void kit_close(kit *k, bool crash);
/* Each loop gets its thread; turns are theirs from now on, until kit_close. */
void kit_threads(kit *k);
/* kit_close and kit_open on the same fake. */
void kit_restart(kit *k, bool crash);
/* The document that the next kit_restart begins with. */
void kit_conf(kit *k, const char *yaml);
void kit_free(kit *k); /* checks the ledger first */

/* Turns of every loop; kit_run: until nothing moves for some turns. */
void kit_step(kit *k);
void kit_run(kit *k);
/* Moves the clock, without a turn. */
void kit_tick_ms(kit *k, int64_t ms);
/* Moves it and lets happen what is due. */
void kit_sleep_ms(kit *k, int64_t ms);
uint64_t kit_count(const kit *k, enum lv_counter c); /* since kit_open */
int64_t kit_gauge(const kit *k, enum lv_gauge g);
uint64_t kit_drops(const kit *k);
/* owed = delivered + drops + pending; offered = in + rejected; in = out + drops + in flight. */
void kit_ledger(const kit *k);

/* A client that is not connected. */
client *client_new(kit *k, int loop, const char *id, uint8_t version);
/* Claims with these options (others: as set in c->connect); settles. */
typedef struct opts {
  bool clean;
  uint32_t expiry_s;
  uint16_t receive_max, alias_max;
  uint32_t max_packet;
  const char *will_topic, *will;
  uint32_t will_delay_s;
  uint8_t will_qos;
  bool will_retain;
  const char *key; /* id of the key in the document, NULL: anonymous */
} opts;
void client_ask(client *c, opts o); /* the CONNECT, no turn */
void client_connect(client *c, opts o);
void client_start(client *c); /* with hold_start */
/* The socket is gone, without DISCONNECT / with it (then the session decides). */
void client_cut(client *c);
void client_bye(client *c);
void client_move(client *c, int loop); /* while not connected */
int client_publish(client *c, const char *topic, const char *payload, uint8_t qos, bool retain);
int client_publish_pid(client *c, const char *topic, const char *payload, uint8_t qos, bool retain,
                       uint16_t pid, bool dup);
int client_ack(client *c, uint8_t type, uint16_t pid, uint8_t reason);
typedef struct subopts {
  uint32_t id;
  bool no_local, as_published;
  uint8_t retain_handling;
} subopts;
/* Settles; the SUBACK's code. */
uint8_t client_sub(client *c, const char *filter, uint8_t qos, subopts o);
int client_sub_send(client *c, const char *filter, uint8_t qos, subopts o); /* no turn */
uint8_t client_unsub(client *c, const char *filter);
/* The next unseen message, or NULL; the last acknowledgement of a type for a pid, or NULL. */
const got *client_next(client *c);
const ack_got *client_acked(client *c, uint8_t type, uint16_t pid);
void client_forget(client *c); /* what it got so far */

#endif
