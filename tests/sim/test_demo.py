"""The demonstration: the plugin by itself, and `fixgw demo` from start to Ctrl-C."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any

import msgspec
import pytest

from fixgw import configuration, database
from fixgw.cli import demo as command
from fixgw.cli.demo import VITAL
from fixgw.cli.demo import _take_off as take_off
from fixgw.configuration import Configuration
from fixgw.database import Database
from fixgw.drivers.canfix import mapping
from fixgw.drivers.canfix.table import load
from fixgw.errors import ConfigurationError
from fixgw.gateway import Gateway
from fixgw.hw_sim import everything, world
from fixgw.hw_sim import scenario as scenarios
from fixgw.hw_sim.aircraft import indicated_altitude
from fixgw.hw_sim.bench.base import packaged_database
from fixgw.hw_sim.can.bus import CanBus
from fixgw.hw_sim.can.devices import DEVICES
from fixgw.hw_sim.faults import Unplug
from fixgw.hw_sim.network import own_host
from fixgw.hw_sim.panel import Panel
from fixgw.hw_sim.world import World
from fixgw.plugins.demo import Plugin

pytestmark = pytest.mark.slow

DRIVERS = Path(__file__).parents[2] / "drivers"
CAPTURE = Path(__file__).parents[1] / "captures" / "nmea0183" / "neo-m8n.log"
RECORDING = Path(__file__).parents[1] / "data" / "recording" / "flight.mcap"
FROM_THE_GPS = ("LAT", "LONG", "GS", "TRACK", "TRACKM", "TALT", "TIMEZ", "GPS_FIX_TYPE", "GPS_SATS_TRACKED")
FROM_THE_BUS = (
    *("IAS", "TAS", "ALT", "VS", "HEAD", "PITCH", "ROLL", "ROT", "ALAT", "AOA", "COURSE", "CDI", "GSI"),
    *("PROP1", "THR1", "FUELQ1", "FUELQ2", "OAT", "CAT"),
)
FROM_THE_ENGINE_MONITOR = (
    *("TACH1", "MAP1", "OILP1", "OILT1", "H2OT1", "FUELP1", "FUELQT", "VOLT", "CURRNT", "HOBBS1"),
    *("CHT11", "CHT12", "CHT13", "CHT14", "EGT11", "EGT12", "EGT13", "EGT14"),
)
FROM_THE_PANEL = ("FUELF1", "ENC3", "ENC4", *(f"BTN{n}" for n in (33, 34, 35, 37, 38, 39, 40)), "ALERTACK")
COMPUTED = ("EGTAVG1", "EGTSPAN1", "EGTMAX1", "CHTMAX1")  # the aircraft has them too
COMPUTED_AT_ONCE = (*COMPUTED, "EGTDT1", "FUELREM", "ENDUR", "RANGE", "WPDIST", "MAGVAR", "GMAX", "SUNRISE", "TACHTM1")
FROM_THE_AIRCRAFT = (
    *("COMACTFREQ1", "COMSTDFREQ1", "COMACTRX1", "COMSQUELCH1", "COMVSWR1", "COMTXPWR1", "COMAUDVOL1", "TIMEL"),
    "DIFFAIRPRESS",
)
SETTINGS = ("BARO", "BTN3", "ENC3", "TSBTN112", "EGTBTN1", "HIDEBUTTON", "ACID", "PYEFIS_VERSION", "COMACTNAME1")


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


def busy() -> float:
    """How many processes want a core, at least 1: they share its time."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


# -- the plugin --------------------------------------------------------------------------------------------------------


@pytest.fixture
def db() -> Iterator[Database]:
    """The packaged database, ageing and bound, as in a gateway."""
    made = packaged_database()
    before = database.current()
    database.bind(made)
    made.start()
    yield made
    made.stop()
    database.bind(before)


@pytest.fixture
def demo(db: Database) -> Iterator[Callable[..., Plugin]]:
    """Create and start plugins with the given options, and stop them at the end."""
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
    for key in (*FROM_THE_AIRCRAFT, *FROM_THE_BUS, *FROM_THE_ENGINE_MONITOR, *FROM_THE_GPS, *SETTINGS):
        assert db.read(key).good, (key, db.read(key))
    assert db.read("FUELQ3").old, "an aircraft with two tanks has no third"


