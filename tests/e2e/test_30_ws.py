"""WebSocket (RFC 6455, RFC 7692) as a conformance suite judges it, on /v1/echo, frame by frame.

The groups are those of the well-known Autobahn suite: 1 sizes, 2 pings, 3 reserved bits, 4 opcodes,
5 fragments, 6 UTF-8, 7 closing, 9 large messages, 10 auto-fragments, 12 and 13 permessage-deflate.
Only what that suite calls a strict pass passes here: what came before a violation is answered, and
nothing after it; text fails at its first wrong byte, also inside of a frame. Each case runs with its
bytes in one piece, frame by frame and byte by byte.
"""
import asyncio
import json
import os
import random
import socket
import ssl
import struct
import urllib.parse
import zlib

import msgpack
import pytest
import websocket
import websockets

from harness import DEADLINE
from lvconf import app, doc, key_text
from test_22_ledger import balanced
from ws import (BINARY, CLOSE, CONT, FIN, PING, PONG, RSV1, TEXT, WS, Refused, close_payload, frame)

pytestmark = pytest.mark.lavva_only
SIZES = [0, 1, 125, 126, 127, 128, 65535, 65536]
HELLO = "Hellö κόσμε 😀".encode()


def echo(server, extensions=None, **kw):
    headers = [f"Sec-WebSocket-Extensions: {extensions}"] if extensions else []
    return WS(server.http, "/v1/echo", headers=headers, **kw)


def chopped(ws, frames, how):
    """All at once, a frame at a time, or a byte at a time. Afterwards the server may be gone."""
    data = frames if how == "frames" else [b"".join(frames)]
    if how == "bytes":
        data = [bytes([b]) for b in data[0]]
    try:
        for d in data:
            ws.send(d)
    except OSError:
        pass


def bye(ws, code=1000):
    """The closing handshake, begun here: the same code comes back, and the server hangs up."""
    ws.send_frame(CLOSE, close_payload(code))
    assert ws.expect(CLOSE) == close_payload(code)
    assert ws.buf == b"" and not ws.fill()
    ws.sock.close()


def case(server, frames, answers, code, how):
    """code: what it is closed with, None: it goes on."""
    ws = echo(server)
    chopped(ws, frames, how)
    for op, payload in answers:
        ws.expect(op, payload)
    if code is None:
        bye(ws)
    else:
        ws.closed(code)


HOW = pytest.mark.parametrize("how", ["whole", "frames", "bytes"])


def cases(table):
    return pytest.mark.parametrize("frames,answers,code", [pytest.param(*v, id=k)
                                                           for k, v in table.items()])


# ---- 1: sizes ----

