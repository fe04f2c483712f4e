"""Keep-alive (3.1.2.10) and the deadlines of half-made connections."""
import time

import pytest

import raw
from raw import Will


def test_silence_ends_the_connection(server, v):
    """MQTT-3.1.2-22 (3.1.1: -24): after one and a half times, not before."""
    c = server.client(v=v)
    c.connect(keepalive=2)
    if v == 5 and c.connack.prop("server_keep_alive"):
        pytest.skip("the server sets its own")
    t0 = time.monotonic()
    c.closed(0x8D, timeout=12)
    assert 2.8 <= time.monotonic() - t0 <= 3 + 5


def test_will_on_silence(server, t):
    sub = server.connected()
    sub.subscribe(t)
    c = server.client(will=Will(t, b"silent", 1))
    c.connect(keepalive=1)
    t0 = time.monotonic()
    sub.message(t, b"silent", timeout=12)
    assert time.monotonic() - t0 >= 1.4


@pytest.mark.parametrize("what", ["ping", "publish", "puback"])
def test_any_packet_keeps_it_alive(server, what, t):
    c = server.client()
    c.connect(keepalive=1)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        if what == "ping":
            c.ping()
        elif what == "publish":
            c.send(raw.publish(t, b"x"))
        else:
            c.publish(t, b"x", 1)
        # wait for the moment, listening: an early end would show
        with pytest.raises(TimeoutError):
            c.recv(0.3)
    c.ping()


def test_what_the_server_sends_does_not_count(server, t, pub):
    """Only packets from the client count (3.1.2.10)."""
    c = server.client()
    c.connect(keepalive=1)
    c.subscribe(t)
    t0 = time.monotonic()
    while time.monotonic() - t0 < 10:
        pub.publish(t, b"x", 1)
        try:
            c.recv(0.2)
        except (raw.Closed, TimeoutError):
            break
        if c.seen[-1].kind == raw.DISCONNECT:
            break
    assert 1.3 <= time.monotonic() - t0 < 8


def test_keepalive_zero_stays(server, v):
    """0 turns it off. Another client with 1 s is the clock."""
    c = server.client(v=v)
    c.connect(keepalive=0)
    clock = server.client()
    clock.connect(keepalive=1)
    clock.closed(timeout=12)
    c.ping()


def test_ping_with_flags_or_body(server, v):
    for data in (b"\xc1\x00", b"\xc0\x01\x00"):
        c = server.connected(v=v)
        c.send(data)
        c.closed({0x81, 0x82})


def test_many_pings(server, v):
    c = server.connected(v=v)
    c.send(raw.PING * 1000)
    for _ in range(1000):
        c.expect(raw.PINGRESP)
