"""CONNECT and CONNACK: 3.1, 3.2 of MQTT 5.0; 3.1.1: 3.1, 3.2."""
import pytest

import raw
from raw import CONNACK, DISCONNECT


def refuse(server, data, v, rc5, rc3=None):
    """Sends bytes as the first packet: either CONNACK with the code, or the connection just ends
    (always allowed before a CONNACK)."""
    c = server.client(v=v).open().send(data)
    try:
        p = c.recv()
    except raw.Closed:
        return c
    want = rc5 if v == 5 else rc3
    if p.kind == CONNACK:
        assert want is not None and p.rc in want, f"{p}, expected {want}"
    else:
        assert p.kind == DISCONNECT and v == 5, p
        assert p.rc >= 0x80
    c.closed()
    return c


@pytest.mark.tsan
def test_accepts(server, v):
    c = server.client(v=v)
    p = c.connect(present=False)
    assert p.rc == 0
    c.ping()
    c.disconnect()


def test_connack_5_limits_are_sane(server):
    p = server.client().connect()
    assert p.prop("receive_maximum", 65535) > 0
    assert p.prop("maximum_packet_size", 1) > 0
    assert p.prop("maximum_qos") is None            # we do all of QoS 0 to 2
    assert p.prop("retain_available", 1) == 1
    assert p.prop("wildcard_available", 1) == 1
    assert p.prop("subscription_id_available", 1) == 1
    assert p.prop("shared_available", 1) == 1
    assert p.prop("auth_method") is None


@pytest.mark.parametrize("name", [b"", b"mqtt", b"MQTX", b"MQTTX", b"MQIsdp", b"\xff\xff"])
def test_bad_protocol_name(server, v, name):
    c = server.client(v=v)
    refuse(server, raw.connect(c.client_id, v, name=name), v, {0x01, 0x81, 0x82, 0x84}, {1})


@pytest.mark.parametrize("level", [0, 1, 2, 3, 6, 7, 255])
def test_unsupported_protocol_level(server, level):
    """3.1.1: 3.1.2.2 wants CONNACK 0x01; 5.0: 3.1.2.2 may answer 0x84."""
    c = server.client(v=4).open()
    c.send(raw.connect(c.client_id, 4, level=level))
    try:
        p = c.recv()
        assert p.kind == CONNACK and p.rc in (1, 0x84), p
    except (raw.Closed, raw.ProtocolError):
        return      # a 5.0-shaped CONNACK does not parse as 3.1.1
    c.closed()


def test_311_unacceptable_level_gets_return_code_1(server):
    c = server.client(v=4).open()
    c.send(raw.connect(c.client_id, 4, level=6))
    data = c.sock.recv(64)
    assert data[:1] == b"\x20" and data[3] in (1, 0x84), data.hex()


@pytest.mark.parametrize("flags,why", [
    (0x03, "reserved bit"), (0x02 | 0x08, "will QoS without will"),
    (0x02 | 0x20, "will retain without will"), (0x02 | 0x04 | 0x18, "will QoS 3")])
def test_reserved_and_inconsistent_flags(server, v, flags, why):
    """MQTT-3.1.2-3, -11, -12, -13, -15."""
    will = raw.Will("w", b"x") if flags & 4 else None
    refuse(server, raw.connect("flags", v, will=will, flags=flags), v, {0x81, 0x82}, set())


def test_311_password_without_user(server):
    """3.1.1: MQTT-3.1.2-22."""
    refuse(server, raw.connect("nouser", 4, password="x", flags=0x42), 4, None, {4, 5})


def test_user_flag_without_user(server, v):
    refuse(server, raw.connect("short", v, flags=0x82), v, {0x81, 0x82}, set())


def test_first_packet_must_be_connect(server, v):
    """MQTT-3.1.0-1."""
    for data in (raw.PING, raw.publish("a", b"x", v=v), raw.subscribe(1, [("a", 0)], v),
                 raw.disconnect(), raw.ack(raw.PUBACK, 1)):
        server.client(v=v).open().send(data).closed()


def test_second_connect(server, v):
    """MQTT-3.1.0-2."""
    c = server.connected(v=v)
    c.send(c.connect_bytes())
    c.closed(0x82)


