"""A disk that is full, or fails (guarantees 1, 4, 5 and 7), against the real binary: diskfault.c
stands between it and the kernel. Nothing acknowledged is lost; nothing refused is delivered; the
service comes back by itself; the books balance."""
import asyncio
import errno
import json
import os
import shutil
import time

import pytest
import websockets

import raw
from diskfault import ENDLESS, Disk
from harness import BIN, DEADLINE, wait
from lvconf import app, doc
from raw import DISCONNECT, PUBACK, PUBREC
from test_22_ledger import at_rest, balanced
from test_33_hub import publish
from test_33_hub import url as hub_url

pytestmark = pytest.mark.lavva_only
KEEP = {"session_expiry": 3600}
BOTH = pytest.mark.parametrize("durability", ["disk", "memory"])


def launched(own_server, durability="disk", reserve="0B", segment="1MiB", **kw):
    """A server, not started, whose data folder lies on a disk that a test can break."""
    conf = doc([app(channel_defaults={"durability": durability},
                    session_durability=durability, **kw)],
               storage={"reserve": reserve, "segment": segment})
    s = own_server(config=conf)
    s.disk = Disk(s)
    return s


def started(own_server, *a, **kw):
    s = launched(own_server, *a, **kw)
    s.start()
    # channels and the files made ahead exist before anything breaks
    s.connected().publish("f/ready", b"x", 1)
    return s


def keeper(s, cid="keeper", *filters, qos=1):
    """A persistent subscriber, away from now on."""
    c = s.client(cid, clean=False, properties=KEEP)
    c.connect()
    c.subscribe(*(filters or ("f/#",)), qos=qos)
    c.disconnect()
    return cid


def back(s, cid="keeper"):
    c = s.client(cid, clean=False, properties=KEEP)
    c.connect(present=True)
    return c


class Publisher:
    """Publishes numbered messages and keeps what was acknowledged, in order, and what was not."""

    def __init__(self, s, topic="f/x", v=5, qos=1, body=b""):
        self.s, self.topic, self.v, self.qos, self.body = s, topic, v, qos, body
        self.n, self.acked, self.refused, self.c = 0, [], [], None

    def one(self):
        """Publishes the next number: the reason code, or None when the connection was closed."""
        if self.c is None:
            self.c = self.s.connected(v=self.v)
        self.n += 1
        text = b"%d " % self.n + self.body
        pid = self.c.pid()
        self.c.send(raw.publish(self.topic, text, self.qos, pid=pid, v=self.v))
        try:
            p = self.c.expect(PUBACK if self.qos == 1 else PUBREC, pid=pid)
        except raw.Closed:
            self.c.drop()
            self.c = None
            self.refused.append(self.n)
            return None
        if p.rc >= 0x80:
            self.refused.append(self.n)
            return p.rc
        if self.qos == 2:
            self.c.send(raw.ack(raw.PUBREL, pid))
            self.c.expect(raw.PUBCOMP, pid=pid)
        self.acked.append(self.n)
        return 0

    def some(self, n, want=0):
        for _ in range(n):
            rc = self.one()
            assert rc == want, f"message {self.n}: {rc}, expected {want}"

    def until(self, want, most=5000):
        """Publishes until the answer is `want`; the others must be positive."""
        for _ in range(most):
            rc = self.one()
            if rc == want:
                return
            assert rc == 0, f"message {self.n}: 0x{rc or 0:02x}"
        raise AssertionError(f"{most} messages, and never {want}")

    def again(self, timeout=None):
        """Publishes until one is acknowledged: the service has come back by itself."""
        wait(lambda: self.one() == 0, "an acknowledgement", timeout, step=0.05)


def numbers(packets):
    return [int(p.payload.split()[0]) for p in packets]


def got_all(s, pub, cid="keeper"):
    """The subscriber gets exactly what was acknowledged, in order."""
    c = back(s, cid)
    got = numbers(c.collect(len(pub.acked)))
    assert got == pub.acked
    s.nothing(s.connected(), c)
    c.disconnect()


def not_ready(s):
    status, _, text = s.get("/readyz")
    return text if status == 503 else None


def refusal(v, rc=0x97):
    return rc if v == 5 else None


# ---- disk full ----------------------------------------------------------------------------------

