"""A small MQTT 3.1.1 and 5.0 client for wire-exact tests, written from the OASIS texts.

It hides nothing: packets are built by functions that return bytes, so that a test can bend any of
them, and what the server sends comes back as `Packet` objects in the order of arrival. Nothing is
acknowledged unless a test asks for it (`ack`, `collect`). All waits have a deadline and none polls.

Sections named in comments are those of "MQTT Version 5.0" (OASIS Standard, 2019) and, with 3.1.1:
in front, of "MQTT Version 3.1.1" (2014).
"""
import socket
import ssl
import struct
import time

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = (
    8, 9, 10, 11, 12, 13, 14, 15)
NAMES = dict(enumerate("RESERVED CONNECT CONNACK PUBLISH PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE "
                       "SUBACK UNSUBSCRIBE UNSUBACK PINGREQ PINGRESP DISCONNECT AUTH".split()))
DEADLINE = 15.0     # seconds: how long a test waits for what must come

# 2.2.2.2: name -> (identifier, type)
PROPS = {
    "payload_format": (0x01, "byte"), "message_expiry": (0x02, "u32"),
    "content_type": (0x03, "str"), "response_topic": (0x08, "str"),
    "correlation_data": (0x09, "bin"), "subscription_id": (0x0B, "var"),
    "session_expiry": (0x11, "u32"), "assigned_client_id": (0x12, "str"),
    "server_keep_alive": (0x13, "u16"), "auth_method": (0x15, "str"),
    "auth_data": (0x16, "bin"), "request_problem_info": (0x17, "byte"),
    "will_delay": (0x18, "u32"), "request_response_info": (0x19, "byte"),
    "response_info": (0x1A, "str"), "server_reference": (0x1C, "str"),
    "reason_string": (0x1F, "str"), "receive_maximum": (0x21, "u16"),
    "topic_alias_maximum": (0x22, "u16"), "topic_alias": (0x23, "u16"),
    "maximum_qos": (0x24, "byte"), "retain_available": (0x25, "byte"),
    "user": (0x26, "pair"), "maximum_packet_size": (0x27, "u32"),
    "wildcard_available": (0x28, "byte"), "subscription_id_available": (0x29, "byte"),
    "shared_available": (0x2A, "byte"),
}
BY_ID = {i: (n, t) for n, (i, t) in PROPS.items()}


class ProtocolError(AssertionError):
    """The server sent what the standard does not allow."""


class Closed(AssertionError):
    """The server closed the connection where the test expected a packet."""


# ---- encoding -----------------------------------------------------------------------------------

def varint(n):
    out = bytearray()
    while True:
        n, b = divmod(n, 128)
        out.append(b | (0x80 if n else 0))
        if not n:
            return bytes(out)


def u16(n):
    return struct.pack(">H", n)


def u32(n):
    return struct.pack(">I", n)


def binary(b):
    return u16(len(b)) + b


def string(s):
    return binary(s if isinstance(s, bytes) else s.encode())


def prop(name, value):
    """One property; value of `user` is a (key, value) pair."""
    ident, kind = PROPS[name]
    head = bytes([ident])
    if kind == "byte":
        return head + bytes([value])
    if kind == "u16":
        return head + u16(value)
    if kind == "u32":
        return head + u32(value)
    if kind == "var":
        return head + varint(value)
    if kind == "pair":
        return head + string(value[0]) + string(value[1])
    return head + (string(value) if kind == "str" else binary(value))


def props(p=None):
    """A property block from None, a dict (lists repeat), a list of pairs, or raw bytes."""
    if p is None:
        p = {}
    if isinstance(p, bytes):
        return varint(len(p)) + p
    items = p.items() if isinstance(p, dict) else p
    body = b""
    for name, value in items:
        for v in value if isinstance(value, list) else [value]:
            body += prop(name, v)
    return varint(len(body)) + body


def packet(kind, flags, body):
    return bytes([kind << 4 | flags]) + varint(len(body)) + body


class Will:
    def __init__(self, topic, payload=b"", qos=0, retain=False, props=None):
        self.topic, self.payload, self.qos, self.retain, self.props = (
            topic, payload.encode() if isinstance(payload, str) else payload, qos, retain, props)


