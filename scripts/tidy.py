#!/usr/bin/env python3
"""The rules of CONTRIBUTING.md that a machine can check. Prints each breach as FILE:LINE: what,
and how to mend it; exits 1 when there is one.

  layout    clang-format at 100 columns (skipped, and said so, where clang-format is missing)
  banned    calls that have a better replacement here
  debt      leftover FIXME and friends: finish it, or file it
  includes  the one-way order of src/ (core < wire < broker < net < session < access < gateway < cli)
  size      files of at most 800 lines, functions of at most 70 (the ratchet below only shrinks)
  head      each source file opens with a comment that says what it is for
  dead      source files that no meson.build names
  docs      docs/kpi.md is what scripts/kpi_doc.py makes; links inside the docs lead somewhere
"""
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ORDER = ["core", "wire", "broker", "net", "web", "session", "access", "gateway", "hub", "master", "cli"]
# What each folder may include; the lab speaks to the product over the wire only.
MAY = {name: set(ORDER[: i + 1]) for i, name in enumerate(ORDER)}
MAY["net"] = {"core", "wire", "net"}
MAY["web"] = MAY["net"] | {"web"}
MAY["session"] = {"core", "wire", "broker", "session"}
MAY["lab"] = {"core", "wire", "lab"}
FILE_MAX, FUNC_MAX = 800, 70
# Files and functions allowed to be larger, with the reason. Only ever shrink this.
LARGE_FILES: dict[str, str] = {}
LARGE_FUNCS: dict[str, str] = {}
BANNED = {
    r"\bstrcpy\s*\(": "memcpy with a known length, or snprintf",
    r"\bstrcat\s*\(": "snprintf into a sized buffer",
    r"\bsprintf\s*\(": "snprintf",
    r"\bvsprintf\s*\(": "vsnprintf",
    r"\bgets\s*\(": "getline or lv_slice",
    r"\bstrtok\s*\(": "lv_slice_split",
    r"\batoi\s*\(": "lv_slice_u64 (checks range and garbage)",
    r"\batol\s*\(": "lv_slice_u64 (checks range and garbage)",
    r"\balloca\s*\(": "the arena",
    r"\brand\s*\(\s*\)": "lv_rand (seeded) or getrandom (secrets)",
    r"\bctime\s*\(": "lv_time_format",
    r"\bgmtime\s*\(": "gmtime_r",
    r"\blocaltime\s*\(": "localtime_r",
    r"\bstrerror\s*\(": "lv_strerror (thread-safe)",
    r"\bsystem\s*\(": "posix_spawn with an argument vector",
}
DEBT = re.compile(r"\b(FIXME|XXX|HACK|TODO|not implemented)\b")
FUNC_HEAD = re.compile(r"^[A-Za-z_][\w\s\*]*?\b(\w+)\s*\([^;]*$")


def tracked() -> list[str]:
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True,
                         capture_output=True, check=True)
    return [f for f in out.stdout.split("\n") if f and os.path.exists(os.path.join(ROOT, f))]


def read(path: str) -> list[str]:
    with open(os.path.join(ROOT, path), encoding="utf-8", errors="replace") as f:
        return f.read().split("\n")


def strip_comments(lines: list[str]) -> list[str]:
    """The lines with comments and string bodies blanked, so that words in prose do not count."""
    text = "\n".join(lines)
    pat = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
    return pat.sub(lambda m: re.sub(r"[^\n]", " ", m.group(0)), text).split("\n")


def check_banned(path, lines, out):
    for n, line in enumerate(strip_comments(lines), 1):
        for pat, instead in BANNED.items():
            if re.search(pat, line):
                out.append(f"{path}:{n}: banned call {pat.split('b', 1)[1].split(chr(92))[0]}: "
                           f"use {instead}")


def check_debt(path, lines, out):
    for n, line in enumerate(lines, 1):
        m = DEBT.search(line)
        if m:
            out.append(f"{path}:{n}: leftover {m.group(1)}: finish it or file it")


