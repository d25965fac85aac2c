"""Every example works as its page says."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fixgw import configuration, database, loader
from fixgw.database import Database
from fixgw.hw_sim.bench.base import packaged_database
from fixgw.plugin import PluginBase

EXAMPLES = Path(__file__).parents[2] / "examples"


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def db() -> Iterator[Database]:
    before = database.current()
    db = packaged_database()
    database.bind(db)
    yield db
    database.bind(before)
    db.stop()


@contextmanager
def running(plugin: PluginBase) -> Iterator[PluginBase]:
    plugin.start()
    try:
        yield plugin
    finally:
        plugin.shutdown()


def test_each_example_has_a_page_and_is_listed() -> None:
    folders = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir() and path.name != "__pycache__")
    assert folders == ["aircraft", "bench", "client", "plugin", "two-gateways"]
    for folder in folders:
        assert (EXAMPLES / folder / "README.md").exists()
        assert f"({folder}/README.md)" in (EXAMPLES / "README.md").read_text()


def test_the_plugin_averages_good_values(db: Database) -> None:
    loaded = configuration.load(EXAMPLES / "plugin" / "default.yaml")  # it finds the plugin beside it
    assert [c.name for c in loaded.connections] == ["aircraft", "average", "netfix"]
    with running(loader.load_plugin("average_egt")("average", {})):
        for key, degrees in ("EGT11", 700.0), ("EGT12", 710.0), ("EGT13", 720.0), ("EGT14", 730.0):
            db.write(key, degrees, "probe", flags=0)
        until(lambda: db.read("EGTAVG1").good)
        assert db.read("EGTAVG1").value == 715.0
        db.item("EGT13").fail("open circuit", "probe")
        until(lambda: db.read("EGTAVG1").fail)
        assert "EGT13" in db.item("EGTAVG1").explain()["flags"]["fail"]


@pytest.mark.slow
def test_the_client_prints_what_the_gateway_serves(db: Database) -> None:
    db.write("OILP1.lowAlarm", 25.0)
    db.write("OILP1", 62.0, "engine", flags=0)
    with running(loader.load_plugin("fixgw.plugins.netfix")("netfix", {"port": 0})) as server:
        command = [sys.executable, str(EXAMPLES / "client" / "oil_watch.py"), "127.0.0.1", str(server.port)]  # type: ignore[attr-defined]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
            assert program.stdout is not None
            try:
                while (line := program.stdout.readline()) != "62.0 psi\n":
                    assert "old or doubtful" in line, "a loaded machine needs longer to start it than the value is good"
                    db.write("OILP1", 62.0, "engine", flags=0)
                db.write("OILP1", 12.0, "engine", flags=0)
                assert program.stdout.readline() == "12.0 psi: LOW\n"
                db.item("OILP1").fail("open circuit", "engine")
                assert "sensor" in program.stdout.readline()
            finally:
                program.kill()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_bench_passes() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    done = subprocess.run(command, cwd=EXAMPLES / "bench", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
