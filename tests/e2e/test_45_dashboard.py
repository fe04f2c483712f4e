"""Dashboard and console in a real browser: what an operator sees and does, with a load that the
test makes. One browser and one development instance for the file."""
import gzip
import json
import math
import os
import re
import threading
import time
import urllib.error
import urllib.request

import paho.mqtt.client as mqtt
import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

import harness
from harness import DEADLINE, wait

pytestmark = [pytest.mark.lavva_only, pytest.mark.xdist_group("browser")]
XSS = '<img src=x onerror="document.title=\'owned\'">'


def launch(width=1280, height=900):
    o = Options()
    o.binary_location = "/usr/bin/chromium"
    for arg in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                "--hide-scrollbars", f"--window-size={width},{height}"):
        o.add_argument(arg)
    o.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=o)


class Page:
    """A tab on an instance's console."""

    def __init__(self, driver, server):
        self.d, self.s = driver, server
        self.origin = f"http://{server.http[0]}:{server.http[1]}"

    def open(self, section="overview", **who):
        self.d.get("about:blank")
        if who:
            self.d.get(f"{self.origin}/#" + "&".join(f"{k}={v}" for k, v in who.items()))
            self.until(lambda: "key=" not in self.d.current_url, "the key leaves the address")
        self.d.get(f"{self.origin}/#/{section}")
        self.until(lambda: self.find("main h1"), f"section {section}")
        return self

    def find(self, css):
        return self.d.find_elements(By.CSS_SELECTOR, css)

    def one(self, css):
        self.until(lambda: self.find(css), css)
        return self.find(css)[0]

    def button(self, text, within=""):
        def hits():
            return [b for b in self.find(f"{within} button") if b.text == text]
        self.until(hits, f"button {text}")
        return hits()[0]

    def text(self, css="main"):
        try:
            return self.find(css)[0].text
        except (IndexError, StaleElementReferenceException):
            return ""           # it is being drawn anew

    def until(self, cond, what, timeout=None):
        def quiet():
            try:
                return cond()
            except (StaleElementReferenceException, IndexError):
                return False
        wait(quiet, what, timeout or 2 * DEADLINE)

    def fill(self, css, value):
        el = self.one(css)
        el.clear()
        el.send_keys(value)


@pytest.fixture(scope="module")
def instance(tmp_path_factory):
    s = harness.make(str(tmp_path_factory.mktemp("console"))).start()
    yield s
    assert s.stop() == 0
    s.check()


@pytest.fixture(scope="module")
def driver():
    d = launch()
    yield d
    d.quit()


@pytest.fixture
def page(driver, instance):
    p = Page(driver, instance)
    driver.get_log("browser")
    driver.get_log("performance")
    p.open(app=instance.user, key=instance.key, admin=instance.env.get("LAVVA_ADMIN_KEY", ""))
    yield p
    errors = [e["message"] for e in driver.get_log("browser") if e["level"] == "SEVERE"]
    assert not errors, errors
    for e in driver.get_log("performance"):
        m = json.loads(e["message"])["message"]
        if m["method"] == "Network.requestWillBeSent":
            assert m["params"]["request"]["url"].startswith((p.origin, "about:", "data:"))


@pytest.fixture
def load(instance):
    """A publisher and a subscriber: about 200 messages a second, three keys."""
    pub, sub = (mqtt.Client(client_id=name, protocol=mqtt.MQTTv5) for name in ("load-p", "load-s"))
    for c in (pub, sub):
        c.username_pw_set(instance.user, instance.key)
        c.connect(*instance.mqtt)
        c.loop_start()
    sub.subscribe("plant/#")
    stop = []

    def run():
        n = 0
        while not stop:
            pub.publish(f"plant/line{n % 3}", json.dumps({"n": n}), qos=1)
            n += 1
            # the load's rate, a slow wave; not a wait for a result
            time.sleep(0.005 + 0.003 * math.sin(time.monotonic() / 8))
    t = threading.Thread(target=run, daemon=True)
    t.start()
    yield
    stop.append(1)
    t.join()
    for c in (pub, sub):
        c.disconnect()
        c.loop_stop()


