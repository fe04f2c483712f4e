"""Topic names and filters (4.7), and that any legal topic works (design: topics and channels)."""
import pytest

import raw

MATCH = [   # filter, topic (below a prefix), matches: 4.7.1.2, 4.7.1.3 and their edges
    ("a", "a", True), ("a", "A", False), ("a", "b", False), ("a", "a/b", False),
    ("+", "a", True), ("+", "", True), ("+", "a/b", False), ("+", "a/", False),
    ("#", "a", True), ("#", "a/b/c", True), ("#", "", True), ("#", "/", True),
    ("a/#", "a", True), ("a/#", "a/", True), ("a/#", "a/b/c/d", True), ("a/#", "ab", False),
    ("a/+", "a", False), ("a/+", "a/", True), ("a/+", "a/b", True), ("a/+", "a/b/c", False),
    ("+/+", "a/b", True), ("+/+", "/", True), ("+/+", "a", False), ("+/b", "a/b", True),
    ("+/b", "/b", True), ("a/+/c", "a/b/c", True), ("a/+/c", "a//c", True),
    ("a/+/c", "a/b/b/c", False), ("a/+/#", "a/b", True), ("a/+/#", "a", False),
    ("a/+/#", "a/b/c/d", True), ("+/+/#", "a/b", True), ("+/#", "a", True),
    ("a/", "a/", True), ("a/", "a", False), ("/a", "/a", True), ("/a", "a", False),
    ("a//b", "a//b", True), ("a//b", "a/b", False), ("//", "//", True), ("//", "/", False),
    ("a b/ c", "a b/ c", True), ("ü/☃/𝄞", "ü/☃/𝄞", True), ("ü/+/𝄞", "ü/☃/𝄞", True),
    ("$a/b", "$a/b", True), ("+/b", "$a/b", True), ("#", "$a", True),
    ("a/$b", "a/$b", True), ("a/+", "a/$b", True),
]


@pytest.mark.parametrize("flt,topic,want", MATCH)
def test_match(server, pub, t, flt, topic, want):
    sub = server.connected()
    sub.subscribe(f"{t}/{flt}")
    pub.publish(f"{t}/{topic}", b"m", 1)
    got = server.barrier(pub, sub)
    assert [p.topic for p in got] == ([f"{t}/{topic}"] if want else [])


@pytest.mark.parametrize("flt", [
    "a/#/b", "#/a", "a#", "a/#b", "##", "a/##", "+a", "a+", "a/+b/c", "a/b+", "++", "#+", "+#"])
def test_invalid_filters(server, v, flt):
    """MQTT-4.7.1-1, -2, -3: refused in SUBACK, or the connection ends."""
    c = server.connected(v=v)
    c.send(raw.subscribe(1, [(flt, 0)], v))
    try:
        p = c.recv()
    except raw.Closed:
        return
    if p.kind == raw.SUBACK:
        assert p.codes == [0x8F if v == 5 else 0x80]
        c.ping()
    else:
        assert p.kind == raw.DISCONNECT and p.rc in (0x81, 0x82, 0x8F)


def test_empty_filter(server, v):
    """MQTT-4.7.3-1."""
    for data in (raw.subscribe(1, [("", 0)], v), raw.unsubscribe(1, [""], v)):
        c = server.connected(v=v)
        c.send(data)
        try:
            p = c.recv()
            if p.kind in (raw.SUBACK, raw.UNSUBACK):
                assert p.codes in ([0x8F], [0x80], []), p
            else:
                assert p.kind == raw.DISCONNECT and p.rc in (0x81, 0x82, 0x8F)
        except raw.Closed:
            pass


def test_filter_with_bad_utf8(server, v):
    for flt in (b"a\x00b", b"\xc3\x28", b"\xed\xa0\x80", b"\xff", b"\xf8\x88\x80\x80\x80"):
        c = server.connected(v=v)
        c.send(raw.subscribe(1, [(flt, 0)], v))
        c.closed({0x81, 0x82, 0x8F})


@pytest.mark.parametrize("first", ["#", "+/+", "+/#", "+"])
def test_dollar_is_not_matched_by_first_wildcard(server, pub, first):
    """MQTT-4.7.2-1."""
    name = server.uid("$d")
    topic = name if first == "+" else name + "/x"
    sub, exact = server.connected(), server.connected()
    exact.subscribe(topic)
    sub.subscribe(first)
    pub.publish(topic, b"m", 1)
    exact.message(topic, b"m")
    marker = server.uid("mark") + ("/x" if first != "+" else "")
    pub.publish(marker, b"m", 1)
    got = sub.until(lambda p: p.topic == marker)
    assert not [p for p in got if p.topic.startswith("$")]


def test_dollar_topics_with_explicit_first_level(server, pub):
    name = server.uid("$d")
    sub = server.connected()
    sub.subscribe(name + "/#")
    for topic in (name, name + "/a", name + "/a/b"):
        pub.publish(topic, topic, 1)
        sub.message(topic, topic)


