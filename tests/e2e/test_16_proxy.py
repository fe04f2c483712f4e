"""PROXY protocol v2 on listeners that expect it (HAProxy's specification, section 2.2)."""
import ipaddress
import struct

import pytest

import raw
from harness import hostport, wait
from lvconf import app, doc

pytestmark = pytest.mark.lavva_only
SIG = b"\r\n\r\n\0\r\nQUIT\n"


def header(src=("192.0.2.77", 4321), dst=("198.51.100.1", 1883), command=1, version=2,
           family=None, tlvs=b"", length=None):
    a = ipaddress.ip_address(src[0])
    fam = (0x11 if a.version == 4 else 0x21) if family is None else family
    body = a.packed + ipaddress.ip_address(dst[0]).packed + struct.pack(">HH", src[1], dst[1])
    body += tlvs
    return SIG + bytes([version << 4 | command, fam]) + struct.pack(
        ">H", len(body) if length is None else length) + body


def tlv(kind, value):
    return bytes([kind]) + struct.pack(">H", len(value)) + value


@pytest.fixture
def proxied(own_server):
    """listen: plain mqtt for the harness, and mqtt and http behind a proxy."""
    conf = doc([app()], listen=[{"mqtt": "127.0.0.1:0"}, {"mqtt": "127.0.0.1:0", "proxy": True},
                                {"http": "127.0.0.1:0"}, {"http": "127.0.0.1:0", "proxy": True}],
               server={"log": {"level": "debug"}, "connect_timeout": "1s"})
    s = own_server(config=conf).start()
    s.behind = hostport(s.config["listen"][1]["mqtt"])
    s.web_behind = hostport(s.config["listen"][3]["http"])
    return s


@pytest.mark.parametrize("head", [
    header(), header(("2001:db8::5", 99), ("2001:db8::1", 1883)),
    header(tlvs=tlv(0x02, b"host.example") + tlv(0x04, b"\0" * 7)),
    header(tlvs=tlv(0xEE, b"z" * 400)), header(command=0),
    SIG + b"\x20\x00\0\0", SIG + b"\x21\x00\0\0"], ids=[
        "v4", "v6", "tlvs", "long", "local", "local-unspec", "proxy-unspec"])
def test_accepted(proxied, head, v):
    c = proxied.client(v=v, addr=proxied.behind).open(first=head)
    c.connect()
    c.ping()


def test_with_the_connect_in_one_segment(proxied):
    c = proxied.client(addr=proxied.behind).open()
    c.send(header() + c.connect_bytes() + raw.PING)
    c.expect(raw.CONNACK, rc=0)
    c.expect(raw.PINGRESP)


def test_byte_by_byte(proxied):
    c = proxied.client(addr=proxied.behind).open()
    for b in header(tlvs=tlv(0x04, b"pad")) + c.connect_bytes():
        c.send(bytes([b]))
    c.expect(raw.CONNACK, rc=0)


def test_address_is_the_clients(proxied):
    c = proxied.client(addr=proxied.behind).open(first=header(("192.0.2.123", 4567)))
    c.send(b"\x00\x00")
    try:
        c.recv()
    except raw.Closed:
        pass
    wait(lambda: "192.0.2.123" in proxied.log(), "the client's address in the log")


@pytest.mark.parametrize("head", [
    header(version=1), header(version=3), header(command=2), header(command=15),
    header(family=0x41), header(length=11), header(length=5), b"\r\n\r\n\0\r\nQUIT\0" + b"\x21\x11",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", b"", header(tlvs=b"\x04\0\xff"),
    header(family=0x13)], ids=[
        "version1", "version3", "command2", "command15", "family", "short", "shorter", "signature",
        "text-v1", "none", "bad-tlv", "transport"])
def test_refused_or_harmless(proxied, head):
    """A broken header ends the connection; nothing gets in by it."""
    c = proxied.client(addr=proxied.behind).open()
    c.send(head + c.connect_bytes())
    try:
        p = c.recv()
        # an unknown family or transport, or a TLV that does not fit, may be skipped
        assert p.kind == raw.CONNACK and head[:12] == SIG and head[12:13] == b"\x21"
    except (raw.Closed, raw.ProtocolError):
        pass
    ok = proxied.client(addr=proxied.behind).open(first=header())
    ok.connect()


def test_unfinished_header_times_out(proxied):
    c = proxied.client(addr=proxied.behind).open()
    c.send(header()[:10])
    c.closed()


def test_header_on_a_plain_listener(proxied):
    c = proxied.client().open()
    c.send(header() + c.connect_bytes())
    with pytest.raises((raw.Closed, raw.ProtocolError)):
        c.recv()


def test_http_behind_a_proxy(proxied):
    c = proxied.client(addr=proxied.web_behind).open(first=header())
    c.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert c.sock.recv(100).startswith(b"HTTP/1.1 200 ")
