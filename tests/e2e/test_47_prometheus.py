"""deploy/prometheus and deploy/grafana against the real thing: Debian's Prometheus scrapes a loaded
server; every panel's query gives data, every alert's metrics exist and its rule evaluates, and
promtool sees each alert fire and stay silent. Grafana is not in Debian: its dashboard is checked
against the schema that stands here.

Prometheus runs on a port and in a folder of this test's own.
"""
import copy
import functools
import itertools
import json
import math
import os
import re
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request

import pytest
import yaml

import raw
from harness import DEADLINE, ROOT, Children, free_port, make, wait
from lvconf import ALL, app, doc, key
from mixed import Mix

pytestmark = [pytest.mark.lavva_only, pytest.mark.skipif(
    not shutil.which("prometheus"), reason="Debian's package prometheus is not installed")]
PROMETHEUS, GRAFANA = (os.path.join(ROOT, "deploy", x) for x in ("prometheus", "grafana"))
RULES, TESTS = (os.path.join(PROMETHEUS, f"lavva.rules{x}.yml") for x in ("", ".test"))
RANGE = "8s"            # in place of Grafana's $__rate_interval
METRIC = re.compile(r'(?<![\w"~=])(lavva_[a-z_]+|process_[a-z_]+|up)(?=[{\s)\[]|$)')


@functools.cache
def load(path):
    with open(path, encoding="utf-8") as f:
        return json.load(f) if path.endswith(".json") else yaml.safe_load(f)


def alerts():
    return [r for g in load(RULES)["groups"] for r in g["rules"]]


def dashboard():
    return load(os.path.join(GRAFANA, "dashboards", "lavva.json"))


def panels():
    return [p for p in dashboard()["panels"] if p["type"] != "row"]


# ---- promtool ----

def promtool(*args):
    r = subprocess.run(["promtool", *args], capture_output=True, text=True, cwd=PROMETHEUS,
                       timeout=60)
    return r.returncode, r.stdout + r.stderr


@pytest.mark.parametrize("args", [("check", "config", "prometheus.yml"),
                                  ("check", "rules", "lavva.rules.yml"),
                                  ("test", "rules", "lavva.rules.test.yml")], ids=" ".join)
def test_promtool(args):
    code, text = promtool(*args)
    assert code == 0 and "FAILED" not in text, text


def test_each_alert_is_tested_firing_and_silent():
    """A test that names an alert, fires it, and has a series for which it stays silent."""
    names = [a["alert"] for a in alerts()]
    assert len(names) == len(set(names)) >= 20
    cases = {n: [c for t in load(TESTS)["tests"] for c in t["alert_rule_test"]
                 if c["alertname"] == n] for n in names}
    for n, cs in cases.items():
        assert any(c["exp_alerts"] for c in cs), f"{n} is never seen firing"
        assert any(not c["exp_alerts"] for c in cs), f"{n} is never seen silent"
    assert {c["alertname"] for t in load(TESTS)["tests"] for c in t["alert_rule_test"]} == set(names)


def test_each_alert_is_described():
    with open(os.path.join(ROOT, "docs", "monitoring.md"), encoding="utf-8") as f:
        told = re.findall(r"^\| (Lavva\w+) \| (\w+) \| ([\w ]+) \| (.*) \|$", f.read(), re.M)
    want = [(a["alert"], a["labels"]["severity"], a.get("for", "at once"),
             a["annotations"]["description"].strip()) for a in alerts()]
    assert told == want


@pytest.mark.parametrize("threshold", ["> 1e18", "> -1e18"], ids=["never", "always"])
def test_a_wrong_threshold_is_seen(tmp_path, threshold):
    """The rule tests can fail: with thresholds out of reach, or below everything and no waiting,
    each of them does."""
    shutil.copy(TESTS, tmp_path)
    rules = copy.deepcopy(load(RULES))
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule["expr"], n = re.subn(r"(>|<|==) [\w.* ]+$", threshold, rule["expr"])
            assert n == 1, rule
            rule.pop("for", None)
    with open(tmp_path / "lavva.rules.yml", "w", encoding="utf-8") as f:
        yaml.safe_dump(rules, f)
    r = subprocess.run(["promtool", "test", "rules", "lavva.rules.test.yml"], cwd=tmp_path,
                       capture_output=True, text=True, timeout=60)
    failed = set(re.findall(r"alertname: (\w+), time", r.stdout + r.stderr))
    assert failed == {a["alert"] for a in alerts()}


# ---- a Prometheus that has scraped a loaded server ----