def test_its_source_marks_the_values_as_simulated(db: Database, demo: Callable[..., Plugin]) -> None:
    demo()
    assert db.read("IAS").source == "sim/aircraft"


def test_keys_of_other_connections_are_not_written(db: Database, demo: Callable[..., Plugin]) -> None:
    demo(**{"except": ["LAT", "GPS_*"]})
    assert db.read("LAT").old
    assert db.read("GPS_FIX_TYPE").old
    assert db.read("LONG").good


def test_values_stay_fresh_and_move(db: Database, demo: Callable[..., Plugin]) -> None:
    plugin = demo()
    aged: list[str] = []
    db.subscribe("*", lambda key, reading: aged.append(key) if reading.old else None)
    start = db.read("ALT").value
    late, stop = [0.0], threading.Event()

    def measure() -> None:
        """How late a thread can be on this machine, which may be busy."""
        due = time.monotonic() + 0.01
        while not stop.wait(0.01):
            late.append(time.monotonic() - due)
            due = time.monotonic() + 0.01

    thread = threading.Thread(target=measure)
    thread.start()
    assert wait_for(lambda: plugin.counts.get("writes", 0) > 3000)
    stop.set()
    thread.join()
    assert db.read("ALT").value > start  # type: ignore[operator]
    # It may be too late for the 200 ms ones; nothing else may ever age.
    assert {key for key in aged if db.item(key).tolerance >= 1.0 + 4 * max(late)} == set()


def test_the_altimeter_follows_its_setting(db: Database, demo: Callable[..., Plugin]) -> None:
    demo()
    correct = float(db.read("ALT").value)
    db.write("BARO", 29.05, "pilot")
    assert wait_for(lambda: float(db.read("ALT").value) < correct - 500)
    assert float(db.read("ALT").value) == pytest.approx(indicated_altitude(float(db.read("PALT").value), 29.05), abs=30)
    assert db.read("BARO").source == "pilot"


def test_a_setting_that_was_changed_is_left_alone(db: Database, demo: Callable[..., Plugin]) -> None:
    db.write("BARO", 28.5, "netfix/display")
    db.write("ENC1", 5, "netfix/display")
    demo()
    assert db.read("BARO").value == 28.5
    assert db.read("ENC1").value == 5


def test_it_reads_the_running_world(db: Database, demo: Callable[..., Plugin]) -> None:
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
    assert "has stopped" in plugin.health()


def test_its_own_world_ends_with_it(demo: Callable[..., Plugin]) -> None:
    plugin = demo()
    assert [t for t in threading.enumerate() if t.name == "world"]
    plugin.shutdown()
    assert not [t for t in threading.enumerate() if t.name == "world"]


def test_a_pattern_without_items_is_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "default.yaml"
    file.write_text("connections: {demo: {module: fixgw.plugins.demo, except: [LAT, NOSUCH*]}}")
    with pytest.raises(ConfigurationError, match=r"default.yaml:1:\d+: except\[1\]: no item matches 'NOSUCH\*'"):
        configuration.load(file)


# -- its configuration -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flown() -> Configuration:
    return configuration.load(configuration.packaged() / "demo.yaml", {"SIM": "/nowhere", "GPS": "sim/gps"})


@pytest.fixture(scope="module")
def left_to_others(flown: Configuration) -> set[str]:
    """The keys that the demo plugin does not write."""
    (patterns,) = (c.options["except"] for c in flown.connections if c.name == "demo")
    return {key for key in flown.make_database() if any(fnmatchcase(key, pattern) for pattern in patterns)}


def routes(entries: Iterable[mapping.Entry], revision: int = 2024) -> dict[tuple[int, int], set[str]]:
    """(identifier, index) -> keys."""
    return {(e.parameter(load(revision)).identifier, e.index): set(e.keys) - {""} for e in entries}


@pytest.fixture(scope="module")
def mapped(flown: Configuration) -> mapping.Map:
    (options,) = (c.options for c in flown.connections if c.name == "can")
    found, problems = mapping.read(options["mapfile"], load(2024), flown.make_database())
    assert problems == []
    return found