@pytest.mark.tsan
@BOTH
@pytest.mark.parametrize("qos", [1, 2])
def test_full_and_back(own_server, durability, qos, v):
    """Acked before, during and after: delivered once, in order; then once more after a restart."""
    s = started(own_server, durability)
    for cid in ("keeper", "later"):
        keeper(s, cid, "f/x")
    live = s.connected()
    live.subscribe("f/x")
    pub = Publisher(s, v=v, qos=qos, body=b"b" * 20000)
    pub.some(20)
    s.disk.fill()
    pub.until(refusal(v))
    assert "full" in wait(lambda: not_ready(s), "/readyz to say what is wrong")
    assert "no space" in s.get("/healthz")[2]
    pub.some(3, refusal(v))
    s.disk.free()
    pub.again()
    pub.some(20)
    wait(lambda: not not_ready(s), "/readyz to be content again")
    assert numbers(live.collect(len(pub.acked))) == pub.acked
    got_all(s, pub)
    b = balanced(s)
    assert b.offered >= pub.n
    s.drop_clients()
    s.restart()
    got_all(s, pub, "later")


@BOTH
def test_killed_while_full(own_server, durability):
    s = started(own_server, durability)
    keeper(s, "keeper", "f/x")
    pub = Publisher(s, body=b"k" * 30000)
    s.disk.fill()
    pub.until(0x97)
    pub.some(5, 0x97)
    s.kill()
    s.drop_clients()
    s.disk.free()
    s.start()
    got_all(s, pub)
    balanced(s)


@BOTH
def test_stopped_while_full(own_server, durability):
    """SIGTERM ends it in order; with space it starts again and has everything."""
    s = started(own_server, durability)
    keeper(s, "keeper", "f/x")
    pub = Publisher(s, body=b"k" * 30000)
    s.disk.fill()
    pub.until(0x97)
    s.drop_clients()
    assert s.stop() == 0
    s.disk.free()
    s.start()
    got_all(s, pub)


@pytest.mark.tsan
@BOTH
def test_reserve(own_server, durability):
    """Below the reserve messages are refused; sessions, which need little, go on."""
    s = started(own_server, durability, reserve="64MiB")
    keeper(s, "keeper", "f/x", qos=2)
    pub = Publisher(s, qos=2)
    pub.some(50)
    s.disk.fill(1 << 20)
    assert "reserve" in wait(lambda: not_ready(s), "/readyz to say what is wrong")
    pub.some(3, 0x97)
    old = Publisher(s, v=4)
    old.some(2, None)
    zero = {v: s.connected(v=v) for v in (4, 5)}
    for c in zero.values():             # QoS 0: dropped, counted, and still connected
        c.send(raw.publish("f/x", b"0 zero", v=c.v) * 10)
        c.ping()
    c = s.connected()
    c.publish("newchannel/x", b"no", 1, rc=0x97)
    c.publish("f/kept", b"no", 1, rc=0x97, retain=True)
    b = balanced(s)
    assert b.reject("disk-full") == 3 + 2 + 20 + 2
    got_all_but_barrier(s, pub)         # QoS 2 to a stored session needs records: they fit
    keeper(s, "another", "f/x")
    back(s, "another").disconnect()
    s.disk.free()
    wait(lambda: not not_ready(s), "/readyz to be content again")
    pub.some(5)
    assert numbers(back(s).collect(5)) == pub.acked[-5:]
    sub = s.connected()
    sub.subscribe("f/kept")
    s.nothing(c, sub)
    balanced(s)


def got_all_but_barrier(s, pub, cid="keeper"):
    """As got_all, where nothing can be published."""
    c = back(s, cid)
    assert numbers(c.collect(len(pub.acked))) == pub.acked
    c.ping()
    c.disconnect()


def refusing(s, eno=errno.ENOSPC, **kw):
    """From now on each write fails, also into blocks that the file has."""
    s.disk.set(write_errno=eno, write_n=ENDLESS, **kw)


@pytest.mark.tsan
def test_state_that_cannot_be_stored(own_server, v):
    """CONNECT and SUBSCRIBE of a stored session, a new channel, a retained message: the right
    refusal at once, and no trace of it later."""
    s = started(own_server)
    watch = s.connected()
    watch.subscribe("w/#")
    c = s.client("stored", v=v, clean=False, properties=KEEP if v == 5 else None)
    c.connect()
    quick = s.connected(v=v)
    refusing(s)
    new = s.client("new", v=v, clean=False, properties=KEEP if v == 5 else None,
                   will=raw.Will("w/new", b"never connected", 1))
    new.connect(rc=0x97 if v == 5 else 3)
    new.closed()
    quick.subscribe("f/free", qos=1)            # needs no record
    c.send(raw.subscribe(1, [("f/x", 1)], v))
    c.closed(0x97)
    for topic, retain in (("brandnew/x", False), ("f/kept", True)):
        p = s.connected(v=v)
        p.send(raw.publish(topic, b"1", 1, pid=9, v=v, retain=retain))
        if v == 5:
            p.expect(PUBACK, pid=9, rc=0x97)
        else:
            p.closed()
    s.disk.heal()
    pub = s.connected(v=v)
    wait(lambda: not not_ready(s), "/readyz to be content again")
    sub = s.connected(v=v)
    sub.subscribe("f/kept", "brandnew/x", qos=1)
    s.nothing(pub, sub)
    s.nothing(pub, watch)
    new.open()
    new.connect(present=False)
    c.open()
    c.connect(present=True)
    c.subscribe("f/x", qos=1)
    pub.publish("f/x", b"1 now", 1)
    c.message("f/x", b"1 now")
    balanced(s)


