#!/usr/bin/python3
"""kill -9 rounds under load: `lavva serve` is killed again and again while publishers with QoS 1
and 2, subscribers of several kinds and customers of the hub go on; nothing acknowledged may be lost,
nothing reordered.

usage: soak.py [--rounds N] [--seed S] [--dir DIR] [--keep]

Each publisher sends 1, 2, 3 … to one key, with a window, and does what the standard asks of a
client: after a reconnect it sends again what was not acknowledged, in order, with the same packet
identifiers. So each subscriber must see each key's numbers rise without a hole, on first receipt;
with QoS 2 at both ends each of them once. Customers (WebSocket, Server-Sent Events) come back with
their last position and must see their channels offset by offset. One round in eight ends by SIGTERM instead.

Exit code: 0 passed, 1 lost, reordered, duplicated beyond QoS 1, or a session gone, 2 a recovery
took longer than its bound, 3 the server died by itself, 64 wrong arguments. The last line is JSON.
"""
import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness      # noqa: E402
import lvconf       # noqa: E402
import raw          # noqa: E402
import soak_hub     # noqa: E402
from raw import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL    # noqa: E402

RECOVERY_BOUND = float(os.environ.get("LAVVA_E2E_RECOVERY_S", "20"))
KEEP = {"session_expiry": 0xFFFFFFFF}


class Peer(threading.Thread):
    """A client that comes back for as long as it is wanted."""

    def __init__(self, run, name, **kw):
        super().__init__(name=name, daemon=True)
        self.soak, self.c = run, None
        self.kw = {"clean": False, "properties": KEEP, **kw}
        self.known, self.stop, self.pause = False, False, threading.Event()
        self.errors, self.connects = [], 0

    def wanted(self):
        return not self.stop

    def run(self):
        while self.wanted():
            try:
                self.connect()
                while self.wanted():
                    self.step()
                self.c.send(raw.disconnect())
            except (raw.Closed, OSError, TimeoutError) as e:
                if self.soak.calm and self.wanted() and not isinstance(e, TimeoutError):
                    self.errors.append(f"{self.name}: connection ended in a calm: {e}")
                time.sleep(0.003)       # the server is away: not a wait for a result
            except AssertionError as e:
                self.errors.append(f"{self.name}: {e}")
                return
            finally:
                if self.c:
                    self.c.drop()

    def connect(self):
        self.c = raw.Client(self.soak.server, self.name, **self.kw)
        self.soak.server.clients.clear()
        p = self.c.connect()
        self.connects += 1
        if self.known and not p.session_present:
            self.errors.append(f"{self.name}: its session was gone")
        self.known = True
        self.connected()

    def next(self, timeout):
        """The next packet or None. DISCONNECT is an end like any other."""
        try:
            p = self.c.recv(timeout)
        except TimeoutError:
            return None
        if p.kind == raw.DISCONNECT:
            raise raw.Closed(f"DISCONNECT 0x{p.rc:02x}")
        return p


class Publisher(Peer):
    def __init__(self, run, name, topic, qos, window, size):
        super().__init__(run, name)
        self.topic, self.qos, self.window = topic, qos, window
        self.pad = b"." * size
        self.sent = self.acked = 0
        self.flight = {}        # pid: (seq, released), in the order of sending
        self.finish = False     # send no more; end when all is acknowledged
        self.pid = 0
        self.first_ack = None   # monotonic time of the first ack after the last fault

    def wanted(self):
        return not self.stop and not (self.finish and not self.flight)

    def body(self, seq):
        return b"%d " % seq + self.pad

    def connected(self):
        out = b""
        for pid, (seq, released) in self.flight.items():
            out += raw.ack(PUBREL, pid) if released else raw.publish(
                self.topic, self.body(seq), self.qos, pid=pid, dup=True)
        if out:
            self.c.send(out)

    def step(self):
        out = b""
        while not self.finish and len(self.flight) < self.window:
            self.pid = self.pid % 65535 + 1
            self.sent += 1
            self.flight[self.pid] = (self.sent, False)
            out += raw.publish(self.topic, self.body(self.sent), self.qos, pid=self.pid)
        if out:
            self.c.send(out)
        p = self.next(5)
        if p is None:
            if self.soak.calm:
                raise AssertionError("no ack for 5 s")
            return
        out = b""
        while p is not None:
            out += self.answered(p)
            p = self.next(0.0001) if self.c.buf else None
        if out:
            self.c.send(out)

    def answered(self, p):
        seq, released = self.flight.get(p.pid, (None, None))
        if seq is None:
            raise AssertionError(f"ack for an unknown id: {p}")
        assert p.rc < 0x80 or (p.kind == PUBCOMP and p.rc == 0x92), f"refused: {p}"
        if p.kind == PUBREC:
            if not released:
                self.note(seq)
                self.flight[p.pid] = (seq, True)
            return raw.ack(PUBREL, p.pid)
        assert p.kind == (PUBACK if self.qos == 1 else PUBCOMP), p
        if p.kind == PUBACK:
            self.note(seq)
        del self.flight[p.pid]
        return b""

    def note(self, seq):
        assert seq == self.acked + 1, f"ack of {seq} after {self.acked}: acks out of order"
        self.acked = seq
        if self.first_ack is None:
            self.first_ack = time.monotonic()


