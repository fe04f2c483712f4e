"""Fixtures and marks of the end-to-end suite; see harness.py for the servers.

    server       one development instance for all tests of a worker, restarted if a test killed it
    own_server   a factory of servers for this test alone
    marks        lavva_only: not run against mosquitto

mosquitto.txt lists the tests that mosquitto 2.0.11 is known to fail, with the reason.
"""
import os

import pytest

import harness


def pytest_configure(config):
    config.addinivalue_line("markers", "lavva_only: a feature that only Lavva has")
    config.addinivalue_line("markers", "slow: takes several seconds by its nature")
    config.addinivalue_line("markers", "tsan: part of the short run under ThreadSanitizer")


def pytest_collection_modifyitems(items):
    if harness.KIND != "mosquitto":
        return
    known = deviations()
    for item in items:
        if item.get_closest_marker("lavva_only"):
            item.add_marker(pytest.mark.skip(reason="Lavva only"))
        name = f"{item.path.name}::{item.name}"
        why = known.get(name) or known.get(name.partition("[")[0])
        if why:
            item.add_marker(pytest.mark.xfail(reason=why, strict=name in known))


def deviations():
    """{test id, or name without parameters: why} from mosquitto.txt."""
    with open(os.path.join(harness.HERE, "mosquitto.txt")) as f:
        lines = [line.split(None, 1) for line in f if line.strip() and line[0] != "#"]
    return {name: why.strip() for name, why in lines}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Adds the end of each server's log to a failing test's report."""
    outcome = yield
    rep = outcome.get_result()
    if rep.when == "call":
        item.failed = rep.failed
    if not rep.failed:
        return
    for s in getattr(item, "servers", []):
        try:
            rep.sections.append((f"log of {s.name} in {s.dir}", s.log()[-4000:]))
        except OSError:
            pass


class Shared:
    server = None


@pytest.fixture(scope="session")
def _shared(tmp_path_factory):
    box = Shared()
    yield box
    if box.server is not None:
        code = box.server.stop()
        box.server.check()
        if harness.KIND == "lavva":
            assert code == 0, f"exit status {code} after SIGTERM\n{box.server.log()[-3000:]}"


@pytest.fixture
def server(request, _shared, tmp_path_factory):
    if _shared.server is None or not _shared.server.alive():
        _shared.server = None
        s = harness.make(str(tmp_path_factory.mktemp("shared")))
        request.node.servers = [s]
        _shared.server = s.start()
    s = _shared.server
    request.node.servers = [s]
    yield s
    s.drop_clients()
    assert s.alive(), f"the server died in this test: {s.proc.returncode}"
    s.check()


@pytest.fixture
def own_server(request, tmp_path):
    """own_server(config=…, args=…): makes one; start it with .start()."""
    made = request.node.servers = []

    def new(folder=None, **kw):
        s = harness.make(str(tmp_path / (folder or f"s{len(made)}")), **kw)
        made.append(s)
        return s
    yield new
    errors = []
    for s in made:
        s.drop_clients()
        try:
            died = s.proc is not None and s.proc.poll() not in (None, 0, -9) and not getattr(
                s, "may_exit", False)
            assert not died, f"{s.name} died: {s.proc.returncode}"
            s.stop()
            s.check()
        except AssertionError as e:
            errors.append(str(e))
        finally:
            s.kill()
    assert not errors, "\n".join(errors)


@pytest.fixture(autouse=True)
def _no_children_left():
    yield
    harness.Children.end()


@pytest.fixture
def pub(server):
    """A connected 5.0 client that publishes."""
    return server.connected(server.uid("pub"))


@pytest.fixture
def t(server):
    """A topic prefix of this test's own, in the channel e2e."""
    return "e2e/" + server.uid("t")


@pytest.fixture(params=[4, 5], ids=["v311", "v5"])
def v(request):
    return request.param


def pytest_report_header():
    what = harness.BIN if harness.KIND == "lavva" else harness.KIND
    return f"server under test: {what}"


def pytest_sessionstart(session):
    if harness.KIND == "lavva" and not os.access(harness.BIN, os.X_OK) \
            and not session.config.option.collectonly:
        pytest.exit(f"{harness.BIN} is missing: build it, or set LAVVA_BIN", returncode=2)