def test_connect_with_header_flags(server, v):
    """2.1.3: reserved flags of the fixed header."""
    c = server.client(v=v)
    data = bytearray(c.connect_bytes())
    data[0] |= 1
    c.open().send(bytes(data))
    try:
        p = c.recv()
        assert p.kind == CONNACK and p.rc in (0x81, 0x82), p
        c.closed()
    except raw.Closed:
        pass


def test_empty_client_id_is_assigned(server):
    """MQTT-3.1.3-6, MQTT-3.2.2-16: unique each time, told in CONNACK."""
    a, b = server.client(""), server.client("")
    ids = [c.connect().prop("assigned_client_id") for c in (a, b)]
    assert all(ids) and ids[0] != ids[1]
    # the id is usable: coming back with it takes the session over
    c = server.client(ids[0])
    c.connect()
    a.closed(0x8E)


def test_given_client_id_is_not_assigned(server):
    assert server.client().connect().prop("assigned_client_id") is None


def test_311_empty_client_id(server):
    """3.1.1: MQTT-3.1.3-7, -8: only with clean session, else return code 2."""
    server.client("", v=4).connect()
    c = server.client("", v=4)
    c.connect(rc=2, clean=False)
    c.closed()


def test_5_empty_client_id_without_clean_start(server):
    """5.0 allows it: a new id cannot have a session."""
    p = server.client("").connect(clean=False, present=False)
    assert p.prop("assigned_client_id")


@pytest.mark.parametrize("client_id", [
    "0123456789abcdefghijklmnopqrstuvwxyz", "with space", "/", "a/b+c#", "ünïcödé-☃-𝄞", "$x"])
def test_client_ids(server, v, client_id):
    """MQTT-3.1.3-5 asks for 23 letters and digits; we take any UTF-8 string."""
    a = server.connected(client_id, v=v)
    a.ping()
    a.disconnect()


def test_long_client_id(server, v):
    c = server.client("x" * 256, v=v)
    c.connect()
    c.ping()


@pytest.mark.parametrize("client_id,ok", [(b"a\x00b", False), (b"\xc3\x28", False),
                                          (b"\xed\xa0\x80", False), (b"\xf4\x90\x80\x80", False)])
def test_client_id_bad_utf8(server, v, client_id, ok):
    refuse(server, raw.connect(client_id, v, user=server.user, password=server.key), v,
           {0x81, 0x85}, {2})


def test_properties_twice_or_foreign(server):
    """3.1.2.11: each of them once; only those of CONNECT."""
    bad = [[("session_expiry", 1), ("session_expiry", 1)],
           [("receive_maximum", 1), ("receive_maximum", 1)],
           [("maximum_packet_size", 99), ("maximum_packet_size", 99)],
           [("topic_alias_maximum", 1), ("topic_alias_maximum", 1)],
           [("request_problem_info", 1), ("request_problem_info", 1)],
           [("request_response_info", 1), ("request_response_info", 1)],
           [("topic_alias", 1)], [("server_keep_alive", 1)], [("subscription_id", 1)],
           [("will_delay", 1)], [("reason_string", "x")], [("assigned_client_id", "x")],
           [("maximum_qos", 1)]]
    for p in bad:
        c = server.client()
        refuse(server, c.connect_bytes(properties=p), 5, {0x81, 0x82})


@pytest.mark.parametrize("p", [
    {"receive_maximum": 0}, {"maximum_packet_size": 0}, {"request_problem_info": 2},
    {"request_response_info": 2}, {"auth_data": b"x"}])
def test_properties_out_of_range(server, p):
    c = server.client()
    refuse(server, c.connect_bytes(properties=p), 5, {0x81, 0x82})


def test_user_properties_are_taken(server):
    server.client().connect(properties=[("user", ("a", "1")), ("user", ("a", "1")),
                                        ("user", ("", ""))])


@pytest.mark.parametrize("tail", [b"\x7f\x00", b"\x00\x00", b"\x04\x00", b"\x25\x01"])
def test_unknown_property_identifier(server, tail):
    body = raw.string("MQTT") + b"\x05\x02" + raw.u16(60) + raw.varint(len(tail)) + tail
    refuse(server, raw.packet(raw.CONNECT, 0, body + raw.string("x")), 5, {0x81, 0x82})