class Subscriber(Peer):
    def __init__(self, run, name, filters, qos, **kw):
        super().__init__(run, name, **kw)
        self.filters, self.qos = filters, qos
        self.last, self.holes, self.open = {}, {}, set()
        self.unique = self.repeats = self.reordered = 0
        self.subscribed = False
        self.exactly_once = qos == 2

    def connected(self):
        if not self.subscribed:
            self.c.subscribe(*[(f, self.qos) for f in self.filters])
            self.subscribed = True

    def step(self):
        p = self.next(0.2)
        if p is None:
            return
        out = b""
        while p is not None:
            out += self.take(p)
            p = self.next(0.0001) if self.c.buf else None
        if out:
            self.c.send(out)

    def take(self, p):
        if p.kind == PUBREL:
            self.open.discard(p.pid)
            return raw.ack(PUBCOMP, p.pid)
        assert p.kind == PUBLISH, p
        if p.qos == 2:
            if p.pid in self.open:
                return raw.ack(PUBREC, p.pid)       # a repeat that the protocol filters out
            self.open.add(p.pid)
        self.note(p)
        return raw.ack(PUBACK, p.pid) if p.qos == 1 else raw.ack(
            PUBREC, p.pid) if p.qos == 2 else b""

    def note(self, p):
        seq, last = int(p.payload.split(b" ", 1)[0]), self.last.get(p.topic, 0)
        holes = self.holes.setdefault(p.topic, set())
        if seq == last + 1:
            self.unique += 1
        elif seq > last:
            holes.update(range(last + 1, seq))
            self.unique += 1
        elif seq in holes:
            holes.discard(seq)
            self.unique += 1
            self.reordered += 1
        else:
            self.repeats += 1
            if self.exactly_once and p.topic in self.soak.exactly_once:
                self.errors.append(f"{self.name}: {p.topic} {seq} came twice with QoS 2")
        self.last[p.topic] = max(seq, last)


class Member(Subscriber):
    """Of a shared group: only the union counts."""

    def __init__(self, run, name, got):
        super().__init__(run, name, ["$share/group/disk/#", "$share/group/mem/#"], 1)
        self.got = got

    def note(self, p):
        self.got.setdefault(p.topic, set()).add(int(p.payload.split(b" ", 1)[0]))
        self.unique += 1


