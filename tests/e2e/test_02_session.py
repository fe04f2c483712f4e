"""Sessions: clean start, session present, expiry, takeover, offline queueing (3.1.2.4, 4.1)."""
import pytest

import raw
from harness import wait
from raw import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL

FOREVER = {"session_expiry": 0xFFFFFFFF}


def persistent(server, v, client_id=None, expiry=3600, **kw):
    """A connected client whose session outlives its connection; `again` connects it anew."""
    kw.setdefault("clean", False)
    if v == 5:
        kw["properties"] = {**kw.pop("properties", {}), "session_expiry": expiry}
    c = server.client(client_id, v=v, **kw)
    c.connect(present=False)
    return c


def again(c, present=True, **kw):
    c.drop()
    c.connect(present=present, **kw)
    return c


@pytest.mark.tsan
def test_subscriptions_survive(server, pub, t, v):
    c = persistent(server, v)
    c.subscribe(t, qos=1)
    c.disconnect()
    again(c)
    pub.publish(t, b"still subscribed", 1)
    c.message(t, b"still subscribed", qos=1)


def test_clean_start_forgets(server, pub, t, v):
    """MQTT-3.1.2-4."""
    c = persistent(server, v)
    c.subscribe(t, qos=1)
    c.disconnect()
    pub.publish(t, b"queued", 1)
    again(c, present=False, clean=True)
    server.nothing(pub, c)
    pub.publish(t, b"x", 1)
    server.nothing(pub, c)


def test_clean_session_leaves_nothing(server, v):
    """Without expiry (5.0) or with clean session (3.1.1) the session ends with the connection."""
    c = server.client(v=v)
    c.connect(clean=True, present=False)
    c.subscribe("e2e/x")
    c.disconnect()
    c.connect(clean=False, present=False)


def test_311_clean_then_persistent_then_clean(server):
    """3.1.1: 3.1.2.4: a clean session discards what was kept before and is not kept itself."""
    c = persistent(server, 4)
    c.disconnect()
    again(c, present=False, clean=True)
    c.disconnect()
    again(c, present=False, clean=False)


def test_5_session_expiry_zero_in_clean_start_false(server):
    c = server.client()
    c.connect(clean=False, present=False)
    c.disconnect()
    c.connect(clean=False, present=False)


def test_session_survives_abrupt_end(server, pub, t, v):
    c = persistent(server, v)
    c.subscribe(t, qos=1)
    c.drop(rst=True)
    pub.publish(t, b"m", 1)
    again(c)
    c.message(t, b"m", qos=1)


def test_expiry_ends_the_session(server):
    """3.1.2.11.2. The session is asked for until it is gone: each look would renew it, so each
    one uses a fresh id that was left at the same time."""
    ids = []
    for _ in range(40):
        c = persistent(server, 5, expiry=1)
        c.disconnect()
        ids.append(c.client_id)
    fresh = persistent(server, 5, expiry=60)
    fresh.disconnect()

    def gone():
        p = server.client(ids.pop(0)).connect(clean=False)
        return not p.session_present
    wait(gone, "a session to expire", step=0.1)
    again(fresh)


def test_disconnect_can_change_expiry(server):
    """3.14.2.2.2."""
    c = persistent(server, 5, expiry=3600)
    c.disconnect(0, {"session_expiry": 0})
    again(c, present=False)


def test_disconnect_cannot_extend_zero(server):
    """MQTT-3.14.2-2 and 3.14.2.2.2: from 0 to more is a protocol error."""
    c = server.connected()
    c.send(raw.disconnect(0, {"session_expiry": 100}))
    c.closed(0x82)
    c.connect(clean=False, present=False)


def test_expiry_never(server):
    c = persistent(server, 5, expiry=0xFFFFFFFF)
    if c.connack.prop("session_expiry") is None:
        c.disconnect()
        again(c)


def test_takeover_keeps_the_session(server, pub, t, v):
    c = persistent(server, v)
    c.subscribe(t, qos=1)
    d = server.client(c.client_id, v=v, clean=False, **(
        {"properties": {"session_expiry": 60}} if v == 5 else {}))
    d.connect(present=True)
    c.closed(0x8E)
    pub.publish(t, b"to the new one", 1)
    d.message(t, b"to the new one", qos=1)