def test_truncated_connect_bodies(server, v):
    """Each prefix of a CONNECT, framed as if it were whole, is malformed."""
    c = server.client(v=v)
    whole = c.connect_bytes(will=raw.Will("w/t", b"payload", 1))
    body = whole[1 + len(raw.varint(len(whole) - 2)):]
    for n in range(len(body)):
        refuse(server, raw.packet(raw.CONNECT, 0, body[:n]), v, {0x81, 0x82, 0x84}, {1, 2, 4, 5})
    assert server.alive()


def test_connect_with_trailing_bytes(server, v):
    c = server.client(v=v)
    data = c.connect_bytes()
    body = data[2 if data[1] < 128 else 3:]
    refuse(server, raw.packet(raw.CONNECT, 0, body + b"\0"), v, {0x81, 0x82}, set())


def test_packets_right_behind_connect(server, v):
    """3.1.4: a client need not wait for CONNACK."""
    c = server.client(v=v).open()
    topic = "e2e/" + c.client_id
    c.send(c.connect_bytes() + raw.subscribe(1, [(topic, 0)], v)
           + raw.publish(topic, b"early", 1, pid=2, v=v) + raw.PING)
    c.expect(CONNACK, rc=0)
    kinds = sorted(c.recv().kind for _ in range(4))
    assert kinds == sorted([raw.SUBACK, raw.PUBACK, raw.PUBLISH, raw.PINGRESP])


def test_connect_byte_by_byte(server, v):
    c = server.client(v=v).open()
    for b in c.connect_bytes():
        c.send(bytes([b]))
    c.expect(CONNACK, rc=0)
    for b in raw.PING:
        c.send(bytes([b]))
    c.expect(raw.PINGRESP)


def test_auth_method_is_refused(server):
    """4.12: a method we do not support is answered 0x8C."""
    c = server.client()
    c.connect(rc=0x8C, properties={"auth_method": "SCRAM-SHA-1", "auth_data": b"x"})
    c.closed()


def test_auth_packet_is_refused(server):
    c = server.connected()
    c.send(raw.packet(raw.AUTH, 0, b"\x19" + raw.props({"auth_method": "x"})))
    c.closed(0x8C)


def test_request_problem_information_0(server, t):
    """MQTT-3.1.2-29: then reason strings and user properties only on PUBLISH, CONNACK and
    DISCONNECT."""
    c = server.client()
    c.connect(properties={"request_problem_info": 0})
    c.send(raw.subscribe(1, [("bad/#/filter", 0)]))
    p = c.recv()
    if p.kind == raw.SUBACK:
        assert p.list == []


def test_takeover_between_versions(server):
    """MQTT-3.1.4-3: the same id on another connection ends the first."""
    cid = server.uid("take")
    for old_v, new_v in ((4, 5), (5, 4), (5, 5), (4, 4)):
        old = server.connected(cid, v=old_v)
        new = server.connected(cid, v=new_v)
        old.closed(0x8E)
        new.ping()
        new.disconnect()


def test_disconnect_ends_the_connection(server, v):
    """MQTT-3.14.4-1, -2."""
    c = server.connected(v=v)
    c.send(raw.disconnect())
    c.closed()


def test_after_disconnect_nothing_is_processed(server, v, t):
    sub = server.connected()
    sub.subscribe(t + "/#")
    c = server.connected(v=v)
    c.send(raw.disconnect() + raw.publish(t + "/late", b"x", v=v))
    c.closed()
    pub = server.connected()
    server.nothing(pub, sub)


def test_disconnect_with_wrong_flags(server, v):
    c = server.connected(v=v)
    c.send(b"\xe1\x00")
    c.closed({0x81, 0x82})


def test_server_only_packets_from_client(server, v):
    """A client may send neither CONNACK, SUBACK, UNSUBACK nor PINGRESP."""
    for data in (b"\x20\x02\0\0", b"\x90\x03\0\1\0", b"\xb0\x02\0\1", b"\xd0\0", b"\x00\x00"):
        c = server.connected(v=v)
        c.send(data)
        c.closed({0x81, 0x82})


def test_auth_in_311_is_malformed(server):
    c = server.connected(v=4)
    c.send(b"\xf0\x00")
    c.closed()
