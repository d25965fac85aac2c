"""The demonstration: the plugin by itself, and `fixgw demo` from start to Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from fixgw import configuration, database
from fixgw.database import Database
from fixgw.errors import ConfigurationError
from fixgw.hw_sim.aircraft import indicated_altitude
from fixgw.hw_sim.world import World
from fixgw.plugins.demo import Plugin

CAPTURE = Path(__file__).parent / "captures" / "nmea0183" / "neo-m8n.log"
FROM_THE_GPS = ("LAT", "LONG", "GS", "TRACK", "TRACKM", "TALT", "TIMEZ", "GPS_FIX_TYPE", "GPS_SATS_TRACKED")
FROM_THE_AIRCRAFT = (
    *("IAS", "TAS", "ALT", "VS", "HEAD", "PITCH", "ROLL", "ROT", "ALAT", "AOA", "COURSE", "CDI", "GSI"),
    *("TACH1", "MAP1", "THR1", "OILP1", "OILT1", "H2OT1", "FUELF1", "FUELP1", "FUELQT", "FUELQ1", "FUELQ2", "FUELQ3"),
    *("CHT11", "CHT12", "CHT13", "CHT14", "EGT11", "EGT12", "EGT13", "EGT14", "VOLT", "CURRNT", "OAT", "CAT"),
    *("COMACTFREQ1", "COMSTDFREQ1", "COMACTRX1", "COMSQUELCH1", "COMVSWR1", "COMTXPWR1", "COMAUDVOL1", "TIMEL"),
)
SETTINGS = ("BARO", "BTN3", "ENC3", "TSBTN112", "EGTBTN1", "HIDEBUTTON", "ACID", "PYEFIS_VERSION", "COMACTNAME1")


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


# -- the plugin --------------------------------------------------------------------------------------------------------


@pytest.fixture
def db() -> Iterator[Database]:
    """The packaged database, ageing, and bound as a gateway does."""
    made = configuration.load(configuration.packaged() / "default.yaml").make_database()
    before = database.current()
    database.bind(made)
    made.start()
    yield made
    made.stop()
    database.bind(before)


@pytest.fixture
def demo(db: Database) -> Iterator[Callable[..., Plugin]]:
    """Makes and starts plugins with the given options, and stops them."""
    plugins: list[Plugin] = []

    def make(**options: Any) -> Plugin:
        plugin = Plugin("aircraft", options)
        plugins.append(plugin)
        plugin.start()
        return plugin

    yield make
    for plugin in plugins:
        plugin.shutdown()


def test_everything_is_good_before_run_returns(db: Database, demo: Callable[..., Plugin]) -> None:
    demo()
    for key in (*FROM_THE_AIRCRAFT, *FROM_THE_GPS, *SETTINGS):
        assert db.read(key).good, (key, db.read(key))


def test_its_source_says_that_it_is_simulated(db: Database, demo: Callable[..., Plugin]) -> None:
    demo()
    assert db.read("IAS").source == "sim/aircraft"


def test_what_others_write_is_left_to_them(db: Database, demo: Callable[..., Plugin]) -> None:
    demo(**{"except": ["LAT", "GPS_*"]})
    assert db.read("LAT").old
    assert db.read("GPS_FIX_TYPE").old
    assert db.read("LONG").good


def test_values_stay_fresh_and_move(db: Database, demo: Callable[..., Plugin]) -> None:
    plugin = demo()
    aged: list[str] = []
    db.subscribe("*", lambda key, reading: aged.append(key) if reading.old else None)
    start = db.read("ALT").value
    assert wait_for(lambda: plugin.counts.get("writes", 0) > 3000)
    assert db.read("ALT").value > start  # type: ignore[operator]
    # A machine that is too busy may be late for the 200 ms ones; nothing else may ever age.
    assert {key for key in aged if db.item(key).tolerance >= 1.0} == set()


def test_the_altimeter_follows_its_setting(db: Database, demo: Callable[..., Plugin]) -> None:
    demo()
    correct = float(db.read("ALT").value)
    db.write("BARO", 29.05, "pilot")
    assert wait_for(lambda: float(db.read("ALT").value) < correct - 500)
    assert float(db.read("ALT").value) == pytest.approx(indicated_altitude(float(db.read("PALT").value), 29.05), abs=30)
    assert db.read("BARO").source == "pilot"


def test_what_somebody_has_set_is_not_set_again(db: Database, demo: Callable[..., Plugin]) -> None:
    db.write("BARO", 28.5, "netfix/display")
    db.write("ENC1", 5, "netfix/display")
    demo()
    assert db.read("BARO").value == 28.5
    assert db.read("ENC1").value == 5


def test_it_reads_the_world_that_there_is(db: Database, demo: Callable[..., Plugin]) -> None:
    with World() as world:
        demo()
        assert db.read("LAT").value == pytest.approx(world.aircraft.lat, abs=0.001)
        assert len([t for t in threading.enumerate() if t.name == "world"]) == 1


def test_values_age_when_the_flight_stands_still(db: Database, demo: Callable[..., Plugin]) -> None:
    world = World()
    world.start()
    plugin = demo()
    world.stop()
    assert wait_for(lambda: db.read("IAS").old)
    assert "stands still" in plugin.health()


def test_its_own_world_ends_with_it(demo: Callable[..., Plugin]) -> None:
    plugin = demo()
    assert [t for t in threading.enumerate() if t.name == "world"]
    plugin.shutdown()
    assert not [t for t in threading.enumerate() if t.name == "world"]


def test_a_pattern_without_items_is_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "default.yaml"
    file.write_text("connections: {demo: {module: fixgw.plugins.demo, except: [LAT, NOSUCH*]}}")
    with pytest.raises(ConfigurationError, match=r"default.yaml:1:\d+: except.1: no item matches 'NOSUCH\*'"):
        configuration.load(file)


# -- the command -------------------------------------------------------------------------------------------------------


class Client:
    """A display in a few lines."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._lines: IO[str] = self._socket.makefile("r")

    def ask(self, command: str) -> str:
        self._socket.sendall(f"{command}\n".encode())
        return self._lines.readline().rstrip("\n")

    def flags(self, key: str) -> str:
        return self.ask(f"@r{key}").rpartition(";")[2]

    def value(self, key: str) -> str:
        return self.ask(f"@r{key}").split(";")[1]

    def status(self) -> dict[str, Any]:
        tree: dict[str, Any] = json.loads(self.ask("@xstatus").partition(";")[2])
        return tree

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


