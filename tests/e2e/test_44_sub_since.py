"""`lavva sub --since`: a channel from a position, a time or its start on, told gaps, and nothing lost
or shown twice when the server dies in the middle."""
import base64
import datetime
import json
import re
import subprocess
import threading
import urllib.error
import urllib.request

import harness
import pytest
from harness import BIN, DEADLINE, Children, cli, wait
from lvconf import ALL, app, doc, key, key_text
from test_33_hub import publish

pytestmark = pytest.mark.lavva_only


def config(**kw):
    return doc([app(channels=[{"name": "t"}, {"name": "u"}, {"name": "bin", "content": "binary"},
                              {"name": "small", "durability": "memory",
                               "retention": {"count": 5, "age": "unlimited"}}],
                    keys=[key("full", ALL, ALL, sys=True), key("some", [], ["t/#"])])], **kw)


@pytest.fixture(scope="module")
def srv(tmp_path_factory):
    s = harness.make(str(tmp_path_factory.mktemp("since")), config=config()).start()
    yield s
    s.stop()
    s.check()


def argv(s, since, *args, k=None):
    return ["sub", "--url", f"http://{s.http[0]}:{s.http[1]}", "--key", k or s.key, "--since", since,
            *args]


def sub(s, since, *args, rc=0, **kw):
    r = cli(*argv(s, since, *args, **kw), timeout=DEADLINE, cwd=s.dir)
    assert r.returncode == rc, (r.returncode, r.stdout[-2000:], r.stderr)
    return r


def lines(s, since, *args, **kw):
    return sub(s, since, *args, **kw).stdout.splitlines()


def test_start_position_time(srv):
    s = srv
    pos = [publish(s, "t", {"n": i}, f"k/{i}") for i in range(5)]
    all_of = [f'{p} t/k/{i} {{"n": {i}}}' for i, p in enumerate(pos)]
    assert lines(s, "start", "t", "-C", "5") == all_of
    assert lines(s, pos[1], "t", "-C", "3") == all_of[2:]
    assert lines(s, "2020-01-01T00:00:00Z", "t/#", "-C", "5") == all_of
    assert lines(s, "start", "t/k/3", "-C", "1") == [all_of[3]]
    now = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1)).isoformat()
    assert lines(s, now, "t", "-W", "500ms") == []
    assert sub(s, pos[4], "t", "-C", "1", "-W", "500ms", rc=2).stdout == ""


def test_output(srv):
    s = srv
    p = publish(s, "u", "text \u00e9\n", "a", tag="T", cat="C")
    q = publish(s, "bin", b"\0\xff\n")
    assert sub(s, "start", "u", "-C", "1").stdout == f"{p} u/a text \u00e9\n\n"
    assert sub(s, "start", "u", "-C", "1", "--raw").stdout == "text \u00e9\n"
    assert lines(s, "start", "bin", "-C", "1", "-x") == [f"{q} bin 00ff0a"]
    got = json.loads(sub(s, "start", "u", "-C", "1", "-j").stdout)
    assert (got["topic"], got["pos"], got["val"], got["tag"], got["cat"], got["pid"]) == (
        "u/a", p, "text \u00e9\n", "T", "C", "full")
    got = json.loads(sub(s, "start", "bin", "-C", "1", "-j").stdout)
    assert base64.b64decode(got["b64"]) == b"\0\xff\n" and got["pos"] == q
    assert lines(s, "start", "u", "-C", "1", "-F", "{channel} {key} {tag} {len} {n} {pos}|{none}") \
        == [f"u a T 8 0 {p}|{{none}}"]
    assert sub(s, "start", "t", "u", "-W", "500ms").stdout.count("\n") >= 1


def test_large_messages(srv):
    s = srv
    big = {"v": "x" * 300000}
    publish(s, "u", big, "big")
    got = [json.loads(x) for x in lines(s, "start", "u/big", "-C", "1", "-j")]
    assert got[0]["val"] == big


def test_refused(srv):
    s = srv
    for args, kw, rc, what in (
            (("start", "t"), {"k": "lv_full_" + "x" * 26}, 3, "401"),
            (("start", "u"), {"k": key_text("some")}, 3, "403"),
            (("start",), {}, 64, "CHANNEL"), (("soon", "t"), {}, 64, "--since soon"),
            (("x-1", "t", "u"), {}, 64, "one channel"), (("start", "t", "--qos", "1"), {}, 64, "goes with"),
            (("start", "+/x"), {}, 64, "CHANNEL"), (("start", "t/a", "u/b"), {}, 64, "one filter")):
        r = sub(s, *args, rc=rc, **kw)
        assert what in r.stderr and s.key not in r.stderr, r.stderr
    r = cli("sub", "--url", "http://127.0.0.1:1", "--key", s.key, "--since", "start", "t", timeout=DEADLINE)
    assert r.returncode == 1 and "127.0.0.1:1" in r.stderr
    r = cli("sub", "--url", "mqtt://127.0.0.1:1", "--since", "start", "t", timeout=DEADLINE)
    assert r.returncode == 64


