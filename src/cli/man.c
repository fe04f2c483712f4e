/* man.c: see man.h. Usage, options, text and examples of each command are those of its table; text
 * that is laid out by hand there keeps its lines.
 *
 * @thread main */
#include "cli/man.h"
#include "cli/cli.h"
#include "core/conf.h"
#include <string.h>

/* Text between markup: what roff would take for its own is escaped. `line`: at a line's start. */
static void roff(FILE *out, const char *s, bool line) {
  for (; *s; s++) {
    if (line && (*s == '.' || *s == '\'')) fputs("\\&", out);
    line = *s == '\n';
    if (*s == '\\')
      fputs("\\e", out);
    else if (*s == '-')
      fputs("\\-", out);
    else if (*s == '`')
      fputs("\\(ga", out);
    else
      fputc(*s, out);
  }
}

/* Hand-made lines as they stand. */
static void block(FILE *out, const char *text) {
  fputs(".PP\n.nf\n", out);
  for (const char *p = text; *p;) {
    size_t n = strcspn(p, "\n");
    char line[256];
    snprintf(line, sizeof line, "%.*s", (int)n, p);
    if (n)
      roff(out, line, true);
    else
      fputs("\\&", out); /* mandoc dislikes empty lines */
    fputc('\n', out);
    p += n + (p[n] == '\n');
  }
  fputs(".fi\n", out);
}

static void option(FILE *out, const lv_cli_opt *o) {
  if (!o->name) {
    fputs(".PP\n", out);
    roff(out, o->help, true);
    fputc('\n', out);
    return;
  }
  fputs(".TP\n", out);
  if (o->letter) fprintf(out, "\\fB\\-%c\\fR, ", o->letter);
  fputs("\\fB\\-\\-", out);
  roff(out, o->name, false);
  fputs("\\fR", out);
  if (o->arg) {
    fputs(" \\fI", out);
    roff(out, o->arg, false);
    fputs("\\fR", out);
  }
  fputc('\n', out);
  roff(out, o->help, true);
  fputc('\n', out);
}

static void command(FILE *out, const lv_cli_cmd *cmd) {
  fprintf(out, ".SS lavva %s\n\\fBlavva %s\\fR ", cmd->name, cmd->name);
  roff(out, cmd->usage, false);
  fputs("\n.PP\n", out);
  roff(out, cmd->summary, true);
  fputs(".\n", out);
  if (cmd->about) block(out, cmd->about);
  for (uint32_t i = 0; i < cmd->n_opts; i++) option(out, &cmd->opts[i]);
  if (cmd->examples) fputs(".PP\nExamples:\n", out);
  if (cmd->examples) block(out, cmd->examples);
}

void lv_man_commands(FILE *out) {
  fprintf(out,
          ".TH LAVVA 1 " LV_CONF_MAN_DATE " \"Lavva " LV_VERSION "\" \"User Commands\"\n"
          ".SH NAME\nlavva \\- live data from any device to any customer\n"
          ".SH SYNOPSIS\n.B lavva\n.I COMMAND\n[\\fIOPTIONS\\fR] [\\fIARGUMENTS\\fR]\n"
          ".SH DESCRIPTION\n"
          "Lavva takes messages from devices over MQTT, HTTP and WebSocket, keeps them in a log of "
          "its own, and delivers\nthem to subscribers. One program is server and tools; each "
          "command has \\fB\\-\\-help\\fR.\n.SH COMMANDS\n");
  for (uint32_t i = 0; i < lv_cli_n_commands; i++) command(out, lv_cli_commands[i]);
  fputs(".SH EXIT STATUS\n"
        ".TP\n.B 0\nDone.\n.TP\n.B 1\nIt did not work out; the reason is on standard error.\n"
        ".TP\n.B 2\nThe wait that was asked for is over.\n"
        ".TP\n.B 3\nThe server refused: a wrong key, no right, a limit.\n"
        ".TP\n.B 64\nWrong arguments, or a document with findings.\n"
        ".SH FILES\n.TP\n.I /etc/lavva/lavva.yaml\nThe configuration of the service.\n"
        ".TP\n.I /var/lib/lavva\nIts data folder.\n"
        ".TP\n.I lavva\\-data\nThe data folder of a development instance; "
        "\\fIdev.env\\fR in it says how to reach it.\n"
        ".SH SEE ALSO\n.BR lavva.yaml (5),\n.BR systemctl (1)\n",
        out);
}

