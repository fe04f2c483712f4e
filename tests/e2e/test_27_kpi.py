"""/metrics as Prometheus takes it: the format by its parser or promtool where they are installed,
labels of apps, protocols and channels, a bounded size, what the process and its loops say."""
import re
import shutil
import subprocess

import pytest

from harness import wait
from lvconf import ALL, app, doc, key, key_text

pytestmark = pytest.mark.lavva_only

SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)')
LABELS = re.compile(r'(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"(?:,(?=[a-z])|$))+')


def strict(text):
    """Every rule of the text format, and of what OpenMetrics adds for names; {name: type}."""
    types, helped, seen, group = {}, set(), set(), None
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            group = line.split(" ", 3)[2]
            assert group not in types, f"{group} in two places"
            assert len(line.split(" ", 3)[3]) > 5
            helped.add(group)
            continue
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == group and kind in ("counter", "gauge", "histogram")
            assert (kind == "counter") == name.endswith("_total"), name
            types[name] = kind
            continue
        m = SAMPLE.fullmatch(line)
        assert m, line
        name, labels, value = m.groups()
        assert labels is None or LABELS.fullmatch(labels), line
        names = re.findall(r'(\w+)="', labels or "")
        assert len(names) == len(set(names)), line
        base = re.sub(r"_(bucket|sum|count)$", "", name) if types[group] == "histogram" else name
        assert base == group, f"{line} in the group of {group}"
        assert (name, labels) not in seen, f"twice: {line}"
        seen.add((name, labels))
        assert types[group] == "gauge" or float(value) >= 0
    assert helped == set(types)
    return types


@pytest.fixture
def s(own_server):
    apps = [app("dev"), app("two", [key("full2", ALL, ALL)],
                            channels=[{"name": "declared", "durability": "memory"}])]
    return own_server(config=doc(apps, metrics={"channels": 3})).start()


def test_format(s):
    for user, secret in (("dev", "full"), ("two", "full2")):
        c = s.client(user=user, password=key_text(secret))
        c.connect()
        c.subscribe("#", qos=1)
        for i in range(6):
            c.publish(f"c{i}/x", b"x", 1)
    text = s.get("/metrics")[2]
    types = strict(text)
    assert types["lavva_channel_in_messages_total"] == "counter"
    tool = shutil.which("promtool")
    if tool:
        r = subprocess.run([tool, "check", "metrics"], input=text, capture_output=True, text=True)
        meant = ("quantile_seconds",    # the quantile label of a gauge
                 "_minutes_total use base unit", "_hours_total use base unit")  # what is metered
        bad = [x for x in (r.stdout + r.stderr).splitlines() if not any(m in x for m in meant)]
        assert not bad, bad
    try:
        from prometheus_client.parser import text_string_to_metric_families
    except ImportError:
        return
    assert len(list(text_string_to_metric_families(text))) == len(types)


def test_channels_of_their_own_are_bounded(s):
    """Declared ones first, then in the order in which they come up; the rest is one, and exact."""
    c = s.client(user="two", password=key_text("full2"))
    c.connect()
    size = len(s.get("/metrics")[2])
    for i in range(40):
        c.publish(f"auto{i}/x", b"12345", 1)
    c.publish("declared/x", b"1", 1)
    m = s.metrics(raw=True)
    got = {k.split('channel="')[1][:-2]: v for k, v in m.items()
           if k.startswith('lavva_channel_in_messages_total{app="two"')}
    assert got == {"declared": 1, "auto0": 1, "auto1": 1, "_other": 38}
    assert m['lavva_channel_in_bytes_total{app="two",channel="_other"}'] == 38 * 5
    assert m['lavva_channel_stored_messages_total{app="two",channel="_other"}'] == 38
    assert m['lavva_gateway_in_messages_total{app="two",protocol="mqtt"}'] == 41
    assert m['lavva_gateway_in_messages_total{app="dev",protocol="mqtt"}'] == 0
    assert len(s.get("/metrics")[2]) < size + 4000


def test_clients_and_lag_of_an_app(s):
    keep = {"session_expiry": 3600}
    a = s.client("a", user="two", password=key_text("full2"), clean=False, properties=keep)
    b = s.client("b", user="two", password=key_text("full2"), clean=False, properties=keep)
    for x in (a, b):
        x.connect()
    a.subscribe("q/#", qos=1)
    b.subscribe("q/1", qos=1)

    def of(name):
        return s.metrics(raw=True).get(name, 0)
    assert of('lavva_clients{app="two",protocol="mqtt"}') == 2
    assert of('lavva_sessions{app="two"}') == 2 and of('lavva_sessions{app="dev"}') == 0
    assert of('lavva_subscriptions{app="two"}') == 2
    for x in (a, b):
        x.disconnect()
    pub = s.client(user="two", password=key_text("full2"))
    pub.connect()
    for i in range(10):
        pub.publish(f"q/{i % 2}", b"x", 1)
    wait(lambda: of('lavva_hub_pending_messages{app="two"}') == 15, "what they are owed")
    wait(lambda: of('lavva_consumer_lag_max_messages{app="two"}') == 10, "the most")
    assert of('lavva_clients{app="two",protocol="mqtt"}') == 1
    a.connect(present=True)
    a.collect(10)
    wait(lambda: of('lavva_consumer_lag_max_messages{app="two"}') == 5, "the other's")


def test_process_and_loops(s):
    m = s.metrics(raw=True)
    assert m['lavva_process_resident_memory_bytes{role="serve"}'] > 1 << 20
    assert m['lavva_process_threads{role="serve"}'] == m["process_threads"] >= 4
    assert m["process_open_fds"] == m['lavva_process_open_fds{role="serve"}'] > 5
    assert m["process_max_fds"] >= m["process_open_fds"]
    assert 1.6e9 < m["process_start_time_seconds"] < 1e11
    assert m["lavva_broker_up"] == 1 and m["lavva_broker_disk_bytes"] > 0
    turns = m["lavva_loop_turn_seconds_count"]
    assert turns > 0 and m['lavva_thread_cpu_seconds_total{thread="lv-loop-0"}'] > 0
    busy = sum(v for k, v in m.items() if k.startswith("lavva_loop_busy_seconds_total{"))
    assert 0 < busy < 60 and 'lavva_loop_busy_seconds_total{loop="1"}' in m
    c = s.connected()
    c.ping()
    assert s.metrics(raw=True)["lavva_loop_turn_seconds_count"] > turns
    assert s.metrics(raw=True)["lavva_broker_channels"] == 1