def test_gaps_are_told(srv):
    s = srv
    first = publish(s, "small", 0)
    for i in range(20):
        last = publish(s, "small", i)
    wait(lambda: "gap in small" in sub(s, first, "small", "-W", "200ms").stderr, "retention")
    r = sub(s, first, "small", "-C", "5")
    m = re.search(r"gap in small: (\S+) to (\S+) \(retention\)", r.stderr)
    assert m and m[1] == first, r.stderr
    assert r.stdout.splitlines()[0].split(" ")[0] == m[2]
    assert r.stdout.splitlines()[-1].startswith(last + " ")
    epoch, offset = last.rsplit("-", 1)
    r = sub(s, f"elsewhere-{offset}", "small", "-C", "5")
    assert "(epoch)" in r.stderr


def test_development_instance(server):
    """Without --url: the instance of dev.env, or of the environment."""
    s = server
    chan = s.uid("since")
    p = publish(s, chan, 1)
    r = cli("sub", "--data", s.data, "--since", "start", chan, "-C", "1", timeout=DEADLINE)
    assert (r.returncode, r.stdout) == (0, f"{p} {chan} 1\n"), r.stderr
    env = {**s.cli_env()}
    r = cli("sub", "--since", "start", chan, "-C", "1", timeout=DEADLINE, env=env)
    assert r.stdout == f"{p} {chan} 1\n", r.stderr


def test_over_tls(server):
    s = server
    chan = s.uid("tls")
    p = publish(s, chan, 1)
    url = f"wss://localhost:{s.https[1]}"
    args = ["sub", "--url", url, "--key", s.key, "--since", "start", chan, "-C", "1"]
    r = cli(*args, "--ca", s.ca, timeout=DEADLINE)
    assert (r.returncode, r.stdout) == (0, f"{p} {chan} 1\n"), r.stderr
    r = cli(*args, timeout=DEADLINE)
    assert r.returncode == 1 and "certificate" in r.stderr


def test_ends_when_its_key_goes(own_server):
    s = own_server(config=config()).start()
    p = Children.popen([BIN, *argv(s, "start", "t", k=key_text("some"))], stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True, cwd=s.dir)
    publish(s, "t", 1)
    assert p.stdout.readline()
    s.reload(doc([app(channels=[{"name": "t"}], keys=[key("full", ALL, ALL, sys=True)])]))
    assert p.wait(DEADLINE) == 3
    assert "key revoked" in p.stderr.read()


@pytest.mark.parametrize("durability", ["disk", "memory"])
def test_server_killed_in_the_middle(own_server, durability):
    """kill -9 while messages come: every acknowledged one is shown once, in order, across three
    lives of the server; what was not acknowledged may be there, once."""
    s = own_server(config=doc([app(channels=[{"name": "t", "durability": durability}])])).start()
    p = Children.popen([BIN, *argv(s, "start", "t", "-F", "{pos} {value}")],
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=s.dir)
    shown, acked, n, stop = [], [], 0, threading.Event()
    reader = threading.Thread(target=lambda: shown.extend(x.rstrip("\n") for x in p.stdout))
    reader.start()

    def pump():
        nonlocal n
        while not stop.is_set():
            n += 1
            try:
                acked.append((publish(s, "t", n), n))
            except (OSError, urllib.error.URLError, ConnectionError):
                stop.wait(0.01)
    pumping = threading.Thread(target=pump)
    pumping.start()
    try:
        for _ in range(3):
            have = len(acked)
            wait(lambda: len(acked) >= have + 100 and len(shown) > have, "messages")
            s.kill()
            s.start()
        have = len(acked)
        wait(lambda: len(acked) >= have + 100, "messages")
    finally:
        stop.set()
        pumping.join()
    wait(lambda: shown and shown[-1].endswith(f" {acked[-1][1]}"), "the last one to be shown")
    p.terminate()
    p.wait(DEADLINE)
    reader.join()
    err = p.stderr.read()
    values = [int(x.split(" ")[1]) for x in shown]
    assert values == sorted(set(values)), "repeated, or out of order"
    assert [v for _, v in acked if v not in set(values)] == [], "lost"
    if durability == "disk":        # where positions of one epoch name the messages of the next
        assert {f"{pos} {v}" for pos, v in acked} <= set(shown)
    assert set(values) <= set(range(1, n + 1))
    # a memory log may have lost its tail to a power cut: who resumes is told, and loses nothing here
    assert err.count("connected again") == 3, err
    assert err.count("gap in t") == err.count("(epoch)") == (3 if durability == "memory" else 0), err
