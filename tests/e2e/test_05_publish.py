"""PUBLISH and its acknowledgements, both ways (3.3 to 3.7, 4.3, 4.4, 4.6)."""
import pytest

import raw
from raw import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL


@pytest.mark.tsan
@pytest.mark.parametrize("pq", [0, 1, 2])
@pytest.mark.parametrize("sq", [0, 1, 2])
def test_qos_is_the_lower_one(server, t, v, pq, sq):
    """MQTT-3.8.4-8."""
    sub, pub = server.connected(v=v), server.connected(v=v)
    sub.subscribe(t, qos=sq)
    pub.publish(t, b"m", pq)
    sub.message(t, b"m", qos=min(pq, sq), dup=False, retain=False)
    server.nothing(pub, sub)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 129, 16383, 16384, 200000])
def test_payload_sizes(server, t, v, size):
    sub, pub = server.connected(v=v), server.connected(v=v)
    sub.subscribe(t, qos=1)
    body = bytes(i * 7 & 255 for i in range(size))
    pub.publish(t, body, 1)
    sub.message(t, body)


def test_sizes_around_the_length_bytes(server, t):
    """Remaining lengths on both sides of 127/128 and 16383/16384."""
    c = server.connected()
    c.subscribe(t)
    head = len(raw.string(t)) + 1
    for want in (126, 127, 128, 129, 16382, 16383, 16384, 16385):
        body = b"z" * (want - head)
        c.publish(t, body)
        c.message(t, body)


def test_binary_payload(server, t, v):
    c = server.connected(v=v)
    c.subscribe(t)
    body = bytes(range(256)) * 3
    c.publish(t, body)
    c.message(t, body)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_many_in_order(server, t, v, qos):
    sub, pub = server.connected(v=v), server.connected(v=v)
    sub.subscribe(t, qos=qos)
    n, window = 500, min(20, pub.connack.prop("receive_maximum", 20))
    for base in range(0, n, window):
        ids = range(base, min(base + window, n))
        pub.send(b"".join(raw.publish(t, str(i), qos, pid=i + 1 if qos else None, v=v)
                          for i in ids))
        if qos == 1:
            for i in ids:
                pub.expect(PUBACK, pid=i + 1)       # MQTT-4.6.0-2: in order
        if qos == 2:
            for i in ids:
                pub.expect(PUBREC, pid=i + 1)       # MQTT-4.6.0-3
            pub.send(b"".join(raw.ack(PUBREL, i + 1) for i in ids))
            for i in ids:
                pub.expect(PUBCOMP, pid=i + 1)
    got = sub.collect(n)
    assert [int(p.payload) for p in got] == list(range(n))


def test_acks_in_order_with_mixed_qos(server, t, v):
    """MQTT-4.6.0-2, -3: each kind of ack in the order of its messages."""
    c = server.connected(v=v)
    data = b"".join(raw.publish(t, str(i), 1 + i % 2, pid=i + 1, v=v) for i in range(16))
    c.send(data)
    acks = [c.recv() for _ in range(16)]
    assert [p.pid for p in acks if p.kind == PUBACK] == list(range(1, 17, 2))
    assert [p.pid for p in acks if p.kind == PUBREC] == list(range(2, 17, 2))


def test_pubrel_in_order(server, t, v):
    """MQTT-4.6.0-4: the server's PUBRELs follow the order of the PUBRECs."""
    sub, pub = server.connected(v=v), server.connected(v=v)
    sub.subscribe(t, qos=2)
    for i in range(5):
        pub.publish(t, str(i), 2)
    got = [sub.expect(PUBLISH) for _ in range(5)]
    order = [got[i].pid for i in (0, 1, 2, 3, 4)]
    sub.send(b"".join(raw.ack(PUBREC, p) for p in order))
    assert [sub.expect(PUBREL).pid for _ in range(5)] == order
    sub.send(b"".join(raw.ack(PUBCOMP, p) for p in order))


def test_acks_out_of_order_from_client(server, t, v):
    """A client that acknowledges in another order is tolerated, each id frees its slot."""
    sub, pub = server.connected(v=v), server.connected(v=v)
    sub.subscribe(t, qos=1)
    for i in range(4):
        pub.publish(t, str(i), 1)
    got = [sub.expect(PUBLISH) for _ in range(4)]
    assert len({p.pid for p in got}) == 4
    for p in reversed(got):
        sub.send(raw.ack(PUBACK, p.pid))
    pub.publish(t, b"next", 1)
    sub.message(t, b"next")


