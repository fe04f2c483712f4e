"""Receive Maximum, Maximum Packet Size and back-pressure (3.1.2.11.3, 3.1.2.11.4, 4.9)."""
import pytest

import raw
from lvconf import ALL, app, doc, key
from raw import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL


def assert_idle(c):
    """Nothing but the answer to a ping."""
    c.send(raw.PING)
    c.expect(raw.PINGRESP)


@pytest.mark.tsan
@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("limit", [1, 3])
def test_server_respects_ours(server, t, pub, qos, limit):
    """MQTT-3.3.4-9: at most so many unacknowledged; a PUBCOMP (or error PUBREC) frees one."""
    c = server.client(properties={"receive_maximum": limit})
    c.connect()
    c.subscribe(t, qos=qos)
    for i in range(limit + 4):
        pub.publish(t, str(i), qos)
    got = [c.expect(PUBLISH, payload=str(i)) for i in range(limit)]
    assert_idle(c)
    if qos == 2:
        c.send(raw.ack(PUBREC, got[0].pid))
        c.expect(PUBREL, pid=got[0].pid)
        assert_idle(c)
        c.send(raw.ack(PUBCOMP, got[0].pid))
    else:
        c.send(raw.ack(PUBACK, got[0].pid))
    c.expect(PUBLISH, payload=str(limit))
    assert_idle(c)


def test_qos0_passes_a_full_window(server, t, pub):
    """4.9: QoS 0 is not counted; a server may hold it back all the same, but not for good."""
    c = server.client(properties={"receive_maximum": 1})
    c.connect()
    c.subscribe(t + "/1", qos=1)
    c.subscribe(t + "/0", qos=0)
    pub.publish(t + "/1", b"a", 1)
    pub.publish(t + "/1", b"b", 1)
    pub.publish(t + "/0", b"c", 0)
    held = c.expect(PUBLISH, payload=b"a")
    c.send(raw.PING)
    p = c.recv()
    early = p.kind == PUBLISH
    if early:
        assert p.payload == b"c"
        c.expect(raw.PINGRESP)
    c.send(raw.ack(PUBACK, held.pid))
    got = [p.payload for p in c.collect(1 if early else 2)]
    assert sorted(got) == ([b"b"] if early else [b"b", b"c"])


def test_pubrec_error_frees_the_window(server, t, pub):
    c = server.client(properties={"receive_maximum": 1})
    c.connect()
    c.subscribe(t, qos=2)
    for i in range(3):
        pub.publish(t, str(i), 2)
    for i in range(3):
        p = c.expect(PUBLISH, payload=str(i))
        c.send(raw.ack(PUBREC, p.pid, 0x83))


def test_window_after_reconnect(server, t, pub):
    """The new connection's Receive Maximum counts; what was in flight comes first."""
    c = server.client(clean=False)
    c.connect(properties={"session_expiry": 60, "receive_maximum": 5})
    c.subscribe(t, qos=1)
    for i in range(8):
        pub.publish(t, str(i), 1)
    for i in range(5):
        c.expect(PUBLISH, payload=str(i))
    c.drop(rst=True)
    c.connect(present=True, properties={"session_expiry": 60, "receive_maximum": 2})
    got = c.collect(8)
    assert [int(p.payload) for p in got] == list(range(8))
    assert [p.dup for p in got] == [True] * 5 + [False] * 3


def test_we_exceed_the_servers(server, t):
    """MQTT-3.3.4-7, -8: the server may close with 0x93; it never loses what it acked."""
    c = server.connected()
    limit = c.connack.prop("receive_maximum", 65535)
    if limit > 2000:
        pytest.skip(f"the server takes {limit}")
    # QoS 2 without PUBREL keeps each id open
    for i in range(limit):
        c.send(raw.publish(t, b"x", 2, pid=i + 1))
    for i in range(limit):
        c.expect(PUBREC, pid=i + 1, rc=0)
    c.send(raw.publish(t, b"x", 2, pid=limit + 1))
    c.closed(0x93)


def test_full_server_window_is_reusable(server, t):
    """Up to the limit, released, and again."""
    c = server.connected()
    limit = min(c.connack.prop("receive_maximum", 65535), 500)
    for _ in range(3):
        c.send(b"".join(raw.publish(t, b"x", 2, pid=i + 1) for i in range(limit)))
        for i in range(limit):
            c.expect(PUBREC, pid=i + 1, rc=0)
        c.send(b"".join(raw.ack(PUBREL, i + 1) for i in range(limit)))
        for i in range(limit):
            c.expect(PUBCOMP, pid=i + 1, rc=0)


def test_our_maximum_packet_size(server, t, pub):
    """MQTT-3.1.2-24, -25: larger messages are not sent, as if they were delivered."""
    c = server.client(properties={"maximum_packet_size": 100})
    c.connect()
    c.subscribe(t, qos=1)
    pub.publish(t, b"x" * 200, 1)
    pub.publish(t, b"small", 1)
    c.message(t, b"small")
    server.nothing(pub, c)


