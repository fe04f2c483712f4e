"""What one client can make the server keep: answers that it does not read, SUBSCRIBEs and publishes
that are under way, retained messages. All of it is bounded, and nothing of it is lost."""
import socket

import pytest

import raw
from harness import wait
from lvconf import app, doc
from raw import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, UNSUBACK

pytestmark = pytest.mark.lavva_only
LIMITS = {"queue": "64KiB", "packet": "32KiB", "queue_messages": 100, "inflight": 10}
KEEP = {"session_expiry": 3600}


@pytest.fixture
def s(own_server):
    return own_server(config=doc([app(limits=LIMITS)], limits=LIMITS)).start()


def rss_kib(s):
    with open(f"/proc/{s.proc.pid}/status") as f:
        return next(int(x.split()[1]) for x in f if x.startswith("VmRSS"))


def slow(s, **kw):
    """A client with little room in the kernel."""
    c = s.client(**kw)
    c.open()
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
    return c


def flood(c, data, most):
    """Sends data again and again until the server has stopped reading; how many bytes it took."""
    sent = 0
    c.sock.settimeout(1)
    while sent < most:
        try:
            sent += c.sock.send(data[sent % len(data):])
        except (TimeoutError, ConnectionError):
            return sent
    raise AssertionError(f"the server has read {sent} bytes and goes on")


def read(c, n):
    """n bytes of answers."""
    out = bytearray()
    c.sock.settimeout(raw.DEADLINE)
    while len(out) < n:
        got = c.sock.recv(1 << 16)
        assert got, f"closed after {len(out)} bytes"
        out += got
    return bytes(out)


def keep(pub, n, more=b""):
    for at in range(0, n, 10):
        pub.send(b"".join(raw.publish(f"kept/{i}", b"%d" % i + more, 1, True, i + 1)
                          for i in range(at, at + 10)))
        for i in range(at, at + 10):
            pub.expect(PUBACK, pid=i + 1, rc=0)