@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("op", [TEXT, BINARY])
@pytest.mark.parametrize("chop", [None, 997, 1])
def test_sizes(server, op, n, chop):
    payload = b"*" * n if op == TEXT else os.urandom(n)
    data = frame(op, payload)
    if chop == 1:
        data, chop = data, max(1, n // 300)
    ws = echo(server)
    for i in range(0, len(data), chop or len(data)):
        ws.send(data[i:i + (chop or len(data))])
    ws.expect(op, payload)
    bye(ws)


# ---- 2: pings and pongs ----

p125 = b"\xfe" * 125
PINGS = {
    "2.1": ([frame(PING)], [(PONG, b"")], None),
    "2.2": ([frame(PING, b"Hello, world!")], [(PONG, b"Hello, world!")], None),
    "2.3": ([frame(PING, b"\0\xff\xfe\xfd\xfc\xfb\0\xff")], [(PONG, b"\0\xff\xfe\xfd\xfc\xfb\0\xff")],
            None),
    "2.4": ([frame(PING, p125)], [(PONG, p125)], None),
    "2.5": ([frame(PING, p125 + b"!")], [], 1002),
    "2.7": ([frame(PONG)], [], None),
    "2.8": ([frame(PONG, b"unasked")], [], None),
    "2.9": ([frame(PONG, b"unasked"), frame(PING, b"asked")], [(PONG, b"asked")], None),
    "2.10": ([frame(PING, f"payload-{i}") for i in range(10)],
             [(PONG, f"payload-{i}") for i in range(10)], None),
}


@HOW
@cases(PINGS)
def test_pings(server, frames, answers, code, how):
    case(server, frames, answers, code, how)


# ---- 3, 4: reserved bits and opcodes ----

RESERVED = {}
for _rsv in range(1, 8):
    for _op in (TEXT, BINARY, PING, PONG, CLOSE):
        _bad = frame(_op, b"\x03\xe8" if _op == CLOSE else b"x", rsv=_rsv << 4)
        RESERVED[f"3.{_rsv}.{_op}"] = ([_bad], [], 1002)
    RESERVED[f"3.{_rsv}.behind"] = (
        [frame(TEXT, HELLO), frame(TEXT, HELLO, rsv=_rsv << 4), frame(PING)], [(TEXT, HELLO)], 1002)
for _op in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
    RESERVED[f"4.{_op}"] = ([frame(_op)], [], 1002)
    RESERVED[f"4.{_op}.payload"] = ([frame(_op, b"reserved opcode payload")], [], 1002)
    RESERVED[f"4.{_op}.behind"] = ([frame(TEXT, HELLO), frame(_op), frame(PING)], [(TEXT, HELLO)],
                                   1002)
RESERVED["unmasked"] = ([frame(TEXT, HELLO), frame(TEXT, HELLO, mask=None)], [(TEXT, HELLO)], 1002)
RESERVED["long 126"] = ([bytes([0x81, 0xFE, 0, 125]) + bytes(4) + b"x" * 125], [], 1002)
RESERVED["long 127"] = ([bytes([0x81, 0xFF]) + struct.pack("!Q", 65535) + bytes(4)], [], 1002)
RESERVED["negative"] = ([bytes([0x82, 0xFF]) + struct.pack("!Q", 1 << 63) + bytes(4)], [], 1002)


@HOW
@cases(RESERVED)
def test_reserved(server, frames, answers, code, how):
    case(server, frames, answers, code, how)


def test_a_head_is_judged_as_it_comes(server):
    """Short of a whole head there may be enough of it."""
    for data in (b"\x81\x02hi", b"\x89\xfe\0", b"\x82\xff\xff"):
        ws = echo(server)
        for b in data:
            ws.send(bytes([b]))
        ws.closed(1002)


# ---- 5: fragments ----

F1, F2, FF = b"fragment1", b"fragment2", b"fragment1fragment2"
FRAGMENTS = {
    "5.1": ([frame(PING, F1, fin=False), frame(CONT, F2)], [], 1002),
    "5.2": ([frame(PONG, F1, fin=False), frame(CONT, F2)], [], 1002),
    "5.3": ([frame(TEXT, F1, fin=False), frame(CONT, F2)], [(TEXT, FF)], None),
    "5.3b": ([frame(BINARY, F1, fin=False), frame(CONT, F2)], [(BINARY, FF)], None),
    "5.6": ([frame(TEXT, F1, fin=False), frame(PING, b"pongme"), frame(CONT, F2)],
            [(PONG, b"pongme"), (TEXT, FF)], None),
    "5.9": ([frame(CONT, b"nothing to continue"), frame(TEXT, HELLO)], [], 1002),
    "5.12": ([frame(CONT, b"nothing to continue", fin=False), frame(TEXT, HELLO)], [], 1002),
    "5.15": ([frame(TEXT, F1, fin=False), frame(CONT, F2), frame(CONT, b"x", fin=False),
              frame(TEXT, HELLO)], [(TEXT, FF)], 1002),
    "5.16": ([frame(CONT, b"1", fin=False), frame(TEXT, b"2", fin=False), frame(CONT, b"3")] * 2, [],
             1002),
    "5.17": ([frame(CONT, b"1"), frame(TEXT, b"2", fin=False), frame(CONT, b"3")] * 2, [], 1002),
    "5.18": ([frame(TEXT, F1, fin=False), frame(TEXT, F2)], [], 1002),
    "5.19": ([frame(TEXT, b"f1", fin=False), frame(CONT, b"f2", fin=False), frame(PING, b"1"),
              frame(CONT, b"f3", fin=False), frame(CONT, b"f4", fin=False), frame(PING, b"2"),
              frame(CONT, b"f5")], [(PONG, b"1"), (PONG, b"2"), (TEXT, b"f1f2f3f4f5")], None),
    "empty": ([frame(BINARY, b"", fin=False)] + [frame(CONT, b"", fin=False)] * 5 + [frame(CONT)],
              [(BINARY, b"")], None),
    "then another": ([frame(TEXT, F1, fin=False), frame(CONT, F2), frame(BINARY, b"\xff")],
                     [(TEXT, FF), (BINARY, b"\xff")], None),
}


@HOW
@cases(FRAGMENTS)
def test_fragments(server, frames, answers, code, how):
    case(server, frames, answers, code, how)


# ---- 6: UTF-8 ----

def bits(n, length):
    """The code point n as UTF-8 of that length, whether or not that may be."""
    out = []
    for _ in range(length - 1):
        out.append(0x80 | n & 0x3F)
        n >>= 6
    return bytes([(0xFF00 >> length) & 0xFF | n] + out[::-1]) if length > 1 else bytes([n])


VALID = [b"", HELLO, "κόσμε".encode(), b"\0", b"\x7f", bits(0x80, 2), bits(0x7FF, 2), bits(0x800, 3),
         bits(0xD7FF, 3), bits(0xE000, 3), bits(0xFFFD, 3), bits(0xFFFE, 3), bits(0xFFFF, 3),
         bits(0x10000, 4), bits(0x1FFFF, 4), bits(0x10FFFF, 4), bits(0xFDD0, 3),
         "\ufeffbom".encode()] + [bits(0x1FFFE + 0x10000 * i, 4) for i in range(16)]
INVALID = [
    b"\x80", b"\xbf", b"\x80\xbf\x80\xbf", bytes(range(0x80, 0xC0)), b"\xc2", b"\xc2 ", b"\xe1\x80",
    b"\xe1 ", b"\xf1\x80\x80", b"\xf1\x80 ", b"\xfe", b"\xff", b"\xfe\xfe\xff\xff", bits(0x2F, 2),
    bits(0x2F, 3), bits(0x2F, 4), bits(0x2F, 5), bits(0x2F, 6), bits(0x7F, 2), bits(0x7FF, 3),
    bits(0xFFFF, 4), bits(0, 2), bits(0, 3), bits(0, 4), b"\xc0", b"\xc1", bits(0xD800, 3),
    bits(0xDB7F, 3), bits(0xDBFF, 3), bits(0xDC00, 3), bits(0xDFFF, 3), bits(0xD800, 3) +
    bits(0xDC00, 3), bits(0x110000, 4), bits(0x1FFFFF, 4), bits(0x200000, 5), bits(0x3FFFFFF, 5),
    bits(0x4000000, 6), bits(0x7FFFFFFF, 6), b"\xf5\x80\x80\x80",
    HELLO + b"\xed\xa0\x80edited"]


@pytest.mark.parametrize("how", ["whole", "bytes", "fragments"])
def test_text(server, how):
    ws = echo(server)
    for text in VALID + [x + y for x in VALID for y in VALID[:4]]:
        parts = [frame(TEXT, text)]
        if how == "fragments":      # 6.1.2, 6.2.3: a byte a fragment, and empty ones around
            parts = [frame(TEXT, b"", fin=False)] + [frame(CONT, bytes([b]), fin=False)
                                                     for b in text] + [frame(CONT)]
        chopped(ws, parts, "bytes" if how == "bytes" else "whole")
        ws.expect(TEXT, text)
    bye(ws)


@pytest.mark.parametrize("how", ["whole", "bytes", "fragments"])
@pytest.mark.parametrize("text", INVALID, ids=lambda t: t[:12].hex())
def test_no_text(server, text, how):
    parts = [frame(TEXT, text)]
    if how == "fragments":
        parts = [frame(TEXT, b"", fin=False)] + [frame(CONT, bytes([b]), fin=False)
                                                 for b in text] + [frame(CONT)]
    case(server, parts, [], 1007, "frames" if how == "fragments" else how)


@pytest.mark.parametrize("text", INVALID, ids=lambda t: t[:12].hex())
def test_binary_is_any(server, text):
    case(server, [frame(BINARY, text)], [(BINARY, text)], None, "whole")


BAD = [b"\xf4\x90", b"\xed\xa0", b"\x80", b"\xc0", b"\xf5", b"\xe0\x9f", b"\xc2\x20"]


@pytest.mark.parametrize("bad", BAD, ids=lambda b: b.hex())
def test_text_fails_at_its_first_wrong_byte(server, bad):
    """6.4: although neither message nor frame are at an end."""
    ws = echo(server)               # 6.4.1: in a fragment of its own
    ws.send(frame(TEXT, HELLO, fin=False)).send(frame(CONT, bad, fin=False))
    ws.closed(1007)
    ws = echo(server)               # 6.4.2: its last byte in another one
    ws.send(frame(TEXT, HELLO + bad[:-1], fin=False)).send(frame(CONT, bad[-1:], fin=False))
    ws.closed(1007)
    for size in (len(HELLO) + 100, 100000):     # 6.4.3, 6.4.4: in a frame that has more to come
        for cut in (len(HELLO), len(HELLO) + len(bad) - 1):
            ws = echo(server)
            data = frame(TEXT, (HELLO + bad).ljust(size, b"x"))
            at = len(data) - size + cut
            ws.send(data[:at])
            ws.send(data[at:at - cut + len(HELLO) + len(bad)])
            ws.closed(1007)


# ---- 7: closing ----

VALID_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999,
               4000, 4999]
