"""The administration commands: lavva app, channel and key, against the development instance, a
server with a configuration, and a store without a server."""
import json
import os
import re
import subprocess

import pytest

from harness import BIN, DEADLINE, ROOT, cli, wait
from test_40_control import Api, document, publish

pytestmark = pytest.mark.lavva_only


@pytest.fixture(scope="module")
def dev(tmp_path_factory):
    import harness
    s = harness.Lavva(str(tmp_path_factory.mktemp("control-cli"))).start()
    yield s
    assert s.stop() == 0
    s.check()


def run(s, *args, rc=0, **kw):
    out = s.cli(*args, "--data", s.data, **kw)
    assert out.returncode == rc, (args, out.returncode, out.stdout, out.stderr)
    return out.stdout if rc == 0 else out.stderr


def rows(text):
    head, *lines = text.splitlines()
    return [re.split(r"\s{2,}", one.strip()) for one in lines]


def test_life(dev):
    assert run(dev, "app", "create", "plant", "auto_channels=true", "limits.connections=500",
               "channel_defaults.retention.age=2d", "origins=https://a.example,https://b.example") == "plant\n"
    assert ["plant", "store", "0", "0", "yes"] in rows(run(dev, "app", "list"))
    shown = run(dev, "app", "show", "plant")
    assert re.search(r"^limits\.connections +500$", shown, re.M)
    assert re.search(r"^origins +https://a.example https://b.example$", shown, re.M)
    got = json.loads(run(dev, "app", "show", "plant", "--json"))
    assert got["channel_defaults"]["retention"]["age"] == "2d"
    run(dev, "app", "set", "plant", "limits.connections=", "auto_channels=false", "origins=")
    got = json.loads(run(dev, "app", "show", "plant", "-j"))
    assert got["limits"]["connections"] == 100000 and not got["auto_channels"] and not got["origins"]

    assert run(dev, "channel", "create", "alarms", "--app", "plant", "content=json",
               'retention={"count": 5}') == "alarms\n"
    assert rows(run(dev, "channel", "list", "--app", "plant")) == [
        ["alarms", "store", "disk", "json", "2d", "1GiB", "5"]]
    run(dev, "channel", "set", "alarms", "--app", "plant", "content=auto")

    key = run(dev, "key", "create", "sensors", "--app", "plant", "--publish", "alarms/#",
              "--publish", "x/+").strip()
    assert key.startswith("lv_sensors_")
    publish(dev, key, "alarms", b"1")
    assert rows(run(dev, "key", "list", "--app", "plant")) == [
        ["sensors", "store", "alarms/# x/+", "-", "no"]]
    made = json.loads(run(dev, "key", "create", "--app", "plant", "--subscribe", "#", "--json"))
    assert made["key"].startswith(f"lv_{made['id']}_")
    c = dev.client()
    c.connect(user="plant", password=key)
    assert run(dev, "key", "delete", "sensors", "--app", "plant") == ""
    c.closed(rc=0x87)
    assert run(dev, "app", "delete", "plant") == ""
    assert "no such app" in run(dev, "app", "show", "plant", rc=1)


def test_of_the_development_instance(dev):
    """Without --app it is the instance's own."""
    assert ["demo", "file", "disk", "auto", "1w", "1GiB", "unlimited"] in rows(run(dev, "channel", "list"))
    assert run(dev, "key", "list").count("dev") == 1
    assert rows(run(dev, "key", "list", "--admin")) == [["admin", "file"]]
    # as the environment says it, and in the folder where it was started
    out = cli("app", "list", env=dev.cli_env(), cwd="/")
    assert out.returncode == 0 and "dev" in out.stdout
    out = cli("app", "list", "--server", f"https://localhost:{dev.https[1]}/", "--ca", dev.ca,
              env=dev.cli_env())
    assert out.returncode == 0, out.stderr
    out = cli("app", "list", "--server", f"https://localhost:{dev.https[1]}",
              env={k: v for k, v in dev.cli_env().items() if k != "LAVVA_CA"})
    assert out.returncode == 1 and "certificate" in out.stderr


def test_many_are_listed_page_by_page(dev):
    api = Api(dev)
    api.post("/apps", {"name": "many"})
    for i in range(1005):
        status, _, out = api.raw("POST", "/api/v1/apps/many/channels", {"name": f"c{i:04}"})
        assert status == 201, out
    got = json.loads(run(dev, "channel", "list", "--app", "many", "--json"))
    assert [c["name"] for c in got] == [f"c{i:04}" for i in range(1005)]
    api.delete("/apps/many")


