"""Customers' tokens (JWT): EdDSA, RS256 and HS256, made by another implementation, over every way
in: WebSocket, Server-Sent Events, GET /snapshot, HTTP publish, MQTT. What a token may do, what it
may not, and how it ends."""
import asyncio
import base64
import hashlib
import hmac
import http.client
import json
import re
import socket
import time
import urllib.error
import urllib.parse
import urllib.request

import jwt
import pytest
import websockets
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

import harness
import raw
from harness import DEADLINE, cli, wait
from lvconf import ALL, app, doc, key, key_text

pytestmark = pytest.mark.lavva_only
SECRET = "a secret of at least thirty-two bytes"
RIGHTS = {"publish": ["a/#"], "subscribe": ["a/#", "b/#"]}


def pem_of(private):
    return private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


ED, ED2 = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SIGN = {"EdDSA": ED, "RS256": RSA, "HS256": SECRET}
APP_OF = {"EdDSA": "ed", "RS256": "rs", "HS256": "hs"}


def section(alg, **kw):
    known = SECRET if alg == "HS256" else pem_of(SIGN[alg])
    return {"algorithm": alg, "keys": [{"key": known}], "publish": ["a/#", "wide/#"],
            "subscribe": ["#"], "leeway": "1s", **kw}


def document(**kw):
    apps = [app(APP_OF[alg], [key("k" + APP_OF[alg], ALL, ALL)], jwt=section(alg))
            for alg in SIGN]
    apps.append(app("rot", [key("krot", ALL, ALL)], jwt=section(
        "EdDSA", issuer="https://issuer.example", audience="lavva", max_age="1h", keys=[
            {"kid": "one", "key": pem_of(ED)}, {"kid": "two", "key": pem_of(ED2)}])))
    apps.append(app("plain", [key("kplain", ALL, ALL)]))
    return doc(apps, **kw)


def token(alg="EdDSA", sign=None, head=None, drop=(), **claims):
    body = {"app": APP_OF[alg], "sub": "ann", "exp": int(time.time()) + 300, "rights": RIGHTS,
            **claims}
    body = {k: v for k, v in body.items() if k not in drop}
    return jwt.encode(body, sign or SIGN[alg], algorithm=alg, headers=head)


@pytest.fixture(scope="module")
def srv(tmp_path_factory):
    s = harness.make(str(tmp_path_factory.mktemp("jwt")), config=document()).start()
    yield s
    s.drop_clients()
    s.stop()
    s.check()


@pytest.fixture
def s(srv):
    yield srv
    srv.drop_clients()
    assert srv.alive()
    srv.check()


# ---- the ways in: each gives the status, or what the customer was told ----

def url(s, path, scheme="http", **q):
    q = urllib.parse.urlencode({k: v for k, v in q.items() if v is not None}, safe=",:/")
    return f"{scheme}://{s.http[0]}:{s.http[1]}{path}?{q}"


def get(s, path, bearer=None, **q):
    r = urllib.request.Request(url(s, path, **q), headers={"Authorization": "Bearer " + bearer}
                               if bearer else {})
    try:
        with urllib.request.urlopen(r, timeout=DEADLINE) as a:
            return a.status, a.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def post(s, channel, text, k="k", value=b"1", **headers):
    r = urllib.request.Request(url(s, f"/v1/channels/{channel}/messages", key=k), data=value,
                               method="POST", headers={"Authorization": "Bearer " + text, **{
                                   n.replace("_", "-"): v for n, v in headers.items()}})
    try:
        with urllib.request.urlopen(r, timeout=DEADLINE) as a:
            return a.status, json.load(a)
    except urllib.error.HTTPError as e:
        return e.code, json.loads(e.read())


def mqtt(s, text, user="ed", rc=0, v=5, **kw):
    c = s.client(v=v, user=user, password=text, **kw)
    c.connect(rc=rc)
    return c


def run(coro):
    return asyncio.run(asyncio.wait_for(coro, DEADLINE * 4))


def ws_status(s, text, channels="a", path="/ws"):
    async def go():
        try:
            async with websockets.connect(url(s, path, "ws", channels=channels, apiKey=text)):
                return 101
        except websockets.exceptions.InvalidStatusCode as e:
            return e.status_code
    return run(go())