def test_all_parameters_of_the_nodes_are_read_except_those_of_other_instruments(
    flown: Configuration, mapped: mapping.Map, left_to_others: set[str]
) -> None:
    sent = {(output.id, output.index) for device in DEVICES.values() for output in device().outputs}
    known = msgspec.convert(mapping.build_default(load(2024), flown.make_database()), mapping.Map)
    possible = {
        where: keys
        for where, keys in routes([*known.inputs, *known.encoders, *known.switches]).items()
        if where in sent
        and not keys <= {*FROM_THE_GPS, "TIMEZH", "TIMEZM", "TIMEZS", *FROM_THE_ENGINE_MONITOR, *FROM_THE_PANEL}
    }
    # BTN36 acknowledges alerts.
    possible = {where: keys - {*FROM_THE_PANEL, "BTN36"} for where, keys in possible.items()}
    taken = routes([*mapped.inputs, *mapped.encoders, *mapped.switches])
    assert taken == possible
    assert set(FROM_THE_BUS) <= set().union(*taken.values()) <= left_to_others


def test_keys_that_the_demo_plugin_leaves_out_come_from_an_instrument(
    mapped: mapping.Map, left_to_others: set[str]
) -> None:
    taken = set().union(*routes([*mapped.inputs, *mapped.encoders, *mapped.switches]).values())
    gps = {key for key in left_to_others if key.startswith(("GPS_", "TIMEZ"))} | set(FROM_THE_GPS)
    assert left_to_others - taken == {*gps, *FROM_THE_ENGINE_MONITOR, *FROM_THE_PANEL, *COMPUTED}


# -- alerts ------------------------------------------------------------------------------------------------------------

OIL_PRESSURE = """
events:
  - {at: 0.5, aircraft: oil-leak, for: 5.5}
  - {at: 5, instrument: panel, press: 3}
"""


def test_oil_pressure_from_the_sensor_to_the_lamp_and_back(tmp_path: Path) -> None:
    """A scenario makes it fall: the alert, the lamp on its pin, the button that acknowledges, and the return."""
    (tmp_path / "scenario.yaml").write_text(OIL_PRESSURE)
    loaded = configuration.load(configuration.packaged() / "demo.yaml", {"SIM": str(tmp_path), "GPS": "sim/gps"})
    wanted = [c for c in loaded.connections if c.name in ("eis", "panel", "alerts")]
    gateway = Gateway(dataclasses.replace(loaded, connections=tuple(c for c in wanted if c.name != "alerts")))
    panel = Panel()
    flying = everything.bench(tmp_path, None, scenarios.load(tmp_path / "scenario.yaml"), panel=panel)
    seen: list[str] = []
    lit: list[bool] = []

    def happens(state: str) -> bool:
        plugin = gateway.runners["alerts"].plugin
        assert plugin is not None
        lit.append(panel.lamps()["WARNING"])
        is_so: bool = plugin.get_status()["oil-pressure"]["state"] == state
        if is_so:
            seen.append(state)
        return is_so

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 15
        gateway.supervise(lambda: condition() or time.monotonic() > deadline, every=0.05)
        assert condition()

    try:
        gateway.start()
        take_off(gateway, flying, ("OILP1", "TACH1"))
        gateway.adopt(dataclasses.replace(loaded, connections=tuple(wanted)))
        wait(lambda: happens("pending"))
        assert not any(lit)
        wait(lambda: happens("active"))
        wait(lambda: panel.lamps()["WARNING"])
        db = gateway.database
        assert (db.read("ALERTMSG").value, db.read("ALERTLEVEL").value) == ("OIL PRESSURE LOW", 3)
        assert db.read("OILP1").annunciate
        assert db.read("ALERTMSG").source == "sim/alerts"
        wait(lambda: happens("acknowledged"))
        assert db.read("ALERTMSG").value == "OIL PRESSURE LOW"
        wait(lambda: not db.read("MASTERW").value and not panel.lamps()["WARNING"])
        lit.clear()
        wait(lambda: happens("normal"))
        assert not any(lit), "the lamp stays dark"
        assert not db.read("OILP1").annunciate
        assert db.read("ALERTMSG").value != "OIL PRESSURE LOW"
    finally:
        gateway.stop()
        flying.stop()


