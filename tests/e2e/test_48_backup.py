"""lavva backup and lavva restore: a copy of a running server's folder is whole and in order, and
nothing is believed that was not checked (docs/operations.md, guarantees 1 and 7)."""
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import tarfile
import threading

import pytest

import harness
from harness import DEADLINE, Children, cli, wait
from lvconf import app, doc
from test_32_http_publish import Poster
from test_33_hub import customer, publish, run, val

pytestmark = pytest.mark.lavva_only
KEEP = {"session_expiry": 3600}
CHANNELS = [{"name": "disk"}, {"name": "mem", "durability": "memory"},
            {"name": "short", "retention": {"count": 50}}]


def config(**kw):
    return doc(apps=[app(channels=CHANNELS)], storage={"segment": "1MiB", "reserve": "0B"}, **kw)


class Load(threading.Thread):
    """Publishes numbers to a channel, 2 KiB each; `acked` counts what was acknowledged."""

    def __init__(self, server, channel):
        super().__init__(daemon=True)
        self.poster, self.channel = Poster(server), channel
        self.acked, self.stop, self.error = 0, threading.Event(), None

    def run(self):
        lines = 20
        try:
            while not self.stop.is_set():
                n = self.acked
                body = "".join(json.dumps({"key": "k", "val": {"n": n + i, "pad": "x" * 2000}}) + "\n"
                               for i in range(lines))
                a = self.poster.post(self.channel, body, content_type="application/x-ndjson")
                assert a.status == 200, a.body
                self.acked += lines
        except Exception as e:  # noqa: BLE001 — told by the test
            self.error = e


def backup(s, path, *args):
    out = cli("backup", "--data", s.data, "-o", str(path), *args, timeout=2 * DEADLINE)
    assert out.returncode == 0, out.stderr
    return out


def restore(path, folder, *args):
    return cli("restore", str(path), "--data", str(folder), *args, timeout=2 * DEADLINE)


def dump(folder, channel):
    out = cli("log", "dump", channel, "--data", str(folder), timeout=2 * DEADLINE)
    assert out.returncode == 0, out.stderr
    return [json.loads(x) for x in out.stdout.splitlines()]


def restored(own_server, path, conf):
    """A server on the restored backup."""
    new = own_server(config=conf)
    out = restore(path, new.data)
    assert out.returncode == 0, out.stderr
    return new


def test_backup_under_load(own_server, tmp_path):
    s = own_server(config=config()).start()
    sub = s.client("keeper")
    sub.connect(clean=False, properties=KEEP)
    sub.subscribe("disk/#", "mem/#", qos=1)
    sub.drop()
    pub = s.connected()
    pub.publish("disk/retained", b"kept", 1, retain=True)
    once = Poster(s).post("disk", b'"once"', idempotency_key="one")
    assert once.status == 200
    loads = [Load(s, c["name"]) for c in CHANNELS]
    for x in loads:
        x.start()
    wait(lambda: all(x.acked > 800 or x.error for x in loads), "some load", 2 * DEADLINE)
    files = []
    for i in range(2):   # each while segments are filled, dropped and compacted
        before = [x.acked for x in loads]
        backup(s, tmp_path / f"b{i}.tar.zst")
        files.append((tmp_path / f"b{i}.tar.zst", before))
        wait(lambda: all(x.acked > n + 100 or x.error for x, n in zip(loads, before)), "more load")
    for x in loads:
        x.stop.set()
        x.join(DEADLINE)
        assert not x.error, x.error
    assert s.alive()
    assert any(f.startswith("disk-") and "0000000000001000" not in f and f.endswith(".seg")
               for f in os.listdir(s.data)), "the load filled no segment"
    for i, (path, before) in enumerate(files):
        folder = tmp_path / f"r{i}"
        out = restore(path, folder)
        assert out.returncode == 0, out.stderr
        for x, acked in zip(loads, before):
            got = [m["val"]["n"] for m in dump(folder, x.channel)
                   if isinstance(m.get("val"), dict)]
            assert got == list(range(got[0], got[-1] + 1)), f"{x.channel}: order or a hole"
            assert got[-1] >= acked - 1, f"{x.channel}: acked {acked}, the backup ends at {got[-1]}"
            assert x.channel == "short" or got[0] == 0
        out = cli("log", "verify", "--data", str(folder))
        assert out.returncode == 0, out.stdout + out.stderr
    first = files[0]
    new = restored(own_server, first[0], config()).start()
    sub = new.client("keeper")
    sub.connect(clean=False, properties=KEEP, present=True)
    want = {c: first[1][i] for i, c in enumerate(("disk", "mem"))}
    seen = {"disk": [], "mem": []}

    def all_there():
        p = sub.next()
        sub.ack(p)
        if p.topic.endswith("/k"):
            seen[p.topic.split("/")[0]].append(json.loads(p.payload)["n"])
        return all(len(seen[c]) >= want[c] for c in want)
    while not all_there():
        pass
    for c in want:
        assert seen[c] == list(range(len(seen[c])))
    r = new.connected()
    r.subscribe("disk/retained", qos=1)
    p = r.next()
    assert p.retain and p.payload == b"kept"
    again = Poster(new).post("disk", b'"once"', idempotency_key="one")
    assert again.status == 200 and again.pos[1] == once.pos[1]
    assert new.metrics()["lavva_gateway_rejected_messages_total{reason=\"duplicate\"}"] == 1


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A stopped server's folder and its backup."""
    s = harness.make(str(tmp_path_factory.mktemp("made")), config=config())
    s.start()
    pos = [publish(s, "disk", i, "k") for i in range(20)]
    assert s.stop() == 0
    s.check()
    path = os.path.join(s.dir, "b.tar")
    backup(s, path)
    return s, path, pos