INVALID_CODES = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]
C = close_payload
CLOSING = {
    "7.1.1": ([frame(TEXT, HELLO), frame(CLOSE, C(1000))], [(TEXT, HELLO), (CLOSE, C(1000))]),
    "7.1.2": ([frame(CLOSE, C(1000))] * 2, [(CLOSE, C(1000))]),
    "7.1.3": ([frame(CLOSE, C(1000)), frame(PING)], [(CLOSE, C(1000))]),
    "7.1.4": ([frame(CLOSE, C(1000)), frame(TEXT, HELLO)], [(CLOSE, C(1000))]),
    "7.1.5": ([frame(TEXT, F1, fin=False), frame(CLOSE, C(1000)), frame(CONT, F2)],
              [(CLOSE, C(1000))]),
    "junk behind": ([frame(CLOSE, C(1000)), b"\xff" * 100], [(CLOSE, C(1000))]),
    "7.3.1": ([frame(CLOSE)], [(CLOSE, b"")]),
    "7.3.2": ([frame(CLOSE, b"a")], [(CLOSE, C(1002))]),
    "7.3.3": ([frame(CLOSE, C(1000))], [(CLOSE, C(1000))]),
    "7.3.4": ([frame(CLOSE, C(1000, "Hello, world!"))], [(CLOSE, C(1000))]),
    "7.3.5": ([frame(CLOSE, C(1000, "*" * 123))], [(CLOSE, C(1000))]),
    "7.3.6": ([frame(CLOSE, C(1000, "*" * 124))], [(CLOSE, C(1002))]),
    "7.5.1": ([frame(CLOSE, C(1000) + b"\xce\xba\xed\xa0\x80")], [(CLOSE, C(1007))]),
    "in fragments": ([frame(CLOSE, C(1000), fin=False), frame(CONT)], [(CLOSE, C(1002))]),
    **{f"7.7.{c}": ([frame(CLOSE, C(c))], [(CLOSE, C(c))]) for c in VALID_CODES},
    **{f"7.9.{c}": ([frame(CLOSE, C(c))], [(CLOSE, C(1002))]) for c in INVALID_CODES},
    **{f"7.13.{c}": ([frame(CLOSE, C(c, "why"))], [(CLOSE, C(1002))]) for c in INVALID_CODES},
}