@BOTH
def test_subscribers_are_served_while_writes_fail(own_server, durability):
    """A stored session's progress cannot be saved: it is delivered to all the same, and what it has
    acknowledged is known once it can be saved again."""
    s = started(own_server, durability)
    keeper(s, "keeper", "f/x")
    pub = Publisher(s)
    pub.some(120)
    c = s.client("keeper", clean=False, properties={**KEEP, "receive_maximum": 5})
    c.connect(present=True)
    got = numbers(c.collect(20))
    refusing(s)
    pub.some(2, 0x97)
    failed = s.disk.get("writes_failed")
    for _ in range(4):
        got += numbers(c.collect(10))
        wait(lambda: s.disk.get("writes_failed") > failed, "a try to save it")
        failed = s.disk.get("writes_failed")
    s.disk.heal()
    got += numbers(c.collect(60))
    assert got == pub.acked
    pub.again()
    assert numbers(c.collect(1)) == pub.acked[-1:]
    c.disconnect()
    balanced(s)
    s.drop_clients()
    s.restart()
    s.nothing(s.connected(), back(s))


@BOTH
def test_qos0_is_dropped_and_counted(own_server, durability, v):
    s = started(own_server, durability)
    c = s.connected(v=v)
    b0 = balanced(s)
    refusing(s)
    c.send(raw.publish("f/x", b"0", v=v) * 25)
    c.ping()
    b = balanced(s)
    assert b.drop("disk-full", "gateway") - b0.drop("disk-full", "gateway") == 25
    s.disk.heal()
    c.ping()


@BOTH
def test_half_written_then_killed(own_server, durability):
    """The write stops inside a batch: its first records are in the file, and refused. They are not
    there after kill -9."""
    s = started(own_server, durability)
    keeper(s, "keeper", "f/x")
    c = s.connected()
    c.publish("f/x", b"1", 1)
    s.disk.set(write_errno=errno.ENOSPC, write_part=2000, write_n=1)
    c.send(b"".join(raw.publish("f/x", b"%d " % i + b"h" * 300, 1, pid=i) for i in range(2, 22)))
    rcs = {p.pid: p.rc for p in (c.expect(PUBACK) for _ in range(20))}
    assert 0x97 in rcs.values()
    acked = [1, *(i for i in range(2, 22) if rcs[i] < 0x80)]
    s.kill()
    s.drop_clients()
    s.start()
    k = back(s)
    assert numbers(k.collect(len(acked))) == acked
    s.nothing(s.connected(), k)


@BOTH
def test_write_error(own_server, durability, v):
    s = started(own_server, durability)
    keeper(s, "keeper", "f/x")
    pub = Publisher(s, v=v)
    pub.some(5)
    refusing(s, errno.EIO)
    pub.some(4, refusal(v, 0x83))
    assert "input/output error" in not_ready(s)
    s.disk.heal()
    pub.again()
    pub.some(5)
    got_all(s, pub)
    b = balanced(s)
    assert b.drop("disk", "gateway") >= 4


def test_short_writes(own_server):
    """A write may take less than it was given."""
    s = launched(own_server)
    s.disk.set(chunk=100)
    s.start()
    keeper(s, "keeper", "f/x")
    pub = Publisher(s, body=b"s" * 1000)
    pub.some(50)
    s.drop_clients()
    s.restart()
    got_all(s, pub)
    assert s.stop() == 0
    out = s.cli("log", "verify", "--data", s.data)
    assert out.returncode == 0, out.stdout + out.stderr


