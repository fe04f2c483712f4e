"""HTTP/1.1 on the wire, where two parsers could disagree (RFC 9112 §11.2): each doubtful request is
refused, nothing behind it is served, and nothing of it is published. With what may vary and has to be
understood, and TLS: versions, resumption."""
import re
import socket
import ssl
import subprocess

import pytest

from harness import DEADLINE, hostport, wait
from lvconf import app, doc, key_text
from test_16_proxy import header
from test_17_http import Web
from ws import BINARY, PING, PONG, TEXT, WS, Stream

pytestmark = pytest.mark.lavva_only
POST = "POST /v1/channels/smuggle/messages?apiKey=KEY HTTP/1.1\r\nHost: x\r\n"
NEXT = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n\r\n"


def request(server, text, behind=b""):
    data = text if isinstance(text, bytes) else text.encode("latin-1")
    return data.replace(b"KEY", server.key.encode()) + behind


BAD = {
    # both lengths
    "CL.TE": POST + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    "TE.CL": POST + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n8\r\nSMUGGLED\r\n0\r\n\r\n",
    "TE.CL zero": POST + "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    # Content-Length
    "two lengths": POST + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "two equal lengths": POST + "Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "list of lengths": POST + "Content-Length: 1, 1\r\n\r\na",
    "plus": POST + "Content-Length: +1\r\n\r\na",
    "minus": POST + "Content-Length: -1\r\n\r\na",
    "minus zero": POST + "Content-Length: -0\r\n\r\n",
    "space inside": POST + "Content-Length: 1 1\r\n\r\na",
    "hex": POST + "Content-Length: 0x1\r\n\r\na",
    "exponent": POST + "Content-Length: 1e1\r\n\r\na",
    "point": POST + "Content-Length: 1.0\r\n\r\na",
    "underscore": POST + "Content-Length: 1_0\r\n\r\na",
    "empty": POST + "Content-Length:\r\n\r\na",
    "64 bits and one": POST + "Content-Length: 18446744073709551617\r\n\r\na",
    "vertical tab": POST + "Content-Length: \x0b1\r\n\r\na",
    "wide digit": POST + "Content-Length: \xb9\r\n\r\na",
    # Transfer-Encoding
    "TE twice": POST + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE twice, other": POST + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "chunked, chunked": POST + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked, identity": POST + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "identity, chunked": POST + "Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    "gzip, chunked": POST + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "identity": POST + "Transfer-Encoding: identity\r\nContent-Length: 1\r\n\r\na",
    "xchunked": POST + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked;q": POST + "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    "quoted": POST + 'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "empty TE": POST + "Transfer-Encoding:\r\n\r\n",
    "TE space colon": POST + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "TE tab colon": POST + "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "TE behind a space": POST + " Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE folded": POST + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "TE vertical tab": POST + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "TE form feed": POST + "Transfer-Encoding: chunked\x0c\r\n\r\n0\r\n\r\n",
    "TE NUL": POST + "Transfer-Encoding: chunked\0\r\n\r\n0\r\n\r\n",
    "TE behind a bare LF": POST + "X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE behind a bare CR": POST + "X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE in 1.0": POST.replace("1.1", "1.0") + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    # lines
    "LF only": (POST + "Content-Length: 1\r\n\r\na").replace("\r\n", "\n"),
    "LF at the end": POST + "Content-Length: 1\r\n\na",
    "CR CR LF": POST + "Content-Length: 1\r\r\n\r\na",
    "obs-fold": POST + "X: a\r\n b\r\nContent-Length: 1\r\n\r\na",
    "obs-fold tab": POST + "X: a\r\n\tContent-Length: 1\r\n\r\na",
    "fold first": POST.replace("\r\nHost", "\r\n Host") + "Content-Length: 1\r\n\r\na",
    "NUL in a value": POST + "X: a\0b\r\nContent-Length: 1\r\n\r\na",
    "NUL in a name": POST + "X\0: a\r\nContent-Length: 1\r\n\r\na",
    "no colon": POST + "Content-Length 1\r\n\r\na",
    "space colon": POST + "Content-Length : 1\r\n\r\na",
    "no name": POST + ": 1\r\nContent-Length: 1\r\n\r\na",
    "high byte in a name": POST + "Content\xadLength: 1\r\n\r\na",
    # chunks
    "size overflow": POST + CHUNKED + "10000000000000001\r\na\r\n0\r\n\r\n",
    "size 2^64-1": POST + CHUNKED + "FFFFFFFFFFFFFFFF\r\na\r\n0\r\n\r\n",
    "size minus": POST + CHUNKED + "-1\r\na\r\n0\r\n\r\n",
    "size plus": POST + CHUNKED + "+1\r\na\r\n0\r\n\r\n",
    "size 0x": POST + CHUNKED + "0x1\r\na\r\n0\r\n\r\n",
    "size missing": POST + CHUNKED + "\r\na\r\n0\r\n\r\n",
    "size space": POST + CHUNKED + "1 \r\na\r\n0\r\n\r\n",
    "size behind a space": POST + CHUNKED + " 1\r\na\r\n0\r\n\r\n",
    "size LF": POST + CHUNKED + "1\na\r\n0\r\n\r\n",
    "size CR": POST + CHUNKED + "1\ra\r\n0\r\n\r\n",
    "data too long": POST + CHUNKED + "1\r\nab\r\n0\r\n\r\n",
    "data LF": POST + CHUNKED + "1\r\na\n0\r\n\r\n",
    "data without end": POST + CHUNKED + "1\r\na0\r\n\r\n",
    "extension LF": POST + CHUNKED + "1;a=b\na\r\n0\r\n\r\n",
    "extension NUL": POST + CHUNKED + "1;a\0\r\na\r\n0\r\n\r\n",
    "extensions without end": POST + CHUNKED + "1;" + "a" * 3000 + "\r\na\r\n0\r\n\r\n",
    "trailer LF": POST + CHUNKED + "0\r\nX: y\n\r\n",
    "trailer fold": POST + CHUNKED + "0\r\nX: y\r\n z\r\n\r\n",
    "trailer no colon": POST + CHUNKED + "0\r\nGET / HTTP/1.1\r\n\r\n",
    "trailers without end": POST + CHUNKED + "0\r\n" + "X: y\r\n" * 1000 + "\r\n",
    # hosts and targets
    "no host": "POST /v1/channels/smuggle/messages?apiKey=KEY HTTP/1.1\r\nContent-Length: 1\r\n\r\na",
    "two hosts": POST + "Host: y\r\nContent-Length: 1\r\n\r\na",
    "host with a path": POST.replace("Host: x", "Host: x/y") + "Content-Length: 1\r\n\r\na",
    "host with a user": POST.replace("Host: x", "Host: a@x") + "Content-Length: 1\r\n\r\na",
    "host with a space": POST.replace("Host: x", "Host: x y") + "Content-Length: 1\r\n\r\na",
    "list of hosts": POST.replace("Host: x", "Host: x, y") + "Content-Length: 1\r\n\r\na",
    "absolute with a user": POST.replace(" /v1", " http://a@x/v1") + "Content-Length: 1\r\n\r\na",
    "absolute without a host": POST.replace(" /v1", " http:///v1") + "Content-Length: 1\r\n\r\na",
    "other scheme": POST.replace(" /v1", " ftp://x/v1") + "Content-Length: 1\r\n\r\na",
    "space in the target": POST.replace("/messages?", "/messages? ") + "Content-Length: 1\r\n\r\na",
    "tab for a space": POST.replace("POST ", "POST\t") + "Content-Length: 1\r\n\r\na",
    "fragment": POST.replace("=KEY", "=KEY#x") + "Content-Length: 1\r\n\r\na",
    "lower-case version": POST.replace("HTTP/", "http/") + "Content-Length: 1\r\n\r\na",
    "version 1.10": POST.replace("1.1", "1.10") + "Content-Length: 1\r\n\r\na",
}