def test_a_position_of_before_is_told(own_server, made):
    """Guarantee 7: positions are not used again; who resumes with an old one is told."""
    s, path, pos = made
    new = restored(own_server, path, config()).start()
    later = publish(new, "disk", "later", "k")
    assert later not in pos and later.split("-")[0] != pos[0].split("-")[0]

    async def go():
        async with customer(new, channels="disk", since=pos[-1]) as c:
            assert (await c.next())["typ"] == 1
            gap = await c.next()
            assert (gap["typ"], gap["val"]["reason"], gap["val"]["from"]) == (9, "epoch", pos[-1])
            assert val(await c.next()) == "later"
        behind = f"{pos[0].split('-')[0]}-{int(pos[-1].split('-')[1]) + 50}"
        async with customer(new, channels="disk", since=behind) as c:
            assert (await c.next())["typ"] == 1
            assert (await c.next())["typ"] == 9
            assert val(await c.next()) == "later"
    run(go())


def test_what_is_in_it(made, tmp_path):
    s, path, _ = made
    with tarfile.open(path) as t:
        names = t.getnames()
        m = json.load(t.extractfile("manifest.json"))
        sums = {f: hashlib.sha256(t.extractfile(f).read()).hexdigest() for f in names}
        told = t.extractfile("manifest.sha256").read().decode()
    assert names[0] == "lavva-backup.json" and names[-2:] == ["manifest.json", "manifest.sha256"]
    assert told == f"{sums['manifest.json']}  manifest.json\n"
    assert m["format"] == 1 and {x["name"] for x in m["logs"]} == {"mem", "disk"}
    assert [x["name"] for x in m["databases"]] == ["master.db"] and m["databases"][0]["format"] >= 2
    assert all(x["format"] >= 1 and x["epoch"] for x in m["logs"])
    assert sorted(f["name"] for f in m["files"]) == sorted(names[1:-2])
    assert all(sums[f["name"]] == f["sha256"] for f in m["files"])
    assert "lock" not in names
    out = cli("restore", "--check", path)
    assert out.returncode == 0 and out.stdout.startswith("OK ")


