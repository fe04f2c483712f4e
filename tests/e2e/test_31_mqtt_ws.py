"""MQTT over WebSocket at /mqtt (MQTT 5.0 §6): frames and packets need not agree, binary only,
subprotocol `mqtt`; what a client may not do; origins; paho as the client that people use."""
import os
import socket
import struct
import threading

import paho.mqtt.client as paho
import pytest

import raw
from harness import DEADLINE, wait
from lvconf import ALL, app, doc, key, key_text
from test_22_ledger import balanced
from ws import BINARY, CLOSE, CONT, PING, PONG, TEXT, WS, Refused, Stream, close_payload, frame

pytestmark = pytest.mark.lavva_only


def over_ws(server, v=5, cut=None, client_id=None, **kw):
    """A raw client whose bytes travel in binary frames of `cut` bytes each."""
    c = server.client(client_id, v=v, **kw)
    c.sock = Stream(server.http, cut=cut)
    return c


@pytest.mark.parametrize("cut", [None, 1, 7])
def test_packets_and_frames_need_not_agree(server, v, t, cut):
    """[MQTT-6.0.0-2]: a frame may hold parts of packets, or several."""
    c = over_ws(server, v, cut)
    c.connect()
    c.subscribe(t + "/#", qos=2)
    c.send(b"".join(raw.publish(f"{t}/{i}", b"m%d" % i, 0, v=v) for i in range(20)))
    assert [(p.topic, p.payload) for p in c.collect(20)] == [
        (f"{t}/{i}", b"m%d" % i) for i in range(20)]
    for qos in (0, 1, 2):
        for size in (0, 1, 120, 126, 3000, 70000, 300000 if cut != 1 else 5000):
            big = os.urandom(size)
            c.send(raw.publish(t + "/big", big, qos, pid=c.pid() if qos else None, v=v))
            got = None
            want = {0: 1, 1: 2, 2: 3}[qos]
            while want:
                p = c.recv()
                if p.kind == raw.PUBLISH:
                    got = c.ack(p) if p.qos < 2 else p
                    if p.qos == 2:
                        c.send(raw.ack(raw.PUBREC, p.pid))
                elif p.kind == raw.PUBREC:
                    c.send(raw.ack(raw.PUBREL, p.pid))
                elif p.kind == raw.PUBREL:
                    c.send(raw.ack(raw.PUBCOMP, p.pid))
                    continue
                elif p.kind == raw.PUBCOMP and qos < 2:
                    raise AssertionError(p)
                want -= p.kind in (raw.PUBLISH, raw.PUBACK, raw.PUBREC, raw.PUBCOMP)
            assert got.payload == big
    c.ping()
    c.disconnect()


def test_many_packets_leave_in_few_frames(server, t):
    c = over_ws(server)
    c.connect()
    c.subscribe(t)
    pub = server.connected()
    pub.send(b"".join(raw.publish(t, b"x" * 20, 0, v=5) for i in range(1000)))
    before = c.sock.frames
    assert len(c.collect(1000)) == 1000
    assert c.sock.frames - before < 500


def test_to_and_from_tcp(server, v, t):
    ws, tcp = over_ws(server, v), server.connected(v=v)
    ws.connect()
    ws.subscribe(t + "/tcp", qos=1)
    tcp.subscribe(t + "/ws", qos=1)
    ws.publish(t + "/ws", b"from ws", 1)
    tcp.message(t + "/ws", b"from ws")
    tcp.publish(t + "/tcp", b"from tcp", 1)
    ws.message(t + "/tcp", b"from tcp")


def test_fragments_pings_and_one_endless_message(server, t):
    """All of a connection in one message of many fragments, with pings and empty ones between."""
    c = server.client()
    ws = WS(server.http, "/mqtt", protocols=["mqtt"])
    data = c.connect_bytes() + raw.publish(t, b"x", 1, pid=1, v=5)
    ws.send_frame(BINARY, data[:3], fin=False)
    ws.send_frame(CONT, b"", fin=False)
    ws.send_frame(PING, b"are you there")
    ws.expect(PONG, b"are you there")
    for b in data[3:]:
        ws.send_frame(CONT, bytes([b]), fin=False)
    out = b""
    while out[:1] != b"\x20" or len(out) < 2 + out[1] + 4:
        out += ws.expect(BINARY)
    assert out[2 + out[1]] >> 4 == raw.PUBACK
    ws.send_frame(CONT, raw.disconnect(0))
    ws.closed((1000, 1005))


@pytest.mark.parametrize("protocols,status", [([], 400), (["mqttv3.1"], 400), (["MQTT"], 400)])
def test_subprotocol(server, protocols, status):
    """[MQTT-6.0.0-3]: the client must offer mqtt, [-4]: and the server must choose it."""
    with pytest.raises(Refused) as e:
        WS(server.http, "/mqtt", protocols=protocols)
    assert e.value.status == status
    assert WS(server.http, "/mqtt", protocols=["x", "mqtt"]).head["sec-websocket-protocol"] == "mqtt"


def test_not_a_websocket(server):
    c = socket.create_connection(server.http, timeout=DEADLINE)
    c.sendall(b"GET /mqtt HTTP/1.1\r\nHost: x\r\n\r\n")
    head = c.recv(4096).decode().lower()
    assert head.startswith("http/1.1 426") and "upgrade: websocket" in head


