"""Guarantee 4: nothing is silent. The equations hold to the message, from /metrics, under mixed
load with overload, drops, disconnects and slow subscribers."""
import collections
import random
import re
import socket
import threading

import pytest

import raw
from harness import wait
from lvconf import ALL, app, doc, key, key_text
from test_15_tls import make_ca

pytestmark = pytest.mark.lavva_only


class Books:
    """One scrape, as the terms of the equations."""

    def __init__(self, m):
        self.m = m
        g, h = "lavva_gateway_", "lavva_hub_"
        self.offered = m[g + "offered_messages_total"]
        self.rejected = sum(v for k, v in m.items() if k.startswith(g + "rejected_messages_total"))
        self.gw_in, self.gw_out = m[g + "in_messages_total"], m[g + "out_messages_total"]
        self.br_in, self.br_out = (m[f"lavva_broker_{x}_messages_total"] for x in ("in", "out"))
        self.hub_in, self.hub_out = m[h + "in_messages_total"], m[h + "out_messages_total"]
        self.owed, self.pending = m[h + "owed_messages_total"], m[h + "pending_messages"]
        self.drops = {stage: sum(v for k, v in m.items() if k.startswith(
            f'lavva_drops_total{{stage="{stage}"')) for stage in ("gateway", "hub")}

    def drop(self, reason, stage="hub"):
        return self.m.get(f'lavva_drops_total{{stage="{stage}",reason="{reason}"}}', 0)

    def reject(self, reason):
        return self.m.get(f'lavva_gateway_rejected_messages_total{{reason="{reason}"}}', 0)

    def wrong(self):
        """What does not add up, as texts."""
        eq = [("offered = in + rejected", self.offered, self.gw_in + self.rejected),
              ("in = out + gateway drops", self.gw_in, self.gw_out + self.drops["gateway"]),
              ("broker in = out", self.br_in, self.gw_out),
              ("hub in = broker out", self.hub_in, self.br_out),
              ("owed = delivered + drops + pending", self.owed,
               self.hub_out + self.drops["hub"] + self.pending)]
        return [f"{name}: {a:.0f} != {b:.0f}" for name, a, b in eq if a != b]

    def __str__(self):
        return (f"offered {self.offered:.0f} in {self.gw_in:.0f} rejected {self.rejected:.0f} out "
                f"{self.gw_out:.0f} broker {self.br_in:.0f}/{self.br_out:.0f} owed "
                f"{self.owed:.0f} delivered {self.hub_out:.0f} drops {self.drops} pending "
                f"{self.pending:.0f}")


def at_rest(s):
    """The books once nothing moves any more: two scrapes are equal in all that counts messages and
    nothing is on its way to the broker."""
    last = None

    def quiet():
        nonlocal last
        m = s.metrics()
        now = {k: v for k, v in m.items() if "messages" in k or "drops" in k}
        same = now == last and m["lavva_publish_inflight_messages"] == 0
        last = now
        return same and Books(m)
    return wait(quiet, "the counters to come to rest", step=0.15)


LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def split(raw_metrics, *names):
    """{values of these labels: {metric with its other labels: value}}, of metrics that have them
    all; what is by other labels as well is added up."""
    out = {}
    for k, v in raw_metrics.items():
        name, _, labels = k.partition("{")
        pairs = LABEL.findall(labels)
        have = dict(pairs)
        if not all(n in have for n in names):
            continue
        rest = ",".join(f'{n}="{x}"' for n, x in pairs if n not in (*names, "app", "protocol"))
        name += f"{{{rest}}}" if rest else ""
        of = out.setdefault(tuple(have[n] for n in names), {})
        of[name] = of.get(name, 0) + v
    return out


def wrong_parts(raw_metrics):
    """What does not add up by app, by app and protocol, or by channel."""
    bad = []
    apps = split(raw_metrics, "app")
    for (name,), m in apps.items():
        bad += [f"app {name!r}: {w}" for w in Books(collections.defaultdict(float, m)).wrong()]
        for channel, total in (("in_messages", m.get("lavva_gateway_in_messages_total", 0)),
                               ("in_bytes", m.get("lavva_gateway_in_bytes_total", 0)),
                               ("stored_messages", m.get("lavva_gateway_out_messages_total", 0)),
                               ("out_bytes", m.get("lavva_hub_out_bytes_total", 0))):
            got = sum(v for k, v in m.items() if k.startswith(f"lavva_channel_{channel}_total"))
            if got != total:
                bad.append(f"app {name!r}: channels' {channel} {got:.0f} != {total:.0f}")
        for stage in ("gateway", "hub"):
            one, all_of = (sum(v for k, v in m.items() if k.startswith(
                f'lavva_{x}drops_total{{stage="{stage}"')) for x in ("channel_", ""))
            if one != all_of:
                bad.append(f"app {name!r}: channels' {stage} drops {one:.0f} != {all_of:.0f}")
    for who, m in split(raw_metrics, "app", "protocol").items():
        b = Books(collections.defaultdict(float, m))
        if b.offered != b.gw_in + b.rejected or b.gw_in != b.gw_out + b.drops["gateway"]:
            bad.append(f"{who}: {b}")
    return bad


