/* conf_doc.c: docs/config.md out of the schema. `lavva check --schema-markdown` prints it, and a
 * test compares the two. */
#include "core/conf_int.h"
#include <assert.h>

static const char intro[] =
    "# Configuration\n"
    "\n"
    "<!-- Made by `lavva check --schema-markdown`; edit src/core/conf_schema.c instead. -->\n"
    "\n"
    "`lavva serve FILE` reads one YAML document. `lavva check FILE` tells what is wrong with it, "
    "with line, key,\n"
    "what was found and what is allowed, and starts nothing. Everything has a default but the "
    "names: an empty\n"
    "document is a valid one. On SIGHUP the document is read again; keys, rights, certificates, "
    "limits, channels\n"
    "and the log level change at once, the rest with the next start. A document with findings is "
    "refused as a\n"
    "whole, and the running one stays.\n"
    "\n"
    "Sizes are written as `64KiB`, `10MiB`, `1GiB` (also `kB`, `MB`, `GB`), durations as `500ms`, "
    "`10s`, `5m`,\n"
    "`1h30m`, `7d`. A path is relative to the document's folder. YAML anchors and aliases work.\n"
    "\n"
    "## Example\n"
    "\n"
    "```yaml\n";

const char lv__conf_example[] =
    "server:\n"
    "  data: /var/lib/lavva\n"
    "  tls: {certificate: tls/cert.pem, key: tls/key.pem}\n"
    "listen:\n"
    "  - mqtt: 0.0.0.0:1883\n"
    "  - mqtts: \"[::]:8883\"\n"
    "  - http: 127.0.0.1:8080\n"
    "limits:\n"
    "  connections: 20000\n"
    "apps:\n"
    "  - name: plant\n"
    "    auto_channels: true\n"
    "    channel_defaults:\n"
    "      retention: {age: 7d, bytes: 1GiB}\n"
    "    channels:\n"
    "      - name: alarms\n"
    "        durability: disk\n"
    "        content: json\n"
    "        retention: {age: 365d, bytes: unlimited}\n"
    "      - name: telemetry\n"
    "        durability: memory\n"
    "    keys:\n"
    "      # A new one: lavva key new --id devices\n"
    "      - id: devices\n"
    "        hash: sha256:8c4ee4e0a87ae0fd6ac4ab0ea85c3a28eb4c8a51f03cf02d6f4d61a0b1f4b7aa\n"
    "        publish: [\"telemetry/#\", \"alarms/#\"]\n"
    "      - id: ops\n"
    "        hash: sha256:0b7d3ad4ea2c3a2d14c9d1b3e8aa76a1f5dfe25be30f9c94f3a1f6d0b8c9d2e3\n"
    "        subscribe: \"#\"\n"
    "        sys: true\n";

/* Cell text: `|` would end the cell. */
static void cell(FILE *out, const char *s) {
  for (; *s; s++) {
    if (*s == '|') fputc('\\', out);
    fputc(*s, out);
  }
}

static void field_row(FILE *out, const lv__conf_field *f, bool inherits) {
  char allowed[160];
  lv__conf_allowed(f, allowed, sizeof allowed);
  const char *def = f->required ? "*required*" : inherits ? "*inherited*" : "";
  fprintf(out, "| `%s` | ", f->name);
  if (f->def && !inherits && !f->required)
    fprintf(out, "`%s`", f->def);
  else
    fputs(def, out);
  fputs(" | ", out);
  cell(out, allowed);
  fputs(" | ", out);
  cell(out, f->help);
  fputs(" |\n", out);
}

static void words_list(FILE *out, const lv__conf_section *s) {
  for (uint32_t i = 0; i < s->n_fields; i++) {
    const lv__conf_field *f = &s->fields[i];
    if (!f->words) continue;
    fprintf(out, "\n`%s`:\n\n", f->name);
    for (const lv__conf_word *w = f->words; w->word; w++)
      fprintf(out, "- `%s`: %s\n", w->word, w->help);
  }
}

/* A section, then those inside it; what inherits is not told again word by word. */
static void section_doc(FILE *out, const lv__conf_section *s, const char *parent) {
  char title[96];
  bool nested = strchr(s->title, '.') || strchr(s->title, '[') || !parent[0];
  snprintf(title, sizeof title, "%s%s%s", nested ? "" : parent, nested ? "" : ".", s->title);
  bool repeats = s->inherits && strncmp(s->about, "The keys of", 11) == 0;
  if (s->title[0]) {
    fprintf(out, "\n## `%s`\n\n%s\n", title, s->about);
    if (repeats) return;
    fputc('\n', out);
  }
  fputs("| key | default | allowed | meaning |\n| --- | --- | --- | --- |\n", out);
  for (uint32_t i = 0; i < s->n_fields; i++) field_row(out, &s->fields[i], s->inherits);
  if (!s->inherits) words_list(out, s);
  for (uint32_t i = 0; i < s->n_fields; i++) {
    const lv__conf_section *sub = s->fields[i].section;
    if (sub) section_doc(out, sub, title);
  }
}

void lv_conf_doc(FILE *out) {
  assert(out);
  fputs(intro, out);
  fputs(lv__conf_example, out);
  fputs("```\n\n## The document\n\n", out);
  section_doc(out, &lv__conf_root, "");
}
