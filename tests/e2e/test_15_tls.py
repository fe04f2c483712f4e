"""TLS: the certificate that dev.env names, client certificates, half-made handshakes."""
import os
import socket
import ssl
import subprocess

import pytest

import raw
from harness import hostport, wait
from lvconf import ALL, app, doc, key

pytestmark = pytest.mark.lavva_only


def make_ca(folder, name):
    """A CA and a function that issues certificates by it: PEM paths (cert, key)."""
    os.makedirs(folder, exist_ok=True)
    ca, ca_key = os.path.join(folder, f"{name}.pem"), os.path.join(folder, f"{name}.key")

    def openssl(*args):
        subprocess.run(["openssl", *args], check=True, capture_output=True)
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-days", "2", "-subj", f"/CN={name}", "-keyout", ca_key, "-out", ca,
            "-addext", "basicConstraints=critical,CA:TRUE")

    def issue(cn, san=None):
        base = os.path.join(folder, cn)
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-subj", f"/CN={cn}", "-keyout", base + ".key", "-out", base + ".csr")
        ext = base + ".ext"
        with open(ext, "w") as f:
            f.write(f"subjectAltName={san}\n" if san else "basicConstraints=CA:FALSE\n")
        openssl("x509", "-req", "-in", base + ".csr", "-CA", ca, "-CAkey", ca_key, "-days", "2",
                "-CAcreateserial", "-extfile", ext, "-out", base + ".pem")
        return base + ".pem", base + ".key"
    return ca, issue


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    d = str(tmp_path_factory.mktemp("pki"))
    ca, issue = make_ca(d, "ca")
    other, issue_other = make_ca(d + "/o", "otherca")
    return {"ca": ca, "server": issue("server", "DNS:localhost,IP:127.0.0.1"),
            "alice": issue("alice"), "san": issue("nameless", "DNS:bob"),
            "unknown": issue("mallory"), "other": issue_other("alice"),
            "server2": issue("server2", "DNS:localhost,IP:127.0.0.1"), "otherca": other}


@pytest.fixture
def mutual(own_server, pki):
    """mqtts without and with required client certificates; keys alice, bob."""
    keys = [key("full", ALL, ALL), key("alice", ["a/#"], ["a/#"]), key("bob", ["b/#"], ["b/#"])]
    conf = doc([app(keys=keys)],
               listen=[{"mqtts": "127.0.0.1:0"}, {"mqtts": "127.0.0.1:0", "client_cert": True}],
               server={"tls": {"certificate": pki["server"][0], "key": pki["server"][1],
                               "client_ca": pki["ca"]}})
    s = own_server(config=conf).start()
    s.ca = pki["ca"]
    s.strict = hostport(s.config["listen"][1]["mqtts"])
    return s


@pytest.mark.tsan
def test_tls_with_the_ca_of_dev_env(server, v, t):
    c = server.client(v=v, tls=server.tls(), addr=server.mqtts)
    c.connect()
    c.subscribe(t, qos=2)
    for size in (10, 20000, 300000):
        c.send(raw.publish(t, b"z" * size, 1, pid=1, v=v))
        kinds = []
        while len(kinds) < 2:
            p = c.recv()
            kinds.append(p.kind)
            if p.kind == raw.PUBLISH:
                assert len(p.payload) == size
                c.ack(p)
    c.disconnect()


def test_names_in_the_certificate(server):
    """SAN: localhost, 127.0.0.1, ::1."""
    for name in ("localhost", "127.0.0.1", "::1"):
        with socket.create_connection(server.mqtts) as sock:
            with server.tls().wrap_socket(sock, server_hostname=name):
                pass
    with socket.create_connection(server.mqtts) as sock, pytest.raises(ssl.SSLError):
        server.tls().wrap_socket(sock, server_hostname="example.org")


def test_https_too(server):
    import urllib.request
    url = f"https://{server.https[0]}:{server.https[1]}/healthz"
    with urllib.request.urlopen(url, context=server.tls(), timeout=10) as r:
        assert r.status == 200


def test_old_versions_are_refused(server):
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
    ctx.set_ciphers("ALL:@SECLEVEL=0")
    ctx.minimum_version = ctx.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(server.mqtts) as sock, pytest.raises((ssl.SSLError, OSError)):
        ctx.wrap_socket(sock)