class Prometheus:
    def __init__(self, folder, target):
        self.folder, self.port = folder, free_port()
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(PROMETHEUS, "prometheus.yml"), encoding="utf-8") as f:
            text = f.read()
        for old, new in (("127.0.0.1:8080", target), ("scrape_interval: 5s", "scrape_interval: 500ms"),
                         ("evaluation_interval: 15s", "evaluation_interval: 1s")):
            assert old in text
            text = text.replace(old, new)
        with open(os.path.join(folder, "prometheus.yml"), "w", encoding="utf-8") as f:
            f.write(text)
        shutil.copy(RULES, folder)
        self.log = open(os.path.join(folder, "log"), "wb")
        self.proc = Children.popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml",
             f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{self.port}"],
            stdout=self.log, stderr=self.log, cwd=folder)
        Children.alive.remove(self.proc)    # it outlives the first test; `stop` ends it
        wait(self.ready, "Prometheus", timeout=DEADLINE * 2)

    def ready(self):
        assert self.proc.poll() is None, open(self.log.name).read()[-2000:]
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5).close()
            return True
        except OSError:
            return False

    def api(self, path, **q):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(q)}"
        try:
            with urllib.request.urlopen(url, timeout=DEADLINE) as r:
                return json.load(r)["data"]
        except urllib.error.HTTPError as e:
            raise AssertionError(f"{url}: {e.read().decode()}") from None

    def query(self, expr):
        """{labels: value} now; what is no number is left out."""
        got = {tuple(sorted(x["metric"].items())): float(x["value"][1])
               for x in self.api("query", query=expr)["result"]}
        return {k: v for k, v in got.items() if not math.isnan(v)}

    def stop(self):
        self.proc.terminate()
        self.proc.wait(DEADLINE)
        self.log.close()


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """(server, Prometheus, what keeps it busy): there is load until the module's tests are through."""
    folder = str(tmp_path_factory.mktemp("prometheus"))
    chans = [{"name": n, "durability": "memory", "slow_customer": p}
             for n, p in (("c", "disconnect"), ("floodo", "drop-oldest"))]
    keys = [key("full", ALL, ALL), key("out", ["out/#"], [])]
    limits = {"queue": "64KiB", "packet": "32KiB", "queue_messages": 300}
    s = make(os.path.join(folder, "server"), config=doc([app(keys=keys, channels=chans)],
                                                        limits=limits)).start()
    prom = Prometheus(os.path.join(folder, "prometheus"), "%s:%d" % s.http)
    mix = Mix(s)
    mix.read_all()
    mix.rude(["floodo"], 300, 4)
    mix.publish_all(40)

    def more():
        c = mix.mqtt()
        for i in itertools.count():
            if mix.stop.wait(0.02):
                break
            p = {"user": [("tms", str(int(time.time() * 1000)))]}
            c.publish(f"c/a/{i % 5}", b"more", 1, properties=p)
            if i % 20 == 0:
                c.send(raw.publish("floodo/x", b"x" * 8000) * 20)
    busy = threading.Thread(target=more, daemon=True)
    busy.start()
    mix.finish()
    try:
        wait(lambda: prom.query(f"min(count_over_time(lavva_build_info[{RANGE}])) > 8"),
             "enough scrapes", timeout=DEADLINE * 2, step=0.2)
        yield s, prom
    finally:
        mix.stop.set()
        busy.join(DEADLINE)
        mix.end()
        s.drop_clients()
        prom.stop()
        s.stop()
        s.check()


def substituted(expr):
    for name, value in (("$__rate_interval", RANGE), ("$instance", ".*"), ("$app", ".*"),
                        ("$channel", ".*")):
        expr = expr.replace(name, value)
    assert "$" not in expr, expr
    return expr


def test_every_panel_has_data(loaded):
    _, prom = loaded
    empty = []
    for p in panels():
        for t in p["targets"]:
            expr = substituted(t["expr"])
            # A rate needs two scrapes with a value in them, a quantile needs something to happen.
            try:
                wait(lambda: prom.query(expr), "data", timeout=5, step=0.3)
            except AssertionError:
                empty.append(f'{p["title"]}: {expr}')
    assert not empty, "\n".join(empty)


def test_the_seven_kpis_move(loaded):
    """Not only there, but what the server is doing: all seven are above zero under load."""
    _, prom = loaded
    seven = ("Gateway IN", "Gateway OUT", "Broker throughput IN / OUT", "Hub IN", "Hub OUT",
             "Message drops", "Processing latency")
    by_title = {p["title"]: p for p in panels()}
    for title in seven:
        for t in by_title[title]["targets"]:
            wait(lambda: max(prom.query(substituted(t["expr"])).values(), default=0) > 0,
                 f"{title} to move", timeout=10, step=0.3)


def test_template_variables(loaded):
    _, prom = loaded
    for v in dashboard()["templating"]["list"]:
        if v["type"] != "query":
            continue
        m = re.fullmatch(r"label_values\((.*), (\w+)\)", v["query"]["query"])
        assert m, v["query"]
        got = prom.api(f"label/{m.group(2)}/values", **{"match[]": substituted(m.group(1))})
        want = {"instance": 1, "app": 1, "channel": 3}[v["name"]]
        assert len(got) >= want, (v["name"], got)


