"""Retained messages (3.3.1.3, 3.8.3.1, 3.8.4)."""
import pytest

from raw import sub_options


@pytest.fixture
def clean(pub):
    """Removes what a test retains."""
    topics = set()
    yield topics.add
    for topic in topics:
        pub.publish(topic, b"", 1, retain=True)


@pytest.mark.tsan
@pytest.mark.parametrize("pq", [0, 1, 2])
@pytest.mark.parametrize("sq", [0, 1, 2])
def test_new_subscriber_gets_it(server, t, v, clean, pq, sq):
    clean(t)
    pub = server.connected(v=v)
    pub.publish(t, b"state", pq, retain=True)
    pub.ping()
    sub = server.connected(v=v)
    # QoS 0 is not acknowledged: it is there when it reaches a live subscriber
    live = server.connected()
    live.subscribe(t)
    live.message(t, b"state")
    sub.subscribe(t, qos=sq)
    sub.message(t, b"state", retain=True, qos=min(pq, sq), dup=False)


def test_live_delivery_has_no_retain_flag(server, t, v, clean):
    """MQTT-3.3.1-9 (3.1.1), -12: without retain-as-published the flag is cleared."""
    clean(t)
    sub, pub = server.connected(v=v), server.connected(v=v)
    sub.subscribe(t, qos=1)
    pub.publish(t, b"m", 1, retain=True)
    sub.message(t, b"m", retain=False)


def test_newest_replaces(server, t, v, clean, pub):
    clean(t)
    for i in range(5):
        pub.publish(t, str(i), 1, retain=True)
    sub = server.connected(v=v)
    sub.subscribe(t, qos=1)
    sub.message(t, b"4", retain=True)
    server.nothing(pub, sub)


def test_unretained_does_not_replace(server, t, v, clean, pub):
    clean(t)
    pub.publish(t, b"kept", 1, retain=True)
    pub.publish(t, b"passing", 1)
    pub.publish(t, b"", 1)
    sub = server.connected(v=v)
    sub.subscribe(t)
    sub.message(t, b"kept", retain=True)
    server.nothing(pub, sub)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_empty_payload_clears(server, t, v, pub, qos):
    """MQTT-3.3.1-6, -7: removed; a live subscriber gets the empty message."""
    live = server.connected(v=v)
    live.subscribe(t, qos=2)
    pub.publish(t, b"x", qos, retain=True)
    live.message(t, b"x")
    pub.publish(t, b"", qos, retain=True)
    live.message(t, b"", retain=False)
    sub = server.connected(v=v)
    sub.subscribe(t)
    server.nothing(pub, sub)


def test_clear_what_is_not_there(server, t, pub):
    pub.publish(t, b"", 1, retain=True)
    sub = server.connected()
    sub.subscribe(t)
    server.nothing(pub, sub)


def test_wildcard_gets_all(server, t, v, clean, pub):
    names = [f"{t}/a", f"{t}/b", f"{t}/a/b", f"{t}//x", t]
    for n in names:
        clean(n)
        pub.publish(n, n, 1, retain=True)
    for flt, want in ((t + "/#", names), (t + "/+", names[:2]), (t + "/+/b", [names[2]]),
                      (t + "/+/+", [names[2], names[3]]), (t + "//+", [names[3]])):
        sub = server.connected(v=v)
        sub.subscribe(flt, qos=1)
        got = sub.collect(len(want))
        assert sorted(p.topic for p in got) == sorted(want)
        assert all(p.retain and p.payload == p.topic.encode() for p in got)
        server.nothing(pub, sub)


def test_many_retained_all_arrive(server, t, clean, pub):
    n = 300
    for i in range(n):
        clean(f"{t}/{i}")
        pub.publish(f"{t}/{i}", str(i), 1, retain=True)
    sub = server.client(properties={"receive_maximum": 5})
    sub.connect()
    sub.subscribe(t + "/+", qos=1)
    got = sub.collect(n)
    assert sorted(int(p.payload) for p in got) == list(range(n))


def test_subscribe_again_sends_again(server, t, v, clean, pub):
    """MQTT-3.8.4-3 (3.1.1): each SUBSCRIBE; 5.0: with retain handling 0."""
    clean(t)
    pub.publish(t, b"m", 1, retain=True)
    sub = server.connected(v=v)
    for _ in range(3):
        sub.subscribe(t)
        sub.message(t, b"m", retain=True)


def test_retain_handling(server, t, clean, pub):
    """MQTT-3.3.1-9, -10, -11."""
    clean(t)
    pub.publish(t, b"m", 1, retain=True)
    s1 = server.connected()
    s1.subscribe((t, sub_options(0, rh=1)))
    s1.message(t, b"m", retain=True)
    s1.subscribe((t, sub_options(1, rh=1)), codes=[1])      # it exists already
    server.nothing(pub, s1)
    s1.unsubscribe(t)
    s1.subscribe((t, sub_options(0, rh=1)))
    s1.message(t, b"m", retain=True)
    s2 = server.connected()
    s2.subscribe((t, sub_options(0, rh=2)))
    server.nothing(pub, s2)
    s2.subscribe((t, sub_options(0, rh=0)))
    s2.message(t, b"m", retain=True)


