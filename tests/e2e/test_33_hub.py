"""The hub: what customers get over WebSocket (both generations), Server-Sent Events and GET
/snapshot, compared with what the protocol's description says, frame by frame."""
import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import lvconf
import msgpack
import pytest
import websockets

from harness import DEADLINE, wait

pytestmark = pytest.mark.lavva_only
QUIET = 0.3     # nothing more comes within this: only after a barrier has been seen


def run(coro):
    return asyncio.run(asyncio.wait_for(coro, DEADLINE * 4))


def publish(s, channel, value, key=None, key_text=None, **labels):
    """One message over HTTP, acknowledged; its position."""
    q = {**({} if key is None else {"key": key}), **labels}
    url = f"http://{s.http[0]}:{s.http[1]}/v1/channels/{channel}/messages?{urllib.parse.urlencode(q)}"
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    r = urllib.request.Request(url, data=data, method="POST",
                               headers={"Authorization": "Bearer " + (key_text or s.key)})
    with urllib.request.urlopen(r, timeout=DEADLINE) as a:
        return json.load(a)["pos"]


def url(s, path="/ws", scheme="ws", **q):
    q.setdefault("apiKey", s.key)
    q = urllib.parse.urlencode({k: v for k, v in q.items() if v is not None}, safe=",:/")
    return f"{scheme}://{s.http[0]}:{s.http[1]}{path}?{q}"


class Customer:
    """A connection whose frames come decoded."""

    def __init__(self, ws, encoding="json"):
        self.ws, self.encoding, self.raw = ws, encoding, None

    async def next(self, timeout=None):
        self.raw = await asyncio.wait_for(self.ws.recv(), timeout or DEADLINE)
        return msgpack.loads(self.raw) if self.encoding == "msgpack" else json.loads(self.raw)

    async def take(self, n):
        return [await self.next() for _ in range(n)]

    async def send(self, **obj):
        await self.ws.send(msgpack.dumps(obj) if self.encoding == "msgpack" else json.dumps(obj))

    async def nothing(self):
        with pytest.raises(asyncio.TimeoutError):
            got = await self.next(QUIET)
            pytest.fail(f"unexpected: {got}")


@contextlib.asynccontextmanager
async def customer(s, path="/ws", **q):
    async with websockets.connect(url(s, path, **q), max_size=None, compression=None) as ws:
        yield Customer(ws, q.get("encoding", "json"))


async def post(*a, **kw):
    return await asyncio.get_running_loop().run_in_executor(None, lambda: publish(*a, **kw))


def val(m):
    return m.get("val", m.get("value"))