def test_plain_bytes_on_the_tls_port(server, v):
    c = server.client(v=v, addr=server.mqtts).open()
    c.send(c.connect_bytes())
    with pytest.raises((raw.Closed, raw.ProtocolError)):
        c.recv()
    server.connected().ping()


def test_packets_in_small_records(server, t):
    c = server.client(tls=server.tls(), addr=server.mqtts).open()
    for b in c.connect_bytes():
        c.send(bytes([b]))
    c.expect(raw.CONNACK, rc=0)
    c.ping()


def test_many_packets_in_one_record(server, t):
    c = server.client(tls=server.tls(), addr=server.mqtts)
    c.connect()
    c.send(raw.PING * 4000)
    for _ in range(4000):
        c.expect(raw.PINGRESP)


def test_client_that_vanishes_in_the_handshake(server):
    for n in (0, 1, 5, 50):
        s = socket.create_connection(server.mqtts)
        s.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(60)[:n])
        s.close()
    server.client(tls=server.tls(), addr=server.mqtts).connect()


def test_client_certificate_is_a_key(mutual, pki):
    """CN or SAN names the key id; its rights hold; no password is needed."""
    for who, topic, foreign in (("alice", "a/t", "b/t"), ("san", "b/t", "a/t")):
        c = mutual.client(tls=mutual.tls(*pki[who]), addr=mutual.strict, user=None, password=None)
        c.connect()
        c.publish(topic, b"x", 1)
        c.publish(foreign, b"x", 1, rc=0x87)


def test_client_certificate_with_its_app_as_user(mutual, pki):
    """A user name may stand beside the certificate if it is the key's app; a password must fit."""
    def with_user(user, password=None):
        return mutual.client(tls=mutual.tls(*pki["alice"]), addr=mutual.strict, user=user,
                             password=password)
    with_user("dev").connect()
    with_user("dev", "wrong").connect(rc=0x86)
    conf = mutual.config
    conf["apps"].append(app("other", [key("theirs", ALL, ALL)]))
    mutual.reload(conf)
    wait(lambda: "reloaded" in mutual.log(), "the reload")
    with_user("other").connect(rc=0x86)


def test_required_certificate(mutual, pki):
    """None, one of another CA: the handshake fails; an unknown name: refused."""
    for ctx in (mutual.tls(), mutual.tls(*pki["other"])):
        c = mutual.client(tls=ctx, addr=mutual.strict)
        with pytest.raises((OSError, raw.Closed)):
            c.connect()
    c = mutual.client(tls=mutual.tls(*pki["unknown"]), addr=mutual.strict, user=None,
                      password=None).open()
    c.send(c.connect_bytes())
    assert c.expect(raw.CONNACK).rc in (0x86, 0x87)


def test_certificate_not_required(mutual):
    """On the other listener a key is enough."""
    c = mutual.client(tls=mutual.tls(), addr=mutual.mqtts)
    c.connect()
    c.ping()


def test_reload_takes_a_new_certificate(mutual, pki):
    def serial():
        with socket.create_connection(mutual.mqtts) as sock:
            with mutual.tls().wrap_socket(sock, server_hostname="localhost") as tls:
                return tls.getpeercert()["serialNumber"]
    first = serial()
    old = mutual.client(tls=mutual.tls(), addr=mutual.mqtts)
    old.connect()
    conf = mutual.config
    conf["server"]["tls"].update(certificate=pki["server2"][0], key=pki["server2"][1])
    mutual.reload(conf)
    wait(lambda: serial() != first, "the new certificate")
    old.ping()


def test_qos_over_tls_in_order(server, t):
    sub = server.client(tls=server.tls(), addr=server.mqtts)
    sub.connect()
    sub.subscribe(t, qos=1)
    pub = server.client(tls=server.tls(), addr=server.mqtts)
    pub.connect()
    for base in range(0, 500, 50):
        pub.send(b"".join(raw.publish(t, str(i), 1, pid=i + 1) for i in range(base, base + 50)))
        for i in range(base, base + 50):
            pub.expect(raw.PUBACK, pid=i + 1)
    assert [int(p.payload) for p in sub.collect(500)] == list(range(500))
