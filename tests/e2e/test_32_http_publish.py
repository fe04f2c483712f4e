"""Publishing over HTTP: POST /v1/channels/{channel}/messages (docs/http.md), the guarantees that
its answers give (1: acked means safe; 3: Idempotency-Key; 4: nothing is silent; 5: bounded)."""
import base64
import http.client
import json
import subprocess
import threading
import urllib.parse
import urllib.request

import pytest

from diskfault import Disk
from harness import DEADLINE, wait
from lvconf import ALL, app, doc, key, key_text
from test_15_tls import make_ca
from test_22_ledger import balanced

pytestmark = pytest.mark.lavva_only
KEEP = {"session_expiry": 3600}


class Answer:
    def __init__(self, r):
        self.status, self.headers, self.body = r.status, r.headers, r.read()

    @property
    def json(self):
        assert self.headers["Content-Type"] == "application/json", self.headers
        return json.loads(self.body)

    @property
    def pos(self):
        assert self.status == 200, (self.status, self.body)
        return position(self.json["pos"])

    @property
    def code(self):
        return self.status, self.json["code"]


def position(text):
    epoch, _, offset = text.rpartition("-")
    assert epoch and "-" not in epoch, text
    return epoch, int(offset)


class Poster:
    """A connection that is kept alive."""

    def __init__(self, s, ident="full", tls=None, **fields):
        if tls:
            self.c = http.client.HTTPSConnection(*s.https, timeout=DEADLINE, context=tls)
        else:
            self.c = http.client.HTTPConnection(*s.http, timeout=DEADLINE)
        self.fields = {k.replace("_", "-"): v for k, v in fields.items()}
        if ident:
            text = s.key if s.config is None else key_text(ident)
            self.fields["Authorization"] = f"Bearer {text}"

    def ask(self, method, path, body=None, **fields):
        h = {**self.fields, **{k.replace("_", "-"): v for k, v in fields.items()}}
        self.c.request(method, path, body=body, headers={k: v for k, v in h.items() if v})
        return Answer(self.c.getresponse())

    def post(self, channel, body=b"", query=None, **fields):
        path = f"/v1/channels/{channel}/messages"
        if query:
            path += "?" + (query if isinstance(query, str) else urllib.parse.urlencode(query))
        return self.ask("POST", path, body, **fields)

    def batch(self, channel, items, query=None, **fields):
        return self.post(channel, json.dumps(items), {"batch": 1, **(query or {})}, **fields)


def lines(items):
    return "\n".join(x if isinstance(x, str) else json.dumps(x) for x in items) + "\n"


CHANNELS = [{"name": "j", "content": "json"}, {"name": "t", "content": "text"},
            {"name": "b", "content": "binary"}, {"name": "m", "durability": "memory"},
            {"name": "d", "durability": "disk"}]


@pytest.fixture
def s(own_server):
    keys = [key("full", ALL, ALL, sys=True), key("out", ["out/#"], [])]
    return own_server(config=doc([app(keys=keys, channels=CHANNELS)])).start()


def subscriber(s, *filters):
    c = s.connected()
    c.subscribe(*(filters or ("#",)), qos=2)
    return c


# ---- one value ----

def test_value_reaches_mqtt(s):
    sub = subscriber(s)
    p = Poster(s)
    a = p.post("c", b"\x00\xffraw", {"key": "a/b c/é", "tag": "t1", "cat": "k"},
               Content_Type="application/octet-stream", Publisher_Id="me")
    m = sub.message("c/a/b c/é", b"\x00\xffraw", qos=1, retain=False)
    assert m.users == [("tag", "t1"), ("cat", "k")]
    assert m.prop("content_type") == "application/octet-stream"
    b = p.post("c", b"two")
    m = sub.message("c", b"two", qos=1, retain=False)
    assert m.users == [] and m.prop("content_type") is None
    assert a.pos[0] == b.pos[0] and b.pos[1] == a.pos[1] + 1
    assert p.post("c", b"", {"key": ""}).status == 200
    sub.message("c/", b"", retain=False)
    late = subscriber(s)                # nothing of it was retained
    s.nothing(s.connected(), late)
    balanced(s)


