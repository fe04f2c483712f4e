#!/usr/bin/env python3
"""Checks that a server's books balance: the ledger's equations (docs/kpi.md) from its /metrics.

  scripts/ledger.py [--rest SECONDS] [--apps] [--quiet] [SOURCE]

The equations hold in sum and for each app by itself, those of the gateway also for each protocol of an
app; these are printed with --apps, or when one does not hold. SOURCE is HOST:PORT, a URL, a file, or - for standard input; without it LAVVA_HTTP of the
environment, else 127.0.0.1:8080. Each equation is printed with its terms and whether it holds.
They hold exactly at rest; under load messages are under way, so --rest waits (at most so long)
until two scrapes agree and nothing is with the broker.

Exit codes: 0 all hold, 1 one does not, 2 it never came to rest, 66 no metrics.
"""
import argparse
import os
import re
import sys
import time
import urllib.request

LINE = re.compile(r'^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
WHOSE = ("app", "protocol")     # labels that say for whom; the others say what was counted
GATEWAY = 2     # equations that hold by protocol, too: what is owed goes out over any of them
IN_FLIGHT = "lavva_publish_inflight_messages"


def parse(text, app=None, protocol=None):
    """{name{labels}: value} of a Prometheus text, added up over apps and protocols (or of one)."""
    out = {}
    for line in text.splitlines():
        m = LINE.match(line)
        if not m:
            continue
        labels = dict(LABEL.findall(m.group(2) or ""))
        if app is not None and labels.get("app") != app:
            continue
        if protocol is not None and labels.get("protocol") != protocol:
            continue
        rest = ",".join(f'{k}="{v}"' for k, v in labels.items() if k not in WHOSE)
        name = m.group(1) + (f"{{{rest}}}" if rest else "")
        out[name] = out.get(name, 0) + float(m.group(3))
    return out


def values(text, *names):
    """Values of these labels, of what has them all."""
    found = (dict(LABEL.findall(m.group(2) or "")) for m in map(LINE.match, text.splitlines()) if m)
    return sorted({tuple(have[n] for n in names) for have in found if all(n in have for n in names)})


def parts(text):
    """[(whose, lines)]: each app, and each protocol of an app."""
    out = []
    for app, in values(text, "app"):
        out.append((f"app={app}", check(OfApp(parse(text, app)))))
    for app, protocol in values(text, "app", "protocol"):
        lines = check(OfApp(parse(text, app, protocol)))[:GATEWAY]
        out.append((f"app={app} protocol={protocol}", lines))
    return out


def total(m, prefix):
    """Sum of a metric over its labels; `prefix` may name the first ones."""
    return sum(v for k, v in m.items() if k == prefix or k.startswith(prefix + "{")
               or ("{" in prefix and k.startswith(prefix)))


def equations(m):
    """[(text, left, [(name, right term)…])]: left is the sum of the right terms when it holds."""
    g, b, h = "lavva_gateway_", "lavva_broker_", "lavva_hub_"
    return [
        ("offered = in + rejected", m[g + "offered_messages_total"],
         [("in", m[g + "in_messages_total"]),
          ("rejected", total(m, g + "rejected_messages_total"))]),
        ("in = out + gateway drops + in flight", m[g + "in_messages_total"],
         [("out", m[g + "out_messages_total"]),
          ("gateway drops", total(m, 'lavva_drops_total{stage="gateway"')),
          ("in flight", m.get(IN_FLIGHT, 0))]),
        ("broker in = gateway out", m[b + "in_messages_total"],
         [("gateway out", m[g + "out_messages_total"])]),
        ("hub in = broker out", m[h + "in_messages_total"],
         [("broker out", m[b + "out_messages_total"])]),
        ("owed = delivered + hub drops + pending", m[h + "owed_messages_total"],
         [("delivered", m[h + "out_messages_total"]),
          ("hub drops", total(m, 'lavva_drops_total{stage="hub"')),
          ("pending", m[h + "pending_messages"])]),
    ]


class OfApp(dict):
    """What an app has not counted is 0."""

    def __missing__(self, key):
        return 0


def check(m):
    """[(line, holds)] for people."""
    out = []
    for text, left, terms in equations(m):
        right = sum(v for _, v in terms)
        holds = left == right
        sums = " + ".join(f"{v:.0f}" for _, v in terms)
        out.append((f"{'ok   ' if holds else 'WRONG'} {text:40} {left:.0f} "
                    f"{'=' if holds else '!='} {sums}"
                    + ("" if holds else f"  ({left - right:+.0f})"), holds))
    return out


def moving(m):
    """What must stand still before the books can be judged."""
    return {k: v for k, v in m.items() if "_messages" in k or k.startswith("lavva_drops")}


def fetch(source):
    if source == "-":
        return sys.stdin.read()
    if os.path.exists(source):
        with open(source, encoding="utf-8") as f:
            return f.read()
    url = source if "://" in source else f"http://{source}"
    if not url.split("://", 1)[1].strip("/").count("/"):
        url = url.rstrip("/") + "/metrics"
    with urllib.request.urlopen(url, timeout=10) as r:
        return r.read().decode()


def at_rest(source, seconds):
    """The text of a server at rest, or None."""
    deadline, last = time.monotonic() + seconds, None
    while True:
        text = fetch(source)
        m = parse(text)
        now = moving(m)
        if now == last and m.get(IN_FLIGHT) == 0:
            return text
        if time.monotonic() > deadline:
            return None
        last = now
        time.sleep(0.2)


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--rest", type=float, metavar="SECONDS", help="wait until nothing moves")
    p.add_argument("--apps", action="store_true", help="print the equations of each app too")
    p.add_argument("--quiet", action="store_true", help="print only what does not hold")
    p.add_argument("source", nargs="?",
                   default=os.environ.get("LAVVA_HTTP", "127.0.0.1:8080"))
    a = p.parse_args(argv)
    try:
        text = at_rest(a.source, a.rest) if a.rest else fetch(a.source)
    except (OSError, ValueError) as e:
        print(f"ledger: {a.source}: {e}", file=sys.stderr)
        return 66
    if text is None:
        print(f"ledger: {a.source} did not come to rest within {a.rest:g} s", file=sys.stderr)
        return 2
    try:
        lines = check(parse(text))
    except KeyError as e:
        print(f"ledger: {a.source}: no metric {e}; is this Lavva's /metrics?", file=sys.stderr)
        return 66
    for line, holds in lines:
        if not (holds and a.quiet):
            print(line)
    if lines[1][1] and parse(text).get(IN_FLIGHT, 0) == 0:  # what is in flight is of no known app
        for whose, of_them in parts(text):
            lines += of_them
            for line, holds in of_them:
                if not holds or (a.apps and not a.quiet):
                    print(f"{line}  {whose}")
    return int(not all(holds for _, holds in lines))


if __name__ == "__main__":
    sys.exit(main())
