"""SUBSCRIBE, SUBACK, UNSUBSCRIBE, options and identifiers (3.8 to 3.11)."""
import pytest

import raw
from raw import SUBACK, sub_options


@pytest.mark.tsan
def test_many_filters_in_one(server, v, t):
    c = server.connected(v=v)
    p = c.subscribe(*[(f"{t}/{i}", i % 3) for i in range(50)])
    assert p.codes == [i % 3 for i in range(50)]
    c.publish(t + "/49", b"m")
    c.message(t + "/49", b"m")


def test_unsubscribe(server, v, t, pub):
    c = server.connected(v=v)
    c.subscribe(t + "/a", t + "/+")
    c.unsubscribe(t + "/a")
    pub.publish(t + "/a", b"m", 1)
    assert len(server.barrier(pub, c)) == 1
    c.unsubscribe(t + "/+")
    pub.publish(t + "/a", b"m", 1)
    server.nothing(pub, c)


def test_unsubscribe_codes(server, t):
    """3.11.3: 0x11 for what was not subscribed; the comparison is by character (MQTT-3.10.4-1)."""
    c = server.connected()
    c.subscribe(t + "/a", t + "/#")
    c.unsubscribe(t + "/a", t + "/b", t + "/#", t + "/+", t + "/a",
                  codes=[0, 0x11, 0, 0x11, 0x11])


def test_311_unsubscribe_unknown_is_acked(server, t):
    """3.1.1: MQTT-3.10.4-5."""
    c = server.connected(v=4)
    assert c.unsubscribe(t).codes == []


def test_unsubscribe_without_filters(server, v):
    """MQTT-3.10.3-2 and MQTT-3.8.3-2."""
    for data in (raw.unsubscribe(1, [], v), raw.subscribe(1, [], v)):
        c = server.connected(v=v)
        c.send(data)
        c.closed({0x81, 0x82})


def test_wrong_header_flags(server, v):
    """MQTT-3.8.1-1, MQTT-3.10.1-1."""
    for data in (raw.subscribe(1, [("a", 0)], v), raw.unsubscribe(1, ["a"], v)):
        for flags in (0, 1, 3, 6, 10):
            c = server.connected(v=v)
            c.send(bytes([data[0] & 0xF0 | flags]) + data[1:])
            c.closed({0x81, 0x82})


@pytest.mark.parametrize("options", [0x03, 0x30, 0x40, 0x80, 0xFF])
def test_bad_options_5(server, options):
    """MQTT-3.8.3-4, -5: QoS 3, retain handling 3, reserved bits."""
    c = server.connected()
    c.send(raw.subscribe(1, [("a", options)]))
    c.closed({0x81, 0x82})


@pytest.mark.parametrize("options", [0x03, 0x04, 0x08, 0x10, 0x80, 0xFE])
def test_bad_options_311(server, options):
    """3.1.1: MQTT-3-8.3-4."""
    c = server.connected(v=4)
    c.send(raw.subscribe(1, [("a", options)], 4))
    c.closed()


def test_same_filter_replaces(server, t, v, pub):
    """MQTT-3.8.4-3."""
    c = server.connected(v=v)
    c.subscribe(t, qos=2)
    c.subscribe(t, qos=0)
    pub.publish(t, b"m", 2)
    c.message(t, b"m", qos=0)
    server.nothing(pub, c)


def test_same_filter_twice_in_one_packet(server, t, pub):
    c = server.connected()
    c.subscribe((t, 0), (t, 1))
    pub.publish(t, b"m", 1)
    c.message(t, b"m", qos=1)
    server.nothing(pub, c)


def test_overlapping_maximum_qos(server, t, v, pub):
    """3.3.4: one copy at the highest QoS granted, or one a subscription."""
    c = server.connected(v=v)
    c.subscribe((t + "/#", 0), (t + "/+", 2), (t + "/a", 1))
    pub.publish(t + "/a", b"m", 2)
    got = server.barrier(pub, c)
    assert max(p.qos for p in got) == 2
    assert len(got) in (1, 3)


@pytest.mark.lavva_only
def test_overlaps_are_merged(server, t, v, pub):
    """Guarantee 4: overlaps are merged where one copy is sent; ours sends one."""
    c = server.connected(v=v)
    c.subscribe((t + "/#", 0), (t + "/+", 2), (t + "/a", 1))
    pub.publish(t + "/a", b"m", 2)
    assert [p.qos for p in server.barrier(pub, c)] == [2]


def test_subscription_identifier(server, t, pub):
    """MQTT-3.3.4-3."""
    c = server.connected()
    for ident in (1, 127, 128, 16383, 16384, 268435455):
        c.subscribe(f"{t}/{ident}", properties={"subscription_id": ident})
        pub.publish(f"{t}/{ident}", b"m")
        assert c.message().props("subscription_id") == [ident]


def test_subscription_identifiers_of_overlaps(server, t, pub):
    """3.3.4: a merged copy carries all identifiers; separate ones carry theirs."""
    c = server.connected()
    c.subscribe(t + "/#", qos=1, properties={"subscription_id": 11})
    c.subscribe(t + "/+", qos=1, properties={"subscription_id": 22})
    c.subscribe(t + "/a", qos=1)
    pub.publish(t + "/a", b"m", 1)
    got = server.barrier(pub, c)
    ids = [i for p in got for i in p.props("subscription_id")]
    assert sorted(ids) == [11, 22]


