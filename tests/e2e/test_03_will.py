"""Wills (3.1.2.5, 3.1.3.2, 3.14.4): published on any end but a normal DISCONNECT."""
import time

import pytest

import raw
from raw import Will


def leaver(server, v, will, **kw):
    c = server.client(v=v, will=will, **kw)
    c.connect()
    return c


@pytest.fixture
def sub(server, t):
    c = server.connected()
    c.subscribe((t + "/#", raw.sub_options(2, rap=True)))
    return c


@pytest.mark.tsan
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("rst", [False, True], ids=["fin", "rst"])
def test_abrupt_end_publishes(server, sub, t, v, qos, rst):
    c = leaver(server, v, Will(t + "/w", b"bye", qos))
    c.drop(rst=rst)
    sub.message(t + "/w", b"bye", qos=qos, retain=False)


def test_normal_disconnect_does_not(server, sub, pub, t, v):
    """MQTT-3.14.4-3."""
    c = leaver(server, v, Will(t + "/w", b"bye", 1))
    c.disconnect()
    server.nothing(pub, sub)


@pytest.mark.parametrize("rc", [0x04, 0x80, 0x81, 0x90, 0x99])
def test_disconnect_with_another_reason_publishes(server, sub, t, rc):
    """3.1.2.5: any reason but 0x00."""
    c = leaver(server, 5, Will(t + "/w", b"bye", 1))
    c.disconnect(rc)
    sub.message(t + "/w", b"bye")


def test_protocol_error_publishes(server, sub, t, v):
    c = leaver(server, v, Will(t + "/w", b"bye", 1))
    c.send(c.connect_bytes())
    c.closed()
    sub.message(t + "/w", b"bye")


def test_takeover_publishes(server, sub, t, v):
    """3.1.4: the old connection ends without normal DISCONNECT."""
    c = leaver(server, v, Will(t + "/w", b"bye", 1))
    server.client(c.client_id, v=v).connect()
    sub.message(t + "/w", b"bye")


def test_retained_will(server, sub, pub, t, v):
    c = leaver(server, v, Will(t + "/w", b"state", 1, retain=True))
    c.drop()
    sub.message(t + "/w", b"state", retain=True)
    late = server.connected()
    late.subscribe(t + "/w")
    late.message(t + "/w", b"state", retain=True)
    pub.publish(t + "/w", b"", retain=True)


def test_empty_will_payload(server, sub, t, v):
    leaver(server, v, Will(t + "/w", b"", 1)).drop()
    sub.message(t + "/w", b"")


def test_will_properties(server, sub, t):
    props = [("payload_format", 1), ("message_expiry", 100), ("content_type", "text/plain"),
             ("response_topic", "r/t"), ("correlation_data", b"\0\1"), ("user", ("b", "2")),
             ("user", ("a", "1")), ("user", ("b", "2"))]
    leaver(server, 5, Will(t + "/w", "ü".encode(), 1, props=props)).drop()
    p = sub.message(t + "/w", "ü".encode())
    assert p.prop("payload_format") == 1
    assert 98 <= p.prop("message_expiry") <= 100
    assert p.prop("content_type") == "text/plain"
    assert p.prop("response_topic") == "r/t"
    assert p.prop("correlation_data") == b"\0\1"
    assert p.users == [("b", "2"), ("a", "1"), ("b", "2")]
    assert p.prop("will_delay") is None


def test_will_delay(server, sub, t):
    """3.1.3.2.2: after the delay, not before."""
    c = leaver(server, 5, Will(t + "/w", b"late", 1, props={"will_delay": 1}),
               properties={"session_expiry": 60})
    c.drop()
    t0 = time.monotonic()
    sub.message(t + "/w", b"late")
    assert 0.85 <= time.monotonic() - t0


def test_will_delay_cancelled_by_return(server, sub, pub, t):
    """MQTT-3.1.3-9: a new connection within the delay, and its normal end, leave no will."""
    c = leaver(server, 5, Will(t + "/w", b"late", 1, props={"will_delay": 1}),
               properties={"session_expiry": 60}, clean=False)
    c.drop()
    d = server.client(c.client_id, clean=False, properties={"session_expiry": 60})
    d.connect(present=True)
    # another will with the same delay, started later, marks the moment when the first was due
    leaver(server, 5, Will(t + "/mark", b"mark", 1, props={"will_delay": 1}),
           properties={"session_expiry": 60}).drop()
    sub.message(t + "/mark", b"mark")
    server.nothing(pub, sub)


