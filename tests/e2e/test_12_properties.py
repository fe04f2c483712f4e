"""Message properties: kept, ordered, expired (3.3.2.3, 4.10)."""
import time

import pytest

import raw
from harness import wait


@pytest.mark.tsan
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_all_are_forwarded(server, t, pub, qos):
    """MQTT-3.3.2-4, -15, -16, -17, -18, -20."""
    sub = server.connected()
    sub.subscribe(t, qos=qos)
    users = [("b", "2"), ("a", "1"), ("b", "3"), ("", ""), ("tag", "x"), ("cat", "y"),
             ("ü", "☃"), ("b", "2")]
    pub.publish(t, "text", qos, properties=[
        ("payload_format", 1), ("content_type", "application/json; x=y"),
        ("response_topic", "answer/to/me"), ("correlation_data", bytes(range(256)))]
        + [("user", u) for u in users])
    p = sub.message(t, "text")
    assert p.users == users
    assert p.prop("payload_format") == 1
    assert p.prop("content_type") == "application/json; x=y"
    assert p.prop("response_topic") == "answer/to/me"
    assert p.prop("correlation_data") == bytes(range(256))
    assert p.prop("message_expiry") is None


def test_none_are_invented(server, t, pub):
    sub = server.connected()
    sub.subscribe(t)
    pub.publish(t, b"m")
    assert sub.message(t).list == []


def test_empty_values(server, t, pub):
    sub = server.connected()
    sub.subscribe(t)
    pub.publish(t, b"", properties=[("content_type", ""), ("correlation_data", b""),
                                    ("user", ("", ""))])
    p = sub.message(t, b"")
    assert p.prop("content_type") == "" and p.prop("correlation_data") == b""
    assert p.users == [("", "")]


def test_many_user_properties(server, t, pub):
    sub = server.connected()
    sub.subscribe(t)
    users = [(f"k{i % 7}", "v" * (i % 50)) for i in range(200)]
    pub.publish(t, b"m", properties=[("user", u) for u in users])
    assert sub.message(t).users == users


def test_311_subscriber_gets_the_payload(server, t, pub):
    sub = server.connected(v=4)
    sub.subscribe(t, qos=1)
    pub.publish(t, b"m", 1, properties=[("user", ("a", "b")), ("payload_format", 0)])
    sub.message(t, b"m")


def test_311_publisher_to_5_subscriber(server, t):
    sub, pub = server.connected(), server.connected(v=4)
    sub.subscribe(t, qos=1)
    pub.publish(t, b"m", 1)
    assert sub.message(t, b"m").list == []


def test_request_response(server, t):
    """4.10: the responder reads where to answer."""
    asker, responder = server.connected(), server.connected()
    responder.subscribe(t + "/ask", qos=1)
    asker.subscribe(t + "/answer", qos=1)
    asker.publish(t + "/ask", b"?", 1, properties={"response_topic": t + "/answer",
                                                   "correlation_data": b"\0id"})
    q = responder.message(t + "/ask", b"?")
    responder.publish(q.prop("response_topic"), b"!", 1,
                      properties={"correlation_data": q.prop("correlation_data")})
    assert asker.message(t + "/answer", b"!").prop("correlation_data") == b"\0id"


def test_expiry_is_counted_down(server, t, pub):
    """MQTT-3.3.2-6: what is sent on is what is left."""
    c = server.client(clean=False, properties={"session_expiry": 60})
    c.connect()
    c.subscribe(t, qos=1)
    c.disconnect()
    pub.publish(t, b"m", 1, properties={"message_expiry": 100})
    t0 = time.monotonic()
    # someone else's short keep-alive is the clock: about two seconds pass
    clock = server.client()
    clock.connect(keepalive=1)
    clock.closed(timeout=12)
    c.connect(present=True)
    p = c.message(t, b"m")
    passed = time.monotonic() - t0
    assert 100 - passed - 1.1 <= p.prop("message_expiry") <= 100 - passed + 1.1


