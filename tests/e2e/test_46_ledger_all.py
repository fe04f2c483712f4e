"""Guarantee 4 over every protocol at once: to the message, for each app, each protocol, each channel
and in sum, against what the clients themselves have counted."""
import collections
import importlib.util
import os
import time

import pytest

import raw
from harness import ROOT, wait
from lvconf import ALL, app, doc, key, key_text
from mixed import Mix, rst
from test_15_tls import make_ca
from test_22_ledger import Books, at_rest, balanced, split

pytestmark = pytest.mark.lavva_only
POLICIES = {"floodd": "disconnect", "floodo": "drop-oldest", "floodc": "conflate"}


def script():
    spec = importlib.util.spec_from_file_location("ledger", os.path.join(ROOT, "scripts/ledger.py"))
    m = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(m)
    return m


def by(m, name, *labels):
    """{label values: value} of one metric, what is not 0."""
    return {k if len(k) > 1 else k[0]: v[name] for k, v in split(m, *labels).items() if v.get(name)}


def of_app(m, name):
    return {k: v for k, v in m.items() if f'app="{name}"' in k}


def books_of(m, name):
    return Books(collections.defaultdict(float, split(m, "app")[(name,)]))


def check_publishers(m, mix):
    """What the server has counted of publishes is what was sent, accepted, and refused."""
    mine, b = of_app(m, mix.app), books_of(m, mix.app)
    for what, want in (("offered", mix.offered), ("in", mix.accepted), ("out", mix.accepted)):
        assert by(mine, f"lavva_gateway_{what}_messages_total", "protocol") == dict(want), what
    assert {r: b.reject(r) for r in mix.rejected} == dict(mix.rejected)
    assert b.rejected == sum(mix.rejected.values())


def check_subscribers(m, mix):
    """What it has counted as delivered is what was received: nobody left, all was read."""
    mine = of_app(m, mix.app)
    assert by(mine, "lavva_hub_out_messages_total", "protocol") == dict(mix.received)


@pytest.mark.timeout(240)
def test_every_protocol(own_server):
    """Two apps: one behaves and counts what it gets; the other one's customers are slow or leave."""
    chans = [{"name": n, "durability": "memory", "slow": p, "slow_customer": p}
             for n, p in POLICIES.items()]
    apps = [app("dev", [key("full", ALL, ALL), key("out", ["out/#"], [])]),
            app("two", [key("full2", ALL, ALL), key("out2", ["out/#"], [])], channels=chans)]
    limits = {"queue": "64KiB", "packet": "32KiB", "queue_messages": 300}
    apps[1]["limits"] = limits
    s = own_server(config=doc(apps)).start()
    dev, two = Mix(s), Mix(s, "two", "full2", "out2", 2)
    expiry = s.client("away", clean=False, properties={"session_expiry": 3600})
    expiry.connect()
    expiry.subscribe("short/#", qos=1)
    expiry.disconnect()
    small = s.client(properties={"maximum_packet_size": 100})
    small.connect()
    small.subscribe("big/#", qos=1)
    dev.read_all()
    dev.publish_all(60)
    two.rude(list(POLICIES))
    while any(th.is_alive() for th in dev.work + two.work):
        b = Books(s.metrics())          # under load nothing may run ahead of its source
        assert b.gw_out <= b.gw_in <= b.offered and b.br_in <= b.gw_in + b.drops["gateway"], str(b)
        assert b.hub_out + b.drops["hub"] <= b.owed, str(b)
        for th in dev.work + two.work:
            th.join(0.05)
    dev.finish()
    two.finish()
    pub = s.connected()
    for _ in range(5):
        pub.publish("short/x", b"1", 1, properties={"message_expiry": 1})
        pub.publish("big/x", b"x" * 200, 1)
    dev.note("mqtt", 10, 10)
    old = time.monotonic() + 1.2
    balanced(s)
    for sock in two.open[::2]:
        rst(sock)
    balanced(s)
    wait(lambda: time.monotonic() > old, "expiry")
    expiry.connect(present=True)
    expiry.disconnect(0, {"session_expiry": 0})
    balanced(s)
    m = s.metrics(raw=True)
    for mix in (dev, two):
        check_publishers(m, mix)
    check_subscribers(m, dev)
    mine = of_app(m, "dev")
    drops = by(mine, 'lavva_drops_total{stage="hub"}', "reason")
    assert set(drops) == {"conflated", "expired", "too-big"}, drops
    assert drops["expired"] == drops["too-big"] == 5
    b = books_of(m, "two")
    for reason in ("slow", "conflated", "disconnected", "session-ended"):
        assert b.drop(reason) > 0, {k: v for k, v in b.m.items() if v}
    dev.end()
    two.end()
    s.drop_clients()
    wait(lambda: s.metrics()["lavva_hub_pending_messages"] == 0, "nothing to be pending")
    balanced(s)
    ledger = script()
    assert ledger.main(["--rest", "10", "--apps", "--quiet", "%s:%d" % s.http]) == 0


