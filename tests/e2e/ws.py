"""A small WebSocket client for wire-exact tests, written from RFC 6455: frames go out as a test
builds them, and come in one by one. It refuses what a server may not send.

    WS(addr, path)      the handshake, then send_frame, frame, message, close
    Stream(ws)          what a socket is to raw.Client: MQTT inside binary frames (MQTT 5.0, 6)
"""
import base64
import hashlib
import os
import socket
import struct
import time

import raw

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FIN, RSV1 = 0x80, 0x40
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Refused(Exception):
    """The server answered with something else than 101."""

    def __init__(self, status, headers, body):
        super().__init__(f"{status} {body!r}")
        self.status, self.headers, self.body = status, headers, body


def xor(data, mask):
    n = len(data)
    key = int.from_bytes((mask * (n // 4 + 1))[:n], "little")
    return (int.from_bytes(data, "little") ^ key).to_bytes(n, "little")


def frame(op, payload=b"", fin=True, rsv=0, mask=b"\x12\x34\x56\x78", length=None):
    """One frame as a client sends it; mask None: unmasked. `length` is the promised one."""
    if isinstance(payload, str):
        payload = payload.encode()
    n = len(payload) if length is None else length
    bit = 0x80 if mask else 0
    head = bytes([op | (FIN if fin else 0) | rsv])
    if n < 126:
        head += bytes([bit | n])
    elif n < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", n)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", n)
    return head + (mask + xor(payload, mask) if mask else payload)


def close_payload(code, reason=""):
    return struct.pack(">H", code) + reason.encode()


class WS:
    def __init__(self, addr, path, protocols=(), origin=None, headers=(), open=True, host=None,
                 sock=None):
        self.sock = sock or socket.create_connection(addr, timeout=raw.DEADLINE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buf, self.head = b"", {}
        self.key = base64.b64encode(os.urandom(16))
        lines = [f"GET {path} HTTP/1.1", f"Host: {host or '%s:%d' % addr}", "Upgrade: websocket",
                 "Connection: Upgrade", f"Sec-WebSocket-Key: {self.key.decode()}",
                 "Sec-WebSocket-Version: 13"]
        if protocols:
            lines.append("Sec-WebSocket-Protocol: " + ", ".join(protocols))
        if origin is not None:
            lines.append(f"Origin: {origin}")
        self.request = "\r\n".join([*lines, *headers, "", ""]).encode()
        if open:
            self.open()

    def open(self, behind=b""):
        """The handshake; `behind` is sent with it."""
        self.sock.sendall(self.request + behind)
        while b"\r\n\r\n" not in self.buf:
            if not self.fill():
                raise raw.Closed("closed in the handshake")
        head, _, self.buf = self.buf.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        self.head = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:])}
        status = int(lines[0].split()[1])
        if status != 101:
            n = int(self.head.get("content-length", 0))
            while len(self.buf) < n and self.fill():
                pass
            raise Refused(status, self.head, self.buf[:n])
        accept = base64.b64encode(hashlib.sha1(self.key + GUID).digest()).decode()
        assert self.head["sec-websocket-accept"] == accept
        assert self.head["upgrade"].lower() == "websocket"
        assert self.head["connection"].lower() == "upgrade"
        return self

    def fill(self, timeout=None):
        self.sock.settimeout(raw.DEADLINE if timeout is None else timeout)
        try:
            data = self.sock.recv(1 << 18)
        except ConnectionError:
            data = b""
        self.buf += data
        return bool(data)

    def send(self, data):
        self.sock.settimeout(raw.DEADLINE)
        self.sock.sendall(data)
        return self

    def send_frame(self, op, payload=b"", **kw):
        return self.send(frame(op, payload, **kw))

    def _need(self, n, deadline):
        while len(self.buf) < n:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if not self.fill(left):
                raise raw.Closed("the server closed the connection")

    def frame(self, timeout=None):
        """(first byte, payload) of the next frame."""
        deadline = time.monotonic() + (timeout or raw.DEADLINE)
        self._need(2, deadline)
        first, n, at = self.buf[0], self.buf[1], 2
        assert not n & 0x80, "a server's frame is masked"
        assert not first & 0x30, f"reserved bits: {first:02x}"
        if n == 126:
            self._need(4, deadline)
            n, at = struct.unpack(">H", self.buf[2:4])[0], 4
            assert n > 125, "not the shortest length"
        elif n == 127:
            self._need(10, deadline)
            n, at = struct.unpack(">Q", self.buf[2:10])[0], 10
            assert n > 65535, "not the shortest length"
        if first & 8:
            assert first & FIN and n <= 125, "a control frame in pieces, or too long"
        self._need(at + n, deadline)
        payload, self.buf = self.buf[at:at + n], self.buf[at + n:]
        return first, payload

    def expect(self, op, payload=None, rsv=0, timeout=None):
        first, got = self.frame(timeout)
        assert first == op | FIN | rsv, f"frame {first:02x} {got[:60]!r}, expected {op:02x}"
        if payload is not None:
            assert got == (payload.encode() if isinstance(payload, str) else payload)
        return got

    def closed(self, code=None, timeout=None):
        """The server ends it: a close frame with this code (any of several; None: no close frame
        is asked for), then the end of the stream. Returns the reason."""
        deadline = time.monotonic() + (timeout or raw.DEADLINE)
        said = None
        while True:
            try:
                first, payload = self.frame(deadline - time.monotonic())
            except raw.Closed:
                break
            assert said is None, f"a frame behind the close frame: {first:02x} {payload[:40]!r}"
            if first == CLOSE | FIN:
                said = payload
                try:
                    self.send_frame(CLOSE, payload[:2])
                except OSError:
                    pass
        if code is not None:
            want = code if isinstance(code, (tuple, list, set)) else [code]
            assert said is not None, f"no close frame, expected {want}"
            got = struct.unpack(">H", said[:2])[0] if said else 1005
            assert got in want, f"close code {got}, expected {want}: {said[2:]!r}"
        self.sock.close()
        return said[2:].decode() if said else ""


class Stream:
    """Looks like a socket to raw.Client. `cut` makes frames of so many payload bytes each."""

    def __init__(self, addr, path="/mqtt", cut=None, **kw):
        self.ws = WS(addr, path, protocols=["mqtt"], **kw)
        assert self.ws.head["sec-websocket-protocol"] == "mqtt"
        self.cut, self.timeout, self.left, self.frames = cut, raw.DEADLINE, b"", 0
        self.said = None

    def settimeout(self, t):
        self.timeout = t

    def setsockopt(self, *a):
        self.ws.sock.setsockopt(*a)

    def sendall(self, data):
        step = self.cut or len(data) or 1
        self.ws.send(b"".join(frame(BINARY, data[i:i + step]) for i in range(0, len(data), step)))

    def recv(self, n):
        while not self.left:
            try:
                first, payload = self.ws.frame(self.timeout)
            except raw.Closed:
                return b""
            if first == PING | FIN:
                self.ws.send_frame(PONG, payload)
            elif first == CLOSE | FIN:
                self.said = payload
            else:
                assert first == BINARY | FIN, f"frame {first:02x}"
                assert self.said is None, "data behind the close frame"
                assert payload, "an empty frame"
                self.frames += 1
                self.left = payload
        out, self.left = self.left[:n], self.left[n:]
        return out

    def code(self):
        return struct.unpack(">H", self.said[:2])[0] if self.said else None

    def close(self):
        self.ws.sock.close()