void lv_man_bash(FILE *out) {
  fputs("# bash completion for lavva; made by `lavva help --completion bash`\n"
        "_lavva() {\n"
        "  local cur=${COMP_WORDS[COMP_CWORD]} words\n"
        "  COMPREPLY=()\n"
        "  if [ \"$COMP_CWORD\" -eq 1 ] || { [ \"$COMP_CWORD\" -eq 2 ] && "
        "[ \"${COMP_WORDS[1]}\" = help ]; }; then\n"
        "    words='",
        out);
  for (uint32_t i = 0; i < lv_cli_n_commands; i++)
    fprintf(out, "%s%s", i ? " " : "", lv_cli_commands[i]->name);
  fputs("'\n  else\n    case ${COMP_WORDS[1]} in\n", out);
  for (uint32_t i = 0; i < lv_cli_n_commands; i++) {
    const lv_cli_cmd *cmd = lv_cli_commands[i];
    fprintf(out, "    %s) words='--help", cmd->name);
    for (uint32_t k = 0; k < cmd->n_opts; k++)
      if (cmd->opts[k].name) fprintf(out, " --%s", cmd->opts[k].name);
    fputs("' ;;\n", out);
  }
  fputs("    *) return ;;\n    esac\n"
        "    case $cur in\n    -*) ;;\n    *) return ;;\n    esac\n"
        "  fi\n"
        "  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
        "}\n"
        "complete -o default -F _lavva lavva\n",
        out);
}

/* Inside '…[text]': one line, without what zsh takes for its own. */
static void zsh_text(FILE *out, const char *s) {
  for (; *s; s++) {
    if (*s == '\'')
      fputs("'\\''", out);
    else if (strchr("[]:\\", *s))
      fprintf(out, "\\%c", *s);
    else
      fputc(*s == '\n' ? ' ' : *s, out);
  }
}

static void zsh_option(FILE *out, const lv_cli_opt *o) {
  if (!o->name) return;
  fprintf(out, " \\\n      '%s--%s%s[", o->kind == LV_CLI_TEXTS ? "*" : "", o->name,
          o->arg ? "=" : "");
  zsh_text(out, o->help);
  fputs("]", out);
  if (o->arg) {
    fputs(":", out);
    zsh_text(out, o->arg);
    fputs(":_files", out);
  }
  fputs("'", out);
}

void lv_man_zsh(FILE *out) {
  fputs("#compdef lavva\n# made by `lavva help --completion zsh`\n_lavva() {\n"
        "  if (( CURRENT == 2 )); then\n    local -a commands=(\n",
        out);
  for (uint32_t i = 0; i < lv_cli_n_commands; i++) {
    fprintf(out, "      '%s:", lv_cli_commands[i]->name);
    zsh_text(out, lv_cli_commands[i]->summary);
    fputs("'\n", out);
  }
  fputs("    )\n    _describe command commands\n    return\n  fi\n  local cmd=$words[2]\n"
        "  shift words\n  (( CURRENT-- ))\n  case $cmd in\n",
        out);
  for (uint32_t i = 0; i < lv_cli_n_commands; i++) {
    const lv_cli_cmd *cmd = lv_cli_commands[i];
    fprintf(out, "  %s)\n    _arguments -s '--help[this command]'", cmd->name);
    for (uint32_t k = 0; k < cmd->n_opts; k++) zsh_option(out, &cmd->opts[k]);
    fputs(" \\\n      '*:file:_files'\n    ;;\n", out);
  }
  fputs("  esac\n}\n_lavva \"$@\"\n", out);
}
