/* check.c: `lavva check FILE`: what is wrong with a configuration, or that nothing is. Also prints
 * docs/config.md. */
#include "cli/check.h"
#include "core/conf.h"
#include "net/conn.h"
#include <inttypes.h>

typedef struct args {
  bool schema, man, quiet;
} args;

static const lv_cli_opt opts[] = {
    {"quiet", 'q', NULL, LV_CLI_FLAG, offsetof(args, quiet), 0, 0, "print findings only"},
    {"schema-markdown", 0, NULL, LV_CLI_FLAG, offsetof(args, schema), 0, 0,
     "print docs/config.md: every key with its default and range"},
    {"schema-man", 0, NULL, LV_CLI_FLAG, offsetof(args, man), 0, 0,
     "print the same as the manual page lavva.yaml(5)"},
};

void lv_cli_issue_print(void *arg, const lv_conf_issue *issue) {
  uint32_t *n = arg;
  if (n) ++*n;
  fputs(issue->file, stderr);
  if (issue->line) fprintf(stderr, ":%" PRIu32 ":%" PRIu32, issue->line, issue->column);
  fprintf(stderr, ": %s%s", issue->key, issue->key[0] ? ": " : "");
  if (issue->found[0]) fprintf(stderr, "found %s; ", issue->found);
  fprintf(stderr, "%s\n", issue->text);
}

static const char *plural(uint32_t n) {
  return n == 1 ? "" : "s";
}

static void summary(const char *path, const lv_conf *c) {
  static const char *const protos[] = {"mqtt", "mqtts", "http", "https"};
  uint32_t channels = 0, keys = 0;
  for (uint32_t i = 0; i < c->n_apps; i++) {
    channels += c->apps[i].n_channels;
    keys += c->apps[i].n_keys;
  }
  printf("OK %s: %" PRIu32 " app%s, %" PRIu32 " channel%s, %" PRIu32 " key%s;", path, c->n_apps,
         plural(c->n_apps), channels, plural(channels), keys, plural(keys));
  for (uint32_t i = 0; i < c->n_listens; i++) {
    const lv_listen *l = &c->listens[i];
    bool v6 = l->host.n && memchr(l->host.p, ':', l->host.n);
    printf("%s %s %s%.*s%s:%u", i ? "," : "", protos[l->proto], v6 ? "[" : "",
           l->host.n ? (int)l->host.n : 1, l->host.n ? (const char *)l->host.p : "*", v6 ? "]" : "",
           l->port);
  }
  printf("; data in %.*s%s\n", (int)c->data_dir.n, (const char *)c->data_dir.p,
         c->anonymous ? "; anonymous clients are let in" : "");
}

/* What the document names and cannot show: start and reload load these files, too. */
static void tls_check(const char *path, const lv_conf *c, uint32_t *found) {
  static const struct {
    const char *key, *needed;
  } files[LV_CONF_TLS_COUNT] = {
      {"server.tls.certificate", "a PEM file with the certificate, then its chain"},
      {"server.tls.key", "a PEM file with the certificate's private key, without passphrase"},
      {"server.tls.client_ca", "a PEM file with the certificates of who signs clients'"},
  };
  const lv_slice paths[LV_CONF_TLS_COUNT] = {c->tls_cert, c->tls_key, c->tls_client_ca};
  for (int i = 0; i < LV_CONF_TLS_COUNT; i++) {
    lv_conf_issue issue = {.file = path, .line = c->tls_at[i].line, .column = c->tls_at[i].column};
    char why[256];
    if (lv_net_tls_check(c, (enum lv_conf_tls)i, why) == 0) continue;
    snprintf(issue.key, sizeof issue.key, "%s", files[i].key);
    snprintf(issue.found, sizeof issue.found, "%.*s", (int)paths[i].n, (const char *)paths[i].p);
    snprintf(issue.text, sizeof issue.text, "needed: %s (%.160s)", files[i].needed, why);
    lv_cli_issue_print(found, &issue);
  }
}

static int run(const lv_cli_cmd *cmd, int argc, char **argv) {
  args a = {0};
  int n, code;
  if (lv_cli_parse(cmd, argc, argv, &a, &n, &code)) return code;
  if (a.schema || a.man) {
    a.man ? lv_conf_man(stdout) : lv_conf_doc(stdout);
    return fflush(stdout) ? LV_EXIT_FAIL : LV_EXIT_OK;
  }
  if (n != 1) return lv_cli_usage(cmd, n ? "one file at a time" : "which FILE?");
  uint32_t found = 0;
  lv_conf *c = NULL;
  if (lv_conf_load(argv[1], lv_cli_issue_print, &found, &c) == 0) tls_check(argv[1], c, &found);
  if (found || !c) {
    lv_conf_unref(c);
    fprintf(stderr, "%s: %" PRIu32 " finding%s\n", argv[1], found, plural(found));
    return LV_EXIT_USAGE;
  }
  if (!a.quiet) summary(argv[1], c);
  lv_conf_unref(c);
  return LV_EXIT_OK;
}

const lv_cli_cmd lv_cli_check = {
    .name = "check",
    .usage = "[OPTIONS] FILE",
    .summary = "Checks a configuration and says what is wrong with it, all of it",
    .about = "Each finding names file, line, column and key, what was found and what is allowed.\n"
             "Certificates and keys that TLS listeners need are loaded, too.\n"
             "Exit code 0 when there is none, 64 otherwise. docs/config.md describes the keys.\n",
    .examples = "  lavva check lavva.yaml\n"
                "  lavva check --quiet lavva.yaml && systemctl reload lavva\n",
    LV_CLI_OPTS(opts),
    .run = run};