def test_dup_flag_is_not_forwarded(server, t, v):
    """MQTT-3.3.1-3."""
    sub, pub = server.connected(v=v), server.connected(v=v)
    sub.subscribe(t, qos=1)
    pub.send(raw.publish(t, b"m", 1, pid=1, dup=True, v=v))
    pub.expect(PUBACK, pid=1)
    sub.message(t, b"m", dup=False)


def test_qos1_same_id_after_ack_is_new(server, t, v):
    """3.3.1.1: after the ack, an id may be used for another message, whatever DUP says."""
    sub, pub = server.connected(v=v), server.connected(v=v)
    sub.subscribe(t, qos=1)
    for body in (b"a", b"b"):
        pub.publish(t, body, 1, pid=9)
    assert [p.payload for p in sub.collect(2)] == [b"a", b"b"]


def test_qos2_repeat_before_pubrel_is_one_message(server, t, v):
    """MQTT-4.3.3-10."""
    sub, pub = server.connected(v=v), server.connected(v=v)
    sub.subscribe(t, qos=2)
    pub.send(raw.publish(t, b"once", 2, pid=3, v=v))
    pub.expect(PUBREC, pid=3)
    pub.send(raw.publish(t, b"once", 2, pid=3, dup=True, v=v))
    p = pub.expect(PUBREC, pid=3)
    assert p.rc in (0, 0x91)
    pub.send(raw.ack(PUBREL, 3))
    pub.expect(PUBCOMP, pid=3)
    sub.message(t, b"once")
    server.nothing(pub, sub)
    pub.publish(t, b"again", 2, pid=3)
    sub.message(t, b"again")


def test_pubrel_for_unknown_id(server, v):
    """3.7.2.1: 5.0 says 0x92; 3.1.1 just completes."""
    c = server.connected(v=v)
    c.send(raw.ack(PUBREL, 4321))
    c.expect(PUBCOMP, pid=4321, rc=0x92 if v == 5 else 0)
    c.ping()


def test_pubrec_for_unknown_id(server):
    """3.6.2.1: PUBREL with 0x92; not a reason to end the connection (4.3.3)."""
    c = server.connected()
    c.send(raw.ack(PUBREC, 4321))
    c.expect(PUBREL, pid=4321, rc=0x92)
    c.ping()


def test_puback_and_pubcomp_for_unknown_id(server, v):
    c = server.connected(v=v)
    c.send(raw.ack(PUBACK, 4321) + raw.ack(PUBCOMP, 4322))
    c.ping()


def test_pubrec_error_ends_delivery(server, t, pub):
    """4.3.3: PUBREC of 0x80 or more: no PUBREL, the id is free, nothing is sent again."""
    c = server.client(clean=False, properties={"session_expiry": 60})
    c.connect()
    c.subscribe(t, qos=2)
    pub.publish(t, b"m", 2)
    p = c.expect(PUBLISH)
    c.send(raw.ack(PUBREC, p.pid, 0x97))
    c.ping()
    c.drop()
    c.connect(present=True)
    server.nothing(pub, c)


def test_puback_error_ends_delivery(server, t, pub):
    c = server.client(clean=False, properties={"session_expiry": 60})
    c.connect()
    c.subscribe(t, qos=1)
    pub.publish(t, b"m", 1)
    p = c.expect(PUBLISH)
    c.send(raw.ack(PUBACK, p.pid, 0x80, {"reason_string": "no", "user": [("a", "b")]}))
    c.ping()
    c.drop()
    c.connect(present=True)
    server.nothing(pub, c)


@pytest.mark.parametrize("kind", [PUBACK, PUBREC, PUBREL, PUBCOMP])
def test_ack_forms(server, kind, t, pub):
    """3.4.2.1: reason code and property length may be left out; all three forms are legal."""
    c = server.connected()
    for rc, props in ((None, None), (0, None), (0, {})):
        c.send(raw.ack(kind, 4000, rc, props))
        if kind == PUBREC:
            c.expect(PUBREL, pid=4000, rc=0x92)
        if kind == PUBREL:
            c.expect(PUBCOMP, pid=4000, rc=0x92)
    c.ping()


