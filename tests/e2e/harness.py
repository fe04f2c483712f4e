"""Starts what the end-to-end tests talk to, and stops it again, by pid.

`Lavva` runs `lavva serve` on free ports over a data folder and reads DIR/dev.env for where it
listens. `Mosquitto` runs the stock broker, so that the protocol tests can be checked against a
second implementation (LAVVA_E2E_SERVER=mosquitto). Both offer the same few attributes:

    mqtt (host, port) · user, key · uid(prefix) · client(...) · barrier(pub, sub)

Nothing sleeps for a fixed time to let something happen: `wait` looks at a condition until a
deadline. Config documents for Lavva are made in one place, lvconf.py.
"""
import copy
import itertools
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request

import lvconf
import raw

PROTOS = ("mqtt", "http", "mqtts", "https")
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BIN = os.path.abspath(os.environ.get("LAVVA_BIN", os.path.join(ROOT, "build", "lavva")))
KIND = os.environ.get("LAVVA_E2E_SERVER", "lavva")
# Sanitized binaries are several times slower; only failing waits feel it.
DEADLINE = float(os.environ.get("LAVVA_E2E_DEADLINE", raw.DEADLINE))
raw.DEADLINE = DEADLINE
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
_uids = itertools.count(1)
PORTS = range(20000, 32000)     # below the ephemeral ones
_ports = itertools.cycle(PORTS)
_claims = []
SANITIZER = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "WARNING: ThreadSanitizer",
             "runtime error:", "assertion failed", "Assertion `")


def wait(condition, what, timeout=None, step=0.01):
    """The first true value of condition(); fails with `what` at the deadline."""
    deadline = time.monotonic() + (timeout or DEADLINE)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout or DEADLINE} s in vain for {what}")
        time.sleep(step)


def free_port():
    """A port that is free now and stays ours for the life of this process: a datagram socket on the
    same number keeps other runs of these tests away from it, while our server is down, too."""
    for port in itertools.islice(_ports, len(PORTS)):
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                claim.bind(("127.0.0.1", port))
                s.bind(("127.0.0.1", port))
            except OSError:
                claim.close()
                continue
        _claims.append(claim)
        return port
    raise AssertionError(f"no free port in {PORTS}")


def hostport(text):
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def accepts(addr):
    try:
        socket.create_connection(addr, timeout=1).close()
        return True
    except OSError:
        return False


def parse_env(text):
    """The assignments of a shell-quoted file, as a shell would read them."""
    out = {}
    for line in text.splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        words = shlex.split(line.removeprefix("export "))
        assert len(words) == 1 and "=" in words[0], f"not one assignment: {line!r}"
        name, _, value = words[0].partition("=")
        out[name] = value
    return out


def thread_count(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


# Labels of whom something was counted for, at the end of a metric's labels.
WHOSE = re.compile(r'(?:(?:(?<=\{)|,)(?:app|protocol|channel)="(?:[^"\\]|\\.)*")+')


class Server:
    """What both kinds share: a process, its log, the clients that talk to it."""

    name = "?"

    def __init__(self, folder):
        self.dir, self.clients = folder, []
        os.makedirs(folder, exist_ok=True)
        self.log_path = os.path.join(folder, "server.log")
        self.proc = self.mqtt = self.user = self.key = None

    @staticmethod
    def uid(prefix="u"):
        return f"{prefix}{os.getpid()}{WORKER}n{next(_uids)}"

    def spawn(self, argv, env=None):
        with open(self.log_path, "ab") as log:
            log.write(f"--- {shlex.join(argv)}\n".encode())
            log.flush()
            self.proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                         cwd=self.dir, env={**os.environ, **(env or {})})

    def alive(self):
        return self.proc is not None and self.proc.poll() is None

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def signal(self, sig):
        self.proc.send_signal(sig)

    def wait_exit(self, timeout=None):
        try:
            return self.proc.wait(timeout or DEADLINE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not exit within {timeout or DEADLINE} s:\n"
                                 + self.log()[-3000:]) from None

    def stop(self):
        """SIGTERM and wait; the exit status."""
        if not self.alive():
            return self.proc.returncode if self.proc else None
        self.signal(signal.SIGTERM)
        try:
            return self.proc.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} ignored SIGTERM for {DEADLINE} s:\n"
                                 + self.log()[-3000:]) from None

    def kill(self):
        """kill -9, reaped."""
        if self.proc and self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait()

    def restart(self):
        self.stop()
        return self.start()

    def client(self, client_id=None, v=5, **kw):
        """A raw client, not connected."""
        return raw.Client(self, client_id, v, **kw)

    def connected(self, client_id=None, v=5, **kw):
        c = raw.Client(self, client_id, v, **kw)
        c.connect()
        return c

    def barrier(self, pub, sub, qos=1):
        """Everything `sub` gets up to a message that `pub` publishes now, acknowledged. What pub
        published before to the same channel has arrived by then, or never will."""
        topic = f"e2e/barrier/{self.uid()}"
        sub.subscribe(topic, qos=1)        # it waits behind a full window, as the others do
        pub.publish(topic, b"barrier", qos=qos)
        return [p for p in sub.until(lambda p: p.topic == topic) if p.topic != topic]

    def nothing(self, pub, sub, qos=1):
        got = self.barrier(pub, sub, qos)
        assert not got, f"expected no message, got {got}"

    def drop_clients(self):
        for c in self.clients:
            c.drop()
        self.clients.clear()

    def check(self):
        """Fails if the process died by itself or a sanitizer spoke."""
        text = self.log()
        for word in SANITIZER:
            assert word not in text, f"{word}:\n{text[-6000:]}"


