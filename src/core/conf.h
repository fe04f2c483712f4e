/* conf.h: the configuration document as values: immutable, refcounted, swapped whole on a reload.
 *
 * One YAML document describes apps, channels, keys, limits, clusters, listeners. A schema table
 * (conf_schema.c) names each key with its type, default, range and help; the parser, `lavva check`,
 * `--help`, docs/config.md and the defaults all come from it. Roles hold a reference to the current
 * document; a reload makes a new one and posts it to the loops. Everything reachable from an
 * lv_conf is freed with it.
 *
 * @thread any for reading; made on the main thread. */
#ifndef LV_CORE_CONF_H
#define LV_CORE_CONF_H
#include "core/err.h"
#include "core/slice.h"
#include <stdatomic.h>
#include <stdio.h>

enum lv_durability { LV_DURABILITY_MEMORY, LV_DURABILITY_DISK, LV_DURABILITY_COUNT };
enum lv_content { LV_CONTENT_AUTO, LV_CONTENT_JSON, LV_CONTENT_TEXT, LV_CONTENT_BINARY };
enum lv_slow { LV_SLOW_DISCONNECT, LV_SLOW_DROP_OLDEST, LV_SLOW_CONFLATE };
/* Where an object comes from: the document, the master's store (made over REST), or neither: a
 * channel that a publish made. */
enum lv_source { LV_SOURCE_FILE, LV_SOURCE_STORE, LV_SOURCE_AUTO };
enum lv_verb { LV_VERB_PUBLISH = 1, LV_VERB_SUBSCRIBE = 2, LV_VERB_ADMIN = 4, LV_VERB_SYS = 8 };

/* What a channel is made with. 0 in a retention limit: no limit. */
typedef struct lv_chan_conf {
  lv_slice app, name;
  uint8_t durability; /* enum lv_durability */
  uint8_t content;    /* enum lv_content */
  uint8_t slow;       /* enum lv_slow, for QoS 0 subscribers over MQTT: drop-oldest by default */
  uint8_t slow_hub;   /* the same for customers over WebSocket and SSE; not kept with the channel */
  uint32_t snapshot;  /* messages that a customer begins with; not kept with the channel either. 0:
                         the last of each key, see below */
  uint32_t last_keys; /* so many keys' last messages are kept, whatever retention does; 0: none */
  uint64_t last_bytes; /* and so many bytes of records */
  uint64_t keep_ms;    /* retention by age */
  uint64_t keep_bytes; /* by size of the records */
  uint64_t keep_count; /* by number of messages */
  uint8_t source;      /* enum lv_source */
} lv_chan_conf;

/* A right: patterns are MQTT filters over the original topic. */
typedef struct lv_right {
  uint8_t verbs; /* of enum lv_verb */
  lv_slice pattern;
} lv_right;

typedef struct lv_key {
  lv_slice id;              /* as in lv_<id>_<secret> */
  uint8_t hash[32];         /* SHA-256 of the whole key text */
  const struct lv_app *app; /* NULL: an administrator's key */
  const lv_right *rights;
  uint32_t n_rights;
  uint8_t verbs;               /* LV_VERB_ADMIN, LV_VERB_SYS; those with patterns are in rights */
  const struct lv_key *within; /* what it may do is what both may; NULL: no such bound */
  uint8_t source;              /* enum lv_source */
} lv_key;

/* How an app's customers show that somebody it trusts sent them: JSON Web Tokens (RFC 7519), their
 * algorithm and keys pinned here. */
enum lv_jwt_alg { LV_JWT_EDDSA, LV_JWT_RS256, LV_JWT_HS256, LV_JWT_ALG_COUNT };
typedef struct lv_jwt_key {
  lv_slice kid;             /* as tokens name it; empty: they need not */
  struct evp_pkey_st *pkey; /* EdDSA, RS256: the public key; NULL with HS256 */
  lv_slice secret;          /* HS256 */
  uint8_t print[32];        /* SHA-256 of algorithm and key: the same key in another document */
} lv_jwt_key;
typedef struct lv_jwt {
  uint8_t algorithm; /* enum lv_jwt_alg */
  const lv_jwt_key *keys;
  uint32_t n_keys;           /* 0: the app takes no tokens */
  lv_slice issuer, audience; /* what a token has to name; empty: any */
  uint32_t leeway_s;         /* how far the issuer's clock may be off */
  uint32_t max_age_s;        /* the longest that a token may still be valid for; 0: no limit */
  const lv_slice *publish, *subscribe;
  uint32_t n_publish, n_subscribe;
  lv_key within; /* the same as rights: no token can do more, one that names none can do this */
} lv_jwt;

