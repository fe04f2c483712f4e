"""`lavva check` and start-up name file, line, key, what was found and what is allowed."""
import re

import pytest

import lvconf
from harness import cli
from lvconf import doc
from test_15_tls import make_ca

pytestmark = pytest.mark.lavva_only


def check(tmp_path, text):
    path = tmp_path / "lavva.yaml"
    path.write_text(text)
    return cli("check", str(path)), str(path)


def test_good_document(tmp_path):
    out, _ = check(tmp_path, lvconf.text(doc(listen=[{"mqtt": "127.0.0.1:1883"}])))
    assert out.returncode == 0, out.stderr
    out, _ = check(tmp_path, "")
    assert out.returncode in (0, 64)


GOOD = """\
server:
  anonymous: true
  log: {level: info}
limits:
  packet: 1MiB
apps:
  - name: dev
    auto_channels: true
    channels:
      - name: c
        durability: memory
"""


def test_yaml_document(tmp_path):
    out, _ = check(tmp_path, GOOD)
    assert out.returncode == 0, out.stderr


@pytest.mark.parametrize("line,old,new,words", [
    (2, "anonymous: true", "anonymous: perhaps", ["anonymous", "perhaps"]),
    (2, "anonymous: true", "anonymus: true", ["anonymus", "anonymous"]),
    (3, "level: info", "level: loud", ["level", "loud", "debug"]),
    (5, "packet: 1MiB", "packet: 1", ["packet"]),
    (5, "packet: 1MiB", "packet: many", ["packet", "many"]),
    (5, "packet: 1MiB", "packet: -5", ["packet", "-5"]),
    (5, "packet: 1MiB", "packet: [1]", ["packet"]),
    (7, "name: dev", "name: 'not/usable'", ["name", "not/usable"]),
    (7, "name: dev", "nam: dev", ["nam"]),
    (8, "auto_channels: true", "auto_channels: 7up", ["auto_channels", "7up"]),
    (10, "name: c", "name: _c", ["name", "_c"]),
    (11, "durability: memory", "durability: forever", ["durability", "forever", "memory", "disk"]),
    (11, "durability: memory", "durability: memory\n        durability: disk", ["durability"]),
])
def test_findings(tmp_path, line, old, new, words):
    assert old in GOOD
    out, path = check(tmp_path, GOOD.replace(old, new))
    assert out.returncode == 64
    lines = [line, line + 1] if "\n" in new else [line]
    hits = [x for x in out.stderr.splitlines()
            if any(x.startswith(f"{path}:{n}:") for n in lines)]
    assert hits, out.stderr
    for w in words:
        assert w in " ".join(hits), out.stderr


@pytest.mark.parametrize("text", [
    "apps: [", "a: b: c", "\tapps: 1", "apps:\n- name: x\n name: y", "{", "apps: *nowhere",
    "\x00", "apps: \"", "- 1", "just text", "apps: {}", "apps: 3", "server: []"])
def test_broken_yaml(tmp_path, text):
    out, path = check(tmp_path, text)
    assert out.returncode == 64, out.stderr
    assert re.search(re.escape(path) + r"(:\d+)?", out.stderr)
    assert len(out.stderr) < 5000


def test_several_findings_at_once(tmp_path):
    out, _ = check(tmp_path, GOOD.replace("level: info", "level: loud").replace("1MiB", "x")
                   .replace("memory", "never"))
    assert len([x for x in out.stderr.splitlines() if ".yaml:" in x]) >= 3


def test_duplicates(tmp_path):
    d = doc(apps=[lvconf.app("a"), lvconf.app("a")])
    out, _ = check(tmp_path, lvconf.text(d))
    assert out.returncode == 64
    d = doc(apps=[lvconf.app("b", [lvconf.key("x")]),
                  lvconf.app("a", [lvconf.key("k"), lvconf.key("k")])])
    out, _ = check(tmp_path, lvconf.text(d))
    assert out.returncode == 64 and "apps[1].keys[1]: found k; " in out.stderr, out.stderr