# -- the command -------------------------------------------------------------------------------------------------------


class Client:
    """A minimal display."""

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

    def write(self, key: str, value: object) -> None:
        assert self.ask(f"@w{key};{value}").startswith(f"@w{key};")

    def source(self, key: str) -> str:
        source: str = json.loads(self.ask(f"@xexplain {key}").partition(";")[2])["source"]
        return source

    def status(self) -> dict[str, Any]:
        tree: dict[str, Any] = json.loads(self.ask("@xstatus").partition(";")[2])
        return tree

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


class Demo:
    """`fixgw demo` in a child process, on its own port."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fixgw", "demo", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(directory), "XDG_STATE_HOME": str(directory)},
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
        """The exit code, the duration in seconds, and the output on stderr."""
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


def test_the_port_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = configuration.packaged() / "demo-replay.yaml"
    loaded = configuration.load(file, {"FILE": str(tmp_path / "flight.mcap")})

    def port(*words: str) -> object:
        top = argparse.ArgumentParser()
        command.add_parser(top.add_subparsers())
        serving = command._serving_on(loaded, top.parse_args(["demo", *words]))
        return next((c.options["port"] for c in serving.connections if c.name == "web"), None)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(command, "WEB_PORT", taken.getsockname()[1])
        assert port() == 0  # any free one
        assert port("--web-port", "8123") == 8123
    assert port() == command.WEB_PORT
    assert port("--port", "0") == 0  # a demo that disturbs nobody
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert port() is None  # without the library there is no page


def test_the_whole_stack_works_until_ctrl_c(fly: Callable[..., Demo], tmp_path: Path) -> None:
    demo = fly()
    assert "fixgw watch" in demo.shown or "watch --port" in demo.shown
    client = demo.connect()
    load = busy()
    for key in ("IAS", "ALT", "VS", *FROM_THE_GPS):  # good for a display that connects at the same instant
        at_once = client.flags(key)[1:4] == "000"
        assert at_once or (load > 1.5 and wait_for(lambda k=key: client.flags(k)[1:4] == "000")), key  # type: ignore[misc]
    everything = (
        *(*FROM_THE_AIRCRAFT, *FROM_THE_BUS, *FROM_THE_GPS),
        *(*FROM_THE_ENGINE_MONITOR, *FROM_THE_PANEL, *COMPUTED_AT_ONCE, *SETTINGS),
    )
    left = set(everything)

    def all_seen_good() -> bool:
        left.difference_update([key for key in left if client.flags(key)[1:4] == "000"])
        return not left

    assert wait_for(all_seen_good), left
    assert float(client.value("LAT")) == pytest.approx(43.98, abs=0.05)
    assert float(client.value("IAS")) > 60
    status = client.status()
    assert status["health"] == "ok", status["summary"]
    assert list(status["connections"]) == ["can", "gps", "eis", "panel", "demo", "compute", "alerts", "netfix", "web"]
    assert status["database"]["conflicts"] == {}
    client.close()
    page = re.search(r"http://127\.0\.0\.1:\d+/", demo.shown)
    assert page
    with urllib.request.urlopen(f"{page[0]}api/v1/items/IAS", timeout=5) as answer:
        assert json.load(answer)["source"] == "sim/can/50"

    code, seconds, errors = demo.end(signal.SIGINT)
    assert code == 0
    assert seconds < 2.0 * load
    assert errors == ""
    assert list(tmp_path.iterdir()) == []


def test_everything_with_a_plugin_of_ones_own(fly: Callable[..., Demo], tmp_path: Path) -> None:
    (tmp_path / "fast.py").write_text(
        """
from fixgw.plugin import Follower

class Plugin(Follower):
    FOLLOWS = ("IAS",)

    def changed(self, readings):
        self.db.write("FAST", readings["IAS"].value > 40, "sim/fast")