@pytest.mark.parametrize("kind", ["subscribe", "unsubscribe"])
def test_our_maximum_packet_size_and_suback(server, t, kind):
    """MQTT-3.1.2-24: an answer that cannot be made smaller ends the connection."""
    c = server.client(properties={"maximum_packet_size": 50})
    c.connect()
    names = [f"{t}/{i}" for i in range(100)]
    c.send(raw.subscribe(1, [(n, 0) for n in names]) if kind == "subscribe"
           else raw.unsubscribe(1, names))
    assert c.expect(raw.DISCONNECT).rc == 0x95
    c.closed()


@pytest.mark.parametrize("qos", [0, 1])
def test_our_maximum_packet_size_to_the_byte(server, t, pub, qos):
    head = 2 + len(raw.string(t)) + 1 + (2 if qos else 0)
    c = server.client(properties={"maximum_packet_size": 120})
    c.connect()
    c.subscribe(t, qos=qos)
    pub.publish(t, b"x" * (120 - head), 1)
    p = c.message(t)
    assert p.size == 120
    pub.publish(t, b"x" * (121 - head), 1)
    pub.publish(t, b"end", 1)
    c.message(t, b"end")


def test_small_packets_stay_small(server, t):
    """Acks shed their reason strings and user properties to fit (MQTT-3.4.2-2, -3)."""
    c = server.client(properties={"maximum_packet_size": 20})
    c.open().send(c.connect_bytes())
    p = c.recv()
    assert p.kind == raw.CONNACK
    assert p.size <= 20 or p.rc == 0x95, p
    if p.rc:
        return
    c.send(raw.subscribe(1, [("$share//x", 0)]))
    try:
        assert c.recv().size <= 20
    except raw.Closed:
        pass


@pytest.mark.lavva_only
def test_tiny_maximum_packet_size(server, own_server):
    """MQTT-3.1.2-24 holds for CONNACK and acks too: shorter, or 0x95, or nothing at all."""
    def answer(size, **kw):
        c = server.client(properties={"maximum_packet_size": size}, **kw)
        c.open().send(c.connect_bytes())
        try:
            return c.recv()
        except raw.Closed:
            return None
    assert answer(4) is None
    p = answer(10, client_id="")
    assert p.kind == raw.CONNACK and p.rc == 0x95 and p.size == 5
    p = answer(10, password="wrong")
    assert p.rc == 0x86 and p.size == 5
    s = own_server(config=doc([app(keys=[key("full", [], ALL)])])).start()
    c = s.connected(properties={"maximum_packet_size": 16})
    c.send(raw.publish("a/b", b"x", 1, pid=7))
    p = c.expect(raw.PUBACK, rc=0x87)
    assert p.size <= 16


def test_servers_maximum_packet_size(server, t):
    """MQTT-3.2.2-15: 0x95. It is told in CONNACK."""
    c = server.connected()
    limit = c.connack.prop("maximum_packet_size")
    if limit is None:
        pytest.skip("the server sets none")
    head = 1 + len(raw.varint(limit)) + len(raw.string(t)) + 1
    c.publish(t, b"x" * min(limit - head - 10, 900000))
    c.ping()
    c.send(raw.packet(PUBLISH, 0, b"")[:1] + raw.varint(limit) + raw.string(t) + b"\0")
    c.closed(0x95)


def test_huge_length_costs_nothing(server, v):
    """A length of 256 MB is refused by its header, not by waiting for the bytes."""
    c = server.connected(v=v)
    c.send(b"\x30\xff\xff\xff\x7f")
    c.closed(0x95)


def test_huge_connect(server, v):
    """Before CONNECT nobody may claim much."""
    c = server.client(v=v).open()
    c.send(b"\x10\xff\xff\xff\x7f\x00\x04MQTT")
    try:
        p = c.recv()
        assert p.kind in (raw.CONNACK, raw.DISCONNECT) and p.rc >= 1
        c.closed()
    except raw.Closed:
        pass


def test_slow_reader_qos1_loses_nothing(server, t, pub):
    """The cursor lags, the publisher is not held up."""
    c = server.client(properties={"receive_maximum": 1})
    c.connect()
    c.subscribe(t, qos=1)
    for i in range(90):
        pub.publish(t, str(i), 1)
    assert [int(p.payload) for p in c.collect(90)] == list(range(90))


def test_reader_that_does_not_read_blocks_nobody(server, t, pub):
    """A subscriber that stops reading: others go on, and it gets QoS 1 in full later."""
    slow, fast = server.connected(), server.connected()
    slow.subscribe(t, qos=1)
    fast.subscribe(t, qos=1)
    body = b"y" * 20000
    for i in range(60):
        pub.publish(t, b"%d " % i + body, 1)
        fast.message(t)
    got = slow.collect(60)
    assert [int(p.payload.split()[0]) for p in got] == list(range(60))
