#!/usr/bin/env python3
"""Makes a C file out of files that the binary serves: their bytes, plain and compressed.

usage: embed.py OUT.c NAME=FILE…

All of them together have a version, the hash of their bytes; `@VERSION@` in a page stands for it, so
that what a page loads can be kept by browsers forever. Called by the build (src/web/meson.build). The result depends on the files alone: no times.
"""
import gzip
import hashlib
import sys

TYPES = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8",
         "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}


def array(name, data):
    rows = [",".join(str(b) for b in data[i:i + 40]) for i in range(0, len(data), 40)]
    return f"static const uint8_t {name}[] = {{\n" + ",\n".join(rows) + "};\n"


def main():
    out, parts, table, read = sys.argv[1], [], [], []
    for arg in sys.argv[2:]:
        name, path = arg.split("=", 1)
        with open(path, "rb") as f:
            read.append((name, f.read()))
    version = hashlib.sha256(b"".join(name.encode() + data for name, data in read)).hexdigest()[:12]
    for i, (name, data) in enumerate(read):
        if name.endswith(".html"):
            data = data.replace(b"@VERSION@", version.encode())
        packed = gzip.compress(data, 9, mtime=0)
        kind = TYPES[name.rsplit(".", 1)[1]]
        tag = hashlib.sha256(data).hexdigest()[:16]
        parts.append(array(f"plain{i}", data) + array(f"packed{i}", packed))
        table.append(f'  {{"{name}", "{kind}", "\\"{tag}\\"", "\\"{tag}-gz\\"", plain{i}, '
                     f"sizeof plain{i}, packed{i}, sizeof packed{i}}},\n")
    with open(out, "w", encoding="ascii") as f:
        f.write("/* Made by scripts/embed.py. */\n#include \"web/web_int.h\"\n" + "".join(parts)
                + "const lv__web_file lv__web_files[] = {\n" + "".join(table)
                + f"}};\nconst char lv__web_version[] = \"{version}\";\n"
                + f"const uint32_t lv__web_n_files = {len(table)};\n")


main()
