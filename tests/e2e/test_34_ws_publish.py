"""Publishing over WebSocket: GET /v1/publish?channel=C (docs/http.md): frames and answers, their
order, rights, limits, back-pressure, the ledger, and how it ends."""
import http.client
import json
import urllib.parse

import msgpack
import pytest

from diskfault import Disk
from harness import DEADLINE, wait
from lvconf import ALL, app, doc, key, key_text
from test_22_ledger import balanced
from test_32_http_publish import CHANNELS, position
from ws import BINARY, CLOSE, FIN, PING, TEXT, WS, Refused, close_payload

pytestmark = pytest.mark.lavva_only


class Publisher(WS):
    def __init__(self, s, channel="c", ident="full", query=None, **fields):
        q = {**({"channel": channel} if channel is not None else {}), **(query or {})}
        if ident:
            q["apiKey"] = key_text(ident)
        super().__init__(s.http, "/v1/publish?" + urllib.parse.urlencode(q),
                         headers=[f"{k.replace('_', '-')}: {v}" for k, v in fields.items()])

    def put(self, data, op=TEXT):
        self.send_frame(op, data if isinstance(data, bytes) else json.dumps(data))

    def answer(self, op=TEXT):
        while True:
            first, data = self.frame()
            if first == op | FIN:
                return json.loads(data) if op == TEXT else data
            assert first == PING | FIN, (first, data)

    def ask(self, **m):
        self.put(m)
        return self.answer()


@pytest.fixture
def s(own_server):
    keys = [key("full", ALL, ALL, sys=True), key("out", ["out/#"], [])]
    return own_server(config=doc([app(keys=keys, channels=CHANNELS)])).start()


def refused(s, *a, **kw):
    with pytest.raises(Refused) as e:
        Publisher(s, *a, **kw)
    return e.value.status


def test_frames_and_answers(s):
    sub = s.connected()
    sub.subscribe("c/#", qos=1)
    p = Publisher(s, Publisher_Id="me")
    a = p.ask(id=1, key="k", tag="t", cat="x", val={"a": 1})
    assert set(a) == {"id", "pos"} and a["id"] == 1 and position(a["pos"])[1] == 0
    m = sub.message("c/k", b'{"a": 1}', retain=False, qos=1)
    assert m.users == [("tag", "t"), ("cat", "x")]
    a = p.ask(id="two\"\u00e9", b64="AAE=")
    assert a["id"] == "two\"\u00e9" and position(a["pos"])[1] == 1
    sub.message("c", b"\x00\x01")
    assert set(p.ask(val=None)) == {"pos"}
    p.put({"id": 7, "val": 1}, BINARY)          # JSON in a binary frame, and so the answer
    assert json.loads(p.answer(BINARY))["id"] == 7
    for bad, code in (({"id": 3}, "PAYLOAD"), ({"id": 4, "val": 1, "key": "#"}, "TOPIC")):
        a = p.ask(**bad)
        assert (a["id"], a["code"]) == (bad["id"], code) and a["error"]
    p.put(b"{")
    a = p.answer()
    assert a["code"] == "PAYLOAD" and "id" not in a
    assert p.ask(id=5, val=1)["id"] == 5        # and it goes on
    m = s.metrics(raw=True)
    assert m['lavva_gateway_in_messages_total{app="dev",protocol="ws"}'] == 5
    b = balanced(s)
    assert b.reject("payload") == 2 and b.reject("topic") == 1