def everywhere(s, text, user):
    """The status that each way in gives to a token that may read and publish in a."""
    c = s.client(user=user, password=text).open()
    c.send(c.connect_bytes())
    connack = c.expect(raw.CONNACK).rc
    sse = http.client.HTTPConnection(*s.http, timeout=DEADLINE)
    sse.request("GET", "/v1/channels/a/events", headers={"Authorization": "Bearer " + text})
    status = sse.getresponse().status
    sse.close()
    return [ws_status(s, text), status, get(s, "/snapshot", channels="a", apiKey=text)[0],
            post(s, "a", text)[0], connack]


# ---- good ones ----

@pytest.mark.tsan
@pytest.mark.parametrize("alg", list(SIGN))
def test_every_way_in(s, alg):
    assert everywhere(s, token(alg), APP_OF[alg]) == [101, 200, 200, 200, 0]


def test_what_it_says_and_does(s):
    """The publisher is `sub`; live delivery works with a token; the log never has its text."""
    t = token(sub="ann@example.org")

    async def go():
        async with websockets.connect(url(s, "/ws", "ws", channels="a", apiKey=t,
                                          snapshot="false")) as ws:
            assert json.loads(await ws.recv())["typ"] == 1
            loop = asyncio.get_running_loop()
            assert (await loop.run_in_executor(None, lambda: post(s, "a", t, "x")))[0] == 200
            return json.loads(await ws.recv())
    m = run(go())
    assert (m["chn"], m["key"], m["pid"], m["val"]) == ("a", "x", "ann@example.org", 1)
    assert post(s, "a", t, Publisher_Id="somebody")[0] == 403
    assert post(s, "a", t, Publisher_Id="ann@example.org")[0] == 200
    assert t not in s.log() and t.split(".")[2] not in s.log()


def test_rights(s):
    """What the claim says, and no more than the app's section; without the claim: the section."""
    t = token(rights={"publish": ["a/x/#", "b/#"], "subscribe": ["a/x/#"]})
    assert post(s, "a", t, "x/1")[0] == 200
    assert post(s, "a", t, "y/1")[0] == 403          # not in the token
    assert post(s, "b", t, "1")[0] == 403            # not in the section
    assert ws_status(s, t, "a") == 101               # something in it may be read
    assert ws_status(s, t, "b") == 403
    assert get(s, "/snapshot", channels="b", apiKey=t)[0] == 403
    post(s, "a", key_text("ked"), "y/1")
    status, text = get(s, "/snapshot", channels="a", apiKey=t)
    seen = {m["key"] for m in json.loads(text)["Snapshot"]["a"]}
    assert status == 200 and "x/1" in seen and "y/1" not in seen
    mqtt(s, t).subscribe("b/#", codes=[0x87])
    bare = token(drop=["rights"])
    assert post(s, "wide", bare)[0] == 200 and post(s, "b", bare)[0] == 403
    assert ws_status(s, bare, "b") == 101
    none = token(rights={})
    assert post(s, "a", none)[0] == 403 and ws_status(s, none, "a") == 403


def test_mqtt_rights(s):
    c = mqtt(s, token(rights={"publish": ["a/x"], "subscribe": ["a/+"]}))
    d = mqtt(s, key_text("ked"))
    c.subscribe("a/#", qos=1)
    d.publish("a/x/y", b"not to be read", 1)
    d.publish("a/z", b"to be read", 1)
    c.message("a/z", b"to be read")
    c.publish("a/x", b"1", 1)
    c.message("a/x", b"1")
    c.publish("a/y", b"1", 1, rc=0x87)
    for v in (4, 5):
        mqtt(s, token(), v=v).ping()
    mqtt(s, token(), user=None).ping()                    # 5.0 without a user: the claim `app`
    mqtt(s, token(), user="rs", rc=0x86)                  # another app's name


# ---- bad ones ----

def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def by_hand(head, claims, sign=lambda data: b""):
    text = b64(json.dumps(head).encode()) + "." + b64(json.dumps(claims).encode())
    return text + "." + b64(sign(text.encode()))


def good_claims(name):
    return {"app": name, "sub": "eve", "exp": int(time.time()) + 300, "rights": RIGHTS}