/* Limits; each is checked where it bites, and answered with the reason code of the standard. */
typedef struct lv_limits {
  uint32_t connections;       /* of the app (process: of the server) */
  uint32_t packet_bytes;      /* whole MQTT packet or HTTP body */
  uint32_t inflight;          /* Receive Maximum that the server grants, and its own window */
  uint32_t queue_messages;    /* deliveries held in memory for one session */
  uint32_t queue_bytes;       /* bytes waiting in one connection's send queue */
  uint32_t subscriptions;     /* of one session */
  uint32_t filter_levels;     /* levels of a topic or filter */
  uint32_t topic_aliases;     /* Topic Alias Maximum, each way */
  uint32_t session_expiry_s;  /* the longest session expiry granted */
  uint32_t session_bytes;     /* stored state of one session: filters, will, inflight */
  uint32_t sessions;          /* of the app, offline ones included */
  uint32_t channels;          /* of the app, auto-created ones included */
  uint32_t messages_per_s;    /* publishes of one connection; 0: no limit */
  uint32_t retained_messages; /* of the app */
  uint64_t retained_bytes;    /* of the app */
  uint32_t snapshot_keys;     /* of one channel with `snapshot: keys` */
  uint64_t snapshot_bytes;    /* of the same */
  uint32_t idempotent;        /* messages of the app remembered for their Idempotency-Key */
} lv_limits;

typedef struct lv_app {
  lv_slice name;
  uint32_t index; /* 0 … n_apps-1 in this document */
  uint8_t source; /* enum lv_source */
  bool auto_channels;
  uint8_t session_durability;
  lv_chan_conf channel_defaults; /* for channels created by a publish */
  const lv_chan_conf *channels;
  uint32_t n_channels;
  const lv_key *keys;
  uint32_t n_keys;
  lv_jwt jwt;
  lv_limits limits;
  const lv_slice *origins; /* Origin allow-list for browsers; n 0: any */
  uint32_t n_origins;
} lv_app;

enum lv_proto { LV_PROTO_MQTT, LV_PROTO_MQTTS, LV_PROTO_HTTP, LV_PROTO_HTTPS, LV_PROTO_COUNT };
typedef struct lv_listen {
  uint8_t proto;    /* enum lv_proto */
  lv_slice host;    /* address or name; "" or "*": all interfaces */
  uint16_t port;    /* 0: the system picks one */
  bool proxy;       /* PROXY protocol v2 is expected */
  bool client_cert; /* TLS: a client certificate is required */
} lv_listen;

/* Where something stands in the document; line 0: it does not. */
typedef struct lv_conf_mark {
  uint32_t line, column;
} lv_conf_mark;

enum lv_conf_tls { LV_CONF_TLS_CERT, LV_CONF_TLS_KEY, LV_CONF_TLS_CLIENT_CA, LV_CONF_TLS_COUNT };

typedef struct lv_conf {
  _Atomic uint32_t refs;
  struct lv_arena *mem;        /* everything reachable from here */
  struct lv_conf_index *index; /* apps by name, keys by id */
  struct lv_conf_pkey *pkeys;  /* public keys to be freed with it */
  const char *path;            /* NULL: built in */
  lv_slice data_dir;
  lv_listen *listens;
  uint32_t n_listens;
  bool listens_default; /* the document says nothing about them */
  uint32_t threads;     /* 0: one for each core but one */
  bool anonymous;
  bool compression;  /* permessage-deflate with clients that offer it */
  uint8_t log_level; /* enum lv_log_level */
  bool log_json;
  lv_slice tls_cert, tls_key, tls_client_ca; /* PEM file paths */
  lv_conf_mark tls_at[LV_CONF_TLS_COUNT];    /* for findings about what is in them */
  uint32_t
      keep_alive_max_s; /* Server Keep Alive when a client asks for more or for none; 0: none */
  uint32_t connect_timeout_ms;  /* from accept to the end of CONNECT or of the request head */
  uint32_t drain_ms;            /* bound on a graceful shutdown */
  uint64_t publish_queue_bytes; /* given to the broker and not acknowledged, per loop: then pause */
  uint64_t segment_bytes, tail_bytes, disk_reserve_bytes; /* embedded log */
  uint32_t sync_interval_ms; /* background write-out of `memory` channels */
  uint32_t metrics_channels; /* channels of each app with KPIs of their own */
  lv_limits limits;          /* process-wide */
  const lv_app *apps;
  uint32_t n_apps;
  const lv_key *keys; /* administrators' */
  uint32_t n_keys;
} lv_conf;

/* One finding of a check: where, what was found, what is allowed. */
typedef struct lv_conf_issue {
  const char *file;
  uint32_t line, column;
  char key[96], found[96], text[256];
} lv_conf_issue;
typedef void lv_conf_issue_fn(void *arg, const lv_conf_issue *issue);

