"""`snapshot: keys`: customers begin with the last message of each key, whatever retention does and
whatever happens to the server; with limits, filters, and without a gap or a repeat before what
follows."""
import asyncio
import json
import os
import threading
import urllib.request

import pytest

import harness
from harness import DEADLINE, wait
from lvconf import ALL, app, doc, key, key_text
from test_33_hub import Customer, customer, publish, run, val

pytestmark = pytest.mark.lavva_only


def config(channels=None, limits=None, **kw):
    channels = channels or [{"name": "last", "snapshot": "keys"},
                            {"name": "quick", "snapshot": "keys", "durability": "memory"}]
    return doc([app(channels=channels, keys=[key("full", ALL, ALL, sys=True),
                                             key("some", [], ["last/a/#"])],
                    **({"limits": limits} if limits else {}))], **kw)


def snapshot(s, channel, k=None, **q):
    query = "".join(f"&{n}={v}" for n, v in q.items())
    status, _, text = s.get(f"/snapshot?channels={channel}&apiKey={k or s.key}{query}")
    assert status == 200, text
    return [(m["key"], val(m)) for m in json.loads(text)["Snapshot"][channel]]


def burst(s, channel, items):
    """Many messages in one batch: [(key, value)]."""
    lines = "".join(json.dumps({"key": k, "val": v}) + "\n" for k, v in items)
    r = urllib.request.Request(
        f"http://{s.http[0]}:{s.http[1]}/v1/channels/{channel}/messages", data=lines.encode(),
        method="POST", headers={"Authorization": "Bearer " + s.key,
                                "Content-Type": "application/x-ndjson"})
    with urllib.request.urlopen(r, timeout=DEADLINE) as a:
        assert a.status == 200
        return [x["pos"] for x in json.load(a)["results"]]


@pytest.fixture(scope="module")
def srv(tmp_path_factory):
    s = harness.make(str(tmp_path_factory.mktemp("keys")), config=config()).start()
    yield s
    s.stop()
    s.check()


def test_last_of_each_key(srv):
    """In the order of the log, over every way in; `channel_size` is how many follow."""
    s = srv
    burst(s, "last", [("a/1", 1), ("b/1", 2), ("a/2", 3), ("a/1", 4), ("c", 5), ("b/1", 6)])
    publish(s, "last", 0)                                    # no key at all is a key, too
    want = [("a/2", 3), ("a/1", 4), ("c", 5), ("b/1", 6), ("", 0)]
    assert snapshot(s, "last") == want

    async def go():
        for q in ({}, {"encoding": "msgpack", "format": "binary"}, {"pos": "true"}):
            async with customer(s, channels="last", **q) as c:
                hello = await c.next()
                assert hello["val"]["channel_size"] == len(want)
                assert [(m["key"], val(m)) for m in await c.take(len(want))] == want
                await c.nothing()
        async with customer(s, "/v1/ws", channels="last", format="text") as c:
            assert (await c.next())["value"]["channel_size"] == len(want)
            assert [(m["key"], val(m)) for m in await c.take(len(want))] == want
        async with customer(s, channels="last", snapshot="false") as c:
            assert (await c.next())["val"]["channel_size"] == len(want)
            await c.nothing()
    run(go())


def test_filters_and_rights(srv):
    s = srv
    burst(s, "last", [("a/1", 1), ("b/1", 1), ("a/2", 2)])
    assert snapshot(s, "last", keys="a/%2B") == [("a/1", 1), ("a/2", 2)]
    assert snapshot(s, "last", key_text("some")) == [("a/1", 1), ("a/2", 2)]

    async def go():
        async with customer(s, channels="last", keys="b/#") as c:
            assert (await c.next())["val"]["channel_size"] == 1
            assert (await c.next())["key"] == "b/1"
    run(go())


def test_an_empty_value_takes_a_key_away(srv):
    s = srv
    publish(s, "quick", 1, "x")
    publish(s, "quick", 2, "y")
    assert snapshot(s, "quick") == [("x", 1), ("y", 2)]      # cached, then continued
    publish(s, "quick", b"", "x")
    assert snapshot(s, "quick") == [("y", 2)]
    publish(s, "quick", 3, "x")
    assert snapshot(s, "quick") == [("y", 2), ("x", 3)]
    publish(s, "quick", b"", "x")
    publish(s, "quick", b"", "y")
    assert snapshot(s, "quick") == []


def test_over_mqtt_too(srv):
    """What devices publish, retained or not, QoS 0 to 2, is what customers begin with."""
    s = srv
    c = s.connected()
    for qos in (0, 1, 2):
        c.publish("quick/m", f"{qos}".encode(), qos)
    c.publish("quick/r", b"3", 1, retain=True)
    c.publish("quick/r", b"4", 1)
    assert snapshot(s, "quick")[-2:] == [("m", 2), ("r", 4)]
    d = s.connected()
    d.subscribe("quick/r")
    d.message("quick/r", b"3")                               # retained is another thing
    c.publish("quick/r", b"", 1, retain=True)
    assert ("r", 4) not in snapshot(s, "quick")              # an empty value, all the same