def balanced(s):
    b = at_rest(s)
    assert not b.wrong(), f"{b.wrong()}\n{b}"
    bad = wrong_parts(s.metrics(raw=True))
    assert not bad, "\n".join(bad)
    return b


@pytest.fixture
def s(own_server):
    return own_server(config=doc([app()])).start()


@pytest.mark.tsan
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_exact_numbers(s, qos, v):
    """N messages to M subscribers: each counter says exactly that."""
    subs = [s.connected(v=v) for _ in range(3)]
    for c in subs:
        c.subscribe("e2e/x", qos=qos)
    pub = s.connected(v=v)
    b0 = at_rest(s)
    n = 50
    for i in range(n):
        pub.publish("e2e/x", b"12345", qos)
    pub.ping()
    for c in subs:
        c.collect(n)
    b = balanced(s)
    assert b.offered - b0.offered == b.gw_in - b0.gw_in == b.br_in - b0.br_in == n
    assert b.owed - b0.owed == b.hub_out - b0.hub_out == 3 * n
    d = {k: v - b0.m[k] for k, v in b.m.items() if k in b0.m}
    assert d["lavva_gateway_in_bytes_total"] == d["lavva_gateway_out_bytes_total"] == 5 * n
    assert d["lavva_broker_in_bytes_total"] == 5 * n
    assert d["lavva_hub_out_bytes_total"] == 3 * 5 * n
    assert b.pending == 0


def test_nobody_listens(s):
    pub = s.connected()
    for i in range(20):
        pub.publish("e2e/none", b"x", i % 3)
    pub.ping()
    b = balanced(s)
    assert b.gw_in == b.br_in == 20 and b.owed == b.hub_out == 0


def test_overlaps_and_no_local_are_owed_once_or_never(s):
    c = s.connected()
    c.subscribe(("a/#", raw.sub_options(1)), ("a/+", raw.sub_options(0)),
                ("b/x", raw.sub_options(1, no_local=True)))
    c.send(raw.publish("a/x", b"1") + raw.publish("b/x", b"2"))
    c.message("a/x")
    c.ping()
    b = balanced(s)
    assert b.owed == b.hub_out == 1


def test_rejections(own_server):
    keys = [key("full", ALL, ALL), key("out", ["out/#"], [])]
    s = own_server(config=doc([app(keys=keys, limits={"channels": 3}, channels=[
        {"name": "j", "content": "json"}])])).start()
    c = s.client(user="dev", password=key_text("out"))
    c.connect()
    for i in range(5):
        c.publish("in/x", b"no", 1, rc=0x87)
    full = s.connected()
    for i in range(4):
        full.publish("$SYS/x", b"no", 1)
    full.publish("j/x", b"{", 1, rc=0x99)
    full.send(raw.publish("j/x", b"1", 2, pid=500))
    full.expect(raw.PUBREC)
    for i in range(3):
        full.send(raw.publish("j/x", b"1", 2, pid=500, dup=True))
        full.expect(raw.PUBREC)
    full.send(raw.ack(raw.PUBREL, 500))
    full.expect(raw.PUBCOMP)
    quota = 0
    for i in range(6):
        full.send(raw.publish(f"c{i}/x", b"1", 1, pid=i + 1))
        quota += full.expect(raw.PUBACK).rc == 0x97
    assert quota >= 3
    b = balanced(s)
    assert (b.reject("forbidden"), b.reject("sys"), b.reject("payload"), b.reject("duplicate"),
            b.reject("quota")) == (5, 4, 1, 3, quota)
    assert b.offered == 5 + 4 + 1 + 4 + 6