def http(instance, path, data=None, key=None, **headers):
    r = urllib.request.Request(f"http://{instance.http[0]}:{instance.http[1]}{path}", data=data, headers={
        "Authorization": f"Bearer {key or instance.key}", **headers})
    with urllib.request.urlopen(r, timeout=DEADLINE) as a:
        a.content = a.read()
        return a


def kpi(page, name):
    """The number that a tile shows, in messages a second."""
    m = re.match(r"([\d.]+)( [kM])?/s", page.text(f"#kpi-{name}"))
    return float(m[1]) * {None: 1, " k": 1e3, " M": 1e6}[m[2]] if m else -1


def asset(instance, name):
    """The address of one of the page's files: the build's version is in it."""
    page = http(instance, "/").content.decode()
    return "/" + re.search(rf'"(ui/[0-9a-f]{{12}}/{re.escape(name)})"', page)[1]


def refused(instance, path, data=None, key=None, **headers):
    with pytest.raises(urllib.error.HTTPError) as e:
        http(instance, path, data, key, **headers)
    return e.value


def test_files(instance):
    """Types, caching, compression, what keeps pages apart from the world."""
    a = http(instance, "/")
    assert a.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in a.headers["Content-Security-Policy"]
    assert "unsafe" not in a.headers["Content-Security-Policy"]
    assert a.headers["Referrer-Policy"] == "no-referrer"
    assert a.headers["X-Content-Type-Options"] == "nosniff"
    assert a.headers["Cache-Control"] == "no-cache"
    assert refused(instance, "/", **{"If-None-Match": a.headers["ETag"]}).code == 304
    main = asset(instance, "main.js")
    plain = http(instance, main)
    assert plain.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert "immutable" in plain.headers["Cache-Control"]
    old = http(instance, "/ui/0123456789ab/main.js")        # of a page that is older than the server
    assert old.content == plain.content and old.headers["Cache-Control"] == "no-cache"
    packed = http(instance, main, **{"Accept-Encoding": "br, gzip;q=0.8"})
    assert packed.headers["Content-Encoding"] == "gzip" and not plain.headers["Content-Encoding"]
    assert gzip.decompress(packed.content) == plain.content
    assert packed.headers["ETag"] != plain.headers["ETag"]
    assert packed.headers["Vary"] == "Accept-Encoding"
    assert not http(instance, main, **{"Accept-Encoding": "gzip;q=0"}).headers["Content-Encoding"]
    assert refused(instance, main, **{"If-None-Match": f'"x", {plain.headers["ETag"]}'}).code == 304
    r = urllib.request.Request(f"http://{instance.http[0]}:{instance.http[1]}{main}", method="HEAD")
    with urllib.request.urlopen(r, timeout=DEADLINE) as head:
        assert not head.read() and int(head.headers["Content-Length"]) == len(plain.content)
    for path in (main.replace("main", "none"), "/ui/../etc/passwd", "/ui/", "/ui/main.js"):
        assert refused(instance, path).code in (400, 404)


def test_kpis(page, load):
    """The seven KPIs move, as numbers, as curves and as tables."""
    tiles = ("gateway-in", "gateway-out", "broker", "hub-in", "hub-out")
    for name in tiles:
        page.until(lambda n=name: 50 < kpi(page, n) < 1000, f"KPI {name}", 30)
    assert kpi(page, "drops") == 0
    page.until(lambda: re.match(r"[\d.]+ (µs|ms|s)", page.text("#kpi-latency")), "latency")
    names = [h.text for h in page.find("main h2")]
    assert names == ["Gateway IN", "Gateway OUT", "Broker throughput", "Hub IN", "Hub OUT",
                     "Message drops", "Processing latency"]
    page.until(lambda: len(page.find(".chart canvas")) >= 14, "curves")
    drawn = page.d.execute_script(
        "const c = document.querySelector('.chart canvas'), d = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data; return d.some(v => v)")
    assert drawn
    page.one("button[aria-label='Hub OUT as a table']").click()
    page.until(lambda: len(page.find("section[aria-labelledby=kpi-hub-out-name] tbody tr")) > 2,
               "rows")