def test_will_comes_when_session_ends_first(server, sub, t):
    """3.1.3.2.2: whichever is first, the delay or the session's end."""
    c = leaver(server, 5, Will(t + "/w", b"late", 1, props={"will_delay": 3600}),
               properties={"session_expiry": 1})
    t0 = time.monotonic()
    c.drop()
    sub.message(t + "/w", b"late")
    assert 0.85 <= time.monotonic() - t0


def test_will_delay_without_session(server, sub, t):
    c = leaver(server, 5, Will(t + "/w", b"now", 1, props={"will_delay": 3600}))
    c.drop()
    sub.message(t + "/w", b"now")


def test_clean_start_sends_delayed_will(server, sub, t):
    """3.1.4: a clean start ends the old session, and with it the delay."""
    c = leaver(server, 5, Will(t + "/w", b"now", 1, props={"will_delay": 3600}),
               properties={"session_expiry": 3600})
    c.drop()
    server.client(c.client_id).connect(clean=True, present=False)
    sub.message(t + "/w", b"now")


def test_refused_connect_leaves_no_will(server, sub, t, pub):
    """3.1.2.5: a will belongs to a connection that was accepted."""
    c = server.client(properties={"maximum_packet_size": 10}, will=Will(t + "/w", b"never", 1))
    c.connect(rc=0x95)
    c.closed()
    server.nothing(pub, sub)


def test_disconnect_0x04_with_delay(server, sub, t):
    c = leaver(server, 5, Will(t + "/w", b"late", 1, props={"will_delay": 1}),
               properties={"session_expiry": 60})
    t0 = time.monotonic()
    c.disconnect(4)
    sub.message(t + "/w", b"late")
    assert 0.85 <= time.monotonic() - t0


def test_will_matches_own_no_local(server, t, pub):
    """The will is the client's message: with no-local its own later session does not get it."""
    c = leaver(server, 5, Will(t + "/w", b"x", 1), properties={"session_expiry": 60})
    c.subscribe((t + "/w", raw.sub_options(1)))
    c.drop()
    d = server.client(c.client_id, clean=False, properties={"session_expiry": 60})
    d.connect(present=True)
    d.message(t + "/w", b"x")


@pytest.mark.parametrize("topic", [b"", b"a/+", b"a/#", b"#", b"a\x00b", b"\xc3\x28"])
def test_bad_will_topic(server, v, topic):
    """MQTT-3.1.3-11: UTF-8; a topic name has no wildcards (4.7.1)."""
    c = server.client(v=v).open()
    c.send(c.connect_bytes(will=Will(topic, b"x")))
    try:
        p = c.recv()
        assert p.kind == raw.CONNACK and p.rc in (
            {0x81, 0x82, 0x83, 0x85, 0x90} if v == 5 else {2, 3, 5}), p
        c.closed()
    except raw.Closed:
        pass


def test_bad_will_properties(server):
    for p in [[("will_delay", 1), ("will_delay", 1)], [("topic_alias", 1)],
              [("session_expiry", 1)], [("subscription_id", 1)],
              [("response_topic", "a/#")], [("content_type", "a"), ("content_type", "a")]]:
        c = server.client().open()
        c.send(c.connect_bytes(will=Will("e2e/w", b"x", props=p)))
        try:
            a = c.recv()
            assert a.kind == raw.CONNACK and a.rc in (0x81, 0x82, 0x90), (p, a)
            c.closed()
        except raw.Closed:
            pass


def test_will_order_after_own_messages(server, sub, t, v):
    """Guarantee 2: what the client published before arrives before its will."""
    c = leaver(server, v, Will(t + "/k", b"will", 1))
    c.send(b"".join(raw.publish(t + "/k", str(i), 0, v=v) for i in range(50)))
    c.ping()
    c.drop()
    got = sub.until(lambda p: p.payload == b"will")
    assert [p.payload for p in got] == [b"%d" % i for i in range(50)] + [b"will"]