def test_offline_is_pending_until_it_is_delivered_or_ends(s):
    keep = {"session_expiry": 3600}
    c, d = (s.client(x, clean=False, properties=keep) for x in ("stays", "ends"))
    for x in (c, d):
        x.connect()
        x.subscribe("q/#", qos=1)
        x.disconnect()
    pub = s.connected()
    for i in range(30):
        pub.publish("q/x", str(i), 1)
    assert balanced(s).pending == 60
    d.connect(clean=True, properties=None, present=False)
    b = balanced(s)
    assert b.pending == 30 and b.drop("session-ended") == 30
    c.connect(present=True)
    c.collect(10)
    c.drop(rst=True)
    b = balanced(s)
    assert b.pending == 20 and b.hub_out >= 10
    c.connect(present=True)
    c.collect(20)
    b = balanced(s)
    assert b.pending == 0 and b.hub_out == 30
    assert b.m["lavva_hub_redelivered_messages_total"] <= 20


def test_pending_after_a_restart(s):
    """A new incarnation begins with what it still owes; the equations hold in both."""
    c = s.client("keeper", clean=False, properties={"session_expiry": 3600})
    c.connect()
    c.subscribe("q/#", qos=1)
    c.disconnect()
    pub = s.connected()
    for i in range(25):
        pub.publish("q/x", str(i), 1)
    s.drop_clients()
    s.kill()
    s.start()
    c.connect(present=True)
    c.collect(25)
    c.ping()
    b = balanced(s)
    assert b.pending == 0 and b.hub_out == 25


def test_expired(s):
    c = s.client("keeper", clean=False, properties={"session_expiry": 3600})
    c.connect()
    c.subscribe("x/#", qos=1)
    c.disconnect()
    pub = s.connected()
    for i in range(10):
        pub.publish("x/a", b"short", 1, properties={"message_expiry": 1})
    pub.publish("x/a", b"long", 1)
    clock = s.client()
    clock.connect(keepalive=1)
    clock.closed(timeout=12)
    c.connect(present=True)
    c.message("x/a", b"long")
    b = balanced(s)
    assert b.drop("expired") == 10 and b.hub_out == 1


def test_too_big_for_the_receiver(s):
    c = s.client(properties={"maximum_packet_size": 100})
    c.connect()
    c.subscribe("b/#", qos=1)
    pub = s.connected()
    for i in range(7):
        pub.publish("b/x", b"x" * 200, 1)
    pub.publish("b/x", b"ok", 1)
    c.message("b/x", b"ok")
    b = balanced(s)
    assert b.drop("too-big") == 7 and b.hub_out == 1


def test_retained_and_replays_are_apart(s):
    pub = s.connected()
    pub.publish("r/x", b"kept", 1, retain=True)
    for _ in range(3):
        c = s.connected()
        c.subscribe("r/x", qos=1)
        c.message("r/x", b"kept")
    b = balanced(s)
    assert b.owed == b.hub_out == 0 and b.m["lavva_hub_retained_messages_total"] == 3


def test_wills_are_offered_when_published(s):
    c = s.client(will=raw.Will("w/x", b"bye", 1))
    c.connect()
    assert balanced(s).offered == 0
    sub = s.connected()
    sub.subscribe("w/x", qos=1)
    c.drop()
    sub.message("w/x", b"bye")
    b = balanced(s)
    assert b.offered == b.gw_in == b.hub_out == 1


def test_shared_group_owes_once(s):
    ms = [s.connected() for _ in range(3)]
    for c in ms:
        c.subscribe("$share/g/sh/#", qos=1)
    pub = s.connected()
    for i in range(30):
        pub.publish("sh/x", str(i), 1)
    assert sum(len(s.barrier(pub, c)) for c in ms) == 30
    b = balanced(s)
    assert b.owed - 3 == b.hub_out - 3 == 30        # three barriers


