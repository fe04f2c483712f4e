/* conf_schema.c: the one description of the configuration document. The parser, the defaults, the
 * findings of `lavva check` and docs/config.md all come from these tables.
 *
 * To add a key: a field here, its place in conf.h, `docs/config.md` made anew (make docs). */
#include "core/conf_int.h"
#include "core/log.h"
#include "core/metric.h"

#define N(a) (uint32_t)(sizeof(a) / sizeof *(a))
#define KiB (1ull << 10)
#define MiB (1ull << 20)
#define GiB (1ull << 30)
#define TiB (1ull << 40)
#define SECOND 1000ull
#define DAY (86400 * SECOND)

static const lv__conf_word durability_words[] = {
    {"memory", LV_DURABILITY_MEMORY,
     "acknowledged once written to the operating system: survives kill -9, not power loss"},
    {"disk", LV_DURABILITY_DISK,
     "acknowledged once a completed fdatasync covers it: survives power loss"},
    {NULL, 0, NULL}};
static const lv__conf_word content_words[] = {
    {"auto", LV_CONTENT_AUTO, "decided for each message: JSON, UTF-8 text or binary"},
    {"json", LV_CONTENT_JSON, "what is not valid JSON is refused"},
    {"text", LV_CONTENT_TEXT, "what is not valid UTF-8 is refused"},
    {"binary", LV_CONTENT_BINARY, "taken as it is"},
    {NULL, 0, NULL}};
static const lv__conf_word slow_words[] = {
    {"disconnect", LV_SLOW_DISCONNECT, "the connection is closed"},
    {"drop-oldest", LV_SLOW_DROP_OLDEST, "the oldest waiting message is dropped, and counted"},
    {"conflate", LV_SLOW_CONFLATE, "only the newest message of each key waits"},
    {NULL, 0, NULL}};
static const lv__conf_word level_words[] = {{"error", LV_ERROR, "what went wrong"},
                                            {"warn", LV_WARN, "what may need a hand"},
                                            {"info", LV_INFO, "what an operator wants to know"},
                                            {"debug", LV_DEBUG, "everything, for finding a fault"},
                                            {NULL, 0, NULL}};
static const lv__conf_word format_words[] = {
    {"text", 0, "lines for people"}, {"json", 1, "one JSON object a line"}, {NULL, 0, NULL}};

/* ---- limits ---- */
#define LIMIT(key, kind, field, lo, hi, def_, zero_, help_)                                        \
  {                                                                                                \
    .name = key, .type = LV__CONF_##kind, .width = sizeof(((lv_limits *)0)->field),                \
    .offset = offsetof(lv_limits, field), .unit_ms = 1000, .min = lo, .max = hi, .def = def_,      \
    .zero = zero_, .help = help_                                                                   \
  }