@HOW
@pytest.mark.parametrize("frames,answers", [pytest.param(*v, id=k) for k, v in CLOSING.items()])
def test_closing(server, frames, answers, how):
    """Exactly these frames, then the server hangs up: it is the server that closes first (7.1.1)."""
    ws = echo(server)
    chopped(ws, frames, how)
    for op, payload in answers:
        got = ws.expect(op)
        assert (got[:2] if op == CLOSE else got) == payload
    assert ws.buf == b"" and not ws.fill()
    ws.sock.close()


def test_large_then_close(server):
    """7.1.6: what came before the close frame is answered, nothing behind it."""
    ws = echo(server)
    big = b"a" * (256 * 1024)
    ws.send(frame(TEXT, big) + frame(CLOSE, C(1000)) + frame(PING))
    ws.expect(TEXT, big)
    assert ws.expect(CLOSE) == C(1000)
    assert not ws.fill()


# ---- 9, 10: large messages ----

@pytest.mark.parametrize("op", [TEXT, BINARY])
@pytest.mark.parametrize("size,piece,chop", [
    (1 << 20, None, None), (16 << 20, None, None), (1 << 20, 64, None), (4 << 20, 4096, None),
    (4 << 20, 1 << 20, None), (65536, 1300, None), (1 << 20, None, 64), (1 << 20, None, 2048)])