def test_takeover_with_clean_start(server, pub, t, v):
    c = persistent(server, v)
    c.subscribe(t, qos=1)
    d = server.client(c.client_id, v=v)
    d.connect(clean=True, present=False)
    c.closed(0x8E)
    pub.publish(t, b"x", 1)
    server.nothing(pub, d)


def test_takeover_many_times(server, t, pub):
    """A storm of the same id: the last one connected is served, all others end."""
    cid = server.uid("storm")
    cs = [server.client(cid, clean=False, properties={"session_expiry": 60}) for _ in range(20)]
    for c in cs:
        c.open().send(c.connect_bytes())
    last = None
    for c in cs:
        try:
            p = c.recv()
            if p.kind == raw.CONNACK and p.rc == 0:
                c.send(raw.PING)
                while p.kind != raw.PINGRESP and p.kind != raw.DISCONNECT:
                    p = c.recv()
                last = c if p.kind == raw.PINGRESP else last
        except raw.Closed:
            pass
    assert last is not None
    # whoever holds the id now, a new connection takes it
    d = server.client(cid, clean=False, properties={"session_expiry": 60})
    d.connect(present=True)
    d.subscribe(t)
    pub.publish(t, b"x")
    d.message(t, b"x")


def test_offline_queueing(server, pub, t, v):
    """MQTT-3.1.2-5, MQTT-4.5: QoS 1 and 2 wait in order; QoS 0 may or may not."""
    c = persistent(server, v)
    c.subscribe((t + "/1", 1), (t + "/2", 2))
    c.disconnect()
    for i in range(100):
        pub.publish(t + f"/{1 + i % 2}", str(i), 1 + i % 2)
    again(c)
    got = c.collect(100)
    assert [p.payload for p in got if p.qos == 1] == [b"%d" % i for i in range(0, 100, 2)]
    assert [p.payload for p in got if p.qos == 2] == [b"%d" % i for i in range(1, 100, 2)]
    assert not any(p.dup for p in got)
    server.nothing(pub, c)


def test_offline_queue_is_delivered_once(server, pub, t, v):
    c = persistent(server, v)
    c.subscribe(t, qos=1)
    c.disconnect()
    for i in range(10):
        pub.publish(t, str(i), 1)
    again(c)
    c.collect(10)
    c.disconnect()
    again(c)
    server.nothing(pub, c)


@pytest.mark.lavva_only
def test_offline_queue_is_long(server, pub, t):
    """A cursor in the log, not a queue in memory: nothing is dropped."""
    c = persistent(server, 5, properties={"receive_maximum": 50})
    c.subscribe(t, qos=1)
    c.disconnect()
    n = 20000
    window = pub.connack.prop("receive_maximum", 65535)
    sent = acked = 0
    while acked < n:
        batch = b""
        while sent < n and sent - acked < min(window, 500):
            batch += raw.publish(t, b"%d" % sent, 1, pid=sent % 60000 + 1)
            sent += 1
        pub.send(batch)
        while sent - acked > 100 or (sent == n and acked < n):
            pub.expect(PUBACK, rc=0)
            acked += 1
    again(c)
    got = c.collect(n, timeout=40)
    assert [int(p.payload) for p in got] == list(range(n))


def test_unsubscribe_while_messages_wait(server, pub, t):
    """3.10.4: sent messages complete; whether queued ones are delivered is open; no new ones."""
    c = persistent(server, 5)
    c.subscribe(t, qos=1)
    c.disconnect()
    pub.publish(t, b"queued", 1)
    again(c)
    c.send(raw.unsubscribe(9, [t]))
    seen = []
    while True:
        p = c.recv()
        if p.kind == raw.UNSUBACK:
            break
        seen.append(c.ack(p))
    pub.publish(t, b"new", 1)
    got = [p for p in server.barrier(pub, c) + seen if p.payload == b"new"]
    assert not got