def choose(page, channel):
    """Opens a channel by its name."""
    page.open("channels")
    page.fill("#find", channel)
    page.until(lambda: page.text(".picker [role=option] .name").strip("“”") == channel, "the channel")
    page.one(".picker [role=option]").click()
    page.until(lambda: page.text("#channel-name") == channel, "the choice")


def test_channel(page, load):
    choose(page, "plant")
    page.until(lambda: all(f"line{i}" in page.text("#latest") for i in range(3)), "keys")
    before = page.text("#latest tbody tr")
    page.until(lambda: page.text("#latest tbody tr") != before, "a newer value in place")
    assert len(page.find("#latest tbody tr")) == 3
    page.until(lambda: len(page.find(".tail li")) > 10, "the tail")
    page.until(lambda: re.match(r"[1-9][\d.]*/s", page.text("#channel-rate")), "the rate")
    page.until(lambda: page.find("#detail .chart canvas"), "its curve")
    page.button("Pause").click()
    page.until(lambda: "more meanwhile" in page.text("#detail"), "the pause")
    still = page.text(".tail li")
    page.until(lambda: re.search(r"[1-9]\d more", page.text("#detail")), "messages meanwhile")
    assert page.text(".tail li") == still
    page.fill("input[aria-label='Filter the tail']", "line1")
    page.until(lambda: page.find(".tail li") and
               all("line1" in li.text for li in page.find(".tail li")), "the filter")
    page.button("Go on").click()
    page.fill("input[aria-label='Filter the tail']", "no such text")
    page.until(lambda: "No line has that" in page.text(".tail"), "an empty filter")


def test_message_whole(page, instance):
    """Bytes are hexadecimal, integers keep their digits, a message can be read whole."""
    http(instance, "/v1/channels/whole/messages?key=raw&tag=t1", b"\x00\xff~",
         **{"Content-Type": "application/octet-stream"})
    http(instance, "/v1/channels/whole/messages?key=big&cat=c1", b'{"n": 9007199254740993, "deep": [1, {}]}')
    choose(page, "whole")
    page.until(lambda: "00 ff 7e (3 bytes)" in page.text("#latest"), "hexadecimal")
    page.until(lambda: '"n":9007199254740993' in page.text("#latest"), "every digit")
    page.button("big", "#latest").click()
    page.until(lambda: '"n": 9007199254740993' in page.text("dialog[open] pre"), "the whole message")
    assert "c1" in page.text("dialog[open] dl")
    page.button("Close", "dialog[open]").click()
    page.until(lambda: not page.find("dialog[open]"), "its end")
    page.fill("input[aria-label='Filter keys']", "ra")
    page.until(lambda: page.text("#latest caption") == "1 key", "the filter")


def test_flood(page, instance):
    """Thousands of messages and hundreds of keys: the page stays small and keeps up."""
    lines = b"".join(b'{"key":"k%d","val":%d}\n' % (i % 300, i) for i in range(5000))
    choose(page, "flood")
    page.until(lambda: "subscribed" in page.text("#detail .note"), "the subscription")
    for _ in range(4):
        http(instance, "/v1/channels/flood/messages", lines, **{"Content-Type": "application/x-ndjson"})
    page.until(lambda: "20,000 received" in page.text("#detail"), "all of them", 60)
    page.until(lambda: "300 keys, the first 100 shown" in page.text("#latest"), "keys")
    page.until(lambda: page.find("#latest tbody td")[1].text == "4800", "the last value of k0")
    assert len(page.find(".tail li")) == 200 and len(page.find("#latest tbody tr")) == 100
    assert page.text(".tail li").endswith("4999")


def test_markup_stays_text(page, instance):
    body = json.dumps({"x": XSS}).encode()
    http(instance, "/v1/channels/xss/messages?key=%3Cb%3Ek%3C/b%3E", body)
    choose(page, "xss")
    page.until(lambda: "<img src=x" in page.text("#latest") and "<b>k</b>" in page.text("#latest"),
               "the value as text")
    page.button("<b>k</b>", "#latest").click()
    page.until(lambda: "<img src=x" in page.text("dialog[open] pre"), "the same in the dialog")
    assert not page.find("main img, dialog img, main b, dialog b") and "owned" not in page.d.title
    page.button("Close", "dialog[open]").click()


