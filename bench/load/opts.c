/* opts.c: command line (see opts.h). Each option is one row of the table below; the rows print
 * --help, so the help cannot lag behind. */
#include "opts.h"
#include "packet.h"
#include <getopt.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum kind { K_FLAG, K_U64, K_REAL, K_STR, K_FUNC } kind;

typedef struct row {
  const char *name, *arg, *help;
  kind kind;
  size_t at;
  double min, max;
  int (*func)(lg_opts *o, const char *value);
} row;

static void preset(lg_opts *o, uint64_t pubs, uint64_t subs, uint64_t topics) {
  o->pubs = pubs, o->subs = subs, o->topics = topics;
}

static int set_pattern(lg_opts *o, const char *v) {
  o->pattern = v;
  if (!strcmp(v, "p2p"))
    preset(o, 10, 10, 10);
  else if (!strcmp(v, "fanin"))
    preset(o, 100, 1, 1);
  else if (!strcmp(v, "fanout"))
    preset(o, 1, 1000, 1);
  else if (!strcmp(v, "idle"))
    preset(o, 0, 0, 0), o->idle = 10000;
  else
    return -1;
  return 0;
}

static int set_version(lg_opts *o, const char *v) {
  if (!strcmp(v, "5"))
    o->v5 = true;
  else if (!strcmp(v, "3.1.1") || !strcmp(v, "4"))
    o->v5 = false;
  else
    return -1;
  return 0;
}

static int set_rate(lg_opts *o, const char *v) {
  char *end;
  o->rate_per_s = strtod(v, &end);
  o->mode = LG_OPEN;
  return *end == 0 && o->rate_per_s > 0 && o->rate_per_s <= 1e8 ? 0 : -1;
}

static int set_qos(lg_opts *o, const char *v) {
  if (v[0] < '0' || v[0] > '2' || v[1]) return -1;
  o->qos = o->sub_qos = (uint64_t)(v[0] - '0');
  return 0;
}

static int set_pid(lg_opts *o, const char *v) {
  char *end;
  long pid = strtol(v, &end, 10);
  if (*end || pid <= 0 || o->server_count == LG_SERVERS_MAX) return -1;
  o->server_pids[o->server_count++] = (pid_t)pid;
  return 0;
}