static const lv__conf_field limits_fields[] = {
    LIMIT(
        "connections", NUMBER, connections, 1, 10000000, "100000", NULL,
        "open connections; one more of an app is refused (0x97; 3.1.1: return code 3), one more of "
        "the process closed at once"),
    LIMIT("packet", BYTES, packet_bytes, 1 * KiB, 32 * MiB, "4MiB", NULL,
          "a whole MQTT packet or HTTP body; a larger one ends the connection (0x95, 413)"),
    LIMIT("inflight", NUMBER, inflight, 1, 65535, "1024", NULL,
          "Receive Maximum that is granted, and unacknowledged deliveries to one client"),
    LIMIT("queue_messages", NUMBER, queue_messages, 16, 1000000, "10000", NULL,
          "deliveries held in memory for one session; the rest waits in the log"),
    LIMIT("queue", BYTES, queue_bytes, 64 * KiB, 1 * GiB, "8MiB", NULL,
          "bytes waiting in one connection's send queue before it counts as slow"),
    LIMIT("subscriptions", NUMBER, subscriptions, 1, 100000, "1000", NULL,
          "of one session; one more is refused (0x97)"),
    LIMIT("filter_levels", NUMBER, filter_levels, 1, 65535, "200", NULL,
          "levels of a topic or filter (0x90, 0x8F)"),
    LIMIT("topic_aliases", NUMBER, topic_aliases, 0, 65535, "64", NULL,
          "Topic Alias Maximum, each way"),
    {.name = "session_expiry",
     .type = LV__CONF_DURATION,
     .width = 4,
     .offset = offsetof(lv_limits, session_expiry_s),
     .unit_ms = 1000,
     .min = 0,
     .max = UINT32_MAX,
     .def = "30d",
     .highest = "never",
     .help = "how long a session outlives its connection at most; asked for more, this is granted"},
    LIMIT("session", BYTES, session_bytes, 4 * KiB, 64 * MiB, "1MiB", NULL,
          "stored state of one session: filters, will, inflight (0x97)"),
    LIMIT("sessions", NUMBER, sessions, 1, 10000000, "100000", NULL,
          "of an app, offline ones included (0x97)"),
    LIMIT("channels", NUMBER, channels, 1, 1000000, "20000", NULL,
          "of an app, auto-created ones included (0x97)"),
    LIMIT("messages_per_second", NUMBER, messages_per_s, 1, 10000000, "unlimited", "unlimited",
          "publishes of one connection; above it reading pauses"),
    LIMIT("retained", NUMBER, retained_messages, 0, 10000000, "100000", NULL,
          "retained messages of an app (0x97)"),
    LIMIT("retained_bytes", BYTES, retained_bytes, 0, 1 * TiB, "256MiB", NULL,
          "bytes of the same (0x97)"),
    LIMIT("snapshot_keys", NUMBER, snapshot_keys, 1, 1000000, "10000", NULL,
          "keys of one channel with `snapshot: keys`; above it the key that has been without a "
          "message for longest leaves its snapshot"),
    LIMIT("snapshot_bytes", BYTES, snapshot_bytes, 64 * KiB, 256 * MiB, "8MiB", NULL,
          "bytes of the same, as the log stores them"),
    LIMIT(
        "idempotency", NUMBER, idempotent, 0, 10000000, "100000", NULL,
        "messages of an app that are remembered for their Idempotency-Key, for 24 h; above it the "
        "oldest are forgotten"),
};
static const lv__conf_section limits_section = {
    .title = "limits",
    .about = "Bounds of the process, and what each app's own limits start from. Behind each stands "
             "what a client gets that reaches it.",
    .fields = limits_fields,
    .n_fields = N(limits_fields),
    .finish = lv__conf_limits_finish};
static const lv__conf_section app_limits_section = {
    .title = "apps[].limits",
    .about = "The keys of `limits`, for this app. What is left out is as in `limits`; nothing may "
             "be more than there.",
    .fields = limits_fields,
    .n_fields = N(limits_fields),
    .inherits = true,
    .init = lv__conf_limits_init,
    .finish = lv__conf_limits_finish};

/* ---- channels ---- */
#define RETENTION(key, kind, field, lo, hi, def_, help_)                                           \
  {                                                                                                \
    .name = key, .type = LV__CONF_##kind, .width = 8, .offset = offsetof(lv_chan_conf, field),     \
    .unit_ms = 1, .min = lo, .max = hi, .def = def_, .zero = "unlimited", .help = help_            \
  }
static const lv__conf_field retention_fields[] = {
    RETENTION("age", DURATION, keep_ms, 1 * SECOND, 36500 * DAY, "7d",
              "how long messages are kept"),
    RETENTION("bytes", BYTES, keep_bytes, 64 * KiB, 1024 * TiB, "1GiB",
              "bytes kept, the newest ones"),
    RETENTION("count", NUMBER, keep_count, 1, UINT64_MAX / 2, "unlimited",
              "messages kept, the newest ones"),
};
static const lv__conf_section retention_section = {
    .title = "retention",
    .about = "When the first of these limits is passed, the oldest messages go. Retained MQTT "
             "messages and sessions do not count.",
    .fields = retention_fields,
    .n_fields = N(retention_fields)};
static const lv__conf_section retention_inherited = {.title = "retention",
                                                     .about = "As `channel_defaults.retention`.",
                                                     .fields = retention_fields,
                                                     .n_fields = N(retention_fields),
                                                     .inherits = true};