def connect(client_id="", v=5, clean=True, keepalive=60, user=None, password=None, will=None,
            properties=None, name=b"MQTT", level=None, flags=None):
    """3.1; `flags`, `name` and `level` override what the other arguments say."""
    bits = (2 if clean else 0)
    payload = string(client_id)
    if will is not None:
        bits |= 4 | will.qos << 3 | (0x20 if will.retain else 0)
        if v == 5:
            payload += props(will.props)
        payload += string(will.topic) + binary(will.payload)
    if user is not None:
        bits |= 0x80
        payload += string(user)
    if password is not None:
        bits |= 0x40
        payload += string(password)
    body = string(name) + bytes([v if level is None else level]) + bytes(
        [bits if flags is None else flags]) + u16(keepalive)
    if v == 5:
        body += props(properties)
    return packet(CONNECT, 0, body + payload)


def publish(topic, payload=b"", qos=0, retain=False, pid=None, dup=False, v=5, properties=None):
    body = string(topic)
    if pid is not None:
        body += u16(pid)
    if v == 5:
        body += props(properties)
    if isinstance(payload, str):
        payload = payload.encode()
    return packet(PUBLISH, (8 if dup else 0) | qos << 1 | (1 if retain else 0), body + payload)


def ack(kind, pid, rc=None, properties=None):
    """PUBACK, PUBREC, PUBREL or PUBCOMP; rc None writes the two-byte form."""
    body = u16(pid)
    if rc is not None:
        body += bytes([rc])
        if properties is not None:
            body += props(properties)
    return packet(kind, 2 if kind == PUBREL else 0, body)


def sub_options(qos=0, no_local=False, rap=False, rh=0):
    return qos | (4 if no_local else 0) | (8 if rap else 0) | rh << 4


def subscribe(pid, filters, v=5, properties=None):
    """filters: list of (filter, options byte)."""
    body = u16(pid) + (props(properties) if v == 5 else b"")
    for f, options in filters:
        body += string(f) + bytes([options])
    return packet(SUBSCRIBE, 2, body)


def unsubscribe(pid, filters, v=5, properties=None):
    body = u16(pid) + (props(properties) if v == 5 else b"")
    return packet(UNSUBSCRIBE, 2, body + b"".join(string(f) for f in filters))


def disconnect(rc=None, properties=None):
    body = b"" if rc is None else bytes([rc])
    if properties is not None:
        body += props(properties)
    return packet(DISCONNECT, 0, body)


PING = packet(PINGREQ, 0, b"")


# ---- decoding -----------------------------------------------------------------------------------

class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if self.at + n > len(self.data):
            raise ProtocolError(f"packet too short: {self.data.hex()}")
        self.at += n
        return self.data[self.at - n:self.at]

    def byte(self):
        return self.take(1)[0]

    def u16(self):
        return struct.unpack(">H", self.take(2))[0]

    def u32(self):
        return struct.unpack(">I", self.take(4))[0]

    def bin(self):
        return self.take(self.u16())

    def str(self):
        return self.bin().decode()

    def var(self):
        n = shift = 0
        while True:
            b = self.byte()
            n |= (b & 0x7F) << shift
            if not b & 0x80:
                return n
            shift += 7
            if shift > 21:
                raise ProtocolError("variable byte integer of more than four bytes")

    def pair(self):
        return self.str(), self.str()

    def rest(self):
        return self.take(len(self.data) - self.at)

    def props(self):
        """A list of (name, value) in the order of the wire."""
        if self.at == len(self.data):
            return []
        end, out = self.var(), []
        end += self.at
        while self.at < end:
            ident = self.var()
            if ident not in BY_ID:
                raise ProtocolError(f"unknown property 0x{ident:02x}")
            name, kind = BY_ID[ident]
            out.append((name, getattr(self, kind)()))
        if self.at != end:
            raise ProtocolError("property length does not fit its properties")
        return out


# Which properties the server may send, by packet (table 2-4).
MAY_SEND = {
    CONNACK: {"session_expiry", "assigned_client_id", "server_keep_alive", "auth_method",
              "auth_data", "response_info", "server_reference", "reason_string",
              "receive_maximum", "topic_alias_maximum", "maximum_qos", "retain_available", "user",
              "maximum_packet_size", "wildcard_available", "subscription_id_available",
              "shared_available"},
    PUBLISH: {"payload_format", "message_expiry", "content_type", "response_topic",
              "correlation_data", "subscription_id", "topic_alias", "user"},
    DISCONNECT: {"server_reference", "reason_string", "user"},
    **{k: {"reason_string", "user"} for k in (PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK)},
}
ONCE = set(PROPS) - {"user", "subscription_id"}


