"""Metering: what is counted for an app, against what its clients saw, over every protocol and
across crashes. docs/usage.md has the definitions."""
import asyncio
import base64
import contextlib
import datetime
import json
import os
import sqlite3
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import lvconf
import pytest
import raw
import test_34_ws_publish
import websockets

from diskfault import ENDLESS, Disk
from harness import DEADLINE, wait

pytestmark = pytest.mark.lavva_only
STEP = 5 * 1024
KEEP = {"session_expiry": 3600}


def steps(n):
    return max(1, -(-n // STEP))


class Tally:
    """Steps and bytes of messages, counted on the client's side."""

    def __init__(self):
        self.steps = self.bytes = self.n = 0

    def add(self, topic, value, props=()):
        channel, slash, key = topic.partition("/")
        if not channel or channel.startswith("$"):
            channel, key = "_", topic
        n = len(channel) + len(key) + len(value)
        n += sum(len(a.encode()) + len(b.encode()) for a, b in props)
        self.steps += steps(n)
        self.bytes += n
        self.n += 1


def usage(s, app="dev"):
    """The counters of an app in /metrics, by unit."""
    out = {}
    for name, value in s.metrics(raw=True).items():
        if name.startswith("lavva_usage_") and f'app="{app}"' in name:
            out[name[len("lavva_usage_"):name.index("_total{")]] = int(value)
    return out


def settles(s, app="dev", **want):
    """Waits for these units; they may not go beyond."""
    def there():
        have = usage(s, app)
        have = {k: have.get(k, 0) for k in want}
        assert all(have[k] <= want[k] for k in want), (have, want)
        return have == want
    try:
        wait(there, "")
    except AssertionError as e:
        raise AssertionError(f"{usage(s, app)} is not {want}: {e}") from None


def post(s, topic, value, secret="full", **labels):
    """One message over HTTP, acknowledged."""
    channel, slash, key = topic.partition("/")
    q = urllib.parse.urlencode({**({"key": key} if slash else {}), **labels})
    r = urllib.request.Request(
        f"http://{s.http[0]}:{s.http[1]}/v1/channels/{channel}/messages?{q}", data=value,
        method="POST", headers={"Authorization": "Bearer " + lvconf.key_text(secret)})
    with urllib.request.urlopen(r, timeout=DEADLINE) as a:
        return json.load(a)


def url(s, path, scheme, secret="full", **q):
    q = urllib.parse.urlencode({"apiKey": lvconf.key_text(secret), **q}, safe=",:/")
    return f"{scheme}://{s.http[0]}:{s.http[1]}{path}?{q}"


@pytest.fixture
def s(own_server):
    """Two apps; the first has two channels with other durabilities."""
    apps = [lvconf.app(channels=[{"name": "mem", "durability": "memory"}]),
            lvconf.app("two", [lvconf.key("full2", lvconf.ALL, lvconf.ALL)])]
    return own_server(config=lvconf.doc(apps)).start()


class Watcher:
    """A customer of the hub in a thread: what it gets of a channel's data, counted."""

    def __init__(self, s, channel, sse=False, **q):
        self.s, self.channel, self.sse, self.q = s, channel, sse, q
        self.live, self.error, self.greeted = Tally(), None, threading.Event()
        self.values = []
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        assert self.greeted.wait(DEADLINE), self.error

    def take(self, text):
        m = json.loads(text)
        if m["typ"] == 1:
            self.size = m["val"]["channel_size"]
            self.left = self.size if self.q.get("snapshot") == "true" else 0
            self.greeted.set()
            return
        if m["typ"] != 7:
            return
        if self.left:
            self.left -= 1
            return
        topic = m["chn"] + ("/" + m["key"] if m["key"] else "")
        self.values.append(m["val"])
        props = [(k, m[k]) for k in ("tag", "cat") if m.get(k)]
        self.live.add(topic, m["val"] if isinstance(m["val"], str) else json.dumps(m["val"]), props)

    def run(self):
        try:
            if self.sse:
                self.events()
            else:
                asyncio.run(self.frames())
        except (OSError, ValueError, websockets.ConnectionClosed) as e:
            self.error = e

    async def frames(self):
        target = url(self.s, "/ws", "ws", channels=self.channel, **self.q)
        async with websockets.connect(target, max_size=None) as ws:
            self.close = lambda loop=asyncio.get_running_loop(): asyncio.run_coroutine_threadsafe(
                ws.close(), loop)
            while True:
                self.take(await ws.recv())

    def events(self):
        path = f"/v1/channels/{self.channel}/events"
        with urllib.request.urlopen(url(self.s, path, "http", **self.q), timeout=DEADLINE) as r:
            self.close = r.fp.raw._sock.close if hasattr(r.fp, "raw") else r.close
            for line in r:
                if line.startswith(b"data: "):
                    self.take(line[6:].decode())


def value(n):
    """A text of n bytes, which the hub does not take for JSON."""
    return ("v" * n).encode()


SIZES = [0, 1, 100, 5000, 5200, 10300, 17000, 70000]


@pytest.mark.tsan
def test_mixed_load(s):
    """Every way in and every way out; sizes around steps, buffers and blocks."""
    ways_in, out = Tally(), Tally()
    subs = []
    for i, qos in enumerate((0, 0, 0, 0, 0, 1, 2)):     # five at QoS 0 share frames
        c = s.connected(f"sub{i}", v=4 if i == 1 else 5)
        c.subscribe(("data/#", qos), ("mem/#", qos), ("/odd/#", qos))
        subs.append(c)
    kept = s.client("kept", clean=False, properties=KEEP)
    kept.connect()
    kept.subscribe(("data/#", 1), ("mem/#", 2))
    watchers = [Watcher(s, "data", snapshot="false"), Watcher(s, "data", snapshot="false"),
                Watcher(s, "data", sse=True, snapshot="false")]
    pub = s.connected("pub")
    sent = []

    def publish(topic, val, qos, props=()):
        pub.publish(topic, val, qos, properties={"user": list(props)} if props else None)
        sent.append((topic, val, props))

    for n in SIZES:
        for qos in (0, 1, 2):
            publish("data/k", value(n), qos)
            publish("mem/k/l", value(n), qos)
    publish("/odd/topic", b"x", 1)
    publish("data", b"no key", 1, [("tag", "t"), ("other", "é"), ("", "")])
    publish("data/p", value(5100), 1, [("cat", "c" * 40)])
    for n in SIZES[1:]:
        post(s, "data/h", value(n), tag="label")
        sent.append(("data/h", value(n), [("tag", "label")]))
    ws = test_34_ws_publish.Publisher(s, "data")
    for n in SIZES[1:]:
        ws.ask(id=n, key="w", cat="c", b64=base64.b64encode(value(n)).decode())
        sent.append(("data/w", value(n), [("cat", "c")]))
    for topic, val, props in sent:
        ways_in.add(topic, val.decode(), props)
    for c in subs + [kept]:
        mine = [m for m in sent if c is not kept or not m[0].startswith("/")]
        got = c.collect(len(mine))
        assert sorted(p.payload for p in got) == sorted(m[1] for m in mine)
        for topic, val, props in mine:
            out.add(topic, val.decode(), props)
    data = [m for m in sent if m[0].startswith("data")]
    for w in watchers:
        wait(lambda w=w: w.live.n >= len(data) or w.error, "the customers' messages")
        assert not w.error and w.live.n == len(data)
        for topic, val, props in data:
            out.add(topic, val.decode(), props)
    settles(s, messages_in=ways_in.steps, bytes_in=ways_in.bytes, messages_out=out.steps,
            bytes_out=out.bytes, history_reads=0,
            connection_minutes=len(subs) + len(watchers) + 3)   # and kept, pub, ws
    assert usage(s, "two").get("messages_in", 0) == 0


def test_apps_apart(s):
    a, b = s.connected("a"), s.client("b", user="two", password=lvconf.key_text("full2"))
    b.connect()
    b.subscribe("#", qos=1)
    a.publish("x/1", b"mine", 1)
    b.publish("x/1", value(6000), 1)
    b.message("x/1")
    settles(s, messages_in=1, messages_out=0)
    settles(s, "two", messages_in=2, messages_out=2, bytes_in=6002, bytes_out=6002)


def test_refused_and_control_are_free(s):
    """Nothing for what is not stored, for $SYS, pings, a repeat of a QoS 2 publish; clearing a
    retained message is a publish like others."""
    c = s.connected("c")
    c.subscribe("$SYS/#", "x/#")
    c.publish("$SYS/x", b"dropped", 1)
    c.ping()
    for dup in (False, True):
        c.send(raw.publish("y/2", b"once", 2, pid=77, dup=dup))
        c.answer(raw.PUBREC, pid=77)
    c.publish("y/r", b"", 1, retain=True)
    settles(s, messages_in=2, messages_out=0)


def test_history(s):
    """Snapshots, replays and retained messages are history reads, and no deliveries."""
    for i in range(3):
        post(s, "h/k", value(6000))
    pub = s.connected("pub")
    pub.publish("h/r", value(11000), 1, retain=True)
    settles(s, messages_in=3 * 2 + 3, history_reads=0)
    have = 0
    with urllib.request.urlopen(url(s, "/snapshot", "http", channels="h"), timeout=DEADLINE) as r:
        assert len(json.load(r)["Snapshot"]["h"]) == 4
    have += 9
    settles(s, history_reads=have)
    w = Watcher(s, "h", snapshot="true")
    assert w.size == 4
    have += 9
    settles(s, history_reads=have)
    Watcher(s, "h", sse=True, snapshot="true")
    have += 9
    settles(s, history_reads=have)
    Watcher(s, "h", since="start")
    have += 9
    settles(s, history_reads=have, messages_out=0)
    c = s.connected("late")
    c.subscribe("h/#", qos=1)
    c.message("h/r", retain=True)
    have += 3
    settles(s, history_reads=have, messages_out=0)


def test_conflated_counts_once(s):
    w = Watcher(s, "c", snapshot="false", conflate="300")
    for i in range(50):
        post(s, "c/k", b'"%d"' % i)
    wait(lambda: w.values and w.values[-1] == "49", "the newest value")
    assert w.live.n < 50
    settles(s, messages_in=50, messages_out=w.live.n)


def test_gone_customer_is_not_charged(s):
    """What waited for a QoS 0 subscriber that does not read is not a delivery."""
    c = s.connected("slow")
    c.subscribe("g/#", qos=0)
    c.sock.setsockopt(1, 8, 4096)       # SO_RCVBUF: it never reads again
    pub = s.connected("pub")
    for i in range(300):
        pub.publish("g/k", value(60000), 1)
    c.drop()
    wait(lambda: s.metrics().get("lavva_clients", 0) == 1, "the drop")
    m = s.metrics()
    out, dropped = m["lavva_hub_out_messages_total"], sum(
        v for k, v in m.items() if k.startswith('lavva_drops_total{stage="hub"'))
    assert out + dropped == 300 and dropped > 50
    u = usage(s)
    per = steps(60000 + 2)
    assert u["messages_in"] == 300 * per
    assert (out - 1) * per <= u["messages_out"] <= out * per
    assert u["messages_out"] >= out


def test_connection_minutes(s):
    """One for each that was there, at once; HTTP requests are none."""
    for i in range(5):
        s.connected(f"m{i}").disconnect()
    w = [Watcher(s, "m", snapshot="false"), Watcher(s, "m", sse=True, snapshot="false")]
    for i in range(3):
        post(s, "m/k", b"1")
    settles(s, connection_minutes=7)
    assert len(w) == 2


def test_channel_minutes(s):
    """A channel counts once a minute while it is published to or watched, however busy it is."""
    before = int(time.time() // 60)
    for ch in ("a", "b", "a", "a"):
        for i in range(5):
            post(s, f"{ch}/k", b"1")
    w = Watcher(s, "quiet", snapshot="false")
    wait(lambda: usage(s).get("channel_minutes", 0) >= 3, "the minutes")
    minutes = int(time.time() // 60) - before
    assert 3 <= usage(s)["channel_minutes"] <= 3 * (1 + minutes)
    assert w.live.n == 0


# ---- kept, across crashes ----

UNITS = ("messages_in", "messages_out", "connection_minutes", "channel_minutes", "bytes_in",
         "bytes_out", "stored_byte_hours", "history_reads")


def book(s, app="dev", table="usage_hour"):
    """What is written down, straight from the store."""
    with contextlib.closing(sqlite3.connect(f"file:{s.data}/master.db?mode=ro", uri=True)) as db:
        row = db.execute(f"SELECT {','.join(f'TOTAL({u})' for u in UNITS)} FROM {table} "
                         "WHERE app=?", (app,)).fetchone()
    return dict(zip(UNITS, map(int, row)))


def in_log(s, channels):
    """Steps and bytes of what the logs hold, by `lavva log dump` (the server is down)."""
    t = Tally()
    for ch in channels:
        r = s.cli("log", "dump", "--data", s.data, ch)
        assert r.returncode == 0, r.stderr
        for line in r.stdout.splitlines():
            m = json.loads(line)
            t.add(f"{ch}/{m['key']}", m["val"])
    return t


def written(s, app="dev", **want):
    """Waits until these units are in the book; they may not go beyond."""
    def there():
        have = book(s, app)
        assert all(have[k] <= want[k] for k in want), (have, want)
        return all(have[k] == want[k] for k in want)
    wait(there, f"{want} in the book")


WINDOW = 3


class Publisher(threading.Thread):
    """Publishes at QoS 1, a window at a time, until the connection breaks; counts what was
    acknowledged and what was sent."""

    def __init__(self, s, topic, sizes):
        super().__init__(daemon=True)
        self.client, self.topic, self.sizes = s.connected(s.uid("p")), topic, sizes
        self.acked = self.sent = 0
        self.start()

    def run(self):
        c = self.client
        try:
            while True:
                for i in range(WINDOW):
                    n = self.sizes[self.sent % len(self.sizes)]
                    c.send(raw.publish(self.topic, value(n), 1, pid=c.pid(), v=5))
                    self.sent += 1
                for i in range(WINDOW):
                    c.expect(raw.PUBACK, rc=0)
                    self.acked += 1
        except (raw.Closed, OSError):
            pass


class Reader(threading.Thread):
    """A subscriber that acknowledges everything and counts what it got."""

    def __init__(self, s, cid, *filters):
        super().__init__(daemon=True)
        self.client = s.client(cid, clean=False, properties=KEEP)
        self.client.connect()
        if not self.client.seen[0].session_present:
            self.client.subscribe(*filters, qos=1)
        self.got = 0
        self.start()

    def run(self):
        c = self.client
        try:
            while True:
                p = c.recv(60)
                self.got += steps(len(p.topic) - 1 + len(p.payload))
                c.send(raw.ack(raw.PUBACK, p.pid))
        except (raw.Closed, OSError):
            pass


def test_kill_in_the_middle(s):
    """kill -9 again and again while two publish and two take: what is charged for publishes is what
    the logs hold, no more and no less; for deliveries it is never more than was delivered."""
    acked = sent = got = 0
    sizes = [10, 100, 6000, 1]
    for round_ in range(6):
        before = book(s)["messages_out"]
        pubs = [Publisher(s, "data/k", sizes), Publisher(s, "mem/k", sizes)]
        reader, w = Reader(s, "kept", "data/#", "mem/#"), Watcher(s, "data", snapshot="false")
        if round_ % 2:      # the book has seen some of it, or none
            wait(lambda: book(s)["messages_out"] > before, "a second of the book")
        wait(lambda: all(p.acked > 50 * (round_ + 1) for p in pubs), "acknowledgements")
        s.kill()
        for t in [*pubs, reader, w.thread]:
            t.join(DEADLINE)
            assert not t.is_alive()
        acked += sum(p.acked for p in pubs)
        sent += sum(p.sent for p in pubs)
        got += reader.got + w.live.steps
        s.start()
    s.stop()
    log, have = in_log(s, ("data", "mem")), book(s)
    assert acked <= log.n <= sent
    assert (have["messages_in"], have["bytes_in"]) == (log.steps, log.bytes)
    # A customer who comes while the channel is busy: what lies between is a replay.
    assert 0 < have["messages_out"] and have["messages_out"] + have["history_reads"] <= got
    assert have["connection_minutes"] <= 4 * 6


def test_restart_is_exact(s):
    """An orderly end loses nothing at all, and the next start adds nothing."""
    sub, kept = s.connected("sub"), s.client("kept", clean=False, properties=KEEP)
    kept.connect()
    sub.subscribe("data/#", qos=0)
    kept.subscribe("data/#", qos=1)
    pub = s.connected("pub")
    for i in range(100):
        pub.publish("data/k", value(6000), 1)
    for c in (sub, kept):
        c.collect(100)
    kept.ping()
    s.stop()
    want = {"messages_in": 200, "messages_out": 400, "bytes_in": 100 * 6005,
            "bytes_out": 200 * 6005, "connection_minutes": 3, "history_reads": 0}
    have = book(s)
    assert {k: have[k] for k in want} == want and have["channel_minutes"] >= 1
    s.start()
    pub = s.connected("pub")
    pub.publish("data/k", b"x", 1)
    written(s, messages_in=201, connection_minutes=4, messages_out=400)
    assert book(s, table="usage_minute")["messages_in"] == 201


@pytest.mark.parametrize("fault", [{"sync_n": 3}, {"write_n": 2}, {"write_n": 1, "write_part": 64},
                                   {"sync_n": 1, "lose": 1}, {"space": 0, "space_on": 1}],
                         ids=lambda f: "-".join(f))
def test_disk_fails_in_the_middle(own_server, fault):
    """What a failed write or sync took back is not charged, and what stayed is."""
    conf = lvconf.doc([lvconf.app(channel_defaults={"durability": "disk"})],
                      storage={"reserve": "0B", "segment": "1MiB"})
    s = own_server(config=conf)
    disk = Disk(s)
    s.start()
    refused = 0
    c = s.connected()
    for i in range(90):
        if i == 30:
            disk.set(match=b"disk-", **fault)
        if i == 60:
            disk.heal()
            wait(lambda: s.get("/readyz")[0] == 200, "the log")
        c.send(raw.publish("f/x", value(3000 * (i % 3)), 1, pid=c.pid()))
        refused += c.expect(raw.PUBACK).rc >= 0x80
    assert 0 < refused < 60
    s.kill()
    s.start()
    s.stop()
    log, have = in_log(s, ("f",)), book(s)
    assert log.n >= 90 - refused
    assert (have["messages_in"], have["bytes_in"]) == (log.steps, log.bytes)


def test_book_is_not_needed_to_serve(own_server):
    """While its book cannot be written a server serves and counts; the book catches up."""
    s = own_server(config=lvconf.doc([lvconf.app()]))
    disk = Disk(s)
    s.start()
    pub = s.connected("pub")
    pub.publish("data/k", b"v", 1)
    written(s, messages_in=1)
    disk.set(match=b"master.db", sync_n=ENDLESS)
    for i in range(10):
        pub.publish("data/k", b"v", 1)
    settles(s, messages_in=11)
    wait(lambda: "usage cannot be written down" in s.log(), "the warning")
    assert book(s)["messages_in"] == 1
    disk.heal()
    written(s, messages_in=11)


# ---- asked ----


def api(s, path, status=200, key="root", **q):
    r = urllib.request.Request(
        f"http://{s.http[0]}:{s.http[1]}/api/v1{path}?{urllib.parse.urlencode(q)}",
        headers={"Authorization": "Bearer " + lvconf.key_text(key)} if key else {})
    try:
        with urllib.request.urlopen(r, timeout=DEADLINE) as a:
            assert a.status == status
            return json.load(a)
    except urllib.error.HTTPError as e:
        assert e.code == status, e.read()
        return json.load(e)


def seconds(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


@pytest.fixture
def asked(own_server):
    apps = [lvconf.app(), lvconf.app("two", [lvconf.key("full2", lvconf.ALL, lvconf.ALL)])]
    root = {k: v for k, v in lvconf.key("root").items() if k in ("id", "hash")}
    return own_server(config=lvconf.doc(apps, keys=[root])).start()


def test_rest(asked):
    s = asked
    for i in range(3):
        post(s, "data/k", value(6000))
    post(s, "data/k", b"x", secret="full2")
    want = {"dev": (6, 3 * 6005), "two": (1, 6)}
    wait(lambda: api(s, "/usage", step="total")["total"]["messages_in"] == 7, "the book")
    now = time.time()
    for step, size in (("minute", 60), ("hour", 3600), ("day", 86400)):
        a = api(s, "/usage", step=step)
        assert a["step"] == step and "next" not in a
        assert seconds(a["from"]) % size == seconds(a["to"]) % size == 0
        assert seconds(a["from"]) < now < seconds(a["to"]) + 2 * size
        for item in a["items"]:
            assert set(item) == {"app", "from", "to", *UNITS}
            assert seconds(item["to"]) - seconds(item["from"]) == size
        for app, (steps_, bytes_) in want.items():
            mine = [x for x in a["items"] if x["app"] == app]
            assert sum(x["messages_in"] for x in mine) == steps_
            assert sum(x["bytes_in"] for x in mine) == bytes_
        assert a["total"]["messages_in"] == 7
    a = api(s, "/usage", step="total")
    assert [(x["app"], x["messages_in"]) for x in a["items"]] == [("dev", 6), ("two", 1)]
    a = api(s, "/apps/two/usage", step="total")
    assert [x["app"] for x in a["items"]] == ["two"] and a["total"]["bytes_in"] == 6
    # one at a time, and nothing outside of from … to
    first = api(s, "/usage", step="total", limit=1)
    second = api(s, "/usage", step="total", limit=1, after=first["next"])
    assert [x["app"] for x in first["items"] + second["items"]] == ["dev", "two"]
    assert "next" not in second and first["total"] == second["total"]
    past = {"from": "2020-01-01T00:00:00Z", "to": "2020-01-02T00:00:00Z"}
    assert api(s, "/usage", **past)["items"] == []


def test_rest_refuses(asked):
    s = asked
    for q in ({"step": "week"}, {"from": "yesterday"}, {"to": "1"}, {"limit": "0"},
              {"limit": "1001"}, {"after": "x"}, {"after": "-1.dev"},
              {"from": "2021-01-01T00:00:00Z", "to": "2020-01-01T00:00:00Z"}):
        a = api(s, "/usage", 400, **q)
        assert set(a) == {"error", "code"} and a["code"] == "INVALID", a
    assert api(s, "/apps/nobody/usage", 404)["code"] == "NOT_FOUND"
    api(s, "/usage", 401, key=None)
    api(s, "/usage", 403, key="full")
    api(s, "/apps/dev/usage", 403, key="full")


def test_command(asked):
    s = asked
    env = {**os.environ, "LAVVA_ADMIN_KEY": lvconf.key_text("root"),
           "LAVVA_HTTP": f"{s.http[0]}:{s.http[1]}"}
    for i in range(3):
        post(s, "data/k", value(6000))
    post(s, "data/k", b"x", secret="full2")
    wait(lambda: api(s, "/usage", step="total")["total"]["messages_in"] == 7, "the book")
    out = s.cli("usage", env=env)
    assert out.returncode == 0, out.stderr
    head, *rows = [x.split() for x in out.stdout.splitlines()]
    assert head[:3] == ["APP", "IN", "OUT"] and [r[0] for r in rows] == ["dev", "two", "total"]
    assert [r[1] for r in rows] == ["6", "1", "7"]
    assert rows[0][4:6] == ["17.6", "KiB"] and rows[1][4] == "6"        # bytes in
    out = s.cli("usage", "two", "--step", "minute", env=env)
    head, *rows = [x.split() for x in out.stdout.splitlines()]
    assert head[:2] == ["FROM", "APP"] and rows[0][1:3] == ["two", "1"] and rows[-1][0] == "total"
    assert abs(seconds(rows[0][0]) - time.time()) < 3600
    out = s.cli("usage", "--step", "hour", "--json", env=env)
    a = json.loads(out.stdout)
    assert a["step"] == "hour" and a["total"]["messages_in"] == 7 and len(a["items"]) >= 2
    out = s.cli("usage", "--from", "2020-01-01T00:00:00Z", "--to", "2020-01-01T01:00:00+00:00",
                env=env)
    assert out.returncode == 0 and [x.split()[0] for x in out.stdout.splitlines()] == [
        "APP", "total"]
    assert s.cli("usage", "--step", "week", env=env).returncode == 1
    assert s.cli("usage", "nobody", env=env).returncode == 1
    assert s.cli("usage", "a", "b", env=env).returncode == 64
    assert s.cli("usage", env={**env, "LAVVA_ADMIN_KEY": lvconf.key_text("full")}).returncode == 3
