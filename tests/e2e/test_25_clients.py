"""Client libraries and tools that people use, unmodified: paho, mosquitto_pub/sub/rr."""
import subprocess
import threading

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

import harness
from harness import DEADLINE, wait


def tool(server, name, *args, text_in=None, v="5", tls=False):
    host, port = (server.mqtts if tls else server.mqtt)
    cmd = [name, "-h", host, "-p", str(port), "-u", server.user, "-P",
           server.key, "-V", v, *args]
    if tls:
        cmd += ["--cafile", server.ca]
    return subprocess.run(cmd, input=text_in, capture_output=True, text=True, timeout=DEADLINE,
                          stdin=None if text_in is not None else subprocess.DEVNULL)


class Sub:
    """mosquitto_sub in the background, subscribed before the constructor returns."""

    def __init__(self, server, *args, v="5", tls=False):
        host, port = (server.mqtts if tls else server.mqtt)
        cmd = ["mosquitto_sub", "-d", "-h", host, "-p", str(port), "-u",
               server.user, "-P", server.key, "-V", v, *args]
        if tls:
            cmd += ["--cafile", server.ca]
        self.p = harness.Children.popen(["stdbuf", "-oL", *cmd], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True)
        self.lines, self.ready = [], threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        if not self.ready.wait(DEADLINE):
            self.p.kill()
            raise AssertionError(f"mosquitto_sub did not subscribe: {self.lines}")

    def _read(self):
        for line in self.p.stdout:
            if line.startswith("Subscribed"):
                self.ready.set()
            elif not line.startswith("Client "):
                self.lines.append(line.rstrip("\n"))

    def done(self):
        assert self.p.wait(DEADLINE) == 0
        wait(lambda: self.p.poll() is not None, "its end")
        return self.lines


@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_mosquitto_tools(server, t, version, qos):
    sub = Sub(server, "-t", t + "/#", "-q", qos, "-C", "2", "-F", "%t %p", v=version)
    for i in range(2):
        out = tool(server, "mosquitto_pub", "-t", f"{t}/{i}", "-m", f"m{i}", "-q", qos, v=version)
        assert out.returncode == 0, out.stderr
    sub.p.wait(DEADLINE)
    wait(lambda: len(sub.lines) >= 2, f"both lines, have {sub.lines}")
    assert sub.lines == [f"{t}/0 m0", f"{t}/1 m1"]


def test_mosquitto_pub_lines(server, t):
    sub = Sub(server, "-t", t, "-q", "2", "-C", "500")
    out = tool(server, "mosquitto_pub", "-t", t, "-l", "-q", "2",
               text_in="".join(f"{i}\n" for i in range(500)))
    assert out.returncode == 0, out.stderr
    sub.p.wait(DEADLINE)
    wait(lambda: len(sub.lines) >= 500, "all lines")
    assert sub.lines == [str(i) for i in range(500)]


def test_mosquitto_properties(server, t):
    sub = Sub(server, "-t", t, "-C", "1", "-F", "%j")
    out = tool(server, "mosquitto_pub", "-t", t, "-m", "x", "-D", "publish", "user-property", "k",
               "v", "-D", "publish", "content-type", "text/x")
    assert out.returncode == 0, out.stderr
    sub.p.wait(DEADLINE)
    wait(lambda: sub.lines, "the line")
    assert '"content-type":"text/x"' in sub.lines[0].replace(": ", ":")


def test_mosquitto_retained(server, t):
    assert tool(server, "mosquitto_pub", "-t", t, "-m", "kept", "-r", "-q", "1").returncode == 0
    out = tool(server, "mosquitto_sub", "-t", t, "-C", "1", "-F", "%r %p")
    assert out.stdout == "1 kept\n"
    assert tool(server, "mosquitto_pub", "-t", t, "-n", "-r", "-q", "1").returncode == 0


def test_mosquitto_rr(server, t):
    from raw import PUBLISH
    responder = server.connected()
    responder.subscribe(t + "/ask")
    res = {}

    def ask():
        res["out"] = tool(server, "mosquitto_rr", "-t", t + "/ask", "-e", t + "/answer", "-m", "?")
    th = threading.Thread(target=ask)
    th.start()
    q = responder.expect(PUBLISH, payload=b"?")
    props = {k: q.prop(k) for k in ("correlation_data",) if q.prop(k) is not None}
    responder.publish(q.prop("response_topic"), b"!", 1, properties=props)
    th.join(DEADLINE)
    assert res["out"].stdout == "!\n", res["out"]


@pytest.mark.lavva_only
@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
def test_mosquitto_tls(server, t, version):
    sub = Sub(server, "-t", t, "-C", "1", v=version, tls=True)
    out = tool(server, "mosquitto_pub", "-t", t, "-m", "over tls", "-q", "1", v=version, tls=True)
    assert out.returncode == 0, out.stderr
    sub.p.wait(DEADLINE)
    wait(lambda: sub.lines == ["over tls"], "the line")


