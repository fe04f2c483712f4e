/* serve.c: `lavva serve`: the document (or the development instance's), signals, the end.
 *
 * The main thread waits for signals and ticks once a second; all work is on the loops. SIGTERM and
 * SIGINT drain, a second one cuts; SIGHUP reads the document again. */
#include "broker/embedded/disk.h"
#include "cli/check.h"
#include "cli/commands.h"
#include "cli/devinst.h"
#include "cli/notify.h"
#include "cli/server.h"
#include "core/arena.h"
#include "core/log.h"
#include "master/master.h"
#include "net/selfsign.h"
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef struct args {
  const char *data, *level, *format;
  lv_cli_texts listen[LV_PROTO_COUNT];
  uint64_t threads;
  bool anonymous;
} args;

#define O(name, letter, arg, kind, field, lo, hi, help)                                            \
  { name, letter, arg, LV_CLI_##kind, offsetof(args, field), lo, hi, help }
static const lv_cli_opt opts[] = {
    O("data", 0, "DIR", TEXT, data, 0, 0, "data folder (default lavva-data)"),
    O("mqtt", 0, "ADDR:PORT", TEXTS, listen[LV_PROTO_MQTT], 0, 0,
      "listen here for MQTT; port 0 picks a free one;\nmay be repeated, as the next three"),
    O("mqtts", 0, "ADDR:PORT", TEXTS, listen[LV_PROTO_MQTTS], 0, 0, "the same over TLS"),
    O("http", 0, "ADDR:PORT", TEXTS, listen[LV_PROTO_HTTP], 0, 0, "listen here for HTTP"),
    O("https", 0, "ADDR:PORT", TEXTS, listen[LV_PROTO_HTTPS], 0, 0, "the same over TLS"),
    O("anonymous", 0, NULL, FLAG, anonymous, 0, 0,
      "let clients without credentials act in the first\napp (everything but $SYS)"),
    O("threads", 0, "N", U64, threads, 1, 64, "event loops (default: one for each core but one)"),
    O("log-level", 0, "LEVEL", TEXT, level, 0, 0, "error, warn, info or debug"),
    O("log-format", 0, "FORMAT", TEXT, format, 0, 0, "text or json"),
};
#undef O

typedef struct serve {
  const lv_cli_cmd *cmd;
  args a;
  const char *path; /* of the document; NULL: development instance */
  char *text;       /* of the document, as it was when it was last good */
  size_t text_n;
  lv_conf *conf;
  lv_disk *disk;
  lv_master *master;
  lv_devinst dev;
  lv_server *server;
  lv_notify notify;
  char dir[4096], cert[4200], cert_key[4200]; /* made ones; empty: not needed */
} serve;

/* ---- the document ---- */
static bool has_ipv6_loopback(void) {
  struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
  int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool yes = fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0;
  if (fd >= 0) close(fd);
  return yes;
}

static void listen_add(lv_conf *c, lv_listen l) {
  c->listens[c->n_listens++] = l;
}

/* Listeners of the arguments come first; those of the document follow; defaults of a protocol only
 * where the arguments name none. */
static void listens_merge(serve *s, lv_conf *c) {
  static const uint16_t ports[LV_PROTO_COUNT] = {1883, 8883, 8080, 8443};
  const lv_listen *old = c->listens;
  uint32_t n_old = c->n_listens, most = n_old + 2 * LV_PROTO_COUNT;
  for (int p = 0; p < LV_PROTO_COUNT; p++) most += s->a.listen[p].n;
  c->listens = lv_arena_calloc(c->mem, most, sizeof *c->listens);
  if (!c->listens) abort();
  c->n_listens = 0;
  bool v6 = !s->path && has_ipv6_loopback();
  for (uint8_t p = 0; p < LV_PROTO_COUNT; p++) {
    for (uint32_t i = 0; i < s->a.listen[p].n; i++) {
      lv_listen l = {.proto = p};
      (void)lv_conf_address(lv_slice_str(s->a.listen[p].v[i]), &l.host, &l.port);
      listen_add(c, l);
    }
    if (s->a.listen[p].n || s->path) continue;
    listen_add(c, (lv_listen){.proto = p, .host = LV_SLICE("127.0.0.1"), .port = ports[p]});
    if (v6) listen_add(c, (lv_listen){.proto = p, .host = LV_SLICE("::1"), .port = ports[p]});
  }
  for (uint32_t i = 0; s->path && i < n_old; i++)
    if (!c->listens_default || s->a.listen[old[i].proto].n == 0) listen_add(c, old[i]);
}

static bool wants_tls(const lv_conf *c) {
  for (uint32_t i = 0; i < c->n_listens; i++)
    if (c->listens[i].proto == LV_PROTO_MQTTS || c->listens[i].proto == LV_PROTO_HTTPS) return true;
  return false;
}

/* A finding while the server runs: in its log, in the log's format. */
static void issue_log(void *arg, const lv_conf_issue *issue) {
  (void)arg;
  lv_log(LV_ERROR, "finding in the document at=%s:%u:%u key=%s found=%s text=%s", issue->file,
         issue->line, issue->column, issue->key, issue->found, issue->text);
}

/* The document's text as it is now, on the heap. */
static int text_read(serve *s, lv_conf_issue_fn *fn, void *fn_arg, char **ret_text, size_t *ret_n) {
  if (s->path) return lv_conf_read(s->path, fn, fn_arg, ret_text, ret_n);
  *ret_text = lv_devinst_document(&s->dev, s->dir, s->a.anonymous);
  *ret_n = strlen(*ret_text);
  return 0;
}

static void arguments_over(serve *s, lv_conf *c) {
  if (s->a.data || !s->path) c->data_dir = lv_slice_str(s->dir);
  if (s->a.threads) c->threads = (uint32_t)s->a.threads;
  if (s->a.anonymous) c->anonymous = true;
  if (s->a.format) c->log_json = strcmp(s->a.format, "json") == 0;
  enum lv_log_level level;
  if (s->a.level && lv_log_level_parse(s->a.level, &level) == 0) c->log_level = (uint8_t)level;
  listens_merge(s, c);
  if (wants_tls(c) && c->tls_cert.n == 0) {
    c->tls_cert = lv_slice_str(s->cert);
    c->tls_key = lv_slice_str(s->cert_key);
  }
}

/* For lv_master_ops. @thread main at the start, then master */
static int build(void *arg, bool reread, lv_conf_more *more, uint32_t n, lv_conf_issue_fn *fn,
                 void *fn_arg, lv_conf **ret_conf) {
  serve *s = arg;
  char *text = s->text;
  size_t text_n = s->text_n;
  lv_conf *c;
  int r = reread ? text_read(s, fn, fn_arg, &text, &text_n) : 0;
  if (r) return r;
  r = lv_conf_parse_with(s->path, lv_slice_of(text, text_n), more, n, fn, fn_arg, &c);
  if (text != s->text) {
    free(r ? text : s->text);
    if (!r) s->text = text;
    if (!r) s->text_n = text_n;
  }
  if (r) return r;
  arguments_over(s, c);
  *ret_conf = c;
  return 0;
}

static int apply(void *arg, lv_conf *conf, bool whole, char *why) {
  serve *s = arg;
  return lv_server_reload(s->server, conf, whole, why);
}

/* ---- start ---- */
static int arguments(serve *s, int n, char **argv) {
  static const char *const names[] = {"mqtt", "mqtts", "http", "https"};
  enum lv_log_level level;
  lv_slice host;
  uint16_t port;
  if (n > 1) return lv_cli_usage(s->cmd, "one CONFIG at a time");
  s->path = n ? argv[1] : NULL;
  if (s->a.level && lv_log_level_parse(s->a.level, &level))
    return lv_cli_usage(s->cmd, "--log-level %s: error, warn, info or debug", s->a.level);
  if (s->a.format && strcmp(s->a.format, "text") != 0 && strcmp(s->a.format, "json") != 0)
    return lv_cli_usage(s->cmd, "--log-format %s: text or json", s->a.format);
  for (int p = 0; p < LV_PROTO_COUNT; p++)
    for (uint32_t i = 0; i < s->a.listen[p].n; i++)
      if (lv_conf_address(lv_slice_str(s->a.listen[p].v[i]), &host, &port))
        return lv_cli_usage(s->cmd, "--%s %s: ADDR:PORT expected", names[p], s->a.listen[p].v[i]);
  return 0;
}

static int folder_open(serve *s, const char *dir) {
  int r = lv_server_folder(dir, &s->disk);
  if (r)
    return lv_cli_fail(s->cmd, "data folder %s: %s%s", dir, lv_err_text(r),
                       lv_server_folder_hint(r));
  if (!realpath(dir, s->dir)) return lv_cli_fail(s->cmd, "%s: %s", dir, lv_strerror(errno));
  snprintf(s->cert, sizeof s->cert, "%s/dev-cert.pem", s->dir);
  snprintf(s->cert_key, sizeof s->cert_key, "%s/dev-key.pem", s->dir);
  return 0;
}

/* The document, then the folder that it names; without a document the folder comes first, since the
 * key is in it. */
static int documents(serve *s) {
  const char *dir = s->a.data ? s->a.data : "lavva-data";
  char named[4096];
  int r;
  if (s->path) {
    lv_conf *c = NULL;
    if (lv_conf_load(s->path, lv_cli_issue_print, NULL, &c)) return LV_EXIT_USAGE;
    snprintf(named, sizeof named, "%.*s", (int)c->data_dir.n, (const char *)c->data_dir.p);
    lv_conf_unref(c);
    if (!s->a.data) dir = named;
  }
  r = folder_open(s, dir);
  if (r) return r;
  if (!s->path) {
    r = lv_devinst_open(s->dir, &s->dev);
    if (r)
      return lv_cli_fail(s->cmd, "%s: %s%s", s->dev.env_path, lv_err_text(r),
                         lv_server_folder_hint(r));
  }
  char why[LV_STORE_WHY];
  const lv_master_ops ops = {.build = build, .apply = apply, .arg = s};
  r = lv_master_open(s->dir, &ops, &s->master, why);
  if (r) return lv_cli_fail(s->cmd, "%s%s", why, lv_server_folder_hint(r));
  return lv_master_conf_first(s->master, lv_cli_issue_print, NULL, &s->conf) ? LV_EXIT_USAGE : 0;
}

static int certificate(serve *s) {
  char why[256];
  if (!lv_slice_eq(s->conf->tls_cert, lv_slice_str(s->cert))) return 0;
  int r = lv_selfsign_ensure(s->cert, s->cert_key, NULL, why);
  return r ? lv_cli_fail(s->cmd, "certificate: %s", why) : 0;
}

static bool is_loopback(lv_slice host) {
  struct in_addr v4;
  char text[64];
  snprintf(text, sizeof text, "%.*s", (int)host.n, (const char *)host.p);
  if (inet_pton(AF_INET, text, &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
  return strcmp(text, "::1") == 0 || strcmp(text, "localhost") == 0;
}

static void warn_anonymous(const lv_conf *c) {
  for (uint32_t i = 0; c->anonymous && i < c->n_listens; i++) {
    const lv_listen *l = &c->listens[i];
    if (is_loopback(l->host)) continue;
    lv_log(LV_WARN, "anonymous clients are let in from other machines host=%.*s port=%u",
           l->host.n ? (int)l->host.n : 1, l->host.n ? (const char *)l->host.p : "*", l->port);
  }
}

/* Where clients on this machine find a listener on all interfaces: by an address that the
 * certificate names. */
static const char *reachable(const char *address, char dst[64]) {
  bool v4 = strncmp(address, "0.0.0.0:", 8) == 0, v6 = strncmp(address, "[::]:", 5) == 0;
  if (!v4 && !v6) return address;
  snprintf(dst, 64, "%s%s", v4 ? "127.0.0.1" : "[::1]", strrchr(address, ':'));
  return dst;
}

static int announce(serve *s) {
  char here[LV_PROTO_COUNT][64];
  lv_devinst_facts f = {.dir = s->a.data ? s->a.data : "lavva-data"};
  const char *address;
  uint8_t proto = 0;
  for (uint32_t i = 0; (address = lv_server_listener(s->server, i, &proto)); i++) {
    lv_log(LV_INFO, "listening proto=%s addr=%s",
           (const char *[]){"mqtt", "mqtts", "http", "https"}[proto], address);
    if (!f.address[proto]) f.address[proto] = reachable(address, here[proto]);
  }
  if (s->path) return 0;
  char ca[4200];
  snprintf(ca, sizeof ca, "%.*s", (int)s->conf->tls_cert.n, (const char *)s->conf->tls_cert.p);
  f.ca = ca[0] ? ca : NULL;
  int r = lv_devinst_publish(&s->dev, &f);
  if (r)
    return lv_cli_fail(s->cmd, "%s: %s%s", s->dev.env_path, lv_err_text(r),
                       lv_server_folder_hint(r));
  if (!s->conf->log_json) lv_devinst_print(&s->dev, &f, stdout);
  return 0;
}

/* ---- signals ---- */
static void signals_block(sigset_t *set) {
  sigemptyset(set);
  sigaddset(set, SIGTERM);
  sigaddset(set, SIGINT);
  sigaddset(set, SIGHUP);
  pthread_sigmask(SIG_BLOCK, set, NULL); /* threads to come inherit it */
  signal(SIGPIPE, SIG_IGN);
}

static void reload(serve *s) {
  char why[512];
  int r = lv_master_reload(s->master, issue_log, NULL, why);
  if (r && !why[0])
    lv_log(LV_ERROR, "the document has findings, the running one stays file=%s",
           s->path ? s->path : "-");
  else if (r)
    lv_log(LV_ERROR, "not reloaded, the running document stays why=%s", why);
  else
    lv_log(LV_INFO, "reloaded file=%s", s->path ? s->path : "-");
}

static void run_until_signal(serve *s, const sigset_t *set) {
  const struct timespec second = {1, 0};
  for (;;) {
    int sig = sigtimedwait(set, NULL, &second);
    if (sig == SIGTERM || sig == SIGINT) {
      lv_log(LV_INFO, "draining signal=%s within_ms=%u", sig == SIGTERM ? "TERM" : "INT",
             s->conf->drain_ms);
      return;
    }
    if (sig == SIGHUP) {
      lv_notify_reloading(&s->notify);
      reload(s);
      lv_notify_ready(&s->notify, "serving");
      continue;
    }
    lv_server_tick(s->server);
    if (lv_server_beat(s->server)) lv_notify_alive(&s->notify);
  }
}

/* While the main thread drains. What was acknowledged is safe without the rest. */
static void *second_signal(void *arg) {
  const sigset_t *set = arg;
  int sig;
  do {
    if (sigwait(set, &sig)) return NULL;
  } while (sig == SIGHUP);
  static const char text[] = "lavva serve: second signal, ending now\n";
  (void)!write(STDERR_FILENO, text, sizeof text - 1);
  _exit(LV_EXIT_FAIL);
}

static int start_and_run(serve *s) {
  static sigset_t set; /* the watching thread's, too */
  char why[512] = "";
  signals_block(&set);
  (void)lv_log_open(NULL, s->conf->log_json);
  lv_log_set_level((enum lv_log_level)s->conf->log_level);
  warn_anonymous(s->conf);
  lv_disk *disk = s->disk;
  s->disk = NULL; /* the server's from here on, also when it fails */
  int r = lv_server_start(s->conf, disk, s->master, &s->server, why);
  if (r) return lv_cli_fail(s->cmd, "%s", why);
  lv_master_start(s->master);
  r = announce(s);
  lv_notify_open(&s->notify);
  if (r == 0) {
    lv_notify_ready(&s->notify, "serving");
    run_until_signal(s, &set);
  }
  lv_notify_stopping(&s->notify);
  pthread_t watcher;
  if (pthread_create(&watcher, NULL, second_signal, &set) == 0) pthread_detach(watcher);
  uint32_t cut = lv_server_stop(s->server);
  lv_notify_close(&s->notify);
  lv_log(LV_INFO, "stopped cut_connections=%u", cut);
  return r;
}

static int run(const lv_cli_cmd *cmd, int argc, char **argv) {
  serve s = {.cmd = cmd};
  int n, r;
  if (lv_cli_parse(cmd, argc, argv, &s.a, &n, &r)) return r;
  r = arguments(&s, n, argv);
  if (r == 0) r = documents(&s);
  if (r == 0) r = certificate(&s);
  if (r == 0) r = start_and_run(&s);
  if (s.disk) s.disk->ops->free(s.disk);
  lv_conf_unref(s.conf);
  lv_master_free(s.master);
  free(s.text);
  return r;
}

const lv_cli_cmd lv_cli_serve = {
    .name = "serve",
    .usage = "[OPTIONS] [CONFIG]",
    .summary = "Runs everything in this process: gateway, embedded broker, subscribers",
    .about =
        "With a CONFIG (docs/config.md) it serves what stands there; options come on top. Without\n"
        "one it is a development instance on loopback: app `dev`, channel `demo`, a key with all\n"
        "rights, a certificate of its own; how to reach it is printed and kept in DIR/dev.env.\n"
        "\n"
        "SIGTERM, SIGINT: what was accepted is committed and acknowledged, then it ends (a second\n"
        "one ends it at once). SIGHUP: the document is read again.\n"
        "Exit codes: 0 drained, 1 could not start, 64 wrong arguments or document.\n",
    .examples = "  lavva serve                                   development instance\n"
                "  lavva serve --mqtt 127.0.0.1:0 --data /tmp/d  on a free port\n"
                "  lavva serve /etc/lavva/lavva.yaml\n",
    LV_CLI_OPTS(opts),
    .run = run};
