/* log.c: `lavva log inspect|verify|dump`: a data folder read for people and tools, at rest or while
 * a server uses it. Nothing is changed. dump writes a JSON object a line, so that a channel can be
 * piped anywhere; a value that is JSON stands byte for byte. */
#include "broker/embedded/logtool.h"
#include "cli/commands.h"
#include "cli/msgjson.h"
#include "wire/mqtt.h"
#include <assert.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>

typedef struct args {
  const char *data;
  uint64_t from, count;
  bool quiet;
} args;

#define O(name, letter, arg, kind, field, lo, hi, help)                                            \
  { name, letter, arg, LV_CLI_##kind, offsetof(args, field), lo, hi, help }
static const lv_cli_opt opts[] = {
    O("data", 0, "DIR", TEXT, data, 0, 0, "data folder (default lavva-data)"),
    O("from", 0, "OFFSET", U64, from, 0, 0, "dump: start here; the number in `pos`"),
    O("count", 'C', "N", U64, count, 1, 0, "dump: at most so many messages of each channel"),
    O("quiet", 'q', NULL, FLAG, quiet, 0, 0, "verify: findings only"),
};
#undef O

typedef struct dump {
  const args *a;
  const lv_logtool_chan *named; /* NULL: all channels, rows say which */
  const lv_logtool_chan *chan;
  uint64_t rows; /* of this channel */
} dump;

enum { DUMP_ENOUGH = 1, DUMP_BROKEN_PIPE = 2 };

static void put_user(json_t *obj, lv_slice props, const char *name) {
  lv_slice v;
  if (lv_mqtt_user_find(props, lv_slice_str(name), &v)) lv_cli_json_text(obj, name, v);
}

static int dump_row(void *arg, const lv_rec *rec, const char *pos) {
  dump *d = arg;
  json_t *obj = json_object();
  int64_t tms;
  if (!lv_rec_tms(rec, &tms)) tms = rec->ingest_ns / 1000000;
  json_object_set_new(obj, "pos", json_string(pos));
  if (!d->named) {
    lv_cli_json_text(obj, "app", d->chan->chan->app);
    lv_cli_json_text(obj, "channel", d->chan->chan->name);
  }
  if (lv_rec_has_key(rec)) lv_cli_json_text(obj, "key", lv_rec_key(rec));
  put_user(obj, lv_rec_props(rec), "tag");
  put_user(obj, lv_rec_props(rec), "cat");
  json_object_set_new(obj, "tms", json_integer(tms));
  lv_cli_json_line(obj, lv_rec_val(rec), stdout);
  json_decref(obj);
  d->rows++;
  if (ferror(stdout)) return DUMP_BROKEN_PIPE; /* nobody reads any more */
  return d->a->count && d->rows >= d->a->count ? DUMP_ENOUGH : 0;
}

static int dump_one(const lv_cli_cmd *cmd, lv_logtool *t, dump *d) {
  uint64_t damaged = 0;
  const lv_chan *ch = d->chan->chan;
  d->rows = 0;
  int r = lv_logtool_dump(t, d->chan, d->a->from, dump_row, d, &damaged);
  if (damaged)
    lv_cli_fail(cmd, "%.*s/%.*s: %" PRIu64 " damaged records were left out", (int)ch->app.n,
                (const char *)ch->app.p, (int)ch->name.n, (const char *)ch->name.p, damaged);
  if (r == DUMP_BROKEN_PIPE) return LV_EXIT_OK;
  if (r < 0) return lv_cli_fail(cmd, "%s", lv_err_text(r));
  return damaged ? LV_EXIT_FAIL : LV_EXIT_OK;
}

static int find(const lv_cli_cmd *cmd, lv_logtool *t, const char *name,
                const lv_logtool_chan **ret_chan) {
  int r = lv_logtool_find(t, lv_slice_str(name), ret_chan);
  if (r == LV_E_INVALID)
    return lv_cli_fail(cmd, "several apps have a channel %s: say APP/%s", name, name);
  if (r) return lv_cli_fail(cmd, "no channel %s; `lavva log inspect` lists them", name);
  return 0;
}

static int run_dump(const lv_cli_cmd *cmd, lv_logtool *t, const args *a, const char *name) {
  dump d = {.a = a};
  uint32_t n = 0;
  const lv_logtool_chan *all = lv_logtool_chans(t, &n);
  int r = 0, worst = 0;
  if (name) {
    r = find(cmd, t, name, &d.named);
    if (r) return r;
    d.chan = d.named;
    return dump_one(cmd, t, &d);
  }
  for (uint32_t i = 0; i < n && !ferror(stdout); i++) {
    d.chan = &all[i];
    r = dump_one(cmd, t, &d);
    if (r) worst = r;
  }
  return worst;
}

static void inspect_chan(const lv_logtool_chan *c) {
  static const char *const durability[] = {"memory", "disk"};
  const lv_chan *ch = c->chan;
  printf("%.*s/%.*s: %s, %" PRIu64 " messages, offsets %" PRIu64 " to %" PRIu64 ", %" PRIu64
         " bytes; kept: ",
         (int)ch->app.n, (const char *)ch->app.p, (int)ch->name.n, (const char *)ch->name.p,
         durability[ch->durability], c->next_offset - c->first_offset, c->first_offset,
         c->next_offset, c->bytes);
  if (ch->keep_ms) printf("%" PRIu64 " s ", ch->keep_ms / 1000);
  if (ch->keep_bytes) printf("%" PRIu64 " bytes ", ch->keep_bytes);
  if (ch->keep_count) printf("%" PRIu64 " messages ", ch->keep_count);
  puts(ch->keep_ms || ch->keep_bytes || ch->keep_count ? "" : "all");
}

static int run_inspect(const lv_cli_cmd *cmd, lv_logtool *t, const char *name) {
  const lv_logtool_chan *c = NULL;
  if (name) {
    int r = find(cmd, t, name, &c);
    if (r) return r;
    inspect_chan(c);
    return LV_EXIT_OK;
  }
  lv_buf out;
  lv_buf_init(&out, 64u << 20);
  lv_logtool_text(t, &out);
  size_t n = 0;
  char *text = lv_buf_take(&out, &n);
  if (!text) return lv_cli_fail(cmd, "%s", lv_err_text(LV_E_NOMEM));
  fwrite(text, 1, n, stdout);
  free(text);
  return LV_EXIT_OK;
}

static void on_finding(void *arg, const char *text) {
  (void)arg;
  puts(text);
}

static int run_verify(const lv_cli_cmd *cmd, const args *a, const char *dir) {
  uint64_t records = 0;
  int r = lv_logtool_verify(dir, on_finding, NULL, &records);
  if (r == LV_E_CORRUPT)
    return lv_cli_fail(cmd, "%s: damaged, %" PRIu64 " records looked at", dir, records);
  if (r) return lv_cli_fail(cmd, "%s: %s", dir, lv_err_text(r));
  if (!a->quiet) printf("OK %s: %" PRIu64 " records\n", dir, records);
  return LV_EXIT_OK;
}

static int run(const lv_cli_cmd *cmd, int argc, char **argv) {
  args a = {.data = "lavva-data"};
  char why[256] = "";
  lv_logtool *t = NULL;
  int n, r;
  if (lv_cli_parse(cmd, argc, argv, &a, &n, &r)) return r;
  const char *verb = n ? argv[1] : "", *name = n > 1 ? argv[2] : NULL;
  bool verify = strcmp(verb, "verify") == 0, dumps = strcmp(verb, "dump") == 0;
  if (!verify && !dumps && strcmp(verb, "inspect") != 0)
    return lv_cli_usage(cmd, "say inspect, verify or dump");
  if (n > 2 || (verify && name)) return lv_cli_usage(cmd, "too many arguments: %s", argv[n]);
  if (!dumps && (a.from || a.count)) return lv_cli_usage(cmd, "--from and --count go with dump");
  signal(SIGPIPE, SIG_IGN);
  if (verify) return run_verify(cmd, &a, a.data);
  r = lv_logtool_open(a.data, &t, why);
  if (r) return lv_cli_fail(cmd, "%s: %s", a.data, why[0] ? why : lv_err_text(r));
  r = dumps ? run_dump(cmd, t, &a, name) : run_inspect(cmd, t, name);
  lv_logtool_close(t);
  if (fflush(stdout) && r == 0) r = LV_EXIT_FAIL;
  return r;
}

const lv_cli_cmd lv_cli_log = {
    .name = "log",
    .usage = "inspect|verify|dump [OPTIONS] [CHANNEL]",
    .summary = "Shows, checks or dumps a data folder, also while a server uses it",
    .about = "inspect  what is in it: logs, segments, channels; or one CHANNEL\n"
             "verify   reads every byte and checks it; findings are printed, exit code 1\n"
             "dump     the messages of CHANNEL (default: of all), one JSON object a line: `pos`, "
             "`key`,\n"
             "         `tag`, `cat`, `tms`, and `val` (JSON or text) or `b64`\n"
             "\n"
             "CHANNEL is a channel's name, or APP/NAME where several apps have it. Nothing is "
             "changed.\n",
    .examples = "  lavva log inspect\n"
                "  lavva log verify --data /var/lib/lavva\n"
                "  lavva log dump demo --from 1000 -C 10\n"
                "  lavva log dump alarms | jq 'select(.tag == \"fire\")'\n",
    LV_CLI_OPTS(opts),
    .run = run};