def test_positions_grow(s):
    p = Poster(s)
    for channel in ("m", "d"):
        got = [p.post(channel, b"%d" % i).pos for i in range(30)]
        assert [o for _, o in got] == list(range(30)) and len({e for e, _ in got}) == 1


def test_curl_and_urllib(s):
    """What people type. curl's own content type says nothing, so it is not kept."""
    sub = subscriber(s)
    url = f"http://{s.http[0]}:{s.http[1]}/v1/channels/c/messages"
    r = subprocess.run(["curl", "-s", "-H", f"Authorization: Bearer {s.key}", "-d", '{"a": 1}',
                        f"{url}?key=x&tag=a+b"], capture_output=True, text=True, check=True,
                       timeout=DEADLINE)
    assert position(json.loads(r.stdout)["pos"])[1] == 0
    m = sub.message("c/x", b'{"a": 1}')
    assert m.prop("content_type") is None and m.users == [("tag", "a b")]
    req = urllib.request.Request(f"{url}?apiKey={s.key}", data=b"hi",
                                 headers={"Content-Type": "text/plain"})
    with urllib.request.urlopen(req, timeout=DEADLINE) as f:
        assert position(json.load(f)["pos"])[1] == 1
    assert sub.message("c", b"hi").prop("content_type") == "text/plain"


def test_channel_without_a_name(s):
    """Channel `_` is reached only by topics whose first level names no channel."""
    sub = subscriber(s)
    p = Poster(s)
    assert p.post("_", b"1", {"key": "/a/b"}).status == 200
    sub.message("/a/b", b"1")
    assert p.post("_", b"2", {"key": "no name/x"}).status == 200
    sub.message("no name/x", b"2")
    for query in ({"key": "a/b"}, None, {"key": ""}):
        assert p.post("_", b"x", query).code == (400, "TOPIC")
    assert p.post("_", b"x", {"key": "$SYS/x"}).code == (403, "FORBIDDEN")
    for channel in ("_x", "a%2Fb", "a%20b", "x" * 65):
        assert p.post(channel, b"x").code == (400, "TOPIC"), channel
    b = balanced(s)
    assert b.offered == 2 + 3 + 1 + 4 and b.reject("sys") == 1 and b.reject("topic") == 7


# ---- who and whether ----

def test_who(s):
    for ident, fields in ((None, {}), (None, {"Authorization": "Bearer lv_full_wrongwrongwrong"}),
                          (None, {"Authorization": f"Basic {key_text('full')}"}),
                          (None, {"Authorization": "Bearer "})):
        a = Poster(s, ident).post("c", b"x", **fields)
        assert a.code == (401, "BAD_AUTH") and a.headers["WWW-Authenticate"] == "Bearer"
    p = Poster(s, None)
    assert p.post("c", b"x", {"apiKey": key_text("full")}).status == 200
    assert p.post("c", b"x", {"apiKey": "nonsense"}).status == 401
    both = f"apiKey={key_text('full')}&apiKey={key_text('out')}"
    assert p.post("c", b"x", both).code == (400, "INVALID")
    full = Poster(s)
    assert full.post("c", b"x", {"apiKey": key_text("full")}).status == 200
    assert full.post("c", b"x", {"apiKey": key_text("out")}).code == (400, "INVALID")
    out = Poster(s, "out")
    assert out.post("c", b"x", {"key": "y"}).code == (403, "FORBIDDEN")
    assert out.post("out", b"x", {"key": "y"}).status == 200
    b = balanced(s)
    assert b.offered == 4 and b.reject("forbidden") == 1
    assert b.m['lavva_auth_failures_total'] == 5


