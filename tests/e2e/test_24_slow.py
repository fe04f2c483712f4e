"""Slow and half-open clients cost a bounded buffer and a bounded time (guarantee 5)."""
import socket
import time

import pytest

import raw
from harness import wait
from lvconf import app, doc

pytestmark = pytest.mark.lavva_only


@pytest.fixture
def s(own_server):
    return own_server(config=doc([app(limits={"queue": "64KiB", "packet": "32KiB"})],
                                 server={"connect_timeout": "400ms"},
                                 limits={"queue": "64KiB", "packet": "32KiB"})).start()


def ends_within(c, low, high):
    t0 = time.monotonic()
    while True:
        try:
            c.next(high)
        except raw.Closed:
            break
    took = time.monotonic() - t0
    assert low <= took <= high, f"ended after {took:.2f} s"


def test_silent_connection(s):
    ends_within(s.client().open(), 0.25, 5)


def drip(c, data, pause):
    """Sends a byte at a time until the server has had enough; the time it took."""
    t0 = time.monotonic()
    for b in data:
        try:
            c.sock.sendall(bytes([b]))
            c.sock.settimeout(pause)
            if not c.sock.recv(100):
                return time.monotonic() - t0
        except TimeoutError:
            continue
        except OSError:
            return time.monotonic() - t0
    raise AssertionError("it was served to the end")


def test_connect_by_drops(s):
    c = s.client().open()
    took = drip(c, c.connect_bytes(properties=[("user", ("x" * 200, "y" * 200))]), 0.05)
    assert took < 5


def test_http_head_by_drops(s):
    c = s.client(addr=s.http).open()
    took = drip(c, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: " + b"b" * 500 + b"\r\n\r\n", 0.05)
    assert took < 5


def test_tls_handshake_by_drops(own_server):
    s = own_server().start()
    c = s.client(addr=s.mqtts).open()
    took = drip(c, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(2000), 0.2)
    assert took < 30




def test_many_half_open_do_not_shut_others_out(s):
    half = [socket.create_connection(s.mqtt) for _ in range(300)]
    for h in half[::2]:
        h.sendall(b"\x10\x7f\x00")
    c = s.connected()
    c.ping()
    wait(lambda: s.metrics()["lavva_connection_timeouts_total"] >= 300, "the deadlines")
    wait(lambda: s.metrics()['lavva_connections{protocol="handshake"}'] == 0, "the gauge")
    c.ping()
    for h in half:
        h.close()


def test_unfinished_packet_does_not_feed_keep_alive(s):
    """Bytes of a packet that never ends are no packet (3.1.2.10)."""
    c = s.client()
    c.connect(keepalive=1)
    c.send(raw.publish("a/b", b"x" * 1000)[:20])
    t0 = time.monotonic()
    took = drip(c, b"x" * 900, 0.1)
    assert 0.5 < took < 10 and time.monotonic() - t0 < 12


def rss_kib(s):
    with open(f"/proc/{s.proc.pid}/status") as f:
        return next(int(x.split()[1]) for x in f if x.startswith("VmRSS"))


@pytest.mark.parametrize("policy", ["drop-oldest", "conflate", "disconnect"])
def test_reader_that_never_reads(own_server, policy):
    """QoS 0 meets the channel's policy and a bounded queue; what is dropped is counted."""
    lim = {"queue": "64KiB", "packet": "32KiB", "queue_messages": 200}
    s = own_server(config=doc([app(limits=lim, channel_defaults={"slow": policy})],
                              limits=lim)).start()
    lazy = s.client()
    lazy.open()
    lazy.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.connect()
    lazy.subscribe("flood/#")
    pub = s.connected()
    body = b"f" * 20000
    for i in range(20):
        pub.publish("flood/x", body, 1)
    before = rss_kib(s)
    for i in range(1500):
        pub.publish("flood/x", body, 1)
    assert rss_kib(s) - before < 100_000, "its queue is not bounded"
    m = s.metrics()
    left = m["lavva_hub_owed_messages_total"] - m["lavva_hub_out_messages_total"]

    def drops(reason):
        return s.metrics().get(f'lavva_drops_total{{stage="hub",reason="{reason}"}}', 0)
    if policy == "disconnect":      # what is queued may still go out until the connection is gone
        wait(lambda: s.metrics()['lavva_connections{protocol="mqtt"}'] == 1, "its connection to go")
        m = s.metrics()
        left = m["lavva_hub_owed_messages_total"] - m["lavva_hub_out_messages_total"]
        assert drops("disconnected") + drops("slow") == left > 0
    elif policy == "conflate":      # one key: what waits is the newest, and what is being sent
        assert drops("conflated") >= left - 20
    else:
        assert drops("slow") > 500
    pub.ping()


def test_writer_is_held_back_not_cut(s):
    """A publisher that is faster than the disk gets its acks in time; nothing is refused."""
    c = s.connected()
    n = min(c.connack.prop("receive_maximum", 65535), 1000)
    body = b"w" * 10000
    for _ in range(3):
        c.send(b"".join(raw.publish("w/x", body, 1, pid=i + 1) for i in range(n)))
        for i in range(n):
            c.expect(raw.PUBACK, pid=i + 1, rc=0)


def test_peer_that_vanishes_in_a_flood(s):
    """A reset in the middle of deliveries, many times: no crash, no leak of connections."""
    pub = s.connected()
    for i in range(40):
        c = s.connected()
        c.subscribe("gone/x", qos=i % 3)
        for _ in range(5):
            pub.publish("gone/x", b"z" * 3000, 1)
        c.drop(rst=True)
    wait(lambda: s.metrics()['lavva_connections{protocol="mqtt"}'] == 1, "the connections to go")