#define AT(field) offsetof(lg_opts, field)
static const row rows[] = {
    {"pattern", "NAME",
     "p2p (10 -> 10), fanin (100 -> 1), fanout (1 -> 1000), idle (10000); put it "
     "first, the options below change it",
     K_FUNC, 0, 0, 0, set_pattern},
    {"pubs", "N", "publishers", K_U64, AT(pubs), 0, 1e6, NULL},
    {"subs", "N", "subscribers", K_U64, AT(subs), 0, 1e6, NULL},
    {"idle", "N", "connections that only sit there", K_U64, AT(idle), 0, 1e6, NULL},
    {"topics", "N",
     "topics; publishers and subscribers are spread over them evenly (p2p: as many "
     "as publishers)",
     K_U64, AT(topics), 0, 1e7, NULL},
    {"topic", "TEXT", "topic name, %i becomes the topic's number (load/%i)", K_STR, AT(topic), 0, 0,
     NULL},
    {"filter", "TEXT",
     "every subscriber takes this filter, and so everything, instead of its "
     "share of the topics",
     K_STR, AT(filter), 0, 0, NULL},
    {"qos", "0|1|2", "QoS of publishers and subscribers (0)", K_FUNC, 0, 0, 0, set_qos},
    {"sub-qos", "0|1|2", "QoS of subscribers, when it differs", K_U64, AT(sub_qos), 0, 2, NULL},
    {"size", "BYTES", "payload size (128)", K_U64, AT(payload_bytes), LG_STAMP_BYTES, 1 << 24,
     NULL},
    {"mqtt", "VERSION", "3.1.1 or 5 (3.1.1)", K_FUNC, 0, 0, 0, set_version},
    {"window", "N",
     "closed loop: messages per publisher that not all of their subscribers have "
     "seen, or that are not acked, at most (64); open loop: unacked at most",
     K_U64, AT(window), 1, 65535, NULL},
    {"rate", "N", "open loop: N messages a second over all publishers, whatever the server does",
     K_FUNC, 0, 0, 0, set_rate},
    {"poisson", NULL,
     "open loop: exponential gaps, publishers drawn at random (else even, in turn)", K_FLAG,
     AT(poisson), 0, 0, NULL},
    {"warmup", "S", "seconds before anything is measured (1)", K_REAL, AT(warmup_s), 0, 1e6, NULL},
    {"duration", "S", "seconds measured (5)", K_REAL, AT(duration_s), 0, 1e7, NULL},
    {"count", "N", "stop after N messages instead (no warm-up unless --warmup follows)", K_U64,
     AT(count), 0, 1e15, NULL},
    {"drain", "S", "seconds without progress after which what is still owed is lost (2)", K_REAL,
     AT(drain_s), 0.01, 1e5, NULL},
    {"stall", "S",
     "closed loop: seconds without progress after which a publisher's window is "
     "written off (1)",
     K_REAL, AT(stall_s), 0.01, 1e5, NULL},
    {"settle", "S", "seconds of rest between the last SUBACK and the first message (0.2)", K_REAL,
     AT(settle_s), 0, 1e5, NULL},
    {"objective", "MS",
     "tightest latency objective: a run whose sends were later than max(1 ms, "
     "10 % of it) more than 0.1 % of the time is void",
     K_REAL, AT(objective_ms), 0, 1e6, NULL},
    {"nap", "US",
     "closed loop: sleep that long after each turn, so that more arrives per read and the "
     "generator takes less CPU from the server (0)",
     K_U64, AT(nap_us), 0, 100000, NULL},
    {"seed", "N", "seed of --poisson and of the run's mark (drawn)", K_U64, AT(seed), 0, 1.8e19,
     NULL},
    {"user", "TEXT", "user name (for Lavva: the app)", K_STR, AT(user), 0, 0, NULL},
    {"password", "TEXT", "password (for Lavva: the key); - reads it from $LAVVA_KEY", K_STR,
     AT(password), 0, 0, NULL},
    {"id", "TEXT", "prefix of client ids (drawn)", K_STR, AT(id_prefix), 0, 0, NULL},
    {"persistent", NULL, "sessions that outlive their connection", K_FLAG, AT(persistent), 0, 0,
     NULL},
    {"reconnect", NULL,
     "come back when the connection breaks, and send again what is not acked: for runs in which "
     "the "
     "server is killed; duplicates are then no fault (use with --persistent)",
     K_FLAG, AT(reconnect), 0, 0, NULL},
    {"keep-alive", "S", "keep-alive; PINGREQs are sent (0: none)", K_U64, AT(keep_alive_s), 0,
     65535, NULL},
    {"receive-max", "N", "5.0: what subscribers let the server have in flight (not sent)", K_U64,
     AT(receive_max), 0, 65535, NULL},
    {"ramp", "N", "connects a second (5000)", K_U64, AT(ramp_per_s), 1, 1e6, NULL},
    {"connecting", "N", "connects under way at once, at most (256)", K_U64, AT(connecting_max), 1,
     1e6, NULL},
    {"churn", "N",
     "with --reconnect: connections a second, drawn at random, that are cut off and come back (0)",
     K_U64, AT(churn_per_s), 0, 100000, NULL},
    {"slow", "N", "that many of the subscribers read slowly until the drain (0)", K_U64, AT(slow),
     0, 1e6, NULL},
    {"slow-rate", "BYTES", "what a slow subscriber reads a second (10000)", K_U64,
     AT(slow_bytes_per_s), 10, 1e9, NULL},
    {"server-pid", "PID", "server process whose CPU and memory are read (may be repeated)", K_FUNC,
     0, 0, 0, set_pid},
    {"json", "FILE", "write the result there as one JSON object (- is standard output)", K_STR,
     AT(json), 0, 0, NULL},
    {"allow-loss", NULL, "exit 0 even when QoS >= 1 messages were lost, doubled or reordered",
     K_FLAG, AT(allow_loss), 0, 0, NULL},
    {"progress", NULL, "a line every second on standard error", K_FLAG, AT(progress), 0, 0, NULL},
    {"quiet", NULL, "no table", K_FLAG, AT(quiet), 0, 0, NULL},
};
enum { ROWS = sizeof rows / sizeof rows[0] };

static const char intro[] =
    "usage: lavva-load [HOST:PORT] [OPTIONS]        (127.0.0.1:1883)\n"
    "\n"
    "Loads an MQTT server and keeps the books: every message carries its publisher, topic, number\n"
    "and intended send time, so that losses, duplicates and reordering are counted exactly and\n"
    "latency has no coordinated omission. One thread, about 200 bytes a connection.\n"
    "\n"
    "Closed loop (default): each publisher keeps --window messages under way: throughput.\n"
    "Open loop (--rate): messages leave by the clock, latency counts from when they should have\n"
    "left: latency. Runs whose own schedule slipped are void (exit 4).\n"
    "\n"
    "Examples\n"
    "  lavva-load --pattern p2p --qos 1                       10 -> 10 on 10 topics, as fast as it "
    "goes\n"
    "  lavva-load --pattern p2p --qos 1 --rate 10000          latency at 10,000 messages a second\n"
    "  lavva-load --pattern fanin --qos 1 --window 8          100 devices into one consumer\n"
    "  lavva-load --pattern fanout --window 16                one publisher, 1,000 subscribers\n"
    "  lavva-load --pattern idle --idle 10000 --server-pid P  bytes of server memory a connection\n"
    "  lavva-load --pubs 100 --subs 1 --topics 10000 --topic 'c%i/t' --filter '+/t' --rate 10000\n"
    "                                                         10,000 channels, one message a "
    "second each\n"
    "  lavva-load --pattern p2p --qos 1 --count 100000 --json -   a bounded run for scripts\n"
    "  lavva-load --pattern p2p --qos 1 --persistent --reconnect --duration 60 --drain 15\n"
    "                                                         kill -9 the server meanwhile: what "
    "was\n"
    "                                                         acked and is not delivered is lost\n"
    "\n"
    "Options\n";