#define WORD(key, type_, field, words_, def_, help_)                                               \
  {                                                                                                \
    .name = key, .type = LV__CONF_WORD, .width = 1, .offset = offsetof(type_, field),              \
    .words = words_, .def = def_, .help = help_                                                    \
  }
#define CHANNEL_FIELDS(retention)                                                                  \
  WORD("durability", lv_chan_conf, durability, durability_words, "disk",                           \
       "how safe a message is before it is acknowledged or delivered"),                            \
      WORD("content", lv_chan_conf, content, content_words, "auto", "what values are"),            \
      WORD("slow", lv_chan_conf, slow, slow_words, "drop-oldest",                                  \
           "what meets a subscriber at QoS 0 that does not keep up; QoS 1 and 2 never drop"),      \
      WORD("slow_customer", lv_chan_conf, slow_hub, slow_words, "disconnect",                      \
           "the same for a customer over WebSocket or Server-Sent Events (closed with 1013)"),     \
      {.name = "snapshot",                                                                         \
       .type = LV__CONF_NUMBER,                                                                    \
       .width = 4,                                                                                 \
       .offset = offsetof(lv_chan_conf, snapshot),                                                 \
       .min = 1,                                                                                   \
       .max = 100000,                                                                              \
       .def = "100",                                                                               \
       .zero = "keys",                                                                             \
       .help =                                                                                     \
           "what customers begin with: so many messages, the last ones, within 8 MiB; `keys`: "    \
           "the last message of each key, which retention does not take"},                         \
  {                                                                                                \
    .name = "retention", .type = LV__CONF_SECTION, .section = &retention,                          \
    .help = "how much is kept"                                                                     \
  }
static const lv__conf_field defaults_fields[] = {CHANNEL_FIELDS(retention_section)};
static const lv__conf_section defaults_section = {
    .title = "apps[].channel_defaults",
    .about = "What a channel is made with that a publish creates (`auto_channels`), and what the "
             "channels of the list start from.",
    .fields = defaults_fields,
    .n_fields = N(defaults_fields)};
static const lv__conf_field channel_fields[] = {
    {.name = "name",
     .type = LV__CONF_NAME,
     .required = true,
     .offset = offsetof(lv_chan_conf, name),
     .help = "first level of the topics that go here"},
    CHANNEL_FIELDS(retention_inherited),
};
static const lv__conf_section channel_section = {
    .title = "apps[].channels[]",
    .about = "A channel: named, ordered, durable. The topic `name/key…` goes to it; what is left "
             "out here is as in `channel_defaults`.",
    .fields = channel_fields,
    .n_fields = N(channel_fields),
    .size = sizeof(lv_chan_conf),
    .inherits = true,
    .init = lv__conf_channel_init};

/* ---- keys ---- */
static const lv__conf_field key_fields[] = {
    {.name = "id",
     .type = LV__CONF_KEY_ID,
     .required = true,
     .offset = offsetof(lv__conf_key_in, key.id),
     .help = "the part of the key between the underscores"},
    {.name = "hash",
     .type = LV__CONF_HASH,
     .required = true,
     .offset = offsetof(lv__conf_key_in, key.hash),
     .help = "SHA-256 of the whole key's text; `lavva key` makes both"},
    {.name = "publish",
     .type = LV__CONF_FILTERS,
     .offset = offsetof(lv__conf_key_in, publish),
     .offset_n = offsetof(lv__conf_key_in, n_publish),
     .help = "topics that may be published to; `#` is all but `$SYS`"},
    {.name = "subscribe",
     .type = LV__CONF_FILTERS,
     .offset = offsetof(lv__conf_key_in, subscribe),
     .offset_n = offsetof(lv__conf_key_in, n_subscribe),
     .help = "topics that may be read; `#` is all but `$SYS`"},
    {.name = "sys",
     .type = LV__CONF_BOOL,
     .offset = offsetof(lv__conf_key_in, sys),
     .def = "false",
     .help = "may read `$SYS`"},
};
static const lv__conf_section key_section = {
    .title = "apps[].keys[]",
    .about = "A key that devices and subscribers show: MQTT user name = the app's name, password = "
             "the key. Only its hash stands here.",
    .fields = key_fields,
    .n_fields = N(key_fields),
    .size = sizeof(lv__conf_key_in),
    .size_out = sizeof(lv_key),
    .finish = lv__conf_key_finish};