class Soak:
    def __init__(self, args):
        self.args, self.rng = args, random.Random(args.seed)
        self.folder = args.dir or tempfile.mkdtemp(prefix="lavva-soak-")
        conf = lvconf.doc([lvconf.app(channels=[{"name": "disk", "durability": "disk"},
                                                {"name": "mem", "durability": "memory"}])],
                          storage={"segment": "1MiB", "tail": "1MiB"})
        self.lavva = harness.KIND == "lavva"
        self.server = harness.make(self.folder, config=conf, mosquitto=[
            "max_queued_messages 0", "max_inflight_messages 100"])
        self.calm = False
        self.exactly_once, self.customers = set(), []
        self.first_acks, self.starts, self.errors = [], [], []

    def start_server(self):
        t0 = time.monotonic()
        self.server.start()
        self.starts.append(time.monotonic() - t0)

    def build(self):
        self.pubs = []
        for i, (chan, qos) in enumerate([("disk", 1), ("disk", 2), ("mem", 1), ("mem", 2),
                                         ("disk", 1), ("mem", 1)]):
            topic = f"{chan}/key{i}"
            if qos == 2:
                self.exactly_once.add(topic)
            self.pubs.append(Publisher(self, f"pub{i}", topic, qos, self.rng.choice([1, 8, 30]),
                                       self.rng.choice([0, 100, 1000])))
        both = ["disk/#", "mem/#"]
        self.group = {}
        self.subs = [Subscriber(self, "sub1", both, 1), Subscriber(self, "sub2", both, 2),
                     Subscriber(self, "overlap", ["#", "disk/+", "mem/key2"], 1),
                     Subscriber(self, "small", both, 1,
                                properties={**KEEP, "receive_maximum": 3})]
        if self.lavva:
            self.customers = [soak_hub.Customer(self, "json"),
                              soak_hub.Customer(self, "msgpack", encoding="msgpack"),
                              soak_hub.Reader(self, "events-disk", "disk"),
                              soak_hub.Reader(self, "events-mem", "mem")]
        self.members = [Member(self, f"member{i}", self.group) for i in range(2)]
        self.away = None        # a subscriber that comes every other round

    def visit(self, on):
        """The subscriber that is there in every other round."""
        if on:
            old = self.away
            self.away = Subscriber(self, "visitor", ["disk/#", "mem/#"], 2)
            if old:
                for k in ("last", "holes", "open", "known", "subscribed", "unique", "repeats",
                          "reordered"):
                    setattr(self.away, k, getattr(old, k))
            self.away.start()
        else:
            self.away.stop = True
            self.away.join(10)
            self.errors += self.away.errors

    def round(self, n):
        for p in self.pubs:
            p.first_ack = None
        fault = time.monotonic()
        self.start_server()
        goal = sum(p.acked for p in self.pubs) + self.rng.randrange(20, 1500)
        limit = time.monotonic() + self.rng.uniform(0.05, 1.0)
        harness.wait(lambda: all(p.first_ack for p in self.pubs) or not self.all_alive(),
                     "an ack for each publisher", RECOVERY_BOUND)
        self.first_acks.append(max(p.first_ack or fault for p in self.pubs) - fault)
        harness.wait(lambda: sum(p.acked for p in self.pubs) >= goal
                     or time.monotonic() > limit or not self.all_alive(), "load", 30)
        if not self.server.alive():
            return False
        if self.rng.random() < 1 / 8 or not self.lavva:     # mosquitto does not survive a kill
            self.server.signal(signal.SIGTERM)
            code = self.server.wait_exit(RECOVERY_BOUND)
            if code:
                self.errors.append(f"round {n}: exit status {code} after SIGTERM")
        else:
            self.server.kill()
        return True

    def all_alive(self):
        return self.server.alive() and all(
            x.is_alive() for x in [*self.pubs, *self.subs, *self.members, *self.customers])

    def wanted(self, s, topic):
        """Whether that subscriber is to get that topic."""
        return topic.startswith(getattr(s, "channel", "") or "")

    def settle(self):
        """The last life: everything in flight is completed, everything owed delivered."""
        self.start_server()
        self.calm = True
        for p in self.pubs:
            p.finish = True
        for p in self.pubs:
            p.join(60)
        final = {p.topic: p.sent for p in self.pubs}
        everyone = [*self.subs, self.away, *self.customers]
        deadline = time.monotonic() + 120
        progress = None

        def done():
            nonlocal deadline, progress
            now = [s.unique + s.repeats for s in [*everyone, *self.members]]
            if now != progress:
                progress, deadline = now, time.monotonic() + 20
            whole = all(s.last.get(t, 0) >= n for s in everyone for t, n in final.items()
                        if self.wanted(s, t)) and all(
                len(self.group.get(t, ())) >= n for t, n in final.items())
            return whole or time.monotonic() > deadline or not self.server.alive()
        harness.wait(done, "the deliveries", 300, step=0.05)
        for s in [*everyone, *self.members]:
            s.stop = True
        for s in [*everyone, *self.members]:
            s.join(10)
        return final

    def verdict(self, final, rounds):
        lost = {"prefix": 0, "middle": 0, "tail": 0}
        acked = {p.topic: p.acked for p in self.pubs}
        for s in [*self.subs, self.away, *self.customers]:
            for t, n in acked.items():
                if not self.wanted(s, t):
                    continue
                missing = {x for x in s.holes.get(t, ()) if x <= n} | set(
                    range(s.last.get(t, 0) + 1, n + 1))
                for x in missing:
                    place = "tail" if x > s.last.get(t, 0) else "middle" if x > 1 else "prefix"
                    lost[place] += 1
                if missing:
                    self.errors.append(f"{s.name}: lost {len(missing)} of {t}: "
                                       f"{sorted(missing)[:8]} (acked {n})")
        for t, n in acked.items():
            gone = set(range(1, n + 1)) - self.group.get(t, set())
            lost["middle"] += len(gone)
            if gone:
                self.errors.append(f"group: lost {len(gone)} of {t}: {sorted(gone)[:8]}")
        subs = [*self.subs, self.away, *self.customers]
        for x in [*self.pubs, *subs, *self.members]:
            self.errors += x.errors
        self.errors = list(dict.fromkeys(self.errors))
        out = {
            "seed": self.args.seed, "rounds": rounds, "sent": sum(final.values()),
            "acked": sum(acked.values()), "unknown": sum(len(p.flight) for p in self.pubs),
            "delivered_unique": sum(s.unique for s in subs),
            "duplicated": sum(s.repeats for s in subs), "lost": lost,
            "reordered": sum(s.reordered for s in subs), "sessions_lost": sum(
                "session was gone" in e for e in self.errors),
            "customers": {c.name: {"delivered": c.unique, "repeats": c.repeats, "gaps_told": c.gaps,
                                   "connects": c.connects} for c in self.customers},
            "first_ack_s": spread(self.first_acks), "start_s": spread(self.starts)}
        out["errors"] = self.errors[:20]
        out["passed"] = not (self.errors or any(lost.values()) or out["reordered"])
        return out

    def run(self):
        self.start_server()
        self.build()
        for x in [*self.subs, *self.members, *self.customers]:
            x.start()
        self.visit(True)
        harness.wait(lambda: all(s.subscribed for s in [*self.subs, *self.members, *self.customers,
                                                  self.away]),
                     "the subscriptions")
        for x in self.pubs:
            x.start()
        harness.wait(lambda: all(p.acked > 5 for p in self.pubs) or not self.all_alive(), "acks")
        self.server.kill() if self.lavva else self.server.stop()
        rounds = 0
        for n in range(self.args.rounds):
            if not self.round(n):
                break
            rounds += 1
            if n % 2:
                self.visit(True)
            else:
                self.visit(False)
            if n % 25 == 24:
                print(f"soak: round {n + 1}, {sum(p.acked for p in self.pubs)} acked, "
                      f"{sum(s.unique for s in self.subs)} delivered", flush=True)
        if rounds < self.args.rounds:
            print(self.server.log()[-6000:], file=sys.stderr)
            return 3, {"seed": self.args.seed, "rounds": rounds, "passed": False,
                       "errors": [f"the server died by itself: {self.server.proc.returncode}",
                                  *[e for p in self.pubs for e in p.errors]]}
        if not self.away.is_alive():
            self.visit(True)
        final = self.settle()
        if not self.server.alive():
            print(self.server.log()[-6000:], file=sys.stderr)
        out = self.verdict(final, rounds)
        code = self.server.stop()
        if code:
            out["errors"].append(f"exit status {code} after the last SIGTERM")
            out["passed"] = False
        check = self.lavva and self.server.cli("log", "verify", "--data", self.server.data,
                                               timeout=120)
        if check and check.returncode:
            out["errors"].append("log verify: " + (check.stdout + check.stderr)[-500:])
            out["passed"] = False
        self.server.check()
        return (0 if out["passed"] else 1), out