def test_identifier_is_replaced_and_dropped(server, t, pub):
    """3.8.2.1.2: a later SUBSCRIBE changes or removes it."""
    c = server.connected()
    for props, want in (({"subscription_id": 5}, [5]), ({"subscription_id": 6}, [6]), (None, [])):
        c.subscribe(t, properties=props)
        pub.publish(t, b"m")
        assert c.message().props("subscription_id") == want


@pytest.mark.parametrize("props", [
    [("subscription_id", 0)], [("subscription_id", 1), ("subscription_id", 2)],
    [("reason_string", "x")], [("topic_alias", 1)]])
def test_bad_subscribe_properties(server, props):
    c = server.connected()
    c.send(raw.subscribe(1, [("a", 0)], properties=props))
    c.closed({0x81, 0x82})


def test_client_must_not_send_subscription_id(server):
    """MQTT-3.3.4-6."""
    c = server.connected()
    c.send(raw.publish("e2e/x", b"m", properties={"subscription_id": 1}))
    c.closed({0x81, 0x82})


def test_unsubscribe_properties(server, t):
    c = server.connected()
    c.subscribe(t, properties=[("user", ("a", "b")), ("subscription_id", 4)])
    c.unsubscribe(t, properties=[("user", ("a", "b")), ("user", ("a", "b"))])
    c.send(raw.unsubscribe(9, [t], properties={"subscription_id": 1}))
    c.closed({0x81, 0x82})


def test_no_local(server, t, pub):
    """MQTT-3.8.3-3: by client id; other clients' messages still come."""
    c = server.connected()
    c.subscribe((t, sub_options(1, no_local=True)))
    c.publish(t, b"mine", 1)
    pub.publish(t, b"other", 1)
    c.message(t, b"other")
    server.nothing(pub, c)


def test_no_local_and_retained(server, t, pub):
    """MQTT-3.8.3-3: what this client id published is not given as a retained message either."""
    c = server.connected()
    c.publish(t + "/mine", b"m", 1, retain=True)
    pub.publish(t + "/other", b"o", 1, retain=True)
    c.subscribe((t + "/+", sub_options(1, no_local=True)))
    c.message(t + "/other", b"o", retain=True)
    server.nothing(pub, c)
    for name in ("mine", "other"):
        pub.publish(f"{t}/{name}", b"", 1, retain=True)


def test_no_local_is_per_subscription(server, t, pub):
    c = server.connected()
    c.subscribe((t + "/#", sub_options(1, no_local=True)))
    c.subscribe((t + "/a", sub_options(1)), properties={"subscription_id": 3})
    c.send(raw.publish(t + "/a", b"mine"))
    c.send(raw.publish(t + "/b", b"mine"))
    got = server.barrier(pub, c)
    got += server.barrier(c, c)         # c's own are through now too
    assert [p.topic for p in got] == [t + "/a"]
    assert got[0].props("subscription_id") == [3]


def test_granted_qos_is_what_was_asked(server, t, v):
    c = server.connected(v=v)
    assert c.subscribe((t + "/0", 0), (t + "/1", 1), (t + "/2", 2)).codes == [0, 1, 2]


def test_suback_answers_in_order(server, t, v):
    c = server.connected(v=v)
    c.send(b"".join(raw.subscribe(i, [(f"{t}/{i}", 0)], v) for i in range(1, 21)))
    assert [c.expect(SUBACK).pid for _ in range(20)] == list(range(1, 21))


def test_refused_filter_leaves_the_others(server, t, pub):
    c = server.connected()
    c.send(raw.subscribe(1, [(t + "/a", 1), ("bad/#/x", 1), (t + "/b", 2)]))
    p = c.recv()
    if p.kind == raw.DISCONNECT:        # a malformed filter may also end the connection
        assert p.rc in (0x81, 0x82, 0x8F)
        return
    assert p.codes == [1, 0x8F, 2]
    pub.publish(t + "/b", b"m", 1)
    c.message(t + "/b", b"m")


def test_truncated_subscribe(server, v):
    whole = raw.subscribe(1, [("abc/def", 1)], v)
    body = whole[2:]
    for n in range(len(body)):
        c = server.connected(v=v)
        c.send(raw.packet(raw.SUBSCRIBE, 2, body[:n]))
        c.closed({0x81, 0x82, 0x8F})


@pytest.mark.lavva_only
def test_too_many_levels_and_subscriptions(server, t):
    """Limits answer with a reason code: 0x97 quota exceeded or 0x8F."""
    c = server.connected()
    c.send(raw.subscribe(1, [(t + "/x" * 5000, 0)]))
    p = c.recv()
    assert p.kind == SUBACK and p.codes[0] in (0x8F, 0x97), p


def test_unsubscribe_keeps_inflight(server, t, pub):
    """MQTT-3.10.4-3: what was begun is completed."""
    c = server.connected()
    c.subscribe(t, qos=2)
    pub.publish(t, b"m", 2)
    p = c.expect(raw.PUBLISH)
    c.unsubscribe(t)
    c.send(raw.ack(raw.PUBREC, p.pid))
    c.expect(raw.PUBREL, pid=p.pid, rc=0)
    c.send(raw.ack(raw.PUBCOMP, p.pid))
    c.ping()


def test_subscribe_is_effective_at_suback(server, t, v, pub):
    """What is published after SUBACK is delivered, again and again."""
    c = server.connected(v=v)
    for i in range(200):
        c.subscribe(f"{t}/{i}")
        pub.publish(f"{t}/{i}", b"m", 1)
        c.message(f"{t}/{i}", b"m")
        c.unsubscribe(f"{t}/{i}")