ANY_TOPIC = ["/", "//", "///", "/a", "a/", "a//", " ", " /x", "a b/c", "with.dot/k", "_", "_/x",
             "_private/x", "-/x", ".", "..", "ünï/k", "☃", "%2F/x", "c:/x", "q?x=1/y", "'\"/`",
             "A" * 64 + "/k", "A" * 65 + "/k", "a/" + "b/" * 20,
             "\ufeff/bom", "$", "$/x", "$SYSTEM/x", "$share", "$sys/x"]


@pytest.mark.parametrize("topic", ANY_TOPIC, ids=ascii)
def test_any_legal_topic(server, v, topic):
    """The original topic is rebuilt exactly, whichever channel it lives in."""
    sub, pub = server.connected(v=v), server.connected(v=v)
    sub.subscribe(topic, qos=1)
    pub.publish(topic, b"m", 1, retain=True)
    sub.message(topic, b"m", retain=False)
    late = server.connected(v=v)
    late.subscribe(topic, qos=1)
    late.message(topic, b"m", retain=True)
    pub.publish(topic, b"", 1, retain=True)
    sub.message(topic, b"")
    late.message(topic, b"")


def test_no_key_and_empty_key_differ(server, pub):
    """Topic `c` has no key, `c/` the empty one."""
    c = server.uid("chan")
    a, b, both = server.connected(), server.connected(), server.connected()
    a.subscribe(c)
    b.subscribe(c + "/")
    both.subscribe(c + "/#")
    pub.publish(c, b"none", 1, retain=True)
    pub.publish(c + "/", b"empty", 1, retain=True)
    a.message(c, b"none")
    b.message(c + "/", b"empty")
    both.message(c, b"none")
    both.message(c + "/", b"empty")
    server.nothing(pub, a)
    server.nothing(pub, b)
    late = server.connected()
    late.subscribe(c, c + "/")
    got = {p.topic: p.payload for p in late.collect(2)}
    assert got == {c: b"none", c + "/": b"empty"}
    pub.publish(c, b"", 1, retain=True)
    pub.publish(c + "/", b"", 1, retain=True)


def test_wildcard_across_channels(server, pub):
    """`+/temp` and `#` see every channel, the default channel `_` too."""
    k = server.uid("temp")
    sub = server.connected()
    sub.subscribe("+/" + k)
    topics = [f"{server.uid('w')}/{k}", f"/{k}", f"not usable/{k}", f"_x/{k}", f"ü/{k}"]
    for topic in topics:
        pub.publish(topic, b"m", 1)
    got = sub.collect(len(topics))
    assert sorted(p.topic for p in got) == sorted(topics)


def test_hash_alone(server, pub):
    sub = server.connected()
    sub.subscribe("#", qos=1)
    topics = [server.uid("h") + s for s in ("", "/", "/a", "/a/b")] + ["/" + server.uid("h")]
    for topic in topics:
        pub.publish(topic, b"m", 1)
    got = sub.until(lambda p: p.topic == topics[-1])
    assert [p.topic for p in got if p.topic in topics] == topics


def test_subscription_before_the_channel_exists(server, pub):
    c = server.uid("later")
    sub = server.connected()
    sub.subscribe(c + "/+", "+/" + c)
    pub.publish(c + "/a", b"m", 1)
    sub.message(c + "/a", b"m")
    pub.publish(f"x/{c}", b"m", 1)
    sub.message(f"x/{c}", b"m")


@pytest.mark.parametrize("length", [32767, 65535])
def test_longest_topics(server, length):
    """1.5.4: a string has up to 65,535 bytes. The whole app works, or it is refused with a reason
    and the connection goes on."""
    c = server.connected()
    base = server.uid("long") + "/"
    topic = base + "x" * (length - len(base))
    pid = c.pid()
    c.send(raw.subscribe(pid, [(topic, 0)]))
    p = c.expect(raw.SUBACK, pid=pid)
    assert p.codes == [0], p
    c.send(raw.publish(topic, b"m", 1, pid=1))
    kinds = [c.recv(), c.recv()]
    ack = next(p for p in kinds if p.kind == raw.PUBACK)
    msg = next(p for p in kinds if p.kind == raw.PUBLISH)
    assert ack.rc == 0 and msg.topic == topic and msg.payload == b"m"


def test_deep_topics(server):
    """Many levels: within the limit they work, beyond it they are refused with a reason."""
    c = server.connected()
    for levels in (2, 10, 50, 100, 128, 200):
        topic = "e2e/" + server.uid("d") + "/x" * (levels - 2)
        c.send(raw.subscribe(1, [(topic, 0)]))
        code = c.expect(raw.SUBACK).codes[0]
        if levels <= 100:
            assert code == 0, f"{levels} levels: 0x{code:02x}"
        if code:
            assert code in (0x8F, 0x97)
            continue
        c.publish(topic, b"m")
        c.message(topic, b"m")
