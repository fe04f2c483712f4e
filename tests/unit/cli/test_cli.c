/* What the commands share: options by table, durations, templates, dev.env, messages as JSON, and
 * where the server's address comes from. */
#include "cli/cli.h"
#include "cli/env.h"
#include "cli/msgjson.h"
#include "cli/target.h"
#include "core/err.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
/* after the above */
#include <cmocka.h>

typedef struct args {
  lv_cli_target_args target;
  bool quiet, verbose;
  const char *text;
  lv_cli_texts texts;
  uint64_t n, ms;
  double rate;
} args;
static const lv_cli_opt opts[] = {
    {"quiet", 'q', NULL, LV_CLI_FLAG, offsetof(args, quiet), 0, 0, "x"},
    {"verbose", 'v', NULL, LV_CLI_FLAG, offsetof(args, verbose), 0, 0, "x"},
    {NULL, 0, NULL, 0, 0, 0, 0, "more"},
    {"text", 't', "T", LV_CLI_TEXT, offsetof(args, text), 0, 0, "x"},
    {"texts", 'T', "T", LV_CLI_TEXTS, offsetof(args, texts), 0, 0, "x"},
    {"num", 'n', "N", LV_CLI_U64, offsetof(args, n), 2, 9, "x"},
    {"wait", 'W', "T", LV_CLI_MS, offsetof(args, ms), 0, 0, "x"},
    {"rate", 'r', "N", LV_CLI_RATE, offsetof(args, rate), 0, 0, "x"},
    LV_CLI_TARGET_OPTS(args),
};
static const lv_cli_cmd cmd = {.name = "t", .usage = "", .summary = "x", LV_CLI_OPTS(opts)};

/* Parses words; the operands are left in argv[1 …]. */
static int parse(args *a, char **argv, int *ret_n) {
  int argc = 0, code = -1;
  while (argv[argc]) argc++;
  *a = (args){0};
  return lv_cli_parse(&cmd, argc, argv, a, ret_n, &code) ? code : -1;
}
#define ARGV(...) ((char *[]){"t", __VA_ARGS__, NULL})

static void test_options(void **state) {
  args a;
  int n = 0;
  char **v = ARGV("one", "-qv", "--text=a b", "-n5", "two", "-T", "x", "--texts", "y", "--wait",
                  "1.5s", "-r", "2.5", "-", "--", "-q");
  assert_int_equal(parse(&a, v, &n), -1);
  assert_int_equal(n, 4);
  assert_string_equal(v[1], "one");
  assert_string_equal(v[2], "two");
  assert_string_equal(v[3], "-");
  assert_string_equal(v[4], "-q");
  assert_true(a.quiet && a.verbose);
  assert_string_equal(a.text, "a b");
  assert_int_equal(a.n, 5);
  assert_int_equal(a.texts.n, 2);
  assert_string_equal(a.texts.v[1], "y");
  assert_int_equal(a.ms, 1500);
  assert_true(a.rate > 2.4 && a.rate < 2.6);
}

static void test_wrong_options(void **state) {
  args a;
  int n;
  char **wrong[] = {ARGV("--txt", "x"), ARGV("--text"),     ARGV("-t"),        ARGV("-z"),
                    ARGV("-n", "1"),    ARGV("-n", "10"),   ARGV("-n", "5x"),  ARGV("-n", ""),
                    ARGV("--quiet=1"),  ARGV("-W", "5y"),   ARGV("-W", "-5s"), ARGV("-r", "0"),
                    ARGV("-r", "inf"),  ARGV("-r", "1e99"), ARGV("--=x")};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
    assert_int_equal(parse(&a, wrong[i], &n), LV_EXIT_USAGE);
  assert_int_equal(parse(&a, ARGV("--help"), &n), LV_EXIT_OK);
}

static void test_help_names_every_option(void **state) {
  char *text = NULL;
  size_t n = 0;
  FILE *out = open_memstream(&text, &n);
  lv_cli_help(&cmd, out);
  fclose(out);
  for (uint32_t i = 0; i < cmd.n_opts; i++) {
    if (cmd.opts[i].name) assert_non_null(strstr(text, cmd.opts[i].name));
    for (uint32_t k = 0; k < i; k++) { /* no letter or name twice */
      if (!cmd.opts[i].name || !cmd.opts[k].name) continue;
      assert_string_not_equal(cmd.opts[i].name, cmd.opts[k].name);
    }
  }
  free(text);
}

static bool names(void *arg, lv_slice name, lv_slice param, lv_cli_text *out) {
  if (!lv_slice_eq(name, LV_SLICE("x"))) return lv_cli_template_common(name, param, out);
  lv_cli_text_put(out, "<", 1);
  lv_cli_text_put(out, param.p, param.n);
  lv_cli_text_put(out, ">", 1);
  return true;
}

static void test_template(void **state) {
  static const char *const cases[][2] = {
      {"", ""},
      {"plain", "plain"},
      {"a{x}b{x:12}", "a<>b<12>"},
      {"{y}", "{y}"},
      {"{\"v\":1}", "{\"v\":1}"},
      {"{{x}", "{x}"},
      {"{x", "{x"},
      {"}{", "}{"},
      {"{\"v\":{x}}", "{\"v\":<>}"},
      {"{rand:1}", "0"},
      {"{rand:0}", "{rand:0}"},
      {"{}", "{}"},
  };
  lv_cli_text out = {0};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    lv_cli_template(cases[i][0], names, NULL, &out);
    assert_string_equal(out.p, cases[i][1]);
  }
  lv_cli_template("{time} {iso} {pid} {host} {rand}", names, NULL, &out);
  assert_null(strchr(out.p, '{'));
  lv_cli_text_done(&out);
}