def test_retain_handling_1_across_session(server, t, clean, pub):
    """A session's subscription counts as existing after a reconnect."""
    clean(t)
    pub.publish(t, b"m", 1, retain=True)
    c = server.client(clean=False, properties={"session_expiry": 60})
    c.connect()
    c.subscribe((t, sub_options(0, rh=1)))
    c.message(t, b"m", retain=True)
    c.disconnect()
    c.connect(present=True)
    c.subscribe((t, sub_options(0, rh=1)))
    server.nothing(pub, c)


def test_retain_as_published(server, t, clean, pub):
    """MQTT-3.3.1-12, -13."""
    clean(t)
    a, b = server.connected(), server.connected()
    a.subscribe((t, sub_options(1, rap=True)))
    b.subscribe((t, sub_options(1, rap=False)))
    pub.publish(t, b"r", 1, retain=True)
    pub.publish(t, b"n", 1)
    a.message(t, b"r", retain=True)
    a.message(t, b"n", retain=False)
    b.message(t, b"r", retain=False)
    b.message(t, b"n", retain=False)


def test_retained_copy_is_flagged_without_rap(server, t, clean, pub):
    """3.3.1.3: what is sent because of a SUBSCRIBE carries RETAIN 1, whatever rap says."""
    clean(t)
    pub.publish(t, b"m", 1, retain=True)
    for rap in (False, True):
        c = server.connected()
        c.subscribe((t, sub_options(1, rap=rap)))
        c.message(t, b"m", retain=True)


def test_overlap_sends_for_each_filter(server, t, clean, pub):
    """3.8.4: each filter of the SUBSCRIBE looks for retained messages."""
    clean(t + "/a")
    pub.publish(t + "/a", b"m", 1, retain=True)
    sub = server.connected()
    sub.subscribe(t + "/a", t + "/+", qos=1)
    got = server.barrier(pub, sub)
    assert 1 <= len(got) <= 2 and all(p.payload == b"m" and p.retain for p in got)


def test_keeps_properties(server, t, clean, pub):
    clean(t)
    props = [("payload_format", 1), ("content_type", "text/plain"), ("response_topic", "r"),
             ("correlation_data", b"\1\0"), ("user", ("k", "1")), ("user", ("a", "2")),
             ("message_expiry", 500)]
    pub.publish(t, b"m", 1, retain=True, properties=props)
    sub = server.connected()
    sub.subscribe(t, properties={"subscription_id": 7})
    p = sub.message(t, b"m", retain=True)
    assert p.users == [("k", "1"), ("a", "2")]
    assert p.prop("content_type") == "text/plain" and p.prop("payload_format") == 1
    assert p.prop("response_topic") == "r" and p.prop("correlation_data") == b"\1\0"
    assert 490 <= p.prop("message_expiry") <= 500
    assert p.props("subscription_id") == [7]


def test_expired_is_not_sent(server, t, pub):
    """MQTT-3.3.2-5. Fresh looks until it is gone."""
    from harness import wait
    pub.publish(t, b"m", 1, retain=True, properties={"message_expiry": 1})
    sub = server.connected()
    sub.subscribe(t)
    p = sub.message(t, b"m", retain=True)
    assert p.prop("message_expiry") in (0, 1)

    def gone():
        look = server.connected()
        look.subscribe(t)
        return not server.barrier(pub, look)
    wait(gone, "the retained message to expire", step=0.2)


def test_retained_survives_its_publisher(server, t, clean, v):
    clean(t)
    p = server.connected(v=v)
    p.publish(t, b"m", 1, retain=True)
    p.disconnect()
    sub = server.connected(v=v)
    sub.subscribe(t)
    sub.message(t, b"m", retain=True)


def test_shared_subscription_gets_none(server, t, clean, pub):
    """4.8.2: no retained messages when a shared subscription is made."""
    clean(t)
    pub.publish(t, b"m", 1, retain=True)
    sub = server.connected()
    sub.subscribe(f"$share/g/{t}", qos=1)
    server.nothing(pub, sub)


def test_retained_then_live_order(server, t, clean, pub):
    """What is published after SUBACK comes after the retained message."""
    clean(t)
    pub.publish(t, b"old", 1, retain=True)
    sub = server.connected()
    sub.subscribe(t, qos=1)
    pub.publish(t, b"new", 1)
    assert [p.payload for p in sub.collect(2)] == [b"old", b"new"]


def test_retained_qos_is_kept(server, t, clean, pub):
    clean(t)
    pub.publish(t, b"m", 0, retain=True)
    live = server.connected()
    live.subscribe(t, qos=2)
    live.message(t, b"m", qos=0)