@pytest.mark.parametrize("pub", ["HTTP", "WebSocket"])
@pytest.mark.parametrize("sub", ["WebSocket", "Server-Sent Events"])
def test_client(page, pub, sub):
    """Publish and subscribe with what is built in."""
    page.open("try")
    chan = f"try-{pub[:2]}-{sub[:2]}"
    for css, value in (("#s-channel", chan), ("#p-channel", chan), ("#p-key", "k/1")):
        page.fill(css, value)
    Select(page.one("#s-over")).select_by_visible_text(sub)
    Select(page.one("#p-over")).select_by_visible_text(pub)
    page.button("Subscribe").click()
    page.until(lambda: f"subscribed to {chan}" in page.text("#s-state"), "the subscription")
    page.fill("#p-value", '{"hello": [1, "ü"]}')
    page.button("Publish").click()
    page.until(lambda: "safe at position" in page.text("#p-said"), "the acknowledgement")
    page.until(lambda: '{"hello":[1,"ü"]}' in page.text(".tail"), "the message")
    page.fill("#p-channel", "_no")
    page.button("Publish").click()
    page.until(lambda: page.find("#p-said.error"), "the refusal")
    page.d.get_log("browser")           # the browser's own line about the 400


def test_client_bytes(page, instance):
    """Bytes go out and come back as hexadecimal digits; what is none is refused here."""
    page.open("try")
    for css in ("#s-channel", "#p-channel"):
        page.fill(css, "bytes")
    page.button("Subscribe").click()
    page.until(lambda: "subscribed" in page.text("#s-state"), "the subscription")
    page.one("#p-kind").send_keys("bytes")
    page.fill("#p-value", "00 ff")
    page.button("Publish").click()
    page.until(lambda: "00 ff (2 bytes)" in page.text(".tail"), "the bytes")
    page.fill("#p-value", "0g")
    page.button("Publish").click()
    page.until(lambda: "hexadecimal" in page.text("#p-said.error"), "the refusal")


def test_manage(page, instance):
    """A channel and a key made here exist, the key is shown once and can do what it may."""
    page.open("manage")
    page.until(lambda: "demo" in page.text("#m-channels"), "the channels")
    page.fill("#name", "orders")
    page.one("#durability").send_keys("memory")
    page.button("Create channel").click()
    page.until(lambda: re.search(r"orders\s+memory", page.text("#m-channels")), "the channel")
    page.fill("#name", "orders")
    page.button("Create channel").click()
    page.until(lambda: page.text("form[aria-label='New channel'] .error"), "the server's refusal")
    page.fill("#id", "clerk")
    page.fill("#publish", "orders/#")
    page.fill("#subscribe", "orders/#")
    page.button("Create key").click()
    page.until(lambda: page.text(".secret code").startswith("lv_clerk_"), "the new key")
    key = page.text(".secret code")
    a = http(instance, "/v1/channels/orders/messages?key=1", b"{}", key=key)
    assert a.status == 200
    assert refused(instance, "/v1/channels/demo/messages", data=b"{}", key=key).code == 403
    page.button("Use here").click()
    page.open("try")
    page.fill("#p-channel", "orders")
    page.button("Publish").click()
    page.until(lambda: "safe at position" in page.text("#p-said"), "a message with the new key")
    page.fill("#p-channel", "demo")
    page.button("Publish").click()
    page.until(lambda: page.find("#p-said.error"), "no more than it may")
    page.open("manage")
    page.until(lambda: "clerk" in page.text("#m-keys"), "the key's id")
    assert key not in page.d.page_source
    for what in ("key clerk", "channel orders"):
        page.one(f"button[aria-label='Delete {what}']").click()
        page.until(lambda: page.find("dialog[open] #ask-text"), "the question")
        page.button("Cancel", "dialog[open]").click()
        page.until(lambda: not page.find("dialog[open]"), "its end")
        page.one(f"button[aria-label='Delete {what}']").click()
        page.button("Delete", "dialog[open]").click()
        page.until(lambda w=what: not page.find(f"button[aria-label='Delete {w}']"), f"{what} is gone")
    page.until(lambda: harness_status(instance, key) == 401, "the key is of no use any more")
    page.d.get_log("browser")           # the browser's own lines about 403 and 409