def test_certificate_and_nobody(own_server, tmp_path):
    ca, issue = make_ca(str(tmp_path / "pki"), "ca")
    cert, private = issue("server", "DNS:localhost,IP:127.0.0.1")
    s = own_server(config=doc(
        [app(keys=[key("full", ALL, ALL), key("thing", ["out/#"], [])])],
        listen=[{"https": "127.0.0.1:0"}],
        server={"tls": {"certificate": cert, "key": private, "client_ca": ca}})).start()
    s.ca = ca
    thing = Poster(s, None, tls=s.tls(*issue("thing")))
    assert thing.post("out", b"1").status == 200
    assert thing.post("in", b"1").status == 403
    assert Poster(s, None, tls=s.tls()).post("out", b"1").status == 401
    assert Poster(s, None, tls=s.tls(*issue("stranger"))).post("out", b"1").status == 401
    m = s.metrics(raw=True)
    assert m['lavva_gateway_in_messages_total{app="dev",protocol="https"}'] == 1
    balanced(s)


def test_anonymous(own_server):
    s = own_server(config=doc([app()], server={"anonymous": True})).start()
    assert Poster(s, None).post("c", b"1").status == 200
    assert Poster(s, None).post("c", b"1", {"apiKey": "demo"}).status == 200
    assert Poster(s, None).post("c", b"1", {"apiKey": "lv_full_wrongwrongwrong"}).status == 401


def test_refused(own_server):
    """Each status, each counted."""
    s = own_server(config=doc([app(auto_channels=False, channels=CHANNELS, limits={
        "packet": "8KiB", "messages_per_second": 40})], limits={"packet": "64KiB"})).start()
    p = Poster(s)
    assert p.post("nowhere", b"x").code == (404, "NOT_FOUND")
    assert p.post("j", b"{").code == (422, "PAYLOAD")
    assert p.post("j", b"").code == (422, "PAYLOAD")
    assert p.post("t", b"\xff").code == (422, "PAYLOAD")
    assert p.post("m", b"x" * 9000).code == (413, "TOO_BIG")
    assert p.post("m", b"x", Content_Encoding="gzip").code == (415, "PAYLOAD")
    for query in ("key=a%23", "key=a%2B", "key=%00", "key=%ff", "key=a&key=b", "batch=2",
                  "tag=" + "x" * 1025):
        assert p.post("m", b"x", query).status == 400, query
    assert p.post("%ff", b"x").status == 400
    assert p.post("m", b"x", Publisher_Id="x" * 257).code == (400, "INVALID")
    assert p.post("m", b"x", Idempotency_Key="x" * 256).code == (400, "INVALID")
    b = balanced(s)
    assert b.offered == b.m["lavva_gateway_offered_messages_total"] == 16
    assert (b.reject("payload"), b.reject("too-big"), b.gw_in) == (4, 1, 0)
    assert Poster(s).ask("GET", "/v1/channels/m/messages").status == 405
    big = Poster(s).post("m", b"x" * 70000, Origin="https://a.example")
    assert big.status == 413 and big.headers["Access-Control-Allow-Origin"] == "*"


def test_rate(own_server):
    s = own_server(config=doc([app(limits={"messages_per_second": 5})])).start()
    p = Poster(s)
    got = [p.post("c", b"x") for _ in range(60)]
    over = [a for a in got if a.status == 429]
    assert over and all(a.code == (429, "RATE") and a.headers["Retry-After"] == "1" for a in over)
    assert len(got) - len(over) >= 5
    b = balanced(s)
    assert b.reject("rate") == len(over) and b.gw_out == len(got) - len(over)
    a = p.batch("c", [{"val": i} for i in range(50)])
    assert a.status in (207, 429) and a.headers["Retry-After"] == "1"
    balanced(s)