class Packet:
    """What arrived: kind, flags, raw, size, and the fields that the kind has."""

    def __init__(self, first, body, v, size):
        self.kind, self.flags, self.size = first >> 4, first & 15, size
        self.rc, self.pid, self.list = None, None, []
        r = Reader(body)
        getattr(self, "_" + NAMES[self.kind].lower(), self._refuse)(r, v)
        if r.at != len(body):
            raise ProtocolError(f"{NAMES[self.kind]} has {len(body) - r.at} bytes too many")
        self._check_props()

    def _check_props(self):
        names = [n for n, _ in self.list]
        for n in names:
            if n not in MAY_SEND.get(self.kind, set()):
                raise ProtocolError(f"{NAMES[self.kind]} may not carry {n}")
            if n in ONCE and names.count(n) > 1:
                raise ProtocolError(f"{n} twice in {NAMES[self.kind]}")

    def _flags(self, want):
        if self.flags != want:
            raise ProtocolError(f"{NAMES[self.kind]} with flags {self.flags:04b}")

    def _refuse(self, r, v):
        raise ProtocolError(f"the server may not send {NAMES[self.kind]}")

    def _connack(self, r, v):
        self._flags(0)
        bits = r.byte()
        if bits > 1:
            raise ProtocolError("reserved CONNACK flags set")
        self.session_present = bool(bits)
        self.rc = r.byte()
        if v == 5:
            self.list = r.props()
        if self.rc and self.session_present:
            raise ProtocolError("session present with an error")     # MQTT-3.2.2-6

    def _publish(self, r, v):
        self.dup, self.qos, self.retain = (
            bool(self.flags & 8), self.flags >> 1 & 3, bool(self.flags & 1))
        if self.qos == 3 or (self.dup and not self.qos):
            raise ProtocolError(f"PUBLISH with flags {self.flags:04b}")
        self.topic = r.str()
        if self.qos:
            self.pid = r.u16()
            if not self.pid:
                raise ProtocolError("packet identifier 0")
        if v == 5:
            self.list = r.props()
        self.payload = r.rest()

    def _ack(self, r, v):
        self._flags(2 if self.kind == PUBREL else 0)
        self.pid, self.rc = r.u16(), 0
        if v == 5 and r.at < len(r.data):
            self.rc = r.byte()
            self.list = r.props()

    _puback = _pubrec = _pubrel = _pubcomp = _ack

    def _suback(self, r, v):
        self._flags(0)
        self.pid = r.u16()
        if v == 5:
            self.list = r.props()
        self.codes = list(r.rest())

    def _unsuback(self, r, v):
        self._suback(r, v)

    def _pingresp(self, r, v):
        self._flags(0)

    def _disconnect(self, r, v):
        self._flags(0)
        if v != 5:
            raise ProtocolError("a 3.1.1 server never sends DISCONNECT")
        self.rc = r.byte() if r.data else 0
        self.list = r.props()

    def _auth(self, r, v):
        self.rc = r.byte() if r.data else 0
        self.list = r.props()

    def prop(self, name, default=None):
        return next((v for n, v in self.list if n == name), default)

    def props(self, name):
        return [v for n, v in self.list if n == name]

    @property
    def users(self):
        return self.props("user")

    def __repr__(self):
        skip = {"kind", "list", "size"}
        f = {k: v for k, v in self.__dict__.items() if k not in skip and v is not None}
        return f"<{NAMES[self.kind]} {f} {self.list or ''}>"


# ---- the connection -----------------------------------------------------------------------------