static void test_env(void **state) {
  char dir[] = "/tmp/lavva-env-XXXXXX", path[64];
  assert_non_null(mkdtemp(dir));
  snprintf(path, sizeof path, "%s/dev.env", dir);
  lv_cli_env env = {0}, got;
  assert_int_equal(lv_cli_env_read(path, &got), LV_E_NOT_FOUND);
  lv_cli_env_set(&env, LV_ENV_APP, "dev");
  lv_cli_env_set(&env, LV_ENV_CA, "/a b/it's $HOME \"x\" \\");
  lv_cli_env_set(&env, LV_ENV_MQTT, "[::1]:1883");
  assert_int_equal(lv_cli_env_write(path, &env), 0);
  struct stat st;
  assert_int_equal(stat(path, &st), 0);
  assert_int_equal(st.st_mode & 0777, 0600);
  assert_int_equal(lv_cli_env_read(path, &got), 0);
  assert_string_equal(got.v[LV_ENV_CA], env.v[LV_ENV_CA]);
  assert_string_equal(got.v[LV_ENV_MQTT], "[::1]:1883");
  assert_null(got.v[LV_ENV_KEY]);
  lv_cli_env_done(&got);
  /* The shell reads the same. */
  char command[256], line[128] = "";
  snprintf(command, sizeof command, ". %s; printf %%s \"$LAVVA_CA\"", path);
  FILE *sh = popen(command, "r");
  assert_non_null(sh);
  assert_non_null(fgets(line, sizeof line, sh));
  pclose(sh);
  assert_string_equal(line, env.v[LV_ENV_CA]);
  FILE *f = fopen(path, "w");
  fputs("LAVVA_APP=$(reboot)\n", f);
  fclose(f);
  assert_int_equal(lv_cli_env_read(path, &got), LV_E_MALFORMED);
  lv_cli_env_done(&env);
  unlink(path);
  rmdir(dir);
}

static void json_is(const char *value, size_t n, const char *want) {
  char *text = NULL;
  size_t size = 0;
  FILE *out = open_memstream(&text, &size);
  json_t *obj = json_object();
  json_object_set_new(obj, "a", json_integer(1));
  lv_cli_json_line(obj, lv_slice_of(value, n), out);
  fclose(out);
  json_decref(obj);
  assert_string_equal(text, want);
  free(text);
}

static void test_json(void **state) {
  json_is("", 0, "{\"a\":1,\"val\":\"\"}\n");
  json_is("1.50", 4, "{\"a\":1,\"val\":1.50}\n");
  json_is("99999999999999999999", 20, "{\"a\":1,\"val\":99999999999999999999}\n");
  json_is("{\"b\":\n 1}", 9, "{\"a\":1,\"val\":{\"b\":  1}}\n");
  json_is("on \"x\"", 6, "{\"a\":1,\"val\":\"on \\\"x\\\"\"}\n");
  json_is("\xff\x00", 2, "{\"a\":1,\"b64\":\"/wA=\"}\n");
  json_is("\xff\x00z", 3, "{\"a\":1,\"b64\":\"/wB6\"}\n");
  json_is("\xff", 1, "{\"a\":1,\"b64\":\"/w==\"}\n");
}

static void test_target(void **state) {
  args a;
  int n;
  lv_cli_target t;
  unsetenv("LAVVA_MQTT");
  setenv("LAVVA_APP", "envapp", 1);
  setenv("LAVVA_KEY", "envkey", 1);
  assert_int_equal(parse(&a, ARGV("-u", "mqtts://[::1]:99/", "-a", "app"), &n), -1);
  assert_int_equal(lv_cli_target_resolve(&cmd, &a.target, &t), 0);
  assert_string_equal(t.host, "::1");
  assert_int_equal(t.port, 99);
  assert_true(t.tls);
  assert_string_equal(t.user, "app");
  assert_string_equal(t.password, "envkey");
  lv_cli_target_done(&t);
  assert_int_equal(parse(&a, ARGV("-u", "mqtt://u%40:p%3A@h"), &n), -1);
  assert_int_equal(lv_cli_target_resolve(&cmd, &a.target, &t), 0);
  assert_string_equal(t.host, "h");
  assert_int_equal(t.port, 1883);
  assert_string_equal(t.user, "u@");
  assert_string_equal(t.password, "p:");
  lv_cli_target_done(&t);
  setenv("LAVVA_MQTT", "127.0.0.1:77", 1);
  assert_int_equal(parse(&a, ARGV("x"), &n), -1);
  assert_int_equal(lv_cli_target_resolve(&cmd, &a.target, &t), 0);
  assert_int_equal(t.port, 77);
  assert_string_equal(t.user, "envapp");
  lv_cli_target_done(&t);
  char *wrong[] = {"http://h", "mqtt://", "mqtt://h:0", "mqtt://h:65536", "mqtt://[::1", "h:x"};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    assert_int_equal(parse(&a, ARGV("-u", wrong[i]), &n), -1);
    assert_int_not_equal(lv_cli_target_resolve(&cmd, &a.target, &t), 0);
  }
  assert_int_equal(parse(&a, ARGV("--data", "/nonexistent"), &n), -1);
  assert_int_equal(lv_cli_target_resolve(&cmd, &a.target, &t), LV_EXIT_FAIL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_options),
      cmocka_unit_test(test_wrong_options),
      cmocka_unit_test(test_help_names_every_option),
      cmocka_unit_test(test_template),
      cmocka_unit_test(test_env),
      cmocka_unit_test(test_json),
      cmocka_unit_test(test_target),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