/* ---- tokens ---- */
static const lv__conf_word jwt_words[] = {
    {"EdDSA", LV_JWT_EDDSA, "Ed25519; the public key is here, nobody can make tokens with it"},
    {"RS256", LV_JWT_RS256, "RSA of 2048 bits or more with SHA-256; the public key is here"},
    {"HS256", LV_JWT_HS256, "HMAC with SHA-256; who has the secret can make tokens"},
    {NULL, 0, NULL}};
static const lv__conf_field jwt_key_fields[] = {
    {.name = "kid",
     .type = LV__CONF_TEXT,
     .offset = offsetof(lv__conf_jwt_key_in, kid),
     .help = "its name in the head of tokens; needed when there are several keys"},
    {.name = "key",
     .type = LV__CONF_TEXT,
     .offset = offsetof(lv__conf_jwt_key_in, key),
     .help = "the public key as PEM (`|` keeps its lines); HS256: the secret, 32 bytes or more"},
    {.name = "file",
     .type = LV__CONF_FILE,
     .offset = offsetof(lv__conf_jwt_key_in, file),
     .help = "a file with the same, in place of `key`; read again on SIGHUP"},
};
static const lv__conf_section jwt_key_section = {
    .title = "apps[].jwt.keys[]",
    .about = "Who may sign. To change a key, have the old and the new one here for as long as old "
             "tokens live; connections whose key is taken away are closed.",
    .fields = jwt_key_fields,
    .n_fields = N(jwt_key_fields),
    .size = sizeof(lv__conf_jwt_key_in),
    .size_out = sizeof(lv_jwt_key),
    .finish = lv__conf_jwt_key_finish};
#define JWT_SECONDS(key, field, hi, def_, zero_, help_)                                            \
  {                                                                                                \
    .name = key, .type = LV__CONF_DURATION, .width = 4, .offset = offsetof(lv_jwt, field),         \
    .unit_ms = 1000, .min = 1, .max = hi, .def = def_, .zero = zero_, .help = help_                \
  }
static const lv__conf_field jwt_fields[] = {
    WORD("algorithm", lv_jwt, algorithm, jwt_words, NULL,
         "needed; the only one that is taken: a token's head is compared with it, never trusted"),
    {.name = "keys",
     .type = LV__CONF_LIST,
     .offset = offsetof(lv_jwt, keys),
     .offset_n = offsetof(lv_jwt, n_keys),
     .max = 16,
     .section = &jwt_key_section,
     .help = "who may sign"},
    {.name = "issuer",
     .type = LV__CONF_TEXT,
     .offset = offsetof(lv_jwt, issuer),
     .help = "what the claim `iss` has to be; none: anything"},
    {.name = "audience",
     .type = LV__CONF_TEXT,
     .offset = offsetof(lv_jwt, audience),
     .help = "what the claim `aud` has to be or to contain; none: anything"},
    JWT_SECONDS("leeway", leeway_s, 600, "30s", "none",
                "how far the issuer's clock may be off: `exp` and `nbf` count by so much less"),
    JWT_SECONDS("max_age", max_age_s, 315360000, "unlimited", "unlimited",
                "a token that is valid for longer than this from now on is refused"),
    {.name = "publish",
     .type = LV__CONF_FILTERS,
     .offset = offsetof(lv_jwt, publish),
     .offset_n = offsetof(lv_jwt, n_publish),
     .help = "what tokens may publish to at most, whatever their claim `rights` says; one without "
             "that claim may do all of this"},
    {.name = "subscribe",
     .type = LV__CONF_FILTERS,
     .offset = offsetof(lv_jwt, subscribe),
     .offset_n = offsetof(lv_jwt, n_subscribe),
     .help = "the same for reading; with neither of the two: `#`"},
};
static const lv__conf_section jwt_section = {
    .title = "apps[].jwt",
    .about =
        "Tokens (JWT) that customers show in place of a key: signed by who has a key of this "
        "list, with the claims `app` (this app's name), `sub` (who it is), `exp`, and perhaps "
        "`nbf`, `iss`, `aud` and `rights` (`{\"publish\": [FILTER, …], \"subscribe\": [FILTER, "
        "…]}`).",
    .fields = jwt_fields,
    .n_fields = N(jwt_fields),
    .finish = lv__conf_jwt_finish};