def test_algorithm_confusion(s):
    """The head's `alg` chooses nothing: an RSA or Ed25519 public key is no HMAC secret, and `none`
    signs nothing."""
    for name, private in (("rs", RSA), ("ed", ED)):
        pem = pem_of(private)
        raw_key = private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        for secret in (pem.encode(), pem.strip().encode(), raw_key):
            mac = lambda data, k=secret: hmac.new(k, data, hashlib.sha256).digest()
            t = by_hand({"alg": "HS256", "typ": "JWT"}, good_claims(name), mac)
            assert everywhere(s, t, name) == [401, 401, 401, 401, 0x86]
            t = by_hand({"alg": "EdDSA" if name == "ed" else "RS256"}, good_claims(name), mac)
            assert post(s, "a", t)[0] == 401
    for alg in ("none", "None", "NONE", ""):
        assert post(s, "a", by_hand({"alg": alg}, good_claims("ed")))[0] == 401
    assert post(s, "a", by_hand({}, good_claims("ed")))[0] == 401
    # a right signature of another app's algorithm
    assert post(s, "a", token("HS256", app="ed"))[0] == 401
    # the right secret, but the app is EdDSA's
    assert post(s, "a", token("RS256", app="ed"))[0] == 401


def test_wrong_signature(s):
    for alg, name in APP_OF.items():
        t = token(alg)
        h, p, g = t.split(".")
        flipped = g[:-8] + ("A" if g[-8] != "A" else "B") + g[-7:]
        other = b64(json.dumps(good_claims(name)).encode())
        for bad in (f"{h}.{p}.{flipped}", f"{h}.{other}.{g}", f"{h}.{p}.", f"{h}.{p}.{g}.", t + "=",
                    f"{h}.{p}.{g[:-4]}", t[:-1] + "\u00e9", t + "A"):
            status = get(s, "/snapshot", channels="a", apiKey=bad)[0]
            assert status == 401, (alg, bad, status)
    assert post(s, "a", token(sign=ED2))[0] == 401


@pytest.mark.parametrize("claims,why", [
    ({"exp": int(time.time()) - 10}, "EXPIRED"), ({"nbf": int(time.time()) + 600}, "BAD_AUTH"),
    ({"app": "plain"}, "BAD_AUTH"), ({"app": "nowhere"}, "BAD_AUTH"), ({"app": 7}, "BAD_AUTH"),
    ({"app": "rs"}, "BAD_AUTH"), ({"sub": ""}, "BAD_AUTH"), ({"sub": "x" * 257}, "BAD_AUTH"),
    ({"exp": "tomorrow"}, "BAD_AUTH"), ({"rights": ["a/#"]}, "BAD_AUTH"),
    ({"rights": {"publish": ["a/#/b"]}}, "BAD_AUTH"), ({"rights": {"publish": 1}}, "BAD_AUTH"),
    ({"rights": {"publish": ["a"] * 65}}, "BAD_AUTH"), ({"x": "y" * 9000}, "BAD_AUTH")])
def test_wrong_claims(s, claims, why):
    t = token(**claims)
    status, body = post(s, "a", t)
    assert (status, body["code"]) == (401, why) or (status == 431 and "x" in claims)
    assert mqtt(s, t, rc=0x87 if why == "EXPIRED" else 0x86)


def test_missing_claims(s):
    for claim in ("app", "sub", "exp"):
        assert post(s, "a", token(drop=[claim]))[0] == 401
    assert post(s, "a", token(head={"crit": ["exp"]}))[0] == 401


def test_leeway(s):
    """A second of leeway: over since less than that is not over."""
    assert post(s, "a", token(exp=time.time() - 0.2, nbf=time.time() + 0.5))[0] == 200


def test_issuer_audience_age_and_kid(s):
    def ask(sign=ED, kid="one", **claims):
        body = {"app": "rot", "sub": "u", "exp": int(time.time()) + 300,
                "iss": "https://issuer.example", "aud": ["other", "lavva"], **claims}
        return post(s, "a", jwt.encode(body, sign, algorithm="EdDSA",
                                       headers={"kid": kid} if kid else None))[0]
    assert ask() == 200 and ask(ED2, "two") == 200 and ask(aud="lavva") == 200
    assert ask(ED2, "one") == 401 and ask(ED, "three") == 401 and ask(ED, None) == 401
    assert ask(iss="https://issuer.example.evil") == 401
    assert ask(aud="lavva2") == 401 and ask(aud=["x"]) == 401 and ask(aud=7) == 401
    assert ask(exp=int(time.time()) + 7200) == 401
    assert ask(exp=int(time.time()) + 3590) == 200


