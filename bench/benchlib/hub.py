"""The scenarios of customers (WebSocket) and of publishing over HTTP, their targets, and how
lavva-hubload is run for them. The peer is nchan; the floor is lavva-wsrelay."""
import json
import select
import subprocess
import time

from . import servers
from .scenarios import US, Scenario, Subject

TOOL = "lavva-hubload"
NCHAN = ["--sub", "/sub", "--pub", "/pub"]


def command(server, subject, quick, seconds):
    args = [servers.program(TOOL, f"bench/{TOOL}"), f"127.0.0.1:{server.port}", *subject.args]
    for pid in server.pids():
        args += ["--server-pid", str(pid)]
    if subject.args[0] == "load":
        args += ["--duration", str(seconds), "--warmup", "0.5" if quick else "1.5"]
    if subject.kind.startswith("nchan"):
        args += NCHAN
    return args


def run(server, subject, quick, seconds):
    """One run of the generator: its JSON."""
    args = command(server, subject, quick, seconds)
    if subject.args[0] == "resume":
        return resume(server, args)
    done = subprocess.run(args, text=True, capture_output=True, timeout=seconds * 4 + 180)
    return parse(done.stdout, done.returncode, done.stderr)


def parse(text, code, err):
    if not text.strip():
        raise RuntimeError(f"{TOOL} exited {code}: {err.strip()[-300:]}")
    result = json.loads(text.strip().splitlines()[-1])
    if result["code"] in (3, 69):
        raise RuntimeError(f"{result['verdict']}: {result['first_error'] or 'it stood still'}")
    return result


def resume(server, args):
    """kill -9 when the generator says so, the server once more, and how long it was away."""
    tool = subprocess.Popen(args, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)
    try:
        ready = select.select([tool.stdout], [], [], 60)[0]
        line = tool.stdout.readline() if ready else ""
        if line.strip() == "kill":
            began = time.monotonic()
            server.kill_and_restart()
            tool.stdin.write(f"go {server.pid}\n")
            tool.stdin.flush()
            line = ""
        else:
            began = None
        out, err = tool.communicate(timeout=120)
    finally:
        if tool.poll() is None:
            tool.kill()
            tool.wait()
    result = parse(line + out, tool.returncode, err)
    if began is None:
        raise RuntimeError(f"{TOOL} did not get as far as the restart")
    return result


def extra(r):
    """Figures that only these runs have."""
    m = {"cpu_ms": r["server"]["cpu_s"] * 1e3}
    if "catch_up_s" in r:
        m.update(up=r["up_s"], catchup=r["catch_up_s"], total=r["total_s"],
                 caught=r["caught_up"])
    m["wrong"] = r["lost"] + r["duplicated"] + r["reordered"] + r["corrupt"] + r["gaps"]
    return m


# ---- targets ----

def fanout(m):
    yield ("CPU <= 0.25 x nchan", m[US]["cpu"], 0.25 * m["nchan"]["cpu"], "<=")
    yield ("nothing lost, doubled or reordered", m[US]["wrong"], 0, "<=")
    yield ("aim: CPU <= 2 x floor", m[US]["cpu"], 2 * m["relay"]["cpu"], "<=")


def latency(m):
    yield ("p50 <= 0.7 x nchan", m[US]["p50"], 0.7 * m["nchan"]["p50"], "<=")
    yield ("p99 <= 0.9 x nchan", m[US]["p99"], 0.9 * m["nchan"]["p99"], "<=")
    yield ("p50 <= 1.15 x a bare send loop and one write", m[US]["p50"], 1.15 * m["relay"]["p50"],
           "<=")


def publish(m):
    yield ("rate (disk) >= nginx + nchan (memory)", m[US]["rate"], m["nchan"]["rate"], ">=")
    yield ("nothing refused", m[US]["nacked"], 0, "<=")


def snapshot(m):
    yield ("CPU <= 1.5 x live fan-out of as many", m["lavva, snapshot"]["cpu"],
           1.5 * m["lavva, live"]["cpu"], "<=")
    yield ("nothing lost, doubled or reordered",
           m["lavva, snapshot"]["wrong"] + m["lavva, live"]["wrong"], 0, "<=")


