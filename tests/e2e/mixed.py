"""Load over every protocol at once, that counts what it does: what test_46 and test_47 need.

    m = Mix(server, app, seed)      one app's publishers and subscribers, as threads
    m.publish_all(n)                n publishes over each way in, most of them accepted
    m.read_all(channel)             a well-behaved subscriber of each kind
    m.rude(channel)                 subscribers that are slow, or gone without a word
    m.finish()                      publishers are through;   m.end()  the subscribers, too

`offered`, `accepted` and `rejected[reason]` are what the server has to have counted, by protocol;
`received` is what the well-behaved subscribers got. Everything is acknowledged where the protocol
has a word for it, and QoS 0 ends with a PING, so that the numbers are exact.
"""
import collections
import contextlib
import http.client
import json
import random
import socket
import threading
import time
import urllib.parse

import msgpack

import raw
from harness import DEADLINE
from lvconf import key_text
from ws import BINARY, CLOSE, FIN, PING, PONG, TEXT, WS, Stream


class Customer(WS):
    """A WebSocket of the hub; `next` gives decoded messages."""

    def __init__(self, sock, path="/ws", **q):
        self.packed = q.get("encoding") == "msgpack"
        super().__init__(("x", 1), f"{path}?{urllib.parse.urlencode(q, safe=',:/')}", sock=sock)

    def next(self, timeout=None):
        """The next message; None: the server closed."""
        while True:
            first, data = self.frame(timeout)
            if first == PING | FIN:
                self.send_frame(PONG, data)
            elif first == CLOSE | FIN:
                return None
            else:
                return msgpack.unpackb(data) if self.packed else json.loads(data)