@pytest.mark.parametrize("args,rc,words", [
    (("app", "create"), 64, "which one"),
    (("app", "create", "x", "limits"), 64, "FIELD=VALUE"),
    (("app", "lst"), 64, "did you mean list?"),
    (("app", "show", "a", "b"), 64, "one at a time"),
    (("app", "set", "dev"), 64, "which FIELD=VALUE?"),
    (("app", "set", "dev", "auto_channels=false"), 1, "stands in the configuration file"),
    (("app", "create", "dev"), 1, "exists already (in the configuration file)"),
    (("app", "create", "x", "limts.connections=1"), 1, "did you mean limits?"),
    (("channel", "create", "a/b"), 1, "A-Z"),
    (("channel", "show", "nope"), 1, "no such channel"),
    (("channel", "list", "--app", "nope"), 1, "no such app"),
    (("key", "create"), 1, "publish, subscribe, sys"),
    (("key", "set", "x", "a=b"), 64, "a key is not changed"),
    (("key", "delete", "dev"), 1, "stands in the configuration file"),
    (("app", "list", "--key", "lv_admin_0000000000000000000000"), 3, "administrator's key is needed"),
])
def test_what_goes_wrong_is_told(dev, args, rc, words):
    assert words in run(dev, *args, rc=rc)


def test_no_server(tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith("LAVVA_")}
    out = cli("app", "list", env=env, cwd=tmp_path)
    assert out.returncode == 1 and "no administrator's key" in out.stderr
    out = cli("app", "list", "--server", "127.0.0.1:1", "--key", "lv_a_b", env=env, cwd=tmp_path)
    assert out.returncode == 1 and "connect" in out.stderr
    out = cli("channel", "list", "--server", "127.0.0.1:1", "--key", "lv_a_b", env=env, cwd=tmp_path)
    assert out.returncode == 64 and "--app" in out.stderr
    out = cli("app", "list", "--server", "ftp://x", "--key", "lv_a_b", env=env, cwd=tmp_path)
    assert out.returncode == 64


def test_help_teaches():
    for name in ("app", "channel", "key"):
        out = cli("help", name)
        assert out.returncode == 0 and f"lavva {name} create" in out.stdout
        assert name in cli("help").stdout


def test_first_admin_key(own_server):
    """A server with a document and no administrator's key says how to make one; made beside it
    while it runs, it counts within a second; made before it runs, at its start."""
    d = document()
    del d["keys"]
    s = own_server(config=d)
    os.makedirs(s.data, exist_ok=True)
    out = s.cli("key", "create", "--admin", "--data", s.data, "early")
    early = out.stdout.strip()
    assert out.returncode == 0 and early.startswith("lv_early_"), out.stderr
    s.start()
    assert "no administrator's key" not in s.log()
    Api(s, early).get("/apps")
    Api(s, early).delete("/keys/early")
    s.restart()
    assert "no administrator's key: `lavva key create --admin --data" in s.log()
    out = s.cli("key", "create", "--admin", "--data", s.data, "--json")
    late = json.loads(out.stdout)
    assert s.cli("key", "create", late["id"], "--admin", "--data", s.data).returncode == 1
    wait(lambda: Api(s, late["key"]).raw("GET", "/api/v1/apps")[0] == 200, "the key to be known")
    assert Api(s, late["key"]).get(f"/keys/{late['id']}")["origin"] == "store"
    made = cli("key", "new", "--admin").stdout
    assert "under keys:" in made and "publish" not in made
    assert s.cli("key", "create", "--admin", "--data", "/nonexistent").returncode == 1


def test_key_of_the_instance_is_not_made_twice(dev):
    out = cli("key", "create", "admin", "--admin", "--data", dev.data)
    assert out.returncode == 1 and "exists already" in out.stderr


def test_commands_of_the_docs(own_server):
    """docs/control.md, typed, each block on an instance of its own."""
    with open(os.path.join(ROOT, "docs", "control.md"), encoding="utf-8") as f:
        blocks = re.findall(r"^```sh\n(.*?)^```$", f.read(), re.M | re.S)
    assert len(blocks) == 2
    s = own_server().start()
    path = os.path.dirname(BIN) + ":" + os.environ["PATH"]
    for body in blocks:
        out = subprocess.run(["bash", "-eu", "-c", body], cwd=s.dir, capture_output=True, text=True,
                             env={**s.cli_env(), "PATH": path}, timeout=DEADLINE)
        assert out.returncode == 0 and "error" not in out.stdout + out.stderr, out
    assert "pos" in subprocess.run(["bash", "-eu", "-c", blocks[0]], cwd=s.dir, capture_output=True,
                                   text=True, env={**s.cli_env(), "PATH": path}).stdout
