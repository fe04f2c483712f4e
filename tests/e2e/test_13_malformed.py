"""Malformed packets of every kind end the connection and nothing else (4.13, 2.1, 1.5)."""
import random

import pytest

import raw

MALFORMED = {0x81, 0x82}


def ends(server, data, v=5, rc=MALFORMED):
    c = server.connected(v=v)
    c.send(data)
    return c.closed(rc)


@pytest.mark.tsan
@pytest.mark.parametrize("kind", [1, 3, 4, 5, 6, 7, 8, 10, 12, 14, 15])
def test_remaining_length_of_five_bytes(server, v, kind):
    """2.1.4: at most four bytes."""
    ends(server, bytes([kind << 4 | (2 if kind in (6, 8, 10) else 0)]) + b"\xff\xff\xff\xff\x01", v)


def test_remaining_length_not_minimal(server, v):
    """1.5.5: the minimum number of bytes must be used; some servers tolerate it. Either way the
    stream stays in step or ends."""
    c = server.connected(v=v)
    c.send(b"\xc0\x80\x00" + raw.PING)
    try:
        p = c.recv()
    except raw.Closed:
        return
    if p.kind == raw.DISCONNECT:
        assert p.rc in MALFORMED
    else:
        c.expect(raw.PINGRESP)


def test_packet_type_0(server, v):
    ends(server, b"\x00\x00", v)
    ends(server, b"\x0f\x02ab", v)


@pytest.mark.parametrize("topic", [
    b"a\0b", b"\0", b"\xc3\x28", b"\xe2\x28\xa1", b"\xf0\x28\x8c\xbc", b"\x80", b"\xff",
    b"\xc0\xaf", b"\xe0\x80\xaf", b"\xed\xa0\x80", b"\xed\xbf\xbf",
    b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80",
    b"a\xc3", b"\xe2\x98"])
def test_topic_utf8(server, v, topic):
    """MQTT-1.5.4-1, -2: well-formed, no surrogates, no U+0000."""
    ends(server, raw.publish(b"e2e/" + topic, b"x", v=v), v, {0x81, 0x82, 0x90})


@pytest.mark.parametrize("topic", ["\u007f", "\uffff", "\ufdd0", "\U0001ffff", "\U0010ffff"])
def test_discouraged_characters(server, v, topic):
    """1.5.4: SHOULD NOT be sent, may be refused: the server stays up, the answer is clean."""
    c = server.connected(v=v)
    c.send(raw.publish("e2e/" + topic, b"x", 1, pid=1, v=v))
    try:
        p = c.recv()
        assert p.kind in (raw.PUBACK, raw.DISCONNECT)
    except raw.Closed:
        pass


def test_bom_is_kept(server, t, v):
    """MQTT-1.5.4-3."""
    c = server.connected(v=v)
    topic = t + "/\ufeffx"
    c.subscribe(topic)
    c.publish(topic, b"m")
    c.message(topic, b"m")


def test_topic_length_beyond_the_packet(server, v):
    for n in (1, 2, 100, 65535):
        ends(server, raw.packet(raw.PUBLISH, 0, raw.u16(n)), v)


def test_truncated_publish(server, v):
    whole = raw.publish("abc", b"", 1, pid=5, v=v, properties={"message_expiry": 1})
    body = whole[2:]
    for n in range(len(body)):
        ends(server, raw.packet(raw.PUBLISH, 2, body[:n]), v, {0x81, 0x82, 0x90})


@pytest.mark.parametrize("props", [
    b"\x01", b"\x02\0\0\0", b"\x03\0", b"\x03\0\x05ab", b"\x08\xff\xff", b"\x09\0\x01",
    b"\x26\0\x01a", b"\x26\0\x01a\0\x05b", b"\x23\0", b"\x0b\xff\xff\xff\xff", b"\x0b\x80",
    b"\x00", b"\x04\x01", b"\x7f", b"\xff\xff\xff\xff\x01", b"\x80\x01"])
def test_broken_property_blocks(server, props):
    ends(server, raw.publish("e2e/x", b"", properties=props))


@pytest.mark.parametrize("length", [b"\x05", b"\xff\x7f", b"\xff\xff\xff\x7f",
                                    b"\xff\xff\xff\xff\x01", b"\x80"])
