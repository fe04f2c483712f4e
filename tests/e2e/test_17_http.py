"""HTTP: /metrics, /healthz, /readyz and the head parser behind them (RFC 9110, RFC 9112)."""
import re
import socket

import pytest

import raw
from harness import DEADLINE, wait

pytestmark = pytest.mark.lavva_only


class Web:
    """A bare HTTP connection that reads one response at a time."""

    def __init__(self, addr):
        self.sock = socket.create_connection(addr, timeout=DEADLINE)
        self.buf = b""

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())
        return self

    def fill(self):
        try:
            data = self.sock.recv(65536)
        except ConnectionError:
            data = b""
        self.buf += data
        return bool(data)

    def response(self, head_only=False):
        """(status, {lower header: value}, body); None at the end of the stream."""
        while b"\r\n\r\n" not in self.buf:
            if not self.fill():
                assert not self.buf, f"half a response: {self.buf[:200]}"
                return None
        head, _, self.buf = self.buf.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        m = re.fullmatch(r"HTTP/1\.[01] (\d{3}) .*", lines[0])
        assert m, lines[0]
        headers = {}
        for line in lines[1:]:
            k, sep, v = line.partition(":")
            assert sep and re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", k), line
            headers[k.lower()] = v.strip()
        status, body = int(m.group(1)), b""
        if not head_only and status >= 200 and status not in (204, 304):
            if headers.get("transfer-encoding") == "chunked":
                body = self.chunked()
            else:
                n = int(headers["content-length"])
                while len(self.buf) < n:
                    assert self.fill(), "body cut short"
                body, self.buf = self.buf[:n], self.buf[n:]
        return status, headers, body

    def chunked(self):
        body = b""
        while True:
            while b"\r\n" not in self.buf:
                assert self.fill()
            size, _, self.buf = self.buf.partition(b"\r\n")
            n = int(size, 16)
            while len(self.buf) < n + 2:
                assert self.fill()
            body, self.buf = body + self.buf[:n], self.buf[n + 2:]
            if not n:
                return body

    def ended(self):
        """Whether the server has closed, after at most the deadline."""
        while self.fill():
            pass
        return True


@pytest.fixture
def web(server):
    return Web(server.http)


@pytest.mark.tsan
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health(server, path):
    status, headers, text = server.get(path)
    assert status == 200 and text
    assert headers["Content-Length"] == str(len(text))


def test_metrics_format(server):
    status, headers, text = server.get("/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    assert "version=0.0.4" in headers["Content-Type"]
    assert text.endswith("\n")
    types, helped, seen = {}, set(), set()
    last = None
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name not in types, f"TYPE twice: {name}"
            types[name] = kind
        elif line.startswith("# HELP "):
            helped.add(line.split()[2])
        elif line:
            m = re.fullmatch(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^}]*\})? (\S+)', line)
            assert m, line
            float(m.group(3))
            assert (m.group(1), m.group(2)) not in seen, f"twice: {line}"
            seen.add((m.group(1), m.group(2)))
            base = re.sub(r"_(bucket|sum|count)$", "", m.group(1))
            name = m.group(1) if m.group(1) in types else base
            assert name in types, f"no TYPE before {line}"
            if name != last:
                last = name
    assert types["lavva_gateway_in_messages_total"] == "counter"
    assert types["lavva_processing_latency_seconds"] == "histogram"
    assert "lavva_gateway_in_messages_total" in helped
    for name in ("lavva_drops_total", "lavva_hub_out_messages_total",
                 "lavva_processing_latency_quantile_seconds", "lavva_broker_in_bytes_total"):
        assert name in types


def test_latency_histogram(server, t):
    c = server.connected()
    c.subscribe(t)
    before = server.metrics()["lavva_processing_latency_seconds_count"]
    for i in range(10):
        c.publish(t, b"x")
        c.message(t)
    m = wait(lambda: (x := server.metrics())["lavva_processing_latency_seconds_count"]
             >= before + 10 and x, "ten latencies")
    buckets = [(float(re.search(r'le="([^"]+)"', k).group(1)), v) for k, v in m.items()
               if k.startswith("lavva_processing_latency_seconds_bucket")]
    assert buckets == sorted(buckets) and len(buckets) >= 20
    assert [v for _, v in buckets] == sorted(v for _, v in buckets)
    assert buckets[-1] == (float("inf"), m["lavva_processing_latency_seconds_count"])
    assert 0 < m["lavva_processing_latency_seconds_sum"]


@pytest.mark.parametrize("path", ["/nothing", "/healthz/x", "/api/v1/none", "//", "/%2e%2e/etc"])
def test_not_found(server, path):
    assert server.get(path)[0] == 404


