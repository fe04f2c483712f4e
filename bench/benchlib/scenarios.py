"""The scenarios, and what each of them has to reach.

A scenario runs its subjects in turn (`alternate`), several times; a subject is a server and the
arguments of lavva-load, or another program that prints one JSON object. A target compares medians
of one run: `(text, value, bound, "<=" or ">=")`, where value and bound are computed from
M[subject][metric] and a KeyError means that a subject was not there.
"""
from dataclasses import dataclass, field

US = "lavva"


@dataclass
class Subject:
    name: str          # the column: lavva, mosquitto, nats, relay, disk …
    kind: str          # a kind of servers.KINDS, or "program"
    args: list = field(default_factory=list)   # of lavva-load, or the program's argument vector
    once: bool = False                         # one repeat is enough (untuned peers)
    tool: str = "lavva-load"                   # the generator; see hub.py for lavva-hubload


@dataclass
class Scenario:
    name: str
    title: str
    subjects: list
    columns: list      # metrics that are shown
    targets: object    # function of M, yields targets
    seconds: float = 5.0
    note: str = ""


def metrics(r):
    """The figures of one lavva-load result, in the units of the tables."""
    lat = r["latency_ns"]
    m = {"rate": r["delivered_per_s"] / 1e3, "p50": lat["p50"] / 1e3, "p99": lat["p99"] / 1e3,
         "p999": lat["p999"] / 1e3, "max": lat["max"] / 1e3,
         "wrong": r["lost"] + r["duplicated"] + r["reordered"] + r["unexpected"] + r["corrupt"],
         "lost": r["lost"], "gen": r["generator"]["cpu_s_per_million"], "late": r["late_share"]}
    if "server" in r:
        m.update(cpu=r["server"]["cpu_s_per_million"], rss=r["server"]["rss_end"] / 1e6,
                 conn=r["server"]["rss_per_conn"],
                 cores=r["server"]["cpu_s"] / max(r["seconds"], 1e-9))
    return m


UNITS = {"rate": ("k/s", "{:.0f}"), "cpu": ("CPU s/M", "{:.3f}"), "p50": ("p50 µs", "{:.0f}"),
         "p99": ("p99 µs", "{:.0f}"), "p999": ("p99.9 µs", "{:.0f}"), "max": ("max µs", "{:.0f}"),
         "wrong": ("wrong", "{:.0f}"), "lost": ("lost", "{:.0f}"), "conn": ("B/conn", "{:.0f}"),
         "gen": ("gen. CPU", "{:.3f}"), "rss": ("RSS MB", "{:.1f}"), "cores": ("cores", "{:.2f}"),
         "tw99": ("sync p99 µs", "{:.0f}"), "write": ("write MB/s", "{:.0f}"),
         "read": ("read MB/s", "{:.0f}"), "nacked": ("refused", "{:.0f}"),
         "up": ("up s", "{:.2f}"), "catchup": ("catch-up s", "{:.2f}"),
         "total": ("total s", "{:.2f}"), "caught": ("caught up", "{:.0f}"),
         "cpu_ms": ("CPU ms", "{:.0f}")}


def best(m, metric, peers, least):
    """The best figure among the peers that ran."""
    have = [m[p][metric] for p in peers if p in m and metric in m[p]]
    if not have:
        raise KeyError("/".join(peers))
    return min(have) if least else max(have)


def throughput(peers, cpu_share, rate_factor, clean=False):
    def targets(m):
        yield (f"CPU <= {cpu_share} x best peer", m[US]["cpu"],
               cpu_share * best(m, "cpu", peers, True), "<=")
        yield (f"rate >= {rate_factor} x best peer", m[US]["rate"],
               rate_factor * best(m, "rate", peers, False), ">=")
        if clean:
            yield ("nothing lost, doubled or reordered", m[US]["wrong"], 0, "<=")
        yield ("aim: CPU <= 2 x floor", m[US]["cpu"], 2 * m["relay"]["cpu"], "<=")
    return targets


def latency_memory(m):
    yield ("p50 <= 1.5 x mosquitto", m[US]["p50"], 1.5 * m["mosquitto"]["p50"], "<=")
    yield ("p99 <= 1.2 x mosquitto", m[US]["p99"], 1.2 * m["mosquitto"]["p99"], "<=")


def latency_disk(m):
    yield ("p50 <= 1.5 x relay", m[US]["p50"], 1.5 * m["relay"]["p50"], "<=")
    yield ("p99 <= bare fdatasync (time-weighted p99) + 1 ms", m[US]["p99"],
           m["disk"]["tw99"] + 1000, "<=")


def idle(m):
    yield ("RSS a connection <= 0.7 x mosquitto", m[US]["conn"], 0.7 * m["mosquitto"]["conn"], "<=")


def append(m):
    yield ("append >= 0.8 x bare file", m[US]["write"], 0.8 * m["disk"]["write"], ">=")
    yield ("replay >= 0.7 x bare file", m[US]["read"], 0.7 * m["disk"]["read"], ">=")


def channels(m):
    yield ("CPU <= 1.3 x one channel", m["lavva, 10,000 channels"]["cpu"],
           1.3 * m["lavva, one channel"]["cpu"], "<=")