def test_release_that_cannot_be_stored(own_server):
    """PUBREL while writes fail: PUBCOMP waits for better times; the message stays one message."""
    s = started(own_server)
    keeper(s, "keeper", "f/x", qos=2)
    c = s.client("pub", clean=False, properties=KEEP)
    c.connect()
    c.send(raw.publish("f/x", b"7", 2, pid=7))
    c.expect(PUBREC, pid=7, rc=0)
    refusing(s)
    c.send(raw.ack(raw.PUBREL, 7))
    c.closed(0x97)
    s.disk.heal()
    wait(lambda: not not_ready(s), "/readyz to be content again")
    c.open()
    c.connect(present=True)
    c.send(raw.publish("f/x", b"7", 2, pid=7, dup=True))
    c.expect(PUBREC, pid=7, rc=0)
    c.send(raw.ack(raw.PUBREL, 7))
    c.expect(raw.PUBCOMP, pid=7, rc=0)
    k = back(s)
    assert numbers(k.collect(1)) == [7]
    s.nothing(c, k)
    balanced(s)


def test_will_waits_for_space(own_server):
    s = started(own_server, reserve="64MiB")
    watch = s.connected()
    watch.subscribe("w/x", qos=1)
    c = s.client(will=raw.Will("w/x", b"bye", 1))
    c.connect()
    s.disk.fill(1 << 20)
    wait(lambda: not_ready(s), "/readyz to say what is wrong")
    c.drop()
    wait(lambda: s.metrics()['lavva_connections{protocol="mqtt"}'] == 2, "the connection to have ended")
    s.disk.free()
    watch.message("w/x", b"bye")
    balanced(s)


# ---- failing syncs ------------------------------------------------------------------------------

LOSE = pytest.mark.parametrize("lose", [0, 1], ids=["kept", "dropped"])


@pytest.mark.tsan
@LOSE
@pytest.mark.parametrize("qos", [1, 2])
def test_sync_fails_once(own_server, lose, qos, v):
    """Nothing that waited for that sync is acknowledged; what is acknowledged after it is there,
    whether or not the kernel dropped what was dirty."""
    s = started(own_server)
    keeper(s, "keeper", "f/x", qos=qos)
    pub = Publisher(s, v=v, qos=qos)
    pub.some(10)
    s.disk.set(hold=1, match=b"disk-")
    c = s.connected(v=v)
    c.send(b"".join(raw.publish("f/x", b"%d" % (1000 + i), qos, pid=i, v=v) for i in range(1, 11)))
    wait(lambda: s.disk.get("syncs_held"), "the sync to begin")
    c.ping()            # nothing is acknowledged before it ends
    s.disk.set(sync_n=1, lose=lose)
    s.disk.set(hold=0)
    if v == 5:
        rcs = [c.expect(PUBACK if qos == 1 else PUBREC).rc for _ in range(10)]
        more = [1001 + i for i, rc in enumerate(rcs) if rc < 0x80]
        assert 0x83 in rcs
    else:
        c.closed()
        more = None     # what of them was acknowledged nobody has heard
    wait(lambda: s.disk.get("syncs_failed") == 1, "the sync to fail")
    s.disk.set(lose=0)
    pub.again()
    pub.some(10)
    wait(lambda: not not_ready(s), "/readyz to be content again")
    k = back(s)
    want = pub.acked[:10] + (more or []) + pub.acked[10:]
    if more is None:    # those of the ten that came after the failed sync may be there
        marker = pub.acked[-1]
        got = numbers(k.until(lambda p: int(p.payload.split()[0]) == marker))
        assert [n for n in got if n < 1000] == pub.acked
    else:
        assert numbers(k.collect(len(want))) == want
    s.nothing(s.connected(), k)
    k.disconnect()
    balanced(s)
    s.kill()
    s.drop_clients()
    s.start()
    pub.c = None
    pub.some(3)
    assert numbers(back(s).collect(3)) == pub.acked[-3:]
    s.stop()
    out = s.cli("log", "verify", "--data", s.data)
    assert out.returncode == 0, out.stdout + out.stderr


def epochs(s, log):
    """What the log says that its epoch was, each time it was reopened."""
    return [line.split("epoch=")[1].split()[0] for line in s.log().splitlines()
            if "reopened and verified" in line and f"log={log}" in line]


@LOSE
def test_memory_log_sync_fails(own_server, lose):
    """Acknowledged under `memory` means written. If the kernel then drops it, that is told: a new
    epoch, the hole counted; if it does not, nothing is lost and the epoch stays."""
    s = started(own_server, "memory")
    keeper(s, "keeper", "f/x")
    pub = Publisher(s)
    pub.some(10)
    wait(lambda: s.disk.get("syncs") > 2, "what came so far to be synced")
    s.disk.set(hold=1, match=b"mem-")
    pub.some(10)
    wait(lambda: s.disk.get("syncs_held"), "the next sync to begin")
    s.disk.set(sync_n=1, lose=lose)
    s.disk.set(hold=0)
    wait(lambda: epochs(s, "mem"), "the log to be reopened")
    s.disk.set(lose=0)
    pub.again()
    pub.some(5)
    k = back(s)
    marker = pub.acked[-1]
    got = numbers(k.until(lambda p: int(p.payload.split()[0]) == marker))
    if lose:
        assert got == [n for n in pub.acked if n in got] and set(pub.acked[-6:]) <= set(got)
    else:
        assert got == pub.acked
    b = balanced(s)
    assert b.drop("retention") == len(pub.acked) - len(got), str(b)
    k.disconnect()


