"""The development instance: what `lavva serve` without a config makes, and dev.env."""
import os
import re
import stat
import subprocess

import pytest

import harness
from harness import accepts, hostport, parse_env, wait
from lvconf import doc

pytestmark = pytest.mark.lavva_only
NAMES = {"LAVVA_APP", "LAVVA_CHANNEL", "LAVVA_KEY", "LAVVA_HTTP", "LAVVA_HTTPS", "LAVVA_MQTT",
         "LAVVA_MQTTS", "LAVVA_PID", "LAVVA_CA"}


def test_dev_env(own_server):
    s = own_server().start()
    assert stat.S_IMODE(os.stat(s.env_path).st_mode) == 0o600
    assert NAMES <= set(s.env)
    assert s.env["LAVVA_PID"] == str(s.proc.pid)
    assert re.fullmatch(r"lv_[A-Za-z0-9]+_[A-Za-z0-9]{20,}", s.env["LAVVA_KEY"])
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", s.env["LAVVA_CHANNEL"])
    for name in ("LAVVA_HTTP", "LAVVA_HTTPS", "LAVVA_MQTT", "LAVVA_MQTTS"):
        host, port = hostport(s.env[name])
        assert host == "127.0.0.1" and 0 < port < 65536
        assert accepts((host, port))
    assert os.path.isfile(s.ca)
    c = s.connected()
    c.subscribe(s.env["LAVVA_CHANNEL"] + "/#")
    c.publish(s.env["LAVVA_CHANNEL"] + "/k", b"x", 1)
    c.message()
    assert not [f for f in os.listdir(s.data) if f.startswith("dev.env.") or f.endswith("~")]


def test_dev_env_is_a_shell_script(own_server, tmp_path):
    """A folder with blanks and quotes in its name is quoted so that a shell reads it back."""
    s = own_server(folder="odd 'na\"me $x`").start()
    out = subprocess.run(["sh", "-c", 'set -e; . "$1"; printf "%s\\n" "$LAVVA_CA" "$LAVVA_KEY"',
                          "sh", s.env_path], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert out.stdout.splitlines() == [s.ca, s.key]
    assert os.path.exists(s.ca)


def test_default_data_folder(own_server):
    """Without --data: ./lavva-data."""
    s = own_server()
    s.data = os.path.join(s.dir, "lavva-data")
    s.argv = lambda: [harness.BIN, "serve", "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0",
                      "--mqtts", "127.0.0.1:0", "--https", "127.0.0.1:0"]
    s.start()
    s.connected().ping()


def test_commands_are_printed(own_server):
    """Ready-to-paste commands on the terminal; the key may stand there, once, by design."""
    s = own_server().start()
    text = s.log()
    port = str(s.mqtt[1])
    assert port in text
    assert "mosquitto_pub" in text or "lavva pub" in text


def test_pasted_commands_work(own_server):
    """Each printed command that publishes or asks over HTTP is run as it stands."""
    s = own_server().start()
    sub = s.connected()
    sub.subscribe("#", qos=1)
    lines = [line.strip().lstrip("$ ").strip() for line in s.log().splitlines()]
    runs = [x for x in lines if re.match(r"(mosquitto_pub|lavva pub|curl|build/lavva pub)\b", x)
            and "/v1/" not in x]
    assert runs, s.log()
    for line in runs:
        line = re.sub(r"^(build/)?lavva\b", harness.BIN, line)
        out = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=s.dir,
                             stdin=subprocess.DEVNULL, timeout=harness.DEADLINE)
        assert out.returncode == 0, f"{line}\n{out.stdout}{out.stderr}"
        if "pub" in line.split()[0] + line.split()[1]:
            sub.message()


def test_facts_are_stable_over_a_restart(own_server):
    s = own_server().start()
    before = dict(s.env)
    s.restart()
    for name in ("LAVVA_APP", "LAVVA_CHANNEL", "LAVVA_KEY", "LAVVA_CA"):
        assert s.env[name] == before[name]
    assert s.env["LAVVA_PID"] != before["LAVVA_PID"]


def test_lost_file_means_a_new_key(own_server):
    s = own_server().start()
    old = s.key
    s.stop()
    if os.path.exists(s.env_path):
        os.unlink(s.env_path)
    s.start()
    assert s.key != old
    s.client(password=old).connect(rc=0x86)
    s.connected().ping()


