"""SIGTERM drains, SIGHUP reloads; nothing that was accepted is lost by either."""
import signal
import threading
import time

import pytest

import lvconf
import raw
from harness import wait
from lvconf import ALL, app, doc, key
from raw import PUBACK

pytestmark = pytest.mark.lavva_only


@pytest.mark.tsan
def test_sigterm_is_clean(own_server, v):
    s = own_server().start()
    c = s.connected(v=v)
    s.signal(signal.SIGTERM)
    c.closed(0x8B)
    assert s.wait_exit() == 0


def test_sigint_is_clean_too(own_server):
    s = own_server().start()
    s.signal(signal.SIGINT)
    assert s.wait_exit() == 0


def test_sigterm_with_idle_and_half_open_connections(own_server):
    """Within the bound, whatever clients do."""
    s = own_server(config=doc(server={"drain": "1s"})).start()
    half = s.client().open().send(b"\x10\x40\x00")
    stuck = s.connected()           # never reads
    web = s.client(addr=s.http).open().send(b"GET / HT")
    t0 = time.monotonic()
    s.signal(signal.SIGTERM)
    assert s.wait_exit() == 0
    assert time.monotonic() - t0 < 10
    del half, stuck, web


def test_what_was_acked_is_there(own_server, v):
    """A publisher with a full window when SIGTERM comes: every ack it got is for a message that
    is delivered after the restart; what was accepted was acked."""
    s = own_server().start()
    sub = s.client(v=5, clean=False, properties={"session_expiry": 3600})
    sub.connect()
    sub.subscribe("e2e/drain", qos=1)
    sub.disconnect()
    pub = s.connected(v=v)
    acked, sent = set(), 0
    stop = threading.Event()

    def publish():
        nonlocal sent
        try:
            while not stop.is_set() and sent < 60000:
                if sent - len(acked) < 10:
                    sent += 1
                    pub.send(raw.publish("e2e/drain", str(sent), 1, pid=sent, v=v))
                else:
                    p = pub.recv()
                    if p.kind == raw.DISCONNECT:
                        return
                    acked.add(p.pid)
            while True:
                p = pub.recv()
                if p.kind == PUBACK:
                    acked.add(p.pid)
        except (raw.Closed, OSError):
            pass
    th = threading.Thread(target=publish)
    th.start()
    wait(lambda: len(acked) > 200, "some acks")
    s.signal(signal.SIGTERM)
    th.join(30)
    assert not th.is_alive()
    assert s.wait_exit() == 0
    s.start()
    sub.connect(present=True)
    end = s.connected()
    got = s.barrier(end, sub)
    seen = [int(p.payload) for p in got]
    assert seen == sorted(set(seen)), "reordered or twice"
    assert acked <= set(seen), f"lost {sorted(acked - set(seen))[:10]}"


def test_wills_at_shutdown(own_server):
    """A drain is the server's end, not the client's: the will waits until the client is back
    within its delay, or is published after the restart."""
    s = own_server().start()
    sub = s.client(clean=False, properties={"session_expiry": 3600})
    sub.connect()
    sub.subscribe("e2e/will", qos=1)
    sub.disconnect()
    c = s.client(will=raw.Will("e2e/will", b"bye", 1, props={"will_delay": 1}),
                 properties={"session_expiry": 3600})
    c.connect()
    s.signal(signal.SIGTERM)
    c.closed(0x8B)
    s.wait_exit()
    s.start()
    sub.connect(present=True)
    sub.message("e2e/will", b"bye")


def test_sighup_reloads_keys_and_limits(own_server):
    s = own_server(config=doc([app()])).start()
    old = s.connected()
    s.client(user="dev", password=lvconf.key_text("fresh")).connect(rc=0x86)
    s.reload(doc([app(keys=[key("full", ALL, ALL), key("fresh", ALL, ALL)],
                      limits={"inflight": 9})]))

    def taken():
        c = s.client(user="dev", password=lvconf.key_text("fresh"))
        c.open().send(c.connect_bytes())
        p = c.expect(raw.CONNACK)
        return p.rc == 0 and p
    p = wait(taken, "the new key")
    assert p.prop("receive_maximum") == 9
    old.ping()


def test_sighup_with_a_broken_document_changes_nothing(own_server):
    s = own_server(config=doc()).start()
    c = s.connected()
    with open(s.conf_path, "w") as f:
        f.write("apps: [\n  oops")
    n = len(s.log())
    s.signal(signal.SIGHUP)
    wait(lambda: "lavva.yaml" in s.log()[n:], "a word about the document")
    assert ":2" in s.log()[n:] or "line 2" in s.log()[n:] or ":1" in s.log()[n:]
    c.ping()
    s.connected().ping()


def test_sighup_log_level(own_server):
    s = own_server(config=doc(server={"log": {"level": "error"}})).start()
    s.reload(doc(server={"log": {"level": "debug"}}))

    def more():
        s.connected().disconnect()
        return s.log()
    wait(lambda: len(more()) > 400, "debug lines")


def test_sighup_of_the_development_instance(own_server):
    s = own_server().start()
    c = s.connected()
    for _ in range(5):
        s.signal(signal.SIGHUP)
    c.ping()
    s.connected().ping()
    assert s.alive()


def test_sighup_under_load(own_server):
    s = own_server(config=doc()).start()
    sub, pub = s.connected(), s.connected()
    sub.subscribe("e2e/x", qos=1)
    for i in range(200):
        if i % 20 == 0:
            s.signal(signal.SIGHUP)
        pub.publish("e2e/x", str(i), 1)
    assert [int(p.payload) for p in sub.collect(200)] == list(range(200))


def test_sigpipe_and_broken_stdout(own_server):
    """The terminal goes away: the server does not."""
    s = own_server().start()
    s.signal(signal.SIGPIPE)
    s.connected().ping()


def test_json_logs(own_server):
    import json
    s = own_server(config=doc(server={"log": {"format": "json", "level": "debug"}})).start()
    s.connected(client_id='"}\n{"a":1} \x7f').disconnect()
    with open(s.conf_path, "w") as f:
        f.write("apps: [\n  oops")
    s.signal(signal.SIGHUP)
    wait(lambda: "finding in the document" in s.log(), "the finding")
    s.stop()
    lines = [x for x in s.log().splitlines() if not x.startswith("--- ")]
    assert lines
    for line in lines:
        assert isinstance(json.loads(line), dict), line