@pytest.mark.timeout(120)
def test_every_protocol_over_tls(own_server, tmp_path):
    ca, issue = make_ca(str(tmp_path), "ca")
    cert, cert_key = issue("server", "DNS:localhost")
    apps = [app("sec", [key("full", ALL, ALL), key("out", ["out/#"], [])])]
    s = own_server(config=doc(apps, listen=[{"mqtts": "127.0.0.1:0"}, {"https": "127.0.0.1:0"}],
                              server={"tls": {"certificate": cert, "key": cert_key}})).start()
    s.ca = ca
    mix = Mix(s, "sec", tls=s.tls())
    mix.read_all()
    mix.publish_all(20)
    mix.finish()
    b = balanced(s)
    m = s.metrics(raw=True)
    check_publishers(m, mix)
    check_subscribers(m, mix)
    assert set(mix.offered) == {"mqtts", "https", "wss"}
    assert set(mix.received) == {"mqtts", "wss", "sses"}
    assert sum(v for k, v in m.items() if k.startswith("lavva_connections{")) - 1 == len(
        mix.readers), "all but the one that asks"
    assert b.drops["gateway"] == 0 and b.drops["hub"] == b.drop("conflated")
    mix.end()
    assert balanced(s).pending == 0


def lag(s):
    m = s.metrics()
    return m["lavva_consumer_lag_max_messages"], m["lavva_consumers_lagging"]


@pytest.mark.parametrize("how", ["reads", "leaves", "unsubscribes"])
@pytest.mark.parametrize("keys", [None, "a/#"])
def test_what_comes_while_a_customer_catches_up(own_server, how, keys):
    """It is owed, and pending, at once: not only when it is read from the log."""
    apps = [app(limits={"packet": "64KiB", "queue": "64KiB"})]
    s = own_server(config=doc(apps)).start()
    mix = Mix(s)
    pub = s.connected()
    for i in range(300):
        pub.publish("r/a/x", b"x" * 20000, 1)
    c = mix.customer(small=True, channels="r", since="start", **({"keys": keys} if keys else {}))
    assert c.next()["typ"] == 1
    for i in range(30):
        for k in "ab":
            pub.publish(f"r/{k}/x", b"y" * 20000, 1)
    n = 30 if keys else 60
    b = balanced(s)
    assert (b.owed, b.pending, b.hub_out, b.drops["hub"]) == (n, n, 0, 0), str(b)
    wait(lambda: lag(s) == (n, 1), "the lag")
    if how == "leaves":
        rst(c.sock)
    else:
        if how == "unsubscribes":
            c.send_frame(1, '{"typ":5,"chn":"r"}')
        got = []
        while not got or got[-1]["typ"] == 7 and len(got) < 300 + n:
            got.append(c.next())
    b = balanced(s)
    if how == "reads":
        assert (b.hub_out, b.drops["hub"], b.pending) == (n, 0, 0), str(b)
        assert b.m["lavva_hub_replayed_messages_total"] == 300
        wait(lambda: lag(s) == (0, 0), "no lag")
        pub.publish("r/a/x", b"live", 1)
        assert c.next()["typ"] == 7
        assert balanced(s).owed == n + 1
        rst(c.sock)
        return
    why = "disconnected" if how == "leaves" else "session-ended"
    assert (b.hub_out, b.drops["hub"], b.pending, b.drop(why)) == (0, n, 0, n), str(b)
    m = s.metrics(raw=True)
    assert m['lavva_channel_drops_total{stage="hub",app="dev",channel="r"}'] == n
    wait(lambda: lag(s) == (0, 0), "no lag")
    if how == "unsubscribes":
        rst(c.sock)


