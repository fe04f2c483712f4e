"""Shared subscriptions (4.8.2)."""
import pytest

import raw
from raw import PUBLISH, sub_options


def members(server, t, n, qos=1, group="g", **kw):
    out = []
    for _ in range(n):
        c = server.client(**kw)
        c.connect()
        c.subscribe(f"$share/{group}/{t}", qos=qos)
        out.append(c)
    return out


def gather(server, pub, clients):
    """What each client has got by now."""
    return [server.barrier(pub, c) for c in clients]


@pytest.mark.tsan
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_each_message_to_one_member(server, t, pub, qos):
    ms = members(server, t + "/#", 3, qos)
    n = 60
    for i in range(n):
        pub.publish(f"{t}/{i}", str(i), 1 if qos == 0 else qos)
    got = gather(server, pub, ms)
    assert sorted(int(p.payload) for g in got for p in g) == list(range(n))
    assert all(g for g in got), f"one member got nothing: {[len(g) for g in got]}"


def test_balance(server, t, pub):
    ms = members(server, t, 4)
    n = 200
    for i in range(n):
        pub.publish(t, str(i), 1)
    got = [len(g) for g in gather(server, pub, ms)]
    assert sum(got) == n
    assert min(got) >= n / 4 / 4, f"far from even: {got}"


def test_groups_are_independent(server, t, pub):
    a = members(server, t, 2, group="a")
    b = members(server, t, 2, group="b")
    plain = server.connected()
    plain.subscribe(t, qos=1)
    for i in range(20):
        pub.publish(t, str(i), 1)
    assert sum(map(len, gather(server, pub, a))) == 20
    assert sum(map(len, gather(server, pub, b))) == 20
    assert len(server.barrier(pub, plain)) == 20


def test_shared_and_plain_in_one_session(server, t, pub):
    """4.8.2: both subscriptions are served."""
    c = server.connected()
    c.subscribe(t, f"$share/g/{t}", qos=1)
    pub.publish(t, b"m", 1)
    assert len(server.barrier(pub, c)) == 2


def test_same_group_other_filter_is_another_subscription(server, t, pub):
    """4.8.2: share name and filter together identify it."""
    a, b = server.connected(), server.connected()
    a.subscribe(f"$share/g/{t}/a", qos=1)
    b.subscribe(f"$share/g/{t}/+", qos=1)
    pub.publish(t + "/a", b"m", 1)
    assert len(server.barrier(pub, a)) == len(server.barrier(pub, b)) == 1


def test_each_member_has_its_qos(server, t, pub):
    a, b = members(server, t, 1, 0) + members(server, t, 1, 2)
    for i in range(20):
        pub.publish(t, str(i), 2)
    ga, gb = gather(server, pub, [a, b])
    assert len(ga) + len(gb) == 20
    assert {p.qos for p in ga} <= {0} and {p.qos for p in gb} <= {2}


def test_member_leaves(server, t, pub):
    ms = members(server, t, 2)
    ms[0].unsubscribe(f"$share/g/{t}")
    for i in range(10):
        pub.publish(t, str(i), 1)
    got = gather(server, pub, ms)
    assert [len(g) for g in got] == [0, 10]


def test_unacknowledged_goes_to_another_at_session_end(server, t, pub):
    """4.8.2: when the member's session ends, its unacknowledged QoS 1 messages may go to others;
    ours do (nothing acked is lost)."""
    a, b = members(server, t, 2)
    n = 10
    for i in range(n):
        pub.publish(t, str(i), 1)
    # a holds some without acknowledging
    held = [a.expect(PUBLISH)]
    a.drop(rst=True)
    got = {int(p.payload) for p in b.until(
        lambda p, seen=set(): seen.add(p.payload) or len(seen) == n)}
    assert int(held[0].payload) in got and got == set(range(n))


def test_qos2_in_flight_stays_with_its_member(server, t, pub):
    """MQTT-4.8.2-5: what was being sent with QoS 2 goes to nobody else, even at session end."""
    a, b = members(server, t, 2, qos=2)
    n = 10
    for i in range(n):
        pub.publish(t, str(i), 2)
    got = server.barrier(pub, b)
    held = [a.expect(PUBLISH) for _ in range(n - len(got))]
    a.drop(rst=True)
    pub.publish(t, b"after", 2)
    got += b.until(lambda p: p.payload == b"after")
    assert not {p.payload for p in held} & {p.payload for p in got}


