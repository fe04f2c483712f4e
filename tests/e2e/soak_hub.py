"""Customers of the hub in a soak: they come back after each kill with their last positions, so each
of them must see the channel offset by offset, whatever the hub was doing when it died.
"""
import asyncio
import json
import threading
import time
import urllib.parse

import msgpack
import websockets

CHANNELS = ("disk", "mem")


class Customer(threading.Thread):
    """Has what a soak asks of a subscriber: last, holes, unique, repeats, reordered, errors."""

    def __init__(self, run, name, **query):
        super().__init__(name=name, daemon=True)
        self.soak, self.query = run, query
        self.binary = query.get("encoding") == "msgpack"
        self.last, self.holes, self.pos, self.errors = {}, {}, {}, []
        self.unique = self.repeats = self.reordered = self.gaps = self.connects = 0
        self.stop = self.subscribed = self.in_calm = False

    def note(self, m):
        """One message that a channel holds."""
        was, self.pos[m["chn"]] = self.pos.get(m["chn"]), m["pos"]
        if was and int(was.split("-")[1]) + 1 != int(m["pos"].split("-")[1]):
            self.errors.append(f"{self.name}: {m['pos']} of {m['chn']} came behind {was}")
        topic, seq = f"{m['chn']}/{m['key']}", int(str(m["val"]).split(" ", 1)[0])
        last, holes = self.last.get(topic, 0), self.holes.setdefault(topic, set())
        if seq > last:
            holes.update(range(last + 1, seq))
            self.unique += 1
        elif seq in holes:
            holes.discard(seq)
            self.unique += 1
            self.reordered += 1
        else:
            self.repeats += 1           # QoS 1: its publisher sent it again, and it is stored twice
            if topic in self.soak.exactly_once:
                self.errors.append(f"{self.name}: {topic} {seq} came twice, published with QoS 2")
        self.last[topic] = max(seq, last)

    def gap(self, m):
        """A kill leaves the page cache as it is: another epoch may be told, nothing is missing."""
        self.gaps += 1
        if m["val"]["reason"] != "epoch":
            self.errors.append(f"{self.name}: {m}")

    def take(self, m):
        if m["typ"] == 7:
            self.note(m)
        elif m["typ"] == 9:
            self.gap(m)
        elif m["typ"] == 1:
            self.subscribed = True

    def run(self):
        while not self.stop:
            try:
                self.live()
            except (OSError, EOFError, asyncio.TimeoutError, websockets.WebSocketException) as e:
                # One that was opened before may end as late as its customer reads.
                if self.in_calm and not self.stop:
                    self.errors.append(f"{self.name}: connection ended in a calm: {e!r}")
                    return
                time.sleep(0.003)       # the server is away: not a wait for a result
            except Exception as e:      # pylint: disable=broad-except
                self.errors.append(f"{self.name}: {e!r}")
                return

    def since(self):
        return ",".join(f"{c}:{self.pos.get(c, 'start')}" for c in CHANNELS)

    def live(self):
        self.in_calm = self.soak.calm
        asyncio.run(self.follow())

    async def follow(self):
        s = self.soak.server
        q = urllib.parse.urlencode({"channels": ",".join(CHANNELS), "apiKey": s.key,
                                    "since": self.since(), **self.query}, safe=",:")
        url = f"ws://{s.http[0]}:{s.http[1]}/ws?{q}"
        async with websockets.connect(url, max_size=None, compression=None, open_timeout=5,
                                      close_timeout=1) as ws:
            self.connects += 1
            while not self.stop:
                try:
                    data = await asyncio.wait_for(ws.recv(), 0.2)
                except asyncio.TimeoutError:
                    continue
                self.take(msgpack.loads(data) if self.binary else json.loads(data))


class Reader(Customer):
    """The same over Server-Sent Events, one channel."""

    def __init__(self, run, name, channel):
        super().__init__(run, name)
        self.channel = channel

    async def follow(self):
        s = self.soak.server
        r, w = await asyncio.wait_for(asyncio.open_connection(*s.http), 5)
        try:
            pos = self.pos.get(self.channel)
            resume = f"Last-Event-ID: {pos}\r\n" if pos else ""
            w.write((f"GET /v1/channels/{self.channel}/events?since=start HTTP/1.1\r\nHost: x\r\n"
                     f"Authorization: Bearer {s.key}\r\n{resume}\r\n").encode())
            head = await asyncio.wait_for(r.readuntil(b"\r\n\r\n"), 5)
            assert head.startswith(b"HTTP/1.1 200 "), head
            self.connects += 1
            await self.events(r)
        finally:
            w.close()

    async def events(self, r):
        waiting = None
        while not self.stop:
            waiting = waiting or asyncio.ensure_future(r.readuntil(b"\n\n"))
            done, _ = await asyncio.wait({waiting}, timeout=0.2)
            if done:
                event, waiting = waiting.result(), None
                for line in event.splitlines():
                    if line.startswith(b"data: "):
                        self.take(json.loads(line[6:]))
        if waiting:
            waiting.cancel()