def test_every_alert_has_its_metrics(loaded):
    s, prom = loaded
    there = set(prom.api("label/__name__/values"))
    known = set(re.findall(r"^# TYPE (\S+)", s.get("/metrics")[2], re.M))
    for a in alerts():
        names = set(METRIC.findall(a["expr"]))
        assert names, a["expr"]
        assert names <= there, f'{a["alert"]}: {names - there}'
        assert {re.sub("_(bucket|sum|count)$", "", n) for n in names} - {"up"} <= known
        for labels in re.findall(r"by \(([^)]*)\)", a["expr"]):
            some = prom.query(next(iter(sorted(names))))
            have = {k for series in some for k, _ in series}
            assert set(labels.replace(" ", "").split(",")) <= have | {"reason"}, a["alert"]


def test_every_alert_evaluates(loaded):
    """Those that a sound, busy server should not set off are silent; none is an error."""
    _, prom = loaded

    def rules():
        rs = [r for g in prom.api("rules")["groups"] for r in g["rules"]]
        return all(r["health"] != "unknown" for r in rs) and rs
    rs = wait(rules, "the rules to be evaluated", timeout=DEADLINE)
    assert {r["name"] for r in rs} == {a["alert"] for a in alerts()}
    bad = [f'{r["name"]}: {r.get("lastError")}' for r in rs if r["health"] != "ok"]
    assert not bad, bad
    calm = {r["name"]: r["state"] for r in rs}
    for name in ("LavvaDown", "LavvaDiskRefuses", "LavvaDiskErrors", "LavvaPublishesLost",
                 "LavvaRestarts", "LavvaUnderReplicated", "LavvaConnectionsNearLimit"):
        assert calm[name] == "inactive", f"{name}: {calm[name]}"
    target = prom.api("targets")["activeTargets"]
    assert [t["labels"]["node"] for t in target] == ["127.0.0.1"] and target[0]["health"] == "up"


def test_down_is_seen(loaded, tmp_path):
    """The alert that matters most, on a real Prometheus: of a server that is not there."""
    prom = Prometheus(str(tmp_path / "p"), f"127.0.0.1:{free_port()}")
    try:
        def pending():
            rs = [r for g in prom.api("rules")["groups"] for r in g["rules"]]
            return [r["name"] for r in rs if r["state"] in ("pending", "firing")]
        assert wait(pending, "LavvaDown", timeout=DEADLINE) == ["LavvaDown"]
    finally:
        prom.stop()


# ---- the dashboard's structure ----

# What each kind of panel has to have. Grafana fills in what is not there.
SCHEMA = {"timeseries": {"fieldConfig", "options"}, "stat": {"fieldConfig", "options"},
          "heatmap": {"fieldConfig", "options"}}
UNITS = {"mps", "cps", "ops", "Bps", "bytes", "s", "short", "percentunit"}    # Grafana's ids