def test_ping_flood(s, v):
    """Who reads no answers is not read any more, and goes on where it was once it reads."""
    c = slow(s, v=v)
    c.connect()
    before = rss_kib(s)
    sent = flood(c, raw.PING * 5000, 64 << 20)
    assert rss_kib(s) - before < 50_000
    assert s.metrics()["lavva_out_queue_bytes"] < 1 << 20
    assert read(c, sent // 2 * 2) == b"\xd0\x00" * (sent // 2)
    if sent % 2:
        c.send(raw.PING[1:])
        assert read(c, 2) == b"\xd0\x00"
    c.ping()
    s.connected().ping()


def test_ping_flood_is_no_sign_of_life(s):
    """Its keep-alive is held against a client that takes nothing."""
    c = slow(s)
    c.connect(keepalive=2)
    flood(c, raw.PING * 5000, 64 << 20)
    wait(lambda: s.metrics()['lavva_connections{protocol="mqtt"}'] == 0, "its end", 30)


def test_many_subscribes_under_way(s, v):
    """Each costs a record of the session: few are on their way at once, all are answered."""
    kw = {"properties": KEEP} if v == 5 else {}
    c = s.client("many", v=v, clean=False, **kw)
    c.connect()
    n = 200
    c.send(b"".join(raw.subscribe(i + 1, [(f"many/{i}", 1)], v) for i in range(n)))
    c.send(b"".join(raw.unsubscribe(1001 + i, [f"many/{i}"], v) for i in range(0, n, 2)))
    for i in range(n):
        c.expect(SUBACK, pid=i + 1, codes=[1])
    for i in range(0, n, 2):
        c.expect(UNSUBACK, pid=1001 + i)
    pub = s.connected()
    for i in range(n):
        pub.publish(f"many/{i}", str(i), 1)
    assert [p.payload for p in c.collect(n // 2)] == [b"%d" % i for i in range(1, n, 2)]


@pytest.mark.tsan
@pytest.mark.parametrize("qos", [1, 2])
def test_3_1_1_has_no_receive_maximum(s, qos):
    """It is read as its publishes are stored, whatever it has not released (4.3.3)."""
    c = s.connected(v=4)
    n = 300
    c.send(b"".join(raw.publish("w/x", b"x" * 1000, qos, pid=i + 1, v=4) for i in range(n)))
    for i in range(n):
        c.expect(PUBACK if qos == 1 else PUBREC, pid=i + 1)
    if qos == 2:
        c.send(b"".join(raw.ack(PUBREL, i + 1) for i in range(n)))
        for i in range(n):
            c.expect(PUBCOMP, pid=i + 1)
    c.ping()


def test_3_1_1_to_itself(s):
    """Publishes, acknowledgements and deliveries of one connection do not wait for each other."""
    c = s.connected(v=4)
    c.subscribe("loop/x", qos=2)
    n, acked, got = 200, 0, []
    c.send(b"".join(raw.publish("loop/x", str(i), 2, pid=i + 1, v=4) for i in range(n)))
    while acked < n or len(got) < n:
        p = c.recv()
        if p.kind == PUBREC:
            c.send(raw.ack(PUBREL, p.pid))
        elif p.kind == PUBCOMP:
            acked += 1
        elif p.kind == PUBREL:
            c.send(raw.ack(PUBCOMP, p.pid))
        else:
            assert p.kind == PUBLISH, p
            got.append(int(p.payload))
            c.send(raw.ack(PUBREC, p.pid))
    assert got == list(range(n))


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_more_retained_than_the_queue_takes(s, qos):
    """All of them come, each once, as the client takes them; what is published meanwhile after."""
    pub, n = s.connected(), 3000
    keep(pub, n, b"-" * 100)
    c = slow(s)
    c.connect()
    c.subscribe("kept/#", qos=qos)
    pub.publish("kept/5", b"new", 1)
    got = c.until(lambda p: p.payload == b"new")
    old = [int(p.payload.partition(b"-")[0]) for p in got if p.retain]
    assert sorted(old) == list(range(n))
    assert len(got) == n + 1 and not got[-1].retain


@pytest.mark.parametrize("end", [None, "stop", "kill"])
def test_retained_over_connections(s, end):
    """What a SUBSCRIBE still has to give is pending when the connection ends (4.1)."""
    n, got = 1500, []
    keep(s.connected(), n)
    c = s.client("often", clean=False, properties=KEEP)
    c.connect()
    c.subscribe("kept/#", qos=1)
    for i in range(5):
        got += c.collect(150 + i)
        c.drop(rst=True)
        if end and i == 3:
            getattr(s, end)()
            s.start()
        c = s.client("often", clean=False, properties=KEEP)
        c.connect(present=True)
    while len({p.payload for p in got}) < n:
        got += c.collect(1)
    assert sorted({int(p.payload) for p in got}) == list(range(n))
    assert all(p.retain and p.qos == 1 for p in got)
    if not end:     # again only with DUP: what was on its way when the connection broke
        first = [p.payload for p in got if not p.dup]
        assert len(set(first)) == len(first)


@pytest.mark.parametrize("qos", [1, 2])
def test_codes_that_an_ack_may_have(server, t, qos):
    """3.4.2.1 and 3.5.2.1 know no 0x95: a publish within Maximum Packet Size whose properties are
    more than the server stores is 0x83, and the connection stays."""
    c = server.connected()
    much = [("user", ("k", "v" * 40000))] * 2
    c.publish(t, b"x", qos, rc=0x83, properties=much)
    c.publish(t, b"x", qos)
    c.ping()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_session_durability_changes(own_server, end):
    """The session moves to the other log and back; what ends in one does not return from the
    other."""
    def conf(durability):
        return doc([app(session_durability=durability)])

    def again(durability):
        getattr(s, end)()
        s.config = {**conf(durability), "listen": s.config["listen"]}
        s.start()

    s = own_server(config=conf("disk")).start()
    for i, durability in enumerate(["memory", "disk", "memory"]):
        c = s.client("mover", clean=False, properties=KEEP)
        c.connect(present=i > 0)
        if i:
            c.message("move/x", str(i - 1))
        c.subscribe("move/x", f"move/{i}", qos=1)
        c.disconnect()
        s.connected().publish("move/x", str(i), 1)
        again(durability)
    c = s.client("mover", clean=False, properties=KEEP)
    c.connect(present=True)
    c.message("move/x", "2")
    for i in range(3):
        s.connected().publish(f"move/{i}", b"here", 1)
        c.message(f"move/{i}", b"here")
    c.disconnect()
    c = s.client("mover", clean=True)
    c.connect(present=False)
    c.disconnect()
    for durability in ["disk", "memory"]:
        again(durability)
        c = s.client("mover", clean=False)
        c.connect(present=False)
        c.disconnect()