@pytest.mark.parametrize("durability", ["disk", "memory"])
def test_survives_restart_and_kill(own_server, durability):
    """Keys whose messages retention has dropped are still there, after a clean stop and after a
    kill; what was taken away stays away."""
    chan = {"name": "last", "snapshot": "keys", "durability": durability,
            "retention": {"count": 5, "age": "unlimited", "bytes": "unlimited"}}
    s = own_server(config=config([chan], storage={"segment": "1MiB", "tail": "1MiB"})).start()
    burst(s, "last", [(f"old{i}", i) for i in range(50)])
    publish(s, "last", b"", "old7")
    filler = "x" * 2000
    for _ in range(12):                                      # over several segments
        burst(s, "last", [("busy", filler)] * 400)
    publish(s, "last", "end", "end")
    want = [(f"old{i}", i) for i in range(50) if i != 7] + [("busy", filler), ("end", "end")]

    assert snapshot(s, "last") == want
    for end in (s.stop, s.kill, s.stop):
        end()
        s.start()
        assert snapshot(s, "last") == want
        publish(s, "last", "end", "end")

    async def go():
        async with customer(s, channels="last") as c:
            assert (await c.next())["val"]["channel_size"] == len(want)
            assert [(m["key"], val(m)) for m in await c.take(len(want))] == want
    run(go())


def test_log_does_not_grow(own_server):
    """Retention frees the segments, last messages or not: they are copied together."""
    chan = {"name": "last", "snapshot": "keys", "durability": "memory",
            "retention": {"count": 5, "age": "unlimited", "bytes": "unlimited"}}
    s = own_server(config=config([chan], storage={"segment": "1MiB", "tail": "1MiB",
                                                  "sync_interval": "20ms"})).start()

    def size():
        return sum(os.path.getsize(os.path.join(s.data, f)) for f in os.listdir(s.data)
                   if f.startswith("mem-") and f.endswith(".seg"))
    burst(s, "last", [(f"old{i}", i) for i in range(500)])
    filler = "x" * 2000
    for i in range(40):
        burst(s, "last", [(f"busy{i}", filler)] * 400)       # 32 MB in all
    wait(lambda: size() < 12 << 20, "the log to be small again")
    got = snapshot(s, "last")
    assert got == [(f"old{i}", i) for i in range(500)] + [(f"busy{i}", filler) for i in range(40)]
    s.kill()
    s.start()
    assert snapshot(s, "last") == got


def test_limits(own_server):
    """Above its bounds a snapshot loses the keys that have had no message for longest."""
    s = own_server(config=config(limits={"snapshot_keys": 10, "snapshot_bytes": "64KiB"})).start()
    burst(s, "last", [(f"k{i}", i) for i in range(15)] + [("k6", "again")])
    want = [(f"k{i}", i) for i in (5, 7, 8, 9, 10, 11, 12, 13, 14)] + [("k6", "again")]
    assert snapshot(s, "last") == want
    s.kill()
    s.start()
    assert snapshot(s, "last") == want
    burst(s, "last", [("big1", "x" * 30000), ("big2", "y" * 30000), ("big3", "z" * 30000)])
    assert [k for k, _ in snapshot(s, "last")] == ["big2", "big3"]


def test_switched_by_reload(own_server):
    """Switched on: from then on; off: the last messages of the channel again."""
    plain = [{"name": "last"}]
    s = own_server(config=config(plain)).start()
    burst(s, "last", [("a", 1), ("b", 2), ("a", 3)])
    assert snapshot(s, "last") == [("a", 1), ("b", 2), ("a", 3)]
    s.reload(config([{"name": "last", "snapshot": "keys"}]))
    wait(lambda: snapshot(s, "last") == [], "the reload")
    burst(s, "last", [("b", 4), ("b", 5)])
    assert snapshot(s, "last") == [("b", 5)]
    s.reload(config(plain))
    wait(lambda: len(snapshot(s, "last")) == 5, "the reload")


@pytest.mark.tsan
def test_then_live_under_load(own_server):
    """Each customer, whenever it comes: of each key first the last value, then every later one,
    none missing, none twice."""
    s = own_server(config=config()).start()
    keys, rounds, stop = 20, 0, threading.Event()
    burst(s, "quick", [(f"k{k}", 0) for k in range(keys)])

    def pump():
        nonlocal rounds
        while not stop.wait(0.005):                          # customers here are slow
            rounds += 1
            burst(s, "quick", [(f"k{k}", rounds) for k in range(keys)])
    pumping = threading.Thread(target=pump)
    pumping.start()

    async def one(n):
        await asyncio.sleep(0)
        async with customer(s, channels="quick", **({} if n % 2 else {"keys": "#"})) as c:
            size = (await c.next())["val"]["channel_size"]
            assert size == keys
            seen = {}
            for i in range(size + 10 * keys):
                m = await c.next()
                if m["key"] in seen:
                    assert m["val"] == seen[m["key"]] + 1, (i, m, seen[m["key"]])
                    assert i >= size
                else:
                    assert i < size, f"{m} was not in the snapshot"
                seen[m["key"]] = m["val"]

    async def go():
        for _ in range(4):
            await asyncio.gather(*(one(n) for n in range(6)))
    try:
        run(go())
    finally:
        stop.set()
        pumping.join()
    assert rounds > 10