def test_expired_in_the_queue_is_dropped(server, t, pub):
    """MQTT-3.3.2-5."""
    c = server.client(clean=False, properties={"session_expiry": 60})
    c.connect()
    c.subscribe(t, qos=1)
    c.disconnect()
    pub.publish(t, b"short", 1, properties={"message_expiry": 1})
    pub.publish(t, b"long", 1, properties={"message_expiry": 1000})
    pub.publish(t, b"forever", 1)
    clock = server.client()
    clock.connect(keepalive=1)
    clock.closed(timeout=12)
    c.connect(present=True)
    assert [p.payload for p in c.collect(2)] == [b"long", b"forever"]
    server.nothing(pub, c)


def test_live_message_carries_expiry(server, t, pub):
    c = server.connected()
    c.subscribe(t)
    pub.publish(t, b"m", properties={"message_expiry": 4294967295})
    assert c.message(t).prop("message_expiry") in (4294967295, 4294967294)
    pub.publish(t, b"m", properties={"message_expiry": 10})
    assert c.message(t).prop("message_expiry") in (10, 9)


@pytest.mark.parametrize("p", [
    [("payload_format", 0), ("payload_format", 0)], [("message_expiry", 1), ("message_expiry", 1)],
    [("content_type", "a"), ("content_type", "a")], [("response_topic", "a")] * 2,
    [("correlation_data", b"a")] * 2, [("reason_string", "x")], [("session_expiry", 1)],
    [("will_delay", 1)], [("maximum_qos", 1)], [("receive_maximum", 1)],
    [("assigned_client_id", "x")], [("server_keep_alive", 1)]])
def test_not_allowed_on_publish(server, t, p):
    """2.2.2.2, 3.3.2.3."""
    c = server.connected()
    c.send(raw.publish(t, b"m", properties=p))
    c.closed({0x81, 0x82})


@pytest.mark.parametrize("topic", ["a/+", "#", "a/#/b"])
def test_response_topic_with_wildcards(server, t, topic):
    """MQTT-3.3.2-14."""
    c = server.connected()
    c.send(raw.publish(t, b"m", 1, pid=1, properties={"response_topic": topic}))
    p = c.recv()
    assert p.kind in (raw.DISCONNECT, raw.PUBACK) and p.rc in (0x81, 0x82, 0x90), p


@pytest.mark.parametrize("name", ["content_type", "response_topic"])
@pytest.mark.parametrize("text", [b"a\0b", b"\xc3\x28", b"\xed\xa0\x80"])
def test_strings_are_utf8(server, t, name, text):
    c = server.connected()
    c.send(raw.publish(t, b"m", properties={name: text}))
    c.closed({0x81, 0x82, 0x90})


def test_user_property_strings_are_utf8(server, t):
    for pair in ((b"\xff", b"x"), (b"x", b"\xff"), (b"a\0", b"")):
        c = server.connected()
        c.send(raw.publish(t, b"m", properties=[("user", pair)]))
        c.closed({0x81, 0x82})


@pytest.mark.lavva_only
def test_payload_format_is_checked(server, t):
    """3.3.2.3.2: a receiver may check; ours answers 0x99 and keeps the connection."""
    c = server.connected()
    c.send(raw.publish(t, b"\xff\xfe", 1, pid=1, properties={"payload_format": 1}))
    p = c.recv()
    assert p.rc in (0, 0x99)


def test_disconnect_properties(server):
    c = server.connected()
    c.send(raw.disconnect(0, [("reason_string", "bye"), ("user", ("a", "b"))]))
    c.closed()
    c = server.connected()
    c.send(raw.disconnect(0, [("reason_string", "a"), ("reason_string", "b")]))
    c.closed({0x81, 0x82})


def test_expiry_of_retained_and_live_agree(server, t, pub):
    pub.publish(t, b"m", 1, retain=True, properties={"message_expiry": 2})

    def gone():
        c = server.connected()
        c.subscribe(t)
        got = server.barrier(pub, c)
        assert all(p.prop("message_expiry") <= 2 for p in got)
        return not got
    wait(gone, "the retained message to expire", step=0.2)