class Mosquitto(Server):
    name = "mosquitto"

    def __init__(self, folder, options=()):
        super().__init__(folder)
        self.options, self.user, self.key = list(options), "anybody", "anything"
        self.mqtt = ("127.0.0.1", free_port())

    def start(self):
        os.chmod(self.dir, 0o777)      # as root it becomes user mosquitto, which must write here
        conf = os.path.join(self.dir, "mosquitto.conf")
        lines = [f"listener {self.mqtt[1]} 127.0.0.1", "allow_anonymous true",
                 "persistence true", f"persistence_location {self.dir}/", "max_packet_size 1000000",
                 "set_tcp_nodelay true", "user root", "log_type all", *self.options]
        with open(conf, "w") as f:
            f.write("\n".join(lines) + "\n")
        exe = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        self.spawn([exe, "-c", conf])
        wait(lambda: not self.alive() or accepts(self.mqtt), "mosquitto to listen")
        assert self.alive(), self.log()
        return self


class Lavva(Server):
    """`lavva serve`. With `config` (a document of lvconf.py) it runs that; without, the
    development instance. Listeners: the four plain ones on free ports, unless the document has a
    listener of that protocol; those of the document get a free port where they say 0."""

    name = "lavva"

    def __init__(self, folder, config=None, args=(), env=None):
        super().__init__(folder)
        self.data = os.path.join(folder, "data")
        self.config, self.args, self.extra_env = copy.deepcopy(config), list(args), env or {}
        self.conf_path = os.path.join(folder, "lavva.yaml")
        self.env = {}
        self.ports = {}
        self.http = self.https = self.mqtts = self.ca = None

    @property
    def env_path(self):
        return os.path.join(self.data, "dev.env")

    def argv(self):
        argv = [BIN, "serve"]
        if self.config is not None:
            self.write_config()
            argv += [self.conf_path]
        argv += ["--data", self.data]
        if "--threads" not in self.args and "threads" not in (self.config or {}).get("server", {}):
            argv += ["--threads", "2"]  # by default a small machine has one loop: test two
        if self.config is not None:
            return argv + self.args
        for opt in ("--mqtt", "--http", "--mqtts", "--https"):
            if opt not in self.args:
                argv += [opt, "127.0.0.1:0"]
        return argv + self.args

    def write_config(self):
        """Gives the listeners their ports and writes the document."""
        listen = self.config["listen"]
        for proto in ("mqtt", "http"):
            if not any(proto in one for one in listen):
                listen.append({proto: "127.0.0.1:0"})
        for one in listen:
            for proto in PROTOS:
                if proto in one:
                    if one[proto].endswith(":0"):
                        one[proto] = f"{one[proto][:-2]}:{free_port()}"
                    if getattr(self, proto) is None:
                        setattr(self, proto, hostport(one[proto]))
        with open(self.conf_path, "w") as f:
            f.write(lvconf.text(self.config))

    def reload(self, config):
        """Writes another document (same listeners) and sends SIGHUP."""
        listen = self.config["listen"]
        self.config = copy.deepcopy(config)
        self.config["listen"] = listen
        self.write_config()
        self.signal(signal.SIGHUP)

    def launch(self):
        """Starts the process without waiting for anything."""
        self.env = {}
        env = {"ASAN_OPTIONS": "abort_on_error=1:detect_leaks=1:detect_stack_use_after_return=1:"
                               "verify_asan_link_order=0",  # gcc's; diskfault.so comes first
               "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
               "TSAN_OPTIONS": f"halt_on_error=0:second_deadlock_stack=1:"
                               f"suppressions={HERE}/tsan.supp"}
        self.spawn(self.argv(), {**env, **self.extra_env})
        return self

    def start(self, timeout=None):
        self.launch()
        return self.ready(timeout)

    def ready(self, timeout=None):
        """Waits until dev.env names this process, then takes the facts from it; with a
        document: until its listeners accept and /readyz says so."""
        if self.config is not None:
            wait(lambda: not self.alive() or self.listening(), "the listeners", timeout)
            assert self.alive(), f"lavva exited {self.proc.returncode}:\n{self.log()[-4000:]}"
            first = self.config["apps"][0]
            self.user = self.user or first["name"]
            if first["keys"] and not self.key:
                self.key = lvconf.key_text(first["keys"][0]["id"])
            return self
        def there():
            if not self.alive():
                return True
            try:
                with open(self.env_path) as f:
                    env = parse_env(f.read())
            except FileNotFoundError:
                return False
            self.env = env if env.get("LAVVA_PID") == str(self.proc.pid) else {}
            return self.env
        wait(there, "dev.env", timeout)
        assert self.alive(), f"lavva exited {self.proc.returncode} at start:\n{self.log()[-4000:]}"
        get = self.env.get
        self.mqtt, self.http = hostport(get("LAVVA_MQTT")), hostport(get("LAVVA_HTTP"))
        self.mqtts = hostport(get("LAVVA_MQTTS")) if get("LAVVA_MQTTS") else None
        self.https = hostport(get("LAVVA_HTTPS")) if get("LAVVA_HTTPS") else None
        self.ca = get("LAVVA_CA")
        if get("LAVVA_KEY"):
            self.user, self.key = get("LAVVA_APP"), get("LAVVA_KEY")
        return self

    def listening(self):
        for one in self.config["listen"]:
            for proto in PROTOS:
                if proto in one and not accepts(hostport(one[proto])):
                    return False
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def get(self, path, timeout=None):
        """GET over HTTP: (status, headers, text)."""
        url = f"http://{self.http[0]}:{self.http[1]}{path}"
        try:
            with urllib.request.urlopen(url, timeout=timeout or DEADLINE) as r:
                return r.status, r.headers, r.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.headers, e.read().decode()

    def metrics(self, raw=False):
        """{name{labels}: value} of one scrape. Unless raw, apps, protocols and channels are added
        up: the labels that remain are those that say what was counted."""
        status, _, text = self.get("/metrics")
        assert status == 200, text
        out = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                if not raw and not name.startswith("lavva_connections{"):
                    name = WHOSE.sub("", name).replace("{}", "")
                out[name] = out.get(name, 0) + float(value)
        return out

    def tls(self, cert=None, key=None):
        ctx = ssl.create_default_context(cafile=self.ca)
        if cert:
            ctx.load_cert_chain(cert, key)
        return ctx

    def cli(self, *args, **kw):
        """Runs `lavva ARGS…`; the CompletedProcess with text output."""
        kw.setdefault("timeout", DEADLINE)
        kw.setdefault("cwd", self.dir)
        return cli(*args, **kw)

    def cli_env(self):
        """The environment that `set -a; . dev.env` makes."""
        return {**os.environ, **self.env}


class Children:
    """Processes that a test leaves behind when it fails are ended by conftest.py, by pid."""

    alive = []

    @classmethod
    def popen(cls, *a, **kw):
        p = subprocess.Popen(*a, **kw)
        cls.alive.append(p)
        return p

    @classmethod
    def end(cls):
        for p in cls.alive:
            if p.poll() is None:
                p.kill()
            p.wait()
        cls.alive.clear()


def cli(*args, **kw):
    kw.setdefault("timeout", DEADLINE)
    return subprocess.run([BIN, *args], stdin=kw.pop("stdin", None) or (
        None if "input" in kw else subprocess.DEVNULL), capture_output=True, text=True, **kw)


def make(folder, **kw):
    """A server of the kind under test, not started."""
    if KIND == "mosquitto":
        return Mosquitto(folder, kw.get("mosquitto", ()))
    kw.pop("mosquitto", None)
    return Lavva(folder, **kw)