@pytest.mark.lavva_only
def test_mosquitto_pub_with_a_wrong_key(server, t):
    class Wrong:
        mqtt, user, key = server.mqtt, server.user, "wrong"
    for version in ("mqttv311", "mqttv5"):
        out = tool(Wrong, "mosquitto_pub", "-t", t, "-m", "x", v=version)
        assert out.returncode != 0


class Paho:
    """A paho client with its loop in a thread and what it got in lists."""

    def __init__(self, server, protocol, clean=True, cid=None, will=None):
        kw = {"clean_session": clean} if protocol != paho.MQTTv5 else {}
        self.c = paho.Client(cid or server.uid("paho"), protocol=protocol, **kw)
        self.c.username_pw_set(server.user, server.key)
        if will:
            self.c.will_set(*will)
        self.got, self.acked, self.connacks, self.ends = [], [], [], []
        self.subs = []
        self.c.on_message = lambda c, u, m: self.got.append(m)
        self.c.on_publish = lambda c, u, mid: self.acked.append(mid)
        self.c.on_connect = lambda *a: self.connacks.append(a)
        self.c.on_subscribe = lambda *a: self.subs.append(a)
        kw = {}
        if protocol == paho.MQTTv5 and not clean:
            p = Properties(PacketTypes.CONNECT)
            p.SessionExpiryInterval = 3600
            kw = {"clean_start": False, "properties": p}
        self.c.connect(*server.mqtt, keepalive=30, **kw)
        self.c.loop_start()
        wait(lambda: self.connacks, "CONNACK")

    def subscribe(self, *a, **kw):
        n = len(self.subs)
        self.c.subscribe(*a, **kw)
        wait(lambda: len(self.subs) > n, "SUBACK")

    def stop(self):
        self.c.disconnect()
        self.c.loop_stop()


@pytest.mark.tsan
@pytest.mark.parametrize("protocol", [paho.MQTTv311, paho.MQTTv5], ids=["v311", "v5"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_paho(server, t, protocol, qos):
    a, b = Paho(server, protocol), Paho(server, protocol)
    a.subscribe(t + "/#", qos=qos)
    n = 300
    for i in range(n):
        b.c.publish(f"{t}/k", str(i), qos)
    wait(lambda: len(a.got) >= n, f"{n} messages")
    assert [int(m.payload) for m in a.got] == list(range(n))
    wait(lambda: len(b.acked) == n, "all acks")
    a.stop()
    b.stop()


@pytest.mark.parametrize("protocol", [paho.MQTTv311, paho.MQTTv5], ids=["v311", "v5"])
def test_paho_session(server, t, protocol):
    cid = server.uid("paho")
    a = Paho(server, protocol, clean=False, cid=cid)
    a.subscribe(t, qos=1)
    a.stop()
    b = Paho(server, protocol)
    for i in range(50):
        b.c.publish(t, str(i), 1)
    wait(lambda: len(b.acked) == 50, "acks")
    a = Paho(server, protocol, clean=False, cid=cid)
    wait(lambda: len(a.got) == 50, "the queue")
    assert [int(m.payload) for m in a.got] == list(range(50))
    a.stop()
    b.stop()


def test_paho_big_messages(server, t):
    a, b = Paho(server, paho.MQTTv5), Paho(server, paho.MQTTv5)
    a.subscribe(t, qos=1)
    for i in range(5):
        b.c.publish(t, bytes([i]) * 400000, 1)
    wait(lambda: len(a.got) == 5, "five large messages")
    assert [m.payload == bytes([i]) * 400000 for i, m in enumerate(a.got)] == [True] * 5
    a.stop()
    b.stop()


def test_paho_retained_and_will(server, t):
    a = Paho(server, paho.MQTTv311)
    a.subscribe(t + "/#", qos=1)
    b = Paho(server, paho.MQTTv311, will=(t + "/will", "bye", 1, False))
    b.c.publish(t + "/r", "kept", 1, retain=True)
    wait(lambda: len(a.got) == 1, "the message")
    b.c._sock_close()
    b.c.loop_stop()
    wait(lambda: len(a.got) == 2 and a.got[1].payload == b"bye", "the will")
    a.c.publish(t + "/r", "", 1, retain=True)
    a.stop()


def test_many_connections(server, t, pub):
    """Two hundred clients at once, each gets each message."""
    n = 200
    cs = [server.connected() for _ in range(n)]
    for c in cs:
        c.subscribe(t)
    for i in range(5):
        pub.publish(t, str(i), 1)
    for c in cs:
        for i in range(5):
            c.message(t, str(i))


def test_fan_in(server, t):
    """Fifty publishers at once to one subscriber: every message, in order per publisher."""
    sub = server.connected()
    sub.subscribe(t + "/#", qos=1)
    pubs = [server.connected() for _ in range(50)]
    for i in range(20):
        for k, p in enumerate(pubs):
            p.send(harness.raw.publish(f"{t}/{k}", str(i), 1, pid=i + 1))
    got = {}
    for p in sub.collect(1000):
        got.setdefault(p.topic, []).append(int(p.payload))
    assert got == {f"{t}/{k}": list(range(20)) for k in range(50)}