P2P0 = ["--pattern", "p2p", "--window", "64"]
P2P1 = [*P2P0, "--qos", "1"]
FANIN = ["--pattern", "fanin", "--qos", "1", "--window", "8"]
FANOUT = ["--pattern", "fanout", "--window", "16"]
OPEN = ["--pattern", "p2p", "--qos", "1", "--rate", "10000", "--window", "1000", "--objective", "1"]
IDLE = ["--pattern", "idle", "--idle", "10000"]
MANY = ["--pubs", "100", "--subs", "1", "--filter", "+/t", "--qos", "1", "--rate", "10000",
        "--window", "1000"]
# With Nagle (untuned) mosquitto batches, and can be cheaper: the better of the two is the peer.
MOSQUITTOS = ["mosquitto", "mosquitto untuned"]
THROUGHPUT = ["cpu", "rate", "p50", "p99", "wrong", "cores", "gen"]

SCENARIOS = [
    Scenario("p2p-qos0", "p2p 10 -> 10, QoS 0, closed loop, window 64, memory",
             [Subject(US, "lavva-memory", P2P0), Subject("nats", "nats", P2P0),
              Subject("mosquitto", "mosquitto", P2P0), Subject("relay", "relay-memory", P2P0),
              Subject("relay, no file", "relay", P2P0)],
             THROUGHPUT, throughput(["nats", "mosquitto"], 0.6, 1.2)),
    Scenario("p2p-qos1", "p2p 10 -> 10, QoS 1, window 64, disk",
             [Subject(US, "lavva-disk", P2P1), Subject("mosquitto", "mosquitto", P2P1),
              Subject("nats", "nats", P2P1, once=True),
              Subject("mosquitto untuned", "mosquitto-untuned", P2P1),
              Subject("relay", "relay-disk", P2P1), Subject("relay, growing file", "relay-grow", P2P1)],
             THROUGHPUT, throughput(MOSQUITTOS, 0.15, 4, clean=True),
             note="mosquitto acknowledges from memory; we and the relay from the disk"),
    Scenario("fanin-qos1", "fan-in 100 -> 1, QoS 1, window 8, disk",
             [Subject(US, "lavva-disk", FANIN), Subject("mosquitto", "mosquitto", FANIN),
              Subject("mosquitto untuned", "mosquitto-untuned", FANIN),
              Subject("relay", "relay-disk", FANIN),
              Subject("relay, growing file", "relay-grow", FANIN)],
             THROUGHPUT, throughput(MOSQUITTOS, 0.2, 4, clean=True)),
    Scenario("fanout-qos0", "fan-out 1 -> 1,000, QoS 0, window 16, memory",
             [Subject(US, "lavva-memory", FANOUT), Subject("nats", "nats", FANOUT),
              Subject("mosquitto", "mosquitto", FANOUT), Subject("relay", "relay-memory", FANOUT)],
             THROUGHPUT, throughput(["nats", "mosquitto"], 0.3, 2)),
    Scenario("latency-memory", "latency at 10 k msg/s, p2p QoS 1, open loop, memory",
             [Subject(US, "lavva-memory", OPEN), Subject("mosquitto", "mosquitto", OPEN),
              Subject("relay", "relay-memory", OPEN)],
             ["p50", "p99", "p999", "max", "cpu", "wrong"], latency_memory),
    Scenario("latency-disk", "latency at 10 k msg/s, p2p QoS 1, open loop, disk",
             [Subject(US, "lavva-disk", OPEN), Subject("relay", "relay-disk", OPEN),
              Subject("disk", "program",
                      ["bench/lavva-disk", "latency", "@DIR@/yard", "--rate", "10000", "--seconds",
                       "@SECONDS@", "--ring", str(64 << 20)])],
             ["p50", "p99", "p999", "max", "tw99", "cpu", "wrong"], latency_disk),
    Scenario("idle", "RSS per idle connection, 10,000 of them",
             [Subject(US, "lavva-memory", IDLE), Subject("mosquitto", "mosquitto", IDLE),
              Subject("nats", "nats", IDLE, once=True), Subject("relay", "relay", IDLE)],
             ["conn", "rss"], idle, seconds=1),
    Scenario("append", "log append, sustained, 5 ms commit; cold replay",
             [Subject(US, "program", ["bench/log_bench", "--data", "@DIR@/data", "--seconds",
                                      "@SECONDS@", "--json"]),
              Subject("disk", "program", ["bench/lavva-disk", "append", "@DIR@/yard", "--seconds",
                                          "@SECONDS@"])],
             ["write", "read"], append, seconds=30),
    Scenario("channels10k", "10,000 channels, one message a second each, disk",
             [Subject("lavva, 10,000 channels", "lavva-disk",
                      [*MANY, "--topics", "10000", "--topic", "c%i/t"]),
              Subject("lavva, one channel", "lavva-disk",
                      [*MANY, "--topics", "10000", "--topic", "c/t%i", "--filter", "c/#"])],
             ["cpu", "rate", "p50", "p99", "wrong", "rss"], channels),
]
