"""The wall clock may jump by years when a Raspberry Pi without a battery-backed clock gets the time of a GPS."""

from __future__ import annotations

import ast
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fixgw import configuration, database
from fixgw.gateway import Gateway, State

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
WALL = {"time", "time_ns", "localtime", "gmtime", "ctime", "asctime", "now", "utcnow", "today", "CLOCK_REALTIME"}
#: Legitimate uses: a check that it is sane, dates in a log of the bus.
MAY_LOOK = {
    "fixgw/world.py",  # the time of day that a gateway's plugins use
    "fixgw/cli/bugreport.py",  # a report has a date
    "fixgw/cli/junit.py",
    "fixgw/cli/proxy.py",  # and a record of what a display was told
    "fixgw/doctor.py",
    "drivers/canfix/tool/show.py",
    "plugins/system.py",  # it writes the time of day
    "plugins/web/access.py",  # when a browser was paired
}


def sources() -> list[Path]:
    core = [p for p in (ROOT / "fixgw").rglob("*.py") if not any(d.is_symlink() for d in p.parents)]
    return sorted([*core, *(ROOT / "drivers").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")])


def looks(path: Path) -> Iterator[str]:
    """The places that read the wall clock."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr in WALL and isinstance(node.value, ast.Name):
            if node.value.id in ("time", "datetime", "date", "_time"):
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {node.value.id}.{node.attr}"
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            for alias in node.names:
                if alias.name in WALL:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}: from time import {alias.name}"


def test_no_measurement_uses_the_wall_clock() -> None:
    found = sources()
    assert len(found) > 40
    assert [look for p in found if str(p.relative_to(ROOT)) not in MAY_LOOK for look in looks(p)] == []


PLUGIN = """
from fixgw.errors import DeviceError
from fixgw.plugin import Poller

class Plugin(Poller):
    reopen_delay = 0.05
    attempts = 0

    def open(self):
        Plugin.attempts += 1
        if Plugin.attempts < 4:
            raise DeviceError("not there")

    def poll(self, timeout):
        self.stopping.wait(0.02)
        self.db.write("RPM", 2400.0, self.source, flags=0)
        if Plugin.attempts == 4 and self.counts.setdefault("polls", 0) == 20:
            Plugin.attempts += 1
            raise RuntimeError("a defect")
        self.count("polls")
"""


def test_a_clock_that_jumps_by_years_does_not_affect_ageing_restarts_or_the_watchdog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jumpy.py").write_text(PLUGIN)
    (tmp_path / "database.yaml").write_text(
        "entries:\n"
        "  - {key: RPM, description: Speed, type: float, min: 0, max: 9000, units: rpm, tol: 1000}\n"
        "  - {key: OAT, description: Air, type: float, min: -60, max: 60, units: degC, tol: 300}\n"
    )
    (tmp_path / "default.yaml").write_text(
        'database file: "{CONFIG}/database.yaml"\nconnections: {a: {module: jumpy, restart_delay: 0.1}}\n'
    )
    loaded = configuration.load(tmp_path / "default.yaml")
    monkeypatch.setattr("time.time", lambda: random.uniform(0, 4e9))
    monkeypatch.setattr("time.time_ns", lambda: random.randrange(4 * 10**18))
    before = database.current()
    gateway = Gateway(loaded)
    thread = threading.Thread(target=gateway.run_forever, args=(False,))
    thread.start()
    try:
        db = gateway.database
        wait(lambda: db.read("RPM").good)
        begin = time.monotonic()
        db.write("OAT", 15.0, "test", flags=0)
        wait(lambda: db.read("OAT").old)
        assert 0.29 <= time.monotonic() - begin < 5.0  # according to its tolerance
        runner = gateway.runners["a"]
        wait(lambda: runner.restarts == 1 and runner.state is State.RUNNING)
        begin = time.monotonic()
        while time.monotonic() - begin < 1.0:
            assert not db.read("RPM").old or db.read("RPM").age(time.monotonic()) > 1.0
            assert runner.signs_of_life(time.monotonic()) == ""
            assert db.alive
            time.sleep(0.01)
        report = gateway.get_status()
        assert report["health"] == "ok"
        assert 0 < report["uptime"] < 60
    finally:
        gateway.request_stop()
        thread.join(20)
        database.bind(before)
    assert not thread.is_alive()
    assert gateway.exit_code == 0


def wait(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