static const char outro[] =
    "\nExit codes: 0 pass; 1 lost, doubled, reordered or foreign messages (QoS 0 may lose);\n"
    "3 connections broke; 4 the generator was late, the run is void; 5 --objective missed by p99;\n"
    "64 bad arguments; 69 the server could not be reached or refused.\n";

static void help(void) {
  (void)fputs(intro, stdout);
  for (int i = 0; i < ROWS; i++) {
    char left[64];
    (void)snprintf(left, sizeof left, "--%s %s", rows[i].name, rows[i].arg ? rows[i].arg : "");
    (void)printf("  %-20s", left);
    int col = 22;
    for (const char *p = rows[i].help; *p;) { /* wrap at 100 columns */
      int word = (int)strcspn(p, " ");
      if (col + 1 + word > 99) (void)printf("\n%22s", ""), col = 22;
      (void)printf(" %.*s", word, p);
      col += word + 1;
      p += word + (p[word] == ' ');
    }
    (void)putchar('\n');
  }
  (void)fputs(outro, stdout);
}

static _Noreturn void bad(const char *what, const char *value, const char *why) {
  (void)fprintf(stderr, "lavva-load: %s%s%s: %s (see --help)\n", what, value ? " " : "",
                value ? value : "", why);
  exit(64);
}

static void apply(lg_opts *o, const row *r, const char *v) {
  char *end, *field = (char *)o + r->at;
  double real;
  switch (r->kind) {
  case K_FLAG: *(bool *)field = true; return;
  case K_STR: *(const char **)field = v; return;
  case K_FUNC:
    if (r->func(o, v)) bad(r->name, v, "not a value it takes");
    return;
  case K_U64:
  case K_REAL:
    real = strtod(v, &end);
    if (end == v || *end || !(real >= r->min && real <= r->max)) {
      char why[80];
      (void)snprintf(why, sizeof why, "a number from %.15g to %.15g is wanted", r->min, r->max);
      bad(r->name, v, why);
    }
    if (r->kind == K_REAL)
      *(double *)field = real;
    else if (real != floor(real))
      bad(r->name, v, "a whole number is wanted");
    else {
      uint64_t exact = strtoull(v, &end, 10); /* "1e6" is welcome too */
      *(uint64_t *)field = *end ? (uint64_t)real : exact;
    }
  }
}

static void target(lg_opts *o, char *arg) {
  char *colon = strrchr(arg, ':');
  if (!colon || !colon[1]) bad("server", arg, "HOST:PORT is wanted");
  *colon = 0;
  o->host = arg, o->port = colon + 1;
  size_t n = strlen(arg);
  if (arg[0] == '[' && arg[n - 1] == ']') arg[n - 1] = 0, o->host = arg + 1;
}

static void check(lg_opts *o) {
  uint64_t most = o->pubs > o->subs ? o->pubs : o->subs;
  if (o->topics == 0) o->topics = most;
  if (o->pubs + o->subs + o->idle == 0) bad("nothing to do", NULL, "set --pubs, --subs or --idle");
  if (o->pubs > 0 && o->topics > 1 && !strstr(o->topic, "%i"))
    bad("topic", o->topic, "needs %i when there is more than one topic");
  if (strlen(o->topic) > LG_TOPIC_MAX - 24) bad("topic", o->topic, "too long");
  if (o->mode == LG_OPEN && o->pubs == 0) bad("rate", NULL, "needs publishers");
  if (o->churn_per_s && !o->reconnect) bad("churn", NULL, "needs --reconnect");
  if (o->password && !strcmp(o->password, "-")) o->password = getenv("LAVVA_KEY");
}

void lg_opts_parse(int argc, char **argv, lg_opts *ret_opts) {
  lg_opts o = {.host = "127.0.0.1",
               .port = "1883",
               .topic = "load/%i",
               .payload_bytes = 128,
               .window = 64,
               .warmup_s = 1,
               .duration_s = 5,
               .drain_s = 2,
               .stall_s = 1,
               .settle_s = 0.2,
               .ramp_per_s = 5000,
               .connecting_max = 256,
               .slow_bytes_per_s = 10000,
               .pattern = "free"};
  struct option longs[ROWS + 2] = {0};
  for (int i = 0; i < ROWS; i++)
    longs[i] =
        (struct option){rows[i].name, rows[i].arg ? required_argument : no_argument, NULL, 256 + i};
  longs[ROWS] = (struct option){"help", no_argument, NULL, 'h'};
  bool warmup_given = false;
  for (int c; (c = getopt_long(argc, argv, "h", longs, NULL)) != -1;) {
    if (c == 'h') {
      help();
      exit(0);
    }
    if (c < 256) exit(64);
    warmup_given = warmup_given || !strcmp(rows[c - 256].name, "warmup");
    apply(&o, &rows[c - 256], optarg);
  }
  if (optind < argc) target(&o, argv[optind++]);
  if (optind < argc) bad(argv[optind], NULL, "one server only");
  if (o.count && !warmup_given) o.warmup_s = 0;
  check(&o);
  *ret_opts = o;
}
