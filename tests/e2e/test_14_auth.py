"""Who may do what: keys, rights, anonymous clients, limits (design: keys, topics and channels)."""
import pytest

import raw
from harness import wait
from lvconf import ALL, app, doc, key, key_text

pytestmark = pytest.mark.lavva_only


def login(server, ident, v=5, user="dev", **kw):
    c = server.client(v=v, user=user, password=key_text(ident), **kw)
    c.connect()
    return c


@pytest.fixture
def rights(own_server):
    """keys: full, out (publishes out/#), into (reads in/+/x and in/y), none."""
    keys = [key("full", ALL, ALL, sys=True), key("out", ["out/#"], []),
            key("into", [], ["in/+/x", "in/y"]), key("none", [], []),
            key("both", ["a/#"], ["a/#"])]
    other = app("other", [key("theirs", ALL, ALL)])
    return own_server(config=doc([app(keys=keys), other])).start()


@pytest.mark.tsan
@pytest.mark.parametrize("user,password", [
    ("APP", "lv_no_such0000000000000000000"), ("APP", ""), ("APP", "wrong"), ("APP", None),
    ("nobody", "KEY"), ("", "KEY"), (None, None), ("APP", "KEYx"), ("APP", "KEY\0"),
    ("APP", " KEY")])
def test_wrong_credentials(server, v, user, password):
    """5.0: 0x86 (or 0x87 without credentials); 3.1.1: 4 or 5."""
    user = user and user.replace("APP", server.user)
    password = password and password.replace("KEY", server.key)
    c = server.client(v=v, user=user, password=password).open()
    c.send(c.connect_bytes())
    p = c.expect(raw.CONNACK)
    assert p.rc in ({0x86, 0x87} if v == 5 else {4, 5}), p
    if password and user:
        assert p.rc in (0x86, 4, 5)
    c.closed()


def test_key_of_another_app(rights):
    c = rights.client(user="dev", password=key_text("theirs"))
    c.connect(rc=0x86)
    login(rights, "theirs", user="other").ping()


def test_apps_do_not_see_each_other(rights):
    a, b = login(rights, "full"), login(rights, "theirs", user="other")
    a.subscribe("#")
    b.subscribe("#")
    b.publish("x/secret", b"theirs", 1)
    a.publish("x/mine", b"mine", 1)
    a.message("x/mine", b"mine")
    b.message("x/secret", b"theirs")
    # the same client id in two apps is two clients
    c, d = (rights.client("same", user=u, password=key_text(k))
            for u, k in (("dev", "full"), ("other", "theirs")))
    c.connect()
    d.connect()
    c.ping()
    d.ping()


def test_publish_rights(rights):
    c, sub = login(rights, "out"), login(rights, "full")
    sub.subscribe("+/t", qos=1)
    c.publish("in/t", b"no", 1, rc=0x87)
    c.publish("in/t", b"no", 2, rc=0x87)
    c.publish("out/t", b"yes", 1)
    c.publish("out/t", b"yes", 2)
    assert [p.topic for p in sub.collect(2)] == ["out/t"] * 2
    c.send(raw.publish("in/t", b"no"))      # QoS 0 has no answer; it is dropped or ends it
    try:
        c.ping()
    except raw.Closed:
        pass
    except AssertionError:
        assert c.seen[-1].kind == raw.DISCONNECT and c.seen[-1].rc == 0x87
    full = login(rights, "full")
    rights.nothing(full, sub)


def test_publish_rights_311(rights):
    """3.1.1 has no negative ack: the connection ends."""
    c = login(rights, "out", v=4)
    c.publish("out/t", b"yes", 1)
    c.send(raw.publish("in/t", b"no", 1, pid=7, v=4))
    c.closed()


def test_subscribe_rights(rights, v):
    """A filter that can match nothing the key may read is refused; else it is granted and checked
    at delivery."""
    no = 0x87 if v == 5 else 0x80
    c, pub = login(rights, "into", v=v), login(rights, "full")
    c.subscribe(("out/#", 1), ("in/a/z", 1), ("in/a/b/c", 0), ("#", 1), ("in/+/+", 1), ("in/y", 2),
                codes=[no, no, no, 1, 1, 2])
    for topic in ("out/t", "in/a/z", "in/a", "in/a/x", "in/y", "in/y/z", "other"):
        pub.publish(topic, topic, 1, retain=True)
    topics = [p.topic for p in c.collect(2)]
    assert topics == ["in/a/x", "in/y"]
    pub.publish("in/y", b"end", 1)
    assert c.message().payload == b"end"
    # the same at the retained look-up
    d = login(rights, "into", v=v)
    d.subscribe("#", qos=1)
    assert sorted(p.topic for p in d.collect(2)) == ["in/a/x", "in/y"]
    pub.publish("in/y", b"end", 1)
    assert d.message().payload == b"end"


