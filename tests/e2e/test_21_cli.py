"""`lavva pub`, `sub`, `key`, `version`, `log`, `demo`: what people type (exit codes included)."""
import json
import os
import re
import resource
import subprocess
import threading

import pytest

import harness
from harness import BIN, DEADLINE, cli, wait

REFUSED, TIMEOUT, USAGE = 3, 2, 64


def env_of(server):
    return {**os.environ, "LAVVA_MQTT": f"{server.mqtt[0]}:{server.mqtt[1]}",
            "LAVVA_APP": server.user, "LAVVA_KEY": server.key}


def lavva(server, *args, **kw):
    return cli(*args, env=env_of(server), **kw)


class Sub:
    """`lavva sub` in the background. `ready` publishes to the topic until a line arrives, so
    that it is known to be subscribed."""

    def __init__(self, server, *args):
        self.p = harness.Children.popen(["stdbuf", "-oL", BIN, "sub", *args], env=env_of(server),
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines, self.err = [], []
        self.threads = [threading.Thread(target=self._read, args=a, daemon=True)
                        for a in ((self.p.stdout, self.lines), (self.p.stderr, self.err))]
        for th in self.threads:
            th.start()

    @staticmethod
    def _read(f, lines):
        for line in f:
            lines.append(line.rstrip("\n"))

    def ready(self, server, topic):
        c = server.connected()

        def heard():
            c.publish(topic, b"ready?", 1)
            return "ready?" in " ".join(self.lines)
        wait(heard, f"lavva sub to be subscribed; {self.err}", step=0.05)
        mark = server.uid("mark")
        c.publish(topic, mark.encode(), 1)
        wait(lambda: any(mark in x for x in self.lines), "the mark")
        self.lines.clear()
        return self

    def end(self):
        code = self.p.wait(DEADLINE)
        for th in self.threads:
            th.join(DEADLINE)
        return code

    def stop(self):
        self.p.terminate()
        return self.end()


def test_version_and_help():
    out = cli("version")
    assert out.returncode == 0 and re.match(r"lavva \d+\.\d+\.\d+", out.stdout)
    out = cli("--help")
    assert out.returncode == 0 and "pub" in out.stdout and "serve" in out.stdout
    commands = re.findall(r"^  (\w+) +\S", out.stdout, re.M)
    assert len(commands) >= 5
    for c in commands:
        out = cli(c, "--help")
        assert out.returncode == 0 and out.stdout.startswith(("usage", "lavva")), c
        if c not in ("version", "help"):
            assert "lavva " + c in out.stdout


def test_wrong_usage():
    for args in (["nonsense"], ["pub", "--no-such"], ["pub"], ["sub", "-C", "x"],
                 ["sub", "-q", "3"], ["pub", "-q"], ["pub", "a/#", "m"], ["pub", "+", "m"], ["check"], ["key"]):
        out = cli(*args, timeout=DEADLINE)
        assert out.returncode == USAGE, (args, out)
        assert out.stderr and not out.stdout


@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_pub_and_sub(server, t, qos):
    sub = Sub(server, "-q", qos, "-v", t + "/#").ready(server, t + "/r")
    out = lavva(server, "pub", "-q", qos, t + "/a", "hello")
    assert out.returncode == 0 and out.stdout == "" and out.stderr == "", out
    wait(lambda: sub.lines, "the line")
    assert sub.lines == [f"{t}/a hello"]
    assert sub.stop() in (0, -15, 143)


def test_sub_count(server, t):
    sub = Sub(server, "-q", "1", t)
    sub.ready(server, t)
    sub.stop()
    sub = Sub(server, "-C", "3", "-q", "1", t)
    c = server.connected()

    def going():
        c.publish(t, b"x", 1)
        return sub.p.poll() is not None
    wait(going, "its end", step=0.05)
    assert sub.end() == 0 and sub.lines == ["x"] * 3


def test_sub_timeout(server, t):
    out = lavva(server, "sub", "-C", "1", "-W", "300ms", t)
    assert out.returncode == TIMEOUT
    out = lavva(server, "sub", "-W", "300ms", t)
    assert out.returncode == 0


def test_lines(server, t):
    sub = Sub(server, "-q", "1", t).ready(server, t)
    out = lavva(server, "pub", "-q", "1", t, input="".join(f"line {i}\n" for i in range(500)))
    assert out.returncode == 0, out
    wait(lambda: len(sub.lines) >= 500, "500 lines")
    assert sub.lines == [f"line {i}" for i in range(500)]
    sub.stop()


def test_lines_with_keys(server, t):
    sub = Sub(server, "-v", "-q", "1", t + "/#").ready(server, t + "/r")
    out = lavva(server, "pub", "-q", "1", "-K", ":", t + "/{key}", input="a:1\nb:2:3\nc:\n")
    assert out.returncode == 0, out
    wait(lambda: len(sub.lines) >= 3, "three lines")
    assert [x.rstrip() for x in sub.lines] == [f"{t}/a 1", f"{t}/b 2:3", f"{t}/c"]
    sub.stop()


def test_files_and_stdin(server, t, tmp_path):
    c = server.connected()
    c.subscribe(t, qos=1)
    body = bytes(range(256)) * 300
    path = tmp_path / "blob"
    path.write_bytes(body)
    assert lavva(server, "pub", "-q", "1", t, "-f", str(path)).returncode == 0
    c.message(t, body)
    with open(path, "rb") as f:
        assert lavva(server, "pub", "-q", "1", "-s", t, stdin=f).returncode == 0
    c.message(t, body)
    assert lavva(server, "pub", "-q", "1", t, "-n").returncode == 0
    c.message(t, b"")
    out = lavva(server, "pub", t, "-f", "/no/such/file")
    assert out.returncode in (1, 64) and "/no/such/file" in out.stderr


def test_templates_and_rate(server, t):
    c = server.connected()
    c.subscribe(t + "/+", qos=1)
    out = lavva(server, "pub", "-q", "1", "-c", "5", "-r", "50", t + "/{i}", '{"v":{i},"x":{y}}')
    assert out.returncode == 0, out
    for i in range(5):
        c.message(f"{t}/{i}", b'{"v":%d,"x":{y}}' % i)
    out = lavva(server, "pub", "-q", "1", "--literal", t + "/x", "{i}")
    assert out.returncode == 0
    c.message(t + "/x", b"{i}")


def test_properties(server, t):
    c = server.connected()
    c.subscribe(t, qos=1)
    out = lavva(server, "pub", "-q", "1", "-P", "b=2", "-P", "a=1=1", "--tag", "T", "--cat", "C",
                "--content-type", "text/x", "--response-topic", "r/t", "--correlation", "id",
                "-x", "100", t, "m")
    assert out.returncode == 0, out
    p = c.message(t, b"m")
    assert set(p.users) == {("b", "2"), ("a", "1=1"), ("tag", "T"), ("cat", "C")}
    assert p.prop("content_type") == "text/x" and p.prop("response_topic") == "r/t"
    assert p.prop("correlation_data") == b"id" and 98 <= p.prop("message_expiry") <= 100


def test_retain(server, t):
    assert lavva(server, "pub", "-q", "1", "-R", t, "kept").returncode == 0
    out = lavva(server, "sub", "-C", "1", t)
    assert out.returncode == 0 and out.stdout == "kept\n"
    out = lavva(server, "sub", "--retained-only", "-W", "2s", t)
    assert out.stdout == "kept\n"
    assert lavva(server, "pub", "-q", "1", "-R", "-n", t).returncode == 0
    out = lavva(server, "sub", "-C", "1", "-W", "300ms", t)
    assert out.returncode == TIMEOUT and out.stdout == ""


def test_formats(server, t):
    c = server.connected()
    for body in (b'{"a":1}', "tëxt".encode(), b"\xff\0", b"3.0"):
        c.publish(f"{t}/{len(body)}", body, 1, retain=True,
                  properties=[("user", ("tag", "x")), ("content_type", "a/b")])
    out = lavva(server, "sub", "-j", "-C", "4", t + "/+")
    got = {json.loads(x)["topic"]: json.loads(x) for x in out.stdout.splitlines()}
    assert got[t + "/7"]["val"] == {"a": 1}
    assert got[t + "/5"]["val"] == "tëxt"
    assert got[t + "/2"]["b64"] == "/wA=" and "val" not in got[t + "/2"]
    assert got[t + "/3"]["val"] == 3.0
    out = lavva(server, "sub", "-F", "{topic}|{key}|{value}|{qos}|{retain}|{tag}|{len}", "-C", "1",
                t + "/7")
    key = t.partition("/")[2] + "/7"
    assert out.stdout.strip().lower() in (f'{t}/7|{key}|{{"a":1}}|0|{x}|x|7'.lower()
                                          for x in ("1", "true", "retain"))
    out = lavva(server, "sub", "-x", "-C", "1", t + "/2")
    assert out.stdout.lower().strip() == "ff00"
    for body in (b'{"a":1}', "tëxt".encode(), b"\xff\0", b"3.0"):
        c.publish(f"{t}/{len(body)}", b"", 1, retain=True)


def test_raw_output(server, t):
    c = server.connected()
    body = bytes(range(256))
    c.publish(t, body, 1, retain=True)
    out = subprocess.run([BIN, "sub", "--raw", "-C", "1", t], env=env_of(server),
                         capture_output=True, timeout=DEADLINE)
    assert out.stdout == body
    c.publish(t, b"", 1, retain=True)


@pytest.mark.lavva_only
@pytest.mark.parametrize("command", [["pub", "-q", "1", "e2e/x", "m"], ["sub", "-C", "1", "e2e/x"]])
def test_wrong_key(server, command):
    out = cli(*command, "-k", "lv_wrong_00000000000000000000000", env=env_of(server))
    assert out.returncode == REFUSED, out
    assert out.stderr and "lv_wrong_000" not in out.stderr


def test_nobody_there():
    port = harness.free_port()
    out = cli("pub", "-u", f"mqtt://127.0.0.1:{port}", "-q", "1", "-W", "2s", "a/b", "m")
    assert out.returncode in (1, 2) and str(port) in out.stderr


@pytest.mark.lavva_only
@pytest.mark.parametrize("more", [["-P", "a=b"], ["--tag", "x"], ["--cat", "x"], ["-x", "5"],
                                  ["--content-type", "x/y"], ["--response-topic", "r"],
                                  ["--correlation", "c"],
                                  ["--will-topic", "w", "--will-delay", "5"]])
def test_properties_need_mqtt_5(more):
    """Nothing is left out silently: what 3.1.1 cannot carry is refused before connecting."""
    out = cli("pub", "-V", "4", *more, "a/b", "m")
    assert out.returncode == 64 and "MQTT 5" in out.stderr and "--mqtt-version 4" in out.stderr


@pytest.mark.lavva_only
def test_no_local_needs_mqtt_5():
    out = cli("sub", "-V", "4", "--no-local", "a/b")
    assert out.returncode == 64 and "MQTT 5" in out.stderr


@pytest.mark.lavva_only
def test_finds_the_development_instance(own_server):
    s = own_server(folder="x")
    s.data = os.path.join(s.dir, "lavva-data")
    s.start()
    out = cli("pub", "-q", "1", "-R", "demo/here", "found", cwd=s.dir)
    assert out.returncode == 0, out
    out = cli("sub", "-C", "1", "demo/here", cwd=s.dir)
    assert out.stdout == "found\n"
    out = cli("sub", "-C", "1", "--data", s.data, "demo/here", cwd="/")
    assert out.stdout == "found\n"


@pytest.mark.lavva_only
def test_over_tls(server, t):
    url = f"mqtts://127.0.0.1:{server.mqtts[1]}"
    out = lavva(server, "pub", "-u", url, "--ca", server.ca, "-q", "1", "-R", t, "tls")
    assert out.returncode == 0, out
    out = lavva(server, "sub", "-u", url, "--ca", server.ca, "-C", "1", t)
    assert out.stdout == "tls\n"
    out = lavva(server, "pub", "-u", url, "--ca", "/etc/ssl/certs/ca-certificates.crt", "-q", "1",
                "-W", "3s", t, "x")
    assert out.returncode != 0
    lavva(server, "pub", "-q", "1", "-R", "-n", t)


@pytest.mark.lavva_only
def test_over_tls_trusting_the_system(server, t, tmp_path):
    """Without --ca the system's certificates count, here those of a folder of our own."""
    name = subprocess.run(["openssl", "x509", "-subject_hash", "-noout", "-in", server.ca],
                          capture_output=True, text=True, check=True).stdout.strip()
    os.symlink(server.ca, tmp_path / f"{name}.0")
    args = ["pub", "-u", f"mqtts://127.0.0.1:{server.mqtts[1]}", "-q", "1", t, "x"]
    out = cli(*args, env={**env_of(server), "SSL_CERT_DIR": str(tmp_path)})
    assert out.returncode == 0, out
    out = lavva(server, *args)
    assert out.returncode == 1 and "certificate" in out.stderr, out


def test_kept_session(server, t):
    args = ["-q", "1", "-c", "-i", server.uid("keep"), t]
    sub = Sub(server, *args).ready(server, t)
    sub.stop()
    c = server.connected()
    for i in range(3):
        c.publish(t, str(i), 1)
    out = lavva(server, "sub", "-C", "3", *args)
    assert out.stdout == "0\n1\n2\n"


def test_sub_comes_back(own_server, tmp_path):
    """A lost connection is made again."""
    s = own_server().start()
    sub = Sub(s, "-q", "1", "-c", "-i", "comeback", "e2e/x").ready(s, "e2e/x")
    mqtt = s.mqtt
    s.stop()
    if s.name == "lavva":
        s.args = ["--mqtt", f"{mqtt[0]}:{mqtt[1]}"]
    s.start()
    sub.ready(s, "e2e/x")
    sub.stop()


def test_broken_pipe(server, t):
    c = server.connected()
    out = harness.Children.popen(["bash", "-c", f"'{BIN}' sub '{t}' | head -n 2"],
                                 env=env_of(server), stdout=subprocess.PIPE, text=True)

    def going():
        c.publish(t, b"x", 1)
        return out.poll() is not None
    wait(going, "the pipe's end", step=0.05)
    assert out.stdout.read() == "x\nx\n"


def test_key_new():
    import hashlib
    out = cli("key", "new", "--id", "devices")
    assert out.returncode == 0
    text = out.stdout.splitlines()[0]
    assert re.fullmatch(r"lv_devices_[A-Za-z0-9]{22,}", text)
    assert hashlib.sha256(text.encode()).hexdigest() in out.stdout
    assert cli("key", "new").stdout != cli("key", "new").stdout


@pytest.mark.lavva_only
class TestLog:
    """`lavva log inspect|verify|dump`, live and at rest."""

    @pytest.fixture
    def s(self, own_server):
        s = own_server().start()
        c = s.connected()
        for i in range(50):
            c.publish(f"logged/k{i % 3}", b'{"n":%d}' % i, 1,
                      properties=[("user", ("tag", "T")), ("user", ("cat", "C"))])
        c.publish("logged", b"text", 1)
        c.publish("logged/", b"\xff\xfe", 1)
        c.publish("other/x", b"1", 1)
        return s

    @pytest.mark.parametrize("live", [True, False], ids=["live", "rest"])
    def test_dump(self, s, live):
        if not live:
            s.stop()
        out = s.cli("log", "dump", "--data", s.data, "logged")
        assert out.returncode == 0, out.stderr
        rows = [json.loads(x) for x in out.stdout.splitlines()]
        assert len(rows) == 52
        assert [r["val"] for r in rows[:50]] == [{"n": i} for i in range(50)]
        assert rows[3]["key"] == "k0" and rows[3]["tag"] == "T" and rows[3]["cat"] == "C"
        assert rows[50].get("key") is None and rows[50]["val"] == "text"
        assert rows[51]["key"] == "" and rows[51]["b64"] == "//4="
        assert all("tms" in r for r in rows)
        offsets = [int(r["pos"].rpartition("-")[2]) for r in rows]
        assert offsets == sorted(set(offsets))

    @pytest.mark.parametrize("live", [True, False], ids=["live", "rest"])
    def test_verify_and_inspect(self, s, live):
        if not live:
            s.stop()
        out = s.cli("log", "verify", "--data", s.data)
        assert out.returncode == 0, out
        out = s.cli("log", "inspect", "--data", s.data)
        assert out.returncode == 0 and "logged" in out.stdout and "other" in out.stdout

    def test_verify_finds_damage(self, s):
        s.stop()
        logs = []
        for root, _, files in os.walk(s.data):
            for f in files:
                path = os.path.join(root, f)
                with open(path, "rb") as fh:
                    data = fh.read()
                at = data.find(b'{"n":25}')
                if at >= 0:
                    logs.append((path, at))
        assert logs
        for path, at in logs:
            with open(path, "r+b") as fh:
                fh.seek(at + 5)
                fh.write(b"99")
        out = s.cli("log", "verify", "--data", s.data)
        assert out.returncode == 1 and out.stderr + out.stdout

    def test_more_files_than_the_soft_limit(self, own_server):
        """Every segment is held open: descriptors are taken up to the hard limit."""
        import lvconf
        s = own_server(config=lvconf.doc(limits={"packet": "1MiB"},
                                         storage={"segment": "1MiB"})).start()
        c = s.connected()
        for i in range(24):
            c.publish("big", bytes([i]) * 700000, 1)
        s.stop()
        with open("/proc/self/limits") as f:
            hard = next(x.split()[4] for x in f if x.startswith("Max open files"))
        if hard != "unlimited" and int(hard) < 128:
            pytest.skip("the hard limit is low")
        assert sum(len(files) for _, _, files in os.walk(s.data)) > 24
        for verb in ("verify", "inspect"):
            out = s.cli("log", verb, "--data", s.data, preexec_fn=lambda: resource.setrlimit(
                resource.RLIMIT_NOFILE, (20, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
            assert out.returncode == 0, out

    def test_unknown_channel_and_folder(self, s):
        out = s.cli("log", "dump", "--data", s.data, "nosuch")
        assert out.returncode != 0 or out.stdout == ""
        assert s.cli("log", "verify", "--data", "/no/such/dir").returncode != 0

    @pytest.mark.parametrize("verb", ["inspect", "dump"])
    def test_folder_without_a_log(self, s, tmp_path, verb):
        empty = tmp_path / "empty"
        empty.mkdir()
        out = s.cli("log", verb, "--data", str(empty))
        assert out.returncode == 1 and "no log" in out.stderr, out
        assert not os.listdir(empty)


@pytest.mark.lavva_only
def test_demo(own_server):
    s = own_server().start()
    c = s.connected()
    c.subscribe("#")
    p = harness.Children.popen([BIN, "demo", "--data", s.data], stdout=subprocess.DEVNULL,
                         stderr=subprocess.PIPE, text=True, cwd=s.dir)
    try:
        topics = set()
        for m in c.collect(60):
            topics.add(m.topic)
            assert m.payload
        assert len(topics) >= 8, topics
        assert any("cpu" in x for x in topics) and any("mem" in x for x in topics), topics
    finally:
        p.terminate()
        assert p.wait(DEADLINE) in (0, -15, 143)


@pytest.mark.lavva_only
def test_top_in_a_pipe(own_server):
    """Off a terminal: a line every few seconds."""
    s = own_server().start()
    p = harness.Children.popen([BIN, "top", "--data", s.data], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, cwd=s.dir)
    line = p.stdout.readline()
    assert line.strip() and "\x1b" not in line
    p.terminate()
    assert p.wait(DEADLINE) in (0, -15, 143)


@pytest.mark.lavva_only
def test_top_with_nobody_there(server):
    port = harness.free_port()
    out = cli("top", "--http", f"127.0.0.1:{port}", "--plain", "-n", "100ms", "-C", "2",
              env=env_of(server))
    assert out.returncode == 1, out
    for text in (out.stdout, out.stderr):
        assert "onnection refused" in text and f"127.0.0.1:{port}" in text, out
    assert "--http" in out.stderr