def test_env_is_removed_first_and_written_last(own_server):
    """Whoever sees the file may connect to everything it names."""
    s = own_server().start()
    s.kill()
    assert os.path.exists(s.env_path)
    s.launch()
    seen = wait(lambda: os.path.exists(s.env_path)
                and parse_env(open(s.env_path).read()).get("LAVVA_PID") == str(s.proc.pid)
                and parse_env(open(s.env_path).read()), "dev.env")
    for name in ("LAVVA_HTTP", "LAVVA_HTTPS", "LAVVA_MQTT", "LAVVA_MQTTS"):
        assert accepts(hostport(seen[name])), name


def test_stale_env_never_survives_a_failed_start(own_server):
    """A start that fails leaves no file that names listeners."""
    s = own_server().start()
    s.stop()
    bad = own_server(args=["--mqtt", f"127.0.0.1:{s.mqtt[1]}"])
    bad.data, bad.may_exit = s.data, True
    hold = __import__("socket").socket()
    hold.setsockopt(1, 2, 1)
    hold.bind(("127.0.0.1", s.mqtt[1]))
    hold.listen()
    bad.launch()
    assert bad.wait_exit() != 0
    assert not os.path.exists(s.env_path)
    assert str(s.mqtt[1]) in bad.log()
    hold.close()


def test_two_processes_one_folder(own_server):
    """The second is refused and harms neither the data nor the first's dev.env."""
    s = own_server().start()
    second = own_server()
    second.data, second.may_exit = s.data, True
    second.launch()
    assert second.wait_exit() not in (0, -6, -11)
    assert os.path.exists(s.env_path)
    s.connected().ping()


def test_certificate_belongs_to_us(own_server):
    s = own_server().start()
    assert s.ca.startswith(os.path.realpath(s.dir)) or s.ca.startswith(s.dir)
    for root, _, files in os.walk(s.data):
        for f in files:
            if f.endswith(".key") or f in ("key.pem", "tls.key", "server.key"):
                mode = stat.S_IMODE(os.stat(os.path.join(root, f)).st_mode)
                assert mode & 0o077 == 0, f"{f} has mode {mode:o}"


def test_ipv6(own_server):
    s = own_server(args=["--mqtt", "[::1]:0"]).start()
    assert s.env["LAVVA_MQTT"].startswith("[::1]:")
    s.connected().ping()


@pytest.mark.parametrize("wild,reach", [("0.0.0.0", "127.0.0.1"), ("[::]", "[::1]"),
                                        ("*", r"127\.0\.0\.1|\[::1\]")])
def test_wildcards_can_be_reached(own_server, wild, reach):
    """dev.env and the printed commands name addresses that one can connect to."""
    s = own_server(args=["--mqtt", f"{wild}:0", "--mqtts", f"{wild}:0", "--http", f"{wild}:0"])
    s.start()
    for name in ("LAVVA_MQTT", "LAVVA_MQTTS", "LAVVA_HTTP"):
        assert re.fullmatch(rf"({reach if wild == '*' else re.escape(reach)}):[0-9]+",
                            s.env[name]), s.env
    s.connected().ping()
    printed = s.log()
    printed = printed[printed.index("development instance"):]
    block = printed[:printed.index("dev.env")]
    assert "0.0.0.0" not in block and "[::]" not in block and "-h :: " not in block
    assert s.env["LAVVA_MQTT"] in block and s.env["LAVVA_HTTP"] in block


def test_every_listener_is_logged(own_server):
    """Two of one protocol, both on a free port: the log is where their ports can be seen."""
    s = own_server(config=doc(listen=[{"mqtt": "127.0.0.1:0"}, {"mqtt": "127.0.0.1:0"}]))
    s.start()
    wait(lambda: s.log().count("listening proto=mqtt ") == 2, "two lines")


@pytest.mark.parametrize("args", [["--mqtt", "nonsense"], ["--mqtt", "127.0.0.1:99999"],
                                  ["--no-such-option"], ["/does/not/exist.yaml"],
                                  ["--http", "256.1.1.1:0"]])
def test_bad_arguments(own_server, args):
    s = own_server()
    s.argv = lambda: [harness.BIN, "serve", "--data", s.data, *args]
    s.may_exit = True
    s.launch()
    assert s.wait_exit() not in (0, -6, -11)
    assert len(s.log().splitlines()) >= 2, "no word about what is wrong"


def test_anonymous_off_loopback_warns(own_server):
    s = own_server(args=["--anonymous", "--mqtt", "0.0.0.0:0"]).start()
    assert re.search(r"(?i)warn", s.log()) and re.search(r"(?i)anonym", s.log())
    assert s.env["LAVVA_MQTT"].startswith("127.0.0.1:"), "an address that one can connect to"


def test_data_folder_modes(own_server):
    """Others cannot read the data."""
    s = own_server().start()
    assert stat.S_IMODE(os.stat(s.data).st_mode) & 0o007 == 0