static const lv__conf_field admin_fields[] = {
    {.name = "id",
     .type = LV__CONF_KEY_ID,
     .required = true,
     .offset = offsetof(lv__conf_key_in, key.id),
     .help = "the part of the key between the underscores"},
    {.name = "hash",
     .type = LV__CONF_HASH,
     .required = true,
     .offset = offsetof(lv__conf_key_in, key.hash),
     .help = "SHA-256 of the whole key's text; `lavva key new` makes both"},
};
static const lv__conf_section admin_section = {
    .title = "keys[]",
    .about = "Administrators' keys: whoever shows one may use the REST API (docs/control.md) and "
             "nothing else.",
    .fields = admin_fields,
    .n_fields = N(admin_fields),
    .size = sizeof(lv__conf_key_in),
    .size_out = sizeof(lv_key),
    .finish = lv__conf_admin_finish};

/* ---- apps ---- */
static const lv__conf_field app_fields[] = {
    {.name = "name",
     .type = LV__CONF_NAME,
     .required = true,
     .offset = offsetof(lv_app, name),
     .help = "MQTT user name of its clients"},
    {.name = "auto_channels",
     .type = LV__CONF_BOOL,
     .offset = offsetof(lv_app, auto_channels),
     .def = "false",
     .help = "a publish to a channel that is not declared creates it; otherwise it is refused"},
    WORD("session_durability", lv_app, session_durability, durability_words, "disk",
         "how safe a persistent session's record is before CONNACK and SUBACK leave"),
    {.name = "origins",
     .type = LV__CONF_TEXTS,
     .offset = offsetof(lv_app, origins),
     .offset_n = offsetof(lv_app, n_origins),
     .help = "web origins whose pages may connect (`https://example.com`); none: any, by key"},
    {.name = "limits",
     .type = LV__CONF_SECTION,
     .offset = offsetof(lv_app, limits),
     .section = &app_limits_section,
     .help = "bounds of this app"},
    {.name = "channel_defaults",
     .type = LV__CONF_SECTION,
     .offset = offsetof(lv_app, channel_defaults),
     .section = &defaults_section,
     .help = "what channels start from"},
    {.name = "channels",
     .type = LV__CONF_LIST,
     .offset = offsetof(lv_app, channels),
     .offset_n = offsetof(lv_app, n_channels),
     .max = 100000,
     .section = &channel_section,
     .help = "declared channels"},
    {.name = "keys",
     .type = LV__CONF_LIST,
     .offset = offsetof(lv_app, keys),
     .offset_n = offsetof(lv_app, n_keys),
     .max = 100000,
     .section = &key_section,
     .help = "keys and their rights"},
    {.name = "jwt",
     .type = LV__CONF_SECTION,
     .offset = offsetof(lv_app, jwt),
     .section = &jwt_section,
     .help = "tokens of customers"},
};
static const lv__conf_section app_section = {
    .title = "apps[]",
    .about = "An app owns channels, keys and limits. The first one is where `anonymous` clients "
             "act.",
    .fields = app_fields,
    .n_fields = N(app_fields),
    .size = sizeof(lv_app),
    .finish = lv__conf_app_finish};

/* ---- listeners ---- */
#define ADDRESS(key, proto, help_)                                                                 \
  {                                                                                                \
    .name = key, .type = LV__CONF_ADDRESS, .offset = offsetof(lv__conf_listen_in, address[proto]), \
    .help = help_                                                                                  \
  }