def test_msgpack(s):
    sub = s.connected()
    sub.subscribe("c/#", qos=1)
    p = Publisher(s, query={"encoding": "msgpack"})

    def ask(m):
        p.put(m if isinstance(m, bytes) else msgpack.packb(m), BINARY)
        return msgpack.unpackb(p.answer(BINARY))
    a = ask({"id": 1, "key": "k", "tag": "t", "cat": "x", "val": {"a": [1, None, 2.5], "b": b"\0"}})
    assert set(a) == {"id", "pos"} and a["id"] == 1
    assert sub.message("c/k", b'{"a":[1,null,2.5],"b":"AA=="}').users == [("tag", "t"), ("cat", "x")]
    assert ask({"val": b"\x00\xff", "id": "\u00e9"})["id"] == "\u00e9"
    sub.message("c", b"\x00\xff")
    assert set(ask({"val": "text"})) == {"pos"}
    sub.message("c", b'"text"')
    for bad, code in (({"id": -3}, "PAYLOAD"), ({"val": 1, "key": 2, "id": -3}, "PAYLOAD"),
                      ({"id": -3, "val": {1: 2}}, "PAYLOAD"), ({"id": -3, "b64": "AA=="}, "PAYLOAD"),
                      ({"id": -3, "val": float("nan")}, "PAYLOAD"),
                      ({"id": -3, "val": 1, "key": "+"}, "TOPIC")):
        a = ask(bad)
        assert (a["id"], a["code"]) == (-3, code) and a["error"], bad
    for junk in (b"", b"\xc1", b"\x81\xa2id", b"\x90", msgpack.packb({"val": 1}) + b"\0"):
        a = ask(junk)
        assert a["code"] == "PAYLOAD" and "id" not in a, junk
    assert p.ask(id=5, val=1)["id"] == 5        # text frames are JSON all the same
    b = balanced(s)
    assert b.gw_out == 4 and b.reject("payload") == 10 and b.reject("topic") == 1


def test_before_the_upgrade(s):
    assert refused(s, ident=None) == 401
    assert refused(s, channel=None) == 400
    assert refused(s, channel="_x") == 400
    assert refused(s, channel="a/b") == 400
    assert refused(s, query={"encoding": "xml"}) == 400
    assert refused(s, Publisher_Id="x" * 257) == 400
    c = http.client.HTTPConnection(*s.http, timeout=DEADLINE)
    c.request("GET", f"/v1/publish?channel=c&apiKey={s.key}")
    assert c.getresponse().status == 426
    p = Publisher(s, "in", "out")
    assert p.ask(id=1, val=1)["code"] == "FORBIDDEN"
    assert balanced(s).reject("forbidden") == 1


def test_origins(own_server):
    one = "https://one.example"
    s = own_server(config=doc([app(), app("shut", keys=[key("shut", ALL, ALL)], origins=[one])]))
    s.start()
    assert Publisher(s, Origin="https://any.example").ask(val=1)
    assert Publisher(s, ident="shut", Origin=one).ask(val=1)
    assert Publisher(s, ident="shut").ask(val=1)
    assert refused(s, ident="shut", Origin="https://any.example") == 403


def test_answers_come_in_order(own_server):
    """Also where a refusal would be faster than what waits for the disk."""
    s = own_server(config=doc([app(channels=CHANNELS)], server={"threads": 1},
                              storage={"reserve": "0B", "segment": "4MiB"}))
    s.disk = Disk(s)
    s.start()
    p = Publisher(s, "d")
    assert p.ask(val=0)
    s.disk.set(hold=1)
    for i in range(10):
        p.put({"val": i} if i % 2 else {"val": i, "key": "#"})
    wait(lambda: s.metrics()["lavva_publish_inflight_messages"] == 5, "the disk to be waited for")
    s.disk.set(hold=0)
    got = [p.answer() for _ in range(10)]
    assert ["pos" in a for a in got] == [False, True] * 5
    assert balanced(s).gw_out == 6


@pytest.mark.tsan
def test_many_in_order(s):
    sub = s.connected()
    sub.subscribe("d/#", qos=1)
    p, n = Publisher(s, "d"), 3000
    got = []
    for i in range(n):
        p.put({"id": i, "val": i})
        if i % 100 == 99:
            got += [p.answer() for _ in range(50)]
    got += [p.answer() for _ in range(n - len(got))]
    assert [a["id"] for a in got] == list(range(n))
    assert [position(a["pos"])[1] for a in got] == list(range(n))
    assert [int(m.payload) for m in sub.collect(n)] == list(range(n))
    assert balanced(s).gw_out == n