def spread(values):
    v = sorted(values)
    return {"p50": round(v[len(v) // 2], 4), "max": round(v[-1], 4)} if v else None


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    ap.add_argument("--rounds", type=int, default=10)
    ap.add_argument("--seed", type=int, default=None)
    ap.add_argument("--dir", default=None, help="work folder (default: a temporary one)")
    ap.add_argument("--keep", action="store_true", help="keep the folder also when it passed")
    args = ap.parse_args()
    if args.seed is None:
        args.seed = random.SystemRandom().randrange(1 << 32)
    print(f"soak: seed {args.seed}, {args.rounds} rounds, {harness.BIN}", flush=True)
    soak, code, out = Soak(args), 1, {}
    try:
        code, out = soak.run()
    except AssertionError as e:
        late = "waited" in str(e)
        code = 3 if soak.server.proc and not soak.server.alive() else 2 if late else 1
        errors = [str(e)]
        for x in [*getattr(soak, "pubs", []), *getattr(soak, "subs", []), *soak.customers]:
            errors += x.errors
        out = {"seed": args.seed, "passed": False, "errors": errors[:20]}
        print(soak.server.log()[-4000:], file=sys.stderr)
    finally:
        soak.server.kill()
    for e in out.get("errors", []):
        print(f"soak: {e}")
    print(json.dumps(out))
    if code == 0 and not args.keep and not args.dir:
        shutil.rmtree(soak.folder, ignore_errors=True)
    else:
        print(f"soak: data and log are in {soak.folder}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
