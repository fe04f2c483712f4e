"""What the docs tell people to type, typed; and the examples.

README.md, "First five minutes": each ```sh block is run in order by one bash after the other, in a
folder that looks like the repository's, with the variables that the blocks before set by reading
dev.env; a ```text block behind it is what it must have printed. Blocks that only start the server
(`build/lavva serve`) start or restart it. ```console blocks are for people (make, git).

The files that the docs generate from source must be what they would be now.
"""
import os
import re
import shlex
import signal
import subprocess
import sys

import pytest

import harness
from harness import DEADLINE, ROOT, cli, wait

pytestmark = pytest.mark.lavva_only
SECTION = "First five minutes"
PYTHON = sys.executable


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


def section(text, title):
    m = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert m, f"no section {title}"
    return m.group(1)


def blocks(text):
    """[(language, body)] of the fenced blocks."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)


def steps(text):
    """[(commands, output or None)] of the ```sh blocks."""
    found, out = blocks(text), []
    for i, (lang, body) in enumerate(found):
        if lang != "sh":
            continue
        after = found[i + 1] if i + 1 < len(found) else ("", "")
        out.append((body, after[1] if after[0] == "text" else None))
    return out


def is_serve(body):
    return body.strip() == "build/lavva serve"


@pytest.fixture
def repo(tmp_path):
    """A folder in which the README's relative paths lead where they should."""
    root = tmp_path / "lavva"
    (root / "build").mkdir(parents=True)
    (root / "build" / "lavva").symlink_to(harness.BIN)
    for name in ("scripts", "examples", "docs"):
        (root / name).symlink_to(os.path.join(ROOT, name))
    return root


@pytest.fixture
def dev(own_server, repo):
    """A development instance whose data folder is repo/lavva-data; not started."""
    s = own_server()
    s.data = str(repo / "lavva-data")
    s.may_exit = True              # the README kills it
    return s


def run(script, cwd, env=None, timeout=None):
    return subprocess.run(["bash", "-eu", "-o", "pipefail", "-c", script], cwd=cwd, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=timeout or 2 * DEADLINE,
                          env={**os.environ, "PYTHON": PYTHON, **(env or {})})


@pytest.mark.timeout(180)
def test_first_five_minutes(dev, repo):
    todo = steps(section(read("README.md"), SECTION))
    assert sum(is_serve(b) for b, _ in todo) == 2 and len(todo) >= 8
    assert is_serve(todo[0][0])
    facts = ""                     # what the reader's shell knows after `. lavva-data/dev.env`
    for body, expected in todo:
        if is_serve(body):
            if dev.proc:
                dev.proc.wait(DEADLINE)
            dev.start()
            continue
        out = run(facts + body, repo)
        assert out.returncode == 0, f"{body}\n{out.stdout}{out.stderr}"
        if expected is not None:
            assert out.stdout == expected, body
        if "dev.env" in body:
            facts = "".join(f"{k}={shlex.quote(v)}\n" for k, v in
                            harness.parse_env((repo / "lavva-data" / "dev.env").read_text())
                            .items())


def test_readme_is_the_default_instance(repo):
    """The README's console and its checks stand for what is there."""
    text = read("README.md")
    consoles = [b for lang, b in blocks(text) if lang == "console"]
    targets = {t for b in consoles for t in re.findall(r"^\$ make ?(\w*)", b, re.M)}
    makefile = read("Makefile")
    assert {"run", "test"} <= targets
    for t in targets - {""}:
        assert re.search(rf"^{t}:", makefile, re.M), f"make {t}"
    out = run(dict((s[0].split()[1], s[0]) for s in steps(section(text, "With a configuration")))
              ["check"], repo)
    assert out.returncode == 0 and out.stdout.startswith("OK "), out


def test_commands_in_the_docs_exist():
    """Each `lavva COMMAND` of the docs is one, and its long options are known to it."""
    helps, names = {}, set(re.findall(r"^  (\w+) +\S", cli("help").stdout, re.M))
    for doc in ("README.md", *(f"docs/{f}" for f in os.listdir(os.path.join(ROOT, "docs"))
                               if f.endswith(".md")), "examples/README.md"):
        text = read(doc)
        code = "\n".join([b for lang, b in blocks(text) if lang in ("sh", "console", "ini", "")]
                         + re.findall(r"`([^`\n]+)`", text))
        for name, rest in re.findall(r"\blavva ((?!is\b)[a-z]+)\b([^\n|&;]*)", code):
            if name not in names:
                assert name in ("and",), f"{doc}: lavva {name}"
                continue
            if name not in helps:
                helps[name] = cli(name, "--help").stdout
            for option in re.findall(r"(?<!\S)--[a-z-]+", rest):
                assert option in helps[name], f"{doc}: lavva {name} {option}"


def test_metrics_in_the_docs_exist(server):
    text = server.get("/metrics")[2]
    known = set(re.findall(r"^# TYPE (\S+)", text, re.M))
    for doc in ("docs/kpi.md", "docs/operations.md", "docs/mqtt.md", "README.md"):
        for name in re.findall(r"\b(?:lavva|process)_[a-z_]+[a-z]\b", read(doc)):
            assert name in known or any(k.startswith(name) for k in known), f"{doc}: {name}"
    reference = read("docs/kpi.md").partition("## Reference")[2]
    for name in known:
        assert f"`{name}`" in reference, f"docs/kpi.md lacks {name}"


def test_sys_topics_in_the_docs_exist(server):
    """The table of docs/mqtt.md is what a subscriber of $SYS gets, no more and no less."""
    table = set(re.findall(r"^\| `(\$SYS/broker/[^`]+)` \|", read("docs/mqtt.md"), re.M))
    c = server.connected()
    c.subscribe("$SYS/#")
    assert {c.message().topic for _ in table} == table


def test_generated_docs_are_fresh():
    out = subprocess.run([PYTHON, os.path.join(ROOT, "scripts", "kpi_doc.py"), "--check"],
                         capture_output=True, text=True)
    assert out.returncode == 0, out.stdout + out.stderr
    assert cli("check", "--schema-markdown").stdout == read("docs/config.md")


def test_reason_codes_in_the_docs(server, t):
    """A sample of docs/mqtt.md's reason codes, asked of a server."""
    doc = read("docs/mqtt.md")
    assert "| 0x8F topic filter invalid |" in doc and "| 0x86 bad user name" in doc
    server.client(password="lv_x_0000000000000000000000").connect(rc=0x86)
    c = server.connected()
    c.subscribe("a/#/b", codes=[0x8F])
    for topic in re.findall(r"^\| `([^`]+)` \| `[^`]+` \|", section(doc, "Topics and channels"),
                            re.M):
        c.subscribe(topic, qos=1)
        c.publish(topic, b"x", 1)
        c.message(topic, b"x")


# ---- the ledger's tool ----

LEDGER = os.path.join(ROOT, "scripts", "ledger.py")


def ledger(*args):
    return subprocess.run([PYTHON, LEDGER, *args], capture_output=True, text=True,
                          timeout=2 * DEADLINE)


def test_ledger_holds(server, t):
    sub, pub = server.connected(), server.connected()
    sub.subscribe(t, qos=1)
    for i in range(10):
        pub.publish(t, b"x", 1)
    sub.collect(10)
    out = ledger("--rest", "20", f"{server.http[0]}:{server.http[1]}")
    assert out.returncode == 0, out.stdout + out.stderr
    assert out.stdout.count("ok ") == 5 and "WRONG" not in out.stdout


def test_ledger_sees_what_is_wrong(server, tmp_path):
    text = server.get("/metrics")[2]
    path = tmp_path / "metrics.txt"
    for name, what in (("lavva_gateway_offered_messages_total", "offered = in + rejected"),
                       ("lavva_hub_pending_messages", "owed = delivered"),
                       ("lavva_broker_in_messages_total", "broker in")):
        path.write_text(re.sub(rf"^({name}\S*) \d+$", r"\1 987654321", text, flags=re.M))
        out = ledger(str(path))
        assert out.returncode == 1, name
        assert any(x.startswith("WRONG") and what in x for x in out.stdout.splitlines()), out.stdout
    path.write_text("# nothing\n")
    assert ledger(str(path)).returncode == 66
    assert ledger("127.0.0.1:9").returncode == 66


def test_ledger_with_awk(server):
    """The awk program of docs/kpi.md, as it stands."""
    script = next(b for lang, b in blocks(read("docs/kpi.md")) if lang == "sh" and "awk" in b)
    addr = f"{server.http[0]}:{server.http[1]}"
    assert "127.0.0.1:8080" in script

    def settled():
        out = run(script.replace("127.0.0.1:8080", addr), ROOT)
        assert out.stdout.split() and out.returncode in (0, 1), out.stderr
        return out.returncode == 0
    wait(settled, "the equation of docs/kpi.md")


# ---- examples ----

def compiled(name, folder):
    exe = folder / name
    out = subprocess.run([os.environ.get("CC", "cc"), "-Wall", "-Wextra", "-Werror", "-o", exe,
                          os.path.join(ROOT, "examples", name + ".c"), "-lmosquitto"],
                         capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    return [str(exe)]


def example(kind, verb, folder):
    path = os.path.join(ROOT, "examples", f"{verb}.{kind}")
    return {"py": [PYTHON, path], "sh": ["sh", path]}.get(kind) or compiled(verb, folder)


def env_of(server):
    return {**os.environ, "LAVVA_MQTT": f"{server.mqtt[0]}:{server.mqtt[1]}",
            "LAVVA_APP": server.user, "LAVVA_KEY": server.key}


@pytest.mark.parametrize("kind", ["py", "sh", "c"])
def test_examples(server, t, tmp_path, kind):
    """The publisher's messages reach the subscriber, those sent while it was away as well."""
    env, ident = env_of(server), server.uid("ex")
    publish, subscribe = (example(kind, v, tmp_path) for v in ("publish", "subscribe"))
    first = subprocess.Popen([*subscribe, t, "1", ident], env=env, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    c = server.connected()

    def ended():
        c.publish(t, b"first", 1)
        return first.poll() is not None
    wait(ended, "the subscriber to get one message", step=0.05)
    assert first.communicate()[0].splitlines() == [f"{t} first"] and first.returncode == 0
    out = subprocess.run([*publish, t, "5"], env=env, text=True, capture_output=True,
                         timeout=DEADLINE)
    assert out.returncode == 0 and out.stdout.startswith("5 "), out
    waiting = subprocess.run([*subscribe, t, "5", ident], env=env, text=True, capture_output=True,
                             timeout=DEADLINE)
    assert waiting.returncode == 0 and len(waiting.stdout.splitlines()) == 5, waiting
    assert all(x.startswith(t + " ") for x in waiting.stdout.splitlines())


@pytest.mark.parametrize("kind", ["py", "sh", "c"])
def test_examples_with_a_wrong_key(server, t, tmp_path, kind):
    env = {**env_of(server), "LAVVA_KEY": "lv_wrong_0000000000000000000000"}
    out = subprocess.run([*example(kind, "publish", tmp_path), t, "1"], env=env, text=True,
                         capture_output=True, timeout=DEADLINE)
    assert out.returncode != 0 and out.stderr


def test_example_configuration(own_server, tmp_path):
    path = os.path.join(ROOT, "examples", "lavva.yaml")
    out = cli("check", path)
    assert out.returncode == 0 and out.stdout.startswith("OK "), out.stderr
    s = own_server(args=[])
    s.argv = lambda: [harness.BIN, "serve", path, "--data", str(tmp_path / "d"),
                      "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    s.may_exit = True
    s.launch()
    # The document's own listeners have fixed ports: in use by somebody else is all that may fail.
    wait(lambda: not s.alive() or "listening" in s.log(), "a start")
    if s.alive():
        s.signal(signal.SIGTERM)
        assert s.wait_exit() == 0
    else:
        assert "1883" in s.log() or "8080" in s.log(), s.log()
