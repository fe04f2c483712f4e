"""The examples over HTTP and WebSocket, and the commands of docs/from-mosquitto.md."""
import json
import os
import re
import shutil
import subprocess
import sys
import threading

import pytest

from harness import BIN, DEADLINE, ROOT, Children, cli, wait
from test_33_hub import publish

pytestmark = pytest.mark.lavva_only
EXAMPLES = os.path.join(ROOT, "examples")


def env_of(s, **over):
    return {**os.environ, "LAVVA_HTTP": f"{s.http[0]}:{s.http[1]}", "LAVVA_KEY": s.key,
            "LAVVA_MQTT": f"{s.mqtt[0]}:{s.mqtt[1]}", "LAVVA_APP": s.user,
            "NODE_PATH": "/usr/share/nodejs", **over}


def argv(name):
    path = os.path.join(EXAMPLES, name)
    if name.endswith(".js"):
        node = "/usr/bin/node" if os.path.exists("/usr/bin/node") else shutil.which("node")
        assert node, "node is missing (package nodejs)"
        return [node, path]
    return [sys.executable if name.endswith(".py") else "sh", path]


def run(name, s, *args, **over):
    return subprocess.run([*argv(name), *args], env=env_of(s, **over), text=True,
                          capture_output=True, timeout=2 * DEADLINE)


@pytest.mark.parametrize("name", ["publish-http.sh", "publish.js"])
def test_publishers(server, name):
    chan = server.uid("ex")
    sub = server.connected()
    sub.subscribe(f"{chan}/#", qos=1)
    out = run(name, server, chan, "3")
    assert out.returncode == 0 and out.stdout == "3 acknowledged\n", out
    got = [json.loads(p.payload)["n"] for p in sub.collect(3)]
    assert got == sorted(got) and len(set(got)) == 3
    out = run(name, server, chan, "1", LAVVA_KEY="lv_wrong_0000000000000000000000")
    assert out.returncode == 3 and out.stderr, out


@pytest.mark.parametrize("name", ["subscribe-sse.sh", "subscribe-ws.py", "subscribe.js"])
def test_subscribers(server, name):
    """What is kept, then live."""
    chan = server.uid("ex")
    publish(server, chan, {"n": 0}, "k")
    p = Children.popen([*argv(name), chan, "3"], env=env_of(server), text=True,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(iter(p.stdout.readline, "")), daemon=True)
    reader.start()
    wait(lambda: lines or p.poll() is not None, "the first line")
    publish(server, chan, {"n": 1}, "k")
    publish(server, chan, {"n": 2}, "k")

    def ended():
        if len(lines) >= 3 and p.poll() is None:
            publish(server, chan, {"n": 3}, "k")    # head ends: curl finds out with the next one
        return p.poll() is not None
    wait(ended, "the subscriber to end", step=0.05)
    reader.join(DEADLINE)
    assert [re.search(r'"n":\s*(\d)', x)[1] for x in lines] == ["0", "1", "2"], lines
    assert p.returncode == 0, p.stderr.read()


def test_subscriber_with_a_wrong_key(server):
    for name in ("subscribe-ws.py", "subscribe.js"):
        out = run(name, server, "demo", "1", LAVVA_KEY="lv_wrong_0000000000000000000000")
        assert out.returncode != 0 and "401" in out.stderr, out


def test_resume(server):
    chan = server.uid("ex")
    pos = [publish(server, chan, n, "k") for n in range(3)]
    out = run("subscribe-ws.py", server, chan, "2", pos[0])
    assert [x.split()[0] for x in out.stdout.splitlines()] == pos[1:], out
    out = run("subscribe-ws.py", server, chan, "3", "elsewhere-0")
    assert out.returncode == 0 and "missing:" in out.stderr


def test_page(server):
    """The page in a browser: kept values, live ones, and what it publishes itself."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By
    chan = server.uid("ex")
    publish(server, chan, {"t": 1}, "kept")
    o = webdriver.ChromeOptions()
    for x in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        o.add_argument(x)
    o.binary_location = shutil.which("chromium")
    assert o.binary_location, "chromium is missing"
    d = webdriver.Chrome(service=Service(shutil.which("chromedriver")), options=o)
    try:
        at = f"{server.http[0]}:{server.http[1]}"
        d.get(f"file://{EXAMPLES}/page.html#{at},{chan},{server.key}")

        def table():
            return d.find_element(By.ID, "rows").text
        wait(lambda: '{"t":1}' in table(), "the kept value", 2 * DEADLINE, step=0.1)
        assert d.find_element(By.ID, "state").text == "live"
        publish(server, chan, {"t": 2}, "live")
        wait(lambda: '{"t":2}' in table(), "a live value", step=0.1)
        d.find_element(By.ID, "text").send_keys("from the page")
        d.find_element(By.TAG_NAME, "button").click()
        wait(lambda: '"from the page"' in table(), "what it published", step=0.1)
    finally:
        d.quit()


def test_from_mosquitto(server, tmp_path):
    """The configuration of the page is a document; its commands do what it says."""
    with open(os.path.join(ROOT, "docs", "from-mosquitto.md"), encoding="utf-8") as f:
        text = f.read()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
    documents = [b for lang, b in blocks if lang == "yaml"]
    assert documents
    for i, body in enumerate(documents):
        path = tmp_path / f"{i}.yaml"
        path.write_text(body)
        out = cli("check", str(path))
        assert out.returncode == 0, f"{body}\n{out.stderr}"
    scripts = [b for lang, b in blocks if lang == "sh"]
    assert len(scripts) >= 2
    for body in scripts:
        out = subprocess.run(["bash", "-eu", "-o", "pipefail", "-c", body], cwd=tmp_path, text=True,
                             capture_output=True, timeout=2 * DEADLINE, stdin=subprocess.DEVNULL,
                             env={**env_of(server), "HOST": server.mqtt[0],
                                  "PORT": str(server.mqtt[1]),
                                  "PATH": f"{os.path.dirname(BIN)}:{os.environ['PATH']}"})
        assert out.returncode == 0, f"{body}\n{out.stdout}{out.stderr}"


def test_every_key_of_the_page_exists():
    """Names in the right-hand columns are keys of the schema."""
    with open(os.path.join(ROOT, "docs", "from-mosquitto.md"), encoding="utf-8") as f:
        text = f.read()
    with open(os.path.join(ROOT, "docs", "config.md"), encoding="utf-8") as f:
        known = set(re.findall(r"^\| `(\w+)` \|", f.read(), re.M))
    table = text.partition("## Options")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", table, re.M)
    assert len(rows) > 25
    for _, ours in rows:
        for name in re.findall(r"`([a-z_]+(?:\.[a-z_]+)*)`", ours):
            for part in name.split("."):
                assert part in known or part in ("listen", "server", "apps", "limits", "storage",
                                                 "mqtt", "mqtts", "http", "https", "keys", "log",
                                                 "tls", "channels"), f"{name}: {part}"