def test_errors_tell_no_secret(s):
    t = token(exp=int(time.time()) - 100)
    for status, text in (get(s, "/snapshot", channels="a", apiKey=t),
                         get(s, "/snapshot", bearer=t, channels="a")):
        assert status == 401 and t not in text and json.loads(text)["code"] == "EXPIRED"
    wait(lambda: re.search("token refused app=ed sub=ann reason=.*expired", s.log()), "the log line")
    assert t not in s.log() and t.split(".")[1] not in s.log()


# ---- the end ----

async def closed(ws):
    try:
        while True:
            await asyncio.wait_for(ws.recv(), DEADLINE)
    except websockets.exceptions.ConnectionClosed as e:
        return e.rcvd.code, e.rcvd.reason


def sse_open(s, t, channel="a"):
    c = socket.create_connection(s.http, DEADLINE)
    c.sendall(f"GET /v1/channels/{channel}/events?apiKey={t} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data:
        data += c.recv(4096)
    assert b" 200 " in data
    return c


def read_to_end(c):
    while c.recv(65536):
        pass
    c.close()
    return True


@pytest.mark.tsan
def test_expiry_ends_connections(s):
    """1008, 0x87 (3.1.1: the end), the end of the stream: when the token is over, not before."""
    at = time.time() + 1.0                              # and a second of leeway
    t = token(exp=at)
    c, old = mqtt(s, t), mqtt(s, t, v=4)
    stream = sse_open(s, t)
    keeps = mqtt(s, token())

    async def go():
        async with websockets.connect(url(s, "/ws", "ws", channels="a", apiKey=t)) as ws:
            return await closed(ws), time.time()
    (code, reason), ended = run(go())
    assert (code, reason) == (1008, "token expired")
    assert ended >= at + 0.99
    c.closed(0x87)
    old.closed()
    assert read_to_end(stream)
    keeps.ping()


def test_revoked_on_reload(own_server):
    """A key that goes takes its tokens' connections with it; those of the other key stay; tighter
    rights hold at once."""
    def config(keys, **kw):
        return doc([app("ed", [key("ked", ALL, ALL)], jwt=section("EdDSA", keys=keys, **kw))])
    one, two = {"kid": "one", "key": pem_of(ED)}, {"kid": "two", "key": pem_of(ED2)}
    s = own_server(config=config([one, two])).start()
    t1, t2 = token(head={"kid": "one"}), token(sign=ED2, head={"kid": "two"})
    c1, c2 = mqtt(s, t1), mqtt(s, t2)
    c2.subscribe("a/#", qos=1)
    stream = sse_open(s, t1)

    async def go():
        async with websockets.connect(url(s, "/ws", "ws", channels="a,b", apiKey=t1)) as w1, \
                websockets.connect(url(s, "/ws", "ws", channels="a,b", apiKey=t2,
                                       snapshot="false")) as w2:
            for _ in range(2):
                assert json.loads(await w2.recv())["typ"] == 1
            s.reload(config([two], subscribe=["a/#"]))
            assert await closed(w1) == (1008, "token revoked")
            m = json.loads(await asyncio.wait_for(w2.recv(), DEADLINE))
            assert (m["typ"], m["chn"]) == (6, "b") and "error" in m["val"]
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, lambda: post(s, "a", key_text("ked"), "k2"))
            assert json.loads(await asyncio.wait_for(w2.recv(), DEADLINE))["key"] == "k2"
    run(go())
    c1.closed(0x87)
    assert read_to_end(stream)
    c2.message("a/k2", b"1")
    assert post(s, "a", t1)[0] == 401 and post(s, "a", t2)[0] == 200


def test_session_belongs_to_its_sub(own_server):
    """A persistent session outlives the connection and the server; another `sub`, or a key, that
    takes the client id gets none of it."""
    s = own_server(config=document()).start()

    def phone(text, present, **kw):
        c = s.client("phone", user="ed", password=text, clean=False,
                     properties={"session_expiry": 3600}, **kw)
        c.connect(present=present)
        return c
    a = phone(token(), False)
    a.subscribe("a/#", qos=1)
    a.disconnect()
    assert post(s, "a", key_text("ked"), "1", b"for ann")[0] == 200
    s.kill()
    s.start()
    assert post(s, "a", key_text("ked"), "2", b"for ann too")[0] == 200
    b = phone(token(), True)
    assert [p.payload for p in b.collect(2)] == [b"for ann", b"for ann too"]
    b.disconnect()
    e = phone(token(sub="eve"), False)
    e.disconnect()
    k = phone(key_text("ked"), False)
    k.disconnect()
    phone(key_text("ked"), True).disconnect()
    phone(token(), False)


