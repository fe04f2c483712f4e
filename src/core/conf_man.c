/* conf_man.c: lavva.yaml(5) out of the schema, as conf_doc.c makes docs/config.md. `lavva check
 * --schema-man` prints it. */
#include "core/conf_int.h"
#include <assert.h>

static void text(FILE *out, const char *s) {
  bool line = true;
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

static void field(FILE *out, const lv__conf_field *f, bool inherits) {
  char allowed[160];
  lv__conf_allowed(f, allowed, sizeof allowed);
  fprintf(out, ".TP\n\\fB%s\\fR\n", f->name);
  text(out, f->help);
  fputs(".\n", out);
  if (allowed[0]) {
    fputs("Allowed: ", out);
    text(out, allowed);
    fputs(".\n", out);
  }
  if (f->required) fputs("Required.\n", out);
  if (f->def && f->def[0] && !inherits && !f->required) {
    fputs("Default: ", out);
    text(out, f->def);
    fputs(".\n", out);
  }
  for (const lv__conf_word *w = inherits ? NULL : f->words; w && w->word; w++) {
    fprintf(out, ".br\n\\fI%s\\fR: ", w->word);
    text(out, w->help);
    fputs(".\n", out);
  }
}

static void section(FILE *out, const lv__conf_section *s, const char *parent) {
  char title[96];
  bool nested = strchr(s->title, '.') || strchr(s->title, '[') || !parent[0];
  snprintf(title, sizeof title, "%s%s%s", nested ? "" : parent, nested ? "" : ".", s->title);
  if (s->title[0]) {
    fprintf(out, ".SS %s\n", title);
    text(out, s->about);
    fputc('\n', out);
    if (s->inherits && strncmp(s->about, "The keys of", 11) == 0) return;
  }
  for (uint32_t i = 0; i < s->n_fields; i++) field(out, &s->fields[i], s->inherits);
  for (uint32_t i = 0; i < s->n_fields; i++)
    if (s->fields[i].section) section(out, s->fields[i].section, title);
}

void lv_conf_man(FILE *out) {
  assert(out);
  fputs(
      ".TH LAVVA.YAML 5 " LV_CONF_MAN_DATE " \"Lavva " LV_VERSION "\" \"File Formats\"\n"
      ".SH NAME\nlavva.yaml \\- configuration of lavva\n"
      ".SH DESCRIPTION\n"
      "\\fBlavva serve\\fR \\fIFILE\\fR reads one YAML document; \\fBlavva check\\fR \\fIFILE\\fR "
      "says what is wrong with it.\nEverything has a default but the names: an empty document is "
      "a valid one.\n"
      "On SIGHUP it is read again: keys, rights, certificates, limits, channels and the log "
      "level change at once,\nthe rest with the next start. A document with findings is refused "
      "as a whole, and the running one stays.\n"
      ".PP\n"
      "Sizes are written as 64KiB, 10MiB, 1GiB (also kB, MB, GB), durations as 500ms, 10s, 5m, "
      "1h30m, 7d.\nA path is relative to the document's folder. YAML anchors and aliases work.\n"
      ".SH KEYS\n",
      out);
  section(out, &lv__conf_root, "");
  fputs(".SH EXAMPLES\n.nf\n", out);
  text(out, lv__conf_example);
  fputs(".fi\n.SH SEE ALSO\n.BR lavva (1)\n", out);
}