class Load:
    """A bit of everything at once, for a number of steps each, from one seed."""

    def __init__(self, s, seed, user="dev", weak="out"):
        self.s, self.rng, self.user, self.weak = s, random.Random(seed), user, weak
        self.stop = threading.Event()
        self.errors, self.count = [], {"forbidden": 0, "sys": 0}
        self.lock = threading.Lock()
        self.may_cut = False        # the policy may end a reader that does not keep up

    def guard(self, fn, *args):
        def run():
            try:
                fn(*args)
            except (raw.Closed, OSError) as e:
                if not self.stop.is_set() and not (self.may_cut and "reader" in fn.__name__):
                    self.errors.append(f"{fn.__name__}{args}: {e!r}")
            except AssertionError as e:
                self.errors.append(f"{fn.__name__}{args}: {e}")
        th = threading.Thread(target=run, daemon=True)
        th.start()
        return th

    def flood(self, k):
        """QoS 0 as fast as the socket takes it."""
        c, body = self.s.connected(), b"f" * 3000
        for i in range(1500):
            c.send(raw.publish(f"flood/{k}", body) * 4)
        c.ping()
        c.disconnect()

    def careful(self, qos, k):
        c, rng = self.s.connected(), random.Random(k)
        for i in range(250):
            p = {"message_expiry": 1} if rng.random() < 0.1 else None
            c.publish(rng.choice(["careful/a", "careful/b", "conf/x", "mem/x"]),
                      b"c" * rng.randrange(900), qos, properties=p)
        c.disconnect()

    def naughty(self):
        c = self.s.client(user=self.user, password=key_text(self.weak))
        c.connect()
        for i in range(40):
            c.publish("in/x", b"no", 1, rc=0x87)
            c.publish("$SYS/x", b"no", 1, rc=self.sys_rc)
        with self.lock:
            self.count["forbidden"] += 40
        c.disconnect()

    sys_rc = 0

    def flapper(self, k):
        """Connects, reads a little, is gone without a word."""
        rng = random.Random(k)
        for i in range(30):
            c = self.s.connected()
            c.subscribe("careful/#", "flood/#", qos=rng.choice([0, 1, 2]))
            for _ in range(rng.randrange(20)):
                try:
                    c.recv(0.05)
                except TimeoutError:
                    break
            c.drop(rst=rng.random() < 0.5)

    def ender(self, k):
        """A session that ends with messages waiting."""
        for i in range(6):
            c = self.s.client(f"ender{k}", clean=False, properties={"session_expiry": 60})
            c.connect()
            c.subscribe("careful/#", qos=1)
            try:
                c.recv(0.05)
            except TimeoutError:
                pass
            c.drop(rst=True)
            d = self.s.client(f"ender{k}")
            d.connect(clean=True)
            d.drop()

    def reader(self, filters, qos, props=None):
        c = self.s.client(properties=props)
        c.connect()
        c.subscribe(*filters, qos=qos)
        open_rel = set()
        while not self.stop.is_set():
            try:
                p = c.recv(0.2)
            except TimeoutError:
                continue
            if p.kind == raw.PUBREL:
                open_rel.discard(p.pid)
                c.send(raw.ack(raw.PUBCOMP, p.pid))
            elif p.kind != raw.PUBLISH:
                raise raw.Closed(f"unexpected {p}")
            elif p.qos == 1:
                c.send(raw.ack(raw.PUBACK, p.pid))
            elif p.qos == 2:
                c.send(raw.ack(raw.PUBREC, p.pid))
        c.disconnect()


@pytest.mark.timeout(150)
@pytest.mark.parametrize("policy", ["drop-oldest", "disconnect", "conflate"])
def test_mixed_load(own_server, policy):
    keys = [key("full", ALL, ALL), key("out", ["out/#"], [])]
    chans = [{"name": "flood", "durability": "memory", "slow": policy},
             {"name": "conf", "slow": "conflate"}, {"name": "mem", "durability": "memory"}]
    lim = {"queue": "64KiB", "packet": "32KiB", "inflight": 50, "queue_messages": 200}
    s = own_server(config=doc([app(keys=keys, channels=chans, limits=lim)], limits=lim,
                              server={"publish_queue": "1MiB"})).start()
    load = Load(s, 1)
    load.may_cut = policy == "disconnect"
    lazy = []
    for _ in range(3):
        c = s.client()
        c.open()
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.connect()
        c.subscribe("flood/#", "conf/#")
        lazy.append(c)
    away = s.client("away", clean=False, properties={"session_expiry": 3600})
    away.connect()
    away.subscribe("careful/#", "mem/#", qos=2)
    away.disconnect()
    readers = [load.guard(load.reader, ["#"], 1), load.guard(load.reader, ["careful/#", "#"], 2),
               load.guard(load.reader, ["flood/#"], 0),
               load.guard(load.reader, ["#"], 1, {"receive_maximum": 2}),
               load.guard(load.reader, ["careful/#"], 1, {"maximum_packet_size": 400}),
               *[load.guard(load.reader, ["$share/g/careful/#"], 1) for _ in range(2)]]
    work = [*[load.guard(load.flood, k) for k in range(2)],
            *[load.guard(load.careful, q, q) for q in (0, 1, 2)], load.guard(load.naughty),
            *[load.guard(load.flapper, k) for k in range(2)], load.guard(load.ender, 0)]
    while any(th.is_alive() for th in work):
        b = Books(s.metrics())          # under load nothing may run ahead of its source
        assert b.gw_out <= b.gw_in <= b.offered and b.br_in <= b.gw_in + b.drops["gateway"], str(b)
        for th in work:
            th.join(0.02)
    for c in lazy[:2]:
        c.drop(rst=True)
    b = balanced(s)
    load.stop.set()
    for th in readers:
        th.join(5)
    b = balanced(s)
    assert not load.errors, load.errors
    assert b.offered == 2 * 6000 + 3 * 250 + 80
    assert b.reject("forbidden") == 40 and b.reject("sys") == 40
    assert b.drop("disconnected") + b.drop("slow") > 0
    lazy[2].drop()
    away.connect(present=True)
    s.barrier(s.connected(), away)
    away.disconnect(0, {"session_expiry": 0})
    b = balanced(s)
    assert b.pending == 0, str(b)