def test_bad_key_hashes_and_filters(tmp_path):
    k = lvconf.key("k", ["a/#/b"])
    out, _ = check(tmp_path, lvconf.text(doc([lvconf.app(keys=[k])])))
    assert out.returncode == 64 and "a/#/b" in out.stderr
    for h in ("", "sha256:", "sha256:zz", "md5:0", 5):
        k = {**lvconf.key("k"), "hash": h}
        out, _ = check(tmp_path, lvconf.text(doc([lvconf.app(keys=[k])])))
        assert out.returncode == 64, h


def test_no_key_text_in_findings(tmp_path):
    """Somebody writes the key itself where its hash belongs: it is not repeated."""
    secret = lvconf.key_text("oops")
    k = {**lvconf.key("oops"), "hash": secret}
    out, _ = check(tmp_path, lvconf.text(doc([lvconf.app(keys=[k])])))
    assert out.returncode == 64
    assert secret.split("_")[2] not in out.stderr + out.stdout


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    ca, issue = make_ca(str(tmp_path_factory.mktemp("pki")), "ca")
    return {"ca": ca, "a": issue("a"), "b": issue("b")}


def tls_doc(cert, key, ca=None, listen="mqtts: '127.0.0.1:0'"):
    text = f"listen:\n  - {{{listen}}}\nserver:\n  tls:\n"
    text += f"    certificate: {cert}\n    key: {key}\n"
    return text + (f"    client_ca: {ca}\n" if ca else "")


def test_tls_files(tmp_path, pki):
    """What start and reload refuse, check finds: which file, where it is named, what is wrong."""
    (cert, key), other, ca = pki["a"], pki["b"][1], pki["ca"]
    (tmp_path / "no.pem").write_text("nothing\n")
    none, bad = str(tmp_path / "none.pem"), str(tmp_path / "no.pem")
    for args, want in [
            ((cert, key), []), ((cert, key, ca), []),
            ((none, key), [(5, "server.tls.certificate", none, "No such file")]),
            ((bad, key), [(5, "server.tls.certificate", bad, "no start line")]),
            ((cert, none), [(6, "server.tls.key", none, "No such file")]),
            ((cert, bad), [(6, "server.tls.key", bad, "")]),
            ((cert, other), [(6, "server.tls.key", other, "mismatch")]),
            ((cert, key, none), [(7, "server.tls.client_ca", none, "No such file")]),
            ((cert, key, bad), [(7, "server.tls.client_ca", bad, "")]),
            ((none, bad, none), [(5, "server.tls.certificate", none, "No such file"),
                                 (6, "server.tls.key", bad, ""),
                                 (7, "server.tls.client_ca", none, "No such file")]),
            ((none, none, none, "mqtt: '127.0.0.1:0'"), [])]:
        out, path = check(tmp_path, tls_doc(*args))
        assert out.returncode == (64 if want else 0), out.stderr
        lines = out.stderr.splitlines()
        assert len(lines) == (len(want) + 1 if want else 0), out.stderr
        for line, (at, name, found, why) in zip(lines, want):
            assert line.startswith(f"{path}:{at}:"), line
            assert f"{name}: found {found[:95]}" in line and why in line and "needed:" in line, line


def test_missing_file():
    out = cli("check", "/no/such/file.yaml")
    assert out.returncode != 0 and "/no/such/file.yaml" in out.stderr


def test_start_reports_the_same(own_server):
    s = own_server(config=doc())
    s.may_exit = True
    s.config["apps"][0]["name"] = "not/usable"
    s.launch()
    assert s.wait_exit() == 64
    assert "lavva.yaml:" in s.log() and "not/usable" in s.log()


def test_deep_and_large_documents(tmp_path):
    out, _ = check(tmp_path, "[" * 100000)
    assert out.returncode == 64
    out, _ = check(tmp_path, "apps:\n" + "- {name: a}\n" * 100)
    assert out.returncode == 64
    out, _ = check(tmp_path, "a: &a [x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 8)}]\n"
        for i in range(12)))
    assert out.returncode == 64


def test_docs_are_current():
    """docs/config.md is what the schema prints."""
    import os
    from harness import ROOT
    path = os.path.join(ROOT, "docs", "config.md")
    out = cli("check", "--schema-markdown")
    assert out.returncode == 0
    with open(path) as f:
        assert f.read() == out.stdout, "docs/config.md is stale"