@pytest.mark.parametrize("how", ["whole", "bytes"])
@pytest.mark.parametrize("text", BAD.values(), ids=BAD.keys())
def test_doubtful_requests(server, text, how):
    w = Web(server.http)
    data = request(server, text, NEXT)
    try:
        for piece in [data] if how == "whole" else [data[i:i + 7] for i in range(0, len(data), 7)]:
            w.send(piece)
    except OSError:
        pass                    # it has had enough of it
    got = w.response()
    assert got is None or got[0] in (400, 413, 414, 431, 501, 505), got
    assert w.response() is None, "what came behind it was served"
    if how == "bytes":
        return
    assert got is not None and got[1]["connection"] == "close"


def test_nothing_of_them_was_published(server):
    url = f"/snapshot?channels=smuggle&apiKey={server.key}"
    status, _, text = server.get(url)
    assert status == 200 and '"smuggle":[]' in text.replace(" ", "")


GOOD = {
    "length": (POST + "Content-Length: 1\r\n\r\na", b"a"),
    "leading zeros": (POST + "Content-Length: 0001\r\n\r\na", b"a"),
    "any case, spaces around": (POST + "cONTENT-lENGTH: \t 1 \t\r\n\r\na", b"a"),
    "no space": (POST + "Content-Length:1\r\n\r\na", b"a"),
    "nothing": (POST + "Content-Length: 0\r\n\r\n", b""),
    "no body at all": (POST + "\r\n", b""),
    "chunked": (POST + CHUNKED + "1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"abc"),
    "Chunked": (POST + "Transfer-Encoding: \tChunked \r\n\r\n1\r\na\r\n0\r\n\r\n", b"a"),
    "hex in both cases": (POST + CHUNKED + "a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n",
                          b"01234567890123456789"),
    "zeros before a size": (POST + CHUNKED + "0000000000000001\r\na\r\n000\r\n\r\n", b"a"),
    "extensions": (POST + CHUNKED + "1;a\r\na\r\n1 ;a=\"b\"\r\nb\r\n0;last\r\n\r\n", b"ab"),
    "trailers": (POST + CHUNKED + "1\r\na\r\n0\r\nX: y\r\nContent-Length: 9\r\n\r\n", b"a"),
    "empty elements": (POST + "Transfer-Encoding: , chunked,\r\n\r\n1\r\na\r\n0\r\n\r\n", b"a"),
    "an empty line in front": ("\r\n" + POST + "Content-Length: 1\r\n\r\na", b"a"),
    "absolute, other host": (POST.replace(" /v1", " http://other:8080/v1") +
                             "Content-Length: 1\r\n\r\na", b"a"),      # RFC 9112 §3.2.2
    "version 1.9": (POST.replace("1.1", "1.9") + "Content-Length: 1\r\n\r\na", b"a"),
    "body looks like a request": (POST + "Content-Length: 35\r\n\r\nGET /metrics HTTP/1.1\r\nHost: x\r\n\r\na",
                                  b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\na"),
}


@pytest.mark.parametrize("chop", [None, 1, 7])
@pytest.mark.parametrize("text,value", GOOD.values(), ids=GOOD.keys())
def test_understood_requests(server, text, value, chop):
    """And what is pipelined behind is served as well."""
    sub = server.connected()
    sub.subscribe("fine/#", qos=1)
    w = Web(server.http)
    data = request(server, text.replace("smuggle", "fine"),
                   b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    for i in range(0, len(data), chop or len(data)):
        w.send(data[i:i + (chop or len(data))])
    status, _, body = w.response()
    assert status == 200, body
    assert sub.message("fine").payload == value
    assert w.response()[::2] == (200, b"ok\n")
    assert w.ended()


def test_pipelined_behind_something_bad(server):
    """What came before is answered in order, the bad one refused, the rest never looked at."""
    w = Web(server.http)
    good = request(server, POST.replace("smuggle", "fine") + "Content-Length: 1\r\n\r\na")
    w.send(good * 3 + request(server, BAD["CL.TE"]) + good * 3)
    assert [w.response()[0] for _ in range(4)] == [200, 200, 200, 400]
    assert w.response() is None


def test_too_large_bodies(server):
    """Refused by their head, with a chunk that promises too much, or when they have become so."""
    for rest in ("Content-Length: 999999999999\r\n\r\n", CHUNKED + "FFFFFFFF\r\n",
                 CHUNKED + "100000\r\n" + "x" * (1 << 20) + "\r\nF00000\r\n"):
        w = Web(server.http)
        try:
            w.send(request(server, POST + rest))
        except OSError:
            pass
        assert w.response()[0] == 413
        assert w.response() is None


# ---- Expect, HEAD, 405 ----

def test_expect(server):
    w = Web(server.http)
    w.send(request(server, POST.replace("smuggle", "fine") +
                   "Content-Length: 3\r\nExpect: 100-continue\r\n\r\n"))
    assert w.response()[0] == 100
    w.send("abc")
    assert w.response()[0] == 200
    w.send(request(server, POST.replace("smuggle", "fine") +      # it is here already: no need to ask
                   "Content-Length: 3\r\nExpect: 100-continue\r\n\r\nabc"))
    assert w.response()[0] == 200
    w.send(request(server, POST.replace("smuggle", "fine").replace("1.1", "1.0") +
                   "Connection: keep-alive\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"))
    w.send("abc")                                                 # RFC 9110 §10.1.1: not in 1.0
    assert w.response()[0] == 200
    for rest, status in (("Content-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n", 413),
                         ("Content-Length: 3\r\nExpect: 200-ok\r\n\r\n", 417)):
        w = Web(server.http)
        w.send(request(server, POST + rest))
        assert w.response()[0] == status
        assert w.response() is None
    w = Web(server.http)
    w.send("POST /v1/channels/c/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
           "Expect: 100-continue\r\n\r\n")
    got = w.response()
    if got[0] == 100:
        w.send("abc")
        got = w.response()
    assert got[0] == 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/snapshot?channels=c&apiKey=KEY",
                                  "/nothing"])
def test_head(server, path):
    """RFC 9110 §9.3.2: the head that a GET gets, without its body."""
    w = Web(server.http)
    for method in ("HEAD", "GET"):
        w.send(request(server, f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
        got = w.response(head_only=method == "HEAD")
        if method == "HEAD":
            status, fields, _ = got
        else:
            assert got[0] == status
            assert set(got[1]) == set(fields)
            if path != "/metrics":
                assert got[1]["content-length"] == fields["content-length"]


@pytest.mark.parametrize("method,path,allow", [
    ("PUT", "/v1/channels/c/messages", {"POST", "OPTIONS"}),
    ("GET", "/v1/channels/c/messages", {"POST", "OPTIONS"}),
    ("DELETE", "/healthz", {"GET", "HEAD", "OPTIONS"}),
    ("POST", "/ws", {"GET", "HEAD", "OPTIONS"}),
    ("POST", "/mqtt", {"GET", "HEAD", "OPTIONS"}),
    ("PATCH", "/v1/publish", {"GET", "HEAD", "OPTIONS"}),
])
def test_405_says_what_is_allowed(server, method, path, allow):
    w = Web(server.http)
    w.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    status, fields, _ = w.response()
    assert status == 405 and {m.strip() for m in fields["allow"].split(",")} == allow


def test_methods_that_are_none(server):
    for line, status in (("BREW /healthz", 501), ("get /healthz", 501), ("CONNECT x:80", 501),
                         ("OPTIONS *", 204), ("GET *", 400)):
        w = Web(server.http)
        w.send(f"{line} HTTP/1.1\r\nHost: x\r\n\r\n")
        assert w.response()[0] == status, line


# ---- PROXY v2 ----

def test_websocket_behind_a_proxy(own_server):
    conf = doc([app()], listen=[{"mqtt": "127.0.0.1:0"}, {"http": "127.0.0.1:0"},
                                {"http": "127.0.0.1:0", "proxy": True}],
               server={"log": {"level": "debug"}, "connect_timeout": "1s"})
    s = own_server(config=conf).start()
    addr = hostport(s.config["listen"][2]["http"])

    def behind(*ends):
        sock = socket.create_connection(addr, timeout=DEADLINE)
        sock.sendall(header(*ends))
        return sock
    hub = WS(addr, f"/ws?channels=c&apiKey={key_text('full')}", sock=behind(("192.0.2.7", 1)))
    assert b"client_id" in hub.expect(TEXT)
    pub = WS(addr, f"/v1/publish?channel=c&apiKey={key_text('full')}", sock=behind(("192.0.2.8", 2)))
    pub.send_frame(TEXT, '{"id":1,"val":1}')
    assert b'"pos"' in pub.expect(TEXT)
    assert b'"val":1' in hub.expect(TEXT)
    c = s.client()
    c.sock = Stream(addr, sock=behind(("2001:db8::5", 99), ("2001:db8::1", 80)))
    c.connect()
    wait(lambda: "[2001:db8::5]:99" in s.log(), "the address that the proxy gave")
    ws = WS(addr, "/ws", open=False)        # without the header nothing is served
    ws.sock.sendall(ws.request)
    assert not ws.fill()


# ---- TLS ----

def context(server, version=None):
    ctx = ssl.create_default_context(cafile=server.ca)
    if version:
        ctx.minimum_version = ctx.maximum_version = version
    return ctx


def https(server, ctx, session=None):
    sock = ctx.wrap_socket(socket.create_connection(server.https, timeout=DEADLINE),
                           server_hostname="localhost", session=session)
    sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert sock.recv(65536).startswith(b"HTTP/1.1 200")
    return sock


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed(server, version):
    """By tickets, on whatever loop the next connection lives."""
    ctx = context(server, version)
    first = https(server, ctx)
    assert not first.session_reused
    session = first.session
    assert session.has_ticket
    first.close()
    for _ in range(6):
        again = https(server, ctx, session)
        assert again.session_reused and again.version() == {
            ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}[version]
        session = again.session
        again.close()


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_resumes(server, tmp_path, version):
    def s_client(*args):
        return subprocess.run(
            ["openssl", "s_client", "-connect", "%s:%d" % server.https, "-CAfile", server.ca,
             "-servername", "localhost", version, "-ign_eof", *args], capture_output=True, text=True,
            timeout=DEADLINE,
            input="GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").stdout
    out = s_client("-sess_out", tmp_path / "sess")
    assert re.search(r"^New, TLSv1\.[23]", out, re.M) and "200 OK" in out
    out = s_client("-sess_in", tmp_path / "sess")
    assert re.search(r"^Reused, TLSv1\.[23]", out, re.M) and "200 OK" in out
    assert "Verification: OK" in out


@pytest.mark.parametrize("which", ["https", "mqtts"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_tls_is_refused(server, which, version):
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
    ctx.set_ciphers("ALL:@SECLEVEL=0")
    ctx.minimum_version = ctx.maximum_version = version
    with socket.create_connection(getattr(server, which)) as sock, pytest.raises(
            (ssl.SSLError, OSError)) as e:
        ctx.wrap_socket(sock)
    assert "PROTOCOL_VERSION" in str(e.value)


def test_websocket_over_a_resumed_session(server):
    ctx = context(server, ssl.TLSVersion.TLSv1_3)
    session = https(server, ctx).session
    sock = ctx.wrap_socket(socket.create_connection(server.https, timeout=DEADLINE),
                           server_hostname="localhost", session=session)
    ws = WS(server.https, "/v1/echo", sock=sock)
    assert sock.session_reused
    ws.send_frame(BINARY, bytes(100000))
    ws.expect(BINARY, bytes(100000))
    ws.send_frame(PING, b"p")
    ws.expect(PONG, b"p")