def test_large(server, op, size, piece, chop):
    text = ("κόσμε" * (size // 10 + 1)).encode()[:size - 16]
    payload = text.decode(errors="ignore").encode() if op == TEXT else os.urandom(size)
    payload = payload.ljust(size, b"*")
    parts = [payload[i:i + (piece or size)] for i in range(0, size, piece or size)]
    data = b"".join(frame(op if i == 0 else CONT, part, fin=i == len(parts) - 1)
                    for i, part in enumerate(parts))
    ws = echo(server)
    for i in range(0, len(data), chop or len(data)):
        ws.send(data[i:i + (chop or len(data))])
    ws.expect(op, payload)
    bye(ws)


def test_too_large(server):
    """The limit is 16 MiB; above it 1009, as soon as a frame's head says so."""
    limit = 16 << 20
    ws = echo(server)
    ws.send(frame(BINARY, b"", length=limit + 1)[:14])
    ws.closed(1009)
    ws = echo(server)
    ws.send(frame(BINARY, b"", length=1 << 40)[:14])
    ws.closed(1009)
    ws = echo(server)
    for i in range(16):
        ws.send(frame(BINARY if i == 0 else CONT, bytes(1 << 20), fin=False))
    ws.send(frame(CONT, b"", length=1)[:6])
    ws.closed(1009)


@pytest.mark.parametrize("op", [TEXT, BINARY])
def test_many(server, op):
    """9.7, 9.8: and all at once, without waiting for an answer."""
    ws = echo(server)
    for n in (0, 16, 1024, 16384):
        payload = b"x" * n
        ws.send(frame(op, payload) * 50)
        for _ in range(50):
            ws.expect(op, payload)
    bye(ws)


# ---- 12, 13: permessage-deflate ----

OFFERS = {
    "permessage-deflate": (15, 15),
    "permessage-deflate; client_max_window_bits": (15, 15),
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover": (15, 15),
    "permessage-deflate; server_no_context_takeover; client_max_window_bits=9": (15, 9),
    "permessage-deflate; server_max_window_bits=9": (9, 15),
    "permessage-deflate; server_max_window_bits=8": (8, 15),
    "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12": (12, 12),
    "permessage-deflate; server_max_window_bits=15; client_max_window_bits=15": (15, 15),
    "permessage-deflate; client_max_window_bits=\"10\"": (15, 10),
    # 13.7: the first that can be met
    "permessage-deflate; server_max_window_bits=7, permessage-deflate; client_max_window_bits": (15, 15),
    "x-unknown; a=b, permessage-deflate; server_no_context_takeover": (15, 15),
}
DECLINED = ["permessage-deflate; server_max_window_bits", "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=08", "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; server_no_context_takeover=1", "permessage-deflate; unknown",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "x-webkit-deflate-frame", "permessage-bzip2"]


def deflate(data, bits=15, level=6, flush=zlib.Z_SYNC_FLUSH, chunk=None):
    z = zlib.compressobj(level, zlib.DEFLATED, -max(bits, 9))
    out = b""
    for i in range(0, len(data), chunk or len(data) or 1):
        out += z.compress(data[i:i + (chunk or len(data))])
        if chunk:
            out += z.flush(zlib.Z_SYNC_FLUSH)
    out += z.flush(flush)
    return out[:-4] if flush == zlib.Z_SYNC_FLUSH else out


def inflated(ws, op, bits):
    """The next message: its plain bytes, and whether it came compressed."""
    first, data = ws.frame()
    assert first & 0x8F == op | FIN, f"{first:02x}"
    if not first & RSV1:
        return data, False
    z = zlib.decompressobj(-max(bits, 9))
    out = z.decompress(data + b"\0\0\xff\xff")
    assert z.unconsumed_tail == b"" and z.unused_data == b""
    return out, True


def test_deflate_is_only_agreed_when_offered(server):
    assert "sec-websocket-extensions" not in echo(server).head
    for offer in DECLINED:
        ws = echo(server, offer)
        assert "sec-websocket-extensions" not in ws.head, offer
        ws.send_frame(TEXT, HELLO, rsv=RSV1)
        ws.closed(1002)


def jsons(n, seed):
    r = random.Random(seed)
    return (("{\"key\":%d,\"text\":\"κόσμε %d\"}," % (r.randrange(9), r.randrange(99))) * (n // 30 + 1)
            ).encode()[:n].decode(errors="ignore").encode()


@pytest.mark.parametrize("offer", OFFERS, ids=lambda o: o.replace("permessage-deflate", "pmd"))
def test_deflate(server, offer):
    ws = echo(server, offer)
    server_bits, client_bits = OFFERS[offer]
    said = ws.head["sec-websocket-extensions"]
    params = dict((p.strip().split("=") + [None])[:2] for p in said.split(";")[1:])
    assert said.split(";")[0] == "permessage-deflate" and "," not in said
    assert "server_no_context_takeover" in params and "client_no_context_takeover" in params
    assert int(params.get("server_max_window_bits", 15)) == server_bits
    assert int(params.get("client_max_window_bits", 15)) == client_bits
    if "client_max_window_bits" not in offer:
        assert "client_max_window_bits" not in params
    seen = set()
    for n in (0, 1, 16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072):
        for op, payload in ((TEXT, jsons(n, n)), (BINARY, random.Random(n).randbytes(n))):
            for mode in ("compressed", "plain", "fragments", "stored", "final"):
                if mode == "plain":
                    ws.send_frame(op, payload)
                elif mode == "fragments":       # RFC 7692 §7.2.3.3: cut where one likes
                    z = deflate(payload, client_bits, chunk=max(1, n // 5))
                    cut = [z[:len(z) // 3], z[len(z) // 3:len(z) // 2], z[len(z) // 2:]]
                    ws.send(frame(op, cut[0], fin=False, rsv=RSV1) + frame(PING, b"p") +
                            frame(CONT, cut[1], fin=False) + frame(CONT, cut[2]))
                    ws.expect(PONG, b"p")
                elif mode == "final":           # §7.2.3.4: a block that says it is the last
                    ws.send_frame(op, deflate(payload, client_bits, flush=zlib.Z_FINISH) + b"\0",
                                  rsv=RSV1)
                else:
                    ws.send_frame(op, deflate(payload, client_bits, level=0 if mode == "stored" else 6),
                                  rsv=RSV1)
                got, compressed = inflated(ws, op, server_bits)
                assert got == payload, (n, op, mode)
                seen.add((n >= 256 and op == TEXT, compressed))
    assert (True, True) in seen and (True, False) not in seen
    bye(ws)


BOMB = deflate(bytes(17 << 20), level=9)
BROKEN = {
    "junk": ([frame(TEXT, b"\xff\xff\xff\xff", rsv=RSV1)], 1007),
    "reserved block": ([frame(BINARY, b"\x07\x00", rsv=RSV1)], 1007),
    "cut short": ([frame(BINARY, deflate(jsons(5000, 1))[:-9], rsv=RSV1)], 1007),
    "too far back": ([frame(BINARY, b"\x4a\x04\x11" + b"\x00", rsv=RSV1)], 1007),
    "not UTF-8": ([frame(TEXT, deflate(b"\xed\xa0\x80" * 30), rsv=RSV1)], 1007),
    "cut character": ([frame(TEXT, deflate("é".encode()[:1]), rsv=RSV1)], 1007),
    "bomb": ([frame(BINARY, BOMB, rsv=RSV1)], 1009),
    "bomb in pieces": ([frame(BINARY, BOMB[:100], rsv=RSV1, fin=False), frame(CONT, BOMB[100:])], 1009),
    "continuation with RSV1": ([frame(TEXT, b"", rsv=RSV1, fin=False), frame(CONT, b"", rsv=RSV1)],
                               1002),
    "ping with RSV1": ([frame(PING, b"", rsv=RSV1)], 1002),
    "close with RSV1": ([frame(CLOSE, C(1000), rsv=RSV1)], 1002),
    "RSV2": ([frame(TEXT, deflate(b"x"), rsv=0x20)], 1002),
    "plain text behind": ([frame(TEXT, b"\xff")], 1007),
}


@pytest.mark.parametrize("frames,code", [pytest.param(*v, id=k) for k, v in BROKEN.items()])
def test_broken_deflate(server, frames, code):
    ws = echo(server, "permessage-deflate")
    ws.send_frame(TEXT, deflate(HELLO), rsv=RSV1)
    assert inflated(ws, TEXT, 15)[0] == HELLO
    chopped(ws, frames, "whole")
    ws.closed(code)


def test_deflate_ratio(server):
    """It is worth it: what comes back of text that repeats is much smaller; short messages stay
    plain."""
    ws = echo(server, "permessage-deflate")
    text = jsons(10000, 1)
    ws.send_frame(TEXT, text)
    first, data = ws.frame()
    assert first == TEXT | FIN | RSV1 and len(data) < len(text) / 10
    ws.send_frame(TEXT, b"short", rsv=0)
    ws.expect(TEXT, b"short")
    ws.send_frame(BINARY, os.urandom(1000))
    assert ws.frame()[0] == BINARY | FIN           # would only grow


# ---- the handshake ----

def head(**over):
    fields = {"Host": "x", "Upgrade": "websocket", "Connection": "Upgrade",
              "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13", **over}
    return "\r\n".join(f"{k}: {v}" for k, v in fields.items() if v is not None) + "\r\n\r\n"


def shake(server, text, line="GET /v1/echo HTTP/1.1"):
    s = socket.create_connection(server.http, timeout=DEADLINE)
    s.sendall((line + "\r\n" + text).encode())
    data = b""
    while b"\r\n\r\n" not in data:
        more = s.recv(65536)
        if not more:
            break
        data += more
    s.close()
    return int(data.split()[1]), data.split(b"\r\n\r\n")[0].decode().lower()


@pytest.mark.parametrize("status,over", [
    (101, {}),
    (101, {"Upgrade": "WebSocket"}), (101, {"Upgrade": "h2c, websocket"}),
    (101, {"Connection": "keep-alive, Upgrade"}), (101, {"Connection": "upgrade"}),
    (426, {"Upgrade": None}), (426, {"Connection": None}), (426, {"Connection": "close"}),
    (426, {"Upgrade": "websockets"}),
    (426, {"Sec-WebSocket-Version": "8"}), (426, {"Sec-WebSocket-Version": None}),
    (400, {"Sec-WebSocket-Key": None}), (400, {"Sec-WebSocket-Key": "short"}),
    (400, {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=!"}),
    (400, {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}),
    (400, {"Host": None}),
], ids=str)
def test_handshake(server, status, over):
    got, text = shake(server, head(**over))
    assert got == status, text
    if status == 101:
        assert "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=" in text
        assert "content-length" not in text and "transfer-encoding" not in text
    if status == 426:
        assert "upgrade: websocket" in text and "sec-websocket-version: 13" in text


@pytest.mark.parametrize("status,line", [(405, "POST /v1/echo HTTP/1.1"), (426, "HEAD /v1/echo HTTP/1.1"),
                                         (101, "GET http://x/v1/echo HTTP/1.1"), (404, "GET /v1/nope HTTP/1.1")])
def test_handshake_line(server, status, line):
    assert shake(server, head(), line)[0] == status


def test_frames_behind_the_handshake(server):
    """A client may not, but one that does is served, not cut."""
    ws = echo(server, open=False)
    ws.open(behind=frame(TEXT, HELLO) + frame(PING, b"p"))
    ws.expect(TEXT, HELLO)
    ws.expect(PONG, b"p")
    bye(ws)


def test_old_http(server):
    assert shake(server, head(), "GET /v1/echo HTTP/1.0")[0] in (400, 426, 503)


# ---- libraries ----

def test_python_websockets(server):
    """asyncio, with context takeover asked for, fragments, pings, and its own closing."""
    async def talk(compression):
        url = "ws://%s:%d/v1/echo" % server.http
        async with websockets.connect(url, compression=compression, max_size=None) as ws:
            for n in (0, 1, 125, 126, 65535, 65536, 1 << 20):
                for m in ("ö" * (n // 2), os.urandom(n)):
                    await ws.send(m)
                    assert await ws.recv() == m
            await ws.send(["in ", "three ", "pieces"])
            assert await ws.recv() == "in three pieces"
            await asyncio.wait_for(await ws.ping(b"x"), DEADLINE)
        assert ws.close_code == 1000
    for c in (None, "deflate"):
        asyncio.run(talk(c))


def test_python_websocket_client(server):
    ws = websocket.create_connection("ws://%s:%d/v1/echo" % server.http, timeout=DEADLINE)
    for m in ("", "hellö", "x" * 70000):
        ws.send(m)
        assert ws.recv() == m
    ws.send_binary(b"\0\xff" * 40000)
    assert ws.recv() == b"\0\xff" * 40000
    ws.ping("p")
    op, data = ws.recv_data(control_frame=True)
    assert (op, data) == (PONG, b"p")
    ws.close()


def test_over_tls(server):
    sock = ssl.create_default_context(cafile=server.ca).wrap_socket(
        socket.create_connection(server.https, timeout=DEADLINE), server_hostname="localhost")
    ws = WS(server.https, "/v1/echo", sock=sock,
            headers=["Sec-WebSocket-Extensions: permessage-deflate"])
    for n in (0, 100, 70000, 1 << 20):
        ws.send_frame(BINARY, bytes(n))
        assert inflated(ws, BINARY, 15)[0] == bytes(n)
    ws.send_frame(CLOSE, C(1000))
    assert ws.expect(CLOSE) == C(1000)
    assert not ws.fill()


# ---- the hub's frames ----

PMD = ["Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"]


@pytest.fixture
def compressing(own_server):
    return own_server(config=doc([app()], server={"compression": True})).start()


def customer(s, headers=PMD, **q):
    """A customer that has been greeted."""
    query = urllib.parse.urlencode({"channels": "c", "apiKey": key_text("full"), **q})
    ws = WS(s.http, "/ws?" + query, headers=headers)
    greeting, _ = inflated(ws, TEXT if q.get("format", "text") == "text" else BINARY, 15)
    assert b"client_id" in greeting
    return ws


def test_hub_frames_are_compressed(compressing):
    s = compressing
    ws, plain = customer(s), customer(s, headers=[])
    packed = customer(s, format="binary", encoding="msgpack")
    assert "permessage-deflate" in ws.head["sec-websocket-extensions"]
    p = s.connected()
    text = jsons(5000, 1)
    for v in (b'"%s"' % text.replace(b'"', b"'"), b'{"a":1}', b'"' + os.urandom(3000).hex().encode() + b'"'):
        p.publish("c/k", v, 1)
        first, data = ws.frame()
        got = data if not first & RSV1 else zlib.decompressobj(-15).decompress(data + b"\0\0\xff\xff")
        assert json.loads(got)["val"] == json.loads(v)
        assert bool(first & RSV1) == (len(got) > 150)
        assert len(data) <= len(got)
        assert plain.expect(TEXT) == got
        assert msgpack.unpackb(inflated(packed, BINARY, 15)[0])["val"] == json.loads(v)
    late = customer(s)           # its snapshot is compressed as well
    assert [inflated(late, TEXT, 15)[1] for _ in range(3)] == [True, False, True]
    live = customer(s, snapshot="false")
    p.publish("c/k", b'"%s"' % (b"live " * 100), 1)
    assert inflated(live, TEXT, 15)[1]
    # a small window cannot share what is compressed for all: not agreed on
    small = customer(s, headers=["Sec-WebSocket-Extensions: permessage-deflate; "
                                    "server_max_window_bits=10"])
    assert "sec-websocket-extensions" not in small.head
    balanced(s)


def test_compression_is_off_unless_asked_for(server):
    ws = WS(server.http, f"/ws?channels=demo&apiKey={server.key}", headers=PMD)
    assert "sec-websocket-extensions" not in ws.head
    ws = WS(server.http, f"/v1/publish?channel=demo&apiKey={server.key}", headers=PMD)
    assert "sec-websocket-extensions" not in ws.head


def test_compressed_publishes(compressing):
    ws = WS(compressing.http, f"/v1/publish?channel=c&apiKey={key_text('full')}", headers=PMD)
    assert "permessage-deflate" in ws.head["sec-websocket-extensions"]
    ws.send_frame(TEXT, deflate(b'{"id":1,"val":"%s"}' % (b"x" * 5000)), rsv=RSV1)
    assert json.loads(inflated(ws, TEXT, 15)[0])["id"] == 1
    ws.send_frame(TEXT, deflate(b'"' + b"x" * (40 << 20)), rsv=RSV1)
    ws.closed(1009)
