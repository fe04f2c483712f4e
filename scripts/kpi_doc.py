#!/usr/bin/env python3
"""Makes the tables of docs/kpi.md from the tables of src/core/metric.h, and the metrics that
others write by themselves (SOURCES: histograms, quantiles, the process, the broker's queues).

  scripts/kpi_doc.py            prints the tables
  scripts/kpi_doc.py --write    puts them into docs/kpi.md, between its two markers
  scripts/kpi_doc.py --check    exits 1 when docs/kpi.md has others (make tidy)
"""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DOC = os.path.join(ROOT, "docs", "kpi.md")
SOURCES = ("src/core/metric_text.c", "src/core/metric_proc.c", "src/cli/server.c")
BEGIN = "<!-- begin: made by scripts/kpi_doc.py; edit src/core/metric.h instead -->"
END = "<!-- end -->"
STRING = r'"(?:\\.|[^"\\])*"'


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


def unquote(text):
    """A run of C string literals as one text."""
    return "".join(bytes(s[1:-1], "utf-8").decode("unicode_escape").encode("latin-1").decode("utf-8")
                   for s in re.findall(STRING, text))


def rows(header, table):
    """The X(…) lines of a table: lists of their arguments, the id first."""
    body = re.search(rf"#define {table}\(X\)(.*?)\n\n", header, re.S).group(1)
    body = body.replace("\\\n", "\n")
    out = []
    for m in re.finditer(rf"X\((\w+)((?:\s*,\s*(?:{STRING}\s*)+)+)\)", body):
        args = re.findall(rf"(?:{STRING}\s*)+", m.group(2))
        out.append([m.group(1), *[unquote(a) for a in args]])
    ids = re.findall(r"\bX\((\w+),", body)
    if [r[0] for r in out] != ids:
        sys.exit(f"kpi_doc: {table} in src/core/metric.h: cannot read "
                 f"{sorted(set(ids) - {r[0] for r in out})}")
    return out


def counters(header, which="LV_COUNTERS"):
    """[(name, labels, help)] in order; the help of a name stands at its first row."""
    seen, out = {}, []
    for _, name, labels, text in rows(header, which):
        if name in seen:
            seen[name][1].append(labels)
            continue
        seen[name] = (name, [labels] if labels else [], text)
        out.append(seen[name])
    return out


def gauges(header):
    seen, out = {}, []
    for _, full, text in rows(header, "LV_GAUGES"):
        name, _, labels = full.removesuffix("}").partition("{")
        if name in seen:
            seen[name][1].append(labels)
            continue
        seen[name] = (name, [labels] if labels else [], text)
        out.append(seen[name])
    return out


def others(source):
    """[(name, type, help)] of what a source writes itself."""
    out = []
    text = rf"((?:{STRING}\s*)+)"
    forms = (rf'put_(?:rows_)?hist\(b,\s*"([a-z0-9_]+)",\s*{text}()',
             rf'put_quantiles\(b,\s*"([a-z0-9_]+)",\s*{text}()',
             rf'head\(b,\s*"([a-z0-9_]+)",\s*{text},\s*"(\w+)"\)',
             rf'(?:metrics_put|by_role)\(b,\s*"([a-z0-9_]+)",\s*"(\w+)",\s*{text}')
    for m in re.finditer("|".join(forms), source):
        got = [g for g in m.groups() if g is not None]
        if "metrics_put" in m.group(0) or "by_role" in m.group(0):
            name, kind, words = got[:3]
        else:
            name, words, kind = got[:3]
        if not kind:
            kind = "gauge" if "put_quantiles" in m.group(0) else "histogram"
        out.append((name, kind, unquote(words)))
    return out


def labels_text(labels):
    return "<br>".join(f"`{x}`" for x in labels) or " "


def table(head, lines):
    return "\n".join(["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |",
                      *["| " + " | ".join(c.replace("|", "\\|") for c in line) + " |"
                        for line in lines]])


def tables():
    header = read("src/core/metric.h")
    return "\n\n".join([
        "### Counters\n\nThey only grow, from 0 at the start of the process.",
        table(["name", "labels", "meaning"],
              [(f"`{n}`", labels_text(ls), h) for n, ls, h in counters(header)]),
        "### Gauges",
        table(["name", "labels", "meaning"],
              [(f"`{n}`", labels_text(ls), h) for n, ls, h in gauges(header)]),
        "### By channel",
        table(["name", "labels", "meaning"],
              [(f"`{n}`", labels_text(ls), h)
               for n, ls, h in counters(header, "LV_CHAN_COUNTERS")]),
        "### Histograms and the rest",
        table(["name", "type", "meaning"],
              [(f"`{n}`", k, h) for path in SOURCES for n, k, h in others(read(path))]),
    ])


def spliced(doc):
    """docs/kpi.md with the tables of now."""
    before, begin, rest = doc.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"kpi_doc: docs/kpi.md lacks its markers {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


def main():
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if what == "":
        print(tables())
        return 0
    if what not in ("--write", "--check"):
        print(__doc__.strip(), file=sys.stderr)
        return 64
    with open(DOC, encoding="utf-8") as f:
        doc = f.read()
    new = spliced(doc)
    if what == "--check":
        if new != doc:
            print("docs/kpi.md:1: its tables differ from src/core/metric.h: make docs")
        return int(new != doc)
    if new != doc:
        with open(DOC, "w", encoding="utf-8") as f:
            f.write(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