def test_dashboard_structure():
    d = dashboard()
    assert d["uid"] == "lavva" and d["schemaVersion"] >= 36 and d["title"]
    assert d["panels"] and isinstance(d["time"]["from"], str)
    ids = [p["id"] for p in d["panels"]]
    assert len(ids) == len(set(ids)) and all(isinstance(i, int) for i in ids)
    titles = [p["title"] for p in d["panels"]]
    assert len(titles) == len(set(titles))
    names = {v["name"]: v for v in d["templating"]["list"]}
    assert list(names) == ["datasource", "instance", "app", "channel"]
    assert names["datasource"]["type"] == "datasource" and names["datasource"]["query"] == "prometheus"
    used = set()
    for p in d["panels"]:
        if p["type"] == "row":
            assert p["gridPos"]["w"] == 24 and p["gridPos"]["h"] == 1 and p["panels"] == []
            continue
        assert SCHEMA[p["type"]] <= set(p), p["title"]
        assert len(p["description"]) > 5, p["title"]
        assert p["fieldConfig"]["defaults"]["unit"] in UNITS, p["title"]
        assert p["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, p["title"]
        refs = [t["refId"] for t in p["targets"]]
        assert refs and len(refs) == len(set(refs)), p["title"]
        for t in p["targets"]:
            assert t["datasource"] == p["datasource"] and t["expr"]
            assert 'instance=~"$instance"' in t["expr"], f'{p["title"]} is of all instances'
            used |= set(re.findall(r"\$(\w+)", t["expr"]))
            if "rate(" in t["expr"]:
                assert "[$__rate_interval]" in t["expr"], p["title"]
    assert {"instance", "app", "channel"} <= used


def test_dashboard_panels_do_not_overlap():
    cells = {}
    for p in dashboard()["panels"]:
        g = p["gridPos"]
        assert set(g) == {"h", "w", "x", "y"} and min(g["h"], g["w"]) > 0
        assert 0 <= g["x"] and g["x"] + g["w"] <= 24, p["title"]
        for at in itertools.product(range(g["x"], g["x"] + g["w"]), range(g["y"], g["y"] + g["h"])):
            assert at not in cells, f'{p["title"]} lies on {cells[at]}'
            cells[at] = p["title"]


def test_provisioning():
    source = load(os.path.join(GRAFANA, "provisioning/datasources/lavva.yaml"))
    assert source["apiVersion"] == 1
    one, = source["datasources"]
    assert one["type"] == "prometheus" and one["uid"] and one["url"].startswith("http://")
    scrape = load(os.path.join(PROMETHEUS, "prometheus.yml"))["global"]["scrape_interval"]
    assert one["jsonData"]["timeInterval"] == scrape
    boards = load(os.path.join(GRAFANA, "provisioning/dashboards/lavva.yaml"))
    one, = boards["providers"]
    assert boards["apiVersion"] == 1 and one["type"] == "file" and one["options"]["path"][0] == "/"


# ---- the design's table ----

LABELS = re.compile(r'(\w+)="([^"]*)"')
KPIS = {f"lavva_{part}_{way}_{what}_total": {"app"} if part == "broker" or (part, way) == ("hub", "in")
        else {"app", "protocol"}
        for part in ("gateway", "broker", "hub") for way in ("in", "out")
        for what in ("messages", "bytes")}
KPIS |= {"lavva_drops_total": {"stage", "reason", "app", "protocol"},
         "lavva_processing_latency_seconds_bucket": {"le", "app", "protocol"},
         "lavva_processing_latency_quantile_seconds": {"quantile"},
         "lavva_processing_latency_max_seconds": set(),
         "lavva_processing_latency_negative_total": set(),
         "lavva_end_to_end_latency_seconds_bucket": {"le", "app", "protocol"},
         "lavva_end_to_end_latency_quantile_seconds": {"quantile"},
         "lavva_channel_in_messages_total": {"app", "channel"},
         "lavva_channel_out_messages_total": {"app", "channel"},
         "lavva_channel_drops_total": {"stage", "app", "channel"},
         "lavva_connections": {"protocol"}, "lavva_connections_limit": set(),
         "lavva_consumer_lag_max_messages": {"app"}, "lavva_hub_pending_messages": {"app"},
         "lavva_broker_commit_latency_seconds_bucket": {"le"},
         "lavva_publish_queue_bytes": set(), "lavva_out_queue_bytes": set(),
         "lavva_broker_queue_bytes": set(), "lavva_broker_feed_bytes": set(),
         "lavva_process_cpu_seconds_total": {"role"},
         "lavva_process_resident_memory_bytes": {"role"},
         "lavva_broker_under_replicated_partitions": set()}


def test_names_and_labels_of_the_kpis(loaded):
    """Exactly these, on a server that is in use, with something counted in what counts."""
    s, _ = loaded
    got, values = {}, {}
    for name, v in s.metrics(raw=True).items():
        name, _, labels = name.partition("{")
        pairs = dict(LABELS.findall(labels))
        assert got.setdefault(name, set(pairs)) == set(pairs), name
        values[name] = values.get(name, 0) + v
        for k, x in pairs.items():
            values.setdefault((name, k), set()).add(x)
    assert {n: got.get(n) for n in KPIS} == KPIS
    may_be_zero = {"lavva_processing_latency_negative_total", "lavva_broker_feed_bytes",
                   "lavva_broker_under_replicated_partitions", "lavva_publish_queue_bytes",
                   "lavva_broker_queue_bytes", "lavva_out_queue_bytes"}
    assert {n for n in KPIS if not values[n]} <= may_be_zero
    quantiles = {"0.5", "0.95", "0.99", "0.999"}
    for which in ("processing", "end_to_end"):
        assert values[f"lavva_{which}_latency_quantile_seconds", "quantile"] == quantiles
        assert len(values[f"lavva_{which}_latency_seconds_bucket", "le"]) == 31
        assert {"mqtt", "ws", "sse"} <= values[f"lavva_{which}_latency_seconds_bucket", "protocol"]
    assert values["lavva_drops_total", "stage"] == {"gateway", "hub"}
    assert {"mqtt", "http", "ws"} <= values["lavva_gateway_in_messages_total", "protocol"]
    assert {"mqtt", "ws", "sse"} <= values["lavva_hub_out_messages_total", "protocol"]
    assert {"mqtt", "http", "ws", "wss", "sse"} <= values["lavva_connections", "protocol"]
    per_app = sum(v for k, v in s.metrics(raw=True).items()
                  if k.startswith("lavva_processing_latency_seconds_count{"))
    assert per_app > 0