def test_publish_over_websocket(s):
    """As over HTTP: the publisher is `sub`, rights hold, and the end is 1008."""
    t = token(exp=time.time() + 1)

    async def go():
        async with websockets.connect(url(s, "/v1/publish", "ws", channel="a", apiKey=t)) as ws:
            await ws.send('{"id":1,"key":"ws","val":2}')
            assert "pos" in json.loads(await asyncio.wait_for(ws.recv(), DEADLINE))
            return await closed(ws)
    assert run(go()) == (1008, "token expired")
    got = json.loads(get(s, "/snapshot", channels="a", apiKey=key_text("ked"))[1])
    assert [m["pid"] for m in got["Snapshot"]["a"] if m["key"] == "ws"] == ["ann"]


# ---- what the document may say ----

@pytest.mark.parametrize("jwt_section,line", [
    ({"algorithm": "HS256", "keys": [{"key": "too short"}]}, "32 bytes"),
    ({"algorithm": "HS256", "keys": [{"key": pem_of(ED)}]}, "secret, not a key in PEM"),
    ({"algorithm": "EdDSA", "keys": [{"key": pem_of(RSA)}]}, "Ed25519"),
    ({"algorithm": "RS256", "keys": [{"key": pem_of(ED)}]}, "RSA public key"),
    ({"algorithm": "EdDSA", "keys": [{"key": "words"}]}, "not a public key"),
    ({"algorithm": "EdDSA", "keys": [{"file": "nowhere.pem"}]}, "no such file"),
    ({"algorithm": "EdDSA", "keys": [{"kid": "x"}]}, "one of key, file"),
    ({"algorithm": "none", "keys": [{"key": SECRET}]}, "EdDSA, RS256, HS256"),
    ({"keys": [{"key": SECRET}]}, "algorithm"),
    ({"algorithm": "EdDSA"}, "keys"),
    ({"algorithm": "HS256", "keys": [{"key": SECRET}, {"key": SECRET}]}, "kid"),
    ({"algorithm": "HS256", "keys": [{"key": SECRET}], "publish": ["a/#/b"]}, "#"),
    ({"algorithm": "EdDSA", "keys": [{"key": ED.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption()).decode()}]}, "a private key"),
])
def test_check_tells_what_is_wrong(tmp_path, jwt_section, line):
    path = tmp_path / "doc.yaml"
    path.write_text(json.dumps({"apps": [app("x", [], jwt=jwt_section)]}, indent=1))
    r = cli("check", str(path))
    assert r.returncode != 0
    out = r.stdout + r.stderr
    assert re.search(r"doc\.yaml:\d+:\d+", out) and "jwt" in out and line in out, out
    assert SECRET not in out and "too short" not in out


def test_key_files(tmp_path, own_server):
    (tmp_path / "ed.pem").write_text(pem_of(ED))
    (tmp_path / "secret").write_text(SECRET + "\n")
    apps = [app(name, [key("k" + name, ALL, ALL)], jwt={
        "algorithm": alg, "keys": [{"file": str(tmp_path / f)}], "publish": "#"})
        for name, alg, f in (("ed", "EdDSA", "ed.pem"), ("hs", "HS256", "secret"))]
    s = own_server(config=doc(apps)).start()
    assert post(s, "a", token())[0] == 200 and post(s, "a", token("HS256"))[0] == 200
    (tmp_path / "ed.pem").write_text(pem_of(ED2))
    s.reload(s.config)
    wait(lambda: post(s, "a", token(sign=ED2))[0] == 200, "the new key")
    assert post(s, "a", token())[0] == 401


def test_anonymous_clients_do_not_hide_bad_tokens(own_server):
    """Where anybody is let in, a token that does not hold is refused all the same."""
    s = own_server(config=document(server={"anonymous": True})).start()
    assert get(s, "/snapshot", channels="a")[0] in (200, 404)
    assert get(s, "/snapshot", channels="a", apiKey=token(exp=1))[0] == 401
    assert get(s, "/snapshot", channels="a", apiKey=token())[0] == 200
