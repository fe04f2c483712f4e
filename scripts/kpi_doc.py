#!/usr/bin/env python3
"""Makes the tables of docs/kpi.md from the tables of src/core/metric.h, and the metrics that
src/core/metric.c writes by itself (histograms, quantiles, process).

  scripts/kpi_doc.py            prints the tables
  scripts/kpi_doc.py --write    puts them into docs/kpi.md, between its two markers
  scripts/kpi_doc.py --check    exits 1 when docs/kpi.md has others (make tidy)
"""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DOC = os.path.join(ROOT, "docs", "kpi.md")
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


def counters(header):
    """[(name, labels, help)] in order; the help of a name stands at its first row."""
    seen, out = {}, []
    for _, name, labels, text in rows(header, "LV_COUNTERS"):
        if name in seen:
            seen[name][1].append(labels)
            continue
        seen[name] = (name, [labels] if labels else [], text)
        out.append(seen[name])
    return out


def gauges(header):
    seen, out = {}, []
    for _, full, text in rows(header, "LV_GAUGES"):
        name, _, labels = full.rstrip("}").partition("{")
        if name in seen:
            seen[name][1].append(labels)
            continue
        seen[name] = (name, [labels] if labels else [], text)
        out.append(seen[name])
    return out


def others(source):
    """[(name, type, help)] of what metric.c writes itself."""
    out = []
    for m in re.finditer(rf'(put_hist|head)\(b,\s*"([a-z0-9_]+)",\s*((?:{STRING}\s*)+),'
                         rf'\s*(?:"(\w+)"|h)\)', source):
        kind = m.group(4) or "histogram"
        out.append((m.group(2), kind, unquote(m.group(3))))
    return out


def labels_text(labels):
    return "<br>".join(f"`{x}`" for x in labels) or " "


def table(head, lines):
    return "\n".join(["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |",
                      *["| " + " | ".join(c.replace("|", "\\|") for c in line) + " |"
                        for line in lines]])


def tables():
    header, source = read("src/core/metric.h"), read("src/core/metric.c")
    return "\n\n".join([
        "### Counters\n\nThey only grow, from 0 at the start of the process.",
        table(["name", "labels", "meaning"],
              [(f"`{n}`", labels_text(ls), h) for n, ls, h in counters(header)]),
        "### Gauges",
        table(["name", "labels", "meaning"],
              [(f"`{n}`", labels_text(ls), h) for n, ls, h in gauges(header)]),
        "### Histograms and the rest",
        table(["name", "type", "meaning"],
              [(f"`{n}`", k, h) for n, k, h in others(source)]),
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