@pytest.mark.parametrize("durability", ["disk"])
def test_sync_fails_for_ever(own_server, durability, v):
    """Publishers are told, memory stays, the disk is not worn out by trying, SIGTERM ends it."""
    s = started(own_server, durability)
    keeper(s, "keeper", "f/x")
    pub = Publisher(s, v=v, body=b"m" * 8000)
    pub.some(10)
    s.disk.set(sync_n=ENDLESS)
    pub.some(20, refusal(v, 0x83))
    assert "failed sync" in wait(lambda: not_ready(s), "/readyz to say what is wrong")
    assert s.get("/healthz")[0] == 200
    before, writes = rss(s), s.disk.get("writes")
    pub.some(400, refusal(v, 0x83))
    assert rss(s) - before < 64 << 20
    assert s.disk.get("writes") - writes < 400 + 200
    live = s.connected()
    live.subscribe("f/x")
    live.ping()
    balanced(s)
    s.drop_clients()
    assert s.stop() == 0
    s.disk.heal()
    s.start()
    pub.c = None
    got_all(s, pub)


def rss(s):
    with open(f"/proc/{s.proc.pid}/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# ---- starting -----------------------------------------------------------------------------------

def refuses_to_start(s):
    """Exit status 1 and one line that names the folder; that line."""
    at = len(s.log()) if os.path.exists(s.log_path) else 0
    s.may_exit = True
    s.launch()
    assert s.wait_exit() == 1
    lines = [x for x in s.log()[at:].splitlines() if x.startswith("lavva serve: ")]
    assert len(lines) == 1, s.log()[at:]
    assert s.data in lines[0], lines[0]
    return lines[0]


@pytest.mark.parametrize("eno, word", [(errno.ENOSPC, "free space"), (errno.EACCES, "writable"),
                                       (errno.EROFS, "read-only")])
def test_new_instance(own_server, eno, word):
    s = own_server()
    s.disk = Disk(s)
    os.makedirs(s.data)
    s.disk.set(make_n=ENDLESS, make_errno=eno)
    assert word in refuses_to_start(s)
    assert not [f for f in os.listdir(s.data) if f.startswith("dev.env")]
    s.disk.heal()
    s.start()


def test_full_disk_keeps_the_key(own_server):
    """A start that fails leaves data and key as they were."""
    s = own_server()
    s.disk = Disk(s)
    s.start()
    key = s.key
    keeper(s, "keeper", "f/x")
    pub = Publisher(s)
    pub.some(5)
    s.drop_clients()
    s.kill()
    for _ in range(2):
        s.disk.fill()       # the first gave something back: SQLite's log of the killed process
        assert "free space" in refuses_to_start(s)
        assert not os.path.exists(s.env_path)
    s.disk.free()
    s.start()
    assert s.key == key
    pub.c = None
    got_all(s, pub)


def test_folder_that_is_none(own_server, tmp_path):
    s = own_server()
    with open(s.data, "w") as f:
        f.write("a file\n")
    assert "not a folder" in refuses_to_start(s)


def test_reads_that_outlive_their_customer(own_server):
    """A snapshot that is still read from the disk, for a customer who has left so long ago that
    the loop has forgotten the channel."""
    s = own_server(config=doc([app(channel_defaults={"durability": "memory"})],
                              storage={"tail": "1MiB", "segment": "1MiB"}))
    s.disk = Disk(s)
    s.start()
    for i in range(40):
        publish(s, "f", b"%d " % i + b"x" * 65000, key="a")
    s.disk.set(match=b"mem-", hold_reads=1)

    async def leave():
        async with websockets.connect(hub_url(s, channels="f", keys="a/#")):
            while not s.disk.get("reads_held"):
                await asyncio.sleep(0.01)
    asyncio.run(asyncio.wait_for(leave(), DEADLINE))
    left = time.monotonic()
    wait(lambda: time.monotonic() > left + 5.5, "its channel to be forgotten")
    s.disk.set(hold_reads=0)
    got = json.loads(s.get(f"/snapshot?channels=f&keys=a/%23&apiKey={s.key}")[2])["Snapshot"]["f"]
    assert [m["val"].split()[0] for m in got] == [str(i) for i in range(40)]