static const lv__conf_field listen_fields[] = {
    ADDRESS("mqtt", LV_PROTO_MQTT, "MQTT 3.1.1 and 5.0 over TCP here"),
    ADDRESS("mqtts", LV_PROTO_MQTTS, "the same over TLS"),
    ADDRESS("http", LV_PROTO_HTTP, "HTTP here"),
    ADDRESS("https", LV_PROTO_HTTPS, "the same over TLS"),
    {.name = "proxy",
     .type = LV__CONF_BOOL,
     .offset = offsetof(lv__conf_listen_in, proxy),
     .def = "false",
     .help = "each connection begins with a PROXY protocol v2 header, as HAProxy sends it"},
    {.name = "client_cert",
     .type = LV__CONF_BOOL,
     .offset = offsetof(lv__conf_listen_in, client_cert),
     .def = "false",
     .help = "TLS: a certificate signed by `server.tls.client_ca` is required"},
};
static const lv__conf_section listen_section = {
    .title = "listen[]",
    .about = "One address a line, exactly one protocol each. Without this section: `mqtt: *:1883` "
             "and `http: *:8080`, and with a certificate `mqtts: *:8883` and `https: *:8443`.",
    .fields = listen_fields,
    .n_fields = N(listen_fields),
    .size = sizeof(lv__conf_listen_in),
    .size_out = sizeof(lv_listen),
    .finish = lv__conf_listen_finish};

/* ---- server ---- */
static const lv__conf_field log_fields[] = {
    WORD("level", lv_conf, log_level, level_words, "info", "the least that is logged"),
    WORD("format", lv_conf, log_json, format_words, "text", "how lines look"),
};
static const lv__conf_section log_section = {
    .title = "server.log",
    .about = "Goes to standard error. Never contains a key or a password.",
    .fields = log_fields,
    .n_fields = N(log_fields)};
#define PEM(key, field, help_)                                                                     \
  { .name = key, .type = LV__CONF_FILE, .offset = offsetof(lv_conf, field), .help = help_ }
static const lv__conf_field tls_fields[] = {
    PEM("certificate", tls_cert, "PEM file: the certificate and its chain"),
    PEM("key", tls_key, "PEM file: its private key"),
    PEM("client_ca", tls_client_ca, "PEM file: who signs client certificates"),
};
static const lv__conf_section tls_section = {
    .title = "server.tls",
    .about = "For the listeners `mqtts` and `https`; read again on SIGHUP.",
    .fields = tls_fields,
    .n_fields = N(tls_fields)};
#define SERVER(key, kind, field, unit, lo, hi, def_, zero_, help_)                                 \
  {                                                                                                \
    .name = key, .type = LV__CONF_##kind, .width = sizeof(((lv_conf *)0)->field),                  \
    .offset = offsetof(lv_conf, field), .unit_ms = unit, .min = lo, .max = hi, .def = def_,        \
    .zero = zero_, .help = help_                                                                   \
  }
static const lv__conf_field server_fields[] = {
    {.name = "data",
     .type = LV__CONF_FILE,
     .offset = offsetof(lv_conf, data_dir),
     .def = "lavva-data",
     .help = "data folder: the log, sessions, retained messages"},
    SERVER("threads", NUMBER, threads, 0, 1, 64, "auto", "auto",
           "event loops; auto: one for each core this process may use but one"),
    {.name = "anonymous",
     .type = LV__CONF_BOOL,
     .offset = offsetof(lv_conf, anonymous),
     .def = "false",
     .help = "clients without credentials act in the first app: publish and subscribe, no `$SYS`"},
    {.name = "compression",
     .type = LV__CONF_BOOL,
     .offset = offsetof(lv_conf, compression),
     .def = "false",
     .help =
         "WebSocket: permessage-deflate with clients that offer it; a message is compressed once "
         "for all who get it, at the price of that CPU time"},
    SERVER("keep_alive_max", DURATION, keep_alive_max_s, 1000, 5, 65535, "none", "none",
           "Server Keep Alive for a client that asks for more, or for none"),
    SERVER("connect_timeout", DURATION, connect_timeout_ms, 1, 100, 600 * SECOND, "10s", NULL,
           "from accept to a whole CONNECT or request head"),
    SERVER("drain", DURATION, drain_ms, 1, 100, 3600 * SECOND, "10s", NULL,
           "how long SIGTERM waits for connections to end before it cuts them"),
    SERVER("publish_queue", BYTES, publish_queue_bytes, 0, 1 * MiB, 4 * GiB, "64MiB", NULL,
           "per thread: accepted and not yet safe; above it reading from publishers pauses"),
    {.name = "log", .type = LV__CONF_SECTION, .section = &log_section, .help = "the server's log"},
    {.name = "tls", .type = LV__CONF_SECTION, .section = &tls_section, .help = "certificates"},
};
static const lv__conf_section server_section = {.title = "server",
                                                .about = "The process.",
                                                .fields = server_fields,
                                                .n_fields = N(server_fields)};