def test_channel_quota(own_server):
    s = own_server(config=doc([app(limits={"channels": 2})])).start()
    p = Poster(s)
    got = [p.post(f"c{i}", b"x").status for i in range(4)]
    assert got == [200, 200, 429, 429]
    assert balanced(s).reject("quota") == 2


# ---- batches ----

def test_batches(s):
    sub = subscriber(s)
    p = Poster(s)
    items = [{"key": "a", "val": {"x": [1, 2.50]}}, {"key": "b", "tag": "T", "val": "text"},
             {"cat": "C", "b64": base64.b64encode(b"\x00\xff").decode()}, {"key": "", "val": None}]
    want = [("c/a", b'{"x": [1, 2.50]}', []), ("c/b", b'"text"', [("tag", "T")]),
            ("c", b"\x00\xff", [("cat", "C")]), ("c/", b"null", [])]
    text = json.dumps(items).replace("2.5]", "2.50]")
    sent = [p.post("c", text, "batch=1"),
            p.post("c", lines(json.dumps(x).replace("2.5]", "2.50]") for x in items) + "\r\n\n",
                   Content_Type="application/x-ndjson; charset=utf-8")]
    offset = 0
    for a in sent:
        assert a.status == 200
        for r, (topic, value, users) in zip(a.json["results"], want, strict=True):
            assert position(r["pos"])[1] == offset
            offset += 1
            m = sub.message(topic, value, retain=False, qos=1)
            assert m.users == users and m.prop("content_type") is None
    a = p.batch("c", [{"val": 1}, {"val": 2, "key": "own"}], {"key": "q", "tag": "both"})
    assert a.status == 200
    for topic in ("c/q", "c/own"):
        assert sub.message(topic).users == [("tag", "both")]
    assert balanced(s).gw_in == 10


def test_batch_errors(s):
    p = Poster(s, "out")
    a = p.post("out", lines([{"val": 1}, "{", {"val": 1, "b64": ""}, {"key": "+", "val": 1}, "[]",
                             {"key": 5, "val": 1}, {"b64": "?"}, {"val": 2}]),
               Content_Type="application/x-ndjson")
    r = a.json["results"]
    assert a.status == 207 and [x.get("status", 200) for x in r] == [
        200, 422, 422, 400, 422, 422, 422, 200]
    assert all(set(x) == {"error", "code", "status"} for x in r if "pos" not in x)
    assert [position(x["pos"])[1] for x in r if "pos" in x] == [0, 1]
    assert p.batch("in", [{"val": 1}, {"val": 2}]).status == 403
    for body, status in (("{}", 422), ("[1,", 422), ("[]", 400), ("", 422), ("[] x", 422),
                         ('"[]"', 422), ("[[[", 422)):
        assert p.post("out", body, "batch=1").status == status, body
    assert p.post("out", "\n\n", Content_Type="application/x-ndjson").status == 400
    deep = p.post("out", "[" * 200 + "]" * 200, "batch=1")
    assert deep.code == (422, "NESTING")
    many = p.batch("out", [{"val": 1}] * 10001)
    assert many.code == (413, "TOO_BIG")
    b = balanced(s)
    assert b.gw_in == 2 and b.reject("forbidden") == 2


def test_declared_channels(s):
    """What a member `val` is on a channel that says what it carries."""
    sub = subscriber(s, "t/#", "b/#", "j/#")
    p = Poster(s)
    b64 = base64.b64encode(b"\xff").decode()
    a = p.batch("t", [{"val": "a\"\u00e9\n"}, {"val": 1}, {"b64": b64}])
    assert [r.get("status", 200) for r in a.json["results"]] == [200, 422, 422]
    sub.message("t", "a\"\u00e9\n".encode())
    a = p.batch("b", [{"val": "x"}, {"b64": b64}])
    assert [r.get("status", 200) for r in a.json["results"]] == [422, 200]
    sub.message("b", b"\xff")
    a = p.batch("j", [{"val": "x"}, {"b64": b64}, {"b64": base64.b64encode(b"[1]").decode()}])
    assert [r.get("status", 200) for r in a.json["results"]] == [200, 422, 200]
    sub.message("j", b'"x"')
    sub.message("j", b"[1]")
    assert balanced(s).reject("payload") == 4