def test_send_queue_of_a_lost_connection(s):
    """What waits in send queues when a connection ends is a drop `disconnected`."""
    c = s.client()
    c.open()
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    c.connect()
    c.subscribe("d/#")
    pub = s.connected()
    for i in range(300):
        pub.publish("d/x", b"y" * 20000, 1)
    c.drop(rst=True)
    b = balanced(s)
    assert b.drop("disconnected") + b.drop("slow") > 0 and b.owed == 300
    assert b.hub_out + b.drops["hub"] == 300


class As:
    """A server as another app, or another protocol, sees it."""

    def __init__(self, s, **defaults):
        self.s, self.defaults = s, defaults

    def client(self, *args, **kw):
        return self.s.client(*args, **{**self.defaults, **kw})

    def connected(self, *args, **kw):
        c = self.client(*args, **kw)
        c.connect()
        return c


@pytest.mark.timeout(150)
def test_two_apps_and_two_protocols(own_server, tmp_path):
    """The same load from two apps, one over TLS: each has its own books, which add up."""
    ca, issue = make_ca(str(tmp_path), "ca")
    cert, cert_key = issue("server", "DNS:localhost")
    apps = [app("dev", [key("full", ALL, ALL), key("out", ["out/#"], [])],
                channels=[{"name": "conf", "slow": "conflate"}]),
            app("two", [key("full2", ALL, ALL), key("out2", ["out/#"], [])],
                channels=[{"name": "flood", "durability": "memory"}])]
    s = own_server(config=doc(apps, listen=[{"mqtts": "127.0.0.1:0"}],
                              limits={"queue": "64KiB", "packet": "32KiB",
                                      "queue_messages": 200},
                              metrics={"channels": 2},
                              server={"tls": {"certificate": cert, "key": cert_key}})).start()
    s.ca = ca
    two = As(s, user="two", password=key_text("full2"), tls=s.tls(), addr=s.mqtts)
    sides = [(Load(s, 1), s, "dev", "mqtt"), (Load(two, 2, "two", "out2"), two, "two", "mqtts")]
    lazy, readers, work = [], [], []
    for load, at, _, _ in sides:
        c = at.client()
        c.open()
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.connect()
        c.subscribe("flood/#", "conf/#")
        lazy.append(c)
        readers += [load.guard(load.reader, ["#"], 1), load.guard(load.reader, ["careful/#"], 2),
                    load.guard(load.reader, ["$share/g/careful/#"], 1)]
        work += [load.guard(load.flood, 0), *[load.guard(load.careful, q, q) for q in (0, 1, 2)],
                 load.guard(load.naughty), load.guard(load.flapper, 0), load.guard(load.ender, 0)]
    for th in work:
        th.join(60)
    for c in lazy:
        c.drop(rst=True)
    balanced(s)
    for load, *_ in sides:
        load.stop.set()
    for th in readers:
        th.join(5)
    balanced(s)
    m = s.metrics(raw=True)
    for load, _, name, proto in sides:
        assert not load.errors, load.errors
        b = Books(collections.defaultdict(float, split(m, "app")[(name,)]))
        assert b.offered == 6000 + 3 * 250 + 80, f"{name}: {b}"
        assert b.reject("forbidden") == b.reject("sys") == 40 and b.hub_out > 0
        assert b.drop("disconnected") + b.drop("slow") > 0
        for what in ("gateway_in", "gateway_out", "hub_out"):
            by = {p: v.get(f"lavva_{what}_messages_total", 0)
                  for (a, p), v in split(m, "app", "protocol").items() if a == name}
            assert {p for p, v in by.items() if v} == {proto}, f"{what}: {by}"
        names = {k[0] for k in split({k: v for k, v in m.items() if f'app="{name}"' in k},
                                     "channel")}
        assert len(names - {"_other", "_unknown"}) == 2 and "_other" in names, names