"""
    )
    (tmp_path / "mine.yaml").write_text(
        "connections:\n  fast: {load: yes, module: fast}\n"
        "database overlay:\n  entries:\n    - {key: FAST, type: bool, tol: 2000}\n"
    )
    demo = fly("--everything", "--with", str(tmp_path / "mine.yaml"))
    client = demo.connect()
    assert wait_for(lambda: client.ask("@rFAST") == "@rFAST;True;00000")
    client.close()
    code, _, errors = demo.end(signal.SIGINT)
    assert code == 0, errors


def test_every_key_comes_only_from_its_own_source(fly: Callable[..., Demo], mapped: mapping.Map) -> None:
    client = fly().connect()
    keys = {key for entry in (*mapped.inputs, *mapped.switches) for key in entry.keys}
    nodes = {f"sim/can/{device.DEVICE}" for device in DEVICES.values()}
    assert wait_for(lambda: {client.source(key) for key in keys} == nodes)
    assert {client.source(key) for key in FROM_THE_GPS} == {"sim/gps"}
    assert {client.source(key) for key in FROM_THE_AIRCRAFT} == {"sim/aircraft"}

    def ages() -> list[float]:
        return [node["last seen"] for node in bus()["nodes"].values()]

    def bus() -> dict[str, Any]:
        status: dict[str, Any] = client.status()["connections"]["can"]["status"]
        return status

    # Every node has identified itself, and keeps sending.
    assert wait_for(lambda: len([n for n in bus()["nodes"].values() if n["description"] and "Node Status" in n]) == 7)
    assert {int(number) for number in bus()["nodes"]} == {device.DEVICE for device in DEVICES.values()}
    heard = bus()["frames"]["node-specific"]
    assert wait_for(lambda: bus()["frames"]["node-specific"] > heard + 2 * len(DEVICES))
    assert max(ages()) < 5.0
    assert bus()["conflicts"] == {}
    assert client.status()["database"]["conflicts"] == {}
    client.close()


def test_a_setting_of_a_display_reaches_its_node_and_stays(fly: Callable[..., Demo]) -> None:
    client = fly().connect()
    altitude = float(client.value("ALT"))
    client.write("BARO", 28.5)
    settings = {"COURSE": 123.0, "DIM": 40, "BTN7": True, "ENC1": 5, "ENC3": 7, "TRIMP": 0.25}
    for key, value in settings.items():
        client.write(key, value)
    # About 1000 ft per inch of mercury; the aircraft climbs and descends far less in that time.
    assert wait_for(lambda: float(client.value("ALT")) < altitude - 900)
    # Owners repeat their settings every second, so these are now theirs.
    owners = {"BARO": "sim/can/50", "COURSE": "sim/can/193", "DIM": "sim/can/208"}
    assert wait_for(lambda: {key: client.source(key) for key in owners} == owners)
    heard = client.status()["connections"]["can"]["status"]["frames"]["value"]
    assert wait_for(lambda: client.status()["connections"]["can"]["status"]["frames"]["value"] > heard + 1000)
    assert float(client.value("BARO")) == pytest.approx(28.5, abs=0.001)
    assert {key: client.value(key) for key in settings} == {key: str(value) for key, value in settings.items()}
    client.close()


def test_many_turns_of_the_altimeter_knob_end_at_the_last_one(fly: Callable[..., Demo]) -> None:
    client = fly().connect()
    for hundredths in range(2900, 3051):
        client.write("BARO", hundredths / 100)
    assert wait_for(lambda: client.source("BARO") == "sim/can/50" and float(client.value("BARO")) == 30.5)
    client.close()


def test_displays_wait_for_instruments_but_not_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing provides these values: the wait ends, and reports the missing ones."""
    monkeypatch.setattr("fixgw.cli.demo.TAKE_OFF_TIMEOUT_S", 0.2)
    nobody = configuration.load(configuration.packaged() / "default.yaml")
    gateway = Gateway(dataclasses.replace(nobody, connections=()))
    flying = World()
    try:
        gateway.start()
        assert take_off(gateway, flying, ("IAS", "EGT1[12]", "BARO")) == ["IAS", "EGT11", "EGT12"]
        assert flying is world.current()
    finally:
        gateway.stop()
        flying.stop()


def test_sigterm_ends_it_and_it_can_be_started_again_at_once(fly: Callable[..., Demo]) -> None:
    for _ in range(2):
        code, seconds, errors = fly().end(signal.SIGTERM)
        assert (code, errors) == (0, "")
        assert seconds < 2.0 * busy()