/* ---- storage ---- */
static const lv__conf_field storage_fields[] = {
    SERVER("segment", BYTES, segment_bytes, 0, 1 * MiB, 4 * GiB, "64MiB", NULL,
           "size of a file of the log; retention frees whole files"),
    SERVER("tail", BYTES, tail_bytes, 0, 1 * MiB, 64 * GiB, "64MiB", NULL,
           "newest messages kept in memory, for each of the two logs"),
    SERVER("reserve", BYTES, disk_reserve_bytes, 0, 0, 1024 * TiB, "256MiB", NULL,
           "publishing stops (0x97, 503) while the disk has less free than this"),
    SERVER("sync_interval", DURATION, sync_interval_ms, 1, 10, 3600 * SECOND, "1s", NULL,
           "how often channels with `durability: memory` are written out in the background"),
};
static const lv__conf_section storage_section = {
    .title = "storage",
    .about = "The embedded log. One log holds the `memory` channels, one the `disk` channels.",
    .fields = storage_fields,
    .n_fields = N(storage_fields)};

/* ---- metrics ---- */
static const lv__conf_field metrics_fields[] = {
    SERVER("channels", NUMBER, metrics_channels, 0, 0, LV_KPI_CHANS_MAX, "100", NULL,
           "channels of each app that have metrics of their own, in the order in which they come "
           "up; the others are `_other`"),
};
static const lv__conf_section metrics_section = {
    .title = "metrics",
    .about = "What `/metrics` shows. All apps together have at most 10,000 channels of their own.",
    .fields = metrics_fields,
    .n_fields = N(metrics_fields)};

/* ---- the document ---- */
static const lv__conf_field root_fields[] = {
    {.name = "server", .type = LV__CONF_SECTION, .section = &server_section, .help = "the process"},
    {.name = "listen",
     .type = LV__CONF_LIST,
     .offset = offsetof(lv_conf, listens),
     .offset_n = offsetof(lv_conf, n_listens),
     .max = 64,
     .section = &listen_section,
     .help = "addresses"},
    {.name = "storage",
     .type = LV__CONF_SECTION,
     .section = &storage_section,
     .help = "the embedded log"},
    {.name = "metrics",
     .type = LV__CONF_SECTION,
     .section = &metrics_section,
     .help = "what `/metrics` shows"},
    {.name = "limits",
     .type = LV__CONF_SECTION,
     .offset = offsetof(lv_conf, limits),
     .section = &limits_section,
     .help = "bounds of the process, and what apps start from"},
    {.name = "apps",
     .type = LV__CONF_LIST,
     .offset = offsetof(lv_conf, apps),
     .offset_n = offsetof(lv_conf, n_apps),
     .max = 10000,
     .section = &app_section,
     .help = "apps with their channels and keys"},
    {.name = "keys",
     .type = LV__CONF_LIST,
     .offset = offsetof(lv_conf, keys),
     .offset_n = offsetof(lv_conf, n_keys),
     .max = 10000,
     .section = &admin_section,
     .help = "administrators' keys"},
};
const lv__conf_section lv__conf_root = {
    .title = "", .fields = root_fields, .n_fields = N(root_fields), .finish = lv__conf_root_finish};