@pytest.mark.tsan
def test_large_batch_in_order(s):
    sub = subscriber(s, "c/#")
    a = Poster(s).post("c", lines({"key": f"{i % 7}", "val": i} for i in range(5000)),
                       Content_Type="application/x-ndjson")
    assert [position(r["pos"])[1] for r in a.json["results"]] == list(range(5000))
    assert [int(m.payload) for m in sub.collect(5000)] == list(range(5000))
    balanced(s)


# ---- Idempotency-Key ----

@pytest.mark.parametrize("channel", ["m", "d"])
def test_idempotency(s, channel):
    sub = subscriber(s, f"{channel}/#")
    p = Poster(s)
    one = p.post(channel, b"1", {"key": "k"}, Idempotency_Key="a")
    assert one.status == 200
    for _ in range(2):
        again = p.post(channel, b"1", {"key": "k"}, Idempotency_Key="a")
        assert (again.status, again.body) == (200, one.body)
    for body, query in ((b"2", {"key": "k"}), (b"1", {"key": "l"}), (b"1", {"key": "k", "tag": "x"})):
        assert p.post(channel, body, query, Idempotency_Key="a").code == (422, "PAYLOAD")
    items = [{"val": i} for i in range(4)]
    batch = p.batch(channel, items, Idempotency_Key="b")
    assert p.batch(channel, items, Idempotency_Key="b").body == batch.body
    assert p.batch(channel, items[:3], Idempotency_Key="b").status == 422
    assert len(sub.collect(5)) == 5
    s.kill()
    s.start()
    p = Poster(s)
    sub = subscriber(s, f"{channel}/#")
    offset = one.pos[1]
    assert p.post(channel, b"1", {"key": "k"}, Idempotency_Key="a").pos[1] == offset
    again = p.batch(channel, items, Idempotency_Key="b")
    assert [position(r["pos"])[1] for r in again.json["results"]] == list(range(1, 5))
    assert p.post(channel, b"2", {"key": "k"}, Idempotency_Key="a").status == 422
    assert p.batch(channel, items[:3], Idempotency_Key="b").status == 422
    s.nothing(s.connected(), sub)
    b = balanced(s)
    assert b.gw_in == 1 and b.reject("duplicate") == 5      # the barrier; 1 + 4 repeats


def test_idempotency_keys_are_of_an_app(own_server):
    s = own_server(config=doc([app(), app("two", keys=[key("two", ALL, ALL)])])).start()
    for ident in ("full", "two"):
        assert Poster(s, ident).post("c", ident.encode(), Idempotency_Key="same").status == 200
    assert balanced(s).gw_in == 2


def test_idempotency_is_bounded(own_server):
    """Above the limit the oldest are forgotten: also by a restart."""
    s = own_server(config=doc([app(limits={"idempotency": 10})])).start()
    p = Poster(s)
    for i in range(30):
        assert p.post("c", b"%d" % i, Idempotency_Key=f"k{i}").status == 200
    for round in range(2):
        assert p.post("c", b"29", Idempotency_Key="k29").pos[1] == 29
        assert p.post("c", b"other", Idempotency_Key="k25").status == 422
        s.stop()
        s.start()
        p = Poster(s)
    assert p.post("c", b"other", Idempotency_Key="k0").pos[1] == 30
    balanced(s)


def test_a_failure_leaves_the_key_free(s):
    p = Poster(s)
    assert p.post("j", b"{", Idempotency_Key="a").status == 422
    assert p.post("j", b"{}", Idempotency_Key="a").status == 200
    balanced(s)


# ---- back-pressure and broken disks ----

