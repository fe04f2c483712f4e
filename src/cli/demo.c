/* demo.c: `lavva demo`: this machine as a handful of devices: each tick one JSON value for each
 * core, memory, load, disk, network interface and kind of pressure. When the connection has not
 * taken the last tick yet, a tick is skipped and counted, so a slow server costs no memory. */
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/procfs.h"
#include "core/err.h"
#include "core/time.h"
#include <assert.h>
#include <string.h>
#include <unistd.h>

typedef struct args {
  lv_cli_target_args target;
  const char *channel, *proc;
  double rate;
  uint64_t ticks, qos;
  bool quiet, verbose;
} args;

#define O(name, letter, arg, kind, field, lo, hi, help)                                            \
  { name, letter, arg, LV_CLI_##kind, offsetof(args, field), lo, hi, help }
static const lv_cli_opt opts[] = {
    O("channel", 't', "NAME", TEXT, channel, 0, 0,
      "first level of the topics (default LAVVA_CHANNEL\nof the development instance, else demo)"),
    O("rate", 'r', "N", RATE, rate, 0, 0, "values of each device a second (default 4)"),
    O("count", 'C', "N", U64, ticks, 1, 0, "end after so many rounds"),
    O("qos", 'q', "N", U64, qos, 0, 2, "0 (default), 1 or 2"),
    O("proc", 0, "DIR", TEXT, proc, 0, 0, "read this in place of /proc"),
    O("quiet", 0, NULL, FLAG, quiet, 0, 0, "no messages about the connection"),
    O("verbose", 'v', NULL, FLAG, verbose, 0, 0, "show what is published"),
    LV_CLI_TARGET_OPTS(args),
};
#undef O

typedef struct demo {
  const lv_cli_cmd *cmd;
  args a;
  lv_cli_target target;
  lv_client client;
  const char *channel;
  lv_proc_sample samples[2];
  uint64_t ticks, skipped, sent, acked;
  int exit;
} demo;

static void on_acked(lv_client *c, int mid, int reason) {
  demo *d = c->arg;
  d->acked++;
  if (reason < 0x80) return;
  d->exit = LV_EXIT_REFUSED;
  lv_cli_fail(d->cmd, "refused: %s", mosquitto_reason_string(reason));
}

static void on_connect(lv_client *c, bool session_present) {
  demo *d = c->arg;
  (void)session_present;
  if (d->a.qos == 0) d->acked = d->sent; /* what was on its way is lost, and not reported */
}

static void publish(void *arg, const char *category, const char *key, const char *json) {
  demo *d = arg;
  char topic[160];
  mosquitto_property *props = NULL;
  snprintf(topic, sizeof topic, "%s/%s%s%s", d->channel, category, key[0] ? "/" : "", key);
  if (d->target.version == 5) {
    (void)mosquitto_property_add_string_pair(&props, MQTT_PROP_USER_PROPERTY, "cat", category);
    (void)mosquitto_property_add_string(&props, MQTT_PROP_CONTENT_TYPE, "application/json");
  }
  int r = mosquitto_publish_v5(d->client.mosq, NULL, topic, (int)strlen(json), json, (int)d->a.qos,
                               false, props);
  mosquitto_property_free_all(&props);
  if (r == MOSQ_ERR_SUCCESS) d->sent++;
  if (d->a.verbose) printf("%s %s\n", topic, json);
}

static int tick(demo *d) {
  lv_proc_sample *before = &d->samples[d->ticks & 1], *now = &d->samples[~d->ticks & 1];
  now->at_ns = (uint64_t)lv_mono_now().ns;
  if (lv_proc_read(d->a.proc, now)) return lv_cli_fail(d->cmd, "%s/stat cannot be read", d->a.proc);
  d->ticks++;
  if (!lv_client_writable(&d->client) || (d->a.qos && d->sent > d->acked + 1000))
    d->skipped++;
  else
    lv_proc_values(before, now, publish, d);
  if (d->a.verbose) (void)fflush(stdout);
  return 0;
}

static int loop(demo *d) {
  double gap_ms = 1000 / d->a.rate;
  uint64_t start = lv_cli_now_ms(), done_by = 0;
  int r = 0;
  while (r == 0 && d->exit == 0 && !lv_cli_stopped()) {
    uint64_t now = lv_cli_now_ms(), due = start + (uint64_t)((double)(d->ticks + 1) * gap_ms);
    bool all = d->a.ticks && d->ticks >= d->a.ticks;
    if (all && done_by == 0) done_by = now + 10000;
    if (all && d->acked >= d->sent) break;
    if (all && now > done_by) return LV_EXIT_TIMEOUT;
    if (!all && now >= due && (d->client.connected || d->client.connects)) {
      r = tick(d);
      if (now > due + 10000) start = now - (uint64_t)((double)d->ticks * gap_ms); /* was asleep */
      continue;
    }
    if (!all && now >= due) start = now; /* not connected yet */
    int wait = all || due <= now ? 100 : (int)(due - now > 1000 ? 1000 : due - now);
    r = lv_client_step(&d->client, wait, -1, NULL);
  }
  return r ? r : d->exit;
}

static int run(const lv_cli_cmd *cmd, int argc, char **argv) {
  static demo d; /* two samples of some size */
  d = (demo){.cmd = cmd, .a = {.target = LV_CLI_TARGET_DEFAULTS, .rate = 4, .proc = "/proc"}};
  int n, r;
  if (lv_cli_parse(cmd, argc, argv, &d.a, &n, &r)) return r;
  if (n) return lv_cli_usage(cmd, "takes no arguments: %s", argv[1]);
  r = lv_cli_target_resolve(cmd, &d.a.target, &d.target);
  if (r) return r;
  const char *own = d.target.env.v[LV_ENV_CHANNEL];
  d.channel = d.a.channel ? d.a.channel : own ? own : "demo";
  d.samples[0].at_ns = (uint64_t)lv_mono_now().ns;
  if (lv_proc_read(d.a.proc, &d.samples[0])) {
    r = lv_cli_fail(cmd, "%s/stat cannot be read", d.a.proc);
  } else {
    r = lv_client_init(&d.client, cmd, &d.target, true);
    d.client.arg = &d;
    d.client.on_acked = on_acked;
    d.client.on_connect = on_connect;
    d.client.retry = true;
    d.client.quiet = d.a.quiet;
    lv_cli_signals();
    if (r == 0) r = lv_client_connect(&d.client);
    if (r == 0) r = loop(&d);
    lv_client_done(&d.client);
  }
  if (!d.a.quiet && d.skipped)
    fprintf(stderr, "lavva demo: %llu of %llu rounds were skipped: the server was slow\n",
            (unsigned long long)d.skipped, (unsigned long long)d.ticks);
  lv_cli_target_done(&d.target);
  return r;
}

const lv_cli_cmd lv_cli_demo = {
    .name = "demo",
    .usage = "[OPTIONS]",
    .summary = "Publishes this machine's own telemetry as devices, until Ctrl-C",
    .about = LV_CLI_TARGET_ABOUT
    "\n"
    "Topics: CHANNEL/cpu/N, CHANNEL/memory, CHANNEL/load, CHANNEL/disk/NAME, CHANNEL/net/NAME,\n"
    "CHANNEL/pressure/cpu|io|memory (stall times). Values are JSON; shares are in percent, rates\n"
    "per second. `lavva sub` shows them.\n",
    .examples =
        "  lavva demo                     to the development instance, four times a second\n"
        "  lavva demo -r 20 -q 1          faster, acknowledged\n"
        "  lavva demo -C 1 -v             one round, shown\n",
    LV_CLI_OPTS(opts),
    .run = run};