class Demo:
    """`fixgw demo` in a child process, on a port of its own."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fixgw", "demo", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(directory)},
        )
        assert self.process.stdout is not None
        self.shown = ""
        for line in self.process.stdout:
            self.shown += line
            if "Ctrl-C" in line:
                break
        else:
            pytest.fail(f"it did not start: {self.process.communicate()[1]}")

    def connect(self) -> Client:
        match = re.search(r"port (\d+)\.", self.shown)
        assert match, self.shown
        return Client(int(match[1]))

    def end(self, number: int) -> tuple[int, float, str]:
        """Exit code, seconds that it took, and what it said on stderr."""
        began = time.monotonic()
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=15)
        return self.process.returncode, time.monotonic() - began, errors


@pytest.fixture
def fly(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    started: list[Demo] = []

    def make(*arguments: str) -> Demo:
        started.append(Demo(tmp_path, *arguments))
        return started[-1]

    yield make
    for demo in started:
        if demo.process.poll() is None:
            demo.process.kill()
        demo.process.communicate()


def test_the_whole_stack_flies_and_ctrl_c_ends_it(fly: Callable[..., Demo], tmp_path: Path) -> None:
    demo = fly()
    assert "fixgw watch" in demo.shown or "watch --port" in demo.shown
    client = demo.connect()
    for key in ("IAS", "ALT", "VS"):  # good for a display that connects in the same instant
        assert client.flags(key)[1:4] == "000"
    assert wait_for(lambda: all(client.flags(key)[1:4] == "000" for key in FROM_THE_GPS))
    assert [key for key in (*FROM_THE_AIRCRAFT, *SETTINGS) if client.flags(key)[1:4] != "000"] == []
    assert float(client.value("LAT")) == pytest.approx(43.98, abs=0.05)
    assert float(client.value("IAS")) > 60
    status = client.status()
    assert status["health"] == "ok"
    assert status["database"]["conflicts"] == {}
    client.close()

    code, seconds, errors = demo.end(signal.SIGINT)
    assert code == 0
    assert seconds < 2.0
    assert errors == ""
    assert list(tmp_path.iterdir()) == []


def test_sigterm_ends_it_too_and_a_second_one_starts_at_once(fly: Callable[..., Demo]) -> None:
    for _ in range(2):
        code, seconds, errors = fly().end(signal.SIGTERM)
        assert (code, errors) == (0, "")
        assert seconds < 2.0


def test_a_recorded_log_takes_the_place_of_the_gps(fly: Callable[..., Demo]) -> None:
    demo = fly("--replay", str(CAPTURE))
    client = demo.connect()
    assert wait_for(lambda: client.flags("LAT")[1:4] == "000")
    assert float(client.value("LAT")) == pytest.approx(44.069, abs=0.01)
    assert client.flags("IAS")[1:4] == "000"
    client.close()
    assert demo.end(signal.SIGINT)[0] == 0


def test_it_ends_by_itself_after_the_given_time(fly: Callable[..., Demo]) -> None:
    demo = fly("--duration", "0.2")
    _, errors = demo.process.communicate(timeout=15)
    assert (demo.process.returncode, errors) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_starts_ends_it_quietly(tmp_path: Path, number: int) -> None:
    for delay in (0.05, 0.15, 0.3):
        process = subprocess.Popen(
            [sys.executable, "-m", "fixgw", "demo", "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
        time.sleep(delay)
        process.send_signal(number)
        _, errors = process.communicate(timeout=15)
        if "Traceback" in errors:  # the interpreter itself, before our first line ran
            assert "fixgw/cli/demo.py" not in errors
        assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_one_plain_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "fixgw", "demo", "--port", str(port)], capture_output=True, text=True, timeout=30
        )
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(rf"fixgw: port {port} is taken, .*--port\n", done.stderr)


def test_a_log_that_is_not_there_is_one_plain_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fixgw", "demo", "--port", "0", "--replay", str(tmp_path / "no.log")],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert done.stderr == f"fixgw: cannot read {tmp_path / 'no.log'}: No such file or directory\n"