def test_inflight_qos1_is_sent_again(server, pub, t, v):
    """MQTT-4.4.0-1: with DUP, the same packet id, the original order; nothing else first."""
    c = persistent(server, v)
    c.subscribe(t, qos=1)
    for i in range(3):
        pub.publish(t, str(i), 1)
    first = [c.expect(PUBLISH, payload=str(i), dup=False) for i in range(3)]
    c.drop(rst=True)
    pub.publish(t, b"3", 1)
    again(c)
    for i, p in enumerate(first):
        c.message(t, str(i), dup=True, pid=p.pid, qos=1)
    c.message(t, b"3")      # DUP if it was sent before the server had heard of the reset
    server.nothing(pub, c)


def test_inflight_qos2_before_pubrec(server, pub, t, v):
    c = persistent(server, v)
    c.subscribe(t, qos=2)
    pub.publish(t, b"m", 2)
    p = c.expect(PUBLISH, dup=False)
    c.drop(rst=True)
    again(c)
    q = c.expect(PUBLISH, dup=True, pid=p.pid, payload=b"m")
    c.ack(q)
    server.nothing(pub, c)


def test_inflight_qos2_after_pubrec(server, pub, t, v):
    """After PUBREC only PUBREL is sent again, never the message (4.3.3)."""
    c = persistent(server, v)
    c.subscribe(t, qos=2)
    pub.publish(t, b"m", 2)
    p = c.expect(PUBLISH)
    c.send(raw.ack(PUBREC, p.pid))
    c.expect(PUBREL, pid=p.pid)
    c.drop(rst=True)
    again(c)
    c.expect(PUBREL, pid=p.pid)
    c.send(raw.ack(PUBCOMP, p.pid))
    server.nothing(pub, c)
    c.ping()                # PUBCOMP, and the ack of what `nothing` sent, were handled
    c.drop(rst=True)
    again(c)
    server.nothing(pub, c)


def test_publisher_qos2_across_reconnect(server, t, v):
    """The server remembers the packet id: the repeat is not delivered twice (4.3.3)."""
    sub = server.connected()
    sub.subscribe(t, qos=2)
    c = persistent(server, v)
    c.send(raw.publish(t, b"once", 2, pid=77, v=v))
    c.expect(PUBREC, pid=77)
    c.drop(rst=True)
    again(c)
    c.send(raw.publish(t, b"once", 2, pid=77, dup=True, v=v))
    p = c.expect(PUBREC, pid=77)
    assert p.rc in (0, 0x91)
    c.send(raw.ack(PUBREL, 77))
    c.expect(PUBCOMP, pid=77, rc=0)
    sub.message(t, b"once")
    other = server.connected()
    server.nothing(other, sub)


def test_publisher_qos2_pubrel_after_reconnect(server, t, v):
    c = persistent(server, v)
    c.send(raw.publish(t, b"once", 2, pid=5, v=v))
    c.expect(PUBREC, pid=5)
    c.drop(rst=True)
    again(c)
    c.send(raw.ack(PUBREL, 5))
    c.expect(PUBCOMP, pid=5, rc=0)
    c.send(raw.ack(PUBREL, 5))
    c.expect(PUBCOMP, pid=5, rc=0x92 if v == 5 else 0)


def test_session_of_311_continues_under_5(server, pub, t):
    """One session per client id, whatever the version."""
    c = persistent(server, 4)
    c.subscribe(t, qos=1)
    c.disconnect()
    pub.publish(t, b"m", 1)
    d = server.client(c.client_id, v=5, clean=False, properties={"session_expiry": 60})
    d.connect(present=True)
    d.message(t, b"m", qos=1)


def test_subscription_options_survive(server, pub, t):
    c = persistent(server, 5)
    c.subscribe((t, raw.sub_options(1, no_local=True, rap=True)),
                properties={"subscription_id": 1234})
    c.disconnect()
    again(c)
    c.publish(t, b"own", 1)
    pub.publish(t, b"other", 1, retain=True)
    p = c.message(t, b"other", retain=True)
    assert p.props("subscription_id") == [1234]
    pub.publish(t, b"", retain=True)