@pytest.mark.parametrize("frames,codes", [
    ([frame(TEXT, b"\x10")], 1003),                                     # [MQTT-6.0.0-1]
    ([frame(BINARY, b"\x10", rsv=0x40)], 1002),
    ([frame(BINARY, b"\x10", mask=None)], 1002),
    ([frame(CLOSE, close_payload(1000))], 1000),
    ([frame(CLOSE, close_payload(1005))], 1002),
], ids=["text", "rsv1", "unmasked", "close", "close 1005"])
@pytest.mark.parametrize("connected", [False, True])
def test_broken_frames(server, frames, codes, connected):
    c = server.client()
    ws = WS(server.http, "/mqtt", protocols=["mqtt"])
    if connected:
        ws.send_frame(BINARY, c.connect_bytes())
        ws.expect(BINARY)
    for f in frames:
        ws.send(f)
    ws.closed(codes)


def test_broken_packets(server):
    """MQTT says why first (5.0), then WebSocket closes."""
    c = over_ws(server)
    c.connect()
    c.send(b"\xf1\x00")                 # AUTH with wrong flags
    assert c.closed(0x81).rc == 0x81
    c = over_ws(server)
    c.send(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(raw.Closed):
        c.recv()


def test_no_compression(server):
    ws = WS(server.http, "/mqtt", protocols=["mqtt"],
            headers=["Sec-WebSocket-Extensions: permessage-deflate"])
    assert "sec-websocket-extensions" not in ws.head


def test_client_that_vanishes_leaves_its_will(server, t):
    w = server.connected()
    w.subscribe(t + "/will", qos=1)
    for how in ("reset", "close frame"):
        c = over_ws(server)
        c.connect(will=raw.Will(t + "/will", how.encode(), qos=1))
        if how == "reset":
            c.sock.ws.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            c.sock.close()
        else:
            c.sock.ws.send_frame(CLOSE, close_payload(1001))
        w.message(t + "/will", how.encode())
    c = over_ws(server)
    c.connect(will=raw.Will(t + "/will", b"never", qos=1))
    c.disconnect()
    pub = server.connected()
    assert server.barrier(pub, w) == []


def test_takeover_and_session(server, t):
    """A session moves between TCP and WebSocket."""
    cid = server.uid("move")
    a = server.connected(cid, properties=[("session_expiry", 100)], clean=True)
    a.subscribe(t, qos=1)
    b = over_ws(server, client_id=cid, properties=[("session_expiry", 100)], clean=False)
    b.connect(present=True)
    assert a.closed(0x8E).rc == 0x8E
    pub = server.connected()
    pub.publish(t, b"to ws", 1)
    b.message(t, b"to ws")
    b.sock.close()
    pub.publish(t, b"to tcp", 1)
    c = server.connected(cid, properties=[("session_expiry", 100)], clean=False)
    c.message(t, b"to tcp")


def test_origins(own_server):
    one = "https://one.example"
    s = own_server(config=doc([app("shut", keys=[key("shut", ALL, ALL)], origins=[one])])).start()

    def connect(origin):
        c = s.client(user="shut", password=key_text("shut"))
        c.sock = Stream(s.http, origin=origin)
        return c
    connect(None).connect()
    connect(one).connect()
    connect("https://two.example").connect(rc=0x87)
    connect("null").connect(rc=0x87)


def test_ends_and_ledger(own_server):
    s = own_server(config=doc([app()])).start()
    c, d = over_ws(s), over_ws(s)
    c.connect()
    d.connect()
    d.subscribe("x/#", qos=1)
    for i in range(50):
        c.publish("x/y", b"%d" % i, 1)
    assert len(d.collect(50)) == 50
    m = s.metrics(raw=True)
    assert m['lavva_gateway_in_messages_total{app="dev",protocol="ws"}'] == 50
    b = balanced(s)
    assert b.gw_out == 50
    s.signal(15)
    assert d.closed(0x8B).rc == 0x8B


class Paho:
    """paho over WebSocket, connected and subscribed."""

    def __init__(self, server, topic, v5=True, tls=False, user=None):
        self.got, self.ready, self.gone = [], threading.Event(), threading.Event()
        self.c = paho.Client(server.uid("paho"), transport="websockets",
                             protocol=paho.MQTTv5 if v5 else paho.MQTTv311)
        self.c.username_pw_set(user or server.user, server.key)
        self.c.ws_set_options(path="/mqtt")
        if tls:
            self.c.tls_set(server.ca)
        self.c.on_connect = lambda c, *_: c.subscribe(topic, 1)
        self.c.on_subscribe = lambda *_: self.ready.set()
        self.c.on_message = lambda c, u, m: self.got.append((m.topic, m.payload))
        self.c.on_disconnect = lambda *_: self.gone.set()
        host, port = server.https if tls else server.http
        self.c.connect("localhost" if tls else host, port)
        self.c.loop_start()
        assert self.ready.wait(DEADLINE)

    def stop(self):
        self.c.disconnect()
        assert self.gone.wait(DEADLINE)
        self.c.loop_stop()


@pytest.mark.parametrize("v5", [False, True])
@pytest.mark.parametrize("tls", [False, True])
def test_paho(server, t, v5, tls):
    p = Paho(server, t + "/#", v5, tls)
    for qos in (0, 1, 2):
        for size in (0, 100, 126, 70000):
            p.c.publish(f"{t}/{qos}", bytes(size), qos).wait_for_publish(DEADLINE)
    wait(lambda: len(p.got) == 12, "all of it")
    assert sorted(len(x) for _, x in p.got) == sorted([0, 100, 126, 70000] * 3)
    p.stop()