def test_a_lost_customer_of_one_channel_drops_from_that_channel(own_server):
    s = own_server(config=doc([app()], limits={"queue": "32MiB"})).start()
    mix, pub = Mix(s), s.connected()
    one = mix.customer(small=True, channels="x", snapshot="false")
    two = mix.customer(small=True, channels="x,y", snapshot="false")
    for c, n in ((one, 1), (two, 2)):
        for _ in range(n):
            assert c.next()["typ"] == 1
    for i in range(300):
        pub.publish("x/k", b"z" * 40000, 1)
    for c in (one, two):
        rst(c.sock)
    b = balanced(s)
    assert b.owed == 600 and b.drops["hub"] == b.drop("disconnected") > 0
    m = s.metrics(raw=True)
    named, nobody = (m[f'lavva_channel_drops_total{{stage="hub",app="dev",channel="{c}"}}']
                     for c in ("x", "_unknown"))
    assert named > 0 and nobody > 0 and named + nobody == b.drops["hub"]


def test_end_to_end_latency(own_server):
    """From the publisher's own timestamp, over each way in and out; replays are not in it."""
    s = own_server(config=doc()).start()
    mix, pub = Mix(s), s.connected()
    mqtt = s.connected()
    mqtt.subscribe("t/#", qos=1)
    ws = [mix.customer(channels="t", **q) for q in ({}, {"keys": "k"}, {"conflate": 1})]
    for c in ws:
        c.next()
    for i in range(5):      # who has got these is live: what is read from the log is not measured
        pub.publish("t/k", str(i), 1)
        for c in ws:
            while c.next()["val"] != i:
                pass
    mqtt.collect(5)
    before = s.metrics(raw=True)
    now = int(time.time() * 1000)
    for value in (now - 5000, now + 3600000, "never"):
        pub.publish("t/k", b"1", 1, properties={"user": [("tms", str(value))]})
    mqtt.collect(3)
    for i, c in enumerate(ws):
        got = [c.next() for _ in range(3)] if i < 2 else [c.next()]
        if i < 2:
            assert [x["tms"] for x in got[:2]] == [now - 5000, now + 3600000]
            assert abs(got[2]["tms"] - now) < 60000
    http = mix.requests()
    assert mix.post(http, "t", 1, key="k", tms=now - 1000)[0] == 200
    for bad in ("x", "-1", "99999999999999999", "0"):
        assert mix.post(http, "t", 1, key="k", tms=bad)[0] == 400
    mqtt.message("t/k", b"1")
    late = mix.customer(channels="t")       # its snapshot has them all, and counts for nothing
    for _ in range(10):
        late.next()
    balanced(s)
    m = s.metrics(raw=True)

    def sample(proto, le="+Inf"):
        return m[f'lavva_end_to_end_latency_seconds_bucket{{le="{le}",app="dev",protocol="{proto}"}}']
    assert sample("mqtt") == 2 and 5 <= sample("ws") <= 6
    assert sample("mqtt", "0.7") == 0 and sample("mqtt", "10") == 2
    assert 3 <= m["lavva_end_to_end_latency_negative_total"] <= 4
    assert m["lavva_end_to_end_latency_max_seconds"] >= 5
    assert m['lavva_end_to_end_latency_quantile_seconds{quantile="0.5"}'] >= 1
    count, out = (m[k] - before[k] for k in (
        'lavva_processing_latency_seconds_count{app="dev",protocol="ws"}',
        'lavva_hub_out_messages_total{app="dev",protocol="ws"}'))
    assert 10 <= count == out <= 12
    for c in (*ws, late):
        rst(c.sock)


def test_reset_while_it_takes_nothing(own_server):
    """A customer who asks and does not take the answers is not read from; its reset is seen all the
    same, at once."""
    s = own_server(config=doc([app()], limits={"queue": "64KiB", "packet": "64KiB"})).start()
    mix, pub = Mix(s), s.connected()
    for i in range(300):
        pub.publish("r/a/x", b"x" * 20000, 1)
    c = mix.customer(small=True, channels="r", since="start")
    assert c.next()["typ"] == 1
    wait(lambda: s.metrics()["lavva_out_queue_bytes"] > 0, "the kernel to be full")
    for i in range(1000):
        c.send_frame(1, '{"typ":5,"chn":"other%d"}' % i)
    wait(lambda: s.metrics()["lavva_out_queue_bytes"] > 60 << 10, "its queue to be full")
    pub.publish("r/a/x", b"owed", 1)
    wait(lambda: s.metrics()["lavva_hub_pending_messages"] == 1, "a message to be owed")
    rst(c.sock)
    wait(lambda: s.metrics()["lavva_clients"] == 1, "the reset to be seen", timeout=5)
    assert balanced(s).drop("disconnected") == 1