def test_shared_subscription_rights(rights):
    c = login(rights, "into")
    c.subscribe("$share/g/out/#", "$share/g/in/+/x", codes=[0x87, 0])


def test_key_without_rights(rights, v):
    c = login(rights, "none", v=v)
    c.subscribe("#", "a", codes=[0x87 if v == 5 else 0x80] * 2)
    c.send(raw.publish("a", b"x", 1, pid=1, v=v))
    if v == 5:
        assert c.expect(raw.PUBACK).rc == 0x87
    else:
        c.closed()


def test_will_needs_rights(rights):
    """A will to a forbidden topic is refused at CONNECT, or never published."""
    sub = login(rights, "full")
    sub.subscribe("in/w", qos=1)
    c = rights.client(user="dev", password=key_text("out"), will=raw.Will("in/w", b"x", 1)).open()
    c.send(c.connect_bytes())
    p = c.expect(raw.CONNACK)
    assert p.rc in (0, 0x87)
    c.drop()
    full = login(rights, "full")
    rights.nothing(full, sub)


def test_sys_rights(rights):
    login(rights, "full").subscribe("$SYS/#")
    for ident in ("out", "into", "both"):
        login(rights, ident).subscribe("$SYS/#", codes=[0x87])
    login(rights, "theirs", user="other").subscribe("$SYS/#", codes=[0x87])


def test_sys_right_taken_back(own_server):
    """SIGHUP without `sys`: what was subscribed to in $SYS stays silent."""
    topic = "$SYS/broker/version"
    keys = [key("full", ALL, ALL, sys=True), key("was", ALL, ALL, sys=True)]
    s = own_server(config=doc([app(keys=keys)], server={"threads": 1})).start()
    was, still = login(s, "was"), login(s, "full")
    for c in (was, still):
        c.subscribe(topic)
        assert c.message(topic).retain
    s.reload(doc([app(keys=[keys[0], key("was", ALL, ALL)])], server={"threads": 1}))
    wait(lambda: "reloaded" in s.log(), "the reload")
    was.subscribe("$SYS/#", codes=[0x87])
    # One loop tells all of its clients in one go, each ten seconds.
    assert not still.message(topic, timeout=15).retain
    was.ping()


def test_dev_key_reads_sys(server):
    c = server.connected()
    c.subscribe("$SYS/#")
    assert c.message().topic.startswith("$SYS/")


def test_sys_publish_is_acked_and_dropped(server, v):
    sub, c = server.connected(), server.connected(v=v)
    topic = "$SYS/" + server.uid("mine")
    sub.subscribe(topic)
    c.publish(topic, b"x", 1, retain=True)
    c.publish(topic, b"x", 2)
    c.send(raw.publish(topic, b"x", v=v))
    c.ping()
    server.nothing(server.connected(), sub)


def test_revoked_key_ends_connections(rights):
    """SIGHUP without the key: its connections end with 0x87, the others stay."""
    c, full = login(rights, "out"), login(rights, "full")
    d = rights.config
    d["apps"][0]["keys"] = [k for k in d["apps"][0]["keys"] if k["id"] != "out"]
    rights.reload(d)
    c.closed({0x87, 0x98})
    full.ping()
    rights.client(user="dev", password=key_text("out")).connect(rc=0x86)


def test_undeclared_channels(own_server, v):
    """auto_channels off: 0x87 or 0x90, 3.1.1 disconnects; a subscription is granted and creates
    nothing; the default channel `_` is there."""
    conf = doc([app(auto_channels=False, channels=[{"name": "known"}])])
    s = own_server(config=conf).start()
    c = s.connected(v=v)
    c.subscribe("#", qos=1)
    c.publish("known/k", b"yes", 1)
    c.message("known/k", b"yes")
    c.subscribe("unknown/k")
    c.send(raw.publish("unknown/k", b"no", 1, pid=9, v=v))
    if v == 5:
        assert c.expect(raw.PUBACK, pid=9).rc in (0x87, 0x90)
        c.ping()
    else:
        c.closed()