def harness_status(instance, key):
    try:
        return http(instance, "/snapshot?channels=demo", key=key).status
    except urllib.error.HTTPError as e:
        return e.code


def test_usage(page, instance):
    """What was used, by the minute, hour and day, as a picture and as sums."""
    before = usage_of(instance)
    for _ in range(3):
        http(instance, "/v1/channels/metered/messages", b"1")
    wait(lambda: usage_of(instance)["messages_in"] >= before["messages_in"] + 3, "the book")
    page.open("usage")
    Select(page.one("#span")).select_by_visible_text("Last hour")
    page.until(lambda: page.find("#usage .bar-col"), "columns")

    def counted():
        cells = [td.text for td in page.find("#usage tbody td")]
        return cells[0] == "dev" and int(cells[1].replace(",", "")) >= before["messages_in"] + 3
    page.until(counted, "the three messages", 30)
    for span in ("Last 24 hours", "Last 30 days"):
        Select(page.one("#span")).select_by_visible_text(span)
        page.until(lambda s=span: page.text("#usage caption") == s, span)


def usage_of(instance):
    a = http(instance, "/api/v1/usage?step=total", key=instance.env["LAVVA_ADMIN_KEY"])
    return json.loads(a.content)["total"]


def test_no_admin(page, instance):
    """Without an administrator's key the console says what it needs."""
    page.open(app=instance.user, key=instance.key, admin="")
    page.open("manage")
    page.until(lambda: "administrator" in page.text("main .empty"), "what is needed")
    page.open("usage")
    page.until(lambda: "dev" in page.text("#usage tbody"), "usage since the start")
    Select(page.one("#span")).select_by_visible_text("Last hour")
    page.until(lambda: "Not available" in page.text("#usage"), "what is not to be had")


def test_keys_dialog(page, instance):
    """Keys typed in are used, and kept in this tab only."""
    page.open(app=instance.user, key="", admin="")
    choose(page, "demo")
    page.until(lambda: "Enter an API key" in page.text("#detail .note"), "the request for a key")
    page.one("#keys-open").click()
    page.fill("#k-key", instance.key)
    page.button("Use these").click()
    page.until(lambda: "subscribed to demo" in page.text("#detail .note"), "the subscription")
    where = page.d.execute_script("return [Object.values(localStorage).join(), document.cookie,"
                                  " location.href, sessionStorage.getItem('lavva-key')]")
    assert where[3] == instance.key and not any(instance.key in w for w in where[:3])


def test_many_channels(page, instance):
    """Thousands of channels: all in the list, few in the document, each to be found."""
    c = mqtt.Client(client_id="many", protocol=mqtt.MQTTv5)
    c.username_pw_set(instance.user, instance.key)
    c.connect(*instance.mqtt)
    c.loop_start()
    sent = [c.publish(f"many{i:04}/k", b"1", qos=1) for i in range(3000)]
    for m in sent:
        m.wait_for_publish(DEADLINE)
    c.disconnect()
    c.loop_stop()
    page.open("channels")
    page.fill("#find", "many")
    page.until(lambda: page.text(".side .note").startswith("3,000 channels"), "all of them", 60)
    assert len(page.find(".picker [role=option]")) < 60
    box = page.one(".picker")
    box.send_keys(Keys.END)
    page.until(lambda: "“many”" in page.text(".picker .active"), "the offer to open that name")
    box.send_keys(Keys.ARROW_UP)
    page.until(lambda: "many2999" in page.text(".picker .active"), "the last one")
    box.send_keys(Keys.ENTER)
    page.until(lambda: page.text("#channel-name") == "many2999", "a choice by keyboard")
    page.until(lambda: "1 key" in page.text("#latest caption"), "its message")


def test_wrong_key(page):
    """What the server says of it is shown, and the console goes on."""
    page.open("try", app="dev", key="lv_dev_0000000000000000000000")
    page.button("Subscribe").click()
    page.until(lambda: "wrong key" in page.text("#s-state"), "why")
    page.button("Stop").click()
    page.d.get_log("browser")


