"""As a service: what the service manager is told, the unit, manual pages, completions."""
import os
import re
import shutil
import signal
import socket
import subprocess

import pytest

from harness import DEADLINE, ROOT, cli

pytestmark = pytest.mark.lavva_only
UNIT = os.path.join(ROOT, "packaging", "systemd", "lavva.service.in")


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, address):
        self.s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.s.bind(address)
        self.s.settimeout(DEADLINE)

    def next(self):
        return dict(x.split("=", 1) for x in self.s.recv(4096).decode().splitlines())

    def until(self, name):
        while True:
            m = self.next()
            if name in m:
                return m


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_notify(own_server, tmp_path, kind):
    name = str(tmp_path / "notify") if kind == "path" else f"lavva-e2e-{os.getpid()}"
    m = Manager(name if kind == "path" else "\0" + name)
    s = own_server(env={"NOTIFY_SOCKET": name if kind == "path" else "@" + name,
                        "WATCHDOG_USEC": "30000000"}).start()
    first = m.next()
    assert first["READY"] == "1" and first["STATUS"]
    for _ in range(2):
        assert m.next() == {"WATCHDOG": "1"}
    s.signal(signal.SIGHUP)
    told = m.until("RELOADING")
    assert int(told["MONOTONIC_USEC"]) > 0
    assert m.until("READY")["READY"] == "1"
    s.signal(signal.SIGTERM)
    assert m.until("STOPPING")["STOPPING"] == "1"
    assert s.wait_exit() == 0


def test_watchdog_is_for_its_own_process(own_server, tmp_path):
    m = Manager(str(tmp_path / "n"))
    s = own_server(env={"NOTIFY_SOCKET": str(tmp_path / "n"), "WATCHDOG_USEC": "1000000",
                        "WATCHDOG_PID": "1"}).start()
    assert "READY" in m.next()
    s.signal(signal.SIGTERM)
    assert "STOPPING" in m.next() and s.wait_exit() == 0


def test_a_stuck_loop_is_not_alive(own_server, tmp_path):
    """The watchdog hears of a loop that does not answer by hearing nothing. A loop is stuck here by
    stopping its thread's process with SIGSTOP: then nothing at all is said, and again afterwards."""
    m = Manager(str(tmp_path / "n"))
    s = own_server(env={"NOTIFY_SOCKET": str(tmp_path / "n"), "WATCHDOG_USEC": "1000000"}).start()
    m.until("WATCHDOG")
    s.signal(signal.SIGSTOP)
    m.s.settimeout(1.5)
    with pytest.raises(TimeoutError):
        while True:
            m.next()
    s.signal(signal.SIGCONT)
    m.s.settimeout(DEADLINE)
    m.until("WATCHDOG")


def test_without_a_manager(own_server, tmp_path):
    s = own_server(env={"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "x"}).start()
    assert "no service manager" in s.log()
    s.signal(signal.SIGTERM)
    assert s.wait_exit() == 0


@pytest.fixture(scope="module")
def unit(tmp_path_factory):
    """The unit as it is installed, but for a program that exists here."""
    folder = tmp_path_factory.mktemp("unit")
    (folder / "bin").mkdir()
    shutil.copy("/bin/true", folder / "bin" / "lavva")
    path = folder / "lavva.service"
    with open(UNIT) as f:
        path.write_text(f.read().replace("@bindir@", str(folder / "bin"))
                        .replace("@sysconfdir@", "/etc").replace("User=lavva", "User=daemon")
                        .replace("Group=lavva", "Group=daemon"))
    return path


def analyze(*args):
    exe = shutil.which("systemd-analyze")
    assert exe, "systemd-analyze is missing (package systemd)"
    return subprocess.run([exe, *args], capture_output=True, text=True, timeout=2 * DEADLINE,
                          env={**os.environ, "LC_ALL": "C"})


def test_unit_is_valid(unit):
    out = analyze("verify", "--man=no", str(unit))
    assert out.returncode == 0 and "lavva" not in out.stderr, out.stderr


def test_unit_is_hardened(unit):
    out = analyze("security", "--offline=yes", "--threshold=20", "--no-pager", str(unit))
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", out.stdout)
    assert found, out.stdout + out.stderr
    assert out.returncode == 0 and float(found[1]) <= 2.0, out.stdout


@pytest.mark.parametrize("args", [("help", "--man"), ("check", "--schema-man")])
def test_manual_pages(args, tmp_path):
    page = cli(*args)
    assert page.returncode == 0 and not page.stderr
    path = tmp_path / "page"
    path.write_text(page.stdout)
    exe = shutil.which("mandoc")
    assert exe, "mandoc is missing"
    out = subprocess.run([exe, "-Tlint", "-W", "warning", path], capture_output=True, text=True)
    assert out.returncode == 0 and not out.stdout, out.stdout
    text = subprocess.run([exe, "-Tutf8", "-O", "width=200", path], capture_output=True,
                          text=True).stdout
    text = re.sub(r".\x08", "", text)
    if args[0] == "help":
        for line in cli("help").stdout.split("commands\n")[1].splitlines():
            name = line.split()[0] if line.startswith("  ") else None
            if not name:
                continue
            help_text = cli("help", name).stdout
            assert f"lavva {name}" in text
            for option in re.findall(r"^ +(?:-\w, )? *--([a-z-]+)", help_text, re.M):
                assert f"--{option}" in text, f"{name} --{option}"
    else:
        with open(os.path.join(ROOT, "docs", "config.md")) as f:
            keys = re.findall(r"^\| `(\w+)` \|", f.read(), re.M)
        assert len(keys) > 40 and all(re.search(rf"^ +{k}\b", text, re.M) for k in keys)


def complete(script, *words):
    """What bash offers for a command line; the last word is unfinished."""
    test = (f"{script}\nCOMP_WORDS=({' '.join(repr(w) for w in words)})\n"
            f"COMP_CWORD={len(words) - 1}\n_lavva\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"")
    out = subprocess.run(["bash", "-eu", "-c", test], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    return out.stdout.split()


def test_completion():
    script = cli("help", "--completion", "bash").stdout
    assert complete(script, "lavva", "ba") == ["backup"]
    assert set(complete(script, "lavva", "re")) == {"restore"}
    assert complete(script, "lavva", "help", "ser") == ["serve"]
    assert complete(script, "lavva", "serve", "--mqtts") == ["--mqtts"]
    assert "--data" in complete(script, "lavva", "backup", "--")
    zsh = cli("help", "--completion", "zsh").stdout
    assert zsh.startswith("#compdef lavva\n") and "--output=" in zsh
    if shutil.which("zsh"):
        assert subprocess.run(["zsh", "-n"], input=zsh, text=True).returncode == 0
    assert cli("help", "--completion", "fish").returncode == 64