def test_full_queue_stops_reading(own_server):
    """While the disk hangs frames wait in the kernel; none is lost and none is refused."""
    s = own_server(config=doc([app(channels=CHANNELS, limits={"inflight": 50})],
                              server={"publish_queue": "1MiB", "threads": 1},
                              storage={"reserve": "0B", "segment": "4MiB"}))
    s.disk = Disk(s)
    s.start()
    p, few = Publisher(s, "d"), Publisher(s, "d")
    assert p.ask(val=0)
    s.disk.set(hold=1)
    p.put({"id": 0, "val": "x" * (1 << 20)})
    wait(lambda: s.metrics()["lavva_publish_inflight_messages"] == 1, "the queue to be full")
    for i in range(1, 20):
        p.put({"id": i, "val": i})
    s.disk.set(hold=0)
    assert [p.answer().get("id") for _ in range(20)] == list(range(20))
    s.disk.set(hold=1)
    for i in range(200):            # more than may be in flight
        few.put({"id": i, "val": i})
    wait(lambda: s.metrics()["lavva_publish_inflight_messages"] == 50, "answers to be due")
    s.disk.set(hold=0)
    got = [few.answer() for _ in range(200)]
    assert [a["id"] for a in got] == list(range(200)) and all("pos" in a for a in got)
    b = balanced(s)
    assert b.rejected == 0 and b.gw_out == 221


def test_how_it_ends(own_server):
    keys = [key("full", ALL, ALL), key("gone", ALL, ALL)]
    conf = doc([app(keys=keys, limits={"packet": "8KiB"})], limits={"packet": "64KiB"})
    s = own_server(config=conf).start()
    p = Publisher(s)
    p.put({"val": "x" * 10000})
    p.closed(1009)
    p = Publisher(s)
    p.put(b"\xff")
    p.closed(1007)       # text is UTF-8
    gone, stays = Publisher(s, ident="gone"), Publisher(s)
    assert gone.ask(val=1) and stays.ask(val=1)
    conf["apps"][0]["keys"] = keys[:1]
    s.reload(conf)
    with pytest.raises(Refused):
        wait(lambda: Publisher(s, ident="gone") and False, "the key to be gone", step=0.05)
    gone.put({"val": 2})
    assert "key" in gone.closed(1008)
    assert "pos" in stays.ask(val=2)
    balanced(s)
    s.signal(15)
    stays.closed(1012)


def test_limits(own_server):
    keys = [key("full", ALL, ALL)]
    s = own_server(config=doc([app(keys=keys, auto_channels=False, channels=[{"name": "c"}],
                                   limits={"connections": 2, "messages_per_second": 3})])).start()
    one, two = Publisher(s), Publisher(s, "none")
    assert refused(s) == 429
    assert two.ask(id=1, val=1)["code"] == "NOT_FOUND"
    two.sock.close()
    three = wait(lambda: again(s), "the place of the one that left")
    got = [one.ask(id=i, val=i) for i in range(20)]
    assert sum("pos" in a for a in got) >= 3 and any(a.get("code") == "RATE" for a in got)
    assert "pos" in three.ask(val=1)                 # by connection
    b = balanced(s)
    assert b.reject("rate") == sum(a.get("code") == "RATE" for a in got)


def again(s):
    try:
        return Publisher(s)
    except Refused:
        return None


def test_client_that_leaves(s):
    for i in range(20):
        p = Publisher(s, "d")
        for k in range(10):
            p.put({"val": k})
        if i % 2:
            p.put(close_payload(1000), CLOSE)
            while p.frame()[0] != CLOSE | FIN:      # answers, then the end
                pass
        p.sock.close()
    wait(lambda: s.metrics()["lavva_publish_inflight_messages"] == 0, "all to be stored")
    b = balanced(s)
    assert b.gw_in == b.gw_out >= 100
