"""Topic aliases, both ways (3.3.2.3.4, 3.1.2.11.5, 3.2.2.3.8)."""
import pytest

import raw


def server_max(c):
    return c.connack.prop("topic_alias_maximum", 0)


@pytest.fixture
def c(server):
    c = server.connected()
    if not server_max(c):
        pytest.fail("the server takes no topic aliases")
    return c


@pytest.mark.tsan
def test_client_alias(server, c, t):
    sub = server.connected()
    sub.subscribe(t + "/#")
    c.send(raw.publish(t + "/a", b"1", properties={"topic_alias": 1}))
    c.send(raw.publish("", b"2", properties={"topic_alias": 1}))
    c.send(raw.publish(t + "/b", b"3", properties={"topic_alias": 1}))
    c.send(raw.publish("", b"4", properties={"topic_alias": 1}))
    c.send(raw.publish(t + "/a", b"5"))
    for topic, body in (("/a", b"1"), ("/a", b"2"), ("/b", b"3"), ("/b", b"4"), ("/a", b"5")):
        p = sub.message(t + topic, body)
        assert p.prop("topic_alias") is None


@pytest.mark.parametrize("qos", [1, 2])
def test_client_alias_with_qos(server, c, t, qos):
    sub = server.connected()
    sub.subscribe(t, qos=qos)
    c.publish(t, b"1", qos, properties={"topic_alias": 3})
    c.publish("", b"2", qos, properties={"topic_alias": 3})
    assert [p.payload for p in sub.collect(2)] == [b"1", b"2"]


def test_all_aliases(server, c, t):
    sub = server.connected()
    sub.subscribe(t + "/#", qos=1)
    n = min(server_max(c), 300)
    ids = [*range(1, n), server_max(c)]
    for i in ids:
        c.send(raw.publish(f"{t}/{i}", b"set", properties={"topic_alias": i}))
    for i in reversed(ids):
        c.send(raw.publish("", b"use", properties={"topic_alias": i}))
    got = sub.collect(2 * len(ids))
    assert [p.topic for p in got] == [f"{t}/{i}" for i in ids + ids[::-1]]


def test_over_the_maximum(server, c, t):
    """MQTT-3.3.2-9."""
    if server_max(c) == 65535:
        pytest.skip("there is none above")
    c.send(raw.publish(t, b"x", properties={"topic_alias": server_max(c) + 1}))
    c.closed(0x94)


def test_zero(server, c, t):
    """MQTT-3.3.2-8."""
    c.send(raw.publish(t, b"x", properties={"topic_alias": 0}))
    c.closed({0x81, 0x82, 0x94})


def test_unknown(server, c):
    c.send(raw.publish("", b"x", properties={"topic_alias": 1}))
    c.closed({0x82, 0x94})


def test_empty_topic_without_alias(server, c):
    c.send(raw.publish("", b"x"))
    c.closed({0x81, 0x82, 0x90})


def test_twice(server, c, t):
    c.send(raw.publish(t, b"x", properties=[("topic_alias", 1), ("topic_alias", 1)]))
    c.closed({0x81, 0x82})


def test_lives_as_long_as_the_connection(server, t):
    """MQTT-3.3.2-7."""
    c = server.client(clean=False, properties={"session_expiry": 60})
    c.connect()
    c.send(raw.publish(t, b"x", properties={"topic_alias": 1}))
    c.ping()
    c.drop()
    c.connect(present=True)
    c.send(raw.publish("", b"x", properties={"topic_alias": 1}))
    c.closed({0x82, 0x94})


def test_alias_is_of_one_connection(server, c, t):
    c.send(raw.publish(t, b"x", properties={"topic_alias": 1}))
    c.ping()
    d = server.connected()
    d.send(raw.publish("", b"x", properties={"topic_alias": 1}))
    d.closed({0x82, 0x94})


def test_alias_with_bad_topic_is_not_set(server, c, t):
    """A PUBLISH that is refused for its alias' first use ends the connection or sets it; after a
    plain publish to `$SYS` (acked and dropped) the alias is known."""
    c.publish("$SYS/x", b"1", 1, rc=c_rc(c), properties={"topic_alias": 2})
    c.publish("", b"2", 1, rc=c_rc(c), properties={"topic_alias": 2})


def c_rc(c):
    return 0 if c.server.name == "lavva" else 0x87


def test_server_uses_none_unasked(server, t, pub):
    """MQTT-3.1.2-26, -27: 0 or absent: none."""
    for props in (None, {"topic_alias_maximum": 0}):
        c = server.client(properties=props)
        c.connect()
        c.subscribe(t)
        for _ in range(5):
            pub.publish(t, b"m")
            assert c.message(t).prop("topic_alias") is None


@pytest.mark.lavva_only
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_server_uses_them(server, t, pub, qos):
    """Allowed, the server names a topic once and then sends the alias."""
    c = server.client(properties={"topic_alias_maximum": 5})
    c.connect()
    c.subscribe(t, qos=qos)
    got = []
    for i in range(10):
        pub.publish(t, str(i), qos)
        got.append(c.message(t, str(i)))
    assert any(p.wire_topic == "" for p in got), "no alias was ever used"
    assert all(1 <= p.prop("topic_alias") <= 5 for p in got if p.wire_topic == "")


@pytest.mark.parametrize("limit", [1, 2, 10])
def test_server_stays_within_the_limit(server, t, pub, limit):
    c = server.client(properties={"topic_alias_maximum": limit})
    c.connect()
    c.subscribe(t + "/#", qos=1)
    n = 60
    for i in range(n):
        pub.publish(f"{t}/{i % 15}", str(i), 1)
    got = c.collect(n)          # resolves the aliases, and fails on an unknown one
    assert [p.topic for p in got] == [f"{t}/{i % 15}" for i in range(n)]
    assert all(0 < p.prop("topic_alias", 1) <= limit for p in got)


def test_redelivery_does_not_lean_on_old_aliases(server, t, pub):
    """A message sent again on a new connection names its topic."""
    c = server.client(clean=False, properties={"session_expiry": 60, "topic_alias_maximum": 5})
    c.connect()
    c.subscribe(t, qos=1)
    for i in range(4):
        pub.publish(t, str(i), 1)
    for _ in range(4):
        c.expect(raw.PUBLISH)
    c.drop(rst=True)
    c.connect(present=True)
    assert [p.topic for p in c.collect(4)] == [t] * 4