/* Parses a document (YAML text). All findings go to `fn`; LV_E_CONFIG when there is any. `path` is
 * for messages and for resolving relative file names. @thread main */
int lv_conf_parse(const char *path, lv_slice text, lv_conf_issue_fn *fn, void *arg,
                  lv_conf **ret_conf);
/* ---- objects beside the document: those of the master's store ---- */
typedef struct lv__conf_node lv_conf_node;
/* A value as the document would have it. It lives in the arena; texts are copied. `plain`: without
 * quotes, so that `null` and nothing are no text. @thread any */
lv_conf_node *lv_conf_node_text(struct lv_arena *m, lv_slice text, bool plain);
lv_conf_node *lv_conf_node_list(struct lv_arena *m);
lv_conf_node *lv_conf_node_map(struct lv_arena *m);
/* Appends an item; to a mapping: a key, then its value. */
void lv_conf_node_add(struct lv_arena *m, lv_conf_node *to, lv_conf_node *kid);

enum lv_conf_kind { LV_CONF_APP, LV_CONF_CHANNEL, LV_CONF_KEY, LV_CONF_ADMIN, LV_CONF_KIND_COUNT };
typedef struct lv_conf_more {
  uint8_t kind;        /* enum lv_conf_kind */
  lv_slice app;        /* of a channel or a key: whose */
  lv_conf_node *value; /* a mapping with the fields of the document */
  bool orphan;         /* result: there is no such app, and it was left out */
} lv_conf_more;
/* lv_conf_parse with these objects appended: checked as if they stood in the document. Findings in
 * them have line 0; a name that is in both is one. @thread any */
int lv_conf_parse_with(const char *path, lv_slice text, lv_conf_more *more, uint32_t n_more,
                       lv_conf_issue_fn *fn, void *arg, lv_conf **ret_conf);
/* Reads a document's text (the caller frees it). LV_E_CONFIG after a finding. @thread any */
int lv_conf_read(const char *path, lv_conf_issue_fn *fn, void *arg, char **ret_text, size_t *ret_n);
/* The effective values of an object (lv_app, lv_chan_conf or lv_key) as members of a JSON object,
 * without its braces, named and written as in the document; of a key never the hash. @thread any */
struct lv_buf;
void lv_conf_json(struct lv_buf *b, enum lv_conf_kind kind, const void *obj);
/* The JSON Schema (2020-12) of its members, `"name":{…},…`: as they are answered, or as they may be
 * given (`input`), which is more. @thread any */
void lv_conf_json_schema(struct lv_buf *b, enum lv_conf_kind kind, bool input);

/* Reads and parses a file of at most 16 MiB. @thread main */
int lv_conf_load(const char *path, lv_conf_issue_fn *fn, void *arg, lv_conf **ret_conf);
lv_conf *lv_conf_ref(lv_conf *c);
void lv_conf_unref(lv_conf *c);
/* App by name; NULL: none. @thread any */
const lv_app *lv_conf_app(const lv_conf *c, lv_slice name);
/* Declared channel of an app, or NULL. @thread any */
const lv_chan_conf *lv_conf_channel(const lv_app *app, lv_slice name);
/* Key by its id, or NULL; administrators' keys have no app. @thread any */
const lv_key *lv_conf_key_by_id(const lv_conf *c, lv_slice id);
/* Checks a key's text: form `lv_<id>_<secret>`, known id, SHA-256 compared in constant time.
 * LV_E_BAD_AUTH otherwise. @thread any */
int lv_conf_key(const lv_conf *c, lv_slice text, const lv_key **ret_key);
/* "host:port", "[ipv6]:port", "*:port", ":port" or a port taken apart; the host (without brackets)
 * points into the text. LV_E_INVALID. @thread any */
int lv_conf_address(lv_slice text, lv_slice *ret_host, uint16_t *ret_port);
/* SHA-256 of a key's text, as the document keeps it. @thread any */
void lv_conf_key_hash(lv_slice text, uint8_t ret_hash[32]);
/* Makes a key with a 128-bit random secret: `lv_<id>_<secret>`, letters and digits only. id NULL: a
 * random one. LV_E_INVALID: an id of other characters. @thread any */
enum { LV_CONF_KEY_MAX = 64 };
int lv_conf_key_make(const char *id, char ret_text[LV_CONF_KEY_MAX]);

/* Writes docs/config.md, made from the schema, to `out`. @thread main */
void lv_conf_doc(FILE *out);
/* lavva.yaml(5), in roff's man macros. @thread any */
void lv_conf_man(FILE *out);
/* Of the manual pages: that of the last change to them. */
#define LV_CONF_MAN_DATE "2026-11-24"

/* What a key may do with a topic is asked in session/rights.h. */
#endif