def test_theme_and_phone(page):
    def background():
        return page.d.execute_script("return getComputedStyle(document.body).backgroundColor")
    before = background()
    page.one("#theme").click()
    page.until(lambda: background() != before, "the other theme")
    page.open("overview")
    assert background() != before       # it is remembered
    page.one("#theme").click()
    try:
        page.d.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": 375, "height": 740, "deviceScaleFactor": 2, "mobile": True})
        for section in ("overview", "channels", "connections", "usage", "manage", "try"):
            page.open(section)
            wide = page.d.execute_script("return document.documentElement.scrollWidth")
            assert wide <= 375, f"{section} scrolls sideways: {wide}"
    finally:
        page.d.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_system_theme(page):
    """Without a choice the system's theme counts."""
    page.d.execute_script("localStorage.removeItem('lavva-theme')")
    grounds = []
    for scheme in ("dark", "light"):
        page.d.execute_cdp_cmd("Emulation.setEmulatedMedia", {
            "features": [{"name": "prefers-color-scheme", "value": scheme}]})
        page.open("overview")
        grounds.append(page.d.execute_script("return getComputedStyle(document.body).backgroundColor"))
    page.d.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    dark, light = (sum(map(int, re.findall(r"\d+", g)[:3])) for g in grounds)
    assert dark < 150 and light > 600


def test_keyboard(page):
    """From the first Tab to another section, and the dialog, without a mouse."""
    body = page.one("body")
    body.send_keys(Keys.TAB)
    assert page.d.switch_to.active_element.text == "Skip to content"
    for _ in range(12):
        active = page.d.switch_to.active_element
        if active.text == "Connections":
            break
        active.send_keys(Keys.TAB)
    page.d.switch_to.active_element.send_keys(Keys.ENTER)
    page.until(lambda: page.text("main h1") == "Connections", "the section")
    assert page.d.switch_to.active_element.get_attribute("id") == "main"
    opener = page.one("#keys-open")
    opener.send_keys(Keys.ENTER)
    page.until(lambda: page.find("dialog[open]"), "the dialog")
    for _ in range(10):
        page.d.switch_to.active_element.send_keys(Keys.TAB)
        inside = page.d.execute_script("return document.activeElement === document.body ||"
                                       " !!document.activeElement.closest('dialog')")
        assert inside
    page.d.switch_to.active_element.send_keys(Keys.ESCAPE)
    page.until(lambda: not page.find("dialog[open]"), "its end")


def test_names(page):
    """Everything that can be operated or seen has a name for who cannot see it."""
    for section in ("overview", "channels", "connections", "usage", "manage", "try"):
        page.open(section)
        bare = page.d.execute_script("""
            const bad = [];
            for (const el of document.querySelectorAll("button, input, select, textarea, a, nav, section, [role]")) {
              const by = el.getAttribute("aria-labelledby");
              const label = el.labels && el.labels.length ? el.labels[0].textContent : "";
              const name = el.getAttribute("aria-label") || (by && document.getElementById(by)?.textContent) ||
                label || el.textContent;
              const quiet = ["status", "alert"].includes(el.getAttribute("role"));
              if (!quiet && !(name || "").trim()) bad.push(el.outerHTML.slice(0, 80));
            }
            return bad;""")
        assert not bare, f"{section}: {bare}"
        assert len(page.find("main h1")) == 1 and page.d.execute_script("return document.documentElement.lang")


def test_spoken(page, load):
    """What the browser gives to a screen reader: landmarks, named controls, curves in words."""
    page.until(lambda: "highest" in (page.one(".chart").get_attribute("aria-label") or ""), "words")
    said = page.one("section.gateway-in .chart").get_attribute("aria-label")
    assert re.match(r"Gateway IN, curve of the last 5 minutes\. in: now [\d.]+/s, lowest", said)
    page.d.execute_cdp_cmd("Accessibility.enable", {})
    nodes = page.d.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    page.d.execute_cdp_cmd("Accessibility.disable", {})
    roles = {}
    for n in nodes:
        if not n.get("ignored"):
            roles.setdefault(n["role"]["value"], []).append(n.get("name", {}).get("value", ""))
    assert {"main", "banner", "navigation"} <= set(roles), sorted(roles)
    for role in ("button", "link", "combobox", "navigation", "region"):
        assert roles.get(role) and all(name.strip() for name in roles[role]), (role, roles.get(role))