def test_keep_alive_and_pipelining(web):
    web.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
    for _ in range(20):
        assert web.response()[0] == 200
    web.send("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert web.response()[0] == 404
    assert web.response()[0] == 200


def test_connection_close(web):
    web.send("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    status, headers, _ = web.response()
    assert status == 200 and "close" in headers.get("connection", "").lower()
    assert web.ended()


def test_http_1_0(web):
    web.send("GET /healthz HTTP/1.0\r\n\r\n")
    assert web.response()[0] == 200
    assert web.ended()


def test_head(web):
    """RFC 9110, 9.3.2: the same headers, no body."""
    web.send("HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    status, h1, _ = web.response(head_only=True)
    assert status == 200
    status, h2, body = web.response()
    assert status == 200 and h1.get("content-length") == h2["content-length"] == str(len(body))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods(server, method):
    w = Web(server.http)
    w.send(f"{method} /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
           "Connection: close\r\n\r\n")
    status, headers, _ = w.response()
    assert status in (200, 204, 404, 405, 501)
    if status == 405:
        assert "GET" in headers["allow"]


def test_byte_by_byte(web):
    for b in b"GET /healthz?x=%20y HTTP/1.1\r\nHost: x\r\nX-A:  b \r\n\r\n":
        web.send(bytes([b]))
    assert web.response()[0] == 200


def test_absolute_form_and_queries(web):
    """RFC 9112, 3.2.2: a server accepts absolute-form."""
    for target in ("http://x/healthz", "/healthz?", "/healthz?a=b&c", "HTTP://x:80/healthz?q"):
        web.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")
        assert web.response()[0] == 200, target


@pytest.mark.parametrize("request_,codes", [
    (b"GET /healthz HTTP/1.1\r\n\r\n", {400}),                       # no Host: RFC 9112, 3.2
    (b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", {400}),
    (b"GET  /healthz HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
    (b"GET /healthz\r\n\r\n", {400, 505}),
    (b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n", {400, 505}),
    (b"GET /healthz HTTX/1.1\r\nHost: x\r\n\r\n", {400}), (b"\0\0\0\0\r\n\r\n", {400}),
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\nBad Header: y\r\n\r\n", {400}),
    (b"GET /healthz HTTP/1.1\r\nHost : x\r\n\r\n", {400}),           # RFC 9112, 5.1
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n", {400}),
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", {400}),  # folding: 5.2
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n", {400}),
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\nA\r\n\r\n", {400}),
    (b"GET /heal\x7fthz HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
    (b"GE(T /healthz HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", {400}),
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", {400}),
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 2\r\n\r\n", {400}),
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", {400}),
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
     {400, 413}),
    (b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
     b"0\r\n\r\n", {400}),
    (b"POST /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", {400, 501}),
    (b"GET /healthz HTTP/1.1\nHost: x\n\n", {200, 400}),
    (b"GET " + b"/a" * 40000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", {400, 414, 431}),
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 80000 + b"\r\n\r\n", {400, 431}),
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 5000 + b"\r\n", {400, 431}),
], ids=range(26))
def test_malformed_requests(server, request_, codes):
    w = Web(server.http)
    try:
        w.send(request_)
    except ConnectionError:
        pass
    got = w.response()
    if got is not None:
        assert got[0] in codes, got
        if got[0] >= 400:
            assert w.ended()
    assert server.get("/healthz")[0] == 200


def test_request_smuggling_is_not_possible(server):
    """After a request whose end is in doubt nothing else is answered on that connection."""
    w = Web(server.http)
    w.send(b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nTransfer-Encoding: chunked"
           b"\r\n\r\n0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    got = w.response()
    assert got is None or got[0] == 400
    assert w.response() is None


def test_body_is_read_and_left(web):
    """A request's body does not become the next request."""
    web.send(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 37\r\n\r\n"
             b"GET /metrics HTTP/1.1\r\nHost: evil\r\n\r\n"
             b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert web.response()[0] in (404, 405)
    second = web.response()
    assert second is None or (second[0] == 200 and len(second[2]) < 200)


def test_expect_continue(server):
    w = Web(server.http)
    w.send(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
           b"Expect: 100-continue\r\n\r\n")
    got = w.response()
    if got is not None and got[0] == 100:
        w.send(b"abc")
        got = w.response()
    assert got is None or got[0] in (404, 405, 417)


def test_mqtt_on_the_http_port(server):
    c = server.client(addr=server.http).open()
    c.send(c.connect_bytes())
    try:
        while True:
            c.next()
    except (raw.Closed, raw.ProtocolError):
        pass
    assert server.get("/healthz")[0] == 200


def test_curl(server):
    import subprocess
    url = f"http://{server.http[0]}:{server.http[1]}"
    out = subprocess.run(["curl", "-sS", "--fail", url + "/healthz", url + "/readyz"],
                         capture_output=True, text=True, timeout=DEADLINE)
    assert out.returncode == 0, out.stderr


def test_metrics_count_connections(server):
    def conns():
        return server.metrics()['lavva_connections{protocol="mqtt"}']
    before = conns()
    cs = [server.connected() for _ in range(7)]
    wait(lambda: conns() == before + 7, "seven more connections")
    for c in cs:
        c.disconnect()
    wait(lambda: conns() == before, "them to be gone")


def test_no_secret_in_referrer(server):
    """The key of a URL is neither echoed nor logged."""
    before = len(server.log())
    status, _, text = server.get("/nothing?apiKey=" + server.key)
    assert status == 404 and server.key not in text
    # the block of commands at the start has it, by design; requests add nothing
    assert server.key not in server.log()[before:]
