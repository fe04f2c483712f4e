"""The servers that are measured: how each is configured, started and stopped.

Each runs on a free port of 127.0.0.1, in a folder of its own below BUILD/bench-tmp (a real disk,
unless LAVVA_BENCH_TMP says otherwise), is ready when it accepts, and is ended by its process id.
"""
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("LAVVA_BUILD", os.path.join(ROOT, "build"))
PEERS = os.path.join(ROOT, "bench", "peers")
RING_BYTES = 256 << 20  # the relay's pre-written file


class Missing(Exception):
    """The program is not there (a peer that is not installed, a binary that is not built)."""


def program(name, build_path=None):
    path = os.path.join(BUILD, build_path) if build_path else shutil.which(
        name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if not path or not os.access(path, os.X_OK):
        raise Missing(f"{build_path or name} is missing")
    return path


def temp_dir():
    base = os.environ.get("LAVVA_BENCH_TMP", os.path.join(BUILD, "bench-tmp"))
    os.makedirs(base, exist_ok=True)
    path = tempfile.mkdtemp(dir=base)
    os.chmod(path, 0o755)  # mosquitto started by root changes to its own user
    return path


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def lavva_config(directory, port, durability):
    """Our own configuration: everything at its default but what the scenario is about.
    LAVVA_BENCH_THREADS in the environment sets server.threads."""
    threads = os.environ.get("LAVVA_BENCH_THREADS")
    threads = f"  threads: {int(threads)}\n" if threads else ""
    return f"""server:
  data: {directory}/data
{threads}  anonymous: true
  log: {{level: warn}}
listen:
  - mqtt: 127.0.0.1:{port}
apps:
  - name: bench
    auto_channels: true
    session_durability: {durability}
    channel_defaults:
      durability: {durability}
      retention: {{bytes: 1GiB}}
"""


def hub_config(directory, port, durability, tls):
    """The same for customers: one channel with a long snapshot, HTTP with the default of loops."""
    listen = f"  - http: 127.0.0.1:{port}\n"
    cert = ""
    if tls:
        listen = f"  - https: 127.0.0.1:{port}\n"
        cert = f"  tls: {{certificate: {directory}/cert.pem, key: {directory}/key.pem}}\n"
        certificate(directory)
    threads = os.environ.get("LAVVA_BENCH_THREADS")
    threads = f"  threads: {int(threads)}\n" if threads else ""
    return f"""server:
  data: {directory}/data
{threads}{cert}  anonymous: true
  log: {{level: warn}}
listen:
{listen}apps:
  - name: bench
    auto_channels: true
    channel_defaults:
      durability: {durability}
      retention: {{bytes: 1GiB}}
      snapshot: 1000
"""


def certificate(directory):
    """A certificate of its own, as small as is common today (P-256)."""
    subprocess.run([program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                    "/CN=127.0.0.1", "-keyout", f"{directory}/key.pem", "-out",
                    f"{directory}/cert.pem"], check=True, capture_output=True)


def write(path, text):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


def lavva(durability):
    def command(directory, port):
        binary = program("lavva", "lavva")
        conf = write(f"{directory}/lavva.yaml", lavva_config(directory, port, durability))
        return [binary, "serve", conf]
    return command


def hub(durability, tls=False):
    def command(directory, port):
        binary = program("lavva", "lavva")
        conf = write(f"{directory}/lavva.yaml", hub_config(directory, port, durability, tls))
        return [binary, "serve", conf]
    return command


def wsrelay(*options):
    def command(directory, port):
        own = [o.replace("@DIR@", directory) for o in options]
        return [program("lavva-wsrelay", "bench/lavva-wsrelay"), "--port", str(port), *own]
    return command


def nchan(tls=False):
    def command(directory, port):
        binary = program("nginx")
        modules = "/usr/lib/nginx/modules"
        if not os.path.exists(f"{modules}/ngx_nchan_module.so"):
            raise Missing("libnginx-mod-nchan is missing")
        cert = ""
        if tls:
            certificate(directory)
            cert = f"ssl_certificate {directory}/cert.pem; ssl_certificate_key {directory}/key.pem;"
        with open(os.path.join(PEERS, "nchan-tuned.conf"), encoding="utf-8") as f:
            text = f.read()
        for name, value in (("PORT", str(port)), ("DIR", directory), ("MODULES", modules),
                            ("SSL", "ssl" if tls else ""), ("CERT", cert)):
            text = text.replace(f"@{name}@", value)
        return [binary, "-e", f"{directory}/error", "-p", directory, "-c",
                write(f"{directory}/nginx.conf", text)]
    return command


def relay(*options):
    def command(directory, port):
        own = [o.replace("@DIR@", directory) for o in options]
        return [program("lavva-relay", "bench/lavva-relay"), "--port", str(port), *own]
    return command


def templated(binary, option, template):
    def command(directory, port):
        with open(os.path.join(PEERS, template), encoding="utf-8") as f:
            text = f.read().replace("@PORT@", str(port)).replace("@DIR@", directory)
        return [program(binary), option, write(f"{directory}/{template}", text)]
    return command


KINDS = {
    "lavva-memory": lavva("memory"),
    "lavva-disk": lavva("disk"),
    "relay": relay(),
    "relay-memory": relay("--file", "@DIR@/log", "--file-size", str(RING_BYTES)),
    "relay-disk": relay("--file", "@DIR@/log", "--file-size", str(RING_BYTES), "--sync"),
    "relay-grow": relay("--file", "@DIR@/log", "--sync"),
    "mosquitto": templated("mosquitto", "-c", "mosquitto-tuned.conf"),
    "mosquitto-untuned": templated("mosquitto", "-c", "mosquitto-untuned.conf"),
    "hub-memory": hub("memory"),
    "hub-disk": hub("disk"),
    "hub-tls": hub("memory", tls=True),
    "nchan": nchan(),
    "nchan-tls": nchan(tls=True),
    "wsrelay": wsrelay("--file", "@DIR@/log", "--file-size", str(RING_BYTES)),
    "wsrelay-disk": wsrelay("--file", "@DIR@/log", "--file-size", str(RING_BYTES), "--sync"),
    "nats": templated("nats-server", "-c", "nats-tuned.conf"),
}


class Server:
    def __init__(self, kind, proc, port, directory):
        self.kind, self.proc, self.port, self.dir = kind, proc, port, directory
        self.pid = proc.pid

    def pids(self):
        """Of the server's processes: nginx has a master and a worker."""
        with open(f"/proc/{self.pid}/task/{self.pid}/children", encoding="ascii") as f:
            return [self.pid, *(int(p) for p in f.read().split())]

    def kill_and_restart(self):
        """SIGKILL, and the same command in the same folder once more; it may not accept yet."""
        self.proc.kill()
        self.proc.wait()
        self.proc = spawn(self.command, self.dir)
        self.pid = self.proc.pid

    def output(self):
        """The last of what it said."""
        with open(f"{self.dir}/output", encoding="utf-8", errors="replace") as f:
            return f.read()[-600:].strip()

    def stop(self):
        """Ends it (SIGTERM, then SIGKILL) and removes its folder; its exit code."""
        if self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
            try:
                self.proc.wait(20)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
        shutil.rmtree(self.dir, ignore_errors=True)
        return self.proc.returncode


def accepts(port):
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex(("127.0.0.1", port)) == 0


def more_descriptors():
    """As many as the system allows: nginx takes what it is given."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def spawn(command, directory):
    with open(f"{directory}/output", "ab") as out:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                cwd=directory, start_new_session=True,
                                preexec_fn=more_descriptors)


def start(kind):
    """Starts a server of this kind and returns it once it accepts connections."""
    directory, port = temp_dir(), free_port()
    try:
        command = KINDS[kind](directory, port)
    except Missing:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    proc = spawn(command, directory)
    server = Server(kind, proc, port, directory)
    server.command = command
    end = time.monotonic() + 30
    while not accepts(port):
        if proc.poll() is not None or time.monotonic() > end:
            said = server.output()
            server.stop()
            raise RuntimeError(f"{kind} did not come up: {said or 'it said nothing'}")
        time.sleep(0.02)
    return server