def rst(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


class Mix:
    def __init__(self, s, app="dev", full="full", weak="out", seed=1, tls=None):
        """tls: an SSLContext; then all of it goes over the TLS listeners."""
        self.tls, self.http = tls, s.https if tls else s.http
        self.s, self.app, self.full, self.weak = s, app, key_text(full), key_text(weak)
        self.seed, self.stop, self.lock = seed, threading.Event(), threading.Lock()
        self.offered, self.accepted = collections.Counter(), collections.Counter()
        self.rejected, self.received = collections.Counter(), collections.Counter()
        self.work, self.readers, self.errors, self.open = [], [], [], []
        self.ready = threading.Semaphore(0)

    # ---- threads ----

    def spawn(self, into, fn, *args, **kw):
        def run():
            try:
                fn(*args, **kw)
            except (raw.Closed, OSError, AssertionError, KeyError, ValueError) as e:
                if not self.stop.is_set() or isinstance(e, AssertionError):
                    self.errors.append(f"{fn.__name__}{args}: {e!r}")
        th = threading.Thread(target=run, daemon=True)
        into.append(th)
        th.start()
        return th

    def finish(self):
        for th in self.work:
            th.join(DEADLINE * 4)
            assert not th.is_alive(), f"a publisher hangs; {self.errors}"
        assert not self.errors, self.errors
        self.work.clear()

    def end(self):
        self.stop.set()
        for th in self.readers:
            th.join(DEADLINE)
            assert not th.is_alive(), f"a subscriber hangs; {self.errors}"
        for sock in self.open:
            with contextlib.suppress(OSError):
                sock.close()
        assert not self.errors, self.errors

    def name(self, proto):
        return proto + "s" * bool(self.tls)

    def note(self, proto, offered, accepted, **rejected):
        proto = self.name(proto)
        with self.lock:
            self.offered[proto] += offered
            self.accepted[proto] += accepted
            self.rejected.update({k.replace("_", "-"): v for k, v in rejected.items()})
            assert offered == accepted + sum(rejected.values())

    def got(self, proto, n=1):
        with self.lock:
            self.received[self.name(proto)] += n

    # ---- clients ----

    def socket(self, small=False):
        """Connected to the HTTP listener; small: it takes a few bytes only."""
        sock = socket.socket()
        if small:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(DEADLINE)
        sock.connect(self.http)
        return self.tls.wrap_socket(sock, server_hostname="localhost") if self.tls else sock

    def customer(self, path="/ws", small=False, **q):
        return Customer(self.socket(small), path, apiKey=self.full, **q)

    def requests(self):
        if self.tls:
            return http.client.HTTPSConnection("localhost", self.http[1], timeout=DEADLINE,
                                               context=self.tls)
        return http.client.HTTPConnection(*self.http, timeout=DEADLINE)

    def mqtt(self, v=5, ws=False, weak=False, small=False, **kw):
        if self.tls:
            kw = {**kw, "tls": self.tls, "addr": self.s.mqtts}
        c = self.s.client(v=v, user=self.app, password=self.weak if weak else self.full, **kw)
        if ws:
            c.sock = Stream(("x", 1), sock=self.socket())
        if small:
            c.open()
            c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.connect()
        return c

    # ---- publishers ----

    def by_mqtt(self, n, v, qos, ws, channel):
        c, rng = self.mqtt(v, ws), random.Random(f"{self.seed}{v}{qos}{ws}")
        for i in range(n):
            p = None
            if v == 5:
                p = {"user": [("cat", rng.choice("xyz")),
                                       ("tms", str(int(time.time() * 1000)))]}
            c.publish(f"{channel}/{rng.choice('ab')}/{i % 7}", json.dumps([i, "m" * 40]), qos,
                      **({"properties": p} if p else {}))
        c.ping()
        c.disconnect()
        self.note("ws" if ws else "mqtt", n, n)

    def by_mqtt_wrong(self, n):
        """No right to, $SYS, and a QoS 2 publish that comes again."""
        c = self.mqtt(weak=True)
        for i in range(n):
            c.publish("in/x", b"no", 1, rc=0x87)
            c.publish("$SYS/x", b"no", 1)
        c.disconnect()
        c = self.mqtt()
        for i in range(n):
            for dup in (False, True, True):
                c.send(raw.publish("again/x", b"2", 2, pid=i + 1, dup=dup))
                c.answer(raw.PUBREC, pid=i + 1)
            c.send(raw.ack(raw.PUBREL, i + 1))
            c.answer(raw.PUBCOMP, pid=i + 1)
        c.disconnect()
        self.note("mqtt", 5 * n, n, forbidden=n, sys=n, duplicate=2 * n)

    def by_will(self, n):
        for i in range(n):
            c = self.mqtt(will=raw.Will("wills/x", b"gone", 1))
            c.drop()
        self.note("mqtt", n, n)

    def post(self, c, channel, body, ctype="application/json", weak=False, idem=None, **q):
        head = {"Authorization": "Bearer " + (self.weak if weak else self.full),
                "Content-Type": ctype, **({"Idempotency-Key": idem} if idem else {})}
        c.request("POST", f"/v1/channels/{channel}/messages?{urllib.parse.urlencode(q)}",
                  body if isinstance(body, (bytes, str)) else json.dumps(body), head)
        r = c.getresponse()
        return r.status, json.loads(r.read())

    def by_http(self, n, channel):
        c, rng = self.requests(), random.Random(self.seed)
        for i in range(n):
            a = self.post(c, channel, [i, "h"], key=f"{rng.choice('ab')}/h", cat=rng.choice("xyz"),
                          tms=int(time.time() * 1000))
            assert a[0] == 200, a
        self.note("http", n, n)
        for i in range(n):              # once, and twice more
            first = self.post(c, channel, i, key="a/i", idem=f"{self.app}{self.seed}{i}")
            assert first[0] == 200, first
            for _ in range(2):
                a = self.post(c, channel, i, key="a/i", idem=f"{self.app}{self.seed}{i}")
                assert a == first
        self.note("http", 3 * n, n, duplicate=2 * n)
        assert self.post(c, "in", 1, weak=True)[0] == 403
        self.note("http", 1, 0, forbidden=1)

    def by_batch(self, n, channel):
        c = self.requests()
        for i in range(n // 10):
            items = [{"key": f"a/{k}", "cat": "x", "val": [i, k]} for k in range(5)]
            status, a = self.post(c, channel, items, batch=1)
            assert status == 200 and len(a["results"]) == 5, a
            lines = "\n".join([*map(json.dumps, items), '{"key":"a/#","val":1}', '{"key":"a"}'])
            status, a = self.post(c, channel, lines, "application/x-ndjson")
            assert status == 207 and [("pos" in x) for x in a["results"]] == [True] * 5 + [False] * 2
            self.note("http", 12, 10, topic=1, payload=1)

    def by_ws(self, n, channel, packed=False):
        q = {"channel": channel, "apiKey": self.full, **({"encoding": "msgpack"} if packed else {})}
        c = WS(("x", 1), "/v1/publish?" + urllib.parse.urlencode(q), sock=self.socket())
        for i in range(n):
            m = {"id": i, "key": f"b/{i % 5}", "cat": "xyz"[i % 3], "val": [i, "w"]}
            c.send_frame(BINARY if packed else TEXT, msgpack.packb(m) if packed else json.dumps(m))
        c.send_frame(TEXT, '{"id":"bad","key":"#","val":1}')
        for i in range(n + 1):
            while (got := c.frame())[0] == PING | FIN:
                pass
            a = msgpack.unpackb(got[1]) if packed and i < n else json.loads(got[1])
            assert a["id"] == (i if i < n else "bad") and ("pos" in a) == (i < n), a
        c.sock.close()
        self.note("ws", n + 1, n, topic=1)

    def publish_all(self, n, channel="c"):
        for v in (4, 5):
            for qos in (0, 1, 2):
                self.spawn(self.work, self.by_mqtt, n, v, qos, False, channel)
        self.spawn(self.work, self.by_mqtt, n, 5, 1, True, channel)
        self.spawn(self.work, self.by_mqtt, n, 4, 0, True, channel)
        self.spawn(self.work, self.by_http, n, channel)
        self.spawn(self.work, self.by_batch, n, channel)
        self.spawn(self.work, self.by_ws, n, channel)
        self.spawn(self.work, self.by_ws, n, channel, True)
        self.spawn(self.work, self.by_mqtt_wrong, max(1, n // 10))
        self.spawn(self.work, self.by_will, 5)

    # ---- subscribers that read all they get ----

    def mqtt_reader(self, filters, qos, v=5, ws=False, props=None):
        c = self.mqtt(v, ws, **({"properties": props} if props else {}))
        c.subscribe(*filters, qos=qos)
        self.ready.release()
        while not self.stop.is_set():
            try:
                p = c.recv(0.2)
            except TimeoutError:
                continue
            if p.kind == raw.PUBREL:
                c.send(raw.ack(raw.PUBCOMP, p.pid))
                continue
            assert p.kind == raw.PUBLISH, p
            if p.qos:
                c.send(raw.ack(raw.PUBACK if p.qos == 1 else raw.PUBREC, p.pid))
            self.got("ws" if ws else "mqtt")
        c.disconnect()

    def ws_reader(self, channel, path="/ws", **q):
        c = self.customer(path, channels=channel, snapshot="false", **q)
        for _ in channel.split(","):
            m = c.next()
            assert m.get("typ", m.get("type")) == (0 if path == "/v1/ws" else 1), m
        self.ready.release()
        while not self.stop.is_set():
            try:
                m = c.next(0.2)
            except TimeoutError:
                continue
            assert m and m.get("typ", m.get("type")) == (6 if path == "/v1/ws" else 7), m
            self.got("ws")
        c.sock.close()

    def sse(self, channel, small=False, **q):
        sock = self.socket(small)
        q = urllib.parse.urlencode({"apiKey": self.full, **q})
        sock.sendall(f"GET /v1/channels/{channel}/events?{q} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return sock

    def sse_reader(self, channel, **q):
        sock, data, events = self.sse(channel, snapshot="false", **q), b"", 0
        while b"\n\n" not in data.partition(b"\r\n\r\n")[2]:
            data += sock.recv(1 << 16)
        data = data.partition(b"\r\n\r\n")[2].split(b"\n\n", 1)[1]
        self.ready.release()
        sock.settimeout(0.2)
        while not self.stop.is_set():
            *whole, data = data.split(b"\n\n")
            events = [x for x in whole if x and not x.startswith(b":")]
            assert all(b"data: " in x and b"id: " in x for x in events)
            self.got("sse", len(events))
            with contextlib.suppress(TimeoutError):     # of ssl, too
                data += sock.recv(1 << 16)
        sock.close()

    def read_all(self, channel="c"):
        """One of each kind; returns when all are subscribed."""
        start, f = len(self.readers), [f"{channel}/#", "wills/#", "again/#"]
        go = lambda *a, **kw: self.spawn(self.readers, *a, **kw)      # noqa: E731
        for v, qos in ((4, 0), (4, 2), (5, 1), (5, 2)):
            go(self.mqtt_reader, f, qos, v)
        go(self.mqtt_reader, [f"{channel}/a/#"], 0, 5, True)
        go(self.mqtt_reader, ["#"], 1, 4, True)
        go(self.mqtt_reader, [f"{channel}/a/#"], 1, 5, False, {"receive_maximum": 3})
        for _ in range(2):
            go(self.mqtt_reader, [f"$share/g/{channel}/#"], 1)
        for q in ({}, {"encoding": "msgpack"}, {"format": "binary"}, {"pos": "true"},
                  {"keys": "a/#"}, {"cats": "x,y"}, {"conflate": 20}):
            go(self.ws_reader, channel, **q)
        go(self.ws_reader, f"{channel},wills")
        go(self.ws_reader, channel, "/v1/ws", format="text")
        go(self.ws_reader, channel, "/v1/ws")
        go(self.sse_reader, channel)
        go(self.sse_reader, channel, keys="b/#")
        for _ in range(len(self.readers) - start):
            assert self.ready.acquire(timeout=DEADLINE), self.errors

    # ---- subscribers that do not ----

    def deaf(self, channels):
        """Slow ones: a few bytes are read, then nothing more; they stay."""
        for channel in channels:
            self.open.append(self.customer(small=True, channels=channel).sock)
            self.open.append(self.customer("/v1/ws", True, channels=channel).sock)
            self.open.append(self.sse(channel, True))
            c = self.mqtt(small=True)
            c.subscribe(f"{channel}/#")
            self.open.append(c.sock)

    def flapper(self, channels, rounds, k):
        """Comes by one way after the other, reads a little, leaves in the middle."""
        rng = random.Random(f"{self.seed}{k}")
        for i in range(rounds):
            channel, how = rng.choice(channels), (i + k) % 5
            if how == 4:
                c = self.mqtt()
                c.subscribe(f"{channels[-1]}/#", qos=rng.choice([0, 1, 2]))
                with contextlib.suppress(TimeoutError):
                    for _ in range(rng.randrange(10)):
                        c.recv(0.05)
                c.drop(rst=True)
                continue
            if how == 3:
                sock = self.sse(channel, True, **({"since": "start"} if i % 2 else {}))
                sock.recv(rng.randrange(1, 4000))
                rst(sock)
                continue
            q = [{"since": "start"}, {}, {"encoding": "msgpack", "snapshot": "false"}][how]
            c = self.customer(small=True, channels=",".join(channels), **q)
            with contextlib.suppress(TimeoutError, raw.Closed):
                for _ in range(rng.randrange(12)):
                    c.next(0.05)
                if rng.random() < 0.3:
                    c.send_frame(TEXT, json.dumps({"typ": 5, "chn": channel}))
                    c.send_frame(TEXT, json.dumps({"typ": 3, "chn": channel, "snapshot": True}))
                    c.next(0.05)
                if rng.random() < 0.3:
                    c.send_frame(CLOSE, b"\x03\xe8")
                    c.next(0.05)
            rst(c.sock)

    def flood(self, channels, n, size=16000):
        """QoS 0 as fast as the socket takes it."""
        c, body = self.mqtt(), b"f" * size
        for i in range(n):
            for channel in channels:
                c.send(raw.publish(f"{channel}/{i % 3}", body))
        c.ping()
        c.disconnect()
        self.note("mqtt", n * len(channels), n * len(channels))

    def steady(self, channel, n):
        """QoS 1, one after the other, for sessions to be owed something."""
        c = self.mqtt()
        for i in range(n):
            c.publish(f"{channel}/s", b"s" * 200, 1)
        c.disconnect()
        self.note("mqtt", n, n)

    def ender(self, channel, rounds, name):
        """A session that ends with messages waiting."""
        who = {"user": self.app, "password": self.full}
        for i in range(rounds):
            c = self.s.client(name, clean=False, properties={"session_expiry": 60}, **who)
            c.connect()
            c.subscribe(f"{channel}/#", qos=1)
            with contextlib.suppress(TimeoutError):
                c.recv(0.05)
            c.drop(rst=True)
            d = self.s.client(name, **who)
            d.connect(clean=True)
            d.drop()

    def rude(self, channels, n=600, rounds=12):
        self.deaf(channels)
        self.spawn(self.work, self.flood, channels, n)
        for k in range(3):
            self.spawn(self.work, self.flapper, channels, rounds, k)
        self.spawn(self.work, self.steady, channels[-1], 200)
        self.spawn(self.work, self.ender, channels[-1], 6, f"ender{self.seed}")