def refused(s, path="/ws", **q):
    """Status, headers and text of a request that is answered over HTTP."""
    host, port = s.http
    target = url(s, path, **q).split(f"{port}", 1)[1]
    with socket.create_connection((host, port), DEADLINE) as c:
        c.sendall((f"GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n"
                   "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                   "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n").encode())
        data = b""
        while b"\r\n\r\n" not in data:
            data += c.recv(65536)
    return int(data.split(b" ", 2)[1]), data.decode(errors="replace")


@pytest.fixture
def chan(server):
    return server.uid("hub")


# ---- transcripts ----

V1 = [("text", "json", str), ("binary", "json", bytes), ("binary", "msgpack", bytes)]


@pytest.mark.tsan
@pytest.mark.parametrize("fmt,enc,kind", V1)
def test_transcript_v1(server, chan, fmt, enc, kind):
    publish(server, chan, {"latitude": "12.5", "longitude": "-3.25"}, "pos")
    publish(server, chan, {"latitude": "12.6", "longitude": "-3.20"}, "pos")

    async def go():
        async with customer(server, channels=chan, user_id="u1", format=fmt, encoding=enc,
                            snapshot="true") as c:
            hello = await c.next()
            assert isinstance(c.raw, kind)
            assert list(sorted(hello)) == ["chn", "key", "tag", "tms", "typ", "val"]
            assert (hello["typ"], hello["chn"], hello["key"], hello["tag"]) == (1, chan, "", "")
            assert abs(hello["tms"] - time.time() * 1000) < 60000
            ident = hello["val"].pop("client_id")
            assert ident and isinstance(ident, str)
            assert hello["val"] == {"user_id": "u1", "channel_name": chan, "channel_size": 2,
                                    "format": fmt, "transport": "websocket",
                                    "channel_encoding": "json"}
            await post(server, chan, {"latitude": "12.7", "longitude": "-3.15"}, "pos")
            for lat, lon in (("12.5", "-3.25"), ("12.6", "-3.20"), ("12.7", "-3.15")):
                m = await c.next()
                assert isinstance(c.raw, kind)
                assert m.pop("tms") <= time.time() * 1000 + 1000
                m.pop("pid")
                assert m == {"typ": 7, "chn": chan, "key": "pos", "tag": "",
                             "val": {"latitude": lat, "longitude": lon}}
            await c.nothing()
    run(go())


@pytest.mark.parametrize("fmt,kind", [("text", str), ("binary", bytes)])
def test_transcript_v09(server, chan, fmt, kind):
    publish(server, chan, {"latitude": "12.5"}, "pos", cat="c")

    async def go():
        async with customer(server, "/v1/ws", channels=chan, format=fmt) as c:
            hello = await c.next()
            assert isinstance(c.raw, kind)
            assert sorted(hello) == ["channel", "key", "tag", "timestamp", "type", "value"]
            assert hello["type"] == 0 and hello["channel"] == chan
            assert hello["value"].pop("client_id")
            assert hello["value"] == {"channel_name": chan, "channel_size": 1, "format": fmt,
                                      "transport": "websocket", "channel_encoding": "json"}
            m = await c.next()
            assert m["type"] == 6 and m["value"] == {"latitude": "12.5"} and m["key"] == "pos"
            assert "cat" not in m and "typ" not in m
            await post(server, chan, 7)
            m = await c.next()
            assert isinstance(c.raw, kind)
            assert (m["type"], m["value"], m["key"]) == (6, 7, "")
    run(go())


def test_channels_in_order(server, chan):
    """All CONNECTED, then all snapshots, each in the order asked; one client_id."""
    names = [f"{chan}-{i}" for i in range(4)]
    for i, n in enumerate(names):
        for k in range(i):
            publish(server, n, [i, k])

    async def go():
        async with customer(server, channels=",".join(reversed(names))) as c:
            hello = await c.take(4)
            assert [m["chn"] for m in hello] == names[::-1]
            assert [m["val"]["channel_size"] for m in hello] == [3, 2, 1, 0]
            assert len({m["val"]["client_id"] for m in hello}) == 1
            assert all("user_id" not in m["val"] for m in hello)
            got = await c.take(6)
            assert [val(m) for m in got] == [[3, 0], [3, 1], [3, 2], [2, 0], [2, 1], [1, 0]]
    run(go())


def test_snapshot_is_the_last_hundred(server, chan):
    for i in range(120):
        publish(server, chan, i)

    async def go():
        async with customer(server, channels=chan) as c:
            assert (await c.next())["val"]["channel_size"] == 100
            assert [val(m) for m in await c.take(100)] == list(range(20, 120))
        async with customer(server, channels=chan, snapshot="false") as c:
            assert (await c.next())["val"]["channel_size"] == 100
            await post(server, chan, "live")
            assert val(await c.next()) == "live"
    run(go())


def test_snapshot_length(own_server):
    """As the document says, by channel; a new document counts for the next customer."""
    def doc(named):
        return lvconf.doc([lvconf.app(channels=[{"name": "a", "snapshot": named}],
                                      channel_defaults={"snapshot": 5})])
    s = own_server(config=doc(3)).start()
    for chan in ("a", "b"):
        for i in range(8):
            publish(s, chan, i)

    async def go(chan, n):
        async with customer(s, channels=chan) as c:
            assert (await c.next())["val"]["channel_size"] == n
            assert [val(m) for m in await c.take(n)] == list(range(8 - n, 8))

    def rest(chan):
        got = json.loads(s.get(f"/snapshot?channels={chan}&apiKey={s.key}")[2])["Snapshot"][chan]
        return [m["val"] for m in got]
    run(go("a", 3))
    run(go("b", 5))
    for n in (7, 2):
        s.reload(doc(n))
        wait(lambda n=n: rest("a") == list(range(8 - n, 8)), "the new length")
        run(go("a", n))


# ---- values ----

def test_values(server, chan):
    """JSON goes through byte for byte; text is a string; other bytes are base64, or msgpack bin."""
    publish(server, chan, b'{"a" : 1.50,"b":12345678901234567890}')
    publish(server, chan, "täxt no json".encode(), tag="t", cat="c")
    publish(server, chan, b"\xff\x00\x01")

    async def go():
        async with customer(server, channels=chan) as c:
            await c.next()
            await c.next()
            assert '"val":{"a" : 1.50,"b":12345678901234567890}' in c.raw
            m = await c.next()
            assert (m["val"], m["tag"], m["cat"]) == ("täxt no json", "t", "c")
            assert (await c.next())["val"] == "/wAB"
        async with customer(server, channels=chan, encoding="msgpack") as c:
            await c.next()
            assert (await c.next())["val"] == {"a": 1.5, "b": 12345678901234567890}
            assert (await c.next())["val"] == "täxt no json"
            assert (await c.next())["val"] == b"\xff\x00\x01"
    run(go())


# ---- errors before the upgrade ----

def test_refusals(own_server):
    keys = [lvconf.key("full", lvconf.ALL, lvconf.ALL), lvconf.key("some", [], ["a/#"]),
            lvconf.key("none", ["#"], [])]
    app = lvconf.app(keys=keys, auto_channels=False, channels=[{"name": "a"}, {"name": "b"}],
                     limits={"subscriptions": 1})
    s = own_server(config=lvconf.doc([app])).start()
    text = lvconf.key_text
    for path in ("/ws", "/v1/ws", "/snapshot"):
        assert refused(s, path, channels=None)[0] == 400
        assert refused(s, path, channels="a", format="xml")[0] == 400
        assert refused(s, path, channels="a", apiKey=None)[0] == 401
        assert refused(s, path, channels="a", apiKey="lv_full_wrong")[0] == 401
        assert refused(s, path, channels="b", apiKey=text("some"))[0] == 403
        assert refused(s, path, channels="a", apiKey=text("none"))[0] == 403
        assert refused(s, path, channels="nope")[0] == 404
        status, head = refused(s, path, channels="a,b")
        assert status == 429 and "Retry-After" in head
        assert "Access-Control-Allow-Origin: *" in refused(s, path, channels="a", apiKey=None)[1]
    assert refused(s, "/v1/channels/nope/events")[0] == 404
    assert refused(s, "/v1/channels/a/events", encoding="msgpack")[0] == 400
    assert refused(s, channels="a", apiKey=text("some"))[0] == 101


def test_connection_limit(own_server):
    s = own_server(config=lvconf.doc([lvconf.app(limits={"connections": 2})])).start()

    async def go():
        async with customer(s, channels="x") as a, customer(s, channels="x") as b:
            await a.next()
            await b.next()
            assert refused(s, channels="x")[0] == 429
        wait(lambda: refused(s, channels="x")[0] == 101, "a place that became free")
    run(go())


# ---- since ----

def test_since(server, chan):
    pos = [publish(server, chan, i) for i in range(10)]

    async def values(n, **q):
        async with customer(server, channels=chan, **q) as c:
            assert (await c.next())["typ"] == 1
            got = await c.take(n)
            await c.nothing()
            return [val(m) for m in got], got

    async def go():
        got, all_ = await values(6, since=pos[3])
        assert got == [4, 5, 6, 7, 8, 9]
        assert [m["pos"] for m in all_] == pos[4:]
        assert (await values(0, since=pos[9]))[0] == []
        assert (await values(10, since="start"))[0] == list(range(10))
        assert (await values(10, since="2020-01-01T00:00:00Z"))[0] == list(range(10))
        assert (await values(0, since="2200-01-01T00:00:00Z"))[0] == []
        assert (await values(2, since=f"{chan}:{pos[7]}"))[0] == [8, 9]
        got, all_ = await values(10, pos="true")
        assert [m["pos"] for m in all_] == pos
    run(go())


def test_since_then_live(server, chan):
    first = publish(server, chan, 0)
    for i in range(1, 400):
        publish(server, chan, i)

    async def go():
        async with customer(server, channels=chan, since=first) as c:
            hello = await c.next()
            assert hello["val"]["channel_size"] == 100
            await post(server, chan, 400)
            assert [val(m) for m in await c.take(400)] == list(range(1, 401))
    run(go())


def test_other_types_are_passed_over(server, chan):
    """What an SDK may say beyond subscribing ends nothing; what is no message does."""
    def count():
        return server.metrics()["lavva_protocol_errors_total"]

    async def go():
        before = count()
        async with customer(server, channels=chan, snapshot="false") as c:
            assert (await c.next())["typ"] == 1
            for typ in (0, 2, 7, 8, 99):
                await c.send(typ=typ, chn=chan, val={"x": 1})
            await c.send(typ=3, chn=chan + "b")
            assert (await c.next())["typ"] == 4
            assert count() == before + 5
            await c.ws.send("no message")
            with pytest.raises(websockets.ConnectionClosed):
                await c.next()
            assert c.ws.close_code == 1007
    run(go())


def test_gap_of_another_epoch(server, chan):
    publish(server, chan, 1)

    async def go():
        async with customer(server, channels=chan, since="elsewhere-0") as c:
            assert (await c.next())["typ"] == 1
            gap = await c.next()
            assert gap["typ"] == 9 and gap["chn"] == chan
            assert gap["val"]["from"] == "elsewhere-0" and gap["val"]["reason"] == "epoch"
            first = await c.next()  # nothing is known of that epoch: all that there is
            assert val(first) == 1 and first["pos"] == gap["val"]["to"]
            await post(server, chan, 2)
            assert val(await c.next()) == 2
    run(go())


def test_largest_offset(server, chan):
    """A position that cannot be: told, and nothing comes again."""
    epoch = publish(server, chan, 1).split("-")[0]

    async def go():
        async with customer(server, channels=chan, since=f"{epoch}-{2**64 - 1}") as c:
            assert (await c.next())["typ"] == 1
            assert (await c.next())["val"]["reason"] == "position"
            await post(server, chan, 2)
            assert val(await c.next()) == 2
    run(go())


@pytest.mark.parametrize("seen", [0, 2, 7])
def test_gap_of_an_unclean_end(own_server, seen):
    """`memory`: the log takes a new epoch. A position of the old one goes on where it was, but not
    behind where the new one began: those offsets may be other messages now."""
    app = lvconf.app(channels=[{"name": "m", "durability": "memory"}])
    s = own_server(config=lvconf.doc([app])).start()
    pos = [publish(s, "m", i) for i in range(4)]
    epoch = pos[0].split("-")[0]
    s.kill()
    s.start()
    later = [publish(s, "m", i) for i in range(4, 7)]
    assert later[0].split("-") != [epoch, "4"]

    async def go():
        async with customer(s, channels="m", since=f"{epoch}-{seen}") as c:
            await c.next()
            gap = await c.next()
            assert (gap["typ"], gap["val"]["reason"]) == (9, "epoch")
            start = min(seen + 1, 4)
            got = await c.take(7 - start)
            assert [val(m) for m in got] == list(range(start, 7))
            assert [m["pos"] for m in got[-3:]] == later
    run(go())


def test_gap_of_retention(own_server):
    app = lvconf.app(channels=[{"name": "short", "retention": {"count": 20}}])
    s = own_server(config=lvconf.doc([app], storage={"segment": "1MiB"})).start()
    pos = [publish(s, "short", [i, "x" * 60000]) for i in range(50)]
    first = 0

    def trimmed():      # told at the next look, since what goes are whole segments
        nonlocal first
        with Events(s, "short", since="start") as e:
            e.next()
            first = json.loads(e.next()["data"])["val"][0]
        return first > 2
    wait(trimmed, "retention")

    async def go():
        async with customer(s, channels="short", since=pos[1]) as c:
            assert (await c.next())["typ"] == 1
            gap = await c.next()
            assert (gap["typ"], gap["val"]["from"], gap["val"]["reason"]) == (9, pos[1], "retention")
            m = await c.next()
            assert m["pos"] == gap["val"]["to"]
            got = [val(m)[0]] + [val(m)[0] for m in await c.take(49 - val(m)[0])]
            assert got == list(range(got[0], 50)) and got[0] >= first
    run(go())


# ---- filters, conflation ----

def test_filters(server, chan):
    def batch():
        for i in range(4):
            publish(server, chan, i, f"a/{i}", cat="x" if i % 2 else "y")
        publish(server, chan, "plain")
    batch()

    async def go():
        for q, want in (({"keys": "a/+"}, [0, 1, 2, 3]), ({"keys": "a/2"}, [2]),
                        ({"cats": "x"}, [1, 3]), ({"cats": "default"}, ["plain"]),
                        ({"keys": "a/#", "cats": "x,y"}, [0, 1, 2, 3])):
            async with customer(server, channels=chan, **q) as c:
                assert (await c.next())["val"]["channel_size"] == len(want), q
                assert [val(m) for m in await c.take(len(want))] == want
        async with customer(server, channels=chan, keys="a/+", cats="x", snapshot="false") as c:
            await c.next()
            await asyncio.get_running_loop().run_in_executor(None, batch)
            assert [val(m) for m in await c.take(2)] == [1, 3]
            await c.nothing()
    run(go())


def test_rights_of_the_key_filter(own_server):
    keys = [lvconf.key("full", lvconf.ALL, lvconf.ALL), lvconf.key("some", [], ["c/open/#"])]
    s = own_server(config=lvconf.doc([lvconf.app(keys=keys)])).start()
    publish(s, "c", 1, "open/1")
    publish(s, "c", 2, "secret")

    async def go():
        async with customer(s, channels="c", apiKey=lvconf.key_text("some")) as c:
            assert (await c.next())["val"]["channel_size"] == 1
            assert val(await c.next()) == 1
            await post(s, "c", 3, "secret")
            await post(s, "c", 4, "open/2")
            assert val(await c.next()) == 4
    run(go())


def test_conflate(server, chan):
    async def go():
        before = server.metrics()
        async with customer(server, channels=chan, conflate="400") as c:
            await c.next()
            for i in range(20):
                await post(server, chan, i, "k")
            await post(server, chan, "other", "l")
            got = []
            while 19 not in got:
                got.append(val(await c.next()))
            assert got[0] == 0 and "other" in got and len(got) <= 5
            after = server.metrics()
            name = 'lavva_drops_total{stage="hub",reason="conflated"}'
            assert after[name] - before.get(name, 0) == 21 - len(got)
    run(go())


# ---- subscribe while connected ----

@pytest.mark.parametrize("enc", ["json", "msgpack"])
def test_subscribe_and_unsubscribe(server, chan, enc):
    publish(server, chan + "b", "old")

    async def go():
        async with customer(server, channels=chan, encoding=enc) as c:
            await c.next()
            await c.send(typ=3, chn=chan + "b", snapshot=True)
            m = await c.next()
            assert (m["typ"], m["chn"]) == (4, chan + "b")
            assert m["val"]["channel_size"] == 1 and m["val"]["client_id"]
            assert val(await c.next()) == "old"
            await post(server, chan + "b", "new")
            assert val(await c.next()) == "new"
            await c.send(typ=5, chn=chan + "b")
            m = await c.next()
            assert (m["typ"], m["val"]) == (6, {"channel_name": chan + "b"})
            await post(server, chan + "b", "unseen")
            await post(server, chan, "seen")
            assert val(await c.next()) == "seen"
            await c.send(typ=3, chn="$bad")
            m = await c.next()
            assert m["typ"] == 6 and m["val"]["error"]
    run(go())


# ---- the ends of a connection ----

def closed(c):
    async def go():
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                await c.next()
        return c.ws.close_code
    return go()


def test_drain_is_1012(own_server):
    s = own_server().start()

    async def go():
        async with customer(s, channels="demo") as c:
            await c.next()
            await asyncio.get_running_loop().run_in_executor(None, s.stop)
            assert await closed(c) == 1012
    run(go())


def test_revoked_key_is_1008(own_server):
    keys = [lvconf.key("full", lvconf.ALL, lvconf.ALL), lvconf.key("gone", [], ["a/#", "b/#"])]
    doc = lvconf.doc([lvconf.app(keys=keys)])
    s = own_server(config=doc).start()

    async def go():
        async with customer(s, channels="a,b", apiKey=lvconf.key_text("gone")) as c, \
                customer(s, channels="a") as other:
            await c.take(2)
            await other.next()
            less = lvconf.doc([lvconf.app(keys=[keys[0], lvconf.key("gone", [], ["b/#"])])])
            s.reload(less)
            m = await c.next()
            assert (m["typ"], m["chn"]) == (6, "a") and m["val"]["error"]
            s.reload(lvconf.doc([lvconf.app(keys=keys[:1])]))
            assert await closed(c) == 1008
            await post(s, "a", 1)
            assert val(await other.next()) == 1
    run(go())


def test_message_too_big_is_1009(server, chan):
    async def go():
        async with customer(server, channels=chan) as c:
            await c.next()
            await c.ws.send("x" * 200000)
            assert await closed(c) == 1009
    run(go())


# ---- slow customers, the ledger ----

LEDGER = ["lavva_hub_owed_messages_total", "lavva_hub_out_messages_total"]


def balance(s):
    """owed - delivered - drops of the hub - pending: 0 at rest."""
    m = s.metrics()
    drops = sum(v for k, v in m.items() if k.startswith('lavva_drops_total{stage="hub"'))
    return m[LEDGER[0]] - m[LEDGER[1]] - drops - m["lavva_hub_pending_messages"]


class Deaf:
    """A customer who does not read: a socket with a small buffer."""

    def __init__(self, s, **q):
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.connect(s.http)
        target = url(s, **q).split(str(s.http[1]), 1)[1]
        self.sock.sendall((f"GET {target} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
                           "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                           "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n").encode())
        assert b"101" in self.sock.recv(20)

    def rest(self):
        """All that comes until the end."""
        self.sock.settimeout(DEADLINE)
        data = b""
        with contextlib.suppress(OSError):
            while piece := self.sock.recv(1 << 16):
                data += piece
        return data


def test_slow_customers(own_server):
    chans = [{"name": "d"}, {"name": "o", "slow_customer": "drop-oldest"},
             {"name": "c", "slow_customer": "conflate"}]
    app = lvconf.app(channels=chans, limits={"packet": "64KiB", "queue": "64KiB", "queue_messages": 50})
    s = own_server(config=lvconf.doc([app])).start()
    deaf = {c["name"]: Deaf(s, channels=c["name"]) for c in chans}
    big = "x" * 20000

    async def go():
        async with customer(s, channels="d,o,c") as c:
            await c.take(3)
            for i in range(400):
                for name in deaf:
                    await post(s, name, [i, big], f"k{i % 3}")
                got = await c.take(3)
                assert [val(m)[0] for m in got] == [i] * 3
            m = s.metrics(raw=False)
            assert m['lavva_drops_total{stage="hub",reason="slow"}'] > 0
            assert m['lavva_drops_total{stage="hub",reason="conflated"}'] > 100
    run(go())
    for d in deaf.values():
        d.sock.close()
    wait(lambda: s.metrics()["lavva_hub_pending_messages"] == 0, "nothing pending")
    assert balance(s) == 0
    assert 2000 <= s.metrics()[LEDGER[0]] < 2400    # `disconnect` owes nothing once it is closed


def test_too_slow_is_1013(own_server):
    s = own_server(config=lvconf.doc([lvconf.app(limits={"packet": "64KiB", "queue": "64KiB"})])).start()
    d = Deaf(s, channels="d")
    log = "customer too slow"
    i = 0
    while log not in s.log() and i < 2000:
        publish(s, "d", "x" * 20000)
        i += 1
    assert log in s.log()
    data = d.rest()
    assert (1013).to_bytes(2, "big") + b"too slow" in data[-64:]
    wait(lambda: balance(s) == 0, "the ledger")


def test_snapshot_then_live_under_load(own_server):
    """Customers come and go while messages flow: each sees its messages without gap or repeat."""
    s = own_server(args=["--threads", "2"]).start()
    n, stop = 1500, threading.Event()
    pub = s.connected(s.uid("pub"))

    def load():
        for i in range(n):
            pub.publish("load/k", str(i).encode(), qos=1)
            if stop.is_set():
                return

    async def one(k):
        q = [{}, {"encoding": "msgpack"}, {"since": "start"}, {"snapshot": "false"},
             {"keys": "k"}][k % 5]
        async with customer(s, channels="load", **q) as c:
            hello = await c.next()
            first = None
            got = []
            while not got or got[-1] != n - 1:
                m = await c.next()
                assert m["typ"] == 7, m
                got.append(val(m))
            first = got[0]
            assert got == list(range(first, n)), (q, hello, [
                (a, b) for a, b in zip(got, got[1:]) if b != a + 1][:5])
            if q.get("since"):
                assert first == 0

    async def go():
        t = threading.Thread(target=load)
        t.start()
        try:
            tasks = []
            for k in range(40):
                tasks.append(asyncio.ensure_future(one(k)))
                await asyncio.sleep(0.01)
            await asyncio.gather(*tasks)
        finally:
            stop.set()
            t.join()
    run(go())
    wait(lambda: balance(s) == 0 and s.metrics()["lavva_hub_pending_messages"] == 0, "the ledger")


@pytest.mark.tsan
def test_resume_after_restart(own_server):
    """A clean restart keeps positions: a customer resumes without gap or repeat."""
    s = own_server(config=lvconf.doc()).start()
    pos = [publish(s, "r", i) for i in range(5)]
    s.restart()
    publish(s, "r", 5)

    async def go():
        async with customer(s, channels="r", since=pos[2]) as c:
            await c.next()
            assert [val(m) for m in await c.take(3)] == [3, 4, 5]
    run(go())


# ---- Server-Sent Events, GET /snapshot ----

class Events:
    """An event stream; its events as dicts of fields."""

    def __init__(self, s, channel, headers=(), **q):
        target = url(s, f"/v1/channels/{channel}/events", **q).split(str(s.http[1]), 1)[1]
        self.sock = socket.create_connection(s.http, DEADLINE)
        lines = "".join(f"{k}: {v}\r\n" for k, v in headers)
        self.sock.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
        self.file = self.sock.makefile("rb")
        self.head = b""
        while not self.head.endswith(b"\r\n\r\n"):
            self.head += self.file.readline()

    def next(self):
        out = {}
        while True:
            line = self.file.readline().decode()
            assert line, "the stream ended"
            if line == "\n" and out:
                return out
            name, _, value = line.rstrip("\n").partition(": ")
            if name and not line.startswith(":"):
                out[name] = out[name] + "\n" + value if name in out else value

    def close(self):
        self.file.close()
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@pytest.mark.tsan
def test_events(server, chan):
    pos = [publish(server, chan, i) for i in range(3)]
    e = Events(server, chan)
    assert b"200 OK" in e.head and b"text/event-stream" in e.head
    hello = json.loads(e.next()["data"])
    assert hello["typ"] == 1 and hello["val"]["transport"] == "sse"
    for i in range(3):
        one = e.next()
        assert one["id"] == pos[i] and json.loads(one["data"])["val"] == i
    last = publish(server, chan, b'{\n"a":\r\n1}')
    one = e.next()
    assert one["id"] == last and json.loads(one["data"])["val"] == {"a": 1}
    e.close()
    e = Events(server, chan, headers=[("Last-Event-ID", pos[1])], since=pos[0])
    e.next()
    assert [json.loads(e.next()["data"])["val"] for _ in range(2)] == [2, {"a": 1}]
    e.close()
    e = Events(server, chan, headers=[("Last-Event-ID", "another-7")])
    e.next()
    gap = e.next()
    assert gap["event"] == "gap" and json.loads(gap["data"])["typ"] == 9
    e.close()


def test_rest_snapshot(server, chan):
    publish(server, chan, {"n": 1}, "k")
    publish(server, chan, "text")
    status, headers, text = server.get(f"/snapshot?channels={chan},demo&apiKey={server.key}")
    assert status == 200 and headers["Content-Type"] == "application/json"
    got = json.loads(text)["Snapshot"]
    assert set(got) == {chan, "demo"}
    assert [m["val"] for m in got[chan]] == [{"n": 1}, "text"]
    assert got[chan][0]["typ"] == 7 and got[chan][0]["key"] == "k" and got[chan][0]["tag"] == ""
    r = urllib.request.Request(f"http://{server.http[0]}:{server.http[1]}/snapshot?channels={chan}",
                               headers={"Origin": "https://page.example",
                                        "Authorization": "Bearer " + server.key})
    with urllib.request.urlopen(r, timeout=DEADLINE) as a:
        assert a.headers["Access-Control-Allow-Origin"] == "https://page.example"
        assert a.headers["Vary"] == "Origin"


def test_errors_before_a_handler_are_open(server, chan):
    """Pages of other origins read every error of the data plane, also where no handler had its
    turn; programs read it as JSON. The control API stays closed."""
    c = http.client.HTTPConnection(*server.http, timeout=DEADLINE)

    def ask(method, path, body=None, **headers):
        c.request(method, path, body, {"Origin": "https://page.example", **headers})
        a = c.getresponse()
        return a.status, a.headers["Access-Control-Allow-Origin"], a.read()

    messages = f"/v1/channels/{chan}/messages"
    for method, path, body, status, code in (
            ("GET", messages, None, 405, "METHOD"),
            ("PUT", messages, b"x", 405, "METHOD"),
            ("POST", f"/snapshot?channels={chan}", None, 405, "METHOD"),
            ("GET", f"/snapshot?channels={chan}", b"x", 413, "TOO_BIG"),
            ("GET", "/snapshot?" + "a" * 9000, None, 414, "TOO_BIG")):
        got, allow, text = ask(method, path, body)
        assert (got, allow, json.loads(text)["code"]) == (status, "*", code), (method, path[:40])
        c.close()
    for path in ("/ws?channels=", "/v1/publish?channel="):
        got = ask("GET", path + chan, Authorization="Bearer " + server.key)
        assert got[:2] == (426, "*")
    assert ask("PUT", "/api/v1/apps")[:2] == (405, None)
    got = ask("GET", "/nowhere")      # a wrong base address shows itself
    assert got[:2] == (404, "*") and json.loads(got[2])["code"] == "NOT_FOUND"
    assert ask("GET", "/api/v1/nowhere")[:2] == (404, None)


def test_snapshot_is_fresh(server, chan):
    """What was acknowledged is in the next snapshot, also while it is cached."""
    for i in range(30):
        publish(server, chan, i)
        got = json.loads(server.get(f"/snapshot?channels={chan}&apiKey={server.key}")[2])
        assert [m["val"] for m in got["Snapshot"][chan]] == list(range(i + 1))


def test_tls(server, chan):
    publish(server, chan, 1)

    async def go():
        uri = f"wss://{server.https[0]}:{server.https[1]}/ws?channels={chan}&apiKey={server.key}"
        async with websockets.connect(uri, ssl=server.tls()) as ws:
            c = Customer(ws)
            assert (await c.next())["typ"] == 1
            assert val(await c.next()) == 1
    run(go())


# ---- memory ----

def raw_customer(s, **q):
    """Connected, and never read from; little fits into its socket."""
    k = socket.socket()
    k.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    k.settimeout(DEADLINE)
    k.connect(s.http)
    path = url(s, **q).split(str(s.http[1]), 1)[1]
    k.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
              "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
    assert b"101" in k.recv(64)
    return k


def small_tail(n=100):
    return lvconf.doc([lvconf.app(channel_defaults={"snapshot": n})], storage={"tail": "1MiB"})


def test_few_messages_of_many_keep_no_blocks(own_server):
    """A customer who takes a few of a channel's messages, and none from its socket, has a queue of
    what it is owed, not of all that lay beside it."""
    s = own_server(config=small_tail()).start()
    with raw_customer(s, channels="a", keys="few", snapshot="false"):
        for _ in range(1000):   # the kernel takes some 3 MB of them
            publish(s, "a", b"x" * 7000, key="few")
            publish(s, "a", b"y" * 56000, key="many")
        m = s.metrics()
        assert m["lavva_hub_pending_messages"] > 300
        assert m["lavva_blocks_bytes"] < 12 << 20


def test_snapshots_that_grow_by_one_are_packed(own_server):
    s = own_server(config=small_tail(400)).start()
    for i in range(400):
        publish(s, "a", i)
        s.get(f"/snapshot?channels=a&apiKey={s.key}")
    assert s.metrics()["lavva_blocks_bytes"] < 8 << 20