def check_includes(path, lines, out):
    parts = path.split("/")
    if parts[0] != "src" or len(parts) < 3 or parts[1] not in MAY:
        return
    for n, line in enumerate(lines, 1):
        m = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if not m:
            continue
        top = m.group(1).split("/")[0]
        if "/" not in m.group(1):
            continue  # module-private header beside the file
        if top not in MAY[parts[1]]:
            out.append(f"{path}:{n}: {parts[1]}/ may not include {m.group(1)}: "
                       f"allowed are {', '.join(sorted(MAY[parts[1]]))}")
        if m.group(1).endswith("_int.h") and top != parts[1]:
            out.append(f"{path}:{n}: {m.group(1)} is private to {top}/")


def check_size(path, lines, out):
    if len(lines) > FILE_MAX + 1 and path not in LARGE_FILES:
        out.append(f"{path}:1: {len(lines)} lines, the limit is {FILE_MAX}: split it by concept")
    if not path.endswith(".c"):
        return
    name, start = None, 0
    for n, line in enumerate(strip_comments(lines), 1):
        m = FUNC_HEAD.match(line)
        if m and not line.startswith(("typedef", "struct", "enum", "union", "#", "static const")):
            name, start = m.group(1), n
        if line == "}" and name:
            if n - start + 1 > FUNC_MAX and f"{path}:{name}" not in LARGE_FUNCS:
                out.append(f"{path}:{start}: {name} has {n - start + 1} lines, the limit is "
                           f"{FUNC_MAX}: let the parent decide and helpers compute")
            name = None


def check_head(path, lines, out):
    if not (lines and lines[0].lstrip().startswith(("/*", "//"))):
        out.append(f"{path}:1: no opening comment: say what the file is for")


def check_dead(files, out):
    named = "\n".join("\n".join(read(f)) for f in files if f.endswith("meson.build"))
    for f in files:
        if f.startswith(("src/", "tests/", "bench/")) and f.endswith(".c"):
            stem = os.path.basename(f)[:-2]
            if not re.search(rf"(?<![\w]){re.escape(stem)}(?![\w])", named):
                out.append(f"{f}:1: no meson.build names it: build it or delete it")


def check_docs(files, out):
    run = subprocess.run([sys.executable, "scripts/kpi_doc.py", "--check"], cwd=ROOT, text=True,
                         capture_output=True)
    if run.returncode:
        out.append((run.stdout + run.stderr).strip())
    for f in files:
        if not f.endswith(".md"):
            continue
        for n, line in enumerate(read(f), 1):
            for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", line):
                path = os.path.join(ROOT, os.path.dirname(f), target)
                if "://" not in target and not os.path.exists(path):
                    out.append(f"{f}:{n}: link to {target}, which does not exist")


def check_format(files, out):
    tool = shutil.which("clang-format") or shutil.which("clang-format-14")
    if not tool:
        print("tidy: clang-format is missing, layout not checked (make deps)", file=sys.stderr)
        return
    src = [f for f in files if f.endswith((".c", ".h"))]
    for i in range(0, len(src), 50):
        run = subprocess.run([tool, "--dry-run", "-Werror", *src[i:i + 50]], cwd=ROOT, text=True,
                             capture_output=True)
        seen = set()
        for line in run.stderr.split("\n"):
            m = re.match(r"(.+?):(\d+):\d+: error:", line)
            if m and m.group(1) not in seen:
                seen.add(m.group(1))
                out.append(f"{m.group(1)}:{m.group(2)}: layout differs from .clang-format: "
                           "make format")


def main() -> int:
    files, out = tracked(), []
    for f in files:
        if not f.endswith((".c", ".h")):
            continue
        lines = read(f)
        check_banned(f, lines, out)
        check_debt(f, lines, out)
        check_includes(f, lines, out)
        check_size(f, lines, out)
        check_head(f, lines, out)
    check_dead(files, out)
    check_docs(files, out)
    check_format(files, out)
    print("\n".join(out) if out else f"tidy: {len(files)} files, nothing to mend")
    return 1 if out else 0


if __name__ == "__main__":
    sys.exit(main())