class Client:
    """One connection. Not connected until `connect()`; `open()` gives the bare TCP connection."""

    def __init__(self, server, client_id=None, v=5, tls=None, addr=None, **kw):
        self.server, self.v, self.kw = server, v, kw
        self.client_id = server.uid("c") if client_id is None else client_id
        self.sock, self.buf, self.seen, self.pids = None, b"", [], 0
        self.early = []     # PUBLISH and PUBREL packets that came while waiting for an answer
        self.tls, self.addr = tls, addr
        self.aliases = {}
        server.clients.append(self)

    # -- bytes
    def open(self, first=b""):
        """TCP (and TLS) up; `first` goes ahead of any TLS (a PROXY header)."""
        host, port = self.addr or self.server.mqtt
        self.sock = socket.create_connection((host, port), timeout=DEADLINE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if first:
            self.sock.sendall(first)
        if self.tls:
            self.sock = self.tls.wrap_socket(self.sock, server_hostname="localhost")
        self.buf, self.early = b"", []
        return self

    def send(self, data):
        self.sock.settimeout(DEADLINE)
        self.sock.sendall(data)
        return self

    def _fill(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.sock.settimeout(left)
        try:
            data = self.sock.recv(1 << 16)
        except (ConnectionError, ssl.SSLError) as e:
            if isinstance(e, ssl.SSLWantReadError):
                raise TimeoutError from e
            data = b""
        if not data:
            raise Closed("the server closed the connection")
        self.buf += data

    def recv(self, timeout=None):
        """The next packet; TimeoutError after timeout, Closed at the end of the stream."""
        return self.early.pop(0) if self.early else self.next(timeout)

    def next(self, timeout=None):
        deadline = time.monotonic() + (timeout or DEADLINE)
        while True:
            n = shift = 0
            for i, b in enumerate(self.buf[1:5], 1):
                n |= (b & 0x7F) << shift
                shift += 7
                if not b & 0x80:
                    if len(self.buf) >= 1 + i + n:
                        first, body = self.buf[0], self.buf[1 + i:1 + i + n]
                        self.buf = self.buf[1 + i + n:]
                        return self._take(Packet(first, body, self.v, 1 + i + n))
                    break
            else:
                if len(self.buf) >= 5:
                    raise ProtocolError(f"bad remaining length {self.buf[:5].hex()}")
            self._fill(deadline)

    def _take(self, p):
        """Resolves the server's topic aliases (3.3.2.3.4), so that topic is always the name."""
        if p.kind == PUBLISH and self.v == 5:
            alias = p.prop("topic_alias")
            p.wire_topic = p.topic
            if alias is not None:
                if not alias:
                    raise ProtocolError("topic alias 0")
                if p.topic:
                    self.aliases[alias] = p.topic
                elif alias not in self.aliases:
                    raise ProtocolError(f"topic alias {alias} was never set")
                p.topic = self.aliases[alias]
            elif not p.topic:
                raise ProtocolError("PUBLISH without topic and alias")
        self.seen.append(p)
        return p

    # -- packets
    def pid(self):
        self.pids = self.pids % 65535 + 1
        return self.pids

    def connect_bytes(self, **over):
        kw = {**self.kw, **over}
        if "user" not in kw and "password" not in kw:
            kw["user"], kw["password"] = self.server.user, self.server.key
        return connect(self.client_id, self.v, **kw)

    def connect(self, rc=0, present=None, **over):
        """Opens, sends CONNECT, returns the CONNACK, which must carry `rc`."""
        if self.sock is None:
            self.open()
        self.send(self.connect_bytes(**over))
        p = self.expect(CONNACK)
        assert p.rc == rc, f"CONNACK 0x{p.rc:02x}, expected 0x{rc:02x}: {p}"
        if present is not None:
            assert p.session_present is present, p
        self.connack = p
        return p

    def expect(self, kind, timeout=None, **fields):
        """The next packet, which must be of this kind with these fields."""
        try:
            p = self.recv(timeout)
        except TimeoutError:
            raise AssertionError(f"no {NAMES[kind]} within {timeout or DEADLINE} s") from None
        assert p.kind == kind, f"expected {NAMES[kind]} {fields}, got {p}"
        for k, want in fields.items():
            got = getattr(p, k)
            if k == "payload" and isinstance(want, str):
                want = want.encode()
            assert got == want, f"{k} is {got!r}, expected {want!r}, in {p}"
        return p

    def answer(self, kind, **fields):
        """The answer to something just sent; messages that overtake it (3.8.4 allows that) are
        kept for the next recv."""
        early, self.early = self.early, []
        try:
            while True:
                p = self.next()
                if p.kind not in (PUBLISH, PUBREL):
                    break
                early.append(p)
        except TimeoutError:
            raise AssertionError(f"no {NAMES[kind]} within {DEADLINE} s, only {early}") from None
        self.early = [p]
        try:
            return self.expect(kind, **fields)
        finally:
            self.early = early

    def subscribe(self, *filters, codes=None, properties=None, **opt):
        """Filters: names, or (name, options byte). Expects SUBACK next; it must grant all unless
        `codes` says otherwise."""
        o = sub_options(**opt)
        fs = [f if isinstance(f, tuple) else (f, o) for f in filters]
        pid = self.pid()
        self.send(subscribe(pid, fs, self.v, properties))
        p = self.answer(SUBACK, pid=pid)
        want = [f[1] & 3 for f in fs] if codes is None else codes
        assert p.codes == want, f"SUBACK {[hex(c) for c in p.codes]}, expected {want} for {fs}"
        return p

    def unsubscribe(self, *filters, codes=None, properties=None):
        pid = self.pid()
        self.send(unsubscribe(pid, filters, self.v, properties))
        p = self.answer(UNSUBACK, pid=pid)
        if self.v == 5:
            want = [0] * len(filters) if codes is None else codes
            assert p.codes == want, f"UNSUBACK {p.codes}, expected {want}"
        return p

    def publish(self, topic, payload=b"", qos=0, rc=0, **kw):
        """Publishes and completes the handshake: returns the PUBACK or PUBREC."""
        pid = kw.pop("pid", None) or (self.pid() if qos else None)
        self.send(publish(topic, payload, qos, pid=pid, v=self.v, **kw))
        if not qos:
            return None
        p = self.answer(PUBACK if qos == 1 else PUBREC, pid=pid)
        ok = {0, 0x10} if rc == 0 else {rc}         # 0x10: no matching subscribers
        assert p.rc in ok, f"reason 0x{p.rc:02x}, expected 0x{rc:02x}: {p}"
        if qos == 2 and p.rc < 0x80:
            self.send(ack(PUBREL, pid))
            self.answer(PUBCOMP, pid=pid, rc=0)
        return p

    def ack(self, p):
        """Completes the receiving side of one PUBLISH."""
        if p.qos == 1:
            self.send(ack(PUBACK, p.pid))
        elif p.qos == 2:
            self.send(ack(PUBREC, p.pid))
            self.expect(PUBREL, pid=p.pid)
            self.send(ack(PUBCOMP, p.pid))
        return p

    def message(self, topic=None, payload=None, timeout=None, **fields):
        """The next packet is this PUBLISH; it is acknowledged."""
        if topic is not None:
            fields["topic"] = topic
        if payload is not None:
            fields["payload"] = payload
        return self.ack(self.expect(PUBLISH, timeout, **fields))

    def until(self, stop, timeout=None):
        """All PUBLISH packets up to the first for which stop(p) holds, acknowledged without
        assuming that PUBREL follows PUBREC at once. Returns them with the last one."""
        out, deadline, open_rel = [], time.monotonic() + (timeout or DEADLINE), set()
        done = False
        while not done or open_rel:
            try:
                p = self.recv(deadline - time.monotonic())
            except TimeoutError:
                raise AssertionError(f"deadline; so far {len(out)}: {out[-5:]}") from None
            if p.kind == PUBREL:
                self.send(ack(PUBCOMP, p.pid))
                open_rel.discard(p.pid)
            elif p.kind == PUBLISH:
                out.append(p)
                if p.qos == 1:
                    self.send(ack(PUBACK, p.pid))
                elif p.qos == 2:
                    self.send(ack(PUBREC, p.pid))
                    open_rel.add(p.pid)
                done = done or bool(stop(p))
            else:
                raise AssertionError(f"unexpected {p}")
        return out

    def collect(self, n, timeout=None):
        """The next n messages, acknowledged."""
        count = iter(range(1, n + 1))
        return self.until(lambda p: next(count) == n, timeout) if n else []

    def ping(self):
        self.send(PING)
        return self.answer(PINGRESP)

    def closed(self, rc=None, timeout=None):
        """The server ends the connection: 5.0 may say why first. rc (one code or several) must be
        what it says; on 3.1.1 nothing may be said. Returns the DISCONNECT or None."""
        said, deadline = None, time.monotonic() + (timeout or DEADLINE)
        while True:
            try:
                p = self.recv(deadline - time.monotonic())
            except Closed:
                break
            except TimeoutError:
                raise AssertionError(
                    f"the connection stayed open for {timeout or DEADLINE} s") from None
            assert p.kind == DISCONNECT and said is None, f"expected the end, got {p}"
            said = p
        if rc is not None and self.v == 5:
            want = rc if isinstance(rc, (list, tuple, set)) else [rc]
            assert said is not None, f"closed without DISCONNECT {[hex(c) for c in want]}"
            assert said.rc in want, f"DISCONNECT 0x{said.rc:02x}, expected {[hex(c) for c in want]}"
        self.drop()
        return said

    def disconnect(self, rc=None, properties=None):
        self.send(disconnect(rc, properties))
        self.half_close_and_wait()

    def half_close_and_wait(self):
        """Waits until the server has closed too, so that what follows comes after it."""
        deadline = time.monotonic() + DEADLINE
        try:
            while True:
                self.recv(deadline - time.monotonic())
        except (Closed, TimeoutError):
            pass
        self.drop()

    def drop(self, rst=False):
        """Closes our end; rst resets the connection as a crash does."""
        if self.sock is None:
            return
        if rst:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
        self.sock = None
        self.aliases = {}