def test_a_recorded_log_replaces_the_gps(fly: Callable[..., Demo]) -> None:
    demo = fly("--replay", str(CAPTURE))
    client = demo.connect()
    assert wait_for(lambda: client.flags("LAT")[1:4] == "000")
    assert float(client.value("LAT")) == pytest.approx(44.069, abs=0.01)
    assert client.flags("IAS")[1:4] == "000"
    client.close()
    assert demo.end(signal.SIGINT)[0] == 0


def test_a_recorded_flight_replaces_the_aircraft(fly: Callable[..., Demo]) -> None:
    demo = fly("--replay", str(RECORDING))
    assert f"{RECORDING} is played" in demo.shown
    client = demo.connect()
    assert wait_for(lambda: client.value("TACH1") not in ("", "0"))
    assert client.source("IAS") == "replay/replay"
    client.close()
    assert demo.end(signal.SIGINT)[0] == 0


def test_it_ends_after_the_given_time(fly: Callable[..., Demo]) -> None:
    demo = fly("--duration", "0.2")
    _, errors = demo.process.communicate(timeout=15)
    assert (demo.process.returncode, errors) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_the_start_ends_it_quietly(tmp_path: Path, number: int) -> None:
    for delay in (0.05, 0.15, 0.3, 0.4, 0.5):
        process = subprocess.Popen(
            [sys.executable, "-m", "fixgw", "demo", "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)},
        )
        time.sleep(delay)
        with process:
            try:
                process.send_signal(number)
                _, errors = process.communicate(timeout=30)
            finally:
                process.kill()
        if "Traceback" in errors:  # the interpreter itself, before our first line runs
            assert "fixgw/cli/demo.py" not in errors
        assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_reported_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "fixgw", "demo", "--port", str(port)], capture_output=True, text=True, timeout=30
        )
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(rf"fixgw: port {port} is in use, .*--port\n", done.stderr)


def test_a_missing_log_is_reported_in_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fixgw", "demo", "--port", "0", "--replay", str(tmp_path / "no.log")],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert done.stderr == f"fixgw: cannot read {tmp_path / 'no.log'}: No such file or directory\n"