@pytest.mark.parametrize("kind", [PUBACK, PUBREC, PUBREL, PUBCOMP])
def test_ack_malformed(server, kind, v):
    flags = 2 if kind == PUBREL else 0
    bad = [raw.packet(kind, flags, b""), raw.packet(kind, flags, b"\0"),
           raw.packet(kind, flags ^ 1, b"\0\1"), raw.packet(kind, flags ^ 2, b"\0\1")]
    if v == 5:
        bad += [raw.ack(kind, 1, 0, [("reason_string", "a"), ("reason_string", "b")]),
                raw.ack(kind, 1, 0, {"topic_alias": 1}),
                raw.ack(kind, 1, 0) + b"",
                raw.packet(kind, flags, b"\0\1\0\x05\x1f")]
        bad.pop(-2)
    for data in bad:
        c = server.connected(v=v)
        c.send(data)
        c.closed({0x81, 0x82})


def test_packet_id_zero(server, t, v):
    """MQTT-2.2.1-3."""
    for data in (raw.publish(t, b"x", 1, pid=0, v=v), raw.publish(t, b"x", 2, pid=0, v=v),
                 raw.subscribe(0, [(t, 0)], v), raw.unsubscribe(0, [t], v)):
        c = server.connected(v=v)
        c.send(data)
        c.closed({0x81, 0x82})


def test_qos_3_and_dup_qos0(server, t, v):
    """MQTT-3.3.1-4, -2."""
    c = server.connected(v=v)
    c.send(raw.publish(t, b"x", 3, pid=1, v=v))
    c.closed({0x81, 0x82})
    c = server.connected(v=v)
    c.send(raw.publish(t, b"x", 0, dup=True, v=v))
    c.closed({0x81, 0x82})


@pytest.mark.parametrize("topic", [b"", b"a/+", b"+", b"#", b"a/#", b"a+b", b"a#b"])
def test_bad_topic_names(server, v, topic):
    """MQTT-3.3.2-2, MQTT-4.7.3-1."""
    c = server.connected(v=v)
    c.send(raw.publish(topic, b"x", 1, pid=1, v=v))
    if v == 5:
        try:
            p = c.recv()
        except raw.Closed:
            return
        assert p.rc in (0x81, 0x82, 0x90), p
        if p.kind == PUBACK:
            return
    c.closed()


def test_puback_reason_no_subscribers(server, t):
    """3.4.2.1: 0x10 is allowed, never required; an error is not."""
    c = server.connected()
    c.send(raw.publish(t + "/nobody", b"x", 1, pid=1))
    assert c.expect(PUBACK, pid=1).rc in (0, 0x10)


def test_same_id_both_ways(server, t, v):
    """2.2.1: the ids of both directions are independent."""
    c = server.connected(v=v)
    c.subscribe(t, qos=1)
    c.send(raw.publish(t, b"x", 1, pid=1, v=v))
    a, b = c.recv(), c.recv()
    m, k = (a, b) if a.kind == PUBLISH else (b, a)
    assert k.kind == PUBACK and k.pid == 1 and m.payload == b"x"
    c.send(raw.ack(PUBACK, m.pid))
    c.ping()


def test_packet_ids_not_reused_while_in_flight(server, t, v, pub):
    """MQTT-2.2.1-4: ids of unacknowledged messages differ, across the wrap of 65535."""
    c = server.client(v=v)
    c.connect()
    c.subscribe(t, qos=1)
    pub.publish(t, b"held", 1)
    held = c.expect(PUBLISH)
    n = 3000
    for base in range(0, n, 20):
        for i in range(base, base + 20):
            pub.send(raw.publish(t, b"%d" % i, 1, pid=i % 20 + 1))
        for i in range(20):
            pub.expect(PUBACK)
        for _ in range(20):
            p = c.expect(PUBLISH)
            assert p.pid != held.pid
            c.send(raw.ack(PUBACK, p.pid))
    c.send(raw.ack(PUBACK, held.pid))
    c.ping()


def test_own_publish_comes_back(server, t, v):
    c = server.connected(v=v)
    c.subscribe(t, qos=2)
    c.send(raw.publish(t, b"echo", 2, pid=8, v=v))
    kinds = []
    while len(kinds) < 3:
        p = c.recv()
        kinds.append(p.kind)
        if p.kind == PUBREC:
            c.send(raw.ack(PUBREL, 8))
    assert set(kinds) == {PUBREC, PUBCOMP, PUBLISH}     # the message may go out at either step


def test_pipelined_everything(server, t, v):
    """One segment with many packets is worked off in order."""
    c = server.connected(v=v)
    data = b"".join(raw.publish(t, b"%d" % i, i % 2, pid=i + 1 if i % 2 else None, v=v)
                    for i in range(20)) + raw.PING
    c.send(data)
    kinds = [c.recv().kind for _ in range(11)]
    assert kinds.count(PUBACK) == 10 and kinds.count(raw.PINGRESP) == 1