def test_control_store_and_other_files(own_server, tmp_path):
    """DATA/master.db is copied while somebody writes to it; keys and certificates come along."""
    s = own_server().start()
    path = os.path.join(s.data, "master.db")
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("CREATE TABLE IF NOT EXISTS e2e (n INTEGER)")
    with db:
        db.execute("INSERT INTO e2e VALUES (1)")
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO e2e VALUES (2)")      # not committed
    backup(s, tmp_path / "b.tar.zst")
    db.execute("ROLLBACK")
    db.close()
    out = restore(tmp_path / "b.tar.zst", tmp_path / "r")
    assert out.returncode == 0, out.stderr
    with sqlite3.connect(tmp_path / "r" / "master.db") as copy:
        assert copy.execute("SELECT n FROM e2e").fetchall() == [(1,)]
    copy.close()
    for name in ("dev-cert.pem", "dev-key.pem"):
        with open(os.path.join(s.data, name)) as a, open(tmp_path / "r" / name) as b:
            assert a.read() == b.read()
        assert os.stat(tmp_path / "r" / name).st_mode & 0o077 == 0
    assert not [f for f in os.listdir(tmp_path / "r") if f.endswith(("-wal", "-shm"))]


@pytest.mark.parametrize("what", ["cut", "cut-manifest", "flip", "flip-name", "extra", "nothing"])
def test_damaged_backups_are_refused(made, tmp_path, what):
    _, path, _ = made
    with open(path, "rb") as f:
        data = bytearray(f.read())
    bad = tmp_path / "bad.tar"
    if what == "cut":
        data = data[:len(data) // 2]
    elif what == "cut-manifest":
        data = data[:data.index(b"manifest.json")]
    elif what == "flip":
        data[data.index(b"LVSEG") + 4096 + 20] ^= 1
    elif what == "flip-name":
        data[data.index(b'"created"', data.index(b"manifest.json")) + 14] ^= 1
    elif what == "nothing":
        data = b""
    bad.write_bytes(data)
    if what == "extra":
        with tarfile.open(path) as old, tarfile.open(bad, "w") as t:
            for m in old.getmembers():
                if m.name == "manifest.json":
                    t.addfile(tarfile.TarInfo("more"))
                t.addfile(m, old.extractfile(m))
    out = restore(bad, tmp_path / "r")
    assert out.returncode == 1 and "nothing was restored" in out.stderr, out
    assert os.listdir(tmp_path) == ["bad.tar"]
    assert cli("restore", "--check", str(bad)).returncode == 1


def test_paths_out_of_the_folder_are_refused(made, tmp_path):
    _, path, _ = made
    for name in ("../evil", "/tmp/evil-lavva", "a/b", ".hidden"):
        bad = tmp_path / "bad.tar"
        with tarfile.open(path) as old, tarfile.open(bad, "w") as t:
            for i, m in enumerate(old.getmembers()):
                if i == 1:
                    t.addfile(tarfile.TarInfo(name))
                t.addfile(m, old.extractfile(m))
        out = restore(bad, tmp_path / "r")
        assert out.returncode == 1 and os.listdir(tmp_path) == ["bad.tar"]


def test_a_newer_format_is_refused(made, tmp_path):
    _, path, _ = made
    bad = tmp_path / "bad.tar"
    head = json.dumps({"format": 99, "version": "9.9", "created": "x"}).encode()
    with tarfile.open(bad, "w") as t:
        info = tarfile.TarInfo("lavva-backup.json")
        info.size = len(head)
        t.addfile(info, io.BytesIO(head))
    out = restore(bad, tmp_path / "r")
    assert out.returncode == 1 and "format 99, made by Lavva 9.9" in out.stderr


def test_restore_does_not_touch_what_is_there(own_server, made, tmp_path):
    _, path, _ = made
    folder = tmp_path / "r"
    folder.mkdir()
    assert restore(path, folder).returncode == 0      # an empty folder is no obstacle
    before = sorted(os.listdir(folder))
    out = restore(path, folder)
    assert out.returncode == 1 and "--force" in out.stderr and sorted(os.listdir(folder)) == before
    (folder / "mine").write_text("x")
    out = restore(path, folder, "--force")
    assert out.returncode == 0 and not (folder / "mine").exists()
    old = [d for d in os.listdir(tmp_path) if d.startswith("r.old-")]
    assert len(old) == 1 and (tmp_path / old[0] / "mine").exists()
    s = own_server(config=config()).start()
    out = restore(path, s.data, "--force")
    assert out.returncode == 1 and "in use" in out.stderr and s.alive()


def test_backup_arguments(made, tmp_path):
    s, path, _ = made
    assert cli("backup", "--data", s.data).returncode == 64
    assert cli("backup", "--data", s.data, "-o", os.path.join(s.data, "b.tar")).returncode == 64
    out = cli("backup", "--data", str(tmp_path), "-o", str(tmp_path / "b.tar"))
    assert out.returncode == 1 and "no log" in out.stderr and not os.listdir(tmp_path)
    out = cli("backup", "--data", s.data, "-o", path)
    assert out.returncode == 1 and "--force" in out.stderr
    backup(s, path, "--force")
    backup(s, tmp_path)
    name, = os.listdir(tmp_path)
    assert name.startswith("lavva-2") and name.endswith(".tar.zst")
    assert os.stat(tmp_path / name).st_mode & 0o077 == 0
    piped = subprocess.run([harness.BIN, "backup", "--data", s.data, "-o", "-"],
                           capture_output=True, timeout=DEADLINE)
    assert piped.returncode == 0 and piped.stdout[:4] == b"\x28\xb5\x2f\xfd"
    out = subprocess.run([harness.BIN, "restore", "-", "--data", str(tmp_path / "r")],
                         input=piped.stdout, capture_output=True, timeout=DEADLINE)
    assert out.returncode == 0, out.stderr


def test_killed_in_the_middle(made, tmp_path):
    """kill -9 at several points: no backup appears, no folder; the next try works."""
    s, path, _ = made
    big = tmp_path / "big"
    shutil.copytree(s.data, big)
    with open(big / "ballast", "wb") as f:
        f.write(os.urandom(1 << 20) * 48)
    for args, out in ((["backup", "--data", str(big), "-o", str(tmp_path / "out" / "b.tar")], "out"),
                      (["restore", str(tmp_path / "big.tar"), "--data", str(tmp_path / "r")], None)):
        os.makedirs(tmp_path / "out", exist_ok=True)
        if out is None:
            made_ok = cli("backup", "--data", str(big), "-o", str(tmp_path / "big.tar"))
            assert made_ok.returncode == 0, made_ok.stderr
        p = Children.popen([harness.BIN, *args])

        def at_work():
            if p.poll() is not None:
                return True
            with open(f"/proc/{p.pid}/io") as f:
                written = next(int(x.split()[1]) for x in f if x.startswith("wchar"))
            return written > 8 << 20
        wait(at_work, "it to be in the middle", step=0.001)
        p.send_signal(signal.SIGKILL)
        assert p.wait() == -9, "it was too quick for this test"
        if out:
            assert os.listdir(tmp_path / "out") == []
        else:
            assert not (tmp_path / "r").exists()
        assert cli(*args, timeout=2 * DEADLINE).returncode == 0
        assert out or (tmp_path / "r" / "ballast").exists()
    assert not [d for d in os.listdir(tmp_path) if d.startswith(".")]


def test_files_are_not_used_again_while_read(own_server):
    """A reader holds the folder: dropped segments are removed, not filled with other content."""
    s = own_server(config=config()).start()
    fd = os.open(s.data, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_SH)
    load = Load(s, "short")
    load.start()

    def segments():
        return sorted(f for f in os.listdir(s.data) if re.fullmatch(r"disk-.{16}\.seg", f))
    wait(lambda: len(segments()) > 1 or load.error, "a second segment", 2 * DEADLINE)
    path = os.path.join(s.data, segments()[1])      # the first holds the channels' declarations
    keep = os.open(path, os.O_RDONLY)
    head = os.pread(keep, 1 << 20, 0)[:508]
    wait(lambda: os.fstat(keep).st_nlink == 0 or load.error, "the segment to be removed",
         2 * DEADLINE)
    load.stop.set()
    load.join(DEADLINE)
    assert not load.error
    assert os.pread(keep, 508, 0) == head and not os.path.exists(path)
    os.close(keep)
    os.close(fd)