def disk_server(own_server, **kw):
    s = own_server(config=doc([app(channels=CHANNELS)], **kw))
    s.disk = Disk(s)
    s.start()
    assert Poster(s).post("d", b"ready").status == 200
    return s


def in_thread(fn):
    box = []
    t = threading.Thread(target=lambda: box.append(fn()), daemon=True)
    t.start()
    return t, box


def test_back_pressure(own_server):
    """While the disk hangs nothing is acknowledged; a full queue answers 503; then all is well."""
    s = disk_server(own_server, server={"publish_queue": "1MiB", "threads": 1},
                    storage={"reserve": "0B", "segment": "4MiB"})
    s.disk.set(hold=1)
    inflight = "lavva_publish_inflight_messages"
    held = [in_thread(lambda: Poster(s).post("d", b"once", Idempotency_Key="k"))]
    wait(lambda: s.metrics()[inflight] == 1, "a publish to hang")
    a = Poster(s).post("d", b"once", Idempotency_Key="k")
    assert a.code == (409, "EXISTS")
    held.append(in_thread(lambda: Poster(s).post("d", b"x" * (1 << 20))))
    wait(lambda: s.metrics()[inflight] == 2, "the queue to be full")
    a = Poster(s).post("d", b"y")
    assert a.code == (503, "BUSY") and a.headers["Retry-After"] == "1"
    a = Poster(s).batch("d", [{"val": 1}, {"val": 2}])
    assert a.status == 503 and [r["code"] for r in a.json["results"]] == ["BUSY", "BUSY"]
    assert not any(box for _, box in held)
    s.disk.set(hold=0)
    for t, box in held:
        t.join(DEADLINE)
    offsets = [box[0].pos[1] for _, box in held]
    assert offsets == [1, 2]
    assert Poster(s).post("d", b"once", Idempotency_Key="k").pos[1] == 1
    b = balanced(s)
    assert b.reject("busy") == 4 and b.reject("duplicate") == 1 and b.gw_in == 3


def test_disk_full(own_server):
    s = disk_server(own_server, storage={"reserve": "0B", "segment": "1MiB"})
    s.disk.fill()
    body = b"x" * 100000
    got = [Poster(s).post("d", body, Idempotency_Key="k%d" % i) for i in range(60)]
    bad = [a for a in got if a.status != 200]
    assert bad and all(a.code == (503, "DISK_FULL") for a in bad), [a.status for a in got]
    assert all(a.headers["Retry-After"] for a in bad)
    s.disk.free()
    wait(lambda: Poster(s).post("d", b"after").status == 200, "the disk to be taken again")
    # what was refused under a key can be sent again; what was stored is not stored twice
    for i, a in enumerate(got):
        again = Poster(s).post("d", body, Idempotency_Key="k%d" % i)
        assert again.status == 200 and (a.status != 200 or again.body == a.body)
    balanced(s)


def test_client_that_does_not_wait(s):
    """Its messages are stored all the same, and nothing is left behind."""
    sub = subscriber(s, "d/#")
    for i in range(20):
        p = Poster(s)
        p.c.putrequest("POST", f"/v1/channels/d/messages?key={i}")
        for k, v in {**p.fields, "Content-Length": "1"}.items():
            p.c.putheader(k, v)
        p.c.endheaders(b"x")
        p.c.close()
    assert len(sub.collect(20)) == 20
    assert balanced(s).gw_out == 20


# ---- pages, and what is never said ----