def test_no_member_online_queues_for_the_session(server, t, pub):
    """A persistent member that is away gets them when it is back."""
    c = server.client(clean=False, properties={"session_expiry": 60})
    c.connect()
    c.subscribe(f"$share/g/{t}", qos=1)
    c.disconnect()
    for i in range(10):
        pub.publish(t, str(i), 1)
    c.connect(present=True)
    assert sorted(int(p.payload) for p in c.collect(10)) == list(range(10))


@pytest.mark.lavva_only
def test_online_member_is_preferred(server, t, pub):
    """With a member online nothing waits for one that is away."""
    away = server.client(clean=False, properties={"session_expiry": 60})
    away.connect()
    away.subscribe(f"$share/g/{t}", qos=1)
    away.disconnect()
    here, = members(server, t, 1)
    for i in range(20):
        pub.publish(t, str(i), 1)
    assert sorted(int(p.payload) for p in here.collect(20)) == list(range(20))


def test_order_with_one_member(server, t, pub):
    c, = members(server, t, 1)
    for i in range(200):
        pub.publish(t, str(i), 1)
    assert [int(p.payload) for p in c.collect(200)] == list(range(200))


@pytest.mark.parametrize("flt", ["$share//a", "$share/a+/b", "$share/+/b", "$share/#/b",
                                 "$share/a#b/c", "$share/g", "$share/g/", "$share/", "$share/g/a#"])
def test_invalid_shared_filters(server, flt):
    """MQTT-4.8.2-1, -2, MQTT-4.7.3-1."""
    c = server.connected()
    c.send(raw.subscribe(1, [(flt, 0)]))
    try:
        p = c.recv()
    except raw.Closed:
        return
    if p.kind == raw.SUBACK:
        assert p.codes[0] in (0x8F, 0x9E), p
    else:
        assert p.kind == raw.DISCONNECT and p.rc in (0x81, 0x82, 0x8F)


def test_no_local_on_shared_is_an_error(server, t):
    """MQTT-3.8.3-4."""
    c = server.connected()
    c.send(raw.subscribe(1, [(f"$share/g/{t}", sub_options(1, no_local=True))]))
    c.closed({0x81, 0x82})


def test_share_names(server, t, pub):
    for name in ("a", "with space", "ü", "$", "g.1-2_3"):
        c = server.connected()
        c.subscribe(f"$share/{name}/{t}", qos=1)
        pub.publish(t, b"m", 1)
        c.message(t, b"m")
        c.unsubscribe(f"$share/{name}/{t}")
        c.unsubscribe(f"$share/{name}/{t}", codes=[0x11])


def test_shared_dollar_rule(server, pub):
    """MQTT-4.7.2-1 holds for the filter behind the share name."""
    name = server.uid("$d")
    c, exact = server.connected(), server.connected()
    c.subscribe("$share/g/#")
    exact.subscribe(f"$share/g/{name}/#")
    pub.publish(name + "/x", b"m", 1)
    exact.message(name + "/x", b"m")
    got = server.barrier(pub, c)
    assert not [p for p in got if p.topic.startswith("$")]


def test_shared_in_311(server, t, pub):
    """Our servers offer it to 3.1.1 clients too."""
    a, b = server.connected(v=4), server.connected(v=4)
    for c in (a, b):
        c.subscribe(f"$share/g/{t}", qos=1)
    for i in range(20):
        pub.publish(t, str(i), 1)
    assert sum(len(g) for g in gather(server, pub, [a, b])) == 20


def test_subscription_identifier(server, t, pub):
    c = server.connected()
    c.subscribe(f"$share/g/{t}", qos=1, properties={"subscription_id": 99})
    pub.publish(t, b"m", 1)
    assert c.message(t).props("subscription_id") == [99]


def test_slow_member_does_not_stop_the_group(server, t, pub):
    """A member whose Receive Maximum is used up is passed over."""
    slow = server.client(properties={"receive_maximum": 1})
    slow.connect()
    slow.subscribe(f"$share/g/{t}", qos=1)
    fast, = members(server, t, 1)
    n = 50
    for i in range(n):
        pub.publish(t, str(i), 1)
    held = slow.expect(PUBLISH)
    got = fast.collect(n // 2)
    slow.ack(held)
    assert len(got) == n // 2