def test_property_length_beyond_the_packet(server, length):
    ends(server, raw.packet(raw.PUBLISH, 0, raw.string("e2e/x") + length))


def test_pingreq_and_disconnect_bodies(server, v):
    ends(server, b"\xc0\x02ab", v)
    ends(server, b"\xe0\x02\x00\x05" if v == 5 else b"\xe0\x01\x00", v)


@pytest.mark.parametrize("rc", [0x01, 0x03, 0x05, 0x7F, 0xFF])
def test_disconnect_reason_codes_of_others(server, rc):
    """3.14.2.1: a code the client may not use is malformed; either way it ends."""
    c = server.connected()
    c.send(raw.disconnect(rc))
    c.closed()


@pytest.mark.lavva_only
@pytest.mark.parametrize("rc", [0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x9D, 0xA2])
def test_disconnect_reason_codes_of_servers(server, rc):
    """3.14.2.1: what only a server may say is a protocol error (4.13)."""
    c = server.connected()
    c.send(raw.disconnect(rc))
    assert c.expect(raw.DISCONNECT).rc == 0x82
    c.closed()


@pytest.mark.lavva_only
def test_disconnect_with_server_reference(server):
    """3.14.2.2.5: the server's alone."""
    c = server.connected()
    c.send(raw.disconnect(0, {"server_reference": "elsewhere"}))
    assert c.expect(raw.DISCONNECT).rc == 0x82
    c.closed()


def test_unfinished_packet_then_end(server, v):
    """The client goes away in the middle: nothing of it is taken."""
    c = server.connected(v=v)
    c.send(raw.publish("e2e/x", b"x" * 1000, v=v)[:500])
    c.drop()
    server.connected().ping()


def test_garbage_first(server):
    rng = random.Random(7)
    for data in [b"\xff" + rng.randbytes(n) for n in (1, 2, 10, 100, 5000)] + [
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"SSH-2.0-x\r\n",
            b"\x16\x03\x01\x02\x00\x01", b"\r\n\r\n\x00\r\nQUIT\n"]:
        c = server.client().open()
        try:
            c.send(data)
            c.sock.shutdown(1)
            while True:
                c.recv()
        except (raw.Closed, raw.ProtocolError, OSError) as e:
            assert not isinstance(e, TimeoutError), f"left open after {data[:20]}"
    server.connected().ping()


def test_bit_flips(server, t):
    """Every packet a client may send, each bit flipped once, and truncations: the server survives
    and still serves others. (The fuzzers go deeper; this goes through the socket.)"""
    seeds = [raw.publish(t, b"pay", 1, pid=3, properties=[("user", ("a", "b"))]),
             raw.subscribe(3, [(t, 1), (t + "/+", 2)], properties={"subscription_id": 5}),
             raw.unsubscribe(4, [t]), raw.ack(raw.PUBACK, 1, 0, {}), raw.ack(raw.PUBREC, 1, 0, {}),
             raw.ack(raw.PUBREL, 1, 0, {}), raw.ack(raw.PUBCOMP, 1, 0, {}), raw.PING,
             raw.disconnect(4, {"reason_string": "x"})]
    for data in seeds:
        for bit in range(min(len(data), 24) * 8):
            bad = bytearray(data)
            bad[bit // 8] ^= 1 << bit % 8
            c = server.connected()
            c.send(bytes(bad))
            c.drop()
    assert server.alive()
    a, b = server.connected(), server.connected()
    a.subscribe(t + "/new")
    b.publish(t + "/new", b"still here")
    a.message(t + "/new", b"still here")


def test_bad_neighbour_does_not_hurt(server, t, pub):
    """A malformed packet ends its own connection only, even with others' in the same turn."""
    sub = server.connected()
    sub.subscribe(t)
    for i in range(20):
        bad = server.connected()
        bad.send(b"\x30\xff\xff\xff\xff\x01")
        pub.publish(t, str(i))
        sub.message(t, str(i))


def test_good_packets_before_the_bad_one_count(server, t):
    """What came whole before it is processed."""
    sub = server.connected()
    sub.subscribe(t)
    c = server.connected()
    c.send(raw.publish(t, b"good") + b"\x00\x00")
    c.closed(MALFORMED)
    sub.message(t, b"good")