def test_cors(own_server):
    one, other = "https://one.example", "https://other.example"
    s = own_server(config=doc([app(), app("shut", keys=[key("shut", ALL, ALL)],
                                          origins=[one])])).start()
    def allowed(a):
        return a.headers["Access-Control-Allow-Origin"]
    p, shut, nobody = Poster(s), Poster(s, "shut"), Poster(s, None)
    a = nobody.ask("OPTIONS", "/v1/channels/c/messages", Origin=other,
                   Access_Control_Request_Method="POST",
                   Access_Control_Request_Headers="authorization,content-type,idempotency-key")
    assert a.status == 204 and allowed(a) == "*" and not a.body
    assert "POST" in a.headers["Access-Control-Allow-Methods"]
    for name in ("Authorization", "Content-Type", "Idempotency-Key"):
        assert name in a.headers["Access-Control-Allow-Headers"]
    a = nobody.post("c", b"x", Origin=other)
    assert a.status == 401 and allowed(a) == "*"
    for a in (p.post("c", b"x", Origin=other), p.post("_", b"x", Origin=other)):
        assert allowed(a) == other and a.headers["Vary"] == "Origin"
        assert a.headers["Access-Control-Expose-Headers"] == "Retry-After"
    assert allowed(p.post("c", b"x")) is None
    assert allowed(shut.post("c", b"x", Origin=one)) == one
    a = shut.post("c", b"x", Origin=other)
    assert a.status == 200 and allowed(a) is None and a.headers["Vary"] == "Origin"
    for a in (nobody.post("c", b"x"), p.post("c", b"x", Origin=other)):
        assert a.headers["Access-Control-Allow-Credentials"] is None


def test_no_secret_is_said(own_server):
    s = own_server(config=doc([app(keys=[key("full", ALL, ALL), key("out", ["out/#"], [])])]),
                   args=["--log-level", "debug"]).start()
    p, said = Poster(s, None), []
    secret, word = key_text("full"), "querysecret"
    said.append(p.post("c", b"x", {"apiKey": secret, "key": word}))
    said.append(p.post("c", b"x", {"apiKey": secret + "x", "key": word}))
    said.append(p.post("c", b"x", {"apiKey": key_text("out"), "key": word}))
    said.append(p.post("_" + word, b"x", {"apiKey": secret}))
    said.append(p.post("c", b"x", f"apiKey={secret}&key={word}&key={word}"))
    said.append(p.post("c", b"x", {"key": word}, Authorization=f"Bearer {secret}y"))
    said.append(p.post("c", b"x", f"apiKey={secret}&key=%ff{word}"))
    assert [a.status for a in said] == [200, 401, 403, 400, 400, 401, 400]
    text = s.log() + "".join(f"{a.headers}{a.body}" for a in said)
    for leak in (secret, key_text("out"), secret.rpartition("_")[2], word):
        assert leak not in text


# ---- all at once ----

def test_mixed_load_balances(s):
    """HTTP and MQTT publishers at once, from one to batches, with refusals: to the message."""
    sub = subscriber(s, "c/#", "d/#")
    errors, want = [], []

    def http_side(n):
        try:
            p = Poster(s)
            for i in range(60):
                a = p.post("c", b"%d" % i, {"key": f"h{n}"})
                b = p.batch("d", [{"key": f"h{n}", "val": i}, {"key": "#", "val": 0}])
                assert (a.status, b.status) == (200, 207)
                if i % 10 == 0:
                    assert Poster(s, "out").post("c", b"no").status == 403
                want.append(2)
        except Exception as e:      # noqa: BLE001 - told below
            errors.append(e)

    def mqtt_side():
        try:
            c = s.connected()
            for i in range(60):
                c.publish("c/m", b"%d" % i, i % 3)
                want.append(1)
            c.ping()
        except Exception as e:      # noqa: BLE001
            errors.append(e)

    threads = [threading.Thread(target=http_side, args=(n,)) for n in range(3)]
    threads.append(threading.Thread(target=mqtt_side))
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors, errors
    got = sub.collect(sum(want))
    for who in ("c/h0", "c/h1", "c/h2", "d/h0", "d/h1", "d/h2", "c/m"):
        assert [int(m.payload) for m in got if m.topic == who] == list(range(60)), who
    b = balanced(s)
    assert b.gw_in == 420 and b.reject("topic") == 180 and b.reject("forbidden") == 18