def idle(m):
    yield ("RSS a plain connection <= 1 KiB", m[US]["conn"], 1024, "<=")
    yield ("aim: RSS a TLS connection <= nchan's", m["lavva, TLS"]["conn"], m["nchan, TLS"]["conn"],
           "<=")


def resumed(m):
    yield ("customers that have everything", m[US]["caught"], 1000, ">=")
    yield ("nothing lost, doubled, reordered; no gap told", m[US]["wrong"], 0, "<=")


# ---- scenarios ----

FANOUT = ["load", "--subs", "1000", "--pubs", "16"]
OPEN = ["load", "--subs", "1000", "--pubs", "4", "--rate", "100", "--watch", "100"]
PUBLISH = ["load", "--subs", "0", "--pubs", "64"]
SNAPSHOT = ["snapshot", "--subs", "1000", "--messages", "1000", "--sub",
            "/ws?channels=c&snapshot=true"]
RESUME = ["resume", "--subs", "1000", "--messages", "2000", "--sub", "/ws?channels=c", "--once"]
IDLE = ["idle", "--subs", "10000", "--settle", "1"]
IDLE_TLS = ["idle", "--subs", "2000", "--settle", "1", "--tls"]


def hub(name, kind, args, **more):
    return Subject(name, kind, args, tool=TOOL, **more)


SCENARIOS = [
    Scenario("ws-fanout", "WebSocket fan-out 1 channel -> 1,000, 128 B JSON, window 16, memory",
             [hub(US, "hub-memory", FANOUT), hub("nchan", "nchan", FANOUT),
              hub("relay", "wsrelay", FANOUT)],
             ["cpu", "rate", "p50", "p99", "wrong", "cores", "gen"], fanout, seconds=4,
             note="16 publishers over HTTP, keep-alive, each with one message under way"),
    Scenario("ws-latency", "WebSocket latency, 100 msg/s x 1,000, open loop, memory",
             [hub(US, "hub-memory", OPEN), hub("nchan", "nchan", OPEN),
              hub("relay", "wsrelay", OPEN), hub("lavva, disk", "hub-disk", OPEN),
              hub("relay, disk", "wsrelay-disk", OPEN, once=True)],
             ["p50", "p99", "p999", "max", "cpu", "wrong"], latency, seconds=5,
             note="latency is that of 100 of the customers, spread evenly, which are read first"),
    Scenario("http-publish", "HTTP publish, keep-alive, 128 B, 64 connections; we: disk",
             [hub(US, "hub-disk", PUBLISH), hub("nchan", "nchan", PUBLISH),
              hub("lavva, memory", "hub-memory", PUBLISH),
              hub("relay, disk", "wsrelay-disk", PUBLISH)],
             ["rate", "cpu", "p50", "p99", "nacked", "cores", "gen"], publish, seconds=4,
             note="nchan answers from memory; we and the relay from the disk"),
    Scenario("ws-snapshot", "snapshot of 1,000 messages to 1,000 connecting customers, memory",
             [hub("lavva, snapshot", "hub-memory", SNAPSHOT),
              hub("lavva, live", "hub-memory", FANOUT)],
             ["cpu", "rate", "wrong", "gen"], snapshot, seconds=3,
             note="connecting and opening is in the snapshot's CPU"),
    Scenario("ws-idle", "RSS an idle WebSocket connection; 10,000 plain, 2,000 TLS",
             [hub(US, "hub-memory", IDLE), hub("nchan", "nchan", IDLE),
              hub("lavva, TLS", "hub-tls", IDLE_TLS), hub("nchan, TLS", "nchan-tls", IDLE_TLS)],
             ["conn", "rss"], idle, seconds=1),
    Scenario("ws-resume", "1,000 customers resume after kill -9 and restart, disk",
             [hub(US, "hub-disk", RESUME)],
             ["up", "catchup", "total", "caught", "wrong", "cpu", "cpu_ms"], resumed, seconds=1,
             note="up: exec to the first answer; catch-up: first connect to the last message of "
                  "the last customer, 800 to 1,000 messages each; total: exec to then"),
]