def test_channel_limit(own_server):
    s = own_server(config=doc([app(limits={"channels": 5})])).start()
    c = s.connected()
    codes = []
    for i in range(10):
        c.send(raw.publish(f"chan{i}/k", b"x", 1, pid=i + 1))
        codes.append(c.expect(raw.PUBACK, pid=i + 1).rc)
    assert codes[:3] == [0, 0, 0] and codes[-1] == 0x97, codes
    c.publish("chan0/other", b"x", 1)


def test_subscription_limit(own_server):
    s = own_server(config=doc([app(limits={"subscriptions": 3})])).start()
    c = s.connected()
    c.subscribe("a", "b", "c", "d", codes=[0, 0, 0, 0x97])
    c.subscribe("a", codes=[0])             # replacing is not adding
    c.unsubscribe("a")
    c.subscribe("e", codes=[0])


def test_connection_limit(own_server, v):
    s = own_server(config=doc([app(limits={"connections": 3})])).start()
    cs = [s.connected() for _ in range(3)]
    c = s.client(v=v).open()
    c.send(c.connect_bytes())
    assert c.expect(raw.CONNACK).rc in ({0x9F, 0x97} if v == 5 else {3})
    c.closed()
    cs[0].disconnect()
    d = s.client(v=v)
    d.connect()


def test_session_limit(own_server):
    s = own_server(config=doc([app(limits={"sessions": 3})])).start()
    for i in range(3):
        s.client(f"s{i}", clean=False, properties={"session_expiry": 100}).connect()
    s.client("s9", clean=False, properties={"session_expiry": 100}).connect(rc=0x97)
    s.client("s1", clean=False, properties={"session_expiry": 100}).connect(present=True)


def test_session_expiry_limit(own_server):
    """3.2.2.3.2: the server tells what it grants instead."""
    s = own_server(config=doc([app(limits={"session_expiry": "1m"})])).start()
    p = s.client(properties={"session_expiry": 1000}).connect()
    assert p.prop("session_expiry") == 60
    p = s.client(properties={"session_expiry": 10}).connect()
    assert p.prop("session_expiry", 10) == 10
    p = s.client(properties={"session_expiry": 0xFFFFFFFF}).connect()
    assert p.prop("session_expiry") == 60


@pytest.mark.lavva_only
def test_retained_limit_in_one_burst(own_server):
    """What is on its way counts: no burst, on no connection, passes the limit."""
    s = own_server(config=doc([app(limits={"retained": 2})], server={"threads": 2})).start()
    cs = [s.connected() for _ in range(4)]
    for i, c in enumerate(cs):
        c.send(b"".join(raw.publish(f"b/{i}-{n}", b"x", 1, retain=True, pid=n + 1)
                        for n in range(5)))
    codes = [c.expect(raw.PUBACK).rc or 0 for c in cs for _ in range(5)]
    assert sorted(codes) == [0] * 2 + [0x97] * 18
    r = s.connected()
    r.subscribe("b/#", qos=1)
    assert len(s.barrier(r, r)) == 2



def test_retained_limit(own_server):
    s = own_server(config=doc([app(limits={"retained": 3})])).start()
    c = s.connected()
    for i in range(3):
        c.publish(f"r/{i}", b"x", 1, retain=True)
    c.publish("r/9", b"x", 1, retain=True, rc=0x97)
    c.publish("r/1", b"new", 1, retain=True)
    c.publish("r/1", b"", 1, retain=True)
    c.publish("r/9", b"x", 1, retain=True)


def test_configured_limits_are_told(own_server):
    s = own_server(config=doc([app(limits={"packet": "10KiB", "inflight": 7,
                                           "topic_aliases": 3})])).start()
    c = s.client()
    p = c.connect()
    assert p.prop("maximum_packet_size") == 10240
    assert p.prop("receive_maximum") == 7
    assert p.prop("topic_alias_maximum") == 3
    head = 1 + 2 + 2 + 1 + 1
    c.publish("t", b"x" * (10240 - head - 10), 0)
    c.ping()
    c.send(raw.publish("t", b"x" * 10240))
    c.closed(0x95)
    # what the server may have in flight towards a client is bounded by its own limit too
    sub, pub = s.connected(), s.connected()
    sub.subscribe("flow/#", qos=1)
    for i in range(20):
        pub.publish("flow/t", str(i), 1)
    for i in range(7):
        sub.expect(raw.PUBLISH, payload=str(i))
    sub.send(raw.PING)
    sub.expect(raw.PINGRESP)