def test_a_log_without_any_sentence_is_not_replayed(tmp_path: Path) -> None:
    (tmp_path / "notes.log").write_text("# nothing but words\n")
    command = [sys.executable, "-m", "fixgw", "demo", "--port", "0", "--replay", str(tmp_path / "notes.log")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert (
        done.stderr == f"fixgw: {tmp_path / 'notes.log'} contains neither NMEA 0183 sentences nor a recorded flight\n"
    )


# -- scenarios ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "source"),
    [
        ("instrument: gps, fault: unplug", "sim/gps"),
        ("instrument: eis, fault: unplug", "sim/eis"),
        ("instrument: panel, fault: unplug", "sim/panel"),
        ("adapter: unplugged", "sim/can"),
        ("node: air, fault: unplug", "sim/can/50"),
    ],
)
def test_an_unplugged_instrument_fails_only_its_own_keys_until_it_is_back(
    event: str, source: str, left_to_others: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "unplugged.yaml"
    file.write_text(f"events: [{{at: 1000, {event}, for: 1000}}]\n")
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    loaded = configuration.load(configuration.packaged() / "demo.yaml", {"SIM": str(tmp_path), "GPS": "sim/gps"})
    gateway = Gateway(
        dataclasses.replace(loaded, connections=tuple(c for c in loaded.connections if c.name != "netfix"))
    )
    told: list[str] = []
    flying = everything.bench(tmp_path, None, scenarios.load(file), lambda at, words: told.append(words))
    (play,) = (i.play for i in flying._instruments if isinstance(i, CanBus))
    items = gateway.database.items()

    def pass_1000_seconds() -> None:
        assert play._began is not None
        play._began -= 1000.0

    try:
        gateway.start()
        assert take_off(gateway, flying, tuple(left_to_others)) == []
        own = {i.key for i in items if (i.reading.source + "/").startswith(source + "/")}
        assert own
        others = (
            {i.key for i in items if i.reading.source.startswith("sim/")} - own - gateway.database.derivations.keys()
        )

        def not_good(keys: set[str]) -> set[str]:
            return {key for key in keys if not gateway.database.read(key).good}

        failed: set[str] = set()

        def wait(done: Callable[[], bool]) -> None:
            """A value that is late on a busy machine is old for a moment; only unplugging makes it fail."""
            deadline = time.monotonic() + 40.0

            def enough() -> bool:
                failed.update(key for key in others if gateway.database.read(key).fail)
                return done() or time.monotonic() > deadline

            gateway.supervise(enough, every=0.02)
            assert done(), f"{not_good(own) ^ own} {not_good(others)}"

        if source.startswith("sim/can"):  # settings stay when their node is gone
            own = {key for key in own if not gateway.database.item(key).definition.setting}
        if "node" in event:  # only waiting shows that it is gone
            own = {key for key in own if 0.0 < gateway.database.item(key).tolerance <= 2.0}
            assert own
        assert told == []
        pass_1000_seconds()
        wait(lambda: not_good(own) == own and not not_good(others))
        assert len(told) == 1
        pass_1000_seconds()
        wait(lambda: len(told) == 2 and not not_good(own))
        assert failed == set()
    finally:
        gateway.stop()
        flying.stop()


# -- with everything ---------------------------------------------------------------------------------------------------

#: The devices to unplug, and the sources of their values; None: it writes nothing to the database. Without
#: the tablet, whose absence is no trouble.
PLUGS = {
    **dict.fromkeys(("raw", "autopilot", "can1", "dump1090")),
    **{
        name: f"sim/{name}"
        for name in everything.NAMES
        if name not in ("raw", "autopilot", "can1", "dump1090", "tablet")
    },
    **{name: f"sim/{name}" for name in ("gps", "eis", "panel")},
}


@pytest.mark.timeout(180)
def test_everything_works_and_an_unplugged_instrument_fails_only_its_own_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    file = configuration.packaged() / "demo-everything.yaml"
    loaded = configuration.load(file, {"SIM": str(tmp_path), "GPS": "sim/gps", "HOST": own_host()})
    instruments = tuple(c for c in loaded.connections if c.name != "netfix")
    gateway = Gateway(dataclasses.replace(loaded, connections=instruments))
    flying = everything.bench(tmp_path, more=True)
    items = [item for item in gateway.database.items() if not item.definition.setting]

    def not_good() -> set[tuple[str, str]]:
        """(key, source) of every value that is not good, except those that may be late on a busy machine."""
        return {
            (item.key, reading.source)
            for item in items
            for reading in item.readings()
            if reading.fail or reading.bad or (reading.old and reading.source and item.tolerance >= 1.0)
        }

    own: set[tuple[str, str]] = set()

    def supervise(done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 30.0
        gateway.supervise(lambda: done() or time.monotonic() > deadline, every=0.02)
        assert done(), f"{what}: {gateway.troubles()} {sorted(not_good() ^ own)[:10]}"

    try:
        gateway.start()
        take_off(gateway, flying, VITAL)
        supervise(lambda: not gateway.troubles() and not not_good(), "not everything is well")
        drivers = {c.module.partition("fixgw.drivers.")[2] for c in loaded.connections} - {""}
        assert drivers == {p.name for p in DRIVERS.iterdir() if (p / "__init__.py").exists()} - {"links"}
        assert gateway.database.statistics()["conflicts"] == {}
        tablet = flying.named["tablet"].device
        supervise(lambda: tablet.position(flying.now) and len(tablet.traffic(flying.now)) == 6, "no tablet")
        assert tablet.complaints == []
        for name, source in PLUGS.items():
            own = {(i.key, r.source) for i in items for r in i.readings() if r.source == source}
            assert own or source is None, name
            fault = Unplug()
            flying.named[name].begin(fault)
            supervise(lambda gone=own: bool(gateway.troubles()) and not_good() == gone, f"{name} is unplugged")  # type: ignore[misc]
            flying.named[name].end(fault)
            supervise(lambda: not gateway.troubles() and not not_good(), f"{name} is back")
    finally:
        gateway.stop()
        flying.stop()