def test_contrast(page):
    """Text against its ground: at least 4.5 to 1 (WCAG 2.1, 1.4.3), in both themes."""
    for theme in ("light", "dark"):
        page.d.execute_script(f"document.documentElement.dataset.theme = '{theme}'")
        pairs = page.d.execute_script("""
            const s = getComputedStyle(document.documentElement), v = n => s.getPropertyValue(n).trim();
            const rgb = h => [1, 3, 5].map(i => parseInt(h.slice(i, i + 2), 16) / 255)
              .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
            const lum = h => { const [r, g, b] = rgb(h); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
            const out = [];
            for (const [a, b] of [["--text", "--bg"], ["--text", "--card"], ["--soft", "--card"], ["--soft", "--bg"],
              ["--soft", "--hover"], ["--accent", "--card"], ["--on-accent", "--accent"], ["--good", "--card"],
              ["--bad", "--card"], ["--warn", "--field"]]) {
              const [x, y] = [lum(v(a)), lum(v(b))].sort((p, q) => q - p);
              out.push([a, b, (x + 0.05) / (y + 0.05)]);
            }
            return out;""")
        assert all(ratio >= 4.5 for _, _, ratio in pairs), f"{theme}: {pairs}"
    page.d.execute_script("delete document.documentElement.dataset.theme")


def test_restart(page, instance, load):
    """The server goes and comes: the page says so, goes on, and no rate is negative or absurd."""
    page.until(lambda: kpi(page, "gateway-in") > 0, "rates")
    instance.kill()
    page.until(lambda: page.find("#status.down"), "the server is missed", 30)
    instance.args = ["--http", f"{instance.http[0]}:{instance.http[1]}",
                     "--mqtt", f"{instance.mqtt[0]}:{instance.mqtt[1]}"]
    instance.start()
    page.until(lambda: page.find("#status.up"), "it is back", 40)
    page.until(lambda: kpi(page, "gateway-in") > 0, "rates again", 40)
    # What the publisher held back meanwhile comes at once; then the rate is what it was.
    page.until(lambda: 50 < kpi(page, "gateway-in") < 1000, "the rate of before", 40)
    page.d.get_log("browser")           # the browser's own lines about requests that failed


def viewport(page, width, height):
    page.d.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700})


def screenshots(page, instance, load):
    """The pictures of the docs (make screenshots): this machine's telemetry, and some load."""
    os.makedirs(SHOTS, exist_ok=True)
    harness.Children.popen([harness.BIN, "demo", "--data", instance.data, "-r", "8"])

    def shot(name):
        page.d.save_screenshot(f"{SHOTS}/{name}.png")
        assert os.path.getsize(f"{SHOTS}/{name}.png") < 200_000
    viewport(page, 1280, 720)
    page.open("overview")
    page.until(lambda: page.d.execute_script("return performance.now()") > 90000, "a history", 120)
    shot("overview")
    page.d.execute_script("document.querySelector('#theme').click()")
    page.until(lambda: len(page.find(".chart canvas")) >= 14, "curves")
    shot("overview-dark")
    page.d.execute_script("document.querySelector('#theme').click()")
    page.d.execute_script("location.hash = '#/channels'")    # no new page: its history goes on
    page.until(lambda: page.find(".picker [role=option]"), "channels")
    page.one("#find").send_keys("demo")
    page.until(lambda: page.text(".picker .name") == "demo", "the channel")
    page.one(".picker [role=option]").click()
    page.until(lambda: len(page.find(".tail li")) > 50, "the tail")
    page.until(lambda: page.find("#detail .chart canvas"), "its curve")
    page.one("#find").clear()
    page.one("#channel-name").click()
    viewport(page, 1280, 900)
    page.until(lambda: page.text("#channel-rate") not in ("", "–"), "its rate")
    shot("channels")
    page.d.execute_script("location.hash = '#/overview'")
    viewport(page, 375, 760)
    page.until(lambda: len(page.find(".chart canvas")) >= 14, "curves")
    page.until(lambda: kpi(page, "gateway-in") > 0, "rates")
    shot("phone")
    page.d.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


SHOTS = os.environ.get("LAVVA_SCREENSHOTS")
if SHOTS:
    test_screenshots = screenshots