def test_exceeding_receive_maximum(own_server, v):
    """0x93, on both versions the connection ends (4.9)."""
    s = own_server(config=doc([app(limits={"inflight": 5})])).start()
    c = s.connected(v=v)
    c.send(b"".join(raw.publish("t", b"x", 2, pid=i + 1, v=v) for i in range(30)))
    c.half_close_and_wait() if v == 4 else None
    if v == 5:
        while True:
            p = c.recv()
            if p.kind == raw.DISCONNECT:
                break
            assert p.kind == raw.PUBREC
        assert p.rc == 0x93


def test_server_keep_alive(own_server):
    """3.2.2.3.14: told, and then used."""
    s = own_server(config=doc(server={"keep_alive_max": "5s"})).start()
    for asked, told in ((0, 5), (100, 5), (5, None), (3, None)):
        p = s.client().connect(keepalive=asked)
        assert p.prop("server_keep_alive") == told, (asked, p)


def test_anonymous(own_server, v):
    """Without credentials, or with a user that names no app: the first app, everything but $SYS.
    A wrong key for a real app is refused."""
    conf = doc([app("first"), app("second", [key("two", ALL, ALL)])], server={"anonymous": True})
    s = own_server(config=conf).start()
    member = s.client(user="first", password=key_text("full"))
    member.connect()
    member.subscribe("any/#", qos=1)
    for user, password in ((None, None), ("stranger", None), ("stranger", "whatever"), ("", "")):
        c = s.client(v=v, user=user, password=password)
        c.connect()
        c.subscribe(("any/t", 1), ("$SYS/#", 0), codes=[1, 0x87 if v == 5 else 0x80])
        c.publish("any/t", b"hi", 1)
        c.message("any/t", b"hi")
        member.message("any/t", b"hi")
        c.drop()
    for user, password in (("first", "wrong"), ("second", "wrong"), ("second", key_text("full")),
                           ("first", None)):
        c = s.client(v=v, user=user, password=password).open()
        c.send(c.connect_bytes())
        assert c.expect(raw.CONNACK).rc in (0x86, 0x87, 4, 5), (user, password)


def test_anonymous_option(own_server):
    s = own_server(args=["--anonymous"]).start()
    c = s.client(user=None, password=None)
    c.connect()
    c.subscribe("a/b")
    c.publish("a/b", b"x", 1)
    c.message("a/b", b"x")


def test_no_secret_in_logs(rights):
    c = rights.client(user="dev", password="lv_full_stolenstolenstolenstolen1")
    c.connect(rc=0x86)
    login(rights, "full").ping()
    rights.client(user="hunter2secretuser", password="hunter2secret").connect(rc=0x86)
    rights.stop()
    text = rights.log()
    for secret in (key_text("full"), key_text("full").split("_")[2], "stolenstolen",
                   "hunter2secret\""):
        assert secret not in text


def test_wrong_keys_are_counted(server):
    before = server.metrics()["lavva_auth_failures_total"]
    server.client(user=server.user, password="x").connect(rc=0x86)
    assert server.metrics()["lavva_auth_failures_total"] == before + 1


def test_rate_limit_pauses_reading(own_server):
    """Above messages_per_second reading pauses: nothing is refused, it takes as long as it must."""
    import time
    s = own_server(config=doc([app(limits={"messages_per_second": 100})])).start()
    c = s.connected()
    n = 250
    t0 = time.monotonic()
    c.send(b"".join(raw.publish("t", b"x", 1, pid=i + 1) for i in range(n)))
    for i in range(n):
        c.expect(raw.PUBACK, pid=i + 1)
    assert 0.8 <= time.monotonic() - t0 <= 12


def test_content_is_checked(own_server):
    """Channels that declare JSON or text refuse what is not (0x99)."""
    chans = [{"name": "j", "content": "json"}, {"name": "t", "content": "text"},
             {"name": "b", "content": "binary"}]
    s = own_server(config=doc([app(channels=chans)])).start()
    c = s.connected()
    for topic, body, rc in (("j/a", b'{"a": [1, 2.5, "x"]}', 0), ("j/a", b"{a}", 0x99),
                            ("j/a", b'"\\ud800"', 0x99), ("t/a", b"plain", 0),
                            ("t/a", b"\xff", 0x99), ("b/a", b"\xff\0", 0)):
        c.publish(topic, body, 1, rc=rc)
